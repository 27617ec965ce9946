//! All that a front end or an operator may ask, and all that they may hear.

use crate::ids::{AttachId, Container, Generation, Holder, Seq, Version, WishKey};
use crate::object::names::{ObjectName, RootName};
use crate::payload::Parts;
use crate::sum::Sums;
use crate::table::types::{Pin, Root, Superblock, VolumeKind};
use crate::time::Duration;
use crate::units::{ByteCount, ChunkIndex, Extent, Geometry, Lba};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use smallvec::SmallVec;

/// What a guest asks of a volume.
#[derive(Clone, Debug)]
pub enum Command<P> {
    /// Read these blocks. Not empty.
    Read(Extent),
    /// Write these blocks. `data` has exactly the extent's bytes; `sums` one CRC32C per piece, in LBA order.
    Write {
        /// Where. Not empty.
        at: Extent,
        /// What.
        data: P,
        /// CRC32C of each piece of `data` (see [`crate::layers::split::pieces`]).
        sums: Sums,
        /// Answer only when durable.
        fua: bool,
    },
    /// Make these blocks read as zeros and free their space. At most 64 disjoint extents, one record.
    Discard(SmallVec<[Extent; 1]>),
    /// Make these blocks read as zeros.
    WriteZeroes {
        /// Where. Not empty.
        at: Extent,
        /// Answer only when durable.
        fua: bool,
    },
    /// Write `data` if the blocks hold `expect`, as one step.
    CompareAndWrite {
        /// Where. Not empty, at most 1 MiB.
        at: Extent,
        /// What must be there.
        expect: P,
        /// What to write then.
        data: P,
        /// CRC32C of each piece of `data`.
        sums: Sums,
        /// Answer only when durable.
        fua: bool,
    },
    /// Make every write that was answered before durable.
    Flush,
    /// Set (or remove, with `None`) an attribute: journalled with a seq, part of every later root. Answered when durable.
    PutAttribute {
        /// At most 64 bytes.
        key: String,
        /// At most 1024 bytes.
        value: Option<Vec<u8>>,
    },
}

/// The answer to a [`Command`], and the only acknowledgement there is.
#[derive(Clone, Debug)]
pub enum Reply<P> {
    /// The blocks' content, exactly the extent's bytes.
    Read(Parts<P>),
    /// Done. For a flush or a FUA write: durable up to `durable`.
    Done {
        /// What is durable on the local disk (with `flush = store`: in the store).
        durable: Seq,
    },
    /// COMPARE AND WRITE: the first byte that differs.
    Miscompare {
        /// Offset into the data.
        at: ByteCount,
    },
    /// Not now: no room, or what is needed is not reachable. The initiator shall try again.
    Busy,
    /// No.
    Failed(Failure),
}

/// Why a command failed for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The extent leaves the volume.
    OutOfRange,
    /// The unit takes no writes (snapshot, sealed, or its disk failed).
    ReadOnly,
    /// This host has lost the volume, or does not hold it (yet).
    Fenced,
    /// The content of this block is damaged or lost.
    Damaged {
        /// The first such block.
        at: Lba,
    },
    /// The local disk failed; the write or flush did not become durable.
    Hardware,
    /// The request contradicts a limit (too many extents, too long).
    Invalid,
    /// The initiator took it back ([`crate::Volume::handle_abort`]).
    Aborted,
}

/// What an operator (or the program) asks of a volume.
#[derive(Clone, Debug)]
pub enum Wish<P> {
    /// Bring the volume into the world: container, superblock, generation 1. Answered by [`Verdict::Begun`]; then come
    /// [`Wish::Load`] and [`Wish::FinishBirth`].
    Birth(BirthSpec),
    /// Content of an unborn volume: whole grains of one chunk. `None` = stated holes need no load. Answered by
    /// [`Verdict::Loaded`] when its object is confirmed; any number may be in flight, bounded by `credits`.
    Load {
        /// The chunk.
        chunk: ChunkIndex,
        /// The grains within the chunk, ascending, each with its 4096 bytes (padded with zeros at the volume's end).
        grains: Vec<(u16, Parts<P>)>,
    },
    /// Publish version 0 (kind `born`). With `base`: a clone of that root. Answered by [`Verdict::Born`].
    FinishBirth {
        /// The parent's container and the root that was pinned for us.
        base: Option<Arc<Root>>,
    },
    /// Serve what this state directory holds (restart), or refuse. Answered by [`Verdict::Attached`] as soon as guests are
    /// served; attaching anew goes on behind it.
    Open,
    /// Become the volume's writer. Answered by [`Verdict::Attached`] or [`Verdict::Held`].
    Attach {
        /// Take it from a holder that did not detach.
        take_over: bool,
        /// Its writes after its newest root may be lost.
        accept_loss: bool,
    },
    /// Publish everything, give the volume up. Answered by [`Verdict::Detached`].
    Detach,
    /// Publish the present under a name. Answered by [`Verdict::Committed`].
    Snapshot {
        /// `None`: `s<version>`.
        name: Option<String>,
        /// Asking again with the same key returns the same snapshot.
        key: WishKey,
    },
    /// Publish the present without a name. Answered by [`Verdict::Committed`].
    Checkpoint,
    /// Keep a version for a child: publishes a root with the pin. Answered by [`Verdict::Pinned`].
    Pin {
        /// The clone; its superblock is confirmed already.
        child: Container,
        /// The snapshot's name; `None`: the present (publishes a checkpoint).
        snapshot: Option<String>,
    },
    /// Delete what no live version reaches: dying versions whose grace is over, and orphans, which listings show. Attaches
    /// first where a restart serves unattached. Answered by [`Verdict::Collected`].
    Collect {
        /// Orphans younger than this stay; `None`: as long as [`crate::Limits::min_age`].
        min_age: Option<Duration>,
    },
    /// Find out who holds the volume and what its newest root says; changes nothing. Answered by [`Verdict::Inspected`].
    Inspect,
    /// Serve one committed version read-only, without attaching. Answered by [`Verdict::Reading`].
    OpenReader {
        /// The snapshot's name; `None`: the newest root.
        snapshot: Option<String>,
    },
    /// Drop the volume's cached frames. Answered by [`Verdict::Evicted`].
    Evict,
    /// Ask the next door now: the first login after idle waits for it. Answered by [`Verdict::Looked`] once the answer, or
    /// the lack of one within `restart_look`, has had its effect on the gate.
    Look,
    /// So many sessions are logged in now. While there are any, the holder watches its door. Answered by
    /// [`Verdict::Sessions`].
    Sessions(u32),
}

