//! From a stream of bytes to headers and data, without keeping either.
//!
//! Shape      header (with its extra headers and digest) → pieces of data as they come → end.
//! Why        after the header the receiver knows the buffer that the data belongs in, so data is copied at most once.
//! Invariant  a length is held against its limit before a byte of it is taken.

use super::header::{HEADER_BYTES, Header, padding};
use core::fmt;

/// Something that makes the rest of the stream unreadable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FrameError {
    /// The header digest does not fit the header: its lengths cannot be believed.
    HeaderDigest,
    /// The data segment is longer than what we declared.
    DataTooLong {
        /// Its length in bytes.
        bytes: u32,
        /// MaxRecvDataSegmentLength in bytes.
        limit: u32,
    },
    /// More additional headers than any PDU here has.
    ExtraTooLong,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeaderDigest => f.write_str("header digest differs"),
            Self::DataTooLong { bytes, limit } => write!(
                f,
                "data segment of {bytes} bytes exceeds MaxRecvDataSegmentLength {limit}"
            ),
            Self::ExtraTooLong => f.write_str("additional headers exceed 512 bytes"),
        }
    }
}

impl core::error::Error for FrameError {}

/// Most bytes of additional headers: an extended CDB (up to 260 bytes) and a bidirectional length fit well.
const EXTRA_BYTES_MAX: usize = 512;

/// What came of the next bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// All bytes are used; more are needed.
    More,
    /// A header is complete.
    Header(Header),
    /// Bytes of its data segment.
    Data(&'a [u8]),
    /// The PDU is complete.
    End {
        /// The data digest did not fit.
        is_damaged: bool,
    },
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// So many bytes of the header are here.
    Header(usize),
    /// Bytes of additional headers to come.
    Extra(usize),
    /// Bytes of the header's digest that are here.
    HeaderDigest(usize),
    /// Bytes of data to come.
    Data(u32),
    /// Bytes of padding to come.
    Padding(u32),
    /// Bytes of the data's digest that are here.
    DataDigest(usize),
    /// The end is to be told.
    End { is_damaged: bool },
}

/// Cuts a stream into PDUs.
#[derive(Debug)]
pub struct Deframer {
    data_max: u32,
    header_digest: bool,
    data_digest: bool,
    state: State,
    header: Header,
    digest: [u8; 4],
    crc: u32,
}

impl Deframer {
    /// A deframer that takes data segments of at most `data_max` bytes, without digests.
    pub const fn new(data_max: u32) -> Self {
        Self {
            data_max,
            header_digest: false,
            data_digest: false,
            state: State::Header(0),
            header: Header([0; HEADER_BYTES]),
            digest: [0; 4],
            crc: 0,
        }
    }

    /// From the next PDU on digests are there or not.
    pub const fn set_digests(&mut self, header: bool, data: bool) {
        self.header_digest = header;
        self.data_digest = data;
    }

    /// From the next PDU on data segments have at most so many bytes.
    pub const fn set_data_max(&mut self, bytes: u32) {
        self.data_max = bytes;
    }

    /// Bytes of the current data segment that are still to come.
    pub const fn data_to_come(&self) -> u32 {
        match self.state {
            State::Data(left) => left,
            _ => 0,
        }
    }

    /// Data bytes were taken around this deframer (read straight into their buffer); at most [`Self::data_to_come`].
    pub fn skip_data(&mut self, bytes: &[u8]) {
        if let State::Data(left) = self.state {
            self.sum(bytes);
            // A slice in memory that the caller cut to `left`.
            self.state = self.after_data(left.saturating_sub(bytes.len() as u32));
        }
    }

    /// Takes bytes from the front of `input`.
    ///
    /// # Errors
    ///
    /// [`FrameError`]: the stream cannot be read on.
    pub fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Step<'a>, FrameError> {
        loop {
            match self.state {
                State::Header(have) => {
                    let part = take(input, HEADER_BYTES - have);
                    for (to, from) in self.header.0.iter_mut().skip(have).zip(part) {
                        *to = *from;
                    }
                    let have = have + part.len();
                    self.state = State::Header(have);
                    if have < HEADER_BYTES {
                        return Ok(Step::More);
                    }
                    if self.header.data_bytes() > self.data_max {
                        return Err(FrameError::DataTooLong {
                            bytes: self.header.data_bytes(),
                            limit: self.data_max,
                        });
                    }
                    if self.header.extra_bytes() > EXTRA_BYTES_MAX {
                        return Err(FrameError::ExtraTooLong);
                    }
                    self.crc = if self.header_digest {
                        crc32c::crc32c(&self.header.0)
                    } else {
                        0
                    };
                    self.state = State::Extra(self.header.extra_bytes());
                }
                State::Extra(left) => {
                    // No command here uses them; they count for the digest.
                    let part = take(input, left);
                    if self.header_digest {
                        self.crc = crc32c::crc32c_append(self.crc, part);
                    }
                    let left = left - part.len();
                    self.state = State::Extra(left);
                    if left > 0 {
                        return Ok(Step::More);
                    }
                    if self.header_digest {
                        self.state = State::HeaderDigest(0);
                    } else {
                        return Ok(self.begin_data());
                    }
                }
                State::HeaderDigest(have) => {
                    let have = self.take_digest(input, have);
                    self.state = State::HeaderDigest(have);
                    if have < 4 {
                        return Ok(Step::More);
                    }
                    if u32::from_le_bytes(self.digest) != self.crc {
                        return Err(FrameError::HeaderDigest);
                    }
                    return Ok(self.begin_data());
                }
                State::Data(left) => {
                    let part = take(input, left as usize);
                    if part.is_empty() {
                        return Ok(Step::More);
                    }
                    self.skip_data(part);
                    return Ok(Step::Data(part));
                }
                State::Padding(left) => {
                    let part = take(input, left as usize);
                    self.sum(part);
                    // At most 3.
                    let left = left - part.len() as u32;
                    self.state = State::Padding(left);
                    if left > 0 {
                        return Ok(Step::More);
                    }
                    self.state = if self.data_digest {
                        State::DataDigest(0)
                    } else {
                        State::End { is_damaged: false }
                    };
                }
                State::DataDigest(have) => {
                    let have = self.take_digest(input, have);
                    self.state = State::DataDigest(have);
                    if have < 4 {
                        return Ok(Step::More);
                    }
                    let is_damaged = u32::from_le_bytes(self.digest) != self.crc;
                    self.state = State::End { is_damaged };
                }
                State::End { is_damaged } => {
                    self.state = State::Header(0);
                    return Ok(Step::End { is_damaged });
                }
            }
        }
    }

    fn begin_data(&mut self) -> Step<'static> {
        self.crc = 0;
        self.state = match self.header.data_bytes() {
            // No data, no data digest. RFC 7143 §11.2.3, "Header Digest and Data Digest".
            0 => State::End { is_damaged: false },
            bytes => State::Data(bytes),
        };
        Step::Header(self.header)
    }

    const fn after_data(&self, left: u32) -> State {
        if left > 0 {
            State::Data(left)
        } else {
            State::Padding(padding(self.header.data_bytes()))
        }
    }

    fn sum(&mut self, bytes: &[u8]) {
        if self.data_digest {
            self.crc = crc32c::crc32c_append(self.crc, bytes);
        }
    }

    fn take_digest(&mut self, input: &mut &[u8], have: usize) -> usize {
        let part = take(input, 4 - have);
        for (to, from) in self.digest.iter_mut().skip(have).zip(part) {
            *to = *from;
        }
        have + part.len()
    }
}

