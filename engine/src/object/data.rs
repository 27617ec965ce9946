//! A data object: sections, each a row of frames, and a directory of them at the tail.
//!
//! Guests are served by what leaves say; the directory is for those who have only the object: verification, a stranger's
//! restore, the search for what an object holds.

use crate::codec::{Magic, Malformed, Put, Reader, Unreadable, begin, open_whole, seal};
use crate::ids::{AttachId, VolumeId};
use crate::object::draft::{DataObject, SectionDraft};
use crate::object::frame::{self, FRAME_GRAINS_MAX, FrameHeader};
use crate::object::{Target, place};
use crate::payload::Payload;
use crate::sum::BoundSum;
use crate::table::grains::CHUNK_GRAINS_MAX;
use crate::table::resolve::section_bytes;
use crate::table::types::GrainSet;
use crate::units::{ByteCount, ChunkIndex, GrainIndex};
use alloc::vec::Vec;

/// Where everything lies in a data object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// First byte of each section: [`crate::table::types::SectionRef::offset`].
    pub sections: Vec<u32>,
    /// First byte of the directory.
    pub tail: u32,
    /// Bytes of the whole object.
    pub bytes: ByteCount,
}

/// Where everything will lie, known before a byte is made.
///
/// Panics when a section has no grain or more than a chunk has, or grains that do not ascend.
pub fn layout<P>(object: &DataObject<P>) -> Layout {
    let mut at = 0;
    let sections = object.sections.iter().map(|section| {
        let start = place(at);
        at += section_bytes(object.frame_grains, section.grains.len() as u32);
        start
    });
    let sections: Vec<u32> = sections.collect();
    let tail = place(at);
    let bytes = at + tail_of(object, &sections).len() as u64;
    Layout {
        sections,
        tail,
        bytes: ByteCount(bytes),
    }
}

/// Encodes the object into `target`. Gives the sums, section by section, grain by grain.
pub(super) fn encode<P: Payload>(
    object: &DataObject<P>,
    target: &mut impl Target<P>,
) -> (ByteCount, Vec<Vec<BoundSum>>) {
    let Layout {
        sections, bytes, ..
    } = layout(object);
    let sums = object
        .sections
        .iter()
        .map(|section| encode_section(object, section, target));
    let sums = sums.collect();
    target.put(tail_of(object, &sections));
    (bytes, sums)
}

fn encode_section<P: Payload>(
    object: &DataObject<P>,
    section: &SectionDraft<P>,
    target: &mut impl Target<P>,
) -> Vec<BoundSum> {
    let mut sums = Vec::with_capacity(section.grains.len());
    for (number, grains) in section
        .grains
        .chunks(object.frame_grains as usize)
        .enumerate()
    {
        let first = sums.len();
        for grain in grains {
            let len = grain.content.len().0;
            assert_eq!(
                len,
                u64::from(crate::units::GRAIN_BYTES),
                "bytes of a grain"
            );
            sums.push(target.sum(&grain.content).bind(object.volume, grain.index));
        }
        let header = FrameHeader {
            attach: object.attach,
            chunk: section.chunk,
            serial: object.serial,
            // A chunk has at most 2048 grains, and a frame at least one.
            frame: number as u16,
            sums: sums[first..].into(),
        };
        target.put(frame::emit(&header).to_vec());
        grains
            .iter()
            .for_each(|grain| target.put_content(&grain.content));
    }
    sums
}

/// The directory of a data object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tail {
    /// The volume whose container it belongs to: what the grains' sums are bound to.
    pub volume: VolumeId,
    /// Who wrote the object.
    pub attach: AttachId,
    /// The serial of its name.
    pub serial: u32,
    /// Grains of a frame.
    pub frame_grains: u32,
    /// The sections, in the order they lie.
    pub sections: Vec<TailSection>,
}

/// A section in the directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TailSection {
    /// The chunk.
    pub chunk: ChunkIndex,
    /// First byte of the section.
    pub offset: u32,
    /// The first grain, by index in the volume.
    pub first: GrainIndex,
    /// All grains, counted from the first.
    pub grains: GrainSet,
}

/// Bytes behind the directory that let it be found from the object's end.
const FOOTER_BYTES: usize = 8;
const FOOTER_MAGIC: [u8; 4] = *b"mlt<";

