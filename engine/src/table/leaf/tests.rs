use super::*;
use crate::codec::tests::{check_envelope_with, check_refusals, resealed};
use crate::ids::{AttachId, Generation, VolumeId};
use crate::table::codec::hash;
use alloc::vec;
use proptest::collection::{btree_map, btree_set, vec as vec_of};
use proptest::prelude::*;

pub(crate) fn attach() -> impl Strategy<Value = AttachId> {
    (0_u64..5, 0_u64..3).prop_map(|(generation, nonce)| AttachId {
        generation: Generation(generation),
        nonce,
    })
}

pub(crate) fn container() -> impl Strategy<Value = Container> {
    ("[a-z0-9]{1,2}", 0_u8..3).prop_map(|(name, id)| Container::new(&name, VolumeId([id; 16])))
}

fn section() -> impl Strategy<Value = SectionRef> {
    (container(), attach(), 0_u64..4, 0_u64..3, any::<u32>()).prop_map(
        |(container, attach, version, first, offset)| SectionRef {
            object: ObjectRef {
                container,
                name: DataName {
                    version: Version(version),
                    first: ChunkIndex(first),
                    last: ChunkIndex(first + 1),
                    attach,
                    serial: version as u32,
                },
            },
            offset,
        },
    )
}

fn grains() -> impl Strategy<Value = GrainSet> {
    prop_oneof![
        btree_set(0_u16..2048, 1..10).prop_map(GrainSet::from_ascending),
        btree_set(0_u16..300, 100..200).prop_map(GrainSet::from_ascending),
        (0_u16..2048, 1_u16..2048)
            .prop_map(|(first, count)| { GrainSet::from_range(first..(first + count).min(2048)) }),
    ]
}

fn layer() -> impl Strategy<Value = Layer> {
    (grains(), section(), 0_u8..4, any::<u8>(), any::<u32>()).prop_map(
        |(grains, section, kind, mask, version)| {
            let masks: Vec<u8> = (0..grains.len())
                .map(|n| mask.wrapping_add(n as u8))
                .collect();
            let kind = match kind {
                0 => LayerKind::Data(section),
                1 => LayerKind::Part { section, masks },
                2 => LayerKind::Hole,
                _ => LayerKind::Lost { masks },
            };
            Layer {
                version: Version(u64::from(version)),
                kind,
                grains,
            }
        },
    )
}

pub(crate) fn leaf() -> impl Strategy<Value = Leaf> {
    let entry = vec_of(layer(), 1..5).prop_map(|layers| Entry { layers });
    (
        0_u64..1 << 40,
        0_u64..1 << 40,
        btree_map(0_u64..256, entry, 0..6),
    )
        .prop_map(|(index, first, entries)| Leaf {
            index: LeafIndex(index),
            entries: entries
                .into_iter()
                .map(|(n, entry)| (ChunkIndex(first + n), entry))
                .collect(),
        })
}

pub(crate) fn small_leaf() -> Leaf {
    let object = ObjectRef {
        container: Container::new("vm01", VolumeId([0xab; 16])),
        name: DataName {
            version: Version(2),
            first: ChunkIndex(256),
            last: ChunkIndex(257),
            attach: AttachId {
                generation: Generation(1),
                nonce: 0x99,
            },
            serial: 5,
        },
    };
    let part = Layer {
        version: Version(2),
        kind: LayerKind::Part {
            section: SectionRef {
                object,
                offset: 4224,
            },
            masks: vec![0xf0, 0x01],
        },
        grains: GrainSet::from_ascending([3, 9]),
    };
    let hole = Layer {
        version: Version(1),
        kind: LayerKind::Hole,
        grains: GrainSet::from_range(0..2048),
    };
    let entry = Entry {
        layers: vec![part, hole],
    };
    Leaf {
        index: LeafIndex(1),
        entries: BTreeMap::from([(ChunkIndex(257), entry)]),
    }
}

proptest! {
    #[test]
    fn a_leaf_reads_as_it_was_written(leaf in leaf()) {
        let bytes = emit(&leaf);
        prop_assert_eq!(bytes.len(), leaf.encoded_len() as usize);
        prop_assert_eq!(bytes.len() % 8, 0);
        prop_assert_eq!(parse(&bytes), Ok(leaf));
    }

    #[test]
    fn a_leaf_has_one_form_only(leaf in leaf(), at in 32_usize..2000, noise: [u8; 4]) {
        let bytes = emit(&leaf);
        let at = at.min(bytes.len() - 4);
        let harmed = resealed(&bytes, |harmed| harmed[at..at + 4].copy_from_slice(&noise));
        if let Ok(leaf) = parse(&harmed) {
            prop_assert_eq!(emit(&leaf), harmed);
        }
    }
}

#[test]
fn every_turned_bit_of_a_leaf_is_seen() {
    check_refusals(&emit(&small_leaf()), 1, parse);
    check_envelope_with(&emit(&small_leaf()), Err(Unreadable::TooNew), parse);
}

#[test]
fn the_bytes_of_a_leaf_are_what_the_format_says() {
    let bytes = emit(&small_leaf());
    let expected: &[&[u8]] = &[
        b"mlt:leaf",
        &[1, 0, 0, 0, 0xc0, 0, 0, 0],
        &[0; 8],
        &[0; 4],
        &bytes[28..32],
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[1, 1, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 1, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[0xab; 16],
        b"\x04vm01\0\0\0",
        &[0, 0, 0, 0, 5, 0, 0, 0],
        &[2, 0, 0, 0, 0, 0, 0, 0],
        &[0, 1, 0, 0, 0, 0, 0, 0],
        &[1, 1, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[0x99, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0, 2, 0, 0, 0, 0, 0],
        &[PART, BITMAP, 2, 0, 2, 0, 0, 0],
        &[0, 0, 0, 0, 0x80, 0x10, 0, 0],
        &[0x08, 0x02, 0xf0, 0x01, 0, 0, 0, 0],
        &[HOLE, RUNS, 1, 0, 1, 0, 0, 0],
        &[0; 8],
        &[0, 0, 0, 8, 0, 0, 0, 0],
    ];
    let expected = expected.concat();
    assert_eq!(bytes, expected, "{bytes:02x?}");
    assert_eq!(alloc::format!("{:?}", hash(&bytes)).len(), 32);
}

#[test]
fn scattered_grains_of_a_whole_leaf_stay_small() {
    let Leaf { index, entries } = small_leaf();
    let mut layer = entries.values().next().unwrap().layers[0].clone();
    let LayerKind::Part { section, .. } = layer.kind else {
        panic!()
    };
    layer.kind = LayerKind::Data(section);
    layer.grains = GrainSet::from_ascending((0..8).map(|n| n * 200));
    let entry = Entry {
        layers: vec![layer; 6],
    };
    let entries = (0..256).map(|n| (ChunkIndex(n), entry.clone())).collect();
    // 256 chunks of 6 layers of 8 grains each: what a cold read has to fetch once.
    assert_eq!(Leaf { index, entries }.encoded_len(), 75_912);
}
