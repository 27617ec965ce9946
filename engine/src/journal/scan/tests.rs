use super::*;
use crate::ids::{AttachId, Lap, Seq};
use crate::journal::record::tests::{FILE, key};
use crate::journal::record::{RecordBody, RecordHead, emit};
use crate::units::Extent;
use alloc::vec;
use proptest::collection::vec as vec_of;
use proptest::prelude::*;

const PAGES: u32 = 32;
const BYTES: u64 = PAGES as u64 * 4096;

/// A file in memory; pages in `unreadable` give an error.
struct Disk {
    bytes: Vec<u8>,
    unreadable: Vec<u32>,
}

impl Disk {
    fn new() -> Self {
        Self {
            bytes: vec![0; BYTES as usize],
            unreadable: Vec::new(),
        }
    }

    fn range(&self, at: u64, len: usize) -> Option<&[u8]> {
        let pages = (at / 4096) as u32..(at + len as u64).div_ceil(4096) as u32;
        let is_bad = self.unreadable.iter().any(|page| pages.contains(page));
        (!is_bad).then(|| &self.bytes[at as usize..at as usize + len])
    }

    fn scan(&mut self) -> Scanned {
        scan(self, FILE, &key(), BYTES)
    }
}

impl PageSource for Disk {
    fn read(&mut self, at: u64, into: &mut [u8]) -> bool {
        let found = self.range(at, into.len());
        found.inspect(|bytes| into.copy_from_slice(bytes)).is_some()
    }

    fn has_sum(&mut self, at: u64, len: u32, sum: Sum) -> bool {
        let found = self.range(at, len as usize);
        found.is_some_and(|bytes| Sum(crc32c::crc32c(bytes)) == sum)
    }
}

/// A record as its pages, first the head's.
#[derive(Clone, Debug)]
struct Written {
    head: RecordHead,
    pages: Vec<Vec<u8>>,
}

/// Records of 512-byte blocks from page 0 on, as many as fit; `sizes` in blocks, 0 = a void.
fn lap(lap: u64, sizes: &[u16]) -> Vec<Written> {
    let mut page = 0;
    let mut records: Vec<Written> = Vec::new();
    for (n, size) in (0_u64..).zip(sizes) {
        let data: Vec<u8> = (0..usize::from(*size) * 512)
            .map(|i| (i as u64 + lap * 8 + n * 7) as u8)
            .collect();
        let pages = 1 + (data.len() as u32).div_ceil(4096);
        if page + pages > data_pages(BYTES) {
            break;
        }
        let body = if *size == 0 {
            RecordBody::Void
        } else {
            let sums = data
                .chunks(4096)
                .map(|piece| Sum(crc32c::crc32c(piece)))
                .collect();
            RecordBody::Write {
                extent: Extent::new(n * 1024, u64::from(*size)),
                sums,
            }
        };
        let head = RecordHead {
            seq: Seq(lap * 100 + n),
            durable: Seq(0),
            attach: AttachId::default(),
            file: FILE,
            lap: Lap(lap),
            page,
            body,
            before: None,
        };
        let mut bytes = emit(&head, data.len() as u32, &key()).to_vec();
        bytes.extend_from_slice(&data);
        bytes.resize(pages as usize * 4096, 0);
        let pages_of = bytes.chunks(4096).map(<[u8]>::to_vec).collect();
        records.push(Written {
            head,
            pages: pages_of,
        });
        page += pages;
    }
    records
}

fn write(disk: &mut Disk, records: &[Written], mut survives: impl FnMut(u32) -> bool) {
    for record in records {
        for (page, bytes) in (record.head.page..).zip(&record.pages) {
            if survives(page) {
                let at = page as usize * 4096;
                disk.bytes[at..at + 4096].copy_from_slice(bytes);
            }
        }
    }
}

fn seal(disk: &mut Disk, records: &[Written]) {
    let index = FileIndex {
        file: FILE,
        lap: records[0].head.lap,
        durable: Seq(99),
        records: records.iter().map(|record| record.head.clone()).collect(),
    };
    let bytes = index::emit(&index, &key(), reserved_bytes(BYTES)).unwrap();
    let at = BYTES as usize - reserved_bytes(BYTES) as usize;
    disk.bytes[at..at + bytes.len()].copy_from_slice(&bytes);
}

fn found(records: &[Written]) -> Vec<ScannedRecord> {
    let whole = |record: &Written| ScannedRecord {
        head: record.head.clone(),
        bad_pieces: Vec::new(),
    };
    records.iter().map(whole).collect()
}

const SIZES: [u16; 6] = [8, 0, 20, 3, 16, 1];

#[test]
fn an_empty_file_holds_nothing() {
    assert_eq!(Disk::new().scan(), Scanned::default());
}

#[test]
fn a_file_without_index_is_walked() {
    let mut disk = Disk::new();
    let records = lap(1, &SIZES);
    write(&mut disk, &records, |_| true);
    let expected = Scanned {
        lap: Some(Lap(1)),
        index_durable: None,
        records: found(&records),
    };
    assert_eq!(disk.scan(), expected);
}

#[test]
fn a_sealed_file_is_read_from_its_index_alone() {
    let mut disk = Disk::new();
    let records = lap(1, &SIZES);
    write(&mut disk, &records, |page| page == 0);
    seal(&mut disk, &records);
    let expected = Scanned {
        lap: Some(Lap(1)),
        index_durable: Some(Seq(99)),
        records: found(&records),
    };
    assert_eq!(disk.scan(), expected);
}

