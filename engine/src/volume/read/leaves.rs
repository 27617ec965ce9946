//! Leaves on their way: from the local folder, else from the store.

use super::frames::RETRY;
use crate::effect::{
    Absence, DiskRequest, Effect, Expect, GetRequest, Meta, Notice, Outcome, StoreError,
    StoreRequest,
};
use crate::ids::Hash;
use crate::object::names::ObjectName;
use crate::payload::Payload;
use crate::table::present::LeafWaiter;
use crate::table::types::{LeafHome, LeafRef};
use crate::units::Extent;
use crate::volume::doubt::Asked;
use crate::volume::{Pending, Volume};
use alloc::format;

impl<P: Payload> Volume<P> {
    pub(crate) fn leaf_load(&mut self, at: &LeafRef) {
        let request = DiskRequest::LoadMeta {
            hash: at.hash,
            expect: Expect::Leaf(at.hash),
        };
        self.out.disk(Pending::LeafLocal { hash: at.hash }, request);
    }

    pub(in crate::volume) fn leaf_local_done(&mut self, hash: Hash, outcome: Outcome<P>) {
        match outcome {
            Outcome::Meta(Meta::Leaf(leaf), found) if found == hash => self.leaf_came(hash, leaf),
            _ => self.leaf_fetch(hash),
        }
    }

    pub(super) fn leaf_fetch(&mut self, hash: Hash) {
        let Some(at) = self.present.loading(hash).cloned() else {
            return;
        };
        let request = StoreRequest::Get(GetRequest {
            container: at
                .container
                .clone()
                .unwrap_or_else(|| self.container.clone()),
            name: leaf_object(&at),
            range: Some(u64::from(at.offset)..u64::from(at.offset) + u64::from(at.len)),
            absence: Absence::Damage,
            deadline: self.limits.store_deadline,
            expect: Expect::Leaf(hash),
        });
        self.out.store(Pending::LeafStore { hash }, request);
    }

    pub(in crate::volume) fn leaf_store_done(&mut self, hash: Hash, outcome: Outcome<P>) {
        match outcome {
            Outcome::Meta(Meta::Leaf(leaf), found) if found == hash => {
                self.store_answered();
                if !self.own.is_reader() {
                    let meta = Meta::Leaf(leaf.clone());
                    self.out
                        .disk(Pending::Nothing, DiskRequest::KeepMeta { hash, meta });
                }
                self.leaf_came(hash, leaf);
            }
            Outcome::Store(
                error @ (StoreError::Damaged | StoreError::Absent | StoreError::TooNew),
            ) => {
                let place = self
                    .present
                    .loading(hash)
                    .map(|at| {
                        let container = at.container.as_ref().unwrap_or(&self.container);
                        let name = match at.home {
                            LeafHome::Root(name) => ObjectName::Root(name),
                            LeafHome::Leaves(name) => ObjectName::Leaves(name),
                        };
                        format!("{container}/{name}")
                    })
                    .unwrap_or_default();
                self.store_answered();
                let is_newest = self
                    .present
                    .loading(hash)
                    .is_some_and(|at| self.present.names(at));
                let waiters = self.present.failed(hash);
                let hears = |waiter: &LeafWaiter| match waiter {
                    LeafWaiter::Read(op) => self.reads.is_under_way(*op),
                    LeafWaiter::Publish => false,
                };
                if is_newest && !waiters.iter().any(hears) {
                    self.damage_untold(Asked::Leaf(hash), place.clone());
                }
                self.out.push(Effect::Notice(Notice::StoreWaiting {
                    object: place.clone(),
                    error,
                }));
                for waiter in waiters {
                    match waiter {
                        // Only the newest table decides what must be there: ask it again.
                        LeafWaiter::Read(op) if !is_newest => self.resolve_waiting(op),
                        LeafWaiter::Read(op) => {
                            let waiting = self.take_waiting(op, hash);
                            if let Some(extent) = waiting {
                                self.read_doubt(op, extent, place.clone());
                            }
                        }
                        LeafWaiter::Publish => self.publish_leaf_failed(),
                    }
                }
            }
            other => {
                self.store_failed(&other);
                let at = self.now + RETRY * 4;
                self.own.retry_leaf(at, hash);
            }
        }
    }

    // The blocks of a read that wait for that leaf.
    pub(super) fn take_waiting(&mut self, op: u64, hash: Hash) -> Option<Extent> {
        let geometry = self.geometry?;
        let leaves = self.present.root().map(|root| &root.leaves);
        let read = self.reads.ops.get_mut(&op)?;
        let at = read.waiting.iter().position(|extent| {
            let index = geometry.leaf_of(geometry.chunk_of(geometry.grain_of(extent.start)));
            leaves
                .and_then(|leaves| leaves.get(&index))
                .is_some_and(|leaf| leaf.hash == hash)
        });
        match at {
            Some(at) => Some(read.waiting.remove(at)),
            // The table has changed since: whichever it was is looked up again.
            None => read.waiting.pop(),
        }
    }

    /// Asks for a leaf again that the store did not give.
    pub(crate) fn leaf_retry(&mut self, hash: Hash) {
        self.leaf_fetch(hash);
    }

    pub(super) fn leaf_came(
        &mut self,
        hash: Hash,
        leaf: alloc::sync::Arc<crate::table::types::Leaf>,
    ) {
        for waiter in self.present.loaded(hash, leaf) {
            match waiter {
                LeafWaiter::Read(op) => self.resolve_waiting(op),
                // `publish_step` looks it up again.
                LeafWaiter::Publish => self.publish_leaf_came(),
            }
        }
        self.hydrate_pump();
    }

    /// Looks up again what of a read waits for leaves.
    pub(super) fn resolve_waiting(&mut self, op: u64) {
        let read = self.reads.ops.get_mut(&op);
        let waiting = read.map(|read| core::mem::take(&mut read.waiting));
        for extent in waiting.into_iter().flatten() {
            self.resolve(op, extent);
        }
    }
}

/// The object that a leaf lies in.
pub(crate) fn leaf_object(at: &LeafRef) -> ObjectName {
    match at.home {
        LeafHome::Root(name) => ObjectName::Root(name),
        LeafHome::Leaves(name) => ObjectName::Leaves(name),
    }
}
