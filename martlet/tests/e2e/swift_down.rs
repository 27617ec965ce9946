//! Swift goes away and comes back: what is here is served, what is not waits, nothing is lost.

use crate::support::initiator::{BUSY, Initiator};
use crate::support::{Folder, Host, Store, stamps, target};
use std::time::{Duration, Instant};
use testkit::{Fault, Relay, Rule};

/// Swift behind a relay that can take it away.
struct Outage {
    store: Store,
    relay: Relay,
}

impl Outage {
    fn new() -> Self {
        let store = Store::swift();
        let relay = store.relay();
        Self { store, relay }
    }

    fn host(&self, folder: &Folder) -> Host {
        Host::new(&self.store, &folder.join("state")).through(&self.relay.url())
    }

    fn down(&self) {
        self.relay
            .add(Rule::once("", "", Fault::Close).times(u32::MAX));
    }

    fn up(&self) {
        self.relay.clear();
    }
}

#[test]
fn without_swift_a_restart_serves_what_is_here() {
    let folder = Folder::new("down-restart");
    let outage = Outage::new();
    let host = outage.host(&folder);
    host.json(&["volume", "create", "vm", "--size", "64MiB"]);
    let daemon = host.serve();
    let mut session = daemon.login("vm");
    session.write_now(0, &stamps::extent(0, 64, 1)).unwrap();
    host.json(&["snapshot", "create", "vm@a"]);
    session.write_now(32, &stamps::extent(32, 64, 2)).unwrap();
    outage.down();
    daemon.kill();
    let daemon = host.serve();
    let mut session = daemon.login("vm");
    for (lba, number) in [(0, 1), (31, 1), (32, 2), (95, 2)] {
        let bytes = session.read_now(lba, 1).unwrap();
        assert_eq!(stamps::number(lba, &bytes), number, "block {lba}");
    }
    session.write_now(96, &stamps::extent(96, 8, 3)).unwrap();
    let tag = session.flush().unwrap();
    assert!(
        session.wait(tag).unwrap().is_good(),
        "a flush needs no Swift"
    );
    // A snapshot waits for Swift, and completes when it is back.
    outage.relay.clear_log();
    let mut snapshot = host.begin(&["snapshot", "create", "vm@b"]);
    // It has asked, and asked again.
    let until = Instant::now() + Duration::from_secs(30);
    while outage.relay.log().len() < 3 {
        assert!(Instant::now() < until, "Swift is not asked");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(snapshot.try_wait().unwrap().is_none(), "it waits");
    session.write_now(104, &stamps::extent(104, 8, 4)).unwrap();
    outage.up();
    let output = snapshot.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        daemon.log()
    );
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_cold_read_is_busy_then_the_session_ends_then_it_recovers() {
    let folder = Folder::new("down-cold");
    let outage = Outage::new();
    let host = outage
        .host(&folder)
        .with("limits.busy_after=2s")
        .with("limits.close_after=4s")
        .with("limits.watch=1s");
    host.json(&["volume", "create", "vm", "--size", "64MiB"]);
    let daemon = host.serve();
    let mut session = daemon.login("vm");
    session.write_now(0, &stamps::extent(0, 64, 1)).unwrap();
    host.json(&["snapshot", "create", "vm@a"]);
    host.json(&["volume", "evict", "vm"]);
    outage.down();
    // 1. BUSY, and never an error or zeros. 2. The session ends. 3. Logins are told to come later.
    let mut busy = 0;
    let ended = Instant::now() + Duration::from_secs(60);
    loop {
        assert!(
            Instant::now() < ended,
            "the session stays:\n{}",
            daemon.log()
        );
        let answer = session.read(0, 1).and_then(|tag| session.wait(tag));
        match answer {
            Ok(answer) => {
                assert_eq!(answer.status, BUSY, "{answer:?}");
                busy += 1;
            }
            Err(_) => break,
        }
    }
    assert!(busy > 0, "it was never BUSY");
    let refused = Initiator::login(&daemon.address, &target("vm")).unwrap_err();
    assert_eq!(refused.to_string(), "login 0301");
    outage.up();
    let mut session = daemon.login("vm");
    // The fetch that failed last is asked again within its backoff (4 s), which is longer than BUSY takes here: an
    // initiator asks again, and so do we.
    let recovered = Instant::now() + Duration::from_secs(30);
    let answer = loop {
        let tag = session.read(0, 1).unwrap();
        let answer = session.wait(tag).unwrap();
        if answer.is_good() {
            break answer;
        }
        assert_eq!(answer.status, BUSY, "{answer:?}");
        assert!(Instant::now() < recovered, "still BUSY");
    };
    assert_eq!(stamps::number(0, &answer.data), 1);
    assert_eq!(daemon.stop(), 0);
}

/// A command that ends within seconds with a word about where Swift was looked for, and why not.
#[track_caller]
fn check_away(host: &Host, arguments: &[&str], parts: &[&str]) {
    let began = Instant::now();
    let refused = host.run(arguments);
    let took = began.elapsed();
    assert_eq!(refused.code, 5, "{arguments:?}: {}", refused.stderr);
    for part in ["E5-STORE-AWAY", "try again"].iter().chain(parts) {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    assert!(took < Duration::from_secs(8), "{arguments:?} took {took:?}");
}

#[test]
fn without_swift_at_the_start_a_command_says_so() {
    let folder = Folder::new("down-start");
    let outage = Outage::new();
    let host = outage.host(&folder);
    host.json(&["volume", "create", "vm", "--size", "8MiB"]);
    outage.down();
    let url = format!("{}/auth/v1.0", outage.relay.url());
    let create = ["volume", "create", "vm2", "--size", "8MiB"];
    check_away(&host, &create, &[&url, "cannot be reached"]);
    check_away(&host, &["snapshot", "create", "vm@a"], &[&url]);
    check_away(&host, &["volume", "list", "--all"], &[&url]);
    check_away(&host, &["volume", "detach", "vm"], &[&url]);
    // Nobody listens there: a port that was free a moment ago.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let lost = outage.host(&folder).through(&nobody);
    check_away(&lost, &create, &[&nobody, "refused"]);
    // Somebody listens and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = format!("http://{}", silent.local_addr().unwrap());
    let mute_host = outage.host(&folder).through(&mute);
    check_away(&mute_host, &create, &[&mute, "no answer"]);
    // What is here needs no Swift.
    let began = Instant::now();
    let shown = host.json(&["status"]);
    assert!(began.elapsed() < Duration::from_secs(8));
    assert_eq!(shown["store"]["reachable"], false, "{shown}");
    assert_eq!(shown["volumes"][0]["volume"], "vm", "{shown}");
    outage.up();
    host.json(&create);
}
