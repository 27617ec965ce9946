//! Where objects are: a directory or Swift, behind one type of request.

mod codec;
pub mod dir;
mod swift;

pub use dir::DirStore;
pub use swift::SwiftStore;

use crate::config::Config;
use crate::report::{Exit, Report, Result};
use bytes::Bytes;
use engine::Outcome;
use engine::effect::{StoreError, StoreRequest};
use engine::ids::Container;
use std::path::Path;

/// Called once, from any thread, with what came of a request.
pub type Done = Box<dyn FnOnce(Outcome<Bytes>) + Send>;

/// A store of objects. A handle: clones share one.
#[derive(Clone, Debug)]
pub enum Store {
    /// A directory: the embedded default.
    Dir(DirStore),
    /// OpenStack Swift.
    Swift(SwiftStore),
}

impl Store {
    /// Opens the store that `place` names: `dir:PATH` or `swift:PREFIX`. Swift is not asked anything yet. `make`: a
    /// directory that is empty or does not exist becomes a store.
    ///
    /// # Errors
    ///
    /// Not a store's name; a directory that is no store; no credentials for Swift.
    pub fn open(place: &str, config: &Config, make: bool) -> Result<Self> {
        match place.split_once(':') {
            Some(("dir", path)) if !path.is_empty() => DirStore::open(Path::new(path), "", make)
                .map(Self::Dir)
                .map_err(|error| not_opened(place, path, &error)),
            Some(("swift", prefix)) => SwiftStore::open(prefix, config).map(Self::Swift),
            _ => Err(
                Report::new(Exit::Usage, "STORE", format!("{place:?} is no store"))
                    .help("dir:PATH or swift:PREFIX"),
            ),
        }
    }

    /// Carries out a request and calls `done` with its outcome, now or later.
    pub fn execute(
        &self,
        runtime: &tokio::runtime::Handle,
        request: StoreRequest<Bytes>,
        done: Done,
    ) {
        match self {
            Self::Dir(dir) => dir.execute(request, done),
            Self::Swift(swift) => {
                let swift = swift.clone();
                runtime.spawn(async move { done(swift.execute(request).await) });
            }
        }
    }

    /// Whether what was stored is found by every later read: nothing needs to be asked twice then.
    pub const fn is_consistent(&self) -> bool {
        matches!(self, Self::Dir(_))
    }

    /// Whether the store can be used now.
    ///
    /// # Errors
    ///
    /// It cannot be reached (exit 5), or denies us (exit 7).
    pub async fn check(&self) -> Result<()> {
        match self {
            Self::Dir(dir) => dir.containers().map(drop).map_err(|error| {
                let what = format!("the store {} cannot be used now", self.place());
                Report::new(Exit::Unreachable, "STORE-AWAY", what)
                    .cause(format!(
                        "its directory does not answer as a store ({error:?})"
                    ))
                    .help("is it mounted? then try again")
            }),
            Self::Swift(swift) => swift.check().await,
        }
    }

    /// Every volume's container in the store.
    ///
    /// # Errors
    ///
    /// The store does not answer, or denies us.
    pub async fn containers(&self) -> std::result::Result<Vec<Container>, StoreError> {
        match self {
            Self::Dir(dir) => dir.containers(),
            Self::Swift(swift) => swift.containers().await,
        }
    }

    /// Whether a listing of the container shows nothing. Swift's lags behind.
    ///
    /// # Errors
    ///
    /// There is no such container, or the store does not answer.
    pub async fn is_empty(&self, container: &Container) -> std::result::Result<bool, StoreError> {
        match self {
            Self::Dir(_) => Ok(true),
            Self::Swift(swift) => swift.is_empty(container).await,
        }
    }

    /// The store as the operator named it: `dir:PATH` or `swift:PREFIX`.
    pub fn place(&self) -> String {
        match self {
            Self::Dir(dir) => format!("dir:{}", dir.root().display()),
            Self::Swift(swift) => format!("swift:{}", swift.prefix()),
        }
    }
}

fn not_opened(place: &str, path: &str, error: &std::io::Error) -> Report {
    if error.kind() == std::io::ErrorKind::NotFound {
        let what = format!("the store {place} is not there");
        return Report::new(Exit::Unreachable, "STORE-AWAY", what)
            .cause(format!(
                "{path} is empty or does not exist: is its disk mounted?"
            ))
            .help("mount it and try again; a new store is made with its first volume: martlet up, martlet volume create");
    }
    let what = format!("the store {place} cannot be opened");
    Report::new(Exit::Usage, "STORE", what)
        .cause(error)
        .help("name a store's directory, or one that is empty or does not exist")
}
