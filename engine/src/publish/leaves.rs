//! The leaves that a publish changes: loaded, changed, and placed in the root or in objects of their own.

use super::{Op, SEND_AGAIN, Stage};
use crate::effect::{Body, Receipt, StoreRequest};
use crate::object::names::{LeavesName, ObjectName};
use crate::payload::Payload;
use crate::table::apply;
use crate::table::present::{LeafWaiter, Lookup};
use crate::table::types::{Leaf, LeafHome, LeafRef};
use crate::units::{ChunkIndex, LeafIndex};
use crate::volume::{Pending, Volume};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Leaves of one object.
#[derive(Debug)]
pub(super) struct Pack {
    leaves: Vec<(LeafIndex, Arc<Leaf>)>,
    name: LeavesName,
}

impl<P: Payload> Volume<P> {
    /// All objects are confirmed: puts their layers on the leaves.
    pub(super) fn leaves_step(&mut self) -> bool {
        let Some(geometry) = self.geometry else {
            return false;
        };
        let Some(run) = &self.publishing.run else {
            return false;
        };
        if run.leaves_at.is_some() || run.leaves_wait {
            return false;
        }
        let born = run.born.is_some();
        let mut touched: Vec<LeafIndex> = run
            .deltas
            .keys()
            .map(|chunk| geometry.leaf_of(*chunk))
            .collect();
        touched.dedup();
        touched.retain(|index| !run.leaves.contains_key(index));
        let mut missing = false;
        for index in touched {
            // A birth lies on nothing: a clone's base is never loaded over.
            let found = if born {
                Lookup::Hole
            } else {
                self.present.lookup(index, Some(LeafWaiter::Publish))
            };
            let old = match found {
                Lookup::Hole => None,
                Lookup::Ready(leaf) => Some(leaf),
                Lookup::Wait { at, start } => {
                    missing = true;
                    if start {
                        self.leaf_load(&at);
                    }
                    continue;
                }
            };
            let Some(run) = self.publishing.run.as_mut() else {
                return false;
            };
            let mut leaf = old.map_or_else(
                || Leaf {
                    index,
                    entries: BTreeMap::new(),
                },
                |old| (*old).clone(),
            );
            let first = index.0 * u64::from(geometry.leaf_chunks);
            let chunks = ChunkIndex(first)..ChunkIndex(first + u64::from(geometry.leaf_chunks));
            for (chunk, delta) in run.deltas.range(chunks) {
                if let (Some(count), Some(entry)) =
                    (run.merged.get(chunk), leaf.entries.get_mut(chunk))
                {
                    // The delta says all that these layers said.
                    let count = count + usize::from(bug!("merge-drops-one-more"));
                    entry.layers.drain(..count.min(entry.layers.len()));
                }
                match apply::apply(leaf.entries.get(chunk), delta.clone()) {
                    Some(entry) => leaf.entries.insert(*chunk, entry),
                    None => leaf.entries.remove(chunk),
                };
            }
            run.leaves.insert(index, Arc::new(leaf));
        }
        if missing {
            if let Some(run) = self.publishing.run.as_mut() {
                run.leaves_wait = true;
            }
            return false;
        }
        self.place_leaves();
        true
    }

    /// A leaf came that the publish waits for.
    pub(crate) fn publish_leaf_came(&mut self) {
        if let Some(run) = self.publishing.run.as_mut() {
            run.leaves_wait = false;
        }
    }

    /// A leaf of the newest table is damaged: the layer stays here, nothing is lost, and it is asked for again.
    pub(crate) fn publish_leaf_failed(&mut self) {
        let at = self.now + SEND_AGAIN;
        if let Some(run) = self
            .publishing
            .run
            .as_mut()
            .filter(|run| run.stage == Stage::Leaves)
        {
            run.leaves_at = Some(at);
            self.publish_misses();
        }
    }

    /// Leaves ride in the root while they are small together; else they are packed into objects.
    fn place_leaves(&mut self) {
        let (riding_max, pack_max) = (self.limits.riding_bytes.0, self.limits.leaves_bytes.0);
        let Some(run) = self.publishing.run.as_mut() else {
            return;
        };
        run.stage = Stage::SendLeaves;
        let mut changed = Vec::new();
        for (index, leaf) in &run.leaves {
            if leaf.entries.is_empty() {
                run.refs.insert(*index, None);
            } else {
                changed.push((*index, leaf.clone()));
            }
        }
        let total: u64 = changed
            .iter()
            .map(|(_, leaf)| u64::from(leaf.encoded_len()))
            .sum();
        if total <= riding_max {
            run.riding = changed.into_iter().collect();
            return;
        }
        let mut packs: Vec<Vec<(LeafIndex, Arc<Leaf>)>> = Vec::new();
        let mut bytes = u64::MAX;
        for (index, leaf) in changed {
            let len = u64::from(leaf.encoded_len());
            if bytes.saturating_add(len) > pack_max {
                packs.push(Vec::new());
                bytes = 0;
            }
            bytes += len;
            if let Some(pack) = packs.last_mut() {
                pack.push((index, leaf));
            }
        }
        let (version, attach) = (run.version, run.attach);
        for leaves in packs {
            let serial = self.publishing.serial();
            let name = LeavesName {
                version,
                attach,
                serial,
            };
            if let Some(run) = self.publishing.run.as_mut() {
                run.packs.insert(serial, Pack { leaves, name });
            }
            self.send_pack(serial);
        }
    }

    pub(super) fn send_pack(&mut self, serial: u32) {
        let Some(pack) = self
            .publishing
            .run
            .as_ref()
            .and_then(|run| run.packs.get(&serial))
        else {
            return;
        };
        let request = StoreRequest::Put {
            container: self.container.clone(),
            name: ObjectName::Leaves(pack.name),
            body: Body::Leaves(pack.leaves.iter().map(|(_, leaf)| leaf.clone()).collect()),
            once: false,
        };
        self.out
            .store(Pending::Publish(Op::Leaves { serial }), request);
    }

    pub(super) fn pack_sent(&mut self, serial: u32, receipt: Receipt) {
        let Some(run) = self.publishing.run.as_mut() else {
            return;
        };
        let Some(pack) = run.packs.remove(&serial) else {
            return;
        };
        run.bytes += receipt.bytes.0;
        run.puts += 1;
        debug_assert_eq!(
            pack.leaves.len(),
            receipt.leaves.len(),
            "each leaf has its place"
        );
        for ((index, _), placed) in pack.leaves.iter().zip(receipt.leaves) {
            let at = LeafRef {
                container: None,
                home: LeafHome::Leaves(pack.name),
                offset: placed.offset,
                len: placed.len,
                hash: placed.hash,
            };
            run.refs.insert(*index, Some(at));
        }
    }
}
