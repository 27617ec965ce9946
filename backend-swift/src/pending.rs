//! One question's course: what to send, what an answer changes, when it is over.
//!
//! ```text
//!            ┌────────────── Again, Renew, Discarded, a flaw: after a pause ─────────────┐
//!            ▼                                                                           │
//!   wait for a token ──► exchange ──► judge ──► finished                                 │
//!                            ▲           ├─ absent or damaged, to be asked again ────────┤
//!                            │           └─ believed at last ──► HEAD of the container ──┘
//! ```

use crate::answer::{Applied, Kind, Meaning, check_get, check_put, meaning};
use crate::exchange::{Broken, Cause, Content, Failure, HttpAnswer, Success};
use crate::request::{Ask, Connection, Method, listing_query, path_of};
use crate::retry::{Backoff, Dice};
use crate::settings::Settings;
use crate::token::AuthError;
use engine::effect::{Absence, StoreError};
use engine::time::{Duration, Instant};

/// What an exchange of this question looks like.
pub(crate) struct Shape {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) connection: Connection,
}

/// What comes next.
pub(crate) enum Next<D> {
    /// It is over.
    Finish(Result<Success<D>, Failure>),
    /// Ask again after so long.
    Pause(Duration),
    /// Ask again with another token.
    Token,
}

/// What the next exchange is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// The question itself.
    Ask,
    /// Whether the container answers: before an absence is believed.
    CheckContainer,
}

/// A question that is not finished.
#[derive(Clone, Debug)]
pub(crate) struct Pending<B> {
    pub(crate) ask: Ask<B>,
    kind: Kind,
    pub(crate) deadline: Instant,
    /// How long a store that does not answer is asked.
    patience: Duration,
    step: Step,
    backoff: Backoff,
    sent: u32,
    /// Some write of this question may have reached an object server.
    may_have_applied: bool,
    /// A pooled connection broke once: that one is retried without a pause.
    has_retried_at_once: bool,
    is_fresh: bool,
    denials: u32,
    /// Asks that found the object absent or damaged, those of them that found it damaged, and when the first was.
    doubts: u32,
    damages: u32,
    doubted_since: Option<Instant>,
    /// HEADs of the container that found it absent, and when the first did.
    container_absences: u32,
    container_absent_since: Option<Instant>,
    cause: Cause,
}

impl<B> Pending<B> {
    pub(crate) fn new(ask: Ask<B>, now: Instant, settings: &Settings) -> Self {
        let (kind, patience) = match &ask {
            Ask::CreateContainer { .. } => (Kind::CreateContainer, settings.other_deadline),
            Ask::DeleteContainer { .. } => (Kind::DeleteContainer, settings.other_deadline),
            Ask::ContainerStats { .. } => (Kind::HeadContainer, settings.other_deadline),
            Ask::Put { once: true, .. } => (Kind::Claim, settings.exchange_timeout),
            Ask::Put { body, .. } => (
                Kind::Put,
                settings.put_deadline + settings.transfer_time(body.len),
            ),
            Ask::Get {
                range, deadline, ..
            } => (
                if range.is_some() {
                    Kind::GetRange
                } else {
                    Kind::Get
                },
                *deadline,
            ),
            Ask::Exists { deadline, .. } => (Kind::Exists, *deadline),
            Ask::Delete { .. } => (Kind::Delete, settings.other_deadline),
            Ask::List { .. } | Ask::ListContainers { .. } => (Kind::List, settings.other_deadline),
        };
        Self {
            ask,
            kind,
            deadline: now + patience,
            patience,
            step: Step::Ask,
            backoff: Backoff::initial(),
            sent: 0,
            may_have_applied: false,
            has_retried_at_once: false,
            // A half-closed pooled connection would cost the claim.
            is_fresh: kind == Kind::Claim,
            denials: 0,
            doubts: 0,
            damages: 0,
            doubted_since: None,
            container_absences: 0,
            container_absent_since: None,
            cause: Cause::NoAnswer,
        }
    }

