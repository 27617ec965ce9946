//! Guests at the door: what is let in, what waits, and the one place that answers.

mod accept;
mod leave;

use super::Volume;
use crate::command::{Command, Failure, Reply};
use crate::effect::Effect;
use crate::ids::{Seq, Tag};
use crate::journal::record::{
    ATTRIBUTE_KEY_MAX, ATTRIBUTE_VALUE_MAX, RECORD_EXTENTS_MAX, RecordBody,
};
use crate::layers::split;
use crate::payload::{Parts, Payload};
use crate::time::Instant;
use crate::units::{Extent, Geometry, RECORD_BYTES_MAX};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use smallvec::SmallVec;

/// A write that is being accepted: its records, in LBA order.
#[derive(Debug)]
pub(super) struct Writing<P> {
    pub(super) tag: Tag,
    pub(super) records: VecDeque<(RecordBody, Parts<P>)>,
    pub(super) fua: bool,
    /// First seq assigned, once one is.
    pub(super) first: Option<Seq>,
    /// The lock that a compare-and-write holds until its record has a seq.
    pub(super) caw: Option<u64>,
}

/// An accepted write that is answered when its last record is applied.
#[derive(Clone, Copy, Debug)]
struct Ack {
    first: Seq,
    last: Seq,
    tag: Tag,
    fua: bool,
}

/// A compare-and-write under way: its extent is locked against other writes.
#[derive(Debug)]
pub(super) struct Caw<P> {
    pub(super) tag: Tag,
    pub(super) at: Extent,
    pub(super) expect: P,
    pub(super) records: VecDeque<(RecordBody, Parts<P>)>,
    pub(super) fua: bool,
    /// The compare begins when everything up to here is applied; known once no overlapping write waits for room before it.
    pub(super) after: Option<Seq>,
    pub(super) began: bool,
}

/// Commands that wait, and accepted ones that are not answered yet.
#[derive(Debug)]
pub(crate) struct Guests<P> {
    /// Not served yet (opening, attaching, gate), or behind a lock: entered again in order.
    parked: VecDeque<(Tag, Command<P>)>,
    /// Behind the lock of a compare-and-write.
    behind: VecDeque<(Tag, Command<P>)>,
    /// Writes without room, in order.
    held: VecDeque<Writing<P>>,
    caws: BTreeMap<u64, Caw<P>>,
    next_caw: u64,
    acks: VecDeque<Ack>,
    voided: BTreeSet<Seq>,
    /// Answered when durable: targets never fall.
    durable: VecDeque<(Seq, Tag)>,
    /// Answered when stored (`flush = store`): targets never fall.
    stored: VecDeque<(Seq, Tag)>,
    /// Good answers that were ready while nobody knew whether the volume is still ours: they leave when it is, and fail when
    /// it is not.
    withheld: VecDeque<(Tag, Reply<P>)>,
    /// The operator knows that the journal is full; until a held write finds room.
    told_full: bool,
    deadlines: BTreeSet<(Instant, Tag)>,
    deadline_of: BTreeMap<Tag, Instant>,
}

impl<P> Default for Guests<P> {
    fn default() -> Self {
        Self {
            parked: VecDeque::new(),
            behind: VecDeque::new(),
            held: VecDeque::new(),
            caws: BTreeMap::new(),
            next_caw: 0,
            acks: VecDeque::new(),
            voided: BTreeSet::new(),
            durable: VecDeque::new(),
            stored: VecDeque::new(),
            withheld: VecDeque::new(),
            told_full: false,
            deadlines: BTreeSet::new(),
            deadline_of: BTreeMap::new(),
        }
    }
}

impl<P: Payload> Guests<P> {
    /// Commands in flight, reads apart.
    pub(crate) fn under_way(&self) -> u32 {
        (self.parked.len()
            + self.behind.len()
            + self.held.len()
            + self.caws.len()
            + self.acks.len()
            + self.durable.len()
            + self.stored.len()
            + self.withheld.len()) as u32
    }

