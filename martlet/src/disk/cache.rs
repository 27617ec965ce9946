//! Slots of the frame cache.
//!
//! ```text
//! slot n at n × 69,632:  header page, then up to 16 grains
//! header, little-endian: 0 magic "MLTC" · 4 format u16 = 1 · 6 grains u8 · 7 container's length u8 · 8 offset u32
//!   · 12 serial u32 · 16 version u64 · 24 first u64 · 32 last u64 · 40 generation u64 · 48 nonce u64
//!   · 56 container `<name>.<volume-id>` · then per grain: index u64, sum u32 · then CRC-32 of all before it
//! ```
//!
//! Nothing is synced: a slot whose header or data was lost fails its check and is a miss. A slot's header is made
//! invalid before another frame's data is written, so that a torn fill is not taken for the old frame; even if the
//! disk reorders the two, the data's own sums tell.

use super::files::{self, PAGE};
use bytes::Bytes;
use engine::Parts;
use engine::effect::CachedFrame;
use engine::ids::{AttachId, Container, Generation, Version};
use engine::object::names::DataName;
use engine::sum::BoundSum;
use engine::table::types::ObjectRef;
use engine::units::{ChunkIndex, GrainIndex};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Grains of a slot.
const GRAINS: usize = 16;

/// Bytes of a slot.
pub(crate) const SLOT: u64 = (PAGE + GRAINS * PAGE) as u64;

const MAGIC: &[u8; 4] = b"MLTC";
const FORMAT: u16 = 1;
const FIXED: usize = 56;
const PER_GRAIN: usize = 12;

/// Writes a frame into a slot.
pub(crate) fn fill(
    file: &File,
    slot: u32,
    frame: &CachedFrame,
    data: &Parts<Bytes>,
) -> io::Result<()> {
    let header = encode(frame).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    if data.len().0 > (GRAINS * PAGE) as u64 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let at = u64::from(slot) * SLOT;
    file.write_all_at(&[0; 8], at)?;
    let mut page = [0; PAGE];
    // `encode` gives at most 56 + 255 + 16 × 12 + 4 bytes.
    for (to, from) in page.iter_mut().zip(&header) {
        *to = *from;
    }
    let mut all = Parts::one(Bytes::copy_from_slice(&page));
    for part in &data.0 {
        all.push(part.clone());
    }
    files::write_gathered(file, at, &[], &all)
}

/// Makes a slot invalid and gives its space back.
pub(crate) fn clear(file: &File, slot: u32) -> io::Result<()> {
    let at = u64::from(slot) * SLOT;
    if at >= file.metadata()?.len() {
        return Ok(());
    }
    let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    match rustix::fs::fallocate(file, flags, at, SLOT) {
        Ok(()) => Ok(()),
        // Without holes the space stays taken; invalid it must be.
        Err(_) => file.write_all_at(&[0; 8], at),
    }
}

/// Every slot with a valid header.
pub(crate) fn list(file: &File) -> io::Result<Vec<(u32, CachedFrame)>> {
    let len = file.metadata()?.len();
    let mut found = Vec::new();
    let mut slot = 0_u32;
    while u64::from(slot) * SLOT + PAGE as u64 <= len {
        let at = u64::from(slot) * SLOT;
        // Evicted and never used slots are holes: jump over them.
        match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) if data / SLOT > u64::from(slot) => {
                slot = u32::try_from(data / SLOT).map_err(io::Error::other)?;
                continue;
            }
            Ok(_) => {}
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        }
        let page = files::read_wait(file, at, PAGE)?;
        if let Some(frame) = decode(&page) {
            found.push((slot, frame));
        }
        slot += 1;
    }
    Ok(found)
}

fn encode(frame: &CachedFrame) -> Option<Vec<u8>> {
    let container = frame.object.container.to_string();
    let name = &frame.object.name;
    if frame.grains.len() > GRAINS || frame.grains.len() != frame.sums.len() {
        return None;
    }
    let mut b = Vec::with_capacity(512);
    b.extend_from_slice(MAGIC);
    b.extend_from_slice(&FORMAT.to_le_bytes());
    b.push(u8::try_from(frame.grains.len()).ok()?);
    b.push(u8::try_from(container.len()).ok()?);
    b.extend_from_slice(&frame.offset.to_le_bytes());
    b.extend_from_slice(&name.serial.to_le_bytes());
    for number in [
        name.version.0,
        name.first.0,
        name.last.0,
        name.attach.generation.0,
        name.attach.nonce,
    ] {
        b.extend_from_slice(&number.to_le_bytes());
    }
    b.extend_from_slice(container.as_bytes());
    for (grain, sum) in frame.grains.iter().zip(&frame.sums) {
        b.extend_from_slice(&grain.0.to_le_bytes());
        b.extend_from_slice(&sum.0.to_le_bytes());
    }
    let check = crc32fast::hash(&b);
    b.extend_from_slice(&check.to_le_bytes());
    Some(b)
}

