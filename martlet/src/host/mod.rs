//! One process on one state directory: its volumes, and what an operator may ask of them.
//!
//! The same code runs in the daemon and in a command that finds no daemon; the daemon keeps its volumes open, the command
//! opens what it needs and leaves.

mod catalogue;
mod export;
mod front;
mod import;
mod leftover;
mod lineage;
mod verdict;

pub use catalogue::{Held, Known, Place};
pub use export::{ExportFormat, export};
pub use front::{CHAP_MUTUAL_USER, CHAP_USER, Front, INITIATORS, Offer, READ_RATE, WRITE_RATE};
pub(crate) use import::image_report;
pub use import::{Load, bear};
pub use leftover::Swept;
pub use lineage::clone;
pub(crate) use verdict::unexpected;
pub use verdict::{disk_report, refusal, state_report, store_report};

use crate::clock::Clock;
use crate::config::Config;
use crate::disk::state::StateDir;
use crate::disk::{Disk, Folder};
use crate::driver::{Deliver, Driver, Guest, Pool, World};
use crate::report::{Exit, Report, Result};
use crate::store::Store;
use bytes::Bytes;
use engine::command::Refusal;
use engine::ids::{Container, VolumeId};
use engine::table::types::VolumeKind;
use engine::time::Instant;
use engine::{Command, Life, Limits, Reply, Verdict, Wish};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Threads for the local disk: syncs of several volumes and cold reads overlap, and a scan keeps no sync waiting.
const FILE_THREADS: usize = 8;

/// News of long work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// What is being done.
    pub what: &'static str,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Hears of progress.
pub type Listener = Arc<dyn Fn(Progress) + Send + Sync>;

/// A process on a state directory.
#[derive(Debug)]
pub struct Host {
    state: StateDir,
    config: Config,
    world: World,
    guest: Guest,
    name: String,
    volumes: Mutex<BTreeMap<Container, Running>>,
    front: OnceLock<Arc<dyn Front>>,
    /// Snapshots are served, too.
    snapshots: AtomicBool,
    /// One sweep of leftover containers at a time.
    sweeping: tokio::sync::Mutex<()>,
    /// When the store was last asked for a sign of life, and what came.
    reached: tokio::sync::Mutex<Option<(Instant, Result<()>)>>,
}

/// A volume that runs in this process.
#[derive(Clone, Debug)]
struct Running {
    driver: Driver,
    /// Whoever opens the volume has it: one opens, the others find it open.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Host {
    /// Brings the parts together. `route`: the way back to connections, if there are any.
    ///
    /// # Errors
    ///
    /// The system refuses threads.
    pub fn new(
        state: StateDir,
        config: Config,
        store: Store,
        runtime: tokio::runtime::Handle,
        route: Option<Deliver>,
    ) -> Result<Self> {
        let guest = Guest::default();
        let own = guest.clone();
        let deliver: Deliver = Arc::new(move |tag, reply| match &route {
            Some(route) if !Guest::owns(tag) => route(tag, reply),
            _ => own.deliver(tag, reply),
        });
        let files = Pool::start("files", FILE_THREADS).map_err(|error| {
            Report::new(Exit::Unexpected, "THREADS", "no threads for the local disk").cause(error)
        })?;
        let world = World {
            clock: Clock::start(),
            files,
            store,
            deliver,
            runtime,
        };
        Ok(Self {
            state,
            config,
            world,
            guest,
            name: host_name(),
            volumes: Mutex::default(),
            front: OnceLock::new(),
            snapshots: AtomicBool::new(false),
            sweeping: tokio::sync::Mutex::default(),
            reached: tokio::sync::Mutex::default(),
        })
    }

    /// The state directory.
    pub const fn state(&self) -> &StateDir {
        &self.state
    }

    /// The configuration.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The store.
    pub const fn store(&self) -> &Store {
        &self.world.store
    }

    /// The process's clock.
    pub const fn clock(&self) -> Clock {
        self.world.clock
    }

    /// The volumes that run in this process.
    pub fn running(&self) -> Vec<Driver> {
        self.lock().values().map(|r| r.driver.clone()).collect()
    }

