use super::*;
use crate::codec::tests::{check_envelope_with, check_refusals, resealed};
use crate::ids::{AttachId, Generation, VolumeId};
use crate::object::names::RootName;
use crate::table::leaf::tests::{attach, container, leaf, small_leaf};
use crate::table::types::Leaf;
use crate::units::Geometry;
use proptest::collection::{btree_map, vec as vec_of};
use proptest::prelude::*;

fn name() -> impl Strategy<Value = RootName> {
    (any::<u64>(), attach()).prop_map(|(version, attach)| RootName {
        version: Version(version),
        attach,
    })
}

fn lists(root: Root) -> impl Strategy<Value = Root> {
    let snapshot = (name(), any::<u64>(), any::<u64>(), "[a-z-]{1,63}").prop_map(
        |(root, created, wish, name)| SnapshotEntry {
            name,
            root,
            created: WallTime(created),
            wish: WishKey(wish),
            capacity: BlockCount(wish >> 1),
        },
    );
    let pin = (name(), container()).prop_map(|(root, child)| Pin { child, root });
    let dying = (name(), any::<u64>()).prop_map(|(root, n)| Dying {
        root,
        since: WallTime(n),
    });
    let loss = (attach(), any::<u64>(), any::<u64>(), "[a-z.]{0,63}").prop_map(
        |(lost, base, at, host)| AcceptedLoss {
            lost,
            host,
            base: Version(base),
            at: WallTime(at),
        },
    );
    let attributes = btree_map("[a-z.]{0,64}", vec_of(any::<u8>(), 0..100), 0..4);
    (
        vec_of(snapshot, 0..3),
        vec_of(pin, 0..3),
        vec_of(dying, 0..3),
        attributes,
        vec_of(loss, 0..3),
    )
        .prop_map(move |(snapshots, pins, dying, attributes, losses)| Root {
            snapshots,
            pins,
            dying,
            attributes,
            losses,
            ..root.clone()
        })
}

fn leaf_ref() -> impl Strategy<Value = LeafRef> {
    let home = (name(), any::<bool>(), 0_u32..3).prop_map(|(name, is_root, serial)| {
        // Not the root under test: its generation is above those drawn.
        if is_root {
            LeafHome::Root(name)
        } else {
            LeafHome::Leaves(LeavesName {
                version: name.version,
                attach: name.attach,
                serial,
            })
        }
    });
    (
        proptest::option::of(container()),
        home,
        any::<u32>(),
        any::<u32>(),
        any::<[u8; 16]>(),
    )
        .prop_map(|(container, home, offset, len, hash)| LeafRef {
            container,
            home,
            offset,
            len,
            hash: Hash(hash),
        })
}

/// A root whose references to its riding leaves are still missing.
pub(crate) fn root() -> impl Strategy<Value = Root> {
    let parent = proptest::option::of((name(), any::<[u8; 16]>().prop_map(Hash)));
    let refs = btree_map((0_u64..20).prop_map(LeafIndex), leaf_ref(), 0..8);
    let riding = btree_map((0_u64..20).prop_map(LeafIndex), leaf(), 0..3);
    (parent, refs, riding, 0_u8..5, any::<[u64; 4]>()).prop_flat_map(
        |(parent, leaves, riding, kind, n)| {
            let riding = riding
                .into_iter()
                .map(|(index, leaf)| (index, Arc::new(Leaf { index, ..leaf })));
            lists(Root {
                parent,
                leaves,
                riding: riding.collect(),
                kind: kind_of(kind).unwrap(),
                ordinal: n[0],
                cut: Seq(n[1]),
                created: WallTime(n[2]),
                ..small_root()
            })
        },
    )
}

fn small_root() -> Root {
    Root {
        container: Container::new("vm01", VolumeId([0xab; 16])),
        geometry: Geometry::standard(512, BlockCount(0x0100_0000)),
        name: RootName {
            version: Version(2),
            attach: AttachId {
                generation: Generation(9),
                nonce: 0x99,
            },
        },
        ordinal: 3,
        parent: None,
        kind: RootKind::Checkpoint,
        cut: Seq(77),
        created: WallTime(0x6000_0000),
        snapshots: Vec::new(),
        pins: Vec::new(),
        dying: Vec::new(),
        attributes: BTreeMap::new(),
        losses: Vec::new(),
        leaves: BTreeMap::new(),
        riding: BTreeMap::new(),
    }
}

/// As it is read: with references to what rides.
fn complete(root: Root, emitted: &Emitted) -> Root {
    let leaves = references(&root, &emitted.leaves);
    let leaves = leaves
        .into_iter()
        .map(|(index, leaf)| (index, leaf.into_owned()))
        .collect();
    Root { leaves, ..root }
}

proptest! {
    #[test]
    fn a_root_reads_as_it_was_written(root in root()) {
        let emitted = emit(&root);
        prop_assert_eq!(emitted.hash, hash(&emitted.bytes));
        prop_assert_eq!(emitted.leaves.len(), root.riding.len());
        for (placed, leaf) in emitted.leaves.iter().zip(root.riding.values()) {
            let start = placed.offset as usize;
            let bytes = &emitted.bytes[start..start + placed.len as usize];
            prop_assert_eq!(hash(bytes), placed.hash);
            prop_assert_eq!(leaf::parse(bytes), Ok((**leaf).clone()));
        }
        let read = parse(&emitted.bytes).unwrap();
        prop_assert_eq!(&read, &complete(root, &emitted));
        // Written again as it was read, it is the same object.
        prop_assert_eq!(emit(&read), emitted);
    }

    #[test]
    fn a_root_has_one_form_only(root in root(), at in 32_usize..2000, noise: [u8; 4]) {
        let bytes = emit(&root).bytes;
        let at = at.min(bytes.len() - 4);
        let harmed = resealed(&bytes, |harmed| harmed[at..at + 4].copy_from_slice(&noise));
        if let Ok(root) = parse(&harmed) {
            prop_assert_eq!(emit(&root).bytes, harmed);
        }
    }
}

