//! Who holds the volume: opening, attaching, watching, being fenced, being born, giving up; and the gate for guests.
//!
//! Shape      opening → blank | local → serving (attached, or to be attached before the first upload) → fenced | detached.
//! Invariant  nothing is uploaded without an attachment of this process; a fenced holder answers nothing.
//! Not here   the steps of an attach (`attach`), what is recovered (`recover`), what is published (`publish`).

mod adopt;
mod attempt;
mod birth;
mod inspect;
mod open;
mod own;
mod waits;
mod watch;
mod wishes;

use crate::attach::{Attach, How, Inspect, Join, Opened};
use crate::command::{BirthSpec, Refusal, Verdict, Wish};
use crate::effect::{Gate, Meta, Outcome, StoreError, StoreRequest};
use crate::ids::{AttachId, FileId, Hash, Seq, Version, WishId};
use crate::payload::Payload;
use crate::publish::Want;
use crate::time::{Duration, Instant, WallTime};
use crate::volume::{After, Pending, Volume};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

/// The attribute that sets the checkpoint interval, in seconds as decimal digits.
const CHECKPOINT_INTERVAL_ATTRIBUTE: &str = "checkpoint-interval";

/// A store without a good answer for so long was away; less is a hiccup.
const OUTAGE: Duration = Duration::from_secs(1);

/// What an outcome of ours belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    /// A restart's question about the next door.
    RestartLook,
    Watch {
        began: Instant,
    },
    Attach {
        number: u64,
        slot: u32,
    },
    Inspect {
        number: u64,
        slot: u32,
    },
    Container,
    UnbornContainer,
    /// Whether an interrupted erasing had come as far as `volume`.
    HalfErased,
    Superblock,
    SnapshotRoot {
        wish: WishId,
    },
}

/// What the volume is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Reading what the local disk holds.
    Opening,
    /// Nothing is here.
    Blank,
    /// The journal is replayed; not served.
    Local,
    /// A restart asks whether the next door is shut.
    Checking,
    /// Becoming the writer; guests wait.
    Attaching,
    /// Being born.
    Birth,
    Serving,
    /// One committed version, read only.
    Reader,
    /// Another host has the volume.
    Fenced,
    /// Giving the volume up: no guest command is answered from the intent note on.
    Detaching,
    Detached,
    /// The local state cannot be used.
    Broken,
}

/// An attach under way.
#[derive(Debug)]
struct Attempt {
    number: u64,
    machine: Box<Attach>,
    wish: Option<WishId>,
}

/// An inspection under way.
#[derive(Debug)]
struct Inspecting {
    number: u64,
    machine: Box<Inspect>,
    wish: WishId,
    /// `Some`: to read this version then (`None` inside: the newest).
    reader: Option<Option<String>>,
}

/// The state of holding a volume.
#[derive(Debug)]
pub(crate) struct Own<P> {
    phase: Phase,
    why_broken: &'static str,
    attach: Option<AttachId>,
    first_version: Version,
    wishes: VecDeque<(WishId, Wish<P>)>,
    attempt: Option<Attempt>,
    /// An attach of this process has shut a door: what a watch finds there says nothing any more.
    shut: bool,
    opened: Option<Box<(Opened, Option<WishId>)>>,
    inspecting: Option<Inspecting>,
    numbers: u64,
    random: u64,
    open_wish: Option<WishId>,
    birth: Option<(WishId, BirthSpec)>,
    /// When the volume's birth began: a birth that is tried again says the same.
    born_at: Option<WallTime>,
    /// Files found without a note.
    pub(super) orphans: Vec<FileId>,
    sessions: u32,
    watching: bool,
    /// A publish misses what the table names, and no look has found the volume ours since.
    missing: bool,
    /// Logins that wait for the watch that is under way.
    lookers: Vec<WishId>,
    watch_at: Option<Instant>,
    last_good: Instant,
    attach_retry_at: Option<Instant>,
    gate: Option<Gate>,
    away_since: Option<Instant>,
    /// When the operator was last told what the store makes wait.
    told_waiting_at: Option<Instant>,
    busy_since: Option<Instant>,
    leaf_retries: Vec<(Instant, Hash)>,
    retry_at: Option<Instant>,
    flush_store: bool,
    checkpoint_interval: Option<Duration>,
    attribute_log: Vec<(Seq, String, Option<Vec<u8>>)>,
    superseded: Vec<Hash>,
    taken_over: Option<Box<Opened>>,
    detach_wish: Option<WishId>,
    intent_noted: bool,
    emergency: bool,
    set_aside: bool,
    /// Waits until the journal rests.
    joining: Option<Join>,
}

impl<P: Payload> Volume<P> {
    /// Whether guests are answered now.
    pub(crate) fn is_serving(&self) -> bool {
        match self.own.phase {
            Phase::Reader => true,
            Phase::Serving => !self.is_unwatched(),
            _ => false,
        }
    }

