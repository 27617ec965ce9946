//! Sums and hashes: what proves that bytes are what they should be.

use crate::ids::VolumeId;
use crate::units::GrainIndex;
use core::fmt;
use smallvec::SmallVec;

/// CRC32C (Castagnoli) of a piece or a grain, made outside the engine from the bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sum(pub u32);

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// One [`Sum`] per piece of an extent, in LBA order.
pub type Sums = SmallVec<[Sum; 2]>;

/// A grain's sum as frames store it: bound to the volume and the grain, so that misplaced data is caught too.
///
/// `CRC32C(grain) XOR CRC32C(volume id ‖ grain index as u64 little-endian)`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BoundSum(pub u32);

impl fmt::Debug for BoundSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl Sum {
    /// Binds the sum of a whole grain to its place.
    pub fn bind(self, volume: VolumeId, grain: GrainIndex) -> BoundSum {
        BoundSum(self.0 ^ place_sum(volume, grain))
    }
}

impl BoundSum {
    /// The plain CRC32C that the grain at this place must have.
    pub fn unbind(self, volume: VolumeId, grain: GrainIndex) -> Sum {
        Sum(self.0 ^ place_sum(volume, grain))
    }
}

fn place_sum(volume: VolumeId, grain: GrainIndex) -> u32 {
    let crc = crc32c_update(!0, &volume.0);
    !crc32c_update(crc, &grain.0.to_le_bytes())
}

// 24 bytes per frame lookup: a table by bytes costs some 40 ns and needs neither `std` nor a processor feature.
fn crc32c_update(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| {
        (crc >> 8) ^ TABLE[usize::from((crc as u8) ^ byte)]
    })
}

const TABLE: [u32; 256] = {
    let mut table = [0_u32; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            // 0x82f63b78 is Castagnoli's polynomial, reflected (RFC 3720 appendix B.4, "CRC Examples").
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_sum_is_crc32c_of_volume_and_grain() {
        let volume = VolumeId([7; 16]);
        let mut bytes = [7_u8; 24];
        bytes[16..].copy_from_slice(&0x0102_0304_u64.to_le_bytes());
        assert_eq!(
            place_sum(volume, GrainIndex(0x0102_0304)),
            crc32c::crc32c(&bytes)
        );
    }

    #[test]
    fn unbind_undoes_bind() {
        let (volume, grain) = (VolumeId([3; 16]), GrainIndex(9));
        assert_eq!(
            Sum(0xdead_beef).bind(volume, grain).unbind(volume, grain),
            Sum(0xdead_beef)
        );
    }
}
