//! The local journal: the log of accepted writes, in files that are written once and recycled.
//!
//! Shape      append (any number in parallel) → applied in seq order → synced in groups → stored → recycled.
//! Invariant  `durable ≤ written ≤ assigned`; everything ≤ `durable` survives power loss; answers follow `written` or
//!            `durable`, never an append alone.
//! Invariant  one sync at a time, oldest file first: file n+1 is never synced before everything applied in file n is.
//! Not here   bytes of records (`record`), what a restart makes of them (`replay`), the blocks (`layers`).
//! Crash      after any subset of the unsynced pages: what is applied but not durable forms a tail that `replay` cuts at the
//!            first gap.

mod append;
mod face;
pub mod index;
pub mod note;
mod place;
pub mod record;
mod recycle;
pub(crate) mod replay;
pub mod scan;
mod sync;

pub(crate) use face::{Class, Event, Op, Place};

use crate::effect::Outcome;
use crate::ids::{AttachId, FileId, Lap, Seq};
use crate::journal::record::{PAGE_BYTES, RecordBefore, RecordBody, RecordHead};
use crate::payload::{Parts, Payload};
use crate::slots::Out;
use crate::units::{ByteCount, Extent, RECORD_BYTES_MAX};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use place::pages;

/// Files that guest writes leave alone: one for notes' and voids' sake, one for rewrites after a failed append or sync.
const RESERVE: usize = 2;

/// Records kept until they are durable, so that records without data are bounded too. Half of them order a sync.
const KEPT_RECORDS_MAX: usize = 8192;

/// An append is tried in so many files before its write is answered with an error.
const ATTEMPTS_MAX: u32 = 3;

#[derive(Debug)]
struct File {
    lap: Lap,
    /// First page that is free.
    next_page: u32,
    /// No more appends.
    closed: bool,
    /// A sync or append failed, or it has another size than ours: removed instead of recycled.
    condemned: bool,
    /// Highest seq that has a place here.
    last_seq: Seq,
    /// Highest applied seq whose place is here.
    applied: Seq,
    /// Highest seq here that a sync covered.
    synced: Seq,
    /// Appends and index writes under way.
    ops: u32,
    /// Reads under way.
    reads: u32,
    /// For the index; emptied when it is written.
    records: Vec<RecordHead>,
    indexed: bool,
    before: Option<RecordBefore>,
}

impl File {
    fn new(lap: Lap) -> Self {
        Self {
            lap,
            next_page: 0,
            closed: false,
            condemned: false,
            last_seq: Seq(0),
            applied: Seq(0),
            synced: Seq(0),
            ops: 0,
            reads: 0,
            records: Vec::new(),
            indexed: false,
            before: None,
        }
    }
}

/// A record that is not applied yet.
#[derive(Debug)]
struct Flight<P> {
    seq: Seq,
    body: RecordBody,
    data: Parts<P>,
    class: Class,
    /// Counts the appends of it: only the outcome of the last one counts.
    attempt: u32,
    /// How often its own append failed, not one before it.
    failures: u32,
    place: Option<Place>,
    done: bool,
    /// Its write was given up; the body is [`RecordBody::Void`].
    voided: bool,
}

/// A record that is applied and not durable yet: its payload may be needed again.
#[derive(Debug)]
struct Kept<P> {
    seq: Seq,
    body: RecordBody,
    data: Parts<P>,
    place: Place,
    /// Where it is being written again.
    moving: Option<Place>,
}

#[derive(Debug)]
enum Syncing {
    /// A sync is under way.
    Sync { file: FileId },
    /// A failed file's records are being written again.
    Rewriting { file: FileId, left: u32 },
}

