//! The copies of one name. Swift 2.30, `proxy/controllers/obj.py`, `GetOrHeadHandler` in `proxy/controllers/base.py`,
//! `obj/server.py`, `obj/diskfile.py`.

use super::answer::{Read, Shown};
use super::proxy::{best_of, best_of_delete, quorum};
use super::{NODES, PRIMARIES, Reach, Stored};
use std::sync::Arc;

/// What a node holds by a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Copy<B> {
    /// X-Timestamp of the write.
    pub timestamp: u64,
    /// `None`: a tombstone.
    pub stored: Option<Arc<Stored<B>>>,
}

/// What all nodes hold by a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Copies<B> {
    nodes: [Option<Copy<B>>; NODES],
}

impl<B> Default for Copies<B> {
    fn default() -> Self {
        Self {
            nodes: [const { None }; NODES],
        }
    }
}

/// A PUT of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put<B> {
    /// X-Timestamp, by the proxy's clock.
    pub timestamp: u64,
    /// `If-None-Match: *`.
    pub only_if_absent: bool,
    /// `ETag`: what the client says that the body's MD5 is.
    pub announced: Option<[u8; 16]>,
    /// The body.
    pub stored: Arc<Stored<B>>,
}

impl<B> Put<B> {
    /// What a node says to the headers: 100 to go on, 412 or 409.
    pub fn look(&self, held: Option<&Copy<B>>) -> u16 {
        match held {
            Some(c) if self.only_if_absent && c.stored.is_some() => 412,
            Some(c) if c.timestamp >= self.timestamp => 409,
            _ => 100,
        }
    }

    /// What becomes of it when its nodes said that. Errors: the status that ends it.
    pub fn goes_on(&self, said: &[u16]) -> Result<(), u16> {
        if said.contains(&412) {
            return Err(412);
        }
        if said.contains(&409) {
            return Err(202);
        }
        if said.len() < quorum(PRIMARIES) {
            return Err(503);
        }
        Ok(())
    }

    /// What a node that got the whole body says.
    pub fn taken(&self) -> u16 {
        if self.announced.is_none_or(|e| e == self.stored.etag) {
            201
        } else {
            422
        }
    }

    /// What it then holds.
    pub fn copy(&self) -> Copy<B> {
        Copy {
            timestamp: self.timestamp,
            stored: Some(self.stored.clone()),
        }
    }
}

/// What a node says to a DELETE, and whether it will put a tombstone: between the two another request may come.
pub fn look_delete<B>(held: Option<&Copy<B>>, timestamp: u64) -> (u16, bool) {
    let is_older = held.is_none_or(|c| c.timestamp < timestamp);
    let is_there = held.is_some_and(|c| c.stored.is_some());
    let status = match (is_there, is_older) {
        (true, true) => 204,
        (true, false) => 409,
        (false, _) => 404,
    };
    (status, is_older)
}

/// A proxy's status of what its nodes said, those that said nothing being down as 503.
pub fn settle(said: &[u16], best: fn(&[u16]) -> u16) -> u16 {
    let mut statuses = [503; PRIMARIES];
    statuses
        .iter_mut()
        .zip(said)
        .for_each(|(s, said)| *s = *said);
    best(&statuses)
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found<B> {
    /// X-Timestamp of the copy.
    pub timestamp: u64,
    /// The copy.
    pub stored: Arc<Stored<B>>,
    /// What is given of it.
    pub shown: Shown,
}

/// In which order the primaries may be asked; handoffs come after them.
pub const ORDERS: [[usize; PRIMARIES]; 6] = [
    [0, 1, 2],
    [1, 2, 0],
    [2, 0, 1],
    [0, 2, 1],
    [1, 0, 2],
    [2, 1, 0],
];

/// The nodes that a write goes to: the primaries within reach, and a handoff for each that is not.
pub fn targets(reach: Reach) -> Reach {
    (0..NODES)
        .filter(|n| reach >> n & 1 == 1)
        .take(PRIMARIES)
        .fold(0, |mask, n| mask | 1 << n)
}

fn members(mask: Reach) -> impl Iterator<Item = usize> {
    (0..NODES).filter(move |n| mask >> n & 1 == 1)
}

/// A proxy's reading: what it heard of the nodes asked so far.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reading<B> {
    statuses: Vec<u16>,
    sources: Vec<Found<B>>,
    tombstone: u64,
    /// The first node that knows nothing is overlooked: it may be new in its place
    /// (`rebalance_missing_suppression_count`, 1).
    overlooked: bool,
}

impl<B> Default for Reading<B> {
    fn default() -> Self {
        Self {
            statuses: Vec::new(),
            sources: Vec::new(),
            tombstone: 0,
            overlooked: false,
        }
    }
}

impl<B> Reading<B> {
    /// The next node answers. Whether that is enough.
    pub fn ask(&mut self, read: &Read, node: usize, held: Option<&Copy<B>>) -> bool {
        let is_handoff = node >= PRIMARIES;
        let Some(copy) = held else {
            if !is_handoff && self.overlooked {
                self.statuses.push(404);
            }
            self.overlooked |= !is_handoff;
            return false;
        };
        let Some(stored) = &copy.stored else {
            self.statuses.push(404);
            self.tombstone = self.tombstone.max(copy.timestamp);
            return false;
        };
        let shown = read.of(stored);
        if !shown.is_source() {
            self.statuses.push(shown.status);
            return false;
        }
        if copy.timestamp < self.tombstone {
            return false;
        }
        self.statuses.push(shown.status);
        self.sources.push(Found {
            timestamp: copy.timestamp,
            stored: stored.clone(),
            shown,
        });
        !read.newest
    }

