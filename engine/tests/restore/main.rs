//! The stranger's reader, `tools/restore.py`, against objects that the engine's codec makes.
//!
//! It shares no code with the engine, so it fails when the bytes are not what `docs/format.md` says. Needs `python3`.

mod history;
mod store;

use history::{Act, Dice, Volume, acts};
use martlet_engine::object::names::ObjectName;
use martlet_engine::table::types::LeafHome;
use martlet_engine::units::{BlockCount, Geometry, GrainIndex};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use store::Store;

fn small(block_bytes: u32, blocks: u64) -> Geometry {
    Geometry {
        block_bytes,
        capacity: BlockCount(blocks),
        chunk_grains: 32,
        leaf_chunks: 2,
        frame_grains: 3,
    }
}

fn restore(store: &Store, volume: &str) -> (Output, PathBuf) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/restore.py");
    let image = store.root().with_extension("raw");
    let output = Command::new("python3")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(script)
        .arg(format!("dir:{}", store.root().display()))
        .args([volume.as_ref(), image.as_os_str()])
        .output()
        .expect("python3 is installed");
    (output, image)
}

#[track_caller]
fn check(store: &Store, volume: &str, expected: &[u8]) {
    let (output, image) = restore(store, volume);
    assert!(output.status.success(), "{output:?}");
    let found = fs::read(&image).unwrap();
    fs::remove_file(image).unwrap();
    assert_eq!(found.len(), expected.len());
    let differs = found.iter().zip(expected).position(|(a, b)| a != b);
    assert_eq!(differs, None, "first byte of {volume} that differs");
}

#[track_caller]
fn check_refused(store: &Store, volume: &str, code: i32, text: &str) {
    let (output, image) = restore(store, volume);
    let _ = fs::remove_file(image);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(text), "{said}");
}

/// Four versions under two generations, riding and packed leaves in turn; gives what each snapshot reads as.
fn aged(store: &Store, name: &str, id: u8, geometry: Geometry) -> (Volume, Vec<Vec<u8>>) {
    let mut dice = Dice(u64::from(id) * 7919);
    let mut volume = Volume::new(store, name, id, geometry);
    let mut states = Vec::new();
    for version in 0..6 {
        if version % 3 == 0 {
            volume.attach(store);
        }
        let acts = acts(&mut dice, &geometry, 1 + version);
        volume.publish(store, &acts, Some(&format!("s{version}")), version % 2 == 0);
        states.push(volume.bytes.clone());
    }
    (volume, states)
}

#[test]
fn every_version_is_restored_as_it_was() {
    for (n, geometry) in [
        (1, small(512, 1003)),
        (2, small(4096, 130)),
        (3, small(512, 1)),
    ] {
        let store = Store::new(&format!("versions-{n}"));
        let (volume, states) = aged(&store, "vm01", n, geometry);
        check(&store, &volume.container.to_string(), &volume.bytes);
        for version in [0, 2, 4] {
            check(&store, &format!("vm01@s{version}"), &states[version]);
        }
    }
}

#[test]
fn an_attachment_without_a_root_goes_on_from_its_base() {
    let store = Store::new("base");
    let (mut volume, _) = aged(&store, "vm01", 4, small(512, 900));
    volume.attach(&store);
    check(&store, "vm01", &volume.bytes);
}

#[test]
fn a_clone_is_restored_from_its_parent_s_objects_and_its_own() {
    let store = Store::new("clone");
    let geometry = small(512, 1003);
    let (parent, _) = aged(&store, "golden", 5, geometry);
    let mut child = Volume::new(&store, "vm02", 6, geometry);
    child.attach(&store);
    child.clone_from(&parent);
    child.publish(&store, &BTreeMap::new(), None, true);
    check(&store, "vm02", &parent.bytes);
    child.publish(&store, &acts(&mut Dice(9), &geometry, 5), None, false);
    check(&store, "vm02", &child.bytes);
    check(&store, "golden", &parent.bytes);
}

