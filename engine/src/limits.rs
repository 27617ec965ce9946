//! Every bound of a volume, with its default.

use crate::ids::StateDirId;
use crate::time::{Duration, WallTime};
use crate::units::ByteCount;
use alloc::string::String;

/// Bounds of one volume. `docs/limits.md` says what each protects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a journal file. 64 MiB; at least 16 pages.
    pub file_bytes: ByteCount,
    /// Journal files of the volume, the two reserve files included. 32; at least 4.
    pub files: u32,
    /// Bytes of payload kept in memory until durable. 64 MiB.
    pub unsynced_bytes: ByteCount,
    /// Bytes of guest commands in flight. 64 MiB.
    pub inflight_bytes: ByteCount,
    /// Guest commands in flight. 1024.
    pub inflight_commands: u32,
    /// Slots of the frame cache. 16,384 (1 GiB).
    pub cache_slots: u32,
    /// Leaves held in memory. 256.
    pub leaves: u32,
    /// Data objects under way to the store at once. 8.
    pub uploads: u32,
    /// Frame reads from the store at once. 16.
    pub hydrations: u32,
    /// Most payload of a packed data object. 8 MiB; a section over half of it gets an object of its own.
    pub object_bytes: ByteCount,
    /// Most bytes of leaves that ride in a root. 32 KiB.
    pub riding_bytes: ByteCount,
    /// Most bytes of a packed leaves object. 4 MiB.
    pub leaves_bytes: ByteCount,
    /// A guest command that waits for the store or for room is answered BUSY after this. 12 s.
    pub busy_after: Duration,
    /// Sessions are closed after so long of BUSY. 30 s.
    pub close_after: Duration,
    /// The watch's period, and the period of the look that reopens. 5 s.
    pub watch: Duration,
    /// A restart waits so long for an answer about the next door. 3 s.
    pub restart_look: Duration,
    /// While attaching anew a restarted host answers at most so long past its last good watch. 10 s.
    pub attach_grace: Duration,
    /// A checkpoint is published at least this often while there is something to publish. 5 min.
    pub checkpoint_interval: Duration,
    /// Per cent of the journal's files in use that order a checkpoint. 50.
    pub high_water: u32,
    /// Deadline of one store request before the engine counts it as away. 10 s.
    pub store_deadline: Duration,
    /// Two asks about one absence lie so far apart (A1). 2 s.
    pub absence_gap: Duration,
    /// What a dying version's objects are kept for. 10 min.
    pub delete_grace: Duration,
    /// An orphan younger than this is not collected, by the store's clock. 1 h.
    pub min_age: Duration,
    /// A volume that may have orphans, or has pins, looks for those that can go at most this often by itself. 1 h.
    pub collect_interval: Duration,
    /// The longest random wait after a lost claim. 2 s.
    pub claim_backoff: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: ByteCount(64 << 20),
            files: 32,
            unsynced_bytes: ByteCount(64 << 20),
            inflight_bytes: ByteCount(64 << 20),
            inflight_commands: 1024,
            cache_slots: 16_384,
            leaves: 256,
            uploads: 8,
            hydrations: 16,
            object_bytes: ByteCount(8 << 20),
            riding_bytes: ByteCount(32 << 10),
            leaves_bytes: ByteCount(4 << 20),
            busy_after: Duration::from_secs(12),
            close_after: Duration::from_secs(30),
            watch: Duration::from_secs(5),
            restart_look: Duration::from_secs(3),
            attach_grace: Duration::from_secs(10),
            checkpoint_interval: Duration::from_secs(300),
            high_water: 50,
            store_deadline: Duration::from_secs(10),
            absence_gap: Duration::from_secs(2),
            delete_grace: Duration::from_secs(600),
            min_age: Duration::from_secs(3600),
            collect_interval: Duration::from_secs(3600),
            claim_backoff: Duration::from_secs(2),
        }
    }
}

/// Absences that an attach asks twice between its first request and the end of its step 7, where a local record or a
/// listing that lags a little says about where to look: 13 if none ran beside another, and some spare.
const ATTACH_ABSENCES: u32 = 16;

impl Limits {
    /// The shortest [`Limits::delete_grace`] with which an attach ends. What its step 1 found must outlive its step 7, so
    /// an attempt that takes longer than half of the grace starts over, and one that always does never ends. Half of this
    /// is room for every absence that is asked twice, and for a request that takes its whole deadline.
    pub fn delete_grace_min(&self) -> Duration {
        (self.absence_gap * ATTACH_ABSENCES + self.store_deadline) * 2
    }
}

/// Who runs the volume: what the engine cannot know by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Host name, at most 63 bytes.
    pub host: String,
    /// The state directory.
    pub state_dir: StateDirId,
    /// Fresh randomness of this process and volume: nonces and waits are drawn from it.
    pub seed: u64,
    /// Wall time at [`crate::time::Instant`] 0.
    pub wall: WallTime,
}
