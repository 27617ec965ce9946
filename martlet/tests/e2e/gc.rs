//! `gc`: what interrupted work left goes, and what versions need stays.

use crate::support::{Folder, Host, Store};
use std::path::PathBuf;

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
