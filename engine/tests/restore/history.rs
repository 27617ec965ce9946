//! A volume with a history, made of the engine's parts, and beside it what every version must read as.

use crate::store::{Bytes, Store};
use martlet_engine::effect::{Body, Token};
use martlet_engine::ids::{
    AttachId, Container, Generation, Holder, Seq, Version, VolumeId, WishKey,
};
use martlet_engine::object::data::layout;
use martlet_engine::object::draft::{DataObject, GrainDraft, SectionDraft};
use martlet_engine::object::names::{DataName, LeavesName, ObjectName, RootName};
use martlet_engine::table::apply::{ChunkDelta, apply};
use martlet_engine::table::types::{
    GrainSet, Leaf, LeafHome, LeafRef, ObjectRef, Root, RootKind, SectionRef, SnapshotEntry,
    Superblock, VolumeKind,
};
use martlet_engine::time::WallTime;
use martlet_engine::units::{ByteCount, ChunkIndex, Geometry, GrainIndex, LeafIndex};
use martlet_engine::{Part, Parts};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A generator that gives the same numbers on every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

/// What a version does to one grain.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Act {
    Data,
    Part(u8),
    Hole,
    Lost(u8),
}

pub(crate) struct Volume {
    pub(crate) container: Container,
    pub(crate) geometry: Geometry,
    pub(crate) bytes: Vec<u8>,
    pub(crate) root: Option<Arc<Root>>,
    leaves: BTreeMap<LeafIndex, Leaf>,
    attach: AttachId,
    ordinal: u64,
    serial: u32,
}

impl Volume {
    /// A volume with a superblock and nothing else.
    pub(crate) fn new(store: &Store, name: &str, id: u8, geometry: Geometry) -> Self {
        let container = Container::new(name, VolumeId([id; 16]));
        let superblock = Superblock {
            container: container.clone(),
            geometry,
            kind: VolumeKind::Disk,
            created: WallTime(1),
            parent: None,
        };
        store.put(
            &container,
            &ObjectName::Volume,
            &Body::Superblock(Arc::new(superblock)),
        );
        Self {
            container,
            geometry,
            bytes: vec![0; geometry.capacity_bytes().0 as usize],
            root: None,
            leaves: BTreeMap::new(),
            attach: AttachId::default(),
            ordinal: 0,
            serial: 0,
        }
    }

    /// Opens the next generation.
    pub(crate) fn attach(&mut self, store: &Store) {
        let generation = Generation(self.attach.generation.0 + 1);
        self.attach = AttachId {
            generation,
            nonce: 0xa000_0000 + generation.0,
        };
        self.ordinal = 0;
        let token = Token {
            attach: self.attach,
            holder: Holder {
                host: "host".into(),
                ..Holder::default()
            },
            base: self.root.as_ref().map(|root| root.name),
        };
        store.put(
            &self.container,
            &ObjectName::Claim(generation),
            &Body::Token(token.clone()),
        );
        store.put(&self.container, &ObjectName::Door(generation), &Body::Door);
        store.put(
            &self.container,
            &ObjectName::Opened(generation),
            &Body::Token(token),
        );
    }

    /// Goes on from another volume's newest version, as a clone does.
    pub(crate) fn clone_from(&mut self, parent: &Self) {
        self.bytes.copy_from_slice(&parent.bytes);
        self.leaves = parent.leaves.clone();
        let mut root = (**parent.root.as_ref().unwrap()).clone();
        for leaf in root.leaves.values_mut() {
            leaf.container
                .get_or_insert_with(|| parent.container.clone());
        }
        root.snapshots.clear();
        root.riding.clear();
        self.root = Some(Arc::new(root));
    }

    /// Publishes one version: what it does to grains, its name if it is a snapshot, and whether its leaves ride.
    pub(crate) fn publish(
        &mut self,
        store: &Store,
        acts: &BTreeMap<GrainIndex, Act>,
        snapshot: Option<&str>,
        is_riding: bool,
    ) {
        let is_own = |root: &&Arc<Root>| root.container == self.container;
        let last = self
            .root
            .as_ref()
            .filter(is_own)
            .map(|root| root.name.version.0);
        let version = Version(last.map_or(0, |last| last + 1));
        let deltas = self.put_data(store, version, acts);
        let touched: BTreeSet<LeafIndex> = deltas
            .keys()
            .map(|chunk| self.geometry.leaf_of(*chunk))
            .collect();
        for (chunk, delta) in deltas {
            let index = self.geometry.leaf_of(chunk);
            let leaf = self.leaves.entry(index).or_insert_with(|| Leaf {
                index,
                ..Leaf::default()
            });
            match apply(leaf.entries.get(&chunk), delta) {
                Some(entry) => leaf.entries.insert(chunk, entry),
                None => leaf.entries.remove(&chunk),
            };
        }
        self.put_root(store, version, &touched, snapshot, is_riding);
    }

