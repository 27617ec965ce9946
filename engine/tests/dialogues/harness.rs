//! A world in memory for one volume: it answers effects from bytes that the engine's own codecs make and read, at once or
//! when the test says so.
//!
//! Held    effects that [`Harness::hold`] selects stay in [`Harness::open`] until [`Harness::release`] or [`Harness::fail`].
//! Crash   [`Harness::kill`] keeps every byte written; [`Harness::power_loss`] only what a sync covered.

use engine::command::{BirthSpec, Command, Reply, Verdict, Wish};
use engine::effect::{
    CachedFrame, DiskError, DiskRequest, Effect, Expect, FileFound, FrameGot, Gate, ListRow,
    LocalFile, LocalRead, Notice, Outcome, StoreError, StoreRequest,
};
use engine::ids::{Container, EffectId, FileId, Hash, StateDirId, Tag, VolumeId, WishId};
use engine::journal::note::Note;
use engine::journal::record::{self, JournalKey, PAGE_BYTES};
use engine::journal::{index, scan};
use engine::layers::split;
use engine::object::names::ObjectName;
use engine::object::{Target, decode_meta, encode_body, encode_meta, frame};
use engine::payload::{Part, Parts, Payload};
use engine::sum::{Sum, Sums};
use engine::table::types::VolumeKind;
use engine::time::{Duration, Instant, WallTime};
use engine::units::{BlockCount, ByteCount, Extent, Geometry};
use engine::{Life, Limits, Volume};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// A handle to bytes.
#[derive(Clone, Debug)]
pub(crate) struct Buf(Arc<[u8]>, Range<usize>);

impl Buf {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self(bytes.into(), 0..bytes.len())
    }
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0[self.1.clone()]
    }
}

impl Payload for Buf {
    fn len(&self) -> ByteCount {
        ByteCount(self.1.len() as u64)
    }
    fn slice(&self, range: Range<u64>) -> Self {
        let start = self.1.start;
        Self(
            self.0.clone(),
            start + range.start as usize..start + range.end as usize,
        )
    }
}

pub(crate) fn flat(parts: &Parts<Buf>) -> Vec<u8> {
    let mut out = Vec::new();
    for part in &parts.0 {
        match part {
            Part::Data(buf) => out.extend_from_slice(buf.bytes()),
            Part::Zeros(count) => out.resize(out.len() + count.0 as usize, 0),
        }
    }
    out
}

pub(crate) fn sum(bytes: &[u8]) -> Sum {
    Sum(crc32c::crc32c(bytes))
}

struct Bytes(Vec<u8>);

impl Target<Buf> for Bytes {
    fn sum(&mut self, content: &Parts<Buf>) -> Sum {
        sum(&flat(content))
    }
    fn put(&mut self, bytes: Vec<u8>) {
        self.0.extend_from_slice(&bytes);
    }
    fn put_content(&mut self, content: &Parts<Buf>) {
        self.0.extend_from_slice(&flat(content));
    }
}

/// What the store holds: shared by all hosts.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) objects: BTreeMap<(Container, String), Vec<u8>>,
    /// What every request is answered, if anything is wrong.
    pub(crate) away: Option<StoreError>,
    /// Names that no listing shows yet.
    pub(crate) unlisted: BTreeSet<String>,
    /// When a listing says that everything was written.
    pub(crate) written: WallTime,
    /// How often it was asked for anything.
    pub(crate) requests: u64,
}

/// A journal file: as written, and as the last sync left it.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) written: Vec<u8>,
    durable: Vec<u8>,
}

/// One state directory's disk.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) notes: Vec<Arc<Note>>,
    pub(crate) files: BTreeMap<FileId, File>,
    /// No file can be made.
    pub(crate) full: bool,
    /// No sync succeeds.
    pub(crate) syncs_fail: bool,
    /// Files that a scan cannot read.
    pub(crate) unreadable: BTreeSet<FileId>,
    pub(crate) metas: BTreeMap<Hash, engine::effect::Meta>,
    cache: BTreeMap<u32, (CachedFrame, Vec<u8>)>,
}

