//! A record of the journal: one head page, then its data, padded to whole pages.
//!
//! Binding  a head proves its volume, file, lap and page, under a secret of the state directory: neither a stray copy nor
//!          guest data that looks like a record is ever taken for one.
//! Jump     a head says how many data bytes follow, so that a scan needs to know nothing else.

use crate::codec::{ENVELOPE_BYTES, Fill, Magic, Malformed, Put, Reader, Unreadable};
use crate::codec::{begin, open, seal};
use crate::ids::{AttachId, FileId, Lap, Seq, VolumeId};
use crate::sum::{Sum, Sums};
use crate::units::{Extent, GRAIN_BYTES, RECORD_BYTES_MAX};
use alloc::string::String;
use alloc::vec::Vec;
use smallvec::SmallVec;

/// Bytes of a journal page: the unit of placing. Never written twice in a lap once a sync covered it.
pub const PAGE_BYTES: u32 = 4096;

/// Most extents that one record may clear (UNMAP): its header page and its successor's both list them.
pub const RECORD_EXTENTS_MAX: usize = 64;

/// Most pieces of one record: 1 MiB that does not begin at a grain.
pub const RECORD_PIECES_MAX: usize = (RECORD_BYTES_MAX / GRAIN_BYTES) as usize + 1;

/// Longest attribute key, in bytes.
pub const ATTRIBUTE_KEY_MAX: usize = 64;

/// Longest attribute value, in bytes: it rides in a header page.
pub const ATTRIBUTE_VALUE_MAX: usize = 1024;

/// The header page of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordHead {
    /// Place in the history.
    pub seq: Seq,
    /// What was known to be synced when the record was made. Below `seq`.
    pub durable: Seq,
    /// The attachment under which it was accepted.
    pub attach: AttachId,
    /// The file it was written for: a copy that strayed elsewhere is refused.
    pub file: FileId,
    /// The file's lap.
    pub lap: Lap,
    /// The header's own place in the file, in pages.
    pub page: u32,
    /// What it does.
    pub body: RecordBody,
    /// What the record before it in this lap did, so that one damaged header page does not hide whose blocks are lost.
    pub before: Option<RecordBefore>,
}

/// What a record does to the volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecordBody {
    /// Puts data; one sum per piece (the part of the extent in one grain), in LBA order. At most 1 MiB.
    Write {
        /// Where.
        extent: Extent,
        /// CRC32C per piece.
        sums: Sums,
    },
    /// Makes the blocks read as zeros (UNMAP, WRITE SAME of zeros). At most [`RECORD_EXTENTS_MAX`] extents, disjoint.
    Holes(SmallVec<[Extent; 1]>),
    /// Sets or removes an attribute.
    Attribute {
        /// At most [`ATTRIBUTE_KEY_MAX`] bytes.
        key: String,
        /// At most [`ATTRIBUTE_VALUE_MAX`] bytes; `None` removes.
        value: Option<Vec<u8>>,
    },
    /// The write of this seq was answered with an error: it never happened. Beats every other record of its seq.
    Void,
}

/// The neighbour before a record, in page order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordBefore {
    /// Its seq.
    pub seq: Seq,
    /// The blocks that it wrote or cleared (none for an attribute or a void).
    pub extents: SmallVec<[Extent; 1]>,
}

impl RecordBody {
    /// The blocks that the record writes or clears.
    pub fn extents(&self) -> SmallVec<[Extent; 1]> {
        match self {
            Self::Write { extent, .. } => SmallVec::from_elem(*extent, 1),
            Self::Holes(extents) => extents.clone(),
            Self::Attribute { .. } | Self::Void => SmallVec::new(),
        }
    }
}

/// What binds a journal's records and indexes to one volume of one state directory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct JournalKey {
    seed: u32,
}

impl JournalKey {
    /// The key of a volume's journal; `secret` is 128 random bits that the state directory keeps and no guest sees.
    pub fn new(volume: VolumeId, secret: [u8; 16]) -> Self {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&volume.0);
        crc.update(&secret);
        Self {
            seed: crc.finalize(),
        }
    }

    pub(crate) const fn seed(&self) -> u32 {
        self.seed
    }
}

impl core::fmt::Debug for JournalKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("JournalKey(..)")
    }
}

/// A head as read from its page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parsed {
    /// The head.
    pub head: RecordHead,
    /// Data bytes that follow on the next page: 0 but for a write.
    pub data_bytes: u32,
}

impl Parsed {
    /// Pages of the record, its head's included.
    pub fn pages(&self) -> u32 {
        pages(self.data_bytes)
    }

    /// Length and sum of each piece of the data, in order.
    pub fn pieces(&self) -> impl Iterator<Item = (u32, Sum)> + '_ {
        let (extent, sums) = match &self.head.body {
            RecordBody::Write { extent, sums } => (*extent, sums.as_slice()),
            _ => (Extent::new(0, 0), [].as_slice()),
        };
        piece_lengths(extent, self.data_bytes).zip(sums.iter().copied())
    }
}

