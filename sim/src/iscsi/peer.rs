//! A session as its initiator sees it: numbers, tasks, functions; what it sends and what it makes of what it hears.
//!
//! - R2: one answer per task; StatSN moves by one; ExpCmdSN and MaxCmdSN never go back.
//! - W1: logins, data, bursts, residuals and digests are as RFC 7143 has them.

use super::chap::Proof;
use super::login::{Agreed, Say, Wishes, pairs};
use super::pdu::{Cut, Cutter, Pdu};
use super::task::{Command, End, Sense, Task};
use crate::oracle::Violation;
use std::collections::{BTreeMap, VecDeque};

/// Where a session stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Login,
    Full,
    /// A logout was sent; nothing else will be.
    Leaving,
    /// Over, for the initiator.
    Over,
}

/// Task management functions, and what else ends tasks. RFC 7143 §11.5.1, "Function".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Function {
    AbortTask = 1,
    AbortTaskSet = 2,
    ClearTaskSet = 4,
    LogicalUnitReset = 5,
    TargetWarmReset = 6,
    TargetColdReset = 7,
}

impl Function {
    /// Whether it ends the tasks of other sessions, too.
    pub(crate) const fn clears(self) -> bool {
        !matches!(self, Self::AbortTask | Self::AbortTaskSet)
    }
}

/// A function under way.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) function: Function,
    /// The tasks that it ends here.
    pub(crate) tasks: Vec<u32>,
    /// No function was sent before that ends one of them.
    pub(crate) is_first: bool,
    pub(crate) sent_at: u64,
}

/// What an initiator has made of what it heard.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Full feature phase.
    LoggedIn,
    /// The login failed with this status.
    Refused(u16),
    /// A task is answered.
    Ended(Box<Task>, End),
    /// A function is answered; the tasks that are over with it and were not answered.
    Managed(Asked, u8, Vec<Task>),
    /// Logged out.
    LoggedOut,
    /// A PDU was rejected for a digest.
    Rejected,
    /// A digest did not fit: nothing more can be believed.
    Damaged,
    /// Against the rules.
    Broken(Violation),
}

/// A session.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Which initiator of the seat.
    pub(crate) initiator: usize,
    pub(crate) isid: [u8; 6],
    pub(crate) phase: Phase,
    pub(crate) agreed: Agreed,
    pub(crate) tasks: BTreeMap<u32, Task>,
    pub(crate) functions: BTreeMap<u32, Asked>,
    /// Bytes to be sent.
    pub(crate) out: Vec<u8>,
    pub(crate) heard: VecDeque<Heard>,
    wishes: Wishes,
    /// How it proves who it is.
    pub(crate) proof: Proof,
    requests: VecDeque<Say>,
    /// Byte 1 of the request that was sent last.
    last_flags: u8,
    answers: BTreeMap<String, String>,
    pings: BTreeMap<u32, Vec<u8>>,
    logout: Option<u32>,
    cutter: Cutter,
    cmd_sn: u32,
    stat_sn: Option<u32>,
    window: (u32, u32),
    next_itt: u32,
    /// Commands sent.
    sent: u64,
    /// A bit of this connection was flipped.
    pub(crate) is_damaged: bool,
    /// It has aborted tasks.
    pub(crate) is_blurred: bool,
    /// Its tasks will be looked after.
    pub(crate) is_watched: bool,
}

fn is_before(a: u32, b: u32) -> bool {
    let steps = b.wrapping_sub(a);
    steps != 0 && steps < 1 << 31
}

const FINAL: u8 = 0x80;
const IMMEDIATE: u8 = 0x40;

impl Peer {
    /// A session that begins its login. `cmd_sn`: its first command's number.
    pub(crate) fn new(
        initiator: usize,
        isid: [u8; 6],
        name: &str,
        wishes: Wishes,
        proof: Proof,
        cmd_sn: u32,
    ) -> Self {
        let mut peer = Self {
            initiator,
            isid,
            phase: Phase::Login,
            agreed: Agreed::default(),
            tasks: BTreeMap::new(),
            functions: BTreeMap::new(),
            out: Vec::new(),
            heard: VecDeque::new(),
            requests: wishes.requests(name, &proof).into(),
            wishes,
            proof,
            last_flags: 0,
            answers: BTreeMap::new(),
            pings: BTreeMap::new(),
            logout: None,
            cutter: Cutter::default(),
            cmd_sn,
            stat_sn: None,
            window: (cmd_sn, cmd_sn),
            next_itt: cmd_sn ^ 0x55,
            sent: 0,
            is_damaged: false,
            is_blurred: false,
            is_watched: false,
        };
        peer.log_in();
        peer
    }

