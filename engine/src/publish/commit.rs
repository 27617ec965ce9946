//! The root, the look behind it, and what a commit sets free.

use super::{Op, SEND_AGAIN, Stage, Want};
use crate::attach::{Look, LookVerdict};
use crate::command::{Committed, Refusal, Verdict};
use crate::effect::{
    Absence, Body, DiskRequest, Effect, Expect, GetRequest, Meta, Notice, Outcome, Receipt,
    StoreRequest,
};
use crate::ids::{Seq, WishId};
use crate::journal::note;
use crate::object::names::{ObjectName, RootName};
use crate::payload::Payload;
use crate::table::types::{Dying, LeafHome, LeafRef, Pin, Root, RootKind, SnapshotEntry};
use crate::units::ByteCount;
use crate::volume::{After, Pending, Volume};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

impl<P: Payload> Volume<P> {
    /// All leaves are confirmed or ride: makes the root and sends it.
    pub(super) fn root_step(&mut self) -> bool {
        let Some(run) = &self.publishing.run else {
            return false;
        };
        if !run.packs.is_empty() {
            return false;
        }
        let Some(root) = self.make_root() else {
            return false;
        };
        let Some(run) = self.publishing.run.as_mut() else {
            return false;
        };
        run.root = Some(Arc::new(root));
        run.stage = Stage::Root;
        self.send_root();
        true
    }

    fn make_root(&mut self) -> Option<Root> {
        let geometry = self.geometry?;
        let ordinal_first = self.own.first_version();
        let created = self.wall();
        let before = self
            .present
            .root_and_hash()
            .map(|(root, hash)| (root.clone(), hash));
        let cut = self.publishing.cuts.front();
        let run = self.publishing.run.as_mut()?;
        let name = RootName {
            version: run.version,
            attach: run.attach,
        };
        let born = run.born.as_ref();
        let kind = match (born, cut) {
            (Some(_), _) => RootKind::Born,
            (None, Some(cut)) if cut.detach => RootKind::Detached,
            (None, Some(cut)) if cut.named.is_some() => RootKind::Snapshot,
            _ => RootKind::Checkpoint,
        };
        let mut root = Root {
            container: self.container.clone(),
            geometry,
            name,
            ordinal: run.version.0 - ordinal_first.0 + 1,
            parent: before.as_ref().map(|(root, hash)| (root.name, *hash)),
            kind,
            cut: run.cut,
            created,
            snapshots: Vec::new(),
            pins: Vec::new(),
            dying: Vec::new(),
            attributes: BTreeMap::new(),
            losses: Vec::new(),
            leaves: BTreeMap::new(),
            riding: core::mem::take(&mut run.riding),
        };
        if let Some(base) = born.and_then(|born| born.base.as_ref()) {
            root.leaves = base
                .leaves
                .iter()
                .map(|(index, at)| {
                    let container = at
                        .container
                        .clone()
                        .or_else(|| Some(base.container.clone()));
                    (
                        *index,
                        LeafRef {
                            container,
                            ..at.clone()
                        },
                    )
                })
                .collect();
        }
        root.attributes = match self.stack.frozen.front() {
            Some(frozen) if born.is_none() && !bug!("attributes-of-now") => {
                frozen.attributes.clone()
            }
            _ => self.attributes.clone(),
        };
        let mut unpinned: Vec<Pin> = Vec::new();
        if let Some((before, _)) = &before {
            root.snapshots = before.snapshots.clone();
            (unpinned, root.pins) =
                (before.pins.iter().cloned()).partition(|pin| self.sweep.is_loose(pin));
            root.dying = before
                .dying
                .iter()
                .filter(|d| !self.sweep.is_gone(d.root))
                .copied()
                .collect();
            root.losses = before.losses.clone();
            root.leaves = before.leaves.clone();
        }
        if let Some((entry, loss)) = self
            .own
            .take_over_mark(before.as_ref().map(|(root, _)| &**root))
        {
            mark!("take-over-marked");
            root.snapshots.extend(entry);
            root.losses.extend(loss);
        }
        for (index, at) in &run.refs {
            match at {
                Some(at) => root.leaves.insert(*index, at.clone()),
                None => root.leaves.remove(index),
            };
        }
        // A riding leaf's place is known when the root is encoded: until then its old reference is nobody's.
        for index in root.riding.keys() {
            root.leaves.remove(index);
        }
        if let Some((given, wish)) = cut.and_then(|cut| cut.named.clone()) {
            let name = given.unwrap_or_else(|| free_name(&root, run.version.0));
            run.name = Some(name.clone());
            let capacity = geometry.capacity;
            root.snapshots.push(SnapshotEntry {
                name,
                root: root.name,
                created,
                wish,
                capacity,
            });
        }
        for want in cut.iter().flat_map(|cut| &cut.wants) {
            if let Want::Pinned {
                child, snapshot, ..
            } = want
            {
                let pinned = match snapshot {
                    None => Some(root.name),
                    Some(name) => root
                        .snapshots
                        .iter()
                        .find(|s| s.name == *name)
                        .map(|s| s.root),
                };
                let pin = pinned.map(|pinned| Pin {
                    child: child.clone(),
                    root: pinned,
                });
                root.pins.extend(pin.filter(|pin| !root.pins.contains(pin)));
            }
        }
        // What neither a name nor a pin keeps is superseded by this root, or was let go by its last child.
        if !unpinned.is_empty() {
            mark!("pin-dropped");
        }
        let let_go = unpinned.iter().map(|pin| pin.root);
        for old in let_go.chain(before.as_ref().map(|(before, _)| before.name)) {
            let is_kept = root.snapshots.iter().any(|s| s.root == old)
                || root.pins.iter().any(|pin| pin.root == old)
                || root.dying.iter().any(|dying| dying.root == old);
            if !is_kept {
                root.dying.push(Dying {
                    root: old,
                    since: created,
                });
            }
        }
        Some(root)
    }

