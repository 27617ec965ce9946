//! The store as the engine sees it: typed questions, typed answers.
//!
//! This one is linearizable; what may go wrong on the way to it is drawn by the world (lost, late and doubled requests,
//! lost answers, refusals). Bodies that are not data are kept decoded, with the hash of what the codec makes of them.
//! [`Store::truth`] is what oracles look at: they never ask through the engine's eyes.

pub mod bytes;

use crate::payload::{Blocks, Stamp, Summing, push_stamps};
use bytes::Encoded;
use engine::effect::{
    Body, Expect, FrameGot, GetRequest, LeafPlaced, Meta, Outcome, Receipt, StoreError,
    StoreRequest, Token,
};
use engine::ids::{AttachId, Container, Hash};
use engine::object::draft::DataObject;
use engine::object::names::ObjectName;
use engine::sum::BoundSum;
use engine::table::types::{Leaf, Root, Superblock};
use engine::units::{ByteCount, ChunkIndex, GrainIndex};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An object.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its content.
    pub content: Content,
    /// Its size in bytes.
    pub bytes: u64,
}

/// What an object holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// `volume`.
    Superblock(Arc<Superblock>),
    /// `claims/…`, `opened/…`.
    Token(Token),
    /// `doors/…`.
    Door,
    /// `versions/…`, as a reader decodes it.
    Root(Arc<Root>, Hash),
    /// `tables/…`.
    Leaves(Vec<(LeafPlaced, Arc<Leaf>)>),
    /// `chunks/…`.
    Data(Arc<Data>),
    /// What is left of a damaged object.
    Damaged,
}

/// A data object.
#[derive(Clone, Debug, PartialEq)]
pub struct Data {
    /// Who wrote it.
    pub attach: AttachId,
    /// Its frames by place.
    pub frames: Vec<Frame>,
}

/// A frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// First byte in the object.
    pub offset: u64,
    /// Bytes, header included.
    pub bytes: u64,
    /// The chunk.
    pub chunk: ChunkIndex,
    /// Its number in the section.
    pub number: u32,
    /// The grains, each with its blocks.
    pub grains: Vec<(GrainIndex, Vec<Stamp>)>,
    /// Their sums as stored.
    pub sums: Vec<BoundSum>,
}

/// A change of the store, for oracles.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// An object was stored; whether there was one of that name with another content.
    Put {
        /// Where.
        container: Container,
        /// The name.
        name: ObjectName,
        /// There was one by this name already, and it was different.
        other_before: bool,
        /// It was there once, was deleted, and is back.
        back: bool,
    },
    /// An object is gone.
    Deleted {
        /// Where.
        container: Container,
        /// The name.
        name: ObjectName,
    },
}

type Bucket = BTreeMap<ObjectName, Object>;

/// The store.
#[derive(Clone, Debug)]
pub struct Store {
    containers: BTreeMap<Container, Bucket>,
    gone: BTreeMap<Container, std::collections::BTreeSet<ObjectName>>,
    changes: Vec<Change>,
    unit: u32,
    summing: Summing,
}

const HEADER: u64 = 128;

impl Store {
    /// An empty store of volumes with blocks of `unit` bytes.
    pub const fn new(unit: u32, summing: Summing) -> Self {
        Self {
            containers: BTreeMap::new(),
            gone: BTreeMap::new(),
            changes: Vec::new(),
            unit,
            summing,
        }
    }

    /// All objects, by container.
    pub const fn truth(&self) -> &BTreeMap<Container, Bucket> {
        &self.containers
    }

    /// The object, if it is there.
    pub fn get(&self, container: &Container, name: &ObjectName) -> Option<&Object> {
        self.containers.get(container)?.get(name)
    }

    /// What changed since the last call.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Damages an object for good.
    pub fn damage(&mut self, container: &Container, name: &ObjectName) {
        if let Some(object) = self
            .containers
            .get_mut(container)
            .and_then(|b| b.get_mut(name))
        {
            object.content = Content::Damaged;
        }
    }

