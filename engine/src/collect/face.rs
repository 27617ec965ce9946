//! What a run is given, what it asks, and what it did.

use crate::effect::{StoreError, StoreRequest};
use crate::ids::{AttachId, Version};
use crate::object::names::{ObjectName, RootName};
use crate::table::types::Root;
use crate::time::{Duration, WallTime};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// What a run is given.
#[derive(Clone, Debug)]
pub struct Task {
    /// The newest root. It passed its look.
    pub root: Arc<Root>,
    /// Our attachment, which holds the volume.
    pub own: AttachId,
    /// The versions in `root.dying` whose grace is over.
    pub ripe: Vec<RootName>,
    /// Those of them of which an earlier run of this process left nothing but the root, with their ordinals.
    pub drained: BTreeMap<RootName, u64>,
    /// Those in `root.dying` of which an earlier run of this process left nothing at all.
    pub gone: BTreeSet<RootName>,
    /// Those in `root.dying` whose grace was over and that an earlier run of this process could not read.
    pub damaged: BTreeSet<RootName>,
    /// Whether to list the container for orphans too; then strays are found, and what they reach is kept.
    pub search: Option<Search>,
    /// Requests under way at once: few where nobody waits for the run.
    pub window: usize,
    /// Deadline of one request.
    pub store_deadline: Duration,
}

/// How orphans are searched for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Search {
    /// Wall time as the run begins.
    pub wall: WallTime,
    /// An object younger than this stays, by the time in its row; 0 asks for no time.
    pub min_age: Duration,
}

impl Search {
    /// Whether an object last written then is old enough.
    pub(super) const fn is_old(&self, modified: WallTime) -> bool {
        let min_age = self.min_age.as_secs();
        min_age == 0 || modified.0.saturating_add(min_age) <= self.wall.0
    }
}

impl Task {
    /// Whether no root to come can be the first to name an object: it is of an earlier attachment, or of a version that
    /// this one has published. (A publish under way writes under the next version.)
    pub(super) fn is_past(&self, attach: AttachId, version: Version) -> bool {
        attach.generation < self.own.generation
            || (attach == self.own && version <= self.root.name.version)
    }
}

/// What the collector wants next.
#[derive(Clone, Debug)]
pub enum Ask<P> {
    /// Ask the store. A root or leaf may also come from a cache; a delete waits until nothing here holds the object.
    Store {
        /// Names the request.
        slot: u32,
        /// What.
        request: StoreRequest<P>,
    },
    /// Look (with absence asked twice) and tell [`super::Collect::looked`].
    Look,
    /// The run is over.
    End(Box<Report>),
}

/// What a run did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Versions of which nothing is left: the next root drops their `dying` entries.
    pub gone: Vec<RootName>,
    /// Versions of which only the root is left, which has to stay, and their ordinals: for the next run.
    pub drained: BTreeMap<RootName, u64>,
    /// Data objects deleted.
    pub data: u64,
    /// Leaves objects deleted.
    pub leaves: u64,
    /// Roots deleted.
    pub roots: u64,
    /// Objects of dying versions or strays that cannot be read: the versions stay listed, and so does every orphan that
    /// may be a stray's.
    pub damaged: Vec<ObjectName>,
    /// Roots that are not in the history, which a search found. They and what they reach are kept.
    pub strays: Vec<RootName>,
    /// Orphans that a search found and that are younger than the least age: they stay.
    pub young: u64,
    /// Why it ended early, if it did.
    pub stopped: Option<Stopped>,
}

/// Why a run ended early. What was deleted until then was dead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stopped {
    /// The look failed: another host has the volume.
    Fenced,
    /// A live object cannot be read, or the store refuses: what it reaches is not known, so nothing more goes.
    Blocked {
        /// The object.
        object: ObjectName,
        /// What the store said.
        error: StoreError,
    },
}
