//! A reader of qcow2 images, versions 2 and 3.
//!
//! Source: QEMU, docs/interop/qcow2.txt. Reads standard clusters, clusters compressed with zlib (deflate) or zstd, zero and
//! unallocated clusters (both are holes). Refuses, with words, what would need another file or a key: backing files,
//! external data files, encryption; and extended L2 entries and every incompatible feature that it does not know.
//!
//! The headers of a hostile image bound nothing but themselves: every offset and length is checked before it is used, and
//! memory is taken for one cluster, one compressed cluster and one L2 table at a time, and for the L1 table (≤ 32 MiB).

use super::{ImageError, ReadAt, Source};
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;

/// Header bytes of version 2; version 3 has at least 104.
const HEADER_V2: usize = 72;

/// The L1 table's largest size in bytes, as in QEMU.
const L1_BYTES_MAX: u64 = 32 << 20;

/// Bits 9 to 55 of an L1 or L2 entry: the offset in the file.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Bit 62 of an L2 entry: the cluster is compressed.
const COMPRESSED: u64 = 1 << 62;
/// Bit 0 of an L2 entry of version 3: the cluster reads as zeros.
const ZERO: u64 = 1;

mod incompatible {
    pub(super) const DIRTY: u64 = 1;
    pub(super) const CORRUPT: u64 = 1 << 1;
    pub(super) const EXTERNAL_DATA: u64 = 1 << 2;
    pub(super) const COMPRESSION: u64 = 1 << 3;
    pub(super) const EXTENDED_L2: u64 = 1 << 4;
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Compression {
    Deflate,
    Zstd,
}

/// Where a cluster's bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cluster {
    Hole,
    At(u64),
    Compressed { at: u64, len: usize },
}

/// A qcow2 image that is read.
#[derive(Debug)]
pub struct Qcow2<F = File> {
    file: F,
    file_len: u64,
    size: u64,
    cluster_bits: u32,
    version: u32,
    compression: Compression,
    l1: Vec<u64>,
    /// The last L2 table read: its offset and entries.
    l2: Option<(u64, Vec<u64>)>,
    /// The last compressed cluster: its number and bytes.
    inflated: Option<(u64, Vec<u8>)>,
}

fn malformed<T>(why: impl Into<String>) -> Result<T, ImageError> {
    Err(ImageError::Malformed(why.into()))
}

fn unsupported<T>(what: impl Into<String>) -> Result<T, ImageError> {
    Err(ImageError::Unsupported(what.into()))
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(|b| b.first_chunk())
        .map_or(0, |b| u32::from_be_bytes(*b))
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..)
        .and_then(|b| b.first_chunk())
        .map_or(0, |b| u64::from_be_bytes(*b))
}

impl<F: ReadAt> Qcow2<F> {
    /// Reads the headers.
    ///
    /// # Errors
    ///
    /// See [`ImageError`].
    pub fn open(file: F) -> Result<Self, ImageError> {
        let file_len = file.size()?;
        let mut header = vec![0; 112.min(usize::try_from(file_len).unwrap_or(112))];
        file.read_exact_at(&mut header, 0)?;
        if !header.starts_with(b"QFI\xfb") {
            return malformed("it does not begin with qcow2's magic number");
        }
        if header.len() < HEADER_V2 {
            return Err(ImageError::Truncated { at: file_len });
        }
        let version = be32(&header, 4);
        let cluster_bits = be32(&header, 20);
        let size = be64(&header, 24);
        if version != 2 && version != 3 {
            return unsupported(format!("qcow2 version {version} (2 and 3 are)"));
        }
        if !(9..=21).contains(&cluster_bits) {
            return malformed(format!(
                "clusters of 2^{cluster_bits} bytes (2^9 to 2^21 are allowed)"
            ));
        }
        if size > 1 << 62 {
            return malformed(format!("a disk of {size} bytes"));
        }
        if be64(&header, 8) != 0 {
            return unsupported(
                "a backing file; make the image whole first: qemu-img convert -O qcow2 IMAGE WHOLE",
            );
        }
        if be32(&header, 32) != 0 {
            return unsupported("encryption; decrypt the image first: qemu-img convert");
        }
        let compression = if version == 3 {
            features(&header)?
        } else {
            Compression::Deflate
        };
        let mut image = Self {
            file,
            file_len,
            size,
            cluster_bits,
            version,
            compression,
            l1: Vec::new(),
            l2: None,
            inflated: None,
        };
        image.l1 = image.l1_table(be32(&header, 36), be64(&header, 40))?;
        Ok(image)
    }

