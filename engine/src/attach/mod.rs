//! The attach machine: who writes the volume, decided in the store without compare-and-swap.
//!
//! ```text
//!  1,2 survey, judge ─► 3 doors o+1…g ─► [record id] ─► 3 claim G, once ─► 4 door G absent? ─► 5 shut door G
//!        ▲                                                │                  │                      │
//!        └───── lost: 0.2–2 s ◄───────────────────────────┴──────────────────┴─────────◄── 6 claim G still ours?
//!                  ▲                                                                                │
//!                  └── 9 look ◄── 8 opened G ◄── [join] ◄── 7 base: highest opened below G, its newest root, PUT again
//! ```
//!
//! Shape      requests to the store out, outcomes in; what must be durable here first is asked of the caller.
//! Invariant  each step asks afresh: what step 7 reads was asked after the door of step 5 was confirmed, so a root that
//!            the old holder answered for (stored, *then* looked at that door) is found.
//! Not here   the bytes of tokens and roots, retries below a request (the store's), what is served meanwhile (`volume`).
//! Crash      at any arrow: a burnt number at most, or an opened of ours, which the next attempt finds to be ours.
//! Source     Lamport's and Moir–Anderson's splitter over the names `doors/<g>` and `claims/<g>`.

mod desk;
mod face;
mod find;
mod judge;
mod look;
#[cfg(test)]
mod tests;

pub use desk::RootFound;
pub use face::{
    Ask, End, FLUSH_ATTRIBUTE, FLUSH_STORE, Found, Hint, How, Join, Opened, Spec, Waiting,
};
pub use find::{ROOT_STRIDE, first_version, ordinal_of, root_name};
pub use look::{Inspect, Inspected, Look, LookVerdict, Watched, watch_request, watch_verdict};

use crate::command::Refusal;
use crate::effect::{Outcome, StoreError, Token};
use crate::ids::{AttachId, Generation, Holder};
use crate::limits::Life;
use crate::object::names::ObjectName;
use crate::table::types::Superblock;
use crate::time::{Duration, Instant, WallTime};
use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use desk::Desk;

/// The shortest wait after a lost race.
const BACKOFF_MIN: Duration = Duration::from_millis(200);

/// Where the attempt stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// Steps 1, 2 and 2b: nothing is written. Ends with a free generation or a refusal.
    Judge,
    /// Step 3: the doors of numbers that were claimed and not opened.
    Shut,
    /// The id is being recorded by the caller; `true` once it was asked.
    Record(bool),
    /// Step 3: the claim is on its way, once.
    Claim,
    /// Step 4.
    FirstLook,
    /// Step 5.
    Door,
    /// Step 6, first reading.
    ReadBack,
    /// Step 6, between the readings.
    Gap(Instant),
    /// Step 6, second reading.
    ReadAgain,
    /// Step 7: the base, behind the door.
    Base,
    /// The journal's fate is being recorded by the caller; `true` once it was asked.
    Join(bool),
    /// Step 8.
    Open,
    /// Step 9.
    Look,
    /// A race was lost; back to step 1 then.
    Lost(Instant),
    /// Over; `true` once it was told.
    Over(bool),
}

/// One attach, from the first question to the verdict; a lost race starts it over.
///
/// Drain [`Attach::poll`] until `None` after every call, and call it again at [`Attach::poll_timeout`].
#[derive(Clone, Debug)]
pub struct Attach {
    spec: Spec,
    how: How,
    desk: Desk,
    step: Step,
    random: u64,
    birth: bool,
    /// The first attachment judged: the only one that `take_over` speaks of.
    meant: Option<Option<AttachId>>,
    superblock: Option<Arc<Superblock>>,
    /// The highest claim of step 1.
    highest: Generation,
    /// What step 2 judged free: the attachment to follow.
    below: Option<Token>,
    took_over: bool,
    /// The newest root that step 1 read.
    read: Option<RootFound>,
    /// This attempt's claim.
    token: Token,
    /// When step 1 began.
    began: Option<Instant>,
    door_at: Instant,
    base: Option<RootFound>,
    end: Option<Box<End>>,
    lost: u32,
    found_shut: bool,
}

impl Attach {
    /// Attach to a volume that exists.
    pub fn new(spec: Spec, how: How) -> Self {
        Self::begin(spec, how, false)
    }

    /// Open generation 1 of a container that this very attempt has created and given a superblock: nothing is asked
    /// twice and nothing is read before the claim. A lost race is final: somebody abandons the volume.
    pub fn birth(spec: Spec, deadline: Option<Instant>) -> Self {
        let how = How {
            deadline,
            ..How::default()
        };
        Self::begin(spec, how, true)
    }

