//! Guests at the door: what is refused, what is answered BUSY and for how long, and when their sessions end.

use crate::harness::{Buf, Harness, sum};
use crate::{is_frame_get, without_cache};
use engine::command::{Command, Failure, Reply, Wish};
use engine::effect::{Effect, FrameGot, Gate, GateReason, Outcome, StoreError};
use engine::ids::Tag;
use engine::sum::Sums;
use engine::time::Duration;
use engine::units::{ByteCount, Extent};

/// Bytes for so many blocks, and the sums of so many pieces.
fn bytes(blocks: usize, pieces: usize) -> (Buf, Sums) {
    let data = Buf::new(&vec![1; blocks * 512]);
    (data, (0..pieces).map(|_| sum(&[1; 4096])).collect())
}

fn write(start: u64, count: u64, blocks: usize, pieces: usize) -> Command<Buf> {
    let (data, sums) = bytes(blocks, pieces);
    Command::Write {
        at: Extent::new(start, count),
        data,
        sums,
        fua: false,
    }
}

fn compare(start: u64, count: u64, blocks: [usize; 2], pieces: usize) -> Command<Buf> {
    let (data, sums) = bytes(blocks[1], pieces);
    Command::CompareAndWrite {
        at: Extent::new(start, count),
        expect: bytes(blocks[0], 0).0,
        data,
        sums,
        fua: false,
    }
}

fn discard(extents: &[(u64, u64)]) -> Command<Buf> {
    let extents = extents.iter().map(|(at, count)| Extent::new(*at, *count));
    Command::Discard(extents.collect())
}

fn attribute(key: usize, value: Option<usize>) -> Command<Buf> {
    Command::PutAttribute {
        key: "k".repeat(key),
        value: value.map(|bytes| vec![1; bytes]),
    }
}

const RANGE: Option<Failure> = Some(Failure::OutOfRange);
const INVALID: Option<Failure> = Some(Failure::Invalid);

