//! A small publisher over a small store, told histories and random ones, and the word of brute force.

use super::*;
use crate::effect::ListRow;
use crate::ids::{AttachId, Generation, Hash, Seq, Version, VolumeId};
use crate::object::names::LeavesName;
use crate::table::types::{
    Dying, Entry, GrainSet, Layer, LayerKind, ObjectRef, Pin, RootKind, SectionRef, SnapshotEntry,
};
use crate::time::WallTime;
use crate::units::{BlockCount, ByteCount, ChunkIndex, Geometry};
use alloc::format;
use alloc::string::{String, ToString};
use core::ops::Range;

/// Nothing here carries data.
#[derive(Clone, Debug)]
struct NoBytes;

impl crate::Payload for NoBytes {
    fn len(&self) -> ByteCount {
        ByteCount(0)
    }
    fn slice(&self, _: Range<u64>) -> Self {
        Self
    }
}

const LEAF_CHUNKS: u64 = 2;
const CHUNKS: u64 = 12;

fn container() -> Container {
    Container::new("disk", VolumeId([1; 16]))
}

fn parent() -> Container {
    Container::new("golden", VolumeId([2; 16]))
}

const fn id(generation: u64) -> AttachId {
    AttachId {
        generation: Generation(generation),
        nonce: generation * 16,
    }
}

#[derive(Clone, Debug)]
enum Object {
    Root(Arc<Root>),
    Leaves,
    Data,
}

/// How a version is written.
#[derive(Clone, Copy)]
struct Style {
    /// Leaves ride in the root.
    rides: bool,
    /// One object for all chunks, else one each.
    packs: bool,
    /// The new layer lies over the old ones.
    over: bool,
}

const PLAIN: Style = Style {
    rides: true,
    packs: true,
    over: false,
};

/// A search of everything, at 10,000 s.
const NOW: Search = Search {
    wall: WallTime(10_000),
    min_age: Duration::ZERO,
};

struct World {
    objects: BTreeMap<ObjectName, Object>,
    leaves: BTreeMap<Hash, Arc<Leaf>>,
    /// The history's newest root.
    root: Arc<Root>,
    own: AttachId,
    ordinal: u64,
    serial: u32,
    gone: BTreeSet<RootName>,
    drained: BTreeMap<RootName, u64>,
    log: Vec<String>,
    requests: usize,
    looks_fail: bool,
    /// A look takes longer than it takes to ask something again.
    looks_last: bool,
    /// Objects that cannot be read.
    damaged: BTreeSet<ObjectName>,
    /// The next requests that are not answered.
    away: u32,
    /// When objects were written, if not at 0.
    times: BTreeMap<ObjectName, u64>,
    /// Rows of listings that have outlived their objects.
    ghosts: BTreeSet<ObjectName>,
    /// Rows of a page at most.
    page: usize,
}

fn short(name: &ObjectName) -> String {
    match name {
        ObjectName::Root(n) => format!("root {}", n.version.0),
        ObjectName::Leaves(n) => format!("leaves {}", n.version.0),
        ObjectName::Data(n) => format!("data {}:{}-{}", n.version.0, n.first.0, n.last.0),
        other => format!("{other:?}"),
    }
}

impl World {
    /// Version 0: every chunk written.
    fn new(style: Style) -> Self {
        let own = id(1);
        let name = RootName {
            version: Version(0),
            attach: own,
        };
        let geometry = Geometry {
            block_bytes: 4096,
            capacity: BlockCount(CHUNKS),
            chunk_grains: 1,
            leaf_chunks: LEAF_CHUNKS as u32,
            frame_grains: 1,
        };
        let root = Root {
            container: container(),
            geometry,
            name,
            ordinal: 0,
            parent: None,
            kind: RootKind::Born,
            cut: Seq(0),
            created: WallTime(0),
            snapshots: Vec::new(),
            pins: Vec::new(),
            dying: Vec::new(),
            attributes: BTreeMap::new(),
            losses: Vec::new(),
            leaves: BTreeMap::new(),
            riding: BTreeMap::new(),
        };
        let mut world = Self {
            objects: BTreeMap::new(),
            leaves: BTreeMap::new(),
            root: Arc::new(root),
            own,
            ordinal: 0,
            serial: 0,
            gone: BTreeSet::new(),
            drained: BTreeMap::new(),
            log: Vec::new(),
            requests: 0,
            looks_fail: false,
            looks_last: false,
            damaged: BTreeSet::new(),
            away: 0,
            times: BTreeMap::new(),
            ghosts: BTreeSet::new(),
            page: 3,
        };
        let all: Vec<u64> = (0..CHUNKS).collect();
        let mut root = world.written(0, &all, style);
        root.dying.clear();
        world.store(root);
        world
    }