fn riding_root() -> Root {
    let mut root = small_root();
    root.riding.insert(LeafIndex(1), Arc::new(small_leaf()));
    root
}

#[test]
fn every_turned_bit_of_a_root_is_seen() {
    check_refusals(&emit(&riding_root()).bytes, 1, parse);
}

#[test]
fn the_envelope_of_a_root_is_judged() {
    check_envelope_with(&emit(&small_root()).bytes, Err(Unreadable::TooNew), parse);
}

#[test]
fn a_riding_leaf_of_another_index_is_refused() {
    let mut root = small_root();
    root.riding.insert(LeafIndex(2), Arc::new(small_leaf()));
    assert_eq!(parse(&emit(&root).bytes), Err(Malformed::Misplaced.into()));
}

#[test]
fn hostile_runs_of_leaves_take_no_memory() {
    let mut root = small_root();
    root.leaves.insert(
        LeafIndex(0),
        LeafRef {
            container: None,
            home: LeafHome::Root(RootName {
                version: Version(1),
                ..root.name
            }),
            offset: 0,
            len: 1,
            hash: Hash([1; 16]),
        },
    );
    let bytes = emit(&root).bytes;
    let run = bytes.len() - 32 - 16;
    let harmed = resealed(&bytes, |bytes| {
        bytes[run + 8..run + 16].copy_from_slice(&u64::MAX.to_le_bytes())
    });
    assert_eq!(
        parse(&harmed),
        Err(Malformed::Value("form of the root").into())
    );
    let harmed = resealed(&bytes, |bytes| bytes[run..run + 16].fill(0xff));
    assert_eq!(
        parse(&harmed),
        Err(Malformed::Value("run of leaves").into())
    );
}

#[test]
fn the_bytes_of_a_root_are_what_the_format_says() {
    let emitted = emit(&riding_root());
    let expected: &[&[u8]] = &[
        b"mlt:root",
        &[1, 0, 0, 0, 0xc8, 0x01, 0, 0],
        &[0; 8],
        &[0; 4],
        &emitted.bytes[28..32],
        // Geometry.
        &[0, 2, 0, 0, 0, 8, 0, 0],
        &[0, 1, 0, 0, 16, 0, 0, 0],
        &[0, 0, 0, 1, 0, 0, 0, 0],
        // Name.
        &[2, 0, 0, 0, 0, 0, 0, 0],
        &[9, 0, 0, 0, 0, 0, 0, 0],
        &[0x99, 0, 0, 0, 0, 0, 0, 0],
        // Ordinal, cut, created, kind.
        &[3, 0, 0, 0, 0, 0, 0, 0],
        &[77, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0, 0, 0x60, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0],
        // Counts.
        &[0; 24],
        &[1, 0, 0, 0, 1, 0, 0, 0],
        &[1, 0, 0, 0, 1, 0, 0, 0],
        // Container.
        &[0xab; 16],
        b"\x04vm01\0\0\0",
        // Home: this root.
        &[0, 0, 0, 0, 0, 0, 0, 0],
        &[2, 0, 0, 0, 0, 0, 0, 0],
        &[9, 0, 0, 0, 0, 0, 0, 0],
        &[0x99, 0, 0, 0, 0, 0, 0, 0],
        &[0; 8],
        // Run and reference.
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0, 0, 0, 0x08, 0x01, 0, 0],
        &[0xc0, 0, 0, 0, 0, 0, 0, 0],
        &emitted.leaves[0].hash.0,
        &leaf::emit(&small_leaf()),
    ];
    assert_eq!(emitted.bytes, expected.concat(), "{:02x?}", emitted.bytes);
}

#[test]
fn a_root_costs_what_its_leaves_cost() {
    let mut root = small_root();
    let reference = LeafRef {
        container: None,
        home: LeafHome::Leaves(LeavesName {
            version: Version(1),
            attach: root.name.attach,
            serial: 0,
        }),
        offset: 0,
        len: 1000,
        hash: Hash([1; 16]),
    };
    root.leaves = (0..5)
        .map(|index| (LeafIndex(index), reference.clone()))
        .collect();
    assert_eq!(emit(&root).bytes.len(), 392, "10 GiB");
    // 64 TiB, one chunk in every 500 leaves: sparse.
    root.leaves = (0..32_768)
        .step_by(500)
        .map(|index| (LeafIndex(index), reference.clone()))
        .collect();
    assert_eq!(emit(&root).bytes.len(), 3_384);
    root.leaves = (0..32_768)
        .map(|index| (LeafIndex(index), reference.clone()))
        .collect();
    assert_eq!(emit(&root).bytes.len(), 1_048_808, "64 TiB full");
}

#[test]
#[should_panic(expected = "does not ride")]
fn a_reference_to_what_does_not_ride_here_is_a_bug() {
    let mut root = complete(riding_root(), &emit(&riding_root()));
    root.riding.clear();
    emit(&root);
}
