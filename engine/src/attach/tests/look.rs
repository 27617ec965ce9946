//! Look, watch and inspection.

use super::*;

fn look(world: &mut World, own: AttachId, twice: bool) -> LookVerdict {
    let mut look = Look::new(container(), own, Duration::from_secs(1), twice);
    loop {
        match look.poll::<NoBytes>(world.now) {
            Some((slot, request)) => {
                let outcome = world.answer(request);
                if let Some(verdict) = look.handle(world.now, slot, outcome) {
                    return verdict;
                }
            }
            None => world.now = look.poll_timeout().expect("something is waited for"),
        }
    }
}

#[test]
fn a_look_is_good_while_the_next_door_is_open() {
    let mut world = volume(RootKind::Checkpoint);
    world.plan("head door 2", &[Plan::Say(StoreError::Unavailable)]);
    assert_eq!(look(&mut world, OLD, false), LookVerdict::Good);
    world.check(
        "head door 2 = Unavailable
        get opened 1 = found
        head door 2 = 404",
    );
}

#[test]
fn a_look_fails_once_the_next_door_is_shut() {
    let mut world = volume(RootKind::Checkpoint);
    world
        .objects
        .insert(ObjectName::Door(Generation(2)), Object::Door);
    assert_eq!(look(&mut world, OLD, true), LookVerdict::Fenced);
    world.check("head door 2² = there");
}

#[test]
fn a_look_fails_when_the_opened_is_not_ours() {
    let mut world = volume(RootKind::Checkpoint);
    assert_eq!(look(&mut world, id(1, 0xb), false), LookVerdict::Fenced);
}

#[test]
fn a_watch_takes_silence_for_silence() {
    let verdict = |outcome: Outcome<NoBytes>| watch_verdict(&outcome);
    assert_eq!(verdict(Outcome::Exists), Watched::Shut);
    assert_eq!(verdict(Outcome::Store(StoreError::Absent)), Watched::Good);
    assert_eq!(
        verdict(Outcome::Store(StoreError::Unavailable)),
        Watched::Silent
    );
    let request = watch_request::<NoBytes>(container(), Generation(1), Duration::from_secs(3));
    assert_eq!(line_of(&request), "head door 2");
}

fn inspect(world: &mut World, quick: bool) -> Inspected {
    let mut inspect = Inspect::new(container(), Hint::default(), Duration::from_secs(1), quick);
    let mut pending = VecDeque::new();
    loop {
        while let Some(ask) = inspect.poll::<NoBytes>(world.now) {
            pending.push_back(ask);
        }
        let Some((slot, request)) = pending.pop_front() else {
            world.now = inspect.poll_timeout().expect("something is waited for");
            continue;
        };
        let outcome = world.answer(request);
        if let Some(end) = inspect.handle(world.now, slot, outcome) {
            return end;
        }
    }
}

#[test]
fn an_inspection_tells_holder_and_newest_root() {
    let mut world = volume(RootKind::Checkpoint);
    world.put_opened(id(2, 0xb), "taker", Some(root_of(2, OLD)));
    let (inspection, newest) = inspect(&mut world, false).expect("it ends well");
    let (generation, holder) = inspection.opened.expect("it is opened");
    assert_eq!((generation, holder.host.as_str()), (Generation(2), "taker"));
    assert_eq!(inspection.root.map(|root| root.name), Some(root_of(2, OLD)));
    assert_eq!(
        newest.map(|newest| newest.hash),
        Some(hash_of(root_of(2, OLD)))
    );
    assert!(world.log.iter().all(|line| !line.starts_with("put")));
}

#[test]
fn an_inspection_of_nothing_says_nothing() {
    let mut world = World::default();
    let (inspection, _) = inspect(&mut world, true).expect("it ends well");
    assert!(inspection.superblock.is_none() && inspection.opened.is_none());
}

#[test]
fn an_inspection_that_is_denied_says_why() {
    let mut world = volume(RootKind::Checkpoint);
    world.plan("get opened 1²", &[Plan::Say(StoreError::Denied)]);
    let end = inspect(&mut world, false);
    assert!(
        matches!(
            end,
            Err(Refusal::Store {
                error: StoreError::Denied,
                ..
            })
        ),
        "{end:?}"
    );
}
