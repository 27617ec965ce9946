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
use std::sync::Arc;

const SLOTS: [&str; 2] = ["note.0", "note.1"];

/// The newest note, and the slot that the next one goes to. Errors: a slot cannot be read, or is of a newer format.
fn slots(folder: &Path) -> io::Result<(Option<Note>, usize)> {
    let read = |name| match std::fs::read(folder.join(name)) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let [first, second] = SLOTS.map(read);
    note::newest([&first?, &second?]).map_err(unreadable)
}

pub(super) fn read_note(folder: &Path) -> io::Result<Option<Arc<Note>>> {
    Ok(slots(folder)?.0.map(Arc::new))
}

/// Writes a note over the slot that does not hold the newest: a crash leaves that one whole.
pub(super) fn write_note(folder: &Path, note: &Note) -> io::Result<()> {
    let (_, next) = slots(folder)?;
    let path = folder.join(SLOTS.get(next).unwrap_or(&SLOTS[0]));
    let fresh = !path.exists();
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)?;
    file.write_all(&note::emit(note))?;
    file.sync_all()?;
    if fresh {
        files::sync_dir(folder)?;
    }
    Ok(())
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
