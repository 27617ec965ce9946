//! What the program describes: targets and their logical units, and what lives as long as they do.
//!
//! Shape      [`Node`] → [`Target`] → [`LogicalUnit`]. A unit's LUN is its place in its target's list.
//! Invariant  a session that is asked to end stays registered until every command of it is answered, so that a session
//!            which takes its place can never be overtaken by an old write.
//! Not here   what goes over a connection (`session`), sockets (`net`).

use crate::scsi::Sense;
use crate::scsi::cdb::Access;
use crate::scsi::copy::{RECORDS_MAX, Record};
use crate::scsi::reserve::{Denied, Nexus, Reservations};
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering};
use engine::effect::{Gate, GateReason};
use engine::ids::VolumeId;
use engine::units::BlockCount;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

/// What a logical unit shall be.
#[derive(Clone, Debug)]
pub struct UnitSpec {
    /// The volume behind it. The NAA id, the serial number and the T10 designator derive from it.
    pub volume: VolumeId,
    /// Bytes of a logical block: 512 or 4096.
    pub block_bytes: u32,
    /// Size in blocks. At least 1.
    pub capacity: BlockCount,
    /// Takes no writes (snapshot, sealed volume).
    pub read_only: bool,
    /// A removable medium: it can be ejected and locked.
    pub removable: bool,
    /// Tells the units of one volume apart (0: the volume itself; a snapshot: its version + 1). Part of the ids.
    pub instance: u32,
}

/// CHAP secrets. RFC 7143 §12.1.3, "Challenge Handshake Authentication Protocol (CHAP)".
#[derive(Clone)]
pub struct Credentials {
    /// The name and secret that an initiator must prove.
    pub user: String,
    /// At least 12 bytes (96 bits) unless the operator insists.
    pub secret: Vec<u8>,
    /// The name and secret that the target proves, when asked to.
    pub mutual: Option<(String, Vec<u8>)>,
}

impl fmt::Debug for Credentials {
    /// Secrets never show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .field("mutual", &self.mutual.as_ref().map(|(name, _)| name))
            .finish_non_exhaustive()
    }
}

/// What a target shall be.
#[derive(Clone, Debug)]
pub struct TargetSpec {
    /// Its iSCSI name: `iqn.2011-05.io.martlet:NAME`.
    pub name: String,
    /// CHAP, if initiators must prove who they are.
    pub credentials: Option<Credentials>,
    /// Initiator names that may log in; empty: any.
    pub initiators: Vec<String>,
    /// The logical units; the first is LUN 0. 1 to 255.
    pub units: Vec<UnitSpec>,
    /// Whether initiators are let in from the start.
    pub gate: Gate,
}

/// Why a target was not added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AddError {
    /// There is a target of this name.
    NameTaken,
    /// Not an iSCSI name (RFC 7143 §4.2.7.1, "iSCSI Name Properties"): 1 to 223 bytes of lower-case letters, digits, `-.:`.
    BadName,
    /// No unit, too many, or a unit whose numbers are out of range.
    BadUnit,
}

impl fmt::Display for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NameTaken => "a target of this name exists",
            Self::BadName => "not an iSCSI name: 1 to 223 of a-z 0-9 - . :",
            Self::BadUnit => "a target needs 1 to 255 units of 512 or 4096 byte blocks",
        })
    }
}

impl core::error::Error for AddError {}

/// What every command of a unit asks first: a set of facts in one byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UnitFlags(u8);

impl UnitFlags {
    /// SWP of the control mode page.
    pub const SOFTWARE_WRITE_PROTECT: Self = Self(1);
    /// D_SENSE of the control mode page.
    pub const DESCRIPTOR_SENSE: Self = Self(2);
    /// The medium is out.
    pub const EJECTED: Self = Self(4);
    /// Somebody holds a reservation: ask [`LogicalUnit::allows`].
    pub const RESERVED: Self = Self(8);

