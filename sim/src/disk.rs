//! One volume's folder on a local disk that forgets what was not synced.
//!
//! Pages hold typed content. What reads see (`cached`) and what a power loss leaves (`durable`) are kept apart: a page
//! that was written and not synced has both, and a failed sync may leave a page whose two contents differ for good though
//! the kernel calls it clean. Damage lies over the pages and never in them, so that healing the disk is exact.

use crate::choice::{Choices, Die};
use crate::payload::{Blocks, Stamp, Summing, push_stamps};
use engine::effect::{
    CachedFrame, DiskError, DiskRequest, FileFound, LocalFile, LocalRead, Meta, Outcome,
};
use engine::ids::{FileId, Hash};
use engine::journal::index::FileIndex;
use engine::journal::note::{Intent, Note};
use engine::journal::record::{JournalKey, PAGE_BYTES, RecordBody, RecordHead};
use engine::payload::Parts;
use engine::units::{ByteCount, Geometry};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod aside;
mod bytes;
mod harm;
mod notes;

pub use harm::{Harm, Harmed};
use notes::{LANDED, Notes};

/// A page of a file.
#[derive(Clone, PartialEq, Debug)]
pub enum Page {
    /// Never written, or zeros.
    Zero,
    /// One block of 4096 bytes.
    Block(Stamp),
    /// Eight blocks of 512 bytes.
    Blocks(Box<[Stamp; 8]>),
    /// A record's header.
    Head(Arc<RecordHead>),
    /// A sealed file's index; the number tells its pages apart.
    Index(Arc<FileIndex>, u32),
    /// The header of a cache slot.
    Slot(Arc<CachedFrame>),
    /// Bytes that nobody wrote.
    Garbage(u64),
}

/// Damage that lies over a page until it is written again or the disk is healed.
#[derive(Clone, PartialEq, Debug)]
pub enum Damage {
    /// The page's bytes changed.
    Rot,
    /// The page cannot be read.
    Latent,
    /// A write for it went elsewhere, or one for elsewhere came here: it holds this.
    Other(Page),
}

#[derive(Clone, Debug)]
struct Dirty {
    durable: Page,
    /// Contents written since, oldest first, with the number of the write.
    versions: Vec<(u64, Page)>,
}

/// A file.
#[derive(Clone, Debug, Default)]
struct File {
    cached: Vec<Page>,
    dirty: BTreeMap<u32, Dirty>,
    /// Clean pages whose durable content is another one: what a failed sync left.
    lies: BTreeMap<u32, Page>,
    damage: BTreeMap<u32, Damage>,
    /// Counts writes; a sync covers those up to its mark.
    writes: u64,
}

/// Work on the disk, from its start to its end.
#[derive(Clone, Debug)]
pub enum Local {
    /// A record's pages.
    Append {
        /// The file.
        file: FileId,
        /// First page.
        page: u32,
        /// Head and data.
        pages: Vec<Page>,
    },
    /// A sync, and the last write that it covers.
    Sync {
        /// The file.
        file: FileId,
        /// The mark.
        mark: u64,
    },
    /// A read.
    Read(LocalRead),
    /// Anything else.
    Disk(DiskRequest<Blocks>),
}

/// How a local operation ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// As asked.
    Good,
    /// An I/O error; the number seeds what it leaves behind.
    Fails(u64),
    /// No space left.
    Full,
}

/// How a process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// kill -9: what was written stays readable.
    Kill,
    /// Power loss: any subset of what was not synced stays.
    Power,
}

/// What a power loss leaves of the writes that no sync covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Survival {
    /// Nothing.
    None,
    /// Everything.
    All,
    /// Everything but the write of that number (modulo their count).
    AllBut(u64),
    /// Any subset, page by page; sectors of a page apart; sometimes garbage.
    Any,
}

/// One volume's folder.
#[derive(Clone, Debug)]
pub struct Disk {
    unit: u32,
    geometry: Geometry,
    summing: Summing,
    key: JournalKey,
    files: BTreeMap<FileId, File>,
    cache: File,
    cache_slots: u32,
    notes: Notes,
    metas: BTreeMap<Hash, Meta>,
    /// Dice of this disk are told apart by this number.
    entity: u64,
    events: u64,
    /// Something was done that must not be (P7).
    broken: Option<String>,
    /// Where appends failed: what they left there was refused.
    refused: BTreeSet<(FileId, u32)>,
}

