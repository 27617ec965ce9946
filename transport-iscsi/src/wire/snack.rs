//! SNACK Request. RFC 7143 §11.16, "SNACK Request". At ErrorRecoveryLevel 0 it is only ever rejected.

use super::header::{FINAL, Header, Itt, Lun, Malformed, Ttt, opcode};
use crate::serial::StatSn;

/// Initiator to target: asks for data or status again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Snack {
    /// What is asked for, 0 to 15.
    pub kind: u8,
    /// The unit.
    pub lun: Lun,
    /// The task.
    pub itt: Itt,
    /// The transfer, or the SNACK's own tag.
    pub ttt: Ttt,
    /// StatSN that the initiator expects next.
    pub exp_stat_sn: StatSn,
    /// First number missed.
    pub begin: u32,
    /// How many.
    pub count: u32,
}

impl Snack {
    /// # Errors
    ///
    /// None; the type is that of its siblings.
    pub fn parse(header: &Header) -> Result<Self, Malformed> {
        Ok(Self {
            kind: header.flags() & 0x0f,
            lun: header.lun(),
            itt: header.itt(),
            ttt: Ttt(header.be32::<20>()),
            exp_stat_sn: StatSn(header.be32::<28>()),
            begin: header.be32::<40>(),
            count: header.be32::<44>(),
        })
    }

    /// The header; a SNACK has no data segment.
    pub fn emit(&self) -> Header {
        let mut h = Header::of(opcode::SNACK, FINAL | self.kind & 0x0f);
        h.put::<8, 8>(self.lun.0.to_be_bytes());
        h.put32::<16>(self.itt.0);
        h.put32::<20>(self.ttt.0);
        h.put32::<28>(self.exp_stat_sn.0);
        h.put32::<40>(self.begin);
        h.put32::<44>(self.count);
        h
    }
}
