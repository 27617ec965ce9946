use super::*;
use crate::table::acts::{Act, GRAINS, delta, geometry, section};
use crate::table::resolve::{Base, resolve};
use alloc::collections::BTreeMap;
use alloc::vec;
use proptest::prelude::*;

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => Just(Act::Nothing),
        2 => Just(Act::Data),
        2 => (1_u8..).prop_map(Act::Part),
        2 => Just(Act::Hole),
        1 => (1_u8..).prop_map(Act::Lost),
    ]
}

/// What a block is: the model that the table is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
enum Block {
    #[default]
    Hole,
    Lost,
    /// Written by a version, in its data (false) or part (true) section.
    Written(u64, bool),
}

fn play(history: &[Vec<Act>]) -> (Option<Entry>, Vec<[Block; 8]>) {
    let mut model = vec![[Block::Hole; 8]; usize::from(GRAINS)];
    let mut entry = None;
    for (version, acts) in (1..).zip(history) {
        entry = apply(entry.as_ref(), delta(version, acts));
        for (grain, act) in model.iter_mut().zip(acts) {
            let mut set = |mask: u8, what| {
                (0..8)
                    .filter(|bit| mask >> bit & 1 == 1)
                    .for_each(|bit| grain[bit] = what);
            };
            match *act {
                Act::Nothing => {}
                Act::Data => set(0xff, Block::Written(version, false)),
                Act::Part(mask) => set(mask, Block::Written(version, true)),
                Act::Hole => set(0xff, Block::Hole),
                Act::Lost(mask) => set(mask, Block::Lost),
            }
        }
    }
    (entry, model)
}

fn seen(entry: Option<&Entry>, grain: u16) -> [Block; 8] {
    let sources = resolve(entry, grain, &geometry());
    let mut blocks = [None; 8];
    let mut set = |mask: u8, what: Block| {
        for (bit, block) in blocks.iter_mut().enumerate() {
            if mask >> bit & 1 == 1 {
                assert_eq!(*block, None, "two sources for one block");
                *block = Some(what);
            }
        }
    };
    for (mask, place) in &sources.parts {
        set(
            *mask,
            Block::Written(place.layer.version.0, place.section.offset != 0),
        );
        let rank = place.layer.grains.rank(grain).unwrap();
        assert_eq!((place.frame, place.slot), (rank / 3, rank % 3));
    }
    set(sources.lost, Block::Lost);
    set(
        sources.base_mask,
        match sources.base {
            Base::Hole => Block::Hole,
            Base::Data(place) => Block::Written(place.layer.version.0, place.section.offset != 0),
        },
    );
    blocks.map(|block| block.expect("every block has a source"))
}

fn history() -> impl Strategy<Value = Vec<Vec<Act>>> {
    proptest::collection::vec(proptest::collection::vec(act(), usize::from(GRAINS)), 0..12)
}

proptest! {
    #[test]
    fn every_block_reads_as_its_last_version(history in history()) {
        let (entry, model) = play(&history);
        for (grain, blocks) in (0..).zip(&model) {
            prop_assert_eq!(&seen(entry.as_ref(), grain), blocks);
        }
        if model.iter().flatten().all(|block| *block == Block::Hole) && history.iter().flatten().all(|a| !matches!(a, Act::Part(_))) {
            prop_assert_eq!(entry, None);
        }
    }

    #[test]
    fn no_layer_is_kept_that_newer_ones_cover(history in history()) {
        let (entry, _) = play(&history);
        if let Some(entry) = &entry {
            prop_assert!(live_grains(entry).all(|live| !live.is_empty()));
            prop_assert!(entry.layers.last().is_some_and(|layer| layer.kind != LayerKind::Hole));
        }
    }

    #[test]
    fn a_merge_changes_no_block_but_its_author(history in history()) {
        let (Some(entry), model) = play(&history) else { return Ok(()) };
        let Some(count) = merge_count(&entry) else { return Ok(()) };
        prop_assert!(count >= 2);
        let merged = merged(&entry, count);
        prop_assert!(merged.open.is_subset(&merged.content));
        prop_assert!(merged.content.intersect(&merged.hole).is_empty());
        // As a publisher does that completes every grain, lost blocks aside.
        let mut new = ChunkDelta::new(Version(99));
        new.data = Some((section(99, 0), merged.content.clone()));
        new.hole = merged.hole.clone();
        let after = apply(Some(&entry), new);
        let left = after.as_ref().map_or(0, |entry| entry.layers.len());
        prop_assert!(left + count <= entry.layers.len() + 2, "data and holes replace the merged layers");
        for (grain, blocks) in (0..).zip(&model) {
            let now = seen(after.as_ref(), grain);
            if merged.content.contains(grain) {
                prop_assert_eq!(now, [Block::Written(99, false); 8]);
            } else if merged.hole.contains(grain) {
                prop_assert_eq!(now, [Block::Hole; 8]);
                prop_assert_eq!(blocks, &[Block::Hole; 8]);
            } else {
                prop_assert_eq!(&now, blocks);
            }
        }
    }
}

