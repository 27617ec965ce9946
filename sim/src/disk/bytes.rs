//! A journal file as the engine's scan reads it: bytes that the engine's own codec makes of the typed pages.
//!
//! The scan reads heads and the index as bytes; of data it only asks whether a piece has its sum, which stamps answer. So
//! recovery runs the scan that ships, in every seed.

use super::{Damage, File, PAGE, Page};
use crate::choice::mix;
use crate::payload::Summing;
use engine::ids::FileId;
use engine::journal::index::{self, FileIndex};
use engine::journal::record::{self, JournalKey, PAGE_BYTES, RecordBody, RecordHead};
use engine::journal::scan::PageSource;
use engine::sum::Sum;
use std::sync::Arc;

/// The bytes of a file.
pub(super) struct Bytes<'a> {
    file: &'a File,
    unit: u32,
    summing: Summing,
    key: &'a JournalKey,
    // The index that was emitted last: its pages come one by one.
    index: Option<(Arc<FileIndex>, Vec<u8>)>,
}

impl<'a> Bytes<'a> {
    pub(super) const fn new(
        file: &'a File,
        unit: u32,
        summing: Summing,
        key: &'a JournalKey,
    ) -> Self {
        Self {
            file,
            unit,
            summing,
            key,
            index: None,
        }
    }

    // A page's bytes; `None`: it cannot be read.
    fn page(&mut self, number: u32) -> Option<[u8; PAGE as usize]> {
        let damage = self.file.damage.get(&number);
        let held = match damage {
            Some(Damage::Latent) => return None,
            Some(Damage::Other(other)) => other,
            Some(Damage::Rot) | None => self.file.cached.get(number as usize)?,
        };
        let mut bytes = match held {
            Page::Head(head) => record::emit(head, data_bytes(head, self.unit), self.key),
            Page::Index(index, n) => self.index_page(index, *n),
            Page::Zero => [0; PAGE as usize],
            // Stamps are no head: what they expand to has no magic number.
            Page::Block(_) | Page::Blocks(_) => [0xda; PAGE as usize],
            Page::Slot(_) => [0x5c; PAGE as usize],
            Page::Garbage(n) => std::array::from_fn(|i| mix(*n, i as u64) as u8),
        };
        if damage == Some(&Damage::Rot) {
            let bit = mix(u64::from(number), self.file.writes) % (8 * PAGE);
            bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
        Some(bytes)
    }

    fn index_page(&mut self, index: &Arc<FileIndex>, number: u32) -> [u8; PAGE as usize] {
        let is_known = (self.index.as_ref()).is_some_and(|(known, _)| Arc::ptr_eq(known, index));
        if !is_known {
            let bytes = index::emit(index, self.key, u64::MAX).unwrap_or_default();
            self.index = Some((index.clone(), bytes));
        }
        let all = self.index.as_ref().map_or(&[][..], |(_, bytes)| bytes);
        let from = all.len().min(number as usize * PAGE as usize);
        let part = &all[from..all.len().min(from + PAGE as usize)];
        let mut page = [0; PAGE as usize];
        page[..part.len()].copy_from_slice(part);
        page
    }
}

impl PageSource for Bytes<'_> {
    fn read(&mut self, at: u64, into: &mut [u8]) -> bool {
        let mut done = 0;
        while done < into.len() {
            let from = at + done as u64;
            let Some(page) = self.page((from / PAGE) as u32) else {
                return false;
            };
            let page = &page[(from % PAGE) as usize..];
            let len = page.len().min(into.len() - done);
            into[done..done + len].copy_from_slice(&page[..len]);
            done += len;
        }
        true
    }

    fn has_sum(&mut self, at: u64, len: u32, sum: Sum) -> bool {
        let mut stamps = Vec::new();
        self.file.read(at, u64::from(len), self.unit, &mut stamps)
            && self.summing.piece(self.unit, &stamps) == sum
    }
}

fn data_bytes(head: &RecordHead, unit: u32) -> u32 {
    match &head.body {
        RecordBody::Write { extent, .. } => extent.count.0 as u32 * unit,
        RecordBody::Holes(_) | RecordBody::Attribute { .. } | RecordBody::Void => 0,
    }
}

/// The pages of an index in a file of so many pages, and the first of them; `None` when it has no room.
pub(super) fn index_pages(
    index: &Arc<FileIndex>,
    key: &JournalKey,
    file_pages: usize,
) -> Option<(u32, Vec<Page>)> {
    let file_bytes = file_pages as u64 * PAGE;
    let bytes = index::emit(index, key, index::reserved_bytes(file_bytes))?;
    assert_eq!(
        index::parse(&bytes, index.file, key).as_ref(),
        Ok(&**index),
        "an index that does not come back from its bytes"
    );
    let pages = (bytes.len() as u32).div_ceil(PAGE_BYTES);
    let pages = (0..pages).map(|n| Page::Index(index.clone(), n)).collect();
    Some((index::data_pages(file_bytes), pages))
}

/// What the engine's scan finds in a file.
pub(super) fn scan(
    id: FileId,
    file: &File,
    unit: u32,
    summing: Summing,
    key: &JournalKey,
) -> engine::effect::Scanned {
    let mut bytes = Bytes::new(file, unit, summing, key);
    engine::journal::scan::scan(&mut bytes, id, key, file.cached.len() as u64 * PAGE)
}
