//! Frames on their way from the store: one fetch per frame, joined by all who want it.

use crate::effect::FrameExpect;
use crate::ids::{Container, Version};
use crate::object::names::DataName;
use crate::table::resolve::{self, Base};
use crate::table::types::{Leaf, ObjectRef};
use crate::time::Instant;
use crate::units::{Extent, GRAIN_BYTES, Geometry, GrainIndex, Lba};
use crate::volume::FrameWaiter;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::ops::Range;

/// Most frames that one fetch asks for: 1 MiB.
pub(crate) const FETCH_FRAMES_MAX: usize = 16;

/// A run of blocks with one source in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) extent: Extent,
    pub(crate) source: RunSource,
}

/// What the table says of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RunSource {
    Zeros,
    Lost,
    /// In a frame.
    Frame(Box<FramePart>),
}

/// Bytes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FramePart {
    pub(crate) object: ObjectRef,
    /// The whole frame in the object, header included.
    pub(crate) bytes: Range<u64>,
    pub(crate) expect: FrameExpect,
    /// First grain wanted, by its number in the frame.
    pub(crate) slot: u32,
    /// Bytes of that grain before the first block wanted.
    pub(crate) skip: u32,
}

/// What the table says of an extent that lies within one leaf. Ascending, gap-free.
pub(crate) fn runs(geometry: &Geometry, leaf: &Leaf, extent: Extent) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let first = geometry.grain_of(extent.start).0;
    let last = geometry.grain_of(Lba(extent.end().0 - 1)).0;
    let mut chunk = None;
    let mut entry = None;
    for grain in first..=last {
        let grain_chunk = geometry.chunk_of(GrainIndex(grain));
        if chunk != Some(grain_chunk) {
            chunk = Some(grain_chunk);
            entry = leaf.entries.get(&grain_chunk);
        }
        let whole = geometry.grain_extent(GrainIndex(grain));
        let Some(wanted) = whole.intersect(extent) else {
            continue;
        };
        let Some(found) = entry else {
            push(&mut runs, geometry, wanted, RunSource::Zeros);
            continue;
        };
        // A chunk has at most 2048 grains.
        let in_chunk = (grain - geometry.chunk_first_grain(grain_chunk).0) as u16;
        let sources = resolve::resolve(Some(found), in_chunk, geometry);
        let part = |place: &resolve::Place<'_>, block: u64| {
            let (expect, bytes) =
                resolve::frame_expect(place.layer, grain_chunk, place.frame, geometry)?;
            Some(RunSource::Frame(Box::new(FramePart {
                object: place.section.object.clone(),
                bytes,
                expect,
                slot: place.slot,
                skip: (block - whole.start.0) as u32 * geometry.block_bytes,
            })))
        };
        if sources.parts.is_empty() && sources.lost == 0 {
            let source = match &sources.base {
                Base::Hole => Some(RunSource::Zeros),
                Base::Data(place) if joins(runs.last(), geometry, place, wanted) => {
                    if let Some(run) = runs.last_mut() {
                        run.extent.count.0 += wanted.count.0;
                    }
                    continue;
                }
                Base::Data(place) => part(place, wanted.start.0),
            };
            push(
                &mut runs,
                geometry,
                wanted,
                source.unwrap_or(RunSource::Lost),
            );
            continue;
        }
        for block in wanted.range() {
            let bit = 1_u8 << (block - whole.start.0);
            let source = if sources.lost & bit != 0 {
                Some(RunSource::Lost)
            } else if let Some((_, place)) = sources.parts.iter().find(|(mask, _)| mask & bit != 0)
            {
                part(place, block)
            } else {
                match &sources.base {
                    Base::Hole => Some(RunSource::Zeros),
                    Base::Data(place) => part(place, block),
                }
            };
            let block = Extent::from_range(block..block + 1);
            push(
                &mut runs,
                geometry,
                block,
                source.unwrap_or(RunSource::Lost),
            );
        }
    }
    runs
}

