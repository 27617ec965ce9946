//! The publish machine: from a cut to a commit.
//!
//! Shape      cut → synced to the cut → attached → objects → leaves → root → look → told → synced commit note → files free.
//! Invariant  a root leaves only after every object it names was confirmed with its checksum.
//! Invariant  one publish at a time, in seq order; root n+1 leaves after n is committed.
//! Not here   the bytes of roots and leaves (`table`), which blocks go into which object (`plan`), fencing (`attach`).
//! Crash      at any arrow before the look: orphans of this attach id, and the layer is published again by the next start;
//!            after it: the next attach finds the root, whatever the note says.

mod commit;
mod job;
mod leaves;
mod merge;
mod plan;

use crate::attach::Look;
use crate::command::{Refusal, Verdict};
use crate::effect::{Effect, Notice, Outcome, StoreError};
use crate::ids::{AttachId, Container, FileId, Hash, Seq, Version, WishId, WishKey};
use crate::payload::Payload;
use crate::table::apply::ChunkDelta;
use crate::table::types::{Leaf, LeafRef, Root};
use crate::time::{Duration, Instant};
use crate::units::{ChunkIndex, Lba, LeafIndex};
use crate::volume::Volume;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use job::Job;
use leaves::Pack;
use merge::Merges;

/// What the store did not take is sent again after this.
const SEND_AGAIN: Duration = Duration::from_secs(1);

/// What an outcome of ours belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    /// A journal read for an object under construction.
    Piece {
        serial: u32,
        read: u32,
        file: FileId,
    },
    /// A read of a cache slot for a grain that is merged into an object under construction.
    Merge {
        serial: u32,
        read: u32,
        slot: u32,
    },
    /// A data object.
    Object {
        serial: u32,
    },
    /// Packed leaves.
    Leaves {
        serial: u32,
    },
    Root {
        run: u64,
    },
    Look {
        /// Counts the looks of the run: an outcome of one that was refused says nothing to the next.
        look: u32,
        slot: u32,
        run: u64,
    },
    /// A root or leaf being kept locally.
    Kept {
        run: u64,
    },
    /// A snapshot's root, for a pin.
    PinRoot {
        wish: WishId,
    },
}

/// Who wants a cut, and what is told at its commit.
#[derive(Clone, Debug)]
pub(crate) enum Want {
    Committed(WishId),
    Pinned {
        wish: WishId,
        child: Container,
        snapshot: Option<String>,
    },
    Detached(WishId),
}

impl Want {
    pub(crate) const fn wish(&self) -> WishId {
        match self {
            Self::Committed(wish) | Self::Pinned { wish, .. } | Self::Detached(wish) => *wish,
        }
    }
}

/// A frozen layer that waits to be published; the first belongs to the publish under way.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) seq: Seq,
    /// A snapshot: its name, if it was given one, and the wish's key.
    pub(crate) named: Option<(Option<String>, WishKey)>,
    pub(crate) detach: bool,
    pub(crate) wants: Vec<Want>,
}

impl Cut {
    /// A cut that is only a checkpoint joins the next one.
    const fn is_plain(&self) -> bool {
        self.named.is_none() && !self.detach
    }
}

/// Where a publish stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// The journal is being synced up to the cut, or the attachment opened.
    Ready,
    /// Data objects are built and sent.
    Objects,
    /// Leaves are loaded and changed.
    Leaves,
    /// Leaves that do not ride are sent.
    SendLeaves,
    /// The root is sent: from here on it can only be resolved.
    Root,
    /// The root is confirmed; the look decides whether it is committed.
    Look,
    /// Committed: root and leaves are kept locally, then the note says so.
    Keep,
}

