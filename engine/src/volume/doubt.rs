//! Damage in the store that is not believed yet: only the newest table decides what must be there.
//!
//! Shape      the store has not what a table names → a look → still ours: the blocks are damaged, told loudly.
//! Invariant  a host that others have shut out calls nothing damaged that they have collected; its reads fail as fenced, or
//!            are looked up again when an attach has found the base.
//! Untold     the store takes longer to say so than a guest waits: who asked was answered BUSY, and may ask for other blocks
//!            before it asks for these again. The verdict waits for that; else a guest that goes round never heard of any.
//! Not here   how often the store is asked before it says so (the store's machine), readers of a version.

use super::Volume;
use crate::effect::{Effect, Notice};
use crate::ids::Hash;
use crate::payload::Payload;
use crate::table::types::ObjectRef;
use crate::time::{Duration, Instant};
use crate::units::Extent;
use alloc::collections::VecDeque;
use alloc::string::String;

/// So long a verdict waits for a guest to ask again; then the store is asked anew.
const UNTOLD: Duration = Duration::from_secs(300);

/// So many verdicts wait; the oldest go.
const UNTOLD_MAX: usize = 64;

/// What the store was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    /// The leaf of that hash.
    Leaf(Hash),
    /// The frame at that offset.
    Frame(ObjectRef, u32),
}

/// A verdict on what the newest table names that nobody waited for any more. It is told once.
#[derive(Debug)]
pub(super) struct Untold {
    asked: Asked,
    place: String,
    since: Instant,
}

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

    /// The store does not have, or has damaged, what the newest table names, and nobody waits for it any more.
    pub(super) fn damage_untold(&mut self, asked: Asked, place: String) {
        mark!("damage-untold");
        let since = self.now;
        self.reads.untold.retain(|untold| untold.asked != asked);
        if self.reads.untold.len() >= UNTOLD_MAX {
            self.reads.untold.pop_front();
        }
        self.reads.untold.push_back(Untold {
            asked,
            place,
            since,
        });
    }

    /// Where the damage lies that the store told of lately when nobody heard.
    pub(super) fn take_untold(&mut self, asked: &Asked) -> Option<String> {
        let now = self.now;
        let untold: &mut VecDeque<Untold> = &mut self.reads.untold;
        untold.retain(|untold| now.since(untold.since) < UNTOLD);
        let at = untold.iter().position(|untold| untold.asked == *asked)?;
        untold.remove(at).map(|untold| untold.place)
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
