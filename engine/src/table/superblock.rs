//! The superblock's bytes: object `volume`, written once.

use crate::codec::{Magic, Malformed, Put, Unreadable, begin, open_whole, seal};
use crate::table::codec::{put_geometry, read_geometry};
use crate::table::types::{Superblock, VolumeKind};
use crate::time::WallTime;
use alloc::vec::Vec;

/// The superblock as bytes.
pub fn emit(superblock: &Superblock) -> Vec<u8> {
    let mut out = Vec::new();
    begin(&mut out);
    put_geometry(&mut out, &superblock.geometry);
    out.put_u64(superblock.created.0);
    out.put_u8(match superblock.kind {
        VolumeKind::Disk => 0,
        VolumeKind::ReadOnly => 1,
        VolumeKind::Removable => 2,
    });
    out.put_u8(u8::from(superblock.parent.is_some()));
    out.put(&[0; 6]);
    out.put_container(&superblock.container);
    if let Some(parent) = &superblock.parent {
        out.put_container(parent);
    }
    seal(&mut out, Magic::VOLUME, 0);
    out
}

/// Reads a superblock.
///
/// # Errors
///
/// Anything but what [`emit`] made.
pub fn parse(bytes: &[u8]) -> Result<Superblock, Unreadable> {
    let mut fields = open_whole(bytes, Magic::VOLUME)?;
    let geometry = read_geometry(&mut fields)?;
    let created = WallTime(fields.u64()?);
    let kind = match fields.u8()? {
        0 => VolumeKind::Disk,
        1 => VolumeKind::ReadOnly,
        2 => VolumeKind::Removable,
        _ => return Err(Malformed::Value("volume kind").into()),
    };
    let has_parent = fields.flag("parent")?;
    fields.zeros(6)?;
    let container = fields.container()?;
    let parent = has_parent.then(|| fields.container()).transpose()?;
    fields.end()?;
    Ok(Superblock {
        container,
        geometry,
        kind,
        created,
        parent,
    })
}
