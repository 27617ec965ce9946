//! Standard INQUIRY data. SPC-4 §6.6.2, "Standard INQUIRY data".

use super::cut;
use super::unit::UnitView;

/// T10 VENDOR IDENTIFICATION, 8 bytes.
pub const VENDOR: &[u8; 8] = b"MARTLET ";
/// PRODUCT IDENTIFICATION, 16 bytes.
const PRODUCT: &[u8; 16] = b"VIRTUAL-DISK    ";
/// PRODUCT REVISION LEVEL, 4 bytes.
const REVISION: &[u8; 4] = b"0001";

/// The standards that we claim. SPC-4 §6.6.2, "Version descriptor values".
const VERSIONS: [u16; 4] = [
    0x00a0, // SAM-5
    0x0460, // SPC-4
    0x04c0, // SBC-3
    0x0960, // iSCSI
];

/// The data for a unit, or for a LUN without one (`None`): peripheral qualifier 3, type 1Fh.
pub fn standard(unit: Option<&UnitView<'_>>, allocation: u32) -> Vec<u8> {
    let removable = unit.is_some_and(|u| u.unit.spec().removable);
    let mut out = vec![
        if unit.is_some() { 0x00 } else { 0x7f },
        if removable { 0x80 } else { 0 },
        0x06,        // SPC-4
        0x10 | 0x02, // HISUP (REPORT LUNS is there), response data format 2
        0,           // additional length, set below
        0x08,        // 3PC: copies by itself; no SCC, no TPGS, no protection
        0,
        0x02, // CMDQUE
    ];
    out.extend(VENDOR);
    out.extend(PRODUCT);
    out.extend(REVISION);
    out.resize(58, 0);
    for version in VERSIONS {
        out.extend(version.to_be_bytes());
    }
    out.resize(96, 0);
    if let Some(length) = out.get_mut(4) {
        *length = 96 - 5;
    }
    cut(out, allocation)
}
