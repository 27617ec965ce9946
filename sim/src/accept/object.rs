//! Requests on one object, alone or in a race.

use super::trace::{Answer, Exchange, Request};
use super::{Acceptor, Bytes, Late, MOST_STATES, Name, POST_QUORUM, SLACK, Window};
use crate::store::swift::answer::Read;
use crate::store::swift::container::Row;
use crate::store::swift::object::{
    Copy, Found, ORDERS, Put, Reading, look_delete, settle, targets,
};
use crate::store::swift::proxy::{best_of, best_of_delete, quorum};
use crate::store::swift::{NODES, PRIMARIES, Reach, Stored};
use std::collections::BTreeSet;
use std::sync::Arc;

/// How far a request has come.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Stage {
    /// A PUT whose headers go to the nodes: those that have them, and what they said.
    Putting { looked: Reach, said: Vec<u16> },
    /// A PUT that the nodes wait for: those that have the body.
    Landing { landed: Reach },
    /// A DELETE: the nodes that looked, that will put a tombstone, that did; and what they said.
    Deleting {
        looked: Reach,
        bury: Reach,
        buried: Reach,
        said: Vec<u16>,
    },
    /// A read: the nodes asked, and what they said.
    Reading {
        asked: Reach,
        so_far: Reading<Bytes>,
    },
    /// Answered.
    Done,
}

/// A race under one assumption about the stamps.
struct Race<'a> {
    exchanges: &'a [Exchange],
    /// What each PUT brings.
    bodies: &'a [Option<Arc<Stored<Bytes>>>],
    /// X-Timestamps, by exchange.
    stamps: Vec<u64>,
    /// The first write's number.
    first_write: usize,
    windows: &'a [Window],
    reach: Reach,
    is_known: bool,
    /// Whether a step is taken at all nodes at once.
    is_coarse: bool,
}

/// Where every walk through a race ends.
#[derive(Default)]
struct Ends {
    states: Vec<Name>,
    /// Where walks have been.
    visited: BTreeSet<(Name, Vec<Stage>)>,
    /// Which writes explain what the reads saw.
    seen: BTreeSet<usize>,
    /// What the model says where it says something else.
    otherwise: BTreeSet<String>,
}

fn subsets(of: Reach, at_least: u32) -> impl Iterator<Item = Reach> {
    (0..=of).filter(move |s| s & !of == 0 && s.count_ones() >= at_least)
}

fn members(mask: Reach) -> impl Iterator<Item = usize> {
    (0..NODES).filter(move |n| mask >> n & 1 == 1)
}

