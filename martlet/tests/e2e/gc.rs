//! `gc`: what interrupted work left goes, and what versions need stays.

use crate::support::{Folder, Host, Store, text};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use testkit::{Exchange, Relay};

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
    let Store::Swift(swift) = &store else {
        unreachable!("asked for");
    };
    let port = swift.url().rsplit_once(':').map(|(_, port)| port.parse());
    let relay = Relay::start(port.expect("a port").unwrap()).unwrap();
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
