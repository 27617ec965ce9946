//! OpenStack Swift at replica level: what makes it eventually consistent, and nothing that hides it.
//!
//! Three primaries and two handoffs per object, all alike; proxies with clocks of their own stamp every write. A write
//! needs a majority; a node that is away or misses the request is replaced by a handoff, and a replicator brings the
//! copies together later. The last writer by timestamp wins, a newer timestamp anywhere makes a PUT a 202 that stores
//! nothing, `If-None-Match: *` is looked at when the headers come and not when the body is stored, a DELETE leaves a
//! tombstone with a timestamp of its own, and a plain GET takes the first good copy. Stale answers, lost updates and two
//! winners of one race are consequences, not dice. Read in Swift's own code, named in each module; `accept` holds it to
//! what a real Swift answers.
//!
//! ```text
//! Swift (all names) ──► object::Copies (one name) ──► answer::Read (one copy)
//!                  └──► container::Ledgers, Rows      proxy::best_of (one status of many)
//! ```

pub mod answer;
pub mod container;
pub mod object;
pub mod proxy;

use super::Object;
use answer::Read;
use container::{Ledgers, ListAsk, Row, Rows};
use object::{Copies, Found, ORDERS, Put, targets};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Primaries of an object, and replicas of a container.
pub const PRIMARIES: usize = 3;
/// All nodes, the handoffs included.
pub const NODES: usize = 5;

/// An object as stored: what it holds and the ETag of its bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stored<B = Object> {
    /// What stands for its bytes.
    pub body: B,
    /// How many they are.
    pub bytes: u64,
    /// Its ETag.
    pub etag: [u8; 16],
}

/// The nodes that a request reaches: bit n is node n.
pub type Reach = u8;

/// All nodes.
pub const EVERY_NODE: Reach = (1 << NODES) - 1;

/// Below the microseconds of a timestamp made by [`Swift::stamp`] its number.
const CLOCK_SHIFT: u32 = 20;

/// The microsecond of a timestamp made by [`Swift::stamp`].
pub const fn clock_of(timestamp: u64) -> u64 {
    timestamp >> CLOCK_SHIFT
}

/// A PUT between its headers and its body.
#[derive(Clone, Debug)]
pub struct Putting<B = Object> {
    path: String,
    put: Put<B>,
    targets: Reach,
}

impl<B> Putting<B> {
    /// X-Timestamp of the write.
    pub const fn timestamp(&self) -> u64 {
        self.put.timestamp
    }
}

/// A DELETE between its look and its tombstones.
#[derive(Clone, Debug)]
pub struct Deleting {
    path: String,
    timestamp: u64,
    bury: Reach,
    status: u16,
}

impl Deleting {
    /// X-Timestamp of the tombstones.
    pub const fn timestamp(&self) -> u64 {
        self.timestamp
    }

    /// Whether any node puts one.
    pub const fn leaves_tombstones(&self) -> bool {
        self.bury != 0
    }
}

/// What a write changed in the whole, for a mirror that knows only the newest.
#[derive(Clone, Debug, PartialEq)]
pub struct Newest<B = Object> {
    /// Which object.
    pub path: String,
    /// What it holds now; `None`: it is deleted.
    pub stored: Option<Arc<Stored<B>>>,
}

#[derive(Clone, Debug)]
struct Bucket<B> {
    ledgers: Ledgers,
    rows: BTreeMap<String, Rows<B>>,
}

impl<B> Bucket<B> {
    // What each replica lists: whether it lists anything.
    fn has_rows(&self) -> [bool; PRIMARIES] {
        std::array::from_fn(|n| self.rows.values().any(|r| r.listed(n).is_some()))
    }
}

/// The cluster.
#[derive(Clone, Debug)]
pub struct Swift<B = Object> {
    objects: BTreeMap<String, Copies<B>>,
    newest: BTreeMap<String, u64>,
    buckets: BTreeMap<String, Bucket<B>>,
    /// The last timestamp given: two requests of one microsecond get different ones.
    last: u64,
    changes: Vec<Newest<B>>,
}

