use super::*;
use crate::codec::tests::{check_envelope, check_refusals, resealed};
use crate::effect::Body;
use crate::ids::{Container, Generation, Version};
use crate::object::draft::GrainDraft;
use crate::object::encode_body;
use crate::object::frame::check;
use crate::object::names::DataName;
use crate::object::tests::{Bytes, Image};
use crate::payload::{Part, Parts};
use crate::sum::Sum;
use crate::table::resolve::frame_expect;
use crate::table::types::{Layer, LayerKind, ObjectRef, SectionRef};
use crate::units::{BlockCount, Geometry};
use proptest::collection::{btree_set, vec as vec_of};
use proptest::prelude::*;

const VOLUME: VolumeId = VolumeId([4; 16]);
const CHUNK_GRAINS: u32 = 64;

fn geometry(frame_grains: u32) -> Geometry {
    Geometry {
        chunk_grains: CHUNK_GRAINS,
        frame_grains,
        ..Geometry::standard(512, BlockCount(1 << 20))
    }
}

/// The bytes of a grain: half of it data, half zeros, so that it is a list of two parts.
fn content(grain: u64) -> Parts<Bytes> {
    let mut parts = Parts::one(Bytes::new(
        (0..2048).map(|i| (i + grain * 31) as u8).collect(),
    ));
    parts.push(Part::Zeros(ByteCount(2048)));
    parts
}

fn object() -> impl Strategy<Value = DataObject<Bytes>> {
    let section = (0_u64..3, btree_set(0_u64..u64::from(CHUNK_GRAINS), 1..40));
    (vec_of(section, 1..5), 1_u32..=16, any::<u32>()).prop_map(
        |(sections, frame_grains, serial)| {
            let sections = (0..).zip(sections).map(|(n, (gap, grains))| {
                let chunk = 4 * n + gap;
                let grains = grains.into_iter().map(|grain| {
                    let index = chunk * u64::from(CHUNK_GRAINS) + grain;
                    GrainDraft {
                        index: GrainIndex(index),
                        content: content(index),
                    }
                });
                SectionDraft {
                    chunk: ChunkIndex(chunk),
                    grains: grains.collect(),
                }
            });
            DataObject {
                volume: VOLUME,
                attach: AttachId {
                    generation: Generation(2),
                    nonce: 8,
                },
                serial,
                frame_grains,
                sections: sections.collect(),
            }
        },
    )
}

fn layer(object: &DataObject<Bytes>, section: &SectionDraft<Bytes>, offset: u32) -> Layer {
    let name = DataName {
        version: Version(1),
        first: object.sections[0].chunk,
        last: object.sections.last().unwrap().chunk,
        attach: object.attach,
        serial: object.serial,
    };
    let first = section.chunk.0 * u64::from(CHUNK_GRAINS);
    Layer {
        version: Version(1),
        kind: LayerKind::Data(SectionRef {
            object: ObjectRef {
                container: Container::new("v", VOLUME),
                name,
            },
            offset,
        }),
        grains: GrainSet::from_ascending(section.grains.iter().map(|g| (g.index.0 - first) as u16)),
    }
}

