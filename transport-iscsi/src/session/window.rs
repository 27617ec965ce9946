//! The CmdSN window: which commands are taken, and how many more may come. RFC 7143 §4.2.2.1, "Command Numbering and
//! Acknowledging".
//!
//! Invariant  ExpCmdSN and MaxCmdSN never go back. MaxCmdSN may be ExpCmdSN − 1: closed.

use crate::serial::CmdSn;

/// What to do with a command's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is the next one (or immediate).
    Take,
    /// Outside of the window: silently ignored.
    Ignore,
    /// Inside of the window, but an earlier one is missing. On a session's only connection it can never come.
    Gap,
}

/// The window of a session.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    expected: CmdSn,
    max: CmdSn,
    /// Commands that may be here at once.
    size: u32,
    /// Non-immediate commands that are here.
    pending: u32,
}

impl Window {
    /// A window that opens at `first` and lets `size` commands in (at least 1).
    pub fn new(first: CmdSn, size: u32) -> Self {
        let size = size.max(1);
        Self {
            expected: first,
            max: first.plus(size - 1),
            size,
            pending: 0,
        }
    }

    /// ExpCmdSN.
    pub const fn expected(&self) -> CmdSn {
        self.expected
    }

    /// MaxCmdSN.
    pub const fn max(&self) -> CmdSn {
        self.max
    }

    /// Judges a number; the next one is counted as arrived.
    pub const fn arrive(&mut self, number: CmdSn, is_immediate: bool) -> Verdict {
        if is_immediate {
            return Verdict::Take;
        }
        let beyond = self.max.is_before(number);
        if beyond || number.is_before(self.expected) {
            return Verdict::Ignore;
        }
        if number.0 != self.expected.0 {
            return Verdict::Gap;
        }
        self.expected = self.expected.next();
        Verdict::Take
    }

    /// A non-immediate command takes a place.
    pub const fn occupy(&mut self) {
        self.pending += 1;
        self.open();
    }

    /// A non-immediate command has left.
    pub const fn vacate(&mut self) {
        self.pending = self.pending.saturating_sub(1);
        self.open();
    }

    /// A command that never took a place (a ping, say) has been answered.
    pub const fn open(&mut self) {
        let room = self.size.saturating_sub(self.pending);
        let max = self.expected.plus(room.wrapping_sub(1));
        if self.max.is_before(max) {
            self.max = max;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(window: &Window, expected: u32, max: u32) {
        assert_eq!((window.expected().0, window.max().0), (expected, max));
    }

    #[test]
    fn the_window_slides_when_commands_leave() {
        let mut w = Window::new(CmdSn(u32::MAX), 2);
        check(&w, u32::MAX, 0);
        assert_eq!(w.arrive(CmdSn(u32::MAX), false), Verdict::Take);
        w.occupy();
        check(&w, 0, 0);
        assert_eq!(w.arrive(CmdSn(0), false), Verdict::Take);
        w.occupy();
        check(&w, 1, 0);
        assert_eq!(w.arrive(CmdSn(1), false), Verdict::Ignore, "closed");
        w.vacate();
        check(&w, 1, 1);
        assert_eq!(w.arrive(CmdSn(1), false), Verdict::Take);
    }

    #[test]
    fn numbers_outside_are_ignored_and_gaps_are_told() {
        let mut w = Window::new(CmdSn(10), 4);
        assert_eq!(w.arrive(CmdSn(9), false), Verdict::Ignore);
        assert_eq!(w.arrive(CmdSn(14), false), Verdict::Ignore);
        assert_eq!(w.arrive(CmdSn(11), false), Verdict::Gap);
        check(&w, 10, 13);
    }

    #[test]
    fn immediate_commands_do_not_move_it() {
        let mut w = Window::new(CmdSn(10), 4);
        assert_eq!(w.arrive(CmdSn(10), true), Verdict::Take);
        check(&w, 10, 13);
    }

    #[test]
    fn answered_pings_open_it_again() {
        let mut w = Window::new(CmdSn(10), 1);
        assert_eq!(w.arrive(CmdSn(10), false), Verdict::Take);
        check(&w, 11, 10);
        w.open();
        check(&w, 11, 11);
    }
}
