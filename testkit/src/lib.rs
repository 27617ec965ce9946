//! Real servers and a faulty wire for martlet's tests.
//!
//! - [`Swift`], [`Keystone`]: the real ones, on free ports of 127.0.0.1, ended with the test.
//! - [`TlsRelay`]: a TLS front for one of them.
//! - [`Relay`]: a TCP relay that reads HTTP, logs every exchange and does harm on request.
//!
//! Tests are quick by default; [`is_long`] says whether `MARTLET_LONG=1` asks for the longer variants.

mod relay;
mod server;

pub use relay::{Exchange, Fault, Relay, Rule};
pub use server::{Keystone, Swift, SwiftOptions, TlsRelay, prepared, scratch};

/// Whether the longer variants are wanted: `MARTLET_LONG=1`.
pub fn is_long() -> bool {
    std::env::var("MARTLET_LONG").is_ok_and(|v| v != "0" && !v.is_empty())
}
