//! Whether the model of Swift allows what a Swift answered.
//!
//! The model says what a cluster does once it is decided which nodes a request reaches, in which order they are asked
//! and how requests interleave. Here these are unknown: the acceptor keeps *every* state in which the cluster may be
//! after the answers seen so far, lets the very model of the simulator (`store::swift`) take each possible step from
//! each of them, and keeps what ends in the answer seen. No state left: the answer was not allowed.
//!
//! ```text
//! states of a name ──► every interleaving, order of stamps, order of nodes, late copy ──► model ──► answer equal? ──► states
//! ```
//!
//! Where requests race, each of them comes to each node in its own time, and a node looks before it acts.
//!
//! States are kept per name (its copies, and its rows at each replica of the container): names do not touch each other.
//! What is known is used: the clocks (a stamp lies between the request's start and end), the nodes that are up, and that
//! a proxy waits for its third node up to [`POST_QUORUM`] after the second.

pub mod alter;
pub mod generate;
pub mod trace;

mod object;

use crate::store::swift::container::{Ledgers, ListAsk, Row, Rows};
use crate::store::swift::object::{Copies, Copy};
use crate::store::swift::{EVERY_NODE, NODES, PRIMARIES, Reach};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use trace::{Answer, Cluster, Exchange, Listed, Request, Step};

/// A proxy answers so long after the majority, at the latest (`post_quorum_timeout` is 500 ms): a faster answer speaks
/// for all nodes that were reached. In microseconds.
pub const POST_QUORUM: u64 = 450_000;

/// X-Timestamp has five decimals of a second.
const SLACK: u64 = 10;

/// More states than this are a fault of the trace: it leaves too much open.
const MOST_STATES: usize = 20_000;

/// What stands for the bytes of an object.
#[derive(Clone, Debug)]
pub struct Bytes {
    /// Which PUT brought them.
    pub write: usize,
    /// They.
    pub content: Arc<[u8]>,
}

// A PUT has one body.
impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        self.write == other.write
    }
}

impl Eq for Bytes {}

impl PartialOrd for Bytes {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bytes {
    fn cmp(&self, other: &Self) -> Ordering {
        self.write.cmp(&other.write)
    }
}

/// When a write was stamped: not before, not after, in microseconds by its proxy's clock.
#[derive(Clone, Copy, Debug)]
struct Window {
    from: u64,
    to: u64,
}

impl Window {
    fn admits(self, timestamp: u64) -> bool {
        (self.from..=self.to).contains(&timestamp)
    }

    // Last-Modified is the timestamp, rounded up to a second.
    fn admits_second(self, modified: u64) -> bool {
        self.from.div_ceil(1_000_000) <= modified && modified <= self.to.div_ceil(1_000_000)
    }
}

/// What a straggler will still do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Late {
    Copy(usize, Copy<Bytes>),
    Row(usize, Row<Bytes>),
}

/// One way in which a name may stand.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Name {
    copies: Copies<Bytes>,
    rows: Rows<Bytes>,
    late: Vec<Late>,
}

impl Name {
    fn land(&mut self, late: Late) {
        match late {
            Late::Copy(node, copy) => self.copies.keep(node, copy),
            Late::Row(replica, row) => self.rows.update(replica, row),
        }
    }

    // Itself, and with every choice of its stragglers landed.
    fn with_late(self, out: &mut Vec<Self>) {
        for mask in 0..1_u32 << self.late.len().min(6) {
            let mut state = self.clone();
            let late = std::mem::take(&mut state.late);
            for (n, late) in late.into_iter().enumerate() {
                if mask >> n & 1 == 1 {
                    state.land(late);
                } else {
                    state.late.push(late);
                }
            }
            if !out.contains(&state) {
                out.push(state);
            }
        }
    }
}

/// Why a trace is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The step in which no state is left.
    pub step: usize,
    /// What stands against it.
    pub why: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}: {}", self.step, self.why)
    }
}

/// All states in which a cluster may be.
#[derive(Clone, Debug)]
pub struct Acceptor {
    cluster: Arc<Cluster>,
    up: Reach,
    names: BTreeMap<String, BTreeMap<String, Vec<Name>>>,
    containers: BTreeMap<String, Vec<Ledgers>>,
    windows: Vec<Window>,
    steps: usize,
}

impl Acceptor {
    /// An empty cluster, all of it up.
    pub fn new(cluster: Cluster) -> Self {
        Self {
            cluster: Arc::new(cluster),
            up: EVERY_NODE,
            names: BTreeMap::new(),
            containers: BTreeMap::new(),
            windows: Vec::new(),
            steps: 0,
        }
    }

    /// The most states that any name has now.
    pub fn most_states(&self) -> usize {
        let names = self.names.values().flat_map(BTreeMap::values);
        names.map(Vec::len).max().unwrap_or(0)
    }

