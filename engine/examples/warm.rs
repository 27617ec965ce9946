//! What the engine itself costs per warm I/O: a volume in a world that answers at once and moves no byte.
//!
//! `cargo run --release -p martlet-engine --example warm` prints nanoseconds per 4 KiB write (accepted, appended, answered)
//! and per 4 KiB read, from the journal and from a cached frame.

#![allow(dead_code)] // The harness has more than this needs.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // It times the engine, which has no clock of its own.

extern crate martlet_engine as engine;

#[path = "../tests/dialogues/harness.rs"]
mod harness;

use engine::command::Command;
use engine::effect::{Effect, Outcome};
use engine::ids::Tag;
use engine::units::{ByteCount, Extent};
use engine::{Limits, Wish};
use harness::{Buf, Harness};
use std::hint::black_box;
use std::time::Instant;

const BLOCKS: u64 = 1 << 16;
const WRITES: u64 = 40_000;
const READS: u64 = 200_000;

/// One command, and every effect of it answered at once; how many replies came.
fn instant(host: &mut Harness, tag: u64, command: Command<Buf>, page: &Buf) -> u32 {
    host.volume.handle_guest(host.now, Tag(tag), command);
    let mut replies = 0;
    while let Some(effect) = host.volume.poll_effect() {
        let (id, outcome) = match effect {
            Effect::Reply(..) => {
                replies += 1;
                continue;
            }
            Effect::Append { id, .. } | Effect::Sync { id, .. } | Effect::Disk { id, .. } => {
                (id, Outcome::Done)
            }
            Effect::Read { id, .. } => (id, Outcome::Read(page.clone())),
            other => unreachable!("{other:?}"),
        };
        host.volume.handle_done(host.now, id, outcome);
    }
    replies
}

/// Runs `count` commands and prints what one of them cost.
fn measure(what: &str, count: u64, mut one: impl FnMut(u64) -> u32) {
    let began = Instant::now();
    let replies: u32 = (0..count).map(&mut one).sum();
    let spent = began.elapsed();
    assert_eq!(u64::from(replies), count, "each command was answered");
    let line = format!("{what}: {} ns\n", spent.as_nanos() / u128::from(count));
    std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes()).expect("stdout");
}

/// A scattered order: the same one every time.
const fn scattered(n: u64, of: u64) -> u64 {
    (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % of
}

fn main() {
    let limits = Limits {
        file_bytes: ByteCount(16 << 20),
        files: 128,
        cache_slots: 4096,
        ..Limits::default()
    };
    let mut host = Harness::born_with(4096, BLOCKS, limits);
    for n in 0..64 {
        host.write(n, 1, 1);
    }
    host.wish(Wish::Checkpoint);
    let Command::Write { data, .. } = host.command_write(0, 1, 7, false) else {
        unreachable!("asked for a write");
    };
    measure("read, cached frame", READS, |n| {
        let read = Command::Read(Extent::new(scattered(n, 64), 1));
        black_box(instant(&mut host, n, read, &data))
    });
    let write = host.command_write(0, 1, 7, false);
    measure("write", WRITES, |n| {
        let mut write = write.clone();
        if let Command::Write { at, .. } = &mut write {
            *at = Extent::new(scattered(n, BLOCKS), 1);
        }
        black_box(instant(&mut host, n, write, &data))
    });
    measure("read, journal", READS, |n| {
        let block = scattered(n % WRITES, BLOCKS);
        let read = Command::Read(Extent::new(block, 1));
        black_box(instant(&mut host, n, read, &data))
    });
}
