//! The driver: runs a volume's engine and carries out its effects on real parts.
//!
//! ```text
//!   connection, operator, pool or store thread
//!        │ one fact                                  (a command, an outcome, a wish, time)
//!        ▼
//!   lock ─ handle_* ─ drain ─ unlock ─ run: small local work here, the rest on pools ─┐
//!        ▲                                                                            │
//!        └──────────────────────────────── outcome ◄──────────────────────────────────┘
//! ```
//!
//! Invariant  whoever drains runs; every effect with an id is answered once, by whoever ran it.
//! Invariant  nothing heavy under the lock: no system call, checksum, encoding or large allocation.
//! Not here   what the effects mean (`engine`), how the disk and the store do them (`disk`, `store`).

mod guest;
mod pool;
mod run;
mod timer;

pub use guest::Guest;
pub use pool::Pool;

use crate::clock::Clock;
use crate::disk::Disk;
use crate::store::Store;
use bytes::Bytes;
use engine::effect::Gate;
use engine::ids::{Container, EffectId, Tag, WishId};
use engine::time::Instant;
use engine::units::Geometry;
use engine::{Command, Effect, Life, Limits, Outcome, Reply, Status, Verdict, Volume, Wish};
use smallvec::SmallVec;
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, oneshot, watch};

/// Brings a reply to the connection that its tag names. May be called from any thread.
pub type Deliver = Arc<dyn Fn(Tag, Reply<Bytes>) + Send + Sync>;

/// What all volumes of a process share.
#[derive(Clone)]
pub struct World {
    /// The process's clock.
    pub clock: Clock,
    /// Threads for the local disk.
    pub files: Pool,
    /// Where objects are.
    pub store: Store,
    /// The way back of replies that are not given on the connection's own thread.
    pub deliver: Deliver,
    /// The runtime on which timers and requests to the store run.
    pub runtime: tokio::runtime::Handle,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

/// A running volume. A handle: clones drive the same one, which stops when the last is gone.
#[derive(Clone, Debug)]
pub struct Driver(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    container: Container,
    core: Mutex<Core>,
    disk: Disk,
    world: World,
    gate: watch::Sender<Gate>,
    /// The shape, once the engine knows it.
    shape: watch::Sender<Option<Geometry>>,
    timer: Arc<Notify>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.timer.notify_one();
    }
}

#[derive(Debug)]
struct Core {
    engine: Volume<Bytes>,
    wishes: BTreeMap<WishId, oneshot::Sender<Verdict>>,
    next_wish: u64,
    /// What the timer task sleeps until. Later wishes of the engine let it fire early, which changes nothing.
    armed: Option<Instant>,
}

/// Replies of one fact: mostly one.
type Replies = SmallVec<[(Tag, Reply<Bytes>); 2]>;

/// Drained from an engine, to be run outside its lock.
#[derive(Debug)]
enum Work {
    Effect(Effect<Bytes>),
    Told(oneshot::Sender<Verdict>, Verdict),
}

/// The engine stopped: a broken invariant made it panic. Other volumes live on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stopped;

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the volume stopped after an internal error; its log says which")
    }
}

impl std::error::Error for Stopped {}

thread_local! {
    /// The drained work of the thread's last fact: its room is used again.
    static SCRATCH: Cell<VecDeque<Work>> = const { Cell::new(VecDeque::new()) };
}

impl Driver {
    /// Starts a volume: its engine begins to read what the local disk holds.
    pub fn start(
        container: Container,
        life: Life,
        limits: Limits,
        disk: Disk,
        world: World,
    ) -> Self {
        let engine = Volume::new(container.clone(), life, limits);
        let closed = Gate::Closed(engine::effect::GateReason::NotServing);
        let inner = Arc::new(Inner {
            container,
            core: Mutex::new(Core {
                engine,
                wishes: BTreeMap::new(),
                next_wish: 1,
                armed: None,
            }),
            disk,
            world,
            gate: watch::Sender::new(closed),
            shape: watch::Sender::new(None),
            timer: Arc::new(Notify::new()),
        });
        timer::start(&inner);
        // Time is the first fact: it brings out what `new` left to do.
        inner.fact_elsewhere(|engine, now| engine.handle_timeout(now));
        Self(inner)
    }

