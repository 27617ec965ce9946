//! Lost races, each alone and many at once.

use super::*;

#[track_caller]
fn check_lost(line: &str, plan: &[Plan], generation: u64) {
    let mut world = volume(RootKind::Detached);
    world.plan(line, plan);
    let mut machine = attach(How::default());
    let won = opened(world.run(&mut machine));
    assert_eq!(
        won.attach.generation,
        Generation(generation),
        "{:#?}",
        world.log
    );
    assert_eq!(machine.lost(), 1);
    assert!(world.now.since(Instant(0)) >= BACKOFF_MIN);
    assert_eq!(world.drawn.len(), 2, "a nonce is drawn for each attempt");
}

#[test]
fn a_claim_of_unknown_end_is_lost_and_its_number_burnt() {
    check_lost(
        "put claim 2 once",
        &[Plan::ApplyAndSay(StoreError::Unknown)],
        3,
    );
}

#[test]
fn a_claim_that_did_not_land_burns_nothing() {
    check_lost("put claim 2 once", &[Plan::Say(StoreError::Unavailable)], 2);
}

#[test]
fn a_claim_that_meets_another_is_lost() {
    let other: fn(&mut World) = |world| world.put_claim(id(2, 0xb), "old");
    check_lost("put claim 2 once", &[Plan::Before(other)], 3);
}

#[test]
fn a_claim_that_meets_itself_is_lost() {
    // 412, and our own bytes are there: one replica shows them, which confirms nothing.
    check_lost(
        "put claim 2 once",
        &[Plan::ApplyAndSay(StoreError::Exists)],
        3,
    );
}

#[test]
fn a_shut_door_after_the_claim_is_lost() {
    let other: fn(&mut World) = |world| {
        world
            .objects
            .insert(ObjectName::Door(Generation(2)), Object::Door);
    };
    check_lost("head door 2²", &[Plan::Before(other)], 3);
}

#[test]
fn a_claim_overwritten_is_lost() {
    let other: fn(&mut World) = |world| world.put_claim(id(2, 0xb), "old");
    let store: fn(&mut World) = |_| {};
    check_lost("get claim 2²", &[Plan::Before(other)], 3);
    check_lost(
        "get claim 2²",
        &[Plan::Before(store), Plan::Before(other)],
        3,
    );
}

#[test]
fn a_door_shut_above_at_the_end_is_lost() {
    let other: fn(&mut World) = |world| {
        world.put_claim(id(3, 0xb), "old");
        world
            .objects
            .insert(ObjectName::Door(Generation(3)), Object::Door);
    };
    check_lost("head door 3", &[Plan::Before(other)], 4);
}

#[test]
fn who_wins_the_same_race_is_not_taken_over() {
    let mut world = volume(RootKind::Checkpoint);
    world.plan(
        "head door 2²",
        &[Plan::Before(|world| {
            world.put_opened(id(2, 0xb), "old", Some(root_of(2, OLD)));
        })],
    );
    let end = world.run(&mut attach(TAKE));
    assert_eq!(end, held(2, root_of(2, OLD), true));
}

#[test]
fn a_lower_number_opened_meanwhile_is_judged_again() {
    let late: fn(&mut World) = |world| {
        let b = id(2, 0xb);
        world.put_opened(b, "old", Some(root_of(2, OLD)));
    };
    let burnt = || {
        let mut world = volume(RootKind::Detached);
        world.put_claim(id(2, 0xb), "old");
        world
    };
    // Refused when it holds the volume …
    let mut world = burnt();
    world.plan("get claim 3²", &[Plan::Before(late)]);
    assert_eq!(
        world.run(&mut attach(How::default())),
        held(2, root_of(2, OLD), true)
    );
    // … and followed when it has detached.
    let mut world = burnt();
    world.plan(
        "get claim 3²",
        &[Plan::Before(|world| {
            let b = id(2, 0xb);
            world.put_opened(b, "old", Some(root_of(2, OLD)));
            world.put_root(root_of(3, b), 1, RootKind::Detached);
        })],
    );
    let won = opened(world.run(&mut attach(How::default())));
    assert_eq!(won.below.map(|b| b.attach), Some(id(2, 0xb)));
    assert_eq!(won.token.base, Some(root_of(3, id(2, 0xb))));
}

