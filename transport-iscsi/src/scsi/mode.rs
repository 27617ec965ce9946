//! Mode pages: MODE SENSE and MODE SELECT. SPC-4 §7.5, "Mode parameters"; SBC-3 §6.5, "Mode parameters".

use super::unit::UnitView;
use super::{Sense, cut};
use crate::target::UnitFlags;

/// Which values are wanted. SPC-4 §6.11, "MODE SENSE (6) command", page control.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageControl {
    /// As they are.
    Current,
    /// Ones where MODE SELECT may change something.
    Changeable,
    /// As they are after a reset.
    Default,
}

/// A MODE SENSE, with what (6) and (10) differ in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModeSense {
    /// The 10-byte command: longer header.
    pub long: bool,
    /// No block descriptor.
    pub no_descriptor: bool,
    /// Descriptors may be 16 bytes long.
    pub long_lba: bool,
    /// Which values.
    pub control: PageControl,
    /// The page; 3Fh: all.
    pub page: u8,
    /// The subpage; FFh: all.
    pub subpage: u8,
    /// Most bytes wanted.
    pub allocation: u32,
}

const READ_WRITE_ERROR_RECOVERY: u8 = 0x01;
const CACHING: u8 = 0x08;
const CONTROL: u8 = 0x0a;
const INFORMATIONAL_EXCEPTIONS: u8 = 0x1c;
const ALL: u8 = 0x3f;

const PAGES: [u8; 4] = [
    READ_WRITE_ERROR_RECOVERY,
    CACHING,
    CONTROL,
    INFORMATIONAL_EXCEPTIONS,
];

/// Control page, byte 2: descriptor format sense data.
const D_SENSE: u8 = 0x04;
/// Control page, byte 4: software write protect.
const SWP: u8 = 0x08;

/// A page's bytes, its two header bytes included.
fn page(code: u8, control: PageControl, flags: UnitFlags) -> Vec<u8> {
    let is_changeable = control == PageControl::Changeable;
    let on = |flag: UnitFlags, mask: u8| match control {
        PageControl::Changeable => mask,
        PageControl::Current if flags.contains(flag) => mask,
        PageControl::Current | PageControl::Default => 0,
    };
    let fixed = |value: u8| if is_changeable { 0 } else { value };
    let body: Vec<u8> = match code {
        READ_WRITE_ERROR_RECOVERY => vec![0; 10],
        CACHING => {
            let mut body = vec![fixed(0x04)]; // WCE: written data is volatile until a flush
            body.resize(18, 0);
            body
        }
        CONTROL => vec![
            on(UnitFlags::DESCRIPTOR_SENSE, D_SENSE),
            fixed(0x10), // queue algorithm modifier 1: unrestricted reordering
            on(UnitFlags::SOFTWARE_WRITE_PROTECT, SWP),
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ],
        _ => vec![0; 10],
    };
    // The longest page has 18 bytes.
    let mut out = vec![code, body.len() as u8];
    out.extend(body);
    out
}

/// MODE SENSE parameter data.
///
/// # Errors
///
/// INVALID FIELD IN CDB for a page that we do not have.
pub fn sense(unit: &UnitView<'_>, want: ModeSense) -> Result<Vec<u8>, Sense> {
    let is_known = want.page == ALL || PAGES.contains(&want.page);
    let is_plain = want.subpage == 0 || want.subpage == 0xff;
    if !is_known || !is_plain {
        let byte = if is_known { 3 } else { 2 };
        return Err(Sense::cdb_field(byte, None));
    }
    let mut body = Vec::new();
    let descriptor_bytes = if want.no_descriptor {
        0
    } else if want.long_lba {
        body.extend(unit.capacity().0.to_be_bytes());
        body.extend([0; 4]);
        body.extend(unit.block_bytes().to_be_bytes());
        16
    } else {
        let blocks = u32::try_from(unit.capacity().0).unwrap_or(u32::MAX);
        body.extend(blocks.to_be_bytes());
        body.extend(unit.block_bytes().to_be_bytes());
        8
    };
    for code in PAGES {
        if want.page == ALL || want.page == code {
            body.extend(page(code, want.control, unit.flags));
        }
    }
    let write_protect = if unit.write_protection().is_some() {
        0x80
    } else {
        0
    };
    // DPOFUA: both bits work in all commands that have them.
    let specific = write_protect | 0x10;
    // At most 16 + 4 pages: a few dozen bytes.
    let body_bytes = body.len() as u8;
    let mut out = if want.long {
        let long_lba = u8::from(descriptor_bytes == 16);
        vec![
            0,
            body_bytes + 6,
            0,
            specific,
            long_lba,
            0,
            0,
            descriptor_bytes,
        ]
    } else {
        vec![body_bytes + 3, 0, specific, descriptor_bytes]
    };
    out.extend(body);
    Ok(cut(out, want.allocation))
}

