//! An attach under way: its requests, the journal's fate, and how it ended.

use super::{Attempt, Op, Phase};
use crate::attach::{Ask, Attach, End, Hint, How, Join, Spec};
use crate::command::{Failure, Refusal, Verdict};
use crate::effect::{DiskRequest, Gate, Meta, StoreRequest};
use crate::ids::{AttachId, Seq, WishId};
use crate::journal::note::{self, Note};
use crate::object::names::ObjectName;
use crate::payload::Payload;
use crate::table::types::RootKind;
use crate::volume::{After, Pending, Volume};
use alloc::boxed::Box;
use alloc::vec::Vec;

impl<P: Payload> Volume<P> {
    pub(super) fn begin_attach(&mut self, wish: Option<WishId>, how: How) {
        match self.own.phase {
            Phase::Serving if self.own.attach.is_some() => {
                if let Some(wish) = wish {
                    self.tell_attached(wish);
                }
                return;
            }
            Phase::Blank | Phase::Local | Phase::Fenced | Phase::Detached => {
                self.own.phase = Phase::Attaching
            }
            // A detach publishes, and after a restart it must attach anew for that.
            Phase::Serving | Phase::Detaching => {}
            _ => {
                if let Some(wish) = wish {
                    self.told(
                        wish,
                        Verdict::Refused(Refusal::WrongState(self.own.phase_name())),
                    );
                }
                return;
            }
        }
        if let Some(attempt) = &mut self.own.attempt {
            match (attempt.wish, wish) {
                (None, Some(_)) => attempt.wish = wish,
                (Some(_), Some(wish)) => self.told(wish, Verdict::Refused(Refusal::Busy)),
                _ => {}
            }
            return;
        }
        let spec = self.attach_spec();
        self.start_attempt(Attach::new(spec, how), wish);
    }

    pub(super) fn attach_spec(&mut self) -> Spec {
        let seed = self.own.seed();
        let mut spec = Spec::new(self.container.clone(), &self.life, &self.limits, seed);
        if let Some(note) = &self.notes.note {
            spec.drawn = note.drawn.clone();
            spec.joined = note.joined.clone();
            spec.hint = Hint {
                held: note.held,
                claim: note.held.unwrap_or_default(),
                root: note.committed.map(|committed| committed.root),
            };
        }
        spec
    }

    pub(super) fn start_attempt(&mut self, machine: Attach, wish: Option<WishId>) {
        self.own.joining = None;
        let number = self.own.number();
        self.own.attempt = Some(Attempt {
            number,
            machine: Box::new(machine),
            wish,
        });
    }

    /// A publish needs an attachment: begins one unless it is under way. Never makes progress by itself.
    pub(crate) fn attach_for_publish(&mut self) -> bool {
        if self.own.attempt.is_none()
            && self.own.opened.is_none()
            && self.own.attach_retry_at.is_none()
        {
            self.begin_attach(None, How::default());
            // Where the phase allows none it is no progress: the caller would come back for ever.
            return self.own.attempt.is_some();
        }
        false
    }

    /// The journal that is to be set aside has come to rest.
    pub(super) fn join_step(&mut self) -> bool {
        if !self.journal.is_idle() {
            return false;
        }
        let Some(join) = self.own.joining.take() else {
            return false;
        };
        if self.own.attempt.is_some() {
            self.attach_join(join);
        }
        true
    }

    pub(super) fn attach_poll(&mut self) -> bool {
        let mut done = false;
        loop {
            let now = self.now;
            let Some(attempt) = &mut self.own.attempt else {
                return done;
            };
            let number = attempt.number;
            let ask = attempt.machine.poll(now);
            if attempt.machine.found_shut() {
                self.found_shut();
            }
            let Some(ask) = ask else {
                return done;
            };
            done = true;
            match ask {
                Ask::Store { slot, request } => {
                    self.own.shut |= matches!(
                        request,
                        StoreRequest::Put {
                            name: ObjectName::Door(_),
                            ..
                        }
                    );
                    self.out
                        .store(Pending::Life(Op::Attach { number, slot }), request);
                }
                Ask::Record(id) => self.attach_record(id),
                Ask::Join(join) => self.attach_join(join),
                Ask::End(end) => self.attach_end(*end),
            }
        }
    }

    pub(super) fn attach_record(&mut self, id: AttachId) {
        if self.notes.note.is_none() {
            // The first attach from this state directory: the shape comes with the superblock, which step 1 read.
            let Some(geometry) = self.geometry.or_else(|| {
                self.own
                    .attempt
                    .as_ref()
                    .and_then(|attempt| attempt.machine.superblock())
                    .map(|s| s.geometry)
            }) else {
                let attempt = self.own.attempt.take();
                if let Some(wish) = attempt.and_then(|attempt| attempt.wish) {
                    self.told(wish, Verdict::Refused(Refusal::NoSuchVolume));
                }
                self.own.phase = Phase::Blank;
                return;
            };
            self.set_geometry(geometry);
            self.notes.note = Some(self.new_note(false));
        }
        self.note(After::Drawn, |note| note.drawn.push(id));
    }

    pub(super) fn new_note(&self, unborn: bool) -> Note {
        Note {
            serial: 0,
            container: self.container.clone(),
            geometry: self.geometry.unwrap_or_else(|| {
                crate::units::Geometry::standard(512, crate::units::BlockCount(1))
            }),
            drawn: Vec::new(),
            joined: Vec::new(),
            held: None,
            committed: None,
            dead: Vec::new(),
            intent: None,
            unborn,
            aside: self.own.orphans.clone(),
        }
    }