    /// The next root over the newest, before anything changed.
    fn next_root(&self) -> Root {
        let mut root = (*self.root).clone();
        root.name = RootName {
            version: Version(self.root.name.version.0 + 1),
            attach: self.own,
        };
        root.ordinal = self.ordinal + 1;
        root.kind = RootKind::Checkpoint;
        root.riding.clear();
        root.dying.retain(|dying| !self.gone.contains(&dying.root));
        let named = live_names(&root);
        let is_listed = self.root.snapshots.iter().any(|s| s.root == self.root.name)
            || self.root.pins.iter().any(|pin| pin.root == self.root.name);
        if !is_listed || !named.contains(&self.root.name) {
            root.dying.push(dying(self.root.name));
        }
        root
    }

    /// A root of `version` in which `chunks` were written.
    fn written(&mut self, version: u64, chunks: &[u64], style: Style) -> Root {
        let mut root = if version == 0 {
            let mut root = (*self.root).clone();
            root.ordinal = 1;
            root
        } else {
            self.next_root()
        };
        let mut changed: BTreeMap<LeafIndex, Leaf> = BTreeMap::new();
        let (low, high) = (chunks[0], chunks[chunks.len() - 1]);
        for chunk in chunks {
            let (first, last) = if style.packs {
                (low, high)
            } else {
                (*chunk, *chunk)
            };
            let name = DataName {
                version: root.name.version,
                first: ChunkIndex(first),
                last: ChunkIndex(last),
                attach: self.own,
                serial: if style.packs { 0 } else { *chunk as u32 },
            };
            self.objects.insert(ObjectName::Data(name), Object::Data);
            let index = LeafIndex(chunk / LEAF_CHUNKS);
            let leaf = changed.entry(index).or_insert_with(|| {
                let old = root
                    .leaves
                    .get(&index)
                    .map(|at| (*self.leaves[&at.hash]).clone());
                old.unwrap_or_else(|| Leaf {
                    index,
                    entries: BTreeMap::new(),
                })
            });
            let entry = leaf.entries.entry(ChunkIndex(*chunk)).or_default();
            if !style.over {
                entry.layers.clear();
            }
            entry
                .layers
                .insert(0, layer(root.name.version, container(), name));
        }
        self.place(&mut root, changed, style.rides);
        root
    }

    /// Stores changed leaves, riding or packed.
    fn place(&mut self, root: &mut Root, changed: BTreeMap<LeafIndex, Leaf>, rides: bool) {
        self.serial += 1;
        let packed = LeavesName {
            version: root.name.version,
            attach: root.name.attach,
            serial: self.serial,
        };
        if !rides {
            self.objects
                .insert(ObjectName::Leaves(packed), Object::Leaves);
        }
        for (n, (index, leaf)) in changed.into_iter().enumerate() {
            let mut hash = [0; 16];
            hash[..8].copy_from_slice(&(self.leaves.len() as u64).to_le_bytes());
            let (hash, leaf) = (Hash(hash), Arc::new(leaf));
            self.leaves.insert(hash, leaf.clone());
            let home = match rides {
                true => LeafHome::Root(root.name),
                false => LeafHome::Leaves(packed),
            };
            if rides {
                root.riding.insert(index, leaf);
            }
            let at = LeafRef {
                container: None,
                home,
                offset: n as u32,
                len: 1,
                hash,
            };
            root.leaves.insert(index, at);
        }
    }

    fn store(&mut self, root: Root) -> RootName {
        self.ordinal = root.ordinal;
        let root = Arc::new(root);
        self.objects
            .insert(ObjectName::Root(root.name), Object::Root(root.clone()));
        self.gone
            .retain(|name| root.dying.iter().any(|dying| dying.root == *name));
        self.root = root.clone();
        root.name
    }

    fn write(&mut self, chunks: &[u64], style: Style) -> RootName {
        let root = self.written(1, chunks, style);
        self.store(root)
    }

    /// The present under a name.
    fn snapshot(&mut self, name: &str, chunks: &[u64], style: Style) -> RootName {
        let mut root = self.written(1, chunks, style);
        root.kind = RootKind::Snapshot;
        root.snapshots.push(SnapshotEntry {
            name: name.to_string(),
            root: root.name,
            created: WallTime(0),
            wish: crate::ids::WishKey(0),
            capacity: root.geometry.capacity,
        });
        self.store(root)
    }

    fn delete_snapshot(&mut self, name: &str) {
        let mut root = self.next_root();
        let at = root
            .snapshots
            .iter()
            .position(|s| s.name == name)
            .expect("it exists");
        let entry = root.snapshots.remove(at);
        let is_known = root.dying.iter().any(|dying| dying.root == entry.root);
        if !is_known && !live_names(&root).contains(&entry.root) {
            root.dying.push(dying(entry.root));
        }
        self.store(root);
    }

