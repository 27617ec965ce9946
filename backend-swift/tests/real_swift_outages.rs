//! The client against a real Swift of three replicas whose servers die, hang, rot and come back.

#![allow(clippy::disallowed_methods, reason = "a test may look at the clock")]

mod support;

use bytes::Bytes;
use engine::effect::{Absence, Outcome, StoreRequest};
use engine::ids::Container;
use engine::object::names::ObjectName;
use engine::time::Duration;
use martlet_backend_swift::Settings;
use martlet_backend_swift::client::Client;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use support::*;
use testkit::{Swift, SwiftOptions};
use tokio::sync::{Mutex, MutexGuard};

/// The cluster, for one test at a time; each leaves it whole.
struct Bench {
    swift: MutexGuard<'static, Swift>,
    client: Client,
    container: Container,
}

impl Bench {
    async fn new() -> Self {
        Self::with(quick()).await
    }

    async fn with(settings: Settings) -> Self {
        static SWIFT: OnceLock<Mutex<Swift>> = OnceLock::new();
        let start = || {
            Mutex::new(Swift::start(&SwiftOptions {
                replicas: 3,
                node_timeout: 1,
                error_interval: 0,
                ..SwiftOptions::default()
            }))
        };
        let swift = SWIFT.get_or_init(start).lock().await;
        let bench = Self {
            client: client_with(credentials(&swift.variables()), settings),
            swift,
            container: container(),
        };
        let create = StoreRequest::CreateContainer(bench.container.clone());
        assert_eq!(bench.run(create).await, "Done");
        bench
    }

    async fn run(&self, request: StoreRequest<Bytes>) -> String {
        said(&self.client.execute(request).await)
    }

    /// Runs while the test does something else.
    fn begin(&self, request: StoreRequest<Bytes>) -> tokio::task::JoinHandle<Outcome<Bytes>> {
        let client = self.client.clone();
        tokio::spawn(async move { client.execute(request).await })
    }

