//! Bytes to and from files: gathered writes, checked reads, durable names.

use super::buffers::Buffer;
use bytes::Bytes;
use engine::{Part, Parts};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A page of the journal and the cache, in bytes.
pub(crate) const PAGE: usize = 4096;

/// Zeros to write from.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Most slices that one system call takes (IOV_MAX of Linux).
const SLICES: usize = 1024;

/// Writes `head`, then `data`, then zeros up to a whole page, at `at`. Errors: any byte that was not written.
pub(crate) fn write_gathered(
    file: &File,
    at: u64,
    head: &[u8],
    data: &Parts<Bytes>,
) -> io::Result<()> {
    let mut slices: Vec<&[u8]> = Vec::with_capacity(data.0.len() + 2);
    slices.push(head);
    let mut total = head.len();
    for part in &data.0 {
        match part {
            Part::Data(bytes) => {
                slices.push(bytes);
                total += bytes.len();
            }
            Part::Zeros(count) => {
                let count = usize::try_from(count.0).map_err(io::Error::other)?;
                push_zeros(&mut slices, count);
                total += count;
            }
        }
    }
    push_zeros(&mut slices, total.next_multiple_of(PAGE) - total);
    write_slices(file, at, &slices)
}

fn push_zeros(slices: &mut Vec<&[u8]>, mut count: usize) {
    while count > 0 {
        let zeros = ZEROS.get(..count).unwrap_or(&ZEROS);
        slices.push(zeros);
        count -= zeros.len();
    }
}

/// Writes slices one behind another. Errors: any byte that was not written.
pub(crate) fn write_slices(file: &File, mut at: u64, slices: &[&[u8]]) -> io::Result<()> {
    for group in slices.chunks(SLICES) {
        let mut list: Vec<IoSlice<'_>> = group.iter().map(|s| IoSlice::new(s)).collect();
        let mut rest: &mut [IoSlice<'_>] = &mut list;
        while rest.iter().any(|s| !s.is_empty()) {
            let written = match rustix::io::pwritev(file, rest, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => n,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            at += written as u64;
            IoSlice::advance_slices(&mut rest, written);
        }
    }
    Ok(())
}

/// Reads a whole file; pages that cannot be read are zeros: who keeps two copies finds the other one.
///
/// Errors: there is no such file; the system refuses it as a whole.
pub(crate) fn read_readable(path: &Path) -> io::Result<Vec<u8>> {
    match std::fs::read(path) {
        Err(error) if is_damage(&error) => {}
        read => return read,
    }
    let file = File::open(path)?;
    let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    for (at, page) in (0..).step_by(PAGE).zip(bytes.chunks_mut(PAGE)) {
        match file.read_exact_at(page, at) {
            Err(error) if is_damage(&error) => {
                tracing::error!(file = %path.display(), at, %error, "a page cannot be read");
                page.fill(0);
            }
            read => read?,
        }
    }
    Ok(bytes)
}

/// Whether the medium, and not the file system, refuses.
fn is_damage(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Reads `len` bytes at `at` if they are all in memory. `Ok(None)`: they are not, or the file system cannot tell.
pub(crate) fn read_nowait(file: &File, at: u64, len: usize) -> io::Result<Option<Buffer>> {
    let mut buffer = Buffer::take(len);
    let flags = rustix::io::ReadWriteFlags::NOWAIT;
    match rustix::io::preadv2(file, &mut [IoSliceMut::new(buffer.whole())], at, flags) {
        Ok(n) if n == len => Ok(Some(buffer)),
        // Short: the rest is not in memory, or behind the end; the waiting read finds out which.
        Ok(_) => Ok(None),
        Err(
            rustix::io::Errno::AGAIN
            | rustix::io::Errno::INTR
            | rustix::io::Errno::OPNOTSUPP
            | rustix::io::Errno::NOSYS,
        ) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads `len` bytes at `at`. Errors: the file ends before.
pub(crate) fn read_wait(file: &File, at: u64, len: usize) -> io::Result<Buffer> {
    let mut buffer = Buffer::take(len);
    file.read_exact_at(buffer.whole(), at)?;
    Ok(buffer)
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes a directory and its name durable; fine when it exists.
pub(crate) fn make_dir(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) => return Err(error),
    }
    // Also when it existed: whoever made it may have died before this.
    path.parent().map_or(Ok(()), sync_dir)
}

/// Replaces a file's content as one durable step: a crash leaves the old or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let parent = path
        .parent()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    sync_dir(parent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::units::ByteCount;
    use std::os::unix::fs::FileExt;

    #[test]
    fn gathered_writes_are_padded_to_pages() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[0xff; 4 * PAGE], 0).unwrap();
        let mut data = Parts::one(Bytes::from_static(b"abc"));
        data.push(Part::Zeros(ByteCount(2)));
        data.push(Part::Data(Bytes::from_static(b"d")));
        write_gathered(&file, PAGE as u64, &[7; PAGE], &data).unwrap();
        let bytes = read_wait(&file, 0, 4 * PAGE).unwrap();
        assert_eq!(bytes[..PAGE], [0xff; PAGE]);
        assert_eq!(bytes[PAGE..2 * PAGE], [7; PAGE]);
        assert_eq!(bytes[2 * PAGE..2 * PAGE + 6], *b"abc\0\0d");
        assert_eq!(bytes[2 * PAGE + 6..3 * PAGE], [0; PAGE - 6]);
        assert_eq!(bytes[3 * PAGE..], [0xff; PAGE]);
    }

    #[test]
    fn more_slices_than_one_call_takes_are_all_written() {
        let file = tempfile::tempfile().unwrap();
        let mut data = Parts::default();
        for n in 0..3000_u32 {
            data.push(Part::Data(Bytes::copy_from_slice(&n.to_le_bytes())));
        }
        write_gathered(&file, 0, &[1; PAGE], &data).unwrap();
        let bytes = read_wait(&file, PAGE as u64, 12_000).unwrap();
        let found: Vec<u32> = bytes
            .chunks_exact(4)
            .map(|b| u32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        assert_eq!(found, (0..3000).collect::<Vec<_>>());
    }

    #[test]
    fn a_read_behind_the_end_is_an_error_and_never_zeros() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10).unwrap();
        assert!(read_wait(&file, 5, 6).is_err());
        assert!(!matches!(read_nowait(&file, 5, 6), Ok(Some(_))));
    }
}
