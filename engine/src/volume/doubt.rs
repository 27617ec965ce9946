//! Damage in the store that is not believed yet: only the newest table decides what must be there.
//!
//! Shape      the store has not what a table names → a look → still ours: the blocks are damaged, told loudly.
//! Invariant  a host that others have shut out calls nothing damaged that they have collected; its reads fail as fenced, or
//!            are looked up again when an attach has found the base.
//! Not here   how often the store is asked before it says so (the store's machine), readers of a version.

use super::Volume;
use crate::effect::{Effect, Notice};
use crate::payload::Payload;
use crate::time::Instant;
use crate::units::Extent;
use alloc::string::String;

/// Blocks of a read that the store does not have.
#[derive(Debug)]
pub(super) struct Doubt {
    op: u64,
    extent: Extent,
    place: String,
    since: Instant,
}

impl<P: Payload> Volume<P> {
    /// The store does not have, or has damaged, what the table names for these blocks.
    pub(super) fn read_doubt(&mut self, op: u64, extent: Extent, place: String) {
        if self.own.is_reader() {
            return self.read_damaged(op, extent, place);
        }
        mark!("damage-doubted");
        let since = self.now;
        let mut doubts = core::mem::take(&mut self.reads.doubts);
        doubts.retain(|doubt| self.reads.is_under_way(doubt.op));
        self.reads.doubts = doubts;
        self.reads.doubts.push(Doubt {
            op,
            extent,
            place,
            since,
        });
        self.read_waits(op);
        self.watch_now();
    }

    /// Whether some damage waits for a look.
    pub(super) fn reads_doubt(&self) -> bool {
        !self.reads.doubts.is_empty()
    }

    /// A look that began then has found the volume ours: what was found damaged before is.
    pub(super) fn reads_believe(&mut self, began: Instant) {
        let doubts = core::mem::take(&mut self.reads.doubts);
        for doubt in doubts {
            if doubt.since > began {
                self.reads.doubts.push(doubt);
            } else {
                self.read_damaged(doubt.op, doubt.extent, doubt.place);
            }
        }
        if self.reads_doubt() {
            self.watch_now();
        }
    }

    /// An attach has told whose the volume is, and from which base it goes on: looks up again what was in doubt.
    pub(super) fn reads_again(&mut self) {
        for doubt in core::mem::take(&mut self.reads.doubts) {
            if self.reads.is_under_way(doubt.op) {
                self.resolve(doubt.op, doubt.extent);
            }
        }
        self.hydrate_pump();
    }

    fn read_damaged(&mut self, op: u64, extent: Extent, place: String) {
        if self.reads.is_under_way(op) {
            self.out
                .push(Effect::Notice(Notice::Damaged { extent, place }));
            self.read_fail(op, extent.start);
        }
    }
}
