//! What guests ask: drawn per operation, each from a die of its own.

use crate::choice::{Choices, Die};
use crate::config::Config;
use engine::units::Extent;

/// Kinds of guest operation, in the order of [`crate::config::Mix::weights`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Kind {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Flush.
    Flush,
    /// Discard of one or more extents.
    Discard,
    /// Write zeros.
    WriteZeroes,
    /// Compare and write.
    CompareAndWrite,
    /// Set or remove an attribute.
    Attribute,
    /// A request that must be refused: behind the end, or too many extents.
    Wrong,
}

impl Kind {
    /// In the order of the weights.
    pub const ALL: [Self; 8] = [
        Self::Read,
        Self::Write,
        Self::Flush,
        Self::Discard,
        Self::WriteZeroes,
        Self::CompareAndWrite,
        Self::Attribute,
        Self::Wrong,
    ];
}

/// A guest operation before it has content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What.
    pub kind: Kind,
    /// Where; more than one only for a discard.
    pub extents: Vec<Extent>,
    /// Force unit access.
    pub fua: bool,
    /// A small number that the kind uses as it likes.
    pub extra: u64,
}

/// Draws operation `n`.
pub fn plan(choices: &mut Choices, config: &Config, n: u64) -> Plan {
    let kind = Kind::ALL[choices.weighted(Die::Op, n, 0, &config.mix.weights)];
    let fua = choices.pick(Die::Op, n, 1, 100) < u64::from(config.mix.fua);
    let extra = choices.pick(Die::Op, n, 2, 1 << 16);
    let mut extents = vec![extent(choices, config, n, 3, longest(kind, config))];
    match kind {
        Kind::Discard => {
            let more = choices.pick(Die::Op, n, 6, 8).saturating_sub(3);
            for i in 0..more as u32 {
                let next = extent(choices, config, n, 10 + 3 * i, config.mix.longest.max(8));
                if extents.iter().all(|e| e.intersect(next).is_none()) {
                    extents.push(next);
                }
            }
        }
        Kind::Wrong => {
            let capacity = config.geometry.capacity.0;
            extents = vec![match extra % 3 {
                0 => Extent::new(capacity, 1),
                1 => Extent::new(capacity - 1, 2),
                _ => Extent::new(u64::MAX / 8192, 1),
            }];
        }
        Kind::Flush | Kind::Attribute => extents.clear(),
        Kind::Read | Kind::Write | Kind::WriteZeroes | Kind::CompareAndWrite => {}
    }
    Plan {
        kind,
        extents,
        fua,
        extra,
    }
}

fn longest(kind: Kind, config: &Config) -> u64 {
    // COMPARE AND WRITE is one record, at most 1 MiB.
    let record = u64::from((1 << 20) / config.geometry.block_bytes);
    match kind {
        Kind::CompareAndWrite => config.mix.longest.min(record).min(16),
        Kind::Discard | Kind::WriteZeroes => config.geometry.capacity.0,
        _ => config.mix.longest,
    }
}

fn extent(choices: &mut Choices, config: &Config, n: u64, nth: u32, longest: u64) -> Extent {
    let capacity = config.geometry.capacity.0;
    // Mostly short: the longest in one of eight.
    let short = choices.pick(Die::Op, n, nth, 8) != 7;
    let bound = if short {
        longest.min(2 * config.geometry.grain_blocks())
    } else {
        longest
    };
    let count = 1 + choices.pick(Die::Op, n, nth + 1, bound);
    let room = capacity - count;
    let hot = choices.pick(Die::Op, n, nth + 2, 100) < u64::from(config.mix.hot);
    let range = if hot {
        room.min(3 * config.geometry.grain_blocks())
    } else {
        room
    };
    let start = choices.pick(Die::Op, n, nth + 1000, range + 1);
    Extent::new(start, count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::Edits;
    use crate::config::Profile;

    #[test]
    fn planned_extents_lie_in_the_volume_but_for_wrong_ones() {
        for seed in 0..300 {
            let mut choices = Choices::seeded(seed, Edits::default());
            let config = Config::draw(&mut choices, Profile::All, None);
            assert!(config.geometry.is_valid());
            for n in 0..100 {
                let plan = plan(&mut choices, &config, n);
                let inside = plan
                    .extents
                    .iter()
                    .all(|e| config.geometry.whole().contains(*e));
                assert_eq!(
                    inside,
                    plan.kind != Kind::Wrong,
                    "{plan:?} of {:?}",
                    config.geometry
                );
                assert!(plan.extents.iter().all(|e| !e.is_empty()));
            }
        }
    }
}
