//! Carrying effects out: what the world does for an engine, and what may go wrong with it.

use crate::choice::Die;
use crate::disk::{Fate, Harm, Local};
use crate::operator::AGAIN_SESSIONS;
use crate::oracle::Violation;
use crate::oracle::history::What;
use crate::payload::{Blocks, Stamp, push_stamps, stamps_of};
use crate::seat::{Asked, Flying, LocalNote, Role, request_name};
use crate::workload::Kind;
use crate::world::{Event, MS, SEC, Transit, US, World};
use engine::effect::{
    Body, DiskRequest, Effect, Gate, GateReason, LocalFile, Notice, Outcome, StoreError,
    StoreRequest,
};
use engine::ids::{EffectId, FileId};
use engine::journal::record::{RecordBody, RecordHead};
use engine::object::names::ObjectName;
use engine::payload::Parts;
use engine::units::ByteCount;

/// Kinds of effect, each with its own numbers for dice.
#[derive(Clone, Copy)]
enum Count {
    Append,
    Sync,
    Read,
    Disk,
    Store,
}

impl World {
    fn number(&mut self, seat: usize, count: Count) -> u64 {
        let s = &mut self.seats[seat];
        s.numbers[count as usize] += 1;
        (seat as u64) << 40 | s.numbers[count as usize]
    }

    pub(crate) fn carry_out(&mut self, seat: usize, effect: Effect<Blocks>) {
        match effect {
            Effect::Read { id, read } => {
                let n = self.number(seat, Count::Read);
                if read.file == LocalFile::Cache
                    && self.strikes(Die::CacheRot, n, self.config.faults.cache_rot)
                {
                    let place = read.at / 4096;
                    self.seats[seat]
                        .disk
                        .damage_cache(place, crate::disk::Damage::Rot);
                }
                if read.file != LocalFile::Cache {
                    self.harm_journal(seat, 1 << 62 | n, 1);
                }
                self.trace.roll(0x1000 ^ id.0);
                self.local(seat, id, Local::Read(read), LocalNote::Other("read"), n);
            }
            Effect::Append {
                id,
                file,
                at,
                head,
                data,
            } => self.append(seat, id, file, at, head, &data),
            Effect::Sync { id, file } => {
                let n = self.number(seat, Count::Sync);
                self.trace.roll(0x3000 ^ id.0);
                self.trace
                    .tell(self.now, || format!("seat {seat} sync {file:?}"));
                let local = self.seats[seat].disk.sync(file);
                self.local(seat, id, local, LocalNote::Synced(file), n);
            }
            Effect::Disk { id, request } => {
                let n = self.number(seat, Count::Disk);
                let name = request_name(&request);
                self.trace.roll(0x4000 ^ id.0 ^ (name.len() as u64) << 40);
                self.trace.tell(self.now, || match &request {
                    DiskRequest::WriteNote(note) => format!("seat {seat} write-note {note:?}"),
                    DiskRequest::CreateFile { file, bytes } => {
                        format!("seat {seat} create {file:?} of {bytes:?}")
                    }
                    DiskRequest::RemoveFile(file) => format!("seat {seat} remove {file:?}"),
                    _ => format!("seat {seat} {name}"),
                });
                self.local(seat, id, Local::Disk(request), LocalNote::Other(name), n);
            }
            Effect::Store { id, request } => self.ask_store(seat, id, request),
            Effect::Compare { id, found, expect } => {
                self.trace.roll(0x6000 ^ id.0);
                let unit = self.config.geometry.block_bytes;
                let (found, expect) = (stamps_of(&found, unit), expect.stamps().collect());
                self.seats[seat]
                    .flying
                    .insert(id.0, Flying::Compare(found, expect));
                let life = self.seats[seat].life;
                self.after(
                    US,
                    Event::Local {
                        seat,
                        life,
                        id: id.0,
                    },
                );
            }
            Effect::Cancel(id) => self.trace.roll(0x7000 ^ id.0),
            Effect::Reply(tag, reply) => self.replied(seat, tag.0, reply),
            Effect::Told(wish, verdict) => self.told(seat, wish.0, verdict),
            Effect::Gate(gate) => self.gate(seat, gate),
            Effect::Notice(notice) => self.notice(seat, notice),
        }
    }

