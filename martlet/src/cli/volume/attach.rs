//! `volume attach`.

use super::volume_only;
use crate::cli::Asked;
use crate::host::Place;
use crate::report::Result;
use clap::Args;
use engine::{Verdict, Wish};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// `volume attach NAME`.
#[derive(Args, Debug, Clone, Serialize, Deserialize)]
pub struct Attach {
    /// The volume
    pub name: String,
    /// Take it from a host that did not detach it
    #[arg(long)]
    pub take_over: bool,
    /// What that host wrote after its newest version may be lost
    #[arg(long, requires = "take_over")]
    pub accept_loss: bool,
}

impl Attach {
    pub(super) async fn run(self, asked: Asked) -> Result<Value> {
        let host = &asked.host;
        let known = host.resolve(volume_only(&self.name)?).await?;
        let container = &known.container;
        let was_here = known.place == Place::Here;
        let driver = host.start(container)?;
        let attached = host
            .ask(
                &driver,
                Wish::Attach {
                    take_over: self.take_over,
                    accept_loss: self.accept_loss,
                },
            )
            .await;
        let attached = match attached {
            Ok(attached) => attached,
            Err(report) => {
                // Nothing was written by a refusal; a volume that was not ours leaves no trace.
                drop(driver);
                if !was_here {
                    host.forget(container)?;
                }
                return Err(report);
            }
        };
        host.enlist(container, false)?;
        host.offer(container).await?;
        let Verdict::Attached {
            attach,
            base,
            set_aside,
        } = attached
        else {
            return Err(crate::host::unexpected(container, &attached));
        };
        let generation = attach.map(|a| a.generation.0);
        let mut text = format!(
            "volume {} is attached here, at version {base}",
            container.name
        );
        if set_aside {
            text.push_str("; the journal of an earlier attachment is kept for rescue");
        }
        Ok(json!({
            "volume": &*container.name,
            "id": container.id.to_string(),
            "generation": generation,
            "base_version": base.0,
            "set_aside": set_aside,
            "text": text,
        }))
    }
}