    fn rollback(&mut self, name: &str) {
        let entry = (self.root.snapshots.iter())
            .find(|s| s.name == name)
            .expect("it exists");
        let old = self.root_of(entry.root).leaves.clone();
        let mut root = self.next_root();
        root.leaves = old;
        self.store(root);
    }

    fn root_of(&self, name: RootName) -> Arc<Root> {
        match self.objects.get(&ObjectName::Root(name)) {
            Some(Object::Root(root)) => root.clone(),
            _ => panic!("a live root is missing: {name:?}"),
        }
    }

    fn next_generation(&mut self) {
        self.own = id(self.own.generation.0 + 1);
        self.ordinal = 0;
        self.drained.clear();
    }

    fn all_dying(&self) -> Vec<RootName> {
        self.root.dying.iter().map(|dying| dying.root).collect()
    }

    fn task(&self, ripe: Vec<RootName>) -> Task {
        Task {
            root: self.root.clone(),
            own: self.own,
            ripe,
            drained: self.drained.clone(),
            gone: self.gone.clone(),
            damaged: BTreeSet::new(),
            search: None,
            window: 8,
            store_deadline: Duration::from_secs(1),
        }
    }

    /// A run that searches; what is dying stays in its grace.
    fn search(&mut self, min_age: u64) -> Report {
        let mut task = self.task(Vec::new());
        task.search = Some(Search {
            min_age: Duration::from_secs(min_age),
            ..NOW
        });
        self.log.clear();
        self.run_until(task, usize::MAX).expect("it is not killed")
    }

    fn answer(&mut self, request: StoreRequest<NoBytes>) -> Outcome<NoBytes> {
        self.requests += 1;
        if self.away > 0 {
            self.away -= 1;
            return Outcome::Store(StoreError::Unavailable);
        }
        match request {
            StoreRequest::Get(get) => {
                self.log.push(format!("get {}", short(&get.name)));
                if self.damaged.contains(&get.name) {
                    return Outcome::Store(StoreError::Damaged);
                }
                match (self.objects.get(&get.name), get.expect) {
                    (None, _) => Outcome::Store(StoreError::Absent),
                    (Some(_), Expect::Leaf(hash)) => {
                        Outcome::Meta(Meta::Leaf(self.leaves[&hash].clone()), hash)
                    }
                    (Some(Object::Root(root)), Expect::Root(None)) => {
                        Outcome::Meta(Meta::Root(root.clone()), Hash::default())
                    }
                    (object, expect) => panic!("{expect:?} of {object:?}"),
                }
            }
            StoreRequest::Delete { container: c, name } => {
                assert_eq!(c, container());
                self.log.push(format!("delete {}", short(&name)));
                self.objects.remove(&name);
                Outcome::Done
            }
            StoreRequest::List {
                prefix,
                after,
                limit,
                ..
            } => {
                self.log.push(format!("list {prefix}"));
                let row = |name: &ObjectName| ListRow {
                    name: name.to_string(),
                    bytes: ByteCount(1),
                    modified: WallTime(self.times.get(name).copied().unwrap_or(0)),
                };
                let all = self.objects.keys().chain(&self.ghosts).map(row);
                let mut rows: Vec<ListRow> = all
                    .filter(|row| row.name.starts_with(&prefix))
                    .filter(|row| after.as_ref().is_none_or(|after| row.name > *after))
                    .collect();
                rows.sort();
                rows.truncate((limit as usize).min(self.page));
                Outcome::Names(rows)
            }
            other => panic!("a run does not ask {other:?}"),
        }
    }

    /// A run, killed after so many requests.
    fn run_until(&mut self, task: Task, stop: usize) -> Option<Report> {
        let mut run = Collect::new(task);
        let mut now = Instant(0);
        let mut pending = VecDeque::new();
        let mut made = 0;
        loop {
            while let Some(ask) = run.poll::<NoBytes>(now) {
                match ask {
                    Ask::Store { slot, request } => pending.push_back((slot, request)),
                    Ask::Look => {
                        self.log.push("look".to_string());
                        if self.looks_last {
                            // What is under way meanwhile is to be asked again: it waits for the look, and turns in no ring.
                            for (slot, _) in pending.drain(..) {
                                let away = Outcome::<NoBytes>::Store(StoreError::Unavailable);
                                run.handle(now, slot, away);
                            }
                            now = now + Duration::from_secs(60);
                            assert_eq!(run.poll_timeout(now), None);
                            assert!(run.poll::<NoBytes>(now).is_none());
                        }
                        run.looked(!self.looks_fail);
                    }
                    Ask::End(report) => {
                        self.gone.extend(report.gone.iter().copied());
                        self.drained = report.drained.clone();
                        return Some(*report);
                    }
                }
            }
            let Some((slot, request)) = pending.pop_front() else {
                now = run
                    .poll_timeout(now)
                    .expect("it waits for something")
                    .max(now);
                continue;
            };
            if made == stop {
                return None;
            }
            made += 1;
            let outcome = self.answer(request);
            run.handle(now, slot, outcome);
        }
    }

