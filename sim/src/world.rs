//! The world: a discrete-event loop in virtual time around the engines.
//!
//! Events are ordered by time and, at one time, by their number. One fact goes to an engine, then its effects are drained;
//! before any of them is carried out the process may die.

use crate::choice::{Choices, Die};
use crate::config::Config;
use crate::disk::{Disk, End, Survival};
use crate::iscsi::Front;
use crate::lasting::Lasting;
use crate::operator::AGAIN_ATTACH;
use crate::oracle::Violation;
use crate::oracle::progress::{Commits, Opened};
use crate::payload::{Blocks, Stamp, Summing};
use crate::rot::Rotten;
use crate::seat::{Flying, Role, Seat};
use crate::store::Store;
use crate::store::codec::Codec;
use crate::trace::Trace;
use crate::wire::Wire;
use engine::effect::{Outcome, StoreRequest};
use engine::ids::{Container, StateDirId, VolumeId};
use engine::journal::record::JournalKey;
use engine::limits::Life;
use engine::object::names::{ObjectName, RootName};
use engine::time::{Instant, WallTime};
use engine::units::Geometry;
use engine::volume::Volume;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

/// Nanoseconds of a microsecond.
pub const US: u64 = 1_000;
/// Nanoseconds of a millisecond.
pub const MS: u64 = 1_000_000;
/// Nanoseconds of a second.
pub const SEC: u64 = 1_000_000_000;

/// Wall time, in seconds since 1970, when the virtual clock shows 0.
pub(crate) const EPOCH: u64 = 1_700_000_000;

/// More events than any run has that ends.
const STEPS_MAX: u64 = 2_000_000;

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A local operation or comparison ends.
    Local { seat: usize, life: u32, id: u64 },
    /// A request reaches the store.
    Arrive { request: u64 },
    /// The store's answer reaches the process.
    Answer { request: u64 },
    /// An engine's time-out.
    Timer { seat: usize, life: u32, at: u64 },
    /// Something reaches an end of a connection.
    Segment {
        seat: usize,
        life: u32,
        conn: u32,
        inward: bool,
    },
    /// Replies or mail reach a connection of the target.
    Rung { seat: usize, life: u32, conn: u32 },
    /// A deadline of a connection passes.
    Late {
        seat: usize,
        life: u32,
        conn: u32,
        deadline: u8,
    },
    /// The target follows its volume's gate.
    Gate { seat: usize, life: u32 },
    /// A login has waited long enough for a look.
    Looked { seat: usize, life: u32, look: u32 },
    /// An initiator logs in.
    Connect { seat: usize, life: u32, n: usize },
    /// An initiator ends tasks, or its session.
    Function {
        seat: usize,
        life: u32,
        conn: u32,
        itt: u32,
        op: u64,
    },
    /// An initiator looks after its tasks.
    Watch { seat: usize, life: u32, conn: u32 },
    /// A guest asks its next operation.
    Guest { seat: usize, life: u32, slot: u32 },
    /// A command is taken back.
    Abort { seat: usize, life: u32, tag: u64 },
    /// The operator's next wish.
    Wish { n: u64 },
    /// A wish that was refused for now is asked again.
    Again { seat: usize, life: u32, what: u32 },
    /// A dead process is started.
    Start { seat: usize, life: u32 },
    /// A reader has read all.
    ReaderEnds { seat: usize, life: u32 },
    /// A process stands still.
    Pause { n: u64 },
    /// The store cannot be reached any more.
    OutageBegins { n: u64 },
    /// It can be again.
    OutageEnds,
    /// An error stays from now on, or is over.
    Lasting { n: u64, begins: bool },
    /// An HTTP request reaches a proxy.
    HttpArrive { n: u64 },
    /// A PUT's body reaches the nodes.
    HttpBody { n: u64 },
    /// An HTTP answer reaches the process.
    HttpAnswer { n: u64 },
    /// A store machine's time-out.
    StoreTimer { seat: usize, life: u32, at: u64 },
    /// The identity service answers.
    Token { seat: usize, life: u32 },
    /// Swift does something by itself.
    Chore { n: u64 },
    /// A node of Swift goes away.
    NodeDown { n: u64 },
    /// It is back.
    NodeUp,
    /// Faults stop.
    Heal,
    /// The bound on what was pending when faults stopped.
    Deadline { phase: u32 },
}

