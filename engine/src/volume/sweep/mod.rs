//! Collection in the life of a volume: when a run begins, its looks, and what it leaves for the next root.

mod pace;

use super::{Pending, Volume};
use crate::attach::{Look, LookVerdict};
use crate::collect::{Ask, Collect, Graves, Report, Search, Stopped, Task, Unpin};
use crate::command::{Collected, Refusal, Verdict};
use crate::effect::{Effect, Notice, Outcome, StoreError, StoreRequest};
use crate::ids::{AttachId, WishId};
use crate::object::names::{ObjectName, RootName};
use crate::payload::Payload;
use crate::table::types::{Pin, Root};
use crate::time::{Duration, Instant};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use pace::Pace;

/// A run that was stopped begins again after the grace, and never sooner than this.
const AGAIN: Duration = Duration::from_secs(10);

/// Between two runs lies this share of the grace at least, and at least a second.
const GRACE_SHARE: u32 = 8;
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Wishes for a search that may wait at once.
const WISHES: usize = 16;

/// What an outcome of ours belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    Run { number: u64, slot: u32 },
    Look { number: u64, slot: u32 },
    Unpin { number: u64, slot: u32 },
}

/// Dying versions, and the run that deletes what was only theirs.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    graves: Graves,
    run: Option<Box<Collect>>,
    look: Option<Box<Look>>,
    number: u64,
    /// Nothing is left of these: the next root drops their entries.
    gone: BTreeSet<RootName>,
    /// Only the root is left of these, and has to stay.
    drained: BTreeMap<RootName, u64>,
    /// Cannot be read: left alone by this process.
    damaged: BTreeSet<RootName>,
    /// When the next run may begin that nobody asks for.
    next_at: Option<Instant>,
    /// Who waits for a search for orphans, and the least age asked for.
    wishes: Vec<(WishId, Duration)>,
    /// Whom the run under way answers.
    served: Vec<WishId>,
    /// Which pins hold nothing: asked before a run that searches.
    unpin: Option<Box<Unpin>>,
    /// Pins that the next root drops.
    loose: Vec<Pin>,
    /// Those that the run under way found.
    dropped: Vec<Pin>,
    /// What the run after the check of pins searches for; `None`: there will be no run.
    search: Option<Search>,
    /// When the next search begins that nobody asks for.
    pace: Pace,
    /// No grace ends before, so that a fact need not count the graves.
    idle_until: Option<Instant>,
}

impl Sweep {
    /// A root of ours is committed, or was adopted.
    pub(crate) fn committed(&mut self, root: &Root, now: Instant) {
        self.graves.committed(root, now);
        let listed: BTreeSet<RootName> = root.dying.iter().map(|dying| dying.root).collect();
        self.gone.retain(|name| listed.contains(name));
        self.drained.retain(|name, _| listed.contains(name));
        self.damaged.retain(|name| listed.contains(name));
        self.loose.retain(|pin| root.pins.contains(pin));
        // What a live root no longer uses may let a root go that had to stay: those wait for the next grace.
        self.idle_until = None;
    }

    /// Those that this process is not done with.
    fn left(&self, names: Vec<RootName>) -> Vec<RootName> {
        let is_done = |name: &RootName| self.gone.contains(name) || self.damaged.contains(name);
        names.into_iter().filter(|name| !is_done(name)).collect()
    }

    /// There may be orphans.
    pub(crate) fn suspect(&mut self) {
        self.pace.suspect();
        self.idle_until = None;
    }

    /// Whether the pin holds nothing any more.
    pub(crate) fn is_loose(&self, pin: &Pin) -> bool {
        self.loose.contains(pin)
    }

    /// Whether nothing is left of a dying version.
    pub(crate) fn is_gone(&self, root: RootName) -> bool {
        self.gone.contains(&root)
    }
}

impl<P: Payload> Volume<P> {
    pub(super) fn sweep_timeout(&self) -> Option<Instant> {
        let now = self.now;
        if let Some(unpin) = &self.sweep.unpin {
            return unpin.poll_timeout();
        }
        if let Some(look) = &self.sweep.look {
            // The run waits for it, whatever else of it is due.
            return look.poll_timeout();
        }
        if let Some(run) = &self.sweep.run {
            return run.poll_timeout(now);
        }
        // What comes due while a run waits for its attach, or while nothing may be published, waits with it.
        let may_begin = self.sweep.wishes.is_empty() && self.own.may_publish();
        (self.sweep.idle_until).filter(|at| *at < Instant(u64::MAX) && may_begin)
    }