    /// Takes the next step. Errors: no state allows it; the acceptor is of no use any more.
    pub fn step(&mut self, step: &Step) -> Result<(), Refusal> {
        let number = self.steps;
        self.steps += 1;
        let taken = match step {
            Step::Up(up) => {
                self.up = *up;
                Ok(())
            }
            Step::Replicated => {
                self.replicate();
                Ok(())
            }
            Step::Ask(exchanges) => match exchanges.as_slice() {
                [one] if one.asked.name.is_empty() => self.ask_container(one),
                several => self.ask_object(several),
            },
        };
        taken.map_err(|why| Refusal { step: number, why })
    }

    /// Takes all steps. Errors: the first that is not allowed.
    pub fn accept(cluster: Cluster, steps: &[Step]) -> Result<Self, Refusal> {
        let mut acceptor = Self::new(cluster);
        for step in steps {
            acceptor.step(step)?;
        }
        Ok(acceptor)
    }

    // The nodes of an object that are up, primaries first.
    fn reach(&self, container: &str, name: &str) -> Reach {
        match self.cluster.places.get(&format!("{container}/{name}")) {
            None => EVERY_NODE,
            Some(nodes) => (0..NODES)
                .filter(|n| self.up >> nodes[*n] & 1 == 1)
                .fold(0, |mask, n| mask | 1 << n),
        }
    }

    fn replicate(&mut self) {
        let places = self.names.iter().flat_map(|(c, names)| {
            let names = names.keys();
            names.map(move |n| (c.clone(), n.clone()))
        });
        let places: Vec<_> = places.collect();
        for (container, name) in places {
            let reach = self.reach(&container, &name);
            let names = self.names.entry(container).or_default();
            let states = names.entry(name).or_default();
            let mut after: Vec<Name> = Vec::new();
            for mut state in std::mem::take(states) {
                // Nothing is on its way for that long.
                for late in std::mem::take(&mut state.late) {
                    state.land(late);
                }
                state.copies.replicate(reach);
                if !after.contains(&state) {
                    after.push(state);
                }
            }
            *states = after;
        }
    }

    // For each replica: whether it may list nothing, and whether it may list something.
    fn may_have_rows(&self, container: &str) -> [[bool; 2]; PRIMARIES] {
        let mut may = [[true, false]; PRIMARIES];
        let names = self.names.get(container).into_iter().flatten();
        for (_, states) in names {
            for (replica, may) in may.iter_mut().enumerate() {
                let is_listed = |s: &Name| s.rows.listed(replica).is_some();
                may[0] &= states.is_empty() || states.iter().any(|s| !is_listed(s));
                may[1] |= states.iter().any(is_listed);
            }
        }
        may
    }

    // Every combination of replicas that list something.
    fn rows_cases(&self, container: &str) -> Vec<[bool; PRIMARIES]> {
        let may = self.may_have_rows(container);
        let case = |n: usize| std::array::from_fn(|r| n >> r & 1 == 1);
        (0..1_usize << PRIMARIES)
            .map(case)
            .filter(|c: &[bool; PRIMARIES]| (0..PRIMARIES).all(|r| may[r][usize::from(c[r])]))
            .collect()
    }

    fn ledgers(&self, container: &str) -> Vec<Ledgers> {
        let none = || vec![Ledgers::default()];
        self.containers.get(container).cloned().unwrap_or_else(none)
    }