    /// The next exchange.
    pub(crate) fn shape(&self) -> Shape {
        let connection = if self.is_fresh {
            Connection::Fresh
        } else {
            Connection::Pooled
        };
        let shape = |method, path, headers| Shape {
            method,
            path,
            headers,
            connection,
        };
        if self.step == Step::CheckContainer {
            let path = path_of(self.container(), None);
            return shape(Method::Head, path, Vec::new());
        }
        let newest = || vec![("X-Newest", "true".to_owned())];
        match &self.ask {
            Ask::CreateContainer { container } => {
                shape(Method::Put, path_of(container, None), Vec::new())
            }
            Ask::DeleteContainer { container } => {
                shape(Method::Delete, path_of(container, None), Vec::new())
            }
            Ask::ContainerStats { container } => {
                shape(Method::Head, path_of(container, None), Vec::new())
            }
            Ask::Put {
                container,
                name,
                body,
                once,
            } => {
                let mut headers = vec![
                    ("Content-Type", "application/octet-stream".to_owned()),
                    ("ETag", body.etag.to_string()),
                ];
                if *once {
                    headers.push(("If-None-Match", "*".to_owned()));
                }
                shape(Method::Put, path_of(container, Some(name)), headers)
            }
            Ask::Get {
                container,
                name,
                range,
                absence,
                ..
            } => {
                // The first ask about data takes any replica: one copy of a write-once name is as good as another.
                let is_plain = *absence == Absence::Damage && self.doubts == 0;
                let mut headers = if is_plain { Vec::new() } else { newest() };
                if let Some(range) = range {
                    let last = range.end.saturating_sub(1);
                    headers.push(("Range", format!("bytes={}-{last}", range.start)));
                }
                shape(Method::Get, path_of(container, Some(name)), headers)
            }
            Ask::Exists {
                container, name, ..
            } => {
                let any = bug!("head-takes-any-replica");
                let headers = if any { Vec::new() } else { newest() };
                shape(Method::Head, path_of(container, Some(name)), headers)
            }
            Ask::Delete { container, name } => {
                shape(Method::Delete, path_of(container, Some(name)), Vec::new())
            }
            Ask::List {
                container,
                prefix,
                after,
                limit,
            } => {
                let query = listing_query(prefix, after.as_deref(), *limit);
                let path = path_of(container, None) + &query;
                shape(Method::Get, path, Vec::new())
            }
            Ask::ListContainers {
                prefix,
                after,
                limit,
            } => shape(
                Method::Get,
                listing_query(prefix, after.as_deref(), *limit),
                Vec::new(),
            ),
        }
    }

    fn container(&self) -> &str {
        match &self.ask {
            Ask::CreateContainer { container }
            | Ask::DeleteContainer { container }
            | Ask::ContainerStats { container }
            | Ask::Put { container, .. }
            | Ask::Get { container, .. }
            | Ask::Exists { container, .. }
            | Ask::Delete { container, .. }
            | Ask::List { container, .. } => container,
            Ask::ListContainers { .. } => "",
        }
    }

    /// How long the next exchange may take.
    pub(crate) fn exchange_timeout(&self, settings: &Settings) -> Duration {
        let bytes = match &self.ask {
            Ask::Put { body, .. } => body.len,
            Ask::Get { range: Some(r), .. } => r.end.saturating_sub(r.start),
            // A whole object is a root or a token: at most some MiB, and its deadline ends it.
            _ => 0,
        };
        settings.exchange_timeout + settings.transfer_time(bytes)
    }

    /// Whether the next exchange carries the body.
    pub(crate) fn sends_body(&self) -> bool {
        self.step == Step::Ask
    }

    pub(crate) const fn handle_sent(&mut self) {
        self.sent += 1;
    }

    /// The identity service refused us, or does not answer: told to those that wait for a token.
    pub(crate) const fn handle_auth_error(&mut self, error: AuthError) {
        self.cause = Cause::Auth(error);
    }