    /// Whether all of `flag` is in the set.
    pub const fn contains(self, flag: Self) -> bool {
        self.0 & flag.0 == flag.0
    }

    /// Adds.
    pub const fn insert(&mut self, flag: Self) {
        self.0 |= flag.0;
    }

    /// Takes away.
    pub const fn remove(&mut self, flag: Self) {
        self.0 &= !flag.0;
    }
}

/// A logical unit: its description and what its sessions share.
#[derive(Debug)]
pub struct LogicalUnit {
    spec: UnitSpec,
    capacity: AtomicU64,
    flags: AtomicU8,
    reservations: Mutex<Reservations>,
    /// Copies that their sessions may ask about.
    copies: Mutex<Vec<Record>>,
    /// Sessions that prevent the removal of the medium.
    preventers: Mutex<Vec<u16>>,
}

impl LogicalUnit {
    fn new(spec: UnitSpec) -> Self {
        Self {
            capacity: AtomicU64::new(spec.capacity.0),
            flags: AtomicU8::new(0),
            reservations: Mutex::new(Reservations::default()),
            copies: Mutex::new(Vec::new()),
            preventers: Mutex::new(Vec::new()),
            spec,
        }
    }

    /// What holds now.
    pub fn flags(&self) -> UnitFlags {
        UnitFlags(self.flags.load(Ordering::Acquire))
    }

    /// Sets the flags of `mask` to `flags`. Tells whether anything changed.
    pub(crate) fn set_flags(&self, mask: UnitFlags, flags: UnitFlags) -> bool {
        let change = |old: u8| Some(old & !mask.0 | flags.0 & mask.0);
        let old = self
            .flags
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, change)
            .unwrap_or_else(|old| old);
        (old ^ flags.0) & mask.0 != 0
    }

    fn with_reservations<T>(&self, f: impl FnOnce(&mut Reservations) -> T) -> T {
        let mut reservations = lock(&self.reservations);
        let out = f(&mut reservations);
        let reserved = UnitFlags::RESERVED;
        let flags = if reservations.is_idle() {
            UnitFlags::default()
        } else {
            reserved
        };
        self.set_flags(reserved, flags);
        out
    }

    /// Whether reservations let `nexus` run a command of this access.
    pub(crate) fn allows(&self, nexus: &Nexus, access: Access) -> bool {
        lock(&self.reservations).allows(nexus, access)
    }

    pub(crate) fn reserve(&self, nexus: &Nexus) -> Result<(), Denied> {
        self.with_reservations(|r| r.reserve(nexus))
    }

    pub(crate) fn release(&self, nexus: &Nexus) {
        self.with_reservations(|r| r.release(nexus));
    }

    pub(crate) fn persistent_in(&self, action: u8, allocation: u32) -> Vec<u8> {
        lock(&self.reservations).report(action, allocation)
    }

    /// Remembers a copy, under its list's name; the oldest is forgotten when there are too many.
    pub(crate) fn keep_copy(&self, record: Record) {
        let mut copies = lock(&self.copies);
        copies.retain(|c| (c.tsih, c.list_id) != (record.tsih, record.list_id));
        if copies.len() >= RECORDS_MAX {
            copies.remove(0);
        }
        copies.push(record);
    }

    pub(crate) fn copy_record(&self, tsih: u16, list_id: u8) -> Option<Record> {
        let copies = lock(&self.copies);
        let found = copies
            .iter()
            .find(|c| (c.tsih, c.list_id) == (tsih, list_id));
        found.copied()
    }

    pub(crate) fn prevent(&self, tsih: u16, prevent: bool) {
        let mut preventers = lock(&self.preventers);
        preventers.retain(|p| *p != tsih);
        if prevent {
            preventers.push(tsih);
        }
    }

    pub(crate) fn is_removal_prevented(&self) -> bool {
        !lock(&self.preventers).is_empty()
    }

    /// What a reset ends: RESERVE (6) and PREVENT ALLOW MEDIUM REMOVAL.
    pub(crate) fn reset(&self) {
        self.with_reservations(Reservations::reset);
        lock(&self.preventers).clear();
    }

    /// What the end of a nexus ends.
    pub(crate) fn nexus_lost(&self, nexus: &Nexus, tsih: u16) {
        self.release(nexus);
        self.prevent(tsih, false);
        lock(&self.copies).retain(|c| c.tsih != tsih);
    }

    /// What the program said. The capacity may have changed since.
    pub fn spec(&self) -> &UnitSpec {
        &self.spec
    }

    /// Size in blocks.
    pub fn capacity(&self) -> BlockCount {
        BlockCount(self.capacity.load(Ordering::Acquire))
    }
}

