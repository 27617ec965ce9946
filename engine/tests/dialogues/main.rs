//! Dialogues: facts told to a volume one by one, in the order that hurts.

extern crate martlet_engine as engine;

mod aside;
mod collect;
mod costs;
mod erase;
mod guests;
#[allow(dead_code)] // Later dialogues may use what these do not.
mod harness;
mod images;
mod merge;
mod room;
mod rot;
mod waits;

use engine::Limits;
use engine::command::{Command, Failure, Refusal, Reply, Verdict, Wish};
use engine::effect::{
    DiskRequest, Effect, Expect, Gate, GateReason, Notice, StoreError, StoreRequest,
};
use engine::ids::{Container, FileId, Generation, Seq, Tag, WishKey};
use engine::object::names::ObjectName;
use engine::time::Duration;
use engine::units::{ByteCount, Extent, Lba};
use harness::{Buf, Harness};
use std::rc::Rc;

fn is_append(effect: &Effect<Buf>) -> bool {
    matches!(effect, Effect::Append { .. })
}

fn is_sync(effect: &Effect<Buf>) -> bool {
    matches!(effect, Effect::Sync { .. })
}

fn is_root_put(effect: &Effect<Buf>) -> bool {
    matches!(
        effect,
        Effect::Store {
            request: StoreRequest::Put {
                name: ObjectName::Root(_),
                ..
            },
            ..
        }
    )
}

fn is_claim_put(effect: &Effect<Buf>) -> bool {
    matches!(
        effect,
        Effect::Store {
            request: StoreRequest::Put {
                name: ObjectName::Claim(_),
                ..
            },
            ..
        }
    )
}

fn is_opened_put(effect: &Effect<Buf>) -> bool {
    matches!(
        effect,
        Effect::Store {
            request: StoreRequest::Put {
                name: ObjectName::Opened(_),
                ..
            },
            ..
        }
    )
}

fn is_note(effect: &Effect<Buf>) -> bool {
    matches!(
        effect,
        Effect::Disk {
            request: DiskRequest::WriteNote(_),
            ..
        }
    )
}

fn snapshot(name: &str, key: u64) -> Wish<Buf> {
    Wish::Snapshot {
        name: Some(name.into()),
        key: WishKey(key),
    }
}

const TAKE: Wish<Buf> = Wish::Attach {
    take_over: true,
    accept_loss: true,
};

/// Another host, which has taken the volume over from `host`.
fn taken_over(host: &Harness, state_dir: u64) -> Harness {
    let mut other = Harness::host(Rc::clone(&host.store), state_dir, host.geometry);
    let verdict = other.wish(TAKE);
    assert!(matches!(verdict, Verdict::Attached { .. }), "{verdict:?}");
    other
}

#[test]
fn what_was_written_is_read_before_and_after_a_commit_and_a_restart() {
    let mut host = Harness::born(512, 100);
    host.write(3, 20, 7);
    assert_eq!(host.read(2, 3), [0, 7, 7]);
    let verdict = host.wish(snapshot("a", 1));
    assert!(matches!(verdict, Verdict::Committed(_)), "{verdict:?}");
    host.write(4, 1, 9);
    assert_eq!(host.read(2, 4), [0, 7, 9, 7]);
    host.kill();
    host.open();
    assert_eq!(host.read(2, 4), [0, 7, 9, 7]);
}

// --- giving up ---

#[test]
fn a_restarted_host_detaches_though_it_is_not_attached_yet() {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    host.kill();
    host.open();
    let verdict = host.wish(Wish::Detach);
    assert!(matches!(verdict, Verdict::Detached(_)), "{verdict:?}");
}

#[test]
fn the_intent_to_detach_outlives_the_attach_that_the_detach_needs() {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    host.kill();
    host.open();
    host.hold(is_root_put);
    host.send_wish(Wish::Detach);
    host.pass(Duration::from_secs(10));
    assert!(host.open.iter().any(is_root_put), "the root is on its way");
    let note = host.disk.notes.iter().max_by_key(|note| note.serial);
    assert!(note.is_some_and(|note| note.intent.is_some()));
}

#[test]
fn a_detach_that_finds_another_holder_is_answered() {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    host.kill();
    host.open();
    taken_over(&host, 2);
    let verdict = host.wish(Wish::Detach);
    assert!(
        matches!(verdict, Verdict::Refused(Refusal::Fenced)),
        "{verdict:?}"
    );
}

#[test]
fn a_wish_for_a_version_behind_a_detach_is_answered() {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    host.hold(is_root_put);
    let detach = host.send_wish(Wish::Detach);
    let late = host.send_wish(Wish::Checkpoint);
    host.release();
    host.pass(Duration::from_secs(1));
    assert!(matches!(host.told.get(&detach), Some(Verdict::Detached(_))));
    assert!(host.told.contains_key(&late));
}

#[test]
fn what_no_listing_shows_yet_is_erased_too() {
    let geometry = Harness::born(512, 100).geometry;
    let mut host = Harness::host(Rc::default(), 1, geometry);
    host.begin_birth();
    // The listing lags behind all that was put so far.
    let names = (host.store.borrow().objects.keys())
        .map(|(_, name)| name.clone())
        .collect();
    host.store.borrow_mut().unlisted = names;
    host.kill();
    let opened = host.send_wish(Wish::Open);
    host.pass(Duration::from_secs(60));
    let verdict = host.told.get(&opened);
    assert!(matches!(verdict, Some(Verdict::Erased)), "{verdict:?}");
    let left = host
        .store
        .borrow()
        .objects
        .keys()
        .cloned()
        .collect::<Vec<_>>();
    assert!(left.is_empty(), "{left:?}");
}

// --- a history that another host left behind ---

#[test]
fn writes_after_a_journal_was_set_aside_survive_a_restart() {
    let mut host = Harness::born(512, 100);
    host.send_wish(Wish::Sessions(1));
    host.write(0, 8, 1);
    host.wish(Wish::Checkpoint);
    for fill in 2..30 {
        host.write(0, 8, fill);
    }
    host.flush();
    let mut other = taken_over(&host, 2);
    other.write(8, 1, 50);
    let verdict = other.wish(Wish::Detach);
    assert!(matches!(verdict, Verdict::Detached(_)), "{verdict:?}");
    host.pass(Duration::from_secs(20));
    let verdict = host.wish(Wish::Attach {
        take_over: false,
        accept_loss: false,
    });
    assert!(matches!(verdict, Verdict::Attached { .. }), "{verdict:?}");
    assert_eq!(host.read(0, 1), [1]);
    host.write(16, 1, 60);
    host.flush();
    host.kill();
    host.open();
    assert_eq!(host.read(8, 1), [50]);
    assert_eq!(host.read(16, 1), [60]);
    host.write(17, 1, 61);
}

