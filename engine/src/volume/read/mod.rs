//! The read path: split over layers and table, fetch what is absent, answer when all is here.

mod compare;
mod frames;
mod leaves;
mod table;

use crate::command::{Failure, Reply};
use crate::effect::{Effect, Notice, Outcome};
use crate::ids::{FileId, Tag};
use crate::layers::map::{Segment, Source};
use crate::layers::run::JournalRun;
use crate::layers::split;
use crate::payload::{Parts, Payload};
use crate::units::{Extent, Lba};
use crate::volume::doubt::{Doubt, Untold};
use crate::volume::{Pending, Volume};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;
use smallvec::SmallVec;

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
    /// Found damaged in the store when nobody waited any more.
    pub(super) untold: VecDeque<Untold>,
}

impl<P> Default for Reads<P> {
    fn default() -> Self {
        Self {
            ops: BTreeMap::new(),
            blocks: 0,
            next: 0,
            doubts: Vec::new(),
            untold: VecDeque::new(),
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
                Some(Source::Lost) => {
                    mark!("lost-in-the-journal");
                    self.read_fail(op, extent.start);
                }
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
            bytes: run.bytes(),
        };
        self.out.read(pending, run.read());
    }

    pub(super) fn read_journal_done(
        &mut self,
        op: u64,
        extent: Extent,
        file: FileId,
        bytes: &Range<u64>,
        outcome: Outcome<P>,
    ) {
        match outcome {
            Outcome::Read(p) => {
                self.read_fill(op, extent.start, Parts::one(p), extent.count.0);
            }
            _ if self.reads.ops.contains_key(&op) => {
                // The record may have been written again elsewhere, or published, since it was looked up; and what is
                // not durable yet is in memory as it was acknowledged.
                let bad = self.bad_piece(extent, &outcome);
                if self.is_elsewhere(bad, file, bytes) {
                    mark!("journal-read-goes-elsewhere");
                    self.resolve_from(op, extent, Tell::Memory);
                    self.hydrate_pump();
                } else {
                    mark!("journal-read-damaged");
                    self.out.push(Effect::Notice(Notice::Damaged {
                        extent: bad,
                        place: format!("journal file {file}"),
                    }));
                    self.read_fail(op, bad.start);
                }
            }
            _ => {}
        }
        self.journal.unpin(&mut self.out, file);
    }

    /// The blocks of `extent`, a run of the journal, that its read found damaged.
    fn bad_piece(&self, extent: Extent, outcome: &Outcome<P>) -> Extent {
        let (Some(geometry), Outcome::ReadDamaged { piece }) = (self.geometry, outcome) else {
            return extent;
        };
        let bad = split::pieces(&geometry, extent).nth(*piece as usize);
        bad.unwrap_or(extent)
    }

    /// Whether nothing of `extent` is looked for in these bytes of `file` any more, or something of it is in memory.
    fn is_elsewhere(&self, extent: Extent, file: FileId, bytes: &Range<u64>) -> bool {
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
                    there |= place.file == file && bytes.contains(&place.at);
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
}
