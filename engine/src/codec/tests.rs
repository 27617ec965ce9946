use super::*;
use alloc::vec;
use core::fmt::Debug;
use proptest::prelude::*;

/// Every bit of `bytes` is turned once (every `step`th byte), and the bytes are cut at every length: all must be refused.
#[track_caller]
pub(crate) fn check_refusals<T: Debug>(
    bytes: &[u8],
    step: usize,
    parse: impl Fn(&[u8]) -> Result<T, Unreadable>,
) {
    assert!(parse(bytes).is_ok(), "unharmed bytes are read");
    for at in (0..bytes.len()).step_by(step) {
        for bit in 0..8 {
            let mut harmed = bytes.to_vec();
            harmed[at] ^= 1 << bit;
            let read = parse(&harmed);
            assert!(read.is_err(), "bit {bit} of byte {at} turned: {read:?}");
        }
        let read = parse(&bytes[..at]);
        assert!(read.is_err(), "cut to {at} bytes: {read:?}");
    }
}

/// Seals `bytes` again after `harm`: what is wrong is then found by its meaning, not by the checksum.
pub(crate) fn resealed(bytes: &[u8], harm: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut harmed = bytes.to_vec();
    let magic = Magic(harmed[..8].try_into().unwrap());
    harm(&mut harmed);
    let (head, rest) = harmed.split_at(12);
    let (head, rest) = (head.to_vec(), rest.to_vec());
    seal(&mut harmed, magic, 0);
    // `seal` writes version, length and feature bits of its own.
    harmed[..12].copy_from_slice(&head);
    harmed[12..28].copy_from_slice(&rest[..16]);
    let sum = checksum(&harmed, 0);
    harmed[28..32].copy_from_slice(&sum.to_le_bytes());
    harmed
}

/// The envelope's fields are judged one by one.
#[track_caller]
pub(crate) fn check_envelope<T: Debug + PartialEq>(
    bytes: &[u8],
    parse: impl Fn(&[u8]) -> Result<T, Unreadable>,
) {
    check_envelope_with(bytes, parse(bytes), parse);
}

/// As [`check_envelope`]; `compatible` is what comes of an unknown compatible bit.
#[track_caller]
pub(crate) fn check_envelope_with<T: Debug + PartialEq>(
    bytes: &[u8],
    compatible: Result<T, Unreadable>,
    parse: impl Fn(&[u8]) -> Result<T, Unreadable>,
) {
    let with = |at: usize, value: u8| parse(&resealed(bytes, |harmed| harmed[at] = value));
    assert_eq!(with(8, 2), Err(Unreadable::TooNew), "major version");
    assert_eq!(with(16, 1), compatible, "compatible bit");
    assert_eq!(
        with(20, 1),
        Err(Unreadable::TooNew),
        "read-only-compatible bit"
    );
    assert_eq!(with(24, 1), Err(Unreadable::TooNew), "incompatible bit");
    assert_eq!(with(0, 0), Err(Malformed::Magic.into()));
}

#[test]
fn an_envelope_is_32_bytes_of_known_value() {
    let mut bytes = vec![0; 32];
    seal(&mut bytes, Magic::DOOR, 0);
    let expected = b"mlt:door\x01\0\0\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    assert_eq!(bytes[..28], expected[..]);
    assert_eq!(bytes[28..32], crc32fast::hash(expected).to_le_bytes());
    check_refusals(&bytes, 1, |bytes| {
        open_whole(bytes, Magic::DOOR).map(|_| ())
    });
    check_envelope(&bytes, |bytes| open_whole(bytes, Magic::DOOR).map(|_| ()));
}

#[test]
fn a_seed_is_part_of_the_checksum() {
    let mut bytes = vec![0; 40];
    seal(&mut bytes, Magic::NOTE, 7);
    assert!(open(&bytes, Magic::NOTE, 7).is_ok());
    assert_eq!(
        open(&bytes, Magic::NOTE, 8).map(|_| ()),
        Err(Malformed::Checksum.into())
    );
}

#[test]
fn a_length_below_the_envelope_or_past_the_input_is_short() {
    let bytes = [
        Magic::NOTE.0,
        [1, 0, 0, 0, 31, 0, 0, 0],
        [0; 8],
        [0; 8],
        [0; 8],
    ]
    .concat();
    let read = |bytes: &[u8]| open(bytes, Magic::NOTE, 0).map(|_| ());
    assert_eq!(read(&bytes), Err(Malformed::Short.into()));
    let mut long = bytes;
    long[12..16].fill(0xff);
    assert_eq!(read(&long), Err(Malformed::Short.into()));
}

#[test]
fn a_count_is_bounded_by_the_input() {
    let bytes = [0xff_u8; 12];
    assert_eq!(Reader::new(&bytes).count(1), Err(Malformed::Short));
    let bytes = [2, 0, 0, 0, 1, 2, 3, 4];
    assert_eq!(Reader::new(&bytes).count(2), Ok(2));
    assert_eq!(Reader::new(&bytes).count(3), Err(Malformed::Short));
}

proptest! {
    #[test]
    fn fields_come_back_as_they_were_put(a: u8, b: u16, c: u32, d: u64, text in "[a-z]{0,20}", start: u32, count in 1_u32..) {
        let mut out = Vec::new();
        out.put_u8(a);
        out.put_u16(b);
        out.put_u32(c);
        out.put_u64(d);
        out.pad(8);
        out.put_text(&text);
        out.put_extent(Extent::new(u64::from(start), u64::from(count)));
        let mut fill = vec![0; out.len()];
        Fill::new(&mut fill).put(&out);
        let mut measure = Measure::default();
        measure.put(&out);
        prop_assert_eq!(measure.at(), out.len());
        let mut fields = Reader::new(&fill);
        prop_assert_eq!((fields.u8(), fields.u16(), fields.u32(), fields.u64()), (Ok(a), Ok(b), Ok(c), Ok(d)));
        prop_assert_eq!(fields.pad(8), Ok(()));
        prop_assert_eq!(fields.text("text"), Ok(text.as_str()));
        prop_assert_eq!(fields.extent(), Ok(Extent::new(u64::from(start), u64::from(count))));
        prop_assert_eq!(fields.end(), Ok(()));
        prop_assert_eq!(fields.u8(), Err(Malformed::Short));
    }
}