#[test]
fn a_detach_that_finds_its_history_left_behind_is_answered() {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    host.wish(Wish::Checkpoint);
    host.write(8, 8, 2);
    host.flush();
    host.kill();
    host.open();
    let mut other = taken_over(&host, 2);
    other.write(16, 1, 50);
    let verdict = other.wish(Wish::Detach);
    assert!(matches!(verdict, Verdict::Detached(_)), "{verdict:?}");
    let asked = [
        host.send_wish(snapshot("late", 7)),
        host.send_wish(Wish::Detach),
        host.send_wish(Wish::Checkpoint),
    ];
    host.pass(Duration::from_secs(60));
    for wish in asked {
        let verdict = host.told.get(&wish);
        assert!(
            matches!(verdict, Some(Verdict::Refused(_))),
            "{wish:?}: {verdict:?}"
        );
    }
    // What was served here is another history than the newest: it comes back only by a new attach.
    let verdict = host.wish(Wish::Attach {
        take_over: false,
        accept_loss: false,
    });
    assert!(matches!(verdict, Verdict::Attached { .. }), "{verdict:?}");
    assert_eq!(host.read(8, 1), [0]);
    assert_eq!(host.read(16, 1), [50]);
}

#[test]
fn a_version_of_a_history_left_behind_is_not_published_over_the_next() {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    host.wish(Wish::Checkpoint);
    host.kill();
    host.open();
    host.send_wish(Wish::Sessions(1));
    host.write(8, 8, 2);
    // Its publish has begun and waits for the attach that it needs.
    host.hold(|effect| is_append(effect) || matches!(effect, Effect::Store { .. }));
    let late = host.send_wish(Wish::Checkpoint);
    host.pass(Duration::from_millis(10));
    let mut other = taken_over(&host, 2);
    other.write(16, 1, 50);
    let verdict = other.wish(Wish::Detach);
    assert!(matches!(verdict, Verdict::Detached(_)), "{verdict:?}");
    host.release();
    host.pass(Duration::from_secs(60));
    let verdict = host.told.get(&late);
    assert!(matches!(verdict, Some(Verdict::Refused(_))), "{verdict:?}");
    let roots = host
        .store
        .borrow()
        .objects
        .keys()
        .cloned()
        .collect::<Vec<_>>();
    let of_ours = |(_, name): &&(Container, String)| {
        name.starts_with("versions/") && name.contains(".00000003-")
    };
    assert_eq!(roots.iter().find(of_ours), None);
}

#[test]
fn a_door_that_others_shut_is_heard_while_the_own_attach_claims() {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    host.wish(Wish::Checkpoint);
    host.kill();
    host.open();
    host.send_wish(Wish::Sessions(1));
    host.write(8, 8, 2);
    // Its publish attaches anew; the claim is under way.
    host.hold(is_claim_put);
    host.send_wish(Wish::Checkpoint);
    host.pass(Duration::from_millis(10));
    assert!(
        host.open.iter().any(is_claim_put),
        "the claim is on its way"
    );
    taken_over(&host, 2);
    host.pass(Duration::from_secs(6));
    let late = host.send(Command::Read(Extent::new(8, 1)));
    host.pass(Duration::from_secs(1));
    let reply = host.replies.get(&late);
    assert!(!matches!(reply, Some(Reply::Read(_))), "{reply:?}");
    host.release();
    host.pass(Duration::from_secs(30));
    let reply = host.replies.get(&late);
    assert!(
        matches!(reply, Some(Reply::Failed(Failure::Fenced))),
        "{reply:?}"
    );
}

#[test]
fn a_journal_left_behind_before_any_commit_note_is_no_damage() {
    let geometry = Harness::born(512, 100).geometry;
    let mut host = Harness::host(Rc::default(), 1, geometry);
    host.begin_birth();
    host.hold(is_note);
    let born = host.send_wish(Wish::FinishBirth { base: None });
    let verdict = host.told.get(&born);
    assert!(matches!(verdict, Some(Verdict::Born(_))), "{verdict:?}");
    host.write(0, 8, 1);
    host.flush();
    host.kill();
    let mut other = taken_over(&host, 2);
    let verdict = other.wish(Wish::Detach);
    assert!(matches!(verdict, Verdict::Detached(_)), "{verdict:?}");
    // The attach sets the journal aside, and the process dies before it has opened.
    host.hold(is_opened_put);
    host.send_wish(Wish::Open);
    host.pass(Duration::from_secs(60));
    assert!(host.open.iter().any(is_opened_put), "it is about to open");
    host.kill();
    host.release();
    let opened = host.send_wish(Wish::Open);
    host.pass(Duration::from_secs(60));
    let verdict = host.told.get(&opened);
    assert!(
        matches!(verdict, Some(Verdict::Attached { .. })),
        "{verdict:?}"
    );
    let damaged = |notice: &&Notice| matches!(notice, Notice::Damaged { .. } | Notice::ReadOnly);
    assert_eq!(host.notices.iter().find(damaged), None);
    host.send_wish(Wish::Sessions(1));
    host.write(0, 8, 3);
}

#[test]
fn a_host_that_left_its_journal_and_lost_the_volume_closes_its_gate() {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    host.wish(Wish::Checkpoint);
    host.write(8, 8, 2);
    host.flush();
    host.kill();
    host.open();
    host.send_wish(Wish::Sessions(1));
    let mut second = taken_over(&host, 2);
    let verdict = second.wish(Wish::Detach);
    assert!(matches!(verdict, Verdict::Detached(_)), "{verdict:?}");
    // The watch finds the door shut; the attach that follows sets the journal aside, and a third host is faster.
    host.hold(is_opened_put);
    host.pass(Duration::from_secs(30));
    assert!(host.open.iter().any(is_opened_put), "it is about to open");
    taken_over(&host, 3);
    host.release();
    host.pass(Duration::from_secs(60));
    assert_eq!(host.gates.last(), Some(&Gate::Closed(GateReason::Fenced)));
    let late = host.send(Command::Read(Extent::new(0, 1)));
    let reply = host.replies.get(&late);
    assert!(
        matches!(reply, Some(Reply::Failed(Failure::Fenced))),
        "{reply:?}"
    );
}

