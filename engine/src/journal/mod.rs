//! The local journal: the log of accepted writes, in files that are written once and recycled.
//!
//! Shape      append (any number in parallel) → applied in seq order → synced in groups → stored → recycled.
//! Invariant  `durable ≤ written ≤ assigned`; everything ≤ `durable` survives power loss; answers follow `written` or
//!            `durable`, never an append alone.
//! Invariant  one sync at a time, oldest file first: file n+1 is never synced before everything applied in file n is.
//! Not here   bytes of records (`record`), what a restart makes of them (`replay`), the blocks (`layers`).
//! Crash      after any subset of the unsynced pages: what is applied but not durable forms a tail that `replay` cuts at the
//!            first gap.

pub mod index;
pub mod note;
pub mod record;
pub(crate) mod replay;
pub mod scan;

use crate::effect::{DiskRequest, Outcome};
use crate::ids::{AttachId, FileId, Lap, Seq};
use crate::journal::index::FileIndex;
use crate::journal::record::{PAGE_BYTES, RecordBefore, RecordBody, RecordHead};
use crate::payload::{Parts, Payload};
use crate::slots::Out;
use crate::units::{ByteCount, RECORD_BYTES_MAX};
use crate::volume::Pending;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Files that guest writes leave alone: one for notes' and voids' sake, one for rewrites after a failed append or sync.
const RESERVE: usize = 2;

/// Records kept until they are durable, so that records without data are bounded too. Half of them order a sync.
const KEPT_RECORDS_MAX: usize = 8192;

/// An append is tried in so many files before its write is answered with an error.
const ATTEMPTS_MAX: u32 = 3;

/// What an outcome of ours belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    Append {
        seq: Seq,
        attempt: u32,
        file: FileId,
    },
    Rewrite {
        seq: Seq,
        file: FileId,
    },
    Sync {
        file: FileId,
        upto: Seq,
    },
    Create {
        file: FileId,
    },
    Remove {
        file: FileId,
    },
    Index {
        file: FileId,
    },
}

/// Where a record lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) file: FileId,
    /// The header's page; the data begins one page on.
    pub(crate) page: u32,
}

impl Place {
    /// First byte of the record's data.
    pub(crate) fn data_at(self) -> u64 {
        (u64::from(self.page) + 1) * u64::from(PAGE_BYTES)
    }
}

/// What the journal tells the volume.
#[derive(Debug)]
pub(crate) enum Event {
    /// Every record up to this one is written: it may be mapped and its write answered.
    Applied {
        seq: Seq,
        body: RecordBody,
        place: Place,
    },
    /// This write could not be written; its seq is void.
    Voided { seq: Seq },
    /// Everything up to here is durable.
    Durable,
    /// The record lies elsewhere now.
    Relocated {
        seq: Seq,
        body: RecordBody,
        from: Place,
        to: Place,
    },
    /// A file failed.
    Condemned(FileId),
    /// No write can be taken any more; everything not yet applied has failed.
    ReadOnly,
    /// There is room again.
    Room,
}

