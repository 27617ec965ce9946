//! The front of a process: initiators, the wire between, and the shipping iSCSI and SCSI machines before the engine.
//!
//! ```text
//!   guests ─► Peer (initiator) ═bytes═► Pipe ═bytes═► Link ─► session, SCSI ─► Command ─► engine
//!                              ◄═bytes═ Pipe ◄═bytes═      ◄─────────────────── Reply ◄──
//!              ours, honest     latency, cuts, breaks      transport-iscsi, unchanged
//! ```
//!
//! Reading order: `pdu`, `login`, `task`, `peer` (the initiator), `pipe` (the wire), this file (the front), `carry` and
//! `settle` (the wire's two ends), `ask`, `judge` and `attention` (what must hold of what an initiator heard), `function`
//! (aborts, resets, logouts, breaks).

pub(crate) mod ask;
pub(crate) mod attention;
pub(crate) mod bytes;
mod carry;
mod chap;
pub(crate) mod function;
pub(crate) mod judge;
pub(crate) mod login;
pub(crate) mod pdu;
pub(crate) mod peer;
pub(crate) mod pipe;
mod reserve;
mod reserving;
mod second;
mod settle;
pub(crate) mod task;

use crate::choice::{Die, hash, mix};
use crate::config::{Guard, Iscsi};
use crate::iscsi::chap::Proof;
use crate::iscsi::login::{TARGET, Wishes};
use crate::iscsi::peer::{Peer, Phase};
use crate::iscsi::pipe::Pipe;
use crate::iscsi::task::Task;
use crate::oracle::Violation;
use crate::seat::Wished1;
use crate::world::{Event, SEC, US, World};
use ::bytes::Bytes;
use engine::Wish;
use engine::effect::{Gate, GateReason};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use transport_iscsi::keys::Offer;
use transport_iscsi::link::{Deadline, Link, Replies};
use transport_iscsi::session::Setup;
use transport_iscsi::target::{
    Credentials, Doorbell, Lookout, Mailbox, Node, Target, TargetSpec, UnitSpec,
};

/// A login that takes longer is given up by its initiator.
const LOGIN: u64 = 30 * SEC;

/// Connections that have mail, and whether the target asks for a look.
#[derive(Debug, Default)]
struct Rung {
    conns: Mutex<BTreeSet<u32>>,
    asks_look: AtomicBool,
}

impl Lookout for Rung {
    fn look(&self) {
        self.asks_look.store(true, Ordering::Relaxed);
    }
}

/// One connection's bell.
#[derive(Debug)]
struct Bell(u32, Arc<Rung>);

impl Doorbell for Bell {
    fn ring(&self) {
        let mut rung = self.1.conns.lock().unwrap_or_else(PoisonError::into_inner);
        rung.insert(self.0);
    }
}

/// What a process offers to initiators, as long as it lives.
#[derive(Debug)]
struct Portal {
    node: Arc<Node>,
    target: Arc<Target>,
    rung: Arc<Rung>,
}

/// An initiator of a seat: it outlives connections and processes.
#[derive(Debug)]
pub(crate) struct Initiator {
    name: String,
    isid: [u8; 6],
    /// The connection that it uses.
    pub(crate) conn: Option<u32>,
    /// Logins tried.
    logins: u64,
    /// When it began the last one, and when the last good one was over.
    pub(crate) began: u64,
    pub(crate) logged_in_at: u64,
    /// A login is to be tried again.
    is_waiting: bool,
    /// Guests that wait for a session or for its window.
    parked: Vec<u32>,
    pub(crate) attentions: attention::Attentions,
}

/// One connection: the target's side, the initiator's side, and what is between them.
#[derive(Debug)]
pub(crate) struct Conn {
    /// Out of its place while it settles; gone when it is over.
    link: Option<Link<Bytes>>,
    /// Gone when the initiator is through with it.
    pub(crate) peer: Option<Peer>,
    outbox: Replies<Bytes>,
    is_rung: bool,
    deadline: Option<Deadline>,
    pub(crate) inward: Pipe,
    pub(crate) outward: Pipe,
}