#[test]
fn whole_chunks_of_the_production_shape_are_restored() {
    let store = Store::new("whole");
    let geometry = Geometry::standard(512, BlockCount(20_000));
    let mut volume = Volume::new(&store, "big", 7, geometry);
    volume.attach(&store);
    let all = (0..geometry.grain_count())
        .map(|grain| (GrainIndex(grain), Act::Data))
        .collect();
    volume.publish(&store, &all, None, true);
    volume.publish(&store, &acts(&mut Dice(3), &geometry, 200), None, true);
    check(&store, "big", &volume.bytes);
}

#[test]
fn what_is_not_there_is_said() {
    let store = Store::new("absent");
    aged(&store, "vm01", 8, small(512, 100));
    check_refused(
        &store,
        "vm02",
        3,
        "0 volumes are vm02; there are: vm01.0808",
    );
    check_refused(
        &store,
        "vm01@never",
        3,
        "has no snapshot never; it has: s0, s1",
    );
    aged(&store, "vm01", 9, small(512, 100));
    check_refused(&store, "vm01", 6, "2 volumes are vm01");
    Volume::new(&store, "unborn", 10, small(512, 100));
    check_refused(&store, "unborn", 3, "not born yet");
}

#[test]
fn lost_blocks_are_an_error_and_never_zeros() {
    let store = Store::new("lost");
    let geometry = small(512, 100);
    let (mut volume, _) = aged(&store, "vm01", 11, geometry);
    volume.publish(
        &store,
        &BTreeMap::from([(GrainIndex(2), Act::Lost(0b100))]),
        None,
        true,
    );
    check_refused(&store, "vm01", 8, "block 18 was lost");
    volume.publish(
        &store,
        &BTreeMap::from([(GrainIndex(2), Act::Part(0b100))]),
        None,
        true,
    );
    check(&store, "vm01", &volume.bytes);
}

#[test]
fn damage_is_found_wherever_it_is() {
    let store = Store::new("damage");
    let geometry = small(512, 1003);
    let mut volume = Volume::new(&store, "vm01", 12, geometry);
    volume.attach(&store);
    let all = (0..geometry.grain_count())
        .map(|grain| (GrainIndex(grain), Act::Data))
        .collect();
    volume.publish(&store, &all, None, false);
    check(&store, "vm01", &volume.bytes);
    let root = volume.root.clone().unwrap();
    let LeafHome::Leaves(leaves) = root.leaves.values().next().unwrap().home else {
        panic!()
    };
    let data = fs::read_dir(
        store
            .root()
            .join(volume.container.to_string())
            .join("chunks/00000000"),
    );
    let data = data.unwrap().next().unwrap().unwrap().path();
    let opened = ObjectName::Opened(root.name.attach.generation);
    let files = [
        (
            store.path(&volume.container, &opened),
            33,
            "checksum differs",
        ),
        (
            store.path(&volume.container, &ObjectName::Root(root.name)),
            200,
            "checksum differs",
        ),
        (
            store.path(&volume.container, &ObjectName::Leaves(leaves)),
            40,
            "checksum differs",
        ),
        (data.clone(), 70, "checksum differs"),
        (data.clone(), 128 + 4096 * 2, "grain 2 has another checksum"),
    ];
    for (path, at, text) in files {
        let whole = fs::read(&path).unwrap();
        let mut harmed = whole.clone();
        harmed[at] ^= 0x10;
        fs::write(&path, &harmed).unwrap();
        check_refused(&store, "vm01", 8, text);
        fs::write(&path, &whole[..at]).unwrap();
        check_refused(&store, "vm01", 8, "");
        fs::write(&path, &whole).unwrap();
    }
    // Another frame in its place, good in itself.
    let whole = fs::read(&data).unwrap();
    let frame = 128 + 3 * 4096;
    let mut swapped = whole.clone();
    swapped[..frame].copy_from_slice(&whole[frame..2 * frame]);
    fs::write(&data, &swapped).unwrap();
    check_refused(&store, "vm01", 8, "belongs elsewhere");
    fs::remove_file(&data).unwrap();
    check_refused(&store, "vm01", 8, "missing");
}
