//! A guest's operation as a SCSI command of its initiator.

use super::task::{Shape, Task, build};
use crate::choice::Die;
use crate::iscsi::bytes::expand;
use crate::payload::Stamp;
use crate::workload::{Kind, Plan};
use crate::world::{Event, MS, World};
use engine::units::Extent;

impl World {
    /// An initiator sends a guest's operation.
    pub(crate) fn ask_initiator(&mut self, seat: usize, conn: u32, slot: u32, op: u64, plan: Plan) {
        let (now, unit) = (self.now, self.config.geometry.block_bytes);
        let write = self.next_tag;
        self.next_tag += 1;
        let shape = self.shape(op, &plan);
        let first = plan.extents.first().copied().unwrap_or(Extent::new(0, 0));
        let volume = self.seats[seat].volume as u32 + 1;
        let s = &self.seats[seat];
        let Some(history) = s.history.as_ref() else {
            return;
        };
        let mut task = Task::new(plan.kind, plan.extents.clone(), shape, slot);
        task.op = Some(op);
        task.write = write;
        task.epoch = s.epoch;
        task.fua = plan.fua && !matches!(plan.kind, Kind::WriteZeroes | Kind::Wrong);
        task.answered = s.answered();
        if matches!(plan.kind, Kind::Read | Kind::CompareAndWrite) {
            task.floors = history.floors(first);
        }
        if plan.kind == Kind::CompareAndWrite {
            task.expect = first.range().map(|lba| history.newest(lba)).collect();
            if plan.extra.is_multiple_of(4) {
                let at = plan.extra as usize / 4 % task.expect.len();
                task.expect[at] = Stamp {
                    volume,
                    lba: first.start.0 as u32 + at as u32,
                    write: u64::MAX - write,
                };
            }
        }
        let writes = matches!(plan.kind, Kind::Write | Kind::CompareAndWrite);
        let stamps = first.range().filter(|_| writes).map(|lba| Stamp {
            volume,
            lba: lba as u32,
            write,
        });
        let data = expand(unit, stamps);
        let expect = expand(unit, task.expect.iter().copied());
        let mut extents = plan.extents;
        let short = plan.kind == Kind::Write && shape.beyond < 0;
        if short {
            // The command names one block more than there is data for.
            extents[0].count.0 += 1;
        }
        let command = build(
            plan.kind, &extents, task.fua, shape.form, unit, &expect, data,
        );
        self.trace.roll(0xa800 ^ write);
        self.trace.tell(now, || {
            let fua = if task.fua { " fua" } else { "" };
            format!(
                "seat {seat} connection {conn} sends {:?} {:?}{fua} (write {write}) {shape:?}",
                task.kind, task.extents
            )
        });
        task.sent_tick = self.second_sends(seat, &task);
        task.reserve_version = self.front(seat).reserves.version;
        let Some(peer) = self.peer_of(seat, conn) else {
            return;
        };
        let itt = peer.command(task, command, now);
        if self.choices.pick(Die::Abort, op, 0, 100) >= 100 - u64::from(self.config.mix.abort) {
            let wait = self.choices.pick(Die::Abort, op, 1, 2 * MS);
            let life = self.seats[seat].life;
            let event = Event::Function {
                seat,
                life,
                conn,
                itt,
                op,
            };
            self.after(wait, event);
        }
        self.reserve(seat, conn, op);
        self.befall(seat, conn, op);
        self.watch(seat, conn);
        self.flush(seat, conn);
    }

    /// How the initiator goes about it.
    fn shape(&mut self, op: u64, plan: &Plan) -> Shape {
        let mut pick = |nth: u32, of: u64| self.choices.pick(Die::Op, op, 2000 + nth, of);
        let form = pick(0, 6);
        let unsolicited = pick(1, 3);
        let segment = [0, 0, 0, 4096, 512, 1000][pick(2, 6) as usize];
        let odd = pick(3, 8);
        let amount = pick(4, 2 * u64::from(self.config.geometry.block_bytes)) as i32;
        let is_odd = self.iscsi().is_some_and(|i| i.odd_lengths);
        let geometry = &self.config.geometry;
        let unit = geometry.block_bytes as i32;
        let bytes = plan.extents.first().map_or(0, |e| e.count.0 as i32) * unit;
        let beyond = match (plan.kind, odd) {
            _ if !is_odd => 0,
            (Kind::Read, 6) => amount,
            (Kind::Read, 7) => -amount.min(bytes),
            (Kind::Write, 6) => amount,
            (Kind::Write, 7) if plan.extents[0].end().0 < geometry.capacity.0 => -unit,
            _ => 0,
        };
        Shape {
            form,
            unsolicited,
            segment,
            beyond,
        }
    }
}
