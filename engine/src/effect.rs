//! All that the world may do for a volume, and all that may come of it.
//!
//! Each effect with an id gets exactly one [`Outcome`] through [`crate::Volume::handle_done`], also after
//! [`Effect::Cancel`]. Effects may finish in any order; where order matters the engine waits.

use crate::command::{Reply, Verdict};
use crate::ids::{Container, EffectId, FileId, Generation, Hash, Holder, Lap, Tag, WishId};
use crate::journal::index::FileIndex;
use crate::journal::note::Note;
use crate::journal::record::RecordHead;
use crate::object::draft::DataObject;
use crate::object::names::ObjectName;
use crate::payload::Parts;
use crate::sum::{BoundSum, Sum};
use crate::table::types::{Leaf, ObjectRef, Root, Superblock};
use crate::time::{Duration, WallTime};
use crate::units::{ByteCount, ChunkIndex, Extent, GrainIndex};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use smallvec::SmallVec;

/// Work for the world.
#[derive(Clone, Debug)]
pub enum Effect<P> {
    /// Read local bytes and check every piece of them. Outcome: [`Outcome::Read`].
    Read {
        /// Its name.
        id: EffectId,
        /// What and how.
        read: LocalRead,
    },
    /// Write a record: the encoded head, then the data padded with zeros to whole pages. Outcome: [`Outcome::Done`].
    ///
    /// Not synced. Answered [`Outcome::Disk`] when any byte of it was not written.
    Append {
        /// Its name.
        id: EffectId,
        /// The file; exists and is long enough.
        file: FileId,
        /// First byte, a multiple of the page.
        at: u64,
        /// The head; the world encodes it.
        head: RecordHead,
        /// The data; empty for a record without.
        data: Parts<P>,
    },
    /// Make everything written to the file so far durable (fdatasync). Outcome: [`Outcome::Done`].
    Sync {
        /// Its name.
        id: EffectId,
        /// The file.
        file: FileId,
    },
    /// Anything else on the local disk.
    Disk {
        /// Its name.
        id: EffectId,
        /// What.
        request: DiskRequest<P>,
    },
    /// Ask the store.
    Store {
        /// Its name.
        id: EffectId,
        /// What.
        request: StoreRequest<P>,
    },
    /// Compare two byte strings of one length. Outcome: [`Outcome::Compared`].
    Compare {
        /// Its name.
        id: EffectId,
        /// What is there.
        found: Parts<P>,
        /// What should be.
        expect: P,
    },
    /// The result of that effect is not needed. It is answered all the same.
    Cancel(EffectId),
    /// Answer a guest.
    Reply(Tag, Reply<P>),
    /// Answer an operator.
    Told(WishId, Verdict),
    /// Open or close the door to guests.
    Gate(Gate),
    /// Something a person may want to read.
    Notice(Notice),
}

/// Whether initiators are let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    /// Let them in.
    Open,
    /// End all sessions; refuse logins with 0301h (service unavailable) until it opens again.
    Closed(GateReason),
}

/// Why the gate is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GateReason {
    /// The volume does not serve (yet).
    NotServing,
    /// The store was away for too long (P5).
    StoreAway,
    /// Another host has the volume.
    Fenced,
    /// The volume was given up.
    Detached,
}

/// News for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// Recovered: the journal's history ends here.
    Recovered {
        /// End of history.
        end: crate::ids::Seq,
        /// Records applied.
        records: u64,
    },
    /// Blocks whose content is gone, and where it should have been.
    Damaged {
        /// The blocks.
        extent: Extent,
        /// The object or file.
        place: String,
    },
    /// A journal file failed and will not be used again in this process.
    FileCondemned(FileId),
    /// The local disk is not usable any more; the volume takes no writes.
    ReadOnly,
    /// Attached under a generation.
    Attached(Generation),
    /// Another host has shut our door.
    Fenced {
        /// The next generation.
        by: Generation,
    },
    /// A version is committed.
    Committed {
        /// Which.
        version: crate::ids::Version,
        /// Bytes uploaded.
        bytes: ByteCount,
        /// PUTs made.
        puts: u64,
    },
    /// A collection that nobody asked for deleted something, or found pins that hold nothing.
    Collected(alloc::boxed::Box<crate::command::Collected>),
    /// Waiting for the store since a while; asked again by itself.
    StoreWaiting {
        /// The object.
        object: String,
        /// What it last answered.
        error: StoreError,
    },
    /// Writes are held: the journal is full until the next commit.
    JournalFull,
}