#[test]
fn a_burnt_number_is_shut_before_the_claim() {
    let mut world = volume(RootKind::Detached);
    world.put_claim(id(2, 0xb), "old");
    world.put_claim(id(3, 0xc), "old");
    opened(world.run(&mut attach(How::default())));
    let at = |line: &str| world.log.iter().position(|l| l == line);
    let (two, three) = (at("put door 2 = 201"), at("put door 3 = 201"));
    assert!(two.is_some() && three.is_some());
    assert!(two.max(three) < at("record 4"));
    assert!(at("record 4") < at("put claim 4 once = 201"));
    // Step 7 asks for both by the absence rule.
    let absent = |g: u64| {
        (world.log.iter())
            .filter(|l| **l == format!("get opened {g}² = 404"))
            .count()
    };
    assert_eq!((absent(2), absent(3)), (2, 2));
}

/// Requests of one taker under way.
type Pending = VecDeque<(u32, StoreRequest<NoBytes>)>;

/// Three takers over one store whose If-None-Match lets several through, in an order drawn from `seed`.
fn race(seed: u64) {
    let mut world = volume(RootKind::Checkpoint);
    let mut dice = attach(How::default());
    dice.random = seed;
    let hosts = ["a", "bb", "ccc"];
    let mut takers: Vec<(Attach, Pending)> = (hosts.iter().enumerate())
        .map(|(n, host)| {
            let mut spec = spec(host);
            spec.seed = seed * 3 + n as u64;
            (Attach::new(spec, TAKE), VecDeque::new())
        })
        .collect();
    let mut ends = Vec::new();
    while !takers.is_empty() {
        for (machine, pending) in &mut takers {
            while let Some(ask) = machine.poll::<NoBytes>(world.now) {
                match ask {
                    Ask::Store { slot, request } => pending.push_back((slot, request)),
                    Ask::Record(_) => machine.recorded(world.now),
                    Ask::Join(_) => machine.joined(world.now),
                    Ask::End(end) => ends.push(*end),
                }
            }
        }
        takers.retain(|(machine, _)| !machine.is_over());
        let busy: Vec<usize> = (0..takers.len())
            .filter(|n| !takers[*n].1.is_empty())
            .collect();
        // Requests may take long: time also passes while some are under way.
        if busy.is_empty() || dice.next_random().is_multiple_of(8) {
            let next = takers
                .iter()
                .filter_map(|(machine, _)| machine.poll_timeout())
                .min();
            world.now = next.unwrap_or(world.now);
            continue;
        }
        let who = busy[(dice.next_random() % busy.len() as u64) as usize];
        let (machine, pending) = &mut takers[who];
        let (slot, mut request) = pending.pop_front().expect("it is busy");
        if let StoreRequest::Put { once, .. } = &mut request {
            *once &= dice.next_random().is_multiple_of(2);
        }
        let outcome = world.answer(request);
        machine.handle(world.now, slot, outcome);
    }
    let mut won: Vec<Opened> = ends
        .into_iter()
        .filter_map(|end| match end {
            End::Opened(opened) => Some(opened),
            _ => None,
        })
        .collect();
    won.sort_by_key(|opened| opened.attach);
    assert!(!won.is_empty(), "somebody wins: {:#?}", world.log);
    for pair in won.windows(2) {
        assert!(
            pair[0].attach.generation < pair[1].attach.generation,
            "one winner per generation"
        );
        assert_eq!(
            pair[1].below.as_ref().map(|b| b.attach),
            Some(pair[0].attach)
        );
    }
}

#[test]
fn racing_takers_never_win_one_generation_twice() {
    (0..300).for_each(race);
}
