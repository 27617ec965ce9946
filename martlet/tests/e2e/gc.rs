//! `gc`: what interrupted work left goes, and what versions need stays.

use crate::support::initiator::Initiator;
use crate::support::{Folder, Host, Store, stamps, text, wait_until};
use serde_json::json;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use testkit::{Exchange, Fault, Rule};

#[test]
fn what_an_interrupted_upload_left_goes_when_it_is_old_enough() {
    let folder = Folder::new("gc");
    let store = Store::dir(&folder.0);
    let host = Host::new(&store, &folder.join("state"));
    host.json(&["volume", "create", "vm", "--size", "64MiB"]);
    let entries = |path: PathBuf| std::fs::read_dir(path).unwrap().map(Result::unwrap);
    let is_volume = |path: &PathBuf| path.join("versions").is_dir();
    let volume = entries(folder.join("store"))
        .map(|entry| entry.path())
        .find(is_volume);
    let volume = volume.expect("its container");
    let born = entries(volume.join("versions")).next().expect("its root");
    let born = born.file_name().into_string().unwrap();
    let (_, attach) = born.split_once('.').expect("version and attach id");
    // As if a publish of the first attachment had been given up before its root.
    let left = volume.join(format!(
        "chunks/00000000/00000000-00000000.{attach}.000000ff"
    ));
    std::fs::create_dir_all(left.parent().unwrap()).unwrap();
    std::fs::write(&left, b"half an upload").unwrap();

    let young = host.json(&["gc", "vm"]);
    let young = &young["volumes"][0];
    assert_eq!(
        (&young["volume"], &young["orphans_too_young"]),
        (&"vm".into(), &1.into())
    );
    assert!(left.exists(), "{young}");

    let old = host.json(&["gc", "--min-age", "0s"]);
    assert_eq!(old["volumes"][0]["data_objects_deleted"], 1, "{old}");
    assert!(!left.exists());
    assert!(volume.join("versions").join(&born).exists(), "{old}");
}