/// The journal of one volume.
#[derive(Debug)]
pub(crate) struct Journal<P> {
    file_bytes: ByteCount,
    file_pages: u32,
    files_max: usize,
    files: BTreeMap<FileId, File>,
    /// In use, oldest first.
    order: VecDeque<FileId>,
    /// Takes appends; the last of `order`, or a rewrite's successor.
    head: Option<FileId>,
    /// Exist and hold nothing that is needed.
    ready: BTreeSet<FileId>,
    creating: Option<FileId>,
    /// A creation failed; not tried again before a file comes free or a sync ends.
    create_failed: bool,
    next_file: FileId,
    /// The newest lap drawn.
    lap: Lap,
    /// The laps of files that hold nothing needed, for the end-of-history note.
    attach: AttachId,
    assigned: Seq,
    /// Written in order, and told or about to be.
    ordered: Seq,
    /// Written and told: the volume has mapped it.
    written: Seq,
    durable: Seq,
    stored: Seq,
    flight: VecDeque<Flight<P>>,
    kept: VecDeque<Kept<P>>,
    kept_bytes: u64,
    flight_bytes: u64,
    kept_max: u64,
    syncing: Option<Syncing>,
    wanted: Seq,
    read_only: bool,
    /// A guest's record found no room: the head file is recycled too once it is stored.
    starved: bool,
    events: VecDeque<Event>,
}

impl<P: Payload> Journal<P> {
    /// A journal without files.
    pub(crate) fn new(
        file_bytes: ByteCount,
        file_pages: u32,
        files_max: u32,
        kept_max: ByteCount,
    ) -> Self {
        Self {
            file_bytes,
            file_pages,
            files_max: files_max as usize,
            files: BTreeMap::new(),
            order: VecDeque::new(),
            head: None,
            ready: BTreeSet::new(),
            creating: None,
            create_failed: false,
            next_file: FileId(0),
            lap: Lap(0),
            attach: AttachId::default(),
            assigned: Seq(0),
            ordered: Seq(0),
            written: Seq(0),
            durable: Seq(0),
            stored: Seq(0),
            flight: VecDeque::new(),
            kept: VecDeque::new(),
            kept_bytes: 0,
            flight_bytes: 0,
            kept_max: kept_max.0,
            syncing: None,
            wanted: Seq(0),
            read_only: false,
            starved: false,
            events: VecDeque::new(),
        }
    }

    /// Takes over what a recovery found: files that hold records, files that are free, and where the history stands. Files
    /// of another size than ours are read and never written: they are removed once nothing in them is needed.
    pub(crate) fn resume(&mut self, found: replay::Resumed, other_size: &[FileId]) {
        self.lap = found.lap;
        self.next_file = found.next_file;
        for file in found.in_use {
            let mut state = File::new(file.lap);
            state.closed = true;
            state.indexed = true;
            state.last_seq = file.last;
            state.applied = file.last;
            state.synced = file.last;
            state.condemned = other_size.contains(&file.file);
            self.files.insert(file.file, state);
            self.order.push_back(file.file);
        }
        for file in found.free {
            self.files.insert(file, File::new(Lap(0)));
            self.ready.insert(file);
        }
        self.assigned = found.end;
        self.ordered = found.end;
        self.written = found.end;
        self.durable = found.end;
        self.wanted = found.end;
        self.stored = found.stored;
    }

    /// Records written from now on belong to this attachment.
    pub(crate) fn set_attach(&mut self, attach: AttachId) {
        self.attach = attach;
    }

    pub(crate) fn written(&self) -> Seq {
        self.written
    }

    pub(crate) fn durable(&self) -> Seq {
        self.durable
    }

    pub(crate) fn stored(&self) -> Seq {
        self.stored
    }

