//! HTTP between the shipping `StoreMachine` and a Swift at replica level, and what goes wrong on the way.

use crate::act::{is_step, slowness};
use crate::choice::Die;
use crate::payload::Blocks;
use crate::store::codec::Codec;
use crate::store::swift::answer::{Read, Span};
use crate::store::swift::container::{ListAsk, Row};
use crate::store::swift::object::{ORDERS, Put};
use crate::store::swift::{
    Deleting, EVERY_NODE, NODES, Newest, PRIMARIES, Putting, Reach, Stored, Swift, clock_of,
};
use crate::store::{Content as Held, Object};
use crate::world::{EPOCH, Event, MS, SEC, Transit, World};
use backend_swift::answer::Headers;
use backend_swift::{
    Action, Ask, AuthError, Broken, CallId, Content, Encoded, Etag, Failure, HttpAnswer,
    HttpRequest, Method, Settings, StoreMachine, Success, Ticket,
};
use engine::effect::{Expect, GetRequest, ListRow, Outcome, Receipt, StoreRequest};
use engine::ids::Container;
use engine::object::names::ObjectName;
use engine::time::{Duration, WallTime};
use engine::units::ByteCount;
use std::collections::BTreeMap;
use std::sync::Arc;

const PREFIX: &str = "m-";

/// False absences of a run in which A1 is broken: enough to deceive one that asks twice.
const LIES: u32 = 2;

/// A process's machine.
struct Client {
    machine: StoreMachine<Arc<Stored>, Outcome<Blocks>>,
    timer_at: Option<u64>,
    receipts: BTreeMap<u64, Receipt>,
    /// What each question wants to read, to decode what comes.
    gets: BTreeMap<u64, StoreRequest<Blocks>>,
}

/// An exchange on its way.
struct Exchange {
    seat: usize,
    life: u32,
    call: CallId,
    method: Method,
    path: String,
    read: Read,
    announced: Option<[u8; 16]>,
    only_if_absent: bool,
    body: Option<Arc<Stored>>,
    request: Option<StoreRequest<Blocks>>,
    writing: Option<Writing>,
    answer: Option<Result<HttpAnswer<Outcome<Blocks>>, Broken>>,
    /// Nobody waits for the answer.
    unheard: bool,
    /// What the body suffers on its way back.
    hurt: Option<Hurt>,
    proxy: usize,
}

/// A write between its look and what it leaves.
enum Writing {
    Put(Putting),
    Delete(Deleting),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hurt {
    Short,
    Flipped,
}

/// Work that Swift does by itself.
enum Chore {
    Replicate(String),
    List {
        container: String,
        name: String,
        replica: usize,
        row: Row<Object>,
    },
    Container(String),
}

/// The cluster, its clients and what is on its way between them.
pub(crate) struct Wire {
    swift: Swift,
    codec: Codec,
    clients: BTreeMap<usize, Client>,
    exchanges: BTreeMap<u64, Exchange>,
    chores: BTreeMap<u64, Chore>,
    numbers: u64,
    down: Option<usize>,
    /// How far each proxy's clock is ahead, in microseconds.
    clocks: Vec<u64>,
    /// False absences that may still be told, all of one name: without A1.
    lies: u32,
    lied: Option<String>,
}

impl Wire {
    pub(crate) fn new(codec: Codec, clocks: Vec<u64>, a1: bool) -> Self {
        Self {
            swift: Swift::new(),
            codec,
            clients: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            chores: BTreeMap::new(),
            numbers: 0,
            down: None,
            clocks,
            lies: if a1 { 0 } else { LIES },
            lied: None,
        }
    }

    /// Whether a confirmed object was not found.
    pub(crate) const fn has_lied(&self) -> bool {
        self.lied.is_some()
    }