    /// Whether a fault of that kind strikes; it is counted if so.
    pub(crate) fn strikes(&mut self, die: Die, entity: u64, ppm: u32) -> bool {
        let strikes = self.chaos() && self.choices.chance(die, entity, 0, ppm);
        if strikes {
            self.trace.fault(die, entity);
            self.trace
                .tell(self.now, || format!("FAULT {}", die.name()));
        }
        strikes
    }

    /// Whether the journal has room for guests. There was none a moment ago: those who waited are served from now on.
    pub(crate) fn look_for_room(&mut self, seat: usize) {
        let s = &mut self.seats[seat];
        let Some((used, total)) = s.engine.as_ref().map(|e| e.status().files) else {
            return;
        };
        if s.was_full {
            s.held_up_until = s.held_up_until.max(self.now + SEC);
        }
        // Two are kept in reserve, and a third may be all but full.
        s.was_full = used + 3 >= total;
    }

    /// Harm may come to a page of the journal or of a note, `often` times as likely as the configuration says.
    pub(crate) fn harm_journal(&mut self, seat: usize, entity: u64, often: u32) {
        let faults = &self.config.faults;
        let kinds = [
            (Die::Rot, Harm::Rot, faults.rot),
            (Die::Latent, Harm::Latent, faults.latent),
            (Die::Misdirect, Harm::Misdirected, faults.misdirect),
        ];
        self.harm_note(seat, entity, often);
        for (die, harm, ppm) in kinds {
            let ppm = ppm * often;
            if !self.chaos() || !self.choices.chance(die, entity, 0, ppm) {
                continue;
            }
            let n = self.choices.pick(die, entity, 1, u64::MAX);
            let s = &mut self.seats[seat];
            let Some(history) = s.history.as_mut() else {
                continue;
            };
            let Some(harmed) = s.disk.harm(harm, n, history.durable()) else {
                continue;
            };
            for (seq, extent) in &harmed.blocks {
                history.set_damaged(*extent, *seq);
            }
            s.is_nameless |= !harmed.nameless.is_empty();
            self.trace.fault(die, entity);
            self.trace.tell(self.now, || {
                format!("FAULT {} on seat {seat}: {harmed:?}", die.name())
            });
        }
    }

    // Harm may come to a page of the note's slots.
    fn harm_note(&mut self, seat: usize, entity: u64, often: u32) {
        let faults = &self.config.faults;
        let (rot, latent) = (faults.rot, faults.latent);
        let ppm = rot.max(latent) * often;
        if !self.chaos() || !self.choices.chance(Die::NoteRot, entity, 0, ppm) {
            return;
        }
        let n = self.choices.pick(Die::NoteRot, entity, 1, u64::MAX);
        let is_rot = latent == 0 || rot > 0 && n >> 60 & 1 == 0;
        let harm = if is_rot { Harm::Rot } else { Harm::Latent };
        if self.seats[seat].disk.harm_note(harm, n) {
            self.trace.fault(Die::NoteRot, entity);
            self.trace.tell(self.now, || {
                format!("FAULT note-rot on seat {seat}: {harm:?}, number {n:x}")
            });
        }
    }

    fn append(
        &mut self,
        seat: usize,
        id: EffectId,
        file: FileId,
        at: u64,
        head: RecordHead,
        data: &Parts<Blocks>,
    ) {
        let n = self.number(seat, Count::Append);
        let seq = head.seq.0;
        self.trace.roll(0x2000 ^ id.0 ^ seq << 20);
        let unit = self.config.geometry.block_bytes;
        let mut stamps = Vec::new();
        push_stamps(data, unit, &mut stamps);
        self.trace.tell(self.now, || {
            format!(
                "seat {seat} append seq {seq} to {file:?} page {} {:?} {stamps:?}",
                head.page,
                head.body.extents()
            )
        });
        self.look_for_room(seat);
        let checked = self.record(seat, &head, &stamps);
        self.check(checked);
        if u64::from(head.page) * 4096 != at || head.file != file {
            let text = format!(
                "a record for page {} of {:?} goes to byte {at} of {file:?}",
                head.page, head.file
            );
            self.fail(Violation::new("B7", text));
        }
        let local = self.seats[seat].disk.append(file, at, head, data);
        self.local(seat, id, local, LocalNote::Appended(file, seq), n);
    }

