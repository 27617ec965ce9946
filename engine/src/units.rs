//! Units: every number says what it counts.
//!
//! Blocks, bytes, grains and chunks are separate types, so that they cannot be added to each other. An *index* starts
//! at 0, a *count* is the last index + 1, a *size* is a count times a unit. Ranges are half open.

use core::fmt;
use core::ops::Range;

/// Bytes in a grain, the unit of change tracking, stored checksums and table entries.
pub const GRAIN_BYTES: u32 = 4096;

/// Longest extent that one journal record may carry, in bytes: the unit of the prefix promise (P2).
pub const RECORD_BYTES_MAX: u32 = 1 << 20;

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}
pub(crate) use unit;

unit!(/// Index of a logical block of the volume.
    Lba);
unit!(/// Number of logical blocks.
    BlockCount);
unit!(/// Number of bytes.
    ByteCount);
unit!(/// Index of a grain (4 KiB) of the volume.
    GrainIndex);
unit!(/// Index of a chunk of the volume.
    ChunkIndex);
unit!(/// Index of a leaf of the table: `leaf_chunks` chunks each.
    LeafIndex);

/// A run of logical blocks. Units: blocks. May be empty only where a function says so.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Extent {
    /// First block.
    pub start: Lba,
    /// Number of blocks.
    pub count: BlockCount,
}

impl Extent {
    /// The extent of `count` blocks from `start`.
    pub const fn new(start: u64, count: u64) -> Self {
        Self {
            start: Lba(start),
            count: BlockCount(count),
        }
    }

    /// The extent that covers `range`, in blocks.
    pub const fn from_range(range: Range<u64>) -> Self {
        Self::new(range.start, range.end - range.start)
    }

    /// First block after the extent.
    pub const fn end(&self) -> Lba {
        Lba(self.start.0 + self.count.0)
    }

    /// The extent as a half-open range of block indexes.
    pub const fn range(&self) -> Range<u64> {
        self.start.0..self.start.0 + self.count.0
    }

    /// Whether the extent has no block.
    pub const fn is_empty(&self) -> bool {
        self.count.0 == 0
    }

    /// The blocks that both extents have, if any.
    pub fn intersect(&self, other: Self) -> Option<Self> {
        let start = self.start.0.max(other.start.0);
        let end = self.end().0.min(other.end().0);
        (start < end).then(|| Self::from_range(start..end))
    }

    /// Whether every block of `other` lies in `self`.
    pub fn contains(&self, other: Self) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }
}

impl fmt::Debug for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.start.0, self.count.0)
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.start.0, self.count.0)
    }
}

/// The fixed shape of a volume. Only `capacity` may change after birth (resize).
///
/// The grain is always [`GRAIN_BYTES`]. The other constants are format 1's defaults in production and small in the
/// simulator, so that every split, wrap and limit happens within one short run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Bytes of a logical block: 512 or 4096.
    pub block_bytes: u32,
    /// Size of the volume, in logical blocks. At least 1.
    pub capacity: BlockCount,
    /// Grains of a chunk: a power of two, 2048 (8 MiB) in production; at least 1, at most 2048.
    pub chunk_grains: u32,
    /// Chunks of a leaf: a power of two, 256 in production; at least 1, at most 256.
    pub leaf_chunks: u32,
    /// Grains of a frame: 16 in production; at least 1, at most 16.
    pub frame_grains: u32,
}

impl Geometry {
    /// The production shape (format 1 defaults) of a volume of `capacity` blocks.
    pub const fn standard(block_bytes: u32, capacity: BlockCount) -> Self {
        Self {
            block_bytes,
            capacity,
            chunk_grains: 2048,
            leaf_chunks: 256,
            frame_grains: 16,
        }
    }

    /// Whether the numbers are within their ranges. Everything that reads a stored geometry asks first.
    pub const fn is_valid(&self) -> bool {
        (self.block_bytes == 512 || self.block_bytes == 4096)
            && self.capacity.0 >= 1
            && self.capacity.0 <= (1 << 63) / self.block_bytes as u64
            && self.chunk_grains.is_power_of_two()
            && self.chunk_grains <= 2048
            && self.leaf_chunks.is_power_of_two()
            && self.leaf_chunks <= 256
            && self.frame_grains >= 1
            && self.frame_grains <= 16
    }

    /// Blocks of a grain: 8 or 1.
    pub const fn grain_blocks(&self) -> u64 {
        (GRAIN_BYTES / self.block_bytes) as u64
    }

    /// Blocks of a chunk.
    pub const fn chunk_blocks(&self) -> u64 {
        self.chunk_grains as u64 * self.grain_blocks()
    }

    /// The whole volume.
    pub const fn whole(&self) -> Extent {
        Extent {
            start: Lba(0),
            count: self.capacity,
        }
    }

    /// Size of the volume in bytes.
    pub const fn capacity_bytes(&self) -> ByteCount {
        ByteCount(self.capacity.0 * self.block_bytes as u64)
    }

    /// Number of grains, the last one perhaps partial.
    pub const fn grain_count(&self) -> u64 {
        self.capacity.0.div_ceil(self.grain_blocks())
    }

    /// Number of chunks, the last one perhaps partial.
    pub const fn chunk_count(&self) -> u64 {
        self.grain_count().div_ceil(self.chunk_grains as u64)
    }

    /// Number of leaves, the last one perhaps partial.
    pub const fn leaf_count(&self) -> u64 {
        self.chunk_count().div_ceil(self.leaf_chunks as u64)
    }

