use super::*;
use crate::codec::tests::{check_envelope, check_refusals};
use crate::ids::{Generation, Version};
use crate::units::GrainIndex;
use proptest::collection::vec as vec_of;
use proptest::prelude::*;

const VOLUME: VolumeId = VolumeId([4; 16]);

fn crc32c(bytes: &[u8]) -> Sum {
    Sum(crc32c::crc32c(bytes))
}

fn name() -> DataName {
    DataName {
        version: Version(1),
        first: ChunkIndex(2),
        last: ChunkIndex(2),
        attach: AttachId {
            generation: Generation(3),
            nonce: 0x77,
        },
        serial: 6,
    }
}

fn expect(grains: &[u64]) -> FrameExpect {
    FrameExpect {
        chunk: ChunkIndex(2),
        frame: 1,
        grains: grains.iter().map(|grain| GrainIndex(*grain)).collect(),
    }
}

fn frame(grains: &[u64]) -> Vec<u8> {
    let data: Vec<Vec<u8>> = grains
        .iter()
        .map(|grain| (0..4096).map(|i| (i ^ *grain) as u8).collect())
        .collect();
    let sums = data
        .iter()
        .zip(grains)
        .map(|(data, grain)| crc32c(data).bind(VOLUME, GrainIndex(*grain)));
    let header = FrameHeader {
        attach: name().attach,
        chunk: ChunkIndex(2),
        serial: 6,
        frame: 1,
        sums: sums.collect(),
    };
    [emit(&header).to_vec(), data.concat()].concat()
}

#[test]
fn a_frame_is_read_where_it_belongs() {
    let bytes = frame(&[70, 75]);
    let sums = check(&bytes, &expect(&[70, 75]), VOLUME, &name(), crc32c).unwrap();
    assert_eq!(sums, parse(&bytes).unwrap().sums);
    assert_eq!(bytes.len(), frame_bytes(2));
}

#[test]
fn a_frame_is_refused_where_it_does_not_belong() {
    let bytes = frame(&[70, 75]);
    let misplaced = Err(Malformed::Misplaced.into());
    let checksum = Err(Malformed::Checksum.into());
    let good = expect(&[70, 75]);
    let with =
        |expect: &FrameExpect, volume, name: DataName| check(&bytes, expect, volume, &name, crc32c);
    assert_eq!(
        with(
            &FrameExpect {
                chunk: ChunkIndex(3),
                ..good.clone()
            },
            VOLUME,
            name()
        ),
        misplaced
    );
    assert_eq!(
        with(
            &FrameExpect {
                frame: 0,
                ..good.clone()
            },
            VOLUME,
            name()
        ),
        misplaced
    );
    assert_eq!(
        with(
            &good,
            VOLUME,
            DataName {
                serial: 7,
                ..name()
            }
        ),
        misplaced
    );
    let other = AttachId {
        nonce: 0x78,
        ..name().attach
    };
    assert_eq!(
        with(
            &good,
            VOLUME,
            DataName {
                attach: other,
                ..name()
            }
        ),
        misplaced
    );
    assert_eq!(with(&good, VolumeId([5; 16]), name()), checksum);
    assert_eq!(with(&expect(&[70, 76]), VOLUME, name()), checksum);
    assert_eq!(
        with(&expect(&[70]), VOLUME, name()),
        Err(Malformed::Short.into())
    );
}

#[test]
fn frames_one_behind_another_are_all_checked() {
    let mut bytes = [frame(&[70, 75]), frame(&[80])].concat();
    let expects = [expect(&[70, 75]), expect(&[80])];
    let read = |bytes: &[u8]| check_all(bytes, &expects, VOLUME, &name(), crc32c);
    let checked = read(&bytes).unwrap();
    assert_eq!(checked[0].0, 128..8320);
    assert_eq!(checked[1].0, 8448..12544);
    assert_eq!(
        read(&bytes[..12543]).map(|_| ()),
        Err(Malformed::Short.into())
    );
    bytes.push(0);
    assert_eq!(read(&bytes).map(|_| ()), Err(Malformed::Trailing.into()));
}

#[test]
fn every_turned_bit_of_a_frame_is_seen() {
    let bytes = frame(&[70, 75]);
    check_refusals(&bytes[..HEADER_BYTES], 1, parse);
    check_envelope(&bytes[..HEADER_BYTES], parse);
    let whole = |bytes: &[u8]| check(bytes, &expect(&[70, 75]), VOLUME, &name(), crc32c);
    check_refusals(&bytes, 97, whole);
}

#[test]
fn the_bytes_of_a_frame_header_are_what_the_format_says() {
    let bytes = frame(&[70, 75]);
    let sums = parse(&bytes).unwrap().sums;
    let expected: &[&[u8]] = &[
        b"mlt:fram",
        &[1, 0, 0, 0, 128, 0, 0, 0],
        &[0; 8],
        &[0; 4],
        &bytes[28..32],
        &[3, 0, 0, 0, 0, 0, 0, 0],
        &[0x77, 0, 0, 0, 0, 0, 0, 0],
        &[2, 0, 0, 0, 0, 0, 0, 0],
        &[6, 0, 0, 0, 1, 0, 2, 0],
        &sums[0].0.to_le_bytes(),
        &sums[1].0.to_le_bytes(),
        &[0; 56],
    ];
    assert_eq!(bytes[..HEADER_BYTES], expected.concat());
}

proptest! {
    #[test]
    fn a_header_reads_as_it_was_written(
        generation: u64, nonce: u64, chunk: u64, serial: u32, frame: u16, sums in vec_of(any::<u32>(), 1..=16),
        at in 32_usize..124, noise: [u8; 4],
    ) {
        let header = FrameHeader {
            attach: AttachId { generation: Generation(generation), nonce },
            chunk: ChunkIndex(chunk),
            serial,
            frame,
            sums: sums.into_iter().map(BoundSum).collect(),
        };
        let bytes = emit(&header);
        prop_assert_eq!(parse(&bytes), Ok(header));
        let harmed = crate::codec::tests::resealed(&bytes, |bytes| bytes[at..at + 4].copy_from_slice(&noise));
        if let Ok(header) = parse(&harmed) {
            prop_assert_eq!(emit(&header).to_vec(), harmed);
        }
    }
}
