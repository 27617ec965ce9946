//! The collector: which objects of dead versions may go, and in which order.
//!
//! ```text
//!  dying roots ─► live roots ─► ┌ suspect leaves ─► live leaves over the same chunks ─► [look] ─► data objects ┐
//!  (their leaves (theirs are    └───────────────────── a slice at a time ◄──────────────────────────────────────┘
//!   are suspect)  not)                                              ─► [look] ─► leaves objects ─► [look] ─► roots
//!
//!  with a search:  list roots (strays) ─► as above, and slices of listed data objects, pages of listed leaves objects
//! ```
//!
//! Shape      a leaf that a live root references is live, and so is all that it names; only leaves that no live root
//!            references are opened, and what they name is searched in the live leaves over the same chunks. So a run
//!            costs what the dying versions changed, not what the volume holds.
//! Live       the newest root, every version that it lists or pins, strays that a search found, and dying versions whose
//!            grace still runs: all of them, not the neighbours only, for a rollback brings old leaves back.
//! Search     a listing only finds candidates: objects that no root to come can name, old enough. They go as suspects go.
//! Invariant  nothing is deleted before every live root and every live leaf that may name it was read. Data goes before
//!            the leaves that name it, these before the roots: whatever is found missing on the way was deleted by an
//!            earlier run, so a restart begins again from the `dying` list and needs no note.
//! Invariant  what is dead under the newest root stays dead under its successors (names never return, and a new root
//!            reaches only what its parent, a live version or its own attachment wrote): a run may be overtaken by
//!            publishes.
//! Not here   the grace itself ([`Graves`] counts it), the look, objects held by reads and merges (the caller delays
//!            the delete), other containers: a parent's objects are never touched.

mod face;
mod fold;
mod graves;
mod pins;
mod search;
#[cfg(test)]
mod tests;

pub use face::{Ask, Report, Search, Stopped, Task};
pub use graves::Graves;
pub(crate) use pins::Unpin;

use crate::attach::ROOT_STRIDE;
use crate::effect::{Absence, Expect, GetRequest, Meta, Outcome, StoreError, StoreRequest};
use crate::ids::{AttachId, Container, Generation};
use crate::object::names::{DataName, ObjectName, RootName};
use crate::table::types::{Leaf, LeafHome, LeafRef, Root};
use crate::time::{Duration, Instant};
use crate::units::LeafIndex;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use search::Listing;

/// Data objects judged together: bounds memory, and how long a verdict waits for its deletes.
const SLICE: usize = 1024;

/// Deletes on the word of one look.
const DELETES_PER_LOOK: u32 = 256;

/// A request without a verdict is sent again after so long.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A request of the run.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Errand {
    Dying(RootName),
    Live(RootName),
    /// A dying root whose grace still runs.
    Grace(RootName),
    Stray(RootName),
    Suspect(LeafIndex, LeafRef),
    /// A live leaf, and the strongest that references it.
    Witness(LeafRef, Reach),
    Delete(ObjectName),
    /// The next page of names that begin so.
    List(&'static str),
}

/// Who references a leaf, weakest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Reach {
    /// Roots that are not in the history: what they name may be gone.
    Stray,
    /// Dying versions in their grace: an earlier process may have been past it.
    Grace,
    /// Live versions.
    Live,
}

/// Where the run stands. Each begins when all errands of the one before are done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// Lists the roots, and loads those that are not in the history.
    Strays,
    /// Loads the ripe roots; their leaves become suspect.
    Dying,
    /// Loads the live roots; their leaves are suspect no longer.
    Live,
    /// Opens suspect leaves, and lists data objects behind them, until the slice is full.
    Suspects,
    /// Opens the live leaves over the slice's chunks.
    Witnesses,
    /// Deletes what of the slice no live leaf named.
    Data,
    /// Deletes leaves objects that no live root references, first those of ripe versions, then those of a listing.
    Leaves,
    /// Deletes roots.
    Roots,
    /// Over.
    Over,
}