    /// A process starts: it has no token and no connection.
    pub(crate) fn start(&mut self, seat: usize, seed: u64) {
        let settings = Settings {
            rate_min: 4 << 20,
            ..Settings::default()
        };
        let machine = StoreMachine::new(settings, seed);
        let client = Client {
            machine,
            timer_at: None,
            receipts: BTreeMap::new(),
            gets: BTreeMap::new(),
        };
        self.clients.insert(seat, client);
    }

    /// A process dies; what it sent is still on its way.
    pub(crate) fn end(&mut self, seat: usize) {
        self.clients.remove(&seat);
        self.exchanges
            .values_mut()
            .filter(|e| e.seat == seat)
            .for_each(|e| e.unheard = true);
    }
}

impl World {
    fn wire(&mut self) -> &mut Wire {
        self.wire.as_mut().expect("this run has a wire")
    }

    /// A typed request goes through the machine.
    pub(crate) fn ask_machine(&mut self, seat: usize, id: u64, request: &StoreRequest<Blocks>) {
        let now = self.instant();
        let wire = self.wire();
        let codec = wire.codec;
        let mut made = None;
        let ask = Ask::new(PREFIX, request, |body| {
            let (object, receipt) = codec.make(body);
            let (len, etag) = (object.bytes, etag_of(&object));
            made = Some(receipt);
            let stored = Stored {
                body: object,
                bytes: len,
                etag,
            };
            Encoded {
                body: Arc::new(stored),
                len,
                etag: Etag(etag),
            }
        });
        let Some(client) = wire.clients.get_mut(&seat) else {
            return;
        };
        if let Some(receipt) = made {
            client.receipts.insert(id, receipt);
        }
        client.gets.insert(id, request.clone());
        client.machine.handle_ask(now, Ticket(id), ask);
        self.drain_machine(seat);
    }

    pub(crate) fn drain_machine(&mut self, seat: usize) {
        loop {
            let Some(client) = self.wire().clients.get_mut(&seat) else {
                return;
            };
            let Some(action) = client.machine.poll_action() else {
                break;
            };
            match action {
                Action::Send(request) => self.send(seat, request),
                Action::Abandon(call) => {
                    let exchanges = self.wire().exchanges.values_mut();
                    exchanges
                        .filter(|e| e.seat == seat && e.call == call)
                        .for_each(|e| e.unheard = true);
                }
                Action::Authenticate => {
                    let life = self.seats[seat].life;
                    self.after(5 * MS, Event::Token { seat, life });
                }
                Action::Finish(ticket, result) => self.finish(seat, ticket.0, result),
            }
        }
        let now = self.now;
        let Some(client) = self.wire().clients.get_mut(&seat) else {
            return;
        };
        let wanted = client.machine.poll_timeout().map(|t| t.0.max(now));
        if wanted != client.timer_at {
            client.timer_at = wanted;
            if let Some(at) = wanted {
                let life = self.seats[seat].life;
                self.at(at, Event::StoreTimer { seat, life, at });
            }
        }
    }

    // The machine has settled a question; the engine hears it as its next fact.
    fn finish(&mut self, seat: usize, id: u64, result: Result<Success<Outcome<Blocks>>, Failure>) {
        let Some(client) = self.wire().clients.get_mut(&seat) else {
            return;
        };
        let receipt = client.receipts.remove(&id).unwrap_or_default();
        let Some(request) = client.gets.remove(&id) else {
            return;
        };
        let outcome = match result {
            Ok(Success::Done | Success::Stats { .. }) => Outcome::Done,
            Ok(Success::Put) => Outcome::Put(receipt),
            Ok(Success::Exists) => Outcome::Exists,
            Ok(Success::Read(outcome)) => outcome,
            Err(failure) => Outcome::Store(failure.error),
        };
        self.requests += 1;
        let number = self.requests;
        let life = self.seats[seat].life;
        let transit = Transit {
            seat,
            life,
            id,
            request,
            racy: false,
            outcome: Some(outcome),
            answered: false,
            arrives: false,
            sent: self.now,
            paused: false,
        };
        self.transit.insert(number, transit);
        self.after(1, Event::Answer { request: number });
    }

