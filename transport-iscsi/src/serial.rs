//! Sequence numbers that wrap: RFC 1982, "Serial Number Arithmetic", with 32 bits.
//!
//! They have no `Ord`: "before" is defined only within half the circle, and a sorted container would be wrong at the wrap.

macro_rules! serial {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
        pub struct $name(pub u32);

        impl $name {
            /// The number after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                self.plus(1)
            }

            /// The number `count` steps on.
            #[must_use]
            pub const fn plus(self, count: u32) -> Self {
                Self(self.0.wrapping_add(count))
            }

            /// Steps from `self` forward to `later`.
            pub const fn distance(self, later: Self) -> u32 {
                later.0.wrapping_sub(self.0)
            }

            /// Whether `self` lies before `other`. False for numbers exactly half the circle apart, either way round.
            pub const fn is_before(self, other: Self) -> bool {
                let steps = self.distance(other);
                steps != 0 && steps < 1 << 31
            }
        }
    };
}

serial!(/// Order of commands in a session. RFC 7143 §4.2.2.1, "Command Numbering and Acknowledging".
    CmdSn);
serial!(/// Order of responses on a connection. RFC 7143 §4.2.2.2, "Response/Status Numbering and Acknowledging".
    StatSn);
serial!(/// Order of data PDUs within a sequence. RFC 7143 §4.2.2.4, "Data Sequencing".
    DataSn);
serial!(/// Order of R2Ts within a task.
    R2tSn);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(a: u32, b: u32, before: bool) {
        assert_eq!(CmdSn(a).is_before(CmdSn(b)), before, "{a} before {b}");
    }

    #[test]
    fn order_holds_across_the_wrap() {
        check(u32::MAX, 0, true);
        check(0, u32::MAX, false);
        check(u32::MAX - 5, 5, true);
    }

    #[test]
    fn a_number_is_not_before_itself() {
        check(7, 7, false);
    }

    #[test]
    fn half_the_circle_is_undefined_and_false() {
        check(0, 1 << 31, false);
        check(1 << 31, 0, false);
    }
}
