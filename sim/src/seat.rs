//! A process that serves one volume on one host, and the folder it leaves behind.

use crate::disk::{Disk, Local};
use crate::oracle::history::{Floors, History};
use crate::payload::{Blocks, Stamp};
use crate::workload::Kind;
use engine::effect::{DiskRequest, StoreRequest};
use engine::ids::{AttachId, FileId, StateDirId};
use engine::units::{ByteCount, Extent};
use engine::volume::Volume;
use std::collections::{BTreeMap, VecDeque};

/// A guest's command under way.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Which operation of the run.
    pub op: u64,
    /// Its place in the order of asking.
    pub serial: u64,
    /// The connection and task that it is part of, if it came over iSCSI.
    pub wire: Option<(u32, u32)>,
    /// The number in the stamps of what it writes.
    pub write: u64,
    /// Who waits for it: an index into the seat's guests; `None` for a check of the simulator.
    pub slot: Option<u32>,
    /// What.
    pub kind: Kind,
    /// Where.
    pub extents: Vec<Extent>,
    /// Force unit access.
    pub fua: bool,
    /// Per block of the first extent, what a read must not go behind.
    pub floors: Floors,
    /// COMPARE AND WRITE: what the guest thinks is there.
    pub expect: Vec<Stamp>,
    /// The highest seq answered when it was asked.
    pub answered: u64,
    /// Seqs of its records so far.
    pub seqs: Vec<u64>,
    /// Blocks that its records cover so far.
    pub covered: u64,
    /// The attribute's key.
    pub key: String,
    /// Whether an attribute is set (or removed).
    pub sets: bool,
    /// The front end took it back.
    pub aborted: bool,
    /// There was no credit for it when it was asked: BUSY is right.
    pub is_crowded: bool,
    /// When it was asked.
    pub at: u64,
    /// A read: the oldest seq among the contents that it found.
    pub oldest: u64,
}

/// A wish under way.
#[derive(Clone, Debug)]
pub struct Wished {
    /// Which.
    pub what: Wished1,
    /// The highest seq answered when it was asked.
    pub answered: u64,
    /// When it was asked.
    pub at: u64,
}

/// Kinds of wish, as far as the simulator tells them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wished1 {
    /// Birth.
    Birth,
    /// Content of a chunk.
    Load,
    /// Version 0.
    FinishBirth,
    /// Restart.
    Open,
    /// Attach.
    Attach {
        /// From whoever has it.
        take_over: bool,
    },
    /// Detach.
    Detach,
    /// Snapshot of that name.
    Snapshot(String, u64),
    /// Checkpoint.
    Checkpoint,
    /// Cache dropped.
    Evict,
    /// News of logins.
    Sessions,
    /// A look before the first login after idle, by its number.
    Look(u32),
    /// What nothing reaches is deleted.
    Collect,
    /// A question.
    Inspect,
    /// A reader of a snapshot.
    Reader(Option<String>),
    /// A pin for the clone on that seat.
    Pin(usize),
}

/// An effect under way.
#[derive(Clone, Debug)]
pub enum Flying {
    /// On the local disk.
    Local(Local, LocalNote),
    /// At the store.
    Store(StoreRequest<Blocks>),
    /// A comparison.
    Compare(Vec<Stamp>, Vec<Stamp>),
}

/// What an oracle wants to know when a local operation ends.
#[derive(Clone, Debug)]
pub enum LocalNote {
    /// The record of that seq is appended to that file.
    Appended(FileId, u64),
    /// That file is synced.
    Synced(FileId),
    /// Another request.
    Other(&'static str),
}

/// What a seat is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Bears the volume.
    Bears,
    /// Serves it, or will when it gets it.
    Serves,
    /// Reads a snapshot.
    Reads,
}

