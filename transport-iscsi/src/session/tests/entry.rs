//! The way in: logins that work, logins that must not, discovery.

use super::peer::{Peer, credentials, spec};
use crate::chap::{self, Algorithm};
use crate::serial::{CmdSn, StatSn};
use crate::session::Ended;
use crate::target::{Lookout, Node};
use crate::wire::header::{Itt, Lun, Ttt};
use crate::wire::login::Stage;
use crate::wire::text::TextRequest;
use engine::effect::{Gate, GateReason};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const WHO: &str = "InitiatorName=iqn.x:a TargetName=iqn.2011-05.io.martlet:v";

fn node(change: impl FnOnce(&mut crate::target::TargetSpec)) -> Arc<Node> {
    let node = Arc::new(Node::default());
    let mut spec = spec();
    change(&mut spec);
    node.add(spec).expect("a target");
    node
}

/// One request in the operational stage, straight to full feature phase.
#[track_caller]
fn check(change: impl FnOnce(&mut crate::target::TargetSpec), text: &str, expected: &str) {
    let mut peer = Peer::new(node(change));
    assert_eq!(
        peer.login_request(1, 1, Some(Stage::FullFeature), text),
        expected
    );
}

#[test]
fn one_request_is_enough() {
    check(
        |_| {},
        &format!("{WHO} SessionType=Normal HeaderDigest=None"),
        "login status 0000 next FullFeature TargetPortalGroupTag=1 MaxRecvDataSegmentLength=262144 HeaderDigest=None",
    );
}

#[test]
fn refusals_have_their_status() {
    check(
        |_| {},
        "TargetName=iqn.2011-05.io.martlet:v",
        "login status 0207",
    );
    check(|_| {}, "InitiatorName=iqn.x:a", "login status 0207");
    check(
        |_| {},
        "InitiatorName=iqn.x:a TargetName=iqn.x:none",
        "login status 0203",
    );
    check(
        |s| s.initiators = vec!["iqn.x:b".to_owned()],
        WHO,
        "login status 0202",
    );
    check(
        |s| s.gate = Gate::Closed(GateReason::StoreAway),
        WHO,
        "login status 0301",
    );
    check(
        |_| {},
        &format!("{WHO} SessionType=Other"),
        "login status 0209",
    );
    check(
        |_| {},
        &format!("{WHO} InitialR2T=No InitialR2T=No"),
        "login status 0200",
    );
}

#[test]
fn more_keys_than_an_answer_holds_are_refused() {
    let keys: String = (0..700).map(|i| format!(" K{i}=1")).collect();
    check(|_| {}, &format!("{WHO}{keys}"), "login status 0200");
}

#[test]
fn a_list_asked_for_again_and_again_ends() {
    let node = Arc::new(Node::default());
    for i in 0..200 {
        let mut spec = spec();
        spec.name = format!("iqn.2011-05.io.martlet:v{i}");
        node.add(spec).expect("a target");
    }
    let mut peer = Peer::new(node);
    let text = "InitiatorName=iqn.x:a SessionType=Discovery";
    peer.login_request(1, 1, Some(Stage::FullFeature), text);
    let said = ask(&mut peer, Ttt::NONE, &"SendTargets=All ".repeat(500));
    assert_eq!(said, "reject 04");
    assert!(ask(&mut peer, Ttt::NONE, "SendTargets=All ").starts_with("text more"));
}

#[test]
fn who_owes_a_proof_cannot_skip_it() {
    let secret = |s: &mut crate::target::TargetSpec| s.credentials = Some(credentials());
    // Straight into the operational stage.
    check(secret, WHO, "login status 0201");
    // From the security stage without a word, to either stage.
    for next in [Stage::Operational, Stage::FullFeature] {
        for method in ["", "AuthMethod=None"] {
            let mut peer = Peer::new(node(secret));
            let said = peer.login_request(1, 0, Some(next), &format!("{WHO} {method}"));
            assert_eq!(said, "login status 0201");
            assert!(matches!(peer.machine.ended(), Some(Ended::LoginFailed(_))));
        }
    }
}

/// Everything up to the challenge.
fn challenged(algorithms: &str) -> (Peer, String) {
    let mut peer = Peer::new(node(|s| s.credentials = Some(credentials())));
    let said = peer.login_request(1, 0, None, &format!("{WHO} AuthMethod=CHAP,None"));
    assert_eq!(
        said,
        "login status 0000 TargetPortalGroupTag=1 AuthMethod=CHAP"
    );
    let said = peer.login_request(1, 0, None, &format!("CHAP_A={algorithms}"));
    (peer, said)
}

fn value<'a>(said: &'a str, key: &str) -> &'a str {
    said.split_whitespace()
        .find_map(|pair| pair.strip_prefix(key))
        .unwrap_or_else(|| panic!("{key} in {said}"))
}