/// Rings when a connection has mail. The driver's side of a [`Mailbox`].
pub trait Doorbell: Send + Sync + fmt::Debug {
    /// The connection shall call its `handle_mail` soon. May be called from any thread, under locks of this crate.
    fn ring(&self);
}

/// News from other sessions or the program for one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mail {
    /// End the session: abort its commands, close.
    End(EndReason),
    /// What stood in the way of this login is gone: a session, or the lack of a look.
    Departed,
    /// A UNIT ATTENTION for the next command to a unit.
    Attention {
        /// Which.
        lun: u16,
        /// What.
        sense: Sense,
    },
    /// Abort the commands of a unit, and tell the barrier when the last one is answered.
    Abort {
        /// Which.
        lun: u16,
        /// Who waits.
        barrier: Arc<Barrier>,
    },
    /// Abort the commands of a unit (of all: `None`), tell the barrier when the last one is answered, and say `sense` next.
    Clear {
        /// Which.
        lun: Option<u16>,
        /// What the next command hears.
        sense: Sense,
        /// Who waits.
        barrier: Arc<Barrier>,
    },
    /// Every command that a [`Mail::Clear`] of ours concerns is answered.
    Cleared(u32),
}

/// Rings a mailbox when the last of its holders is gone.
#[derive(Debug)]
pub struct Barrier {
    asker: Arc<Mailbox>,
    id: u32,
}

impl Barrier {
    /// Posts [`Mail::Cleared`] with `id` to `asker`.
    pub(crate) const fn new(asker: Arc<Mailbox>, id: u32) -> Self {
        Self { asker, id }
    }
}

impl PartialEq for Barrier {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.asker, &other.asker) && self.id == other.id
    }
}

impl Eq for Barrier {}

impl Drop for Barrier {
    fn drop(&mut self) {
        self.asker.post(Mail::Cleared(self.id));
    }
}

/// Why a session ends that did not log out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The same initiator logged in anew with the same ISID.
    Reinstated,
    /// The target's gate closed.
    GateClosed,
    /// The target was removed.
    Removed,
    /// TARGET COLD RESET.
    ColdReset,
}

/// A connection's letter box. The flag makes the empty case one atomic load.
#[derive(Debug)]
pub struct Mailbox {
    full: AtomicBool,
    mail: Mutex<Vec<Mail>>,
    bell: Arc<dyn Doorbell>,
}

impl Mailbox {
    /// An empty box.
    pub fn new(bell: Arc<dyn Doorbell>) -> Self {
        Self {
            full: AtomicBool::new(false),
            mail: Mutex::new(Vec::new()),
            bell,
        }
    }

