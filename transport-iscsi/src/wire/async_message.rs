//! Asynchronous Message. RFC 7143 §11.9, "Asynchronous Message".

use super::header::{FINAL, Header, Itt, Lun, Malformed, opcode};
use crate::serial::{CmdSn, StatSn};

/// Events. RFC 7143 §11.9.1, "AsyncEvent".
pub mod event {
    #![allow(missing_docs)] // the names are the standard's
    pub const SCSI: u8 = 0;
    pub const LOGOUT_REQUESTED: u8 = 1;
    pub const CONNECTION_DROPPED: u8 = 2;
    pub const SESSION_DROPPED: u8 = 3;
    pub const NEGOTIATE: u8 = 4;
    pub const TASKS_TERMINATED: u8 = 5;
}

/// Target to initiator: news that nobody asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AsyncMessage {
    /// The unit, where the event is about one.
    pub lun: Lun,
    /// Its number.
    pub stat_sn: StatSn,
    /// The command expected next.
    pub exp_cmd_sn: CmdSn,
    /// The last command that may be sent.
    pub max_cmd_sn: CmdSn,
    /// What happened.
    pub event: u8,
    /// Three numbers whose meaning depends on the event.
    pub parameters: [u16; 3],
}

impl AsyncMessage {
    /// # Errors
    ///
    /// A task name: an Asynchronous Message has none.
    pub fn parse(header: &Header) -> Result<Self, Malformed> {
        if header.itt() != Itt::NONE {
            return Err(Malformed::field("asynchronous message with a task tag"));
        }
        Ok(Self {
            lun: header.lun(),
            stat_sn: StatSn(header.be32::<24>()),
            exp_cmd_sn: CmdSn(header.be32::<28>()),
            max_cmd_sn: CmdSn(header.be32::<32>()),
            event: header.0[36],
            parameters: [
                header.be16::<38>(),
                header.be16::<40>(),
                header.be16::<42>(),
            ],
        })
    }

    /// The header of a message with so many bytes of data.
    pub fn emit(&self, data_bytes: u32) -> Header {
        let [a, b, c] = self.parameters;
        let mut h = Header::of(opcode::ASYNC_MESSAGE, FINAL).with_data(data_bytes);
        h.put::<8, 8>(self.lun.0.to_be_bytes());
        h.put32::<16>(Itt::NONE.0);
        h.put32::<24>(self.stat_sn.0);
        h.put32::<28>(self.exp_cmd_sn.0);
        h.put32::<32>(self.max_cmd_sn.0);
        h.0[36] = self.event;
        h.put::<38, 2>(a.to_be_bytes());
        h.put::<40, 2>(b.to_be_bytes());
        h.put::<42, 2>(c.to_be_bytes());
        h
    }
}
