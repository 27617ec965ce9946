//! What an operator wishes: versions, snapshots, giving up.

use super::Phase;
use crate::attach::How;
use crate::command::{Refusal, Verdict, Wish};
use crate::effect::{DiskRequest, Gate, GateReason};
use crate::ids::{Version, WishId};
use crate::journal::note::Intent;
use crate::payload::Payload;
use crate::publish::Want;
use crate::table::types::Root;
use crate::volume::{After, Pending, Volume};
use alloc::string::String;
use alloc::sync::Arc;

impl<P: Payload> Volume<P> {
    pub(in crate::volume) fn wish(&mut self, id: WishId, wish: Wish<P>) {
        if matches!(self.own.phase, Phase::Opening) {
            self.own.wishes.push_back((id, wish));
            return;
        }
        let wrong = |why| Verdict::Refused(Refusal::WrongState(why));
        match wish {
            Wish::Birth(spec) => self.begin_birth(id, spec),
            Wish::Load { chunk, grains } => self.publish_load(id, chunk, grains),
            Wish::FinishBirth { base } => self.publish_finish_birth(id, base),
            Wish::Open => self.open(id),
            Wish::Attach {
                take_over,
                accept_loss,
            } => {
                let how = How {
                    take_over,
                    accept_loss,
                    ..How::default()
                };
                self.begin_attach(Some(id), how);
            }
            Wish::Detach => self.detach(id),
            Wish::Snapshot { name, key } => self.snapshot(id, name, key),
            Wish::Checkpoint => {
                if self.own.may_cut() {
                    self.cut(None, false, Some(Want::Committed(id)));
                } else {
                    self.told(id, wrong(self.own.phase_name()));
                }
            }
            Wish::Pin { child, snapshot } => {
                let known = |root: &Arc<Root>, name: &String| {
                    root.snapshots.iter().any(|s| s.name == *name)
                };
                if !self.own.may_cut() {
                    self.told(id, wrong(self.own.phase_name()));
                } else if let Some(name) = &snapshot
                    && !self.present.root().is_some_and(|root| known(root, name))
                {
                    self.told(id, Verdict::Refused(Refusal::NoSuchSnapshot));
                } else {
                    self.cut(
                        None,
                        false,
                        Some(Want::Pinned {
                            wish: id,
                            child,
                            snapshot,
                        }),
                    );
                }
            }
            Wish::Inspect => self.inspect(id, None),
            Wish::OpenReader { snapshot } => {
                if self.own.phase == Phase::Blank {
                    self.inspect(id, Some(snapshot));
                } else {
                    self.told(id, wrong(self.own.phase_name()));
                }
            }
            Wish::Evict => {
                let slots = self.cache.occupied();
                let bytes = self.geometry.map_or(0, |g| {
                    u64::from(g.frame_grains) * u64::from(crate::units::GRAIN_BYTES)
                });
                let freed = crate::units::ByteCount(slots.len() as u64 * bytes);
                for slot in slots {
                    self.cache.drop_slot(slot);
                    self.out
                        .disk(Pending::Nothing, DiskRequest::ClearCache { slot });
                }
                self.told(id, Verdict::Evicted(freed));
            }
            Wish::Collect { min_age } => self.collect(id, min_age),
            Wish::Look => self.look(id),
            Wish::Sessions(count) => self.sessions(id, count),
        }
    }

    pub(super) fn snapshot(&mut self, id: WishId, name: Option<String>, key: crate::ids::WishKey) {
        if let Some(refusal) = self.own.wont_cut() {
            return self.told(id, Verdict::Refused(refusal));
        }
        if let Some(root) = self.present.root() {
            if let Some(entry) = root.snapshots.iter().find(|s| s.wish == key) {
                let committed = crate::command::Committed {
                    root: root.clone(),
                    name: Some(entry.name.clone()),
                    bytes: crate::units::ByteCount(0),
                    puts: 0,
                };
                return self.told(id, Verdict::Committed(committed));
            }
            if name
                .as_ref()
                .is_some_and(|name| root.snapshots.iter().any(|s| s.name == *name))
            {
                return self.told(id, Verdict::Refused(Refusal::NameTaken));
            }
        }
        for cut in &mut self.publishing.cuts {
            let Some((other, other_key)) = &cut.named else {
                continue;
            };
            if *other_key == key {
                cut.wants.push(Want::Committed(id));
                return;
            }
            if name.is_some() && *other == name {
                return self.told(id, Verdict::Refused(Refusal::NameTaken));
            }
        }
        self.cut(Some((name, key)), false, Some(Want::Committed(id)));
    }

    pub(super) fn detach(&mut self, id: WishId) {
        if self.own.phase != Phase::Serving {
            return self.told(
                id,
                Verdict::Refused(Refusal::WrongState(self.own.phase_name())),
            );
        }
        self.own.phase = Phase::Detaching;
        self.own.detach_wish = Some(id);
        self.set_gate(Gate::Closed(GateReason::Detached));
        self.guest_leave();
    }

    /// Once every command that was in flight is answered, nothing more will be: the intent is noted.
    pub(super) fn detach_step(&mut self) -> bool {
        if self.own.phase != Phase::Detaching
            || self.own.intent_noted
            || self.guest.under_way() > 0
            || self.reads.len() > 0
            || !self.journal.is_idle()
        {
            return false;
        }
        self.own.intent_noted = true;
        let root = self.present.root();
        let version = root.map_or(Version(0), |root| Version(root.name.version.0 + 1));
        self.note(After::Intent, |note| {
            note.intent = Some(Intent::Detach(version));
        });
        true
    }

    pub(super) fn sessions(&mut self, id: WishId, count: u32) {
        let first = self.own.sessions == 0 && count > 0;
        self.own.sessions = count;
        if first {
            self.own.watch_at = Some(self.now);
        }
        self.told(id, Verdict::Sessions);
    }

    /// The disk failed: what is whole here goes to the store, once a note says that numbers up to here are spent.
    pub(in crate::volume) fn save_whole_history(&mut self) {
        if self.own.phase == Phase::Serving && self.notes.note.is_some() {
            mark!("emergency-cut");
            let end = self.journal.assigned();
            self.note(After::Emergency, |note| {
                note.intent = Some(Intent::Emergency(end))
            });
        }
    }
}
