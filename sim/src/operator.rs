//! The operator: births, restarts, snapshots, take-overs, and what comes of them.

use crate::choice::Die;
use crate::config::Profile;
use crate::initiator::loaded_stamp;
use crate::oracle::history::History;
use crate::oracle::progress::{check_begun, check_collection, check_shown, check_snapshot};
use crate::oracle::{Violation, folder};
use crate::payload::{Blocks, Stamp};
use crate::seat::{Role, Wished, Wished1};
use crate::world::{Event, MS, Phase, SEC, World};
use engine::command::{Collected, Committed, Refusal, Verdict, Wish};
use engine::ids::{AttachId, Generation, Version, WishId, WishKey};
use engine::object::names::{ObjectName, RootName};
use engine::payload::Parts;
use engine::time::Duration;
use engine::units::{ChunkIndex, Extent};
use std::collections::BTreeMap;

/// Asks the wish that brings a seat into service.
pub(crate) const AGAIN_OPEN: u32 = 0;
/// Goes on loading.
pub(crate) const AGAIN_LOAD: u32 = 1;
/// Attaches, whoever has it.
pub(crate) const AGAIN_TAKE_OVER: u32 = 2;
/// Attaches if it is free.
pub(crate) const AGAIN_ATTACH: u32 = 3;

/// Tells the engine that guests are logged in.
pub(crate) const AGAIN_SESSIONS: u32 = 4;

/// What is left after so many collections, a grace apart, leaks.
const COLLECTS: u32 = 3;

/// Asks the parent to keep what a clone stands on.
pub(crate) const AGAIN_PIN: u32 = 6;

/// Publishes, while others take the volume.
pub(crate) const AGAIN_CHECKPOINT: u32 = 7;

/// Has what nothing reaches deleted, of any age.
pub(crate) const AGAIN_COLLECT: u32 = 5;

impl World {
    pub(crate) fn ask_wish(&mut self, seat: usize, what: Wished1, wish: Wish<Blocks>) -> u64 {
        let id = self.next_wish;
        self.next_wish += 1;
        let s = &mut self.seats[seat];
        if s.engine.is_none() {
            // It died of the wish before: nobody hears this one.
            return id;
        }
        let answered = s.answered();
        self.trace.roll(0xd000 ^ id);
        self.trace.tell(self.now, || {
            format!("seat {seat} is asked to {what:?} (wish {id})")
        });
        s.wished.insert(
            id,
            Wished {
                what,
                answered,
                at: self.now,
            },
        );
        let now = self.instant();
        self.with_engine(seat, "wish", |e| e.handle_wish(now, WishId(id), wish));
        id
    }

    /// Brings a process that just started into service.
    pub(crate) fn open(&mut self, seat: usize) {
        let s = &self.seats[seat];
        if s.engine.is_none() || s.released {
            return;
        }
        let volume = s.volume;
        match s.role {
            Role::Bears if s.disk.note().is_none() && !self.volumes[volume].born => {
                self.bear(seat);
            }
            Role::Serves if s.disk.is_empty() => self.attach(seat, false),
            Role::Bears | Role::Serves => {
                self.ask_wish(seat, Wished1::Open, Wish::Open);
            }
            Role::Reads => {
                let snapshot = s.reads.clone();
                self.ask_wish(
                    seat,
                    Wished1::Reader(snapshot.clone()),
                    Wish::OpenReader { snapshot },
                );
            }
        }
    }

    fn attach(&mut self, seat: usize, take_over: bool) {
        let wish = Wish::Attach {
            take_over,
            accept_loss: take_over,
        };
        self.ask_wish(seat, Wished1::Attach { take_over }, wish);
    }

