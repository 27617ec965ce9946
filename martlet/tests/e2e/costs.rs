//! Costs follow the change: counted at the store, on a volume of 10 GiB after many scattered writes.

use crate::support::initiator::Initiator;
use crate::support::{Dice, Folder, Host, Store, stamps, text};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use testkit::{Exchange, Relay};

const GRAINS: u64 = (10 << 30) / 4096;

/// Scattered writes of one grain each, several in flight.
fn scatter(session: &mut Initiator, dice: &mut Dice, count: u64, number: u64) -> u64 {
    let mut grains = std::collections::BTreeSet::new();
    while grains.len() < count as usize {
        grains.insert(dice.below(GRAINS));
    }
    let mut under_way = 0;
    for grain in &grains {
        let lba = grain * 8;
        session
            .write(lba, &stamps::extent(lba, 8, number), false)
            .unwrap();
        under_way += 1;
        if under_way == 32 {
            assert!(session.next().unwrap().is_good());
            under_way -= 1;
        }
    }
    for _ in 0..under_way {
        assert!(session.next().unwrap().is_good());
    }
    count * 4096
}

/// Every object of a directory store, with its size.
fn objects(root: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        for entry in std::fs::read_dir(&path).unwrap().map(Result::unwrap) {
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                left.push(entry.path());
            } else {
                found.insert(entry.path(), meta.len());
            }
        }
    }
    found
}

/// A snapshot: how many objects and bytes came into the store for it.
fn snapshot(host: &Host, root: &Path, name: &str) -> (u64, u64) {
    let before = objects(root);
    let told = host.json(&["snapshot", "create", name]);
    let fresh: Vec<u64> = objects(root)
        .into_iter()
        .filter(|(path, _)| !before.contains_key(path))
        .map(|(_, size)| size)
        .collect();
    let (count, bytes) = (fresh.len() as u64, fresh.iter().sum::<u64>());
    assert_eq!(told["puts"], count, "{name}: {told}");
    assert_eq!(told["uploaded_bytes"], bytes, "{name}: {told}");
    (count, bytes)
}

#[test]
fn a_snapshot_costs_what_changed() {
    let folder = Folder::new("costs");
    let store = Store::dir(&folder.0);
    let root = folder.join("store");
    // The interval's checkpoints would be counted, too.
    let host = Host::new(&store, &folder.join("state")).with("limits.checkpoint_interval=1h");
    host.json(&["volume", "create", "vm", "--size", "10GiB"]);
    let daemon = host.serve();
    let mut session = daemon.login("vm");
    let mut dice = Dice::new(5);

    scatter(&mut session, &mut dice, 1, 1);
    // An attachment after a restart is no part of a snapshot's cost.
    host.json(&["snapshot", "create", "vm@attached"]);
    scatter(&mut session, &mut dice, 1, 2);
    let (puts, bytes) = snapshot(&host, &root, "vm@fresh");
    assert!(
        puts <= 2 && bytes < 16 << 10,
        "fresh volume: {puts} PUTs, {bytes} bytes"
    );

    for round in 0..3 {
        scatter(&mut session, &mut dice, 10_000 / 3, 3 + round);
        snapshot(&host, &root, &format!("vm@round{round}"));
    }
    scatter(&mut session, &mut dice, 1, 10);
    let (puts, bytes) = snapshot(&host, &root, "vm@one");
    assert!(
        puts <= 3 && bytes < 96 << 10,
        "one grain: {puts} PUTs, {bytes} bytes"
    );

    let dirty = scatter(&mut session, &mut dice, 10_000, 11);
    let (puts, bytes) = snapshot(&host, &root, "vm@many");
    let ratio = bytes as f64 / dirty as f64;
    assert!(
        puts < 40 && ratio <= 1.15,
        "10,000 grains: {puts} PUTs, {ratio:.3} bytes per dirty byte"
    );
    assert_eq!(daemon.stop(), 0);
}

fn requests(relay: &Relay) -> Vec<Exchange> {
    let is_data = |e: &Exchange| !e.path.contains("/auth/") && !e.path.starts_with("/info");
    relay.log().into_iter().filter(is_data).collect()
}

