//! Export: a volume's content, the present or a snapshot's, into an image.

use super::import::{for_each_part, image_report};
use super::{Host, Listener, Progress, verdict};
use crate::driver::{Driver, Guest};
use crate::image::{Qcow2Writer, RawWriter, StreamWriter, Target};
use crate::report::{Exit, Report, Result};
use bytes::Bytes;
use engine::command::Failure;
use engine::ids::Container;
use engine::table::types::Root;
use engine::units::{Extent, Geometry, LeafIndex};
use engine::{Command, Parts, Reply, Verdict, Wish};
use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of one read.
const READ_BYTES: u64 = 1 << 20;

/// Reads under way.
const READS: usize = 16;

/// A read that stays BUSY is given up after this.
const PATIENCE: Duration = Duration::from_secs(300);

/// Wait before a BUSY read is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// What is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExportFormat {
    /// The disk's bytes.
    Raw,
    /// QEMU's format.
    Qcow2,
}

/// Where content is read from, and what is known of it.
struct Origin {
    driver: Driver,
    geometry: Geometry,
    /// The version's root: what it does not list is a hole and need not be read.
    root: Option<Arc<Root>>,
}

/// Writes a volume's content into `file`. Returns the disk's size and the version read, if it is a committed one.
///
/// # Errors
///
/// No such snapshot; the content is damaged or not reachable; the file cannot be written.
pub async fn export(
    host: &Host,
    container: &Container,
    snapshot: Option<&str>,
    file: (File, String),
    format: ExportFormat,
    listener: &Listener,
) -> Result<(u64, Option<u64>)> {
    let (file, name) = file;
    let origin = origin(host, container, snapshot).await?;
    let size = origin.geometry.capacity_bytes().0;
    let mut target = target(file, format, size).map_err(|e| image_report(&name, &e))?;
    let failed = |error| image_report(&name, &error);
    let mut reads = spans(&origin);
    let mut under_way = VecDeque::new();
    loop {
        while under_way.len() < READS
            && let Some(extent) = reads.next()
        {
            let reading = read(host.guest.clone(), origin.driver.clone(), extent);
            under_way.push_back((extent, tokio::spawn(reading)));
        }
        let Some((extent, reading)) = under_way.pop_front() else {
            break;
        };
        let parts = reading.await.map_err(|error| {
            Report::new(Exit::Unexpected, "EXPORT", "a read stopped").cause(error)
        })??;
        let at = extent.start.0 * u64::from(origin.geometry.block_bytes);
        let written = tokio::task::block_in_place(|| {
            for_each_part(&parts, |offset, bytes| target.write(at + offset, bytes))
        });
        let count = written.map_err(failed)?;
        listener(Progress {
            what: "export",
            done: at + count.0,
            total: size,
        });
    }
    tokio::task::block_in_place(|| target.finish()).map_err(failed)?;
    Ok((size, origin.root.map(|root| root.name.version.0)))
}

async fn origin(host: &Host, container: &Container, snapshot: Option<&str>) -> Result<Origin> {
    let here = host.here();
    let here = here.iter().any(|k| k.container == *container && !k.unborn);
    if snapshot.is_none() && here {
        let driver = host.serving(container).await?;
        let status = driver.status().map_err(|e| super::stopped(container, e))?;
        let geometry = status.geometry.ok_or_else(|| {
            Report::new(
                Exit::Unexpected,
                "EXPORT",
                format!("the size of volume {} is not known", container.name),
            )
        })?;
        return Ok(Origin {
            driver,
            geometry,
            root: None,
        });
    }
    let driver = host.reader(container);
    let wish = Wish::OpenReader {
        snapshot: snapshot.map(str::to_owned),
    };
    match host.ask(&driver, wish).await? {
        Verdict::Reading(root) => Ok(Origin {
            driver,
            geometry: root.geometry,
            root: Some(root),
        }),
        other => Err(verdict::unexpected(container, &other)),
    }
}

fn target(
    file: File,
    format: ExportFormat,
    size: u64,
) -> std::result::Result<Box<dyn Target>, crate::image::ImageError> {
    let is_file = file.metadata()?.is_file();
    match format {
        ExportFormat::Qcow2 if !is_file => Err(crate::image::ImageError::Unsupported(
            "qcow2 into a pipe; name a file, or export raw".into(),
        )),
        ExportFormat::Qcow2 => {
            file.set_len(0)?;
            Ok(Box::new(Qcow2Writer::start(file, size)))
        }
        ExportFormat::Raw if is_file => {
            file.set_len(0)?;
            Ok(Box::new(RawWriter::start(file, size)?))
        }
        ExportFormat::Raw => Ok(Box::new(StreamWriter::start(
            std::io::BufWriter::with_capacity(1 << 20, file),
            size,
        ))),
    }
}

/// The extents to read, ascending. Leaves that the root does not list are left out: they are holes.
fn spans(origin: &Origin) -> impl Iterator<Item = Extent> + Send + use<> {
    let geometry = origin.geometry;
    let leaf_blocks = geometry.chunk_blocks() * u64::from(geometry.leaf_chunks);
    let leaves: Vec<LeafIndex> = match &origin.root {
        Some(root) => root.leaves.keys().copied().collect(),
        None => (0..geometry.leaf_count()).map(LeafIndex).collect(),
    };
    let step = READ_BYTES / u64::from(geometry.block_bytes);
    leaves.into_iter().flat_map(move |leaf| {
        let start = leaf.0 * leaf_blocks;
        let end = (start + leaf_blocks).min(geometry.capacity.0);
        (start..end)
            .step_by(usize::try_from(step).unwrap_or(1))
            .map(move |at| Extent::from_range(at..(at + step).min(end)))
    })
}

async fn read(guest: Guest, driver: Driver, extent: Extent) -> Result<Parts<Bytes>> {
    let name = driver.container().name.clone();
    let since = Instant::now();
    loop {
        match guest.ask(&driver, Command::Read(extent)).await {
            Reply::Read(parts) => return Ok(parts),
            Reply::Busy if since.elapsed() < PATIENCE => tokio::time::sleep(AGAIN).await,
            Reply::Busy => {
                return Err(Report::new(
                    Exit::Unreachable,
                    "STORE-AWAY",
                    format!("blocks {extent} of volume {name} could not be read"),
                )
                .cause("the store did not serve them within 5 minutes")
                .help("check that the store is up and reachable, then try again"));
            }
            Reply::Failed(Failure::Damaged { at }) => {
                return Err(Report::new(
                    Exit::Damaged,
                    "DAMAGED",
                    format!("block {at} of volume {name} is damaged or lost"),
                )
                .cause("what the store or the disk has there is not what was written")
                .help("the log names the object"));
            }
            reply => {
                return Err(Report::new(
                    Exit::Unexpected,
                    "READ",
                    format!("blocks {extent} of volume {name} could not be read"),
                )
                .cause(format!("{reply:?}")));
            }
        }
    }
}
