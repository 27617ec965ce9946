//! One connection, which is one session: bytes in, bytes and commands for the volume out.
//!
//! ```text
//!   bytes ───► deframe ─► login ─► full feature phase ──► Action::Submit, Abort   (to the volume)
//!   replies ──────────────────────►   tasks, window   ──► Transmit                (to the socket)
//!   mail ─────────────────────────►   other sessions' news
//! ```
//!
//! # Contract
//!
//! - After each `handle_*` the driver runs every [`Connection::poll_action`] and sends what [`Connection::transmit`] holds.
//! - Each submitted tag comes back through [`Connection::handle_reply`] exactly once, also after an abort.
//! - When the peer is gone: [`Connection::handle_disconnect`]. When [`Connection::is_done`]: drop it.
//! - No clock, no randomness: fresh bytes and time limits are the driver's.

mod data_in;
mod data_out;
mod full;
pub mod login;
mod manage;
mod tasks;
mod text;
pub mod transmit;
pub mod window;

use crate::keys::Offer;
use crate::payload::WirePayload;
use crate::serial::{CmdSn, StatSn};
use crate::target::{Admission, EndReason, Mail, Mailbox, Node, Target};
use crate::wire::deframe::{Deframer, FrameError, Step};
use crate::wire::header::{Header, Itt, Malformed, opcode};
use crate::wire::login::{LoginRequest, LoginResponse, LoginStatus, Stage};
use bytes::BytesMut;
use core::fmt;
use engine::Command;
use engine::ids::Tag;
use full::Full;
use login::{Login, LoginStep};
use std::collections::VecDeque;
use std::sync::Arc;
use transmit::Transmit;
use window::Window;

/// Data segments that are taken during the login: the default of MaxRecvDataSegmentLength.
const LOGIN_DATA_MAX: u32 = 8192;

/// What a connection is made of.
#[derive(Debug)]
pub struct Setup {
    /// All targets.
    pub node: Arc<Node>,
    /// The connection's letter box; its bell asks for [`Connection::handle_mail`].
    pub mailbox: Arc<Mailbox>,
    /// The upper 32 bits of its tags. Unique among connections.
    pub number: u32,
    /// Fresh random bytes, never used twice.
    pub entropy: [u8; 32],
    /// `ADDRESS:PORT` that the initiator reached us by; discovery answers with it.
    pub portal: String,
    /// What we want in negotiations.
    pub offer: Offer,
    /// Commands that a session may have here at once. At least 1, at most 4096.
    pub window: u32,
    /// Bytes of commands that may be under way in the volume, and of answers that wait to be sent.
    pub inflight_bytes: u64,
}

/// Work for the driver.
#[derive(Debug)]
pub enum Action<P> {
    /// Give the command to the unit's volume.
    Submit {
        /// The unit's place in its target's list.
        unit: u16,
        /// Comes back with the reply.
        tag: Tag,
        /// What the initiator calls the task that it is part of.
        task: Itt,
        /// What.
        command: Command<P>,
    },
    /// Take the command back.
    Abort {
        /// The unit's place in its target's list.
        unit: u16,
        /// Which.
        tag: Tag,
    },
    /// A session has begun; its target is known from here on.
    Entered(Arc<Target>),
}

/// Why a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Ended {
    /// The initiator logged out.
    LoggedOut,
    /// The login failed.
    LoginFailed(LoginStatus),
    /// Another session, or the program, ended it.
    Told(EndReason),
    /// The stream cannot be read on.
    Frame(FrameError),
    /// The initiator broke the protocol beyond repair.
    Protocol(&'static str),
    /// The peer is gone.
    Disconnected,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoggedOut => f.write_str("logged out"),
            Self::LoginFailed(status) => write!(f, "login failed with status {:04x}h", status.0),
            Self::Told(reason) => write!(f, "session ended: {reason:?}"),
            Self::Frame(error) => error.fmt(f),
            Self::Protocol(what) => f.write_str(what),
            Self::Disconnected => f.write_str("connection lost"),
        }
    }
}

