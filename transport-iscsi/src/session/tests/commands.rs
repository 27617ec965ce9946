//! SCSI commands on the wire: data in both directions, bursts, residuals, the window.

use super::check;

#[test]
fn a_read_is_one_data_in_with_its_status() {
    check(
        "read 10 0+8  → submit t0 read 0+8
         done t0      → data-in 10 0+4096 sn=0 final good",
    );
}

#[test]
fn data_in_keeps_to_segments_and_bursts() {
    check(
        "read 10 0+33  → submit t0 read 0+33
         done t0       → data-in 10 0+4096 sn=0; data-in 10 4096+4096 sn=1 final; data-in 10 8192+4096 sn=2; data-in 10 12288+4096 sn=3 final; data-in 10 16384+512 sn=4 final good",
    );
}

#[test]
fn replies_come_in_any_order() {
    check(
        "read 10 0+1  → submit t0 read 0+1
         read 11 8+1  → submit t1 read 8+1
         done t1      → data-in 11 0+512 sn=0 final good
         done t0      → data-in 10 0+512 sn=0 final good",
    );
}

#[test]
fn immediate_data_needs_no_r2t() {
    check(
        "write 10 5+2 now=1024 → submit t0 write 5+2 sum 175104
         done t0               → good 10",
    );
}

#[test]
fn the_rest_is_asked_for_in_bursts() {
    check(
        "write 10 0+18 now=1024      → r2t 10 1024+8192 sn=0
         out 10 1024+4096 sn=0       →
         out 10 5120+4096 sn=1 last  → submit t0 write 0+18 sum 1854464",
    );
}

#[test]
fn bursts_follow_each_other() {
    check(
        "write 10 0+17 now=512       → r2t 10 512+8192 sn=0
         out 10 512+4096 sn=0        →
         out 10 4608+4096 sn=1 last  → submit t0 write 0+17 sum 1766912
         done t0                     → good 10
         write 11 0+20               → r2t 11 0+8192 sn=0
         out 11 0+8192 sn=0 last     → r2t 11 8192+2048 sn=1
         out 11 8192+2048 sn=0 last  → submit t1 write 0+20 sum 2099200
         busy t1                     → busy 11",
    );
}

#[test]
fn unsolicited_data_comes_before_the_r2t() {
    check(
        "write 10 0+8 now=512 more              →
         out 10 512+1536 sn=0 unsolicited last  → r2t 10 2048+2048 sn=0
         out 10 2048+2048 sn=0 last             → submit t0 write 0+8 sum 822272
         done t0                                → good 10",
    );
}

#[test]
fn wrong_data_numbers_fail_the_task_once() {
    for bad in [
        "out 10 0+512 sn=27 last",
        "out 10 512+512 sn=0 last",
        "out 10 0+512 sn=0 last", // shorter than the burst
        "out 10 0+4096 sn=0",     // the whole burst, and not the last
        "out 10 0+4608 sn=0 last",
    ] {
        check(&format!(
            "write 10 0+8                → r2t 10 0+4096 sn=0
             {bad}                       → check 10 b/4b00
             out 10 0+4096 sn=0 last     →
             nop 11                      → nop-in 11"
        ));
    }
}

#[test]
fn more_immediate_data_than_agreed_is_rejected() {
    check("write 10 0+8 now=2049 imm → reject 04");
}

#[test]
fn residuals_of_reads() {
    check(
        "read 10 0+1 edtl=0      → submit t0 read 0+1
         done t0                 → good 10 over 512
         read 11 0+1 edtl=10000  → submit t1 read 0+1
         done t1                 → data-in 11 0+512 sn=0 final good under 9488
         read 12 0+1 edtl=200    → submit t2 read 0+1
         done t2                 → data-in 12 0+200 sn=0 final good over 312",
    );
}

#[test]
fn residuals_of_writes() {
    check(
        "write 10 0+2 edtl=512 now=512  → submit t0 write 0+1 sum 87552
         done t0                        → good 10 over 512
         write 11 0+1 edtl=200 now=200  → check 11 5/0e03 over 312
         write 12 0+1 edtl=0            → good 12 over 512
         write 13 0+1 edtl=1024 now=1024 → submit t1 write 0+1 sum 87552
         done t1                        → good 13 under 512",
    );
}

