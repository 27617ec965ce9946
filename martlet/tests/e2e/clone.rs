//! A clone is usable at once, and both sides go their own ways.

use crate::support::{Folder, Host, Store, stamps, text};

const BLOCKS: u64 = (64 << 20) / 512;

fn clone_diverges(store: &Store, folder: &Folder) {
    let host = Host::new(store, &folder.join("state"));
    // Content everywhere, so that a clone that copied would take long.
    let image = folder.join("image.raw");
    let mut model: Vec<u64> = vec![0; BLOCKS as usize];
    let mut bytes = vec![0; (BLOCKS * 512) as usize];
    for lba in (0..BLOCKS).filter(|lba| lba % 64 < 8) {
        model[lba as usize] = 1;
        bytes[(lba * 512) as usize..][..512].copy_from_slice(&stamps::block(lba, 1));
    }
    std::fs::write(&image, &bytes).unwrap();
    host.json(&["volume", "import", text(&image), "parent"]);
    let daemon = host.serve();
    host.json(&["snapshot", "create", "parent@base"]);
    let cloned = host.json(&["volume", "clone", "parent@base", "child"]);
    assert!(
        cloned["uploaded_bytes"].as_u64().unwrap() < 64 << 10,
        "{cloned}"
    );
    let mut child = daemon.login("child");
    assert_eq!(stamps::number(64, &child.read_now(64, 1).unwrap()), 1);
    let mut parent = daemon.login("parent");
    let mut child_model = model.clone();
    for n in 0..200_u64 {
        let (lba, blocks) = ((n * 7919) % (BLOCKS - 32), 1 + n % 32);
        let (model, session, number) = if n % 2 == 0 {
            (&mut model, &mut parent, 1000 + n)
        } else {
            (&mut child_model, &mut child, 2000 + n)
        };
        session
            .write_now(lba, &stamps::extent(lba, blocks, number))
            .unwrap();
        model[lba as usize..(lba + blocks) as usize].fill(number);
    }
    for (name, model) in [("parent", &model), ("child", &child_model)] {
        host.json(&["snapshot", "create", &format!("{name}@after")]);
        let exported = folder.join("exported.raw");
        host.json(&[
            "volume",
            "export",
            &format!("{name}@after"),
            text(&exported),
        ]);
        let bytes = std::fs::read(&exported).unwrap();
        for (lba, number) in (0..).zip(model) {
            let block = &bytes[(lba * 512) as usize..][..512];
            assert_eq!(stamps::number(lba, block), *number, "{name}, block {lba}");
        }
    }
    let shown = host.json(&["volume", "show", "parent"]);
    assert_eq!(shown["clones"].as_array().unwrap().len(), 1);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_clone_diverges_on_a_directory() {
    let folder = Folder::new("clone-dir");
    clone_diverges(&Store::dir(&folder.0), &folder);
}

#[test]
fn a_clone_diverges_on_swift() {
    let folder = Folder::new("clone-swift");
    clone_diverges(&Store::swift(), &folder);
}
