//! Initiators reserve their unit, and what each hears is held against what they know (`reserve.rs`).

use super::attention::Attentions;
use super::peer::Phase;
use super::reserve::{Act, Due, Nexus, PREEMPTED, RELEASED, Registry, UNREGISTERED};
use super::task::{Command, End, Shape, Task};
use crate::choice::Die;
use crate::oracle::{Checked, Violation};
use crate::workload::Kind;
use crate::world::{SEC, World};

/// A command of a connection that is lost may still be carried out for so long: until the target has noticed.
const LATE: u64 = 31 * SEC;

const CONFLICT: u8 = 0x18;

impl World {
    /// Now and then an initiator changes a reservation, if nobody else is about to.
    pub(super) fn reserve(&mut self, seat: usize, conn: u32, op: u64) {
        let is_on = self.iscsi().is_some_and(|iscsi| iscsi.reserves);
        if !is_on || !self.chaos() || op % 8 != 3 {
            return;
        }
        self.settle_reserve(seat);
        let now = self.now;
        let Some(peer) = self.peer_of(seat, conn) else {
            return;
        };
        let nexus = (peer.initiator, peer.isid);
        let takes = peer.phase == Phase::Full && peer.has_window();
        let reserves = &self.front(seat).reserves;
        if !takes || reserves.pending.is_some() {
            return;
        }
        let act = match reserves.unknown_since {
            Some(since) if now < since + LATE => return,
            Some(_) => anew(nexus, reserves.registers == Some(nexus)),
            None => {
                let registry = reserves.registry.clone();
                self.draw_act(op, nexus, &registry)
            }
        };
        self.trace.tell(now, || {
            format!("seat {seat} connection {conn} sends {act:?}")
        });
        let mut task = Task::new(Kind::Attribute, Vec::new(), Shape::default(), 0);
        task.reserve = Some(act);
        let list = act.list();
        let command = Command {
            cdb: act.cdb(),
            reads: false,
            writes: true,
            wanted: list.len() as u32,
            out: list,
        };
        let Some(peer) = self.peer_of(seat, conn) else {
            return;
        };
        let itt = peer.command(task, command, now);
        let front = self.front(seat);
        front.reserves.pending = Some((conn, itt, act));
        front.reserves.version += 1;
        if act.action == 5 {
            front.cleared_at = now;
        }
        let others = front.initiators.iter_mut().enumerate();
        for (_, initiator) in others.filter(|(n, _)| *n != nexus.0) {
            [PREEMPTED, RELEASED, UNREGISTERED]
                .into_iter()
                .for_each(|code| initiator.attentions.may_come(code));
        }
    }

    fn draw_act(&mut self, op: u64, nexus: Nexus, registry: &Registry) -> Act {
        let mut pick = |nth: u32, of: u64| self.choices.pick(Die::Op, op, 3000 + nth, of);
        let own = registry.keys.get(&nexus).copied();
        let held = registry.held.map(|(_, kind)| kind);
        let drawn = [1, 3, 5, 6, 7, 8][pick(0, 6) as usize];
        let kind = held.filter(|_| pick(1, 3) < 2).unwrap_or(drawn);
        let key_of_another = {
            let others = registry.keys.iter().filter(|(n, _)| **n != nexus);
            let others: Vec<u64> = others.map(|(_, key)| *key).collect();
            others.get(pick(2, others.len() as u64) as usize).copied()
        };
        let named = nexus.0 as u64 + 1;
        let is_wrong = pick(3, 12) == 11;
        let key = own.unwrap_or(0) ^ if is_wrong { 0x55 } else { 0 };
        let (action, action_key) = match own {
            None if pick(4, 6) < 5 => ([0, 6][pick(5, 2) as usize], named),
            _ => match pick(6, 16) {
                0..5 => (1, 0),
                5..7 => (2, 0),
                7 => (3, 0),
                8..10 => (4, key_of_another.unwrap_or(0x77)),
                10..13 => (5, key_of_another.unwrap_or(0x77)),
                13 => (5, 0),
                14 => (0, 0),
                _ => (6, named),
            },
        };
        // Their own key under another ISID is no one to preempt: which of both is meant is a matter of its own.
        let action = match action {
            4 | 5 if Some(action_key) == own => 1,
            action => action,
        };
        Act {
            nexus,
            action,
            kind,
            key,
            action_key,
        }
    }

    /// One that will never be answered leaves everybody in doubt.
    fn settle_reserve(&mut self, seat: usize) {
        let now = self.now;
        let front = self.front(seat);
        let Some((conn, itt, act)) = front.reserves.pending else {
            return;
        };
        let peer = front.conns.get(&conn).and_then(|c| c.peer.as_ref());
        if !peer.is_some_and(|peer| peer.tasks.contains_key(&itt)) {
            if act.action == 5 {
                front.cleared_at = now + LATE;
            }
            front.reserves.pending = None;
            front.reserves.version += 1;
            front.reserves.unknown_since = Some(now);
            front.reserves.registers = None;
        }
    }

