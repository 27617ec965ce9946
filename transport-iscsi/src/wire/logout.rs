//! Logout Request and Response. RFC 7143 §11.14, "Logout Request", and §11.15, "Logout Response".

use super::header::{FINAL, Header, IMMEDIATE, Itt, Malformed, opcode};
use crate::serial::{CmdSn, StatSn};

/// Initiator to target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogoutRequest {
    /// Outside of the CmdSN order (I).
    pub is_immediate: bool,
    /// 0: close the session; 1: close the connection; 2: remove the connection for recovery. 0 to 127.
    pub reason: u8,
    /// Name of the request.
    pub itt: Itt,
    /// The connection meant.
    pub cid: u16,
    /// Its number.
    pub cmd_sn: CmdSn,
    /// StatSN that the initiator expects next.
    pub exp_stat_sn: StatSn,
}

impl LogoutRequest {
    /// # Errors
    ///
    /// No task name.
    pub fn parse(header: &Header) -> Result<Self, Malformed> {
        if header.itt() == Itt::NONE {
            return Err(Malformed::field("logout without a task tag"));
        }
        Ok(Self {
            is_immediate: header.is_immediate(),
            reason: header.flags() & 0x7f,
            itt: header.itt(),
            cid: header.be16::<20>(),
            cmd_sn: CmdSn(header.be32::<24>()),
            exp_stat_sn: StatSn(header.be32::<28>()),
        })
    }

    /// The header; the request has no data segment.
    pub fn emit(&self) -> Header {
        let immediate = if self.is_immediate { IMMEDIATE } else { 0 };
        let mut h = Header::of(
            opcode::LOGOUT_REQUEST | immediate,
            FINAL | self.reason & 0x7f,
        );
        h.put32::<16>(self.itt.0);
        h.put::<20, 2>(self.cid.to_be_bytes());
        h.put32::<24>(self.cmd_sn.0);
        h.put32::<28>(self.exp_stat_sn.0);
        h
    }
}

/// Target to initiator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogoutResponse {
    /// 0: closed; 1: no such connection; 2: no recovery; 3: clean-up failed.
    pub response: u8,
    /// The request.
    pub itt: Itt,
    /// Its number.
    pub stat_sn: StatSn,
    /// The command expected next.
    pub exp_cmd_sn: CmdSn,
    /// The last command that may be sent.
    pub max_cmd_sn: CmdSn,
    /// Seconds to wait before logging in again.
    pub time_to_wait: u16,
    /// Seconds that tasks are kept after that.
    pub time_to_retain: u16,
}

impl LogoutResponse {
    /// # Errors
    ///
    /// None; the type is that of its siblings.
    pub fn parse(header: &Header) -> Result<Self, Malformed> {
        Ok(Self {
            response: header.0[2],
            itt: header.itt(),
            stat_sn: StatSn(header.be32::<24>()),
            exp_cmd_sn: CmdSn(header.be32::<28>()),
            max_cmd_sn: CmdSn(header.be32::<32>()),
            time_to_wait: header.be16::<40>(),
            time_to_retain: header.be16::<42>(),
        })
    }

    /// The header; the response has no data segment.
    pub fn emit(&self) -> Header {
        let mut h = Header::of(opcode::LOGOUT_RESPONSE, FINAL);
        h.0[2] = self.response;
        h.put32::<16>(self.itt.0);
        h.put32::<24>(self.stat_sn.0);
        h.put32::<28>(self.exp_cmd_sn.0);
        h.put32::<32>(self.max_cmd_sn.0);
        h.put::<40, 2>(self.time_to_wait.to_be_bytes());
        h.put::<42, 2>(self.time_to_retain.to_be_bytes());
        h
    }
}