#[test]
fn what_breaks_a_bound_is_refused_and_what_meets_it_is_done() {
    let mut host = Harness::born(512, 100);
    let read = |start, count| Command::Read(Extent::new(start, count));
    let zeroes = |start, count| Command::WriteZeroes {
        at: Extent::new(start, count),
        fua: false,
    };
    let many = |count| discard(&(0..count).map(|at| (at, 1)).collect::<Vec<_>>());
    let cases: Vec<(Command<Buf>, Option<Failure>)> = vec![
        (read(0, 100), None),
        (read(99, 1), None),
        (read(0, 101), RANGE),
        (read(100, 1), RANGE),
        (read(5, 0), RANGE),
        (read(u64::MAX, 2), RANGE),
        (write(8, 8, 8, 1), None),
        (write(4, 8, 8, 2), None),
        (write(96, 4, 4, 1), None),
        (write(96, 8, 8, 1), RANGE),
        (write(8, 0, 0, 0), RANGE),
        (write(8, 8, 7, 1), INVALID),
        (write(8, 8, 8, 2), INVALID),
        (write(4, 8, 8, 1), INVALID),
        (zeroes(0, 100), None),
        (zeroes(1, 100), RANGE),
        (zeroes(1, 0), RANGE),
        (discard(&[(0, 1), (99, 1)]), None),
        (discard(&[(0, 1), (99, 2)]), RANGE),
        (discard(&[(0, 0)]), RANGE),
        (discard(&[]), INVALID),
        (many(64), None),
        (many(65), INVALID),
        (compare(8, 8, [8, 8], 1), None),
        (compare(96, 8, [8, 8], 1), RANGE),
        (compare(8, 8, [7, 8], 1), INVALID),
        (compare(8, 8, [8, 7], 1), INVALID),
        (compare(8, 8, [8, 8], 2), INVALID),
        (attribute(1, Some(0)), None),
        (attribute(64, Some(1024)), None),
        (attribute(64, None), None),
        (attribute(0, None), INVALID),
        (attribute(65, None), INVALID),
        (attribute(1, Some(1025)), INVALID),
    ];
    for (command, expected) in cases {
        let text = format!("{command:?}");
        let tag = host.send(command);
        let refused = match host.replies.remove(&tag) {
            Some(Reply::Failed(failure)) => Some(failure),
            Some(Reply::Read(_) | Reply::Done { .. } | Reply::Miscompare { .. }) => None,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(refused, expected, "{text}");
    }
}

#[test]
fn a_compare_and_write_of_more_than_a_record_is_refused() {
    // A file of 16 pages of which the last is reserved, and one for the head: 14 pages of data.
    let limits = engine::Limits {
        file_bytes: ByteCount(16 << 12),
        files: 8,
        ..engine::Limits::default()
    };
    let mut host = Harness::born_with(512, 1000, limits);
    for (pages, expected) in [(14, None), (15, INVALID)] {
        let tag = host.send(compare(
            0,
            pages * 8,
            [pages as usize * 8; 2],
            pages as usize,
        ));
        let reply = host.replies.remove(&tag);
        let refused = match reply {
            Some(Reply::Failed(failure)) => Some(failure),
            _ => None,
        };
        assert_eq!(refused, expected, "{pages} pages: {reply:?}");
    }
}

/// A host whose blocks are in the store only.
fn without_content() -> Harness {
    let mut host = Harness::born_with(4096, 64, without_cache());
    host.write(0, 8, 1);
    host.wish(Wish::Checkpoint);
    host.wish(Wish::Sessions(1));
    host
}

/// The store goes away under reads that need it, and comes back.
#[track_caller]
fn sessions_end_after_30_seconds_of_busy(mut host: Harness) {
    let second = Duration::from_secs(1);
    host.store.borrow_mut().away = Some(StoreError::Unavailable);
    let began = host.now;
    let mut reads = Vec::new();
    let mut closed_at = None;
    for _ in 0..60 {
        reads.push(host.send(Command::Read(Extent::new(0, 1))));
        host.pass(second);
        if host.gates.last() != Some(&Gate::Open) {
            closed_at.get_or_insert_with(|| host.now.since(began).as_secs());
        }
        assert!(host.volume.status().store_away_since.is_some());
    }
    // The first read is BUSY after 12 s, and 30 s later one is still.
    assert_eq!(closed_at, Some(42));
    assert_eq!(
        host.gates.last(),
        Some(&Gate::Closed(GateReason::StoreAway))
    );
    for tag in reads.iter().take(48) {
        assert!(matches!(host.replies.get(tag), Some(Reply::Busy)));
    }
    host.store.borrow_mut().away = None;
    host.pass(second * 5);
    assert_eq!(host.gates.last(), Some(&Gate::Open));
    assert_eq!(host.read(0, 1), [1]);
    assert_eq!(host.volume.status().store_away_since, None);
}

#[test]
fn sessions_end_after_30_seconds_of_busy_and_come_back_with_the_store() {
    sessions_end_after_30_seconds_of_busy(without_content());
}

#[test]
fn sessions_end_though_an_attach_asks_the_store_too() {
    let mut host = without_content();
    host.kill();
    host.open();
    host.wish(Wish::Sessions(1));
    host.write(8, 1, 2);
    // The leaf is here and its frames are not.
    host.store.borrow_mut().away = Some(StoreError::Unavailable);
    host.send_wish(Wish::Checkpoint);
    assert_eq!(host.volume.status().attach, None);
    sessions_end_after_30_seconds_of_busy(host);
}

#[test]
fn busy_now_and_then_ends_no_session() {
    let mut host = without_content();
    for _ in 0..4 {
        host.store.borrow_mut().away = Some(StoreError::Unavailable);
        let read = host.send(Command::Read(Extent::new(0, 1)));
        host.pass(Duration::from_secs(14));
        assert!(matches!(host.replies.get(&read), Some(Reply::Busy)));
        host.store.borrow_mut().away = None;
        host.pass(Duration::from_secs(6));
        assert_eq!(host.gates.last(), Some(&Gate::Open));
    }
}

#[test]
fn an_answer_of_another_number_of_frames_is_none() {
    let mut host = without_content();
    host.hold(is_frame_get);
    // Two chunks, so two fetches of frames that follow each other.
    let read = host.send(Command::Read(Extent::new(0, 8)));
    let asked: Vec<Effect<Buf>> = host.open.drain(..).collect();
    assert_eq!(asked.len(), 2);
    for effect in asked {
        let Effect::Store { id, .. } = effect else {
            panic!("{effect:?}");
        };
        let got = FrameGot {
            data: Buf::new(&[9; 8192]),
            sums: smallvec::SmallVec::new(),
        };
        let now = host.now;
        host.volume.handle_done(now, id, Outcome::Frames(vec![got]));
        host.drain();
    }
    assert!(!host.replies.contains_key(&read));
    host.release();
    host.pass(Duration::from_secs(1));
    assert_eq!(host.read_reply(read), [1; 8]);
}

#[test]
fn at_rest_nothing_is_under_way_and_nothing_waits() {
    let mut host = without_content();
    let status = host.volume.status();
    assert_eq!((status.effects, status.waiting), (0, 0));
    host.hold(is_frame_get);
    let read = host.send(Command::Read(Extent::new(0, 2)));
    let status = host.volume.status();
    assert_eq!((status.effects, status.waiting), (1, 1));
    host.release();
    assert_eq!(host.read_reply(read), [1; 2]);
    let status = host.volume.status();
    assert_eq!((status.effects, status.waiting), (0, 0));
    assert_eq!(status.written, status.stored);
    assert_eq!(status.only_here, 0);
    host.write(0, 1, 2);
    assert_eq!(host.volume.status().only_here, 1);
}

#[test]
fn a_compare_that_is_taken_back_or_was_busy_leaves_nothing_behind() {
    let mut host = without_content();
    let free = host.volume.credits();
    for is_aborted in [true, false] {
        host.wish(Wish::Evict);
        host.hold(is_frame_get);
        let data = Buf::new(&[1; 4096]);
        let tag = host.send(Command::CompareAndWrite {
            at: Extent::new(0, 1),
            expect: data.clone(),
            data,
            sums: [sum(&[1; 4096])].into_iter().collect(),
            fua: false,
        });
        assert!(host.volume.credits().bytes < free.bytes);
        assert_eq!(host.volume.status().waiting, 2, "it and its read");
        if is_aborted {
            host.volume.handle_abort(host.now, Tag(tag));
            host.run();
        } else {
            host.pass(Duration::from_secs(12));
        }
        let reply = host.replies.remove(&tag);
        match is_aborted {
            true => assert!(matches!(reply, Some(Reply::Failed(Failure::Aborted)))),
            false => assert!(matches!(reply, Some(Reply::Busy)), "{reply:?}"),
        }
        // The store still has not answered.
        assert_eq!(host.volume.status().waiting, 0);
        assert_eq!(host.volume.credits(), free);
        host.release();
        assert_eq!(host.read(0, 1), [1]);
    }
}
