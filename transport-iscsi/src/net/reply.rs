//! The way of a command into the program and of its reply back.
//!
//! ```text
//!   connection ──submit──► Backend ──push──► ReplySink ─┬─ own tag ──► the connection's vector   (no hop)
//!                             │                         └─ other's ──► that connection's Outbox, woken
//!                             └── later, any thread ──► ReplyRouter ─► the connection's Outbox, woken
//! ```

use crate::target::{Doorbell, lock};
use bytes::Bytes;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use engine::ids::Tag;
use engine::{Command, Reply};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// One logical unit's other side: the program implements it over a volume.
///
/// # Contract
///
/// Every submitted tag is answered exactly once: into the sink before the call returns, or later through
/// [`ReplyRouter::deliver`] from any thread, in any order. Tags are unique among all commands in flight of this process.
/// The calls come from connection tasks and must not block on anything but short local I/O.
pub trait Backend: Send + Sync + 'static {
    /// Takes a command. The sink takes replies of this and of any other command that happen to be ready.
    fn submit(&self, tag: Tag, command: Command<Bytes>, replies: &mut ReplySink<'_>);

    /// Takes a command back. Its reply (any reply) still comes, once no effect of the command can follow.
    fn abort(&self, tag: Tag, replies: &mut ReplySink<'_>);

    /// Called after a session to this unit began or ended, with the number there are now. Starts and stops the watch.
    fn sessions(&self, count: usize) {
        let _ = count;
    }
}

/// Where a [`Backend`] puts replies while it has the connection's thread.
pub struct ReplySink<'a> {
    own: u32,
    inline: &'a mut Vec<(Tag, Reply<Bytes>)>,
    router: &'a ReplyRouter,
}

impl fmt::Debug for ReplySink<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplySink")
            .field("own", &self.own)
            .field("inline", &self.inline.len())
            .finish_non_exhaustive()
    }
}

impl<'a> ReplySink<'a> {
    pub(crate) fn new(
        own: u32,
        inline: &'a mut Vec<(Tag, Reply<Bytes>)>,
        router: &'a ReplyRouter,
    ) -> Self {
        Self {
            own,
            inline,
            router,
        }
    }

    /// Gives a reply, to this connection or to another.
    pub fn push(&mut self, tag: Tag, reply: Reply<Bytes>) {
        if connection_of(tag) == self.own {
            self.inline.push((tag, reply));
        } else {
            self.router.deliver(tag, reply);
        }
    }
}

/// A tag is the connection's number (upper 32 bits: slot and its generation) and a number within the connection.
fn connection_of(tag: Tag) -> u32 {
    (tag.0 >> 32) as u32
}

/// Replies of one connection that came from elsewhere, and its bell.
#[derive(Debug, Default)]
pub struct Outbox {
    full: AtomicBool,
    replies: Mutex<Vec<(Tag, Reply<Bytes>)>>,
    waker: Mutex<Option<Waker>>,
}

impl Outbox {
    fn push(&self, tag: Tag, reply: Reply<Bytes>) {
        lock(&self.replies).push((tag, reply));
        self.ring();
    }

    /// Moves the replies to the end of `into`. After [`Self::hear`].
    pub(crate) fn drain(&self, into: &mut Vec<(Tag, Reply<Bytes>)>) {
        into.append(&mut lock(&self.replies));
    }

    /// Ready when there is something; else the task is woken when something comes.
    pub(crate) fn poll_rung(&self, context: &Context<'_>) -> Poll<()> {
        if self.full.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        let mut waker = lock(&self.waker);
        match &*waker {
            Some(old) if old.will_wake(context.waker()) => {}
            _ => *waker = Some(context.waker().clone()),
        }
        drop(waker);
        // What came before the waker was there found nobody to wake.
        if self.full.load(Ordering::Acquire) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// The bell was heard; what rings from here on rings again.
    pub(crate) fn hear(&self) -> bool {
        self.full.swap(false, Ordering::AcqRel)
    }
}

impl Doorbell for Outbox {
    fn ring(&self) {
        // One wake-up for all that comes before the connection looks.
        if !self.full.swap(true, Ordering::AcqRel)
            && let Some(waker) = &*lock(&self.waker)
        {
            waker.wake_by_ref();
        }
    }
}

#[derive(Debug, Default)]
struct Slot {
    generation: u16,
    outbox: Option<Arc<Outbox>>,
}

/// Brings replies to connections, from any thread. A handle: clones share the connections.
#[derive(Clone, Debug, Default)]
pub struct ReplyRouter {
    slots: Arc<RwLock<Vec<Slot>>>,
}

impl ReplyRouter {
    /// A router without connections.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a reply to the connection that its tag names; drops it when that connection is gone.
    pub fn deliver(&self, tag: Tag, reply: Reply<Bytes>) {
        let number = connection_of(tag);
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.get(number as usize & 0xffff);
        if let Some(slot) = slot.filter(|s| u32::from(s.generation) == number >> 16)
            && let Some(outbox) = &slot.outbox
        {
            outbox.push(tag, reply);
        }
    }

    /// Takes a number for a connection; `None` when 65,536 are taken.
    pub(crate) fn register(&self) -> Option<(u32, Arc<Outbox>)> {
        let outbox = Arc::new(Outbox::default());
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let free = slots.iter().position(|s| s.outbox.is_none());
        let at = free.unwrap_or_else(|| {
            slots.push(Slot::default());
            slots.len() - 1
        });
        let low = u16::try_from(at).ok()?;
        let slot = slots.get_mut(at)?;
        slot.generation = slot.generation.wrapping_add(1);
        slot.outbox = Some(outbox.clone());
        Some((u32::from(slot.generation) << 16 | u32::from(low), outbox))
    }

    /// The connection is gone: later replies to it are dropped.
    pub(crate) fn release(&self, number: u32) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get_mut(number as usize & 0xffff)
            && u32::from(slot.generation) == number >> 16
        {
            slot.outbox = None;
        }
    }
}
