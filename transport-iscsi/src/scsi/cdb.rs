//! Command descriptor blocks: one row per command, and what each means.
//!
//! Shape      16 bytes → [`Row`] (by opcode and service action) → [`Request`], with values in range of their fields but not yet
//!            held against a unit. REPORT SUPPORTED OPERATION CODES prints these rows.
//! Source     SPC-4 (commands of every device), SBC-3 (commands of block devices).

use super::Sense;
use super::mode::{ModeSense, PageControl};

/// How a command stands to other initiators' reservations. SPC-4 §5.13.1, "Persistent Reservations overview", table of
/// commands allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Allowed whoever holds a reservation.
    Free,
    /// Reads the medium or its state: refused under exclusive access.
    Read,
    /// Changes the medium or the unit: refused under any reservation of others.
    Write,
    /// Decides for itself (PERSISTENT RESERVE OUT, RELEASE).
    Own,
}

/// One command.
#[derive(Debug)]
pub struct Row {
    /// Byte 0.
    pub opcode: u8,
    /// Byte 1, bits 4 to 0, where the opcode has several commands.
    pub action: Option<u8>,
    /// The standard's name.
    pub name: &'static str,
    /// The CDB usage map: as long as the CDB; byte 0 is the opcode, a set bit is one that we evaluate.
    pub usage: &'static [u8],
    /// Under reservations.
    pub access: Access,
    /// Whether it needs a medium.
    pub needs_medium: bool,
    parse: fn(&Cdb) -> Result<Request, Sense>,
}

/// The raw bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cdb(pub [u8; 16]);

impl Cdb {
    const fn be16<const AT: usize>(&self) -> u16 {
        u16::from_be_bytes([self.0[AT], self.0[AT + 1]])
    }

    const fn be32<const AT: usize>(&self) -> u32 {
        (self.be16::<AT>() as u32) << 16
            | u16::from_be_bytes([self.0[AT + 2], self.0[AT + 3]]) as u32
    }

    const fn be64<const AT: usize>(&self) -> u64 {
        let low = u32::from_be_bytes([
            self.0[AT + 4],
            self.0[AT + 5],
            self.0[AT + 6],
            self.0[AT + 7],
        ]);
        (self.be32::<AT>() as u64) << 32 | low as u64
    }

    const fn bit<const AT: usize>(&self, bit: u8) -> bool {
        self.0[AT] & (1 << bit) != 0
    }

    /// The row of this command.
    ///
    /// # Errors
    ///
    /// INVALID COMMAND OPERATION CODE, or INVALID FIELD IN CDB for a service action that we do not have.
    pub fn row(&self) -> Result<&'static Row, Sense> {
        let mut is_known = false;
        for row in ROWS.iter().filter(|r| r.opcode == self.0[0]) {
            match row.action {
                Some(action) if action != self.0[1] & 0x1f => is_known = true,
                _ => return Ok(row),
            }
        }
        Err(if is_known {
            Sense::cdb_field(1, Some(4))
        } else {
            Sense::INVALID_OPCODE
        })
    }
}

impl Row {
    /// What the CDB asks for.
    ///
    /// # Errors
    ///
    /// INVALID FIELD IN CDB.
    pub fn parse(&self, cdb: &Cdb) -> Result<Request, Sense> {
        let last = self.usage.len().saturating_sub(1);
        // NACA: auto contingent allegiance is not supported (INQUIRY says so).
        if cdb.0.get(last).is_some_and(|control| control & 0x04 != 0) {
            return Err(Sense::cdb_field(last as u16, Some(2)));
        }
        (self.parse)(cdb)
    }
}

/// Blocks that a command names, not yet held against the capacity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The first.
    pub lba: u64,
    /// How many; may be 0.
    pub count: u64,
}

/// What WRITE and its kin do beside writing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// Nothing.
    None,
    /// Read back.
    Medium,
    /// Read back and compare.
    Bytes,
}

/// What VERIFY compares the medium with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Against {
    /// Nothing (BYTCHK 00b): that it can be read.
    Nothing,
    /// As many blocks of data (01b).
    Blocks,
    /// One block of data, again and again (11b).
    OneBlock,
}

