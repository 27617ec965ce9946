//! One logical unit as a command sees it: its numbers, its limits, what it allows.

use super::sense::Sense;
use crate::target::{LogicalUnit, UnitFlags};
use engine::units::{BlockCount, Extent, GRAIN_BYTES, Lba, RECORD_BYTES_MAX};

/// Most bytes that one command may move: MAXIMUM TRANSFER LENGTH. A session has at least so many bytes under way.
pub const TRANSFER_BYTES_MAX: u32 = 32 << 20;
/// Most bytes of one WRITE SAME: MAXIMUM WRITE SAME LENGTH. With a pattern it is written out, so it must end.
const WRITE_SAME_BYTES_MAX: u64 = 1 << 31;
/// Most descriptors of one UNMAP: what one journal record takes.
pub const UNMAP_DESCRIPTORS_MAX: usize = 64;
/// Most blocks of one COMPARE AND WRITE: its field has one byte.
pub const COMPARE_BLOCKS_MAX: u8 = 255;

/// A unit and the moment's flags.
#[derive(Clone, Copy, Debug)]
pub struct UnitView<'a> {
    /// The unit.
    pub unit: &'a LogicalUnit,
    /// Its number.
    pub lun: u16,
    /// What holds now.
    pub flags: UnitFlags,
}

impl UnitView<'_> {
    /// Bytes of a block.
    pub fn block_bytes(&self) -> u32 {
        self.unit.spec().block_bytes
    }

    /// Size in blocks.
    pub fn capacity(&self) -> BlockCount {
        self.unit.capacity()
    }

    /// The last block.
    pub fn last(&self) -> Lba {
        Lba(self.capacity().0.saturating_sub(1))
    }

    /// Blocks of a grain, which is what we call a physical block.
    pub fn grain_blocks(&self) -> u32 {
        GRAIN_BYTES / self.block_bytes()
    }

    /// 2^this blocks make a physical block: 3 or 0.
    pub fn physical_exponent(&self) -> u8 {
        // 0 to 3.
        self.grain_blocks().trailing_zeros() as u8
    }

    /// MAXIMUM TRANSFER LENGTH in blocks.
    pub fn transfer_blocks_max(&self) -> u32 {
        TRANSFER_BYTES_MAX / self.block_bytes()
    }

    /// MAXIMUM WRITE SAME LENGTH in blocks. Clients take a length of 65,536 blocks or more for a sign that they may also
    /// write and read so many at once; where that exceeds the transfer length, less is said.
    pub fn write_same_blocks_max(&self) -> u64 {
        let most = WRITE_SAME_BYTES_MAX / u64::from(self.block_bytes());
        if self.transfer_blocks_max() < 1 << 16 {
            most.min((1 << 16) - 1)
        } else {
            most
        }
    }

    /// Blocks of one journal record: the longest write that is atomic.
    pub fn record_blocks_max(&self) -> u32 {
        RECORD_BYTES_MAX / self.block_bytes()
    }

    /// Whether writes are refused, and how.
    pub fn write_protection(&self) -> Option<Sense> {
        if self.unit.spec().read_only {
            Some(Sense::WRITE_PROTECTED)
        } else if self.flags.contains(UnitFlags::SOFTWARE_WRITE_PROTECT) {
            Some(Sense::SOFTWARE_WRITE_PROTECTED)
        } else {
            None
        }
    }

    /// The extent, if it lies within the unit. An empty one must begin within it or at its end.
    ///
    /// # Errors
    ///
    /// LBA OUT OF RANGE.
    pub fn within(&self, lba: u64, count: u64) -> Result<Extent, Sense> {
        let capacity = self.capacity().0;
        if lba > capacity || count > capacity - lba {
            return Err(Sense::LBA_OUT_OF_RANGE);
        }
        Ok(Extent::new(lba, count))
    }
}
