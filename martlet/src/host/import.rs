//! Birth: a volume comes into the world, empty or with an image's content.
//!
//! Shape      id drawn and listed as unborn → `Birth` → `Load` per chunk, several under way → `FinishBirth` → listed as born.
//! Crash      before the last step: the list says unborn; the volume is served by nobody and shown as no volume.

use super::{Host, Listener, Progress, verdict};
use crate::driver::Driver;
use crate::image::{ImageError, Source, is_zero};
use crate::report::{Exit, Report, Result};
use bytes::Bytes;
use engine::command::{BirthSpec, Committed};
use engine::ids::Container;
use engine::units::{ByteCount, ChunkIndex, GRAIN_BYTES, Geometry};
use engine::{Part, Parts, Verdict, Wish};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Chunks that are read ahead of the uploads.
const READ_AHEAD: usize = 2;

/// Fewest loads that are kept under way, whatever the engine's credit says at a moment.
const LOADS_MIN: usize = 1;

/// Content for a volume that is being born.
pub struct Load {
    /// The image.
    pub source: Box<dyn Source>,
    /// Its name, for messages.
    pub name: String,
}

impl std::fmt::Debug for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Load({})", self.name)
    }
}

/// One chunk's content: whole grains, ascending.
struct Filled {
    chunk: ChunkIndex,
    grains: Vec<(u16, Parts<Bytes>)>,
    /// Bytes of the image up to this chunk's end.
    done: u64,
}

/// Bears a volume. It runs and serves in this process when this returns.
///
/// # Errors
///
/// The image cannot be read, or the engine refuses. The volume stays unborn then.
pub async fn bear(
    host: &Host,
    container: &Container,
    spec: BirthSpec,
    load: Option<Load>,
    listener: &Listener,
) -> Result<Committed> {
    let geometry = spec.geometry;
    // Listed first: whoever finds the container in the store later knows whose it is.
    host.enlist(container, true)?;
    host.set_kind(container, spec.kind)?;
    let driver = host.start(container)?;
    let born = match begin(host, &driver, spec).await {
        Ok(()) => fill(host, &driver, geometry, load, listener).await,
        Err(report) => Err(report),
    };
    match born {
        Ok(committed) => {
            host.enlist(container, false)?;
            Ok(committed)
        }
        Err(report) => {
            host.stop(container);
            Err(report)
        }
    }
}

async fn begin(host: &Host, driver: &Driver, spec: BirthSpec) -> Result<()> {
    match host.ask(driver, Wish::Birth(spec)).await? {
        Verdict::Begun => Ok(()),
        other => Err(verdict::unexpected(driver.container(), &other)),
    }
}

async fn fill(
    host: &Host,
    driver: &Driver,
    geometry: Geometry,
    load: Option<Load>,
    listener: &Listener,
) -> Result<Committed> {
    if let Some(load) = load {
        upload(host, driver, geometry, load, listener).await?;
    }
    finish(host, driver, None).await
}

/// Publishes version 0.
pub(super) async fn finish(
    host: &Host,
    driver: &Driver,
    base: Option<std::sync::Arc<engine::table::types::Root>>,
) -> Result<Committed> {
    match host.ask(driver, Wish::FinishBirth { base }).await? {
        Verdict::Born(committed) => Ok(committed),
        other => Err(verdict::unexpected(driver.container(), &other)),
    }
}

