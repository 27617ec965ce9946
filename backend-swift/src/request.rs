//! Questions as the caller puts them, and as HTTP says them.
//!
//! ```text
//! StoreRequest (typed, engine) ── the caller encodes the body ──► Ask ── StoreMachine ──► HttpRequest (one per try)
//! ```

use crate::token::TokenId;
use engine::effect::{Absence, Body, Expect, StoreRequest};
use engine::ids::Container;
use engine::time::Duration;
use std::fmt::{self, Write as _};
use std::ops::Range;

/// The caller's name for a question. Unique among those not finished.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// The machine's name for one HTTP exchange. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId(pub u64);

/// The MD5 of a body: what Swift calls its ETag.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Etag(pub [u8; 16]);

impl Etag {
    /// Reads 32 hex digits, in quotes or not (Swift quotes some ETags); `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text
            .strip_prefix('"')
            .and_then(|t| t.strip_suffix('"'))
            .unwrap_or(text);
        if text.len() != 32 || !text.is_ascii() {
            return None;
        }
        let mut bytes = [0_u8; 16];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |b: u8| char::from(b).to_digit(16);
            *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// An encoded body: a handle, its size and its checksum.
#[derive(Clone, Debug)]
pub struct Encoded<B> {
    /// The bytes, or what stands for them.
    pub body: B,
    /// How many.
    pub len: u64,
    /// Their MD5.
    pub etag: Etag,
}

/// A question to Swift. Container names are whole, the configured prefix included.
#[derive(Clone, Debug)]
pub enum Ask<B> {
    /// Make the container; it may exist.
    CreateContainer {
        /// Its name.
        container: String,
    },
    /// Remove the empty container; it may be gone.
    DeleteContainer {
        /// Its name.
        container: String,
    },
    /// How many objects and bytes the container holds (lags behind).
    ContainerStats {
        /// Its name.
        container: String,
    },
    /// Store an object.
    Put {
        /// The container.
        container: String,
        /// The object.
        name: String,
        /// What.
        body: Encoded<B>,
        /// A claim: sent once, with `If-None-Match: *`.
        once: bool,
    },
    /// Read an object or part of it.
    Get {
        /// The container.
        container: String,
        /// The object.
        name: String,
        /// `None`: whole. Not empty.
        range: Option<Range<u64>>,
        /// How a 404 is believed.
        absence: Absence,
        /// Give up after so long.
        deadline: Duration,
    },
    /// Whether an object exists.
    Exists {
        /// The container.
        container: String,
        /// The object.
        name: String,
        /// How a 404 is believed.
        absence: Absence,
        /// Give up after so long.
        deadline: Duration,
    },
    /// Delete an object; it may be gone.
    Delete {
        /// The container.
        container: String,
        /// The object.
        name: String,
    },
    /// A page of a container's names, in byte order.
    List {
        /// The container.
        container: String,
        /// Names that begin so.
        prefix: String,
        /// Only names after this one.
        after: Option<String>,
        /// At most so many, 1 to 10,000 (Swift answers 412 above its own maximum).
        limit: u32,
    },
    /// A page of the account's containers, in byte order.
    ListContainers {
        /// Names that begin so.
        prefix: String,
        /// Only names after this one.
        after: Option<String>,
        /// At most so many, 1 to 10,000.
        limit: u32,
    },
}

/// The name of a volume's container in Swift.
pub fn container_name(prefix: &str, container: &Container) -> String {
    format!("{prefix}{container}")
}

impl<B> Ask<B> {
    /// The question behind a typed request. `encode` is called for the body of a PUT only.
    pub fn new<P>(
        prefix: &str,
        request: &StoreRequest<P>,
        encode: impl FnOnce(&Body<P>) -> Encoded<B>,
    ) -> Self {
        let name_of = |c| container_name(prefix, c);
        match request {
            StoreRequest::CreateContainer(c) => Self::CreateContainer {
                container: name_of(c),
            },
            StoreRequest::DeleteContainer(c) => Self::DeleteContainer {
                container: name_of(c),
            },
            StoreRequest::Get(get) => {
                let container = name_of(&get.container);
                let (name, absence, deadline) = (get.name.to_string(), get.absence, get.deadline);
                if get.expect == Expect::Exists {
                    return Self::Exists {
                        container,
                        name,
                        absence,
                        deadline,
                    };
                }
                Self::Get {
                    container,
                    name,
                    range: get.range.clone(),
                    absence,
                    deadline,
                }
            }
            StoreRequest::Put {
                container,
                name,
                body,
                once,
            } => Self::Put {
                container: name_of(container),
                name: name.to_string(),
                body: encode(body),
                once: *once,
            },
            StoreRequest::Delete { container, name } => Self::Delete {
                container: name_of(container),
                name: name.to_string(),
            },
            StoreRequest::List {
                container,
                prefix,
                after,
                limit,
            } => Self::List {
                container: name_of(container),
                prefix: prefix.clone(),
                after: after.clone(),
                limit: *limit,
            },
        }
    }