/// What the parts of a connection share.
#[derive(Debug)]
struct Io<P> {
    setup: Setup,
    out: Transmit<P>,
    actions: VecDeque<Action<P>>,
    stat_sn: StatSn,
    ended: Option<Ended>,
}

impl<P: WirePayload> Io<P> {
    fn end(&mut self, why: Ended) {
        self.ended.get_or_insert(why);
    }

    /// The number of the next response, taken.
    const fn take_stat_sn(&mut self) -> StatSn {
        let now = self.stat_sn;
        self.stat_sn = now.next();
        now
    }
}

#[cfg(test)]
mod tests;

#[derive(Debug)]
enum Phase<P> {
    Login(Box<Login>),
    /// The last answer of the login waits for another session to end.
    Admission(Box<Login>, LoginRequest, Vec<u8>),
    Full(Box<Full<P>>),
}

/// Where the current data segment goes.
#[derive(Debug)]
enum Sink {
    /// It is not wanted.
    Discard,
    /// Text or ping data, bounded by the deframer's limit.
    Keep,
    /// The data of the task in this slot.
    Task(u32),
}

/// A connection of an initiator.
#[derive(Debug)]
pub struct Connection<P> {
    io: Io<P>,
    deframer: Deframer,
    header: Header,
    sink: Sink,
    kept: Vec<u8>,
    phase: Phase<P>,
}

impl<P: WirePayload> Connection<P> {
    /// A connection on which nothing was said yet.
    pub fn new(setup: Setup) -> Self {
        let login = Login::new(setup.offer.clone(), setup.entropy);
        Self {
            io: Io {
                setup,
                out: Transmit::default(),
                actions: VecDeque::new(),
                stat_sn: StatSn(0),
                ended: None,
            },
            deframer: Deframer::new(LOGIN_DATA_MAX),
            header: Header::default(),
            sink: Sink::Discard,
            kept: Vec::new(),
            phase: Phase::Login(Box::new(login)),
        }
    }

    /// Takes bytes from the initiator, all of them.
    pub fn handle_bytes(&mut self, mut input: &[u8]) {
        // What others did before these bytes came counts for them.
        self.handle_mail();
        loop {
            if self.io.ended.is_some() {
                return;
            }
            match self.deframer.step(&mut input) {
                Ok(Step::More) => break,
                Ok(Step::Header(header)) => self.begin(header),
                Ok(Step::Data(data)) => self.data(data),
                Ok(Step::End { is_damaged }) => self.finish(is_damaged),
                Err(error) => self.end(Ended::Frame(error)),
            }
        }
        self.handle_mail();
    }

    /// The buffer that wants the next `usize` bytes of the stream, if they are data of a write. What was appended to it is
    /// told to [`Self::handle_direct`].
    pub fn direct(&mut self) -> Option<(&mut BytesMut, usize)> {
        let left = self.deframer.data_to_come() as usize;
        if left == 0 || self.io.ended.is_some() {
            return None;
        }
        match (&self.sink, &mut self.phase) {
            (Sink::Task(slot), Phase::Full(full)) => Some((full.direct(*slot, left)?, left)),
            _ => None,
        }
    }

    /// So many bytes were appended to the buffer that [`Self::direct`] gave.
    pub fn handle_direct(&mut self, count: usize) {
        if let (Sink::Task(slot), Phase::Full(full)) = (&self.sink, &mut self.phase) {
            self.deframer.skip_data(full.last_bytes(*slot, count));
        }
        self.handle_bytes(&[]);
    }

    /// The volume's answer to a submitted command.
    pub fn handle_reply(&mut self, tag: Tag, reply: engine::Reply<P>) {
        if let Phase::Full(full) = &mut self.phase {
            full.reply(&mut self.io, tag, reply);
            // The end of a task may be what something of ours waits for.
            self.handle_mail();
        }
    }

