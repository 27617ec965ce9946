//! The target's side of a connection, in place of the tokio front: what arrives goes to the link, what the link asks for goes
//! to the engine, what it says goes onto the wire.

use super::pipe::Segment;
use super::{bytes, judge};
use crate::choice::Die;
use crate::payload::Blocks;
use crate::seat::Wished1;
use crate::world::{Event, MS, SEC, US, World};
use ::bytes::Bytes;
use engine::ids::Tag;
use engine::{Command, Reply, Wish};
use std::io::IoSlice;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use transport_iscsi::link::{Deadline, Link, Next, Origin, Replies, Units};
use transport_iscsi::target::Target;

/// The seat's volume, for a link.
struct Hand<'a> {
    world: &'a mut World,
    seat: usize,
    conn: u32,
}

impl Units<Bytes> for Hand<'_> {
    fn enter(&mut self, _: &Arc<Target>) {}

    fn submit(&mut self, from: Origin, command: Command<Bytes>, replies: &mut Replies<Bytes>) {
        self.world.submit(self.seat, self.conn, from, command);
        self.take(replies);
    }

    fn abort(&mut self, _: u16, tag: Tag, replies: &mut Replies<Bytes>) {
        self.world.abort(self.seat, tag.0);
        self.take(replies);
    }

    fn sessions(&mut self, count: usize) {
        // When faults have stopped somebody is always there: an idle host does not watch its door.
        let least = usize::from(!self.world.chaos());
        let wish = Wish::Sessions(count.max(least) as u32);
        self.world.ask_wish(self.seat, Wished1::Sessions, wish);
    }
}

impl Hand<'_> {
    fn take(&mut self, replies: &mut Replies<Bytes>) {
        if let Some((_, inline)) = self.world.front(self.seat).inline.as_mut() {
            replies.append(inline);
        }
    }
}

/// A socket that is nearly full waits until it takes so much at once (RFC 9293 §3.8.6.2.1, "Sender's Algorithm").
const SEND_BYTES: u64 = 1460;

impl World {
    /// The target reads what has arrived, as long as it listens.
    pub(super) fn read(&mut self, seat: usize, conn: u32) {
        loop {
            let Some(c) = self.front(seat).conns.get_mut(&conn) else {
                return;
            };
            let Some(link) = c.link.as_mut() else { return };
            let listens = matches!(link.next(), Next::Wait { listens: true, .. });
            // A reset is noticed without reading.
            let is_reset = matches!(c.inward.arrived.front(), Some(Segment::Reset));
            if !listens && !is_reset {
                return;
            }
            match c.inward.arrived.pop_front() {
                Some(Segment::Bytes(bytes)) => {
                    let takes_direct = c.inward.number() % 2 == 0;
                    let mut rest = bytes.as_slice();
                    let machine = link.machine();
                    if takes_direct && let Some((buffer, left)) = machine.direct() {
                        let (front, tail) = rest.split_at(left.min(rest.len()));
                        buffer.extend_from_slice(front);
                        machine.handle_direct(front.len());
                        rest = tail;
                    }
                    if !rest.is_empty() {
                        machine.handle_bytes(rest);
                    }
                    self.trace.events += 1;
                    *self.trace.kinds.entry("bytes").or_default() += 1;
                    self.trace.roll(0x1_0000 ^ bytes.len() as u64);
                }
                Some(Segment::Reset) => link.handle_gone(),
                None => return,
            }
            self.settle(seat, conn);
        }
    }

    /// Replies and mail reach a connection.
    pub(crate) fn rung(&mut self, seat: usize, conn: u32) {
        let Some(c) = self.front(seat).conns.get_mut(&conn) else {
            return;
        };
        c.is_rung = false;
        let mut replies = std::mem::take(&mut c.outbox);
        if let Some(link) = c.link.as_mut() {
            link.handle_rung(&mut replies);
            self.settle(seat, conn);
            self.read(seat, conn);
        }
    }

