//! Every short workload with every crash point: nothing left to chance.
//!
//! A workload is a sequence of operations out of [`ALPHABET`], each asked when the one before is answered. For each of its
//! effects the process dies before it: as kill -9 with nothing and with all of what is in flight, and as power loss with
//! none, all, and all but one of the unsynced pages.

use crate::choice::{Choices, Die};
use crate::config::{Config, Faults, Mix, Profile};
use crate::disk::{End, Survival};
use crate::run::{Ended, run_world};
use crate::trace::Trace;
use crate::workload::{Kind, Plan};
use engine::limits::Limits;
use engine::time::Duration;
use engine::units::{BlockCount, ByteCount, Extent, Geometry};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A step of a scripted run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// A guest's operation.
    Guest(Plan),
    /// A checkpoint.
    Checkpoint,
    /// A snapshot.
    Snapshot,
}

/// A scripted run: what is asked, one after another, and where the process dies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// What is asked.
    pub acts: Vec<Act>,
    /// Before which effect after the birth, how, and what survives.
    pub crash: Option<(u64, End, Survival)>,
}

/// An operation by its name.
pub type Letter = (&'static str, fn() -> Act);

/// The operations.
pub const ALPHABET: [Letter; 13] = [
    ("write one sector", || {
        guest(Kind::Write, &[(0, 1)], false, 0)
    }),
    ("write one sector fua", || {
        guest(Kind::Write, &[(0, 1)], true, 0)
    }),
    ("write a grain", || guest(Kind::Write, &[(0, 8)], false, 0)),
    ("write across grains", || {
        guest(Kind::Write, &[(5, 6)], false, 0)
    }),
    ("write all", || guest(Kind::Write, &[(0, 20)], false, 0)),
    ("discard a grain", || {
        guest(Kind::Discard, &[(0, 8)], false, 0)
    }),
    ("discard parts", || {
        guest(Kind::Discard, &[(3, 2), (9, 4)], false, 0)
    }),
    ("write zeroes", || {
        guest(Kind::WriteZeroes, &[(4, 12)], false, 0)
    }),
    ("flush", || guest(Kind::Flush, &[], false, 0)),
    ("compare and write", || {
        guest(Kind::CompareAndWrite, &[(0, 2)], false, 1)
    }),
    ("set an attribute", || guest(Kind::Attribute, &[], true, 1)),
    ("checkpoint", || Act::Checkpoint),
    ("snapshot", || Act::Snapshot),
];

fn guest(kind: Kind, extents: &[(u64, u64)], fua: bool, extra: u64) -> Act {
    let extents = extents
        .iter()
        .map(|(start, count)| Extent::new(*start, *count))
        .collect();
    Act::Guest(Plan {
        kind,
        extents,
        fua,
        extra,
    })
}

/// What was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sequences of operations.
    pub workloads: u64,
    /// Effects before which a process died.
    pub points: u64,
    /// Runs.
    pub runs: u64,
    /// Engine events.
    pub events: u64,
    /// Runs that violated a property.
    pub violations: u64,
}

fn config(script: Script) -> Config {
    let geometry = Geometry {
        block_bytes: 512,
        capacity: BlockCount(20),
        chunk_grains: 2,
        leaf_chunks: 1,
        frame_grains: 2,
    };
    let page = 4096;
    Config {
        profile: Profile::Safety,
        geometry,
        limits: Limits {
            file_bytes: ByteCount(16 * page),
            files: 6,
            unsynced_bytes: ByteCount(16 * page),
            cache_slots: 2,
            leaves: 2,
            riding_bytes: ByteCount(200),
            checkpoint_interval: Duration::from_secs(3600),
            ..Limits::default()
        },
        faults: Faults::default(),
        mix: Mix {
            weights: [0; 8],
            fua: 0,
            abort: 0,
            hot: 0,
            longest: 1,
        },
        ops: script.acts.len() as u64,
        wishes: 0,
        clones: 0,
        hosts: 1,
        initiators: 1,
        depth: 1,
        think_us: 0,
        loaded: 0,
        expanded: false,
        disk_us: 1,
        store_ms: 1,
        wire: false,
        a1: true,
        sweep: true,
        iscsi: None,
        script: Some(script),
    }
}

