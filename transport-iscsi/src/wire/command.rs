//! SCSI Command and SCSI Response. RFC 7143 §11.3, "SCSI Command", and §11.4, "SCSI Response".

use super::header::{FINAL, Header, IMMEDIATE, Itt, Lun, Malformed, opcode};
use crate::serial::{CmdSn, DataSn, StatSn};

const READ: u8 = 0x40;
const WRITE: u8 = 0x20;
const ATTRIBUTES: u8 = 0x07;

/// How a task is ordered among its siblings. RFC 7143 §11.3.1, "Flags and Task Attributes (Byte 1)".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names are the standard's
pub enum Attribute {
    Untagged,
    Simple,
    Ordered,
    HeadOfQueue,
    Aca,
}

impl Attribute {
    const fn parse(bits: u8) -> Option<Self> {
        Some(match bits & ATTRIBUTES {
            0 => Self::Untagged,
            1 => Self::Simple,
            2 => Self::Ordered,
            3 => Self::HeadOfQueue,
            4 => Self::Aca,
            _ => return None,
        })
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Untagged => 0,
            Self::Simple => 1,
            Self::Ordered => 2,
            Self::HeadOfQueue => 3,
            Self::Aca => 4,
        }
    }
}

/// Initiator to target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScsiCommand {
    /// Outside of the CmdSN order (I).
    pub is_immediate: bool,
    /// No unsolicited Data-Out follows (F).
    pub is_final: bool,
    /// The initiator expects data (R).
    pub reads: bool,
    /// The initiator has data (W).
    pub writes: bool,
    /// Order among its siblings.
    pub attribute: Attribute,
    /// The unit.
    pub lun: Lun,
    /// Name of the task; never [`Itt::NONE`].
    pub itt: Itt,
    /// Expected Data Transfer Length, in bytes.
    pub expected_bytes: u32,
    /// Its number.
    pub cmd_sn: CmdSn,
    /// StatSN that the initiator expects next.
    pub exp_stat_sn: StatSn,
    /// The first 16 bytes of the CDB.
    pub cdb: [u8; 16],
}

impl ScsiCommand {
    /// # Errors
    ///
    /// A reserved attribute, no task name, W and R both clear with a length, or unsolicited data announced without W.
    pub fn parse(header: &Header) -> Result<Self, Malformed> {
        let flags = header.flags();
        let attribute =
            Attribute::parse(flags).ok_or(Malformed::field("reserved task attribute"))?;
        let command = Self {
            is_immediate: header.is_immediate(),
            is_final: header.is_final(),
            reads: flags & READ != 0,
            writes: flags & WRITE != 0,
            attribute,
            lun: header.lun(),
            itt: header.itt(),
            expected_bytes: header.be32::<20>(),
            cmd_sn: CmdSn(header.be32::<24>()),
            exp_stat_sn: StatSn(header.be32::<28>()),
            cdb: header.array::<32, 16>(),
        };
        if command.itt == Itt::NONE {
            return Err(Malformed::field("command without a task tag"));
        }
        if !command.is_final && !command.writes {
            return Err(Malformed::field(
                "unsolicited data of a command that writes nothing",
            ));
        }
        Ok(command)
    }

    /// The header of a command with so many bytes of immediate data.
    pub fn emit(&self, data_bytes: u32) -> Header {
        let bit = |set: bool, mask: u8| if set { mask } else { 0 };
        let mut h = Header::of(
            opcode::SCSI_COMMAND | bit(self.is_immediate, IMMEDIATE),
            bit(self.is_final, FINAL)
                | bit(self.reads, READ)
                | bit(self.writes, WRITE)
                | self.attribute.bits(),
        )
        .with_data(data_bytes);
        h.put::<8, 8>(self.lun.0.to_be_bytes());
        h.put32::<16>(self.itt.0);
        h.put32::<20>(self.expected_bytes);
        h.put32::<24>(self.cmd_sn.0);
        h.put32::<28>(self.exp_stat_sn.0);
        h.put::<32, 16>(self.cdb);
        h
    }
}

