//! `gc`: what no version needs goes.

use super::Asked;
use crate::quantity::parse_duration;
use crate::report::Result;
use clap::Args;
use engine::command::Collected;
use engine::{Verdict, Wish};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// `gc [NAME]`.
#[derive(Args, Debug, Clone, Serialize, Deserialize)]
pub struct Gc {
    /// The volume; without it every volume that is attached here
    pub name: Option<String>,
    /// Objects that no version names stay until they are so old [default: the configuration's limits.min_age]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub min_age: Option<Duration>,
}

impl Gc {
    pub(super) async fn run(self, asked: Asked) -> Result<Value> {
        let host = &asked.host;
        let containers = match &self.name {
            Some(name) => vec![host.resolve(name).await?.container],
            None => {
                let here = host.here().into_iter().filter(|known| !known.unborn);
                here.map(|known| known.container).collect()
            }
        };
        let mut volumes = Vec::new();
        for container in containers {
            let driver = host.serving(&container).await?;
            let wish = Wish::Collect {
                min_age: self.min_age,
            };
            match host.ask(&driver, wish).await? {
                Verdict::Collected(collected) => {
                    volumes.push(document(&container.name, &collected));
                }
                other => return Err(crate::host::unexpected(&container, &other)),
            }
        }
        let mut document = json!({ "volumes": volumes });
        if self.name.is_none() {
            let gap = self
                .min_age
                .unwrap_or_else(|| host.config().limits().min_age);
            let swept = host.sweep_containers(true, gap).await?;
            document["empty_containers_removed"] = json!(swept.removed);
            document["empty_containers_waiting"] = json!(swept.waiting);
        }
        Ok(document)
    }
}

fn document(name: &str, collected: &Collected) -> Value {
    let names = |names: &mut dyn Iterator<Item = String>| names.collect::<Vec<String>>();
    json!({
        "volume": name,
        "data_objects_deleted": collected.data,
        "leaves_objects_deleted": collected.leaves,
        "roots_deleted": collected.roots,
        "versions_in_grace": collected.in_grace,
        "orphans_too_young": collected.young,
        "pins_dropped": names(&mut collected.unpinned.iter().map(|pin| pin.child.to_string())),
        "strays": names(&mut collected.strays.iter().map(ToString::to_string)),
        "damaged": names(&mut collected.damaged.iter().map(ToString::to_string)),
    })
}

/// The answer for people: a line per volume, and what a person may want to look at.
pub(super) fn show(document: &Value) -> String {
    let none = Vec::new();
    let mut text = String::new();
    for volume in document["volumes"].as_array().unwrap_or(&none) {
        let number = |key: &str| volume[key].as_u64().unwrap_or(0);
        let name = volume["volume"].as_str().unwrap_or_default();
        text += &format!(
            "{name}: {} data, {} leaves and {} root objects deleted",
            number("data_objects_deleted"),
            number("leaves_objects_deleted"),
            number("roots_deleted"),
        );
        for (key, what) in [
            ("versions_in_grace", "superseded, still in grace"),
            ("orphans_too_young", "orphaned, still too young"),
        ] {
            if number(key) > 0 {
                text += &format!("; {} {what}", number(key));
            }
        }
        text.push('\n');
        for (key, what) in [
            ("pins_dropped", "no clone needs it any more"),
            ("strays", "a version outside the history; kept"),
            ("damaged", "cannot be read; kept"),
        ] {
            for row in volume[key].as_array().unwrap_or(&none) {
                text += &format!("  {}: {what}\n", row.as_str().unwrap_or_default());
            }
        }
    }
    let number = |key: &str| document[key].as_u64().unwrap_or(0);
    let (removed, waiting) = (
        number("empty_containers_removed"),
        number("empty_containers_waiting"),
    );
    if removed + waiting > 0 {
        text += &format!("containers of erased volumes: {removed} removed");
        if waiting > 0 {
            text += &format!("; {waiting} stay until they were seen empty twice");
        }
        text.push('\n');
    }
    text
}