    /// Carries a request out. `racy`: a claim overwrites another, as two creators that both pass `If-None-Match` do.
    pub fn apply(&mut self, request: &StoreRequest<Blocks>, racy: bool) -> Outcome<Blocks> {
        match request {
            StoreRequest::CreateContainer(container) => {
                self.containers.entry(container.clone()).or_default();
                Outcome::Done
            }
            StoreRequest::Get(get) => self.read(get),
            StoreRequest::Put {
                container,
                name,
                body,
                once,
            } => {
                if !self.containers.contains_key(container) {
                    return Outcome::Store(StoreError::Absent);
                }
                let exists = self.get(container, name).is_some();
                if *once && exists && !racy {
                    return Outcome::Store(StoreError::Exists);
                }
                let (object, receipt) = self.make(body);
                self.put(container, *name, object);
                Outcome::Put(receipt)
            }
            StoreRequest::Delete { container, name } => {
                let bucket = self.containers.get_mut(container);
                if bucket.is_some_and(|b| b.remove(name).is_some()) {
                    self.gone
                        .entry(container.clone())
                        .or_default()
                        .insert(*name);
                    self.changes.push(Change::Deleted {
                        container: container.clone(),
                        name: *name,
                    });
                }
                Outcome::Done
            }
            StoreRequest::List {
                container,
                prefix,
                after,
                limit,
            } => {
                let Some(bucket) = self.containers.get(container) else {
                    return Outcome::Store(StoreError::Absent);
                };
                let mut names: Vec<(String, ByteCount)> = bucket
                    .iter()
                    .map(|(n, o)| (n.to_string(), ByteCount(o.bytes)))
                    .collect();
                names.sort();
                names
                    .retain(|(n, _)| n.starts_with(prefix) && after.as_ref().is_none_or(|a| n > a));
                names.truncate(*limit as usize);
                Outcome::Names(names)
            }
            StoreRequest::DeleteContainer(container) => {
                if self
                    .containers
                    .get(container)
                    .is_some_and(|b| !b.is_empty())
                {
                    return Outcome::Store(StoreError::Exists);
                }
                self.containers.remove(container);
                Outcome::Done
            }
        }
    }

    fn put(&mut self, container: &Container, name: ObjectName, object: Object) {
        let gone = self.gone.get(container).is_some_and(|g| g.contains(&name));
        let bucket = self.containers.get_mut(container).expect("asked before");
        let before = bucket.insert(name, object);
        let after = &bucket[&name];
        self.changes.push(Change::Put {
            container: container.clone(),
            name,
            other_before: before.as_ref().is_some_and(|b| b != after),
            back: before.is_none() && gone,
        });
    }

    fn make(&self, body: &Body<Blocks>) -> (Object, Receipt) {
        match body {
            Body::Superblock(superblock) => small(Content::Superblock(superblock.clone()), 200),
            Body::Token(token) => small(Content::Token(token.clone()), 150),
            Body::Door => small(Content::Door, 8),
            Body::Root(root) | Body::RootAgain(root) => {
                let Encoded {
                    root,
                    hash,
                    bytes,
                    leaves,
                } = bytes::encode_root(root);
                let object = Object {
                    content: Content::Root(Arc::new(root), hash),
                    bytes,
                };
                let receipt = Receipt {
                    bytes: ByteCount(bytes),
                    root: Some(hash),
                    leaves,
                    sums: Vec::new(),
                };
                (object, receipt)
            }
            Body::Leaves(leaves) => {
                let placed = bytes::place_leaves(leaves);
                let bytes = placed.iter().map(|p| u64::from(p.len)).sum();
                let content =
                    Content::Leaves(placed.iter().copied().zip(leaves.iter().cloned()).collect());
                let receipt = Receipt {
                    bytes: ByteCount(bytes),
                    root: None,
                    leaves: placed,
                    sums: Vec::new(),
                };
                (Object { content, bytes }, receipt)
            }
            Body::Data(draft) => self.make_data(draft),
        }
    }

    fn make_data(&self, draft: &DataObject<Blocks>) -> (Object, Receipt) {
        let mut frames = Vec::new();
        let mut all_sums = Vec::new();
        let mut offset = 0;
        let per_grain = (4096 / self.unit) as usize;
        for section in &draft.sections {
            let mut section_sums = Vec::new();
            for (number, grains) in section
                .grains
                .chunks(draft.frame_grains as usize)
                .enumerate()
            {
                let mut held = Vec::with_capacity(grains.len());
                let mut sums = Vec::with_capacity(grains.len());
                for grain in grains {
                    let mut stamps = Vec::with_capacity(per_grain);
                    push_stamps(&grain.content, self.unit, &mut stamps);
                    assert_eq!(
                        stamps.len(),
                        per_grain,
                        "a grain of {} blocks",
                        stamps.len()
                    );
                    sums.push(
                        self.summing
                            .piece(self.unit, &stamps)
                            .bind(draft.volume, grain.index),
                    );
                    held.push((grain.index, stamps));
                }
                section_sums.extend(&sums);
                let bytes = HEADER + 4096 * held.len() as u64;
                frames.push(Frame {
                    offset,
                    bytes,
                    chunk: section.chunk,
                    number: number as u32,
                    grains: held,
                    sums,
                });
                offset += bytes;
            }
            all_sums.push(section_sums);
        }
        let object = Object {
            content: Content::Data(Arc::new(Data {
                attach: draft.attach,
                frames,
            })),
            bytes: offset,
        };
        let receipt = Receipt {
            bytes: ByteCount(offset),
            root: None,
            leaves: Vec::new(),
            sums: all_sums,
        };
        (object, receipt)
    }