    pub(crate) fn assigned(&self) -> Seq {
        self.assigned
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// No write is taken from now on.
    pub(crate) fn make_read_only(&mut self) {
        if !self.read_only {
            mark!("read-only");
            self.read_only = true;
            self.flight.clear();
            self.flight_bytes = 0;
            if matches!(self.syncing, Some(Syncing::Rewriting { .. })) {
                self.syncing = None;
            }
            self.events.push_back(Event::ReadOnly);
        }
    }

    /// What a recovery kept could not be synced: only what was durable before is. No write is taken from now on.
    pub(crate) fn cannot_keep(&mut self, durable: Seq) {
        self.durable = self.durable.min(durable);
        self.wanted = self.durable;
        self.make_read_only();
    }

    /// Resumes the numbering above `seq`: it is in the store, whatever the journal holds.
    pub(crate) fn skip_to(&mut self, seq: Seq) {
        if self.assigned < seq {
            debug_assert!(
                self.flight.is_empty(),
                "nothing is accepted before the base is known"
            );
            self.assigned = seq;
            self.ordered = seq;
            self.written = seq;
            self.durable = seq;
            self.wanted = seq;
        }
    }

    /// Sets every file aside: they stay on disk and are never used again.
    pub(crate) fn set_aside(&mut self) -> Vec<FileId> {
        debug_assert!(
            self.flight.is_empty() && self.syncing.is_none(),
            "nothing is under way"
        );
        let aside: Vec<FileId> = self.order.drain(..).collect();
        for file in &aside {
            self.files.remove(file);
        }
        self.head = None;
        self.kept.clear();
        self.kept_bytes = 0;
        // The numbers that were given out stay so: the next history goes on above them.
        let spent = self.assigned;
        self.ordered = spent;
        self.written = spent;
        self.durable = spent;
        self.wanted = spent;
        self.stored = spent;
        aside
    }

    /// Whether no record, sync or rewrite is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.flight.is_empty() && self.syncing.is_none() && self.events.is_empty()
    }

    /// Files in use, and of how many.
    pub(crate) fn usage(&self) -> (u32, u32) {
        (self.order.len() as u32, self.files_max as u32)
    }