#[test]
fn a_refused_command_with_data_on_its_way_is_answered_after_it() {
    check(
        "write 10 1048576+1 now=512           → check 10 5/2100 under 512
         write 11 1048576+4 more              →
         out 11 0+2048 sn=0 unsolicited last  → check 11 5/2100 under 2048",
    );
}

#[test]
fn numbers_outside_of_the_window_are_ignored() {
    check(
        "read 10 0+1 cmdsn=4    →
         read 11 0+1 cmdsn=-1   →
         read 12 0+1            → submit t0 read 0+1
         done t0                → data-in 12 0+512 sn=0 final good",
    );
}

#[test]
fn a_full_window_opens_with_each_answer() {
    check(
        "read 10 0+1  → submit t0 read 0+1
         read 11 0+1  → submit t1 read 0+1
         read 12 0+1  → submit t2 read 0+1
         read 13 0+1  → submit t3 read 0+1
         read 14 0+1 cmdsn=0 →
         done t2      → data-in 12 0+512 sn=0 final good
         read 15 0+1  → submit t4 read 0+1",
    );
}

#[test]
fn commands_beyond_the_budget_wait_in_line() {
    check(
        "read 10 0+2048     → submit t0 read 0+2048
         read 11 0+1        →
         read 12 0+1        →
         busy t0            → submit t1 read 0+1; submit t2 read 0+1; busy 10 under 1048576",
    );
}

#[test]
fn an_ordered_task_waits_and_makes_wait() {
    check(
        "read 10 0+1          → submit t0 read 0+1
         read 11 1+1 ordered  →
         read 12 2+1          →
         read 13 3+1 head     → submit t1 read 3+1
         done t0              → data-in 10 0+512 sn=0 final good
         done t1              → submit t2 read 1+1; data-in 13 0+512 sn=0 final good
         done t2              → submit t3 read 2+1; data-in 11 0+512 sn=0 final good",
    );
}

#[test]
fn volumes_failures_have_their_status() {
    check(
        "read 10 0+8    → submit t0 read 0+8
         busy t0        → busy 10 under 4096
         read 11 0+8    → submit t1 read 0+8
         damaged t1     → check 11 3/1100 under 4096
         read 12 0+8    → submit t2 read 0+8
         aborted t2     → task-aborted 12 under 4096",
    );
}

#[test]
fn a_snapshot_unit_takes_no_writes() {
    check(
        "write 10 0+1 now=512 lun=1  → check 10 7/2700 under 512
         read 11 0+1 lun=1           → submit t0 read 0+1",
    );
}

#[test]
fn absent_units_answer_as_the_standard_says() {
    check(
        "cdb 10 00 lun=9                           → check 10 5/2500
         cdb 11 120000002400 in=36 lun=9           → data-in 11 0+36 sn=0 final good
         cdb 12 a00000000000000000100000 in=16 lun=9 → data-in 12 0+16 sn=0 final good",
    );
}

#[test]
fn compare_and_write_needs_both_halves() {
    // Twice the block: expect, then write.
    let cdb = "89000000000000000009000000010000";
    check(&format!(
        "cdb 10 {cdb} out=1024        → r2t 10 0+1024 sn=0
         out 10 0+1024 sn=0 last      → submit t0 swap 9+1 104960 104960
         miscompare t0                → check 10 e/1d00
         cdb 11 {cdb} out=512         → check 11 5/2400 under 512"
    ));
}

#[test]
fn unmap_joins_what_overlaps_and_skips_what_is_empty() {
    let cdb = "42000000000000003800";
    let list = "0036003000000000\
                00000000000000640000000a00000000\
                00000000000000690000001000000000\
                00000000000000020000000000000000";
    check(&format!(
        "cdb 10 {cdb} data={list}     → submit t0 discard 100+21
         done t0                      → good 10"
    ));
}

