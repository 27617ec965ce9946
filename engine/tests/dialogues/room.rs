//! Room in the journal and in memory: what is taken, what waits, and what that sets off.

use crate::harness::Harness;
use crate::{is_append, is_sync};
use engine::Limits;
use engine::command::{Command, Reply, Wish};
use engine::effect::StoreError;
use engine::time::Duration;
use engine::units::{ByteCount, Extent};

/// Files of 15 pages for records, and one for the index; two of the four are the reserve.
fn small() -> Limits {
    Limits {
        file_bytes: ByteCount(16 << 12),
        files: 4,
        ..Limits::default()
    }
}

fn answered(host: &Harness, tags: &[u64]) -> usize {
    let good = |tag: &&u64| matches!(host.replies.get(tag), Some(Reply::Done { .. }));
    tags.iter().filter(good).count()
}

#[test]
fn guests_fill_all_files_but_two_to_their_last_page() {
    for blocks in [0, 1, 2, 4] {
        let mut host = Harness::born_with(4096, 64, small());
        host.store.borrow_mut().away = Some(StoreError::Unavailable);
        let tags: Vec<u64> = (0..40)
            .map(|n| match blocks {
                0 => host.send(Command::Discard([Extent::new(n, 1)].into_iter().collect())),
                _ => host.send_write(n, blocks, 1),
            })
            .collect();
        // A record has a page for its head, and lies in one file.
        let records = 2 * (15 / (1 + blocks as usize));
        assert_eq!(answered(&host, &tags), records, "{blocks} blocks");
        assert_eq!(host.volume.status().files, (2, 4));
        host.pass(Duration::from_secs(13));
        for tag in &tags[records..] {
            assert!(matches!(host.replies.get(tag), Some(Reply::Busy)));
        }
        // Attributes may use what guests may not.
        let put = host.send(Command::PutAttribute {
            key: "k".into(),
            value: None,
        });
        host.store.borrow_mut().away = None;
        host.pass(Duration::from_secs(30));
        let late = host.send_write(0, 1, 2);
        assert_eq!(answered(&host, &[put, late]), 2, "{blocks} blocks");
    }
}

/// A volume that may keep eight blocks in memory that are not synced.
fn keeping_eight() -> Harness {
    let limits = Limits {
        unsynced_bytes: ByteCount(8 * 4096),
        file_bytes: ByteCount(64 << 12),
        files: 8,
        ..Limits::default()
    };
    Harness::born_with(4096, 64, limits)
}

#[test]
fn half_of_what_may_be_kept_in_memory_orders_a_sync_and_all_of_it_waits_for_one() {
    let mut host = keeping_eight();
    host.hold(is_sync);
    let mut tags = Vec::new();
    for n in 0..12 {
        tags.push(host.send_write(n, 1, 1));
        assert_eq!(host.open.iter().any(is_sync), n >= 3, "{n}");
        assert_eq!(answered(&host, &tags), tags.len().min(8), "{n}");
    }
    assert_eq!(host.volume.credits().bytes.0, (64 << 20) - 12 * 4096);
    host.release();
    assert_eq!(answered(&host, &tags), 12);
    host.flush();
    assert_eq!(host.volume.credits().bytes.0, 64 << 20);
}

#[test]
fn what_is_under_way_counts_as_kept() {
    let mut host = keeping_eight();
    host.hold(is_append);
    let tags: Vec<u64> = (0..12).map(|n| host.send_write(n, 1, 1)).collect();
    assert_eq!(host.open.iter().filter(|e| is_append(e)).count(), 8);
    host.release();
    assert_eq!(answered(&host, &tags), 12);
    host.wish(Wish::Checkpoint);
    host.kill();
    host.open();
    assert_eq!(host.read(0, 13)[11..], [1, 0]);
}
