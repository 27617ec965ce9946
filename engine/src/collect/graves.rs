//! The grace of dying versions, counted by this process's own clock.

use crate::object::names::RootName;
use crate::table::types::Root;
use crate::time::{Duration, Instant};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Since when dying versions are known to be so. A restart begins anew: wall clocks decide nothing.
#[derive(Clone, Debug, Default)]
pub struct Graves {
    since: BTreeMap<RootName, Instant>,
}

impl Graves {
    /// A root was committed (stored *and looked*): what it lists as dying, and did not before, begins its grace.
    pub fn committed(&mut self, root: &Root, now: Instant) {
        let old = core::mem::take(&mut self.since);
        let since = |name: RootName| (name, old.get(&name).copied().unwrap_or(now));
        self.since = root.dying.iter().map(|dying| since(dying.root)).collect();
    }

    /// The versions whose grace is over.
    pub fn ripe(&self, grace: Duration, now: Instant) -> Vec<RootName> {
        let is_over = |since: Instant| since + grace <= now || bug!("no-grace");
        let ripe = self.since.iter().filter(|(_, since)| is_over(**since));
        ripe.map(|(name, _)| *name).collect()
    }

    /// When the next grace is over that was not at `now`.
    pub fn next(&self, grace: Duration, now: Instant) -> Option<Instant> {
        let ends = self.since.values().map(|since| *since + grace);
        ends.filter(|end| *end > now).min()
    }
}
