//! The tokio front: the only place here that knows sockets.
//!
//! Shape      a listener; one task per connection, which reads, hands commands to [`Backend`]s, and writes every answer that
//!            was given inline with one vectored write. No task hop and no channel lies on the way of a warm command.

mod connection;
mod reply;
mod server;

pub use reply::{Backend, Outbox, ReplyRouter, ReplySink};
pub use server::{Limits, Server};
