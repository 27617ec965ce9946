//! Collection in the life of a volume: when a run begins, its looks, and what it leaves for the next root.

use super::{Pending, Volume};
use crate::attach::{Look, LookVerdict};
use crate::collect::{Ask, Collect, Graves, Report, Stopped, Task};
use crate::effect::{Effect, Notice, Outcome};
use crate::object::names::RootName;
use crate::payload::Payload;
use crate::table::types::Root;
use crate::time::{Duration, Instant};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// A run that was stopped begins again after the grace, and never sooner than this.
const AGAIN: Duration = Duration::from_secs(10);

/// What an outcome of ours belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    Run { number: u64, slot: u32 },
    Look { number: u64, slot: u32 },
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
    /// After a run that was stopped: when the next may begin.
    next_at: Option<Instant>,
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
        // What a live root no longer uses may let a root go that had to stay: those wait for the next grace.
        self.next_at = None;
        self.idle_until = None;
    }

    /// Whether nothing is left of a dying version.
    pub(crate) fn is_gone(&self, root: RootName) -> bool {
        self.gone.contains(&root)
    }
}

impl<P: Payload> Volume<P> {
    pub(super) fn sweep_timeout(&self) -> Option<Instant> {
        let now = self.now;
        if let Some(run) = &self.sweep.run {
            let look = self
                .sweep
                .look
                .as_ref()
                .and_then(|look| look.poll_timeout());
            return run.poll_timeout(now).into_iter().chain(look).min();
        }
        self.sweep.idle_until.filter(|at| *at < Instant(u64::MAX))
    }

    /// One step further; whether anything was done.
    pub(super) fn sweep_step(&mut self) -> bool {
        let now = self.now;
        if self.sweep.run.is_none() {
            return self.sweep_begin();
        }
        let number = self.sweep.number;
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
            Ask::Store { slot, request } => {
                self.out
                    .store(Pending::Sweep(Op::Run { number, slot }), request);
            }
            Ask::Look => {
                let Some(attach) = self.own.attach() else {
                    self.sweep_drop();
                    return true;
                };
                let (container, deadline) = (self.container.clone(), self.limits.store_deadline);
                self.sweep.look = Some(Box::new(Look::new(container, attach, deadline, true)));
            }
            Ask::End(report) => self.sweep_end(*report),
        }
        true
    }

    fn sweep_begin(&mut self) -> bool {
        let now = self.now;
        if self.sweep.idle_until.is_some_and(|at| at > now) || !self.own.may_publish() {
            return false;
        }
        let (Some(own), Some(root)) = (self.own.attach(), self.present.root()) else {
            return false;
        };
        let sweep = &mut self.sweep;
        let ripe = sweep.graves.ripe(self.limits.delete_grace, now);
        let next = sweep.graves.next(self.limits.delete_grace, now);
        sweep.idle_until = Some(next.unwrap_or(Instant(u64::MAX)));
        if let Some(at) = sweep.next_at.filter(|at| *at > now) {
            sweep.idle_until = sweep.idle_until.min(Some(at));
            return false;
        }
        let done = |name: &RootName| sweep.gone.contains(name) || sweep.damaged.contains(name);
        let ripe: Vec<RootName> = ripe.into_iter().filter(|name| !done(name)).collect();
        // Of drained ones the root stays for a reason that only later commits change: they ride with fresh ones.
        if ripe.iter().all(|name| sweep.drained.contains_key(name)) {
            return false;
        }
        let task = Task {
            root: root.clone(),
            own,
            ripe,
            drained: self.sweep.drained.clone(),
            gone: self.sweep.gone.clone(),
            orphans: Vec::new(),
            strays: Vec::new(),
            store_deadline: self.limits.store_deadline,
        };
        self.sweep.number += 1;
        self.sweep.next_at = None;
        self.sweep.run = Some(Box::new(Collect::new(task)));
        true
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
                    LookVerdict::Fenced => self.fenced(),
                    LookVerdict::Refused(_) => {
                        self.sweep_drop();
                        self.sweep.next_at = Some(now + self.limits.delete_grace.max(AGAIN));
                    }
                }
            }
            // Of a run that was dropped.
            _ => {}
        }
    }

    fn sweep_end(&mut self, report: Report) {
        self.sweep.run = None;
        self.sweep.idle_until = None;
        self.sweep.gone.extend(report.gone.iter().copied());
        self.sweep.drained.extend(report.drained);
        for name in &report.damaged {
            let place = alloc::format!("{name}");
            let error = crate::effect::StoreError::Damaged;
            self.out.push(Effect::Notice(Notice::StoreWaiting {
                object: place,
                error,
            }));
        }
        match report.stopped {
            Some(Stopped::Fenced) => self.fenced(),
            Some(Stopped::Blocked { .. }) => {
                self.sweep.next_at = Some(self.now + self.limits.delete_grace.max(AGAIN))
            }
            None if !report.damaged.is_empty() => {
                let ripe = self.sweep.graves.ripe(self.limits.delete_grace, self.now);
                let sweep = &mut self.sweep;
                let left = ripe
                    .into_iter()
                    .filter(|name| !sweep.gone.contains(name) && !sweep.drained.contains_key(name));
                let left: Vec<RootName> = left.collect();
                sweep.damaged.extend(left);
            }
            None => {}
        }
    }

    /// Ends the run without a word: what it deleted was dead.
    pub(crate) fn sweep_drop(&mut self) {
        self.sweep.run = None;
        self.sweep.idle_until = None;
        self.sweep.look = None;
        self.sweep.number += 1;
    }
}