/// What a volume shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BirthSpec {
    /// Shape.
    pub geometry: Geometry,
    /// Kind of unit.
    pub kind: VolumeKind,
    /// The parent of a clone.
    pub parent: Option<Container>,
    /// Attributes of the born root.
    pub attributes: Vec<(String, Vec<u8>)>,
}

/// The answer to a [`Wish`].
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The volume is being born; load it.
    Begun,
    /// The chunk's object is confirmed.
    Loaded,
    /// Version 0 is committed and the attachment is ours.
    Born(Committed),
    /// Guests are served.
    Attached {
        /// The attachment; `None`: served from here, to be attached before the first upload.
        attach: Option<AttachId>,
        /// The version that the history goes on from.
        base: Version,
        /// Set when the local journal belonged to a history that another host left behind: kept for `volume rescue`.
        set_aside: bool,
    },
    /// Somebody else holds it; nothing was changed.
    Held(Held),
    /// Given up; everything is in the store.
    Detached(Committed),
    /// Committed: root confirmed and looked.
    Committed(Committed),
    /// The parent keeps this root for the child.
    Pinned(Arc<Root>),
    /// Nothing that no live version reaches is left of what was there when the run began, but what this lists.
    Collected(Collected),
    /// What the store says.
    Inspected(Inspection),
    /// Reading this root.
    Reading(Arc<Root>),
    /// The volume is no more: its birth had been interrupted, or its deletion. Its folder can go.
    Erased,
    /// The gate says what the store says of the next door; no answer changes nothing (mode `available`).
    Looked,
    /// Noted.
    Sessions,
    /// So many bytes of cache are free again.
    Evicted(ByteCount),
    /// It is not known whether it took effect: asked again under the same key it is settled (exit 10).
    NotConfirmed,
    /// Refused or failed; nothing changed that a restart would not settle.
    Refused(Refusal),
}

/// A committed version.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its root.
    pub root: Arc<Root>,
    /// The name, if it is a snapshot.
    pub name: Option<String>,
    /// Bytes uploaded for it.
    pub bytes: ByteCount,
    /// PUTs made for it.
    pub puts: u64,
}

/// What a collection deleted, and what it left.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Collected {
    /// Data objects deleted.
    pub data: u64,
    /// Leaves objects deleted.
    pub leaves: u64,
    /// Roots deleted.
    pub roots: u64,
    /// Pins whose child is gone, or reaches nothing here any more: the next root drops them, and what they kept is dying.
    pub unpinned: Vec<Pin>,
    /// Dying versions whose grace still runs.
    pub in_grace: u64,
    /// Orphans too young to go.
    pub young: u64,
    /// Roots that are not in the history. They stay, and so does what they reach.
    pub strays: Vec<RootName>,
    /// Objects of dying versions and of strays that cannot be read.
    pub damaged: Vec<ObjectName>,
}

impl Collected {
    /// Whether anything was deleted, or a pin is dropped.
    pub const fn is_anything(&self) -> bool {
        self.data + self.leaves + self.roots > 0 || !self.unpinned.is_empty()
    }
}

/// Who holds a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its generation.
    pub generation: Generation,
    /// Who.
    pub holder: Holder,
    /// Its newest root.
    pub newest: RootName,
    /// When that was made, by the holder's clock.
    pub newest_at: crate::time::WallTime,
    /// Whether taking over is possible only with a loss accepted.
    pub needs_accept_loss: bool,
}

/// What the store says about a volume.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The superblock; `None`: no such object.
    pub superblock: Option<Superblock>,
    /// The highest opened generation and its holder.
    pub opened: Option<(Generation, Holder)>,
    /// The newest root of the history; `None`: unborn.
    pub root: Option<Arc<Root>>,
}

/// Why a wish was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The volume is not in a state that allows it (says which).
    WrongState(&'static str),
    /// There is no such snapshot.
    NoSuchSnapshot,
    /// A snapshot of that name exists.
    NameTaken,
    /// There is no volume in that container.
    NoSuchVolume,
    /// The container holds a volume already, or one being born.
    Exists,
    /// The format is newer than this program.
    FormatTooNew {
        /// The object.
        object: String,
    },
    /// This host has lost the volume.
    Fenced,
    /// The store cannot be reached, is full, denies us, or an object is damaged.
    Store {
        /// The object asked for.
        object: String,
        /// What it answered.
        error: crate::effect::StoreError,
    },
    /// The local disk failed.
    Disk(crate::effect::DiskError),
    /// Another attempt won the race; try again.
    LostRace,
    /// The same wish is under way, or too many are.
    Busy,
}