const PAGE: u64 = PAGE_BYTES as u64;

impl Disk {
    /// An empty folder for a volume of that shape.
    pub fn new(
        geometry: Geometry,
        cache_slots: u32,
        summing: Summing,
        key: JournalKey,
        entity: u64,
    ) -> Self {
        Self {
            key,
            unit: geometry.block_bytes,
            geometry,
            summing,
            files: BTreeMap::new(),
            cache: File::default(),
            cache_slots,
            notes: Notes::default(),
            metas: BTreeMap::new(),
            entity,
            events: 0,
            broken: None,
            refused: BTreeSet::new(),
        }
    }

    /// Whether nothing was ever kept here.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.notes.is_empty()
    }

    /// The pages of a record.
    pub fn append(&self, file: FileId, at: u64, head: RecordHead, data: &Parts<Blocks>) -> Local {
        assert!(
            at.is_multiple_of(PAGE),
            "an append that is not page-aligned: {at}"
        );
        let mut pages = vec![Page::Head(Arc::new(head))];
        let mut stamps = Vec::new();
        push_stamps(data, self.unit, &mut stamps);
        self.push_pages(&stamps, &mut pages);
        Local::Append {
            file,
            page: (at / PAGE) as u32,
            pages,
        }
    }

    /// A sync that starts now.
    pub fn sync(&self, file: FileId) -> Local {
        Local::Sync {
            file,
            mark: self.files.get(&file).map_or(0, |f| f.writes),
        }
    }

    fn push_pages(&self, stamps: &[Stamp], pages: &mut Vec<Page>) {
        if self.unit == PAGE_BYTES {
            pages.extend(stamps.iter().map(|s| Page::Block(*s)));
            return;
        }
        for sectors in stamps.chunks(8) {
            let mut page = [Stamp::ZERO; 8];
            page[..sectors.len()].copy_from_slice(sectors);
            pages.push(Page::Blocks(Box::new(page)));
        }
    }

    /// Carries an operation out. Its effect is at this moment: a crash before it finds it in flight.
    pub fn finish(&mut self, local: Local, fate: Fate) -> Outcome<Blocks> {
        match local {
            Local::Append { file, page, pages } => self.finish_append(file, page, pages, fate),
            Local::Sync { file, mark } => self.finish_sync(file, mark, fate),
            Local::Read(read) => self.finish_read(&read, fate),
            Local::Disk(request) => self.finish_request(request, fate),
        }
    }

    fn finish_append(
        &mut self,
        file: FileId,
        page: u32,
        pages: Vec<Page>,
        fate: Fate,
    ) -> Outcome<Blocks> {
        self.check_aside(file);
        let Some(f) = self.files.get_mut(&file) else {
            return Outcome::Disk(DiskError::Absent);
        };
        assert!(
            page as usize + pages.len() <= f.cached.len(),
            "an append behind the end of {file:?}: page {page}+{} of {}",
            pages.len(),
            f.cached.len()
        );
        match fate {
            Fate::Good => {
                self.refused.remove(&(file, page));
                f.write(page, pages);
                Outcome::Done
            }
            // A short write leaves a beginning.
            Fate::Fails(seed) => {
                self.refused.insert((file, page));
                let kept = seed as usize % (pages.len() + 1);
                f.write(page, pages.into_iter().take(kept).collect());
                Outcome::Disk(DiskError::Failed)
            }
            Fate::Full => Outcome::Disk(DiskError::Full),
        }
    }

    fn finish_sync(&mut self, file: FileId, mark: u64, fate: Fate) -> Outcome<Blocks> {
        let Some(f) = self.files.get_mut(&file) else {
            return Outcome::Disk(DiskError::Absent);
        };
        match fate {
            Fate::Good => {
                f.make_durable(mark);
                Outcome::Done
            }
            _ => {
                f.fail_sync(mark, seed_of(fate));
                Outcome::Disk(DiskError::Failed)
            }
        }
    }

    fn finish_read(&mut self, read: &LocalRead, fate: Fate) -> Outcome<Blocks> {
        if fate != Fate::Good {
            return Outcome::ReadDamaged { piece: 0 };
        }
        let file = match read.file {
            LocalFile::Journal(id) => self.files.get(&id),
            LocalFile::Cache => Some(&self.cache),
        };
        let Some(file) = file else {
            return Outcome::ReadDamaged { piece: 0 };
        };
        let mut all = Vec::new();
        let mut at = read.at;
        for (number, (len, sum)) in read.pieces.iter().enumerate() {
            let from = all.len();
            let readable = file.read(at, u64::from(*len), self.unit, &mut all);
            if !readable || self.summing.piece(self.unit, &all[from..]) != *sum {
                return Outcome::ReadDamaged {
                    piece: number as u32,
                };
            }
            at += u64::from(*len);
        }
        let unit = self.unit;
        assert!(
            read.want.start.is_multiple_of(unit)
                && read.want.end.is_multiple_of(unit)
                && read.want.start < read.want.end
                && read.want.end as usize <= all.len() * unit as usize,
            "a read that wants {:?} of {} bytes",
            read.want,
            all.len() * unit as usize
        );
        let want = (read.want.start / unit) as usize..(read.want.end / unit) as usize;
        Outcome::Read(Blocks::from_stamps(unit, &all[want]))
    }

    fn finish_request(&mut self, request: DiskRequest<Blocks>, fate: Fate) -> Outcome<Blocks> {
        let refusal = match fate {
            Fate::Good => None,
            Fate::Fails(_) => Some(DiskError::Failed),
            Fate::Full => Some(DiskError::Full),
        };
        match request {
            DiskRequest::ReadNote => {
                if let Some(e) = refusal {
                    return Outcome::Disk(e);
                }
                Outcome::Note(self.notes.read())
            }
            DiskRequest::WriteNote(note) => {
                if let Some(e) = refusal {
                    self.notes.leave(&note, seed_of(fate));
                    return Outcome::Disk(e);
                }
                self.check_left(&note);
                self.notes.write(&note);
                Outcome::Done
            }
            DiskRequest::ListFiles => {
                if let Some(e) = refusal {
                    return Outcome::Disk(e);
                }
                let found = |(id, f): (&FileId, &File)| FileFound {
                    file: *id,
                    bytes: ByteCount(f.cached.len() as u64 * PAGE),
                };
                Outcome::Files(self.files.iter().map(found).collect())
            }
            DiskRequest::CreateFile { file, bytes } => {
                if let Some(e) = refusal {
                    return Outcome::Disk(e);
                }
                self.create(file, (bytes.0 / PAGE) as usize);
                Outcome::Done
            }
            DiskRequest::ScanFile(file) => {
                if let Some(e) = refusal {
                    return Outcome::Disk(e);
                }
                match self.files.get(&file) {
                    Some(f) => {
                        Outcome::Scanned(bytes::scan(file, f, self.unit, self.summing, &self.key))
                    }
                    None => Outcome::Disk(DiskError::Absent),
                }
            }
            DiskRequest::WriteIndex(index) => {
                let Some(f) = self.files.get_mut(&index.file) else {
                    return Outcome::Disk(DiskError::Absent);
                };
                if let Some(e) = refusal {
                    return Outcome::Disk(e);
                }
                if let Some((page, pages)) = bytes::index_pages(&index, &self.key, f.cached.len()) {
                    f.write(page, pages);
                }
                Outcome::Done
            }
            DiskRequest::RemoveFile(file) => {
                if let Some(e) = refusal {
                    return Outcome::Disk(e);
                }
                self.check_aside(file);
                self.files.remove(&file);
                Outcome::Done
            }
            DiskRequest::KeepMeta { hash, meta } => {
                if let Some(e) = refusal {
                    return Outcome::Disk(e);
                }
                self.metas.insert(hash, meta);
                Outcome::Done
            }
            DiskRequest::LoadMeta { hash, expect: _ } => match (refusal, self.metas.get(&hash)) {
                (Some(e), _) => Outcome::Disk(e),
                (None, Some(meta)) => Outcome::Meta(meta.clone(), hash),
                (None, None) => Outcome::Disk(DiskError::Absent),
            },
            DiskRequest::DropMeta(hash) => {
                if let Some(e) = refusal {
                    return Outcome::Disk(e);
                }
                self.metas.remove(&hash);
                Outcome::Done
            }
            DiskRequest::ListCache => {
                if let Some(e) = refusal {
                    return Outcome::Disk(e);
                }
                Outcome::Cache(self.cached_frames())
            }
            DiskRequest::FillCache { slot, frame, data } => {
                let mut pages = vec![Page::Slot(Arc::new(*frame))];
                let mut stamps = Vec::new();
                push_stamps(&data, self.unit, &mut stamps);
                self.push_pages(&stamps, &mut pages);
                assert!(
                    slot < self.cache_slots,
                    "slot {slot} of {}",
                    self.cache_slots
                );
                assert!(
                    pages.len() <= self.slot_pages(),
                    "a frame larger than its slot"
                );
                let page = slot as usize * self.slot_pages();
                self.cache.grow(page + self.slot_pages());
                if let Some(e) = refusal {
                    return Outcome::Disk(e);
                }
                self.cache.write(page as u32, pages);
                Outcome::Done
            }
            DiskRequest::ClearCache { slot } => {
                if let Some(e) = refusal {
                    return Outcome::Disk(e);
                }
                let page = slot as usize * self.slot_pages();
                self.cache.grow(page + self.slot_pages());
                self.cache.write(page as u32, vec![Page::Zero]);
                Outcome::Done
            }
        }
    }

    fn slot_pages(&self) -> usize {
        1 + self.geometry.frame_grains as usize
    }

    fn create(&mut self, file: FileId, pages: usize) {
        // A remnant of an interrupted creation is made anew.
        let f = File {
            cached: vec![Page::Zero; pages],
            ..File::default()
        };
        self.files.insert(file, f);
    }

    /// The newest valid note.
    pub fn note(&self) -> Option<Arc<Note>> {
        self.notes.newest()
    }

    /// Whether the newest note says that the disk failed and the history is being saved.
    pub fn is_saving(&self) -> bool {
        self.note()
            .is_some_and(|note| matches!(note.intent, Some(Intent::Emergency(_))))
    }

    fn cached_frames(&self) -> Vec<(u32, CachedFrame)> {
        let pages = self.slot_pages();
        let valid = |slot: u32| match self.cache.page(slot * pages as u32) {
            Some(Page::Slot(frame)) => Some((slot, (**frame).clone())),
            _ => None,
        };
        (0..(self.cache.cached.len() / pages) as u32)
            .filter_map(valid)
            .collect()
    }

    /// Whether the journal holds a record of that seq and no void of it.
    pub fn holds_a_write(&self, seq: u64) -> bool {
        let mut holds = false;
        for (id, file) in &self.files {
            for page in 0..file.cached.len() as u32 {
                if let Some(Page::Head(head)) = file.page(page)
                    && head.file == *id
                    && head.page == page
                    && head.seq.0 == seq
                {
                    if head.body == RecordBody::Void {
                        return false;
                    }
                    holds = true;
                }
            }
        }
        holds
    }

    /// The seqs of the records that lie in that file, whatever lap they are of.
    pub fn seqs_in(&self, file: FileId) -> Vec<u64> {
        let found = self.files.get(&file);
        let pages = found.map_or(0, |found| found.cached.len() as u32);
        let seq = |page| match found.and_then(|found| found.page(page)) {
            Some(Page::Head(head)) if head.file == file && head.page == page => Some(head.seq.0),
            _ => None,
        };
        (0..pages).filter_map(seq).collect()
    }

    /// What the end of the process leaves, its operations in flight included. Says how many pages were not synced.
    pub fn end(
        &mut self,
        in_flight: Vec<Local>,
        end: End,
        survival: Survival,
        choices: &mut Choices,
    ) -> u64 {
        self.events += 1;
        let crash = self.entity << 32 | self.events << 16;
        for (n, local) in in_flight.into_iter().enumerate() {
            self.land(local, end, survival, crash | n as u64, choices);
        }
        if end == End::Kill {
            return 0;
        }
        self.notes.lose_power();
        let unit = self.unit;
        let mut number = 0;
        for file in self.files.values_mut().chain([&mut self.cache]) {
            file.lose_power(unit, survival, crash, &mut number, choices);
        }
        number
    }

    fn land(&mut self, local: Local, end: End, survival: Survival, n: u64, choices: &mut Choices) {
        let seed = match survival {
            Survival::None => 0,
            Survival::All | Survival::AllBut(_) => u64::MAX,
            Survival::Any => choices.pick(Die::Landing, n, 0, 1 << 20),
        };
        match local {
            Local::Append { file, page, pages } => {
                let Some(f) = self.files.get_mut(&file) else {
                    return;
                };
                // A process dies between the pages that the kernel took; a disk takes them in any order.
                let kept = match survival {
                    Survival::None => 0,
                    Survival::All | Survival::AllBut(_) => pages.len(),
                    Survival::Any => seed as usize % (pages.len() + 1),
                };
                let any = end == End::Power && seed & 0x8_0000 != 0 && survival == Survival::Any;
                if any {
                    f.write(page, pages);
                } else {
                    f.write(page, pages.into_iter().take(kept).collect());
                }
            }
            Local::Sync { file, mark } => {
                if let Some(f) = self.files.get_mut(&file)
                    && seed & 1 == 1
                {
                    f.make_durable(mark);
                }
            }
            Local::Read(_) => {}
            Local::Disk(request) => self.land_request(request, seed),
        }
    }

    fn land_request(&mut self, request: DiskRequest<Blocks>, seed: u64) {
        match request {
            DiskRequest::WriteNote(note) => {
                let seed = if seed == u64::MAX { LANDED } else { seed };
                self.notes.leave(&note, seed);
            }
            DiskRequest::CreateFile { file, bytes } => {
                // Entry without size, a beginning, or all of it.
                let pages = (bytes.0 / PAGE) as usize;
                match seed % 4 {
                    0 => {}
                    1 => self.create(file, 0),
                    2 => self.create(file, seed as usize / 4 % pages.max(1)),
                    _ => self.create(file, pages),
                }
            }
            _ if seed & 1 == 0 => {}
            request @ (DiskRequest::RemoveFile(_)
            | DiskRequest::KeepMeta { .. }
            | DiskRequest::DropMeta(_)
            | DiskRequest::WriteIndex(_)
            | DiskRequest::FillCache { .. }
            | DiskRequest::ClearCache { .. }) => {
                let _ = self.finish_request(request, Fate::Good);
            }
            DiskRequest::ReadNote
            | DiskRequest::ListFiles
            | DiskRequest::ScanFile(_)
            | DiskRequest::LoadMeta { .. }
            | DiskRequest::ListCache => {}
        }
    }

    /// Does harm to a page of the note's slots; says whether it did (see [`Harm`]).
    pub fn harm_note(&mut self, harm: Harm, n: u64) -> bool {
        self.notes.harm(harm, n)
    }

    /// Damages a page of the frame cache; the number chooses which.
    pub fn damage_cache(&mut self, n: u64, damage: Damage) {
        let pages = self.cache.cached.len() as u64;
        if pages > 0 {
            self.cache.damage.insert((n % pages) as u32, damage);
        }
    }

    /// Takes all damage off.
    pub fn heal(&mut self) {
        for file in self.files.values_mut().chain([&mut self.cache]) {
            file.damage.clear();
        }
    }

    /// How many writes a file has taken.
    pub fn writes_of(&self, file: FileId) -> u64 {
        self.files.get(&file).map_or(0, |f| f.writes)
    }

    /// Bytes of a block.
    pub const fn unit(&self) -> u32 {
        self.unit
    }
}

