//! `volume export`.

use super::split;
use crate::cli::answer;
use crate::cli::{Answer, Asked};
use crate::host::{self, image_report};
use crate::image::ImageError;
use crate::report::Result;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::File;

/// `volume export NAME[@SNAP] FILE|-`.
#[derive(Args, Debug, Clone, Serialize, Deserialize)]
pub struct Export {
    /// The volume, or a snapshot of it
    pub name: String,
    /// Where to write, or - for stdout
    pub file: String,
    /// What to write
    #[arg(long, value_enum, default_value_t = ExportFormat::Raw)]
    pub format: ExportFormat,
}

/// The format of an image that is written.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExportFormat {
    /// The disk's bytes; holes stay holes
    Raw,
    /// QEMU's format
    Qcow2,
}

impl Export {
    /// Opens the file for writing. Its old content goes when the first byte of the new one is known.
    pub(super) fn open_file(&self) -> Result<File> {
        let opened = if self.file == "-" {
            use std::os::fd::AsFd;
            std::io::stdout()
                .as_fd()
                .try_clone_to_owned()
                .map(File::from)
        } else {
            std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&self.file)
        };
        opened.map_err(|error| image_report(&self.file, &ImageError::Io(error)))
    }

    pub(super) async fn run(self, mut asked: Asked) -> Result<Value> {
        let file = asked.file.take().ok_or_else(super::import::no_file)?;
        let (name, snapshot) = split(&self.name);
        let known = asked.host.resolve(name).await?;
        let format = match self.format {
            ExportFormat::Raw => host::ExportFormat::Raw,
            ExportFormat::Qcow2 => host::ExportFormat::Qcow2,
        };
        let (size, version) = host::export(
            &asked.host,
            &known.container,
            snapshot,
            (file, self.file.clone()),
            format,
            &asked.listener,
        )
        .await?;
        Ok(json!({
            "volume": &*known.container.name,
            "id": known.container.id.to_string(),
            "snapshot": snapshot,
            "version": version,
            "file": self.file,
            "size_bytes": size,
        }))
    }
}

pub(super) fn show(document: &Value) -> String {
    // stdout carries the image then.
    if answer::text(document, "file") == "-" {
        return String::new();
    }
    let mut answer = Answer::default();
    answer.line("file", answer::text(document, "file"));
    answer.line("size", answer::size(document, "size_bytes"));
    answer.text()
}
