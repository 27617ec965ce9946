//! Carries a plan out on a real Swift, and writes down what came.

use crate::http;
use md5::Digest as _;
use sim::accept::generate::{NAMES, Planned};
use sim::accept::trace::{Answer, Asked, Clock, Exchange, Listed, Request, Step, Trace};
use sim::store::swift::{EVERY_NODE, NODES, Reach};
use std::net::SocketAddr;
use std::sync::Barrier;
use std::time::{SystemTime, UNIX_EPOCH};
use testkit::Swift;

pub(crate) fn md5(bytes: &[u8]) -> [u8; 16] {
    md5::Md5::digest(bytes).into()
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_micros() as u64
}

/// A cluster whose second proxy has a wrong clock.
pub(crate) struct Runner<'a> {
    swift: &'a Swift,
    proxies: Vec<SocketAddr>,
    clocks: Vec<Clock>,
    token: String,
    up: Reach,
}

impl<'a> Runner<'a> {
    /// `clock`: that of the second proxy, with what makes it so.
    pub(crate) fn new(swift: &'a Swift, is_still: bool) -> Self {
        let seconds = 3600;
        swift.tell("stop late-proxy");
        let clock = if is_still {
            let at: f64 = swift
                .tell(&format!("still -{seconds}"))
                .parse()
                .expect("a second");
            Clock::Still((at * 1e6).round() as u64)
        } else {
            swift.tell(&format!("skew -{seconds}"));
            Clock::Behind(seconds * 1_000_000)
        };
        swift.tell("start late-proxy");
        let proxies = ["proxy", "late-proxy"].map(|p| ([127, 0, 0, 1], swift.port(p)).into());
        let [_, (_, user), (_, key)] = swift.variables();
        let headers = [("X-Auth-User", user), ("X-Auth-Key", key)];
        let answer = http::ask(proxies[0], "GET", "/auth/v1.0", &headers, None);
        let token = answer.header("X-Auth-Token").expect("a token").to_owned();
        Self {
            swift,
            proxies: proxies.to_vec(),
            clocks: vec![Clock::Behind(0), clock],
            token,
            up: EVERY_NODE,
        }
    }

    /// Carries out a plan whose containers' names begin with `tag`.
    pub(crate) fn run(&mut self, plan: Vec<Planned>) -> Trace {
        let mut trace = Trace::default();
        trace.cluster.clocks = self.clocks.clone();
        for planned in plan {
            let step = match planned {
                Planned::Ask(asked) => {
                    for asked in asked.iter().filter(|a| a.name.is_empty()) {
                        self.place(&mut trace, &asked.container);
                    }
                    Step::Ask(self.ask(asked))
                }
                Planned::Up(up) => {
                    self.turn(up);
                    Step::Up(up)
                }
                Planned::Replicate => {
                    self.swift.tell("once object-replicator");
                    Step::Replicated
                }
            };
            trace.steps.push(step);
        }
        trace
    }

    // Where the objects of a container lie.
    fn place(&self, trace: &mut Trace, container: &str) {
        for name in NAMES {
            let key = format!("{container}/{name}");
            if trace.cluster.places.contains_key(&key) {
                return;
            }
            let nodes = self
                .swift
                .tell(&format!("where AUTH_test {container} {name}"));
            let nodes: Vec<usize> = nodes
                .split(' ')
                .filter_map(|n| n.strip_prefix("object")?.parse::<usize>().ok())
                .map(|n| n - 1)
                .collect();
            let nodes: [usize; NODES] = nodes.try_into().expect("all nodes, in some order");
            trace.cluster.places.insert(key, nodes);
        }
    }

    fn turn(&mut self, up: Reach) {
        let servers = |mask: Reach| -> Vec<String> {
            let all = (0..NODES).filter(|n| mask >> n & 1 == 1);
            all.map(|n| format!("object{}", n + 1)).collect()
        };
        let (start, stop) = (servers(up & !self.up), servers(self.up & !up));
        for (verb, servers) in [("start", start), ("kill", stop)] {
            if !servers.is_empty() {
                self.swift.tell(&format!("{verb} {}", servers.join(" ")));
            }
        }
        self.up = up;
    }

    fn ask(&self, asked: Vec<Asked>) -> Vec<Exchange> {
        let [one] = asked.as_slice() else {
            let barrier = Barrier::new(asked.len());
            let ask = |asked: &Asked| {
                barrier.wait();
                self.exchange(asked)
            };
            return std::thread::scope(|scope| {
                let threads: Vec<_> = asked.iter().map(|a| scope.spawn(|| ask(a))).collect();
                let answers = threads.into_iter().map(|t| t.join());
                answers.map(|a| a.expect("an answer")).collect()
            });
        };
        vec![self.exchange(one)]
    }