impl Disk {
    /// No leaf is kept any more.
    pub(crate) fn forget_leaves(&mut self) {
        let is_leaf = |meta: &engine::effect::Meta| matches!(meta, engine::effect::Meta::Leaf(_));
        self.metas.retain(|_, meta| !is_leaf(meta));
    }
}

struct Pages<'a>(&'a [u8]);

impl scan::PageSource for Pages<'_> {
    fn read(&mut self, at: u64, into: &mut [u8]) -> bool {
        let found = self.0.get(at as usize..at as usize + into.len());
        found.is_some_and(|bytes| {
            into.copy_from_slice(bytes);
            true
        })
    }
    fn has_sum(&mut self, at: u64, len: u32, want: Sum) -> bool {
        let found = self.0.get(at as usize..(at + u64::from(len)) as usize);
        found.is_some_and(|bytes| sum(bytes) == want)
    }
}

type Hold = Box<dyn Fn(&Effect<Buf>) -> bool>;

pub(crate) struct Harness {
    pub(crate) volume: Volume<Buf>,
    pub(crate) geometry: Geometry,
    pub(crate) limits: Limits,
    pub(crate) now: Instant,
    pub(crate) disk: Disk,
    pub(crate) store: Rc<RefCell<Store>>,
    /// Effects that were not answered yet, oldest first.
    pub(crate) open: VecDeque<Effect<Buf>>,
    hold: Hold,
    pub(crate) replies: BTreeMap<u64, Reply<Buf>>,
    pub(crate) told: BTreeMap<u64, Verdict>,
    pub(crate) gates: Vec<Gate>,
    pub(crate) notices: Vec<Notice>,
    container: Container,
    state_dir: u64,
    key: JournalKey,
    lives: u64,
    next: u64,
}

fn small_limits() -> Limits {
    Limits {
        file_bytes: ByteCount(64 << 12),
        files: 8,
        unsynced_bytes: ByteCount(64 << 20),
        cache_slots: 64,
        ..Limits::default()
    }
}

fn id_of(effect: &Effect<Buf>) -> Option<EffectId> {
    match effect {
        Effect::Read { id, .. }
        | Effect::Append { id, .. }
        | Effect::Sync { id, .. }
        | Effect::Disk { id, .. }
        | Effect::Store { id, .. }
        | Effect::Compare { id, .. } => Some(*id),
        _ => None,
    }
}

impl Harness {
    /// A host with an empty state directory.
    pub(crate) fn host(store: Rc<RefCell<Store>>, state_dir: u64, geometry: Geometry) -> Self {
        Self::host_with(store, state_dir, geometry, small_limits())
    }

    pub(crate) fn host_with(
        store: Rc<RefCell<Store>>,
        state_dir: u64,
        geometry: Geometry,
        limits: Limits,
    ) -> Self {
        let container = Container::new("disk", VolumeId([7; 16]));
        Self::host_of(container, store, state_dir, geometry, limits)
    }

    pub(crate) fn host_of(
        container: Container,
        store: Rc<RefCell<Store>>,
        state_dir: u64,
        geometry: Geometry,
        limits: Limits,
    ) -> Self {
        let life = Self::life(state_dir, 1);
        Self {
            volume: Volume::new(container.clone(), life, limits.clone()),
            geometry,
            limits,
            now: Instant(0),
            disk: Disk::default(),
            store,
            open: VecDeque::new(),
            hold: Box::new(|_| false),
            replies: BTreeMap::new(),
            told: BTreeMap::new(),
            gates: Vec::new(),
            notices: Vec::new(),
            key: JournalKey::new(container.id, [3; 16]),
            container,
            state_dir,
            lives: 1,
            next: 0,
        }
    }

    fn life(state_dir: u64, lives: u64) -> Life {
        Life {
            host: format!("host-{state_dir}"),
            state_dir: StateDirId(state_dir),
            seed: state_dir * 1000 + lives,
            wall: WallTime(1_700_000_000),
        }
    }

    /// A host that serves a newly born volume of so many blocks: chunks of 4 grains, leaves of 2 chunks.
    pub(crate) fn born(block_bytes: u32, blocks: u64) -> Self {
        Self::born_with(block_bytes, blocks, small_limits())
    }

