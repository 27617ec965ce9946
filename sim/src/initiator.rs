//! Guests: each asks one command at a time, hears its answer, thinks, and asks the next.

use crate::choice::Die;
use crate::exhaustive::Act;
use crate::iscsi::bytes::symbolic;
use crate::oracle::Violation;
use crate::oracle::progress::check_local;
use crate::payload::{Blocks, Stamp, push_stamps};
use crate::rot::may_be_gone;
use crate::seat::{Asked, Role, Wished1};
use crate::workload::{Kind, Plan, plan};
use crate::world::{Event, MS, Phase, SEC, US, World};
use engine::command::{Command, Failure, Reply, Wish};
use engine::ids::Tag;
use engine::sum::Sums;
use engine::units::{BlockCount, ByteCount, Extent};

/// The operation number of reads that the simulator makes to check.
pub(crate) const SWEEP: u64 = u64::MAX;
/// The operation number of commands that a session asks: the operation is its initiator's.
pub(crate) const WIRE: u64 = u64::MAX - 1;
/// Not a guest: those who found no room look again.
const THIRSTY: u32 = u32::MAX;

/// A reader whose version was collected stops after so many blocks that it found gone.
const MISSES_MAX: u32 = 20;

impl World {
    /// Guests that waited for the gate go on.
    pub(crate) fn unpark(&mut self, seat: usize) {
        let s = &mut self.seats[seat];
        let life = s.life;
        for slot in std::mem::take(&mut s.parked) {
            self.after(US, Event::Guest { seat, life, slot });
        }
    }

    /// All blocks are read before anything else.
    pub(crate) fn sweep(&mut self, seat: usize) {
        let capacity = self.volumes[self.seats[seat].volume].geometry.capacity.0;
        // Short enough to be read before BUSY through a slow store and a tiny cache.
        let c = &self.config;
        // Where no frame is kept, several long reads would wait for each other's frames, and be BUSY, for ever.
        let is_bare = c.limits.cache_slots <= 1 && c.store_ms >= 1_000;
        let step = if is_bare { 1 } else { 8 };
        self.seats[seat].sweep = (0..capacity)
            .step_by(step as usize)
            .map(|at| Extent::new(at, step.min(capacity - at)))
            .collect();
        self.unpark(seat);
    }

    /// The guest asks its next command, if it may.
    pub(crate) fn guest(&mut self, seat: usize, slot: u32) {
        if slot == THIRSTY {
            self.seats[seat].looks_again = false;
            self.wake(seat);
            return;
        }
        let s = &self.seats[seat];
        if !s.gate_open || s.history.is_none() {
            self.seats[seat].parked.push(slot);
            return;
        }
        // No more at once than the engine fetches at once: behind a slow store the last of many would be BUSY for ever.
        let swept = s.asked.values().filter(|asked| asked.op == SWEEP).count();
        let (op, plan) = if let Some(extent) = s.sweep.front().copied() {
            if swept >= self.config.limits.hydrations as usize {
                self.seats[seat].thirsty.push(slot);
                return;
            }
            let plan = Plan {
                kind: Kind::Read,
                extents: vec![extent],
                fua: false,
                extra: 0,
            };
            (SWEEP, plan)
        } else if s.role == Role::Reads {
            return;
        } else if self.phase == Phase::Chaos && self.next_op < self.config.ops {
            let op = self.next_op;
            while let Some((_, n)) = self.wish_line.pop_if(|(before, _)| *before <= op) {
                let wait = self.choices.pick(Die::Wish, n, 5, 2 * MS);
                self.after(wait, Event::Wish { n });
            }
            if self.choices.is_off(Die::Op, op) {
                self.next_op += 1;
                self.think(seat, slot, op);
                return;
            }
            let acts = self
                .config
                .script
                .as_ref()
                .map(|s| s.acts[op as usize].clone());
            match acts {
                Some(Act::Guest(plan)) => (op, plan),
                Some(act) => {
                    self.next_op += 1;
                    self.scripted = Some(self.next_wish);
                    if act == Act::Checkpoint {
                        self.ask_wish(seat, Wished1::Checkpoint, Wish::Checkpoint);
                    } else {
                        self.snapshot(seat, format!("s{op}"), op + 1);
                    }
                    return;
                }
                None => (op, plan(&mut self.choices, &self.config, op)),
            }
        } else {
            self.seats[seat].parked.push(slot);
            return;
        };
        let is_scsi = self.config.iscsi.is_some() && op != SWEEP && plan.kind != Kind::Attribute;
        if is_scsi {
            // Else it waits for its session.
            if let Some(conn) = self.session_of(seat, slot) {
                self.next_op += 1;
                if self.trace.detailed {
                    self.trace.asked.insert((Die::Op, op));
                }
                self.ask_initiator(seat, conn, slot, op, plan);
            }
            return;
        }
        if !self.has_room(seat, plan.kind, &plan.extents) {
            // Woken by the next answer; one of them looks now and then by itself.
            let s = &mut self.seats[seat];
            s.thirsty.push(slot);
            if !s.looks_again {
                s.looks_again = true;
                let life = s.life;
                self.after(
                    100 * MS,
                    Event::Guest {
                        seat,
                        life,
                        slot: THIRSTY,
                    },
                );
            }
            return;
        }
        if op == SWEEP {
            self.seats[seat].sweep.pop_front();
        } else {
            self.next_op += 1;
            if self.trace.detailed {
                self.trace.asked.insert((Die::Op, op));
            }
        }
        self.ask(seat, Some(slot), op, plan);
    }