/// Cuts at most `count` bytes from the front.
fn take<'a>(input: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (front, rest) = input.split_at_checked(count).unwrap_or((*input, &[]));
    *input = rest;
    front
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::header::opcode;

    fn header(data: u32) -> Header {
        Header::of(opcode::NOP_OUT, 0x80).with_data(data)
    }

    /// Feeds `bytes` in portions of `portion` and tells what came.
    fn story(deframer: &mut Deframer, bytes: &[u8], portion: usize) -> String {
        let mut out = String::new();
        let mut data = 0;
        for part in bytes.chunks(portion) {
            let mut input = part;
            loop {
                match deframer.step(&mut input) {
                    Ok(Step::More) => break,
                    Ok(Step::Header(h)) => out += &format!("header {:02x} ", h.opcode()),
                    Ok(Step::Data(d)) => data += d.len(),
                    Ok(Step::End { is_damaged }) => {
                        out += &format!("data {data} {}", if is_damaged { "damaged " } else { "" });
                        data = 0;
                    }
                    Err(e) => return out + &e.to_string(),
                }
            }
        }
        out.trim_end().to_owned()
    }

    #[track_caller]
    fn check(deframer: impl Fn() -> Deframer, bytes: &[u8], expected: &str) {
        for portion in [1, 3, 48, 4096] {
            assert_eq!(
                story(&mut deframer(), bytes, portion),
                expected,
                "{portion}"
            );
        }
    }

    fn with_digests() -> Deframer {
        let mut d = Deframer::new(8192);
        d.set_digests(true, true);
        d
    }

    fn framed(data: &[u8]) -> Vec<u8> {
        let h = header(data.len() as u32);
        let mut bytes = h.0.to_vec();
        bytes.extend(crc32c::crc32c(&h.0).to_le_bytes());
        let mut padded = data.to_vec();
        padded.resize(data.len().next_multiple_of(4), 0);
        bytes.extend(&padded);
        bytes.extend(crc32c::crc32c(&padded).to_le_bytes());
        bytes
    }

    #[test]
    fn pdus_are_cut_wherever_the_stream_is_cut() {
        let mut bytes = header(5).0.to_vec();
        bytes.extend(b"hello\0\0\0");
        bytes.extend(header(0).0);
        check(
            || Deframer::new(8192),
            &bytes,
            "header 00 data 5 header 00 data 0",
        );
    }

    #[test]
    fn digests_cover_header_and_padding() {
        check(with_digests, &framed(b"hello"), "header 00 data 5");
    }

    #[test]
    fn a_bad_data_digest_damages_one_pdu() {
        let mut bytes = framed(b"hello");
        bytes[53] ^= 1;
        bytes.extend(framed(b"you"));
        check(
            with_digests,
            &bytes,
            "header 00 data 5 damaged header 00 data 3",
        );
    }

    #[test]
    fn a_bad_header_digest_ends_the_stream() {
        let mut bytes = framed(b"hello");
        bytes[20] ^= 1;
        check(with_digests, &bytes, "header digest differs");
    }

    #[test]
    fn a_longer_segment_than_declared_is_refused_before_its_data() {
        check(
            || Deframer::new(8192),
            &header(8193).0,
            "data segment of 8193 bytes exceeds MaxRecvDataSegmentLength 8192",
        );
    }

    #[test]
    fn extra_headers_are_skipped() {
        let mut h = header(0);
        h.0[4] = 2;
        let mut bytes = h.0.to_vec();
        bytes.extend([0xee; 8]);
        bytes.extend(header(0).0);
        check(
            || Deframer::new(8192),
            &bytes,
            "header 00 data 0 header 00 data 0",
        );
    }
}
