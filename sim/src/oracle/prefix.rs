//! B5 and S1 without knowing where the history ends: is a device's content the writes up to one seq?
//!
//! Each block that shows the write of seq s says: the end lies at or after s, and before the block's next write. All
//! blocks must leave one seq in common, at or above what was promised.

/// The seqs that what was seen leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ends {
    /// The lowest.
    pub low: u64,
    /// The highest.
    pub high: u64,
}

impl Ends {
    /// Everything from what was promised to the last write.
    pub const fn new(promised: u64, last: u64) -> Self {
        Self {
            low: promised,
            high: last,
        }
    }

    /// A block with writes of these seqs, ascending, shows the one of seq `shown` (0: none of them). False when it never
    /// had that one.
    pub fn see(&mut self, writes: &[u64], shown: u64) -> bool {
        if shown != 0 && writes.binary_search(&shown).is_err() {
            return false;
        }
        self.low = self.low.max(shown);
        let next = writes.partition_point(|w| *w <= shown);
        if let Some(next) = writes.get(next) {
            self.high = self.high.min(next - 1);
        }
        true
    }

    /// Whether one seq explains everything.
    pub const fn exists(&self) -> bool {
        self.low <= self.high
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn bounds_agree_with_trying_every_end(
            places in prop::collection::vec(0..4_usize, 1..12),
            shown in prop::collection::vec(0..13_u64, 4),
            promised in 0..12_u64,
        ) {
            let last = places.len() as u64;
            let promised = promised.min(last);
            let writes = |block: usize| -> Vec<u64> {
                (1..=last).filter(|s| places[*s as usize - 1] == block).collect()
            };
            let mut ends = Ends::new(promised, last);
            let known = (0..4).all(|b| ends.see(&writes(b), shown[b]));
            let by_force = (promised..=last).any(|n| {
                (0..4).all(|b| writes(b).into_iter().rfind(|s| *s <= n).unwrap_or(0) == shown[b])
            });
            prop_assert_eq!(known && ends.exists(), by_force);
        }
    }

    #[test]
    fn a_later_write_without_an_earlier_one_is_rejected() {
        // Seq 1 writes block 0, seq 2 writes block 1; only the second survived.
        let mut ends = Ends::new(0, 2);
        assert!(ends.see(&[1], 0));
        assert!(ends.see(&[2], 2));
        assert!(!ends.exists());
    }

    #[test]
    fn a_prefix_that_leaves_choices_is_accepted() {
        let mut ends = Ends::new(1, 4);
        assert!(ends.see(&[1, 4], 1));
        assert!(ends.exists());
        assert_eq!(ends, Ends { low: 1, high: 3 });
    }
}
