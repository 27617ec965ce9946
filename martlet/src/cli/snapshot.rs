//! `martlet snapshot …`.

use super::answer::{self, items};
use super::volume::{split, volume_only};
use super::{Answer, Asked};
use crate::clock::rfc3339;
use crate::quantity::show_size;
use crate::report::{Exit, Report, Result};
use clap::{Args, Subcommand};
use engine::ids::WishKey;
use engine::{Verdict, Wish};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What can be done with snapshots.
#[derive(Subcommand, Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Publish the present under a name; returns when it is committed in the store
    Create(Create),
    /// Snapshots of a volume
    List(List),
}

/// `snapshot create NAME[@SNAP]`.
#[derive(Args, Debug, Clone, Serialize, Deserialize)]
pub struct Create {
    /// The volume, and the snapshot's name (s<version> without one)
    pub name: String,
}

/// `snapshot list NAME`.
#[derive(Args, Debug, Clone, Serialize, Deserialize)]
pub struct List {
    /// The volume
    pub name: String,
}

impl Verb {
    pub(super) async fn run(self, asked: Asked) -> Result<Value> {
        match self {
            Self::Create(create) => create.run(asked).await,
            Self::List(list) => list.run(asked).await,
        }
    }

    /// See [`super::Request::needs_store`].
    pub(super) const fn needs_store(&self) -> bool {
        matches!(self, Self::Create(_))
    }

    pub(super) fn show(&self, document: &Value) -> String {
        match self {
            Self::Create(_) => {
                let uploaded = answer::uploaded(document);
                format!(
                    "snapshot {}@{} is committed as version {} ({uploaded}, {} ms; the cut took {} µs)\n",
                    answer::text(document, "volume"),
                    answer::text(document, "snapshot"),
                    answer::text(document, "version"),
                    answer::text(document, "elapsed_ms"),
                    answer::text(document, "cut_microseconds"),
                )
            }
            Self::List(_) => {
                let mut answer = Answer::table(&["NAME", "VERSION", "SIZE", "CREATED"]);
                for row in items(document, "snapshots") {
                    answer.row(vec![
                        answer::text(row, "name"),
                        answer::text(row, "version"),
                        row.get("size_bytes")
                            .and_then(Value::as_u64)
                            .map_or_else(String::new, show_size),
                        answer::text(row, "created"),
                    ]);
                }
                answer.text()
            }
        }
    }
}

impl Create {
    async fn run(self, asked: Asked) -> Result<Value> {
        let host = &asked.host;
        let (name, snapshot) = split(&self.name);
        if let Some(snapshot) = snapshot {
            check_snapshot(snapshot)?;
        }
        let known = host.resolve(name).await?;
        let driver = host.serving(&known.container).await?;
        let started = std::time::Instant::now();
        let wish = Wish::Snapshot {
            name: snapshot.map(str::to_owned),
            key: WishKey(rand::random()),
        };
        let (verdict, held) = host.ask_timed(&driver, wish).await?;
        let elapsed = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Err(report) = host.offer_snapshots(&known.container).await {
            // The snapshot is committed; that it is not served is another matter.
            tracing::warn!(volume = %known.container, %report, "a snapshot is not served");
        }
        match verdict {
            Verdict::Committed(committed) => Ok(json!({
                "volume": &*known.container.name,
                "id": known.container.id.to_string(),
                "snapshot": committed.name,
                "version": committed.root.name.version.0,
                "uploaded_bytes": committed.bytes.0,
                "puts": committed.puts,
                "elapsed_ms": elapsed,
                "cut_microseconds": u64::try_from(held.as_micros()).unwrap_or(u64::MAX),
            })),
            other => Err(crate::host::unexpected(&known.container, &other)),
        }
    }
}

fn check_snapshot(name: &str) -> Result<()> {
    // As volumes' names: it is part of a target's name.
    if engine::ids::Container::is_volume_name(name) {
        return Ok(());
    }
    Err(
        Report::new(Exit::Usage, "NAME", format!("{name:?} is no snapshot name"))
            .cause("names are 1 to 63 of a-z, 0-9 and -, with no - at either end"),
    )
}

impl List {
    async fn run(self, asked: Asked) -> Result<Value> {
        let host = &asked.host;
        let known = host.resolve(volume_only(&self.name)?).await?;
        let found = host.inspect(&known.container).await?;
        let root = found.root.ok_or_else(|| {
            crate::host::refusal(&known.container, &engine::command::Refusal::NoSuchVolume)
        })?;
        let block = u64::from(root.geometry.block_bytes);
        let row = |s: &engine::table::types::SnapshotEntry| {
            json!({
                "name": s.name,
                "version": s.root.version.0,
                "created": rfc3339(s.created),
                "size_bytes": s.capacity.0 * block,
            })
        };
        Ok(json!({
            "volume": &*known.container.name,
            "id": known.container.id.to_string(),
            "snapshots": root.snapshots.iter().map(row).collect::<Vec<_>>(),
        }))
    }
}
