//! A real file system on a real image: imported, read back whole over iSCSI, from cache and from an emptied host.

use crate::support::{Folder, Host, Store, target, text, tool};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

/// Bytes of real files that the image holds: enough that nothing fits one object, little enough for a test.
const FILES_BYTES: u64 = 200 << 20;

/// An ext4 image of real files, made with `mke2fs -d`.
fn ext4(folder: &Folder) -> PathBuf {
    let tree = folder.join("tree");
    std::fs::create_dir(&tree).unwrap();
    let mut left = FILES_BYTES;
    for source in ["/usr/bin", "/usr/lib/x86_64-linux-gnu", "/usr/share/doc"] {
        copy_some(Path::new(source), &tree, &mut left);
    }
    let image = folder.join("fs.raw");
    tool("truncate", &["--size", "400M", text(&image)]);
    tool(
        "mke2fs",
        &["-q", "-t", "ext4", "-d", text(&tree), text(&image)],
    );
    std::fs::remove_dir_all(&tree).unwrap();
    image
}

fn copy_some(from: &Path, to: &Path, left: &mut u64) {
    let Ok(entries) = std::fs::read_dir(from) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let Ok(meta) = entry.metadata() else {
            continue;
        };
        if meta.is_file() && meta.len() <= *left {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            *left -= meta.len();
        }
    }
}

/// One file system as three images.
struct Images {
    raw: PathBuf,
    plain: PathBuf,
    packed: PathBuf,
    _folder: Folder,
}

/// Made once for tests that run at once: packing takes longer than the rest.
fn images() -> Arc<Images> {
    static MADE: Mutex<Weak<Images>> = Mutex::new(Weak::new());
    let mut made = MADE.lock().expect("they could be made");
    if let Some(images) = made.upgrade() {
        return images;
    }
    let folder = Folder::new("main-images");
    let raw = ext4(&folder);
    let plain = folder.join("fs.qcow2");
    let packed = folder.join("fs-packed.qcow2");
    let convert = |options: &[&str], to: &Path| {
        let all = [
            &["convert"],
            options,
            &["-O", "qcow2", text(&raw), text(to)],
        ]
        .concat();
        tool("qemu-img", &all);
    };
    convert(&[], &plain);
    convert(&["-c"], &packed);
    let images = Arc::new(Images {
        raw,
        plain,
        packed,
        _folder: folder,
    });
    *made = Arc::downgrade(&images);
    images
}

fn main_job(store: &Store, folder: &Folder) {
    let made = images();
    let Images {
        raw, plain, packed, ..
    } = &*made;
    let host = Host::new(store, &folder.join("state"));
    let images = [("raw", raw), ("plain", plain), ("packed", packed)];
    for (name, image) in images {
        let made = host.json(&["volume", "import", text(image), name]);
        assert_eq!(made["size_bytes"], 400 << 20);
        // Holes are kept: nothing is stored for them.
        assert!(made["uploaded_bytes"].as_u64().unwrap() < 300 << 20);
    }
    let daemon = host.serve();
    let compare = |daemon: &crate::support::Daemon, name: &str| {
        tool(
            "qemu-img",
            &[
                "compare",
                "-f",
                "raw",
                "-F",
                "raw",
                text(raw),
                &daemon.url(name),
            ],
        );
    };
    for (name, _) in images {
        compare(&daemon, name);
        compare(&daemon, name);
    }
    assert_eq!(daemon.stop(), 0);
    // The host gives its volumes up and is emptied; another begins with nothing but the store.
    for (name, _) in images {
        host.json(&["volume", "detach", name]);
    }
    std::fs::remove_dir_all(&host.state).unwrap();
    let other = Host::new(store, &folder.join("other"));
    for (name, _) in images {
        other.json(&["volume", "attach", name]);
    }
    let daemon = other.serve();
    for (name, _) in images {
        compare(&daemon, name);
    }
    let exported = folder.join("exported.raw");
    other.json(&["volume", "export", "plain", text(&exported)]);
    tool("cmp", &[text(raw), text(&exported)]);
    tool("e2fsck", &["-fn", text(&exported)]);
    assert_eq!(
        other.json(&["volume", "show", "plain"])["target"],
        target("plain")
    );
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn an_image_comes_back_whole_from_a_directory() {
    let folder = Folder::new("main-dir");
    main_job(&Store::dir(&folder.0), &folder);
}

#[test]
fn an_image_comes_back_whole_from_swift() {
    let folder = Folder::new("main-swift");
    main_job(&Store::swift(), &folder);
}
