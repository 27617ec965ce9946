//! The program: drives volumes' engines on a real disk, a real store and real initiators.
//!
//! ```text
//!   cli ──► (admin socket) ──► daemon ──► driver ──► engine
//!                                │          ├──► disk      journal, cache, state directory
//!                                │          └──► store     a directory, or Swift
//!                                └──► transport-iscsi
//! ```

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod disk;
pub mod driver;
pub mod front;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod host;
pub mod image;
pub mod quantity;
pub mod rate;
pub mod report;
pub mod store;
