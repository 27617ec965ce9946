use super::*;
use crate::codec::tests::{check_envelope, check_refusals, resealed};
use crate::effect::Token;
use crate::ids::{AttachId, Generation, Holder, StateDirId, Version, VolumeId};
use crate::object::names::{LeavesName, RootName};
use crate::payload::Part;
use crate::table::leaf::tests::{container, leaf};
use crate::table::root::tests::root;
use crate::table::types::{Superblock, VolumeKind};
use crate::time::WallTime;
use crate::units::{BlockCount, Geometry};
use core::ops::Range;
use proptest::collection::vec as vec_of;
use proptest::prelude::*;

/// Bytes as the engine's tests carry them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bytes(Arc<Vec<u8>>, Range<usize>);

impl Bytes {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let all = 0..bytes.len();
        Self(Arc::new(bytes), all)
    }
}

impl Payload for Bytes {
    fn len(&self) -> ByteCount {
        ByteCount(self.1.len() as u64)
    }
    fn slice(&self, range: Range<u64>) -> Self {
        let start = self.1.start;
        Self(
            self.0.clone(),
            start + range.start as usize..start + range.end as usize,
        )
    }
}

/// A whole object in memory.
#[derive(Default, Debug, PartialEq)]
pub(crate) struct Image(pub(crate) Vec<u8>);

impl Image {
    pub(crate) fn of(parts: &Parts<Bytes>) -> Self {
        let mut image = Self::default();
        image.put_content(parts);
        image
    }
}

impl Target<Bytes> for Image {
    fn sum(&mut self, content: &Parts<Bytes>) -> Sum {
        Sum(crc32c::crc32c(&Self::of(content).0))
    }
    fn put(&mut self, bytes: Vec<u8>) {
        self.0.extend(bytes);
    }
    fn put_content(&mut self, content: &Parts<Bytes>) {
        for part in &content.0 {
            match part {
                Part::Data(Bytes(bytes, range)) => self.0.extend(&bytes[range.clone()]),
                Part::Zeros(count) => self.0.resize(self.0.len() + count.0 as usize, 0),
            }
        }
    }
}

fn encode(body: Body<Bytes>) -> (Vec<u8>, Receipt) {
    let mut image = Image::default();
    let receipt = encode_body(&body, &mut image);
    assert_eq!(receipt.bytes.0, image.0.len() as u64);
    (image.0, receipt)
}

fn token() -> impl Strategy<Value = Token> {
    let base = proptest::option::of((any::<u64>(), any::<u64>(), any::<u64>()));
    (any::<[u64; 4]>(), "[a-z0-9.-]{0,63}", base).prop_map(|(n, host, base)| Token {
        attach: AttachId {
            generation: Generation(n[0]),
            nonce: n[1],
        },
        holder: Holder {
            host,
            state_dir: StateDirId(n[2]),
            since: WallTime(n[3]),
        },
        base: base.map(|(version, generation, nonce)| RootName {
            version: Version(version),
            attach: AttachId {
                generation: Generation(generation),
                nonce,
            },
        }),
    })
}

fn superblock() -> impl Strategy<Value = Superblock> {
    (
        container(),
        proptest::option::of(container()),
        0_u8..3,
        any::<u64>(),
        any::<bool>(),
    )
        .prop_map(|(container, parent, kind, created, is_small)| Superblock {
            container,
            geometry: Geometry::standard(if is_small { 512 } else { 4096 }, BlockCount(7)),
            kind: [
                VolumeKind::Disk,
                VolumeKind::ReadOnly,
                VolumeKind::Removable,
            ][usize::from(kind)],
            created: WallTime(created),
            parent,
        })
}

