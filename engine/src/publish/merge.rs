//! Merge: a chunk's newest layers written anew as one, on the back of a publish that runs anyway.
//!
//! Shape      a commit leaves more than [`LAYERS_MAX`] layers on a chunk it touched → candidate → its frames are brought into
//!            the cache, behind all that guests want → ready → the next publish writes the layers anew, from the cache.
//! Invariant  a publish neither waits nor asks the store for a merge: what is not here when the chunk is planned is not
//!            merged by this version. What the frozen layer writes wins over what is merged.
//! Bounds     frames brought per commit, and merged bytes in proportion to what the publish carries for itself.
//! Not here   how many layers are merged (`table::apply`), the objects (`plan`), the entry that is left (`leaves`).

use super::plan::ChunkWork;
use crate::cache::{Cache, FrameKey, Held};
use crate::hydrate::{FETCH_FRAMES_MAX, FramePart};
use crate::payload::Payload;
use crate::table::apply::{LAYERS_MAX, merge_count, merged};
use crate::table::grains::GrainBits;
use crate::table::present::Present;
use crate::table::resolve;
use crate::table::types::{Entry, LayerKind};
use crate::time::{Duration, Instant};
use crate::units::{ChunkIndex, GRAIN_BYTES, Geometry, GrainIndex};
use crate::volume::Volume;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::ops::Range;
use smallvec::SmallVec;

/// Most chunks that wait for a merge; others wait until they are touched again.
const CANDIDATES_MAX: usize = 4096;

/// A candidate that no publish touched or merged for so many commits is forgotten.
const COMMITS_MAX: u8 = 4;

/// Most frames brought for merges after one commit: 32 MiB. Never more than an eighth of the cache.
const FRAMES_PER_COMMIT: u32 = 512;

/// A publish merges at least so many bytes if they are ready …
const MERGE_BYTES_MIN: u64 = 64 << 20;

/// … and so many times what it carries for itself: the worst case of the rule that counts the layers, rounded up.
const MERGE_SHARE: u64 = 8;

/// One candidate is looked at per fact; while none comes, as often as this.
const PACE: Duration = Duration::from_millis(1);

/// Chunks with more layers than a chunk shall have.
#[derive(Debug, Default)]
pub(crate) struct Merges {
    /// Commits since the chunk was touched.
    candidates: BTreeMap<ChunkIndex, u8>,
    /// Those whose frames were all here when they were looked at.
    ready: BTreeSet<ChunkIndex>,
    /// Those to be looked at.
    line: VecDeque<ChunkIndex>,
    /// The one whose frames are being brought.
    current: Option<(ChunkIndex, VecDeque<FramePart>)>,
    /// Frames that may still be brought before the next commit.
    frames_left: u32,
}

impl Merges {
    /// The first chunk from `chunk` on that may be merged.
    pub(super) fn next_ready(&self, chunk: ChunkIndex) -> Option<ChunkIndex> {
        self.ready.range(chunk..).next().copied()
    }

    /// The chunk is not merged before it is touched again.
    pub(super) fn forget(&mut self, chunk: ChunkIndex) {
        self.candidates.remove(&chunk);
        self.ready.remove(&chunk);
    }

    /// A commit touched chunks; `deep`: it left them with layers to merge. Everything is looked at anew.
    fn committed(&mut self, touched: impl Iterator<Item = (ChunkIndex, bool)>, frames: u32) {
        self.candidates
            .values_mut()
            .for_each(|commits| *commits += 1);
        for (chunk, deep) in touched {
            if !deep {
                self.candidates.remove(&chunk);
            } else if self.candidates.len() < CANDIDATES_MAX || self.candidates.contains_key(&chunk)
            {
                self.candidates.insert(chunk, 0);
            }
        }
        self.candidates.retain(|_, commits| *commits < COMMITS_MAX);
        self.ready.clear();
        self.current = None;
        self.line = self.candidates.keys().copied().collect();
        self.frames_left = frames;
    }

    /// Nothing more is brought before the next commit.
    pub(crate) fn pause(&mut self) {
        self.line.clear();
        self.current = None;
    }

    fn is_idle(&self) -> bool {
        self.line.is_empty() && self.current.is_none()
    }
}

