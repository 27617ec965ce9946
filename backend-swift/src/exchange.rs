//! What comes back from an exchange, and how a question ends.

use crate::answer::{Flaw, Headers};
use crate::request::Etag;
use crate::token::AuthError;
use engine::effect::StoreError;
use std::fmt;

/// An HTTP answer as the caller got it.
#[derive(Clone, Debug)]
pub struct HttpAnswer<D> {
    /// The status.
    pub status: u16,
    /// At least `Content-Length`, `Content-Range`, `Etag`, `Retry-After`, `X-Container-Object-Count` and
    /// `X-Container-Bytes-Used`, where they came.
    pub headers: Headers,
    /// Bytes of the body that came. A body that ended before its announced length may be told so, too, or as
    /// [`Broken::Short`].
    pub body_len: u64,
    /// The MD5 of the body, if the caller made it: checked against the ETag of a whole object.
    pub body_md5: Option<Etag>,
    /// What the body of a 200 or 206 holds.
    pub content: Content<D>,
}

/// What the caller found in a body that it read and checked.
#[derive(Clone, Debug)]
pub enum Content<D> {
    /// Not looked at: not a good status, or nothing expected.
    Ignored,
    /// What was expected, with good checksums.
    Good(D),
    /// Not what was expected, or bad checksums.
    Damaged,
    /// Intact, and in a newer format than this program reads.
    TooNew,
}

/// An exchange without a (whole) answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// No connection: refused, unreachable, no such host, or no answer to the connect. Nothing was sent.
    Connect,
    /// The TLS handshake failed. Nothing was sent.
    Tls,
    /// The connection was reset, or closed before an answer.
    Closed,
    /// The body ended early.
    Short,
    /// No answer in time.
    Timeout,
    /// What came is not HTTP.
    Protocol,
}

impl Broken {
    /// Whether the server cannot have seen the request.
    pub const fn is_unsent(self) -> bool {
        matches!(self, Self::Connect | Self::Tls)
    }
}

/// Why the last try did not settle it: for the log, nothing is decided by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// No answer yet.
    NoAnswer,
    /// This status.
    Status(u16),
    /// A good status with this flaw.
    Flawed(Flaw),
    /// A good status and a body that is not what it must be.
    BadBody,
    /// No whole answer.
    Broken(Broken),
    /// No token.
    Auth(AuthError),
    /// The caller does not need it any more.
    Cancelled,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer => f.write_str("no answer"),
            Self::Status(s) => write!(f, "status {s}"),
            Self::Flawed(flaw) => write!(f, "{flaw}"),
            Self::BadBody => f.write_str("the body is not what it must be"),
            Self::Broken(Broken::Connect) => f.write_str("cannot connect"),
            Self::Broken(Broken::Tls) => f.write_str("the TLS handshake failed"),
            Self::Broken(Broken::Closed) => f.write_str("the connection was closed"),
            Self::Broken(Broken::Short) => f.write_str("the body ended early"),
            Self::Broken(Broken::Timeout) => f.write_str("no answer in time"),
            Self::Broken(Broken::Protocol) => f.write_str("the answer is not HTTP"),
            Self::Auth(AuthError::Refused) => f.write_str("the credentials were refused"),
            Self::Auth(AuthError::Unavailable) => {
                f.write_str("the identity service does not answer")
            }
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

/// A question's good end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Success<D> {
    /// The container is there or gone, or the object is gone.
    Done,
    /// Confirmed: 201 with our ETag.
    Put,
    /// The object exists.
    Exists,
    /// What was read.
    Read(D),
    /// A container's counts. They lag behind.
    Stats {
        /// Objects.
        objects: u64,
        /// Their bytes.
        bytes: u64,
    },
}

/// A question's bad end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What the engine hears.
    pub error: StoreError,
    /// What the last try met.
    pub cause: Cause,
    /// Exchanges made.
    pub sent: u32,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} after {} requests: {}",
            self.error, self.sent, self.cause
        )
    }
}