/// Pages of a record with so many data bytes, its head's included.
pub const fn pages(data_bytes: u32) -> u32 {
    1 + data_bytes.div_ceil(PAGE_BYTES)
}

/// Bytes of each piece of an extent that has so many bytes.
fn piece_lengths(extent: Extent, data_bytes: u32) -> impl Iterator<Item = u32> {
    let block = u64::from(data_bytes) / extent.count.0.max(1);
    // Only the place within a grain matters, and a grain is a whole number of blocks.
    let first = (extent.start.0 % u64::from(GRAIN_BYTES)) * block % u64::from(GRAIN_BYTES);
    let mut left = data_bytes;
    let mut room = GRAIN_BYTES - first as u32;
    core::iter::from_fn(move || {
        let len = left.min(room);
        left -= len;
        room = GRAIN_BYTES;
        (len > 0).then_some(len)
    })
}

/// The head's page. `data_bytes` is the length of the data that follows it: 0 but for a write.
///
/// Panics when the head breaks a bound of its type: such a head could not be read again.
pub fn emit(head: &RecordHead, data_bytes: u32, key: &JournalKey) -> [u8; PAGE_BYTES as usize] {
    let mut page = [0; PAGE_BYTES as usize];
    let mut out = Fill::new(&mut page);
    begin(&mut out);
    out.put_u64(head.seq.0);
    out.put_u64(head.durable.0);
    out.put_attach(head.attach);
    out.put_u64(head.file.0);
    out.put_u64(head.lap.0);
    out.put_u32(head.page);
    out.put_u32(data_bytes);
    out.put_u8(kind_of(&head.body));
    out.put_u8(u8::from(head.before.is_some()));
    out.put_u16(count_of(&head.body));
    out.put_u32(0);
    put_body(&mut out, &head.body);
    if let Some(before) = &head.before {
        put_before(&mut out, before);
    }
    let len = out.at();
    seal(&mut page[..len], Magic::RECORD, key.seed());
    debug_assert_eq!(
        parse(&page, head.file, key)
            .map(|parsed| parsed.head)
            .as_ref(),
        Ok(head),
        "a head must be readable again"
    );
    page
}

/// Reads a head's page of that file.
///
/// # Errors
///
/// Anything but a head that [`emit`] made for this file under this key. The caller compares [`RecordHead::page`] with the
/// page it read.
pub fn parse(page: &[u8], file: FileId, key: &JournalKey) -> Result<Parsed, Unreadable> {
    let mut fields = open(page, Magic::RECORD, key.seed())?;
    let (seq, durable, attach) = (Seq(fields.u64()?), Seq(fields.u64()?), fields.attach()?);
    if fields.u64()? != file.0 {
        return Err(Malformed::Misplaced.into());
    }
    let lap = Lap(fields.u64()?);
    let (page, data_bytes) = (fields.u32()?, fields.u32()?);
    let (kind, has_before, count) = (fields.u8()?, fields.flag("before")?, fields.u16()?);
    fields.zeros(4)?;
    let body = read_body(&mut fields, kind, count)?;
    if !is_length_of(&body, data_bytes) {
        return Err(Malformed::Value("data length").into());
    }
    let before = has_before.then(|| read_before(&mut fields)).transpose()?;
    fields.end()?;
    let head = RecordHead {
        seq,
        durable,
        attach,
        file,
        lap,
        page,
        body,
        before,
    };
    Ok(Parsed { head, data_bytes })
}

/// Whether a body may have so many data bytes: whole blocks, and as many pieces as there are sums.
fn is_length_of(body: &RecordBody, data_bytes: u32) -> bool {
    let RecordBody::Write { extent, sums } = body else {
        return data_bytes == 0;
    };
    let is_block = |block| extent.count.0.checked_mul(block) == Some(u64::from(data_bytes));
    (is_block(512) || is_block(4096))
        && data_bytes <= RECORD_BYTES_MAX
        && piece_lengths(*extent, data_bytes).count() == sums.len()
}

const WRITE: u8 = 1;
const HOLES: u8 = 2;
const ATTRIBUTE: u8 = 3;
const VOID: u8 = 4;

/// In place of an attribute's length: it is removed.
const REMOVED: u32 = u32::MAX;

pub(super) const fn kind_of(body: &RecordBody) -> u8 {
    match body {
        RecordBody::Write { .. } => WRITE,
        RecordBody::Holes(_) => HOLES,
        RecordBody::Attribute { .. } => ATTRIBUTE,
        RecordBody::Void => VOID,
    }
}

