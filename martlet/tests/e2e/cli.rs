//! What bad input and bad days get: the exit code, the three parts, nothing half-made.

use crate::support::{Folder, Host, Store, text, tool};
use std::process::{Command, Stdio};

#[track_caller]
pub(crate) fn check(host: &Host, arguments: &[&str], code: i32, parts: &[&str]) {
    let answered = host.run(arguments);
    assert_eq!(answered.code, code, "{arguments:?}: {}", answered.stderr);
    assert!(answered.stdout.is_empty(), "an error is no answer");
    for part in parts {
        assert!(
            answered.stderr.contains(part),
            "{arguments:?}: {}",
            answered.stderr
        );
    }
}

fn host(folder: &Folder) -> Host {
    Host::new(&Store::dir(&folder.0), &folder.join("state"))
}

#[test]
fn bad_words_and_bad_names_are_refused() {
    let folder = Folder::new("cli-words");
    let host = host(&folder);
    check(
        &host,
        &["volume", "create", "Bad_Name", "--size", "1M"],
        2,
        &["E2-NAME"],
    );
    check(
        &host,
        &["volume", "create", "v", "--size", "1000"],
        2,
        &["E2-SIZE", "no multiple"],
    );
    check(
        &host,
        &["volume", "create", "v", "--size", "9000PiB"],
        2,
        &["8 EiB"],
    );
    check(
        &host,
        &["volume", "create", "v", "--size", "10GB"],
        2,
        &["GiB"],
    );
    check(&host, &["frobnicate"], 2, &[]);
    check(
        &host,
        &["status", "--set", "limits.nothing=1"],
        2,
        &["limits.nothing", "E2-CONFIG"],
    );
    check(
        &host,
        &["volume", "import", "/nowhere/at/all", "v"],
        3,
        &["/nowhere/at/all", "E3-NO-FILE"],
    );
    check(
        &host,
        &["volume", "show", "nobody"],
        3,
        &["error: there is no volume nobody", "code:  E3-NO-VOLUME"],
    );
}

#[test]
fn what_exists_is_not_made_again() {
    let folder = Folder::new("cli-exists");
    let host = host(&folder);
    let first = host.json(&["volume", "create", "v", "--size", "8MiB"]);
    let again = host.json(&["volume", "create", "v", "--size", "8MiB"]);
    assert_eq!(first["id"], again["id"]);
    assert_eq!(again["existed"], true);
    check(
        &host,
        &["volume", "create", "v", "--size", "16MiB"],
        4,
        &["E4-VOLUME-EXISTS"],
    );
    let image = folder.join("x.raw");
    tool("truncate", &["--size", "1M", text(&image)]);
    check(
        &host,
        &["volume", "import", text(&image), "v"],
        4,
        &["E4-VOLUME-EXISTS"],
    );
}

#[test]
fn images_that_are_none_leave_nothing_behind() {
    let folder = Folder::new("cli-images");
    let host = host(&folder);
    let odd = folder.join("odd.raw");
    std::fs::write(&odd, [7; 1000]).unwrap();
    check(
        &host,
        &["volume", "import", text(&odd), "v"],
        2,
        &["no multiple"],
    );
    let empty = folder.join("empty.raw");
    std::fs::write(&empty, []).unwrap();
    check(
        &host,
        &["volume", "import", text(&empty), "v"],
        2,
        &["no block"],
    );
    let whole = folder.join("whole.qcow2");
    tool(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", text(&whole), "64M"],
    );
    tool(
        "qemu-io",
        &["-f", "qcow2", "-c", "write -P 1 0 4M", text(&whole)],
    );
    let cut = folder.join("cut.qcow2");
    let bytes = std::fs::read(&whole).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    check(
        &host,
        &["volume", "import", text(&cut), "v"],
        8,
        &["truncated", "E8-IMAGE-DAMAGED"],
    );
    let listed = host.json(&["volume", "list"]);
    assert_eq!(listed["volumes"].as_array().unwrap().len(), 0, "{listed}");
    check(
        &host,
        &["volume", "import", text(&folder.0), "w"],
        1,
        &["directory"],
    );
}