/// The publish under way.
#[derive(Debug)]
pub(crate) struct Run<P> {
    number: u64,
    stage: Stage,
    version: Version,
    attach: AttachId,
    cut: Seq,
    /// Next block to plan; `None`: all is planned.
    cursor: Option<Lba>,
    /// Chunk ranges that are planned again: part of their journal turned out damaged.
    again: Vec<(ChunkIndex, ChunkIndex)>,
    jobs: BTreeMap<u32, Job<P>>,
    deltas: BTreeMap<ChunkIndex, ChunkDelta>,
    /// Chunks whose newest layers are written anew, and how many of them.
    merged: BTreeMap<ChunkIndex, usize>,
    /// Bytes of content planned: of the frozen layer, of merges.
    planned: (u64, u64),
    leaves: BTreeMap<LeafIndex, Arc<Leaf>>,
    packs: BTreeMap<u32, Pack>,
    /// New references of changed leaves; `None`: all holes now.
    refs: BTreeMap<LeafIndex, Option<LeafRef>>,
    riding: BTreeMap<LeafIndex, Arc<Leaf>>,
    root: Option<Arc<Root>>,
    hash: Hash,
    /// The snapshot's name.
    name: Option<String>,
    look: Option<Look>,
    looks: u32,
    keeping: u32,
    bytes: u64,
    puts: u64,
    /// What is sent again, and when: objects, and packs of leaves (`true`).
    resend: BTreeSet<(Instant, u32, bool)>,
    resend_root: Option<Instant>,
    leaves_at: Option<Instant>,
    /// Leaves are being loaded: a fact that brings none need not look for them.
    leaves_wait: bool,
    born: Option<Born>,
}

/// The birth of a volume: objects come from loads, not from a frozen layer.
#[derive(Debug, Default)]
struct Born {
    finish: Option<WishId>,
    base: Option<Arc<Root>>,
}

/// Cuts and the publish under way.
#[derive(Debug)]
pub(crate) struct Publishing<P> {
    pub(crate) cuts: VecDeque<Cut>,
    pub(crate) merges: Merges,
    run: Option<Run<P>>,
    runs: u64,
    /// Serial of the last object; never reused within a process.
    serial: u32,
    /// Since when there is something to publish.
    dirty_since: Option<Instant>,
    /// Two layers are being joined: goes on then.
    join_at: Option<Instant>,
}

impl<P> Default for Publishing<P> {
    fn default() -> Self {
        Self {
            cuts: VecDeque::new(),
            merges: Merges::default(),
            run: None,
            runs: 0,
            serial: 0,
            dirty_since: None,
            join_at: None,
        }
    }
}

impl<P> Publishing<P> {
    /// Data objects under way.
    pub(crate) fn jobs(&self) -> usize {
        self.run.as_ref().map_or(0, |run| run.jobs.len())
    }

    /// Whether a publish is under way.
    pub(crate) const fn is_running(&self) -> bool {
        self.run.is_some()
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let Some(run) = &self.run else {
            return self.join_at;
        };
        let resend = run.resend.first().map(|(at, _, _)| *at);
        let look = run.look.as_ref().and_then(Look::poll_timeout);
        [resend, look, run.resend_root, run.leaves_at]
            .into_iter()
            .flatten()
            .min()
    }

    fn serial(&mut self) -> u32 {
        self.serial += 1;
        self.serial
    }
}

impl<P: Payload> Volume<P> {
    // --- cuts ---

    /// Freezes the history as it is now: the cut lies after every write that was answered.
    pub(crate) fn cut(
        &mut self,
        named: Option<(Option<String>, WishKey)>,
        detach: bool,
        want: Option<Want>,
    ) {
        let seq = self.journal.written();
        self.stack.freeze(self.attributes.clone());
        self.publishing.dirty_since = None;
        self.publishing.cuts.push_back(Cut {
            seq,
            named,
            detach,
            wants: want.into_iter().collect(),
        });
    }

    /// Whether a checkpoint is due by itself: high water, interval, room, or flushes that want the store.
    fn checkpoint_needed(&mut self) -> bool {
        let last = self
            .publishing
            .cuts
            .back()
            .map_or_else(|| self.journal.stored(), |cut| cut.seq);
        if !self.own.may_publish() || self.journal.written() <= last {
            self.publishing.dirty_since = None;
            return false;
        }
        let since = *self.publishing.dirty_since.get_or_insert(self.now);
        let running = usize::from(self.publishing.run.is_some());
        if self.publishing.cuts.len() > running {
            // What waits already goes first; another cut for the same reason would only lengthen the line.
            return false;
        }
        let (used, all) = self.journal.usage();
        let high = used * 100 >= all * self.limits.high_water || self.own.is_emergency();
        let due = since + self.own.checkpoint_interval(&self.limits) <= self.now;
        let flush = running == 0 && self.guest.stored_wanted().is_some_and(|seq| seq > last);
        high || due || flush || self.writes_wait()
    }

    /// When the interval orders the next checkpoint.
    pub(crate) fn checkpoint_due(&self) -> Option<Instant> {
        Some(self.publishing.dirty_since? + self.own.checkpoint_interval(&self.limits))
    }

    // --- the machine ---