/// A request on its way.
#[derive(Clone, Debug)]
pub(crate) struct Transit {
    pub(crate) seat: usize,
    pub(crate) life: u32,
    pub(crate) id: u64,
    pub(crate) request: StoreRequest<Blocks>,
    pub(crate) racy: bool,
    /// What the process hears; `None` until the store was asked.
    pub(crate) outcome: Option<Outcome<Blocks>>,
    /// Its answer was given (or nobody waits for it any more).
    pub(crate) answered: bool,
    /// It has still to reach the store.
    pub(crate) arrives: bool,
    /// When it was sent.
    pub(crate) sent: u64,
    /// The dice for a pause before its answer were thrown.
    pub(crate) paused: bool,
}

/// What a published root must hold.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) content: Vec<Stamp>,
    pub(crate) attributes: BTreeMap<String, u64>,
    pub(crate) cut: u64,
    /// Blocks that it states lost.
    pub(crate) lost: Vec<u64>,
}

/// A volume of the world.
pub(crate) struct Vol {
    pub(crate) container: Container,
    pub(crate) geometry: Geometry,
    pub(crate) parent: Option<Container>,
    pub(crate) published: BTreeMap<RootName, Published>,
    /// Generations that passed their look, and whose they are.
    pub(crate) served: BTreeMap<u64, StateDirId>,
    pub(crate) born: bool,
    /// The highest cut that was called committed, and its root: no history goes on from below it.
    pub(crate) committed: u64,
    pub(crate) committed_root: Option<RootName>,
    /// The highest cut that each generation committed.
    pub(crate) commits: Commits,
    /// Committed roots that became strays, with A1 broken.
    pub(crate) strays: Vec<RootName>,
    /// Bases of the generations that were opened.
    pub(crate) opened: Opened,
}

impl Vol {
    /// A root of that cut is called committed.
    pub(crate) fn is_committed(&mut self, root: RootName, cut: u64) {
        let by = self.commits.entry(root.attach.generation.0).or_default();
        *by = cut.max(*by);
        if cut >= self.committed {
            (self.committed, self.committed_root) = (cut, Some(root));
        }
    }
}

/// How far the run is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Operations and faults.
    Chaos,
    /// No more faults; everything pending must end.
    Healing,
    /// All is read.
    Sweeping,
    /// The power was cut; all is read again.
    Rereading,
    /// The grace of all that is dying has passed, and what nothing reaches is collected.
    Collecting,
    /// The end.
    Over,
}

