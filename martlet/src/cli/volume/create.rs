//! `volume create`.

use crate::cli::answer;
use crate::cli::{Answer, Asked};
use crate::host::{self, Load};
use crate::quantity::parse_size;
use crate::report::{Exit, Report, Result};
use clap::{Args, ValueEnum};
use engine::command::{BirthSpec, Committed};
use engine::ids::Container;
use engine::table::types::VolumeKind;
use engine::units::{BlockCount, Geometry};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// `volume create NAME --size SIZE`.
#[derive(Args, Debug, Clone, Serialize, Deserialize)]
pub struct Create {
    /// The volume's name
    pub name: String,
    /// Its size: 10GiB, 10G or bytes
    #[arg(long, value_parser = parse_size)]
    pub size: u64,
    /// What it is served as
    #[command(flatten)]
    pub shape: Shape,
}

/// How a volume is served.
#[derive(Args, Debug, Clone, Serialize, Deserialize)]
pub struct Shape {
    /// Bytes of a logical block
    #[arg(long, default_value_t = 512, value_parser = parse_block)]
    pub block_size: u32,
    /// What kind of unit it is
    #[arg(long = "type", value_enum, default_value_t = Kind::Disk)]
    pub kind: Kind,
}

/// What kind of unit a volume is.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A disk
    Disk,
    /// A disk that refuses writes
    ReadOnly,
    /// A removable medium
    Removable,
}

impl From<Kind> for VolumeKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Disk => Self::Disk,
            Kind::ReadOnly => Self::ReadOnly,
            Kind::Removable => Self::Removable,
        }
    }
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            block_size: 512,
            kind: Kind::Disk,
        }
    }
}

fn parse_block(text: &str) -> std::result::Result<u32, String> {
    match text {
        "512" => Ok(512),
        "4096" | "4KiB" | "4K" => Ok(4096),
        _ => Err("a block has 512 or 4096 bytes".to_owned()),
    }
}

impl Create {
    pub(super) async fn run(self, asked: Asked) -> Result<Value> {
        let Self { name, size, shape } = self;
        let spec = spec(size, &shape)?;
        let host = &asked.host;
        if let Some(same) = identical(host, &name, &spec).await? {
            return Ok(same);
        }
        host.name_is_free(&name).await?;
        let container = host.draw(&name)?;
        born(&asked, &container, spec, None).await
    }
}

/// What a volume of `size` bytes shall be.
pub(in crate::cli) fn spec(size: u64, shape: &Shape) -> Result<BirthSpec> {
    let block = u64::from(shape.block_size);
    let wrong = |why: String| {
        Err(Report::new(
            Exit::Usage,
            "SIZE",
            format!("a volume cannot have {size} bytes"),
        )
        .cause(why))
    };
    if size == 0 {
        return wrong("it would have no block".to_owned());
    }
    if !size.is_multiple_of(block) {
        return wrong(format!(
            "that is no multiple of its blocks of {block} bytes"
        ));
    }
    let geometry = Geometry::standard(shape.block_size, BlockCount(size / block));
    if !geometry.is_valid() {
        return wrong("the largest volume has 8 EiB".to_owned());
    }
    Ok(BirthSpec {
        geometry,
        kind: shape.kind.into(),
        parent: None,
        attributes: Vec::new(),
    })
}

/// An empty volume of that name and shape that is here already: making it again is no error.
async fn identical(host: &host::Host, name: &str, spec: &BirthSpec) -> Result<Option<Value>> {
    let here = host.here();
    let mut same = here.iter().filter(|k| k.container.name.as_ref() == name);
    let (Some(known), None) = (same.next(), same.next()) else {
        return Ok(None);
    };
    if known.unborn {
        return Ok(None);
    }
    let found = host.inspect(&known.container).await?;
    let is_same = found.superblock.as_ref().is_some_and(|s| {
        s.geometry == spec.geometry && s.kind == spec.kind && s.parent == spec.parent
    });
    // One that was written to, or imported, is no empty volume.
    let is_empty = found
        .root
        .as_ref()
        .is_some_and(|r| r.name.version.0 == 0 && r.leaves.is_empty());
    Ok((is_same && is_empty).then(|| {
        json!({
            "volume": name,
            "id": known.container.id.to_string(),
            "size_bytes": spec.geometry.capacity_bytes().0,
            "version": 0,
            "existed": true,
        })
    }))
}

/// Bears a volume and has it served.
pub(in crate::cli) async fn born(
    asked: &Asked,
    container: &Container,
    spec: BirthSpec,
    load: Option<Load>,
) -> Result<Value> {
    let size = spec.geometry.capacity_bytes().0;
    let committed = host::bear(&asked.host, container, spec, load, &asked.listener).await?;
    asked.host.offer(container).await?;
    Ok(document(container, size, &committed))
}

/// What was made.
pub(in crate::cli) fn document(container: &Container, size: u64, committed: &Committed) -> Value {
    json!({
        "volume": &*container.name,
        "id": container.id.to_string(),
        "size_bytes": size,
        "version": committed.root.name.version.0,
        "uploaded_bytes": committed.bytes.0,
        "puts": committed.puts,
        "existed": false,
    })
}

pub(in crate::cli) fn show(document: &Value) -> String {
    let mut answer = Answer::default();
    if document.get("existed") == Some(&Value::Bool(true)) {
        answer.line("note", "it existed and is the same");
    }
    answer.line("volume", answer::text(document, "volume"));
    answer.line("id", answer::text(document, "id"));
    answer.line("size", answer::size(document, "size_bytes"));
    if document.get("parent").is_some() {
        answer.line("clone of", answer::text(document, "parent"));
    }
    if document.get("uploaded_bytes").is_some() {
        answer.line("uploaded", answer::uploaded(document));
    }
    answer.text()
}
