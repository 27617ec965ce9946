//! Makes a failing run small, and keeps what still violates the same property.
//!
//! First from below: the same swarm with two operations, four, seven …, each size with hundreds of seeds, plainly, with guests
//! that take as long as many operations would, and with faults that strike more often. Small runs are cheap, and a mistake
//! that needs three operations shows in one of them. Then from above: fewer operations, grains, wishes, commands in flight,
//! hosts and kinds of fault, each size with some dozens of seeds. Then by taking out: kinds of fault, single faults, wishes
//! and operations of that one run.

use crate::choice::{Die, Edits, mix};
use crate::run::{Case, Detail, Ended, run};

/// A smaller case that violates the same property, and how it ended.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The case.
    pub case: Case,
    /// Its end, with the story.
    pub ended: Ended,
    /// Runs that it took.
    pub runs: u32,
    /// Guest operations left.
    pub operations: usize,
    /// Faults left.
    pub faults: usize,
}

/// Dice whose entities are faults.
fn is_fault(die: Die) -> bool {
    !matches!(
        die,
        Die::Config
            | Die::Op
            | Die::Think
            | Die::Wish
            | Die::DiskTime
            | Die::StoreTime
            | Die::Landing
            | Die::Seed
            | Die::FirstReplica
            | Die::Segment
            | Die::Keys
    )
}

/// Draws that a smaller size gets before it is given up.
const DRAWS: u32 = 40;

/// Engine events that a minimisation may take in all: about a minute.
const EVENTS_MAX: u64 = 20_000_000;

/// Of these, what the search from below may take.
const EVENTS_BELOW: u64 = 10_000_000;

/// Sizes that are tried from below, and draws of each in each way.
const SIZES: [u64; 9] = [2, 4, 7, 10, 15, 25, 40, 80, 160];
const DRAWS_BELOW: u32 = 250;

struct Search {
    property: &'static str,
    best: Case,
    ended: Ended,
    runs: u32,
    limit: u32,
    events: u64,
    draws: u64,
    /// How long the run went before the violation, in virtual microseconds.
    length_us: u64,
}

impl Search {
    fn is_over(&self) -> bool {
        self.runs >= self.limit || self.events >= EVENTS_MAX
    }

    // Keeps the case if it still fails alike.
    fn try_case(&mut self, case: Case) -> bool {
        if self.is_over() {
            return false;
        }
        self.runs += 1;
        let ended = run(&case, Detail::Entities);
        self.events += ended.trace.events;
        let same = ended
            .violation
            .as_ref()
            .is_some_and(|v| v.property == self.property);
        if same {
            self.best = case;
            self.ended = ended;
        }
        same
    }

    fn try_edits(&mut self, edits: Edits) -> bool {
        let case = Case {
            edits,
            ..self.best.clone()
        };
        self.try_case(case)
    }

    // Keeps a smaller case if some draw of it fails alike. A run that loses operations is another run: what it takes is not
    // the same luck, but the same swarm and a few throws more. Only while no single entity is taken out.
    fn redraw(&mut self, change: impl Fn(&mut Case)) -> bool {
        let mut case = self.best.clone();
        case.config_seed.get_or_insert(case.seed);
        change(&mut case);
        if case == self.best {
            return false;
        }
        // The old luck first.
        if self.try_case(case.clone()) {
            return true;
        }
        for _ in 0..DRAWS {
            self.draws += 1;
            case.seed = mix(self.best.seed, self.draws);
            if self.try_case(case.clone()) {
                return true;
            }
            if self.is_over() {
                return false;
            }
        }
        false
    }

    // From below: the first size at which a draw fails alike.
    fn grow(&mut self) {
        let whole = self.best.clone();
        let operations = self.asked(Die::Op);
        let wishes = self.asked(Die::Wish);
        let length_us = self.length_us;
        for size in SIZES.into_iter().filter(|size| *size < operations) {
            let pace = (length_us / size).clamp(1, 20_000_000);
            for (few, think_us, boost) in [
                (size, None, None),
                (2, Some(pace), None),
                (size, None, Some(10)),
                (2, Some(pace), Some(4)),
            ] {
                let mut case = whole.clone();
                case.config_seed.get_or_insert(case.seed);
                case.ops = Some(size);
                // As many as there are operations, or (where there are few) as they were between as many.
                case.bounds.wishes = Some(wishes.min(size.max(4)));
                case.bounds.commands = Some(few as u32);
                (case.bounds.think_us, case.bounds.boost) = (think_us, boost);
                for _ in 0..DRAWS_BELOW {
                    if self.is_over() || self.events >= EVENTS_BELOW {
                        return;
                    }
                    self.draws += 1;
                    case.seed = mix(whole.seed, self.draws);
                    if self.try_case(case.clone()) {
                        return;
                    }
                }
            }
        }
    }