    // Guests that found no room look again.
    fn wake(&mut self, seat: usize) {
        let s = &mut self.seats[seat];
        let life = s.life;
        for slot in std::mem::take(&mut s.thirsty) {
            self.after(1, Event::Guest { seat, life, slot });
        }
    }

    pub(crate) fn has_room(&self, seat: usize, kind: Kind, extents: &[Extent]) -> bool {
        let s = &self.seats[seat];
        let Some(engine) = s.engine.as_ref() else {
            return false;
        };
        let credits = engine.credits();
        let carries = matches!(kind, Kind::Read | Kind::Write | Kind::CompareAndWrite);
        let bytes = if carries {
            s.bytes_of(extents)
        } else {
            ByteCount(0)
        };
        credits.commands > 0 && credits.bytes >= bytes
    }

    pub(crate) fn think(&mut self, seat: usize, slot: u32, op: u64) {
        let life = self.seats[seat].life;
        let wait = if op == SWEEP {
            0
        } else {
            self.choices
                .pick(Die::Think, op, 0, self.config.think_us + 1)
        };
        self.after(1 + wait * US, Event::Guest { seat, life, slot });
    }

    fn ask(&mut self, seat: usize, slot: Option<u32>, op: u64, plan: Plan) {
        let tag = self.next_tag;
        self.next_tag += 1;
        self.serial += 1;
        let unit = self.config.geometry.block_bytes;
        let volume = self.seats[seat].volume as u32 + 1;
        let history = self.seats[seat]
            .history
            .as_ref()
            .expect("guests wait for one");
        let inside = plan.kind != Kind::Wrong;
        let first = plan.extents.first().copied().unwrap_or(Extent::new(0, 0));
        let has_floors = inside && matches!(plan.kind, Kind::Read | Kind::CompareAndWrite);
        let floors = if has_floors {
            history.floors(first)
        } else {
            Vec::new()
        };
        let oldest = if has_floors { history.oldest(first) } else { 0 };
        let mut expect = Vec::new();
        let stamp = Stamp {
            volume,
            lba: first.start.0 as u32,
            write: tag,
        };
        let command = match plan.kind {
            Kind::Read => Command::Read(first),
            Kind::Write => {
                let data = Blocks::run(unit, stamp, first.count.0 as u32);
                let sums = self.sums(first, &data);
                Command::Write {
                    at: first,
                    data,
                    sums,
                    fua: plan.fua,
                }
            }
            Kind::Flush => Command::Flush,
            Kind::Discard => Command::Discard(plan.extents.iter().copied().collect()),
            Kind::WriteZeroes => Command::WriteZeroes {
                at: first,
                fua: plan.fua,
            },
            Kind::CompareAndWrite => {
                expect = first.range().map(|lba| history.newest(lba)).collect();
                if plan.extra.is_multiple_of(4) {
                    let at = plan.extra as usize / 4 % expect.len();
                    expect[at] = Stamp {
                        volume,
                        lba: first.start.0 as u32 + at as u32,
                        write: u64::MAX - tag,
                    };
                }
                let data = Blocks::run(unit, stamp, first.count.0 as u32);
                let sums = self.sums(first, &data);
                let expect = Blocks::from_stamps(unit, &expect);
                Command::CompareAndWrite {
                    at: first,
                    expect,
                    data,
                    sums,
                    fua: plan.fua,
                }
            }
            Kind::Attribute => {
                let value = (!plan.extra.is_multiple_of(3)).then(|| tag.to_le_bytes().to_vec());
                Command::PutAttribute {
                    key: attribute_key(plan.extra),
                    value,
                }
            }
            Kind::Wrong => Command::Read(first),
        };
        let sets = matches!(&command, Command::PutAttribute { value: Some(_), .. });
        self.trace.roll(0xa000 ^ tag);
        self.trace.tell(self.now, || {
            let fua = if plan.fua { " fua" } else { "" };
            format!(
                "seat {seat} guest asks #{tag} {:?} {:?}{fua}",
                plan.kind, plan.extents
            )
        });
        let s = &mut self.seats[seat];
        let asked = Asked {
            op,
            slot,
            serial: self.serial,
            wire: None,
            write: tag,
            kind: plan.kind,
            extents: plan.extents,
            fua: plan.fua,
            floors,
            expect,
            answered: s.answered(),
            seqs: Vec::new(),
            covered: 0,
            key: attribute_key(plan.extra),
            sets,
            aborted: false,
            is_crowded: false,
            at: self.now,
            oldest,
        };
        s.asked.insert(tag, asked);
        let life = s.life;
        if op != SWEEP
            && self.choices.pick(Die::Abort, op, 0, 100) >= 100 - u64::from(self.config.mix.abort)
        {
            let wait = self.choices.pick(Die::Abort, op, 1, 2 * MS);
            self.after(wait, Event::Abort { seat, life, tag });
        }
        let now = self.instant();
        self.with_engine(seat, "guest", |e| e.handle_guest(now, Tag(tag), command));
    }

