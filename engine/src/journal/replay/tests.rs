use super::*;
use crate::effect::ScannedRecord;
use crate::ids::{AttachId, Container, Generation, VolumeId};
use crate::journal::note::Committed;
use crate::units::{BlockCount, Geometry};
use alloc::format;
use alloc::string::String;

const OWN: AttachId = AttachId {
    generation: Generation(1),
    nonce: 5,
};

/// A file of one lap: the seqs of its records; one that begins with `!` has damaged data, `v` marks a void.
fn file(number: u64, lap: u64, durable: u64, records: &str) -> (FileId, Scanned) {
    let records = records.split_whitespace().enumerate().map(|(page, text)| {
        let seq = Seq(text.trim_start_matches(['!', 'v']).parse().expect("a seq"));
        let block = Extent::new(seq.0, 1);
        ScannedRecord {
            head: RecordHead {
                seq,
                durable: Seq(durable),
                attach: OWN,
                file: FileId(number),
                lap: Lap(lap),
                page: page as u32,
                body: match text.starts_with('v') {
                    true => RecordBody::Void,
                    false => RecordBody::Write {
                        extent: block,
                        sums: Default::default(),
                    },
                },
                before: None,
            },
            bad_pieces: text.starts_with('!').then_some(0).into_iter().collect(),
        }
    });
    let scanned = Scanned {
        lap: Some(Lap(lap)),
        index_durable: None,
        records: records.collect(),
    };
    (FileId(number), scanned)
}

fn note(dead: &[(u64, u64, u64)], cut: u64) -> Note {
    Note {
        serial: 1,
        container: Container::new("disk", VolumeId([1; 16])),
        geometry: Geometry::standard(512, BlockCount(1000)),
        drawn: alloc::vec![OWN],
        joined: alloc::vec![OWN],
        held: Some(OWN.generation),
        committed: Some(Committed {
            version: crate::ids::Version(1),
            root: crate::object::names::RootName {
                version: crate::ids::Version(1),
                attach: OWN,
            },
            hash: Default::default(),
            cut: Seq(cut),
        }),
        dead: dead
            .iter()
            .map(|&(file, lap, end)| DeadLap {
                file: FileId(file),
                lap: Lap(lap),
                end: Seq(end),
            })
            .collect(),
        intent: None,
        unborn: false,
        aside: Vec::new(),
    }
}

/// `seq@file` of what is applied, then the damage, then `dead` as (file, lap, end).
#[track_caller]
fn check(note: Note, scans: Vec<(FileId, Scanned)>, expected: &str) {
    let floor = note.committed.map_or(Seq(0), |committed| committed.cut);
    let history = replay(&note, floor, scans);
    let mut text: Vec<String> = Vec::new();
    for record in &history.records {
        let kind = match record.body {
            RecordBody::Void => "v",
            _ => "",
        };
        text.push(format!("{kind}{}@{}", record.seq, record.place.file));
    }
    for damage in &history.damage {
        text.push(match damage {
            Damage::Lost { seq, .. } => format!("lost:{seq}"),
            Damage::Unknown { seq } => format!("unknown:{seq}"),
        });
    }
    for dead in &history.dead {
        text.push(format!("dead:{}/{}>{}", dead.file, dead.lap, dead.end));
    }
    assert_eq!(text.join(" "), expected);
}

#[test]
fn the_history_ends_at_the_first_gap() {
    check(
        note(&[], 4),
        alloc::vec![file(1, 1, 0, "4 5 6 8")],
        "5@1 6@1 dead:1/1>6",
    );
}

#[test]
fn a_gap_in_what_was_durable_is_damage() {
    check(
        note(&[], 0),
        alloc::vec![file(1, 1, 2, "1 3")],
        "1@1 3@1 unknown:2 dead:1/1>3",
    );
}

#[test]
fn a_good_copy_beats_a_damaged_one_and_a_void_both() {
    check(
        note(&[], 0),
        alloc::vec![file(1, 1, 0, "!1 2"), file(2, 2, 0, "1 v2")],
        "1@2 v2@2 dead:1/1>2 dead:2/2>2",
    );
}

#[test]
fn what_was_declared_dead_stays_dead() {
    check(
        note(&[(1, 1, 2)], 0),
        alloc::vec![file(1, 1, 0, "1 2 4"), file(2, 2, 0, "3")],
        "1@1 2@1 3@2 dead:1/1>2 dead:2/2>3",
    );
}

// A recovery saw lap 7 of file 1, which no sync covered; the power failed, and lap 5 is on the disk again, with a record 3
// that an earlier recovery had declared dead.
#[test]
fn an_older_lap_than_the_one_that_was_seen_is_dead() {
    check(
        note(&[(1, 7, 3), (2, 6, 3)], 0),
        alloc::vec![file(1, 5, 0, "3"), file(2, 6, 0, "1 2 3")],
        "1@2 2@2 3@2 dead:1/65543>3 dead:2/6>3",
    );
}

// Lap 6 of file 1 began and lost its first page only: the index of lap 5 is believed, and a record 4 of lap 6 lies unseen
// behind page 0. The lap that is drawn next is another one, also after a second crash that leaves no trace of it.
#[test]
fn a_lap_that_nobody_saw_is_not_drawn_again() {
    let scans = || alloc::vec![file(1, 5, 2, "1 2"), file(2, 4, 3, "3")];
    let history = replay(&note(&[], 2), Seq(2), scans());
    assert_eq!(history.resumed.free, [FileId(1)]);
    assert!(history.resumed.lap > Lap(6 + 1000));
    let mut again = note(&[], 2);
    again.dead = history.dead;
    let second = replay(&again, Seq(2), scans());
    assert!(second.resumed.lap > history.resumed.lap);
    // Page 0 of lap 6 is there after all: what it and the pages behind it hold is dead.
    let unseen = alloc::vec![file(1, 6, 3, "4 5"), file(2, 4, 3, "3")];
    let third = replay(&again, Seq(2), unseen);
    assert_eq!(third.resumed.end, Seq(3));
}