/// A command with its fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names are the standard's; fields are bytes, blocks or the standard's bits
pub enum Request {
    TestUnitReady,
    RequestSense {
        descriptor: bool,
        allocation: u32,
    },
    Inquiry {
        page: Option<u8>,
        allocation: u32,
    },
    ModeSense(ModeSense),
    ModeSelect {
        long: bool,
        list_bytes: u32,
    },
    Reserve,
    Release,
    StartStop {
        start: bool,
        load_eject: bool,
        power: u8,
    },
    PreventAllow {
        prevent: bool,
    },
    ReadCapacity10,
    ReadCapacity16 {
        allocation: u32,
    },
    LbaStatus {
        lba: u64,
        allocation: u32,
    },
    ReportLuns {
        select: u8,
        allocation: u32,
    },
    ReportOpcodes {
        option: u8,
        opcode: u8,
        action: u16,
        timeouts: bool,
        allocation: u32,
    },
    ReportTaskFunctions {
        extended: bool,
        allocation: u32,
    },
    Read {
        span: Span,
        fua: bool,
    },
    Write {
        span: Span,
        fua: bool,
        check: Check,
        atomic: bool,
    },
    Verify {
        span: Span,
        against: Against,
    },
    Or {
        span: Span,
        fua: bool,
    },
    CompareAndWrite {
        span: Span,
        fua: bool,
    },
    WriteSame {
        span: Span,
        unmap: bool,
        no_data: bool,
    },
    Unmap {
        list_bytes: u32,
    },
    Synchronize {
        span: Span,
    },
    Prefetch {
        span: Span,
    },
    ReadDefects {
        long: bool,
        lists: u8,
        allocation: u32,
    },
    ExtendedCopy {
        list_bytes: u32,
    },
    CopyStatus {
        list_id: u8,
        allocation: u32,
    },
    CopyParameters {
        allocation: u32,
    },
    PersistentIn {
        action: u8,
        allocation: u32,
    },
    PersistentOut {
        action: u8,
        scope_type: u8,
        list_bytes: u32,
    },
}

impl Request {
    /// Bytes of data that the command takes from the initiator.
    pub fn data_out_bytes(&self, block_bytes: u32) -> u64 {
        let block = u64::from(block_bytes);
        match self {
            Self::Write { span, .. } | Self::Or { span, .. } => span.count * block,
            Self::Verify { span, against } => match against {
                Against::Nothing => 0,
                Against::Blocks => span.count * block,
                Against::OneBlock => block.min(span.count * block),
            },
            Self::CompareAndWrite { span, .. } => span.count * block * 2,
            Self::WriteSame { no_data, .. } => block * u64::from(!no_data),
            Self::ModeSelect { list_bytes, .. }
            | Self::Unmap { list_bytes }
            | Self::ExtendedCopy { list_bytes }
            | Self::PersistentOut { list_bytes, .. } => u64::from(*list_bytes),
            _ => 0,
        }
    }

    /// Whether anything but exactly these bytes makes no sense.
    pub const fn needs_exact_data(&self) -> bool {
        matches!(
            self,
            Self::CompareAndWrite { .. } | Self::WriteSame { no_data: false, .. }
        )
    }

    /// Whether the medium changes.
    pub const fn is_write(&self) -> bool {
        matches!(
            self,
            Self::Write { .. }
                | Self::Or { .. }
                | Self::CompareAndWrite { .. }
                | Self::WriteSame { .. }
                | Self::Unmap { .. }
                | Self::ExtendedCopy { .. }
        )
    }
}

const fn row(
    opcode: u8,
    action: Option<u8>,
    name: &'static str,
    access: Access,
    needs_medium: bool,
    usage: &'static [u8],
    parse: fn(&Cdb) -> Result<Request, Sense>,
) -> Row {
    Row {
        opcode,
        action,
        name,
        usage,
        access,
        needs_medium,
        parse,
    }
}

use Access::{Free, Own, Read, Write};