    fn begin(spec: Spec, how: How, birth: bool) -> Self {
        let desk = Desk::new(spec.container.clone(), spec.store_deadline, !birth);
        let mut machine = Self {
            random: spec.seed,
            desk,
            spec,
            how,
            step: Step::Judge,
            birth,
            meant: None,
            superblock: None,
            highest: Generation(0),
            below: None,
            took_over: false,
            read: None,
            token: Token {
                attach: AttachId::default(),
                holder: Holder::default(),
                base: None,
            },
            began: None,
            door_at: Instant(0),
            base: None,
            end: None,
            lost: 0,
            found_shut: false,
        };
        if birth {
            machine.draw(Instant(0));
            machine.step = Step::Record(false);
        }
        machine
    }

    /// What to do next; `None`: wait for an outcome, or for [`Attach::poll_timeout`].
    pub fn poll<P>(&mut self, now: Instant) -> Option<Ask<P>> {
        self.run(now);
        if let Some((slot, request)) = self.desk.poll() {
            return Some(Ask::Store { slot, request });
        }
        match &mut self.step {
            Step::Record(asked @ false) => {
                *asked = true;
                // Drawn earlier than asked for when it is a birth: the time that people see is this one.
                self.token.holder.since = wall(&self.spec.life, now);
                Some(Ask::Record(self.token.attach))
            }
            Step::Join(asked @ false) => {
                *asked = true;
                Some(Ask::Join(self.join()))
            }
            Step::Over(told @ false) => {
                *told = true;
                self.end.take().map(Ask::End)
            }
            _ => None,
        }
    }

    /// What came of a request. Outcomes of abandoned requests change nothing.
    pub fn handle<P>(&mut self, now: Instant, slot: u32, outcome: Outcome<P>) {
        self.desk.tick(now);
        self.desk.handle(slot, outcome);
        self.run(now);
    }

    /// The drawn id is durable.
    pub fn recorded(&mut self, now: Instant) {
        if self.step == Step::Record(true) {
            self.spec.drawn.push(self.token.attach);
            self.enter(Step::Claim);
        }
        self.run(now);
    }

    /// The journal's fate is durable.
    pub fn joined(&mut self, now: Instant) {
        if self.step == Step::Join(true) {
            let join = self.join();
            if !join.keep {
                self.spec.joined.clear();
            }
            self.spec.joined.push(join.attach);
            self.enter(Step::Open);
        }
        self.run(now);
    }

