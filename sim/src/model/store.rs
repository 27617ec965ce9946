//! The store at replica level: what three replicas hold, what is still on its way to each, what a read may say.
//!
//! A PUT reaches each replica by an event of its own, at any later time, or never; it may be confirmed once two have
//! taken it. A GET hears at least two replicas, any two, so it finds whatever was confirmed before it began
//! (assumption A1); with *lies* allowed it may hear one only. Each claim carries the rank of its timestamp; of two the
//! higher stays. Doors, openeds and roots have one content, so it only matters whether they are there.

use super::rules::Rules;

/// Replicas of an object.
pub(super) const REPLICAS: usize = 3;
/// Generations 0 (unused) to 5.
pub(super) const GENERATIONS: usize = 6;
/// Attempts to attach in one run; 0 is the one that bore the volume.
pub(super) const ATTEMPTS: usize = 8;
/// Roots of one attempt.
pub(super) const ORDINALS: u8 = 3;
/// Hosts.
pub(super) const HOSTS: usize = 3;
/// No root, no attempt.
pub(super) const NONE: u8 = u8::MAX;
/// PUTs without a client that may still land.
const LATE: usize = 12;

/// What a PUT (or DELETE) is about. Roots are numbered `attempt × ORDINALS + ordinal − 1`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(super) enum Put {
    /// Nothing is on its way.
    #[default]
    Nothing,
    /// `claims/<generation>` by an attempt.
    Claim(u8, u8),
    /// `doors/<generation>`.
    Door(u8),
    /// `opened/<generation>` by an attempt.
    Opened(u8, u8),
    /// A root.
    Root(u8),
    /// The delete of a root.
    Tomb(u8),
    /// The superblock of a clone.
    ChildVolume,
    /// The born root of a clone.
    ChildBorn,
}

/// One replica of everything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub(super) struct Replica {
    /// Attempt + 1 per generation; 0: absent.
    claims: [u8; GENERATIONS],
    /// The same. Two winners of one generation would overwrite each other here.
    opened: [u8; GENERATIONS],
    doors: u8,
    roots: u32,
    tombs: u32,
    child: u8,
    /// Per host: its PUT has landed here.
    acked: u8,
    /// Per host: its PUT may still land here.
    todo: u8,
    /// Per entry of the late list: may still land here.
    late: u16,
}

/// All replicas, and what is on its way to them.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Store {
    replicas: [Replica; REPLICAS],
    late: [Put; LATE],
    /// Each host's PUT under way.
    under_way: [Put; HOSTS],
    /// Rank of each attempt's claim among all: the order of timestamps.
    ranks: [u8; ATTEMPTS],
}

/// A name that is read for being there or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Name {
    Claim(u8),
    Door(u8),
    Opened(u8),
    Root(u8),
    ChildVolume,
}

/// A reading: the answer, and how many lies of the store it takes.
pub(super) type Reading<T> = (T, u8);

impl Replica {
    fn has(&self, name: Name) -> bool {
        match name {
            Name::Claim(g) => self.claims[usize::from(g)] != 0,
            Name::Door(g) => self.doors & 1 << g != 0,
            Name::Opened(g) => self.opened[usize::from(g)] != 0,
            Name::Root(r) => self.roots & 1 << r != 0,
            Name::ChildVolume => self.child & 1 != 0,
        }
    }

    /// Whether landing would change nothing but an acknowledgement.
    fn is_moot(&self, put: Put, ranks: &[u8; ATTEMPTS]) -> bool {
        match put {
            Put::Nothing => true,
            Put::Claim(g, a) => {
                let there = self.claims[usize::from(g)];
                there != 0 && ranks[usize::from(there - 1)] >= ranks[usize::from(a)]
            }
            Put::Door(g) => self.has(Name::Door(g)),
            Put::Opened(g, a) => self.opened[usize::from(g)] > a,
            // A tombstone is younger than every PUT of a root that was dead when it was made.
            Put::Root(r) => self.has(Name::Root(r)) || self.tombs & 1 << r != 0,
            Put::Tomb(r) => self.tombs & 1 << r != 0,
            Put::ChildVolume => self.has(Name::ChildVolume),
            Put::ChildBorn => self.child & 2 != 0,
        }
    }