proptest! {
    /// What a leaf says of a section (its offset and its grains) is enough to find and prove every grain.
    #[test]
    fn every_grain_is_where_the_table_says(object in object()) {
        let planned = layout(&object);
        let mut image = Image::default();
        let receipt = encode_body(&Body::Data(object.clone()), &mut image);
        prop_assert_eq!(receipt.bytes, planned.bytes);
        prop_assert_eq!(image.0.len() as u64, planned.bytes.0);
        let geometry = geometry(object.frame_grains);
        for ((section, offset), sums) in object.sections.iter().zip(&planned.sections).zip(&receipt.sums) {
            let layer = layer(&object, section, *offset);
            let LayerKind::Data(SectionRef { object: ObjectRef { name, .. }, .. }) = &layer.kind else { panic!() };
            let mut seen = Vec::new();
            for frame in 0.. {
                let Some((expect, range)) = frame_expect(&layer, section.chunk, frame, &geometry) else { break };
                let bytes = &image.0[range.start as usize..range.end as usize];
                let found = check(bytes, &expect, VOLUME, name, |b| Sum(crc32c::crc32c(b))).unwrap();
                for (slot, grain) in expect.grains.iter().enumerate() {
                    let at = frame::HEADER_BYTES + slot * 4096;
                    prop_assert_eq!(&bytes[at..at + 4096], &Image::of(&content(grain.0)).0[..]);
                }
                seen.extend(found);
            }
            prop_assert_eq!(&seen, sums);
            prop_assert_eq!(sums.len(), section.grains.len());
        }
    }

    #[test]
    fn the_directory_says_what_lies_where(object in object()) {
        let planned = layout(&object);
        let mut image = Image::default();
        encode_body(&Body::Data(object.clone()), &mut image);
        let (_, last) = image.0.split_last_chunk().unwrap();
        let bytes = &image.0[planned.tail as usize..];
        prop_assert_eq!(tail_bytes(*last), Ok(bytes.len() as u32));
        let tail = parse_tail(bytes).unwrap();
        prop_assert_eq!((tail.volume, tail.attach, tail.serial), (object.volume, object.attach, object.serial));
        prop_assert_eq!(tail.frame_grains, object.frame_grains);
        for ((found, section), offset) in tail.sections.iter().zip(&object.sections).zip(planned.sections) {
            prop_assert_eq!((found.chunk, found.offset), (section.chunk, offset));
            let grains = found.grains.iter().map(|grain| found.first.0 + u64::from(grain));
            prop_assert!(grains.eq(section.grains.iter().map(|grain| grain.index.0)));
        }
        prop_assert_eq!(emit_tail(&tail), bytes);
    }

    #[test]
    fn a_hostile_directory_never_panics(object in object(), at in 32_usize..400, noise: [u8; 4]) {
        let bytes = tail_of(&object, &layout(&object).sections);
        let at = at.min(bytes.len() - 4);
        let harmed = resealed(&bytes, |bytes| bytes[at..at + 4].copy_from_slice(&noise));
        if let Ok(tail) = parse_tail(&harmed) {
            prop_assert_eq!(emit_tail(&tail), harmed);
        }
    }
}

fn small_tail() -> Tail {
    Tail {
        volume: VOLUME,
        attach: AttachId {
            generation: Generation(2),
            nonce: 8,
        },
        serial: 6,
        frame_grains: 16,
        sections: [TailSection {
            chunk: ChunkIndex(1),
            offset: 0,
            first: GrainIndex(2050),
            grains: GrainSet::from_ascending([0, 1, 7]),
        }]
        .into(),
    }
}

#[test]
fn every_turned_bit_of_a_directory_is_seen() {
    check_refusals(&emit_tail(&small_tail()), 1, parse_tail);
    check_envelope(&emit_tail(&small_tail()), parse_tail);
}

#[test]
fn the_bytes_of_a_directory_are_what_the_format_says() {
    let bytes = emit_tail(&small_tail());
    let expected: &[&[u8]] = &[
        &bytes[..32],
        &[4; 16],
        &[2, 0, 0, 0, 0, 0, 0, 0],
        &[8, 0, 0, 0, 0, 0, 0, 0],
        &[6, 0, 0, 0, 16, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[2, 8, 0, 0, 0, 0, 0, 0],
        &[0, 0, 0, 0, 0, 0, 2, 0],
        &[0, 0, 2, 0, 7, 0, 1, 0],
        &[0x78, 0, 0, 0],
        b"mlt<",
    ];
    assert_eq!(bytes, expected.concat());
}

#[test]
#[should_panic(expected = "grains ascend")]
fn grains_that_do_not_ascend_are_a_bug() {
    let grain = |index| GrainDraft {
        index: GrainIndex(index),
        content: content(index),
    };
    let object = DataObject {
        volume: VOLUME,
        attach: AttachId::default(),
        serial: 0,
        frame_grains: 16,
        sections: [SectionDraft {
            chunk: ChunkIndex(0),
            grains: [grain(3), grain(2)].into(),
        }]
        .into(),
    };
    let _ = layout(&object);
}
