//! Dialogues: left what arrives, right all that must leave.
//!
//! Questions are `t0`, `t1` …, exchanges `c0`, `c1` … in order of their sending. `wait` goes to the machine's own next
//! time-out, `wait 3s` lets that much pass.

use super::*;
use crate::answer::Headers;
use crate::exchange::Content;
use crate::request::{Connection, Encoded, Etag};
use engine::effect::Absence;

const SECOND: Duration = Duration::from_secs(1);
const ETAG: Etag = Etag([0xab; 16]);

struct Bench {
    machine: StoreMachine<&'static str, &'static str>,
    now: Instant,
    asks: u64,
}

impl Bench {
    fn new(settings: Settings, seed: u64) -> Self {
        Self {
            machine: StoreMachine::new(settings, seed),
            now: Instant(1_000_000_000),
            asks: 0,
        }
    }

    fn ask(&mut self, words: &[&str]) {
        let (container, name) = ("m-vm".to_owned(), "x".to_owned());
        let absence = match words.get(1) {
            Some(&"twice") => Absence::Twice,
            Some(&"damage") => Absence::Damage,
            _ => Absence::Once,
        };
        let deadline = SECOND * 10;
        let body = Encoded {
            body: "body",
            len: 4,
            etag: ETAG,
        };
        let ask = match words[0] {
            "create" => Ask::CreateContainer { container },
            "remove" => Ask::DeleteContainer { container },
            "stats" => Ask::ContainerStats { container },
            "put" | "claim" => Ask::Put {
                container,
                name,
                body,
                once: words[0] == "claim",
            },
            "get" | "range" => Ask::Get {
                container,
                name,
                range: (words[0] == "range").then_some(100..200),
                absence,
                deadline,
            },
            "exists" => Ask::Exists {
                container,
                name,
                absence,
                deadline,
            },
            "delete" => Ask::Delete { container, name },
            "list" => Ask::List {
                container,
                prefix: "p/".to_owned(),
                after: None,
                limit: 5,
            },
            other => panic!("no question {other}"),
        };
        self.machine.handle_ask(self.now, Ticket(self.asks), ask);
        self.asks += 1;
    }

    fn answer(&mut self, call: CallId, words: &[&str]) {
        let broken = match words[0] {
            "connect" => Some(Broken::Connect),
            "closed" => Some(Broken::Closed),
            "short" => Some(Broken::Short),
            _ => None,
        };
        if let Some(broken) = broken {
            self.machine.handle_answer(self.now, call, Err(broken));
            return;
        }
        let status = words[0].parse().expect("a status");
        let mut answer = HttpAnswer {
            status,
            headers: Headers::default(),
            body_len: 0,
            body_md5: None,
            content: Content::Ignored,
        };
        let mut header = |n: &str, v: String| answer.headers.0.push((n.to_owned(), v));
        if status == 201 && !words.contains(&"wrong") {
            header("Etag", ETAG.to_string());
        }
        if status == 206 {
            let last = if words.contains(&"cut") { 149 } else { 199 };
            header("Content-Range", format!("bytes 100-{last}/{}", last + 1));
            answer.body_len = last - 99;
        }
        for word in &words[1..] {
            if let Some(v) = word.strip_prefix("after=") {
                header("Retry-After", v.to_owned());
            }
            match *word {
                "good" => answer.content = Content::Good("data"),
                "bad" => answer.content = Content::Damaged,
                "new" => answer.content = Content::TooNew,
                _ => {}
            }
        }
        self.machine.handle_answer(self.now, call, Ok(answer));
    }