    /// No node is asked any more. Errors: the status when there is nothing to give; where two nodes still had what a
    /// third one had deleted it is theirs, without a body.
    pub fn end(mut self) -> Result<Found<B>, u16> {
        self.sources.retain(|s| s.timestamp >= self.tombstone);
        let newest = self.sources.into_iter().max_by_key(|s| s.timestamp);
        newest.ok_or_else(|| best_of(&self.statuses))
    }
}

impl<B: Clone> Copies<B> {
    /// What a node holds.
    pub fn node(&self, node: usize) -> Option<&Copy<B>> {
        self.nodes.get(node)?.as_ref()
    }

    /// The headers of a PUT arrive at `targets`. Errors: the status that ends it.
    pub fn begin_put(&self, put: &Put<B>, targets: Reach) -> Result<(), u16> {
        let said: Vec<u16> = members(targets).map(|n| put.look(self.node(n))).collect();
        put.goes_on(&said)
    }

    /// The body of a PUT arrives whole at the nodes `landed`; they keep it where it has the announced sum.
    pub fn finish_put(&mut self, put: &Put<B>, landed: Reach) -> u16 {
        let status = put.taken();
        if status == 201 {
            members(landed).for_each(|n| self.keep(n, put.copy()));
        }
        let said: Vec<u16> = members(landed).map(|_| status).collect();
        settle(&said, best_of)
    }

    /// A node keeps what is newest. Of equal timestamps the later one: it is the same file name.
    pub fn keep(&mut self, node: usize, copy: Copy<B>) {
        let held = self.node(node).map_or(0, |c| c.timestamp);
        if copy.timestamp >= held {
            self.nodes[node] = Some(copy);
        }
    }

    /// A DELETE arrives at the nodes `reached`: its status, and the nodes that will put a tombstone.
    pub fn begin_delete(&self, timestamp: u64, reached: Reach) -> (u16, Reach) {
        let looks = members(reached).map(|n| (n, look_delete(self.node(n), timestamp)));
        let looks: Vec<_> = looks.collect();
        let said: Vec<u16> = looks.iter().map(|(_, (status, _))| *status).collect();
        let bury = looks.iter().filter(|(_, (_, is_older))| *is_older);
        let bury = bury.fold(0, |mask, (n, _)| mask | 1 << n);
        (settle(&said, best_of_delete), bury)
    }

    /// These nodes put their tombstones.
    pub fn finish_delete(&mut self, timestamp: u64, bury: Reach) {
        let stored = None;
        members(bury).for_each(|n| {
            let stored = stored.clone();
            self.keep(n, Copy { timestamp, stored });
        });
    }

    /// GET or HEAD. `order`: an index into [`ORDERS`]. Errors: the status when there is nothing to give.
    pub fn get(&self, read: &Read, order: usize, reach: Reach) -> Result<Found<B>, u16> {
        let mut reading = Reading::default();
        let order = ORDERS[order % ORDERS.len()].into_iter();
        let _ = order
            .chain(PRIMARIES..NODES)
            .filter(|n| reach >> n & 1 == 1)
            .any(|n| reading.ask(read, n, self.node(n)));
        reading.end()
    }

    /// The replicator brings the copies together, among the nodes that are up.
    pub fn replicate(&mut self, up: Reach) {
        let held = members(up).filter_map(|n| self.nodes[n].as_ref());
        let Some(newest) = held.max_by_key(|c| c.timestamp).cloned() else {
            return;
        };
        let primaries = (1 << PRIMARIES) - 1;
        for node in members(up & primaries) {
            let held = self.nodes[node].as_ref().map_or(0, |c| c.timestamp);
            if held < newest.timestamp {
                self.keep(node, newest.clone());
            }
        }
        if up & primaries == primaries {
            members(up & !primaries).for_each(|n| self.nodes[n] = None);
        }
    }

    /// A node forgets its tombstone: `reclaim_age` has passed for it.
    pub fn reclaim(&mut self, node: usize) {
        if self.nodes[node]
            .as_ref()
            .is_some_and(|c| c.stored.is_none())
        {
            self.nodes[node] = None;
        }
    }

    /// Whether no node holds anything, not even a tombstone.
    pub fn is_empty(&self) -> bool {
        self.nodes.iter().all(Option::is_none)
    }

    /// How many nodes hold the copy of this timestamp.
    pub fn count(&self, timestamp: u64) -> usize {
        let has = |c: &&Option<Copy<B>>| c.as_ref().is_some_and(|c| c.timestamp == timestamp);
        self.nodes.iter().filter(has).count()
    }

    /// What is newest anywhere.
    pub fn newest(&self) -> Option<&Copy<B>> {
        self.nodes.iter().flatten().max_by_key(|c| c.timestamp)
    }
}
