//! The program as a guest of its own volumes: export reads through the same door as an initiator.

use super::Driver;
use bytes::Bytes;
use engine::ids::Tag;
use engine::{Command, Reply};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// Tags from here on are the program's own; connections' tags lie below.
const FIRST_TAG: u64 = 0xffff_ffff << 32;

/// Commands of the program that are under way.
#[derive(Clone, Debug, Default)]
pub struct Guest(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    next: AtomicU64,
    by_tag: Mutex<BTreeMap<Tag, oneshot::Sender<Reply<Bytes>>>>,
}

impl Guest {
    /// Whether a tag is the program's own.
    pub const fn owns(tag: Tag) -> bool {
        tag.0 >= FIRST_TAG
    }

    /// Takes the reply to a command of the program.
    pub fn deliver(&self, tag: Tag, reply: Reply<Bytes>) {
        let mut waiting = self.0.lock();
        let asker = waiting.remove(&tag);
        drop(waiting);
        if let Some(asker) = asker {
            // Nobody waits any more: the command was carried out all the same.
            let _ = asker.send(reply);
        }
    }

    /// Gives a volume a command and waits for the reply.
    pub async fn ask(&self, volume: &Driver, command: Command<Bytes>) -> Reply<Bytes> {
        let (tx, rx) = oneshot::channel();
        // 2³² commands would have to be under way before a tag came twice.
        let number = self.0.next.fetch_add(1, Ordering::Relaxed) & 0xffff_ffff;
        let tag = Tag(FIRST_TAG | number);
        self.0.lock().insert(tag, tx);
        let mut deliver = volume.0.deliver();
        volume.submit(tag, command, &mut deliver);
        // A volume that stopped answers nothing.
        rx.await.unwrap_or(Reply::Busy)
    }
}

impl Waiting {
    // Every change of the map is whole.
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Tag, oneshot::Sender<Reply<Bytes>>>> {
        self.by_tag.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
