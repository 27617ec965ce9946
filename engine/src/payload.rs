//! Bytes that the engine moves and never looks at.

use crate::units::ByteCount;
use core::fmt::Debug;
use core::ops::Range;
use smallvec::SmallVec;

/// A handle to bytes owned elsewhere. Cloning and slicing cost O(1).
///
/// The bytes behind a handle never change while a clone of it lives.
pub trait Payload: Clone + Debug {
    /// Number of bytes.
    fn len(&self) -> ByteCount;
    /// The handle of a part, in bytes; the range lies within `0..len`.
    fn slice(&self, range: Range<u64>) -> Self;
    /// Whether there is no byte.
    fn is_empty(&self) -> bool {
        self.len().0 == 0
    }
}

#[cfg(feature = "bytes")]
impl Payload for bytes::Bytes {
    fn len(&self) -> ByteCount {
        ByteCount(Self::len(self) as u64)
    }
    fn slice(&self, range: Range<u64>) -> Self {
        // Ranges come from lengths of this very handle, which fit in memory.
        Self::slice(self, range.start as usize..range.end as usize)
    }
}

/// One part of a scatter list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part<P> {
    /// These bytes.
    Data(P),
    /// So many zero bytes.
    Zeros(ByteCount),
}

impl<P: Payload> Part<P> {
    /// Bytes of this part.
    pub fn len(&self) -> ByteCount {
        match self {
            Self::Data(p) => p.len(),
            Self::Zeros(n) => *n,
        }
    }

    /// Whether the part has no byte.
    pub fn is_empty(&self) -> bool {
        self.len().0 == 0
    }

    /// A part of the part, in bytes.
    pub fn slice(&self, range: Range<u64>) -> Self {
        match self {
            Self::Data(p) => Self::Data(p.slice(range)),
            Self::Zeros(_) => Self::Zeros(ByteCount(range.end - range.start)),
        }
    }
}

/// A scatter list: parts in order, none of them empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts<P>(pub SmallVec<[Part<P>; 1]>);

impl<P> Default for Parts<P> {
    fn default() -> Self {
        Self(SmallVec::new())
    }
}

impl<P: Payload> Parts<P> {
    /// The list of one handle (none when it is empty).
    pub fn one(p: P) -> Self {
        let mut parts = Self::default();
        parts.push(Part::Data(p));
        parts
    }

    /// A list of zeros (no part when `count` is 0).
    pub fn zeros(count: ByteCount) -> Self {
        let mut parts = Self::default();
        parts.push(Part::Zeros(count));
        parts
    }

    /// Appends a part; an empty one is dropped, zeros after zeros join.
    pub fn push(&mut self, part: Part<P>) {
        if part.is_empty() {
            return;
        }
        if let (Some(Part::Zeros(last)), Part::Zeros(more)) = (self.0.last_mut(), &part) {
            last.0 += more.0;
            return;
        }
        self.0.push(part);
    }

    /// Appends every part of `other`.
    pub fn extend(&mut self, other: Self) {
        other.0.into_iter().for_each(|part| self.push(part));
    }

    /// Total bytes.
    pub fn len(&self) -> ByteCount {
        ByteCount(self.0.iter().map(|p| p.len().0).sum())
    }

    /// Whether the list has no byte.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The part of the list in `range`, in bytes; the range lies within `0..len`.
    pub fn slice(&self, range: Range<u64>) -> Self {
        let mut out = Self::default();
        let mut at = 0;
        for part in &self.0 {
            let end = at + part.len().0;
            let (from, to) = (range.start.max(at), range.end.min(end));
            if from < to {
                out.push(part.slice(from - at..to - at));
            }
            at = end;
        }
        out
    }
}