    fn run(&mut self, words: &[&str]) {
        match words[0] {
            "ask" => self.ask(&words[1..]),
            "auth" => {
                let result = match words[1] {
                    "ok" => Ok(words.get(2).map(|s| SECOND * s.parse().expect("seconds"))),
                    "refused" => Err(AuthError::Refused),
                    _ => Err(AuthError::Unavailable),
                };
                self.machine.handle_authenticated(self.now, result);
            }
            "wait" => {
                self.now = match words.get(1) {
                    Some(word) => {
                        let seconds = word.strip_suffix('s').expect("seconds");
                        self.now + SECOND * seconds.parse().expect("seconds")
                    }
                    None => self.machine.poll_timeout().expect("a time-out"),
                };
                self.machine.handle_timeout(self.now);
            }
            "cancel" => self.machine.handle_cancel(Ticket(number(words[1]))),
            call => self.answer(CallId(number(call)), &words[1..]),
        }
    }

    fn drain(&mut self) -> String {
        let mut out = Vec::new();
        while let Some(action) = self.machine.poll_action() {
            out.push(match action {
                Action::Authenticate => "auth".to_owned(),
                Action::Abandon(call) => format!("drop c{}", call.0),
                Action::Finish(ticket, Ok(success)) => format!("t{} {success:?}", ticket.0),
                Action::Finish(ticket, Err(failure)) => {
                    format!("t{} {:?}", ticket.0, failure.error)
                }
                Action::Send(request) => describe(&request),
            });
        }
        out.join(", ")
    }
}

fn number(word: &str) -> u64 {
    word[1..].parse().expect("a number")
}

fn describe(request: &HttpRequest<&'static str>) -> String {
    let mut text = format!("c{} {}", request.call.0, request.method.as_str());
    let is_object = request.path == "/m-vm/x";
    if !is_object {
        text += if request.path == "/m-vm" {
            " container"
        } else {
            " listing"
        };
    }
    let has = |name| request.headers.iter().any(|(n, _)| *n == name);
    assert_eq!(request.body.is_some(), has("ETag"));
    for (name, word) in [
        ("If-None-Match", " once"),
        ("X-Newest", " newest"),
        ("Range", " range"),
    ] {
        if has(name) {
            text += word;
        }
    }
    if request.connection == Connection::Fresh {
        text += " fresh";
    }
    text
}

#[track_caller]
fn check_with(settings: Settings, dialogue: &str) {
    let mut bench = Bench::new(settings, 1);
    for line in dialogue.lines().filter(|l| !l.trim().is_empty()) {
        let (left, right) = line.split_once("→").expect("an arrow");
        let words: Vec<&str> = left.split_whitespace().collect();
        bench.run(&words);
        assert_eq!(bench.drain(), right.trim(), "after: {}", left.trim());
    }
    assert_eq!(bench.machine.pending_count(), 0, "some question is open");
    assert_eq!(bench.machine.poll_timeout(), None);
}

#[track_caller]
fn check(dialogue: &str) {
    check_with(Settings::default(), dialogue);
}

#[test]
fn a_put_is_over_with_its_201() {
    check(
        "ask put      → auth
         auth ok      → c0 PUT
         c0 201       → t0 Put",
    );
}

#[test]
fn nothing_but_a_201_with_our_etag_confirms() {
    check(
        "ask put      → auth
         auth ok      → c0 PUT
         c0 202       →
         wait         → c1 PUT
         c1 412       →
         wait         → c2 PUT
         c2 503       →
         wait         → c3 PUT
         c3 201 wrong →
         wait         → c4 PUT
         c4 422       →
         wait         → c5 PUT
         c5 200       →
         wait         → c6 PUT
         c6 201       → t0 Put",
    );
}

#[test]
fn a_put_that_may_have_landed_is_unknown_at_its_deadline() {
    check(
        "ask put      → auth
         auth ok      → c0 PUT
         c0 503       →
         wait 61s     → t0 Unknown",
    );
    check(
        "ask put      → auth
         auth ok      → c0 PUT
         wait 61s     → drop c0, t0 Unknown",
    );
}