    // What the record says about the history.
    fn record(
        &mut self,
        seat: usize,
        head: &RecordHead,
        stamps: &[Stamp],
    ) -> Result<(), Violation> {
        let seq = head.seq.0;
        let what = match &head.body {
            RecordBody::Write { extent, .. } => {
                if stamps.len() as u64 != extent.count.0 {
                    let text = format!("seq {seq} writes {extent} with {} blocks", stamps.len());
                    return Err(Violation::new("B7", text));
                }
                let strays = extent
                    .range()
                    .zip(stamps)
                    .find(|(lba, s)| !s.is_zero() && u64::from(s.lba) != *lba);
                if let Some((lba, stamp)) = strays {
                    return Err(Violation::new(
                        "B7",
                        format!("seq {seq} writes {stamp:?} to block {lba}"),
                    ));
                }
                What::Write(*extent, stamps.to_vec())
            }
            RecordBody::Holes(extents) => What::Holes(extents.to_vec()),
            RecordBody::Attribute { key, value } => {
                What::Attribute(key.clone(), value.as_deref().map(attribute_number))
            }
            RecordBody::Void => What::Void,
        };
        let Some(history) = self.seats[seat].history.as_mut() else {
            return Err(Violation::new(
                "P2",
                format!("seq {seq} is accepted before the volume serves"),
            ));
        };
        let durable = head.durable.0;
        if durable > history.durable() {
            let text = format!(
                "the record of seq {seq} says {durable} is durable; it is so up to {}",
                history.durable()
            );
            return Err(Violation::new("B3", text));
        }
        if history.accept(seq, what.clone())? {
            self.belongs(seat, seq, &what)?;
        }
        Ok(())
    }

    // Which guest's command a new record belongs to.
    fn belongs(&mut self, seat: usize, seq: u64, what: &What) -> Result<(), Violation> {
        let s = &mut self.seats[seat];
        let owner = match what {
            What::Write(_, stamps) => {
                let write = stamps.iter().find(|s| !s.is_zero()).map_or(0, |s| s.write);
                if s.buried.contains(&write) {
                    let text = format!("seq {seq} writes for write {write}, which is over");
                    return Err(Violation::new("B8", text));
                }
                s.asked.values_mut().find(|a| a.write == write)
            }
            What::Holes(extents) => {
                let clears = |a: &Asked| {
                    matches!(a.kind, Kind::Discard | Kind::WriteZeroes)
                        && a.covered < a.extents.iter().map(|e| e.count.0).sum()
                };
                let holds = |a: &Asked| {
                    extents
                        .iter()
                        .all(|e| a.extents.iter().any(|w| w.contains(*e)))
                };
                // The one with just these extents, or the first that holds them; better one that was not taken back.
                let candidates = s.asked.values_mut().filter(|a| clears(a) && holds(a));
                candidates.min_by_key(|a| (a.extents != *extents, a.aborted, a.serial))
            }
            What::Attribute(key, value) => s.asked.values_mut().find(|a| {
                a.kind == Kind::Attribute
                    && a.key == *key
                    && a.sets == value.is_some()
                    && a.seqs.is_empty()
            }),
            What::Void => return Ok(()),
        };
        let Some(owner) = owner else {
            return Err(Violation::new(
                "B7",
                format!("seq {seq} does what no guest asks: {what:?}"),
            ));
        };
        let waited = self.cause == "answered" && owner.kind != Kind::CompareAndWrite;
        owner.seqs.push(seq);
        owner.covered += match what {
            What::Write(extent, _) => extent.count.0,
            What::Holes(extents) => extents.iter().map(|e| e.count.0).sum(),
            What::Attribute(..) | What::Void => 0,
        };
        // P11: a write goes to the journal for a reason of its own, never because the store answered.
        let compares = || s.asked.values().any(|a| a.kind == Kind::CompareAndWrite);
        if waited && !s.may_be_busy && !compares() && s.unlocked_at != Some(self.now) {
            return Err(Violation::new(
                "P11",
                format!("seq {seq} waited for an answer of the store"),
            ));
        }
        let Some(owner) = s.asked.values().find(|a| a.seqs.last() == Some(&seq)) else {
            return Ok(());
        };
        if owner.kind == Kind::CompareAndWrite {
            let (extent, expect) = (owner.extents[0], owner.expect.clone());
            let history = s.history.as_ref().expect("asked by the caller");
            for (lba, expect) in extent.range().zip(expect) {
                let found = history.before(lba, seq);
                if found != expect {
                    let text = format!(
                        "compare-and-write at seq {seq} found {expect:?} in block {lba}, which held {found:?}"
                    );
                    return Err(Violation::new("B1", text));
                }
            }
        }
        Ok(())
    }

