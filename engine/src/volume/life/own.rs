//! What is remembered about holding the volume: small questions, attributes that the engine itself heeds, what a root
//! supersedes.

use super::{CHECKPOINT_INTERVAL_ATTRIBUTE, Own, Phase};
use crate::attach::{self};
use crate::command::{Failure, Refusal};
use crate::ids::{AttachId, Hash, Seq, Version};
use crate::layers::stack::Attributes;
use crate::limits::{Life, Limits};
use crate::table::types::{AcceptedLoss, Root, RootKind, SnapshotEntry};
use crate::time::{Duration, Instant};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

impl<P> Own<P> {
    pub(in crate::volume) fn new(life: &Life) -> Self {
        Self {
            phase: Phase::Opening,
            why_broken: "",
            attach: None,
            first_version: Version(0),
            wishes: VecDeque::new(),
            attempt: None,
            shut: false,
            opened: None,
            inspecting: None,
            numbers: 0,
            random: life.seed,
            open_wish: None,
            birth: None,
            born_at: None,
            orphans: Vec::new(),
            sessions: 0,
            watching: false,
            missing: false,
            lookers: Vec::new(),
            watch_at: None,
            last_good: Instant(0),
            attach_retry_at: None,
            gate: None,
            away_since: None,
            told_waiting_at: None,
            busy_since: None,
            leaf_retries: Vec::new(),
            retry_at: None,
            flush_store: false,
            checkpoint_interval: None,
            attribute_log: Vec::new(),
            superseded: Vec::new(),
            taken_over: None,
            detach_wish: None,
            intent_noted: false,
            emergency: false,
            set_aside: false,
            joining: None,
        }
    }

