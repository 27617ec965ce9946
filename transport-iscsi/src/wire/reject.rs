//! Reject. RFC 7143 §11.17, "Reject".

use super::header::{FINAL, Header, Itt, Malformed, opcode};
use crate::serial::{CmdSn, DataSn, StatSn};

/// Reasons. RFC 7143 §11.17.1, "Reason".
pub mod reason {
    #![allow(missing_docs)] // the names are the standard's
    pub const DATA_DIGEST_ERROR: u8 = 0x02;
    pub const SNACK_REJECT: u8 = 0x03;
    pub const PROTOCOL_ERROR: u8 = 0x04;
    pub const COMMAND_NOT_SUPPORTED: u8 = 0x05;
    pub const TOO_MANY_IMMEDIATE: u8 = 0x06;
    pub const TASK_IN_PROGRESS: u8 = 0x07;
    pub const INVALID_PDU_FIELD: u8 = 0x09;
    pub const LONG_OPERATION: u8 = 0x0a;
    pub const WAITING_FOR_LOGOUT: u8 = 0x0c;
}

/// Target to initiator: a PDU was not taken. Its data segment is the header of that PDU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reject {
    /// Why.
    pub reason: u8,
    /// Its number.
    pub stat_sn: StatSn,
    /// The command expected next.
    pub exp_cmd_sn: CmdSn,
    /// The last command that may be sent.
    pub max_cmd_sn: CmdSn,
    /// For rejected SNACKs and data.
    pub data_sn: DataSn,
}

impl Reject {
    /// # Errors
    ///
    /// A task name: a Reject has none.
    pub fn parse(header: &Header) -> Result<Self, Malformed> {
        if header.itt() != Itt::NONE {
            return Err(Malformed::field("reject with a task tag"));
        }
        Ok(Self {
            reason: header.0[2],
            stat_sn: StatSn(header.be32::<24>()),
            exp_cmd_sn: CmdSn(header.be32::<28>()),
            max_cmd_sn: CmdSn(header.be32::<32>()),
            data_sn: DataSn(header.be32::<36>()),
        })
    }

    /// The header of a Reject with so many bytes of the rejected PDU.
    pub fn emit(&self, data_bytes: u32) -> Header {
        let mut h = Header::of(opcode::REJECT, FINAL).with_data(data_bytes);
        h.0[2] = self.reason;
        h.put32::<16>(Itt::NONE.0);
        h.put32::<24>(self.stat_sn.0);
        h.put32::<28>(self.exp_cmd_sn.0);
        h.put32::<32>(self.max_cmd_sn.0);
        h.put32::<36>(self.data_sn.0);
        h
    }
}