    /// An exchange ended without an answer.
    pub(crate) fn handle_broken<D>(
        &mut self,
        broken: Broken,
        settings: &Settings,
        dice: &mut Dice,
    ) -> Next<D> {
        self.cause = Cause::Broken(broken);
        if !broken.is_unsent() && self.step == Step::Ask {
            self.note(Applied::Maybe);
            if self.kind == Kind::Claim {
                return self.fail(StoreError::Unknown);
            }
        }
        // The proxy closes idle connections without a word, so the first loss of a pooled one says nothing of Swift.
        if broken == Broken::Closed && !self.is_fresh && !self.has_retried_at_once {
            self.has_retried_at_once = true;
            self.is_fresh = true;
            return Next::Pause(Duration::ZERO);
        }
        self.pause(settings, dice, None)
    }

    /// An exchange ended with an answer.
    pub(crate) fn handle_answer<D>(
        &mut self,
        now: Instant,
        answer: HttpAnswer<D>,
        settings: &Settings,
        dice: &mut Dice,
    ) -> Next<D> {
        self.cause = Cause::Status(answer.status);
        if self.step == Step::CheckContainer {
            return self.handle_container(now, &answer, settings, dice);
        }
        let retry_after = answer.headers.retry_after();
        match meaning(self.kind, answer.status) {
            Meaning::Done => self.confirm(now, answer, settings, dice),
            Meaning::Absent => self.handle_absent(now, settings, dice),
            Meaning::Damaged => self.handle_damaged(now, settings, dice),
            Meaning::Exists => self.fail(StoreError::Exists),
            Meaning::Unknown => self.fail(StoreError::Unknown),
            Meaning::Discarded if self.kind == Kind::Put && bug!("discarded-put-is-stored") => {
                Next::Finish(Ok(Success::Put))
            }
            Meaning::Discarded => {
                // Nothing of it was stored, but the sender of the newer timestamp may have been an earlier try of ours.
                self.note(Applied::Maybe);
                self.pause(settings, dice, retry_after)
            }
            Meaning::Again(_)
                if answer.status == 503
                    && self.absence() != Absence::Damage
                    && matches!(self.kind, Kind::Get | Kind::Exists)
                    && bug!("server-error-is-absence") =>
            {
                self.handle_absent(now, settings, dice)
            }
            Meaning::Again(applied) => {
                self.note(applied);
                self.pause(settings, dice, retry_after)
            }
            // A claim is not sent twice, not even one that the proxy refused to look at.
            Meaning::Renew if self.kind == Kind::Claim => self.fail(StoreError::Unknown),
            Meaning::Renew => self.renew(settings, dice),
            // Roles change: a second no, with a fresh look, is final.
            Meaning::Denied if self.denials == 0 => {
                self.denials = 1;
                self.pause(settings, dice, retry_after)
            }
            Meaning::Denied if !self.may_have_applied => self.fail(StoreError::Denied),
            Meaning::Full if !self.may_have_applied => self.fail(StoreError::Full),
            // An earlier try may have landed, so a no to this one settles nothing.
            Meaning::Denied | Meaning::Full => self.pause(settings, dice, retry_after),
        }
    }