/// One run. Drain [`Collect::poll`] until `None` after every call, and call it again at [`Collect::poll_timeout`].
#[derive(Clone, Debug)]
pub struct Collect {
    task: Task,
    step: Step,
    /// Errands of this step not sent yet.
    queue: VecDeque<Errand>,
    again: Vec<(Instant, Errand)>,
    open: BTreeMap<u32, Errand>,
    slots: u32,
    /// Roots read and not folded yet; folding goes on a bounded number of leaves at a time.
    unfolded: VecDeque<Unfolded>,
    /// Ripe versions: ordinal once known, and whether they can be finished.
    ripe: Vec<Ripe>,
    ripe_at: BTreeMap<RootName, u32>,
    suspects: BTreeMap<(LeafIndex, LeafRef), Vec<u32>>,
    /// Riding leaves of ripe roots, which need no second read.
    riding: BTreeMap<LeafRef, Arc<Leaf>>,
    /// The suspect that the next slice begins behind.
    suspects_done: Option<(LeafIndex, LeafRef)>,
    /// Own leaves that live roots reference, and who does.
    live: BTreeMap<(LeafIndex, LeafRef), Reach>,
    homes: BTreeSet<LeafHome>,
    /// Data objects of this slice that no live leaf has named yet; `true`: too young to go.
    slice: BTreeMap<DataName, bool>,
    /// The leaves over the slice's chunks: first and last, ascending, disjoint.
    spans: Vec<(LeafIndex, LeafIndex)>,
    witnesses_done: Option<(LeafIndex, LeafRef)>,
    listing: Listing,
    /// Roots that were gone and are listed: a PUT that nobody waited for any more has landed.
    back: Vec<RootName>,
    /// A stray cannot be read: what attachments up to this one wrote may be its.
    blind: Option<Generation>,
    /// Deletes that the last good look still covers.
    covered: u32,
    looking: bool,
    report: Report,
    told: bool,
}

/// A root whose leaves are being sorted.
#[derive(Clone, Debug)]
struct Unfolded {
    root: Arc<Root>,
    of: Of,
    /// The last leaf that was sorted.
    done: Option<LeafIndex>,
}

/// What a root is to the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Of {
    /// The ripe version of this index.
    Ripe(u32),
    /// Another version, whose leaves are no orphans.
    Other(Reach),
}

#[derive(Clone, Debug)]
struct Ripe {
    name: RootName,
    ordinal: Option<u64>,
    state: RipeState,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum RipeState {
    /// Its root is there, or was not asked for yet.
    There,
    /// Its root is not there: an earlier run deleted it.
    Gone,
    /// It, or a leaf of it, cannot be read.
    Damaged,
}

impl Collect {
    /// A run for what is ripe. A ripe version that the root does not list as dying, or lists as live too, is left alone.
    pub fn new(task: Task) -> Self {
        let live = live_names(&task.root);
        let dying: BTreeSet<RootName> = task.root.dying.iter().map(|dying| dying.root).collect();
        let ripe: Vec<Ripe> = (task.ripe.iter())
            .filter(|name| dying.contains(name))
            .filter(|name| !live.contains(name) && !task.gone.contains(name))
            .map(|name| Ripe {
                name: *name,
                ordinal: task.drained.get(name).copied(),
                state: RipeState::There,
            })
            .collect();
        // There are no more of them than a root lists.
        let ripe_at = (0..).zip(&ripe).map(|(at, ripe)| (ripe.name, at)).collect();
        Self {
            step: Step::Strays,
            queue: VecDeque::new(),
            again: Vec::new(),
            open: BTreeMap::new(),
            slots: 0,
            unfolded: VecDeque::new(),
            ripe,
            ripe_at,
            suspects: BTreeMap::new(),
            riding: BTreeMap::new(),
            suspects_done: None,
            live: BTreeMap::new(),
            homes: BTreeSet::new(),
            slice: BTreeMap::new(),
            spans: Vec::new(),
            witnesses_done: None,
            listing: Listing::new(task.search),
            back: Vec::new(),
            blind: None,
            covered: 0,
            looking: false,
            report: Report::default(),
            told: false,
            task,
        }
    }

    /// What to do next; `None`: wait for an outcome, or for [`Collect::poll_timeout`].
    pub fn poll<P>(&mut self, now: Instant) -> Option<Ask<P>> {
        let due = |(at, _): &(Instant, Errand)| *at <= now;
        while let Some(at) = self.again.iter().position(due) {
            let (_, errand) = self.again.swap_remove(at);
            self.queue.push_front(errand);
        }
        self.fold_some();
        let errand = loop {
            while self.is_idle() && self.step != Step::Over {
                self.next_step();
            }
            if self.step == Step::Over {
                return (!core::mem::replace(&mut self.told, true))
                    .then(|| Ask::End(Box::new(core::mem::take(&mut self.report))));
            }
            if self.open.len() >= self.task.window || self.looking {
                return None;
            }
            match self.queue.pop_front().or_else(|| self.pull()) {
                Some(errand) => break errand,
                // Riding leaves were opened without an errand, and that was all.
                None if self.is_idle() => {}
                None => return None,
            }
        };
        if matches!(errand, Errand::Delete(_)) {
            if self.covered == 0 {
                self.looking = true;
                self.queue.push_front(errand);
                return Some(Ask::Look);
            }
            self.covered -= 1;
        }
        let request = self.request(&errand);
        let slot = self.slots;
        self.slots = self.slots.wrapping_add(1);
        self.open.insert(slot, errand);
        Some(Ask::Store { slot, request })
    }

