use super::*;
use crate::ids::{AttachId, VolumeId};
use crate::time::Duration;
use crate::units::ChunkIndex;

const FRAME_BYTES: u64 = 4224;

fn name(serial: u32) -> DataName {
    DataName {
        version: Version(1),
        first: ChunkIndex(0),
        last: ChunkIndex(9),
        attach: AttachId::default(),
        serial,
    }
}

fn container() -> Container {
    Container::new("disk", VolumeId([1; 16]))
}

/// A frame of one grain: of an object, of a chunk, by its number in both.
fn frame(serial: u32, chunk: u64, number: u32) -> FramePart {
    let start = u64::from(number) * FRAME_BYTES;
    FramePart {
        object: ObjectRef {
            container: container(),
            name: name(serial),
        },
        bytes: start..start + FRAME_BYTES,
        expect: FrameExpect {
            chunk: ChunkIndex(chunk),
            frame: number,
            grains: [GrainIndex(u64::from(number))].into_iter().collect(),
        },
        slot: 0,
        skip: 0,
    }
}

/// Ids and frames of all fetches that may be sent now.
fn sent(hydrate: &mut Hydrate, max: u32) -> Vec<(u64, Vec<u32>)> {
    let mut out = Vec::new();
    while let Some((id, fetch)) = hydrate.next_to_send(max) {
        assert_eq!(fetch.bytes.start, u64::from(fetch.frames[0].offset));
        let bytes = fetch.bytes.end - fetch.bytes.start;
        assert_eq!(bytes, fetch.frames.len() as u64 * FRAME_BYTES);
        let frames = fetch.frames.iter().map(|frame| frame.expect.frame);
        out.push((id, frames.collect()));
    }
    out
}

fn want(hydrate: &mut Hydrate, part: &FramePart) -> bool {
    hydrate.want(part, Version(1), None)
}

fn frames(hydrate: &mut Hydrate) -> Vec<Vec<u32>> {
    (sent(hydrate, 100).into_iter())
        .map(|(_, frames)| frames)
        .collect()
}

#[test]
fn frames_that_follow_each_other_ride_in_one_fetch_of_at_most_16() {
    let mut hydrate = Hydrate::default();
    for number in 0..18 {
        assert!(want(&mut hydrate, &frame(1, 0, number)));
    }
    let expected: [Vec<u32>; 2] = [(0..16).collect(), (16..18).collect()];
    assert_eq!(frames(&mut hydrate), expected);
}

#[test]
fn what_does_not_follow_gets_a_fetch_of_its_own() {
    let mut hydrate = Hydrate::default();
    want(&mut hydrate, &frame(1, 0, 3));
    // A gap, another chunk, another object, and one before.
    want(&mut hydrate, &frame(1, 0, 5));
    want(&mut hydrate, &frame(1, 1, 6));
    want(&mut hydrate, &frame(2, 1, 7));
    want(&mut hydrate, &frame(2, 1, 6));
    // The bytes follow and the number does not: it is of another section.
    let mut other = frame(2, 1, 7);
    other.bytes = 8 * FRAME_BYTES..9 * FRAME_BYTES;
    want(&mut hydrate, &other);
    assert_eq!(frames(&mut hydrate), [[3], [5], [6], [7], [6], [7]]);
}

#[test]
fn a_fetch_that_was_sent_takes_no_more_frames_and_is_joined_for_its_own() {
    let mut hydrate = Hydrate::default();
    assert!(want(&mut hydrate, &frame(1, 0, 0)));
    assert_eq!(sent(&mut hydrate, 1), [(0, [0].into())]);
    assert!(want(&mut hydrate, &frame(1, 0, 1)));
    assert!(!want(&mut hydrate, &frame(1, 0, 0)));
    assert!(!want(&mut hydrate, &frame(1, 0, 1)));
    assert_eq!(sent(&mut hydrate, 1), [], "one is under way");
    assert!(hydrate.answered(0).is_some());
    assert!(hydrate.answered(0).is_none());
    assert_eq!(sent(&mut hydrate, 1), [(1, [1].into())]);
    assert!(want(&mut hydrate, &frame(1, 0, 0)), "it was answered");
}

#[test]
fn guests_go_first_and_keep_half_of_the_places() {
    let mut hydrate = Hydrate::default();
    // Each of another object: none rides with another.
    for serial in 1..=6 {
        hydrate.want_behind(&frame(serial, 0, 0), Version(1));
    }
    hydrate.want_behind(&frame(1, 0, 0), Version(1));
    assert_eq!(hydrate.behind(), 6);
    assert_eq!(sent(&mut hydrate, 5).len(), 3, "the places under half");
    for serial in 7..=10 {
        want(&mut hydrate, &frame(serial, 0, 0));
    }
    let ids: Vec<u64> = (sent(&mut hydrate, 5).iter()).map(|(id, _)| *id).collect();
    assert_eq!(ids, [6, 7]);
    for id in ids {
        hydrate.answered(id);
    }
    let ids: Vec<u64> = (sent(&mut hydrate, 5).iter()).map(|(id, _)| *id).collect();
    assert_eq!(ids, [8, 9], "before those that nobody waits for");
    for id in [0, 8, 9] {
        hydrate.answered(id);
    }
    assert_eq!(hydrate.behind(), 5);
    assert_eq!(sent(&mut hydrate, 5).len(), 1);
}