#[test]
fn an_append_that_ends_late_does_not_reach_the_next_history() {
    let mut host = Harness::born(512, 100);
    host.send_wish(Wish::Sessions(1));
    host.write(0, 8, 1);
    host.wish(Wish::Checkpoint);
    host.write(8, 8, 2);
    host.hold(is_append);
    host.send_write(0, 8, 9);
    let mut other = taken_over(&host, 2);
    other.wish(Wish::Detach);
    host.pass(Duration::from_secs(30));
    host.release();
    host.pass(Duration::from_secs(30));
    let verdict = host.wish(Wish::Attach {
        take_over: false,
        accept_loss: false,
    });
    assert!(matches!(verdict, Verdict::Attached { .. }), "{verdict:?}");
    assert_eq!(host.read(0, 1), [1]);
}

#[test]
fn a_look_before_a_login_shuts_the_gate_of_a_volume_that_was_taken_over() {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    host.wish(Wish::Checkpoint);
    assert!(matches!(host.wish(Wish::Look), Verdict::Looked));
    assert_eq!(host.gates.last(), Some(&Gate::Open));
    // Without an answer it is served on.
    host.store.borrow_mut().away = Some(StoreError::Unavailable);
    assert!(matches!(host.wish(Wish::Look), Verdict::Looked));
    assert_eq!(host.gates.last(), Some(&Gate::Open));
    host.store.borrow_mut().away = None;
    taken_over(&host, 2);
    // Nobody watches while nobody is there.
    assert_eq!(host.gates.last(), Some(&Gate::Open));
    assert!(matches!(host.wish(Wish::Look), Verdict::Looked));
    assert_eq!(host.gates.last(), Some(&Gate::Closed(GateReason::Fenced)));
    assert!(matches!(host.wish(Wish::Look), Verdict::Looked));
}

#[test]
fn a_look_of_a_restarted_host_shuts_the_gate_until_it_knows_whose_door_it_is() {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    host.wish(Wish::Checkpoint);
    host.kill();
    assert!(matches!(host.wish(Wish::Open), Verdict::Attached { .. }));
    taken_over(&host, 2);
    assert_eq!(host.gates.last(), Some(&Gate::Open));
    assert!(matches!(host.wish(Wish::Look), Verdict::Looked));
    assert!(matches!(host.gates.last(), Some(Gate::Closed(_))));
    host.pass(Duration::from_secs(30));
    assert_eq!(host.gates.last(), Some(&Gate::Closed(GateReason::Fenced)));
    // A door that the host itself had shut opens again.
    let mut own = Harness::born(512, 100);
    own.write(0, 8, 1);
    own.wish(Wish::Checkpoint);
    own.kill();
    assert!(matches!(own.wish(Wish::Open), Verdict::Attached { .. }));
    let door = |g| ObjectName::Door(Generation(g)).to_string();
    {
        let mut store = own.store.borrow_mut();
        let (container, _) = store.objects.keys().next().expect("objects").clone();
        let bytes = store.objects[&(container.clone(), door(1))].clone();
        store.objects.insert((container, door(2)), bytes);
    }
    assert!(matches!(own.wish(Wish::Look), Verdict::Looked));
    own.pass(Duration::from_secs(60));
    assert_eq!(own.gates.last(), Some(&Gate::Open));
    assert_eq!(own.read(0, 1), [1]);
}

/// A collection needs an attach, and another holds the volume; `sees`: the door is found shut meanwhile.
fn a_wish_finds_another_holder(sees: bool) {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    host.wish(Wish::Checkpoint);
    host.kill();
    host.open();
    taken_over(&host, 2);
    // The door is found shut while the attach that the collection needs is under way.
    host.hold(|effect| matches!(effect, Effect::Store { .. }) && !is_door_get(effect));
    let collect = host.send_wish(Wish::Collect { min_age: None });
    assert!(!host.open.is_empty(), "the attach asks");
    if sees {
        host.wish(Wish::Look);
        assert!(matches!(host.gates.last(), Some(Gate::Closed(_))));
    }
    host.release();
    host.pass(Duration::from_secs(30));
    assert_eq!(host.volume.status().phase, "fenced");
    let verdict = host.told.get(&collect);
    assert!(
        matches!(verdict, Some(Verdict::Refused(Refusal::Fenced))),
        "{verdict:?}"
    );
    // Another's opened stands above: nothing is asked of the store any more.
    let fenced = |notice: &&Notice| matches!(notice, Notice::Fenced { .. });
    assert_eq!(host.notices.iter().filter(fenced).count(), 1);
    assert_eq!(host.volume.poll_timeout(), None);
}

#[test]
fn who_served_until_its_attach_found_another_holder_is_fenced_once() {
    a_wish_finds_another_holder(false);
}

#[test]
fn who_waited_when_its_attach_found_another_holder_is_fenced_once() {
    a_wish_finds_another_holder(true);
}

#[test]
fn a_fenced_holder_whom_the_store_refuses_asks_again() {
    let mut host = Harness::born(512, 100);
    host.send_wish(Wish::Sessions(1));
    host.write(0, 8, 1);
    // Somebody shut the door and died.
    let door = ObjectName::Door(Generation(2)).to_string();
    let key = {
        let store = host.store.borrow();
        let (container, _) = store.objects.keys().next().expect("objects").clone();
        (container, door)
    };
    let first = ObjectName::Door(Generation(1)).to_string();
    let bytes = host.store.borrow().objects[&(key.0.clone(), first)].clone();
    host.store.borrow_mut().objects.insert(key, bytes);
    while host.gates.last() != Some(&Gate::Closed(GateReason::Fenced)) {
        host.pass(Duration::from_secs(1));
    }
    host.store.borrow_mut().away = Some(StoreError::Denied);
    host.pass(Duration::from_secs(60));
    host.store.borrow_mut().away = None;
    host.pass(Duration::from_secs(60));
    assert_eq!(host.volume.status().phase, "serving");
    assert_eq!(host.gates.last(), Some(&Gate::Open));
    assert_eq!(host.read(0, 1), [1]);
}

