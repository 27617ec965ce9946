//! What an image is loaded from, one version read by others, and what is told of a volume that somebody holds.

use crate::harness::{Buf, Harness};
use crate::{snapshot, taken_over};
use engine::Limits;
use engine::command::{Command, Failure, Refusal, Reply, Verdict, Wish};
use engine::effect::StoreError;
use engine::ids::{Generation, StateDirId};
use engine::payload::{Part, Parts};
use engine::table::types::RootKind;
use engine::time::Duration;
use engine::units::{BlockCount, ByteCount, ChunkIndex, Extent, Geometry};
use std::rc::Rc;

/// 25 grains and a half in chunks of 4.
const GEOMETRY: Geometry = Geometry {
    block_bytes: 512,
    capacity: BlockCount(204),
    chunk_grains: 4,
    leaf_chunks: 2,
    frame_grains: 2,
};

fn limits() -> Limits {
    Limits {
        file_bytes: ByteCount(64 << 12),
        files: 8,
        uploads: 3,
        ..Limits::default()
    }
}

fn host(state_dir: u64, like: Option<&Harness>) -> Harness {
    let store = like.map_or_else(Rc::default, |host| Rc::clone(&host.store));
    Harness::host_with(store, state_dir, GEOMETRY, limits())
}

fn load(chunk: u64, grains: &[(u16, usize, u8)]) -> Wish<Buf> {
    let grains = grains.iter().map(|(grain, bytes, fill)| {
        let data = Buf::new(&vec![*fill; *bytes]);
        (*grain, Parts([Part::Data(data)].into_iter().collect()))
    });
    Wish::Load {
        chunk: ChunkIndex(chunk),
        grains: grains.collect(),
    }
}

#[test]
fn what_is_loaded_is_read_and_what_is_not_is_zeros() {
    let mut host = host(1, None);
    host.begin_birth();
    assert_eq!(host.volume.credits().loads, 3);
    let loads = [
        load(0, &[(0, 4096, 1), (3, 4096, 2)]),
        load(2, &[(1, 4096, 3)]),
        load(6, &[(0, 4096, 4), (1, 4096, 5)]),
    ];
    for wish in loads {
        assert!(matches!(host.wish(wish), Verdict::Loaded));
    }
    assert!(matches!(
        host.wish(Wish::FinishBirth { base: None }),
        Verdict::Born(_)
    ));
    let verdict = host.wish(load(1, &[(0, 4096, 1)]));
    assert!(
        matches!(verdict, Verdict::Refused(Refusal::WrongState(_))),
        "{verdict:?}"
    );
    let mut expected = vec![0; 204];
    for (grain, fill) in [(0, 1), (3, 2), (9, 3), (24, 4)] {
        expected[grain * 8..][..8].fill(fill);
    }
    // The last grain is cut at the volume's end.
    expected[200..].fill(5);
    assert_eq!(host.read(0, 204), expected);
    host.kill();
    host.open();
    assert_eq!(host.read(0, 204), expected);
}

#[test]
fn a_load_that_does_not_fit_its_chunk_is_refused() {
    let mut host = host(1, None);
    host.begin_birth();
    for (wish, fits) in [
        (load(6, &[(1, 4096, 1)]), true),
        (load(6, &[(2, 4096, 1)]), false),
        (load(7, &[(0, 4096, 1)]), false),
        (load(0, &[]), false),
        (load(0, &[(3, 4096, 1)]), true),
        (load(1, &[(4, 4096, 1)]), false),
        (load(1, &[(1, 4096, 1), (0, 4096, 1)]), false),
        (load(1, &[(1, 4096, 1), (1, 4096, 1)]), false),
        (load(1, &[(0, 4095, 1)]), false),
        (load(1, &[(0, 4096, 1), (1, 4096, 1)]), true),
    ] {
        let text = format!("{wish:?}");
        let verdict = host.wish(wish);
        assert_eq!(matches!(verdict, Verdict::Loaded), fits, "{text}");
        if !fits {
            let is_refused = matches!(verdict, Verdict::Refused(Refusal::WrongState(_)));
            assert!(is_refused, "{text}: {verdict:?}");
        }
    }
}

#[test]
fn a_load_that_the_store_does_not_take_is_sent_again() {
    let mut host = host(1, None);
    host.begin_birth();
    host.store.borrow_mut().away = Some(StoreError::Unavailable);
    let load = host.send_wish(load(0, &[(0, 4096, 1)]));
    let finish = host.send_wish(Wish::FinishBirth { base: None });
    assert_eq!(host.volume.credits().loads, 2);
    host.pass(Duration::from_secs(5));
    assert!(host.told.is_empty(), "{:?}", host.told);
    host.store.borrow_mut().away = None;
    host.pass(Duration::from_secs(1));
    assert!(matches!(host.told.get(&load), Some(Verdict::Loaded)));
    assert!(matches!(host.told.get(&finish), Some(Verdict::Born(_))));
    assert_eq!(host.read(0, 9), [1, 1, 1, 1, 1, 1, 1, 1, 0]);
}

