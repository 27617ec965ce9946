//! What is stored: names, and the bytes of data objects.

pub mod draft;
pub mod frame;
pub mod names;
