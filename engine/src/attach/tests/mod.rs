//! A store for the tests, and dialogues with it: each line is a request that left and the answer that came; the last line is the end.

mod away;
mod base;
mod judge;
mod look;
mod lost;
mod search;

use super::*;
use crate::command::Held;
use crate::effect::{Body, Expect, GetRequest, ListRow, Meta, Receipt, StoreRequest};
use crate::ids::Container;
use crate::ids::{Hash, Seq, StateDirId, Version, VolumeId};
use crate::limits::Limits;
use crate::object::names::RootName;
use crate::table::types::{Root, RootKind, VolumeKind};
use crate::units::{BlockCount, ByteCount, Geometry};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::string::ToString;
use core::ops::Range;

/// Payload is not used: nothing here carries data.
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

#[derive(Clone, Debug)]
enum Object {
    Superblock,
    Token(Token),
    Door,
    Root(Arc<Root>),
}

fn container() -> Container {
    Container::new("disk", VolumeId([1; 16]))
}

fn life(host: &str) -> Life {
    Life {
        host: host.to_string(),
        state_dir: StateDirId(host.len() as u64),
        seed: 7,
        wall: WallTime(1000),
    }
}

const fn id(generation: u64, nonce: u64) -> AttachId {
    AttachId {
        generation: Generation(generation),
        nonce,
    }
}

const fn root_of(version: u64, attach: AttachId) -> RootName {
    RootName {
        version: Version(version),
        attach,
    }
}

/// The hash is made from the name: the tests' bytes are their names.
fn hash_of(name: RootName) -> Hash {
    let mut hash = [0; 16];
    hash[..8].copy_from_slice(&name.version.0.to_le_bytes());
    hash[8..].copy_from_slice(&name.attach.nonce.to_le_bytes());
    Hash(hash)
}

/// A store that keeps its word, a transcript, and answers laid out beforehand.
#[derive(Default)]
struct World {
    objects: BTreeMap<ObjectName, Object>,
    /// Rows that a listing shows beside what exists.
    ghost_rows: Vec<String>,
    /// Answers for the next asks of these lines, before the store is asked: `Err` instead of applying a PUT.
    plan: Vec<(String, VecDeque<Plan>)>,
    log: Vec<String>,
    requests: usize,
    /// What comes of the request of this number, counted from 0.
    fault: Option<(usize, Plan)>,
    /// Listings show nothing: they lag.
    blind: bool,
    /// An absence that is asked twice takes so long.
    patient: Option<Duration>,
    now: Instant,
    /// What the host's note says.
    drawn: Vec<AttachId>,
    joined: Vec<AttachId>,
}

/// A planned answer.
#[derive(Clone)]
enum Plan {
    /// Answer this; nothing is applied.
    Say(StoreError),
    /// Apply, then answer this.
    ApplyAndSay(StoreError),
    /// Something else happens first, then the store answers.
    Before(fn(&mut World)),
}

impl World {
    fn put_superblock(&mut self) {
        self.objects.insert(ObjectName::Volume, Object::Superblock);
    }

    fn put_claim(&mut self, attach: AttachId, host: &str) {
        self.objects.insert(
            ObjectName::Claim(attach.generation),
            Object::Token(token(attach, host, None)),
        );
    }

    /// A generation that was claimed, shut and opened.
    fn put_opened(&mut self, attach: AttachId, host: &str, base: Option<RootName>) {
        let g = attach.generation;
        self.put_claim(attach, host);
        self.objects.insert(ObjectName::Door(g), Object::Door);
        let opened = Object::Token(token(attach, host, base));
        self.objects.insert(ObjectName::Opened(g), opened);
    }

    fn put_root(&mut self, name: RootName, ordinal: u64, kind: RootKind) {
        let root = Root {
            container: container(),
            geometry: Geometry::standard(4096, BlockCount(100)),
            name,
            ordinal,
            parent: None,
            kind,
            cut: Seq(0),
            created: WallTime(5),
            snapshots: Vec::new(),
            pins: Vec::new(),
            dying: Vec::new(),
            attributes: BTreeMap::new(),
            losses: Vec::new(),
            leaves: BTreeMap::new(),
            riding: BTreeMap::new(),
        };
        self.objects
            .insert(ObjectName::Root(name), Object::Root(Arc::new(root)));
    }

    fn edit_root(&mut self, name: RootName, edit: impl FnOnce(&mut Root)) {
        if let Some(Object::Root(root)) = self.objects.get_mut(&ObjectName::Root(name)) {
            edit(Arc::make_mut(root));
        }
    }

    fn plan(&mut self, line: &str, answers: &[Plan]) {
        self.plan
            .push((line.to_string(), answers.iter().cloned().collect()));
    }

