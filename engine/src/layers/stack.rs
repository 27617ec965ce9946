//! Active over frozen: the blocks that are newer than the table.

use crate::layers::map::{ExtentMap, Segment};
use crate::units::Extent;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

/// Attributes by key.
pub(crate) type Attributes = BTreeMap<String, Vec<u8>>;

/// Segments moved per call while two layers are joined.
const JOIN_SEGMENTS: usize = 1024;

/// A layer that a cut froze; it serves reads until its version is committed.
#[derive(Debug)]
pub(crate) struct Frozen {
    /// Its blocks.
    pub(crate) map: ExtentMap,
    /// The attributes as they were at the cut.
    pub(crate) attributes: Attributes,
}

/// All layers over the table.
#[derive(Debug, Default)]
pub(crate) struct Stack {
    /// Takes new writes.
    pub(crate) active: ExtentMap,
    /// Oldest first.
    pub(crate) frozen: VecDeque<Frozen>,
}

impl Stack {
    /// The newest content of `extent` in order; `None` = ask the table.
    pub(crate) fn cover(
        &self,
        extent: Extent,
        block_bytes: u32,
        f: &mut impl FnMut(Extent, Option<Segment>),
    ) {
        self.cover_below(self.frozen.len() + 1, extent, block_bytes, f);
    }

    // `depth` layers are left to ask: the frozen ones 0..depth, or all of them and the active one.
    fn cover_below(
        &self,
        depth: usize,
        extent: Extent,
        block_bytes: u32,
        f: &mut impl FnMut(Extent, Option<Segment>),
    ) {
        let Some(below) = depth.checked_sub(1) else {
            f(extent, None);
            return;
        };
        let layer = match bug!("oldest-frozen-first") && below < self.frozen.len() {
            true => self.frozen.len() - 1 - below,
            false => below,
        };
        let map = self
            .frozen
            .get(layer)
            .map_or(&self.active, |frozen| &frozen.map);
        if map.is_empty() {
            return self.cover_below(below, extent, block_bytes, f);
        }
        let mut gaps: smallvec::SmallVec<[(Extent, Option<Segment>); 8]> =
            smallvec::SmallVec::new();
        map.cover(extent, block_bytes, |extent, segment| {
            gaps.push((extent, segment))
        });
        for (extent, segment) in gaps {
            match segment {
                Some(_) => f(extent, segment),
                None => self.cover_below(below, extent, block_bytes, f),
            }
        }
    }

    /// Freezes the active layer: the cut. A pointer swap.
    pub(crate) fn freeze(&mut self, attributes: Attributes) {
        let map = core::mem::take(&mut self.active);
        self.frozen.push_back(Frozen { map, attributes });
    }

    /// Joins the two oldest frozen layers into one, a bounded part of the work per call; whether that is done.
    ///
    /// In between both are there, and what was moved reads as before.
    pub(crate) fn join_oldest(&mut self, block_bytes: u32) -> bool {
        let mut layers = self.frozen.iter_mut();
        let (Some(older), Some(newer)) = (layers.next(), layers.next()) else {
            debug_assert!(false, "two layers to join");
            return true;
        };
        newer
            .map
            .underlay(&mut older.map, JOIN_SEGMENTS, block_bytes);
        let is_done = older.map.is_empty();
        if is_done {
            self.frozen.pop_front();
        }
        is_done
    }

    /// Every layer's map.
    pub(crate) fn maps_mut(&mut self) -> impl Iterator<Item = &mut ExtentMap> {
        self.frozen
            .iter_mut()
            .map(|frozen| &mut frozen.map)
            .chain(core::iter::once(&mut self.active))
    }

    /// Segments in all layers.
    pub(crate) fn len(&self) -> usize {
        self.active.len()
            + self
                .frozen
                .iter()
                .map(|frozen| frozen.map.len())
                .sum::<usize>()
    }
}
