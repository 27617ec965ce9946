//! An error that stays until a stated moment: the store refuses or is full, its identity service is gone, or the journal's
//! disk has no space. L6 says what it may cost (`oracle/patience.rs`).

use crate::choice::Die;
use crate::oracle::patience::{Patience, check_waited};
use crate::payload::Blocks;
use crate::seat::Asked;
use crate::workload::Kind as Kinds;
use crate::world::{Event, SEC, World};
use engine::effect::{Outcome, StoreError, StoreRequest};
use std::collections::BTreeMap;

/// What it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// 401, whatever token there is.
    Unauthorized,
    /// 403.
    Forbidden,
    /// The identity service refuses, and the token is not good any more.
    Refused,
    /// The identity service does not answer.
    NoIdentity,
    /// The container is gone for whoever writes or lists: 404.
    NoContainer,
    /// 507 for every PUT.
    Full,
    /// The local disk has no space for another file.
    DiskFull,
}

const KINDS: [Kind; 7] = [
    Kind::Forbidden,
    Kind::Full,
    Kind::DiskFull,
    Kind::Unauthorized,
    Kind::Refused,
    Kind::NoIdentity,
    Kind::NoContainer,
];

/// An error that stays.
#[derive(Clone, Debug)]
pub(crate) struct Lasting {
    kind: Kind,
    began: u64,
    /// By process: seat and life.
    patience: BTreeMap<(usize, u32), Patience>,
}

impl Lasting {
    fn of(&mut self, seat: usize, life: u32) -> &mut Patience {
        self.patience.entry((seat, life)).or_default()
    }
}

impl World {
    /// The error begins, or ends.
    pub(crate) fn lasts(&mut self, n: u64, begins: bool) {
        if !begins {
            return self.ends_lasting();
        }
        if !self.chaos() {
            return;
        }
        let kind = KINDS[self.choices.pick(Die::Lasting, n, 1, KINDS.len() as u64) as usize];
        let long = [90, 300, 900][self.choices.pick(Die::Lasting, n, 2, 3) as usize] * SEC;
        self.trace.fault(Die::Lasting, n);
        self.trace
            .tell(self.now, || format!("{kind:?} from now on, for {long} ns"));
        self.lasting = Some(Lasting {
            kind,
            began: self.now,
            patience: BTreeMap::new(),
        });
        self.after(long, Event::Lasting { n, begins: false });
    }

    /// It is over. Nobody may have waited for it all the time.
    pub(crate) fn ends_lasting(&mut self) {
        let Some(lasting) = self.lasting.take() else {
            return;
        };
        self.trace
            .tell(self.now, || format!("{:?} is over", lasting.kind));
        let mut late = Vec::new();
        for seat in &self.seats {
            let alive = seat.engine.is_some() && seat.paused_until <= self.now;
            for asked in seat.asked.values().filter(|_| alive) {
                late.push((seat.number, asked.clone()));
            }
        }
        for (seat, asked) in late {
            let checked = self.waited_on(seat, &asked, lasting.began);
            self.check(checked);
        }
    }

    /// A command is answered: it waited no longer than it may.
    pub(crate) fn waited(&self, seat: usize, asked: &Asked) -> crate::oracle::Checked {
        match &self.lasting {
            Some(lasting) => self.waited_on(seat, asked, lasting.began),
            None => Ok(()),
        }
    }

    fn waited_on(&self, seat: usize, asked: &Asked, began: u64) -> crate::oracle::Checked {
        let s = &self.seats[seat];
        // A disk or process that stood still answers nobody; nor does who takes the command back have the answer's right.
        if asked.at < began || asked.at <= s.held_up_until || asked.aborted {
            return Ok(());
        }
        let what = format!("a {:?} of {:?}", asked.kind, asked.extents);
        check_waited(&what, self.now - asked.at)
    }

