//! The iSCSI transport as this program's front: a target per volume, its backend the volume's driver.

mod unit;

use crate::clock::Clock;
use crate::driver::{Deliver, Driver};
use crate::host::{Front, Offer};
use crate::rate::Rates;
use crate::report::{Exit, Report, Result};
use engine::Wish;
use engine::effect::{Gate, GateReason};
use engine::ids::Container;
use engine::table::types::VolumeKind;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use transport_iscsi::net::{Backend, Limits, Server};
use transport_iscsi::target::{AddError, Credentials, Lookout, Target, TargetSpec, UnitSpec};
use unit::Unit;

/// Sessions of a target that is taken away end within this; then it is taken away all the same.
const WITHDRAW: Duration = Duration::from_secs(20);

/// The first login after idle waits at most so long for a look.
const LOGIN_WAIT: Duration = Duration::from_secs(3);

/// Between two looks whether they ended.
const LOOK: Duration = Duration::from_millis(20);

/// The portal and its targets.
#[derive(Debug)]
pub struct IscsiFront {
    server: Arc<Server>,
    address: SocketAddr,
    clock: Clock,
    listener: Mutex<Option<TcpListener>>,
    running: Mutex<Option<JoinHandle<()>>>,
    end: watch::Sender<bool>,
    /// By the target's name.
    offered: Mutex<BTreeMap<String, Offered>>,
}

