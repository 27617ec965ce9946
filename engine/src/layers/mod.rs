//! Layers: which place holds the newest content of every block, before the table is asked.

pub mod map;
pub(crate) mod run;
pub mod split;
pub(crate) mod stack;
