//! Bodies of the fuzz targets, and what they check: no panic, lengths within what was declared, parse and emit inverse, numbers
//! that only go forward, at most one answer to a task. `fuzz/` calls these with bytes; a plain test replays the corpus.

mod sequence;
mod stream;

pub use sequence::session;
#[cfg(test)]
pub(crate) use stream::parse_then_emit_is_the_identity;
pub use stream::{login, pdu};

use crate::keys::{self, Answer, Negotiation, Offer};
use crate::scsi::cdb::Cdb;
use crate::scsi::execute::{self, Context};
use crate::scsi::reserve::Nexus;
use crate::scsi::unit::UnitView;
use crate::scsi::{Job, Step, status};
use crate::target::{Node, Target, TargetSpec, UnitSpec};
use bytes::Bytes;
use engine::effect::Gate;
use engine::ids::{Seq, VolumeId};
use engine::layers::split::pieces;
use engine::units::{BlockCount, ByteCount, Extent, Geometry, Lba};
use engine::{Command, Parts, Reply};
use std::sync::Arc;

/// Blocks of the units under test: 2 MiB, so that long jobs end.
const BLOCKS: u64 = 4096;
/// Steps that a job of such a unit may take: parts of 1 MiB, and retries that the input asks for.
const STEPS_MAX: usize = 512;

/// Input, read from the front; zeros when it is used up.
#[derive(Debug)]
struct Feed<'a>(&'a [u8]);

impl<'a> Feed<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at_checked(count).unwrap_or((self.0, &[]));
        self.0 = rest;
        front
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        for (to, from) in out.iter_mut().zip(self.take(N)) {
            *to = *from;
        }
        out
    }

    fn byte(&mut self) -> u8 {
        let [b] = self.array();
        b
    }

    fn short(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    fn word(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }
}

fn spec(name: &str) -> TargetSpec {
    let unit = |instance: u32| UnitSpec {
        volume: VolumeId([3; 16]),
        block_bytes: if instance == 2 { 4096 } else { 512 },
        capacity: BlockCount(BLOCKS),
        read_only: instance == 1,
        removable: instance == 2,
        instance,
    };
    TargetSpec {
        name: format!("iqn.2011-05.io.martlet:{name}"),
        credentials: None,
        initiators: Vec::new(),
        units: vec![unit(0), unit(1), unit(2)],
        gate: Gate::Open,
    }
}

fn target(node: &Node, name: &str) -> Arc<Target> {
    node.add(spec(name)).expect("a good specification")
}

/// Text keys: splitting, writing, negotiating.
pub fn keys(data: &[u8]) {
    let Ok(pairs) = keys::pairs(data) else {
        return;
    };
    let mut again = Vec::new();
    for (key, value) in &pairs {
        keys::push_pair(&mut again, key, value);
    }
    assert_eq!(keys::pairs(&again).as_ref(), Ok(&pairs));
    let mut negotiation = Negotiation::new(Offer::default());
    for (key, value) in pairs {
        if let Ok(Answer::Say(said)) = negotiation.handle(key, value) {
            assert!(said.len() < 64, "an answer is short");
        }
    }
    let params = negotiation.finish();
    let offer = Offer::default();
    assert!((512..1 << 24).contains(&params.max_send_bytes));
    assert!((512..=offer.max_burst_bytes).contains(&params.max_burst_bytes));
    assert!(params.first_burst_bytes <= params.max_burst_bytes);
    assert!((1..=offer.max_outstanding_r2t).contains(&params.max_outstanding_r2t));
}

