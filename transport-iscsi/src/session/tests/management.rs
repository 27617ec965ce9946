//! Task management, logout, the end of sessions, and what sessions hear of each other.

use super::check;
use super::peer::{Peer, spec};
use crate::session::Ended;
use crate::target::{EndReason, Node};
use engine::effect::{Gate, GateReason};
use engine::units::BlockCount;
use std::sync::Arc;

#[test]
fn an_aborted_task_is_never_answered() {
    check(
        "write 10 0+1 now=512  → submit t0 write 0+1 sum 87552
         abort 20 of=10        → take back t0
         done t0               → function 20 Complete
         abort 21 of=10        → function 21 NoSuchTask",
    );
}

#[test]
fn a_task_that_waits_for_data_is_gone_at_once() {
    check(
        "write 10 0+8              → r2t 10 0+4096 sn=0
         abort 20 of=10            → function 20 Complete
         out 10 0+4096 sn=0 last   →",
    );
}

#[test]
fn a_job_of_many_steps_stops_at_the_abort() {
    let ones = "01".repeat(512);
    check(&format!(
        "cdb 10 2e020000000000000100 data={ones}  → submit t0 write 0+1 sum 512 fua
         abort 20 of=10                           → take back t0
         done t0                                  → function 20 Complete"
    ));
}

#[test]
fn an_attention_outlives_a_command_that_never_reported_it() {
    // The command that would report the reset is aborted while its data is still to come.
    check(
        "lu-reset 20                 → function 20 Complete
         write 10 0+8 now=512 more   →
         abort 21 of=10              → function 21 Complete
         cdb 11 00                   → check 11 6/2903
         cdb 12 00                   → good 12",
    );
}

#[test]
fn functions_we_do_not_have_say_so() {
    check(
        "reassign 20      → function 20 ReassignNotSupported
         clear 21 lun=9   → function 21 NoSuchLun",
    );
}

#[test]
fn abort_task_set_is_for_one_unit() {
    check(
        "read 10 0+1         → submit t0 read 0+1
         read 11 0+1 lun=1   → submit t1 read 0+1
         abort-set 20        → take back t0
         aborted t0          → function 20 Complete
         done t1             → data-in 11 0+512 sn=0 final good",
    );
}

fn two() -> (Peer, Peer) {
    let a = Peer::logged_in();
    let mut b = Peer::new(a.node.clone());
    b.log_in(2);
    (a, b)
}

#[test]
fn a_reset_ends_the_tasks_of_all_and_all_hear_of_it() {
    let (mut a, mut b) = two();
    b.run("read 10 0+1   → submit t0 read 0+1");
    a.run("lu-reset 20   →");
    b.run("mail          → take back t0");
    a.run("mail          →");
    b.run("aborted t0    →");
    a.run(
        "mail            → function 20 Complete
         cdb 21 00       → check 21 6/2903
         cdb 22 00       → good 22",
    );
    b.run("cdb 11 00     → check 11 6/2903");
}

#[test]
fn reserve_6_ends_with_the_session() {
    let (mut a, mut b) = two();
    a.run("cdb 10 160000000000  → good 10");
    b.run(
        "cdb 10 160000000000     → conflict 10
         cdb 11 1a003f00ff00 in=255 → conflict 11 under 255
         cdb 12 170000000000     → good 12",
    );
    a.machine.handle_disconnect();
    assert!(a.machine.is_done());
    b.run("cdb 13 160000000000  → good 13");
}

/// PERSISTENT RESERVE OUT: the CDB with its list.
fn reserve_out(action: u8, kind: u8, key: u64, action_key: u64) -> String {
    let list = format!("{key:016x}{action_key:016x}{:016x}", 0);
    format!("5f{action:02x}{kind:02x}00000000001800 data={list}")
}

#[test]
fn preempt_and_abort_is_answered_when_what_it_aborts_is_over() {
    let (mut a, mut b) = two();
    a.run(&format!("cdb 10 {} → good 10", reserve_out(0, 0, 0, 1)));
    b.run(&format!("cdb 10 {} → good 10", reserve_out(0, 0, 0, 2)));
    b.run(&format!("cdb 11 {} → good 11", reserve_out(1, 5, 2, 0)));
    b.run("write 12 0+1 now=512 → submit t0 write 0+1 sum 87552");
    a.run(&format!("cdb 11 {} →", reserve_out(5, 5, 1, 2)));
    b.run("mail                → take back t0");
    a.run("mail                →");
    b.run("aborted t0          →");
    a.run(
        "mail                    → good 11
         write 12 0+1 now=512    → submit t0 write 0+1 sum 87552",
    );
    b.run(
        "cdb 13 00               → check 13 6/2a05
         write 14 0+1 now=512    → conflict 14 under 512",
    );
}

