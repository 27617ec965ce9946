//! A snapshot under load is a consistent cut between its request and its answer.

use crate::support::initiator::Initiator;
use crate::support::{Daemon, Folder, Host, Store, stamps, text};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Places that the writer goes round: write n goes to place n mod this.
const PLACES: u64 = 97;

/// Blocks between two places.
const STEP: u64 = 24;

/// Writes in flight.
const DEPTH: usize = 8;

/// Numbers of writes: the highest one such that all up to it were answered, and the highest one sent.
#[derive(Default)]
struct Told {
    answered: AtomicU64,
    issued: AtomicU64,
    end: AtomicBool,
}

/// Writes stamps 1, 2, 3 … in this order, several in flight.
fn write_on(session: &mut Initiator, told: &Told) {
    let mut in_flight = BTreeSet::new();
    let mut number_of = std::collections::BTreeMap::new();
    let mut next = 1;
    loop {
        while in_flight.len() < DEPTH && !told.end.load(Ordering::Acquire) {
            let lba = (next % PLACES) * STEP;
            told.issued.store(next, Ordering::Release);
            let tag = session
                .write(lba, &stamps::extent(lba, 1 + next % 16, next), false)
                .unwrap();
            number_of.insert(tag, next);
            in_flight.insert(next);
            next += 1;
        }
        if in_flight.is_empty() {
            return;
        }
        let answer = session.next().unwrap();
        assert!(answer.is_good(), "{answer:?}");
        let number = number_of.remove(&answer.tag).unwrap();
        in_flight.remove(&number);
        let all = in_flight.first().map_or(next - 1, |first| first - 1);
        told.answered.store(all, Ordering::Release);
    }
}

/// The last write that an image holds, after a check that it is a prefix of the history.
#[track_caller]
fn prefix_of(image: &[u8]) -> u64 {
    let stamp = |lba: u64| {
        let at = (lba * 512) as usize;
        stamps::number(lba, &image[at..at + 512])
    };
    let last = (0..PLACES).map(|place| stamp(place * STEP)).max().unwrap();
    for place in 0..PLACES {
        let lba = place * STEP;
        for block in 0..16 {
            // The newest write up to `last` that covers this block.
            let covering = (1..=last)
                .rev()
                .take((PLACES * 16) as usize)
                .find(|n| n % PLACES == place && block <= n % 16)
                .unwrap_or(0);
            let found = stamp(lba + block);
            assert_eq!(
                found,
                covering,
                "block {} of a cut after write {last}",
                lba + block
            );
        }
    }
    last
}

fn snapshot_under_load(store: &Store, folder: &Folder, rounds: u32) {
    let host = Host::new(store, &folder.join("state"));
    host.json(&["volume", "create", "vm", "--size", "64MiB"]);
    let daemon = host.serve();
    let mut session = daemon.login("vm");
    let told = Told::default();
    let mut cuts = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| write_on(&mut session, &told));
        for round in 0..rounds {
            let name = format!("vm@r{round}");
            let before = told.answered.load(Ordering::Acquire);
            host.json(&["snapshot", "create", &name]);
            let after = told.issued.load(Ordering::Acquire);
            cuts.push((name, before, after));
        }
        told.end.store(true, Ordering::Release);
    });
    let exported = folder.join("cut.raw");
    let mut last = 0;
    for (name, before, after) in &cuts {
        host.json(&["volume", "export", name, text(&exported)]);
        let cut = prefix_of(&std::fs::read(&exported).unwrap());
        assert!(
            (*before..=*after).contains(&cut),
            "{name} was cut after write {cut}; asked after {before}, answered before {after}"
        );
        assert!(cut >= last, "cuts go on");
        last = cut;
    }
    assert!(last > 0, "nothing was written");
    let listed = host.json(&["snapshot", "list", "vm"]);
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), cuts.len());
}

#[test]
fn a_snapshot_under_load_is_a_cut_on_a_directory() {
    let folder = Folder::new("cut-dir");
    snapshot_under_load(&Store::dir(&folder.0), &folder, 8);
}

#[test]
fn a_snapshot_under_load_is_a_cut_on_swift() {
    let folder = Folder::new("cut-swift");
    snapshot_under_load(&Store::swift(), &folder, 4);
}

#[test]
fn snapshots_are_served_write_protected() {
    let folder = Folder::new("snapshot-units");
    let host = Host::new(&Store::dir(&folder.0), &folder.join("state"));
    host.json(&["volume", "create", "vm", "--size", "8MiB"]);
    let daemon = host.serve_with(&["--snapshots"]);
    let mut session = daemon.login("vm");
    session.write_now(0, &stamps::extent(0, 8, 1)).unwrap();
    host.json(&["snapshot", "create", "vm@a"]);
    session.write_now(0, &stamps::extent(0, 8, 2)).unwrap();
    let check = |daemon: &Daemon| {
        let mut snapshot = daemon.login("vm:a");
        assert_eq!(stamps::number(0, &snapshot.read_now(0, 1).unwrap()), 1);
        let tag = snapshot.write(0, &stamps::extent(0, 1, 3), false).unwrap();
        let answer = snapshot.wait(tag).unwrap();
        // DATA PROTECT, WRITE PROTECTED.
        assert_eq!(answer.sense, Some((0x07, 0x27, 0x00)), "{answer:?}");
        assert_eq!(stamps::number(0, &snapshot.read_now(0, 1).unwrap()), 1);
    };
    check(&daemon);
    daemon.kill();
    let daemon = host.serve_with(&["--snapshots"]);
    check(&daemon);
    let mut session = daemon.login("vm");
    assert_eq!(stamps::number(0, &session.read_now(0, 1).unwrap()), 2);
    assert_eq!(daemon.stop(), 0);
}