/// Sums, extents, or bytes of the key. Panics above the bounds of the type.
pub(super) fn count_of(body: &RecordBody) -> u16 {
    let (count, most) = match body {
        RecordBody::Write { sums, .. } => (sums.len(), RECORD_PIECES_MAX),
        RecordBody::Holes(extents) => (extents.len(), RECORD_EXTENTS_MAX),
        RecordBody::Attribute { key, .. } => (key.len(), ATTRIBUTE_KEY_MAX),
        RecordBody::Void => (0, 0),
    };
    assert!(count <= most, "{count} exceeds a record's bound of {most}");
    count as u16
}

pub(super) fn put_body(out: &mut impl Put, body: &RecordBody) {
    match body {
        RecordBody::Write { extent, sums } => {
            out.put_extent(*extent);
            sums.iter().for_each(|sum| out.put_u32(sum.0));
            out.pad(8);
        }
        RecordBody::Holes(extents) => extents.iter().for_each(|extent| out.put_extent(*extent)),
        RecordBody::Attribute { key, value } => {
            let len = value.as_ref().map_or(REMOVED, |value| value.len() as u32);
            assert!(
                len == REMOVED || len as usize <= ATTRIBUTE_VALUE_MAX,
                "attribute of {len} bytes exceeds {ATTRIBUTE_VALUE_MAX}"
            );
            out.put_u32(len);
            out.put_u32(0);
            out.put(key.as_bytes());
            out.pad(8);
            out.put(value.as_deref().unwrap_or_default());
            out.pad(8);
        }
        RecordBody::Void => {}
    }
}

pub(super) fn read_body(
    fields: &mut Reader<'_>,
    kind: u8,
    count: u16,
) -> Result<RecordBody, Malformed> {
    let count = usize::from(count);
    let bound = |most| {
        (count <= most)
            .then_some(())
            .ok_or(Malformed::Value("count"))
    };
    match kind {
        WRITE => {
            bound(RECORD_PIECES_MAX)?;
            let extent = fields.extent()?;
            let sums: Result<Sums, _> = (0..count).map(|_| fields.u32().map(Sum)).collect();
            let sums = sums?;
            fields.pad(8)?;
            Ok(RecordBody::Write { extent, sums })
        }
        HOLES => {
            bound(RECORD_EXTENTS_MAX)?;
            let extents: Result<_, _> = (0..count).map(|_| fields.extent()).collect();
            Ok(RecordBody::Holes(extents?))
        }
        ATTRIBUTE => {
            bound(ATTRIBUTE_KEY_MAX)?;
            let len = fields.u32()?;
            fields.zeros(4)?;
            let key = str::from_utf8(fields.bytes(count)?);
            let key = key.map_err(|_| Malformed::Value("attribute key"))?.into();
            fields.pad(8)?;
            let value = match len {
                REMOVED => None,
                len if len as usize <= ATTRIBUTE_VALUE_MAX => Some(fields.bytes(len as usize)?),
                _ => return Err(Malformed::Value("attribute length")),
            };
            fields.pad(8)?;
            let value = value.map(<[u8]>::to_vec);
            Ok(RecordBody::Attribute { key, value })
        }
        VOID => {
            bound(0)?;
            Ok(RecordBody::Void)
        }
        _ => Err(Malformed::Value("record kind")),
    }
}

pub(super) fn put_before(out: &mut impl Put, before: &RecordBefore) {
    assert!(before.extents.len() <= RECORD_EXTENTS_MAX);
    out.put_u64(before.seq.0);
    out.put_u64(before.extents.len() as u64);
    before
        .extents
        .iter()
        .for_each(|extent| out.put_extent(*extent));
}

pub(super) fn read_before(fields: &mut Reader<'_>) -> Result<RecordBefore, Malformed> {
    let (seq, count) = (Seq(fields.u64()?), fields.u64()?);
    if count > RECORD_EXTENTS_MAX as u64 {
        return Err(Malformed::Value("extents before"));
    }
    let extents: Result<_, _> = (0..count).map(|_| fields.extent()).collect();
    Ok(RecordBefore {
        seq,
        extents: extents?,
    })
}

/// Bytes of a head before its body, and of the fields before extents of the record before.
const FIELDS_BYTES: usize = ENVELOPE_BYTES + 64 + 16;
const EXTENTS_BYTES: usize = 16 * RECORD_EXTENTS_MAX;

// The largest head of each kind fits in its page, with the most extents of the record before.
const _: () = {
    let page = PAGE_BYTES as usize - FIELDS_BYTES - EXTENTS_BYTES;
    assert!(16 + 4 * (RECORD_PIECES_MAX + 1) <= page);
    assert!(EXTENTS_BYTES <= page);
    assert!(8 + ATTRIBUTE_KEY_MAX + ATTRIBUTE_VALUE_MAX + 16 <= page);
};

#[cfg(test)]
pub(crate) mod tests;