/// Live grains of data layers, newest first; how many of them are merged.
#[track_caller]
fn check_merge(sizes: &[u16], expected: Option<usize>) {
    let mut at = 0;
    let layers = sizes.iter().map(|size| {
        at += size;
        Layer {
            version: Version(1),
            kind: LayerKind::Data(section(1, 0)),
            grains: GrainSet::from_range(at - size..at),
        }
    });
    assert_eq!(
        merge_count(&Entry {
            layers: layers.collect()
        }),
        expected
    );
}

#[test]
fn six_layers_stay() {
    check_merge(&[1, 1, 1, 1, 1, 1], None);
}

#[test]
fn a_seventh_merges_until_the_next_holds_twice_as_much() {
    check_merge(&[1, 1, 1, 1, 8, 16, 32], Some(4));
}

#[test]
fn at_least_two_merge() {
    check_merge(&[1, 2, 6, 18, 54, 162, 486], Some(2));
}

#[test]
fn equal_layers_all_merge() {
    check_merge(&[1, 1, 1, 1, 1, 1, 1], Some(7));
}

#[test]
fn as_many_merge_as_bring_the_layers_down_to_six() {
    check_merge(&[1, 2, 6, 18, 54, 162, 486, 900], Some(3));
}

#[test]
fn nothing_from_a_lost_layer_on_is_merged() {
    let mut layers: Vec<Layer> = (0..8)
        .map(|grain| Layer {
            version: Version(1),
            kind: LayerKind::Data(section(1, 0)),
            grains: GrainSet::from_range(grain..grain + 1),
        })
        .collect();
    layers[2].kind = LayerKind::Lost { masks: vec![1] };
    assert_eq!(
        merge_count(&Entry {
            layers: layers.clone()
        }),
        Some(2)
    );
    layers[0].kind = LayerKind::Lost { masks: vec![1] };
    assert_eq!(merge_count(&Entry { layers }), None);
}

#[test]
fn the_entry_s_layers_are_newest_first_whatever_the_map_order() {
    let (entry, _) = play(&[vec![Act::Data; 2], vec![Act::Nothing, Act::Part(1)]]);
    let versions: BTreeMap<u64, usize> = (0..)
        .zip(&entry.unwrap().layers)
        .map(|(n, layer)| (layer.version.0, n))
        .collect();
    assert_eq!(versions, BTreeMap::from([(2, 0), (1, 1)]));
}

/// A chunk that is published again and again, as a publish does it: what the rule says is written anew with the next
/// version's own grains. Grains uploaded per dirty grain from the 200th publish on at the worst, and most layers.
fn amplification(
    chunk: u16,
    per_publish: u16,
    publishes: u32,
    is_sequential: bool,
) -> (f64, usize) {
    let all = GrainSet::from_ascending(0..chunk);
    let mut entry = apply(
        None,
        ChunkDelta {
            data: Some((section(0, 0), all)),
            ..ChunkDelta::new(Version(0))
        },
    );
    let (mut dice, mut next) = (7_u64, 0_u16);
    let (mut dirty, mut uploaded, mut worst, mut most) = (0_u64, 0_u64, 0.0_f64, 0);
    for version in 1..=u64::from(publishes) {
        let mut own = GrainBits::default();
        for _ in 0..per_publish {
            dice = dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            next = (next + 1) % chunk;
            own.insert(if is_sequential {
                next
            } else {
                ((dice >> 33) % u64::from(chunk)) as u16
            });
        }
        let Some(mut below) = entry.take() else {
            panic!("it was written");
        };
        let mut grains = own;
        if let Some(count) = merge_count(&below) {
            let merged = merged(&below, count);
            grains = grains.union(&GrainBits::from(&merged.content));
            below.layers.drain(..count);
        }
        dirty += own.len() as u64;
        uploaded += grains.len() as u64;
        entry = apply(
            Some(&below),
            ChunkDelta {
                data: Some((section(version, 0), grains.to_set())),
                ..ChunkDelta::new(Version(version))
            },
        );
        most = most.max(entry.as_ref().map_or(0, |entry| entry.layers.len()));
        if version >= 200 {
            worst = worst.max(uploaded as f64 / dirty as f64);
        }
    }
    (worst, most)
}

#[test]
fn the_rule_uploads_a_bounded_multiple() {
    // One grain of a full chunk per publish, one after another, is the worst case known: every merge finds all different.
    // Measured: 7.80; scattered 7.61; half-size chunks 6.18. Whole chunks written anew would be 257.
    for (chunk, per_publish, is_sequential, bound) in [
        (2048, 1, true, 7.9),
        (2048, 1, false, 7.7),
        (2048, 8, false, 5.6),
        (512, 1, true, 6.0),
        (512, 1, false, 6.3),
        (512, 4, false, 5.0),
    ] {
        let (worst, most) = amplification(chunk, per_publish, 3000, is_sequential);
        assert!(
            worst <= bound && worst > bound - 0.5,
            "{chunk} grains, {per_publish} a publish: {worst:.2} grains uploaded per dirty one"
        );
        assert!(most <= LAYERS_MAX + 1, "{most} layers");
    }
}
