//! PDUs as the initiator sees them: its own reading of RFC 7143 §11, so that a field that the target puts in a wrong place
//! is not found there by the target's own code.
//!
//! Shape      [`Pdu`] ↔ bytes, with header and data digests; [`Cutter`] finds PDUs in a stream.

/// A protocol data unit: the Basic Header Segment and the data segment, without padding and digests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pdu {
    pub(crate) header: [u8; 48],
    pub(crate) data: Vec<u8>,
}

/// Whether CRC32C digests follow header and data.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Digests {
    pub(crate) header: bool,
    pub(crate) data: bool,
}

impl Pdu {
    /// A request with that opcode (and perhaps the immediate bit) and those flags.
    pub(crate) fn new(opcode: u8, flags: u8) -> Self {
        let mut header = [0; 48];
        header[0] = opcode;
        header[1] = flags;
        Self {
            header,
            data: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, at: usize, value: u32) -> Self {
        self.header[at..at + 4].copy_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn with_short(mut self, at: usize, value: u16) -> Self {
        self.header[at..at + 2].copy_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn with_bytes(mut self, at: usize, bytes: &[u8]) -> Self {
        self.header[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn with_data(mut self, data: &[u8]) -> Self {
        self.data = data.to_vec();
        self
    }

    pub(crate) const fn opcode(&self) -> u8 {
        self.header[0] & 0x3f
    }

    pub(crate) const fn flag(&self, mask: u8) -> bool {
        self.header[1] & mask != 0
    }

    pub(crate) fn word(&self, at: usize) -> u32 {
        let bytes = &self.header[at..at + 4];
        bytes.iter().fold(0, |w, b| w << 8 | u32::from(*b))
    }

    pub(crate) fn short(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.header[at], self.header[at + 1]])
    }

    /// Initiator Task Tag.
    pub(crate) fn itt(&self) -> u32 {
        self.word(16)
    }

    /// Appends the bytes that go over the wire.
    pub(crate) fn emit(&self, digests: Digests, out: &mut Vec<u8>) {
        let mut header = self.header;
        let length = self.data.len() as u32;
        header[5..8].copy_from_slice(&length.to_be_bytes()[1..]);
        out.extend(header);
        if digests.header {
            out.extend(crc32c::crc32c(&header).to_le_bytes());
        }
        if self.data.is_empty() {
            return;
        }
        let from = out.len();
        out.extend(&self.data);
        out.resize(from + self.data.len().next_multiple_of(4), 0);
        if digests.data {
            let crc = crc32c::crc32c(&out[from..]);
            out.extend(crc.to_le_bytes());
        }
    }
}

/// What a stream holds next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Not a whole PDU yet.
    More,
    /// One PDU.
    Whole(Pdu),
    /// A digest that does not fit.
    Damaged,
    /// What an initiator cannot take.
    Wrong(&'static str),
}

/// Finds PDUs in a stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cutter {
    bytes: Vec<u8>,
    at: usize,
}

impl Cutter {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.at == self.bytes.len() {
            self.bytes.clear();
            self.at = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next PDU, whose data segment has at most `longest` bytes.
    pub(crate) fn next(&mut self, digests: Digests, longest: u32) -> Cut {
        let rest = &self.bytes[self.at..];
        let Some(header) = rest.first_chunk::<48>() else {
            return Cut::More;
        };
        if header[4] != 0 {
            // No response has any. A flipped bit would be noticed by the digest, behind headers that never come.
            return if digests.header {
                Cut::Damaged
            } else {
                Cut::Wrong("additional headers")
            };
        }
        let length = u32::from_be_bytes([0, header[5], header[6], header[7]]);
        let mut from = 48;
        if digests.header {
            let Some(digest) = rest.get(48..52) else {
                return Cut::More;
            };
            if digest != crc32c::crc32c(header).to_le_bytes() {
                return Cut::Damaged;
            }
            from = 52;
        }
        if length > longest {
            return Cut::Wrong("a data segment longer than MaxRecvDataSegmentLength");
        }
        let length = length as usize;
        let padded = length.next_multiple_of(4);
        let mut end = from + padded;
        let has_digest = digests.data && length > 0;
        if has_digest {
            end += 4;
        }
        if rest.len() < end {
            return Cut::More;
        }
        let data = &rest[from..from + padded];
        if has_digest && rest[from + padded..end] != crc32c::crc32c(data).to_le_bytes() {
            return Cut::Damaged;
        }
        if data[length..].iter().any(|b| *b != 0) {
            return Cut::Wrong("padding that is not zeros");
        }
        let pdu = Pdu {
            header: *header,
            data: data[..length].to_vec(),
        };
        self.at += end;
        Cut::Whole(pdu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pdu_is_found_in_any_stream_and_a_flipped_bit_is_noticed() {
        let pdu = Pdu::new(0x25, 0x80).with(16, 7).with_data(b"hello");
        for (header, data) in [(false, false), (true, false), (false, true), (true, true)] {
            let digests = Digests { header, data };
            let mut bytes = Vec::new();
            pdu.emit(digests, &mut bytes);
            let mut cutter = Cutter::default();
            for byte in &bytes[..bytes.len() - 1] {
                cutter.push(&[*byte]);
                assert_eq!(cutter.next(digests, 5), Cut::More);
            }
            cutter.push(&bytes[bytes.len() - 1..]);
            let Cut::Whole(got) = cutter.next(digests, 5) else {
                panic!("a whole PDU");
            };
            assert_eq!((got.itt(), &got.data), (7, &pdu.data));
            if header && data {
                for at in 0..bytes.len() {
                    let mut bad = bytes.clone();
                    bad[at] ^= 1;
                    let mut cutter = Cutter::default();
                    cutter.push(&bad);
                    assert!(!matches!(cutter.next(digests, 5), Cut::Whole(_)), "{at}");
                }
            }
        }
    }

    #[test]
    fn more_than_was_asked_for_is_refused() {
        let mut bytes = Vec::new();
        Pdu::new(0x25, 0x80)
            .with_data(&[1; 9])
            .emit(Digests::default(), &mut bytes);
        let mut cutter = Cutter::default();
        cutter.push(&bytes);
        assert!(matches!(cutter.next(Digests::default(), 8), Cut::Wrong(_)));
    }
}