/// A seat's front.
#[derive(Debug, Default)]
pub(crate) struct Front {
    pub(crate) initiators: Vec<Initiator>,
    portal: Option<Portal>,
    pub(crate) gate: Option<Gate>,
    /// When the gate was last seen closed.
    pub(crate) closed_at: u64,
    pub(crate) conns: BTreeMap<u32, Conn>,
    /// Sessions that their initiators have lost, by connection: the target may still work for them.
    pub(crate) lost: BTreeMap<u32, Peer>,
    next_conn: u32,
    /// Counts looks for logins.
    looks: u32,
    /// Replies to the connection that settles right now.
    inline: Option<(u32, Replies<Bytes>)>,
    /// When a function was last sent that ends other sessions' tasks.
    pub(crate) cleared_at: u64,
    second: second::Second,
    reserves: reserve::Reserves,
}

impl World {
    pub(crate) fn front(&mut self, seat: usize) -> &mut Front {
        self.fronts.entry(seat).or_default()
    }

    pub(crate) fn iscsi(&self) -> Option<&Iscsi> {
        self.config.iscsi.as_ref()
    }

    fn credentials(&self) -> Option<Credentials> {
        let guard = self.iscsi().map_or(Guard::Open, |iscsi| iscsi.guard);
        (guard != Guard::Open).then(|| Credentials {
            user: chap::USER.to_owned(),
            secret: chap::SECRET.to_vec(),
            mutual: (guard == Guard::Mutual)
                .then(|| (chap::TARGET_USER.to_owned(), chap::TARGET_SECRET.to_vec())),
        })
    }

    /// A process begins: its target is there, its gate is closed.
    pub(crate) fn start_front(&mut self, seat: usize) {
        if self.iscsi().is_none() {
            return;
        }
        let volume = self.seats[seat].volume;
        let (id, geometry) = {
            let v = &self.volumes[volume];
            (v.container.id, v.geometry)
        };
        let gate = Gate::Closed(GateReason::NotServing);
        let node = Arc::new(Node::default());
        let spec = TargetSpec {
            name: TARGET.to_owned(),
            credentials: self.credentials(),
            initiators: Vec::new(),
            units: vec![UnitSpec {
                volume: id,
                block_bytes: geometry.block_bytes,
                capacity: geometry.capacity,
                read_only: false,
                removable: false,
                instance: 0,
            }],
            gate,
        };
        let target = node.add(spec).expect("the first target of a node");
        let count = self.config.initiators;
        let now = self.now;
        let front = self.front(seat);
        let rung = Arc::<Rung>::default();
        target.set_lookout(rung.clone());
        front.portal = Some(Portal { node, target, rung });
        front.looks += 1;
        front.gate = Some(gate);
        front.closed_at = now;
        // Registrations end with the process (PTPL_C is 0).
        front.reserves = reserve::Reserves::default();
        for n in front.initiators.len() as u32..count {
            front.initiators.push(Initiator {
                name: format!("iqn.2026-01.example:seat{seat}-{n}"),
                isid: [0x80, 0, 0, seat as u8, n as u8, 0],
                conn: None,
                logins: 0,
                began: 0,
                logged_in_at: 0,
                is_waiting: false,
                parked: Vec::new(),
                attentions: attention::Attentions::default(),
            });
        }
        for initiator in &mut front.initiators {
            initiator.is_waiting = false;
            initiator.parked.clear();
        }
    }

    /// The process is gone. What it said before may still reach the initiators, up to any byte.
    pub(crate) fn end_front(&mut self, seat: usize) {
        if self.iscsi().is_none() {
            return;
        }
        let conns: Vec<u32> = self.front(seat).conns.keys().copied().collect();
        for conn in conns {
            let entity = self.wire_entity(seat, conn);
            let in_flight = self.front(seat).conns.get_mut(&conn).map(|c| {
                let bytes = c.outward.drain();
                c.link = None;
                bytes
            });
            let bytes = in_flight.unwrap_or_default();
            let share = self.choices.pick(Die::Segment, entity, 1, 3);
            let count = match share {
                0 => 0,
                1 => bytes.len() as u64,
                _ => self
                    .choices
                    .pick(Die::Segment, entity, 2, bytes.len() as u64 + 1),
            };
            self.hear(seat, conn, &bytes[..count as usize]);
            self.lose(seat, conn);
        }
        let front = self.front(seat);
        front.portal = None;
        front.conns.clear();
        front.lost.clear();
        front.inline = None;
        for initiator in &mut front.initiators {
            initiator.conn = None;
            initiator.parked.clear();
            initiator.attentions = attention::Attentions::default();
        }
    }

