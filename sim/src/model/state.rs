//! One state of the model: the store, the hosts, and what is remembered to judge it by.

use super::rules::Rules;
use super::store::{ATTEMPTS, HOSTS, NONE, ORDINALS, Put, Store};

/// Roots of a run.
const ROOTS: usize = ATTEMPTS * ORDINALS as usize;

/// What a root says: kind detached.
pub(super) const DETACHED: u8 = 1;
/// What a root says: it lists the snapshot.
pub(super) const SNAPSHOT: u8 = 2;
/// What a root says: it pins the snapshot for the clone.
pub(super) const PIN: u8 = 4;

/// Where a host stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum At {
    /// Not attached; may begin an attempt.
    #[default]
    Outside,
    /// Step 3: the door of this burnt number is under way.
    Shutting(u8),
    /// Step 3: the claim is under way.
    Claiming,
    /// Step 4.
    FirstLook,
    /// Step 5: the own door is under way.
    Door,
    /// Step 6.
    ReadBack,
    /// Step 7: whether this number was opened.
    Below(u8),
    /// Step 7, search: the multiple of the stride (2).
    Multiple,
    /// Step 7, search: the ordinal above the multiple (3).
    Third,
    /// Step 7, search: the first ordinal.
    First,
    /// Step 7: the attachment has no root; its base is read.
    Base,
    /// Step 7: the base is under way again.
    Again,
    /// Step 8: the opened is under way.
    Opening,
    /// Step 9.
    LastLook,
    /// Holds the volume as far as it knows; may publish and delete.
    Serving,
    /// A look that comes before the root (wrong).
    EarlyLook,
    /// A root is under way.
    Publishing,
    /// The look after a root.
    Looking,
    /// The look before a delete.
    DeleteLook,
    /// A delete is under way.
    Deleting,
    /// The clone's superblock is under way.
    ChildVolume,
    /// The clone's born root is under way.
    ChildBorn,
    /// Gave up, detached or was fenced.
    Over,
}

impl At {
    /// Between step 1 and the end of step 7.
    pub(super) const fn is_attempt(self) -> bool {
        matches!(
            self,
            Self::Shutting(_)
                | Self::Claiming
                | Self::FirstLook
                | Self::Door
                | Self::ReadBack
                | Self::Below(_)
                | Self::Multiple
                | Self::Third
                | Self::First
                | Self::Base
        )
    }
}

/// What a publish is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum Aim {
    /// To publish.
    #[default]
    Plain,
    /// To detach.
    Detach,
    /// To delete the snapshot.
    Drop,
    /// To pin the snapshot for the clone.
    Pin,
    /// To drop the pin of a clone that is gone.
    Unpin,
}

/// A host.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Host {
    pub(super) at: At,
    /// Its attempt under way, or its attachment.
    pub(super) attempt: u8,
    /// The attempt whose opened it follows.
    pub(super) below: u8,
    /// The highest claim that it saw.
    pub(super) top: u8,
    /// The ordinal of the newest root of `below` that step 1 found: what is known to exist is a floor for step 7.
    pub(super) floor: u8,
    /// The newest root that it found, or confirmed.
    pub(super) root: u8,
    /// The root before that, as long as it may be deleted.
    pub(super) old: u8,
    /// Hosts whose attempt had begun when `root` was answered: the grace of a delete outlasts them.
    pub(super) grace: u8,
    pub(super) aim: Aim,
    pub(super) tries: u8,
    pub(super) crashes: u8,
    pub(super) publishes: u8,
    /// Guests are answered.
    pub(super) serves: bool,
    /// The clone's superblock is confirmed.
    pub(super) child: bool,
}

/// An attempt to attach that claimed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Attempt {
    pub(super) host: u8,
    pub(super) generation: u8,
    /// The root that it goes on from.
    pub(super) base: u8,
    /// The attempt whose opened it found in step 7.
    pub(super) follows: u8,
}

/// A state.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct State {
    pub(super) store: Store,
    pub(super) hosts: [Host; HOSTS],
    pub(super) attempts: [Attempt; ATTEMPTS],
    pub(super) attempt_count: u8,
    /// What each root says.
    pub(super) says: [u8; ROOTS],
    /// Lies told.
    pub(super) lies: u8,

    // What the invariants ask for: none of it steers a host.
    /// Roots that were answered for: stored, and looked.
    pub(super) answered: u32,
    /// Roots on whose word something was deleted.
    pub(super) words: u32,
    /// Attempts that sent their opened.
    pub(super) winners: u8,
    /// Attempts that passed step 9.
    pub(super) served: u8,
    /// The snapshot's data was deleted.
    pub(super) data_deleted: bool,
    /// The clone's born root, which reaches that data, was sent.
    pub(super) child_born: bool,
}

impl State {
    /// Host 0 holds generation 1 and has published its first root, which lists a snapshot.
    pub(super) fn first(rules: &Rules) -> Self {
        let mut hosts = rules.hosts.map(|part| Host {
            at: if part.tries > 0 {
                At::Outside
            } else {
                At::Over
            },
            attempt: NONE,
            below: NONE,
            top: 0,
            floor: 0,
            root: NONE,
            old: NONE,
            grace: 0,
            aim: Aim::Plain,
            tries: part.tries,
            crashes: part.crashes,
            publishes: part.publishes,
            serves: false,
            child: false,
        });
        hosts[0].at = At::Serving;
        hosts[0].attempt = 0;
        hosts[0].root = 0;
        hosts[0].serves = true;
        let mut attempts = [Attempt::default(); ATTEMPTS];
        attempts[0] = Attempt {
            host: 0,
            generation: 1,
            base: NONE,
            follows: NONE,
        };
        let mut says = [0; ROOTS];
        says[0] = SNAPSHOT;
        Self {
            store: Store::born(),
            hosts,
            attempts,
            attempt_count: 1,
            says,
            lies: 0,
            answered: 1,
            words: 0,
            winners: 1,
            served: 1,
            data_deleted: false,
            child_born: false,
        }
    }

    /// The attempt that a root belongs to.
    pub(super) fn writer(root: u8) -> u8 {
        root / ORDINALS
    }

    /// The attempt's root of this ordinal (1 …).
    pub(super) fn root_of(attempt: u8, ordinal: u8) -> u8 {
        attempt * ORDINALS + ordinal - 1
    }

    /// The ordinal of a root within its attempt.
    pub(super) fn ordinal(root: u8) -> u8 {
        root % ORDINALS + 1
    }

    /// The generation of an attempt.
    pub(super) fn generation(&self, attempt: u8) -> u8 {
        self.attempts[usize::from(attempt)].generation
    }

    /// The root before a root in its history, if any.
    pub(super) fn parent(&self, root: u8) -> Option<u8> {
        let parent = match Self::ordinal(root) {
            1 => self.attempts[usize::from(Self::writer(root))].base,
            _ => root - 1,
        };
        (parent != NONE).then_some(parent)
    }

    /// Whether `root` is in the history that ends with `end`.
    pub(super) fn is_in_history(&self, root: u8, end: u8) -> bool {
        let mut at = (end != NONE).then_some(end);
        while let Some(here) = at {
            if here == root {
                return true;
            }
            at = self.parent(here);
        }
        false
    }

    /// Starts a host's PUT.
    pub(super) fn put(&mut self, host: usize, put: Put) {
        self.store.begin(host, put);
    }
}
