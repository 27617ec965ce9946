//! The acceptor on answers that the model gave itself, and on altered ones. A real Swift: `tests/real_swift.rs`.

use super::alter::{Alteration, rejections};
use super::generate::{Planned, Shape, plan};
use super::trace::{Answer, Clock, Exchange, Listed, Request, Step, Trace};
use super::{Acceptor, Bytes};
use crate::choice::mix;
use crate::store::swift::container::{ListAsk, Row};
use crate::store::swift::object::Put;
use crate::store::swift::{EVERY_NODE, PRIMARIES, Stored, Swift};
use std::collections::BTreeMap;
use std::sync::Arc;

// Stands for MD5: equal for equal bytes, and for no others that these tests use.
fn sum(bytes: &[u8]) -> [u8; 16] {
    let low = bytes.iter().fold(1, |h, b| mix(h, u64::from(*b)));
    let high = mix(low, bytes.len() as u64);
    (u128::from(low) << 64 | u128::from(high)).to_le_bytes()
}

const SECOND: u64 = 1_000_000;
const START: u64 = 1_700_000_000 * SECOND;

/// The model as a server: all nodes up, one request at a time, its listings at once.
struct Server {
    swift: Swift<Bytes>,
    clocks: Vec<Clock>,
    now: u64,
}

impl Server {
    fn answer(&mut self, asked: &super::trace::Asked, die: u64) -> Answer {
        let timestamp = self.clocks[asked.proxy].at(self.now);
        let path = format!("/{}/{}", asked.container, asked.name);
        let of = |status| Answer {
            status,
            ..Answer::default()
        };
        let order = die as usize % 6;
        let swift = &mut self.swift;
        match &asked.request {
            Request::PutContainer => {
                of(swift.create_container(&asked.container, timestamp, EVERY_NODE))
            }
            Request::DeleteContainer => {
                of(swift.delete_container(&asked.container, timestamp, EVERY_NODE))
            }
            Request::HeadContainer => of(swift.head_container(&asked.container, order, EVERY_NODE)),
            Request::List(ask) => self.list(&asked.container, ask, order),
            Request::Delete => {
                let deleting = match swift.begin_delete(&path, timestamp, EVERY_NODE) {
                    Ok(deleting) => deleting,
                    Err(status) => return of(status),
                };
                let status = swift.finish_delete(&deleting);
                if deleting.leaves_tombstones() {
                    self.tell(asked, timestamp, None);
                }
                of(status)
            }
            Request::Put {
                body,
                md5,
                announced,
                only_if_absent,
            } => {
                let content: Arc<[u8]> = body.bytes().into();
                let stored = Arc::new(Stored {
                    bytes: body.len,
                    etag: *md5,
                    body: Bytes { write: 0, content },
                });
                let put = Put {
                    timestamp,
                    only_if_absent: *only_if_absent,
                    announced: *announced,
                    stored: stored.clone(),
                };
                let status = match swift.begin_put(&path, put, EVERY_NODE) {
                    Ok(putting) => swift.finish_put(&putting, EVERY_NODE),
                    Err(status) => status,
                };
                if status != 201 {
                    return of(status);
                }
                self.tell(asked, timestamp, Some(stored));
                Answer {
                    etag: Some(*md5),
                    modified: Some(timestamp.div_ceil(SECOND)),
                    ..of(201)
                }
            }
            Request::Read(read) => match swift.get(&path, read, order, EVERY_NODE) {
                Err(status) => of(status),
                Ok(found) => {
                    let (stored, shown) = (found.stored, found.shown);
                    let range = shown.start as usize..shown.end as usize;
                    let is_whole = matches!(shown.status, 200 | 206);
                    Answer {
                        etag: is_whole.then_some(stored.etag),
                        length: is_whole.then_some(shown.bytes()),
                        range: shown.content_range(stored.bytes),
                        modified: is_whole.then_some(found.timestamp.div_ceil(SECOND)),
                        timestamp: is_whole.then_some(found.timestamp),
                        body: if read.head {
                            Vec::new()
                        } else {
                            stored.body.content[range].to_vec()
                        },
                        ..of(shown.status)
                    }
                }
            },
        }
    }