/// Every command, by opcode and service action.
#[rustfmt::skip]
pub static ROWS: &[Row] = &[
    row(0x00, None, "TEST UNIT READY", Free, true, &[0x00, 0, 0, 0, 0, 0], |_| Ok(Request::TestUnitReady)),
    row(0x03, None, "REQUEST SENSE", Free, false, &[0x03, 0x01, 0, 0, 0xff, 0], request_sense),
    row(0x08, None, "READ (6)", Read, true, &[0x08, 0x1f, 0xff, 0xff, 0xff, 0], read_6),
    row(0x0a, None, "WRITE (6)", Write, true, &[0x0a, 0x1f, 0xff, 0xff, 0xff, 0], write_6),
    row(0x12, None, "INQUIRY", Free, false, &[0x12, 0x01, 0xff, 0xff, 0xff, 0], inquiry),
    row(0x15, None, "MODE SELECT (6)", Write, false, &[0x15, 0x11, 0, 0, 0xff, 0], mode_select_6),
    row(0x16, None, "RESERVE (6)", Own, false, &[0x16, 0, 0, 0, 0, 0], |_| Ok(Request::Reserve)),
    row(0x17, None, "RELEASE (6)", Own, false, &[0x17, 0, 0, 0, 0, 0], |_| Ok(Request::Release)),
    row(0x1a, None, "MODE SENSE (6)", Write, false, &[0x1a, 0x08, 0xff, 0xff, 0xff, 0], mode_sense_6),
    row(0x1b, None, "START STOP UNIT", Write, false, &[0x1b, 0x01, 0, 0x0f, 0xf7, 0], start_stop),
    row(0x1e, None, "PREVENT ALLOW MEDIUM REMOVAL", Write, false, &[0x1e, 0, 0, 0, 0x03, 0], prevent_allow),
    row(0x25, None, "READ CAPACITY (10)", Free, true, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], |_| Ok(Request::ReadCapacity10)),
    row(0x28, None, "READ (10)", Read, true, &[0x28, 0x18, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0], |c| read(c, span_10(c))),
    row(0x2a, None, "WRITE (10)", Write, true, &[0x2a, 0x18, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0], |c| write(c, span_10(c))),
    row(0x2e, None, "WRITE AND VERIFY (10)", Write, true, &[0x2e, 0x16, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0], |c| write_verify(c, span_10(c))),
    row(0x2f, None, "VERIFY (10)", Read, true, &[0x2f, 0x16, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0], |c| verify(c, span_10(c))),
    row(0x34, None, "PRE-FETCH (10)", Read, true, &[0x34, 0x02, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0], |c| prefetch(span_10(c))),
    row(0x35, None, "SYNCHRONIZE CACHE (10)", Write, true, &[0x35, 0x02, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0], |c| synchronize(span_10(c))),
    row(0x37, None, "READ DEFECT DATA (10)", Read, true, &[0x37, 0, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0], read_defects_10),
    row(0x41, None, "WRITE SAME (10)", Write, true, &[0x41, 0x08, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0], |c| write_same(c, span_10(c), false)),
    row(0x42, None, "UNMAP", Write, true, &[0x42, 0, 0, 0, 0, 0, 0x1f, 0xff, 0xff, 0], unmap),
    row(0x55, None, "MODE SELECT (10)", Write, false, &[0x55, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, 0], mode_select_10),
    row(0x5a, None, "MODE SENSE (10)", Write, false, &[0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0], mode_sense_10),
    row(0x5e, Some(0), "PERSISTENT RESERVE IN, READ KEYS", Free, false, &[0x5e, 0x00, 0, 0, 0, 0, 0, 0xff, 0xff, 0], persistent_in),
    row(0x5e, Some(1), "PERSISTENT RESERVE IN, READ RESERVATION", Free, false, &[0x5e, 0x01, 0, 0, 0, 0, 0, 0xff, 0xff, 0], persistent_in),
    row(0x5e, Some(2), "PERSISTENT RESERVE IN, REPORT CAPABILITIES", Free, false, &[0x5e, 0x02, 0, 0, 0, 0, 0, 0xff, 0xff, 0], persistent_in),
    row(0x5e, Some(3), "PERSISTENT RESERVE IN, READ FULL STATUS", Free, false, &[0x5e, 0x03, 0, 0, 0, 0, 0, 0xff, 0xff, 0], persistent_in),
    row(0x5f, Some(0), "PERSISTENT RESERVE OUT, REGISTER", Own, false, &[0x5f, 0x00, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0], persistent_out),
    row(0x5f, Some(1), "PERSISTENT RESERVE OUT, RESERVE", Own, false, &[0x5f, 0x01, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0], persistent_out),
    row(0x5f, Some(2), "PERSISTENT RESERVE OUT, RELEASE", Own, false, &[0x5f, 0x02, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0], persistent_out),
    row(0x5f, Some(3), "PERSISTENT RESERVE OUT, CLEAR", Own, false, &[0x5f, 0x03, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0], persistent_out),
    row(0x5f, Some(4), "PERSISTENT RESERVE OUT, PREEMPT", Own, false, &[0x5f, 0x04, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0], persistent_out),
    row(0x5f, Some(5), "PERSISTENT RESERVE OUT, PREEMPT AND ABORT", Own, false, &[0x5f, 0x05, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0], persistent_out),
    row(0x5f, Some(6), "PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY", Own, false, &[0x5f, 0x06, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0], persistent_out),
    row(0x83, Some(0), "EXTENDED COPY (LID1)", Write, true, &[0x83, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], extended_copy),
    row(0x84, Some(0), "RECEIVE COPY RESULTS, COPY STATUS", Free, false, &[0x84, 0x00, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], |c| Ok(Request::CopyStatus { list_id: c.0[2], allocation: c.be32::<10>() })),
    row(0x84, Some(3), "RECEIVE COPY RESULTS, OPERATING PARAMETERS", Free, false, &[0x84, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], |c| Ok(Request::CopyParameters { allocation: c.be32::<10>() })),
    row(0x88, None, "READ (16)", Read, true, &[0x88, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0], |c| read(c, span_16(c))),
    row(0x89, None, "COMPARE AND WRITE", Write, true, &[0x89, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff, 0x1f, 0], compare_and_write),
    row(0x8a, None, "WRITE (16)", Write, true, &[0x8a, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0], |c| write(c, span_16(c))),
    row(0x8b, None, "ORWRITE (16)", Write, true, &[0x8b, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0], or_write),
    row(0x8e, None, "WRITE AND VERIFY (16)", Write, true, &[0x8e, 0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0], |c| write_verify(c, span_16(c))),
    row(0x8f, None, "VERIFY (16)", Read, true, &[0x8f, 0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0], |c| verify(c, span_16(c))),
    row(0x90, None, "PRE-FETCH (16)", Read, true, &[0x90, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0], |c| prefetch(span_16(c))),
    row(0x91, None, "SYNCHRONIZE CACHE (16)", Write, true, &[0x91, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0], |c| synchronize(span_16(c))),
    row(0x93, None, "WRITE SAME (16)", Write, true, &[0x93, 0x09, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0], |c| write_same(c, span_16(c), c.bit::<1>(0))),
    row(0x9c, None, "WRITE ATOMIC (16)", Write, true, &[0x9c, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff, 0x1f, 0], write_atomic),
    row(0x9e, Some(0x10), "READ CAPACITY (16)", Free, true, &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], |c| Ok(Request::ReadCapacity16 { allocation: c.be32::<10>() })),
    row(0x9e, Some(0x12), "GET LBA STATUS", Read, true, &[0x9e, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0], |c| Ok(Request::LbaStatus { lba: c.be64::<2>(), allocation: c.be32::<10>() })),
    row(0xa0, None, "REPORT LUNS", Free, false, &[0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], report_luns),
    row(0xa3, Some(0x0c), "REPORT SUPPORTED OPERATION CODES", Free, false, &[0xa3, 0x0c, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0], report_opcodes),
    row(0xa3, Some(0x0d), "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", Free, false, &[0xa3, 0x0d, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], report_task_functions),
    row(0xa8, None, "READ (12)", Read, true, &[0xa8, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0], |c| read(c, span_12(c))),
    row(0xaa, None, "WRITE (12)", Write, true, &[0xaa, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0], |c| write(c, span_12(c))),
    row(0xae, None, "WRITE AND VERIFY (12)", Write, true, &[0xae, 0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0], |c| write_verify(c, span_12(c))),
    row(0xaf, None, "VERIFY (12)", Read, true, &[0xaf, 0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0], |c| verify(c, span_12(c))),
    row(0xb7, None, "READ DEFECT DATA (12)", Read, true, &[0xb7, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], read_defects_12),
];

