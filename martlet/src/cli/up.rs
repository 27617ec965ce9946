//! `martlet up` and `martlet serve`: the daemon.

use super::volume::{open_image, spooled};
use super::{Asked, Common, Request, answer, progress, volume};
use crate::admin;
use crate::front::IscsiFront;
use crate::host::{Host, Known, Load, Opened, image_report};
use crate::image;
use crate::report::{Exit, Report, Result};
use clap::Args;
use engine::Wish;
use engine::effect::Gate;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// The line that says "ready" waits at most so long for volumes.
const READY: Duration = Duration::from_secs(20);

/// Snapshots that could not be served for lack of the store are tried again so much later.
const AGAIN: Duration = Duration::from_secs(5);

/// Between two looks at the containers that erased volumes left.
const SWEEP: Duration = Duration::from_secs(600);

/// Size of the volume that `up` makes when no image is named.
const DEMO_BYTES: u64 = 1 << 30;

/// `up [IMAGE]`.
#[derive(Args, Debug, Clone, Serialize, Deserialize)]
pub struct Up {
    /// A raw or qcow2 image. Without one: an empty volume named demo
    pub image: Option<String>,
    /// The volume's name. Default: the image's file name
    #[arg(long)]
    pub name: Option<String>,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
}

/// `serve`.
#[derive(Args, Debug, Clone)]
pub struct Serve {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Serve each snapshot, too, write-protected, as …:NAME:SNAP
    #[arg(long)]
    pub snapshots: bool,
    /// Publish what is only here before the stop
    #[arg(long)]
    pub publish_on_stop: bool,
}

impl Up {
    pub(super) fn open_file(&self) -> Result<Option<File>> {
        self.image.as_deref().map(open_image).transpose()
    }

    fn volume_name(&self) -> Result<String> {
        let name = match (&self.name, &self.image) {
            (Some(name), _) => name.clone(),
            (None, None) => "demo".to_owned(),
            (None, Some(image)) => name_of(image),
        };
        crate::host::check_name(&name).map_err(|r| r.help("name the volume with --name"))?;
        Ok(name)
    }

    /// Has the volume there: imported or made unless it is.
    pub(super) async fn provide(self, mut asked: Asked) -> Result<Value> {
        let host = Arc::clone(&asked.host);
        let name = self.volume_name()?;
        let here = host.here();
        let mut known = here.iter().filter(|k| *k.container.name == *name);
        let document = match known.next() {
            Some(known) if !known.unborn => {
                let driver = host.start(&known.container)?;
                let geometry = driver.geometry().await;
                let geometry = geometry.map_err(|e| crate::host::stopped(&known.container, e))?;
                json!({
                    "volume": name,
                    "id": known.container.id.to_string(),
                    "size_bytes": geometry.capacity_bytes().0,
                    "existed": true,
                })
            }
            _ => {
                host.name_is_free(&name).await?;
                let load = match asked.file.take() {
                    None => None,
                    Some(file) => {
                        let image = self.image.clone().unwrap_or_default();
                        let file = spooled(&host, file).await?;
                        let source = image::open(file, None);
                        let source = source.map_err(|e| image_report(&image, &e))?;
                        Some(Load {
                            source,
                            name: image,
                        })
                    }
                };
                let size = load.as_ref().map_or(DEMO_BYTES, |l| l.source.size());
                let spec = volume::spec(size, &volume::Shape::default())?;
                let container = host.draw(&name)?;
                volume::born(&asked, &container, spec, load).await?
            }
        };
        let target = host
            .here()
            .iter()
            .find(|k| *k.container.name == *name)
            .map(|k| host.target_name(&k.container));
        let mut document = document;
        if let Some(map) = document.as_object_mut() {
            map.insert("target".into(), json!(target));
            map.insert("listen".into(), json!(host.listen_address()));
        }
        Ok(document)
    }
}

/// A volume's name from a file's: its stem in lower case, anything else a `-`.
fn name_of(image: &str) -> String {
    let stem = std::path::Path::new(image).file_stem();
    let stem = stem.map(|s| s.to_string_lossy().to_ascii_lowercase());
    let name: String = stem
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(63)
        .collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "demo" } else { name }.to_owned()
}

/// How to connect.
pub(super) fn show(document: &Value) -> String {
    let listen = answer::text(document, "listen");
    let target = answer::text(document, "target");
    let (host, port) = listen.rsplit_once(':').unwrap_or((&listen, "3260"));
    let size = answer::size(document, "size_bytes");
    let volume = answer::text(document, "volume");
    format!(
        "volume {volume} ({size}) is served at {listen} as {target}

  look     qemu-img info iscsi://{listen}/{target}/0
           iscsi-ls iscsi://{listen}/
  boot     qemu-system-x86_64 -m 1G -drive file=iscsi://{listen}/{target}/0,format=raw,if=virtio
  Linux    iscsiadm -m discovery -t sendtargets -p {listen}
           iscsiadm -m node -T {target} -p {listen} --login
  Windows  iscsicli QAddTargetPortal {host} {port}
           iscsicli QLoginTarget {target}
"
    )
}