#[test]
fn the_index_serves_when_page_0_is_damaged() {
    for harm in [
        |disk: &mut Disk| disk.bytes[40] ^= 1,
        |disk: &mut Disk| disk.unreadable.push(0),
    ] {
        let mut disk = Disk::new();
        let records = lap(1, &SIZES);
        write(&mut disk, &records, |_| true);
        seal(&mut disk, &records);
        harm(&mut disk);
        assert_eq!(disk.scan().index_durable, Some(Seq(99)));
        assert_eq!(disk.scan().records, found(&records));
    }
}

#[test]
fn a_damaged_or_unreadable_index_is_no_index() {
    for harm in [
        |disk: &mut Disk| disk.bytes[31 * 4096 + 40] ^= 1,
        |disk: &mut Disk| disk.unreadable.push(31),
    ] {
        let mut disk = Disk::new();
        let records = lap(1, &SIZES);
        write(&mut disk, &records, |_| true);
        seal(&mut disk, &records);
        harm(&mut disk);
        assert_eq!(disk.scan().index_durable, None);
        assert_eq!(disk.scan().records, found(&records));
    }
}

#[test]
fn an_index_of_an_earlier_lap_does_not_hide_the_present_one() {
    let mut disk = Disk::new();
    let (old, new) = (lap(1, &SIZES), lap(2, &[4, 4]));
    write(&mut disk, &old, |_| true);
    seal(&mut disk, &old);
    write(&mut disk, &new, |_| true);
    assert_eq!(
        disk.scan(),
        Scanned {
            lap: Some(Lap(2)),
            index_durable: None,
            records: found(&new)
        }
    );
    // Nor when the first page of the present lap is damaged.
    disk.bytes[40] ^= 1;
    assert_eq!(
        disk.scan(),
        Scanned {
            lap: Some(Lap(2)),
            index_durable: None,
            records: found(&new[1..])
        }
    );
}

#[test]
fn a_new_record_within_the_data_of_an_old_one_is_found() {
    let mut disk = Disk::new();
    write(&mut disk, &lap(1, &[8, 200]), |_| true);
    // Lap 2's head at page 2 did not survive, so that lap 1's is still there; its next one at page 4 did.
    let new = lap(2, &[8, 8, 8]);
    write(&mut disk, &new, |page| page != 2);
    let seqs: Vec<_> = disk
        .scan()
        .records
        .iter()
        .map(|record| record.head.seq.0)
        .collect();
    assert_eq!(seqs, [200, 202]);
}

#[test]
fn guest_data_that_looks_like_a_record_is_not_one() {
    let mut disk = Disk::new();
    let mut records = lap(1, &[24]);
    // A record as a guest could have got hold of it, from another state directory's journal, and with a piece damaged so
    // that the walk goes through the data.
    let foreign = JournalKey::new(crate::ids::VolumeId([5; 16]), [0; 16]);
    let mut forged = lap(9, &[0])[0].head.clone();
    forged.page = 1;
    records[0].pages[1] = emit(&forged, 0, &foreign).to_vec();
    write(&mut disk, &records, |_| true);
    let scanned = disk.scan();
    assert_eq!(scanned.lap, Some(Lap(1)));
    assert_eq!(scanned.records[0].bad_pieces, [0]);
    assert_eq!(scanned.records.len(), 1);
}

#[test]
fn a_copied_head_is_refused_where_it_does_not_belong() {
    let mut disk = Disk::new();
    let records = lap(1, &[0]);
    write(&mut disk, &records, |_| true);
    disk.bytes.copy_within(0..4096, 5 * 4096);
    assert_eq!(disk.scan().records.len(), 1);
}

#[test]
fn a_record_that_would_reach_into_the_index_is_none() {
    let mut disk = Disk::new();
    let mut head = lap(1, &[8])[0].head.clone();
    head.page = 30;
    let page = emit(&head, 4096, &key());
    disk.bytes[30 * 4096..31 * 4096].copy_from_slice(&page);
    assert_eq!(disk.scan(), Scanned::default());
}

proptest! {
    /// Whatever subset of the last lap's pages reached the disk: each head that did is reported, with just those pieces
    /// damaged that did not.
    #[test]
    fn what_survived_is_found(
        old in vec_of(0_u16..60, 0..20),
        new in vec_of(0_u16..60, 1..20),
        survives: [bool; PAGES as usize],
        is_sealed: bool,
    ) {
        let mut disk = Disk::new();
        let (old, new) = (lap(1, &old), lap(2, &new));
        write(&mut disk, &old, |_| true);
        if is_sealed && !old.is_empty() {
            seal(&mut disk, &old);
        }
        // With an index of an earlier lap, a lap counts from when its first page is there.
        let survives = |page: u32| survives[page as usize] || page == 0;
        write(&mut disk, &new, survives);
        let mut expected = Vec::new();
        for record in new.iter().filter(|record| survives(record.head.page)) {
            let lost = |piece: &u32| !survives(record.head.page + 1 + piece);
            let bad_pieces = (0..record.pages.len() as u32 - 1).filter(lost).collect();
            expected.push(ScannedRecord { head: record.head.clone(), bad_pieces });
        }
        let scanned = disk.scan();
        prop_assert_eq!(scanned.lap, Some(Lap(2)));
        prop_assert_eq!(scanned.records, expected);
    }

    #[test]
    fn a_file_of_noise_never_panics(noise in vec_of(any::<u8>(), 0..4096), at in 0_usize..31, index in any::<bool>()) {
        let mut disk = Disk::new();
        let at = if index { 31 } else { at };
        disk.bytes[at * 4096..at * 4096 + noise.len()].copy_from_slice(&noise);
        prop_assert_eq!(disk.scan(), Scanned::default());
    }
}