    fn sums(&self, extent: Extent, data: &Blocks) -> Sums {
        symbolic(&self.config.geometry, self.summing, extent, data)
    }

    /// The front end takes a command back, if it is still under way.
    pub(crate) fn abort(&mut self, seat: usize, tag: u64) {
        let Some(asked) = self.seats[seat].asked.get_mut(&tag) else {
            return;
        };
        asked.aborted = true;
        if asked.wire.is_none() {
            let op = asked.op;
            self.trace.fault(Die::Abort, op);
        }
        self.trace
            .tell(self.now, || format!("seat {seat} takes #{tag:x} back"));
        let now = self.instant();
        self.with_engine(seat, "abort", |e| e.handle_abort(now, Tag(tag)));
    }

    /// A guest hears its answer.
    pub(crate) fn replied(&mut self, seat: usize, tag: u64, reply: Reply<Blocks>) {
        self.trace.roll(0xc000 ^ tag);
        self.trace.tell(self.now, || match &reply {
            Reply::Read(parts) => {
                let unit = self.config.geometry.block_bytes;
                format!(
                    "seat {seat} answers #{tag} {:?}",
                    crate::payload::stamps_of(parts, unit)
                )
            }
            other => format!("seat {seat} answers #{tag} {other:?}"),
        });
        let Some(asked) = self.seats[seat].asked.remove(&tag) else {
            self.fail(Violation::new(
                "R2",
                format!("#{tag} is answered twice, or was never asked"),
            ));
            return;
        };
        self.trace.operations += u64::from(asked.op < WIRE);
        self.wake(seat);
        let checked = self.check_reply(seat, tag, &asked, &reply);
        self.check(checked);
        let checked = self.check_progress(seat, tag, &asked, &reply);
        self.check(checked);
        let checked = self.waited(seat, &asked);
        self.check(checked);
        self.is_refused_for_room(seat, &asked, matches!(reply, Reply::Busy));
        if asked.wire.is_some() {
            self.session_replied(seat, &asked, &reply);
            self.reply_session(seat, tag, reply);
            return;
        }
        if asked.op == SWEEP {
            let extent = asked.extents[0];
            let s = &mut self.seats[seat];
            let is_damaged = matches!(reply, Reply::Failed(Failure::Damaged { .. }));
            s.misses += u32::from(is_damaged && s.is_behind);
            let sweep = &mut s.sweep;
            match reply {
                Reply::Read(_) => {}
                // Each verdict takes the store half a minute, and nothing bounds the time of a thousand: a reader whose
                // version was collected has seen enough.
                Reply::Failed(Failure::Damaged { .. }) if s.misses >= MISSES_MAX => sweep.clear(),
                // Damage that the oracle accepts stays; what lies beside it is read block by block.
                Reply::Failed(Failure::Damaged { .. }) if extent.count.0 == 1 => {}
                Reply::Failed(Failure::Damaged { .. }) => {
                    sweep.extend(extent.range().map(|lba| Extent::new(lba, 1)));
                }
                // A store of a second a request and a cache of one frame do not bring it all in time: half of it at once.
                Reply::Busy if extent.count.0 > 1 => {
                    let half = extent.count.0 / 2;
                    sweep.push_back(Extent::new(extent.start.0, half));
                    sweep.push_back(Extent::new(extent.start.0 + half, extent.count.0 - half));
                }
                // Asked again until it is read.
                _ => sweep.push_back(extent),
            }
        }
        let s = &self.seats[seat];
        if s.role == Role::Reads && s.sweep.is_empty() && s.asked.is_empty() {
            let life = s.life;
            self.after(1, Event::ReaderEnds { seat, life });
        }
        if let Some(slot) = asked.slot {
            let busy = matches!(reply, Reply::Busy | Reply::Failed(_));
            if busy {
                let life = self.seats[seat].life;
                let wait = if asked.op == SWEEP { 50 * MS } else { 5 * MS };
                self.after(wait, Event::Guest { seat, life, slot });
            } else {
                self.think(seat, slot, asked.op);
            }
        }
    }

