//! What a snapshot says that it cost is what came to the store.

use crate::harness::Harness;
use crate::snapshot;
use engine::command::Verdict;
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