#[test]
fn write_same_states_zeros_and_writes_patterns() {
    let zeros = "00".repeat(512);
    let ones = "01".repeat(512);
    check(&format!(
        "cdb 10 41000000000500000300 data={zeros}  → submit t0 zeros 5+3
         cdb 11 41080000000500000300 data={zeros}  → submit t1 discard 5+3
         cdb 12 41000000000500000300 data={ones}   → submit t2 write 5+3 sum 1536
         done t2                                   → good 12"
    ));
}

#[test]
fn or_write_swaps_until_nobody_interferes() {
    let cdb = "8b000000000000000000000000010000";
    let ones = "01".repeat(512);
    check(&format!(
        "cdb 10 {cdb} data={ones}   → submit t0 read 0+1
         done t0                    → submit t1 swap 0+1 0 512
         miscompare t1              → submit t2 read 0+1
         done t2                    → submit t3 swap 0+1 0 512
         done t3                    → good 10"
    ));
}

#[test]
fn write_and_verify_reads_back() {
    let ones = "01".repeat(512);
    check(&format!(
        "cdb 10 2e020000000000000100 data={ones}  → submit t0 write 0+1 sum 512 fua
         done t0                                  → submit t1 read 0+1
         done t1                                  → check 10 e/1d00"
    ));
}

#[test]
fn a_forced_read_is_flushed_first() {
    check(
        "cdb 10 28080000000000000100 in=512 → submit t0 flush
         done t0                            → submit t1 read 0+1
         done t1                            → data-in 10 0+512 sn=0 final good",
    );
}

#[test]
fn pings_are_echoed_and_one_without_tag_is_not() {
    check(
        "nop 10 data=hello       → nop-in 10 hello
         nop 11 imm data=you     → nop-in 11 you
         nop 0 imm unanswered    →
         nop 12                  → nop-in 12",
    );
}

#[test]
fn a_task_tag_in_use_is_rejected() {
    check(
        "read 10 0+1      → submit t0 read 0+1
         read 10 0+1 imm  → reject 07
         done t0          → data-in 10 0+512 sn=0 final good",
    );
}

/// A list of one CSCD descriptor, ours by its NAA designator, and one segment.
fn copy_list(naa: &str, index: u16, blocks: u16, from: u64, to: u64) -> String {
    let target = format!("e4000000010300 08{naa}{}00000200", "00".repeat(12)).replace(' ', "");
    let segment = format!(
        "02000018{:04x}{index:04x}0000{blocks:04x}{from:016x}{to:016x}",
        0
    );
    format!("0700002000000000{:08x}00000000{target}{segment}", 28)
}

#[test]
fn an_extended_copy_reads_and_writes_part_by_part() {
    let mut peer = super::Peer::logged_in();
    let naa = peer.naa();
    let list = copy_list(&naa, 0, 3000, 0, 5000);
    let cdb = "830000000000000000000000004c0000";
    peer.run(&format!(
        "cdb 9 84000700000000000000000000100000 in=16 → check 9 5/2400 under 16
         cdb 10 {cdb} data={list}   → submit t0 read 0+2048
         done t0                    → submit t1 write 5000+2048 sum 0
         done t1                    → submit t2 read 2048+952
         done t2                    → submit t3 write 7048+952 sum 0
         done t3                    → good 10
         cdb 11 84000700000000000000000000100000 in=16 → data-in 11 0+12 sn=0 final good under 4"
    ));
    for (bad, code) in [
        (copy_list(&naa, 1, 1, 0, 1), "a/0804"),
        (copy_list(&naa, 0, 1, 0, 1 << 20), "a/0000"),
        (copy_list("3000000000000000", 0, 1, 0, 1), "a/0d02"),
        (
            copy_list(&naa, 0, 1, 0, 1).replace("02000018", "03000018"),
            "5/2609",
        ),
        (
            copy_list(&naa, 0, 1, 0, 1).replacen("e4", "e0", 1),
            "5/2607",
        ),
    ] {
        let mut peer = super::Peer::logged_in();
        peer.run(&format!("cdb 10 {cdb} data={bad} → check 10 {code}"));
    }
}
