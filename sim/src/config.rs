//! The swarm: what one seed uses, and how big everything is.
//!
//! Every seed turns kinds of operation and fault on or off and draws their rates, so that runs differ in what they leave
//! out. Sizes are tiny: every split, wrap and limit happens within one run.

use crate::choice::{Choices, Die};
use engine::limits::Limits;
use engine::time::Duration;
use engine::units::{BlockCount, ByteCount, Geometry};

/// Which family of trouble a run is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Profile {
    /// One host: disk, crashes, a store with lost and late answers.
    Safety,
    /// Few faults, then a strict bound on everything pending.
    Liveness,
    /// Many snapshots, checkpoints, clones and readers.
    Snapshot,
    /// Two to three hosts on one volume.
    Fencing,
    /// Deletes and collection.
    Gc,
    /// iSCSI bytes and HTTP messages.
    Wire,
    /// A mix of all.
    All,
}

impl Profile {
    /// Every profile.
    pub const EVERY: [Self; 7] = [
        Self::Safety,
        Self::Liveness,
        Self::Snapshot,
        Self::Fencing,
        Self::Gc,
        Self::Wire,
        Self::All,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Safety => "safety",
            Self::Liveness => "liveness",
            Self::Snapshot => "snapshot",
            Self::Fencing => "fencing",
            Self::Gc => "gc",
            Self::Wire => "wire",
            Self::All => "all",
        }
    }

    /// The profile of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::EVERY.into_iter().find(|p| p.name() == name)
    }
}

/// Rates of faults, in parts of a million per chance to strike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Crashes in the run, kill and power loss together.
    pub crashes: u32,
    /// Of these, how many of 100 are power losses.
    pub power_share: u32,
    /// An append fails.
    pub append_fails: u32,
    /// A sync fails.
    pub sync_fails: u32,
    /// A local request fails.
    pub disk_fails: u32,
    /// The disk has no space for a new file.
    pub disk_full: u32,
    /// A local operation takes 10 ms to 60 s.
    pub disk_stall: u32,
    /// A page of the frame cache is damaged, per read of it.
    pub cache_rot: u32,
    /// A bit of a journal page changes, per read of the journal; a hundred times as often per crash.
    pub rot: u32,
    /// A journal page cannot be read, likewise.
    pub latent: u32,
    /// A record's write went elsewhere, likewise.
    pub misdirect: u32,
    /// The disk is lost, per crash.
    pub disk_lost: u32,
    /// A store request is lost.
    pub store_lost: u32,
    /// An answer is lost.
    pub answer_lost: u32,
    /// A request is carried out after its sender gave up.
    pub store_late: u32,
    /// The store says no for now.
    pub store_busy: u32,
    /// The store is full.
    pub store_full: u32,
    /// A store request takes up to its deadline.
    pub store_slow: u32,
    /// Total outages in the run.
    pub outages: u32,
    /// Pauses of a process in the run.
    pub pauses: u32,
    /// Errors that stay for minutes, in the run.
    pub lasting: u32,
    /// A frame of an object is damaged in the store for good, per read of it.
    pub object_rot: u32,
    /// A body from the store is cut short or changed.
    pub body_hurt: u32,
    /// A node of the store misses a request.
    pub node_miss: u32,
    /// Nodes of the store that go away for a while, in the run.
    pub node_downs: u32,
    /// A request about a claim, a door, an opened or a root takes seconds.
    pub step_slow: u32,
    /// The way breaks under a PUT of one, which lands later.
    pub step_late: u32,
    /// A host stands still before it hears what came of one.
    pub step_pause: u32,
    /// Without A1: the first false absence, per GET of a name that decides.
    pub false_absence: u32,
}

impl Faults {
    /// Makes what strikes per chance strike `times` as often, up to every second time.
    fn boost(&mut self, times: u32) {
        let rates = [
            &mut self.append_fails,
            &mut self.sync_fails,
            &mut self.disk_fails,
            &mut self.disk_full,
            &mut self.disk_stall,
            &mut self.cache_rot,
            &mut self.rot,
            &mut self.latent,
            &mut self.misdirect,
            &mut self.store_lost,
            &mut self.answer_lost,
            &mut self.store_late,
            &mut self.store_busy,
            &mut self.store_full,
            &mut self.store_slow,
            &mut self.body_hurt,
            &mut self.node_miss,
            &mut self.step_slow,
            &mut self.step_late,
            &mut self.step_pause,
        ];
        for rate in rates {
            // Harm at rest is a hundred times as likely per crash: its share stays below one, too.
            *rate = rate.saturating_mul(times).min((*rate).max(500_000));
        }
    }
}

