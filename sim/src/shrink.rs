//! Makes a failing run small: takes out whole kinds of fault, then single faults, wishes and operations, and keeps what
//! still violates the same property.

use crate::choice::{Die, Edits};
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
    )
}

struct Search {
    property: &'static str,
    best: Case,
    ended: Ended,
    runs: u32,
    limit: u32,
}

impl Search {
    // Keeps the case if it still fails alike.
    fn try_case(&mut self, edits: Edits, ops: Option<u64>) -> bool {
        if self.runs >= self.limit {
            return false;
        }
        self.runs += 1;
        let case = Case {
            edits,
            ops,
            ..self.best.clone()
        };
        let ended = run(&case, Detail::Entities);
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

    fn drop_dice(&mut self) {
        for die in Die::ALL.iter().copied().filter(|d| {
            is_fault(*d) || *d == Die::Think || *d == Die::DiskTime || *d == Die::StoreTime
        }) {
            let unused = is_fault(die) && !self.ended.trace.faults.contains_key(&die);
            if unused || self.best.edits.dice.contains(&die) {
                continue;
            }
            let mut edits = self.best.edits.clone();
            edits.dice.insert(die);
            let ops = self.best.ops;
            self.try_case(edits, ops);
        }
    }

    // Takes out runs of entities, half as long each round.
    fn drop_entities(&mut self, pick: impl Fn(&Ended) -> Vec<(Die, u64)>) {
        let mut size = pick(&self.ended).len().div_ceil(2);
        while size > 0 && self.runs < self.limit {
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
                let ops = self.best.ops;
                if !self.try_case(edits, ops) {
                    at += size;
                }
                if self.runs >= self.limit {
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
    let mut search = Search {
        property,
        best: case.clone(),
        ended,
        runs: 1,
        limit,
    };
    // Nothing that comes after the violation matters: fewer operations first.
    let last = search
        .ended
        .trace
        .asked
        .iter()
        .filter(|(d, _)| *d == Die::Op)
        .map(|(_, n)| *n + 1)
        .max();
    if let Some(last) = last {
        for ops in [last, last.div_ceil(2), last.div_ceil(4), last.div_ceil(8)] {
            let edits = search.best.edits.clone();
            // The number of operations is part of the draw of other things: kept only if it still fails.
            if ops < search.best.ops.unwrap_or(u64::MAX) {
                search.try_case(edits, Some(ops));
            }
        }
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
    let operations = search
        .ended
        .trace
        .asked
        .iter()
        .filter(|(d, _)| *d == Die::Op)
        .count();
    let faults = search.ended.trace.struck.len();
    Some(Shrunk {
        case: search.best,
        ended,
        runs: search.runs,
        operations,
        faults,
    })
}
