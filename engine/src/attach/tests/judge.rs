//! Steps 1, 2 and 2b, and the whole way through: who may follow whom.

use super::*;

#[test]
fn follows_a_detached_holder() {
    let mut world = volume(RootKind::Detached);
    let end = world.run(&mut attach(How::default()));
    world.check(
        "get volume² = found
        list claims/ = 1 rows
        get opened 1² = found
        head claim 2² = 404
        list versions/ = 3 rows
        get root 2.1 = found
        head root 63.1² = 404
        head root 3.1² = 404
        record 2
        put claim 2 once = 201
        head door 2² = 404
        put door 2 = 201
        get claim 2² = found
        get claim 2² = found
        list versions/ = 0 rows
        head root 63.1² = 404
        head root 3.1² = 404
        get root 1.1 = found
        put root 2.1 again = 201
        join below 1: close
        put opened 2 = 201
        head door 3 = 404
        get opened 2² = found",
    );
    let End::Opened(opened) = end else {
        panic!("{end:?}");
    };
    assert_eq!(opened.attach, world.drawn[0]);
    assert_eq!(opened.base.map(|b| b.root.name), Some(root_of(2, OLD)));
    assert_eq!(opened.below.map(|b| b.attach), Some(OLD));
    assert!(!opened.took_over);
}

#[test]
fn refuses_a_holder_that_did_not_detach() {
    let mut world = volume(RootKind::Checkpoint);
    let end = world.run(&mut attach(How::default()));
    world.check(
        "get volume² = found
        list claims/ = 1 rows
        get opened 1² = found
        head claim 2² = 404
        list versions/ = 3 rows
        get root 2.1 = found
        head root 63.1² = 404
        head root 3.1² = 404",
    );
    assert_eq!(end, held(1, root_of(2, OLD), true));
}

#[test]
fn a_take_over_without_an_accepted_loss_says_so() {
    let how = How {
        take_over: true,
        ..How::default()
    };
    let end = volume(RootKind::Checkpoint).run(&mut attach(how));
    assert_eq!(end, held(1, root_of(2, OLD), true));
}

#[test]
fn a_take_over_with_the_loss_accepted_follows() {
    let won = opened(volume(RootKind::Snapshot).run(&mut attach(TAKE)));
    assert!(won.took_over);
}

#[test]
fn nothing_is_lost_when_a_flush_waits_for_the_store() {
    let mut world = volume(RootKind::Checkpoint);
    world.edit_root(root_of(2, OLD), |root| {
        let store = FLUSH_STORE.to_vec();
        root.attributes.insert(FLUSH_ATTRIBUTE.to_string(), store);
    });
    assert_eq!(
        world.run(&mut attach(How::default())),
        held(1, root_of(2, OLD), false)
    );
    let how = How {
        take_over: true,
        ..How::default()
    };
    assert!(opened(world.run(&mut attach(how))).took_over);
}

#[test]
fn a_detached_root_of_the_attachment_before_frees_nothing() {
    let mut world = volume(RootKind::Detached);
    // Generation 2 went on from the detached root and has published nothing yet.
    world.put_opened(id(2, 0xb), "old", Some(root_of(2, OLD)));
    assert_eq!(
        world.run(&mut attach(How::default())),
        held(2, root_of(2, OLD), true)
    );
}

#[test]
fn our_own_attachment_is_free_and_its_journal_goes_on() {
    let mut world = volume(RootKind::Checkpoint);
    let mut spec = spec("new");
    (spec.drawn, spec.joined) = (alloc::vec![OLD], alloc::vec![OLD]);
    let won = opened(world.run(&mut Attach::new(spec, How::default())));
    assert!(!won.took_over);
    assert!(world.log.contains(&"join below 1: keep".to_string()));
    assert_eq!(world.joined, [won.attach]);
}

#[test]
fn a_container_without_superblock_is_no_volume() {
    let mut world = World::default();
    let end = world.run(&mut attach(How::default()));
    assert_eq!(end, End::Refused(Refusal::NoSuchVolume));
}

#[test]
fn a_volume_of_a_newer_format_is_refused() {
    let mut world = volume(RootKind::Detached);
    world.plan("get volume²", &[Plan::Say(StoreError::TooNew)]);
    let object = "volume".to_string();
    let end = world.run(&mut attach(How::default()));
    assert_eq!(end, End::Refused(Refusal::FormatTooNew { object }));
}

#[test]
fn a_store_that_denies_ends_it() {
    for line in ["get root 2.1", "put claim 2 once", "put opened 2"] {
        let mut world = volume(RootKind::Detached);
        world.plan(line, &[Plan::Say(StoreError::Denied)]);
        match world.run(&mut attach(How::default())) {
            End::Refused(Refusal::Store { error, .. }) => assert_eq!(error, StoreError::Denied),
            other => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn a_volume_not_born_is_refused_and_can_be_finished() {
    let mut world = World::default();
    world.put_superblock();
    world.put_opened(OLD, "old", None);
    let end = world.run(&mut attach(How::default()));
    assert_eq!(end, End::Refused(Refusal::WrongState("not born yet")));
    let how = How {
        finish: true,
        ..How::default()
    };
    let won = opened(world.run(&mut attach(how)));
    assert_eq!((won.base, won.token.base), (None, None));
    assert_eq!(first_version(&won.token), Version(0));
}

#[test]
fn a_deleted_volume_is_refused_and_can_be_finished() {
    let mut world = volume(RootKind::Deleted);
    let end = world.run(&mut attach(TAKE));
    assert_eq!(end, End::Refused(Refusal::NoSuchVolume));
    let how = How {
        finish: true,
        ..How::default()
    };
    assert!(opened(world.run(&mut attach(how))).base.is_some());
}

#[test]
fn a_born_volume_is_not_finished_over_its_holder() {
    let how = How {
        finish: true,
        ..How::default()
    };
    let end = volume(RootKind::Born).run(&mut attach(how));
    assert_eq!(end, held(1, root_of(2, OLD), true));
}

#[test]
fn birth_asks_nothing_twice() {
    let mut world = World::default();
    world.put_superblock();
    let won = opened(world.run(&mut Attach::birth(spec("new"), None)));
    world.check(
        "record 1
        put claim 1 once = 201
        head door 1 = 404
        put door 1 = 201
        get claim 1 = found
        join below 0: keep
        put opened 1 = 201
        head door 2 = 404
        get opened 1 = found",
    );
    assert_eq!(won.attach.generation, Generation(1));
    assert_eq!((won.base, won.below), (None, None));
    assert_eq!(root_name(&won.token, 1).version, Version(0));
}

#[test]
fn a_birth_that_is_abandoned_ends() {
    let mut world = World::default();
    world.put_superblock();
    world.put_claim(id(1, 0xb), "old");
    let end = world.run(&mut Attach::birth(spec("new"), None));
    assert_eq!(end, End::Refused(Refusal::LostRace));
}
