use super::*;
use proptest::prelude::*;
use std::io::Write;

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Reads an image the way an import does: only where it says that there is data.
fn content(source: &mut dyn Source) -> Result<Vec<u8>, ImageError> {
    let mut whole = vec![0; source.size() as usize];
    let mut at = 0;
    while let Some(range) = source.next_data(at)? {
        let (start, end) = (range.start as usize, range.end as usize);
        source.read(range.start, &mut whole[start..end])?;
        at = range.end;
    }
    Ok(whole)
}

fn written(target: &str, size: u64, writes: &[(u64, Vec<u8>)]) -> File {
    let file = tempfile::tempfile().unwrap();
    let copy = file.try_clone().unwrap();
    let mut to: Box<dyn Target> = match target {
        "raw" => Box::new(RawWriter::start(copy, size).unwrap()),
        "stream" => Box::new(StreamWriter::start(copy, size)),
        _ => Box::new(Qcow2Writer::start(copy, size)),
    };
    for (at, bytes) in writes {
        to.write(*at, bytes).unwrap();
    }
    to.finish().unwrap();
    file
}

#[track_caller]
fn check_round_trip(size: u64, writes: &[(u64, Vec<u8>)]) {
    let mut expected = vec![0; size as usize];
    for (at, bytes) in writes {
        expected[*at as usize..*at as usize + bytes.len()].copy_from_slice(bytes);
    }
    for target in ["raw", "stream", "qcow2"] {
        let mut source = open(written(target, size, writes), None).unwrap();
        assert_eq!(source.size(), size, "{target}");
        assert!(content(&mut *source).unwrap() == expected, "{target}");
        let mut all = vec![0xaa; size as usize];
        source.read(0, &mut all).unwrap();
        assert!(all == expected, "{target} read whole");
    }
}

#[test]
fn an_empty_image_is_all_holes() {
    check_round_trip(1 << 20, &[]);
    let mut qcow2 = open(written("qcow2", 1 << 40, &[]), None).unwrap();
    assert_eq!(qcow2.size(), 1 << 40);
    assert_eq!(qcow2.next_data(0).unwrap(), None);
}

#[test]
fn data_at_odd_places_comes_back() {
    let writes = [
        (512, vec![1; 512]),
        (65_536 - 512, vec![2; 1024]),
        (300_032, vec![0; 70_000]),
        (700_000, vec![3; 200_000]),
    ];
    check_round_trip(1_000_448, &writes);
}

#[test]
fn holes_of_a_raw_file_are_found() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(64 << 20).unwrap();
    file.write_all_at(&[5; 4096], 32 << 20).unwrap();
    let mut raw = RawReader::open(file).unwrap();
    let range = raw.next_data(0).unwrap().unwrap();
    assert!(range.start <= 32 << 20 && range.end >= (32 << 20) + 4096);
    assert_eq!(raw.next_data((32 << 20) + 4096).unwrap(), None);
    assert_eq!(raw.next_data(1 << 40).unwrap(), None);
}

#[track_caller]
fn check_refused(bytes: &[u8], part: &str) {
    let error = open(file(bytes), None)
        .and_then(|mut s| content(&mut *s))
        .unwrap_err();
    assert!(error.to_string().contains(part), "{error}");
}

fn qcow2_bytes() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut image = written("qcow2", 1 << 20, &[(0, vec![7; 65_536])]);
    io::Seek::rewind(&mut image).unwrap();
    io::Read::read_to_end(&mut image, &mut bytes).unwrap();
    bytes
}

fn altered(at: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = qcow2_bytes();
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

#[test]
fn what_needs_another_file_or_a_key_is_refused() {
    check_refused(&altered(8, &512_u64.to_be_bytes()), "backing file");
    check_refused(&altered(32, &1_u32.to_be_bytes()), "encryption");
    check_refused(&altered(79, &[1 << 2]), "external data file");
}

#[test]
fn unknown_and_unreadable_features_are_refused() {
    check_refused(&altered(79, &[1 << 1]), "corrupt");
    check_refused(&altered(79, &[1 << 4]), "extended L2");
    check_refused(&altered(72, &[0x80]), "0x8000000000000000");
    check_refused(&altered(4, &4_u32.to_be_bytes()), "version 4");
    check_refused(&altered(104, &[2]), "compression type 2");
}

#[test]
fn headers_that_contradict_themselves_are_refused() {
    check_refused(&altered(20, &22_u32.to_be_bytes()), "2^22");
    check_refused(&altered(20, &8_u32.to_be_bytes()), "2^8");
    check_refused(&altered(24, &u64::MAX.to_be_bytes()), "a disk of");
    check_refused(&altered(24, &(1_u64 << 61).to_be_bytes()), "L1 table");
    check_refused(&altered(36, &0_u32.to_be_bytes()), "L1 table");
    check_refused(&altered(40, &1_u64.to_be_bytes()), "L1 table at byte 1");
    check_refused(&altered(40, &(1_u64 << 60).to_be_bytes()), "truncated");
    check_refused(&altered(100, &1_u32.to_be_bytes()), "header of 1 bytes");
}

#[test]
fn a_truncated_image_is_an_error_and_never_zeros() {
    let whole = qcow2_bytes();
    // Header, data, L2, L1, refcount block, refcount table: all of 64 KiB. The last two are not read.
    let needed = 4 * 65_536 - 65_536 + 16;
    for len in (4..needed).step_by(4093) {
        check_refused(&whole[..len], "truncated");
    }
}

#[test]
fn other_formats_are_named() {
    check_refused(b"KDMV and more", "VMDK");
    check_refused(b"vhdxfile", "VHDX");
    check_refused(b"\x1f\x8b\x08", "gzip");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_image_comes_back(parts in proptest::collection::vec((0_u64..40, 1_usize..5000, any::<u8>()), 0..6)) {
        let mut at = 0;
        let mut writes = Vec::new();
        for (gap, len, byte) in parts {
            at += gap * 4000;
            writes.push((at, vec![byte; len]));
            at += len as u64;
        }
        check_round_trip((at + 1).next_multiple_of(512), &writes);
    }

    #[test]
    fn a_hostile_image_never_panics(
        flips in proptest::collection::vec((0_usize..112, any::<u8>()), 1..6),
        deep in proptest::collection::vec((0_usize..70_000, any::<u8>()), 0..6),
        tables in proptest::collection::vec((131_072_usize..200_000, any::<u8>()), 0..6),
    ) {
        let mut bytes = qcow2_bytes();
        for (at, byte) in flips.into_iter().chain(deep).chain(tables) {
            bytes[at] = byte;
        }
        if let Ok(mut source) = open(file(&bytes), Some(Format::Qcow2))
            && source.size() <= 64 << 20
        {
            let _ = content(&mut *source);
        }
    }
}
