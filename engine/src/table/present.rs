//! The present table: the newest committed root and the leaves of it that are in memory.

use crate::ids::Hash;
use crate::object::names::ObjectName;
use crate::table::types::{Leaf, LeafRef, Root};
use crate::units::LeafIndex;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Who waits for a leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LeafWaiter {
    /// A read, by its number.
    Read(u64),
    /// The publish under way.
    Publish,
}

#[derive(Debug)]
enum Slot {
    Loaded {
        leaf: Arc<Leaf>,
        used: u64,
    },
    Loading {
        at: LeafRef,
        waiters: Vec<LeafWaiter>,
    },
}

/// Where a leaf is.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// The root has none: every chunk of it is a hole.
    Hole,
    /// Here.
    Ready(Arc<Leaf>),
    /// To be loaded; `start` says whether this ask is the first.
    Wait { at: LeafRef, start: bool },
}

/// The committed table.
#[derive(Debug)]
pub(crate) struct Present {
    root: Option<(Arc<Root>, Hash)>,
    leaves: BTreeMap<Hash, Slot>,
    leaves_max: usize,
    clock: u64,
}

impl Present {
    pub(crate) fn new(leaves_max: u32) -> Self {
        Self {
            root: None,
            leaves: BTreeMap::new(),
            leaves_max: leaves_max as usize,
            clock: 0,
        }
    }

    /// The newest committed root.
    pub(crate) fn root(&self) -> Option<&Arc<Root>> {
        self.root.as_ref().map(|(root, _)| root)
    }

    /// That root and its hash.
    pub(crate) fn root_and_hash(&self) -> Option<(&Arc<Root>, Hash)> {
        self.root.as_ref().map(|(root, hash)| (root, *hash))
    }

    /// A root is committed: it is the table from now on. Its riding leaves are here at once.
    pub(crate) fn set_root(&mut self, root: Arc<Root>, hash: Hash) {
        for (index, leaf) in &root.riding {
            if let Some(at) = root.leaves.get(index) {
                self.insert(at.hash, leaf.clone());
            }
        }
        self.root = Some((root, hash));
    }

    /// Finds a leaf of the present root; a waiter is remembered until [`Present::loaded`] or [`Present::failed`].
    pub(crate) fn lookup(&mut self, index: LeafIndex, waiter: Option<LeafWaiter>) -> Lookup {
        let Some(at) = self
            .root
            .as_ref()
            .and_then(|(root, _)| root.leaves.get(&index))
        else {
            return Lookup::Hole;
        };
        self.clock += 1;
        match self.leaves.get_mut(&at.hash) {
            Some(Slot::Loaded { leaf, used }) => {
                *used = self.clock;
                Lookup::Ready(leaf.clone())
            }
            Some(Slot::Loading { at, waiters }) => {
                waiters.extend(waiter.filter(|waiter| !waiters.contains(waiter)));
                Lookup::Wait {
                    at: at.clone(),
                    start: false,
                }
            }
            None => {
                let at = at.clone();
                let waiters = waiter.into_iter().collect();
                self.leaves.insert(
                    at.hash,
                    Slot::Loading {
                        at: at.clone(),
                        waiters,
                    },
                );
                Lookup::Wait { at, start: true }
            }
        }
    }

    /// A leaf of the present root, if it is in memory.
    pub(crate) fn peek(&self, index: LeafIndex) -> Option<Arc<Leaf>> {
        let (root, _) = self.root.as_ref()?;
        match self.leaves.get(&root.leaves.get(&index)?.hash)? {
            Slot::Loaded { leaf, .. } => Some(leaf.clone()),
            Slot::Loading { .. } => None,
        }
    }

    /// Puts a leaf that is known into memory.
    pub(crate) fn insert(&mut self, hash: Hash, leaf: Arc<Leaf>) {
        self.clock += 1;
        if let Some(Slot::Loading { .. }) = self.leaves.get(&hash) {
            // Its load will end by itself and find this leaf's equal.
            return;
        }
        self.leaves.insert(
            hash,
            Slot::Loaded {
                leaf,
                used: self.clock,
            },
        );
        while self.leaves.len() > self.leaves_max {
            let oldest = self
                .leaves
                .iter()
                .filter_map(|(hash, slot)| match slot {
                    Slot::Loaded { used, .. } if *used < self.clock => Some((*used, *hash)),
                    _ => None,
                })
                .min();
            let Some((_, hash)) = oldest else { return };
            self.leaves.remove(&hash);
        }
    }

    /// Whether the present root has a leaf there.
    pub(crate) fn names(&self, at: &LeafRef) -> bool {
        let root = self.root.as_ref().map(|(root, _)| root);
        root.is_some_and(|root| root.leaves.values().any(|named| named == at))
    }

    /// Where the leaf that is being loaded under `hash` lies.
    pub(crate) fn loading(&self, hash: Hash) -> Option<&LeafRef> {
        match self.leaves.get(&hash) {
            Some(Slot::Loading { at, .. }) => Some(at),
            _ => None,
        }
    }

    /// Whether a leaf is being loaded from the object, of the volume's own container.
    pub(crate) fn loads_from(&self, object: &ObjectName) -> bool {
        self.leaves.values().any(|slot| match slot {
            Slot::Loading { at, .. } => at.container.is_none() && at.home.object() == *object,
            Slot::Loaded { .. } => false,
        })
    }

    /// A leaf came; who waited for it.
    pub(crate) fn loaded(&mut self, hash: Hash, leaf: Arc<Leaf>) -> Vec<LeafWaiter> {
        let waiters = self.failed(hash);
        self.insert(hash, leaf);
        waiters
    }

    /// A leaf did not come; who waited for it.
    pub(crate) fn failed(&mut self, hash: Hash) -> Vec<LeafWaiter> {
        match self.leaves.remove(&hash) {
            Some(Slot::Loading { waiters, .. }) => waiters,
            Some(loaded) => {
                self.leaves.insert(hash, loaded);
                Vec::new()
            }
            None => Vec::new(),
        }
    }
}
