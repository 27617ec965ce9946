use super::*;
use engine::effect::{Expect, Meta};
use engine::ids::{AttachId, Container, Generation, Hash, Lap, Seq, VolumeId};
use engine::journal::index::FileIndex;
use engine::journal::note::{self, Note};
use engine::journal::record::RecordBody;
use engine::object::encode_meta;
use engine::sum::Sum;
use engine::table::types::Leaf;
use engine::units::{BlockCount, Extent, Geometry, LeafIndex};
use std::os::unix::fs::FileExt;

const FILE: FileId = FileId(3);
const FILE_BYTES: u64 = 64 * 4096;

fn folder() -> (tempfile::TempDir, Folder) {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(&dir.path().join("v"), key()).unwrap();
    (dir, folder)
}

fn key() -> JournalKey {
    JournalKey::new(VolumeId([1; 16]), [2; 16])
}

fn head(seq: u64, page: u32, data: &[u8]) -> RecordHead {
    RecordHead {
        seq: Seq(seq),
        durable: Seq(seq - 1),
        attach: AttachId {
            generation: Generation(1),
            nonce: 7,
        },
        file: FILE,
        lap: Lap(1),
        page,
        body: RecordBody::Write {
            extent: Extent::new(0, data.len() as u64 / 512),
            sums: data.chunks(4096).map(|p| Sum(crc32c::crc32c(p))).collect(),
        },
        before: None,
    }
}

fn data(seed: u8, len: usize) -> Bytes {
    (0..len)
        .map(|n| seed ^ (n / 7) as u8)
        .collect::<Vec<_>>()
        .into()
}

/// A folder with one file and two records in it: 5 KiB at page 0, 512 bytes at page 3.
fn written() -> (tempfile::TempDir, Folder, [Bytes; 2]) {
    let (dir, folder) = folder();
    let create = DiskRequest::CreateFile {
        file: FILE,
        bytes: ByteCount(FILE_BYTES),
    };
    assert!(matches!(folder.request(&create), Outcome::Done));
    let (first, second) = (data(1, 5120), data(2, 512));
    for (seq, page, bytes) in [(1, 0, &first), (2, 3, &second)] {
        let at = u64::from(page) * 4096;
        folder
            .append(
                FILE,
                at,
                &head(seq, page, bytes),
                &Parts::one(bytes.clone()),
            )
            .unwrap();
    }
    folder.sync(FILE).unwrap();
    (dir, folder, [first, second])
}

