//! A volume is born, or its interrupted birth is finished.

use super::{Op, Phase};
use crate::attach::{Attach, How};
use crate::command::{BirthSpec, Refusal, Verdict};
use crate::effect::{Body, Outcome, StoreError, StoreRequest};
use crate::ids::{AttachId, WishId};
use crate::object::names::ObjectName;
use crate::payload::Payload;
use crate::table::types::Superblock;
use crate::volume::{After, Pending, Volume};
use alloc::string::String;
use alloc::sync::Arc;

impl<P: Payload> Volume<P> {
    pub(super) fn begin_birth(&mut self, id: WishId, spec: BirthSpec) {
        if self.own.phase != Phase::Blank {
            return self.told(id, Verdict::Refused(Refusal::Exists));
        }
        if !spec.geometry.is_valid() {
            return self.told(
                id,
                Verdict::Refused(Refusal::WrongState("no such geometry")),
            );
        }
        self.own.phase = Phase::Birth;
        self.set_geometry(spec.geometry);
        self.attributes = spec.attributes.iter().cloned().collect();
        let attributes = self.attributes.clone();
        self.own.attributes_changed(&attributes);
        self.own.birth = Some((id, spec));
        // A birth that failed before left a note: its number and what it drew go on.
        let mut note = self.new_note(true);
        if let Some(old) = self.notes.note.take() {
            mark!("born-after-a-failure");
            note.serial = old.serial;
            note.drawn = old.drawn;
        }
        self.notes.note = Some(note);
        self.note(After::Drawn, |_| {});
    }

    /// The container of an interrupted birth or erasing is there: attaches to finish it.
    pub(super) fn finish_unborn(&mut self, outcome: &Outcome<P>) {
        let wish = self.own.open_wish.take();
        if matches!(outcome, Outcome::Done) {
            let how = How {
                finish: true,
                ..How::default()
            };
            let spec = self.attach_spec();
            return self.start_attempt(Attach::new(spec, how), wish);
        }
        self.own.phase = Phase::Local;
        if let (Some(wish), Outcome::Store(error)) = (wish, outcome) {
            let (object, error) = (String::from("the container"), *error);
            self.told(wish, Verdict::Refused(Refusal::Store { object, error }));
        }
    }

    pub(super) fn put_superblock(&mut self) {
        // 1. The PUT's answer is lost, and the birth fails. 2. It is tried again. 3. One name has one content for ever.
        let wall = self.wall();
        let created = *self.own.born_at.get_or_insert(wall);
        let Some((_, spec)) = &self.own.birth else {
            return;
        };
        let superblock = Superblock {
            container: self.container.clone(),
            geometry: spec.geometry,
            kind: spec.kind,
            created,
            parent: spec.parent.clone(),
        };
        let request = StoreRequest::Put {
            container: self.container.clone(),
            name: ObjectName::Volume,
            body: Body::Superblock(Arc::new(superblock)),
            once: false,
        };
        self.out.store(Pending::Life(Op::Superblock), request);
    }

    pub(super) fn birth_failed(&mut self, object: &str, outcome: &Outcome<P>) {
        mark!("birth-refused-by-the-store");
        self.own.phase = Phase::Blank;
        let error = match outcome {
            Outcome::Store(error) => *error,
            _ => StoreError::Unavailable,
        };
        if let Some((wish, _)) = self.own.birth.take() {
            let object = String::from(object);
            self.told(wish, Verdict::Refused(Refusal::Store { object, error }));
        }
    }

    pub(super) fn born_attached(&mut self, attach: AttachId) {
        self.journal.prepare(&mut self.out);
        self.publish_birth(attach);
        if let Some((wish, _)) = self.own.birth.take() {
            self.told(wish, Verdict::Begun);
        }
    }
}