    const fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Entries of an L2 table, of 8 bytes, one cluster long.
    const fn l2_entries(&self) -> u64 {
        self.cluster_bytes() / 8
    }

    fn l1_table(&self, entries: u32, at: u64) -> Result<Vec<u64>, ImageError> {
        let covered = self.cluster_bytes() * self.l2_entries();
        let wanted = self.size.div_ceil(covered);
        if u64::from(entries) < wanted {
            return malformed(format!(
                "an L1 table of {entries} entries, {wanted} are needed"
            ));
        }
        if wanted * 8 > L1_BYTES_MAX {
            return unsupported(format!("an L1 table of more than {L1_BYTES_MAX} bytes"));
        }
        self.table(at, wanted, "L1")
    }

    /// Reads a table of `entries` entries at `at`.
    fn table(&self, at: u64, entries: u64, name: &str) -> Result<Vec<u64>, ImageError> {
        if entries == 0 {
            return Ok(Vec::new());
        }
        if at == 0 || !at.is_multiple_of(self.cluster_bytes()) {
            return malformed(format!("an {name} table at byte {at}"));
        }
        let bytes = self.bytes(at, entries * 8)?;
        let (entries, _) = bytes.as_chunks::<8>();
        Ok(entries.iter().map(|e| u64::from_be_bytes(*e)).collect())
    }

    /// Reads bytes that the headers say are there.
    fn bytes(&self, at: u64, len: u64) -> Result<Vec<u8>, ImageError> {
        // Before memory is taken: both come from the image.
        match at.checked_add(len) {
            Some(end) if end <= self.file_len => {}
            _ => return Err(ImageError::Truncated { at: self.file_len }),
        }
        let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// Where the cluster of this number is.
    fn cluster(&mut self, number: u64) -> Result<Cluster, ImageError> {
        let l1_at = usize::try_from(number / self.l2_entries()).map_err(io::Error::other)?;
        let l2_offset = self.l1.get(l1_at).map_or(0, |entry| entry & OFFSET);
        if l2_offset == 0 {
            return Ok(Cluster::Hole);
        }
        let entries = self.l2_entries();
        let at = usize::try_from(number % entries).map_err(io::Error::other)?;
        let entry = match &self.l2 {
            Some((offset, table)) if *offset == l2_offset => table.get(at).copied(),
            _ => {
                let table = self.table(l2_offset, entries, "L2")?;
                let entry = table.get(at).copied();
                self.l2 = Some((l2_offset, table));
                entry
            }
        };
        self.located(entry.unwrap_or(0))
    }

    fn located(&self, entry: u64) -> Result<Cluster, ImageError> {
        if entry & COMPRESSED != 0 {
            // The offset's width depends on the cluster's: bits 0 to x − 1; then the number of further 512-byte sectors.
            let x = 62 - (self.cluster_bits - 8);
            let at = entry & ((1 << x) - 1);
            let sectors = ((entry >> x) & ((1 << (self.cluster_bits - 8)) - 1)) + 1;
            let len = sectors * 512 - (at & 511);
            let len = usize::try_from(len).map_err(io::Error::other)?;
            return Ok(Cluster::Compressed { at, len });
        }
        if self.version >= 3 && entry & ZERO != 0 {
            return Ok(Cluster::Hole);
        }
        let at = entry & OFFSET;
        if at == 0 {
            return Ok(Cluster::Hole);
        }
        if !at.is_multiple_of(self.cluster_bytes()) {
            return malformed(format!("a cluster at byte {at}"));
        }
        Ok(Cluster::At(at))
    }

    fn inflate(&mut self, number: u64, at: u64, len: usize) -> Result<&[u8], ImageError> {
        let known = self.inflated.as_ref().is_some_and(|(n, _)| *n == number);
        if !known {
            // The last sector of a compressed cluster may lie behind the file's end: only the stream must be whole.
            let there = self.file_len.saturating_sub(at);
            let len = there.min(len as u64);
            if len == 0 {
                return Err(ImageError::Truncated { at: self.file_len });
            }
            let packed = self.bytes(at, len)?;
            let mut plain =
                vec![0; usize::try_from(self.cluster_bytes()).map_err(io::Error::other)?];
            let done = match self.compression {
                Compression::Deflate => {
                    flate2::read::DeflateDecoder::new(&*packed).read_exact(&mut plain)
                }
                Compression::Zstd => ruzstd::decoding::StreamingDecoder::new(&*packed)
                    .map_err(io::Error::other)
                    .and_then(|mut decoder| decoder.read_exact(&mut plain)),
            };
            if done.is_err() {
                return malformed(format!(
                    "the compressed cluster at byte {at} does not unpack"
                ));
            }
            self.inflated = Some((number, plain));
        }
        Ok(self.inflated.as_ref().map_or(&[], |(_, plain)| plain))
    }
}

fn features(header: &[u8]) -> Result<Compression, ImageError> {
    let bits = be64(header, 72);
    let header_len = be32(header, 100);
    if header_len < 104 || header.len() < 104 {
        return malformed(format!("a header of {header_len} bytes"));
    }
    if bits & incompatible::CORRUPT != 0 {
        return malformed("it is marked corrupt; try qemu-img check -r all");
    }
    if bits & incompatible::EXTERNAL_DATA != 0 {
        return unsupported("an external data file; make the image whole first: qemu-img convert");
    }
    if bits & incompatible::EXTENDED_L2 != 0 {
        return unsupported(
            "extended L2 entries (subclusters); convert: qemu-img convert -O qcow2",
        );
    }
    // Dirty says that reference counts may be wrong; reading needs none.
    let unknown = bits & !(incompatible::DIRTY | incompatible::COMPRESSION);
    if unknown != 0 {
        return unsupported(format!("the unknown incompatible features {unknown:#x}"));
    }
    let kind = header.get(104).copied().filter(|_| header_len > 104);
    match (bits & incompatible::COMPRESSION != 0, kind.unwrap_or(0)) {
        (_, 0) => Ok(Compression::Deflate),
        (true, 1) => Ok(Compression::Zstd),
        (_, kind) => unsupported(format!("compression type {kind}")),
    }
}

impl<F: ReadAt> Source for Qcow2<F> {
    fn size(&self) -> u64 {
        self.size
    }

