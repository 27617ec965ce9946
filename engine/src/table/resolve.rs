//! Which layer holds a grain: from an entry to what must be read.

use crate::effect::FrameExpect;
use crate::object::frame::HEADER_BYTES;
use crate::table::types::{Entry, Layer, LayerKind, SectionRef};
use crate::units::{ChunkIndex, GRAIN_BYTES, Geometry, GrainIndex};
use core::ops::Range;
use smallvec::SmallVec;

/// Where every block of one grain comes from. The masks are disjoint and together make the whole grain.
///
/// A mask's bit i stands for block i of the grain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sources<'a> {
    /// Newest first. Each gives the blocks of its mask, which is never empty.
    pub parts: SmallVec<[(u8, Place<'a>); 2]>,
    /// Blocks whose content is gone.
    pub lost: u8,
    /// Blocks that [`Sources::base`] gives. When 0 the base need not be read.
    pub base_mask: u8,
    /// What lies below all parts.
    pub base: Base<'a>,
}

/// What the lowest layer that matters says of a grain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Base<'a> {
    /// It is stored whole.
    Data(Place<'a>),
    /// It reads as zeros: discarded, or never written.
    Hole,
}

/// A grain's place in a section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place<'a> {
    /// The layer; [`frame_expect`] of it and `frame` says what to get.
    pub layer: &'a Layer,
    /// The layer's section.
    pub section: &'a SectionRef,
    /// The frame that holds the grain, by its number in the section.
    pub frame: u32,
    /// The grain's number in the frame.
    pub slot: u32,
}

impl Sources<'_> {
    /// Whether the whole grain reads as zeros.
    pub fn is_hole(&self) -> bool {
        self.parts.is_empty() && self.lost == 0 && self.base == Base::Hole
    }
}

/// The mask of a whole grain: one bit per block.
pub const fn whole_mask(geometry: &Geometry) -> u8 {
    // 8 blocks of 512 bytes, or one of 4096.
    if geometry.grain_blocks() == 8 {
        0xff
    } else {
        1
    }
}

/// What must be read for one grain of a chunk. No entry: a hole.
///
/// Newest first, the first layer that says anything of a block decides it: a lost mask counts only for the blocks that no
/// newer part gives, and everything under a layer of kind data or hole is superseded.
pub fn resolve<'a>(
    entry: Option<&'a Entry>,
    grain_in_chunk: u16,
    geometry: &Geometry,
) -> Sources<'a> {
    let mut sources = Sources {
        parts: SmallVec::new(),
        lost: 0,
        base_mask: whole_mask(geometry),
        base: Base::Hole,
    };
    for layer in entry.iter().flat_map(|entry| &entry.layers) {
        let Some(rank) = layer.grains.rank(grain_in_chunk) else {
            continue;
        };
        let place = |section| Place {
            layer,
            section,
            frame: rank / geometry.frame_grains,
            slot: rank % geometry.frame_grains,
        };
        // What this layer says of blocks that nothing newer has said anything of.
        let open = sources.base_mask;
        let new = |masks: &[u8]| masks.get(rank as usize).map_or(0, |mask| mask & open);
        match &layer.kind {
            LayerKind::Data(section) => {
                sources.base = Base::Data(place(section));
                break;
            }
            LayerKind::Hole => break,
            LayerKind::Part { section, masks } => {
                let mask = new(masks);
                if mask != 0 {
                    sources.parts.push((mask, place(section)));
                    sources.base_mask &= !mask;
                }
            }
            LayerKind::Lost { masks } => {
                let mask = new(masks);
                sources.lost |= mask;
                sources.base_mask &= !mask;
            }
        }
        if sources.base_mask == 0 {
            break;
        }
    }
    sources
}

/// Bytes from the start of one frame of a section to the next.
pub const fn frame_stride(frame_grains: u32) -> u64 {
    HEADER_BYTES as u64 + frame_grains as u64 * GRAIN_BYTES as u64
}

/// Bytes of a section of so many grains: its frames one after another, the last one perhaps shorter.
pub const fn section_bytes(frame_grains: u32, grains: u32) -> u64 {
    let frames = grains.div_ceil(frame_grains) as u64;
    frames * HEADER_BYTES as u64 + grains as u64 * GRAIN_BYTES as u64
}

/// What must be found in one frame of a layer's section, and where in the object: header and grains.
///
/// `None`: the layer has no section, or the section no such frame.
pub fn frame_expect(
    layer: &Layer,
    chunk: ChunkIndex,
    frame: u32,
    geometry: &Geometry,
) -> Option<(FrameExpect, Range<u64>)> {
    let section = layer.kind.section()?;
    let first = geometry.chunk_first_grain(chunk).0;
    let grains: SmallVec<[GrainIndex; 16]> = layer
        .grains
        .iter_from(frame.checked_mul(geometry.frame_grains)?)
        .take(geometry.frame_grains as usize)
        .map(|grain| GrainIndex(first + u64::from(grain)))
        .collect();
    if grains.is_empty() {
        return None;
    }
    let start = u64::from(section.offset) + u64::from(frame) * frame_stride(geometry.frame_grains);
    let bytes = HEADER_BYTES as u64 + grains.len() as u64 * u64::from(GRAIN_BYTES);
    let expect = FrameExpect {
        chunk,
        frame,
        grains,
    };
    Some((expect, start..start + bytes))
}

impl LayerKind {
    /// The section that holds the layer's grains, if its kind has one.
    pub fn section(&self) -> Option<&SectionRef> {
        match self {
            Self::Data(section) | Self::Part { section, .. } => Some(section),
            Self::Hole | Self::Lost { .. } => None,
        }
    }

    /// Whether a grain of the layer needs nothing from below: kinds data and hole.
    pub const fn covers(&self) -> bool {
        matches!(self, Self::Data(_) | Self::Hole)
    }
}