    fn run(&mut self, ripe: Vec<RootName>) -> Report {
        let task = self.task(ripe);
        self.log.clear();
        let report = self.run_until(task, usize::MAX).expect("it is not killed");
        self.check_live();
        report
    }

    /// Everything that these roots reach, by brute force, through leaves that are there.
    fn reach(&self, roots: impl IntoIterator<Item = RootName>) -> BTreeSet<ObjectName> {
        let mut reached = BTreeSet::new();
        for name in roots {
            let root = self.root_of(name);
            reached.insert(ObjectName::Root(name));
            for at in root.leaves.values().filter(|at| at.container.is_none()) {
                reached.insert(at.home.object());
                if !self.objects.contains_key(&at.home.object()) {
                    continue;
                }
                for layer in self.leaves[&at.hash]
                    .entries
                    .values()
                    .flat_map(|e| &e.layers)
                {
                    if let LayerKind::Data(section) = &layer.kind
                        && section.object.container == container()
                    {
                        reached.insert(ObjectName::Data(section.object.name));
                    }
                }
            }
        }
        reached
    }

    /// P8: nothing that a live version reaches is missing.
    #[track_caller]
    fn check_live(&self) {
        for name in self.reach(live_names(&self.root)) {
            assert!(
                self.objects.contains_key(&name),
                "{} was stolen: {:#?}",
                short(&name),
                self.log
            );
        }
    }

    /// P8: nothing else is left, but dying roots that have to stay.
    #[track_caller]
    fn check_clean(&self) {
        let live = self.reach(live_names(&self.root));
        for name in self.objects.keys().filter(|name| !live.contains(name)) {
            let stays = match name {
                ObjectName::Root(root) => self.drained.contains_key(root),
                _ => false,
            };
            assert!(stays, "{} leaks: {:#?}", short(name), self.log);
        }
    }

    fn deleted(&self) -> Vec<&str> {
        self.log
            .iter()
            .filter_map(|line| line.strip_prefix("delete "))
            .collect()
    }
}

fn dying(root: RootName) -> Dying {
    Dying {
        root,
        since: WallTime(0),
    }
}

fn layer(version: Version, container: Container, name: DataName) -> Layer {
    Layer {
        version,
        kind: LayerKind::Data(SectionRef {
            object: ObjectRef { container, name },
            offset: 0,
        }),
        grains: GrainSet {
            runs: alloc::vec![(0, 1)],
        },
    }
}

/// Makes a later generation hold the volume, so that the search for the newest root keeps no old root.
fn others_time(world: &mut World) {
    world.next_generation();
    world.write(&[11], PLAIN);
}

#[test]
fn data_goes_before_leaves_and_these_before_the_root() {
    let packed = Style {
        rides: false,
        ..PLAIN
    };
    let mut world = World::new(Style {
        packs: false,
        ..PLAIN
    });
    let one = world.write(&[0], packed);
    world.write(&[0], packed);
    others_time(&mut world);
    let report = world.run(alloc::vec![one]);
    assert_eq!(
        world.log,
        [
            "get root 1",
            // Version 0 and 2 are dying too, but their grace still runs.
            "get root 0",
            "get root 2",
            "get leaves 1",
            "get root 0",
            "get leaves 2",
            "look",
            "delete data 1:0-0",
            "look",
            "delete leaves 1",
            "look",
            "delete root 1",
        ]
    );
    assert_eq!(report.gone, [one]);
    assert_eq!((report.data, report.leaves, report.roots), (1, 1, 1));
}

#[test]
fn an_object_over_many_leaves_stays_while_one_of_them_names_it() {
    let mut world = World::new(PLAIN);
    let one = world.snapshot("one", &[0, 5, 10], PLAIN);
    world.write(&[0], PLAIN);
    world.write(&[5], PLAIN);
    world.delete_snapshot("one");
    others_time(&mut world);
    let ripe = world.all_dying();
    assert!(ripe.contains(&one));
    world.run(ripe);
    // Chunk 10 is still as version 1 wrote it, in a leaf that none of the dying versions changed.
    assert!(
        !world.deleted().contains(&"data 1:0-10"),
        "{:#?}",
        world.log
    );
    world.check_clean();
    world.write(&[10], PLAIN);
    others_time(&mut world);
    let ripe = world.all_dying();
    world.run(ripe);
    assert!(world.deleted().contains(&"data 1:0-10"), "{:#?}", world.log);
    world.check_clean();
}

