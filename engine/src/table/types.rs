//! Root, leaf, entry and layer as values; their bytes are in the sibling modules.

use crate::ids::{AttachId, Container, Hash, Seq, Version, WishKey};
use crate::object::names::{DataName, LeavesName, RootName};
use crate::time::WallTime;
use crate::units::{BlockCount, ChunkIndex, Geometry, LeafIndex};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The superblock, `volume`: written once at birth.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// Name and id.
    pub container: Container,
    /// The shape at birth.
    pub geometry: Geometry,
    /// What kind of unit it is.
    pub kind: VolumeKind,
    /// Born when, by the maker's clock.
    pub created: WallTime,
    /// The parent of a clone.
    pub parent: Option<Container>,
}

/// What kind of unit a volume is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum VolumeKind {
    /// A disk.
    #[default]
    Disk,
    /// A disk that refuses writes.
    ReadOnly,
    /// A removable medium.
    Removable,
}

/// A version's catalogue. It decides: what the newest root does not list is dead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Root {
    /// Name and id of the volume.
    pub container: Container,
    /// Its shape; `geometry.capacity` is this version's size.
    pub geometry: Geometry,
    /// This root's own name.
    pub name: RootName,
    /// 1 for the first root of its attachment, then counting. Multiples of 64 stay until a later generation opens.
    pub ordinal: u64,
    /// The root before it in the history. `None` for version 0.
    pub parent: Option<(RootName, Hash)>,
    /// Why it was made.
    pub kind: RootKind,
    /// The seq at which it froze the history.
    pub cut: Seq,
    /// When, by the writer's clock.
    pub created: WallTime,
    /// Named versions, by version.
    pub snapshots: Vec<SnapshotEntry>,
    /// Versions kept for children.
    pub pins: Vec<Pin>,
    /// Versions that nothing lists any more and whose objects are being deleted.
    pub dying: Vec<Dying>,
    /// Attributes by key.
    pub attributes: BTreeMap<String, Vec<u8>>,
    /// Losses that operators accepted when they took the volume over, oldest first.
    pub losses: Vec<AcceptedLoss>,
    /// A reference per leaf that describes anything; no reference = all holes.
    pub leaves: BTreeMap<LeafIndex, LeafRef>,
    /// Leaves that ride in this very root; their `LeafRef::home` is [`LeafHome::Root`] of this root's name.
    pub riding: BTreeMap<LeafIndex, Arc<Leaf>>,
}

/// Why a root was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RootKind {
    /// Version 0.
    Born,
    /// Superseded by the next.
    Checkpoint,
    /// Named, kept until deleted.
    Snapshot,
    /// The attachment was given up.
    Detached,
    /// The volume is being deleted.
    Deleted,
}

/// A live snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotEntry {
    /// Its name, at most 63 bytes.
    pub name: String,
    /// Its root: version and writer.
    pub root: RootName,
    /// When, by the writer's clock.
    pub created: WallTime,
    /// The wish that made it: asking again returns this one.
    pub wish: WishKey,
    /// Size of the volume then.
    pub capacity: BlockCount,
}

/// A version kept for a child.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pin {
    /// The clone.
    pub child: Container,
    /// What it was cloned from.
    pub root: RootName,
}

/// A version on its way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dying {
    /// Its root.
    pub root: RootName,
    /// Since when, by the writer's clock: informative; the grace runs on the process's monotonic clock.
    pub since: WallTime,
}

/// A loss that an operator accepted at a take-over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AcceptedLoss {
    /// The attachment that lost what it had not published.
    pub lost: AttachId,
    /// Its host.
    pub host: String,
    /// The base that the new history goes on from.
    pub base: Version,
    /// When, by the taker's clock.
    pub at: WallTime,
}

/// Where a leaf's bytes lie. Equal references mean equal content.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LeafRef {
    /// `None`: the own container; else a parent's.
    pub container: Option<Container>,
    /// The object.
    pub home: LeafHome,
    /// First byte within it.
    pub offset: u32,
    /// Number of bytes.
    pub len: u32,
    /// Hash of these bytes.
    pub hash: Hash,
}

/// The object that a leaf lies in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LeafHome {
    /// Riding in a root.
    Root(RootName),
    /// Packed with others.
    Leaves(LeavesName),
}

/// The entries of `leaf_chunks` chunks. Chunks without an entry were never written: holes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Leaf {
    /// Which part of the volume it describes.
    pub index: LeafIndex,
    /// Entry per chunk that has any layer.
    pub entries: BTreeMap<ChunkIndex, Entry>,
}

/// The layers of one chunk, newest first. Layers of one version are disjoint.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// Newest first; a layer that newer ones cover wholly is dropped.
    pub layers: Vec<Layer>,
}

/// One version's share of a chunk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layer {
    /// The version that brought it.
    pub version: Version,
    /// What it says of its grains.
    pub kind: LayerKind,
    /// *Every* grain of the section, superseded or not: a grain's rank among them says which frame it is in.
    pub grains: GrainSet,
}

/// What a layer says of its grains.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LayerKind {
    /// The section holds them whole.
    Data(SectionRef),
    /// The section holds some blocks of each; the others come from the layer below. Covers nothing.
    Part {
        /// Where.
        section: SectionRef,
        /// One mask per grain in ascending order; bit i = block i of the grain is here.
        masks: Vec<u8>,
    },
    /// They read as zeros.
    Hole,
    /// These blocks' content is gone; the others come from the layer below.
    Lost {
        /// One mask per grain in ascending order; bit i = block i of the grain is lost.
        masks: Vec<u8>,
    },
}

/// A section within an object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SectionRef {
    /// The object.
    pub object: ObjectRef,
    /// First byte of the section in it.
    pub offset: u32,
}

/// A data object, in the own container or a parent's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ObjectRef {
    /// The container that holds it; its volume id is what the grains' sums are bound to.
    pub container: Container,
    /// Its name there.
    pub name: DataName,
}

/// A set of grains of one chunk: ascending disjoint runs, none adjacent. Units: grain index within the chunk.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GrainSet {
    /// (first, count), ascending, gaps between.
    pub runs: Vec<(u16, u16)>,
}
