//! An unborn volume is erased: whatever the store or the process does on the way, no volume is left in the end.

use crate::harness::{Buf, Harness};
use engine::command::{Verdict, Wish};
use engine::effect::{Effect, Gate, GateReason, Notice, StoreError};
use engine::ids::Tag;
use engine::payload::{Part, Parts};
use engine::time::Duration;
use engine::units::ChunkIndex;
use std::rc::Rc;

/// A host that was killed while it loaded a volume that is not born.
fn unborn() -> Harness {
    let geometry = Harness::born(512, 100).geometry;
    let mut host = Harness::host(Rc::default(), 1, geometry);
    host.begin_birth();
    for chunk in 0..2 {
        let data = Buf::new(&[7; 4096]);
        let grains = vec![(0, Parts([Part::Data(data)].into_iter().collect()))];
        let chunk = ChunkIndex(chunk);
        assert!(matches!(
            host.wish(Wish::Load { chunk, grains }),
            Verdict::Loaded
        ));
    }
    host.kill();
    host
}

/// From now on the store is asked so often, and no more.
fn hold_after(host: &mut Harness, requests: u64) {
    let store = Rc::clone(&host.store);
    let last = store.borrow().requests + requests;
    host.hold(move |effect: &Effect<Buf>| {
        matches!(effect, Effect::Store { .. }) && store.borrow().requests >= last
    });
}

#[track_caller]
fn check_erased(host: &mut Harness, wish: u64, text: &str) {
    let verdict = host.told.remove(&wish);
    assert!(
        matches!(verdict, Some(Verdict::Erased)),
        "{text}: {verdict:?}"
    );
    assert!(host.store.borrow().objects.is_empty(), "{text}");
    assert_eq!(
        host.gates.last(),
        Some(&Gate::Closed(GateReason::Detached)),
        "{text}"
    );
    assert_eq!(host.volume.status().phase, "detached", "{text}");
    assert_eq!(host.volume.poll_timeout(), None, "{text}");
}

/// How often the store is asked by an erasing that nothing disturbs.
fn requests() -> u64 {
    let mut host = unborn();
    let store = Rc::clone(&host.store);
    let before = store.borrow().requests;
    let wish = host.send_wish(Wish::Open);
    host.pass(Duration::from_secs(30));
    check_erased(&mut host, wish, "undisturbed");
    let after = store.borrow().requests;
    after - before
}

#[test]
fn an_erasing_goes_on_after_the_store_was_silent() {
    for after in 0..requests() {
        let mut host = unborn();
        hold_after(&mut host, after);
        let wish = host.send_wish(Wish::Open);
        host.pass(Duration::from_secs(30));
        host.store.borrow_mut().away = Some(StoreError::Unavailable);
        host.release();
        host.pass(Duration::from_secs(5));
        host.store.borrow_mut().away = None;
        host.pass(Duration::from_secs(60));
        if after == 0 {
            // It was refused, and nothing happened: the operator asks again.
            let refused = host.told.remove(&wish);
            assert!(matches!(refused, Some(Verdict::Refused(_))), "{refused:?}");
            continue;
        }
        check_erased(&mut host, wish, &format!("silent after {after}"));
    }
}

#[test]
fn an_erasing_that_waits_for_the_store_is_told() {
    for after in 1..requests() {
        let mut host = unborn();
        hold_after(&mut host, after);
        let wish = host.send_wish(Wish::Open);
        host.pass(Duration::from_secs(30));
        host.notices.clear();
        host.store.borrow_mut().away = Some(StoreError::Full);
        host.release();
        host.pass(Duration::from_secs(60));
        let is_told = |notice: &Notice| {
            matches!(
                notice,
                Notice::StoreWaiting {
                    error: StoreError::Full,
                    ..
                }
            )
        };
        // Or it has not begun, and the operator was refused.
        let is_refused = matches!(host.told.get(&wish), Some(Verdict::Refused(_)));
        assert!(
            is_refused || host.notices.iter().any(is_told),
            "after {after}: {:?} {:?}",
            host.notices,
            host.told.get(&wish)
        );
    }
}

#[test]
fn an_erasing_goes_on_after_a_restart() {
    let mut nothing_left = 0;
    for after in 0..requests() {
        let mut host = unborn();
        hold_after(&mut host, after);
        host.send_wish(Wish::Open);
        host.pass(Duration::from_secs(30));
        host.kill();
        let wish = host.send_wish(Wish::Open);
        host.pass(Duration::from_secs(60));
        let text = format!("killed after {after}");
        let verdict = host.told.remove(&wish);
        assert!(
            matches!(verdict, Some(Verdict::Erased)),
            "{text}: {verdict:?}"
        );
        // Who finds no `volume` finds no volume: the small objects that are left are for `gc`.
        let left = host.store.borrow().objects.clone();
        let is_small = |name: &str| {
            let small = ["claims/", "doors/", "opened/", "versions/"];
            small.iter().any(|prefix| name.starts_with(prefix))
        };
        let small = left.keys().all(|(_, name)| is_small(name));
        assert!(small, "{text}: {:?}", left.keys());
        nothing_left += u64::from(left.is_empty());
    }
    assert!(nothing_left > requests() / 2, "{nothing_left}");
}

#[test]
fn no_guest_is_served_by_what_is_erased() {
    let mut host = unborn();
    hold_after(&mut host, 12);
    host.send_wish(Wish::Open);
    host.pass(Duration::from_secs(30));
    let read = host.send(engine::command::Command::Read(engine::units::Extent::new(
        0, 1,
    )));
    host.volume.handle_abort(host.now, Tag(read));
    host.run();
    let reply = host.replies.get(&read);
    assert!(
        matches!(reply, Some(engine::command::Reply::Failed(_))),
        "{reply:?}"
    );
}
