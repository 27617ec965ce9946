//! Sets of grains of one chunk: the algebra of runs.
//!
//! A [`GrainSet`] is what is stored and kept: ascending disjoint runs. A [`GrainBits`] is what is computed with: one bit
//! per grain of the largest chunk, on the stack.

use crate::table::types::GrainSet;
use alloc::vec::Vec;
use core::ops::Range;

/// Most grains of a chunk.
pub const CHUNK_GRAINS_MAX: u32 = 2048;

/// A bitmap of a whole chunk, in bytes.
pub const BITMAP_BYTES: usize = CHUNK_GRAINS_MAX as usize / 8;

impl GrainSet {
    /// The set of the grains that `grains` names.
    ///
    /// Shape: ascending; a repeated grain counts once. Panics when they descend.
    pub fn from_ascending(grains: impl IntoIterator<Item = u16>) -> Self {
        let mut set = Self::default();
        for grain in grains {
            let next = set.end();
            if u32::from(grain) + 1 == next {
                continue;
            }
            assert!(u32::from(grain) >= next, "grain {grain} comes after {next}");
            set.push(u32::from(grain)..u32::from(grain) + 1);
        }
        set
    }

    /// The set of the grains in a range, in grains of the chunk; at most [`CHUNK_GRAINS_MAX`].
    pub fn from_range(range: Range<u16>) -> Self {
        let mut set = Self::default();
        set.push(u32::from(range.start)..u32::from(range.end));
        set
    }

    /// Whether the runs are ascending, disjoint, not adjacent, not empty, and end at or before `chunk_grains`.
    pub fn is_valid(&self, chunk_grains: u32) -> bool {
        let mut free_from = 0;
        self.runs.iter().all(|&(first, count)| {
            let fits = u32::from(first) >= free_from
                && count > 0
                && u32::from(first) + u32::from(count) <= chunk_grains;
            free_from = u32::from(first) + u32::from(count) + 1;
            fits
        })
    }

    /// Number of grains.
    pub fn len(&self) -> u32 {
        self.runs.iter().map(|&(_, count)| u32::from(count)).sum()
    }

    /// Whether the set has no grain.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether the grain is in the set.
    pub fn contains(&self, grain: u16) -> bool {
        self.find(grain).is_some()
    }

    /// How many grains of the set come before this one; `None` if it is not in the set.
    pub fn rank(&self, grain: u16) -> Option<u32> {
        let (runs_before, within) = self.find(grain)?;
        let before = runs_before.iter().map(|&(_, count)| u32::from(count));
        Some(before.sum::<u32>() + within)
    }

    /// The runs before the one that has this grain, and the grain's place within that one.
    fn find(&self, grain: u16) -> Option<(&[(u16, u16)], u32)> {
        let begun = self.runs.partition_point(|&(first, _)| first <= grain);
        let (&(first, count), before) = self.runs.get(..begun)?.split_last()?;
        (grain - first < count).then_some((before, u32::from(grain - first)))
    }

    /// The grains from the rank `skip` on, ascending.
    pub fn iter_from(&self, skip: u32) -> impl Iterator<Item = u16> + '_ {
        let mut skip = skip;
        self.runs.iter().flat_map(move |&(first, count)| {
            let jump = skip.min(u32::from(count));
            skip -= jump;
            // `jump` is at most `count`, and a run ends at or before grain 2048.
            let jump = jump as u16;
            first + jump..first + count
        })
    }

    /// The grains, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.iter_from(0)
    }

    /// The grains that either set has.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a || b)
    }

    /// The grains that this set has and `other` has not.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a && !b)
    }

    /// The grains that both sets have.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a && b)
    }

    /// Whether `other` has every grain of this set.
    pub fn is_subset(&self, other: &Self) -> bool {
        let mut subset = true;
        self.sweep(other, |_, here, there| subset &= !here || there);
        subset
    }

    /// The set as a bitmap: grain g is bit g mod 8 (lowest first) of byte g / 8.
    pub fn to_bitmap(&self) -> [u8; BITMAP_BYTES] {
        GrainBits::from(self).to_bytes()
    }

    /// Reads a bitmap; bytes past [`BITMAP_BYTES`] are not looked at.
    pub fn from_bitmap(bitmap: &[u8]) -> Self {
        GrainBits::from_bytes(bitmap).to_set()
    }

    /// First grain after the last one.
    pub fn end(&self) -> u32 {
        self.runs
            .last()
            .map_or(0, |&(first, count)| u32::from(first) + u32::from(count))
    }

    /// Appends a range that begins at or after the end; joins it to a run that it touches.
    fn push(&mut self, range: Range<u32>) {
        if range.is_empty() {
            return;
        }
        // Grains of a chunk: below 2^16 by the bound on chunk sizes.
        let count = (range.end - range.start) as u16;
        match self.runs.last_mut() {
            Some((first, last)) if u32::from(*first) + u32::from(*last) == range.start => {
                *last += count;
            }
            _ => self.runs.push((range.start as u16, count)),
        }
    }

    fn combine(&self, other: &Self, keep: impl Fn(bool, bool) -> bool) -> Self {
        let mut out = Self::default();
        self.sweep(other, |range, here, there| {
            if keep(here, there) {
                out.push(range);
            }
        });
        out
    }

    /// Walks both sets at once: for each stretch between edges, whether `self` and `other` have it.
    fn sweep(&self, other: &Self, mut each: impl FnMut(Range<u32>, bool, bool)) {
        let (mut a, mut b) = (edges(self).peekable(), edges(other).peekable());
        let (mut at, mut here, mut there) = (0, false, false);
        loop {
            let next = match (a.peek(), b.peek()) {
                (Some(&x), Some(&y)) => x.min(y),
                (Some(&x), None) => x,
                (None, Some(&y)) => y,
                (None, None) => return,
            };
            if at < next {
                each(at..next, here, there);
            }
            at = next;
            if a.next_if_eq(&next).is_some() {
                here = !here;
            }
            if b.next_if_eq(&next).is_some() {
                there = !there;
            }
        }
    }
}