/// Bytes expected minus bytes that the command wanted to move. RFC 7143 §11.4.5, "Residual Count".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Residual {
    /// As expected.
    #[default]
    None,
    /// So many bytes more than expected would have moved (O).
    Overflow(u32),
    /// So many bytes fewer than expected moved (U).
    Underflow(u32),
}

/// Byte 1 of SCSI Response and Data-In: O and U.
const OVERFLOW: u8 = 0x04;
const UNDERFLOW: u8 = 0x02;

impl Residual {
    /// The residual of a command that wanted to move `wanted` bytes while the initiator expected `expected`.
    pub fn of(expected: u32, wanted: u64) -> Self {
        let more = wanted.saturating_sub(u64::from(expected));
        if more > 0 {
            return Self::Overflow(u32::try_from(more).unwrap_or(u32::MAX));
        }
        // Not negative, and at most `expected`.
        match u32::try_from(u64::from(expected) - wanted) {
            Ok(less @ 1..) => Self::Underflow(less),
            _ => Self::None,
        }
    }

    pub(super) const fn bits(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Overflow(_) => OVERFLOW,
            Self::Underflow(_) => UNDERFLOW,
        }
    }

    pub(super) const fn count(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Overflow(n) | Self::Underflow(n) => n,
        }
    }

    pub(super) const fn parse(bits: u8, count: u32) -> Result<Self, Malformed> {
        match bits & (OVERFLOW | UNDERFLOW) {
            0 => Ok(Self::None),
            OVERFLOW => Ok(Self::Overflow(count)),
            UNDERFLOW => Ok(Self::Underflow(count)),
            _ => Err(Malformed::field("both residual overflow and underflow")),
        }
    }
}

/// Target to initiator: the end of a task. Sense data, if any, is the data segment, after its 2-byte length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScsiResponse {
    /// Bytes expected against bytes moved.
    pub residual: Residual,
    /// 00h: completed at the target; 01h: target failure. RFC 7143 §11.4.3, "Response".
    pub response: u8,
    /// SCSI status.
    pub status: u8,
    /// The task.
    pub itt: Itt,
    /// Its number.
    pub stat_sn: StatSn,
    /// The command expected next.
    pub exp_cmd_sn: CmdSn,
    /// The last command that may be sent.
    pub max_cmd_sn: CmdSn,
    /// Data-In PDUs and R2Ts sent for the task.
    pub exp_data_sn: DataSn,
}

impl ScsiResponse {
    /// # Errors
    ///
    /// Both kinds of residual.
    pub fn parse(header: &Header) -> Result<Self, Malformed> {
        Ok(Self {
            residual: Residual::parse(header.flags(), header.be32::<44>())?,
            response: header.0[2],
            status: header.0[3],
            itt: header.itt(),
            stat_sn: StatSn(header.be32::<24>()),
            exp_cmd_sn: CmdSn(header.be32::<28>()),
            max_cmd_sn: CmdSn(header.be32::<32>()),
            exp_data_sn: DataSn(header.be32::<36>()),
        })
    }

    /// The header of a response with so many bytes of sense segment.
    pub fn emit(&self, data_bytes: u32) -> Header {
        let mut h =
            Header::of(opcode::SCSI_RESPONSE, FINAL | self.residual.bits()).with_data(data_bytes);
        h.0[2] = self.response;
        h.0[3] = self.status;
        h.put32::<16>(self.itt.0);
        h.put32::<24>(self.stat_sn.0);
        h.put32::<28>(self.exp_cmd_sn.0);
        h.put32::<32>(self.max_cmd_sn.0);
        h.put32::<36>(self.exp_data_sn.0);
        h.put32::<44>(self.residual.count());
        h
    }
}
