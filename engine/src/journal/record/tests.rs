use super::*;
use crate::codec::tests::check_refusals;
use crate::ids::Generation;
use crate::units::BlockCount;
use crate::units::Geometry;
use proptest::collection::vec;
use proptest::prelude::*;

pub(crate) const FILE: FileId = FileId(3);

pub(crate) fn key() -> JournalKey {
    JournalKey::new(VolumeId([5; 16]), [9; 16])
}

pub(crate) fn extent() -> impl Strategy<Value = Extent> {
    (0_u64..1 << 40, 1_u64..1 << 20).prop_map(|(start, count)| Extent::new(start, count))
}

/// A body, and the bytes of its data.
pub(crate) fn body() -> impl Strategy<Value = (RecordBody, u32)> {
    let write = (0_u64..1 << 40, 1_u64..2048, any::<bool>(), any::<u32>()).prop_map(
        |(start, count, is_small, sum)| {
            let block_bytes = if is_small { 512 } else { 4096 };
            let count = count.min(u64::from(RECORD_BYTES_MAX / block_bytes));
            let extent = Extent::new(start, count);
            let geometry = Geometry::standard(block_bytes, BlockCount(1 << 41));
            let pieces = crate::layers::split::pieces(&geometry, extent);
            let sums = pieces
                .zip(0_u32..)
                .map(|(_, n)| Sum(sum.wrapping_mul(n | 1)))
                .collect();
            (
                RecordBody::Write { extent, sums },
                count as u32 * block_bytes,
            )
        },
    );
    let holes = vec(extent(), 1..=RECORD_EXTENTS_MAX);
    let value = prop_oneof![
        Just(None),
        vec(any::<u8>(), 0..=ATTRIBUTE_VALUE_MAX).prop_map(Some)
    ];
    prop_oneof![
        4 => write,
        1 => holes.prop_map(|extents| (RecordBody::Holes(extents.into()), 0)),
        1 => ("[a-z.]{0,64}", value)
            .prop_map(|(key, value)| (RecordBody::Attribute { key, value }, 0)),
        1 => Just((RecordBody::Void, 0)),
    ]
}

pub(crate) fn head() -> impl Strategy<Value = (RecordHead, u32)> {
    let before =
        (any::<u64>(), vec(extent(), 0..=RECORD_EXTENTS_MAX)).prop_map(|(seq, extents)| {
            RecordBefore {
                seq: Seq(seq),
                extents: extents.into(),
            }
        });
    let fixed = (
        any::<u64>(),
        any::<u64>(),
        any::<u64>(),
        any::<u64>(),
        0_u64..4,
        any::<u32>(),
    );
    (body(), proptest::option::of(before), fixed).prop_map(|((body, data_bytes), before, n)| {
        let head = RecordHead {
            seq: Seq(n.0),
            durable: Seq(n.1),
            attach: AttachId {
                generation: Generation(n.2),
                nonce: n.3,
            },
            file: FILE,
            lap: Lap(n.4),
            page: n.5,
            body,
            before,
        };
        (head, data_bytes)
    })
}

fn small_head() -> RecordHead {
    RecordHead {
        seq: Seq(0x11),
        durable: Seq(0x10),
        attach: AttachId {
            generation: Generation(2),
            nonce: 0x0102_0304_0506_0708,
        },
        file: FILE,
        lap: Lap(4),
        page: 6,
        body: RecordBody::Write {
            extent: Extent::new(7, 2),
            sums: [Sum(0xaabb_ccdd), Sum(0x1122_3344)].into_iter().collect(),
        },
        before: Some(RecordBefore {
            seq: Seq(0x10),
            extents: [Extent::new(1, 1)].into_iter().collect(),
        }),
    }
}

