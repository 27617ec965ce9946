//! What is offered to initiators: the seam to a transport.

use super::{Host, state_report, stopped};
use crate::disk::state::Secret;
use crate::driver::Driver;
use crate::rate::Rates;
use crate::report::{Exit, Report, Result};
use engine::ids::Container;
use engine::table::types::VolumeKind;
use engine::units::Geometry;
use engine::{Verdict, Wish};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Attributes of a volume: what it is served under.
pub const INITIATORS: &str = "initiators";
/// The name that initiators prove.
pub const CHAP_USER: &str = "chap-user";
/// The name that the target proves.
pub const CHAP_MUTUAL_USER: &str = "chap-mutual-user";
/// Bytes per second in decimal digits.
pub const READ_RATE: &str = "read-rate";
/// Bytes per second in decimal digits.
pub const WRITE_RATE: &str = "write-rate";

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
    /// How fast guests may read and write.
    pub rates: Rates,
    /// Whether initiators are let in when the volume serves. Else they are told to come later: its settings may be stale.
    pub is_open: bool,
}

/// What a volume is served under, as its attributes say: they travel with it. Secrets do not.
#[derive(Debug, Default)]
struct Settings {
    secret: Option<Secret>,
    initiators: Vec<String>,
    rates: Rates,
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

    /// Changes how fast guests of a volume and its snapshots may read and write; sessions stay.
    fn set_rates(&self, container: &Container, rates: Rates);

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

    /// Has initiators find a volume that is not open yet: they are told to come later, and not that there is none, which
    /// they take for good.
    ///
    /// # Errors
    ///
    /// Its shape is not known yet, or another volume has its name.
    pub async fn announce(&self, container: &Container) -> Result<()> {
        self.offer_as(container, None).await
    }

    /// Offers a serving volume to initiators under what its attributes say, if this process serves any.
    ///
    /// # Errors
    ///
    /// Its shape is not known yet, another volume has its name, or it asks for a CHAP secret that is not here.
    pub async fn offer(&self, container: &Container) -> Result<()> {
        if self.front.get().is_none() {
            return Ok(());
        }
        let settings = match self.settings(container) {
            Ok(settings) => settings,
            Err(report) => {
                // Nobody is let in whom the volume may not want.
                self.announce(container).await?;
                return Err(report);
            }
        };
        self.offer_as(container, Some(settings)).await
    }

    async fn offer_as(&self, container: &Container, settings: Option<Settings>) -> Result<()> {
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
        let is_open = settings.is_some();
        let settings = settings.unwrap_or_default();
        front.offer(Offer {
            driver,
            geometry,
            kind: listed.kind,
            target: self.target_name(container),
            instance: 0,
            secret: settings.secret,
            initiators: settings.initiators,
            rates: settings.rates,
            is_open,
        })
    }

    /// What a volume is served under.
    fn settings(&self, container: &Container) -> Result<Settings> {
        let driver = self.start(container)?;
        let attributes = driver.attributes().map_err(|e| stopped(container, e))?;
        let text = |key: &str| {
            let value = attributes.get(key)?;
            std::str::from_utf8(value).ok().map(str::to_owned)
        };
        let rate = |key: &str| text(key)?.parse().ok();
        let initiators = text(INITIATORS).unwrap_or_default();
        let initiators = initiators.split(',').filter(|n| !n.is_empty());
        let here = self.secret(container)?;
        let lacking = |key: &str, user: &str| {
            let name = &container.name;
            Report::new(
                Exit::Refused,
                "NO-SECRET",
                format!(
                    "volume {name} lets nobody in: it has {key} {user}, whose secret is not here"
                ),
            )
            .cause("secrets stay in the state directory in which they were set")
            .help(format!(
                "martlet volume set {name} {key}={user} --secret-file FILE"
            ))
        };
        let secret = match text(CHAP_USER) {
            None => None,
            Some(user) => {
                let known = here.filter(|s| s.user == user);
                let mut secret = known.ok_or_else(|| lacking(CHAP_USER, &user))?;
                match text(CHAP_MUTUAL_USER) {
                    None => secret.mutual = None,
                    Some(name) if secret.mutual.as_ref().is_some_and(|(n, _)| *n == name) => {}
                    Some(name) => return Err(lacking(CHAP_MUTUAL_USER, &name)),
                }
                Some(secret)
            }
        };
        Ok(Settings {
            secret,
            initiators: initiators.map(str::to_owned).collect(),
            rates: Rates {
                read: rate(READ_RATE),
                write: rate(WRITE_RATE),
            },
        })
    }

    /// Puts the rates that a volume's attributes say in force; sessions stay.
    ///
    /// # Errors
    ///
    /// As [`Host::offer`].
    pub fn apply_rates(&self, container: &Container) -> Result<()> {
        if let Some(front) = self.front.get() {
            front.set_rates(container, self.settings(container)?.rates);
        }
        Ok(())
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
            let settings = self.settings(container)?;
            front.offer(Offer {
                driver,
                geometry,
                kind: VolumeKind::ReadOnly,
                target,
                instance: u32::try_from(snapshot.root.version.0 + 1).unwrap_or(u32::MAX),
                secret: settings.secret,
                initiators: settings.initiators,
                rates: settings.rates,
                is_open: true,
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
}
