//! The attachment is ours: the history goes on from its base.

use super::Phase;
use crate::command::{Refusal, Verdict};
use crate::effect::{Effect, Notice};
use crate::ids::{Hash, Version};
use crate::payload::Payload;
use crate::publish::Want;
use crate::table::types::{Root, RootKind};
use crate::volume::Volume;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

impl<P: Payload> Volume<P> {
    /// The attachment is ours and noted: goes on from its base.
    pub(super) fn attached(&mut self) {
        let Some(opened) = self.own.opened.take() else {
            return;
        };
        let (opened, wish) = *opened;
        self.own.attach = Some(opened.attach);
        self.own.shut = false;
        self.own.attach_retry_at = None;
        self.own.last_good = self.now;
        self.journal.set_attach(opened.attach);
        self.own.first_version = opened
            .base
            .as_ref()
            .map_or(Version(0), |base| Version(base.root.name.version.0 + 1));
        self.out
            .push(Effect::Notice(Notice::Attached(opened.attach.generation)));
        let Some(base) = opened.base.clone() else {
            if self.own.birth.is_none() {
                return self.erase_begin(wish);
            }
            return self.born_attached(opened.attach);
        };
        self.adopt(&base.root, base.hash);
        // Whoever held it before may have ended in the middle of a publish.
        self.sweep.suspect();
        if base.root.kind == RootKind::Deleted {
            return self.erase_begin(wish);
        }
        if opened.took_over {
            self.own.taken_over = Some(Box::new(opened));
        }
        self.journal.prepare(&mut self.out);
        self.reads_again();
        if self.own.phase == Phase::Detaching {
            self.guest_retry();
        } else {
            self.serve();
        }
        if let Some(wish) = wish {
            self.tell_attached(wish);
        }
    }

    /// The history goes on from `base`: what it holds is not local news any more.
    pub(super) fn adopt(&mut self, base: &Arc<Root>, hash: Hash) {
        self.set_geometry(base.geometry);
        let known = self
            .present
            .root_and_hash()
            .is_some_and(|(_, known)| known == hash);
        if !known {
            let old = self
                .present
                .root_and_hash()
                .map(|(root, hash)| (root.clone(), hash));
            self.own.superseded(old, base);
            self.present.set_root(base.clone(), hash);
        }
        for map in self.stack.maps_mut() {
            map.forget_through(base.cut);
        }
        self.settle_names(base);
        // A cut that the base holds is committed, whatever its publish heard; its name tells whose it was.
        while self
            .publishing
            .cuts
            .front()
            .is_some_and(|cut| cut.seq <= base.cut && cut.wants.is_empty() && cut.named.is_none())
            && !self.publishing.is_running()
        {
            mark!("base-holds-the-cut");
            self.publishing.cuts.pop_front();
            self.stack.frozen.pop_front();
        }
        let mut attributes = base.attributes.clone();
        for (seq, key, value) in &self.own.attribute_log {
            if *seq > base.cut {
                match value {
                    Some(value) => attributes.insert(key.clone(), value.clone()),
                    None => attributes.remove(key),
                };
            }
        }
        self.own.attributes_changed(&attributes);
        self.attributes = attributes;
        self.sweep.committed(base, self.now);
        self.journal.skip_to(base.cut);
        self.journal.set_stored(&mut self.out, base.cut);
    }

    /// The base may hold what was wished for before it was known: the same key is the same snapshot, a name is taken once.
    pub(super) fn settle_names(&mut self, base: &Arc<Root>) {
        let mut told = Vec::new();
        for cut in &mut self.publishing.cuts {
            let Some((name, key)) = &cut.named else {
                continue;
            };
            let verdict = if let Some(entry) = base.snapshots.iter().find(|s| s.wish == *key) {
                Verdict::Committed(crate::command::Committed {
                    root: base.clone(),
                    name: Some(entry.name.clone()),
                    bytes: crate::units::ByteCount(0),
                    puts: 0,
                })
            } else if base
                .snapshots
                .iter()
                .any(|s| Some(&s.name) == name.as_ref())
            {
                Verdict::Refused(Refusal::NameTaken)
            } else {
                continue;
            };
            mark!("base-settles-a-snapshot");
            cut.named = None;
            let wishes = cut
                .wants
                .extract_if(.., |want| matches!(want, Want::Committed(_)));
            told.extend(wishes.map(|want| (want.wish(), verdict.clone())));
        }
        for (wish, verdict) in told {
            self.told(wish, verdict);
        }
    }
}