    /// A good status: good only if headers and body agree.
    fn confirm<D>(
        &mut self,
        now: Instant,
        answer: HttpAnswer<D>,
        settings: &Settings,
        dice: &mut Dice,
    ) -> Next<D> {
        let success = |s| Next::Finish(Ok(s));
        let (flaw, content) = match &self.ask {
            Ask::CreateContainer { .. } | Ask::DeleteContainer { .. } | Ask::Delete { .. } => {
                return success(Success::Done);
            }
            Ask::Exists { .. } => return success(Success::Exists),
            Ask::ContainerStats { .. } => {
                let count = |name| answer.headers.number(name).unwrap_or(0);
                return success(Success::Stats {
                    objects: count("x-container-object-count"),
                    bytes: count("x-container-bytes-used"),
                });
            }
            Ask::Put { body, .. } => match check_put(&answer.headers, body.etag) {
                Ok(()) => return success(Success::Put),
                Err(flaw) => (Some(flaw), Content::Ignored),
            },
            Ask::List { .. } | Ask::ListContainers { .. } => (None, answer.content),
            Ask::Get { range, .. } => {
                let found = check_get(
                    &answer.headers,
                    range.as_ref(),
                    answer.body_len,
                    answer.body_md5,
                );
                (found.err(), answer.content)
            }
        };
        if let Some(flaw) = flaw {
            self.cause = Cause::Flawed(flaw);
            if flaw.is_damage() {
                return self.handle_damaged(now, settings, dice);
            }
            self.note(Applied::Maybe);
            return if self.kind == Kind::Claim {
                self.fail(StoreError::Unknown)
            } else {
                self.pause(settings, dice, None)
            };
        }
        match content {
            Content::Good(d) => success(Success::Read(d)),
            Content::TooNew => self.fail(StoreError::TooNew),
            Content::Damaged if self.kind == Kind::List => {
                self.cause = Cause::BadBody;
                self.pause(settings, dice, None)
            }
            Content::Damaged => {
                self.cause = Cause::BadBody;
                self.handle_damaged(now, settings, dice)
            }
            Content::Ignored => self.pause(settings, dice, None),
        }
    }

    fn absence(&self) -> Absence {
        match &self.ask {
            Ask::Get { absence, .. } | Ask::Exists { absence, .. } => *absence,
            _ => Absence::Once,
        }
    }

    /// A 404: believed by the rule asked for.
    fn handle_absent<D>(&mut self, now: Instant, settings: &Settings, dice: &mut Dice) -> Next<D> {
        if self.kind == Kind::Delete {
            // With the account servers away the proxy answers 404 for containers that exist.
            self.step = Step::CheckContainer;
            return Next::Pause(Duration::ZERO);
        }
        match self.absence() {
            Absence::Once => self.fail(StoreError::Absent),
            Absence::Twice => {
                self.is_fresh = true;
                let since = *self.doubted_since.get_or_insert(now);
                self.doubts += 1;
                let waited = now.since(since);
                if self.doubts > 1 && waited >= settings.absence_gap {
                    return self.fail(StoreError::Absent);
                }
                Next::Pause(settings.absence_gap - waited.min(settings.absence_gap))
            }
            Absence::Damage => self.doubt(now, settings, dice),
        }
    }

    /// The bytes are wrong, or fewer than the table says.
    fn handle_damaged<D>(&mut self, now: Instant, settings: &Settings, dice: &mut Dice) -> Next<D> {
        self.damages += 1;
        if self.absence() == Absence::Damage {
            return self.doubt(now, settings, dice);
        }
        // Another replica may be whole. All the asks take as long as patience with a silent store would.
        self.is_fresh = true;
        if self.damages >= settings.damage_asks {
            return self.fail(StoreError::Damaged);
        }
        let wait = self
            .backoff
            .next(dice, settings.backoff_base, settings.backoff_cap)
            .min(self.patience / settings.damage_asks.max(1));
        self.deadline = self.deadline.max(now + wait + self.patience);
        Next::Pause(wait)
    }

    /// Data that a table names is absent or damaged, says one more answer.
    fn doubt<D>(&mut self, now: Instant, settings: &Settings, dice: &mut Dice) -> Next<D> {
        self.is_fresh = true;
        self.doubts += 1;
        let since = *self.doubted_since.get_or_insert(now);
        let spanned = now.since(since);
        let is_sure = self.doubts >= settings.damage_asks && spanned >= settings.damage_span
            || bug!("one-doubt-is-damage");
        if is_sure {
            self.step = Step::CheckContainer;
            return Next::Pause(Duration::ZERO);
        }
        // A rotten or lagging replica is one of several: the first asks come soon, the others spread over the span.
        let left = settings.damage_span.saturating_sub(spanned);
        let more = settings.damage_asks.saturating_sub(self.doubts).max(1);
        let wait = self
            .backoff
            .next(dice, settings.backoff_base, settings.backoff_cap);
        let wait = if left.is_zero() {
            wait
        } else {
            wait.min(left / more)
        };
        if self.doubts <= settings.damage_asks || !left.is_zero() {
            // Being sure takes longer than giving up: patience is for a store that does not answer, and this one did.
            self.deadline = self.deadline.max(now + wait + self.patience);
        }
        Next::Pause(wait)
    }