    // P11, L5: what needs nothing of the store does not wait for it.
    fn check_progress(
        &mut self,
        seat: usize,
        tag: u64,
        asked: &Asked,
        reply: &Reply<Blocks>,
    ) -> Result<(), Violation> {
        self.look_for_room(seat);
        let (now, s) = (self.now, &mut self.seats[seat]);
        let compares = s.asked.values().any(|a| a.kind == Kind::CompareAndWrite);
        if asked.kind == Kind::CompareAndWrite {
            s.unlocked_at = Some(now);
        }
        if compares || asked.kind == Kind::CompareAndWrite {
            // Writes of its blocks wait for what it reads.
            s.held_up_until = s.held_up_until.max(now + 1);
        }
        let is_local = match asked.kind {
            Kind::Read => (s.history.as_ref()).is_some_and(|h| asked.oldest > h.stored()),
            Kind::Write | Kind::Flush | Kind::Discard | Kind::WriteZeroes | Kind::Attribute => true,
            Kind::CompareAndWrite | Kind::Wrong => false,
        };
        let is_excused = asked.at < s.attached_at
            || s.attached_at == u64::MAX
            || asked.at <= s.held_up_until
            || s.was_full
            || s.disk_hurt
            || asked.is_crowded
            || asked.aborted
            || s.role == Role::Reads
            || !matches!(reply, Reply::Busy | Reply::Done { .. } | Reply::Read(_));
        if !is_local || is_excused {
            return Ok(());
        }
        let outage = self.outage || self.outage_ended > asked.at;
        let busy = matches!(reply, Reply::Busy);
        let what = format!("#{tag}, a {:?} of {:?},", asked.kind, asked.extents);
        check_local(&what, busy, now - asked.at, outage)
    }

