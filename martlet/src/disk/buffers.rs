//! Memory for long reads, kept and used again.
//!
//! The allocator gives every large buffer back to the system, and takes it anew, zeroed, a page fault for each 4 KiB: for a
//! read of 1 MiB that costs more than twice what reading it does. A few buffers are kept here instead, for all volumes of
//! the process.
//!
//! Shape      buffers of [`SMALLEST`] · 2ⁿ bytes up to [`LARGEST`]; what is kept never exceeds [`KEPT_BYTES`].
//! Invariant  a buffer is handed out with what an earlier read left in it: who takes one fills all of it, or drops it.

use bytes::Bytes;
use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

/// Shorter reads are the allocator's, which keeps such memory itself.
const SMALLEST: usize = 32 << 10;

/// The longest read of a journal: a record.
const LARGEST: usize = 1 << 20;

/// Bytes of all buffers that are kept while nobody uses them.
const KEPT_BYTES: usize = 16 << 20;

const CLASSES: usize = (LARGEST / SMALLEST).ilog2() as usize + 1;

#[derive(Debug)]
struct Pool {
    /// By size, smallest first.
    kept: [Vec<Vec<u8>>; CLASSES],
    bytes: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    kept: [const { Vec::new() }; CLASSES],
    bytes: 0,
});

/// A place in [`Pool::kept`] for reads of this length, if they are pooled.
fn class_of(len: usize) -> Option<usize> {
    let is_pooled = (SMALLEST..=LARGEST).contains(&len);
    is_pooled.then(|| (len.next_power_of_two() / SMALLEST).ilog2() as usize)
}

/// Memory of one read.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    len: usize,
}

impl Buffer {
    /// Takes one of `len` bytes, of any content.
    pub(crate) fn take(len: usize) -> Self {
        let Some(class) = class_of(len) else {
            let bytes = vec![0; len];
            return Self { bytes, len };
        };
        // Every change of the pool is whole.
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = pool.kept.get_mut(class).and_then(Vec::pop);
        pool.bytes -= kept.as_ref().map_or(0, Vec::len);
        drop(pool);
        let bytes = kept.unwrap_or_else(|| vec![0; SMALLEST << class]);
        Self { bytes, len }
    }

    /// All of it, to be filled.
    pub(crate) fn whole(&mut self) -> &mut [u8] {
        // `len` is at most the vector's.
        self.bytes.get_mut(..self.len).unwrap_or_default()
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Buffer> for Bytes {
    /// The memory comes back when the last handle is dropped.
    fn from(mut buffer: Buffer) -> Self {
        match class_of(buffer.len) {
            Some(_) => Self::from_owner(buffer),
            None => std::mem::take(&mut buffer.bytes).into(),
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let Some(class) = class_of(self.len).filter(|_| !bytes.is_empty()) else {
            return;
        };
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        let total = pool.bytes + bytes.len();
        if total <= KEPT_BYTES
            && let Some(kept) = pool.kept.get_mut(class)
        {
            kept.push(bytes);
            pool.bytes = total;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_has_room_for_what_is_asked() {
        for (len, class) in [
            (0, None),
            (SMALLEST - 1, None),
            (SMALLEST, Some(0)),
            (SMALLEST + 1, Some(1)),
            (2 * SMALLEST, Some(1)),
            (LARGEST, Some(CLASSES - 1)),
            (LARGEST + 1, None),
        ] {
            assert_eq!(class_of(len), class, "{len}");
            let mut buffer = Buffer::take(len);
            assert_eq!(buffer.whole().len(), len);
            assert_eq!(Bytes::from(buffer).len(), len);
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let many: Vec<Bytes> = (0..3 * KEPT_BYTES / LARGEST)
            .map(|_| Buffer::take(LARGEST).into())
            .collect();
        let parts: Vec<Bytes> = many.iter().map(|bytes| bytes.slice(1..9)).collect();
        drop(many);
        // A part keeps the whole.
        assert_eq!(parts.iter().map(Bytes::len).sum::<usize>(), parts.len() * 8);
        drop(parts);
        let pool = POOL.lock().unwrap();
        let bytes: usize = pool.kept.iter().flatten().map(Vec::len).sum();
        assert_eq!(bytes, pool.bytes);
        assert!(bytes <= KEPT_BYTES && bytes > KEPT_BYTES / 2, "{bytes}");
    }
}
