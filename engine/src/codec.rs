//! What all stored bytes share: little-endian fields, and the envelope that says what they are and proves them.
//!
//! ```text
//!        0     1     2     3     4     5     6     7
//!  0  magic ─────────────────────────────────────────
//!  8  major ───── zero ────── length ────────────────    of the whole thing, in bytes
//! 16  compatible ──────────── read-only-compatible ──    feature bits
//! 24  incompatible ────────── checksum ──────────────    CRC-32 of a seed, bytes 0..28 and 32..length
//! ```
//!
//! The envelope is the same in every format version, so that "newer than this program" and "damaged" are never confused.
//! Unknown *compatible* bits are ignored; unknown *read-only-compatible* ones forbid writing, unknown *incompatible* ones
//! reading. A program that may write refuses both, and in roots and leaves, which it writes again, all three. Format 1 defines
//! none of them.

use crate::ids::{AttachId, Container, Generation, VolumeId};
use crate::units::Extent;
use alloc::vec::Vec;
use core::fmt;

/// Bytes of the envelope.
pub const ENVELOPE_BYTES: usize = 32;

/// The format's major version.
pub const MAJOR: u16 = 1;

/// Bytes that stand for a kind of stored thing: the first eight of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Magic(pub [u8; 8]);

/// Every kind of stored thing.
impl Magic {
    /// The superblock.
    pub const VOLUME: Self = Self(*b"mlt:volu");
    /// A claim or an opened.
    pub const TOKEN: Self = Self(*b"mlt:tokn");
    /// A door.
    pub const DOOR: Self = Self(*b"mlt:door");
    /// A root.
    pub const ROOT: Self = Self(*b"mlt:root");
    /// A leaf.
    pub const LEAF: Self = Self(*b"mlt:leaf");
    /// The header of a frame.
    pub const FRAME: Self = Self(*b"mlt:fram");
    /// The directory at a data object's end.
    pub const TAIL: Self = Self(*b"mlt:tail");
    /// The head page of a journal record.
    pub const RECORD: Self = Self(*b"mlt:jrec");
    /// The index of a journal file.
    pub const INDEX: Self = Self(*b"mlt:jidx");
    /// A note.
    pub const NOTE: Self = Self(*b"mlt:note");
}

/// Why bytes are not what they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Malformed {
    /// They end too early.
    Short,
    /// There are more than there should be.
    Trailing,
    /// They are another kind of thing.
    Magic,
    /// The checksum or hash differs.
    Checksum,
    /// They are good, but belong elsewhere.
    Misplaced,
    /// A field has a value that it cannot have.
    Value(&'static str),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("ends too early"),
            Self::Trailing => f.write_str("longer than it says"),
            Self::Magic => f.write_str("not of the expected kind"),
            Self::Checksum => f.write_str("checksum differs"),
            Self::Misplaced => f.write_str("belongs elsewhere"),
            Self::Value(field) => write!(f, "impossible value of {field}"),
        }
    }
}

/// Why stored bytes cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unreadable {
    /// They are damaged, or not what was expected.
    Malformed(Malformed),
    /// They are whole, and of a format that this program does not know.
    TooNew,
}

impl From<Malformed> for Unreadable {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(malformed) => malformed.fmt(f),
            Self::TooNew => f.write_str("format is newer than this program"),
        }
    }
}