/// The world of one run.
pub struct World {
    /// Where values come from.
    pub choices: Choices,
    /// What this seed uses.
    pub config: Config,
    /// What happened.
    pub trace: Trace,
    pub(crate) now: u64,
    pub(crate) queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    pub(crate) serial: u64,
    pub(crate) seats: Vec<Seat>,
    pub(crate) volumes: Vec<Vol>,
    pub(crate) store: Store,
    pub(crate) transit: BTreeMap<u64, Transit>,
    pub(crate) requests: u64,
    pub(crate) summing: Summing,
    pub(crate) phase: Phase,
    pub(crate) phases: u32,
    pub(crate) next_op: u64,
    /// Wishes to come: the operation that each goes before, the last one first.
    pub(crate) wish_line: Vec<(u64, u64)>,
    pub(crate) next_tag: u64,
    pub(crate) next_wish: u64,
    pub(crate) crashes: u64,
    pub(crate) outage: bool,
    /// When the last outage ended.
    pub(crate) outage_ended: u64,
    pub(crate) failed: Option<Violation>,
    pub(crate) final_wish: Option<u64>,
    /// Volumes that are through all phases, and clones that were erased after that.
    pub(crate) ended: BTreeSet<usize>,
    pub(crate) erased: BTreeSet<usize>,
    /// The volume that goes through the phases after the faults.
    pub(crate) ending: usize,
    /// Last collections that were answered.
    pub(crate) collects: u32,
    pub(crate) wire: Option<Wire>,
    /// The fronts of seats, where guests go through iSCSI.
    pub(crate) fronts: BTreeMap<usize, Front>,
    /// The wish of a scripted run that is under way.
    pub(crate) scripted: Option<u64>,
    /// When faults stopped.
    pub(crate) healed_at: u64,
    /// `container/name` of every object that a collector asked away.
    pub(crate) deleted: BTreeSet<String>,
    /// When a root was first there that lists this one as dying.
    pub(crate) dying_since: BTreeMap<(Container, RootName), u64>,
    /// The error that stays for now.
    pub(crate) lasting: Option<Lasting>,
    /// Frames that rotted in the store.
    pub(crate) rotten: Vec<Rotten>,
    /// When a claim landed last, by name.
    pub(crate) claimed: BTreeMap<(Container, ObjectName), u64>,
    /// Snapshots that were answered, by volume.
    pub(crate) snapshots: Vec<(usize, String)>,
    /// By key of a snapshot: the lowest seq that was answered when it was asked for.
    pub(crate) asked_keys: BTreeMap<u64, u64>,
    /// What the engine is being told.
    pub(crate) cause: &'static str,
}

impl World {
    /// The world of a configuration.
    pub fn new(choices: Choices, config: Config, trace: Trace) -> Self {
        let summing = if config.expanded {
            Summing::Real
        } else {
            Summing::Symbolic
        };
        let store = Store::new(config.geometry.block_bytes, summing);
        let mut world = Self {
            choices,
            config,
            trace,
            now: 0,
            queue: BinaryHeap::new(),
            serial: 0,
            seats: Vec::new(),
            volumes: Vec::new(),
            store,
            transit: BTreeMap::new(),
            requests: 0,
            summing,
            phase: Phase::Chaos,
            phases: 0,
            next_op: 0,
            wish_line: Vec::new(),
            next_tag: 1,
            next_wish: 1,
            crashes: 0,
            outage: false,
            outage_ended: 0,
            failed: None,
            final_wish: None,
            ended: BTreeSet::new(),
            erased: BTreeSet::new(),
            ending: 0,
            collects: 0,
            wire: None,
            fronts: BTreeMap::new(),
            scripted: None,
            healed_at: 0,
            deleted: BTreeSet::new(),
            dying_since: BTreeMap::new(),
            lasting: None,
            rotten: Vec::new(),
            claimed: BTreeMap::new(),
            snapshots: Vec::new(),
            asked_keys: BTreeMap::new(),
            cause: "",
        };
        if world.config.wire {
            let codec = Codec {
                unit: world.config.geometry.block_bytes,
                summing,
            };
            let clocks = (0..3)
                .map(|p| {
                    let steps = [0, 900, 400_000, 5_000_000];
                    world
                        .choices
                        .one_of(Die::ProxyClock, 1 << 60 | p, 0, &steps)
                })
                .collect();
            world.wire = Some(Wire::new(codec, clocks, world.config.a1));
        }
        world.set_up();
        world
    }

