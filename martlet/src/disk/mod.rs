//! The local disk of one volume: journal files, notes, kept roots and leaves, cached frames.
//!
//! ```text
//! <state>/volumes/<name>.<id>/
//!   journal/<n>        one journal file, n in 8 hex digits; preallocated, recycled
//!   note.0  note.1     two slots; a write goes to the slot that does not hold the newest note
//!   meta/<hash>        a root or leaf under the hash of its bytes, 32 hex digits
//!   cache              slots of one header page and 16 grains
//! ```
//!
//! Boring on purpose: what must be durable when, and in what order, the engine decides. Here each request is carried out
//! and its promise ("durable when done") kept. Not here: what the bytes mean (`engine::journal`, `engine::table`).

mod buffers;
mod cache;
mod codec;
mod files;
mod folder;
mod kept;
pub mod state;

pub(crate) use files::{make_dir, replace, write_slices};
pub use folder::Folder;

use bytes::Bytes;
use engine::effect::{DiskError, DiskRequest, LocalRead};
use engine::ids::FileId;
use engine::journal::record::RecordHead;
use engine::{Outcome, Parts};
use std::io;

/// Where a volume keeps its local bytes.
#[derive(Debug)]
pub enum Disk {
    /// A folder of the state directory.
    Folder(Folder),
    /// Nowhere: a volume that is only looked at, or read at a committed version. Nothing is found, nothing is kept.
    Nowhere,
}

impl Disk {
    /// Waits for what is under way and refuses everything from then on.
    pub fn close(&self) {
        match self {
            Self::Folder(folder) => folder.close(),
            Self::Nowhere => {}
        }
    }

    /// Reads what is in memory already, without waiting for the disk. `None`: it is not, ask [`Disk::read`] from a
    /// thread that may wait.
    pub fn try_read(&self, read: &LocalRead) -> Option<Outcome<Bytes>> {
        match self {
            Self::Folder(folder) => folder.try_read(read),
            Self::Nowhere => Some(Outcome::Disk(DiskError::Absent)),
        }
    }

    /// Reads, waiting for the disk.
    pub fn read(&self, read: &LocalRead) -> Outcome<Bytes> {
        match self {
            Self::Folder(folder) => folder.read(read),
            Self::Nowhere => Outcome::Disk(DiskError::Absent),
        }
    }

    /// Writes a record. Not synced.
    pub fn append(
        &self,
        file: FileId,
        at: u64,
        head: &RecordHead,
        data: &Parts<Bytes>,
    ) -> Outcome<Bytes> {
        match self {
            Self::Folder(folder) => outcome(folder.append(file, at, head, data)),
            Self::Nowhere => Outcome::Disk(DiskError::Failed),
        }
    }

    /// Makes everything written to the file durable.
    pub fn sync(&self, file: FileId) -> Outcome<Bytes> {
        match self {
            Self::Folder(folder) => outcome(folder.sync(file)),
            Self::Nowhere => Outcome::Disk(DiskError::Failed),
        }
    }

    /// Carries out any other request; may wait for the disk for long.
    pub fn request(&self, request: &DiskRequest<Bytes>) -> Outcome<Bytes> {
        match self {
            Self::Folder(folder) => folder.request(request),
            Self::Nowhere => nowhere(request),
        }
    }
}

fn nowhere(request: &DiskRequest<Bytes>) -> Outcome<Bytes> {
    match request {
        DiskRequest::ReadNote => Outcome::Note(None),
        DiskRequest::ListFiles => Outcome::Files(Vec::new()),
        DiskRequest::ListCache => Outcome::Cache(Vec::new()),
        DiskRequest::LoadMeta { .. } | DiskRequest::ScanFile(_) => Outcome::Disk(DiskError::Absent),
        // What a mere reader would keep for a restart has no use: there is no restart.
        DiskRequest::KeepMeta { .. }
        | DiskRequest::DropMeta(_)
        | DiskRequest::ClearCache { .. } => Outcome::Done,
        DiskRequest::WriteNote(_)
        | DiskRequest::CreateFile { .. }
        | DiskRequest::WriteIndex(_)
        | DiskRequest::RemoveFile(_)
        | DiskRequest::FillCache { .. } => Outcome::Disk(DiskError::Failed),
    }
}

/// The engine's word for an operating system's error. Logged by the caller, who knows the path.
pub(crate) fn disk_error(error: &io::Error) -> DiskError {
    match error.kind() {
        io::ErrorKind::NotFound => DiskError::Absent,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::Full,
        _ => DiskError::Failed,
    }
}

pub(crate) fn outcome(result: io::Result<()>) -> Outcome<Bytes> {
    match result {
        Ok(()) => Outcome::Done,
        Err(error) => Outcome::Disk(disk_error(&error)),
    }
}