    fn read(&self, get: &GetRequest) -> Outcome<Blocks> {
        let Some(object) = self.get(&get.container, &get.name) else {
            return Outcome::Store(StoreError::Absent);
        };
        let damaged = Outcome::Store(StoreError::Damaged);
        match (&get.expect, &object.content) {
            (Expect::Exists, _) => Outcome::Exists,
            (Expect::Superblock, Content::Superblock(s)) => {
                Outcome::Meta(Meta::Superblock(s.clone()), Hash::default())
            }
            (Expect::Token, Content::Token(t)) => {
                Outcome::Meta(Meta::Token(t.clone()), Hash::default())
            }
            (Expect::Root(want), Content::Root(root, hash)) => match want {
                Some(want) if want != hash => damaged,
                _ => Outcome::Meta(Meta::Root(root.clone()), *hash),
            },
            (Expect::Leaf(want), content) => {
                let at = get.range.as_ref().map_or(0, |r| r.start);
                match leaf_at(content, at) {
                    Some((placed, leaf)) if placed.hash == *want => {
                        Outcome::Meta(Meta::Leaf(leaf), placed.hash)
                    }
                    _ => damaged,
                }
            }
            (Expect::Frames(expected), Content::Data(data)) => {
                match self.frames(get, expected, data) {
                    Some(frames) => Outcome::Frames(frames),
                    None => damaged,
                }
            }
            _ => damaged,
        }
    }

    fn frames(
        &self,
        get: &GetRequest,
        expected: &[engine::effect::FrameExpect],
        data: &Data,
    ) -> Option<Vec<FrameGot<Blocks>>> {
        let range = get.range.clone()?;
        let volume = get.container.id;
        let first = data.frames.iter().position(|f| f.offset == range.start)?;
        let mut got = Vec::new();
        let mut end = range.start;
        for (frame, expect) in data.frames[first..].iter().zip(expected) {
            let grains: Vec<GrainIndex> = frame.grains.iter().map(|(g, _)| *g).collect();
            if frame.chunk != expect.chunk
                || frame.number != expect.frame
                || grains[..] != expect.grains[..]
            {
                return None;
            }
            for ((grain, stamps), sum) in frame.grains.iter().zip(&frame.sums) {
                if self.summing.piece(self.unit, stamps) != sum.unbind(volume, *grain) {
                    return None;
                }
            }
            let stamps: Vec<Stamp> = frame
                .grains
                .iter()
                .flat_map(|(_, stamps)| stamps.iter().copied())
                .collect();
            got.push(FrameGot {
                data: Blocks::from_stamps(self.unit, &stamps),
                sums: frame.sums.iter().copied().collect(),
            });
            end = frame.offset + frame.bytes;
        }
        (got.len() == expected.len() && end == range.end).then_some(got)
    }
}

/// The leaf at a byte of a root or of packed leaves.
pub fn leaf_at(content: &Content, at: u64) -> Option<(LeafPlaced, Arc<Leaf>)> {
    match content {
        Content::Leaves(leaves) => leaves
            .iter()
            .find(|(p, _)| u64::from(p.offset) == at)
            .map(|(p, l)| (*p, l.clone())),
        Content::Root(root, _) => root.riding.iter().find_map(|(index, leaf)| {
            let r = root.leaves.get(index)?;
            let placed = LeafPlaced {
                offset: r.offset,
                len: r.len,
                hash: r.hash,
            };
            (u64::from(r.offset) == at).then(|| (placed, leaf.clone()))
        }),
        _ => None,
    }
}

fn small(content: Content, bytes: u64) -> (Object, Receipt) {
    (
        Object { content, bytes },
        Receipt {
            bytes: ByteCount(bytes),
            ..Receipt::default()
        },
    )
}