    /// What the store says to a request instead of an answer, and by HTTP, if an error stays that concerns it.
    pub(crate) fn lasting_error(&self, request: &StoreRequest<Blocks>) -> Option<StoreError> {
        let kind = self.lasting.as_ref()?.kind;
        let puts = matches!(
            request,
            StoreRequest::Put { .. } | StoreRequest::CreateContainer(_)
        );
        let lists = matches!(request, StoreRequest::List { .. });
        match kind {
            Kind::Unauthorized | Kind::Forbidden | Kind::Refused => Some(StoreError::Denied),
            Kind::NoIdentity => Some(StoreError::Unavailable),
            Kind::NoContainer => (puts || lists).then_some(StoreError::Absent),
            Kind::Full => puts.then_some(StoreError::Full),
            Kind::DiskFull => None,
        }
    }

    /// The status that an exchange hears, if an error stays that concerns it. `writes`: PUT or DELETE; `is_object`: of an
    /// object, and not of a container.
    pub(crate) fn lasting_status(&self, puts: bool, is_object: bool) -> Option<u16> {
        match self.lasting.as_ref()?.kind {
            Kind::Unauthorized | Kind::Refused | Kind::NoIdentity => Some(401),
            Kind::Forbidden => Some(403),
            Kind::NoContainer => (puts && is_object || !puts && !is_object).then_some(404),
            Kind::Full => puts.then_some(507),
            Kind::DiskFull => None,
        }
    }

    /// Whether the identity service refuses (`Some(true)`) or is away (`Some(false)`) for good.
    pub(crate) fn lasting_identity(&self) -> Option<bool> {
        match self.lasting.as_ref()?.kind {
            Kind::Refused => Some(true),
            Kind::NoIdentity => Some(false),
            _ => None,
        }
    }

    /// Whether the local disk has no space for a file, whoever asks and however often.
    pub(crate) fn lasting_disk_full(&self) -> bool {
        (self.lasting.as_ref()).is_some_and(|lasting| lasting.kind == Kind::DiskFull)
    }

    /// A process asks the store.
    pub(crate) fn asks_on(&mut self, seat: usize) {
        let (now, life) = (self.now, self.seats[seat].life);
        let Some(lasting) = self.lasting.as_mut() else {
            return;
        };
        let checked = lasting.of(seat, life).asks(now);
        self.check(checked);
    }

    /// A process hears what came of a request.
    pub(crate) fn hears_on(
        &mut self,
        seat: usize,
        request: &StoreRequest<Blocks>,
        outcome: &Outcome<Blocks>,
    ) {
        // A container without a listing shows no row, which is no error: GETs decide. A claim's number is burnt, whatever
        // was said.
        let counts = match request {
            StoreRequest::List { .. } => false,
            StoreRequest::Put { once, .. } => !once,
            _ => true,
        };
        let is_error = matches!(outcome, Outcome::Store(_));
        if counts && is_error && self.lasting_error(request).is_some() {
            self.hears_error(seat);
        }
    }

    /// A guest's write finds no room, and the disk has none for another file.
    pub(crate) fn is_refused_for_room(&mut self, seat: usize, asked: &Asked, is_busy: bool) {
        let writes = matches!(
            asked.kind,
            Kinds::Write | Kinds::WriteZeroes | Kinds::Discard
        );
        if is_busy && writes && !asked.is_crowded && self.lasting_disk_full() {
            self.hears_error(seat);
        }
    }

    fn hears_error(&mut self, seat: usize) {
        let (now, life) = (self.now, self.seats[seat].life);
        let stood_still = now <= self.seats[seat].held_up_until;
        if let Some(lasting) = self.lasting.as_mut() {
            let patience = lasting.of(seat, life);
            if stood_still {
                patience.begins_anew();
            }
            let checked = patience.hears(now);
            self.check(checked);
        }
    }

    /// A process tells its operator what is wrong, or closes its gate for it.
    pub(crate) fn tells_on(&mut self, seat: usize) {
        let life = self.seats[seat].life;
        if let Some(lasting) = self.lasting.as_mut() {
            lasting.of(seat, life).tells();
        }
    }
}
