//! The desk: questions to the store, asked until the store gives a verdict, each answer remembered for one step.
//!
//! A step of a machine is straight code that calls the desk and stops at the first answer that is not there yet; when
//! an outcome arrives the code runs again from its start and finds what it has asked before. [`Desk::begin`] forgets
//! everything: what a step learns was asked after the step began, which is what the order of the steps rests on.
//!
//! Shape      503, time-outs and unknown ends of PUTs are no verdict: the same is asked again after [`ASK_AGAIN`].
//! Invariant  a claim is sent once; whatever else is sent may be sent again with the same bytes.

use super::Waiting;
use crate::effect::Token;
use crate::effect::{Absence, Body, Expect, GetRequest, Meta, Outcome, StoreError, StoreRequest};
use crate::ids::{AttachId, Container, Generation, Hash};
use crate::object::names::{ObjectName, RootName};
use crate::table::types::{Root, Superblock};
use crate::time::{Duration, Instant};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A question without a verdict is asked again after so long: the store has its own, finer retries below this.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Questions under way at once, so that a hundred burnt numbers do not become a hundred connections.
const WINDOW: usize = 8;

/// Rows of one listing. A page that is full is followed by the next.
const LIST_ROWS: u32 = 1000;

/// A question, or a PUT. Equal questions have one answer within a step.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Query {
    Get {
        name: ObjectName,
        what: What,
        twice: bool,
        round: u8,
    },
    List {
        prefix: &'static str,
        after: String,
    },
    Put(ObjectName),
    /// With `If-None-Match: *`, once.
    Claim(Generation),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum What {
    Exists,
    Superblock,
    Token,
    Root(Option<Hash>),
}

/// What to PUT.
#[derive(Clone, Debug)]
enum Kept {
    Door,
    Token(Token),
    RootAgain(Arc<Root>),
}

#[derive(Clone, Debug)]
enum Answer {
    Absent,
    There,
    Superblock(Arc<Superblock>),
    Token(Token),
    Root(Arc<Root>, Hash),
    Names { rows: Vec<String>, full: bool },
    Put,
    NotPut,
}

/// A listing's rows.
pub(super) struct Listed {
    pub(super) rows: Vec<String>,
    /// There may be more rows.
    pub(super) full: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Desk {
    container: Container,
    deadline: Duration,
    /// Whether absence is asked twice.
    twice: bool,
    now: Instant,
    answers: BTreeMap<Query, Answer>,
    queue: VecDeque<Query>,
    again: BTreeMap<Query, Instant>,
    open: BTreeMap<u32, Query>,
    bodies: BTreeMap<ObjectName, Kept>,
    slots: u32,
    paused: Option<Instant>,
    failed: Option<(ObjectName, StoreError)>,
    waiting: Option<Waiting>,
}

impl Desk {
    pub(super) fn new(container: Container, deadline: Duration, twice: bool) -> Self {
        Self {
            container,
            deadline,
            twice,
            now: Instant(0),
            answers: BTreeMap::new(),
            queue: VecDeque::new(),
            again: BTreeMap::new(),
            open: BTreeMap::new(),
            bodies: BTreeMap::new(),
            slots: 0,
            paused: None,
            failed: None,
            waiting: None,
        }
    }

    /// Time goes on; questions whose wait is over are asked again.
    pub(super) fn tick(&mut self, now: Instant) {
        self.now = now;
        if self.paused.is_some_and(|at| at <= now) {
            self.paused = None;
        }
        let due: Vec<Query> = (self.again.iter().filter(|(_, at)| **at <= now))
            .map(|(query, _)| query.clone())
            .collect();
        for query in due {
            self.again.remove(&query);
            self.queue.push_back(query);
        }
    }

    /// A step begins: nothing asked before counts.
    pub(super) fn begin(&mut self) {
        self.answers.clear();
        self.queue.clear();
        self.again.clear();
        // Outcomes of what is still open find no question and change nothing.
        self.open.clear();
        self.bodies.clear();
        self.paused = None;
        self.waiting = None;
    }

    /// What was found contradicts what is known to exist: the step starts over after a while.
    pub(super) fn contradiction(&mut self, name: ObjectName) {
        mark!("store-contradicts-itself");
        let since = self.waiting.as_ref().map_or(self.now, |w| w.since);
        self.begin();
        self.paused = Some(self.now + ASK_AGAIN);
        self.waiting = Some(Waiting {
            object: name.to_string(),
            error: StoreError::Absent,
            since,
        });
    }

    /// Whether the step waits to start over.
    pub(super) const fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    pub(super) const fn waiting(&self) -> Option<&Waiting> {
        self.waiting.as_ref()
    }

    /// The answer that ends everything.
    pub(super) const fn failed(&self) -> Option<(ObjectName, StoreError)> {
        self.failed
    }

    pub(super) fn fail(&mut self, name: ObjectName, error: StoreError) {
        self.failed.get_or_insert((name, error));
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.again.values().copied().chain(self.paused).min()
    }

