//! Harm to a journal at rest: rot, latent errors and writes that went elsewhere.
//!
//! Only harm that the engine must bear is done (its contract is *detect*, or better): whatever is hit, the pages that are left
//! must still tell that its record was durable, and which blocks it wrote. Rot in the last synced group, which no later
//! record tells of, is out of the model (A2), and so are two neighbours hit at once.

use super::{Damage, Disk, File, Page};
use engine::ids::{FileId, Lap};
use engine::journal::index::FileIndex;
use engine::journal::record::{PAGE_BYTES, RecordBody, RecordHead};
use engine::layers::split::pieces;
use engine::units::Extent;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What happens to a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Harm {
    /// A bit of it changes.
    Rot,
    /// It cannot be read any more.
    Latent,
    /// The write of its record went to another place of the journal.
    Misdirected,
}

/// What was hit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Harmed {
    /// Blocks whose content of that seq may be gone.
    pub blocks: Vec<(u64, Extent)>,
    /// Records that are no blocks': attributes and voids.
    pub nameless: Vec<u64>,
}

/// A record on the disk.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) file: FileId,
    pub(super) page: u32,
    /// Pages of its data.
    data: u32,
    pub(super) head: Arc<RecordHead>,
}

impl Found {
    fn pages(&self) -> std::ops::RangeInclusive<u32> {
        self.page..=self.page + self.data
    }
}

/// What the disk still tells of its records.
#[derive(Default)]
struct Told {
    /// Seqs with a record whose head and data are whole.
    whole: BTreeSet<u64>,
    /// Per seq the lowest seq whose durability a record or index above it proves: all up to `.1` is durable, says one of
    /// seq `.0`.
    durable: Vec<(u64, u64)>,
    /// Seqs whose blocks a neighbour repeats.
    repeated: BTreeSet<u64>,
}

impl Disk {
    /// Does harm to a page that `n` chooses, of a record that a restart would need if there is one; `None` when what is left
    /// would not tell of it. `durable`: the highest seq that is durable.
    pub fn harm(&mut self, harm: Harm, n: u64, durable: u64) -> Option<Harmed> {
        // What is committed and not noted yet is still needed here.
        let committed = self.note().and_then(|note| note.committed);
        let stored = committed.map_or(0, |committed| committed.cut.0);
        let records = self.records();
        let live: Vec<&Found> = (records.iter())
            .filter(|r| r.head.seq.0 > stored && r.head.seq.0 <= durable)
            .collect();
        let at = (n >> 3 & 0xfff) as usize;
        let target = if live.is_empty() || n % 8 == 7 {
            // An index, or what is left of something over.
            let pages = self.clean_pages();
            pages
                .get(at % pages.len().max(1))
                .map(|(file, page)| (*file, *page..=*page))
        } else {
            let record = live[at % live.len()];
            let some = record.page + (n >> 32) as u32 % (record.data + 1);
            let pages = match harm {
                Harm::Misdirected => record.pages(),
                Harm::Rot | Harm::Latent => some..=some,
            };
            Some((record.file, pages))
        };
        let (file, pages) = target?;
        let mut overlay = Vec::new();
        for page in pages {
            let damage = match harm {
                Harm::Rot => Damage::Rot,
                Harm::Latent => Damage::Latent,
                Harm::Misdirected if n >> 48 & 1 == 0 => Damage::Other(Page::Zero),
                Harm::Misdirected => Damage::Other(Page::Garbage(n)),
            };
            overlay.push((file, page, damage));
        }
        if harm == Harm::Misdirected {
            self.misdirect(n, &mut overlay);
        }
        self.lay(overlay, &records, stored, durable)
    }