    fn log_in(&mut self) {
        let Some(mut say) = self.requests.pop_front() else {
            return;
        };
        if say.proves {
            match self.proof.answer(&self.answers) {
                Some(text) => say.text = text,
                None => {
                    self.phase = Phase::Over;
                    let violation = wrong("CHAP without a challenge");
                    return self.heard.push_back(Heard::Broken(violation));
                }
            }
        }
        self.last_flags = say.flags;
        let pdu = Pdu::new(0x43, say.flags)
            .with_bytes(8, &self.isid)
            .with(16, 1)
            .with_short(20, 1)
            .with(24, self.cmd_sn)
            .with(28, self.stat_sn.unwrap_or(0))
            .with_data(&say.text);
        self.send(&pdu);
    }

    fn send(&mut self, pdu: &Pdu) {
        let digests = self.agreed.digests;
        pdu.emit(digests, &mut self.out);
    }

    /// Whether the window lets one more command go.
    pub(crate) fn has_window(&self) -> bool {
        self.phase == Phase::Full && !is_before(self.window.1, self.cmd_sn)
    }

    fn draw_itt(&mut self) -> u32 {
        loop {
            self.next_itt = self.next_itt.wrapping_add(1);
            let itt = self.next_itt;
            let is_free = !self.tasks.contains_key(&itt)
                && !self.functions.contains_key(&itt)
                && !self.pings.contains_key(&itt);
            // The reserved tag names nothing.
            if itt != u32::MAX && is_free {
                return itt;
            }
        }
    }

    /// Sends a command. The name of its task.
    pub(crate) fn command(&mut self, mut task: Task, command: Command, now: u64) -> u32 {
        let itt = self.draw_itt();
        self.sent += 1;
        task.order = self.sent;
        task.sent_at = now;
        let agreed = self.agreed;
        task.reads = command.reads;
        task.out = command.out;
        task.wanted = command.wanted;
        let length = if command.reads || command.writes {
            i64::from(task.wanted) + i64::from(task.shape.beyond)
        } else {
            0
        };
        task.expected = length.max(0) as u32;
        if command.writes {
            task.out.resize(task.expected as usize, 0xee);
        }
        let writes = command.writes && task.expected > 0;
        let unsolicited = if writes { task.shape.unsolicited } else { 0 };
        let segment = segment(&task, &agreed);
        let immediate = if unsolicited > 0 && agreed.immediate_data {
            segment.min(agreed.first_burst).min(task.expected)
        } else {
            0
        };
        let first = agreed.first_burst.min(task.expected);
        let goes_on = unsolicited > 1 && !agreed.initial_r2t && first > immediate;
        let mut flags = 0x01;
        flags |= if command.reads { 0x40 } else { 0 };
        flags |= if writes { 0x20 } else { 0 };
        flags |= if goes_on { 0 } else { FINAL };
        let pdu = Pdu::new(0x01, flags)
            .with(16, itt)
            .with(20, task.expected)
            .with(24, self.cmd_sn)
            .with(28, self.stat_sn.unwrap_or(0))
            .with_bytes(32, &command.cdb)
            .with_data(&task.out[..immediate as usize]);
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        self.send(&pdu);
        task.sent = immediate;
        if goes_on {
            task.sent = first;
            self.data_out(&task, itt, u32::MAX, immediate, first);
        }
        self.tasks.insert(itt, task);
        itt
    }

    /// Data-Out PDUs of a task, from and up to an offset.
    fn data_out(&mut self, task: &Task, itt: u32, ttt: u32, mut from: u32, to: u32) {
        let segment = segment(task, &self.agreed);
        let mut number = 0;
        while from < to {
            let end = to.min(from + segment);
            let flags = if end == to { FINAL } else { 0 };
            let pdu = Pdu::new(0x05, flags)
                .with(16, itt)
                .with(20, ttt)
                .with(28, self.stat_sn.unwrap_or(0))
                .with(36, number)
                .with(40, from)
                .with_data(&task.out[from as usize..end as usize]);
            self.send(&pdu);
            number += 1;
            from = end;
        }
    }

