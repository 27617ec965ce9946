//! Bodies of the fuzz targets for what the program reads from strangers: disk images.

use crate::image::{ImageError, Qcow2, ReadAt, Source};
use std::io;

/// Ranges that are walked, and bytes read of each: an image of some kilobytes may describe a disk of exabytes.
const RANGES: usize = 64;
const READ: u64 = 1 << 16;

impl ReadAt for &[u8] {
    fn size(&self) -> io::Result<u64> {
        Ok((**self).len() as u64)
    }

    fn read_exact_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        let from = usize::try_from(at).ok();
        let end = from.and_then(|from| from.checked_add(into.len()));
        let bytes = from.zip(end).and_then(|(from, end)| self.get(from..end));
        let bytes = bytes.ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(bytes);
        Ok(())
    }
}

/// A qcow2 image. It is refused, or it is a disk: what it says is data lies ascending within the disk, what it leaves
/// out reads as zeros, and a range read in two parts is the range read whole.
pub fn qcow2(input: &[u8]) {
    let Ok(mut image) = Qcow2::open(input) else {
        return;
    };
    // Whatever is wrong with it, it ends with an error.
    let _ = walk(&mut image);
}

fn walk(image: &mut dyn Source) -> Result<(), ImageError> {
    let size = image.size();
    let mut at = 0;
    for _ in 0..RANGES {
        let range = image.next_data(at)?;
        let (start, end) = range.map_or((size, size), |range| {
            assert!(range.start < range.end, "an empty range {range:?}");
            (range.start, range.end)
        });
        assert!(
            at <= start && end <= size,
            "{at} to {start}..{end} of {size}"
        );
        // Between two ranges of data lie holes.
        for hole in [
            at..start.min(at + READ),
            start.saturating_sub(READ).max(at)..start,
        ] {
            let bytes = read(image, hole.start, hole.end)?;
            assert!(bytes.iter().all(|byte| *byte == 0), "no hole at {hole:?}");
        }
        if start == end {
            return Ok(());
        }
        let last = end.saturating_sub(READ).max(start);
        for (from, to) in [(start, end.min(start + READ)), (last, end)] {
            let middle = from + (to - from) / 3;
            let parts = [read(image, from, middle)?, read(image, middle, to)?].concat();
            assert_eq!(parts, read(image, from, to)?, "{from}..{to} in two parts");
        }
        at = end;
    }
    Ok(())
}

fn read(image: &mut dyn Source, from: u64, to: u64) -> Result<Vec<u8>, ImageError> {
    let len = usize::try_from(to - from).map_err(io::Error::other)?;
    // What is not filled must not look like zeros.
    let mut bytes = vec![0xa5; len];
    image.read(from, &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_corpus_of_qcow2_holds_and_its_images_are_read() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/qcow2");
        let mut kinds = std::collections::BTreeSet::new();
        for entry in std::fs::read_dir(&corpus).expect("a corpus") {
            let path = entry.expect("an entry").path();
            let bytes = std::fs::read(&path).expect("a file");
            qcow2(&bytes);
            // Named for what it is: an image that QEMU made, and that is read to its end.
            let name = path.file_stem().expect("a name").to_string_lossy();
            if path.extension().is_some_and(|e| e == "qcow2") {
                let mut image = Qcow2::open(&*bytes).expect("an image");
                walk(&mut image).expect("a whole image");
                kinds.insert(name.into_owned());
            }
        }
        let made = ["v2", "v2-zlib", "v3", "v3-zlib", "v3-zstd"];
        assert_eq!(Vec::from_iter(&kinds), made);
    }
}