#[test]
fn a_put_that_was_never_sent_is_unavailable() {
    check(
        "ask put      → auth
         auth ok      → c0 PUT
         c0 connect   →
         wait 61s     → t0 Unavailable",
    );
    check(
        "ask put      → auth
         auth away    →
         wait 61s     → t0 Unavailable",
    );
}

#[test]
fn a_no_after_a_try_that_may_have_landed_settles_nothing() {
    check(
        "ask put      → auth
         auth ok      → c0 PUT
         c0 503       →
         wait         → c1 PUT
         c1 413       →
         wait         → c2 PUT
         c2 403       →
         wait         → c3 PUT
         c3 403       →
         wait         → c4 PUT
         c4 201       → t0 Put",
    );
    check(
        "ask put      → auth
         auth ok      → c0 PUT
         c0 413       → t0 Full",
    );
    check(
        "ask put      → auth
         auth ok      → c0 PUT
         c0 403       →
         wait         → c1 PUT
         c1 403       → t0 Denied",
    );
}

#[test]
fn a_404_on_a_put_is_never_believed() {
    check(
        "ask put      → auth
         auth ok      → c0 PUT
         c0 404       →
         wait         → c1 PUT
         c1 201       → t0 Put",
    );
}

#[test]
fn a_claim_is_sent_once() {
    for (answer, end) in [
        ("201", "Put"),
        ("412", "Exists"),
        ("202", "Unknown"),
        ("201 wrong", "Unknown"),
        ("401", "Unknown"),
        ("403", "Unknown"),
        ("404", "Unknown"),
        ("503", "Unknown"),
        ("507", "Unknown"),
        ("closed", "Unknown"),
        ("short", "Unknown"),
    ] {
        check(&format!(
            "ask claim    → auth
             auth ok      → c0 PUT once fresh
             c0 {answer}  → t0 {end}"
        ));
    }
    check(
        "ask claim    → auth
         auth ok      → c0 PUT once fresh
         wait         → drop c0, t0 Unknown",
    );
}

#[test]
fn a_claim_that_never_left_may_be_sent() {
    check(
        "ask claim    → auth
         auth ok      → c0 PUT once fresh
         c0 connect   →
         wait         → c1 PUT once fresh
         c1 201       → t0 Put",
    );
}

#[test]
fn a_claim_spoils_the_token_that_was_refused() {
    check(
        "ask claim    → auth
         auth ok      → c0 PUT once fresh
         c0 401       → t0 Unknown
         wait 2s      →
         ask claim    → auth
         auth ok      → c1 PUT once fresh
         c1 201       → t1 Put",
    );
}

#[test]
fn an_idle_connection_that_was_closed_is_replaced_at_once() {
    check(
        "ask put      → auth
         auth ok      → c0 PUT
         c0 closed    → c1 PUT fresh
         c1 closed    →
         wait         → c2 PUT fresh
         c2 201       → t0 Put",
    );
}

#[test]
fn one_renewal_serves_all() {
    check(
        "ask put      → auth
         ask put      →
         auth ok      → c0 PUT, c1 PUT
         wait 2s      →
         c0 401       → auth
         c1 401       →
         auth ok      → c2 PUT, c3 PUT
         c2 201       → t0 Put
         c3 201       → t1 Put",
    );
}

#[test]
fn a_second_401_waits() {
    check(
        "ask put      → auth
         auth ok      → c0 PUT
         wait 2s      →
         c0 401       → auth
         auth ok      → c1 PUT
         c1 401       →
         wait         →
         wait         → auth
         auth ok      → c2 PUT
         c2 201       → t0 Put",
    );
}

#[test]
fn wrong_credentials_are_final_only_when_refused_twice() {
    check(
        "ask put      → auth
         auth refused →
         wait         → auth
         auth away    →
         wait         → auth
         auth refused →
         wait         → auth
         auth refused → t0 Denied",
    );
}

