//! Which volumes there are: here, in the store, and by which names.

use super::{Host, store_report, verdict};
use crate::report::{Exit, Report, Result};
use engine::command::Inspection;
use engine::ids::{Container, Generation, Holder};
use engine::{Verdict, Wish};
use std::time::Duration;

/// A sign of life of the store is good for so long.
const FRESH: Duration = Duration::from_secs(10);

/// The lack of one is: a list of many volumes asks once.
const STALE: Duration = Duration::from_secs(1);

/// Where a volume is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Listed in this state directory.
    Here,
    /// Only in the store, or served from elsewhere.
    Store,
}

/// Who holds a volume.
pub type Held = Option<(Generation, Holder)>;

/// A volume that is known of.
#[derive(Clone, Debug)]
pub struct Known {
    /// Name and id.
    pub container: Container,
    /// Where it is served.
    pub place: Place,
    /// Its birth has not ended.
    pub unborn: bool,
}

impl Host {
    /// Every volume of this state directory and of the store, by name, unborn ones too.
    ///
    /// # Errors
    ///
    /// The store does not answer. Volumes of this state directory alone: [`Host::here`].
    pub async fn everywhere(&self) -> Result<Vec<Known>> {
        self.reach_store().await?;
        let mut known = self.here();
        let store = self.store().place();
        let found = self.store().containers().await;
        for container in found.map_err(|e| store_report(&store, e))? {
            if known.iter().all(|k| k.container != container) {
                known.push(Known {
                    container,
                    place: Place::Store,
                    unborn: false,
                });
            }
        }
        known.sort_by(|a, b| a.container.cmp(&b.container));
        Ok(known)
    }

    /// Asks for a sign of life of a store that gave none for a while, so that who needs it hears of an outage in seconds
    /// and not when every patience is over.
    ///
    /// # Errors
    ///
    /// It cannot be reached (exit 5), or denies us (exit 7).
    pub async fn reach_store(&self) -> Result<()> {
        let mut last = self.reached.lock().await;
        if let Some((at, said)) = &*last {
            let good_for = if said.is_ok() { FRESH } else { STALE };
            if self.clock().now().since(*at) < good_for {
                return said.clone();
            }
        }
        let said = self.store().check().await;
        *last = Some((self.clock().now(), said.clone()));
        said
    }

    /// The volumes of this state directory.
    pub fn here(&self) -> Vec<Known> {
        let listed = self.state().volumes().into_iter();
        let known = listed.map(|l| Known {
            container: l.container,
            place: Place::Here,
            unborn: l.unborn,
        });
        known.collect()
    }

    /// The volume that NAME or NAME.ID means. Volumes of this state directory come first; the store is asked only when
    /// none of them fits.
    ///
    /// # Errors
    ///
    /// There is none (exit 3), or more than one (exit 6).
    pub async fn resolve(&self, name: &str) -> Result<Known> {
        let fits = |known: &Known| {
            known.container.name.as_ref() == name || known.container.to_string() == name
        };
        let here: Vec<Known> = self.here().into_iter().filter(fits).collect();
        let mut found = if here.is_empty() {
            self.everywhere().await?.into_iter().filter(fits).collect()
        } else {
            here
        };
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => {
                if Container::parse(name).is_none() {
                    super::check_name(name)?;
                }
                Err(Report::new(
                    Exit::NotFound,
                    "NO-VOLUME",
                    format!("there is no volume {name}"),
                )
                .cause(format!(
                    "neither in the state directory nor in {}",
                    self.store().place()
                ))
                .help("martlet volume list --all"))
            }
            _ => {
                let names: Vec<String> = found.iter().map(|k| k.container.to_string()).collect();
                Err(Report::new(
                    Exit::Refused,
                    "AMBIGUOUS",
                    format!("{} volumes bear the name {name}", found.len()),
                )
                .help(format!("say which: {}", names.join(" or "))))
            }
        }
    }

    /// Refuses a name that a volume bears.
    ///
    /// # Errors
    ///
    /// There is one (exit 4), born or unborn.
    pub async fn name_is_free(&self, name: &str) -> Result<()> {
        super::check_name(name)?;
        let bears = |known: &Known| known.container.name.as_ref() == name;
        for left in self.here().into_iter().filter(|k| k.unborn && bears(k)) {
            // An import of this state directory that was interrupted: finished or erased now.
            self.settle(&left.container).await?;
        }
        for known in self.everywhere().await?.into_iter().filter(bears) {
            // A container without superblock holds no volume: what an erased one leaves until it is swept.
            if known.place == Place::Here
                || self.inspect(&known.container).await?.superblock.is_some()
            {
                return Err(Report::new(
                    Exit::Exists,
                    "VOLUME-EXISTS",
                    format!("there is a volume {name}, or one is being imported"),
                )
                .help("martlet volume list --all"));
            }
        }
        Ok(())
    }

    /// What the store says about a volume; nothing is changed.
    ///
    /// # Errors
    ///
    /// The store does not answer, or the volume is damaged or too new.
    pub async fn inspect(&self, container: &Container) -> Result<Inspection> {
        self.reach_store().await?;
        let reader = self.reader(container);
        match self.ask(&reader, Wish::Inspect).await? {
            Verdict::Inspected(inspection) => Ok(inspection),
            other => Err(verdict::unexpected(container, &other)),
        }
    }
}