    /// Whether the container answers.
    fn handle_container<D>(
        &mut self,
        now: Instant,
        answer: &HttpAnswer<D>,
        settings: &Settings,
        dice: &mut Dice,
    ) -> Next<D> {
        self.step = Step::Ask;
        match meaning(Kind::HeadContainer, answer.status) {
            Meaning::Done if self.kind == Kind::Delete => Next::Finish(Ok(Success::Done)),
            Meaning::Done => {
                self.cause = if self.damages > 0 {
                    Cause::BadBody
                } else {
                    Cause::Status(404)
                };
                self.fail(StoreError::Damaged)
            }
            // A container that is gone took its objects along; that is believed like any absence.
            Meaning::Absent if self.kind == Kind::Delete => {
                self.is_fresh = true;
                let since = *self.container_absent_since.get_or_insert(now);
                self.container_absences += 1;
                if self.container_absences > 1 && now.since(since) >= settings.absence_gap {
                    return Next::Finish(Ok(Success::Done));
                }
                Next::Pause(settings.absence_gap)
            }
            Meaning::Renew => {
                self.step = Step::CheckContainer;
                self.renew(settings, dice)
            }
            _ => self.pause(settings, dice, answer.headers.retry_after()),
        }
    }

    /// A 401: the first one takes a new token at once, later ones wait before.
    fn renew<D>(&mut self, settings: &Settings, dice: &mut Dice) -> Next<D> {
        let is_first = self.denials == 0;
        self.denials += 1;
        if is_first {
            Next::Token
        } else {
            self.pause(settings, dice, None)
        }
    }

    fn pause<D>(
        &mut self,
        settings: &Settings,
        dice: &mut Dice,
        retry_after: Option<Duration>,
    ) -> Next<D> {
        let wait = self
            .backoff
            .next(dice, settings.backoff_base, settings.backoff_cap);
        let told = retry_after.map_or(Duration::ZERO, |d| d.min(settings.retry_after_cap));
        Next::Pause(wait.max(told))
    }

    /// Remembers that a write may land without our knowing.
    fn note(&mut self, applied: Applied) {
        self.may_have_applied |= applied == Applied::Maybe && !self.is_read();
    }

    fn fail<D>(&self, error: StoreError) -> Next<D> {
        Next::Finish(Err(self.failure(error)))
    }

    pub(crate) const fn failure(&self, error: StoreError) -> Failure {
        Failure {
            error,
            cause: self.cause,
            sent: self.sent,
        }
    }

    const fn is_read(&self) -> bool {
        matches!(
            self.kind,
            Kind::Get | Kind::GetRange | Kind::Exists | Kind::List | Kind::HeadContainer
        )
    }

    /// Whether the result is not needed any more *and* leaving off is safe: reads only.
    pub(crate) fn handle_cancel(&mut self) -> bool {
        if self.is_read() {
            self.cause = Cause::Cancelled;
        }
        self.is_read()
    }

    /// What the end of patience means. `in_flight`: an exchange of it is under way.
    pub(crate) fn expire(&self, in_flight: bool) -> Failure {
        let is_denied = matches!(
            self.cause,
            Cause::Status(401 | 403) | Cause::Auth(AuthError::Refused)
        );
        let is_write_under_way = in_flight && self.step == Step::Ask;
        self.failure(if self.is_read() {
            if is_denied {
                StoreError::Denied
            } else {
                StoreError::Unavailable
            }
        } else if self.may_have_applied || is_write_under_way {
            StoreError::Unknown
        } else if is_denied {
            StoreError::Denied
        } else {
            StoreError::Unavailable
        })
    }
}
