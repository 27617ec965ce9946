//! Carrying out drained effects.
//!
//! Inline, on the thread that drained them: appends, small reads that are in memory, small compares. On the file pool:
//! syncs, reads that would wait, other disk work. On the store: its requests. An outcome is told to the engine by
//! whoever has it, and what follows is run by the same thread.

use super::{Inner, Work};
use bytes::Bytes;
use engine::command::Collected;
use engine::effect::Notice;
use engine::ids::{EffectId, Tag};
use engine::units::ByteCount;
use engine::{Effect, Outcome, Part, Parts, Reply};
use std::collections::VecDeque;
use std::sync::Arc;

/// Most bytes that one call moves on the thread that drained; what is beyond goes to the pool, so that one connection's
/// thread is not kept from its socket by the work of others.
const INLINE_BYTES: u64 = 4 << 20;

/// Longest read that is tried on the thread itself: a memory copy of some 50 µs.
const INLINE_READ: u64 = 256 << 10;

impl Inner {
    /// Runs work, and the work that follows from it, until there is none left for this thread.
    pub(super) fn run(
        self: &Arc<Self>,
        work: &mut VecDeque<Work>,
        reply: &mut dyn FnMut(Tag, Reply<Bytes>),
    ) {
        let mut budget = INLINE_BYTES;
        while let Some(next) = work.pop_front() {
            let effect = match next {
                Work::Effect(effect) => effect,
                Work::Told(asker, verdict) => {
                    // Nobody waits for it any more: the wish was carried out all the same.
                    let _ = asker.send(verdict);
                    continue;
                }
            };
            let cost = inline_cost(&effect);
            let done = match cost {
                Some(bytes) if bytes <= budget => {
                    budget -= bytes;
                    self.run_here(effect)
                }
                _ => {
                    self.run_elsewhere(effect);
                    None
                }
            };
            if let Some((id, outcome)) = done
                && self
                    .tell(work, reply, |engine, now| {
                        engine.handle_done(now, id, outcome)
                    })
                    .is_err()
            {
                return;
            }
        }
    }

    /// Runs an effect on this thread. `None`: it has no outcome, or somebody else will tell it.
    fn run_here(self: &Arc<Self>, effect: Effect<Bytes>) -> Option<(EffectId, Outcome<Bytes>)> {
        match effect {
            Effect::Append {
                id,
                file,
                at,
                head,
                data,
            } => Some((id, self.disk.append(file, at, &head, &data))),
            Effect::Read { id, read } => {
                if let Some(outcome) = self.disk.try_read(&read) {
                    Some((id, outcome))
                } else {
                    self.run_elsewhere(Effect::Read { id, read });
                    None
                }
            }
            Effect::Compare { id, found, expect } => Some((id, compare(&found, &expect))),
            Effect::Gate(gate) => {
                self.gate.send_replace(gate);
                None
            }
            Effect::Notice(notice) => {
                self.tell_people(&notice);
                None
            }
            // The result is not needed; it comes all the same, and the engine knows how to ignore it.
            Effect::Cancel(_) => None,
            // Taken out when it was drained.
            Effect::Reply(tag, reply) => {
                (self.world.deliver)(tag, reply);
                None
            }
            effect @ (Effect::Sync { .. }
            | Effect::Disk { .. }
            | Effect::Store { .. }
            | Effect::Told(..)) => {
                self.run_elsewhere(effect);
                None
            }
        }
    }

    /// Hands an effect to the pool or the store, which tell its outcome.
    fn run_elsewhere(self: &Arc<Self>, effect: Effect<Bytes>) {
        let inner = Arc::clone(self);
        match effect {
            Effect::Sync { id, file } => self.world.files.run(move || {
                let outcome = inner.disk.sync(file);
                inner.finish(id, outcome);
            }),
            Effect::Disk { id, request } => self.world.files.run(move || {
                let outcome = inner.disk.request(&request);
                drop(request);
                inner.finish(id, outcome);
            }),
            Effect::Read { id, read } => self.world.files.run(move || {
                let outcome = inner.disk.read(&read);
                inner.finish(id, outcome);
            }),
            Effect::Store { id, request } => self.world.store.execute(
                &self.world.runtime,
                request,
                Box::new(move |outcome| inner.finish(id, outcome)),
            ),
            effect => self.world.files.run(move || {
                if let Some((id, outcome)) = inner.run_here(effect) {
                    inner.finish(id, outcome);
                }
            }),
        }
    }

