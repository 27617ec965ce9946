//! One direction of a TCP connection: segments in order, each with the time at which it arrives.

use std::collections::VecDeque;

/// What travels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Segment {
    /// At least one byte.
    Bytes(Vec<u8>),
    /// The end of it: closed or reset.
    Reset,
}

/// A direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    /// In order; the first arrives first.
    flight: VecDeque<Segment>,
    /// Those that have arrived and were not read.
    pub(crate) arrived: VecDeque<Segment>,
    last_at: u64,
    bytes: u64,
    count: u64,
    /// After so many more bytes the connection breaks; whether the target will know soon.
    pub(crate) break_after: Option<(u64, bool)>,
    /// A bit near this byte of the next segment is flipped.
    pub(crate) flip: Option<u64>,
    /// The reader takes nothing before.
    pub(crate) deaf_until: u64,
}

impl Pipe {
    /// Adds a segment; the time at which it arrives, never before an earlier one.
    pub(crate) fn push(&mut self, at: u64, segment: Segment) -> u64 {
        if let Segment::Bytes(bytes) = &segment {
            self.bytes += bytes.len() as u64;
        }
        self.count += 1;
        self.flight.push_back(segment);
        self.last_at = self.last_at.max(at);
        self.last_at
    }

    /// Segments so far: the number of the next one.
    pub(crate) const fn number(&self) -> u64 {
        self.count & 0x7f_ffff
    }

    /// Bytes that were sent and not taken.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The first segment in flight has arrived, to be read later.
    pub(crate) fn arrive(&mut self) {
        if let Some(segment) = self.take() {
            self.arrived.push_back(segment);
        }
    }

    /// The first segment in flight.
    pub(crate) fn take(&mut self) -> Option<Segment> {
        let segment = self.flight.pop_front()?;
        if let Segment::Bytes(bytes) = &segment {
            self.bytes -= bytes.len() as u64;
        }
        Some(segment)
    }

    /// All bytes in flight.
    pub(crate) fn drain(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(segment) = self.take() {
            if let Segment::Bytes(bytes) = segment {
                out.extend(bytes);
            }
        }
        out
    }

    /// Cuts bytes at the place where the connection breaks, if it is among them; then whether it breaks silently.
    pub(crate) fn breaks(&mut self, bytes: &mut Vec<u8>) -> Option<bool> {
        let (left, silent) = self.break_after?;
        let length = bytes.len() as u64;
        if left > length {
            self.break_after = Some((left - length, silent));
            return None;
        }
        self.break_after = None;
        bytes.truncate(left as usize);
        Some(silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_keep_their_order() {
        let mut pipe = Pipe::default();
        assert_eq!(pipe.push(9, Segment::Bytes(vec![1, 2])), 9);
        assert_eq!(pipe.push(4, Segment::Bytes(vec![3])), 9);
        assert_eq!(pipe.bytes(), 3);
        pipe.arrive();
        assert_eq!((pipe.bytes(), pipe.arrived.len()), (1, 1));
        assert_eq!(pipe.drain(), [3]);
    }

    #[test]
    fn a_break_cuts_at_its_byte() {
        let mut pipe = Pipe {
            break_after: Some((5, true)),
            ..Pipe::default()
        };
        let mut bytes = vec![0; 4];
        assert_eq!(pipe.breaks(&mut bytes), None);
        let mut bytes = vec![0; 4];
        assert_eq!(pipe.breaks(&mut bytes), Some(true));
        assert_eq!(bytes.len(), 1);
        assert_eq!(pipe.breaks(&mut bytes), None, "once");
    }
}
