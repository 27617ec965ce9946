//! The client against a real Swift of one replica, through a wire that does harm.

#![allow(clippy::disallowed_methods, reason = "a test may look at the clock")]

mod support;

use bytes::Bytes;
use engine::effect::{Absence, Body, Expect, Outcome, StoreRequest};
use engine::ids::{Container, Generation};
use engine::object::names::ObjectName;
use engine::time::Duration;
use martlet_backend_swift::client::{AuthFailure, Client, Health};
use martlet_backend_swift::{Broken, Settings};
use std::sync::OnceLock;
use support::*;
use testkit::{Exchange, Fault, Relay, Rule, Swift, SwiftOptions};

fn swift() -> &'static Swift {
    static SWIFT: OnceLock<Swift> = OnceLock::new();
    SWIFT.get_or_init(|| Swift::start(&SwiftOptions::default()))
}

/// A client behind a relay of its own, with a fresh container.
struct Bench {
    relay: Relay,
    client: Client,
    container: Container,
}

impl Bench {
    async fn new() -> Self {
        Self::with(quick()).await
    }

    async fn with(settings: Settings) -> Self {
        let relay = Relay::start(swift().port("proxy")).expect("a relay");
        let url = format!("{}/auth/v1.0", relay.url());
        let variables = [
            ("ST_AUTH", url.as_str()),
            ("ST_USER", "test:tester"),
            ("ST_KEY", "testing"),
        ];
        let bench = Self {
            client: client_with(credentials(&variables), settings),
            relay,
            container: container(),
        };
        let create = StoreRequest::CreateContainer(bench.container.clone());
        assert_eq!(bench.run(create).await, "Done");
        bench.relay.clear_log();
        bench
    }

    async fn run(&self, request: StoreRequest<Bytes>) -> String {
        said(&self.client.execute(request).await)
    }

    /// Statuses of what was seen, in order; 0: no answer.
    fn statuses(&self, method: &str, path: &str) -> Vec<u16> {
        let log = self.relay.matching(method, path);
        log.iter().map(|e| e.status).collect()
    }
}

