//! Collection: what no live version reaches goes, and nothing else does.

use crate::harness::{Buf, Harness};
use crate::{TAKE, is_root_put, snapshot};
use engine::command::{BirthSpec, Collected, Refusal, Verdict, Wish};
use engine::effect::{Effect, Expect, Meta, Notice, StoreError, StoreRequest};
use engine::ids::{Container, VolumeId};
use engine::limits::Limits;
use engine::object::decode_meta;
use engine::object::names::ObjectName;
use engine::table::types::{LayerKind, LeafHome, VolumeKind};
use engine::time::{Duration, WallTime};
use engine::units::ByteCount;
use std::collections::BTreeSet;
use std::rc::Rc;

const COLLECT: Wish<Buf> = Wish::Collect {
    min_age: Some(Duration::ZERO),
};

#[track_caller]
fn collect(host: &mut Harness) -> Collected {
    match host.wish(COLLECT) {
        Verdict::Collected(collected) => collected,
        other => panic!("{other:?}"),
    }
}

/// Data and leaves objects in the store.
fn stored(host: &Harness) -> BTreeSet<String> {
    stored_of(host, "disk")
}

fn stored_of(host: &Harness, volume: &str) -> BTreeSet<String> {
    let store = host.store.borrow();
    let mine = store
        .objects
        .keys()
        .filter(|(container, _)| *container.name == *volume);
    let names = mine.map(|(_, name)| name);
    let parts = names.filter(|name| name.starts_with("chunks/") || name.starts_with("tables/"));
    parts.cloned().collect()
}

/// Data and leaves objects that the newest root itself reaches.
fn reached(host: &Harness) -> BTreeSet<String> {
    let root = host.volume.root().expect("there is one");
    let store = host.store.borrow();
    let mut reached = BTreeSet::new();
    for at in root.leaves.values() {
        let home = match at.home {
            LeafHome::Root(name) => ObjectName::Root(name),
            LeafHome::Leaves(name) => ObjectName::Leaves(name),
        };
        if matches!(home, ObjectName::Leaves(_)) {
            reached.insert(home.to_string());
        }
        let bytes = &store.objects[&(root.container.clone(), home.to_string())];
        let bytes = &bytes[at.offset as usize..(at.offset + at.len) as usize];
        let (meta, _) = decode_meta(&Expect::Leaf(at.hash), None, bytes).expect("a good leaf");
        let Meta::Leaf(leaf) = meta else {
            panic!("not a leaf");
        };
        for layer in leaf.entries.values().flat_map(|entry| &entry.layers) {
            if let LayerKind::Data(section) | LayerKind::Part { section, .. } = &layer.kind {
                reached.insert(ObjectName::Data(section.object.name).to_string());
            }
        }
    }
    reached
}

fn is_delete(effect: &Effect<Buf>) -> bool {
    let Effect::Store { request, .. } = effect else {
        return false;
    };
    matches!(request, StoreRequest::Delete { .. })
}

fn is_frames(effect: &Effect<Buf>) -> bool {
    let Effect::Store { request, .. } = effect else {
        return false;
    };
    matches!(request, StoreRequest::Get(get) if matches!(get.expect, Expect::Frames(_)))
}

/// Limits under which nothing is cached, and leaves do not ride.
fn bare() -> Limits {
    Limits {
        file_bytes: ByteCount(64 << 12),
        files: 8,
        cache_slots: 0,
        riding_bytes: ByteCount(0),
        ..Limits::default()
    }
}

#[test]
fn what_a_killed_publish_left_is_collected() {
    let mut host = Harness::born_with(4096, 64, bare());
    host.write(0, 8, 1);
    host.flush();
    host.hold(is_root_put);
    host.send_wish(snapshot("a", 1));
    assert!(host.open.iter().any(is_root_put), "its objects are there");
    host.kill();
    host.open();
    // Attaches by itself; the same writes are published under the new id when the disk wants it.
    let first = collect(&mut host);
    assert!(first.data > 0 && first.leaves > 0, "{first:?}");
    let verdict = host.wish(snapshot("a", 1));
    assert!(matches!(verdict, Verdict::Committed(_)), "{verdict:?}");
    let second = collect(&mut host);
    assert_eq!((second.data, second.leaves), (0, 0));
    assert_eq!(stored(&host), reached(&host));
    assert_eq!(host.read(0, 8), [1; 8]);
}

