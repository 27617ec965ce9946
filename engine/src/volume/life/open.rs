//! Opening what this state directory holds: served at once, or attached first.

use super::{Op, Phase};
use crate::attach::{self, How, Watched};
use crate::command::{Refusal, Verdict};
use crate::effect::{Absence, Expect, Gate, GetRequest, Outcome, StoreRequest};
use crate::ids::{Version, WishId};
use crate::journal::note::Intent;
use crate::object::names::ObjectName;
use crate::payload::Payload;
use crate::volume::{Pending, Volume};

impl<P: Payload> Volume<P> {
    pub(super) fn open(&mut self, id: WishId) {
        match self.own.phase {
            Phase::Serving => return self.tell_attached(id),
            Phase::Local => {}
            _ => {
                return self.told(
                    id,
                    Verdict::Refused(Refusal::WrongState(self.own.phase_name())),
                );
            }
        }
        let note = self.notes.note.as_ref();
        let deleting = note.is_some_and(|note| matches!(note.intent, Some(Intent::Delete(_))));
        if note.is_some_and(|note| note.unborn) || deleting {
            // A birth or an erasing was interrupted: if version 0 is there it is finished, else the volume is erased.
            self.own.phase = Phase::Attaching;
            self.own.open_wish = Some(id);
            if deleting {
                mark!("erasing-goes-on");
                // Everything that decides goes before `volume`: without it nothing is left to attach to.
                let request = StoreRequest::Get(GetRequest {
                    container: self.container.clone(),
                    name: ObjectName::Volume,
                    range: None,
                    absence: Absence::Twice,
                    deadline: self.limits.store_deadline,
                    expect: Expect::Exists,
                });
                self.out.store(Pending::Life(Op::HalfErased), request);
                return;
            }
            mark!("birth-goes-on");
            let request = StoreRequest::CreateContainer(self.container.clone());
            self.out.store(Pending::Life(Op::UnbornContainer), request);
            return;
        }
        let held = note
            .filter(|note| note.intent.is_none())
            .and_then(|note| note.held);
        match (held, self.present.root()) {
            (Some(held), Some(_)) => {
                self.own.phase = Phase::Checking;
                self.own.open_wish = Some(id);
                let request =
                    attach::watch_request(self.container.clone(), held, self.limits.restart_look);
                self.out.store(Pending::Life(Op::RestartLook), request);
            }
            _ => self.begin_attach(Some(id), How::default()),
        }
    }

    pub(super) fn restart_looked(&mut self, outcome: &Outcome<P>) {
        let wish = self.own.open_wish.take();
        match attach::watch_verdict(outcome) {
            Watched::Good | Watched::Silent => {
                if attach::watch_verdict(outcome) == Watched::Silent {
                    mark!("restart-without-the-store");
                }
                // Mode `available`: no answer is no reason to stop a disk that is whole here.
                self.own.last_good = self.now;
                self.serve();
                if let Some(wish) = wish {
                    self.tell_attached(wish);
                }
            }
            Watched::Shut => {
                mark!("restart-finds-it-shut");
                self.own.phase = Phase::Local;
                self.begin_attach(wish, How::default());
            }
        }
    }

    pub(crate) fn serve(&mut self) {
        self.own.phase = Phase::Serving;
        self.own.watch_at = Some(self.now + self.limits.watch);
        self.set_gate(Gate::Open);
        if self.journal.is_read_only() && self.journal.durable() < self.journal.written() {
            self.save_whole_history();
        }
        self.guest_retry();
    }

    pub(super) fn tell_attached(&mut self, wish: WishId) {
        let base = self
            .present
            .root()
            .map_or(Version(0), |root| root.name.version);
        let verdict = Verdict::Attached {
            attach: self.own.attach,
            base,
            set_aside: self.own.set_aside,
        };
        self.told(wish, verdict);
    }
}
