//! Look, watch and inspection: small questions about who holds the volume.
//!
//! Look     after a root's PUT, before an answer or a delete: the next door is open and the opened is ours.
//! Watch    while serving: one ask about the next door; its caller asks again, so no answer is an answer.
//! Inspect  what the store says of the volume, read only.

use super::desk::{Desk, RootFound};
use super::{Hint, Waiting, find, refusal};
use crate::command::{Inspection, Refusal};
use crate::effect::{Absence, Expect, GetRequest, Outcome, StoreError, StoreRequest};
use crate::ids::{AttachId, Container, Generation};
use crate::object::names::ObjectName;
use crate::time::{Duration, Instant};

/// Whether the attachment is (still) the highest: the door above it is open, and its opened bears its nonce.
pub(super) fn is_ours(desk: &mut Desk, own: AttachId, twice: bool) -> Option<bool> {
    let g = own.generation;
    let door = desk.exists(ObjectName::Door(Generation(g.0.saturating_add(1))), twice);
    let opened = desk.token(ObjectName::Opened(g), 0);
    if door == Some(true) && !bug!("look-sees-no-door") {
        return Some(false);
    }
    let (_, opened) = (door?, opened?);
    Some(opened.is_some_and(|token| token.attach == own))
}

/// What a look found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LookVerdict {
    /// The history is still ours.
    Good,
    /// The next door is shut, or another's opened stands in our place.
    Fenced,
    /// The store refused to say.
    Refused(Refusal),
}

/// One look, asked until the store answers.
#[derive(Clone, Debug)]
pub struct Look {
    desk: Desk,
    own: AttachId,
    twice: bool,
}

impl Look {
    /// A look for the attachment `own`. `twice`: before a delete, where absence is asked twice.
    pub fn new(container: Container, own: AttachId, store_deadline: Duration, twice: bool) -> Self {
        Self {
            desk: Desk::new(container, store_deadline, twice),
            own,
            twice,
        }
    }

    /// The next request to send, with its slot.
    pub fn poll<P>(&mut self, now: Instant) -> Option<(u32, StoreRequest<P>)> {
        self.desk.tick(now);
        if self.desk.failed().is_none() {
            let _ = is_ours(&mut self.desk, self.own, self.twice);
        }
        self.desk.poll()
    }

    /// What came of a request; a verdict ends the look.
    pub fn handle<P>(&mut self, now: Instant, slot: u32, o: Outcome<P>) -> Option<LookVerdict> {
        self.desk.tick(now);
        self.desk.handle(slot, o);
        if let Some((name, error)) = self.desk.failed() {
            return Some(LookVerdict::Refused(refusal(name, error)));
        }
        match is_ours(&mut self.desk, self.own, self.twice)? {
            true => Some(LookVerdict::Good),
            false => Some(LookVerdict::Fenced),
        }
    }

    /// When [`Look::poll`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.desk.poll_timeout()
    }

    /// What is waited for, if the store does not answer.
    pub const fn waiting(&self) -> Option<&Waiting> {
        self.desk.waiting()
    }
}

/// What one ask about the next door said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Watched {
    /// Open: the volume is still ours, as of the ask's start.
    Good,
    /// Shut: fenced.
    Shut,
    /// No answer, which says nothing.
    Silent,
}

/// One ask whether the door above `held` is shut; [`watch_verdict`] reads its outcome.
pub const fn watch_request<P>(
    container: Container,
    held: Generation,
    deadline: Duration,
) -> StoreRequest<P> {
    StoreRequest::Get(GetRequest {
        container,
        name: ObjectName::Door(Generation(held.0.saturating_add(1))),
        range: None,
        absence: Absence::Once,
        deadline,
        expect: Expect::Exists,
    })
}

/// Reads the outcome of a [`watch_request`].
pub const fn watch_verdict<P>(outcome: &Outcome<P>) -> Watched {
    match outcome {
        Outcome::Exists => Watched::Shut,
        Outcome::Store(StoreError::Absent) => Watched::Good,
        _ => Watched::Silent,
    }
}

/// An inspection: the superblock, the highest opened and the newest root, as the store says. Writes nothing.
#[derive(Clone, Debug)]
pub struct Inspect {
    desk: Desk,
    hint: Hint,
    told: bool,
}

impl Inspect {
    /// An inspection that begins at what is known. `quick`: absence is asked once (for lists; a verdict that something
    /// is *not* there, and the newest root, may then be late).
    pub fn new(container: Container, hint: Hint, store_deadline: Duration, quick: bool) -> Self {
        Self {
            desk: Desk::new(container, store_deadline, !quick),
            hint,
            told: false,
        }
    }

    /// The next request to send, with its slot.
    pub fn poll<P>(&mut self, now: Instant) -> Option<(u32, StoreRequest<P>)> {
        self.desk.tick(now);
        if !self.told && self.desk.failed().is_none() && !self.desk.is_paused() {
            let _ = find::survey(&mut self.desk, &mut self.hint, false);
        }
        self.desk.poll()
    }

    /// What came of a request; a verdict ends the inspection.
    pub fn handle<P>(&mut self, now: Instant, slot: u32, o: Outcome<P>) -> Option<Inspected> {
        self.desk.tick(now);
        self.desk.handle(slot, o);
        if self.told || self.desk.is_paused() {
            return None;
        }
        let survey = match self.desk.failed() {
            None => find::survey(&mut self.desk, &mut self.hint, false),
            Some((name, error)) => {
                self.told = true;
                return Some(Err(refusal(name, error)));
            }
        };
        if let Some((name, error)) = self.desk.failed() {
            self.told = true;
            return Some(Err(refusal(name, error)));
        }
        let survey = survey?;
        self.told = true;
        self.desk.begin();
        let newest = survey.found.newest;
        let inspection = Inspection {
            superblock: survey.superblock.map(|s| (*s).clone()),
            opened: survey.opened.map(|o| (o.attach.generation, o.holder)),
            root: newest.as_ref().map(|newest| newest.root.clone()),
        };
        Some(Ok((inspection, newest)))
    }

    /// When [`Inspect::poll`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.desk.poll_timeout()
    }

    /// What is waited for, if the store does not answer.
    pub const fn waiting(&self) -> Option<&Waiting> {
        self.desk.waiting()
    }
}

/// An inspection's end: what the store says, with the newest root and its hash; or why it does not say.
pub type Inspected = Result<(Inspection, Option<RootFound>), Refusal>;