    pub(crate) fn post(&self, mail: Mail) {
        lock(&self.mail).push(mail);
        self.full.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// Takes what is there.
    pub(crate) fn take(&self) -> Vec<Mail> {
        if !self.full.load(Ordering::Acquire) || !self.full.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        core::mem::take(&mut *lock(&self.mail))
    }
}

/// A session as others see it.
#[derive(Debug)]
struct Registered {
    nexus: Nexus,
    tsih: u16,
    mailbox: Arc<Mailbox>,
    /// Logins that wait until this session is gone.
    waiters: Vec<Arc<Mailbox>>,
}

/// Asked before an idle target lets its first session in. The program's side.
pub trait Lookout: Send + Sync + fmt::Debug {
    /// Find out whether the target may serve, set its gate accordingly, then call [`Target::looked`]; within some seconds,
    /// for a login waits. Must not block.
    fn look(&self);
}

/// Logins to an idle target.
#[derive(Debug, Default)]
struct Looking {
    /// A look is under way for them.
    waiters: Vec<Arc<Mailbox>>,
    /// The look was made: they may try again.
    passed: Vec<Arc<Mailbox>>,
}

/// A target: its description, its gate and its sessions.
#[derive(Debug)]
pub struct Target {
    lookout: OnceLock<Arc<dyn Lookout>>,
    looking: Mutex<Looking>,
    spec: TargetSpec,
    units: Vec<Arc<LogicalUnit>>,
    open: Mutex<Gate>,
    sessions: Mutex<Vec<Registered>>,
}

/// What became of an attempt to register a session.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It is registered under this TSIH.
    In(u16),
    /// A session stands in the way and was told to end, or a look is under way; [`Mail::Departed`] says when to try again.
    Wait,
    /// The gate is closed.
    Shut,
    /// Too many sessions.
    Full,
}

impl Target {
    /// What the program said.
    pub fn spec(&self) -> &TargetSpec {
        &self.spec
    }

    /// The logical units, by LUN.
    pub fn units(&self) -> &[Arc<LogicalUnit>] {
        &self.units
    }

    /// Whether initiators are let in.
    pub fn gate(&self) -> Gate {
        *lock(&self.open)
    }

    /// Opens or closes the gate. Closing ends every session.
    pub fn set_gate(&self, gate: Gate) {
        *lock(&self.open) = gate;
        if gate != Gate::Open {
            self.end_all(EndReason::GateClosed);
        }
    }

    /// Has the first session after idle wait until `lookout` has looked. Once per target.
    pub fn set_lookout(&self, lookout: Arc<dyn Lookout>) {
        // A second one would be a second program.
        let _ = self.lookout.set(lookout);
    }

    /// The look that [`Lookout::look`] asked for is made, and the gate says what came of it.
    pub fn looked(&self) {
        let mut looking = lock(&self.looking);
        let waiters = core::mem::take(&mut looking.waiters);
        looking.passed.clone_from(&waiters);
        drop(looking);
        waiters.iter().for_each(|w| w.post(Mail::Departed));
    }

    /// Whether this login must wait for a look.
    fn must_look(&self, mailbox: &Arc<Mailbox>) -> bool {
        let Some(lookout) = self.lookout.get() else {
            return false;
        };
        let mut looking = lock(&self.looking);
        if let Some(at) = looking.passed.iter().position(|m| Arc::ptr_eq(m, mailbox)) {
            looking.passed.swap_remove(at);
            return false;
        }
        let is_first = looking.waiters.is_empty();
        looking.waiters.push(mailbox.clone());
        drop(looking);
        if is_first {
            lookout.look();
        }
        true
    }

    /// Announces a new size of a unit to every session (UNIT ATTENTION, CAPACITY DATA HAS CHANGED).
    pub fn resize(&self, lun: u16, capacity: BlockCount) {
        let Some(unit) = self.units.get(usize::from(lun)) else {
            return;
        };
        if unit.capacity.swap(capacity.0, Ordering::AcqRel) == capacity.0 {
            return;
        }
        self.attention(lun, None, Sense::CAPACITY_CHANGED);
    }

    /// Posts a UNIT ATTENTION to every session but one.
    pub(crate) fn attention(&self, lun: u16, but: Option<u16>, sense: Sense) {
        let sessions = lock(&self.sessions);
        let others = sessions.iter().filter(|s| Some(s.tsih) != but);
        others.for_each(|s| s.mailbox.post(Mail::Attention { lun, sense }));
    }