/// Weights of guest operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    /// In the order of [`crate::workload::Kind`].
    pub weights: [u32; 8],
    /// FUA writes in a hundred.
    pub fua: u32,
    /// Aborts in a hundred operations.
    pub abort: u32,
    /// Operations in a hundred that go to the hot blocks.
    pub hot: u32,
    /// Longest ordinary extent, in blocks.
    pub longest: u64,
}

/// What a target asks of who logs in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Guard {
    /// Anybody may enter.
    Open,
    /// Initiators prove themselves, by CHAP.
    OneWay,
    /// The target does, too, if it is asked to.
    Mutual,
}

/// How guests reach the engine over iSCSI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Iscsi {
    /// Commands that a session may have at the target.
    pub window: u32,
    /// Bytes of a session's commands under way and answers unsent.
    pub inflight_bytes: u64,
    /// Bytes that a target's socket takes before its initiator has read them.
    pub socket_bytes: u64,
    /// The target's offer: data segments, bursts, unsolicited bytes.
    pub max_recv: u32,
    /// The same.
    pub max_burst: u32,
    /// The same.
    pub first_burst: u32,
    /// The same.
    pub initial_r2t: bool,
    /// The same.
    pub immediate_data: bool,
    /// Whether initiators must prove who they are.
    pub guard: Guard,
    /// Whether initiators reserve.
    pub reserves: bool,
    /// Of a hundred logins, how many offer digests.
    pub digests: u32,
    /// Longest way of a segment, in microseconds.
    pub latency_us: u64,
    /// Whether streams are cut anywhere.
    pub cuts: bool,
    /// Whether initiators expect other lengths than their commands have.
    pub odd_lengths: bool,
    /// A connection breaks, per operation.
    pub breaks: u32,
    /// A bit is flipped, per operation on a connection with digests.
    pub flips: u32,
    /// An initiator stops reading, per operation.
    pub stalls: u32,
}

/// Everything that a seed decides before it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the run is about.
    pub profile: Profile,
    /// Shape of the volume.
    pub geometry: Geometry,
    /// The engine's bounds.
    pub limits: Limits,
    /// Faults.
    pub faults: Faults,
    /// Guest operations.
    pub mix: Mix,
    /// Guest operations in the run.
    pub ops: u64,
    /// Operator's wishes in the run.
    pub wishes: u64,
    /// Of a hundred wishes, how many are for a clone.
    pub clones: u32,
    /// Hosts.
    pub hosts: u32,
    /// Initiators of a host.
    pub initiators: u32,
    /// Commands in flight of an initiator.
    pub depth: u32,
    /// Longest wait between a guest's commands, in microseconds.
    pub think_us: u64,
    /// Chunks loaded at birth, in a hundred.
    pub loaded: u32,
    /// Whether real bytes and the real codecs are used.
    pub expanded: bool,
    /// Longest local operation, in microseconds.
    pub disk_us: u64,
    /// Longest ordinary store request, in milliseconds.
    pub store_ms: u64,
    /// Whether requests go as HTTP through the store machine to a replicated Swift.
    pub wire: bool,
    /// Whether assumption A1 holds: a confirmed write is found. Else the nodes that took one may be down together while
    /// those that missed it are back: up to two GETs of one name hear 404.
    pub a1: bool,
    /// Whether a restart is followed by a read of every block before anything else.
    pub sweep: bool,
    /// Guests go through iSCSI; `None`: they ask the engine itself.
    pub iscsi: Option<Iscsi>,
    /// What is asked, instead of drawn operations.
    pub script: Option<crate::exhaustive::Script>,
}

/// Upper bounds that a shrunk case puts on what its seed draws; `None`: as drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bounds {
    /// Operator's wishes.
    pub wishes: Option<u64>,
    /// Grains of the volume; it keeps at least eight blocks.
    pub grains: Option<u64>,
    /// Hosts, at least one.
    pub hosts: Option<u32>,
    /// Commands in flight of all initiators of a host together, at least one.
    pub commands: Option<u32>,
    /// A *lower* bound: waits of guests, in microseconds. Few operations that fill the time of many leave hosts and store
    /// the time for what they do meanwhile.
    pub think_us: Option<u64>,
    /// No upper bound either: rates of faults are so many times what was drawn, up to one chance in two.
    pub boost: Option<u32>,
}

impl Config {
    /// Assumption A1 does not hold: the first false absence strikes with that rate.
    pub const fn break_a1(&mut self, ppm: u32) {
        self.a1 = false;
        self.faults.false_absence = ppm;
    }