    /// Sends a function, immediate as initiators do. `referenced`: the task, for ABORT TASK.
    pub(crate) fn manage(&mut self, function: Function, referenced: Option<u32>, now: u64) {
        let itt = self.draw_itt();
        let tasks: Vec<u32> = match referenced {
            Some(itt) => vec![itt],
            None => self.tasks.keys().copied().collect(),
        };
        self.is_blurred = true;
        let mut is_first = true;
        for itt in &tasks {
            if let Some(task) = self.tasks.get_mut(itt) {
                is_first &= !std::mem::replace(&mut task.is_taken_back, true);
            }
        }
        let pdu = Pdu::new(0x02 | IMMEDIATE, FINAL | function as u8)
            .with(16, itt)
            .with(20, referenced.unwrap_or(u32::MAX))
            .with(24, self.cmd_sn)
            .with(28, self.stat_sn.unwrap_or(0));
        self.send(&pdu);
        let asked = Asked {
            function,
            tasks,
            is_first,
            sent_at: now,
        };
        self.functions.insert(itt, asked);
    }

    /// Sends a ping.
    pub(crate) fn ping(&mut self, data: &[u8]) {
        let itt = self.draw_itt();
        let pdu = Pdu::new(IMMEDIATE, FINAL)
            .with(16, itt)
            .with(20, u32::MAX)
            .with(24, self.cmd_sn)
            .with(28, self.stat_sn.unwrap_or(0))
            .with_data(data);
        self.send(&pdu);
        self.pings.insert(itt, data.to_vec());
    }

    /// Asks to close the session.
    pub(crate) fn log_out(&mut self) {
        let itt = self.draw_itt();
        let pdu = Pdu::new(0x06 | IMMEDIATE, FINAL)
            .with(16, itt)
            .with_short(20, 1)
            .with(24, self.cmd_sn)
            .with(28, self.stat_sn.unwrap_or(0));
        self.send(&pdu);
        self.logout = Some(itt);
        self.phase = Phase::Leaving;
    }

