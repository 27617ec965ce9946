//! One layer: an ordered map from blocks to the newest place of their content.

use crate::ids::{FileId, Seq};
use crate::sum::Sum;
use crate::units::{BlockCount, Extent, Lba};
use alloc::collections::BTreeMap;
use smallvec::SmallVec;

/// Blocks that are put below another map at once.
const UNDERLAY_BLOCKS: u64 = 1 << 14;

/// What a layer says of a run of blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// They lie in the journal, within one piece.
    Journal(PiecePlace),
    /// They read as zeros.
    Hole,
    /// Their content is gone.
    Lost,
}

/// Where a piece lies, and which part of it is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PiecePlace {
    /// The journal file.
    pub file: FileId,
    /// First byte of the whole piece in the file.
    pub at: u64,
    /// Bytes of the whole piece, at most a grain.
    pub len: u32,
    /// Bytes of the piece before the part that is meant.
    pub skip: u32,
    /// CRC32C of the whole piece.
    pub sum: Sum,
}

/// A run of blocks with one source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// How many blocks.
    pub count: BlockCount,
    /// The write that put it.
    pub seq: Seq,
    /// Where its content is.
    pub source: Source,
}

/// Segments by first block; none overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtentMap {
    segments: BTreeMap<u64, Segment>,
    /// No segment's write is below this one; `None`: there never was a segment.
    least: Option<Seq>,
}

impl ExtentMap {
    /// Whether no block is mapped.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Number of segments: what the map costs in memory.
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Maps `extent` to `source`, over whatever was there.
    ///
    /// For [`Source::Journal`] the extent lies within one piece and `skip` is that of its first block.
    pub fn insert(&mut self, extent: Extent, seq: Seq, source: Source, block_bytes: u32) {
        if extent.is_empty() {
            return;
        }
        self.clear(extent, block_bytes);
        self.least = Some(self.least.map_or(seq, |least| least.min(seq)));
        self.segments.insert(
            extent.start.0,
            Segment {
                count: extent.count,
                seq,
                source,
            },
        );
    }

    /// Unmaps `extent`.
    pub fn clear(&mut self, extent: Extent, block_bytes: u32) {
        let (start, end) = (extent.start.0, extent.end().0);
        // A segment that begins before: keep its head, and its tail if it reaches beyond.
        if let Some((&at, &segment)) = self.segments.range(..start).next_back() {
            let segment_end = at + segment.count.0;
            if segment_end > start {
                if let Some(kept) = self.segments.get_mut(&at) {
                    kept.count = BlockCount(start - at);
                }
                if segment_end > end && !bug!("split-forgets-the-tail") {
                    mark!("map-split");
                    self.segments
                        .insert(end, tail(at, segment, end, block_bytes));
                }
            }
        }
        while let Some((&at, &segment)) = self.segments.range(start..end).next() {
            self.segments.remove(&at);
            if at + segment.count.0 > end {
                self.segments
                    .insert(end, tail(at, segment, end, block_bytes));
            }
        }
    }

    /// The content of `extent` in order: segments cut to it, and gaps (`None`).
    pub fn cover(
        &self,
        extent: Extent,
        block_bytes: u32,
        mut f: impl FnMut(Extent, Option<Segment>),
    ) {
        let end = extent.end().0;
        let mut at = extent.start.0;
        let first = self
            .segments
            .range(..=at)
            .next_back()
            .filter(|(start, segment)| *start + segment.count.0 > at)
            .map_or(at, |(&start, _)| start);
        for (&start, &segment) in self.segments.range(first..end) {
            if start > at {
                f(Extent::from_range(at..start), None);
                at = start;
            }
            let segment_end = (start + segment.count.0).min(end);
            let mut cut = tail(start, segment, at, block_bytes);
            cut.count = BlockCount(segment_end - at);
            f(Extent::from_range(at..segment_end), Some(cut));
            at = segment_end;
        }
        if at < end {
            f(Extent::from_range(at..end), None);
        }
    }

