//! The front door of one volume: facts in, effects out.
//!
//! Reading order  `guest` (commands in, answers out) → `read` → `write` → `recover` → `life` (attach, watch, gate) →
//!                [`crate::publish`].
//! Invariant      one fact, then drain; a success that a guest can see leaves through `guest::answer`.
//! Not here       which place holds a block (`layers`, `table`), the journal's files (`journal`).

mod doubt;
mod erase;
mod guest;
mod life;
mod read;
mod recover;
mod sweep;
mod write;

pub(crate) use read::FrameWaiter;

use crate::cache::Cache;
use crate::command::{Command, Verdict, Wish};
use crate::effect::{Effect, Outcome};
use crate::hydrate::Hydrate;
use crate::ids::{Container, EffectId, FileId, Hash, Seq, Tag, Version, WishId};
use crate::journal::note::Note;
use crate::journal::{self, Journal};
use crate::layers::stack::{Attributes, Stack};
use crate::limits::{Life, Limits};
use crate::payload::Payload;
use crate::publish::{self, Publishing};
use crate::slots::Out;
use crate::table::present::Present;
use crate::time::{Instant, WallTime};
use crate::units::{BlockCount, ByteCount, Extent, Geometry, Lba};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

/// What an outcome belongs to.
#[derive(Clone, Debug)]
pub(crate) enum Pending {
    Journal(journal::Op),
    /// A read of the journal for blocks of a read operation.
    ReadJournal {
        op: u64,
        at: Lba,
        count: u64,
        file: FileId,
        bytes: Range<u64>,
    },
    /// A read of a cache slot for blocks of a read operation.
    ReadCache {
        op: u64,
        extent: Extent,
        slot: u32,
    },
    Compare {
        caw: u64,
    },
    Fetch {
        id: u64,
    },
    Fill {
        slot: u32,
    },
    LeafLocal {
        hash: Hash,
    },
    LeafStore {
        hash: Hash,
    },
    Publish(publish::Op),
    Recover(recover::Op),
    Note,
    Erase(erase::Op),
    Sweep(sweep::Op),
    Life(life::Op),
    /// Nothing depends on it.
    Nothing,
}

/// One volume: facts in, effects out.
///
/// # Contract
///
/// - After each `handle_*` call effects are drained with [`Volume::poll_effect`] until `None`.
/// - Each effect with an id gets exactly one [`Volume::handle_done`], also after [`Effect::Cancel`].
/// - `now` never runs backwards. [`Volume::handle_timeout`] early or twice changes nothing.
/// - [`Volume::poll_timeout`] may change after any `handle_*`.
/// - Same facts in, same effects out, byte for byte.
#[derive(Debug)]
pub struct Volume<P> {
    pub(crate) container: Container,
    pub(crate) life: Life,
    pub(crate) limits: Limits,
    pub(crate) now: Instant,
    /// Known once the note, the superblock or the birth told it.
    pub(crate) geometry: Option<Geometry>,
    pub(crate) out: Out<P>,
    pub(crate) journal: Journal<P>,
    pub(crate) stack: Stack,
    pub(crate) attributes: Attributes,
    pub(crate) present: Present,
    pub(crate) cache: Cache<P>,
    pub(crate) hydrate: Hydrate,
    pub(crate) reads: read::Reads<P>,
    pub(crate) guest: guest::Guests<P>,
    pub(crate) publishing: Publishing<P>,
    pub(crate) recovery: recover::Recovery,
    pub(crate) own: life::Own<P>,
    pub(crate) erase: Option<alloc::boxed::Box<erase::Erase>>,
    pub(crate) notes: Notes,
    pub(crate) sweep: sweep::Sweep,
}

/// The note as it shall be, and who waits for it to be written.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) note: Option<Note>,
    writing: bool,
    retry_at: Option<Instant>,
    /// Satisfied by the write under way.
    now: Vec<After>,
    /// Satisfied by the next write.
    next: Vec<After>,
}

/// What goes on when the note is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum After {
    Recovered,
    Committed { cut: Seq },
    Drawn,
    Joined,
    Named,
    Intent,
    Erase,
    Emergency,
}

/// What a volume has room for at the door.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Credits {
    /// Guest commands that may enter now.
    pub commands: u32,
    /// Bytes that they may carry or ask for.
    pub bytes: ByteCount,
    /// [`Wish::Load`]s that may enter now.
    pub loads: u32,
}

