//! What the store is asked, and how often: what a snapshot says that it cost, and what a host asks that lost its volume.

use crate::harness::Harness;
use crate::{snapshot, taken_over};
use engine::command::{Verdict, Wish};
use engine::effect::{Gate, GateReason};
use engine::time::Duration;
use std::collections::BTreeMap;

#[test]
fn a_snapshot_counts_the_puts_and_bytes_that_made_it() {
    let mut host = Harness::born(512, 1000);
    let mut before = host.store.borrow().objects.clone();
    // One grain, then several chunks, then nothing new.
    for (key, grains) in [1, 60, 0].into_iter().enumerate() {
        for grain in 0..grains {
            host.write(grain * 16, 8, key as u8 + 1);
        }
        let verdict = host.wish(snapshot(&format!("s{key}"), key as u64 + 1));
        let Verdict::Committed(committed) = verdict else {
            panic!("{verdict:?}");
        };
        let after = host.store.borrow().objects.clone();
        let new: BTreeMap<_, _> = after
            .iter()
            .filter(|(at, bytes)| before.get(*at) != Some(*bytes))
            .collect();
        let bytes: usize = new.values().map(|bytes| bytes.len()).sum();
        assert_eq!(committed.bytes.0, bytes as u64, "{grains} grains");
        assert_eq!(committed.puts, new.len() as u64, "{grains} grains");
        before = after;
    }
}

#[test]
fn who_was_fenced_waits_a_watch_before_it_tries_again() {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    let watch = host.limits.watch;
    taken_over(&host, 2);
    host.wish(Wish::Look);
    assert_eq!(host.gates.last(), Some(&Gate::Closed(GateReason::Fenced)));
    let asked = host.store.borrow().requests;
    host.pass(watch - Duration::from_millis(1));
    assert_eq!(host.store.borrow().requests, asked);
    host.pass(Duration::from_millis(1));
    assert!(host.store.borrow().requests > asked);
}
