//! What oracles see of the store: every request as it leaves, every change as it lands.

use crate::act::is_door_above;
use crate::operator::attribute_numbers;
use crate::oracle::Violation;
use crate::payload::{Blocks, Stamp};
use crate::restorer::{Block, reach, reach_what_is_left, restore};
use crate::store::{Change, Content};
use crate::world::{Published, World};
use engine::command::Collected;
use engine::effect::{Body, Outcome, StoreRequest};
use engine::ids::{Container, Generation};
use engine::journal::note::{Intent, Note};
use engine::object::names::{ObjectName, RootName};
use engine::table::types::{Root, RootKind};
use std::collections::BTreeMap;

impl World {
    /// A request leaves an engine.
    pub(crate) fn before_request(&mut self, seat: usize, request: &StoreRequest<Blocks>) {
        let checked = match request {
            StoreRequest::Put {
                container,
                body: Body::Root(root),
                ..
            } => self.root_leaves(seat, container, root),
            StoreRequest::Put {
                name: ObjectName::Door(g),
                ..
            } => {
                self.seats[seat].own_doors.insert(g.0);
                Ok(())
            }
            StoreRequest::Delete { container, name } => {
                self.deleted.insert(format!("{container}/{name}"));
                self.delete_leaves(container, name)
            }
            _ => Ok(()),
        };
        self.check(checked);
    }

    // S1, S4: when a root leaves, all it names is in the store, and it is the history up to its cut.
    fn root_leaves(
        &mut self,
        seat: usize,
        container: &Container,
        root: &Root,
    ) -> Result<(), Violation> {
        let volume = self.seats[seat].volume;
        if root.kind == RootKind::Deleted {
            // Nothing is served from it; an erasing that was interrupted attaches on it and goes on.
            let content = self.seats[seat].loaded.clone();
            let (attributes, cut) = (BTreeMap::new(), root.cut.0);
            let published = Published {
                content,
                attributes,
                cut,
                lost: Vec::new(),
            };
            self.volumes[volume].published.insert(root.name, published);
            return Ok(());
        }
        let (content, attributes) = if root.kind == RootKind::Born {
            (
                self.seats[seat].loaded.clone(),
                attribute_numbers(&root.attributes),
            )
        } else {
            let Some(history) = self.seats[seat].history.as_ref() else {
                return Err(Violation::new(
                    "S1",
                    format!("{} leaves before the volume serves", root.name),
                ));
            };
            // A volume whose disk failed saves what is whole, durable or not: behind a note that says so, or behind the intent
            // to detach, with which a restart serves nothing before an attach has found out whether this root exists.
            let s = &self.seats[seat];
            let detaches = |n: &Note| matches!(n.intent, Some(Intent::Detach(_)));
            let saves = s.disk.is_saving()
                || s.disk_hurt && s.disk.note().is_some_and(|note| detaches(&note));
            if root.cut.0 > history.durable() && !saves {
                let text = format!(
                    "{} leaves with cut {}; the journal is durable up to {}",
                    root.name,
                    root.cut,
                    history.durable()
                );
                return Err(Violation::new("S1", text));
            }
            (
                history.content_at(root.cut.0),
                history.attributes_at(root.cut.0),
            )
        };
        if let Some(before) = self.volumes[volume].published.get(&root.name)
            && (before.content != content || before.cut != root.cut.0)
        {
            return Err(Violation::new(
                "S3",
                format!("{} is published with two contents", root.name),
            ));
        }
        let encoded = crate::store::bytes::encode_root(root).root;
        let restored = match restore(&self.store, container, &encoded) {
            Ok(restored) => restored,
            // A root of a generation that is over decides nothing (a stray): its orphans may be collected before it lands.
            Err(e)
                if self.is_over(container, root.name.attach.generation) && self.was_deleted(&e) =>
            {
                return Ok(());
            }
            Err(e) => return Err(Violation::new("S4", e)),
        };
        let lost = self.same(seat, root, &restored, &content)?;
        let is_nameless = self.seats[seat].is_nameless;
        let stated = attribute_numbers(&root.attributes);
        if stated != attributes && !is_nameless {
            let text = format!(
                "{} has attributes {:?}, should have {attributes:?}",
                root.name, root.attributes
            );
            return Err(Violation::new("S1", text));
        }
        let cut = root.cut.0;
        self.volumes[volume].published.insert(
            root.name,
            // Whoever goes on from this root has what it states: a lost record of an attribute comes back nowhere.
            Published {
                content,
                attributes: stated,
                cut,
                lost,
            },
        );
        Ok(())
    }

