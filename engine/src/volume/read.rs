//! The read path: split over layers and table, fetch what is absent, answer when all is here.

use super::doubt::Doubt;
use super::{Pending, Volume};
use crate::cache::Held;
use crate::command::{Failure, Reply};
use crate::effect::{
    Absence, DiskRequest, Effect, Expect, GetRequest, Meta, Notice, Outcome, StoreError,
    StoreRequest,
};
use crate::hydrate::{FramePart, Run, RunSource, runs};
use crate::ids::{FileId, Hash, Tag};
use crate::layers::map::{Segment, Source};
use crate::layers::run::JournalRun;
use crate::layers::split;
use crate::object::names::ObjectName;
use crate::payload::{Parts, Payload};
use crate::table::present::{LeafWaiter, Lookup};
use crate::table::types::{LeafHome, LeafRef};
use crate::time::Duration;
use crate::units::{ByteCount, Extent, GRAIN_BYTES, Lba};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use smallvec::SmallVec;

/// How far ahead of a sequential guest frames are fetched, in bytes.
const READ_AHEAD_BYTES: u64 = 16 << 20;

/// A store that did not answer is asked again after this, doubling up to 16 times as long.
const RETRY: Duration = Duration::from_millis(250);

/// Who asked for a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    Guest(Tag),
    /// The compare of a compare-and-write.
    Caw(u64),
}

/// What tells the bytes of a record that is not durable yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tell {
    /// Its file.
    Journal,
    /// What is held in memory: its file has failed.
    Memory,
}

/// Who waits for bytes of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FrameWaiter {
    op: u64,
    extent: Extent,
    /// First byte wanted, counted from the frame's first grain.
    from: u32,
}

/// A read under way.
#[derive(Debug)]
struct ReadOp<P> {
    owner: Owner,
    extent: Extent,
    /// Parts by first block, in the order they came.
    got: SmallVec<[(u64, Parts<P>); 2]>,
    /// Blocks that are still to come.
    left: u64,
    /// Extents that wait for a leaf.
    waiting: SmallVec<[Extent; 1]>,
}

/// Reads under way.
#[derive(Debug)]
pub(crate) struct Reads<P> {
    ops: BTreeMap<u64, ReadOp<P>>,
    /// Of all of them together.
    blocks: u64,
    next: u64,
    /// Found damaged in the store, and not believed yet.
    pub(super) doubts: Vec<Doubt>,
}

impl<P> Default for Reads<P> {
    fn default() -> Self {
        Self {
            ops: BTreeMap::new(),
            blocks: 0,
            next: 0,
            doubts: Vec::new(),
        }
    }
}

impl<P> Reads<P> {
    /// Reads under way.
    pub(crate) fn len(&self) -> usize {
        self.ops.len()
    }

    /// Blocks that they ask for.
    pub(crate) const fn blocks(&self) -> u64 {
        self.blocks
    }

    fn insert(&mut self, op: u64, read: ReadOp<P>) {
        self.blocks += read.extent.count.0;
        self.ops.insert(op, read);
    }

    fn remove(&mut self, op: u64) -> Option<ReadOp<P>> {
        let read = self.ops.remove(&op)?;
        self.blocks -= read.extent.count.0;
        Some(read)
    }

    /// Whether that read has no answer yet.
    pub(super) fn is_under_way(&self, op: u64) -> bool {
        self.ops.contains_key(&op)
    }
}

impl<P: Payload> Volume<P> {
    pub(super) fn read_guest(&mut self, tag: Tag, extent: Extent) {
        self.read_begin(Owner::Guest(tag), extent);
        self.read_ahead(extent);
    }

    fn read_begin(&mut self, owner: Owner, extent: Extent) {
        let op = self.reads.next;
        self.reads.next += 1;
        let read = ReadOp {
            owner,
            extent,
            got: SmallVec::new(),
            left: extent.count.0,
            waiting: SmallVec::new(),
        };
        self.reads.insert(op, read);
        self.resolve(op, extent);
        self.hydrate_pump();
    }

    /// Finds the newest place of every block of `extent` and asks for it.
    pub(super) fn resolve(&mut self, op: u64, extent: Extent) {
        self.resolve_from(op, extent, Tell::Journal);
    }

