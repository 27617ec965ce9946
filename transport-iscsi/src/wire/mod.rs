//! The bytes of RFC 7143: one file per PDU pair.
//!
//! Shape      48 header bytes ([`Header`]) become one typed message per opcode; `parse` and `emit` are inverse to each other.
//! Invariant  every length is held against its limit before memory is taken for it.
//! Not here   what a message means in a session (`session`), text keys (`keys`).

pub mod async_message;
pub mod command;
pub mod data;
pub mod deframe;
pub mod header;
pub mod login;
pub mod logout;
pub mod nop;
pub mod r2t;
pub mod reject;
pub mod snack;
pub mod task;
pub mod text;

pub use header::{Header, Itt, Lun, Malformed, Ttt, opcode};

#[cfg(test)]
mod tests;