    /// Takes bytes from the target.
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        self.cutter.push(bytes);
        while self.phase != Phase::Over {
            let longest = if self.phase == Phase::Login {
                8192
            } else {
                self.agreed.max_recv
            };
            match self.cutter.next(self.agreed.digests, longest) {
                Cut::More => return,
                Cut::Whole(pdu) => {
                    if let Err(violation) = self.take(&pdu) {
                        self.phase = Phase::Over;
                        self.heard.push_back(Heard::Broken(violation));
                    }
                }
                Cut::Damaged => {
                    self.phase = Phase::Over;
                    self.heard.push_back(Heard::Damaged);
                }
                Cut::Wrong(what) => {
                    self.phase = Phase::Over;
                    let violation = Violation::new("W1", what);
                    self.heard.push_back(Heard::Broken(violation));
                }
            }
        }
    }

    fn take(&mut self, pdu: &Pdu) -> Result<(), Violation> {
        let opcode = pdu.opcode();
        if (opcode == 0x23) != (self.phase == Phase::Login) {
            return Err(wrong(format!("opcode {opcode:02x}h in {:?}", self.phase)));
        }
        self.numbers(pdu)?;
        match opcode {
            0x20 => self.pong(pdu),
            0x21 => self.response(pdu),
            0x22 => self.managed(pdu),
            0x23 => self.login_answer(pdu),
            0x25 => self.data_in(pdu),
            0x26 => {
                if self.logout != Some(pdu.itt()) || pdu.header[2] != 0 {
                    return Err(wrong("a logout response that nothing asked for"));
                }
                self.phase = Phase::Over;
                self.heard.push_back(Heard::LoggedOut);
                Ok(())
            }
            0x31 => self.r2t(pdu),
            // Reject, data digest error.
            0x3f if pdu.header[2] == 2 => {
                self.heard.push_back(Heard::Rejected);
                Ok(())
            }
            _ => Err(wrong(format!(
                "opcode {opcode:02x}h, byte 2 {:02x}h",
                pdu.header[2]
            ))),
        }
    }

    /// StatSN of what is a response, and the window of everything.
    fn numbers(&mut self, pdu: &Pdu) -> Result<(), Violation> {
        let opcode = pdu.opcode();
        let is_counted = !(opcode == 0x31 || opcode == 0x25 && !pdu.flag(0x01));
        let stat_sn = pdu.word(24);
        if is_counted || opcode == 0x31 {
            let due = *self.stat_sn.get_or_insert(stat_sn);
            if stat_sn != due {
                let text = format!("StatSN {stat_sn} of opcode {opcode:02x}h where {due} is due");
                return Err(Violation::new("R2", text));
            }
        }
        if is_counted {
            self.stat_sn = Some(stat_sn.wrapping_add(1));
        }
        let (expected, max) = (pdu.word(28), pdu.word(32));
        if opcode == 0x23 && pdu.header[36] != 0 {
            return Ok(());
        }
        let text = if is_before(expected, self.window.0) {
            "ExpCmdSN went back"
        } else if is_before(max, self.window.1) {
            "MaxCmdSN went back"
        } else if is_before(self.cmd_sn, expected) {
            "ExpCmdSN is beyond what was sent"
        } else if is_before(max.wrapping_add(1), expected) {
            "MaxCmdSN is below ExpCmdSN - 1"
        } else {
            self.window = (expected, max);
            return Ok(());
        };
        Err(Violation::new("R2", format!("{text}: {expected}, {max}")))
    }

    fn login_answer(&mut self, pdu: &Pdu) -> Result<(), Violation> {
        let status = pdu.short(36);
        if status != 0 {
            self.phase = Phase::Over;
            self.heard.push_back(Heard::Refused(status));
            return Ok(());
        }
        for (key, value) in pairs(&pdu.data).map_err(wrong)? {
            if self.answers.insert(key.clone(), value).is_some() {
                return Err(wrong(format!("{key} is answered twice")));
            }
        }
        // The target may leave a stage only when asked to, and goes where it was asked to go.
        let wanted = self.last_flags & 0x83;
        let said = pdu.header[1] & 0x83;
        let is_partial = self.last_flags & 0x40 != 0;
        if is_partial && (said & 0x80 != 0 || !pdu.data.is_empty())
            || !is_partial && wanted & 0x80 != 0 && said != wanted
        {
            return Err(wrong(format!(
                "a login response with flags {:02x}h for {:02x}h",
                pdu.header[1], self.last_flags
            )));
        }
        if said != 0x83 {
            self.log_in();
            return Ok(());
        }
        if pdu.short(14) == 0 {
            return Err(wrong("a session without a TSIH"));
        }
        if self.proof.must_fail() {
            return Err(wrong(format!("{:?} is let in", self.proof.manner)));
        }
        self.proof.judge(&self.answers).map_err(wrong)?;
        self.agreed = self.wishes.agree(&self.answers).map_err(wrong)?;
        self.phase = Phase::Full;
        self.heard.push_back(Heard::LoggedIn);
        Ok(())
    }

    fn task(&mut self, itt: u32) -> Result<&mut Task, Violation> {
        self.tasks.get_mut(&itt).ok_or_else(|| {
            let text = format!("task {itt:08x}h is over, or never was, and is answered");
            Violation::new("R2", text)
        })
    }

    fn data_in(&mut self, pdu: &Pdu) -> Result<(), Violation> {
        let agreed = self.agreed;
        let task = self.task(pdu.itt())?;
        task.data_in(pdu, &agreed).map_err(wrong)?;
        if pdu.flag(0x01) {
            if !pdu.flag(FINAL) {
                return Err(wrong("status without F"));
            }
            self.end(pdu, pdu.header[3], None)?;
        }
        Ok(())
    }

    fn response(&mut self, pdu: &Pdu) -> Result<(), Violation> {
        let task = self.task(pdu.itt())?;
        // Data-In PDUs and R2Ts that were sent for it.
        let sent = task.data_pdus + task.r2ts;
        if pdu.header[2] != 0 || pdu.word(36) != sent {
            return Err(wrong(format!(
                "response {:02x}h, ExpDataSN {} where {sent} PDUs came",
                pdu.header[2],
                pdu.word(36)
            )));
        }
        let sense = match pdu.header[3] {
            0x02 => Some(Sense::parse(&pdu.data).ok_or_else(|| wrong("no sense data"))?),
            _ if !pdu.data.is_empty() => return Err(wrong("sense data without a reason")),
            _ => None,
        };
        self.end(pdu, pdu.header[3], sense)
    }

    fn end(&mut self, pdu: &Pdu, status: u8, sense: Option<Sense>) -> Result<(), Violation> {
        let count = i64::from(pdu.word(44));
        let residual = match (pdu.flag(0x04), pdu.flag(0x02)) {
            (false, false) if count == 0 => 0,
            (true, false) => -count,
            (false, true) => count,
            _ => return Err(wrong("a residual that is both, or none")),
        };
        let task = self.tasks.remove(&pdu.itt()).expect("looked up before");
        if status == 0 && residual != task.residual() {
            return Err(wrong(format!(
                "residual {residual} of {} expected and {} wanted bytes",
                task.expected, task.wanted
            )));
        }
        let end = End {
            status,
            sense,
            residual,
        };
        self.heard.push_back(Heard::Ended(Box::new(task), end));
        Ok(())
    }

    fn r2t(&mut self, pdu: &Pdu) -> Result<(), Violation> {
        let agreed = self.agreed;
        let itt = pdu.itt();
        let (from, to) = self.task(itt)?.r2t(pdu, &agreed).map_err(wrong)?;
        let Some(task) = self.tasks.remove(&itt) else {
            return Ok(());
        };
        self.data_out(&task, itt, pdu.word(20), from, to);
        self.tasks.insert(itt, task);
        Ok(())
    }

    fn managed(&mut self, pdu: &Pdu) -> Result<(), Violation> {
        let Some(asked) = self.functions.remove(&pdu.itt()) else {
            return Err(Violation::new("R2", "a function is answered twice"));
        };
        let outcome = pdu.header[2];
        let left: Vec<u32> = (asked.tasks.iter().copied())
            .filter(|itt| self.tasks.contains_key(itt))
            .collect();
        let over = left.iter().filter_map(|itt| self.tasks.remove(itt));
        let over = over.collect();
        self.heard.push_back(Heard::Managed(asked, outcome, over));
        Ok(())
    }

    fn pong(&mut self, pdu: &Pdu) -> Result<(), Violation> {
        match self.pings.remove(&pdu.itt()) {
            Some(data) if data.starts_with(&pdu.data) && pdu.word(20) == u32::MAX => {
                let most = data.len().min(self.agreed.max_recv as usize);
                if pdu.data.len() == most {
                    return Ok(());
                }
                Err(wrong("a ping comes back short"))
            }
            _ => Err(wrong("a NOP-In that no ping asked for")),
        }
    }
}

