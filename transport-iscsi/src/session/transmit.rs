//! What is to be sent: a scatter list in which payloads of the volume lie as they are.
//!
//! Shape      headers, digests and small texts in one reused buffer; between them handles of payloads and runs of zeros.

use crate::payload::WirePayload;
use crate::wire::Header;
use crate::wire::header::padding;
use engine::{Part, Parts};
use std::collections::VecDeque;
use std::io::IoSlice;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

#[derive(Debug)]
enum Piece<P> {
    /// So many bytes from the front of the buffer.
    Own(usize),
    Data(P),
    Zeros(u64),
}

/// Bytes on their way out.
#[derive(Debug)]
pub struct Transmit<P> {
    own: Vec<u8>,
    /// Bytes of `own` that were sent.
    own_sent: usize,
    pieces: VecDeque<Piece<P>>,
    /// Bytes of the first piece that were sent, unless it is `Own`.
    skip: u64,
    bytes: u64,
    header_digest: bool,
    data_digest: bool,
}

impl<P> Default for Transmit<P> {
    fn default() -> Self {
        Self {
            own: Vec::new(),
            own_sent: 0,
            pieces: VecDeque::new(),
            skip: 0,
            bytes: 0,
            header_digest: false,
            data_digest: false,
        }
    }
}

impl<P: WirePayload> Transmit<P> {
    /// From the next PDU on digests are sent or not.
    pub const fn set_digests(&mut self, header: bool, data: bool) {
        self.header_digest = header;
        self.data_digest = data;
    }

    /// Bytes to be sent.
    pub const fn len(&self) -> u64 {
        self.bytes
    }

    /// Whether there is nothing to send.
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Appends a PDU without payload: a header and a small data segment, whose length the header states.
    pub fn push(&mut self, header: &Header, data: &[u8]) {
        self.push_header(header);
        if data.is_empty() {
            return;
        }
        self.push_own(data);
        self.end_data(header, crc_if(self.data_digest, data, 0));
    }

    /// Appends a PDU with payload, whose length the header states.
    pub fn push_parts(&mut self, header: &Header, parts: Parts<P>) {
        self.push_header(header);
        let mut crc = 0;
        for part in parts.0 {
            self.bytes += part.len().0;
            match part {
                Part::Data(p) => {
                    crc = crc_if(self.data_digest, p.as_slice(), crc);
                    self.pieces.push_back(Piece::Data(p));
                }
                Part::Zeros(n) => {
                    let mut left = n.0;
                    while self.data_digest && left > 0 {
                        let run = zeros(left);
                        crc = crc32c::crc32c_append(crc, run);
                        left -= run.len() as u64;
                    }
                    self.pieces.push_back(Piece::Zeros(n.0));
                }
            }
        }
        self.end_data(header, crc);
    }

    fn push_header(&mut self, header: &Header) {
        self.push_own(&header.0);
        if self.header_digest {
            self.push_own(&crc32c::crc32c(&header.0).to_le_bytes());
        }
    }

    /// Padding, and the digest over data and padding.
    fn end_data(&mut self, header: &Header, crc: u32) {
        let pad = zeros(u64::from(padding(header.data_bytes())));
        self.push_own(pad);
        if self.data_digest && header.data_bytes() > 0 {
            let padded = if bug!("digest-without-padding") {
                &[]
            } else {
                pad
            };
            self.push_own(&crc32c::crc32c_append(crc, padded).to_le_bytes());
        }
    }

    fn push_own(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.own.extend_from_slice(bytes);
        self.bytes += bytes.len() as u64;
        match self.pieces.back_mut() {
            Some(Piece::Own(count)) => *count += bytes.len(),
            _ => self.pieces.push_back(Piece::Own(bytes.len())),
        }
    }