// --- answers while nobody knows whose the volume is ---

fn is_read(effect: &Effect<Buf>) -> bool {
    matches!(effect, Effect::Read { .. })
}

fn is_door_get(effect: &Effect<Buf>) -> bool {
    matches!(
        effect,
        Effect::Store {
            request: StoreRequest::Get(get),
            ..
        } if matches!(get.name, ObjectName::Door(_))
    )
}

/// A restarted host that serves and is not attached anew, with a read, a write and a FUA write of it under way.
fn restarted_with_commands_in_flight(before: impl FnOnce(&mut Harness)) -> (Harness, [u64; 3]) {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    host.kill();
    before(&mut host);
    // The store is silent as long as this host asks about the door; then nothing more happens before it watches.
    host.store.borrow_mut().away = Some(StoreError::Unavailable);
    host.open();
    let quiet = |effect: &Effect<Buf>| matches!(effect, Effect::Store { .. });
    host.hold(move |effect| {
        is_read(effect) || is_append(effect) || is_sync(effect) || quiet(effect)
    });
    let read = host.send(Command::Read(Extent::new(0, 8)));
    let write = host.send_write(8, 8, 2);
    let fua = host.command_write(16, 8, 3, true);
    let fua = host.send(fua);
    host.store.borrow_mut().away = None;
    (host, [read, write, fua])
}

/// The watch sees the door shut; then the disk does what it was asked, and only later the attach goes on.
fn the_door_is_seen_before_the_disk_answers(host: &mut Harness, tags: &[u64]) {
    host.hold(|effect| !is_door_get(effect));
    host.send_wish(Wish::Sessions(1));
    host.pass(Duration::from_nanos(0));
    assert_eq!(host.volume.status().phase, "attaching");
    host.hold(|effect| matches!(effect, Effect::Store { .. }));
    host.run();
    for tag in tags {
        assert!(!host.replies.contains_key(tag), "{:?}", host.replies);
    }
}

#[test]
fn what_was_in_flight_when_another_shut_the_door_is_not_answered_well() {
    let (mut host, tags) = restarted_with_commands_in_flight(|host| {
        taken_over(host, 2);
    });
    the_door_is_seen_before_the_disk_answers(&mut host, &tags);
    host.release();
    host.pass(Duration::from_secs(20));
    assert_eq!(host.volume.status().phase, "fenced");
    for tag in tags {
        let reply = host.replies.get(&tag);
        assert!(
            matches!(reply, Some(Reply::Failed(Failure::Fenced))),
            "{reply:?}"
        );
    }
}

#[test]
fn what_was_in_flight_when_the_own_leftover_was_seen_is_answered_after_the_attach() {
    let (mut host, [read, write, fua]) = restarted_with_commands_in_flight(|host| {
        host.open();
        host.hold(is_opened_put);
        host.send_wish(Wish::Attach {
            take_over: false,
            accept_loss: false,
        });
        host.pass(Duration::from_secs(10));
        host.kill();
    });
    the_door_is_seen_before_the_disk_answers(&mut host, &[read, write, fua]);
    host.release();
    host.pass(Duration::from_secs(11));
    assert_eq!(host.volume.status().phase, "serving");
    assert_eq!(host.read_reply(read), [1; 8]);
    for tag in [write, fua] {
        let reply = host.replies.get(&tag);
        assert!(matches!(reply, Some(Reply::Done { .. })), "{reply:?}");
    }
    assert_eq!(host.read(8, 8), [2; 8]);
}

#[test]
fn what_was_in_flight_is_not_answered_from_the_history_that_goes_on() {
    let (mut host, tags) = restarted_with_commands_in_flight(|host| {
        let mut other = taken_over(host, 2);
        other.write(0, 8, 9);
        let verdict = other.wish(Wish::Detach);
        assert!(matches!(verdict, Verdict::Detached(_)), "{verdict:?}");
    });
    the_door_is_seen_before_the_disk_answers(&mut host, &tags);
    host.release();
    host.pass(Duration::from_secs(11));
    for tag in tags {
        let reply = host.replies.get(&tag);
        assert!(
            matches!(reply, Some(Reply::Failed(Failure::Fenced))),
            "{reply:?}"
        );
    }
    assert_eq!(host.volume.status().phase, "serving");
    assert_eq!(host.read(0, 16), [[9; 8], [0; 8]].concat());
}

#[test]
fn a_withheld_answer_ends_as_busy_and_a_withheld_read_can_be_taken_back() {
    let (mut host, [read, write, fua]) = restarted_with_commands_in_flight(|host| {
        taken_over(host, 2);
    });
    the_door_is_seen_before_the_disk_answers(&mut host, &[read, write, fua]);
    host.volume.handle_abort(host.now, Tag(read));
    host.volume.handle_abort(host.now, Tag(write));
    host.run();
    assert!(matches!(
        host.replies.get(&read),
        Some(Reply::Failed(Failure::Aborted))
    ));
    assert!(!host.replies.contains_key(&write), "it has happened");
    host.pass(Duration::from_secs(13));
    for tag in [write, fua] {
        assert!(matches!(host.replies.get(&tag), Some(Reply::Busy)));
    }
}

#[test]
fn a_host_that_shut_its_own_door_in_vain_answers_for_a_while_only() {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    host.wish(Wish::Checkpoint);
    host.kill();
    host.open();
    assert_eq!(host.read(0, 1), [1]);
    host.hold(is_opened_put);
    host.send_wish(Wish::Attach {
        take_over: false,
        accept_loss: false,
    });
    host.pass(Duration::from_secs(8));
    assert!(!host.open.is_empty(), "opened is on its way");
    host.store.borrow_mut().away = Some(StoreError::Denied);
    host.release();
    let read = host.send(Command::Read(Extent::new(0, 1)));
    assert_eq!(host.read_reply(read), [1]);
    host.pass(Duration::from_secs(10));
    let read = host.send(Command::Read(Extent::new(0, 1)));
    host.pass(Duration::from_secs(13));
    assert!(matches!(host.replies.get(&read), Some(Reply::Busy)));
}

