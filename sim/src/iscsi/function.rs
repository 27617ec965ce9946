//! What ends tasks before they are answered: aborts, resets, logouts, broken wires. And property B8: after the answer to
//! what ended a task no effect of it follows.

use super::attention::{CLEARED, RESET};
use super::peer::{Asked, Function, Phase};
use super::task::Task;
use super::{Front, ping_data};
use crate::choice::Die;
use crate::oracle::{Checked, Violation};
use crate::world::{Event, MS, SEC, World};

/// A task without an answer for so long is aborted; after twice that the session is left.
const PATIENCE: u64 = 60 * SEC;

impl Front {
    /// Whether guests wait for that initiator.
    pub(super) fn is_awaited(&self, n: usize) -> bool {
        !self.initiators[n].parked.is_empty()
    }

    /// Whether a function is on its way that ends the tasks of all sessions.
    fn may_clear(&self) -> bool {
        let live = self.conns.values().filter_map(|c| c.peer.as_ref());
        let mut peers = live.chain(self.lost.values());
        let preempts = self
            .reserves
            .pending
            .is_some_and(|(.., act)| act.action == 5);
        preempts || peers.any(|p| p.functions.values().any(|f| f.function.clears()))
    }

    /// Whether its target lets initiators in now.
    pub(super) fn lets_in(&self) -> bool {
        let gate = self.portal.as_ref().map(|p| p.target.gate());
        gate == Some(engine::effect::Gate::Open)
    }

    /// Whether its volume lets initiators in.
    pub(super) fn is_open(&self) -> bool {
        self.gate == Some(engine::effect::Gate::Open)
    }
}

impl super::Conn {
    /// Whether the target's side still lives.
    pub(super) const fn has_link(&self) -> bool {
        self.link.is_some()
    }
}

impl World {
    /// What befalls the wire around an operation.
    pub(crate) fn befall(&mut self, seat: usize, conn: u32, op: u64) {
        let Some(iscsi) = self.config.iscsi.clone() else {
            return;
        };
        if self.strikes(Die::Link, op, iscsi.breaks) {
            let at = self.choices.pick(Die::Link, op, 2, 6000);
            // Half of them near the front, where the headers are.
            let at = if self.choices.pick(Die::Link, op, 3, 2) == 0 {
                at % 200
            } else {
                at
            };
            let silent = self.choices.pick(Die::Link, op, 4, 3) == 2;
            let inward = self.choices.pick(Die::Link, op, 5, 2) == 0;
            if let Some(c) = self.front(seat).conns.get_mut(&conn) {
                let pipe = if inward {
                    &mut c.inward
                } else {
                    &mut c.outward
                };
                pipe.break_after = Some((at, silent));
            }
        }
        if self.strikes(Die::SlowReader, op, iscsi.stalls) {
            let long = [MS, 50 * MS, SEC, 20 * SEC];
            let until = self.now + long[self.choices.pick(Die::SlowReader, op, 1, 4) as usize];
            if let Some(c) = self.front(seat).conns.get_mut(&conn) {
                c.outward.deaf_until = until;
            }
        }
        let digests = self
            .peer_of(seat, conn)
            .map(|p| p.agreed.digests)
            .unwrap_or_default();
        if digests.header && digests.data && self.strikes(Die::Flip, op, iscsi.flips) {
            let at = self.choices.pick(Die::Flip, op, 1, 1 << 20);
            let inward = self.choices.pick(Die::Flip, op, 2, 2) == 0;
            if let Some(c) = self.front(seat).conns.get_mut(&conn) {
                let pipe = if inward {
                    &mut c.inward
                } else {
                    &mut c.outward
                };
                pipe.flip = Some(at);
            }
            if let Some(peer) = self.peer_of(seat, conn) {
                peer.is_damaged = true;
                peer.tasks.values_mut().for_each(|t| t.is_damaged = true);
            }
        }
        if op % 64 == 5
            && let Some(peer) = self.peer_of(seat, conn)
        {
            peer.ping(&ping_data(op));
        }
    }

    /// An initiator ends tasks, or its session.
    pub(crate) fn function(&mut self, seat: usize, conn: u32, itt: u32, op: u64) {
        let now = self.now;
        let Some(peer) = self.peer_of(seat, conn) else {
            return;
        };
        let is_there = peer.tasks.contains_key(&itt);
        // Now and then what is answered already is aborted, too.
        if peer.phase != Phase::Full
            || !is_there && self.choices.pick(Die::Abort, op, 3, 8) < 7
            || !self.chaos()
        {
            return;
        }
        self.trace.fault(Die::Abort, op);
        let weights = [20, 4, 3, 4, 1, 1, 2, 4];
        let which = self.choices.weighted(Die::Abort, op, 2, &weights);
        let function = match which {
            0 => Function::AbortTask,
            1 => Function::AbortTaskSet,
            2 => Function::ClearTaskSet,
            3 => Function::LogicalUnitReset,
            4 => Function::TargetWarmReset,
            5 => Function::TargetColdReset,
            6 => {
                self.trace
                    .tell(now, || format!("seat {seat} connection {conn} logs out"));
                if let Some(peer) = self.peer_of(seat, conn) {
                    peer.log_out();
                }
                return self.flush(seat, conn);
            }
            _ => return self.snap(seat, conn, op.is_multiple_of(2)),
        };
        self.manage(seat, conn, function, itt);
    }