fn is_newest(e: &Exchange) -> bool {
    e.header("x-newest") == Some("true")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_does_what_it_says() {
    let b = Bench::new().await;
    let c = &b.container;
    assert_eq!(
        b.run(StoreRequest::CreateContainer(c.clone())).await,
        "Done"
    );
    let Outcome::Put(receipt) = b.client.execute(put_data(c, 1, 40)).await else {
        panic!("not confirmed");
    };
    assert_eq!(
        receipt.sums,
        [vec![receipt.sums[0][0]; 0], receipt.sums[0].clone()][1..]
    );
    assert_eq!(receipt.sums[0].len(), 40);
    assert!(is_frame(&b.client.execute(get_frame(c, 1)).await));
    assert_eq!(b.run(put_door(c, 2)).await, "Put");
    assert_eq!(b.run(put_door(c, 2)).await, "Put");
    assert_eq!(b.run(is_shut(c, 2, Absence::Once)).await, "Exists");
    let opened = ObjectName::Opened(Generation(2));
    let store = put(c, opened, Body::Token(token(2, "rack7")));
    assert_eq!(b.run(store).await, "Put");
    let read = get(c, opened, Absence::Twice, Expect::Token);
    let Outcome::Meta(meta, _) = b.client.execute(read).await else {
        panic!("not read");
    };
    assert!(format!("{meta:?}").contains("rack7"));
    let list = |after: Option<&str>, limit| StoreRequest::List {
        container: c.clone(),
        prefix: String::new(),
        after: after.map(str::to_owned),
        limit,
    };
    let Outcome::Names(names) = b.client.execute(list(None, 2)).await else {
        panic!("not listed");
    };
    let names: Vec<_> = names.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "chunks/00000001/00000000-00000000.00000001-123456789abcdef0.00000001",
            "doors/00000002"
        ]
    );
    let Outcome::Names(rest) = b.client.execute(list(Some(names[1]), 10)).await else {
        panic!("not listed");
    };
    assert_eq!(rest.len(), 1);
    assert_eq!(
        b.run(StoreRequest::DeleteContainer(c.clone())).await,
        "Exists"
    );
    for name in [names[0], names[1], &rest[0].name] {
        let delete = StoreRequest::Delete {
            container: c.clone(),
            name: ObjectName::parse(name).expect("a name"),
        };
        assert_eq!(b.run(delete.clone()).await, "Done");
        assert_eq!(b.run(delete).await, "Done");
    }
    assert_eq!(
        b.run(StoreRequest::DeleteContainer(c.clone())).await,
        "Done"
    );
    assert_eq!(
        b.run(StoreRequest::DeleteContainer(c.clone())).await,
        "Done"
    );
    assert_eq!(b.client.container_stats(c).await, Ok(None));
    let counters = b.client.counters();
    assert_eq!(counters.authentications, 1);
    assert!(counters.bytes_sent > 40 * 4096);
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_found_by_prefix() {
    let b = Bench::new().await;
    let found = b.client.list_volumes().await.expect("a listing");
    assert!(found.iter().any(|(c, _)| *c == b.container));
    assert!(found.iter().all(|(_, row)| row.name.starts_with("t-vm.")));
    let info = b.client.info().await.expect("an answer");
    assert_eq!(info.container_listing_limit, Some(10_000));
    assert_eq!(b.client.check().await, Ok(()));
    // Until an empty page, not until a short one.
    assert!(b.statuses("GET", "format=json").len() >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_damaged_on_its_way_is_sent_again() {
    let b = Bench::new().await;
    b.relay
        .add(Rule::once("PUT", "/chunks/", Fault::FlipRequest(5000)));
    assert_eq!(b.run(put_data(&b.container, 1, 40)).await, "Put");
    assert_eq!(b.statuses("PUT", "/chunks/"), [422, 201]);
    assert!(is_frame(
        &b.client.execute(get_frame(&b.container, 1)).await
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_asked_for_again_with_the_same_bytes() {
    let b = Bench::new().await;
    b.relay
        .add(Rule::once("PUT", "/chunks/", Fault::LoseAnswer).times(2));
    assert_eq!(b.run(put_data(&b.container, 1, 40)).await, "Put");
    let log = b.relay.matching("PUT", "/chunks/");
    assert_eq!(
        log.iter().map(|e| e.status).collect::<Vec<_>>(),
        [0, 0, 201]
    );
    assert!(
        log.windows(2)
            .all(|w| w[0].sent == w[1].sent && w[0].header("etag") == w[1].header("etag"))
    );
    assert!(log.iter().all(|e| e.header("if-none-match").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_leaves_once_whatever_happens() {
    for (generation, fault, end) in [
        (1, None, "Put"),
        (2, Some(Fault::LoseAnswer), "Unknown"),
        (3, Some(Fault::CutRequest(10)), "Unknown"),
        (4, Some(Fault::Answer(503, Vec::new())), "Unknown"),
        (5, Some(Fault::Answer(401, Vec::new())), "Unknown"),
    ] {
        let b = Bench::new().await;
        if let Some(fault) = fault {
            b.relay.add(Rule::once("PUT", "/claims/", fault));
        }
        assert_eq!(b.run(claim(&b.container, generation, "me")).await, end);
        assert_eq!(b.relay.matching("PUT", "/claims/").len(), 1, "{generation}");
        let other = b.run(claim(&b.container, generation, "other")).await;
        // One that came whole is there, whoever knows it.
        let is_there = matches!(generation, 1 | 2);
        assert_eq!(
            other,
            if is_there { "Exists" } else { "Put" },
            "{generation}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_claim_is_unknown_and_may_land_later() {
    let settings = Settings {
        exchange_timeout: Duration::from_millis(700),
        ..quick()
    };
    let b = Bench::with(settings).await;
    b.relay
        .add(Rule::once("PUT", "/claims/", Fault::StallAnswer));
    assert_eq!(b.run(claim(&b.container, 1, "me")).await, "Unknown");
    assert_eq!(b.run(claim(&b.container, 1, "other")).await, "Exists");
    let read = get(
        &b.container,
        ObjectName::Claim(Generation(1)),
        Absence::Twice,
        Expect::Token,
    );
    let Outcome::Meta(meta, _) = b.client.execute(read).await else {
        panic!("not read");
    };
    assert!(format!("{meta:?}").contains("me"));
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_on_the_way_back_is_caught_and_asked_for_again() {
    for fault in [
        Fault::FlipAnswer(70),
        Fault::FlipAnswer(5000),
        Fault::CutAnswer(5000),
    ] {
        let b = Bench::new().await;
        assert_eq!(b.run(put_data(&b.container, 1, 40)).await, "Put");
        b.relay.add(Rule::once("GET", "/chunks/", fault));
        assert!(is_frame(
            &b.client.execute(get_frame(&b.container, 1)).await
        ));
        assert_eq!(b.statuses("GET", "/chunks/"), [206, 206]);
    }
    let b = Bench::new().await;
    let opened = ObjectName::Opened(Generation(1));
    let store = put(&b.container, opened, Body::Token(token(1, "me")));
    assert_eq!(b.run(store).await, "Put");
    b.relay
        .add(Rule::once("GET", "/opened/", Fault::FlipAnswer(3)));
    let read = get(&b.container, opened, Absence::Twice, Expect::Token);
    assert_eq!(b.run(read).await, "Meta");
    assert_eq!(b.statuses("GET", "/opened/"), [200, 200]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rot_on_the_only_replica_is_damage() {
    let b = Bench::new().await;
    assert_eq!(b.run(put_data(&b.container, 1, 40)).await, "Put");
    b.relay
        .add(Rule::once("GET", "/chunks/", Fault::FlipAnswer(5000)).times(1000));
    let started = std::time::Instant::now();
    assert_eq!(b.run(get_frame(&b.container, 1)).await, "Damaged");
    assert!(started.elapsed() >= quick().damage_span);
    let log = b.relay.matching("GET", "/chunks/");
    assert!(log.len() >= 3 && !is_newest(&log[0]) && log[1..].iter().all(is_newest));
    // Fresh connections: no two of the later asks share one.
    let mut connections: Vec<_> = log[1..].iter().map(|e| e.connection).collect();
    connections.dedup();
    assert_eq!(connections.len(), log.len() - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn absence_is_believed_by_its_rule() {
    let b = Bench::new().await;
    assert_eq!(
        b.run(is_shut(&b.container, 9, Absence::Once)).await,
        "Absent"
    );
    assert_eq!(b.statuses("HEAD", "/doors/"), [404]);
    b.relay.clear_log();
    let started = std::time::Instant::now();
    assert_eq!(
        b.run(is_shut(&b.container, 9, Absence::Twice)).await,
        "Absent"
    );
    assert!(started.elapsed() >= quick().absence_gap);
    let log = b.relay.matching("HEAD", "/doors/");
    assert_eq!(log.len(), 2);
    assert!(log.iter().all(is_newest) && log[0].connection != log[1].connection);
    // Missing data is damage while the container answers, and nothing at all when it does not.
    b.relay.clear_log();
    assert_eq!(b.run(get_frame(&b.container, 7)).await, "Damaged");
    let asks = b.statuses("GET", "/chunks/");
    assert!(asks.len() >= 3 && asks.iter().all(|s| *s == 404));
    assert_eq!(b.relay.matching("HEAD", "/t-vm").len(), 1);
    b.relay
        .add(Rule::once("HEAD", "/t-vm", Fault::Answer(503, Vec::new())).times(1000));
    assert_eq!(
        b.run(hurried(get_frame(&b.container, 7))).await,
        "Unavailable"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_503_is_never_absence() {
    let b = Bench::new().await;
    b.relay
        .add(Rule::once("HEAD", "/doors/", Fault::Answer(503, Vec::new())).times(3));
    assert_eq!(
        b.run(is_shut(&b.container, 9, Absence::Twice)).await,
        "Absent"
    );
    assert_eq!(b.statuses("HEAD", "/doors/"), [503, 503, 503, 404, 404]);
}

/// On one thread: all eight are asked before any is answered.
#[tokio::test(flavor = "current_thread")]
async fn one_renewal_serves_all_that_met_a_401() {
    let b = Bench::new().await;
    b.relay
        .add(Rule::once("PUT", "/doors/", Fault::Answer(401, Vec::new())).times(8));
    let asks: Vec<_> = (1..=8)
        .map(|g| {
            let (client, request) = (b.client.clone(), put_door(&b.container, g));
            tokio::spawn(async move { said(&client.execute(request).await) })
        })
        .collect();
    for ask in asks {
        assert_eq!(ask.await.expect("an end"), "Put");
    }
    assert_eq!(b.statuses("PUT", "/doors/")[..8], [401; 8]);
    assert_eq!(b.relay.matching("GET", "/auth/").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_request_waits_as_it_is_told() {
    let b = Bench::new().await;
    let told = vec![("Retry-After".to_owned(), "1".to_owned())];
    b.relay
        .add(Rule::once("PUT", "/doors/", Fault::Answer(429, told)));
    let started = std::time::Instant::now();
    assert_eq!(b.run(put_door(&b.container, 1)).await, "Put");
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(b.statuses("PUT", "/doors/"), [429, 201]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_that_was_closed_costs_no_error() {
    let b = Bench::new().await;
    assert_eq!(b.run(put_door(&b.container, 1)).await, "Put");
    b.relay.add(Rule::once("PUT", "/doors/", Fault::Close));
    assert_eq!(b.run(put_door(&b.container, 2)).await, "Put");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_into_no_container_is_not_stored_and_not_believed_absent() {
    let settings = Settings {
        put_deadline: Duration::from_secs(1),
        ..quick()
    };
    let b = Bench::with(settings).await;
    assert_eq!(b.run(put_door(&container(), 1)).await, "Unavailable");
    assert!(b.statuses("PUT", "/doors/").iter().all(|s| *s == 404));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_clock_stores_nothing_and_is_not_believed() {
    let swift = swift();
    swift.tell("start late-proxy");
    let b = Bench::new().await;
    assert_eq!(b.run(put_door(&b.container, 1)).await, "Put");
    let relay = Relay::start(swift.port("late-proxy")).expect("a relay");
    let url = format!("{}/auth/v1.0", relay.url());
    let variables = [
        ("ST_AUTH", url.as_str()),
        ("ST_USER", "test:tester"),
        ("ST_KEY", "testing"),
    ];
    let settings = Settings {
        put_deadline: Duration::from_secs(1),
        ..quick()
    };
    let late = client_with(credentials(&variables), settings);
    // A new name is stored, however old its timestamp; a name with a newer one is not: 202.
    assert_eq!(said(&late.execute(put_door(&b.container, 2)).await), "Put");
    assert_eq!(
        said(&late.execute(put_door(&b.container, 1)).await),
        "Unknown"
    );
    let statuses: Vec<_> = relay
        .matching("PUT", "/doors/00000001")
        .iter()
        .map(|e| e.status)
        .collect();
    assert!(
        statuses.len() >= 2 && statuses.iter().all(|s| matches!(s, 202 | 0)),
        "{statuses:?}"
    );
    assert!(statuses.contains(&202));
    swift.tell("stop late-proxy");
}

async fn health(auth_url: &str, user: &str, key: &str) -> Result<(), Health> {
    let variables = [("ST_AUTH", auth_url), ("ST_USER", user), ("ST_KEY", key)];
    client_with(credentials(&variables), quick()).check().await
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_whose_fault_it_is() {
    let url = format!("{}/auth/v1.0", swift().url());
    assert_eq!(health(&url, "test:tester", "testing").await, Ok(()));
    let wrong = health(&url, "test:tester", "hush")
        .await
        .expect_err("a wrong key");
    assert!(matches!(
        &wrong,
        Health::Auth(AuthFailure::WrongCredentials { .. })
    ));
    assert!(wrong.is_denied() && !format!("{wrong} {wrong:?}").contains("hush"));
    let reader = health(&url, "test:reader", "reading")
        .await
        .expect_err("no role");
    assert!(reader.is_denied(), "{reader}");
    let down = health("http://127.0.0.1:9/auth/v1.0", "test:tester", "testing").await;
    let down = down.expect_err("nobody there");
    assert!(matches!(
        &down,
        Health::Auth(AuthFailure::Unreachable {
            broken: Broken::Connect,
            ..
        })
    ));
    assert!(!down.is_denied());
    let stranger = health(
        &format!("{}/nowhere", swift().url()),
        "test:tester",
        "testing",
    )
    .await;
    assert!(matches!(stranger, Err(Health::Auth(_))), "{stranger:?}");
}

#[cfg(feature = "tls")]
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_said_to_have_none() {
    let url = format!("https://127.0.0.1:{}/auth/v1.0", swift().port("proxy"));
    let no_tls = health(&url, "test:tester", "testing")
        .await
        .expect_err("no TLS");
    assert!(
        matches!(
            &no_tls,
            Health::Auth(AuthFailure::Unreachable {
                broken: Broken::Tls,
                ..
            })
        ),
        "{no_tls:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_end_requests_without_their_deadline() {
    let url = format!("{}/auth/v1.0", swift().url());
    let variables = [
        ("ST_AUTH", url.as_str()),
        ("ST_USER", "test:tester"),
        ("ST_KEY", "hush"),
    ];
    let client = client_with(credentials(&variables), quick());
    let started = std::time::Instant::now();
    let end = client.execute(put_door(&container(), 1)).await;
    assert_eq!(said(&end), "Denied");
    assert!(started.elapsed() < Duration::from_secs(5));
    let why = client.last_auth_failure().expect("a reason").to_string();
    assert_eq!(why, format!("{url} refuses the credentials"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_read_ends_at_once() {
    let b = Bench::new().await;
    assert_eq!(b.run(put_data(&b.container, 1, 40)).await, "Put");
    b.relay
        .add(Rule::once("GET", "/chunks/", Fault::StallAnswer));
    let (ticket, end) = b.client.execute_cancellable(get_frame(&b.container, 1));
    let end = tokio::spawn(end);
    let relay = &b.relay;
    assert!(tokio::task::block_in_place(
        || relay.wait_stalled(1, Duration::from_secs(5))
    ));
    b.client.cancel(ticket);
    assert_eq!(said(&end.await.expect("an end")), "Unavailable");
}