// --- damage in the store ---

/// A restarted host that serves and is not attached anew, and whose data is gone from the store.
fn restarted_without_its_objects(before: impl FnOnce(&mut Harness)) -> Harness {
    restarted_without("chunks/", before)
}

/// The same, without what has such names.
fn restarted_without(names: &'static str, before: impl FnOnce(&mut Harness)) -> Harness {
    let limits = Limits {
        riding_bytes: ByteCount(0),
        ..without_cache()
    };
    let mut host = Harness::born_with(512, 100, limits);
    host.write(0, 8, 1);
    host.wish(Wish::Checkpoint);
    host.wish(Wish::Evict);
    host.kill();
    before(&mut host);
    host.store.borrow_mut().away = Some(StoreError::Unavailable);
    host.open();
    host.store.borrow_mut().away = None;
    let mut store = host.store.borrow_mut();
    store
        .objects
        .retain(|(_, name), _| !name.starts_with(names));
    drop(store);
    host.disk.forget_leaves();
    host
}

#[test]
fn what_is_gone_is_damaged_once_a_look_has_found_the_volume_ours() {
    let mut host = restarted_without_its_objects(|_| {});
    host.hold(is_door_get);
    let read = host.send(Command::Read(Extent::new(0, 1)));
    host.pass(Duration::from_nanos(0));
    assert!(!host.replies.contains_key(&read), "{:?}", host.replies);
    host.release();
    assert!(matches!(
        host.replies.get(&read),
        Some(Reply::Failed(Failure::Damaged { at: Lba(0) }))
    ));
}

/// What the store says of blocks that are gone comes when the guest was answered BUSY; then it asks again.
fn gone_is_told_to_who_asks_again(names: &'static str, which: fn(&Effect<Buf>) -> bool) {
    let mut host = restarted_without(names, |_| {});
    host.hold(which);
    let read = host.send(Command::Read(Extent::new(0, 1)));
    host.pass(Duration::from_secs(13));
    assert!(matches!(host.replies.get(&read), Some(Reply::Busy)));
    assert!(host.open.iter().any(which), "the store is still asked");
    host.release();
    host.hold(which);
    let read = host.send(Command::Read(Extent::new(0, 1)));
    host.pass(Duration::from_secs(1));
    let reply = host.replies.get(&read);
    let gone = |reply| matches!(reply, Some(&Reply::Failed(Failure::Damaged { .. })));
    assert!(gone(reply), "{reply:?}");
    // It was told: the next who asks has the store asked.
    let read = host.send(Command::Read(Extent::new(0, 1)));
    host.pass(Duration::from_secs(1));
    assert!(!host.replies.contains_key(&read));
    assert!(host.open.iter().any(which));
}

#[test]
fn each_of_many_frames_found_gone_when_nobody_waits_is_told_once() {
    let limits = Limits {
        riding_bytes: ByteCount(0),
        ..without_cache()
    };
    let mut host = Harness::born_with(512, 100, limits);
    host.write(0, 96, 1);
    host.wish(Wish::Checkpoint);
    host.wish(Wish::Evict);
    let is_kept = |name: &str| !name.starts_with("chunks/");
    (host.store.borrow_mut().objects).retain(|(_, name), _| is_kept(name));
    // One block of each frame. With the last two the guest takes its time.
    let blocks = [0, 16, 32, 48, 64, 80];
    let ask = |host: &mut Harness, block| {
        host.hold(is_frame_get);
        host.send(Command::Read(Extent::new(block, 1)))
    };
    let asked = blocks.map(|block| ask(&mut host, block));
    host.pass(Duration::from_secs(13));
    for tag in asked {
        assert!(matches!(host.replies.get(&tag), Some(Reply::Busy)));
    }
    host.release();
    let released = host.now;
    for (block, later) in blocks.into_iter().zip([0, 0, 0, 0, 299, 300]) {
        host.pass((released + Duration::from_secs(later)).since(host.now));
        let read = ask(&mut host, block);
        host.pass(Duration::from_nanos(0));
        let reply = host.replies.get(&read);
        if later == 300 {
            assert!(reply.is_none(), "{block}: asked anew");
            continue;
        }
        let gone = matches!(reply, Some(Reply::Failed(Failure::Damaged { at })) if at.0 == block);
        assert!(gone, "{block}: {reply:?}");
    }
    for block in blocks {
        let read = ask(&mut host, block);
        host.pass(Duration::from_secs(1));
        assert!(!host.replies.contains_key(&read), "{block}: asked anew");
    }
}

#[test]
fn a_frame_found_gone_when_nobody_waits_is_told_to_who_asks_again() {
    gone_is_told_to_who_asks_again("chunks/", is_frame_get);
}

#[test]
fn a_leaf_found_gone_when_nobody_waits_is_told_to_who_asks_again() {
    gone_is_told_to_who_asks_again("tables/", is_leaf_get);
}

#[test]
fn what_another_has_collected_is_not_damaged() {
    let mut host = restarted_without_its_objects(|host| {
        taken_over(host, 2);
    });
    let read = host.send(Command::Read(Extent::new(0, 1)));
    host.pass(Duration::from_secs(11));
    let reply = host.replies.get(&read);
    assert!(
        matches!(reply, Some(Reply::Failed(Failure::Fenced))),
        "{reply:?}"
    );
    assert!(
        !host
            .notices
            .iter()
            .any(|n| matches!(n, Notice::Damaged { .. }))
    );
}

#[test]
fn a_birth_is_told_once_though_its_host_is_fenced_before_it_has_noted_it() {
    let geometry = Harness::born(512, 100).geometry;
    let mut host = Harness::host(Rc::default(), 1, geometry);
    host.begin_birth();
    host.hold(|effect| {
        let keeps = |r: &DiskRequest<Buf>| matches!(r, DiskRequest::KeepMeta { .. });
        matches!(effect, Effect::Disk { request, .. } if keeps(request))
    });
    let birth = host.send_wish(Wish::FinishBirth { base: None });
    host.pass(Duration::from_secs(1));
    let is_born = |host: &Harness| matches!(host.told.get(&birth), Some(Verdict::Born(_)));
    assert!(is_born(&host), "{:?}", host.told);
    taken_over(&host, 2);
    host.send_wish(Wish::Sessions(1));
    host.pass(Duration::from_secs(11));
    assert!(host.gates.contains(&Gate::Closed(GateReason::Fenced)));
    assert!(is_born(&host), "{:?}", host.told);
}

