//! Who holds the volume: opening, attaching, watching, being fenced, being born, giving up; and the gate for guests.
//!
//! Shape      opening → blank | local → serving (attached, or to be attached before the first upload) → fenced | detached.
//! Invariant  nothing is uploaded without an attachment of this process; a fenced holder answers nothing.
//! Not here   the steps of an attach (`attach`), what is recovered (`recover`), what is published (`publish`).

use super::{After, Pending, Volume};
use crate::attach::{self, Ask, Attach, End, Hint, How, Inspect, Join, Opened, Spec, Watched};
use crate::command::{BirthSpec, Failure, Refusal, Verdict, Wish};
use crate::effect::{
    Absence, Body, DiskRequest, Effect, Expect, Gate, GateReason, GetRequest, Meta, Notice,
    Outcome, StoreError, StoreRequest,
};
use crate::ids::{AttachId, FileId, Generation, Hash, Seq, Version, WishId};
use crate::journal::note::{self, Intent, Note};
use crate::layers::stack::Attributes;
use crate::limits::{Life, Limits};
use crate::object::names::ObjectName;
use crate::payload::Payload;
use crate::publish::Want;
use crate::table::types::{AcceptedLoss, Root, RootKind, SnapshotEntry, Superblock};
use crate::time::{Duration, Instant};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
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
    /// Files found without a note.
    pub(super) orphans: Vec<FileId>,
    sessions: u32,
    watching: bool,
    /// Logins that wait for the watch that is under way.
    lookers: Vec<WishId>,
    watch_at: Option<Instant>,
    last_good: Instant,
    attach_retry_at: Option<Instant>,
    gate: Option<Gate>,
    away_since: Option<Instant>,
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

impl<P> Own<P> {
    pub(super) fn new(life: &Life) -> Self {
        Self {
            phase: Phase::Opening,
            why_broken: "",
            attach: None,
            first_version: Version(0),
            wishes: VecDeque::new(),
            attempt: None,
            shut: false,
            opened: None,
            inspecting: None,
            numbers: 0,
            random: life.seed,
            open_wish: None,
            birth: None,
            orphans: Vec::new(),
            sessions: 0,
            watching: false,
            lookers: Vec::new(),
            watch_at: None,
            last_good: Instant(0),
            attach_retry_at: None,
            gate: None,
            away_since: None,
            busy_since: None,
            leaf_retries: Vec::new(),
            retry_at: None,
            flush_store: false,
            checkpoint_interval: None,
            attribute_log: Vec::new(),
            superseded: Vec::new(),
            taken_over: None,
            detach_wish: None,
            intent_noted: false,
            emergency: false,
            set_aside: false,
            joining: None,
        }
    }