fn proof(said: &str, algorithm: Algorithm, secret: &[u8]) -> String {
    let id = value(said, "CHAP_I=").parse().expect("an identifier");
    let challenge = chap::binary(value(said, "CHAP_C=")).expect("a challenge");
    chap::hex(&algorithm.response(id, secret, &challenge))
}

#[test]
fn chap_lets_in_who_knows_the_secret() {
    for (list, algorithm) in [
        ("5", Algorithm::Md5),
        ("6,5", Algorithm::Sha1),
        ("5,6,7", Algorithm::Sha256),
        ("5,6,7,8", Algorithm::Sha3_256),
    ] {
        let (mut peer, said) = challenged(list);
        assert_eq!(value(&said, "CHAP_A="), algorithm.number().to_string());
        let response = proof(&said, algorithm, b"a secret of joe");
        let text = format!("CHAP_N=joe CHAP_R={response}");
        let said = peer.login_request(1, 0, Some(Stage::Operational), &text);
        assert_eq!(said, "login status 0000 next Operational");
        let said = peer.login_request(1, 1, Some(Stage::FullFeature), "");
        assert!(
            said.starts_with("login status 0000 next FullFeature"),
            "{said}"
        );
    }
}

#[test]
fn chap_keeps_out_who_does_not() {
    for (name, secret) in [("joe", "another secret"), ("jim", "a secret of joe")] {
        let (mut peer, said) = challenged("5");
        let response = proof(&said, Algorithm::Md5, secret.as_bytes());
        let text = format!("CHAP_N={name} CHAP_R={response}");
        let said = peer.login_request(1, 0, Some(Stage::Operational), &text);
        assert_eq!(said, "login status 0201");
    }
    for algorithms in ["56", "", "0x5"] {
        assert_eq!(challenged(algorithms).1, "login status 0201");
    }
    // In the middle of it there is no other way out.
    let (mut peer, _) = challenged("5");
    let said = peer.login_request(1, 0, Some(Stage::FullFeature), "");
    assert_eq!(said, "login status 0000");
    let (mut peer, _) = challenged("5");
    assert_eq!(
        peer.login_request(1, 1, Some(Stage::FullFeature), ""),
        "login status 0200"
    );
}

