//! The canary: a bug that is on must be noticed within a few seeds, or the simulator has gone blind.

#![cfg(feature = "zoo")]

use sim::config::Profile;
use sim::run::{Case, Detail, run};
use sim::shrink::shrink;

// One test: the switch is the process's.
#[test]
fn a_flush_that_promises_too_much_is_noticed_and_a_good_one_is_not() {
    let noticed = |seed| {
        let case = Case {
            ops: Some(300),
            ..Case::new(seed, Profile::Safety)
        };
        run(&case, Detail::Counts)
            .violation
            .is_some_and(|v| v.property == "B3")
    };
    assert!(!(0..10).any(noticed));
    engine::zoo::switch(Some("flush-at-once"));
    let found = (0..10).find(|seed| noticed(*seed));
    let small = found.and_then(|seed| shrink(&Case::new(seed, Profile::Safety), 400));
    engine::zoo::switch(None);
    let small = small.expect("the canary is alive");
    assert!(small.operations <= 10, "{} operations", small.operations);
    assert!(
        run(&small.case, Detail::Counts).violation.is_none(),
        "what is left fails only with the bug"
    );
}