const fn span_10(c: &Cdb) -> Span {
    Span {
        lba: c.be32::<2>() as u64,
        count: c.be16::<7>() as u64,
    }
}

const fn span_12(c: &Cdb) -> Span {
    Span {
        lba: c.be32::<2>() as u64,
        count: c.be32::<6>() as u64,
    }
}

const fn span_16(c: &Cdb) -> Span {
    Span {
        lba: c.be64::<2>(),
        count: c.be32::<10>() as u64,
    }
}

/// READ (6) and WRITE (6): 21 bits of LBA, and a length of which 0 means 256.
const fn span_6(c: &Cdb) -> Span {
    Span {
        lba: (c.be32::<0>() & 0x001f_ffff) as u64,
        count: if c.0[4] == 0 { 256 } else { c.0[4] as u64 },
    }
}

/// RDPROTECT, WRPROTECT, VRPROTECT: the medium has no protection information.
fn no_protection(c: &Cdb) -> Result<(), Sense> {
    if c.0[1] & 0xe0 == 0 {
        Ok(())
    } else {
        Err(Sense::cdb_field(1, Some(7)))
    }
}

const FUA: u8 = 3;

fn read_6(c: &Cdb) -> Result<Request, Sense> {
    let span = span_6(c);
    Ok(Request::Read { span, fua: false })
}