    fn set_up(&mut self) {
        let volume = self.add_volume(self.config.geometry, None);
        self.add_seat(0, volume, Role::Bears);
        self.start(0);
        // Wishes come between operations, wherever in time these are.
        for n in 0..self.config.wishes {
            let op = self.choices.pick(Die::Wish, n, 0, self.config.ops);
            self.wish_line.push((op, n));
        }
        self.wish_line.sort_unstable_by(|a, b| b.cmp(a));
        for n in 0..u64::from(self.config.faults.outages) {
            let at = self.choices.pick(Die::Outage, n, 0, self.length());
            if at > 0 {
                self.at(at, Event::OutageBegins { n });
            }
        }
        for n in 0..u64::from(self.config.faults.lasting) {
            let at = self.choices.pick(Die::Lasting, n, 0, self.length());
            if at > 0 {
                self.at(at, Event::Lasting { n, begins: true });
            }
        }
        for n in 0..u64::from(self.config.faults.pauses) {
            let at = self.choices.pick(Die::Pause, n, 0, self.length());
            if at > 0 {
                self.at(at, Event::Pause { n });
            }
        }
        if self.wire.is_some() {
            for n in 0..u64::from(self.config.faults.node_downs) {
                let at = self.choices.pick(Die::NodeDown, n, 0, self.length());
                if at > 0 {
                    self.at(at, Event::NodeDown { n });
                }
            }
        }
        // Chaos ends with the operations; this is for runs in which nothing can be served.
        self.at(self.length() * 4 + 600 * SEC, Event::Heal);
    }

    // A guess at how long the operations take, in nanoseconds.
    fn length(&self) -> u64 {
        let c = &self.config;
        let workers = u64::from(c.initiators * c.depth);
        let each = (c.think_us / 2 + 2 * c.disk_us + 20) * US;
        (c.ops / workers + 1) * each + c.store_ms * 20 * MS
    }

    pub(crate) fn add_volume(&mut self, geometry: Geometry, parent: Option<Container>) -> usize {
        let n = self.volumes.len();
        let mut id = [0; 16];
        // Births that the store refuses for minutes are given up by the hundred.
        id[..2].copy_from_slice(&(n as u16 + 1).to_le_bytes());
        id[8..].copy_from_slice(
            &crate::choice::hash(self.choices.seed(), Die::Seed, n as u64, 9).to_le_bytes(),
        );
        let container = Container::new("disk", VolumeId(id));
        self.volumes.push(Vol {
            container,
            geometry,
            parent,
            published: BTreeMap::new(),
            served: BTreeMap::new(),
            born: false,
            committed: 0,
            committed_root: None,
            commits: Commits::new(),
            strays: Vec::new(),
            opened: Opened::new(),
        });
        n
    }

    pub(crate) fn add_seat(&mut self, host: u32, volume: usize, role: Role) -> usize {
        let number = self.seats.len();
        let geometry = self.volumes[volume].geometry;
        let state_dir = StateDirId(1000 + number as u64);
        self.seats.push(Seat {
            number,
            host,
            volume,
            role,
            engine: None,
            disk: Disk::new(
                geometry,
                self.config.limits.cache_slots,
                self.summing,
                JournalKey::new(self.volumes[volume].container.id, [number as u8; 16]),
                number as u64 + 1,
            ),
            state_dir,
            life: 0,
            effects: 0,
            numbers: [0; 8],
            crash_at: None,
            timer_at: None,
            paused_until: 0,
            flying: BTreeMap::new(),
            asked: BTreeMap::new(),
            wished: BTreeMap::new(),
            appended: BTreeMap::new(),
            gate_open: false,
            parked: Vec::new(),
            thirsty: Vec::new(),
            looks_again: false,
            sweep: VecDeque::new(),
            history: None,
            lost_power: false,
            attach: None,
            own_doors: BTreeSet::new(),
            history_generation: 0,
            is_recovered: false,
            is_behind: false,
            misses: 0,
            saw_door: false,
            released: false,
            loads: VecDeque::new(),
            loading: 0,
            disk_hurt: false,
            is_nameless: false,
            attached_at: u64::MAX,
            held_up_until: 0,
            unlocked_at: None,
            was_full: false,
            takes: false,
            gone: false,
            may_be_busy: false,
            since: 0,
            reads: None,
            loaded: Vec::new(),
            loaded_lost: Vec::new(),
            needs_pin: false,
            buried: BTreeSet::new(),
            unanswered: Vec::new(),
            epoch: 0,
        });
        number
    }

