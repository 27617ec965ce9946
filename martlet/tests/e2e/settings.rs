//! What a volume is served under: logins, rates; what travels with it and what does not.

use crate::cli::check;
use crate::support::{Folder, Host, Store, initiator::Initiator, target, text};
use std::process::Command;
use std::time::Instant;

#[test]
fn what_was_set_moves_with_the_volume_and_secrets_do_not() {
    let folder = Folder::new("cli-move");
    let host = Host::new(&Store::dir(&folder.0), &folder.join("state"));
    host.json(&["volume", "create", "v", "--size", "8MiB"]);
    let secret = folder.join("secret");
    // The first line is the user's, in whatever order they are named.
    std::fs::write(&secret, "correct-horse-battery\nthe-target-s-own-secret\n").unwrap();
    let set = [
        "volume",
        "set",
        "v",
        "chap-mutual-user=disk",
        "chap-user=guest",
        "initiators=iqn.2001-04.com.example:somebody-else",
        "read-rate=100MiB",
        "--secret-file",
        text(&secret),
    ];
    host.json(&set);
    host.json(&["volume", "detach", "v"]);
    let shown = host.json(&["volume", "show", "v"]);
    assert_eq!(shown["settings"]["read-rate"], "104857600", "{shown}");
    assert_eq!(shown["settings"]["chap-user"], "guest", "{shown}");
    assert!(!shown.to_string().contains("horse"), "{shown}");
    let other = Host::new(&Store::dir(&folder.0), &folder.join("other"));
    let daemon = other.serve();
    // Attached, and nobody is let in: whom it wants cannot be asked for here.
    check(
        &other,
        &["volume", "attach", "v"],
        6,
        &["E6-NO-SECRET", "chap-user guest"],
    );
    let refused = Initiator::login(&daemon.address, &target("v"));
    assert_eq!(refused.unwrap_err().to_string(), "login 0301");
    other.json(&[
        "volume",
        "set",
        "v",
        "chap-user=guest",
        "chap-mutual-user=disk",
        "--secret-file",
        text(&secret),
    ]);
    // The list of initiators came along.
    let url = daemon.url("v");
    let url = url.replacen("iscsi://", "iscsi://guest%correct-horse-battery@", 1);
    let info = || {
        Command::new("qemu-img")
            .args(["info", &url])
            .output()
            .unwrap()
    };
    assert!(!info().status.success());
    other.json(&["volume", "set", "v", "initiators="]);
    let said = info();
    assert!(said.status.success(), "{said:?}");
    assert_eq!(daemon.stop(), 0);
    // A restart finds it all again.
    let daemon = other.serve();
    let refused = Initiator::login(&daemon.address, &target("v"));
    assert!(refused.is_err(), "it let somebody in without CHAP");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn rates_hold_and_change_while_sessions_stay() {
    let folder = Folder::new("cli-rates");
    let host = Host::new(&Store::dir(&folder.0), &folder.join("state"));
    host.json(&["volume", "create", "v", "--size", "64MiB"]);
    let daemon = host.serve();
    let mut session = daemon.login("v");
    host.json(&["volume", "set", "v", "write-rate=4MiB/s"]);
    let data = vec![7; 64 << 10];
    let mut write = |count: u64| {
        let began = Instant::now();
        for n in 0..count {
            session.write_now(n * 128, &data).unwrap();
        }
        began.elapsed().as_secs_f64()
    };
    // 6 MiB: 1.5 s, less the burst of 0.1 s and the last command, which is let in and paid for after.
    let slow = write(96);
    assert!(slow > 1.2, "{slow} s");
    host.json(&["volume", "set", "v", "write-rate="]);
    let quick = write(96);
    assert!(quick < slow, "{quick} s against {slow} s");
    // What waits is answered all the same when its session ends.
    host.json(&["volume", "set", "v", "write-rate=64KiB", "read-rate=64KiB"]);
    session.write_now(0, &data).unwrap();
    session.write(0, &data, false).unwrap();
    drop(session);
    host.json(&["volume", "set", "v", "write-rate=", "read-rate="]);
    let mut session = daemon.login("v");
    assert_eq!(session.read_now(0, 8).unwrap(), data[..4096]);
    drop(session);
    for (setting, code, word) in [
        ("mode=strict", 6, "E6-NOT-YET"),
        ("write-rate=1", 2, "64 KiB"),
        ("read-rate=fast", 2, "E2-SETTING"),
        ("colour=red", 2, "E2-SETTING"),
    ] {
        check(&host, &["volume", "set", "v", setting], code, &[word]);
    }
    host.json(&["volume", "set", "v", "mode=available"]);
    assert_eq!(daemon.stop(), 0);
}