/// Runs one script.
pub fn run_script(script: Script, story: bool) -> Ended {
    let trace = Trace {
        story: story.then(Vec::new),
        ..Trace::default()
    };
    run_world(Choices::enumerated(&[]), config(script), trace)
}

fn has_crashed(ended: &Ended) -> bool {
    [Die::Kill, Die::Power]
        .iter()
        .any(|d| ended.trace.faults.contains_key(d))
}

/// Runs every workload of up to `ops` operations; `say` hears of violations.
pub fn run(ops: u64, jobs: usize, say: impl Fn(&str) + Sync) -> Counts {
    let letters = ALPHABET.len() as u64;
    let all: u64 = (1..=ops as u32).map(|n| letters.pow(n)).sum();
    let next = AtomicU64::new(0);
    let total = Mutex::new(Counts::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= all {
                        return;
                    }
                    let counts = workload(&word(n), &say);
                    if let Ok(mut total) = total.lock() {
                        total.workloads += 1;
                        total.points += counts.points;
                        total.runs += counts.runs;
                        total.events += counts.events;
                        total.violations += counts.violations;
                    }
                }
            });
        }
    });
    total.into_inner().unwrap_or_default()
}

// The n-th sequence of letters: all of one letter first, then all of two …
fn word(mut n: u64) -> Vec<usize> {
    let letters = ALPHABET.len() as u64;
    let mut len = 1;
    while n >= letters.pow(len) {
        n -= letters.pow(len);
        len += 1;
    }
    (0..len)
        .map(|_| {
            let letter = (n % letters) as usize;
            n /= letters;
            letter
        })
        .collect()
}

fn workload(word: &[usize], say: &impl Fn(&str)) -> Counts {
    let acts: Vec<Act> = word.iter().map(|i| ALPHABET[*i].1()).collect();
    let mut counts = Counts::default();
    let mut attempt = |crash: Option<(u64, End, Survival)>| {
        let ended = run_script(
            Script {
                acts: acts.clone(),
                crash,
            },
            false,
        );
        counts.runs += 1;
        counts.events += ended.trace.events;
        if let Some(violation) = &ended.violation {
            counts.violations += 1;
            let names: Vec<&str> = word.iter().map(|i| ALPHABET[*i].0).collect();
            say(&format!(
                "VIOLATED {violation}\n  by {names:?}, crash {crash:?}"
            ));
        }
        ended
    };
    attempt(None);
    let mut points = 0;
    loop {
        let first = attempt(Some((points, End::Kill, Survival::None)));
        if !has_crashed(&first) {
            break;
        }
        attempt(Some((points, End::Kill, Survival::All)));
        let unsynced = attempt(Some((points, End::Power, Survival::None)))
            .trace
            .unsynced;
        if unsynced > 0 {
            attempt(Some((points, End::Power, Survival::All)));
        }
        if unsynced > 1 {
            for but in 0..unsynced {
                attempt(Some((points, End::Power, Survival::AllBut(but))));
            }
        }
        points += 1;
    }
    counts.points = points;
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sequence_comes_once() {
        let letters = ALPHABET.len() as u64;
        let words: std::collections::BTreeSet<Vec<usize>> =
            (0..letters + letters * letters).map(word).collect();
        assert_eq!(words.len() as u64, letters + letters * letters);
        assert!(words.iter().all(|w| (1..=2).contains(&w.len())));
    }

    #[test]
    fn every_single_operation_survives_every_crash() {
        let said = Mutex::new(Vec::new());
        let counts = run(1, 1, |text| {
            said.lock().expect("one thread").push(text.to_owned())
        });
        assert_eq!(said.into_inner().expect("one thread"), Vec::<String>::new());
        assert_eq!(counts.workloads, ALPHABET.len() as u64);
        assert!(counts.points > 50, "{counts:?}");
    }
}