    /// Asks every session but one to abort its commands on a unit (on all: `None`). The barrier rings when they are answered.
    pub(crate) fn clear(&self, lun: Option<u16>, but: u16, sense: Sense, barrier: &Arc<Barrier>) {
        let sessions = lock(&self.sessions);
        for session in sessions.iter().filter(|s| s.tsih != but) {
            let barrier = barrier.clone();
            session.mailbox.post(Mail::Clear {
                lun,
                sense,
                barrier,
            });
        }
    }

    pub(crate) fn persistent_out(
        &self,
        lun: u16,
        nexus: &Nexus,
        action: u8,
        scope_type: u8,
        list: &[u8],
    ) -> Result<Vec<Nexus>, Denied> {
        let Some(unit) = self.units.get(usize::from(lun)) else {
            return Err(Denied::Check(Sense::LUN_NOT_SUPPORTED));
        };
        let told = unit.with_reservations(|r| r.change(nexus, action, scope_type, list))?;
        let sessions = lock(&self.sessions);
        for session in sessions.iter() {
            for (_, sense) in told.attentions.iter().filter(|(n, _)| *n == session.nexus) {
                session.mailbox.post(Mail::Attention { lun, sense: *sense });
            }
        }
        Ok(told.aborted)
    }

    /// Aborts the commands of these to a unit; they hear of it by an attention. The barrier tells when they are over.
    pub(crate) fn abort(&self, lun: u16, preempted: &[Nexus], barrier: &Arc<Barrier>) {
        let sessions = lock(&self.sessions);
        for session in sessions.iter().filter(|s| preempted.contains(&s.nexus)) {
            let barrier = barrier.clone();
            session.mailbox.post(Mail::Abort { lun, barrier });
        }
    }

    /// Whether the list of initiators has this one, or is empty.
    pub(crate) fn lets_in(&self, initiator: &str) -> bool {
        let list = &self.spec.initiators;
        list.is_empty() || list.iter().any(|i| i == initiator)
    }

    /// Whether a session has this TSIH.
    pub(crate) fn has_session(&self, tsih: u16) -> bool {
        lock(&self.sessions).iter().any(|s| s.tsih == tsih)
    }

    /// Number of sessions, those that are ending included.
    pub fn session_count(&self) -> usize {
        lock(&self.sessions).len()
    }

    /// Ends every session, for a reason that the program gives.
    pub fn end_sessions(&self, reason: EndReason) {
        self.end_all(reason);
    }

    pub(crate) fn end_all(&self, reason: EndReason) {
        for session in lock(&self.sessions).iter() {
            session.mailbox.post(Mail::End(reason));
        }
    }
}

/// The most sessions that a target takes at once.
pub const SESSIONS_MAX: usize = 256;

impl Target {
    /// Registers a session, or tells the one in its place to end (RFC 7143 §6.3.5, "Session Reinstatement, Closure, and
    /// Timeout").
    pub(crate) fn admit(&self, node: &Node, nexus: &Nexus, mailbox: &Arc<Mailbox>) -> Admission {
        if self.gate() != Gate::Open {
            return Admission::Shut;
        }
        if self.session_count() == 0 && self.must_look(mailbox) {
            return Admission::Wait;
        }
        let mut sessions = lock(&self.sessions);
        if let Some(old) = sessions.iter_mut().find(|s| s.nexus == *nexus) {
            old.waiters.push(mailbox.clone());
            old.mailbox.post(Mail::End(EndReason::Reinstated));
            return Admission::Wait;
        }
        if sessions.len() >= SESSIONS_MAX {
            return Admission::Full;
        }
        // 16 bits wrap after 65,535 logins; at most 256 are taken, so a free one is near. 0 is reserved.
        let tsih = loop {
            let tsih = node.draw_tsih();
            if sessions.iter().all(|s| s.tsih != tsih) {
                break tsih;
            }
        };
        sessions.push(Registered {
            nexus: nexus.clone(),
            tsih,
            mailbox: mailbox.clone(),
            waiters: Vec::new(),
        });
        Admission::In(tsih)
    }