/// Where a set begins and ends to have grains, in turn.
fn edges(set: &GrainSet) -> impl Iterator<Item = u32> + '_ {
    set.runs
        .iter()
        .flat_map(|&(first, count)| [u32::from(first), u32::from(first) + u32::from(count)])
}

/// A set of grains as one bit each, for computing without allocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GrainBits([u64; BITMAP_BYTES / 8]);

impl Default for GrainBits {
    fn default() -> Self {
        Self([0; BITMAP_BYTES / 8])
    }
}

impl From<&GrainSet> for GrainBits {
    fn from(set: &GrainSet) -> Self {
        let mut bits = Self::default();
        bits.insert_all(set);
        bits
    }
}

impl GrainBits {
    /// Adds a grain. Grains past the largest chunk are ignored.
    pub fn insert(&mut self, grain: u16) {
        if let Some(word) = self.0.get_mut(usize::from(grain / 64)) {
            *word |= 1 << (grain % 64);
        }
    }

    /// Adds every grain of a set. Grains past the largest chunk are ignored.
    pub fn insert_all(&mut self, set: &GrainSet) {
        for &(first, count) in &set.runs {
            let (from, end) = (u32::from(first), u32::from(first) + u32::from(count));
            let words = from as usize / 64..(end.div_ceil(64) as usize).min(self.0.len());
            let start = from / 64 * 64;
            let touched = self.0.get_mut(words).unwrap_or_default();
            for (word, start) in touched.iter_mut().zip((start..).step_by(64)) {
                let (low, high) = (from.saturating_sub(start), (end - start).min(64));
                *word |= (u64::MAX >> (64 - (high - low))) << low;
            }
        }
    }

    /// Whether the grain is in the set.
    pub fn contains(&self, grain: u16) -> bool {
        self.0
            .get(usize::from(grain / 64))
            .is_some_and(|word| word >> (grain % 64) & 1 == 1)
    }

