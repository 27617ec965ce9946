use super::*;
use crate::codec::tests::check_refusals;
use crate::journal::record::RecordBody;
use crate::journal::record::tests::{FILE, body, extent, head, key};
use crate::sum::Sum;
use crate::units::Extent;
use proptest::collection::vec;
use proptest::prelude::*;

fn index() -> impl Strategy<Value = FileIndex> {
    let records = vec((head(), any::<bool>(), any::<bool>()), 0..8);
    (records, any::<u64>(), any::<u64>()).prop_map(|(records, lap, durable)| {
        let mut index = FileIndex {
            file: FILE,
            lap: Lap(lap),
            durable: Seq(durable),
            records: Vec::new(),
        };
        for ((mut head, _), same_attach, is_listed) in records {
            head.lap = index.lap;
            if let Some(last) = index.records.last() {
                head.attach = if same_attach {
                    last.attach
                } else {
                    head.attach
                };
                head.before = if is_listed {
                    Some(listed(last))
                } else {
                    head.before
                };
            }
            index.records.push(head);
        }
        index
    })
}

proptest! {
    #[test]
    fn an_index_reads_as_it_was_written(index in index(), behind in vec(any::<u8>(), 0..20)) {
        let mut bytes = emit(&index, &key(), u64::MAX).unwrap();
        prop_assert_eq!(length(&bytes), Some(bytes.len() as u32));
        prop_assert_eq!(emit(&index, &key(), bytes.len() as u64 - 1), None);
        prop_assert!(emit(&index, &key(), bytes.len() as u64).is_some());
        bytes.extend_from_slice(&behind);
        prop_assert_eq!(parse(&bytes, FILE, &key()), Ok(index));
        prop_assert!(parse(&bytes, FileId(77), &key()).is_err());
    }

    #[test]
    fn noise_behind_a_good_checksum_is_refused_or_an_index(index in index(), at in 32_usize..300, noise: [u8; 8]) {
        let mut bytes = emit(&index, &key(), u64::MAX).unwrap();
        let at = at.min(bytes.len() - 8);
        bytes[at..at + 8].copy_from_slice(&noise);
        seal(&mut bytes, Magic::INDEX, key().seed());
        let _ = parse(&bytes, FILE, &key());
    }

    /// Files of writes with one extent each: whatever their lengths, the reserved space holds their index.
    #[test]
    fn writes_fit_into_what_is_reserved(bodies in vec((body(), extent()), 1..80), start in 0_u64..8) {
        let mut index = FileIndex { file: FILE, lap: Lap(1), durable: Seq(0), records: Vec::new() };
        let mut page = 0;
        for ((body, data_bytes), extent) in bodies {
            let body = if let RecordBody::Write { .. } = body { body } else {
                RecordBody::Holes([extent].into_iter().collect())
            };
            let last = index.records.last().map(listed);
            let head = RecordHead {
                seq: Seq(start), durable: Seq(start), attach: AttachId { nonce: 1, ..AttachId::default() }, file: FILE, lap: Lap(1), page, body, before: last,
            };
            page += crate::journal::record::pages(data_bytes);
            index.records.push(head);
        }
        let mut file_pages = u64::from(page);
        while u64::from(data_pages(file_pages * 4096)) < u64::from(page) {
            file_pages += 1;
        }
        prop_assert!(emit(&index, &key(), reserved_bytes(file_pages * 4096)).is_some());
    }
}

fn small_index() -> FileIndex {
    let body = RecordBody::Write {
        extent: Extent::new(8, 8),
        sums: [Sum(1)].into_iter().collect(),
    };
    let attach = AttachId {
        nonce: 9,
        ..AttachId::default()
    };
    let first = RecordHead {
        seq: Seq(1),
        durable: Seq(0),
        attach,
        file: FILE,
        lap: Lap(2),
        page: 0,
        body,
        before: None,
    };
    let second = RecordHead {
        seq: Seq(2),
        page: 2,
        body: RecordBody::Void,
        before: Some(listed(&first)),
        ..first.clone()
    };
    FileIndex {
        file: FILE,
        lap: Lap(2),
        durable: Seq(2),
        records: [first, second].into(),
    }
}

#[test]
fn every_turned_bit_of_an_index_is_seen() {
    let bytes = emit(&small_index(), &key(), 4096).unwrap();
    check_refusals(&bytes, 1, |bytes| parse(bytes, FILE, &key()));
}

#[test]
fn the_bytes_of_an_index_are_what_the_format_says() {
    let bytes = emit(&small_index(), &key(), 4096).unwrap();
    let expected: &[&[u8]] = &[
        &bytes[..32],
        &[3, 0, 0, 0, 0, 0, 0, 0],
        &[2, 0, 0, 0, 0, 0, 0, 0],
        &[2, 0, 0, 0, 0, 0, 0, 0],
        &[2, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[0; 8],
        &[0, 0, 0, 0, 1, OWN_ATTACH, 1, 0],
        &[0; 8],
        &[9, 0, 0, 0, 0, 0, 0, 0],
        &[8, 0, 0, 0, 0, 0, 0, 0],
        &[8, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[2, 0, 0, 0, 0, 0, 0, 0],
        &[0; 8],
        &[2, 0, 0, 0, 4, LISTED_BEFORE, 0, 0],
    ];
    assert_eq!(bytes, expected.concat());
}

#[test]
fn little_of_a_file_is_reserved() {
    assert_eq!(data_pages(16 * 4096), 15);
    assert_eq!(data_pages(32 * 4096), 31);
    assert_eq!(data_pages(64 << 20), 16_384 - 193);
    assert_eq!(reserved_bytes(64 << 20), 193 * 4096);
    assert_eq!(data_pages(0), 0);
    assert_eq!(reserved_bytes(4096), 4096);
}

#[test]
#[should_panic(expected = "another file or lap")]
fn a_record_of_another_lap_is_no_part_of_an_index() {
    let mut index = small_index();
    index.records[1].lap = Lap(1);
    emit(&index, &key(), 4096);
}