/// Somewhere to put bytes, one field after another.
pub(crate) trait Put {
    /// Appends bytes.
    fn put(&mut self, bytes: &[u8]);
    /// Bytes so far.
    fn at(&self) -> usize;

    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
    /// A number of things that follow; callers bound it by what fits in memory.
    fn put_count(&mut self, count: usize) {
        self.put_u32(u32::try_from(count).expect("a stored count fits in 32 bits"));
    }
    /// Zeros up to a multiple of `unit` bytes, at most 8.
    fn pad(&mut self, unit: usize) {
        let zeros = [0; 8];
        self.put(&zeros[..self.at().next_multiple_of(unit) - self.at()]);
    }
    fn put_attach(&mut self, attach: AttachId) {
        self.put_u64(attach.generation.0);
        self.put_u64(attach.nonce);
    }
    fn put_extent(&mut self, extent: Extent) {
        self.put_u64(extent.start.0);
        self.put_u64(extent.count.0);
    }
    /// A text of at most 255 bytes behind its length, padded to 8 bytes.
    fn put_text(&mut self, text: &str) {
        self.put_u8(u8::try_from(text.len()).expect("a stored text has at most 255 bytes"));
        self.put(text.as_bytes());
        self.pad(8);
    }
    fn put_container(&mut self, container: &Container) {
        self.put(&container.id.0);
        self.put_text(&container.name);
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
    fn at(&self) -> usize {
        self.len()
    }
}

/// Counts bytes and keeps none.
#[derive(Default)]
pub(crate) struct Measure(usize);

impl Put for Measure {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
    fn at(&self) -> usize {
        self.0
    }
}

/// Fills a buffer from its start. Panics when the buffer is full: its size is the largest that can be asked for.
pub(crate) struct Fill<'a> {
    buffer: &'a mut [u8],
    at: usize,
}

impl<'a> Fill<'a> {
    pub(crate) fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, at: 0 }
    }
}

impl Put for Fill<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.buffer[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
    fn at(&self) -> usize {
        self.at
    }
}

/// Leaves room for the envelope; [`seal`] fills it.
pub(crate) fn begin(out: &mut impl Put) {
    out.put(&[0; ENVELOPE_BYTES]);
}

/// Writes the envelope of `bytes`, which are the whole thing.
pub(crate) fn seal(bytes: &mut [u8], magic: Magic, seed: u32) {
    let length = u32::try_from(bytes.len()).expect("a stored thing is shorter than 4 GiB");
    let mut envelope = Fill::new(&mut bytes[..28]);
    envelope.put(&magic.0);
    envelope.put_u16(MAJOR);
    envelope.put_u16(0);
    envelope.put_u32(length);
    envelope.put(&[0; 12]);
    let checksum = checksum(bytes, seed);
    bytes[28..32].copy_from_slice(&checksum.to_le_bytes());
}

fn checksum(bytes: &[u8], seed: u32) -> u32 {
    let mut crc = crc32fast::Hasher::new_with_initial(seed);
    crc.update(&bytes[..28]);
    crc.update(&bytes[32..]);
    crc.finalize()
}

/// Checks the envelope at the start of `bytes`; gives the fields behind it. What lies behind the thing is not looked at.
pub(crate) fn open(bytes: &[u8], magic: Magic, seed: u32) -> Result<Reader<'_>, Unreadable> {
    let mut envelope = Reader::new(bytes);
    if envelope.array::<8>()? != magic.0 {
        return Err(Malformed::Magic.into());
    }
    let (major, zero, length) = (envelope.u16()?, envelope.u16()?, envelope.u32()?);
    let (_compatible, read_only, incompatible) =
        (envelope.u32()?, envelope.u32()?, envelope.u32()?);
    let expected = envelope.u32()?;
    let whole = bytes.get(..length as usize).ok_or(Malformed::Short)?;
    let fields = whole.get(ENVELOPE_BYTES..).ok_or(Malformed::Short)?;
    if checksum(whole, seed) != expected {
        return Err(Malformed::Checksum.into());
    }
    if major != MAJOR || read_only != 0 || incompatible != 0 {
        return Err(Unreadable::TooNew);
    }
    if zero != 0 {
        return Err(Malformed::Value("envelope").into());
    }
    Ok(Reader::new(fields))
}