fn decode(page: &[u8]) -> Option<CachedFrame> {
    if page.get(..4)? != MAGIC || page.get(4..6)? != FORMAT.to_le_bytes() {
        return None;
    }
    let count = usize::from(*page.get(6)?);
    let name_len = usize::from(*page.get(7)?);
    let grains_at = FIXED + name_len;
    let end = grains_at + count * PER_GRAIN;
    if count > GRAINS || u32_at(page, end)? != crc32fast::hash(page.get(..end)?) {
        return None;
    }
    let container = Container::parse(std::str::from_utf8(page.get(FIXED..grains_at)?).ok()?)?;
    let name = DataName {
        version: Version(u64_at(page, 16)?),
        first: ChunkIndex(u64_at(page, 24)?),
        last: ChunkIndex(u64_at(page, 32)?),
        attach: AttachId {
            generation: Generation(u64_at(page, 40)?),
            nonce: u64_at(page, 48)?,
        },
        serial: u32_at(page, 12)?,
    };
    let mut frame = CachedFrame {
        object: ObjectRef { container, name },
        offset: u32_at(page, 8)?,
        grains: smallvec::SmallVec::new(),
        sums: smallvec::SmallVec::new(),
    };
    for n in 0..count {
        let at = grains_at + n * PER_GRAIN;
        frame.grains.push(GrainIndex(u64_at(page, at)?));
        frame.sums.push(BoundSum(u32_at(page, at + 8)?));
    }
    Some(frame)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*field))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*field))
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::ids::VolumeId;

    fn frame(serial: u32, grains: u64) -> CachedFrame {
        let attach = AttachId {
            generation: Generation(3),
            nonce: 0x0123_4567_89ab_cdef,
        };
        CachedFrame {
            object: ObjectRef {
                container: Container::new("vm01", VolumeId([9; 16])),
                name: DataName {
                    version: Version(41),
                    first: ChunkIndex(5),
                    last: ChunkIndex(900),
                    attach,
                    serial,
                },
            },
            offset: 65_664,
            grains: (0..grains).map(|g| GrainIndex(g * 7)).collect(),
            sums: (0..grains).map(|g| BoundSum(g as u32 ^ 0xffff)).collect(),
        }
    }

    #[test]
    fn decode_undoes_encode() {
        for grains in [0, 1, 16] {
            let mut page = encode(&frame(1, grains)).unwrap();
            page.resize(PAGE, 0);
            assert_eq!(decode(&page), Some(frame(1, grains)));
        }
    }

    #[test]
    fn every_altered_header_byte_is_noticed() {
        let header = encode(&frame(1, 16)).unwrap();
        for at in 0..header.len() {
            let mut page = header.clone();
            page[at] ^= 0x10;
            page.resize(PAGE, 0);
            assert_eq!(decode(&page), None, "byte {at}");
        }
        assert_eq!(decode(&[]), None);
    }

    #[test]
    fn lists_what_was_filled_and_not_cleared() {
        let file = tempfile::tempfile().unwrap();
        for slot in [0, 2, 700] {
            fill(
                &file,
                slot,
                &frame(slot, 16),
                &Parts::one(vec![slot as u8; 16 * PAGE].into()),
            )
            .unwrap();
        }
        clear(&file, 2).unwrap();
        clear(&file, 9000).unwrap();
        let found = list(&file).unwrap();
        assert_eq!(found, [(0, frame(0, 16)), (700, frame(700, 16))]);
        let data = files::read_wait(&file, 700 * SLOT + PAGE as u64, 16 * PAGE).unwrap();
        assert_eq!(*data, [188; 16 * PAGE]);
    }

    #[test]
    fn a_frame_of_fewer_grains_fits_the_last_slot_of_the_file() {
        let file = tempfile::tempfile().unwrap();
        fill(&file, 1, &frame(1, 1), &Parts::one(vec![1; PAGE].into())).unwrap();
        assert_eq!(list(&file).unwrap(), [(1, frame(1, 1))]);
    }
}
