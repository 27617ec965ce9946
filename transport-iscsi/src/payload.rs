//! Payloads whose bytes this crate may see.

use bytes::Bytes;
use engine::layers::split::pieces;
use engine::sum::{Sum, Sums};
use engine::units::{Extent, Geometry};

/// An engine payload that can be made of received bytes and shown to the wire.
pub trait WirePayload: engine::Payload {
    /// A handle to these bytes.
    fn from_bytes(bytes: Bytes) -> Self;
    /// The bytes.
    fn as_slice(&self) -> &[u8];
}

impl WirePayload for Bytes {
    fn from_bytes(bytes: Bytes) -> Self {
        bytes
    }
    fn as_slice(&self) -> &[u8] {
        self
    }
}

/// The sums of a write: CRC32C of each piece of `data`, in LBA order. `data` has the extent's bytes.
///
/// Made at ingress, so that whatever happens to the bytes later is noticed.
pub fn sums(block_bytes: u32, at: Extent, data: &[u8]) -> Sums {
    // Only the block size matters for where pieces end.
    let geometry = Geometry::standard(block_bytes, at.count);
    let mut rest = data;
    pieces(&geometry, at)
        .map(|piece| {
            let bytes = piece.count.0 as usize * block_bytes as usize;
            let (front, tail) = rest.split_at_checked(bytes).unwrap_or((rest, &[]));
            rest = tail;
            Sum(crc32c::crc32c(front))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_has_one_sum_per_grain_that_it_touches() {
        let data: Vec<u8> = (0..512 * 9).map(|i| (i / 512) as u8).collect();
        let got = sums(512, Extent::new(7, 9), &data);
        let expected = [&data[..512], &data[512..]].map(|piece| Sum(crc32c::crc32c(piece)));
        assert_eq!(got.as_slice(), expected);
    }
}