    /// The volume if it runs in this process.
    pub fn running_one(&self, container: &Container) -> Option<Driver> {
        self.lock().get(container).map(|r| r.driver.clone())
    }

    // Every change of the map is whole.
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Container, Running>> {
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limits(&self) -> Limits {
        let mut limits = self.config.limits();
        if self.world.store.is_consistent() && self.config.limits.absence_gap.is_none() {
            limits.absence_gap = Duration::ZERO;
        }
        limits
    }

    fn life(&self) -> Life {
        Life {
            host: self.name.clone(),
            state_dir: self.state.id(),
            seed: rand::random(),
            wall: self.world.clock.wall(),
        }
    }

    /// The running volume; started from its folder if it does not run. It is not asked for anything yet.
    ///
    /// # Errors
    ///
    /// Its folder cannot be opened.
    pub fn start(&self, container: &Container) -> Result<Driver> {
        Ok(self.start_running(container)?.driver)
    }

    fn start_running(&self, container: &Container) -> Result<Running> {
        let mut volumes = self.lock();
        if let Some(running) = volumes.get(container) {
            return Ok(running.clone());
        }
        let path = self.state.folder(container);
        let key = self.state.journal_key(container);
        let folder = Folder::open(&path, key).map_err(|error| {
            let what = format!("the folder {} cannot be opened", path.display());
            disk_report(&what, &error)
        })?;
        let driver = Driver::start(
            container.clone(),
            self.life(),
            self.limits(),
            Disk::Folder(folder),
            self.world.clone(),
        );
        let running = Running {
            driver,
            turn: Arc::default(),
        };
        volumes.insert(container.clone(), running.clone());
        Ok(running)
    }

    /// A volume that is only looked at, or read at a committed version: nothing local, nothing changed.
    pub fn reader(&self, container: &Container) -> Driver {
        Driver::start(
            container.clone(),
            self.life(),
            self.limits(),
            Disk::Nowhere,
            self.world.clone(),
        )
    }

    /// Stops driving a volume. Its folder stays.
    pub fn stop(&self, container: &Container) {
        self.lock().remove(container);
    }

    /// The running volume, serving; opened from this state directory if it does not run.
    ///
    /// # Errors
    ///
    /// It is not of this state directory (exit 6), or refuses.
    pub async fn serving(&self, container: &Container) -> Result<Driver> {
        let name = &container.name;
        match self.state.listed(container) {
            None => Err(Report::new(
                Exit::Refused,
                "NOT-ATTACHED",
                format!("volume {name} is not attached here"),
            )
            .help(format!("martlet volume attach {name}"))),
            Some(listed) if listed.unborn => Err(unborn(container)),
            Some(_) => match self.open(container).await? {
                Opened::Serving(driver) => Ok(driver),
                Opened::Gone => Err(refusal(container, &Refusal::NoSuchVolume)),
            },
        }
    }

    /// Opens a listed volume. One whose birth was interrupted is finished or erased.
    ///
    /// # Errors
    ///
    /// It refuses: held elsewhere, damaged, and so on.
    pub async fn open(&self, container: &Container) -> Result<Opened> {
        let Running { driver, turn } = self.start_running(container)?;
        let _turn = turn.lock().await;
        if driver.status().map_err(|e| stopped(container, e))?.serving {
            return Ok(Opened::Serving(driver));
        }
        match self.ask(&driver, Wish::Open).await? {
            Verdict::Erased => {
                drop(driver);
                self.forget(container)?;
                self.leave(container).await?;
                Ok(Opened::Gone)
            }
            Verdict::Attached { .. } => {
                if self.state.listed(container).is_some_and(|l| l.unborn) {
                    self.enlist(container, false)?;
                }
                Ok(Opened::Serving(driver))
            }
            other => Err(unexpected(container, &other)),
        }
    }

    /// Whether a listed volume was settled that an interrupted birth had left: it is gone, or it is there.
    ///
    /// # Errors
    ///
    /// Its birth goes on in this process (exit 6), or the store does not answer.
    pub async fn settle(&self, container: &Container) -> Result<Opened> {
        if self.running_one(container).is_some() {
            return Err(unborn(container));
        }
        let opened = self.open(container).await;
        if opened.is_err() {
            self.stop(container);
        }
        opened
    }

    /// Asks a volume; a refusal becomes an error.
    ///
    /// # Errors
    ///
    /// The verdict is a refusal, names another holder, or is not confirmed.
    pub async fn ask(&self, driver: &Driver, wish: Wish<Bytes>) -> Result<Verdict> {
        let container = driver.container();
        let verdict = driver.wish(wish).await.map_err(|e| stopped(container, e))?;
        verdict::good(container, verdict)
    }

    /// [`Host::ask`], and how long taking the wish held the volume's lock.
    ///
    /// # Errors
    ///
    /// As [`Host::ask`].
    pub async fn ask_timed(
        &self,
        driver: &Driver,
        wish: Wish<Bytes>,
    ) -> Result<(Verdict, Duration)> {
        let container = driver.container();
        let told = driver.wish_timed(wish).await;
        let (verdict, held) = told.map_err(|e| stopped(container, e))?;
        Ok((verdict::good(container, verdict)?, held))
    }

    /// Gives a volume a command of the program.
    pub async fn command(&self, driver: &Driver, command: Command<Bytes>) -> Reply<Bytes> {
        self.guest.ask(driver, command).await
    }

    /// Makes everything that was answered durable, in every volume: the clean stop.
    pub async fn flush_all(&self) {
        for driver in self.running() {
            match self.command(&driver, Command::Flush).await {
                Reply::Done { .. } => {}
                reply => {
                    tracing::warn!(volume = %driver.container(), ?reply, "the last flush was not confirmed");
                }
            }
        }
    }

    /// A new volume's name and id.
    ///
    /// # Errors
    ///
    /// Not a volume name (exit 2).
    pub fn draw(&self, name: &str) -> Result<Container> {
        check_name(name)?;
        Ok(Container::new(name, VolumeId(rand::random())))
    }

    /// Lists a volume in this state directory, born or unborn.
    ///
    /// # Errors
    ///
    /// The list cannot be written.
    pub fn enlist(&self, container: &Container, unborn: bool) -> Result<()> {
        self.state
            .update(container, |listed| listed.unborn = unborn)
            .map_err(|e| state_report(&e))
    }

    /// Remembers what kind of unit a listed volume is.
    ///
    /// # Errors
    ///
    /// The list cannot be written.
    pub fn set_kind(&self, container: &Container, kind: VolumeKind) -> Result<()> {
        self.state
            .update(container, |listed| listed.kind = kind)
            .map_err(|e| state_report(&e))
    }
}

/// What came of opening a volume.
#[derive(Clone, Debug)]
pub enum Opened {
    /// It serves.
    Serving(Driver),
    /// It was never born, or is deleted: nothing of it is left.
    Gone,
}

fn unborn(container: &Container) -> Report {
    Report::new(
        Exit::Refused,
        "UNBORN",
        format!("volume {} is not born yet", container.name),
    )
    .cause("its import has not ended")
    .help("martlet volume list --all")
}

/// Refuses what is no volume name.
///
/// # Errors
///
/// Exit 2.
pub fn check_name(name: &str) -> Result<()> {
    if Container::is_volume_name(name) {
        return Ok(());
    }
    Err(
        Report::new(Exit::Usage, "NAME", format!("{name:?} is no volume name"))
            .cause("names are 1 to 63 of a-z, 0-9 and -, with no - at either end"),
    )
}

pub(crate) fn stopped(container: &Container, error: crate::driver::Stopped) -> Report {
    Report::new(
        Exit::Unexpected,
        "STOPPED",
        format!("volume {} stopped", container.name),
    )
    .cause(error)
    .help("start the daemon again; the journal keeps what was answered")
}

/// This host's name, at most 63 bytes, for people only.
fn host_name() -> String {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy();
    name.chars()
        .filter(|c| c.is_ascii_graphic())
        .take(63)
        .collect()
}
