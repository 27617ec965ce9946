//! A connection that is fed random bytes and damaged captures of real initiators neither panics nor takes memory that its
//! limits do not allow.

use bytes::Bytes;
use cap::Cap;
use engine::effect::Gate;
use engine::ids::VolumeId;
use engine::units::{BlockCount, ByteCount};
use engine::{Command, Parts, Reply};
use martlet_transport_iscsi::keys::Offer;
use martlet_transport_iscsi::session::{Action, Connection, Setup};
use martlet_transport_iscsi::target::{Doorbell, Mailbox, Node, TargetSpec, UnitSpec};
use std::path::Path;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: Cap<std::alloc::System> = Cap::new(std::alloc::System, usize::MAX);

/// Streams: fewer where nothing is optimized.
const STREAMS: u64 = if cfg!(debug_assertions) {
    10_000
} else {
    1_000_000
};
/// What a connection may have under way, in bytes.
const INFLIGHT_BYTES: u64 = 1 << 20;
/// Commands of a session at once.
const WINDOW: u32 = 8;
/// Unsolicited bytes of a command.
const FIRST_BURST_BYTES: u32 = 64 << 10;
/// Beyond what is under way: unsolicited data of a full window, answers, tables; and one command, which is let in even when it
/// is larger than the limit (at most the longest transfer).
const MEMORY_BYTES: usize = INFLIGHT_BYTES as usize
    + (WINDOW + 16) as usize * FIRST_BURST_BYTES as usize
    + (32 << 20)
    + (1 << 20);

#[derive(Debug)]
struct Silent;

impl Doorbell for Silent {
    fn ring(&self) {}
}

/// Xorshift: the streams are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % sides.max(1)
    }
}

fn captures() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/captures");
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .expect("captures")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    names.sort();
    names
        .iter()
        .map(|path| std::fs::read(path).expect("a capture"))
        .collect()
}

fn node() -> Arc<Node> {
    let node = Node::default();
    let unit = UnitSpec {
        volume: VolumeId([1; 16]),
        block_bytes: 512,
        capacity: BlockCount(1 << 19),
        read_only: false,
        removable: false,
        instance: 0,
    };
    node.add(TargetSpec {
        name: "iqn.2011-05.io.martlet:ram".to_owned(),
        credentials: None,
        initiators: Vec::new(),
        units: vec![unit],
        gate: Gate::Open,
    })
    .expect("a target");
    Arc::new(node)
}

/// A part of a capture, damaged in a few places; now and then only noise.
fn stream(dice: &mut Dice, captures: &[Vec<u8>], out: &mut Vec<u8>) {
    out.clear();
    if dice.roll(16) == 0 {
        let length = dice.roll(200);
        out.extend((0..length).map(|_| dice.roll(256) as u8));
        return;
    }
    let capture = &captures[dice.roll(captures.len())];
    let length = if dice.roll(8) == 0 {
        capture.len()
    } else {
        900
    };
    out.extend(&capture[..length.min(capture.len())]);
    // Mostly behind the login, so that there is a session to damage.
    let from = if dice.roll(4) == 0 {
        0
    } else {
        560.min(out.len() - 1)
    };
    for _ in 0..dice.roll(6) {
        let at = from.min(out.len() - 1) + dice.roll(out.len().saturating_sub(from));
        let at = at.min(out.len() - 1);
        match dice.roll(4) {
            0 => out[at] = dice.roll(256) as u8,
            1 => out[at] ^= 1 << dice.roll(8),
            2 => out.truncate(at.max(48)),
            _ => {
                // A PDU's worth of bytes from elsewhere.
                let from = dice.roll(out.len() / 48) * 48;
                let to = at / 48 * 48;
                let piece: Vec<u8> = out[from..].iter().take(48).copied().collect();
                for (byte, new) in out[to..].iter_mut().zip(piece) {
                    *byte = new;
                }
            }
        }
    }
}

fn answer(command: &Command<Bytes>) -> Reply<Bytes> {
    match command {
        Command::Read(extent) => Reply::Read(Parts::zeros(ByteCount(extent.count.0 * 512))),
        _ => Reply::Busy,
    }
}

#[test]
fn damaged_streams_neither_panic_nor_take_memory() {
    let captures = captures();
    assert!(captures.len() >= 8, "captures of real clients");
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::new();
    let mut entered = 0;
    let mut answered = 0_u64;
    let mut peak = 0;
    for number in 0..STREAMS {
        let node = node();
        stream(&mut dice, &captures, &mut bytes);
        let before = ALLOCATOR.allocated();
        let mut machine = Connection::<Bytes>::new(Setup {
            node,
            mailbox: Arc::new(Mailbox::new(Arc::new(Silent))),
            number: 1,
            entropy: [number as u8; 32],
            portal: "127.0.0.1:3260".to_owned(),
            offer: Offer {
                first_burst_bytes: FIRST_BURST_BYTES,
                ..Offer::default()
            },
            window: WINDOW,
            inflight_bytes: INFLIGHT_BYTES,
        });
        let portion = 1 + dice.roll(2000);
        let mut held = Vec::new();
        for part in bytes.chunks(portion) {
            machine.handle_bytes(part);
            while let Some(action) = machine.poll_action() {
                match action {
                    Action::Submit { tag, command, .. } => held.push((tag, command)),
                    Action::Entered(_) => entered += 1,
                    Action::Abort { .. } => {}
                }
            }
            let used = ALLOCATOR.allocated().saturating_sub(before);
            assert!(used <= MEMORY_BYTES, "stream {number} holds {used} bytes");
            peak = peak.max(used);
            if dice.roll(2) == 0 {
                for (tag, command) in held.drain(..) {
                    machine.handle_reply(tag, answer(&command));
                    answered += 1;
                }
            }
            let unsent = machine.transmit().len();
            machine.handle_sent(unsent);
        }
        machine.handle_disconnect();
        for (tag, command) in held {
            machine.handle_reply(tag, answer(&command));
        }
        while let Some(action) = machine.poll_action() {
            if let Action::Submit { tag, command, .. } = action {
                machine.handle_reply(tag, answer(&command));
            }
        }
        assert!(machine.is_done(), "stream {number} leaves a session behind");
    }
    // The streams must reach what they are meant to reach.
    assert!(entered > STREAMS / 4, "{entered} of {STREAMS} logged in");
    assert!(
        answered > STREAMS / 50,
        "{answered} commands reached the volume"
    );
    eprintln!("{STREAMS} streams, {entered} logins, {answered} commands, at most {peak} bytes");
}
