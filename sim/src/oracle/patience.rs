//! L6: an error that stays is told within a bounded time, and never asked about in a ring.
//!
//! Nobody can tell whether an error stays. So the engine may go on asking (P5: it resumes by itself), at a bounded pace; but
//! who could mend it must hear of it (a notice, a wish refused, a gate that closes), and who waits for it must be answered.

use super::{Checked, Violation};

/// Nanoseconds of a second.
const SEC: u64 = 1_000_000_000;

/// T4: an error that a process hears is told to the operator within this: the next request that fails must tell it, and may
/// take the store's machine a minute, and so may one that was on its way.
pub const TOLD_MAX: u64 = 130 * SEC;

/// A guest's command is answered within this, BUSY if need be: 12 s, and what local work there is.
pub const ANSWERED_MAX: u64 = 14 * SEC;

/// Requests that may be sent at once, and per second after that.
pub const BURST: u64 = 400;
/// The same.
pub const PER_SECOND: u64 = 32;

/// What a process is owed while an error stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Patience {
    /// When it first asked, in vain or not.
    began: Option<u64>,
    requests: u64,
    /// When it first heard the error.
    heard: Option<u64>,
    is_told: bool,
}

impl Patience {
    /// It asks the store.
    pub fn asks(&mut self, now: u64) -> Checked {
        let began = *self.began.get_or_insert(now);
        self.requests += 1;
        let most = BURST + (now - began) / SEC * PER_SECOND;
        if self.requests <= most {
            return Ok(());
        }
        let text = format!(
            "{} requests in {} s of an error that stays",
            self.requests,
            (now - began) / SEC
        );
        Err(Violation::new("L6", text))
    }

    /// It hears the error.
    pub fn hears(&mut self, now: u64) -> Checked {
        let heard = *self.heard.get_or_insert(now);
        if self.is_told || now <= heard + TOLD_MAX {
            return Ok(());
        }
        let text = format!(
            "an error is heard for {} s, and nobody was told",
            (now - heard) / SEC
        );
        Err(Violation::new("L6", text))
    }

    /// The process, or its disk, stood still: its time begins anew.
    pub const fn begins_anew(&mut self) {
        self.heard = None;
    }

    /// It tells the operator.
    pub const fn tells(&mut self) {
        self.is_told = true;
    }
}

/// A guest's command has waited for `waited` nanoseconds, all of them under an error that stays.
pub fn check_waited(what: &str, waited: u64) -> Checked {
    if waited <= ANSWERED_MAX {
        return Ok(());
    }
    let text = format!("{what} waits for {waited} ns under an error that stays");
    Err(Violation::new("L6", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn violates(result: Checked) {
        assert_eq!(result.expect_err("must be rejected").property, "L6");
    }

    #[test]
    fn an_error_that_is_heard_again_and_again_in_silence_is_rejected() {
        let mut p = Patience::default();
        p.hears(10 * SEC).expect("the first time");
        p.hears(140 * SEC).expect("there is time left");
        violates(p.hears(141 * SEC));
    }

    #[test]
    fn one_that_is_told_may_go_on_for_ever_and_one_that_nobody_asks_about_again_need_not_be() {
        let mut p = Patience::default();
        p.hears(10 * SEC).expect("the first time");
        p.tells();
        p.hears(9000 * SEC).expect("it was told");
        let mut still = Patience::default();
        still.hears(10 * SEC).expect("the first time");
        still.begins_anew();
        still.hears(200 * SEC).expect("it stood still");
        let mut quiet = Patience::default();
        quiet.hears(0).expect("once, for what nobody needed");
    }

    #[test]
    fn a_ring_is_rejected_and_a_burst_is_not() {
        let mut p = Patience::default();
        for n in 0..BURST {
            p.asks(5 * SEC + n).expect("a burst");
        }
        violates(p.asks(5 * SEC + BURST));
        let mut paced = Patience::default();
        for n in 0..10_000 {
            paced
                .asks(n * SEC / PER_SECOND)
                .expect("as many as there is time");
        }
    }

    #[test]
    fn a_command_that_waits_on_is_rejected() {
        violates(check_waited("a read", 15 * SEC));
        check_waited("a read", 12 * SEC).expect("BUSY in time");
    }
}
