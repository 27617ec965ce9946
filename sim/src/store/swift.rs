//! OpenStack Swift at replica level: what makes it eventually consistent, and nothing that hides it.
//!
//! Three primaries and two handoffs per object, all alike; proxies with clocks of their own stamp every write. A write
//! needs a majority; a node that is away or misses the request is replaced by a handoff, and a replicator brings the
//! copies together later. The last writer by timestamp wins, a newer timestamp anywhere makes a PUT a 202 that stores
//! nothing, `If-None-Match: *` is looked at when the headers come and not when the body is stored, a DELETE leaves a
//! tombstone with a timestamp of its own, and a plain GET takes the first good copy. Stale answers, lost updates and two
//! winners of one race are consequences, not dice. Read in Swift's own code: `proxy/controllers/obj.py`,
//! `proxy/controllers/base.py`, `obj/server.py`, `obj/diskfile.py`.

use super::Object;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Primaries of an object.
pub const PRIMARIES: usize = 3;
/// All nodes, the handoffs included.
pub const NODES: usize = 5;
/// Copies that confirm a write.
const QUORUM: usize = 2;

/// An object as stored: what it holds and the ETag of its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The object.
    pub object: Object,
    /// Its ETag.
    pub etag: [u8; 16],
}

/// What a node holds by a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Copy {
    /// X-Timestamp of the write, in microseconds; no two writes have the same.
    pub timestamp: u64,
    /// `None`: a tombstone.
    pub stored: Option<Arc<Stored>>,
}

/// The nodes that a request reaches: bit n is node n.
pub type Reach = u8;

/// All nodes.
pub const EVERY_NODE: Reach = (1 << NODES) - 1;

/// A PUT between its headers and its body.
#[derive(Clone, Debug)]
pub struct Putting {
    path: String,
    timestamp: u64,
    stored: Arc<Stored>,
    targets: Vec<usize>,
}

impl Putting {
    /// X-Timestamp of the write.
    pub const fn timestamp(&self) -> u64 {
        self.timestamp
    }
}

/// What a write changed in the whole, for a mirror that knows only the newest.
#[derive(Clone, Debug, PartialEq)]
pub struct Newest {
    /// Which object.
    pub path: String,
    /// What it holds now; `None`: it is deleted.
    pub stored: Option<Arc<Stored>>,
}

/// A row of a container's listing.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    timestamp: u64,
    bytes: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Bucket {
    rows: BTreeMap<String, Row>,
}

/// The cluster.
#[derive(Clone, Debug, Default)]
pub struct Swift {
    nodes: [BTreeMap<String, Copy>; NODES],
    newest: BTreeMap<String, u64>,
    buckets: BTreeMap<String, Bucket>,
    /// The last timestamp given: two requests of one microsecond get different ones.
    last: u64,
    changes: Vec<Newest>,
}

impl Swift {
    /// An empty cluster.
    pub fn new() -> Self {
        Self::default()
    }

    /// A timestamp by a clock that shows `clock_us`.
    pub fn stamp(&mut self, clock_us: u64) -> u64 {
        // Distinct, and in the order of the clocks but for equal microseconds.
        self.last += 1;
        clock_us << 20 | self.last & 0xf_ffff
    }

    /// What became newest since the last call.
    pub fn take_changes(&mut self) -> Vec<Newest> {
        std::mem::take(&mut self.changes)
    }

    /// PUT of a container.
    pub fn create_container(&mut self, container: &str) -> u16 {
        if self.buckets.contains_key(container) {
            return 202;
        }
        self.buckets.insert(container.to_owned(), Bucket::default());
        201
    }

    /// DELETE of a container: refused while its listing, which lags, has rows.
    pub fn delete_container(&mut self, container: &str) -> u16 {
        match self.buckets.get(container) {
            None => 404,
            Some(b) if b.rows.values().any(|r| r.bytes.is_some()) => 409,
            Some(_) => {
                self.buckets.remove(container);
                204
            }
        }
    }

    /// HEAD of a container.
    pub fn head_container(&self, container: &str) -> u16 {
        if self.buckets.contains_key(container) {
            204
        } else {
            404
        }
    }

