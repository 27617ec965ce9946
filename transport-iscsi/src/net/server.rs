//! The server: targets with their backends, and the listener.

use super::connection;
use super::reply::{Backend, ReplyRouter};
use crate::keys::Offer;
use crate::target::{AddError, EndReason, Node, Target, TargetSpec};
use core::future::Future;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Bounds of the front. `docs/limits.md` says what each protects.
#[derive(Clone, Debug)]
pub struct Limits {
    /// What we want in negotiations.
    pub offer: Offer,
    /// Commands that a session may have here at once. 128; 1 to 4096.
    pub window: u32,
    /// Bytes of a session's commands under way and answers unsent. 32 MiB.
    pub inflight_bytes: u64,
    /// Connections at once; more are closed as they come. 512.
    pub connections: usize,
    /// A connection that has not logged in by then is closed. 15 s.
    pub login: Duration,
    /// Answers of an ended session that the peer does not take by then are dropped. 5 s.
    pub linger: Duration,
    /// Unacknowledged bytes or probes end a connection after this (TCP_USER_TIMEOUT). 30 s.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            offer: Offer::default(),
            window: 128,
            inflight_bytes: 32 << 20,
            connections: 512,
            login: Duration::from_secs(15),
            linger: Duration::from_secs(5),
            silence: Duration::from_secs(30),
        }
    }
}

pub(super) type Backends = Arc<[Arc<dyn Backend>]>;

/// Targets, their backends, and what serves them. Shared by all connections.
pub struct Server {
    pub(super) node: Arc<Node>,
    pub(super) router: ReplyRouter,
    pub(super) limits: Limits,
    backends: RwLock<BTreeMap<String, Backends>>,
}

impl core::fmt::Debug for Server {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Server")
            .field("node", &self.node)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// A server without targets.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            node: Arc::new(Node::default()),
            router: ReplyRouter::new(),
            limits,
            backends: RwLock::new(BTreeMap::new()),
        })
    }

    /// Brings replies to connections, from any thread.
    pub fn router(&self) -> ReplyRouter {
        self.router.clone()
    }

    /// Adds a target with one backend per unit, in the order of LUNs.
    ///
    /// # Errors
    ///
    /// See [`AddError`].
    pub fn add(
        &self,
        spec: TargetSpec,
        backends: Vec<Arc<dyn Backend>>,
    ) -> Result<Arc<Target>, AddError> {
        if spec.units.len() != backends.len() {
            return Err(AddError::BadUnit);
        }
        // A login finds a target only with its backends.
        let mut all = self
            .backends
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let target = self.node.add(spec)?;
        all.insert(target.spec().name.clone(), backends.into());
        Ok(target)
    }

    /// Removes a target and ends its sessions. Its backends are called until [`Target::session_count`] is 0.
    pub fn remove(&self, name: &str) -> Option<Arc<Target>> {
        let target = self.node.remove(name)?;
        let mut all = self
            .backends
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        all.remove(name);
        Some(target)
    }

    /// Every target.
    pub fn targets(&self) -> Vec<Arc<Target>> {
        self.node.all()
    }

    pub(super) fn backends_of(&self, name: &str) -> Option<Backends> {
        let all = self.backends.read().unwrap_or_else(PoisonError::into_inner);
        all.get(name).cloned()
    }

    /// Serves connections of `listener` until `end` completes; then ends every session and waits for the last command.
    ///
    /// # Errors
    ///
    /// The listener fails for good. Failures of single connections are logged.
    pub async fn run(
        self: Arc<Self>,
        listener: TcpListener,
        end: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let mut end = pin!(end);
        let mut tasks = JoinSet::new();
        let result = loop {
            let accepted = core::future::poll_fn(|cx| {
                if end.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                while let Poll::Ready(Some(_)) = tasks.poll_join_next(cx) {}
                listener.poll_accept(cx).map(Some)
            })
            .await;
            match accepted {
                None => break Ok(()),
                Some(Ok((stream, peer))) => {
                    if tasks.len() >= self.limits.connections {
                        tracing::warn!(%peer, limit = self.limits.connections, "too many connections");
                        continue;
                    }
                    tasks.spawn(connection::serve(self.clone(), stream, peer));
                }
                Some(Err(error)) => {
                    if !is_transient(&error) {
                        break Err(error);
                    }
                    tracing::warn!(%error, "a connection was not accepted");
                    // Out of descriptors or memory: the queue is still full, and asking at once would spin.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        };
        drop(listener);
        for target in self.node.all() {
            target.end_sessions(EndReason::Removed);
        }
        tasks.join_all().await;
        result
    }
}

/// `accept` also tells errors of the connection that it would have given, and of a full process. accept(2), "Errors".
fn is_transient(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported | io::ErrorKind::NotConnected
    )
}