/// A verified read of a local file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalRead {
    /// Journal file or cache.
    pub file: LocalFile,
    /// First byte of the first piece.
    pub at: u64,
    /// The pieces, one after another: length in bytes and CRC32C. All are read and checked.
    pub pieces: SmallVec<[(u32, Sum); 1]>,
    /// The bytes wanted, from `at`.
    pub want: Range<u32>,
}

/// A local file that is read by place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LocalFile {
    /// A journal file.
    Journal(FileId),
    /// The frame cache.
    Cache,
}

/// Other work on the local disk. All of it belongs to one volume's folder in the state directory.
#[derive(Clone, Debug)]
pub enum DiskRequest<P> {
    /// The newest valid note. Outcome: [`Outcome::Note`].
    ReadNote,
    /// Write the note to the slot that does not hold the newest one; durable when done. Outcome: [`Outcome::Done`].
    WriteNote(Arc<Note>),
    /// The journal files that exist. Outcome: [`Outcome::Files`].
    ListFiles,
    /// Make a journal file of so many bytes; entry, size and space are durable when done. Outcome: [`Outcome::Done`].
    CreateFile {
        /// Its number.
        file: FileId,
        /// Its size.
        bytes: ByteCount,
    },
    /// Everything valid in a file: from its index if that is valid, else by scanning. Outcome: [`Outcome::Scanned`].
    ScanFile(FileId),
    /// Write a sealed file's index into the space reserved at its end. Not synced. Outcome: [`Outcome::Done`].
    WriteIndex(Arc<FileIndex>),
    /// Remove a journal file; the removal is durable when done. Outcome: [`Outcome::Done`].
    RemoveFile(FileId),
    /// Keep a leaf or root under its hash; durable when done. Outcome: [`Outcome::Done`].
    KeepMeta {
        /// The hash of its encoded bytes.
        hash: Hash,
        /// What.
        meta: Meta,
    },
    /// Read what was kept under a hash. Outcome: [`Outcome::Meta`] or [`DiskError::Absent`].
    LoadMeta {
        /// The hash.
        hash: Hash,
        /// What it must be.
        expect: Expect,
    },
    /// Forget what was kept. Outcome: [`Outcome::Done`], also when there was none.
    DropMeta(Hash),
    /// The cache's valid slots. Outcome: [`Outcome::Cache`].
    ListCache,
    /// Put a frame into a slot; not synced. Outcome: [`Outcome::Done`].
    FillCache {
        /// The slot; slot n starts at byte n × (one page + `frame_grains` × 4096), its data one page in.
        slot: u32,
        /// What it holds.
        frame: alloc::boxed::Box<CachedFrame>,
        /// The grains' bytes.
        data: Parts<P>,
    },
    /// Make a slot invalid. Outcome: [`Outcome::Done`].
    ClearCache {
        /// The slot.
        slot: u32,
    },
}

/// A journal file as it lies on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileFound {
    /// Its number.
    pub file: FileId,
    /// Its size in bytes.
    pub bytes: ByteCount,
}

/// What a scan found in a journal file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scanned {
    /// The file's newest lap; `None` when nothing valid is in it.
    pub lap: Option<Lap>,
    /// `durable` of the index, if the index was valid.
    pub index_durable: Option<crate::ids::Seq>,
    /// Every valid head of that lap, in page order, and which of its pieces do not have their sum.
    pub records: Vec<ScannedRecord>,
}

