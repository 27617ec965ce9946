//! What must hold of what initiators hear, and of what sessions ask of the volume.
//!
//! - B1, B3, B4, B7, P2: the oracles of the block device, fed with what the initiator received.
//! - B11: a status says what the volume said; what the session says by itself has a reason that is known here.
//! - R2: a session asks for what its initiator asks, and once.

use super::attention::{CLEARED, POWER_ON, RESET};
use super::peer::{Function, Heard, Peer, Phase};
use super::reserve::{PREEMPTED, RELEASED, UNREGISTERED};
use super::task::{End, Said, Sense, Task, merged};
use crate::choice::Die;
use crate::iscsi::bytes::recognise;
use crate::oracle::{Checked, Violation};
use crate::payload::Blocks;
use crate::seat::Asked;
use crate::workload::Kind;
use crate::world::{Event, MS, World};
use engine::command::{Command, Failure, Reply};
use engine::ids::Tag;
use engine::payload::Payload;
use engine::units::Extent;
use std::collections::BTreeSet;

impl World {
    /// Gives the engine a session's command.
    pub(crate) fn ask_for_session(
        &mut self,
        seat: usize,
        conn: u32,
        itt: u32,
        tag: Tag,
        command: Command<Blocks>,
    ) {
        let now = self.now;
        self.serial += 1;
        let Some(task) = self.task_of(seat, conn, itt) else {
            return;
        };
        task.is_under_way = true;
        task.submitted_at.get_or_insert(now);
        let (kind, extents, fua, expect) = match &command {
            Command::Read(extent) => (Kind::Read, vec![*extent], false, Vec::new()),
            Command::Write { at, fua, .. } => (Kind::Write, vec![*at], *fua, Vec::new()),
            Command::Discard(extents) => (Kind::Discard, extents.to_vec(), false, Vec::new()),
            Command::WriteZeroes { at, fua } => (Kind::WriteZeroes, vec![*at], *fua, Vec::new()),
            Command::CompareAndWrite {
                at, expect, fua, ..
            } => (
                Kind::CompareAndWrite,
                vec![*at],
                *fua,
                expect.stamps().collect(),
            ),
            Command::Flush => (Kind::Flush, Vec::new(), false, Vec::new()),
            Command::PutAttribute { .. } => (Kind::Attribute, Vec::new(), false, Vec::new()),
        };
        let (write, sent_at) = (task.write, task.sent_at);
        let checked = self.is_preempted(seat, conn, kind, sent_at);
        self.check(checked);
        let is_crowded = !self.has_room(seat, kind, &extents);
        let s = &mut self.seats[seat];
        let Some(history) = s.history.as_ref() else {
            let text = format!("{command:?} reaches a volume without a history");
            return self.misuse("P1", text);
        };
        let floors = match extents.first() {
            Some(first) if matches!(kind, Kind::Read | Kind::CompareAndWrite) => {
                history.floors(*first)
            }
            _ => Vec::new(),
        };
        let oldest = match extents.first() {
            Some(first) if kind == Kind::Read => history.oldest(*first),
            _ => 0,
        };
        let asked = Asked {
            op: crate::initiator::WIRE,
            slot: None,
            serial: self.serial,
            wire: Some((conn, itt)),
            write,
            kind,
            extents,
            fua,
            floors,
            expect,
            answered: s.answered(),
            seqs: Vec::new(),
            covered: 0,
            key: String::new(),
            sets: false,
            aborted: false,
            is_crowded,
            at: now,
            oldest,
        };
        self.trace.roll(0xa000 ^ tag.0);
        self.trace.tell(now, || {
            format!(
                "seat {seat} session {conn} asks #{:x} {kind:?} {:?} for task {itt:x}",
                tag.0, asked.extents
            )
        });
        self.seats[seat].asked.insert(tag.0, asked);
        let now = self.instant();
        self.with_engine(seat, "guest", |e| e.handle_guest(now, tag, command));
    }

