//! SCSI as a block device speaks it: SPC-4 and SBC-3, without a transport.
//!
//! Shape      CDB bytes → [`Request`] ([`cdb`]) → [`Step`]s of a [`Job`] ([`execute`]): commands for the volume, then an outcome.
//! Not here   PDUs, tasks and their order (`session`).

pub mod capacity;
pub mod cdb;
pub mod copy;
pub mod execute;
pub mod inquiry;
pub mod mode;
pub mod opcodes;
pub mod reserve;
pub mod sense;
pub mod unit;
pub mod vpd;

pub use cdb::Request;
pub use execute::{Job, Outcome, Step};
pub use sense::{Sense, status};

/// Cuts parameter data at the allocation length. SPC-4 §4.2.5.6, "Allocation length".
pub(crate) fn cut(mut data: Vec<u8>, allocation: u32) -> Vec<u8> {
    data.truncate(allocation as usize);
    data
}
