//! Persistent reservations as initiators know them, by their own reading of SPC-4 §5.12, "Reservations", §6.15, "PERSISTENT
//! RESERVE IN command" and §6.16, "PERSISTENT RESERVE OUT command".
//!
//! One PERSISTENT RESERVE OUT of a target is under way at a time. What is sent while it is, or was under way when it was
//! sent, may be refused or not; all else is refused exactly when it is due. When nobody knows what became of one (its
//! connection broke, it was aborted), nothing is held against the target until somebody has registered anew and cleared.
//!
//! Not here   SPEC_I_PT, ALL_TG_PT and APTPL, which the target does not offer: what is registered ends with its process.

use std::collections::BTreeMap;

/// An I_T nexus: an initiator of the seat, and its ISID.
pub(crate) type Nexus = (usize, [u8; 6]);

/// RESERVATIONS PREEMPTED, RESERVATIONS RELEASED, REGISTRATIONS PREEMPTED.
pub(crate) const PREEMPTED: u16 = 0x2a03;
/// The same.
pub(crate) const RELEASED: u16 = 0x2a04;
/// The same.
pub(crate) const UNREGISTERED: u16 = 0x2a05;

/// A PERSISTENT RESERVE OUT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Act {
    pub(crate) nexus: Nexus,
    /// Service action: 0 register, 1 reserve, 2 release, 3 clear, 4 preempt, 5 preempt and abort, 6 register and ignore.
    pub(crate) action: u8,
    /// Type of reservation: 1, 3, 5 to 8.
    pub(crate) kind: u8,
    pub(crate) key: u64,
    pub(crate) action_key: u64,
}

impl Act {
    /// Its parameter list.
    pub(crate) fn list(&self) -> Vec<u8> {
        let mut list = self.key.to_be_bytes().to_vec();
        list.extend(self.action_key.to_be_bytes());
        list.resize(24, 0);
        list
    }

    /// Its CDB.
    pub(crate) const fn cdb(&self) -> [u8; 16] {
        let mut cdb = [0; 16];
        cdb[0] = 0x5f;
        cdb[1] = self.action;
        cdb[2] = self.kind;
        cdb[8] = 24;
        cdb
    }
}

/// How it must end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Due {
    /// GOOD, and who must hear what.
    Good(Vec<(Nexus, u16)>),
    /// RESERVATION CONFLICT.
    Conflict,
    /// CHECK CONDITION, ILLEGAL REQUEST with this code.
    Check(u16),
}

/// Who is registered with which key, and who holds the unit how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registry {
    pub(crate) keys: BTreeMap<Nexus, u64>,
    pub(crate) held: Option<(Nexus, u8)>,
}

const INVALID_LIST: u16 = 0x2600;
const INVALID_RELEASE: u16 = 0x2604;

const fn is_for_all(kind: u8) -> bool {
    kind >= 7
}

impl Registry {
    /// Whether a command of `nexus` is let through. SPC-4 §5.12.1, table "SPC commands that are allowed in the presence of
    /// various reservations"; SBC-3 for reads and writes.
    pub(crate) fn allows(&self, nexus: Nexus, writes: bool) -> bool {
        let Some((holder, kind)) = self.held else {
            return true;
        };
        let is_registered = self.keys.contains_key(&nexus);
        let is_in = match kind {
            1 | 3 => holder == nexus,
            _ => is_registered,
        };
        // Write exclusive, of whichever sort, lets everybody read.
        is_in || !writes && matches!(kind, 1 | 5 | 7)
    }

    fn is_holder(&self, nexus: Nexus) -> bool {
        self.held
            .is_some_and(|(holder, kind)| holder == nexus || is_for_all(kind))
    }

    fn others(&self, but: Nexus, code: u16) -> Vec<(Nexus, u16)> {
        let others = self.keys.keys().filter(|other| **other != but);
        others.map(|other| (*other, code)).collect()
    }

    /// A reservation of that kind has ended: those whom it let in hear of it.
    fn released(&self, but: Nexus, kind: u8) -> Vec<(Nexus, u16)> {
        match kind {
            5..=8 => self.others(but, RELEASED),
            _ => Vec::new(),
        }
    }

    /// What must come of it, and what holds then.
    pub(crate) fn act(&mut self, act: &Act) -> Due {
        let own = self.keys.get(&act.nexus).copied();
        match act.action {
            0 if own.unwrap_or(0) != act.key => Due::Conflict,
            0 | 6 => self.register(act),
            _ if own != Some(act.key) => Due::Conflict,
            1 => match self.held {
                Some((_, kind)) if !self.is_holder(act.nexus) || kind != act.kind => Due::Conflict,
                Some(_) => Due::Good(Vec::new()),
                None => {
                    self.held = Some((act.nexus, act.kind));
                    Due::Good(Vec::new())
                }
            },
            2 => match self.held.filter(|_| self.is_holder(act.nexus)) {
                None => Due::Good(Vec::new()),
                Some((_, kind)) if kind != act.kind => Due::Check(INVALID_RELEASE),
                Some((_, kind)) => {
                    self.held = None;
                    Due::Good(self.released(act.nexus, kind))
                }
            },
            3 => {
                let told = self.others(act.nexus, PREEMPTED);
                *self = Self::default();
                Due::Good(told)
            }
            _ => self.preempt(act),
        }
    }

