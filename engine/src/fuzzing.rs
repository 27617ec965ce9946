//! Bodies of the fuzz targets for stored bytes: a target is one line that calls one of these.
//!
//! Each reads its input twice: as it is, and as the fields behind a good envelope, since no fuzzer guesses a checksum. What is
//! read must be written again as the same bytes; nothing may panic, or take memory that the input does not account for.

use crate::codec::{ENVELOPE_BYTES, Magic, Unreadable, seal};
use crate::ids::{FileId, VolumeId};
use crate::journal::record::{JournalKey, PAGE_BYTES};
use crate::journal::{index, note, record};
use crate::object::{data, frame, token};
use crate::table::{leaf, root, superblock};
use alloc::vec::Vec;

/// Parses `input` as it is and behind an envelope; whatever is accepted must come back from `emit`.
fn both<T>(
    input: &[u8],
    magic: Magic,
    seed: u32,
    parse: impl Fn(&[u8]) -> Result<T, Unreadable>,
    emit: impl Fn(&T) -> Vec<u8>,
) {
    let mut sealed = [&[0; ENVELOPE_BYTES], input].concat();
    seal(&mut sealed, magic, seed);
    for bytes in [input, &sealed] {
        if let Ok(value) = parse(bytes) {
            let again = emit(&value);
            let same = bytes.get(..again.len());
            // What lies behind a thing, and unknown compatible bits, are not read.
            let features = 16..20;
            let is_same = same.is_some_and(|same| {
                same[..features.start] == again[..features.start]
                    && same[ENVELOPE_BYTES..] == again[ENVELOPE_BYTES..]
            });
            assert!(is_same, "read {bytes:02x?}, written again {again:02x?}");
        }
    }
}

fn key() -> JournalKey {
    JournalKey::new(VolumeId([1; 16]), [2; 16])
}

const FILE: FileId = FileId(1);

/// A journal record's head page.
pub fn journal_record(input: &[u8]) {
    // A head lies in one page.
    let input = &input[..input.len().min(PAGE_BYTES as usize - ENVELOPE_BYTES)];
    let parse = |bytes: &[u8]| record::parse(bytes, FILE, &key());
    both(input, Magic::RECORD, key().seed(), parse, |parsed| {
        assert!(parsed.pages() <= 1 + record::RECORD_PIECES_MAX as u32);
        let lengths: u32 = parsed.pieces().map(|(len, _)| len).sum();
        assert_eq!(lengths, parsed.data_bytes);
        let page = record::emit(&parsed.head, parsed.data_bytes, &key());
        let len = usize::from(u16::from_le_bytes([page[12], page[13]]));
        page[..len].to_vec()
    });
}

/// A journal file's index.
pub fn journal_index(input: &[u8]) {
    let parse = |bytes: &[u8]| index::parse(bytes, FILE, &key());
    both(input, Magic::INDEX, key().seed(), parse, |index| {
        index::emit(index, &key(), u64::MAX).unwrap_or_default()
    });
}

/// A note.
pub fn journal_note(input: &[u8]) {
    both(input, Magic::NOTE, 0, note::parse, note::emit);
}

/// A superblock.
pub fn superblock(input: &[u8]) {
    both(input, Magic::VOLUME, 0, superblock::parse, superblock::emit);
}

/// A claim or an opened.
pub fn token(input: &[u8]) {
    both(input, Magic::TOKEN, 0, token::parse, token::emit);
}

/// A root.
pub fn root(input: &[u8]) {
    both(input, Magic::ROOT, 0, root::parse, |root| {
        root::emit(root).bytes
    });
}

/// A leaf.
pub fn leaf(input: &[u8]) {
    both(input, Magic::LEAF, 0, leaf::parse, |leaf| {
        assert_eq!(leaf::emit(leaf).len(), leaf.encoded_len() as usize);
        leaf::emit(leaf)
    });
}

/// A frame's header.
pub fn frame(input: &[u8]) {
    both(input, Magic::FRAME, 0, frame::parse, |header| {
        frame::emit(header).to_vec()
    });
}

/// The directory of a data object.
pub fn tail(input: &[u8]) {
    both(input, Magic::TAIL, 0, data::parse_tail, data::emit_tail);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Mostly zeros and small numbers: what counts, kinds and lengths are made of.
    fn input() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![6 => Just(0_u8), 3 => 0_u8..5, 1 => any::<u8>()];
        vec(byte, 0..600)
    }

    proptest! {
        #[test]
        fn the_bodies_hold_on_small_inputs(input in input()) {
            for body in [journal_record, journal_index, journal_note, superblock, token, root, leaf, frame, tail] {
                body(&input);
            }
        }
    }
}
