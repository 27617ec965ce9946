//! Syncs: one at a time, oldest file first; what a failed one should have covered is written again.

use super::place::{head_of, pages};
use super::{Event, Journal, Op, Place, Syncing};
use crate::ids::{FileId, Seq};
use crate::journal::record::PAGE_BYTES;
use crate::payload::Payload;
use crate::slots::Out;
use crate::volume::Pending;
use alloc::vec::Vec;

impl<P: Payload> Journal<P> {
    pub(super) fn pump_sync(&mut self, out: &mut Out<P>) {
        if self.syncing.is_some() || self.durable >= self.wanted || self.read_only {
            return;
        }
        let dirty = self.order.iter().find_map(|id| {
            let file = self.files.get(id)?;
            (file.applied > file.synced).then_some((*id, file.applied))
        });
        if let Some((file, upto)) = dirty {
            self.syncing = Some(Syncing::Sync { file });
            out.sync(Pending::Journal(Op::Sync { file, upto }), file);
        }
    }

    pub(super) fn synced(&mut self, out: &mut Out<P>, id: FileId, upto: Seq, good: bool) {
        self.syncing = None;
        if self.read_only {
            return;
        }
        if !good && !bug!("failed-sync-is-good") {
            return self.condemn(out, id);
        }
        if let Some(file) = self.files.get_mut(&id) {
            file.synced = file.synced.max(upto);
        }
        let upto = if bug!("sync-covers-later-appends") {
            self.ordered
        } else {
            upto
        };
        self.durable = self.durable.max(upto);
        while self
            .kept
            .front()
            .is_some_and(|kept| kept.seq <= self.durable)
        {
            if let Some(kept) = self.kept.pop_front() {
                self.kept_bytes -= kept.data.len().0;
            }
        }
        self.events.push_back(Event::Durable);
        self.events.push_back(Event::Room);
        self.seal(out, id);
        self.recycle(out);
        self.pump_sync(out);
    }

    /// A sync failed: what it should have covered may be gone from the file, whatever later syncs say. The kept payloads
    /// are written again to a fresh file.
    pub(super) fn condemn(&mut self, out: &mut Out<P>, id: FileId) {
        mark!("file-condemned");
        self.events.push_back(Event::Condemned(id));
        if let Some(file) = self.files.get_mut(&id) {
            file.condemned = true;
            file.closed = true;
            file.indexed = true;
            file.records.clear();
            file.synced = file.applied;
        }
        if self.head == Some(id) {
            self.head = None;
        }
        if let Some(index) = self
            .flight
            .iter()
            .position(|f| f.place.is_some_and(|p| p.file == id))
        {
            self.place_again(index);
            self.place_waiting(out);
            if self.read_only {
                return;
            }
        }
        let again: Vec<usize> = (0..self.kept.len())
            .filter(|i| self.kept.get(*i).is_some_and(|k| k.place.file == id))
            .filter(|_| !bug!("condemned-is-not-rewritten"))
            .collect();
        if again.is_empty() {
            return self.pump_sync(out);
        }
        let Some(fresh) = self.open_ready() else {
            return self.make_read_only();
        };
        let at = self
            .order
            .iter()
            .position(|file| *file == id)
            .map_or(self.order.len(), |i| i + 1);
        self.order.insert(at, fresh);
        self.syncing = Some(Syncing::Rewriting {
            file: fresh,
            left: again.len() as u32,
        });
        let (attach, durable) = (self.attach, self.durable);
        for index in again {
            let (Some(kept), Some(file)) = (self.kept.get_mut(index), self.files.get_mut(&fresh))
            else {
                return;
            };
            let place = Place {
                file: fresh,
                page: file.next_page,
            };
            file.next_page += pages(kept.data.len().0);
            if file.next_page > self.file_pages {
                return self.make_read_only();
            }
            let head = head_of(file, place, kept.seq, durable, attach, &kept.body);
            out.append(
                Pending::Journal(Op::Rewrite {
                    seq: kept.seq,
                    file: fresh,
                }),
                fresh,
                u64::from(place.page) * u64::from(PAGE_BYTES),
                head,
                kept.data.clone(),
            );
            kept.moving = Some(place);
            file.applied = file.applied.max(kept.seq);
        }
        if let Some(file) = self.files.get_mut(&fresh) {
            file.closed = true;
        }
    }

    /// A kept record is written again: reads find it there from now on.
    pub(super) fn rewritten(&mut self, out: &mut Out<P>, seq: Seq, id: FileId, good: bool) {
        if self.read_only {
            return;
        }
        if !good {
            return self.make_read_only();
        }
        let Some(Syncing::Rewriting { file, left }) = &mut self.syncing else {
            return;
        };
        if *file != id {
            return;
        }
        *left -= 1;
        let is_last = *left == 0;
        let first = self.kept.front().map_or(seq, |kept| kept.seq);
        let index = seq.0.saturating_sub(first.0) as usize;
        if let Some(kept) = self.kept.get_mut(index)
            && let Some(to) = kept.moving.take()
        {
            debug_assert_eq!(kept.seq, seq, "kept records are consecutive");
            self.events.push_back(Event::Relocated {
                seq,
                body: kept.body.clone(),
                from: kept.place,
                to,
            });
            kept.place = to;
        }
        if is_last {
            self.syncing = None;
            self.pump_sync(out);
        }
    }
}