impl<B> Default for Swift<B> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            newest: BTreeMap::new(),
            buckets: BTreeMap::new(),
            last: 0,
            changes: Vec::new(),
        }
    }
}

impl<B: Clone> Swift<B> {
    /// An empty cluster.
    pub fn new() -> Self {
        Self::default()
    }

    /// A timestamp by a clock that shows `clock_us`.
    pub fn stamp(&mut self, clock_us: u64) -> u64 {
        // Distinct, and in the order of the clocks but for equal microseconds.
        self.last += 1;
        clock_us << CLOCK_SHIFT | self.last & ((1 << CLOCK_SHIFT) - 1)
    }

    /// What became newest since the last call.
    pub fn take_changes(&mut self) -> Vec<Newest<B>> {
        std::mem::take(&mut self.changes)
    }

    /// PUT of a container.
    pub fn create_container(&mut self, container: &str, timestamp: u64, reach: Reach) -> u16 {
        let bucket = self
            .buckets
            .entry(container.to_owned())
            .or_insert_with(|| Bucket {
                ledgers: Ledgers::default(),
                rows: BTreeMap::new(),
            });
        let has_rows = bucket.has_rows();
        bucket.ledgers.create(timestamp, reach, |n| has_rows[n])
    }

    /// DELETE of a container: refused while its listing, which lags, has rows.
    pub fn delete_container(&mut self, container: &str, timestamp: u64, reach: Reach) -> u16 {
        let Some(bucket) = self.buckets.get_mut(container) else {
            return 404;
        };
        let has_rows = bucket.has_rows();
        bucket.ledgers.delete(timestamp, reach, |n| has_rows[n])
    }

    // The replica that answers, and its container.
    fn find(
        &self,
        container: &str,
        order: usize,
        reach: Reach,
    ) -> Result<(usize, &Bucket<B>), u16> {
        let bucket = self.buckets.get(container).ok_or(404_u16)?;
        let has_rows = bucket.has_rows();
        let order = ORDERS[order % ORDERS.len()];
        let replica = bucket.ledgers.find(order, reach, |n| has_rows[n])?;
        Ok((replica, bucket))
    }

    /// HEAD of a container. `order`: in which its replicas are asked, an index into [`ORDERS`].
    pub fn head_container(&self, container: &str, order: usize, reach: Reach) -> u16 {
        self.find(container, order, reach).err().unwrap_or(204)
    }

    /// GET of a container: names, sizes and timestamps, as far as the replica that answers knows them. Errors: the
    /// status.
    pub fn list(
        &self,
        container: &str,
        ask: &ListAsk,
        order: usize,
        reach: Reach,
    ) -> Result<Vec<(String, u64, u64)>, u16> {
        let (replica, bucket) = self.find(container, order, reach)?;
        let rows = bucket.rows.iter().filter(|(n, _)| ask.selects(n));
        let listed = rows.filter_map(|(n, r)| {
            let row = r.listed(replica)?;
            Some((n.clone(), row.stored.as_ref()?.bytes, row.timestamp))
        });
        Ok(listed.take(ask.limit).collect())
    }

    /// A listing update arrives at a replica.
    pub fn update_listing(&mut self, container: &str, name: &str, replica: usize, row: Row<B>) {
        if let Some(bucket) = self.buckets.get_mut(container) {
            let rows = bucket.rows.entry(name.to_owned()).or_default();
            rows.update(replica % PRIMARIES, row);
        }
    }

    fn is_known(&self, path: &str) -> bool {
        let container = path.split('/').nth(1).unwrap_or("");
        self.buckets.get(container).is_some_and(|b| {
            let has_rows = b.has_rows();
            b.ledgers.is_known(|n| has_rows[n])
        })
    }

