//! `volume evict`.

use super::volume_only;
use crate::cli::Asked;
use crate::quantity::show_size;
use crate::report::Result;
use clap::Args;
use engine::{Verdict, Wish};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// `volume evict NAME`.
#[derive(Args, Debug, Clone, Serialize, Deserialize)]
pub struct Evict {
    /// The volume
    pub name: String,
}

impl Evict {
    pub(super) async fn run(self, asked: Asked) -> Result<Value> {
        let host = &asked.host;
        let known = host.resolve(volume_only(&self.name)?).await?;
        let driver = host.serving(&known.container).await?;
        match host.ask(&driver, Wish::Evict).await? {
            Verdict::Evicted(bytes) => Ok(json!({
                "volume": &*known.container.name,
                "freed_bytes": bytes.0,
                "text": format!("{} of cache are free again", show_size(bytes.0)),
            })),
            other => Err(crate::host::unexpected(&known.container, &other)),
        }
    }
}