impl Acceptor {
    pub(super) fn ask_object(&mut self, exchanges: &[Exchange]) -> Result<(), String> {
        let Some(first) = exchanges.first().map(|e| &e.asked) else {
            return Ok(());
        };
        let (container, name) = (first.container.as_str(), first.name.as_str());
        debug_assert!(
            exchanges
                .iter()
                .all(|e| e.asked.container == container && e.asked.name == name),
            "a race is about one object"
        );
        let clock = |e: &Exchange| self.cluster.clocks[e.asked.proxy];
        let first_write = self.windows.len();
        let windows = exchanges.iter().map(|e| Window {
            from: clock(e).at(e.began).saturating_sub(SLACK),
            to: clock(e).at(e.ended) + SLACK,
        });
        let mut windows: Vec<Window> = self.windows.iter().copied().chain(windows).collect();
        let states = self.names.get(container).and_then(|n| n.get(name));
        let mut before = Vec::new();
        for state in states.cloned().unwrap_or_default() {
            state.with_late(&mut before);
        }
        if before.is_empty() {
            before.push(Name::default());
        }
        let body = |(n, e): (usize, &Exchange)| match &e.asked.request {
            Request::Put { body, md5, .. } => Some(Arc::new(Stored {
                bytes: body.len,
                etag: *md5,
                body: Bytes {
                    write: first_write + n,
                    content: body.bytes().into(),
                },
            })),
            _ => None,
        };
        let bodies: Vec<_> = exchanges.iter().enumerate().map(body).collect();
        let mut ends = Ends::default();
        // What a write leaves follows from the answers and the stamps, whatever the order at each node was: so that is
        // looked into only where no simpler course explains the answers.
        for is_coarse in [true, false] {
            for is_known in self.known_cases(container) {
                for stamps in stamps(exchanges, |e| clock(e).at(e.began)) {
                    let race = Race {
                        exchanges,
                        bodies: &bodies,
                        stamps,
                        first_write,
                        windows: &windows,
                        reach: self.reach(container, name),
                        is_known,
                        is_coarse,
                    };
                    for state in &before {
                        race.walk(state.clone(), race.stages(), &mut ends);
                    }
                    ends.visited.clear();
                }
            }
            if !ends.states.is_empty() || exchanges.len() == 1 {
                break;
            }
        }
        if ends.states.is_empty() {
            let asked: Vec<String> = exchanges.iter().map(ToString::to_string).collect();
            let otherwise: Vec<String> = ends.otherwise.into_iter().collect();
            return Err(format!(
                "{}; the model says {}",
                asked.join(" | "),
                otherwise.join(" or ")
            ));
        }
        assert!(
            ends.states.len() <= MOST_STATES,
            "{container}/{name}: too many states"
        );
        // What is seen of a stamp narrows when it was made.
        for (n, exchange) in exchanges.iter().enumerate() {
            let answer = &exchange.answer;
            if let (Request::Put { .. }, 201, Some(modified)) =
                (&exchange.asked.request, answer.status, answer.modified)
            {
                let window = &mut windows[first_write + n];
                window.from = window.from.max((modified - 1) * 1_000_000 + 1);
                window.to = window.to.min(modified * 1_000_000);
            }
        }
        if let ([only], [one]) = (ends.seen.iter().collect::<Vec<_>>().as_slice(), exchanges)
            && let Some(timestamp) = one.answer.timestamp
        {
            windows[**only] = Window {
                from: timestamp,
                to: timestamp,
            };
        }
        self.windows = windows;
        let names = self.names.entry(container.to_owned()).or_default();
        names.insert(name.to_owned(), ends.states);
        Ok(())
    }
}

// The stamps of a race: whoever was sent first may be stamped last.
fn stamps(exchanges: &[Exchange], at: impl Fn(&Exchange) -> u64) -> Vec<Vec<u64>> {
    if let [one] = exchanges {
        return vec![vec![at(one)]];
    }
    let start = exchanges.iter().map(at).min().unwrap_or(0);
    let mut all: Vec<Vec<u64>> = vec![Vec::new()];
    for n in 0..exchanges.len() {
        let longer = all.iter().flat_map(|ranks| {
            (0..=ranks.len()).map(|place| {
                let mut ranks = ranks.clone();
                ranks.insert(place, n as u64);
                ranks
            })
        });
        all = longer.collect();
    }
    let ranks = all.into_iter();
    ranks
        .map(|r| r.into_iter().map(|rank| start + rank).collect())
        .collect()
}

