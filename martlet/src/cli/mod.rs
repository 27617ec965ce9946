//! The command line: words as typed → a request → run, here or in the daemon that holds the state directory → an answer.
//!
//! stdout carries the answer alone; progress, warnings and logs go to stderr.

mod answer;
pub mod gc;
mod logs;
mod man;
mod progress;
pub mod snapshot;
mod status;
mod up;
pub mod volume;

pub use answer::Answer;

use crate::admin;
use crate::config::Config;
use crate::disk::state::{StateDir, StateError};
use crate::driver::Deliver;
use crate::host::{Host, Listener, state_report};
use crate::report::{Exit, Report, Result};
use crate::store::Store;
use clap::{Args, CommandFactory, Parser, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Block volumes over iSCSI whose home is OpenStack Swift.
#[derive(Parser, Debug)]
#[command(name = "martlet", version, disable_help_subcommand = true)]
#[command(
    after_help = "NAME is a volume's name, or NAME.ID where two bear one name; @SNAP names a snapshot of it."
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options of every command.
#[derive(Args, Debug, Clone)]
pub struct Common {
    /// Where objects are: dir:PATH or swift:PREFIX. Default: a directory inside the state directory
    #[arg(long, global = true, value_name = "STORE")]
    pub store: Option<String>,
    /// The state directory: journal, cache, list of volumes. Default: $XDG_STATE_HOME/martlet, or /var/lib/martlet as root
    #[arg(long, global = true, value_name = "DIR", env = "MARTLET_STATE")]
    pub state: Option<PathBuf>,
    /// Configuration (TOML). Default: martlet.toml in the state directory, if there
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Sets a key of the configuration for this process
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Print one JSON document
    #[arg(long, global = true)]
    pub json: bool,
    /// Log more (-vv: everything)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Log errors alone
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// No progress on stderr
    #[arg(long, global = true)]
    pub no_progress: bool,
}

/// What can be done.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Import an image (or make a demo volume) unless it is there, serve it, say how to connect
    Up(up::Up),
    /// Serve this state directory's volumes until SIGTERM or SIGINT
    Serve(up::Serve),
    /// One screen: volumes, what is only here, the store, local space
    Status,
    /// Volumes
    #[command(subcommand)]
    Volume(volume::Verb),
    /// Snapshots
    #[command(subcommand)]
    Snapshot(snapshot::Verb),
    /// Delete what no version and no clone needs: what was superseded, and what interrupted uploads left
    Gc(gc::Gc),
    /// Print a completion script
    Completion {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page: martlet man | man -l -
    Man,
}

/// What goes to the daemon when there is one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// `status`.
    Status,
    /// `volume …`.
    Volume(volume::Verb),
    /// `snapshot …`.
    Snapshot(snapshot::Verb),
    /// `gc`.
    Gc(gc::Gc),
    /// The volume of `up`: import or make it unless it is there.
    Up(up::Up),
}

/// A request with what belongs to it.
pub struct Asked {
    /// The process that answers.
    pub host: Arc<Host>,
    /// The file that the verb reads or writes, opened by who asked.
    pub file: Option<File>,
    /// Hears of progress.
    pub listener: Listener,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl Request {
    /// Carries the request out. The same in the daemon and without one.
    ///
    /// # Errors
    ///
    /// What the verb says.
    pub async fn run(self, asked: Asked) -> Result<Value> {
        match self {
            Self::Status => status::run(&asked.host).await,
            Self::Volume(verb) => verb.run(asked).await,
            Self::Snapshot(verb) => verb.run(asked).await,
            Self::Gc(gc) => gc.run(asked).await,
            Self::Up(up) => up.provide(asked).await,
        }
    }

    /// The answer for people.
    fn show(&self, document: &Value) -> String {
        match self {
            Self::Status => status::show(document),
            Self::Volume(verb) => verb.show(document),
            Self::Snapshot(verb) => verb.show(document),
            Self::Gc(_) => gc::show(document),
            Self::Up(_) => up::show(document),
        }
    }

    /// Whether it cannot be carried out while the store is away. A daemon waits for it; a command says so at once.
    const fn needs_store(&self) -> bool {
        match self {
            Self::Volume(verb) => verb.needs_store(),
            Self::Snapshot(verb) => verb.needs_store(),
            Self::Gc(_) => true,
            Self::Status | Self::Up(_) => false,
        }
    }

    /// Whether it makes a volume out of nothing: then it may make the store, too.
    const fn makes_volume(&self) -> bool {
        match self {
            Self::Volume(verb) => verb.makes_volume(),
            Self::Up(_) => true,
            Self::Status | Self::Snapshot(_) | Self::Gc(_) => false,
        }
    }

    /// Opens the file that the verb names, with the rights of who asks.
    fn open_file(&self) -> Result<Option<File>> {
        match self {
            Self::Volume(verb) => verb.open_file(),
            Self::Up(up) => up.open_file(),
            Self::Status | Self::Snapshot(_) | Self::Gc(_) => Ok(None),
        }
    }
}

/// The program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Also help and version, which are answers and exit 0.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let json = cli.common.json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(report) => {
            if json {
                eprintln!("{}", report.json());
            } else {
                eprintln!("{report}");
            }
            ExitCode::from(u8::try_from(report.exit as i32).unwrap_or(1))
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let common = cli.common;
    let request = match cli.verb {
        Verb::Completion { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(shell, &mut command, "martlet", &mut std::io::stdout());
            return Ok(());
        }
        Verb::Man => {
            let page = man::page();
            return page.and_then(|page| answered(&page)).map_err(unwritten);
        }
        Verb::Serve(serve) => {
            let runtime = runtime()?;
            return runtime.block_on(up::serve(&common, serve));
        }
        Verb::Up(up) => {
            let runtime = runtime()?;
            return runtime.block_on(up::up(&common, up));
        }
        Verb::Status => Request::Status,
        Verb::Volume(verb) => Request::Volume(verb.prepare()?),
        Verb::Snapshot(verb) => Request::Snapshot(verb),
        Verb::Gc(gc) => Request::Gc(gc),
    };
    let runtime = runtime()?;
    let document = runtime.block_on(ask(&common, &request))?;
    // Work that nobody waits for must not keep the command from its end.
    runtime.shutdown_background();
    print(&common, &request, &document)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Report::new(Exit::Unexpected, "RUNTIME", "no threads").cause(error))
}