    /// The engine has answered a session's command.
    pub(crate) fn session_replied(&mut self, seat: usize, asked: &Asked, reply: &Reply<Blocks>) {
        let Some((conn, itt)) = asked.wire else {
            return;
        };
        let Some(task) = self.task_of(seat, conn, itt) else {
            return;
        };
        task.is_under_way = false;
        task.seqs.extend(&asked.seqs);
        task.said = Some(match reply {
            Reply::Read(_) | Reply::Done { .. } => Said::Good,
            Reply::Miscompare { at } => Said::Miscompare(at.0),
            Reply::Busy => Said::Busy,
            Reply::Failed(failure) => Said::Failed(*failure),
        });
    }

    /// Bytes reach an initiator.
    pub(crate) fn hear(&mut self, seat: usize, conn: u32, bytes: &[u8]) {
        let Some(c) = self.front(seat).conns.get_mut(&conn) else {
            return;
        };
        let Some(peer) = c.peer.as_mut() else { return };
        peer.hear(bytes);
        loop {
            let peer = |w: &mut Self| -> Option<Heard> {
                let c = w.front(seat).conns.get_mut(&conn)?;
                c.peer.as_mut()?.heard.pop_front()
            };
            let Some(heard) = peer(self) else { break };
            self.heard_one(seat, conn, heard);
            if self.failed.is_some() {
                return;
            }
        }
        self.flush(seat, conn);
    }

    fn heard_one(&mut self, seat: usize, conn: u32, heard: Heard) {
        let now = self.now;
        let Some(n) = self.peer_of(seat, conn).map(|p| p.initiator) else {
            return;
        };
        self.trace.tell(now, || {
            let what = match &heard {
                Heard::Ended(task, end) => {
                    format!("{:?} {:?}: {end:?}", task.kind, task.extents)
                }
                Heard::Managed(asked, outcome, tasks) => {
                    format!("{:?}: {outcome}, {} tasks", asked.function, tasks.len())
                }
                other => format!("{other:?}"),
            };
            format!("seat {seat} initiator {n} hears {what}")
        });
        match heard {
            Heard::LoggedIn => self.logged_in(seat, conn, n),
            Heard::Refused(status) => self.refused_login(seat, conn, n, status),
            Heard::Ended(task, end) => {
                let order = task.order;
                let code = end.sense.filter(|s| s.key == 6).map(|s| s.code);
                // A command that is aborted or damaged may hold the attention.
                let may_be_held = self
                    .peer_of(seat, conn)
                    .is_some_and(|p| p.is_damaged || !p.functions.is_empty());
                if code.is_some() || !may_be_held {
                    let attentions = &mut self.front(seat).initiators[n].attentions;
                    let checked = attentions.hears(code, task.sent_at, now);
                    self.check(checked);
                }
                let checked = match (task.reserve, self.reserved(seat, conn, &task, &end)) {
                    (Some(act), _) => self.reserve_ended(seat, &act, &task, &end),
                    (None, Some(refused)) => refused,
                    (None, None) => self.judge(seat, &task, &end),
                };
                self.check(checked);
                let stamps = recognise(self.config.geometry.block_bytes, &task.read);
                let checked = self.second_hears(seat, &task, &end, &stamps);
                self.check(checked);
                if matches!(code, Some(RESET | CLEARED)) {
                    self.cleared(seat, conn, order);
                }
                self.ended(seat, conn, n, &task, &end);
            }
            Heard::Managed(asked, outcome, tasks) => {
                self.managed(seat, conn, n, &asked, outcome, tasks);
            }
            Heard::LoggedOut => {
                // Everything of it was taken back before the answer.
                self.lose(seat, conn);
            }
            Heard::Rejected => {
                let is_damaged = self.peer_of(seat, conn).is_some_and(|p| p.is_damaged);
                if !is_damaged {
                    self.misuse("W1", "a PDU is rejected for a digest that was right");
                }
            }
            Heard::Damaged => {
                let is_damaged = self.peer_of(seat, conn).is_some_and(|p| p.is_damaged);
                if is_damaged {
                    self.snap(seat, conn, false);
                } else {
                    self.misuse("W1", "a digest does not fit, and no bit was flipped");
                }
            }
            Heard::Broken(violation) => self.fail(violation),
        }
    }

