//! What is asked again after a process died, or could not begin.

use crate::choice::Die;
use crate::seat::Wished1;
use crate::world::{SEC, World};
use engine::Wish;
use engine::command::BirthSpec;
use engine::table::types::VolumeKind;

impl World {
    /// A process is about to end: snapshots that it did not answer may be asked for again.
    pub(crate) fn remember_snapshots(&mut self, seat: usize) {
        let s = &mut self.seats[seat];
        let asked = s.wished.values().filter_map(|wished| match &wished.what {
            Wished1::Snapshot(name, key) => Some((name.clone(), *key)),
            _ => None,
        });
        s.unanswered.extend(asked);
    }

    /// It serves again: half of them are, by the same keys. S6: each is the same snapshot then, also if it was committed
    /// before anybody heard of it.
    pub(crate) fn ask_snapshots_again(&mut self, seat: usize) {
        for (name, key) in std::mem::take(&mut self.seats[seat].unanswered) {
            if self.seats[seat].engine.is_none() {
                // It died of the one before.
                self.seats[seat].unanswered.push((name, key));
            } else if self.chaos() && self.choices.pick(Die::Wish, key, 21, 2) == 0 {
                self.snapshot(seat, name, key);
            }
        }
    }

    /// The lowest seq that was answered when a snapshot of that key was asked for: what it must hold at least.
    pub(crate) fn answered_at(&mut self, seat: usize, key: u64) {
        let answered = self.seats[seat].answered();
        let least = self.asked_keys.entry(key).or_insert(answered);
        *least = answered.min(*least);
    }

    /// A volume is to be born: asked for the first time, or after the store refused it.
    pub(crate) fn bear(&mut self, seat: usize) {
        let volume = &self.volumes[self.seats[seat].volume];
        let spec = BirthSpec {
            geometry: volume.geometry,
            kind: VolumeKind::Disk,
            parent: volume.parent.clone(),
            attributes: Vec::new(),
        };
        self.ask_wish(seat, Wished1::Birth, Wish::Birth(spec));
    }

    /// The folder could not be read at the start: the operator starts the process anew.
    pub(crate) fn cannot_begin(&mut self, seat: usize, request: &str) {
        if matches!(request, "read-note" | "list-files") && self.seats[seat].engine.is_some() {
            self.trace
                .tell(self.now, || format!("seat {seat} cannot read its folder"));
            self.end_process(seat, crate::disk::End::Kill, crate::disk::Survival::All);
            let life = self.seats[seat].life;
            self.after(SEC, crate::world::Event::Start { seat, life });
        }
    }
}
