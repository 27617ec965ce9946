//! Recovery: the same machine, fed what the disk holds.
//!
//! Shape      note, files, cache → scans → replay → root and table → sync what is kept → note {end of history} → ready.
//! Invariant  nothing is served and nothing is written before the note that ends the history is durable.
//! Failure    what is kept and cannot be synced is served, and saved in the store if that can be, and is not called durable:
//!            no note ends the history there, and no write is taken that would go on from it.
//! Crash      anywhere: the next recovery reads the same records, and at most the same end of history.

use super::{After, Pending, Volume};
use crate::effect::{
    CachedFrame, DiskRequest, Effect, Expect, FileFound, Meta, Notice, Outcome, Scanned,
};
use crate::ids::{FileId, Seq};
use crate::journal::note::{DeadLap, Note};
use crate::journal::record::RecordBody;
use crate::journal::replay::{self, Damage, Replayed, Resumed};
use crate::layers::map::Source;
use crate::layers::split;
use crate::payload::Payload;
use crate::time::{Duration, Instant};
use crate::units::Extent;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Files scanned at once.
const SCANS: usize = 4;

/// A file that could not be read is scanned again after this.
const SCAN_AGAIN: Duration = Duration::from_secs(1);

/// What an outcome of ours belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    Note,
    Files,
    Cache,
    Scan(FileId),
    Root,
    Sync,
}

/// What is known so far.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    note: Option<Option<Arc<Note>>>,
    files: Option<Vec<FileFound>>,
    cache: Option<Vec<(u32, CachedFrame)>>,
    to_scan: VecDeque<FileId>,
    scanning: usize,
    scans: Vec<(FileId, Scanned)>,
    /// Files that could not be scanned at first, and when those that still were not are scanned again.
    unread: BTreeSet<FileId>,
    retry_at: Option<Instant>,
    root_asked: bool,
    syncs: usize,
    /// A sync failed: what is kept is not durable.
    unsynced: bool,
    /// Up to here everything was durable before.
    durable: Seq,
    /// Files of another size than the journal's.
    short: Vec<FileId>,
    end: Seq,
    records: u64,
    dead: Vec<DeadLap>,
}

impl Recovery {
    pub(super) const fn next_timeout(&self) -> Option<Instant> {
        self.retry_at
    }
}

impl<P: Payload> Volume<P> {
    pub(super) fn recover_begin(&mut self) {
        self.out
            .disk(Pending::Recover(Op::Note), DiskRequest::ReadNote);
        self.out
            .disk(Pending::Recover(Op::Files), DiskRequest::ListFiles);
        self.out
            .disk(Pending::Recover(Op::Cache), DiskRequest::ListCache);
    }

    pub(super) fn recover_done(&mut self, op: Op, outcome: Outcome<P>) {
        match (op, outcome) {
            (Op::Note, Outcome::Note(note)) => self.recovery.note = Some(note),
            (Op::Files, Outcome::Files(files)) => self.recovery.files = Some(files),
            (Op::Cache, Outcome::Cache(slots)) => self.recovery.cache = Some(slots),
            // The cache is a copy: without it everything is fetched again.
            (Op::Cache, _) => self.recovery.cache = Some(Vec::new()),
            (Op::Note | Op::Files, _) => {
                return self.recovery_failed("the note or the journal's folder cannot be read");
            }
            (Op::Scan(file), Outcome::Scanned(scanned)) => {
                self.recovery.scanning -= 1;
                self.recovery.scans.push((file, scanned));
                return self.recover_scan();
            }
            (Op::Scan(file), _) => {
                // What it holds may be the newest that was answered: nothing goes on without it.
                mark!("scan-asked-again");
                self.recovery.scanning -= 1;
                if self.recovery.unread.insert(file) {
                    self.out.push(Effect::Notice(Notice::FileCondemned(file)));
                }
                self.recovery.to_scan.push_back(file);
                self.recovery.retry_at = Some(self.now + SCAN_AGAIN);
                return;
            }
            (Op::Root, outcome) => {
                if let Outcome::Meta(Meta::Root(root), hash) = outcome {
                    self.geometry = Some(root.geometry);
                    self.attributes = root.attributes.clone();
                    self.present.set_root(root, hash);
                }
                return self.recover_replay();
            }
            (Op::Sync, outcome) => {
                self.recovery.unsynced |= !matches!(outcome, Outcome::Done);
                self.recovery.syncs -= 1;
                return self.recover_synced();
            }
        }
        if self.recovery.note.is_some()
            && self.recovery.files.is_some()
            && self.recovery.cache.is_some()
        {
            self.recover_known();
        }
    }