/// What a merge writes of a chunk, and where that is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Plan {
    /// The newest layers that it replaces.
    pub(super) count: usize,
    /// Grains with bytes, ascending.
    pub(super) grains: Vec<MergeGrain>,
    /// Grains that read as zeros, ascending.
    pub(super) hole: Vec<u16>,
    /// What must be read, by layer and rank.
    pub(super) takes: Vec<Take>,
}

/// A grain that is written anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct MergeGrain {
    pub(super) grain: u16,
    /// Blocks that are there, those that the publish writes itself included.
    pub(super) mask: u8,
    /// All of them are.
    pub(super) whole: bool,
}

/// Grains that lie one after another in one frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Take {
    /// Which layer of the entry.
    pub(super) layer: usize,
    pub(super) frame: u32,
    /// Number of the first grain in the frame.
    pub(super) slot: u32,
    /// Grain and blocks wanted of it.
    pub(super) grains: SmallVec<[(u16, u8); 4]>,
}

impl Take {
    /// Numbers of the grains in the frame.
    pub(super) fn slots(&self) -> Range<u32> {
        self.slot..self.slot + self.grains.len() as u32
    }
}

/// A grain while the layers are gone through.
#[derive(Clone, Debug, Default)]
struct Open {
    /// Blocks that nothing has given yet.
    open: u8,
    /// The same when the merged layers were through.
    open_below: u8,
    is_lost: bool,
    /// Layer, rank, blocks.
    sources: SmallVec<[(usize, u32, u8); 2]>,
}

/// What merging the newest layers of `entry` writes. `covered`: grains that the publish itself states wholly; `part`: those
/// of which it writes some blocks. `None`: there is nothing to merge.
///
/// Every grain becomes whole, with its base from below the merged layers if need be. Where blocks below are lost it stays a
/// part, and what is below stays.
pub(super) fn plan(
    entry: &Entry,
    covered: &GrainBits,
    part: &BTreeMap<u16, u8>,
    geometry: &Geometry,
) -> Option<Plan> {
    let count = merge_count(entry)?;
    let says = merged(entry, count);
    let all = resolve::whole_mask(geometry);
    let mut hole = Vec::new();
    let mut grains: BTreeMap<u16, Open> = BTreeMap::new();
    for grain in says.hole.iter().filter(|grain| !covered.contains(*grain)) {
        if !part.contains_key(&grain) && !bug!("merge-forgets-holes") {
            mark!("merge-restates-a-hole");
            hole.push(grain);
        }
    }
    let content = says
        .content
        .iter()
        .filter(|grain| !covered.contains(*grain));
    let over_hole = says.hole.iter().filter(|grain| part.contains_key(grain));
    for grain in content.chain(over_hole) {
        let open = all & !part.get(&grain).copied().unwrap_or_default();
        grains.insert(
            grain,
            Open {
                open,
                ..Open::default()
            },
        );
    }
    for (number, layer) in entry.layers.iter().enumerate() {
        if number == count {
            grains
                .values_mut()
                .for_each(|grain| grain.open_below = grain.open);
        }
        for (rank, grain) in (0..).zip(layer.grains.iter()) {
            let Some(state) = grains.get_mut(&grain).filter(|state| state.open != 0) else {
                continue;
            };
            let (mask, stored) = match &layer.kind {
                LayerKind::Data(_) => (state.open, true),
                LayerKind::Hole => (state.open, false),
                LayerKind::Part { masks, .. } => {
                    let mask = masks.get(rank as usize).copied().unwrap_or_default();
                    let whole = mask != 0 && bug!("merge-takes-a-part-for-whole");
                    (if whole { state.open } else { mask & state.open }, true)
                }
                LayerKind::Lost { masks } => {
                    let mask = masks.get(rank as usize).copied().unwrap_or_default() & state.open;
                    state.is_lost |= mask != 0;
                    (mask, false)
                }
            };
            state.open &= !mask;
            if stored && mask != 0 {
                state.sources.push((number, rank, mask));
            }
        }
    }
    if count == entry.layers.len() {
        grains
            .values_mut()
            .for_each(|grain| grain.open_below = grain.open);
    }
    let mut out = Plan {
        count,
        grains: Vec::with_capacity(grains.len()),
        hole,
        takes: Vec::new(),
    };
    let mut takes: BTreeMap<(usize, u32), (u16, u8)> = BTreeMap::new();
    for (grain, state) in grains {
        let whole = !state.is_lost || bug!("merge-heals-the-lost");
        let mask = if whole { all } else { all & !state.open_below };
        out.grains.push(MergeGrain { grain, mask, whole });
        for (layer, rank, mask) in state.sources {
            if whole || layer < count {
                takes.insert((layer, rank), (grain, mask));
            }
        }
    }
    for ((layer, rank), wanted) in takes {
        let (frame, slot) = (rank / geometry.frame_grains, rank % geometry.frame_grains);
        match out.takes.last_mut() {
            Some(last)
                if last.layer == layer && last.frame == frame && last.slots().end == slot =>
            {
                last.grains.push(wanted);
            }
            _ => out.takes.push(Take {
                layer,
                frame,
                slot,
                grains: SmallVec::from_slice(&[wanted]),
            }),
        }
    }
    Some(out)
}

