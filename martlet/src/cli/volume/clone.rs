//! `volume clone`.

use super::create::document;
use super::{split, volume_only};
use crate::cli::Asked;
use crate::host;
use crate::report::Result;
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// `volume clone NAME[@SNAP] NEW`.
#[derive(Args, Debug, std::clone::Clone, Serialize, Deserialize)]
pub struct Clone {
    /// The parent, or a snapshot of it
    pub name: String,
    /// The clone's name
    pub new: String,
}

impl Clone {
    pub(super) async fn run(self, asked: Asked) -> Result<Value> {
        let host = &asked.host;
        let (name, snapshot) = split(&self.name);
        let new = volume_only(&self.new)?;
        let parent = host.resolve(name).await?;
        host.name_is_free(new).await?;
        let child = host.draw(new)?;
        let committed = host::clone(host, &parent.container, snapshot, &child).await?;
        host.offer(&child).await?;
        let size = committed.root.geometry.capacity_bytes().0;
        let mut document = document(&child, size, &committed);
        if let Some(map) = document.as_object_mut() {
            map.insert("parent".to_owned(), json!(self.name));
        }
        Ok(document)
    }
}