    /// Sends the root; what is sent is decided, so it may be sent again and again.
    pub(super) fn send_root(&mut self) {
        let Some(run) = self
            .publishing
            .run
            .as_ref()
            .filter(|run| run.stage == Stage::Root)
        else {
            return;
        };
        let Some(root) = run.root.clone() else { return };
        let request = StoreRequest::Put {
            container: self.container.clone(),
            name: ObjectName::Root(root.name),
            body: Body::Root(root),
            once: false,
        };
        self.out
            .store(Pending::Publish(Op::Root { run: run.number }), request);
    }

    pub(super) fn root_answered(&mut self, number: u64, outcome: Outcome<P>) {
        let receipt = match outcome {
            Outcome::Put(receipt) => receipt,
            Outcome::Store(_) if bug!("unconfirmed-root-is-good") => Receipt::default(),
            other => {
                mark!("root-not-confirmed");
                self.store_failed(&other);
                self.notice_waiting(&other, "a root");
                let at = self.now + SEND_AGAIN;
                if let Some(run) = self
                    .publishing
                    .run
                    .as_mut()
                    .filter(|run| run.number == number)
                {
                    run.resend_root = Some(at);
                }
                return;
            }
        };
        self.store_answered();
        let Some(run) = self.publishing.run.as_mut() else {
            return;
        };
        if run.number != number || run.stage != Stage::Root {
            return;
        }
        run.bytes += receipt.bytes.0;
        run.puts += 1;
        if bug!("stored-before-the-look") {
            self.journal.set_stored(&mut self.out, run.cut);
        }
        run.root = run.root.take().map(|root| placed(root, &receipt));
        run.hash = receipt.root.unwrap_or_default();
        run.stage = Stage::Look;
        self.look_again();
        self.look_poll();
    }

    // --- the look ---

    /// A look begins, unless one is under way.
    pub(super) fn look_again(&mut self) {
        let (container, deadline) = (self.container.clone(), self.limits.store_deadline);
        if let Some(run) = self.publishing.run.as_mut()
            && run.stage == Stage::Look
            && run.look.is_none()
        {
            run.looks += 1;
            run.look = Some(Look::new(container, run.attach, deadline, false));
        }
    }