    /// The volume's name and id.
    pub fn container(&self) -> &Container {
        &self.0.container
    }

    /// Cuts the volume off from its local disk, once what is under way there is done. For a volume that was given up.
    pub fn close_disk(&self) {
        self.0.disk.close();
    }

    /// Takes a guest's command. `reply` gets every reply to guests that is ready before this returns, of this or another
    /// command; later ones go through [`World::deliver`].
    pub fn submit(
        &self,
        tag: Tag,
        command: Command<Bytes>,
        reply: &mut dyn FnMut(Tag, Reply<Bytes>),
    ) {
        let mut sort = self.0.sort(reply);
        let taken = self.0.fact(&mut sort, |engine, now| {
            engine.handle_guest(now, tag, command)
        });
        if taken.is_err() {
            sort(tag, Reply::Busy);
        }
    }

    /// Takes a command back. Its reply still comes, once no effect of it can follow.
    pub fn abort(&self, tag: Tag, reply: &mut dyn FnMut(Tag, Reply<Bytes>)) {
        let mut sort = self.0.sort(reply);
        let taken = self
            .0
            .fact(&mut sort, |engine, now| engine.handle_abort(now, tag));
        if taken.is_err() {
            sort(tag, Reply::Busy);
        }
    }

    /// Asks for something and waits for the verdict.
    ///
    /// # Errors
    ///
    /// [`Stopped`] when the engine stopped before it answered.
    pub async fn wish(&self, wish: Wish<Bytes>) -> Result<Verdict, Stopped> {
        self.begin(wish)?.await.map_err(|_| Stopped)
    }

    /// [`Driver::wish`], and how long taking the wish held the volume's lock: for a snapshot that is the cut.
    ///
    /// # Errors
    ///
    /// As [`Driver::wish`].
    pub async fn wish_timed(&self, wish: Wish<Bytes>) -> Result<(Verdict, Duration), Stopped> {
        let (verdict, held) = self.begin_timed(wish)?;
        Ok((verdict.await.map_err(|_| Stopped)?, held))
    }

    /// Asks for something; the verdict comes through the receiver.
    ///
    /// # Errors
    ///
    /// [`Stopped`] when the engine has stopped.
    pub fn begin(&self, wish: Wish<Bytes>) -> Result<oneshot::Receiver<Verdict>, Stopped> {
        Ok(self.begin_timed(wish)?.0)
    }

    fn begin_timed(
        &self,
        wish: Wish<Bytes>,
    ) -> Result<(oneshot::Receiver<Verdict>, Duration), Stopped> {
        let (tx, rx) = oneshot::channel();
        let inner = &self.0;
        let id = {
            let mut core = inner.core.lock().map_err(|_| Stopped)?;
            let id = WishId(core.next_wish);
            core.next_wish += 1;
            core.wishes.insert(id, tx);
            id
        };
        let mut deliver = inner.deliver();
        let mut held = Duration::ZERO;
        inner.fact(&mut deliver, |engine, now| {
            engine.handle_wish(now, id, wish);
            held = inner.world.clock.now().since(now);
        })?;
        Ok((rx, held))
    }

    /// Whether guests are let in, and news of it.
    pub fn gate(&self) -> watch::Receiver<Gate> {
        self.0.gate.subscribe()
    }

    /// The shape, as soon as the engine knows it.
    ///
    /// # Errors
    ///
    /// [`Stopped`] when the engine stopped before.
    pub async fn geometry(&self) -> Result<Geometry, Stopped> {
        let mut news = self.0.shape.subscribe();
        // Asked once here, so that what was known before is seen.
        self.0.look_at_shape()?;
        let known = news.wait_for(Option::is_some).await.map_err(|_| Stopped)?;
        (*known).ok_or(Stopped)
    }

    /// The state for people.
    ///
    /// # Errors
    ///
    /// [`Stopped`] when the engine has stopped.
    pub fn status(&self) -> Result<Status, Stopped> {
        Ok(self.0.core.lock().map_err(|_| Stopped)?.engine.status())
    }

    /// The volume's attributes as of now.
    ///
    /// # Errors
    ///
    /// [`Stopped`] when the engine has stopped.
    pub fn attributes(&self) -> Result<BTreeMap<String, Vec<u8>>, Stopped> {
        let core = self.0.core.lock().map_err(|_| Stopped)?;
        Ok(core.engine.attributes().clone())
    }