    fn resolve_from(&mut self, op: u64, extent: Extent, tell: Tell) {
        let Some(geometry) = self.geometry else {
            return;
        };
        let mut found: SmallVec<[(Extent, Option<Segment>); 4]> = SmallVec::new();
        self.stack
            .cover(extent, geometry.block_bytes, &mut |extent, segment| {
                found.push((extent, segment))
            });
        let mut next = 0;
        while let Some(&(extent, segment)) = found.get(next) {
            next += 1;
            if tell == Tell::Memory
                && let Some(parts) = self.in_memory(extent, segment)
            {
                self.read_fill(op, extent.start, parts, extent.count.0);
                continue;
            }
            match segment.map(|segment| segment.source) {
                None => self.resolve_table(op, extent),
                Some(Source::Hole) => {
                    self.read_fill(
                        op,
                        extent.start,
                        Parts::zeros(geometry.bytes(extent.count)),
                        extent.count.0,
                    );
                }
                Some(Source::Lost) => self.read_fail(op, extent.start),
                Some(Source::Journal(place)) => {
                    let mut run = JournalRun::new(extent, place, geometry.block_bytes);
                    while let Some(&(extent, segment)) = found.get(next)
                        && let Some(Source::Journal(place)) = segment.map(|s| s.source)
                    {
                        let elsewhere =
                            tell == Tell::Memory && self.in_memory(extent, segment).is_some();
                        if elsewhere || !run.join(extent, place, geometry.block_bytes) {
                            break;
                        }
                        next += 1;
                    }
                    self.read_journal(op, run);
                }
            }
        }
    }

    fn read_journal(&mut self, op: u64, run: JournalRun) {
        self.journal.pin(run.file);
        let pending = Pending::ReadJournal {
            op,
            at: run.extent.start,
            count: run.extent.count.0,
            file: run.file,
        };
        self.out.read(pending, run.read());
    }

    pub(super) fn read_journal_done(
        &mut self,
        op: u64,
        at: Lba,
        count: u64,
        file: FileId,
        outcome: Outcome<P>,
    ) {
        match outcome {
            Outcome::Read(p) => self.read_fill(op, at, Parts::one(p), count),
            _ if self.reads.ops.contains_key(&op) => {
                // The record may have been written again elsewhere, or published, since it was looked up; and what is
                // not durable yet is in memory as it was acknowledged.
                let extent = Extent::new(at.0, count);
                if self.is_elsewhere(extent, file) {
                    self.resolve_from(op, extent, Tell::Memory);
                    self.hydrate_pump();
                } else {
                    self.out.push(Effect::Notice(Notice::Damaged {
                        extent,
                        place: format!("journal file {file}"),
                    }));
                    self.read_fail(op, at);
                }
            }
            _ => {}
        }
        self.journal.unpin(&mut self.out, file);
    }

    /// Whether nothing of `extent` is looked for in `file` any more, or something of it is in memory.
    fn is_elsewhere(&self, extent: Extent, file: FileId) -> bool {
        let Some(geometry) = self.geometry else {
            return true;
        };
        let (mut there, mut kept) = (false, false);
        self.stack
            .cover(extent, geometry.block_bytes, &mut |extent, segment| {
                if let Some(Segment {
                    source: Source::Journal(place),
                    ..
                }) = segment
                {
                    there |= place.file == file;
                    kept |= self.in_memory(extent, segment).is_some();
                }
            });
        !there || kept
    }

    /// The bytes of blocks that a layer finds in the journal, if they are in memory.
    fn in_memory(&self, extent: Extent, segment: Option<Segment>) -> Option<Parts<P>> {
        let segment = segment.filter(|s| matches!(s.source, Source::Journal(_)))?;
        self.journal
            .kept(segment.seq, extent, self.geometry?.block_bytes)
    }

    // --- the table ---

    fn resolve_table(&mut self, op: u64, extent: Extent) {
        let Some(geometry) = self.geometry else {
            return;
        };
        let leaf_blocks = geometry.chunk_blocks() * u64::from(geometry.leaf_chunks);
        for extent in split::within(extent, leaf_blocks) {
            let index = geometry.leaf_of(geometry.chunk_of(geometry.grain_of(extent.start)));
            match self.present.lookup(index, Some(LeafWaiter::Read(op))) {
                Lookup::Hole => {
                    self.read_fill(
                        op,
                        extent.start,
                        Parts::zeros(geometry.bytes(extent.count)),
                        extent.count.0,
                    );
                }
                Lookup::Ready(leaf) => {
                    for run in runs(&geometry, &leaf, extent) {
                        self.read_run(op, run);
                    }
                }
                Lookup::Wait { .. } if bug!("absent-leaf-is-zeros") => {
                    self.read_fill(
                        op,
                        extent.start,
                        Parts::zeros(geometry.bytes(extent.count)),
                        extent.count.0,
                    );
                }
                Lookup::Wait { at, start } => {
                    if let Some(read) = self.reads.ops.get_mut(&op) {
                        read.waiting.push(extent);
                    }
                    self.read_waits(op);
                    if start {
                        self.leaf_load(&at);
                    }
                }
            }
        }
    }

