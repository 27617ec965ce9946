//! Guests at the door: what is let in, what waits, and the one place that answers.

use super::Volume;
use crate::command::{Command, Failure, Reply};
use crate::effect::Effect;
use crate::ids::{Seq, Tag};
use crate::journal::Event;
use crate::journal::record::{
    ATTRIBUTE_KEY_MAX, ATTRIBUTE_VALUE_MAX, RECORD_EXTENTS_MAX, RecordBody,
};
use crate::layers::map::{PiecePlace, Source};
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
            + self.stored.len()) as u32
    }

    /// Bytes that commands without a seq carry or ask for. Reads under way are counted elsewhere.
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
        commands.chain(held).chain(caws).sum()
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

    // --- accepting writes ---

    fn write_begin(
        &mut self,
        tag: Tag,
        records: VecDeque<(RecordBody, Parts<P>)>,
        fua: bool,
        caw: Option<u64>,
    ) {
        let writing = Writing {
            tag,
            records,
            fua,
            first: None,
            caw,
        };
        self.guest.held.push_back(writing);
        self.accept_held();
        if self
            .guest
            .held
            .back()
            .is_some_and(|writing| writing.tag == tag)
        {
            self.wait_bounded(tag);
        }
    }

    pub(super) fn caw_write(&mut self, caw: u64) {
        let Some(op) = self.guest.caws.get_mut(&caw) else {
            return;
        };
        let (tag, records, fua) = (op.tag, core::mem::take(&mut op.records), op.fua);
        self.write_begin(tag, records, fua, Some(caw));
    }

    /// Accepts records while there is room, in order.
    fn accept_held(&mut self) {
        while let Some(writing) = self.guest.held.front_mut() {
            while let Some((_, data)) = writing.records.front() {
                if !self.journal.has_room(data.len().0) {
                    // What is kept in memory goes when it is durable; what fills the files when it is stored.
                    let written = self.journal.written();
                    self.journal.want_durable(&mut self.out, written);
                    self.journal.want_room(&mut self.out);
                    return;
                }
                let Some((body, data)) = writing.records.pop_front() else {
                    return;
                };
                let seq =
                    self.journal
                        .append(&mut self.out, crate::journal::Class::Guest, body, data);
                writing.first.get_or_insert(seq);
            }
            let Some(writing) = self.guest.held.pop_front() else {
                return;
            };
            let last = self.journal.assigned();
            self.guest.acks.push_back(Ack {
                first: writing.first.unwrap_or(last),
                last,
                tag: writing.tag,
                fua: writing.fua,
            });
            if let Some(caw) = writing.caw {
                self.guest.caws.remove(&caw);
                self.unlocked();
            }
            self.caw_step();
        }
    }

    /// The answer follows the first commit whose cut is at or above `seq`, or is BUSY: the store may be away.
    fn wait_stored(&mut self, seq: Seq, tag: Tag) {
        debug_assert!(
            self.guest
                .stored
                .back()
                .is_none_or(|(last, _)| *last <= seq),
            "targets never fall"
        );
        self.wait_bounded(tag);
        self.guest.stored.push_back((seq, tag));
    }

    fn flush(&mut self, tag: Tag) {
        let target = self.journal.written();
        if self.own.flushes_to_store() {
            if self.journal.stored() >= target {
                return self.answer_done(tag);
            }
            self.wait_stored(target, tag);
            return;
        }
        if self.journal.durable() >= target || bug!("flush-at-once") {
            return self.answer_done(tag);
        }
        if self.journal.is_read_only() {
            return self.answer(tag, Reply::Failed(Failure::Hardware));
        }
        self.guest.durable.push_back((target, tag));
        self.journal.want_durable(&mut self.out, target);
    }

    // --- what the journal tells ---

    pub(super) fn journal_event(&mut self, event: Event) {
        match event {
            Event::Applied { seq, body, place } => {
                self.apply(seq, body, place);
                self.applied(seq);
            }
            Event::Voided { seq } => {
                self.guest.voided.insert(seq);
                self.applied(seq);
            }
            Event::Durable => self.durable_advanced(),
            Event::Relocated {
                seq,
                body,
                from,
                to,
            } => {
                let block_bytes_extents = body.extents();
                for map in self.stack.maps_mut() {
                    for extent in &block_bytes_extents {
                        map.relocate(*extent, seq, from.data_at(), to.file, to.data_at());
                    }
                }
                self.reads_unsettled();
            }
            Event::Condemned(file) => {
                self.out
                    .push(Effect::Notice(crate::effect::Notice::FileCondemned(file)));
            }
            Event::ReadOnly => self.became_read_only(),
            Event::Room => self.accept_held(),
        }
    }

    /// A record is written in order: reads see it from now on.
    pub(super) fn apply(&mut self, seq: Seq, body: RecordBody, place: crate::journal::Place) {
        let Some(geometry) = self.geometry else {
            return;
        };
        match body {
            RecordBody::Write { extent, sums } => {
                let mut at = place.data_at();
                for (piece, sum) in split::pieces(&geometry, extent).zip(sums) {
                    // A piece is at most a grain.
                    let len = geometry.bytes(piece.count).0 as u32;
                    let source = Source::Journal(PiecePlace {
                        file: place.file,
                        at,
                        len,
                        skip: 0,
                        sum,
                    });
                    self.stack
                        .active
                        .insert(piece, seq, source, geometry.block_bytes);
                    at += u64::from(len);
                }
            }
            RecordBody::Holes(extents) => {
                for extent in extents {
                    self.stack
                        .active
                        .insert(extent, seq, Source::Hole, geometry.block_bytes);
                }
            }
            RecordBody::Attribute { key, value } => {
                self.own.log_attribute(seq, &key, &value);
                match value {
                    Some(value) => self.attributes.insert(key, value),
                    None => self.attributes.remove(&key),
                };
                self.own.attributes_changed(&self.attributes);
            }
            RecordBody::Void => {}
        }
    }

    /// Everything up to `seq` is applied: answers whose last record it is.
    fn applied(&mut self, seq: Seq) {
        if self.guest.acks.front().is_some_and(|ack| ack.last == seq)
            && let Some(ack) = self.guest.acks.pop_front()
        {
            let failed = self
                .guest
                .voided
                .range(ack.first..=ack.last)
                .next()
                .is_some();
            self.guest.voided.retain(|seq| *seq > ack.last);
            if failed {
                self.answer(ack.tag, Reply::Failed(Failure::Hardware));
            } else if !ack.fua || bug!("fua-at-written") {
                self.answer_done(ack.tag);
            } else if self.own.flushes_to_store() {
                self.wait_stored(seq, ack.tag);
            } else {
                self.guest.durable.push_back((seq, ack.tag));
                self.journal.want_durable(&mut self.out, seq);
            }
        }
        self.caw_step();
    }

    fn durable_advanced(&mut self) {
        let durable = self.journal.durable();
        while self
            .guest
            .durable
            .front()
            .is_some_and(|(seq, _)| *seq <= durable)
        {
            if let Some((_, tag)) = self.guest.durable.pop_front() {
                self.answer_done(tag);
            }
        }
        self.reads_unsettled();
        // A flush whose sync began before its target was written waits for the next.
        if let Some((seq, _)) = self.guest.durable.back().copied() {
            self.journal.want_durable(&mut self.out, seq);
        }
    }

    /// A version is committed: flushes that asked for the store are answered.
    pub(crate) fn stored_advanced(&mut self, cut: Seq) {
        let is_stored = |(seq, _): &(Seq, Tag)| *seq <= cut;
        while self.guest.stored.front().is_some_and(is_stored) {
            if let Some((_, tag)) = self.guest.stored.pop_front() {
                self.answer_done(tag);
            }
        }
    }

    fn became_read_only(&mut self) {
        self.out
            .push(Effect::Notice(crate::effect::Notice::ReadOnly));
        self.save_whole_history();
        // A compare-and-write that is being written is in two lists: one answer each.
        let mut failed: BTreeSet<Tag> = self.guest.acks.drain(..).map(|ack| ack.tag).collect();
        failed.extend(self.guest.held.drain(..).map(|writing| writing.tag));
        failed.extend(self.guest.durable.drain(..).map(|(_, tag)| tag));
        for (id, caw) in core::mem::take(&mut self.guest.caws) {
            self.reads_abort_caw(id);
            failed.insert(caw.tag);
        }
        failed
            .into_iter()
            .for_each(|tag| self.answer(tag, Reply::Failed(Failure::Hardware)));
        self.unlocked();
        self.reads_unsettled();
    }

    // --- giving up ---

    pub(super) fn guest_abort(&mut self, tag: Tag) {
        let parked = self
            .guest
            .parked
            .iter()
            .position(|(t, _)| *t == tag)
            .map(|i| self.guest.parked.remove(i));
        let behind = self
            .guest
            .behind
            .iter()
            .position(|(t, _)| *t == tag)
            .map(|i| self.guest.behind.remove(i));
        let stored = self
            .guest
            .stored
            .iter()
            .position(|(_, t)| *t == tag)
            .map(|i| self.guest.stored.remove(i));
        if parked.is_some() || behind.is_some() || stored.is_some() || self.reads_abort(tag) {
            return self.answer(tag, Reply::Failed(Failure::Aborted));
        }
        // A held write of which nothing has a seq yet never happens.
        if let Some(at) = self
            .guest
            .held
            .iter()
            .position(|w| w.tag == tag && w.first.is_none())
            && let Some(writing) = self.guest.held.remove(at)
        {
            if let Some(caw) = writing.caw {
                self.guest.caws.remove(&caw);
            }
            self.answer(tag, Reply::Failed(Failure::Aborted));
            self.unlocked();
            return self.caw_step();
        }
        if let Some(caw) = self
            .guest
            .caws
            .iter()
            .find(|(_, caw)| caw.tag == tag && !caw.records.is_empty())
            .map(|(id, _)| *id)
        {
            self.guest.caws.remove(&caw);
            self.reads_abort_caw(caw);
            self.answer(tag, Reply::Failed(Failure::Aborted));
            self.unlocked();
        }
        // Anything else is in the journal already and is answered as usual.
    }

    pub(super) fn guest_timeout(&mut self) {
        while let Some(&(at, tag)) = self.guest.deadlines.first() {
            if at > self.now {
                return;
            }
            self.guest.clear_deadline(tag);
            self.give_up(tag);
        }
    }

    /// The command has waited for as long as it may: BUSY.
    fn give_up(&mut self, tag: Tag) {
        let before = self.guest.under_way();
        self.guest.parked.retain(|(t, _)| *t != tag);
        self.guest.behind.retain(|(t, _)| *t != tag);
        self.guest.stored.retain(|(_, t)| *t != tag);
        let mut locks: Vec<u64> = self
            .guest
            .held
            .iter()
            .filter(|w| w.tag == tag)
            .filter_map(|w| w.caw)
            .collect();
        self.guest.held.retain(|w| w.tag != tag);
        locks.extend(
            self.guest
                .caws
                .iter()
                .filter(|(_, caw)| caw.tag == tag)
                .map(|(id, _)| *id),
        );
        for caw in &locks {
            self.guest.caws.remove(caw);
            self.reads_abort_caw(*caw);
        }
        let waited = self.guest.under_way() != before || self.reads_abort(tag);
        if waited {
            // Asks for room once more: a file may have become possible since.
            self.journal.prepare(&mut self.out);
            self.answer(tag, Reply::Busy);
        }
        if !locks.is_empty() {
            self.unlocked();
        }
        // What waited behind it may need less room.
        self.accept_held();
        self.caw_step();
    }

    /// The volume is being given up: what has no seq yet is refused, what has one is answered first.
    pub(super) fn guest_leave(&mut self) {
        let mut tags: BTreeSet<Tag> = BTreeSet::new();
        tags.extend(self.guest.parked.drain(..).map(|(tag, _)| tag));
        tags.extend(self.guest.behind.drain(..).map(|(tag, _)| tag));
        tags.extend(self.guest.held.drain(..).map(|writing| writing.tag));
        tags.extend(
            core::mem::take(&mut self.guest.caws)
                .into_values()
                .map(|caw| caw.tag),
        );
        tags.extend(self.guest.stored.drain(..).map(|(_, tag)| tag));
        tags.extend(self.reads_drain());
        tags.into_iter()
            .for_each(|tag| self.answer(tag, Reply::Failed(Failure::Fenced)));
    }

    /// Ends everything that guests wait for, as `failure`.
    pub(crate) fn guest_fail_all(&mut self, failure: Failure) {
        let mut tags: BTreeSet<Tag> = BTreeSet::new();
        tags.extend(self.guest.parked.drain(..).map(|(tag, _)| tag));
        tags.extend(self.guest.behind.drain(..).map(|(tag, _)| tag));
        tags.extend(self.guest.held.drain(..).map(|writing| writing.tag));
        tags.extend(
            core::mem::take(&mut self.guest.caws)
                .into_values()
                .map(|caw| caw.tag),
        );
        tags.extend(self.guest.acks.drain(..).map(|ack| ack.tag));
        tags.extend(self.guest.durable.drain(..).map(|(_, tag)| tag));
        tags.extend(self.guest.stored.drain(..).map(|(_, tag)| tag));
        tags.extend(self.reads_drain());
        tags.into_iter()
            .for_each(|tag| self.answer(tag, Reply::Failed(failure)));
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
