//! The client: moves the bytes that the machine asks for, and nothing more.
//!
//! ```text
//!   execute ─► encode (blocking pool when large) ─► StoreMachine ─► one task per exchange ─► Swift
//!      ▲                                              │    ▲
//!      └── Outcome ◄── one channel per question ◄─────┘    └── answers, decoded and checked; one timer task
//! ```
//!
//! The machine is behind a mutex that is held for bookkeeping only: no encoding, checksum or I/O inside.

mod auth;
mod clouds;
mod config;
mod credentials;
mod http;
mod operations;

pub use auth::AuthFailure;
pub use config::SwiftConfig;
pub use credentials::{
    Credentials, CredentialsError, Domain, Identity, KeystoneMethod, Named, Project, Surroundings,
    TlsOptions,
};
pub use http::BuildError;
pub use operations::{Health, Info};

use crate::exchange::{Broken, Content, Failure, HttpAnswer, Success};
use crate::listing::{self, ContainerRow, ObjectRow};
use crate::machine::{Action, StoreMachine};
use crate::request::{Ask, CallId, Encoded, Etag, HttpRequest, Method, Ticket};
use crate::token::{AuthError, TokenId};
use auth::Session;
use bytes::Bytes;
use engine::effect::{Body, GetRequest, ListRow, Outcome, Receipt, StoreError, StoreRequest};
use engine::time::Instant;
use engine::units::ByteCount;
use http::{Http, Received};
use md5::Digest as _;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

/// The stored formats, from outside the engine's lock.
pub trait Codec: Send + Sync + 'static {
    /// The bytes of a body, and the receipt that its PUT earns.
    fn encode(&self, body: &Body<Bytes>) -> (Bytes, Receipt);
    /// What a body holds, checked against what was expected.
    fn decode(&self, request: &GetRequest, body: Bytes) -> Content<Outcome<Bytes>>;
}

/// Bodies from this size on are encoded, summed and decoded on the blocking pool: below it, the hop costs more.
const BLOCKING_BYTES: u64 = 128 << 10;

/// What a body that comes shall be taken for.
#[derive(Clone, Debug)]
enum Want {
    Nothing,
    Object(Arc<GetRequest>),
    Raw,
    Objects,
    Containers,
}

/// What a body was.
#[derive(Clone, Debug)]
pub(crate) enum Decoded {
    Outcome(Outcome<Bytes>),
    Raw(Bytes),
    Objects(Vec<ObjectRow>),
    Containers(Vec<ContainerRow>),
}

/// A lasting failure to authenticate is said again after so long.
const TELL_AGAIN: std::time::Duration = std::time::Duration::from_secs(60);

type End = Result<Success<Decoded>, Failure>;

struct Waiter {
    want: Want,
    expected: Option<u64>,
    place: String,
    reply: oneshot::Sender<End>,
}

struct State {
    machine: StoreMachine<Bytes, Decoded>,
    waiters: HashMap<Ticket, Waiter>,
    calls: HashMap<CallId, (Method, AbortHandle)>,
    sessions: BTreeMap<TokenId, Arc<Session>>,
    /// A session is named when the machine has heard of it: it counts the successes.
    session_count: u64,
    ticket_count: u64,
    counters: Counters,
}

/// What the client has done since it was made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Exchanges by verb and status; status 0: no answer.
    pub exchanges: BTreeMap<(Method, u16), u64>,
    /// Bytes of bodies sent, repetitions included.
    pub bytes_sent: u64,
    /// Bytes of bodies received.
    pub bytes_received: u64,
    /// Authentications.
    pub authentications: u64,
}

struct Inner {
    config: SwiftConfig,
    codec: Box<dyn Codec>,
    http: Http,
    origin: std::time::Instant,
    runtime: tokio::runtime::Handle,
    state: Mutex<State>,
    alarm: Arc<Notify>,
    info: tokio::sync::OnceCell<Option<Info>>,
    last_auth_failure: Mutex<Option<AuthFailure>>,
    /// When the last failure was told to people.
    auth_told: Mutex<Option<Instant>>,
}