#[test]
fn orphans_stay_until_the_least_age() {
    let mut host = Harness::born_with(4096, 64, bare());
    host.write(0, 8, 1);
    host.flush();
    host.hold(is_root_put);
    host.send_wish(Wish::Checkpoint);
    host.kill();
    host.open();
    // The harness wrote everything at 0 s; its wall clock shows 1,700,000,000 s.
    let min_age = Some(Duration::from_secs(1_700_000_000 + 60));
    let id = host.send_wish(Wish::Collect { min_age });
    host.pass(Duration::from_secs(30));
    match host.told.remove(&id) {
        Some(Verdict::Collected(young)) => {
            assert_eq!((young.data, young.leaves), (0, 0));
            assert_eq!(young.young, 2);
        }
        other => panic!("{other:?}"),
    }
    host.pass(Duration::from_secs(60));
    let verdict = host.wish(Wish::Collect { min_age });
    assert!(matches!(verdict, Verdict::Collected(old) if old.young == 0 && old.data == 1));
}

/// Lets time pass in small steps, and tells how often the store was asked for anything.
fn asked(host: &mut Harness, time: Duration) -> u64 {
    let before = host.store.borrow().requests;
    host.pass(time);
    host.store.borrow().requests - before
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn orphans_go_by_themselves_and_then_the_store_is_left_alone() {
    let mut host = Harness::born_with(4096, 64, bare());
    // No other attachment ever wrote here.
    assert_eq!(asked(&mut host, HOUR * 24), 0);
    host.write(0, 8, 1);
    host.flush();
    host.hold(is_root_put);
    host.send_wish(Wish::Checkpoint);
    host.kill();
    host.open();
    assert_eq!(stored(&host).difference(&reached(&host)).count(), 2);
    // The interval's checkpoint attaches anew and publishes the same writes; the version before it goes after its grace.
    host.pass(Duration::from_secs(1000));
    assert_eq!(stored(&host).difference(&reached(&host)).count(), 2);
    assert_eq!(asked(&mut host, Duration::from_secs(2500)), 0);
    host.pass(HOUR);
    assert_eq!(stored(&host), reached(&host));
    let told = |notice: &Notice| matches!(notice, Notice::Collected(what) if what.data == 1 && what.leaves == 1);
    assert_eq!(host.notices.iter().filter(|n| told(n)).count(), 1);
    assert_eq!(asked(&mut host, HOUR * 24), 0);
    assert_eq!(host.read(0, 8), [1; 8]);
}

#[test]
fn orphans_too_young_are_looked_for_again() {
    let limits = Limits {
        collect_interval: Duration::from_secs(10),
        // By the harness's clock all was written at 0 s, and it is so late since then.
        min_age: Duration::from_secs(60),
        ..bare()
    };
    let mut host = Harness::born_with(4096, 64, limits);
    host.write(0, 8, 1);
    host.flush();
    host.hold(is_root_put);
    host.send_wish(Wish::Checkpoint);
    host.kill();
    host.store.borrow_mut().written = WallTime(1_700_000_000 + 150);
    host.open();
    let verdict = host.wish(Wish::Checkpoint);
    assert!(matches!(verdict, Verdict::Committed(_)), "{verdict:?}");
    // The first search comes after a minute and finds them too young; every minute one more.
    assert!(asked(&mut host, Duration::from_secs(100)) > 0);
    assert_eq!(stored(&host).difference(&reached(&host)).count(), 2);
    host.pass(Duration::from_secs(200));
    assert_eq!(stored(&host), reached(&host));
    // The version before the checkpoint goes after its grace.
    host.pass(Duration::from_secs(600));
    assert_eq!(asked(&mut host, HOUR * 24), 0);
}

#[test]
fn a_search_that_another_host_ends_is_refused() {
    let mut host = Harness::born_with(4096, 64, bare());
    host.write(0, 8, 1);
    host.flush();
    host.hold(is_root_put);
    host.send_wish(Wish::Checkpoint);
    host.kill();
    host.open();
    host.hold(is_delete);
    let search = host.send_wish(COLLECT);
    host.pass(Duration::from_secs(5));
    assert!(host.open.iter().any(is_delete));
    let mut other = Harness::host(Rc::clone(&host.store), 2, host.geometry);
    let verdict = other.wish(TAKE);
    assert!(matches!(verdict, Verdict::Attached { .. }), "{verdict:?}");
    // Its own next publish looks, and finds the door shut.
    let late = host.send_wish(Wish::Checkpoint);
    host.release();
    host.pass(Duration::from_secs(30));
    for wish in [search, late] {
        let verdict = host.told.get(&wish);
        let is_over = matches!(
            verdict,
            Some(Verdict::Refused(Refusal::Fenced) | Verdict::NotConfirmed)
        );
        assert!(is_over, "{verdict:?}");
    }
    let verdict = host.wish(COLLECT);
    assert!(
        matches!(verdict, Verdict::Refused(Refusal::Fenced)),
        "{verdict:?}"
    );
}

#[test]
fn nothing_goes_while_a_read_holds_it() {
    let mut host = Harness::born_with(4096, 64, bare());
    host.write(0, 8, 1);
    let verdict = host.wish(Wish::Checkpoint);
    assert!(matches!(verdict, Verdict::Committed(_)), "{verdict:?}");
    let old = reached(&host);
    host.hold(is_frames);
    host.send(engine::command::Command::Read(engine::units::Extent::new(
        0, 8,
    )));
    assert!(host.open.iter().any(is_frames));
    for fill in [2, 3] {
        host.write(0, 8, fill);
        let verdict = host.wish(Wish::Checkpoint);
        assert!(matches!(verdict, Verdict::Committed(_)), "{verdict:?}");
    }
    host.pass(Duration::from_secs(1200));
    let data = |names: &BTreeSet<String>| -> BTreeSet<String> {
        let data = names.iter().filter(|name| name.starts_with("chunks/"));
        data.cloned().collect()
    };
    assert!(
        data(&old).is_subset(&stored(&host)),
        "the read is still under way"
    );
    host.release();
    host.pass(Duration::from_secs(60));
    assert_eq!(stored(&host), reached(&host));
}

#[test]
fn deletes_that_are_due_while_a_look_is_awaited_turn_in_no_ring() {
    let mut host = Harness::born_with(4096, 64, bare());
    let read = |at| engine::command::Command::Read(engine::units::Extent::new(at, 8));
    for at in [0, 32] {
        host.write(at, 8, 1);
        host.wish(Wish::Checkpoint);
    }
    host.hold(is_frames);
    host.send(read(0));
    host.send(read(32));
    assert!(host.open.iter().filter(|e| is_frames(e)).count() >= 2);
    for fill in [2, 3] {
        host.write(0, 8, fill);
        host.write(32, 8, fill);
        host.wish(Wish::Checkpoint);
    }
    // Both objects are dead and held: their deletes are tried each second, and use the look up.
    host.pass(Duration::from_secs(700));
    host.hold(|effect| is_frames(effect) || crate::is_door_get(effect));
    host.pass(Duration::from_secs(300));
    assert!(
        host.open.iter().any(crate::is_door_get),
        "a look is awaited"
    );
    host.release();
    host.pass(Duration::from_secs(60));
    assert_eq!(stored(&host), reached(&host));
}

// --- pins ---

fn child_container() -> Container {
    Container::new("child", VolumeId([8; 16]))
}

/// A parent whose snapshot `a` was cloned and then superseded, and the child.
fn with_a_child() -> (Harness, Harness) {
    let mut parent = Harness::born_with(4096, 64, bare());
    parent.write(0, 8, 1);
    let mut child = Harness::host_of(
        child_container(),
        Rc::clone(&parent.store),
        2,
        parent.geometry,
        bare(),
    );
    let spec = BirthSpec {
        geometry: parent.geometry,
        kind: VolumeKind::Disk,
        parent: Some(parent.volume.root().expect("it is born").container.clone()),
        attributes: Vec::new(),
    };
    assert!(matches!(child.wish(Wish::Birth(spec)), Verdict::Begun));
    let pinned = parent.wish(Wish::Pin {
        child: child_container(),
        snapshot: None,
    });
    let Verdict::Pinned(base) = pinned else {
        panic!("{pinned:?}");
    };
    // The child is unborn, and its pin holds.
    assert_eq!(collect(&mut parent).unpinned, []);
    let base = Some(base);
    let verdict = child.wish(Wish::FinishBirth { base });
    assert!(matches!(verdict, Verdict::Born(_)), "{verdict:?}");
    parent.write(0, 8, 2);
    let verdict = parent.wish(Wish::Checkpoint);
    assert!(matches!(verdict, Verdict::Committed(_)), "{verdict:?}");
    parent.pass(Duration::from_secs(1200));
    (parent, child)
}

fn pins(host: &Harness) -> usize {
    host.volume.root().map_or(0, |root| root.pins.len())
}

#[test]
fn a_pin_holds_while_its_child_reaches_the_parent() {
    let (mut parent, mut child) = with_a_child();
    assert_eq!(child.read(0, 8), [1; 8]);
    // A block of each chunk is its own now; the rest is still the parent's.
    child.write(0, 1, 3);
    child.write(4, 1, 3);
    let verdict = child.wish(snapshot("s", 1));
    assert!(matches!(verdict, Verdict::Committed(_)), "{verdict:?}");
    assert_eq!(collect(&mut parent).unpinned, []);
    // Its present lets go, its snapshot does not.
    child.write(0, 8, 4);
    let verdict = child.wish(Wish::Checkpoint);
    assert!(matches!(verdict, Verdict::Committed(_)), "{verdict:?}");
    child.pass(Duration::from_secs(1200));
    assert_eq!(collect(&mut parent).unpinned, []);
    assert_eq!(pins(&parent), 1);
    assert_eq!(child.read(0, 8), [4; 8]);
}

#[test]
fn a_pin_goes_when_nothing_of_its_child_reaches_the_parent() {
    let (mut parent, mut child) = with_a_child();
    child.write(0, 8, 4);
    let verdict = child.wish(Wish::Checkpoint);
    assert!(matches!(verdict, Verdict::Committed(_)), "{verdict:?}");
    let unpinned = collect(&mut parent).unpinned;
    assert_eq!(unpinned.len(), 1, "{:?}", parent.volume.root());
    parent.pass(Duration::from_secs(1));
    assert_eq!(pins(&parent), 0);
    parent.pass(Duration::from_secs(1200));
    collect(&mut parent);
    // What only the pin kept is gone, root and all.
    assert_eq!(stored_of(&parent, "disk"), reached(&parent));
    assert_eq!(parent.read(0, 8), [2; 8]);
}

#[test]
fn a_pin_goes_when_its_childs_superblock_is_gone() {
    let (mut parent, _child) = with_a_child();
    let gone = (child_container(), ObjectName::Volume.to_string());
    parent.store.borrow_mut().objects.remove(&gone);
    assert_eq!(collect(&mut parent).unpinned.len(), 1);
    parent.pass(Duration::from_secs(1200));
    assert_eq!(pins(&parent), 0);
    collect(&mut parent);
    assert_eq!(stored_of(&parent, "disk"), reached(&parent));
}

#[test]
fn a_pin_that_holds_nothing_goes_by_itself_though_nobody_writes() {
    let (mut parent, _child) = with_a_child();
    parent.kill();
    parent.open();
    let generation = parent.volume.root().map(|root| root.name.attach.generation);
    // The child is asked about, and holds; the parent is not attached for that.
    assert!(asked(&mut parent, HOUR * 5) > 0);
    assert_eq!(pins(&parent), 1);
    assert_eq!(parent.volume.status().attach, None);
    let gone = (child_container(), ObjectName::Volume.to_string());
    parent.store.borrow_mut().objects.remove(&gone);
    parent.pass(HOUR * 2);
    assert_eq!(pins(&parent), 0);
    let newest = parent.volume.root().map(|root| root.name.attach.generation);
    assert!(newest > generation, "{newest:?}");
    // What only the pin kept is dying for its grace, and the attach is followed by a search.
    parent.pass(HOUR * 3);
    assert_eq!(stored_of(&parent, "disk"), reached(&parent));
    assert_eq!(asked(&mut parent, HOUR * 24), 0);
    assert_eq!(parent.read(0, 8), [2; 8]);
}

#[test]
fn a_search_that_is_due_while_another_waits_for_its_attach_turns_in_no_ring() {
    let (mut parent, _child) = with_a_child();
    parent.kill();
    parent.open();
    parent.hold(crate::is_claim_put);
    let wish = parent.send_wish(Wish::Collect { min_age: None });
    parent.pass(HOUR * 5);
    assert!(!parent.told.contains_key(&wish));
    parent.release();
    parent.pass(Duration::from_secs(60));
    let verdict = parent.told.get(&wish);
    assert!(
        matches!(verdict, Some(Verdict::Collected(_))),
        "{verdict:?}"
    );
}

#[test]
fn a_pin_holds_while_its_child_reaches_beyond_the_parent() {
    // What the grandchild stands on is the grandparent's, and the parent's pin is all that keeps that there.
    let (grandparent, mut parent) = with_a_child();
    let container = Container::new("grandchild", VolumeId([9; 16]));
    let store = Rc::clone(&grandparent.store);
    let mut child = Harness::host_of(container.clone(), store, 3, parent.geometry, bare());
    let spec = BirthSpec {
        geometry: parent.geometry,
        kind: VolumeKind::Disk,
        parent: Some(child_container()),
        attributes: Vec::new(),
    };
    assert!(matches!(child.wish(Wish::Birth(spec)), Verdict::Begun));
    let pinned = parent.wish(Wish::Pin {
        child: container,
        snapshot: None,
    });
    let Verdict::Pinned(base) = pinned else {
        panic!("{pinned:?}");
    };
    let base = Some(base);
    let verdict = child.wish(Wish::FinishBirth { base });
    assert!(matches!(verdict, Verdict::Born(_)), "{verdict:?}");
    assert_eq!(collect(&mut parent).unpinned, []);
    assert_eq!(pins(&parent), 1);
    assert_eq!(child.read(0, 8), [1; 8]);
}

#[test]
fn a_pin_holds_while_the_store_does_not_say() {
    let (mut parent, _child) = with_a_child();
    let gone = (child_container(), ObjectName::Volume.to_string());
    parent.store.borrow_mut().objects.remove(&gone);
    parent.store.borrow_mut().away = Some(StoreError::Denied);
    let verdict = parent.wish(COLLECT);
    assert!(matches!(verdict, Verdict::Refused(_)), "{verdict:?}");
    parent.store.borrow_mut().away = None;
    assert_eq!(pins(&parent), 1);
    assert_eq!(collect(&mut parent).unpinned.len(), 1);
}

/// More objects go than one look covers. The store falls silent: the next look is asked again and again, and what could not
/// be deleted waits for it.
#[test]
fn a_delete_that_is_due_while_a_look_is_asked_turns_in_no_ring() {
    let mut host = Harness::born_with(4096, 64, bare());
    for fill in 0..300_u32 {
        host.write(0, 1, fill as u8);
        host.wish(Wish::Checkpoint);
    }
    host.hold(is_delete);
    host.pass(Duration::from_secs(700));
    assert!(host.open.iter().any(is_delete), "the first look is over");
    host.store.borrow_mut().away = Some(StoreError::Unavailable);
    host.release();
    host.pass(Duration::from_secs(60));
    host.store.borrow_mut().away = None;
    host.pass(Duration::from_secs(1200));
    assert_eq!(stored(&host), reached(&host));
}

#[test]
fn who_asks_for_the_same_is_served_by_one_run_and_who_asks_too_much_is_told() {
    let mut host = Harness::born_with(4096, 64, bare());
    host.write(0, 8, 1);
    host.wish(Wish::Checkpoint);
    host.hold(|effect| matches!(effect, Effect::Store { .. }));
    let ask = |host: &mut Harness, hours: u64| {
        let min_age = Some(HOUR * hours as u32);
        host.send_wish(Wish::Collect { min_age })
    };
    // The first run begins at once; 16 wait: twelve for the same, and four for another age.
    let first = ask(&mut host, 1);
    let waiting: Vec<u64> = (0..16).map(|n| ask(&mut host, 1 + n / 12)).collect();
    let refused = ask(&mut host, 1);
    let verdict = host.told.remove(&refused);
    assert!(
        matches!(verdict, Some(Verdict::Refused(Refusal::Busy))),
        "{verdict:?}"
    );
    let before = host.store.borrow().requests;
    let cost_of_one = {
        let mut lone = Harness::born_with(4096, 64, bare());
        lone.write(0, 8, 1);
        lone.wish(Wish::Checkpoint);
        let before = lone.store.borrow().requests;
        ask(&mut lone, 1);
        lone.pass(Duration::from_secs(30));
        lone.store.borrow().requests - before
    };
    host.release();
    host.pass(Duration::from_secs(60));
    for wish in [first].into_iter().chain(waiting) {
        let verdict = host.told.remove(&wish);
        assert!(
            matches!(verdict, Some(Verdict::Collected(_))),
            "{verdict:?}"
        );
    }
    assert_eq!(host.store.borrow().requests - before, 3 * cost_of_one);
}
