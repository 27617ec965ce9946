//! SCSI Data-Out and Data-In. RFC 7143 §11.7, "SCSI Data-Out and SCSI Data-In".

use super::command::Residual;
use super::header::{FINAL, Header, Itt, Lun, Malformed, Ttt, opcode};
use crate::serial::{CmdSn, DataSn, StatSn};

/// Data-In, byte 1: S, the PDU carries the status.
const STATUS: u8 = 0x01;

/// Initiator to target: part of what a command writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataOut {
    /// Last PDU of its sequence (F).
    pub is_final: bool,
    /// As in the R2T; reserved in unsolicited data.
    pub lun: Lun,
    /// The task.
    pub itt: Itt,
    /// The R2T that it answers; [`Ttt::NONE`]: unsolicited.
    pub ttt: Ttt,
    /// StatSN that the initiator expects next.
    pub exp_stat_sn: StatSn,
    /// Its number in the sequence.
    pub data_sn: DataSn,
    /// Where it belongs in the command's data, in bytes.
    pub offset: u32,
}

impl DataOut {
    /// # Errors
    ///
    /// No task name.
    pub fn parse(header: &Header) -> Result<Self, Malformed> {
        let data = Self {
            is_final: header.is_final(),
            lun: header.lun(),
            itt: header.itt(),
            ttt: Ttt(header.be32::<20>()),
            exp_stat_sn: StatSn(header.be32::<28>()),
            data_sn: DataSn(header.be32::<36>()),
            offset: header.be32::<40>(),
        };
        if data.itt == Itt::NONE {
            return Err(Malformed::field("data without a task tag"));
        }
        Ok(data)
    }

    /// The header of so many bytes of data.
    pub fn emit(&self, data_bytes: u32) -> Header {
        let flags = if self.is_final { FINAL } else { 0 };
        let mut h = Header::of(opcode::DATA_OUT, flags).with_data(data_bytes);
        h.put::<8, 8>(self.lun.0.to_be_bytes());
        h.put32::<16>(self.itt.0);
        h.put32::<20>(self.ttt.0);
        h.put32::<28>(self.exp_stat_sn.0);
        h.put32::<36>(self.data_sn.0);
        h.put32::<40>(self.offset);
        h
    }
}

/// Target to initiator: part of what a command reads, perhaps with its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataIn {
    /// Last PDU of its sequence (F).
    pub is_final: bool,
    /// The command's end rides along (S): status, residual and StatSN.
    pub end: Option<DataInEnd>,
    /// The task.
    pub itt: Itt,
    /// The command expected next.
    pub exp_cmd_sn: CmdSn,
    /// The last command that may be sent.
    pub max_cmd_sn: CmdSn,
    /// Its number in the task.
    pub data_sn: DataSn,
    /// Where it belongs in the command's data, in bytes.
    pub offset: u32,
}

/// The end of a command in its last Data-In.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataInEnd {
    /// SCSI status: one that needs no sense data.
    pub status: u8,
    /// Bytes expected against bytes moved.
    pub residual: Residual,
    /// Number of this response.
    pub stat_sn: StatSn,
}

impl DataIn {
    /// # Errors
    ///
    /// Status in a PDU that is not final, or both kinds of residual.
    pub fn parse(header: &Header) -> Result<Self, Malformed> {
        let flags = header.flags();
        let is_final = header.is_final();
        let end = if flags & STATUS == 0 {
            None
        } else if is_final {
            Some(DataInEnd {
                status: header.0[3],
                residual: Residual::parse(flags, header.be32::<44>())?,
                stat_sn: StatSn(header.be32::<24>()),
            })
        } else {
            return Err(Malformed::field("status in Data-In that is not final"));
        };
        Ok(Self {
            is_final,
            end,
            itt: header.itt(),
            exp_cmd_sn: CmdSn(header.be32::<28>()),
            max_cmd_sn: CmdSn(header.be32::<32>()),
            data_sn: DataSn(header.be32::<36>()),
            offset: header.be32::<40>(),
        })
    }

    /// The header of so many bytes of data.
    pub fn emit(&self, data_bytes: u32) -> Header {
        let mut flags = if self.is_final { FINAL } else { 0 };
        if let Some(end) = &self.end {
            flags |= STATUS | end.residual.bits();
        }
        let mut h = Header::of(opcode::DATA_IN, flags).with_data(data_bytes);
        if let Some(end) = &self.end {
            h.0[3] = end.status;
            h.put32::<24>(end.stat_sn.0);
            h.put32::<44>(end.residual.count());
        }
        h.put32::<16>(self.itt.0);
        h.put32::<20>(Ttt::NONE.0);
        h.put32::<28>(self.exp_cmd_sn.0);
        h.put32::<32>(self.max_cmd_sn.0);
        h.put32::<36>(self.data_sn.0);
        h.put32::<40>(self.offset);
        h
    }
}