#[test]
fn a_rollback_brings_old_leaves_back() {
    let mut world = World::new(PLAIN);
    world.snapshot("old", &[1], PLAIN);
    for _ in 0..3 {
        world.write(&[1, 2, 3], PLAIN);
    }
    world.rollback("old");
    world.delete_snapshot("old");
    others_time(&mut world);
    let ripe = world.all_dying();
    world.run(ripe);
    // Snapshot and everything between are gone; the present still reads what the snapshot wrote.
    assert!(!world.deleted().contains(&"data 1:1-1"));
    world.check_clean();
}

#[test]
fn a_snapshot_shares_leaves_with_the_dying() {
    let mut world = World::new(PLAIN);
    world.write(&[2], PLAIN);
    world.snapshot("kept", &[4], PLAIN);
    world.write(&[2, 4], PLAIN);
    others_time(&mut world);
    let ripe = world.all_dying();
    let report = world.run(ripe);
    world.check_clean();
    // Version 1's leaf rides in its root and the snapshot reads it there.
    let one = RootName {
        version: Version(1),
        attach: id(1),
    };
    assert!(report.drained.contains_key(&one));
    assert!(!world.deleted().contains(&"root 1"));
    // When the snapshot goes, so does that root; of version 1 only the root is looked at.
    world.delete_snapshot("kept");
    others_time(&mut world);
    world.drained = report.drained.clone();
    let ripe = world.all_dying();
    let report = world.run(ripe);
    assert!(report.gone.contains(&one));
    world.check_clean();
}

#[test]
fn a_pinned_version_is_live() {
    let mut world = World::new(PLAIN);
    let one = world.snapshot("one", &[1], PLAIN);
    let mut root = world.next_root();
    root.snapshots.clear();
    root.pins.push(Pin {
        child: parent(),
        root: one,
    });
    world.store(root);
    world.write(&[1], PLAIN);
    others_time(&mut world);
    let mut ripe = world.all_dying();
    // A caller that is wrong about it changes nothing.
    ripe.push(one);
    world.run(ripe);
    world.check_clean();
    assert!(world.objects.contains_key(&ObjectName::Root(one)));
}

#[test]
fn a_version_in_its_grace_is_live() {
    let mut world = World::new(PLAIN);
    let one = world.write(&[1], PLAIN);
    let two = world.write(&[2], PLAIN);
    others_time(&mut world);
    world.run(alloc::vec![one]);
    for name in world.reach([two]) {
        assert!(
            world.objects.contains_key(&name),
            "{} was in its grace",
            short(&name)
        );
    }
}

#[test]
fn a_parents_objects_are_not_touched() {
    let mut world = World::new(PLAIN);
    let mut root = world.next_root();
    let name = DataName {
        version: Version(7),
        first: ChunkIndex(0),
        last: ChunkIndex(0),
        attach: id(3),
        serial: 0,
    };
    let mut leaf = Leaf::default();
    let entry = leaf.entries.entry(ChunkIndex(0)).or_default();
    *entry = Entry {
        layers: alloc::vec![layer(Version(7), parent(), name)],
    };
    world.place(&mut root, BTreeMap::from([(LeafIndex(0), leaf)]), true);
    let at = LeafRef {
        container: Some(parent()),
        home: LeafHome::Root(RootName {
            version: Version(7),
            attach: id(3),
        }),
        offset: 0,
        len: 1,
        hash: Hash([9; 16]),
    };
    root.leaves.insert(LeafIndex(1), at);
    world.store(root);
    world.write(&[0], PLAIN);
    others_time(&mut world);
    let ripe = world.all_dying();
    world.run(ripe);
    world.check_clean();
    assert!(
        world.log.iter().all(|line| !line.contains(" 7")),
        "{:#?}",
        world.log
    );
}

#[test]
fn roots_that_guide_the_search_stay() {
    let mut world = World::new(PLAIN);
    let roots: Vec<RootName> = (0..140).map(|_| world.write(&[3], PLAIN)).collect();
    let ripe = world.all_dying();
    let report = world.run(ripe);
    world.check_clean();
    let there = |world: &World, ordinal: usize| {
        // Ordinal 1 is version 0, so the root at index n has the ordinal n + 2.
        world
            .objects
            .contains_key(&ObjectName::Root(roots[ordinal - 2]))
    };
    let kept: Vec<usize> = (2..=141).filter(|k| there(&world, *k)).collect();
    let expected: Vec<usize> = [64].into_iter().chain(128..=141).collect();
    assert_eq!(kept, expected);
    // The newest is not dying; version 0 is, and stays for its riding leaves.
    assert_eq!(report.drained.len(), kept.len() - 1 + 1);
    // What is drained costs no read again.
    let ripe = world.all_dying();
    world.run(ripe);
    assert!(world.log.is_empty(), "{:#?}", world.log);
}