    fn manage(&mut self, seat: usize, conn: u32, function: Function, itt: u32) {
        let now = self.now;
        self.trace.tell(now, || {
            format!("seat {seat} connection {conn} asks {function:?} (task {itt:x})")
        });
        let Some(peer) = self.peer_of(seat, conn) else {
            return;
        };
        let n = peer.initiator;
        let referenced = (function == Function::AbortTask).then_some(itt);
        peer.manage(function, referenced, now);
        let code = match function {
            Function::AbortTask | Function::AbortTaskSet => None,
            Function::ClearTaskSet => Some(CLEARED),
            _ => Some(RESET),
        };
        if let Some(code) = code {
            let front = self.front(seat);
            front.cleared_at = now;
            for (i, initiator) in front.initiators.iter_mut().enumerate() {
                // Who clears the task set knows.
                if code == RESET || i != n {
                    initiator.attentions.may_come(code);
                }
            }
        }
        self.flush(seat, conn);
    }

    /// A function is answered.
    pub(crate) fn managed(
        &mut self,
        seat: usize,
        conn: u32,
        n: usize,
        asked: &Asked,
        outcome: u8,
        over: Vec<Task>,
    ) {
        let now = self.now;
        let front = self.front(seat);
        if asked.function.clears() {
            front.cleared_at = now;
        }
        let cleared_at = front.cleared_at;
        let may_clear = front.may_clear();
        match (outcome, asked.function) {
            (0, _) => {}
            // It does not exist: it was answered before, or another function took it.
            (1, Function::AbortTask) => {
                let left = over.iter().find(|t| t.sent_at > cleared_at);
                if let Some(task) = left.filter(|_| asked.is_first && !may_clear) {
                    let text = format!(
                        "{:?} {:?} was never answered, and does not exist",
                        task.kind, task.extents
                    );
                    return self.misuse("R2", text);
                }
            }
            (outcome, function) => {
                let text = format!("{function:?} is answered with {outcome}");
                return self.misuse("W1", text);
            }
        }
        self.front(seat).initiators[n].attentions.postpone(now);
        for task in &over {
            self.unanswered(seat, task);
        }
        if outcome == 0 {
            let checked = self.bury(seat, over.into_iter());
            self.check(checked);
        }
        let code = match asked.function {
            Function::AbortTask | Function::AbortTaskSet => return,
            Function::ClearTaskSet => CLEARED,
            _ => RESET,
        };
        let checked = self.all_cleared(seat, asked);
        self.check(checked);
        let front = self.front(seat);
        for (i, initiator) in front.initiators.iter_mut().enumerate() {
            let began_before = initiator.logged_in_at < asked.sent_at;
            if (code == RESET || i != n) && initiator.conn.is_some() && began_before {
                initiator.attentions.is_there(code, asked.sent_at, now);
            }
        }
        let _ = conn;
    }

    /// B8: these tasks are over. The volume does not work for them, and will not: what they wrote is there or never will be.
    pub(crate) fn bury(&mut self, seat: usize, tasks: impl Iterator<Item = Task>) -> Checked {
        for task in tasks {
            if task.is_under_way {
                let text = format!(
                    "{:?} {:?} (write {}) is over, and the volume still works on it",
                    task.kind, task.extents, task.write
                );
                return Err(Violation::new("B8", text));
            }
            let s = &mut self.seats[seat];
            if let Some(history) = s.history.as_mut()
                && task.epoch == s.epoch
            {
                history.settle(&task.seqs);
            }
            s.buried.insert(task.write);
        }
        Ok(())
    }

    /// B8 across sessions: what the volume had been given before a reset was sent is over when the reset is answered.
    fn all_cleared(&mut self, seat: usize, asked: &Asked) -> Checked {
        let s = &self.seats[seat];
        let still = s
            .asked
            .values()
            .find(|a| a.wire.is_some() && a.at < asked.sent_at);
        if let Some(command) = still {
            let text = format!(
                "{:?} is answered, and the volume still works on {:?} {:?} of before",
                asked.function, command.kind, command.extents
            );
            return Err(Violation::new("B8", text));
        }
        Ok(())
    }

    /// Looks after a session's tasks now and then, as long as it has some.
    pub(crate) fn watch(&mut self, seat: usize, conn: u32) {
        let life = self.seats[seat].life;
        let Some(peer) = self.peer_of(seat, conn) else {
            return;
        };
        if std::mem::replace(&mut peer.is_watched, true) {
            return;
        }
        self.after(PATIENCE / 2, Event::Watch { seat, life, conn });
    }

    /// Aborts what waits for too long; leaves a session that does not answer at all.
    pub(crate) fn watched(&mut self, seat: usize, conn: u32) {
        let now = self.now;
        let Some(peer) = self.peer_of(seat, conn) else {
            return;
        };
        peer.is_watched = false;
        if peer.tasks.is_empty() && peer.functions.is_empty() {
            return;
        }
        let asked = peer.functions.values().map(|f| f.sent_at);
        let sent = peer.tasks.values().map(|t| t.sent_at);
        let oldest = sent.chain(asked).min().unwrap_or(now);
        let late: Vec<u32> = (peer.tasks.iter())
            .filter(|(_, t)| t.sent_at + PATIENCE < now && !t.is_taken_back)
            .map(|(itt, _)| *itt)
            .collect();
        if oldest + 2 * PATIENCE < now {
            self.snap(seat, conn, false);
            return;
        }
        for itt in late {
            self.manage(seat, conn, Function::AbortTask, itt);
        }
        self.watch(seat, conn);
    }
}