#[derive(Debug)]
struct Offered {
    container: Container,
    target: Arc<Target>,
    unit: Arc<Unit>,
    /// Has the target's gate follow the volume's; `None`: it stays shut.
    gate: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Every change under these locks is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl IscsiFront {
    /// Binds the portal's address. Nobody is let in before [`IscsiFront::start`].
    ///
    /// # Errors
    ///
    /// Not an address (exit 2); it is taken (exit 6) or not ours.
    pub async fn bind(listen: &str) -> Result<Arc<Self>> {
        let refused = |error: std::io::Error| {
            let what = format!("cannot listen at {listen}");
            match error.kind() {
                std::io::ErrorKind::AddrInUse => Report::new(Exit::Refused, "PORT-IN-USE", what)
                    .cause(error)
                    .help("another target listens there; name another address with --listen"),
                std::io::ErrorKind::PermissionDenied => {
                    Report::new(Exit::Denied, "PORT", what).cause(error)
                }
                _ => Report::new(Exit::Usage, "ADDRESS", what)
                    .cause(error)
                    .help("for instance --listen 127.0.0.1:3260"),
            }
        };
        let listener = TcpListener::bind(listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Arc::new(Self {
            server: Server::new(Limits::default()),
            address,
            clock: Clock::start(),
            listener: Mutex::new(Some(listener)),
            running: Mutex::default(),
            end: watch::Sender::new(false),
            offered: Mutex::default(),
        }))
    }

    /// The way of replies back to connections.
    pub fn route(&self) -> Deliver {
        let router = self.server.router();
        Arc::new(move |tag, reply| router.deliver(tag, reply))
    }

    /// Lets initiators in.
    pub fn start(&self) {
        let Some(listener) = lock(&self.listener).take() else {
            return;
        };
        let mut end = self.end.subscribe();
        let server = Arc::clone(&self.server);
        *lock(&self.running) = Some(tokio::spawn(async move {
            let ended = async move {
                // A front that is gone has ended, too.
                let _ = end.wait_for(|end| *end).await;
            };
            if let Err(error) = server.run(listener, ended).await {
                tracing::error!(%error, "the listener failed: nobody can log in any more");
            }
        }));
    }

    /// Ends every session and waits for the last command.
    pub async fn stop(&self) {
        self.end.send_replace(true);
        let running = lock(&self.running).take();
        if let Some(running) = running
            && let Err(error) = running.await
        {
            tracing::error!(%error, "the listener stopped");
        }
    }

    /// The address that is listened at, with the port that the system chose.
    pub const fn bound(&self) -> SocketAddr {
        self.address
    }

    fn spec(offer: &Offer) -> TargetSpec {
        let credentials = offer.secret.as_ref().map(|secret| Credentials {
            user: secret.user.clone(),
            secret: secret.secret.clone().into_bytes(),
            mutual: secret
                .mutual
                .as_ref()
                .map(|(name, secret)| (name.clone(), secret.clone().into_bytes())),
        });
        TargetSpec {
            name: offer.target.clone(),
            credentials,
            initiators: offer.initiators.clone(),
            units: vec![UnitSpec {
                volume: offer.driver.container().id,
                block_bytes: offer.geometry.block_bytes,
                capacity: offer.geometry.capacity,
                read_only: offer.kind == VolumeKind::ReadOnly,
                removable: offer.kind == VolumeKind::Removable,
                instance: offer.instance,
            }],
            gate: if offer.is_open {
                *offer.driver.gate().borrow()
            } else {
                Gate::Closed(GateReason::NotServing)
            },
        }
    }

    fn remove(&self, name: &str) -> Option<Arc<Target>> {
        let offered = lock(&self.offered).remove(name)?;
        if let Some(gate) = &offered.gate {
            gate.abort();
        }
        self.server.remove(name)
    }

    /// The names of a volume's targets: its own and its snapshots'.
    fn names(&self, container: &Container) -> Vec<String> {
        let offered = lock(&self.offered);
        let of = offered.iter().filter(|(_, o)| o.container == *container);
        of.map(|(name, _)| name.clone()).collect()
    }
}

/// Has a target's gate follow its volume's, until either is gone.
async fn follow(mut gate: watch::Receiver<Gate>, target: Weak<Target>) {
    loop {
        let now = *gate.borrow_and_update();
        let Some(target) = target.upgrade() else {
            return;
        };
        if target.gate() != now {
            tracing::info!(target = target.spec().name, gate = ?now, "the gate moves");
            target.set_gate(now);
        }
        drop(target);
        if gate.changed().await.is_err() {
            return;
        }
    }
}

/// Has a volume look at its next door before the first login after idle is let in.
#[derive(Debug)]
struct Looker {
    driver: Driver,
    target: Weak<Target>,
    runtime: tokio::runtime::Handle,
}

impl Lookout for Looker {
    fn look(&self) {
        let (driver, target) = (self.driver.clone(), self.target.clone());
        self.runtime.spawn(async move {
            // No answer in time: served on, as the engine would (mode `available`). A stopped volume answers nothing.
            let _ = tokio::time::timeout(LOGIN_WAIT, driver.wish(Wish::Look)).await;
            let Some(target) = target.upgrade() else {
                return;
            };
            // Not by way of the task that follows the gate: the login must not overtake it.
            let gate = *driver.gate().borrow();
            if target.gate() != gate {
                target.set_gate(gate);
            }
            target.looked();
        });
    }
}

impl Front for IscsiFront {
    fn offer(&self, offer: Offer) -> Result<()> {
        let container = offer.driver.container().clone();
        let spec = Self::spec(&offer);
        let name = spec.name.clone();
        self.remove(&name);
        let gate = offer.is_open.then(|| offer.driver.gate());
        let unit = Arc::new(Unit::new(
            offer.driver,
            offer.geometry.block_bytes,
            self.clock,
            self.route(),
            offer.rates,
        ));
        let backend: Arc<dyn Backend> = Arc::clone(&unit) as Arc<dyn Backend>;
        let target = self.server.add(spec, vec![backend]).map_err(|error| {
            let what = format!("volume {} cannot be offered as {name}", container.name);
            let report = match error {
                AddError::NameTaken => Report::new(Exit::Exists, "TARGET-EXISTS", what),
                _ => Report::new(Exit::Usage, "TARGET", what),
            };
            report.cause(error)
        })?;
        target.set_lookout(Arc::new(Looker {
            driver: unit.driver().clone(),
            target: Arc::downgrade(&target),
            runtime: tokio::runtime::Handle::current(),
        }));
        let gate = gate.map(|gate| tokio::spawn(follow(gate, Arc::downgrade(&target))));
        let offered = Offered {
            container,
            target,
            unit,
            gate,
        };
        lock(&self.offered).insert(name, offered);
        Ok(())
    }

    fn set_rates(&self, container: &Container, rates: Rates) {
        let offered = lock(&self.offered);
        let of = offered.values().filter(|o| o.container == *container);
        of.for_each(|o| o.unit.set_rates(rates));
    }

    fn withdraw<'a>(
        &'a self,
        container: &'a Container,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let names = self.names(container);
            let targets: Vec<_> = names.iter().filter_map(|name| self.remove(name)).collect();
            let until = tokio::time::Instant::now() + WITHDRAW;
            let busy = || targets.iter().any(|target| target.session_count() > 0);
            while busy() && tokio::time::Instant::now() < until {
                tokio::time::sleep(LOOK).await;
            }
        })
    }

    fn offers(&self, target: &str) -> bool {
        lock(&self.offered).contains_key(target)
    }

    fn sessions(&self, container: &Container) -> usize {
        let offered = lock(&self.offered);
        let of = offered.values().filter(|o| o.container == *container);
        of.map(|o| o.target.session_count()).sum()
    }

    fn address(&self) -> String {
        self.address.to_string()
    }
}