    // The pages that were to be written lie elsewhere: in any file, over whatever was there.
    fn misdirect(&self, n: u64, overlay: &mut Vec<(FileId, u32, Damage)>) {
        let files: Vec<FileId> = self.files.keys().copied().collect();
        let Some(to) = files.get((n >> 40) as usize % files.len().max(1)) else {
            return;
        };
        let room = self.files[to].cached.len() as u32;
        let first = (n >> 16 & 0xffff) as u32 % room.max(1);
        let moved: Vec<_> = (overlay.iter())
            .map(|(file, page, _)| self.files[file].cached[*page as usize].clone())
            .collect();
        for (page, held) in (first..room).zip(moved) {
            if !overlay.iter().any(|(f, p, _)| f == to && *p == page) {
                overlay.push((*to, page, Damage::Other(held)));
            }
        }
    }

    // Lays the damage over the pages if the rest tells of all that it hits.
    fn lay(
        &mut self,
        overlay: Vec<(FileId, u32, Damage)>,
        records: &[Found],
        stored: u64,
        durable: u64,
    ) -> Option<Harmed> {
        let is_clean = |(file, page, _): &(FileId, u32, Damage)| {
            let file = &self.files[file];
            is_sure(file, *page) && !file.damage.contains_key(page)
        };
        if !overlay.iter().all(is_clean) {
            return None;
        }
        for (file, page, damage) in &overlay {
            let file = self.files.get_mut(file).expect("looked up");
            file.damage.insert(*page, damage.clone());
        }
        if !self.tells_all(records, stored, durable) {
            for (file, page, _) in &overlay {
                let file = self.files.get_mut(file).expect("looked up");
                file.damage.remove(page);
            }
            return None;
        }
        let mut harmed = Harmed::default();
        for record in records {
            let hit =
                |page: &u32| (overlay.iter()).any(|(file, p, _)| *file == record.file && p == page);
            let seq = record.head.seq.0;
            if hit(&record.page) {
                let extents = record.head.body.extents();
                if extents.is_empty() {
                    harmed.nameless.push(seq);
                }
                harmed.blocks.extend(extents.iter().map(|e| (seq, *e)));
                continue;
            }
            let RecordBody::Write { extent, .. } = &record.head.body else {
                continue;
            };
            let pages = (record.pages().skip(1)).filter(hit);
            let parts = pages.map(|page| {
                let per_page = u64::from(PAGE_BYTES / self.unit);
                let from = u64::from(page - record.page - 1) * per_page;
                // A piece may begin on one page and end on the next.
                let grain = self.geometry.grain_blocks() - 1;
                let start = (extent.start.0 + from).saturating_sub(grain);
                let end = extent.start.0 + from + per_page + grain;
                let range = start.max(extent.start.0)..end.min(extent.end().0);
                (seq, Extent::from_range(range))
            });
            harmed.blocks.extend(parts);
        }
        Some(harmed)
    }

    // Whether each record that is not whole any more is told of by what is left, and its blocks are.
    fn tells_all(&self, records: &[Found], stored: u64, durable: u64) -> bool {
        let told = self.told(durable);
        let needed = records.iter().filter(|r| {
            let seq = r.head.seq.0;
            seq > stored && !told.whole.contains(&seq)
        });
        needed.into_iter().all(|record| {
            let seq = record.head.seq.0;
            let is_known = (told.durable.iter()).any(|(by, up_to)| *by > seq && *up_to >= seq);
            let is_headless = !self.has_head(record);
            is_known && (!is_headless || told.repeated.contains(&seq))
        })
    }

    fn has_head(&self, record: &Found) -> bool {
        let file = &self.files[&record.file];
        let listed = clean_index(file).is_some_and(|index| index.records.contains(&record.head));
        listed || matches!(file.page(record.page), Some(Page::Head(head)) if *head == record.head)
    }

