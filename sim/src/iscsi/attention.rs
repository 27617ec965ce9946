//! Unit attentions: which a session may hear, and which it must hear first. SAM-5 §5.14, "Unit attention condition".

use crate::oracle::{Checked, Violation};
use std::collections::BTreeMap;

/// POWER ON, RESET, OR BUS DEVICE RESET OCCURRED: what every new session hears first.
pub(crate) const POWER_ON: u16 = 0x2900;
/// BUS DEVICE RESET FUNCTION OCCURRED.
pub(crate) const RESET: u16 = 0x2903;
/// COMMANDS CLEARED BY ANOTHER INITIATOR.
pub(crate) const CLEARED: u16 = 0x2f00;

/// The unit attentions of a session: which it may hear, and which it must hear before anything else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attentions {
    may: BTreeMap<u16, u32>,
    /// With the time from which on it is there.
    must: BTreeMap<u16, u64>,
    heard_at: BTreeMap<u16, u64>,
}

impl Attentions {
    /// A session begins.
    pub(crate) fn begin(&mut self, now: u64) {
        // What was sent before and causes others may still be on its way.
        self.may.insert(POWER_ON, 1);
        self.must.clear();
        self.must.insert(POWER_ON, now);
        self.heard_at.clear();
    }

    /// Whether the first attention of the session is still due.
    pub(crate) fn is_new(&self) -> bool {
        self.must.contains_key(&POWER_ON)
    }

    /// An abort is answered now: what an aborted command was to report comes with what is sent from now on.
    pub(crate) fn postpone(&mut self, now: u64) {
        self.must.values_mut().for_each(|since| *since = now);
    }

    /// Something was sent that causes it.
    pub(crate) fn may_come(&mut self, code: u16) {
        *self.may.entry(code).or_default() += 1;
    }

    /// What was sent at `since` and causes it has been answered now: it is there, unless it was heard meanwhile.
    pub(crate) fn is_there(&mut self, code: u16, since: u64, now: u64) {
        if self.heard_at.get(&code).is_none_or(|at| *at < since) {
            self.must.entry(code).or_insert(now);
        }
    }

    /// A command that was sent at `sent_at` is answered with this attention (`None`: with none).
    pub(crate) fn hears(&mut self, code: Option<u16>, sent_at: u64, now: u64) -> Checked {
        let Some(code) = code else {
            let due = self.must.iter().find(|(_, since)| **since <= sent_at);
            return match due {
                Some((code, _)) => Err(Violation::new(
                    "B11",
                    format!("unit attention {code:04x}h is due and was not reported"),
                )),
                None => Ok(()),
            };
        };
        let left = self.may.entry(code).or_default();
        if *left == 0 {
            let text = format!("unit attention {code:04x}h without a reason");
            return Err(Violation::new("B11", text));
        }
        *left -= 1;
        self.must.remove(&code);
        self.heard_at.insert(code, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn violates(result: Checked) {
        assert_eq!(result.expect_err("must be rejected").property, "B11");
    }

    #[test]
    fn a_session_hears_of_its_beginning_first_and_once() {
        let mut a = Attentions::default();
        a.begin(10);
        violates(a.clone().hears(None, 11, 12));
        a.hears(Some(POWER_ON), 11, 12).expect("the first command");
        violates(a.clone().hears(Some(POWER_ON), 13, 14));
        a.hears(None, 13, 14).expect("nothing is due any more");
        violates(a.hears(Some(RESET), 15, 16));
    }

    #[test]
    fn a_reset_is_reported_after_its_answer_and_may_be_before() {
        let mut a = Attentions::default();
        a.may_come(RESET);
        // In flight together: with or without is right.
        a.clone().hears(None, 5, 9).expect("in flight together");
        let mut early = a.clone();
        early.hears(Some(RESET), 5, 9).expect("in flight together");
        early.is_there(RESET, 4, 10);
        early.hears(None, 11, 12).expect("it was reported before");
        a.is_there(RESET, 4, 10);
        a.clone()
            .hears(None, 9, 12)
            .expect("sent before the answer");
        violates(a.clone().hears(None, 11, 12));
        let mut aborted = a.clone();
        aborted.postpone(13);
        aborted
            .hears(None, 11, 14)
            .expect("the aborted command was to report it");
        violates(aborted.hears(None, 14, 15));
        a.hears(Some(RESET), 11, 12).expect("due");
    }
}
