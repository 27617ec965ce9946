//! Local bytes, made and read with the engine's own codec, outside its lock.

use super::buffers::Buffer;
use super::files::{self, PAGE};
use engine::codec::Unreadable;
use engine::effect::Scanned;
use engine::ids::FileId;
use engine::journal::index::{self, FileIndex};
use engine::journal::record::JournalKey;
use engine::journal::scan::{PageSource, scan as scan_pages};
use engine::sum::Sum;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes read at once: a scan goes through a file from end to end.
const WINDOW: u64 = 4 << 20;

/// A journal file that is scanned. Reads ahead; a place that cannot be read is reported as such, alone.
struct Pages<'a> {
    file: &'a File,
    len: u64,
    window: Buffer,
    start: u64,
}

impl Pages<'_> {
    /// The bytes from `at` on, if they can be read.
    fn bytes(&mut self, at: u64, len: usize) -> Option<&[u8]> {
        let end = at.checked_add(len as u64)?;
        if end > self.len {
            return None;
        }
        let inside = self.start <= at && end <= self.start + self.window.len() as u64;
        if !inside {
            let ahead = WINDOW.max(len as u64).min(self.len - at);
            let ahead = usize::try_from(ahead).ok()?;
            // What cannot be read with what follows it may still be readable alone.
            self.window = files::read_wait(self.file, at, ahead)
                .or_else(|_| files::read_wait(self.file, at, len))
                .ok()?;
            self.start = at;
        }
        let from = usize::try_from(at - self.start).ok()?;
        self.window.get(from..from + len)
    }
}

impl PageSource for Pages<'_> {
    fn read(&mut self, at: u64, into: &mut [u8]) -> bool {
        let Some(bytes) = self.bytes(at, into.len()) else {
            return false;
        };
        into.copy_from_slice(bytes);
        true
    }

    fn has_sum(&mut self, at: u64, len: u32, sum: Sum) -> bool {
        let bytes = self.bytes(at, len as usize);
        bytes.is_some_and(|bytes| crc32c::crc32c(bytes) == sum.0)
    }
}

/// Everything valid in a journal file.
pub(super) fn scan(id: FileId, file: &File, key: &JournalKey) -> io::Result<Scanned> {
    let len = file.metadata()?.len();
    let mut pages = Pages {
        file,
        len,
        window: Buffer::take(0),
        start: 0,
    };
    Ok(scan_pages(&mut pages, id, key, len))
}

/// Writes an index into the space at a file's end. One that does not fit is left out: a restart scans the file then.
pub(super) fn write_index(file: &File, index: &FileIndex, key: &JournalKey) -> io::Result<()> {
    let len = file.metadata()?.len();
    match index::emit(index, key, index::reserved_bytes(len)) {
        Some(bytes) => {
            let at = u64::from(index::data_pages(len)) * PAGE as u64;
            file.write_all_at(&bytes, at)
        }
        None => Ok(()),
    }
}

/// Stored bytes that this program does not read, as an error of the disk.
pub(super) fn unreadable(error: Unreadable) -> io::Error {
    let kind = match error {
        Unreadable::TooNew => io::ErrorKind::Unsupported,
        Unreadable::Malformed(_) => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, error.to_string())
}
