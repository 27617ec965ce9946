//! Pure arithmetic on extents.

use crate::units::{Extent, Geometry, Lba};

/// Splits an extent into its pieces: the parts that lie within single grains.
///
/// Units: blocks, in and out. Shape: ascending, gap-free, no empty piece; an empty extent gives none. Errors: none; the
/// caller has checked the extent against the capacity.
pub fn pieces(geometry: &Geometry, extent: Extent) -> impl Iterator<Item = Extent> + use<> {
    within(extent, geometry.grain_blocks())
}

/// Splits an extent at multiples of `unit` blocks.
pub fn within(extent: Extent, unit: u64) -> impl Iterator<Item = Extent> + use<> {
    let end = extent.end();
    let mut at = extent.start;
    core::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let stop = ((at.0 / unit + 1) * unit).min(end.0);
        let piece = Extent::from_range(at.0..stop);
        at = Lba(stop);
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::BlockCount;
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;

    #[track_caller]
    fn check(extent: Extent, expected: &str) {
        let geometry = Geometry::standard(512, BlockCount(1000));
        let text: Vec<String> = pieces(&geometry, extent).map(|e| e.to_string()).collect();
        assert_eq!(text.join(" "), expected);
    }

    #[test]
    fn pieces_end_at_the_grain() {
        check(Extent::new(7, 2), "7+1 8+1");
    }

    #[test]
    fn an_aligned_extent_is_whole_grains() {
        check(Extent::new(8, 16), "8+8 16+8");
    }

    #[test]
    fn an_extent_within_a_grain_is_one_piece() {
        check(Extent::new(9, 3), "9+3");
    }

    #[test]
    fn an_empty_extent_has_no_piece() {
        check(Extent::new(9, 0), "");
    }
}