    /// Makes what was drawn no bigger than `bounds`.
    pub fn bound(&mut self, bounds: &Bounds) {
        if let Some(wishes) = bounds.wishes {
            self.wishes = self.wishes.min(wishes);
        }
        if let Some(hosts) = bounds.hosts {
            self.hosts = self.hosts.min(hosts.max(1));
        }
        if let Some(commands) = bounds.commands {
            let commands = commands.max(1);
            self.initiators = self.initiators.min(commands);
            self.depth = self.depth.min((commands / self.initiators).max(1));
        }
        if let Some(think_us) = bounds.think_us {
            self.think_us = self.think_us.max(think_us);
        }
        if let Some(boost) = bounds.boost {
            self.faults.boost(boost);
        }
        if let Some(grains) = bounds.grains {
            let blocks = (grains * self.geometry.grain_blocks()).max(8);
            let capacity = self.geometry.capacity.0.min(blocks);
            self.geometry.capacity = BlockCount(capacity);
            self.mix.longest = self.mix.longest.min(capacity);
        }
    }

    /// Draws a configuration.
    pub fn draw(choices: &mut Choices, profile: Profile, ops: Option<u64>) -> Self {
        let mut d = Draw {
            choices,
            entity: 0,
            nth: 0,
        };
        let block_bytes = d.one_of(&[4096, 4096, 512]);
        let geometry = d.geometry(block_bytes);
        let limits = d.limits(&geometry);
        let faults = d.faults(profile);
        let mix = d.mix(&geometry, &limits);
        let ops = ops.unwrap_or_else(|| d.between(200, 3000));
        let hosts = match profile {
            Profile::Fencing => d.between(2, 3) as u32,
            Profile::All => d.between(1, 3) as u32,
            _ => 1,
        };
        let wishes = match profile {
            Profile::Snapshot | Profile::Fencing => ops / d.between(10, 60),
            Profile::Safety => ops / d.between(50, 400),
            _ => ops / d.between(20, 200),
        };
        let mut config = Self {
            profile,
            geometry,
            limits,
            faults,
            mix,
            ops,
            wishes,
            clones: 0,
            hosts,
            initiators: d.between(1, 3) as u32,
            depth: d.one_of(&[1, 2, 4, 8, 16, 32]),
            think_us: d.one_of(&[0, 10, 200, 5_000, 100_000]),
            loaded: d.one_of(&[0, 0, 30, 100]),
            expanded: d.choices.seed() % 64 == 63,
            disk_us: d.one_of(&[1, 20, 200, 5_000]),
            store_ms: d.one_of(&[1, 20, 200, 1_000]),
            wire: matches!(profile, Profile::Wire | Profile::All)
                || profile == Profile::Fencing && d.of(2) == 1,
            a1: true,
            sweep: d.of(3) > 0,
            iscsi: d.iscsi(profile),
            script: None,
        };
        if profile == Profile::Gc {
            let interval = Duration::from_secs(d.one_of(&[3600, 60, 300]));
            config.limits.collect_interval = interval;
        }
        // Whatever is added draws from an entity of its own: what a seed drew before stays as it was.
        (d.entity, d.nth) = (1, 0);
        d.harm(profile, &mut config.faults);
        if matches!(profile, Profile::Snapshot | Profile::Gc | Profile::All) {
            config.clones = d.rate(30);
        }
        if profile == Profile::Fencing && config.wire && d.of(3) == 2 {
            config.break_a1(d.one_of(&[5_000, 20_000, 100_000]) as u32);
        }
        (d.entity, d.nth) = (2, 0);
        if profile != Profile::Liveness && d.of(3) == 2 {
            config.faults.object_rot = d.rate(20_000);
        }
        (d.entity, d.nth) = (3, 0);
        config.faults.lasting = d.one_of(&[0, 0, 0, 0, 0, 1]) as u32;
        (d.entity, d.nth) = (4, 0);
        if profile == Profile::Fencing && d.of(2) == 1 {
            config.hosts = 3;
        }
        if config.hosts > 1 && d.of(3) > 0 {
            let faults = &mut config.faults;
            faults.step_slow = d.rate(300_000);
            faults.step_late = d.rate(300_000);
            faults.step_pause = d.rate(100_000);
        }
        d.narrow(&mut config);
        (d.entity, d.nth) = (5, 0);
        let guards = [Guard::Open, Guard::Open, Guard::OneWay, Guard::Mutual];
        let guard = guards[d.of(4) as usize];
        let reserves = d.of(3) == 2;
        if let Some(iscsi) = &mut config.iscsi {
            iscsi.guard = guard;
            iscsi.reserves = reserves;
        }
        config
    }
}

