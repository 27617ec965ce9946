//! Erasing a volume: a root that says so, then everything it had, what decides last.
//!
//! Shape      intent → root kind `deleted` → look → data → leaves → roots → `volume` → older claims, doors, opened → own ones
//!            → the deleted root.
//! Invariant  nothing goes before the deleted root is confirmed and looked behind: who finds less than all of it finds
//!            that root, or no volume at all.
//! Crash      anywhere: the newest root says `deleted`, or `volume` is gone; the next erasing goes on from there.
//! Listings   lag: they find data, leaves and roots. Names that follow from the generation go whether a listing shows them or not.
//! Not here   the empty container: listings lag, so it is removed by a later sweep, not on the word of one listing.

use super::{After, Pending, Volume};
use crate::attach::{Look, LookVerdict};
use crate::command::{Refusal, Verdict};
use crate::effect::{Body, Effect, Gate, GateReason, Outcome, StoreError, StoreRequest};
use crate::ids::{Generation, Version, WishId};
use crate::journal::note::Intent;
use crate::object::names::{ObjectName, RootName};
use crate::payload::Payload;
use crate::table::types::{Root, RootKind};
use crate::time::{Duration, Instant};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Names of one listing.
const PAGE: u32 = 1000;

/// Deletes under way at once.
const DELETES: usize = 8;

/// What the store did not do is asked again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// In this order; within each everything goes but what a later step needs.
const PREFIXES: [&str; 7] = [
    "chunks/",
    "tables/",
    "versions/",
    "volume",
    "claims/",
    "opened/",
    "doors/",
];

/// What an outcome of ours belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    Root,
    Look { slot: u32 },
    List,
    Delete { number: u64 },
}

/// An erasing under way.
#[derive(Debug)]
pub(crate) struct Erase {
    wish: Option<WishId>,
    root: Arc<Root>,
    look: Option<Box<Look>>,
    prefix: usize,
    /// The last name listed, and whether more may follow.
    after: Option<String>,
    listed: bool,
    listing: bool,
    /// What the listing of this prefix showed, where names are known without one.
    shown: BTreeSet<ObjectName>,
    line: VecDeque<ObjectName>,
    /// Deletes under way: one that fails goes to the end of the line.
    under_way: BTreeMap<u64, ObjectName>,
    deletes: u64,
    /// Own token and root, last of all.
    last: VecDeque<ObjectName>,
    retry_at: Option<Instant>,
    root_sent: bool,
}

/// Whether a name follows from the generation alone.
const fn is_known(name: ObjectName) -> bool {
    matches!(
        name,
        ObjectName::Volume | ObjectName::Claim(_) | ObjectName::Opened(_) | ObjectName::Door(_)
    )
}

impl Erase {
    // The listing of a prefix ends: adds what must be there and was not shown.
    fn add_known(&mut self) {
        let shown = core::mem::take(&mut self.shown);
        let name: fn(Generation) -> ObjectName = match PREFIXES.get(self.prefix).copied() {
            Some("claims/") => ObjectName::Claim,
            Some("opened/") => ObjectName::Opened,
            Some("doors/") => ObjectName::Door,
            Some("volume") if !shown.contains(&ObjectName::Volume) => {
                return self.line.push_back(ObjectName::Volume);
            }
            _ => return,
        };
        let older = 1..self.root.name.attach.generation.0;
        let missing = older.map(|g| name(Generation(g)));
        self.line
            .extend(missing.filter(|name| !shown.contains(name)));
    }
}

impl<P: Payload> Volume<P> {
    /// The volume is ours and shall be no more: notes the intent.
    pub(super) fn erase_begin(&mut self, wish: Option<WishId>) {
        let (Some(geometry), Some(attach)) = (self.geometry, self.own.attach()) else {
            return;
        };
        let before = self
            .present
            .root_and_hash()
            .map(|(root, hash)| (root.name, hash));
        let version = before.map_or(Version(0), |(name, _)| Version(name.version.0 + 1));
        let root = Root {
            container: self.container.clone(),
            geometry,
            name: RootName { version, attach },
            ordinal: version.0 - self.own.first_version().0 + 1,
            parent: before,
            kind: RootKind::Deleted,
            cut: self.journal.written(),
            created: self.wall(),
            snapshots: Vec::new(),
            pins: Vec::new(),
            dying: Vec::new(),
            attributes: BTreeMap::new(),
            losses: Vec::new(),
            leaves: BTreeMap::new(),
            riding: BTreeMap::new(),
        };
        let own = attach.generation;
        self.erase = Some(Box::new(Erase {
            wish,
            last: [
                ObjectName::Claim(own),
                ObjectName::Door(own),
                ObjectName::Opened(own),
                ObjectName::Root(root.name),
            ]
            .into(),
            root: Arc::new(root),
            look: None,
            prefix: 0,
            after: None,
            listed: false,
            listing: false,
            shown: BTreeSet::new(),
            line: VecDeque::new(),
            under_way: BTreeMap::new(),
            deletes: 0,
            retry_at: None,
            root_sent: false,
        }));
        self.note(After::Erase, |note| {
            note.intent = Some(Intent::Delete(version))
        });
    }

    /// The intent is noted: sends the root.
    pub(super) fn erase_root(&mut self) {
        let Some(erase) = &self.erase else { return };
        let request = StoreRequest::Put {
            container: self.container.clone(),
            name: ObjectName::Root(erase.root.name),
            body: Body::Root(erase.root.clone()),
            once: false,
        };
        self.out.store(Pending::Erase(Op::Root), request);
    }

