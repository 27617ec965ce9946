//! Empty containers of erased volumes.
//!
//! A listing of Swift lags: a container that looks empty may hold objects still. So it goes after two empty listings that
//! lie `limits.min_age` apart; the first is remembered in the state directory, so that a restart goes on. A directory's
//! listing is the truth: there the container goes with its volume.

use super::{Host, Place, state_report};
use crate::clock::wall_now;
use crate::disk::state::Leftover;
use crate::report::Result;
use crate::store::Store;
use engine::Outcome;
use engine::effect::{StoreError, StoreRequest};
use engine::ids::Container;
use std::time::Duration;

/// What a sweep did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Swept {
    /// Containers removed.
    pub removed: usize,
    /// Containers that wait for their second empty listing.
    pub waiting: usize,
}

/// What becomes of a leftover after a listing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// Its container can go.
    Remove,
    /// It waits; empty since then, if it is.
    Wait(Option<u64>),
}

/// `now` and `since` in seconds of the wall clock. A clock that went back begins anew.
fn judge(since: Option<u64>, is_empty: bool, now: u64, gap: Duration) -> Next {
    match since {
        _ if !is_empty => Next::Wait(None),
        Some(since) if since <= now && now - since >= gap.as_secs() => Next::Remove,
        Some(since) if since <= now => Next::Wait(Some(since)),
        _ => Next::Wait(Some(now)),
    }
}

impl Host {
    /// The volume of this container was erased: the container goes, now or by later sweeps.
    ///
    /// # Errors
    ///
    /// The list of leftovers cannot be written.
    pub(super) async fn leave(&self, container: &Container) -> Result<()> {
        if let Store::Dir(_) = self.store() {
            self.remove_container(container).await;
            return Ok(());
        }
        let _turn = self.sweeping.lock().await;
        let mut left = self.leftovers()?;
        if left.iter().all(|l| l.container != *container) {
            left.push(Leftover {
                container: container.clone(),
                empty_since: None,
            });
            self.set_leftovers(&left)?;
        }
        Ok(())
    }

    /// Looks at every leftover once. `adopt`: also at containers of the store that hold no volume, whoever left them.
    ///
    /// # Errors
    ///
    /// The store does not answer, or the list of leftovers cannot be read or written.
    pub async fn sweep_containers(&self, adopt: bool, gap: Duration) -> Result<Swept> {
        let _turn = self.sweeping.lock().await;
        let mut left = self.leftovers()?;
        if adopt {
            self.adopt_leftovers(&mut left).await?;
        }
        let mut swept = Swept::default();
        let mut kept = Vec::new();
        for mut leftover in left {
            let container = &leftover.container;
            let found = self.store().is_empty(container).await;
            let is_empty = match found {
                Ok(is_empty) => is_empty,
                // It is gone.
                Err(StoreError::Absent) => continue,
                Err(error) => {
                    tracing::warn!(%container, ?error, "a leftover container is looked at later");
                    kept.push(leftover);
                    continue;
                }
            };
            match judge(leftover.empty_since, is_empty, wall_now().0, gap) {
                Next::Remove if self.remove_container(container).await => {
                    tracing::info!(%container, "the container of an erased volume is gone");
                    swept.removed += 1;
                    continue;
                }
                Next::Remove => leftover.empty_since = None,
                Next::Wait(since) => leftover.empty_since = since,
            }
            kept.push(leftover);
        }
        swept.waiting = kept.len();
        self.set_leftovers(&kept)?;
        Ok(swept)
    }

    /// Adds containers that hold no volume and are not of this state directory.
    async fn adopt_leftovers(&self, left: &mut Vec<Leftover>) -> Result<()> {
        for known in self.everywhere().await? {
            let is_known = left.iter().any(|l| l.container == known.container);
            if is_known || known.place == Place::Here {
                continue;
            }
            let found = self.inspect(&known.container).await?;
            // Being born is a superblock, or soon one; being erased leaves it until nothing else is left.
            if found.superblock.is_none() && found.opened.is_none() && found.root.is_none() {
                left.push(Leftover {
                    container: known.container,
                    empty_since: None,
                });
            }
        }
        Ok(())
    }

    /// Whether the container is gone. One that is not empty after all stays.
    async fn remove_container(&self, container: &Container) -> bool {
        let (tx, rx) = tokio::sync::oneshot::channel();
        self.store().execute(
            &self.world.runtime,
            StoreRequest::DeleteContainer(container.clone()),
            // Nobody waits any more: a later sweep finds what came of it.
            Box::new(move |outcome| drop(tx.send(outcome))),
        );
        matches!(rx.await, Ok(Outcome::Done))
    }

    fn leftovers(&self) -> Result<Vec<Leftover>> {
        self.state().leftovers().map_err(|e| state_report(&e))
    }

    fn set_leftovers(&self, left: &[Leftover]) -> Result<()> {
        self.state()
            .set_leftovers(left)
            .map_err(|e| state_report(&e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_container_goes_after_two_empty_listings_an_hour_apart() {
        for (since, is_empty, now, next) in [
            (None, true, 1000, Next::Wait(Some(1000))),
            (Some(1000), true, 4599, Next::Wait(Some(1000))),
            (Some(1000), true, 4600, Next::Remove),
            // Something turned up: from the start.
            (Some(1000), false, 9000, Next::Wait(None)),
            (None, false, 9000, Next::Wait(None)),
            // The clock went back.
            (Some(9000), true, 1000, Next::Wait(Some(1000))),
        ] {
            assert_eq!(judge(since, is_empty, now, HOUR), next, "{since:?} {now}");
        }
    }
}