/// A volume's state for people and for the program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// The shape, once known.
    pub geometry: Option<Geometry>,
    /// Whether guests are answered.
    pub serving: bool,
    /// What the volume is doing.
    pub phase: &'static str,
    /// The attachment that this process holds.
    pub attach: Option<crate::ids::AttachId>,
    /// The newest committed version known.
    pub version: Option<Version>,
    /// Newest write in the journal.
    pub written: Seq,
    /// Newest durable write.
    pub durable: Seq,
    /// Newest write in the store.
    pub stored: Seq,
    /// Runs of blocks that are only here.
    pub only_here: u64,
    /// Journal files in use, of how many.
    pub files: (u32, u32),
    /// Cache slots in use, of how many.
    pub cache: (u32, u32),
    /// Effects under way.
    pub effects: u32,
    /// Guest commands that wait.
    pub waiting: u32,
    /// Since when the store has not answered, if so.
    pub store_away_since: Option<Instant>,
}

impl<P: Payload> Volume<P> {
    /// A volume of which nothing is known yet but its name and id. First reads what the local disk holds.
    pub fn new(container: Container, life: Life, limits: Limits) -> Self {
        let file_pages = journal::index::data_pages(limits.file_bytes.0);
        let mut volume = Self {
            journal: Journal::new(
                limits.file_bytes,
                file_pages,
                limits.files,
                limits.unsynced_bytes,
            ),
            present: Present::new(limits.leaves),
            cache: Cache::new(limits.cache_slots),
            own: life::Own::new(&life),
            container,
            life,
            limits,
            now: Instant(0),
            geometry: None,
            out: Out::new(),
            stack: Stack::default(),
            attributes: BTreeMap::new(),
            hydrate: Hydrate::default(),
            reads: read::Reads::default(),
            guest: guest::Guests::default(),
            publishing: Publishing::default(),
            recovery: recover::Recovery::default(),
            notes: Notes::default(),
            sweep: sweep::Sweep::default(),
            erase: None,
        };
        volume.recover_begin();
        volume
    }

    /// A guest's command. Its answer is one [`Effect::Reply`] with `tag`.
    pub fn handle_guest(&mut self, now: Instant, tag: Tag, command: Command<P>) {
        self.advance(now);
        self.guest_command(tag, command);
        self.settle();
    }

    /// The front end takes a command back. Answered by its [`Effect::Reply`] once no effect of it can follow.
    pub fn handle_abort(&mut self, now: Instant, tag: Tag) {
        self.advance(now);
        self.guest_abort(tag);
        self.settle();
    }

    /// An operator's wish. Its answer is one [`Effect::Told`] with `id`.
    pub fn handle_wish(&mut self, now: Instant, id: WishId, wish: Wish<P>) {
        self.advance(now);
        self.wish(id, wish);
        self.settle();
    }

    /// What came of an effect.
    pub fn handle_done(&mut self, now: Instant, id: EffectId, outcome: Outcome<P>) {
        self.advance(now);
        let Some(pending) = self.out.take(id) else {
            debug_assert!(false, "an outcome that nothing waits for: {id:?}");
            return;
        };
        match pending {
            Pending::Journal(op) => self.journal.handle(&mut self.out, op, &outcome),
            Pending::ReadJournal {
                op,
                at,
                count,
                file,
                bytes,
            } => {
                self.read_journal_done(op, Extent::new(at.0, count), file, &bytes, outcome);
            }
            Pending::ReadCache { op, extent, slot } => {
                self.read_cache_done(op, extent, slot, outcome);
            }
            Pending::Compare { caw } => self.caw_compared(caw, outcome),
            Pending::Fetch { id } => self.fetch_done(id, outcome),
            Pending::Fill { slot } => self.cache.end_fill(slot, matches!(outcome, Outcome::Done)),
            Pending::LeafLocal { hash } => self.leaf_local_done(hash, outcome),
            Pending::LeafStore { hash } => self.leaf_store_done(hash, outcome),
            Pending::Publish(op) => self.publish_done(op, outcome),
            Pending::Recover(op) => self.recover_done(op, outcome),
            Pending::Note => self.note_written(matches!(outcome, Outcome::Done)),
            Pending::Erase(op) => self.erase_done(op, outcome),
            Pending::Sweep(op) => self.sweep_done(op, outcome),
            Pending::Life(op) => self.life_done(op, outcome),
            Pending::Nothing => {}
        }
        self.settle();
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        self.guest_timeout();
        self.hydrate_timeout();
        self.publish_timeout();
        self.life_timeout();
        self.recover_timeout();
        if self.notes.retry_at.is_some_and(|at| at <= self.now) {
            self.notes.retry_at = None;
            self.note_pump();
        }
        self.settle();
    }

    /// The next effect to run, if any.
    pub fn poll_effect(&mut self) -> Option<Effect<P>> {
        self.out.pop()
    }