/// `up`: provides the volume, then serves.
pub(super) async fn up(common: &Common, up: Up) -> Result<()> {
    let path = super::state_path(common)?;
    let file = up.open_file()?;
    let request = Request::Up(up.clone());
    let listener = progress::listener(common);
    if let Some(daemon) = admin::connect(&path) {
        let document = tokio::task::block_in_place(|| daemon.ask(&request, file, &listener))?;
        return super::print(common, &request, &document);
    }
    let daemon = Daemon::start(common, up.listen.as_deref(), false, true).await?;
    let asked = Asked {
        host: Arc::clone(&daemon.host),
        file,
        listener,
    };
    let mut stop = Stop::new()?;
    let provided = tokio::select! {
        provided = request.clone().run(asked) => Some(provided?),
        () = stop.wait() => None,
    };
    if let Some(document) = provided {
        super::print(common, &request, &document)?;
        // Who pipes the answer wants it now.
        let _ = std::io::stdout().flush();
        stop.wait().await;
    }
    daemon.stop(false).await;
    Ok(())
}

/// `serve`.
pub(super) async fn serve(common: &Common, serve: Serve) -> Result<()> {
    let mut stop = Stop::new()?;
    let daemon = Daemon::start(common, serve.listen.as_deref(), serve.snapshots, false).await?;
    daemon.say_ready();
    stop.wait().await;
    daemon.stop(serve.publish_on_stop).await;
    Ok(())
}

/// SIGTERM and SIGINT.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> Result<Self> {
        let refused = |error| Report::new(Exit::Unexpected, "SIGNALS", "no signals").cause(error);
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(refused)?,
            interrupt: signal(SignalKind::interrupt()).map_err(refused)?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A process that serves its state directory's volumes.
struct Daemon {
    host: Arc<Host>,
    front: Arc<IscsiFront>,
}

impl Daemon {
    /// Opens the listed volumes and listens. `make`: as for [`super::open`]. Ready when this returns; volumes that need the store open behind it.
    async fn start(
        common: &Common,
        listen: Option<&str>,
        snapshots: bool,
        make: bool,
    ) -> Result<Self> {
        let config = super::config(common)?;
        let listen = listen.unwrap_or(&config.iscsi.listen);
        let front = IscsiFront::bind(listen).await?;
        let host = super::open(common, config, Some(front.route()), make)?;
        host.set_front(Arc::clone(&front) as Arc<dyn crate::host::Front>);
        if snapshots {
            host.serve_snapshots();
        }
        let mut opening = JoinSet::new();
        for known in host.here() {
            opening.spawn(open_volume(Arc::clone(&host), known));
        }
        tokio::spawn(sweep(Arc::downgrade(&host)));
        admin::listen(&host).map_err(|error| {
            Report::new(Exit::Unexpected, "ADMIN", "the admin socket cannot be made").cause(error)
        })?;
        front.start();
        // Initiators that come before their volume is open are told to come back later; who waits for the line below
        // need not. A volume that has to wait for the store keeps nobody waiting for long.
        let _ = tokio::time::timeout(READY, opening_all(&mut opening)).await;
        opening.detach_all();
        Ok(Self { host, front })
    }

    /// For people, and for scripts that wait.
    fn say_ready(&self) {
        let running = self.host.running().into_iter();
        let open = running.filter(|driver| *driver.gate().borrow() == Gate::Open);
        eprintln!("ready: {} volumes at {}", open.count(), self.front.bound());
    }

    /// The clean stop: no new commands, then everything that was answered is synced.
    async fn stop(self, publish: bool) {
        self.front.stop().await;
        if publish {
            for driver in self.host.running() {
                if let Err(report) = self.host.ask(&driver, Wish::Checkpoint).await {
                    tracing::warn!(volume = %driver.container(), %report, "not published");
                }
            }
        }
        self.host.flush_all().await;
        eprintln!("stopped: what was written is safe here");
    }
}

/// Removes what erased volumes left, as long as the daemon runs.
async fn sweep(host: Weak<Host>) {
    while let Some(host) = host.upgrade() {
        let gap = host.config().limits().min_age;
        if let Err(report) = host.sweep_containers(false, gap).await {
            tracing::warn!("containers of erased volumes stay for now: {report}");
        }
        drop(host);
        tokio::time::sleep(SWEEP).await;
    }
}

async fn opening_all(opening: &mut JoinSet<()>) {
    while opening.join_next().await.is_some() {}
}

/// Opens a listed volume. One that refuses stays offline; the others live.
async fn open_volume(host: Arc<Host>, known: Known) {
    let container = known.container;
    let offered = async {
        if known.unborn {
            return match host.settle(&container).await? {
                Opened::Gone => {
                    tracing::warn!(volume = %container, "its import had been interrupted: erased");
                    Ok(())
                }
                Opened::Serving(_) => host.offer(&container).await,
            };
        }
        host.start(&container)?;
        // The shape is known from the local note, long before the store answers; the settings when it serves.
        let (announced, opened) = tokio::join!(host.announce(&container), host.open(&container));
        if let Opened::Gone = opened? {
            tracing::warn!(volume = %container, "it is deleted");
            host.withdraw(&container).await;
            return Ok(());
        }
        announced?;
        host.offer(&container).await?;
        while let Err(report) = host.offer_snapshots(&container).await {
            if report.exit != Exit::Unreachable {
                return Err(report);
            }
            tracing::warn!(volume = %container, "its snapshots are not served yet: {report}");
            tokio::time::sleep(AGAIN).await;
        }
        Ok(())
    };
    if let Err(report) = offered.await {
        tracing::error!(volume = %container, "not served: {report}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_files() {
        for (image, name) in [
            ("/images/Debian 12 (generic).qcow2", "debian-12--generic"),
            ("vm01.raw", "vm01"),
            ("disk", "disk"),
            ("-", "demo"),
            ("...", "demo"),
        ] {
            assert_eq!(name_of(image), name);
            assert!(crate::host::check_name(name).is_ok());
        }
    }
}