    fn local(&mut self, seat: usize, id: EffectId, local: Local, note: LocalNote, n: u64) {
        let slow = match &local {
            Local::Sync { .. } => 20,
            Local::Disk(_) => 3,
            Local::Append { .. } | Local::Read(_) => 1,
        };
        let mut wait = 1 + self.choices.pick(Die::DiskTime, n, 0, self.config.disk_us) * US * slow;
        if self.strikes(Die::DiskStall, n, self.config.faults.disk_stall) {
            wait = self
                .choices
                .between(Die::DiskStall, n, 1, 10 * MS, 60 * SEC);
            let s = &mut self.seats[seat];
            s.held_up_until = s.held_up_until.max(self.now + wait + 30 * SEC);
        }
        let life = self.seats[seat].life;
        self.seats[seat]
            .flying
            .insert(id.0, Flying::Local(local, note));
        self.after(
            wait,
            Event::Local {
                seat,
                life,
                id: id.0,
            },
        );
    }

    /// A local operation ends.
    pub(crate) fn end_local(&mut self, seat: usize, id: u64) {
        let Some(flying) = self.seats[seat].flying.remove(&id) else {
            return;
        };
        let (outcome, kind) = match flying {
            Flying::Compare(found, expect) => {
                let unit = u64::from(self.config.geometry.block_bytes);
                let differs = found.iter().zip(&expect).position(|(f, e)| f != e);
                (
                    Outcome::Compared(differs.map(|at| ByteCount(at as u64 * unit))),
                    "compared",
                )
            }
            Flying::Store(_) => return,
            Flying::Local(local, note) => {
                let fate = self.fate(seat, &local, &note, id);
                let (file, mark) = match &local {
                    Local::Sync { file, mark } => (Some(*file), *mark),
                    _ => (None, 0),
                };
                let s = &mut self.seats[seat];
                let covers = match file.filter(|_| !s.is_recovered) {
                    Some(file) => s.disk.seqs_in(file),
                    None => Vec::new(),
                };
                let outcome = s.disk.finish(local, fate);
                let good = !matches!(outcome, Outcome::Disk(_));
                if let Some(text) = s.disk.take_broken() {
                    self.fail(Violation::new("P7", text));
                }
                if let (false, Some(history)) = (good, self.seats[seat].history.as_mut()) {
                    // What a restart found in the journal and cannot make durable is nowhere else.
                    history.set_unkept(&covers);
                }
                self.learn(seat, &note, good, file.map(|f| (f, mark)));
                let kind = match note {
                    LocalNote::Appended(..) => "appended",
                    LocalNote::Synced(_) => "synced",
                    LocalNote::Other(name) => name,
                };
                (outcome, kind)
            }
        };
        self.trace.roll(id ^ 0x8000);
        let now = self.instant();
        let is_broken = matches!(outcome, Outcome::Disk(_));
        self.with_engine(seat, kind, |e| e.handle_done(now, EffectId(id), outcome));
        if is_broken {
            self.cannot_begin(seat, kind);
        }
    }