fn damage(folder: &Folder, at: u64) {
    let file = folder.file(FILE).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

fn scan(folder: &Folder) -> engine::effect::Scanned {
    match folder.request(&DiskRequest::ScanFile(FILE)) {
        Outcome::Scanned(scanned) => scanned,
        other => panic!("{other:?}"),
    }
}

fn read_of(first: &Bytes, want: std::ops::Range<u32>) -> LocalRead {
    LocalRead {
        file: LocalFile::Journal(FILE),
        at: 4096,
        pieces: first
            .chunks(4096)
            .map(|p| (p.len() as u32, Sum(crc32c::crc32c(p))))
            .collect(),
        want,
    }
}

#[test]
fn what_was_appended_is_read_back_and_scanned() {
    let (_dir, folder, [first, second]) = written();
    for outcome in [
        folder.read(&read_of(&first, 100..4200)),
        folder.try_read(&read_of(&first, 100..4200)).unwrap(),
    ] {
        let Outcome::Read(bytes) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(bytes, first.slice(100..4200));
    }
    let scanned = scan(&folder);
    assert_eq!(scanned.lap, Some(Lap(1)));
    let heads: Vec<RecordHead> = scanned.records.iter().map(|r| r.head.clone()).collect();
    assert_eq!(heads, [head(1, 0, &first), head(2, 3, &second)]);
}

#[test]
fn damage_is_told_by_piece_and_never_handed_out() {
    let (_dir, folder, [first, _]) = written();
    damage(&folder, 2 * 4096 + 5);
    let outcome = folder.read(&read_of(&first, 0..10));
    assert!(
        matches!(outcome, Outcome::ReadDamaged { piece: 1 }),
        "{outcome:?}"
    );
    assert_eq!(scan(&folder).records[0].bad_pieces, [1]);
}

#[test]
fn a_read_behind_the_end_of_the_file_is_damage() {
    let (_dir, folder, [first, _]) = written();
    let mut read = read_of(&first, 0..10);
    read.at = FILE_BYTES - 4096;
    assert!(matches!(folder.read(&read), Outcome::ReadDamaged { .. }));
    read.want = 0..u32::MAX;
    assert!(matches!(
        folder.read(&read),
        Outcome::Disk(DiskError::Failed)
    ));
}

#[test]
fn a_sealed_file_is_known_by_its_index() {
    let (_dir, folder, [first, second]) = written();
    let index = FileIndex {
        file: FILE,
        lap: Lap(1),
        durable: Seq(2),
        records: vec![head(1, 0, &first), head(2, 3, &second)],
    };
    let write = DiskRequest::WriteIndex(Arc::new(index));
    assert!(matches!(folder.request(&write), Outcome::Done));
    assert_eq!(scan(&folder).index_durable, Some(Seq(2)));
}

#[test]
fn another_volumes_records_are_not_taken_for_ours() {
    let (dir, folder, _) = written();
    drop(folder);
    let other = JournalKey::new(VolumeId([9; 16]), [2; 16]);
    let folder = Folder::open(&dir.path().join("v"), other).unwrap();
    assert_eq!(scan(&folder).records, []);
}

#[test]
fn files_are_listed_with_their_size_until_they_are_removed() {
    let (_dir, folder, _) = written();
    let list = |folder: &Folder| match folder.request(&DiskRequest::ListFiles) {
        Outcome::Files(files) => files,
        other => panic!("{other:?}"),
    };
    let found = FileFound {
        file: FILE,
        bytes: ByteCount(FILE_BYTES),
    };
    assert_eq!(list(&folder), [found]);
    for _ in 0..2 {
        let gone = folder.request(&DiskRequest::RemoveFile(FILE));
        assert!(matches!(gone, Outcome::Done));
    }
    assert_eq!(list(&folder), []);
    let missing = folder.request(&DiskRequest::ScanFile(FILE));
    assert!(matches!(missing, Outcome::Disk(DiskError::Absent)));
}

fn note(serial: u64) -> Note {
    Note {
        serial,
        container: Container::new("vm01", VolumeId([1; 16])),
        geometry: Geometry::standard(512, BlockCount(1 << 20)),
        drawn: Vec::new(),
        joined: Vec::new(),
        held: Some(Generation(serial)),
        committed: None,
        dead: Vec::new(),
        intent: None,
        unborn: false,
        aside: Vec::new(),
    }
}

fn read_note(folder: &Folder) -> Option<u64> {
    match folder.request(&DiskRequest::ReadNote) {
        Outcome::Note(note) => note.map(|n| n.serial),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_torn_note_leaves_the_one_before() {
    let (dir, folder) = folder();
    assert_eq!(read_note(&folder), None);
    for serial in 1..=5 {
        let write = DiskRequest::WriteNote(Arc::new(note(serial)));
        assert!(matches!(folder.request(&write), Outcome::Done));
        assert_eq!(read_note(&folder), Some(serial));
    }
    for slot in ["note.0", "note.1"] {
        let path = dir.path().join("v").join(slot);
        let whole = std::fs::read(&path).unwrap();
        for len in [0, 1, whole.len() / 2 - 4000, whole.len() - 1] {
            std::fs::write(&path, &whole[..len]).unwrap();
            assert!(matches!(read_note(&folder), Some(4 | 5)));
        }
        std::fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn a_note_outlives_the_rot_of_any_of_its_pages() {
    let (dir, folder) = folder();
    for serial in 1..=2 {
        let write = DiskRequest::WriteNote(Arc::new(note(serial)));
        assert!(matches!(folder.request(&write), Outcome::Done));
    }
    let path = dir.path().join("v").join("note.1");
    let whole = std::fs::read(&path).unwrap();
    assert_eq!(whole.len() % 8192, 0, "two copies of whole pages");
    for page in 0..whole.len() / 4096 {
        let mut rotten = whole.clone();
        rotten[page * 4096 + 40] ^= 1;
        std::fs::write(&path, &rotten).unwrap();
        assert_eq!(read_note(&folder), Some(2), "page {page}");
    }
}

#[test]
fn a_note_that_was_not_synced_does_not_cost_the_one_before() {
    let (dir, folder) = folder();
    let write = |folder: &Folder, serial| {
        let write = DiskRequest::WriteNote(Arc::new(note(serial)));
        matches!(folder.request(&write), Outcome::Done)
    };
    let slot = |n: u8| dir.path().join("v").join(format!("note.{n}"));
    assert_eq!(read_note(&folder), None);
    assert!(write(&folder, 1) && write(&folder, 2));
    let synced = if std::fs::read(slot(0)).unwrap() == note::slot(&note(2)) {
        0
    } else {
        1
    };
    let open = slot(1 - synced);
    // The third cannot be written.
    std::fs::remove_file(&open).unwrap();
    std::fs::create_dir(&open).unwrap();
    assert!(!write(&folder, 3));
    // As if it had been written, and its sync failed: reads show it, and a loss of power would take it.
    std::fs::remove_dir(&open).unwrap();
    std::fs::write(&open, note::slot(&note(3))).unwrap();
    assert!(write(&folder, 4));
    let left = std::fs::read(slot(synced)).unwrap();
    assert!(left == note::slot(&note(2)), "the last synced note is gone");
    assert_eq!(read_note(&folder), Some(4));
}

#[test]
fn kept_leaves_are_checked_when_they_come_back() {
    let (dir, folder) = folder();
    let leaf = Meta::Leaf(Arc::new(Leaf {
        index: LeafIndex(4),
        ..Leaf::default()
    }));
    let (_, hash) = encode_meta(&leaf);
    let keep = |hash, meta| folder.request(&DiskRequest::KeepMeta { hash, meta });
    let load = || {
        folder.request(&DiskRequest::LoadMeta {
            hash,
            expect: Expect::Leaf(hash),
        })
    };
    assert!(matches!(load(), Outcome::Disk(DiskError::Absent)));
    assert!(matches!(keep(hash, leaf.clone()), Outcome::Done));
    assert!(matches!(load(), Outcome::Meta(found, _) if found == leaf));
    assert!(matches!(keep(Hash([0; 16]), leaf), Outcome::Disk(_)));
    let path = dir.path().join("v/meta").join(format!("{hash:?}"));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(load(), Outcome::Disk(DiskError::Failed)));
    for _ in 0..2 {
        let dropped = folder.request(&DiskRequest::DropMeta(hash));
        assert!(matches!(dropped, Outcome::Done));
    }
    assert!(matches!(load(), Outcome::Disk(DiskError::Absent)));
}

#[test]
fn a_file_that_cannot_be_made_is_not_left_behind() {
    let (_dir, folder) = folder();
    // Larger than a file may be: refused at once, without filling the disk for everybody else.
    let create = DiskRequest::CreateFile {
        file: FILE,
        bytes: ByteCount(1 << 62),
    };
    let outcome = folder.request(&create);
    assert!(matches!(outcome, Outcome::Disk(_)), "{outcome:?}");
    let files = folder.request(&DiskRequest::ListFiles);
    assert!(matches!(files, Outcome::Files(list) if list.is_empty()));
}

#[test]
fn a_folder_that_was_given_up_stays_removed() {
    let (dir, folder, [first, _]) = written();
    folder.close();
    Folder::remove(&dir.path().join("v")).unwrap();
    assert!(folder.try_read(&read_of(&first, 0..10)).is_none());
    let create = DiskRequest::CreateFile {
        file: FileId(9),
        bytes: ByteCount(FILE_BYTES),
    };
    assert!(matches!(
        folder.request(&create),
        Outcome::Disk(DiskError::Failed)
    ));
    assert!(folder.sync(FILE).is_err());
    assert!(!dir.path().join("v").exists());
}