    /// Bytes of payload held until durable.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.kept_bytes + self.flight_bytes
    }

    /// Most data that one record may carry, in bytes.
    pub(crate) fn record_bytes_max(&self) -> u32 {
        RECORD_BYTES_MAX.min((self.file_pages - 1) * PAGE_BYTES)
    }

    /// The next thing that the volume must know.
    pub(crate) fn poll(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if let Event::Applied { seq, .. } | Event::Voided { seq } = &event {
            self.written = *seq;
        }
        Some(event)
    }

    /// Whether a guest's record with so many bytes of data has a place now.
    pub(crate) fn has_room(&self, data_bytes: u64) -> bool {
        let records = self.kept.len() + self.flight.len();
        if self.read_only || self.held_bytes() >= self.kept_max || records >= KEPT_RECORDS_MAX {
            return false;
        }
        if self
            .flight
            .back()
            .is_some_and(|flight| flight.place.is_none())
        {
            // Records of a failed file wait for a place of their own first.
            return false;
        }
        let head_room = self
            .head
            .and_then(|head| self.files.get(&head))
            .map_or(0, |file| self.file_pages - file.next_page);
        pages(data_bytes) <= head_room || self.ready.len() > RESERVE
    }

    /// Whether no file is left but the reserve, which guests do not get.
    pub(crate) fn is_full(&self) -> bool {
        !self.read_only && self.ready.len() <= RESERVE
    }

    /// A record has no room: whatever can be freed for it shall be.
    pub(crate) fn want_room(&mut self, out: &mut Out<P>) {
        self.starved = true;
        self.recycle(out);
    }

    /// Makes the files that a journal needs at least, one after another; tried again by itself when one could not be made.
    pub(crate) fn prepare(&mut self, out: &mut Out<P>) {
        self.create_failed = false;
        self.create_ahead(out);
    }

    /// Accepts a record: assigns its seq and writes it. The caller has asked [`Journal::has_room`] for a guest's.
    pub(crate) fn append(
        &mut self,
        out: &mut Out<P>,
        class: Class,
        body: RecordBody,
        data: Parts<P>,
    ) -> Seq {
        debug_assert!(!self.read_only, "asked before");
        self.starved = false;
        self.assigned = Seq(self.assigned.0 + 1);
        let seq = self.assigned;
        self.flight_bytes += data.len().0;
        self.flight.push_back(Flight {
            seq,
            body,
            data,
            class,
            attempt: 0,
            failures: 0,
            place: None,
            done: false,
            voided: false,
        });
        self.place_waiting(out);
        seq
    }

    /// Everything up to `seq` shall become durable.
    pub(crate) fn want_durable(&mut self, out: &mut Out<P>, seq: Seq) {
        if seq > self.wanted {
            self.wanted = seq;
        }
        self.pump_sync(out);
    }

    /// Everything up to `seq` is committed in the store and the note that says so is synced.
    pub(crate) fn set_stored(&mut self, out: &mut Out<P>, seq: Seq) {
        self.stored = self.stored.max(seq);
        if self.read_only {
            // Nothing becomes durable here any more: the store has them instead.
            while self.kept.front().is_some_and(|kept| kept.seq <= seq) {
                let kept = self.kept.pop_front();
                self.kept_bytes -= kept.map_or(0, |kept| kept.data.len().0);
            }
        }
        self.recycle(out);
    }

    /// The bytes that `seq` wrote to these blocks, as long as they are in memory: its record is applied and not known to be
    /// durable. They are what was acknowledged, whatever a failed sync left in the file.
    pub(crate) fn kept(&self, seq: Seq, extent: Extent, block_bytes: u32) -> Option<Parts<P>> {
        let first = self.kept.front()?.seq;
        let index = usize::try_from(seq.0.checked_sub(first.0)?).ok()?;
        let kept = self.kept.get(index)?;
        debug_assert_eq!(kept.seq, seq, "kept records are consecutive");
        match &kept.body {
            RecordBody::Write { extent: whole, .. } if whole.contains(extent) => {
                let unit = u64::from(block_bytes);
                let from = (extent.start.0 - whole.start.0) * unit;
                Some(kept.data.slice(from..from + extent.count.0 * unit))
            }
            _ => None,
        }
    }

    /// A read of the file begins.
    pub(crate) fn pin(&mut self, file: FileId) {
        if let Some(file) = self.files.get_mut(&file) {
            file.reads += 1;
        }
    }

    /// A read of the file ended.
    pub(crate) fn unpin(&mut self, out: &mut Out<P>, file: FileId) {
        if let Some(file) = self.files.get_mut(&file) {
            debug_assert!(file.reads > 0, "a read that was begun");
            file.reads = file.reads.saturating_sub(1);
            if file.reads == 0 && file.last_seq <= self.stored {
                self.recycle(out);
            }
        }
    }

    /// An effect of ours ended.
    pub(crate) fn handle(&mut self, out: &mut Out<P>, op: Op, outcome: &Outcome<P>) {
        let good = matches!(outcome, Outcome::Done);
        match op {
            Op::Append { seq, attempt, file } => {
                self.op_ended(file);
                if good || bug!("failed-append-is-good") {
                    self.appended(out, seq, attempt);
                } else {
                    self.append_failed(out, seq, attempt);
                }
            }
            Op::Rewrite { seq, file } => {
                self.op_ended(file);
                self.rewritten(out, seq, file, good);
            }
            Op::Sync { file, upto } => self.synced(out, file, upto, good),
            Op::Create { file } => {
                self.creating = None;
                if good {
                    self.create_failed = false;
                    self.ready.insert(file);
                    self.create_ahead(out);
                    self.events.push_back(Event::Room);
                } else {
                    self.files.remove(&file);
                    self.create_failed = true;
                }
                self.place_waiting(out);
            }
            Op::Remove { file } => {
                self.files.remove(&file);
                self.create_failed = false;
                self.events.push_back(Event::Room);
                self.place_waiting(out);
            }
            Op::Index { file } => {
                // A file without a good index is scanned: nothing is lost by a failure here.
                self.op_ended(file);
                self.recycle(out);
            }
        }
    }

    /// Whether the file may be free now.
    fn op_ended(&mut self, file: FileId) -> bool {
        let stored = self.stored;
        self.files.get_mut(&file).is_some_and(|file| {
            debug_assert!(file.ops > 0, "an outcome of what was begun");
            file.ops = file.ops.saturating_sub(1);
            file.ops == 0 && file.last_seq <= stored
        })
    }
}