    fn fate(&mut self, seat: usize, local: &Local, note: &LocalNote, id: u64) -> Fate {
        let entity = (seat as u64) << 48 | u64::from(self.seats[seat].life) << 32 | id;
        let faults = &self.config.faults;
        let (die, ppm) = match (local, note) {
            (Local::Append { .. }, _) => (Die::AppendFails, faults.append_fails),
            (Local::Sync { .. }, _) => (Die::SyncFails, faults.sync_fails),
            (Local::Read(_), _) => return Fate::Good,
            (Local::Disk(DiskRequest::CreateFile { .. }), _) if self.lasting_disk_full() => {
                self.seats[seat].disk_hurt = true;
                return Fate::Full;
            }
            (Local::Disk(DiskRequest::CreateFile { .. }), _) if faults.disk_full > 0 => {
                (Die::DiskFull, faults.disk_full)
            }
            (Local::Disk(request), _) => match request {
                DiskRequest::WriteNote(_)
                | DiskRequest::CreateFile { .. }
                | DiskRequest::WriteIndex(_)
                | DiskRequest::KeepMeta { .. }
                | DiskRequest::FillCache { .. }
                | DiskRequest::ClearCache { .. }
                | DiskRequest::RemoveFile(_)
                | DiskRequest::DropMeta(_)
                | DiskRequest::ReadNote
                | DiskRequest::ListFiles
                | DiskRequest::ScanFile(_)
                | DiskRequest::LoadMeta { .. }
                | DiskRequest::ListCache => (Die::DiskFails, faults.disk_fails),
            },
        };
        if !self.strikes(die, entity, ppm) {
            return Fate::Good;
        }
        self.seats[seat].disk_hurt = true;
        if die == Die::DiskFull {
            return Fate::Full;
        }
        Fate::Fails(self.choices.pick(Die::Landing, entity, 9, u64::MAX))
    }

    // What an oracle learns from the end of a local operation.
    fn learn(&mut self, seat: usize, note: &LocalNote, good: bool, sync: Option<(FileId, u64)>) {
        let s = &mut self.seats[seat];
        let Some(history) = s.history.as_mut() else {
            return;
        };
        match note {
            LocalNote::Appended(file, seq) if good => {
                history.set_written(*seq);
                let writes = s.disk.writes_of(*file);
                s.appended.entry(*file).or_default().push((writes, *seq));
            }
            LocalNote::Synced(_) => {
                let Some((file, mark)) = sync else { return };
                let list = s.appended.entry(file).or_default();
                let covered: Vec<u64> = list
                    .iter()
                    .filter(|(n, _)| *n <= mark)
                    .map(|(_, s)| *s)
                    .collect();
                list.retain(|(n, _)| *n > mark);
                for seq in covered {
                    if good {
                        history.set_durable(seq);
                    } else {
                        history.set_unsure(seq);
                    }
                }
            }
            LocalNote::Appended(..) | LocalNote::Other(_) => {}
        }
    }

