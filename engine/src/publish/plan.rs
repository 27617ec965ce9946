//! From a frozen layer to data objects: which grains, whole or in part, go into which section of which object.

use super::merge::{self, Merges, Take};
use super::{Op, Stage};
use crate::cache::Held;
use crate::command::{Refusal, Verdict};
use crate::effect::{Body, Effect, Notice, Outcome, Receipt, StoreRequest};
use crate::ids::{FileId, WishId};
use crate::layers::map::{ExtentMap, Segment, Source};
use crate::layers::run::JournalRun;
use crate::layers::split;
use crate::object::draft::{DataObject, GrainDraft, SectionDraft};
use crate::object::names::{DataName, ObjectName};
use crate::payload::{Part, Parts, Payload};
use crate::table::apply::ChunkDelta;
use crate::table::resolve;
use crate::table::types::{Entry, GrainSet, ObjectRef, Root, SectionRef};
use crate::units::{ByteCount, ChunkIndex, Extent, GRAIN_BYTES, Geometry, GrainIndex, Lba};
use crate::volume::{Pending, Volume};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use smallvec::SmallVec;

/// Chunks that one step plans at most: work per fact is bounded even where a layer says only holes.
const CHUNKS_PER_STEP: u32 = 64;

/// A data object under construction or under way.
#[derive(Debug)]
pub(super) struct Job<P> {
    name: DataName,
    grains: BTreeMap<GrainIndex, GrainBuild<P>>,
    reads: Vec<JournalRun>,
    /// Cached grains that are merged in.
    merge_reads: Vec<MergeRead>,
    reads_left: usize,
    /// A read found damage: when all have ended, the range is planned again.
    damaged: bool,
    /// Built once its reads have ended; kept until confirmed.
    object: Option<DataObject<P>>,
    /// Set for a load of a birth.
    wish: Option<WishId>,
}

impl<P> Job<P> {
    pub(super) const fn wish(&self) -> Option<WishId> {
        self.wish
    }
}

#[derive(Debug)]
struct GrainBuild<P> {
    /// Which blocks are here.
    mask: u8,
    /// All of them are: the grain is stored whole.
    whole: bool,
    content: SmallVec<[(u32, Part<P>); 1]>,
}