fn print(common: &Common, request: &Request, document: &Value) -> Result<()> {
    let text = if common.json {
        document.to_string()
    } else {
        request.show(document)
    };
    let text = text.trim_end();
    if text.is_empty() {
        return Ok(());
    }
    answered(format!("{text}\n").as_bytes()).map_err(unwritten)
}

/// Writes to stdout; whoever reads it may have had enough.
fn answered(bytes: &[u8]) -> std::io::Result<()> {
    match std::io::stdout().write_all(bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn unwritten(error: std::io::Error) -> Report {
    Report::new(Exit::Unexpected, "STDOUT", "the answer cannot be written").cause(error)
}

/// Has a request carried out by the daemon, or here if there is none.
async fn ask(common: &Common, request: &Request) -> Result<Value> {
    let path = state_path(common)?;
    let file = request.open_file()?;
    let listener = progress::listener(common);
    if let Some(daemon) = admin::connect(&path) {
        return tokio::task::block_in_place(|| daemon.ask(request, file, &listener));
    }
    let host = open(common, config(common)?, None, request.makes_volume())?;
    let asked = Asked {
        host: Arc::clone(&host),
        file,
        listener,
    };
    let work = async {
        if request.needs_store() {
            host.reach_store().await?;
        }
        request.clone().run(asked).await
    };
    let document = tokio::select! {
        document = work => document?,
        _ = tokio::signal::ctrl_c() => {
            return Err(Report::new(Exit::Interrupted, "INTERRUPTED", "interrupted"));
        }
    };
    host.flush_all().await;
    Ok(document)
}

/// The state directory that is meant.
fn state_path(common: &Common) -> Result<PathBuf> {
    if let Some(path) = &common.state {
        return Ok(path.clone());
    }
    if rustix::process::geteuid().is_root() && std::env::var_os("XDG_STATE_HOME").is_none() {
        return Ok("/var/lib/martlet".into());
    }
    let base = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".local/state")));
    base.map(|b| b.join("martlet")).ok_or_else(|| {
        Report::new(Exit::Usage, "STATE", "there is no state directory")
            .cause("neither --state nor $XDG_STATE_HOME nor $HOME is set")
            .help("name one with --state DIR")
    })
}

/// The configuration of this process. Also starts its logs.
fn config(common: &Common) -> Result<Config> {
    let path = state_path(common)?;
    let default = path.join("martlet.toml");
    let file = match &common.config {
        Some(file) => Some(file.clone()),
        None => default.is_file().then_some(default),
    };
    let config = Config::load(file.as_deref(), &common.settings)?;
    logs::start(common, &config)?;
    Ok(config)
}

/// Takes the state directory and brings up what every command needs. `make`: a directory that is named as the store and is
/// none yet becomes one.
///
/// One that holds volumes of this state directory is never made: its disk is not mounted.
fn open(common: &Common, config: Config, route: Option<Deliver>, make: bool) -> Result<Arc<Host>> {
    let path = state_path(common)?;
    raise_file_limit();
    let state = StateDir::open(&path).map_err(|e: StateError| state_report(&e))?;
    let place = state
        .which_store(common.store.as_deref())
        .map_err(|e| state_report(&e))?;
    let make = state.volumes().is_empty() && (make || place == state.inner_store());
    let store = Store::open(&place, &config, make)?;
    if common.store.is_some() {
        state.bind_store(&place).map_err(|e| state_report(&e))?;
    }
    let runtime = tokio::runtime::Handle::current();
    Ok(Arc::new(Host::new(state, config, store, runtime, route)?))
}

/// A volume keeps up to 32 journal files open; the soft limit of 1024 would end at 30 volumes.
fn raise_file_limit() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}
