//! `volume show`.

use super::{only_here, split, summary};
use crate::cli::answer::{self, items};
use crate::cli::{Answer, Asked};
use crate::clock::rfc3339;
use crate::host::Place;
use crate::report::Result;
use clap::Args;
use engine::command::Inspection;
use engine::table::types::{RootKind, VolumeKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// `volume show NAME`.
#[derive(Args, Debug, Clone, Serialize, Deserialize)]
pub struct Show {
    /// The volume
    pub name: String,
}

impl Show {
    pub(super) async fn run(self, asked: Asked) -> Result<Value> {
        let host = &asked.host;
        let (name, _) = split(&self.name);
        let known = host.resolve(name).await?;
        let mut document = summary(host, &known).await;
        let mut add = |more: Value| {
            if let (Some(to), Value::Object(from)) = (document.as_object_mut(), more) {
                to.extend(from);
            }
        };
        if let Some(driver) = host.running_one(&known.container)
            && let Ok(status) = driver.status()
        {
            add(json!({
                "seq_written": status.written.0,
                "seq_durable": status.durable.0,
                "seq_stored": status.stored.0,
                "safe_in_store": status.stored >= status.written,
                "journal_files": {"used": status.files.0, "of": status.files.1},
                "store_away_seconds": status.store_away_since.map(|since| host.clock().now().since(since).as_secs()),
                "waiting_commands": status.waiting,
                "cache_slots": {"used": status.cache.0, "of": status.cache.1},
            }));
        }
        let attributes = host
            .running_one(&known.container)
            .and_then(|driver| driver.attributes().ok());
        if let Some(attributes) = attributes {
            add(json!({ "settings": settings(&attributes) }));
        }
        add(json!({"target": host.target_name(&known.container)}));
        // Without the store what is known here is still shown.
        match host.inspect(&known.container).await {
            Ok(found) => {
                // What is attached here may have changed since.
                if let (Some(root), Place::Store) = (&found.root, known.place) {
                    add(json!({ "settings": settings(&root.attributes) }));
                }
                add(stored(&found));
            }
            Err(report) => add(json!({"store_error": report.json()})),
        }
        Ok(document)
    }
}

/// What was set, by key; secrets are no part of it.
fn settings(attributes: &BTreeMap<String, Vec<u8>>) -> Value {
    let text = |(key, value): (&String, &Vec<u8>)| {
        let value = String::from_utf8_lossy(value).into_owned();
        (key.clone(), Value::String(value))
    };
    Value::Object(attributes.iter().map(text).collect())
}

/// What the store says.
fn stored(found: &Inspection) -> Value {
    let superblock = found.superblock.as_ref();
    let root = found.root.as_ref();
    let kind = superblock.map(|s| match s.kind {
        VolumeKind::Disk => "disk",
        VolumeKind::ReadOnly => "read-only",
        VolumeKind::Removable => "removable",
    });
    let root_kind = root.map(|r| match r.kind {
        RootKind::Born => "born",
        RootKind::Checkpoint => "checkpoint",
        RootKind::Snapshot => "snapshot",
        RootKind::Detached => "detached",
        RootKind::Deleted => "deleted",
    });
    let snapshots = root.map(|r| {
        let snapshot = |s: &engine::table::types::SnapshotEntry| {
            json!({
                "name": s.name,
                "version": s.root.version.0,
                "created": rfc3339(s.created),
                "size_bytes": s.capacity.0 * u64::from(r.geometry.block_bytes),
            })
        };
        r.snapshots.iter().map(snapshot).collect::<Vec<_>>()
    });
    let losses = root.map(|r| {
        let loss = |l: &engine::table::types::AcceptedLoss| {
            json!({
                "host": l.host,
                "generation": l.lost.generation.0,
                "after_version": l.base.0,
                "accepted": rfc3339(l.at),
            })
        };
        r.losses.iter().map(loss).collect::<Vec<_>>()
    });
    json!({
        "block_bytes": superblock.map(|s| s.geometry.block_bytes),
        "type": kind,
        "created": superblock.map(|s| rfc3339(s.created)),
        "parent": superblock.and_then(|s| s.parent.as_ref()).map(ToString::to_string),
        "holder": found.opened.as_ref().map(|(_, h)| h.host.clone()),
        "held_since": found.opened.as_ref().map(|(_, h)| rfc3339(h.since)),
        "generation": found.opened.as_ref().map(|(g, _)| g.0),
        "newest": root.map(|r| json!({
            "version": r.name.version.0,
            "kind": root_kind,
            "created": rfc3339(r.created),
        })),
        "snapshots": snapshots,
        "clones": root.map(|r| r.pins.iter().map(|p| p.child.to_string()).collect::<Vec<_>>()),
        "dying_versions": root.map(|r| r.dying.iter().map(|d| d.root.version.0).collect::<Vec<_>>()),
        "accepted_losses": losses,
    })
}

pub(super) fn show(document: &Value) -> String {
    let mut answer = Answer::default();
    let text = |key: &str| answer::text(document, key);
    answer.line("volume", text("volume"));
    answer.line("id", text("id"));
    answer.line("state", text("state"));
    answer.line("size", answer::size(document, "size_bytes"));
    answer.line("block", answer::size(document, "block_bytes"));
    answer.line("type", text("type"));
    answer.line("target", text("target"));
    answer.line("created", text("created"));
    if text("parent") != "-" {
        answer.line("clone of", text("parent"));
    }
    answer.line(
        "held by",
        format!(
            "{} since {} (generation {})",
            text("holder"),
            text("held_since"),
            text("generation")
        ),
    );
    if let Some(newest) = document.get("newest") {
        answer.line(
            "newest",
            format!(
                "version {} ({}), {}",
                answer::text(newest, "version"),
                answer::text(newest, "kind"),
                answer::text(newest, "created")
            ),
        );
    }
    answer.line("only here", only_here(document));
    if let Some(set) = document.get("settings").and_then(Value::as_object) {
        for (key, value) in set {
            answer.line(
                "set",
                format!("{key}={}", value.as_str().unwrap_or_default()),
            );
        }
    }
    for snapshot in items(document, "snapshots") {
        answer.line(
            "snapshot",
            format!(
                "{} (version {}, {})",
                answer::text(snapshot, "name"),
                answer::text(snapshot, "version"),
                answer::text(snapshot, "created")
            ),
        );
    }
    for child in items(document, "clones") {
        answer.line("clone", child.as_str().unwrap_or_default());
    }
    for loss in items(document, "accepted_losses") {
        answer.line(
            "accepted loss",
            format!(
                "what {} wrote after version {}, accepted {}",
                answer::text(loss, "host"),
                answer::text(loss, "after_version"),
                answer::text(loss, "accepted")
            ),
        );
    }
    if let Some(error) = document.get("store_error") {
        answer.line("store", answer::text(error, "error"));
    }
    answer.text()
}
