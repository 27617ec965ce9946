//! The Basic Header Segment and the field types that all PDUs share. RFC 7143 §11.2, "PDU Template, Header, and Opcodes".

use core::fmt;

/// Bytes of a Basic Header Segment.
pub const HEADER_BYTES: usize = 48;

/// Opcodes. An open set: an unknown one survives into the log and the Reject.
pub mod opcode {
    #![allow(missing_docs)] // the names are the standard's: RFC 7143 §11.2.1.2, "Opcode"
    pub const NOP_OUT: u8 = 0x00;
    pub const SCSI_COMMAND: u8 = 0x01;
    pub const TASK_REQUEST: u8 = 0x02;
    pub const LOGIN_REQUEST: u8 = 0x03;
    pub const TEXT_REQUEST: u8 = 0x04;
    pub const DATA_OUT: u8 = 0x05;
    pub const LOGOUT_REQUEST: u8 = 0x06;
    pub const SNACK: u8 = 0x10;
    pub const NOP_IN: u8 = 0x20;
    pub const SCSI_RESPONSE: u8 = 0x21;
    pub const TASK_RESPONSE: u8 = 0x22;
    pub const LOGIN_RESPONSE: u8 = 0x23;
    pub const TEXT_RESPONSE: u8 = 0x24;
    pub const DATA_IN: u8 = 0x25;
    pub const LOGOUT_RESPONSE: u8 = 0x26;
    pub const R2T: u8 = 0x31;
    pub const ASYNC_MESSAGE: u8 = 0x32;
    pub const REJECT: u8 = 0x3f;
}

/// Byte 0: the request is not part of the CmdSN order.
pub(crate) const IMMEDIATE: u8 = 0x40;
/// Byte 0: the opcode.
const OPCODE: u8 = 0x3f;
/// Byte 1: F, the last PDU of a sequence.
pub(crate) const FINAL: u8 = 0x80;

/// Initiator Task Tag: the initiator's name for a task.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Itt(pub u32);

impl Itt {
    /// No task. RFC 7143 §11.2.1.8, "Initiator Task Tag".
    pub const NONE: Self = Self(0xffff_ffff);
}

/// Target Transfer Tag: the target's name for a transfer that it asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ttt(pub u32);

impl Ttt {
    /// No transfer.
    pub const NONE: Self = Self(0xffff_ffff);
}

/// A logical unit number as it stands in a PDU. SAM-5 §4.7, "Logical unit number (LUN)".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Lun(pub u64);

impl fmt::Debug for Lun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lun({:016x})", self.0)
    }
}

impl Lun {
    /// The LUN of unit `index` (0 to 255): peripheral device addressing, bus 0.
    pub const fn from_index(index: u16) -> Self {
        Self((index as u64 & 0xff) << 48)
    }

    /// The unit's index, for single-level LUNs by peripheral device or flat space addressing.
    pub const fn index(self) -> Option<u16> {
        if self.0 & 0x0000_ffff_ffff_ffff != 0 {
            return None;
        }
        let first = (self.0 >> 48) as u16;
        match first >> 14 {
            // Peripheral: bits 5 to 0 of byte 0 are the bus, which must be ours (0).
            0 if first >> 8 == 0 => Some(first),
            // Flat space: 14 bits of number.
            1 => Some(first & 0x3fff),
            _ => None,
        }
    }
}

/// A PDU that breaks the standard. The reason is the one that a Reject carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed {
    /// RFC 7143 §11.17.1, "Reason".
    pub reason: u8,
    /// What is wrong.
    pub what: &'static str,
}

impl Malformed {
    pub(crate) const fn protocol(what: &'static str) -> Self {
        let reason = super::reject::reason::PROTOCOL_ERROR;
        Self { reason, what }
    }

    pub(crate) const fn field(what: &'static str) -> Self {
        let reason = super::reject::reason::INVALID_PDU_FIELD;
        Self { reason, what }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl core::error::Error for Malformed {}

/// The 48 bytes that begin every PDU, without judgement.
///
/// Fields are read and written at constant offsets, which the compiler checks against the array's size.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header(pub [u8; HEADER_BYTES]);

impl Default for Header {
    fn default() -> Self {
        Self([0; HEADER_BYTES])
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chunks(4).try_for_each(|word| {
            word.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
            f.write_str(" ")
        })
    }
}

impl Header {
    /// A header of this opcode and byte 1, all else zero.
    pub(crate) const fn of(opcode: u8, flags: u8) -> Self {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = opcode;
        bytes[1] = flags;
        Self(bytes)
    }

    /// Byte 0, bits 5 to 0.
    pub const fn opcode(&self) -> u8 {
        self.0[0] & OPCODE
    }

    /// Byte 0, bit 6.
    pub const fn is_immediate(&self) -> bool {
        self.0[0] & IMMEDIATE != 0
    }

    /// Byte 1.
    pub const fn flags(&self) -> u8 {
        self.0[1]
    }

    /// Byte 1, bit 7.
    pub const fn is_final(&self) -> bool {
        self.0[1] & FINAL != 0
    }

    /// Byte 4: bytes of additional header segments, a multiple of 4, at most 1020.
    pub const fn extra_bytes(&self) -> usize {
        self.0[4] as usize * 4
    }

    /// Bytes 5 to 7: bytes of the data segment without padding.
    pub const fn data_bytes(&self) -> u32 {
        u32::from_be_bytes([0, self.0[5], self.0[6], self.0[7]])
    }

    /// Sets the data segment's length, in bytes, less than 2^24.
    #[must_use]
    pub(crate) const fn with_data(mut self, bytes: u32) -> Self {
        let [_, a, b, c] = bytes.to_be_bytes();
        self.0[5] = a;
        self.0[6] = b;
        self.0[7] = c;
        self
    }

    /// Bytes 8 to 15.
    pub const fn lun(&self) -> Lun {
        Lun(self.be64::<8>())
    }

    /// Bytes 16 to 19.
    pub const fn itt(&self) -> Itt {
        Itt(self.be32::<16>())
    }

    pub(crate) const fn be16<const AT: usize>(&self) -> u16 {
        u16::from_be_bytes([self.0[AT], self.0[AT + 1]])
    }

    pub(crate) const fn be32<const AT: usize>(&self) -> u32 {
        u32::from_be_bytes([self.0[AT], self.0[AT + 1], self.0[AT + 2], self.0[AT + 3]])
    }

    pub(crate) const fn be64<const AT: usize>(&self) -> u64 {
        let high = u32::from_be_bytes([self.0[AT], self.0[AT + 1], self.0[AT + 2], self.0[AT + 3]]);
        let low = u32::from_be_bytes([
            self.0[AT + 4],
            self.0[AT + 5],
            self.0[AT + 6],
            self.0[AT + 7],
        ]);
        (high as u64) << 32 | low as u64
    }

    pub(crate) const fn put<const AT: usize, const N: usize>(&mut self, bytes: [u8; N]) {
        let mut i = 0;
        while i < N {
            self.0[AT + i] = bytes[i];
            i += 1;
        }
    }

    pub(crate) const fn array<const AT: usize, const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        let mut i = 0;
        while i < N {
            out[i] = self.0[AT + i];
            i += 1;
        }
        out
    }

    pub(crate) const fn put32<const AT: usize>(&mut self, value: u32) {
        self.put::<AT, 4>(value.to_be_bytes());
    }
}

/// Bytes of padding after `len` bytes: to a multiple of 4. RFC 7143 §11.1, "iSCSI PDU Length and Padding".
pub const fn padding(len: u32) -> u32 {
    len.wrapping_neg() & 3
}