/// One Swift account. Cheap to clone; all clones share the connections and the token.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("prefix", &self.inner.config.prefix)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client that has not spoken yet. Its tasks run on the current tokio runtime.
    ///
    /// Errors: the TLS files or the proxy of the configuration cannot be used.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(config: SwiftConfig, codec: impl Codec) -> Result<Self, BuildError> {
        let state = State {
            machine: StoreMachine::new(config.settings.clone(), config.seed),
            waiters: HashMap::new(),
            calls: HashMap::new(),
            sessions: BTreeMap::new(),
            session_count: 0,
            ticket_count: 0,
            counters: Counters::default(),
        };
        let alarm = Arc::new(Notify::new());
        let inner = Arc::new(Inner {
            http: Http::new(&config)?,
            config,
            codec: Box::new(codec),
            #[expect(
                clippy::disallowed_methods,
                reason = "the client is where time comes from"
            )]
            origin: std::time::Instant::now(),
            runtime: tokio::runtime::Handle::current(),
            state: Mutex::new(state),
            alarm: Arc::clone(&alarm),
            info: tokio::sync::OnceCell::new(),
            last_auth_failure: Mutex::new(None),
            auth_told: Mutex::new(None),
        });
        inner
            .runtime
            .spawn(keep_time(Arc::downgrade(&inner), alarm));
        Ok(Self { inner })
    }

    /// Executes one effect of a volume.
    pub async fn execute(&self, request: StoreRequest<Bytes>) -> Outcome<Bytes> {
        self.execute_cancellable(request).1.await
    }

    /// Executes one effect of a volume that may be cancelled by its ticket: see [`Client::cancel`].
    pub fn execute_cancellable(
        &self,
        request: StoreRequest<Bytes>,
    ) -> (
        Ticket,
        impl Future<Output = Outcome<Bytes>> + Send + 'static,
    ) {
        let ticket = self.inner.next_ticket();
        let inner = Arc::clone(&self.inner);
        (ticket, async move { inner.execute(ticket, request).await })
    }

    /// The result of that question is not needed: a read ends at once, a write goes on.
    pub fn cancel(&self, ticket: Ticket) {
        self.inner.run(|machine, _| machine.handle_cancel(ticket));
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        self.inner.lock().counters.clone()
    }
}

