//! Commands that end without what they asked for: taken back, answered BUSY, or refused because the volume is left.

use crate::command::{Failure, Reply};
use crate::effect::{Effect, Notice};
use crate::ids::Tag;
use crate::payload::Payload;
use crate::volume::Volume;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

impl<P: Payload> Volume<P> {
    pub(in crate::volume) fn guest_abort(&mut self, tag: Tag) {
        let waited = take(&mut self.guest.parked, |(t, _)| *t == tag).is_some()
            || take(&mut self.guest.behind, |(t, _)| *t == tag).is_some()
            || take(&mut self.guest.stored, |(_, t)| *t == tag).is_some()
            // A write whose answer is withheld has happened: it is answered as usual.
            || take(&mut self.guest.withheld, |(t, reply)| {
                *t == tag && matches!(reply, Reply::Read(_))
            })
            .is_some()
            || self.reads_abort(tag);
        if waited {
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

    pub(in crate::volume) fn guest_timeout(&mut self) {
        while let Some(&(at, tag)) = self.guest.deadlines.first() {
            if at > self.now {
                return;
            }
            self.guest.clear_deadline(tag);
            self.give_up(tag);
        }
    }

    /// The command has waited for as long as it may: BUSY.
    pub(super) fn give_up(&mut self, tag: Tag) {
        let before = self.guest.under_way();
        if self.guest.held.iter().any(|writing| writing.tag == tag)
            && self.journal.is_full()
            && !core::mem::replace(&mut self.guest.told_full, true)
        {
            self.out.push(Effect::Notice(Notice::JournalFull));
        }
        self.guest.parked.retain(|(t, _)| *t != tag);
        self.guest.behind.retain(|(t, _)| *t != tag);
        self.guest.stored.retain(|(_, t)| *t != tag);
        self.guest.withheld.retain(|(t, _)| *t != tag);
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
            mark!("answered-busy");
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
    pub(in crate::volume) fn guest_leave(&mut self) {
        for tag in self.guest_waiting() {
            self.answer(tag, Reply::Failed(Failure::Fenced));
        }
    }

    /// Ends everything that guests wait for, as `failure`.
    pub(crate) fn guest_fail_all(&mut self, failure: Failure) {
        self.guest_fail_begun(failure);
        for (tag, _) in core::mem::take(&mut self.guest.parked) {
            self.answer(tag, Reply::Failed(failure));
        }
    }

    /// Ends everything that saw the history as it was, as `failure`: only what waits to be served at all goes on.
    pub(in crate::volume) fn guest_fail_begun(&mut self, failure: Failure) {
        let parked = core::mem::take(&mut self.guest.parked);
        let mut tags = self.guest_waiting();
        self.guest.parked = parked;
        tags.extend(self.guest.acks.drain(..).map(|ack| ack.tag));
        tags.extend(self.guest.durable.drain(..).map(|(_, tag)| tag));
        tags.extend(self.guest.withheld.drain(..).map(|(tag, _)| tag));
        for tag in tags {
            self.answer(tag, Reply::Failed(failure));
        }
    }

    /// Takes back every command that has no seq yet, or waits for a read or the store. A compare-and-write that is being
    /// written is in two lists.
    fn guest_waiting(&mut self) -> BTreeSet<Tag> {
        let mut tags: BTreeSet<Tag> = BTreeSet::new();
        tags.extend(self.guest.parked.drain(..).map(|(tag, _)| tag));
        tags.extend(self.guest.behind.drain(..).map(|(tag, _)| tag));
        tags.extend(self.guest.held.drain(..).map(|writing| writing.tag));
        let caws = core::mem::take(&mut self.guest.caws);
        tags.extend(caws.into_values().map(|caw| caw.tag));
        tags.extend(self.guest.stored.drain(..).map(|(_, tag)| tag));
        tags.extend(self.reads_drain());
        tags
    }
}

/// Takes the first one out that is meant.
fn take<T>(line: &mut VecDeque<T>, is_meant: impl FnMut(&T) -> bool) -> Option<T> {
    line.iter()
        .position(is_meant)
        .and_then(|at| line.remove(at))
}
