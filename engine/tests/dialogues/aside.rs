//! A journal of a history that another host left behind: kept for rescue when the store does not have all of it, and of no
//! use otherwise.

use crate::harness::Harness;
use crate::{is_root_put, taken_over};
use engine::Limits;
use engine::command::{Command, Verdict, Wish};
use engine::effect::Notice;
use engine::ids::{FileId, Generation};
use engine::object::names::ObjectName;
use engine::time::Duration;
use engine::units::{ByteCount, Extent};
use std::collections::BTreeMap;

fn attach(host: &mut Harness) -> bool {
    let verdict = host.wish(Wish::Attach {
        take_over: false,
        accept_loss: false,
    });
    match verdict {
        Verdict::Attached { set_aside, .. } => set_aside,
        other => panic!("{other:?}"),
    }
}

/// Files with records, and what is in them.
fn files(host: &Harness) -> BTreeMap<FileId, Vec<u8>> {
    (host.disk.files.iter())
        .filter(|(_, file)| file.written.iter().any(|byte| *byte != 0))
        .map(|(id, file)| (*id, file.written.clone()))
        .collect()
}

fn listed(host: &Harness) -> Vec<FileId> {
    let note = host.disk.notes.iter().max_by_key(|note| note.serial);
    note.map_or_else(Vec::new, |note| note.aside.clone())
}

/// A host that wrote, whose volume another host took and gave up again; then it is ours again. Also the files that it had.
fn left_behind(all_stored: bool) -> (Harness, BTreeMap<FileId, Vec<u8>>) {
    let mut host = Harness::born(512, 100);
    host.send_wish(Wish::Sessions(1));
    for fill in 1..40 {
        host.write(0, 8, fill);
    }
    host.flush();
    if all_stored {
        host.wish(Wish::Checkpoint);
    }
    let before = files(&host);
    assert!(!before.is_empty());
    let mut other = taken_over(&host, 2);
    other.write(8, 1, 50);
    let verdict = other.wish(Wish::Detach);
    assert!(matches!(verdict, Verdict::Detached(_)), "{verdict:?}");
    host.pass(Duration::from_secs(20));
    assert_eq!(attach(&mut host), !all_stored);
    (host, before)
}

#[test]
fn what_was_set_aside_stays_as_it_was() {
    let (mut host, before) = left_behind(false);
    let is_there = |host: &Harness| {
        let now = files(host);
        assert_eq!(listed(host), before.keys().copied().collect::<Vec<_>>());
        assert!(before.iter().all(|(id, bytes)| now.get(id) == Some(bytes)));
    };
    is_there(&host);
    // Much more than all files hold, before and after a restart.
    for _ in 0..2 {
        for fill in 1..200 {
            host.write(16, 64, fill);
            if fill % 20 == 0 {
                host.wish(Wish::Checkpoint);
            }
        }
        is_there(&host);
        host.kill();
        host.open();
        assert_eq!(host.read(0, 9), [0, 0, 0, 0, 0, 0, 0, 0, 50]);
        assert_eq!(host.read(16, 64), [199; 64]);
    }
    let damaged = |notice: &&Notice| matches!(notice, Notice::Damaged { .. });
    assert_eq!(host.notices.iter().find(damaged), None);
}

#[test]
fn a_journal_that_is_all_stored_is_not_set_aside() {
    let (mut host, _) = left_behind(true);
    assert_eq!(listed(&host), []);
    assert_eq!(host.read(0, 9), [39, 39, 39, 39, 39, 39, 39, 39, 50]);
    host.write(16, 8, 60);
    host.kill();
    host.open();
    assert_eq!(host.read(8, 9), [50, 0, 0, 0, 0, 0, 0, 0, 60]);
    for fill in 1..200 {
        host.write(16, 64, fill);
        if fill % 20 == 0 {
            host.wish(Wish::Checkpoint);
        }
    }
    assert!(host.disk.files.len() <= host.limits.files as usize);
}

#[test]
fn a_version_that_landed_before_its_host_was_fenced_is_not_published_again() {
    let mut host = Harness::born(512, 100);
    host.send_wish(Wish::Sessions(1));
    host.write(0, 8, 1);
    host.hold(is_root_put);
    let wish = host.send_wish(Wish::Checkpoint);
    // Somebody shuts the door and dies.
    {
        let mut store = host.store.borrow_mut();
        let door = |g| ObjectName::Door(Generation(g)).to_string();
        let (container, _) = store.objects.keys().next().expect("objects").clone();
        let bytes = store.objects[&(container.clone(), door(1))].clone();
        store.objects.insert((container, door(2)), bytes);
    }
    host.release();
    let verdict = host.told.get(&wish);
    assert!(
        matches!(verdict, Some(Verdict::NotConfirmed)),
        "{verdict:?}"
    );
    host.pass(Duration::from_secs(60));
    assert_eq!(host.volume.status().phase, "serving");
    // It is the base that the history goes on from.
    let versions = |host: &Harness| {
        let store = host.store.borrow();
        let names = store.objects.keys().map(|(_, name)| name.clone());
        names.filter(|name| name.starts_with("versions/")).count()
    };
    assert_eq!(versions(&host), 2);
    assert_eq!(host.volume.status().stored, host.volume.status().written);
    host.pass(Duration::from_secs(400));
    assert_eq!(versions(&host), 2, "nothing was written since");
    assert_eq!(host.read(0, 9), [1, 1, 1, 1, 1, 1, 1, 1, 0]);
    host.write(1, 1, 2);
    let verdict = host.wish(Wish::Checkpoint);
    assert!(matches!(verdict, Verdict::Committed(_)), "{verdict:?}");
    host.kill();
    host.open();
    assert_eq!(host.read(0, 3), [1, 2, 1]);
}

#[test]
fn who_holds_the_volume_is_told_so_and_draws_no_other_number() {
    let mut host = Harness::born(512, 100);
    let attach = host.volume.status().attach;
    let asked = host.store.borrow().requests;
    for take_over in [false, true] {
        let verdict = host.wish(Wish::Attach {
            take_over,
            accept_loss: true,
        });
        match verdict {
            Verdict::Attached { attach: told, .. } => assert_eq!(told, attach),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(host.volume.status().attach, attach);
    assert_eq!(host.store.borrow().requests, asked);
}

/// Two long layers are being joined, a part of them per fact, when another host takes the volume.
#[test]
fn a_host_that_is_fenced_while_it_joins_layers_comes_to_rest() {
    let limits = Limits {
        file_bytes: ByteCount(1 << 20),
        files: 8,
        ..Limits::default()
    };
    let mut host = Harness::born_with(512, 20_000, limits);
    host.write(0, 8, 1);
    host.hold(is_root_put);
    host.send_wish(Wish::Checkpoint);
    for first in (0..10_000).step_by(128) {
        let extents = (0..64).map(|n| Extent::new(first + 2 * n, 1));
        host.send(Command::Discard(extents.collect()));
    }
    host.send_wish(Wish::Checkpoint);
    host.write(3, 1, 2);
    host.send_wish(Wish::Checkpoint);
    host.release();
    let is_joining = |host: &Harness| host.volume.poll_timeout() == Some(host.now);
    assert!(is_joining(&host));
    taken_over(&host, 2);
    host.wish(Wish::Look);
    assert_eq!(host.volume.status().phase, "fenced");
    host.pass(Duration::from_secs(60));
}