/// Wakes the machine when it wants to be; ends with the client.
async fn keep_time(inner: Weak<Inner>, alarm: Arc<Notify>) {
    loop {
        let Some(due) = inner.upgrade().map(|inner| {
            let due = inner.lock().machine.poll_timeout();
            due.map(|at| inner.origin + std::time::Duration::from_nanos(at.0))
        }) else {
            return;
        };
        let woken = alarm.notified();
        let Some(due) = due else {
            woken.await;
            continue;
        };
        tokio::select! {
            () = woken => {}
            () = tokio::time::sleep_until(due.into()) => {
                if let Some(inner) = inner.upgrade() {
                    inner.run(StoreMachine::handle_timeout);
                }
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.alarm.notify_one();
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic half-way runs under the lock but the machine, whose broken invariant is a bug anyway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Instant {
        Instant(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn next_ticket(&self) -> Ticket {
        let mut state = self.lock();
        state.ticket_count += 1;
        Ticket(state.ticket_count)
    }

    /// Tells the machine a fact and starts what follows from it.
    fn run(self: &Arc<Self>, tell: impl FnOnce(&mut StoreMachine<Bytes, Decoded>, Instant)) {
        let mut state = self.lock();
        // Read under the lock: time never runs backwards for the machine.
        let now = self.now();
        let before = state.machine.poll_timeout();
        tell(&mut state.machine, now);
        while let Some(action) = state.machine.poll_action() {
            self.start(&mut state, action);
        }
        if state.machine.poll_timeout() != before {
            self.alarm.notify_one();
        }
    }

    fn start(self: &Arc<Self>, state: &mut State, action: Action<Bytes, Decoded>) {
        match action {
            Action::Send(request) => {
                let (call, method) = (request.call, request.method);
                let (want, expected) = state
                    .waiters
                    .get(&request.ticket)
                    .map_or((Want::Nothing, None), |w| (w.want.clone(), w.expected));
                let Some(session) = state.sessions.get(&request.token).cloned() else {
                    return;
                };
                if let Some((_, len)) = &request.body {
                    state.counters.bytes_sent += len;
                }
                let inner = Arc::clone(self);
                let task = self.runtime.spawn(async move {
                    inner.exchange(request, &session, want, expected).await;
                });
                state.calls.insert(call, (method, task.abort_handle()));
            }
            Action::Abandon(call) => {
                if let Some((method, task)) = state.calls.remove(&call) {
                    task.abort();
                    *state.counters.exchanges.entry((method, 0)).or_default() += 1;
                }
            }
            Action::Authenticate => {
                state.counters.authentications += 1;
                let inner = Arc::clone(self);
                self.runtime
                    .spawn(async move { inner.authenticate().await });
            }
            Action::Finish(ticket, end) => {
                let Some(waiter) = state.waiters.remove(&ticket) else {
                    return;
                };
                if let Err(failure) = &end {
                    log_failure(&waiter.place, failure);
                }
                // Who asked may have gone away; then nobody needs it.
                let _ = waiter.reply.send(end);
            }
        }
    }

    async fn authenticate(self: Arc<Self>) {
        let config = &self.config;
        let result =
            auth::authenticate(self.http.fresh(), &config.credentials, config.auth_timeout).await;
        let told = match result {
            Ok(session) => {
                let life = session.life;
                *self
                    .last_auth_failure
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = None;
                let mut state = self.lock();
                state.session_count += 1;
                let id = TokenId(state.session_count);
                state.sessions.insert(id, Arc::new(session));
                // Exchanges of the last token may still be starting; older ones are not.
                while state.sessions.len() > 2 {
                    state.sessions.pop_first();
                }
                Ok(life)
            }
            Err(failure) => {
                self.tell_auth_failure(&failure);
                let error: AuthError = failure.error();
                *self
                    .last_auth_failure
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Some(failure);
                Err(error)
            }
        };
        self.run(|machine, now| machine.handle_authenticated(now, told));
    }

    /// Once for each reason, and again every so often while it lasts: it is asked for every few seconds.
    fn tell_auth_failure(&self, failure: &AuthFailure) {
        let last = self.last_auth_failure.lock();
        let is_new = last.unwrap_or_else(PoisonError::into_inner).as_ref() != Some(failure);
        let mut told = self
            .auth_told
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        if is_new || told.is_none_or(|at| now.since(at) >= TELL_AGAIN) {
            *told = Some(now);
            tracing::warn!(reason = %failure, "no token from the identity service");
        } else {
            tracing::debug!(reason = %failure, "no token from the identity service");
        }
    }

    async fn exchange(
        self: Arc<Self>,
        request: HttpRequest<Bytes>,
        session: &Session,
        want: Want,
        expected: Option<u64>,
    ) {
        let started = self.now();
        let received = self
            .http
            .exchange(&request, &session.storage_url, &session.token, expected)
            .await;
        let status = received.as_ref().map_or(0, |r| r.status);
        tracing::debug!(
            verb = request.method.as_str(),
            path = request.path,
            status,
            broken = received.as_ref().err().map(tracing::field::debug),
            millis = u64::try_from(self.now().since(started).as_millis()).unwrap_or(u64::MAX),
            "exchange"
        );
        {
            let mut state = self.lock();
            *state
                .counters
                .exchanges
                .entry((request.method, status))
                .or_default() += 1;
            state.counters.bytes_received += received.as_ref().map_or(0, |r| r.body.len() as u64);
        }
        let answer = match received {
            Ok(received) => self.read(received, want, request.method).await,
            Err(lost) => Err(lost.broken),
        };
        self.lock().calls.remove(&request.call);
        self.run(|machine, now| machine.handle_answer(now, request.call, answer));
    }

    /// Decodes and checks what came.
    async fn read(
        self: &Arc<Self>,
        received: Received,
        want: Want,
        method: Method,
    ) -> Result<HttpAnswer<Decoded>, Broken> {
        let Received {
            status,
            headers,
            body,
        } = received;
        let body_len = body.len() as u64;
        let is_wanted = method == Method::Get && matches!(status, 200 | 206);
        let (body_md5, content) = if is_wanted {
            let is_large = body_len >= BLOCKING_BYTES;
            let inner = Arc::clone(self);
            let work = move || inner.decode(status, body, &want);
            if is_large {
                self.runtime
                    .spawn_blocking(work)
                    .await
                    .map_err(|_| Broken::Protocol)?
            } else {
                work()
            }
        } else {
            (None, Content::Ignored)
        };
        Ok(HttpAnswer {
            status,
            headers,
            body_len,
            body_md5,
            content,
        })
    }

    fn decode(&self, status: u16, body: Bytes, want: &Want) -> (Option<Etag>, Content<Decoded>) {
        let page = |rows: Option<Decoded>| (None, rows.map_or(Content::Damaged, Content::Good));
        match want {
            Want::Nothing => (None, Content::Ignored),
            Want::Objects => page(listing::parse_objects(&body).map(Decoded::Objects)),
            Want::Containers => page(listing::parse_containers(&body).map(Decoded::Containers)),
            Want::Raw => (Some(md5_of(&body)), Content::Good(Decoded::Raw(body))),
            Want::Object(request) => {
                // A range has no MD5 of its own; the sums inside guard it.
                let md5 = (status == 200).then(|| md5_of(&body));
                let content = match self.codec.decode(request, body) {
                    Content::Good(outcome) => Content::Good(Decoded::Outcome(outcome)),
                    Content::Damaged => Content::Damaged,
                    Content::TooNew => Content::TooNew,
                    Content::Ignored => Content::Ignored,
                };
                (md5, content)
            }
        }
    }

    /// Asks and waits for the end.
    async fn ask(
        self: &Arc<Self>,
        ticket: Ticket,
        ask: Ask<Bytes>,
        want: Want,
        expected: Option<u64>,
    ) -> End {
        let (reply, end) = oneshot::channel();
        let place = ask.place();
        self.lock().waiters.insert(
            ticket,
            Waiter {
                want,
                expected,
                place,
                reply,
            },
        );
        self.run(|machine, now| machine.handle_ask(now, ticket, ask));
        // The machine finishes every question; only the end of the runtime drops one.
        end.await.unwrap_or(Err(Failure {
            error: StoreError::Unavailable,
            cause: crate::exchange::Cause::Cancelled,
            sent: 0,
        }))
    }

    async fn execute(
        self: Arc<Self>,
        ticket: Ticket,
        request: StoreRequest<Bytes>,
    ) -> Outcome<Bytes> {
        let (encoded, receipt) = match &request {
            StoreRequest::Put { body, .. } => {
                let (encoded, receipt) = self.encode(body).await;
                (Some(encoded), receipt)
            }
            _ => (None, Receipt::default()),
        };
        let prefix = &self.config.prefix;
        let ask = Ask::new(prefix, &request, |_| {
            encoded.unwrap_or_else(|| seal(Bytes::new()))
        });
        let (want, expected) = match request {
            StoreRequest::Get(get) => {
                let len = get.range.as_ref().map(|r| r.end.saturating_sub(r.start));
                (Want::Object(Arc::new(get)), len)
            }
            StoreRequest::List { .. } => (Want::Objects, None),
            _ => (Want::Nothing, None),
        };
        match self.ask(ticket, ask, want, expected).await {
            Ok(Success::Done | Success::Stats { .. }) => Outcome::Done,
            Ok(Success::Put) => Outcome::Put(receipt),
            Ok(Success::Exists) => Outcome::Exists,
            Ok(Success::Read(Decoded::Outcome(outcome))) => outcome,
            Ok(Success::Read(Decoded::Objects(rows))) => {
                let row = |r: ObjectRow| ListRow {
                    modified: r.modified(),
                    name: r.name,
                    bytes: ByteCount(r.bytes),
                };
                Outcome::Names(rows.into_iter().map(row).collect())
            }
            Ok(Success::Read(Decoded::Raw(_) | Decoded::Containers(_))) => {
                Outcome::Store(StoreError::Damaged)
            }
            Err(failure) => Outcome::Store(failure.error),
        }
    }

    async fn encode(self: &Arc<Self>, body: &Body<Bytes>) -> (Encoded<Bytes>, Receipt) {
        let is_small = matches!(body, Body::Superblock(_) | Body::Token(_) | Body::Door);
        let inner = Arc::clone(self);
        let body = body.clone();
        let work = move || {
            let (bytes, receipt) = inner.codec.encode(&body);
            (seal(bytes), receipt)
        };
        if is_small {
            return work();
        }
        match self.runtime.spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is ending: nothing will be sent.
            Err(_) => (seal(Bytes::new()), Receipt::default()),
        }
    }
}

fn md5_of(bytes: &[u8]) -> Etag {
    Etag(md5::Md5::digest(bytes).into())
}

fn seal(body: Bytes) -> Encoded<Bytes> {
    Encoded {
        len: body.len() as u64,
        etag: md5_of(&body),
        body,
    }
}

/// An absence or a lost race is an answer; the rest a person may want to see.
fn log_failure(place: &str, failure: &Failure) {
    match failure.error {
        StoreError::Absent | StoreError::Exists => {
            tracing::debug!(place, end = %failure, "store");
        }
        StoreError::Damaged | StoreError::TooNew => {
            tracing::error!(place, end = %failure, "store");
        }
        _ => tracing::warn!(place, end = %failure, "store"),
    }
}