    fn read_run(&mut self, op: u64, run: Run) {
        let Some(geometry) = self.geometry else {
            return;
        };
        let bytes = geometry.bytes(run.extent.count);
        match run.source {
            RunSource::Zeros => self.read_fill(
                op,
                run.extent.start,
                Parts::zeros(bytes),
                run.extent.count.0,
            ),
            RunSource::Lost => self.read_fail(op, run.extent.start),
            RunSource::Frame(part) => self.read_frame(op, run.extent, &part, bytes),
        }
    }

    fn read_frame(&mut self, op: u64, extent: Extent, part: &FramePart, bytes: ByteCount) {
        let key = (part.object.clone(), part.bytes.start as u32);
        let from = part.slot * GRAIN_BYTES + part.skip;
        match self.cache.get(&key).cloned() {
            Some(Held::Slot(slot)) => {
                // At most a frame.
                let bytes = bytes.0 as u32;
                let grains = part.slot..(from + bytes).div_ceil(GRAIN_BYTES);
                match self.cache.read(slot, grains, part.skip..part.skip + bytes) {
                    Some(read) => self.out.read(Pending::ReadCache { op, extent, slot }, read),
                    None => self.read_fail(op, extent.start),
                }
            }
            Some(Held::Memory(data)) => {
                let from = u64::from(from);
                self.read_fill(
                    op,
                    extent.start,
                    data.slice(from..from + bytes.0),
                    extent.count.0,
                );
            }
            None => {
                let version = self
                    .present
                    .root()
                    .map(|root| root.name.version)
                    .unwrap_or_default();
                self.hydrate
                    .want(part, version, Some(FrameWaiter { op, extent, from }));
                self.read_waits(op);
            }
        }
    }

    pub(super) fn read_cache_done(
        &mut self,
        op: u64,
        extent: Extent,
        slot: u32,
        outcome: Outcome<P>,
    ) {
        let good = matches!(outcome, Outcome::Read(_));
        if let Outcome::Read(p) = outcome {
            self.read_fill(op, extent.start, Parts::one(p), extent.count.0);
        }
        self.cache.unpin(slot);
        if !good {
            // Cached frames are copies: drop this one and fetch it again.
            self.cache.drop_slot(slot);
            if self.reads.ops.contains_key(&op) {
                self.resolve(op, extent);
                self.hydrate_pump();
            }
        }
    }

    // --- leaves ---

    pub(crate) fn leaf_load(&mut self, at: &LeafRef) {
        let request = DiskRequest::LoadMeta {
            hash: at.hash,
            expect: Expect::Leaf(at.hash),
        };
        self.out.disk(Pending::LeafLocal { hash: at.hash }, request);
    }

    pub(super) fn leaf_local_done(&mut self, hash: Hash, outcome: Outcome<P>) {
        match outcome {
            Outcome::Meta(Meta::Leaf(leaf), found) if found == hash => self.leaf_came(hash, leaf),
            _ => self.leaf_fetch(hash),
        }
    }

    fn leaf_fetch(&mut self, hash: Hash) {
        let Some(at) = self.present.loading(hash).cloned() else {
            return;
        };
        let request = StoreRequest::Get(GetRequest {
            container: at
                .container
                .clone()
                .unwrap_or_else(|| self.container.clone()),
            name: leaf_object(&at),
            range: Some(u64::from(at.offset)..u64::from(at.offset) + u64::from(at.len)),
            absence: Absence::Damage,
            deadline: self.limits.store_deadline,
            expect: Expect::Leaf(hash),
        });
        self.out.store(Pending::LeafStore { hash }, request);
    }