    /// Stores the sections of the version's grains; plays the acts on the bytes.
    fn put_data(
        &mut self,
        store: &Store,
        version: Version,
        acts: &BTreeMap<GrainIndex, Act>,
    ) -> BTreeMap<ChunkIndex, ChunkDelta> {
        let mut drafts: Vec<(ChunkIndex, bool, SectionDraft<Bytes>)> = Vec::new();
        let mut masks: BTreeMap<ChunkIndex, (Vec<u8>, Vec<u8>)> = BTreeMap::new();
        let mut sets: BTreeMap<ChunkIndex, [Vec<u16>; 4]> = BTreeMap::new();
        for (grain, act) in acts {
            let chunk = self.geometry.chunk_of(*grain);
            let inside = (grain.0 - self.geometry.chunk_first_grain(chunk).0) as u16;
            let set = sets.entry(chunk).or_default();
            let (part, lost) = masks.entry(chunk).or_default();
            let number = match act {
                Act::Data => 0,
                Act::Part(mask) => {
                    part.push(*mask);
                    1
                }
                Act::Hole => 2,
                Act::Lost(mask) => {
                    lost.push(*mask);
                    3
                }
            };
            set[number].push(inside);
            if let Some(content) = self.play(version, *grain, *act) {
                let is_part = number == 1;
                let draft = GrainDraft {
                    index: *grain,
                    content,
                };
                match drafts
                    .iter_mut()
                    .find(|(c, part, _)| (*c, *part) == (chunk, is_part))
                {
                    Some((_, _, section)) => section.grains.push(draft),
                    None => {
                        let section = SectionDraft {
                            chunk,
                            grains: vec![draft],
                        };
                        drafts.push((chunk, is_part, section));
                    }
                }
            }
        }
        let mut sections = BTreeMap::new();
        if let (Some(first), Some(last)) = (drafts.first(), drafts.last()) {
            let name = DataName {
                version,
                first: first.0,
                last: last.0,
                attach: self.attach,
                serial: self.next_serial(),
            };
            let object = DataObject {
                volume: self.container.id,
                attach: self.attach,
                serial: name.serial,
                frame_grains: self.geometry.frame_grains,
                sections: drafts
                    .iter()
                    .map(|(_, _, section)| section.clone())
                    .collect(),
            };
            let object_ref = ObjectRef {
                container: self.container.clone(),
                name,
            };
            for ((chunk, is_part, _), offset) in drafts.iter().zip(layout(&object).sections) {
                let section = SectionRef {
                    object: object_ref.clone(),
                    offset,
                };
                sections.insert((*chunk, *is_part), section);
            }
            store.put(
                &self.container,
                &ObjectName::Data(name),
                &Body::Data(object),
            );
        }
        let mut deltas = BTreeMap::new();
        for (chunk, [data, part, hole, lost]) in sets {
            let mut delta = ChunkDelta::new(version);
            let (part_masks, lost_masks) = masks.remove(&chunk).unwrap();
            delta.data = sections
                .remove(&(chunk, false))
                .map(|s| (s, GrainSet::from_ascending(data)));
            delta.part = sections
                .remove(&(chunk, true))
                .map(|s| (s, GrainSet::from_ascending(part), part_masks));
            delta.hole = GrainSet::from_ascending(hole);
            delta.lost = Some((GrainSet::from_ascending(lost), lost_masks));
            deltas.insert(chunk, delta);
        }
        deltas
    }