    fn ask_store(&mut self, seat: usize, id: EffectId, request: StoreRequest<Blocks>) {
        let n = self.number(seat, Count::Store);
        self.trace.roll(0x5000 ^ id.0);
        self.trace.tell(self.now, || {
            format!("seat {seat} store {}", request_text(&request))
        });
        self.before_request(seat, &request);
        if self.wire.is_some() {
            let flying = Flying::Store(request.clone());
            self.seats[seat].flying.insert(id.0, flying);
            self.ask_machine(seat, id.0, &request);
            return;
        }
        let deadline = deadline_of(
            &request,
            self.config.limits.store_deadline.as_nanos() as u64,
        );
        let faults = self.config.faults.clone();
        let is_read = matches!(request, StoreRequest::Get(_) | StoreRequest::List { .. });
        let away = if is_read {
            StoreError::Unavailable
        } else {
            StoreError::Unknown
        };
        let ordinary = 1 + self
            .choices
            .pick(Die::StoreTime, n, 0, self.config.store_ms * MS);
        let mut arrive = Some(1 + self.choices.pick(Die::StoreTime, n, 1, ordinary));
        let mut hears = None;
        let mut answer = ordinary;
        let mut racy = false;
        self.asks_on(seat);
        if let Some(error) = self.lasting_error(&request) {
            arrive = None;
            hears = Some(error);
        } else if self.outage || self.strikes(Die::StoreLost, n, faults.store_lost) {
            arrive = None;
            hears = Some(away);
            answer = deadline;
        } else if self.strikes(Die::AnswerLost, n, faults.answer_lost) {
            hears = Some(away);
            answer = deadline;
        } else if !is_read && self.strikes(Die::StoreLate, n, faults.store_late) {
            let late = [1, 5 * SEC, 60 * SEC, 900 * SEC]
                [self.choices.pick(Die::StoreLate, n, 1, 4) as usize];
            arrive = Some(deadline + late);
            hears = Some(away);
            answer = deadline;
            racy = true;
        } else if self.strikes(Die::StoreBusy, n, faults.store_busy) {
            arrive = None;
            hears = Some(StoreError::Unavailable);
            answer = ordinary;
        } else if !is_read && self.strikes(Die::StoreFull, n, faults.store_full) {
            arrive = None;
            hears = Some(StoreError::Full);
        } else if self.strikes(Die::StoreSlow, n, faults.store_slow) {
            answer = self
                .choices
                .between(Die::StoreSlow, n, 1, ordinary, deadline.max(ordinary));
            let at = self.choices.between(Die::StoreSlow, n, 2, 1, answer);
            arrive = Some(at);
        } else if is_step(&request) && !is_read && self.strikes(Die::StepLate, n, faults.step_late)
        {
            hears = Some(away);
            arrive = Some(answer + self.step_wait(Die::StepLate, n));
        } else if is_step(&request)
            && self.strikes(Die::StepSlow, n, faults.step_slow * slowness(&request))
        {
            let wait = self.step_wait(Die::StepSlow, n).min(deadline - 1);
            // On its way there, or back.
            if self.choices.pick(Die::StepSlow, n, 2, 2) == 0 {
                arrive = arrive.map(|at| at + wait);
            }
            answer += wait;
        }
        if let StoreRequest::Get(get) = &request
            && get.absence == engine::effect::Absence::Twice
            && hears.is_none()
            && self.store.get(&get.container, &get.name).is_none()
        {
            // The absence rule takes its gap; what counts is the second ask.
            answer += 2 * SEC;
            arrive = arrive.map(|a| a + 2 * SEC);
        }
        self.seats[seat]
            .flying
            .insert(id.0, Flying::Store(request.clone()));
        let life = self.seats[seat].life;
        self.requests += 1;
        let number = self.requests;
        let transit = Transit {
            seat,
            life,
            id: id.0,
            request,
            racy,
            outcome: hears.map(Outcome::Store),
            answered: false,
            arrives: arrive.is_some(),
            sent: self.now,
            paused: false,
        };
        self.transit.insert(number, transit);
        if let Some(wait) = arrive {
            self.after(wait, Event::Arrive { request: number });
        }
        self.after(answer, Event::Answer { request: number });
    }

    /// How long a step of the protocol between hosts is held up: against a trip to the store, an absence asked twice, and a
    /// whole attach.
    pub(crate) fn step_wait(&mut self, die: Die, n: u64) -> u64 {
        let top = self
            .choices
            .one_of(die, n, 10, &[100 * MS, 3 * SEC, 8 * SEC, 20 * SEC]);
        1 + self.choices.pick(die, n, 11, top)
    }

    /// A request reaches the store.
    pub(crate) fn arrive(&mut self, number: u64) {
        let Some(transit) = self.transit.get_mut(&number) else {
            return;
        };
        transit.arrives = false;
        // Two creators that are under way together may both pass `If-None-Match`.
        let mut racy = transit.racy;
        if let StoreRequest::Put {
            container,
            name,
            once: true,
            ..
        } = &transit.request
        {
            let landed = self.claimed.insert((container.clone(), *name), self.now);
            racy |= landed.is_some_and(|at| at >= transit.sent);
        }
        let mut outcome = self.store.apply(&transit.request, racy);
        if let (StoreRequest::Get(get), Outcome::Frames(_)) = (&transit.request, &outcome) {
            let get = get.clone();
            if self.finds_rot(number, &get) {
                outcome = Outcome::Store(StoreError::Damaged);
            }
        }
        let Some(transit) = self.transit.get_mut(&number) else {
            return;
        };
        if transit.outcome.is_none() {
            transit.outcome = Some(outcome);
        } else {
            let text = request_text(&transit.request);
            self.trace
                .tell(self.now, || format!("unheard at the store: {text}"));
        }
        if self.transit[&number].answered {
            self.transit.remove(&number);
        }
    }