    pub(super) fn leaf_store_done(&mut self, hash: Hash, outcome: Outcome<P>) {
        match outcome {
            Outcome::Meta(Meta::Leaf(leaf), found) if found == hash => {
                self.store_answered();
                if !self.own.is_reader() {
                    let meta = Meta::Leaf(leaf.clone());
                    self.out
                        .disk(Pending::Nothing, DiskRequest::KeepMeta { hash, meta });
                }
                self.leaf_came(hash, leaf);
            }
            Outcome::Store(
                error @ (StoreError::Damaged | StoreError::Absent | StoreError::TooNew),
            ) => {
                let place = self
                    .present
                    .loading(hash)
                    .map(|at| {
                        let container = at.container.as_ref().unwrap_or(&self.container);
                        let name = match at.home {
                            LeafHome::Root(name) => ObjectName::Root(name),
                            LeafHome::Leaves(name) => ObjectName::Leaves(name),
                        };
                        format!("{container}/{name}")
                    })
                    .unwrap_or_default();
                self.store_answered();
                let is_newest = self
                    .present
                    .loading(hash)
                    .is_some_and(|at| self.present.names(at));
                let waiters = self.present.failed(hash);
                self.out.push(Effect::Notice(Notice::StoreWaiting {
                    object: place.clone(),
                    error,
                }));
                for waiter in waiters {
                    match waiter {
                        // Only the newest table decides what must be there: ask it again.
                        LeafWaiter::Read(op) if !is_newest => self.resolve_waiting(op),
                        LeafWaiter::Read(op) => {
                            let waiting = self.take_waiting(op, hash);
                            if let Some(extent) = waiting {
                                self.read_doubt(op, extent, place.clone());
                            }
                        }
                        LeafWaiter::Publish => self.publish_leaf_failed(),
                    }
                }
            }
            other => {
                self.store_failed(&other);
                let at = self.now + RETRY * 4;
                self.own.retry_leaf(at, hash);
            }
        }
    }

    // The blocks of a read that wait for that leaf.
    fn take_waiting(&mut self, op: u64, hash: Hash) -> Option<Extent> {
        let geometry = self.geometry?;
        let leaves = self.present.root().map(|root| &root.leaves);
        let read = self.reads.ops.get_mut(&op)?;
        let at = read.waiting.iter().position(|extent| {
            let index = geometry.leaf_of(geometry.chunk_of(geometry.grain_of(extent.start)));
            leaves
                .and_then(|leaves| leaves.get(&index))
                .is_some_and(|leaf| leaf.hash == hash)
        });
        match at {
            Some(at) => Some(read.waiting.remove(at)),
            // The table has changed since: whichever it was is looked up again.
            None => read.waiting.pop(),
        }
    }

    /// Asks for a leaf again that the store did not give.
    pub(crate) fn leaf_retry(&mut self, hash: Hash) {
        self.leaf_fetch(hash);
    }

    fn leaf_came(&mut self, hash: Hash, leaf: alloc::sync::Arc<crate::table::types::Leaf>) {
        for waiter in self.present.loaded(hash, leaf) {
            match waiter {
                LeafWaiter::Read(op) => self.resolve_waiting(op),
                // `publish_step` looks it up again.
                LeafWaiter::Publish => self.publish_leaf_came(),
            }
        }
        self.hydrate_pump();
    }

    /// Looks up again what of a read waits for leaves.
    fn resolve_waiting(&mut self, op: u64) {
        let read = self.reads.ops.get_mut(&op);
        let waiting = read.map(|read| core::mem::take(&mut read.waiting));
        for extent in waiting.into_iter().flatten() {
            self.resolve(op, extent);
        }
    }

    // --- frames from the store ---

    pub(crate) fn hydrate_pump(&mut self) {
        while let Some((id, fetch)) = self.hydrate.next_to_send(self.limits.hydrations) {
            let request = StoreRequest::Get(GetRequest {
                container: fetch.object.container.clone(),
                name: ObjectName::Data(fetch.object.name),
                range: Some(fetch.bytes.clone()),
                absence: Absence::Damage,
                deadline: self.limits.store_deadline,
                expect: Expect::Frames(
                    fetch
                        .frames
                        .iter()
                        .map(|frame| frame.expect.clone())
                        .collect(),
                ),
            });
            self.out.store(Pending::Fetch { id }, request);
        }
    }