    /// Changes the bytes of one grain; gives what is to be stored of it.
    fn play(&mut self, version: Version, grain: GrainIndex, act: Act) -> Option<Parts<Bytes>> {
        let block = self.geometry.block_bytes as usize;
        let start = grain.0 as usize * 4096;
        let end = (start + 4096).min(self.bytes.len());
        let (mask, is_data) = match act {
            Act::Data => (0xff, true),
            Act::Part(mask) => (mask, true),
            Act::Hole => (0xff, false),
            Act::Lost(_) => return None,
        };
        let mut stored = vec![0; 4096];
        for (bit, at) in (start..end).step_by(block).enumerate() {
            if mask >> bit & 1 == 0 {
                continue;
            }
            for (n, byte) in self.bytes[at..at + block].iter_mut().enumerate() {
                let value = (n as u64 * 7 + grain.0 * 13 + bit as u64 + version.0 * 101) as u8 | 1;
                *byte = if is_data { value } else { 0 };
            }
            stored[at - start..at - start + block].copy_from_slice(&self.bytes[at..at + block]);
        }
        let zeros = stored.iter().rev().take_while(|byte| **byte == 0).count();
        let mut content = Parts::one(Bytes::new(&stored[..4096 - zeros]));
        content.push(Part::Zeros(ByteCount(zeros as u64)));
        is_data.then_some(content)
    }

    fn put_root(
        &mut self,
        store: &Store,
        version: Version,
        touched: &BTreeSet<LeafIndex>,
        snapshot: Option<&str>,
        is_riding: bool,
    ) {
        self.ordinal += 1;
        let name = RootName {
            version,
            attach: self.attach,
        };
        let before = self.root.as_deref();
        let mut root = Root {
            container: self.container.clone(),
            geometry: self.geometry,
            name,
            ordinal: self.ordinal,
            parent: None,
            kind: if snapshot.is_some() {
                RootKind::Snapshot
            } else {
                RootKind::Checkpoint
            },
            cut: Seq(version.0),
            created: WallTime(version.0),
            snapshots: before.map_or_else(Vec::new, |root| root.snapshots.clone()),
            pins: Vec::new(),
            dying: Vec::new(),
            attributes: BTreeMap::from([("chap-user".into(), b"somebody".to_vec())]),
            losses: Vec::new(),
            leaves: before.map_or_else(BTreeMap::new, |root| root.leaves.clone()),
            riding: BTreeMap::new(),
        };
        root.snapshots.extend(snapshot.map(|text| SnapshotEntry {
            name: text.into(),
            root: name,
            created: WallTime(version.0),
            wish: WishKey(version.0),
            capacity: self.geometry.capacity,
        }));
        root.leaves.retain(|index, _| !touched.contains(index));
        let changed: Vec<(LeafIndex, Arc<Leaf>)> = touched
            .iter()
            .filter_map(|index| Some((*index, Arc::new(self.leaves.get(index)?.clone()))))
            .filter(|(_, leaf)| !leaf.entries.is_empty())
            .collect();
        if is_riding {
            root.riding = changed.iter().cloned().collect();
        } else if !changed.is_empty() {
            let home = LeavesName {
                version,
                attach: self.attach,
                serial: self.next_serial(),
            };
            let body = Body::Leaves(changed.iter().map(|(_, leaf)| leaf.clone()).collect());
            let receipt = store.put(&self.container, &ObjectName::Leaves(home), &body);
            root.leaves.extend(
                changed
                    .iter()
                    .zip(receipt.leaves)
                    .map(|((index, _), placed)| {
                        (*index, reference(LeafHome::Leaves(home), placed))
                    }),
            );
        }
        let receipt = store.put(
            &self.container,
            &ObjectName::Root(name),
            &Body::Root(Arc::new(root.clone())),
        );
        if is_riding {
            root.leaves.extend(
                changed
                    .iter()
                    .zip(receipt.leaves)
                    .map(|((index, _), placed)| (*index, reference(LeafHome::Root(name), placed))),
            );
            root.riding.clear();
        }
        self.root = Some(Arc::new(root));
    }

    fn next_serial(&mut self) -> u32 {
        self.serial += 1;
        self.serial
    }
}

fn reference(home: LeafHome, placed: martlet_engine::effect::LeafPlaced) -> LeafRef {
    LeafRef {
        container: None,
        home,
        offset: placed.offset,
        len: placed.len,
        hash: placed.hash,
    }
}

/// Random acts on about one in `one_in` grains.
pub(crate) fn acts(dice: &mut Dice, geometry: &Geometry, one_in: u64) -> BTreeMap<GrainIndex, Act> {
    let whole = if geometry.block_bytes == 512 { 255 } else { 1 };
    let mut acts = BTreeMap::new();
    for grain in 0..geometry.grain_count() {
        if dice.below(one_in) == 0 {
            let act = match dice.below(4) {
                0 => Act::Hole,
                1 => Act::Part(1 + dice.below(whole) as u8),
                _ => Act::Data,
            };
            acts.insert(GrainIndex(grain), act);
        }
    }
    acts
}
