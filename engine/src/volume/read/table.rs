//! What the table says of blocks that no layer has, and the cache of frames.

use super::FrameWaiter;
use crate::cache::Held;
use crate::effect::Outcome;
use crate::hydrate::{FramePart, Run, RunSource, runs};
use crate::layers::split;
use crate::payload::{Parts, Payload};
use crate::table::present::{LeafWaiter, Lookup};
use crate::units::{ByteCount, Extent, GRAIN_BYTES};
use crate::volume::doubt::Asked;
use crate::volume::{Pending, Volume};

impl<P: Payload> Volume<P> {
    pub(super) fn resolve_table(&mut self, op: u64, extent: Extent) {
        let Some(geometry) = self.geometry else {
            return;
        };
        let leaf_blocks = geometry.chunk_blocks() * u64::from(geometry.leaf_chunks);
        for extent in split::within(extent, leaf_blocks) {
            let index = geometry.leaf_of(geometry.chunk_of(geometry.grain_of(extent.start)));
            match self.present.lookup(index, Some(LeafWaiter::Read(op))) {
                Lookup::Hole => {
                    self.read_fill(
                        op,
                        extent.start,
                        Parts::zeros(geometry.bytes(extent.count)),
                        extent.count.0,
                    );
                }
                Lookup::Ready(leaf) => {
                    for run in runs(&geometry, &leaf, extent) {
                        self.read_run(op, run);
                    }
                }
                Lookup::Wait { .. } if bug!("absent-leaf-is-zeros") => {
                    self.read_fill(
                        op,
                        extent.start,
                        Parts::zeros(geometry.bytes(extent.count)),
                        extent.count.0,
                    );
                }
                Lookup::Wait { at, start } => {
                    if start && let Some(place) = self.take_untold(&Asked::Leaf(at.hash)) {
                        self.present.failed(at.hash);
                        self.read_doubt(op, extent, place);
                        continue;
                    }
                    if let Some(read) = self.reads.ops.get_mut(&op) {
                        read.waiting.push(extent);
                    }
                    self.read_waits(op);
                    if start {
                        self.leaf_load(&at);
                    }
                }
            }
        }
    }

    pub(super) fn read_run(&mut self, op: u64, run: Run) {
        let Some(geometry) = self.geometry else {
            return;
        };
        let bytes = geometry.bytes(run.extent.count);
        match run.source {
            RunSource::Zeros => self.read_fill(
                op,
                run.extent.start,
                Parts::zeros(bytes),
                run.extent.count.0,
            ),
            RunSource::Lost => {
                mark!("lost-in-the-table");
                self.read_fail(op, run.extent.start);
            }
            RunSource::Frame(part) => self.read_frame(op, run.extent, &part, bytes),
        }
    }

    pub(super) fn read_frame(
        &mut self,
        op: u64,
        extent: Extent,
        part: &FramePart,
        bytes: ByteCount,
    ) {
        let key = (part.object.clone(), part.bytes.start as u32);
        let from = part.slot * GRAIN_BYTES + part.skip;
        match self.cache.get(&key).cloned() {
            Some(Held::Slot(slot)) => {
                // At most a frame.
                let bytes = bytes.0 as u32;
                let grains = part.slot..(from + bytes).div_ceil(GRAIN_BYTES);
                match self.cache.read(slot, grains, part.skip..part.skip + bytes) {
                    Some(read) => self.out.read(Pending::ReadCache { op, extent, slot }, read),
                    None => self.read_fail(op, extent.start),
                }
            }
            Some(Held::Memory(data)) => {
                let from = u64::from(from);
                self.read_fill(
                    op,
                    extent.start,
                    data.slice(from..from + bytes.0),
                    extent.count.0,
                );
            }
            None => {
                let asked = Asked::Frame(key.0, key.1);
                if let Some(place) = self.take_untold(&asked) {
                    return self.read_doubt(op, extent, place);
                }
                let version = self
                    .present
                    .root()
                    .map(|root| root.name.version)
                    .unwrap_or_default();
                self.hydrate
                    .want(part, version, Some(FrameWaiter { op, extent, from }));
                self.read_waits(op);
            }
        }
    }

    pub(in crate::volume) fn read_cache_done(
        &mut self,
        op: u64,
        extent: Extent,
        slot: u32,
        outcome: Outcome<P>,
    ) {
        let good = matches!(outcome, Outcome::Read(_));
        if let Outcome::Read(p) = outcome {
            self.read_fill(op, extent.start, Parts::one(p), extent.count.0);
        }
        self.cache.unpin(slot);
        if !good {
            // Cached frames are copies: drop this one and fetch it again.
            self.cache.drop_slot(slot);
            if self.reads.ops.contains_key(&op) {
                self.resolve(op, extent);
                self.hydrate_pump();
            }
        }
    }
}