#[test]
fn a_large_sparse_volume_attaches_in_few_requests_and_little_memory() {
    let folder = Folder::new("costs-large");
    let store = Store::swift();
    let relay = store.relay();
    let maker = Host::new(&store, &folder.join("maker"));
    maker.json(&["volume", "create", "vast", "--size", "64TiB"]);
    let daemon = maker.serve();
    let mut session = daemon.login("vast");
    for n in 0..64 {
        let lba = n << 31;
        session.write_now(lba, &stamps::extent(lba, 8, 1)).unwrap();
    }
    drop(session);
    assert_eq!(daemon.stop(), 0);
    maker.json(&["volume", "detach", "vast"]);

    let host = Host::new(&store, &folder.join("host")).through(&relay.url());
    let attached: Value = host.json(&["volume", "attach", "vast"]);
    assert_eq!(attached["volume"], "vast");
    let asked = requests(&relay);
    // The search for the volume that the name means, by listing the account, is among them.
    assert!(
        asked.len() <= 32,
        "{} requests: {:?}",
        asked.len(),
        asked
            .iter()
            .map(|e| format!("{} {}", e.method, e.path))
            .collect::<Vec<_>>()
    );
    let daemon = host.serve();
    let mut session = daemon.login("vast");
    // The first read also fetches the leaf; the second finds it.
    session.read_now(0, 8).unwrap();
    relay.clear_log();
    let bytes = session.read_now(1 << 31, 8).unwrap();
    assert_eq!(stamps::number(1 << 31, &bytes[..512]), 1);
    let (_, most) = daemon.memory();
    assert!(most < 64 << 20, "{} MiB of memory", most >> 20);
}

#[test]
fn a_cold_read_is_one_small_get() {
    let folder = Folder::new("costs-cold");
    let store = Store::swift();
    let relay = store.relay();
    let host = Host::new(&store, &folder.join("state"))
        .through(&relay.url())
        .with("limits.checkpoint_interval=1h");
    host.json(&["volume", "create", "vm", "--size", "64MiB"]);
    let daemon = host.serve();
    let mut session = daemon.login("vm");
    // One chunk in six layers, each of 200 scattered grains.
    for layer in 0..6_u64 {
        for n in 0..200_u64 {
            let lba = ((n * 10 + layer) % 2048) * 8;
            session
                .write_now(lba, &stamps::extent(lba, 8, layer + 1))
                .unwrap();
        }
        host.json(&["snapshot", "create", &format!("vm@l{layer}")]);
    }
    host.json(&["volume", "evict", "vm"]);
    relay.clear_log();
    for (layer, lba) in [(0_u64, 40 * 8_u64), (5, 45 * 8)] {
        let bytes = session.read_now(lba, 8).unwrap();
        assert_eq!(stamps::number(lba, &bytes[..512]), layer + 1);
        let gets: Vec<Exchange> = requests(&relay)
            .into_iter()
            .filter(|e| e.method == "GET" && e.path.contains("/chunks/"))
            .collect();
        assert_eq!(gets.len(), 1, "{gets:?}");
        assert!(gets[0].received <= 66 << 10, "{} bytes", gets[0].received);
        relay.clear_log();
    }
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_clone_answers_its_first_read_after_few_bytes() {
    let folder = Folder::new("costs-clone");
    let store = Store::swift();
    let maker = Host::new(&store, &folder.join("maker")).with("limits.absence_gap=200ms");
    // Content everywhere: what is fetched ahead finds something.
    let blocks = (64 << 20) / 512;
    let image = folder.join("image.raw");
    std::fs::write(&image, stamps::extent(0, blocks, 1)).unwrap();
    maker.json(&["volume", "import", text(&image), "golden"]);
    maker.json(&["snapshot", "create", "golden@base"]);
    maker.json(&["volume", "detach", "golden"]);

    let relay = store.relay();
    let host = Host::new(&store, &folder.join("host"))
        .through(&relay.url())
        .with("limits.absence_gap=200ms");
    host.json(&["volume", "clone", "golden@base", "vm"]);
    let daemon = host.serve();
    let mut session = daemon.login("vm");
    let lba = blocks / 2;
    let bytes = session.read_now(lba, 8).unwrap();
    let received: u64 = requests(&relay).iter().map(|e| e.received).sum();
    assert_eq!(stamps::number(lba, &bytes[..512]), 1);
    assert!(
        received < 2 << 20,
        "{received} bytes before the first answer"
    );
    assert_eq!(daemon.stop(), 0);
}
