//! Ready To Transfer. RFC 7143 §11.8, "Ready To Transfer (R2T)".

use super::header::{FINAL, Header, Itt, Lun, Malformed, Ttt, opcode};
use crate::serial::{CmdSn, R2tSn, StatSn};

/// Target to initiator: asks for one burst of a command's Data-Out. Offset and length never include padding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct R2t {
    /// The unit.
    pub lun: Lun,
    /// The task.
    pub itt: Itt,
    /// Names this request; the Data-Out PDUs that answer it carry it back. Never [`Ttt::NONE`].
    pub ttt: Ttt,
    /// StatSN that the next response will carry; not advanced by this PDU.
    pub stat_sn: StatSn,
    /// The command expected next.
    pub exp_cmd_sn: CmdSn,
    /// The last command that may be sent.
    pub max_cmd_sn: CmdSn,
    /// Its number in the task.
    pub r2t_sn: R2tSn,
    /// First byte wanted.
    pub offset: u32,
    /// Bytes wanted: at least 1, at most MaxBurstLength.
    pub desired_bytes: u32,
}

impl R2t {
    /// # Errors
    ///
    /// No transfer tag, or nothing wanted.
    pub fn parse(header: &Header) -> Result<Self, Malformed> {
        let r2t = Self {
            lun: header.lun(),
            itt: header.itt(),
            ttt: Ttt(header.be32::<20>()),
            stat_sn: StatSn(header.be32::<24>()),
            exp_cmd_sn: CmdSn(header.be32::<28>()),
            max_cmd_sn: CmdSn(header.be32::<32>()),
            r2t_sn: R2tSn(header.be32::<36>()),
            offset: header.be32::<40>(),
            desired_bytes: header.be32::<44>(),
        };
        if r2t.ttt == Ttt::NONE || r2t.desired_bytes == 0 {
            return Err(Malformed::field("R2T without a tag or a length"));
        }
        Ok(r2t)
    }

    /// The header; an R2T has no data segment.
    pub fn emit(&self) -> Header {
        let mut h = Header::of(opcode::R2T, FINAL);
        h.put::<8, 8>(self.lun.0.to_be_bytes());
        h.put32::<16>(self.itt.0);
        h.put32::<20>(self.ttt.0);
        h.put32::<24>(self.stat_sn.0);
        h.put32::<28>(self.exp_cmd_sn.0);
        h.put32::<32>(self.max_cmd_sn.0);
        h.put32::<36>(self.r2t_sn.0);
        h.put32::<40>(self.offset);
        h.put32::<44>(self.desired_bytes);
        h
    }
}
