//! An error of the store that stays is told to the operator, now and then, whoever waits for it.

use crate::harness::Harness;
use engine::Wish;
use engine::effect::{Notice, StoreError};
use engine::time::Duration;

/// What was told of waiting for the store: the object, and what the store said.
fn told(host: &Harness) -> Vec<(&str, StoreError)> {
    let waiting = host.notices.iter().filter_map(|notice| match notice {
        Notice::StoreWaiting { object, error } => Some((object.as_str(), *error)),
        _ => None,
    });
    waiting.collect()
}

#[test]
fn an_attach_that_waits_for_the_store_is_told() {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    host.wish(Wish::Detach);
    host.store.borrow_mut().away = Some(StoreError::Unavailable);
    host.notices.clear();
    host.send_wish(Wish::Attach {
        take_over: false,
        accept_loss: false,
    });
    host.pass(Duration::from_secs(9));
    assert_eq!(told(&host), [], "it may be a hiccup");
    host.pass(Duration::from_secs(36));
    let told = told(&host);
    assert_eq!(told.len(), 2, "now and then: {told:?}");
    assert!(
        told.iter()
            .all(|(_, error)| *error == StoreError::Unavailable)
    );
}

#[test]
fn a_store_that_refuses_who_only_watches_is_told() {
    let mut host = Harness::born(512, 100);
    host.wish(Wish::Sessions(1));
    host.pass(Duration::from_secs(20));
    host.notices.clear();
    host.store.borrow_mut().away = Some(StoreError::Denied);
    host.pass(Duration::from_secs(30));
    assert_eq!(told(&host), [("the store", StoreError::Denied)]);
}

#[test]
fn an_attach_that_nobody_asked_for_is_told_when_the_store_refuses_it() {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    host.kill();
    host.store.borrow_mut().away = Some(StoreError::Denied);
    host.open();
    host.notices.clear();
    host.send_wish(Wish::Checkpoint);
    host.pass(Duration::from_secs(2));
    let told = told(&host);
    assert!(matches!(told[..], [(_, StoreError::Denied)]), "{told:?}");
}

#[test]
fn a_journal_that_stays_full_is_told_once_until_there_is_room() {
    let mut host = Harness::born(512, 400);
    let full = |host: &Harness| {
        let is_it = |notice: &&Notice| matches!(notice, Notice::JournalFull);
        host.notices.iter().filter(is_it).count()
    };
    host.store.borrow_mut().away = Some(StoreError::Unavailable);
    // More than all files hold; what finds no room is answered BUSY.
    for n in 0..200 {
        host.send_write(n % 50 * 8, 8, 1);
    }
    assert_eq!(full(&host), 0, "it may be but for a moment");
    host.pass(Duration::from_secs(13));
    assert_eq!(full(&host), 1);
    host.send_write(0, 8, 2);
    host.pass(Duration::from_secs(13));
    assert_eq!(full(&host), 1, "it was told");
    host.store.borrow_mut().away = None;
    host.pass(Duration::from_secs(60));
    host.write(0, 8, 3);
    host.store.borrow_mut().away = Some(StoreError::Unavailable);
    for n in 0..200 {
        host.send_write(n % 50 * 8, 8, 1);
    }
    host.pass(Duration::from_secs(13));
    assert_eq!(full(&host), 2, "there was room in between");
}

#[test]
fn a_look_that_is_refused_is_asked_again_now_and_then() {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    host.hold(crate::is_root_put);
    let wish = host.send_wish(Wish::Checkpoint);
    assert!(host.open.iter().any(crate::is_root_put));
    host.hold(crate::is_door_get);
    host.run();
    host.store.borrow_mut().away = Some(StoreError::Denied);
    host.hold(|_| false);
    let before = host.store.borrow().requests;
    host.run();
    host.pass(Duration::from_secs(20));
    let asked = host.store.borrow().requests - before;
    assert!((20..=60).contains(&asked), "{asked} requests in 20 s");
    assert!(!host.told.contains_key(&wish), "it may be committed");
    host.store.borrow_mut().away = None;
    host.pass(Duration::from_secs(3));
    let verdict = host.told.get(&wish);
    assert!(
        matches!(verdict, Some(engine::command::Verdict::Committed(_))),
        "{verdict:?}"
    );
}