#[test]
fn a_pipe_is_an_image_and_stdout_is_one() {
    let folder = Folder::new("cli-pipes");
    let host = host(&folder);
    let image = folder.join("x.raw");
    tool("truncate", &["--size", "20M", text(&image)]);
    tool(
        "qemu-io",
        &["-f", "raw", "-c", "write -P 3 9M 1M", text(&image)],
    );
    let piped = format!(
        "cat {} | {} --state {} --store {} --no-progress volume import - v",
        text(&image),
        env!("CARGO_BIN_EXE_martlet"),
        text(&host.state),
        Store::dir(&folder.0).place(),
    );
    let status = Command::new("sh")
        .args(["-c", &piped])
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let out = host.run(&["volume", "export", "v", "-"]).good();
    assert!(out.stdout == std::fs::read(&image).unwrap());
    // The same through a daemon, which gets the pipe's descriptor.
    let daemon = host.serve();
    let out = host.run(&["volume", "export", "v", "-"]).good();
    assert!(out.stdout == std::fs::read(&image).unwrap());
    let status = Command::new("sh")
        .args(["-c", &piped.replace("- v", "- w")])
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let other = folder.join("y.qcow2");
    host.json(&["volume", "export", "w", text(&other), "--format", "qcow2"]);
    tool(
        "qemu-img",
        &[
            "compare",
            "-f",
            "raw",
            "-F",
            "qcow2",
            text(&image),
            text(&other),
        ],
    );
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_state_directory_has_one_process_and_a_port_one_listener() {
    let folder = Folder::new("cli-held");
    let host = host(&folder);
    host.json(&["volume", "create", "v", "--size", "8MiB"]);
    let daemon = host.serve();
    // The command goes to the daemon; a second daemon does not start.
    assert_eq!(host.json(&["status"])["listen"], daemon.address);
    check(
        &host,
        &["serve", "--listen", "127.0.0.1:0"],
        6,
        &["E6-STATE-HELD", "held by process"],
    );
    let other = Host::new(&Store::dir(&folder.0), &folder.join("other"));
    check(
        &other,
        &["serve", "--listen", &daemon.address],
        6,
        &["E6-PORT-IN-USE"],
    );
    // Held by the first host: refused, and told by whom.
    check(
        &other,
        &["volume", "attach", "v"],
        6,
        &["E6-HELD", "is held by host", "--take-over"],
    );
    assert_eq!(daemon.stop(), 0);
}

/// A disk that is not mounted leaves an empty directory behind: that is no new store.
#[test]
fn a_store_that_is_not_mounted_is_not_made_anew() {
    let folder = Folder::new("cli-unmounted");
    let host = host(&folder);
    let store = folder.join("store");
    let away = ["E5-STORE-AWAY", "is not there", text(&store), "mount it"];
    // Nothing was ever here: only what makes a volume makes a store, and nothing else is remembered.
    for verb in [
        &["volume", "attach", "vm"] as &[&str],
        &["volume", "list"],
        &["serve"],
    ] {
        check(&host, verb, 5, &away);
        assert!(!store.exists());
    }
    host.json(&["volume", "create", "vm", "--size", "8MiB"]);
    let moved = folder.join("moved");
    std::fs::rename(&store, &moved).unwrap();
    for there in [false, true] {
        if there {
            std::fs::create_dir(&store).unwrap();
        }
        for verb in [
            &["serve"] as &[&str],
            &["up"],
            &["volume", "create", "other", "--size", "8MiB"],
            &["volume", "show", "vm"],
        ] {
            check(&host, verb, 5, &away);
        }
        assert_eq!(store.exists(), there);
    }
    assert_eq!(std::fs::read_dir(&store).unwrap().count(), 0);
    std::fs::remove_dir(&store).unwrap();
    std::fs::rename(&moved, &store).unwrap();
    let shown = host.json(&["volume", "show", "vm"]);
    assert_eq!(shown["size_bytes"], 8 << 20, "{shown}");
}

#[test]
fn documents_have_stable_names() {
    let folder = Folder::new("cli-json");
    let host = host(&folder);
    host.json(&["volume", "create", "v", "--size", "8MiB"]);
    let keys = |value: &serde_json::Value| {
        let keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        keys.join(" ")
    };
    let made = host.json(&["volume", "create", "w", "--size", "8MiB"]);
    assert_eq!(
        keys(&made),
        "existed id puts size_bytes uploaded_bytes version volume"
    );
    let snapshot = host.json(&["snapshot", "create", "v@a"]);
    assert_eq!(
        keys(&snapshot),
        "cut_microseconds elapsed_ms id puts snapshot uploaded_bytes version volume"
    );
    let listed = host.json(&["snapshot", "list", "v"]);
    assert_eq!(keys(&listed), "id snapshots volume");
    assert_eq!(
        keys(&listed["snapshots"][0]),
        "created name size_bytes version"
    );
    let status = host.json(&["status"]);
    assert_eq!(
        keys(&status),
        "free_bytes listen state_directory store volumes"
    );
    let missing = host.run(&["volume", "show", "x", "--json"]);
    let error: serde_json::Value = serde_json::from_str(&missing.stderr).unwrap();
    assert_eq!(keys(&error), "cause code error exit help");
    assert_eq!((missing.code, &error["exit"]), (3, &3.into()));
}

#[test]
fn a_volume_is_served_under_what_was_set() {
    let folder = Folder::new("cli-set");
    let host = host(&folder);
    host.json(&["volume", "create", "v", "--size", "8MiB"]);
    let daemon = host.serve();
    let secret = folder.join("secret");
    std::fs::write(&secret, "correct-horse-battery\n").unwrap();
    let set = host.run(&[
        "volume",
        "set",
        "v",
        "chap-user=guest",
        "--secret-file",
        text(&secret),
    ]);
    let shown = format!("{}{}", String::from_utf8_lossy(&set.stdout), set.stderr);
    assert!(!shown.contains("correct-horse"), "{shown}");
    set.good();
    let info = |user: &str| {
        let url = daemon
            .url("v")
            .replacen("iscsi://", &format!("iscsi://{user}"), 1);
        let output = Command::new("qemu-img")
            .args(["info", &url])
            .output()
            .unwrap();
        output.status.success()
    };
    assert!(info("guest%correct-horse-battery@"));
    assert!(!info("guest%wrong-horse-battery@"));
    assert!(!info(""));
    host.json(&[
        "volume",
        "set",
        "v",
        "chap-user=",
        "checkpoint-interval=1h30m",
        "flush=local",
    ]);
    assert!(info(""));
    host.json(&[
        "volume",
        "set",
        "v",
        "initiators=iqn.2001-04.com.example:somebody-else",
    ]);
    assert!(!info(""));
    host.json(&["volume", "set", "v", "initiators="]);
    assert!(info(""));
    std::fs::write(&secret, "short\n").unwrap();
    check(
        &host,
        &[
            "volume",
            "set",
            "v",
            "chap-user=guest",
            "--secret-file",
            text(&secret),
        ],
        2,
        &["12 to 255"],
    );
    check(
        &host,
        &["volume", "set", "v", "flush=never"],
        2,
        &["E2-SETTING"],
    );
    check(
        &host,
        &["volume", "set", "v", "checkpoint-interval=soon"],
        2,
        &["soon"],
    );
    assert_eq!(daemon.stop(), 0);
}
