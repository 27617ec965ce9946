//! Which history a folder's journal belongs to, by the folder's note.
//!
//! The note lists the attach ids that the journal runs under, and an id joins before its `opened` is sent. An attach that
//! finds another's attachment below begins the list anew: the journal is closed, dropped or set aside, and what a restart
//! recovers from then on is of the next history, whether the attach came to its end or not and whether anybody was told.

use engine::ids::AttachId;
use engine::journal::note::Note;

/// Whether the journal goes on that was last served from under generation `last`.
pub fn goes_on(note: &Note, last: u64) -> bool {
    note.joined.iter().any(|id| id.generation.0 == last)
}

/// Whether an attach has left that journal behind.
pub fn is_left(note: &Note, last: u64) -> bool {
    !note.joined.is_empty() && !goes_on(note, last)
}

/// The attachment under which a restart serves: the one that its folder opened last, told or not.
pub fn serves_under(note: &Note) -> Option<AttachId> {
    let held = note.held?;
    let joined = |id: &&AttachId| id.generation == held;
    note.joined.iter().find(joined).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::ids::{Container, Generation, VolumeId};
    use engine::units::{BlockCount, Geometry};

    fn id(generation: u64) -> AttachId {
        AttachId {
            generation: Generation(generation),
            nonce: generation * 100,
        }
    }

    fn note(joined: &[u64], held: Option<u64>) -> Note {
        Note {
            serial: 1,
            container: Container::new("disk", VolumeId([1; 16])),
            geometry: Geometry::standard(512, BlockCount(8)),
            drawn: Vec::new(),
            joined: joined.iter().copied().map(id).collect(),
            held: held.map(Generation),
            committed: None,
            dead: Vec::new(),
            intent: None,
            unborn: false,
            aside: Vec::new(),
        }
    }

    #[test]
    fn what_runs_under_its_old_id_too_is_not_left_and_must_recover_what_it_promised() {
        let note = note(&[1, 3, 4], Some(3));
        assert!(!is_left(&note, 1) && !is_left(&note, 3));
        assert_eq!(serves_under(&note), Some(id(3)), "4 was not opened yet");
    }

    #[test]
    fn what_another_attachment_lay_above_is_left_though_nobody_was_told_of_the_attach() {
        // Noted as opened, and dead before it said so.
        let note = note(&[11], Some(11));
        assert!(is_left(&note, 1));
        assert_eq!(serves_under(&note), Some(id(11)));
    }

    #[test]
    fn what_was_left_by_an_attach_that_lost_is_left_and_serves_under_nothing() {
        let note = note(&[11], None);
        assert!(is_left(&note, 1));
        assert_eq!(serves_under(&note), None);
    }

    #[test]
    fn a_folder_that_never_ran_under_an_id_leaves_nothing() {
        assert!(!is_left(&note(&[], None), 0));
    }
}