    pub(crate) fn peer_of(&mut self, seat: usize, conn: u32) -> Option<&mut Peer> {
        self.front(seat).conns.get_mut(&conn)?.peer.as_mut()
    }

    fn logged_in(&mut self, seat: usize, conn: u32, n: usize) {
        let now = self.now;
        let Some(isid) = self.peer_of(seat, conn).map(|p| p.isid) else {
            return;
        };
        let front = self.front(seat);
        // Under another ISID it is another initiator port: what its session before asks for is another's to this one.
        let others = (front.lost.values()).filter(|p| p.initiator == n && p.isid != isid);
        let clears = others.flat_map(|p| p.functions.values());
        let clears = clears
            .filter(|f| f.function == Function::ClearTaskSet)
            .count();
        let attentions = &mut front.initiators[n].attentions;
        attentions.begin(now);
        (0..clears).for_each(|_| attentions.may_come(CLEARED));
        front.initiators[n].logged_in_at = now;
        // Reinstatement: the sessions that this one replaces are over, and so is all that they asked for.
        let replaced: Vec<u32> = (front.lost.iter())
            .filter(|(_, p)| p.initiator == n && p.isid == isid)
            .map(|(c, _)| *c)
            .collect();
        for old in replaced {
            let front = self.front(seat);
            let Some(peer) = front.lost.remove(&old) else {
                continue;
            };
            if peer.functions.values().any(|f| f.function.clears()) {
                front.cleared_at = now;
            }
            self.trace.tell(now, || {
                format!("seat {seat} connection {conn} replaces connection {old}")
            });
            let checked = self.bury(seat, peer.tasks.into_values());
            self.check(checked);
        }
        // The first command of a session hears that there was a reset: better a question than a write.
        let task = Task::new(
            Kind::Attribute,
            Vec::new(),
            super::task::Shape::default(),
            0,
        );
        let command = super::task::build(Kind::Attribute, &[], false, 0, 512, &[], Vec::new());
        if let Some(peer) = self.peer_of(seat, conn) {
            peer.command(task, command, now);
        }
        self.watch(seat, conn);
    }

    fn refused_login(&mut self, seat: usize, conn: u32, n: usize, status: u16) {
        let must_fail = (self.peer_of(seat, conn)).is_some_and(|p| p.proof.must_fail());
        if must_fail && status == 0x0201 {
            let login = (seat as u64) << 40 | u64::from(conn);
            self.trace.fault(Die::Intruder, login);
            return self.lose(seat, conn);
        }
        let front = self.front(seat);
        let began = front.initiators[n].began;
        // Service unavailable: the gate is closed, or was when it was asked.
        let has_reason = front.closed_at >= began || !front.lets_in();
        if status != 0x0301 || !has_reason {
            let text = format!("a login is refused with status {status:04x}h");
            return self.misuse("W1", text);
        }
        self.lose(seat, conn);
    }

