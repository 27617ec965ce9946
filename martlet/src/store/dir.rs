//! Objects in a directory: `<root>/<prefix><name>.<volume-id>/<object name>`, slashes as directories.
//!
//! Keeps the promises that the engine needs of a store: a PUT is answered when it survives a power cut; an object is whole
//! or not there; a name never changes its content; `once` creates or says that something is there. It is consistent at
//! once, so one ask decides about an absence, as long as the store itself answers: a root without its mark (a disk that
//! is not mounted) is no answer.
//!
//! Not here: what the bytes mean (`engine::object`, `engine::table`).

mod tree;

use super::{Done, codec};
use crate::driver::Pool;
use bytes::Bytes;
use engine::Outcome;
use engine::effect::{Absence, GetRequest, StoreError, StoreRequest};
use engine::ids::Container;
use engine::object::names::ObjectName;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tree::Tree;

/// Requests carried out at once: enough that several syncs share the disk's queue.
const THREADS: usize = 8;

/// A directory store. A handle: clones share one.
#[derive(Clone, Debug)]
pub struct DirStore {
    tree: Arc<Tree>,
    prefix: Arc<str>,
    pool: Pool,
}

impl DirStore {
    /// Opens the store in `root`. `make`: where there is nothing or an empty directory, it becomes a store.
    ///
    /// # Errors
    ///
    /// There is none, and none is to be made (`NotFound`); the directory cannot be made or read, or holds other things
    /// than a store.
    pub fn open(root: &Path, prefix: &str, make: bool) -> io::Result<Self> {
        Ok(Self {
            tree: Arc::new(Tree::open(root, make)?),
            prefix: prefix.into(),
            pool: Pool::start("store", THREADS)?,
        })
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        self.tree.root()
    }

    /// Carries out a request on a thread of the store.
    pub fn execute(&self, request: StoreRequest<Bytes>, done: Done) {
        let store = self.clone();
        self.pool.run(move || {
            let span = tracing::trace_span!("store", ?request);
            let outcome = span.in_scope(|| {
                let started = std::time::Instant::now();
                let outcome = store.run(request);
                tracing::trace!(elapsed = ?started.elapsed(), ?outcome);
                outcome
            });
            done(outcome);
        });
    }

    /// Every volume's container.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when the directory does not answer.
    pub fn containers(&self) -> Result<Vec<Container>, StoreError> {
        let names = self.tree.folders().map_err(|e| store_error(&e))?;
        let mut found: Vec<Container> = names
            .iter()
            .filter_map(|name| Container::parse(name.strip_prefix(&*self.prefix)?))
            .collect();
        found.sort();
        Ok(found)
    }

    fn folder(&self, container: &Container) -> PathBuf {
        PathBuf::from(format!("{}{container}", self.prefix))
    }

    fn object(&self, container: &Container, name: &ObjectName) -> PathBuf {
        self.folder(container).join(name.to_string())
    }

    /// Carries out a request on this thread.
    pub fn run(&self, request: StoreRequest<Bytes>) -> Outcome<Bytes> {
        let result = match request {
            StoreRequest::CreateContainer(container) => self
                .tree
                .create_folder(&self.folder(&container))
                .map(|()| Outcome::Done),
            StoreRequest::Get(get) => return self.get(&get),
            StoreRequest::Put {
                container,
                name,
                body,
                once,
            } => {
                let path = self.object(&container, &name);
                let (pieces, receipt) = codec::encode(&body);
                let put = if once {
                    self.tree.create(&path, &pieces)
                } else {
                    self.tree.put(&path, &pieces)
                };
                put.map(|()| Outcome::Put(receipt))
            }
            StoreRequest::Delete { container, name } => self
                .tree
                .delete(&self.folder(&container), &name.to_string())
                .map(|()| Outcome::Done),
            StoreRequest::List {
                container,
                prefix,
                after,
                limit,
            } => self
                .tree
                .list(&self.folder(&container), &prefix, after.as_deref(), limit)
                .map(Outcome::Names),
            StoreRequest::DeleteContainer(container) => self
                .tree
                .delete_folder(&self.folder(&container))
                .map(|()| Outcome::Done),
        };
        result.unwrap_or_else(|error| Outcome::Store(store_error(&error)))
    }

    fn get(&self, get: &GetRequest) -> Outcome<Bytes> {
        let path = self.object(&get.container, &get.name);
        let error = match self.tree.get(&path, get.range.clone()) {
            Ok(bytes) => return codec::check(get, &bytes),
            Err(error) => store_error(&error),
        };
        // What a table names must be there: its absence is damage (P5).
        if error == StoreError::Absent && get.absence == Absence::Damage {
            return Outcome::Store(StoreError::Damaged);
        }
        Outcome::Store(error)
    }
}

