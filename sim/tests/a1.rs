//! Assumption A1 matters: without it the fork that the design describes is found, and nothing worse.

use sim::choice::{Choices, Edits};
use sim::config::{Config, Profile};
use sim::run::run_world;
use sim::trace::Trace;

/// Seeds within which a fork is found: most forks need a commit in the moment of a take-over.
const SEEDS: std::ops::Range<u64> = 540..580;

#[test]
fn without_a1_an_answered_snapshot_becomes_a_stray_and_nothing_is_overwritten() {
    let mut forked = None;
    for seed in SEEDS {
        let mut choices = Choices::seeded(seed, Edits::default());
        let mut config = Config::draw(&mut choices, Profile::Fencing, Some(600));
        config.wire = true;
        config.break_a1(20_000);
        let ended = run_world(choices, config, Trace::default());
        assert_eq!(ended.violation, None, "seed {seed}");
        if ended.trace.forks > 0 {
            forked = Some(seed);
            break;
        }
    }
    assert!(forked.is_some(), "no fork in seeds {SEEDS:?}");
    eprintln!("the fork is found by seed {forked:?}");
}