    /// A task's end, held against what the volume said and what was asked.
    fn judge(&mut self, seat: usize, task: &Task, end: &End) -> Checked {
        let wrong = |property: &'static str, why: &str| {
            let text = format!(
                "{:?} {:?} (write {}) ends with {end:?}: {why}; the volume said {:?}",
                task.kind, task.extents, task.write, task.said
            );
            Err(Violation::new(property, text))
        };
        if task.is_under_way {
            return wrong("R2", "the volume still works on it");
        }
        match (end.status, end.sense) {
            (0x00, None) => {}
            (0x08, None) if task.said == Some(Said::Busy) => return Ok(()),
            (0x02, Some(sense)) => {
                return self
                    .judge_sense(seat, task, &sense)
                    .or_else(|why| wrong("B11", &why));
            }
            _ => return wrong("B11", "a status that nothing explains"),
        }
        // GOOD.
        let Some(op_kind) = task.op.map(|_| task.kind) else {
            return Ok(());
        };
        if task.said != Some(Said::Good) && !(op_kind == Kind::Read && task.wanted == 0) {
            return wrong("P2", "it is called good");
        }
        let unit = self.config.geometry.block_bytes;
        let answered = task.answered;
        if task.epoch != self.seats[seat].epoch {
            // The attachment's history was left meanwhile.
            return Ok(());
        }
        let Some(history) = self.seats[seat].history.as_mut() else {
            return wrong("P1", "there is no history");
        };
        match op_kind {
            Kind::Read => {
                let limit = task.wanted.min(task.expected);
                if task.read.len() as u32 != limit {
                    return wrong("W1", "not all of it came");
                }
                let stamps = recognise(unit, &task.read);
                let extent = Extent::new(task.extents[0].start.0, stamps.len() as u64);
                let floors = &task.floors[..stamps.len()];
                history.check_read(extent, floors, &stamps)?;
                if task.fua {
                    return history.check_claim(answered);
                }
                Ok(())
            }
            Kind::Flush => history.check_claim(answered),
            Kind::Write | Kind::CompareAndWrite | Kind::WriteZeroes | Kind::Discard => {
                let fua = task.fua && matches!(op_kind, Kind::Write | Kind::CompareAndWrite);
                history.check_heard(&task.seqs, fua)
            }
            Kind::Wrong => wrong("B11", "it should be refused"),
            Kind::Attribute => Ok(()),
        }
    }

    fn judge_sense(&mut self, seat: usize, task: &Task, sense: &Sense) -> Result<(), String> {
        let unit = u64::from(self.config.geometry.block_bytes);
        let fits = match (sense.key, sense.code) {
            // Held against what is due before.
            (6, POWER_ON | RESET | CLEARED | PREEMPTED | RELEASED | UNREGISTERED) => {
                task.said.is_none()
            }
            // Nothing was asked of the volume.
            (5, 0x2100) => task.kind == Kind::Wrong && task.said.is_none(),
            (0xb, 0x4705) => task.is_damaged && task.said.is_none(),
            (0xe, 0x1d00) => {
                let Some(Said::Miscompare(at)) = task.said else {
                    return Err("nothing miscompared".into());
                };
                let block = at / unit;
                let history = self.seats[seat].history.as_ref();
                let differs = history.is_some_and(|h| {
                    (block as usize) < task.expect.len()
                        && h.may_differ(
                            task.extents[0].start.0 + block,
                            task.floors[block as usize],
                            task.expect[block as usize],
                        )
                });
                sense.information == Some(at as u32) && differs
            }
            (3, 0x1100) => matches!(task.said, Some(Said::Failed(Failure::Damaged { at }))
                    if sense.information == Some(at.0 as u32)),
            (2, 0x0403) => task.said == Some(Said::Failed(Failure::Fenced)),
            (4, 0x4400) => task.said == Some(Said::Failed(Failure::Hardware)),
            (7, 0x2700) => task.said == Some(Said::Failed(Failure::ReadOnly)),
            _ => false,
        };
        if fits {
            Ok(())
        } else {
            Err("the sense has no reason".into())
        }
    }

    /// The guest of a task goes on.
    fn ended(&mut self, seat: usize, conn: u32, n: usize, task: &Task, end: &End) {
        if let Some(op) = task.op {
            self.trace.operations += 1;
            let life = self.seats[seat].life;
            if end.status == 0 {
                self.think(seat, task.slot, op);
            } else {
                let slot = task.slot;
                self.after(5 * MS, Event::Guest { seat, life, slot });
            }
        }
        let is_open = self.peer_of(seat, conn).is_some_and(|p| p.has_window());
        if is_open {
            self.unpark_initiator(seat, n);
        }
    }

    /// The guest of a task that will never be answered goes on.
    pub(crate) fn unanswered(&mut self, seat: usize, task: &Task) {
        if let Some(op) = task.op {
            self.trace.operations += 1;
            self.think(seat, task.slot, op);
        }
    }

    /// Another session's function, or one of its own, has ended all tasks of this one that were sent before: the attention
    /// says so.
    fn cleared(&mut self, seat: usize, conn: u32, before: u64) {
        let Some(peer) = self.peer_of(seat, conn) else {
            return;
        };
        if peer.is_blurred || peer.is_damaged {
            // It may have been held by a command that was aborted meanwhile: those behind that one live.
            return;
        }
        let over: BTreeSet<u32> = (peer.tasks.iter())
            .filter(|(_, t)| t.order < before)
            .map(|(itt, _)| *itt)
            .collect();
        let tasks: Vec<Task> = over
            .iter()
            .filter_map(|itt| peer.tasks.remove(itt))
            .collect();
        for task in tasks {
            self.unanswered(seat, &task);
        }
    }

    /// The initiator is through with a connection.
    pub(crate) fn lose(&mut self, seat: usize, conn: u32) {
        let front = self.front(seat);
        let Some(c) = front.conns.get_mut(&conn) else {
            return;
        };
        let Some(mut peer) = c.peer.take() else {
            return;
        };
        let has_link = c.has_link();
        let n = peer.initiator;
        peer.phase = Phase::Over;
        front.initiators[n].conn = None;
        let tasks: Vec<Task> = peer.tasks.values().cloned().collect();
        if has_link {
            front.lost.insert(conn, peer);
        } else {
            front.conns.remove(&conn);
        }
        for task in tasks {
            self.unanswered(seat, &task);
        }
        self.cut_off(seat, conn, true, MS);
        let parked = self.front(seat).is_awaited(n);
        let is_open = self.front(seat).is_open();
        if parked {
            // At once when it broke; a closed gate is asked now and then, and opens with a call.
            let wait = if is_open { MS } else { 2000 * MS };
            self.connect_later(seat, n, wait);
        }
    }
}