    /// The first run of mapped blocks at or after `at`, cut to begin there at the earliest, and its source. The segment's own
    /// count and place are those of the whole.
    pub fn first_from(&self, at: Lba) -> Option<(Extent, Segment)> {
        let before = self
            .segments
            .range(..at.0)
            .next_back()
            .filter(|(start, segment)| *start + segment.count.0 > at.0);
        let (&start, &segment) = before.or_else(|| self.segments.range(at.0..).next())?;
        let extent = Extent::from_range(start.max(at.0)..start + segment.count.0);
        Some((extent, segment))
    }

    /// Every segment, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Extent, Segment)> + '_ {
        self.segments.iter().map(|(&start, &segment)| {
            (
                Extent {
                    start: Lba(start),
                    count: segment.count,
                },
                segment,
            )
        })
    }

    /// Takes segments out of `older`, from the first on, and puts them below this map: where it says nothing. Ends after about
    /// `most` of them.
    pub fn underlay(&mut self, older: &mut Self, most: usize, block_bytes: u32) {
        let mut left = most;
        while left > 0 {
            let Some((start, mut segment)) = older.segments.pop_first() else {
                return;
            };
            if segment.count.0 > UNDERLAY_BLOCKS {
                // A long hole may lie below very many segments: a part of it at a time.
                let rest = start + UNDERLAY_BLOCKS;
                older
                    .segments
                    .insert(rest, tail(start, segment, rest, block_bytes));
                segment.count = BlockCount(UNDERLAY_BLOCKS);
            }
            let extent = Extent {
                start: Lba(start),
                count: segment.count,
            };
            let mut gaps: SmallVec<[Extent; 4]> = SmallVec::new();
            self.cover(extent, block_bytes, |extent, known| {
                if known.is_none() {
                    gaps.push(extent);
                }
            });
            left = left.saturating_sub(1 + gaps.len());
            self.least = Some(
                self.least
                    .map_or(segment.seq, |least| least.min(segment.seq)),
            );
            for gap in gaps {
                let mut part = tail(start, segment, gap.start.0, block_bytes);
                part.count = gap.count;
                self.segments.insert(gap.start.0, part);
            }
        }
    }

    /// Forgets every segment whose write is at or below `cut`: it is in the store. Goes through all of them only if there
    /// may be one.
    pub fn forget_through(&mut self, cut: Seq) {
        if self.least.is_none_or(|least| least > cut) {
            return;
        }
        self.least = Some(Seq(cut.0 + 1));
        self.segments.retain(|_, segment| segment.seq > cut);
    }

    /// The record `seq` was written again elsewhere: its data now begins at byte `to` of `file` instead of `from`.
    pub fn relocate(&mut self, extent: Extent, seq: Seq, from: u64, file: FileId, to: u64) {
        let first = self
            .segments
            .range(..=extent.start.0)
            .next_back()
            .map_or(extent.start.0, |(&s, _)| s);
        for (_, segment) in self.segments.range_mut(first..extent.end().0) {
            if segment.seq != seq {
                continue;
            }
            if let Source::Journal(place) = &mut segment.source {
                place.file = file;
                place.at = place.at - from + to;
            }
        }
    }
}