    pub(in crate::volume) const fn phase_name(&self) -> &'static str {
        match self.phase {
            Phase::Opening => "opening",
            Phase::Blank => "blank",
            Phase::Local => "local",
            Phase::Checking => "checking",
            Phase::Attaching => "attaching",
            Phase::Birth => "birth",
            Phase::Serving => "serving",
            Phase::Reader => "reader",
            Phase::Fenced => "fenced",
            Phase::Detaching => "detaching",
            Phase::Detached => "detached",
            Phase::Broken => "broken",
        }
    }

    /// The attachment that this process opened.
    pub(crate) const fn attach(&self) -> Option<AttachId> {
        self.attach
    }

    /// The version of this attachment's first root.
    pub(crate) const fn first_version(&self) -> Version {
        self.first_version
    }

    pub(crate) const fn is_reader(&self) -> bool {
        matches!(self.phase, Phase::Reader)
    }

    pub(crate) const fn may_publish(&self) -> bool {
        matches!(self.phase, Phase::Serving | Phase::Detaching)
    }

    /// Whether a wish may order a version: what is cut behind a detach would never be published.
    pub(in crate::volume) const fn may_cut(&self) -> bool {
        matches!(self.phase, Phase::Serving)
    }

    /// Why no wish may order a version, or a collection.
    pub(in crate::volume) const fn wont_cut(&self) -> Option<Refusal> {
        match self.phase {
            Phase::Serving => None,
            Phase::Fenced => Some(Refusal::Fenced),
            _ => Some(Refusal::WrongState(self.phase_name())),
        }
    }

    pub(crate) const fn flushes_to_store(&self) -> bool {
        self.flush_store
    }

    pub(crate) fn checkpoint_interval(&self, limits: &Limits) -> Duration {
        self.checkpoint_interval
            .unwrap_or(limits.checkpoint_interval)
    }

    pub(in crate::volume) const fn store_away_since(&self) -> Option<Instant> {
        self.away_since
    }

    /// Why no guest command is taken at all.
    pub(in crate::volume) const fn refusal(&self) -> Option<Failure> {
        match self.phase {
            Phase::Fenced | Phase::Detached | Phase::Detaching => Some(Failure::Fenced),
            Phase::Broken => Some(Failure::Hardware),
            _ => None,
        }
    }

    pub(in crate::volume) fn opened_blank(&mut self) {
        self.phase = Phase::Blank;
    }

    pub(in crate::volume) fn opened_local(&mut self) {
        self.phase = Phase::Local;
    }

    /// The intent is noted: what is whole here may be published though it is not durable here.
    pub(in crate::volume) const fn emergency(&mut self) {
        self.emergency = true;
    }

    pub(crate) const fn is_emergency(&self) -> bool {
        self.emergency
    }

    pub(in crate::volume) fn erased(&mut self) {
        self.phase = Phase::Detached;
        self.attach = None;
    }

    pub(in crate::volume) fn broken(&mut self, why: &'static str) {
        self.phase = Phase::Broken;
        self.why_broken = why;
    }

    /// What the attributes say about the engine's own conduct.
    pub(in crate::volume) fn attributes_changed(&mut self, attributes: &Attributes) {
        self.flush_store = attributes
            .get(attach::FLUSH_ATTRIBUTE)
            .is_some_and(|value| value == attach::FLUSH_STORE);
        self.checkpoint_interval = attributes
            .get(CHECKPOINT_INTERVAL_ATTRIBUTE)
            .and_then(|value| core::str::from_utf8(value).ok()?.parse().ok())
            .map(Duration::from_secs);
    }

    /// A journalled change of an attribute that no known root has yet.
    pub(in crate::volume) fn log_attribute(
        &mut self,
        seq: Seq,
        key: &str,
        value: &Option<Vec<u8>>,
    ) {
        self.attribute_log.push((seq, key.into(), value.clone()));
    }

    pub(crate) fn attributes_stored(&mut self, cut: Seq) {
        self.attribute_log.retain(|(seq, _, _)| *seq > cut);
    }

    /// Remembers what the new root makes superfluous in the local folder of roots and leaves.
    pub(crate) fn superseded(&mut self, old: Option<(Arc<Root>, Hash)>, new: &Root) {
        let Some((old, hash)) = old else { return };
        self.superseded.push(hash);
        for (index, at) in &old.leaves {
            if new.leaves.get(index).is_none_or(|new| new.hash != at.hash) {
                self.superseded.push(at.hash);
            }
        }
    }

    pub(crate) fn take_superseded(&mut self) -> Vec<Hash> {
        core::mem::take(&mut self.superseded)
    }

    /// The first root after a take-over keeps its base as a snapshot and tells the loss.
    pub(crate) fn take_over_mark(
        &self,
        base: Option<&Root>,
    ) -> Option<(Option<SnapshotEntry>, Option<AcceptedLoss>)> {
        let (opened, base) = (self.taken_over.as_ref()?, base?);
        let generation = opened.attach.generation;
        let named = base.snapshots.iter().any(|s| s.root == base.name);
        let entry = SnapshotEntry {
            name: format!("before-take-over-{generation}"),
            root: base.name,
            created: opened.token.holder.since,
            wish: crate::ids::WishKey(opened.attach.nonce),
            capacity: base.geometry.capacity,
        };
        let loss = opened.below.as_ref().map(|below| AcceptedLoss {
            lost: below.attach,
            host: below.holder.host.clone(),
            base: base.name.version,
            at: opened.token.holder.since,
        });
        Some(((!named).then_some(entry), loss))
    }

    /// A root of ours is committed.
    pub(crate) fn committed(&mut self, root: &Root) {
        self.taken_over = None;
        if root.kind == RootKind::Detached {
            self.phase = Phase::Detached;
            self.intent_noted = false;
            self.attach = None;
        }
    }

    pub(crate) fn retry_leaf(&mut self, at: Instant, hash: Hash) {
        self.leaf_retries.push((at, hash));
    }

    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The next seed for an attach: splitmix64 over the life's seed.
    pub(super) fn seed(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(in crate::volume) fn next_timeout(&self) -> Option<Instant> {
        let attempt = self
            .attempt
            .as_ref()
            .and_then(|attempt| attempt.machine.poll_timeout());
        let inspecting = self
            .inspecting
            .as_ref()
            .and_then(|i| i.machine.poll_timeout());
        let leaf = self.leaf_retries.iter().map(|(at, _)| *at).min();
        [
            attempt,
            inspecting,
            leaf,
            self.watch_at,
            self.attach_retry_at,
            self.retry_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
