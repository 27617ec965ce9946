//! When a volume looks by itself for orphans, and for pins that hold nothing.
//!
//! Orphans come from attachments that ended in the middle of a publish: a volume may have some when it was attached anew,
//! and while a search has left what was too young. A pin's child may let go of its parent at any time, on another host. A
//! volume that has neither reason asks the store for nothing.

use crate::ids::VolumeId;
use crate::limits::Limits;
use crate::time::{Duration, Instant};

/// Requests under way at once in a search that nobody waits for, and in one that somebody wished for.
const WINDOW_OWN: usize = 2;
const WINDOW_WISHED: usize = 8;

/// What is suspected, and when the next search may begin.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// There may be orphans.
    suspects: bool,
    /// A search is under way: one that does not end leaves the suspicion.
    searches: bool,
    at: Option<Instant>,
}

impl Pace {
    pub(super) const fn suspect(&mut self) {
        self.suspects = true;
    }

    /// When the next search may begin, if there is reason for one.
    pub(super) fn next(
        &mut self,
        has_pins: bool,
        now: Instant,
        pause: Duration,
    ) -> Option<Instant> {
        let wanted = self.suspects || has_pins;
        self.at = wanted.then(|| self.at.unwrap_or(now + pause));
        self.at
    }

    /// A search begins, or only a check of pins.
    pub(super) const fn begun(&mut self, searches: bool) {
        self.at = None;
        if searches {
            self.suspects = false;
            self.searches = true;
        }
    }

    /// The search is over, or given up; `left`: it may have left orphans.
    pub(super) const fn ended(&mut self, left: bool) {
        if self.searches && left {
            self.suspects = true;
        }
        self.searches = false;
    }
}

/// How long after a reason a search begins, and after the one before: no orphan is collected sooner. Volumes of one host
/// that have their reason at once, at its start, are spread over an eighth more.
pub(super) fn pause(limits: &Limits, id: VolumeId) -> Duration {
    let pause = limits.collect_interval.max(limits.min_age);
    let [share, ..] = id.0;
    pause + pause / 8 / 256 * u32::from(share)
}

pub(super) const fn window(is_wished: bool) -> usize {
    match is_wished {
        true => WINDOW_WISHED,
        false => WINDOW_OWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_of_one_host_are_spread_over_an_eighth() {
        let limits = Limits {
            collect_interval: Duration::from_secs(2048),
            min_age: Duration::from_secs(1),
            ..Limits::default()
        };
        let pause = |share| pause(&limits, VolumeId([share; 16])).as_secs();
        assert_eq!([pause(0), pause(1), pause(255)], [2048, 2049, 2048 + 255]);
    }
}