#[test]
fn what_a_guest_wants_overtakes_those_that_nobody_waits_for() {
    let mut hydrate = Hydrate::default();
    for serial in 1..=3 {
        hydrate.want_behind(&frame(serial, 0, 0), Version(1));
    }
    assert!(!want(&mut hydrate, &frame(2, 0, 0)), "it is in line");
    assert!(!want(&mut hydrate, &frame(2, 0, 0)));
    assert_eq!(hydrate.behind(), 2);
    let ids: Vec<u64> = (sent(&mut hydrate, 100).iter())
        .map(|(id, _)| *id)
        .collect();
    assert_eq!(ids, [1, 0, 2]);
    // One that was sent is not sent again.
    assert!(!want(&mut hydrate, &frame(3, 0, 0)));
    assert_eq!(hydrate.behind(), 1);
    assert_eq!(sent(&mut hydrate, 100), []);
    for id in [0, 1, 2] {
        hydrate.answered(id);
    }
    assert_eq!(hydrate.behind(), 0);
}

#[test]
fn a_fetch_that_failed_goes_again_when_it_is_due_or_the_store_is_back() {
    let (mut hydrate, t) = (Hydrate::default(), Instant(0) + Duration::from_secs(9));
    want(&mut hydrate, &frame(1, 0, 0));
    want(&mut hydrate, &frame(2, 0, 0));
    assert_eq!(sent(&mut hydrate, 100).len(), 2);
    for (id, later) in [(0, 1), (1, 2)] {
        let fetch = hydrate.answered(id).expect("it was sent");
        assert_eq!(fetch.attempts, 1);
        hydrate.again(id, fetch, t + Duration::from_secs(later));
    }
    assert!(!want(&mut hydrate, &frame(1, 0, 0)), "it waits its time");
    assert!(want(&mut hydrate, &frame(1, 0, 1)), "and takes no more");
    assert_eq!(sent(&mut hydrate, 100), [(2, [1].into())]);
    assert_eq!(hydrate.next_retry(), Some(t + Duration::from_secs(1)));
    hydrate.due(t);
    assert_eq!(sent(&mut hydrate, 100), []);
    hydrate.due(t + Duration::from_secs(1));
    assert_eq!(sent(&mut hydrate, 100), [(0, [0].into())]);
    assert_eq!(hydrate.next_retry(), Some(t + Duration::from_secs(2)));
    assert_eq!(hydrate.answered(0).map(|fetch| fetch.attempts), Some(2));
    hydrate.hurry();
    assert_eq!(sent(&mut hydrate, 100), [(1, [0].into())]);
    assert_eq!(hydrate.next_retry(), None);
    // The outage is over: it counts anew.
    assert_eq!(hydrate.answered(1).map(|fetch| fetch.attempts), Some(1));
}

#[test]
fn an_object_is_read_from_while_one_of_its_frames_is_wanted() {
    let mut hydrate = Hydrate::default();
    let reads = |hydrate: &Hydrate, serial| hydrate.reads_from(&container(), &name(serial));
    want(&mut hydrate, &frame(2, 0, 7));
    for (serial, is_read) in [(1, false), (2, true), (3, false)] {
        assert_eq!(reads(&hydrate, serial), is_read, "{serial}");
    }
    let other = Container::new("disk", VolumeId([2; 16]));
    assert!(!hydrate.reads_from(&other, &name(2)));
    let below = Container::new("disc", VolumeId([1; 16]));
    assert!(!hydrate.reads_from(&below, &name(2)));
    sent(&mut hydrate, 1);
    assert!(reads(&hydrate, 2), "it is under way");
    hydrate.answered(0);
    assert!(!reads(&hydrate, 2));
}

/// What is fetched ahead of reads of 8 blocks each, one behind the other, of a volume of 200 blocks.
#[test]
fn a_window_ahead_of_a_stream_doubles_up_to_the_most_and_ends_at_the_capacity() {
    let mut hydrate = Hydrate::default();
    let mut ahead = Vec::new();
    for start in (0..200).step_by(8) {
        if let Some(extent) = hydrate.read_ahead(Extent::new(start, 8), 200, 64) {
            ahead.push((start, extent.start.0, extent.end().0));
        }
    }
    let expected = [
        (8, 16, 32),
        (16, 32, 56),
        (24, 56, 96),
        (56, 96, 128),
        (88, 128, 160),
        (120, 160, 192),
        (128, 192, 200),
    ];
    assert_eq!(ahead, expected);
}

#[test]
fn four_streams_are_followed_and_a_fifth_takes_the_place_of_the_oldest() {
    let mut hydrate = Hydrate::default();
    let mut read = |start| hydrate.read_ahead(Extent::new(start, 8), 10_000, 64);
    for stream in 0..4 {
        assert_eq!(read(stream * 1000), None);
    }
    for stream in 0..4 {
        let start = stream * 1000;
        assert_eq!(read(start + 8), Some(Extent::new(start + 16, 16)));
    }
    // The first goes on, so the second is the oldest.
    assert_eq!(read(16), Some(Extent::new(32, 24)));
    assert_eq!(read(9000), None);
    assert_eq!(read(1016), None);
    assert_eq!(read(24), Some(Extent::new(56, 40)));
    assert_eq!(read(9008), Some(Extent::new(9016, 16)));
}
