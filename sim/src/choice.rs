//! Every die that is thrown, behind one source.
//!
//! A choice is named by its die, the entity it is about and a number within that entity; its value is a hash of the
//! seed and that name. So taking one operation or one fault out of a run does not shift the others, which is what makes
//! a failing run shrink. By convention 0 is the simplest value: no fault, the shortest wait, the smallest size.

use std::collections::BTreeSet;

macro_rules! dice {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What a choice is about. Faults are dice of their own, so that each kind can be switched off.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u16)]
        pub enum Die { $($(#[$doc])* $name,)* }
        impl Die {
            /// Every die.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// Its name in choice files and reports.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

dice! {
    /// The swarm: which kinds of operation and fault this seed uses, and the sizes of everything.
    Config = "config",
    /// A guest operation: kind, place, length.
    Op = "op",
    /// The wait before a guest operation.
    Think = "think",
    /// An operator's wish.
    Wish = "wish",
    /// How long a local operation takes.
    DiskTime = "disk-time",
    /// How long a store request takes.
    StoreTime = "store-time",
    /// Crash of a process, kill -9: what was written stays.
    Kill = "kill",
    /// Power loss: any subset of what was not synced stays.
    Power = "power",
    /// What a write in flight or not synced left behind.
    Landing = "landing",
    /// A process stands still for a while, and goes on.
    Pause = "pause",
    /// An append that fails, or is short.
    AppendFails = "append-fails",
    /// A sync that fails and marks the pages clean.
    SyncFails = "sync-fails",
    /// No space on the local disk.
    DiskFull = "disk-full",
    /// Another local request that fails.
    DiskFails = "disk-fails",
    /// A local operation that stands still for a long time.
    DiskStall = "disk-stall",
    /// Rot: the bytes of a journal page change.
    Rot = "rot",
    /// A journal page cannot be read.
    Latent = "latent",
    /// A read that returns another page's bytes.
    Misread = "misread",
    /// The frame cache's file loses pages.
    CacheRot = "cache-rot",
    /// A request that never reaches the store.
    StoreLost = "store-lost",
    /// A request that is carried out and whose answer is lost.
    AnswerLost = "answer-lost",
    /// A request that is carried out after its sender gave up.
    StoreLate = "store-late",
    /// The store answers with an error.
    StoreBusy = "store-busy",
    /// The store has no space.
    StoreFull = "store-full",
    /// The store cannot be reached at all for a while.
    Outage = "outage",
    /// A store request that takes very long.
    StoreSlow = "store-slow",
    /// An object that was damaged in the store.
    ObjectRot = "object-rot",
    /// A replica of the store is away for a while.
    NodeDown = "node-down",
    /// A replica misses a request.
    NodeMiss = "node-miss",
    /// The clock of a proxy of the store.
    ProxyClock = "proxy-clock",
    /// Replication and listing updates of the store.
    Replicate = "replicate",
    /// Which replica answers first.
    FirstReplica = "first-replica",
    /// Another host takes the volume over.
    TakeOver = "take-over",
    /// A guest takes a command back.
    Abort = "abort",
    /// Process randomness handed to an engine.
    Seed = "seed",
    /// A connection breaks.
    Link = "link",
    /// How bytes travel over a connection: latency, and where they are cut.
    Segment = "segment",
    /// What an initiator offers in a login.
    Keys = "keys",
    /// A bit is flipped on a connection that has digests.
    Flip = "flip",
    /// An initiator takes nothing from its connection for a while.
    SlowReader = "slow-reader",
    /// The write of a journal's record went elsewhere in the journal.
    Misdirect = "misdirect",
    /// A host loses its disk: the folder is gone.
    DiskLost = "disk-lost",
    /// A wish becomes a clone of a snapshot, or of the present.
    Clone = "clone",
    /// A confirmed object is not found: assumption A1 is broken.
    FalseAbsence = "false-absence",
    /// Rot of a page of a note's slots, or one that cannot be read.
    NoteRot = "note-rot",
    /// A login without the secret, or that tries to learn it.
    Intruder = "intruder",
    /// An error of the store, its identity service or the local disk that stays until a stated moment.
    Lasting = "lasting",
    /// A request of the protocol between hosts takes seconds.
    StepSlow = "step-slow",
    /// The way breaks under a write of that protocol, and it lands later.
    StepLate = "step-late",
    /// A host stands still between two steps of that protocol.
    StepPause = "step-pause",
}

impl Die {
    /// Those that say what goes wrong, and what initiators and operators do about it; each strike is counted.
    pub const FAULTS: &'static [Self] = &[
        Self::Kill,
        Self::Power,
        Self::Pause,
        Self::AppendFails,
        Self::SyncFails,
        Self::DiskFull,
        Self::DiskFails,
        Self::DiskStall,
        Self::Rot,
        Self::Latent,
        Self::Misdirect,
        Self::DiskLost,
        Self::NoteRot,
        Self::CacheRot,
        Self::StoreLost,
        Self::AnswerLost,
        Self::StoreLate,
        Self::StoreBusy,
        Self::StoreFull,
        Self::StoreSlow,
        Self::Outage,
        Self::Misread,
        Self::ObjectRot,
        Self::NodeDown,
        Self::NodeMiss,
        Self::FalseAbsence,
        Self::Lasting,
        Self::StepSlow,
        Self::StepLate,
        Self::StepPause,
        Self::TakeOver,
        Self::Clone,
        Self::Abort,
        Self::Link,
        Self::Flip,
        Self::SlowReader,
        Self::Intruder,
    ];

    /// The die of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|d| d.name() == name)
    }
}

/// What is taken out of a run, compared with what the seed alone gives.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Edits {
    /// Dice that always show 0.
    pub dice: BTreeSet<Die>,
    /// Single entities of a die that always show 0 (an operation that is left out, a fault that does not strike).
    pub entities: BTreeSet<(Die, u64)>,
}

/// Where values come from.
#[derive(Clone, Debug)]
enum Back {
    /// A hash of seed and name.
    Seeded,
    /// Bytes in the order asked, then 0.
    Bytes { bytes: Vec<u8>, at: usize },
    /// All combinations, one path at a time; dice that are not enumerated show 0.
    Enumerated {
        path: Vec<(u64, u64)>,
        at: usize,
        dice: BTreeSet<Die>,
    },
}

/// The source of every choice in a run.
#[derive(Clone, Debug)]
pub struct Choices {
    seed: u64,
    back: Back,
    edits: Edits,
}

impl Choices {
    /// Choices made by `seed`, with `edits` taken out.
    pub const fn seeded(seed: u64, edits: Edits) -> Self {
        Self {
            seed,
            back: Back::Seeded,
            edits,
        }
    }

    /// Choices read from bytes, for a fuzzer.
    pub fn bytes(bytes: &[u8]) -> Self {
        Self {
            seed: 0,
            back: Back::Bytes {
                bytes: bytes.to_vec(),
                at: 0,
            },
            edits: Edits::default(),
        }
    }

    /// The first path of an enumeration of `dice`.
    pub fn enumerated(dice: &[Die]) -> Self {
        Self {
            seed: 0,
            back: Back::Enumerated {
                path: Vec::new(),
                at: 0,
                dice: dice.iter().copied().collect(),
            },
            edits: Edits::default(),
        }
    }

    /// The next path after this one was walked to its end; `None` when all were.
    pub fn next_path(self) -> Option<Self> {
        let Back::Enumerated { mut path, at, dice } = self.back else {
            return None;
        };
        path.truncate(at);
        while let Some((value, of)) = path.pop() {
            if value + 1 < of {
                path.push((value + 1, of));
                let back = Back::Enumerated { path, at: 0, dice };
                return Some(Self { back, ..self });
            }
        }
        None
    }

    /// The seed.
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// A number below `of` (0 when `of` is 0 or 1).
    pub fn pick(&mut self, die: Die, entity: u64, nth: u32, of: u64) -> u64 {
        if of <= 1 {
            return 0;
        }
        if self.is_off(die, entity) {
            return 0;
        }
        match &mut self.back {
            Back::Seeded => {
                let value = hash(self.seed, die, entity, nth);
                // The high half of a 64 × 64 bit product: no division, and as even as makes no difference.
                ((u128::from(value) * u128::from(of)) >> 64) as u64
            }
            Back::Bytes { bytes, at } => {
                let width = if of <= 256 { 1 } else { 4 };
                let mut value = 0_u64;
                for _ in 0..width {
                    value = value << 8 | u64::from(bytes.get(*at).copied().unwrap_or(0));
                    *at += 1;
                }
                value % of
            }
            Back::Enumerated { path, at, dice } => {
                if !dice.contains(&die) {
                    return 0;
                }
                if *at == path.len() {
                    path.push((0, of));
                }
                let (value, bound) = path[*at];
                debug_assert_eq!(bound, of, "an enumerated run takes other turns than before");
                *at += 1;
                value
            }
        }
    }

    /// A number in `from..=to`.
    pub fn between(&mut self, die: Die, entity: u64, nth: u32, from: u64, to: u64) -> u64 {
        from + self.pick(die, entity, nth, to - from + 1)
    }

    /// Yes, `ppm` times in a million.
    pub fn chance(&mut self, die: Die, entity: u64, nth: u32, ppm: u32) -> bool {
        if ppm == 0 {
            return false;
        }
        // 0 is the simplest value and means no.
        let of = 1_000_000;
        self.pick(die, entity, nth, of) >= of - u64::from(ppm.min(999_999))
    }

    /// One of `items`.
    pub fn one_of<T: Copy>(&mut self, die: Die, entity: u64, nth: u32, items: &[T]) -> T {
        items[self.pick(die, entity, nth, items.len() as u64) as usize]
    }

    /// An index into `weights`, each as likely as its weight; 0 when all weights are 0.
    pub fn weighted(&mut self, die: Die, entity: u64, nth: u32, weights: &[u32]) -> usize {
        let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
        let mut value = self.pick(die, entity, nth, total);
        for (i, weight) in weights.iter().enumerate() {
            if value < u64::from(*weight) {
                return i;
            }
            value -= u64::from(*weight);
        }
        0
    }

    /// Whether that entity was taken out.
    pub fn is_off(&self, die: Die, entity: u64) -> bool {
        (!self.edits.dice.is_empty() && self.edits.dice.contains(&die))
            || (!self.edits.entities.is_empty() && self.edits.entities.contains(&(die, entity)))
    }
}

/// A number from a name. Three rounds of multiply and fold: each input bit reaches each output bit.
pub fn hash(seed: u64, die: Die, entity: u64, nth: u32) -> u64 {
    let name = (die as u64) << 32 | u64::from(nth);
    mix(mix(seed ^ 0x9e37_79b9_7f4a_7c15, name), entity)
}

/// Mixes `b` into `a`.
pub const fn mix(a: u64, b: u64) -> u64 {
    let product = (a ^ 0xd6e8_feb8_6659_fd93) as u128 * ((b ^ 0xa076_1d64_78bd_642f) as u128);
    let folded = (product as u64) ^ (product >> 64) as u64;
    let x = (folded ^ a.rotate_left(32) ^ b).wrapping_mul(0x9fb2_1c65_1e98_df25);
    x ^ x >> 29
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_one_entity_out_leaves_the_others() {
        let mut whole = Choices::seeded(7, Edits::default());
        let mut edits = Edits::default();
        edits.entities.insert((Die::Op, 3));
        let mut cut = Choices::seeded(7, edits);
        for entity in 0..10 {
            let (a, b) = (
                whole.pick(Die::Op, entity, 0, 1000),
                cut.pick(Die::Op, entity, 0, 1000),
            );
            assert_eq!(b, if entity == 3 { 0 } else { a });
        }
    }

    #[test]
    fn an_enumeration_walks_every_combination_once() {
        let mut seen = BTreeSet::new();
        let mut next = Some(Choices::enumerated(&[Die::Op, Die::Kill]));
        while let Some(mut choices) = next {
            let a = choices.pick(Die::Op, 0, 0, 3);
            let b = if a == 1 {
                choices.pick(Die::Kill, 0, 0, 4)
            } else {
                9
            };
            assert_eq!(choices.pick(Die::Think, 0, 0, 5), 0);
            assert!(seen.insert((a, b)));
            next = choices.next_path();
        }
        assert_eq!(seen.len(), 6);
    }

    #[test]
    fn picks_are_even() {
        let mut choices = Choices::seeded(1, Edits::default());
        let mut counts = [0_u32; 10];
        for entity in 0..100_000 {
            counts[choices.pick(Die::Op, entity, 0, 10) as usize] += 1;
        }
        assert!(
            counts.iter().all(|c| (9_600..10_400).contains(c)),
            "{counts:?}"
        );
    }

    #[test]
    fn bytes_end_in_zeros() {
        let mut choices = Choices::bytes(&[5]);
        assert_eq!(choices.pick(Die::Op, 0, 0, 8), 5);
        assert_eq!(choices.pick(Die::Op, 0, 1, 8), 0);
    }
}