    /// Collect all that can go, orphans too.
    pub(super) fn collect(&mut self, id: WishId, min_age: Option<Duration>) {
        let min_age = min_age.unwrap_or(self.limits.min_age);
        match self.own.wont_cut() {
            Some(refusal) => self.told(id, Verdict::Refused(refusal)),
            None if self.sweep.wishes.len() >= WISHES => {
                self.told(id, Verdict::Refused(Refusal::Busy));
            }
            None => self.sweep.wishes.push((id, min_age)),
        }
    }

    /// One step further; whether anything was done.
    pub(super) fn sweep_step(&mut self) -> bool {
        let now = self.now;
        if self.sweep.run.is_none() && self.sweep.unpin.is_none() {
            return self.sweep_begin();
        }
        // Pins may be checked without an attachment: the child is only read.
        let checks_pins = self.sweep.unpin.is_some() && self.sweep.search.is_none();
        if self.own.attach().is_none() && !(checks_pins && self.own.may_cut()) {
            // Detached: who holds the volume next goes on from the list.
            mark!("collection-without-an-attachment");
            let refusal = Refusal::WrongState(self.own.phase_name());
            self.sweep_drop(&refusal);
            return true;
        }
        let number = self.sweep.number;
        if let Some(unpin) = &mut self.sweep.unpin {
            if let Some((slot, request)) = unpin.poll(now) {
                self.out
                    .store(Pending::Sweep(Op::Unpin { number, slot }), request);
                return true;
            }
            let Some(loose) = unpin.end() else {
                return false;
            };
            self.sweep.unpin = None;
            self.sweep_search(loose);
            return true;
        }
        if let Some(look) = &mut self.sweep.look {
            let mut done = false;
            while let Some((slot, request)) = look.poll(now) {
                done = true;
                self.out
                    .store(Pending::Sweep(Op::Look { number, slot }), request);
            }
            return done;
        }
        let Some(ask) = self.sweep.run.as_mut().and_then(|run| run.poll(now)) else {
            return false;
        };
        match ask {
            Ask::Store {
                slot,
                request: StoreRequest::Delete { name, .. },
            } if self.holds(&name) => {
                // Dead, but a read or merge of ours that began before is still under way: asked again a little later.
                mark!("a-delete-waits");
                let later = Outcome::<P>::Store(StoreError::Unavailable);
                if let Some(run) = &mut self.sweep.run {
                    run.handle(now, slot, later);
                }
            }
            Ask::Store { slot, request } => {
                self.out
                    .store(Pending::Sweep(Op::Run { number, slot }), request);
            }
            Ask::Look => {
                let Some(attach) = self.own.attach() else {
                    return true;
                };
                let (container, deadline) = (self.container.clone(), self.limits.store_deadline);
                self.sweep.look = Some(Box::new(Look::new(container, attach, deadline, true)));
            }
            Ask::End(report) => self.sweep_end(*report),
        }
        true
    }

    /// Whether something is being read from the object.
    fn holds(&self, name: &ObjectName) -> bool {
        match name {
            ObjectName::Data(data) => self.hydrate.reads_from(&self.container, data),
            ObjectName::Leaves(_) | ObjectName::Root(_) => self.present.loads_from(name),
            _ => false,
        }
    }

