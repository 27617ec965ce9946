//! Symbolic payload: a block is a 16-byte stamp that names the write which made it.
//!
//! The engine moves handles and never looks inside, so it cannot tell. Where bytes are needed (an expanded run, the
//! restorer) [`Stamp::expand`] makes the block's bytes and [`Stamp::read`] finds the stamp in bytes, refusing any that
//! are not exactly what a stamp expands to.

use crate::choice::mix;
use engine::payload::{Part, Parts, Payload};
use engine::sum::Sum;
use engine::units::ByteCount;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A block's content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp {
    /// The volume whose guest wrote it, from 1; 0 for zeros; [`Stamp::GARBAGE`] for bytes that nobody wrote.
    pub volume: u32,
    /// The block it was written to.
    pub lba: u32,
    /// The write, from 1; 0 for zeros.
    pub write: u64,
}

impl Stamp {
    /// A block of zeros.
    pub const ZERO: Self = Self {
        volume: 0,
        lba: 0,
        write: 0,
    };
    /// The volume number of bytes that nobody wrote.
    pub const GARBAGE: u32 = u32::MAX;

    /// Bytes that nobody wrote, told apart by `n`.
    pub const fn garbage(n: u64) -> Self {
        Self {
            volume: Self::GARBAGE,
            lba: 0,
            write: n,
        }
    }

    /// Whether these are zeros.
    pub const fn is_zero(self) -> bool {
        self.volume == 0
    }

    fn key(self) -> u64 {
        mix(
            u64::from(self.volume) << 32 | u64::from(self.lba),
            self.write,
        )
    }

    /// The block's bytes: the stamp, then a stream that depends on it.
    pub fn expand(self, out: &mut [u8]) {
        if self.is_zero() {
            out.fill(0);
            return;
        }
        let key = self.key();
        for (i, word) in out.chunks_exact_mut(8).enumerate() {
            let value = match i {
                0 => u64::from(self.volume) << 32 | u64::from(self.lba),
                1 => self.write,
                _ => key.wrapping_mul(i as u64 | 1) ^ key.rotate_left(i as u32 & 63),
            };
            word.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// The stamp that expands to exactly these bytes; garbage if there is none.
    pub fn read(block: &[u8]) -> Self {
        let word = |i: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&block[8 * i..8 * i + 8]);
            u64::from_le_bytes(bytes)
        };
        let found = Self {
            volume: (word(0) >> 32) as u32,
            lba: word(0) as u32,
            write: word(1),
        };
        let mut expected = vec![0; block.len()];
        found.expand(&mut expected);
        if expected == block {
            return found;
        }
        Self::garbage(block.iter().fold(0, |h, b| mix(h, u64::from(*b))))
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.volume {
            0 => write!(f, "zero"),
            Self::GARBAGE => write!(f, "garbage:{:x}", self.write & 0xffff),
            v => write!(f, "v{v}w{}@{}", self.write, self.lba),
        }
    }
}

/// A handle to blocks.
#[derive(Clone)]
pub struct Blocks {
    unit: u32,
    count: u32,
    held: Held,
}

#[derive(Clone)]
enum Held {
    /// Consecutive blocks of one write, or zeros.
    Run(Stamp),
    /// Anything, from an index on.
    Many(Arc<[Stamp]>, u32),
}

impl Blocks {
    /// `count` blocks of `unit` bytes that one write puts from `first` on.
    pub const fn run(unit: u32, first: Stamp, count: u32) -> Self {
        Self {
            unit,
            count,
            held: Held::Run(first),
        }
    }

    /// These blocks.
    pub fn from_stamps(unit: u32, stamps: &[Stamp]) -> Self {
        let count = stamps.len() as u32;
        let first = stamps.first().copied().unwrap_or_default();
        let is_run = stamps
            .iter()
            .enumerate()
            .all(|(i, s)| *s == nth(first, i as u32));
        if is_run {
            return Self::run(unit, first, count);
        }
        Self {
            unit,
            count,
            held: Held::Many(stamps.into(), 0),
        }
    }

    /// The stamps in order.
    pub fn stamps(&self) -> impl Iterator<Item = Stamp> + '_ {
        (0..self.count).map(|i| self.get(i))
    }

    fn get(&self, i: u32) -> Stamp {
        match &self.held {
            Held::Run(first) => nth(*first, i),
            Held::Many(all, start) => all[(start + i) as usize],
        }
    }

    /// Bytes of a block.
    pub const fn unit(&self) -> u32 {
        self.unit
    }
}

fn nth(first: Stamp, i: u32) -> Stamp {
    if first.is_zero() || first.volume == Stamp::GARBAGE {
        return first;
    }
    Stamp {
        lba: first.lba + i,
        ..first
    }
}

impl Payload for Blocks {
    fn len(&self) -> ByteCount {
        ByteCount(u64::from(self.count) * u64::from(self.unit))
    }