    /// Waits until Swift has answered so many exchanges with this status.
    async fn until_answered(&self, status: u16, count: u64) {
        let seen = || {
            let counters = self.client.counters();
            let with = counters.exchanges.iter().filter(|((_, s), _)| *s == status);
            with.map(|(_, n)| n).sum::<u64>()
        };
        while seen() < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let names = self.swift.tell("names");
        self.swift.tell(&format!("cont {names}"));
        self.swift.tell("start");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_is_confirmed_and_nothing_absent() {
    let settings = Settings {
        put_deadline: Duration::from_secs(1),
        other_deadline: Duration::from_secs(1),
        ..quick()
    };
    let b = Bench::with(settings).await;
    let c = &b.container;
    assert_eq!(b.run(put_data(c, 1, 40)).await, "Put");
    b.swift.tell("kill object2 object3");
    assert_eq!(b.run(put_door(c, 1)).await, "Unknown");
    assert_eq!(b.run(claim(c, 1, "me")).await, "Unknown");
    assert_eq!(
        b.run(hurried(is_shut(c, 9, Absence::Twice))).await,
        "Unavailable"
    );
    // One copy of a name that is written once is as good as three.
    assert!(is_frame(&b.client.execute(get_frame(c, 1)).await));
    let delete = StoreRequest::Delete {
        container: c.clone(),
        name: ObjectName::Data(data(c, 1, 0).0),
    };
    assert_eq!(b.run(delete.clone()).await, "Unknown");
    b.swift.tell("kill object1");
    assert_eq!(b.run(hurried(get_frame(c, 1))).await, "Unavailable");
    b.swift.tell("start object1 object2 object3");
    assert_eq!(b.run(delete).await, "Done");
    assert_eq!(b.run(put_door(c, 1)).await, "Put");
    assert_eq!(b.run(is_shut(c, 1, Absence::Once)).await, "Exists");
    assert_eq!(b.run(is_shut(c, 9, Absence::Twice)).await, "Absent");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_swift_finishes_when_it_comes_back() {
    let b = Bench::new().await;
    b.swift.tell("kill object2 object3");
    let put = b.begin(put_data(&b.container, 1, 40));
    let look = b.begin(is_shut(&b.container, 9, Absence::Twice));
    b.until_answered(503, 3).await;
    b.swift.tell("start object2 object3");
    assert_eq!(said(&put.await.expect("an end")), "Put");
    assert_eq!(said(&look.await.expect("an end")), "Absent");
    assert!(is_frame(
        &b.client.execute(get_frame(&b.container, 1)).await
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_missed_a_write_hides_nothing() {
    let b = Bench::new().await;
    b.swift.tell("kill object3");
    assert_eq!(b.run(put_door(&b.container, 1)).await, "Put");
    assert_eq!(b.run(put_data(&b.container, 1, 40)).await, "Put");
    b.swift.tell("start object3");
    for _ in 0..10 {
        assert_eq!(
            b.run(is_shut(&b.container, 1, Absence::Once)).await,
            "Exists"
        );
        assert!(is_frame(
            &b.client.execute(get_frame(&b.container, 1)).await
        ));
    }
    b.swift.tell("kill object1");
    for _ in 0..5 {
        assert_eq!(
            b.run(is_shut(&b.container, 1, Absence::Once)).await,
            "Exists"
        );
        assert!(is_frame(
            &b.client.execute(get_frame(&b.container, 1)).await
        ));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_token_is_renewed() {
    let b = Bench::new().await;
    assert_eq!(b.run(put_door(&b.container, 1)).await, "Put");
    b.swift.tell("restart memcached proxy");
    assert_eq!(b.run(put_door(&b.container, 2)).await, "Put");
    assert_eq!(b.client.counters().authentications, 2);
    // A claim is not sent twice, but the next one finds a good token.
    b.swift.tell("restart memcached proxy");
    assert_eq!(b.run(claim(&b.container, 1, "me")).await, "Unknown");
    assert_eq!(b.run(claim(&b.container, 2, "me")).await, "Put");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_404_for_a_container_that_exists_is_waited_out() {
    let b = Bench::new().await;
    // With the account servers away and nothing cached the proxy says that the container is not there.
    b.swift.tell("kill account1 account2 account3");
    b.swift.tell("restart memcached proxy");
    let put = b.begin(put_door(&b.container, 1));
    b.until_answered(404, 2).await;
    b.swift.tell("start account1 account2 account3");
    assert_eq!(said(&put.await.expect("an end")), "Put");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_proxy_is_asked_again() {
    let settings = Settings {
        exchange_timeout: Duration::from_millis(500),
        ..quick()
    };
    let b = Bench::with(settings).await;
    assert_eq!(b.run(put_door(&b.container, 1)).await, "Put");
    b.swift.tell("pause proxy");
    let look = b.begin(is_shut(&b.container, 1, Absence::Once));
    let put = b.begin(put_door(&b.container, 2));
    // Each has been given up once.
    b.until_answered(0, 2).await;
    b.swift.tell("cont proxy");
    assert_eq!(said(&look.await.expect("an end")), "Exists");
    assert_eq!(said(&put.await.expect("an end")), "Put");
}

/// The files that hold objects of some size on this node.
fn data_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            data_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "data")
            && entry.metadata().is_ok_and(|m| m.len() > 100_000)
        {
            found.push(path);
        }
    }
}

/// Flips a byte of the second frame's data in every large object of a node.
fn rot(swift: &Swift, node: u32) {
    let mut files = Vec::new();
    data_files(&swift.folder().join(format!("srv/node{node}")), &mut files);
    assert!(!files.is_empty());
    for file in files {
        let mut bytes = std::fs::read(&file).expect("readable");
        bytes[80_000] ^= 0xff;
        // In place: the object's metadata are attributes of this very file.
        std::fs::write(&file, bytes).expect("writable");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rot_is_never_served() {
    let b = Bench::new().await;
    assert_eq!(b.run(put_data(&b.container, 1, 40)).await, "Put");
    rot(&b.swift, 1);
    for _ in 0..12 {
        assert!(is_frame(
            &b.client.execute(get_frame(&b.container, 1)).await
        ));
    }
    rot(&b.swift, 2);
    rot(&b.swift, 3);
    assert_eq!(b.run(get_frame(&b.container, 1)).await, "Damaged");
}

/// Puts and reads for a while, with servers dying and hanging at random: what was confirmed stays readable.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_confirmed_survives_a_bad_day() {
    let b = Bench::new().await;
    let rounds = if testkit::is_long() { 60 } else { 4 };
    let mut dice = martlet_backend_swift::retry::Dice::new(0x0bad_da17);
    let mut confirmed = Vec::new();
    for round in 0..rounds {
        let victim = dice.roll() % 3 + 1;
        let harm = ["kill", "pause"][(dice.roll() % 2) as usize];
        let puts: Vec<_> = (0..4)
            .map(|n| {
                (
                    round * 4 + n,
                    b.begin(put_data(&b.container, round * 4 + n, 40)),
                )
            })
            .collect();
        b.swift.tell(&format!("{harm} object{victim}"));
        for (serial, put) in puts {
            if said(&put.await.expect("an end")) == "Put" {
                confirmed.push(serial);
            }
        }
        b.swift.tell(&format!("cont object{victim}"));
        b.swift.tell(&format!("start object{victim}"));
        let pick = confirmed[(dice.roll() % confirmed.len() as u64) as usize];
        assert!(
            is_frame(&b.client.execute(get_frame(&b.container, pick)).await),
            "{pick}"
        );
    }
    for serial in &confirmed {
        assert!(
            is_frame(&b.client.execute(get_frame(&b.container, *serial)).await),
            "{serial}"
        );
    }
    assert!(
        confirmed.len() as u32 >= rounds * 3,
        "{} of {}",
        confirmed.len(),
        rounds * 4
    );
}
