//! A frame: up to 16 grains of a section behind a header that proves them.

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 128;