#[test]
fn a_failed_look_deletes_nothing() {
    let mut world = World::new(PLAIN);
    world.write(&[1], PLAIN);
    world.write(&[1], PLAIN);
    world.looks_fail = true;
    let ripe = world.all_dying();
    let report = world.run(ripe);
    assert_eq!(report.stopped, Some(Stopped::Fenced));
    assert!(world.deleted().is_empty());
    assert!(report.gone.is_empty() && report.drained.is_empty());
}

#[test]
fn a_live_object_that_cannot_be_read_stops_the_run() {
    let mut world = World::new(PLAIN);
    let kept = world.snapshot("kept", &[0, 3], PLAIN);
    world.write(&[0], PLAIN);
    world.write(&[0], PLAIN);
    let object = ObjectName::Root(kept);
    world.damaged.insert(object);
    let ripe = world.all_dying();
    let report = world.run(ripe);
    let error = StoreError::Damaged;
    assert_eq!(report.stopped, Some(Stopped::Blocked { object, error }));
    assert!(world.deleted().is_empty());
}

#[test]
fn a_dying_leaf_that_cannot_be_read_keeps_its_version_only() {
    let packed = Style {
        rides: false,
        ..PLAIN
    };
    let mut world = World::new(PLAIN);
    let one = world.write(&[0], packed);
    let two = world.write(&[0], packed);
    others_time(&mut world);
    let damaged = world.objects.keys().copied();
    let damaged: Vec<ObjectName> = damaged.filter(|name| short(name) == "leaves 1").collect();
    world.damaged.extend(damaged.iter().copied());
    let report = world.run(alloc::vec![one, two]);
    assert_eq!(report.damaged, damaged);
    assert_eq!(report.gone, [two]);
    assert!(!world.deleted().contains(&"root 1"));
    assert!(!world.deleted().contains(&"leaves 1"));
}

#[test]
fn orphans_of_the_past_go_and_those_of_the_present_stay() {
    let mut world = World::new(PLAIN);
    world.next_generation();
    world.write(&[1], PLAIN);
    let data = |version, attach| DataName {
        version: Version(version),
        first: ChunkIndex(0),
        last: ChunkIndex(1),
        attach,
        serial: 99,
    };
    let past = ObjectName::Data(data(5, id(1)));
    let given_up = ObjectName::Data(data(1, id(2)));
    let under_way = ObjectName::Data(data(2, id(2)));
    let leaves = ObjectName::Leaves(LeavesName {
        version: Version(3),
        attach: id(1),
        serial: 0,
    });
    let orphans = [past, given_up, under_way, leaves];
    for name in orphans {
        world.objects.insert(name, Object::Data);
    }
    let report = world.search(0);
    world.check_live();
    let there = |name| world.objects.contains_key(&name);
    assert_eq!(orphans.map(there), [false, false, true, false]);
    assert_eq!((report.data, report.leaves, report.young), (2, 1, 0));
    // Each kind on the word of a look of its own, and after every leaf that might name them.
    let looks = world.log.iter().filter(|line| *line == "look").count();
    assert_eq!(looks, 2, "{:#?}", world.log);
}

#[test]
fn an_orphan_stays_until_it_is_old_enough() {
    let mut world = World::new(PLAIN);
    world.next_generation();
    world.write(&[1], PLAIN);
    let orphan = |serial| {
        ObjectName::Data(DataName {
            version: Version(1),
            first: ChunkIndex(0),
            last: ChunkIndex(0),
            attach: id(1),
            serial,
        })
    };
    let leaves = ObjectName::Leaves(LeavesName {
        version: Version(1),
        attach: id(1),
        serial: 7,
    });
    for (name, time) in [(orphan(1), 6400), (orphan(2), 6401), (leaves, 9999)] {
        world.objects.insert(name, Object::Data);
        world.times.insert(name, time);
    }
    // Of unknown age: too young for any but 0.
    world.objects.insert(orphan(3), Object::Data);
    world.times.insert(orphan(3), u64::MAX);
    let report = world.search(3600);
    assert_eq!((report.data, report.young), (1, 3));
    assert!(!world.objects.contains_key(&orphan(1)));
    assert_eq!(world.search(0).young, 0);
    world.check_clean();
}

