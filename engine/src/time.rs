//! Time as plain numbers: the engine reads no clock.

use core::ops::{Add, Sub};
pub use core::time::Duration;

/// A moment on the caller's monotonic clock, in nanoseconds from an origin of its choice. Never runs backwards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    /// Saturates at the end of time, some 584 years on.
    fn add(self, d: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;
    fn sub(self, d: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

/// Wall-clock time, in seconds since 1970-01-01T00:00:00Z. For people, and for the age of what a listing shows: nothing
/// that must be right is decided by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct WallTime(pub u64);

impl WallTime {
    /// No time: later than all others.
    pub const NEVER: Self = Self(u64::MAX);
}