    /// Number of grains.
    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether the set has no grain.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The grains that either set has.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    /// The grains that this set has and `other` has not.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & !b)
    }

    /// The grains that both sets have.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    /// Whether `other` has every grain of this set.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a & !b == 0)
    }

    /// The set as runs.
    pub fn to_set(&self) -> GrainSet {
        let mut runs: Vec<(u16, u16)> = Vec::new();
        let (mut at, end) = (0_u32, CHUNK_GRAINS_MAX);
        while at < end {
            let from = self.next(at, true);
            let to = self.next(from, false);
            if from < to {
                runs.push((from as u16, (to - from) as u16));
            }
            at = to;
        }
        GrainSet { runs }
    }

    /// The first grain at or after `at` that is (or is not) in the set; the largest chunk's end if there is none.
    fn next(&self, at: u32, wanted: bool) -> u32 {
        let mut at = at;
        while let Some(word) = self.0.get(at as usize / 64) {
            let word = if wanted { *word } else { !*word } >> (at % 64);
            if word != 0 {
                return at + word.trailing_zeros();
            }
            at = (at / 64 + 1) * 64;
        }
        CHUNK_GRAINS_MAX
    }

    /// As stored: grain g is bit g mod 8 (lowest first) of byte g / 8.
    pub fn to_bytes(&self) -> [u8; BITMAP_BYTES] {
        let mut bytes = [0; BITMAP_BYTES];
        for (eight, word) in bytes.chunks_exact_mut(8).zip(&self.0) {
            eight.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`GrainBits::to_bytes`] wrote; missing bytes are empty, bytes past the largest chunk are not looked at.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut bits = Self::default();
        for (word, eight) in bits.0.iter_mut().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded
                .iter_mut()
                .zip(eight)
                .for_each(|(to, from)| *to = *from);
            *word = u64::from_le_bytes(padded);
        }
        bits
    }

    fn zip(&self, other: &Self, join: impl Fn(u64, u64) -> u64) -> Self {
        let mut out = *self;
        for (word, more) in out.0.iter_mut().zip(&other.0) {
            *word = join(*word, *more);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    fn grains() -> impl Strategy<Value = BTreeSet<u16>> {
        prop_oneof![
            proptest::collection::btree_set(0_u16..2048, 0..80),
            proptest::collection::btree_set(0_u16..24, 0..24),
            proptest::collection::vec((0_u16..2040, 1_u16..300), 0..6).prop_map(|runs| {
                runs.into_iter()
                    .flat_map(|(first, count)| first..(first + count).min(2048))
                    .collect()
            }),
        ]
    }

    fn set(grains: &BTreeSet<u16>) -> GrainSet {
        GrainSet::from_ascending(grains.iter().copied())
    }

    proptest! {
        #[test]
        fn runs_behave_as_a_set_of_numbers(a in grains(), b in grains(), probe in 0_u16..2048, skip in 0_u32..50) {
            let (x, y) = (set(&a), set(&b));
            prop_assert!(x.is_valid(2048));
            prop_assert_eq!(x.iter().collect::<BTreeSet<_>>(), a.clone());
            prop_assert_eq!(x.len() as usize, a.len());
            prop_assert_eq!(x.is_empty(), a.is_empty());
            prop_assert_eq!(x.contains(probe), a.contains(&probe));
            let rank = a.contains(&probe).then(|| a.range(..probe).count() as u32);
            prop_assert_eq!(x.rank(probe), rank);
            prop_assert!(x.iter_from(skip).eq(a.iter().copied().skip(skip as usize)));
            prop_assert_eq!(x.union(&y), set(&a.union(&b).copied().collect()));
            prop_assert_eq!(x.subtract(&y), set(&a.difference(&b).copied().collect()));
            prop_assert_eq!(x.intersect(&y), set(&a.intersection(&b).copied().collect()));
            prop_assert_eq!(x.is_subset(&y), a.is_subset(&b));
            prop_assert!(x.intersect(&y).is_subset(&y));
        }

        #[test]
        fn bits_behave_as_runs(a in grains(), b in grains(), probe in 0_u16..3000) {
            let (x, y) = (set(&a), set(&b));
            let (p, q) = (GrainBits::from(&x), GrainBits::from(&y));
            prop_assert_eq!(p.to_set(), x.clone());
            prop_assert_eq!(p.len(), x.len());
            prop_assert_eq!(p.is_empty(), x.is_empty());
            prop_assert_eq!(p.contains(probe), x.contains(probe));
            prop_assert_eq!(p.union(&q).to_set(), x.union(&y));
            prop_assert_eq!(p.subtract(&q).to_set(), x.subtract(&y));
            prop_assert_eq!(p.intersect(&q).to_set(), x.intersect(&y));
            prop_assert_eq!(p.is_subset(&q), x.is_subset(&y));
            prop_assert_eq!(GrainSet::from_bitmap(&x.to_bitmap()), x.clone());
            let mut one_by_one = GrainBits::default();
            a.iter().for_each(|g| one_by_one.insert(*g));
            prop_assert_eq!(one_by_one, p);
        }
    }

    #[test]
    fn invalid_runs_are_told() {
        let valid = |runs: &[(u16, u16)]| {
            GrainSet {
                runs: runs.to_vec(),
            }
            .is_valid(16)
        };
        assert!(valid(&[]) && valid(&[(0, 16)]) && valid(&[(0, 1), (2, 14)]));
        assert!(!valid(&[(0, 0)]) && !valid(&[(0, 17)]) && !valid(&[(65535, 65535)]));
        assert!(!valid(&[(0, 1), (1, 1)]) && !valid(&[(4, 1), (2, 1)]));
    }

    #[test]
    fn a_bitmap_has_the_lowest_grain_in_the_lowest_bit() {
        let bitmap = GrainSet::from_ascending([0, 9, 2047]).to_bitmap();
        assert_eq!((bitmap[0], bitmap[1], bitmap[255]), (1, 2, 128));
    }
}