    pub(super) fn fetch_done(&mut self, id: u64, outcome: Outcome<P>) {
        let Some(mut fetch) = self.hydrate.answered(id) else {
            return;
        };
        if fetch.is_behind && !matches!(outcome, Outcome::Frames(_)) {
            // Whatever it is that the store has: it is not asked again and again for what no guest wants.
            self.publishing.merges.pause();
        }
        match outcome {
            Outcome::Frames(frames) if frames.len() == fetch.frames.len() => {
                self.store_answered();
                for (frame, got) in fetch.frames.into_iter().zip(frames) {
                    let data = Parts::one(got.data);
                    for waiter in frame.waiters {
                        let Some(geometry) = self.geometry else {
                            return;
                        };
                        let bytes = geometry.bytes(waiter.extent.count).0;
                        let from = u64::from(waiter.from);
                        let part = data.slice(from..from + bytes);
                        self.read_fill(waiter.op, waiter.extent.start, part, waiter.extent.count.0);
                    }
                    self.cache_feed(
                        &fetch.object,
                        frame.offset,
                        frame.expect.grains,
                        got.sums,
                        data,
                    );
                }
            }
            Outcome::Store(
                error @ (StoreError::Damaged | StoreError::Absent | StoreError::TooNew),
            ) => {
                self.store_answered();
                let now = self
                    .present
                    .root()
                    .map(|root| root.name.version)
                    .unwrap_or_default();
                for waiter in fetch
                    .frames
                    .iter_mut()
                    .flat_map(|frame| frame.waiters.drain(..))
                {
                    if now != fetch.version && self.reads.ops.contains_key(&waiter.op) {
                        // Only the newest table decides what must be there: ask it again.
                        self.resolve(waiter.op, waiter.extent);
                        continue;
                    }
                    let place = format!(
                        "{}/{}: {error:?}",
                        fetch.object.container,
                        ObjectName::Data(fetch.object.name)
                    );
                    self.read_doubt(waiter.op, waiter.extent, place);
                }
            }
            other => {
                self.store_failed(&other);
                for frame in &mut fetch.frames {
                    frame
                        .waiters
                        .retain(|waiter| self.reads.ops.contains_key(&waiter.op));
                }
                fetch
                    .frames
                    .iter_mut()
                    .for_each(|frame| frame.waiters.shrink_to_fit());
                if fetch.frames.iter().any(|frame| !frame.waiters.is_empty()) {
                    let at = self.now + RETRY * (1 << fetch.attempts.min(4));
                    self.hydrate.again(id, fetch, at);
                }
            }
        }
        self.hydrate_pump();
    }

    pub(super) fn hydrate_timeout(&mut self) {
        self.hydrate.due(self.now);
        self.hydrate_pump();
    }

    /// Puts a frame that is in memory into the cache.
    pub(crate) fn cache_feed(
        &mut self,
        object: &crate::table::types::ObjectRef,
        offset: u32,
        grains: SmallVec<[crate::units::GrainIndex; 16]>,
        sums: SmallVec<[crate::sum::BoundSum; 16]>,
        data: Parts<P>,
    ) {
        if self.own.is_reader() || sums.len() != grains.len() {
            return;
        }
        if let Some((slot, frame)) =
            self.cache
                .begin_fill(object, offset, grains, sums, data.clone())
        {
            let frame = alloc::boxed::Box::new(frame);
            self.out.disk(
                Pending::Fill { slot },
                DiskRequest::FillCache { slot, frame, data },
            );
        }
    }

    /// Fetches ahead of a sequential guest what is not here.
    fn read_ahead(&mut self, extent: Extent) {
        let Some(geometry) = self.geometry else {
            return;
        };
        if self.own.is_reader() && self.limits.cache_slots == 0 {
            return;
        }
        let most = READ_AHEAD_BYTES / u64::from(geometry.block_bytes);
        let Some(ahead) = self.hydrate.read_ahead(extent, geometry.capacity.0, most) else {
            return;
        };
        let version = self
            .present
            .root()
            .map(|root| root.name.version)
            .unwrap_or_default();
        let leaf_blocks = geometry.chunk_blocks() * u64::from(geometry.leaf_chunks);
        for part in split::within(ahead, leaf_blocks) {
            let index = geometry.leaf_of(geometry.chunk_of(geometry.grain_of(part.start)));
            match self.present.lookup(index, None) {
                Lookup::Hole => {}
                Lookup::Wait { at, start } => {
                    if start {
                        self.leaf_load(&at);
                    }
                }
                Lookup::Ready(leaf) => {
                    for run in runs(&geometry, &leaf, part) {
                        if let RunSource::Frame(frame) = run.source
                            && self
                                .cache
                                .get(&(frame.object.clone(), frame.bytes.start as u32))
                                .is_none()
                        {
                            self.hydrate.want(&frame, version, None);
                        }
                    }
                }
            }
        }
        self.hydrate_pump();
    }