fn seed_of(fate: Fate) -> u64 {
    match fate {
        Fate::Fails(seed) => seed,
        Fate::Good | Fate::Full => 0,
    }
}

impl File {
    fn grow(&mut self, pages: usize) {
        if self.cached.len() < pages {
            self.cached.resize(pages, Page::Zero);
        }
    }

    fn write(&mut self, page: u32, pages: Vec<Page>) {
        self.writes += 1;
        for (at, new) in (page..).zip(pages) {
            let Some(cached) = self.cached.get_mut(at as usize) else {
                return;
            };
            let old = std::mem::replace(cached, new.clone());
            let durable = self.lies.remove(&at);
            self.damage.remove(&at);
            self.dirty
                .entry(at)
                .or_insert_with(|| Dirty {
                    durable: durable.unwrap_or(old),
                    versions: Vec::new(),
                })
                .versions
                .push((self.writes, new));
        }
    }

    fn make_durable(&mut self, mark: u64) {
        self.dirty.retain(|_, dirty| {
            let covered = dirty
                .versions
                .iter()
                .take_while(|(n, _)| *n <= mark)
                .count();
            if covered > 0 {
                let (_, newest) = dirty
                    .versions
                    .drain(..covered)
                    .next_back()
                    .expect("counted");
                dirty.durable = newest;
            }
            !dirty.versions.is_empty()
        });
    }