    /// When [`Volume::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [
            self.guest.next_deadline(),
            self.hydrate.next_retry(),
            self.publishing.next_timeout(),
            self.own.next_timeout(),
            self.notes.retry_at,
            self.recovery.next_timeout(),
            self.erase_timeout(),
            self.sweep_timeout(),
            self.merge_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What may enter now.
    pub fn credits(&self) -> Credits {
        let busy = self.guest.under_way() + self.reads.len() as u32;
        let read = self.geometry.map_or(0, |geometry| {
            geometry.bytes(BlockCount(self.reads.blocks())).0
        });
        let waiting = self.guest.waiting_bytes(self.geometry);
        let bytes = self.journal.held_bytes() + read + waiting;
        Credits {
            commands: self.limits.inflight_commands.saturating_sub(busy),
            bytes: ByteCount(self.limits.inflight_bytes.0.saturating_sub(bytes)),
            loads: self
                .limits
                .uploads
                .saturating_sub(self.publishing.jobs() as u32),
        }
    }

    /// The state for people.
    pub fn status(&self) -> Status {
        Status {
            geometry: self.geometry,
            serving: self.is_serving(),
            phase: self.own.phase_name(),
            attach: self.own.attach(),
            version: self.present.root().map(|root| root.name.version),
            written: self.journal.written(),
            durable: self.journal.durable(),
            stored: self.journal.stored(),
            only_here: self.stack.len() as u64,
            files: self.journal.usage(),
            cache: (self.cache.used(), self.cache.slots_max()),
            effects: self.out.under_way() as u32,
            waiting: self.guest.under_way() + self.reads.len() as u32,
            store_away_since: self.own.store_away_since(),
        }
    }

    /// The newest committed root, if one is known.
    pub fn root(&self) -> Option<&alloc::sync::Arc<crate::table::types::Root>> {
        self.present.root()
    }

    /// The attributes as of now, committed or not.
    pub fn attributes(&self) -> &BTreeMap<alloc::string::String, Vec<u8>> {
        &self.attributes
    }

    fn advance(&mut self, now: Instant) {
        debug_assert!(now >= self.now, "time never runs backwards");
        self.now = self.now.max(now);
    }

    /// Follows up what the fact set off, until nothing is left to do now.
    fn settle(&mut self) {
        loop {
            let mut idle = true;
            while let Some(event) = self.journal.poll() {
                idle = false;
                self.journal_event(event);
            }
            idle &= !self.publish_step();
            idle &= !self.life_step();
            idle &= !self.erase_step();
            idle &= !self.sweep_step();
            if idle {
                break;
            }
        }
        self.merge_step();
    }

    pub(crate) fn wall(&self) -> WallTime {
        WallTime(self.life.wall.0 + self.now.0 / 1_000_000_000)
    }

    pub(crate) fn told(&mut self, id: WishId, verdict: Verdict) {
        self.out.push(Effect::Told(id, verdict));
    }

    /// Changes the note and writes it; `after` goes on when a write that began from now on is durable.
    pub(crate) fn note(&mut self, after: After, change: impl FnOnce(&mut Note)) {
        let Some(note) = self.notes.note.as_mut() else {
            debug_assert!(false, "the note exists before it changes");
            return;
        };
        change(note);
        self.notes.next.push(after);
        self.note_pump();
    }

    fn note_pump(&mut self) {
        if self.notes.writing || self.notes.next.is_empty() || self.notes.retry_at.is_some() {
            return;
        }
        let Some(note) = self.notes.note.as_mut() else {
            return;
        };
        note.serial += 1;
        let note = alloc::sync::Arc::new(note.clone());
        self.notes.writing = true;
        self.notes.now = core::mem::take(&mut self.notes.next);
        self.out
            .disk(Pending::Note, crate::effect::DiskRequest::WriteNote(note));
    }

    fn note_written(&mut self, good: bool) {
        self.notes.writing = false;
        let done = core::mem::take(&mut self.notes.now);
        if !good {
            // The slot that was not written still holds the older note: nothing is lost, and nothing may go on.
            self.notes.next.splice(0..0, done);
            self.notes.retry_at = Some(self.now + crate::time::Duration::from_secs(1));
            return;
        }
        for after in done {
            match after {
                After::Recovered => self.recovered(),
                After::Committed { cut } => self.publish_noted(cut),
                After::Erase => self.erase_root(),
                After::Emergency => self.own.emergency(),
                After::Drawn | After::Joined | After::Named | After::Intent => {
                    self.life_noted(after)
                }
            }
        }
        self.note_pump();
    }
}