#[test]
fn a_host_that_gives_up_what_another_took_and_collected_is_fenced() {
    let limits = Limits {
        leaves: 1,
        file_bytes: ByteCount(64 << 12),
        ..Limits::default()
    };
    let mut host = Harness::born_with(512, 100, limits);
    host.write(0, 8, 1);
    host.write(80, 8, 1);
    host.wish(Wish::Checkpoint);
    taken_over(&host, 2);
    host.disk.metas.clear();
    let mut store = host.store.borrow_mut();
    store
        .objects
        .retain(|(_, name), _| !name.starts_with("versions/"));
    drop(store);
    host.write(1, 1, 2);
    host.write(81, 1, 2);
    let verdict = host.wish(Wish::Detach);
    assert!(
        matches!(verdict, Verdict::Refused(Refusal::Fenced)),
        "{verdict:?}"
    );
}

// --- names and keys ---

#[test]
fn a_snapshot_asked_for_again_after_a_restart_is_the_same() {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    host.hold(is_note);
    let first = host.send_wish(snapshot("a", 1));
    host.pass(Duration::from_secs(1));
    let Some(Verdict::Committed(first)) = host.told.remove(&first) else {
        panic!("the root is committed before the note");
    };
    host.kill();
    host.open();
    let Verdict::Committed(again) = host.wish(snapshot("a", 1)) else {
        panic!("the snapshot is there");
    };
    let of = |c: &engine::command::Committed| {
        let named = c.root.snapshots.iter().filter(|s| s.name == "a");
        named.map(|s| s.root).collect::<Vec<_>>()
    };
    assert_eq!(of(&again), of(&first));
    let verdict = host.wish(snapshot("a", 2));
    assert!(matches!(verdict, Verdict::Refused(Refusal::NameTaken)));
}