    /// `container/name` for the log; never holds a secret.
    pub fn place(&self) -> String {
        match self {
            Self::CreateContainer { container }
            | Self::DeleteContainer { container }
            | Self::ContainerStats { container }
            | Self::List { container, .. } => container.clone(),
            Self::Put {
                container, name, ..
            }
            | Self::Get {
                container, name, ..
            }
            | Self::Exists {
                container, name, ..
            }
            | Self::Delete { container, name } => format!("{container}/{name}"),
            Self::ListContainers { prefix, .. } => format!("{prefix}*"),
        }
    }
}

/// HTTP's verbs, as far as we use them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Method {
    /// Read.
    Get,
    /// Read without the body.
    Head,
    /// Store.
    Put,
    /// Remove.
    Delete,
}

impl Method {
    /// As on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// What connection an exchange takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Connection {
    /// An idle one of the pool, if there is one.
    Pooled,
    /// A new one: another proxy behind a balancer may answer, and no half-closed connection spoils it.
    Fresh,
}

/// One HTTP exchange to make. Answered once with [`crate::StoreMachine::handle_answer`], unless abandoned before.
#[derive(Clone, Debug)]
pub struct HttpRequest<B> {
    /// Its name.
    pub call: CallId,
    /// The question that it belongs to.
    pub ticket: Ticket,
    /// The verb.
    pub method: Method,
    /// Behind the storage URL: starts with `/` (or `?` for the account), percent-encoded, with the query.
    pub path: String,
    /// All headers but `X-Auth-Token`, `Content-Length` and the connection's own.
    pub headers: Vec<(&'static str, String)>,
    /// The body and its size in bytes.
    pub body: Option<(B, u64)>,
    /// What connection to take.
    pub connection: Connection,
    /// The token to send: the one of the latest successful authentication.
    pub token: TokenId,
}

/// Percent-encodes everything but RFC 3986 §2.3, "Unreserved Characters", and `/` where `keep_slash`.
fn encode_into(out: &mut String, text: &str, keep_slash: bool) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            b'/' if keep_slash => out.push('/'),
            // Writing to a String cannot fail.
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

/// The path of a container or object behind the storage URL.
pub(crate) fn path_of(container: &str, name: Option<&str>) -> String {
    let mut path = String::from("/");
    encode_into(&mut path, container, false);
    if let Some(name) = name {
        path.push('/');
        encode_into(&mut path, name, true);
    }
    path
}

/// The query of a listing.
pub(crate) fn listing_query(prefix: &str, after: Option<&str>, limit: u32) -> String {
    let mut query = format!("?format=json&limit={limit}");
    for (key, value) in [("prefix", Some(prefix)), ("marker", after)] {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            query.push('&');
            query.push_str(key);
            query.push('=');
            encode_into(&mut query, value, false);
        }
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_encode_all_but_unreserved_characters() {
        assert_eq!(
            path_of("m-vm.01", Some("doors/00000001")),
            "/m-vm.01/doors/00000001"
        );
        assert_eq!(
            path_of("a/b ü", Some("x?#%/..")),
            "/a%2Fb%20%C3%BC/x%3F%23%25/.."
        );
    }

    #[test]
    fn a_listing_names_only_what_narrows_it() {
        assert_eq!(listing_query("", None, 10), "?format=json&limit=10");
        assert_eq!(
            listing_query("versions/", Some("a&b"), 2),
            "?format=json&limit=2&prefix=versions%2F&marker=a%26b"
        );
    }

    #[test]
    fn an_etag_reads_with_and_without_quotes() {
        let hex = "d41d8cd98f00b204e9800998ecf8427e";
        let etag = Etag::parse(hex).expect("32 digits");
        assert_eq!(etag.to_string(), hex);
        assert_eq!(Etag::parse(&format!("\"{hex}\"")), Some(etag));
        for bad in [
            "",
            "\"\"",
            &hex[1..],
            "é41d8cd98f00b204e9800998ecf8427",
            "g41d8cd98f00b204e9800998ecf8427e",
        ] {
            assert_eq!(Etag::parse(bad), None, "{bad}");
        }
    }
}
