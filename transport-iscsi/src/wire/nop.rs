//! NOP-Out and NOP-In. RFC 7143 §11.18, "NOP-Out", and §11.19, "NOP-In".

use super::header::{FINAL, Header, IMMEDIATE, Itt, Lun, Malformed, Ttt, opcode};
use crate::serial::{CmdSn, StatSn};

/// Initiator to target: a ping, or the answer to one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NopOut {
    /// Outside of the CmdSN order (I).
    pub is_immediate: bool,
    /// As in the NOP-In that it answers.
    pub lun: Lun,
    /// [`Itt::NONE`]: asks for no answer.
    pub itt: Itt,
    /// The NOP-In that it answers; [`Ttt::NONE`]: none.
    pub ttt: Ttt,
    /// Its number.
    pub cmd_sn: CmdSn,
    /// StatSN that the initiator expects next.
    pub exp_stat_sn: StatSn,
}

impl NopOut {
    /// # Errors
    ///
    /// No answer wanted, and yet part of the command order.
    pub fn parse(header: &Header) -> Result<Self, Malformed> {
        let nop = Self {
            is_immediate: header.is_immediate(),
            lun: header.lun(),
            itt: header.itt(),
            ttt: Ttt(header.be32::<20>()),
            cmd_sn: CmdSn(header.be32::<24>()),
            exp_stat_sn: StatSn(header.be32::<28>()),
        };
        if nop.itt == Itt::NONE && !nop.is_immediate {
            return Err(Malformed::protocol(
                "NOP-Out without a task tag is not immediate",
            ));
        }
        Ok(nop)
    }

    /// The header of a NOP-Out with so many bytes of ping data.
    pub fn emit(&self, data_bytes: u32) -> Header {
        let immediate = if self.is_immediate { IMMEDIATE } else { 0 };
        let mut h = Header::of(opcode::NOP_OUT | immediate, FINAL).with_data(data_bytes);
        h.put::<8, 8>(self.lun.0.to_be_bytes());
        h.put32::<16>(self.itt.0);
        h.put32::<20>(self.ttt.0);
        h.put32::<24>(self.cmd_sn.0);
        h.put32::<28>(self.exp_stat_sn.0);
        h
    }
}

/// Target to initiator: the answer to a ping, or one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NopIn {
    /// The unit, in a ping.
    pub lun: Lun,
    /// The ping that it answers; [`Itt::NONE`]: none.
    pub itt: Itt,
    /// [`Ttt::NONE`]: asks for no answer.
    pub ttt: Ttt,
    /// Its number; in a ping the next number, not advanced.
    pub stat_sn: StatSn,
    /// The command expected next.
    pub exp_cmd_sn: CmdSn,
    /// The last command that may be sent.
    pub max_cmd_sn: CmdSn,
}

impl NopIn {
    /// # Errors
    ///
    /// Both an answer and a ping.
    pub fn parse(header: &Header) -> Result<Self, Malformed> {
        let nop = Self {
            lun: header.lun(),
            itt: header.itt(),
            ttt: Ttt(header.be32::<20>()),
            stat_sn: StatSn(header.be32::<24>()),
            exp_cmd_sn: CmdSn(header.be32::<28>()),
            max_cmd_sn: CmdSn(header.be32::<32>()),
        };
        if nop.itt != Itt::NONE && nop.ttt != Ttt::NONE {
            return Err(Malformed::field("NOP-In with both tags"));
        }
        Ok(nop)
    }

    /// The header of a NOP-In with so many bytes of ping data.
    pub fn emit(&self, data_bytes: u32) -> Header {
        let mut h = Header::of(opcode::NOP_IN, FINAL).with_data(data_bytes);
        h.put::<8, 8>(self.lun.0.to_be_bytes());
        h.put32::<16>(self.itt.0);
        h.put32::<20>(self.ttt.0);
        h.put32::<24>(self.stat_sn.0);
        h.put32::<28>(self.exp_cmd_sn.0);
        h.put32::<32>(self.max_cmd_sn.0);
        h
    }
}