/// The frame that a take lies in.
pub(super) fn frame_key(entry: &Entry, take: &Take, geometry: &Geometry) -> Option<FrameKey> {
    let section = entry.layers.get(take.layer)?.kind.section()?;
    let start = u64::from(section.offset)
        + u64::from(take.frame) * resolve::frame_stride(geometry.frame_grains);
    // Offsets fit: an object is far below 4 GiB.
    Some((section.object.clone(), start as u32))
}

/// What of a chunk this publish may merge now: a ready candidate, its entry in memory, every frame here.
pub(super) fn takeable<P: Payload>(
    merges: &Merges,
    present: &Present,
    cache: &Cache<P>,
    geometry: &Geometry,
    chunk: ChunkIndex,
    work: &ChunkWork,
) -> Option<(alloc::sync::Arc<crate::table::types::Leaf>, Plan)> {
    if !merges.ready.contains(&chunk) || !work.lost.is_empty() {
        return None;
    }
    let leaf = present.peek(geometry.leaf_of(chunk))?;
    let entry = leaf.entries.get(&chunk)?;
    let first = geometry.chunk_first_grain(chunk).0;
    let mut covered = GrainBits::default();
    let mut part = BTreeMap::new();
    if !bug!("merge-revives-discards") {
        work.hole.iter().for_each(|grain| covered.insert(*grain));
    }
    for (grain, mask, whole) in &work.stored {
        // A chunk has at most 2048 grains.
        let grain = (grain.0 - first) as u16;
        if *whole {
            covered.insert(grain);
        } else {
            part.insert(grain, *mask);
        }
    }
    let plan = plan(entry, &covered, &part, geometry)?;
    let here = plan
        .takes
        .iter()
        .all(|take| frame_key(entry, take, geometry).is_some_and(|key| cache.get(&key).is_some()));
    here.then_some((leaf, plan))
}

/// Whether a publish that carries `own` bytes for itself and merged `merged` may merge `more`.
pub(super) const fn is_affordable(own: u64, merged: u64, more: u64) -> bool {
    merged + more <= MERGE_BYTES_MIN + own * MERGE_SHARE
}

impl Plan {
    /// Adds what is merged to what the frozen layer says of the chunk.
    pub(super) fn join(&self, work: &mut ChunkWork, first: GrainIndex) {
        work.hole.extend(&self.hole);
        work.hole.sort_unstable();
        let mut stored: BTreeMap<GrainIndex, (u8, bool)> = core::mem::take(&mut work.stored)
            .into_iter()
            .map(|(grain, mask, whole)| (grain, (mask, whole)))
            .collect();
        for MergeGrain { grain, mask, whole } in &self.grains {
            stored.insert(GrainIndex(first.0 + u64::from(*grain)), (*mask, *whole));
        }
        work.stored = stored
            .into_iter()
            .map(|(grain, (mask, whole))| (grain, mask, whole))
            .collect();
    }
}

/// The runs of blocks of a mask: bytes in the grain.
pub(super) fn mask_ranges(mask: u8, block_bytes: u32) -> impl Iterator<Item = Range<u32>> {
    let blocks = GRAIN_BYTES / block_bytes;
    let has = move |block: u32| block < blocks && mask >> block & 1 == 1;
    (0..blocks)
        .filter(move |block| has(*block) && (*block == 0 || !has(block - 1)))
        .map(move |first| {
            let end = (first..=blocks)
                .find(|block| !has(*block))
                .unwrap_or(blocks);
            first * block_bytes..end * block_bytes
        })
}