    /// Whether faults may strike.
    pub(crate) fn chaos(&self) -> bool {
        self.phase == Phase::Chaos
    }

    pub(crate) fn at(&mut self, time: u64, event: Event) {
        self.serial += 1;
        self.queue
            .push(Reverse((time.max(self.now), self.serial, event)));
    }

    pub(crate) fn after(&mut self, wait: u64, event: Event) {
        self.at(self.now + wait, event);
    }

    pub(crate) fn fail(&mut self, violation: Violation) {
        let text = violation.to_string();
        self.trace.tell(self.now, || format!("VIOLATED {text}"));
        if self.failed.is_none() {
            self.failed = Some(violation);
        }
    }

    pub(crate) fn check(&mut self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.fail(violation);
        }
    }

    pub(crate) fn instant(&self) -> Instant {
        Instant(self.now)
    }

    /// Starts a process on a seat.
    pub(crate) fn start(&mut self, seat: usize) {
        let wall = WallTime(EPOCH + self.now / SEC);
        let seed_n = self.seats[seat].life;
        let seed = crate::choice::hash(self.choices.seed(), Die::Seed, seat as u64, seed_n + 100);
        let container = self.volumes[self.seats[seat].volume].container.clone();
        let limits = self.config.limits.clone();
        let s = &mut self.seats[seat];
        s.life += 1;
        let life = Life {
            host: format!("host{}", s.host),
            state_dir: s.state_dir,
            seed,
            wall,
        };
        s.engine = Some(Volume::new(container, life, limits));
        s.gate_open = false;
        s.timer_at = None;
        s.saw_door = false;
        s.is_recovered = false;
        s.attach = None;
        s.may_be_busy = false;
        s.since = self.now;
        s.loading = 0;
        s.needs_pin = false;
        s.attached_at = u64::MAX;
        s.was_full = false;
        let slots = self.config.initiators * self.config.depth;
        s.parked = (0..slots).collect();
        s.thirsty.clear();
        s.looks_again = false;
        s.buried.clear();
        self.start_front(seat);
        if let Some(wire) = self.wire.as_mut() {
            wire.start(seat, seed ^ 1);
        }
        self.trace.roll(0xa11 ^ (seat as u64) << 32);
        self.trace.tell(self.now, || {
            format!("seat {seat} starts, life {}", seed_n + 1)
        });
        self.draw_crash(seat);
        self.drain(seat);
        self.open(seat);
        let s = &self.seats[seat];
        if self.phase == Phase::Healing && s.released && s.role != Role::Reads && !s.gone {
            // It gave the volume up and died before faults stopped: the operator asks what there is to ask of it.
            self.again_after(seat, SEC, AGAIN_ATTACH);
        }
    }

    // When this process will die, counted in effects.
    fn draw_crash(&mut self, seat: usize) {
        self.seats[seat].crash_at = None;
        if !self.chaos() || self.seats[seat].role == Role::Reads {
            return;
        }
        while self.crashes < u64::from(self.config.faults.crashes) {
            let n = self.crashes;
            self.crashes += 1;
            // A third soon after the start: crashes in recovery.
            let soon = self.choices.pick(Die::Kill, n, 0, 3) == 2;
            let range = if soon {
                40
            } else {
                2 * self.config.ops / u64::from(self.config.faults.crashes) + 40
            };
            let gap = self.choices.pick(Die::Kill, n, 1, range);
            if gap > 0 {
                let s = &mut self.seats[seat];
                s.crash_at = Some((s.effects + gap, n));
                return;
            }
        }
    }

    /// Whether the process dies before its next effect.
    pub(crate) fn dies_now(&self, seat: usize) -> bool {
        let s = &self.seats[seat];
        s.crash_at.is_some_and(|(at, _)| s.effects >= at) && self.chaos()
    }

    /// The process dies.
    pub(crate) fn crash(&mut self, seat: usize, n: u64) {
        let power =
            self.choices.pick(Die::Power, n, 0, 100) < u64::from(self.config.faults.power_share);
        if let Some((_, end, survival)) = self.config.script.as_ref().and_then(|s| s.crash) {
            let die = if end == End::Power {
                Die::Power
            } else {
                Die::Kill
            };
            self.trace.fault(die, n);
            self.end_process(seat, end, survival);
            let life = self.seats[seat].life;
            self.after(MS, Event::Start { seat, life });
            return;
        }
        let (die, end) = if power {
            (Die::Power, End::Power)
        } else {
            (Die::Kill, End::Kill)
        };
        self.trace.fault(die, n);
        let survival = match self.choices.pick(Die::Landing, n, 100, 6) {
            0 => Survival::None,
            1 => Survival::All,
            2 => Survival::AllBut(self.choices.pick(Die::Landing, n, 101, 8)),
            _ => Survival::Any,
        };
        self.end_process(seat, end, survival);
        let wait = self.choices.pick(Die::Kill, n, 2, 4);
        let wait = [1, 100, 3_000, 20_000][wait as usize] * MS;
        if self.strikes(Die::DiskLost, n, self.config.faults.disk_lost)
            && self.lose_disk(seat, wait)
        {
            return;
        }
        self.harm_journal(seat, n, 100);
        let life = self.seats[seat].life;
        self.after(wait, Event::Start { seat, life });
    }

    /// Ends a process: what is in flight lands or not, by `survival`.
    pub(crate) fn end_process(&mut self, seat: usize, end: End, survival: Survival) {
        self.trace.tell(self.now, || {
            format!("seat {seat} dies: {end:?}, unsynced writes: {survival:?}")
        });
        self.trace.roll(0xdead ^ (seat as u64) << 32);
        self.end_front(seat);
        if end == End::Power || self.seats[seat].disk_hurt {
            self.settle_second(seat);
        }
        self.remember_snapshots(seat);
        let s = &mut self.seats[seat];
        if let Some(wire) = self.wire.as_mut() {
            wire.end(seat);
        }
        s.engine = None;
        s.gate_open = false;
        s.crash_at = None;
        s.lost_power |= end == End::Power;
        let in_flight = std::mem::take(&mut s.flying)
            .into_values()
            .filter_map(|f| match f {
                Flying::Local(local, _) => Some(local),
                Flying::Store(_) | Flying::Compare(..) => None,
            })
            .collect();
        let unsynced = s.disk.end(in_flight, end, survival, &mut self.choices);
        if self.phase == Phase::Chaos {
            self.trace.unsynced = unsynced;
        }
        s.asked.clear();
        s.wished.clear();
        s.appended.clear();
        s.sweep.clear();
        let life = s.life;
        let dropped: Vec<u64> = self
            .transit
            .iter()
            .filter(|(_, t)| t.seat == seat && t.life == life)
            .map(|(n, _)| *n)
            .collect();
        for n in dropped {
            // A request of a dead process may still be on its way.
            let lost = self.choices.pick(Die::StoreLate, n, 7, 3) == 0;
            let transit = self.transit.get_mut(&n).expect("just found");
            transit.answered = true;
            if lost || !transit.arrives {
                self.transit.remove(&n);
            }
        }
    }

    /// Runs until the end or the first violation.
    pub fn run(&mut self) -> Option<Violation> {
        let mut steps = 0_u64;
        while let Some(Reverse((time, _, event))) = self.queue.pop() {
            debug_assert!(time >= self.now);
            self.now = time;
            self.trace.roll(time);
            steps += 1;
            if steps > STEPS_MAX {
                let text = format!(
                    "{steps} events in {:.1} s: {:?} and no end",
                    time as f64 / 1e9,
                    self.trace.kinds
                );
                self.fail(Violation::new("L4", text));
                break;
            }
            self.step(event);
            if self.failed.is_some() || self.phase == Phase::Over {
                break;
            }
        }
        (0..self.seats.len()).for_each(|seat| self.settle_second(seat));
        if self.failed.is_none() && self.phase != Phase::Over {
            self.fail(Violation::new(
                "L1",
                format!("nothing more happens in phase {:?}", self.phase),
            ));
        }
        self.failed.take()
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Local { seat, life, id } => {
                if self.is_alive(seat, life) && !self.defer(seat, &event) {
                    self.end_local(seat, id);
                }
            }
            Event::Arrive { request } => self.arrive(request),
            Event::Answer { request } => self.answer(request),
            Event::Timer { seat, life, at } => {
                if self.is_alive(seat, life)
                    && self.seats[seat].timer_at == Some(at)
                    && !self.defer(seat, &event)
                {
                    self.seats[seat].timer_at = None;
                    let now = self.instant();
                    self.with_engine(seat, "timeout", |e| e.handle_timeout(now));
                }
            }
            Event::Guest { seat, life, slot } => {
                if self.is_alive(seat, life) && !self.defer(seat, &event) {
                    self.guest(seat, slot);
                }
            }
            Event::Segment {
                seat,
                life,
                conn,
                inward,
            } => {
                if self.is_alive(seat, life) && !(inward && self.defer(seat, &event)) {
                    self.segment(seat, conn, inward);
                }
            }
            Event::Rung { seat, life, conn } => {
                if self.is_alive(seat, life) && !self.defer(seat, &event) {
                    self.rung(seat, conn);
                }
            }
            Event::Late {
                seat,
                life,
                conn,
                deadline,
            } => {
                if self.is_alive(seat, life) && !(deadline < 2 && self.defer(seat, &event)) {
                    self.late(seat, conn, deadline);
                }
            }
            Event::Gate { seat, life } => {
                if self.is_alive(seat, life) && !self.defer(seat, &event) {
                    self.follow_gate(seat);
                }
            }
            Event::Looked { seat, life, look } => {
                if self.is_alive(seat, life) && !self.defer(seat, &event) {
                    self.looked(seat, look);
                }
            }
            Event::Connect { seat, life, n } => {
                if self.is_alive(seat, life) {
                    self.connect(seat, n);
                }
            }
            Event::Function {
                seat,
                life,
                conn,
                itt,
                op,
            } => {
                if self.is_alive(seat, life) {
                    self.function(seat, conn, itt, op);
                }
            }
            Event::Watch { seat, life, conn } => {
                if self.is_alive(seat, life) {
                    self.watched(seat, conn);
                }
            }
            Event::Abort { seat, life, tag } => {
                if self.is_alive(seat, life) && !self.defer(seat, &event) {
                    self.abort(seat, tag);
                }
            }
            Event::Wish { n } => self.wish(n),
            Event::Again { seat, life, what } => {
                if self.is_alive(seat, life) && !self.defer(seat, &event) {
                    self.again(seat, what);
                }
            }
            Event::Start { seat, life } => {
                if self.seats[seat].engine.is_none() && self.seats[seat].life == life {
                    self.start(seat);
                }
            }
            Event::ReaderEnds { seat, life } => {
                if self.is_alive(seat, life) {
                    self.reader_ends(seat);
                }
            }
            Event::Pause { n } => self.pause(n),
            Event::OutageBegins { n } => {
                if self.chaos() {
                    let long = self.choices.pick(Die::Outage, n, 1, 3);
                    let wait = [2, 20, 120][long as usize] * SEC;
                    self.trace.fault(Die::Outage, n);
                    self.trace.tell(self.now, || {
                        format!("the store is away for {} s", wait / SEC)
                    });
                    self.outage = true;
                    self.after(wait, Event::OutageEnds);
                }
            }
            Event::OutageEnds => {
                self.outage = false;
                self.outage_ended = self.now;
                self.trace.tell(self.now, || "the store is back".into());
            }
            Event::Lasting { n, begins } => self.lasts(n, begins),
            Event::HttpArrive { n } => self.http_arrive(n),
            Event::HttpBody { n } => self.http_body(n),
            Event::HttpAnswer { n } => self.http_answer(n),
            Event::StoreTimer { seat, life, at } => {
                if self.is_alive(seat, life) && !self.defer(seat, &event) {
                    self.store_timer(seat, at);
                }
            }
            Event::Token { seat, life } => {
                if self.is_alive(seat, life) && !self.defer(seat, &event) {
                    self.token(seat);
                }
            }
            Event::Chore { n } => self.do_chore(n),
            Event::NodeDown { n } => self.node_down(n),
            Event::NodeUp => self.node_up(),
            Event::Heal => self.heal(),
            Event::Deadline { phase } => {
                if phase == self.phases {
                    self.too_late();
                }
            }
        }
        if self.failed.is_none() {
            self.observe_store();
            self.advance();
        }
    }

    pub(crate) fn is_alive(&self, seat: usize, life: u32) -> bool {
        self.seats[seat].life == life && self.seats[seat].engine.is_some()
    }

    // A process that stands still sees the event later.
    pub(crate) fn defer(&mut self, seat: usize, event: &Event) -> bool {
        let until = self.seats[seat].paused_until;
        if until <= self.now {
            return false;
        }
        // Asked again now and then: a pause ends when faults stop, whatever it had left.
        self.at(until.min(self.now + 10 * SEC), event.clone());
        true
    }

    fn pause(&mut self, n: u64) {
        if !self.chaos() {
            return;
        }
        let seat = self.choices.pick(Die::Pause, n, 1, self.seats.len() as u64) as usize;
        let long = if self.choices.pick(Die::Pause, n, 3, 16) == 15 {
            // Longer than any grace: others may have taken the volume and collected.
            1800 * SEC
        } else {
            [2, 15, 120, 600][self.choices.pick(Die::Pause, n, 2, 4) as usize] * SEC
        };
        if self.seats[seat].engine.is_some() {
            self.trace.fault(Die::Pause, n);
            self.stand_still(seat, long);
        }
    }

    /// A process does nothing for a while.
    pub(crate) fn stand_still(&mut self, seat: usize, long: u64) {
        self.trace.tell(self.now, || {
            format!("seat {seat} stands still for {} ms", long / MS)
        });
        let s = &mut self.seats[seat];
        s.paused_until = s.paused_until.max(self.now + long);
        s.held_up_until = s.held_up_until.max(self.now + long + 30 * SEC);
    }

    /// Gives one fact to an engine, then carries its effects out.
    pub(crate) fn with_engine(
        &mut self,
        seat: usize,
        kind: &'static str,
        fact: impl FnOnce(&mut Volume<Blocks>),
    ) {
        let Some(engine) = self.seats[seat].engine.as_mut() else {
            return;
        };
        fact(engine);
        self.cause = kind;
        self.trace.events += 1;
        *self.trace.kinds.entry(kind).or_default() += 1;
        self.trace.roll(kind.len() as u64 ^ (seat as u64) << 8);
        self.drain(seat);
    }

    /// Carries out all effects of an engine, and schedules its time-out.
    pub(crate) fn drain(&mut self, seat: usize) {
        while let Some(engine) = self.seats[seat].engine.as_mut() {
            let Some(effect) = engine.poll_effect() else {
                break;
            };
            if self.dies_now(seat) {
                let (_, n) = self.seats[seat].crash_at.expect("asked just now");
                self.trace
                    .tell(self.now, || format!("seat {seat} dies before {effect:?}"));
                self.crash(seat, n);
                return;
            }
            self.seats[seat].effects += 1;
            self.carry_out(seat, effect);
            if self.failed.is_some() {
                return;
            }
        }
        let Some(engine) = self.seats[seat].engine.as_ref() else {
            return;
        };
        let wanted = engine.poll_timeout().map(|t| t.0.max(self.now));
        let s = &mut self.seats[seat];
        if wanted != s.timer_at {
            s.timer_at = wanted;
            if let Some(at) = wanted {
                let life = s.life;
                self.at(at, Event::Timer { seat, life, at });
            }
        }
    }
}
