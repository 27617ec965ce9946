//! Frames by (object, offset): what is here, and in which slot of the cache file.
//!
//! A key never holds an LBA: names are never reused and hold one content for ever, so that a stale fill can never cover a
//! newer write. Every read checks the grains' sums, which stay in memory beside the slot.

use crate::effect::{CachedFrame, LocalFile, LocalRead};
use crate::journal::record::PAGE_BYTES;
use crate::payload::{Parts, Payload};
use crate::sum::BoundSum;
use crate::table::types::ObjectRef;
use crate::units::{GRAIN_BYTES, GrainIndex};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;
use smallvec::SmallVec;

/// A frame's identity: its object and its first byte there.
pub(crate) type FrameKey = (ObjectRef, u32);

/// What is known of a frame that is here or on its way.
#[derive(Clone, Debug)]
pub(crate) enum Held<P> {
    /// In a slot of the cache file.
    Slot(u32),
    /// In memory, on its way into a slot. Each grain of it had its sum.
    Memory(Parts<P>),
}

#[derive(Clone, Debug, Default)]
struct Slot {
    frame: Option<CachedFrame>,
    /// Reads under way: the slot stays.
    reads: u32,
    /// A fill is under way.
    filling: bool,
    /// Touched since the hand last passed.
    used: bool,
    /// Dropped while a read or fill was under way: freed when that ends.
    doomed: bool,
}

/// The cache of one volume.
#[derive(Debug)]
pub(crate) struct Cache<P> {
    held: BTreeMap<FrameKey, Held<P>>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    slots_max: u32,
    slot_bytes: u64,
    hand: usize,
}

impl<P: Payload> Cache<P> {
    pub(crate) fn new(slots_max: u32) -> Self {
        Self {
            held: BTreeMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            slots_max,
            slot_bytes: 0,
            hand: 0,
        }
    }

    /// The shape is known.
    pub(crate) fn set_frame_grains(&mut self, frame_grains: u32) {
        self.slot_bytes = u64::from(PAGE_BYTES) + u64::from(frame_grains) * u64::from(GRAIN_BYTES);
    }

    /// Takes over what a restart found.
    pub(crate) fn resume(&mut self, found: Vec<(u32, CachedFrame)>) {
        for (slot, frame) in found {
            if slot >= self.slots_max {
                continue;
            }
            while self.slots.len() <= slot as usize {
                self.slots.push(Slot::default());
            }
            let key = (frame.object.clone(), frame.offset);
            if self.held.contains_key(&key) {
                continue;
            }
            self.held.insert(key, Held::Slot(slot));
            self.slots[slot as usize].frame = Some(frame);
        }
        self.free = (0..self.slots.len() as u32)
            .filter(|slot| self.slots[*slot as usize].frame.is_none())
            .collect();
    }

    pub(crate) fn get(&self, key: &FrameKey) -> Option<&Held<P>> {
        self.held.get(key)
    }

    /// Slots in use.
    pub(crate) fn used(&self) -> u32 {
        (self.slots.len() - self.free.len()) as u32
    }

    pub(crate) fn slots_max(&self) -> u32 {
        self.slots_max
    }

    /// A verified read of the grains `slots` of a cached frame, of which `want` bytes are wanted. Pins the slot.
    pub(crate) fn read(
        &mut self,
        slot: u32,
        grains: Range<u32>,
        want: Range<u32>,
    ) -> Option<LocalRead> {
        let state = self.slots.get_mut(slot as usize)?;
        let frame = state.frame.as_ref()?;
        let volume = frame.object.container.id;
        let range = grains.start as usize..grains.end as usize;
        let pieces = frame
            .sums
            .get(range.clone())?
            .iter()
            .zip(frame.grains.get(range)?)
            .map(|(sum, grain)| (GRAIN_BYTES, sum.unbind(volume, *grain)))
            .collect();
        state.reads += 1;
        state.used = true;
        let at = u64::from(slot) * self.slot_bytes
            + u64::from(PAGE_BYTES)
            + u64::from(grains.start) * u64::from(GRAIN_BYTES);
        Some(LocalRead {
            file: LocalFile::Cache,
            at,
            pieces,
            want,
        })
    }

    /// A read of the slot ended.
    pub(crate) fn unpin(&mut self, slot: u32) {
        if let Some(state) = self.slots.get_mut(slot as usize) {
            state.reads = state.reads.saturating_sub(1);
        }
        self.free_doomed(slot);
    }

    /// Takes a slot for a frame that is in memory; `None`: all slots are busy, or the frame is here already.
    pub(crate) fn begin_fill(
        &mut self,
        object: &ObjectRef,
        offset: u32,
        grains: SmallVec<[GrainIndex; 16]>,
        sums: SmallVec<[BoundSum; 16]>,
        data: Parts<P>,
    ) -> Option<(u32, CachedFrame)> {
        let key = (object.clone(), offset);
        if self.held.contains_key(&key) {
            return None;
        }
        let slot = self.take_slot()?;
        let frame = CachedFrame {
            object: object.clone(),
            offset,
            grains,
            sums,
        };
        self.held.insert(key, Held::Memory(data));
        let state = &mut self.slots[slot as usize];
        *state = Slot {
            frame: Some(frame.clone()),
            filling: true,
            used: true,
            ..Slot::default()
        };
        Some((slot, frame))
    }

