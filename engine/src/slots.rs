//! Effects on their way out, and what waits for each of them.

use crate::effect::{DiskRequest, Effect, LocalRead, StoreRequest};
use crate::ids::{EffectId, FileId};
use crate::journal::record::RecordHead;
use crate::payload::Parts;
use crate::volume::Pending;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// The queue of effects and the table of what waits for their outcomes.
///
/// An [`EffectId`] is a slot and how often it was used, so that a late or doubled outcome finds nothing.
#[derive(Debug)]
pub(crate) struct Out<P> {
    effects: VecDeque<Effect<P>>,
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot {
    uses: u32,
    waits: Option<Pending>,
}

impl<P> Out<P> {
    pub(crate) fn new() -> Self {
        Self {
            effects: VecDeque::new(),
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Names a new effect.
    fn id(&mut self, waits: Pending) -> EffectId {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Slot {
                    uses: 0,
                    waits: None,
                });
                (self.slots.len() - 1) as u32
            }
        };
        let slot = &mut self.slots[index as usize];
        slot.uses = slot.uses.wrapping_add(1);
        slot.waits = Some(waits);
        EffectId(u64::from(slot.uses) << 32 | u64::from(index))
    }

    /// What waited for `id`; `None` when nothing does (any more).
    pub(crate) fn take(&mut self, id: EffectId) -> Option<Pending> {
        let slot = self
            .slots
            .get_mut(usize::try_from(id.0 & 0xffff_ffff).ok()?)?;
        if u64::from(slot.uses) != id.0 >> 32 {
            return None;
        }
        let waits = slot.waits.take()?;
        self.free.push(id.0 as u32);
        Some(waits)
    }

    /// Effects that were named and not yet answered.
    pub(crate) fn under_way(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn push(&mut self, effect: Effect<P>) {
        self.effects.push_back(effect);
    }

    pub(crate) fn pop(&mut self) -> Option<Effect<P>> {
        self.effects.pop_front()
    }

    pub(crate) fn append(
        &mut self,
        waits: Pending,
        file: FileId,
        at: u64,
        head: RecordHead,
        data: Parts<P>,
    ) {
        let id = self.id(waits);
        self.push(Effect::Append {
            id,
            file,
            at,
            head,
            data,
        });
    }

    pub(crate) fn sync(&mut self, waits: Pending, file: FileId) {
        let id = self.id(waits);
        self.push(Effect::Sync { id, file });
    }

    pub(crate) fn read(&mut self, waits: Pending, read: LocalRead) {
        let id = self.id(waits);
        self.push(Effect::Read { id, read });
    }

    pub(crate) fn disk(&mut self, waits: Pending, request: DiskRequest<P>) {
        let id = self.id(waits);
        self.push(Effect::Disk { id, request });
    }

    pub(crate) fn store(&mut self, waits: Pending, request: StoreRequest<P>) {
        let id = self.id(waits);
        self.push(Effect::Store { id, request });
    }

    pub(crate) fn compare(&mut self, waits: Pending, found: Parts<P>, expect: P) {
        let id = self.id(waits);
        self.push(Effect::Compare { id, found, expect });
    }
}
