//! The local journal: the log of accepted writes, in files that are written once and recycled.

pub mod index;
pub mod note;
pub mod record;
pub mod scan;
