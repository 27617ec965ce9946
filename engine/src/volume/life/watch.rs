//! The watch of the next door, being fenced, the gate, and the store as guests feel it.

use super::{OUTAGE, Op, Phase};
use crate::attach::{self, How, Watched};
use crate::command::{Failure, Refusal, Verdict};
use crate::effect::{Effect, Gate, GateReason, Notice, Outcome, StoreError};
use crate::ids::{Generation, Hash, WishId};
use crate::payload::Payload;
use crate::time::{Duration, Instant};
use crate::volume::{Pending, Volume};
use alloc::vec::Vec;

impl<P: Payload> Volume<P> {
    pub(super) fn watch(&mut self) {
        let gate_closed = self.own.gate == Some(Gate::Closed(GateReason::StoreAway));
        let missing = self.own.missing || self.reads_doubt();
        let idle = self.own.sessions == 0 && !gate_closed && !missing;
        if !idle {
            self.ask_door(self.limits.watch);
        }
    }

    pub(super) fn look(&mut self, id: WishId) {
        self.own.lookers.push(id);
        self.ask_door(self.limits.restart_look);
        if !self.own.watching {
            // There is no door to ask: what answers guests or not is decided elsewhere.
            self.looked();
        }
    }

    pub(super) fn looked(&mut self) {
        for id in core::mem::take(&mut self.own.lookers) {
            self.told(id, Verdict::Looked);
        }
    }

    /// Asks whether the next door is shut, if this is the time to.
    pub(super) fn ask_door(&mut self, deadline: Duration) {
        if !self.is_holding() || self.own.watching {
            return;
        }
        // A door that this host's own attach has shut says nothing.
        let held = self
            .held()
            .filter(|_| !self.own.shut && self.own.opened.is_none());
        let Some(held) = held else {
            self.own.watch_at = Some(self.now + self.limits.watch);
            return;
        };
        self.own.watching = true;
        let request = attach::watch_request(self.container.clone(), held, deadline);
        self.out
            .store(Pending::Life(Op::Watch { began: self.now }), request);
    }

    /// The last generation that this host held, now or before its restart.
    pub(super) fn held(&self) -> Option<Generation> {
        let attach = self.own.attach.map(|attach| attach.generation);
        attach.or_else(|| self.notes.note.as_ref().and_then(|note| note.held))
    }

    /// Whether it goes on as if the volume were its own: also while it gives it up, once attached.
    fn is_holding(&self) -> bool {
        match self.own.phase {
            Phase::Serving => true,
            Phase::Detaching => self.own.attach.is_some(),
            _ => false,
        }
    }

    /// A publish misses what the table names: others may have collected it.
    pub(crate) fn publish_misses(&mut self) {
        mark!("publish-misses");
        self.own.missing = true;
        self.watch_now();
    }

    /// A look is wanted now, whoever watches or not.
    pub(in crate::volume) fn watch_now(&mut self) {
        if !self.own.watching {
            self.own.watch_at = Some(self.now);
        }
    }

    pub(super) fn watched(&mut self, began: Instant, outcome: &Outcome<P>) {
        self.own.watching = false;
        self.own.watch_at = Some(self.now + self.limits.watch);
        if matches!(outcome, Outcome::Store(StoreError::Unavailable))
            && bug!("silence-ends-the-watch")
        {
            self.own.watch_at = None;
        }
        self.watch_told(began, outcome);
        self.looked();
    }

    pub(super) fn watch_told(&mut self, began: Instant, outcome: &Outcome<P>) {
        if !self.is_holding() {
            return;
        }
        match attach::watch_verdict(outcome) {
            Watched::Good => {
                self.own.last_good = began;
                self.own.missing = false;
                self.store_answered();
                self.reads_believe(began);
            }
            Watched::Silent => self.store_failed(outcome),
            Watched::Shut if self.own.attach.is_some() => {
                mark!("watch-finds-it-shut");
                self.fenced();
            }
            Watched::Shut => self.found_shut(),
        }
    }