    fn sweep_begin(&mut self) -> bool {
        let (now, wall) = (self.now, self.wall());
        let asked = self.sweep.wishes.first().map(|(_, min_age)| *min_age);
        if asked.is_some()
            && self.own.refusal().is_some()
            && let Some(refusal) = self.own.wont_cut()
        {
            self.sweep_drop(&refusal);
            return true;
        }
        let idle = self.sweep.idle_until.is_some_and(|at| at > now) && asked.is_none();
        if idle || !self.own.may_publish() {
            return false;
        }
        let Some(root) = self.present.root().cloned() else {
            return asked.is_some() && self.attach_for_publish();
        };
        let search_at = self.search_at(&root);
        let Some(own) = self.own.attach() else {
            return match asked {
                Some(_) => self.attach_for_publish(),
                None => self.sweep_pins(&root, search_at),
            };
        };
        let searches = asked.is_some() || search_at.is_some_and(|at| at <= now);
        let sweep = &mut self.sweep;
        let ripe = sweep.graves.ripe(self.limits.delete_grace, now);
        let next = sweep.graves.next(self.limits.delete_grace, now);
        let next = next.into_iter().chain(search_at.filter(|at| *at > now));
        if let Some(at) = sweep.next_at.filter(|at| *at > now && !searches) {
            sweep.idle_until = next.chain([at]).min();
            return false;
        }
        sweep.idle_until = Some(next.min().unwrap_or(Instant(u64::MAX)));
        let ripe = sweep.left(ripe);
        // Of drained ones the root stays for a reason that only later commits change: they ride with fresh ones.
        if ripe.iter().all(|name| sweep.drained.contains_key(name)) && !searches {
            return false;
        }
        self.sweep.number += 1;
        self.sweep.next_at = None;
        if searches {
            let min_age = asked.unwrap_or(self.limits.min_age);
            if asked.is_none() {
                mark!("search-unasked");
            } else {
                // Who asked for the same is served by the same run.
                let same = |(_, other): &mut (WishId, Duration)| *other == min_age;
                let wishes = self.sweep.wishes.extract_if(.., same);
                self.sweep.served = wishes.map(|(id, _)| id).collect();
            }
            self.sweep.search = Some(Search { wall, min_age });
            self.sweep.pace.begun(true);
            self.check_pins(&root);
            return true;
        }
        let task = self.sweep_task(own, root, ripe, None);
        self.sweep.run = Some(Box::new(Collect::new(task)));
        true
    }

    /// When a search begins by itself. What is on its way out begins none.
    fn search_at(&mut self, root: &Root) -> Option<Instant> {
        if !self.own.may_cut() {
            return None;
        }
        let pause = pace::pause(&self.limits, self.container.id);
        (self.sweep.pace).next(!root.pins.is_empty(), self.now, pause)
    }

    /// A volume that this process has not attached yet has no orphans to look for, and may have pins: a golden image that
    /// nobody writes is attached when one of them holds nothing any more.
    fn sweep_pins(&mut self, root: &Root, search_at: Option<Instant>) -> bool {
        let search_at = search_at.filter(|_| !root.pins.is_empty());
        self.sweep.idle_until = Some(search_at.unwrap_or(Instant(u64::MAX)));
        if search_at.is_none_or(|at| at > self.now) {
            return false;
        }
        mark!("pins-checked-unattached");
        self.sweep.number += 1;
        self.sweep.search = None;
        self.sweep.pace.begun(false);
        self.check_pins(root);
        true
    }

    fn check_pins(&mut self, root: &Root) {
        let deadline = self.limits.store_deadline;
        let window = pace::window(!self.sweep.served.is_empty());
        let unpin = Unpin::new(root.pins.clone(), deadline, window);
        self.sweep.unpin = Some(Box::new(unpin));
    }

    fn sweep_task(
        &self,
        own: AttachId,
        root: Arc<Root>,
        ripe: Vec<RootName>,
        search: Option<Search>,
    ) -> Task {
        Task {
            root,
            own,
            ripe,
            drained: self.sweep.drained.clone(),
            gone: self.sweep.gone.clone(),
            damaged: self.sweep.damaged.clone(),
            search,
            window: pace::window(search.is_none() || !self.sweep.served.is_empty()),
            store_deadline: self.limits.store_deadline,
        }
    }

    /// The pins are judged: the next root drops those that hold nothing, and the search begins, if there is one.
    fn sweep_search(&mut self, loose: Vec<Pin>) {
        let search = self.sweep.search.take();
        if let (Some(search), Some(own), Some(root)) =
            (search, self.own.attach(), self.present.root().cloned())
        {
            let ripe = (self.sweep.graves).ripe(self.limits.delete_grace, self.now);
            let ripe = self.sweep.left(ripe);
            let task = self.sweep_task(own, root, ripe, Some(search));
            self.sweep.run = Some(Box::new(Collect::new(task)));
        } else {
            self.sweep.idle_until = None;
        }
        let sweep = &mut self.sweep;
        sweep.dropped.clone_from(&loose);
        let is_new = |pin: &Pin| !sweep.loose.contains(pin);
        let fresh: Vec<Pin> = loose.into_iter().filter(is_new).collect();
        sweep.loose.extend(fresh);
        if !sweep.dropped.is_empty() && self.own.wont_cut().is_none() {
            self.cut(None, false, None);
        }
    }