/// Whether a whole grain goes on where the last run ended, in the same frame.
fn joins(
    last: Option<&Run>,
    geometry: &Geometry,
    place: &resolve::Place<'_>,
    wanted: Extent,
) -> bool {
    let Some(Run {
        extent,
        source: RunSource::Frame(part),
    }) = last
    else {
        return false;
    };
    let bytes = u64::from(part.slot) * u64::from(GRAIN_BYTES)
        + u64::from(part.skip)
        + geometry.bytes(extent.count).0;
    extent.end() == wanted.start
        && part.object == place.section.object
        && part.expect.frame == place.frame
        && part.bytes.start
            == u64::from(place.section.offset)
                + u64::from(place.frame) * resolve::frame_stride(geometry.frame_grains)
        && bytes == u64::from(place.slot) * u64::from(GRAIN_BYTES)
}

fn push(runs: &mut Vec<Run>, geometry: &Geometry, extent: Extent, source: RunSource) {
    if let Some(last) = runs.last_mut()
        && last.extent.end() == extent.start
    {
        let joined = match (&last.source, &source) {
            (RunSource::Zeros, RunSource::Zeros) | (RunSource::Lost, RunSource::Lost) => true,
            (RunSource::Frame(a), RunSource::Frame(b)) => {
                let end = u64::from(a.slot) * u64::from(GRAIN_BYTES)
                    + u64::from(a.skip)
                    + geometry.bytes(last.extent.count).0;
                a.object == b.object
                    && a.bytes == b.bytes
                    && end == u64::from(b.slot) * u64::from(GRAIN_BYTES) + u64::from(b.skip)
            }
            _ => false,
        };
        if joined {
            last.extent.count.0 += extent.count.0;
            return;
        }
    }
    runs.push(Run { extent, source });
}

/// A GET of consecutive frames of one section.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub(crate) object: ObjectRef,
    pub(crate) bytes: Range<u64>,
    pub(crate) frames: Vec<Fetching>,
    /// The version whose table named the object.
    pub(crate) version: Version,
    pub(crate) sent: bool,
    pub(crate) attempts: u32,
    pub(crate) retry_at: Option<Instant>,
    /// No guest waits for it: it goes when no other does.
    pub(crate) is_behind: bool,
    /// No other frame rides in it: one that it was fetched with is damaged.
    pub(crate) is_alone: bool,
}

/// A frame being fetched, and who waits for it.
#[derive(Debug)]
pub(crate) struct Fetching {
    pub(crate) offset: u32,
    pub(crate) expect: FrameExpect,
    pub(crate) waiters: Vec<FrameWaiter>,
}

/// A guest that reads on and on: what lies ahead is fetched before it is asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    next: Lba,
    /// How far ahead fetches were ordered.
    ahead: Lba,
    /// Blocks to keep ahead; 0 = not sequential yet.
    window: u64,
    used: u64,
}

/// Fetches under way and in line.
#[derive(Debug, Default)]
pub(crate) struct Hydrate {
    fetches: BTreeMap<u64, Fetch>,
    by_frame: BTreeMap<(ObjectRef, u32), u64>,
    line: VecDeque<u64>,
    /// Fetches that no guest waits for, behind all in `line`.
    line_behind: VecDeque<u64>,
    /// Fetches that no guest waits for, sent or not.
    behind: u32,
    next: u64,
    sent: u32,
    streams: [Stream; 4],
    clock: u64,
}

