//! Step 7: what the history goes on from.

use super::*;

#[test]
fn a_root_stored_while_we_claim_is_the_base() {
    let mut world = volume(RootKind::Checkpoint);
    world.plan(
        "put door 2",
        &[Plan::Before(|world| {
            world.put_root(root_of(3, OLD), 4, RootKind::Snapshot)
        })],
    );
    let won = opened(world.run(&mut attach(TAKE)));
    assert_eq!(won.token.base, Some(root_of(3, OLD)));
    assert!(world.log.contains(&"put root 3.1 again = 201".to_string()));
}

#[test]
fn a_base_whose_parent_has_other_bytes_is_damage() {
    let mut world = volume(RootKind::Detached);
    world.edit_root(root_of(2, OLD), |root| {
        root.parent = Some((root_of(1, OLD), Hash([9; 16])));
    });
    let end = world.run(&mut attach(How::default()));
    let object = ObjectName::Root(root_of(1, OLD)).to_string();
    let error = StoreError::Damaged;
    assert_eq!(end, End::Refused(Refusal::Store { object, error }));
}

#[test]
fn a_collected_parent_is_no_matter() {
    let mut world = volume(RootKind::Detached);
    world.objects.remove(&ObjectName::Root(root_of(1, OLD)));
    opened(world.run(&mut attach(How::default())));
}

#[test]
fn a_stray_is_not_the_base() {
    let mut world = volume(RootKind::Detached);
    let zombie = id(1, 0xdead);
    world.put_root(root_of(3, zombie), 1, RootKind::Checkpoint);
    world.put_root(root_of(9, zombie), 7, RootKind::Checkpoint);
    let won = opened(world.run(&mut attach(How::default())));
    assert_eq!(won.token.base, Some(root_of(2, OLD)));
}

#[test]
fn a_root_that_lies_about_its_ordinal_is_damage() {
    let mut world = volume(RootKind::Detached);
    world.edit_root(root_of(2, OLD), |root| root.ordinal = 7);
    let end = world.run(&mut attach(How::default()));
    assert!(matches!(
        end,
        End::Refused(Refusal::Store {
            error: StoreError::Damaged,
            ..
        })
    ));
}