/// Whose record it is: guests leave the reserve alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    Guest,
    Own,
}

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
            self.read_only = true;
            self.flight.clear();
            self.flight_bytes = 0;
            if matches!(self.syncing, Some(Syncing::Rewriting { .. })) {
                self.syncing = None;
            }
            self.events.push_back(Event::ReadOnly);
        }
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
        self.recycle(out);
    }

    /// Whether what the file holds is in doubt: a sync of it is under way, or one failed and its records are being written
    /// again. [`Event::Durable`], [`Event::Relocated`] or [`Event::ReadOnly`] ends it.
    pub(crate) fn is_unsettled(&self, file: FileId) -> bool {
        match self.syncing {
            Some(Syncing::Sync { file: syncing }) => syncing == file,
            Some(Syncing::Rewriting { .. }) => {
                self.files.get(&file).is_some_and(|file| file.condemned)
            }
            None => false,
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

    // --- placing ---

    /// Gives every waiting record a place, in order, as far as there is one.
    fn place_waiting(&mut self, out: &mut Out<P>) {
        let first = self.flight.iter().position(|flight| flight.place.is_none());
        let Some(first) = first else { return };
        for index in first..self.flight.len() {
            let Some(flight) = self.flight.get(index) else {
                return;
            };
            if flight.place.is_some() {
                continue;
            }
            let (needed, class) = (pages_of(flight), flight.class);
            let Some(place) = self.allocate(out, needed, class) else {
                if self.creating.is_none() {
                    self.no_place(out, index);
                }
                return;
            };
            self.emit_append(out, index, place);
        }
    }

    /// There is no place for the record and none is coming: its write fails, its seq becomes void.
    fn no_place(&mut self, out: &mut Out<P>, index: usize) {
        let Some(flight) = self.flight.get_mut(index) else {
            return;
        };
        if flight.voided {
            // Not even a void has a place.
            return self.make_read_only();
        }
        self.flight_bytes -= flight.data.len().0;
        mark!("void");
        flight.voided = true;
        flight.class = Class::Own;
        flight.body = RecordBody::Void;
        flight.data = Parts::default();
        self.place_waiting(out);
    }

    fn emit_append(&mut self, out: &mut Out<P>, index: usize, place: Place) {
        let (attach, durable) = (self.attach, self.durable);
        let (Some(flight), Some(file)) =
            (self.flight.get_mut(index), self.files.get_mut(&place.file))
        else {
            return;
        };
        flight.place = Some(place);
        let head = head_of(file, place, flight.seq, durable, attach, &flight.body);
        out.append(
            Pending::Journal(Op::Append {
                seq: flight.seq,
                attempt: flight.attempt,
                file: place.file,
            }),
            place.file,
            u64::from(place.page) * u64::from(PAGE_BYTES),
            head,
            flight.data.clone(),
        );
    }

    /// Takes pages at the head of the journal, opening the next file when the head has no room.
    fn allocate(&mut self, out: &mut Out<P>, pages: u32, class: Class) -> Option<Place> {
        loop {
            if let Some(head) = self.head {
                let file_pages = self.file_pages;
                let file = self.files.get_mut(&head)?;
                if !file.closed && file.next_page + pages <= file_pages {
                    let page = file.next_page;
                    file.next_page += pages;
                    return Some(Place { file: head, page });
                }
                file.closed = true;
                self.head = None;
                self.seal(out, head);
                self.recycle(out);
            }
            let reserve = if class == Class::Guest { RESERVE } else { 0 };
            if self.ready.len() <= reserve {
                return None;
            }
            let next = self.open_ready()?;
            self.create_ahead(out);
            self.order.push_back(next);
            self.head = Some(next);
        }
    }

    /// Takes a free file into use under a new lap.
    fn open_ready(&mut self) -> Option<FileId> {
        let next = self.ready.pop_first()?;
        self.lap = Lap(self.lap.0 + u64::from(!bug!("lap-is-not-raised")));
        self.files.insert(next, File::new(self.lap));
        Some(next)
    }

    /// Keeps the reserve and one file more ready, so that a write seldom waits for one to be made.
    fn create_ahead(&mut self, out: &mut Out<P>) {
        if self.ready.len() > RESERVE
            || self.creating.is_some()
            || self.create_failed
            || self.files.len() >= self.files_max
        {
            return;
        }
        let file = self.next_file;
        self.next_file = FileId(file.0 + 1);
        self.creating = Some(file);
        self.files.insert(file, File::new(Lap(0)));
        out.disk(
            Pending::Journal(Op::Create { file }),
            DiskRequest::CreateFile {
                file,
                bytes: self.file_bytes,
            },
        );
    }

    // --- appends ---

    fn flight_index(&self, seq: Seq) -> Option<usize> {
        let first = self.flight.front()?.seq;
        usize::try_from(seq.0.checked_sub(first.0)?)
            .ok()
            .filter(|i| *i < self.flight.len())
    }

    fn appended(&mut self, out: &mut Out<P>, seq: Seq, attempt: u32) {
        if let Some(flight) = self.flight_index(seq).and_then(|i| self.flight.get_mut(i))
            && flight.attempt == attempt
        {
            flight.done = true;
        }
        self.advance(out);
    }

    /// Applies what is written in order.
    fn advance(&mut self, out: &mut Out<P>) {
        while self.flight.front().is_some_and(|flight| flight.done) {
            let Some(flight) = self.flight.pop_front() else {
                return;
            };
            let Some(place) = flight.place else { return };
            debug_assert_eq!(flight.seq.0, self.ordered.0 + 1, "applied in seq order");
            self.ordered = flight.seq;
            if let Some(file) = self.files.get_mut(&place.file) {
                file.applied = file.applied.max(flight.seq);
            }
            let bytes = flight.data.len().0;
            self.flight_bytes -= bytes;
            self.kept_bytes += bytes;
            self.events
                .push_back(if flight.voided && !bug!("void-is-applied") {
                    Event::Voided { seq: flight.seq }
                } else {
                    Event::Applied {
                        seq: flight.seq,
                        body: flight.body.clone(),
                        place,
                    }
                });
            self.kept.push_back(Kept {
                seq: flight.seq,
                body: flight.body,
                data: flight.data,
                place,
                moving: None,
            });
        }
        // Half the bound orders a sync, so that the bound itself is seldom met.
        if self.kept_bytes * 2 >= self.kept_max
            || self.held_bytes() >= self.kept_max
            || self.kept.len() * 2 >= KEPT_RECORDS_MAX
        {
            self.wanted = self.ordered;
        }
        self.pump_sync(out);
    }

    /// A failed or short append closes its file at that record: it and every later one are written again elsewhere.
    fn append_failed(&mut self, out: &mut Out<P>, seq: Seq, attempt: u32) {
        let Some(index) = self.flight_index(seq) else {
            return;
        };
        if self
            .flight
            .get(index)
            .is_none_or(|flight| flight.attempt != attempt)
        {
            return;
        }
        self.place_again(index);
        if let Some(flight) = self.flight.get_mut(index) {
            flight.failures += 1;
            if flight.failures >= ATTEMPTS_MAX {
                if flight.voided {
                    return self.make_read_only();
                }
                flight.failures = 0;
                return self.no_place(out, index);
            }
        }
        self.place_waiting(out);
    }

    /// Takes the record at `index` and every later one back, to be written again in fresh files.
    fn place_again(&mut self, index: usize) {
        let mut bad = BTreeSet::new();
        mark!("append-placed-again");
        let last = if bug!("only-the-failed-append-again") {
            index + 1
        } else {
            self.flight.len()
        };
        for flight in self.flight.range_mut(index..last) {
            if let Some(place) = flight.place.take() {
                bad.insert(place.file);
                flight.attempt += 1;
                flight.done = false;
                flight.class = Class::Own;
            }
        }
        for id in bad {
            if let Some(file) = self.files.get_mut(&id) {
                file.closed = true;
                // Its index would list records that lie elsewhere now.
                file.records.clear();
                file.indexed = true;
            }
            if self.head == Some(id) {
                self.head = None;
            }
        }
    }

    // --- syncs ---

    fn pump_sync(&mut self, out: &mut Out<P>) {
        if self.syncing.is_some() || self.durable >= self.wanted || self.read_only {
            return;
        }
        let dirty = self.order.iter().find_map(|id| {
            let file = self.files.get(id)?;
            (file.applied > file.synced).then_some((*id, file.applied))
        });
        if let Some((file, upto)) = dirty {
            self.syncing = Some(Syncing::Sync { file });
            out.sync(Pending::Journal(Op::Sync { file, upto }), file);
        }
    }

    fn synced(&mut self, out: &mut Out<P>, id: FileId, upto: Seq, good: bool) {
        self.syncing = None;
        if self.read_only {
            return;
        }
        if !good && !bug!("failed-sync-is-good") {
            return self.condemn(out, id);
        }
        if let Some(file) = self.files.get_mut(&id) {
            file.synced = file.synced.max(upto);
        }
        let upto = if bug!("sync-covers-later-appends") {
            self.ordered
        } else {
            upto
        };
        self.durable = self.durable.max(upto);
        while self
            .kept
            .front()
            .is_some_and(|kept| kept.seq <= self.durable)
        {
            if let Some(kept) = self.kept.pop_front() {
                self.kept_bytes -= kept.data.len().0;
            }
        }
        self.events.push_back(Event::Durable);
        self.events.push_back(Event::Room);
        self.seal(out, id);
        self.recycle(out);
        self.pump_sync(out);
    }

    /// A sync failed: what it should have covered may be gone from the file, whatever later syncs say. The kept payloads
    /// are written again to a fresh file.
    fn condemn(&mut self, out: &mut Out<P>, id: FileId) {
        mark!("file-condemned");
        self.events.push_back(Event::Condemned(id));
        if let Some(file) = self.files.get_mut(&id) {
            file.condemned = true;
            file.closed = true;
            file.indexed = true;
            file.records.clear();
            file.synced = file.applied;
        }
        if self.head == Some(id) {
            self.head = None;
        }
        if let Some(index) = self
            .flight
            .iter()
            .position(|f| f.place.is_some_and(|p| p.file == id))
        {
            self.place_again(index);
            self.place_waiting(out);
            if self.read_only {
                return;
            }
        }
        let again: Vec<usize> = (0..self.kept.len())
            .filter(|i| self.kept.get(*i).is_some_and(|k| k.place.file == id))
            .filter(|_| !bug!("condemned-is-not-rewritten"))
            .collect();
        if again.is_empty() {
            return self.pump_sync(out);
        }
        let Some(fresh) = self.open_ready() else {
            return self.make_read_only();
        };
        let at = self
            .order
            .iter()
            .position(|file| *file == id)
            .map_or(self.order.len(), |i| i + 1);
        self.order.insert(at, fresh);
        self.syncing = Some(Syncing::Rewriting {
            file: fresh,
            left: again.len() as u32,
        });
        let (attach, durable) = (self.attach, self.durable);
        for index in again {
            let (Some(kept), Some(file)) = (self.kept.get_mut(index), self.files.get_mut(&fresh))
            else {
                return;
            };
            let place = Place {
                file: fresh,
                page: file.next_page,
            };
            file.next_page += pages(kept.data.len().0);
            if file.next_page > self.file_pages {
                return self.make_read_only();
            }
            let head = head_of(file, place, kept.seq, durable, attach, &kept.body);
            out.append(
                Pending::Journal(Op::Rewrite {
                    seq: kept.seq,
                    file: fresh,
                }),
                fresh,
                u64::from(place.page) * u64::from(PAGE_BYTES),
                head,
                kept.data.clone(),
            );
            kept.moving = Some(place);
            file.applied = file.applied.max(kept.seq);
        }
        if let Some(file) = self.files.get_mut(&fresh) {
            file.closed = true;
        }
    }

    /// A kept record is written again: reads find it there from now on.
    fn rewritten(&mut self, out: &mut Out<P>, seq: Seq, id: FileId, good: bool) {
        if self.read_only {
            return;
        }
        if !good {
            return self.make_read_only();
        }
        let Some(Syncing::Rewriting { file, left }) = &mut self.syncing else {
            return;
        };
        if *file != id {
            return;
        }
        *left -= 1;
        let is_last = *left == 0;
        let first = self.kept.front().map_or(seq, |kept| kept.seq);
        let index = seq.0.saturating_sub(first.0) as usize;
        if let Some(kept) = self.kept.get_mut(index)
            && let Some(to) = kept.moving.take()
        {
            debug_assert_eq!(kept.seq, seq, "kept records are consecutive");
            self.events.push_back(Event::Relocated {
                seq,
                body: kept.body.clone(),
                from: kept.place,
                to,
            });
            kept.place = to;
        }
        if is_last {
            self.syncing = None;
            self.pump_sync(out);
        }
    }

    // --- after ---

    /// Writes the index of a closed file once a sync covered its last record.
    fn seal(&mut self, out: &mut Out<P>, id: FileId) {
        let durable = self.durable;
        let Some(file) = self.files.get_mut(&id) else {
            return;
        };
        let early = bug!("index-before-its-sync");
        if !file.closed
            || file.indexed
            || !early && (file.synced < file.last_seq || file.last_seq > durable)
        {
            return;
        }
        file.indexed = true;
        file.ops += 1;
        let index = FileIndex {
            file: id,
            lap: file.lap,
            durable,
            records: core::mem::take(&mut file.records),
        };
        out.disk(
            Pending::Journal(Op::Index { file: id }),
            DiskRequest::WriteIndex(Arc::new(index)),
        );
    }

    /// Frees files whose every record is in the store.
    fn recycle(&mut self, out: &mut Out<P>) {
        let stored = self.stored;
        let syncing = match self.syncing {
            Some(Syncing::Sync { file } | Syncing::Rewriting { file, .. }) => Some(file),
            None => None,
        };
        if self.starved
            && let Some(file) = self.head.and_then(|head| self.files.get_mut(&head))
            && file.next_page > 0
            && file.last_seq <= stored
        {
            file.closed = true;
            self.head = None;
        }
        let mut freed = Vec::new();
        self.order.retain(|id| {
            let free = self.files.get(id).is_some_and(|file| {
                let stored = if bug!("recycle-at-durable") {
                    self.durable
                } else {
                    stored
                };
                file.closed && file.last_seq <= stored && file.ops == 0 && file.reads == 0
            });
            if free && syncing != Some(*id) {
                freed.push(*id);
                return false;
            }
            true
        });
        if freed.is_empty() {
            return;
        }
        for id in freed {
            if self.files.get(&id).is_some_and(|file| file.condemned) {
                out.disk(
                    Pending::Journal(Op::Remove { file: id }),
                    DiskRequest::RemoveFile(id),
                );
            } else {
                self.ready.insert(id);
            }
        }
        self.create_failed = false;
        self.events.push_back(Event::Room);
        self.place_waiting(out);
    }
}

/// The head of a record at `place`, and the file's account of it.
fn head_of(
    file: &mut File,
    place: Place,
    seq: Seq,
    durable: Seq,
    attach: AttachId,
    body: &RecordBody,
) -> RecordHead {
    let before = file.before.replace(RecordBefore {
        seq,
        extents: body.extents(),
    });
    let head = RecordHead {
        seq,
        durable,
        attach,
        file: place.file,
        lap: file.lap,
        page: place.page,
        body: body.clone(),
        before,
    };
    file.last_seq = file.last_seq.max(seq);
    file.ops += 1;
    if !file.indexed {
        file.records.push(head.clone());
    }
    head
}

fn pages_of<P: Payload>(flight: &Flight<P>) -> u32 {
    pages(flight.data.len().0)
}

/// Pages of a record with so many bytes of data.
fn pages(data_bytes: u64) -> u32 {
    // A record carries at most 1 MiB.
    1 + data_bytes.div_ceil(u64::from(PAGE_BYTES)) as u32
}