impl Hydrate {
    /// Frames are wanted from this object; joins a fetch that has them or makes one. Returns whether it is new.
    pub(crate) fn want(
        &mut self,
        part: &FramePart,
        version: Version,
        waiter: Option<FrameWaiter>,
    ) -> bool {
        // Offsets fit: an object is far below 4 GiB.
        let offset = part.bytes.start as u32;
        let key = (part.object.clone(), offset);
        if let Some(fetch) = self
            .by_frame
            .get(&key)
            .and_then(|id| self.fetches.get_mut(id))
        {
            if let Some(frame) = fetch.frames.iter_mut().find(|frame| frame.offset == offset) {
                frame.waiters.extend(waiter);
            }
            let overtakes = core::mem::take(&mut fetch.is_behind);
            if overtakes {
                self.behind -= 1;
                if let (false, Some(id)) = (fetch.sent, self.by_frame.get(&key).copied()) {
                    self.line_behind.retain(|behind| *behind != id);
                    self.line.push_back(id);
                }
            }
            return false;
        }
        let waiters = waiter.into_iter().collect();
        self.add(part, version, waiters, false);
        true
    }

    /// A frame is wanted that no guest waits for: asked for when no guest's fetch is in line.
    pub(crate) fn want_behind(&mut self, part: &FramePart, version: Version) {
        let key = (part.object.clone(), part.bytes.start as u32);
        if !self.by_frame.contains_key(&key) {
            self.add(part, version, Vec::new(), true);
        }
    }

    /// Fetches that no guest waits for, in line and under way.
    pub(crate) const fn behind(&self) -> u32 {
        self.behind
    }

    fn add(
        &mut self,
        part: &FramePart,
        version: Version,
        waiters: Vec<FrameWaiter>,
        is_behind: bool,
    ) {
        // Offsets fit: an object is far below 4 GiB.
        let offset = part.bytes.start as u32;
        let key = (part.object.clone(), offset);
        let new = Fetching {
            offset,
            expect: part.expect.clone(),
            waiters,
        };
        let line = if is_behind {
            &mut self.line_behind
        } else {
            &mut self.line
        };
        // The frame after the last one ordered rides in the same GET.
        if let Some(id) = line.back().copied()
            && let Some(fetch) = self.fetches.get_mut(&id)
            && !fetch.sent
            && !fetch.is_alone
            && fetch.retry_at.is_none()
            && fetch.object == part.object
            && fetch.bytes.end == part.bytes.start
            && fetch
                .frames
                .first()
                .is_some_and(|first| first.expect.chunk == part.expect.chunk)
            && fetch
                .frames
                .last()
                .is_some_and(|last| last.expect.frame + 1 == part.expect.frame)
            && fetch.frames.len() < FETCH_FRAMES_MAX
        {
            fetch.bytes.end = part.bytes.end;
            fetch.frames.push(new);
            self.by_frame.insert(key, id);
            return;
        }
        let id = self.next;
        self.next += 1;
        self.by_frame.insert(key, id);
        self.fetches.insert(
            id,
            Fetch {
                object: part.object.clone(),
                bytes: part.bytes.clone(),
                frames: alloc::vec![new],
                version,
                sent: false,
                attempts: 0,
                retry_at: None,
                is_behind,
                is_alone: false,
            },
        );
        line.push_back(id);
        self.behind += u32::from(is_behind);
    }

    /// The next fetch to send, while fewer than `max` are under way.
    pub(crate) fn next_to_send(&mut self, max: u32) -> Option<(u64, &Fetch)> {
        if self.sent >= max {
            return None;
        }
        // Half of the places stay free for guests.
        let id = match self.line.pop_front() {
            Some(id) => id,
            None if self.sent * 2 < max => self.line_behind.pop_front()?,
            None => return None,
        };
        let fetch = self.fetches.get_mut(&id)?;
        fetch.sent = true;
        fetch.attempts += 1;
        self.sent += 1;
        Some((id, fetch))
    }

    /// A fetch was answered: it is not under way any more.
    pub(crate) fn answered(&mut self, id: u64) -> Option<Fetch> {
        self.sent = self.sent.saturating_sub(1);
        let fetch = self.fetches.remove(&id)?;
        self.behind -= u32::from(fetch.is_behind);
        for frame in &fetch.frames {
            self.by_frame.remove(&(fetch.object.clone(), frame.offset));
        }
        Some(fetch)
    }