    /// Bytes that commands without a seq carry or ask for, and that wait to be answered. Reads under way are counted
    /// elsewhere.
    pub(crate) fn waiting_bytes(&self, geometry: Option<Geometry>) -> u64 {
        let asked = |extent: &Extent| geometry.map_or(0, |g| g.bytes(extent.count).0);
        let commands = self.parked.iter().chain(&self.behind);
        let commands = commands.map(|(_, command)| match command {
            Command::Read(extent) => asked(extent),
            Command::Write { data, .. } => data.len().0,
            Command::CompareAndWrite { expect, data, .. } => expect.len().0 + data.len().0,
            _ => 0,
        });
        let of = |records: &VecDeque<(RecordBody, Parts<P>)>| {
            records.iter().map(|(_, data)| data.len().0).sum::<u64>()
        };
        let held = self.held.iter().map(|writing| of(&writing.records));
        let caws = self
            .caws
            .values()
            .map(|caw| caw.expect.len().0 + of(&caw.records));
        let withheld = self.withheld.iter().map(|(_, reply)| match reply {
            Reply::Read(parts) => parts.len().0,
            _ => 0,
        });
        commands.chain(held).chain(caws).chain(withheld).sum()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The highest seq that a flush waits for in the store.
    pub(crate) fn stored_wanted(&self) -> Option<Seq> {
        self.stored.back().map(|(seq, _)| *seq)
    }

    /// The command waits: it is answered BUSY at `at` unless something comes first.
    pub(super) fn set_deadline(&mut self, tag: Tag, at: Instant) {
        if self.deadline_of.contains_key(&tag) {
            return;
        }
        self.deadline_of.insert(tag, at);
        self.deadlines.insert((at, tag));
    }

    fn clear_deadline(&mut self, tag: Tag) {
        if let Some(at) = self.deadline_of.remove(&tag) {
            self.deadlines.remove(&(at, tag));
        }
    }
}

impl<P: Payload> Volume<P> {
    /// Answers a guest: the one door through which a success leaves.
    pub(super) fn answer(&mut self, tag: Tag, reply: Reply<P>) {
        if self.is_in_doubt() && !matches!(reply, Reply::Busy | Reply::Failed(_)) {
            mark!("answer-withheld");
            self.wait_bounded(tag);
            self.guest.withheld.push_back((tag, reply));
            return;
        }
        self.guest.clear_deadline(tag);
        if let Reply::Done { durable } = &reply {
            debug_assert!(
                *durable <= self.journal.durable(),
                "a good reply names what is durable"
            );
        }
        if matches!(reply, Reply::Busy) {
            self.answered_busy();
        }
        self.out.push(Effect::Reply(tag, reply));
    }

    fn answer_done(&mut self, tag: Tag) {
        let durable = self.journal.durable();
        self.answer(tag, Reply::Done { durable });
    }

    /// The command waits for room, the store or a lock; it is answered BUSY after `busy_after`.
    pub(super) fn wait_bounded(&mut self, tag: Tag) {
        let at = self.now + self.limits.busy_after;
        self.guest.set_deadline(tag, at);
    }

    pub(super) fn guest_command(&mut self, tag: Tag, command: Command<P>) {
        if let Some(failure) = self.refusal() {
            return self.answer(tag, Reply::Failed(failure));
        }
        if !self.is_serving() {
            self.wait_bounded(tag);
            self.guest.parked.push_back((tag, command));
            return;
        }
        if let Some(failure) = self.invalid(&command) {
            return self.answer(tag, Reply::Failed(failure));
        }
        if self.is_behind_lock(&command) {
            self.wait_bounded(tag);
            self.guest.behind.push_back((tag, command));
            return;
        }
        match command {
            Command::Read(extent) => self.read_guest(tag, extent),
            Command::Write {
                at,
                data,
                sums,
                fua,
            } => {
                let records = self.write_records(at, data, &sums);
                self.write_begin(tag, records, fua, None);
            }
            Command::Discard(extents) => {
                self.write_begin(
                    tag,
                    VecDeque::from([(RecordBody::Holes(extents), Parts::default())]),
                    false,
                    None,
                );
            }
            Command::WriteZeroes { at, fua } => {
                let body = RecordBody::Holes(SmallVec::from_elem(at, 1));
                self.write_begin(tag, VecDeque::from([(body, Parts::default())]), fua, None);
            }
            Command::CompareAndWrite {
                at,
                expect,
                data,
                sums,
                fua,
            } => {
                let records = self.write_records(at, data, &sums);
                let caw = self.guest.next_caw;
                self.guest.next_caw += 1;
                self.guest.caws.insert(
                    caw,
                    Caw {
                        tag,
                        at,
                        expect,
                        records,
                        fua,
                        after: None,
                        began: false,
                    },
                );
                self.wait_bounded(tag);
                self.caw_step();
            }
            Command::Flush => self.flush(tag),
            Command::PutAttribute { key, value } => {
                let body = RecordBody::Attribute { key, value };
                self.write_begin(tag, VecDeque::from([(body, Parts::default())]), true, None);
            }
        }
    }

    /// Why no command is taken at all.
    fn refusal(&self) -> Option<Failure> {
        self.own.refusal()
    }