    fn recovery_failed(&mut self, why: &'static str) {
        mark!("recovery-failed");
        self.own.broken(why);
    }

    fn recover_known(&mut self) {
        let files = self.recovery.files.take().unwrap_or_default();
        let slots = self.recovery.cache.take().unwrap_or_default();
        let Some(note) = self.recovery.note.clone().flatten() else {
            if !files.is_empty() {
                mark!("files-without-a-note");
            }
            // Files without a note belong to a history that nothing here speaks of any more: they are kept, not used.
            let next_file = files
                .iter()
                .map(|f| FileId(f.file.0 + 1))
                .max()
                .unwrap_or_default();
            self.recovery.dead = Vec::new();
            let resumed = Resumed {
                next_file,
                ..Resumed::default()
            };
            self.journal.resume(resumed, &[]);
            self.own.orphans = files.iter().map(|f| f.file).collect();
            self.own.opened_blank();
            return;
        };
        self.geometry = Some(note.geometry);
        self.cache.set_frame_grains(note.geometry.frame_grains);
        self.cache.resume(slots);
        self.notes.note = Some((*note).clone());
        // A file that a crash left short, or another configuration made, is never written to: it goes once nothing in it is
        // needed.
        let whole = self.limits.file_bytes;
        self.recovery.short = files
            .iter()
            .filter(|f| f.bytes != whole)
            .map(|f| f.file)
            .collect();
        self.recovery.to_scan = files.iter().map(|f| f.file).collect();
        self.recover_scan();
    }

    pub(super) fn recover_timeout(&mut self) {
        if self
            .recovery
            .retry_at
            .take_if(|at| *at <= self.now)
            .is_some()
        {
            self.recover_scan();
        }
    }

    fn recover_scan(&mut self) {
        if self.recovery.retry_at.is_some() {
            return;
        }
        while self.recovery.scanning < SCANS {
            let Some(file) = self.recovery.to_scan.pop_front() else {
                break;
            };
            self.recovery.scanning += 1;
            self.out.disk(
                Pending::Recover(Op::Scan(file)),
                DiskRequest::ScanFile(file),
            );
        }
        if self.recovery.scanning > 0 || self.recovery.root_asked {
            return;
        }
        self.recovery.root_asked = true;
        match self.notes.note.as_ref().and_then(|note| note.committed) {
            Some(committed) => {
                let request = DiskRequest::LoadMeta {
                    hash: committed.hash,
                    expect: Expect::Root(Some(committed.hash)),
                };
                self.out.disk(Pending::Recover(Op::Root), request);
            }
            None => self.recover_replay(),
        }
    }