/// One CDB with its data, to its end, on a volume whose replies the input chooses.
pub fn cdb(data: &[u8]) {
    let mut feed = Feed(data);
    let lun = u16::from(feed.byte() % 3);
    let replies = feed.array::<8>();
    let cdb = Cdb(feed.array());
    let node = Node::default();
    let target = target(&node, "v");
    let Some(unit) = target.units().get(usize::from(lun)) else {
        return;
    };
    let view = UnitView {
        unit,
        lun,
        flags: unit.flags(),
    };
    let nexus = Nexus {
        initiator: "iqn.x:a".into(),
        isid: [0; 6],
    };
    let Ok(request) = cdb.row().and_then(|row| row.parse(&cdb)) else {
        return;
    };
    if execute::check(&request, &view).is_err() {
        return;
    }
    let needed = request.data_out_bytes(view.block_bytes());
    let mut out = feed
        .take(usize::try_from(needed).unwrap_or(usize::MAX))
        .to_vec();
    if request.needs_exact_data() {
        out.resize(needed as usize, 0xa5);
    }
    let context = Context {
        target: &target,
        view,
        nexus: &nexus,
        tsih: 1,
    };
    let (mut job, mut step) = Job::start(&request, &context, Bytes::from(out));
    for turn in 0..STEPS_MAX {
        match step {
            Step::Done(outcome) => {
                let is_good = outcome.status == status::GOOD;
                assert!(outcome.data.is_empty() || is_good, "no data without GOOD");
                assert_eq!(
                    outcome.sense.is_some(),
                    outcome.status == status::CHECK_CONDITION
                );
                return;
            }
            Step::Ask(command) => {
                check_command(&target, lun, &command);
                let choice = replies.get(turn).copied().unwrap_or(0);
                step = job.resume(reply(view.block_bytes(), &command, choice));
            }
        }
    }
    panic!("a request on {BLOCKS} blocks did not end");
}

/// What a volume may be asked: within its capacity, with exactly the data and the sums that belong to it.
fn check_command(target: &Target, lun: u16, command: &Command<Bytes>) {
    let spec = target.units()[usize::from(lun)].spec();
    let whole = Extent::new(0, target.units()[usize::from(lun)].capacity().0);
    let geometry = Geometry::standard(spec.block_bytes, whole.count);
    let within = |extent: &Extent| {
        assert!(
            !extent.is_empty() && whole.contains(*extent),
            "{extent} leaves the unit"
        );
    };
    let carries = |at: &Extent, data: &Bytes, sums: usize| {
        assert_eq!(geometry.bytes(at.count).0, data.len() as u64);
        assert_eq!(pieces(&geometry, *at).count(), sums);
    };
    match command {
        Command::Read(extent) => within(extent),
        Command::Write { at, data, sums, .. } => {
            assert!(!spec.read_only, "a write of a unit that takes none");
            within(at);
            carries(at, data, sums.len());
        }
        Command::CompareAndWrite {
            at,
            expect,
            data,
            sums,
            ..
        } => {
            within(at);
            carries(at, data, sums.len());
            assert_eq!(expect.len(), data.len());
            assert!(data.len() <= 1 << 20, "one record");
        }
        Command::Discard(extents) => {
            assert!(!extents.is_empty() && extents.len() <= 64);
            extents.iter().for_each(within);
            let disjoint = |pair: &[Extent]| pair[0].end() < pair[1].start;
            assert!(extents.windows(2).all(disjoint), "ascending and apart");
        }
        Command::WriteZeroes { at, .. } => within(at),
        Command::Flush | Command::PutAttribute { .. } => {}
    }
}

/// A reply that fits the command, or a refusal.
fn reply(block_bytes: u32, command: &Command<Bytes>, choice: u8) -> Reply<Bytes> {
    use engine::command::Failure;
    match (choice % 8, command) {
        (1, _) => Reply::Busy,
        (2, _) => Reply::Failed(Failure::Hardware),
        (3, _) => Reply::Failed(Failure::Damaged { at: Lba(7) }),
        (4, _) => Reply::Failed(Failure::Aborted),
        (5, Command::CompareAndWrite { .. }) => Reply::Miscompare { at: ByteCount(1) },
        (_, Command::Read(extent)) => {
            let bytes = extent.count.0 * u64::from(block_bytes);
            if choice.is_multiple_of(2) {
                Reply::Read(Parts::zeros(ByteCount(bytes)))
            } else {
                // Two parts, cut in the middle of a block.
                let half = (bytes / 2) as usize;
                let mut parts = Parts::one(Bytes::from(vec![0x11; half]));
                parts.extend(Parts::zeros(ByteCount(bytes - half as u64)));
                Reply::Read(parts)
            }
        }
        _ => Reply::Done { durable: Seq(1) },
    }
}

#[cfg(test)]
mod tests;