    fn invalid(&self, command: &Command<P>) -> Option<Failure> {
        let geometry = self.geometry?;
        let outside = |extent: &Extent| {
            extent.is_empty()
                || extent
                    .start
                    .0
                    .checked_add(extent.count.0)
                    .is_none_or(|end| end > geometry.capacity.0)
        };
        let read_only = self.own.is_reader() || self.journal.is_read_only();
        let failure = |bad: bool, failure| bad.then_some(failure);
        match command {
            Command::Read(at) => failure(outside(at), Failure::OutOfRange),
            Command::Flush => None,
            _ if read_only => Some(Failure::ReadOnly),
            Command::Write { at, data, sums, .. } => failure(outside(at), Failure::OutOfRange)
                .or_else(|| {
                    let whole = data.len() == geometry.bytes(at.count);
                    failure(
                        !whole || sums.len() != split::pieces(&geometry, *at).count(),
                        Failure::Invalid,
                    )
                }),
            Command::WriteZeroes { at, .. } => failure(outside(at), Failure::OutOfRange),
            Command::Discard(extents) => {
                let bad = extents.is_empty() || extents.len() > RECORD_EXTENTS_MAX;
                failure(bad, Failure::Invalid)
                    .or_else(|| failure(extents.iter().any(outside), Failure::OutOfRange))
            }
            Command::CompareAndWrite {
                at,
                expect,
                data,
                sums,
                ..
            } => failure(outside(at), Failure::OutOfRange).or_else(|| {
                let bytes = geometry.bytes(at.count);
                let bad = bytes.0
                    > u64::from(RECORD_BYTES_MAX.min(self.journal.record_bytes_max()))
                    || data.len() != bytes
                    || expect.len() != bytes
                    || sums.len() != split::pieces(&geometry, *at).count();
                failure(bad, Failure::Invalid)
            }),
            Command::PutAttribute { key, value } => {
                let bad = key.is_empty()
                    || key.len() > ATTRIBUTE_KEY_MAX
                    || value
                        .as_ref()
                        .is_some_and(|value| value.len() > ATTRIBUTE_VALUE_MAX);
                failure(bad, Failure::Invalid)
            }
        }
    }

    /// Whether a compare-and-write under way locks blocks that the command would change.
    fn is_behind_lock(&self, command: &Command<P>) -> bool {
        if self.guest.caws.is_empty() || bug!("compare-without-a-lock") {
            return false;
        }
        let locked = |extent: &Extent| {
            self.guest
                .caws
                .values()
                .any(|caw| caw.at.intersect(*extent).is_some())
                || self.guest.behind.iter().any(|(_, waiting)| {
                    changes(waiting)
                        .iter()
                        .any(|e| e.intersect(*extent).is_some())
                })
        };
        changes(command).iter().any(locked)
    }

    /// Commands that wait to be served, or behind a lock that is gone, enter again in order.
    pub(crate) fn guest_retry(&mut self) {
        if !self.is_in_doubt() {
            for (tag, reply) in core::mem::take(&mut self.guest.withheld) {
                self.answer(tag, reply);
            }
        }
        if self.is_serving() || self.refusal().is_some() {
            for (tag, command) in core::mem::take(&mut self.guest.parked) {
                self.guest_command(tag, command);
            }
        }
    }

    pub(super) fn unlocked(&mut self) {
        for (tag, command) in core::mem::take(&mut self.guest.behind) {
            self.guest_command(tag, command);
        }
    }

    /// Whether writes wait for room in the journal.
    pub(crate) fn writes_wait(&self) -> bool {
        !self.guest.held.is_empty()
    }

    pub(super) fn caw_mut(&mut self, caw: u64) -> Option<&mut Caw<P>> {
        self.guest.caws.get_mut(&caw)
    }

    pub(super) fn caw_remove(&mut self, caw: u64) -> Option<Caw<P>> {
        self.guest.caws.remove(&caw)
    }

    pub(super) fn caws_ready(&mut self) -> Vec<(u64, Extent)> {
        let (written, assigned) = (self.journal.written(), self.journal.assigned());
        let held = &self.guest.held;
        let mut ready = Vec::new();
        for (id, caw) in &mut self.guest.caws {
            if caw.began {
                continue;
            }
            let overlaps = |writing: &Writing<P>| {
                let mut extents = writing.records.iter().flat_map(|(body, _)| body.extents());
                extents.any(|extent| extent.intersect(caw.at).is_some())
            };
            if caw.after.is_none() && !held.iter().any(overlaps) {
                caw.after = Some(assigned);
            }
            if caw.after.is_some_and(|after| after <= written) {
                caw.began = true;
                ready.push((*id, caw.at));
            }
        }
        ready
    }
}

/// The blocks that a command would change.
fn changes<P>(command: &Command<P>) -> SmallVec<[Extent; 1]> {
    match command {
        Command::Read(_) | Command::Flush | Command::PutAttribute { .. } => SmallVec::new(),
        Command::Write { at, .. }
        | Command::WriteZeroes { at, .. }
        | Command::CompareAndWrite { at, .. } => SmallVec::from_elem(*at, 1),
        Command::Discard(extents) => extents.clone(),
    }
}
