//! What was asked of a Swift and what it answered, as plain data.

use crate::choice::mix;
use crate::store::swift::answer::Read;
use crate::store::swift::container::ListAsk;
use crate::store::swift::{NODES, Reach};
use std::collections::BTreeMap;
use std::fmt;

/// A body, made of two numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Body {
    /// What its bytes are drawn from.
    pub seed: u64,
    /// How many they are.
    pub len: u64,
}

impl Body {
    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        (0..self.len)
            .map(|n| (mix(self.seed, n / 8) >> (n % 8 * 8)) as u8)
            .collect()
    }
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// PUT of the container.
    PutContainer,
    /// DELETE of the container.
    DeleteContainer,
    /// HEAD of the container.
    HeadContainer,
    /// GET of the container, as JSON.
    List(ListAsk),
    /// PUT of an object.
    Put {
        /// The bytes.
        body: Body,
        /// Their MD5.
        md5: [u8; 16],
        /// The `ETag` sent.
        announced: Option<[u8; 16]>,
        /// `If-None-Match: *`.
        only_if_absent: bool,
    },
    /// GET or HEAD of an object.
    Read(Read),
    /// DELETE of an object.
    Delete,
}

impl Request {
    /// What reports call it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::PutContainer => "PUT container",
            Self::DeleteContainer => "DELETE container",
            Self::HeadContainer => "HEAD container",
            Self::List(_) => "GET listing",
            Self::Put {
                only_if_absent: true,
                ..
            } => "PUT if absent",
            Self::Put { .. } => "PUT",
            Self::Delete => "DELETE",
            Self::Read(read) => match (read.head, read.newest, read.span.is_some()) {
                (true, true, _) => "HEAD newest",
                (true, false, _) => "HEAD",
                (false, true, false) => "GET newest",
                (false, false, false) => "GET",
                (false, true, true) => "GET range newest",
                (false, false, true) => "GET range",
            },
        }
    }
}

/// A request and where it goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Which proxy.
    pub proxy: usize,
    /// The container.
    pub container: String,
    /// The object; empty for requests about the container.
    pub name: String,
    /// What.
    pub request: Request,
}

/// A row of a listing, as seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// `name`.
    pub name: String,
    /// `bytes`.
    pub bytes: u64,
    /// `hash`.
    pub etag: [u8; 16],
    /// `last_modified`, in microseconds.
    pub timestamp: u64,
}

/// An answer, as far as the model speaks of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// `Etag`.
    pub etag: Option<[u8; 16]>,
    /// `Content-Length`.
    pub length: Option<u64>,
    /// `Content-Range`.
    pub range: Option<String>,
    /// `Last-Modified`, in seconds.
    pub modified: Option<u64>,
    /// `X-Timestamp`, in microseconds.
    pub timestamp: Option<u64>,
    /// `X-Container-Object-Count`.
    pub count: Option<u64>,
    /// The body of a GET of an object.
    pub body: Vec<u8>,
    /// The rows of a GET of a container.
    pub rows: Vec<Listed>,
}

/// A request and its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exchange {
    /// The request.
    pub asked: Asked,
    /// The answer.
    pub answer: Answer,
    /// When it was sent and when the answer was there, in microseconds of the machine's clock.
    pub began: u64,
    /// See `began`.
    pub ended: u64,
}

/// A step of a trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Requests that were on their way together: one, or a race on one object.
    Ask(Vec<Exchange>),
    /// Which object servers are up from here on, by their own numbers.
    Up(Reach),
    /// The replicator went over all nodes once.
    Replicated,
}

/// The clock of a proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clock {
    /// Behind the machine's by so many microseconds.
    Behind(u64),
    /// Stands still at this microsecond.
    Still(u64),
}

impl Clock {
    /// What it shows when the machine's shows `now`.
    pub const fn at(self, now: u64) -> u64 {
        match self {
            Self::Behind(by) => now - by,
            Self::Still(at) => at,
        }
    }
}

/// What does not change in the course of a trace.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cluster {
    /// The proxies.
    pub clocks: Vec<Clock>,
    /// By `container/name`: the nodes of an object, primaries first, by their own numbers.
    pub places: BTreeMap<String, [usize; NODES]>,
}

/// A trace.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Trace {
    /// Of this cluster.
    pub cluster: Cluster,
    /// In this order.
    pub steps: Vec<Step>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(4).map(|b| format!("{b:02x}")).collect()
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Asked {
            proxy,
            container,
            name,
            request,
        } = &self.asked;
        write!(f, "proxy {proxy} {} {container}/{name}", request.kind())?;
        match request {
            Request::Put {
                body,
                md5,
                announced,
                ..
            } => {
                write!(f, " {} bytes {}", body.len, hex(md5))?;
                if announced.is_some_and(|a| a != *md5) {
                    write!(f, " wrong ETag")?;
                }
            }
            Request::Read(read) => {
                if let Some(span) = read.span {
                    write!(f, " {}", span.header())?;
                }
                for (what, etag) in [
                    (" if-match", read.if_match),
                    (" if-none-match", read.if_none_match),
                ] {
                    if let Some(etag) = etag {
                        write!(f, "{what} {}", hex(&etag))?;
                    }
                }
            }
            Request::List(ask) => write!(
                f,
                " prefix {:?} after {:?} before {:?} limit {}",
                ask.prefix, ask.after, ask.before, ask.limit
            )?,
            _ => {}
        }
        let a = &self.answer;
        write!(f, " => {}", a.status)?;
        if let Some(etag) = a.etag {
            write!(f, " etag {}", hex(&etag))?;
        }
        if let Some(range) = &a.range {
            write!(f, " {range}")?;
        }
        if let Some(timestamp) = a.timestamp {
            write!(f, " x-timestamp {timestamp}")?;
        }
        if let Some(modified) = a.modified {
            write!(f, " modified {modified}")?;
        }
        if let Some(count) = a.count {
            write!(f, " count {count}")?;
        }
        if matches!(request, Request::List(_)) {
            let names: Vec<String> = a
                .rows
                .iter()
                .map(|r| format!("{} {}", r.name, hex(&r.etag)))
                .collect();
            write!(f, " rows [{}]", names.join(", "))?;
        }
        if !a.body.is_empty() {
            write!(f, " body {} bytes", a.body.len())?;
        }
        write!(f, " ({}..{} us)", self.began, self.ended)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ask(exchanges) => {
                for (n, exchange) in exchanges.iter().enumerate() {
                    let joint = if n == 0 { "" } else { "\n   with " };
                    write!(f, "{joint}{exchange}")?;
                }
                Ok(())
            }
            Self::Up(up) => write!(f, "object servers up: {up:05b} (the last digit is node 0)"),
            Self::Replicated => f.write_str("replicated"),
        }
    }
}