    fn exchange(&self, asked: &Asked) -> Exchange {
        let mut path = format!("/v1/AUTH_test/{}", asked.container);
        if !asked.name.is_empty() {
            path = format!("{path}/{}", asked.name);
        }
        let mut headers = vec![("X-Auth-Token", self.token.clone())];
        let mut body = None;
        let method = match &asked.request {
            Request::PutContainer => "PUT",
            Request::DeleteContainer | Request::Delete => "DELETE",
            Request::HeadContainer => "HEAD",
            Request::List(ask) => {
                path.push_str(&format!("?format=json&limit={}", ask.limit));
                let parts = [
                    ("prefix", &ask.prefix),
                    ("marker", &ask.after),
                    ("end_marker", &ask.before),
                ];
                for (key, value) in parts.iter().filter(|(_, v)| !v.is_empty()) {
                    path.push_str(&format!("&{key}={value}"));
                }
                "GET"
            }
            Request::Put {
                body: of,
                announced,
                only_if_absent,
                ..
            } => {
                body = Some(of.bytes());
                if let Some(etag) = announced {
                    headers.push(("ETag", hex(etag)));
                }
                if *only_if_absent {
                    headers.push(("If-None-Match", "*".to_owned()));
                }
                "PUT"
            }
            Request::Read(read) => {
                if read.newest {
                    headers.push(("X-Newest", "true".to_owned()));
                }
                if let Some(span) = read.span {
                    headers.push(("Range", span.header()));
                }
                for (name, etag) in [
                    ("If-Match", read.if_match),
                    ("If-None-Match", read.if_none_match),
                ] {
                    if let Some(etag) = etag {
                        headers.push((name, format!("\"{}\"", hex(&etag))));
                    }
                }
                if read.head { "HEAD" } else { "GET" }
            }
        };
        let began = now();
        let answer = http::ask(
            self.proxies[asked.proxy],
            method,
            &path,
            &headers,
            body.as_deref(),
        );
        let ended = now();
        Exchange {
            answer: understand(asked, &answer),
            asked: asked.clone(),
            began,
            ended,
        }
    }
}

fn hex(bytes: &[u8; 16]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    let byte = |n: usize| u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..16).map(byte).collect();
    bytes?.try_into().ok()
}

fn understand(asked: &Asked, answer: &http::Answer) -> Answer {
    let number = |name: &str| answer.header(name).and_then(|v| v.parse().ok());
    let is_good_read =
        matches!(asked.request, Request::Read(_)) && matches!(answer.status, 200 | 206);
    let is_created = matches!(asked.request, Request::Put { .. }) && answer.status == 201;
    let is_listing = matches!(asked.request, Request::List(_)) && answer.status == 200;
    let mut seen = Answer {
        status: answer.status,
        range: answer.header("Content-Range").map(str::to_owned),
        ..Answer::default()
    };
    if is_good_read || is_created {
        seen.etag = answer.header("Etag").and_then(unhex);
        seen.modified = answer.header("Last-Modified").and_then(http_date);
    }
    if is_good_read {
        seen.length = number("Content-Length");
        seen.timestamp = answer.header("X-Timestamp").and_then(decimal);
        seen.body = answer.body.clone();
    }
    if matches!(asked.request, Request::HeadContainer) && answer.status == 204 {
        seen.count = number("X-Container-Object-Count");
    }
    if is_listing {
        let rows: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        let row = |row: &serde_json::Value| {
            let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
            Listed {
                name: text("name"),
                bytes: row["bytes"].as_u64().unwrap_or_default(),
                etag: unhex(&text("hash")).unwrap_or_default(),
                timestamp: iso_date(&text("last_modified")).unwrap_or_default(),
            }
        };
        seen.rows = rows.as_array().expect("a list").iter().map(row).collect();
    }
    seen
}

// "1700000000.12345" in microseconds.
fn decimal(text: &str) -> Option<u64> {
    let (seconds, fraction) = text.split_once('.')?;
    let micros: u64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    Some(seconds.parse::<u64>().ok()? * 1_000_000 + micros)
}

// Days since 1970-01-01 of a date of the Gregorian calendar.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let months = [
        31,
        28 + u64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let years: u64 = (1970..year).map(|y| 365 + u64::from(leap(y))).sum();
    years + months.iter().take(month as usize - 1).sum::<u64>() + day - 1
}

fn time_of_day(text: &str) -> Option<u64> {
    let parts: Vec<u64> = text.split(':').filter_map(|p| p.parse().ok()).collect();
    let [h, m, s] = parts.as_slice() else {
        return None;
    };
    Some((h * 60 + m) * 60 + s)
}

// "Tue, 24 Nov 2026 14:06:35 GMT" in seconds.
fn http_date(text: &str) -> Option<u64> {
    let parts: Vec<&str> = text.split(' ').collect();
    let [_, day, month, year, time, "GMT"] = parts.as_slice() else {
        return None;
    };
    let names = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec";
    let month = names.split(' ').position(|m| m == *month)? as u64 + 1;
    let days = days(year.parse().ok()?, month, day.parse().ok()?);
    Some(days * 86_400 + time_of_day(time)?)
}

// "2026-11-24T14:06:35.123450" in microseconds.
fn iso_date(text: &str) -> Option<u64> {
    let (date, time) = text.split_once('T')?;
    let parts: Vec<u64> = date.split('-').filter_map(|p| p.parse().ok()).collect();
    let [year, month, day] = parts.as_slice() else {
        return None;
    };
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let seconds = days(*year, *month, *day) * 86_400 + time_of_day(time)?;
    Some(seconds * 1_000_000 + format!("{fraction:0<6}").parse::<u64>().ok()?)
}
