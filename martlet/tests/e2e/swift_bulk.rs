//! Import and a full cold read ask a real Swift for much at once.

use crate::support::{Folder, Host, Store, text};
use std::io::Write;
use std::time::Duration;
use testkit::{Exchange, Fault, Relay, Rule};

/// A Swift with a wire that counts, and hosts behind it.
struct Bench {
    folder: Folder,
    store: Store,
    relay: Relay,
}

impl Bench {
    fn new() -> Self {
        let store = Store::swift();
        let relay = store.relay();
        Self {
            folder: Folder::new("bulk"),
            store,
            relay,
        }
    }

    fn host(&self, name: &str) -> Host {
        let host = Host::new(&self.store, &self.folder.join(name));
        host.through(&self.relay.url())
            .with("limits.absence_gap=200ms")
    }

    #[track_caller]
    fn quiet(&self) {
        let ended = |log: &[Exchange]| log.iter().all(|e| e.ended.is_some());
        assert!(self.relay.wait_until(Duration::from_secs(30), ended));
    }
}

/// 4 KiB that no other number gives.
fn noise(number: u64) -> Vec<u8> {
    (0..512_u64)
        .flat_map(|n| (number ^ n << 32).to_le_bytes())
        .collect()
}

#[test]
fn bulk_transfers_keep_many_requests_in_flight() {
    let b = Bench::new();
    let host = b.host("a");
    let bytes: u64 = if testkit::is_long() {
        2 << 30
    } else {
        256 << 20
    };
    let image = b.folder.join("image.raw");
    let mut file = std::fs::File::create(&image).unwrap();
    for piece in 0..bytes >> 20 {
        let bytes: Vec<u8> = (0..256).flat_map(|n| noise(piece * 256 + n)).collect();
        file.write_all(&bytes).unwrap();
    }
    drop(file);
    // A Swift that is far away: what is measured is how much is asked for at once, not how fast this machine is.
    b.relay
        .add(Rule::once("PUT", "/chunks/", Fault::Delay(Duration::from_secs(2))).times(u32::MAX));
    b.relay.add(
        Rule::once("GET", "/chunks/", Fault::Delay(Duration::from_millis(100))).times(u32::MAX),
    );
    b.relay.clear_log();
    host.run(&["volume", "import", text(&image), "vm"]).good();
    check_in_flight(&b, "PUT", bytes, |e| e.sent);
    host.run(&["volume", "detach", "vm"]).good();

    let other = b.host("b");
    other.run(&["volume", "attach", "vm"]).good();
    b.relay.clear_log();
    let out = b.folder.join("out.raw");
    other.run(&["volume", "export", "vm", text(&out)]).good();
    check_in_flight(&b, "GET", bytes, |e| e.received);
    assert!(
        std::fs::read(&image).unwrap() == std::fs::read(&out).unwrap(),
        "another image came back"
    );
}

/// The mean number of exchanges about data while more than 64 MiB remain is at least 6.
#[track_caller]
fn check_in_flight(b: &Bench, method: &str, total: u64, bytes_of: impl Fn(&Exchange) -> u64) {
    b.quiet();
    let mut data = b.relay.matching(method, "/chunks/");
    data.sort_by_key(|e| e.ended);
    let from = data.iter().map(|e| e.started).min().expect("some");
    let mut left = total;
    let mut to = from;
    for e in &data {
        if left <= 64 << 20 {
            break;
        }
        left = left.saturating_sub(bytes_of(e));
        to = e.ended.expect("it is quiet");
    }
    let mean = b.relay.mean_in_flight(from, to, |e| {
        e.method == method && e.path.contains("/chunks/")
    });
    eprintln!(
        "{method}: {} requests, {mean:.1} in flight over {:?}",
        data.len(),
        to - from
    );
    assert!(mean >= 6.0, "{mean:.1} requests in flight");
}
