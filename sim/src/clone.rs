//! Clones: a second volume that goes on from a version of the first, both judged by models of their own.
//!
//! ```text
//!  wish ─► child's superblock, attachment ─► pin in the parent's root ─► child's born root ─► both diverge
//!  end  ─► parent and child each through all phases ─► child erased ─► parent collects: pins dropped, nothing leaks
//! ```

use crate::choice::Die;
use crate::disk::{End, Survival};
use crate::operator::AGAIN_PIN;
use crate::oracle::Violation;
use crate::seat::{Role, Wished1};
use crate::world::{Phase, SEC, World};
use engine::command::Wish;
use engine::table::types::Root;
use std::sync::Arc;

/// Volumes of a run, births that were given up included.
const VOLUMES_MAX: usize = 5;

/// A parent that does not answer is asked again after so many seconds.
const PIN_AGAIN: u64 = 5;

impl World {
    /// The operator wants a clone of what that seat serves. Whether there will be one.
    pub(crate) fn clone_volume(&mut self, from: usize, n: u64) -> bool {
        if self.volumes.len() >= VOLUMES_MAX {
            return false;
        }
        let parent = &self.volumes[self.seats[from].volume];
        let (geometry, container) = (parent.geometry, parent.container.clone());
        let volume = self.add_volume(geometry, Some(container));
        let host = (self.choices).pick(Die::Clone, n, 1, u64::from(self.config.hosts)) as u32;
        self.trace.fault(Die::Clone, n);
        self.trace.tell(self.now, || {
            format!("seat {from} is cloned as volume {volume}")
        });
        let seat = self.add_seat(host, volume, Role::Bears);
        self.start(seat);
        true
    }

    /// The parent is asked for the pin of a clone that is being born, until it has it.
    pub(crate) fn pin(&mut self, child: usize) {
        let s = &self.seats[child];
        if !s.needs_pin || s.engine.is_none() {
            return;
        }
        let volume = s.volume;
        self.again_after(child, PIN_AGAIN * SEC, AGAIN_PIN);
        let own = &self.volumes[volume];
        let is_parent = |v: &crate::world::Vol| Some(&v.container) == own.parent.as_ref();
        let Some(parent) = self.volumes.iter().position(is_parent) else {
            return;
        };
        let is_asked =
            |s: &crate::seat::Seat| s.wished.values().any(|w| w.what == Wished1::Pin(child));
        let Some(seat) = self
            .holder_of(parent)
            .filter(|s| !is_asked(&self.seats[*s]))
        else {
            return;
        };
        let names: Vec<String> = (self.snapshots.iter())
            .filter(|(v, _)| *v == parent)
            .map(|(_, name)| name.clone())
            .collect();
        let n = self.next_wish;
        let chosen = self
            .choices
            .pick(Die::Clone, 1 << 40 | n, 0, names.len() as u64 + 1);
        let snapshot = names.get(chosen as usize).cloned();
        let container = self.volumes[self.seats[child].volume].container.clone();
        let wish = Wish::Pin {
            child: container,
            snapshot,
        };
        self.ask_wish(seat, Wished1::Pin(child), wish);
    }

    /// The parent keeps a version for a clone, which is born from it.
    pub(crate) fn pinned(&mut self, parent: usize, child: usize, root: Arc<Root>) {
        if !self.seats[child].needs_pin {
            return;
        }
        let published = &self.volumes[self.seats[parent].volume].published;
        let Some(published) = published.get(&root.name) else {
            let text = format!("{} is pinned, and nobody published it", root.name);
            self.fail(Violation::new("S4", text));
            return;
        };
        let (content, lost) = (published.content.clone(), published.lost.clone());
        let s = &mut self.seats[child];
        s.needs_pin = false;
        (s.loaded, s.loaded_lost) = (content, lost);
        let wish = Wish::FinishBirth { base: Some(root) };
        self.ask_wish(child, Wished1::FinishBirth, wish);
    }

    /// A volume is through its last collection: the next one's turn, or a clone is erased and its parent collects again.
    pub(crate) fn next_ending(&mut self, seat: usize) {
        let volume = self.seats[seat].volume;
        let held = self.pins_of_erased(volume);
        self.check(held);
        self.ended.insert(volume);
        self.collects = 0;
        let is_left = |v: usize| self.volumes[v].born && !self.ended.contains(&v);
        if (0..self.volumes.len()).any(is_left) {
            self.enter(Phase::Healing, 3600);
            return;
        }
        match self.erase_a_clone() {
            Some(parent) => {
                self.ending = parent;
                self.enter(Phase::Collecting, 20_000);
                self.collect_later(self.holder().unwrap_or(seat));
            }
            None => self.phase = Phase::Over,
        }
    }

    // Another tool erases a clone that nothing hangs on, objects and all. Its parent, if there was one.
    fn erase_a_clone(&mut self) -> Option<usize> {
        if self.wire.is_some() {
            return None;
        }
        let is_parent = |v: usize| {
            let own = Some(&self.volumes[v].container);
            let children = self.volumes.iter().enumerate();
            children
                .filter(|(n, _)| !self.erased.contains(n))
                .any(|(_, child)| child.parent.as_ref() == own)
        };
        let is_clone = |v: &usize| {
            self.volumes[*v].parent.is_some() && !self.erased.contains(v) && !is_parent(*v)
        };
        let volume = (0..self.volumes.len()).rev().find(is_clone)?;
        self.trace
            .tell(self.now, || format!("volume {volume} is erased"));
        for seat in 0..self.seats.len() {
            if self.seats[seat].volume == volume {
                if self.seats[seat].engine.is_some() {
                    self.end_process(seat, End::Kill, Survival::All);
                }
                (self.seats[seat].gone, self.seats[seat].released) = (true, true);
            }
        }
        self.erased.insert(volume);
        let container = self.volumes[volume].container.clone();
        let bucket = self.store.truth().get(&container);
        let names: Vec<_> = bucket.into_iter().flat_map(|b| b.keys().copied()).collect();
        for name in names {
            self.store.mirror(container.clone(), name, None);
        }
        let parent = self.volumes[volume].parent.clone();
        let parent = self
            .volumes
            .iter()
            .position(|v| Some(&v.container) == parent.as_ref());
        parent.filter(|p| self.volumes[*p].born)
    }

    // P8: no pin of a clone that is gone outlives a collection.
    fn pins_of_erased(&self, volume: usize) -> Result<(), Violation> {
        let Some(newest) = self.newest_root(&self.volumes[volume].container) else {
            return Ok(());
        };
        for erased in &self.erased {
            let child = &self.volumes[*erased].container;
            if let Some(pin) = newest.pins.iter().find(|pin| pin.child == *child) {
                let text = format!("{} is pinned for {child}, which is erased", pin.root);
                return Err(Violation::new("G2", text));
            }
        }
        Ok(())
    }
}
