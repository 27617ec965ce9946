//! What is offered to initiators: the seam to a transport.

use super::{Host, state_report, stopped};
use crate::disk::state::Secret;
use crate::driver::Driver;
use crate::report::{Exit, Report, Result};
use engine::ids::Container;
use engine::table::types::VolumeKind;
use engine::units::Geometry;
use engine::{Verdict, Wish};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A volume as a transport offers it.
#[derive(Debug)]
pub struct Offer {
    /// The volume.
    pub driver: Driver,
    /// Its shape.
    pub geometry: Geometry,
    /// What kind of unit it is.
    pub kind: VolumeKind,
    /// The target's name.
    pub target: String,
    /// 0: the volume itself; a snapshot: its version + 1.
    pub instance: u32,
    /// CHAP, if initiators must prove who they are.
    pub secret: Option<Secret>,
    /// Initiators that may log in; empty: any.
    pub initiators: Vec<String>,
}

/// A transport: lets initiators reach volumes.
pub trait Front: Send + Sync + std::fmt::Debug {
    /// Offers a volume; one that is offered already is offered anew. Its gate follows the driver's from then on.
    ///
    /// # Errors
    ///
    /// Another volume has the target's name.
    fn offer(&self, offer: Offer) -> Result<()>;

    /// Ends the sessions of a volume and offers it no more. Resolves when no command of theirs is under way.
    fn withdraw<'a>(
        &'a self,
        container: &'a Container,
    ) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

    /// Whether a target of this name is offered.
    fn offers(&self, target: &str) -> bool;

    /// Sessions to a volume and its snapshots.
    fn sessions(&self, container: &Container) -> usize;

    /// The address that initiators reach.
    fn address(&self) -> String;
}

impl Host {
    /// Has initiators reach this host's volumes through `front`. Once per process.
    pub fn set_front(&self, front: Arc<dyn Front>) {
        // A second front would be a second daemon on one state directory.
        let _ = self.front.set(front);
    }

    /// Offers a running volume to initiators, if this process serves any.
    ///
    /// # Errors
    ///
    /// Its shape is not known yet, or another volume has its name.
    pub async fn offer(&self, container: &Container) -> Result<()> {
        let Some(front) = self.front.get() else {
            return Ok(());
        };
        let driver = self.start(container)?;
        let geometry = driver.geometry().await.map_err(|e| stopped(container, e))?;
        let listed = self.state().listed(container).ok_or_else(|| {
            Report::new(
                Exit::Unexpected,
                "OFFER",
                format!("volume {} is not listed here", container.name),
            )
        })?;
        front.offer(Offer {
            driver,
            geometry,
            kind: listed.kind,
            target: self.target_name(container),
            instance: 0,
            secret: self.secret(container)?,
            initiators: listed.initiators,
        })
    }

    /// Has this process serve snapshots too, each as a write-protected target of its own.
    pub fn serve_snapshots(&self) {
        self.snapshots.store(true, Ordering::Release);
    }

    /// Offers a volume's snapshots, if this process serves snapshots; those that are offered already stay.
    ///
    /// # Errors
    ///
    /// The store does not answer, or a snapshot cannot be read.
    pub async fn offer_snapshots(&self, container: &Container) -> Result<()> {
        let (Some(front), true) = (self.front.get(), self.snapshots.load(Ordering::Acquire)) else {
            return Ok(());
        };
        let Some(root) = self.inspect(container).await?.root else {
            return Ok(());
        };
        let listed = self.state().listed(container);
        for snapshot in &root.snapshots {
            let target = format!("{}:{}", self.target_name(container), snapshot.name);
            if front.offers(&target) {
                continue;
            }
            let driver = self.reader(container);
            let wish = Wish::OpenReader {
                snapshot: Some(snapshot.name.clone()),
            };
            let geometry = match self.ask(&driver, wish).await? {
                Verdict::Reading(root) => root.geometry,
                other => return Err(super::unexpected(container, &other)),
            };
            front.offer(Offer {
                driver,
                geometry,
                kind: VolumeKind::ReadOnly,
                target,
                instance: u32::try_from(snapshot.root.version.0 + 1).unwrap_or(u32::MAX),
                secret: self.secret(container)?,
                initiators: listed.clone().map_or_else(Vec::new, |l| l.initiators),
            })?;
        }
        Ok(())
    }

    /// Offers a volume to initiators no more.
    pub async fn withdraw(&self, container: &Container) {
        if let Some(front) = self.front.get() {
            front.withdraw(container).await;
        }
    }

    /// Sessions to a volume.
    pub fn sessions(&self, container: &Container) -> usize {
        self.front.get().map_or(0, |f| f.sessions(container))
    }

    /// The address that initiators reach; `None`: this process serves none.
    pub fn listen_address(&self) -> Option<String> {
        self.front.get().map(|f| f.address())
    }

    /// The target's name: by the volume's name, or by name and id where this host has two of one name.
    pub fn target_name(&self, container: &Container) -> String {
        let prefix = &self.config().iscsi.iqn_prefix;
        let here = self.state().volumes();
        // The one that came first keeps the short name.
        let first = here.iter().find(|l| l.container.name == container.name);
        match first {
            Some(first) if first.container != *container => format!("{prefix}:{container}"),
            _ => format!("{prefix}:{}", container.name),
        }
    }

    /// A volume's CHAP secrets.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub fn secret(&self, container: &Container) -> Result<Option<Secret>> {
        self.state().secret(container).map_err(|e| state_report(&e))
    }

    /// Sets a volume's CHAP secrets.
    ///
    /// # Errors
    ///
    /// They cannot be written.
    pub fn set_secret(&self, container: &Container, secret: Option<&Secret>) -> Result<()> {
        self.state()
            .set_secret(container, secret)
            .map_err(|e| state_report(&e))
    }

    /// Sets who may log in: names with commas between; empty: any.
    ///
    /// # Errors
    ///
    /// The list cannot be written.
    pub fn set_initiators(&self, container: &Container, names: &str) -> Result<()> {
        let names = names.split(',').filter(|n| !n.is_empty());
        let names: Vec<String> = names.map(str::to_owned).collect();
        self.state()
            .update(container, |listed| listed.initiators = names)
            .map_err(|e| state_report(&e))
    }
}