    fn tell_people(&self, notice: &Notice) {
        let volume = &self.container;
        match notice {
            Notice::Recovered { end, records } => {
                tracing::info!(%volume, end = end.0, records, "recovered the journal");
            }
            Notice::Damaged { extent, place } => {
                tracing::error!(%volume, blocks = %extent, place, "content is damaged");
            }
            Notice::FileCondemned(file) => {
                tracing::error!(%volume, file = file.0, "a journal file failed and is not used any more");
            }
            Notice::ReadOnly => {
                tracing::error!(%volume, "the local disk failed: the volume takes no writes");
            }
            Notice::Attached(generation) => {
                tracing::info!(%volume, generation = generation.0, "attached");
            }
            Notice::Fenced { by } => {
                tracing::error!(%volume, generation = by.0, "another host took the volume over: nothing is answered here any more, and what was not published stays here");
            }
            Notice::Committed {
                version,
                bytes,
                puts,
            } => {
                tracing::info!(%volume, version = version.0, bytes = bytes.0, puts, "committed");
            }
            Notice::Collected(collected) => {
                let Collected {
                    data,
                    leaves,
                    roots,
                    ..
                } = **collected;
                let pins = collected.unpinned.len();
                tracing::info!(%volume, data, leaves, roots, pins, "collected what no version needs");
            }
            Notice::StoreWaiting { object, error } => {
                tracing::warn!(%volume, object, ?error, "waiting for the store");
            }
            Notice::JournalFull => {
                tracing::warn!(%volume, "the journal is full: writes wait for the next commit");
            }
        }
    }
}

/// What an effect costs the thread that runs it, in bytes moved; `None`: it may block.
fn inline_cost(effect: &Effect<Bytes>) -> Option<u64> {
    match effect {
        Effect::Append { data, .. } => Some(data.len().0 + 4096),
        Effect::Read { read, .. } => {
            let bytes: u64 = read.pieces.iter().map(|(len, _)| u64::from(*len)).sum();
            (bytes <= INLINE_READ).then_some(bytes)
        }
        Effect::Compare { expect, .. } => Some(expect.len() as u64),
        Effect::Cancel(_)
        | Effect::Reply(..)
        | Effect::Told(..)
        | Effect::Gate(_)
        | Effect::Notice(_) => Some(0),
        Effect::Sync { .. } | Effect::Disk { .. } | Effect::Store { .. } => None,
    }
}

/// The first byte in which `found` differs from `expect`; both have one length.
fn compare(found: &Parts<Bytes>, expect: &Bytes) -> Outcome<Bytes> {
    let mut at = 0_usize;
    for part in &found.0 {
        let len = usize::try_from(part.len().0).unwrap_or(usize::MAX);
        let Some(wanted) = expect.get(at..at.saturating_add(len)) else {
            // Shorter than what was found: the first byte behind it differs.
            break;
        };
        let differs = match part {
            Part::Data(bytes) if bytes == wanted => None,
            Part::Data(bytes) => bytes.iter().zip(wanted).position(|(a, b)| a != b),
            Part::Zeros(_) => wanted.iter().position(|b| *b != 0),
        };
        if let Some(first) = differs {
            return Outcome::Compared(Some(ByteCount((at + first) as u64)));
        }
        at += len;
    }
    let same_length = found.len().0 == expect.len() as u64;
    Outcome::Compared((!same_length).then_some(ByteCount(at as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(found: &[&'static [u8]], zeros: u64, expect: &'static [u8], differs: Option<u64>) {
        let mut parts = Parts::default();
        found
            .iter()
            .for_each(|b| parts.push(Part::Data(Bytes::from_static(b))));
        parts.push(Part::Zeros(ByteCount(zeros)));
        let Outcome::Compared(at) = compare(&parts, &Bytes::from_static(expect)) else {
            panic!("not a comparison");
        };
        assert_eq!(at, differs.map(ByteCount));
    }

    #[test]
    fn compare_finds_the_first_byte_that_differs() {
        check(&[b"abc", b"def"], 2, b"abcdef\0\0", None);
        check(&[b"abc", b"def"], 2, b"abcdeg\0\0", Some(5));
        check(&[b"abc"], 3, b"abc\0\0x", Some(5));
        check(&[b"abc"], 0, b"xbc", Some(0));
        check(&[], 0, b"", None);
    }

    #[test]
    fn compare_of_different_lengths_is_never_equal() {
        check(&[b"abc"], 0, b"abcd", Some(3));
        check(&[b"abcd"], 0, b"abc", Some(0));
    }
}
