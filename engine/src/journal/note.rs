//! The note: what this state directory knows of its volume beside the journal, small, synced and replaced whole.
//!
//! One note holds what the design calls commit note, intent note and end-of-history note: they change together, and one
//! record that is written whole to the older of two slots and synced has only two states after a crash, old and new.

use crate::ids::{AttachId, Container, FileId, Generation, Hash, Lap, Seq, Version};
use crate::object::names::RootName;
use crate::units::Geometry;
use alloc::vec::Vec;

/// The local state beside the journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// Counts the notes of this volume here: the higher of two valid slots is the note.
    pub serial: u64,
    /// The volume.
    pub container: Container,
    /// Its shape as last known.
    pub geometry: Geometry,
    /// Every attach id that this state directory drew for the volume and whose roots are its own, oldest first.
    /// An id joins before its `claims/<g>` is sent.
    pub drawn: Vec<AttachId>,
    /// The attach ids that the journal's records belong to, oldest first.
    pub joined: Vec<AttachId>,
    /// The highest generation that this state directory opened, if any.
    pub held: Option<Generation>,
    /// The newest root known to be committed.
    pub committed: Option<Committed>,
    /// Laps in which everything above a seq is dead for ever (end of history).
    pub dead: Vec<DeadLap>,
    /// What was begun and makes the present unservable until it is settled.
    pub intent: Option<Intent>,
    /// The volume is not born yet: an import of this state directory is under way or was interrupted.
    pub unborn: bool,
    /// Files of a history that another host has left behind: kept for `volume rescue`, never replayed or recycled.
    pub aside: Vec<FileId>,
}

/// A committed root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Committed {
    /// Its version.
    pub version: Version,
    /// Its name.
    pub root: RootName,
    /// Its hash.
    pub hash: Hash,
    /// Everything up to here is in it.
    pub cut: Seq,
}

/// In one lap of one file everything above `end` is dead: it lay behind the end of history of a recovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeadLap {
    /// The file.
    pub file: FileId,
    /// Its lap.
    pub lap: Lap,
    /// The last seq that lives.
    pub end: Seq,
}

/// A step that was announced before it was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Intent {
    /// A root of kind `detached` is on its way.
    Detach(Version),
    /// A root of kind `deleted` is on its way.
    Delete(Version),
    /// A rollback's roots are on their way.
    Rollback(Version),
    /// The disk failed: the history up to `end` is being saved.
    Emergency(Seq),
}