    /// The grain that holds `lba`.
    pub const fn grain_of(&self, lba: Lba) -> GrainIndex {
        GrainIndex(lba.0 / self.grain_blocks())
    }

    /// The chunk that holds `grain`.
    pub const fn chunk_of(&self, grain: GrainIndex) -> ChunkIndex {
        ChunkIndex(grain.0 / self.chunk_grains as u64)
    }

    /// The leaf that describes `chunk`.
    pub const fn leaf_of(&self, chunk: ChunkIndex) -> LeafIndex {
        LeafIndex(chunk.0 / self.leaf_chunks as u64)
    }

    /// The blocks of `grain`, cut at the volume's end.
    pub fn grain_extent(&self, grain: GrainIndex) -> Extent {
        let start = grain.0 * self.grain_blocks();
        Extent::from_range(start..(start + self.grain_blocks()).min(self.capacity.0))
    }

    /// Grains of `chunk`, cut at the volume's end: `chunk_grains` but for the last chunk.
    pub fn chunk_grain_count(&self, chunk: ChunkIndex) -> u32 {
        let first = chunk.0 * u64::from(self.chunk_grains);
        // At most `chunk_grains`, so it fits.
        self.grain_count()
            .saturating_sub(first)
            .min(u64::from(self.chunk_grains)) as u32
    }

    /// The first grain of `chunk`.
    pub const fn chunk_first_grain(&self, chunk: ChunkIndex) -> GrainIndex {
        GrainIndex(chunk.0 * self.chunk_grains as u64)
    }

    /// Bytes of `count` blocks.
    pub const fn bytes(&self, count: BlockCount) -> ByteCount {
        ByteCount(count.0 * self.block_bytes as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Geometry = Geometry {
        block_bytes: 512,
        capacity: BlockCount(100),
        chunk_grains: 4,
        leaf_chunks: 2,
        frame_grains: 2,
    };

    #[track_caller]
    fn check_valid(change: impl Fn(&mut Geometry), valid: bool) {
        let mut geometry = SMALL;
        change(&mut geometry);
        assert_eq!(geometry.is_valid(), valid, "{geometry:?}");
    }

    #[test]
    fn a_geometry_is_valid_within_its_ranges_and_not_beyond() {
        check_valid(|_| (), true);
        for (bytes, valid) in [
            (0, false),
            (511, false),
            (512, true),
            (1024, false),
            (4096, true),
        ] {
            check_valid(|g| g.block_bytes = bytes, valid);
        }
        for (blocks, valid) in [
            (0, false),
            (1, true),
            (1 << 54, true),
            ((1 << 54) + 1, false),
        ] {
            check_valid(|g| g.capacity.0 = blocks, valid);
        }
        for (grains, valid) in [
            (0, false),
            (1, true),
            (3, false),
            (2048, true),
            (4096, false),
        ] {
            check_valid(|g| g.chunk_grains = grains, valid);
        }
        for (chunks, valid) in [(0, false), (1, true), (3, false), (256, true), (512, false)] {
            check_valid(|g| g.leaf_chunks = chunks, valid);
        }
        for (grains, valid) in [(0, false), (1, true), (3, true), (16, true), (17, false)] {
            check_valid(|g| g.frame_grains = grains, valid);
        }
    }

    #[test]
    fn a_partial_grain_chunk_or_leaf_counts() {
        // 100 blocks are 12.5 grains, 3.25 chunks, 1.6 leaves.
        assert_eq!(SMALL.capacity_bytes(), ByteCount(51_200));
        assert_eq!(SMALL.grain_count(), 13);
        assert_eq!(SMALL.chunk_count(), 4);
        assert_eq!(SMALL.leaf_count(), 2);
        assert_eq!(SMALL.chunk_blocks(), 32);
        assert_eq!(SMALL.grain_extent(GrainIndex(11)), Extent::new(88, 8));
        assert_eq!(SMALL.grain_extent(GrainIndex(12)), Extent::new(96, 4));
        let counts: [u32; 5] =
            core::array::from_fn(|i| SMALL.chunk_grain_count(ChunkIndex(i as u64)));
        assert_eq!(counts, [4, 4, 4, 1, 0]);
        assert_eq!(SMALL.grain_of(Lba(95)), GrainIndex(11));
        assert_eq!(SMALL.grain_of(Lba(96)), GrainIndex(12));
        assert_eq!(SMALL.chunk_of(GrainIndex(11)), ChunkIndex(2));
        assert_eq!(SMALL.chunk_first_grain(ChunkIndex(2)), GrainIndex(8));
        assert_eq!(SMALL.leaf_of(ChunkIndex(3)), LeafIndex(1));
    }

    #[test]
    fn extents_that_touch_have_nothing_in_common() {
        let extent = Extent::new(4, 4);
        assert_eq!(extent.intersect(Extent::new(0, 4)), None);
        assert_eq!(extent.intersect(Extent::new(8, 4)), None);
        assert_eq!(extent.intersect(Extent::new(0, 5)), Some(Extent::new(4, 1)));
        assert_eq!(extent.intersect(Extent::new(7, 9)), Some(Extent::new(7, 1)));
        assert_eq!(extent.intersect(Extent::new(5, 2)), Some(Extent::new(5, 2)));
        assert!(extent.contains(extent) && extent.contains(Extent::new(5, 3)));
        assert!(!extent.contains(Extent::new(3, 2)) && !extent.contains(Extent::new(7, 2)));
        assert!(Extent::new(4, 0).is_empty() && !extent.is_empty());
    }
}
