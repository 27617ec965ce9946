//! Records on their way into files: applied in seq order, written again elsewhere when a file fails under them.

use super::{ATTEMPTS_MAX, Class, Event, Journal, KEPT_RECORDS_MAX, Kept};
use crate::ids::Seq;
use crate::payload::Payload;
use crate::slots::Out;
use alloc::collections::BTreeSet;

impl<P: Payload> Journal<P> {
    pub(super) fn flight_index(&self, seq: Seq) -> Option<usize> {
        let first = self.flight.front()?.seq;
        usize::try_from(seq.0.checked_sub(first.0)?)
            .ok()
            .filter(|i| *i < self.flight.len())
    }

    pub(super) fn appended(&mut self, out: &mut Out<P>, seq: Seq, attempt: u32) {
        if let Some(flight) = self.flight_index(seq).and_then(|i| self.flight.get_mut(i))
            && flight.attempt == attempt
        {
            flight.done = true;
        }
        self.advance(out);
    }

    /// Applies what is written in order.
    pub(super) fn advance(&mut self, out: &mut Out<P>) {
        while self.flight.front().is_some_and(|flight| flight.done) {
            let Some(flight) = self.flight.pop_front() else {
                return;
            };
            let Some(place) = flight.place else { return };
            debug_assert_eq!(flight.seq.0, self.ordered.0 + 1, "applied in seq order");
            self.ordered = flight.seq;
            if let Some(file) = self.files.get_mut(&place.file) {
                file.applied = file.applied.max(flight.seq);
            }
            let bytes = flight.data.len().0;
            self.flight_bytes -= bytes;
            self.kept_bytes += bytes;
            self.events
                .push_back(if flight.voided && !bug!("void-is-applied") {
                    Event::Voided { seq: flight.seq }
                } else {
                    Event::Applied {
                        seq: flight.seq,
                        body: flight.body.clone(),
                        place,
                    }
                });
            self.kept.push_back(Kept {
                seq: flight.seq,
                body: flight.body,
                data: flight.data,
                place,
                moving: None,
            });
        }
        // Half the bound orders a sync, so that the bound itself is seldom met.
        if self.kept_bytes * 2 >= self.kept_max
            || self.held_bytes() >= self.kept_max
            || self.kept.len() * 2 >= KEPT_RECORDS_MAX
        {
            self.wanted = self.ordered;
        }
        self.pump_sync(out);
    }

    /// A failed or short append closes its file at that record: it and every later one are written again elsewhere.
    pub(super) fn append_failed(&mut self, out: &mut Out<P>, seq: Seq, attempt: u32) {
        let Some(index) = self.flight_index(seq) else {
            return;
        };
        if self
            .flight
            .get(index)
            .is_none_or(|flight| flight.attempt != attempt)
        {
            return;
        }
        self.place_again(index);
        if let Some(flight) = self.flight.get_mut(index) {
            flight.failures += 1;
            if flight.failures >= ATTEMPTS_MAX {
                if flight.voided {
                    return self.make_read_only();
                }
                mark!("append-given-up");
                flight.failures = 0;
                return self.no_place(out, index);
            }
        }
        self.place_waiting(out);
    }

    /// Takes the record at `index` and every later one back, to be written again in fresh files.
    pub(super) fn place_again(&mut self, index: usize) {
        let mut bad = BTreeSet::new();
        mark!("append-placed-again");
        let last = if bug!("only-the-failed-append-again") {
            index + 1
        } else {
            self.flight.len()
        };
        for flight in self.flight.range_mut(index..last) {
            if let Some(place) = flight.place.take() {
                bad.insert(place.file);
                flight.attempt += 1;
                flight.done = false;
                flight.class = Class::Own;
            }
        }
        for id in bad {
            if let Some(file) = self.files.get_mut(&id) {
                file.closed = true;
                // Its index would list records that lie elsewhere now.
                file.records.clear();
                file.indexed = true;
            }
            if self.head == Some(id) {
                self.head = None;
            }
        }
    }
}