    fn next_data(&mut self, at: u64) -> Result<Option<Range<u64>>, ImageError> {
        let per_table = self.l2_entries();
        let count = self.size.div_ceil(self.cluster_bytes());
        let mut number = at >> self.cluster_bits;
        let mut found: Option<u64> = None;
        while number < count {
            let l1_at = usize::try_from(number / per_table).map_err(io::Error::other)?;
            let empty = self.l1.get(l1_at).is_none_or(|entry| entry & OFFSET == 0);
            if empty || self.cluster(number)? == Cluster::Hole {
                if found.is_some() {
                    break;
                }
                number = if empty {
                    (number / per_table + 1) * per_table
                } else {
                    number + 1
                };
                continue;
            }
            found.get_or_insert(number);
            number += 1;
            // Long enough to be useful; the caller asks on from its end.
            if found.is_some_and(|first| number - first >= per_table) {
                break;
            }
        }
        let range = found.map(|first| {
            let start = (first << self.cluster_bits).max(at);
            start..(number << self.cluster_bits).min(self.size)
        });
        Ok(range.filter(|r| r.start < r.end))
    }

    fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), ImageError> {
        let cluster_bytes = self.cluster_bytes();
        let (mut at, mut rest) = (at, into);
        while !rest.is_empty() {
            let number = at >> self.cluster_bits;
            let within = at & (cluster_bytes - 1);
            let len = usize::try_from(cluster_bytes - within).map_err(io::Error::other)?;
            let len = len.min(rest.len());
            let (part, after) = rest.split_at_mut(len);
            match self.cluster(number)? {
                Cluster::Hole => part.fill(0),
                Cluster::At(place) => {
                    let from = place + within;
                    if from + len as u64 > self.file_len {
                        return Err(ImageError::Truncated { at: self.file_len });
                    }
                    self.file.read_exact_at(part, from)?;
                }
                Cluster::Compressed {
                    at: place,
                    len: packed,
                } => {
                    let plain = self.inflate(number, place, packed)?;
                    let from = usize::try_from(within).map_err(io::Error::other)?;
                    let Some(bytes) = plain.get(from..from + len) else {
                        return malformed(format!(
                            "the compressed cluster at byte {place} is short"
                        ));
                    };
                    part.copy_from_slice(bytes);
                }
            }
            at += len as u64;
            rest = after;
        }
        Ok(())
    }
}