    // Whether a later generation is opened.
    fn is_over(&self, container: &Container, generation: Generation) -> bool {
        let bucket = self.store.truth().get(container);
        bucket.is_some_and(|bucket| {
            bucket
                .keys()
                .any(|name| matches!(name, ObjectName::Opened(g) if *g > generation))
        })
    }

    // Whether what a restorer misses was collected.
    fn was_deleted(&self, missing: &str) -> bool {
        self.deleted.iter().any(|deleted| {
            deleted.split_once('/').is_some_and(|(container, name)| {
                missing.starts_with(&format!("{name} of {container}"))
            })
        })
    }

    // Whether a root restores to what it shall; the blocks that it states lost.
    fn same(
        &self,
        seat: usize,
        root: &Root,
        found: &[Block],
        wanted: &[Stamp],
    ) -> Result<Vec<u64>, Violation> {
        let (name, cut) = (root.name, root.cut.0);
        let history = self.seats[seat].history.as_ref();
        let mut lost = Vec::new();
        for (lba, (found, wanted)) in (0..).zip(found.iter().zip(wanted)) {
            let fits = match found {
                Block::Is(stamp) => stamp == wanted,
                Block::Lost => {
                    lost.push(lba);
                    match history {
                        Some(history) => history.may_be_lost(lba, cut),
                        None => self.seats[seat].loaded_lost.contains(&lba),
                    }
                }
            };
            if !fits {
                let text =
                    format!("{name} restores block {lba} as {found:?}, its cut holds {wanted:?}");
                return Err(Violation::new("S1", text));
            }
        }
        if found.len() != wanted.len() {
            let text = format!("{name} has {} blocks, not {}", found.len(), wanted.len());
            return Err(Violation::new("S1", text));
        }
        Ok(lost)
    }

    // G1: what is deleted is reached by no live version.
    fn delete_leaves(&self, container: &Container, name: &ObjectName) -> Result<(), Violation> {
        let live = self.live(container).map_err(|e| Violation::new("G1", e))?;
        if live.contains_key(&(container.clone(), *name)) {
            return Err(Violation::new(
                "G1",
                format!("{name} of {container} is deleted and still reached"),
            ));
        }
        self.is_grace_over(container, name)
    }

    // G1: what a dying version reaches stays for a grace from the root on that lists it so: others may be reading it.
    fn is_grace_over(&self, container: &Container, name: &ObjectName) -> Result<(), Violation> {
        let grace = self.config.limits.delete_grace.as_nanos() as u64;
        let young = (self.dying_since.iter())
            .filter(|((at, _), since)| at == container && self.now < since.saturating_add(grace));
        // A volume that is being deleted goes as a whole.
        let newest = self.newest_root(container);
        if newest.is_none_or(|root| root.kind == RootKind::Deleted) {
            return Ok(());
        }
        for ((_, dying), since) in young {
            let root_name = ObjectName::Root(*dying);
            let mut reached = BTreeMap::from([((container.clone(), root_name), ())]);
            if let Some(Content::Root(root, _)) =
                self.store.get(container, &root_name).map(|o| &o.content)
            {
                reach_what_is_left(&self.store, container, root, &mut reached);
            }
            if reached.contains_key(&(container.clone(), *name)) {
                let age = self.now - since;
                let text = format!(
                    "{name} of {container} is deleted {age} ns after {dying} began to die; the grace is {grace} ns"
                );
                return Err(Violation::new("G1", text));
            }
        }
        Ok(())
    }

