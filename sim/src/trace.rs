//! What a run leaves behind: a rolling hash that proves determinism, counts, and (when asked) a story.

use crate::choice::{Die, mix};
use std::collections::{BTreeMap, BTreeSet};

/// The record of a run.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// Rolls over every event, effect and answer.
    pub hash: u64,
    /// Engine events: `handle_*` calls that did something.
    pub events: u64,
    /// Guest operations answered.
    pub operations: u64,
    /// Histories that went on from below what was committed, with A1 broken.
    pub forks: u64,
    /// Engine events by kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Faults that struck, by die.
    pub faults: BTreeMap<Die, u64>,
    /// Which faults struck: what a minimiser may take away.
    pub struck: BTreeSet<(Die, u64)>,
    /// Which operations were asked.
    pub asked: BTreeSet<(Die, u64)>,
    /// Unsynced pages at the last loss of power.
    pub unsynced: u64,
    /// Whether `struck` and `asked` are kept.
    pub detailed: bool,
    /// The story so far; `None` when nobody asked for it.
    pub story: Option<Vec<String>>,
}

impl Trace {
    /// Rolls a number into the hash.
    #[inline]
    pub fn roll(&mut self, value: u64) {
        self.hash = mix(self.hash, value);
    }

    /// A fault struck.
    pub fn fault(&mut self, die: Die, entity: u64) {
        debug_assert!(Die::FAULTS.contains(&die), "{die:?} is counted as a fault");
        *self.faults.entry(die).or_default() += 1;
        self.roll(die as u64 ^ entity << 16);
        if self.detailed {
            self.struck.insert((die, entity));
        }
    }

    /// Adds a line to the story; the text is made only if there is one.
    pub fn tell(&mut self, now: u64, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(format!("{:>14} {}", stamp(now), line()));
        }
    }

    /// Adds what another run counted.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.operations += other.operations;
        self.forks += other.forks;
        for (kind, n) in &other.kinds {
            *self.kinds.entry(kind).or_default() += n;
        }
        for (die, n) in &other.faults {
            *self.faults.entry(*die).or_default() += n;
        }
    }
}

fn stamp(now: u64) -> String {
    format!("{}.{:06} s", now / 1_000_000_000, now / 1000 % 1_000_000)
}