    pub(super) const fn phase_name(&self) -> &'static str {
        match self.phase {
            Phase::Opening => "opening",
            Phase::Blank => "blank",
            Phase::Local => "local",
            Phase::Checking => "checking",
            Phase::Attaching => "attaching",
            Phase::Birth => "birth",
            Phase::Serving => "serving",
            Phase::Reader => "reader",
            Phase::Fenced => "fenced",
            Phase::Detaching => "detaching",
            Phase::Detached => "detached",
            Phase::Broken => "broken",
        }
    }

    /// The attachment that this process opened.
    pub(crate) const fn attach(&self) -> Option<AttachId> {
        self.attach
    }

    /// The version of this attachment's first root.
    pub(crate) const fn first_version(&self) -> Version {
        self.first_version
    }

    pub(crate) const fn is_reader(&self) -> bool {
        matches!(self.phase, Phase::Reader)
    }

    pub(crate) const fn may_publish(&self) -> bool {
        matches!(self.phase, Phase::Serving | Phase::Detaching)
    }

    /// Whether a wish may order a version: what is cut behind a detach would never be published.
    const fn may_cut(&self) -> bool {
        matches!(self.phase, Phase::Serving)
    }

    /// Why no wish may order a version, or a collection.
    pub(super) const fn wont_cut(&self) -> Option<Refusal> {
        match self.phase {
            Phase::Serving => None,
            Phase::Fenced => Some(Refusal::Fenced),
            _ => Some(Refusal::WrongState(self.phase_name())),
        }
    }

    pub(crate) const fn flushes_to_store(&self) -> bool {
        self.flush_store
    }

    pub(crate) fn checkpoint_interval(&self, limits: &Limits) -> Duration {
        self.checkpoint_interval
            .unwrap_or(limits.checkpoint_interval)
    }

    pub(super) const fn store_away_since(&self) -> Option<Instant> {
        self.away_since
    }

    /// Why no guest command is taken at all.
    pub(super) const fn refusal(&self) -> Option<Failure> {
        match self.phase {
            Phase::Fenced | Phase::Detached | Phase::Detaching => Some(Failure::Fenced),
            Phase::Broken => Some(Failure::Hardware),
            _ => None,
        }
    }

    pub(super) fn opened_blank(&mut self) {
        self.phase = Phase::Blank;
    }

    pub(super) fn opened_local(&mut self) {
        self.phase = Phase::Local;
    }

    /// The intent is noted: what is whole here may be published though it is not durable here.
    pub(super) const fn emergency(&mut self) {
        self.emergency = true;
    }

    pub(crate) const fn is_emergency(&self) -> bool {
        self.emergency
    }

    pub(super) fn erased(&mut self) {
        self.phase = Phase::Detached;
        self.attach = None;
    }

    pub(super) fn broken(&mut self, why: &'static str) {
        self.phase = Phase::Broken;
        self.why_broken = why;
    }

    /// What the attributes say about the engine's own conduct.
    pub(super) fn attributes_changed(&mut self, attributes: &Attributes) {
        self.flush_store = attributes
            .get(attach::FLUSH_ATTRIBUTE)
            .is_some_and(|value| value == attach::FLUSH_STORE);
        self.checkpoint_interval = attributes
            .get(CHECKPOINT_INTERVAL_ATTRIBUTE)
            .and_then(|value| core::str::from_utf8(value).ok()?.parse().ok())
            .map(Duration::from_secs);
    }

    /// A journalled change of an attribute that no known root has yet.
    pub(super) fn log_attribute(&mut self, seq: Seq, key: &str, value: &Option<Vec<u8>>) {
        self.attribute_log.push((seq, key.into(), value.clone()));
    }

    pub(crate) fn attributes_stored(&mut self, cut: Seq) {
        self.attribute_log.retain(|(seq, _, _)| *seq > cut);
    }

    /// Remembers what the new root makes superfluous in the local folder of roots and leaves.
    pub(crate) fn superseded(&mut self, old: Option<(Arc<Root>, Hash)>, new: &Root) {
        let Some((old, hash)) = old else { return };
        self.superseded.push(hash);
        for (index, at) in &old.leaves {
            if new.leaves.get(index).is_none_or(|new| new.hash != at.hash) {
                self.superseded.push(at.hash);
            }
        }
    }

    pub(crate) fn take_superseded(&mut self) -> Vec<Hash> {
        core::mem::take(&mut self.superseded)
    }

    /// The first root after a take-over keeps its base as a snapshot and tells the loss.
    pub(crate) fn take_over_mark(
        &self,
        base: Option<&Root>,
    ) -> Option<(Option<SnapshotEntry>, Option<AcceptedLoss>)> {
        let (opened, base) = (self.taken_over.as_ref()?, base?);
        let generation = opened.attach.generation;
        let named = base.snapshots.iter().any(|s| s.root == base.name);
        let entry = SnapshotEntry {
            name: format!("before-take-over-{generation}"),
            root: base.name,
            created: opened.token.holder.since,
            wish: crate::ids::WishKey(opened.attach.nonce),
            capacity: base.geometry.capacity,
        };
        let loss = opened.below.as_ref().map(|below| AcceptedLoss {
            lost: below.attach,
            host: below.holder.host.clone(),
            base: base.name.version,
            at: opened.token.holder.since,
        });
        Some(((!named).then_some(entry), loss))
    }

    /// A root of ours is committed.
    pub(crate) fn committed(&mut self, root: &Root) {
        self.taken_over = None;
        if root.kind == RootKind::Detached {
            self.phase = Phase::Detached;
            self.intent_noted = false;
            self.attach = None;
        }
    }

    pub(crate) fn retry_leaf(&mut self, at: Instant, hash: Hash) {
        self.leaf_retries.push((at, hash));
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The next seed for an attach: splitmix64 over the life's seed.
    fn seed(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let attempt = self
            .attempt
            .as_ref()
            .and_then(|attempt| attempt.machine.poll_timeout());
        let inspecting = self
            .inspecting
            .as_ref()
            .and_then(|i| i.machine.poll_timeout());
        let leaf = self.leaf_retries.iter().map(|(at, _)| *at).min();
        [
            attempt,
            inspecting,
            leaf,
            self.watch_at,
            self.attach_retry_at,
            self.retry_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }
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

    // --- wishes ---

    pub(super) fn wish(&mut self, id: WishId, wish: Wish<P>) {
        if matches!(self.own.phase, Phase::Opening) {
            self.own.wishes.push_back((id, wish));
            return;
        }
        let wrong = |why| Verdict::Refused(Refusal::WrongState(why));
        match wish {
            Wish::Birth(spec) => self.begin_birth(id, spec),
            Wish::Load { chunk, grains } => self.publish_load(id, chunk, grains),
            Wish::FinishBirth { base } => self.publish_finish_birth(id, base),
            Wish::Open => self.open(id),
            Wish::Attach {
                take_over,
                accept_loss,
            } => {
                let how = How {
                    take_over,
                    accept_loss,
                    ..How::default()
                };
                self.begin_attach(Some(id), how);
            }
            Wish::Detach => self.detach(id),
            Wish::Snapshot { name, key } => self.snapshot(id, name, key),
            Wish::Checkpoint => {
                if self.own.may_cut() {
                    self.cut(None, false, Some(Want::Committed(id)));
                } else {
                    self.told(id, wrong(self.own.phase_name()));
                }
            }
            Wish::Pin { child, snapshot } => {
                let known = |root: &Arc<Root>, name: &String| {
                    root.snapshots.iter().any(|s| s.name == *name)
                };
                if !self.own.may_cut() {
                    self.told(id, wrong(self.own.phase_name()));
                } else if let Some(name) = &snapshot
                    && !self.present.root().is_some_and(|root| known(root, name))
                {
                    self.told(id, Verdict::Refused(Refusal::NoSuchSnapshot));
                } else {
                    self.cut(
                        None,
                        false,
                        Some(Want::Pinned {
                            wish: id,
                            child,
                            snapshot,
                        }),
                    );
                }
            }
            Wish::Inspect => self.inspect(id, None),
            Wish::OpenReader { snapshot } => {
                if self.own.phase == Phase::Blank {
                    self.inspect(id, Some(snapshot));
                } else {
                    self.told(id, wrong(self.own.phase_name()));
                }
            }
            Wish::Evict => {
                let slots = self.cache.occupied();
                let bytes = self.geometry.map_or(0, |g| {
                    u64::from(g.frame_grains) * u64::from(crate::units::GRAIN_BYTES)
                });
                let freed = crate::units::ByteCount(slots.len() as u64 * bytes);
                for slot in slots {
                    self.cache.drop_slot(slot);
                    self.out
                        .disk(Pending::Nothing, DiskRequest::ClearCache { slot });
                }
                self.told(id, Verdict::Evicted(freed));
            }
            Wish::Collect { min_age } => self.collect(id, min_age),
            Wish::Look => self.look(id),
            Wish::Sessions(count) => self.sessions(id, count),
        }
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

    fn snapshot(&mut self, id: WishId, name: Option<String>, key: crate::ids::WishKey) {
        if let Some(refusal) = self.own.wont_cut() {
            return self.told(id, Verdict::Refused(refusal));
        }
        if let Some(root) = self.present.root() {
            if let Some(entry) = root.snapshots.iter().find(|s| s.wish == key) {
                let committed = crate::command::Committed {
                    root: root.clone(),
                    name: Some(entry.name.clone()),
                    bytes: crate::units::ByteCount(0),
                    puts: 0,
                };
                return self.told(id, Verdict::Committed(committed));
            }
            if name
                .as_ref()
                .is_some_and(|name| root.snapshots.iter().any(|s| s.name == *name))
            {
                return self.told(id, Verdict::Refused(Refusal::NameTaken));
            }
        }
        for cut in &mut self.publishing.cuts {
            let Some((other, other_key)) = &cut.named else {
                continue;
            };
            if *other_key == key {
                cut.wants.push(Want::Committed(id));
                return;
            }
            if name.is_some() && *other == name {
                return self.told(id, Verdict::Refused(Refusal::NameTaken));
            }
        }
        self.cut(Some((name, key)), false, Some(Want::Committed(id)));
    }

    fn detach(&mut self, id: WishId) {
        if self.own.phase != Phase::Serving {
            return self.told(
                id,
                Verdict::Refused(Refusal::WrongState(self.own.phase_name())),
            );
        }
        self.own.phase = Phase::Detaching;
        self.own.detach_wish = Some(id);
        self.set_gate(Gate::Closed(GateReason::Detached));
        self.guest_leave();
    }

    /// Once every command that was in flight is answered, nothing more will be: the intent is noted.
    fn detach_step(&mut self) -> bool {
        if self.own.phase != Phase::Detaching
            || self.own.intent_noted
            || self.guest.under_way() > 0
            || self.reads.len() > 0
            || !self.journal.is_idle()
        {
            return false;
        }
        self.own.intent_noted = true;
        let root = self.present.root();
        let version = root.map_or(Version(0), |root| Version(root.name.version.0 + 1));
        self.note(After::Intent, |note| {
            note.intent = Some(Intent::Detach(version));
        });
        true
    }

    fn sessions(&mut self, id: WishId, count: u32) {
        let first = self.own.sessions == 0 && count > 0;
        self.own.sessions = count;
        if first {
            self.own.watch_at = Some(self.now);
        }
        self.told(id, Verdict::Sessions);
    }

    /// The disk failed: what is whole here goes to the store, once a note says that numbers up to here are spent.
    pub(super) fn save_whole_history(&mut self) {
        if self.own.phase == Phase::Serving && self.notes.note.is_some() {
            let end = self.journal.assigned();
            self.note(After::Emergency, |note| {
                note.intent = Some(Intent::Emergency(end))
            });
        }
    }

    // --- opening ---

    fn open(&mut self, id: WishId) {
        match self.own.phase {
            Phase::Serving => return self.tell_attached(id),
            Phase::Local => {}
            _ => {
                return self.told(
                    id,
                    Verdict::Refused(Refusal::WrongState(self.own.phase_name())),
                );
            }
        }
        let note = self.notes.note.as_ref();
        let deleting = note.is_some_and(|note| matches!(note.intent, Some(Intent::Delete(_))));
        if note.is_some_and(|note| note.unborn) || deleting {
            // A birth or an erasing was interrupted: if version 0 is there it is finished, else the volume is erased.
            self.own.phase = Phase::Attaching;
            self.own.open_wish = Some(id);
            if deleting {
                // Everything that decides goes before `volume`: without it nothing is left to attach to.
                let request = StoreRequest::Get(GetRequest {
                    container: self.container.clone(),
                    name: ObjectName::Volume,
                    range: None,
                    absence: Absence::Twice,
                    deadline: self.limits.store_deadline,
                    expect: Expect::Exists,
                });
                self.out.store(Pending::Life(Op::HalfErased), request);
                return;
            }
            let request = StoreRequest::CreateContainer(self.container.clone());
            self.out.store(Pending::Life(Op::UnbornContainer), request);
            return;
        }
        let held = note
            .filter(|note| note.intent.is_none())
            .and_then(|note| note.held);
        match (held, self.present.root()) {
            (Some(held), Some(_)) => {
                self.own.phase = Phase::Checking;
                self.own.open_wish = Some(id);
                let request =
                    attach::watch_request(self.container.clone(), held, self.limits.restart_look);
                self.out.store(Pending::Life(Op::RestartLook), request);
            }
            _ => self.begin_attach(Some(id), How::default()),
        }
    }

    fn restart_looked(&mut self, outcome: &Outcome<P>) {
        let wish = self.own.open_wish.take();
        match attach::watch_verdict(outcome) {
            Watched::Good | Watched::Silent => {
                // Mode `available`: no answer is no reason to stop a disk that is whole here.
                self.own.last_good = self.now;
                self.serve();
                if let Some(wish) = wish {
                    self.tell_attached(wish);
                }
            }
            Watched::Shut => {
                self.own.phase = Phase::Local;
                self.begin_attach(wish, How::default());
            }
        }
    }

    pub(crate) fn serve(&mut self) {
        self.own.phase = Phase::Serving;
        self.own.watch_at = Some(self.now + self.limits.watch);
        self.set_gate(Gate::Open);
        self.guest_retry();
    }

    fn tell_attached(&mut self, wish: WishId) {
        let base = self
            .present
            .root()
            .map_or(Version(0), |root| root.name.version);
        let verdict = Verdict::Attached {
            attach: self.own.attach,
            base,
            set_aside: self.own.set_aside,
        };
        self.told(wish, verdict);
    }

    // --- attaching ---

    fn begin_attach(&mut self, wish: Option<WishId>, how: How) {
        match self.own.phase {
            Phase::Serving if self.own.attach.is_some() => {
                if let Some(wish) = wish {
                    self.tell_attached(wish);
                }
                return;
            }
            Phase::Blank | Phase::Local | Phase::Fenced | Phase::Detached => {
                self.own.phase = Phase::Attaching
            }
            // A detach publishes, and after a restart it must attach anew for that.
            Phase::Serving | Phase::Detaching => {}
            _ => {
                if let Some(wish) = wish {
                    self.told(
                        wish,
                        Verdict::Refused(Refusal::WrongState(self.own.phase_name())),
                    );
                }
                return;
            }
        }
        if let Some(attempt) = &mut self.own.attempt {
            match (attempt.wish, wish) {
                (None, Some(_)) => attempt.wish = wish,
                (Some(_), Some(wish)) => self.told(wish, Verdict::Refused(Refusal::Busy)),
                _ => {}
            }
            return;
        }
        let spec = self.attach_spec();
        self.start_attempt(Attach::new(spec, how), wish);
    }

    fn attach_spec(&mut self) -> Spec {
        let seed = self.own.seed();
        let mut spec = Spec::new(self.container.clone(), &self.life, &self.limits, seed);
        if let Some(note) = &self.notes.note {
            spec.drawn = note.drawn.clone();
            spec.joined = note.joined.clone();
            spec.hint = Hint {
                held: note.held,
                claim: note.held.unwrap_or_default(),
                root: note.committed.map(|committed| committed.root),
            };
        }
        spec
    }

    fn start_attempt(&mut self, machine: Attach, wish: Option<WishId>) {
        self.own.joining = None;
        let number = self.own.number();
        self.own.attempt = Some(Attempt {
            number,
            machine: Box::new(machine),
            wish,
        });
    }

    /// A publish needs an attachment: begins one unless it is under way. Never makes progress by itself.
    pub(crate) fn attach_for_publish(&mut self) -> bool {
        if self.own.attempt.is_none()
            && self.own.opened.is_none()
            && self.own.attach_retry_at.is_none()
        {
            self.begin_attach(None, How::default());
            // Where the phase allows none it is no progress: the caller would come back for ever.
            return self.own.attempt.is_some();
        }
        false
    }

    /// The journal that is to be set aside has come to rest.
    fn join_step(&mut self) -> bool {
        if !self.journal.is_idle() {
            return false;
        }
        let Some(join) = self.own.joining.take() else {
            return false;
        };
        if self.own.attempt.is_some() {
            self.attach_join(join);
        }
        true
    }

    fn attach_poll(&mut self) -> bool {
        let mut done = false;
        loop {
            let now = self.now;
            let Some(attempt) = &mut self.own.attempt else {
                return done;
            };
            let number = attempt.number;
            let Some(ask) = attempt.machine.poll(now) else {
                return done;
            };
            done = true;
            match ask {
                Ask::Store { slot, request } => {
                    self.own.shut |= matches!(
                        request,
                        StoreRequest::Put {
                            name: ObjectName::Door(_),
                            ..
                        }
                    );
                    self.out
                        .store(Pending::Life(Op::Attach { number, slot }), request);
                }
                Ask::Record(id) => self.attach_record(id),
                Ask::Join(join) => self.attach_join(join),
                Ask::End(end) => self.attach_end(*end),
            }
        }
    }

    fn attach_record(&mut self, id: AttachId) {
        if self.notes.note.is_none() {
            // The first attach from this state directory: the shape comes with the superblock, which step 1 read.
            let Some(geometry) = self.geometry.or_else(|| {
                self.own
                    .attempt
                    .as_ref()
                    .and_then(|attempt| attempt.machine.superblock())
                    .map(|s| s.geometry)
            }) else {
                let attempt = self.own.attempt.take();
                if let Some(wish) = attempt.and_then(|attempt| attempt.wish) {
                    self.told(wish, Verdict::Refused(Refusal::NoSuchVolume));
                }
                self.own.phase = Phase::Blank;
                return;
            };
            self.set_geometry(geometry);
            self.notes.note = Some(self.new_note(false));
        }
        self.note(After::Drawn, |note| note.drawn.push(id));
    }

    fn new_note(&self, unborn: bool) -> Note {
        Note {
            serial: 0,
            container: self.container.clone(),
            geometry: self.geometry.unwrap_or_else(|| {
                crate::units::Geometry::standard(512, crate::units::BlockCount(1))
            }),
            drawn: Vec::new(),
            joined: Vec::new(),
            held: None,
            committed: None,
            dead: Vec::new(),
            intent: None,
            unborn,
            aside: self.own.orphans.clone(),
        }
    }

    fn set_geometry(&mut self, geometry: crate::units::Geometry) {
        self.geometry = Some(geometry);
        self.cache.set_frame_grains(geometry.frame_grains);
    }

    /// The journal's fate: it goes on under the new id, or it belongs to a history that was left behind.
    fn attach_join(&mut self, join: Join) {
        if join.keep {
            self.own.set_aside = false;
            self.note(After::Joined, |note| note.joined.push(join.attach));
            return;
        }
        if matches!(self.own.phase, Phase::Serving | Phase::Detaching) {
            // Guests were served from a journal that turns out to be of a lost history, and so was what waits to be published.
            let attempt = self.own.attempt.take();
            self.fenced();
            if let Some(wish) = attempt.and_then(|attempt| attempt.wish) {
                self.told(wish, Verdict::Refused(Refusal::Fenced));
            }
            return;
        }
        if !self.journal.is_idle() {
            // What still ends in the old files must not be taken for records of the next history.
            self.own.joining = Some(join);
            return;
        }
        // What guests saw of this history, and what they wrote to it, is not in the one that goes on.
        self.guest_fail_begun(Failure::Fenced);
        let everything_stored = self.journal.stored() >= self.journal.written();
        // What waits to be published is of the history that ends here.
        self.publish_abort(&Refusal::Fenced);
        self.publishing.cuts.clear();
        let files = self.journal.set_aside();
        let spent = self.journal.assigned();
        self.own.set_aside = !everything_stored;
        self.stack = crate::layers::stack::Stack::default();
        self.own.attribute_log.clear();
        if everything_stored {
            for file in &files {
                self.out
                    .disk(Pending::Nothing, DiskRequest::RemoveFile(*file));
            }
        }
        self.note(After::Joined, |note| {
            note.joined = alloc::vec![join.attach];
            note.held = None;
            if let Some(committed) = &mut note.committed {
                // These numbers are spent: the next history goes on above them, and nothing below is missed.
                committed.cut = committed.cut.max(spent);
            }
            if !everything_stored {
                note.aside.extend(files);
            }
        });
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

    fn attach_end(&mut self, end: End) {
        let Some(attempt) = self.own.attempt.take() else {
            return;
        };
        match end {
            End::Opened(opened) => {
                let generation = opened.attach.generation;
                let base = opened.base.clone();
                let detaching = self.own.phase == Phase::Detaching;
                self.own.opened = Some(Box::new((opened, attempt.wish)));
                if let Some(base) = &base {
                    let meta = Meta::Root(base.root.clone());
                    self.out.disk(
                        Pending::Nothing,
                        DiskRequest::KeepMeta {
                            hash: base.hash,
                            meta,
                        },
                    );
                }
                // A failed disk's history is saved behind its intent, which the attach for that must not take away.
                let saving = self.journal.is_read_only();
                self.note(After::Named, |note| {
                    note.held = Some(generation);
                    if !detaching && !saving {
                        note.intent = None;
                    }
                    if let Some(base) = base {
                        note.unborn &= base.root.kind == RootKind::Deleted;
                        let cut = note.committed.map_or(Seq(0), |old| old.cut);
                        note.geometry = base.root.geometry;
                        note.committed = Some(note::Committed {
                            version: base.root.name.version,
                            root: base.root.name,
                            hash: base.hash,
                            cut: cut.max(base.root.cut),
                        });
                    }
                });
            }
            End::Held(held) => {
                self.attach_lost(attempt.wish, Verdict::Held(held), true);
            }
            End::Refused(refusal) => {
                let fenced = refusal == Refusal::Fenced;
                self.attach_lost(attempt.wish, Verdict::Refused(refusal), fenced);
            }
        }
    }

    fn attach_lost(&mut self, wish: Option<WishId>, verdict: Verdict, held_elsewhere: bool) {
        if let Some((birth, _)) = self.own.birth.take() {
            self.own.phase = Phase::Blank;
            return self.told(birth, verdict);
        }
        match self.own.phase {
            Phase::Serving | Phase::Detaching if held_elsewhere => self.fenced(),
            // The store refused: guests go on from here, the publish tries again.
            Phase::Serving | Phase::Detaching => {
                self.own.attach_retry_at = Some(self.now + self.limits.watch);
                self.guest_retry();
            }
            _ if held_elsewhere
                && self
                    .notes
                    .note
                    .as_ref()
                    .is_some_and(|note| note.held.is_some()) =>
            {
                let by = Generation(self.held().unwrap_or_default().0 + 1);
                self.own.phase = Phase::Fenced;
                self.out.push(Effect::Notice(Notice::Fenced { by }));
                self.set_gate(Gate::Closed(GateReason::Fenced));
                self.publish_abort(&Refusal::Fenced);
                self.guest_fail_all(Failure::Fenced);
            }
            _ => {
                self.own.phase = if self.notes.note.is_some() {
                    Phase::Local
                } else {
                    Phase::Blank
                };
                if wish.is_none() {
                    // Nobody asked for it, so nobody asks again: guests wait here.
                    self.own.attach_retry_at = Some(self.now + self.limits.watch);
                }
            }
        }
        if let Some(wish) = wish {
            self.told(wish, verdict);
        }
    }

    /// The attachment is ours and noted: goes on from its base.
    fn attached(&mut self) {
        let Some(opened) = self.own.opened.take() else {
            return;
        };
        let (opened, wish) = *opened;
        self.own.attach = Some(opened.attach);
        self.own.shut = false;
        self.own.attach_retry_at = None;
        self.own.last_good = self.now;
        self.journal.set_attach(opened.attach);
        self.own.first_version = opened
            .base
            .as_ref()
            .map_or(Version(0), |base| Version(base.root.name.version.0 + 1));
        self.out
            .push(Effect::Notice(Notice::Attached(opened.attach.generation)));
        let Some(base) = opened.base.clone() else {
            if self.own.birth.is_none() {
                return self.erase_begin(wish);
            }
            return self.born_attached(opened.attach);
        };
        self.adopt(&base.root, base.hash);
        if base.root.kind == RootKind::Deleted {
            return self.erase_begin(wish);
        }
        if opened.took_over {
            self.own.taken_over = Some(Box::new(opened));
        }
        self.journal.prepare(&mut self.out);
        self.reads_again();
        if self.own.phase == Phase::Detaching {
            self.guest_retry();
        } else {
            self.serve();
        }
        if let Some(wish) = wish {
            self.tell_attached(wish);
        }
    }

    /// The history goes on from `base`: what it holds is not local news any more.
    fn adopt(&mut self, base: &Arc<Root>, hash: Hash) {
        self.set_geometry(base.geometry);
        let known = self
            .present
            .root_and_hash()
            .is_some_and(|(_, known)| known == hash);
        if !known {
            let old = self
                .present
                .root_and_hash()
                .map(|(root, hash)| (root.clone(), hash));
            self.own.superseded(old, base);
            self.present.set_root(base.clone(), hash);
        }
        for map in self.stack.maps_mut() {
            map.forget_through(base.cut);
        }
        self.settle_names(base);
        // A cut that the base holds is committed, whatever its publish heard; its name tells whose it was.
        while self
            .publishing
            .cuts
            .front()
            .is_some_and(|cut| cut.seq <= base.cut && cut.wants.is_empty() && cut.named.is_none())
            && !self.publishing.is_running()
        {
            self.publishing.cuts.pop_front();
            self.stack.frozen.pop_front();
        }
        let mut attributes = base.attributes.clone();
        for (seq, key, value) in &self.own.attribute_log {
            if *seq > base.cut {
                match value {
                    Some(value) => attributes.insert(key.clone(), value.clone()),
                    None => attributes.remove(key),
                };
            }
        }
        self.own.attributes_changed(&attributes);
        self.attributes = attributes;
        self.sweep.committed(base, self.now);
        self.journal.skip_to(base.cut);
        self.journal.set_stored(&mut self.out, base.cut);
    }

    /// The base may hold what was wished for before it was known: the same key is the same snapshot, a name is taken once.
    fn settle_names(&mut self, base: &Arc<Root>) {
        let mut told = Vec::new();
        for cut in &mut self.publishing.cuts {
            let Some((name, key)) = &cut.named else {
                continue;
            };
            let verdict = if let Some(entry) = base.snapshots.iter().find(|s| s.wish == *key) {
                Verdict::Committed(crate::command::Committed {
                    root: base.clone(),
                    name: Some(entry.name.clone()),
                    bytes: crate::units::ByteCount(0),
                    puts: 0,
                })
            } else if base
                .snapshots
                .iter()
                .any(|s| Some(&s.name) == name.as_ref())
            {
                Verdict::Refused(Refusal::NameTaken)
            } else {
                continue;
            };
            cut.named = None;
            let wishes = cut
                .wants
                .extract_if(.., |want| matches!(want, Want::Committed(_)));
            told.extend(wishes.map(|want| (want.wish(), verdict.clone())));
        }
        for (wish, verdict) in told {
            self.told(wish, verdict);
        }
    }

    // --- birth ---

    fn begin_birth(&mut self, id: WishId, spec: BirthSpec) {
        if self.own.phase != Phase::Blank {
            return self.told(id, Verdict::Refused(Refusal::Exists));
        }
        if !spec.geometry.is_valid() {
            return self.told(
                id,
                Verdict::Refused(Refusal::WrongState("no such geometry")),
            );
        }
        self.own.phase = Phase::Birth;
        self.set_geometry(spec.geometry);
        self.attributes = spec.attributes.iter().cloned().collect();
        let attributes = self.attributes.clone();
        self.own.attributes_changed(&attributes);
        self.own.birth = Some((id, spec));
        // A birth that failed before left a note: its number and what it drew go on.
        let mut note = self.new_note(true);
        if let Some(old) = self.notes.note.take() {
            note.serial = old.serial;
            note.drawn = old.drawn;
        }
        self.notes.note = Some(note);
        self.note(After::Drawn, |_| {});
    }

    /// The container of an interrupted birth or erasing is there: attaches to finish it.
    fn finish_unborn(&mut self, outcome: &Outcome<P>) {
        let wish = self.own.open_wish.take();
        if matches!(outcome, Outcome::Done) {
            let how = How {
                finish: true,
                ..How::default()
            };
            let spec = self.attach_spec();
            return self.start_attempt(Attach::new(spec, how), wish);
        }
        self.own.phase = Phase::Local;
        if let (Some(wish), Outcome::Store(error)) = (wish, outcome) {
            let (object, error) = (String::from("the container"), *error);
            self.told(wish, Verdict::Refused(Refusal::Store { object, error }));
        }
    }

    fn put_superblock(&mut self) {
        let Some((_, spec)) = &self.own.birth else {
            return;
        };
        let superblock = Superblock {
            container: self.container.clone(),
            geometry: spec.geometry,
            kind: spec.kind,
            created: self.wall(),
            parent: spec.parent.clone(),
        };
        let request = StoreRequest::Put {
            container: self.container.clone(),
            name: ObjectName::Volume,
            body: Body::Superblock(Arc::new(superblock)),
            once: false,
        };
        self.out.store(Pending::Life(Op::Superblock), request);
    }

    fn birth_failed(&mut self, object: &str, outcome: &Outcome<P>) {
        self.own.phase = Phase::Blank;
        let error = match outcome {
            Outcome::Store(error) => *error,
            _ => StoreError::Unavailable,
        };
        if let Some((wish, _)) = self.own.birth.take() {
            let object = String::from(object);
            self.told(wish, Verdict::Refused(Refusal::Store { object, error }));
        }
    }

    fn born_attached(&mut self, attach: AttachId) {
        self.journal.prepare(&mut self.out);
        self.publish_birth(attach);
        if let Some((wish, _)) = self.own.birth.take() {
            self.told(wish, Verdict::Begun);
        }
    }

    // --- inspecting and reading ---

    fn inspect(&mut self, wish: WishId, reader: Option<Option<String>>) {
        if self.own.inspecting.is_some() {
            return self.told(wish, Verdict::Refused(Refusal::Busy));
        }
        let number = self.own.number();
        let hint = self.attach_spec().hint;
        let quick = reader.is_none();
        let machine = Inspect::new(
            self.container.clone(),
            hint,
            self.limits.store_deadline,
            quick,
        );
        self.own.inspecting = Some(Inspecting {
            number,
            machine: Box::new(machine),
            wish,
            reader,
        });
    }

    fn inspect_poll(&mut self) -> bool {
        let now = self.now;
        let mut done = false;
        while let Some(inspecting) = &mut self.own.inspecting
            && let Some((slot, request)) = inspecting.machine.poll(now)
        {
            done = true;
            let number = inspecting.number;
            self.out
                .store(Pending::Life(Op::Inspect { number, slot }), request);
        }
        done
    }

    fn inspected(&mut self, slot: u32, outcome: Outcome<P>) {
        let now = self.now;
        let Some(inspecting) = &mut self.own.inspecting else {
            return;
        };
        let Some(result) = inspecting.machine.handle(now, slot, outcome) else {
            return;
        };
        let Some(Inspecting { wish, reader, .. }) = self.own.inspecting.take() else {
            return;
        };
        let (inspection, newest) = match result {
            Ok(found) => found,
            Err(refusal) => return self.told(wish, Verdict::Refused(refusal)),
        };
        let Some(snapshot) = reader else {
            return self.told(wish, Verdict::Inspected(inspection));
        };
        let Some(newest) = newest else {
            return self.told(wish, Verdict::Refused(Refusal::NoSuchVolume));
        };
        match snapshot {
            None => self.read_root(wish, newest.root, newest.hash),
            Some(name) => match newest.root.snapshots.iter().find(|s| s.name == name) {
                None => self.told(wish, Verdict::Refused(Refusal::NoSuchSnapshot)),
                Some(entry) if entry.root == newest.root.name => {
                    self.read_root(wish, newest.root, newest.hash)
                }
                Some(entry) => {
                    let request = StoreRequest::Get(GetRequest {
                        container: self.container.clone(),
                        name: ObjectName::Root(entry.root),
                        range: None,
                        absence: Absence::Damage,
                        deadline: self.limits.store_deadline,
                        expect: Expect::Root(None),
                    });
                    self.out
                        .store(Pending::Life(Op::SnapshotRoot { wish }), request);
                }
            },
        }
    }

    fn read_root(&mut self, wish: WishId, root: Arc<Root>, hash: Hash) {
        self.set_geometry(root.geometry);
        self.attributes = root.attributes.clone();
        self.present.set_root(root.clone(), hash);
        self.own.phase = Phase::Reader;
        self.set_gate(Gate::Open);
        self.guest_retry();
        self.told(wish, Verdict::Reading(root));
    }

    // --- outcomes ---

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

    // --- watching and being fenced ---

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

    fn watch(&mut self) {
        let gate_closed = self.own.gate == Some(Gate::Closed(GateReason::StoreAway));
        let idle = self.own.sessions == 0 && !gate_closed && !self.reads_doubt();
        if !idle {
            self.ask_door(self.limits.watch);
        }
    }

    fn look(&mut self, id: WishId) {
        self.own.lookers.push(id);
        self.ask_door(self.limits.restart_look);
        if !self.own.watching {
            // There is no door to ask: what answers guests or not is decided elsewhere.
            self.looked();
        }
    }

    fn looked(&mut self) {
        for id in core::mem::take(&mut self.own.lookers) {
            self.told(id, Verdict::Looked);
        }
    }

    /// Asks whether the next door is shut, if this is the time to.
    fn ask_door(&mut self, deadline: Duration) {
        if self.own.phase != Phase::Serving || self.own.watching {
            return;
        }
        // A door that this host's own attach has shut says nothing.
        let writing = self
            .own
            .attempt
            .as_ref()
            .is_some_and(|attempt| attempt.machine.is_writing());
        let held = self
            .held()
            .filter(|_| !writing && self.own.opened.is_none());
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
    fn held(&self) -> Option<Generation> {
        let attach = self.own.attach.map(|attach| attach.generation);
        attach.or_else(|| self.notes.note.as_ref().and_then(|note| note.held))
    }

    /// A look is wanted now, whoever watches or not.
    pub(super) fn watch_now(&mut self) {
        if !self.own.watching {
            self.own.watch_at = Some(self.now);
        }
    }

    fn watched(&mut self, began: Instant, outcome: &Outcome<P>) {
        self.own.watching = false;
        self.own.watch_at = Some(self.now + self.limits.watch);
        self.watch_told(began, outcome);
        self.looked();
    }

    fn watch_told(&mut self, began: Instant, outcome: &Outcome<P>) {
        if self.own.phase != Phase::Serving {
            return;
        }
        match attach::watch_verdict(outcome) {
            Watched::Good => {
                self.own.last_good = began;
                self.store_answered();
                self.reads_believe(began);
            }
            Watched::Silent => self.store_failed(outcome),
            Watched::Shut => {
                let writing = self
                    .own
                    .attempt
                    .as_ref()
                    .is_some_and(|attempt| attempt.machine.is_writing());
                if self.own.attach.is_some() {
                    self.fenced();
                } else if !writing && self.own.opened.is_none() {
                    // Not attached anew yet: step 2 of an attach tells own from foreign; guests wait for it.
                    self.own.phase = Phase::Local;
                    if self.own.sessions == 0 {
                        self.set_gate(Gate::Closed(GateReason::NotServing));
                    }
                    self.begin_attach(None, How::default());
                }
            }
        }
    }

    /// Another host has shut our door: from now on nothing is answered.
    pub(crate) fn fenced(&mut self) {
        let by = Generation(self.held().unwrap_or_default().0 + 1);
        self.own.phase = Phase::Fenced;
        self.own.attach = None;
        self.out.push(Effect::Notice(Notice::Fenced { by }));
        self.publish_abort(&Refusal::Fenced);
        self.own.intent_noted = false;
        if let Some(wish) = self.own.detach_wish.take() {
            self.told(wish, Verdict::Refused(Refusal::Fenced));
        }
        self.sweep_drop(&Refusal::Fenced);
        self.guest_fail_all(Failure::Fenced);
        self.set_gate(Gate::Closed(GateReason::Fenced));
        // If nobody opens above us after all, the volume is still ours: an attach finds out.
        self.own.attach_retry_at = Some(self.now + self.limits.watch);
    }

    fn set_gate(&mut self, gate: Gate) {
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
            self.set_gate(Gate::Open);
        }
    }

    pub(crate) fn store_failed(&mut self, outcome: &Outcome<P>) {
        if matches!(outcome, Outcome::Store(_)) {
            self.own.away_since.get_or_insert(self.now);
        }
    }

    fn store_heard(&mut self, outcome: &Outcome<P>) {
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
    pub(super) fn answered_busy(&mut self) {
        let since = *self.own.busy_since.get_or_insert(self.now);
        if since + self.limits.close_after <= self.now && self.own.phase == Phase::Serving {
            self.set_gate(Gate::Closed(GateReason::StoreAway));
            self.own.watch_at = Some(self.now);
        }
    }
}
