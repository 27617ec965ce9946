//! When to ask again: capped, decorrelated jitter from a seeded generator.
//!
//! Decorrelated: each wait is drawn between the base and three times the wait before it, so that requests that failed
//! together do not come back together. Integers only and a named generator: the same seed gives the same waits on every
//! machine and in every version.

use engine::time::Duration;

/// SplitMix64: one word of state, equidistributed, and written down here so that a seed means the same for ever.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The generator of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 random bits.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A duration in `from..=to`, to the nanosecond; `from` when the range is empty.
    pub fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let from = nanos(from);
        let width = nanos(to).saturating_sub(from);
        // The high half of a 64 × 64 bit product: uniform to one part in 2^64 / width.
        let drawn = (u128::from(self.roll()) * (u128::from(width) + 1)) >> 64;
        Duration::from_nanos(from.saturating_add(u64::try_from(drawn).unwrap_or(width)))
    }
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

/// The waits of one request.
#[derive(Clone, Debug)]
pub struct Backoff {
    last: Duration,
}

impl Backoff {
    /// Before the first wait.
    pub const fn initial() -> Self {
        Self {
            last: Duration::ZERO,
        }
    }

    /// The next wait: at least `base`, at most `cap`, at most three times the last one.
    pub fn next(&mut self, dice: &mut Dice, base: Duration, cap: Duration) -> Duration {
        let top = self.last.saturating_mul(3).max(base).min(cap.max(base));
        self.last = dice.between(base, top);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(100);
    const CAP: Duration = Duration::from_secs(5);

    #[test]
    fn waits_grow_to_the_cap_and_never_leave_the_range() {
        let (mut dice, mut backoff) = (Dice::new(7), Backoff::initial());
        assert_eq!(backoff.next(&mut dice, BASE, CAP), BASE);
        let waits: Vec<_> = (0..1000)
            .map(|_| backoff.next(&mut dice, BASE, CAP))
            .collect();
        assert!(waits.iter().all(|w| (BASE..=CAP).contains(w)));
        assert!(waits.iter().any(|w| *w > CAP / 2));
        assert!(waits.windows(2).all(|w| w[1] <= w[0] * 3));
    }

    #[test]
    fn two_seeds_do_not_wait_alike() {
        let waits = |seed| {
            let (mut dice, mut backoff) = (Dice::new(seed), Backoff::initial());
            [(); 8].map(|()| backoff.next(&mut dice, BASE, CAP))
        };
        assert_ne!(waits(1), waits(2));
        assert_eq!(waits(1), waits(1));
    }

    #[test]
    fn a_seed_means_the_same_for_ever() {
        // The reference values of SplitMix64 for seed 1234567.
        let mut dice = Dice::new(1_234_567);
        assert_eq!(
            [dice.roll(), dice.roll()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]
        );
    }

    #[test]
    fn a_cap_below_the_base_gives_the_base() {
        let (mut dice, mut backoff) = (Dice::new(1), Backoff::initial());
        assert_eq!(backoff.next(&mut dice, CAP, BASE), CAP);
    }
}