    /// The engine's gate moves; the target hears of it a little later.
    pub(crate) fn gate_moves(&mut self, seat: usize, gate: Gate) {
        if self.iscsi().is_none() {
            return;
        }
        self.front(seat).gate = Some(gate);
        let life = self.seats[seat].life;
        self.after(20 * US, Event::Gate { seat, life });
    }

    /// The target follows the gate.
    pub(crate) fn follow_gate(&mut self, seat: usize) {
        let now = self.now;
        let front = self.front(seat);
        let (Some(portal), Some(gate)) = (&front.portal, front.gate) else {
            return;
        };
        if portal.target.gate() != Gate::Open {
            front.closed_at = now;
        }
        portal.target.set_gate(gate);
        if gate == Gate::Open {
            let waiting = 0..front.initiators.len();
            for n in waiting {
                self.unpark_initiator(seat, n);
            }
        }
        self.ring(seat);
    }

    /// The first login after idle waits for a look, for a while.
    fn look(&mut self, seat: usize) {
        let life = self.seats[seat].life;
        let look = self.front(seat).looks;
        self.after(3 * SEC, Event::Looked { seat, life, look });
        self.ask_wish(seat, Wished1::Look(look), Wish::Look);
    }

    /// That look is made, or took too long: the gate is what it is, and logins go on.
    pub(crate) fn looked(&mut self, seat: usize, look: u32) {
        if self.front(seat).looks != look {
            return;
        }
        self.follow_gate(seat);
        let front = self.front(seat);
        front.looks += 1;
        if let Some(portal) = &front.portal {
            portal.target.looked();
        }
        self.ring(seat);
    }

    fn wire_entity(&self, seat: usize, conn: u32) -> u64 {
        (seat as u64) << 48 | u64::from(conn) << 24
    }

    /// Guests that waited for a session or its window go on, as many as it takes.
    pub(crate) fn unpark_initiator(&mut self, seat: usize, n: usize) {
        let life = self.seats[seat].life;
        let parked = std::mem::take(&mut self.front(seat).initiators[n].parked);
        for slot in parked {
            self.after(1, Event::Guest { seat, life, slot });
        }
    }

    /// The session of a guest's initiator, if it takes a command now; else the guest waits for it.
    pub(crate) fn session_of(&mut self, seat: usize, slot: u32) -> Option<u32> {
        let n = (slot / self.config.depth) as usize;
        let front = self.front(seat);
        let initiator = &mut front.initiators[n];
        let conn = initiator.conn;
        let takes = conn
            .and_then(|c| front.conns.get(&c))
            .and_then(|c| c.peer.as_ref())
            .is_some_and(|p| p.has_window() && !initiator.attentions.is_new());
        if takes {
            return conn;
        }
        initiator.parked.push(slot);
        if conn.is_none() && !initiator.is_waiting {
            self.connect(seat, n);
        }
        None
    }

