//! Random requests from a seed: few names, so that they meet.

use super::trace::{Asked, Body, Request};
use crate::choice::{Choices, Die, Edits};
use crate::store::swift::answer::{Read, Span};
use crate::store::swift::container::ListAsk;
use crate::store::swift::{EVERY_NODE, NODES, Reach};
use std::collections::BTreeMap;

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Planned {
    /// Send these together.
    Ask(Vec<Asked>),
    /// Stop and start object servers until these are up, by their own numbers.
    Up(Reach),
    /// Let the replicator go over all nodes.
    Replicate,
}

/// Names of objects, in every container.
pub const NAMES: [&str; 6] = ["a", "p/1", "p/2", "p/3", "q", "z~"];

/// What a plan is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Requests, at least.
    pub requests: usize,
    /// Whether object servers go away and come back.
    pub outages: bool,
    /// Of a hundred writes and reads, those through the second proxy.
    pub late_proxy: u64,
    /// Of a hundred steps, those that are races.
    pub races: u64,
}

struct Plan<'a> {
    choices: Choices,
    step: u64,
    nth: u32,
    tag: &'a str,
    shape: Shape,
    md5: fn(&[u8]) -> [u8; 16],
    /// What was sent last to each name: a guess at what it holds.
    last: BTreeMap<(usize, usize), (Body, [u8; 16])>,
}

/// A plan. `tag` begins the names of its containers; `md5` makes ETags.
pub fn plan(seed: u64, tag: &str, shape: Shape, md5: fn(&[u8]) -> [u8; 16]) -> Vec<Planned> {
    let mut plan = Plan {
        choices: Choices::seeded(seed, Edits::default()),
        step: 0,
        nth: 0,
        tag,
        shape,
        md5,
        last: BTreeMap::new(),
    };
    let mut steps = Vec::new();
    for container in 0..CONTAINERS {
        steps.push(Planned::Ask(vec![plan.about(
            container,
            0,
            Request::PutContainer,
        )]));
    }
    let mut count = steps.len();
    while count < shape.requests {
        if shape.outages && plan.of(18) == 0 {
            plan.turn(&mut steps);
        }
        let asked = plan.next();
        count += asked.len();
        steps.push(Planned::Ask(asked));
    }
    if shape.outages {
        steps.extend([Planned::Up(EVERY_NODE), Planned::Replicate]);
    }
    // At the end all is looked at.
    for container in 0..CONTAINERS {
        for name in 0..NAMES.len() {
            for newest in [false, true] {
                let read = Read {
                    newest,
                    ..Read::default()
                };
                let asked = plan.about_object(container, name, Request::Read(read));
                steps.push(Planned::Ask(vec![asked]));
            }
        }
        let asked = plan.about(container, 0, Request::List(plan.whole_listing()));
        steps.push(Planned::Ask(vec![asked]));
    }
    steps
}

/// Containers of a plan. The last one is seldom written to, so that it can be deleted.
const CONTAINERS: usize = 3;

