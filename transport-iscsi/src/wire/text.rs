//! Text Request and Response. RFC 7143 §11.10, "Text Request", and §11.11, "Text Response".

use super::header::{FINAL, Header, IMMEDIATE, Itt, Lun, Malformed, Ttt, opcode};
use crate::serial::{CmdSn, StatSn};

/// Byte 1: C, the text goes on in the next PDU.
const CONTINUE: u8 = 0x40;

/// Initiator to target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TextRequest {
    /// Outside of the CmdSN order (I).
    pub is_immediate: bool,
    /// The initiator has said all (F).
    pub is_final: bool,
    /// The text goes on (C).
    pub is_partial: bool,
    /// As in the response that it answers.
    pub lun: Lun,
    /// Name of the exchange.
    pub itt: Itt,
    /// [`Ttt::NONE`]: a new exchange; else as in the response that it answers.
    pub ttt: Ttt,
    /// Its number.
    pub cmd_sn: CmdSn,
    /// StatSN that the initiator expects next.
    pub exp_stat_sn: StatSn,
}

impl TextRequest {
    /// # Errors
    ///
    /// F with C, or no task name.
    pub fn parse(header: &Header) -> Result<Self, Malformed> {
        let request = Self {
            is_immediate: header.is_immediate(),
            is_final: header.is_final(),
            is_partial: header.flags() & CONTINUE != 0,
            lun: header.lun(),
            itt: header.itt(),
            ttt: Ttt(header.be32::<20>()),
            cmd_sn: CmdSn(header.be32::<24>()),
            exp_stat_sn: StatSn(header.be32::<28>()),
        };
        if request.is_final && request.is_partial {
            return Err(Malformed::protocol("text with both F and C"));
        }
        if request.itt == Itt::NONE {
            return Err(Malformed::field("text without a task tag"));
        }
        Ok(request)
    }

    /// The header of a request with so many bytes of text.
    pub fn emit(&self, text_bytes: u32) -> Header {
        let bit = |set: bool, mask: u8| if set { mask } else { 0 };
        let mut h = Header::of(
            opcode::TEXT_REQUEST | bit(self.is_immediate, IMMEDIATE),
            bit(self.is_final, FINAL) | bit(self.is_partial, CONTINUE),
        )
        .with_data(text_bytes);
        h.put::<8, 8>(self.lun.0.to_be_bytes());
        h.put32::<16>(self.itt.0);
        h.put32::<20>(self.ttt.0);
        h.put32::<24>(self.cmd_sn.0);
        h.put32::<28>(self.exp_stat_sn.0);
        h
    }
}

/// Target to initiator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TextResponse {
    /// The target has said all (F).
    pub is_final: bool,
    /// The text goes on (C).
    pub is_partial: bool,
    /// As in the request.
    pub lun: Lun,
    /// The exchange.
    pub itt: Itt,
    /// [`Ttt::NONE`] when final.
    pub ttt: Ttt,
    /// Its number.
    pub stat_sn: StatSn,
    /// The command expected next.
    pub exp_cmd_sn: CmdSn,
    /// The last command that may be sent.
    pub max_cmd_sn: CmdSn,
}

impl TextResponse {
    /// # Errors
    ///
    /// F with C.
    pub fn parse(header: &Header) -> Result<Self, Malformed> {
        let response = Self {
            is_final: header.is_final(),
            is_partial: header.flags() & CONTINUE != 0,
            lun: header.lun(),
            itt: header.itt(),
            ttt: Ttt(header.be32::<20>()),
            stat_sn: StatSn(header.be32::<24>()),
            exp_cmd_sn: CmdSn(header.be32::<28>()),
            max_cmd_sn: CmdSn(header.be32::<32>()),
        };
        if response.is_final && response.is_partial {
            return Err(Malformed::protocol("text with both F and C"));
        }
        Ok(response)
    }

    /// The header of a response with so many bytes of text.
    pub fn emit(&self, text_bytes: u32) -> Header {
        let bit = |set: bool, mask: u8| if set { mask } else { 0 };
        let mut h = Header::of(
            opcode::TEXT_RESPONSE,
            bit(self.is_final, FINAL) | bit(self.is_partial, CONTINUE),
        )
        .with_data(text_bytes);
        h.put::<8, 8>(self.lun.0.to_be_bytes());
        h.put32::<16>(self.itt.0);
        h.put32::<20>(self.ttt.0);
        h.put32::<24>(self.stat_sn.0);
        h.put32::<28>(self.exp_cmd_sn.0);
        h.put32::<32>(self.max_cmd_sn.0);
        h
    }
}
