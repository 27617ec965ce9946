//! The search for orphans: what listings show and no root names.
//!
//! Candidates  data and leaves objects that no root to come can be the first to name (see `Task::is_past`), old enough.
//! Strays      roots that the newest root neither lists, pins nor calls dying. They are read first: what they reach stays,
//!             as far as it is still there. One that cannot be read keeps everything that its attachment may have known.

use super::{Collect, Errand, Search, Step, live_names};
use crate::effect::{ListRow, StoreRequest};
use crate::ids::{AttachId, Container};
use crate::object::names::{ObjectName, RootName};
use crate::table::types::LeafHome;
use alloc::collections::BTreeSet;
use alloc::string::String;

pub(super) const VERSIONS: &str = "versions/";
pub(super) const CHUNKS: &str = "chunks/";
pub(super) const TABLES: &str = "tables/";

/// Rows of a page: memory is bounded by it, and the work of one answer.
const PAGE: u32 = 1000;

/// A listing, page by page. A run killed on the way begins at the first page again: what it deleted is gone.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    after: Option<String>,
    is_asked: bool,
    is_over: bool,
}

impl Listing {
    /// A listing from its first page; without a search it is over at once.
    pub(super) const fn new(search: Option<Search>) -> Self {
        Self {
            after: None,
            is_asked: false,
            is_over: search.is_none(),
        }
    }

    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// The errand that brings the next page, if there is one and none is under way.
    pub(super) fn next(&self, prefix: &'static str) -> Option<Errand> {
        (!self.is_over && !self.is_asked).then_some(Errand::List(prefix))
    }

    pub(super) const fn asked(&mut self) {
        self.is_asked = true;
    }

    pub(super) fn request<P>(&self, container: Container, prefix: &str) -> StoreRequest<P> {
        StoreRequest::List {
            container,
            prefix: prefix.into(),
            after: self.after.clone(),
            limit: PAGE,
        }
    }

    /// A page came. Only an empty one is the last: pages of a container in parts may be short.
    fn came(&mut self, rows: &[ListRow]) {
        self.is_asked = false;
        let last = rows.last().map(|row| &row.name);
        self.is_over = last.is_none() || last <= self.after.as_ref();
        self.after = last.cloned();
    }
}

impl Collect {
    /// A page of the step's listing.
    pub(super) fn listed(&mut self, rows: &[ListRow]) {
        self.listing.came(rows);
        let Some(search) = self.task.search else {
            return;
        };
        let known = match self.step {
            Step::Strays => self.known_roots(),
            _ => BTreeSet::new(),
        };
        for row in rows {
            let is_young = !search.is_old(row.modified);
            match (self.step, ObjectName::parse(&row.name)) {
                (Step::Strays, Some(ObjectName::Root(name))) => {
                    // A root of ours that is not committed yet is no stray; what only it names is not of the past.
                    let is_coming =
                        name.attach == self.task.own && name.version > self.task.root.name.version;
                    if self.task.gone.contains(&name) {
                        mark!("deleted-root-is-back");
                        self.back.push(name);
                    } else if !is_coming && !known.contains(&name) {
                        self.queue.push_back(Errand::Stray(name));
                    }
                }
                (Step::Suspects, Some(ObjectName::Data(name)))
                    if self.is_candidate(name.attach, name.version) =>
                {
                    mark!("orphan-data-listed");
                    self.slice.entry(name).or_insert(is_young);
                }
                (Step::Leaves, Some(ObjectName::Leaves(name)))
                    if self.is_candidate(name.attach, name.version)
                        && !self.homes.contains(&LeafHome::Leaves(name)) =>
                {
                    mark!("orphan-leaves-listed");
                    match is_young {
                        true => self.report.young += 1,
                        false => (self.queue).push_back(Errand::Delete(ObjectName::Leaves(name))),
                    }
                }
                _ => {}
            }
        }
    }

    fn is_candidate(&self, attach: AttachId, version: crate::ids::Version) -> bool {
        (self.task.is_past(attach, version) || bug!("what-comes-is-an-orphan"))
            && self.blind.is_none_or(|blind| attach.generation > blind)
    }

    /// The roots that the newest root speaks of.
    fn known_roots(&self) -> BTreeSet<RootName> {
        let mut known = live_names(&self.task.root);
        known.extend(self.task.root.dying.iter().map(|dying| dying.root));
        known
    }

    /// Something of a stray cannot be read: what it may name stays. It names nothing that a later attachment wrote.
    pub(super) fn blinded(&mut self, object: ObjectName, writer: AttachId) {
        mark!("collection-blinded");
        if !self.report.damaged.contains(&object) {
            self.report.damaged.push(object);
        }
        self.blind = self.blind.max(Some(writer.generation));
        self.slice
            .retain(|name, _| name.attach.generation > writer.generation);
    }
}