    /// The fill of a slot ended.
    pub(crate) fn end_fill(&mut self, slot: u32, good: bool) {
        let Some(state) = self.slots.get_mut(slot as usize) else {
            return;
        };
        state.filling = false;
        let key = state
            .frame
            .as_ref()
            .map(|frame| (frame.object.clone(), frame.offset));
        // A doomed slot holds nothing any more: the frame may be in another one by now.
        if let Some(key) = key.filter(|_| !state.doomed) {
            if good {
                self.held.insert(key, Held::Slot(slot));
            } else {
                self.held.remove(&key);
                state.doomed = true;
            }
        }
        self.free_doomed(slot);
    }

    /// Forgets a frame: its slot's bytes were not what they should be, or it is not wanted any more.
    pub(crate) fn drop_slot(&mut self, slot: u32) {
        let Some(state) = self.slots.get_mut(slot as usize) else {
            return;
        };
        if let Some(frame) = state.frame.as_ref().filter(|_| !state.doomed) {
            self.held.remove(&(frame.object.clone(), frame.offset));
            state.doomed = true;
        }
        self.free_doomed(slot);
    }

    /// Slots that hold a frame.
    pub(crate) fn occupied(&self) -> Vec<u32> {
        (0..self.slots.len() as u32)
            .filter(|slot| self.slots[*slot as usize].frame.is_some())
            .collect()
    }

    fn free_doomed(&mut self, slot: u32) {
        let Some(state) = self.slots.get_mut(slot as usize) else {
            return;
        };
        if state.doomed && state.reads == 0 && !state.filling {
            *state = Slot::default();
            self.free.push(slot);
        }
    }

    /// A free slot: an empty one, a new one, or the first that the hand finds idle since it last passed.
    fn take_slot(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        if (self.slots.len() as u32) < self.slots_max {
            self.slots.push(Slot::default());
            return Some(self.slots.len() as u32 - 1);
        }
        for _ in 0..2 * self.slots.len() {
            let at = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            let state = &mut self.slots[at];
            let is_read = state.reads > 0 && !bug!("slot-is-taken-under-a-read");
            if is_read || state.filling || state.doomed {
                continue;
            }
            if core::mem::take(&mut state.used) {
                continue;
            }
            if let Some(frame) = state.frame.take() {
                self.held.remove(&(frame.object, frame.offset));
            }
            *state = Slot::default();
            return Some(at as u32);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{AttachId, Container, Version, VolumeId};
    use crate::object::names::DataName;
    use crate::units::{ByteCount, ChunkIndex};

    #[derive(Clone, Debug)]
    struct NoBytes;

    impl Payload for NoBytes {
        fn len(&self) -> ByteCount {
            ByteCount(0)
        }
        fn slice(&self, _: Range<u64>) -> Self {
            Self
        }
    }

    fn key() -> FrameKey {
        let name = DataName {
            version: Version(1),
            first: ChunkIndex(0),
            last: ChunkIndex(0),
            attach: AttachId::default(),
            serial: 1,
        };
        let container = Container::new("disk", VolumeId([1; 16]));
        (ObjectRef { container, name }, 0)
    }

    fn fill(cache: &mut Cache<NoBytes>) -> Option<u32> {
        let grains = SmallVec::from_elem(GrainIndex(0), 1);
        let sums = SmallVec::from_elem(BoundSum::default(), 1);
        let begun = cache.begin_fill(&key().0, 0, grains, sums, Parts::default());
        begun.map(|(slot, _)| slot)
    }

    fn slot_of(cache: &Cache<NoBytes>) -> Option<u32> {
        match cache.get(&key()) {
            Some(Held::Slot(slot)) => Some(*slot),
            _ => None,
        }
    }

    #[test]
    fn a_slot_dropped_twice_leaves_the_frames_next_slot_alone() {
        let mut cache = Cache::new(4);
        cache.set_frame_grains(1);
        let first = fill(&mut cache).expect("there is room");
        cache.end_fill(first, true);
        // Two reads of it find damage, one after the other.
        assert!(cache.read(first, 0..1, 0..1).is_some());
        assert!(cache.read(first, 0..1, 0..1).is_some());
        cache.unpin(first);
        cache.drop_slot(first);
        let second = fill(&mut cache).expect("it was dropped");
        cache.end_fill(second, true);
        assert_ne!(first, second);
        cache.drop_slot(first);
        cache.unpin(first);
        assert_eq!(slot_of(&cache), Some(second));
        assert_eq!(cache.used(), 1);
    }

    #[test]
    fn a_fill_that_ends_after_its_slot_was_dropped_leaves_the_frames_next_slot_alone() {
        for good in [true, false] {
            let mut cache = Cache::new(4);
            cache.set_frame_grains(1);
            let first = fill(&mut cache).expect("there is room");
            cache.drop_slot(first);
            let second = fill(&mut cache).expect("it was dropped");
            cache.end_fill(first, good);
            assert!(cache.get(&key()).is_some(), "on its way into {second}");
            cache.end_fill(second, true);
            assert_eq!(slot_of(&cache), Some(second));
            assert_eq!(cache.used(), 1);
        }
    }
}
