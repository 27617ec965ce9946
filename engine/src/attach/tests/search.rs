//! The search for the newest root, and what an attach costs.

use super::*;

/// `count` roots, collected as far as the rule allows.
fn long_volume(count: u64) -> World {
    let mut world = World::default();
    world.put_superblock();
    world.put_opened(OLD, "old", None);
    for k in (1..=count).filter(|k| k % ROOT_STRIDE == 0 || *k >= count / ROOT_STRIDE * ROOT_STRIDE)
    {
        world.put_root(root_of(k - 1, OLD), k, RootKind::Detached);
    }
    world
}

#[track_caller]
fn check_search(count: u64, hint: Option<u64>, blind: bool) -> usize {
    let mut world = long_volume(count);
    world.blind = blind;
    let mut spec = spec("new");
    spec.hint.root = hint.map(|k| root_of(k - 1, OLD));
    let won = opened(world.run(&mut Attach::new(spec, How::default())));
    let found = won.base.map(|b| b.root.ordinal);
    assert_eq!(found, Some(count), "{hint:?} {:#?}", world.log);
    world.requests
}

#[test]
fn the_newest_root_is_found_from_any_hint() {
    for count in (1..=200_u64).chain([255, 256, 257, 639, 640, 5000]) {
        for hint in [
            None,
            Some(1),
            Some(count / 2),
            Some(count.saturating_sub(65)),
            Some(count),
        ] {
            let hint = hint.filter(|k| *k > 0);
            check_search(count, hint, false);
            check_search(count, hint, true);
        }
    }
}

#[test]
fn a_good_hint_costs_at_most_32_requests() {
    for count in [1, 2, 63, 64, 65, 127, 128, 5000] {
        assert!(check_search(count, Some(count), false) <= 32);
        assert!(check_search(count, Some(count), true) <= 32);
        // The listing is a good hint too.
        assert!(check_search(count, None, false) <= 32);
    }
}

/// Two numbers per doubling: one on the way up, one on the way down; and what an attach asks beside the search.
#[test]
fn a_blind_search_without_a_hint_costs_the_logarithm_of_the_history() {
    for count in [200, 1000, 5000, 20_000, 100_000_u64] {
        let doublings = (count / ROOT_STRIDE).ilog2() + ROOT_STRIDE.ilog2();
        let cost = check_search(count, None, true);
        let bound = 34 + 2 * doublings as usize;
        assert!(cost <= bound, "{count}: {cost} requests, at most {bound}");
    }
}

#[test]
fn a_root_that_step_1_read_is_not_read_again() {
    for count in [1, 3, 64, 65, 200] {
        let mut world = long_volume(count);
        let won = opened(world.run(&mut Attach::new(spec("new"), How::default())));
        assert_eq!(won.base.map(|base| base.root.ordinal), Some(count));
        let read = format!("get root {}.{} ", count - 1, OLD.generation.0);
        let reads = world
            .log
            .iter()
            .filter(|line| line.starts_with(&read))
            .count();
        assert_eq!(reads, 1, "{read}: {:#?}", world.log);
        assert!(world.requests <= 27, "{}: {:#?}", world.requests, world.log);
    }
}

/// How long an attach takes whose every absence is asked twice, one after the other, of a store that answers at once.
#[track_caller]
fn check_fits(limits: &Limits, count: u64, hint: Option<u64>, blind: bool, burnt: u64) {
    let mut world = long_volume(count);
    world.blind = blind;
    (2..2 + burnt).for_each(|g| world.put_claim(id(g, g), "old"));
    world.patient = Some(limits.absence_gap);
    let mut spec = Spec::new(container(), &life("new"), limits, 7);
    spec.hint.root = hint.map(|k| root_of(k - 1, OLD));
    let mut machine = Attach::new(spec, How::default());
    opened(world.run(&mut machine));
    assert_eq!(machine.lost(), 0, "{count} {hint:?} {blind} {burnt}");
    let spare = limits.delete_grace / 2 - world.now.since(Instant(0));
    assert!(spare >= limits.store_deadline, "only {spare:?} are left");
}

#[test]
fn the_shortest_grace_of_deletes_lets_an_attach_end() {
    let mut limits = Limits::default();
    for gap in [0, 200, 2_000, 10_000] {
        limits.absence_gap = Duration::from_millis(gap);
        limits.delete_grace = limits.delete_grace_min();
        for count in [1, 2, 63, 64, 65, 200, 5000] {
            check_fits(&limits, count, Some(count), false, 0);
            check_fits(&limits, count, None, false, 3);
            check_fits(&limits, count, Some(count.div_ceil(2)), false, 3);
            check_fits(
                &limits,
                count,
                Some(count.saturating_sub(3).max(1)),
                true,
                0,
            );
        }
    }
    limits = Limits::default();
    assert!(limits.delete_grace >= limits.delete_grace_min());
}

#[test]
fn a_burnt_number_costs_at_most_8_requests() {
    let cost = |burnt: u64| {
        let mut world = volume(RootKind::Detached);
        (2..2 + burnt).for_each(|g| world.put_claim(id(g, g), "old"));
        let mut spec = spec("new");
        spec.hint.root = Some(root_of(2, OLD));
        opened(world.run(&mut Attach::new(spec, How::default())));
        world.requests
    };
    for burnt in [1, 2, 5, 40] {
        assert!(
            cost(burnt) <= cost(0) + 8 * burnt as usize,
            "{burnt}: {}",
            cost(burnt)
        );
    }
}
