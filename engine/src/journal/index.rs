//! The index at a sealed journal file's end: every record's header without its data, so that a restart reads no data.

use crate::codec::{ENVELOPE_BYTES, Magic, Malformed, Put, Reader, Unreadable};
use crate::codec::{begin, claimed_length, open, seal};
use crate::ids::{AttachId, FileId, Lap, Seq};
use crate::journal::record::{JournalKey, PAGE_BYTES, RecordBefore, RecordHead};
use crate::journal::record::{count_of, kind_of, put_before, put_body, read_before, read_body};
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

/// Bytes of an index before its records, and some to spare.
const HEAD_BYTES: u64 = ENVELOPE_BYTES as u64 + 96;

/// Bytes of an index that a page of the file may claim on average. A write takes at most so many per page (one of a single
/// piece: 48, and it has two pages), a hole of one extent 40. Only many extents or long attributes take more.
const BYTES_PER_PAGE: u64 = 48;

/// Pages of a file of so many bytes that records may use. The index begins at the first page behind them.
///
/// At least one page is reserved; of the 16,384 of 64 MiB it is 193.
pub const fn data_pages(file_bytes: u64) -> u32 {
    let pages = file_bytes / PAGE_BYTES as u64;
    let index = HEAD_BYTES + pages * BYTES_PER_PAGE;
    // A journal file has fewer than 2^32 pages.
    pages.saturating_sub(index.div_ceil(PAGE_BYTES as u64)) as u32
}

/// Bytes at the end of a file that its index may fill: from page [`data_pages`] on.
pub const fn reserved_bytes(file_bytes: u64) -> u64 {
    file_bytes - data_pages(file_bytes) as u64 * PAGE_BYTES as u64
}

/// The index as bytes; `None` when they are more than `room` ([`reserved_bytes`]): then none is written, and a restart scans
/// the file, which is slower and finds the same.
///
/// Panics when a record is of another file or lap.
pub fn emit(index: &FileIndex, key: &JournalKey, room: u64) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    begin(&mut out);
    out.put_u64(index.file.0);
    out.put_u64(index.lap.0);
    out.put_u64(index.durable.0);
    out.put_count(index.records.len());
    out.put_u32(0);
    let mut last: Option<&RecordHead> = None;
    for record in &index.records {
        assert!(
            (record.file, record.lap) == (index.file, index.lap),
            "a record of another file or lap in an index"
        );
        put_record(&mut out, record, last);
        last = Some(record);
    }
    if out.len() as u64 > room {
        return None;
    }
    seal(&mut out, Magic::INDEX, key.seed());
    Some(out)
}

/// The length that the index beginning with these bytes claims; `None` when they begin no index.
pub fn length(bytes: &[u8]) -> Option<u32> {
    claimed_length(bytes, Magic::INDEX)
}

/// Reads the index of that file; what lies behind it is not looked at.
///
/// # Errors
///
/// Anything but an index that [`emit`] made for this file under this key.
pub fn parse(bytes: &[u8], file: FileId, key: &JournalKey) -> Result<FileIndex, Unreadable> {
    let mut fields = open(bytes, Magic::INDEX, key.seed())?;
    if fields.u64()? != file.0 {
        return Err(Malformed::Misplaced.into());
    }
    let (lap, durable) = (Lap(fields.u64()?), Seq(fields.u64()?));
    let count = fields.count(RECORD_BYTES_MIN)?;
    fields.zeros(4)?;
    let mut index = FileIndex {
        file,
        lap,
        durable,
        records: Vec::with_capacity(count),
    };
    for _ in 0..count {
        let record = read_record(&mut fields, &index)?;
        index.records.push(record);
    }
    fields.end()?;
    Ok(index)
}

/// Bytes of the shortest record in an index: a void.
const RECORD_BYTES_MIN: usize = 24;

/// The attach id differs from the record's before, and stands here.
const OWN_ATTACH: u8 = 1;
/// `before` is not what the list says, and stands here.
const OWN_BEFORE: u8 = 2;
/// `before` is the record before it in the list.
const LISTED_BEFORE: u8 = 4;

/// What `before` is when nothing came between two records of the list.
fn listed(last: &RecordHead) -> RecordBefore {
    RecordBefore {
        seq: last.seq,
        extents: last.body.extents(),
    }
}

fn put_record(out: &mut Vec<u8>, record: &RecordHead, last: Option<&RecordHead>) {
    let attach = last.map_or_else(AttachId::default, |last| last.attach);
    let own_attach = (record.attach != attach).then_some(record.attach);
    let own_before = record
        .before
        .as_ref()
        .filter(|before| last.is_none_or(|last| **before != listed(last)));
    out.put_u64(record.seq.0);
    out.put_u64(record.durable.0);
    out.put_u32(record.page);
    out.put_u8(kind_of(&record.body));
    out.put_u8(
        match (&record.before, own_before) {
            (None, _) => 0,
            (Some(_), None) => LISTED_BEFORE,
            (Some(_), Some(_)) => OWN_BEFORE,
        } | if own_attach.is_some() { OWN_ATTACH } else { 0 },
    );
    out.put_u16(count_of(&record.body));
    if let Some(attach) = own_attach {
        out.put_attach(attach);
    }
    put_body(out, &record.body);
    if let Some(before) = own_before {
        put_before(out, before);
    }
}

fn read_record(fields: &mut Reader<'_>, index: &FileIndex) -> Result<RecordHead, Malformed> {
    let last = index.records.last();
    let (seq, durable, page) = (Seq(fields.u64()?), Seq(fields.u64()?), fields.u32()?);
    let (kind, flags, count) = (fields.u8()?, fields.u8()?, fields.u16()?);
    let last_attach = last.map_or_else(AttachId::default, |last| last.attach);
    let attach = match flags & OWN_ATTACH {
        0 => last_attach,
        _ => fields.attach()?,
    };
    let body = read_body(fields, kind, count)?;
    let before = match (flags & !OWN_ATTACH, last) {
        (0, _) => None,
        (OWN_BEFORE, _) => Some(read_before(fields)?),
        (LISTED_BEFORE, Some(last)) => Some(listed(last)),
        _ => return Err(Malformed::Value("record flags")),
    };
    // What the list says already is not said again.
    let is_told_twice = flags & OWN_ATTACH != 0 && attach == last_attach
        || flags & OWN_BEFORE != 0 && before == last.map(listed);
    if is_told_twice {
        return Err(Malformed::Value("record flags"));
    }
    Ok(RecordHead {
        seq,
        durable,
        attach,
        file: index.file,
        lap: index.lap,
        page,
        body,
        before,
    })
}

#[cfg(test)]
mod tests;
