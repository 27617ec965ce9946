//! Persistent reservations as dialogues: who does what, and what all may do after it.

use super::*;

fn nexus(name: &str) -> Nexus {
    Nexus {
        initiator: name.into(),
        isid: [0x80, 0, 0, 0, 0, 1],
    }
}

fn list(key: u64, action_key: u64) -> Vec<u8> {
    let mut out = key.to_be_bytes().to_vec();
    out.extend(action_key.to_be_bytes());
    out.resize(24, 0);
    out
}

/// Runs `who action type key action-key` lines; each must give the text after `→`.
#[track_caller]
fn check(script: &str) -> Reservations {
    let mut state = Reservations::default();
    for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let (left, right) = line.split_once('→').expect("an arrow");
        let words: Vec<&str> = left.split_whitespace().collect();
        let number = |i: usize| words.get(i).map_or(0, |w| w.parse().expect("a number"));
        let who = nexus(words[0]);
        let got = match words[1] {
            "access" => {
                let may = |a| if state.allows(&who, a) { "yes" } else { "no" };
                format!("read {} write {}", may(Access::Read), may(Access::Write))
            }
            verb => {
                let action = match verb {
                    "register" => 0,
                    "reserve" => 1,
                    "release" => 2,
                    "clear" => 3,
                    "preempt" => 4,
                    "preempt-abort" => 5,
                    "ignore" => 6,
                    other => panic!("{other}"),
                };
                match state.change(&who, action, number(2) as u8, &list(number(3), number(4))) {
                    Ok(told) => {
                        let mut out = "good".to_owned();
                        for (n, sense) in &told.attentions {
                            out += &format!(" {}:{:04x}", n.initiator, sense.code);
                        }
                        for n in &told.aborted {
                            out += &format!(" {}:abort", n.initiator);
                        }
                        out
                    }
                    Err(Denied::Conflict) => "conflict".to_owned(),
                    Err(Denied::Check(sense)) => format!("{:04x}", sense.code),
                }
            }
        };
        assert_eq!(got, right.trim(), "{line}");
    }
    state
}

#[test]
fn registering_again_needs_the_old_key() {
    check(
        "a register 0 0 7 → good
         a register 0 8 9 → conflict
         a register 0 7 9 → good
         a ignore 0 0 5 → good",
    );
}

#[test]
fn write_exclusive_lets_others_read() {
    check(
        "a register 0 0 7 → good
         b register 0 0 8 → good
         a reserve 1 7 0 → good
         a access → read yes write yes
         b access → read yes write no
         c access → read yes write no",
    );
}

#[test]
fn registrants_only_lets_registrants_write() {
    check(
        "a register 0 0 7 → good
         b register 0 0 8 → good
         a reserve 6 7 0 → good
         b access → read yes write yes
         c access → read no write no",
    );
}

#[test]
fn the_holder_that_unregisters_ends_it_and_only_others_hear() {
    check(
        "a register 0 0 7 → good
         b register 0 0 8 → good
         a reserve 5 7 0 → good
         a register 0 7 0 → good b:2a04
         c access → read yes write yes",
    );
}

#[test]
fn all_registrants_lasts_until_the_last_one() {
    let state = check(
        "a register 0 0 7 → good
         b register 0 0 8 → good
         a reserve 8 7 0 → good
         a register 0 7 0 → good
         c access → read no write no
         b access → read yes write yes",
    );
    assert_eq!(state.report(1, 64)[8..16], [0; 8], "no single key holds it");
    check(
        "a register 0 0 7 → good
         a reserve 8 7 0 → good
         a register 0 7 0 → good
         c access → read yes write yes",
    );
}

#[test]
fn who_reserved_for_all_registrants_and_unregisters_is_one_of_the_others() {
    check(
        "a register 0 0 1   → good
         b register 0 0 2   → good
         a reserve 8 1      → good
         a register 0 1 0   → good
         a access           → read no write no
         b access           → read yes write yes",
    );
}

#[test]
fn preempting_the_holder_takes_its_reservation() {
    check(
        "a register 0 0 7 → good
         b register 0 0 8 → good
         a reserve 1 7 0 → good
         b preempt-abort 3 8 7 → good a:2a05 a:abort
         a access → read no write no
         a reserve 1 7 0 → conflict",
    );
}

#[test]
fn preempting_another_removes_only_the_named_key() {
    check(
        "a register 0 0 7 → good
         b register 0 0 8 → good
         c register 0 0 9 → good
         a reserve 5 7 0 → good
         a preempt 5 7 8 → good b:2a05
         b access → read yes write no
         c access → read yes write yes
         a preempt 5 7 8 → conflict
         a preempt 5 7 0 → 2600",
    );
}

#[test]
fn releasing_another_type_is_an_error() {
    check(
        "a register 0 0 7 → good
         b register 0 0 8 → good
         a reserve 5 7 0 → good
         b release 5 8 0 → good
         a release 1 7 0 → 2604
         a release 5 7 0 → good b:2a04",
    );
}

#[test]
fn only_registrations_clear_and_preempt_count_as_generations() {
    let state = check(
        "a register 0 0 7 → good
         a reserve 1 7 0 → good
         a release 1 7 0 → good
         b register 0 0 8 → good
         b clear 0 8 0 → good a:2a03",
    );
    assert_eq!(state.report(0, 64), [0, 0, 0, 3, 0, 0, 0, 0]);
}

#[test]
fn bad_types_scopes_and_lists_are_refused() {
    check(
        "a register 0 0 7 → good
         a reserve 2 7 0 → 2400
         a reserve 17 7 0 → 2400",
    );
    let mut state = Reservations::default();
    let short = state.change(&nexus("a"), 0, 0, &[0; 23]);
    assert_eq!(
        short,
        Err(Denied::Check(Sense::PARAMETER_LIST_LENGTH_ERROR))
    );
    let mut aptpl = list(0, 1);
    aptpl[20] = 1;
    let kept = state.change(&nexus("a"), 0, 0, &aptpl);
    assert_eq!(kept, Err(Denied::Check(Sense::parameter_field(20, None))));
}

#[test]
fn reserve_6_and_persistent_reservations_exclude_each_other() {
    let (a, b) = (nexus("a"), nexus("b"));
    let mut state = Reservations::default();
    assert_eq!(state.reserve(&a), Ok(()));
    assert_eq!(state.reserve(&b), Err(Denied::Conflict));
    assert!(!state.allows(&b, Access::Read));
    assert_eq!(state.change(&b, 0, 0, &list(0, 1)), Err(Denied::Conflict));
    state.release(&b);
    assert!(!state.is_idle(), "not the holder");
    state.release(&a);
    assert_eq!(state.change(&b, 0, 0, &list(0, 1)), Ok(Told::default()));
    assert_eq!(state.reserve(&a), Err(Denied::Conflict));
}

#[test]
fn a_transport_id_names_the_initiator_port() {
    let id = transport_id(&nexus("iqn.2008-11.org:a"));
    assert_eq!(id[..4], [0x45, 0, 0, 36]);
    assert_eq!(&id[4..36], b"iqn.2008-11.org:a,i,0x8000000000");
    assert_eq!(id.len(), 40);
}
