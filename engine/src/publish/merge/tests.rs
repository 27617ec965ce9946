use super::*;
use crate::ids::Version;
use crate::table::acts::{Act, GRAINS, delta, geometry, section};
use crate::table::apply::{ChunkDelta, apply};
use crate::table::resolve::{Base, resolve};
use crate::table::types::{GrainSet, Layer};
use crate::units::GrainIndex;
use alloc::vec;
use proptest::prelude::*;

/// The version that merges.
const NOW: u64 = 99;

fn act(lost: u32) -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => Just(Act::Nothing),
        2 => Just(Act::Data),
        3 => (1_u8..255).prop_map(Act::Part),
        2 => Just(Act::Hole),
        lost => (1_u8..).prop_map(Act::Lost),
    ]
}

fn acts(lost: u32) -> impl Strategy<Value = Vec<Act>> {
    proptest::collection::vec(act(lost), usize::from(GRAINS))
}

/// What a block reads as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Block {
    Zeros,
    Lost,
    /// As that version wrote it.
    Of(u64),
}

type Grain = [Block; 8];

fn seen(entry: Option<&Entry>, grain: u16) -> Grain {
    let sources = resolve(entry, grain, &geometry());
    core::array::from_fn(|block| {
        let bit = 1 << block;
        if sources.lost & bit != 0 {
            return Block::Lost;
        }
        if let Some((_, place)) = sources.parts.iter().find(|(mask, _)| mask & bit != 0) {
            return Block::Of(place.layer.version.0);
        }
        match sources.base {
            Base::Data(place) => Block::Of(place.layer.version.0),
            Base::Hole => Block::Zeros,
        }
    })
}

