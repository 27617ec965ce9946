//! EXTENDED COPY (LID1) and RECEIVE COPY RESULTS: blocks copied within one unit. SPC-4 §6.4, "EXTENDED COPY command", and §6.18,
//! "RECEIVE COPY RESULTS command".
//!
//! Shape      a parameter list becomes a [`Plan`]: extents and where they go. The job reads and writes part by part.
//! Not here   copies between units: a designator of another unit is one that cannot be reached.

use super::unit::UnitView;
use super::{Sense, cut, vpd};
use engine::units::{Extent, Lba};

/// Most CSCD descriptors of a list.
const TARGETS_MAX: usize = 16;
/// Most segment descriptors of a list.
const SEGMENTS_MAX: usize = 64;
/// Bytes of a CSCD descriptor.
const TARGET_BYTES: usize = 32;
/// Bytes of a segment descriptor "block device to block device".
const SEGMENT_BYTES: usize = 28;
/// Bytes of a list's header.
const HEADER_BYTES: usize = 16;
/// Most bytes of all descriptors.
const DESCRIPTORS_BYTES_MAX: usize = TARGETS_MAX * TARGET_BYTES + SEGMENTS_MAX * SEGMENT_BYTES;
/// Most bytes of a parameter list.
pub const LIST_BYTES_MAX: u32 = (HEADER_BYTES + DESCRIPTORS_BYTES_MAX) as u32;
/// Most bytes of one segment: its field counts 16 bits of blocks.
const SEGMENT_COPY_BYTES_MAX: u32 = 0xffff * 512;

/// Identification descriptor CSCD descriptor.
const IDENTIFICATION: u8 = 0xe4;
/// Block device to block device segment descriptor.
const BLOCK_TO_BLOCK: u8 = 0x02;

/// Copies remembered for RECEIVE COPY RESULTS, per unit.
pub const RECORDS_MAX: usize = 32;

/// What a list asks for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// The initiator's name for the copy.
    pub list_id: u8,
    /// Whether its outcome is kept.
    pub is_kept: bool,
    /// From where to where, in order. Not empty, within the unit.
    pub segments: Vec<(Extent, Lba)>,
}

/// What became of a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// The session.
    pub tsih: u16,
    /// The initiator's name for it.
    pub list_id: u8,
    /// Segments done.
    pub segments: u16,
    /// Bytes copied.
    pub bytes: u64,
    /// Whether all went well.
    pub is_good: bool,
}

/// Judges a parameter list.
///
/// # Errors
///
/// PARAMETER LIST LENGTH ERROR for a list that ends within a descriptor or is too long; the senses for too many descriptors, for
/// unknown ones, and for copies that cannot be made.
pub fn parse(view: &UnitView<'_>, list: &[u8]) -> Result<Plan, Sense> {
    if list.is_empty() {
        return Ok(Plan::default());
    }
    let short = Sense::PARAMETER_LIST_LENGTH_ERROR;
    let (header, rest) = list.split_at_checked(HEADER_BYTES).ok_or(short)?;
    let [
        list_id,
        flags,
        t0,
        t1,
        _,
        _,
        _,
        _,
        s0,
        s1,
        s2,
        s3,
        i0,
        i1,
        i2,
        i3,
    ] = *header
    else {
        return Err(short);
    };
    if u32::from_be_bytes([i0, i1, i2, i3]) != 0 {
        return Err(Sense::INLINE_DATA_TOO_LONG);
    }
    let target_bytes = usize::from(u16::from_be_bytes([t0, t1]));
    let segment_bytes = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
    let (targets, rest) = rest.split_at_checked(target_bytes).ok_or(short)?;
    let (segments, _) = rest.split_at_checked(segment_bytes).ok_or(short)?;
    if target_bytes + segment_bytes > DESCRIPTORS_BYTES_MAX {
        return Err(short);
    }
    if target_bytes > TARGETS_MAX * TARGET_BYTES {
        return Err(Sense::TOO_MANY_TARGET_DESCRIPTORS);
    }
    let targets = parse_targets(view, targets)?;
    let segments = parse_segments(view, segments, &targets)?;
    Ok(Plan {
        list_id,
        is_kept: flags >> 3 & 3 != 3,
        segments,
    })
}

/// Which of the CSCD descriptors name this unit.
fn parse_targets(view: &UnitView<'_>, list: &[u8]) -> Result<Vec<bool>, Sense> {
    let naa = vpd::naa(view);
    let mut out = Vec::new();
    for descriptor in list.chunks(TARGET_BYTES) {
        // Bytes 4 to 27 are a designator as VPD page 83h has it; byte 7 is its length. What stands in byte 1 (the kind of LUN,
        // NUL) is to be ignored.
        let [IDENTIFICATION, _, _, _, _, kind, _, length, rest @ ..] = descriptor else {
            return Err(Sense::UNSUPPORTED_TARGET_DESCRIPTOR);
        };
        let designator = rest.get(..usize::from(*length)).unwrap_or(&[]);
        out.push(match kind & 0x0f {
            3 => designator == naa,
            1 => designator == vpd::t10(view),
            _ => false,
        });
    }
    Ok(out)
}