/// What remains of a segment from block `from` on.
fn tail(start: u64, segment: Segment, from: u64, block_bytes: u32) -> Segment {
    let cut = from - start;
    let source = match segment.source {
        Source::Journal(place) => Source::Journal(PiecePlace {
            // A piece is at most a grain, so this fits.
            skip: place.skip + (cut * u64::from(block_bytes)) as u32,
            ..place
        }),
        other => other,
    };
    Segment {
        count: BlockCount(segment.count.0 - cut),
        seq: segment.seq,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn journal(seq: u64, skip: u32) -> Source {
        Source::Journal(PiecePlace {
            file: FileId(1),
            at: seq * 8192,
            len: 4096,
            skip,
            sum: Sum(0),
        })
    }

    #[track_caller]
    fn check(writes: &[(u64, u64, u64)], expected: &str) {
        let mut map = ExtentMap::default();
        for &(seq, start, count) in writes {
            map.insert(Extent::new(start, count), Seq(seq), journal(seq, 0), 512);
        }
        let mut text = String::new();
        map.cover(Extent::new(0, 16), 512, |extent, segment| {
            let what = match segment.map(|s| (s.seq.0, s.source)) {
                Some((seq, Source::Journal(p))) => format!("w{seq}/{}", p.skip / 512),
                Some(_) => "other".into(),
                None => "-".into(),
            };
            text += &format!("{extent}={what} ");
        });
        assert_eq!(text.trim_end(), expected);
    }

    #[test]
    fn an_empty_map_is_one_gap() {
        check(&[], "0+16=-");
    }

    #[test]
    fn a_newer_write_splits_an_older() {
        check(&[(1, 0, 8), (2, 2, 3)], "0+2=w1/0 2+3=w2/0 5+3=w1/5 8+8=-");
    }

    #[test]
    fn a_newer_write_hides_what_it_covers() {
        check(&[(1, 2, 2), (2, 6, 2), (3, 0, 8)], "0+8=w3/0 8+8=-");
    }

    #[test]
    fn a_newer_write_cuts_both_neighbours() {
        check(
            &[(1, 0, 4), (2, 4, 8), (3, 2, 4)],
            "0+2=w1/0 2+4=w3/0 6+6=w2/2 12+4=-",
        );
    }

    proptest! {
        #[test]
        fn agrees_with_a_map_of_blocks(
            writes in proptest::collection::vec((0u64..64, 1u64..9, any::<bool>()), 1..40),
            part in (0u64..70, 1u64..10),
        ) {
            let mut map = ExtentMap::default();
            let mut model: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
            for (i, &(start, count, clear)) in writes.iter().enumerate() {
                let seq = i as u64 + 1;
                let extent = Extent::new(start, count);
                if clear {
                    map.clear(extent, 512);
                    extent.range().for_each(|b| { model.remove(&b); });
                } else {
                    map.insert(extent, Seq(seq), journal(seq, 0), 512);
                    extent.range().for_each(|b| { model.insert(b, (seq, b - start)); });
                }
            }
            let mut seen = BTreeMap::new();
            map.cover(Extent::new(0, 80), 512, |extent, segment| {
                if let Some(segment) = segment {
                    let Source::Journal(place) = segment.source else { unreachable!() };
                    for (i, block) in extent.range().enumerate() {
                        seen.insert(block, (segment.seq.0, u64::from(place.skip) / 512 + i as u64));
                    }
                }
            });
            prop_assert_eq!(&seen, &model);
            // Of a part: in order, without a gap, nothing empty, nothing beyond it.
            let part = Extent::new(part.0, part.1);
            let (mut at, mut seen) = (part.start, BTreeMap::new());
            map.cover(part, 512, |extent, segment| {
                assert!(extent.start == at && !extent.is_empty() && part.contains(extent), "{extent} of {part}");
                at = extent.end();
                let Some(segment) = segment else { return };
                assert_eq!(segment.count, extent.count);
                let Source::Journal(place) = segment.source else { unreachable!() };
                for (i, block) in extent.range().enumerate() {
                    seen.insert(block, (segment.seq.0, u64::from(place.skip) / 512 + i as u64));
                }
            });
            prop_assert_eq!(at, part.end());
            let of_part: BTreeMap<_, _> = model.range(part.range()).map(|(b, w)| (*b, *w)).collect();
            prop_assert_eq!(seen, of_part);
            let first = map.first_from(part.start);
            let next = model.range(part.start.0..).next().map(|(block, _)| *block);
            prop_assert_eq!(first.map(|(extent, _)| extent.start.0), next);
            if let Some((extent, segment)) = first {
                prop_assert_eq!(model.get(&extent.start.0).map(|(seq, _)| *seq), Some(segment.seq.0));
                let end = extent.end().0;
                prop_assert!(extent.range().all(|block| model.get(&block).map(|w| w.0) == Some(segment.seq.0)), "{extent} {end}");
            }
        }

        #[test]
        fn joined_step_by_step_two_maps_read_as_one_over_the_other(
            old in proptest::collection::vec((0u64..64, 1u64..9), 0..20),
            new in proptest::collection::vec((0u64..64, 1u64..9), 0..20),
            most in 1usize..5,
        ) {
            let build = |writes: &[(u64, u64)], first: u64| {
                let mut map = ExtentMap::default();
                for (seq, &(start, count)) in (first..).zip(writes) {
                    map.insert(Extent::new(start, count), Seq(seq), journal(seq, 0), 512);
                }
                map
            };
            let (mut older, mut newer) = (build(&old, 1), build(&new, 100));
            let read = |older: &ExtentMap, newer: &ExtentMap| {
                let mut blocks = BTreeMap::new();
                for map in [older, newer] {
                    map.cover(Extent::new(0, 80), 512, |extent, segment| {
                        for (i, block) in extent.range().enumerate() {
                            if let Some(Source::Journal(place)) = segment.map(|s| s.source) {
                                blocks.insert(block, (place.at, u64::from(place.skip) / 512 + i as u64));
                            }
                        }
                    });
                }
                blocks
            };
            let wanted = read(&older, &newer);
            let mut steps = 0;
            while !older.is_empty() {
                newer.underlay(&mut older, most, 512);
                prop_assert_eq!(&read(&older, &newer), &wanted);
                steps += 1;
            }
            prop_assert!(steps <= old.len() * 2, "each step takes one at least");
        }

        #[test]
        fn what_is_at_or_below_a_cut_is_forgotten_and_nothing_else(
            writes in proptest::collection::vec((0u64..64, 1u64..9), 1..40),
            joined in 0usize..40,
            cuts in proptest::collection::vec(0u64..50, 1..4),
        ) {
            let (mut older, mut map) = (ExtentMap::default(), ExtentMap::default());
            for (number, &(start, count)) in writes.iter().enumerate() {
                let seq = number as u64 + 1;
                let to = if number < joined { &mut older } else { &mut map };
                to.insert(Extent::new(start, count), Seq(seq), journal(seq, 0), 512);
            }
            while !older.is_empty() {
                map.underlay(&mut older, 3, 512);
            }
            let mut kept: Vec<(Extent, Segment)> = map.iter().collect();
            for cut in cuts {
                map.forget_through(Seq(cut));
                kept.retain(|(_, segment)| segment.seq > Seq(cut));
                prop_assert_eq!(map.iter().collect::<Vec<_>>(), kept.clone());
            }
        }

        #[test]
        fn a_long_hole_is_joined_in_parts(start in 0u64..1000) {
            let mut older = ExtentMap::default();
            let whole = Extent::new(start, UNDERLAY_BLOCKS * 3 + 5);
            older.insert(whole, Seq(1), Source::Hole, 512);
            let mut newer = ExtentMap::default();
            newer.insert(Extent::new(start + 7, 1), Seq(2), journal(2, 0), 512);
            newer.underlay(&mut older, 1, 512);
            prop_assert!(!older.is_empty());
            while !older.is_empty() {
                newer.underlay(&mut older, 1, 512);
            }
            let mut holes = 0;
            newer.cover(whole, 512, |extent, segment| {
                holes += segment.filter(|s| s.source == Source::Hole).map_or(0, |_| extent.count.0);
            });
            prop_assert_eq!(holes, whole.count.0 - 1);
        }
    }
}