    fn land(&mut self, put: Put, ranks: &[u8; ATTEMPTS]) {
        if self.is_moot(put, ranks) {
            return;
        }
        match put {
            Put::Nothing => {}
            Put::Claim(g, a) => self.claims[usize::from(g)] = a + 1,
            Put::Door(g) => self.doors |= 1 << g,
            Put::Opened(g, a) => self.opened[usize::from(g)] = a + 1,
            Put::Root(r) => self.roots |= 1 << r,
            Put::Tomb(r) => {
                self.tombs |= 1 << r;
                self.roots &= !(1 << r);
            }
            Put::ChildVolume => self.child |= 1,
            Put::ChildBorn => self.child |= 2,
        }
    }
}

impl Store {
    /// Generation 1 is opened by attempt 0, whose first root is confirmed.
    pub(super) fn born() -> Self {
        let mut store = Self::default();
        for replica in &mut store.replicas {
            replica.claims[1] = 1;
            replica.opened[1] = 1;
            replica.doors = 1 << 1;
            replica.roots = 1;
        }
        store
    }

    /// A host's PUT begins. The host has no other under way.
    pub(super) fn begin(&mut self, host: usize, put: Put) {
        debug_assert_eq!(self.under_way[host], Put::Nothing);
        self.under_way[host] = put;
        for replica in &mut self.replicas {
            replica.todo |= 1 << host;
            replica.acked &= !(1 << host);
        }
    }

    /// The rank of a new attempt's claim: above all, or (clocks differ) below all.
    pub(super) fn rank(&mut self, attempt: u8, below: bool) {
        let rank = &mut self.ranks;
        if below {
            rank.iter_mut().for_each(|rank| *rank += 1);
            rank[usize::from(attempt)] = 0;
        } else {
            rank[usize::from(attempt)] = rank.iter().max().map_or(0, |max| max + 1);
        }
    }

    pub(super) const fn under_way(&self, host: usize) -> Put {
        self.under_way[host]
    }

    /// Whether the host's PUT may be answered 201.
    pub(super) fn is_confirmed(&self, host: usize) -> bool {
        let acks = self
            .replicas
            .iter()
            .filter(|replica| replica.acked & 1 << host != 0);
        acks.count() >= 2
    }

    /// The host goes on after a 201. What is confirmed is found by every read to come, so with A1 the third replica
    /// makes no difference and takes it at once; without, it is the one that missed it.
    pub(super) fn confirm(&mut self, host: usize, rules: &Rules) {
        let put = core::mem::take(&mut self.under_way[host]);
        let is_claim = matches!(put, Put::Claim(..));
        if is_claim {
            // The third may still be overwritten by it, late.
            return self.leave(host, put);
        }
        for replica in &mut self.replicas {
            if rules.lies == 0 {
                replica.land(put, &self.ranks);
            }
            replica.todo &= !(1 << host);
            replica.acked &= !(1 << host);
        }
    }

    /// The host goes on without an answer, or dies: what is on its way may land at any time, or never.
    pub(super) fn abandon(&mut self, host: usize) {
        let put = core::mem::take(&mut self.under_way[host]);
        self.leave(host, put);
    }

    fn leave(&mut self, host: usize, put: Put) {
        if put == Put::Nothing {
            return;
        }
        let same = self.late.iter().position(|late| *late == put);
        let free = || self.late.iter().position(|late| *late == Put::Nothing);
        let slot = same
            .or_else(free)
            .expect("the bounds of a run leave room for what is late");
        self.late[slot] = put;
        for replica in &mut self.replicas {
            if replica.todo & 1 << host != 0 {
                replica.late |= 1 << slot;
            }
            replica.todo &= !(1 << host);
            replica.acked &= !(1 << host);
        }
    }

    /// Every event by which something lands on a replica: the PUT, and the store after it.
    pub(super) fn landings(&self, mut each: impl FnMut(Put, Self)) {
        for (at, replica) in self.replicas.iter().enumerate() {
            // Equal replicas give equal states.
            if self.replicas[..at].contains(replica) {
                continue;
            }
            for host in (0..HOSTS).filter(|host| replica.todo & 1 << host != 0) {
                let put = self.under_way[host];
                let mut store = self.clone();
                let to = &mut store.replicas[at];
                to.todo &= !(1 << host);
                // A replica with a younger claim refuses: no acknowledgement.
                if !(matches!(put, Put::Claim(..)) && to.is_moot(put, &self.ranks)) {
                    to.acked |= 1 << host;
                    to.land(put, &self.ranks);
                }
                each(put, store);
            }
            for slot in (0..LATE).filter(|slot| replica.late & 1 << slot != 0) {
                let mut store = self.clone();
                store.replicas[at].late &= !(1 << slot);
                store.replicas[at].land(self.late[slot], &self.ranks);
                each(self.late[slot], store);
            }
        }
    }