/// A record found by a scan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScannedRecord {
    /// Its head, checked.
    pub head: RecordHead,
    /// Pieces (by number) whose data is damaged. Empty when read from an index: reads check again anyway.
    pub bad_pieces: Vec<u32>,
}

/// A cached frame's identity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CachedFrame {
    /// The object.
    pub object: ObjectRef,
    /// First byte of the frame in it.
    pub offset: u32,
    /// The grains it holds.
    pub grains: SmallVec<[GrainIndex; 16]>,
    /// Their sums as stored.
    pub sums: SmallVec<[BoundSum; 16]>,
}

/// A question to the store about one volume's container.
#[derive(Clone, Debug)]
pub enum StoreRequest<P> {
    /// Make the container. Outcome: [`Outcome::Done`], also when it exists.
    CreateContainer(Container),
    /// Read and check an object or part of it. Outcome: the one that `expect` names.
    Get(GetRequest),
    /// Store an object. Outcome: [`Outcome::Put`] only when confirmed (a 201 with the right ETag).
    ///
    /// The store retries with the same bytes, unconditionally, until confirmed or its deadline passed; then
    /// [`StoreError::Unknown`].
    Put {
        /// Where.
        container: Container,
        /// The name.
        name: ObjectName,
        /// What.
        body: Body<P>,
        /// Once, with `If-None-Match: *` (claims): never sent a second time.
        once: bool,
    },
    /// Delete an object. Outcome: [`Outcome::Done`], also when there was none.
    Delete {
        /// Where.
        container: Container,
        /// The name.
        name: ObjectName,
    },
    /// Names in a container, a hint only (listings lag). Outcome: [`Outcome::Names`].
    List {
        /// Where.
        container: Container,
        /// Names that begin so.
        prefix: String,
        /// Only names after this one.
        after: Option<String>,
        /// At most so many, 1 to 10,000.
        limit: u32,
    },
    /// Remove the empty container. Outcome: [`Outcome::Done`].
    DeleteContainer(Container),
}

/// A read from the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GetRequest {
    /// Where.
    pub container: Container,
    /// The name.
    pub name: ObjectName,
    /// `None`: the whole object.
    pub range: Option<Range<u64>>,
    /// How a 404 is believed.
    pub absence: Absence,
    /// Give up after so long and answer [`StoreError::Unavailable`].
    pub deadline: Duration,
    /// What must come.
    pub expect: Expect,
}

/// How a 404 is believed (A1). All asks carry `X-Newest`, but for the first ask about data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absence {
    /// One ask decides (a publish's look, the watch).
    Once,
    /// A second ask, `absence_gap` later on a fresh connection, must say the same (the absence rule).
    Twice,
    /// Data that a table names: at least 3 asks over at least 30 s, the container answering; then it is damage (P5).
    Damage,
}

/// What a read must bring, and what it is checked against.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expect {
    /// Whether it exists; its bytes do not matter. Outcome: [`Outcome::Exists`].
    Exists,
    /// A superblock. Outcome: [`Outcome::Meta`].
    Superblock,
    /// A claim or an opened. Outcome: [`Outcome::Meta`].
    Token,
    /// A root, with this hash if known. Outcome: [`Outcome::Meta`], with the hash.
    Root(Option<Hash>),
    /// A leaf with this hash. Outcome: [`Outcome::Meta`].
    Leaf(Hash),
    /// These frames, one after another from the range's start. Outcome: [`Outcome::Frames`].
    Frames(Vec<FrameExpect>),
}

/// A frame that must be there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrameExpect {
    /// The chunk.
    pub chunk: ChunkIndex,
    /// Its number in the section.
    pub frame: u32,
    /// The grains it holds, by index in the volume.
    pub grains: SmallVec<[GrainIndex; 16]>,
}

/// A frame that was there: every grain of it has its sum.
#[derive(Clone, Debug)]
pub struct FrameGot<P> {
    /// The grains' bytes, 4096 each.
    pub data: P,
    /// Their sums as stored.
    pub sums: SmallVec<[BoundSum; 16]>,
}