    pub(crate) fn token(&mut self, seat: usize) {
        let now = self.instant();
        self.wire().numbers += 1;
        let n = self.wire().numbers;
        let ppm = self.config.faults.store_busy / 4;
        let result = if let Some(refuses) = self.lasting_identity() {
            Err(match refuses {
                true => AuthError::Refused,
                false => AuthError::Unavailable,
            })
        } else if self.outage || self.strikes(Die::StoreBusy, n << 8, ppm) {
            Err(AuthError::Unavailable)
        } else {
            Ok(Some(Duration::from_secs(3600)))
        };
        if let Some(client) = self.wire().clients.get_mut(&seat) {
            client.machine.handle_authenticated(now, result);
            self.trace.events += 1;
            self.drain_machine(seat);
        }
    }

    pub(crate) fn store_timer(&mut self, seat: usize, at: u64) {
        let now = self.instant();
        if let Some(client) = self.wire().clients.get_mut(&seat)
            && client.timer_at == Some(at)
        {
            client.timer_at = None;
            client.machine.handle_timeout(now);
            self.trace.events += 1;
            self.drain_machine(seat);
        }
    }

    fn send(&mut self, seat: usize, request: HttpRequest<Arc<Stored>>) {
        let life = self.seats[seat].life;
        let wire = self.wire();
        wire.numbers += 1;
        let n = wire.numbers;
        let client = wire.clients.get(&seat);
        let asked = client.and_then(|c| c.gets.get(&request.ticket.0)).cloned();
        let header = |name: &str| {
            request
                .headers
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| v.as_str())
        };
        let read = Read {
            newest: header("X-Newest").is_some(),
            head: request.method == Method::Head,
            span: header("Range").and_then(Span::parse),
            ..Read::default()
        };
        let len = request.body.as_ref().map_or(0, |(_, len)| *len);
        let proxies = wire.clocks.len() as u64;
        let exchange = Exchange {
            seat,
            life,
            call: request.call,
            method: request.method,
            read,
            announced: header("ETag").and_then(Etag::parse).map(|e| e.0),
            only_if_absent: header("If-None-Match").is_some(),
            path: request.path.clone(),
            body: request.body.map(|(b, _)| b),
            request: asked,
            writing: None,
            answer: None,
            unheard: false,
            hurt: None,
            proxy: self.choices.pick(Die::ProxyClock, n, 1, proxies) as usize,
        };
        self.trace.roll(n ^ 0xf000);
        self.trace.tell(self.now, || {
            format!(
                "seat {seat} http {n} {} {}",
                request.method.as_str(),
                request.path
            )
        });
        let is_object = request.path.splitn(3, '/').count() == 3;
        self.wire().exchanges.insert(n, exchange);
        self.asks_on(seat);
        if let Some(status) = self.lasting_status(request.method == Method::Put, is_object) {
            self.give(n, Ok(plain(status, Headers::default())));
            self.after(5 * MS, Event::HttpAnswer { n });
            return;
        }
        self.route(n, len, request.method);
    }