#[test]
fn a_preempt_and_abort_that_waits_may_be_aborted() {
    let (mut a, mut b) = two();
    a.run(&format!("cdb 10 {} → good 10", reserve_out(0, 0, 0, 1)));
    b.run(&format!("cdb 10 {} → good 10", reserve_out(0, 0, 0, 2)));
    b.run("read 11 0+1         → submit t0 read 0+1");
    a.run(&format!(
        "cdb 11 {}  →
         abort 20 of=11 → function 20 Complete",
        reserve_out(5, 5, 1, 2)
    ));
    b.run(
        "mail                   → take back t0
         aborted t0             →",
    );
    a.run(
        "mail                   →
         cdb 12 00              → good 12",
    );
}

#[test]
fn a_changed_mode_page_is_told_to_others() {
    let (mut a, mut b) = two();
    let control = "000000000a0a041008000000000000" // SWP and D_SENSE
        .to_owned()
        + "00";
    a.run(&format!(
        "cdb 10 151000001000 data={control}  → good 10
         write 11 0+1 now=512                → check 11 7/2702 under 512"
    ));
    b.run("cdb 10 00                         → check 10 6/2a01");
}

#[test]
fn a_new_size_is_told_to_all() {
    let (mut a, _) = two();
    let target = a.node.all().remove(0);
    target.resize(0, BlockCount(2 << 20));
    a.run(
        "mail                    →
         cdb 10 00               → check 10 6/2a09
         read 11 1048576+1       → submit t0 read 1048576+1",
    );
}

#[test]
fn a_closed_gate_ends_sessions_when_their_commands_are_answered() {
    let mut a = Peer::logged_in();
    let target = a.node.all().remove(0);
    a.run("read 10 0+1  → submit t0 read 0+1");
    target.set_gate(Gate::Closed(GateReason::StoreAway));
    a.run("mail         → take back t0");
    assert_eq!(a.machine.ended(), Some(Ended::Told(EndReason::GateClosed)));
    assert!(!a.machine.is_done());
    a.run("aborted t0   →");
    assert!(a.machine.is_done());
    assert_eq!(target.session_count(), 0);
}

#[test]
fn logout_is_answered_after_the_last_task() {
    let mut a = Peer::logged_in();
    a.run(
        "read 10 0+1  → submit t0 read 0+1
         logout 20    → take back t0
         done t0      → logout 20 0",
    );
    assert_eq!(a.machine.ended(), Some(Ended::LoggedOut));
    assert!(a.machine.is_done());
}

#[test]
fn a_gap_in_the_numbers_ends_the_session() {
    let mut a = Peer::logged_in();
    a.run("read 10 0+1 cmdsn=1 →");
    assert!(matches!(a.machine.ended(), Some(Ended::Protocol(_))));
}

#[test]
fn a_peer_that_vanishes_leaves_its_place_when_the_volume_has_answered() {
    let mut a = Peer::logged_in();
    let target = a.node.all().remove(0);
    a.run("write 10 0+1 now=512  → submit t0 write 0+1 sum 87552");
    a.machine.handle_disconnect();
    a.run("mail                  → take back t0");
    assert_eq!(target.session_count(), 1);
    a.run("done t0               →");
    assert_eq!(target.session_count(), 0);
}

#[test]
fn a_removed_target_ends_its_sessions() {
    let node = Arc::new(Node::default());
    node.add(spec()).expect("a target");
    let mut a = Peer::new(node.clone());
    a.log_in(1);
    let target = node
        .remove("iqn.2011-05.io.martlet:v")
        .expect("it was there");
    a.machine.handle_mail();
    assert!(a.machine.is_done());
    assert_eq!(target.session_count(), 0);
}

#[test]
fn a_connection_that_is_dropped_frees_its_place() {
    let mut a = Peer::logged_in();
    let target = a.node.all().remove(0);
    a.run("read 10 0+1  → submit t0 read 0+1");
    drop(a);
    assert_eq!(target.session_count(), 0);
}