    /// When [`Attach::poll`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = match self.step {
            Step::Gap(at) | Step::Lost(at) => Some(at),
            Step::Over(_) => return None,
            _ => None,
        };
        let all = [own, self.desk.poll_timeout(), self.how.deadline];
        all.into_iter().flatten().min()
    }

    /// What is waited for, if the store does not answer or contradicts itself.
    pub const fn waiting(&self) -> Option<&Waiting> {
        self.desk.waiting()
    }

    /// The superblock, once step 1 has read it.
    pub const fn superblock(&self) -> Option<&Arc<Superblock>> {
        self.superblock.as_ref()
    }

    /// Races lost so far.
    pub const fn lost(&self) -> u32 {
        self.lost
    }

    /// Whether step 4 has found a door shut that this attempt did not shut: whoever shut it has shut all below, too.
    pub const fn found_shut(&self) -> bool {
        self.found_shut
    }

    fn join(&self) -> Join {
        let below = self.below.as_ref().map(|token| token.attach);
        Join {
            attach: self.token.attach,
            below,
            keep: below.map_or(self.spec.joined.is_empty(), |id| {
                self.spec.joined.contains(&id)
            }),
            base: self.base.as_ref().map(|base| base.root.name),
        }
    }

    fn run(&mut self, now: Instant) {
        self.desk.tick(now);
        while !matches!(self.step, Step::Over(_)) && self.advance(now).is_some() {
            if let Some((name, error)) = self.desk.failed() {
                self.over(End::Refused(refusal(name, error)));
            }
        }
        if let (Some((name, error)), false) = (self.desk.failed(), self.is_over()) {
            self.over(End::Refused(refusal(name, error)));
        }
        if self.how.deadline.is_some_and(|at| at <= now) && !self.is_over() {
            self.give_up();
        }
    }

    const fn is_over(&self) -> bool {
        matches!(self.step, Step::Over(_))
    }

    /// One step further, if its answers are there.
    fn advance(&mut self, now: Instant) -> Option<()> {
        if self.desk.is_paused() {
            if self.step == Step::Judge {
                self.began = None;
            }
            return None;
        }
        let g = self.token.attach.generation;
        match self.step {
            Step::Judge => {
                self.began.get_or_insert(now);
                let survey = find::survey(&mut self.desk, &mut self.spec.hint, self.how.finish)?;
                self.judge(survey);
            }
            Step::Shut => {
                let first = self.below.as_ref().map_or(0, |o| o.attach.generation.0) + 1;
                if first <= self.highest.0 {
                    mark!("skipped-doors-shut");
                }
                let doors = first..=self.highest.0 * u64::from(!bug!("doors-stay-open"));
                let shut: Vec<_> = doors.map(|n| self.desk.shut(Generation(n))).collect();
                shut.into_iter().collect::<Option<()>>()?;
                self.draw(now);
                self.enter(Step::Record(false));
            }
            Step::Claim => match self.desk.claim(&self.token)? || bug!("any-claim-wins") {
                true => self.enter(Step::FirstLook),
                false => self.lose(now),
            },
            Step::FirstLook => {
                match self.desk.exists(ObjectName::Door(g), true)? && !bug!("door-is-not-asked") {
                    false => self.enter(Step::Door),
                    true => {
                        mark!("door-found-shut");
                        self.found_shut = true;
                        self.lose(now);
                    }
                }
            }
            Step::Door => {
                self.desk.shut(g)?;
                self.door_at = now;
                self.enter(Step::ReadBack);
            }
            Step::ReadBack => match self.reads_itself(0)? {
                true if self.birth => self.enter(Step::Join(false)),
                true => self.enter(Step::Gap(now + self.spec.absence_gap)),
                false => {
                    mark!("claim-is-anothers");
                    self.lose(now);
                }
            },
            Step::Gap(at) if at <= now => self.enter(Step::ReadAgain),
            Step::Gap(_) => return None,
            Step::ReadAgain => match self.reads_itself(1)? {
                true => self.enter(Step::Base),
                false => {
                    mark!("claim-was-overwritten");
                    self.lose(now);
                }
            },
            Step::Base => self.find_base(now)?,
            Step::Open => {
                self.desk.put_opened(&self.token)?;
                self.enter(Step::Look);
            }
            Step::Look => match look::is_ours(&mut self.desk, self.token.attach, false)? {
                true => self.win(),
                false => {
                    mark!("opened-and-overtaken");
                    self.lose(now);
                }
            },
            Step::Lost(at) if at <= now && self.birth => {
                self.over(End::Refused(Refusal::LostRace));
            }
            Step::Lost(at) if at <= now => self.enter(Step::Judge),
            Step::Lost(_) | Step::Record(_) | Step::Join(_) | Step::Over(_) => return None,
        }
        Some(())
    }

    fn enter(&mut self, step: Step) {
        self.desk.begin();
        self.step = step;
    }

    fn over(&mut self, end: End) {
        self.enter(Step::Over(false));
        self.end = Some(Box::new(end));
    }

    fn give_up(&mut self) {
        mark!("attempt-given-up");
        let refusal = match self.desk.waiting() {
            Some(waiting) => Refusal::Store {
                object: waiting.object.clone(),
                error: waiting.error,
            },
            None if self.lost > 0 => Refusal::LostRace,
            None => Refusal::Store {
                object: ObjectName::Volume.to_string(),
                error: StoreError::Unavailable,
            },
        };
        self.over(End::Refused(refusal));
    }

    /// Back to step 1 after a random wait.
    fn lose(&mut self, now: Instant) {
        self.lost = self.lost.saturating_add(1);
        self.began = None;
        let span = self.spec.backoff_max.saturating_sub(BACKOFF_MIN).as_nanos();
        let span = u64::try_from(span).unwrap_or(u64::MAX).saturating_add(1);
        let wait = BACKOFF_MIN + Duration::from_nanos(self.next_random() % span);
        self.enter(Step::Lost(now + wait));
    }

    fn win(&mut self) {
        let token = self.token.clone();
        let opened = Opened {
            attach: token.attach,
            token,
            base: self.base.take(),
            below: self.below.take(),
            took_over: self.took_over,
            superblock: self.superblock.take(),
            door_at: self.door_at,
        };
        self.over(End::Opened(opened));
    }

    /// Step 6, one reading: whether the claim is the one that this attempt wrote.
    fn reads_itself(&mut self, round: u8) -> Option<bool> {
        let claim = ObjectName::Claim(self.token.attach.generation);
        let found = self.desk.token(claim, round)?;
        Some(
            found.is_some_and(|token| token.attach == self.token.attach)
                || bug!("claim-is-not-read"),
        )
    }

    fn draw(&mut self, now: Instant) {
        self.token = Token {
            attach: AttachId {
                generation: Generation(self.highest.0.saturating_add(1)),
                nonce: self.next_random(),
            },
            holder: Holder {
                host: self.spec.life.host.clone(),
                state_dir: self.spec.life.state_dir,
                since: wall(&self.spec.life, now),
            },
            base: None,
        };
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): the caller's seed carries the randomness.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The wall time of a moment.
const fn wall(life: &Life, now: Instant) -> WallTime {
    WallTime(life.wall.0.saturating_add(now.0 / 1_000_000_000))
}

fn refusal(name: ObjectName, error: StoreError) -> Refusal {
    let object = name.to_string();
    match error {
        StoreError::TooNew => Refusal::FormatTooNew { object },
        error => Refusal::Store { object, error },
    }
}
