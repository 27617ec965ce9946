//! The way from a command to the daemon that holds the state directory.
//!
//! A unix socket in that directory (mode 0700). The command sends one JSON line and, with it, the file that its verb reads
//! or writes: opened by who asks, with that person's rights. The daemon answers JSON lines: `{"progress": …}` any number of
//! times, then `{"ok": document}` or `{"failed": error}`. A command that goes away does not end the work it asked for.

use crate::cli::{Asked, Request};
use crate::host::{Host, Listener, Progress};
use crate::report::{Exit, Report, Result};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Longest request, in bytes.
const REQUEST_MAX: u64 = 64 << 10;

/// Commands served at once.
const COMMANDS_MAX: usize = 64;

/// The socket's path through a descriptor of its directory: a path in a socket's address has at most 107 bytes.
fn short_path(state: &Path) -> io::Result<(File, PathBuf)> {
    let dir = File::open(state)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/admin.sock", dir.as_raw_fd()));
    Ok((dir, path))
}

/// A daemon that answers.
#[derive(Debug)]
pub struct Daemon(UnixStream);

/// The daemon that holds this state directory, if there is one.
pub fn connect(state: &Path) -> Option<Daemon> {
    let (_dir, path) = short_path(state).ok()?;
    UnixStream::connect(path).ok().map(Daemon)
}

fn gone(error: impl std::fmt::Display) -> Report {
    Report::new(Exit::Unreachable, "DAEMON", "the daemon went away")
        .cause(error)
        .help("look into its log; the work may have been done")
}

impl Daemon {
    /// Has a request carried out.
    ///
    /// # Errors
    ///
    /// What the verb says; the daemon went away (exit 5).
    pub fn ask(
        mut self,
        request: &Request,
        file: Option<File>,
        listener: &Listener,
    ) -> Result<Value> {
        let mut line = serde_json::to_vec(request).map_err(gone)?;
        line.push(b'\n');
        self.send(&line, file.as_ref()).map_err(gone)?;
        drop(file);
        for line in BufReader::new(self.0).lines() {
            let line = line.map_err(gone)?;
            let mut value: Value = serde_json::from_str(&line).map_err(gone)?;
            if let Some(document) = value.get_mut("ok") {
                return Ok(document.take());
            }
            if let Some(failed) = value.get("failed") {
                return Err(Report::from_json(failed));
            }
            if let Some(progress) = progress_from(&value) {
                listener(progress);
            }
        }
        Err(gone("it closed the connection without an answer"))
    }

    fn send(&mut self, line: &[u8], file: Option<&File>) -> io::Result<()> {
        let Some(file) = file else {
            return self.0.write_all(line);
        };
        let fds = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::Error::other("no room for a descriptor"));
        }
        let slices = [IoSlice::new(line)];
        let sent = rustix::net::sendmsg(&self.0, &slices, &mut ancillary, SendFlags::empty())?;
        self.0.write_all(line.get(sent..).unwrap_or_default())
    }
}

fn progress_from(value: &Value) -> Option<Progress> {
    let number = |key| value.get(key).and_then(Value::as_u64);
    let what = match value.get("progress")?.as_str()? {
        "import" => "import",
        "export" => "export",
        _ => "work",
    };
    Some(Progress {
        what,
        done: number("done_bytes")?,
        total: number("total_bytes")?,
    })
}

/// Takes commands for this host until the process ends.
///
/// # Errors
///
/// The socket cannot be made.
pub fn listen(host: &Arc<Host>) -> io::Result<()> {
    let (dir, path) = short_path(host.state().path())?;
    // Left by a process that died: the state directory is ours, so nobody listens on it.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    drop(dir);
    let host = Arc::clone(host);
    let runtime = tokio::runtime::Handle::current();
    std::thread::Builder::new()
        .name("admin".into())
        .spawn(move || accept(&listener, &host, &runtime))?;
    Ok(())
}

fn accept(listener: &UnixListener, host: &Arc<Host>, runtime: &tokio::runtime::Handle) {
    let count = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            continue;
        };
        if count.load(Ordering::Acquire) >= COMMANDS_MAX {
            let report = Report::new(Exit::Refused, "BUSY", "the daemon serves too many commands")
                .help("try again in a few seconds");
            answer(&stream, &json!({"failed": report.json()}));
            continue;
        }
        count.fetch_add(1, Ordering::AcqRel);
        let (host, runtime, counter) = (Arc::clone(host), runtime.clone(), Arc::clone(&count));
        let started = std::thread::Builder::new()
            .name("command".into())
            .spawn(move || {
                serve(stream, &host, &runtime);
                counter.fetch_sub(1, Ordering::AcqRel);
            });
        if started.is_err() {
            count.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// The asker may be gone; the work is done all the same.
fn answer(mut stream: &UnixStream, value: &Value) {
    let _ = stream.write_all(format!("{value}\n").as_bytes());
}

fn serve(stream: UnixStream, host: &Arc<Host>, runtime: &tokio::runtime::Handle) {
    let asked = receive(&stream).and_then(|(line, file)| {
        let request: Request = serde_json::from_slice(&line).map_err(io::Error::other)?;
        Ok((request, file))
    });
    let (request, file) = match asked {
        Ok(asked) => asked,
        Err(error) => {
            let report = Report::new(Exit::Usage, "REQUEST", "the daemon cannot read the request")
                .cause(error)
                .help("are command and daemon of one version?");
            answer(&stream, &json!({"failed": report.json()}));
            return;
        }
    };
    let stream = Arc::new(stream);
    let to = Arc::clone(&stream);
    let listener: Listener = Arc::new(move |news| {
        let line = json!({
            "progress": news.what, "done_bytes": news.done, "total_bytes": news.total,
        });
        answer(&to, &line);
    });
    let asked = Asked {
        host: Arc::clone(host),
        file,
        listener,
    };
    // On a task of its own: a panic there is an answer here.
    let result = runtime.block_on(async { tokio::spawn(request.run(asked)).await });
    let value = match result {
        Ok(Ok(document)) => json!({"ok": document}),
        Ok(Err(report)) => json!({"failed": report.json()}),
        Err(error) => {
            let report = Report::new(Exit::Unexpected, "PANIC", "the daemon failed").cause(error);
            json!({"failed": report.json()})
        }
    };
    answer(&stream, &value);
}

/// Reads the request's line, and the file that came with it.
fn receive(mut stream: &UnixStream) -> io::Result<(Vec<u8>, Option<File>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; 4096];
    let received = rustix::net::recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    bytes.truncate(received.bytes);
    let mut file: Option<OwnedFd> = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            file = fds.next();
        }
    }
    if !bytes.ends_with(b"\n") {
        let mut rest = BufReader::new(Read::by_ref(&mut stream).take(REQUEST_MAX));
        rest.read_until(b'\n', &mut bytes)?;
    }
    Ok((bytes, file.map(File::from)))
}
