//! One connection's task: socket, session machine, backends.
//!
//! Shape      read → machine → submit → replies (inline) → one vectored write; then wait for the socket, the bell or a deadline.
//! Why polls  the three are waited for in one place, without a channel and without a second task.

use super::reply::{Outbox, ReplySink};
use super::server::{Backends, Server};
use crate::session::{Action, Connection, Ended, Setup};
use crate::target::{Mailbox, Target};
use bytes::{BufMut, Bytes};
use core::future::Future;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, ready};
use engine::Reply;
use engine::ids::Tag;
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
    machine: Connection<Bytes>,
    number: u32,
    outbox: Arc<Outbox>,
    session: Option<(Arc<Target>, Backends)>,
    replies: Vec<(Tag, Reply<Bytes>)>,
    buffer: Box<[u8]>,
    deadline: Pin<Box<Sleep>>,
    /// The socket is of no more use.
    is_gone: bool,
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
            machine: Connection::new(setup),
            deadline: Box::pin(tokio::time::sleep(server.limits.login)),
            server,
            stream,
            number,
            outbox,
            session: None,
            replies: Vec::new(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            is_gone: false,
        })
    }

    async fn run(&mut self) -> Ended {
        loop {
            self.settle();
            let ended = self.machine.ended();
            if let Some(why) = ended
                && self.machine.is_done()
                && (self.is_gone || self.machine.transmit().is_empty())
            {
                self.count_sessions();
                return why;
            }
            match core::future::poll_fn(|cx| self.poll_event(cx)).await {
                Event::Read(count) => {
                    let bytes = self.buffer.get(..count).unwrap_or(&[]);
                    self.machine.handle_bytes(bytes);
                }
                Event::Direct(count) => self.machine.handle_direct(count),
                Event::Rung => {
                    self.outbox.hear();
                    self.outbox.drain(&mut self.replies);
                    self.machine.handle_mail();
                }
                Event::Late => self.gone(None),
                Event::Gone(error) => self.gone(error),
            }
            if ended.is_none() && self.machine.ended().is_some() {
                let until = Instant::now() + self.server.limits.linger;
                self.deadline.as_mut().reset(until);
            }
        }
    }

    fn gone(&mut self, error: Option<io::Error>) {
        if let Some(error) = error {
            tracing::debug!(%error, "socket failed");
        }
        self.is_gone = true;
        self.machine.handle_disconnect();
    }

    /// Runs the machine's actions and gives it the replies, until neither is left.
    fn settle(&mut self) {
        loop {
            while let Some(action) = self.machine.poll_action() {
                self.run_action(action);
            }
            if self.replies.is_empty() {
                return;
            }
            for (tag, reply) in self.replies.drain(..) {
                self.machine.handle_reply(tag, reply);
            }
        }
    }

    fn run_action(&mut self, action: Action<Bytes>) {
        if let Action::Entered(target) = action {
            let name = target.spec().name.clone();
            tracing::info!(target = %name, "session began");
            // A target that is removed in this moment has told the session to end.
            let backends = self.server.backends_of(&name).unwrap_or_default();
            self.session = Some((target, backends));
            self.count_sessions();
            return;
        }
        let backends = self.session.as_ref().map(|(_, backends)| backends);
        let mut sink = ReplySink::new(self.number, &mut self.replies, &self.server.router);
        let of = |unit: u16| backends.and_then(|b| b.get(usize::from(unit)));
        match action {
            Action::Submit { unit, tag, command } => match of(unit) {
                Some(backend) => backend.submit(tag, command, &mut sink),
                None => sink.push(tag, Reply::Busy),
            },
            Action::Abort { unit, tag } => {
                if let Some(backend) = of(unit) {
                    backend.abort(tag, &mut sink);
                }
            }
            Action::Entered(_) => {}
        }
    }

    /// Tells the backends how many sessions there are.
    fn count_sessions(&self) {
        if let Some((target, backends)) = &self.session {
            let count = target.session_count();
            backends.iter().for_each(|b| b.sessions(count));
        }
    }

    /// Sends what can be sent, then waits.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if !self.is_gone
            && let Poll::Ready(Err(error)) = self.poll_send(cx)
        {
            return Poll::Ready(Event::Gone(Some(error)));
        }
        if self.outbox.poll_rung(cx).is_ready() {
            return Poll::Ready(Event::Rung);
        }
        let has_ended = self.machine.ended().is_some();
        if has_ended && self.machine.is_done() && self.machine.transmit().is_empty() {
            // Nothing to wait for; the caller looks again.
            return Poll::Ready(Event::Rung);
        }
        if self.is_gone {
            return Poll::Pending;
        }
        if has_ended && self.machine.transmit().is_empty() {
            // All is said. The volume may still work on what was taken back; the peer need not wait for that.
            self.is_gone = true;
            let _ = socket2::SockRef::from(&self.stream).shutdown(std::net::Shutdown::Both);
            return Poll::Pending;
        }
        // A peer that does not take its answers is not listened to.
        let listens =
            !has_ended && self.machine.transmit().len() < self.server.limits.inflight_bytes;
        if listens && let Poll::Ready(event) = self.poll_read(cx) {
            return Poll::Ready(event);
        }
        let has_deadline = has_ended || !self.machine.is_full_feature();
        if has_deadline && self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Event::Late);
        }
        Poll::Pending
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some((buffer, left)) = self.machine.direct()
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
        while !self.machine.transmit().is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = self.machine.transmit().slices(&mut slices);
            let slices = slices.get(..filled).unwrap_or(&[]);
            let stream = Pin::new(&mut self.stream);
            let count = ready!(stream.poll_write_vectored(cx, slices))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.machine.handle_sent(count as u64);
            // Commands that waited for room may have been let in.
            self.settle();
        }
        Poll::Ready(Ok(()))
    }
}