fn tail_of<P>(object: &DataObject<P>, offsets: &[u32]) -> Vec<u8> {
    let sections = object
        .sections
        .iter()
        .zip(offsets)
        .map(|(section, offset)| {
            let first = section.grains.first().expect("a section has a grain").index;
            let grains = section.grains.iter().map(|grain| {
                let delta = grain.index.0.checked_sub(first.0).expect("grains ascend");
                assert!(delta < u64::from(CHUNK_GRAINS_MAX), "grains of one chunk");
                delta as u16
            });
            let grains = GrainSet::from_ascending(grains);
            assert_eq!(grains.len() as usize, section.grains.len(), "grains ascend");
            TailSection {
                chunk: section.chunk,
                offset: *offset,
                first,
                grains,
            }
        });
    emit_tail(&Tail {
        volume: object.volume,
        attach: object.attach,
        serial: object.serial,
        frame_grains: object.frame_grains,
        sections: sections.collect(),
    })
}

/// The directory as bytes.
pub fn emit_tail(tail: &Tail) -> Vec<u8> {
    let mut out = Vec::new();
    begin(&mut out);
    out.put(&tail.volume.0);
    out.put_attach(tail.attach);
    out.put_u32(tail.serial);
    out.put_u32(tail.frame_grains);
    out.put_count(tail.sections.len());
    out.put_u32(0);
    for section in &tail.sections {
        out.put_u64(section.chunk.0);
        out.put_u64(section.first.0);
        out.put_u32(section.offset);
        // A byte that says how the data is packed: plainly.
        out.put_u8(0);
        out.put_u8(0);
        out.put_u16(section.grains.runs.len() as u16);
        for (first, count) in &section.grains.runs {
            out.put_u16(*first);
            out.put_u16(*count);
        }
        out.pad(8);
    }
    let bytes = out.len() + FOOTER_BYTES;
    out.put_count(bytes);
    out.put(&FOOTER_MAGIC);
    seal(&mut out, Magic::TAIL, 0);
    out
}

/// How long the directory is, from the object's last eight bytes.
///
/// # Errors
///
/// They are not the end of a directory.
pub fn tail_bytes(last_eight: [u8; FOOTER_BYTES]) -> Result<u32, Unreadable> {
    let mut footer = Reader::new(&last_eight);
    let bytes = footer.u32()?;
    (footer.array()? == FOOTER_MAGIC)
        .then_some(bytes)
        .ok_or(Unreadable::Malformed(Malformed::Magic))
}

/// Reads a directory.
///
/// # Errors
///
/// Anything but what [`emit_tail`] made.
pub fn parse_tail(bytes: &[u8]) -> Result<Tail, Unreadable> {
    let mut fields = open_whole(bytes, Magic::TAIL)?;
    let (volume, attach) = (VolumeId(fields.array()?), fields.attach()?);
    let (serial, frame_grains) = (fields.u32()?, fields.u32()?);
    if !(1..=FRAME_GRAINS_MAX as u32).contains(&frame_grains) {
        return Err(Malformed::Value("grains of a frame").into());
    }
    let count = fields.count(32)?;
    fields.zeros(4)?;
    let mut sections = Vec::with_capacity(count);
    for _ in 0..count {
        let (chunk, first) = (ChunkIndex(fields.u64()?), GrainIndex(fields.u64()?));
        let offset = fields.u32()?;
        fields.zeros(2)?;
        let mut grains = GrainSet::default();
        for _ in 0..fields.u16()? {
            grains.runs.push((fields.u16()?, fields.u16()?));
        }
        fields.pad(8)?;
        if !grains.is_valid(CHUNK_GRAINS_MAX) || !grains.contains(0) {
            return Err(Malformed::Value("grains").into());
        }
        sections.push(TailSection {
            chunk,
            offset,
            first,
            grains,
        });
    }
    let is_end = fields.u32()? as usize == bytes.len() && fields.array()? == FOOTER_MAGIC;
    fields.end()?;
    let tail = Tail {
        volume,
        attach,
        serial,
        frame_grains,
        sections,
    };
    is_end
        .then_some(tail)
        .ok_or(Unreadable::Malformed(Malformed::Value("footer")))
}

#[cfg(test)]
pub(crate) mod tests;