    fn slice(&self, range: Range<u64>) -> Self {
        let unit = u64::from(self.unit);
        assert!(
            range.start.is_multiple_of(unit) && range.end.is_multiple_of(unit),
            "the engine cut a block: {range:?} of {unit}-byte blocks"
        );
        assert!(
            range.end <= self.len().0 && range.start <= range.end,
            "slice {range:?} of {:?}",
            self.len()
        );
        let start = (range.start / unit) as u32;
        let count = ((range.end - range.start) / unit) as u32;
        let held = match &self.held {
            Held::Run(first) => Held::Run(nth(*first, start)),
            Held::Many(all, from) => Held::Many(all.clone(), from + start),
        };
        Self {
            unit: self.unit,
            count,
            held,
        }
    }
}

impl fmt::Debug for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.stamps()).finish()
    }
}

/// The stamps of a scatter list of `unit`-byte blocks, in order.
pub fn stamps_of(parts: &Parts<Blocks>, unit: u32) -> Vec<Stamp> {
    let mut out = Vec::new();
    push_stamps(parts, unit, &mut out);
    out
}

/// Appends the stamps of a scatter list.
pub fn push_stamps(parts: &Parts<Blocks>, unit: u32, out: &mut Vec<Stamp>) {
    for part in &parts.0 {
        match part {
            Part::Data(blocks) => out.extend(blocks.stamps()),
            Part::Zeros(n) => {
                let count = n.0 / u64::from(unit);
                assert_eq!(count * u64::from(unit), n.0, "zeros that cut a block");
                out.extend(std::iter::repeat_n(Stamp::ZERO, count as usize));
            }
        }
    }
}

/// How sums are made: symbolic (a mix of stamps) or the real CRC32C of the expanded bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Summing {
    /// A deterministic 32-bit mix. Zeros have their real CRC32C in both ways, as the engine may know it.
    Symbolic,
    /// CRC32C of the bytes.
    Real,
}

impl Summing {
    /// The sum of a piece.
    pub fn piece(self, unit: u32, stamps: &[Stamp]) -> Sum {
        if stamps.iter().all(|s| s.is_zero()) {
            return Sum(zeros_sum(stamps.len() as u32 * unit));
        }
        match self {
            Self::Symbolic => {
                let h = stamps.iter().fold(u64::from(unit), |h, s| mix(h, s.key()));
                Sum((h >> 32) as u32 ^ h as u32)
            }
            Self::Real => {
                let mut block = vec![0; unit as usize];
                Sum(stamps.iter().fold(0, |crc, s| {
                    s.expand(&mut block);
                    crc32c::crc32c_append(crc, &block)
                }))
            }
        }
    }
}

fn zeros_sum(len: u32) -> u32 {
    static TABLE: std::sync::LazyLock<[u32; 9]> = std::sync::LazyLock::new(|| {
        let zeros = [0; 4096];
        std::array::from_fn(|i| crc32c::crc32c(&zeros[..512 * i]))
    });
    // A piece is a whole number of 512-byte sectors within one grain.
    TABLE[(len / 512) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_found_in_its_bytes_and_in_no_others() {
        for unit in [512, 4096] {
            let stamp = Stamp {
                volume: 3,
                lba: 77,
                write: 1 << 40,
            };
            let mut bytes = vec![0; unit];
            stamp.expand(&mut bytes);
            assert_eq!(Stamp::read(&bytes), stamp);
            for at in [0, 9, 20, unit - 1] {
                let mut bad = bytes.clone();
                bad[at] ^= 4;
                assert_eq!(Stamp::read(&bad).volume, Stamp::GARBAGE);
            }
            assert_eq!(Stamp::read(&vec![0; unit]), Stamp::ZERO);
        }
    }

    #[test]
    fn a_slice_of_a_run_is_the_same_blocks() {
        let run = Blocks::run(
            512,
            Stamp {
                volume: 1,
                lba: 10,
                write: 5,
            },
            8,
        );
        let list: Vec<Stamp> = run.stamps().collect();
        let many = Blocks::from_stamps(512, &[list[3], list[1], list[2]]);
        assert_eq!(
            run.slice(1024..2048).stamps().collect::<Vec<_>>(),
            list[2..4]
        );
        assert_eq!(
            many.slice(512..1536).stamps().collect::<Vec<_>>(),
            list[1..3]
        );
    }

    #[test]
    fn zeros_have_their_real_sum() {
        for summing in [Summing::Symbolic, Summing::Real] {
            assert_eq!(
                summing.piece(512, &[Stamp::ZERO; 3]).0,
                crc32c::crc32c(&[0; 1536])
            );
        }
    }

    #[test]
    fn sums_tell_order_and_place() {
        let a = Stamp {
            volume: 1,
            lba: 1,
            write: 1,
        };
        let b = Stamp {
            volume: 1,
            lba: 2,
            write: 1,
        };
        assert_ne!(
            Summing::Symbolic.piece(512, &[a, b]),
            Summing::Symbolic.piece(512, &[b, a])
        );
        assert_ne!(
            Summing::Symbolic.piece(4096, &[a]),
            Summing::Symbolic.piece(4096, &[b])
        );
    }
}
