//! Bytes that several stored things share: shapes, root names, and the check that a thing has one form only.

use crate::codec::{Malformed, Put, Reader};
use crate::ids::{Hash, Version};
use crate::object::names::RootName;
use crate::units::{BlockCount, Geometry};

/// The hash of a root's or leaf's bytes.
pub fn hash(bytes: &[u8]) -> Hash {
    let mut short = Hash::default();
    short
        .0
        .copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    short
}

/// 24 bytes.
pub(crate) fn put_geometry(out: &mut impl Put, geometry: &Geometry) {
    out.put_u32(geometry.block_bytes);
    out.put_u32(geometry.chunk_grains);
    out.put_u32(geometry.leaf_chunks);
    out.put_u32(geometry.frame_grains);
    out.put_u64(geometry.capacity.0);
}

pub(crate) fn read_geometry(fields: &mut Reader<'_>) -> Result<Geometry, Malformed> {
    let geometry = Geometry {
        block_bytes: fields.u32()?,
        chunk_grains: fields.u32()?,
        leaf_chunks: fields.u32()?,
        frame_grains: fields.u32()?,
        capacity: BlockCount(fields.u64()?),
    };
    geometry
        .is_valid()
        .then_some(geometry)
        .ok_or(Malformed::Value("geometry"))
}

/// 24 bytes.
pub(crate) fn put_root_name(out: &mut impl Put, name: &RootName) {
    out.put_u64(name.version.0);
    out.put_attach(name.attach);
}

pub(crate) fn read_root_name(fields: &mut Reader<'_>) -> Result<RootName, Malformed> {
    Ok(RootName {
        version: Version(fields.u64()?),
        attach: fields.attach()?,
    })
}