#[test]
fn snapshots_that_wait_hold_their_own_names_and_no_others() {
    let mut host = Harness::born(512, 100);
    host.hold(is_root_put);
    let unnamed = |key| Wish::Snapshot {
        name: None,
        key: WishKey(key),
    };
    let wishes = [
        snapshot("a", 1),
        snapshot("b", 2),
        unnamed(3),
        unnamed(4),
        snapshot("a", 5),
        // Asked again.
        snapshot("b", 2),
        unnamed(4),
    ];
    let asked: Vec<u64> = (wishes.into_iter().enumerate())
        .map(|(number, wish)| {
            host.write(number as u64, 1, number as u8 + 1);
            host.send_wish(wish)
        })
        .collect();
    host.release();
    host.pass(Duration::from_secs(1));
    let told: Vec<String> = (asked.iter())
        .map(|wish| match host.told.remove(wish) {
            Some(Verdict::Committed(committed)) => committed.name.expect("a snapshot has one"),
            Some(Verdict::Refused(Refusal::NameTaken)) => "taken".into(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, ["a", "b", "s3", "s4", "taken", "b", "s4"]);
    let root = host.volume.root().expect("committed");
    let names = root.snapshots.iter().map(|entry| entry.name.as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["a", "b", "s3", "s4"]);
}

#[test]
fn a_snapshot_without_a_name_gets_one_that_is_free() {
    let mut host = Harness::born(512, 100);
    for (name, key) in [("s3", 1), ("s3-2", 2)] {
        host.wish(snapshot(name, key));
    }
    let wish = Wish::Snapshot {
        name: None,
        key: WishKey(3),
    };
    let Verdict::Committed(committed) = host.wish(wish) else {
        panic!("committed");
    };
    assert_eq!(committed.root.name.version.0, 3);
    assert_eq!(committed.name.as_deref(), Some("s3-3"));
}

#[test]
fn a_name_that_the_base_turns_out_to_have_is_taken() {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    host.hold(is_note);
    host.send_wish(snapshot("a", 1));
    host.pass(Duration::from_secs(1));
    host.kill();
    host.open();
    let verdict = host.wish(snapshot("a", 2));
    assert!(
        matches!(verdict, Verdict::Refused(Refusal::NameTaken)),
        "{verdict:?}"
    );
}

// --- the journal ---

#[test]
fn a_read_while_records_are_written_again_finds_them() {
    let mut host = Harness::born(512, 100);
    host.hold(is_sync);
    host.write(0, 8, 1);
    host.send(Command::Flush);
    host.hold(|effect| is_append(effect) || is_sync(effect));
    host.fail(is_sync);
    assert!(host.open.iter().any(is_append), "it is written again");
    let read = host.send(Command::Read(Extent::new(0, 8)));
    host.release();
    assert_eq!(host.read_reply(read), [1; 8]);
}

#[test]
fn a_read_of_a_failed_file_waits_for_what_is_written_again() {
    let mut host = Harness::born(512, 100);
    host.hold(is_sync);
    host.write(0, 8, 1);
    host.send(Command::Flush);
    host.hold(|effect| is_append(effect) || is_sync(effect));
    // The failed sync took the pages with it.
    for file in host.disk.files.values_mut() {
        file.written.fill(0);
    }
    host.fail(is_sync);
    let read = host.send(Command::Read(Extent::new(0, 8)));
    host.release();
    assert_eq!(host.read_reply(read), [1; 8]);
}

/// A host whose disk failed for good: every byte of its journal is gone, and no record could be written again.
fn with_a_dead_disk(writes: impl FnOnce(&mut Harness)) -> Harness {
    let mut host = Harness::born(512, 100);
    host.hold(is_sync);
    writes(&mut host);
    host.send(Command::Flush);
    host.hold(|effect| is_append(effect) || is_sync(effect) || is_root_put(effect));
    host.fail(is_sync);
    for file in host.disk.files.values_mut() {
        file.written.fill(0);
    }
    host.fail(is_append);
    assert!(host.notices.contains(&Notice::ReadOnly));
    host
}

#[test]
fn a_read_only_volume_still_reads_what_is_in_memory() {
    let mut host = with_a_dead_disk(|host| {
        host.write(0, 8, 1);
        host.write(3, 1, 2);
        host.write(20, 4, 3);
    });
    host.run();
    assert_eq!(host.read(0, 9), [1, 1, 1, 2, 1, 1, 1, 1, 0]);
    assert_eq!(host.read(21, 2), [3, 3]);
}

#[test]
fn what_a_failed_disk_did_not_keep_is_saved_from_memory() {
    let mut host = with_a_dead_disk(|host| {
        host.write(0, 8, 1);
        host.write(3, 1, 2);
        host.write(20, 4, 3);
    });
    host.release();
    host.pass(Duration::from_secs(1));
    assert_eq!(host.volume.status().stored, Seq(3));
    assert_eq!(host.read(0, 9), [1, 1, 1, 2, 1, 1, 1, 1, 0]);
    assert_eq!(host.read(19, 6), [0, 3, 3, 3, 3, 0]);
}

/// A restart serves what it found in the journal and could not sync.
fn recovered_and_not_synced() -> Harness {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    host.flush();
    host.write(0, 8, 2);
    host.store.borrow_mut().away = Some(StoreError::Unavailable);
    host.disk.syncs_fail = true;
    host.kill();
    host.open();
    assert_eq!(host.read(0, 1), [2]);
    host
}

#[test]
fn a_flush_of_what_a_restart_could_not_sync_fails() {
    let mut host = recovered_and_not_synced();
    let flush = host.send(Command::Flush);
    let reply = host.replies.get(&flush);
    assert!(
        matches!(reply, Some(Reply::Failed(Failure::Hardware))),
        "{reply:?}"
    );
    // What is whole goes to the store.
    host.store.borrow_mut().away = None;
    host.pass(Duration::from_secs(60));
    assert!(host.volume.root().is_some_and(|root| root.cut == Seq(2)));
}

#[test]
fn what_a_restart_could_not_sync_is_no_damage_when_the_power_fails() {
    let mut host = recovered_and_not_synced();
    host.store.borrow_mut().away = None;
    host.hold(|effect| matches!(effect, Effect::Store { .. }));
    host.disk.syncs_fail = false;
    host.power_loss();
    host.open();
    assert_eq!(host.read(0, 1), [1]);
    host.write(0, 1, 3);
    assert_eq!(host.read(0, 2), [3, 1]);
    let damaged = |notice: &Notice| matches!(notice, Notice::Damaged { .. });
    assert!(!host.notices.iter().any(damaged), "{:?}", host.notices);
}

#[test]
fn a_host_whose_disk_fails_while_it_gives_the_volume_up_does_so() {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    host.disk.syncs_fail = true;
    let verdict = host.wish(Wish::Detach);
    assert!(matches!(verdict, Verdict::Detached(_)), "{verdict:?}");
    let is_read_only = |notice: &Notice| matches!(notice, Notice::ReadOnly);
    assert!(host.notices.iter().any(is_read_only));
    let mut next = taken_over(&host, 2);
    assert_eq!(next.read(0, 9), [1, 1, 1, 1, 1, 1, 1, 1, 0]);
}

#[test]
fn what_is_durable_and_damaged_is_told_though_its_neighbour_is_in_memory() {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    host.flush();
    for file in host.disk.files.values_mut() {
        file.written.fill(0);
    }
    host.hold(is_sync);
    host.write(8, 8, 2);
    let read = host.send(Command::Read(Extent::new(0, 16)));
    assert!(matches!(
        host.replies.remove(&read),
        Some(Reply::Failed(Failure::Damaged { at: Lba(0) }))
    ));
    assert_eq!(host.read(8, 8), [2; 8]);
}

#[test]
fn a_write_does_not_fail_for_the_failures_of_others() {
    let mut host = Harness::born(512, 100);
    host.hold(is_append);
    let first = host.send_write(0, 1, 1);
    let second = host.send_write(8, 1, 2);
    let of = |effect: &Effect<Buf>, n: u64| matches!(effect, Effect::Append { head, .. } if head.seq == Seq(n));
    for _ in 0..3 {
        host.fail(|effect| of(effect, 1));
    }
    host.fail(|effect| of(effect, 2));
    host.release();
    assert!(matches!(
        host.replies.get(&first),
        Some(Reply::Failed(Failure::Hardware))
    ));
    assert!(matches!(
        host.replies.get(&second),
        Some(Reply::Done { .. })
    ));
}

#[test]
fn a_full_disk_takes_writes_as_long_as_the_store_does() {
    let mut host = Harness::born(512, 800);
    host.disk.full = true;
    for n in 0..90 {
        let tag = host.send_write(n * 8, 8, 1);
        host.pass(Duration::from_secs(11));
        let reply = host.replies.remove(&tag);
        assert!(matches!(reply, Some(Reply::Done { .. })), "{n}: {reply:?}");
    }
}

#[test]
fn nothing_goes_on_without_a_file_that_cannot_be_read() {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    let files: Vec<FileId> = host.disk.files.keys().copied().collect();
    host.disk.unreadable.extend(files);
    host.kill();
    host.pass(Duration::from_secs(10));
    assert_eq!(host.volume.status().phase, "opening");
    host.disk.unreadable.clear();
    host.open();
    assert_eq!(host.read(0, 1), [1]);
}

#[test]
fn power_loss_leaves_at_least_what_was_flushed() {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    host.flush();
    host.write(0, 4, 2);
    host.power_loss();
    host.open();
    assert_eq!(host.read(0, 8), [1; 8]);
}

// --- flush = store ---

#[test]
fn a_flush_to_a_store_that_is_away_is_answered_busy() {
    let mut host = Harness::born(512, 100);
    let put = Command::PutAttribute {
        key: "flush".into(),
        value: Some(b"store".to_vec()),
    };
    let tag = host.send(put);
    host.pass(Duration::from_secs(1));
    assert!(matches!(host.replies.get(&tag), Some(Reply::Done { .. })));
    host.store.borrow_mut().away = Some(StoreError::Unavailable);
    host.write(0, 8, 1);
    let flush = host.send(Command::Flush);
    let aborted = host.send(Command::Flush);
    host.volume.handle_abort(host.now, Tag(aborted));
    host.run();
    assert!(
        host.replies.contains_key(&aborted),
        "nothing of it can follow"
    );
    host.pass(Duration::from_secs(13));
    assert!(matches!(host.replies.get(&flush), Some(Reply::Busy)));
    host.store.borrow_mut().away = None;
    host.pass(Duration::from_secs(20));
    let flush = host.send(Command::Flush);
    host.pass(Duration::from_secs(1));
    assert!(matches!(host.replies.get(&flush), Some(Reply::Done { .. })));
}

// --- an outage, and what is superseded meanwhile ---

fn is_frame_get(effect: &Effect<Buf>) -> bool {
    matches!(effect, Effect::Store { request: StoreRequest::Get(get), .. }
        if matches!(get.expect, Expect::Frames(_)))
}

fn is_leaf_get(effect: &Effect<Buf>) -> bool {
    matches!(effect, Effect::Store { request: StoreRequest::Get(get), .. }
        if matches!(get.expect, Expect::Leaf(_)))
}

fn without_cache() -> Limits {
    Limits {
        file_bytes: ByteCount(64 << 12),
        files: 8,
        cache_slots: 0,
        ..Limits::default()
    }
}

#[test]
fn a_fetch_goes_on_at_the_first_good_answer_after_an_outage() {
    let mut host = Harness::born_with(4096, 64, without_cache());
    host.write(0, 8, 1);
    host.wish(Wish::Checkpoint);
    host.wish(Wish::Sessions(1));
    host.store.borrow_mut().away = Some(StoreError::Unavailable);
    let read = host.send(Command::Read(Extent::new(0, 8)));
    // Asked after 0, 0.5, 1.5, 3.5 and 7.5 s, and then after 11.5 s; the watch every 5 s.
    host.pass(Duration::from_millis(7_800));
    host.store.borrow_mut().away = None;
    host.pass(Duration::from_millis(2_500));
    assert_eq!(host.read_reply(read), [1; 8]);
}

#[test]
fn a_read_whose_leaf_was_superseded_and_collected_asks_the_newest_table() {
    let limits = Limits {
        riding_bytes: ByteCount(0),
        ..without_cache()
    };
    let mut host = Harness::born_with(4096, 64, limits);
    host.write(0, 8, 1);
    host.wish(Wish::Checkpoint);
    let old = host.volume.root().expect("committed").clone();
    host.write(0, 4, 2);
    host.flush();
    host.hold(is_note);
    host.send_wish(Wish::Checkpoint);
    assert!(host.open.iter().any(is_note), "committed, and not noted");
    host.kill();
    host.disk.forget_leaves();
    host.open();
    // Served over the version before: the journal has the first half, the store the other.
    host.hold(is_leaf_get);
    let read = host.send(Command::Read(Extent::new(4, 4)));
    assert!(host.open.iter().any(is_leaf_get));
    // The attach finds the newer version, and what only the old one used is collected.
    host.wish(Wish::Checkpoint);
    for at in old.leaves.values() {
        let name = at.home.object().to_string();
        let key = (old.container.clone(), name);
        assert!(host.store.borrow_mut().objects.remove(&key).is_some());
    }
    host.release();
    assert_eq!(host.read_reply(read), [1; 4]);
    assert_eq!(host.read(0, 4), [2; 4]);
}

// --- what the journal holds ---

#[test]
fn files_of_another_size_are_read_and_never_written_again() {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    host.flush();
    host.limits.file_bytes = ByteCount(32 << 12);
    host.kill();
    host.open();
    assert_eq!(host.read(0, 8), [1; 8]);
    for fill in 2..60 {
        host.write(0, 64, fill);
        host.wish(Wish::Checkpoint);
    }
    let sizes: Vec<usize> = host.disk.files.values().map(|f| f.written.len()).collect();
    assert!(sizes.iter().all(|size| *size == 32 << 12), "{sizes:?}");
    host.kill();
    host.open();
    assert_eq!(host.read(0, 64), [59; 64]);
}

#[test]
fn discards_without_end_do_not_fill_the_memory() {
    let mut host = Harness::born_with(
        512,
        1000,
        Limits {
            file_bytes: ByteCount(64 << 20),
            files: 8,
            ..Limits::default()
        },
    );
    host.hold(is_sync);
    let discard = |at| Command::Discard([Extent::new(at, 1)].into_iter().collect());
    for n in 0..9000 {
        host.send(discard(n % 1000));
    }
    assert!(host.open.iter().any(is_sync), "their number orders a sync");
    assert_eq!(host.replies.len(), 8192, "the rest waits for it");
    host.release();
    assert_eq!(host.replies.len(), 9000);
}

#[test]
fn reads_and_waiting_writes_use_up_the_credits() {
    let mut host = Harness::born_with(4096, 1024, without_cache());
    let all = host.volume.credits().bytes.0;
    host.write(0, 16, 1);
    host.wish(Wish::Checkpoint);
    host.flush();
    assert_eq!(host.volume.credits().bytes.0, all);
    host.store.borrow_mut().away = Some(StoreError::Unavailable);
    host.send(Command::Read(Extent::new(0, 16)));
    assert_eq!(host.volume.credits().bytes.0, all - (16 << 12));
    // Nothing is freed while the store is away: writes fill the journal, then wait.
    host.hold(is_sync);
    let mut held = 0;
    for n in 0..40 {
        let tag = host.send_write(n * 16, 16, 2);
        held += u64::from(!host.replies.contains_key(&tag));
    }
    assert!(held > 0);
    assert!(host.volume.credits().bytes.0 <= all - ((16 + held * 16) << 12));
    host.pass(Duration::from_secs(13));
    host.release();
    host.store.borrow_mut().away = None;
    host.pass(Duration::from_secs(60));
    assert_eq!(host.volume.credits().bytes.0, all);
}

// --- bounded work ---

#[test]
fn a_discard_of_everything_costs_what_is_there() {
    let mut host = Harness::born(4096, 1 << 34);
    host.write(5, 1, 1);
    host.wish(Wish::Checkpoint);
    let whole = Extent::new(0, 1 << 34);
    let tag = host.send(Command::Discard([whole].into_iter().collect()));
    assert!(matches!(host.replies.get(&tag), Some(Reply::Done { .. })));
    let Verdict::Committed(committed) = host.wish(Wish::Checkpoint) else {
        panic!("committed");
    };
    assert!(committed.root.leaves.is_empty());
    assert_eq!(host.read(5, 1), [0]);
}