    // What no sync covered tells nothing: a lap of which a loss of power left only later pages is not seen at all.
    fn told(&self, durable: u64) -> Told {
        let mut told = Told::default();
        let note = self.note();
        let dead = note.iter().flat_map(|note| &note.dead);
        told.durable.extend(dead.map(|dead| (u64::MAX, dead.end.0)));
        for (id, file) in &self.files {
            if let Some(index) = clean_index(file) {
                let last = index.records.iter().map(|r| r.seq.0).max().unwrap_or(0);
                told.durable.push((last, index.durable.0));
                for head in &index.records {
                    told.durable.push((head.seq.0, head.durable.0));
                    told.repeated.extend(head.before.iter().map(|b| b.seq.0));
                }
            }
            for found in self.living(records_of(*id, file, self.unit, true)) {
                let seq = found.head.seq.0;
                if seq <= durable {
                    told.durable.push((seq, found.head.durable.0));
                    told.repeated
                        .extend(found.head.before.iter().map(|b| b.seq.0));
                }
                if self.is_whole(file, &found) {
                    told.whole.insert(seq);
                }
            }
        }
        told
    }

    // Whether a record's data is there: after a failed sync its head may be durable and its data not.
    fn is_whole(&self, file: &File, found: &Found) -> bool {
        let RecordBody::Write { extent, sums } = &found.head.body else {
            return true;
        };
        let mut at = u64::from(found.page + 1) * u64::from(PAGE_BYTES);
        pieces(&self.geometry, *extent)
            .zip(sums.iter())
            .all(|(piece, sum)| {
                let bytes = piece.count.0 * u64::from(self.unit);
                let mut stamps = Vec::new();
                let is_read = file.read(at, bytes, self.unit, &mut stamps);
                at += bytes;
                is_read && self.summing.piece(self.unit, &stamps) == *sum
            })
    }

    // The durable records of each file's newest lap, as they were before any damage.
    pub(super) fn records(&self) -> Vec<Found> {
        let of = |(id, file): (&FileId, &File)| records_of(*id, file, self.unit, false);
        self.living(self.files.iter().flat_map(of).collect())
    }

    // Without what lies behind an end of history or was set aside.
    fn living(&self, mut records: Vec<Found>) -> Vec<Found> {
        if let Some(note) = self.note() {
            records.retain(|r| {
                let head = &r.head;
                let is_dead = (note.dead.iter()).any(|dead| {
                    dead.file == r.file
                        && (dead.lap > head.lap || dead.lap == head.lap && head.seq > dead.end)
                });
                !is_dead && !note.aside.contains(&r.file) && note.joined.contains(&head.attach)
            });
        }
        records
    }

    fn clean_pages(&self) -> Vec<(FileId, u32)> {
        let mut pages = Vec::new();
        for (id, file) in &self.files {
            let held = (0_u32..).zip(&file.cached);
            pages.extend(
                held.filter(|(_, p)| **p != Page::Zero)
                    .map(|(n, _)| (*id, n)),
            );
        }
        pages
    }
}

// The records of a file's newest lap that are durable: with `damage`, those whose head can still be read. What an index does
// not list is over: a record that a failed sync was to cover was written again elsewhere.
fn records_of(id: FileId, file: &File, unit: u32, damage: bool) -> Vec<Found> {
    let mut by_lap: BTreeMap<Lap, Vec<Found>> = BTreeMap::new();
    let indexed = clean_index(file);
    for (page, held) in (0_u32..).zip(&file.cached) {
        let held = if damage { file.page(page) } else { Some(held) };
        let Some(Page::Head(head)) = held else {
            continue;
        };
        if head.file != id || head.page != page || !is_sure(file, page) {
            continue;
        }
        let data = match &head.body {
            RecordBody::Write { extent, .. } => (extent.count.0 as u32 * unit).div_ceil(PAGE_BYTES),
            RecordBody::Holes(_) | RecordBody::Attribute { .. } | RecordBody::Void => 0,
        };
        if indexed
            .as_ref()
            .is_some_and(|index| index.lap == head.lap && !index.records.contains(head))
        {
            continue;
        }
        let head = head.clone();
        let file = id;
        by_lap.entry(head.lap).or_default().push(Found {
            file,
            page,
            data,
            head,
        });
    }
    by_lap.pop_last().map_or(Vec::new(), |(_, found)| found)
}