    // Whether proxies may take the container for there, and whether they may take it for gone.
    fn known_cases(&self, container: &str) -> Vec<bool> {
        let cases = self.rows_cases(container);
        let known = |l: &Ledgers| {
            let l = l.clone();
            cases.iter().map(move |c| l.is_known(|n| c[n]))
        };
        let mut all: Vec<bool> = self.ledgers(container).iter().flat_map(known).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn ask_container(&mut self, exchange: &Exchange) -> Result<(), String> {
        let container = exchange.asked.container.as_str();
        let status = exchange.answer.status;
        let timestamp = self.cluster.clocks[exchange.asked.proxy].at(exchange.began);
        let cases = self.rows_cases(container);
        let mut after: Vec<Ledgers> = Vec::new();
        let mut keep = |ledgers: Ledgers| {
            if !after.contains(&ledgers) {
                after.push(ledgers);
            }
        };
        let mut expected = Vec::new();
        match &exchange.asked.request {
            Request::List(ask) => return self.ask_listing(container, ask, &exchange.answer),
            Request::HeadContainer => {
                for ledgers in self.ledgers(container) {
                    for case in &cases {
                        for replica in 0..PRIMARIES {
                            let order = (0..PRIMARIES).map(|n| (n + replica) % PRIMARIES);
                            let found = ledgers.find(order, EVERY_NODE, |n| case[n]);
                            let model = found.err().unwrap_or(204);
                            expected.push(model);
                            let is_count = found.is_err()
                                || found
                                    .is_ok_and(|r| self.may_count(container, r, &exchange.answer));
                            if model == status && is_count {
                                keep(ledgers.clone());
                            }
                        }
                    }
                }
            }
            change => {
                for ledgers in self.ledgers(container) {
                    for case in &cases {
                        let mut ledgers = ledgers.clone();
                        let has_rows = |n: usize| case[n];
                        let model = if matches!(change, Request::PutContainer) {
                            ledgers.create(timestamp, EVERY_NODE, has_rows)
                        } else {
                            ledgers.delete(timestamp, EVERY_NODE, has_rows)
                        };
                        expected.push(model);
                        if model == status {
                            keep(ledgers);
                        }
                    }
                }
            }
        }
        if after.is_empty() {
            expected.sort_unstable();
            expected.dedup();
            return Err(format!("{exchange}: the model says {expected:?}"));
        }
        self.containers.insert(container.to_owned(), after);
        Ok(())
    }

    fn may_count(&self, container: &str, replica: usize, answer: &Answer) -> bool {
        let Some(count) = answer.count else {
            return true;
        };
        let (mut least, mut most) = (0, 0);
        for states in self
            .names
            .get(container)
            .into_iter()
            .flat_map(BTreeMap::values)
        {
            let is_listed = |s: &Name| s.rows.listed(replica).is_some();
            least += u64::from(!states.is_empty() && states.iter().all(is_listed));
            most += u64::from(states.iter().any(is_listed));
        }
        (least..=most).contains(&count)
    }

    fn ask_listing(
        &mut self,
        container: &str,
        ask: &ListAsk,
        answer: &Answer,
    ) -> Result<(), String> {
        let ledgers = self.ledgers(container);
        let cases = self.rows_cases(container);
        let there = |replica: usize| {
            let of = |l: &Ledgers| cases.iter().any(|c| l.is_there(replica, c[replica]));
            ledgers.iter().any(of)
        };
        if answer.status != 200 {
            let absent = |l: &Ledgers| {
                let of = |c: &[bool; PRIMARIES]| l.find(0..PRIMARIES, EVERY_NODE, |n| c[n]);
                cases.iter().any(|c| of(c) == Err(answer.status))
            };
            let is_so = ledgers.iter().any(absent);
            return is_so
                .then_some(())
                .ok_or_else(|| format!("listing {container}: {}", answer.status));
        }
        let rows = &answer.rows;
        let in_order = rows.windows(2).all(|w| w[0].name < w[1].name);
        if !in_order || rows.len() > ask.limit || rows.iter().any(|r| !ask.selects(&r.name)) {
            return Err(format!("listing {container}: rows that were not asked for"));
        }
        // Behind the last row of a full page nothing is said.
        let end = rows.last().filter(|_| rows.len() == ask.limit);
        let names = self.names.entry(container.to_owned()).or_default();
        if let Some(row) = rows.iter().find(|r| !names.contains_key(&r.name)) {
            return Err(format!("listing {container}: {} never existed", row.name));
        }
        let said = |name: &String| {
            ask.selects(name) && end.is_none_or(|e| name.as_str() <= e.name.as_str())
        };
        let windows = &self.windows;
        let mut why = String::new();
        let mut kept: BTreeMap<String, Vec<Name>> = BTreeMap::new();
        for replica in (0..PRIMARIES).filter(|r| there(*r)) {
            let mut fits: Vec<(&String, Vec<Name>)> = Vec::new();
            for (name, states) in names.iter().filter(|(n, _)| said(n)) {
                let row = rows.iter().find(|r| r.name == *name);
                let mut all = Vec::new();
                states.iter().for_each(|s| s.clone().with_late(&mut all));
                if all.is_empty() {
                    all.push(Name::default());
                }
                all.retain(|s| is_listed_as(s, replica, row, windows));
                if all.is_empty() {
                    why = format!("listing {container}: {name} as {row:?} at replica {replica}");
                    break;
                }
                fits.push((name, all));
            }
            if fits.len() < names.keys().filter(|n| said(n)).count() {
                continue;
            }
            for (name, all) in fits {
                let kept = kept.entry(name.clone()).or_default();
                all.into_iter().for_each(|s| {
                    if !kept.contains(&s) {
                        kept.push(s);
                    }
                });
            }
            why.clear();
            why.push_str("ok");
        }
        if kept.is_empty() && names.keys().any(said) || why.is_empty() {
            return Err(if why.is_empty() {
                format!("listing {container}: there is none")
            } else {
                why
            });
        }
        for (name, states) in kept {
            names.insert(name, states);
        }
        Ok(())
    }
}

fn is_listed_as(state: &Name, replica: usize, row: Option<&Listed>, windows: &[Window]) -> bool {
    let held = state.rows.listed(replica).and_then(|r| r.stored.as_ref());
    match (held, row) {
        (None, None) => true,
        (Some(stored), Some(row)) => {
            stored.bytes == row.bytes
                && stored.etag == row.etag
                && windows
                    .get(stored.body.write)
                    .is_some_and(|w| w.admits(row.timestamp))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