async fn upload(
    host: &Host,
    driver: &Driver,
    geometry: Geometry,
    load: Load,
    listener: &Listener,
) -> Result<()> {
    let total = geometry.capacity_bytes().0;
    let name = load.name.clone();
    let (tx, mut rx) = mpsc::channel(READ_AHEAD);
    let reading = tokio::task::spawn_blocking(move || read_all(load.source, geometry, &tx));
    let most = usize::try_from(host.config().limits().uploads).unwrap_or(usize::MAX);
    let mut under_way: JoinSet<Result<u64>> = JoinSet::new();
    let tell = |done| {
        listener(Progress {
            what: "import",
            done,
            total,
        });
    };
    while let Some(filled) = rx.recv().await {
        loop {
            let credit = usize::try_from(driver.loads()).unwrap_or(usize::MAX);
            let full = under_way.len() >= most || (credit == 0 && under_way.len() >= LOADS_MIN);
            if !full {
                break;
            }
            if let Some(loaded) = joined(under_way.join_next().await) {
                tell(loaded?);
            }
        }
        while let Some(loaded) = joined(under_way.try_join_next()) {
            tell(loaded?);
        }
        let Filled {
            chunk,
            grains,
            done,
        } = filled;
        let driver = driver.clone();
        under_way.spawn(async move {
            let container = driver.container().clone();
            let verdict = driver.wish(Wish::Load { chunk, grains }).await;
            let verdict = verdict.map_err(|e| super::stopped(&container, e))?;
            match verdict::good(&container, verdict)? {
                Verdict::Loaded => Ok(done),
                other => Err(verdict::unexpected(&container, &other)),
            }
        });
    }
    while let Some(loaded) = joined(under_way.join_next().await) {
        tell(loaded?);
    }
    let read = reading.await.map_err(|error| {
        Report::new(
            Exit::Unexpected,
            "IMPORT",
            format!("reading {name} stopped"),
        )
        .cause(error)
    })?;
    read.map_err(|error| image_report(&name, &error))
}

/// A task's result; a task that panicked is an error.
fn joined(
    result: Option<std::result::Result<Result<u64>, tokio::task::JoinError>>,
) -> Option<Result<u64>> {
    Some(result?.unwrap_or_else(|error| {
        Err(Report::new(Exit::Unexpected, "IMPORT", "an upload stopped").cause(error))
    }))
}

/// Reads the image chunk by chunk; grains of zeros are left out. Ends early when nobody listens any more.
fn read_all(
    mut source: Box<dyn Source>,
    geometry: Geometry,
    to: &mpsc::Sender<Filled>,
) -> std::result::Result<(), ImageError> {
    let grain = GRAIN_BYTES as usize;
    let size = source.size();
    let chunk_bytes = u64::from(geometry.chunk_grains) * u64::from(GRAIN_BYTES);
    let mut at = 0;
    while let Some(data) = source.next_data(at)? {
        let chunk = data.start / chunk_bytes;
        let start = chunk * chunk_bytes;
        let end = (start + chunk_bytes).min(size);
        at = end;
        // The last grain is filled up with zeros.
        let len = usize::try_from(end - start).map_err(std::io::Error::other)?;
        let mut bytes = vec![0; len.next_multiple_of(grain)];
        if let Some(into) = bytes.get_mut(..len) {
            source.read(start, into)?;
        }
        let bytes = Bytes::from(bytes);
        let mut grains = Vec::new();
        for (number, from) in (0..bytes.len()).step_by(grain).enumerate() {
            let piece = bytes.slice(from..from + grain);
            if !is_zero(&piece) {
                // At most 2048 grains in a chunk.
                let number = u16::try_from(number).unwrap_or(u16::MAX);
                grains.push((number, Parts::one(piece)));
            }
        }
        let filled = Filled {
            chunk: ChunkIndex(chunk),
            grains,
            done: end,
        };
        if !filled.grains.is_empty() && to.blocking_send(filled).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// An image that cannot be read or written.
pub(crate) fn image_report(name: &str, error: &ImageError) -> Report {
    let (exit, word) = match error {
        ImageError::Malformed(_) | ImageError::Truncated { .. } => (Exit::Damaged, "IMAGE-DAMAGED"),
        ImageError::Unsupported(_) => (Exit::Usage, "IMAGE-UNSUPPORTED"),
        ImageError::Io(error) if error.kind() == std::io::ErrorKind::NotFound => {
            (Exit::NotFound, "NO-FILE")
        }
        ImageError::Io(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            (Exit::Denied, "FILE")
        }
        ImageError::Io(_) => (Exit::Unexpected, "FILE"),
    };
    let report = Report::new(exit, word, format!("the image {name} cannot be used")).cause(error);
    match exit {
        Exit::Damaged => report.help(format!("check it: qemu-img check {name}")),
        _ => report,
    }
}

/// The bytes of a scatter list, zeros included.
pub(super) fn for_each_part(
    parts: &Parts<Bytes>,
    mut data: impl FnMut(u64, &Bytes) -> std::result::Result<(), ImageError>,
) -> std::result::Result<ByteCount, ImageError> {
    let mut at = 0;
    for part in &parts.0 {
        if let Part::Data(bytes) = part {
            data(at, bytes)?;
        }
        at += part.len().0;
    }
    Ok(ByteCount(at))
}
