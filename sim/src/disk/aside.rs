//! What an attach set aside for rescue (P7): all that the store does not have of a journal that was left behind, as it was.

use super::Disk;
use engine::ids::{FileId, Seq};
use engine::journal::note::Note;
use std::collections::BTreeSet;

impl Disk {
    /// A note comes. If it begins a new history, what is durable here of the old one, and not stored, must be in files that
    /// the note sets aside; what a failed append left was refused, and need not.
    pub(super) fn check_left(&mut self, new: &Note) {
        let Some(old) = self.note() else { return };
        let goes_on = new.joined.iter().any(|id| old.joined.contains(id));
        if new.joined.is_empty() || goes_on {
            return;
        }
        let stored = old.committed.map_or(Seq(0), |committed| committed.cut);
        let all = self.records().into_iter();
        let taken = all.filter(|found| !self.refused.contains(&(found.file, found.page)));
        let records = taken.map(|found| (found.file, found.head.seq));
        let (kept, left): (Vec<_>, Vec<_>) =
            records.partition(|(file, _)| new.aside.contains(file));
        let kept: BTreeSet<Seq> = kept.into_iter().map(|(_, seq)| seq).collect();
        let lost = left
            .iter()
            .find(|(_, seq)| *seq > stored && !kept.contains(seq));
        if let Some((file, seq)) = lost {
            self.broken = Some(format!(
                "the journal is left behind with {seq:?} in {file:?}, above the stored {stored:?}, and {:?} are set aside",
                new.aside
            ));
        }
    }

    /// A file is about to be written or removed.
    pub(super) fn check_aside(&mut self, file: FileId) {
        if self.note().is_some_and(|note| note.aside.contains(&file)) {
            self.broken = Some(format!(
                "{file:?} was set aside, and does not stay as it was"
            ));
        }
    }

    /// What was done to the folder that must not be (P7).
    pub fn take_broken(&mut self) -> Option<String> {
        self.broken.take()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Fate, Page};
    use super::*;
    use crate::payload::{Blocks, Summing};
    use engine::effect::DiskRequest;
    use engine::ids::{AttachId, Container, Generation, Lap, Version, VolumeId};
    use engine::journal::note::Committed;
    use engine::journal::record::{JournalKey, RecordBody, RecordHead};
    use engine::object::names::RootName;
    use engine::payload::Parts;
    use engine::units::{BlockCount, ByteCount, Extent, Geometry};
    use std::sync::Arc;

    fn id(generation: u64) -> AttachId {
        AttachId {
            generation: Generation(generation),
            nonce: generation,
        }
    }

    fn geometry() -> Geometry {
        Geometry::standard(4096, BlockCount(8))
    }

    fn note(serial: u64, joined: u64, cut: u64, aside: &[u64]) -> DiskRequest<Blocks> {
        let committed = Committed {
            version: Version(0),
            root: RootName {
                version: Version(0),
                attach: id(1),
            },
            hash: Default::default(),
            cut: Seq(cut),
        };
        DiskRequest::WriteNote(Arc::new(Note {
            serial,
            container: Container::new("disk", VolumeId([1; 16])),
            geometry: geometry(),
            drawn: Vec::new(),
            joined: vec![id(joined)],
            held: None,
            committed: Some(committed),
            dead: Vec::new(),
            intent: None,
            unborn: false,
            aside: aside.iter().copied().map(FileId).collect(),
        }))
    }

    fn ask(disk: &mut Disk, request: DiskRequest<Blocks>) -> Option<String> {
        disk.finish(super::super::Local::Disk(request), Fate::Good);
        disk.take_broken()
    }

    fn append(disk: &mut Disk, file: u64, page: u32, seq: u64) -> Option<String> {
        let head = RecordHead {
            seq: Seq(seq),
            durable: Seq(0),
            attach: id(1),
            file: FileId(file),
            lap: Lap(1),
            page,
            body: RecordBody::Holes([Extent::new(0, 1)].into_iter().collect()),
            before: None,
        };
        let local = disk.append(
            FileId(file),
            u64::from(page) * 4096,
            head,
            &Parts::default(),
        );
        disk.finish(local, Fate::Good);
        let sync = disk.sync(FileId(file));
        disk.finish(sync, Fate::Good);
        disk.take_broken()
    }

    /// A folder with records 1 and 2 in file 0, 2 and 3 in file 1, of generation 1, stored up to `cut`.
    fn folder(cut: u64) -> Disk {
        let key = JournalKey::new(VolumeId([1; 16]), [3; 16]);
        let mut disk = Disk::new(geometry(), 0, Summing::Symbolic, key, 1);
        assert_eq!(ask(&mut disk, note(1, 1, cut, &[])), None);
        for file in [0, 1] {
            let (file, bytes) = (FileId(file), ByteCount(16 * 4096));
            assert_eq!(
                ask(&mut disk, DiskRequest::CreateFile { file, bytes }),
                None
            );
        }
        for (file, page, seq) in [(0, 0, 1), (0, 1, 2), (1, 0, 2), (1, 1, 3)] {
            assert_eq!(append(&mut disk, file, page, seq), None);
        }
        assert!(
            disk.files[&FileId(0)]
                .cached
                .iter()
                .any(|p| matches!(p, Page::Head(_)))
        );
        disk
    }

    #[track_caller]
    fn check(cut: u64, joined: u64, aside: &[u64], is_kept: bool) {
        let broken = ask(&mut folder(cut), note(2, joined, cut.max(9), aside));
        assert_eq!(broken.is_none(), is_kept, "{broken:?}");
    }

    #[test]
    fn what_is_stored_need_not_be_set_aside() {
        check(3, 2, &[], true);
        check(2, 2, &[], false);
        check(2, 2, &[0], false);
    }

    #[test]
    fn one_copy_of_a_record_is_enough() {
        check(1, 2, &[1], true);
        check(0, 2, &[1], false);
        check(0, 2, &[0, 1], true);
    }

    #[test]
    fn what_a_failed_append_left_need_not_be_set_aside() {
        let mut disk = folder(3);
        let head = RecordHead {
            seq: Seq(4),
            durable: Seq(0),
            attach: id(1),
            file: FileId(1),
            lap: Lap(1),
            page: 2,
            body: RecordBody::Holes([Extent::new(0, 1)].into_iter().collect()),
            before: None,
        };
        let local = disk.append(FileId(1), 2 * 4096, head, &Parts::default());
        disk.finish(local, Fate::Fails(1));
        let sync = disk.sync(FileId(1));
        disk.finish(sync, Fate::Good);
        assert!(disk.seqs_in(FileId(1)).contains(&4), "it is there");
        assert_eq!(ask(&mut disk, note(2, 2, 9, &[])), None);
    }

    #[test]
    fn a_journal_that_goes_on_sets_nothing_aside() {
        check(0, 1, &[], true);
    }

    #[test]
    fn what_was_set_aside_is_neither_written_nor_removed() {
        let mut disk = folder(1);
        assert_eq!(ask(&mut disk, note(2, 2, 9, &[1])), None);
        assert_eq!(append(&mut disk, 0, 2, 10), None);
        assert!(append(&mut disk, 1, 2, 10).is_some());
        assert_eq!(ask(&mut disk, DiskRequest::RemoveFile(FileId(0))), None);
        assert!(ask(&mut disk, DiskRequest::RemoveFile(FileId(1))).is_some());
    }
}