    pub(super) fn look_poll(&mut self) {
        let now = self.now;
        let Some(run) = self.publishing.run.as_mut() else {
            return;
        };
        let (look, number) = (run.looks, run.number);
        while let Some((slot, request)) = run.look.as_mut().and_then(|look| look.poll(now)) {
            let op = Op::Look {
                look,
                slot,
                run: number,
            };
            self.out.store(Pending::Publish(op), request);
        }
    }

    pub(super) fn look_answered(&mut self, look: u32, slot: u32, number: u64, outcome: Outcome<P>) {
        match &outcome {
            Outcome::Store(crate::effect::StoreError::Absent) => self.store_answered(),
            Outcome::Store(_) => self.store_failed(&outcome),
            _ => self.store_answered(),
        }
        let now = self.now;
        let Some(run) = self
            .publishing
            .run
            .as_mut()
            .filter(|run| run.number == number && run.looks == look)
        else {
            return;
        };
        let verdict = run
            .look
            .as_mut()
            .and_then(|look| look.handle(now, slot, outcome));
        match verdict {
            None => self.look_poll(),
            Some(LookVerdict::Good) => self.commit(),
            Some(LookVerdict::Fenced) if bug!("look-is-ignored") => self.commit(),
            Some(LookVerdict::Fenced) => {
                mark!("look-finds-it-shut");
                self.fenced();
            }
            Some(LookVerdict::Refused(_)) => {
                mark!("look-refused");
                // The store refuses to say: the root is there, whether it counts is not known yet. Asked again in a while.
                if let Some(run) = self.publishing.run.as_mut() {
                    run.look = None;
                    run.resend_root = Some(now + SEND_AGAIN);
                }
            }
        }
    }

    // --- the commit ---

    /// The root passed its look: it is the volume's newest version.
    fn commit(&mut self) {
        let Some(run) = self.publishing.run.as_mut() else {
            return;
        };
        let Some(root) = run.root.clone() else { return };
        run.look = None;
        run.stage = Stage::Keep;
        let (hash, number, born) = (run.hash, run.number, run.born.is_some());
        let (bytes, puts) = (ByteCount(run.bytes), run.puts);
        let committed = Committed {
            root: root.clone(),
            name: run.name.clone(),
            bytes,
            puts,
        };
        let finish = run.born.as_ref().and_then(|born| born.finish);
        let leaves: Vec<_> = run
            .leaves
            .iter()
            .filter(|(index, _)| !root.riding.contains_key(index))
            .filter_map(|(index, leaf)| Some((root.leaves.get(index)?.hash, leaf.clone())))
            .collect();
        let old = self
            .present
            .root_and_hash()
            .map(|(root, hash)| (root.clone(), hash));
        self.present.set_root(root.clone(), hash);
        self.out.push(Effect::Notice(Notice::Committed {
            version: root.name.version,
            bytes,
            puts,
        }));
        let mut keep = 1;
        let meta = Meta::Root(root.clone());
        self.out.disk(
            Pending::Publish(Op::Kept { run: number }),
            DiskRequest::KeepMeta { hash, meta },
        );
        for (hash, leaf) in leaves {
            self.present.insert(hash, leaf.clone());
            let meta = Meta::Leaf(leaf);
            self.out.disk(
                Pending::Publish(Op::Kept { run: number }),
                DiskRequest::KeepMeta { hash, meta },
            );
            keep += 1;
        }
        if let Some(run) = self.publishing.run.as_mut() {
            run.keeping = keep;
        }
        self.own.superseded(old, &root);
        self.merges_committed();
        if born {
            self.serve();
            if let Some(wish) = finish {
                self.told(wish, Verdict::Born(committed));
            }
        } else {
            self.stack.frozen.pop_front();
            let wants = self
                .publishing
                .cuts
                .pop_front()
                .map(|cut| cut.wants)
                .unwrap_or_default();
            for want in wants {
                self.tell_want(want, &committed);
            }
            self.stored_advanced(root.cut);
        }
        self.own.committed(&root);
        self.sweep.committed(&root, self.now);
        if born {
            self.serve();
        }
    }