    fn check_reply(
        &mut self,
        seat: usize,
        tag: u64,
        asked: &Asked,
        reply: &Reply<Blocks>,
    ) -> Result<(), Violation> {
        let unit = self.config.geometry.block_bytes;
        let good = matches!(
            reply,
            Reply::Read(_) | Reply::Done { .. } | Reply::Miscompare { .. }
        );
        let s = &mut self.seats[seat];
        if good && s.saw_door {
            return Err(Violation::new(
                "F4",
                format!("#{tag} is answered well by a host that saw its door shut"),
            ));
        }
        let Some(history) = s.history.as_mut() else {
            return Err(Violation::new(
                "P1",
                format!("#{tag} is answered by a volume without a history"),
            ));
        };
        match (reply, asked.kind) {
            (Reply::Read(parts), Kind::Read) => {
                let extent = asked.extents[0];
                let wanted = extent.count.0 * u64::from(unit);
                if parts.len().0 != wanted {
                    let text = format!("#{tag} wants {wanted} bytes and gets {:?}", parts.len());
                    return Err(Violation::new("B1", text));
                }
                let mut stamps = Vec::with_capacity(extent.count.0 as usize);
                push_stamps(parts, unit, &mut stamps);
                history.check_read(extent, &asked.floors, &stamps)
            }
            (Reply::Done { durable }, Kind::Flush) => {
                history.check_flush(asked.answered, durable.0)
            }
            (
                Reply::Done { durable },
                Kind::Write
                | Kind::WriteZeroes
                | Kind::CompareAndWrite
                | Kind::Discard
                | Kind::Attribute,
            ) => {
                let wanted: u64 = asked.extents.iter().map(|e| e.count.0).sum();
                if asked.covered != wanted {
                    let text = format!(
                        "#{tag} is answered; {} of {wanted} blocks are in the journal",
                        asked.covered
                    );
                    return Err(Violation::new("P2", text));
                }
                let fua = asked.fua && asked.kind != Kind::Discard || asked.kind == Kind::Attribute;
                history.check_claim(durable.0)?;
                history.check_answer(&asked.seqs, fua, asked.answered)
            }
            (Reply::Miscompare { at }, Kind::CompareAndWrite) => {
                let block = at.0 / u64::from(unit);
                let extent = asked.extents[0];
                let at_fits = block < extent.count.0
                    && history.may_differ(
                        extent.start.0 + block,
                        asked.floors[block as usize],
                        asked.expect[block as usize],
                    );
                if at_fits {
                    return Ok(());
                }
                let text = format!("#{tag} miscompares at byte {at}, where nothing differs");
                Err(Violation::new("B1", text))
            }
            (Reply::Busy, kind) => {
                // A read may wait for a store that is only slow; nothing else has a reason left.
                let reads = matches!(kind, Kind::Read | Kind::CompareAndWrite);
                let recent = self.now < self.healed_at + 120 * SEC;
                if self.phase == Phase::Chaos
                    || s.may_be_busy
                    || reads
                    || recent
                    || asked.is_crowded
                {
                    return Ok(());
                }
                Err(Violation::new(
                    "L1",
                    format!("#{tag} is BUSY after all faults stopped"),
                ))
            }
            (Reply::Failed(failure), kind) => self.check_failure(seat, tag, asked, *failure, kind),
            (reply, kind) => {
                let text = format!("#{tag}, a {kind:?}, is answered with {reply:?}");
                Err(Violation::new("R2", text))
            }
        }
    }

    fn check_failure(
        &self,
        seat: usize,
        tag: u64,
        asked: &Asked,
        failure: Failure,
        kind: Kind,
    ) -> Result<(), Violation> {
        let s = &self.seats[seat];
        let fits = match failure {
            Failure::OutOfRange | Failure::Invalid => kind == Kind::Wrong,
            Failure::Aborted => asked.aborted,
            Failure::Fenced => !s.gate_open || s.saw_door || s.released,
            Failure::Hardware => s.disk_hurt,
            Failure::ReadOnly => s.disk_hurt || s.is_nameless,
            Failure::Damaged { .. } if s.is_behind => true,
            Failure::Damaged { at } => s.history.as_ref().is_some_and(|h| {
                let nth =
                    (asked.extents.first()).and_then(|e| e.range().position(|lba| lba == at.0));
                let floor = nth.and_then(|nth| asked.floors.get(nth).copied());
                at.0 < h.block_count()
                    && (h.may_be_damaged(at.0)
                        || floor.is_some_and(|floor| {
                            let rotten = self.rotten_at(s.volume, at.0);
                            may_be_gone(&rotten, h.before(at.0, floor + 1), h.newest(at.0))
                        }))
            }),
        };
        if fits {
            return Ok(());
        }
        let property = if matches!(failure, Failure::Damaged { .. }) {
            "B11"
        } else {
            "P10"
        };
        let text = format!(
            "#{tag}, a {kind:?} of {:?}, fails without a reason: {failure:?}",
            asked.extents
        );
        Err(Violation::new(property, text))
    }
}

fn attribute_key(extra: u64) -> String {
    format!("key{}", extra / 3 % 3)
}

/// The blocks of a volume, for loading.
pub(crate) fn loaded_stamp(volume: u32, lba: u64, capacity: BlockCount, chunk: u64) -> Stamp {
    if lba >= capacity.0 {
        return Stamp::ZERO;
    }
    Stamp {
        volume,
        lba: lba as u32,
        write: 1 << 40 | chunk,
    }
}
