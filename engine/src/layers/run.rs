//! Pieces that lie one after another in a journal file, for consecutive blocks: one read.

use crate::effect::{LocalFile, LocalRead};
use crate::ids::FileId;
use crate::layers::map::PiecePlace;
use crate::sum::Sum;
use crate::units::{Extent, RECORD_BYTES_MAX};
use core::ops::Range;
use smallvec::SmallVec;

/// A read of the journal: whole pieces, of which a run of bytes is wanted.
#[derive(Clone, Debug)]
pub(crate) struct JournalRun {
    /// The blocks wanted.
    pub(crate) extent: Extent,
    pub(crate) file: FileId,
    /// First byte of the first piece.
    pub(crate) at: u64,
    pub(crate) pieces: SmallVec<[(u32, Sum); 1]>,
    /// Bytes of the first piece that are not wanted.
    skip: u32,
    want: u32,
    /// First byte after the last piece.
    end: u64,
    /// Whether the last piece is wanted to its end.
    to_end: bool,
}

impl JournalRun {
    /// The run of one segment's blocks.
    pub(crate) fn new(extent: Extent, place: PiecePlace, block_bytes: u32) -> Self {
        // A segment lies within one piece, at most a grain.
        let want = extent.count.0 as u32 * block_bytes;
        Self {
            extent,
            file: place.file,
            at: place.at,
            pieces: SmallVec::from_elem((place.len, place.sum), 1),
            skip: place.skip,
            want,
            end: place.at + u64::from(place.len),
            to_end: place.skip + want == place.len,
        }
    }

    /// Adds a segment that goes on where the run ends; `false` if it does not, or the run is a record long.
    pub(crate) fn join(&mut self, extent: Extent, place: PiecePlace, block_bytes: u32) -> bool {
        let want = extent.count.0 as u32 * block_bytes;
        if !self.to_end
            || place.file != self.file
            || place.skip != 0
            || place.at != self.end
            || extent.start != self.extent.end()
            || self.want + want > RECORD_BYTES_MAX
        {
            return false;
        }
        self.pieces.push((place.len, place.sum));
        self.extent.count.0 += extent.count.0;
        self.want += want;
        self.end += u64::from(place.len);
        self.to_end = want == place.len;
        true
    }

    /// The read that brings it.
    pub(crate) fn read(&self) -> LocalRead {
        LocalRead {
            file: LocalFile::Journal(self.file),
            at: self.at,
            pieces: self.pieces.clone(),
            want: self.skip..self.skip + self.want,
        }
    }

    /// Where its pieces lie in the file.
    pub(crate) const fn bytes(&self) -> Range<u64> {
        self.at..self.end
    }

    /// First byte of each piece.
    pub(crate) fn starts(&self) -> impl Iterator<Item = u64> + '_ {
        self.pieces.iter().scan(self.at, |at, (len, _)| {
            let this = *at;
            *at += u64::from(*len);
            Some(this)
        })
    }
}
