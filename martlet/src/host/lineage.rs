//! Clones: a child that begins as a version of its parent.
//!
//! Order      child's superblock, naming the parent → pin in a parent root that passed its look → child's born root.
//! Crash      in between: an unborn child and perhaps a pin; the parent's collector finds both.

use super::{Host, import, verdict};
use crate::disk::Folder;
use crate::driver::Driver;
use crate::report::Result;
use engine::command::{BirthSpec, Committed, Inspection};
use engine::ids::Container;
use engine::table::types::{Root, Superblock};
use engine::units::Geometry;
use engine::{Verdict, Wish};
use std::sync::Arc;

/// Makes `child` a clone of `parent`, of its snapshot or (without one) its present. It runs and serves in this process
/// when this returns.
///
/// # Errors
///
/// The parent is held elsewhere, has no such snapshot, or the engine refuses. The child stays unborn then.
pub async fn clone(
    host: &Host,
    parent: &Container,
    snapshot: Option<&str>,
    child: &Container,
) -> Result<Committed> {
    let Inspection {
        superblock, root, ..
    } = host.inspect(parent).await?;
    let (Some(superblock), Some(root)) = (superblock, root) else {
        return Err(super::refusal(
            parent,
            &engine::command::Refusal::NoSuchVolume,
        ));
    };
    let spec = spec(&superblock, &root, snapshot)?;
    host.enlist(child, true)?;
    host.set_kind(child, spec.kind)?;
    let driver = host.start(child)?;
    let born = bear(host, &driver, spec, parent, snapshot).await;
    match born {
        Ok(committed) => {
            host.enlist(child, false)?;
            Ok(committed)
        }
        Err(report) => {
            host.stop(child);
            Err(report)
        }
    }
}

fn spec(superblock: &Superblock, root: &Root, snapshot: Option<&str>) -> Result<BirthSpec> {
    let capacity = match snapshot {
        None => root.geometry.capacity,
        Some(name) => {
            let found = root.snapshots.iter().find(|s| s.name == name);
            let refused = engine::command::Refusal::NoSuchSnapshot;
            found
                .ok_or_else(|| super::refusal(&superblock.container, &refused))?
                .capacity
        }
    };
    Ok(BirthSpec {
        geometry: Geometry {
            capacity,
            ..superblock.geometry
        },
        kind: superblock.kind,
        parent: Some(superblock.container.clone()),
        attributes: Vec::new(),
    })
}

async fn bear(
    host: &Host,
    child: &Driver,
    spec: BirthSpec,
    parent: &Container,
    snapshot: Option<&str>,
) -> Result<Committed> {
    match host.ask(child, Wish::Birth(spec)).await? {
        Verdict::Begun => {}
        other => return Err(verdict::unexpected(child.container(), &other)),
    }
    let base = pin(host, parent, child.container(), snapshot).await?;
    import::finish(host, child, Some(base)).await
}

/// Has the parent keep a version for the child; the parent is attached for that if nobody holds it.
async fn pin(
    host: &Host,
    parent: &Container,
    child: &Container,
    snapshot: Option<&str>,
) -> Result<Arc<Root>> {
    let here = host
        .here()
        .iter()
        .any(|k| k.container == *parent && !k.unborn);
    if here {
        let driver = host.serving(parent).await?;
        return pin_in(host, &driver, child, snapshot).await;
    }
    // Listed while it is attached, so that a crash leaves a volume that the next start knows and can give up.
    host.enlist(parent, false)?;
    let driver = host.start(parent)?;
    let attach = Wish::Attach {
        take_over: false,
        accept_loss: false,
    };
    let attached = host.ask(&driver, attach).await;
    let pinned = match attached {
        Ok(_) => {
            let pinned = pin_in(host, &driver, child, snapshot).await;
            host.ask(&driver, Wish::Detach).await?;
            pinned
        }
        Err(report) => Err(report),
    };
    drop(driver);
    host.forget(parent)?;
    pinned
}

async fn pin_in(
    host: &Host,
    parent: &Driver,
    child: &Container,
    snapshot: Option<&str>,
) -> Result<Arc<Root>> {
    let wish = Wish::Pin {
        child: child.clone(),
        snapshot: snapshot.map(str::to_owned),
    };
    match host.ask(parent, wish).await? {
        Verdict::Pinned(root) => Ok(root),
        other => Err(verdict::unexpected(parent.container(), &other)),
    }
}

impl Host {
    /// Takes a volume that was given up off the list and removes its folder.
    ///
    /// # Errors
    ///
    /// The list cannot be written, or the folder not removed.
    pub fn forget(&self, container: &Container) -> Result<()> {
        if let Some(driver) = self.running_one(container) {
            driver.close_disk();
        }
        self.stop(container);
        self.state()
            .remove(container)
            .map_err(|e| super::state_report(&e))?;
        let folder = self.state().folder(container);
        Folder::remove(&folder).map_err(|error| {
            let what = format!("the folder {} cannot be removed", folder.display());
            super::disk_report(&what, &error)
        })
    }
}