    /// Those whose bell has rung look soon.
    pub(super) fn ring(&mut self, seat: usize) {
        let Some(portal) = &self.front(seat).portal else {
            return;
        };
        let rung = {
            let conns = &portal.rung.conns;
            let mut rung = conns.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *rung)
        };
        let asks_look = portal.rung.asks_look.swap(false, Ordering::Relaxed);
        for conn in rung {
            self.look_soon(seat, conn);
        }
        if asks_look {
            self.look(seat);
        }
    }

    fn look_soon(&mut self, seat: usize, conn: u32) {
        let life = self.seats[seat].life;
        let entity = self.wire_entity(seat, conn);
        let Some(c) = self.front(seat).conns.get_mut(&conn) else {
            return;
        };
        if std::mem::replace(&mut c.is_rung, true) {
            return;
        }
        let entity = entity | c.outward.number();
        let wait = 1 + self.choices.pick(Die::Segment, entity, 5, 30) * US;
        self.after(wait, Event::Rung { seat, life, conn });
    }

    /// Runs what a connection asks for, sends what it says, and ends it when it is over.
    pub(super) fn settle(&mut self, seat: usize, conn: u32) {
        let life = self.seats[seat].life;
        let front = self.front(seat);
        let Some(c) = front.conns.get_mut(&conn) else {
            return;
        };
        let Some(mut link) = c.link.take() else {
            return;
        };
        front.inline = Some((conn, Vec::new()));
        loop {
            link.settle(&mut Hand {
                world: self,
                seat,
                conn,
            });
            if !self.is_alive(seat, life) || !self.say(seat, conn, &mut link) {
                break;
            }
        }
        if !self.is_alive(seat, life) {
            // It died with its process.
            return;
        }
        self.front(seat).inline = None;
        match link.next() {
            Next::Over(why) => {
                self.trace.tell(self.now, || {
                    format!("seat {seat} connection {conn} is over: {why}")
                });
                link.leave(&mut Hand {
                    world: self,
                    seat,
                    conn,
                });
                drop(link);
                self.over(seat, conn);
            }
            Next::Shut => {
                link.handle_shut();
                self.cut_off(seat, conn, false, MS);
                self.put_back(seat, conn, link);
            }
            Next::Wait { .. } | Next::Replies => self.put_back(seat, conn, link),
        }
        if self.is_alive(seat, life) {
            self.ring(seat);
        }
    }

    fn put_back(&mut self, seat: usize, conn: u32, link: Link<Bytes>) {
        let life = self.seats[seat].life;
        let deadline = link.deadline();
        let Some(c) = self.front(seat).conns.get_mut(&conn) else {
            return;
        };
        c.link = Some(link);
        let is_new = deadline != std::mem::replace(&mut c.deadline, deadline);
        if is_new && deadline == Some(Deadline::Linger) {
            let deadline = 1;
            self.after(
                5 * SEC,
                Event::Late {
                    seat,
                    life,
                    conn,
                    deadline,
                },
            );
        }
    }

    /// The target's side is over.
    fn over(&mut self, seat: usize, conn: u32) {
        let now = self.now;
        let front = self.front(seat);
        let lost = front.lost.remove(&conn);
        if lost.is_some_and(|p| p.functions.values().any(|f| f.function.clears())) {
            // It may have been carried out up to now.
            front.cleared_at = now;
        }
        let is_left = self
            .front(seat)
            .conns
            .get(&conn)
            .is_some_and(|c| c.peer.is_none());
        if is_left {
            self.front(seat).conns.remove(&conn);
        } else {
            self.cut_off(seat, conn, false, MS);
        }
    }

    /// Gives the socket what it has room for. Whether something went.
    fn say(&mut self, seat: usize, conn: u32, link: &mut Link<Bytes>) -> bool {
        if !matches!(link.next(), Next::Wait { .. }) || link.state().transmit().is_empty() {
            return false;
        }
        let room = self.iscsi().map_or(0, |i| i.socket_bytes);
        let Some(c) = self.front(seat).conns.get(&conn) else {
            return false;
        };
        let room = room.saturating_sub(c.outward.bytes());
        if room < link.state().transmit().len().min(SEND_BYTES) {
            return false;
        }
        let room = room as usize;
        let mut bytes = Vec::new();
        while bytes.len() < room && !link.state().transmit().is_empty() {
            let from = bytes.len();
            let mut slices = [IoSlice::new(&[]); 16];
            let filled = link.state().transmit().slices(&mut slices);
            for slice in &slices[..filled] {
                let left = room - bytes.len();
                bytes.extend_from_slice(&slice[..slice.len().min(left)]);
            }
            let sent = (bytes.len() - from) as u64;
            link.machine().handle_sent(sent);
        }
        if bytes.is_empty() {
            return false;
        }
        self.cut(seat, conn, false, bytes);
        true
    }

    /// A session gives the volume a command.
    fn submit(&mut self, seat: usize, conn: u32, from: Origin, command: Command<Bytes>) {
        let (geometry, summing) = (self.volumes[self.seats[seat].volume].geometry, self.summing);
        if self.seats[seat].engine.is_none() {
            return;
        }
        let command = match bytes::command(&geometry, summing, command) {
            Ok(command) => command,
            Err(violation) => return self.fail(violation),
        };
        let itt = from.task.0;
        let task = self.task_of(seat, conn, itt);
        if !task.is_some_and(|task| judge::is_of(task, &command)) {
            let text = format!("a session asks for what no task of its initiator is: {command:?}");
            return self.misuse("R2", text);
        }
        self.ask_for_session(seat, conn, itt, from.tag, command);
    }

    /// The volume's reply for a session.
    pub(crate) fn reply_session(&mut self, seat: usize, tag: u64, reply: Reply<Blocks>) {
        let conn = (tag >> 32) as u32;
        let reply = (Tag(tag), bytes::reply(reply));
        let front = self.front(seat);
        if let Some((settling, inline)) = front.inline.as_mut()
            && *settling == conn
        {
            inline.push(reply);
            return;
        }
        if let Some(c) = front.conns.get_mut(&conn) {
            c.outbox.push(reply);
            self.look_soon(seat, conn);
        }
    }
}
