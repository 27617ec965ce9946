//! Parse and emit undo each other, for every PDU and for any header bytes.

use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn emit_undoes_parse(bytes in prop::collection::vec(any::<u8>(), 48)) {
        let mut array = [0; 48];
        array.copy_from_slice(&bytes);
        crate::fuzzing::parse_then_emit_is_the_identity(&Header(array));
    }
}

#[test]
fn a_scsi_command_stands_where_the_standard_says() {
    // RFC 7143 §11.3, "SCSI Command": READ(10) of 8 blocks at LBA 16 of LUN 1, in words of 4 bytes.
    #[rustfmt::skip]
    let bytes = [
        0x01, 0xc1, 0, 0,           // opcode; F, R, simple
        0, 0, 0, 0,                 // no extra headers, no data
        0, 1, 0, 0,  0, 0, 0, 0,    // LUN
        0x10, 0, 0, 1,              // ITT
        0, 0, 0x10, 0,              // expected 4096 bytes
        0, 0, 0, 5,                 // CmdSN
        0, 0, 0, 9,                 // ExpStatSN
        0x28, 0, 0, 0, 0, 16, 0, 0, 8, 0,  0, 0, 0, 0, 0, 0,
    ];
    let parsed = command::ScsiCommand::parse(&Header(bytes)).expect("a good command");
    assert_eq!(parsed.lun.index(), Some(1));
    assert_eq!(parsed.expected_bytes, 4096);
    assert_eq!((parsed.cmd_sn.0, parsed.exp_stat_sn.0), (5, 9));
    assert!(parsed.reads && !parsed.writes && parsed.is_final);
    assert_eq!(parsed.emit(0).0, bytes);
}

#[test]
fn luns_have_two_spellings() {
    let index = |raw: u64| Lun(raw).index();
    assert_eq!(index(0), Some(0));
    assert_eq!(index(0x0007_0000_0000_0000), Some(7), "peripheral");
    assert_eq!(index(0x4107_0000_0000_0000), Some(0x107), "flat");
    assert_eq!(index(0x0107_0000_0000_0000), None, "another bus");
    assert_eq!(index(0xc101_0000_0000_0000), None, "well-known");
    assert_eq!(index(0x0007_0001_0000_0000), None, "a second level");
}

#[test]
fn residuals_tell_more_from_less() {
    use command::Residual;
    assert_eq!(Residual::of(512, 512), Residual::None);
    assert_eq!(Residual::of(0, 512), Residual::Overflow(512));
    assert_eq!(Residual::of(10_000, 512), Residual::Underflow(9488));
    assert_eq!(Residual::of(0, u64::MAX), Residual::Overflow(u32::MAX));
}