    fn tell_want(&mut self, want: Want, committed: &Committed) {
        match want {
            Want::Committed(wish) => self.told(wish, Verdict::Committed(committed.clone())),
            Want::Detached(wish) => self.told(wish, Verdict::Detached(committed.clone())),
            Want::Pinned {
                wish,
                snapshot: None,
                ..
            } => {
                self.told(wish, Verdict::Pinned(committed.root.clone()));
            }
            Want::Pinned {
                wish,
                snapshot: Some(name),
                ..
            } => {
                match committed
                    .root
                    .snapshots
                    .iter()
                    .find(|s| s.name == name)
                    .map(|s| s.root)
                {
                    Some(root) => self.load_pinned(wish, root),
                    None => self.told(wish, Verdict::Refused(Refusal::NoSuchSnapshot)),
                }
            }
        }
    }

    fn load_pinned(&mut self, wish: WishId, root: RootName) {
        let request = StoreRequest::Get(GetRequest {
            container: self.container.clone(),
            name: ObjectName::Root(root),
            range: None,
            absence: Absence::Damage,
            deadline: self.limits.store_deadline,
            expect: Expect::Root(None),
        });
        self.out
            .store(Pending::Publish(Op::PinRoot { wish }), request);
    }

    pub(super) fn pin_root_came(&mut self, wish: WishId, outcome: Outcome<P>) {
        let verdict = match outcome {
            Outcome::Meta(Meta::Root(root), _) => Verdict::Pinned(root),
            Outcome::Store(error) => Verdict::Refused(Refusal::Store {
                object: String::from("the snapshot's root"),
                error,
            }),
            _ => Verdict::NotConfirmed,
        };
        self.told(wish, verdict);
    }

    /// One of the commit's roots and leaves is kept locally (or could not be: then a restart asks the store).
    pub(super) fn kept(&mut self, number: u64) {
        let Some(run) = self
            .publishing
            .run
            .as_mut()
            .filter(|run| run.number == number)
        else {
            return;
        };
        run.keeping -= 1;
        if run.keeping > 0 {
            return;
        }
        if bug!("recycle-before-the-note") {
            let cut = run.cut;
            self.journal.set_stored(&mut self.out, cut);
        }
        let Some(run) = self.publishing.run.as_mut() else {
            return;
        };
        let Some(root) = run.root.clone() else { return };
        let (cut, hash, born) = (run.cut, run.hash, run.born.is_some());
        let detached = root.kind == RootKind::Detached;
        self.note(After::Committed { cut }, |note| {
            note.committed = Some(note::Committed {
                version: root.name.version,
                root: root.name,
                hash,
                cut,
            });
            note.unborn &= !born;
            if detached {
                note.intent = None;
                note.held = None;
            }
        });
    }

    /// The commit note is durable: what it made superfluous is freed.
    pub(crate) fn publish_noted(&mut self, cut: Seq) {
        self.publishing.run = None;
        mark!("committed-and-noted");
        self.journal.set_stored(&mut self.out, cut);
        self.own.attributes_stored(cut);
        for hash in self.own.take_superseded() {
            self.out.disk(Pending::Nothing, DiskRequest::DropMeta(hash));
        }
    }
}

/// The root with the places of its riding leaves, which its encoding decided.
fn placed(root: Arc<Root>, receipt: &Receipt) -> Arc<Root> {
    if root.riding.is_empty() {
        return root;
    }
    debug_assert_eq!(
        root.riding.len(),
        receipt.leaves.len(),
        "each riding leaf has its place"
    );
    let mut root = Arc::unwrap_or_clone(root);
    for (index, placed) in root.riding.keys().zip(&receipt.leaves) {
        let at = LeafRef {
            container: None,
            home: LeafHome::Root(root.name),
            offset: placed.offset,
            len: placed.len,
            hash: placed.hash,
        };
        root.leaves.insert(*index, at);
    }
    Arc::new(root)
}

/// `s<version>`, or the first of `s<version>-2`, `-3` … that no snapshot has.
fn free_name(root: &Root, version: u64) -> String {
    let taken = |name: &String| root.snapshots.iter().any(|s| s.name == *name);
    let plain = format!("s{version}");
    if !taken(&plain) {
        return plain;
    }
    (2_u64..)
        .map(|n| format!("s{version}-{n}"))
        .find(|name| !taken(name))
        .unwrap_or(plain)
}
