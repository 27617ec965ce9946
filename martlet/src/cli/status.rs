//! `martlet status`.

use super::Answer;
use super::answer::{self, items};
use super::volume::{only_here, summary};
use crate::host::Host;
use crate::quantity::show_size;
use crate::report::Result;
use serde_json::{Value, json};

/// One screen.
pub(super) async fn run(host: &Host) -> Result<Value> {
    let mut volumes = Vec::new();
    for known in host.here() {
        let mut row = summary(host, &known).await;
        if let Some(map) = row.as_object_mut() {
            map.insert("sessions".into(), json!(host.sessions(&known.container)));
        }
        volumes.push(row);
    }
    let found = async {
        host.reach_store().await?;
        let found = host.store().containers().await;
        found.map_err(|error| crate::host::store_report("its containers", error))
    };
    let store = match found.await {
        Ok(found) => {
            json!({"place": host.store().place(), "reachable": true, "volumes": found.len()})
        }
        Err(why) => {
            json!({"place": host.store().place(), "reachable": false, "error": why.json()})
        }
    };
    let space = rustix::fs::statvfs(host.state().path()).ok();
    Ok(json!({
        "state_directory": host.state().path().display().to_string(),
        "listen": host.listen_address(),
        "store": store,
        "free_bytes": space.map(|s| s.f_bavail.saturating_mul(s.f_frsize)),
        "volumes": volumes,
    }))
}

pub(super) fn show(document: &Value) -> String {
    let mut answer = Answer::default();
    answer.line("state", answer::text(document, "state_directory"));
    answer.line("serving at", answer::text(document, "listen"));
    if let Some(store) = document.get("store") {
        let place = answer::text(store, "place");
        let reachable = store.get("reachable") == Some(&Value::Bool(true));
        let word = if reachable {
            "reachable"
        } else {
            "NOT reachable"
        };
        answer.line("store", format!("{place}, {word}"));
        if let Some(cause) = store.pointer("/error/cause").and_then(Value::as_str) {
            answer.line("  cause", cause);
        }
    }
    let free = document.get("free_bytes").and_then(Value::as_u64);
    answer.line(
        "local space",
        free.map_or_else(|| "-".into(), |b| format!("{} free", show_size(b))),
    );
    let mut table = Answer::table(&["NAME", "SIZE", "STATE", "VERSION", "ONLY HERE", "SESSIONS"]);
    for row in items(document, "volumes") {
        table.row(vec![
            answer::text(row, "volume"),
            answer::size(row, "size_bytes"),
            answer::text(row, "state"),
            answer::text(row, "version"),
            only_here(row),
            answer::text(row, "sessions"),
        ]);
    }
    format!("{}\n{}", answer.text(), table.text())
}
