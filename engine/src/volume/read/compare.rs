//! Compare and write: the read that comes first.

use super::Owner;
use crate::command::{Failure, Reply};
use crate::effect::Outcome;
use crate::payload::{Parts, Payload};
use crate::volume::{Pending, Volume};

impl<P: Payload> Volume<P> {
    /// Begins the compares whose predecessors are applied.
    pub(in crate::volume) fn caw_step(&mut self) {
        for (caw, at) in self.caws_ready() {
            self.read_begin(Owner::Caw(caw), at);
        }
    }

    pub(super) fn caw_read(&mut self, caw: u64, found: Parts<P>) {
        let Some(op) = self.caw_mut(caw) else { return };
        let expect = op.expect.clone();
        self.out.compare(Pending::Compare { caw }, found, expect);
    }

    pub(in crate::volume) fn caw_compared(&mut self, caw: u64, outcome: Outcome<P>) {
        match outcome {
            Outcome::Compared(None) => self.caw_write(caw),
            Outcome::Compared(Some(at)) => {
                if let Some(op) = self.caw_remove(caw) {
                    self.answer(op.tag, Reply::Miscompare { at });
                }
                self.unlocked();
            }
            _ => {
                if let Some(op) = self.caw_remove(caw) {
                    self.answer(op.tag, Reply::Failed(Failure::Hardware));
                }
                self.unlocked();
            }
        }
    }
}
