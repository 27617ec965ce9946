//! The two slots of the note, as bytes, and what the program's disk does with them.
//!
//! A write goes to the slot that does not hold the newest *synced* note: after a failed sync the kernel may show a note that
//! a loss of power takes, and then the other slot holds the last one that counts. A process that starts cannot tell, so it
//! writes the newest again in its place, and syncs it, before it overwrites anything.

use super::Harm;
use crate::choice::mix;
use engine::journal::note::{self, Note};
use engine::journal::record::PAGE_BYTES;
use std::sync::Arc;

/// What a medium writes whole.
const SECTOR: usize = 512;

/// Whether a write whose fate is open is there after all: its seed says so.
pub(super) const LANDED: u64 = 2 | 64;

/// The slots.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    /// What reads see.
    seen: [Vec<u8>; 2],
    /// What a power loss leaves.
    durable: [Vec<u8>; 2],
    /// The slot of the newest note that is known to be synced.
    synced: usize,
    /// The newest of `seen`.
    newest: Option<Arc<Note>>,
}

impl Notes {
    pub(super) fn is_empty(&self) -> bool {
        self.seen.iter().all(Vec::is_empty)
    }

    /// The newest valid note.
    pub(super) fn newest(&self) -> Option<Arc<Note>> {
        self.newest.clone()
    }

    fn find(&self) -> (Option<Note>, usize) {
        let [first, second] = &self.seen;
        note::newest([first, second]).expect("nobody writes newer formats")
    }

    fn look(&mut self) {
        self.newest = self.find().0.map(Arc::new);
    }

    /// A process reads the newest note, and syncs it where it is.
    pub(super) fn read(&mut self) -> Option<Arc<Note>> {
        self.look();
        self.synced = 1 - self.find().1;
        self.durable[self.synced] = self.seen[self.synced].clone();
        self.newest()
    }

    /// A note is written and synced.
    pub(super) fn write(&mut self, note: &Note) {
        let slot = 1 - self.synced;
        self.seen[slot] = note::slot(note);
        self.durable[slot] = self.seen[slot].clone();
        self.synced = slot;
        self.look();
        assert_eq!(
            self.newest.as_deref(),
            Some(note),
            "a note that does not come back from its bytes"
        );
    }

    /// A note whose writing failed or was cut off: old, new or torn, and not the same after a power loss.
    pub(super) fn leave(&mut self, note: &Note, seed: u64) {
        let slot = 1 - self.synced;
        let new = note::slot(note);
        self.durable[slot] = match seed % 3 {
            0 => self.durable[slot].clone(),
            1 => torn(&self.durable[slot], &new, seed),
            _ => new.clone(),
        };
        self.seen[slot] = if seed & 64 == 0 {
            self.durable[slot].clone()
        } else {
            new
        };
        self.look();
    }

    /// Power is lost.
    pub(super) fn lose_power(&mut self) {
        self.seen = self.durable.clone();
        self.look();
    }

    // Whether a copy of the note is whole, byte for byte: what a reader makes of the slots is its own affair.
    fn has_copy(&self, note: &Note) -> bool {
        let whole = note::slot(note);
        let half = whole.len() / 2;
        self.seen.iter().any(|slot| {
            let same = |range: std::ops::Range<usize>| slot.get(range.clone()) == whole.get(range);
            same(0..half) || same(half..whole.len())
        })
    }

    /// Does harm to a page of the slots that `n` chooses, if the newest note outlives it: two copies of it may not both be
    /// hit (out of the model). Says whether it did.
    pub(super) fn harm(&mut self, harm: Harm, n: u64) -> bool {
        let slot = n as usize & 1;
        let pages = self.seen[slot].len() / PAGE_BYTES as usize;
        if pages == 0 || self.seen[slot] != self.durable[slot] {
            return false;
        }
        let page = (n >> 1) as usize % pages * PAGE_BYTES as usize;
        let before = self.seen[slot].clone();
        let hit = &mut self.seen[slot][page..page + PAGE_BYTES as usize];
        if harm == Harm::Rot {
            let bit = mix(n, 1) as usize % (hit.len() * 8);
            hit[bit / 8] ^= 1 << (bit % 8);
        } else {
            // What cannot be read, or was written elsewhere, is read as zeros.
            hit.fill(0);
        }
        let is_borne = self
            .newest
            .as_deref()
            .is_none_or(|note| self.has_copy(note));
        if !is_borne {
            self.seen[slot] = before;
            return false;
        }
        self.durable[slot] = self.seen[slot].clone();
        true
    }
}

// Each sector old, new, or bytes of neither.
fn torn(old: &[u8], new: &[u8], seed: u64) -> Vec<u8> {
    let mut torn = new.to_vec();
    for (n, sector) in torn.chunks_mut(SECTOR).enumerate() {
        let drawn = mix(seed, n as u64);
        match drawn % 5 {
            0 | 1 => {}
            2 => sector.fill(drawn as u8),
            _ => {
                let old = old.get(n * SECTOR..).unwrap_or_default();
                let len = old.len().min(sector.len());
                sector.fill(0);
                sector[..len].copy_from_slice(&old[..len]);
            }
        }
    }
    torn
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::ids::{Container, FileId, VolumeId};
    use engine::units::{BlockCount, Geometry};

    fn note(serial: u64) -> Note {
        Note {
            serial,
            container: Container::new("disk", VolumeId([1; 16])),
            geometry: Geometry::standard(512, BlockCount(4096)),
            drawn: Vec::new(),
            joined: Vec::new(),
            held: None,
            committed: None,
            dead: Vec::new(),
            intent: None,
            unborn: false,
            // Longer than a sector.
            aside: (0..200).map(FileId).collect(),
        }
    }

    fn serial(notes: &Notes) -> Option<u64> {
        notes.newest().map(|note| note.serial)
    }

    fn two() -> Notes {
        let mut notes = Notes::default();
        assert_eq!(notes.read(), None);
        notes.write(&note(1));
        notes.write(&note(2));
        notes
    }

    #[test]
    fn no_write_that_fails_takes_the_last_synced_note() {
        for seed in 0..400_u64 {
            let mut notes = two();
            for n in 0..3 {
                notes.leave(&note(3 + n), seed >> n);
            }
            notes.lose_power();
            assert!(serial(&notes) >= Some(2), "{seed}");
            // Likewise when the process ends, and starts again, between two of them.
            let mut notes = two();
            notes.leave(&note(3), seed);
            let found = notes.read().map(|note| note.serial);
            notes.leave(&note(4), seed >> 3);
            notes.lose_power();
            assert!(serial(&notes) >= found, "{seed}");
        }
    }

    #[test]
    fn harm_hits_either_copy_and_not_both() {
        let mut hits = [false; 4];
        for n in 0..64 {
            for harm in [Harm::Rot, Harm::Latent] {
                let mut notes = two();
                assert!(notes.harm(harm, n), "{n}: one copy outlives it");
                hits[n as usize % 4] = true;
                for again in 0..64 {
                    notes.harm(harm, again);
                    assert_eq!(serial(&notes), Some(2), "{n} {again}");
                }
            }
        }
        assert_eq!(hits, [true; 4]);
    }
}
