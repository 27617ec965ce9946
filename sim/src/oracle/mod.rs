//! What must hold, one file per family of properties.
//!
//! A property's name is the one in the design: `B1` … `B11` for the block device, `S1` … `S9` for snapshots, `G1` … `G4`
//! for collection, `F1` … `F4` for fencing, `R1` … `R3` for resources, `L1` … `L6` for progress, `D1` for determinism,
//! `P11` for writes that never wait for the store.

pub mod folder;
pub mod history;
pub mod patience;
pub mod progress;
pub mod zones;

use std::fmt;

/// A property that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Its name.
    pub property: &'static str,
    /// What was seen.
    pub text: String,
}

impl Violation {
    /// That property does not hold, seen by `text`.
    pub fn new(property: &'static str, text: impl Into<String>) -> Self {
        Self {
            property,
            text: text.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.text)
    }
}

/// What a check says.
pub type Checked = Result<(), Violation>;