    // A root is there: from now on the grace of what it lists as dying runs.
    fn dies(&mut self, container: &Container, name: RootName) {
        let object = self.store.get(container, &ObjectName::Root(name));
        if let Some(Content::Root(root, _)) = object.map(|o| &o.content) {
            for dying in &root.dying {
                let key = (container.clone(), dying.root);
                self.dying_since.entry(key).or_insert(self.now);
            }
        }
    }

    /// All that the newest root's live versions and pins reach, roots included, by ground truth.
    pub(crate) fn live(
        &self,
        container: &Container,
    ) -> Result<BTreeMap<(Container, ObjectName), ()>, String> {
        let mut out = BTreeMap::new();
        for (container, bucket) in self.store.truth() {
            let Some(newest) = self.newest_root(container) else {
                continue;
            };
            let mut roots = vec![newest.name];
            roots.extend(newest.snapshots.iter().map(|s| s.root));
            roots.extend(newest.pins.iter().map(|p| p.root));
            for name in roots {
                let object_name = ObjectName::Root(name);
                out.insert((container.clone(), object_name), ());
                match bucket.get(&object_name).map(|o| &o.content) {
                    Some(Content::Root(root, _)) => reach(&self.store, container, root, &mut out)?,
                    _ => return Err(format!("live root {name} of {container} is not there")),
                }
            }
        }
        let _ = container;
        Ok(out)
    }

    /// G2, P8: what is in the container is reached by a live version or by a stray, or is a dying root that has to stay.
    pub(crate) fn no_leak(
        &self,
        container: &Container,
        collected: &Collected,
    ) -> Result<(), Violation> {
        let wrong = |text| Violation::new("G2", text);
        let mut kept = self.live(container).map_err(wrong)?;
        let (Some(newest), Some(bucket)) = (
            self.newest_root(container),
            self.store.truth().get(container),
        ) else {
            return Ok(());
        };
        if collected.young > 0 {
            return Err(wrong(
                "a collection of any age left something as too young".into(),
            ));
        }
        // With A1 broken: what was committed and is no part of the history is kept, and told.
        let strays = self.volumes.iter().filter(|v| v.container == *container);
        for stray in strays.flat_map(|v| &v.strays) {
            let is_there = bucket.contains_key(&ObjectName::Root(*stray));
            if !is_there || !collected.strays.contains(stray) {
                return Err(wrong(format!(
                    "{stray} was committed and is a stray; it is there: {is_there}, reported: {:?}",
                    collected.strays
                )));
            }
        }
        let is_dying = |name: &RootName| newest.dying.iter().any(|dying| dying.root == *name);
        for (name, object) in bucket {
            if let (ObjectName::Root(root), Content::Root(stray, _)) = (name, &object.content)
                && !is_dying(root)
                && !kept.contains_key(&(container.clone(), *name))
            {
                if !collected.strays.contains(root) {
                    return Err(wrong(format!("stray {root} is not reported")));
                }
                kept.insert((container.clone(), *name), ());
                reach_what_is_left(&self.store, container, stray, &mut kept);
            }
        }
        for (name, object) in bucket {
            let stays = match (name, &object.content) {
                _ if kept.contains_key(&(container.clone(), *name)) => true,
                // Multiples of 64 of the newest attachment, and all since the last such, guide the search.
                (ObjectName::Root(root), Content::Root(dead, _)) => {
                    let is_newest = newest.name.attach == root.attach;
                    let last = newest.ordinal / 64 * 64;
                    is_newest && (dead.ordinal % 64 == 0 || dead.ordinal >= last)
                        || self.is_holders(container, root)
                }
                (ObjectName::Root(_) | ObjectName::Leaves(_) | ObjectName::Data(_), _) => false,
                _ => true,
            };
            if !stays {
                let text = format!("{name} of {container} is left, and nothing reaches it");
                return Err(wrong(text));
            }
        }
        Ok(())
    }

