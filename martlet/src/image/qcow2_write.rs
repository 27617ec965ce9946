//! A writer of qcow2 version 3: 64 KiB clusters, one after another, without compression.
//!
//! ```text
//! cluster 0: header │ data clusters in ascending order │ L2 tables │ L1 │ refcount blocks │ refcount table
//! ```
//!
//! Every cluster is used once, so that every reference count is 1. The header is written last: a file whose writing was
//! interrupted is no image. Source: QEMU, docs/interop/qcow2.txt.

use super::{ImageError, Target, is_zero};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

const CLUSTER_BITS: u32 = 16;
const CLUSTER: usize = 1 << CLUSTER_BITS;
/// Entries of an L2 table.
const L2_ENTRIES: u64 = (CLUSTER / 8) as u64;
/// 16-bit counts of a refcount block.
const BLOCK_COUNTS: u64 = (CLUSTER / 2) as u64;
/// "The cluster is used once": the copied flag of L1 and L2 entries.
const COPIED: u64 = 1 << 63;

/// Writes a qcow2 image.
#[derive(Debug)]
pub struct Qcow2Writer {
    file: File,
    size: u64,
    /// Clusters written so far, the header's included.
    used: u64,
    /// Guest cluster → its place in the file, in clusters.
    map: BTreeMap<u64, u64>,
    /// The guest cluster that is being gathered.
    open: Option<(u64, Vec<u8>)>,
}

impl Qcow2Writer {
    /// Starts an image of a disk of `size` bytes in an empty file.
    pub const fn start(file: File, size: u64) -> Self {
        Self {
            file,
            size,
            used: 1,
            map: BTreeMap::new(),
            open: None,
        }
    }

    fn flush(&mut self) -> Result<(), ImageError> {
        if let Some((number, bytes)) = self.open.take()
            && !is_zero(&bytes)
        {
            let place = self.append(&bytes)?;
            self.map.insert(number, place);
        }
        Ok(())
    }

    /// Writes clusters at the end; the place of the first.
    fn append(&mut self, bytes: &[u8]) -> Result<u64, ImageError> {
        let place = self.used;
        self.file.write_all_at(bytes, place << CLUSTER_BITS)?;
        self.used += bytes.len().div_ceil(CLUSTER) as u64;
        Ok(place)
    }

    /// Writes a table of 8-byte entries, padded to whole clusters.
    fn append_table(&mut self, entries: &[u64]) -> Result<u64, ImageError> {
        let mut bytes: Vec<u8> = entries.iter().flat_map(|e| e.to_be_bytes()).collect();
        bytes.resize(bytes.len().next_multiple_of(CLUSTER).max(CLUSTER), 0);
        self.append(&bytes)
    }
}

impl Target for Qcow2Writer {
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), ImageError> {
        let (mut at, mut rest) = (at, bytes);
        while !rest.is_empty() {
            let number = at >> CLUSTER_BITS;
            // Within a cluster, so it fits.
            let within = (at & (CLUSTER as u64 - 1)) as usize;
            if self.open.as_ref().is_none_or(|(n, _)| *n != number) {
                self.flush()?;
                self.open = Some((number, vec![0; CLUSTER]));
            }
            let (part, after) = rest.split_at(rest.len().min(CLUSTER - within));
            if let Some(to) = self
                .open
                .as_mut()
                .and_then(|(_, cluster)| cluster.get_mut(within..within + part.len()))
            {
                to.copy_from_slice(part);
            }
            at += part.len() as u64;
            rest = after;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), ImageError> {
        self.flush()?;
        let l1_entries = self.size.div_ceil(CLUSTER as u64 * L2_ENTRIES);
        let mut l1 = vec![0_u64; usize::try_from(l1_entries).map_err(std::io::Error::other)?];
        let map = std::mem::take(&mut self.map);
        let mut rows = map.into_iter().peekable();
        while let Some((first, _)) = rows.peek() {
            let table = first / L2_ENTRIES;
            let mut l2 = vec![0_u64; L2_ENTRIES as usize];
            while let Some((number, place)) = rows.next_if(|(n, _)| n / L2_ENTRIES == table) {
                if let Some(entry) = l2.get_mut((number % L2_ENTRIES) as usize) {
                    *entry = place << CLUSTER_BITS | COPIED;
                }
            }
            let place = self.append_table(&l2)?;
            if let Some(entry) = l1.get_mut(table as usize) {
                *entry = place << CLUSTER_BITS | COPIED;
            }
        }
        let l1_place = self.append_table(&l1)?;
        // The counts cover their own blocks and table: grow until nothing changes.
        let (mut blocks, mut table_clusters) = (1, 1);
        loop {
            let total = self.used + blocks + table_clusters;
            let next = total.div_ceil(BLOCK_COUNTS);
            let next_table = (next * 8).div_ceil(CLUSTER as u64);
            if (next, next_table) == (blocks, table_clusters) {
                break;
            }
            (blocks, table_clusters) = (next, next_table);
        }
        let mut left = self.used + blocks + table_clusters;
        let mut places = Vec::new();
        for _ in 0..blocks {
            let here = left.min(BLOCK_COUNTS);
            left -= here;
            let mut block: Vec<u8> = (0..here).flat_map(|_| 1_u16.to_be_bytes()).collect();
            block.resize(CLUSTER, 0);
            places.push(self.append(&block)? << CLUSTER_BITS);
        }
        let table_place = self.append_table(&places)?;
        let header = header(self.size, l1_entries, l1_place, table_place, table_clusters);
        let whole = self.used << CLUSTER_BITS;
        self.file.set_len(whole)?;
        self.file.sync_all()?;
        self.file.write_all_at(&header, 0)?;
        Ok(self.file.sync_all()?)
    }
}

fn header(size: u64, l1_entries: u64, l1: u64, refcounts: u64, refcount_clusters: u64) -> Vec<u8> {
    let mut h = Vec::with_capacity(112);
    h.extend_from_slice(b"QFI\xfb");
    h.extend_from_slice(&3_u32.to_be_bytes()); // version
    h.extend_from_slice(&[0; 12]); // no backing file
    h.extend_from_slice(&CLUSTER_BITS.to_be_bytes());
    h.extend_from_slice(&size.to_be_bytes());
    h.extend_from_slice(&0_u32.to_be_bytes()); // no encryption
    // A disk of 2^62 bytes has 2^33 L2 tables of 512 MiB each: `Vec` above would have failed before this does.
    h.extend_from_slice(&u32::try_from(l1_entries).unwrap_or(u32::MAX).to_be_bytes());
    h.extend_from_slice(&(l1 << CLUSTER_BITS).to_be_bytes());
    h.extend_from_slice(&(refcounts << CLUSTER_BITS).to_be_bytes());
    h.extend_from_slice(
        &u32::try_from(refcount_clusters)
            .unwrap_or(u32::MAX)
            .to_be_bytes(),
    );
    h.extend_from_slice(&[0; 12]); // no snapshots
    h.extend_from_slice(&[0; 24]); // no feature bits
    h.extend_from_slice(&4_u32.to_be_bytes()); // counts of 2^4 bits
    h.extend_from_slice(&112_u32.to_be_bytes()); // header length
    h.extend_from_slice(&[0; 8]); // compression type deflate, padding
    // The end of the header extensions.
    h.extend_from_slice(&[0; 8]);
    h
}
