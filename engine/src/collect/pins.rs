//! Which pins hold nothing any more: their child is gone, or no live version of it reaches the parent or what that stands on.
//!
//! ```text
//!  a pin ─► inspect the child ─► no superblock: drop │ unborn: keep │ its newest root ─► every version that it lists or pins
//!           ─► a reference out of the child: keep │ none in any root, none in any leaf: drop
//! ```
//!
//! Shape      one child after the other; the usual child references a leaf of its parent, and its newest root tells.
//! Invariant  what is not known keeps the pin: the next run asks again.
//! Invariant  a child that has let its parent go never reaches it again: a new root reaches only what its parent root, a
//!            live version or its own attachment wrote. So an old answer is as good as the newest.
//! Grace      the child's dying versions do not count: what a pin kept is dying for a grace of its own from now on, which
//!            ends after theirs.
//! Source     a child's superblock is confirmed before its pin is published, so a missing one was deleted.

use crate::attach::{Hint, Inspect};
use crate::effect::{Absence, Expect, GetRequest, Meta, Outcome, StoreError, StoreRequest};
use crate::ids::{Container, Hash};
use crate::object::names::{ObjectName, RootName};
use crate::table::types::{LayerKind, Leaf, LeafRef, Pin, Root};
use crate::time::{Duration, Instant};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

/// A request without a verdict is sent again after so long.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A question about the child.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Errand {
    /// The inspection's, by its own slot.
    Inspect(u32),
    Root(RootName),
    Leaf(LeafRef),
}

/// Where the check of a child stands.
#[derive(Clone, Debug)]
enum Stage {
    Begin,
    Inspecting(Box<Inspect>),
    /// Its versions and their leaves are read until one names us.
    Reading,
}

/// Checks the pins of a root. Drain [`Unpin::poll`] until `None` after every call, and call it again at
/// [`Unpin::poll_timeout`].
#[derive(Clone, Debug)]
pub(crate) struct Unpin {
    deadline: Duration,
    window: usize,
    /// The first is being checked.
    pins: VecDeque<Pin>,
    stage: Stage,
    queue: VecDeque<Errand>,
    again: Vec<(Instant, Errand)>,
    open: BTreeMap<u32, Errand>,
    slots: u32,
    /// The child's leaves that were asked for.
    seen: BTreeSet<Hash>,
    loose: Vec<Pin>,
}

impl Unpin {
    /// A check of `pins`, which are in one newest root; `window`: requests under way at once.
    pub(crate) fn new(pins: Vec<Pin>, deadline: Duration, window: usize) -> Self {
        Self {
            deadline,
            window,
            pins: pins.into(),
            stage: Stage::Begin,
            queue: VecDeque::new(),
            again: Vec::new(),
            open: BTreeMap::new(),
            slots: 0,
            seen: BTreeSet::new(),
            loose: Vec::new(),
        }
    }

    /// Once all are checked: the pins that hold nothing.
    pub(crate) fn end(&mut self) -> Option<Vec<Pin>> {
        (self.pins.is_empty()).then(|| core::mem::take(&mut self.loose))
    }

    /// The next request to send, with its slot.
    pub(crate) fn poll<P>(&mut self, now: Instant) -> Option<(u32, StoreRequest<P>)> {
        let child = self.pins.front()?.child.clone();
        let due = |(at, _): &(Instant, Errand)| *at <= now;
        while let Some(at) = self.again.iter().position(due) {
            let (_, errand) = self.again.swap_remove(at);
            self.queue.push_back(errand);
        }
        if self.open.len() >= self.window {
            return None;
        }
        if matches!(self.stage, Stage::Begin) {
            let inspect = Inspect::new(child.clone(), Hint::default(), self.deadline, false);
            self.stage = Stage::Inspecting(Box::new(inspect));
        }
        let (errand, request) = match &mut self.stage {
            Stage::Inspecting(inspect) => {
                let (slot, request) = inspect.poll(now)?;
                (Errand::Inspect(slot), request)
            }
            _ => {
                let errand = self.queue.pop_front()?;
                let request = self.request(child, &errand)?;
                (errand, request)
            }
        };
        let slot = self.slots;
        self.slots = self.slots.wrapping_add(1);
        self.open.insert(slot, errand);
        Some((slot, request))
    }