/// A process and its folder.
pub struct Seat {
    /// Its index.
    pub number: usize,
    /// Its host.
    pub host: u32,
    /// Which volume, by index in the world.
    pub volume: usize,
    /// What for.
    pub role: Role,
    /// The engine; `None` while the process is dead.
    pub engine: Option<Volume<Blocks>>,
    /// The folder.
    pub disk: Disk,
    /// The folder's identity.
    pub state_dir: StateDirId,
    /// Counts processes on this seat.
    pub life: u32,
    /// Counts effects over all processes.
    pub effects: u64,
    /// Numbers for dice, by kind of effect.
    pub numbers: [u64; 8],
    /// The process ends before this effect; and the number of that crash.
    pub crash_at: Option<(u64, u64)>,
    /// The time-out that is scheduled.
    pub timer_at: Option<u64>,
    /// No event reaches it before.
    pub paused_until: u64,
    /// Effects under way.
    pub flying: BTreeMap<u64, Flying>,
    /// Guest commands under way.
    pub asked: BTreeMap<u64, Asked>,
    /// Wishes under way.
    pub wished: BTreeMap<u64, Wished>,
    /// Records appended and not synced: per file, number of the write and seq.
    pub appended: BTreeMap<FileId, Vec<(u64, u64)>>,
    /// Guests are let in.
    pub gate_open: bool,
    /// Guests who wait for the gate.
    pub parked: Vec<u32>,
    /// Guests who found no room.
    pub thirsty: Vec<u32>,
    /// One of them will look again by itself.
    pub looks_again: bool,
    /// Blocks to be read before anything else.
    pub sweep: VecDeque<Extent>,
    /// What the guests of this attachment may see.
    pub history: Option<History>,
    /// Whether the next recovery follows a power loss.
    pub lost_power: bool,
    /// The attachment that it serves under, as it last said.
    pub attach: Option<AttachId>,
    /// Doors that it shut itself.
    pub own_doors: std::collections::BTreeSet<u64>,
    /// The generation under which its history last went on.
    pub history_generation: u64,
    /// Whether this process has recovered its journal.
    pub is_recovered: bool,
    /// A reader whose version was collected.
    pub is_behind: bool,
    /// Blocks of it that the reader found gone.
    pub misses: u32,
    /// Whether it was told that the next door is shut.
    pub saw_door: bool,
    /// Whether it gave the volume up, or another has it.
    pub released: bool,
    /// Chunks still to be loaded.
    pub loads: VecDeque<u64>,
    /// Loads under way.
    pub loading: u32,
    /// A fault made an error of the disk possible.
    pub disk_hurt: bool,
    /// A record that is no block's may be gone from its journal, or one of which nothing tells what it did.
    pub is_nameless: bool,
    /// Since when it is attached; before, its answers may wait for the store.
    pub attached_at: u64,
    /// Until when something local, or a comparison, may have held writes up.
    pub held_up_until: u64,
    /// When a comparison last ended: what waited behind it goes on.
    pub unlocked_at: Option<u64>,
    /// Its journal was full.
    pub was_full: bool,
    /// It stands for one whose folder is lost: it takes the volume from whoever has it, until it has had it.
    pub takes: bool,
    /// Its folder is lost, and the host serves from another: this one never starts again.
    pub gone: bool,
    /// The journal was full, or the store away: BUSY is right.
    pub may_be_busy: bool,
    /// The process came up at.
    pub since: u64,
    /// The snapshot that a reader reads; `None`: the newest root.
    pub reads: Option<String>,
    /// Content loaded at birth.
    pub loaded: Vec<Stamp>,
    /// Blocks of it that the parent of a clone states lost.
    pub loaded_lost: Vec<u64>,
    /// A clone's birth has begun and waits for its pin.
    pub needs_pin: bool,
    /// Writes that are over without an answer, for good: nothing of them may follow (B8).
    pub buried: std::collections::BTreeSet<u64>,
    /// Snapshots that earlier processes were asked for and did not answer.
    pub unanswered: Vec<(String, u64)>,
    /// Counts histories: what was sent under another one is not held against this.
    pub epoch: u64,
}

impl Seat {
    /// The highest seq that a guest of this seat was told is done.
    pub fn answered(&self) -> u64 {
        self.history.as_ref().map_or(0, History::answered)
    }

    /// Bytes that a command of these extents asks for.
    pub fn bytes_of(&self, extents: &[Extent]) -> ByteCount {
        let blocks: u64 = extents.iter().map(|e| e.count.0).sum();
        ByteCount(blocks * u64::from(self.disk.unit()))
    }
}

/// The name of a request, for counts and stories.
pub fn request_name(request: &DiskRequest<Blocks>) -> &'static str {
    match request {
        DiskRequest::ReadNote => "read-note",
        DiskRequest::WriteNote(_) => "write-note",
        DiskRequest::ListFiles => "list-files",
        DiskRequest::CreateFile { .. } => "create-file",
        DiskRequest::ScanFile(_) => "scan-file",
        DiskRequest::WriteIndex(_) => "write-index",
        DiskRequest::RemoveFile(_) => "remove-file",
        DiskRequest::KeepMeta { .. } => "keep-meta",
        DiskRequest::LoadMeta { .. } => "load-meta",
        DiskRequest::DropMeta(_) => "drop-meta",
        DiskRequest::ListCache => "list-cache",
        DiskRequest::FillCache { .. } => "fill-cache",
        DiskRequest::ClearCache { .. } => "clear-cache",
    }
}
