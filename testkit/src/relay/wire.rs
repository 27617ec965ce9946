//! One connection: HTTP/1.1 read just far enough to know where a body ends.

use super::{Exchange, Fault, Shared};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Instant;

/// A message's head: the first line and its headers, and the bytes to pass on.
struct Head {
    first: String,
    headers: Vec<(String, String)>,
    raw: Vec<u8>,
}

/// How a body is framed.
enum Framing {
    Length(u64),
    Chunked,
    ToClose,
}

impl Head {
    /// `Ok(None)`: the connection ended between messages.
    fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut raw = Vec::new();
        let mut lines = Vec::new();
        loop {
            let start = raw.len();
            if from.read_until(b'\n', &mut raw)? == 0 {
                return if raw.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
            let line = raw.get(start..).unwrap_or_default();
            let line = String::from_utf8_lossy(line).trim_end().to_owned();
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let mut lines = lines.into_iter();
        let first = lines.next().unwrap_or_default();
        let header = |line: String| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Ok(Some(Self {
            first,
            headers: lines.filter_map(header).collect(),
            raw,
        }))
    }

    fn value(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, v)| v.as_str())
    }

    fn framing(&self) -> Option<Framing> {
        if self
            .value("transfer-encoding")
            .is_some_and(|v| v.contains("chunked"))
        {
            return Some(Framing::Chunked);
        }
        self.value("content-length")
            .and_then(|v| v.parse().ok())
            .map(Framing::Length)
    }
}

/// How a body ended.
enum Passed {
    Whole,
    Stopped,
}

/// Relays the exchanges of one client's connection, each over the same connection to the server.
pub(super) fn serve(shared: &Arc<Shared>, connection: u64, client: TcpStream) {
    let _ = relay(shared, connection, &client);
    let _ = client.shutdown(Shutdown::Both);
}

fn relay(shared: &Arc<Shared>, connection: u64, client: &TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut from_client = BufReader::with_capacity(64 << 10, client.try_clone()?);
    let mut server: Option<(TcpStream, BufReader<TcpStream>)> = None;
    while let Some(head) = Head::read(&mut from_client)? {
        let mut words = head.first.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let path = words.next().unwrap_or_default().to_owned();
        let fault = shared.fault_for(&method, &path);
        let number = {
            let mut log = shared.log.lock().expect("log");
            let number = log.last().map_or(0, |e| e.number + 1);
            log.push(Exchange {
                number,
                connection,
                method: method.clone(),
                path: path.clone(),
                headers: head.headers.clone(),
                sent: 0,
                status: 0,
                received: 0,
                started: Instant::now(),
                ended: None,
                is_stalled: false,
                fault: fault.clone(),
            });
            number
        };
        shared.changed.notify_all();
        let go_on = exchange(
            shared,
            number,
            &head,
            &method,
            fault,
            (client, &mut from_client),
            &mut server,
        );
        shared.update(number, |e| e.ended = Some(Instant::now()));
        if !go_on? {
            break;
        }
    }
    Ok(())
}

