//! The table: which object holds every grain of a version.
//!
//! Root  the catalogue: live snapshots, pins, dying versions, attributes and a reference to every leaf.
//! Leaf  the entries of `leaf_chunks` chunks, with a dictionary of objects.
//! Entry the layers of one chunk, newest first.

#[cfg(test)]
pub(crate) mod acts;
pub mod apply;
pub mod codec;
pub mod diff;
pub mod grains;
pub mod leaf;
pub(crate) mod present;
pub mod resolve;
pub mod root;
pub mod superblock;
pub mod types;