/// A generation whose last root came too late to be in the history, and the next one's first version.
fn with_a_stray(style: Style) -> (World, RootName) {
    let mut world = World::new(PLAIN);
    let stray = world.write(&[4], style);
    let before = world.root_of(RootName {
        version: Version(0),
        attach: id(1),
    });
    world.root = before;
    world.next_generation();
    world.write(&[5], PLAIN);
    (world, stray)
}

#[test]
fn what_a_stray_reaches_is_kept() {
    for rides in [true, false] {
        let (mut world, stray) = with_a_stray(Style { rides, ..PLAIN });
        let reached = world.reach([stray]);
        let mut task = world.task(world.all_dying());
        task.search = Some(NOW);
        let report = world.run_until(task, usize::MAX).expect("it ends");
        assert_eq!(report.strays, [stray]);
        let lost = (reached.iter()).find(|name| !world.objects.contains_key(name));
        assert_eq!(lost, None, "{:#?}", world.log);
    }
}

#[test]
fn what_may_be_a_damaged_strays_is_kept() {
    // The root, or a leaf of it.
    for rides in [true, false] {
        let (mut world, stray) = with_a_stray(Style { rides, ..PLAIN });
        let homes = world.reach([stray]);
        let is_home = |name: &&ObjectName| match name {
            ObjectName::Root(name) => rides && *name == stray,
            name => !rides && matches!(name, ObjectName::Leaves(_)),
        };
        let damaged: Vec<ObjectName> = homes.iter().filter(is_home).copied().collect();
        assert_eq!(damaged.len(), 1);
        world.damaged.extend(damaged.iter().copied());
        let orphan = |generation| {
            ObjectName::Data(DataName {
                version: Version(1),
                first: ChunkIndex(4),
                last: ChunkIndex(4),
                attach: id(generation),
                serial: 9,
            })
        };
        world.objects.insert(orphan(1), Object::Data);
        world.objects.insert(orphan(2), Object::Data);
        let report = world.search(0);
        assert_eq!((report.stopped, &report.damaged), (None, &damaged));
        assert!(world.objects.contains_key(&orphan(1)));
        // It names nothing that was written after it.
        assert!(!world.objects.contains_key(&orphan(2)));
        world.check_live();
    }
}

#[test]
fn a_row_that_outlived_its_object_is_nothing() {
    let mut world = World::new(PLAIN);
    let one = world.write(&[1], PLAIN);
    let leaf = world.write(
        &[1],
        Style {
            rides: false,
            ..PLAIN
        },
    );
    others_time(&mut world);
    world.ghosts = world.objects.keys().copied().collect();
    let ripe = world.all_dying();
    world.run(ripe);
    assert!(world.gone.contains(&one) && world.gone.contains(&leaf));
    world.write(&[2], PLAIN);
    world.write(&[3], PLAIN);
    let report = world.search(0);
    assert_eq!((report.stopped, report.strays), (None, Vec::new()));
    world.check_live();
}

#[test]
fn a_dead_root_that_comes_back_goes_again() {
    let mut world = World::new(PLAIN);
    let one = world.write(&[1], PLAIN);
    world.write(&[1], PLAIN);
    others_time(&mut world);
    let root = world.root_of(one);
    let ripe = world.all_dying();
    world.run(ripe);
    assert!(world.gone.contains(&one));
    // Its own PUT, sent again before it was confirmed, lands now.
    world
        .objects
        .insert(ObjectName::Root(one), Object::Root(root));
    let report = world.search(0);
    assert_eq!((report.roots, report.strays), (1, Vec::new()));
    world.check_clean();
}

#[test]
fn a_version_that_cannot_be_read_stops_no_later_run() {
    let mut world = World::new(PLAIN);
    let one = world.write(&[1], PLAIN);
    world.write(&[1], PLAIN);
    others_time(&mut world);
    world.damaged.insert(ObjectName::Root(one));
    let ripe = world.all_dying();
    let report = world.run(ripe);
    assert_eq!(report.damaged, [ObjectName::Root(one)]);
    // The caller is done with it: its grace was over.
    let mut task = world.task(Vec::new());
    task.damaged.insert(one);
    task.search = Some(NOW);
    let report = world.run_until(task, usize::MAX).expect("it ends");
    assert_eq!(report.stopped, None);
    world.check_live();
}

#[test]
fn an_absent_store_is_asked_again() {
    let mut world = World::new(PLAIN);
    world.write(&[1], PLAIN);
    world.write(&[1], PLAIN);
    others_time(&mut world);
    world.away = 5;
    let ripe = world.all_dying();
    assert_eq!(world.run(ripe).stopped, None);
    world.check_clean();
}

