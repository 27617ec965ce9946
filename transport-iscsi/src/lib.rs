//! iSCSI and SCSI as pure machines, and a thin tokio front.
//!
//! [`target`] holds what the program describes: the node, its targets and their logical units. [`net`] (feature `net`,
//! the only tokio here) listens and moves bytes; a program implements [`net::Backend`] once per logical unit.

#[macro_use]
mod zoo;

pub mod chap;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod keys;
pub mod link;
pub mod payload;
pub mod scsi;
pub mod serial;
pub mod session;
pub mod target;
pub mod wire;

#[cfg(feature = "net")]
pub mod net;
