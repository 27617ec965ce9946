//! The tasks of a session: a slab whose slots name tasks to the volume (tags) and to the initiator (transfer tags).
//!
//! Invariant  a slot's generation changes with each task, so that a late reply or transfer never meets another task.

use crate::scsi::{Job, Outcome, Request};
use crate::serial::{DataSn, R2tSn};
use crate::target::Barrier;
use crate::wire::command::Attribute;
use crate::wire::header::{Itt, Lun, Ttt};
use bytes::BytesMut;
use std::sync::Arc;

/// What a task does now.
#[derive(Debug)]
pub(super) enum State {
    /// Unsolicited data is on its way.
    Unsolicited,
    /// It waits for its turn or for room.
    Waiting,
    /// The data of an R2T is on its way.
    Solicited,
    /// The volume works on it.
    Running,
}

/// A SCSI command under way.
#[derive(Debug)]
pub(super) struct Task<P> {
    pub(super) itt: Itt,
    pub(super) lun: Lun,
    /// The unit's index.
    pub(super) unit: u16,
    pub(super) attribute: Attribute,
    pub(super) is_immediate: bool,
    pub(super) reads: bool,
    /// Expected Data Transfer Length.
    pub(super) expected: u32,
    pub(super) request: Request,
    pub(super) state: State,
    /// Set when the outcome is known before the data is here.
    pub(super) outcome: Option<Outcome<P>>,
    pub(super) job: Option<Job<P>>,
    /// Taken back: it is never answered. Held until it is gone.
    pub(super) aborted: bool,
    pub(super) barriers: Vec<Arc<Barrier>>,
    /// It was let in, and counts against the budget with so many bytes.
    pub(super) budget: Option<u64>,

    /// Bytes that the command needs from the initiator.
    pub(super) wanted: u32,
    /// Bytes that came, wanted or not.
    pub(super) received: u32,
    pub(super) data: BytesMut,
    /// Bytes of the current burst that are still to come.
    pub(super) burst_left: u32,
    pub(super) data_sn: DataSn,
    pub(super) r2t_sn: R2tSn,
}

#[derive(Debug)]
struct Slot<P> {
    generation: u16,
    task: Option<Box<Task<P>>>,
}

/// All tasks of a session.
#[derive(Debug)]
pub(super) struct Tasks<P> {
    slots: Vec<Slot<P>>,
    free: Vec<u16>,
    count: usize,
}

impl<P> Default for Tasks<P> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            count: 0,
        }
    }
}

impl<P> Tasks<P> {
    pub(super) const fn len(&self) -> usize {
        self.count
    }

    /// Puts a task into a slot and returns its key. At most 65,535 tasks fit; the window is far smaller.
    pub(super) fn insert(&mut self, task: Task<P>) -> Option<u32> {
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                // 0xffff stays unused: with it a key could be the reserved tag ffff_ffffh.
                let at = u16::try_from(self.slots.len())
                    .ok()
                    .filter(|at| *at != 0xffff)?;
                self.slots.push(Slot {
                    generation: 0,
                    task: None,
                });
                at
            }
        };
        let slot = self.slots.get_mut(usize::from(at))?;
        if !bug!("slot-keeps-its-generation") {
            slot.generation = slot.generation.wrapping_add(1);
        }
        slot.task = Some(Box::new(task));
        self.count += 1;
        Some(u32::from(slot.generation) << 16 | u32::from(at))
    }

    pub(super) fn get(&self, key: u32) -> Option<&Task<P>> {
        let slot = self.slots.get(key as usize & 0xffff)?;
        let is_same = u32::from(slot.generation) == key >> 16;
        slot.task.as_deref().filter(|_| is_same)
    }

    pub(super) fn get_mut(&mut self, key: u32) -> Option<&mut Task<P>> {
        let slot = self.slots.get_mut(key as usize & 0xffff)?;
        let is_same = u32::from(slot.generation) == key >> 16;
        slot.task.as_deref_mut().filter(|_| is_same)
    }

    pub(super) fn remove(&mut self, key: u32) -> Option<Box<Task<P>>> {
        let at = (key & 0xffff) as u16;
        let slot = self.slots.get_mut(usize::from(at))?;
        if u32::from(slot.generation) != key >> 16 {
            return None;
        }
        let task = slot.task.take()?;
        self.free.push(at);
        self.count -= 1;
        Some(task)
    }

    /// The task that the initiator calls so.
    pub(super) fn find(&self, itt: Itt) -> Option<u32> {
        self.iter()
            .find(|(_, task)| task.itt == itt)
            .map(|(key, _)| key)
    }

    /// Every task with its key, by slot.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Task<P>)> {
        let slots = self.slots.iter().zip(0_u32..);
        slots.filter_map(|(slot, at)| {
            let key = u32::from(slot.generation) << 16 | at;
            slot.task.as_deref().map(|task| (key, task))
        })
    }
}

/// A task's key as the transfer tag of its R2Ts.
pub(super) const fn ttt_of(key: u32) -> Ttt {
    Ttt(key)
}