    /// GET of a container: names, sizes and when they were written (microseconds), as far as the listing knows.
    pub fn list(
        &self,
        container: &str,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Option<Vec<(String, u64, u64)>> {
        let bucket = self.buckets.get(container)?;
        let rows = bucket
            .rows
            .iter()
            .filter(|(n, _)| n.starts_with(prefix) && n.as_str() > after)
            .filter_map(|(n, r)| Some((n.clone(), r.bytes?, r.timestamp >> 20)));
        Some(rows.take(limit).collect())
    }

    /// A listing update arrives.
    pub fn update_listing(
        &mut self,
        container: &str,
        name: &str,
        timestamp: u64,
        bytes: Option<u64>,
    ) {
        let Some(bucket) = self.buckets.get_mut(container) else {
            return;
        };
        let row = bucket.rows.entry(name.to_owned()).or_insert(Row {
            timestamp: 0,
            bytes: None,
        });
        if row.timestamp < timestamp {
            *row = Row { timestamp, bytes };
        }
    }

    // Where a write goes: the primaries within reach, and a handoff for each that is not.
    fn targets(reach: Reach) -> Vec<usize> {
        (0..NODES)
            .filter(|n| reach >> n & 1 == 1)
            .take(PRIMARIES)
            .collect()
    }

    /// The headers of a PUT arrive. Errors: the status that ends it.
    pub fn begin_put(
        &mut self,
        path: &str,
        timestamp: u64,
        only_if_absent: bool,
        stored: Arc<Stored>,
        reach: Reach,
    ) -> Result<Putting, u16> {
        let container = path.split('/').nth(1).unwrap_or("");
        if !self.buckets.contains_key(container) {
            return Err(404);
        }
        let targets = Self::targets(reach);
        let copies = || targets.iter().filter_map(|n| self.nodes[*n].get(path));
        if only_if_absent && copies().any(|c| c.stored.is_some()) {
            return Err(412);
        }
        if copies().any(|c| c.timestamp >= timestamp) {
            return Err(202);
        }
        if targets.len() < QUORUM {
            return Err(503);
        }
        Ok(Putting {
            path: path.to_owned(),
            timestamp,
            stored,
            targets,
        })
    }

    /// The body of a PUT has arrived at the nodes that are still within reach.
    pub fn finish_put(&mut self, putting: &Putting, reach: Reach) -> u16 {
        let mut stored = 0;
        for node in putting
            .targets
            .iter()
            .copied()
            .filter(|n| reach >> n & 1 == 1)
        {
            stored += 1;
            let copy = Copy {
                timestamp: putting.timestamp,
                stored: Some(putting.stored.clone()),
            };
            self.keep(node, &putting.path, copy);
        }
        if stored >= QUORUM { 201 } else { 503 }
    }

    fn keep(&mut self, node: usize, path: &str, copy: Copy) {
        let newest = self.newest.get(path).copied().unwrap_or(0);
        if copy.timestamp > newest {
            self.newest.insert(path.to_owned(), copy.timestamp);
            self.changes.push(Newest {
                path: path.to_owned(),
                stored: copy.stored.clone(),
            });
        }
        let held = self.nodes[node].get(path).map_or(0, |c| c.timestamp);
        if copy.timestamp > held {
            self.nodes[node].insert(path.to_owned(), copy);
        }
    }

    /// DELETE of an object.
    pub fn delete(&mut self, path: &str, timestamp: u64, reach: Reach) -> u16 {
        let mut statuses = Vec::new();
        for node in Self::targets(reach) {
            let held = self.nodes[node].get(path);
            let status = match held {
                Some(c) if c.timestamp >= timestamp => {
                    statuses.push(if c.stored.is_some() { 409 } else { 404 });
                    continue;
                }
                Some(c) if c.stored.is_some() => 204,
                _ => 404,
            };
            statuses.push(status);
            self.keep(
                node,
                path,
                Copy {
                    timestamp,
                    stored: None,
                },
            );
        }
        let count = |s: u16| statuses.iter().filter(|x| **x == s).count();
        if statuses.len() < QUORUM {
            return 503;
        }
        [204, 404, 409]
            .into_iter()
            .find(|s| count(*s) >= QUORUM)
            .unwrap_or_else(|| {
                // No majority of one status: the best of the 2xx and 404 classes, as the proxy chooses.
                if count(204) > 0 { 204 } else { 503 }
            })
    }

    /// GET or HEAD of an object. `first`: which primary answers first. `newest`: X-Newest.
    pub fn get(
        &self,
        path: &str,
        newest: bool,
        first: usize,
        reach: Reach,
    ) -> Result<Arc<Stored>, u16> {
        let order = (0..PRIMARIES)
            .map(|n| (n + first) % PRIMARIES)
            .chain(PRIMARIES..NODES);
        let mut best: Option<&Copy> = None;
        let mut tombstone = 0;
        let mut answers = 0;
        for node in order.filter(|n| reach >> n & 1 == 1) {
            answers += 1;
            let Some(copy) = self.nodes[node].get(path) else {
                continue;
            };
            match &copy.stored {
                None => tombstone = tombstone.max(copy.timestamp),
                Some(_) if best.is_none_or(|b| b.timestamp < copy.timestamp) => {
                    if !newest && copy.timestamp > tombstone {
                        best = Some(copy);
                        break;
                    }
                    best = Some(copy);
                }
                Some(_) => {}
            }
        }
        match best {
            Some(copy) if copy.timestamp > tombstone => {
                Ok(copy.stored.clone().expect("chosen because it has one"))
            }
            // Without a majority that answers it is not known.
            _ if answers < QUORUM => Err(503),
            _ => Err(404),
        }
    }

    /// The replicator brings the copies of a name together, among the nodes that are up.
    pub fn replicate(&mut self, path: &str, up: Reach) {
        let newest = (0..NODES)
            .filter(|n| up >> n & 1 == 1)
            .filter_map(|n| self.nodes[n].get(path))
            .max_by_key(|c| c.timestamp)
            .cloned();
        let Some(newest) = newest else { return };
        for node in (0..PRIMARIES).filter(|n| up >> n & 1 == 1) {
            self.keep(node, path, newest.clone());
        }
        if (0..PRIMARIES).all(|n| up >> n & 1 == 1) {
            for node in PRIMARIES..NODES {
                if up >> node & 1 == 1 {
                    self.nodes[node].remove(path);
                }
            }
        }
    }

    /// A node forgets its tombstones: `reclaim_age` has passed for it.
    pub fn reclaim(&mut self, node: usize) {
        self.nodes[node].retain(|_, c| c.stored.is_some());
    }

    /// Every name that any node holds.
    pub fn paths(&self) -> Vec<String> {
        let mut all: Vec<String> = self.nodes.iter().flat_map(|n| n.keys().cloned()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// How many nodes hold the newest copy of a name.
    pub fn copies(&self, path: &str) -> usize {
        let newest = self.newest.get(path).copied().unwrap_or(0);
        let has = |n: &&BTreeMap<String, Copy>| n.get(path).is_some_and(|c| c.timestamp == newest);
        self.nodes.iter().filter(has).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Content;

    fn stored(n: u8) -> Arc<Stored> {
        Arc::new(Stored {
            object: Object {
                content: Content::Door,
                bytes: u64::from(n),
            },
            etag: [n; 16],
        })
    }

    fn put(swift: &mut Swift, path: &str, clock: u64, n: u8, begin: Reach, finish: Reach) -> u16 {
        let timestamp = swift.stamp(clock);
        match swift.begin_put(path, timestamp, false, stored(n), begin) {
            Ok(putting) => swift.finish_put(&putting, finish),
            Err(status) => status,
        }
    }

    fn swift() -> Swift {
        let mut swift = Swift::new();
        assert_eq!(swift.create_container("c"), 201);
        swift
    }

    fn etag(result: Result<Arc<Stored>, u16>) -> Result<u8, u16> {
        result.map(|s| s.etag[0])
    }

    #[test]
    fn a_put_with_an_older_clock_is_accepted_and_discarded() {
        let mut swift = swift();
        assert_eq!(put(&mut swift, "/c/o", 100, 1, EVERY_NODE, EVERY_NODE), 201);
        assert_eq!(put(&mut swift, "/c/o", 50, 2, EVERY_NODE, EVERY_NODE), 202);
        assert_eq!(etag(swift.get("/c/o", true, 0, EVERY_NODE)), Ok(1));
    }

    #[test]
    fn two_creators_can_both_pass_if_none_match() {
        let mut swift = swift();
        let (a, b) = (swift.stamp(10), swift.stamp(11));
        let first = swift
            .begin_put("/c/o", a, true, stored(1), EVERY_NODE)
            .expect("absent");
        let second = swift
            .begin_put("/c/o", b, true, stored(2), EVERY_NODE)
            .expect("still absent");
        assert_eq!(swift.finish_put(&second, EVERY_NODE), 201);
        assert_eq!(swift.finish_put(&first, EVERY_NODE), 201);
        assert_eq!(etag(swift.get("/c/o", true, 0, EVERY_NODE)), Ok(2));
        let third = swift.stamp(12);
        assert_eq!(
            swift
                .begin_put("/c/o", third, true, stored(3), EVERY_NODE)
                .err(),
            Some(412)
        );
    }

    #[test]
    fn a_put_that_lands_on_one_node_fails_and_may_show_later() {
        let mut swift = swift();
        assert_eq!(put(&mut swift, "/c/o", 1, 1, EVERY_NODE, 0b00100), 503);
        assert_eq!(etag(swift.get("/c/o", true, 0, 0b11011)), Err(404));
        assert_eq!(etag(swift.get("/c/o", true, 0, EVERY_NODE)), Ok(1));
        swift.replicate("/c/o", EVERY_NODE);
        assert_eq!(swift.copies("/c/o"), 3);
    }

    #[test]
    fn newest_finds_a_confirmed_write_unless_two_nodes_are_missed() {
        let mut swift = swift();
        assert_eq!(put(&mut swift, "/c/o", 1, 1, EVERY_NODE, 0b00011), 201);
        for missed in 0..NODES {
            assert_eq!(
                etag(swift.get("/c/o", true, 0, EVERY_NODE & !(1 << missed))),
                Ok(1)
            );
        }
        assert_eq!(etag(swift.get("/c/o", true, 0, 0b11100)), Err(404));
    }

    #[test]
    fn a_plain_get_may_be_stale_and_newest_is_not() {
        let mut swift = swift();
        assert_eq!(put(&mut swift, "/c/o", 1, 1, EVERY_NODE, EVERY_NODE), 201);
        assert_eq!(put(&mut swift, "/c/o", 2, 2, EVERY_NODE, 0b00011), 201);
        assert_eq!(etag(swift.get("/c/o", false, 2, EVERY_NODE)), Ok(1));
        assert_eq!(etag(swift.get("/c/o", true, 2, EVERY_NODE)), Ok(2));
    }

    #[test]
    fn a_late_delete_kills_and_a_missed_tombstone_resurrects() {
        let mut swift = swift();
        assert_eq!(put(&mut swift, "/c/o", 1, 1, EVERY_NODE, EVERY_NODE), 201);
        let t = swift.stamp(5);
        assert_eq!(swift.delete("/c/o", t, 0b00011), 204);
        assert_eq!(etag(swift.get("/c/o", true, 0, EVERY_NODE)), Err(404));
        assert_eq!(etag(swift.get("/c/o", false, 2, EVERY_NODE)), Ok(1));
        // Both tombstones are reclaimed before node 2 heard of them.
        swift.reclaim(0);
        swift.reclaim(1);
        swift.replicate("/c/o", EVERY_NODE);
        assert_eq!(etag(swift.get("/c/o", true, 0, EVERY_NODE)), Ok(1));
    }

    #[test]
    fn a_handoff_takes_the_place_of_a_missing_primary() {
        let mut swift = swift();
        assert_eq!(put(&mut swift, "/c/o", 1, 1, 0b11001, 0b11001), 201);
        assert_eq!(etag(swift.get("/c/o", true, 0, 0b11110)), Ok(1));
        swift.replicate("/c/o", EVERY_NODE);
        assert_eq!(etag(swift.get("/c/o", true, 0, 0b00111)), Ok(1));
    }

    #[test]
    fn a_listing_lags_and_keeps_the_newest() {
        let mut swift = swift();
        assert_eq!(put(&mut swift, "/c/o", 1, 1, EVERY_NODE, EVERY_NODE), 201);
        assert_eq!(swift.list("c", "", "", 10), Some(vec![]));
        swift.update_listing("c", "o", 20, Some(7));
        swift.update_listing("c", "o", 10, None);
        assert_eq!(swift.list("c", "", "", 10), Some(vec![("o".into(), 7, 0)]));
        assert_eq!(swift.delete_container("c"), 409);
        swift.update_listing("c", "o", 30, None);
        assert_eq!(swift.delete_container("c"), 204);
    }
}
