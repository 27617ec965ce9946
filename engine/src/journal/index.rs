//! The index at a sealed journal file's end: every record's header without its data, so that a restart reads no data.

use crate::ids::{FileId, Lap, Seq};
use crate::journal::record::RecordHead;
use alloc::vec::Vec;

/// What a sealed file holds. Written only after the sync that covers the file's last record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileIndex {
    /// The file.
    pub file: FileId,
    /// Its lap.
    pub lap: Lap,
    /// Everything up to here was durable when the index was written.
    pub durable: Seq,
    /// The records, in page order.
    pub records: Vec<RecordHead>,
}