    fn register(&mut self, act: &Act) -> Due {
        if act.action_key != 0 {
            self.keys.insert(act.nexus, act.action_key);
            return Due::Good(Vec::new());
        }
        self.keys.remove(&act.nexus);
        let ends = self.held.filter(|(holder, kind)| match is_for_all(*kind) {
            true => self.keys.is_empty(),
            false => *holder == act.nexus,
        });
        let Some((_, kind)) = ends else {
            return Due::Good(Vec::new());
        };
        self.held = None;
        Due::Good(self.released(act.nexus, kind))
    }

    fn preempt(&mut self, act: &Act) -> Due {
        let victim = act.action_key;
        let all = self.held.is_some_and(|(_, kind)| is_for_all(kind));
        if victim == 0 && !all {
            return Due::Check(INVALID_LIST);
        }
        if victim != 0 && !self.keys.values().any(|key| *key == victim) {
            return Due::Conflict;
        }
        let takes = match self.held {
            Some((_, kind)) if is_for_all(kind) => victim == 0,
            Some((holder, _)) => self.keys.get(&holder) == Some(&victim),
            None => false,
        };
        let is_out =
            |nexus: &Nexus, key: u64| *nexus != act.nexus && (victim == 0 || key == victim);
        let out = self.keys.iter().filter(|(n, key)| is_out(n, **key));
        let mut told: Vec<(Nexus, u16)> = out.map(|(n, _)| (*n, UNREGISTERED)).collect();
        self.keys.retain(|nexus, key| !is_out(nexus, *key));
        if takes {
            let before = self.held.replace((act.nexus, act.kind));
            if before.is_some_and(|(_, kind)| kind != act.kind) {
                told.extend(self.others(act.nexus, RELEASED));
            }
        }
        Due::Good(told)
    }
}

/// What a seat's initiators know of the reservations of their target.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reserves {
    pub(crate) registry: Registry,
    /// Since when nobody knows what holds.
    pub(crate) unknown_since: Option<u64>,
    /// Who has registered since, to clear.
    pub(crate) registers: Option<Nexus>,
    /// Counts what may have changed it: commands with another number at their end may have met either.
    pub(crate) version: u64,
    /// The one under way: its connection and task.
    pub(crate) pending: Option<(u32, u32, Act)>,
    /// By connection: what was sent before then, on behalf of a nexus that was preempted, is over (B8).
    pub(crate) over: BTreeMap<u32, u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Nexus = (0, [1; 6]);
    const B: Nexus = (1, [2; 6]);
    const C: Nexus = (2, [3; 6]);

    fn act(nexus: Nexus, action: u8, kind: u8, key: u64, action_key: u64) -> Act {
        Act {
            nexus,
            action,
            kind,
            key,
            action_key,
        }
    }

    fn registered(nexuses: &[Nexus]) -> Registry {
        let mut registry = Registry::default();
        for (nexus, key) in nexuses.iter().zip(1..) {
            let due = registry.act(&act(*nexus, 0, 0, 0, key));
            assert_eq!(due, Due::Good(Vec::new()));
        }
        registry
    }

    #[test]
    fn a_wrong_key_and_a_stranger_are_refused() {
        let mut registry = registered(&[A]);
        assert_eq!(registry.act(&act(A, 1, 1, 9, 0)), Due::Conflict);
        assert_eq!(registry.act(&act(B, 1, 1, 0, 0)), Due::Conflict);
        assert!(registry.allows(B, true), "nothing is reserved");
    }

    #[test]
    fn who_may_do_what_under_which_type() {
        for (kind, registrant, stranger) in [
            (1, (true, false), (true, false)),
            (3, (false, false), (false, false)),
            (5, (true, true), (true, false)),
            (6, (true, true), (false, false)),
            (7, (true, true), (true, false)),
            (8, (true, true), (false, false)),
        ] {
            let mut registry = registered(&[A, B]);
            registry.act(&act(A, 1, kind, 1, 0));
            let may = |n| (registry.allows(n, false), registry.allows(n, true));
            assert_eq!(may(A), (true, true));
            assert_eq!((may(B), may(C)), (registrant, stranger), "type {kind}");
        }
    }

    #[test]
    fn a_preempted_holder_is_out_and_hears_of_it() {
        let mut registry = registered(&[A, B, C]);
        registry.act(&act(A, 1, 5, 1, 0));
        let due = registry.act(&act(B, 5, 6, 2, 1));
        // The type has changed: the third hears that the old one was released.
        let told = vec![(A, UNREGISTERED), (C, RELEASED)];
        assert_eq!(due, Due::Good(told));
        assert!(!registry.allows(A, true) && registry.allows(B, true) && registry.allows(C, true));
    }

    #[test]
    fn who_reserved_for_all_may_leave_and_the_others_stay() {
        let mut registry = registered(&[A, B]);
        registry.act(&act(A, 1, 8, 1, 0));
        assert_eq!(registry.act(&act(A, 0, 0, 1, 0)), Due::Good(Vec::new()));
        assert!(!registry.allows(A, false) && registry.allows(B, true));
        registry.act(&act(B, 0, 0, 2, 0));
        assert!(registry.allows(C, true), "nobody is left");
    }

    #[test]
    fn a_release_of_another_type_is_an_error() {
        let mut registry = registered(&[A, B]);
        registry.act(&act(A, 1, 1, 1, 0));
        let wrong = registry.act(&act(A, 2, 3, 1, 0));
        assert_eq!(wrong, Due::Check(INVALID_RELEASE));
        let others = registry.act(&act(B, 2, 1, 2, 0));
        assert_eq!(others, Due::Good(Vec::new()), "not the holder: no effect");
        assert!(!registry.allows(B, true));
    }
}