    fn asked(&self, die: Die) -> u64 {
        let asked = &self.ended.trace.asked;
        asked.iter().filter(|(d, _)| *d == die).count() as u64
    }

    // One size after the other, until none gives way any more.
    fn make_small(&mut self) {
        loop {
            let before = self.best.clone();
            self.halve(
                |s| s.asked(Die::Op),
                |case, n| {
                    case.ops = Some(n);
                },
            );
            self.halve(
                |s| s.best.bounds.grains.unwrap_or(256),
                |case, n| case.bounds.grains = Some(n),
            );
            self.halve(
                |s| s.best.bounds.wishes.unwrap_or(64),
                |case, n| case.bounds.wishes = Some(n),
            );
            self.halve(
                |s| s.best.bounds.commands.unwrap_or(96).into(),
                |case, n| case.bounds.commands = Some(n as u32),
            );
            self.halve(
                |s| s.best.bounds.hosts.unwrap_or(3).into(),
                |case, n| case.bounds.hosts = Some(n as u32),
            );
            for die in Die::ALL.iter().copied().filter(|d| is_fault(*d)) {
                if self.ended.trace.faults.contains_key(&die) {
                    self.redraw(|case| {
                        case.edits.dice.insert(die);
                    });
                }
            }
            if self.is_over() || self.best == before {
                return;
            }
        }
    }

    // As far down as it goes: to nothing, else a half, a quarter less, one less.
    fn halve(&mut self, size: impl Fn(&Self) -> u64, set: impl Fn(&mut Case, u64)) {
        loop {
            let now = size(self);
            let steps = [now / 8, now / 2, now - now / 4, now.saturating_sub(1)];
            let smaller = |n: &u64| *n < now;
            let Some(_) = (steps.into_iter().filter(smaller)).find(|n| self.redraw(|c| set(c, *n)))
            else {
                return;
            };
        }
    }

    fn drop_dice(&mut self) {
        for die in Die::ALL.iter().copied().filter(|d| {
            is_fault(*d)
                || matches!(
                    d,
                    Die::Think | Die::DiskTime | Die::StoreTime | Die::Segment | Die::Keys
                )
        }) {
            let unused = is_fault(die) && !self.ended.trace.faults.contains_key(&die);
            if unused || self.best.edits.dice.contains(&die) {
                continue;
            }
            let mut edits = self.best.edits.clone();
            edits.dice.insert(die);
            self.try_edits(edits);
        }
    }

    // Takes out runs of entities, half as long each round.
    fn drop_entities(&mut self, pick: impl Fn(&Ended) -> Vec<(Die, u64)>) {
        let mut size = pick(&self.ended).len().div_ceil(2);
        while size > 0 && !self.is_over() {
            let mut at = 0;
            loop {
                let left = pick(&self.ended);
                // From the end: what comes last is the least likely to matter to what comes first.
                if at >= left.len() {
                    break;
                }
                let end = left.len() - at;
                let chosen = &left[end.saturating_sub(size)..end];
                let mut edits = self.best.edits.clone();
                edits.entities.extend(chosen.iter().copied());
                if !self.try_edits(edits) {
                    at += size;
                }
                if self.is_over() {
                    break;
                }
            }
            if size == 1 {
                break;
            }
            size = size.div_ceil(2);
        }
    }
}

/// Shrinks a failing case with at most `limit` runs; `None` if it does not fail.
pub fn shrink(case: &Case, limit: u32) -> Option<Shrunk> {
    let ended = run(case, Detail::Entities);
    let property = ended.violation.as_ref()?.property;
    let length_us = ended.virtual_ns / 1_000;
    let mut search = Search {
        property,
        best: case.clone(),
        ended,
        runs: 1,
        limit,
        events: 0,
        draws: 0,
        length_us,
    };
    if case.edits.entities.is_empty() {
        search.grow();
        search.make_small();
    }
    search.drop_dice();
    for _ in 0..2 {
        search.drop_entities(|e| {
            e.trace
                .struck
                .iter()
                .copied()
                .filter(|(d, _)| is_fault(*d))
                .collect()
        });
        search.drop_entities(|e| {
            e.trace
                .asked
                .iter()
                .copied()
                .filter(|(d, _)| *d == Die::Wish)
                .collect()
        });
        search.drop_entities(|e| {
            e.trace
                .asked
                .iter()
                .copied()
                .filter(|(d, _)| *d == Die::Op)
                .collect()
        });
        search.drop_dice();
    }
    let ended = run(&search.best, Detail::Story);
    let operations = search.asked(Die::Op) as usize;
    let faults = search.ended.trace.struck.len();
    Some(Shrunk {
        case: search.best,
        ended,
        runs: search.runs,
        operations,
        faults,
    })
}