    /// Requests in the log; local steps are no requests.
    fn log_requests(&self) -> usize {
        self.log.iter().filter(|line| line.contains(" = ")).count()
    }

    fn planned(&mut self, line: &str) -> Option<Plan> {
        let (_, answers) = self.plan.iter_mut().find(|(planned, _)| planned == line)?;
        answers.pop_front()
    }

    fn answer(&mut self, request: StoreRequest<NoBytes>) -> Outcome<NoBytes> {
        let line = line_of(&request);
        self.requests += 1;
        let plan = match self.fault.take() {
            Some((at, plan)) if at == self.log_requests() => Some(plan),
            fault => {
                self.fault = fault;
                self.planned(&line)
            }
        };
        let outcome = match plan {
            Some(Plan::Say(error)) => Outcome::Store(error),
            Some(Plan::ApplyAndSay(error)) => {
                self.apply(request);
                Outcome::Store(error)
            }
            Some(Plan::Before(happens)) => {
                happens(self);
                self.apply(request)
            }
            None => self.apply(request),
        };
        if matches!(outcome, Outcome::Store(StoreError::Absent)) && line.ends_with('²') {
            self.requests += 1;
            self.now = self.now + self.patient.unwrap_or(Duration::ZERO);
        }
        self.log
            .push(format!("{line} = {}", outcome_text(&outcome)));
        outcome
    }

    fn apply(&mut self, request: StoreRequest<NoBytes>) -> Outcome<NoBytes> {
        match request {
            StoreRequest::Get(get) => self.get(&get),
            StoreRequest::Put {
                name, body, once, ..
            } => {
                if once && self.objects.contains_key(&name) {
                    return Outcome::Store(StoreError::Exists);
                }
                let object = match body {
                    Body::Door => Object::Door,
                    Body::Token(token) => Object::Token(token),
                    Body::RootAgain(root) => Object::Root(root),
                    other => panic!("an attach stores no {other:?}"),
                };
                self.objects.insert(name, object);
                Outcome::Put(Receipt::default())
            }
            StoreRequest::List { prefix, after, .. } => {
                let seen = self.objects.keys().filter(|_| !self.blind);
                let mut rows: Vec<String> = (seen.map(ToString::to_string))
                    .chain(self.ghost_rows.iter().cloned())
                    .filter(|row| row.starts_with(&prefix))
                    .filter(|row| after.as_ref().is_none_or(|after| row > after))
                    .collect();
                rows.sort();
                rows.truncate(1000);
                let row = |name| ListRow {
                    name,
                    bytes: ByteCount(1),
                    modified: WallTime(0),
                };
                Outcome::Names(rows.into_iter().map(row).collect())
            }
            other => panic!("an attach does not ask {other:?}"),
        }
    }

    fn get(&self, get: &GetRequest) -> Outcome<NoBytes> {
        let Some(object) = self.objects.get(&get.name) else {
            return Outcome::Store(StoreError::Absent);
        };
        match (object, &get.expect) {
            (_, Expect::Exists) => Outcome::Exists,
            (Object::Superblock, Expect::Superblock) => Outcome::Meta(
                Meta::Superblock(Arc::new(Superblock {
                    container: container(),
                    geometry: Geometry::standard(4096, BlockCount(100)),
                    kind: VolumeKind::Disk,
                    created: WallTime(1),
                    parent: None,
                })),
                Hash::default(),
            ),
            (Object::Token(token), Expect::Token) => {
                Outcome::Meta(Meta::Token(token.clone()), Hash::default())
            }
            (Object::Root(root), Expect::Root(hash)) => {
                let own = hash_of(root.name);
                match hash {
                    Some(hash) if *hash != own => Outcome::Store(StoreError::Damaged),
                    _ => Outcome::Meta(Meta::Root(root.clone()), own),
                }
            }
            (object, expect) => panic!("{object:?} for {expect:?}"),
        }
    }

    /// Runs an attach to its end.
    fn run(&mut self, machine: &mut Attach) -> End {
        self.go(machine, usize::MAX).expect("it is not killed")
    }