    fn fail_sync(&mut self, mark: u64, seed: u64) {
        let (cached, lies) = (&mut self.cached, &mut self.lies);
        let mut bits = seed | 1 << 63;
        self.dirty.retain(|page, dirty| {
            if dirty.versions.last().is_none_or(|(n, _)| *n > mark) {
                return true;
            }
            bits = bits.rotate_right(2).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let (_, new) = dirty.versions.pop().expect("looked at");
            let durable = if bits & 1 == 0 {
                new.clone()
            } else {
                dirty.durable.clone()
            };
            if durable != new {
                if bits & 2 == 0 {
                    // The kernel drops the page: reads see what the disk has.
                    cached[*page as usize] = durable;
                } else {
                    lies.insert(*page, durable);
                }
            }
            false
        });
    }

    fn lose_power(
        &mut self,
        unit: u32,
        survival: Survival,
        crash: u64,
        number: &mut u64,
        choices: &mut Choices,
    ) {
        for (page, durable) in std::mem::take(&mut self.lies) {
            self.cached[page as usize] = durable;
        }
        for (page, dirty) in std::mem::take(&mut self.dirty) {
            *number += 1;
            let entity = crash << 8 ^ *number;
            let newest = dirty
                .versions
                .last()
                .map(|(_, p)| p.clone())
                .expect("a dirty page has one");
            let left = match survival {
                Survival::None => dirty.durable,
                Survival::All => newest,
                Survival::AllBut(n) if n == *number - 1 => dirty.durable,
                Survival::AllBut(_) => newest,
                Survival::Any => match choices.pick(Die::Landing, entity, 1, 16) {
                    0..6 => dirty.durable,
                    6..13 => newest,
                    13 => tear(
                        unit,
                        &dirty.durable,
                        &newest,
                        choices.pick(Die::Landing, entity, 2, 256),
                    ),
                    14 => {
                        let n = choices.pick(Die::Landing, entity, 2, dirty.versions.len() as u64);
                        dirty.versions[n as usize].1.clone()
                    }
                    _ => Page::Garbage(choices.pick(Die::Landing, entity, 2, u64::MAX)),
                },
            };
            self.cached[page as usize] = left;
        }
    }