impl Race<'_> {
    fn stages(&self) -> Vec<Stage> {
        let stage = |e: &Exchange| match &e.asked.request {
            Request::Put { .. } => Stage::Putting {
                looked: 0,
                said: Vec::new(),
            },
            Request::Delete => Stage::Deleting {
                looked: 0,
                bury: 0,
                buried: 0,
                said: Vec::new(),
            },
            _ => Stage::Reading {
                asked: 0,
                so_far: Reading::default(),
            },
        };
        self.exchanges.iter().map(stage).collect()
    }

    fn walk(&self, state: Name, at: Vec<Stage>, ends: &mut Ends) {
        if at.iter().all(|s| *s == Stage::Done) {
            if !ends.states.contains(&state) {
                ends.states.push(state);
            }
            return;
        }
        let place = (state, at);
        if ends.visited.contains(&place) {
            return;
        }
        let (state, at) = &place;
        for (n, stage) in at.iter().enumerate() {
            let nexts = match stage {
                Stage::Putting { looked, said } => self.look(n, *looked, said, state, ends),
                Stage::Landing { landed } => self.land(n, *landed, state, ends),
                Stage::Deleting { .. } => self.delete(n, stage, state, ends),
                Stage::Reading { asked, so_far } => self.read(n, *asked, so_far, state, ends),
                Stage::Done => Vec::new(),
            };
            for (next, state) in nexts {
                let mut at = at.clone();
                at[n] = next;
                self.walk(state, at, ends);
            }
        }
        ends.visited.insert(place);
    }

    // The nodes that may come next, together.
    fn next_of(&self, n: usize, left: Reach) -> Vec<Reach> {
        if left == 0 {
            return Vec::new();
        }
        if !self.is_coarse {
            return members(left).map(|node| 1 << node).collect();
        }
        if self.is_slow(n) {
            return subsets(left, 1).collect();
        }
        vec![left]
    }

    // The answer is settled: it must be the one seen.
    fn settled(&self, n: usize, status: u16, state: &Name, ends: &mut Ends) -> Vec<(Stage, Name)> {
        if status == self.exchanges[n].answer.status {
            return vec![(Stage::Done, state.clone())];
        }
        ends.otherwise.insert(status.to_string());
        Vec::new()
    }

    // The headers of a PUT come to one more node.
    fn look(
        &self,
        n: usize,
        looked: Reach,
        said: &[u16],
        state: &Name,
        ends: &mut Ends,
    ) -> Vec<(Stage, Name)> {
        if !self.is_known {
            return self.settled(n, 404, state, ends);
        }
        let put = self.put(n);
        let left = targets(self.reach) & !looked;
        if left == 0 {
            return match put.goes_on(said) {
                Ok(()) => vec![(Stage::Landing { landed: 0 }, state.clone())],
                Err(status) => self.settled(n, status, state, ends),
            };
        }
        let next = |nodes: Reach| {
            let mut said = said.to_vec();
            said.extend(members(nodes).map(|node| put.look(state.copies.node(node))));
            said.sort_unstable();
            let looked = looked | nodes;
            (Stage::Putting { looked, said }, state.clone())
        };
        let nodes = self.next_of(n, left).into_iter();
        nodes.map(next).collect()
    }

    // The body of a PUT comes to one more node, or the proxy has waited long enough.
    fn land(&self, n: usize, landed: Reach, state: &Name, ends: &mut Ends) -> Vec<(Stage, Name)> {
        let put = self.put(n);
        let left = targets(self.reach) & !landed;
        let mut all = Vec::new();
        if self.may_answer(n, left, landed) {
            self.finish_put(n, landed, state, ends, &mut all);
        }
        for nodes in self.next_of(n, left) {
            let mut state = state.clone();
            if put.taken() == 201 {
                members(nodes).for_each(|node| state.copies.keep(node, put.copy()));
            }
            let landed = landed | nodes;
            all.push((Stage::Landing { landed }, state));
        }
        all
    }

    // Whether a write may be answered when the nodes `left` have not acted yet.
    fn may_answer(&self, n: usize, left: Reach, done: Reach) -> bool {
        left == 0 || self.is_slow(n) && done.count_ones() >= quorum(PRIMARIES) as u32
    }

    fn delete(&self, n: usize, stage: &Stage, state: &Name, ends: &mut Ends) -> Vec<(Stage, Name)> {
        let Stage::Deleting {
            looked,
            bury,
            buried,
            said,
        } = stage
        else {
            return Vec::new();
        };
        if !self.is_known {
            return self.settled(n, 404, state, ends);
        }
        let timestamp = self.stamps[n];
        let tombstone = || Copy {
            timestamp,
            stored: None,
        };
        let to_look = targets(self.reach) & !looked;
        let to_bury = bury & !buried;
        let mut all = Vec::new();
        if self.may_answer(n, to_look | to_bury, looked & !to_bury) {
            let said: Vec<u16> = said.clone();
            let status = settle(&said, best_of_delete);
            if status == self.exchanges[n].answer.status {
                let mut state = state.clone();
                let late = members(to_look | to_bury).map(|node| Late::Copy(node, tombstone()));
                state.late.extend(late);
                self.list(n, &state, *buried, &tombstone(), &mut all);
            } else {
                ends.otherwise.insert(status.to_string());
            }
        }
        for nodes in self.next_of(n, to_look) {
            let (mut said, mut bury) = (said.clone(), *bury);
            for node in members(nodes) {
                let (status, is_older) = look_delete(state.copies.node(node), timestamp);
                said.push(status);
                bury |= Reach::from(is_older) << node;
            }
            said.sort_unstable();
            let next = Stage::Deleting {
                looked: looked | nodes,
                bury,
                buried: *buried,
                said,
            };
            all.push((next, state.clone()));
        }
        for nodes in self.next_of(n, to_bury) {
            let mut state = state.clone();
            members(nodes).for_each(|node| state.copies.keep(node, tombstone()));
            let next = Stage::Deleting {
                looked: *looked,
                bury: *bury,
                buried: buried | nodes,
                said: said.clone(),
            };
            all.push((next, state));
        }
        all
    }

    // One more node is asked: primaries in any order, then the handoffs in theirs.
    fn read(
        &self,
        n: usize,
        asked: Reach,
        so_far: &Reading<Bytes>,
        state: &Name,
        ends: &mut Ends,
    ) -> Vec<(Stage, Name)> {
        let Request::Read(read) = &self.exchanges[n].asked.request else {
            return Vec::new();
        };
        if self.is_coarse {
            let found = (0..ORDERS.len()).map(|order| state.copies.get(read, order, self.reach));
            let found: Vec<_> = found.collect();
            let shown = |found| self.shown(n, read, found, state, ends);
            return found.into_iter().flat_map(shown).collect();
        }
        let left = self.reach & !asked;
        let primaries = left & ((1 << PRIMARIES) - 1);
        let (from, count) = if primaries == 0 {
            (left, 1)
        } else {
            (primaries, PRIMARIES)
        };
        let mut all = Vec::new();
        if left == 0 {
            return self.shown(n, read, so_far.clone().end(), state, ends);
        }
        for node in members(from).take(count) {
            let mut so_far = so_far.clone();
            if so_far.ask(read, node, state.copies.node(node)) {
                all.extend(self.shown(n, read, so_far.end(), state, ends));
            } else {
                let asked = asked | 1 << node;
                all.push((Stage::Reading { asked, so_far }, state.clone()));
            }
        }
        all
    }

    fn shown(
        &self,
        n: usize,
        read: &Read,
        found: Result<Found<Bytes>, u16>,
        state: &Name,
        ends: &mut Ends,
    ) -> Vec<(Stage, Name)> {
        if !self.is_shown(read, &found, &self.exchanges[n].answer) {
            ends.otherwise.insert(tell(&found));
            return Vec::new();
        }
        if let Ok(found) = &found {
            ends.seen.insert(found.stored.body.write);
        }
        vec![(Stage::Done, state.clone())]
    }

    fn put(&self, n: usize) -> Put<Bytes> {
        let Request::Put {
            announced,
            only_if_absent,
            ..
        } = &self.exchanges[n].asked.request
        else {
            unreachable!("asked for PUTs only");
        };
        Put {
            timestamp: self.stamps[n],
            only_if_absent: *only_if_absent,
            announced: *announced,
            stored: self.bodies[n].clone().expect("a PUT has a body"),
        }
    }

    fn is_slow(&self, n: usize) -> bool {
        let exchange = &self.exchanges[n];
        exchange.ended - exchange.began >= POST_QUORUM
    }

    fn finish_put(
        &self,
        n: usize,
        landed: Reach,
        state: &Name,
        ends: &mut Ends,
        all: &mut Vec<(Stage, Name)>,
    ) {
        let put = self.put(n);
        let answer = &self.exchanges[n].answer;
        let said: Vec<u16> = members(landed).map(|_| put.taken()).collect();
        let status = settle(&said, best_of);
        if status != answer.status {
            ends.otherwise.insert(status.to_string());
            return;
        }
        if status == 201 && !self.is_confirmed(n, &put.stored, answer) {
            ends.otherwise.insert("201 of other bytes or time".into());
            return;
        }
        if put.taken() != 201 {
            all.push((Stage::Done, state.clone()));
            return;
        }
        let mut state = state.clone();
        let missed = targets(self.reach) & !landed;
        let late = members(missed).map(|node| Late::Copy(node, put.copy()));
        state.late.extend(late);
        self.list(n, &state, landed, &put.copy(), all);
    }

    fn is_confirmed(&self, n: usize, stored: &Stored<Bytes>, answer: &Answer) -> bool {
        answer.etag == Some(stored.etag)
            && answer
                .modified
                .is_some_and(|m| self.windows[self.first_write + n].admits_second(m))
    }

    // Each node that took a write tells one replica of the container; with three of them all are told.
    fn list(
        &self,
        n: usize,
        state: &Name,
        took: Reach,
        copy: &Copy<Bytes>,
        all: &mut Vec<(Stage, Name)>,
    ) {
        let replicas: Reach = (1 << PRIMARIES) - 1;
        let told = took.count_ones().min(PRIMARIES as u32);
        let row = || Row {
            timestamp: copy.timestamp,
            stored: copy.stored.clone(),
        };
        for chosen in subsets(replicas, told).filter(|s| s.count_ones() == told) {
            let mut state = state.clone();
            if self.is_slow(n) {
                // Any of them may hear of it later.
                state
                    .late
                    .extend(members(replicas).map(|r| Late::Row(r, row())));
            } else {
                members(chosen).for_each(|r| state.rows.update(r, row()));
            }
            if !all.iter().any(|(_, s)| *s == state) {
                all.push((Stage::Done, state));
            }
        }
    }

    // Whether this is what was answered to a read.
    fn is_shown(&self, read: &Read, found: &Result<Found<Bytes>, u16>, answer: &Answer) -> bool {
        let found = match found {
            Err(status) => {
                return *status == answer.status
                    && (answer.status != 200 || answer.body.is_empty());
            }
            Ok(found) => found,
        };
        let (stored, shown) = (&found.stored, &found.shown);
        if answer.status != shown.status || answer.range != shown.content_range(stored.bytes) {
            return false;
        }
        if !matches!(shown.status, 200 | 206) {
            return true;
        }
        let Some(window) = self.windows.get(stored.body.write) else {
            return false;
        };
        let is_of_that_time = answer
            .timestamp
            .is_some_and(|t| window.admits(t) && answer.modified == Some(t.div_ceil(1_000_000)));
        let wanted = shown.start as usize..shown.end as usize;
        let body = if read.head {
            &[][..]
        } else {
            stored.body.content.get(wanted).unwrap_or_default()
        };
        answer.etag == Some(stored.etag)
            && answer.length == Some(shown.bytes())
            && is_of_that_time
            && answer.body == body
    }
}

fn tell(found: &Result<Found<Bytes>, u16>) -> String {
    match found {
        Err(status) => status.to_string(),
        Ok(found) => {
            let etag = &found.stored.etag[..4];
            let etag: String = etag.iter().map(|b| format!("{b:02x}")).collect();
            format!(
                "{} of write {} {etag} bytes {}..{}",
                found.shown.status, found.stored.body.write, found.shown.start, found.shown.end
            )
        }
    }
}