    /// What was refused for now is asked again.
    pub(crate) fn again(&mut self, seat: usize, what: u32) {
        match what {
            AGAIN_OPEN => {
                let busy = self.seats[seat].wished.values().any(|w| {
                    matches!(
                        w.what,
                        Wished1::Open | Wished1::Birth | Wished1::Attach { .. }
                    )
                });
                if !busy && !self.seats[seat].gate_open {
                    self.open(seat);
                }
            }
            AGAIN_LOAD => self.load(seat),
            AGAIN_COLLECT => match self.holder() {
                Some(holder) => {
                    let min_age = Some(Duration::ZERO);
                    self.ask_wish(holder, Wished1::Collect, Wish::Collect { min_age });
                }
                // Others may still take it from each other.
                None => self.later(seat, AGAIN_COLLECT),
            },
            AGAIN_PIN => self.pin(seat),
            AGAIN_CHECKPOINT if self.chaos() && self.seats[seat].gate_open => {
                self.ask_wish(seat, Wished1::Checkpoint, Wish::Checkpoint);
            }
            AGAIN_SESSIONS => {
                self.ask_wish(seat, Wished1::Sessions, Wish::Sessions(1));
            }
            AGAIN_TAKE_OVER | AGAIN_ATTACH => {
                let s = &mut self.seats[seat];
                if !s.gate_open
                    && !s
                        .wished
                        .values()
                        .any(|w| matches!(w.what, Wished1::Attach { .. }))
                {
                    s.released = false;
                    let takes = what == AGAIN_TAKE_OVER || s.takes;
                    self.attach(seat, takes);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn again_after(&mut self, seat: usize, wait: u64, what: u32) {
        let life = self.seats[seat].life;
        self.after(wait, Event::Again { seat, life, what });
    }

    /// The operator's wish of number `n`.
    pub(crate) fn wish(&mut self, n: u64) {
        if !self.chaos() || self.choices.is_off(Die::Wish, n) {
            return;
        }
        if self.trace.detailed {
            self.trace.asked.insert((Die::Wish, n));
        }
        let serving: Vec<usize> = self
            .seats
            .iter()
            .filter(|s| s.engine.is_some() && s.gate_open && s.role != Role::Reads)
            .map(|s| s.number)
            .collect();
        if serving.is_empty() {
            return;
        }
        let seat = serving[self.choices.pick(Die::Wish, n, 1, serving.len() as u64) as usize];
        if self.choices.pick(Die::Clone, n, 0, 100) >= 100 - u64::from(self.config.clones)
            && self.clone_volume(seat, n)
        {
            return;
        }
        let several = self.config.hosts > 1;
        let weights = [
            10,
            10,
            2,
            if several { 4 } else { 2 },
            match (several, self.config.profile) {
                (false, _) => 0,
                (true, Profile::Fencing) => 30,
                (true, _) => 12,
            },
            2,
        ];
        match self.choices.weighted(Die::Wish, n, 2, &weights) {
            0 => self.snapshot(seat, format!("s{n}"), n + 1),
            1 if self.choices.pick(Die::Wish, n, 4, 6) == 0 => {
                self.ask_wish(seat, Wished1::Collect, Wish::Collect { min_age: None });
            }
            1 => {
                self.ask_wish(seat, Wished1::Checkpoint, Wish::Checkpoint);
            }
            2 => {
                self.ask_wish(seat, Wished1::Evict, Wish::Evict);
            }
            3 => {
                self.ask_wish(seat, Wished1::Detach, Wish::Detach);
            }
            4 => self.take_over(seat, n),
            _ => self.read_snapshot(seat, n),
        }
    }

    pub(crate) fn snapshot(&mut self, seat: usize, name: String, key: u64) {
        let wish = Wish::Snapshot {
            name: Some(name.clone()),
            key: WishKey(key),
        };
        self.answered_at(seat, key);
        self.ask_wish(seat, Wished1::Snapshot(name, key), wish);
    }

    // Another process serves a snapshot, or the newest root, read-only.
    fn read_snapshot(&mut self, from: usize, n: u64) {
        let (volume, host) = (self.seats[from].volume, self.seats[from].host);
        let names: Vec<String> = (self.snapshots.iter())
            .filter(|(v, _)| *v == volume)
            .map(|(_, name)| name.clone())
            .collect();
        let chosen = self.choices.pick(Die::Wish, n, 3, names.len() as u64 + 1) as usize;
        let seat = self.add_seat(host, volume, Role::Reads);
        self.seats[seat].reads = names.get(chosen).cloned();
        self.start(seat);
    }

    /// A reader has read all, or cannot.
    pub(crate) fn reader_ends(&mut self, seat: usize) {
        self.end_process(seat, crate::disk::End::Kill, crate::disk::Survival::All);
        self.seats[seat].released = true;
    }

    // One of the other hosts takes the volume, or several at once.
    fn take_over(&mut self, from: usize, n: u64) {
        let (volume, host) = (self.seats[from].volume, self.seats[from].host);
        let others = u64::from(self.config.hosts - 1);
        let first = self.choices.pick(Die::TakeOver, n, 0, others);
        let race = self.choices.pick(Die::TakeOver, n, 1, 3) > 0;
        // How far the racers start from each other, in milliseconds.
        let apart = self.choices.one_of(Die::TakeOver, n, 5, &[1, 20, 500]);
        for k in 0..if race { others } else { 1 } {
            let other = (host + 1 + ((first + k) % others) as u32) % self.config.hosts;
            let seat = self.seat_of(volume, other);
            if self.seats[seat].engine.is_none() {
                continue;
            }
            self.trace.fault(Die::TakeOver, n);
            let wait = self.choices.pick(Die::TakeOver, n, 2 + k as u32, apart);
            self.again_after(seat, 1 + wait * MS, AGAIN_TAKE_OVER);
        }
        if self.choices.pick(Die::TakeOver, n, 20, 2) == 1 {
            // The holder publishes at some step of it.
            let wait = self.choices.pick(Die::TakeOver, n, 21, 12_000);
            self.again_after(from, 1 + wait * MS, AGAIN_CHECKPOINT);
        }
    }

    // The seat of a host for a volume; started if there was none.
    fn seat_of(&mut self, volume: usize, host: u32) -> usize {
        if let Some(s) = self
            .seats
            .iter()
            .find(|s| s.volume == volume && s.host == host && s.role != Role::Reads && !s.gone)
        {
            return s.number;
        }
        let seat = self.add_seat(host, volume, Role::Serves);
        self.seats[seat].released = true;
        self.start(seat);
        seat
    }

    /// An operator hears what came of a wish.
    pub(crate) fn told(&mut self, seat: usize, id: u64, verdict: Verdict) {
        self.trace.roll(0xe000 ^ id);
        self.trace.tell(self.now, || {
            format!("seat {seat} wish {id}: {}", verdict_text(&verdict))
        });
        if matches!(verdict, Verdict::Refused(Refusal::Store { .. })) {
            self.tells_on(seat);
        }
        let Some(wished) = self.seats[seat].wished.remove(&id) else {
            self.fail(Violation::new(
                "R2",
                format!("wish {id} is answered twice, or was never asked"),
            ));
            return;
        };
        if self.scripted == Some(id) {
            self.scripted = None;
            let life = self.seats[seat].life;
            self.after(
                1,
                Event::Guest {
                    seat,
                    life,
                    slot: 0,
                },
            );
        }
        match (verdict, wished.what.clone()) {
            (Verdict::Begun, Wished1::Birth) => self.begun(seat),
            (Verdict::Loaded, Wished1::Load) => {
                self.seats[seat].loading -= 1;
                self.again_after(seat, 1, AGAIN_LOAD);
            }
            (Verdict::Born(committed), _) => self.born(seat, &committed),
            (
                Verdict::Attached {
                    attach,
                    base,
                    set_aside,
                },
                _,
            ) => self.attached(seat, attach, base, set_aside),
            (Verdict::Erased, Wished1::Open | Wished1::Attach { .. }) => self.give_birth_up(seat),
            (Verdict::Held(_), _) => {
                self.seats[seat].released = true;
                self.later(seat, AGAIN_ATTACH);
            }
            (Verdict::Detached(committed), _) => {
                self.committed(seat, &committed, &wished);
                self.detached(seat, &committed);
            }
            (Verdict::Committed(committed), _) => {
                self.committed(seat, &committed, &wished);
                if self.final_wish == Some(id) {
                    self.final_wish = None;
                    let geometry = &committed.root.geometry;
                    let leaves = geometry.chunk_count() / u64::from(geometry.leaf_chunks) + 1;
                    let waited = self.now - wished.at;
                    let request = self.request_time();
                    let checked = check_snapshot(waited, committed.bytes.0, leaves, request);
                    self.check(checked);
                    self.sweep_phase(Phase::Sweeping, seat);
                }
            }
            (Verdict::Pinned(root), Wished1::Pin(child)) => self.pinned(seat, child, root),
            (Verdict::NotConfirmed, Wished1::Snapshot(name, key)) => {
                if self.seats[seat].gate_open
                    && self.choices.pick(Die::Wish, key, 20, 2) == 0
                    && self.chaos()
                {
                    self.snapshot(seat, name, key);
                } else {
                    self.final_again(id);
                }
            }
            (Verdict::Looked, Wished1::Look(look)) => self.looked(seat, look),
            (Verdict::Reading(root), _) => {
                let own = &self.volumes[self.seats[seat].volume];
                if self.config.a1 {
                    let checked = check_shown(root.name, &own.opened, wished.at);
                    self.check(checked);
                }
                self.begin_history(seat, root.name);
                self.sweep(seat);
            }
            (Verdict::Refused(Refusal::NoSuchSnapshot), Wished1::Reader(_))
                if !self.volumes[self.seats[seat].volume].strays.is_empty() =>
            {
                // With A1 broken an answered snapshot may be a stray.
                self.reader_ends(seat);
            }
            (Verdict::Refused(Refusal::NoSuchSnapshot), Wished1::Reader(Some(name))) => {
                // I3: what was answered is in the history, whoever holds it now.
                let text = format!("snapshot {name} was answered, and is not there");
                self.fail(Violation::new("S6", text));
            }
            (_, Wished1::Reader(_)) => self.reader_ends(seat),
            (Verdict::Refused(Refusal::NameTaken), Wished1::Snapshot(name, key)) => {
                // No name is asked for under two keys.
                let text = format!("the name {name} is refused to its own key {key}");
                self.fail(Violation::new("S6", text));
            }
            (Verdict::Collected(collected), Wished1::Collect) => {
                if self.phase == Phase::Collecting {
                    let left: usize = self.store.truth().values().map(|b| b.len()).sum();
                    let gone = collected.data + collected.leaves + collected.roots;
                    let (waited, request) = (self.now - wished.at, self.request_time());
                    let checked = check_collection(waited, left as u64 + gone, request);
                    self.check(checked);
                }
                self.collected(seat, &collected);
            }
            (Verdict::Refused(refusal), what) => self.refused(seat, id, &refusal, &what),
            (
                Verdict::Evicted(_)
                | Verdict::Inspected(_)
                | Verdict::Pinned(_)
                | Verdict::Looked
                | Verdict::Sessions
                | Verdict::NotConfirmed,
                _,
            ) => {
                self.final_again(id);
            }
            (verdict, what) => {
                let text = format!(
                    "wish {id}, {what:?}, is answered with {}",
                    verdict_text(&verdict)
                );
                self.fail(Violation::new("R2", text));
            }
        }
    }

    // The longest ordinary request, there and back, in nanoseconds.
    const fn request_time(&self) -> u64 {
        (self.config.store_ms * 5 / 4 + 10) * MS
    }

    // The last snapshot is asked for until it is there.
    fn final_again(&mut self, id: u64) {
        if self.final_wish == Some(id) {
            self.final_wish = None;
        }
    }

    fn refused(&mut self, seat: usize, id: u64, refusal: &Refusal, what: &Wished1) {
        let was_final = self.final_wish == Some(id);
        self.final_again(id);
        if was_final && matches!(refusal, Refusal::Disk(_)) && self.seats[seat].disk_hurt {
            // Its disk failed before it was healed: the operator starts it anew.
            self.seats[seat].disk_hurt = false;
            self.restart(seat);
            return;
        }
        match what {
            // In the same process, or as after a start.
            Wished1::Birth if self.choices.pick(Die::Wish, id, 22, 2) == 0 => self.bear(seat),
            Wished1::Birth => self.later(seat, AGAIN_OPEN),
            Wished1::Load => {
                self.seats[seat].loading -= 1;
                // Which chunk it was is not told; all that is not confirmed is loaded anew by a new birth.
                self.give_birth_up(seat);
            }
            Wished1::FinishBirth => self.give_birth_up(seat),
            Wished1::Open => {
                let unborn = !self.volumes[self.seats[seat].volume].born;
                if unborn && matches!(refusal, Refusal::WrongState(_) | Refusal::NoSuchVolume) {
                    self.give_birth_up(seat);
                } else {
                    self.later(seat, AGAIN_OPEN);
                }
            }
            Wished1::Attach { take_over } => {
                let what = if *take_over {
                    AGAIN_TAKE_OVER
                } else {
                    AGAIN_ATTACH
                };
                self.later(seat, what);
            }
            Wished1::Collect if self.phase == Phase::Collecting => {
                // Another host may have the volume by now.
                self.later(self.holder().unwrap_or(seat), AGAIN_COLLECT);
            }
            _ => {}
        }
    }

    /// A host's disk is gone with the folder: the operator takes the volume anew, and accepts what the journal alone held as
    /// lost. Whether that can be: an unborn volume has nothing to be taken.
    pub(crate) fn lose_disk(&mut self, seat: usize, wait: u64) -> bool {
        let s = &self.seats[seat];
        let (host, volume) = (s.host, s.volume);
        if !self.volumes[volume].born || s.role == Role::Reads {
            return false;
        }
        self.seats[seat].gone = true;
        self.seats[seat].released = true;
        self.trace
            .tell(self.now, || format!("seat {seat} has lost its disk"));
        let next = self.add_seat(host, volume, Role::Serves);
        self.seats[next].released = true;
        self.seats[next].takes = true;
        self.start(next);
        self.again_after(next, wait, AGAIN_TAKE_OVER);
        true
    }

    fn restart(&mut self, seat: usize) {
        self.end_process(seat, crate::disk::End::Kill, crate::disk::Survival::All);
        let life = self.seats[seat].life;
        self.after(SEC, Event::Start { seat, life });
    }

    pub(crate) fn later(&mut self, seat: usize, what: u32) {
        let n = self.next_wish;
        let wait = 1 + self.choices.pick(Die::Wish, n, 30, 5_000);
        self.again_after(seat, wait * MS, what);
    }

    // An interrupted birth is left behind; the operator imports again, as a new volume.
    fn give_birth_up(&mut self, seat: usize) {
        let volume = self.seats[seat].volume;
        if self.volumes[volume].born || self.seats[seat].role != Role::Bears {
            self.later(seat, AGAIN_OPEN);
            return;
        }
        self.trace
            .tell(self.now, || format!("seat {seat} gives its birth up"));
        let (geometry, parent) = (
            self.volumes[volume].geometry,
            self.volumes[volume].parent.clone(),
        );
        let host = self.seats[seat].host;
        self.end_process(seat, crate::disk::End::Kill, crate::disk::Survival::All);
        self.seats[seat].released = true;
        let volume = self.add_volume(geometry, parent);
        let seat = self.add_seat(host, volume, Role::Bears);
        let life = self.seats[seat].life;
        self.after(SEC, Event::Start { seat, life });
    }

    fn begun(&mut self, seat: usize) {
        let s = &self.seats[seat];
        let geometry = self.volumes[s.volume].geometry;
        if self.volumes[s.volume].parent.is_some() {
            self.seats[seat].needs_pin = true;
            self.pin(seat);
            return;
        }
        let loaded = u64::from(self.config.loaded);
        let chosen: Vec<u64> = (0..geometry.chunk_count())
            .filter(|c| self.choices.pick(Die::Op, 1 << 50 | c, 0, 100) < loaded)
            .collect();
        let s = &mut self.seats[seat];
        s.loads = chosen.into();
        s.loaded = vec![Stamp::ZERO; geometry.capacity.0 as usize];
        self.load(seat);
    }

    fn load(&mut self, seat: usize) {
        loop {
            let s = &self.seats[seat];
            let Some(engine) = s.engine.as_ref() else {
                return;
            };
            let Some(chunk) = s.loads.front().copied() else {
                break;
            };
            if engine.credits().loads == 0 {
                if s.loading == 0 {
                    self.again_after(seat, 10 * MS, AGAIN_LOAD);
                }
                return;
            }
            let volume = s.volume as u32 + 1;
            let geometry = self.volumes[s.volume].geometry;
            let chunk_index = ChunkIndex(chunk);
            let first = geometry.chunk_first_grain(chunk_index);
            let step = 1 + self.choices.pick(Die::Op, 1 << 50 | chunk, 1, 3) as u32;
            let mut grains = Vec::new();
            let unit = geometry.block_bytes;
            for grain in (0..geometry.chunk_grain_count(chunk_index)).step_by(step as usize) {
                let start = (first.0 + u64::from(grain)) * geometry.grain_blocks();
                let stamps: Vec<Stamp> = (start..start + geometry.grain_blocks())
                    .map(|lba| loaded_stamp(volume, lba, geometry.capacity, chunk))
                    .collect();
                for (lba, stamp) in (start..).zip(&stamps) {
                    if let Some(slot) = self.seats[seat].loaded.get_mut(lba as usize) {
                        *slot = *stamp;
                    }
                }
                grains.push((grain as u16, Parts::one(Blocks::from_stamps(unit, &stamps))));
            }
            let s = &mut self.seats[seat];
            s.loads.pop_front();
            s.loading += 1;
            self.ask_wish(
                seat,
                Wished1::Load,
                Wish::Load {
                    chunk: chunk_index,
                    grains,
                },
            );
            if self.failed.is_some() {
                return;
            }
        }
        let s = &self.seats[seat];
        let finishing = s.wished.values().any(|w| w.what == Wished1::FinishBirth);
        if s.loading == 0 && !finishing && !self.volumes[s.volume].born {
            self.ask_wish(seat, Wished1::FinishBirth, Wish::FinishBirth { base: None });
        }
    }

    fn born(&mut self, seat: usize, committed: &Committed) {
        let volume = self.seats[seat].volume;
        self.volumes[volume].born = true;
        let root = &committed.root;
        if !self.volumes[volume].published.contains_key(&root.name) {
            self.fail(Violation::new("S4", "a volume is born without a root"));
            return;
        }
        self.seats[seat].attach = Some(root.name.attach);
        self.seats[seat].history_generation = root.name.attach.generation.0;
        self.serves_now(seat, root.name.attach.generation);
        if let Some((at, ..)) = self.config.script.as_ref().and_then(|s| s.crash) {
            let s = &mut self.seats[seat];
            s.crash_at = Some((s.effects + at, 0));
        }
        self.begin_history(seat, root.name);
        self.unpark(seat);
    }

    // What A1 is for: without it a taker may miss a confirmed root, or a holder the door; then what was committed last is no
    // part of the history any more. The promise that is left: nothing is overwritten (S3), and the stray is reported (G2).
    fn is_fork(&mut self, volume: usize, base: RootName) -> bool {
        let lied = self.wire.as_ref().is_some_and(crate::wire::Wire::has_lied);
        let lost = self.volumes[volume].committed_root;
        let is_it = lied && !self.config.a1 && lost.is_some();
        if is_it {
            self.trace.tell(self.now, || {
                format!("FORK: {base} goes on, {lost:?} is a stray")
            });
        }
        is_it
    }

    // What was committed above `base` is a stray from now on.
    fn fork(&mut self, volume: usize, base: RootName, cut: u64) {
        self.trace.forks += 1;
        let own = &mut self.volumes[volume];
        own.committed = cut;
        own.commits.values_mut().for_each(|c| *c = cut.min(*c));
        own.strays.extend(own.committed_root.replace(base));
    }

    fn begin_history(&mut self, seat: usize, base: RootName) {
        let volume = self.seats[seat].volume;
        let Some(published) = self.volumes[volume].published.get(&base) else {
            let text = format!("the history goes on from {base}, which nobody published");
            self.fail(Violation::new("F2", text));
            return;
        };
        let published = published.clone();
        let (cut, committed) = (published.cut, self.volumes[volume].committed);
        let s = &self.seats[seat];
        let generation = s.attach.map_or(u64::MAX, |a| a.generation.0);
        if s.role == Role::Reads {
        } else if cut < committed && self.is_fork(volume, base) {
            self.fork(volume, base, cut);
        } else {
            let checked = check_begun(base, cut, generation, &self.volumes[volume].commits);
            if checked.is_err() {
                self.check(checked);
                return;
            }
        }
        let mut history = History::new(&published.content, published.cut, &published.attributes);
        for lba in &published.lost {
            history.set_damaged(Extent::new(*lba, 1), published.cut);
        }
        if let Some(left) = &self.seats[seat].history {
            history.count_on_from(left.highest_number());
        }
        self.seats[seat].history = Some(history);
        self.seats[seat].epoch += 1;
    }

    fn attached(&mut self, seat: usize, attach: Option<AttachId>, base: Version, set_aside: bool) {
        let volume = self.seats[seat].volume;
        self.volumes[volume].born = true;
        let s = &mut self.seats[seat];
        s.attach = attach;
        s.saw_door = false;
        s.released = false;
        s.takes = false;
        let known = s.history.is_some() && !set_aside;
        // A restart serves under what its folder held last: the process that opened it may have died before it said so.
        let note = s.disk.note();
        let under = attach.or_else(|| note.as_deref().and_then(folder::serves_under));
        let Some(base) = self.base_of(seat, under, base) else {
            let text = format!("the history goes on from version {base}, which nobody published");
            self.fail(Violation::new("F2", text));
            return;
        };
        // The history goes on if nobody else's attachment lies between the last one of this folder and this one.
        let own = under.is_none_or(|a| {
            self.seats[seat].history_generation == a.generation.0 || self.keeps_its_journal(seat, a)
        });
        if let Some(under) = under {
            self.seats[seat].history_generation = under.generation.0;
            self.serves_now(seat, under.generation);
        }
        if known && own {
            self.has_stored(seat, base);
        } else {
            self.begin_history(seat, base);
        }
        if self.config.sweep || self.phase != Phase::Chaos {
            self.sweep(seat);
        }
        self.unpark(seat);
    }

    /// A host says that it is attached; a fenced one may do so by itself, when nobody opened above it.
    pub(crate) fn goes_on(&mut self, seat: usize, generation: Generation) {
        self.seats[seat].saw_door = false;
        let container = &self.volumes[self.seats[seat].volume].container;
        let opened = self.store.get(container, &ObjectName::Opened(generation));
        let Some(crate::store::Content::Token(token)) = opened.map(|o| &o.content) else {
            return;
        };
        let (attach, base) = (token.attach, token.base);
        self.seats[seat].attach = Some(attach);
        let goes_on = self.keeps_its_journal(seat, attach);
        self.serves_now(seat, generation);
        if let Some(base) = base {
            // Also one that took itself for fenced while it was being born.
            let volume = self.seats[seat].volume;
            self.volumes[volume].born |= !self.is_deleted(volume, base);
        }
        match base {
            Some(base) if goes_on => self.has_stored(seat, base),
            Some(base) => self.begin_history(seat, base),
            None => {}
        }
        self.seats[seat].history_generation = generation.0;
    }

    // What an attachment goes on from is in the store, whether or not its commit was heard of.
    fn has_stored(&mut self, seat: usize, base: RootName) {
        let s = &mut self.seats[seat];
        let published = self.volumes[s.volume].published.get(&base);
        let (Some(published), Some(history)) = (published, s.history.as_mut()) else {
            return;
        };
        if published.cut > history.last() {
            // An emergency cut lies above what the failed disk kept: the history is what its root says.
            return self.begin_history(seat, base);
        }
        history.set_stored(published.cut);
    }

    // Whether a root says that the volume is being deleted.
    fn is_deleted(&self, volume: usize, root: RootName) -> bool {
        let container = &self.volumes[volume].container;
        let object = self.store.get(container, &ObjectName::Root(root));
        matches!(object.map(|o| &o.content), Some(crate::store::Content::Root(root, _))
            if root.kind == engine::table::types::RootKind::Deleted)
    }

    // A generation is served from this folder; no generation is served from two (F1).
    fn serves_now(&mut self, seat: usize, generation: Generation) {
        let s = &self.seats[seat];
        let served = &mut self.volumes[s.volume].served;
        let other = served.insert(generation.0, s.state_dir);
        if other.is_some_and(|other| other != s.state_dir) {
            let text = format!("{generation:?} is served by seat {seat} and from {other:?}");
            self.fail(Violation::new("F1", text));
        }
        self.doors_are_shut(seat, generation);
    }

    // F4: a holder notices by the door above its generation, whichever took over and however: none that was claimed is open.
    fn doors_are_shut(&mut self, seat: usize, generation: Generation) {
        let container = &self.volumes[self.seats[seat].volume].container;
        let is_open = |g: &u64| {
            let door = ObjectName::Door(Generation(*g));
            self.store.get(container, &door).is_none()
        };
        if let Some(g) = (1..=generation.0).find(is_open) {
            let text = format!("{generation:?} is served by seat {seat}, and door {g} is open");
            self.fail(Violation::new("F4", text));
        }
    }

    // Whether all attachments below, down to the last one that this folder served under, are this folder's.
    fn is_own_chain(&self, seat: usize, attach: AttachId) -> bool {
        let s = &self.seats[seat];
        let container = &self.volumes[s.volume].container;
        let Some(bucket) = self.store.truth().get(container) else {
            return false;
        };
        let opened =
            |(name, object): (&ObjectName, &crate::store::Object)| match (name, &object.content) {
                (ObjectName::Opened(g), crate::store::Content::Token(token))
                    if *g < attach.generation && g.0 >= s.history_generation =>
                {
                    Some(token.holder.state_dir)
                }
                _ => None,
            };
        let mut chain = bucket.iter().filter_map(opened).peekable();
        chain.peek().is_some() && chain.all(|dir| dir == s.state_dir)
    }

    // Whether the journal of this folder goes on under `attach`: its note says so, and then nobody else may have served
    // since the last attachment that this folder served under. (A generation that was opened and lost its look never did.)
    fn keeps_its_journal(&mut self, seat: usize, attach: AttachId) -> bool {
        let s = &self.seats[seat];
        let (last, volume) = (s.history_generation, s.volume);
        if s.history.is_none() {
            return false;
        }
        if !(s.disk.note()).is_some_and(|note| folder::goes_on(&note, last)) {
            // What was answered here must not be left behind when nobody else ever had the volume since.
            if self.is_own_chain(seat, attach) {
                let text = format!("seat {seat} leaves its journal, and nobody opened since");
                self.fail(Violation::new("P2", text));
            }
            return false;
        }
        let between = last + 1..attach.generation.0;
        let served = self.volumes[s.volume].served.range(between);
        let foreign = served
            .filter(|(_, dir)| **dir != s.state_dir)
            .map(|(g, _)| *g)
            .next();
        if let (Some(_), Some(base)) = (foreign, self.base_of(seat, Some(attach), Version(0)))
            && self.is_fork(volume, base)
        {
            let cut = self.volumes[volume].published.get(&base).map(|p| p.cut);
            if let Some(cut) = cut.filter(|cut| *cut < self.volumes[volume].committed) {
                self.fork(volume, base, cut);
            }
        } else if let Some(g) = foreign {
            let text = format!("seat {seat} goes on with its journal, and generation {g} served");
            self.fail(Violation::new("F2", text));
        }
        true
    }

    // The root that an attachment goes on from: what `opened` says, or the only one of that version.
    fn base_of(&self, seat: usize, attach: Option<AttachId>, base: Version) -> Option<RootName> {
        let volume = &self.volumes[self.seats[seat].volume];
        if let Some(attach) = attach
            && let Some(object) = self
                .store
                .get(&volume.container, &ObjectName::Opened(attach.generation))
            && let crate::store::Content::Token(token) = &object.content
            && let Some(base) = token.base
        {
            return Some(base);
        }
        volume
            .published
            .keys()
            .rev()
            .find(|n| n.version == base)
            .copied()
    }

    fn committed(&mut self, seat: usize, committed: &Committed, wished: &Wished) {
        let root = &committed.root;
        let container = self.volumes[self.seats[seat].volume].container.clone();
        if self
            .store
            .get(&container, &ObjectName::Root(root.name))
            .is_none()
        {
            let text = format!("{} is called committed and is not in the store", root.name);
            self.fail(Violation::new("S4", text));
            return;
        }
        let answered = match &wished.what {
            Wished1::Snapshot(_, key) => self.asked_keys.get(key).copied(),
            _ => None,
        };
        let answered = answered.unwrap_or(wished.answered);
        if root.cut.0 < answered {
            let text = format!(
                "{} holds all up to seq {}; seq {answered} was answered before it was asked",
                root.name, root.cut.0
            );
            self.fail(Violation::new("S2", text));
            return;
        }
        if let Some(history) = self.seats[seat].history.as_mut() {
            history.set_stored(root.cut.0);
        }
        self.volumes[self.seats[seat].volume].is_committed(root.name, root.cut.0);
        if let Wished1::Snapshot(name, key) = &wished.what {
            self.snapshots.push((self.seats[seat].volume, name.clone()));
            let listed = root
                .snapshots
                .iter()
                .any(|s| s.name == *name && s.wish == WishKey(*key));
            if !listed {
                self.fail(Violation::new(
                    "S6",
                    format!("snapshot {name} is committed by a root that lacks it"),
                ));
            }
        }
    }

    fn detached(&mut self, seat: usize, committed: &Committed) {
        let s = &mut self.seats[seat];
        let answered = s.history.as_ref().map_or(0, History::answered);
        if committed.root.cut.0 < answered {
            let text = format!(
                "detached at seq {}; seq {answered} was answered",
                committed.root.cut.0
            );
            self.fail(Violation::new("S2", text));
            return;
        }
        s.released = true;
        s.gate_open = false;
        let volume = s.volume;
        let n = self.next_wish;
        let host = self
            .choices
            .pick(Die::TakeOver, n, 5, u64::from(self.config.hosts)) as u32;
        let next = self.seat_of(volume, host);
        self.later(next, AGAIN_ATTACH);
    }

    /// Faults stop; everything pending must end.
    pub(crate) fn heal(&mut self) {
        if self.phase != Phase::Chaos {
            return;
        }
        self.enter(Phase::Healing, 3600);
        self.trace.tell(self.now, || "faults stop".into());
        self.healed_at = self.now;
        self.outage = false;
        self.ends_lasting();
        self.node_up();
        for seat in 0..self.seats.len() {
            let s = &mut self.seats[seat];
            s.disk.heal();
            s.crash_at = None;
            s.paused_until = 0;
            let (life, waits) = (
                s.life,
                s.engine.is_some() && s.released && s.role != Role::Reads,
            );
            let is_idle = s.engine.is_some() && s.gate_open && s.role != Role::Reads;
            if is_idle && self.config.iscsi.is_some() {
                // Idle hosts watch from now on.
                self.again_after(seat, 1, AGAIN_SESSIONS);
            }
            let s = &self.seats[seat];
            if s.engine.is_none() && !s.released {
                self.after(1, Event::Start { seat, life });
            } else if waits {
                // Whoever had it may be gone for good.
                self.again_after(seat, SEC, AGAIN_ATTACH);
            }
        }
    }

    pub(crate) fn enter(&mut self, phase: Phase, seconds: u64) {
        self.phase = phase;
        self.phases += 1;
        let phase = self.phases;
        self.after(seconds * SEC, Event::Deadline { phase });
    }

    /// Something pending did not end in time.
    pub(crate) fn too_late(&mut self) {
        let mut pending = Vec::new();
        for s in &self.seats {
            let asked: Vec<_> = s
                .asked
                .iter()
                .map(|(t, a)| format!("#{t} {:?} {:?}", a.kind, a.extents))
                .collect();
            let wished: Vec<_> = s.wished.values().map(|w| format!("{:?}", w.what)).collect();
            let status = s.engine.as_ref().map(|e| format!("{:?}", e.status()));
            pending.push(format!(
                "seat {}: gate open {}, released {}, sweep {}, flying {}, commands {asked:?}, wishes {wished:?}, status {status:?}",
                s.number, s.gate_open, s.released, s.sweep.len(), s.flying.len()
            ));
        }
        let text = format!(
            "phase {:?} does not end: {}",
            self.phase,
            pending.join("; ")
        );
        self.fail(Violation::new("L1", text));
    }

    pub(crate) fn sweep_phase(&mut self, phase: Phase, seat: usize) {
        // Every block may be cold, through a store of a second a request and a cache of one frame.
        self.enter(phase, 20_000);
        self.sweep(seat);
    }

    /// Goes on to the next phase when this one is done.
    pub(crate) fn advance(&mut self) {
        match self.phase {
            Phase::Chaos => {
                let is_under_way = self.config.script.is_some()
                    && self
                        .seats
                        .iter()
                        .any(|s| !s.wished.is_empty() || !s.flying.is_empty());
                if is_under_way {
                    return;
                }
                if self.next_op >= self.config.ops
                    && self.seats.iter().all(|s| s.asked.is_empty())
                    && !self.is_wire_busy()
                    && self.volumes.iter().any(|v| v.born)
                {
                    self.heal();
                }
            }
            Phase::Healing => {
                if self.final_wish.is_some() {
                    return;
                }
                let attaches = |w: &Wished| matches!(w.what, Wished1::Attach { .. });
                let busy = self.seats.iter().any(|s| {
                    // A host that does not serve while another does may ask for the volume for ever, and has nothing to
                    // read.
                    let may_wait = self.holder_of(s.volume).is_some() && !s.gate_open;
                    s.engine.is_some()
                        && !s.released
                        && (!s.asked.is_empty()
                            || !s.wished.values().all(attaches)
                            || !may_wait && !s.wished.is_empty()
                            || s.needs_pin
                            || s.gate_open && !s.sweep.is_empty())
                });
                if busy || self.is_wire_busy() || self.is_served_twice() {
                    return;
                }
                let is_next = |v: &usize| self.volumes[*v].born && !self.ended.contains(v);
                self.ending = (0..self.volumes.len()).find(is_next).unwrap_or(0);
                if let Some(seat) = self.holder() {
                    let n = self.next_wish;
                    let name = format!("final{n}");
                    self.final_wish = Some(self.next_wish);
                    self.snapshot(seat, name, 1 << 40 | n);
                }
            }
            Phase::Sweeping | Phase::Rereading => {
                let Some(seat) = self.holder() else { return };
                let s = &self.seats[seat];
                let done = s.sweep.is_empty() && s.asked.is_empty() && s.wished.is_empty();
                if !done {
                    return;
                }
                if self.phase == Phase::Sweeping {
                    self.enter(Phase::Rereading, 3600);
                    self.end_process(seat, crate::disk::End::Power, crate::disk::Survival::None);
                    let life = self.seats[seat].life;
                    self.after(SEC, Event::Start { seat, life });
                } else {
                    self.enter(Phase::Collecting, 20_000);
                    self.collect_later(seat);
                }
            }
            Phase::Collecting | Phase::Over => {}
        }
    }

    // P7: who was taken over notices it while it can reach the store. Until then this phase does not end.
    fn is_served_twice(&self) -> bool {
        let serves = |s: &&crate::seat::Seat| {
            s.role != Role::Reads && s.engine.is_some() && s.gate_open && !s.released
        };
        let mut served = std::collections::BTreeSet::new();
        !(self.seats.iter().filter(serves)).all(|s| served.insert(s.volume))
    }

    // G2: after a last collection nothing is left that nothing reaches.
    fn collected(&mut self, seat: usize, collected: &Collected) {
        if self.phase != Phase::Collecting {
            return;
        }
        if collected.in_grace > 0 {
            // It has just attached, and counts the grace anew.
            self.collect_later(seat);
            return;
        }
        let container = self.volumes[self.seats[seat].volume].container.clone();
        let checked = self.no_leak(&container, collected);
        self.collects += 1;
        if checked.is_err() && self.collects < COLLECTS {
            // A PUT that nobody waits for any more may have landed meanwhile, or its row not have come yet.
            self.collect_later(seat);
            return;
        }
        self.check(checked);
        self.next_ending(seat);
    }

    pub(crate) fn collect_later(&mut self, seat: usize) {
        let grace = self.config.limits.delete_grace.as_nanos() as u64;
        // What a listing does not show yet cannot be collected: a request may come 900 s late, its row 120 s later.
        let quiet = if self.wire.is_some() { 1_100 * SEC } else { 0 };
        let wait = quiet.max(grace + 60 * SEC);
        self.again_after(seat, wait, AGAIN_COLLECT);
    }

    // The seat that serves guests of the volume whose turn it is.
    pub(crate) fn holder(&self) -> Option<usize> {
        self.holder_of(self.ending)
    }

    /// The seat that serves guests of a volume.
    pub(crate) fn holder_of(&self, volume: usize) -> Option<usize> {
        self.seats
            .iter()
            .find(|s| {
                s.role != Role::Reads
                    && s.volume == volume
                    && s.engine.is_some()
                    && s.gate_open
                    && !s.released
                    && s.history.is_some()
            })
            .map(|s| s.number)
    }

    /// A restart tells where its history ends.
    pub(crate) fn recovered(&mut self, seat: usize, end: u64) {
        let s = &mut self.seats[seat];
        let power = std::mem::take(&mut s.lost_power);
        s.is_recovered = true;
        // What an attach has left behind is served no more. Whether it was to be left is asked when the next one tells, or
        // when the restart serves under this one (`keeps_its_journal`).
        let last = s.history_generation;
        let is_left = (s.disk.note()).is_some_and(|note| folder::is_left(&note, last));
        if let Some(history) = s.history.as_mut().filter(|_| !is_left) {
            let disk = &s.disk;
            // An emergency cut may lie above what the failed disk kept: nothing is served before an attach finds its root.
            let saved = disk.is_saving();
            let end = end.max(if saved { history.stored() } else { 0 });
            let checked = history.recover(end, power, |seq| disk.holds_a_write(seq));
            self.check(checked);
        }
    }
}

/// A verdict in a few words.
pub(crate) fn verdict_text(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Born(c) | Verdict::Detached(c) | Verdict::Committed(c) => {
            let kind = match verdict {
                Verdict::Born(_) => "born",
                Verdict::Detached(_) => "detached",
                _ => "committed",
            };
            format!("{kind} {} cut {}", c.root.name, c.root.cut.0)
        }
        Verdict::Pinned(root) | Verdict::Reading(root) => format!("root {}", root.name),
        other => format!("{other:?}"),
    }
}

/// Attributes of a root, as numbers.
pub(crate) fn attribute_numbers(attributes: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, u64> {
    attributes
        .iter()
        .map(|(k, v)| (k.clone(), crate::act::attribute_number(v)))
        .collect()
}
