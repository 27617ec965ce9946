//! A frame: up to 16 grains of a section behind a header that proves them.
//!
//! Binding  the header says whose frame it is (attach id, serial, chunk, number in the section); each grain's sum is bound
//!          to the volume and the grain. So a frame that lies where another should is refused, and so is a grain.

use crate::codec::{Fill, Magic, Malformed, Put, Unreadable, begin, open, seal};
use crate::effect::FrameExpect;
use crate::ids::{AttachId, VolumeId};
use crate::object::names::DataName;
use crate::sum::{BoundSum, Sum};
use crate::units::{ChunkIndex, GRAIN_BYTES};
use alloc::vec::Vec;
use core::ops::Range;
use smallvec::SmallVec;

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 128;

/// Most grains of a frame.
pub const FRAME_GRAINS_MAX: usize = 16;

/// What stands before a frame's grains.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// Who wrote the object.
    pub attach: AttachId,
    /// The chunk.
    pub chunk: ChunkIndex,
    /// The serial of the object's name.
    pub serial: u32,
    /// Number of the frame in its section.
    pub frame: u16,
    /// A sum per grain, 1 to 16.
    pub sums: SmallVec<[BoundSum; 16]>,
}

/// The header as bytes.
///
/// Panics when it has no grain, or more than [`FRAME_GRAINS_MAX`].
pub fn emit(header: &FrameHeader) -> [u8; HEADER_BYTES] {
    let count = header.sums.len();
    assert!(
        (1..=FRAME_GRAINS_MAX).contains(&count),
        "a frame of {count} grains"
    );
    let mut bytes = [0; HEADER_BYTES];
    let mut out = Fill::new(&mut bytes);
    begin(&mut out);
    out.put_attach(header.attach);
    out.put_u64(header.chunk.0);
    out.put_u32(header.serial);
    out.put_u16(header.frame);
    out.put_u16(count as u16);
    header.sums.iter().for_each(|sum| out.put_u32(sum.0));
    seal(&mut bytes, Magic::FRAME, 0);
    bytes
}

/// Reads a header; what lies behind it is not looked at.
///
/// # Errors
///
/// Anything but what [`emit`] made.
pub fn parse(bytes: &[u8]) -> Result<FrameHeader, Unreadable> {
    let mut fields = open(bytes, Magic::FRAME, 0)?;
    let (attach, chunk) = (fields.attach()?, ChunkIndex(fields.u64()?));
    let (serial, frame, count) = (fields.u32()?, fields.u16()?, usize::from(fields.u16()?));
    if !(1..=FRAME_GRAINS_MAX).contains(&count) {
        return Err(Malformed::Value("grains of a frame").into());
    }
    let sums: Result<_, _> = (0..count).map(|_| fields.u32().map(BoundSum)).collect();
    fields.zeros(4 * (FRAME_GRAINS_MAX - count))?;
    fields.end()?;
    Ok(FrameHeader {
        attach,
        chunk,
        serial,
        frame,
        sums: sums?,
    })
}

/// Checks a frame whose data is not bytes: its header, and the sum of each grain as `sum_of` gives it by its number.
///
/// # Errors
///
/// The header is not that of this frame of this object, or a grain has another sum.
pub fn verify(
    header: &[u8],
    expect: &FrameExpect,
    volume: VolumeId,
    name: &DataName,
    mut sum_of: impl FnMut(usize) -> Sum,
) -> Result<SmallVec<[BoundSum; 16]>, Unreadable> {
    let header = parse(header)?;
    let is_it = header.attach == name.attach
        && header.serial == name.serial
        && header.chunk == expect.chunk
        && u32::from(header.frame) == expect.frame
        && header.sums.len() == expect.grains.len();
    if !is_it {
        return Err(Malformed::Misplaced.into());
    }
    for (number, (grain, sum)) in expect.grains.iter().zip(&header.sums).enumerate() {
        if sum_of(number).bind(volume, *grain) != *sum {
            return Err(Malformed::Checksum.into());
        }
    }
    Ok(header.sums)
}

/// Bytes of a frame of so many grains.
pub const fn frame_bytes(grains: usize) -> usize {
    HEADER_BYTES + grains * GRAIN_BYTES as usize
}

/// Checks a frame, header and data; `sum` is CRC32C.
///
/// # Errors
///
/// The bytes are not this frame of this object: wrong length, wrong header, or a grain has another sum.
pub fn check(
    bytes: &[u8],
    expect: &FrameExpect,
    volume: VolumeId,
    name: &DataName,
    sum: impl Fn(&[u8]) -> Sum,
) -> Result<SmallVec<[BoundSum; 16]>, Unreadable> {
    let (header, data) = bytes
        .split_at_checked(HEADER_BYTES)
        .ok_or(Malformed::Short)?;
    let (grains, rest) = data.as_chunks::<{ GRAIN_BYTES as usize }>();
    if grains.len() != expect.grains.len() || !rest.is_empty() {
        return Err(Malformed::Short.into());
    }
    verify(header, expect, volume, name, |number| {
        grains
            .get(number)
            .map_or_else(Sum::default, |grain| sum(grain))
    })
}

/// A frame's sums, and where its data lies in the bytes that were checked.
pub type Checked = (Range<usize>, SmallVec<[BoundSum; 16]>);

/// Checks frames that lie one behind another; nothing may lie behind the last.
///
/// # Errors
///
/// As [`check`], for any of them.
pub fn check_all(
    bytes: &[u8],
    expects: &[FrameExpect],
    volume: VolumeId,
    name: &DataName,
    sum: impl Fn(&[u8]) -> Sum,
) -> Result<Vec<Checked>, Unreadable> {
    let mut at = 0;
    let mut checked = Vec::with_capacity(expects.len());
    for expect in expects {
        let end = at + frame_bytes(expect.grains.len());
        let frame = bytes.get(at..end).ok_or(Malformed::Short)?;
        let sums = check(frame, expect, volume, name, &sum)?;
        checked.push((at + HEADER_BYTES..end, sums));
        at = end;
    }
    if at != bytes.len() {
        return Err(Malformed::Trailing.into());
    }
    Ok(checked)
}

#[cfg(test)]
mod tests;