    fn tell(
        &mut self,
        asked: &super::trace::Asked,
        timestamp: u64,
        stored: Option<Arc<Stored<Bytes>>>,
    ) {
        let (container, name) = (&asked.container, &asked.name);
        for replica in 0..PRIMARIES {
            let stored = stored.clone();
            self.swift
                .update_listing(container, name, replica, Row { timestamp, stored });
        }
    }

    fn list(&self, container: &str, ask: &ListAsk, order: usize) -> Answer {
        let rows = match self.swift.list(container, ask, order, EVERY_NODE) {
            Ok(rows) => rows,
            Err(status) => {
                return Answer {
                    status,
                    ..Answer::default()
                };
            }
        };
        let listed = |(name, bytes, timestamp): (String, u64, u64)| {
            let read = crate::store::swift::answer::Read {
                newest: true,
                ..Default::default()
            };
            let path = format!("/{container}/{name}");
            let found = self
                .swift
                .get(&path, &read, 0, EVERY_NODE)
                .expect("what is listed is there when nothing lags");
            Listed {
                name,
                bytes,
                etag: found.stored.etag,
                timestamp,
            }
        };
        Answer {
            status: 200,
            rows: rows.into_iter().map(listed).collect(),
            ..Answer::default()
        }
    }
}

fn trace(seed: u64, clock: Clock) -> Trace {
    let clocks = vec![Clock::Behind(0), clock];
    let shape = Shape {
        requests: 600,
        outages: false,
        late_proxy: 10,
        races: 0,
    };
    let mut server = Server {
        swift: Swift::new(),
        clocks: clocks.clone(),
        now: START,
    };
    let mut trace = Trace::default();
    trace.cluster.clocks = clocks;
    for (n, planned) in plan(seed, "c", shape, sum).into_iter().enumerate() {
        let Planned::Ask(asked) = planned else {
            continue;
        };
        let [asked] = <[_; 1]>::try_from(asked).expect("no races");
        let began = server.now;
        let answer = server.answer(&asked, mix(seed, n as u64));
        server.now += 20_000 + mix(seed, n as u64) % 90_000;
        let exchange = Exchange {
            asked,
            answer,
            began,
            ended: server.now - 10_000,
        };
        trace.steps.push(Step::Ask(vec![exchange]));
    }
    trace
}

fn clocks() -> [Clock; 2] {
    [
        Clock::Behind(3600 * SECOND),
        Clock::Still(START - 7 * SECOND),
    ]
}

#[test]
fn the_model_allows_what_it_does_itself() {
    for clock in clocks() {
        for seed in 0..6 {
            let trace = trace(seed, clock);
            let end = Acceptor::accept(trace.cluster, &trace.steps);
            match end {
                Ok(acceptor) => assert_eq!(acceptor.most_states(), 1),
                Err(refusal) => panic!("seed {seed}: {refusal}"),
            }
        }
    }
}

#[test]
fn one_altered_answer_is_not_allowed() {
    let mut table: BTreeMap<Alteration, (u32, u32)> = BTreeMap::new();
    for clock in clocks() {
        for seed in 0..3 {
            let trace = trace(seed, clock);
            for (kind, (rejected, tried)) in rejections(&trace, 10).expect("it is allowed") {
                let sum = table.entry(kind).or_default();
                sum.0 += rejected;
                sum.1 += tried;
            }
        }
    }
    for kind in Alteration::ALL {
        let (rejected, tried) = table.get(kind).copied().unwrap_or_default();
        assert!(tried > 0, "{} was never tried", kind.name());
        assert!(
            rejected * 10 >= tried * 9,
            "{}: {rejected} of {tried} rejected",
            kind.name()
        );
    }
}
