//! `volume list`.

use crate::cli::answer::{self, items};
use crate::cli::{Answer, Asked};
use crate::host::{Host, Known, Place};
use crate::report::Result;
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// `volume list`.
#[derive(Args, Debug, Clone, Serialize, Deserialize)]
pub struct List {
    /// Also what is not born yet, or being deleted
    #[arg(long)]
    pub all: bool,
}

/// Volumes that are asked about at once.
const AT_ONCE: usize = 16;

impl List {
    pub(super) async fn run(self, asked: Asked) -> Result<Value> {
        let known = asked.host.everywhere().await?;
        let mut rows = rows(&asked.host, known).await;
        if !self.all {
            rows.retain(|row| {
                let state = row.get("state").and_then(Value::as_str);
                !matches!(state, Some("unborn" | "deleted" | "empty"))
            });
        }
        Ok(json!({ "volumes": rows }))
    }
}

/// A row per volume, in the given order.
async fn rows(host: &Arc<Host>, known: Vec<Known>) -> Vec<Value> {
    let gate = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let tasks = known.into_iter().map(|known| {
        let (host, gate) = (Arc::clone(host), Arc::clone(&gate));
        tokio::spawn(async move {
            // Never closed.
            let _turn = gate.acquire().await;
            summary(&host, &known).await
        })
    });
    let mut rows = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        rows.extend(task.await);
    }
    rows
}

/// What is known of a volume; never an error: what cannot be found out is said.
pub(in crate::cli) async fn summary(host: &Host, known: &Known) -> Value {
    let container = &known.container;
    let mut row = json!({
        "volume": &*container.name,
        "id": container.id.to_string(),
        "state": "unknown",
    });
    let mut set = |key: &str, value: Value| {
        if let Some(row) = row.as_object_mut() {
            row.insert(key.to_owned(), value);
        }
    };
    let running = host.running_one(container);
    let status = running.as_ref().and_then(|d| d.status().ok());
    if let Some(status) = &status {
        set("serving", json!(status.serving));
        set("version", json!(status.version.map(|v| v.0)));
        set("only_here_extents", json!(status.only_here));
        set("phase", json!(status.phase));
        if let Some(geometry) = status.geometry {
            set("size_bytes", json!(geometry.capacity_bytes().0));
        }
    }
    if known.unborn {
        set("state", json!("unborn"));
        return row;
    }
    if known.place == Place::Here {
        set("state", json!("here"));
    }
    if status
        .as_ref()
        .is_some_and(|s| s.serving && s.geometry.is_some())
    {
        set("state", json!("serving"));
        return row;
    }
    match host.inspect(container).await {
        Err(report) => set("error", json!(report.what)),
        Ok(found) => {
            if let Some((generation, holder)) = &found.opened {
                set("generation", json!(generation.0));
                set("holder", json!(holder.host));
            }
            match &found.root {
                None if found.superblock.is_none() => set("state", json!("empty")),
                None => set("state", json!("unborn")),
                Some(root) => {
                    set("size_bytes", json!(root.geometry.capacity_bytes().0));
                    set("version", json!(root.name.version.0));
                    if known.place == Place::Store {
                        let state = match root.kind {
                            engine::table::types::RootKind::Detached => "detached",
                            engine::table::types::RootKind::Deleted => "deleted",
                            _ => "elsewhere",
                        };
                        set("state", json!(state));
                    }
                }
            }
        }
    }
    row
}

/// Whether there is content that the store does not have yet.
pub(in crate::cli) fn only_here(row: &Value) -> String {
    match row.get("only_here_extents").and_then(Value::as_u64) {
        None => "-".to_owned(),
        Some(0) => "nothing".to_owned(),
        Some(count) => format!("{count} extents"),
    }
}

pub(super) fn show(document: &Value) -> String {
    let mut answer = Answer::table(&["NAME", "SIZE", "STATE", "VERSION", "ONLY HERE", "ID"]);
    for row in items(document, "volumes") {
        let state = match answer::text(row, "holder").as_str() {
            holder if answer::text(row, "state") == "elsewhere" => format!("on {holder}"),
            _ => answer::text(row, "state"),
        };
        answer.row(vec![
            answer::text(row, "volume"),
            answer::size(row, "size_bytes"),
            state,
            answer::text(row, "version"),
            only_here(row),
            answer::text(row, "id"),
        ]);
    }
    answer.text()
}