/// Bytes of one segment that a task's data goes out in.
fn segment(task: &Task, agreed: &Agreed) -> u32 {
    match task.shape.segment {
        0 => agreed.max_send,
        n => n.min(agreed.max_send),
    }
}

fn wrong(what: impl Into<String>) -> Violation {
    Violation::new("W1", what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::Choices;
    use crate::iscsi::pdu::Digests;
    use crate::iscsi::task::{Shape, build};
    use crate::workload::Kind;
    use engine::units::Extent;

    /// A session in full feature phase, two commands of 512 bytes sent: a read (task 0) and a write without data (task 1).
    fn session() -> (Peer, [u32; 2]) {
        // The simplest wishes: every key that can be left out is.
        let mut choices = Choices::bytes(&[]);
        let wishes = Wishes::draw(&mut choices, 0, 0);
        let proof = Proof::draw(&mut choices, 0, crate::config::Guard::Open, true);
        let mut peer = Peer::new(0, [0; 6], "iqn.x:a", wishes, proof, 10);
        let login = Pdu::new(0x23, 0x87)
            .with_short(14, 7)
            .with(16, 1)
            .with(24, 100)
            .with(28, 10)
            .with(32, 20)
            .with_data(b"DefaultTime2Wait=0\0ErrorRecoveryLevel=0\0");
        say(&mut peer, &login);
        assert!(matches!(peer.heard.pop_front(), Some(Heard::LoggedIn)));
        let extent = [Extent::new(0, 1)];
        let mut send = |kind, data: Vec<u8>| {
            let task = Task::new(kind, extent.to_vec(), Shape::default(), 0);
            let command = build(kind, &extent, false, 0, 512, &[], data);
            peer.command(task, command, 0)
        };
        let itts = [
            send(Kind::Read, Vec::new()),
            send(Kind::Write, vec![1; 512]),
        ];
        (peer, itts)
    }

    fn say(peer: &mut Peer, pdu: &Pdu) {
        let mut bytes = Vec::new();
        pdu.emit(Digests::default(), &mut bytes);
        peer.hear(&bytes);
    }

    fn numbered(opcode: u8, flags: u8, itt: u32, stat_sn: u32) -> Pdu {
        Pdu::new(opcode, flags)
            .with(16, itt)
            .with(24, stat_sn)
            .with(28, 12)
            .with(32, 21)
    }

    fn data(itt: u32, stat_sn: u32) -> Pdu {
        numbered(0x25, 0x81, itt, stat_sn).with_data(&[0; 512])
    }

    fn r2t(itt: u32, stat_sn: u32) -> Pdu {
        let pdu = numbered(0x31, 0x80, itt, stat_sn);
        pdu.with(20, 9).with(44, 512)
    }

    #[track_caller]
    fn violates(peer: &mut Peer, pdu: &Pdu, property: &str) {
        say(peer, pdu);
        match peer.heard.pop_back() {
            Some(Heard::Broken(violation)) => assert_eq!(violation.property, property),
            other => panic!("must be rejected: {other:?}"),
        }
    }

    #[test]
    fn answers_in_another_order_than_the_commands_are_right() {
        let (mut peer, [read, write]) = session();
        // An R2T names the next StatSN and does not take it.
        say(&mut peer, &r2t(write, 101));
        say(&mut peer, &numbered(0x21, 0x80, write, 101).with(36, 1));
        say(&mut peer, &data(read, 102));
        let ends = peer.heard.iter().filter(|h| matches!(h, Heard::Ended(..)));
        assert_eq!((ends.count(), peer.heard.len()), (2, 2), "{:?}", peer.heard);
    }

    #[test]
    fn a_second_answer_is_rejected() {
        let (mut peer, [read, _]) = session();
        say(&mut peer, &data(read, 101));
        violates(&mut peer, &data(read, 102), "R2");
    }

    #[test]
    fn a_number_that_is_left_out_or_comes_twice_is_rejected() {
        let (mut peer, [read, write]) = session();
        violates(&mut peer, &data(read, 102), "R2");
        let (mut peer, [read, _]) = session();
        say(&mut peer, &data(read, 101));
        violates(&mut peer, &r2t(write, 101), "R2");
    }

    #[test]
    fn a_window_that_goes_back_or_runs_ahead_is_rejected() {
        for (expected, max) in [(9, 21), (12, 19), (13, 21), (12, 10)] {
            let (mut peer, [read, _]) = session();
            let pdu = data(read, 101).with(28, expected).with(32, max);
            violates(&mut peer, &pdu, "R2");
        }
        // Closed: MaxCmdSN is one below ExpCmdSN. It was open up to 20 before, so it is at 20 at least.
        let (mut peer, [read, _]) = session();
        say(&mut peer, &data(read, 101).with(28, 12).with(32, 20));
        assert!(matches!(peer.heard.pop_front(), Some(Heard::Ended(..))));
    }

    #[test]
    fn a_residual_that_is_not_one_is_rejected() {
        let (mut peer, [read, _]) = session();
        violates(
            &mut peer,
            &numbered(0x25, 0x83, read, 101)
                .with(44, 4)
                .with_data(&[0; 512]),
            "W1",
        );
        let (mut peer, [_, write]) = session();
        violates(
            &mut peer,
            &numbered(0x21, 0x80, write, 101).with(44, 4),
            "W1",
        );
    }

    #[test]
    fn a_task_is_not_answered_after_its_abort() {
        let (mut peer, [read, _]) = session();
        peer.manage(Function::AbortTask, Some(read), 0);
        let function = *peer.functions.keys().next().expect("sent");
        say(&mut peer, &numbered(0x22, 0x80, function, 101));
        assert!(
            matches!(peer.heard.pop_front(), Some(Heard::Managed(_, 0, over)) if over.len() == 1)
        );
        violates(&mut peer, &data(read, 102), "R2");
    }
}
