//! What an object server answers about a copy that it has. Swift 2.30, `common/swob.py`: `Range`, `Match`,
//! `Response._response_iter`; `obj/server.py`: `GET`, `HEAD`.

use super::Stored;
use std::ops::Range;

/// A `Range` header of one range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Span {
    /// `bytes=first-last`, both included.
    Between(u64, u64),
    /// `bytes=first-`.
    From(u64),
    /// `bytes=-count`: the last so many.
    Last(u64),
}

impl Span {
    /// Reads a header's value; `None` for what Swift does not take for a range, or for several: then the header is
    /// as good as not there.
    pub fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) => (first <= last).then_some(Self::Between(first, last)),
            (Ok(first), Err(_)) => last.is_empty().then_some(Self::From(first)),
            (Err(_), Ok(count)) => first.is_empty().then_some(Self::Last(count)),
            (Err(_), Err(_)) => None,
        }
    }

    /// The header's value.
    pub fn header(self) -> String {
        match self {
            Self::Between(first, last) => format!("bytes={first}-{last}"),
            Self::From(first) => format!("bytes={first}-"),
            Self::Last(count) => format!("bytes=-{count}"),
        }
    }

    // The bytes meant of `total`; `None`: there are none.
    fn of(self, total: u64) -> Option<Range<u64>> {
        match self {
            Self::Between(first, last) => {
                (first < total).then(|| first..last.saturating_add(1).min(total))
            }
            Self::From(first) => (first < total).then_some(first..total),
            Self::Last(count) => (count > 0).then(|| total.saturating_sub(count)..total),
        }
    }
}

/// A GET or HEAD of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Read {
    /// X-Newest: all nodes are asked.
    pub newest: bool,
    /// HEAD: neither a body nor a range.
    pub head: bool,
    /// Range.
    pub span: Option<Span>,
    /// If-Match.
    pub if_match: Option<[u8; 16]>,
    /// If-None-Match.
    pub if_none_match: Option<[u8; 16]>,
}

/// What is given of a copy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Shown {
    /// 200, 206, 304, 412 or 416.
    pub status: u16,
    /// The first byte of the object that the body has, or would have were it not a HEAD.
    pub start: u64,
    /// The first byte behind the body.
    pub end: u64,
}

impl Shown {
    const fn new(status: u16, body: Range<u64>) -> Self {
        Self {
            status,
            start: body.start,
            end: body.end,
        }
    }

    /// Bytes of the body.
    pub const fn bytes(&self) -> u64 {
        self.end - self.start
    }

    /// `Content-Range`, of an object of `total` bytes.
    pub fn content_range(&self, total: u64) -> Option<String> {
        match self.status {
            206 => Some(format!("bytes {}-{}/{total}", self.start, self.end - 1)),
            416 => Some(format!("bytes */{total}")),
            _ => None,
        }
    }

    /// Whether a proxy takes it as a source: a 412 makes it ask the next node.
    pub const fn is_source(&self) -> bool {
        self.status != 412
    }
}

impl Read {
    /// What a node that has `stored` answers.
    pub fn of<B>(&self, stored: &Stored<B>) -> Shown {
        let nothing = |status| Shown::new(status, 0..0);
        if self.if_none_match == Some(stored.etag) {
            return nothing(304);
        }
        if self.if_match.is_some_and(|wanted| wanted != stored.etag) {
            return nothing(412);
        }
        let whole = Shown::new(200, 0..stored.bytes);
        match self.span.filter(|_| !self.head) {
            None => whole,
            Some(span) => match span.of(stored.bytes) {
                None => nothing(416),
                // The last bytes of nothing are the whole of it.
                Some(body) if body.is_empty() => whole,
                Some(body) => Shown::new(206, body),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(header: &str, bytes: u64, status: u16, body: Range<u64>) {
        let stored = Stored {
            body: (),
            bytes,
            etag: [1; 16],
        };
        let read = Read {
            span: Span::parse(header),
            ..Read::default()
        };
        assert_eq!(read.of(&stored), Shown::new(status, body), "{header}");
    }

    #[test]
    fn a_range_is_clipped_refused_or_ignored() {
        check("bytes=2-4", 10, 206, 2..5);
        check("bytes=2-40", 10, 206, 2..10);
        check("bytes=2-", 10, 206, 2..10);
        check("bytes=-3", 10, 206, 7..10);
        check("bytes=-30", 10, 206, 0..10);
        check("bytes=10-", 10, 416, 0..0);
        check("bytes=-0", 10, 416, 0..0);
        check("bytes=0-0", 0, 416, 0..0);
        check("bytes=-5", 0, 200, 0..0);
        check("bytes=5-2", 10, 200, 0..10);
        check("junk=1-2", 10, 200, 0..10);
        check("bytes=-", 10, 200, 0..10);
    }

    #[test]
    fn if_none_match_is_looked_at_before_if_match() {
        let stored = Stored {
            body: (),
            bytes: 3,
            etag: [1; 16],
        };
        let read = |m, n| Read {
            if_match: m,
            if_none_match: n,
            ..Read::default()
        };
        let status = |r: Read| r.of(&stored).status;
        assert_eq!(status(read(Some([2; 16]), Some([1; 16]))), 304);
        assert_eq!(status(read(Some([2; 16]), None)), 412);
        assert_eq!(status(read(Some([1; 16]), Some([2; 16]))), 200);
    }
}
