//! Small things that are kept whole: the note in two slots, roots and leaves under their hashes.

use super::codec::unreadable;
use super::files;
use bytes::Bytes;
use engine::Outcome;
use engine::effect::{Expect, Meta};
use engine::ids::Hash;
use engine::journal::note::{self, Note};
use engine::object::{decode_meta, encode_meta};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const SLOTS: [&str; 2] = ["note.0", "note.1"];

/// The note's two slots.
///
/// A note is written over the slot that does not hold the newest synced one. After a sync that failed, reads may show a note
/// that a loss of power takes: then the other slot holds the one that counts.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// The slot of the newest note that is known to be synced.
    synced: Mutex<Option<usize>>,
}

impl Notes {
    /// The newest note. Errors: a slot cannot be read, or is of a newer format; the newest cannot be synced.
    pub(super) fn read(&self, folder: &Path) -> io::Result<Option<Arc<Note>>> {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(find_synced(folder, &mut synced)?.map(Arc::new))
    }

    /// Writes and syncs a note; a failure or crash leaves the newest synced one whole.
    pub(super) fn write(&self, folder: &Path, note: &Note) -> io::Result<()> {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if synced.is_none() {
            find_synced(folder, &mut synced)?;
        }
        let next = synced.map_or(0, |slot| 1 - slot);
        let path = slot_path(folder, next);
        let fresh = !path.exists();
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(&note::slot(note))?;
        file.sync_all()?;
        if fresh {
            files::sync_dir(folder)?;
        }
        *synced = Some(next);
        Ok(())
    }
}

/// Finds the newest note and syncs it where it is: whoever wrote it may have ended, or failed, before that. One copy after the
/// other is written again and synced, so that a loss of power, whatever it makes of one, leaves the other.
fn find_synced(folder: &Path, synced: &mut Option<usize>) -> io::Result<Option<Note>> {
    let [first, second] = [0, 1].map(
        |slot| match files::read_readable(&slot_path(folder, slot)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read,
        },
    );
    let (newest, next) = note::newest([&first?, &second?]).map_err(unreadable)?;
    let Some(note) = newest else {
        return Ok(None);
    };
    let slot = 1 - next;
    let mut file = OpenOptions::new()
        .write(true)
        .open(slot_path(folder, slot))?;
    let bytes = note::slot(&note);
    for copy in bytes.chunks(bytes.len() / 2) {
        file.write_all(copy)?;
        file.sync_all()?;
    }
    files::sync_dir(folder)?;
    *synced = Some(slot);
    Ok(Some(note))
}

fn slot_path(folder: &Path, slot: usize) -> PathBuf {
    folder.join(SLOTS.get(slot).unwrap_or(&SLOTS[0]))
}

fn meta_path(folder: &Path, hash: Hash) -> PathBuf {
    folder.join("meta").join(format!("{hash:?}"))
}

/// Keeps a root or leaf. Errors: its bytes have another hash (`InvalidInput`): kept under this one it were never found.
pub(super) fn keep(folder: &Path, hash: Hash, meta: &Meta) -> io::Result<()> {
    let (bytes, found) = encode_meta(meta);
    if found != hash {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    files::replace(&meta_path(folder, hash), &bytes, 0o600)
}

/// Reads a root or leaf and checks it. Errors: absent; not what was kept (`InvalidData`).
pub(super) fn load(folder: &Path, hash: Hash, expect: &Expect) -> io::Result<Outcome<Bytes>> {
    let bytes = std::fs::read(meta_path(folder, hash))?;
    let (meta, found) = decode_meta(expect, None, &bytes).map_err(unreadable)?;
    if found != hash {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Outcome::Meta(meta, hash))
}

pub(super) fn forget(folder: &Path, hash: Hash) -> io::Result<()> {
    match std::fs::remove_file(meta_path(folder, hash)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
