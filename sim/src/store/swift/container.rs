//! The replicas of a container and its listing. Swift 2.30, `container/server.py`, `container/backend.py`,
//! `proxy/controllers/container.py`.
//!
//! Each object server that takes a write tells one replica, so a listing lags replica by replica: which one answers
//! decides what is seen, and the next page may come from another.

use super::proxy::best_of;
use super::{PRIMARIES, Reach, Stored};
use std::sync::Arc;

/// What a replica knows of its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// X-Timestamp of the newest PUT.
    pub put: u64,
    /// X-Timestamp of the newest DELETE; 0: none.
    pub deleted: u64,
}

/// A row of a listing at one replica.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row<B> {
    /// X-Timestamp of the write.
    pub timestamp: u64,
    /// `None`: the object is deleted.
    pub stored: Option<Arc<Stored<B>>>,
}

/// The rows of one name, replica by replica.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rows<B>(pub [Option<Row<B>>; PRIMARIES]);

impl<B> Default for Rows<B> {
    fn default() -> Self {
        Self([const { None }; PRIMARIES])
    }
}

impl<B> Rows<B> {
    /// A replica hears of a write; what is older than its row it forgets.
    pub fn update(&mut self, replica: usize, row: Row<B>) {
        let held = self.0[replica].as_ref().map_or(0, |r| r.timestamp);
        if row.timestamp > held {
            self.0[replica] = Some(row);
        }
    }

    /// The object, as that replica lists it.
    pub fn listed(&self, replica: usize) -> Option<&Row<B>> {
        self.0[replica].as_ref().filter(|r| r.stored.is_some())
    }
}

/// GET of a container.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ListAsk {
    /// `prefix`.
    pub prefix: String,
    /// `marker`: only names after it.
    pub after: String,
    /// `end_marker`: only names before it; empty: no bound.
    pub before: String,
    /// `limit`.
    pub limit: usize,
}

impl ListAsk {
    /// Whether that name is asked for.
    pub fn selects(&self, name: &str) -> bool {
        name.starts_with(&self.prefix)
            && name > self.after.as_str()
            && (self.before.is_empty() || name < self.before.as_str())
    }
}

/// The replicas of a container; `None`: never heard of it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Ledgers(pub [Option<Ledger>; PRIMARIES]);

impl Ledgers {
    fn reached(reach: Reach) -> impl Iterator<Item = usize> {
        (0..PRIMARIES).filter(move |n| reach >> n & 1 == 1)
    }

    /// Whether a replica says that the container is there. `has_rows`: it lists an object; so a late row revives a
    /// deleted container.
    pub fn is_there(&self, replica: usize, has_rows: bool) -> bool {
        self.0[replica].is_some_and(|l| has_rows || l.put >= l.deleted)
    }

    /// PUT of the container.
    pub fn create(
        &mut self,
        timestamp: u64,
        reach: Reach,
        has_rows: impl Fn(usize) -> bool,
    ) -> u16 {
        let mut statuses = [503; PRIMARIES];
        for (replica, status) in Self::reached(reach).zip(&mut statuses) {
            let was_there = self.is_there(replica, has_rows(replica));
            let ledger = self.0[replica].get_or_insert(Ledger { put: 0, deleted: 0 });
            ledger.put = ledger.put.max(timestamp);
            *status = if was_there {
                202
            } else if self.is_there(replica, has_rows(replica)) {
                201
            } else {
                409
            };
        }
        best_of(&statuses)
    }

    /// DELETE of the container: refused where its listing, which lags, has rows.
    pub fn delete(
        &mut self,
        timestamp: u64,
        reach: Reach,
        has_rows: impl Fn(usize) -> bool,
    ) -> u16 {
        let mut statuses = [503; PRIMARIES];
        for (replica, status) in Self::reached(reach).zip(&mut statuses) {
            let was_there = self.is_there(replica, has_rows(replica));
            let Some(ledger) = self.0[replica].as_mut() else {
                *status = 404;
                continue;
            };
            if has_rows(replica) {
                *status = 409;
                continue;
            }
            ledger.deleted = ledger.deleted.max(timestamp);
            *status = match (self.is_there(replica, false), was_there) {
                (true, _) => 409,
                (false, true) => 204,
                (false, false) => 404,
            };
        }
        best_of(&statuses)
    }

    /// The replica that answers a GET or HEAD when they are asked in this order. Errors: the status.
    pub fn find(
        &self,
        order: impl IntoIterator<Item = usize>,
        reach: Reach,
        has_rows: impl Fn(usize) -> bool,
    ) -> Result<usize, u16> {
        let mut said = 0;
        let mut overlooked = false;
        for replica in order.into_iter().filter(|n| reach >> n & 1 == 1) {
            if self.is_there(replica, has_rows(replica)) {
                return Ok(replica);
            }
            // As for an object: the first that never heard of it is overlooked.
            if self.0[replica].is_some() || overlooked {
                said += 1;
            }
            overlooked = true;
        }
        Err(if said > 0 { 404 } else { 503 })
    }

    /// Whether the proxies, which remember containers, take a write into this one.
    pub fn is_known(&self, has_rows: impl Fn(usize) -> bool) -> bool {
        (0..PRIMARIES).any(|n| self.is_there(n, has_rows(n)))
    }

    /// The replicator brings them together.
    pub fn replicate(&mut self) {
        let all = self.0.iter().flatten().copied();
        let newest = all.reduce(|a, b| Ledger {
            put: a.put.max(b.put),
            deleted: a.deleted.max(b.deleted),
        });
        self.0 = [newest; PRIMARIES];
    }
}
