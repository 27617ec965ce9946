//! The front door of one volume.

use crate::command::{Command, Wish};
use crate::effect::{Effect, Outcome};
use crate::ids::{Container, EffectId, Seq, Tag, Version, WishId};
use crate::limits::{Life, Limits};
use crate::payload::Payload;
use crate::time::Instant;
use crate::units::{ByteCount, Geometry};
use alloc::collections::VecDeque;

/// One volume: facts in, effects out.
///
/// # Contract
///
/// - After each `handle_*` call effects are drained with [`Volume::poll_effect`] until `None`.
/// - Each effect with an id gets exactly one [`Volume::handle_done`], also after [`Effect::Cancel`].
/// - `now` never runs backwards. [`Volume::handle_timeout`] early or twice changes nothing.
/// - [`Volume::poll_timeout`] may change after any `handle_*`.
/// - Same facts in, same effects out, byte for byte.
#[derive(Debug)]
pub struct Volume<P> {
    container: Container,
    life: Life,
    limits: Limits,
    effects: VecDeque<Effect<P>>,
}

/// What a volume has room for at the door.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Credits {
    /// Guest commands that may enter now.
    pub commands: u32,
    /// Bytes that they may carry or ask for.
    pub bytes: ByteCount,
    /// [`Wish::Load`]s that may enter now.
    pub loads: u32,
}

/// A volume's state for people and for the program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// The shape, once known.
    pub geometry: Option<Geometry>,
    /// Whether guests are answered.
    pub serving: bool,
    /// The newest committed version known.
    pub version: Option<Version>,
    /// Newest write in the journal.
    pub written: Seq,
    /// Newest durable write.
    pub durable: Seq,
    /// Newest write in the store.
    pub stored: Seq,
    /// Bytes that are only here.
    pub only_here: ByteCount,
    /// Journal files in use, of how many.
    pub files: (u32, u32),
    /// Cache slots in use, of how many.
    pub cache: (u32, u32),
}

impl<P: Payload> Volume<P> {
    /// A volume of which nothing is known yet but its name and id. First reads what the local disk holds.
    pub fn new(container: Container, life: Life, limits: Limits) -> Self {
        Self {
            container,
            life,
            limits,
            effects: VecDeque::new(),
        }
    }

    /// A guest's command. Its answer is one [`Effect::Reply`] with `tag`.
    pub fn handle_guest(&mut self, now: Instant, tag: Tag, command: Command<P>) {
        let _ = (now, tag, command);
    }

    /// The front end takes a command back. Answered by its [`Effect::Reply`] once no effect of it can follow.
    pub fn handle_abort(&mut self, now: Instant, tag: Tag) {
        let _ = (now, tag);
    }

    /// An operator's wish. Its answer is one [`Effect::Told`] with `id`.
    pub fn handle_wish(&mut self, now: Instant, id: WishId, wish: Wish<P>) {
        let _ = (now, id, wish);
    }

    /// What came of an effect.
    pub fn handle_done(&mut self, now: Instant, id: EffectId, outcome: Outcome<P>) {
        let _ = (now, id, outcome);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// The next effect to run, if any.
    pub fn poll_effect(&mut self) -> Option<Effect<P>> {
        self.effects.pop_front()
    }

    /// When [`Volume::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// What may enter now.
    pub fn credits(&self) -> Credits {
        Credits {
            commands: self.limits.inflight_commands,
            bytes: self.limits.inflight_bytes,
            loads: self.limits.uploads,
        }
    }

    /// The state for people.
    pub fn status(&self) -> Status {
        let _ = (&self.container, &self.life);
        Status {
            geometry: None,
            serving: false,
            version: None,
            written: Seq(0),
            durable: Seq(0),
            stored: Seq(0),
            only_here: ByteCount(0),
            files: (0, self.limits.files),
            cache: (0, self.limits.cache_slots),
        }
    }
}