    /// How many loads of an unborn volume may enter now.
    pub fn loads(&self) -> u32 {
        self.0
            .core
            .lock()
            .map_or(0, |core| core.engine.credits().loads)
    }
}

impl Inner {
    /// Tells the engine one fact, then runs all that follows from it on this thread, but for what pools do.
    fn fact(
        self: &Arc<Self>,
        reply: &mut dyn FnMut(Tag, Reply<Bytes>),
        fact: impl FnOnce(&mut Volume<Bytes>, Instant),
    ) -> Result<(), Stopped> {
        let mut work = SCRATCH.take();
        let told = self.tell(&mut work, reply, fact);
        if told.is_ok() {
            self.run(&mut work, reply);
        }
        work.clear();
        SCRATCH.set(work);
        told
    }

    /// [`Inner::fact`] away from any connection: replies go the long way.
    fn fact_elsewhere(self: &Arc<Self>, fact: impl FnOnce(&mut Volume<Bytes>, Instant)) {
        let mut deliver = self.deliver();
        // A stopped engine was reported when it stopped.
        let _ = self.fact(&mut deliver, fact);
    }

    /// Replies to the program's own commands go to it, also from a connection's thread.
    fn sort<'a>(
        &'a self,
        reply: &'a mut dyn FnMut(Tag, Reply<Bytes>),
    ) -> impl FnMut(Tag, Reply<Bytes>) + 'a {
        move |tag, answer| {
            if Guest::owns(tag) {
                (self.world.deliver)(tag, answer);
            } else {
                reply(tag, answer);
            }
        }
    }

    fn deliver(&self) -> impl FnMut(Tag, Reply<Bytes>) + use<> {
        let deliver = Arc::clone(&self.world.deliver);
        move |tag, reply| deliver(tag, reply)
    }

    /// Lock, fact, drain, unlock; then the replies that were drained.
    fn tell(
        &self,
        work: &mut VecDeque<Work>,
        reply: &mut dyn FnMut(Tag, Reply<Bytes>),
        fact: impl FnOnce(&mut Volume<Bytes>, Instant),
    ) -> Result<(), Stopped> {
        let mut replies = Replies::new();
        let wake = {
            let mut core = self.core.lock().map_err(|_| Stopped)?;
            // Read under the lock, so that the engine's time never runs backwards.
            let now = self.world.clock.now();
            fact(&mut core.engine, now);
            core.drain(work, &mut replies);
            if self.shape.receiver_count() > 0 {
                self.tell_shape(&core);
            }
            core.rearm()
        };
        if wake {
            self.timer.notify_one();
        }
        // Replies go first: they wait for nothing.
        replies
            .into_iter()
            .for_each(|(tag, answer)| reply(tag, answer));
        Ok(())
    }

    fn tell_shape(&self, core: &Core) {
        let shape = core.engine.status().geometry;
        self.shape.send_if_modified(|known| {
            let news = *known != shape;
            *known = shape;
            news
        });
    }

    fn look_at_shape(&self) -> Result<(), Stopped> {
        self.tell_shape(&*self.core.lock().map_err(|_| Stopped)?);
        Ok(())
    }

    /// What came of an effect, told from a pool or the store.
    fn finish(self: &Arc<Self>, id: EffectId, outcome: Outcome<Bytes>) {
        self.fact_elsewhere(|engine, now| engine.handle_done(now, id, outcome));
    }
}

impl Core {
    fn drain(&mut self, work: &mut VecDeque<Work>, replies: &mut Replies) {
        while let Some(effect) = self.engine.poll_effect() {
            match effect {
                Effect::Reply(tag, reply) => replies.push((tag, reply)),
                Effect::Told(id, verdict) => {
                    if let Some(asker) = self.wishes.remove(&id) {
                        work.push_back(Work::Told(asker, verdict));
                    }
                }
                effect => work.push_back(Work::Effect(effect)),
            }
        }
    }

    /// Whether the timer task must wake to sleep less long.
    fn rearm(&mut self) -> bool {
        let Some(next) = self.engine.poll_timeout() else {
            return false;
        };
        let sooner = self.armed.is_none_or(|armed| next < armed);
        if sooner {
            self.armed = Some(next);
        }
        sooner
    }
}
