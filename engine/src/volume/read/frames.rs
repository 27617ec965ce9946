//! Frames on their way from the store, into the cache, and ahead of a guest that reads on and on.

use crate::effect::{Absence, DiskRequest, Expect, GetRequest, Outcome, StoreError, StoreRequest};
use crate::hydrate::{RunSource, runs};
use crate::layers::split;
use crate::object::names::ObjectName;
use crate::payload::{Parts, Payload};
use crate::table::present::Lookup;
use crate::time::Duration;
use crate::units::Extent;
use crate::volume::doubt::Asked;
use crate::volume::{Pending, Volume};
use alloc::format;
use smallvec::SmallVec;

/// How far ahead of a sequential guest frames are fetched, in bytes.
const READ_AHEAD_BYTES: u64 = 16 << 20;

/// A store that did not answer is asked again after this, doubling up to 16 times as long.
pub(super) const RETRY: Duration = Duration::from_millis(250);

impl<P: Payload> Volume<P> {
    pub(crate) fn hydrate_pump(&mut self) {
        while let Some((id, fetch)) = self.hydrate.next_to_send(self.limits.hydrations) {
            let request = StoreRequest::Get(GetRequest {
                container: fetch.object.container.clone(),
                name: ObjectName::Data(fetch.object.name),
                range: Some(fetch.bytes.clone()),
                absence: Absence::Damage,
                deadline: self.limits.store_deadline,
                expect: Expect::Frames(
                    fetch
                        .frames
                        .iter()
                        .map(|frame| frame.expect.clone())
                        .collect(),
                ),
            });
            self.out.store(Pending::Fetch { id }, request);
        }
    }

    pub(in crate::volume) fn fetch_done(&mut self, id: u64, outcome: Outcome<P>) {
        let Some(mut fetch) = self.hydrate.answered(id) else {
            return;
        };
        if fetch.is_behind && !matches!(outcome, Outcome::Frames(_)) {
            // Whatever it is that the store has: it is not asked again and again for what no guest wants.
            self.publishing.merges.pause();
        }
        match outcome {
            Outcome::Frames(frames) if frames.len() == fetch.frames.len() => {
                self.store_answered();
                for (frame, got) in fetch.frames.into_iter().zip(frames) {
                    let data = Parts::one(got.data);
                    for waiter in frame.waiters {
                        let Some(geometry) = self.geometry else {
                            return;
                        };
                        let bytes = geometry.bytes(waiter.extent.count).0;
                        let from = u64::from(waiter.from);
                        let part = data.slice(from..from + bytes);
                        self.read_fill(waiter.op, waiter.extent.start, part, waiter.extent.count.0);
                    }
                    self.cache_feed(
                        &fetch.object,
                        frame.offset,
                        frame.expect.grains,
                        got.sums,
                        data,
                    );
                }
            }
            Outcome::Store(StoreError::Damaged | StoreError::TooNew) if fetch.frames.len() > 1 => {
                self.store_answered();
                // Those beside a damaged frame are whole. One that no guest wanted is not asked for again.
                if !fetch.is_behind {
                    mark!("damaged-fetch-is-split");
                    self.hydrate.split(fetch);
                }
            }
            Outcome::Store(
                error @ (StoreError::Damaged | StoreError::Absent | StoreError::TooNew),
            ) => {
                self.store_answered();
                let now = self
                    .present
                    .root()
                    .map(|root| root.name.version)
                    .unwrap_or_default();
                let place = format!(
                    "{}/{}: {error:?}",
                    fetch.object.container,
                    ObjectName::Data(fetch.object.name)
                );
                for frame in &mut fetch.frames {
                    let mut waiters = core::mem::take(&mut frame.waiters);
                    waiters.retain(|waiter| self.reads.ops.contains_key(&waiter.op));
                    if now == fetch.version && waiters.is_empty() {
                        let asked = Asked::Frame(fetch.object.clone(), frame.offset);
                        self.damage_untold(asked, place.clone());
                    }
                    for waiter in waiters {
                        if now == fetch.version {
                            self.read_doubt(waiter.op, waiter.extent, place.clone());
                        } else {
                            // Only the newest table decides what must be there: ask it again.
                            self.resolve(waiter.op, waiter.extent);
                        }
                    }
                }
            }
            other => {
                self.store_failed(&other);
                for frame in &mut fetch.frames {
                    frame
                        .waiters
                        .retain(|waiter| self.reads.ops.contains_key(&waiter.op));
                }
                fetch
                    .frames
                    .iter_mut()
                    .for_each(|frame| frame.waiters.shrink_to_fit());
                if fetch.frames.iter().any(|frame| !frame.waiters.is_empty()) {
                    let at = self.now + RETRY * (1 << fetch.attempts.min(4));
                    self.hydrate.again(id, fetch, at);
                }
            }
        }
        self.hydrate_pump();
    }

    pub(in crate::volume) fn hydrate_timeout(&mut self) {
        self.hydrate.due(self.now);
        self.hydrate_pump();
    }

    /// Puts a frame that is in memory into the cache.
    pub(crate) fn cache_feed(
        &mut self,
        object: &crate::table::types::ObjectRef,
        offset: u32,
        grains: SmallVec<[crate::units::GrainIndex; 16]>,
        sums: SmallVec<[crate::sum::BoundSum; 16]>,
        data: Parts<P>,
    ) {
        if self.own.is_reader() || sums.len() != grains.len() {
            return;
        }
        if let Some((slot, frame)) =
            self.cache
                .begin_fill(object, offset, grains, sums, data.clone())
        {
            let frame = alloc::boxed::Box::new(frame);
            self.out.disk(
                Pending::Fill { slot },
                DiskRequest::FillCache { slot, frame, data },
            );
        }
    }

    /// Fetches ahead of a sequential guest what is not here.
    pub(super) fn read_ahead(&mut self, extent: Extent) {
        let Some(geometry) = self.geometry else {
            return;
        };
        if self.own.is_reader() && self.limits.cache_slots == 0 {
            return;
        }
        let most = READ_AHEAD_BYTES / u64::from(geometry.block_bytes);
        let Some(ahead) = self.hydrate.read_ahead(extent, geometry.capacity.0, most) else {
            return;
        };
        let version = self
            .present
            .root()
            .map(|root| root.name.version)
            .unwrap_or_default();
        let leaf_blocks = geometry.chunk_blocks() * u64::from(geometry.leaf_chunks);
        for part in split::within(ahead, leaf_blocks) {
            let index = geometry.leaf_of(geometry.chunk_of(geometry.grain_of(part.start)));
            match self.present.lookup(index, None) {
                Lookup::Hole => {}
                Lookup::Wait { at, start } => {
                    if start {
                        self.leaf_load(&at);
                    }
                }
                Lookup::Ready(leaf) => {
                    for run in runs(&geometry, &leaf, part) {
                        if let RunSource::Frame(frame) = run.source
                            && self
                                .cache
                                .get(&(frame.object.clone(), frame.bytes.start as u32))
                                .is_none()
                        {
                            self.hydrate.want(&frame, version, None);
                        }
                    }
                }
            }
        }
        self.hydrate_pump();
    }
}
