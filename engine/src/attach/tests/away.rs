//! The store away, or contradicting itself; the end of patience.

use super::*;

#[test]
fn no_answer_is_a_verdict_at_no_step() {
    let mut world = volume(RootKind::Checkpoint);
    opened(world.run(&mut attach(TAKE)));
    let lines: Vec<String> = world
        .log
        .iter()
        .filter(|l| l.contains(" = "))
        .cloned()
        .collect();
    assert!(lines.len() > 20);
    let away = [
        Plan::Say(StoreError::Unavailable),
        Plan::Say(StoreError::Unknown),
        Plan::ApplyAndSay(StoreError::Unknown),
    ];
    for (at, line) in lines.iter().enumerate() {
        for plan in &away {
            let mut world = volume(RootKind::Checkpoint);
            world.fault = Some((at, plan.clone()));
            let mut machine = attach(TAKE);
            let won = opened(world.run(&mut machine));
            assert_eq!(won.token.base, Some(root_of(2, OLD)), "{line}");
            let is_claim = line.starts_with("put claim");
            assert_eq!(machine.lost() > 0, is_claim, "{line}: {:#?}", world.log);
            assert!(
                is_claim || world.log.contains(line),
                "{line} is asked again"
            );
        }
    }
}

#[test]
fn killed_at_any_request_the_next_attempt_succeeds() {
    let mut world = volume(RootKind::Checkpoint);
    opened(world.run(&mut attach(TAKE)));
    let requests = world.log_requests();
    for stop in 1..requests {
        let mut world = volume(RootKind::Checkpoint);
        assert_eq!(world.go(&mut attach(TAKE), stop), None);
        let joined_before = world.joined.clone();
        let mut spec = spec("new");
        (spec.drawn, spec.joined) = (world.drawn.clone(), world.joined.clone());
        spec.seed = 8;
        let won = opened(world.run(&mut Attach::new(spec, TAKE)));
        assert!(won.attach.generation.0 <= 3, "a burnt number at most");
        assert_eq!(won.token.base, Some(root_of(2, OLD)));
        let is_own = won
            .below
            .is_some_and(|below| joined_before.contains(&below.attach));
        assert_eq!(
            world.joined.len(),
            1 + usize::from(is_own),
            "killed after {stop}"
        );
    }
}

#[test]
fn what_is_waited_for_can_be_told() {
    let mut machine = attach(How::default());
    let now = Instant(5);
    while let Some(ask) = machine.poll::<NoBytes>(now) {
        let Ask::Store { slot, .. } = ask else {
            panic!("{ask:?}");
        };
        let away = Outcome::<NoBytes>::Store(StoreError::Unavailable);
        machine.handle(now, slot, away);
    }
    let waiting = machine.waiting().expect("it waits");
    assert_eq!(
        (waiting.error, waiting.since),
        (StoreError::Unavailable, now)
    );
    assert_eq!(machine.poll_timeout(), Some(now + Duration::from_secs(1)));
}

#[test]
fn patience_ends_with_what_was_waited_for() {
    let mut world = volume(RootKind::Detached);
    world.plan(
        "put opened 2",
        &[const { Plan::Say(StoreError::Unknown) }; 100],
    );
    let end = world.run(&mut attach(How {
        deadline: Some(Instant(0) + Duration::from_secs(60)),
        ..How::default()
    }));
    let object = "opened/00000002".to_string();
    let error = StoreError::Unknown;
    assert_eq!(end, End::Refused(Refusal::Store { object, error }));
    assert_eq!(world.now, Instant(0) + Duration::from_secs(60));
}

#[test]
fn what_is_known_to_exist_is_a_floor() {
    // The store shows neither the generation nor the root that this host saw (A1 broken): it is asked until it does.
    let mut world = volume(RootKind::Detached);
    let b = id(2, 0xb);
    let mut spec = spec("new");
    spec.hint.root = Some(root_of(3, b));
    world.plan(
        "get opened 2²",
        &[
            Plan::Say(StoreError::Absent),
            Plan::Before(|world| {
                let b = id(2, 0xb);
                world.put_opened(b, "old", Some(root_of(2, OLD)));
                world.put_root(root_of(3, b), 1, RootKind::Detached);
            }),
        ],
    );
    let won = opened(world.run(&mut Attach::new(spec, How::default())));
    assert_eq!(won.attach.generation, Generation(3));
    assert_eq!(won.token.base, Some(root_of(3, b)));
}

#[test]
fn a_row_beyond_the_end_counts_as_there() {
    // A claim: the number is passed over, though no GET finds it.
    let mut world = volume(RootKind::Detached);
    world.ghost_rows.push("claims/00000004".to_string());
    assert_eq!(
        opened(world.run(&mut attach(How::default())))
            .attach
            .generation,
        Generation(5)
    );
    // A root: a GET must bring it.
    let mut world = volume(RootKind::Detached);
    let late = root_of(3, OLD);
    world.ghost_rows.push(ObjectName::Root(late).to_string());
    world.plan(
        "get root 3.1",
        &[
            Plan::Say(StoreError::Absent),
            Plan::Before(|world| world.put_root(root_of(3, OLD), 4, RootKind::Detached)),
        ],
    );
    assert_eq!(
        opened(world.run(&mut attach(How::default()))).token.base,
        Some(late)
    );
    // An opened: likewise.
    let mut world = volume(RootKind::Detached);
    world.put_claim(id(2, 0xb), "old");
    world.ghost_rows.push("opened/00000002".to_string());
    world.plan(
        "get opened 2²",
        &[
            Plan::Say(StoreError::Absent),
            Plan::Say(StoreError::Absent),
            Plan::Before(|world| world.put_opened(id(2, 0xb), "old", Some(root_of(2, OLD)))),
        ],
    );
    assert_eq!(
        world.run(&mut attach(How::default())),
        held(2, root_of(2, OLD), true)
    );
}

#[test]
fn an_attempt_that_takes_too_long_starts_over() {
    let mut world = volume(RootKind::Detached);
    // Six minutes of silence, between the claim and the base.
    world.plan(
        "put door 2",
        &[const { Plan::Say(StoreError::Unavailable) }; 360],
    );
    let mut machine = attach(How::default());
    let won = opened(world.run(&mut machine));
    assert_eq!((won.attach.generation, machine.lost()), (Generation(3), 1));
    // Four minutes are no matter.
    let mut world = volume(RootKind::Detached);
    world.plan(
        "put door 2",
        &[const { Plan::Say(StoreError::Unavailable) }; 240],
    );
    let mut machine = attach(How::default());
    let won = opened(world.run(&mut machine));
    assert_eq!((won.attach.generation, machine.lost()), (Generation(2), 0));
}