    /// One step further, if there is one; called until there is none.
    pub(crate) fn publish_step(&mut self) -> bool {
        if self.checkpoint_needed() {
            self.cut(None, false, None);
            return true;
        }
        let Some(run) = &self.publishing.run else {
            return self.publish_start();
        };
        match run.stage {
            Stage::Ready => self.publish_ready(),
            Stage::Objects => self.plan_step(),
            Stage::Leaves => self.leaves_step(),
            Stage::SendLeaves => self.root_step(),
            Stage::Root | Stage::Look | Stage::Keep => false,
        }
    }

    fn publish_start(&mut self) -> bool {
        // Who was fenced meanwhile does not go on with it.
        self.publishing.join_at = None;
        if self.publishing.cuts.is_empty() || !self.own.may_publish() {
            return false;
        }
        let Some(geometry) = self.geometry else {
            return false;
        };
        // A checkpoint that waits joins the next cut.
        if self.publishing.cuts.len() > 1 && self.publishing.cuts.front().is_some_and(Cut::is_plain)
        {
            if !self.stack.join_oldest(geometry.block_bytes) {
                // The layers are long: the rest is the work of facts to come.
                self.publishing.join_at = Some(self.now);
                return false;
            }
            let Some(first) = self.publishing.cuts.pop_front() else {
                return false;
            };
            if let Some(next) = self.publishing.cuts.front_mut() {
                next.wants.splice(0..0, first.wants);
            }
            return true;
        }
        let Some(cut) = self.publishing.cuts.front().map(|cut| cut.seq) else {
            return false;
        };
        self.publishing.run = Some(self.new_run(cut, None));
        self.journal.want_durable(&mut self.out, cut);
        true
    }

    fn new_run(&mut self, cut: Seq, born: Option<Born>) -> Run<P> {
        self.publishing.runs += 1;
        Run {
            number: self.publishing.runs,
            stage: Stage::Ready,
            version: Version(0),
            attach: AttachId::default(),
            cut,
            cursor: born.is_none().then_some(Lba(0)),
            again: Vec::new(),
            jobs: BTreeMap::new(),
            deltas: BTreeMap::new(),
            merged: BTreeMap::new(),
            planned: (0, 0),
            leaves: BTreeMap::new(),
            packs: BTreeMap::new(),
            refs: BTreeMap::new(),
            riding: BTreeMap::new(),
            root: None,
            hash: Hash::default(),
            name: None,
            look: None,
            looks: 0,
            keeping: 0,
            bytes: 0,
            puts: 0,
            resend: BTreeSet::new(),
            resend_root: None,
            leaves_at: None,
            leaves_wait: false,
            born,
        }
    }

    /// The cut is durable and the attachment ours: the version's number is taken now.
    fn publish_ready(&mut self) -> bool {
        let Some(run) = &self.publishing.run else {
            return false;
        };
        if self.journal.durable() < run.cut && !bug!("publish-before-durable") {
            // The disk may have failed. What is whole here may be saved then, but only behind a synced intent note: else a
            // restart would number new writes below this cut. A detach waits in this line behind its own.
            let detaches = self.publishing.cuts.iter().any(|cut| cut.detach);
            if !(self.own.is_emergency() || detaches && self.journal.is_read_only()) {
                return false;
            }
        }
        let Some(attach) = self.own.attach() else {
            return self.attach_for_publish();
        };
        let version = self
            .present
            .root()
            .map_or(Version(0), |root| Version(root.name.version.0 + 1));
        let Some(run) = self.publishing.run.as_mut() else {
            return false;
        };
        run.attach = attach;
        run.version = version;
        run.stage = Stage::Objects;
        true
    }

    /// The volume is being born: loads make its objects.
    pub(crate) fn publish_birth(&mut self, attach: AttachId) {
        let mut run = self.new_run(Seq(0), Some(Born::default()));
        run.stage = Stage::Objects;
        run.attach = attach;
        self.publishing.run = Some(run);
    }

    /// All loads were wished for: version 0 is published when their objects are confirmed.
    pub(crate) fn publish_finish_birth(&mut self, wish: WishId, base: Option<Arc<Root>>) {
        match self
            .publishing
            .run
            .as_mut()
            .and_then(|run| run.born.as_mut())
        {
            Some(born) if born.finish.is_none() => {
                *born = Born {
                    finish: Some(wish),
                    base,
                }
            }
            _ => self.told(
                wish,
                Verdict::Refused(Refusal::WrongState("not being born")),
            ),
        }
    }

