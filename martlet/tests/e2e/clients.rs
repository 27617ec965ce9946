//! The clients that people have: QEMU's tools and libiscsi's read and write, and what they wrote is what a snapshot holds.

use crate::support::{Folder, Host, Store, target, text, tool};

const SIZE: usize = 64 << 20;

fn clients(store: &Store, folder: &Folder) {
    let host = Host::new(store, &folder.join("state"));
    host.json(&["volume", "create", "vm", "--size", "64MiB"]);
    let daemon = host.serve();
    let url = daemon.url("vm");
    let seen = tool("iscsi-ls", &["-s", &format!("iscsi://{}/", daemon.address)]);
    assert!(seen.contains(&format!("Target:{}", target("vm"))), "{seen}");
    assert!(seen.contains("DIRECT_ACCESS"), "{seen}");
    let inquiry = tool("iscsi-inq", &[&url]);
    assert!(inquiry.contains("Vendor:MARTLET"), "{inquiry}");
    let capacity = tool("iscsi-readcapacity16", &[&url]);
    assert!(
        capacity.contains(&format!("Total size:{SIZE}")),
        "{capacity}"
    );
    // They write where they like, and check what they read.
    for suite in ["ALL.Write10", "ALL.WriteSame16", "ALL.CompareAndWrite"] {
        let said = tool("iscsi-test-cu", &["--dataloss", "--test", suite, &url]);
        assert!(
            said.contains("passed") && !said.contains("FAILED"),
            "{suite}: {said}"
        );
    }
    // A whole image over all of that, then pieces of it anew, with zeros and a flush.
    let image = folder.join("image.raw");
    let mut model: Vec<u8> = (0..SIZE).map(|n| (n / 512 % 251) as u8).collect();
    std::fs::write(&image, &model).unwrap();
    let raw = ["-f", "raw"];
    let convert = [
        "convert",
        "-n",
        "-f",
        "raw",
        "-O",
        "raw",
        text(&image),
        &url,
    ];
    tool("qemu-img", &convert);
    let writes = [
        "write -P 0x5a 1M 64k",
        "write -P 0x5b 1050112 512",
        "write -z 3M 1M",
        "discard 8M 1M",
        "flush",
        "read -P 0x5a 1M 1k",
    ];
    let mut arguments = raw.to_vec();
    arguments.extend(writes.iter().flat_map(|write| ["-c", write]));
    arguments.push(&url);
    tool("qemu-io", &arguments);
    model[1 << 20..(1 << 20) + (64 << 10)].fill(0x5a);
    model[1_050_112..1_050_624].fill(0x5b);
    model[3 << 20..4 << 20].fill(0);
    model[8 << 20..9 << 20].fill(0);
    host.json(&["snapshot", "create", "vm@kept"]);
    // What comes later is not in it.
    let later = ["-f", "raw", "-c", "write -P 0x77 0 4M", &url];
    tool("qemu-io", &later);
    host.json(&["volume", "evict", "vm"]);
    let exported = folder.join("exported.raw");
    host.json(&["volume", "export", "vm@kept", text(&exported)]);
    assert!(std::fs::read(&exported).unwrap() == model);
    model[..4 << 20].fill(0x77);
    std::fs::write(&image, &model).unwrap();
    let both = ["compare", "-f", "raw", "-F", "raw", text(&image), &url];
    tool("qemu-img", &both);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn what_clients_write_a_snapshot_holds_on_a_directory() {
    let folder = Folder::new("clients");
    clients(&Store::dir(&folder.0), &folder);
}

#[test]
fn what_clients_write_a_snapshot_holds_on_swift() {
    let folder = Folder::new("clients-swift");
    clients(&Store::swift(), &folder);
}
