//! B1 without knowing any order: is a register history with unique writes linearizable?
//!
//! Per write only two numbers are kept over the write and its reads: the earliest end and the latest start. If the
//! earliest end comes first the zone is forward: the value was current in between. The history is linearizable if and
//! only if no two forward zones overlap, no backward zone lies inside a forward one, and no read ends before its write
//! starts (Gibbons and Korach, in the zone form of Golab, Li and Shah).

use std::collections::BTreeMap;

/// What is known of one value of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Zone {
    /// When its write was asked.
    start: u64,
    /// The earliest end among its write and reads.
    first_end: u64,
    /// The latest start among its write and reads.
    last_start: u64,
    /// Whether a read showed it, or its write was answered.
    counts: bool,
}

/// The operations on one block since it was last settled. Times are event numbers; no two are equal.
#[derive(Clone, Debug, Default)]
pub struct Register {
    zones: BTreeMap<u64, Zone>,
}

impl Register {
    /// A register that holds value `initial` before time 0.
    pub fn new(initial: u64) -> Self {
        let zone = Zone {
            start: 0,
            first_end: 0,
            last_start: 0,
            counts: true,
        };
        Self {
            zones: BTreeMap::from([(initial, zone)]),
        }
    }

    /// It turns out that it held `value` before time 0.
    pub fn held(&mut self, value: u64) {
        let held = Self::new(value);
        self.zones.extend(held.zones);
    }

    /// A write of `value` was asked at `start`. Values are unique.
    pub fn write(&mut self, value: u64, start: u64) {
        let zone = Zone {
            start,
            first_end: u64::MAX,
            last_start: start,
            counts: false,
        };
        self.zones.insert(value, zone);
    }

    /// The write of `value` was answered at `end`.
    pub fn answered(&mut self, value: u64, end: u64) {
        if let Some(zone) = self.zones.get_mut(&value) {
            zone.first_end = zone.first_end.min(end);
            zone.counts = true;
        }
    }

    /// A read from `start` to `end` showed `value`. False when that value was never written, or only later.
    pub fn read(&mut self, value: u64, start: u64, end: u64) -> bool {
        let Some(zone) = self.zones.get_mut(&value) else {
            return false;
        };
        if end < zone.start {
            return false;
        }
        zone.first_end = zone.first_end.min(end);
        zone.last_start = zone.last_start.max(start);
        zone.counts = true;
        true
    }

    /// Whether some order explains everything.
    pub fn is_linearizable(&self) -> bool {
        let counted = || self.zones.values().filter(|z| z.counts);
        let mut forward: Vec<(u64, u64)> = counted()
            .filter(|z| z.first_end < z.last_start)
            .map(|z| (z.first_end, z.last_start))
            .collect();
        forward.sort_unstable();
        if forward.windows(2).any(|w| w[0].1 > w[1].0) {
            return false;
        }
        counted().filter(|z| z.first_end >= z.last_start).all(|z| {
            // The forward zone that starts last before the backward zone is the only one that can hold it.
            let at = forward.partition_point(|f| f.0 < z.last_start);
            at == 0 || forward[at - 1].1 < z.first_end
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    struct Op {
        write: bool,
        value: u64,
        start: u64,
        end: Option<u64>,
    }

    fn by_zones(ops: &[Op]) -> bool {
        let mut register = Register::new(0);
        for op in ops.iter().filter(|o| o.write) {
            register.write(op.value, op.start);
            if let Some(end) = op.end {
                register.answered(op.value, end);
            }
        }
        let reads = ops.iter().filter(|o| !o.write);
        for op in reads {
            if let Some(end) = op.end
                && !register.read(op.value, op.start, end)
            {
                return false;
            }
        }
        register.is_linearizable()
    }

    // Every order that respects real time; writes without an answer may be left out.
    fn by_force(ops: &[Op], done: u32, value: u64) -> bool {
        let all = |done: u32| {
            ops.iter()
                .enumerate()
                .all(|(i, o)| done >> i & 1 == 1 || o.end.is_none())
        };
        if all(done) {
            return true;
        }
        let earliest_end = ops
            .iter()
            .enumerate()
            .filter(|(i, _)| done >> i & 1 == 0)
            .filter_map(|(_, o)| o.end)
            .min()
            .unwrap_or(u64::MAX);
        ops.iter().enumerate().any(|(i, op)| {
            if done >> i & 1 == 1 || op.start > earliest_end {
                return false;
            }
            if op.write {
                return by_force(ops, done | 1 << i, op.value);
            }
            op.end.is_some() && (op.value == value && by_force(ops, done | 1 << i, value))
        })
    }

    fn histories() -> impl Strategy<Value = Vec<Op>> {
        prop::collection::vec(
            (any::<bool>(), 0..5_u64, 1..40_u64, 1..25_u64, 0..6_u8),
            1..8,
        )
        .prop_map(|raw| {
            let mut used = std::collections::BTreeSet::new();
            let mut fresh = |mut t: u64| {
                while !used.insert(t) {
                    t += 1;
                }
                t
            };
            raw.into_iter()
                .enumerate()
                .map(|(i, (write, value, start, len, pending))| {
                    let start = fresh(start * 10);
                    let end = fresh(start + len * 10);
                    Op {
                        write,
                        value: if write { i as u64 + 1 } else { value },
                        start,
                        end: (pending > 0).then_some(end),
                    }
                })
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn zones_agree_with_brute_force(ops in histories()) {
            prop_assert_eq!(by_zones(&ops), by_force(&ops, 0, 0));
        }
    }

    #[test]
    fn a_value_that_comes_back_is_rejected() {
        let mut r = Register::new(0);
        r.write(1, 1);
        r.answered(1, 2);
        assert!(r.read(1, 3, 4));
        assert!(r.read(0, 5, 6));
        assert!(!r.is_linearizable());
    }

    #[test]
    fn an_unanswered_write_may_show_late() {
        let mut r = Register::new(0);
        r.write(1, 1);
        assert!(r.read(0, 2, 3));
        assert!(r.read(1, 4, 5));
        assert!(r.is_linearizable());
        assert!(!r.read(9, 6, 7));
    }
}
