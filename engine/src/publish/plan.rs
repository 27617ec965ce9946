//! From a frozen layer to data objects: which grains, whole or in part, go into which section of which object.

use super::job::{GrainBuild, Job, put_piece};
use super::merge::{self, Merges};
use super::{Op, Stage};
use crate::journal::Journal;
use crate::layers::map::{ExtentMap, Segment, Source};
use crate::layers::run::JournalRun;
use crate::layers::split;
use crate::object::names::DataName;
use crate::payload::Payload;
use crate::table::apply::ChunkDelta;
use crate::table::resolve;
use crate::table::types::{GrainSet, Root};
use crate::units::{ChunkIndex, Extent, GRAIN_BYTES, Geometry, GrainIndex, Lba};
use crate::volume::{Pending, Volume};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use smallvec::SmallVec;

/// Chunks that one step plans at most: work per fact is bounded even where a layer says only holes.
const CHUNKS_PER_STEP: u32 = 64;

/// What one chunk of a layer says.
#[derive(Debug, Default)]
pub(super) struct ChunkWork {
    pub(super) hole: Vec<u16>,
    pub(super) lost: Vec<(u16, u8)>,
    /// Grain, blocks present, whether that is all of them.
    pub(super) stored: Vec<(GrainIndex, u8, bool)>,
}

impl ChunkWork {
    fn is_empty(&self) -> bool {
        self.hole.is_empty() && self.lost.is_empty() && self.stored.is_empty()
    }

    /// Bytes that it takes in an object, headers aside.
    fn bytes(&self) -> u64 {
        self.stored.len() as u64 * u64::from(GRAIN_BYTES)
    }
}

impl<P: Payload> Volume<P> {
    /// Plans the next objects while there is room; whether anything was done.
    pub(super) fn plan_step(&mut self) -> bool {
        let uploads = self.limits.uploads as usize;
        let (Some(geometry), Some(run)) = (self.geometry, self.publishing.run.as_mut()) else {
            return false;
        };
        if run.jobs.len() >= uploads {
            return false;
        }
        if let Some((first, last)) = run.again.pop() {
            self.plan_object(&geometry, first, Some(last));
            return true;
        }
        let root = self.present.root().map(|root| &**root);
        let merges = &self.publishing.merges;
        let next = run.cursor.and_then(|at| {
            next_chunk(&self.stack.frozen.front()?.map, merges, &geometry, root, at)
        });
        if let Some(next) = next {
            self.plan_object(&geometry, next, None);
            return true;
        }
        run.cursor = None;
        let finished = run.born.as_ref().is_none_or(|born| born.finish.is_some());
        if run.jobs.is_empty() && finished {
            run.stage = Stage::Leaves;
            return true;
        }
        false
    }

