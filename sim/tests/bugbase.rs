//! The bug base: every case that ever failed holds now, and a run means the same twice.

use sim::casefile;
use sim::config::Profile;
use sim::run::{Case, Detail, run};
use std::path::Path;

#[test]
fn every_case_of_the_bug_base_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder is part of the crate")
        .map(|e| e.expect("an entry").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a text file");
        let case = casefile::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let ended = run(&case, Detail::Counts);
        assert_eq!(ended.violation, None, "{}", path.display());
        assert!(ended.trace.events > 50, "{} does nothing", path.display());
    }
}

#[test]
fn a_seed_means_the_same_twice() {
    for profile in [
        Profile::Safety,
        Profile::Fencing,
        Profile::Wire,
        Profile::All,
    ] {
        for seed in 1..4 {
            let case = Case {
                ops: Some(120),
                ..Case::new(seed, profile)
            };
            let (first, second) = (run(&case, Detail::Counts), run(&case, Detail::Story));
            assert_eq!(
                first.trace.hash, second.trace.hash,
                "seed {seed} of {profile:?}"
            );
            assert_eq!(first.trace.events, second.trace.events);
        }
    }
}