    // Whether the root is of the attachment that holds the volume, which has not published yet.
    fn is_holders(&self, container: &Container, root: &RootName) -> bool {
        let bucket = self.store.truth().get(container);
        let openeds = bucket.into_iter().flat_map(|bucket| bucket.keys());
        let highest = openeds.filter_map(|name| match name {
            ObjectName::Opened(g) => Some(*g),
            _ => None,
        });
        highest.max() == Some(root.attach.generation)
    }

    /// The newest root of the history: of the highest opened generation that has one, by its parents.
    pub(crate) fn newest_root(&self, container: &Container) -> Option<&Root> {
        let bucket = self.store.truth().get(container)?;
        let opened: Vec<_> = bucket
            .values()
            .filter_map(|o| match &o.content {
                Content::Token(token) => Some(token),
                _ => None,
            })
            .collect();
        let highest = bucket
            .keys()
            .filter_map(|n| match n {
                ObjectName::Opened(g) => Some(*g),
                _ => None,
            })
            .max()?;
        let Content::Token(winner) = &bucket.get(&ObjectName::Opened(highest))?.content else {
            return None;
        };
        let _ = opened;
        let own = bucket
            .iter()
            .filter_map(|(n, o)| match (n, &o.content) {
                (ObjectName::Root(name), Content::Root(root, _))
                    if name.attach == winner.attach =>
                {
                    Some(&**root)
                }
                _ => None,
            })
            .max_by_key(|r| r.name.version);
        own.or_else(|| {
            let base = winner.base?;
            match &bucket.get(&ObjectName::Root(base))?.content {
                Content::Root(root, _) => Some(&**root),
                _ => None,
            }
        })
    }

    /// A process hears an answer.
    pub(crate) fn heard(
        &mut self,
        seat: usize,
        request: &StoreRequest<Blocks>,
        outcome: &Outcome<Blocks>,
    ) {
        let StoreRequest::Get(get) = request else {
            return;
        };
        let s = &self.seats[seat];
        // A restart serves what it held before it has attached anew.
        let held = s.attach.map(|a| a.generation);
        let Some(generation) = held.or_else(|| s.disk.note().and_then(|n| n.held)) else {
            return;
        };
        // It may have shut that door itself, on its way to the next attachment.
        if s.own_doors.contains(&(generation.0 + 1)) {
            return;
        }
        if is_door_above(&get.name, generation.0) && matches!(outcome, Outcome::Exists) {
            self.seats[seat].saw_door = true;
        }
    }

    // A generation is opened: from now on readers find what it goes on from.
    fn opened(&mut self, container: &Container, generation: Generation) {
        let object = self.store.get(container, &ObjectName::Opened(generation));
        let Some(Content::Token(token)) = object.map(|o| &o.content) else {
            return;
        };
        let (base, now) = (token.base, self.now);
        if let Some(own) = self.volumes.iter_mut().find(|v| v.container == *container) {
            own.opened.entry(generation.0).or_insert((base, now));
        }
    }

    /// Changes of the store since the last event.
    pub(crate) fn observe_store(&mut self) {
        for change in self.store.take_changes() {
            match change {
                Change::Put {
                    container,
                    name,
                    other_before,
                    back,
                } => {
                    match name {
                        ObjectName::Opened(g) => self.opened(&container, g),
                        ObjectName::Root(root) => self.dies(&container, root),
                        _ => {}
                    }
                    let many = matches!(name, ObjectName::Claim(_) | ObjectName::Door(_));
                    if other_before && !many {
                        let text = format!("{name} of {container} gets a second content");
                        self.fail(Violation::new("S3", text));
                    }
                    if back {
                        self.trace
                            .tell(self.now, || format!("{name} of {container} is back"));
                    }
                }
                Change::Deleted { container, name } => {
                    self.trace
                        .tell(self.now, || format!("{name} of {container} is gone"));
                }
            }
        }
    }
}