    /// The headers of a PUT arrive. Errors: the status that ends it.
    pub fn begin_put(&mut self, path: &str, put: Put<B>, reach: Reach) -> Result<Putting<B>, u16> {
        if !self.is_known(path) {
            return Err(404);
        }
        let targets = targets(reach);
        let copies = self.objects.entry(path.to_owned()).or_default();
        copies.begin_put(&put, targets)?;
        Ok(Putting {
            path: path.to_owned(),
            put,
            targets,
        })
    }

    /// The body of a PUT has arrived at the nodes that are still within reach.
    pub fn finish_put(&mut self, putting: &Putting<B>, reach: Reach) -> u16 {
        let copies = self.objects.entry(putting.path.clone()).or_default();
        let status = copies.finish_put(&putting.put, putting.targets & reach);
        self.note(&putting.path);
        status
    }

    // What is newest anywhere may be another one now.
    fn note(&mut self, path: &str) {
        let Some(copy) = self.objects.get(path).and_then(Copies::newest) else {
            return;
        };
        let newest = self.newest.entry(path.to_owned()).or_insert(0);
        if copy.timestamp > *newest {
            *newest = copy.timestamp;
            self.changes.push(Newest {
                path: path.to_owned(),
                stored: copy.stored.clone(),
            });
        }
    }

    /// A DELETE of an object arrives. Errors: the status that ends it.
    pub fn begin_delete(
        &mut self,
        path: &str,
        timestamp: u64,
        reach: Reach,
    ) -> Result<Deleting, u16> {
        if !self.is_known(path) {
            return Err(404);
        }
        let copies = self.objects.entry(path.to_owned()).or_default();
        let (status, bury) = copies.begin_delete(timestamp, targets(reach));
        let path = path.to_owned();
        Ok(Deleting {
            path,
            timestamp,
            bury,
            status,
        })
    }

    /// The nodes put their tombstones.
    pub fn finish_delete(&mut self, deleting: &Deleting) -> u16 {
        if let Some(copies) = self.objects.get_mut(&deleting.path) {
            copies.finish_delete(deleting.timestamp, deleting.bury);
            self.note(&deleting.path);
        }
        deleting.status
    }

    /// GET or HEAD of an object. `order`: in which its primaries are asked, an index into [`ORDERS`]. Errors: the
    /// status when there is nothing to give.
    pub fn get(
        &self,
        path: &str,
        read: &Read,
        order: usize,
        reach: Reach,
    ) -> Result<Found<B>, u16> {
        match self.objects.get(path) {
            Some(copies) => copies.get(read, order, reach),
            None => Copies::default().get(read, order, reach),
        }
    }

    /// The replicator brings the copies of a name together, among the nodes that are up.
    pub fn replicate(&mut self, path: &str, up: Reach) {
        if let Some(copies) = self.objects.get_mut(path) {
            copies.replicate(up);
            self.note(path);
        }
    }

    /// The replicator brings the replicas of a container together; rows it leaves to the updaters.
    pub fn replicate_container(&mut self, container: &str) {
        if let Some(bucket) = self.buckets.get_mut(container) {
            bucket.ledgers.replicate();
        }
    }

    /// A node forgets its tombstones: `reclaim_age` has passed for it.
    pub fn reclaim(&mut self, node: usize) {
        self.objects.values_mut().for_each(|c| c.reclaim(node));
    }

    /// Every name that any node holds.
    pub fn paths(&self) -> Vec<String> {
        let held = self.objects.iter().filter(|(_, c)| !c.is_empty());
        held.map(|(p, _)| p.clone()).collect()
    }

    /// How many nodes hold the newest copy of a name.
    pub fn copies(&self, path: &str) -> usize {
        let newest = self.newest.get(path).copied().unwrap_or(0);
        self.objects.get(path).map_or(0, |c| c.count(newest))
    }
}

#[cfg(test)]
mod tests;
