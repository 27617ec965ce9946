//! The zoo: every bug that the engine can be given, and how soon which property notices it.
//!
//! A bug is one `bug!("name")` in the engine's source; the list is read from there, so that adding one is one line in one
//! place. Marks (`mark!("name")`) are found alike.

use crate::config::Profile;
use crate::run::{Case, Detail, run};
use std::path::Path;

/// Names behind `macro!("…")` in the engine's sources, sorted. Errors: the sources cannot be read.
pub fn names(what: &str) -> Result<Vec<String>, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/src");
    let mut found = Vec::new();
    collect(&root, &format!("{what}!(\""), &mut found)?;
    found.sort();
    found.dedup();
    Ok(found)
}

fn collect(folder: &Path, start: &str, found: &mut Vec<String>) -> Result<(), String> {
    let text = |e: std::io::Error| format!("{}: {e}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(text)? {
        let path = entry.map_err(text)?.path();
        if path.is_dir() {
            collect(&path, start, found)?;
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("src/zoo.rs") {
            let source = std::fs::read_to_string(&path).map_err(text)?;
            for part in source.split(start).skip(1) {
                found.extend(part.split('"').next().map(str::to_owned));
            }
        }
    }
    Ok(())
}

/// How a bug fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fared {
    /// Seeds until it was noticed, one per stream; `None`: not within the budget.
    pub seeds: Vec<Option<u64>>,
    /// The properties that noticed it, the most frequent first.
    pub properties: Vec<String>,
    /// A seed and profile that show it.
    pub example: Option<(u64, Profile)>,
}

impl Fared {
    /// The seeds to detection below which `percent` of the streams noticed it; `None` when fewer did.
    pub fn percentile(&self, percent: usize) -> Option<u64> {
        let mut sorted: Vec<u64> = self.seeds.iter().map(|s| s.unwrap_or(u64::MAX)).collect();
        sorted.sort_unstable();
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(at).copied().filter(|s| *s != u64::MAX)
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

/// Hunts one bug in `streams` independent streams of at most `budget` seeds each. `switch` turns the bug on and off.
pub fn hunt(streams: u64, budget: u64, base: u64, profiles: &[Profile], jobs: usize) -> Fared {
    let next = std::sync::atomic::AtomicU64::new(0);
    let results = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let stream = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if stream >= streams {
                        return;
                    }
                    let found = (0..budget).find_map(|n| {
                        let seed = base + stream * 1_000_000 + n;
                        let profile = profiles[(n % profiles.len() as u64) as usize];
                        let ended = run(&Case::new(seed, profile), Detail::Counts);
                        Some((n + 1, ended.violation?.property, seed, profile))
                    });
                    if let Ok(mut results) = results.lock() {
                        results.push((stream, found));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_default();
    results.sort_by_key(|(stream, _)| *stream);
    let mut counts: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
    for (_, found) in &results {
        if let Some((_, property, ..)) = found {
            *counts.entry(property).or_default() += 1;
        }
    }
    let mut properties: Vec<_> = counts.into_iter().collect();
    properties.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    Fared {
        seeds: results.iter().map(|(_, f)| f.map(|(n, ..)| n)).collect(),
        properties: properties
            .into_iter()
            .map(|(p, n)| format!("{p} {n}"))
            .collect(),
        example: results
            .iter()
            .find_map(|(_, f)| f.map(|(_, _, seed, profile)| (seed, profile))),
    }
}
