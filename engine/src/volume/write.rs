//! From a guest's write to the records of the journal.

use super::Volume;
use crate::journal::record::RecordBody;
use crate::layers::split;
use crate::payload::{Parts, Payload};
use crate::sum::{Sum, Sums};
use crate::units::Extent;
use alloc::collections::VecDeque;

impl<P: Payload> Volume<P> {
    /// Cuts a write into records, in LBA order: each is a unit of the prefix promise.
    ///
    /// Records end at grains, so that a piece never straddles two of them.
    pub(super) fn write_records(
        &self,
        at: Extent,
        data: P,
        sums: &[Sum],
    ) -> VecDeque<(RecordBody, Parts<P>)> {
        let mut records = VecDeque::new();
        let Some(geometry) = self.geometry else {
            return records;
        };
        let most = u64::from(self.journal.record_bytes_max()) / u64::from(geometry.block_bytes);
        let mut rest = sums;
        for extent in split_records(at, most, geometry.grain_blocks()) {
            let pieces = split::pieces(&geometry, extent).count().min(rest.len());
            let (own, later) = rest.split_at(pieces);
            rest = later;
            let from = geometry
                .bytes(crate::units::BlockCount(extent.start.0 - at.start.0))
                .0;
            let bytes = geometry.bytes(extent.count).0;
            let body = RecordBody::Write {
                extent,
                sums: Sums::from_slice(own),
            };
            records.push_back((body, Parts::one(data.slice(from..from + bytes))));
        }
        records
    }
}

/// Extents of at most `most` blocks that end at multiples of `grain` blocks, but for the last.
fn split_records(at: Extent, most: u64, grain: u64) -> impl Iterator<Item = Extent> {
    let end = at.end().0;
    let mut from = at.start.0;
    core::iter::from_fn(move || {
        if from >= end {
            return None;
        }
        let to = if end - from <= most {
            end
        } else {
            (from + most) / grain * grain
        };
        let extent = Extent::from_range(from..to);
        from = to;
        Some(extent)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;

    #[track_caller]
    fn check(at: Extent, most: u64, expected: &str) {
        let text: Vec<String> = split_records(at, most, 8).map(|e| e.to_string()).collect();
        assert_eq!(text.join(" "), expected);
    }

    #[test]
    fn a_short_write_is_one_record() {
        check(Extent::new(3, 16), 16, "3+16");
    }

    #[test]
    fn a_long_write_ends_its_records_at_grains() {
        check(Extent::new(3, 40), 16, "3+13 16+16 32+11");
    }
}
