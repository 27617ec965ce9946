use super::*;
use crate::store::Content;

fn stored(n: u8) -> Arc<Stored> {
    Arc::new(Stored {
        body: Object {
            content: Content::Door,
            bytes: u64::from(n),
        },
        bytes: u64::from(n),
        etag: [n; 16],
    })
}

fn asked(timestamp: u64, only_if_absent: bool, n: u8) -> Put<Object> {
    Put {
        timestamp,
        only_if_absent,
        announced: None,
        stored: stored(n),
    }
}

fn put(swift: &mut Swift, path: &str, clock: u64, n: u8, begin: Reach, finish: Reach) -> u16 {
    let timestamp = swift.stamp(clock);
    match swift.begin_put(path, asked(timestamp, false, n), begin) {
        Ok(putting) => swift.finish_put(&putting, finish),
        Err(status) => status,
    }
}

fn swift() -> Swift {
    let mut swift = Swift::new();
    assert_eq!(swift.create_container("c", 1, EVERY_NODE), 201);
    swift
}

// A GET: the first byte of the ETag.
fn get(swift: &Swift, newest: bool, order: usize, reach: Reach) -> Result<u8, u16> {
    let read = Read {
        newest,
        ..Read::default()
    };
    swift
        .get("/c/o", &read, order, reach)
        .map(|f| f.stored.etag[0])
}

fn delete(swift: &mut Swift, path: &str, timestamp: u64, reach: Reach) -> u16 {
    match swift.begin_delete(path, timestamp, reach) {
        Ok(deleting) => swift.finish_delete(&deleting),
        Err(status) => status,
    }
}

fn row(timestamp: u64, n: Option<u8>) -> Row<Object> {
    Row {
        timestamp,
        stored: n.map(stored),
    }
}

#[test]
fn a_put_with_an_older_clock_is_accepted_and_discarded() {
    let mut swift = swift();
    assert_eq!(put(&mut swift, "/c/o", 100, 1, EVERY_NODE, EVERY_NODE), 201);
    assert_eq!(put(&mut swift, "/c/o", 50, 2, EVERY_NODE, EVERY_NODE), 202);
    assert_eq!(get(&swift, true, 0, EVERY_NODE), Ok(1));
}

#[test]
fn two_creators_can_both_pass_if_none_match() {
    let mut swift = swift();
    let (a, b) = (swift.stamp(10), swift.stamp(11));
    let first = swift
        .begin_put("/c/o", asked(a, true, 1), EVERY_NODE)
        .expect("absent");
    let second = swift
        .begin_put("/c/o", asked(b, true, 2), EVERY_NODE)
        .expect("still absent");
    assert_eq!(swift.finish_put(&second, EVERY_NODE), 201);
    assert_eq!(swift.finish_put(&first, EVERY_NODE), 201);
    assert_eq!(get(&swift, true, 0, EVERY_NODE), Ok(2));
    let third = swift.stamp(12);
    assert_eq!(
        swift
            .begin_put("/c/o", asked(third, true, 3), EVERY_NODE)
            .err(),
        Some(412)
    );
}

#[test]
fn a_put_that_lands_on_one_node_fails_and_may_show_later() {
    let mut swift = swift();
    assert_eq!(put(&mut swift, "/c/o", 1, 1, EVERY_NODE, 0b00100), 503);
    assert_eq!(get(&swift, true, 0, 0b11011), Err(404));
    assert_eq!(get(&swift, true, 0, EVERY_NODE), Ok(1));
    swift.replicate("/c/o", EVERY_NODE);
    assert_eq!(swift.copies("/c/o"), 3);
}

#[test]
fn newest_finds_a_confirmed_write_unless_two_nodes_are_missed() {
    let mut swift = swift();
    assert_eq!(put(&mut swift, "/c/o", 1, 1, EVERY_NODE, 0b00011), 201);
    for missed in 0..NODES {
        assert_eq!(get(&swift, true, 0, EVERY_NODE & !(1 << missed)), Ok(1));
    }
    // One primary that knows nothing is no verdict, two are.
    assert_eq!(get(&swift, true, 0, 0b11100), Err(503));
    let mut swift = self::swift();
    assert_eq!(put(&mut swift, "/c/o", 2, 2, 0b11001, 0b01001), 201);
    assert_eq!(get(&swift, true, 0, 0b10110), Err(404));
}

#[test]
fn a_plain_get_may_be_stale_and_newest_is_not() {
    let mut swift = swift();
    assert_eq!(put(&mut swift, "/c/o", 1, 1, EVERY_NODE, EVERY_NODE), 201);
    assert_eq!(put(&mut swift, "/c/o", 2, 2, EVERY_NODE, 0b00011), 201);
    assert_eq!(get(&swift, false, 2, EVERY_NODE), Ok(1));
    assert_eq!(get(&swift, true, 2, EVERY_NODE), Ok(2));
}

#[test]
fn a_late_delete_kills_and_a_missed_tombstone_resurrects() {
    let mut swift = swift();
    assert_eq!(put(&mut swift, "/c/o", 1, 1, EVERY_NODE, EVERY_NODE), 201);
    let t = swift.stamp(5);
    assert_eq!(delete(&mut swift, "/c/o", t, 0b00011), 204);
    assert_eq!(get(&swift, true, 0, EVERY_NODE), Err(404));
    assert_eq!(get(&swift, false, 2, EVERY_NODE), Ok(1));
    // Both tombstones are reclaimed before node 2 heard of them.
    swift.reclaim(0);
    swift.reclaim(1);
    swift.replicate("/c/o", EVERY_NODE);
    assert_eq!(get(&swift, true, 0, EVERY_NODE), Ok(1));
}