    /// The session is gone: every command of it is answered.
    pub(crate) fn depart(&self, tsih: u16) {
        let mut sessions = lock(&self.sessions);
        let Some(at) = sessions.iter().position(|s| s.tsih == tsih) else {
            return;
        };
        let gone = sessions.remove(at);
        drop(sessions);
        gone.waiters.iter().for_each(|w| w.post(Mail::Departed));
    }
}

/// All targets of this process.
#[derive(Debug)]
pub struct Node {
    targets: RwLock<BTreeMap<String, Arc<Target>>>,
    next_tsih: AtomicU16,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            targets: RwLock::new(BTreeMap::new()),
            next_tsih: AtomicU16::new(1),
        }
    }
}

impl Node {
    /// Adds a target.
    ///
    /// # Errors
    ///
    /// See [`AddError`].
    pub fn add(&self, spec: TargetSpec) -> Result<Arc<Target>, AddError> {
        if !is_iscsi_name(&spec.name) {
            return Err(AddError::BadName);
        }
        let fits = |u: &UnitSpec| {
            (u.block_bytes == 512 || u.block_bytes == 4096)
                && u.capacity.0 >= 1
                && u.capacity.0 <= (1 << 63) / u64::from(u.block_bytes)
        };
        if spec.units.is_empty() || spec.units.len() > 255 || !spec.units.iter().all(fits) {
            return Err(AddError::BadUnit);
        }
        let mut targets = self.targets.write().unwrap_or_else(PoisonError::into_inner);
        if targets.contains_key(&spec.name) {
            return Err(AddError::NameTaken);
        }
        let units = spec.units.iter().cloned().map(LogicalUnit::new);
        let target = Arc::new(Target {
            lookout: OnceLock::new(),
            looking: Mutex::default(),
            units: units.map(Arc::new).collect(),
            open: Mutex::new(spec.gate),
            sessions: Mutex::new(Vec::new()),
            spec,
        });
        targets.insert(target.spec.name.clone(), target.clone());
        Ok(target)
    }

    /// Removes a target and ends its sessions. Returns it, so that the caller can wait for [`Target::session_count`] 0.
    pub fn remove(&self, name: &str) -> Option<Arc<Target>> {
        let mut targets = self.targets.write().unwrap_or_else(PoisonError::into_inner);
        let target = targets.remove(name)?;
        drop(targets);
        *lock(&target.open) = Gate::Closed(GateReason::Detached);
        target.end_all(EndReason::Removed);
        Some(target)
    }

    /// A TSIH, never 0. It may be in use: 16 bits wrap.
    pub(crate) fn draw_tsih(&self) -> u16 {
        match self.next_tsih.fetch_add(1, Ordering::Relaxed) {
            0 => self.next_tsih.fetch_add(1, Ordering::Relaxed),
            tsih => tsih,
        }
    }

    /// The target of this name.
    pub fn find(&self, name: &str) -> Option<Arc<Target>> {
        let targets = self.targets.read().unwrap_or_else(PoisonError::into_inner);
        targets.get(name).cloned()
    }

    /// Every target, by name.
    pub fn all(&self) -> Vec<Arc<Target>> {
        let targets = self.targets.read().unwrap_or_else(PoisonError::into_inner);
        targets.values().cloned().collect()
    }
}

/// RFC 7143 §4.2.7.1, "iSCSI Name Properties", for names after preparation: this node only bears and compares such.
pub(crate) fn is_iscsi_name(name: &str) -> bool {
    let allowed =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b':');
    (1..=223).contains(&name.len()) && name.bytes().all(allowed)
}

/// A poisoned lock means that a thread died between two whole updates; every update here is whole at each step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
