//! How fast a volume's guests may read and write: two token buckets and who waits at them.
//!
//! Sans-IO: time is an argument. A command is let through when its bucket is not in debt and then takes as many bytes as it
//! moves, so any command gets through at last, however long. What would wait longer than patience is answered BUSY, so that
//! its initiator does not abort it.
//!
//! Bound  in any t seconds a bucket lets at most `rate · (t + BURST)` bytes and one command through.

use engine::ids::Tag;
use engine::time::{Duration, Instant};
use std::collections::VecDeque;

/// What may come at once after a pause, as time at the rate.
pub const BURST: Duration = Duration::from_millis(100);

/// A command that would wait longer is answered BUSY; initiators abort after some 15 s.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// The slowest rate, in bytes per second.
pub const RATE_MIN: u64 = 64 << 10;

/// The fastest, in bytes per second.
pub const RATE_MAX: u64 = 1 << 40;

/// Bytes per second; `None`: as fast as it goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rates {
    /// What guests read.
    pub read: Option<u64>,
    /// What guests write.
    pub write: Option<u64>,
}

/// Which bucket a command draws from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From the volume.
    Read,
    /// To the volume.
    Write,
}

/// What becomes of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn<T> {
    /// It goes at once.
    Now(T),
    /// It waits; [`Shaper::due`] gives it back.
    Later,
    /// It would wait too long.
    Busy(T),
}

#[derive(Debug)]
struct Waiting<T> {
    tag: Tag,
    bytes: u64,
    what: T,
}

/// A bucket and its queue.
#[derive(Debug)]
struct Lane<T> {
    rate: Option<u64>,
    /// When all that was let through is paid for.
    paid_at: Instant,
    queue: VecDeque<Waiting<T>>,
    queued: u64,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self {
            rate: None,
            paid_at: Instant(0),
            queue: VecDeque::new(),
            queued: 0,
        }
    }
}

