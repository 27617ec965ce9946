//! One wrong answer in a right trace: what a model that allows too much would let pass.

use super::trace::{Answer, Exchange, Listed, Request, Step, Trace};
use super::{Acceptor, Refusal};
use crate::choice::mix;
use crate::store::swift::answer::Read;
use std::collections::BTreeMap;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// How an answer is altered.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Alteration { $($(#[$doc])* $name,)* }
        impl Alteration {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// What reports call it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

kinds! {
    /// An X-Newest read gives what the name held before.
    StaleNewest = "stale for fresh, X-Newest",
    /// A plain read does.
    StalePlain = "stale for fresh, plain, all nodes up",
    /// A read of a deleted object gives what it held.
    Resurrected = "200 for a deleted object",
    /// A read of an object that is there finds none.
    FalseAbsence = "404 for an existing object",
    /// A body is lost.
    LostBody = "lost body",
    /// A body ends early, the announced length being right.
    ShortBody = "short body of the right announced length",
    /// A byte of a body is another.
    ChangedByte = "one bit of the body",
    /// Another ETag.
    OtherEtag = "wrong ETag",
    /// The bytes of a range are others than it says.
    ShiftedRange = "shifted range",
    /// 416 for 206 and the reverse.
    Unsatisfiable = "416 for 206, 206 for 416",
    /// A HEAD tells another length.
    HeadLength = "other length on HEAD",
    /// Another Last-Modified.
    OtherTime = "wrong Last-Modified",
    /// `If-None-Match: *` lets a second one in.
    CreatedAgain = "201 for 412",
    /// A stored PUT is answered as discarded.
    Discarded = "202 for 201",
    /// A discarded PUT is answered as stored.
    NotDiscarded = "201 for 202",
    /// A body with another MD5 than announced is taken.
    WrongSumTaken = "201 for 422",
    /// A DELETE of nothing says that it deleted.
    DeletedNothing = "204 for 404 on DELETE",
    /// A DELETE says that there was nothing.
    DeletedSomething = "404 for 204 on DELETE",
    /// A condition is passed over.
    ConditionIgnored = "200 for 304 or 412",
    /// A listing has a row of an object that never was.
    InventedRow = "invented listing row",
    /// A listing lacks a row.
    LostRow = "missing listing row",
    /// Another status about a container.
    ContainerStatus = "other status of a container",
}

fn whole(read: &Read) -> bool {
    read.span.is_none() && read.if_match.is_none() && read.if_none_match.is_none()
}

// The last answer to such a read of the same object, that showed something.
fn earlier<'a>(past: &'a [Step], exchange: &Exchange) -> Option<&'a Answer> {
    let Request::Read(wanted) = &exchange.asked.request else {
        return None;
    };
    let exchanges = past.iter().rev().flat_map(|s| match s {
        Step::Ask(exchanges) => exchanges.as_slice(),
        _ => &[],
    });
    let is_it = |e: &&Exchange| {
        let same =
            e.asked.container == exchange.asked.container && e.asked.name == exchange.asked.name;
        let alike =
            matches!(&e.asked.request, Request::Read(r) if whole(r) && r.head == wanted.head);
        same && alike && e.answer.status == 200 && e.answer.etag != exchange.answer.etag
    };
    exchanges.filter(is_it).map(|e| &e.answer).next()
}