impl Plan<'_> {
    fn of(&mut self, of: u64) -> u64 {
        self.nth += 1;
        self.choices.pick(Die::Op, self.step, self.nth, of)
    }

    fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.of(items.len() as u64) as usize]
    }

    fn percent(&mut self, share: u64) -> bool {
        self.of(100) < share
    }

    fn about(&self, container: usize, proxy: usize, request: Request) -> Asked {
        Asked {
            proxy,
            container: format!("{}-{container}", self.tag),
            name: String::new(),
            request,
        }
    }

    fn about_object(&self, container: usize, name: usize, request: Request) -> Asked {
        Asked {
            name: NAMES[name].to_owned(),
            ..self.about(container, 0, request)
        }
    }

    fn whole_listing(&self) -> ListAsk {
        ListAsk {
            limit: 100,
            ..ListAsk::default()
        }
    }

    // Servers go away, come back, and sometimes the replicator mends what they missed.
    fn turn(&mut self, steps: &mut Vec<Planned>) {
        let down = match self.of(6) {
            0 | 1 => 0,
            2..=4 => 1,
            _ => 2,
        };
        let mut up = EVERY_NODE;
        for _ in 0..down {
            up &= !(1 << self.of(NODES as u64));
        }
        steps.push(Planned::Up(up));
        if up == EVERY_NODE && self.of(3) == 0 {
            steps.push(Planned::Replicate);
        }
    }

    fn next(&mut self) -> Vec<Asked> {
        self.step += 1;
        self.nth = 0;
        let container = self.one_of(&[0, 0, 0, 0, 1, 1, 1, 2]);
        if self.percent(self.shape.races) {
            let name = self.of(NAMES.len() as u64) as usize;
            let count = 2 + usize::from(self.of(6) == 0);
            let of_kind = |plan: &mut Self| {
                let kind = plan.one_of(&[0, 0, 0, 1, 2, 2]);
                plan.object_request(container, name, kind)
            };
            let requests: Vec<Request> = (0..count).map(|_| of_kind(self)).collect();
            let about = |r| self.about_object(container, name, r);
            return requests.into_iter().map(about).collect();
        }
        match self.of(20) {
            0 => {
                let request = match self.of(4) {
                    0 => Request::PutContainer,
                    1 => Request::DeleteContainer,
                    _ => Request::HeadContainer,
                };
                vec![self.about(container, 0, request)]
            }
            1 | 2 => {
                let ask = self.listing();
                vec![self.about(container, 0, Request::List(ask))]
            }
            _ => {
                let name = self.of(NAMES.len() as u64) as usize;
                let kind = self.one_of(&[0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2, 2]);
                let request = self.object_request(container, name, kind);
                let proxy = usize::from(self.percent(self.shape.late_proxy));
                let asked = self.about_object(container, name, request);
                vec![Asked { proxy, ..asked }]
            }
        }
    }

    fn listing(&mut self) -> ListAsk {
        let bound = ["", "", "", "a", "p", "p/1", "p/2", "q", "~"];
        ListAsk {
            prefix: self.one_of(&["", "", "p/", "p/2", "z", "y"]).to_owned(),
            after: self.one_of(&bound).to_owned(),
            before: self.one_of(&bound).to_owned(),
            limit: self.one_of(&[100, 100, 1, 2, 3]),
        }
    }

    fn object_request(&mut self, container: usize, name: usize, kind: u32) -> Request {
        match kind {
            0 => self.put(container, name),
            1 => Request::Delete,
            _ => self.read(container, name),
        }
    }

    fn put(&mut self, container: usize, name: usize) -> Request {
        let before = self.last.get(&(container, name)).copied();
        let (body, md5) = match before {
            // The same bytes again, as after a lost answer.
            Some(before) if self.percent(20) => before,
            _ => {
                let len = self.one_of(&[100, 0, 1, 17, 100, 4096, 70_000]);
                let seed = self.step << 8 | u64::from(self.nth);
                let body = Body { seed, len };
                (body, (self.md5)(&body.bytes()))
            }
        };
        let announced = match self.of(10) {
            0 | 1 => None,
            2 => Some((self.md5)(b"something else")),
            _ => Some(md5),
        };
        self.last.insert((container, name), (body, md5));
        let only_if_absent = self.percent(30);
        Request::Put {
            body,
            md5,
            announced,
            only_if_absent,
        }
    }

    fn read(&mut self, container: usize, name: usize) -> Request {
        let before = self.last.get(&(container, name)).copied();
        let (body, md5) = before.unwrap_or((Body { seed: 0, len: 0 }, [7; 16]));
        let mut read = Read {
            newest: self.percent(50),
            head: self.percent(25),
            ..Read::default()
        };
        if self.percent(40) {
            let at = self.of(body.len.max(1) + 3);
            let more = self.of(body.len.max(1) * 2);
            read.span = Some(match self.of(4) {
                0 => Span::From(at),
                1 => Span::Last(more),
                _ => Span::Between(at, at + more),
            });
        }
        let wanted = if self.percent(70) { md5 } else { [9; 16] };
        match self.of(12) {
            0 => read.if_match = Some(wanted),
            1 => read.if_none_match = Some(wanted),
            _ => {}
        }
        Request::Read(read)
    }
}