    // --- outcomes ---

    pub(crate) fn publish_done(&mut self, op: Op, outcome: Outcome<P>) {
        match op {
            Op::Piece { serial, read, file } => {
                self.piece_read(serial, read, outcome);
                self.journal.unpin(&mut self.out, file);
            }
            Op::Merge { serial, read, slot } => {
                let good = self.merge_read(serial, read, outcome);
                self.cache.unpin(slot);
                if !good {
                    // Cached frames are copies: this one is fetched again when it is wanted.
                    self.cache.drop_slot(slot);
                }
            }
            Op::Object { serial } => match outcome {
                Outcome::Put(receipt) => {
                    self.store_answered();
                    self.object_sent(serial, receipt);
                }
                other => self.not_sent(serial, false, &other),
            },
            Op::Leaves { serial } => match outcome {
                Outcome::Put(receipt) => {
                    self.store_answered();
                    self.pack_sent(serial, receipt);
                }
                other => self.not_sent(serial, true, &other),
            },
            Op::Root { run } => self.root_answered(run, outcome),
            Op::Look { look, slot, run } => self.look_answered(look, slot, run, outcome),
            Op::Kept { run } => self.kept(run),
            Op::PinRoot { wish } => self.pin_root_came(wish, outcome),
        }
    }

    /// Only a confirmed PUT counts: the same bytes go again under the same name.
    fn not_sent(&mut self, serial: u32, is_leaves: bool, outcome: &Outcome<P>) {
        self.store_failed(outcome);
        let at = self.now + SEND_AGAIN;
        let Some(run) = self.publishing.run.as_mut() else {
            return;
        };
        let known = if is_leaves {
            run.packs.contains_key(&serial)
        } else {
            run.jobs.contains_key(&serial)
        };
        if known {
            run.resend.insert((at, serial, is_leaves));
            self.notice_waiting(outcome, if is_leaves { "leaves" } else { "a data object" });
        }
    }

    fn notice_waiting(&mut self, outcome: &Outcome<P>, what: &str) {
        let error = match outcome {
            Outcome::Store(error) => *error,
            _ => StoreError::Unavailable,
        };
        self.out.push(Effect::Notice(Notice::StoreWaiting {
            object: what.into(),
            error,
        }));
    }

    pub(crate) fn publish_timeout(&mut self) {
        let now = self.now;
        let mut due = Vec::new();
        let Some(run) = self.publishing.run.as_mut() else {
            return;
        };
        while let Some(&(at, serial, is_leaves)) = run.resend.first() {
            if at > now {
                break;
            }
            run.resend.pop_first();
            due.push((serial, is_leaves));
        }
        if run.leaves_at.is_some_and(|at| at <= now) {
            run.leaves_at = None;
            run.leaves_wait = false;
        }
        let root_due = run.resend_root.take_if(|at| *at <= now).is_some();
        for (serial, is_leaves) in due {
            if is_leaves {
                self.send_pack(serial);
            } else {
                self.send_object(serial);
            }
        }
        if root_due {
            self.send_root();
            self.look_again();
        }
        self.look_poll();
    }

    // --- giving up ---

    /// The publish under way cannot go on. Its layer stays and is published again if this host may ever publish again;
    /// whoever waits for a cut hears why not.
    pub(crate) fn publish_abort(&mut self, refusal: &Refusal) {
        let run = self.publishing.run.take();
        let sent = run
            .as_ref()
            .is_some_and(|run| matches!(run.stage, Stage::Root | Stage::Look));
        let verdict = |sent| {
            if sent {
                Verdict::NotConfirmed
            } else {
                Verdict::Refused(refusal.clone())
            }
        };
        let mut told = Vec::new();
        if let Some(run) = run {
            told.extend(
                run.jobs
                    .into_values()
                    .filter_map(|job| job.wish())
                    .map(|wish| (wish, false)),
            );
            // Who waited for the birth has heard once it is committed.
            told.extend(
                run.born
                    .filter(|_| run.stage != Stage::Keep)
                    .and_then(|born| born.finish)
                    .map(|wish| (wish, sent)),
            );
        }
        for (number, cut) in self.publishing.cuts.iter_mut().enumerate() {
            cut.named = None;
            cut.detach = false;
            told.extend(
                cut.wants
                    .drain(..)
                    .map(|want| (want.wish(), sent && number == 0)),
            );
        }
        for (wish, sent) in told {
            self.told(wish, verdict(sent));
        }
    }
}
