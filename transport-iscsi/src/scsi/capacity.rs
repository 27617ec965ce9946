//! READ CAPACITY, REPORT LUNS, GET LBA STATUS: what there is.

use super::cut;
use super::unit::UnitView;
use crate::wire::Lun;
use engine::units::Lba;

/// READ CAPACITY (10) parameter data. SBC-3 §5.15, "READ CAPACITY (10) command".
pub fn read_capacity_10(unit: &UnitView<'_>) -> Vec<u8> {
    // All ones: ask with READ CAPACITY (16).
    let last = u32::try_from(unit.last().0).unwrap_or(u32::MAX);
    let mut out = last.to_be_bytes().to_vec();
    out.extend(unit.block_bytes().to_be_bytes());
    out
}

/// READ CAPACITY (16) parameter data. SBC-3 §5.16, "READ CAPACITY (16) command".
pub fn read_capacity_16(unit: &UnitView<'_>, allocation: u32) -> Vec<u8> {
    let mut out = unit.last().0.to_be_bytes().to_vec();
    out.extend(unit.block_bytes().to_be_bytes());
    // No protection information. Logical blocks per physical block exponent: the grain is the physical block.
    out.extend([0, unit.physical_exponent()]);
    // LBPME and LBPRZ: thin, and what is unmapped reads as zeros. Lowest aligned LBA 0.
    out.extend([0xc0, 0]);
    out.resize(32, 0);
    cut(out, allocation)
}

/// REPORT LUNS parameter data. SPC-4 §6.33, "REPORT LUNS command".
pub fn report_luns(unit_count: u16, only_well_known: bool, allocation: u32) -> Vec<u8> {
    let count = if only_well_known { 0 } else { unit_count };
    let mut out = (u32::from(count) * 8).to_be_bytes().to_vec();
    out.extend([0; 4]);
    for index in 0..count {
        out.extend(Lun::from_index(index).0.to_be_bytes());
    }
    cut(out, allocation)
}

/// GET LBA STATUS parameter data: one run from `from` on. SBC-3 §5.6, "GET LBA STATUS command".
///
/// Deviates: every block is told as mapped (status 0h, which the standard calls "mapped or unknown"); the volume has no
/// cheap question for it.
pub fn lba_status(unit: &UnitView<'_>, from: Lba, allocation: u32) -> Vec<u8> {
    let blocks = unit.capacity().0.saturating_sub(from.0);
    let mut out = 20_u32.to_be_bytes().to_vec();
    out.extend([0; 4]);
    out.extend(from.0.to_be_bytes());
    out.extend(u32::try_from(blocks).unwrap_or(u32::MAX).to_be_bytes());
    out.extend([0; 4]);
    cut(out, allocation)
}
