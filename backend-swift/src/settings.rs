//! Every wait and limit of the dialect, with its default.

use engine::time::Duration;

/// Waits and limits of a [`crate::StoreMachine`]. `docs/limits.md` says what each protects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The shortest wait before a request is sent again. 100 ms.
    pub backoff_base: Duration,
    /// The longest such wait. 5 s.
    pub backoff_cap: Duration,
    /// A longer `Retry-After` than this is cut to it. 30 s.
    pub retry_after_cap: Duration,
    /// One exchange may take so long, plus the time that its bytes take at [`Settings::rate_min`]. 15 s: more than the
    /// proxy's `node_timeout` (10 s), which it may spend on one silent object server before it asks the next.
    pub exchange_timeout: Duration,
    /// Bytes per second below which a transfer counts as stalled. 256 KiB/s; at least 1.
    pub rate_min: u64,
    /// A PUT is sent again for so long, plus the time that its bytes take at [`Settings::rate_min`]. 60 s.
    pub put_deadline: Duration,
    /// The same for DELETE, container requests and listings. 30 s.
    pub other_deadline: Duration,
    /// Between the two asks of the absence rule. 2 s.
    pub absence_gap: Duration,
    /// Asks that must find an object absent or damaged before it counts as damage. 20; at least 1. Swift's proxy takes one
    /// of the replicas at random for each: that all asks meet the one of three that is damaged has a chance of 3⁻²⁰, less
    /// than one in 10⁹, and where two of three are, of (2/3)²⁰, one in 3,000.
    pub damage_asks: u32,
    /// Time that these asks must span. 30 s.
    pub damage_span: Duration,
    /// A token is renewed so long before it expires (at most a tenth of its life before). 60 s.
    pub renew_ahead: Duration,
    /// The shortest wait between two tries to authenticate, after the first failed. 1 s.
    pub auth_gap: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            backoff_base: Duration::from_millis(100),
            backoff_cap: Duration::from_secs(5),
            retry_after_cap: Duration::from_secs(30),
            exchange_timeout: Duration::from_secs(15),
            rate_min: 256 << 10,
            put_deadline: Duration::from_secs(60),
            other_deadline: Duration::from_secs(30),
            absence_gap: Duration::from_secs(2),
            damage_asks: 20,
            damage_span: Duration::from_secs(30),
            renew_ahead: Duration::from_secs(60),
            auth_gap: Duration::from_secs(1),
        }
    }
}

impl Settings {
    /// The time that `bytes` take at the slowest rate that is not a stall.
    pub fn transfer_time(&self, bytes: u64) -> Duration {
        Duration::from_millis(bytes.saturating_mul(1000) / self.rate_min.max(1))
    }
}