fn parse_segments(
    view: &UnitView<'_>,
    mut list: &[u8],
    targets: &[bool],
) -> Result<Vec<(Extent, Lba)>, Sense> {
    let mut out = Vec::new();
    let mut count = 0;
    while !list.is_empty() {
        count += 1;
        if count > SEGMENTS_MAX {
            return Err(Sense::TOO_MANY_SEGMENT_DESCRIPTORS);
        }
        if list.first() != Some(&BLOCK_TO_BLOCK) {
            return Err(Sense::UNSUPPORTED_SEGMENT_DESCRIPTOR);
        }
        let (descriptor, rest) = list
            .split_at_checked(SEGMENT_BYTES)
            .ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
        list = rest;
        let field = |at: usize, bytes: usize| {
            let field = descriptor.iter().skip(at).take(bytes);
            field.fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
        };
        for index in [field(4, 2), field(6, 2)] {
            let target = usize::try_from(index).ok().and_then(|i| targets.get(i));
            match target {
                Some(true) => {}
                Some(false) => return Err(Sense::COPY_TARGET_NOT_REACHABLE),
                None => return Err(Sense::UNREACHABLE_COPY_TARGET),
            }
        }
        let blocks = field(10, 2);
        let within = |lba: u64| view.within(lba, blocks).map_err(|_| Sense::COPY_ABORTED);
        let (from, to) = (within(field(12, 8))?, within(field(20, 8))?);
        if !from.is_empty() {
            out.push((from, to.start));
        }
    }
    Ok(out)
}

/// RECEIVE COPY RESULTS, COPY STATUS.
///
/// # Errors
///
/// INVALID FIELD IN CDB for a copy that is not remembered.
pub fn status(record: Option<Record>, allocation: u32) -> Result<Vec<u8>, Sense> {
    let record = record.ok_or(Sense::cdb_field(2, None))?;
    let mut out = vec![0, 0, 0, 8, if record.is_good { 1 } else { 2 }];
    out.extend(record.segments.to_be_bytes());
    // Transfer count in KiB: bytes would not fit.
    out.push(1);
    let kib = u32::try_from(record.bytes >> 10).unwrap_or(u32::MAX);
    out.extend(kib.to_be_bytes());
    Ok(cut(out, allocation))
}

/// RECEIVE COPY RESULTS, OPERATING PARAMETERS.
pub fn operating_parameters(allocation: u32) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 42, 1, 0, 0, 0]; // SNLID: an initiator need not name its copies
    out.extend((TARGETS_MAX as u16).to_be_bytes());
    out.extend((SEGMENTS_MAX as u16).to_be_bytes());
    out.extend((DESCRIPTORS_BYTES_MAX as u32).to_be_bytes());
    out.extend(SEGMENT_COPY_BYTES_MAX.to_be_bytes());
    out.extend([0; 4]); // no inline data
    out.extend([0; 4]); // no held data
    out.extend([0; 4]); // no stream devices
    out.extend([0, 0]);
    out.extend((RECORDS_MAX as u16).to_be_bytes()); // concurrent copies of all
    out.push(RECORDS_MAX as u8); // and of one
    out.extend([9, 0, 0]); // granularity of segments: 512 bytes
    out.extend([0, 0, 0, 2, BLOCK_TO_BLOCK, IDENTIFICATION]);
    cut(out, allocation)
}

/// The body of the third-party copy VPD page. SPC-4 §7.8.17, "Third-party Copy VPD page".
pub fn vpd_body() -> Vec<u8> {
    let mut out = Vec::new();
    let mut descriptor = |kind: u16, body: &[u8]| {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        out.extend(kind.to_be_bytes());
        out.extend((body.len() as u16).to_be_bytes());
        out.extend(body);
    };
    // Supported commands: EXTENDED COPY (LID1); RECEIVE COPY RESULTS, COPY STATUS and OPERATING PARAMETERS.
    descriptor(0x0001, &[7, 0x83, 1, 0x00, 0x84, 2, 0x00, 0x03]);
    let mut parameters = vec![0; 8];
    parameters.extend((TARGETS_MAX as u16).to_be_bytes());
    parameters.extend((SEGMENTS_MAX as u16).to_be_bytes());
    parameters.extend((DESCRIPTORS_BYTES_MAX as u32).to_be_bytes());
    parameters.extend([0; 4]);
    parameters.resize(28, 0);
    descriptor(0x0004, &parameters);
    descriptor(0x0008, &[2, BLOCK_TO_BLOCK, IDENTIFICATION]);
    descriptor(0x000c, &[0, 0]);
    out
}