    // Which way an exchange goes.
    fn route(&mut self, n: u64, len: u64, method: Method) {
        let faults = self.config.faults.clone();
        let ordinary = 1 + self
            .choices
            .pick(Die::StoreTime, n, 0, self.config.store_ms * MS);
        let there = 1 + self.choices.pick(Die::StoreTime, n, 1, ordinary);
        let _ = len;
        if self.outage {
            self.give(n, Err(Broken::Connect));
            self.after(ordinary, Event::HttpAnswer { n });
            return;
        }
        if self.strikes(Die::StoreLost, n, faults.store_lost) {
            // Half of the lost ones are noticed at once, the others by their time-out.
            if self.choices.pick(Die::StoreLost, n, 1, 2) == 0 {
                self.give(n, Err(Broken::Closed));
                self.after(ordinary, Event::HttpAnswer { n });
            }
            return;
        }
        if self.strikes(Die::AnswerLost, n, faults.answer_lost) {
            self.after(there, Event::HttpArrive { n });
            self.give(n, Err(Broken::Closed));
            let wait = ordinary + self.choices.pick(Die::AnswerLost, n, 1, 2) * 20 * SEC;
            self.after(wait, Event::HttpAnswer { n });
            return;
        }
        if method != Method::Get && self.strikes(Die::StoreLate, n, faults.store_late) {
            let late = [100 * MS, 5 * SEC, 30 * SEC, 900 * SEC];
            let late = late[self.choices.pick(Die::StoreLate, n, 1, 4) as usize];
            self.after(late, Event::HttpArrive { n });
            return;
        }
        if self.strikes(Die::StoreBusy, n, faults.store_busy) {
            // Of every three, one is what a proxy without a quorum says.
            let statuses = [
                503, 503, 503, 503, 500, 502, 504, 408, 429, 498, 499, 507, 401,
            ];
            let status = statuses[self
                .choices
                .pick(Die::StoreBusy, n, 1, statuses.len() as u64)
                as usize];
            let mut headers = Headers::default();
            if self.choices.pick(Die::StoreBusy, n, 2, 2) == 1 {
                headers.0.push(("Retry-After".into(), "3".into()));
            }
            self.give(n, Ok(plain(status, headers)));
            self.after(ordinary, Event::HttpAnswer { n });
            return;
        }
        if method == Method::Put && self.strikes(Die::StoreFull, n, faults.store_full) {
            self.give(n, Ok(plain(413, Headers::default())));
            self.after(ordinary, Event::HttpAnswer { n });
            return;
        }
        if method == Method::Get && self.strikes(Die::Misread, n, faults.body_hurt) {
            let hurt =
                [Hurt::Short, Hurt::Flipped][self.choices.pick(Die::Misread, n, 1, 2) as usize];
            if let Some(exchange) = self.wire().exchanges.get_mut(&n) {
                exchange.hurt = Some(hurt);
            }
        }
        let mut there = there;
        if self.strikes(Die::StoreSlow, n, faults.store_slow) {
            there = self.choices.between(Die::StoreSlow, n, 1, 1, 14 * SEC);
        } else if let Some(slowness) = self.slowness_of(n) {
            let step_slow = faults.step_slow * slowness;
            if method == Method::Put && self.strikes(Die::StepLate, n, faults.step_late) {
                self.give(n, Err(Broken::Closed));
                self.after(ordinary, Event::HttpAnswer { n });
                there = ordinary + self.step_wait(Die::StepLate, n);
            } else if self.strikes(Die::StepSlow, n, step_slow)
                && (method != Method::Put || self.choices.pick(Die::StepSlow, n, 2, 2) == 0)
            {
                there += self.step_wait(Die::StepSlow, n);
            }
        }
        self.after(there, Event::HttpArrive { n });
    }

    // How much slower an exchange about a claim, a door, an opened or a root is than others of them.
    fn slowness_of(&mut self, n: u64) -> Option<u32> {
        let request = self.wire().exchanges.get(&n)?.request.as_ref()?;
        is_step(request).then(|| slowness(request))
    }

    fn give(&mut self, n: u64, answer: Result<HttpAnswer<Outcome<Blocks>>, Broken>) {
        if let Some(exchange) = self.wire().exchanges.get_mut(&n) {
            exchange.answer = Some(answer);
        }
    }

    // The nodes that a request reaches now: at most one is missed.
    fn reach(&mut self, n: u64, nth: u64) -> Reach {
        let mut reach = EVERY_NODE;
        let down = self.wire().down;
        if let Some(node) = down {
            reach &= !(1 << node);
        }
        if down.is_none() {
            let ppm = self.config.faults.node_miss;
            if self.strikes(Die::NodeMiss, n << 4 | nth, ppm) {
                let node = self
                    .choices
                    .pick(Die::NodeMiss, n << 4 | nth, 1, NODES as u64);
                reach &= !(1 << node);
            }
        }
        reach
    }

