//! Sessions as dialogues: left what arrives, right all that must leave. Silence is asserted too.

mod commands;
mod entry;
mod management;
mod peer;

use peer::Peer;

/// Runs a dialogue on a session that has logged in and heard its first unit attention.
#[track_caller]
fn check(script: &str) {
    let mut peer = Peer::logged_in();
    peer.run(script);
}
