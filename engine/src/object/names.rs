//! Names in the store: lower-case fixed-width hex, each carrying who wrote it.
//!
//! ```text
//! volume                                            superblock
//! claims/<g>  doors/<g>  opened/<g>                 a generation's three small objects
//! versions/<v>.<g>-<nonce>                          root
//! tables/<v>/<g>-<nonce>.<serial>                   leaves that do not ride in a root
//! chunks/<v>/<first>-<last>.<g>-<nonce>.<serial>    sections of the chunks first…last
//! ```
//!
//! A published name holds one content for ever and is never reused (P4): it carries the version, the attach id that one
//! attempt of one process drew, and a serial.

use crate::ids::{AttachId, Generation, Version};
use crate::units::ChunkIndex;

/// The name of an object within its volume's container.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ObjectName {
    /// The superblock.
    Volume,
    /// Who tries for a generation.
    Claim(Generation),
    /// Whether the generation below is shut. Its bytes are a constant.
    Door(Generation),
    /// Who won a generation.
    Opened(Generation),
    /// A root.
    Root(RootName),
    /// Packed leaves.
    Leaves(LeavesName),
    /// Sections of chunks.
    Data(DataName),
}

/// `versions/<v>.<g>-<nonce>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RootName {
    /// The version that the root describes.
    pub version: Version,
    /// Who wrote it.
    pub attach: AttachId,
}

/// `tables/<v>/<g>-<nonce>.<serial>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LeavesName {
    /// The version that first used these leaves.
    pub version: Version,
    /// Who wrote them.
    pub attach: AttachId,
    /// Distinguishes the objects of one attachment.
    pub serial: u32,
}

/// `chunks/<v>/<first>-<last>.<g>-<nonce>.<serial>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DataName {
    /// The version that first used these sections.
    pub version: Version,
    /// First chunk with a section here.
    pub first: ChunkIndex,
    /// Last chunk with a section here, inclusive.
    pub last: ChunkIndex,
    /// Who wrote it.
    pub attach: AttachId,
    /// Distinguishes the objects of one attachment.
    pub serial: u32,
}