    /// A request's headers reach a proxy.
    pub(crate) fn http_arrive(&mut self, n: u64) {
        let Some(exchange) = self.wire().exchanges.get(&n) else {
            return;
        };
        let (method, path, proxy) = (exchange.method, exchange.path.clone(), exchange.proxy);
        let parts: Vec<&str> = path.splitn(3, '/').collect();
        let is_object = parts.len() == 3;
        let clock = self.now / 1000 + self.wire().clocks[proxy];
        let order = ORDERS.len() as u64;
        let order = self.choices.pick(Die::FirstReplica, n, 0, order) as usize;
        let reach = self.reach(n, 1);
        let wire = self.wire();
        let container = parts
            .get(1)
            .map_or("", |c| c.split('?').next().unwrap_or(""));
        let status = match (method, is_object) {
            (Method::Put | Method::Delete, false) => {
                let timestamp = wire.swift.stamp(clock);
                let status = if method == Method::Put {
                    wire.swift.create_container(container, timestamp, reach)
                } else {
                    wire.swift.delete_container(container, timestamp, reach)
                };
                let late = self.swift_waits(n, 2);
                self.chore(late, Chore::Container(container.to_owned()));
                status
            }
            (Method::Head, false) => wire.swift.head_container(container, order, reach),
            (Method::Get, false) => {
                self.answer_list(n, container, order, reach);
                return;
            }
            (Method::Delete, true) => {
                let timestamp = wire.swift.stamp(clock);
                match wire.swift.begin_delete(&path, timestamp, reach) {
                    Ok(deleting) => {
                        if let Some(exchange) = wire.exchanges.get_mut(&n) {
                            exchange.writing = Some(Writing::Delete(deleting));
                        }
                        let wait = self.choices.pick(Die::StoreTime, n, 2, MS);
                        self.after(wait, Event::HttpBody { n });
                        return;
                    }
                    Err(status) => status,
                }
            }
            (Method::Get | Method::Head, true) => {
                self.answer_get(n, order, reach);
                return;
            }
            (Method::Put, true) => {
                let exchange = &wire.exchanges[&n];
                let Some(body) = exchange.body.clone() else {
                    return;
                };
                let (only_if_absent, announced) = (exchange.only_if_absent, exchange.announced);
                let put = Put {
                    timestamp: wire.swift.stamp(clock),
                    only_if_absent,
                    announced,
                    stored: body,
                };
                match wire.swift.begin_put(&path, put, reach) {
                    Ok(putting) => {
                        if let Some(exchange) = wire.exchanges.get_mut(&n) {
                            exchange.writing = Some(Writing::Put(putting));
                        }
                        let stalls = self.strikes(
                            Die::StoreSlow,
                            n << 4 | 9,
                            self.config.faults.store_slow / 4,
                        );
                        // The headers are there and the body is not.
                        let slowness = self.slowness_of(n).unwrap_or(0);
                        let step_slow = self.config.faults.step_slow * slowness;
                        let step_stalls = self.choices.pick(Die::StepSlow, n, 2, 2) == 1
                            && self.strikes(Die::StepSlow, n, step_slow);
                        let wait = if step_stalls {
                            self.step_wait(Die::StepSlow, n)
                        } else if stalls {
                            [SEC, 20 * SEC, 60 * SEC]
                                [self.choices.pick(Die::StoreSlow, n << 4 | 9, 1, 3) as usize]
                        } else {
                            self.choices.pick(Die::StoreTime, n, 2, 5 * MS)
                        };
                        self.after(wait, Event::HttpBody { n });
                        return;
                    }
                    Err(status) => status,
                }
            }
        };
        self.reply_status(n, status);
    }