    /// An initiator logs in, by the same name as before or by a new one.
    pub(crate) fn connect(&mut self, seat: usize, n: usize) {
        let Some(iscsi) = self.config.iscsi.clone() else {
            return;
        };
        let now = self.now;
        let front = self.front(seat);
        let Some(portal) = &front.portal else { return };
        front.next_conn += 1;
        let number = front.next_conn;
        let (node, rung) = (portal.node.clone(), portal.rung.clone());
        let initiator = &mut front.initiators[n];
        initiator.logins += 1;
        initiator.began = now;
        initiator.conn = Some(number);
        initiator.is_waiting = false;
        let login = (seat as u64) << 40 | (n as u64) << 32 | initiator.logins;
        let (name, mut isid) = (initiator.name.clone(), initiator.isid);
        if self.choices.pick(Die::Keys, login, 100, 5) == 4 {
            isid[5] = isid[5].wrapping_add(1);
            self.front(seat).initiators[n].isid = isid;
        }
        let wishes = Wishes::draw(&mut self.choices, login, iscsi.digests);
        let first =
            [1, u32::MAX - 2, 0x7fff_fff0][self.choices.pick(Die::Keys, login, 101, 3) as usize];
        let seed = self.choices.seed();
        let word = |nth: u32| hash(seed, Die::Seed, login, 500 + nth).to_le_bytes();
        let mut entropy = [0; 32];
        for (chunk, nth) in entropy.chunks_mut(8).zip(0..) {
            chunk.copy_from_slice(&word(nth));
        }
        let setup = Setup {
            node,
            mailbox: Arc::new(Mailbox::new(Arc::new(Bell(number, rung)))),
            number,
            entropy,
            portal: "192.0.2.1:3260".to_owned(),
            offer: Offer {
                max_recv_bytes: iscsi.max_recv,
                max_burst_bytes: iscsi.max_burst,
                first_burst_bytes: iscsi.first_burst.min(iscsi.max_burst),
                initial_r2t: iscsi.initial_r2t,
                immediate_data: iscsi.immediate_data,
                prefer_digests: iscsi.digests > 50,
                ..Offer::default()
            },
            window: iscsi.window,
            inflight_bytes: iscsi.inflight_bytes,
        };
        self.trace.roll(0xf000 ^ login);
        self.trace.tell(self.now, || {
            format!("seat {seat} initiator {n} connects as {isid:02x?} (connection {number}): {wishes:?}")
        });
        let is_honest = !self.chaos();
        let proof = Proof::draw(&mut self.choices, login, iscsi.guard, is_honest);
        let peer = Peer::new(n, isid, &name, wishes, proof, first);
        let conn = Conn {
            link: Some(Link::new(setup)),
            peer: Some(peer),
            outbox: Vec::new(),
            is_rung: false,
            deadline: Some(Deadline::Login),
            inward: Pipe::default(),
            outward: Pipe::default(),
        };
        self.front(seat).conns.insert(number, conn);
        let life = self.seats[seat].life;
        let late = |deadline| Event::Late {
            seat,
            life,
            conn: number,
            deadline,
        };
        self.after(15 * SEC, late(0));
        self.after(LOGIN, late(2));
        self.flush(seat, number);
    }

    /// A login is tried again later.
    pub(crate) fn connect_later(&mut self, seat: usize, n: usize, wait: u64) {
        let life = self.seats[seat].life;
        let initiator = &mut self.front(seat).initiators[n];
        if !std::mem::replace(&mut initiator.is_waiting, true) {
            self.after(wait, Event::Connect { seat, life, n });
        }
    }

    /// A deadline has passed: of the target (0 login, 1 linger) or of the initiator (2 login).
    pub(crate) fn late(&mut self, seat: usize, conn: u32, deadline: u8) {
        let Some(c) = self.front(seat).conns.get_mut(&conn) else {
            return;
        };
        if deadline == 2 {
            if c.peer.as_ref().is_some_and(|p| p.phase == Phase::Login) {
                self.trace.tell(self.now, || {
                    format!("seat {seat} connection {conn}: the login takes too long")
                });
                self.lose(seat, conn);
            }
            return;
        }
        let meant = [Deadline::Login, Deadline::Linger][usize::from(deadline)];
        if let Some(link) = c.link.as_mut()
            && link.deadline() == Some(meant)
        {
            link.handle_gone();
            self.settle(seat, conn);
        }
    }

    /// The task of that connection, whether its initiator has lost it or not.
    pub(crate) fn task_of(&mut self, seat: usize, conn: u32, itt: u32) -> Option<&mut Task> {
        self.tasks_of(seat, conn)?.get_mut(&itt)
    }

    pub(crate) fn tasks_of(&mut self, seat: usize, conn: u32) -> Option<&mut BTreeMap<u32, Task>> {
        let front = self.front(seat);
        let lives = front.conns.get_mut(&conn).and_then(|c| c.peer.as_mut());
        match lives {
            Some(peer) => Some(&mut peer.tasks),
            None => front.lost.get_mut(&conn).map(|p| &mut p.tasks),
        }
    }

    /// Whether an initiator waits for an answer.
    pub(crate) fn is_wire_busy(&self) -> bool {
        self.fronts.values().any(|f| {
            let peers = f.conns.values().filter_map(|c| c.peer.as_ref());
            let mut busy = peers.filter(|p| !p.tasks.is_empty() || !p.functions.is_empty());
            busy.next().is_some()
        })
    }

    pub(crate) fn misuse(&mut self, property: &'static str, text: impl Into<String>) {
        self.fail(Violation::new(property, text));
    }
}

/// What a connection's first PDU of pings is made of.
pub(crate) fn ping_data(op: u64) -> Vec<u8> {
    let length = (op % 97) as usize;
    (0..length).map(|i| mix(op, i as u64) as u8).collect()
}
