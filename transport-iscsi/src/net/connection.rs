//! One connection's task: socket, link, backends.
//!
//! Shape      read → link → submit → replies (inline) → one vectored write; then wait for the socket, the bell or a deadline.
//! Why polls  the three are waited for in one place, without a channel and without a second task.

use super::reply::{Outbox, ReplySink};
use super::server::{Backends, Server};
use crate::link::{Deadline, Link, Next, Origin, Replies, Units};
use crate::session::{Ended, Setup};
use crate::target::{Mailbox, Target};
use bytes::{BufMut, Bytes};
use core::future::Future;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, ready};
use engine::ids::Tag;
use engine::{Command, Reply};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// Bytes of the buffer that headers and small data are read into.
const READ_BYTES: usize = 64 << 10;
/// Data of a write at least this long is read straight into its own buffer.
const DIRECT_BYTES: usize = 16 << 10;
/// Slices of one vectored write.
const SLICES: usize = 64;

/// What the task has waited for.
enum Event {
    /// So many bytes are in the read buffer.
    Read(usize),
    /// So many bytes are in the buffer of a write.
    Direct(usize),
    /// Replies or mail.
    Rung,
    /// The deadline has passed.
    Late,
    /// The peer closed, or the socket failed.
    Gone(Option<io::Error>),
}

struct Task {
    server: Arc<Server>,
    stream: TcpStream,
    link: Link<Bytes>,
    number: u32,
    outbox: Arc<Outbox>,
    backends: Backends,
    replies: Replies<Bytes>,
    buffer: Box<[u8]>,
    deadline: Pin<Box<Sleep>>,
}

/// The backends of a session's target, for the link.
struct Session<'a> {
    server: &'a Server,
    number: u32,
    backends: &'a mut Backends,
}

impl Units<Bytes> for Session<'_> {
    fn enter(&mut self, target: &Arc<Target>) {
        let name = &target.spec().name;
        tracing::info!(target = %name, "session began");
        // A target that is removed in this moment has told the session to end.
        *self.backends = self.server.backends_of(name).unwrap_or_default();
    }

    fn submit(&mut self, from: Origin, command: Command<Bytes>, replies: &mut Replies<Bytes>) {
        let mut sink = ReplySink::new(self.number, replies, &self.server.router);
        match self.backends.get(usize::from(from.unit)) {
            Some(backend) => backend.submit(from.tag, command, &mut sink),
            None => sink.push(from.tag, Reply::Busy),
        }
    }

    fn abort(&mut self, unit: u16, tag: Tag, replies: &mut Replies<Bytes>) {
        let mut sink = ReplySink::new(self.number, replies, &self.server.router);
        if let Some(backend) = self.backends.get(usize::from(unit)) {
            backend.abort(tag, &mut sink);
        }
    }

    fn sessions(&mut self, count: usize) {
        self.backends.iter().for_each(|b| b.sessions(count));
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(server: Arc<Server>, stream: TcpStream, peer: SocketAddr) {
    if let Err(error) = tune(&stream, &server) {
        tracing::info!(%peer, %error, "connection lost at once");
        return;
    }
    let Some((number, outbox)) = server.router.register() else {
        return;
    };
    match Task::new(server.clone(), stream, number, outbox) {
        Ok(mut task) => {
            let ended = task.run().await;
            tracing::info!(%peer, %ended, "connection closed");
        }
        Err(error) => tracing::error!(%peer, %error, "no connection"),
    }
    server.router.release(number);
}

/// No delay of small answers; a peer that vanished is noticed without a word of its own (some initiators never answer pings).
fn tune(stream: &TcpStream, server: &Server) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    let silence = server.limits.silence;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(silence / 2)
        .with_interval(silence / 6);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(silence))
}