#[test]
fn an_import_to_swift_that_was_killed_leaves_nothing_in_the_end() {
    let folder = Folder::new("gc-import");
    let store = Store::swift();
    let relay = store.relay();
    let host = Host::new(&store, &folder.join("state")).through(&relay.url());
    let image = folder.join("image.raw");
    let block: Vec<u8> = (0..1 << 20).map(|n| (n / 3) as u8).collect();
    std::fs::write(&image, block.repeat(96)).unwrap();
    let mut child = host.begin(&["volume", "import", text(&image), "vm"]);
    let until = Instant::now() + Duration::from_secs(30);
    let is_stored = |e: &Exchange| e.method == "PUT" && e.path.contains("/chunks/");
    // Half-way: something is stored, not all.
    while !relay.log().iter().any(is_stored) {
        assert!(Instant::now() < until, "nothing was stored");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let listed = host.json(&["volume", "list"]);
    assert_eq!(listed["volumes"].as_array().unwrap().len(), 0, "{listed}");
    let state = |host: &Host| {
        let all = host.json(&["volume", "list", "--all"]);
        let rows = all["volumes"].as_array().unwrap().iter();
        let states = rows.map(|r| r["state"].as_str().unwrap().to_owned());
        states.collect::<Vec<_>>()
    };
    assert_eq!(state(&host), ["unborn"]);
    // The next start erases it; its container is empty then, and not believed to be on one listing's word.
    assert_eq!(host.serve().stop(), 0);
    assert_eq!(state(&host), ["empty"]);
    let young = host.json(&["gc"]);
    assert_eq!(young["empty_containers_waiting"], 1, "{young}");
    assert_eq!(state(&host), ["empty"]);
    // What was seen is remembered; another host may have forgotten it all, and finds it again.
    let other = Host::new(&store, &folder.join("other"));
    for (host, removed) in [(&other, 0), (&host, 1), (&other, 0)] {
        let old = host.json(&["gc", "--min-age", "0s"]);
        assert_eq!(old["empty_containers_removed"], removed, "{old}");
    }
    assert_eq!(state(&host), [""; 0]);
    // And the name is free.
    host.json(&["volume", "create", "vm", "--size", "8MiB"]);
}

/// A host whose daemon looks for what can go every second or two.
fn eager(host: Host) -> Host {
    host.with("limits.collect_interval=1s")
        .with("limits.min_age=1s")
        .with("limits.checkpoint_interval=1s")
}

#[test]
fn a_daemon_collects_what_a_killed_snapshot_left_in_swift() {
    let folder = Folder::new("gc-own-swift");
    let store = Store::swift();
    let relay = store.relay();
    let host = Host::new(&store, &folder.join("state")).through(&relay.url());
    host.json(&["volume", "create", "vm", "--size", "64MiB"]);
    let daemon = host.serve();
    let mut session = daemon.login("vm");
    session.write_now(0, &stamps::extent(0, 64, 1)).unwrap();
    relay.clear_log();
    // Not the base, which an attach confirms.
    let root = "/versions/00000001.";
    relay.add(Rule::once("PUT", root, Fault::StallRequest(0)));
    let mut snapshot = host.begin(&["snapshot", "create", "vm@a"]);
    let is_stalled = relay.wait_stalled(1, Duration::from_secs(60));
    assert!(is_stalled, "{:?}\n{}", relay.log(), daemon.log());
    let left: Vec<String> = relay
        .matching("PUT", "/chunks/")
        .into_iter()
        .map(|exchange| exchange.path)
        .collect();
    assert_eq!(left.len(), 1, "{left:?}");
    daemon.kill();
    snapshot.kill().unwrap();
    snapshot.wait().unwrap();
    relay.clear();
    let host = eager(host);
    let daemon = host.serve();
    let mut session = daemon.login("vm");
    session.write_now(64, &stamps::extent(64, 64, 2)).unwrap();
    let is_gone = |e: &Exchange| e.method == "DELETE" && e.path == left[0] && e.status == 204;
    let gone = relay.wait_until(Duration::from_secs(60), |log| log.iter().any(is_gone));
    assert!(gone, "{left:?} is left:\n{}", daemon.log());
    daemon.wait_log("collected what no version needs");
    // What it had is published under another name.
    host.json(&["volume", "evict", "vm"]);
    for (lba, number) in [(0, 1), (63, 1), (64, 2)] {
        let bytes = session.read_now(lba, 1).unwrap();
        assert_eq!(stamps::number(lba, &bytes), number, "block {lba}");
    }
    drop(session);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_daemon_collects_orphans_of_a_directory() {
    let folder = Folder::new("gc-own");
    let store = Store::dir(&folder.0);
    let host = Host::new(&store, &folder.join("state"));
    let created = host.json(&["volume", "create", "vm", "--size", "64MiB"]);
    let container = std::fs::read_dir(folder.join("store"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.join("versions").is_dir());
    let container = container.unwrap_or_else(|| panic!("its container: {created}"));
    let born = std::fs::read_dir(container.join("versions"))
        .unwrap()
        .next();
    let born = born.expect("its root").unwrap().file_name();
    let born = born.into_string().unwrap();
    let (_, attach) = born.split_once('.').expect("version and attach id");
    // As if a publish of the first attachment had been given up before its root.
    let name = format!("chunks/00000000/00000000-00000000.{attach}.000000ff");
    let left = container.join(name);
    std::fs::create_dir_all(left.parent().unwrap()).unwrap();
    std::fs::write(&left, b"half an upload").unwrap();
    let host = eager(host);
    let daemon = host.serve();
    let mut session = daemon.login("vm");
    session.write_now(0, &stamps::extent(0, 64, 1)).unwrap();
    wait_until("the orphan goes", || !left.exists());
    host.json(&["volume", "evict", "vm"]);
    let bytes = session.read_now(63, 1).unwrap();
    assert_eq!(stamps::number(63, &bytes), 1);
    drop(session);
    assert_eq!(daemon.stop(), 0);
}

fn fill(session: &mut Initiator, blocks: Range<u64>, number: u64) {
    for lba in blocks.clone().step_by(64) {
        let count = (blocks.end - lba).min(64);
        let bytes = stamps::extent(lba, count, number);
        session.write_now(lba, &bytes).unwrap();
    }
}

fn pins_go(store: &Store, folder: &Folder) {
    const BLOCKS: u64 = (1 << 20) / 512;
    let host = eager(Host::new(store, &folder.join("state")));
    host.json(&["volume", "create", "parent", "--size", "1MiB"]);
    let daemon = host.serve();
    let mut parent = daemon.login("parent");
    fill(&mut parent, 0..BLOCKS, 1);
    host.json(&["snapshot", "create", "parent@base"]);
    host.json(&["volume", "clone", "parent@base", "child"]);
    let clones = || {
        let shown = host.json(&["volume", "show", "parent"]);
        shown["clones"].as_array().expect("a list").len()
    };
    assert_eq!(clones(), 1);
    let version = || {
        let shown = host.json(&["volume", "show", "child"]);
        shown["newest"]["version"].as_u64().expect("a version")
    };
    // Some blocks are the parent's still: the pin holds.
    let mut child = daemon.login("child");
    fill(&mut child, 8..BLOCKS, 2);
    wait_until("a checkpoint of the child", || version() > 0);
    let asked = host.json(&["gc", "parent"]);
    let none: Vec<String> = Vec::new();
    assert_eq!(asked["volumes"][0]["pins_dropped"], json!(none), "{asked}");
    assert_eq!(clones(), 1);
    assert_eq!(stamps::number(0, &child.read_now(0, 1).unwrap()), 1);
    // All its own: it goes, and nobody has to ask for that.
    child.write_now(0, &stamps::extent(0, 8, 3)).unwrap();
    wait_until("the pin goes", || clones() == 0);
    for (session, lba, number) in [(&mut child, 8, 2), (&mut parent, 0, 1)] {
        let bytes = session.read_now(lba, 1).unwrap();
        assert_eq!(stamps::number(lba, &bytes), number, "block {lba}");
    }
    drop((child, parent));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_daemon_drops_pins_that_hold_nothing_on_a_directory() {
    let folder = Folder::new("gc-pins");
    pins_go(&Store::dir(&folder.0), &folder);
}

#[test]
fn a_daemon_drops_pins_that_hold_nothing_on_swift() {
    let folder = Folder::new("gc-pins-swift");
    pins_go(&Store::swift(), &folder);
}