    pub(crate) fn born_with(block_bytes: u32, blocks: u64, limits: Limits) -> Self {
        let geometry = Geometry {
            block_bytes,
            capacity: BlockCount(blocks),
            chunk_grains: 4,
            leaf_chunks: 2,
            frame_grains: 2,
        };
        let mut host = Self::host_with(Rc::default(), 1, geometry, limits);
        host.begin_birth();
        let verdict = host.wish(Wish::FinishBirth { base: None });
        assert!(matches!(verdict, Verdict::Born(_)), "{verdict:?}");
        host
    }

    /// The birth of the volume begins: nothing is loaded, and no version is there.
    pub(crate) fn begin_birth(&mut self) {
        let spec = BirthSpec {
            geometry: self.geometry,
            kind: VolumeKind::Disk,
            parent: None,
            attributes: Vec::new(),
        };
        assert!(matches!(self.wish(Wish::Birth(spec)), Verdict::Begun));
    }

    // --- time and effects ---

    /// From now on effects that `hold` selects are not answered.
    pub(crate) fn hold(&mut self, hold: impl Fn(&Effect<Buf>) -> bool + 'static) {
        self.hold = Box::new(hold);
    }

    /// Answers what is not held until nothing is left.
    pub(crate) fn run(&mut self) {
        for _ in 0..100_000 {
            self.drain();
            let Some(at) = self.open.iter().position(|effect| !(self.hold)(effect)) else {
                return;
            };
            let effect = self.open.remove(at).expect("just found");
            self.answer(effect);
        }
        panic!("the volume does not come to rest");
    }

    /// Holds nothing any more and answers everything.
    pub(crate) fn release(&mut self) {
        self.hold(|_| false);
        self.run();
    }

    /// Answers every open effect that `which` selects with a local failure, without doing it.
    pub(crate) fn fail(&mut self, which: impl Fn(&Effect<Buf>) -> bool) {
        let (failed, left) = self.open.drain(..).partition::<VecDeque<_>, _>(&which);
        self.open = left;
        for effect in failed {
            let id = id_of(&effect).expect("only these are open");
            self.volume
                .handle_done(self.now, id, Outcome::Disk(DiskError::Failed));
            self.drain();
        }
    }