    /// A PERSISTENT RESERVE OUT is answered.
    pub(super) fn reserve_ended(
        &mut self,
        seat: usize,
        act: &Act,
        task: &Task,
        end: &End,
    ) -> Checked {
        let now = self.now;
        let front = self.front(seat);
        if !front.reserves.pending.is_some_and(|(.., p)| p == *act) {
            return Ok(());
        }
        front.reserves.pending = None;
        front.reserves.version += 1;
        let is_good = end.status == 0;
        if act.action == 5 {
            front.cleared_at = now;
        }
        if end.status == 2 && end.sense.is_some_and(|s| matches!(s.key, 6 | 0xb)) {
            // An attention came first, or its data was damaged: nothing was done.
            return Ok(());
        }
        if front.reserves.unknown_since.is_some() {
            match (is_good, act.action) {
                (true, 6) => front.reserves.registers = Some(act.nexus),
                (true, 3) => {
                    front.reserves.unknown_since = None;
                    front.reserves.registry = Registry::default();
                }
                _ => front.reserves.registers = None,
            }
            return Ok(());
        }
        let mut next = front.reserves.registry.clone();
        let due = next.act(act);
        let fits = match &due {
            Due::Good(_) => is_good,
            Due::Conflict => end.status == CONFLICT,
            Due::Check(code) => {
                end.status == 2 && end.sense.is_some_and(|s| (s.key, s.code) == (5, *code))
            }
        };
        if !fits {
            let text = format!("{act:?} ends with {end:?}; {due:?} is due");
            return Err(Violation::new("B11", text));
        }
        let Due::Good(told) = due else {
            return Ok(());
        };
        front.reserves.registry = next;
        self.tell_of_reserve(seat, &told, task.sent_at);
        if act.action == 5 {
            let out: Vec<Nexus> = told
                .iter()
                .filter(|(_, c)| *c == UNREGISTERED)
                .map(|(n, _)| *n)
                .collect();
            return self.preempted(seat, &out, task.sent_at);
        }
        Ok(())
    }

    fn tell_of_reserve(&mut self, seat: usize, told: &[(Nexus, u16)], sent_at: u64) {
        let now = self.now;
        let front = self.front(seat);
        for ((n, isid), code) in told {
            let conn = front.initiators[*n].conn;
            let peer = conn.and_then(|c| front.conns.get(&c)?.peer.as_ref());
            let is_it = peer.is_some_and(|p| p.isid == *isid && p.phase == Phase::Full);
            let initiator = &mut front.initiators[*n];
            if is_it && initiator.logged_in_at < sent_at {
                let attentions: &mut Attentions = &mut initiator.attentions;
                attentions.is_there(*code, sent_at, now);
            }
        }
    }

    /// B8: who was preempted has nothing under way any more that was there before, and nothing of it comes.
    fn preempted(&mut self, seat: usize, out: &[Nexus], sent_at: u64) -> Checked {
        let front = self.front(seat);
        let live = front
            .conns
            .iter()
            .filter_map(|(c, conn)| Some((*c, conn.peer.as_ref()?)));
        let lost = front.lost.iter().map(|(c, peer)| (*c, peer));
        let conns: Vec<u32> = live
            .chain(lost)
            .filter(|(_, peer)| out.contains(&(peer.initiator, peer.isid)))
            .map(|(conn, _)| conn)
            .collect();
        for conn in &conns {
            front.reserves.over.insert(*conn, sent_at);
        }
        let asked = self.seats[seat].asked.values();
        let mut still = asked.filter(|a| a.at < sent_at);
        match still.find(|a| a.wire.is_some_and(|(conn, _)| conns.contains(&conn))) {
            Some(asked) => {
                let text = format!(
                    "an initiator is preempted, and the volume still works on its {:?} {:?}",
                    asked.kind, asked.extents
                );
                Err(Violation::new("B8", text))
            }
            None => Ok(()),
        }
    }

    /// A session asks its volume for a task: not for one that a preemption has ended.
    pub(super) fn is_preempted(
        &mut self,
        seat: usize,
        conn: u32,
        kind: Kind,
        sent_at: u64,
    ) -> Checked {
        let over = self.front(seat).reserves.over.get(&conn);
        if over.is_some_and(|at| sent_at < *at) && writes(kind) {
            let text = format!("a {kind:?} of a preempted initiator reaches the volume");
            return Err(Violation::new("B8", text));
        }
        Ok(())
    }

    /// Whether a task was let through, or refused, as it was due. `Some`: it was refused, and that is all there is to say.
    pub(super) fn reserved(
        &mut self,
        seat: usize,
        conn: u32,
        task: &Task,
        end: &End,
    ) -> Option<Checked> {
        if !self.iscsi().is_some_and(|iscsi| iscsi.reserves) || task.kind == Kind::Attribute {
            return None;
        }
        self.settle_reserve(seat);
        let peer = self.peer_of(seat, conn)?;
        let nexus = (peer.initiator, peer.isid);
        let reserves = &self.front(seat).reserves;
        let is_known = reserves.unknown_since.is_none()
            && reserves.pending.is_none()
            && reserves.version == task.reserve_version;
        let may = reserves.registry.allows(nexus, writes(task.kind));
        let first = end.sense.is_some_and(|s| matches!(s.key, 6 | 0xb));
        let wrong = |what: &str| {
            let text = format!(
                "a {:?} of {nexus:?} is {what}: {:?}",
                task.kind, reserves.registry
            );
            Err(Violation::new("B11", text))
        };
        match end.status {
            CONFLICT if is_known && may => Some(wrong("refused for a reservation")),
            CONFLICT => Some(Ok(())),
            _ if is_known && !may && !first => Some(wrong("let through")),
            _ => None,
        }
    }
}

/// When nobody knows what holds: who registers, whatever there was, may clear.
const fn anew(nexus: Nexus, is_registered: bool) -> Act {
    let named = nexus.0 as u64 + 1;
    let (action, key, action_key) = if is_registered {
        (3, named, 0)
    } else {
        (6, 0, named)
    };
    Act {
        nexus,
        action,
        kind: 0,
        key,
        action_key,
    }
}

const fn writes(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Write | Kind::CompareAndWrite | Kind::Discard | Kind::WriteZeroes | Kind::Flush
    )
}
