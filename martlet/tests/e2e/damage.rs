//! Damaged, missing and foreign objects, interrupted imports, wrong credentials: said, and never read as zeros.

use crate::support::{Folder, Host, Store, stamps, text, tool};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Every object below a prefix of a directory store's only volume, by name.
fn objects(store: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![store.to_owned()];
    while let Some(path) = left.pop() {
        for entry in std::fs::read_dir(&path).unwrap().map(Result::unwrap) {
            if entry.metadata().unwrap().is_dir() {
                left.push(entry.path());
            } else if text(&entry.path()).contains(&format!("/{prefix}")) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no {prefix}");
    found
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// A volume of two chunks' content, its snapshot committed, nothing of it cached.
fn volume(folder: &Folder) -> (Host, PathBuf) {
    let host = Host::new(&Store::dir(&folder.0), &folder.join("state"));
    import(&host, folder);
    (host, folder.join("store"))
}

fn import(host: &Host, folder: &Folder) {
    let image = folder.join("image.raw");
    let mut bytes = vec![0; 32 << 20];
    // The first grains of chunks 0 and 2: each in an object of its own.
    for lba in (0..64).chain(32_768..32_832) {
        bytes[lba * 512..(lba + 1) * 512].copy_from_slice(&stamps::block(lba as u64, 1));
    }
    std::fs::write(&image, bytes).unwrap();
    host.json(&["volume", "import", text(&image), "vm"]);
    host.json(&["volume", "evict", "vm"]);
}

/// MEDIUM ERROR for what is damaged, the rest as ever, the object's name in the log.
#[track_caller]
fn check_medium_error(host: &Host, object: &str) {
    let daemon = host.serve();
    let mut session = daemon.login("vm");
    let tag = session.read(0, 8).unwrap();
    let answer = session.wait(tag).unwrap();
    assert_eq!(answer.sense.map(|s| s.0), Some(0x03), "{answer:?}");
    let good = session.read_now(32_768, 8).unwrap();
    assert_eq!(stamps::number(32_768, &good[..512]), 1);
    // Blocks that were written anew are good again.
    session.write_now(0, &stamps::extent(0, 8, 2)).unwrap();
    assert_eq!(stamps::number(0, &session.read_now(0, 1).unwrap()), 2);
    daemon.wait_log(object);
    assert_eq!(daemon.stop(), 0);
    let out = host.run(&["volume", "export", "vm", "-"]);
    assert_eq!(out.code, 8, "{}", out.stderr);
    assert!(out.stderr.contains("E8-DAMAGED"), "{}", out.stderr);
}

#[test]
fn a_damaged_object_is_a_medium_error_and_named() {
    let folder = Folder::new("damage-flip");
    let (host, store) = volume(&folder);
    let object = objects(&store, "chunks/").remove(0);
    flip(&object, 128 + 100);
    check_medium_error(&host, object.file_name().unwrap().to_str().unwrap());
}

#[test]
fn a_missing_object_is_a_medium_error_and_never_zeros() {
    let folder = Folder::new("damage-gone");
    let (host, store) = volume(&folder);
    let object = objects(&store, "chunks/").remove(0);
    std::fs::remove_file(&object).unwrap();
    check_medium_error(&host, object.file_name().unwrap().to_str().unwrap());
}

#[test]
fn a_short_object_is_a_medium_error() {
    let folder = Folder::new("damage-short");
    let (host, store) = volume(&folder);
    let object = objects(&store, "chunks/").remove(0);
    let bytes = std::fs::read(&object).unwrap();
    std::fs::write(&object, &bytes[..1000]).unwrap();
    check_medium_error(&host, object.file_name().unwrap().to_str().unwrap());
}

/// A host that has nothing of a volume meets a leaf that is not what it must be.
#[track_caller]
fn check_leaf(tag: &str, harm: impl Fn(&Path)) {
    let folder = Folder::new(tag);
    let host = Host::new(&Store::dir(&folder.0), &folder.join("state"));
    host.json(&["volume", "create", "vm", "--size", "10GiB"]);
    let daemon = host.serve();
    let mut session = daemon.login("vm");
    // A leaf that is too large to ride in the root.
    for lba in (0..1000).map(|n| n * 20_480) {
        session.write_now(lba, &stamps::extent(lba, 8, 1)).unwrap();
    }
    drop(session);
    host.json(&["volume", "detach", "vm"]);
    assert_eq!(daemon.stop(), 0);
    let store = folder.join("store");
    let leaf = objects(&store, "tables/").pop().unwrap();
    harm(&leaf);
    let other = Host::new(&Store::dir(&folder.0), &folder.join("other"));
    other.json(&["volume", "attach", "vm"]);
    let daemon = other.serve();
    let mut session = daemon.login("vm");
    let lba = 20_480;
    let tag = session.read(lba, 8).unwrap();
    let answer = session.wait(tag).unwrap();
    assert_eq!(answer.sense.map(|s| s.0), Some(0x03), "{answer:?}");
    // What the journal has needs no leaf.
    session.write_now(lba, &stamps::extent(lba, 8, 2)).unwrap();
    let now = session.read_now(lba, 1).unwrap();
    assert_eq!(stamps::number(lba, &now), 2);
    let name = leaf.file_name().unwrap().to_str().unwrap();
    daemon.wait_log(name);
    assert_eq!(daemon.stop(), 0);
    let out = other.run(&["volume", "export", "vm", "-"]);
    assert_eq!(out.code, 8, "{}", out.stderr);
    assert!(out.stderr.contains("E8-DAMAGED"), "{}", out.stderr);
}

#[test]
fn a_damaged_leaf_is_a_medium_error_and_named() {
    check_leaf("damage-leaf", |leaf| flip(leaf, 60));
}

#[test]
fn a_missing_leaf_is_a_medium_error_and_never_zeros() {
    check_leaf("damage-leaf-gone", |leaf| {
        std::fs::remove_file(leaf).unwrap()
    });
}

/// The object servers' files that hold these bytes, and where.
fn files_with(store: &Path, bytes: &[u8]) -> Vec<(PathBuf, usize)> {
    let files = objects(store, "").into_iter();
    let data = files.filter(|file| file.extension().is_some_and(|e| e == "data"));
    data.filter_map(|file| {
        let content = std::fs::read(&file).unwrap();
        let at = content.windows(bytes.len()).position(|w| w == bytes)?;
        Some((file, at))
    })
    .collect()
}

/// Swift serves ranges of a rotten object without a word: their checksums tell.
#[test]
fn a_rotten_object_of_swift_is_a_medium_error_and_named() {
    let folder = Folder::new("damage-swift");
    let store = Store::swift();
    // The store is asked for 30 s before anything is called damaged; BUSY would come before.
    let host = Host::new(&store, &folder.join("state"))
        .with("limits.busy_after=1m")
        .with("swift.damage_asks=3")
        .with("swift.damage_span=30s");
    import(&host, &folder);
    let found = files_with(store.real_swift().folder(), &stamps::block(0, 1));
    let [(file, at)] = &found[..] else {
        panic!("one replica: {found:?}");
    };
    let mut bytes = std::fs::read(file).unwrap();
    bytes[*at] ^= 1;
    // In place: the object's metadata are attributes of this very file.
    std::fs::write(file, bytes).unwrap();
    check_medium_error(&host, "chunks/00000000/00000000-");
}

/// Another host finds a volume of which an object is not what it must be.
#[track_caller]
fn check_refused(prefix: &str, harm: impl Fn(&Path), code: i32, word: &str) {
    let folder = Folder::new("damage-meta");
    let (host, store) = volume(&folder);
    host.json(&["volume", "detach", "vm"]);
    let object = objects(&store, prefix).pop().unwrap();
    harm(&object);
    let other = Host::new(&Store::dir(&folder.0), &folder.join("other"));
    let refused = other.run(&["volume", "attach", "vm"]);
    assert_eq!(refused.code, code, "{}", refused.stderr);
    assert!(refused.stderr.contains(word), "{}", refused.stderr);
    let listed = other.json(&["status"]);
    assert_eq!(listed["volumes"].as_array().unwrap().len(), 0);
}

#[test]
fn a_damaged_root_is_refused_and_named() {
    check_refused("versions/", |object| flip(object, 50), 8, "versions/");
}

#[test]
fn a_damaged_superblock_is_refused_and_named() {
    check_refused("volume", |object| flip(object, 50), 8, "volume");
}

#[test]
fn a_superblock_of_a_newer_format_is_refused_with_words() {
    // The envelope: magic, then the major version; its checksum covers both.
    let newer = |object: &Path| {
        let mut bytes = std::fs::read(object).unwrap();
        bytes[8] = 2;
        let mut sum = crc32fast::Hasher::new();
        sum.update(&bytes[..28]);
        sum.update(&bytes[32..]);
        let sum = sum.finalize();
        bytes[28..32].copy_from_slice(&sum.to_le_bytes());
        std::fs::write(object, bytes).unwrap();
    };
    check_refused("volume", newer, 6, "newer martlet");
}

#[test]
fn an_import_that_was_killed_is_no_volume_and_may_be_repeated() {
    let folder = Folder::new("damage-import");
    let host = Host::new(&Store::dir(&folder.0), &folder.join("state"));
    let image = folder.join("image.raw");
    let block: Vec<u8> = (0..1 << 20).map(|n| (n / 3) as u8).collect();
    std::fs::write(&image, block.repeat(300)).unwrap();
    let store = folder.join("store");
    let mut child = host.begin(&["volume", "import", text(&image), "vm"]);
    let until = Instant::now() + Duration::from_secs(30);
    // Half-way: some chunks are stored, not all.
    while count(&store, "chunks/") < 5 {
        assert!(Instant::now() < until, "nothing was stored");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let listed = host.json(&["volume", "list"]);
    assert_eq!(listed["volumes"].as_array().unwrap().len(), 0, "{listed}");
    let all = host.json(&["volume", "list", "--all"]);
    assert_eq!(all["volumes"][0]["state"], "unborn", "{all}");
    // Once more under the same name: what was left is erased first.
    host.json(&["volume", "import", text(&image), "vm"]);
    let exported = folder.join("exported.raw");
    host.json(&["volume", "export", "vm", text(&exported)]);
    tool("cmp", &[text(&image), text(&exported)]);
    let all = host.json(&["volume", "list", "--all"]);
    assert_eq!(all["volumes"].as_array().unwrap().len(), 1, "{all}");
}

fn count(store: &Path, prefix: &str) -> usize {
    let mut count = 0;
    let mut left = vec![store.to_owned()];
    while let Some(path) = left.pop() {
        // It may not be there yet.
        let Ok(entries) = std::fs::read_dir(&path) else {
            continue;
        };
        for entry in entries.filter_map(Result::ok) {
            if entry.metadata().is_ok_and(|m| m.is_dir()) {
                left.push(entry.path());
            } else if text(&entry.path()).contains(prefix) {
                count += 1;
            }
        }
    }
    count
}

#[test]
fn wrong_credentials_are_said_to_be_wrong() {
    let folder = Folder::new("damage-denied");
    let store = Store::swift();
    let host = Host::new(&store, &folder.join("state")).variable("ST_KEY", "not-the-key");
    let refused = host.run(&["volume", "create", "vm", "--size", "8MiB"]);
    assert_eq!(refused.code, 7, "{}", refused.stderr);
    assert!(
        !refused.stderr.contains("not-the-key"),
        "{}",
        refused.stderr
    );
    let none = Host::new(&store, &folder.join("none")).variable("ST_KEY", "");
    let refused = none.run(&["volume", "create", "vm", "--size", "8MiB"]);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("E2-CREDENTIALS"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_store_that_is_not_mounted_is_not_an_empty_one() {
    let folder = Folder::new("damage-unmounted");
    let (host, store) = volume(&folder);
    let daemon = host.serve();
    let mut session = daemon.login("vm");
    std::fs::rename(&store, folder.join("elsewhere")).unwrap();
    std::fs::create_dir(&store).unwrap();
    let tag = session.read(0, 8).unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let shown = host.json(&["volume", "show", "vm"]);
        assert_eq!(shown["store_error"]["code"], "E5-STORE-AWAY", "{shown}");
        // Its own read found it missing, too.
        if !shown["store_away_seconds"].is_null() {
            break;
        }
        assert!(Instant::now() < until, "the store is not missed");
    }
    let refused = host.run(&["volume", "create", "other", "--size", "8MiB"]);
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    std::fs::remove_dir(&store).unwrap();
    std::fs::rename(folder.join("elsewhere"), &store).unwrap();
    let answer = session.wait(tag).unwrap();
    assert!(answer.is_good(), "{answer:?}");
    assert_eq!(stamps::number(0, &answer.data[..512]), 1);
    assert_eq!(daemon.stop(), 0);
}