impl<P: Payload> Volume<P> {
    /// The publish under way is committed: which chunks have layers to merge now?
    pub(super) fn merges_committed(&mut self) {
        let (Some(geometry), Some(run)) = (self.geometry, &self.publishing.run) else {
            return;
        };
        let deep = |chunk: ChunkIndex| {
            let entry = run
                .leaves
                .get(&geometry.leaf_of(chunk))?
                .entries
                .get(&chunk)?;
            (entry.layers.len() > LAYERS_MAX && merge_count(entry).is_some()).then_some(())
        };
        let touched = run
            .deltas
            .keys()
            .map(|chunk| (*chunk, deep(*chunk).is_some()));
        let frames = FRAMES_PER_COMMIT.min(self.cache.slots_max() / 8);
        self.publishing.merges.committed(touched, frames);
    }

    /// Looks at one candidate, or brings the next of its frames. Once per fact: its work is bounded and nobody waits for it.
    pub(crate) fn merge_step(&mut self) {
        if self.publishing.merges.is_idle() || self.hydrate.behind() > 0 {
            return;
        }
        let (Some(geometry), true) = (self.geometry, self.own.may_publish()) else {
            return;
        };
        let merges = &mut self.publishing.merges;
        if merges.current.is_none() {
            let Some(chunk) = merges.line.pop_front() else {
                return;
            };
            let missing = missing(&self.present, &self.cache, &geometry, chunk);
            match missing {
                None => {}
                Some(missing) if missing.is_empty() => {
                    merges.ready.insert(chunk);
                }
                // What cannot stay in the cache until it is used is not brought.
                Some(missing) if missing.len() as u32 > merges.frames_left => {}
                Some(missing) => merges.current = Some((chunk, missing)),
            }
        }
        let Some((chunk, missing)) = &mut merges.current else {
            return;
        };
        let version = self
            .present
            .root()
            .map(|root| root.name.version)
            .unwrap_or_default();
        for _ in 0..FETCH_FRAMES_MAX {
            let Some(part) = missing.pop_front() else {
                // All were asked for and came; the publish finds out whether they are still here.
                if self.hydrate.behind() == 0 {
                    merges.ready.insert(*chunk);
                    merges.current = None;
                }
                break;
            };
            mark!("merge-brings-a-frame");
            merges.frames_left = merges.frames_left.saturating_sub(1);
            self.hydrate.want_behind(&part, version);
        }
        self.hydrate_pump();
    }

    /// When to go on if no fact comes.
    pub(crate) fn merge_timeout(&self) -> Option<Instant> {
        let waits = self.publishing.merges.is_idle()
            || self.hydrate.behind() > 0
            || !self.own.may_publish();
        (!waits).then(|| self.now + PACE)
    }
}

/// The frames that merging a chunk needs and that are not here. `None`: it cannot be said, or there is nothing to merge.
fn missing<P: Payload>(
    present: &Present,
    cache: &Cache<P>,
    geometry: &Geometry,
    chunk: ChunkIndex,
) -> Option<VecDeque<FramePart>> {
    let leaf = present.peek(geometry.leaf_of(chunk))?;
    let entry = leaf.entries.get(&chunk)?;
    let plan = plan(entry, &GrainBits::default(), &BTreeMap::new(), geometry)?;
    let mut parts: VecDeque<FramePart> = VecDeque::new();
    let mut last = None;
    for take in &plan.takes {
        if last.replace((take.layer, take.frame)) == Some((take.layer, take.frame)) {
            continue;
        }
        let key = frame_key(entry, take, geometry)?;
        if matches!(cache.get(&key), Some(Held::Slot(_) | Held::Memory(_))) {
            continue;
        }
        let layer = entry.layers.get(take.layer)?;
        let (expect, bytes) = resolve::frame_expect(layer, chunk, take.frame, geometry)?;
        parts.push_back(FramePart {
            object: key.0,
            bytes,
            expect,
            slot: 0,
            skip: 0,
        });
    }
    Some(parts)
}

#[cfg(test)]
mod tests;