    /// A PUT's body has reached the nodes, or a DELETE leaves its tombstones.
    pub(crate) fn http_body(&mut self, n: u64) {
        let reach = self.reach(n, 2);
        let wire = self.wire();
        let Some(exchange) = wire.exchanges.get_mut(&n) else {
            return;
        };
        let Some(writing) = exchange.writing.take() else {
            return;
        };
        let (path, body) = (exchange.path.clone(), exchange.body.clone());
        let status = match writing {
            Writing::Put(putting) => {
                let status = wire.swift.finish_put(&putting, reach);
                if status != 422 {
                    self.chores(n, &path, putting.timestamp(), body);
                }
                status
            }
            Writing::Delete(deleting) => {
                let status = wire.swift.finish_delete(&deleting);
                if deleting.leaves_tombstones() {
                    self.chores(n, &path, deleting.timestamp(), None);
                }
                status
            }
        };
        self.mirror();
        self.reply_status(n, status);
    }

    // How long Swift takes until it does something by itself.
    fn swift_waits(&mut self, n: u64, nth: u32) -> u64 {
        let late = [100 * MS, 2 * SEC, 20 * SEC, 120 * SEC];
        late[self.choices.pick(Die::Replicate, n, nth, 4) as usize]
    }

    // What Swift will do by itself after a write.
    fn chores(&mut self, n: u64, path: &str, timestamp: u64, stored: Option<Arc<Stored>>) {
        let late = self.swift_waits(n, 0);
        self.chore(late, Chore::Replicate(path.to_owned()));
        let mut parts = path.splitn(3, '/').skip(1);
        let (container, name) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        for replica in 0..PRIMARIES {
            let late = self.swift_waits(n, 10 + replica as u32);
            let stored = stored.clone();
            let chore = Chore::List {
                container: container.into(),
                name: name.into(),
                replica,
                row: Row { timestamp, stored },
            };
            self.chore(late, chore);
        }
    }

    fn chore(&mut self, wait: u64, chore: Chore) {
        let wire = self.wire();
        wire.numbers += 1;
        let n = wire.numbers;
        wire.chores.insert(n, chore);
        self.after(wait, Event::Chore { n });
    }

    /// Swift does something by itself.
    pub(crate) fn do_chore(&mut self, n: u64) {
        let wire = self.wire();
        let up = EVERY_NODE & !wire.down.map_or(0, |d| 1 << d);
        match wire.chores.remove(&n) {
            Some(Chore::Replicate(path)) => {
                wire.swift.replicate(&path, up);
                if up != EVERY_NODE {
                    self.chore(30 * SEC, Chore::Replicate(path));
                }
                self.mirror();
            }
            Some(Chore::List {
                container,
                name,
                replica,
                row,
            }) => wire.swift.update_listing(&container, &name, replica, row),
            Some(Chore::Container(container)) => wire.swift.replicate_container(&container),
            None => {}
        }
    }

    // What became newest anywhere is what oracles look at.
    fn mirror(&mut self) {
        for Newest { path, stored } in self.wire().swift.take_changes() {
            let mut parts = path.splitn(3, '/').skip(1);
            let container = parts
                .next()
                .and_then(|c| c.strip_prefix(PREFIX))
                .and_then(Container::parse);
            let name = parts.next().and_then(ObjectName::parse);
            if let (Some(container), Some(name)) = (container, name) {
                self.store
                    .mirror(container, name, stored.map(|s| s.body.clone()));
            }
        }
    }

    // Without A1: the nodes that took the write are down together, and those that missed it are back.
    fn lies(&mut self, n: u64, order: usize, reach: Reach) -> bool {
        let wire = self.wire();
        let Some(exchange) = wire.exchanges.get(&n).filter(|_| wire.lies > 0) else {
            return false;
        };
        let path = exchange.path.clone();
        let decides = ["/versions/", "/doors/", "/opened/", "/claims/"];
        let is_there = wire.swift.get(&path, &exchange.read, order, reach).is_ok();
        let goes_on = wire.lied.as_ref().map(|lied| *lied == path);
        if !is_there || goes_on == Some(false) || !decides.iter().any(|d| path.contains(d)) {
            return false;
        }
        let ppm = self.config.faults.false_absence;
        if goes_on.is_none() && !self.strikes(Die::FalseAbsence, n, ppm) {
            return false;
        }
        self.trace
            .tell(self.now, || format!("A1 is broken: {path} is not found"));
        let wire = self.wire();
        wire.lies -= 1;
        wire.lied = Some(path);
        true
    }

