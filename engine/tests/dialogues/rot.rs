//! Rot in the journal and in the store: told for just the blocks that it hit, and never passed over in silence.

use crate::harness::Harness;
use engine::Wish;
use engine::command::{Command, Failure, Reply};
use engine::effect::{Effect, Notice};
use engine::limits::Limits;
use engine::time::Duration;
use engine::units::{Extent, Lba};

const PAGE: usize = 4096;

/// Changes a byte of the page that first has `content` as its data.
fn rot_data(host: &mut Harness, content: u8) {
    let is_it = |page: &&mut [u8]| page.iter().all(|byte| *byte == content);
    let files = host.disk.files.values_mut();
    let mut pages = files.flat_map(|file| file.written.chunks_mut(PAGE));
    pages.find(is_it).expect("that page")[7] ^= 1;
}

#[test]
fn a_read_names_the_first_block_that_is_damaged_and_not_its_own() {
    let mut host = Harness::born(512, 100);
    host.write(0, 8, 1);
    host.write(8, 8, 2);
    host.write(16, 8, 3);
    host.flush();
    rot_data(&mut host, 2);
    let read = host.send(Command::Read(Extent::new(4, 16)));
    let reply = host.replies.remove(&read);
    let is_told = matches!(reply, Some(Reply::Failed(Failure::Damaged { at: Lba(8) })));
    assert!(is_told, "{reply:?}");
    let is_it =
        |n: &Notice| matches!(n, Notice::Damaged { extent, .. } if *extent == Extent::new(8, 8));
    assert!(host.notices.iter().any(is_it), "{:?}", host.notices);
    assert_eq!(host.read(0, 8), [1; 8]);
    assert_eq!(host.read(16, 8), [3; 8]);
}

#[test]
fn a_long_write_with_one_bad_piece_is_told_for_that_piece() {
    let mut host = Harness::born(512, 100);
    host.write(0, 24, 1);
    host.flush();
    let file = host.disk.files.values_mut().find(|f| f.written[PAGE] == 1);
    file.expect("the record").written[2 * PAGE + 9] ^= 1;
    let read = host.send(Command::Read(Extent::new(0, 24)));
    let reply = host.replies.remove(&read);
    let is_told = matches!(reply, Some(Reply::Failed(Failure::Damaged { at: Lba(8) })));
    assert!(is_told, "{reply:?}");
    assert_eq!(host.read(0, 8), [1; 8]);
    assert_eq!(host.read(16, 8), [1; 8]);
}

#[test]
fn a_lost_attribute_is_not_passed_over_in_silence() {
    let mut host = Harness::born(512, 100);
    let key = String::from("reservation");
    let value = Some(vec![7; 8]);
    let tag = host.send(Command::PutAttribute { key, value });
    assert!(matches!(
        host.replies.remove(&tag),
        Some(Reply::Done { .. })
    ));
    host.write(0, 8, 1);
    host.flush();
    host.write(8, 8, 2);
    host.flush();
    // The attribute's head is the first page of the file in use.
    let file = host.disk.files.values_mut().find(|f| f.written[0] != 0);
    file.expect("the journal").written[40] ^= 1;
    host.kill();
    host.open();
    let is_told = |n: &Notice| matches!(n, Notice::Damaged { .. });
    assert!(host.notices.iter().any(is_told), "{:?}", host.notices);
    let write = host.send_write(16, 8, 3);
    let reply = host.replies.remove(&write);
    let is_refused = matches!(reply, Some(Reply::Failed(Failure::ReadOnly)));
    assert!(is_refused, "{reply:?}");
    assert_eq!(host.read(0, 8), [1; 8]);
    assert_eq!(host.read(8, 8), [2; 8]);
}

#[test]
fn a_restart_loses_just_the_piece_that_is_damaged() {
    let mut host = Harness::born(512, 100);
    host.write(0, 24, 1);
    host.flush();
    host.write(40, 8, 2);
    host.flush();
    let file = host.disk.files.values_mut().find(|f| f.written[PAGE] == 1);
    file.expect("the record").written[2 * PAGE + 9] ^= 1;
    host.kill();
    host.open();
    let told: Vec<Extent> = (host.notices.iter())
        .filter_map(|n| match n {
            Notice::Damaged { extent, .. } => Some(*extent),
            _ => None,
        })
        .collect();
    assert_eq!(told, [Extent::new(8, 8)]);
    assert_eq!(host.read(0, 8), [1; 8]);
    assert_eq!(host.read(40, 8), [2; 8]);
}

#[test]
fn a_rotten_frame_does_not_spoil_those_that_are_fetched_with_it() {
    let limits = Limits {
        cache_slots: 0,
        ..Limits::default()
    };
    // Two grains a frame, four a chunk: blocks 0 to 16 and 16 to 32 are frames of one section.
    let mut host = Harness::born_with(512, 64, limits);
    host.write(0, 32, 1);
    host.wish(Wish::Checkpoint);
    host.wish(Wish::Sessions(1));
    host.kill();
    host.open();
    for ((_, name), bytes) in &mut host.store.borrow_mut().objects {
        if name.starts_with("chunks/") {
            // The second frame's data, behind two headers and the first frame's.
            bytes[128 + 2 * PAGE + 128 + 3] ^= 1;
        }
    }
    let read = host.send(Command::Read(Extent::new(0, 32)));
    host.pass(Duration::from_secs(9));
    let reply = host.replies.remove(&read);
    let is_told = matches!(reply, Some(Reply::Failed(Failure::Damaged { at: Lba(16) })));
    assert!(is_told, "{reply:?}");
    let told: Vec<Extent> = (host.notices.iter())
        .filter_map(|n| match n {
            Notice::Damaged { extent, .. } => Some(*extent),
            _ => None,
        })
        .collect();
    assert_eq!(told, [Extent::new(16, 16)]);
    assert_eq!(host.read(0, 16), [1; 16]);
}

/// A read is under way when its record rots, and a newer one in the same file has what it asks for by then.
#[test]
fn damage_to_what_was_superseded_meanwhile_is_no_damage() {
    let mut host = Harness::born(512, 100);
    host.write(0, 24, 1);
    host.flush();
    host.hold(|effect| matches!(effect, Effect::Read { .. }));
    let read = host.send(Command::Read(Extent::new(0, 24)));
    assert_eq!(host.open.len(), 1);
    host.write(8, 8, 2);
    host.flush();
    let file = host.disk.files.values_mut().find(|f| f.written[PAGE] == 1);
    file.expect("the record").written[2 * PAGE + 9] ^= 1;
    host.release();
    assert_eq!(host.read_reply(read), [[1; 8], [2; 8], [1; 8]].concat());
    let is_told = |n: &Notice| matches!(n, Notice::Damaged { .. });
    assert!(!host.notices.iter().any(is_told), "{:?}", host.notices);
}
