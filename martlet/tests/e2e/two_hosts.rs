//! Two hosts on one volume: one writes, the other is told who; a take-over fences the first.

use crate::support::initiator::Initiator;
use crate::support::{Daemon, Folder, Host, Store, stamps, target, text};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// A holder that can reach the store notices within this (P7), and some time for a busy machine.
const NOTICED: Duration = Duration::from_secs(10 + 5);

/// How long until a session gets nothing good any more.
fn silence(session: &mut Initiator, daemon: &Daemon) -> Duration {
    let since = Instant::now();
    while since.elapsed() < NOTICED + Duration::from_secs(30) {
        if session.read_now(8, 1).is_err() {
            return since.elapsed();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("the old host goes on answering:\n{}", daemon.log());
}

fn take_over(store: &Store, folder: &Folder) {
    let first = Host::new(store, &folder.join("first"));
    let second = Host::new(store, &folder.join("second"));
    first.json(&["volume", "create", "vm", "--size", "64MiB"]);
    let daemon = first.serve();
    let mut session = daemon.login("vm");
    session.write_now(8, &stamps::extent(8, 8, 1)).unwrap();
    first.json(&["snapshot", "create", "vm@kept"]);
    session.write_now(100, &stamps::extent(100, 8, 2)).unwrap();

    let refused = second.run(&["volume", "attach", "vm"]);
    assert_eq!(refused.code, 6, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("is held by host"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("E6-HELD"), "{}", refused.stderr);
    let refused = second.run(&["volume", "attach", "vm", "--take-over"]);
    assert_eq!(refused.code, 6, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("--accept-loss"),
        "{}",
        refused.stderr
    );
    // Nothing of it is left, and the holder was not disturbed.
    let here = second.json(&["status"]);
    assert_eq!(here["volumes"].as_array().unwrap().len(), 0, "{here}");
    session.write_now(200, &stamps::extent(200, 8, 3)).unwrap();

    second.json(&["volume", "attach", "vm", "--take-over", "--accept-loss"]);
    let waited = silence(&mut session, &daemon);
    assert!(waited < NOTICED, "the old host answered for {waited:?}");
    let again = Initiator::login(&daemon.address, &target("vm"));
    assert!(again.is_err(), "the old host lets initiators in");
    let snapshot = first.run(&["snapshot", "create", "vm@late"]);
    assert_ne!(snapshot.code, 0, "the old host answers a snapshot");
    let told = |daemon: &Daemon| {
        let news = "another host took the volume over";
        daemon.wait_log(news);
        daemon.log().matches(news).count()
    };
    assert_eq!(told(&daemon), 1, "{}", daemon.log());

    let other = second.serve();
    let mut session = other.login("vm");
    assert_eq!(stamps::number(8, &session.read_now(8, 1).unwrap()), 1);
    session.write_now(300, &stamps::extent(300, 8, 4)).unwrap();
    let listed = second.json(&["snapshot", "list", "vm"]);
    let names: BTreeSet<&str> = listed["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|s| s["name"].as_str())
        .collect();
    assert!(names.contains("kept"), "{listed}");
    assert!(!names.contains("late"), "{listed}");
    let exported = folder.join("kept.raw");
    second.json(&["volume", "export", "vm@kept", text(&exported)]);
    let bytes = std::fs::read(&exported).unwrap();
    assert_eq!(stamps::number(8, &bytes[8 * 512..9 * 512]), 1);
    assert_eq!(stamps::number(100, &bytes[100 * 512..101 * 512]), 0);
    // The old host, started anew, does not serve it either.
    daemon.kill();
    let daemon = first.serve();
    let again = Initiator::login(&daemon.address, &target("vm"));
    assert!(
        again.is_err(),
        "the old host lets initiators in after a restart"
    );
    // It found that out while it attached, and says so.
    assert_eq!(told(&daemon), 1, "{}", daemon.log());
    assert_eq!(stamps::number(300, &session.read_now(300, 1).unwrap()), 4);
}

/// `attached`: the host uploaded since it was started, so it attached anew.
fn idle_login(folder: &Folder, attached: bool) {
    let store = Store::dir(&folder.0);
    let first = Host::new(&store, &folder.join("first"));
    let second = Host::new(&store, &folder.join("second"));
    first.json(&["volume", "create", "vm", "--size", "64MiB"]);
    let daemon = first.serve();
    drop(daemon.login("vm"));
    if attached {
        first.json(&["snapshot", "create", "vm@a"]);
    }
    let until = Instant::now() + Duration::from_secs(20);
    while first.json(&["status"])["volumes"][0]["sessions"] != 0 {
        assert!(Instant::now() < until, "the session does not end");
    }
    // Nobody is logged in, so nobody watches: the host does not know that it loses the volume.
    second.json(&["volume", "attach", "vm", "--take-over", "--accept-loss"]);
    let refused = Initiator::login(&daemon.address, &target("vm")).unwrap_err();
    assert_eq!(refused.to_string(), "login 0301");
}

#[test]
fn the_first_login_after_idle_waits_for_a_look() {
    idle_login(&Folder::new("two-idle"), false);
    idle_login(&Folder::new("two-idle-attached"), true);
}

#[test]
fn a_take_over_fences_the_first_host_on_a_directory() {
    let folder = Folder::new("two-dir");
    take_over(&Store::dir(&folder.0), &folder);
}

#[test]
fn a_take_over_fences_the_first_host_on_swift() {
    let folder = Folder::new("two-swift");
    take_over(&Store::swift(), &folder);
}

/// Races of several processes for one volume: no generation has two winners.
fn races(store: &Store, folder: &Folder, rounds: u32) {
    let maker = Host::new(store, &folder.join("maker"));
    maker.json(&["volume", "create", "vm", "--size", "8MiB"]);
    let mut generations = BTreeSet::new();
    let mut won = 0;
    for round in 0..rounds {
        let racers = 2 + round % 3;
        let hosts: Vec<Host> = (0..racers)
            .map(|n| Host::new(store, &folder.join(&format!("racer-{round}-{n}"))))
            .collect();
        let arguments = [
            "volume",
            "attach",
            "vm",
            "--take-over",
            "--accept-loss",
            "--json",
        ];
        let children: Vec<_> = hosts.iter().map(|h| h.begin(&arguments)).collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            if !output.status.success() {
                // Lost, or found the winner: refused, with words.
                assert_eq!(output.status.code(), Some(6), "{told}");
                continue;
            }
            let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            let generation = document["generation"].as_u64().expect("a generation");
            assert!(
                generations.insert(generation),
                "generation {generation} was won twice"
            );
            won += 1;
        }
        // Preallocated journals of hundreds of hosts would fill the disk.
        drop(hosts);
        for n in 0..racers {
            std::fs::remove_dir_all(folder.join(&format!("racer-{round}-{n}"))).unwrap();
        }
    }
    assert!(won >= rounds / 2, "{won} winners in {rounds} races");
}

#[test]
fn no_generation_has_two_winners_on_a_directory() {
    let folder = Folder::new("race-dir");
    let rounds = if testkit::is_long() { 500 } else { 20 };
    races(&Store::dir(&folder.0), &folder, rounds);
}

#[test]
fn no_generation_has_two_winners_on_swift() {
    let folder = Folder::new("race-swift");
    let rounds = if testkit::is_long() { 500 } else { 6 };
    races(&Store::swift(), &folder, rounds);
}