    /// The next request to send.
    pub(super) fn poll<P>(&mut self) -> Option<(u32, StoreRequest<P>)> {
        if self.open.len() >= WINDOW {
            return None;
        }
        let query = self.queue.pop_front()?;
        let request = self.request(&query)?;
        let slot = self.slots;
        self.slots = self.slots.wrapping_add(1);
        self.open.insert(slot, query);
        Some((slot, request))
    }

    fn request<P>(&self, query: &Query) -> Option<StoreRequest<P>> {
        let container = self.container.clone();
        let put = |name, body, once| StoreRequest::Put {
            container: self.container.clone(),
            name,
            body,
            once,
        };
        Some(match query {
            Query::Get {
                name, what, twice, ..
            } => StoreRequest::Get(GetRequest {
                container,
                name: *name,
                range: None,
                absence: if *twice {
                    Absence::Twice
                } else {
                    Absence::Once
                },
                deadline: self.deadline,
                expect: match what {
                    What::Exists => Expect::Exists,
                    What::Superblock => Expect::Superblock,
                    What::Token => Expect::Token,
                    What::Root(hash) => Expect::Root(*hash),
                },
            }),
            Query::List { prefix, after } => StoreRequest::List {
                container,
                prefix: String::from(*prefix),
                after: (!after.is_empty()).then(|| after.clone()),
                limit: LIST_ROWS,
            },
            Query::Put(name) => put(*name, self.body(name)?, false),
            Query::Claim(g) => put(
                ObjectName::Claim(*g),
                self.body(&ObjectName::Claim(*g))?,
                true,
            ),
        })
    }

    fn body<P>(&self, name: &ObjectName) -> Option<Body<P>> {
        Some(match self.bodies.get(name)? {
            Kept::Door => Body::Door,
            Kept::Token(token) => Body::Token(token.clone()),
            Kept::RootAgain(root) => Body::RootAgain(root.clone()),
        })
    }

    /// What came of a request. Outcomes of an earlier step change nothing.
    pub(super) fn handle<P>(&mut self, slot: u32, outcome: Outcome<P>) {
        let Some(query) = self.open.remove(&slot) else {
            return;
        };
        let name = match &query {
            Query::Get { name, .. } | Query::Put(name) => *name,
            Query::Claim(g) => ObjectName::Claim(*g),
            Query::List { .. } => ObjectName::Volume,
        };
        let answer = match (&query, outcome) {
            (Query::Claim(_), Outcome::Put(_)) | (Query::Put(_), Outcome::Put(_)) => Answer::Put,
            // A missing right or quota will not go away by trying for the next number.
            // Nor will a container that is gone come back.
            (_, Outcome::Store(error @ (StoreError::Denied | StoreError::Full)))
            | (Query::Claim(_), Outcome::Store(error @ StoreError::Absent)) => {
                mark!("attach-refused-by-the-store");
                return self.fail(name, error);
            }
            // Whether it landed or will land is not known, and 412 says no more: the number is burnt.
            (Query::Claim(_), _) => {
                mark!("claim-not-confirmed");
                Answer::NotPut
            }
            // Any other name has one writer and one content: the same bytes again, until confirmed.
            (Query::Put(_), Outcome::Store(error)) => return self.ask_again(query, name, error),
            (_, Outcome::Store(error @ (StoreError::Unavailable | StoreError::Unknown))) => {
                return self.ask_again(query, name, error);
            }
            (Query::Get { .. }, Outcome::Store(StoreError::Absent)) => Answer::Absent,
            (Query::Get { .. }, Outcome::Exists) => Answer::There,
            (Query::Get { .. }, Outcome::Meta(meta, hash)) => {
                match checked(&self.container, name, meta, hash) {
                    Some(answer) => answer,
                    None => return self.fail(name, StoreError::Damaged),
                }
            }
            (Query::List { .. }, Outcome::Names(rows)) => Answer::Names {
                full: rows.len() >= LIST_ROWS as usize,
                rows: rows.into_iter().map(|row| row.name).collect(),
            },
            // A container without listing shows no row; GETs decide.
            (Query::List { .. }, Outcome::Store(StoreError::Absent)) => Answer::Names {
                rows: Vec::new(),
                full: false,
            },
            (_, Outcome::Store(error)) => return self.fail(name, error),
            (_, _) => return self.fail(name, StoreError::Damaged),
        };
        if self.again.is_empty() {
            self.waiting = None;
        }
        self.answers.insert(query, answer);
    }

    fn ask_again(&mut self, query: Query, name: ObjectName, error: StoreError) {
        let since = self.waiting.as_ref().map_or(self.now, |w| w.since);
        self.waiting = Some(Waiting {
            object: name.to_string(),
            error,
            since,
        });
        self.again.insert(query, self.now + ASK_AGAIN);
    }

    /// The answer, or the question asked.
    fn ask(&mut self, query: Query) -> Option<Answer> {
        if let Some(answer) = self.answers.get(&query) {
            return Some(answer.clone());
        }
        let asked = self.paused.is_some()
            || self.queue.contains(&query)
            || self.again.contains_key(&query)
            || self.open.values().any(|open| *open == query);
        if !asked {
            self.queue.push_back(query);
        }
        None
    }

