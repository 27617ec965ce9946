//! A logical unit's other side: the volume's driver, and the lanes that keep its rates.

use crate::clock::Clock;
use crate::driver::{Deliver, Driver};
use crate::rate::{Rates, Shaper, Turn, Way};
use bytes::Bytes;
use engine::command::Failure;
use engine::ids::Tag;
use engine::{Command, Reply, Wish};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use transport_iscsi::net::{Backend, ReplySink};

/// A unit's backend. Without rates a command costs one load more than the driver's own.
#[derive(Debug)]
pub(super) struct Unit {
    lanes: Arc<Lanes>,
    releasing: JoinHandle<()>,
}

struct Lanes {
    driver: Driver,
    block_bytes: u64,
    clock: Clock,
    deliver: Deliver,
    /// Set while a rate holds or a command waits.
    shaped: AtomicBool,
    shaper: Mutex<Shaper<Command<Bytes>>>,
    alarm: Arc<Notify>,
}

impl std::fmt::Debug for Lanes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lanes")
            .field("driver", &self.driver)
            .finish_non_exhaustive()
    }
}

impl Unit {
    pub(super) fn new(
        driver: Driver,
        block_bytes: u32,
        clock: Clock,
        deliver: Deliver,
        rates: Rates,
    ) -> Self {
        let lanes = Arc::new(Lanes {
            driver,
            block_bytes: u64::from(block_bytes),
            clock,
            deliver,
            shaped: AtomicBool::new(false),
            shaper: Mutex::default(),
            alarm: Arc::default(),
        });
        let releasing = tokio::spawn(release(Arc::downgrade(&lanes), Arc::clone(&lanes.alarm)));
        let unit = Self { lanes, releasing };
        unit.set_rates(rates);
        unit
    }

    pub(super) fn driver(&self) -> &Driver {
        &self.lanes.driver
    }

    /// Changes the rates, also of what waits.
    pub(super) fn set_rates(&self, rates: Rates) {
        let mut shaper = self.lanes.lock();
        shaper.set(rates);
        self.lanes
            .shaped
            .store(!shaper.is_idle(), Ordering::Release);
        drop(shaper);
        self.lanes.alarm.notify_one();
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        self.releasing.abort();
    }
}

impl Lanes {
    fn lock(&self) -> MutexGuard<'_, Shaper<Command<Bytes>>> {
        // Every change of the lanes is whole.
        self.shaper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lane of a command, and the bytes that it moves. `None`: it moves none.
    fn way(&self, command: &Command<Bytes>) -> Option<(Way, u64)> {
        match command {
            Command::Read(extent) => Some((Way::Read, extent.count.0 * self.block_bytes)),
            Command::Write { data, .. } | Command::CompareAndWrite { data, .. } => {
                Some((Way::Write, data.len() as u64))
            }
            Command::Discard(_)
            | Command::WriteZeroes { .. }
            | Command::Flush
            | Command::PutAttribute { .. } => None,
        }
    }
}

/// Lets waiting commands go when their time has come, until the unit is gone.
async fn release(lanes: Weak<Lanes>, alarm: Arc<Notify>) {
    loop {
        let woken = alarm.notified();
        let next = {
            let Some(lanes) = lanes.upgrade() else {
                return;
            };
            loop {
                let mut shaper = lanes.lock();
                let due = shaper.due(lanes.clock.now());
                drop(shaper);
                let Some((tag, command)) = due else {
                    break;
                };
                let mut deliver = |tag, reply| (lanes.deliver)(tag, reply);
                lanes.driver.submit(tag, command, &mut deliver);
            }
            let shaper = lanes.lock();
            lanes.shaped.store(!shaper.is_idle(), Ordering::Release);
            shaper.next().map(|at| lanes.clock.deadline(at))
        };
        match next {
            None => woken.await,
            Some(at) => tokio::select! {
                () = woken => {}
                () = tokio::time::sleep_until(at) => {}
            },
        }
    }
}

impl Backend for Unit {
    fn submit(&self, tag: Tag, command: Command<Bytes>, replies: &mut ReplySink<'_>) {
        let lanes = &self.lanes;
        let mut command = command;
        if lanes.shaped.load(Ordering::Acquire)
            && let Some((way, bytes)) = lanes.way(&command)
        {
            let mut shaper = lanes.lock();
            let turn = shaper.submit(lanes.clock.now(), way, tag, bytes, command);
            drop(shaper);
            match turn {
                Turn::Now(back) => command = back,
                Turn::Later => return lanes.alarm.notify_one(),
                Turn::Busy(_) => return replies.push(tag, Reply::Busy),
            }
        }
        lanes
            .driver
            .submit(tag, command, &mut |tag, reply| replies.push(tag, reply));
    }

    fn abort(&self, tag: Tag, replies: &mut ReplySink<'_>) {
        if self.lanes.shaped.load(Ordering::Acquire) {
            let mut shaper = self.lanes.lock();
            let waiting = shaper.take(tag);
            drop(shaper);
            if waiting.is_some() {
                return replies.push(tag, Reply::Failed(Failure::Aborted));
            }
        }
        self.lanes
            .driver
            .abort(tag, &mut |tag, reply| replies.push(tag, reply));
    }

    fn sessions(&self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        // The verdict says nothing; a stopped volume was reported when it stopped.
        let _ = self.lanes.driver.begin(Wish::Sessions(count));
    }
}