    /// Fills `out` with the next bytes, in order, as slices for one vectored write.
    pub fn slices<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let mut own = self.own.get(self.own_sent..).unwrap_or(&[]);
        let mut skip = self.skip;
        for piece in &self.pieces {
            let slice = match piece {
                Piece::Own(count) => {
                    let (front, rest) = own.split_at_checked(*count).unwrap_or((own, &[]));
                    own = rest;
                    front
                }
                Piece::Data(p) => p.as_slice().get(skip as usize..).unwrap_or(&[]),
                Piece::Zeros(n) => zeros(*n - skip),
            };
            let Some(slot) = out.get_mut(filled) else {
                break;
            };
            *slot = IoSlice::new(slice);
            filled += 1;
            // A long run of zeros needs several writes; what follows it must wait.
            if let Piece::Zeros(n) = piece
                && *n - skip > slice.len() as u64
            {
                break;
            }
            skip = 0;
        }
        filled
    }

    /// So many bytes were sent.
    pub fn advance(&mut self, mut count: u64) {
        count = count.min(self.bytes);
        self.bytes -= count;
        while count > 0 {
            let Some(front) = self.pieces.front_mut() else {
                break;
            };
            let left = match front {
                Piece::Own(n) => *n as u64,
                Piece::Data(p) => p.len().0 - self.skip,
                Piece::Zeros(n) => *n - self.skip,
            };
            let step = left.min(count);
            count -= step;
            match front {
                Piece::Own(n) => {
                    *n -= step as usize;
                    self.own_sent += step as usize;
                }
                _ => self.skip += step,
            }
            if step == left {
                self.pieces.pop_front();
                self.skip = 0;
            }
        }
        if self.pieces.is_empty() {
            self.own.clear();
            self.own_sent = 0;
            // One burst of texts must not hold memory for ever.
            self.own.shrink_to(64 << 10);
        }
    }
}

fn crc_if(on: bool, bytes: &[u8], crc: u32) -> u32 {
    if on {
        crc32c::crc32c_append(crc, bytes)
    } else {
        0
    }
}

/// At most so many zeros.
fn zeros(count: u64) -> &'static [u8] {
    let count = usize::try_from(count)
        .unwrap_or(usize::MAX)
        .min(ZEROS.len());
    ZEROS.get(..count).unwrap_or(&ZEROS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use engine::units::ByteCount;

    /// Sends everything in steps of `step` bytes.
    fn drain(out: &mut Transmit<Bytes>, step: usize) -> Vec<u8> {
        let mut sent = Vec::new();
        while !out.is_empty() {
            let mut slots = [IoSlice::new(&[]); 3];
            let filled = out.slices(&mut slots);
            let all: Vec<u8> = slots[..filled].iter().flat_map(|s| s.to_vec()).collect();
            let now = all.len().min(step);
            assert!(now > 0, "progress");
            sent.extend(&all[..now]);
            out.advance(now as u64);
        }
        sent
    }

    fn expected(digests: bool) -> Vec<u8> {
        let digest = |bytes: &[u8]| {
            if digests {
                crc32c::crc32c(bytes).to_le_bytes().to_vec()
            } else {
                Vec::new()
            }
        };
        let first = Header::of(0x20, 0x80).with_data(2);
        let second = Header::of(0x25, 0x80).with_data(70_005);
        let mut data = b"abcde".to_vec();
        data.resize(70_005 + 3, 0);
        [
            first.0.to_vec(),
            digest(&first.0),
            b"hi\0\0".to_vec(),
            digest(b"hi\0\0"),
            second.0.to_vec(),
            digest(&second.0),
            data.clone(),
            digest(&data),
        ]
        .concat()
    }

    #[test]
    fn pdus_leave_whole_in_any_portions() {
        for digests in [false, true] {
            for step in [997, 50_000, usize::MAX] {
                let mut out = Transmit::default();
                out.set_digests(digests, digests);
                out.push(&Header::of(0x20, 0x80).with_data(2), b"hi");
                let mut parts = Parts::one(Bytes::from_static(b"abcde"));
                parts.push(Part::Zeros(ByteCount(70_000)));
                out.push_parts(&Header::of(0x25, 0x80).with_data(70_005), parts);
                let total = out.len();
                let sent = drain(&mut out, step);
                assert_eq!(sent.len() as u64, total);
                assert!(sent == expected(digests), "step {step}");
            }
        }
    }
}
