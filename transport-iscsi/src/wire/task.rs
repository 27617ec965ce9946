//! Task Management Function Request and Response. RFC 7143 §11.5 and §11.6, "Task Management Function Request/Response".

use super::header::{FINAL, Header, IMMEDIATE, Itt, Lun, Malformed, opcode};
use crate::serial::{CmdSn, DataSn, StatSn};

/// What shall be done. RFC 7143 §11.5.1, "Function".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names are the standard's
pub enum TaskFunction {
    AbortTask,
    AbortTaskSet,
    ClearAca,
    ClearTaskSet,
    LogicalUnitReset,
    TargetWarmReset,
    TargetColdReset,
    TaskReassign,
    /// Any other number, 0 to 127.
    Other(u8),
}

impl TaskFunction {
    const fn parse(bits: u8) -> Self {
        match bits & 0x7f {
            1 => Self::AbortTask,
            2 => Self::AbortTaskSet,
            3 => Self::ClearAca,
            4 => Self::ClearTaskSet,
            5 => Self::LogicalUnitReset,
            6 => Self::TargetWarmReset,
            7 => Self::TargetColdReset,
            8 => Self::TaskReassign,
            other => Self::Other(other),
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::AbortTask => 1,
            Self::AbortTaskSet => 2,
            Self::ClearAca => 3,
            Self::ClearTaskSet => 4,
            Self::LogicalUnitReset => 5,
            Self::TargetWarmReset => 6,
            Self::TargetColdReset => 7,
            Self::TaskReassign => 8,
            Self::Other(n) => n,
        }
    }
}

/// Initiator to target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskRequest {
    /// Outside of the CmdSN order (I).
    pub is_immediate: bool,
    /// What shall be done.
    pub function: TaskFunction,
    /// The unit.
    pub lun: Lun,
    /// Name of this request.
    pub itt: Itt,
    /// The task meant, for functions on one task.
    pub referenced: Itt,
    /// Its number.
    pub cmd_sn: CmdSn,
    /// StatSN that the initiator expects next.
    pub exp_stat_sn: StatSn,
    /// CmdSN of the task meant.
    pub ref_cmd_sn: CmdSn,
    /// For TASK REASSIGN.
    pub exp_data_sn: DataSn,
}

impl TaskRequest {
    /// # Errors
    ///
    /// No task name.
    pub fn parse(header: &Header) -> Result<Self, Malformed> {
        if header.itt() == Itt::NONE {
            return Err(Malformed::field("task management without a task tag"));
        }
        Ok(Self {
            is_immediate: header.is_immediate(),
            function: TaskFunction::parse(header.flags()),
            lun: header.lun(),
            itt: header.itt(),
            referenced: Itt(header.be32::<20>()),
            cmd_sn: CmdSn(header.be32::<24>()),
            exp_stat_sn: StatSn(header.be32::<28>()),
            ref_cmd_sn: CmdSn(header.be32::<32>()),
            exp_data_sn: DataSn(header.be32::<36>()),
        })
    }

    /// The header; the request has no data segment.
    pub fn emit(&self) -> Header {
        let immediate = if self.is_immediate { IMMEDIATE } else { 0 };
        let mut h = Header::of(
            opcode::TASK_REQUEST | immediate,
            FINAL | self.function.bits(),
        );
        h.put::<8, 8>(self.lun.0.to_be_bytes());
        h.put32::<16>(self.itt.0);
        h.put32::<20>(self.referenced.0);
        h.put32::<24>(self.cmd_sn.0);
        h.put32::<28>(self.exp_stat_sn.0);
        h.put32::<32>(self.ref_cmd_sn.0);
        h.put32::<36>(self.exp_data_sn.0);
        h
    }
}

/// How a function ended. RFC 7143 §11.6.1, "Response".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names are the standard's
pub enum TaskOutcome {
    Complete,
    NoSuchTask,
    NoSuchLun,
    TaskStillAllegiant,
    ReassignNotSupported,
    NotSupported,
    NotAuthorized,
    Rejected,
}

impl TaskOutcome {
    const fn byte(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::NoSuchTask => 1,
            Self::NoSuchLun => 2,
            Self::TaskStillAllegiant => 3,
            Self::ReassignNotSupported => 4,
            Self::NotSupported => 5,
            Self::NotAuthorized => 6,
            Self::Rejected => 255,
        }
    }

    const fn parse(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Complete,
            1 => Self::NoSuchTask,
            2 => Self::NoSuchLun,
            3 => Self::TaskStillAllegiant,
            4 => Self::ReassignNotSupported,
            5 => Self::NotSupported,
            6 => Self::NotAuthorized,
            255 => Self::Rejected,
            _ => return None,
        })
    }
}

/// Target to initiator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskResponse {
    /// How it ended.
    pub outcome: TaskOutcome,
    /// The request.
    pub itt: Itt,
    /// Its number.
    pub stat_sn: StatSn,
    /// The command expected next.
    pub exp_cmd_sn: CmdSn,
    /// The last command that may be sent.
    pub max_cmd_sn: CmdSn,
}

impl TaskResponse {
    /// # Errors
    ///
    /// A reserved response.
    pub fn parse(header: &Header) -> Result<Self, Malformed> {
        Ok(Self {
            outcome: TaskOutcome::parse(header.0[2])
                .ok_or(Malformed::field("reserved task management response"))?,
            itt: header.itt(),
            stat_sn: StatSn(header.be32::<24>()),
            exp_cmd_sn: CmdSn(header.be32::<28>()),
            max_cmd_sn: CmdSn(header.be32::<32>()),
        })
    }

    /// The header; the response has no data segment.
    pub fn emit(&self) -> Header {
        let mut h = Header::of(opcode::TASK_RESPONSE, FINAL);
        h.0[2] = self.outcome.byte();
        h.put32::<16>(self.itt.0);
        h.put32::<24>(self.stat_sn.0);
        h.put32::<28>(self.exp_cmd_sn.0);
        h.put32::<32>(self.max_cmd_sn.0);
        h
    }
}
