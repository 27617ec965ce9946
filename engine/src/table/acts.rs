//! Versions of one small chunk, for tests of what is made of several.

use super::apply::ChunkDelta;
use super::types::{GrainSet, ObjectRef, SectionRef};
use crate::ids::{AttachId, Container, Generation, Version, VolumeId};
use crate::object::names::DataName;
use crate::units::{BlockCount, ChunkIndex, Geometry};
use alloc::vec;

/// Grains of the chunk.
pub(crate) const GRAINS: u16 = 8;

/// One chunk of eight grains, frames of three.
pub(crate) fn geometry() -> Geometry {
    Geometry {
        block_bytes: 512,
        capacity: BlockCount(64),
        chunk_grains: u32::from(GRAINS),
        leaf_chunks: 2,
        frame_grains: 3,
    }
}

/// A section of the object in which a version keeps the chunk.
pub(crate) fn section(version: u64, offset: u32) -> SectionRef {
    let attach = AttachId {
        generation: Generation(1),
        nonce: 7,
    };
    SectionRef {
        object: ObjectRef {
            container: Container::new("v", VolumeId([1; 16])),
            name: DataName {
                version: Version(version),
                first: ChunkIndex(0),
                last: ChunkIndex(0),
                attach,
                serial: 0,
            },
        },
        offset,
    }
}

/// What one version does to a grain. Masks: its blocks, at least one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Act {
    Nothing,
    Data,
    Part(u8),
    Hole,
    Lost(u8),
}

/// What a version brings that does this to the grains, one after the other.
pub(crate) fn delta(version: u64, acts: &[Act]) -> ChunkDelta {
    let mut delta = ChunkDelta::new(Version(version));
    let grains = |want: &dyn Fn(&Act) -> bool| {
        GrainSet::from_ascending((0..).zip(acts).filter(|(_, act)| want(act)).map(|(g, _)| g))
    };
    let (mut parts, mut lost) = (vec![], vec![]);
    for act in acts {
        match act {
            Act::Part(mask) => parts.push(*mask),
            Act::Lost(mask) => lost.push(*mask),
            _ => {}
        }
    }
    delta.data = Some((section(version, 0), grains(&|act| *act == Act::Data)));
    delta.hole = grains(&|act| *act == Act::Hole);
    delta.part = Some((
        section(version, 1 << 20),
        grains(&|act| matches!(act, Act::Part(_))),
        parts,
    ));
    delta.lost = Some((grains(&|act| matches!(act, Act::Lost(_))), lost));
    delta
}