    fn get(&mut self, name: ObjectName, what: What, twice: bool, round: u8) -> Option<Answer> {
        let twice = twice && self.twice;
        self.ask(Query::Get {
            name,
            what,
            twice,
            round,
        })
    }

    /// Whether the object exists; `twice`: absence is asked twice.
    pub(super) fn exists(&mut self, name: ObjectName, twice: bool) -> Option<bool> {
        let answer = self.get(name, What::Exists, twice, 0)?;
        Some(!matches!(answer, Answer::Absent))
    }

    /// The superblock, if there is one.
    pub(super) fn superblock(&mut self) -> Option<Option<Arc<Superblock>>> {
        match self.get(ObjectName::Volume, What::Superblock, true, 0)? {
            Answer::Superblock(superblock) => Some(Some(superblock)),
            _ => Some(None),
        }
    }

    /// A claim or an opened, if there is one. Another `round` asks afresh.
    pub(super) fn token(&mut self, name: ObjectName, round: u8) -> Option<Option<Token>> {
        match self.get(name, What::Token, true, round)? {
            Answer::Token(token) => Some(Some(token)),
            _ => Some(None),
        }
    }

    /// A root, if it is there.
    pub(super) fn root(&mut self, name: RootName, hash: Option<Hash>) -> Option<Option<RootFound>> {
        match self.get(ObjectName::Root(name), What::Root(hash), false, 0)? {
            Answer::Root(root, hash) => Some(Some(RootFound { root, hash })),
            _ => Some(None),
        }
    }

    /// A page of names that begin with `prefix`, after `after` (none: from the first).
    pub(super) fn list(&mut self, prefix: &'static str, after: String) -> Option<Listed> {
        match self.ask(Query::List { prefix, after })? {
            Answer::Names { rows, full } => Some(Listed { rows, full }),
            _ => None,
        }
    }

    /// Shuts a door: PUT until confirmed.
    pub(super) fn shut(&mut self, g: Generation) -> Option<()> {
        self.put(ObjectName::Door(g), || Kept::Door)
    }

    /// PUTs an opened until confirmed.
    pub(super) fn put_opened(&mut self, token: &Token) -> Option<()> {
        let name = ObjectName::Opened(token.attach.generation);
        self.put(name, || Kept::Token(token.clone()))
    }

    /// PUTs a root's own bytes again until confirmed.
    pub(super) fn put_root_again(&mut self, root: &Arc<Root>) -> Option<()> {
        self.put(ObjectName::Root(root.name), || {
            Kept::RootAgain(root.clone())
        })
    }

    fn put(&mut self, name: ObjectName, body: impl FnOnce() -> Kept) -> Option<()> {
        self.bodies.entry(name).or_insert_with(body);
        self.ask(Query::Put(name)).map(|_| ())
    }

    /// Claims a generation, once. Whether that was confirmed.
    pub(super) fn claim(&mut self, token: &Token) -> Option<bool> {
        let g = token.attach.generation;
        (self.bodies.entry(ObjectName::Claim(g))).or_insert_with(|| Kept::Token(token.clone()));
        let answer = self.ask(Query::Claim(g))?;
        Some(matches!(answer, Answer::Put))
    }
}

/// A root and the hash of its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RootFound {
    /// The root.
    pub root: Arc<Root>,
    /// The hash of its bytes.
    pub hash: Hash,
}

/// What was read, if it says of itself what its name says.
fn checked(container: &Container, name: ObjectName, meta: Meta, hash: Hash) -> Option<Answer> {
    let fits = |attach: AttachId, g: Generation| attach.generation == g;
    match (name, meta) {
        (ObjectName::Volume, Meta::Superblock(s)) if s.container == *container => {
            Some(Answer::Superblock(s))
        }
        (ObjectName::Claim(g) | ObjectName::Opened(g), Meta::Token(t)) if fits(t.attach, g) => {
            Some(Answer::Token(t))
        }
        (ObjectName::Root(n), Meta::Root(r)) if r.name == n && r.container == *container => {
            Some(Answer::Root(r, hash))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::VolumeId;
    use crate::units::ByteCount;

    #[derive(Clone, Debug)]
    struct NoBytes;

    impl crate::Payload for NoBytes {
        fn len(&self) -> ByteCount {
            ByteCount(0)
        }
        fn slice(&self, _: core::ops::Range<u64>) -> Self {
            Self
        }
    }

    #[test]
    fn an_answer_to_an_earlier_steps_question_does_not_count() {
        let container = Container::new("disk", VolumeId([1; 16]));
        let mut desk = Desk::new(container, Duration::from_secs(1), true);
        let door = ObjectName::Door(Generation(2));
        let absent = || Outcome::<NoBytes>::Store(StoreError::Absent);
        assert_eq!(desk.exists(door, true), None);
        let (early, _) = desk.poll::<NoBytes>().expect("it is asked");
        desk.begin();
        assert_eq!(desk.exists(door, true), None);
        let (late, _) = desk.poll::<NoBytes>().expect("it is asked anew");
        desk.handle(early, absent());
        assert_eq!(desk.exists(door, true), None);
        desk.handle(late, absent());
        assert_eq!(desk.exists(door, true), Some(false));
    }
}