/// A host that serves a volume with a snapshot `old` of ones, and twos since.
fn with_a_snapshot() -> Harness {
    let mut host = host(1, None);
    host.begin_birth();
    host.wish(Wish::FinishBirth { base: None });
    host.write(0, 8, 1);
    let verdict = host.wish(snapshot("old", 1));
    assert!(matches!(verdict, Verdict::Committed(_)), "{verdict:?}");
    host.write(0, 4, 2);
    let verdict = host.wish(Wish::Checkpoint);
    assert!(matches!(verdict, Verdict::Committed(_)), "{verdict:?}");
    host
}

fn open_reader(of: &Harness, state_dir: u64, snapshot: Option<&str>) -> (Harness, Verdict) {
    let mut reader = host(state_dir, Some(of));
    let snapshot = snapshot.map(String::from);
    let verdict = reader.wish(Wish::OpenReader { snapshot });
    (reader, verdict)
}

#[test]
fn a_reader_serves_the_version_that_it_was_opened_with_and_takes_no_write() {
    let mut host = with_a_snapshot();
    let (mut old, verdict) = open_reader(&host, 2, Some("old"));
    assert!(matches!(verdict, Verdict::Reading(root) if root.name.version.0 == 1));
    let (mut newest, verdict) = open_reader(&host, 3, None);
    assert!(matches!(verdict, Verdict::Reading(root) if root.name.version.0 == 2));
    host.write(0, 8, 3);
    host.wish(Wish::Checkpoint);
    assert_eq!(old.read(0, 9), [1, 1, 1, 1, 1, 1, 1, 1, 0]);
    assert_eq!(newest.read(0, 9), [2, 2, 2, 2, 1, 1, 1, 1, 0]);
    let requests = host.store.borrow().requests;
    for command in [
        old.command_write(0, 1, 9, false),
        Command::Discard([Extent::new(0, 1)].into_iter().collect()),
    ] {
        let tag = old.send(command);
        let reply = old.replies.remove(&tag);
        let is_refused = matches!(reply, Some(Reply::Failed(Failure::ReadOnly)));
        assert!(is_refused, "{reply:?}");
    }
    let verdict = old.wish(Wish::Checkpoint);
    assert!(
        matches!(verdict, Verdict::Refused(Refusal::WrongState("reader"))),
        "{verdict:?}"
    );
    old.pass(Duration::from_secs(3600));
    assert_eq!(host.store.borrow().requests, requests, "it watches nothing");
}

#[test]
fn a_reader_of_a_snapshot_that_is_not_there_is_refused() {
    let host = with_a_snapshot();
    let (_, verdict) = open_reader(&host, 2, Some("other"));
    let is_refused = matches!(verdict, Verdict::Refused(Refusal::NoSuchSnapshot));
    assert!(is_refused, "{verdict:?}");
    let nowhere = self::host(1, None);
    let (_, verdict) = open_reader(&nowhere, 2, None);
    let is_refused = matches!(verdict, Verdict::Refused(Refusal::NoSuchVolume));
    assert!(is_refused, "{verdict:?}");
}

#[test]
fn an_inspection_tells_the_holder_and_the_newest_root_and_changes_nothing() {
    let mut first = with_a_snapshot();
    let objects = first.store.borrow().objects.clone();
    let mut other = host(2, Some(&first));
    let inspect = |host: &mut Harness| match host.wish(Wish::Inspect) {
        Verdict::Inspected(inspection) => inspection,
        verdict => panic!("{verdict:?}"),
    };
    let found = inspect(&mut other);
    let (generation, holder) = found.opened.expect("it is held");
    assert_eq!(generation, Generation(1));
    assert_eq!(holder.state_dir, StateDirId(1));
    assert_eq!(holder.host, "host-1");
    let root = found.root.expect("it was born");
    assert_eq!((root.name.version.0, root.kind), (2, RootKind::Checkpoint));
    assert_eq!(found.superblock.map(|s| s.geometry), Some(GEOMETRY));
    assert_eq!(inspect(&mut first).root.map(|r| r.name), Some(root.name));
    assert_eq!(first.store.borrow().objects, objects);
    taken_over(&first, 3);
    let found = inspect(&mut other);
    assert_eq!(found.opened.map(|(g, _)| g), Some(Generation(2)));
    let nothing = inspect(&mut host(1, None));
    assert!(nothing.superblock.is_none() && nothing.opened.is_none() && nothing.root.is_none());
    // Two at once: the second is told so, and the first is answered.
    let mut third = host(4, Some(&first));
    third.hold(|_| true);
    let asked = [
        third.send_wish(Wish::Inspect),
        third.send_wish(Wish::Inspect),
    ];
    third.release();
    assert!(matches!(
        third.told.get(&asked[0]),
        Some(Verdict::Inspected(_))
    ));
    let second = third.told.get(&asked[1]);
    assert!(matches!(second, Some(Verdict::Refused(Refusal::Busy))));
}
