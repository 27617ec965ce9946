//! Swift's dialect as a pure machine, and a thin HTTP client.
//!
//! ```text
//!   StoreRequest ─► Ask ─► StoreMachine ─► HttpRequest ─► client (feature `http`) or simulator ─► Swift
//!   Outcome ◄── Success, Failure ◄─┘  ▲─── HttpAnswer, Broken, time
//! ```
//!
//! Reading order: `request` (what is asked), `answer` (what a status means, one table), `pending` (one question's
//! course), `retry` (when again), `token` (401), `machine` (the whole). Nothing here but `client` reads a clock, opens a
//! socket or knows a secret.

#[macro_use]
mod zoo;

pub mod answer;
#[cfg(feature = "http")]
pub mod client;
mod exchange;
pub mod listing;
pub mod machine;
mod pending;
pub mod request;
pub mod retry;
pub mod settings;
pub mod token;

#[cfg(feature = "http")]
pub use client::{Client, Credentials, SwiftConfig};
pub use exchange::{Broken, Cause, Content, Failure, HttpAnswer, Success};
pub use machine::{Action, StoreMachine};
pub use request::{Ask, CallId, Connection, Encoded, Etag, HttpRequest, Method, Ticket};
pub use settings::Settings;
pub use token::{AuthError, TokenId};
