//! `volume import`.

use super::create::{Shape, born, spec};
use crate::cli::Asked;
use crate::host::{Host, Load, image_report};
use crate::image::{self, Format, ImageError};
use crate::report::{Exit, Report, Result};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::File;
use std::io;

/// `volume import FILE|- NAME`.
#[derive(Args, Debug, Clone, Serialize, Deserialize)]
pub struct Import {
    /// The image, or - for a raw image on stdin
    pub file: String,
    /// The volume's name
    pub name: String,
    /// The image's format
    #[arg(long, value_enum, default_value_t = ImageFormat::Auto)]
    pub format: ImageFormat,
    /// What it is served as
    #[command(flatten)]
    pub shape: Shape,
}

/// The format of an image that is read.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageFormat {
    /// Find out
    Auto,
    /// The disk's bytes
    Raw,
    /// QEMU's format
    Qcow2,
}

impl Import {
    pub(super) async fn run(self, mut asked: Asked) -> Result<Value> {
        let file = asked.file.take().ok_or_else(no_file)?;
        asked.host.name_is_free(&self.name).await?;
        let (load, size) = self.load(&asked.host, file).await?;
        let spec = spec(size, &self.shape).map_err(|report| Report {
            help: Some("fill the image up: truncate --size %4096, or qemu-img resize".to_owned()),
            ..report
        })?;
        let container = asked.host.draw(&self.name)?;
        born(&asked, &container, spec, Some(load)).await
    }

    async fn load(&self, host: &Host, file: File) -> Result<(Load, u64)> {
        let file = spooled(host, file).await?;
        let format = match self.format {
            ImageFormat::Auto => None,
            ImageFormat::Raw => Some(Format::Raw),
            ImageFormat::Qcow2 => Some(Format::Qcow2),
        };
        let source = image::open(file, format).map_err(|e| image_report(&self.file, &e))?;
        let size = source.size();
        let load = Load {
            source,
            name: self.file.clone(),
        };
        Ok((load, size))
    }
}

pub(in crate::cli) fn no_file() -> Report {
    Report::new(Exit::Usage, "REQUEST", "no file came with the request")
}

/// Opens an image with the rights of who asks.
pub(in crate::cli) fn open_image(name: &str) -> Result<File> {
    let opened = if name == "-" {
        use std::os::fd::AsFd;
        io::stdin().as_fd().try_clone_to_owned().map(File::from)
    } else {
        File::open(name).and_then(|file| {
            if file.metadata()?.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            Ok(file)
        })
    };
    opened.map_err(|error| image_report(name, &ImageError::Io(error)))
}

/// A file that can be read by place: a pipe's content is put into one first (the size of a volume is known at its birth).
pub(in crate::cli) async fn spooled(host: &Host, file: File) -> Result<File> {
    use std::os::unix::fs::FileTypeExt;
    let kind = file.metadata().map(|m| m.file_type());
    if kind.is_ok_and(|kind| kind.is_file() || kind.is_block_device()) {
        return Ok(file);
    }
    let directory = host.state().path().to_owned();
    let copied = tokio::task::spawn_blocking(move || copy(file, &directory)).await;
    copied
        .map_err(io::Error::other)
        .flatten()
        .map_err(|error| image_report("-", &ImageError::Io(error)))
}

/// Copies a stream into a file without a name in `directory`; blocks of zeros become holes.
fn copy(mut from: File, directory: &std::path::Path) -> io::Result<File> {
    use std::io::Read;
    use std::os::unix::fs::FileExt;
    let flags =
        rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let to = File::from(rustix::fs::open(directory, flags, mode)?);
    let mut block = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let count = match from.read(&mut block) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let bytes = block.get(..count).unwrap_or_default();
        if !image::is_zero(bytes) {
            to.write_all_at(bytes, at)?;
        }
        at += count as u64;
    }
    to.set_len(at)?;
    Ok(to)
}
