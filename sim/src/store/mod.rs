//! The store as the engine sees it: typed questions, typed answers.
//!
//! This one is linearizable; what may go wrong on the way to it is drawn by the world (lost, late and doubled requests,
//! lost answers, refusals). Bodies that are not data are kept decoded, with the hash of what the codec makes of them.
//! [`Store::truth`] is what oracles look at: they never ask through the engine's eyes.

pub mod bytes;
pub mod codec;
pub mod swift;

use crate::choice::mix;
use crate::payload::{Blocks, Stamp, Summing};
use codec::Codec;
use engine::effect::{LeafPlaced, ListRow, Outcome, StoreError, StoreRequest, Token};
use engine::ids::{AttachId, Container, Hash};
use engine::object::frame::HEADER_BYTES;
use engine::object::names::ObjectName;
use engine::table::types::{Leaf, Root, Superblock};
use engine::time::WallTime;
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

impl Object {
    /// Two numbers that stand for its bytes: equal for equal objects.
    pub fn fingerprint(&self) -> (u64, u64) {
        let mut h = (self.bytes, 1);
        let mut add = |v: u64| h = (mix(h.0, v), mix(h.1 ^ 7, v));
        match &self.content {
            Content::Root(_, hash) => hash.0.iter().for_each(|b| add(u64::from(*b))),
            Content::Data(data) => {
                for frame in &data.frames {
                    frame.header.chunks(8).for_each(|c| {
                        add(c.iter().fold(0, |n, b| n << 8 | u64::from(*b)));
                    });
                }
            }
            Content::Leaves(leaves) => {
                leaves
                    .iter()
                    .flat_map(|(p, _)| p.hash.0)
                    .for_each(|b| add(u64::from(b)));
            }
            Content::Door => add(3),
            Content::Damaged => add(4),
            Content::Token(_) | Content::Superblock(_) => {
                format!("{:?}", self.content)
                    .bytes()
                    .for_each(|b| add(u64::from(b)));
            }
        }
        h
    }
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
    /// Its header as stored.
    pub header: [u8; HEADER_BYTES],
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
    codec: Codec,
}

impl Store {
    /// An empty store of volumes with blocks of `unit` bytes.
    pub const fn new(unit: u32, summing: Summing) -> Self {
        Self {
            containers: BTreeMap::new(),
            gone: BTreeMap::new(),
            changes: Vec::new(),
            codec: Codec { unit, summing },
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

    /// An object became the newest of its name elsewhere, or its deletion did.
    pub fn mirror(&mut self, container: Container, name: ObjectName, object: Option<Object>) {
        self.containers.entry(container.clone()).or_default();
        match object {
            Some(object) => self.put(&container, name, object),
            None => self.remove(&container, &name),
        }
    }

    fn remove(&mut self, container: &Container, name: &ObjectName) {
        let bucket = self.containers.get_mut(container);
        if bucket.is_some_and(|b| b.remove(name).is_some()) {
            self.gone
                .entry(container.clone())
                .or_default()
                .insert(*name);
            let container = container.clone();
            self.changes.push(Change::Deleted {
                container,
                name: *name,
            });
        }
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
            StoreRequest::Get(get) => match self.get(&get.container, &get.name) {
                Some(object) => self.codec.read(get, object),
                None => Outcome::Store(StoreError::Absent),
            },
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
                let (object, receipt) = self.codec.make(body);
                self.put(container, *name, object);
                Outcome::Put(receipt)
            }
            StoreRequest::Delete { container, name } => {
                self.remove(container, name);
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
                let mut names: Vec<ListRow> = bucket
                    .iter()
                    .map(|(n, o)| ListRow {
                        name: n.to_string(),
                        bytes: ByteCount(o.bytes),
                        modified: WallTime(0),
                    })
                    .collect();
                names.sort();
                names.retain(|row| {
                    row.name.starts_with(prefix) && after.as_ref().is_none_or(|a| row.name > *a)
                });
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