    /// Whether another host may have the volume by now, for all that is known here: nothing is answered well until an attach
    /// has told.
    pub(super) fn is_in_doubt(&self) -> bool {
        match self.own.phase {
            Phase::Reader => false,
            Phase::Serving | Phase::Detaching => self.is_unwatched(),
            _ => true,
        }
    }

    /// Once its own attach has shut a door, a restarted host can no longer watch: it answers for a while only.
    fn is_unwatched(&self) -> bool {
        self.own.shut && self.now > self.own.last_good + self.limits.attach_grace
    }

    /// Goes on with what waited; whether anything was done.
    pub(super) fn life_step(&mut self) -> bool {
        if self.own.phase != Phase::Opening
            && let Some((id, wish)) = self.own.wishes.pop_front()
        {
            self.wish(id, wish);
            return true;
        }
        self.join_step() | self.attach_poll() | self.inspect_poll() | self.detach_step()
    }

    pub(super) fn life_noted(&mut self, after: After) {
        let now = self.now;
        match after {
            After::Drawn => {
                if let Some(attempt) = &mut self.own.attempt {
                    attempt.machine.recorded(now);
                } else if let Some((_, spec)) = &self.own.birth {
                    debug_assert!(spec.geometry.is_valid(), "checked at the wish");
                    self.out.store(
                        Pending::Life(Op::Container),
                        StoreRequest::CreateContainer(self.container.clone()),
                    );
                }
            }
            After::Joined => {
                if let Some(attempt) = &mut self.own.attempt {
                    attempt.machine.joined(now);
                }
            }
            After::Named => self.attached(),
            After::Intent => {
                if self.own.phase == Phase::Detaching {
                    let wish = self.own.detach_wish.take();
                    self.cut(None, true, wish.map(Want::Detached));
                }
            }
            After::Recovered | After::Committed { .. } | After::Erase | After::Emergency => {}
        }
    }

    pub(super) fn life_done(&mut self, op: Op, outcome: Outcome<P>) {
        let now = self.now;
        match op {
            Op::RestartLook => self.restart_looked(&outcome),
            Op::Watch { began } => self.watched(began, &outcome),
            Op::Attach { number, slot } => {
                self.store_heard(&outcome);
                if let Some(attempt) = self
                    .own
                    .attempt
                    .as_mut()
                    .filter(|attempt| attempt.number == number)
                {
                    attempt.machine.handle(now, slot, outcome);
                    self.tell_what_is_waited_for();
                }
            }
            Op::Inspect { number, slot } => {
                if self
                    .own
                    .inspecting
                    .as_ref()
                    .is_some_and(|inspecting| inspecting.number == number)
                {
                    self.inspected(slot, outcome);
                    self.tell_what_is_waited_for();
                }
            }
            Op::Container => match outcome {
                Outcome::Done => self.put_superblock(),
                other => self.birth_failed("the container", &other),
            },
            Op::HalfErased => match outcome {
                Outcome::Store(StoreError::Absent) => {
                    self.own.erased();
                    if let Some(wish) = self.own.open_wish.take() {
                        self.told(wish, Verdict::Erased);
                    }
                }
                Outcome::Exists => self.finish_unborn(&Outcome::Done),
                other => self.finish_unborn(&other),
            },
            Op::UnbornContainer => self.finish_unborn(&outcome),
            Op::Superblock => match outcome {
                Outcome::Put(_) => {
                    let spec = self.attach_spec();
                    self.start_attempt(Attach::birth(spec, None), None);
                }
                other => self.birth_failed("volume", &other),
            },
            Op::SnapshotRoot { wish } => match outcome {
                Outcome::Meta(Meta::Root(root), hash) => self.read_root(wish, root, hash),
                Outcome::Store(error) => {
                    let object = String::from("the snapshot's root");
                    self.told(wish, Verdict::Refused(Refusal::Store { object, error }));
                }
                _ => self.told(wish, Verdict::Refused(Refusal::NoSuchSnapshot)),
            },
        }
    }

    pub(super) fn life_timeout(&mut self) {
        let now = self.now;
        if self.own.watch_at.is_some_and(|at| at <= now) {
            self.own.watch_at = None;
            self.watch();
        }
        let due: Vec<Hash> = self
            .own
            .leaf_retries
            .extract_if(.., |(at, _)| *at <= now)
            .map(|(_, hash)| hash)
            .collect();
        due.into_iter().for_each(|hash| self.leaf_retry(hash));
        if self.own.attach_retry_at.take_if(|at| *at <= now).is_some() && self.own.attach.is_none()
        {
            self.begin_attach(None, How::default());
        }
        self.own.retry_at = self.checkpoint_due().filter(|at| *at > now);
    }
}