    /// When [`Unpin::poll`] wants to be called next. What comes due while as much is under way as may be waits for an answer.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.open.len() >= self.window {
            return None;
        }
        let inspect = match &self.stage {
            Stage::Inspecting(inspect) => inspect.poll_timeout(),
            _ => None,
        };
        let again = self.again.iter().map(|(at, _)| *at);
        again.chain(inspect).min()
    }

    /// What came of a request.
    pub(crate) fn handle<P>(&mut self, now: Instant, slot: u32, outcome: Outcome<P>) {
        let Some(errand) = self.open.remove(&slot) else {
            return;
        };
        match (errand, outcome) {
            (Errand::Inspect(slot), outcome) => self.inspected(now, slot, outcome),
            (errand, Outcome::Store(StoreError::Unavailable | StoreError::Unknown)) => {
                self.again.push((now + ASK_AGAIN, errand));
            }
            (Errand::Root(name), Outcome::Meta(Meta::Root(root), _)) if root.name == name => {
                self.read_root(&root);
            }
            (Errand::Leaf(_), Outcome::Meta(Meta::Leaf(leaf), _)) if !self.is_named(&leaf) => {}
            // It reaches us, or nobody knows.
            _ => self.next(false),
        }
        let is_read = self.queue.is_empty() && self.again.is_empty() && self.open.is_empty();
        if is_read && matches!(self.stage, Stage::Reading) {
            self.next(true);
        }
    }

    fn inspected<P>(&mut self, now: Instant, slot: u32, outcome: Outcome<P>) {
        let Stage::Inspecting(inspect) = &mut self.stage else {
            return;
        };
        match inspect.handle(now, slot, outcome) {
            None => {}
            Some(Ok((found, _))) if found.superblock.is_none() => self.next(true),
            Some(Ok((_, Some(newest)))) => {
                self.stage = Stage::Reading;
                self.open.clear();
                let root = newest.root;
                let kept = root.snapshots.iter().map(|entry| entry.root);
                let kept = kept.chain(root.pins.iter().map(|pin| pin.root));
                let others: BTreeSet<RootName> = kept.filter(|name| *name != root.name).collect();
                self.queue = others.into_iter().map(Errand::Root).collect();
                self.read_root(&root);
            }
            // Being born, or not to be understood.
            Some(_) => self.next(false),
        }
    }

    /// Goes through the leaves of a version of the child.
    fn read_root(&mut self, root: &Root) {
        let is_foreign = |c: &Container| *c != root.container;
        if (root.leaves.values()).any(|at| at.container.as_ref().is_some_and(is_foreign)) {
            return self.next(false);
        }
        for (index, at) in &root.leaves {
            if !self.seen.insert(at.hash) {
                continue;
            }
            match root.riding.get(index) {
                Some(leaf) if self.is_named(leaf) => return self.next(false),
                Some(_) => {}
                None => self.queue.push_back(Errand::Leaf(at.clone())),
            }
        }
    }

    /// Whether the leaf names an object of ours, or of an ancestor: that one is asked for us, and the version that our pin
    /// keeps answers for it.
    fn is_named(&self, leaf: &Leaf) -> bool {
        let layers = leaf.entries.values().flat_map(|entry| &entry.layers);
        layers.into_iter().any(|layer| match &layer.kind {
            LayerKind::Data(section) | LayerKind::Part { section, .. } => {
                let child = self.pins.front().map(|pin| &pin.child);
                child != Some(&section.object.container)
            }
            LayerKind::Hole | LayerKind::Lost { .. } => false,
        })
    }

    /// The child is judged: its pin is loose, or holds.
    fn next(&mut self, is_loose: bool) {
        let pin = self.pins.pop_front();
        self.loose.extend(pin.filter(|_| is_loose));
        self.stage = Stage::Begin;
        self.queue.clear();
        self.again.clear();
        // Outcomes of what is still open find no question.
        self.open.clear();
        self.seen.clear();
    }

    fn request<P>(&self, child: Container, errand: &Errand) -> Option<StoreRequest<P>> {
        let (name, range, expect) = match errand {
            Errand::Inspect(_) => return None,
            Errand::Root(name) => (ObjectName::Root(*name), None, Expect::Root(None)),
            Errand::Leaf(at) => {
                let range = u64::from(at.offset)..u64::from(at.offset) + u64::from(at.len);
                (at.home.object(), Some(range), Expect::Leaf(at.hash))
            }
        };
        Some(StoreRequest::Get(GetRequest {
            container: child,
            name,
            range,
            absence: Absence::Twice,
            deadline: self.deadline,
            expect,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{AttachId, Version, VolumeId};

    #[test]
    fn what_comes_due_while_the_window_is_full_turns_in_no_ring() {
        let second = |n: u64| Instant(n * 1_000_000_000);
        let pin = Pin {
            child: Container::new("child", VolumeId([2; 16])),
            root: RootName {
                version: Version(0),
                attach: AttachId::default(),
            },
        };
        let mut unpin = Unpin::new(alloc::vec![pin], Duration::from_secs(10), 1);
        let asked = unpin.poll::<()>(second(0));
        let (first, _) = asked.expect("the child is looked at");
        let away = Outcome::<()>::Store(StoreError::Unavailable);
        unpin.handle(second(0), first, away);
        // Something else is under way when the first is to be asked again.
        assert!(unpin.poll::<()>(second(0)).is_some());
        assert!(unpin.poll::<()>(second(60)).is_none());
        assert_eq!(unpin.poll_timeout(), None);
    }
}
