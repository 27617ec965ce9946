//! A relay between a client and Swift's proxy that reads HTTP, logs every exchange and does harm on request.
//!
//! One thread per connection, blocking I/O: a test wants to know what happened, not to be fast.

mod wire;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// One exchange that came through. Sizes are of bodies, in bytes.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Counts from 0 in the order of the requests' arrival.
    pub number: u64,
    /// Which connection, counting from 0: two exchanges on one connection bear the same.
    pub connection: u64,
    /// `PUT`, `GET` …
    pub method: String,
    /// With the query.
    pub path: String,
    /// The request's headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Bytes of the request's body that went through.
    pub sent: u64,
    /// The answer's status; 0: none went through.
    pub status: u16,
    /// Bytes of the answer's body that went through.
    pub received: u64,
    /// When its head had come.
    pub started: Instant,
    /// When its answer had gone; `None`: under way.
    pub ended: Option<Instant>,
    /// Whether it waits for [`Relay::release`] now.
    pub is_stalled: bool,
    /// The harm done to it.
    pub fault: Option<Fault>,
}

impl Exchange {
    /// The value of a request's header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, v)| v.as_str())
    }
}

/// A harm.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The connection is closed before anything goes on.
    Close,
    /// The request waits so long before it goes on.
    Delay(Duration),
    /// So many bytes of the request's body go on, the rest after [`Relay::release`].
    StallRequest(u64),
    /// So many bytes of the request's body go on, then both connections are closed.
    CutRequest(u64),
    /// The request goes on, its answer waits for [`Relay::release`].
    StallAnswer,
    /// The request goes on, its answer is lost and the connection closed.
    LoseAnswer,
    /// So many bytes of the answer's body go on, then the connection is closed.
    CutAnswer(u64),
    /// One bit of the request's body is flipped, at this byte.
    FlipRequest(u64),
    /// One bit of the answer's body is flipped, at this byte.
    FlipAnswer(u64),
    /// This status is answered, with these headers, and nothing goes on.
    Answer(u16, Vec<(String, String)>),
}

/// Which exchanges are harmed.
#[derive(Clone, Debug)]
pub struct Rule {
    /// `PUT`, `GET` …; empty: all.
    pub method: String,
    /// The path has this in it.
    pub path: String,
    /// So many fit and are left alone before.
    pub skip: u32,
    /// So many are harmed, then the rule is gone.
    pub times: u32,
    /// What is done to them.
    pub fault: Fault,
}

impl Rule {
    /// Harms the next exchange of this method with this in its path.
    pub fn once(method: &str, path: &str, fault: Fault) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            skip: 0,
            times: 1,
            fault,
        }
    }

    /// The same for the next `times`.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// The same after `skip` others.
    #[must_use]
    pub fn after(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }
}

struct Shared {
    upstream: SocketAddr,
    log: Mutex<Vec<Exchange>>,
    changed: Condvar,
    rules: Mutex<Vec<Rule>>,
    gate: Mutex<u64>,
    gate_opened: Condvar,
    is_closed: AtomicBool,
    connections: AtomicU64,
}

/// The relay. Ends when dropped; open connections end with their peers.
pub struct Relay {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Relay({})", self.address)
    }
}

impl Relay {
    /// A relay on a free port to `127.0.0.1:port`.
    ///
    /// # Errors
    ///
    /// No port is free.
    pub fn start(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: (Ipv4Addr::LOCALHOST, port).into(),
            log: Mutex::default(),
            changed: Condvar::new(),
            rules: Mutex::default(),
            gate: Mutex::new(0),
            gate_opened: Condvar::new(),
            is_closed: AtomicBool::new(false),
            connections: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.is_closed.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(client), shared) = (stream, Arc::clone(&accepting)) else {
                    continue;
                };
                let number = shared.connections.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || wire::serve(&shared, number, client));
            }
        });
        Ok(Self { shared, address })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a rule; of several that fit, the oldest applies.
    pub fn add(&self, rule: Rule) {
        self.shared.rules.lock().expect("rules").push(rule);
    }

    /// Forgets all rules.
    pub fn clear(&self) {
        self.shared.rules.lock().expect("rules").clear();
    }

    /// Waits until so many exchanges are stalled, at most `limit`. Whether they are.
    pub fn wait_stalled(&self, count: usize, limit: Duration) -> bool {
        self.wait_until(limit, |log| {
            log.iter().filter(|e| e.is_stalled).count() >= count
        })
    }

    /// Lets everything go on that is stalled now.
    pub fn release(&self) {
        *self.shared.gate.lock().expect("gate") += 1;
        self.shared.gate_opened.notify_all();
    }

    /// Everything that came through so far.
    pub fn log(&self) -> Vec<Exchange> {
        self.shared.log.lock().expect("log").clone()
    }

    /// Empties the log, for a new count. Exchanges under way are not logged any more.
    pub fn clear_log(&self) {
        self.shared.log.lock().expect("log").clear();
    }

    /// Exchanges of this method (empty: all) with this in their path.
    pub fn matching(&self, method: &str, path: &str) -> Vec<Exchange> {
        let fits =
            |e: &Exchange| (method.is_empty() || e.method == method) && e.path.contains(path);
        self.log().into_iter().filter(fits).collect()
    }

    /// Waits until the log satisfies `is_so`, at most `limit`. Whether it did.
    pub fn wait_until(&self, limit: Duration, is_so: impl Fn(&[Exchange]) -> bool) -> bool {
        let log = self.shared.log.lock().expect("log");
        let not_yet = |log: &mut Vec<Exchange>| !is_so(log);
        let (_log, timeout) = self
            .shared
            .changed
            .wait_timeout_while(log, limit, not_yet)
            .expect("log");
        !timeout.timed_out()
    }

    /// The time-weighted mean of exchanges under way between two moments, of those that `fits` chooses.
    pub fn mean_in_flight(
        &self,
        from: Instant,
        to: Instant,
        fits: impl Fn(&Exchange) -> bool,
    ) -> f64 {
        let span = to.duration_since(from).as_secs_f64();
        let busy: f64 = self
            .log()
            .iter()
            .filter(|e| fits(e))
            .map(|e| {
                let end = e.ended.unwrap_or(to).min(to);
                end.saturating_duration_since(e.started.max(from))
                    .as_secs_f64()
            })
            .sum();
        if span > 0.0 { busy / span } else { 0.0 }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::SeqCst);
        self.release();
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn fault_for(&self, method: &str, path: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().expect("rules");
        let fits = |r: &Rule| (r.method.is_empty() || r.method == method) && path.contains(&r.path);
        let index = rules.iter().position(fits)?;
        let rule = rules.get_mut(index)?;
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        rule.times -= 1;
        let fault = rule.fault.clone();
        if rule.times == 0 {
            rules.remove(index);
        }
        Some(fault)
    }

    fn update(&self, number: u64, change: impl FnOnce(&mut Exchange)) {
        let mut log = self.log.lock().expect("log");
        if let Some(e) = log.iter_mut().find(|e| e.number == number) {
            change(e);
        }
        drop(log);
        self.changed.notify_all();
    }

    fn wait_for_release(&self, number: u64) {
        let gate = self.gate.lock().expect("gate");
        let before = *gate;
        // Seen only when the gate is already watched, so that no release is missed.
        self.update(number, |e| e.is_stalled = true);
        let shut = |count: &mut u64| *count == before && !self.is_closed.load(Ordering::SeqCst);
        drop(self.gate_opened.wait_while(gate, shut).expect("gate"));
        self.update(number, |e| e.is_stalled = false);
    }
}

#[cfg(test)]
mod tests;