fn write_6(c: &Cdb) -> Result<Request, Sense> {
    Ok(Request::Write {
        span: span_6(c),
        fua: false,
        check: Check::None,
        atomic: false,
    })
}

fn read(c: &Cdb, span: Span) -> Result<Request, Sense> {
    no_protection(c)?;
    let fua = c.bit::<1>(FUA);
    Ok(Request::Read { span, fua })
}

fn write(c: &Cdb, span: Span) -> Result<Request, Sense> {
    no_protection(c)?;
    Ok(Request::Write {
        span,
        fua: c.bit::<1>(FUA),
        check: Check::None,
        atomic: false,
    })
}

/// BYTCHK, byte 1 bits 2 and 1. SBC-3 §5.30, "VERIFY (10) command".
fn against(c: &Cdb) -> Result<Against, Sense> {
    match c.0[1] >> 1 & 3 {
        0 => Ok(Against::Nothing),
        1 => Ok(Against::Blocks),
        3 => Ok(Against::OneBlock),
        _ => Err(Sense::cdb_field(1, Some(2))),
    }
}

fn write_verify(c: &Cdb, span: Span) -> Result<Request, Sense> {
    no_protection(c)?;
    let check = match against(c)? {
        Against::Nothing => Check::Medium,
        Against::Blocks => Check::Bytes,
        Against::OneBlock => return Err(Sense::cdb_field(1, Some(2))),
    };
    // A write that is verified is on the medium.
    Ok(Request::Write {
        span,
        fua: true,
        check,
        atomic: false,
    })
}

fn write_atomic(c: &Cdb) -> Result<Request, Sense> {
    no_protection(c)?;
    if c.be16::<10>() != 0 {
        // Atomic boundary: we report none.
        return Err(Sense::cdb_field(10, None));
    }
    Ok(Request::Write {
        span: Span {
            lba: c.be64::<2>(),
            count: u64::from(c.be16::<12>()),
        },
        fua: c.bit::<1>(FUA),
        check: Check::None,
        atomic: true,
    })
}

fn verify(c: &Cdb, span: Span) -> Result<Request, Sense> {
    no_protection(c)?;
    let against = against(c)?;
    Ok(Request::Verify { span, against })
}

fn or_write(c: &Cdb) -> Result<Request, Sense> {
    no_protection(c)?;
    let fua = c.bit::<1>(FUA);
    let span = span_16(c);
    Ok(Request::Or { span, fua })
}

fn compare_and_write(c: &Cdb) -> Result<Request, Sense> {
    no_protection(c)?;
    let span = Span {
        lba: c.be64::<2>(),
        count: u64::from(c.0[13]),
    };
    let fua = c.bit::<1>(FUA);
    Ok(Request::CompareAndWrite { span, fua })
}

fn write_same(c: &Cdb, span: Span, no_data: bool) -> Result<Request, Sense> {
    no_protection(c)?;
    // ANCHOR: blocks cannot be anchored here. PBDATA and LBDATA: obsolete.
    for bit in [4, 2, 1] {
        if c.bit::<1>(bit) {
            return Err(Sense::cdb_field(1, Some(bit)));
        }
    }
    let unmap = c.bit::<1>(3);
    Ok(Request::WriteSame {
        span,
        unmap,
        no_data,
    })
}

fn unmap(c: &Cdb) -> Result<Request, Sense> {
    if c.bit::<1>(0) {
        return Err(Sense::cdb_field(1, Some(0))); // ANCHOR
    }
    let list_bytes = u32::from(c.be16::<7>());
    Ok(Request::Unmap { list_bytes })
}

fn synchronize(span: Span) -> Result<Request, Sense> {
    Ok(Request::Synchronize { span })
}