/// A read of grains that lie one after another in a cached frame.
#[derive(Debug)]
struct MergeRead {
    chunk: ChunkIndex,
    /// Grain and blocks wanted of it.
    grains: Vec<(GrainIndex, u8)>,
}

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
                chunk_reads(&frozen.map, geometry, chunk, &mut reads);
            }
            let next_block = Lba((chunk.0 + 1) * geometry.chunk_blocks());
            at = match last {
                Some(last) if chunk >= last => None,
                _ => next_chunk(&frozen.map, merges, geometry, root, next_block),
            };
            at = at.filter(|next| last.is_none_or(|last| *next <= last));
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

    /// Brings the grains of a merge from a cached frame, at once from memory or by a read; whether they are here.
    fn take_cached(
        &mut self,
        (serial, chunk): (u32, ChunkIndex),
        entry: &Entry,
        take: Take,
        grains: &mut BTreeMap<GrainIndex, GrainBuild<P>>,
        reads: &mut Vec<MergeRead>,
    ) -> bool {
        let Some(geometry) = self.geometry else {
            return false;
        };
        let first = geometry.chunk_first_grain(chunk).0;
        let slots = take.slots();
        let bytes = u64::from(slots.start) * u64::from(GRAIN_BYTES)
            ..u64::from(slots.end) * u64::from(GRAIN_BYTES);
        let held =
            merge::frame_key(entry, &take, &geometry).and_then(|key| self.cache.get(&key).cloned());
        let wanted = take
            .grains
            .iter()
            .map(|(grain, mask)| (GrainIndex(first + u64::from(*grain)), *mask))
            .collect();
        let read = MergeRead {
            chunk,
            grains: wanted,
        };
        match held {
            Some(Held::Memory(data)) => {
                scatter(&geometry, grains, &read, &data.slice(bytes));
                true
            }
            Some(Held::Slot(slot)) => {
                // At most a frame.
                let want = 0..(bytes.end - bytes.start) as u32;
                let op = Op::Merge {
                    serial,
                    read: reads.len() as u32,
                    slot,
                };
                let Some(local) = self.cache.read(slot, slots, want) else {
                    return false;
                };
                self.out.read(Pending::Publish(op), local);
                reads.push(read);
                true
            }
            None => false,
        }
    }

    /// Cached grains came; whether they were what they should be.
    pub(super) fn merge_read(&mut self, serial: u32, read: u32, outcome: Outcome<P>) -> bool {
        let good = matches!(outcome, Outcome::Read(_));
        let (Some(geometry), Some(run)) = (self.geometry, self.publishing.run.as_mut()) else {
            return good;
        };
        let Some(job) = run.jobs.get_mut(&serial) else {
            return good;
        };
        let Some(read) = job.merge_reads.get(read as usize) else {
            return good;
        };
        job.reads_left -= 1;
        if let Outcome::Read(p) = outcome {
            scatter(&geometry, &mut job.grains, read, &Parts::one(p));
        } else {
            mark!("merge-finds-damage");
            job.damaged = true;
            self.publishing.merges.forget(read.chunk);
        }
        if job.reads_left == 0 {
            self.build_object(serial);
        }
        good
    }

    fn add_job(&mut self, serial: u32, job: Job<P>) {
        let ready = job.reads_left == 0;
        if let Some(run) = self.publishing.run.as_mut() {
            run.jobs.insert(serial, job);
        }
        if ready {
            self.build_object(serial);
        }
    }

    pub(super) fn piece_read(&mut self, serial: u32, read: u32, outcome: Outcome<P>) {
        let Some(geometry) = self.geometry else {
            return;
        };
        let Some(job) = self
            .publishing
            .run
            .as_mut()
            .and_then(|run| run.jobs.get_mut(&serial))
        else {
            return;
        };
        let Some(run) = job.reads.get(read as usize) else {
            return;
        };
        job.reads_left -= 1;
        let ended = job.reads_left == 0;
        match outcome {
            Outcome::Read(p) => {
                let mut from = 0;
                for piece in split::pieces(&geometry, run.extent) {
                    let bytes = geometry.bytes(piece.count).0;
                    let grain = geometry.grain_of(piece.start);
                    let before = piece.start.0 - geometry.grain_extent(grain).start.0;
                    if let Some(build) = job.grains.get_mut(&grain) {
                        // Within a grain.
                        let offset = before as u32 * geometry.block_bytes;
                        build
                            .content
                            .push((offset, Part::Data(p.slice(from..from + bytes))));
                    }
                    from += bytes;
                }
            }
            other => {
                job.damaged = true;
                let bad = match other {
                    Outcome::ReadDamaged { piece } => Some(piece as usize),
                    _ => None,
                };
                let starts: Vec<u64> = run.starts().collect();
                let file = run.file;
                for (number, at) in starts.into_iter().enumerate() {
                    if bad.is_none_or(|bad| bad == number) {
                        self.lose_frozen(file, at);
                    }
                }
            }
        }
        if ended {
            self.build_object(serial);
        }
    }

    /// The piece at that place is damaged: its blocks are stated lost, unless it was written again elsewhere.
    fn lose_frozen(&mut self, file: FileId, at: u64) {
        let (Some(geometry), Some(frozen)) = (self.geometry, self.stack.frozen.front_mut()) else {
            return;
        };
        let is_there = |segment: &Segment| matches!(segment.source, Source::Journal(p) if p.file == file && p.at == at);
        let lost: Vec<(Extent, Segment)> = frozen
            .map
            .iter()
            .filter(|(_, segment)| is_there(segment))
            .collect();
        for (extent, segment) in lost {
            frozen
                .map
                .insert(extent, segment.seq, Source::Lost, geometry.block_bytes);
            self.out.push(Effect::Notice(Notice::Damaged {
                extent,
                place: format!("journal file {file}"),
            }));
        }
    }

    /// All bytes are here: makes the object and sends it.
    fn build_object(&mut self, serial: u32) {
        let (Some(geometry), Some(run)) = (self.geometry, self.publishing.run.as_mut()) else {
            return;
        };
        let Some(job) = run.jobs.get_mut(&serial) else {
            return;
        };
        if job.damaged {
            let range = (job.name.first, job.name.last);
            run.jobs.remove(&serial);
            run.again.push(range);
            return;
        }
        // By chunk; whole grains before parts.
        let mut sections: BTreeMap<(ChunkIndex, bool), Vec<GrainDraft<P>>> = BTreeMap::new();
        for (index, build) in &mut job.grains {
            let content = whole_grain(core::mem::take(&mut build.content));
            let draft = GrainDraft {
                index: *index,
                content,
            };
            sections
                .entry((geometry.chunk_of(*index), !build.whole))
                .or_default()
                .push(draft);
        }
        let sections = sections
            .into_iter()
            .map(|((chunk, _), grains)| SectionDraft { chunk, grains })
            .collect();
        job.object = Some(DataObject {
            volume: self.container.id,
            attach: job.name.attach,
            serial,
            frame_grains: geometry.frame_grains,
            sections,
        });
        self.send_object(serial);
    }

    pub(super) fn send_object(&mut self, serial: u32) {
        let Some(job) = self
            .publishing
            .run
            .as_ref()
            .and_then(|run| run.jobs.get(&serial))
        else {
            return;
        };
        let Some(object) = &job.object else { return };
        let request = StoreRequest::Put {
            container: self.container.clone(),
            name: ObjectName::Data(job.name),
            body: Body::Data(object.clone()),
            once: false,
        };
        self.out
            .store(Pending::Publish(Op::Object { serial }), request);
    }

    /// The object is confirmed: the table may name it.
    pub(super) fn object_sent(&mut self, serial: u32, receipt: Receipt) {
        let (Some(geometry), Some(run)) = (self.geometry, self.publishing.run.as_mut()) else {
            return;
        };
        let Some(job) = run.jobs.remove(&serial) else {
            return;
        };
        let Some(object) = job.object else { return };
        run.bytes += receipt.bytes.0;
        run.puts += 1;
        let at = ObjectRef {
            container: self.container.clone(),
            name: job.name,
        };
        let offsets = crate::object::data::layout(&object).sections;
        let mut feed = Vec::new();
        for (number, (section, offset)) in object.sections.into_iter().zip(offsets).enumerate() {
            let first = geometry.chunk_first_grain(section.chunk).0;
            // A chunk has at most 2048 grains.
            let set =
                GrainSet::from_ascending(section.grains.iter().map(|g| (g.index.0 - first) as u16));
            let reference = SectionRef {
                object: at.clone(),
                offset,
            };
            let builds = section
                .grains
                .iter()
                .filter_map(|g| job.grains.get(&g.index));
            let whole = builds.clone().all(|build| build.whole);
            let masks: Vec<u8> = builds.map(|build| build.mask).collect();
            let delta = run
                .deltas
                .entry(section.chunk)
                .or_insert_with(|| ChunkDelta::new(job.name.version));
            if whole {
                delta.data = Some((reference, set));
            } else {
                delta.part = Some((reference, set, masks));
            }
            if job.wish.is_some() {
                continue;
            }
            let sums = receipt.sums.get(number).map_or(&[][..], |sums| &sums[..]);
            let frame = geometry.frame_grains as usize;
            for (number, (grains, sums)) in section
                .grains
                .chunks(frame)
                .zip(sums.chunks(frame))
                .enumerate()
            {
                let stride = resolve::frame_stride(geometry.frame_grains);
                // An object is far below 4 GiB.
                let offset = (u64::from(offset) + number as u64 * stride) as u32;
                let mut data = Parts::default();
                grains
                    .iter()
                    .for_each(|grain| data.extend(grain.content.clone()));
                let grains = grains.iter().map(|grain| grain.index).collect();
                feed.push((offset, grains, SmallVec::from_slice(sums), data));
            }
        }
        if let Some(wish) = job.wish {
            self.told(wish, Verdict::Loaded);
        }
        // What a guest wrote is not fetched back when its journal file is gone.
        for (offset, grains, sums, data) in feed {
            self.cache_feed(&at, offset, grains, sums, data);
        }
    }

    /// A load of a birth: whole grains of one chunk.
    pub(crate) fn publish_load(
        &mut self,
        wish: WishId,
        chunk: ChunkIndex,
        content: Vec<(u16, Parts<P>)>,
    ) {
        let refused = |why| Verdict::Refused(Refusal::WrongState(why));
        let loading = self
            .publishing
            .run
            .as_ref()
            .filter(|run| run.born.as_ref().is_some_and(|born| born.finish.is_none()))
            .map(|run| (run.version, run.attach));
        let (Some(geometry), Some((version, attach))) = (self.geometry, loading) else {
            return self.told(wish, refused("not being born"));
        };
        let fits = chunk.0 < geometry.chunk_count()
            && !content.is_empty()
            && content.is_sorted_by(|a, b| a.0 < b.0)
            && content.iter().all(|(grain, parts)| {
                u32::from(*grain) < geometry.chunk_grain_count(chunk)
                    && parts.len() == ByteCount(u64::from(GRAIN_BYTES))
            });
        if !fits {
            return self.told(wish, refused("the grains do not fit the chunk"));
        }
        let serial = self.publishing.serial();
        let first = geometry.chunk_first_grain(chunk).0;
        let mask = resolve::whole_mask(&geometry);
        let grains = content
            .into_iter()
            .map(|(grain, parts)| {
                let mut at = 0;
                let content = parts
                    .0
                    .into_iter()
                    .map(|part| {
                        let from = at;
                        at += part.len().0 as u32;
                        (from, part)
                    })
                    .collect();
                (
                    GrainIndex(first + u64::from(grain)),
                    GrainBuild {
                        mask,
                        whole: true,
                        content,
                    },
                )
            })
            .collect();
        let name = DataName {
            version,
            first: chunk,
            last: chunk,
            attach,
            serial,
        };
        let job = Job {
            name,
            grains,
            reads: Vec::new(),
            merge_reads: Vec::new(),
            reads_left: 0,
            damaged: false,
            object: None,
            wish: Some(wish),
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

/// Puts the blocks that a merge wants of grains that lie one after another where they belong.
fn scatter<P: Payload>(
    geometry: &Geometry,
    grains: &mut BTreeMap<GrainIndex, GrainBuild<P>>,
    read: &MergeRead,
    data: &Parts<P>,
) {
    for (number, (grain, mask)) in (0_u64..).zip(&read.grains) {
        let Some(build) = grains.get_mut(grain) else {
            continue;
        };
        for bytes in merge::mask_ranges(*mask, geometry.block_bytes) {
            let base = number * u64::from(GRAIN_BYTES);
            let part = data.slice(base + u64::from(bytes.start)..base + u64::from(bytes.end));
            let mut at = bytes.start;
            for part in part.0 {
                // Within a grain.
                let len = part.len().0 as u32;
                build.content.push((at, part));
                at += len;
            }
        }
    }
}

/// A grain's 4096 bytes from the parts that are there; what is not there is zeros.
fn whole_grain<P: Payload>(mut content: SmallVec<[(u32, Part<P>); 1]>) -> Parts<P> {
    content.sort_by_key(|(at, _)| *at);
    let mut parts = Parts::default();
    let mut at = 0_u64;
    for (from, part) in content {
        parts.push(Part::Zeros(ByteCount(u64::from(from).saturating_sub(at))));
        at = u64::from(from) + part.len().0;
        parts.push(part);
    }
    parts.push(Part::Zeros(ByteCount(
        u64::from(GRAIN_BYTES).saturating_sub(at),
    )));
    parts
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
        if lost != 0 {
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

/// The journal reads that bring a chunk's content, joined where pieces lie one after another.
fn chunk_reads(
    map: &ExtentMap,
    geometry: &Geometry,
    chunk: ChunkIndex,
    reads: &mut Vec<JournalRun>,
) {
    map.cover(
        chunk_extent(geometry, chunk),
        geometry.block_bytes,
        |extent, segment| {
            let Some(Segment {
                source: Source::Journal(place),
                ..
            }) = segment
            else {
                return;
            };
            if !reads
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
