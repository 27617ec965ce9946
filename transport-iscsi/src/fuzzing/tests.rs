//! The corpus, replayed; and the bodies on generated input, so that they run on every machine.

use super::*;
use proptest::prelude::*;
use std::path::Path;

/// Runs a body on every file of its corpus, and tells how many there were.
#[track_caller]
fn replay(name: &str, body: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(name);
    let mut count = 0;
    for entry in std::fs::read_dir(&corpus).expect("a corpus") {
        let path = entry.expect("an entry").path();
        body(&std::fs::read(&path).expect("a file"));
        count += 1;
    }
    assert!(count > 0, "an empty corpus");
}

#[test]
fn the_corpus_of_pdu_holds() {
    replay("pdu", pdu);
}

#[test]
fn the_corpus_of_login_holds() {
    replay("login", login);
}

#[test]
fn the_corpus_of_keys_holds() {
    replay("keys", keys);
}

#[test]
fn the_corpus_of_cdb_holds() {
    replay("cdb", cdb);
}

#[test]
fn the_corpus_of_session_holds() {
    replay("session", session);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_session(data in prop::collection::vec(any::<u8>(), 0..4000)) {
        session(&data);
    }

    #[test]
    fn any_bytes_are_a_cdb(data in prop::collection::vec(any::<u8>(), 0..600), row in 0..crate::scsi::cdb::ROWS.len()) {
        let mut data = data;
        if let (Some(byte), Some(row)) = (data.get_mut(9), crate::scsi::cdb::ROWS.get(row)) {
            *byte = row.opcode;
        }
        cdb(&data);
    }

    #[test]
    fn any_bytes_are_logins(data in prop::collection::vec(any::<u8>(), 0..600)) {
        login(&data);
    }

    #[test]
    fn any_bytes_are_a_stream(data in prop::collection::vec(any::<u8>(), 0..600)) {
        pdu(&data);
    }

    #[test]
    fn any_text_is_keys(text in "((HeaderDigest|MaxBurstLength|FirstBurstLength|InitialR2T|X-a|MaxOutstandingR2T)=(None|CRC32C|[0-9]{1,9}|Yes|No|0x[0-9a-f]{1,8})\0){0,9}") {
        keys(text.as_bytes());
    }
}