    /// An answer reaches the process.
    pub(crate) fn answer(&mut self, number: u64) {
        let Some(transit) = self.transit.get(&number) else {
            return;
        };
        let (seat, life, id) = (transit.seat, transit.life, transit.id);
        if !self.is_alive(seat, life) {
            return;
        }
        if self.defer(seat, &Event::Answer { request: number }) {
            return;
        }
        let entity = (seat as u64) << 48 | u64::from(life) << 32 | id;
        let is_first = !std::mem::replace(
            &mut self.transit.get_mut(&number).expect("there").paused,
            true,
        );
        let ppm = self.config.faults.step_pause;
        if is_first
            && is_step(&self.transit[&number].request)
            && self.strikes(Die::StepPause, entity, ppm)
        {
            let wait = self.step_wait(Die::StepPause, entity);
            self.stand_still(seat, wait);
            self.defer(seat, &Event::Answer { request: number });
            return;
        }
        let transit = self.transit.get_mut(&number).expect("looked at");
        transit.answered = true;
        let outcome = transit
            .outcome
            .take()
            .unwrap_or(Outcome::Store(StoreError::Unavailable));
        // What still travels keeps its request; its outcome is for nobody.
        transit.outcome = Some(Outcome::Store(StoreError::Unknown));
        let (request, travels) = (transit.request.clone(), transit.arrives);
        if !travels {
            self.transit.remove(&number);
        }
        self.seats[seat].flying.remove(&id);
        self.trace.roll(0x9000 ^ id);
        self.trace.tell(self.now, || {
            format!(
                "seat {seat} hears {} of {}",
                outcome_text(&outcome),
                request_text(&request)
            )
        });
        self.heard(seat, &request, &outcome);
        self.hears_on(seat, &request, &outcome);
        let now = self.instant();
        self.with_engine(seat, "answered", |e| {
            e.handle_done(now, EffectId(id), outcome)
        });
    }

    fn gate(&mut self, seat: usize, gate: Gate) {
        self.trace.roll(0xb000 ^ u64::from(gate == Gate::Open));
        self.trace
            .tell(self.now, || format!("seat {seat} gate {gate:?}"));
        if gate == Gate::Closed(GateReason::StoreAway) {
            self.tells_on(seat);
        }
        let s = &mut self.seats[seat];
        s.gate_open = gate == Gate::Open;
        if s.gate_open {
            // A volume that was born here had nothing to recover.
            s.is_recovered = true;
            self.unpark(seat);
            self.ask_snapshots_again(seat);
            let is_idle = self.config.iscsi.is_some() && self.chaos();
            if self.seats[seat].role != Role::Reads && !is_idle {
                self.again_after(seat, 1, AGAIN_SESSIONS);
            }
        }
        self.gate_moves(seat, gate);
    }

    fn notice(&mut self, seat: usize, notice: Notice) {
        self.trace
            .tell(self.now, || format!("seat {seat} says {notice:?}"));
        match notice {
            Notice::Recovered { end, records: _ } => self.recovered(seat, end.0),
            Notice::Damaged { extent, place } => {
                let s = &mut self.seats[seat];
                if s.role == Role::Reads && self.deleted.iter().any(|n| place.starts_with(n)) {
                    // Nothing keeps a version without a name for a reader (no pin): it was collected.
                    s.is_behind = true;
                    return;
                }
                let history = s.history.as_ref();
                let fits = if place.contains("journal") {
                    let may_be = |lba| history.is_some_and(|h| h.was_damaged(lba));
                    extent.range().all(may_be) && (!extent.is_empty() || s.is_nameless)
                } else {
                    let (volume, is_hurt) = (s.volume, s.disk_hurt);
                    let rots = |lba| !self.rotten_at(volume, lba).is_empty();
                    is_hurt || extent.range().all(rots)
                };
                if !fits {
                    let text = format!(
                        "blocks {extent} are called damaged at {place}; they were not damaged"
                    );
                    self.fail(Violation::new("B11", text));
                }
            }
            Notice::ReadOnly => {
                let s = &self.seats[seat];
                if !s.disk_hurt && !s.is_nameless {
                    self.fail(Violation::new(
                        "B11",
                        "the volume turns read-only on a healthy disk",
                    ));
                }
            }
            Notice::JournalFull | Notice::StoreWaiting { .. } => {
                self.seats[seat].may_be_busy = true;
                self.tells_on(seat);
            }
            Notice::Attached(generation) => {
                self.seats[seat].attached_at = self.now;
                self.goes_on(seat, generation);
            }
            Notice::Committed { version, .. } => {
                let s = &mut self.seats[seat];
                let published = &self.volumes[s.volume].published;
                let found = published
                    .iter()
                    .find(|(name, _)| name.version == version && Some(name.attach) == s.attach)
                    .map(|(name, p)| (*name, p.cut));
                if let (Some(history), Some((name, cut))) = (s.history.as_mut(), found) {
                    history.set_stored(cut);
                    self.volumes[s.volume].is_committed(name, cut);
                }
            }
            Notice::Fenced { .. } => {
                self.seats[seat].saw_door = true;
                self.seats[seat].attached_at = u64::MAX;
            }
            Notice::FileCondemned(_) | Notice::Collected(_) => {}
        }
    }
}

