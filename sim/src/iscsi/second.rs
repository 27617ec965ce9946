//! A second judge of B1, who knows no order: what initiators sent and heard, and when, must be explained by some order of the
//! writes (`oracle/zones.rs`). The first judge takes the order from the engine's own seqs; this one takes nothing from it.
//!
//! A loss of power, a failing disk and another history end an epoch: what was in flight then may be gone, and this judge does
//! not know from where on. Blocks that were discarded or zeroed are left to the first judge: zeros have no name.

use super::task::{End, Task};
use crate::oracle::zones::Register;
use crate::oracle::{Checked, Violation};
use crate::payload::Stamp;
use crate::workload::Kind;
use crate::world::World;
use engine::units::Extent;
use std::collections::BTreeMap;

/// A block since its epoch began.
#[derive(Debug, Default)]
struct Block {
    register: Register,
    /// What it held before; unknown until it is seen.
    has_initial: bool,
    is_nameless: bool,
}

/// What the initiators of a seat saw of its volume in one epoch.
#[derive(Debug, Default)]
pub(crate) struct Second {
    epoch: u64,
    clock: u64,
    blocks: BTreeMap<u64, Block>,
}

impl Second {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// A task is sent; returns its time.
    fn sends(&mut self, kind: Kind, extents: &[Extent], write: u64) -> u64 {
        let now = self.tick();
        for lba in extents.iter().flat_map(|extent| extent.range()) {
            let block = self.blocks.entry(lba).or_default();
            match kind {
                Kind::Write | Kind::CompareAndWrite => block.register.write(write, now),
                Kind::Discard | Kind::WriteZeroes => block.is_nameless = true,
                _ => {}
            }
        }
        now
    }

    /// A write is answered well.
    fn wrote(&mut self, extents: &[Extent], write: u64) {
        let now = self.tick();
        for lba in extents.iter().flat_map(|extent| extent.range()) {
            if let Some(block) = self.blocks.get_mut(&lba) {
                block.register.answered(write, now);
            }
        }
    }

    /// A read that was sent at `sent` shows these blocks, from `first` on.
    fn read(&mut self, first: u64, stamps: &[Stamp], sent: u64) -> Checked {
        let now = self.tick();
        for (lba, stamp) in (first..).zip(stamps) {
            let block = self.blocks.entry(lba).or_default();
            let shown = block.register.read(stamp.write, sent, now);
            if shown || block.is_nameless {
                continue;
            }
            if std::mem::replace(&mut block.has_initial, true) {
                let text = format!(
                    "block {lba} shows {stamp:?}, which nobody had sent, and is not what was there"
                );
                return Err(Violation::new("B1", text));
            }
            block.register.held(stamp.write);
            block.register.read(stamp.write, sent, now);
        }
        Ok(())
    }

    /// The epoch is over: whether some order explains it.
    fn settle(&mut self) -> Checked {
        let blocks = std::mem::take(&mut self.blocks);
        let judged = blocks.into_iter().filter(|(_, block)| !block.is_nameless);
        for (lba, block) in judged {
            if !block.register.is_linearizable() {
                let text = format!(
                    "no order explains what initiators saw of block {lba}: {:?}",
                    block.register
                );
                return Err(Violation::new("B1", text));
            }
        }
        Ok(())
    }
}

impl World {
    fn second(&mut self, seat: usize) -> &mut Second {
        let epoch = self.seats[seat].epoch;
        if self.front(seat).second.epoch != epoch {
            self.settle_second(seat);
            self.front(seat).second.epoch = epoch;
        }
        &mut self.front(seat).second
    }

    /// An initiator sends a task: the second judge's time.
    pub(super) fn second_sends(&mut self, seat: usize, task: &Task) -> u64 {
        self.second(seat)
            .sends(task.kind, &task.extents, task.write)
    }

    /// A task was answered well.
    pub(super) fn second_hears(
        &mut self,
        seat: usize,
        task: &Task,
        end: &End,
        stamps: &[Stamp],
    ) -> Checked {
        if end.status != 0 || task.epoch != self.seats[seat].epoch {
            return Ok(());
        }
        let second = self.second(seat);
        match task.kind {
            Kind::Read => match task.extents.first() {
                Some(first) => second.read(first.start.0, stamps, task.sent_tick),
                None => Ok(()),
            },
            Kind::Write | Kind::CompareAndWrite => {
                second.wrote(&task.extents, task.write);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What this seat's initiators saw so far is judged, and what comes is an epoch of its own.
    pub(crate) fn settle_second(&mut self, seat: usize) {
        if self.fronts.contains_key(&seat) {
            let checked = self.front(seat).second.settle();
            self.check(checked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &[Extent] = &[Extent::new(7, 1)];

    fn stamp(write: u64) -> Stamp {
        Stamp {
            volume: 1,
            lba: 7,
            write,
        }
    }

    #[test]
    fn a_read_that_goes_back_is_rejected_without_any_seq() {
        let mut second = Second::default();
        let sent = second.sends(Kind::Read, BLOCK, 0);
        second.read(7, &[stamp(90)], sent).expect("what was there");
        second.sends(Kind::Write, BLOCK, 91);
        second.wrote(BLOCK, 91);
        let sent = second.sends(Kind::Read, BLOCK, 0);
        second.read(7, &[stamp(90)], sent).expect("judged later");
        assert_eq!(second.settle().expect_err("stale").property, "B1");
    }

    #[test]
    fn what_was_never_sent_is_rejected() {
        let mut second = Second::default();
        let sent = second.sends(Kind::Read, BLOCK, 0);
        second.read(7, &[stamp(90)], sent).expect("what was there");
        let late = second.read(7, &[stamp(92)], sent);
        assert_eq!(late.expect_err("from nowhere").property, "B1");
    }

    #[test]
    fn writes_in_flight_with_reads_may_show_in_either_order() {
        let mut second = Second::default();
        let sent = second.sends(Kind::Read, BLOCK, 0);
        second.sends(Kind::Write, BLOCK, 91);
        second.sends(Kind::Write, BLOCK, 92);
        second.read(7, &[stamp(92)], sent).expect("in flight");
        let sent = second.sends(Kind::Read, BLOCK, 0);
        second.read(7, &[stamp(91)], sent).expect("in flight");
        second.wrote(BLOCK, 92);
        second.wrote(BLOCK, 91);
        second.settle().expect("92, then 91");
    }
}