    /// Serving and not attached anew yet, the door above was found shut, and not by an attach of this process: step 2 of an
    /// attach tells own from foreign; guests wait for it.
    pub(super) fn found_shut(&mut self) {
        let serves = self.own.phase == Phase::Serving && self.own.attach.is_none();
        if !serves || self.own.shut || self.own.opened.is_some() {
            return;
        }
        mark!("door-shut-above-a-restart");
        self.own.phase = Phase::Local;
        if self.own.sessions == 0 {
            self.set_gate(Gate::Closed(GateReason::NotServing));
        }
        self.begin_attach(None, How::default());
    }

    /// Another host has shut our door: from now on nothing is answered. If nobody opens above us after all, the volume is
    /// still ours: an attach finds out.
    pub(crate) fn fenced(&mut self) {
        self.leave();
        self.own.attach_retry_at = Some(self.now + self.limits.watch);
    }

    /// Another host has the volume, or may have it: everything that waits here ends.
    pub(super) fn leave(&mut self) {
        let by = Generation(self.held().unwrap_or_default().0 + 1);
        let is_news = self.own.phase != Phase::Fenced;
        self.own.phase = Phase::Fenced;
        self.own.attach = None;
        if is_news {
            self.out.push(Effect::Notice(Notice::Fenced { by }));
        }
        self.publish_abort(&Refusal::Fenced);
        self.own.intent_noted = false;
        if let Some(wish) = self.own.detach_wish.take() {
            self.told(wish, Verdict::Refused(Refusal::Fenced));
        }
        self.sweep_drop(&Refusal::Fenced);
        self.guest_fail_all(Failure::Fenced);
        self.set_gate(Gate::Closed(GateReason::Fenced));
    }

    pub(super) fn set_gate(&mut self, gate: Gate) {
        if self.own.gate != Some(gate) {
            self.own.gate = Some(gate);
            self.out.push(Effect::Gate(gate));
        }
    }

    // --- the store, as guests feel it ---

    /// The store gave an answer that means something.
    pub(crate) fn store_answered(&mut self) {
        let away_since = self.own.away_since.take();
        self.own.busy_since = None;
        if away_since.is_some_and(|since| since + OUTAGE <= self.now) {
            // What failed a moment ago keeps its backoff: one bad object must not be asked for in a ring.
            self.hydrate.hurry();
            let hashes: Vec<Hash> = self.own.leaf_retries.drain(..).map(|(_, h)| h).collect();
            hashes.into_iter().for_each(|hash| self.leaf_retry(hash));
            self.hydrate_pump();
        }
        if self.own.gate == Some(Gate::Closed(GateReason::StoreAway))
            && self.own.phase == Phase::Serving
        {
            mark!("gate-opens-again");
            self.set_gate(Gate::Open);
        }
    }

    pub(crate) fn store_failed(&mut self, outcome: &Outcome<P>) {
        if let Outcome::Store(error) = outcome {
            self.own.away_since.get_or_insert(self.now);
            self.tell_store_away(*error);
        }
    }

    pub(super) fn store_heard(&mut self, outcome: &Outcome<P>) {
        match outcome {
            Outcome::Store(
                StoreError::Unavailable
                | StoreError::Unknown
                | StoreError::Denied
                | StoreError::Full,
            ) => {
                self.store_failed(outcome);
            }
            _ => self.store_answered(),
        }
    }

    /// A guest was answered BUSY: after `close_after` of that its sessions end, so that its own time-outs govern.
    pub(in crate::volume) fn answered_busy(&mut self) {
        let since = *self.own.busy_since.get_or_insert(self.now);
        if since + self.limits.close_after <= self.now && self.own.phase == Phase::Serving {
            mark!("gate-closes-for-the-store");
            self.set_gate(Gate::Closed(GateReason::StoreAway));
            self.own.watch_at = Some(self.now);
        }
    }
}