    pub(super) fn sweep_done(&mut self, op: Op, outcome: Outcome<P>) {
        let now = self.now;
        match op {
            Op::Run { number, slot } if number == self.sweep.number => {
                if let Some(run) = &mut self.sweep.run {
                    run.handle(now, slot, outcome);
                }
            }
            Op::Look { number, slot } if number == self.sweep.number => {
                let Some(look) = &mut self.sweep.look else {
                    return;
                };
                let Some(verdict) = look.handle(now, slot, outcome) else {
                    return;
                };
                self.sweep.look = None;
                match verdict {
                    LookVerdict::Good => {
                        if let Some(run) = &mut self.sweep.run {
                            run.looked(true);
                        }
                    }
                    LookVerdict::Fenced => {
                        mark!("look-before-deletes-finds-it-shut");
                        self.fenced();
                    }
                    LookVerdict::Refused(refusal) => {
                        mark!("look-before-deletes-refused");
                        self.sweep_drop(&refusal);
                        self.sweep.next_at = Some(now + self.limits.delete_grace.max(AGAIN));
                    }
                }
            }
            Op::Unpin { number, slot } if number == self.sweep.number => {
                if let Some(unpin) = &mut self.sweep.unpin {
                    unpin.handle(now, slot, outcome);
                }
            }
            // Of a run that was dropped.
            _ => {}
        }
    }

    fn sweep_end(&mut self, report: Report) {
        self.sweep.run = None;
        self.sweep.idle_until = None;
        let may_leave = report.stopped.is_some() || report.young > 0;
        self.sweep.pace.ended(may_leave);
        // A run reads every dying root whose grace still runs: many that end one after another are served by few runs.
        let pause = self.limits.delete_grace / GRACE_SHARE;
        self.sweep.next_at = Some(self.now + pause.max(PAUSE_MIN));
        self.sweep.gone.extend(report.gone.iter().copied());
        self.sweep.drained.extend(report.drained);
        for name in &report.damaged {
            let place = alloc::format!("{name}");
            let error = StoreError::Damaged;
            self.out.push(Effect::Notice(Notice::StoreWaiting {
                object: place,
                error,
            }));
        }
        let served = core::mem::take(&mut self.sweep.served);
        let unpinned = core::mem::take(&mut self.sweep.dropped);
        let verdict = match report.stopped {
            Some(Stopped::Fenced) => {
                self.tell_all(served, &Verdict::Refused(Refusal::Fenced));
                return self.fenced();
            }
            Some(Stopped::Blocked { object, error }) => {
                self.sweep.next_at = Some(self.now + self.limits.delete_grace.max(AGAIN));
                let object = alloc::format!("{object}");
                Verdict::Refused(Refusal::Store { object, error })
            }
            None => {
                let ripe = self.sweep.graves.ripe(self.limits.delete_grace, self.now);
                let dying = self.present.root().map_or(0, |root| root.dying.len());
                let in_grace = dying.saturating_sub(ripe.len()) as u64;
                if !report.damaged.is_empty() {
                    let sweep = &mut self.sweep;
                    let is_left = |name: &RootName| {
                        !sweep.gone.contains(name) && !sweep.drained.contains_key(name)
                    };
                    let left: Vec<RootName> = ripe.into_iter().filter(is_left).collect();
                    sweep.damaged.extend(left);
                }
                let collected = Collected {
                    data: report.data,
                    leaves: report.leaves,
                    roots: report.roots,
                    unpinned,
                    in_grace,
                    young: report.young,
                    strays: report.strays,
                    damaged: report.damaged,
                };
                if served.is_empty() && collected.is_anything() {
                    mark!("collected-unasked");
                    let told = Notice::Collected(Box::new(collected.clone()));
                    self.out.push(Effect::Notice(told));
                }
                Verdict::Collected(collected)
            }
        };
        self.tell_all(served, &verdict);
    }

    fn tell_all(&mut self, wishes: Vec<WishId>, verdict: &Verdict) {
        for wish in wishes {
            self.told(wish, verdict.clone());
        }
    }

    /// Ends the run: what it deleted was dead. Who waits for one hears why there is none.
    pub(crate) fn sweep_drop(&mut self, refusal: &Refusal) {
        self.sweep.run = None;
        self.sweep.idle_until = None;
        self.sweep.look = None;
        self.sweep.unpin = None;
        self.sweep.search = None;
        self.sweep.pace.ended(true);
        self.sweep.number += 1;
        let mut wishes = core::mem::take(&mut self.sweep.served);
        wishes.extend(self.sweep.wishes.drain(..).map(|(wish, _)| wish));
        self.tell_all(wishes, &Verdict::Refused(refusal.clone()));
    }
}