    fn answer_get(&mut self, n: u64, order: usize, reach: Reach) {
        if self.lies(n, order, reach) {
            self.reply_status(n, 404);
            return;
        }
        let is_rotten = match self.wire().exchanges.get(&n) {
            Some(Exchange {
                method: Method::Get,
                request: Some(StoreRequest::Get(get)),
                ..
            }) if matches!(get.expect, Expect::Frames(_)) => {
                let get = get.clone();
                self.finds_rot(n, &get)
            }
            _ => false,
        };
        let wire = self.wire();
        let Some(exchange) = wire.exchanges.get(&n) else {
            return;
        };
        let found = wire.swift.get(&exchange.path, &exchange.read, order, reach);
        let (stored, shown) = match found {
            Ok(found) => (found.stored, found.shown),
            Err(status) => {
                self.reply_status(n, status);
                return;
            }
        };
        let mut headers = Headers::default();
        let mut header = |name: &str, value: String| headers.0.push((name.into(), value));
        header("Etag", Etag(stored.etag).to_string());
        if let Some(range) = shown.content_range(stored.bytes) {
            header("Content-Range", range);
        }
        let (status, len) = (shown.status, shown.bytes());
        if !matches!(status, 200 | 206) {
            self.reply_status(n, status);
            return;
        }
        header("Content-Length", len.to_string());
        let head = exchange.method == Method::Head;
        let hurt = exchange.hurt.or_else(|| is_rotten.then_some(Hurt::Flipped));
        let codec = wire.codec;
        let content = match exchange.request.as_ref().filter(|_| !head) {
            Some(StoreRequest::Get(get)) => decode(codec, get, &stored.body, hurt),
            _ => Content::Ignored,
        };
        let body_len = if head || hurt != Some(Hurt::Short) {
            if head { 0 } else { len }
        } else {
            len / 2
        };
        let whole = status == 200 && !head;
        let mut md5 = stored.etag;
        if hurt.is_some() {
            md5[0] ^= 1;
        }
        let answer = HttpAnswer {
            status,
            headers,
            body_len,
            body_md5: whole.then_some(Etag(md5)),
            content,
        };
        self.reply(n, answer);
    }

    fn answer_list(&mut self, n: u64, container: &str, order: usize, reach: Reach) {
        let wire = self.wire();
        let Some(Exchange {
            request:
                Some(StoreRequest::List {
                    prefix,
                    after,
                    limit,
                    ..
                }),
            ..
        }) = wire.exchanges.get(&n)
        else {
            return;
        };
        let ask = ListAsk {
            prefix: prefix.clone(),
            after: after.clone().unwrap_or_default(),
            limit: *limit as usize,
            ..ListAsk::default()
        };
        match wire.swift.list(container, &ask, order, reach) {
            Ok(rows) => {
                let names = rows.into_iter().map(|(name, bytes, timestamp)| ListRow {
                    name,
                    bytes: ByteCount(bytes),
                    modified: WallTime(EPOCH + clock_of(timestamp) / 1_000_000),
                });
                let names = names.collect();
                let content = Content::Good(Outcome::Names(names));
                let answer = HttpAnswer {
                    content,
                    ..plain(200, Headers::default())
                };
                self.reply(n, answer);
            }
            Err(status) => self.reply_status(n, status),
        }
    }

    fn reply_status(&mut self, n: u64, status: u16) {
        let mut headers = Headers::default();
        if status == 201
            && let Some(body) = self.wire().exchanges.get(&n).and_then(|e| e.body.as_ref())
        {
            headers.0.push(("Etag".into(), Etag(body.etag).to_string()));
        }
        self.reply(n, plain(status, headers));
    }

