//! Frames that rot in the store: whoever reads one finds it damaged from then on, whichever replica and however often.
//!
//! What it may cost: reads of just its blocks, as long as they hold what the frame held (P5). The rest of the object, and
//! everything newer, is served as ever.

use crate::choice::Die;
use crate::payload::Stamp;
use crate::store::Content;
use crate::world::World;
use engine::effect::{Expect, GetRequest};
use engine::ids::Container;
use engine::object::names::ObjectName;
use std::collections::BTreeMap;
use std::ops::Range;

/// Frames that rot in a run, at most: each read of one takes the store half a minute before it is called damaged.
const FRAMES_MAX: usize = 2;

/// Blocks of one, at most, likewise.
const BLOCKS_MAX: usize = 16;

/// A frame that rotted.
#[derive(Clone, Debug)]
pub(crate) struct Rotten {
    container: Container,
    name: ObjectName,
    bytes: Range<u64>,
    blocks: BTreeMap<u64, Stamp>,
}

impl World {
    /// Frames are read from the store: the first of them may rot now. Returns whether any of them is rotten.
    pub(crate) fn finds_rot(&mut self, n: u64, get: &GetRequest) -> bool {
        let (Expect::Frames(_), Some(range)) = (&get.expect, &get.range) else {
            return false;
        };
        let ppm = self.config.faults.object_rot;
        if self.rotten.len() < FRAMES_MAX
            && self.chaos()
            && self.choices.chance(Die::ObjectRot, n, 0, ppm)
            && let Some(rotten) = self.frame_at(get, range.start)
        {
            self.trace.fault(Die::ObjectRot, n);
            self.trace
                .tell(self.now, || format!("FAULT object-rot: {rotten:?}"));
            self.rotten.push(rotten);
        }
        self.rotten.iter().any(|rotten| {
            rotten.name == get.name
                && rotten.container == get.container
                && rotten.bytes.start < range.end
                && range.start < rotten.bytes.end
        })
    }

    fn frame_at(&self, get: &GetRequest, at: u64) -> Option<Rotten> {
        let object = self.store.get(&get.container, &get.name)?;
        let Content::Data(data) = &object.content else {
            return None;
        };
        let frame = data.frames.iter().find(|frame| frame.offset == at)?;
        let per_grain = u64::from(4096 / self.config.geometry.block_bytes);
        let blocks = frame.grains.iter().flat_map(|(grain, stamps)| {
            let first = grain.0 * per_grain;
            (first..).zip(stamps.iter().copied())
        });
        let blocks: BTreeMap<u64, Stamp> = blocks.collect();
        (blocks.len() <= BLOCKS_MAX).then(|| Rotten {
            container: get.container.clone(),
            name: get.name,
            bytes: frame.offset..frame.offset + frame.bytes,
            blocks,
        })
    }

    /// What rotten frames of the volume, or of those that it stands on, held of a block.
    pub(crate) fn rotten_at(&self, volume: usize, lba: u64) -> Vec<Stamp> {
        let parent = |container: &Container| {
            let volume = self.volumes.iter().find(|v| v.container == *container);
            volume.and_then(|v| v.parent.clone())
        };
        let own = self.volumes[volume].container.clone();
        let line: Vec<Container> = std::iter::successors(Some(own), parent).collect();
        let rotten = self.rotten.iter().filter(|r| line.contains(&r.container));
        rotten.filter_map(|r| r.blocks.get(&lba).copied()).collect()
    }
}

/// Whether a block whose rotten frames held `rotten` may be called damaged, when a read may see anything from `oldest` to
/// `newest`: only what the store alone has can be gone.
pub(crate) fn may_be_gone(rotten: &[Stamp], oldest: Stamp, newest: Stamp) -> bool {
    // Between two that differ there may be a third.
    !rotten.is_empty() && (oldest != newest || rotten.contains(&newest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(write: u64) -> Stamp {
        Stamp {
            volume: 1,
            lba: 7,
            write,
        }
    }

    #[test]
    fn what_is_newer_than_a_rotten_frame_is_not_gone() {
        assert!(!may_be_gone(&[], stamp(1), stamp(2)), "nothing rotted");
        assert!(!may_be_gone(&[stamp(1)], stamp(2), stamp(2)));
    }

    #[test]
    fn what_a_read_may_still_see_of_a_rotten_frame_is() {
        assert!(may_be_gone(&[stamp(1)], stamp(1), stamp(1)));
        assert!(may_be_gone(&[stamp(1)], stamp(1), stamp(2)), "in flight");
        assert!(may_be_gone(&[stamp(1), stamp(2)], stamp(2), stamp(2)));
    }
}