#[test]
fn many_objects_go_in_slices_with_looks_between() {
    let spread = Style {
        packs: false,
        over: true,
        ..PLAIN
    };
    let mut world = World::new(PLAIN);
    let all: Vec<u64> = (0..CHUNKS).collect();
    for _ in 0..120 {
        world.write(&all, spread);
    }
    world.write(&all, PLAIN);
    others_time(&mut world);
    let ripe = world.all_dying();
    world.looks_last = true;
    let report = world.run(ripe);
    assert!(report.data >= 120 * CHUNKS);
    let looks = world.log.iter().filter(|line| *line == "look").count();
    assert!(looks as u64 >= report.data / u64::from(DELETES_PER_LOOK));
    world.check_clean();
}

#[test]
fn grace_begins_when_a_commit_lists_it_and_not_anew() {
    let mut world = World::new(PLAIN);
    let zero = world.root.name;
    let one = world.write(&[1], PLAIN);
    let grace = Duration::from_secs(600);
    let at = |s: u64| Instant(s * 1_000_000_000);
    let mut graves = Graves::default();
    graves.committed(&world.root, at(100));
    world.write(&[1], PLAIN);
    graves.committed(&world.root, at(400));
    assert_eq!(graves.ripe(grace, at(699)), []);
    assert_eq!(graves.next(grace, at(500)), Some(at(700)));
    assert_eq!(graves.ripe(grace, at(700)), [zero]);
    assert_eq!(graves.ripe(grace, at(1000)), [zero, one]);
    assert_eq!(graves.next(grace, at(1000)), None);
}

/// A generator of the tests' own (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn chunks(&mut self) -> Vec<u64> {
        let few: BTreeSet<u64> = (0..=self.below(4)).map(|_| self.below(CHUNKS)).collect();
        few.into_iter().collect()
    }

    fn style(&mut self) -> Style {
        Style {
            rides: self.below(2) == 0,
            packs: self.below(2) == 0,
            over: self.below(2) == 0,
        }
    }
}

/// Random histories with runs between, some killed: nothing live is ever missing, and in the end nothing leaks.
fn history(seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut world = World::new(dice.style());
    let mut names = 0;
    for _ in 0..30 {
        let (chunks, style) = (dice.chunks(), dice.style());
        let snapshots = world.root.snapshots.clone();
        let some = snapshots.get(dice.below(snapshots.len().max(1) as u64) as usize);
        match (dice.below(10), some) {
            (0..=2, _) => {
                world.write(&chunks, style);
            }
            (9, _) => {
                // A publish was given up before its root: its number is used again.
                let newest = (world.root.clone(), world.ordinal);
                world.written(1, &chunks, style);
                (world.root, world.ordinal) = newest;
                world.next_generation();
            }
            (3, _) => {
                names += 1;
                world.snapshot(&format!("s{names}"), &chunks, style);
            }
            (4, Some(snapshot)) => world.delete_snapshot(&snapshot.name),
            (5, Some(snapshot)) => world.rollback(&snapshot.name),
            (6, _) => world.next_generation(),
            _ => {
                let ripe: Vec<RootName> = world
                    .all_dying()
                    .into_iter()
                    .filter(|_| dice.below(3) > 0)
                    .collect();
                let in_grace: Vec<RootName> = world
                    .all_dying()
                    .into_iter()
                    .filter(|name| !ripe.contains(name))
                    .collect();
                let alive: Vec<RootName> = (in_grace.into_iter())
                    .filter(|name| world.objects.contains_key(&ObjectName::Root(*name)))
                    .filter(|name| !world.drained.contains_key(name))
                    .collect();
                let was = world.reach(alive.iter().copied());
                let was: Vec<ObjectName> = was
                    .into_iter()
                    .filter(|name| world.objects.contains_key(name))
                    .collect();
                world.away = dice.below(3) as u32;
                let stop = if dice.below(2) == 0 {
                    dice.below(40) as usize
                } else {
                    usize::MAX
                };
                let mut task = world.task(ripe);
                task.search = (dice.below(2) == 0).then_some(NOW);
                let report = world.run_until(task, stop);
                assert_eq!(report.as_ref().and_then(|report| report.stopped), None);
                if report.is_none() {
                    // The process was killed: what it knew is gone.
                    world.drained.clear();
                    world.gone.clear();
                }
                world.away = 0;
                world.check_live();
                for name in was {
                    assert!(
                        world.objects.contains_key(&name),
                        "in its grace: {}",
                        short(&name)
                    );
                }
            }
        }
    }
    world.next_generation();
    world.write(&[0], PLAIN);
    let ripe = world.all_dying();
    let report = world.run(ripe);
    assert_eq!(report.stopped, None);
    assert_eq!(world.search(0).stopped, None);
    world.check_live();
    world.check_clean();
}

#[test]
fn nothing_live_goes_and_nothing_dead_stays() {
    (1..400).for_each(history);
}