fn store_error(error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::NotFound => StoreError::Absent,
        io::ErrorKind::AlreadyExists => StoreError::Exists,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => StoreError::Denied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full,
        // A range behind the object's end: it is shorter than its table says.
        io::ErrorKind::UnexpectedEof => StoreError::Damaged,
        _ => StoreError::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::effect::{Body, Expect, FrameExpect, Meta, Receipt, Token};
    use engine::ids::{AttachId, Generation, Holder, Version, VolumeId};
    use engine::object::draft::{DataObject, GrainDraft, SectionDraft};
    use engine::object::names::DataName;
    use engine::time::Duration;
    use engine::units::{ChunkIndex, GrainIndex};
    use engine::{Part, Parts};

    fn container() -> Container {
        Container::new("vm01", VolumeId([4; 16]))
    }

    fn store() -> (tempfile::TempDir, DirStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = DirStore::open(&dir.path().join("store"), "p-", true).unwrap();
        let made = store.run(StoreRequest::CreateContainer(container()));
        assert!(matches!(made, Outcome::Done));
        (dir, store)
    }

    fn put(store: &DirStore, name: ObjectName, body: Body<Bytes>, once: bool) -> Outcome<Bytes> {
        store.run(StoreRequest::Put {
            container: container(),
            name,
            body,
            once,
        })
    }

    fn get(store: &DirStore, name: ObjectName, expect: Expect, absence: Absence) -> Outcome<Bytes> {
        store.run(StoreRequest::Get(GetRequest {
            container: container(),
            name,
            range: None,
            absence,
            deadline: Duration::from_secs(1),
            expect,
        }))
    }

    fn token(nonce: u64) -> Body<Bytes> {
        Body::Token(Token {
            attach: AttachId {
                generation: Generation(1),
                nonce,
            },
            holder: Holder::default(),
            base: None,
        })
    }

    #[test]
    fn a_claim_is_put_once() {
        let (_dir, store) = store();
        let claim = ObjectName::Claim(Generation(1));
        assert!(matches!(
            put(&store, claim, token(1), true),
            Outcome::Put(_)
        ));
        for nonce in [1, 2] {
            let second = put(&store, claim, token(nonce), true);
            assert!(matches!(second, Outcome::Store(StoreError::Exists)));
        }
        let got = get(&store, claim, Expect::Token, Absence::Twice);
        assert!(matches!(got, Outcome::Meta(Meta::Token(t), _) if t.attach.nonce == 1));
    }

    #[test]
    fn a_door_may_be_shut_again_and_again() {
        let (_dir, store) = store();
        let door = ObjectName::Door(Generation(2));
        let absent = get(&store, door, Expect::Exists, Absence::Once);
        assert!(matches!(absent, Outcome::Store(StoreError::Absent)));
        for _ in 0..2 {
            assert!(matches!(
                put(&store, door, Body::Door, false),
                Outcome::Put(_)
            ));
        }
        let there = get(&store, door, Expect::Exists, Absence::Once);
        assert!(matches!(there, Outcome::Exists));
    }

    #[test]
    fn what_is_not_what_it_must_be_is_damage() {
        let (dir, store) = store();
        let opened = ObjectName::Opened(Generation(1));
        assert!(matches!(
            put(&store, opened, token(1), false),
            Outcome::Put(_)
        ));
        let path = dir.path().join(format!("store/p-{}/{opened}", container()));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[40] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let got = get(&store, opened, Expect::Token, Absence::Once);
        assert!(matches!(got, Outcome::Store(StoreError::Damaged)));
    }

    fn object() -> (DataName, DataObject<Bytes>) {
        let attach = AttachId {
            generation: Generation(1),
            nonce: 5,
        };
        let name = DataName {
            version: Version(1),
            first: ChunkIndex(0),
            last: ChunkIndex(0),
            attach,
            serial: 1,
        };
        let grain = |n: u64| {
            let mut content = Parts::one(Bytes::from(vec![n as u8; 512]));
            content.push(Part::Zeros(engine::units::ByteCount(4096 - 512)));
            GrainDraft {
                index: GrainIndex(n),
                content,
            }
        };
        let object = DataObject {
            volume: container().id,
            attach,
            serial: 1,
            frame_grains: 16,
            sections: vec![SectionDraft {
                chunk: ChunkIndex(0),
                grains: (1..=20).map(grain).collect(),
            }],
        };
        (name, object)
    }

    fn frame(store: &DirStore, name: DataName, range: std::ops::Range<u64>) -> Outcome<Bytes> {
        store.run(StoreRequest::Get(GetRequest {
            container: container(),
            name: ObjectName::Data(name),
            range: Some(range),
            absence: Absence::Damage,
            deadline: Duration::from_secs(1),
            expect: Expect::Frames(vec![FrameExpect {
                chunk: ChunkIndex(0),
                frame: 1,
                grains: (17..=20).map(GrainIndex).collect(),
            }]),
        }))
    }

    #[test]
    fn a_frame_is_one_checked_range() {
        let (_dir, store) = store();
        let (name, object) = object();
        let Outcome::Put(Receipt { sums, .. }) =
            put(&store, ObjectName::Data(name), Body::Data(object), false)
        else {
            panic!("not stored");
        };
        let start = 128 + 16 * 4096;
        let range = start..start + 128 + 4 * 4096;
        let Outcome::Frames(frames) = frame(&store, name, range.clone()) else {
            panic!("not found");
        };
        assert_eq!(frames[0].sums[..], sums[0][16..]);
        assert_eq!(frames[0].data.len(), 4 * 4096);
        assert_eq!(frames[0].data[..512], [17; 512]);
        let beside = frame(&store, name, range.start - 1..range.end - 1);
        assert!(matches!(beside, Outcome::Store(StoreError::Damaged)));
        let behind = frame(&store, name, 1 << 30..(1 << 30) + 10);
        assert!(matches!(behind, Outcome::Store(StoreError::Damaged)));
        let gone = DataName { serial: 2, ..name };
        let gone = frame(&store, gone, range);
        assert!(matches!(gone, Outcome::Store(StoreError::Damaged)));
    }

    #[test]
    fn containers_are_told_by_prefix_and_name() {
        let (dir, store) = store();
        for name in ["p-nothing", "vm02.04040404040404040404040404040404"] {
            std::fs::create_dir(dir.path().join("store").join(name)).unwrap();
        }
        assert_eq!(store.containers(), Ok(vec![container()]));
    }
}
