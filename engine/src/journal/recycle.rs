//! Files that take no more records: sealed with an index, and free again once everything in them is stored.

use super::{Event, Journal, Op, Syncing};
use crate::effect::DiskRequest;
use crate::ids::FileId;
use crate::journal::index::FileIndex;
use crate::payload::Payload;
use crate::slots::Out;
use crate::volume::Pending;
use alloc::sync::Arc;
use alloc::vec::Vec;

impl<P: Payload> Journal<P> {
    /// Writes the index of a closed file once a sync covered its last record.
    pub(super) fn seal(&mut self, out: &mut Out<P>, id: FileId) {
        let durable = self.durable;
        let Some(file) = self.files.get_mut(&id) else {
            return;
        };
        let early = bug!("index-before-its-sync");
        if !file.closed
            || file.indexed
            || !early && (file.synced < file.last_seq || file.last_seq > durable)
        {
            return;
        }
        file.indexed = true;
        file.ops += 1;
        let index = FileIndex {
            file: id,
            lap: file.lap,
            durable,
            records: core::mem::take(&mut file.records),
        };
        out.disk(
            Pending::Journal(Op::Index { file: id }),
            DiskRequest::WriteIndex(Arc::new(index)),
        );
    }

    /// Frees files whose every record is in the store.
    pub(super) fn recycle(&mut self, out: &mut Out<P>) {
        let stored = self.stored;
        let syncing = match self.syncing {
            Some(Syncing::Sync { file } | Syncing::Rewriting { file, .. }) => Some(file),
            None => None,
        };
        if self.starved
            && let Some(file) = self.head.and_then(|head| self.files.get_mut(&head))
            && file.next_page > 0
            && file.last_seq <= stored
        {
            file.closed = true;
            self.head = None;
        }
        let mut freed = Vec::new();
        self.order.retain(|id| {
            let free = self.files.get(id).is_some_and(|file| {
                let stored = if bug!("recycle-at-durable") {
                    self.durable
                } else {
                    stored
                };
                file.closed
                    && file.last_seq <= stored
                    && file.ops == 0
                    && (file.reads == 0 || bug!("recycle-under-a-read"))
            });
            if free && syncing != Some(*id) {
                freed.push(*id);
                return false;
            }
            true
        });
        if freed.is_empty() {
            return;
        }
        for id in freed {
            if self.files.get(&id).is_some_and(|file| file.condemned) {
                out.disk(
                    Pending::Journal(Op::Remove { file: id }),
                    DiskRequest::RemoveFile(id),
                );
            } else {
                self.ready.insert(id);
            }
        }
        self.create_failed = false;
        self.events.push_back(Event::Room);
        if !bug!("room-wakes-nobody") {
            self.place_waiting(out);
        }
    }
}