fn prefetch(span: Span) -> Result<Request, Sense> {
    Ok(Request::Prefetch { span })
}

fn read_defects_10(c: &Cdb) -> Result<Request, Sense> {
    Ok(Request::ReadDefects {
        long: false,
        lists: c.0[2] & 0x1f,
        allocation: u32::from(c.be16::<7>()),
    })
}

fn read_defects_12(c: &Cdb) -> Result<Request, Sense> {
    Ok(Request::ReadDefects {
        long: true,
        lists: c.0[1] & 0x1f,
        allocation: c.be32::<6>(),
    })
}

fn request_sense(c: &Cdb) -> Result<Request, Sense> {
    Ok(Request::RequestSense {
        descriptor: c.bit::<1>(0),
        allocation: u32::from(c.0[4]),
    })
}

fn inquiry(c: &Cdb) -> Result<Request, Sense> {
    let page = match (c.bit::<1>(0), c.0[2]) {
        (true, page) => Some(page),
        (false, 0) => None,
        (false, _) => return Err(Sense::cdb_field(2, None)),
    };
    let allocation = u32::from(c.be16::<3>());
    Ok(Request::Inquiry { page, allocation })
}

fn mode_sense(c: &Cdb, long: bool, allocation: u32) -> Result<Request, Sense> {
    let control = match c.0[2] >> 6 {
        0 => PageControl::Current,
        1 => PageControl::Changeable,
        2 => PageControl::Default,
        _ => return Err(Sense::SAVING_NOT_SUPPORTED),
    };
    Ok(Request::ModeSense(ModeSense {
        long,
        no_descriptor: c.bit::<1>(3),
        long_lba: long && c.bit::<1>(4),
        control,
        page: c.0[2] & 0x3f,
        subpage: c.0[3],
        allocation,
    }))
}

fn mode_sense_6(c: &Cdb) -> Result<Request, Sense> {
    mode_sense(c, false, u32::from(c.0[4]))
}

fn mode_sense_10(c: &Cdb) -> Result<Request, Sense> {
    mode_sense(c, true, u32::from(c.be16::<7>()))
}

fn mode_select(c: &Cdb, long: bool, list_bytes: u32) -> Result<Request, Sense> {
    if c.bit::<1>(0) {
        return Err(Sense::cdb_field(1, Some(0))); // SP: nothing is saved
    }
    if list_bytes > 0 && !c.bit::<1>(4) {
        return Err(Sense::cdb_field(1, Some(4))); // PF: only pages
    }
    Ok(Request::ModeSelect { long, list_bytes })
}

fn mode_select_6(c: &Cdb) -> Result<Request, Sense> {
    mode_select(c, false, u32::from(c.0[4]))
}

fn mode_select_10(c: &Cdb) -> Result<Request, Sense> {
    mode_select(c, true, u32::from(c.be16::<7>()))
}

fn start_stop(c: &Cdb) -> Result<Request, Sense> {
    Ok(Request::StartStop {
        start: c.bit::<4>(0),
        load_eject: c.bit::<4>(1),
        power: c.0[4] >> 4,
    })
}

fn prevent_allow(c: &Cdb) -> Result<Request, Sense> {
    match c.0[4] & 3 {
        0 => Ok(Request::PreventAllow { prevent: false }),
        1 => Ok(Request::PreventAllow { prevent: true }),
        _ => Err(Sense::cdb_field(4, Some(1))),
    }
}

fn report_luns(c: &Cdb) -> Result<Request, Sense> {
    let allocation = c.be32::<6>();
    if allocation < 16 {
        return Err(Sense::cdb_field(6, None));
    }
    match c.0[2] {
        select @ (0x00..=0x02 | 0x10..=0x12) => Ok(Request::ReportLuns { select, allocation }),
        _ => Err(Sense::cdb_field(2, None)),
    }
}

fn extended_copy(c: &Cdb) -> Result<Request, Sense> {
    let list_bytes = c.be32::<10>();
    if list_bytes > super::copy::LIST_BYTES_MAX {
        return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
    }
    Ok(Request::ExtendedCopy { list_bytes })
}

fn report_opcodes(c: &Cdb) -> Result<Request, Sense> {
    let option = c.0[2] & 0x07;
    if option > 3 {
        return Err(Sense::cdb_field(2, Some(2)));
    }
    Ok(Request::ReportOpcodes {
        option,
        opcode: c.0[3],
        action: c.be16::<4>(),
        timeouts: c.bit::<2>(7),
        allocation: c.be32::<6>(),
    })
}