/// What a MODE SELECT changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Selected {
    /// The flags that it says something about.
    pub mask: UnitFlags,
    /// Their values.
    pub flags: UnitFlags,
}

/// Judges a MODE SELECT parameter list.
///
/// # Errors
///
/// PARAMETER LIST LENGTH ERROR when it ends early; INVALID FIELD IN PARAMETER LIST for pages that we do not have and for
/// values that cannot be changed.
pub fn select(unit: &UnitView<'_>, list: &[u8], long: bool) -> Result<Selected, Sense> {
    let none = Selected {
        mask: UnitFlags::default(),
        flags: UnitFlags::default(),
    };
    if list.is_empty() {
        return Ok(none);
    }
    let short = Sense::PARAMETER_LIST_LENGTH_ERROR;
    let header_bytes = if long { 8 } else { 4 };
    let (header, rest) = list.split_at_checked(header_bytes).ok_or(short)?;
    let descriptor_bytes = match header {
        [_, _, _, _, _, _, high, low] => usize::from(u16::from_be_bytes([*high, *low])),
        [_, _, _, bytes] => usize::from(*bytes),
        _ => return Err(short),
    };
    let (descriptor, mut pages) = rest.split_at_checked(descriptor_bytes).ok_or(short)?;
    check_descriptor(unit, descriptor)?;
    let mut selected = none;
    while let [code, body_bytes, ..] = pages {
        let whole = usize::from(*body_bytes) + 2;
        let (given, after) = pages.split_at_checked(whole).ok_or(short)?;
        select_page(unit, *code & 0x3f, given, &mut selected)?;
        pages = after;
    }
    if pages.is_empty() {
        Ok(selected)
    } else {
        Err(short)
    }
}

/// A block descriptor may repeat the block size; it changes nothing.
fn check_descriptor(unit: &UnitView<'_>, descriptor: &[u8]) -> Result<(), Sense> {
    let size = match descriptor {
        [] => return Ok(()),
        [_, _, _, _, _, a, b, c] => [0, *a, *b, *c],
        [_, _, _, _, _, _, _, _, _, _, _, _, a, b, c, d] => [*a, *b, *c, *d],
        _ => return Err(Sense::INVALID_FIELD_IN_PARAMETERS),
    };
    let is_same = u32::from_be_bytes(size) == unit.block_bytes();
    is_same
        .then_some(())
        .ok_or(Sense::INVALID_FIELD_IN_PARAMETERS)
}

fn select_page(
    unit: &UnitView<'_>,
    code: u8,
    given: &[u8],
    selected: &mut Selected,
) -> Result<(), Sense> {
    if !PAGES.contains(&code) {
        return Err(Sense::INVALID_FIELD_IN_PARAMETERS);
    }
    let current = page(code, PageControl::Current, unit.flags);
    let changeable = page(code, PageControl::Changeable, unit.flags);
    if given.len() != current.len() {
        return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
    }
    // The first two bytes are the page's code and length.
    let bytes = given.iter().zip(&current).zip(&changeable).skip(2);
    for ((new, old), mask) in bytes {
        if (new ^ old) & !mask != 0 {
            return Err(Sense::INVALID_FIELD_IN_PARAMETERS);
        }
    }
    if code == CONTROL
        && let [_, _, sense, _, protect, ..] = given
    {
        for (byte, mask, flag) in [
            (sense, D_SENSE, UnitFlags::DESCRIPTOR_SENSE),
            (protect, SWP, UnitFlags::SOFTWARE_WRITE_PROTECT),
        ] {
            selected.mask.insert(flag);
            if byte & mask != 0 {
                selected.flags.insert(flag);
            } else {
                selected.flags.remove(flag);
            }
        }
    }
    Ok(())
}
