//! The zoo: every bug that the engine can be given, and how soon which property notices it.
//!
//! A bug is one `bug!("name")` in the engine's source; the list is read from there, so that adding one is one line in one
//! place. Marks (`mark!("name")`) are found alike.

use crate::config::Profile;
use crate::run::{Case, Detail, run};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Names behind `macro!("…")` in the sources of engine, session and store machine, sorted. Errors: the sources cannot be read.
pub fn names(what: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for root in [
        "../engine/src",
        "../transport-iscsi/src",
        "../backend-swift/src",
    ] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
        collect(&root, &format!("{what}!(\""), &mut found)?;
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// How often the mark of that name was reached since the process began; 0 in a build without marks.
pub fn reached(name: &str) -> u64 {
    #[cfg(feature = "zoo")]
    {
        engine::zoo::reached(name)
    }
    #[cfg(not(feature = "zoo"))]
    {
        let _ = name;
        0
    }
}

fn collect(folder: &Path, start: &str, found: &mut Vec<String>) -> Result<(), String> {
    let text = |e: std::io::Error| format!("{}: {e}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(text)? {
        let path = entry.map_err(text)?.path();
        if path.is_dir() {
            collect(&path, start, found)?;
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("src/zoo.rs") {
            let source = std::fs::read_to_string(&path).map_err(text)?;
            let mut before = None;
            for part in source.split(start) {
                // `debug!("…")` is not meant.
                let is_other = before.is_none_or(|last: char| last.is_alphanumeric());
                if !is_other {
                    found.extend(part.split('"').next().map(str::to_owned));
                }
                before = Some(part.chars().next_back().unwrap_or(' '));
            }
        }
    }
    Ok(())
}

/// A seed that shows a bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown {
    /// Seeds until it was noticed, this one included.
    pub after: u64,
    /// The property that noticed it.
    pub property: &'static str,
    /// The seed.
    pub seed: u64,
    /// Its profile.
    pub profile: Profile,
}

/// How a bug fared.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Fared {
    /// What each stream of seeds came to; `None`: not noticed within the budget.
    pub streams: Vec<Option<Shown>>,
    /// Seeds that fail without the bug, too: finds of their own. They count for nothing.
    pub open: Vec<(u64, Profile)>,
    /// Runs with the bug on, and in how many of them the code came to ask for it. With more than one job a run may be given
    /// what another one asked.
    pub runs: u64,
    /// The same.
    pub reached: u64,
}

impl Fared {
    /// The seeds to detection below which `percent` of the streams noticed it; `None` when fewer did.
    pub fn percentile(&self, percent: usize) -> Option<u64> {
        let after = |s: &Option<Shown>| s.map_or(u64::MAX, |s| s.after);
        let mut sorted: Vec<u64> = self.streams.iter().map(after).collect();
        sorted.sort_unstable();
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(at).copied().filter(|s| *s != u64::MAX)
    }

    /// The properties that noticed it, the most frequent first.
    pub fn properties(&self) -> Vec<(&'static str, u64)> {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for shown in self.streams.iter().flatten() {
            *counts.entry(shown.property).or_default() += 1;
        }
        let mut properties: Vec<_> = counts.into_iter().collect();
        properties.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        properties
    }
}

/// Profiles that take turns in the hunt.
pub const HUNT: [Profile; 5] = [
    Profile::Safety,
    Profile::Snapshot,
    Profile::Fencing,
    Profile::Wire,
    Profile::All,
];

/// How a bug is switched on and off.
pub type Switch<'a> = &'a dyn Fn(bool);

/// Hunts one bug in `streams` independent streams of at most `budget` seeds each. A seed that fails without the bug as well
/// is set aside, and its stream goes on.
pub fn hunt(
    streams: u64,
    budget: u64,
    base: u64,
    profiles: &[Profile],
    jobs: usize,
    switch: Switch<'_>,
) -> Fared {
    let mut fared = Fared::default();
    // Streams that have not ended, and the seed at which each goes on.
    let mut going: Vec<(u64, u64)> = (0..streams).map(|stream| (stream, 0)).collect();
    let mut ends: BTreeMap<u64, Option<Shown>> = BTreeMap::new();
    let (runs, reached) = (AtomicU64::new(0), AtomicU64::new(0));
    while !going.is_empty() {
        switch(true);
        let found = side_by_side(jobs, &going, |(stream, from)| {
            let shown = (from..budget).find_map(|n| {
                let seed = base + stream * 1_000_000 + n;
                let profile = profiles[(n % profiles.len() as u64) as usize];
                let before = asked();
                let ended = run(&Case::new(seed, profile), Detail::Counts);
                runs.fetch_add(1, Ordering::Relaxed);
                reached.fetch_add(u64::from(asked() > before), Ordering::Relaxed);
                let property = ended.violation?.property;
                let after = n + 1;
                Some(Shown {
                    after,
                    property,
                    seed,
                    profile,
                })
            });
            (stream, shown)
        });
        switch(false);
        let again = side_by_side(jobs, &found, |(stream, shown)| {
            let fails = shown.is_some_and(|s| {
                let case = Case::new(s.seed, s.profile);
                run(&case, Detail::Counts).violation.is_some()
            });
            (stream, shown, fails)
        });
        going.clear();
        for (stream, shown, fails) in again {
            match shown {
                Some(shown) if fails => {
                    fared.open.push((shown.seed, shown.profile));
                    going.push((stream, shown.after));
                }
                _ => {
                    ends.insert(stream, shown);
                }
            }
        }
    }
    fared.streams = ends.into_values().collect();
    (fared.runs, fared.reached) = (runs.into_inner(), reached.into_inner());
    fared
}

// How often the code has asked for the bug that is on.
fn asked() -> u64 {
    #[cfg(feature = "zoo")]
    {
        engine::zoo::asked()
    }
    #[cfg(not(feature = "zoo"))]
    {
        0
    }
}

// What `work` makes of each item, in order, on `jobs` threads.
fn side_by_side<T: Copy + Sync, R: Send>(
    jobs: usize,
    items: &[T],
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { return };
                    let result = work(*item);
                    if let Ok(mut results) = results.lock() {
                        results.push((at, result));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_default();
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(all(test, feature = "zoo"))]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_mark_has_a_place_of_its_own() {
        let marks = names("mark").expect("the sources are there");
        let place = |name: &String| engine::zoo::number(name) % engine::zoo::PLACES;
        let places: BTreeSet<u64> = marks.iter().map(place).collect();
        assert!(marks.len() > 50 && places.len() == marks.len());
    }
}