    fn recover_replay(&mut self) {
        let Some(note) = self.notes.note.clone() else {
            return;
        };
        let floor = note.committed.map_or(Seq(0), |committed| committed.cut);
        let mut scans = core::mem::take(&mut self.recovery.scans);
        scans.sort_by_key(|(file, _)| *file);
        let mut history = replay::replay(&note, floor, scans);
        let short = core::mem::take(&mut self.recovery.short);
        history.resumed.free.retain(|file| {
            let keep = !short.contains(file);
            if !keep {
                mark!("short-file-removed");
                self.out
                    .disk(Pending::Nothing, DiskRequest::RemoveFile(*file));
            }
            keep
        });
        self.recovery.end = history.resumed.end;
        self.recovery.durable = history.resumed.durable;
        self.recovery.records = history.records.len() as u64;
        self.recovery.dead = history.dead;
        self.recover_apply(history.records, history.damage);
        self.recovery.syncs = history.resumed.in_use.len();
        for file in &history.resumed.in_use {
            self.out.sync(Pending::Recover(Op::Sync), file.file);
        }
        self.journal.resume(history.resumed, &short);
        if let Some(attach) = note.joined.last() {
            self.journal.set_attach(*attach);
        }
        self.recover_synced();
    }

    /// Applies the history in seq order; what is lost of it hides what lies below, loudly.
    fn recover_apply(&mut self, records: Vec<Replayed>, damage: Vec<Damage>) {
        let mut damage = damage.into_iter().peekable();
        let seq_of = |damage: &Damage| match damage {
            Damage::Lost { seq, .. } | Damage::Unknown { seq } => *seq,
        };
        for record in records {
            while let Some(lost) = damage.next_if(|d| seq_of(d) < record.seq) {
                self.recover_lose(lost);
            }
            let body = record.body.clone();
            self.apply(record.seq, body, record.place);
            self.lose_pieces(&record.body, record.seq, &record.bad_pieces);
            // The record's own damage is told by its pieces, and by them alone.
            while damage.next_if(|d| seq_of(d) == record.seq).is_some() {}
        }
        for lost in damage {
            self.recover_lose(lost);
        }
    }

    fn recover_lose(&mut self, damage: Damage) {
        match damage {
            Damage::Lost { seq, extents } => {
                mark!("record-lost");
                for extent in extents {
                    self.lose(extent, seq);
                }
            }
            Damage::Unknown { .. } => {
                mark!("damage-without-blocks");
                let place = "a record of the journal: what it did is not known";
                self.out.push(Effect::Notice(Notice::Damaged {
                    extent: Extent::new(0, 0),
                    place: place.into(),
                }));
                self.journal.make_read_only();
            }
        }
    }

    fn lose_pieces(&mut self, body: &RecordBody, seq: Seq, bad: &[u32]) {
        let (Some(geometry), RecordBody::Write { extent, .. }) = (self.geometry, body) else {
            return;
        };
        for (number, piece) in split::pieces(&geometry, *extent).enumerate() {
            if bad.contains(&(number as u32)) {
                mark!("piece-lost");
                self.lose(piece, seq);
            }
        }
    }

    fn lose(&mut self, extent: Extent, seq: Seq) {
        let Some(geometry) = self.geometry else {
            return;
        };
        self.stack
            .active
            .insert(extent, seq, Source::Lost, geometry.block_bytes);
        self.out.push(Effect::Notice(Notice::Damaged {
            extent,
            place: "the journal".into(),
        }));
    }

    fn recover_synced(&mut self) {
        if self.recovery.syncs > 0 {
            return;
        }
        let dead = core::mem::take(&mut self.recovery.dead);
        if self.recovery.unsynced {
            // 1. The note calls all up to the end durable. 2. The power fails, and what could not be synced is gone. 3. The
            // next recovery takes a tail that nobody was promised for damage, of blocks that it may not even know.
            mark!("recovery-unsynced");
            self.journal.cannot_keep(self.recovery.durable);
            return self.note(After::Recovered, |_| {});
        }
        self.note(After::Recovered, |note| note.dead = dead);
    }

    /// The end of history is durable: the volume may go on.
    pub(super) fn recovered(&mut self) {
        let (end, records) = (self.recovery.end, self.recovery.records);
        self.out
            .push(Effect::Notice(Notice::Recovered { end, records }));
        self.journal.prepare(&mut self.out);
        self.own.opened_local();
    }
}
