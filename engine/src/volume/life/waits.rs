//! What the operator hears while the store makes the volume wait. Nobody can tell whether an error stays: it is asked about
//! on and on, and said now and then.

use crate::attach::Waiting;
use crate::effect::{Effect, Notice, StoreError};
use crate::payload::Payload;
use crate::time::Duration;
use crate::volume::Volume;
use alloc::string::String;

/// A hiccup of the store is no news; what lasts for so long is. Shorter than the 12 s after which guests hear BUSY.
const TELL_AFTER: Duration = Duration::from_secs(10);

/// It is told again after so long.
const TELL_AGAIN: Duration = Duration::from_secs(30);

impl<P: Payload> Volume<P> {
    /// An attach or an inspection has heard an answer: what it waits for is told, if it waits for long.
    pub(super) fn tell_what_is_waited_for(&mut self) {
        let attempt = self.own.attempt.as_ref().map(|a| &a.machine);
        let inspecting = self.own.inspecting.as_ref().map(|i| &i.machine);
        let waiting = (attempt.and_then(|machine| machine.waiting()))
            .or_else(|| inspecting.and_then(|machine| machine.waiting()));
        let now = self.now;
        if let Some(Waiting { object, error, .. }) =
            waiting.filter(|waiting| waiting.since + TELL_AFTER <= now)
        {
            let (object, error) = (object.clone(), *error);
            self.tell_waiting(object, error);
        }
    }

    /// The store has given no good answer for a while.
    pub(super) fn tell_store_away(&mut self, error: StoreError) {
        let away = self.own.away_since;
        if away.is_some_and(|since| since + TELL_AFTER <= self.now) {
            self.tell_waiting("the store".into(), error);
        }
    }

    /// Tells it, unless something like it was told a moment ago.
    pub(in crate::volume) fn tell_waiting(&mut self, object: String, error: StoreError) {
        let told = self.own.told_waiting_at;
        if told.is_none_or(|at| at + TELL_AGAIN <= self.now) {
            mark!("waiting-is-told");
            self.own.told_waiting_at = Some(self.now);
            self.out
                .push(Effect::Notice(Notice::StoreWaiting { object, error }));
        }
    }
}
