//! The note: what this state directory knows of its volume beside the journal, small, synced and replaced whole.
//!
//! One note holds what the design calls commit note, intent note and end-of-history note: they change together, and one
//! record that is written whole to the older of two slots and synced has only two states after a crash, old and new. A slot
//! holds it twice, for a page that rots.

use crate::codec::{Magic, Malformed, Put, Unreadable, begin, open, seal};
use crate::ids::{AttachId, Container, FileId, Generation, Hash, Lap, Seq, Version};
use crate::journal::record::PAGE_BYTES;
use crate::object::names::RootName;
use crate::table::codec::{put_geometry, put_root_name, read_geometry, read_root_name};
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

const DETACH: u8 = 1;
const DELETE: u8 = 2;
const ROLLBACK: u8 = 3;
const EMERGENCY: u8 = 4;

/// The note as bytes: one copy of it.
pub fn emit(note: &Note) -> Vec<u8> {
    let mut out = Vec::new();
    begin(&mut out);
    out.put_u64(note.serial);
    put_geometry(&mut out, &note.geometry);
    out.put_container(&note.container);
    let (intent, argument) = match note.intent {
        None => (0, 0),
        Some(Intent::Detach(version)) => (DETACH, version.0),
        Some(Intent::Delete(version)) => (DELETE, version.0),
        Some(Intent::Rollback(version)) => (ROLLBACK, version.0),
        Some(Intent::Emergency(seq)) => (EMERGENCY, seq.0),
    };
    out.put_u8(u8::from(note.unborn));
    out.put_u8(u8::from(note.held.is_some()));
    out.put_u8(u8::from(note.committed.is_some()));
    out.put_u8(intent);
    out.put_u32(0);
    out.put_u64(argument);
    out.put_u64(note.held.unwrap_or_default().0);
    if let Some(committed) = &note.committed {
        out.put_u64(committed.version.0);
        put_root_name(&mut out, &committed.root);
        out.put(&committed.hash.0);
        out.put_u64(committed.cut.0);
    }
    out.put_count(note.drawn.len());
    out.put_count(note.joined.len());
    out.put_count(note.dead.len());
    out.put_count(note.aside.len());
    note.drawn.iter().for_each(|id| out.put_attach(*id));
    note.joined.iter().for_each(|id| out.put_attach(*id));
    for dead in &note.dead {
        out.put_u64(dead.file.0);
        out.put_u64(dead.lap.0);
        out.put_u64(dead.end.0);
    }
    note.aside.iter().for_each(|file| out.put_u64(file.0));
    seal(&mut out, Magic::NOTE, 0);
    out
}

/// Reads one copy of a note; what lies behind it is not looked at.
///
/// # Errors
///
/// Anything but what [`emit`] made.
pub fn parse(bytes: &[u8]) -> Result<Note, Unreadable> {
    let mut fields = open(bytes, Magic::NOTE, 0)?;
    let serial = fields.u64()?;
    let geometry = read_geometry(&mut fields)?;
    let container = fields.container()?;
    let unborn = fields.flag("unborn")?;
    let (has_held, has_committed) = (fields.flag("held")?, fields.flag("committed")?);
    let kind = fields.u8()?;
    fields.zeros(4)?;
    let (argument, held) = (fields.u64()?, fields.u64()?);
    let intent = match kind {
        0 if argument == 0 => None,
        DETACH => Some(Intent::Detach(Version(argument))),
        DELETE => Some(Intent::Delete(Version(argument))),
        ROLLBACK => Some(Intent::Rollback(Version(argument))),
        EMERGENCY => Some(Intent::Emergency(Seq(argument))),
        _ => return Err(Malformed::Value("intent").into()),
    };
    if !has_held && held != 0 {
        return Err(Malformed::Value("held").into());
    }
    let committed = if has_committed {
        Some(Committed {
            version: Version(fields.u64()?),
            root: read_root_name(&mut fields)?,
            hash: Hash(fields.array()?),
            cut: Seq(fields.u64()?),
        })
    } else {
        None
    };
    let [drawn, joined] = [fields.count(16)?, fields.count(16)?];
    let [dead, aside] = [fields.count(24)?, fields.count(8)?];
    let drawn: Result<_, _> = (0..drawn).map(|_| fields.attach()).collect();
    let joined: Result<_, _> = (0..joined).map(|_| fields.attach()).collect();
    let mut dead_laps = Vec::with_capacity(dead);
    for _ in 0..dead {
        dead_laps.push(DeadLap {
            file: FileId(fields.u64()?),
            lap: Lap(fields.u64()?),
            end: Seq(fields.u64()?),
        });
    }
    let aside: Result<_, _> = (0..aside).map(|_| fields.u64().map(FileId)).collect();
    let note = Note {
        serial,
        container,
        geometry,
        drawn: drawn?,
        joined: joined?,
        held: has_held.then_some(Generation(held)),
        committed,
        dead: dead_laps,
        intent,
        unborn,
        aside: aside?,
    };
    fields.end()?;
    Ok(note)
}

/// What a slot holds: the note twice, each copy from a page's beginning on, so that one damaged page leaves a whole one. A
/// note is the only word on which attachments and laps of the journal count: one that rots must not pass for its predecessor.
pub fn slot(note: &Note) -> Vec<u8> {
    let mut copy = emit(note);
    copy.resize(copy.len().next_multiple_of(PAGE_BYTES as usize), 0);
    copy.repeat(2)
}

/// The newest note of the two slots, and which slot the next one goes to: the one that does not hold it.
///
/// Every page of a slot may begin a copy: what a longer note left behind a shorter one is older than both.
///
/// # Errors
///
/// [`Unreadable::TooNew`] if either slot is of a newer format. A slot that is damaged, torn or empty counts as no note.
pub fn newest(slots: [&[u8]; 2]) -> Result<(Option<Note>, usize), Unreadable> {
    let serial = |note: &Option<Note>| note.as_ref().map(|note| note.serial);
    let read = |slot: &[u8]| {
        let mut found = None;
        for page in (0..slot.len()).step_by(PAGE_BYTES as usize) {
            if bug!("a-note-has-one-copy") && page > 0 {
                break;
            }
            match parse(slot.get(page..).unwrap_or_default()) {
                Ok(note) if Some(note.serial) > serial(&found) => found = Some(note),
                Ok(_) | Err(Unreadable::Malformed(_)) => {}
                Err(Unreadable::TooNew) => return Err(Unreadable::TooNew),
            }
        }
        Ok(found)
    };
    let (first, second) = (read(slots[0])?, read(slots[1])?);
    Ok(if serial(&first) > serial(&second) {
        (first, 1)
    } else {
        (second, 0)
    })
}

#[cfg(test)]
mod tests;