    // --- the end of a read ---

    pub(super) fn read_waits(&mut self, op: u64) {
        if let Some(ReadOp {
            owner: Owner::Guest(tag),
            ..
        }) = self.reads.ops.get(&op)
        {
            let tag = *tag;
            self.wait_bounded(tag);
        }
    }

    fn read_fill(&mut self, op: u64, at: Lba, parts: Parts<P>, count: u64) {
        let Some(read) = self.reads.ops.get_mut(&op) else {
            return;
        };
        read.got.push((at.0, parts));
        read.left = read.left.saturating_sub(count);
        if read.left > 0 {
            return;
        }
        let Some(mut read) = self.reads.remove(op) else {
            return;
        };
        read.got.sort_by_key(|(at, _)| *at);
        let mut whole = Parts::default();
        read.got
            .into_iter()
            .for_each(|(_, parts)| whole.extend(parts));
        debug_assert_eq!(
            Some(whole.len()),
            self.geometry.map(|g| g.bytes(read.extent.count)),
            "every block came once"
        );
        match read.owner {
            Owner::Guest(tag) => self.answer(tag, Reply::Read(whole)),
            Owner::Caw(caw) => self.caw_read(caw, whole),
        }
    }

    pub(super) fn read_fail(&mut self, op: u64, at: Lba) {
        let Some(read) = self.reads.remove(op) else {
            return;
        };
        let failure = Failure::Damaged { at };
        match read.owner {
            Owner::Guest(tag) => self.answer(tag, Reply::Failed(failure)),
            Owner::Caw(caw) => {
                if let Some(caw) = self.caw_remove(caw) {
                    self.answer(caw.tag, Reply::Failed(failure));
                }
                self.unlocked();
            }
        }
    }

    /// Takes a guest's read back; whether there was one.
    pub(super) fn reads_abort(&mut self, tag: Tag) -> bool {
        let op = self
            .reads
            .ops
            .iter()
            .find(|(_, read)| read.owner == Owner::Guest(tag))
            .map(|(op, _)| *op);
        op.is_some_and(|op| self.reads.remove(op).is_some())
    }

    pub(super) fn reads_abort_caw(&mut self, caw: u64) {
        let of_caw = |(_, read): &(&u64, &ReadOp<P>)| read.owner == Owner::Caw(caw);
        let op = self.reads.ops.iter().find(of_caw).map(|(op, _)| *op);
        op.map(|op| self.reads.remove(op));
    }

    pub(super) fn reads_drain(&mut self) -> Vec<Tag> {
        self.reads.blocks = 0;
        core::mem::take(&mut self.reads.ops)
            .into_values()
            .filter_map(|read| match read.owner {
                Owner::Guest(tag) => Some(tag),
                Owner::Caw(_) => None,
            })
            .collect()
    }

    // --- compare and write ---

    /// Begins the compares whose predecessors are applied.
    pub(super) fn caw_step(&mut self) {
        for (caw, at) in self.caws_ready() {
            self.read_begin(Owner::Caw(caw), at);
        }
    }

    fn caw_read(&mut self, caw: u64, found: Parts<P>) {
        let Some(op) = self.caw_mut(caw) else { return };
        let expect = op.expect.clone();
        self.out.compare(Pending::Compare { caw }, found, expect);
    }

    pub(super) fn caw_compared(&mut self, caw: u64, outcome: Outcome<P>) {
        match outcome {
            Outcome::Compared(None) => self.caw_write(caw),
            Outcome::Compared(Some(at)) => {
                if let Some(op) = self.caw_remove(caw) {
                    self.answer(op.tag, Reply::Miscompare { at });
                }
                self.unlocked();
            }
            _ => {
                if let Some(op) = self.caw_remove(caw) {
                    self.answer(op.tag, Reply::Failed(Failure::Hardware));
                }
                self.unlocked();
            }
        }
    }
}

/// The object that a leaf lies in.
pub(crate) fn leaf_object(at: &LeafRef) -> ObjectName {
    match at.home {
        LeafHome::Root(name) => ObjectName::Root(name),
        LeafHome::Leaves(name) => ObjectName::Leaves(name),
    }
}