/// Whether a volume's command is what this task asks for next.
pub(super) fn is_of(task: &Task, command: &Command<Blocks>) -> bool {
    if task.is_under_way {
        return false;
    }
    let is_fresh = task.said.is_none();
    let first = task.extents.first();
    let writes = |data: &Blocks| {
        let wanted = first.is_some_and(|e| e.count.0 * u64::from(data.unit()) == data.len().0);
        wanted && data.stamps().all(|s| s.write == task.write)
    };
    match command {
        Command::Read(at) => {
            let flushed = task.fua && task.said == Some(Said::Good);
            task.kind == Kind::Read && first == Some(at) && (is_fresh != task.fua || flushed)
        }
        Command::Flush => {
            is_fresh && (task.kind == Kind::Flush || task.kind == Kind::Read && task.fua)
        }
        Command::Write { at, data, fua, .. } => {
            is_fresh
                && task.kind == Kind::Write
                && first == Some(at)
                && *fua == task.fua
                && writes(data)
        }
        Command::CompareAndWrite {
            at,
            data,
            fua,
            expect,
            ..
        } => {
            is_fresh
                && task.kind == Kind::CompareAndWrite
                && first == Some(at)
                && *fua == task.fua
                && writes(data)
                && expect.stamps().eq(task.expect.iter().copied())
        }
        Command::WriteZeroes { at, fua } => {
            is_fresh && task.kind == Kind::WriteZeroes && first == Some(at) && !fua
        }
        Command::Discard(extents) => {
            is_fresh && task.kind == Kind::Discard && merged(&task.extents) == extents.as_slice()
        }
        Command::PutAttribute { .. } => false,
    }
}