/// Stored things that are not data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Meta {
    /// `volume`.
    Superblock(Arc<Superblock>),
    /// `claims/<g>` or `opened/<g>`.
    Token(Token),
    /// `versions/…`.
    Root(Arc<Root>),
    /// A leaf.
    Leaf(Arc<Leaf>),
}

/// The body of a claim or an opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// Who tries, or won.
    pub attach: crate::ids::AttachId,
    /// Host, state directory, time.
    pub holder: Holder,
    /// `opened` only: the root that the attachment goes on from; `None` for generation 1.
    pub base: Option<crate::object::names::RootName>,
}

/// What to store.
#[derive(Clone, Debug)]
pub enum Body<P> {
    /// `volume`.
    Superblock(Arc<Superblock>),
    /// `claims/<g>` or `opened/<g>`.
    Token(Token),
    /// `doors/<g>`: a constant.
    Door,
    /// A root with its riding leaves.
    Root(Arc<Root>),
    /// A root's own bytes again, as they were read.
    RootAgain(Arc<Root>),
    /// Packed leaves, one after another.
    Leaves(Vec<Arc<Leaf>>),
    /// Sections.
    Data(DataObject<P>),
}

/// A row of a listing. A hint: listings lag behind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ListRow {
    /// The object's name.
    pub name: String,
    /// Its size.
    pub bytes: ByteCount,
    /// When it was last written, by the store's clock; [`WallTime::NEVER`] when the store does not say.
    pub modified: WallTime,
}

/// A confirmed PUT.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Receipt {
    /// Bytes of the object.
    pub bytes: ByteCount,
    /// A root's hash.
    pub root: Option<Hash>,
    /// The leaves' places in this object: packed leaves in order, or a root's riding leaves in index order.
    pub leaves: Vec<LeafPlaced>,
    /// A data object's grain sums, section by section, grain by grain.
    pub sums: Vec<Vec<BoundSum>>,
}

/// Where a leaf came to lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeafPlaced {
    /// First byte.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
    /// Hash of these bytes.
    pub hash: Hash,
}

/// What came of an effect.
#[derive(Clone, Debug)]
pub enum Outcome<P> {
    /// It is done.
    Done,
    /// The bytes wanted; every piece had its sum.
    Read(P),
    /// A piece did not have its sum (its number), or could not be read.
    ReadDamaged {
        /// The first such piece.
        piece: u32,
    },
    /// The note, if there is a valid one.
    Note(Option<Arc<Note>>),
    /// The journal files.
    Files(Vec<FileFound>),
    /// What is in a file.
    Scanned(Scanned),
    /// The cache's valid slots and its number of slots.
    Cache(Vec<(u32, CachedFrame)>),
    /// A decoded and checked object, and the hash of its bytes.
    Meta(Meta, Hash),
    /// The object exists.
    Exists,
    /// Frames, in the order asked.
    Frames(Vec<FrameGot<P>>),
    /// Confirmed.
    Put(Receipt),
    /// Rows of a listing, ascending by name.
    Names(Vec<ListRow>),
    /// `None`: equal; else the first byte that differs.
    Compared(Option<ByteCount>),
    /// The local disk said no.
    Disk(DiskError),
    /// The store said no.
    Store(StoreError),
}

/// What the local disk may say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskError {
    /// There is no such thing.
    Absent,
    /// No space left.
    Full,
    /// An I/O error, or bytes that are not what was kept.
    Failed,
}

/// What the store may say, after its own retries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreError {
    /// No answer, 5xx, throttled or unreachable until the deadline. A read: nothing is known.
    Unavailable,
    /// A write was sent and its end is not known: it may have been stored, now or later.
    Unknown,
    /// The object is not there, by the rule asked for.
    Absent,
    /// There is something by this name (412 on a claim).
    Exists,
    /// The bytes are not what they must be, or absent where the table names them.
    Damaged,
    /// The format is newer than this program.
    TooNew,
    /// Credentials or rights (401 after renewal, 403).
    Denied,
    /// Quota or space (413, 507).
    Full,
}