    /// When [`Collect::poll`] wants to be called next; at once while there is something to fold. What comes due during a look
    /// waits for it.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        if self.step == Step::Over || self.looking {
            return None;
        }
        let fold = (!self.unfolded.is_empty()).then_some(now);
        self.again.iter().map(|(at, _)| *at).chain(fold).min()
    }

    /// The answer to [`Ask::Look`].
    pub fn looked(&mut self, good: bool) {
        if !core::mem::replace(&mut self.looking, false) {
            return;
        }
        match good {
            true => self.covered = DELETES_PER_LOOK,
            false => self.stop(Stopped::Fenced),
        }
    }

    /// What came of a request.
    pub fn handle<P>(&mut self, now: Instant, slot: u32, outcome: Outcome<P>) {
        let Some(errand) = self.open.remove(&slot) else {
            return;
        };
        if self.step == Step::Over {
            return;
        }
        match (errand, outcome) {
            (errand, Outcome::Store(StoreError::Unavailable | StoreError::Unknown)) => {
                self.again.push((now + ASK_AGAIN, errand));
            }
            (Errand::Dying(name), Outcome::Meta(Meta::Root(root), _)) if root.name == name => {
                let Some((at, ripe)) = self.ripe_mut(name) else {
                    return;
                };
                ripe.ordinal = Some(root.ordinal);
                self.unfold(root, Of::Ripe(at));
            }
            (Errand::Dying(name), Outcome::Store(StoreError::Absent)) => {
                self.set_state(name, RipeState::Gone);
            }
            (Errand::Dying(name), Outcome::Store(StoreError::Damaged) | Outcome::Meta(..)) => {
                self.set_state(name, RipeState::Damaged);
                self.report.damaged.push(ObjectName::Root(name));
            }
            (Errand::Live(name), Outcome::Meta(Meta::Root(root), _)) if root.name == name => {
                self.unfold(root, Of::Other(Reach::Live));
            }
            (Errand::Grace(name), Outcome::Meta(Meta::Root(root), _)) if root.name == name => {
                self.unfold(root, Of::Other(Reach::Grace));
            }
            (Errand::Stray(name), Outcome::Meta(Meta::Root(root), _)) if root.name == name => {
                self.report.strays.push(name);
                self.unfold(root, Of::Other(Reach::Stray));
            }
            // The row outlived its root.
            (Errand::Stray(_), Outcome::Store(StoreError::Absent)) => {}
            (
                Errand::Stray(name),
                Outcome::Store(StoreError::Damaged | StoreError::TooNew) | Outcome::Meta(..),
            ) => {
                self.report.strays.push(name);
                self.blinded(ObjectName::Root(name), name.attach);
            }
            // Deleted by an earlier process; its entry goes with the next root.
            (Errand::Grace(_), Outcome::Store(StoreError::Absent)) => {}
            (Errand::Suspect(..), Outcome::Meta(Meta::Leaf(leaf), _)) => self.open_suspect(&leaf),
            // Deleted by an earlier run, after all data that it named.
            (Errand::Suspect(..), Outcome::Store(StoreError::Absent)) => {}
            (Errand::Suspect(index, at), Outcome::Store(StoreError::Damaged)) => {
                self.spoil(index, &at);
            }
            (Errand::Witness(..), Outcome::Meta(Meta::Leaf(leaf), _)) => self.witness(&leaf),
            // An earlier process was past its grace already, or knew of no stray, and had deleted what this leaf named.
            (
                Errand::Witness(_, Reach::Grace | Reach::Stray),
                Outcome::Store(StoreError::Absent),
            ) => {}
            (
                Errand::Witness(at, Reach::Stray),
                Outcome::Store(StoreError::Damaged | StoreError::TooNew),
            ) => {
                let object = at.home.object();
                self.blinded(object, at.home.attach());
            }
            (Errand::List(_), Outcome::Names(rows)) => self.listed(&rows),
            (Errand::Delete(name), Outcome::Done) => self.deleted(name),
            (errand, Outcome::Store(error)) => self.block(&errand, error),
            (errand, _) => self.block(&errand, StoreError::Damaged),
        }
    }

    fn unfold(&mut self, root: Arc<Root>, of: Of) {
        let done = None;
        self.unfolded.push_back(Unfolded { root, of, done });
    }

    /// Counts a delete.
    fn deleted(&mut self, name: ObjectName) {
        match name {
            ObjectName::Data(_) => self.report.data += 1,
            ObjectName::Leaves(_) => self.report.leaves += 1,
            ObjectName::Root(name) => {
                self.report.roots += 1;
                self.set_state(name, RipeState::Gone);
            }
            _ => {}
        }
    }

    fn block(&mut self, errand: &Errand, error: StoreError) {
        let object = errand.object();
        self.stop(Stopped::Blocked { object, error });
    }

    fn stop(&mut self, why: Stopped) {
        self.report.stopped = Some(why);
        self.finish();
    }

    fn set_state(&mut self, name: RootName, state: RipeState) {
        if let Some((_, ripe)) = self.ripe_mut(name) {
            ripe.state = state;
        }
    }

    /// A ripe version and its index.
    fn ripe_mut(&mut self, name: RootName) -> Option<(u32, &mut Ripe)> {
        let at = *self.ripe_at.get(&name)?;
        Some((at, self.ripe.get_mut(at as usize)?))
    }

    fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.open.is_empty()
            && self.again.is_empty()
            && self.unfolded.is_empty()
            && self.peek().is_none()
    }

    fn next_step(&mut self) {
        // Each kind of object goes on the word of a look of its own.
        self.covered = 0;
        self.step = match self.step {
            Step::Strays => {
                let unknown = self.ripe.iter().filter(|ripe| ripe.ordinal.is_none());
                self.queue = unknown.map(|ripe| Errand::Dying(ripe.name)).collect();
                Step::Dying
            }
            Step::Dying => {
                self.queue = self.live_roots();
                // The newest root is at hand.
                self.unfold(self.task.root.clone(), Of::Other(Reach::Live));
                Step::Live
            }
            Step::Live => {
                self.listing = Listing::new(self.task.search);
                Step::Suspects
            }
            Step::Suspects => {
                self.spans = self.spans_of_slice();
                self.witnesses_done = None;
                Step::Witnesses
            }
            Step::Witnesses => {
                for (name, is_young) in core::mem::take(&mut self.slice) {
                    match is_young {
                        true => self.report.young += 1,
                        false => (self.queue).push_back(Errand::Delete(ObjectName::Data(name))),
                    }
                }
                Step::Data
            }
            Step::Data if self.peek_suspect().is_some() || !self.listing.is_over() => {
                Step::Suspects
            }
            Step::Data => {
                self.queue = self.dead_leaves();
                self.listing = Listing::new(self.task.search);
                Step::Leaves
            }
            Step::Leaves => {
                self.queue = self.dead_roots();
                Step::Roots
            }
            Step::Roots => {
                self.finish();
                Step::Over
            }
            Step::Over => Step::Over,
        };
    }

    /// Ends the run: what is gone and what is drained is known only when the leaves went too.
    fn finish(&mut self) {
        let is_drained = self.step == Step::Roots;
        for ripe in &self.ripe {
            match (ripe.state, ripe.ordinal) {
                (RipeState::Gone, _) => self.report.gone.push(ripe.name),
                (RipeState::There, Some(ordinal))
                    if is_drained || self.task.drained.contains_key(&ripe.name) =>
                {
                    self.report.drained.insert(ripe.name, ordinal);
                }
                _ => {}
            }
        }
        self.step = Step::Over;
        self.queue.clear();
        self.again.clear();
        self.unfolded.clear();
    }

    /// Every root whose reach is live, but the newest, which is at hand.
    fn live_roots(&self) -> VecDeque<Errand> {
        let mut live = live_names(&self.task.root);
        live.remove(&self.task.root.name);
        let ripe: BTreeSet<RootName> = self.ripe.iter().map(|ripe| ripe.name).collect();
        // Their grace still runs: somebody may be reading them.
        let dying = self.task.root.dying.iter().map(|dying| dying.root);
        let in_grace: BTreeSet<RootName> = dying
            .filter(|name| !ripe.contains(name) && !live.contains(name))
            // Nothing is left of these that their own leaves alone would keep, or nobody can read it.
            .filter(|name| !self.task.gone.contains(name) && !self.task.damaged.contains(name))
            .filter(|name| !self.task.drained.contains_key(name))
            .collect();
        let live = live.into_iter().map(Errand::Live);
        live.chain(in_grace.into_iter().map(Errand::Grace))
            .collect()
    }

    /// Leaves objects that ripe versions reference and no live version does.
    fn dead_leaves(&mut self) -> VecDeque<Errand> {
        let damaged = |of: &Vec<u32>| {
            of.iter()
                .any(|at| self.ripe.get(*at as usize).is_some_and(Ripe::is_damaged))
        };
        let kept: BTreeSet<LeafHome> = (self.suspects.iter())
            .filter(|(_, of)| damaged(of))
            .map(|((_, at), _)| at.home)
            .collect();
        self.homes.extend(kept);
        let suspects = self.suspects.keys().map(|(_, at)| at.home);
        let dead: BTreeSet<ObjectName> = suspects
            .filter(|home| !self.homes.contains(home))
            .filter_map(|home| match home {
                LeafHome::Leaves(name) => Some(ObjectName::Leaves(name)),
                LeafHome::Root(_) => None,
            })
            .collect();
        dead.into_iter().map(Errand::Delete).collect()
    }

    /// Ripe roots that nothing keeps: no live version uses their riding leaves, nor does the search for the newest root.
    fn dead_roots(&mut self) -> VecDeque<Errand> {
        let back = core::mem::take(&mut self.back);
        let ripe = (self.ripe.iter())
            .filter(|ripe| ripe.state == RipeState::There)
            .filter(|ripe| !self.homes.contains(&LeafHome::Root(ripe.name)))
            .filter(|ripe| ripe.ordinal.is_some_and(|k| !self.guides(ripe.name, k)))
            .map(|ripe| ripe.name);
        (ripe.chain(back))
            .map(|name| Errand::Delete(ObjectName::Root(name)))
            .collect()
    }

    /// Whether the search for our newest root needs this one (multiples of 64 and all since the last such).
    fn guides(&self, name: RootName, ordinal: u64) -> bool {
        let newest = self.task.root.name.attach == self.task.own;
        let last = self.task.root.ordinal / ROOT_STRIDE * ROOT_STRIDE;
        name.attach == self.task.own
            && (!newest || ordinal.is_multiple_of(ROOT_STRIDE) || ordinal >= last)
    }

    fn request<P>(&self, errand: &Errand) -> StoreRequest<P> {
        let container = self.task.root.container.clone();
        let deadline = self.task.store_deadline;
        let get = |name, range, expect| {
            StoreRequest::Get(GetRequest {
                container: container.clone(),
                name,
                range,
                absence: Absence::Twice,
                deadline,
                expect,
            })
        };
        let leaf = |at: &LeafRef| {
            let range = u64::from(at.offset)..u64::from(at.offset) + u64::from(at.len);
            get(at.home.object(), Some(range), Expect::Leaf(at.hash))
        };
        match errand {
            Errand::Dying(name)
            | Errand::Live(name)
            | Errand::Grace(name)
            | Errand::Stray(name) => get(ObjectName::Root(*name), None, Expect::Root(None)),
            Errand::Suspect(_, at) | Errand::Witness(at, _) => leaf(at),
            Errand::Delete(name) => StoreRequest::Delete {
                container: container.clone(),
                name: *name,
            },
            Errand::List(prefix) => self.listing.request(container.clone(), prefix),
        }
    }
}