/// The time that `bytes` take at `rate`, rounded up.
fn cost(bytes: u64, rate: u64) -> Duration {
    let nanos = (u128::from(bytes) * 1_000_000_000).div_ceil(u128::from(rate.max(1)));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl<T> Lane<T> {
    /// When the next command may go.
    fn opens_at(&self) -> Instant {
        match self.rate {
            Some(_) => self.paid_at - BURST,
            None => Instant(0),
        }
    }

    fn is_open(&self, now: Instant) -> bool {
        self.opens_at() <= now
    }

    fn pay(&mut self, now: Instant, bytes: u64) {
        if let Some(rate) = self.rate {
            self.paid_at = self.paid_at.max(now) + cost(bytes, rate);
        }
    }

    fn submit(&mut self, now: Instant, tag: Tag, bytes: u64, what: T) -> Turn<T> {
        let Some(rate) = self.rate else {
            return Turn::Now(what);
        };
        if self.queue.is_empty() && self.is_open(now) {
            self.pay(now, bytes);
            return Turn::Now(what);
        }
        let wait = self.opens_at().since(now) + cost(self.queued, rate);
        if wait > PATIENCE {
            return Turn::Busy(what);
        }
        self.queued += bytes;
        self.queue.push_back(Waiting { tag, bytes, what });
        Turn::Later
    }

    fn due(&mut self, now: Instant) -> Option<(Tag, T)> {
        if !self.is_open(now) {
            return None;
        }
        let next = self.queue.pop_front()?;
        self.queued -= next.bytes;
        self.pay(now, next.bytes);
        Some((next.tag, next.what))
    }

    fn take(&mut self, tag: Tag) -> Option<T> {
        let at = self.queue.iter().position(|w| w.tag == tag)?;
        let taken = self.queue.remove(at)?;
        self.queued -= taken.bytes;
        Some(taken.what)
    }

    fn next(&self) -> Option<Instant> {
        (!self.queue.is_empty()).then(|| self.opens_at())
    }
}

/// The two lanes of a unit.
#[derive(Debug)]
pub struct Shaper<T> {
    read: Lane<T>,
    write: Lane<T>,
}

impl<T> Default for Shaper<T> {
    fn default() -> Self {
        Self {
            read: Lane::default(),
            write: Lane::default(),
        }
    }
}

impl<T> Shaper<T> {
    /// Sets the rates. What waits goes on at the new ones.
    pub const fn set(&mut self, rates: Rates) {
        self.read.rate = rates.read;
        self.write.rate = rates.write;
    }

    /// Whether nothing is held back and nothing waits.
    pub fn is_idle(&self) -> bool {
        let idle = |lane: &Lane<T>| lane.rate.is_none() && lane.queue.is_empty();
        idle(&self.read) && idle(&self.write)
    }

    const fn lane(&mut self, way: Way) -> &mut Lane<T> {
        match way {
            Way::Read => &mut self.read,
            Way::Write => &mut self.write,
        }
    }

    /// A command came that moves so many bytes.
    pub fn submit(&mut self, now: Instant, way: Way, tag: Tag, bytes: u64, what: T) -> Turn<T> {
        self.lane(way).submit(now, tag, bytes, what)
    }

    /// The next command whose time has come.
    pub fn due(&mut self, now: Instant) -> Option<(Tag, T)> {
        self.read.due(now).or_else(|| self.write.due(now))
    }

    /// Takes a waiting command back.
    pub fn take(&mut self, tag: Tag) -> Option<T> {
        self.read.take(tag).or_else(|| self.write.take(tag))
    }

    /// When [`Shaper::due`] has something.
    pub fn next(&self) -> Option<Instant> {
        [self.read.next(), self.write.next()]
            .into_iter()
            .flatten()
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn shaper(rate: u64) -> Shaper<u64> {
        let mut shaper = Shaper::default();
        shaper.set(Rates {
            read: None,
            write: Some(rate),
        });
        shaper
    }

    /// Offers commands of `sizes` bytes, one each `gap` ns; who is told BUSY comes again a second later. When each went.
    fn run(rate: u64, sizes: &[u64], gap: u64) -> Vec<(u64, u64)> {
        let mut shaper = shaper(rate);
        let mut offers: VecDeque<(u64, u64)> = VecDeque::new();
        offers.extend(sizes.iter().enumerate().map(|(n, s)| (n as u64 * gap, *s)));
        let (mut went, mut tag) = (Vec::new(), 0);
        while went.len() < sizes.len() {
            let next = shaper.next().map(|at| at.0);
            let offer = offers.front().map(|(at, _)| *at);
            let now = next.into_iter().chain(offer).min().expect("somebody waits");
            let at = Instant(now);
            while let Some((_, bytes)) = shaper.due(at) {
                went.push((now, bytes));
            }
            let is_due = offers.front().is_some_and(|(at, _)| *at <= now);
            if let Some((_, bytes)) = is_due.then(|| offers.pop_front()).flatten() {
                tag += 1;
                match shaper.submit(at, Way::Write, Tag(tag), bytes, bytes) {
                    Turn::Now(bytes) => went.push((now, bytes)),
                    Turn::Later => {}
                    Turn::Busy(bytes) => {
                        let again = now + 1000 * MS;
                        let place = offers.partition_point(|(at, _)| *at <= again);
                        offers.insert(place, (again, bytes));
                    }
                }
            }
        }
        went
    }

    proptest! {
        /// No window lets more through than the bound; a busy lane is not slower than its rate.
        #[test]
        fn every_window_keeps_the_bound(
            rate in RATE_MIN..(64 << 20),
            sizes in proptest::collection::vec(512_u64..(1 << 20), 1..60),
            gap in 0_u64..(50 * MS),
        ) {
            let went = run(rate, &sizes, gap);
            let largest = sizes.iter().max().copied().unwrap_or(0);
            for (from, (start, _)) in went.iter().enumerate() {
                let mut sum = 0;
                for (end, bytes) in &went[from..] {
                    sum += bytes;
                    let t = u128::from(end - start) + BURST.as_nanos();
                    let bound = u128::from(rate) * t / 1_000_000_000 + u128::from(largest) + 1;
                    prop_assert!(u128::from(sum) <= bound, "{sum} bytes in {t} ns at {rate}");
                }
            }
        }
    }

    #[test]
    fn a_busy_lane_moves_at_its_rate() {
        // 1 MiB in 4 KiB writes at 1 MiB/s, offered as fast as they are taken.
        let went = run(1 << 20, &[4096; 512], 100_000);
        let (last, _) = went.last().copied().expect("all went");
        let seconds = last as f64 / 1e9;
        assert!((1.85..=2.05).contains(&seconds), "2 MiB took {seconds} s");
    }

    #[test]
    fn what_would_wait_too_long_is_busy_and_gets_through_later() {
        let mut shaper = shaper(RATE_MIN);
        let at = |ms: u64| Instant(ms * MS);
        // The first takes 16 s to pay for.
        assert_eq!(
            shaper.submit(at(0), Way::Write, Tag(1), 1 << 20, 1),
            Turn::Now(1)
        );
        assert_eq!(
            shaper.submit(at(1), Way::Write, Tag(2), 512, 2),
            Turn::Busy(2)
        );
        assert_eq!(
            shaper.submit(at(9_000), Way::Write, Tag(2), 512, 2),
            Turn::Later
        );
        assert_eq!(shaper.due(at(15_000)), None);
        let next = shaper.next().expect("one waits");
        assert_eq!(next, at(15_900));
        assert_eq!(shaper.due(next), Some((Tag(2), 2)));
        assert!(!shaper.is_idle());
    }

    #[test]
    fn lanes_do_not_wait_for_each_other() {
        let mut shaper = shaper(RATE_MIN);
        let at = Instant(5);
        assert_eq!(
            shaper.submit(at, Way::Write, Tag(1), 1 << 16, 1),
            Turn::Now(1)
        );
        assert_eq!(
            shaper.submit(at, Way::Write, Tag(2), 1 << 16, 2),
            Turn::Later
        );
        assert_eq!(
            shaper.submit(at, Way::Read, Tag(3), 1 << 30, 3),
            Turn::Now(3)
        );
    }

    #[test]
    fn a_command_can_be_taken_back_and_no_rate_lets_all_go() {
        let mut shaper = shaper(RATE_MIN);
        let at = Instant(5);
        for tag in 1..=3 {
            let _ = shaper.submit(at, Way::Write, Tag(tag), 1 << 16, tag);
        }
        assert_eq!(shaper.take(Tag(2)), Some(2));
        assert_eq!(shaper.take(Tag(1)), None, "it went");
        shaper.set(Rates::default());
        assert_eq!(shaper.due(at), Some((Tag(3), 3)));
        assert_eq!(shaper.due(at), None);
        assert!(shaper.is_idle());
    }
}