/// The number that an attribute's value stands for.
pub(crate) fn attribute_number(value: &[u8]) -> u64 {
    value
        .iter()
        .take(8)
        .enumerate()
        .fold(0, |n, (i, b)| n | u64::from(*b) << (8 * i))
}

fn deadline_of(request: &StoreRequest<Blocks>, usual: u64) -> u64 {
    match request {
        StoreRequest::Get(get) => (get.deadline.as_nanos() as u64).max(1),
        _ => usual,
    }
}

/// Whether a request belongs to the protocol between hosts.
pub(crate) fn is_step(request: &StoreRequest<Blocks>) -> bool {
    let decides = |name: &ObjectName| {
        matches!(
            name,
            ObjectName::Claim(_)
                | ObjectName::Door(_)
                | ObjectName::Opened(_)
                | ObjectName::Root(_)
        )
    };
    match request {
        StoreRequest::Get(get) => decides(&get.name),
        StoreRequest::Put { name, .. } => decides(name),
        _ => false,
    }
}

/// How much more often a request of the protocol takes seconds than others: a claim on its way is what others race with.
pub(crate) const fn slowness(request: &StoreRequest<Blocks>) -> u32 {
    match request {
        StoreRequest::Put { once: true, .. } => 3,
        _ => 1,
    }
}

/// A request in a few words.
pub(crate) fn request_text(request: &StoreRequest<Blocks>) -> String {
    match request {
        StoreRequest::CreateContainer(c) => format!("create container {c}"),
        StoreRequest::Get(get) => format!(
            "get {} {:?} as {}",
            get.name,
            get.range,
            expect_text(&get.expect)
        ),
        StoreRequest::Put {
            name, body, once, ..
        } => {
            let kind = match body {
                Body::Root(root) => format!("root cut {} {:?}", root.cut.0, root.kind),
                Body::RootAgain(_) => "again".into(),
                Body::Data(data) => format!("{} sections", data.sections.len()),
                _ => String::new(),
            };
            format!("put {name} {kind}{}", if *once { " once" } else { "" })
        }
        StoreRequest::Delete { name, .. } => format!("delete {name}"),
        StoreRequest::List { prefix, .. } => format!("list {prefix}"),
        StoreRequest::DeleteContainer(c) => format!("delete container {c}"),
    }
}

fn expect_text(expect: &engine::effect::Expect) -> String {
    use engine::effect::Expect;
    match expect {
        Expect::Frames(frames) => format!("{} frames", frames.len()),
        Expect::Exists => "exists".into(),
        Expect::Superblock => "superblock".into(),
        Expect::Token => "token".into(),
        Expect::Root(_) => "root".into(),
        Expect::Leaf(_) => "leaf".into(),
    }
}

fn outcome_text(outcome: &Outcome<Blocks>) -> String {
    match outcome {
        Outcome::Store(e) => format!("{e:?}"),
        Outcome::Put(_) => "201".into(),
        Outcome::Meta(..) | Outcome::Frames(_) => "200".into(),
        Outcome::Exists => "200".into(),
        Outcome::Names(names) => format!("{} names", names.len()),
        _ => "done".into(),
    }
}

/// The door whose sight fences the attachment of that generation.
pub(crate) fn is_door_above(name: &ObjectName, generation: u64) -> bool {
    matches!(name, ObjectName::Door(g) if g.0 == generation + 1)
}
