//! The sans-IO core of one martlet volume.
//!
//! ```text
//!   guest commands ─┐                         ┌─► Append, Sync, Read, Disk   (local journal and cache)
//!   operator wishes ┼─►  Volume: facts in, ───┼─► Store                     (objects in Swift or a directory)
//!   outcomes, time ─┘    effects out          └─► Reply, Told, Gate, Notice (answers)
//! ```
//!
//! The engine reads no clock, opens nothing, spawns nothing. Everything that can lose data is here, and the simulator
//! drives this very code. Only [`Effect::Reply`] acknowledges a guest; only a root that passed its look commits.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

#[macro_use]
pub mod zoo;

pub mod attach;
mod cache;
pub mod codec;
pub mod collect;
pub mod command;
pub mod effect;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod hydrate;
pub mod ids;
pub mod journal;
pub mod layers;
pub mod limits;
pub mod object;
pub mod payload;
mod publish;
mod slots;
pub mod sum;
pub mod table;
pub mod time;
pub mod units;
pub mod volume;

pub use command::{Command, Reply, Verdict, Wish};
pub use effect::{Effect, Outcome};
pub use limits::{Life, Limits};
pub use payload::{Part, Parts, Payload};
pub use volume::{Credits, Status, Volume};