    pub(super) fn set_geometry(&mut self, geometry: crate::units::Geometry) {
        self.geometry = Some(geometry);
        self.cache.set_frame_grains(geometry.frame_grains);
    }

    /// The journal's fate: it goes on under the new id, or it belongs to a history that was left behind.
    pub(super) fn attach_join(&mut self, join: Join) {
        if join.keep {
            mark!("journal-goes-on");
            self.own.set_aside = false;
            self.note(After::Joined, |note| note.joined.push(join.attach));
            return;
        }
        if matches!(self.own.phase, Phase::Serving | Phase::Detaching) {
            // Guests were served from a journal that turns out to be of a lost history, and so was what waits to be published.
            mark!("served-from-a-lost-history");
            let attempt = self.own.attempt.take();
            self.fenced();
            if let Some(wish) = attempt.and_then(|attempt| attempt.wish) {
                self.told(wish, Verdict::Refused(Refusal::Fenced));
            }
            return;
        }
        if !self.journal.is_idle() {
            // What still ends in the old files must not be taken for records of the next history.
            mark!("join-waits-for-the-journal");
            self.own.joining = Some(join);
            return;
        }
        // What guests saw of this history, and what they wrote to it, is not in the one that goes on.
        self.guest_fail_begun(Failure::Fenced);
        let everything_stored = self.journal.stored() >= self.journal.written();
        // What waits to be published is of the history that ends here.
        self.publish_abort(&Refusal::Fenced);
        self.publishing.cuts.clear();
        let files = self.journal.set_aside();
        let spent = self.journal.assigned();
        self.own.set_aside = !everything_stored;
        self.stack = crate::layers::stack::Stack::default();
        self.own.attribute_log.clear();
        if everything_stored {
            mark!("journal-dropped");
            for file in &files {
                self.out
                    .disk(Pending::Nothing, DiskRequest::RemoveFile(*file));
            }
        }
        self.note(After::Joined, |note| {
            note.joined = alloc::vec![join.attach];
            note.held = None;
            // Nothing of these laps is of the next history, nor says how far that one is durable.
            for dead in &mut note.dead {
                dead.end = Seq(0);
            }
            if let Some(committed) = &mut note.committed {
                // These numbers are spent: the next history goes on above them, and nothing below is missed.
                committed.cut = committed.cut.max(spent);
            }
            if !everything_stored {
                mark!("journal-set-aside");
                note.aside.extend(files);
            }
        });
    }

    pub(super) fn attach_end(&mut self, end: End) {
        let Some(attempt) = self.own.attempt.take() else {
            return;
        };
        match end {
            End::Opened(opened) => {
                let generation = opened.attach.generation;
                let base = opened.base.clone();
                let detaching = self.own.phase == Phase::Detaching;
                self.own.opened = Some(Box::new((opened, attempt.wish)));
                if let Some(base) = &base {
                    let meta = Meta::Root(base.root.clone());
                    self.out.disk(
                        Pending::Nothing,
                        DiskRequest::KeepMeta {
                            hash: base.hash,
                            meta,
                        },
                    );
                }
                // A failed disk's history is saved behind its intent, which the attach for that must not take away.
                let saving = self.journal.is_read_only();
                self.note(After::Named, |note| {
                    note.held = Some(generation);
                    if !detaching && !saving {
                        note.intent = None;
                    }
                    if let Some(base) = base {
                        note.unborn &= base.root.kind == RootKind::Deleted;
                        let cut = note.committed.map_or(Seq(0), |old| old.cut);
                        note.geometry = base.root.geometry;
                        note.committed = Some(note::Committed {
                            version: base.root.name.version,
                            root: base.root.name,
                            hash: base.hash,
                            cut: cut.max(base.root.cut),
                        });
                    }
                });
            }
            End::Held(held) => {
                self.attach_lost(attempt.wish, Verdict::Held(held), true);
            }
            End::Refused(refusal) => {
                let fenced = refusal == Refusal::Fenced;
                self.attach_lost(attempt.wish, Verdict::Refused(refusal), fenced);
            }
        }
    }

    pub(super) fn attach_lost(
        &mut self,
        wish: Option<WishId>,
        verdict: Verdict,
        held_elsewhere: bool,
    ) {
        if let (None, Verdict::Refused(Refusal::Store { object, error })) = (wish, &verdict) {
            self.tell_waiting(object.clone(), *error);
        }
        if let Some((birth, _)) = self.own.birth.take() {
            mark!("birth-lost");
            self.own.phase = Phase::Blank;
            return self.told(birth, verdict);
        }
        match self.own.phase {
            // Another's opened stands above ours: no attach of our own accord changes that.
            Phase::Serving | Phase::Detaching if held_elsewhere => {
                mark!("held-elsewhere-while-serving");
                self.leave();
            }
            // It held the volume, or served it: its note forgets what it held when a journal is set aside.
            _ if held_elsewhere && (self.held().is_some() || self.own.gate == Some(Gate::Open)) => {
                mark!("held-elsewhere-at-the-start");
                self.leave();
            }
            // The store refused: guests go on from here, the publish tries again.
            Phase::Serving | Phase::Detaching => {
                mark!("attach-lost-while-serving");
                self.own.attach_retry_at = Some(self.now + self.limits.watch);
                self.guest_retry();
            }
            _ => {
                self.own.phase = if self.notes.note.is_some() {
                    Phase::Local
                } else {
                    Phase::Blank
                };
                if wish.is_none() {
                    // Nobody asked for it, so nobody asks again: guests wait here.
                    self.own.attach_retry_at = Some(self.now + self.limits.watch);
                }
            }
        }
        if let Some(wish) = wish {
            self.told(wish, verdict);
        }
    }
}
