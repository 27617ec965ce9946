//! One volume's folder.

use super::buffers::Buffer;
use super::files::{self, PAGE};
use super::{cache, codec, disk_error, kept, outcome};
use bytes::Bytes;
use engine::effect::{CachedFrame, DiskError, DiskRequest, FileFound, LocalFile, LocalRead};
use engine::ids::FileId;
use engine::journal::record::{self, JournalKey, RecordHead};
use engine::units::ByteCount;
use engine::{Outcome, Parts};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// A folder that is open. Files are opened at their first use and stay open.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    files: RwLock<BTreeMap<FileId, Arc<File>>>,
    cache: File,
    notes: kept::Notes,
    key: JournalKey,
    /// Read while the folder is used; written once, when it is given up.
    closed: RwLock<bool>,
}

impl Folder {
    /// Opens a volume's folder, making it where there is none.
    ///
    /// # Errors
    ///
    /// It cannot be made or read.
    pub fn open(path: &Path, key: JournalKey) -> io::Result<Self> {
        files::make_dir(path)?;
        for name in ["journal", "meta"] {
            files::make_dir(&path.join(name))?;
        }
        let cache = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("cache"))?;
        Ok(Self {
            path: path.to_owned(),
            files: RwLock::default(),
            cache,
            notes: kept::Notes::default(),
            key,
            closed: RwLock::new(false),
        })
    }

    /// Removes a volume's folder and all that is in it; fine when there is none.
    ///
    /// # Errors
    ///
    /// Some of it cannot be removed.
    pub fn remove(path: &Path) -> io::Result<()> {
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => path.parent().map_or(Ok(()), files::sync_dir),
        }
    }

    /// Waits for what is under way and refuses everything from then on: what is removed next stays removed.
    pub(super) fn close(&self) {
        *self.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// The right to use the folder; held as long as it is used. `None`: it was given up.
    fn enter(&self) -> Option<RwLockReadGuard<'_, bool>> {
        let closed = self.closed.read().unwrap_or_else(PoisonError::into_inner);
        (!*closed).then_some(closed)
    }

    fn journal(&self, file: FileId) -> PathBuf {
        self.path.join("journal").join(format!("{:08x}", file.0))
    }

    /// The open file, opened now if it was not.
    fn file(&self, id: FileId) -> io::Result<Arc<File>> {
        let known = self.files.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = known.get(&id) {
            return Ok(Arc::clone(file));
        }
        drop(known);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.journal(id))?;
        let mut known = self.files.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(
            known.entry(id).or_insert_with(|| Arc::new(file)),
        ))
    }

    fn forget(&self, id: FileId) {
        let mut known = self.files.write().unwrap_or_else(PoisonError::into_inner);
        known.remove(&id);
    }

    /// Runs `work` with the file that a read means.
    fn with<T>(&self, file: LocalFile, work: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
        match file {
            LocalFile::Journal(id) => work(&*self.file(id)?),
            LocalFile::Cache => work(&self.cache),
        }
    }

    pub(super) fn try_read(&self, read: &LocalRead) -> Option<Outcome<Bytes>> {
        let _using = self.enter()?;
        let len = span(read)?;
        // Errors come again, and are reported, from the read that waits.
        let bytes = self
            .with(read.file, |file| files::read_nowait(file, read.at, len))
            .ok()??;
        Some(checked(read, bytes))
    }

    pub(super) fn read(&self, read: &LocalRead) -> Outcome<Bytes> {
        let (Some(len), Some(_using)) = (span(read), self.enter()) else {
            return Outcome::Disk(DiskError::Failed);
        };
        match self.with(read.file, |file| files::read_wait(file, read.at, len)) {
            Ok(bytes) => checked(read, bytes),
            Err(error) => {
                tracing::error!(folder = %self.path.display(), file = ?read.file, at = read.at, %error, "a local read failed");
                // Which piece it was the system does not say; all of them are in doubt.
                Outcome::ReadDamaged { piece: 0 }
            }
        }
    }

    pub(super) fn append(
        &self,
        id: FileId,
        at: u64,
        head: &RecordHead,
        data: &Parts<Bytes>,
    ) -> io::Result<()> {
        let _using = self.enter().ok_or_else(given_up)?;
        // A record carries at most 1 MiB.
        let data_bytes = u32::try_from(data.len().0).map_err(io::Error::other)?;
        let page = record::emit(head, data_bytes, &self.key);
        let result = self
            .file(id)
            .and_then(|file| files::write_gathered(&file, at, &page, data));
        self.report(result, "append", Some(id))
    }

    pub(super) fn sync(&self, id: FileId) -> io::Result<()> {
        let _using = self.enter().ok_or_else(given_up)?;
        let result = self.file(id).and_then(|file| file.sync_data());
        self.report(result, "sync", Some(id))
    }

    fn report<T>(&self, result: io::Result<T>, what: &str, file: Option<FileId>) -> io::Result<T> {
        if let Err(error) = &result
            && error.kind() != io::ErrorKind::NotFound
        {
            let file = file.map(|f| f.0);
            tracing::error!(folder = %self.path.display(), file, %error, "{what} failed");
        }
        result
    }

    pub(super) fn request(&self, request: &DiskRequest<Bytes>) -> Outcome<Bytes> {
        let Some(_using) = self.enter() else {
            return Outcome::Disk(DiskError::Failed);
        };
        let result = match request {
            DiskRequest::ReadNote => self
                .report(self.notes.read(&self.path), "reading the note", None)
                .map(Outcome::Note),
            DiskRequest::WriteNote(note) => self
                .report(self.notes.write(&self.path, note), "writing the note", None)
                .map(|()| Outcome::Done),
            DiskRequest::ListFiles => self
                .report(self.list(), "listing journal files", None)
                .map(Outcome::Files),
            DiskRequest::CreateFile { file, bytes } => self
                .report(
                    self.create(*file, *bytes),
                    "making a journal file",
                    Some(*file),
                )
                .map(|()| Outcome::Done),
            DiskRequest::ScanFile(file) => self
                .report(
                    self.file(*file)
                        .and_then(|f| codec::scan(*file, &f, &self.key)),
                    "scanning a journal file",
                    Some(*file),
                )
                .map(Outcome::Scanned),
            DiskRequest::WriteIndex(index) => {
                let result = self
                    .file(index.file)
                    .and_then(|file| codec::write_index(&file, index, &self.key));
                self.report(result, "writing a file's index", Some(index.file))
                    .map(|()| Outcome::Done)
            }
            DiskRequest::RemoveFile(file) => self
                .report(self.unlink(*file), "removing a journal file", Some(*file))
                .map(|()| Outcome::Done),
            DiskRequest::KeepMeta { hash, meta } => {
                let result = kept::keep(&self.path, *hash, meta);
                self.report(result, "keeping a root or leaf", None)
                    .map(|()| Outcome::Done)
            }
            DiskRequest::LoadMeta { hash, expect } => {
                let result = kept::load(&self.path, *hash, expect);
                return self
                    .report(result, "reading a kept root or leaf", None)
                    .unwrap_or_else(|error| Outcome::Disk(disk_error(&error)));
            }
            DiskRequest::DropMeta(hash) => self
                .report(
                    kept::forget(&self.path, *hash),
                    "dropping a root or leaf",
                    None,
                )
                .map(|()| Outcome::Done),
            DiskRequest::ListCache => self
                .report(cache::list(&self.cache), "listing the cache", None)
                .map(Outcome::Cache),
            DiskRequest::FillCache { slot, frame, data } => {
                return self.fill(*slot, frame, data);
            }
            DiskRequest::ClearCache { slot } => self
                .report(
                    cache::clear(&self.cache, *slot),
                    "clearing a cache slot",
                    None,
                )
                .map(|()| Outcome::Done),
        };
        result.unwrap_or_else(|error| Outcome::Disk(disk_error(&error)))
    }

    fn fill(&self, slot: u32, frame: &CachedFrame, data: &Parts<Bytes>) -> Outcome<Bytes> {
        let result = cache::fill(&self.cache, slot, frame, data);
        outcome(self.report(result, "filling a cache slot", None))
    }

    fn list(&self) -> io::Result<Vec<FileFound>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.path.join("journal"))? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().filter(|n| n.len() == 8);
            let Some(number) = number.and_then(|n| u64::from_str_radix(n, 16).ok()) else {
                continue;
            };
            found.push(FileFound {
                file: FileId(number),
                bytes: ByteCount(entry.metadata()?.len()),
            });
        }
        found.sort_by_key(|f| f.file);
        Ok(found)
    }

    /// Makes a file whose name, size and space are durable: appends to it change no metadata, and find no full disk.
    fn create(&self, id: FileId, bytes: ByteCount) -> io::Result<()> {
        let path = self.journal(id);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?;
        let result = allocate(&file, bytes.0)
            .and_then(|()| file.sync_all())
            .and_then(|()| files::sync_dir(&self.path.join("journal")));
        if result.is_err() {
            // Half a file is of no use, and its space may be what is missing.
            let _ = std::fs::remove_file(&path);
            return result;
        }
        let mut known = self.files.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(id, Arc::new(file));
        Ok(())
    }

    fn unlink(&self, id: FileId) -> io::Result<()> {
        self.forget(id);
        match std::fs::remove_file(self.journal(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        files::sync_dir(&self.path.join("journal"))
    }
}

fn given_up() -> io::Error {
    io::Error::other("the volume was given up")
}

fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            files::write_gathered(file, 0, &[], &Parts::zeros(ByteCount(bytes)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Bytes of all pieces of a read. `None`: more than a read may have (the engine's extents are bounded).
fn span(read: &LocalRead) -> Option<usize> {
    let total: u64 = read.pieces.iter().map(|(len, _)| u64::from(*len)).sum();
    let fits = u64::from(read.want.end) <= total && read.want.start <= read.want.end;
    usize::try_from(total).ok().filter(|_| fits)
}

/// Checks every piece, then hands out the part that is wanted.
fn checked(read: &LocalRead, bytes: Buffer) -> Outcome<Bytes> {
    let mut rest: &[u8] = &bytes;
    for (number, (len, sum)) in read.pieces.iter().enumerate() {
        let piece = rest.split_at_checked(*len as usize);
        match piece {
            Some((piece, after)) if crc32c::crc32c(piece) == sum.0 => rest = after,
            _ => {
                return Outcome::ReadDamaged {
                    piece: u32::try_from(number).unwrap_or(u32::MAX),
                };
            }
        }
    }
    let want = read.want.start as usize..read.want.end as usize;
    Outcome::Read(Bytes::from(bytes).slice(want))
}

const _: () = assert!(PAGE == record::PAGE_BYTES as usize);

#[cfg(test)]
mod tests;