/// Whether the connection goes on.
fn exchange(
    shared: &Arc<Shared>,
    number: u64,
    head: &Head,
    method: &str,
    fault: Option<Fault>,
    (mut client, from_client): (&TcpStream, &mut BufReader<TcpStream>),
    server: &mut Option<(TcpStream, BufReader<TcpStream>)>,
) -> io::Result<bool> {
    match &fault {
        Some(Fault::Close) => return Ok(false),
        Some(Fault::Delay(time)) => std::thread::sleep(*time),
        Some(Fault::Answer(status, headers)) => {
            let body = head.framing().unwrap_or(Framing::Length(0));
            pass(&body, from_client, &mut io::sink(), u64::MAX, None, |n| {
                shared.update(number, |e| e.sent += n);
            })?;
            let mut text = format!("HTTP/1.1 {status} Injected\r\nContent-Length: 0\r\n");
            for (name, value) in headers {
                text += &format!("{name}: {value}\r\n");
            }
            shared.update(number, |e| e.status = *status);
            client.write_all((text + "\r\n").as_bytes())?;
            return Ok(true);
        }
        _ => {}
    }
    if server.is_none() {
        let stream = TcpStream::connect(shared.upstream)?;
        stream.set_nodelay(true)?;
        let reader = BufReader::with_capacity(64 << 10, stream.try_clone()?);
        *server = Some((stream, reader));
    }
    let Some((to_server, from_server)) = server.as_mut() else {
        return Ok(false);
    };
    to_server.write_all(&head.raw)?;
    let request = head.framing().unwrap_or(Framing::Length(0));
    let count = |n| shared.update(number, |e| e.sent += n);
    let stop_at = match fault {
        Some(Fault::StallRequest(at) | Fault::CutRequest(at)) => at,
        _ => u64::MAX,
    };
    let flip_at = match fault {
        Some(Fault::FlipRequest(at)) => Some(at),
        _ => None,
    };
    // A server that answers before it has read the body closes its end; its answer still counts.
    let mut left = Framing::Length(0);
    let first = pass(&request, from_client, to_server, stop_at, flip_at, count);
    if let Ok(Passed::Stopped) = first {
        if matches!(fault, Some(Fault::CutRequest(_))) {
            return Ok(false);
        }
        if let Framing::Length(n) = request {
            left = Framing::Length(n.saturating_sub(stop_at));
        }
        shared.wait_for_release(number);
        let _ = pass(&left, from_client, to_server, u64::MAX, None, count);
    }
    let (answer, status) = loop {
        let Some(answer) = Head::read(from_server)? else {
            return Ok(false);
        };
        let status = answer.first.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status: u16 = status.unwrap_or(0);
        if status != 100 {
            break (answer, status);
        }
        client.write_all(&answer.raw)?;
    };
    match fault {
        Some(Fault::LoseAnswer) => return Ok(false),
        Some(Fault::StallAnswer) => shared.wait_for_release(number),
        _ => {}
    }
    // Before it goes: who has seen an answer finds it in the log.
    shared.update(number, |e| e.status = status);
    client.write_all(&answer.raw)?;
    let has_body = method != "HEAD" && status != 204 && status != 304;
    let body = if has_body {
        answer.framing().unwrap_or(Framing::ToClose)
    } else {
        Framing::Length(0)
    };
    let (stop_at, flip_at) = match fault {
        Some(Fault::CutAnswer(at)) => (at, None),
        Some(Fault::FlipAnswer(at)) => (u64::MAX, Some(at)),
        _ => (u64::MAX, None),
    };
    let passed = pass(&body, from_server, &mut client, stop_at, flip_at, |n| {
        shared.update(number, |e| e.received += n);
    })?;
    let closes = |h: &Head| {
        h.value("connection")
            .is_some_and(|v| v.eq_ignore_ascii_case("close"))
    };
    let ends =
        closes(head) || closes(&answer) || matches!(body, Framing::ToClose) || first.is_err();
    Ok(matches!(passed, Passed::Whole) && !ends)
}

/// Passes a body on, at most `stop_at` bytes, and counts them.
fn pass(
    framing: &Framing,
    from: &mut impl BufRead,
    to: &mut impl Write,
    stop_at: u64,
    flip_at: Option<u64>,
    mut count: impl FnMut(u64),
) -> io::Result<Passed> {
    let mut done = 0;
    let mut piece = |from: &mut dyn Read, to: &mut dyn Write, len: u64| -> io::Result<u64> {
        let mut buffer = vec![0; usize::try_from(len.min(64 << 10)).unwrap_or(0)];
        let n = from.read(&mut buffer)?;
        buffer.truncate(n);
        let flip = flip_at.and_then(|at| usize::try_from(at.checked_sub(done)?).ok());
        if let Some(byte) = flip.and_then(|at| buffer.get_mut(at)) {
            *byte ^= 0x10;
        }
        let len = n as u64;
        done += len;
        // Before they go: who has seen an answer finds it in the log.
        count(len);
        to.write_all(&buffer)?;
        Ok(len)
    };
    match framing {
        Framing::Length(total) => {
            let wanted = (*total).min(stop_at);
            let mut left = wanted;
            while left > 0 {
                match piece(from, to, left)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    n => left -= n,
                }
            }
            to.flush()?;
            Ok(if wanted < *total || *total == 0 && stop_at == 0 {
                Passed::Stopped
            } else {
                Passed::Whole
            })
        }
        Framing::ToClose => {
            let mut left = stop_at;
            while left > 0 {
                match piece(from, to, left)? {
                    0 => return Ok(Passed::Whole),
                    n => left -= n,
                }
            }
            Ok(Passed::Stopped)
        }
        Framing::Chunked => loop {
            let mut line = Vec::new();
            from.read_until(b'\n', &mut line)?;
            to.write_all(&line)?;
            let size = String::from_utf8_lossy(&line);
            let size = size.trim().split(';').next().unwrap_or_default();
            let size = u64::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
            let mut left = size;
            while left > 0 {
                match piece(from, to, left)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    n => left -= n,
                }
            }
            let mut end = Vec::new();
            from.read_until(b'\n', &mut end)?;
            to.write_all(&end)?;
            if size == 0 {
                return Ok(Passed::Whole);
            }
        },
    }
}
