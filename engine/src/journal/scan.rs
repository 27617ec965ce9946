//! The scan of a journal file: what is in it, from its index or from its pages.
//!
//! Index  is believed only while page 0 still holds the head that it lists first: a lap begins at page 0, so an index of an
//!        earlier lap, left at the end of a recycled file, is not taken for the present one.
//! Walk   behind a record whose every piece has its sum the next page follows; behind anything else, the next page of the file.
//!        A head with a damaged piece is no reason to jump: a newer lap may have written into its data.
//! Lap    the newest one found is the file's; what older laps left is not reported.

use crate::effect::{Scanned, ScannedRecord};
use crate::ids::FileId;
use crate::journal::index::{self, FileIndex, data_pages, reserved_bytes};
use crate::journal::record::{self, JournalKey, PAGE_BYTES, Parsed};
use crate::sum::Sum;
use alloc::vec::Vec;

/// A journal file as a scan reads it.
pub trait PageSource {
    /// Fills `into` from byte `at`; both are within the file. `false`: it could not be read.
    fn read(&mut self, at: u64, into: &mut [u8]) -> bool;

    /// Whether the `len` bytes from `at` on have this sum; also `false` when they could not be read.
    fn has_sum(&mut self, at: u64, len: u32, sum: Sum) -> bool;
}

/// Everything valid in a file of so many bytes.
pub fn scan(
    source: &mut impl PageSource,
    file: FileId,
    key: &JournalKey,
    file_bytes: u64,
) -> Scanned {
    let index = read_index(source, file, key, file_bytes);
    if let Some(index) = &index {
        let first = index.records.first();
        let found = read_head(source, file, key, file_bytes, 0);
        if first.is_some() && first == found.as_ref().map(|found| &found.head) {
            return from_index(index);
        }
    }
    let walked = walk(source, file, key, file_bytes);
    match index {
        // Page 0 is damaged, and no newer lap has written it.
        Some(index) if walked.lap <= Some(index.lap) => {
            mark!("index-without-its-first-page");
            from_index(&index)
        }
        _ => walked,
    }
}

fn from_index(index: &FileIndex) -> Scanned {
    let record = |head: &record::RecordHead| ScannedRecord {
        head: head.clone(),
        bad_pieces: Vec::new(),
    };
    Scanned {
        lap: Some(index.lap),
        index_durable: Some(index.durable),
        records: index.records.iter().map(record).collect(),
    }
}

fn read_index(
    source: &mut impl PageSource,
    file: FileId,
    key: &JournalKey,
    file_bytes: u64,
) -> Option<FileIndex> {
    let at = u64::from(data_pages(file_bytes)) * u64::from(PAGE_BYTES);
    let reserved = reserved_bytes(file_bytes);
    // The first page says how long the index is: most are much shorter than what is reserved for the worst.
    let mut bytes = alloc::vec![0; reserved.min(u64::from(PAGE_BYTES)) as usize];
    if !source.read(at, &mut bytes) {
        return None;
    }
    let length = u64::from(index::length(&bytes)?);
    if length > reserved {
        return None;
    }
    let have = bytes.len();
    if length > have as u64 {
        bytes.resize(length as usize, 0);
        if !source.read(at + have as u64, &mut bytes[have..]) {
            return None;
        }
    }
    index::parse(&bytes, file, key).ok()
}

/// The head at a page, if there is a good one whose data ends within the pages for records.
fn read_head(
    source: &mut impl PageSource,
    file: FileId,
    key: &JournalKey,
    file_bytes: u64,
    page: u32,
) -> Option<Parsed> {
    let mut bytes = [0; PAGE_BYTES as usize];
    if !source.read(place(page), &mut bytes) {
        return None;
    }
    let parsed = record::parse(&bytes, file, key).ok()?;
    let end = page.checked_add(parsed.pages())?;
    (parsed.head.page == page && end <= data_pages(file_bytes)).then_some(parsed)
}

fn walk(source: &mut impl PageSource, file: FileId, key: &JournalKey, file_bytes: u64) -> Scanned {
    let mut scanned = Scanned::default();
    let mut page = 0;
    while page < data_pages(file_bytes) {
        let Some(parsed) = read_head(source, file, key, file_bytes, page) else {
            page += 1;
            continue;
        };
        let bad_pieces = bad_pieces(source, &parsed, page);
        page += if bad_pieces.is_empty() {
            parsed.pages()
        } else {
            1
        };
        let lap = Some(parsed.head.lap);
        if lap > scanned.lap {
            scanned.lap = lap;
            scanned.records.clear();
        }
        if lap == scanned.lap {
            let head = parsed.head;
            scanned.records.push(ScannedRecord { head, bad_pieces });
        }
    }
    scanned
}

fn bad_pieces(source: &mut impl PageSource, parsed: &Parsed, page: u32) -> Vec<u32> {
    let mut at = place(page + 1);
    let mut bad = Vec::new();
    for (number, (len, sum)) in (0..).zip(parsed.pieces()) {
        if !source.has_sum(at, len, sum) {
            bad.push(number);
        }
        at += u64::from(len);
    }
    bad
}

fn place(page: u32) -> u64 {
    u64::from(page) * u64::from(PAGE_BYTES)
}

#[cfg(test)]
mod tests;