    /// Lands everything that is under way.
    pub(super) fn settle(&mut self) {
        for replica in &mut self.replicas {
            for host in 0..HOSTS {
                if replica.todo & 1 << host != 0 {
                    replica.land(self.under_way[host], &self.ranks);
                    replica.acked |= 1 << host;
                }
            }
            for slot in 0..LATE {
                if replica.late & 1 << slot != 0 {
                    replica.land(self.late[slot], &self.ranks);
                }
            }
            (replica.todo, replica.late) = (0, 0);
        }
    }

    fn holders(&self, name: Name) -> usize {
        self.replicas
            .iter()
            .filter(|replica| replica.has(name))
            .count()
    }

    /// Whether a root is on two replicas, or a delete of it has begun.
    pub(super) fn is_safe(&self, root: u8) -> bool {
        let is_dying = self
            .replicas
            .iter()
            .any(|replica| replica.tombs & 1 << root != 0);
        is_dying || self.holders(Name::Root(root)) >= 2
    }

    /// Whether a read may find the name.
    pub(super) fn may_exist(&self, name: Name) -> bool {
        self.holders(name) > 0
    }

    /// How many lies it takes to read 404; `asks`: how often absence is asked.
    pub(super) fn may_miss(&self, name: Name, asks: u8, rules: &Rules, told: u8) -> Option<u8> {
        match self.holders(name) {
            0 | 1 => Some(0),
            2 if told + asks <= rules.lies => Some(asks),
            _ => None,
        }
    }

    /// Who a read of a claim (or opened) may find there: attempt, and the lies it takes.
    pub(super) fn readings(&self, name: Name, rules: &Rules, told: u8) -> Vec<Reading<Option<u8>>> {
        let value = |at: usize| match name {
            Name::Claim(g) => self.replicas[at].claims[usize::from(g)],
            Name::Opened(g) => self.replicas[at].opened[usize::from(g)],
            _ => 0,
        };
        let newest = |a: u8, b: u8| match (a, b) {
            (0, b) => b,
            (a, 0) => a,
            (a, b) if self.ranks[usize::from(a - 1)] >= self.ranks[usize::from(b - 1)] => a,
            (_, b) => b,
        };
        let mut out: Vec<Reading<Option<u8>>> = Vec::new();
        let mut add = |value: u8, lies: u8| {
            let reading = (value.checked_sub(1), lies);
            if !out.iter().any(|(known, _)| *known == reading.0) {
                out.push(reading);
            }
        };
        let all = newest(newest(value(0), value(1)), value(2));
        add(all, 0);
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            add(newest(value(a), value(b)), 0);
        }
        // Step 6 reads twice, so a stale answer takes two lies.
        if told + 2 <= rules.lies {
            (0..REPLICAS).for_each(|at| add(value(at), 2));
        }
        out
    }

    /// The canonical one of all stores that behave alike.
    pub(super) fn normalise(&mut self) {
        // Landing on what is there already acknowledges and changes nothing: it may as well have happened.
        for replica in &mut self.replicas {
            for host in 0..HOSTS {
                let put = self.under_way[host];
                let is_claim = matches!(put, Put::Claim(..));
                if replica.todo & 1 << host != 0 && !is_claim && replica.is_moot(put, &self.ranks) {
                    replica.todo &= !(1 << host);
                    replica.acked |= 1 << host;
                }
            }
            for slot in 0..LATE {
                if replica.late & 1 << slot != 0 && replica.is_moot(self.late[slot], &self.ranks) {
                    replica.late &= !(1 << slot);
                }
            }
        }
        // Late PUTs that have landed everywhere are forgotten; the others are in order.
        let pending = |slot: usize| self.replicas.iter().any(|r| r.late & 1 << slot != 0);
        let mut kept: Vec<(Put, usize)> = (0..LATE)
            .filter(|slot| pending(*slot))
            .map(|slot| (self.late[slot], slot))
            .collect();
        kept.sort_unstable();
        let mut late = [Put::Nothing; LATE];
        let mut bits = [0_u16; REPLICAS];
        for (to, (put, from)) in kept.iter().enumerate() {
            late[to] = *put;
            for (bits, replica) in bits.iter_mut().zip(&self.replicas) {
                *bits |= u16::from(replica.late & 1 << from != 0) << to;
            }
        }
        self.late = late;
        for (replica, bits) in self.replicas.iter_mut().zip(bits) {
            replica.late = bits;
        }
        self.replicas.sort_unstable();
    }
}
