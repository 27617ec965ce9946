//! The process's clock, as the engine sees it.

use engine::time::{Instant, WallTime};
use std::time::{SystemTime, UNIX_EPOCH};

/// A monotonic clock that started with the process, and the wall time of its start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: std::time::Instant,
    wall: WallTime,
}

impl Clock {
    /// A clock whose [`Instant`] 0 is now.
    pub fn start() -> Self {
        Self {
            origin: std::time::Instant::now(),
            wall: wall_now(),
        }
    }

    /// Nanoseconds since the start.
    pub fn now(&self) -> Instant {
        // 584 years of nanoseconds fit.
        Instant(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Wall time at [`Instant`] 0.
    pub const fn wall(&self) -> WallTime {
        self.wall
    }

    /// The moment `at` on the runtime's clock.
    pub fn deadline(&self, at: Instant) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.origin + std::time::Duration::from_nanos(at.0))
    }
}

/// Wall time now, in seconds since 1970. A clock set before 1970 reads as 0.
pub fn wall_now() -> WallTime {
    WallTime(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs()),
    )
}

/// RFC 3339 in UTC, whole seconds: `2026-11-24T09:12:03Z`.
pub fn rfc3339(at: WallTime) -> String {
    i64::try_from(at.0)
        .ok()
        .and_then(|s| jiff::Timestamp::from_second(s).ok())
        .map_or_else(|| format!("@{}", at.0), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_times_print_as_rfc_3339() {
        assert_eq!(rfc3339(WallTime(1_795_511_523)), "2026-11-24T09:12:03Z");
        assert_eq!(rfc3339(WallTime(u64::MAX)), format!("@{}", u64::MAX));
    }
}