    /// The bell has rung.
    pub fn handle_mail(&mut self) {
        for mail in self.io.setup.mailbox.take() {
            match (mail, &mut self.phase) {
                (Mail::End(reason), _) => self.end(Ended::Told(reason)),
                (Mail::Departed, Phase::Admission(..)) => self.admit(),
                (mail, Phase::Full(full)) => full.mail(&mut self.io, mail),
                _ => {}
            }
        }
        if self.io.ended.is_some() {
            self.abandon();
        }
    }

    /// So many bytes of [`Self::transmit`] were sent.
    pub fn handle_sent(&mut self, count: u64) {
        self.io.out.advance(count);
        if let Phase::Full(full) = &mut self.phase {
            full.admit_waiting(&mut self.io);
        }
    }

    /// The peer is gone, or must be left.
    pub fn handle_disconnect(&mut self) {
        self.end(Ended::Disconnected);
        let rest = self.io.out.len();
        self.io.out.advance(rest);
    }

    /// The next piece of work.
    pub fn poll_action(&mut self) -> Option<Action<P>> {
        self.io.actions.pop_front()
    }

    /// What is to be sent.
    pub const fn transmit(&self) -> &Transmit<P> {
        &self.io.out
    }

    /// Why the connection ends: nothing more is read; what is to be sent is sent, then the socket is closed.
    pub const fn ended(&self) -> Option<Ended> {
        self.io.ended
    }

    /// Whether every command is answered and nothing is left to do.
    pub fn is_done(&self) -> bool {
        let is_idle = match &self.phase {
            Phase::Full(full) => full.is_idle(),
            _ => true,
        };
        self.io.ended.is_some() && is_idle && self.io.actions.is_empty()
    }

    /// Whether the login is over.
    pub const fn is_full_feature(&self) -> bool {
        matches!(self.phase, Phase::Full(_))
    }

    /// ExpCmdSN and MaxCmdSN, for tests.
    pub fn command_window(&self) -> Option<(CmdSn, CmdSn)> {
        match &self.phase {
            Phase::Full(full) => Some(full.command_window()),
            _ => None,
        }
    }

    fn end(&mut self, why: Ended) {
        self.io.end(why);
        self.abandon();
    }

    /// Takes every command back and, when none is left, gives the session's place up.
    fn abandon(&mut self) {
        if let Phase::Full(full) = &mut self.phase {
            full.abandon(&mut self.io);
        }
    }

    fn begin(&mut self, header: Header) {
        self.header = header;
        self.kept.clear();
        let sink = match &mut self.phase {
            Phase::Full(full) => full.begin(&mut self.io, &header),
            _ if header.opcode() == opcode::LOGIN_REQUEST => Ok(Sink::Keep),
            _ => {
                // RFC 7143 §6.3: nothing but login requests before full feature phase.
                self.end(Ended::Protocol("a PDU before the login is over"));
                return;
            }
        };
        self.sink = sink.unwrap_or_else(|malformed| {
            self.reject(malformed);
            Sink::Discard
        });
    }

    fn data(&mut self, data: &[u8]) {
        match (&self.sink, &mut self.phase) {
            (Sink::Keep, _) => self.kept.extend_from_slice(data),
            (Sink::Task(slot), Phase::Full(full)) => full.append(*slot, data),
            _ => {}
        }
    }

    fn finish(&mut self, is_damaged: bool) {
        let sink = core::mem::replace(&mut self.sink, Sink::Discard);
        match &mut self.phase {
            Phase::Full(full) => {
                let header = self.header;
                full.finish(&mut self.io, &header, &sink, &self.kept, is_damaged);
                if self.io.ended.is_some() {
                    self.abandon();
                }
            }
            Phase::Login(_) => self.login(),
            Phase::Admission(..) => self.end(Ended::Protocol("a login request too many")),
        }
    }