proptest! {
    #[test]
    fn a_head_reads_as_it_was_written((head, data_bytes) in head()) {
        let page = emit(&head, data_bytes, &key());
        let parsed = parse(&page, FILE, &key()).unwrap();
        let lengths: u32 = parsed.pieces().map(|(len, _)| len).sum();
        prop_assert_eq!(lengths, data_bytes);
        prop_assert!(parsed.pieces().all(|(len, _)| len <= GRAIN_BYTES));
        prop_assert_eq!(parsed, Parsed { head, data_bytes });
    }

    #[test]
    fn a_page_of_noise_is_no_head(noise in vec(any::<u8>(), 0..4096)) {
        prop_assert!(parse(&noise, FILE, &key()).is_err());
    }

    #[test]
    fn no_field_panics_however_hostile((head, data_bytes) in head(), at in 32_usize..400, noise: [u8; 8]) {
        let mut page = emit(&head, data_bytes, &key());
        let len = u32::from_le_bytes(page[12..16].try_into().unwrap()) as usize;
        page[at..at + 8].copy_from_slice(&noise);
        seal(&mut page[..len], Magic::RECORD, key().seed());
        if let Ok(parsed) = parse(&page, FILE, &key()) {
            prop_assert_eq!(parsed.pieces().map(|(len, _)| len).sum::<u32>(), parsed.data_bytes);
            prop_assert!(parsed.pages() <= 257);
            let again = emit(&parsed.head, parsed.data_bytes, &key());
            prop_assert_eq!(&again[..len], &page[..len]);
        }
    }
}

#[test]
fn every_turned_bit_of_a_head_is_seen() {
    let page = emit(&small_head(), 1024, &key());
    check_refusals(&page[..page_len(&page)], 1, |bytes| {
        parse(bytes, FILE, &key())
    });
}

fn page_len(page: &[u8]) -> usize {
    usize::from(page[12]) | usize::from(page[13]) << 8
}

#[test]
fn a_head_of_another_file_volume_or_secret_is_refused() {
    let page = emit(&small_head(), 1024, &key());
    assert_eq!(
        parse(&page, FileId(4), &key()),
        Err(Malformed::Misplaced.into())
    );
    for other in [
        JournalKey::new(VolumeId([6; 16]), [9; 16]),
        JournalKey::new(VolumeId([5; 16]), [8; 16]),
    ] {
        assert_eq!(parse(&page, FILE, &other), Err(Malformed::Checksum.into()));
    }
}

#[test]
fn a_length_that_is_not_whole_blocks_is_refused() {
    let mut page = emit(&small_head(), 1024, &key());
    let len = page_len(&page);
    for wrong in [0_u32, 512, 1023, 2048, u32::MAX] {
        page[84..88].copy_from_slice(&wrong.to_le_bytes());
        seal(&mut page[..len], Magic::RECORD, key().seed());
        let refused = Malformed::Value("data length").into();
        assert_eq!(parse(&page, FILE, &key()), Err(refused), "{wrong}");
    }
}

#[test]
fn the_bytes_of_a_head_are_what_the_format_says() {
    let page = emit(&small_head(), 1024, &key());
    let expected: &[&[u8]] = &[
        b"mlt:jrec",
        &[1, 0, 0, 0, 0x98, 0, 0, 0],
        &[0; 8],
        &[0; 4],
        &page[28..32],
        &[0x11, 0, 0, 0, 0, 0, 0, 0],
        &[0x10, 0, 0, 0, 0, 0, 0, 0],
        &[2, 0, 0, 0, 0, 0, 0, 0],
        &[8, 7, 6, 5, 4, 3, 2, 1],
        &[3, 0, 0, 0, 0, 0, 0, 0],
        &[4, 0, 0, 0, 0, 0, 0, 0],
        &[6, 0, 0, 0, 0, 4, 0, 0],
        &[1, 1, 2, 0, 0, 0, 0, 0],
        &[7, 0, 0, 0, 0, 0, 0, 0],
        &[2, 0, 0, 0, 0, 0, 0, 0],
        &[0xdd, 0xcc, 0xbb, 0xaa, 0x44, 0x33, 0x22, 0x11],
        &[0x10, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0],
    ];
    let expected = expected.concat();
    assert_eq!(page[..expected.len()], expected);
    assert!(page[expected.len()..].iter().all(|byte| *byte == 0));
}
