//! Bytes on their way: cut into segments, late, broken off, flipped, and not read.

use super::pipe::Segment;
use crate::choice::Die;
use crate::world::{Event, MS, SEC, US, World};

/// After so long without a word the target's kernel gives a connection up (`Limits::silence`).
const SILENCE: u64 = 30 * SEC;

impl World {
    /// Sends what an initiator has to say.
    pub(crate) fn flush(&mut self, seat: usize, conn: u32) {
        let Some(c) = self.front(seat).conns.get_mut(&conn) else {
            return;
        };
        let Some(peer) = c.peer.as_mut() else { return };
        let mut bytes = std::mem::take(&mut peer.out);
        if bytes.is_empty() {
            return;
        }
        if let Some(at) = c.inward.flip.take() {
            let at = (at % bytes.len() as u64) as usize;
            bytes[at] ^= 1 << (at & 7);
        }
        let breaks = c.inward.breaks(&mut bytes);
        self.cut(seat, conn, true, bytes);
        if let Some(silent) = breaks {
            self.snap(seat, conn, silent);
        }
    }

    /// Puts bytes onto the wire, in one segment or in several.
    pub(super) fn cut(&mut self, seat: usize, conn: u32, inward: bool, bytes: Vec<u8>) {
        let Some(iscsi) = self.iscsi() else { return };
        let (cuts, latency) = (iscsi.cuts, iscsi.latency_us);
        let life = self.seats[seat].life;
        let base = self.wire_entity(seat, conn) | u64::from(inward) << 23;
        let mut rest = bytes.as_slice();
        let mut step = rest.len();
        let mut is_first = true;
        while !rest.is_empty() {
            let Some(c) = self
                .fronts
                .get_mut(&seat)
                .and_then(|f| f.conns.get_mut(&conn))
            else {
                return;
            };
            let pipe = if inward {
                &mut c.inward
            } else {
                &mut c.outward
            };
            let entity = base | pipe.number();
            if cuts && is_first {
                step = match self.choices.pick(Die::Segment, entity, 2, 16) {
                    0..8 => step,
                    8..15 => 1 + self.choices.pick(Die::Segment, entity, 3, step as u64) as usize,
                    // Many small ones, but not thousands.
                    _ => 1 + step / 64 + self.choices.pick(Die::Segment, entity, 3, 64) as usize,
                };
            }
            is_first = false;
            let (front, tail) = rest.split_at(step.min(rest.len()));
            rest = tail;
            let wait = 1 + self.choices.pick(Die::Segment, entity, 4, latency + 1) * US;
            let at = pipe.push(self.now + wait, Segment::Bytes(front.to_vec()));
            let event = Event::Segment {
                seat,
                life,
                conn,
                inward,
            };
            self.at(at, event);
        }
    }

    /// Ends a direction of a connection, after what is on its way.
    pub(super) fn cut_off(&mut self, seat: usize, conn: u32, inward: bool, wait: u64) {
        let life = self.seats[seat].life;
        let now = self.now;
        let Some(c) = self.front(seat).conns.get_mut(&conn) else {
            return;
        };
        let pipe = if inward {
            &mut c.inward
        } else {
            &mut c.outward
        };
        let at = pipe.push(now + wait, Segment::Reset);
        let event = Event::Segment {
            seat,
            life,
            conn,
            inward,
        };
        self.at(at, event);
    }

    /// The wire breaks: the initiator knows at once, the target hears of it soon or (`silent`) much later.
    pub(crate) fn snap(&mut self, seat: usize, conn: u32, silent: bool) {
        self.trace.tell(self.now, || {
            let how = if silent {
                ", and the target does not know"
            } else {
                ""
            };
            format!("seat {seat} connection {conn} breaks{how}")
        });
        let wait = if silent { SILENCE } else { MS };
        self.cut_off(seat, conn, true, wait);
        self.lose(seat, conn);
    }

    /// Something reaches an end of the wire.
    pub(crate) fn segment(&mut self, seat: usize, conn: u32, inward: bool) {
        let (now, life) = (self.now, self.seats[seat].life);
        let Some(c) = self.front(seat).conns.get_mut(&conn) else {
            return;
        };
        if inward {
            c.inward.arrive();
            self.read(seat, conn);
            return;
        }
        if c.outward.deaf_until > now {
            // Slow to read: nothing is taken from the socket before.
            let until = c.outward.deaf_until;
            let event = Event::Segment {
                seat,
                life,
                conn,
                inward,
            };
            self.at(until, event);
            return;
        }
        if c.peer.is_none() {
            // Nobody takes it: the target's buffer stays full.
            return;
        }
        match c.outward.take() {
            Some(Segment::Bytes(mut bytes)) => {
                if let Some(at) = c.outward.flip.take() {
                    let at = (at % bytes.len() as u64) as usize;
                    bytes[at] ^= 1 << (at & 7);
                }
                let breaks = c.outward.breaks(&mut bytes);
                self.trace.roll(bytes.len() as u64);
                self.hear(seat, conn, &bytes);
                if let Some(silent) = breaks {
                    self.snap(seat, conn, silent);
                } else {
                    // There is room in the socket again.
                    self.settle(seat, conn);
                    self.read(seat, conn);
                }
            }
            Some(Segment::Reset) => self.lose(seat, conn),
            None => {}
        }
    }
}