    fn reject(&mut self, malformed: Malformed) {
        if let Phase::Full(full) = &mut self.phase {
            full.reject(&mut self.io, malformed, &self.header);
        }
    }

    fn login(&mut self) {
        let Phase::Login(login) = &mut self.phase else {
            return;
        };
        let request = match LoginRequest::parse(&self.header) {
            Ok(request) => request,
            Err(malformed) => return self.end(Ended::Protocol(malformed.what)),
        };
        if login.first.is_none() {
            // The target may begin anywhere; the initiator's own idea is as good as any.
            self.io.stat_sn = request.exp_stat_sn;
        }
        match login.handle(&request, &self.kept, &self.io.setup.node) {
            LoginStep::Answer { next, text } => {
                self.answer_login(&request, next, LoginStatus::SUCCESS, 0, &text);
            }
            LoginStep::Fail(status) => self.fail_login(&request, status),
            LoginStep::Enter { text } => {
                let phase = Phase::Login(Box::new(Login::new(Offer::default(), [0; 32])));
                if let Phase::Login(login) = core::mem::replace(&mut self.phase, phase) {
                    self.phase = Phase::Admission(login, request, text);
                    self.admit();
                }
            }
        }
    }

    /// Registers the session and says the last word of the login, unless a session stands in the way.
    fn admit(&mut self) {
        let Phase::Admission(login, request, text) = &self.phase else {
            return;
        };
        let request = *request;
        let Some(entered) = login.entered() else {
            return self.fail_login(&request, LoginStatus::MISSING_PARAMETER);
        };
        let setup = &self.io.setup;
        let admission = match &entered.target {
            Some(target) => target.admit(&setup.node, &entered.nexus, &setup.mailbox),
            None => Admission::In(setup.node.draw_tsih()),
        };
        let tsih = match admission {
            Admission::In(tsih) => tsih,
            Admission::Wait if bug!("login-overtakes-the-old-session") => setup.node.draw_tsih(),
            Admission::Wait => return,
            Admission::Shut => return self.fail_login(&request, LoginStatus::SERVICE_UNAVAILABLE),
            Admission::Full => return self.fail_login(&request, LoginStatus::OUT_OF_RESOURCES),
        };
        let text = text.clone();
        let next = Some(Stage::FullFeature);
        self.answer_login(&request, next, LoginStatus::SUCCESS, tsih, &text);
        let params = &entered.params;
        let (header_digest, data_digest) = (params.header_digest, params.data_digest);
        self.deframer.set_digests(header_digest, data_digest);
        self.deframer
            .set_data_max(self.io.setup.offer.max_recv_bytes);
        self.io.out.set_digests(header_digest, data_digest);
        if let Some(target) = &entered.target {
            self.io.actions.push_back(Action::Entered(target.clone()));
        }
        let window = Window::new(entered.cmd_sn, self.io.setup.window);
        self.phase = Phase::Full(Box::new(Full::new(entered, tsih, window)));
    }

    fn fail_login(&mut self, request: &LoginRequest, status: LoginStatus) {
        self.answer_login(request, None, status, 0, &[]);
        self.end(Ended::LoginFailed(status));
    }

    fn answer_login(
        &mut self,
        request: &LoginRequest,
        next: Option<Stage>,
        status: LoginStatus,
        tsih: u16,
        text: &[u8],
    ) {
        let window = Window::new(request.cmd_sn, self.io.setup.window);
        let response = LoginResponse {
            next,
            is_partial: false,
            stage: request.stage,
            isid: request.isid,
            tsih: if tsih == 0 { request.tsih } else { tsih },
            itt: request.itt,
            stat_sn: self.io.take_stat_sn(),
            exp_cmd_sn: window.expected(),
            max_cmd_sn: window.max(),
            status,
        };
        // A few keys: far less than 8192 bytes.
        self.io.out.push(&response.emit(text.len() as u32), text);
    }
}
