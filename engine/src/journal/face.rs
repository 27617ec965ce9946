//! What the journal and the volume tell each other.

use crate::ids::{FileId, Seq};
use crate::journal::record::{PAGE_BYTES, RecordBody};

/// What an outcome of ours belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    Append {
        seq: Seq,
        attempt: u32,
        file: FileId,
    },
    Rewrite {
        seq: Seq,
        file: FileId,
    },
    Sync {
        file: FileId,
        upto: Seq,
    },
    Create {
        file: FileId,
    },
    Remove {
        file: FileId,
    },
    Index {
        file: FileId,
    },
}

/// Where a record lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) file: FileId,
    /// The header's page; the data begins one page on.
    pub(crate) page: u32,
}

impl Place {
    /// First byte of the record's data.
    pub(crate) fn data_at(self) -> u64 {
        (u64::from(self.page) + 1) * u64::from(PAGE_BYTES)
    }
}

/// What the journal tells the volume.
#[derive(Debug)]
pub(crate) enum Event {
    /// Every record up to this one is written: it may be mapped and its write answered.
    Applied {
        seq: Seq,
        body: RecordBody,
        place: Place,
    },
    /// This write could not be written; its seq is void.
    Voided { seq: Seq },
    /// Everything up to here is durable.
    Durable,
    /// The record lies elsewhere now.
    Relocated {
        seq: Seq,
        body: RecordBody,
        from: Place,
        to: Place,
    },
    /// A file failed.
    Condemned(FileId),
    /// No write can be taken any more; everything not yet applied has failed.
    ReadOnly,
    /// There is room again.
    Room,
}

/// Whose record it is: guests leave the reserve alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    Guest,
    Own,
}
