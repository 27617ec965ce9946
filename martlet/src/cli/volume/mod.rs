//! `martlet volume …`, one file per verb.

mod attach;
mod clone;
mod create;
mod detach;
mod evict;
mod export;
mod import;
mod list;
mod set;
mod show;

pub use attach::Attach;
pub use clone::Clone;
pub use create::{Create, Kind, Shape};
pub(super) use create::{born, spec};
pub use detach::Detach;
pub use evict::Evict;
pub use export::Export;
pub use import::Import;
pub use list::List;
pub use set::Set;
pub use show::Show;

pub(super) use import::{open_image, spooled};
pub(super) use list::{only_here, summary};

use super::Asked;
use crate::report::{Exit, Report, Result};
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::File;

/// What can be done with volumes.
#[derive(Subcommand, Debug, std::clone::Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Make an empty volume
    Create(Create),
    /// Make a volume from an image
    Import(Import),
    /// Write a volume's or snapshot's content into an image
    Export(Export),
    /// Volumes: size, where they are, what is only here
    List(List),
    /// Everything about a volume
    Show(Show),
    /// Make a volume that begins as a snapshot (or the present) of another; usable at once
    Clone(Clone),
    /// Change what a volume is served under
    Set(Set),
    /// Become a volume's writer and serve it from here
    Attach(Attach),
    /// Publish everything and give a volume up
    Detach(Detach),
    /// Drop a volume's cached frames
    Evict(Evict),
}

impl Verb {
    /// Reads what only who asks can read: secrets.
    pub(super) fn prepare(self) -> Result<Self> {
        match self {
            Self::Set(set) => Ok(Self::Set(set.prepare()?)),
            verb => Ok(verb),
        }
    }

    /// See [`super::Request::needs_store`].
    pub(super) const fn needs_store(&self) -> bool {
        match self {
            Self::Create(_)
            | Self::Import(_)
            | Self::Clone(_)
            | Self::Attach(_)
            | Self::Detach(_) => true,
            // These ask for it only where they must.
            Self::Export(_) | Self::List(_) | Self::Show(_) | Self::Set(_) | Self::Evict(_) => {
                false
            }
        }
    }

    /// See [`super::Request::makes_volume`].
    pub(super) const fn makes_volume(&self) -> bool {
        matches!(self, Self::Create(_) | Self::Import(_))
    }

    pub(super) fn open_file(&self) -> Result<Option<File>> {
        match self {
            Self::Import(import) => open_image(&import.file).map(Some),
            Self::Export(export) => export.open_file().map(Some),
            _ => Ok(None),
        }
    }

    pub(super) async fn run(self, asked: Asked) -> Result<Value> {
        match self {
            Self::Create(verb) => verb.run(asked).await,
            Self::Import(verb) => verb.run(asked).await,
            Self::Export(verb) => verb.run(asked).await,
            Self::List(verb) => verb.run(asked).await,
            Self::Show(verb) => verb.run(asked).await,
            Self::Clone(verb) => verb.run(asked).await,
            Self::Set(verb) => verb.run(asked).await,
            Self::Attach(verb) => verb.run(asked).await,
            Self::Detach(verb) => verb.run(asked).await,
            Self::Evict(verb) => verb.run(asked).await,
        }
    }

    pub(super) fn show(&self, document: &Value) -> String {
        match self {
            Self::List(_) => list::show(document),
            Self::Show(_) => show::show(document),
            Self::Export(_) => export::show(document),
            Self::Create(_) | Self::Import(_) | Self::Clone(_) => create::show(document),
            Self::Attach(_) | Self::Detach(_) | Self::Set(_) | Self::Evict(_) => {
                super::answer::text(document, "text")
            }
        }
    }
}

/// NAME, NAME.ID, NAME@SNAP or NAME.ID@SNAP.
pub(super) fn split(name: &str) -> (&str, Option<&str>) {
    match name.split_once('@') {
        Some((name, snapshot)) => (name, Some(snapshot)),
        None => (name, None),
    }
}

/// Refuses a snapshot where a volume is wanted.
pub(super) fn volume_only(name: &str) -> Result<&str> {
    match split(name) {
        (name, None) => Ok(name),
        (volume, Some(_)) => Err(Report::new(
            Exit::Usage,
            "NAME",
            format!("{name} names a snapshot, and a volume is wanted"),
        )
        .help(format!("say {volume}"))),
    }
}