#[test]
fn a_401_to_the_end_is_denied() {
    check(
        "ask exists once → auth
         auth ok         → c0 HEAD newest
         c0 401          →
         wait            → auth
         auth ok         → c1 HEAD newest
         c1 401          →
         wait 10s        → t0 Denied",
    );
}

#[test]
fn a_look_believes_one_404_and_no_503() {
    check(
        "ask exists once → auth
         auth ok         → c0 HEAD newest
         c0 503          →
         wait            → c1 HEAD newest
         c1 404          → t0 Absent",
    );
    check(
        "ask exists once → auth
         auth ok         → c0 HEAD newest
         c0 503          →
         wait 10s        → t0 Unavailable",
    );
    check(
        "ask exists once → auth
         auth ok         → c0 HEAD newest
         c0 200          → t0 Exists",
    );
}

#[test]
fn the_absence_rule_asks_again_after_the_gap_on_a_fresh_connection() {
    check(
        "ask get twice   → auth
         auth ok         → c0 GET newest
         c0 404          →
         wait 1s         →
         wait 1s         → c1 GET newest fresh
         c1 404          → t0 Absent",
    );
    check(
        "ask get twice   → auth
         auth ok         → c0 GET newest
         c0 404          →
         wait 2s         → c1 GET newest fresh
         c1 503          →
         wait            → c2 GET newest fresh
         c2 200 good     → t0 Read(\"data\")",
    );
    check(
        "ask get twice   → auth
         auth ok         → c0 GET newest
         c0 404          →
         wait 2s         → c1 GET newest fresh
         c1 503          →
         wait 8s         → t0 Unavailable",
    );
}

#[test]
fn data_is_damage_after_three_asks_over_the_span_and_a_container_that_answers() {
    let settings = Settings {
        damage_asks: 3,
        damage_span: SECOND * 4,
        backoff_base: SECOND * 2,
        backoff_cap: SECOND * 2,
        ..Settings::default()
    };
    check_with(
        settings.clone(),
        "ask range damage → auth
         auth ok          → c0 GET range
         c0 404           →
         wait 2s          → c1 GET newest range fresh
         c1 404           →
         wait 2s          → c2 GET newest range fresh
         c2 404           → c3 HEAD container fresh
         c3 204           → t0 Damaged",
    );
    // Wrong bytes and a short object count alike; a silent container stays the verdict.
    check_with(
        settings.clone(),
        "ask range damage → auth
         auth ok          → c0 GET range
         c0 206 bad       →
         wait             → c1 GET newest range fresh
         c1 206 cut good  →
         wait             → c2 GET newest range fresh
         c2 416           → c3 HEAD container fresh
         c3 503           →
         wait             → c4 GET newest range fresh
         c4 206 good      → t0 Read(\"data\")",
    );
    // Unreachable is not absent: two doubts are not enough, whatever time has passed.
    check_with(
        settings,
        "ask range damage → auth
         auth ok          → c0 GET range
         c0 404           →
         wait             → c1 GET newest range fresh
         c1 404           →
         wait             → c2 GET newest range fresh
         c2 503           →
         wait             → c3 GET newest range fresh
         c3 503           →
         wait 10s         → t0 Unavailable",
    );
}

/// Asks for what is damaged until the end; each answer takes `slow`. The asks, and how long it took.
#[track_caller]
fn ask_damaged(question: &[&str], slow: Duration) -> (u32, Duration) {
    let mut bench = Bench::new(Settings::default(), 3);
    bench.run(question);
    bench.run(&["auth", "ok"]);
    let start = bench.now;
    let (mut asks, mut end) = (0, String::new());
    while end.is_empty() {
        let seen = bench.drain();
        match seen.split_whitespace().collect::<Vec<_>>()[..] {
            [] => bench.run(&["wait"]),
            [call, "HEAD", ..] => bench.run(&[call, "204"]),
            [call, "GET", ..] | ["auth,", call, "GET", ..] => {
                asks += 1;
                bench.now = bench.now + slow;
                let status = if question[1] == "range" { "206" } else { "200" };
                bench.run(&[call, status, "bad"]);
            }
            _ => end = seen,
        }
    }
    assert_eq!(end, "t0 Damaged");
    (asks, bench.now.since(start))
}

const DATA: &[&str] = &["ask", "range", "damage"];

const ROOT: &[&str] = &["ask", "get", "twice"];

#[test]
fn being_sure_of_damage_may_take_longer_than_the_deadline() {
    let (asks, took) = ask_damaged(DATA, Duration::ZERO);
    assert!(asks >= 20, "{asks} asks");
    assert!(took >= SECOND * 30 && took < SECOND * 31, "{took:?}");
}

#[test]
fn one_damaged_replica_is_not_met_by_every_ask() {
    // A proxy takes one of three at random: twenty in a row are the same one in 3²⁰ reads.
    for question in [DATA, ROOT] {
        let (asks, took) = ask_damaged(question, Duration::from_millis(300));
        assert!(asks >= 20, "{asks} asks");
        assert!(took < SECOND * 40, "{took:?}");
    }
}

#[test]
fn a_slow_store_can_say_that_something_is_damaged() {
    for question in [DATA, ROOT] {
        let (asks, took) = ask_damaged(question, SECOND * 9);
        assert_eq!(asks, 20);
        assert!(took < (SECOND * 9 + SECOND * 2) * 20, "{took:?}");
    }
}

#[test]
fn a_damaged_root_is_asked_for_again() {
    let settings = Settings {
        damage_asks: 3,
        backoff_base: SECOND,
        backoff_cap: SECOND,
        ..Settings::default()
    };
    check_with(
        settings.clone(),
        "ask get twice   → auth
         auth ok         → c0 GET newest
         c0 200 bad      →
         wait            → c1 GET newest fresh
         c1 200 good     → t0 Read(\"data\")",
    );
    check_with(
        settings,
        "ask get twice   → auth
         auth ok         → c0 GET newest
         c0 200 bad      →
         wait            → c1 GET newest fresh
         c1 200 bad      →
         wait            → c2 GET newest fresh
         c2 200 bad      → t0 Damaged",
    );
}

#[test]
fn a_newer_format_is_said_at_once() {
    check(
        "ask get once    → auth
         auth ok         → c0 GET newest
         c0 200 new      → t0 TooNew",
    );
}

#[test]
fn a_whole_object_is_no_answer_to_a_range() {
    check(
        "ask range damage → auth
         auth ok          → c0 GET range
         c0 200 good      →
         wait             → c1 GET range
         c1 short         →
         wait             → c2 GET range
         c2 206 good      → t0 Read(\"data\")",
    );
}

#[test]
fn a_delete_is_done_when_the_object_is_gone_and_the_container_answers() {
    check(
        "ask delete      → auth
         auth ok         → c0 DELETE
         c0 204          → t0 Done",
    );
    check(
        "ask delete      → auth
         auth ok         → c0 DELETE
         c0 503          →
         wait            → c1 DELETE
         c1 404          → c2 HEAD container
         c2 204          → t0 Done",
    );
    check(
        "ask delete      → auth
         auth ok         → c0 DELETE
         c0 404          → c1 HEAD container
         c1 503          →
         wait            → c2 DELETE
         c2 204          → t0 Done",
    );
    check(
        "ask delete      → auth
         auth ok         → c0 DELETE
         c0 404          → c1 HEAD container
         c1 404          →
         wait 2s         → c2 DELETE fresh
         c2 404          → c3 HEAD container fresh
         c3 404          → t0 Done",
    );
}

#[test]
fn a_delete_that_meets_a_newer_timestamp_is_tried_again() {
    check(
        "ask delete      → auth
         auth ok         → c0 DELETE
         c0 409          →
         wait 31s        → t0 Unknown",
    );
}

#[test]
fn containers_come_and_go() {
    check(
        "ask create      → auth
         auth ok         → c0 PUT container
         c0 202          → t0 Done
         ask remove      → c1 DELETE container
         c1 409          → t1 Exists
         ask remove      → c2 DELETE container
         c2 404          → t2 Done
         ask stats       → c3 HEAD container
         c3 204          → t3 Stats { objects: 0, bytes: 0 }
         ask stats       → c4 HEAD container
         c4 404          → t4 Absent",
    );
}

#[test]
fn a_listing_that_cannot_be_read_is_asked_for_again() {
    check(
        "ask list        → auth
         auth ok         → c0 GET listing
         c0 200 bad      →
         wait            → c1 GET listing
         c1 204          →
         wait            → c2 GET listing
         c2 200 good     → t0 Read(\"data\")",
    );
}

#[test]
fn retry_after_is_kept_within_its_cap() {
    check(
        "ask put         → auth
         auth ok         → c0 PUT
         c0 503 after=7  →
         wait 6s         →
         wait 1s         → c1 PUT
         c1 498 after=99 →
         wait 29s        →
         wait 1s         → c2 PUT
         c2 201          → t0 Put",
    );
}

#[test]
fn a_silent_exchange_is_cut_off_and_made_again() {
    check(
        "ask delete      → auth
         auth ok         → c0 DELETE
         wait 15s        → drop c0
         c0 204          →
         wait            → c1 DELETE
         c1 204          → t0 Done",
    );
}

#[test]
fn a_cancelled_read_ends_and_a_cancelled_write_goes_on() {
    check(
        "ask get once    → auth
         auth ok         → c0 GET newest
         cancel t0       → drop c0, t0 Unavailable
         c0 200 good     →
         ask put         → c1 PUT
         cancel t1       →
         c1 201          → t1 Put
         cancel t1       →",
    );
}

#[test]
fn a_token_is_renewed_ahead_while_requests_go_on() {
    check(
        "ask put         → auth
         auth ok 100     → c0 PUT
         c0 201          → t0 Put
         wait 91s        →
         ask put         → auth, c1 PUT
         c1 201          → t1 Put
         auth ok 100     →
         ask put         → c2 PUT
         c2 201          → t2 Put",
    );
}

/// Any facts at all: each question ends once and in time, a claim leaves once, success has its reason.
mod any_facts {
    use super::*;
    use crate::request::Method;
    use proptest::prelude::*;

    const STATUSES: [u16; 22] = [
        200, 201, 202, 204, 206, 400, 401, 403, 404, 408, 409, 412, 413, 416, 422, 429, 498, 500,
        503, 504, 507, 999,
    ];
    const ASKS: [&[&str]; 12] = [
        &["put"],
        &["claim"],
        &["get", "once"],
        &["get", "twice"],
        &["range", "damage"],
        &["exists", "twice"],
        &["exists", "once"],
        &["delete"],
        &["list"],
        &["create"],
        &["remove"],
        &["stats"],
    ];

    #[derive(Default)]
    struct Seen {
        open: Vec<(CallId, Ticket, Method)>,
        sent: BTreeMap<Ticket, u32>,
        confirmed: BTreeMap<Ticket, bool>,
        ended: BTreeMap<Ticket, Result<Success<&'static str>, Failure>>,
        owes_auth: bool,
    }

    fn drain(bench: &mut Bench, seen: &mut Seen) {
        while let Some(action) = bench.machine.poll_action() {
            match action {
                Action::Send(r) => {
                    *seen.sent.entry(r.ticket).or_default() += 1;
                    seen.open.push((r.call, r.ticket, r.method));
                }
                Action::Abandon(call) => seen.open.retain(|(c, ..)| *c != call),
                Action::Authenticate => {
                    assert!(!seen.owes_auth, "two authentications at once");
                    seen.owes_auth = true;
                }
                Action::Finish(ticket, end) => {
                    let before = seen.ended.insert(ticket, end);
                    assert!(before.is_none(), "{ticket:?} ended twice");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn each_question_ends_once_and_in_time(
            seed: u64,
            asks in prop::collection::vec(0..ASKS.len(), 1..6),
            facts in prop::collection::vec((0_u8..10, 0_usize..22, 0_u8..4), 0..60),
        ) {
            let mut bench = Bench::new(Settings::default(), seed);
            let mut seen = Seen::default();
            for ask in &asks {
                bench.run(&[&["ask"], ASKS[*ask]].concat());
                drain(&mut bench, &mut seen);
            }
            for (what, status, detail) in facts {
                if seen.owes_auth {
                    seen.owes_auth = false;
                    let how = ["ok", "ok", "away", "refused"][usize::from(detail)];
                    bench.run(&["auth", how]);
                } else if what < 6 && !seen.open.is_empty() {
                    let (call, ticket, method) = seen.open.remove(usize::from(what) % seen.open.len());
                    let call = format!("c{}", call.0);
                    let status = STATUSES[status].to_string();
                    let detail = ["good", "bad", "wrong", "cut"][usize::from(detail)];
                    if status == "201" && detail != "wrong" && method == Method::Put {
                        seen.confirmed.insert(ticket, true);
                    }
                    bench.run(&[&call, &status, detail]);
                } else if what < 8 && !seen.open.is_empty() {
                    let (call, ..) = seen.open.remove(0);
                    let how = ["connect", "closed", "short", "closed"][usize::from(detail)];
                    bench.run(&[&format!("c{}", call.0), how]);
                } else if bench.machine.poll_timeout().is_some() {
                    bench.run(&["wait"]);
                }
                drain(&mut bench, &mut seen);
            }
            // Silence from here on: the deadlines end everything.
            let mut left = 10_000;
            while bench.machine.pending_count() > 0 {
                left -= 1;
                prop_assert!(left > 0, "no end");
                if seen.owes_auth {
                    seen.owes_auth = false;
                    bench.run(&["auth", "away"]);
                } else {
                    bench.run(&["wait"]);
                }
                drain(&mut bench, &mut seen);
            }
            let took = bench.now.since(Instant(1_000_000_000));
            prop_assert!(took <= SECOND * 61, "{took:?}");
            prop_assert_eq!(bench.machine.poll_timeout(), None);
            for (index, ask) in asks.iter().enumerate() {
                let ticket = Ticket(index as u64);
                let end = seen.ended.get(&ticket).expect("an end");
                let sent = seen.sent.get(&ticket).copied().unwrap_or(0);
                if ASKS[*ask][0] == "put" || ASKS[*ask][0] == "claim" {
                    let is_put = matches!(end, Ok(Success::Put));
                    prop_assert_eq!(is_put, seen.confirmed.contains_key(&ticket));
                }
                if sent == 0 {
                    prop_assert!(matches!(end, Err(f) if f.error == StoreError::Unavailable || f.error == StoreError::Denied));
                }
            }
        }

        #[test]
        fn a_claim_leaves_once_whatever_is_answered(
            status in 0_usize..22, detail in 0_u8..4,
        ) {
            let mut bench = Bench::new(Settings::default(), 1);
            let mut seen = Seen::default();
            bench.run(&["ask", "claim"]);
            bench.run(&["auth", "ok"]);
            drain(&mut bench, &mut seen);
            let detail = ["good", "bad", "wrong", "cut"][usize::from(detail)];
            bench.run(&["c0", &STATUSES[status].to_string(), detail]);
            drain(&mut bench, &mut seen);
            prop_assert_eq!(seen.ended.len(), 1);
            bench.now = bench.now + SECOND * 100;
            bench.machine.handle_timeout(bench.now);
            drain(&mut bench, &mut seen);
            prop_assert_eq!(seen.sent[&Ticket(0)], 1);
        }
    }
}
