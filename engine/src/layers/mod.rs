//! Layers: which place holds the newest content of every block, before the table is asked.

pub mod split;