    /// Runs an attach until the process is killed after request `stop`.
    fn go(&mut self, machine: &mut Attach, stop: usize) -> Option<End> {
        let mut pending = VecDeque::new();
        loop {
            while let Some(ask) = machine.poll::<NoBytes>(self.now) {
                match ask {
                    Ask::Store { slot, request } => pending.push_back((slot, request)),
                    Ask::Record(id) => {
                        self.log.push(format!("record {}", id.generation.0));
                        self.drawn.push(id);
                        machine.recorded(self.now);
                    }
                    Ask::Join(join) => {
                        let below = join.below.map_or(0, |id| id.generation.0);
                        let verb = if join.keep { "keep" } else { "close" };
                        self.log.push(format!("join below {below}: {verb}"));
                        if !join.keep {
                            self.joined.clear();
                        }
                        self.joined.push(join.attach);
                        machine.joined(self.now);
                    }
                    Ask::End(end) => {
                        assert!(machine.poll::<NoBytes>(self.now).is_none(), "told once");
                        return Some(*end);
                    }
                }
            }
            match pending.pop_front() {
                Some((slot, request)) => {
                    let outcome = self.answer(request);
                    machine.handle(self.now, slot, outcome);
                    if self.log_requests() >= stop {
                        return None;
                    }
                }
                None => self.now = machine.poll_timeout().expect("something is waited for"),
            }
            assert!(self.requests < 2000, "never ends: {:#?}", self.log);
        }
    }

    #[track_caller]
    fn check(&self, expected: &str) {
        let expected: Vec<&str> = expected
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .collect();
        assert_eq!(self.log, expected, "\n{}\n", self.log.join("\n"));
    }
}

fn token(attach: AttachId, host: &str, base: Option<RootName>) -> Token {
    Token {
        attach,
        holder: Holder {
            host: host.to_string(),
            state_dir: StateDirId(host.len() as u64),
            since: WallTime(3),
        },
        base,
    }
}

/// Names without leading zeros and nonces; `²` = absence is asked twice.
fn line_of(request: &StoreRequest<NoBytes>) -> String {
    let short = |name: &ObjectName| match name {
        ObjectName::Root(n) => format!("root {}.{}", n.version.0, n.attach.generation.0),
        ObjectName::Claim(g) => format!("claim {}", g.0),
        ObjectName::Door(g) => format!("door {}", g.0),
        ObjectName::Opened(g) => format!("opened {}", g.0),
        name => name.to_string(),
    };
    match request {
        StoreRequest::Get(get) => {
            let verb = if get.expect == Expect::Exists {
                "head"
            } else {
                "get"
            };
            let twice = match get.absence {
                crate::effect::Absence::Twice => "²",
                _ => "",
            };
            format!("{verb} {}{twice}", short(&get.name))
        }
        StoreRequest::Put {
            name, body, once, ..
        } => {
            let again = if matches!(body, Body::RootAgain(_)) {
                " again"
            } else {
                ""
            };
            let once = if *once { " once" } else { "" };
            format!("put {}{again}{once}", short(name))
        }
        StoreRequest::List { prefix, .. } => format!("list {prefix}"),
        other => format!("{other:?}"),
    }
}

fn outcome_text(outcome: &Outcome<NoBytes>) -> String {
    match outcome {
        Outcome::Names(rows) => format!("{} rows", rows.len()),
        Outcome::Meta(..) => "found".to_string(),
        Outcome::Exists => "there".to_string(),
        Outcome::Put(_) => "201".to_string(),
        Outcome::Store(StoreError::Absent) => "404".to_string(),
        Outcome::Store(StoreError::Exists) => "412".to_string(),
        Outcome::Store(error) => format!("{error:?}"),
        other => format!("{other:?}"),
    }
}

fn spec(host: &str) -> Spec {
    Spec::new(container(), &life(host), &Limits::default(), 7)
}

fn attach(how: How) -> Attach {
    Attach::new(spec("new"), how)
}

const OLD: AttachId = id(1, 0xa);

/// A volume born by host `old` and used: generation 1, roots 0, 1 and 2, the last of this kind.
fn volume(last: RootKind) -> World {
    let mut world = World::default();
    world.put_superblock();
    world.put_opened(OLD, "old", None);
    world.put_root(root_of(0, OLD), 1, RootKind::Born);
    world.put_root(root_of(1, OLD), 2, RootKind::Checkpoint);
    world.put_root(root_of(2, OLD), 3, last);
    world.edit_root(root_of(2, OLD), |root| {
        root.parent = Some((root_of(1, OLD), hash_of(root_of(1, OLD))));
    });
    world
}

fn held(generation: u64, newest: RootName, needs_accept_loss: bool) -> End {
    let holder = token(OLD, "old", None).holder;
    End::Held(Held {
        generation: Generation(generation),
        holder,
        newest,
        newest_at: WallTime(5),
        needs_accept_loss,
    })
}

#[track_caller]
fn opened(end: End) -> Opened {
    match end {
        End::Opened(opened) => opened,
        other => panic!("{other:?}"),
    }
}

const TAKE: How = How {
    take_over: true,
    accept_loss: true,
    finish: false,
    deadline: None,
};