#[test]
fn we_prove_ourselves_but_never_to_our_own_challenge() {
    let (mut peer, said) = challenged("7");
    let response = proof(&said, Algorithm::Sha256, b"a secret of joe");
    let text = format!("CHAP_N=joe CHAP_R={response} CHAP_I=9 CHAP_C=0x0102030405060708");
    let said = peer.login_request(1, 0, Some(Stage::Operational), &text);
    assert_eq!(value(&said, "CHAP_N="), "disk");
    let expected = Algorithm::Sha256.response(9, b"a secret of ours", &[1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(value(&said, "CHAP_R="), chap::hex(&expected));

    let (mut peer, said) = challenged("7");
    let response = proof(&said, Algorithm::Sha256, b"a secret of joe");
    let own = value(&said, "CHAP_C=");
    let text = format!("CHAP_N=joe CHAP_R={response} CHAP_I=9 CHAP_C={own}");
    let said = peer.login_request(1, 0, Some(Stage::Operational), &text);
    assert_eq!(said, "login status 0201");
}

#[test]
fn challenges_differ_between_connections() {
    assert_ne!(chap::draw(&[1; 32], 0), chap::draw(&[2; 32], 0));
    assert_ne!(chap::draw(&[1; 32], 0), chap::draw(&[1; 32], 1));
}

#[test]
fn a_new_login_with_the_same_name_waits_for_the_old_session_to_end() {
    let mut old = Peer::logged_in();
    old.run("write 10 0+1 now=512  → submit t0 write 0+1 sum 87552");
    let mut new = Peer::new(old.node.clone());
    assert_eq!(new.login_request(1, 1, Some(Stage::FullFeature), WHO), "");
    old.run("mail                  → take back t0");
    new.machine.handle_mail();
    assert!(new.drain().is_empty(), "its last write may still land");
    old.run("done t0               →");
    new.machine.handle_mail();
    let said = new.drain().join("");
    assert!(
        said.starts_with("login status 0000 next FullFeature"),
        "{said}"
    );
}

/// Counts the looks that it is asked for.
#[derive(Debug, Default)]
struct Lookouts(AtomicUsize);

impl Lookout for Lookouts {
    fn look(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_first_login_of_an_idle_target_waits_for_a_look() {
    let node = node(|_| {});
    let target = node.all().remove(0);
    let looks = Arc::new(Lookouts::default());
    target.set_lookout(looks.clone());
    let count = || looks.0.load(Ordering::Relaxed);
    let log_in = |isid| {
        let mut peer = Peer::new(node.clone());
        let said = peer.login_request(isid, 1, Some(Stage::FullFeature), WHO);
        (peer, said)
    };
    // Both wait for one look, and are let in when it is made.
    let (mut a, said) = log_in(1);
    assert_eq!((said.as_str(), count()), ("", 1));
    let (mut b, said) = log_in(2);
    assert_eq!((said.as_str(), count()), ("", 1));
    target.looked();
    for peer in [&mut a, &mut b] {
        peer.machine.handle_mail();
        let said = peer.drain().join("");
        assert!(said.starts_with("login status 0000"), "{said}");
    }
    // Not idle any more: nobody waits.
    let (mut c, said) = log_in(3);
    assert!(said.starts_with("login status 0000"), "{said}");
    assert_eq!(count(), 1);
    for peer in [&mut a, &mut b, &mut c] {
        peer.machine.handle_disconnect();
    }
    // Idle again; the look finds that another host has the volume.
    let (mut d, said) = log_in(4);
    assert_eq!((said.as_str(), count()), ("", 2));
    target.set_gate(Gate::Closed(GateReason::Fenced));
    target.looked();
    d.machine.handle_mail();
    let said = d.drain().join("");
    assert!(said.starts_with("login status 0301"), "{said}");
}

#[test]
fn another_isid_is_another_session() {
    let a = Peer::logged_in();
    let mut b = Peer::new(a.node.clone());
    b.log_in(2);
    assert_eq!(a.node.all()[0].session_count(), 2);
    assert_eq!(a.machine.ended(), None);
}

#[test]
fn nothing_but_logins_before_the_login() {
    let mut peer = Peer::new(node(|_| {}));
    peer.run("read 10 0+1 →");
    assert!(matches!(peer.machine.ended(), Some(Ended::Protocol(_))));
}

fn ask(peer: &mut Peer, ttt: Ttt, text: &str) -> String {
    let text: Vec<u8> = text
        .bytes()
        .map(|b| if b == b' ' { 0 } else { b })
        .collect();
    let request = TextRequest {
        is_immediate: true,
        is_final: true,
        is_partial: false,
        lun: Lun::from_index(0),
        itt: Itt(5),
        ttt,
        cmd_sn: CmdSn(peer.cmd_sn),
        exp_stat_sn: StatSn(0),
    };
    peer.send(&request.emit(text.len() as u32), &text);
    peer.drain().join("; ")
}

#[test]
fn discovery_shows_what_the_initiator_may_use() {
    let node = node(|_| {});
    let mut hidden = spec();
    hidden.name = "iqn.2011-05.io.martlet:w".to_owned();
    hidden.initiators = vec!["iqn.x:b".to_owned()];
    node.add(hidden).expect("a target");
    let mut peer = Peer::new(node);
    let said = peer.login_request(
        1,
        1,
        Some(Stage::FullFeature),
        "InitiatorName=iqn.x:a SessionType=Discovery InitialR2T=No",
    );
    assert_eq!(
        said,
        "login status 0000 next FullFeature MaxRecvDataSegmentLength=262144 InitialR2T=Irrelevant"
    );
    assert_eq!(
        ask(&mut peer, Ttt::NONE, "SendTargets=All "),
        "text final TargetName=iqn.2011-05.io.martlet:v TargetAddress=127.0.0.1:3260,1"
    );
    assert_eq!(
        ask(
            &mut peer,
            Ttt::NONE,
            "SendTargets=iqn.2011-05.io.martlet:w "
        ),
        "text final"
    );
    peer.run("read 10 0+1 imm → reject 04");
}

#[test]
fn a_normal_session_shows_only_its_own_target() {
    let mut peer = Peer::logged_in();
    assert_eq!(
        ask(&mut peer, Ttt::NONE, "SendTargets=All "),
        "text final SendTargets=Reject"
    );
    assert_eq!(
        ask(&mut peer, Ttt::NONE, "SendTargets= "),
        "text final TargetName=iqn.2011-05.io.martlet:v TargetAddress=127.0.0.1:3260,1"
    );
}

#[test]
fn a_long_list_of_targets_comes_in_parts() {
    let node = Arc::new(Node::default());
    for i in 0..40 {
        let mut spec = spec();
        spec.name = format!("iqn.2011-05.io.martlet:v{i}");
        node.add(spec).expect("a target");
    }
    let mut peer = Peer::new(node);
    let text = "InitiatorName=iqn.x:a SessionType=Discovery MaxRecvDataSegmentLength=512";
    peer.login_request(1, 1, Some(Stage::FullFeature), text);
    let mut all = String::new();
    let mut said = ask(&mut peer, Ttt::NONE, "SendTargets=All ");
    let mut parts = 0;
    while let Some(part) = said.strip_prefix("text more ") {
        all += part;
        parts += 1;
        let ttt = peer.ttt(5);
        said = ask(&mut peer, ttt, "");
    }
    all += said.strip_prefix("text final ").expect("an end");
    assert!(parts > 3);
    for i in 0..40 {
        assert!(all.contains(&format!("io.martlet:v{i}")), "{i}");
    }
}