    /// The fetch is asked again at `at`, if somebody still waits for it.
    pub(crate) fn again(&mut self, id: u64, mut fetch: Fetch, at: Instant) {
        fetch.sent = false;
        fetch.retry_at = Some(at);
        fetch.is_behind = false;
        for frame in &fetch.frames {
            self.by_frame
                .insert((fetch.object.clone(), frame.offset), id);
        }
        self.fetches.insert(id, fetch);
    }

    /// Something of the fetch is damaged, and nobody knows which frame: each is asked for alone, also those that nobody waits
    /// for any more, so that who asks again is told.
    pub(crate) fn split(&mut self, fetch: Fetch) {
        let mut end = fetch.bytes.end;
        for frame in fetch.frames.into_iter().rev() {
            let (id, start) = (self.next, u64::from(frame.offset));
            self.next += 1;
            self.by_frame
                .insert((fetch.object.clone(), frame.offset), id);
            let alone = Fetch {
                object: fetch.object.clone(),
                bytes: start..end,
                frames: alloc::vec![frame],
                version: fetch.version,
                sent: false,
                attempts: 0,
                retry_at: None,
                is_behind: false,
                is_alone: true,
            };
            self.fetches.insert(id, alone);
            self.line.push_front(id);
            end = start;
        }
    }

    /// Whether frames of the object are wanted, sent for or not.
    pub(crate) fn reads_from(&self, container: &Container, name: &DataName) -> bool {
        let object = ObjectRef {
            container: container.clone(),
            name: *name,
        };
        let next = self.by_frame.range((object, 0)..).next();
        next.is_some_and(|((object, _), _)| object.container == *container && object.name == *name)
    }

    pub(crate) fn next_retry(&self) -> Option<Instant> {
        self.fetches
            .values()
            .filter_map(|fetch| fetch.retry_at)
            .min()
    }

    /// The store answers again: what waits out its backoff is asked at once.
    pub(crate) fn hurry(&mut self) {
        for (id, fetch) in &mut self.fetches {
            if fetch.retry_at.take().is_some() {
                fetch.attempts = 0;
                self.line.push_back(*id);
            }
        }
    }

    /// Puts what is due in line again.
    pub(crate) fn due(&mut self, now: Instant) {
        for (id, fetch) in &mut self.fetches {
            if fetch.retry_at.is_some_and(|at| at <= now) {
                fetch.retry_at = None;
                self.line.push_back(*id);
            }
        }
    }

    /// A guest read `extent`: what to fetch ahead of it, in blocks.
    ///
    /// Doubles the window while a stream goes on, up to `most` blocks; a read elsewhere starts a new stream.
    pub(crate) fn read_ahead(
        &mut self,
        extent: Extent,
        capacity: u64,
        most: u64,
    ) -> Option<Extent> {
        self.clock += 1;
        let clock = self.clock;
        let stream = self
            .streams
            .iter_mut()
            .find(|s| s.used > 0 && s.next == extent.start);
        let Some(stream) = stream else {
            let oldest = self.streams.iter_mut().min_by_key(|s| s.used)?;
            *oldest = Stream {
                next: extent.end(),
                ahead: extent.end(),
                window: 0,
                used: clock,
            };
            return None;
        };
        stream.used = clock;
        stream.next = extent.end();
        stream.window = (stream.window * 2).max(extent.count.0 * 2).min(most);
        let from = stream.ahead.0.max(extent.end().0);
        let to = (extent.end().0 + stream.window).min(capacity);
        // Ordered in steps of half a window, so that frames go in long GETs.
        if from >= to || (to - from) * 2 < stream.window && to < capacity {
            return None;
        }
        stream.ahead = Lba(to);
        Some(Extent::from_range(from..to))
    }
}

#[cfg(test)]
mod tests;