    fn page(&self, page: u32) -> Option<&Page> {
        match self.damage.get(&page) {
            Some(Damage::Other(other)) => Some(other),
            Some(Damage::Rot | Damage::Latent) => None,
            None => self.cached.get(page as usize),
        }
    }

    // Appends the stamps of `len` bytes from `at`; whether all could be read. Pages of another type read as garbage.
    fn read(&self, at: u64, len: u64, unit: u32, out: &mut Vec<Stamp>) -> bool {
        let per_page = PAGE_BYTES / unit;
        let first = at / u64::from(unit);
        for block in first..first + len / u64::from(unit) {
            let (page, sector) = (
                (block / u64::from(per_page)) as u32,
                block % u64::from(per_page),
            );
            let held = match self.damage.get(&page) {
                Some(Damage::Latent) => return false,
                Some(Damage::Rot) => {
                    out.push(Stamp::garbage(block));
                    continue;
                }
                Some(Damage::Other(other)) => Some(other),
                None => self.cached.get(page as usize),
            };
            let Some(page) = held else {
                return false;
            };
            out.push(match page {
                Page::Zero => Stamp::ZERO,
                Page::Block(stamp) => *stamp,
                Page::Blocks(sectors) => sectors[sector as usize],
                Page::Garbage(n) => Stamp::garbage(*n),
                Page::Head(_) | Page::Index(..) | Page::Slot(_) => Stamp::garbage(block),
            });
        }
        true
    }
}

// Sectors of both; a page that is one block or no data is torn into garbage.
fn tear(unit: u32, old: &Page, new: &Page, bits: u64) -> Page {
    if unit == 512
        && let Page::Blocks(new) = new
    {
        let mut torn = new.clone();
        for (i, sector) in torn.iter_mut().enumerate() {
            if bits >> i & 1 == 0 {
                *sector = match old {
                    Page::Blocks(old) => old[i],
                    Page::Zero => Stamp::ZERO,
                    _ => Stamp::garbage(bits ^ i as u64),
                };
            }
        }
        return Page::Blocks(torn);
    }
    Page::Garbage(bits)
}
