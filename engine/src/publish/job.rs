//! One data object on its way: its grains are read from the journal and the cache, built, sent, and confirmed.

use super::Op;
use super::merge::{self, Take};
use crate::cache::Held;
use crate::command::{Refusal, Verdict};
use crate::effect::{Body, Effect, Notice, Outcome, Receipt, StoreRequest};
use crate::ids::{FileId, WishId};
use crate::layers::map::{Segment, Source};
use crate::layers::run::JournalRun;
use crate::layers::split;
use crate::object::draft::{DataObject, GrainDraft, SectionDraft};
use crate::object::names::{DataName, ObjectName};
use crate::payload::{Part, Parts, Payload};
use crate::table::apply::ChunkDelta;
use crate::table::resolve;
use crate::table::types::{Entry, GrainSet, ObjectRef, SectionRef};
use crate::units::{ByteCount, ChunkIndex, Extent, GRAIN_BYTES, Geometry, GrainIndex};
use crate::volume::{Pending, Volume};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use smallvec::SmallVec;

/// A data object under construction or under way.
#[derive(Debug)]
pub(super) struct Job<P> {
    pub(super) name: DataName,
    pub(super) grains: BTreeMap<GrainIndex, GrainBuild<P>>,
    pub(super) reads: Vec<JournalRun>,
    /// Cached grains that are merged in.
    pub(super) merge_reads: Vec<MergeRead>,
    pub(super) reads_left: usize,
    /// A read found damage: when all have ended, the range is planned again.
    pub(super) damaged: bool,
    /// Built once its reads have ended; kept until confirmed.
    pub(super) object: Option<DataObject<P>>,
    /// Set for a load of a birth.
    pub(super) wish: Option<WishId>,
}

impl<P> Job<P> {
    pub(super) const fn wish(&self) -> Option<WishId> {
        self.wish
    }
}

#[derive(Debug)]
pub(super) struct GrainBuild<P> {
    /// Which blocks are here.
    pub(super) mask: u8,
    /// All of them are: the grain is stored whole.
    pub(super) whole: bool,
    pub(super) content: SmallVec<[(u32, Part<P>); 1]>,
}

/// A read of grains that lie one after another in a cached frame.
#[derive(Debug)]
pub(super) struct MergeRead {
    pub(super) chunk: ChunkIndex,
    /// Grain and blocks wanted of it.
    pub(super) grains: Vec<(GrainIndex, u8)>,
}

impl<P: Payload> Volume<P> {
    /// Brings the grains of a merge from a cached frame, at once from memory or by a read; whether they are here.
    pub(super) fn take_cached(
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

    pub(super) fn add_job(&mut self, serial: u32, job: Job<P>) {
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
                    let own = Parts::one(p.slice(from..from + bytes));
                    put_piece(&geometry, &mut job.grains, piece, own);
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

/// Puts a piece's bytes where they belong in their grain.
pub(super) fn put_piece<P: Payload>(
    geometry: &Geometry,
    grains: &mut BTreeMap<GrainIndex, GrainBuild<P>>,
    piece: Extent,
    bytes: Parts<P>,
) {
    let grain = geometry.grain_of(piece.start);
    let before = piece.start.0 - geometry.grain_extent(grain).start.0;
    let Some(build) = grains.get_mut(&grain) else {
        return;
    };
    // Within a grain.
    let mut at = before as u32 * geometry.block_bytes;
    for part in bytes.0 {
        let len = part.len().0 as u32;
        build.content.push((at, part));
        at += len;
    }
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