impl Ripe {
    fn is_damaged(&self) -> bool {
        self.state == RipeState::Damaged
    }
}

impl Errand {
    fn object(&self) -> ObjectName {
        match self {
            Self::Dying(name) | Self::Live(name) | Self::Grace(name) | Self::Stray(name) => {
                ObjectName::Root(*name)
            }
            Self::Suspect(_, at) | Self::Witness(at, _) => at.home.object(),
            Self::Delete(name) => *name,
            // A listing is of the container: its one object that is always there stands for it.
            Self::List(_) => ObjectName::Volume,
        }
    }
}

impl LeafHome {
    /// The object's name.
    pub const fn object(&self) -> ObjectName {
        match self {
            Self::Root(name) => ObjectName::Root(*name),
            Self::Leaves(name) => ObjectName::Leaves(*name),
        }
    }

    /// Who wrote the object.
    pub const fn attach(&self) -> AttachId {
        match self {
            Self::Root(name) => name.attach,
            Self::Leaves(name) => name.attach,
        }
    }
}

/// The newest root and every version that it lists or pins.
fn live_names(root: &Root) -> BTreeSet<RootName> {
    let snapshots = root.snapshots.iter().map(|entry| entry.root);
    let pins = root.pins.iter().map(|pin| pin.root);
    let pins = pins.filter(|_| !bug!("pins-keep-nothing"));
    if bug!("only-the-newest-lives") {
        return [root.name].into();
    }
    snapshots.chain(pins).chain([root.name]).collect()
}

/// Whether a leaf lies in the volume's own container.
fn is_own(own: &Container, at: &LeafRef) -> bool {
    at.container
        .as_ref()
        .is_none_or(|container| container == own)
}