    /// Lets time pass, with every time-out on the way.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..100_000 {
            self.run();
            let next = self.volume.poll_timeout().filter(|at| *at <= end);
            self.now = self.now.max(next.unwrap_or(end));
            self.volume.handle_timeout(self.now);
            self.run();
            if next.is_none() {
                return;
            }
        }
        panic!("time stands still");
    }

    pub(crate) fn drain(&mut self) {
        while let Some(effect) = self.volume.poll_effect() {
            match effect {
                Effect::Reply(tag, reply) => {
                    let old = self.replies.insert(tag.0, reply);
                    assert!(old.is_none(), "{tag:?} was answered twice");
                }
                Effect::Told(wish, verdict) => {
                    let old = self.told.insert(wish.0, verdict);
                    assert!(old.is_none(), "{wish:?} was answered twice");
                }
                Effect::Gate(gate) => self.gates.push(gate),
                Effect::Notice(notice) => self.notices.push(notice),
                Effect::Cancel(_) => {}
                other => self.open.push_back(other),
            }
        }
    }

    fn answer(&mut self, effect: Effect<Buf>) {
        let id = id_of(&effect).expect("only these are open");
        let outcome = match effect {
            Effect::Read { read, .. } => self.read_local(&read),
            Effect::Append {
                file,
                at,
                head,
                data,
                ..
            } => {
                let data = flat(&data);
                let page = record::emit(&head, data.len() as u32, &self.key);
                let file = self.disk.files.get_mut(&file).expect("the file exists");
                let mut bytes = page.to_vec();
                bytes.extend_from_slice(&data);
                bytes.resize(bytes.len().next_multiple_of(PAGE_BYTES as usize), 0);
                file.written[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
                Outcome::Done
            }
            Effect::Sync { .. } if self.disk.syncs_fail => Outcome::Disk(DiskError::Failed),
            Effect::Sync { file, .. } => {
                let file = self.disk.files.get_mut(&file).expect("the file exists");
                file.durable = file.written.clone();
                Outcome::Done
            }
            Effect::Disk { request, .. } => self.disk_request(request),
            Effect::Store { request, .. } => self.store_request(request),
            Effect::Compare { found, expect, .. } => {
                let found = flat(&found);
                let differs = found.iter().zip(expect.bytes()).position(|(a, b)| a != b);
                Outcome::Compared(differs.map(|at| ByteCount(at as u64)))
            }
            other => unreachable!("{other:?}"),
        };
        self.volume.handle_done(self.now, id, outcome);
    }

    // --- the disk ---

    fn read_local(&self, read: &LocalRead) -> Outcome<Buf> {
        let len: u32 = read.pieces.iter().map(|(len, _)| len).sum();
        let bytes = match read.file {
            LocalFile::Journal(file) => self.disk.files.get(&file).and_then(|file| {
                let at = read.at as usize;
                Some(file.written.get(at..at + len as usize)?.to_vec())
            }),
            LocalFile::Cache => {
                let stride = u64::from(PAGE_BYTES) + u64::from(self.geometry.frame_grains) * 4096;
                let slot = (read.at / stride) as u32;
                let at = (read.at % stride) as usize - PAGE_BYTES as usize;
                self.disk
                    .cache
                    .get(&slot)
                    .and_then(|(_, data)| Some(data.get(at..at + len as usize)?.to_vec()))
            }
        };
        let Some(bytes) = bytes else {
            return Outcome::ReadDamaged { piece: 0 };
        };
        let mut at = 0;
        for (number, (len, want)) in read.pieces.iter().enumerate() {
            let end = at + *len as usize;
            if sum(&bytes[at..end]) != *want {
                return Outcome::ReadDamaged {
                    piece: number as u32,
                };
            }
            at = end;
        }
        Outcome::Read(Buf::new(
            &bytes[read.want.start as usize..read.want.end as usize],
        ))
    }

    fn disk_request(&mut self, request: DiskRequest<Buf>) -> Outcome<Buf> {
        let disk = &mut self.disk;
        match request {
            DiskRequest::ReadNote => {
                Outcome::Note(disk.notes.iter().max_by_key(|note| note.serial).cloned())
            }
            DiskRequest::WriteNote(note) => {
                disk.notes.sort_by_key(|note| note.serial);
                if disk.notes.len() > 1 {
                    disk.notes.remove(0);
                }
                disk.notes.push(note);
                Outcome::Done
            }
            DiskRequest::ListFiles => Outcome::Files(
                disk.files
                    .iter()
                    .map(|(file, found)| FileFound {
                        file: *file,
                        bytes: ByteCount(found.written.len() as u64),
                    })
                    .collect(),
            ),
            DiskRequest::CreateFile { .. } if disk.full => Outcome::Disk(DiskError::Full),
            DiskRequest::CreateFile { file, bytes } => {
                let zeros = vec![0; bytes.0 as usize];
                let file = disk.files.insert(
                    file,
                    File {
                        written: zeros.clone(),
                        durable: zeros,
                    },
                );
                assert!(file.is_none(), "the file exists");
                Outcome::Done
            }
            DiskRequest::ScanFile(file) if disk.unreadable.contains(&file) => {
                Outcome::Disk(DiskError::Failed)
            }
            DiskRequest::ScanFile(file) => {
                let bytes = &disk.files[&file].written;
                let len = bytes.len() as u64;
                Outcome::Scanned(scan::scan(&mut Pages(bytes), file, &self.key, len))
            }
            DiskRequest::WriteIndex(found) => {
                let file = disk.files.get_mut(&found.file).expect("the file exists");
                let len = file.written.len() as u64;
                let room = index::reserved_bytes(len);
                if let Some(bytes) = index::emit(&found, &self.key, room) {
                    let at = (len - room) as usize;
                    file.written[at..at + bytes.len()].copy_from_slice(&bytes);
                }
                Outcome::Done
            }
            DiskRequest::RemoveFile(file) => {
                disk.files.remove(&file);
                Outcome::Done
            }
            DiskRequest::KeepMeta { hash, meta } => {
                disk.metas.insert(hash, meta);
                Outcome::Done
            }
            DiskRequest::LoadMeta { hash, expect } => match disk.metas.get(&hash) {
                Some(meta) => {
                    let (bytes, _) = encode_meta(meta);
                    match decode_meta(&expect, None, &bytes) {
                        Ok((meta, hash)) => Outcome::Meta(meta, hash),
                        Err(_) => Outcome::Disk(DiskError::Failed),
                    }
                }
                None => Outcome::Disk(DiskError::Absent),
            },
            DiskRequest::DropMeta(hash) => {
                disk.metas.remove(&hash);
                Outcome::Done
            }
            DiskRequest::ListCache => Outcome::Cache(
                disk.cache
                    .iter()
                    .map(|(slot, (frame, _))| (*slot, frame.clone()))
                    .collect(),
            ),
            DiskRequest::FillCache { slot, frame, data } => {
                disk.cache.insert(slot, (*frame, flat(&data)));
                Outcome::Done
            }
            DiskRequest::ClearCache { slot } => {
                disk.cache.remove(&slot);
                Outcome::Done
            }
        }
    }

    // --- the store ---

    fn store_request(&mut self, request: StoreRequest<Buf>) -> Outcome<Buf> {
        let mut store = self.store.borrow_mut();
        store.requests += 1;
        if let Some(error) = store.away {
            return Outcome::Store(error);
        }
        match request {
            StoreRequest::CreateContainer(_) | StoreRequest::DeleteContainer(_) => Outcome::Done,
            StoreRequest::Put {
                container,
                name,
                body,
                once,
            } => {
                let key = (container, name.to_string());
                if once && store.objects.contains_key(&key) {
                    return Outcome::Store(StoreError::Exists);
                }
                let mut bytes = Bytes(Vec::new());
                let receipt = encode_body(&body, &mut bytes);
                store.objects.insert(key, bytes.0);
                Outcome::Put(receipt)
            }
            StoreRequest::Delete { container, name } => {
                store.objects.remove(&(container, name.to_string()));
                Outcome::Done
            }
            StoreRequest::List {
                container,
                prefix,
                after,
                limit,
            } => Outcome::Names(
                store
                    .objects
                    .iter()
                    .filter(|((at, name), _)| {
                        *at == container
                            && name.starts_with(&prefix)
                            && !store.unlisted.contains(name)
                            && after.as_ref().is_none_or(|after| name > after)
                    })
                    .take(limit as usize)
                    .map(|((_, name), bytes)| ListRow {
                        name: name.clone(),
                        bytes: ByteCount(bytes.len() as u64),
                        modified: store.written,
                    })
                    .collect(),
            ),
            StoreRequest::Get(get) => {
                let key = (get.container.clone(), get.name.to_string());
                let Some(bytes) = store.objects.get(&key) else {
                    return Outcome::Store(StoreError::Absent);
                };
                let range = get
                    .range
                    .clone()
                    .map_or(0..bytes.len(), |r| r.start as usize..r.end as usize);
                let Some(bytes) = bytes.get(range) else {
                    return Outcome::Store(StoreError::Damaged);
                };
                match (&get.expect, &get.name) {
                    (Expect::Exists, _) => Outcome::Exists,
                    (Expect::Frames(expects), ObjectName::Data(name)) => {
                        match frame::check_all(bytes, expects, get.container.id, name, sum) {
                            Ok(frames) => Outcome::Frames(
                                frames
                                    .into_iter()
                                    .map(|(range, sums)| FrameGot {
                                        data: Buf::new(&bytes[range]),
                                        sums,
                                    })
                                    .collect(),
                            ),
                            Err(_) => Outcome::Store(StoreError::Damaged),
                        }
                    }
                    (expect, name) => {
                        let place = Some((&get.container, name));
                        match decode_meta(expect, place, bytes) {
                            Ok((meta, hash)) => Outcome::Meta(meta, hash),
                            Err(_) => Outcome::Store(StoreError::Damaged),
                        }
                    }
                }
            }
        }
    }

    // --- guests and operators ---

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Sends a command; its reply will be under the tag.
    pub(crate) fn send(&mut self, command: Command<Buf>) -> u64 {
        let tag = self.number();
        self.volume.handle_guest(self.now, Tag(tag), command);
        self.run();
        tag
    }

    pub(crate) fn command_write(&self, at: u64, count: u64, fill: u8, fua: bool) -> Command<Buf> {
        let at = Extent::new(at, count);
        let data = vec![fill; self.geometry.bytes(at.count).0 as usize];
        let mut from = 0;
        let sums: Sums = split::pieces(&self.geometry, at)
            .map(|piece| {
                let to = from + self.geometry.bytes(piece.count).0 as usize;
                let piece = sum(&data[from..to]);
                from = to;
                piece
            })
            .collect();
        Command::Write {
            at,
            data: Buf::new(&data),
            sums,
            fua,
        }
    }

    pub(crate) fn send_write(&mut self, at: u64, count: u64, fill: u8) -> u64 {
        let command = self.command_write(at, count, fill, false);
        self.send(command)
    }

    #[track_caller]
    pub(crate) fn write(&mut self, at: u64, count: u64, fill: u8) {
        let tag = self.send_write(at, count, fill);
        let reply = self.replies.remove(&tag);
        assert!(matches!(reply, Some(Reply::Done { .. })), "{reply:?}");
    }

    #[track_caller]
    pub(crate) fn flush(&mut self) {
        let tag = self.send(Command::Flush);
        let reply = self.replies.remove(&tag);
        assert!(matches!(reply, Some(Reply::Done { .. })), "{reply:?}");
    }

    /// The first byte of each block.
    #[track_caller]
    pub(crate) fn read(&mut self, at: u64, count: u64) -> Vec<u8> {
        let tag = self.send(Command::Read(Extent::new(at, count)));
        self.read_reply(tag)
    }

    #[track_caller]
    pub(crate) fn read_reply(&mut self, tag: u64) -> Vec<u8> {
        match self.replies.remove(&tag) {
            Some(Reply::Read(parts)) => {
                let bytes = flat(&parts);
                let blocks = bytes.chunks(self.geometry.block_bytes as usize);
                blocks
                    .map(|block| {
                        assert!(block.iter().all(|b| *b == block[0]), "one fill per block");
                        block[0]
                    })
                    .collect()
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn send_wish(&mut self, wish: Wish<Buf>) -> u64 {
        let id = self.number();
        self.volume.handle_wish(self.now, WishId(id), wish);
        self.run();
        id
    }

    /// A wish, and up to a minute for its verdict.
    #[track_caller]
    pub(crate) fn wish(&mut self, wish: Wish<Buf>) -> Verdict {
        let id = self.send_wish(wish);
        for _ in 0..60 {
            if let Some(verdict) = self.told.remove(&id) {
                return verdict;
            }
            self.pass(Duration::from_secs(1));
        }
        panic!("the wish was not answered; {:?}", self.volume.status());
    }

    // --- the ends of a process ---

    fn restart(&mut self) {
        self.lives += 1;
        self.open.clear();
        self.hold(|_| false);
        let life = Self::life(self.state_dir, self.lives);
        self.volume = Volume::new(self.container.clone(), life, self.limits.clone());
        self.now = Instant(0);
        self.run();
    }

    /// The process is killed and starts again: every byte written is still there.
    pub(crate) fn kill(&mut self) {
        self.restart();
    }

    /// The power fails: of the journal only what a sync covered is left.
    pub(crate) fn power_loss(&mut self) {
        for file in self.disk.files.values_mut() {
            file.written = file.durable.clone();
        }
        self.restart();
    }

    /// Restarts the service of what the state directory holds.
    #[track_caller]
    pub(crate) fn open(&mut self) {
        let verdict = self.wish(Wish::Open);
        assert!(matches!(verdict, Verdict::Attached { .. }), "{verdict:?}");
    }
}