    /// Plans one object from `first` on; with `last`, the chunks up to it and no further.
    fn plan_object(&mut self, geometry: &Geometry, first: ChunkIndex, last: Option<ChunkIndex>) {
        let (Some(run), Some(frozen)) = (self.publishing.run.as_mut(), self.stack.frozen.front())
        else {
            return;
        };
        let root = self.present.root().map(|root| &**root);
        let merges = &self.publishing.merges;
        let most = self.limits.object_bytes.0;
        if let Some(last) = last {
            // What was planned of these chunks, and not sent, is planned anew.
            run.deltas
                .retain(|chunk, _| !(first..=last).contains(chunk));
            run.merged
                .retain(|chunk, _| !(first..=last).contains(chunk));
        }
        let mut grains: BTreeMap<GrainIndex, GrainBuild<P>> = BTreeMap::new();
        let mut reads: Vec<JournalRun> = Vec::new();
        let mut taken = Vec::new();
        let mut span: Option<(ChunkIndex, ChunkIndex)> = None;
        let mut planned = None;
        let mut at = Some(first);
        let mut budget = CHUNKS_PER_STEP;
        while let Some(chunk) = at {
            let mut work = chunk_work(&frozen.map, geometry, chunk);
            let own = work.bytes();
            let merge = merge::takeable(merges, &self.present, &self.cache, geometry, chunk, &work)
                .filter(|(_, plan)| {
                    let more = plan.grains.len() as u64 * u64::from(GRAIN_BYTES);
                    merge::is_affordable(run.planned.0 + own, run.planned.1, more)
                });
            if let Some((_, plan)) = &merge {
                plan.join(&mut work, geometry.chunk_first_grain(chunk));
            }
            let bytes = work.bytes();
            let held = grains.len() as u64 * u64::from(GRAIN_BYTES);
            // A section over half of an object gets its own.
            let alone = bytes * 2 > most;
            if budget == 0 || held > 0 && (alone || held + bytes > most) {
                break;
            }
            budget -= 1;
            let says_nothing = work.is_empty();
            let mut delta = ChunkDelta::new(run.version);
            delta.hole = GrainSet::from_ascending(work.hole);
            if !work.lost.is_empty() {
                mark!("lost-blocks-published");
                let masks = work.lost.iter().map(|(_, mask)| *mask).collect();
                delta.lost = Some((
                    GrainSet::from_ascending(work.lost.iter().map(|(g, _)| *g)),
                    masks,
                ));
            }
            if !says_nothing {
                run.deltas.insert(chunk, delta);
            }
            run.planned.0 += own;
            run.planned.1 += bytes - own;
            planned = Some(chunk);
            if let Some((leaf, plan)) = merge {
                mark!("merge");
                if plan.grains.iter().any(|grain| !grain.whole) {
                    mark!("merge-leaves-a-part");
                }
                run.merged.insert(chunk, plan.count);
                taken.push((chunk, leaf, plan.takes));
            }
            if !work.stored.is_empty() {
                span = Some((span.map_or(chunk, |(first, _)| first), chunk));
                grains.extend(work.stored.into_iter().map(|(grain, mask, whole)| {
                    (
                        grain,
                        GrainBuild {
                            mask,
                            whole,
                            content: SmallVec::new(),
                        },
                    )
                }));
                let keeps = &self.journal;
                chunk_reads(&frozen.map, geometry, chunk, keeps, &mut reads, &mut grains);
            }
            let next_block = Lba((chunk.0 + 1) * geometry.chunk_blocks());
            at = next_chunk(&frozen.map, merges, geometry, root, next_block)
                .filter(|next| last.is_none_or(|last| *next <= last));
            if alone {
                break;
            }
        }
        match (last, planned) {
            (None, Some(done)) => run.cursor = Some(Lba((done.0 + 1) * geometry.chunk_blocks())),
            (Some(last), Some(done)) if at.is_some() => {
                run.again.push((ChunkIndex(done.0 + 1), last))
            }
            _ => {}
        }
        let Some((first, last)) = span else { return };
        let (version, attach) = (run.version, run.attach);
        let serial = self.publishing.serial();
        for (number, read) in reads.iter().enumerate() {
            self.journal.pin(read.file);
            let op = Op::Piece {
                serial,
                read: number as u32,
                file: read.file,
            };
            self.out.read(Pending::Publish(op), read.read());
        }
        let mut merge_reads = Vec::new();
        let mut damaged = false;
        for (chunk, leaf, takes) in taken {
            let at = (serial, chunk);
            let good = leaf.entries.get(&chunk).is_some_and(|entry| {
                takes
                    .into_iter()
                    .all(|take| self.take_cached(at, entry, take, &mut grains, &mut merge_reads))
            });
            if !good {
                self.publishing.merges.forget(chunk);
                damaged = true;
            }
        }
        let name = DataName {
            version,
            first,
            last,
            attach,
            serial,
        };
        let reads_left = reads.len() + merge_reads.len();
        let job = Job {
            name,
            grains,
            reads,
            merge_reads,
            reads_left,
            damaged,
            object: None,
            wish: None,
        };
        self.add_job(serial, job);
    }
}

/// The next chunk from the block `at` on that the frozen layer touches or that may be merged.
fn next_chunk(
    map: &ExtentMap,
    merges: &Merges,
    geometry: &Geometry,
    root: Option<&Root>,
    at: Lba,
) -> Option<ChunkIndex> {
    let own =
        next_to_plan(map, geometry, root, at).map(|lba| geometry.chunk_of(geometry.grain_of(lba)));
    let merge = merges.next_ready(geometry.chunk_of(geometry.grain_of(at)));
    own.into_iter().chain(merge).min()
}

