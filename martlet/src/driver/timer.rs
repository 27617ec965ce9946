//! A volume's timer: sleeps until the engine's next deadline.

use super::Inner;
use std::sync::{Arc, Weak};
use tokio::sync::Notify;

/// Starts the task that tells the engine of time. It ends with the volume, whose end rings `bell` too.
pub(super) fn start(inner: &Arc<Inner>) {
    let bell = Arc::clone(&inner.timer);
    let weak = Arc::downgrade(inner);
    inner.world.runtime.spawn(tick(weak, bell));
}

async fn tick(volume: Weak<Inner>, bell: Arc<Notify>) {
    loop {
        // A strong handle is held only while awake, so that the sleeping timer keeps no volume alive.
        let Some(inner) = volume.upgrade() else {
            return;
        };
        let armed = match inner.core.lock() {
            Ok(core) => core.armed,
            // The engine stopped; nothing of it wants time any more.
            Err(_) => return,
        };
        let clock = inner.world.clock;
        if let Some(at) = armed
            && at <= clock.now()
        {
            if let Ok(mut core) = inner.core.lock() {
                core.armed = None;
            }
            inner.fact_elsewhere(|engine, now| engine.handle_timeout(now));
            continue;
        }
        drop(inner);
        match armed {
            None => bell.notified().await,
            Some(at) => {
                tokio::select! {
                    () = tokio::time::sleep_until(clock.deadline(at)) => {}
                    () = bell.notified() => {}
                }
            }
        }
    }
}
