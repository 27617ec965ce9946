//! From a write at the door to its answer: accepted while there is room, applied in order, durable, stored.

use super::{Ack, Writing};
use crate::command::{Failure, Reply};
use crate::effect::Effect;
use crate::ids::{Seq, Tag};
use crate::journal::Event;
use crate::journal::record::RecordBody;
use crate::layers::map::{PiecePlace, Source};
use crate::layers::split;
use crate::payload::{Parts, Payload};
use crate::volume::Volume;
use alloc::collections::{BTreeSet, VecDeque};

impl<P: Payload> Volume<P> {
    pub(super) fn write_begin(
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

    pub(in crate::volume) fn caw_write(&mut self, caw: u64) {
        let Some(op) = self.guest.caws.get_mut(&caw) else {
            return;
        };
        let (tag, records, fua) = (op.tag, core::mem::take(&mut op.records), op.fua);
        self.write_begin(tag, records, fua, Some(caw));
    }

    /// Accepts records while there is room, in order.
    pub(super) fn accept_held(&mut self) {
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
            self.guest.told_full = false;
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
    pub(super) fn wait_stored(&mut self, seq: Seq, tag: Tag) {
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

    pub(super) fn flush(&mut self, tag: Tag) {
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

    pub(in crate::volume) fn journal_event(&mut self, event: Event) {
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
    pub(in crate::volume) fn apply(
        &mut self,
        seq: Seq,
        body: RecordBody,
        place: crate::journal::Place,
    ) {
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
    pub(super) fn applied(&mut self, seq: Seq) {
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

    pub(super) fn durable_advanced(&mut self) {
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

    pub(super) fn became_read_only(&mut self) {
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
    }
}