#[test]
fn a_handoff_takes_the_place_of_a_missing_primary() {
    let mut swift = swift();
    assert_eq!(put(&mut swift, "/c/o", 1, 1, 0b11001, 0b11001), 201);
    assert_eq!(get(&swift, true, 0, 0b11110), Ok(1));
    swift.replicate("/c/o", EVERY_NODE);
    assert_eq!(get(&swift, true, 0, 0b00111), Ok(1));
}

#[test]
fn a_listing_lags_replica_by_replica_and_keeps_the_newest() {
    let mut swift = swift();
    assert_eq!(put(&mut swift, "/c/o", 1, 1, EVERY_NODE, EVERY_NODE), 201);
    let all = ListAsk {
        limit: 10,
        ..ListAsk::default()
    };
    let list = |swift: &Swift, order| swift.list("c", &all, order, EVERY_NODE);
    assert_eq!(list(&swift, 0), Ok(vec![]));
    swift.update_listing("c", "o", 0, row(20, Some(7)));
    swift.update_listing("c", "o", 0, row(10, None));
    assert_eq!(list(&swift, 0), Ok(vec![("o".into(), 7, 20)]));
    assert_eq!(list(&swift, 1), Ok(vec![]));
    // Two of three replicas list nothing, so the container goes; the third shows it still.
    assert_eq!(swift.delete_container("c", 30, EVERY_NODE), 204);
    assert_eq!(list(&swift, 0), Ok(vec![("o".into(), 7, 20)]));
    assert_eq!(list(&swift, 1), Ok(vec![("o".into(), 7, 20)]));
    swift.update_listing("c", "o", 0, row(40, None));
    assert_eq!(list(&swift, 0), Ok(vec![]));
    swift.replicate_container("c");
    assert_eq!(list(&swift, 0), Err(404));
}

#[test]
fn a_row_that_two_replicas_list_keeps_the_container() {
    let mut swift = swift();
    swift.update_listing("c", "o", 0, row(20, Some(7)));
    swift.update_listing("c", "o", 1, row(20, Some(7)));
    assert_eq!(swift.delete_container("c", 30, EVERY_NODE), 409);
    assert_eq!(swift.delete_container("d", 30, EVERY_NODE), 404);
}

#[test]
fn a_lone_404_is_no_verdict_and_a_lone_tombstone_is() {
    let mut swift = swift();
    assert_eq!(get(&swift, true, 0, 0b00001), Err(503));
    assert_eq!(get(&swift, true, 0, 0b11001), Err(503));
    assert_eq!(get(&swift, true, 0, 0b00011), Err(404));
    let t = swift.stamp(5);
    assert_eq!(delete(&mut swift, "/c/o", t, EVERY_NODE), 404);
    assert_eq!(get(&swift, true, 0, 0b00001), Err(404));
}

#[test]
fn a_put_whose_sum_is_not_the_announced_one_stores_nothing() {
    let mut swift = swift();
    let timestamp = swift.stamp(3);
    let wrong = Put {
        announced: Some([9; 16]),
        ..asked(timestamp, false, 1)
    };
    let putting = swift
        .begin_put("/c/o", wrong, EVERY_NODE)
        .expect("the headers say nothing of the body");
    assert_eq!(swift.finish_put(&putting, EVERY_NODE), 422);
    assert_eq!(get(&swift, true, 0, EVERY_NODE), Err(404));
}

#[test]
fn nothing_goes_into_a_container_that_is_not_there_nor_out_of_it() {
    let mut swift = swift();
    assert_eq!(put(&mut swift, "/d/o", 1, 1, EVERY_NODE, EVERY_NODE), 404);
    let t = swift.stamp(5);
    assert_eq!(delete(&mut swift, "/d/o", t, EVERY_NODE), 404);
}

#[test]
fn two_deletes_of_one_object_may_both_have_deleted_it() {
    let mut swift = swift();
    assert_eq!(put(&mut swift, "/c/o", 1, 1, EVERY_NODE, EVERY_NODE), 201);
    let (a, b) = (swift.stamp(5), swift.stamp(6));
    let first = swift.begin_delete("/c/o", a, EVERY_NODE);
    let second = swift.begin_delete("/c/o", b, EVERY_NODE);
    for deleting in [first, second] {
        assert_eq!(swift.finish_delete(&deleting.expect("it is there")), 204);
    }
}

#[test]
fn a_newest_read_that_meets_two_old_copies_before_a_tombstone_is_a_200_of_nothing() {
    let mut swift = swift();
    assert_eq!(put(&mut swift, "/c/o", 1, 1, EVERY_NODE, EVERY_NODE), 201);
    let t = swift.stamp(5);
    // Two of three nodes miss the DELETE.
    assert_eq!(delete(&mut swift, "/c/o", t, 0b00100), 503);
    assert_eq!(get(&swift, true, 0, EVERY_NODE), Err(200));
    // Asked first, the tombstone is believed.
    assert_eq!(get(&swift, true, 2, EVERY_NODE), Err(404));
}

#[test]
fn one_old_copy_beside_one_tombstone_is_a_200_of_nothing_too() {
    let mut swift = swift();
    assert_eq!(put(&mut swift, "/c/o", 1, 1, EVERY_NODE, EVERY_NODE), 201);
    let t = swift.stamp(5);
    // The first node misses the DELETE: its tombstone is with a handoff. Then the other two are away.
    assert_eq!(delete(&mut swift, "/c/o", t, 0b11110), 204);
    assert_eq!(get(&swift, true, 0, 0b11001), Err(200));
    // Without that handoff the object is back.
    assert_eq!(get(&swift, true, 0, 0b10001), Ok(1));
}
