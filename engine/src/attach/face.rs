//! What an attach is given, what it asks, and how it ends.

use super::RootFound;
use crate::command::{Held, Refusal};
use crate::effect::{StoreError, StoreRequest, Token};
use crate::ids::{AttachId, Container, Generation};
use crate::limits::{Life, Limits};
use crate::object::names::RootName;
use crate::table::types::Superblock;
use crate::time::{Duration, Instant};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The attribute that says what a flush waits for.
pub const FLUSH_ATTRIBUTE: &str = "flush";

/// Its value when a flush waits for the store, so that nothing flushed is ever only here.
pub const FLUSH_STORE: &[u8] = b"store";

/// Who attaches to what.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The volume.
    pub container: Container,
    /// Host, state directory and wall time.
    pub life: Life,
    /// Fresh randomness: every attempt's nonce and the waits are drawn from it. No two machines may have the same.
    pub seed: u64,
    /// Every attach id that this state directory drew for the volume.
    pub drawn: Vec<AttachId>,
    /// The attach ids that the journal's records belong to.
    pub joined: Vec<AttachId>,
    /// What is known to be in the store.
    pub hint: Hint,
    /// Deadline of one request to the store.
    pub store_deadline: Duration,
    /// Step 6 reads the claim a second time after so long.
    pub absence_gap: Duration,
    /// The longest random wait after a lost race.
    pub backoff_max: Duration,
    /// The longest time from step 1 to the end of step 7; then the attempt starts over. Shorter than the grace of
    /// deletes: what step 1 found is a floor for step 7, and nothing that its root reaches may go in between, even when
    /// the store lies about what came after it (found by the protocol model, configuration `liar`).
    pub attempt_max: Duration,
}

impl Spec {
    /// Who attaches to what, with nothing known of the past.
    pub fn new(container: Container, life: &Life, limits: &Limits, seed: u64) -> Self {
        Self {
            container,
            life: life.clone(),
            seed,
            drawn: Vec::new(),
            joined: Vec::new(),
            hint: Hint::default(),
            store_deadline: limits.store_deadline,
            absence_gap: limits.absence_gap,
            backoff_max: limits.claim_backoff,
            attempt_max: limits.delete_grace / 2,
        }
    }
}

/// What is known to be in the store: a floor for the search, and where it begins. A guess has no place here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hint {
    /// A generation whose opened is confirmed, or was read.
    pub held: Option<Generation>,
    /// A claim that exists; 0 for none.
    pub claim: Generation,
    /// A root of the history that was confirmed, or was read.
    pub root: Option<RootName>,
}

impl Hint {
    /// The highest generation known to be opened; 0 for none.
    pub(super) fn floor(&self) -> Generation {
        let root = self
            .root
            .map_or(Generation(0), |root| root.attach.generation);
        self.held.unwrap_or_default().max(root)
    }
}

/// What an attach may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct How {
    /// Take the volume from the holder that is found first. A later one is not meant: it won the same race.
    pub take_over: bool,
    /// What that holder did not publish may be lost.
    pub accept_loss: bool,
    /// Also attach to a container whose volume is not born, is being deleted, or has no superblock: to finish that.
    pub finish: bool,
    /// Give up then. `None`: go on for as long as it takes.
    pub deadline: Option<Instant>,
}

/// What the machine wants next.
#[derive(Clone, Debug)]
pub enum Ask<P> {
    /// Ask the store; the outcome goes to [`super::Attach::handle`] with the slot.
    Store {
        /// Names the request.
        slot: u32,
        /// What.
        request: StoreRequest<P>,
    },
    /// Add this id to the drawn ones, durably, then call [`super::Attach::recorded`].
    Record(AttachId),
    /// Decide durably what the journal belongs to, then call [`super::Attach::joined`].
    Join(Join),
    /// It is over.
    End(Box<End>),
}

/// The decision before step 8 about the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Join {
    /// This attempt.
    pub attach: AttachId,
    /// The attachment whose history goes on: the highest opened below. `None`: there is none.
    pub below: Option<AttachId>,
    /// The journal is part of that history: add `attach` to the joined ids and replay it over the base. Else close it
    /// (all stored: drop; if not: set aside) and begin the joined ids with `attach`.
    pub keep: bool,
    /// The base that the attachment will go on from.
    pub base: Option<RootName>,
}

/// How it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// The volume is ours.
    Opened(Opened),
    /// Somebody else holds it; nothing of theirs was changed.
    Held(Held),
    /// It cannot be.
    Refused(Refusal),
}

/// An attachment won, and looked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// Ours.
    pub attach: AttachId,
    /// What we stored as `opened/<G>`.
    pub token: Token,
    /// The root that the history goes on from. `None`: the volume is not born yet.
    pub base: Option<RootFound>,
    /// The attachment before ours.
    pub below: Option<Token>,
    /// That attachment had not detached and was not ours: what it did not publish is lost.
    pub took_over: bool,
    /// The superblock. `None` only when [`How::finish`] let us in.
    pub superblock: Option<Arc<Superblock>>,
    /// When our door was confirmed (strict mode counts from here).
    pub door_at: Instant,
}

/// What a machine waits for, when it waits for the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// The object asked for.
    pub object: String,
    /// What the store last answered.
    pub error: StoreError,
    /// Since when.
    pub since: Instant,
}

/// The newest root that an attachment's history has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// It; `None`: unborn.
    pub newest: Option<RootFound>,
    /// Whether the attachment wrote it itself, or went on from it.
    pub is_own: bool,
}