/// The length that an envelope of this kind claims; not checked yet.
pub(crate) fn claimed_length(bytes: &[u8], magic: Magic) -> Option<u32> {
    let mut envelope = Reader::new(bytes);
    let is_kind = envelope.array::<8>().ok()? == magic.0;
    envelope.u32().ok()?;
    is_kind.then(|| envelope.u32().ok()).flatten()
}

/// As [`open`], and nothing may lie behind the thing.
pub(crate) fn open_whole(bytes: &[u8], magic: Magic) -> Result<Reader<'_>, Unreadable> {
    let fields = open(bytes, magic, 0)?;
    if fields.len() + ENVELOPE_BYTES != bytes.len() {
        return Err(Malformed::Trailing.into());
    }
    Ok(fields)
}

/// As [`open_whole`], for what is decoded and written again with the same bytes (roots and leaves): an unknown compatible bit
/// would be lost on the way, so it counts as read-only-compatible.
pub(crate) fn open_rewritable(bytes: &[u8], magic: Magic) -> Result<Reader<'_>, Unreadable> {
    let fields = open_whole(bytes, magic)?;
    if bytes
        .get(16..20)
        .is_some_and(|compatible| compatible != [0; 4])
    {
        return Err(Unreadable::TooNew);
    }
    Ok(fields)
}

/// Reads one field after another. Never panics, and takes no memory that the input does not fill.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    read: usize,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            read: 0,
        }
    }

    /// Bytes not read yet.
    pub(crate) const fn len(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or(Malformed::Short)?;
        self.rest = rest;
        self.read += count;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Malformed::Short)?;
        self.rest = rest;
        self.read += N;
        Ok(*bytes)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A Boolean in one byte.
    pub(crate) fn flag(&mut self, field: &'static str) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::Value(field)),
        }
    }

    /// Reserved bytes: they must be zero.
    pub(crate) fn zeros(&mut self, count: usize) -> Result<(), Malformed> {
        let is_zero = self.bytes(count)?.iter().all(|byte| *byte == 0);
        is_zero.then_some(()).ok_or(Malformed::Value("reserved"))
    }

    /// Zeros up to a multiple of `unit` bytes behind the reader's start.
    pub(crate) fn pad(&mut self, unit: usize) -> Result<(), Malformed> {
        self.zeros(self.read.next_multiple_of(unit) - self.read)
    }

    /// A number of things that follow, each of at least `least` bytes: refused when the input is too short for them.
    pub(crate) fn count(&mut self, least: usize) -> Result<usize, Malformed> {
        let count = self.u32()? as usize;
        let fits = count
            .checked_mul(least)
            .is_some_and(|all| all <= self.len());
        fits.then_some(count).ok_or(Malformed::Short)
    }

    pub(crate) fn attach(&mut self) -> Result<AttachId, Malformed> {
        Ok(AttachId {
            generation: Generation(self.u64()?),
            nonce: self.u64()?,
        })
    }

    /// An extent of at least one block that does not run over the end of numbers.
    pub(crate) fn extent(&mut self) -> Result<Extent, Malformed> {
        let (start, count) = (self.u64()?, self.u64()?);
        let is_good = count > 0 && start.checked_add(count).is_some();
        is_good
            .then_some(Extent::new(start, count))
            .ok_or(Malformed::Value("extent"))
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<&'a str, Malformed> {
        let len = self.u8()?;
        let bytes = self.bytes(usize::from(len))?;
        self.pad(8)?;
        str::from_utf8(bytes).map_err(|_| Malformed::Value(field))
    }

    pub(crate) fn container(&mut self) -> Result<Container, Malformed> {
        let id = VolumeId(self.array()?);
        let name = self.text("volume name")?;
        let is_name = Container::is_volume_name(name);
        is_name
            .then(|| Container::new(name, id))
            .ok_or(Malformed::Value("volume name"))
    }

    /// Nothing is left.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        self.rest
            .is_empty()
            .then_some(())
            .ok_or(Malformed::Trailing)
    }
}

#[cfg(test)]
pub(crate) mod tests;
