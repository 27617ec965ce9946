//! Stored bytes, made and checked with the engine's own codec, outside its lock.

use bytes::Bytes;
use engine::codec::Unreadable;
use engine::effect::{Body, Expect, FrameGot, GetRequest, Receipt, StoreError};
use engine::object::names::ObjectName;
use engine::object::{Target, decode_meta, encode_body, frame};
use engine::sum::Sum;
use engine::{Outcome, Part, Parts};

/// Zeros to sum and to store.
static ZEROS: Bytes = Bytes::from_static(&[0; 4096]);

/// CRC32C of bytes.
pub(crate) fn sum(bytes: &[u8]) -> Sum {
    Sum(crc32c::crc32c(bytes))
}

/// CRC32C of a grain's content.
fn sum_of(content: &Parts<Bytes>) -> Sum {
    let crc = content.0.iter().fold(0, |crc, part| match part {
        Part::Data(bytes) => crc32c::crc32c_append(crc, bytes),
        Part::Zeros(count) => zeros(count.0).fold(crc, |crc, z| crc32c::crc32c_append(crc, &z)),
    });
    Sum(crc)
}

/// `count` zeros in pieces.
fn zeros(count: u64) -> impl Iterator<Item = Bytes> {
    let piece = ZEROS.len() as u64;
    (0..count.div_ceil(piece)).map(move |n| {
        let len = piece.min(count - n * piece);
        // At most 4096.
        ZEROS.slice(..usize::try_from(len).unwrap_or(0))
    })
}

/// A body as the list of its pieces: the data itself is not copied.
#[derive(Default)]
struct Pieces(Vec<Bytes>);

impl Target<Bytes> for Pieces {
    fn sum(&mut self, content: &Parts<Bytes>) -> Sum {
        sum_of(content)
    }

    fn put(&mut self, bytes: Vec<u8>) {
        self.0.push(bytes.into());
    }

    fn put_content(&mut self, content: &Parts<Bytes>) {
        for part in &content.0 {
            match part {
                Part::Data(bytes) => self.0.push(bytes.clone()),
                Part::Zeros(count) => self.0.extend(zeros(count.0)),
            }
        }
    }
}

/// The bytes of a body in pieces, and the receipt that its PUT earns.
pub(super) fn encode(body: &Body<Bytes>) -> (Vec<Bytes>, Receipt) {
    let mut pieces = Pieces::default();
    let receipt = encode_body(body, &mut pieces);
    (pieces.0, receipt)
}

/// What a body that was read holds, checked against what was expected.
pub(super) fn check(get: &GetRequest, bytes: &Bytes) -> Outcome<Bytes> {
    let result = match (&get.expect, &get.name) {
        (Expect::Exists, _) => return Outcome::Exists,
        (Expect::Frames(frames), ObjectName::Data(name)) => {
            frame::check_all(bytes, frames, get.container.id, name, sum).map(|checked| {
                let frames = checked.into_iter().map(|(range, sums)| FrameGot {
                    data: bytes.slice(range),
                    sums,
                });
                Outcome::Frames(frames.collect())
            })
        }
        (expect, name) => decode_meta(expect, Some((&get.container, name)), bytes)
            .map(|(meta, hash)| Outcome::Meta(meta, hash)),
    };
    result.unwrap_or_else(|error| {
        let (container, name) = (&get.container, &get.name);
        tracing::warn!(%container, %name, %error, bytes = bytes.len(), "an object is not what it must be");
        Outcome::Store(match error {
            Unreadable::TooNew => StoreError::TooNew,
            Unreadable::Malformed(_) => StoreError::Damaged,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::units::ByteCount;

    #[test]
    fn zeros_are_summed_as_the_bytes_they_stand_for() {
        let mut content = Parts::one(Bytes::from_static(b"abc"));
        content.push(Part::Zeros(ByteCount(5000)));
        content.push(Part::Data(Bytes::from_static(b"d")));
        let mut bytes = b"abc".to_vec();
        bytes.resize(5003, 0);
        bytes.push(b'd');
        assert_eq!(sum_of(&content), sum(&bytes));
        let mut pieces = Pieces::default();
        pieces.put_content(&content);
        assert_eq!(pieces.0.concat(), bytes);
    }
}
