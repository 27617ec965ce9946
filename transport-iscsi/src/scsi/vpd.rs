//! Vital product data: pages of INQUIRY about identity and limits. SPC-4 §7.8, "Vital product data parameters"; SBC-3 §6.6,
//! "Vital product data (VPD) parameters".

use super::inquiry::VENDOR;
use super::unit::{COMPARE_BLOCKS_MAX, UNMAP_DESCRIPTORS_MAX, UnitView};
use super::{Sense, cut};
use md5::Digest;

/// The pages that we have, ascending.
const PAGES: [u8; 8] = [0x00, 0x80, 0x83, 0x86, 0x8f, 0xb0, 0xb1, 0xb2];

/// What the pages about identity need beside the unit.
#[derive(Clone, Copy, Debug)]
pub struct Port<'a> {
    /// The target's iSCSI name.
    pub target: &'a str,
    /// Target portal group tag; also the relative target port.
    pub group: u16,
}

/// A page, cut at the allocation length.
///
/// # Errors
///
/// INVALID FIELD IN CDB for a page that we do not have.
pub fn page(
    unit: &UnitView<'_>,
    port: Port<'_>,
    code: u8,
    allocation: u32,
) -> Result<Vec<u8>, Sense> {
    let body = match code {
        0x00 => PAGES.to_vec(),
        0x80 => serial(unit).into_bytes(),
        0x83 => identification(unit, port),
        0x86 => extended_inquiry(),
        0x8f => super::copy::vpd_body(),
        0xb0 => block_limits(unit),
        0xb1 => block_device_characteristics(),
        0xb2 => logical_block_provisioning(),
        _ => return Err(Sense::cdb_field(2, None)),
    };
    // Pages here are far shorter than 64 KiB.
    let [high, low] = (body.len() as u16).to_be_bytes();
    let mut out = vec![0, code, high, low];
    out.extend(body);
    Ok(cut(out, allocation))
}

/// The unit's serial number: the volume's id, and which unit of it.
pub fn serial(unit: &UnitView<'_>) -> String {
    let spec = unit.unit.spec();
    if spec.instance == 0 {
        spec.volume.to_string()
    } else {
        format!("{}-{}", spec.volume, spec.instance)
    }
}

/// A locally assigned NAA identifier (type 3h): we own no company id. 60 bits of a hash, so that units differ.
pub(super) fn naa(unit: &UnitView<'_>) -> [u8; 8] {
    let mut d = sha2::Sha256::new();
    d.update(unit.unit.spec().volume.0);
    d.update(unit.unit.spec().instance.to_be_bytes());
    let hash: [u8; 32] = d.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = hash;
    [0x30 | a & 0x0f, b, c, d, e, f, g, h]
}

#[cfg(test)]
pub(crate) fn naa_text(unit: &UnitView<'_>) -> String {
    naa(unit).iter().map(|b| format!("{b:02x}")).collect()
}

/// A T10 vendor ID designator: the vendor, then the serial number.
pub(super) fn t10(unit: &UnitView<'_>) -> Vec<u8> {
    let mut out = VENDOR.to_vec();
    out.extend(serial(unit).into_bytes());
    out
}

/// SPC-4 §7.8.6, "Device Identification VPD page".
fn identification(unit: &UnitView<'_>, port: Port<'_>) -> Vec<u8> {
    const BINARY: u8 = 1;
    const ASCII: u8 = 2;
    const UTF8: u8 = 3;
    /// Byte 1: about the target port, protocol iSCSI (PIV set).
    const PORT: u8 = 0x90;
    let mut out = Vec::new();
    let mut push = |code_set: u8, kind: u8, value: &[u8]| {
        let protocol = if kind & 0x80 == 0 { 0 } else { 0x50 };
        out.extend([protocol | code_set, kind, 0, value.len() as u8]);
        out.extend(value);
    };
    push(BINARY, 0x03, &naa(unit));
    push(ASCII, 0x01, &t10(unit));
    push(BINARY, PORT | 0x04, &[0, 0, 0, 1]);
    let [high, low] = port.group.to_be_bytes();
    push(BINARY, PORT | 0x05, &[0, 0, high, low]);
    // The port's name, NUL-terminated and padded to a multiple of 4; a name of 223 bytes still fits the length byte.
    let mut name = format!("{},t,0x{:04x}", port.target, port.group).into_bytes();
    name.resize((name.len() + 1).next_multiple_of(4), 0);
    push(UTF8, PORT | 0x08, &name);
    out
}

/// SPC-4 §7.8.7, "Extended INQUIRY Data VPD page".
fn extended_inquiry() -> Vec<u8> {
    let mut out = vec![0; 60];
    if let [_, simple, nv, ..] = out.as_mut_slice() {
        *simple = 0x07; // SIMPSUP, ORDSUP, HEADSUP
        *nv = 0x01; // V_SUP: there is a volatile cache
    }
    out
}

/// SBC-3 §6.6.3, "Block Limits VPD page".
fn block_limits(unit: &UnitView<'_>) -> Vec<u8> {
    let grain = unit.grain_blocks();
    let record = unit.record_blocks_max();
    let mut out = vec![
        0x00, // no WSNZ: WRITE SAME of length 0 means to the end
        COMPARE_BLOCKS_MAX,
    ];
    // 255 blocks of 4 KiB fit a record of 1 MiB.
    out.extend((grain as u16).to_be_bytes()); // optimal transfer length granularity
    out.extend(unit.transfer_blocks_max().to_be_bytes());
    out.extend(record.to_be_bytes()); // optimal transfer length
    out.extend([0; 4]); // maximum prefetch length: no limit
    out.extend(u32::MAX.to_be_bytes()); // maximum unmap LBA count: no limit
    out.extend((UNMAP_DESCRIPTORS_MAX as u32).to_be_bytes());
    // Of one block it need not be told, and is better not: QEMU (block/iscsi.c, 7.2 to 10) keeps a map of allocated
    // clusters when it is, and fills that map by requests that end at 512 bytes, on which it then asserts.
    let (granularity, alignment) = if grain > 1 {
        (grain, 0x8000_0000_u32)
    } else {
        (0, 0)
    };
    out.extend(granularity.to_be_bytes()); // optimal unmap granularity
    out.extend(alignment.to_be_bytes()); // unmap granularity alignment 0, valid
    out.extend(unit.write_same_blocks_max().to_be_bytes());
    out.extend(record.to_be_bytes()); // maximum atomic transfer length
    out.extend([0; 4]); // atomic alignment: none
    out.extend([0; 4]); // atomic granularity: none
    out.resize(0x3c, 0);
    out
}

/// SBC-3 §6.6.2, "Block Device Characteristics VPD page".
fn block_device_characteristics() -> Vec<u8> {
    let mut out = vec![0; 60];
    if let [_, rate, ..] = out.as_mut_slice() {
        *rate = 1; // medium rotation rate 0001h: non-rotating
    }
    if let Some(flags) = out.get_mut(4) {
        *flags = 0x02; // VBULS: VERIFY of unmapped blocks works
    }
    out
}

/// SBC-3 §6.6.4, "Logical Block Provisioning VPD page".
fn logical_block_provisioning() -> Vec<u8> {
    // Threshold exponent 0: none. LBPU, LBPWS, LBPWS10, LBPRZ = 001b. Provisioning type 2: thin.
    vec![0, 0xe4, 0x02, 0]
}