struct Draw<'a> {
    choices: &'a mut Choices,
    entity: u64,
    nth: u32,
}

impl Draw<'_> {
    fn of(&mut self, of: u64) -> u64 {
        self.nth += 1;
        self.choices.pick(Die::Config, self.entity, self.nth, of)
    }

    // Harm to the journal at rest, and the loss of all of it.
    fn harm(&mut self, profile: Profile, faults: &mut Faults) {
        let is_on = !matches!(profile, Profile::Liveness | Profile::Wire) && self.of(3) == 2;
        if is_on {
            faults.rot = self.rate(5_000);
            faults.latent = self.rate(5_000);
            faults.misdirect = self.rate(5_000);
        }
        let loses = !matches!(profile, Profile::Liveness | Profile::Wire) && self.of(4) == 3;
        if loses {
            faults.disk_lost = self.rate(300_000);
        }
    }

    // A volume of one or two chunks that is published again and again: entries grow deep and are merged. And a disk that
    // fails often: records are written twice, or not at all.
    fn narrow(&mut self, config: &mut Config) {
        let is_wide = matches!(config.profile, Profile::Liveness | Profile::Gc);
        if !is_wide && self.of(4) == 3 {
            let grains = u64::from(config.geometry.chunk_grains) * self.between(1, 2);
            config.bound(&Bounds {
                grains: Some(grains),
                ..Bounds::default()
            });
            config.wishes = config.wishes.max(config.ops / self.between(8, 30));
        }
        let has_disk_faults = matches!(config.profile, Profile::Safety | Profile::All);
        if has_disk_faults && self.of(4) == 3 {
            let faults = &mut config.faults;
            faults.append_fails = self.between(5_000, 100_000) as u32;
            faults.disk_full = self.between(0, 3) as u32 * 100_000;
        }
    }

    fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.of(to - from + 1)
    }

    fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.of(items.len() as u64) as usize]
    }

    // A rate that is off in half of the seeds.
    fn rate(&mut self, high: u64) -> u32 {
        let on = self.of(2) == 1;
        let value = self.of(high) as u32 + 1;
        if on { value } else { 0 }
    }

    fn iscsi(&mut self, profile: Profile) -> Option<Iscsi> {
        let is_on = match profile {
            Profile::All => true,
            Profile::Wire => self.of(2) == 1,
            _ => false,
        };
        is_on.then(|| Iscsi {
            window: self.one_of(&[128, 1, 2, 8]) as u32,
            inflight_bytes: self.one_of(&[32 << 20, 1 << 20, 16 << 10]),
            socket_bytes: self.one_of(&[1 << 20, 64 << 10, 4096]),
            max_recv: self.one_of(&[256 << 10, 8192, 4096, 512]) as u32,
            max_burst: self.one_of(&[1 << 20, 64 << 10, 8192]) as u32,
            first_burst: self.one_of(&[256 << 10, 8192, 4096]) as u32,
            initial_r2t: self.of(4) == 3,
            immediate_data: self.of(4) < 3,
            guard: Guard::Open,
            reserves: false,
            digests: self.one_of(&[0, 50, 100]) as u32,
            latency_us: self.one_of(&[10, 100, 2_000]),
            cuts: self.of(2) == 1,
            odd_lengths: self.of(3) == 2,
            breaks: self.rate(10_000),
            flips: self.rate(20_000),
            stalls: self.rate(5_000),
        })
    }

    fn geometry(&mut self, block_bytes: u32) -> Geometry {
        let grains = if self.of(8) == 7 {
            self.between(300, 700)
        } else {
            self.between(8, 200)
        };
        let per_grain = u64::from(4096 / block_bytes);
        let ragged = if per_grain > 1 { self.of(per_grain) } else { 0 };
        let capacity = (grains * per_grain - ragged).max(8);
        Geometry {
            block_bytes,
            capacity: BlockCount(capacity),
            chunk_grains: self.one_of(&[8, 1, 2, 4, 16, 32]),
            leaf_chunks: self.one_of(&[4, 1, 2, 8]),
            frame_grains: self.one_of(&[4, 1, 2, 3, 16]) as u32,
        }
    }

    fn limits(&mut self, geometry: &Geometry) -> Limits {
        let page = 4096;
        let file_pages = self.one_of(&[64, 16, 24, 40, 300, 1100]);
        let ms = Duration::from_millis;
        Limits {
            file_bytes: ByteCount(file_pages * page),
            files: self.one_of(&[8, 4, 5, 6, 16]),
            unsynced_bytes: ByteCount(page * self.one_of(&[64, 8, 300])),
            inflight_bytes: ByteCount(page * self.one_of(&[256, 300, 1024])),
            inflight_commands: self.one_of(&[64, 4, 16]),
            cache_slots: self.one_of(&[16, 0, 1, 4, 64]),
            leaves: self.one_of(&[8, 1, 2]),
            uploads: self.one_of(&[4, 1, 2]),
            hydrations: self.one_of(&[4, 1, 16]),
            object_bytes: ByteCount(
                self.one_of(&[16, 2, 4, 64]) * page * u64::from(geometry.frame_grains).min(4),
            ),
            riding_bytes: ByteCount(self.one_of(&[1024, 0, 300, 32 << 10])),
            leaves_bytes: ByteCount(self.one_of(&[4096, 600, 1 << 20])),
            checkpoint_interval: ms(self.one_of(&[300_000, 1_000, 20_000])),
            high_water: self.one_of(&[50, 30, 80]),
            delete_grace: ms(self.one_of(&[600_000, 300_000])),
            min_age: Duration::from_secs(120),
            ..Limits::default()
        }
    }

    fn mix(&mut self, geometry: &Geometry, limits: &Limits) -> Mix {
        // A record has room in a quarter of a file.
        let record = limits.file_bytes.0 / 4 / u64::from(geometry.block_bytes);
        let mut weights = [0; 8];
        let common = [40, 40, 8, 6, 4, 3, 6, 3];
        for (weight, usual) in weights.iter_mut().zip(common) {
            // Each kind is left out of a fifth of the seeds.
            *weight = if self.of(5) == 4 { 0 } else { usual };
        }
        // Writes and reads at least now and then, or nothing is tested.
        weights[0] = weights[0].max(5);
        weights[1] = weights[1].max(10);
        Mix {
            weights,
            fua: self.one_of(&[0, 5, 30, 100]),
            abort: self.one_of(&[0, 0, 2, 10]),
            hot: self.one_of(&[0, 50, 90]),
            longest: self
                .one_of(&[1, 4, 16, 64, 600])
                .min(geometry.capacity.0)
                .min(record),
        }
    }

    fn faults(&mut self, profile: Profile) -> Faults {
        let disk = matches!(profile, Profile::Safety | Profile::All | Profile::Gc);
        let store = true;
        let mut faults = Faults {
            crashes: self.of(8) as u32,
            power_share: self.one_of(&[50, 0, 100]),
            outages: self.of(3) as u32,
            pauses: if matches!(profile, Profile::Fencing | Profile::All) {
                self.of(8) as u32
            } else {
                0
            },
            cache_rot: self.rate(2_000),
            ..Faults::default()
        };
        if disk {
            faults.append_fails = self.rate(3_000);
            faults.sync_fails = self.rate(3_000);
            faults.disk_fails = self.rate(5_000);
            faults.disk_full = self.rate(20_000);
            faults.disk_stall = self.rate(500);
        }
        if store {
            faults.store_lost = self.rate(50_000);
            faults.answer_lost = self.rate(50_000);
            faults.store_late = self.rate(50_000);
            faults.store_busy = self.rate(100_000);
            faults.store_full = self.rate(10_000);
            faults.store_slow = self.rate(100_000);
            faults.body_hurt = self.rate(50_000);
            faults.node_miss = self.rate(200_000);
            faults.node_downs = self.of(5) as u32;
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::Edits;

    #[test]
    fn bounds_make_smaller_and_never_bigger_or_empty() {
        let smallest = Bounds {
            wishes: Some(0),
            grains: Some(0),
            hosts: Some(0),
            commands: Some(0),
            ..Bounds::default()
        };
        let none_smaller = Bounds {
            wishes: Some(u64::MAX),
            grains: Some(1 << 40),
            hosts: Some(u32::MAX),
            commands: Some(u32::MAX),
            think_us: Some(0),
            boost: Some(1),
        };
        for seed in 0..200 {
            let drawn = Config::draw(
                &mut Choices::seeded(seed, Edits::default()),
                Profile::All,
                None,
            );
            let mut small = drawn.clone();
            small.bound(&smallest);
            assert!(small.geometry.is_valid() && small.geometry.capacity.0 >= 8);
            assert!(small.mix.longest <= small.geometry.capacity.0);
            assert_eq!((small.wishes, small.hosts), (0, 1));
            assert_eq!((small.initiators, small.depth), (1, 1));
            let mut same = drawn.clone();
            same.bound(&none_smaller);
            assert_eq!(format!("{same:?}"), format!("{drawn:?}"));
        }
    }
}