/// The altered answer to `exchange`, which followed `past`; `None` where this kind does not apply. `die` chooses.
pub fn alter(kind: Alteration, past: &[Step], exchange: &Exchange, die: u64) -> Option<Answer> {
    use Alteration as A;
    let real = &exchange.answer;
    let mut answer = real.clone();
    let request = &exchange.asked.request;
    let status = |status| Answer {
        status,
        ..Answer::default()
    };
    match (kind, request, real.status) {
        (A::StaleNewest, Request::Read(r), 200) if r.newest && whole(r) => {
            answer = earlier(past, exchange)?.clone();
        }
        (A::StalePlain, Request::Read(r), 200) if !r.newest && whole(r) => {
            answer = earlier(past, exchange)?.clone();
        }
        (A::Resurrected, Request::Read(r), 404) if whole(r) => {
            answer = earlier(past, exchange)?.clone();
        }
        (A::FalseAbsence, Request::Read(_), 200 | 206) => answer = status(404),
        (A::LostBody, Request::Read(_), 200 | 206) if !real.body.is_empty() => answer.body.clear(),
        (A::ShortBody, Request::Read(_), 200 | 206) if real.body.len() > 1 => {
            let len = 1 + die as usize % (real.body.len() - 1);
            answer.body.truncate(len);
        }
        (A::ChangedByte, Request::Read(_), 200 | 206) if !real.body.is_empty() => {
            let at = die as usize % real.body.len();
            *answer.body.get_mut(at)? ^= 1 << (die >> 32 & 7);
        }
        (A::OtherEtag, Request::Read(_) | Request::Put { .. }, 200 | 201 | 206) => {
            let at = die as usize % 16;
            *answer.etag.as_mut()?.get_mut(at)? ^= 1 << (die >> 32 & 7);
        }
        (A::ShiftedRange, Request::Read(_), 206) => {
            let (span, total) = real
                .range
                .as_ref()?
                .strip_prefix("bytes ")?
                .split_once('/')?;
            let (first, last) = span.split_once('-')?;
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            answer.range = Some(format!("bytes {}-{}/{total}", first + 1, last + 1));
        }
        (A::Unsatisfiable, Request::Read(_), 206) => {
            answer = Answer {
                range: Some(format!(
                    "bytes */{}",
                    real.range.as_ref()?.split_once('/')?.1
                )),
                ..status(416)
            };
        }
        (A::Unsatisfiable, Request::Read(_), 416) => {
            answer.status = 206;
            answer.range = Some("bytes 0-0/1".to_owned());
            answer.body = vec![die as u8];
            answer.length = Some(1);
        }
        (A::HeadLength, Request::Read(r), 200) if r.head => {
            let length = answer.length.as_mut()?;
            *length = if die & 1 == 0 || *length == 0 {
                *length + 1
            } else {
                *length - 1
            };
        }
        (A::OtherTime, Request::Read(_) | Request::Put { .. }, 200 | 201 | 206) => {
            let by = 1 + die % 5;
            let modified = answer.modified.as_mut()?;
            *modified = if die >> 32 & 1 == 0 {
                *modified + by
            } else {
                *modified - by
            };
        }
        (A::CreatedAgain, Request::Put { md5, .. }, 412)
        | (A::NotDiscarded, Request::Put { md5, .. }, 202)
        | (A::WrongSumTaken, Request::Put { md5, .. }, 422) => {
            answer = Answer {
                etag: Some(*md5),
                modified: Some(exchange.began.div_ceil(1_000_000)),
                ..status(201)
            };
        }
        (A::Discarded, Request::Put { .. }, 201) => answer = status(202),
        (A::DeletedNothing, Request::Delete, 404) => answer = status(204),
        (A::DeletedSomething, Request::Delete, 204) => answer = status(404),
        (A::ConditionIgnored, Request::Read(_), 304 | 412) => {
            answer.status = 200;
            answer.etag = Some([5; 16]);
        }
        (A::InventedRow, Request::List(ask), 200) if real.rows.len() < ask.limit => {
            let name = format!("{}never", ask.prefix);
            if !ask.selects(&name) || real.rows.iter().any(|r| r.name == name) {
                return None;
            }
            let place = answer.rows.partition_point(|r| r.name < name);
            let row = Listed {
                name,
                bytes: 1,
                etag: [1; 16],
                timestamp: exchange.began,
            };
            answer.rows.insert(place, row);
        }
        (A::LostRow, Request::List(_), 200) if !real.rows.is_empty() => {
            answer.rows.remove(die as usize % real.rows.len());
        }
        (A::ContainerStatus, Request::PutContainer, 201 | 202) => answer.status = 403 - real.status,
        (A::ContainerStatus, Request::HeadContainer, 204) => answer = status(404),
        (A::ContainerStatus, Request::HeadContainer, 404) => answer = status(204),
        (A::ContainerStatus, Request::DeleteContainer, 409) => answer = status(204),
        (A::ContainerStatus, Request::DeleteContainer, 204 | 404) => answer = status(409),
        _ => return None,
    }
    (answer != *real).then_some(answer)
}

/// Of each kind, how many altered traces were rejected, and how many were tried: at most `each`, spread over the trace,
/// each with one altered answer of a request that was alone on its way. Errors: the trace itself is not allowed.
pub fn rejections(trace: &Trace, each: u32) -> Result<BTreeMap<Alteration, (u32, u32)>, Refusal> {
    let mut before = Acceptor::new(trace.cluster.clone());
    let mut places: BTreeMap<Alteration, Vec<usize>> = BTreeMap::new();
    for (n, step) in trace.steps.iter().enumerate() {
        for kind in Alteration::ALL {
            if altered(*kind, trace, n).is_some() {
                places.entry(*kind).or_default().push(n);
            }
        }
        before.step(step)?;
    }
    let mut chosen: BTreeMap<usize, Vec<Alteration>> = BTreeMap::new();
    for (kind, places) in &places {
        let stride = places.len().div_ceil(each as usize).max(1);
        let first = mix(places.len() as u64, *kind as u64) as usize % stride;
        for place in places.iter().skip(first).step_by(stride) {
            chosen.entry(*place).or_default().push(*kind);
        }
    }
    let mut table: BTreeMap<Alteration, (u32, u32)> = BTreeMap::new();
    let mut before = Acceptor::new(trace.cluster.clone());
    for (n, step) in trace.steps.iter().enumerate() {
        for kind in chosen.get(&n).into_iter().flatten() {
            let Some(wrong) = altered(*kind, trace, n) else {
                continue;
            };
            let mut acceptor = before.clone();
            let goes_on = || trace.steps.iter().skip(n + 1).take(FORESIGHT);
            let is_rejected = acceptor.step(&wrong).is_err()
                || goes_on().any(|step| acceptor.step(step).is_err());
            let sums = table.entry(*kind).or_default();
            sums.0 += u32::from(is_rejected);
            sums.1 += 1;
        }
        before.step(step)?;
    }
    Ok(table)
}

/// How many steps after the altered answer may give it away.
const FORESIGHT: usize = 100;

fn altered(kind: Alteration, trace: &Trace, n: usize) -> Option<Step> {
    let Step::Ask(exchanges) = trace.steps.get(n)? else {
        return None;
    };
    let [exchange] = exchanges.as_slice() else {
        return None;
    };
    let die = mix(n as u64, kind as u64);
    let answer = alter(kind, trace.steps.get(..n)?, exchange, die)?;
    Some(Step::Ask(vec![Exchange {
        answer,
        ..exchange.clone()
    }]))
}
