//! V1: what a set of seeds reached. A fault that never struck and a branch that was never taken say nothing of the engine.

use crate::choice::Die;
use crate::oracle::{Checked, Violation};
use std::collections::BTreeMap;

/// A mark, and why seeds do not reach it.
pub type Why = (&'static str, &'static str);

/// Marks that no seed can reach. One that is reached all the same must leave this list.
pub const BEYOND: &[Why] = &[
    (
        "a-delete-waits",
        "a grace is longer than any read of ours is under way",
    ),
    ("attempt-given-up", "no wish gives an attach a deadline"),
    (
        "collection-blinded",
        "data frames rot in the store, roots and leaves do not",
    ),
    (
        "suspect-leaf-damaged",
        "data frames rot in the store, roots and leaves do not",
    ),
    (
        "erasing-finds-it-shut",
        "who bore a volume erases it, and nobody takes an unborn one",
    ),
    (
        "files-without-a-note",
        "a note is there before the first file, and rot leaves one of its four places",
    ),
];

/// Marks that some ten thousand seeds reach now and then: to miss one says nothing.
pub const RARE: &[Why] = &[
    (
        "publish-misses",
        "a host stands still beyond a grace and goes on in the middle of a publish",
    ),
    (
        "look-before-deletes-refused",
        "an error of the store must begin between a collection's listing and its look",
    ),
    (
        "journal-read-goes-elsewhere",
        "a journal file must fail under a read of it",
    ),
    (
        "join-waits-for-the-journal",
        "a history must end while its last record is written",
    ),
    (
        "recovery-unsynced",
        "of the few syncs of a start the one must fail",
    ),
    (
        "claim-was-overwritten",
        "two claims of one number must both pass If-None-Match, one of them late",
    ),
    (
        "look-refused",
        "an error of the store must begin between a root and its look",
    ),
];

/// What was reached, and what never was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Every kind of fault, and how often it struck.
    pub faults: BTreeMap<&'static str, u64>,
    /// Every mark, and how often it was reached; empty in a build without marks.
    pub marks: BTreeMap<String, u64>,
}

impl Reached {
    /// What struck, out of every kind there is; no marks yet.
    pub fn of(struck: &BTreeMap<Die, u64>) -> Self {
        let count = |die: &Die| struck.get(die).copied().unwrap_or_default();
        Self {
            faults: (Die::FAULTS.iter())
                .map(|die| (die.name(), count(die)))
                .collect(),
            marks: BTreeMap::new(),
        }
    }

    /// Kinds of fault that never struck.
    pub fn idle_faults(&self) -> Vec<&'static str> {
        let idle = self.faults.iter().filter(|(_, n)| **n == 0);
        idle.map(|(name, _)| *name).collect()
    }

    /// Marks that were never reached.
    pub fn missed(&self) -> Vec<&str> {
        let missed = self.marks.iter().filter(|(_, n)| **n == 0);
        missed.map(|(name, _)| name.as_str()).collect()
    }

    /// V1: every kind of fault struck, and every mark was reached that is not `beyond` the seeds, nor `rare`.
    pub fn check(&self, beyond: &[Why], rare: &[Why]) -> Checked {
        let may_miss = |name: &str| beyond.iter().chain(rare).any(|(mark, _)| *mark == name);
        let missed: Vec<&str> = (self.missed().into_iter())
            .filter(|name| !may_miss(name))
            .collect();
        let idle = self.idle_faults();
        let stale: Vec<&str> = (beyond.iter().map(|(mark, _)| *mark))
            .filter(|mark| !self.marks.is_empty() && self.marks.get(*mark) != Some(&0))
            .collect();
        if missed.is_empty() && idle.is_empty() && stale.is_empty() {
            return Ok(());
        }
        let text = format!(
            "faults that never struck: {idle:?}; marks not reached: {missed:?}; reached, or gone, and said to be beyond: {stale:?}"
        );
        Err(Violation::new("V1", text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached() -> Reached {
        let struck: BTreeMap<Die, u64> = Die::FAULTS.iter().map(|die| (*die, 3)).collect();
        Reached {
            marks: BTreeMap::from([("rare".to_owned(), 1), ("never".to_owned(), 0)]),
            ..Reached::of(&struck)
        }
    }

    #[track_caller]
    fn violates(result: Checked, what: &str) {
        let violation = result.expect_err("must be rejected");
        assert_eq!(violation.property, "V1");
        assert!(violation.text.contains(what), "{violation}");
    }

    const NEVER: &[Why] = &[("never", "why")];

    #[test]
    fn what_never_happens_is_rejected() {
        violates(reached().check(&[], &[]), "never");
        let mut idle = reached();
        idle.faults.insert("rot", 0);
        violates(idle.check(NEVER, &[]), "rot");
        violates(reached().check(&[("rare", "why")], NEVER), "rare");
        violates(reached().check(&[("renamed", "why")], NEVER), "renamed");
    }

    #[test]
    fn a_mark_that_is_beyond_the_seeds_is_no_hole_and_a_build_without_marks_has_none() {
        reached().check(NEVER, &[]).expect("it is said why");
        let rare = [("rare", "why"), ("never", "why")];
        reached()
            .check(&[], &rare)
            .expect("both may be reached or not");
        let mut bare = reached();
        bare.marks.clear();
        bare.check(NEVER, &[]).expect("no marks, no holes");
    }
}