    // The answer leaves Swift, unless a fault has decided already what the process hears.
    fn reply(&mut self, n: u64, answer: HttpAnswer<Outcome<Blocks>>) {
        let status = answer.status;
        self.trace
            .tell(self.now, || format!("http {n} is {status}"));
        let Some(exchange) = self.wire().exchanges.get_mut(&n) else {
            return;
        };
        if exchange.unheard {
            self.wire().exchanges.remove(&n);
            return;
        }
        if exchange.answer.is_none() {
            exchange.answer = Some(Ok(answer));
            let back =
                1 + self
                    .choices
                    .pick(Die::StoreTime, n, 3, self.config.store_ms * MS / 4 + 1);
            self.after(back, Event::HttpAnswer { n });
        }
    }

    /// An answer reaches the process.
    pub(crate) fn http_answer(&mut self, n: u64) {
        let Some(exchange) = self.wire().exchanges.get(&n) else {
            return;
        };
        let (seat, life, unheard) = (exchange.seat, exchange.life, exchange.unheard);
        if self.is_alive(seat, life) && self.defer(seat, &Event::HttpAnswer { n }) {
            return;
        }
        let Some(exchange) = self.wire().exchanges.get(&n) else {
            return;
        };
        // A PUT whose answer was lost may still be on its way to the nodes.
        let travels = matches!(exchange.answer, Some(Err(Broken::Closed)));
        let (call, answer) = (exchange.call, exchange.answer.clone());
        if travels {
            if let Some(exchange) = self.wire().exchanges.get_mut(&n) {
                exchange.unheard = true;
            }
        } else {
            self.wire().exchanges.remove(&n);
        }
        let Some(answer) = answer else { return };
        if unheard || !self.is_alive(seat, life) {
            return;
        }
        let now = self.instant();
        self.trace.roll(n ^ 0xf100);
        if let Some(client) = self.wire().clients.get_mut(&seat) {
            client.machine.handle_answer(now, call, answer);
            self.trace.events += 1;
            *self.trace.kinds.entry("http").or_default() += 1;
            self.drain_machine(seat);
        }
    }

    /// A node goes away for a while.
    pub(crate) fn node_down(&mut self, n: u64) {
        if !self.chaos() || self.wire().down.is_some() {
            return;
        }
        let node = self.choices.pick(Die::NodeDown, n, 1, NODES as u64) as usize;
        let long = [2, 20, 300][self.choices.pick(Die::NodeDown, n, 2, 3) as usize] * SEC;
        self.trace.fault(Die::NodeDown, n);
        self.trace.tell(self.now, || {
            format!("node {node} is away for {} s", long / SEC)
        });
        self.wire().down = Some(node);
        self.after(long, Event::NodeUp);
    }

    /// The node is back.
    pub(crate) fn node_up(&mut self) {
        if let Some(wire) = self.wire.as_mut() {
            wire.down = None;
        }
    }
}

fn decode(
    codec: Codec,
    get: &GetRequest,
    object: &Object,
    hurt: Option<Hurt>,
) -> Content<Outcome<Blocks>> {
    if hurt.is_some() || matches!(object.content, Held::Damaged) {
        return Content::Damaged;
    }
    match codec.read(get, object) {
        Outcome::Store(_) => Content::Damaged,
        good => Content::Good(good),
    }
}

fn plain(status: u16, headers: Headers) -> HttpAnswer<Outcome<Blocks>> {
    HttpAnswer {
        status,
        headers,
        body_len: 0,
        body_md5: None,
        content: Content::Ignored,
    }
}

// Stands for the MD5 of the bytes: equal for equal objects.
fn etag_of(object: &Object) -> [u8; 16] {
    let mut etag = [0; 16];
    let (a, b) = object.fingerprint();
    etag[..8].copy_from_slice(&a.to_le_bytes());
    etag[8..].copy_from_slice(&b.to_le_bytes());
    etag
}