/// The first block at or after `at`, a chunk's first, that is worth planning: holes over chunks of a leaf that the table does
/// not have say nothing, however many they are.
fn next_to_plan(map: &ExtentMap, geometry: &Geometry, root: Option<&Root>, at: Lba) -> Option<Lba> {
    let mut at = at;
    loop {
        let (extent, segment) = map.first_from(at)?;
        let next = extent.start;
        let Some(root) = root.filter(|_| segment.source == Source::Hole) else {
            return Some(next);
        };
        let index = geometry.leaf_of(geometry.chunk_of(geometry.grain_of(next)));
        let leaf_blocks = geometry.chunk_blocks() * u64::from(geometry.leaf_chunks);
        let known = root.leaves.range(index..).next();
        let leaf_start = known.map_or(u64::MAX, |(known, _)| known.0 * leaf_blocks);
        let end = extent.end().0.min(leaf_start);
        // Only chunks of which this hole is all that the layer says.
        let end = end - end % geometry.chunk_blocks();
        if end <= next.0 {
            return Some(next);
        }
        at = Lba(end);
    }
}

/// What a layer says of one chunk's grains.
fn chunk_work(map: &ExtentMap, geometry: &Geometry, chunk: ChunkIndex) -> ChunkWork {
    let mut work = ChunkWork::default();
    let whole = chunk_extent(geometry, chunk);
    if let Some((extent, segment)) = map.first_from(whole.start)
        && segment.source == Source::Hole
        && extent.contains(whole)
    {
        // A chunk has at most 2048 grains.
        work.hole = (0..geometry.chunk_grain_count(chunk) as u16).collect();
        return work;
    }
    let first = geometry.chunk_first_grain(chunk).0;
    // Per touched grain: blocks with content, zeroed blocks, lost blocks.
    let mut masks: BTreeMap<u64, (u8, u8, u8)> = BTreeMap::new();
    map.cover(
        chunk_extent(geometry, chunk),
        geometry.block_bytes,
        |extent, segment| {
            let Some(segment) = segment else { return };
            for piece in split::pieces(geometry, extent) {
                let grain = geometry.grain_of(piece.start);
                let shift = piece.start.0 - geometry.grain_extent(grain).start.0;
                // At most 8 blocks, so at most 8 bits.
                let bits = (((1_u16 << piece.count.0) - 1) << shift) as u8;
                let entry = masks.entry(grain.0).or_default();
                match segment.source {
                    Source::Journal(_) => entry.0 |= bits,
                    Source::Hole => entry.1 |= bits,
                    Source::Lost => entry.2 |= bits,
                }
            }
        },
    );
    for (grain, (data, zeros, lost)) in masks {
        let all = ((1_u16 << geometry.grain_extent(GrainIndex(grain)).count.0) - 1) as u8;
        let in_chunk = (grain - first) as u16;
        if zeros == all {
            work.hole.push(in_chunk);
            continue;
        }
        if lost != 0 && !(data | zeros != 0 && bug!("lost-beside-data-is-forgotten")) {
            work.lost.push((in_chunk, lost));
        }
        let present = data | zeros;
        if present == all {
            work.stored
                .push((GrainIndex(grain), resolve::whole_mask(geometry), true));
        } else if present != 0 {
            work.stored.push((GrainIndex(grain), present, false));
        }
    }
    work
}

/// The journal reads that bring a chunk's content, joined where pieces lie one after another. What is not durable here, in
/// an emergency, comes from memory at once: its file has failed.
fn chunk_reads<P: Payload>(
    map: &ExtentMap,
    geometry: &Geometry,
    chunk: ChunkIndex,
    journal: &Journal<P>,
    reads: &mut Vec<JournalRun>,
    grains: &mut BTreeMap<GrainIndex, GrainBuild<P>>,
) {
    map.cover(
        chunk_extent(geometry, chunk),
        geometry.block_bytes,
        |extent, segment| {
            let Some(Segment {
                source: Source::Journal(place),
                seq,
                ..
            }) = segment
            else {
                return;
            };
            if let Some(parts) = journal.kept(seq, extent, geometry.block_bytes) {
                put_piece(geometry, grains, extent, parts);
            } else if !reads
                .last_mut()
                .is_some_and(|run| run.join(extent, place, geometry.block_bytes))
            {
                reads.push(JournalRun::new(extent, place, geometry.block_bytes));
            }
        },
    );
}

/// The blocks of a chunk, cut at the volume's end.
fn chunk_extent(geometry: &Geometry, chunk: ChunkIndex) -> Extent {
    let start = chunk.0 * geometry.chunk_blocks();
    Extent::from_range(start..(start + geometry.chunk_blocks()).min(geometry.capacity.0))
}