fn report_task_functions(c: &Cdb) -> Result<Request, Sense> {
    Ok(Request::ReportTaskFunctions {
        extended: c.bit::<2>(7),
        allocation: c.be32::<6>(),
    })
}

fn persistent_in(c: &Cdb) -> Result<Request, Sense> {
    Ok(Request::PersistentIn {
        action: c.0[1] & 0x1f,
        allocation: u32::from(c.be16::<7>()),
    })
}

fn persistent_out(c: &Cdb) -> Result<Request, Sense> {
    // The one list that it takes (no SPEC_I_PT). The field has 32 bits: believed, it would be a demand for memory.
    if c.be32::<5>() != 24 {
        return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
    }
    Ok(Request::PersistentOut {
        action: c.0[1] & 0x1f,
        scope_type: c.0[2],
        list_bytes: c.be32::<5>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Result<Request, Sense>) {
        let mut cdb = Cdb([0; 16]);
        cdb.0[..bytes.len()].copy_from_slice(bytes);
        assert_eq!(cdb.row().and_then(|row| row.parse(&cdb)), expected);
    }

    #[test]
    fn rows_are_sorted_and_their_maps_begin_with_the_opcode() {
        let keys: Vec<_> = ROWS.iter().map(|r| (r.opcode, r.action)).collect();
        assert!(keys.is_sorted_by(|a, b| a < b));
        for row in ROWS {
            assert_eq!(row.usage[0], row.opcode, "{}", row.name);
            let by_group = match row.opcode >> 5 {
                0 => 6,
                1 | 2 => 10,
                4 => 16,
                5 => 12,
                group => panic!("{}: group {group}", row.name),
            };
            assert_eq!(row.usage.len(), by_group, "{}", row.name);
            if let Some(action) = row.action {
                assert_eq!(row.usage[1] & 0x1f, action, "{}", row.name);
            }
        }
    }

    #[test]
    fn read_6_of_length_0_is_256_blocks() {
        let span = Span {
            lba: 0x1f_ffff,
            count: 256,
        };
        check(
            &[0x08, 0xff, 0xff, 0xff, 0],
            Ok(Request::Read { span, fua: false }),
        );
    }

    #[test]
    fn read_16_has_64_bits_of_lba() {
        let span = Span {
            lba: 1 << 63,
            count: 5,
        };
        let cdb = [0x88, 0x08, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
        check(&cdb, Ok(Request::Read { span, fua: true }));
    }

    #[test]
    fn protection_is_refused() {
        check(&[0x28, 0x20], Err(Sense::cdb_field(1, Some(7))));
        check(&[0x8f, 0xe0], Err(Sense::cdb_field(1, Some(7))));
    }

    #[test]
    fn unknown_commands_and_service_actions_differ() {
        check(&[0xff], Err(Sense::INVALID_OPCODE));
        check(&[0x9e, 0x1f], Err(Sense::cdb_field(1, Some(4))));
    }

    #[test]
    fn inquiry_of_a_page_without_evpd_is_refused() {
        check(&[0x12, 0, 0x83, 0, 64], Err(Sense::cdb_field(2, None)));
    }

    #[test]
    fn a_reservation_list_of_half_a_gigabyte_is_refused() {
        let cdb = [0x5f, 1, 0, 0, 0, 0x20, 0, 0, 0, 0];
        check(&cdb, Err(Sense::PARAMETER_LIST_LENGTH_ERROR));
    }

    #[test]
    fn no_command_takes_more_data_than_the_longest_transfer() {
        // All fields at their greatest, on the smaller block: what passes the unit's judgement stays within its limit.
        for row in ROWS {
            let mut cdb = Cdb([0; 16]);
            for (byte, mask) in cdb.0.iter_mut().zip(row.usage) {
                *byte = *mask;
            }
            if let Ok(request) = row.parse(&cdb)
                && !matches!(
                    request,
                    Request::Write { .. } | Request::Or { .. } | Request::Verify { .. }
                )
            {
                let bytes = request.data_out_bytes(4096);
                assert!(bytes <= 32 << 20, "{}: {bytes}", row.name);
            }
        }
    }

    #[test]
    fn naca_is_refused() {
        check(&[0x00, 0, 0, 0, 0, 0x04], Err(Sense::cdb_field(5, Some(2))));
    }
}
