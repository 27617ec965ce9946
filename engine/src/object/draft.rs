//! A data object before it is bytes: sections of grains, each a scatter list.

use crate::ids::{AttachId, VolumeId};
use crate::payload::Parts;
use crate::units::{ChunkIndex, GrainIndex};
use alloc::vec::Vec;

/// A data object to be encoded outside the engine.
#[derive(Clone, Debug)]
pub struct DataObject<P> {
    /// The volume whose container it goes to.
    pub volume: VolumeId,
    /// Who writes it.
    pub attach: AttachId,
    /// The serial of its name.
    pub serial: u32,
    /// Grains of a frame.
    pub frame_grains: u32,
    /// In chunk order; a chunk may have two, one of kind data and one of kind part.
    pub sections: Vec<SectionDraft<P>>,
}

/// The grains of one chunk that the object holds.
#[derive(Clone, Debug)]
pub struct SectionDraft<P> {
    /// The chunk.
    pub chunk: ChunkIndex,
    /// Ascending.
    pub grains: Vec<GrainDraft<P>>,
}

/// One grain: always 4096 bytes; blocks that are not there, and what lies behind the volume's end, are zeros.
#[derive(Clone, Debug)]
pub struct GrainDraft<P> {
    /// Which grain of the volume.
    pub index: GrainIndex,
    /// Its bytes, 4096 of them.
    pub content: Parts<P>,
}
