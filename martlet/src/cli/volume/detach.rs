//! `volume detach`.

use super::volume_only;
use crate::cli::Asked;
use crate::report::{Exit, Report, Result};
use clap::Args;
use engine::{Verdict, Wish};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// `volume detach NAME`.
#[derive(Args, Debug, Clone, Serialize, Deserialize)]
pub struct Detach {
    /// The volume
    pub name: String,
}

impl Detach {
    pub(super) async fn run(self, asked: Asked) -> Result<Value> {
        let host = &asked.host;
        let known = host.resolve(volume_only(&self.name)?).await?;
        let container = &known.container;
        let sessions = host.sessions(container);
        if sessions > 0 {
            return Err(Report::new(
                Exit::Refused,
                "IN-USE",
                format!("volume {} is in use", container.name),
            )
            .cause(format!("{sessions} initiator sessions are open"))
            .help("log the initiators out first"));
        }
        let driver = host.serving(container).await?;
        host.withdraw(container).await;
        let detached = host.ask(&driver, Wish::Detach).await;
        drop(driver);
        let committed = match detached {
            Ok(Verdict::Detached(committed)) => committed,
            Ok(other) => return Err(crate::host::unexpected(container, &other)),
            Err(report) => {
                // Still ours: serve it on, if it can be.
                host.offer(container).await?;
                return Err(report);
            }
        };
        host.forget(container)?;
        let version = committed.root.name.version;
        Ok(json!({
            "volume": &*container.name,
            "id": container.id.to_string(),
            "version": version.0,
            "uploaded_bytes": committed.bytes.0,
            "puts": committed.puts,
            "text": format!(
                "volume {} is given up at version {version}; all of it is in {}",
                container.name,
                host.store().place()
            ),
        }))
    }
}
