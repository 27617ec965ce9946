//! What an answer means: one table, and the checks that a good status has to pass.
//!
//! Only a 201 with our own ETag confirms a PUT: a 412 or a GET that shows our bytes proves one replica, a 202 says that
//! nothing was stored. 503 never says that an object is absent. Statuses as Swift's proxy gives them (middlewares
//! `tempauth`, `keystoneauth`, `ratelimit`, `container-quotas` included), and what a front end may add.

use crate::request::Etag;
use engine::time::Duration;
use std::fmt;
use std::ops::Range;

/// What was asked, as far as the meaning of a status depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// PUT of a container.
    CreateContainer,
    /// DELETE of a container.
    DeleteContainer,
    /// HEAD of a container.
    HeadContainer,
    /// PUT of an object.
    Put,
    /// PUT of an object with `If-None-Match: *`, sent once.
    Claim,
    /// GET of a whole object.
    Get,
    /// GET of a range.
    GetRange,
    /// HEAD of an object.
    Exists,
    /// DELETE of an object.
    Delete,
    /// GET of a container or account.
    List,
}

/// What a status means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// It is so, if the headers and the body agree.
    Done,
    /// There is no such thing, says this answer.
    Absent,
    /// There is something by this name (a claim), or in it (a container to be removed).
    Exists,
    /// Nothing is settled; ask again.
    Again(Applied),
    /// The token is not good (any more); nothing was done.
    Renew,
    /// Swift has a newer timestamp for this name, from a proxy with a faster clock; nothing was stored or deleted.
    Discarded,
    /// No right to do this; nothing was done.
    Denied,
    /// Over quota; nothing was done.
    Full,
    /// The object is not what it must be: shorter than the range.
    Damaged,
    /// A claim whose end will never be known.
    Unknown,
}

/// Whether a write that was not confirmed may have taken effect, now or later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// Refused before any object server heard of it.
    No,
    /// Perhaps.
    Maybe,
}

/// The table: what `status` means as an answer to `kind`.
pub const fn meaning(kind: Kind, status: u16) -> Meaning {
    use Kind::{
        Claim, CreateContainer, Delete, DeleteContainer, Exists, Get, GetRange, HeadContainer,
        List, Put,
    };
    match (kind, status) {
        // What confirms.
        (Put | Claim, 201)
        | (CreateContainer, 201 | 202)
        | (Get | List, 200)
        | (GetRange, 206)
        | (Exists | HeadContainer | Delete | DeleteContainer, 200 | 204)
        | (DeleteContainer, 404) => Meaning::Done,

        // A claim is never sent twice, so whatever else comes settles nothing for ever.
        (Claim, 412) => Meaning::Exists,
        (Claim, 401) => Meaning::Renew,
        (Claim, _) => Meaning::Unknown,

        (Put, 202) | (Delete, 409) => Meaning::Discarded,
        (DeleteContainer, 409) => Meaning::Exists,
        (Get | GetRange | Exists | HeadContainer | Delete | List, 404) => Meaning::Absent,
        (GetRange, 416) => Meaning::Damaged,

        (_, 401) => Meaning::Renew,
        (_, 403) => Meaning::Denied,
        (Put | CreateContainer, 413) => Meaning::Full,

        // Refused before the object servers: bad request, container not (yet) seen, throttled.
        (_, 400 | 404 | 405 | 411 | 429 | 498) => Meaning::Again(Applied::No),

        // 408 and 499: the body did not arrive whole; 412 and 422 on a PUT: one replica has something, or refused what
        // came; 500, 502, 503, 504, 507: some server failed. And all that we do not know.
        _ => Meaning::Again(Applied::Maybe),
    }
}

/// An answer's headers. Names are matched without regard to case.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// The first value of that name.
    pub fn value(&self, name: &str) -> Option<&str> {
        let is_it = |(n, _): &&(String, String)| n.eq_ignore_ascii_case(name);
        self.0.iter().find(is_it).map(|(_, v)| v.trim())
    }

    /// The first value of that name, if it is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.value(name)?.parse().ok()
    }

    /// `Retry-After` in seconds; the form with a date is not used by Swift and gives `None`.
    pub fn retry_after(&self) -> Option<Duration> {
        self.number("retry-after").map(Duration::from_secs)
    }
}

/// `Content-Range: bytes <first>-<last>/<total>` as a half-open range and the total. RFC 9110 §14.4, "Content-Range".
fn content_range(text: &str) -> Option<(Range<u64>, u64)> {
    let (span, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let range = first.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?;
    Some((range, total.parse().ok()?))
}

/// What was found wrong with an answer of a good status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// A PUT was confirmed without our ETag: not our bytes, or not Swift.
    Etag,
    /// Fewer or more bytes than the answer announced or the range has.
    Length,
    /// Another range than the one asked for.
    Range,
    /// The object ends before the range does.
    ObjectShort,
    /// The body does not have the ETag that came with it.
    Body,
}

impl Flaw {
    /// Whether the object itself is at fault, and not the transport.
    pub const fn is_damage(self) -> bool {
        matches!(self, Self::ObjectShort | Self::Body)
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Etag => "the ETag is not that of the bytes sent",
            Self::Length => "the body does not have the length announced",
            Self::Range => "another range came than was asked for",
            Self::ObjectShort => "the object ends before the range does",
            Self::Body => "the body does not have its ETag",
        })
    }
}

/// Checks a confirmed PUT. Errors: [`Flaw::Etag`].
pub fn check_put(headers: &Headers, sent: Etag) -> Result<(), Flaw> {
    let got = headers.value("etag").and_then(Etag::parse);
    if got == Some(sent) {
        Ok(())
    } else {
        Err(Flaw::Etag)
    }
}

/// Checks the frame of a read: length and, for a whole object, the ETag against the body's MD5 if the caller made it.
/// Errors: the first [`Flaw`].
pub fn check_get(
    headers: &Headers,
    asked: Option<&Range<u64>>,
    body_len: u64,
    body_md5: Option<Etag>,
) -> Result<(), Flaw> {
    if headers
        .number("content-length")
        .is_some_and(|announced| announced != body_len)
    {
        return Err(Flaw::Length);
    }
    let Some(asked) = asked else {
        let named = headers.value("etag").and_then(Etag::parse);
        return match (named, body_md5) {
            (Some(named), Some(found)) if named != found => Err(Flaw::Body),
            _ => Ok(()),
        };
    };
    let (got, total) = headers
        .value("content-range")
        .and_then(content_range)
        .ok_or(Flaw::Range)?;
    if got.start != asked.start || got.end != asked.end.min(total) {
        return Err(Flaw::Range);
    }
    if got.end.saturating_sub(got.start) != body_len {
        return Err(Flaw::Length);
    }
    if total < asked.end {
        return Err(Flaw::ObjectShort);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