// The file's index, if all its pages are durable and whole, and of the newest lap.
fn clean_index(file: &File) -> Option<Arc<FileIndex>> {
    let first = file.cached.iter().find_map(|held| match held {
        Page::Index(index, 0) => Some(index.clone()),
        _ => None,
    })?;
    let is_whole = |(page, held): (u32, &Page)| match held {
        Page::Index(index, _) if Arc::ptr_eq(index, &first) => {
            is_sure(file, page) && !file.damage.contains_key(&page)
        }
        _ => true,
    };
    let newest = file.cached.iter().filter_map(|page| match page {
        Page::Head(head) => Some(head.lap),
        _ => None,
    });
    let is_newest = newest.max() == Some(first.lap);
    (is_newest && (0..).zip(&file.cached).all(is_whole)).then_some(first)
}

// Whether what a page holds is what a power loss leaves.
fn is_sure(file: &File, page: u32) -> bool {
    !file.dirty.contains_key(&page) && !file.lies.contains_key(&page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Fate, Local};
    use crate::payload::{Blocks, Stamp, Summing};
    use engine::effect::{DiskRequest, Outcome};
    use engine::ids::{AttachId, Container, Generation, Seq, VolumeId};
    use engine::journal::note::Note;
    use engine::journal::record::{JournalKey, RecordBefore};
    use engine::payload::Parts;
    use engine::units::{BlockCount, ByteCount, Geometry};

    const FILE: FileId = FileId(0);

    fn attach() -> AttachId {
        AttachId {
            generation: Generation(1),
            nonce: 7,
        }
    }

    fn head(seq: u64, durable: u64) -> RecordHead {
        let extent = |seq: u64| Extent::new(seq, 1);
        let stamp = stamp(seq);
        let sum = Summing::Symbolic.piece(4096, &[stamp]);
        RecordHead {
            seq: Seq(seq),
            durable: Seq(durable),
            attach: attach(),
            file: FILE,
            lap: Lap(1),
            page: (seq as u32 - 1) * 2,
            body: RecordBody::Write {
                extent: extent(seq),
                sums: std::iter::once(sum).collect(),
            },
            before: (seq > 1).then(|| RecordBefore {
                seq: Seq(seq - 1),
                extents: std::iter::once(extent(seq - 1)).collect(),
            }),
        }
    }

    fn stamp(seq: u64) -> Stamp {
        Stamp {
            volume: 1,
            lba: seq as u32,
            write: seq,
        }
    }

    // Three records of one block each; the second says that the first is durable, the third nothing new.
    fn three_records() -> Disk {
        let geometry = Geometry {
            block_bytes: 4096,
            capacity: BlockCount(16),
            chunk_grains: 4,
            leaf_chunks: 2,
            frame_grains: 2,
        };
        let key = JournalKey::new(VolumeId([1; 16]), [2; 16]);
        let mut disk = Disk::new(geometry, 4, Summing::Symbolic, key, 1);
        let note = Note {
            serial: 1,
            container: Container::new("disk", VolumeId([1; 16])),
            geometry,
            drawn: vec![attach()],
            joined: vec![attach()],
            held: None,
            committed: None,
            dead: Vec::new(),
            intent: None,
            unborn: false,
            aside: Vec::new(),
        };
        let bytes = ByteCount(32 << 12);
        let ask = |disk: &mut Disk, request| {
            let done = disk.finish(Local::Disk(request), Fate::Good);
            assert!(matches!(done, Outcome::Done));
        };
        ask(&mut disk, DiskRequest::WriteNote(Arc::new(note)));
        ask(&mut disk, DiskRequest::CreateFile { file: FILE, bytes });
        for (seq, durable) in [(1, 0), (2, 1), (3, 1)] {
            let data = Parts::one(Blocks::run(4096, stamp(seq), 1));
            let at = (seq - 1) * 2 * 4096;
            let local = disk.append(FILE, at, head(seq, durable), &data);
            disk.finish(local, Fate::Good);
        }
        let sync = disk.sync(FILE);
        disk.finish(sync, Fate::Good);
        disk
    }

    fn pages_hit(n: u64, harm: Harm) -> Option<Harmed> {
        three_records().harm(harm, n, 3)
    }

    #[test]
    fn only_what_the_rest_tells_of_is_harmed() {
        // Of three records the first is told of: by the second, which repeats its blocks and calls it durable.
        for harm in [Harm::Rot, Harm::Latent] {
            for page in 0..2 {
                let hit = pages_hit(page << 32, harm).expect("it is told of");
                assert_eq!(hit.blocks, [(1, Extent::new(1, 1))]);
                for record in 1..3 {
                    assert_eq!(pages_hit(page << 32 | record << 3, harm), None);
                }
            }
        }
    }

    #[test]
    fn two_neighbours_are_not_hit_at_once() {
        let mut disk = three_records();
        disk.harm(Harm::Rot, 0, 3).expect("the first is told of");
        assert_eq!(disk.harm(Harm::Rot, 1 << 3, 1), None);
    }

    #[test]
    fn a_write_that_went_elsewhere_is_missing_here_and_over_something_there() {
        // To page 9 of the file: behind the records.
        let mut disk = three_records();
        let hit = disk.harm(Harm::Misdirected, 9 << 16, 3);
        assert_eq!(hit.expect("it is told of").blocks, [(1, Extent::new(1, 1))]);
        let file = &disk.files[&FILE];
        assert_eq!(file.page(0), Some(&Page::Zero));
        assert!(matches!(file.page(9), Some(Page::Head(head)) if head.seq.0 == 1));
        let mut fresh = three_records();
        // Over the third record's data it would hit what nothing tells of.
        let hit = fresh.harm(Harm::Misdirected, 5 << 16, 3);
        assert_eq!(hit, None);
    }

    #[test]
    fn a_head_without_its_data_is_no_second_copy() {
        // The data of a fourth record was lost with a failed sync, and it was written again to a second file.
        let mut disk = three_records();
        let again = FileId(FILE.0 + 1);
        let bytes = ByteCount(32 << 12);
        let create = DiskRequest::CreateFile { file: again, bytes };
        disk.finish(Local::Disk(create), Fate::Good);
        let data = Parts::one(Blocks::run(4096, stamp(4), 1));
        for (file, page) in [(FILE, 6), (again, 0)] {
            let head = RecordHead {
                file,
                page,
                lap: Lap(1 + file.0),
                ..head(4, 3)
            };
            let local = disk.append(file, u64::from(page) * 4096, head, &data);
            disk.finish(local, Fate::Good);
            let sync = disk.sync(file);
            disk.finish(sync, Fate::Good);
        }
        // The second copy is the fourth record.
        let last = |disk: &mut Disk| disk.harm(Harm::Latent, 4 << 3, 4);
        assert!(last(&mut disk.clone()).is_some(), "the other copy is whole");
        let file = disk.files.get_mut(&FILE).expect("it was made");
        file.cached[7] = Page::Zero;
        assert_eq!(last(&mut disk), None);
    }

    #[test]
    fn what_is_not_durable_is_left_alone() {
        let mut disk = three_records();
        let data = Parts::one(Blocks::run(4096, stamp(4), 1));
        let local = disk.append(FILE, 6 * 4096, head(4, 3), &data);
        disk.finish(local, Fate::Good);
        for n in 0..64 {
            let hit = disk.clone().harm(Harm::Rot, n << 3, 4);
            let blocks = hit.map_or(Vec::new(), |hit| hit.blocks);
            assert!(blocks.iter().all(|(seq, _)| *seq < 4), "{n}: {blocks:?}");
        }
    }
}