impl Task {
    fn new(
        server: Arc<Server>,
        stream: TcpStream,
        number: u32,
        outbox: Arc<Outbox>,
    ) -> io::Result<Self> {
        let mut entropy = [0; 32];
        getrandom::fill(&mut entropy).map_err(io::Error::other)?;
        let setup = Setup {
            node: server.node.clone(),
            mailbox: Arc::new(Mailbox::new(outbox.clone())),
            number,
            entropy,
            portal: stream.local_addr()?.to_string(),
            offer: server.limits.offer.clone(),
            window: server.limits.window,
            inflight_bytes: server.limits.inflight_bytes,
        };
        Ok(Self {
            link: Link::new(setup),
            deadline: Box::pin(tokio::time::sleep(server.limits.login)),
            server,
            stream,
            number,
            outbox,
            backends: Backends::default(),
            replies: Vec::new(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
        })
    }

    async fn run(&mut self) -> Ended {
        loop {
            self.settle();
            if let Next::Over(why) = self.link.next() {
                let (link, mut session) = self.parts();
                link.leave(&mut session);
                return why;
            }
            let deadline = self.link.deadline();
            match core::future::poll_fn(|cx| self.poll_event(cx)).await {
                Event::Read(count) => {
                    let bytes = self.buffer.get(..count).unwrap_or(&[]);
                    self.link.machine().handle_bytes(bytes);
                }
                Event::Direct(count) => self.link.machine().handle_direct(count),
                Event::Rung => {
                    self.outbox.hear();
                    self.outbox.drain(&mut self.replies);
                    self.link.handle_rung(&mut self.replies);
                }
                Event::Late => self.link.handle_gone(),
                Event::Gone(error) => {
                    if let Some(error) = error {
                        tracing::debug!(%error, "socket failed");
                    }
                    self.link.handle_gone();
                }
            }
            if self.link.deadline() != deadline && self.link.deadline() == Some(Deadline::Linger) {
                let until = Instant::now() + self.server.limits.linger;
                self.deadline.as_mut().reset(until);
            }
        }
    }

    fn parts(&mut self) -> (&mut Link<Bytes>, Session<'_>) {
        let session = Session {
            server: &self.server,
            number: self.number,
            backends: &mut self.backends,
        };
        (&mut self.link, session)
    }

    fn settle(&mut self) {
        let (link, mut session) = self.parts();
        link.settle(&mut session);
    }

    /// Sends what can be sent, then waits.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if matches!(self.link.next(), Next::Wait { .. })
            && let Poll::Ready(Err(error)) = self.poll_send(cx)
        {
            return Poll::Ready(Event::Gone(Some(error)));
        }
        if self.outbox.poll_rung(cx).is_ready() {
            return Poll::Ready(Event::Rung);
        }
        match self.link.next() {
            // Nothing to wait for; the caller looks again.
            Next::Over(_) => Poll::Ready(Event::Rung),
            Next::Replies => Poll::Pending,
            Next::Shut => {
                self.link.handle_shut();
                let _ = socket2::SockRef::from(&self.stream).shutdown(std::net::Shutdown::Both);
                Poll::Pending
            }
            Next::Wait { listens, deadline } => {
                if listens && let Poll::Ready(event) = self.poll_read(cx) {
                    return Poll::Ready(event);
                }
                if deadline.is_some() && self.deadline.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Late);
                }
                Poll::Pending
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some((buffer, left)) = self.link.machine().direct()
            && left >= DIRECT_BYTES
        {
            let mut limited = buffer.limit(left);
            // One poll of a future that keeps nothing between polls.
            let read = pin!(self.stream.read_buf(&mut limited)).poll(cx);
            return Poll::Ready(match ready!(read) {
                Ok(0) => Event::Gone(None),
                Ok(count) => Event::Direct(count),
                Err(error) => Event::Gone(Some(error)),
            });
        }
        let mut buffer = ReadBuf::new(&mut self.buffer);
        let stream = Pin::new(&mut self.stream);
        Poll::Ready(match ready!(stream.poll_read(cx, &mut buffer)) {
            Ok(()) if buffer.filled().is_empty() => Event::Gone(None),
            Ok(()) => Event::Read(buffer.filled().len()),
            Err(error) => Event::Gone(Some(error)),
        })
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.link.state().transmit().is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = self.link.state().transmit().slices(&mut slices);
            let slices = slices.get(..filled).unwrap_or(&[]);
            let stream = Pin::new(&mut self.stream);
            let count = ready!(stream.poll_write_vectored(cx, slices))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.link.machine().handle_sent(count as u64);
            // Commands that waited for room may have been let in.
            self.settle();
        }
        Poll::Ready(Ok(()))
    }
}