/// What a version that does this makes of what there was.
fn after(was: Grain, act: Act) -> Grain {
    core::array::from_fn(|block| match act {
        Act::Data => Block::Of(NOW),
        Act::Hole => Block::Zeros,
        Act::Part(mask) if mask >> block & 1 == 1 => Block::Of(NOW),
        _ => was[block],
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_merge_changes_no_block_and_leaves_one_version_in_place_of_many(
        (history, frozen) in (0..=1_u32).prop_flat_map(|lost| {
            (proptest::collection::vec(acts(lost), 3..14), acts(0))
        })
    ) {
        let mut entry = None;
        for (version, acts) in (1..).zip(&history) {
            entry = apply(entry.as_ref(), delta(version, acts));
        }
        let Some(entry) = entry else { return Ok(()) };
        let mut work = ChunkWork::default();
        let mut covered = GrainBits::default();
        let mut part = BTreeMap::new();
        for (grain, act) in (0..).zip(&frozen) {
            let index = GrainIndex(u64::from(grain));
            match act {
                Act::Data => {
                    covered.insert(grain);
                    work.stored.push((index, 0xff, true));
                }
                Act::Hole => {
                    covered.insert(grain);
                    work.hole.push(grain);
                }
                Act::Part(mask) => {
                    part.insert(grain, *mask);
                    work.stored.push((index, *mask, false));
                }
                _ => {}
            }
        }
        let Some(plan) = plan(&entry, &covered, &part, &geometry()) else {
            prop_assert_eq!(merge_count(&entry), None);
            return Ok(());
        };
        // The bytes, as they will lie in the object.
        let mut bytes: BTreeMap<u16, Grain> = BTreeMap::new();
        for take in &plan.takes {
            let layer: &Layer = &entry.layers[take.layer];
            for (slot, (grain, mask)) in take.slots().zip(&take.grains) {
                let rank = layer.grains.rank(*grain).unwrap();
                prop_assert_eq!((rank / 3, rank % 3), (take.frame, slot));
                let to = bytes.entry(*grain).or_insert([Block::Zeros; 8]);
                for block in (0..8).filter(|block| mask >> block & 1 == 1) {
                    prop_assert_eq!(to[block], Block::Zeros, "no block is taken twice");
                    to[block] = Block::Of(layer.version.0);
                }
            }
        }
        for (grain, act) in (0..).zip(&frozen) {
            if let Act::Part(_) | Act::Data = act {
                let to = bytes.entry(grain).or_insert([Block::Zeros; 8]);
                *to = after(*to, *act);
            }
        }
        plan.join(&mut work, GrainIndex(0));
        let (whole, parts): (Vec<_>, Vec<_>) = work.stored.iter().partition(|(_, _, whole)| *whole);
        let grains = |of: &[(GrainIndex, u8, bool)]| {
            GrainSet::from_ascending(of.iter().map(|(grain, _, _)| grain.0 as u16))
        };
        let mut new = ChunkDelta::new(Version(NOW));
        new.hole = GrainSet::from_ascending(work.hole.iter().copied());
        new.data = Some((section(NOW, 0), grains(&whole)));
        let masks = parts.iter().map(|(_, mask, _)| *mask).collect();
        new.part = Some((section(NOW, 1 << 20), grains(&parts), masks));
        let rest = Entry { layers: entry.layers[plan.count..].to_vec() };
        let merged = apply(Some(&rest), new);
        for (grain, act) in (0..).zip(&frozen) {
            let expected = after(seen(Some(&entry), grain), *act);
            let found = seen(merged.as_ref(), grain).map(|block| block);
            let found: Grain = core::array::from_fn(|block| match found[block] {
                Block::Of(NOW) => bytes.get(&grain).map_or(Block::Zeros, |grain| grain[block]),
                other => other,
            });
            prop_assert_eq!(found, expected, "grain {}", grain);
        }
        let left = merged.map_or(0, |entry| entry.layers.len());
        prop_assert!(left <= entry.layers.len() - plan.count + 3);
    }
}

/// An entry of so many versions, each of which wrote grain 0 in part, over a first that wrote it whole.
fn stack(versions: u64, kind: impl Fn(u64) -> Act) -> Entry {
    let mut entry = None;
    for version in 0..versions {
        let mut acts = vec![Act::Nothing; usize::from(GRAINS)];
        acts[(version % 2) as usize] = kind(version);
        entry = apply(entry.as_ref(), delta(version, &acts));
    }
    entry.unwrap()
}

#[test]
fn parts_become_whole_with_a_base_from_below_the_merged_layers() {
    let part = |version: u64| Layer {
        version: Version(version),
        kind: LayerKind::Part {
            section: section(version, 0),
            masks: vec![1 << version],
        },
        grains: GrainSet::from_range(5..6),
    };
    let mut layers: Vec<Layer> = (0..7).rev().map(part).collect();
    layers.push(Layer {
        version: Version(0),
        kind: LayerKind::Data(section(0, 0)),
        grains: GrainSet::from_range(0..32),
    });
    let entry = Entry { layers };
    let plan = plan(&entry, &GrainBits::default(), &BTreeMap::new(), &geometry()).unwrap();
    assert_eq!((plan.count, plan.hole.len()), (7, 0));
    let whole = MergeGrain {
        grain: 5,
        mask: 0xff,
        whole: true,
    };
    assert_eq!(plan.grains, [whole]);
    let base = Take {
        layer: 7,
        frame: 1,
        slot: 2,
        grains: SmallVec::from_slice(&[(5, 0x80)]),
    };
    assert_eq!(plan.takes.last(), Some(&base));
}

#[test]
fn over_lost_blocks_a_part_stays_a_part() {
    let entry = stack(10, |version| match version {
        0 => Act::Data,
        1 => Act::Lost(0xff),
        v => Act::Part(1 << (v / 2 % 4)),
    });
    let plan = plan(&entry, &GrainBits::default(), &BTreeMap::new(), &geometry()).unwrap();
    let odd = plan.grains.iter().find(|grain| grain.grain == 1).unwrap();
    assert!(!odd.whole && odd.mask == 0b1111, "{odd:?}");
    let even = plan.grains.iter().find(|grain| grain.grain == 0).unwrap();
    assert!(even.whole, "{even:?}");
}

#[test]
fn what_the_publish_states_itself_is_not_merged() {
    let entry = stack(8, |_| Act::Data);
    assert_eq!(entry.layers.len(), 2, "data covers data");
    let entry = stack(8, |version| Act::Part(1 << version));
    let mut covered = GrainBits::default();
    covered.insert(0);
    covered.insert(1);
    let plan = plan(&entry, &covered, &BTreeMap::new(), &geometry()).unwrap();
    assert_eq!((plan.grains, plan.takes), (vec![], vec![]));
    assert_eq!(plan.count, 8);
}

#[track_caller]
fn check_ranges(mask: u8, block_bytes: u32, expected: &[(u32, u32)]) {
    let found: Vec<_> = mask_ranges(mask, block_bytes)
        .map(|range| (range.start, range.end))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn a_mask_is_runs_of_bytes() {
    check_ranges(0b1, 4096, &[(0, 4096)]);
    check_ranges(0xff, 4096, &[(0, 4096)]);
    check_ranges(0xff, 512, &[(0, 4096)]);
    check_ranges(0b1000_0110, 512, &[(512, 1536), (3584, 4096)]);
    check_ranges(0, 512, &[]);
}

#[test]
fn merging_keeps_pace_with_what_is_published() {
    assert!(is_affordable(0, 0, MERGE_BYTES_MIN));
    assert!(!is_affordable(0, MERGE_BYTES_MIN, 1));
    assert!(is_affordable(1, MERGE_BYTES_MIN, 5));
}

#[test]
fn a_candidate_that_nothing_touches_is_forgotten() {
    let mut merges = Merges::default();
    let chunk = ChunkIndex(3);
    merges.committed([(chunk, true)].into_iter(), 8);
    for _ in 1..COMMITS_MAX {
        merges.committed(core::iter::empty(), 8);
        assert_eq!(merges.line, [chunk]);
    }
    merges.committed(core::iter::empty(), 8);
    assert!(merges.is_idle());
    merges.committed([(chunk, true)].into_iter(), 8);
    merges.committed([(chunk, false)].into_iter(), 8);
    assert!(merges.is_idle(), "it was merged");
}

#[test]
fn what_may_be_merged_grows_with_what_the_publish_carries_and_ends_there() {
    for (own, merged, most) in [
        (0, 0, 64 << 20),
        (0, 64 << 20, 0),
        (4096, 0, (64 << 20) + 8 * 4096),
        (4096, 8 * 4096, 64 << 20),
    ] {
        assert!(is_affordable(own, merged, most), "{own} {merged}");
        assert!(!is_affordable(own, merged, most + 1), "{own} {merged}");
    }
}