proptest! {
    #[test]
    fn a_token_is_read_where_it_belongs(token in token(), other: u64) {
        let (bytes, _) = encode(Body::Token(token.clone()));
        prop_assert!(bytes.len() <= 200);
        let container = Container::new("v", VolumeId([1; 16]));
        let g = token.attach.generation;
        for name in [ObjectName::Claim(g), ObjectName::Opened(g)] {
            let found = decode_meta(&Expect::Token, Some((&container, &name)), &bytes);
            prop_assert_eq!(found, Ok((Meta::Token(token.clone()), hash(&bytes))));
        }
        if other != g.0 {
            let name = ObjectName::Opened(Generation(other));
            let found = decode_meta(&Expect::Token, Some((&container, &name)), &bytes);
            prop_assert_eq!(found, Err(Malformed::Misplaced.into()));
        }
        check_refusals(&bytes, 5, token::parse);
        check_envelope(&bytes, token::parse);
    }

    #[test]
    fn a_superblock_is_read_where_it_belongs(superblock in superblock()) {
        let (bytes, _) = encode(Body::Superblock(Arc::new(superblock.clone())));
        let read = |container| decode_meta(&Expect::Superblock, Some((container, &ObjectName::Volume)), &bytes);
        let meta = Meta::Superblock(Arc::new(superblock.clone()));
        prop_assert_eq!(encode_meta(&meta), (bytes.clone(), hash(&bytes)));
        prop_assert_eq!(read(&superblock.container), Ok((meta, hash(&bytes))));
        let other = Container::new("other", superblock.container.id);
        prop_assert_eq!(read(&other), Err(Malformed::Misplaced.into()));
        check_refusals(&bytes, 5, superblock::parse);
        check_envelope(&bytes, superblock::parse);
    }

    #[test]
    fn a_root_is_read_by_name_and_hash(root in root()) {
        let (bytes, receipt) = encode(Body::Root(Arc::new(root.clone())));
        let hash = receipt.root.unwrap();
        let place = |name: RootName| ObjectName::Root(name);
        let read = |hash, name| decode_meta(&Expect::Root(hash), Some((&root.container, &place(name))), &bytes);
        let (Meta::Root(found), same) = read(None, root.name).unwrap() else { panic!() };
        prop_assert_eq!(same, hash);
        prop_assert!(read(Some(hash), root.name).is_ok());
        prop_assert_eq!(read(Some(Hash([0; 16])), root.name), Err(Malformed::Checksum.into()));
        let other = RootName { version: Version(root.name.version.0 ^ 1), ..root.name };
        prop_assert_eq!(read(None, other), Err(Malformed::Misplaced.into()));
        prop_assert_eq!(encode_meta(&Meta::Root(found.clone())), (bytes.clone(), hash));
        let (again, receipt_again) = encode(Body::RootAgain(found));
        prop_assert_eq!(again, bytes);
        prop_assert_eq!(receipt_again, receipt);
    }

    #[test]
    fn packed_leaves_are_read_by_place_and_hash(leaves in vec_of(leaf(), 0..4)) {
        let leaves: Vec<_> = leaves.into_iter().map(Arc::new).collect();
        let (bytes, receipt) = encode(Body::Leaves(leaves.clone()));
        prop_assert_eq!(receipt.leaves.len(), leaves.len());
        let container = Container::new("v", VolumeId([1; 16]));
        let attach = AttachId::default();
        let name = ObjectName::Leaves(LeavesName { version: Version(1), attach, serial: 0 });
        for (placed, leaf) in receipt.leaves.iter().zip(&leaves) {
            let start = placed.offset as usize;
            let bytes = &bytes[start..start + placed.len as usize];
            let found = decode_meta(&Expect::Leaf(placed.hash), Some((&container, &name)), bytes);
            prop_assert_eq!(found, Ok((Meta::Leaf(leaf.clone()), placed.hash)));
            let other = decode_meta(&Expect::Leaf(Hash([0; 16])), None, bytes);
            prop_assert_eq!(other, Err(Malformed::Checksum.into()));
        }
    }

    #[test]
    fn hostile_fields_never_panic(token in token(), superblock in superblock(), at in 32_usize..160, noise: [u8; 4]) {
        for (bytes, expect) in [(token::emit(&token), Expect::Token), (superblock::emit(&superblock), Expect::Superblock)] {
            let at = at.min(bytes.len() - 4);
            let harmed = resealed(&bytes, |bytes| bytes[at..at + 4].copy_from_slice(&noise));
            if let Ok((meta, _)) = decode_meta(&expect, None, &harmed) {
                prop_assert_eq!(encode_meta(&meta).0, harmed);
            }
        }
    }
}

#[test]
fn a_door_is_a_constant() {
    let (bytes, _) = encode(Body::Door);
    assert_eq!(bytes.len(), 32);
    assert_eq!(bytes, token::door());
}

#[test]
fn frames_and_existence_are_no_matter_of_decoding() {
    for expect in [Expect::Exists, Expect::Frames(Vec::new())] {
        assert_eq!(
            decode_meta(&expect, None, &[]),
            Err(Malformed::Magic.into())
        );
    }
}