    pub(super) fn erase_done(&mut self, op: Op, outcome: Outcome<P>) {
        let now = self.now;
        let (container, deadline) = (self.container.clone(), self.limits.store_deadline);
        let Some(erase) = &mut self.erase else { return };
        let waits_for = match (&op, &outcome) {
            (Op::Root, Outcome::Store(error)) => {
                Some((ObjectName::Root(erase.root.name).to_string(), *error))
            }
            (Op::List, Outcome::Store(error)) => Some(("a listing".to_string(), *error)),
            (Op::Look { .. }, Outcome::Store(error)) if *error != StoreError::Absent => {
                Some(("the next door".to_string(), *error))
            }
            (Op::Delete { number }, Outcome::Store(error)) => {
                let name = erase.under_way.get(number);
                name.map(|name| (name.to_string(), *error))
            }
            _ => None,
        };
        match (op, outcome) {
            (Op::Root, Outcome::Put(_)) => {
                erase.root_sent = true;
                let attach = erase.root.name.attach;
                erase.look = Some(Box::new(Look::new(container, attach, deadline, true)));
            }
            (Op::Look { slot }, outcome) => {
                let verdict = erase
                    .look
                    .as_mut()
                    .and_then(|look| look.handle(now, slot, outcome));
                match verdict {
                    None => {}
                    Some(LookVerdict::Good) => erase.look = None,
                    Some(LookVerdict::Fenced) => {
                        mark!("erasing-finds-it-shut");
                        let wish = self.erase.take().and_then(|erase| erase.wish);
                        if let Some(wish) = wish {
                            self.told(wish, Verdict::Refused(Refusal::Fenced));
                        }
                        self.fenced();
                    }
                    Some(LookVerdict::Refused(_)) => {
                        let attach = erase.root.name.attach;
                        erase.look = Some(Box::new(Look::new(container, attach, deadline, true)));
                        erase.retry_at = Some(now + AGAIN);
                    }
                }
            }
            (Op::List, Outcome::Names(names)) => {
                erase.listing = false;
                erase.after = names.last().map(|row| row.name.clone());
                erase.listed = names.is_empty();
                for name in names.iter().filter_map(|row| ObjectName::parse(&row.name)) {
                    if !erase.last.contains(&name) {
                        erase.line.push_back(name);
                        if is_known(name) {
                            erase.shown.insert(name);
                        }
                    }
                }
                if erase.listed {
                    erase.add_known();
                }
            }
            (Op::Delete { number }, outcome) => {
                let Some(name) = erase.under_way.remove(&number) else {
                    return;
                };
                if !matches!(outcome, Outcome::Done) {
                    mark!("erasing-asks-again");
                    erase.line.push_back(name);
                    erase.retry_at = Some(now + AGAIN);
                }
            }
            (op, _) => {
                erase.listing &= op != Op::List;
                erase.retry_at = Some(now + AGAIN);
            }
        }
        if let Some((object, error)) = waits_for {
            self.tell_waiting(object, error);
        }
    }

    /// One step further; whether anything was done.
    pub(super) fn erase_step(&mut self) -> bool {
        let now = self.now;
        let Some(erase) = &mut self.erase else {
            return false;
        };
        if erase.retry_at.is_some_and(|at| at > now) {
            return false;
        }
        let retry = erase.retry_at.take().is_some();
        if !erase.root_sent {
            if retry {
                self.erase_root();
            }
            return false;
        }
        if let Some(look) = &mut erase.look {
            let mut done = false;
            while let Some((slot, request)) = look.poll(now) {
                done = true;
                self.out.store(Pending::Erase(Op::Look { slot }), request);
            }
            return done;
        }
        if erase.under_way.len() < DELETES
            && let Some(name) = erase.line.pop_front()
        {
            erase.deletes += 1;
            let (container, number) = (self.container.clone(), erase.deletes);
            erase.under_way.insert(number, name);
            let request = StoreRequest::Delete { container, name };
            self.out
                .store(Pending::Erase(Op::Delete { number }), request);
            return true;
        }
        if erase.listing || !erase.under_way.is_empty() || !erase.line.is_empty() {
            return false;
        }
        if erase.listed {
            erase.prefix += 1;
            erase.listed = false;
            erase.after = None;
        }
        if let Some(prefix) = PREFIXES.get(erase.prefix) {
            erase.listing = true;
            let request = StoreRequest::List {
                container: self.container.clone(),
                prefix: prefix.to_string(),
                after: erase.after.clone(),
                limit: PAGE,
            };
            self.out.store(Pending::Erase(Op::List), request);
            return true;
        }
        if let Some(name) = erase.last.pop_front() {
            erase.line.push_back(name);
            return true;
        }
        let wish = self.erase.take().and_then(|erase| erase.wish);
        self.own.erased();
        self.out
            .push(Effect::Gate(Gate::Closed(GateReason::Detached)));
        if let Some(wish) = wish {
            self.told(wish, Verdict::Erased);
        }
        true
    }

    pub(super) fn erase_timeout(&self) -> Option<Instant> {
        let erase = self.erase.as_ref()?;
        let look = erase.look.as_ref().and_then(|look| look.poll_timeout());
        [erase.retry_at, look].into_iter().flatten().min()
    }
}
