use super::*;
use crate::codec::tests::{check_envelope, check_refusals};
use crate::ids::VolumeId;
use crate::units::BlockCount;
use proptest::collection::vec;
use proptest::prelude::*;

fn attach() -> impl Strategy<Value = AttachId> {
    (any::<u64>(), any::<u64>()).prop_map(|(generation, nonce)| AttachId {
        generation: Generation(generation),
        nonce,
    })
}

fn note() -> impl Strategy<Value = Note> {
    let lists = (
        vec(attach(), 0..4),
        vec(attach(), 0..4),
        vec((any::<u64>(), any::<u64>(), any::<u64>()), 0..4),
        vec(any::<u64>(), 0..4),
    );
    let fixed = (
        any::<u64>(),
        any::<[u8; 16]>(),
        "[a-z0-9]{1,20}",
        1_u64..1 << 50,
        any::<bool>(),
    );
    let committed = proptest::option::of((any::<u64>(), attach(), any::<[u8; 16]>(), any::<u64>()));
    (
        fixed,
        proptest::option::of(any::<u64>()),
        committed,
        0_u8..5,
        any::<u64>(),
        lists,
    )
        .prop_map(|(fixed, held, committed, intent, n, lists)| Note {
            serial: fixed.0,
            container: Container::new(&fixed.2, VolumeId(fixed.1)),
            geometry: Geometry::standard(512, BlockCount(fixed.3)),
            drawn: lists.0,
            joined: lists.1,
            held: held.map(Generation),
            committed: committed.map(|(version, attach, hash, cut)| Committed {
                version: Version(version),
                root: RootName {
                    version: Version(version),
                    attach,
                },
                hash: Hash(hash),
                cut: Seq(cut),
            }),
            dead: lists
                .2
                .into_iter()
                .map(|(file, lap, end)| DeadLap {
                    file: FileId(file),
                    lap: Lap(lap),
                    end: Seq(end),
                })
                .collect(),
            intent: match intent {
                0 => None,
                1 => Some(Intent::Detach(Version(n))),
                2 => Some(Intent::Delete(Version(n))),
                3 => Some(Intent::Rollback(Version(n))),
                _ => Some(Intent::Emergency(Seq(n))),
            },
            unborn: fixed.4,
            aside: lists.3.into_iter().map(FileId).collect(),
        })
}

proptest! {
    #[test]
    fn a_note_reads_as_it_was_written(note in note(), behind in vec(any::<u8>(), 0..20)) {
        let mut bytes = emit(&note);
        bytes.extend_from_slice(&behind);
        prop_assert_eq!(parse(&bytes), Ok(note));
    }

    #[test]
    fn noise_behind_a_good_checksum_never_panics(note in note(), at in 32_usize..300, noise: [u8; 8]) {
        let mut bytes = emit(&note);
        let at = at.min(bytes.len() - 8);
        bytes[at..at + 8].copy_from_slice(&noise);
        seal(&mut bytes, Magic::NOTE, 0);
        if let Ok(note) = parse(&bytes) {
            prop_assert_eq!(emit(&note), bytes);
        }
    }

    #[test]
    fn every_turned_bit_of_a_note_is_seen(note in note()) {
        check_refusals(&emit(&note), 7, parse);
        check_envelope(&emit(&note), parse);
    }

    #[test]
    fn the_newest_whole_note_counts_and_the_other_slot_is_next(note in note()) {
        let mut note = note;
        note.serial = 7;
        let older = emit(&note);
        note.serial = 8;
        let newer = emit(&note);
        let torn = &newer[..newer.len() - 1];
        let serial = |slots| newest(slots).map(|(note, next)| (note.map(|note| note.serial), next));
        prop_assert_eq!(serial([&older, &newer]), Ok((Some(8), 0)));
        prop_assert_eq!(serial([&newer, &older]), Ok((Some(8), 1)));
        prop_assert_eq!(serial([&older, torn]), Ok((Some(7), 1)));
        prop_assert_eq!(serial([torn, &older]), Ok((Some(7), 0)));
        prop_assert_eq!(serial([&[], &[]]), Ok((None, 0)));
        let too_new = crate::codec::tests::resealed(&newer, |bytes| bytes[8] = 2);
        prop_assert_eq!(serial([&older, &too_new]), Err(Unreadable::TooNew));
    }

    #[test]
    fn a_page_that_rots_leaves_the_newest_note(note in note(), shorter in note(), rot in 0_usize..1 << 16) {
        let mut note = note;
        note.serial = 7;
        let older = slot(&note);
        note.serial = 8;
        let newer = slot(&note);
        let copy = newer.len() / 2;
        fn read(slots: [&[u8]; 2]) -> Result<Option<Note>, Unreadable> {
            newest(slots).map(|(note, _)| note)
        }
        let mut rotten = newer.clone();
        rotten[rot % newer.len()] ^= 0x10;
        prop_assert_eq!(read([&older, &rotten]), Ok(Some(note.clone())));
        // All pages of one copy, whichever.
        for from in [0, copy] {
            let mut rotten = newer.clone();
            rotten[from..from + copy].fill(0);
            prop_assert_eq!(read([&rotten, &older]), Ok(Some(note.clone())));
        }
        // What an older, longer note left behind a newer one does not count.
        let mut shorter = shorter;
        shorter.serial = 9;
        let mut over = slot(&shorter);
        if over.len() < newer.len() {
            over.extend_from_slice(&newer[over.len()..]);
        }
        prop_assert_eq!(read([&over, &older]), Ok(Some(shorter)));
        // A slot of one copy, as it was once written, is read as ever.
        prop_assert_eq!(read([&emit(&note), &older]), Ok(Some(note)));
    }
}
