//! The collector's sets: what is suspect, what is live, and what of a slice is named by whom.

use super::search::{CHUNKS, TABLES, VERSIONS};
use super::{Collect, Errand, Of, Reach, RipeState, SLICE, Step, Unfolded, is_own};
use crate::object::names::DataName;
use crate::table::types::{LayerKind, Leaf, LeafRef};
use crate::units::LeafIndex;
use alloc::vec::Vec;
use core::ops::Bound;

/// Leaf references folded per call: a root of 64 TiB has 32,768.
const FOLD: usize = 1024;

impl Collect {
    /// Folds a bounded number of a root's leaf references: a ripe root's become suspect, a live root's are live.
    pub(super) fn fold_some(&mut self) {
        let Some(Unfolded { root, of, done }) = self.unfolded.pop_front() else {
            return;
        };
        let from = done.map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        for (index, at) in root.leaves.range((from, Bound::Unbounded)).take(FOLD) {
            last = Some(*index);
            if !is_own(&self.task.root.container, at) {
                // A parent's leaf names only its own and its parents' objects.
                continue;
            }
            let at = LeafRef {
                container: None,
                ..at.clone()
            };
            match of {
                Of::Ripe(ripe) => {
                    if let (Some(leaf), true) = (
                        root.riding.get(index),
                        at.home == super::LeafHome::Root(root.name),
                    ) {
                        self.riding.insert(at.clone(), leaf.clone());
                    }
                    self.suspects.entry((*index, at)).or_default().push(ripe);
                }
                Of::Other(reach) => {
                    self.homes.insert(at.home);
                    let key = (*index, at);
                    if self.suspects.remove(&key).is_some() {
                        self.riding.remove(&key.1);
                    }
                    let known = self.live.entry(key).or_insert(reach);
                    *known = reach.max(*known);
                }
            }
        }
        if last.is_some() {
            let done = last;
            self.unfolded.push_front(Unfolded { root, of, done });
        }
    }

    /// The errand that the step would go on with, beyond its queue.
    pub(super) fn peek(&self) -> Option<Errand> {
        match self.step {
            Step::Strays => self.listing.next(VERSIONS),
            Step::Suspects if self.slice.len() < SLICE => match self.peek_suspect() {
                Some((index, at)) => Some(Errand::Suspect(index, at)),
                None => self.listing.next(CHUNKS),
            },
            Step::Witnesses if !self.slice.is_empty() => {
                let ((_, at), reach) = self.peek_witness()?;
                Some(Errand::Witness(at, reach))
            }
            Step::Leaves if self.queue.is_empty() => self.listing.next(TABLES),
            _ => None,
        }
    }

    /// Takes the errand that the step goes on with. Riding leaves of ripe roots are opened at once.
    pub(super) fn pull(&mut self) -> Option<Errand> {
        loop {
            let errand = self.peek()?;
            match &errand {
                Errand::Suspect(index, at) => {
                    self.suspects_done = Some((*index, at.clone()));
                    if let Some(leaf) = self.riding.remove(at) {
                        self.open_suspect(&leaf);
                        continue;
                    }
                }
                Errand::Witness(..) => {
                    self.witnesses_done = self.peek_witness().map(|(key, _)| key);
                }
                Errand::List(_) => self.listing.asked(),
                _ => {}
            }
            return Some(errand);
        }
    }

    /// The next suspect leaf.
    pub(super) fn peek_suspect(&self) -> Option<(LeafIndex, LeafRef)> {
        let from = (self.suspects_done.as_ref()).map_or(Bound::Unbounded, Bound::Excluded);
        let (key, _) = self
            .suspects
            .range::<(LeafIndex, LeafRef), _>((from, Bound::Unbounded))
            .next()?;
        Some(key.clone())
    }

    /// The next live leaf over the slice's chunks.
    fn peek_witness(&self) -> Option<((LeafIndex, LeafRef), Reach)> {
        let from = (self.witnesses_done.as_ref()).map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self
            .live
            .range::<(LeafIndex, LeafRef), _>((from, Bound::Unbounded));
        let (next, reach) = rest.next()?;
        let at = self.spans.partition_point(|(_, last)| *last < next.0);
        let (first, _) = self.spans.get(at)?;
        if *first <= next.0 {
            return Some((next.clone(), *reach));
        }
        // Leap to the next span that has a live leaf.
        self.spans.get(at..)?.iter().find_map(|(first, last)| {
            let (low, reach) = self.live.range(Self::key_floor(*first)..).next()?;
            (low.0 <= *last).then(|| (low.clone(), *reach))
        })
    }

    /// The least key with this index: of all references the one with the least of everything.
    fn key_floor(index: LeafIndex) -> (LeafIndex, LeafRef) {
        let name = crate::object::names::RootName {
            version: crate::ids::Version(0),
            attach: crate::ids::AttachId::default(),
        };
        let least = LeafRef {
            container: None,
            home: super::LeafHome::Root(name),
            offset: 0,
            len: 0,
            hash: crate::ids::Hash::default(),
        };
        (index, least)
    }

    /// Adds what a suspect leaf names to the slice.
    pub(super) fn open_suspect(&mut self, leaf: &Leaf) {
        for name in own_objects(&self.task.root.container, leaf) {
            self.slice.insert(name, false);
        }
    }

    /// A suspect leaf that cannot be read: the versions that use it stay listed.
    pub(super) fn spoil(&mut self, index: LeafIndex, at: &LeafRef) {
        mark!("suspect-leaf-damaged");
        self.report.damaged.push(at.home.object());
        for ripe in self
            .suspects
            .get(&(index, at.clone()))
            .into_iter()
            .flatten()
        {
            if let Some(ripe) = self.ripe.get_mut(*ripe as usize) {
                ripe.state = RipeState::Damaged;
            }
        }
    }

    /// What a live leaf names is live.
    pub(super) fn witness(&mut self, leaf: &Leaf) {
        let before = self.slice.len();
        for name in own_objects(&self.task.root.container, leaf) {
            self.slice.remove(&name);
        }
        if self.slice.len() < before {
            mark!("orphan-is-used");
            // An object over many leaves is often named by the first: then the others need not be read for it.
            self.spans = self.spans_of_slice();
        }
    }

    /// The leaves over the chunks of the slice's objects.
    pub(super) fn spans_of_slice(&self) -> Vec<(LeafIndex, LeafIndex)> {
        let geometry = self.task.root.geometry;
        let mut spans: Vec<(LeafIndex, LeafIndex)> = (self.slice.keys())
            .map(|name| (geometry.leaf_of(name.first), geometry.leaf_of(name.last)))
            .collect();
        spans.sort_unstable();
        let mut merged: Vec<(LeafIndex, LeafIndex)> = Vec::new();
        for (first, last) in spans {
            match merged.last_mut() {
                Some(before) if first <= before.1 => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        merged
    }
}

/// The data objects in this container that a leaf names.
fn own_objects<'a>(
    own: &'a crate::ids::Container,
    leaf: &'a Leaf,
) -> impl Iterator<Item = DataName> + 'a {
    let layers = leaf.entries.values().flat_map(|entry| &entry.layers);
    layers.filter_map(move |layer| match &layer.kind {
        LayerKind::Data(section) | LayerKind::Part { section, .. } => {
            (section.object.container == *own).then_some(section.object.name)
        }
        LayerKind::Hole | LayerKind::Lost { .. } => None,
    })
}
