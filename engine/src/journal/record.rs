//! A record of the journal: one header page, then its data, padded to whole pages.

use crate::ids::{AttachId, FileId, Lap, Seq};
use crate::sum::Sums;
use crate::units::Extent;
use alloc::string::String;
use alloc::vec::Vec;
use smallvec::SmallVec;

/// Bytes of a journal page: the unit of placing. Never written twice in a lap once a sync covered it.
pub const PAGE_BYTES: u32 = 4096;

/// Most extents that one record may clear (UNMAP): its header page and its successor's both list them.
pub const RECORD_EXTENTS_MAX: usize = 64;

/// Longest attribute key, in bytes.
pub const ATTRIBUTE_KEY_MAX: usize = 64;

/// Longest attribute value, in bytes: it rides in a header page.
pub const ATTRIBUTE_VALUE_MAX: usize = 1024;

/// The header page of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordHead {
    /// Place in the history.
    pub seq: Seq,
    /// What was known to be synced when the record was made. Below `seq`.
    pub durable: Seq,
    /// The attachment under which it was accepted.
    pub attach: AttachId,
    /// The file it was written for: a copy that strayed elsewhere is refused.
    pub file: FileId,
    /// The file's lap.
    pub lap: Lap,
    /// The header's own place in the file, in pages.
    pub page: u32,
    /// What it does.
    pub body: RecordBody,
    /// What the record before it in this lap did, so that one damaged header page does not hide whose blocks are lost.
    pub before: Option<RecordBefore>,
}

/// What a record does to the volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecordBody {
    /// Puts data; one sum per piece (the part of the extent in one grain), in LBA order. At most 1 MiB.
    Write {
        /// Where.
        extent: Extent,
        /// CRC32C per piece.
        sums: Sums,
    },
    /// Makes the blocks read as zeros (UNMAP, WRITE SAME of zeros). At most [`RECORD_EXTENTS_MAX`] extents, disjoint.
    Holes(SmallVec<[Extent; 1]>),
    /// Sets or removes an attribute.
    Attribute {
        /// At most [`ATTRIBUTE_KEY_MAX`] bytes.
        key: String,
        /// At most [`ATTRIBUTE_VALUE_MAX`] bytes; `None` removes.
        value: Option<Vec<u8>>,
    },
    /// The write of this seq was answered with an error: it never happened. Beats every other record of its seq.
    Void,
}

/// The neighbour before a record, in page order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordBefore {
    /// Its seq.
    pub seq: Seq,
    /// The blocks that it wrote or cleared (none for an attribute or a void).
    pub extents: SmallVec<[Extent; 1]>,
}

impl RecordBody {
    /// The blocks that the record writes or clears.
    pub fn extents(&self) -> SmallVec<[Extent; 1]> {
        match self {
            Self::Write { extent, .. } => SmallVec::from_elem(*extent, 1),
            Self::Holes(extents) => extents.clone(),
            Self::Attribute { .. } | Self::Void => SmallVec::new(),
        }
    }
}
