//! The protocol, host by host: every step that a host may take in a state.
//!
//! The survey of steps 1 and 2 is one step here: what it finds may be old by the time that it is used, as it may be in
//! truth, and nothing rests on the order of its reads. Every later read, PUT and landing is a step of its own.

use super::rules::{Rules, Wrong};
use super::state::{Aim, At, Attempt, DETACHED, PIN, SNAPSHOT, State};
use super::store::{ATTEMPTS, HOSTS, NONE, Name, ORDINALS, Put};

/// Who does what, for the story of a counterexample.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Label {
    Lands(Put),
    Survey(usize),
    Confirmed(usize, Put),
    SeenByGet(usize, Put),
    NoAnswer(usize, Put),
    Reads(usize, &'static str),
    Publishes(usize, Aim),
    Deletes(usize),
    Crashes(usize),
}

/// A step and the state after it.
pub(super) type Step = (Label, State);

/// Every step that may be taken.
pub(super) fn steps(state: &State, rules: &Rules, out: &mut Vec<Step>) {
    state.store.landings(|put, store| {
        let mut next = state.clone();
        next.store = store;
        out.push((Label::Lands(put), next));
    });
    (0..HOSTS).for_each(|host| host_steps(state, rules, host, out));
    for (_, next) in out {
        next.store.normalise();
        let attempts = if rules.lies > 0 {
            attempts_under_way(next)
        } else {
            0
        };
        next.hosts
            .iter_mut()
            .for_each(|host| host.grace &= attempts);
    }
}

/// The steps of one host.
pub(super) fn host_steps(state: &State, rules: &Rules, host: usize, out: &mut Vec<Step>) {
    let mut turn = Turn {
        state,
        rules,
        host,
        out,
    };
    turn.crash();
    turn.go();
}

struct Turn<'a> {
    state: &'a State,
    rules: &'a Rules,
    host: usize,
    out: &'a mut Vec<Step>,
}

impl Turn<'_> {
    fn wrong(&self, wrong: Wrong) -> bool {
        self.rules.is_wrong(wrong)
    }

    /// Adds a step: `change` makes the state after it.
    fn step(&mut self, label: Label, lies: u8, change: impl FnOnce(&mut State)) {
        let mut next = self.state.clone();
        next.lies += lies;
        change(&mut next);
        self.out.push((label, next));
    }

    /// Absence and presence of a name, as a read may find them.
    fn read(
        &mut self,
        name: Name,
        asks: u8,
        absent: (&'static str, impl FnOnce(&mut State)),
        there: (&'static str, impl FnOnce(&mut State)),
    ) {
        let host = self.host;
        if let Some(lies) = self
            .state
            .store
            .may_miss(name, asks, self.rules, self.state.lies)
        {
            self.step(Label::Reads(host, absent.0), lies, absent.1);
        }
        if self.state.store.may_exist(name) {
            self.step(Label::Reads(host, there.0), 0, there.1);
        }
    }

    /// A name that is known to exist: a 404 says nothing.
    fn read_known(&mut self, name: Name, text: &'static str, there: impl FnOnce(&mut State)) {
        if self.state.store.may_exist(name) {
            self.step(Label::Reads(self.host, text), 0, there);
        }
    }

    /// The PUT under way is confirmed, and `then`. (Wrong: a GET may stand for a confirmation.)
    fn confirmed(&mut self, then: impl Fn(&mut State)) {
        let (host, rules) = (self.host, *self.rules);
        let put = self.state.store.under_way(host);
        if self.state.store.is_confirmed(host) {
            self.step(Label::Confirmed(host, put), 0, |next| {
                next.store.confirm(host, &rules);
                then(next);
            });
        } else if self.wrong(Wrong::GetConfirms) && self.shows_own(put) {
            self.step(Label::SeenByGet(host, put), 0, |next| {
                next.store.abandon(host);
                then(next);
            });
        }
    }

    /// Whether a GET may bring what this PUT stores.
    fn shows_own(&self, put: Put) -> bool {
        let store = &self.state.store;
        let shows = |name: Name, attempt: u8| {
            let found = store.readings(name, self.rules, self.state.lies);
            found.iter().any(|(who, _)| *who == Some(attempt))
        };
        match put {
            Put::Claim(g, a) => shows(Name::Claim(g), a),
            Put::Opened(g, a) => shows(Name::Opened(g), a),
            Put::Root(r) => store.may_exist(Name::Root(r)),
            _ => false,
        }
    }

    fn crash(&mut self) {
        let (host, me) = (self.host, self.state.hosts[self.host]);
        if me.crashes == 0 || matches!(me.at, At::Outside | At::Over) {
            return;
        }
        self.step(Label::Crashes(host), 0, |next| {
            next.store.abandon(host);
            let me = &mut next.hosts[host];
            me.crashes -= 1;
            me.serves = false;
            leave(next, host, At::Outside);
        });
    }

    fn go(&mut self) {
        let (host, me) = (self.host, self.state.hosts[self.host]);
        match me.at {
            At::Outside if me.tries > 0 => self.survey(),
            At::Outside | At::Over => {}
            At::Shutting(n) => self.confirmed(|next| shut_or_claim(next, host, n + 1)),
            At::Claiming => self.claim(),
            At::FirstLook => self.first_look(),
            At::Door => {
                let skip = self.wrong(Wrong::NoStep6);
                let early = self.wrong(Wrong::RootsBeforeDoor);
                self.confirmed(|next| match skip {
                    true if early => open(next, host),
                    true => find_base(next, host),
                    false => next.hosts[host].at = At::ReadBack,
                });
            }
            At::ReadBack => self.read_back(),
            At::Below(n) => self.below(n),
            At::Multiple | At::Third | At::First | At::Base => self.search(),
            At::Again => {
                let early = self.wrong(Wrong::RootsBeforeDoor);
                self.confirmed(|next| based(next, host, early));
            }
            At::Opening => {
                let skip = self.wrong(Wrong::NoStep9);
                self.confirmed(|next| match skip {
                    true => serve(next, host),
                    false => next.hosts[host].at = At::LastLook,
                });
            }
            At::LastLook => self.look(2, "looks: serves", |next| serve(next, host)),
            At::Serving => self.serving(),
            At::EarlyLook => self.look(1, "looks, then stores", |next| send_root(next, host)),
            At::Publishing => self.publishing(),
            At::Looking => self.looking(),
            At::DeleteLook => self.look(2, "looks before a delete", |next| delete(next, host)),
            At::Deleting => {
                // Nobody waits for a delete.
                self.step(Label::Deletes(host), 0, |next| {
                    next.store.abandon(host);
                    next.hosts[host].at = At::Serving;
                });
            }
            At::ChildVolume => self.confirmed(|next| {
                next.hosts[host].child = true;
                next.hosts[host].at = At::Serving;
            }),
            At::ChildBorn => self.confirmed(|next| next.hosts[host].at = At::Serving),
        }
    }

    /// Steps 1 and 2, and what step 3 begins with.
    fn survey(&mut self) {
        let store = &self.state.store;
        let told = self.state.lies;
        // The highest claim, step by step up.
        let mut tops = Vec::new();
        let mut top = 1;
        loop {
            let above = Name::Claim(top + 1);
            if let Some(lies) = store.may_miss(above, 2, self.rules, told) {
                tops.push((top, lies));
            }
            if top + 1 > self.rules.generations || !store.may_exist(above) {
                break;
            }
            top += 1;
        }
        for (top, lies) in tops {
            // The highest opened, step by step down.
            let mut spent = lies;
            for g in (1..=top).rev() {
                let name = Name::Opened(g);
                for (who, lies) in store.readings(name, self.rules, told + spent) {
                    if let Some(below) = who {
                        self.judge(top, below, spent + lies);
                    }
                }
                match store.may_miss(name, 2, self.rules, told + spent) {
                    Some(lies) => spent += lies,
                    None => break,
                }
            }
        }
    }

    /// Step 2 for one thing that step 1 may have found.
    fn judge(&mut self, top: u8, below: u8, lies: u8) {
        let host = self.host;
        let is_own = usize::from(self.state.attempts[usize::from(below)].host) == host;
        let is_free = self.rules.hosts[host].takes_over || is_own || self.may_find_detached(below);
        if !is_free || top + 1 > self.rules.generations {
            return;
        }
        let skip = self.wrong(Wrong::DoorsLeftOpen);
        let first = match skip {
            true => top + 1,
            false => self.state.generation(below) + 1,
        };
        let room = usize::from(self.state.attempt_count) < ATTEMPTS;
        if !room {
            return;
        }
        for (floor, more) in self.floors(below, lies) {
            for skewed in [false, true] {
                if skewed && (!self.rules.skew || first <= top) {
                    continue;
                }
                self.step(Label::Survey(host), lies + more, |next| {
                    let me = &mut next.hosts[host];
                    (me.top, me.below, me.floor) = (top, below, floor);
                    me.tries -= 1;
                    shut_or_claim_as(next, host, first, skewed);
                });
            }
        }
    }

    /// The newest root of the attachment that step 1 may have found at least, and the lies it takes to miss more.
    fn floors(&self, below: u8, spent: u8) -> Vec<(u8, u8)> {
        let mut lies = 0;
        let mut out = Vec::new();
        for ordinal in (1..=ORDINALS).rev() {
            let name = Name::Root(State::root_of(below, ordinal));
            let told = self.state.lies + spent + lies;
            match self.state.store.may_miss(name, 2, self.rules, told) {
                Some(more) => {
                    if more > 0 {
                        out.push((ordinal, lies));
                    }
                    lies += more;
                }
                None => {
                    out.push((ordinal, lies));
                    return out;
                }
            }
        }
        out.push((0, lies));
        out
    }

    /// Whether reading the attachment's newest root may show kind detached.
    fn may_find_detached(&self, below: u8) -> bool {
        let store = &self.state.store;
        let mut own = (1..=ORDINALS)
            .rev()
            .map(|ordinal| State::root_of(below, ordinal));
        let is_detached = |root: u8| self.state.says[usize::from(root)] & DETACHED != 0;
        let found = |root: u8| store.may_exist(Name::Root(root)) && is_detached(root);
        if own.any(found) {
            return true;
        }
        let base = self.state.attempts[usize::from(below)].base;
        let has_own = (1..=ORDINALS).any(|k| {
            let name = Name::Root(State::root_of(below, k));
            store
                .may_miss(name, 2, self.rules, self.state.lies)
                .is_none()
        });
        self.wrong(Wrong::JudgeTheHistory) && base != NONE && !has_own && found(base)
    }

    fn claim(&mut self) {
        let (host, skip, early) = (
            self.host,
            self.wrong(Wrong::NoStep4),
            self.wrong(Wrong::RootsBeforeDoor),
        );
        let put = self.state.store.under_way(host);
        self.confirmed(|next| match skip {
            true if early => find_base(next, host),
            true => send_door(next, host),
            false => next.hosts[host].at = At::FirstLook,
        });
        // 412, 5xx or silence: lost, and it may still land.
        self.step(Label::NoAnswer(host, put), 0, |next| {
            next.store.abandon(host);
            lose(next, host);
        });
    }

    fn first_look(&mut self) {
        let (host, early) = (self.host, self.wrong(Wrong::RootsBeforeDoor));
        let door = Name::Door(self.state.generation(self.state.hosts[host].attempt));
        self.read(
            door,
            2,
            ("finds its door open (4)", |next: &mut State| match early {
                true => find_base(next, host),
                false => send_door(next, host),
            }),
            ("finds its door shut (4)", |next: &mut State| {
                lose(next, host)
            }),
        );
    }

    fn read_back(&mut self) {
        let (host, early) = (self.host, self.wrong(Wrong::RootsBeforeDoor));
        let attempt = self.state.hosts[host].attempt;
        let name = Name::Claim(self.state.generation(attempt));
        for (who, lies) in self.state.store.readings(name, self.rules, self.state.lies) {
            let is_own = who == Some(attempt);
            let text = if is_own {
                "reads its own claim (6)"
            } else {
                "reads another's claim (6)"
            };
            self.step(Label::Reads(host, text), lies, |next| match is_own {
                true if early => open(next, host),
                true => find_base(next, host),
                false => lose(next, host),
            });
        }
    }

    /// Step 7: whether this number was opened by somebody.
    fn below(&mut self, n: u8) {
        let host = self.host;
        let name = match self.wrong(Wrong::NonceFromClaim) {
            true => Name::Claim(n),
            false => Name::Opened(n),
        };
        let judged = self.state.generation(self.state.hosts[host].below);
        let told = self.state.lies;
        match self
            .state
            .store
            .may_miss(Name::Opened(n), 2, self.rules, told)
        {
            Some(lies) if n > judged => {
                let text = "finds a number below not opened (7)";
                self.step(Label::Reads(host, text), lies, |next| {
                    find_base_from(next, host, n - 1)
                });
            }
            _ => {}
        }
        if !self.state.store.may_exist(Name::Opened(n)) {
            return;
        }
        for (who, lies) in self.state.store.readings(name, self.rules, self.state.lies) {
            let Some(who) = who else { continue };
            let attempt = self.state.hosts[host].attempt;
            let is_own = usize::from(self.state.attempts[usize::from(who)].host) == host;
            let judged_again = who != self.state.hosts[host].below;
            let is_free = self.rules.hosts[host].takes_over
                || is_own
                || !judged_again
                || self.may_find_detached(who);
            self.step(
                Label::Reads(host, "finds the opened below (7)"),
                lies,
                |next| {
                    let me = &mut next.hosts[host];
                    if judged_again {
                        me.floor = 0;
                    }
                    me.below = who;
                    next.attempts[usize::from(attempt)].follows = who;
                    match is_free {
                        true => next.hosts[host].at = At::Multiple,
                        false => lose(next, host),
                    }
                },
            );
        }
    }

    /// Step 7: the newest root of the attachment. With a stride of 2 the ordinals are asked in the order 2, 3 or 1.
    fn search(&mut self) {
        let (host, me) = (self.host, self.state.hosts[self.host]);
        let again = !self.wrong(Wrong::NoSecondPut);
        let early = self.wrong(Wrong::RootsBeforeDoor);
        let found = move |next: &mut State, root: u8| {
            next.hosts[host].root = root;
            let attempt = next.hosts[host].attempt;
            next.attempts[usize::from(attempt)].base = root;
            if again {
                next.put(host, Put::Root(root));
                next.hosts[host].at = At::Again;
            } else {
                based(next, host, early);
            }
        };
        let root = |ordinal: u8| State::root_of(me.below, ordinal);
        let to = |at: At| move |next: &mut State| next.hosts[host].at = at;
        match me.at {
            // What is known to exist is asked again until it is found; what lies below a floor too.
            At::Multiple if me.floor >= 2 => {
                self.read_known(Name::Root(root(2)), "finds root 2 (7)", to(At::Third))
            }
            At::Multiple => self.read(
                Name::Root(root(2)),
                2,
                ("finds no root 2 (7)", to(At::First)),
                ("finds root 2 (7)", to(At::Third)),
            ),
            At::Third if me.floor == 3 => {
                self.read_known(Name::Root(root(3)), "finds root 3 (7)", move |next| {
                    found(next, root(3))
                });
            }
            At::Third => self.read(
                Name::Root(root(3)),
                2,
                ("finds no root 3 (7)", move |next: &mut State| {
                    found(next, root(2))
                }),
                ("finds root 3 (7)", move |next: &mut State| {
                    found(next, root(3))
                }),
            ),
            At::First if me.floor >= 1 => {
                let name = Name::Root(root(1));
                self.read_known(name, "finds root 1 (7)", move |next| found(next, root(1)));
                // Or it has gone, because root 2 has come.
                let text = "does not find root 1: searches again (7)";
                if self
                    .state
                    .store
                    .may_miss(name, 2, self.rules, self.state.lies)
                    .is_some()
                {
                    self.step(Label::Reads(host, text), 0, to(At::Multiple));
                }
            }
            At::First => self.read(
                Name::Root(root(1)),
                2,
                ("finds no root at all (7)", to(At::Base)),
                ("finds root 1 (7)", move |next: &mut State| {
                    found(next, root(1))
                }),
            ),
            _ => {
                let Some(base) = self.base_of(me.below) else {
                    // Step 1 found a root: what is known to exist is a floor.
                    let text = "finds nothing where there was a root: searches again (7)";
                    return self.step(Label::Reads(host, text), 0, to(At::Multiple));
                };
                self.read(
                    Name::Root(base),
                    2,
                    // The attachment's first root came meanwhile, and its base went.
                    (
                        "does not find the base: searches again (7)",
                        to(At::Multiple),
                    ),
                    ("finds the base (7)", move |next: &mut State| {
                        found(next, base)
                    }),
                );
            }
        }
    }

    /// The base that the opened of an attempt's generation names.
    fn base_of(&self, attempt: u8) -> Option<u8> {
        let generation = self.state.generation(attempt);
        let won =
            |at: &u8| self.state.winners & 1 << at != 0 && self.state.generation(*at) == generation;
        // Taken from a claim the attempt may be one that lost; the opened is the winner's.
        let writer = match self.wrong(Wrong::NonceFromClaim) {
            true => (0..self.state.attempt_count).find(won)?,
            false => attempt,
        };
        let base = self.state.attempts[usize::from(writer)].base;
        (base != NONE).then_some(base)
    }

    /// A look: the next door is open and `good`, or it is shut and the host is fenced.
    fn look(&mut self, asks: u8, text: &'static str, good: impl FnOnce(&mut State)) {
        let host = self.host;
        let generation = self.state.generation(self.state.hosts[host].attempt);
        self.read(
            Name::Door(generation + 1),
            asks,
            (text, good),
            ("finds the next door shut", |next: &mut State| {
                next.hosts[host].serves = false;
                // An attempt was lost; a holder is fenced.
                let is_attempt = next.hosts[host].at == At::LastLook;
                leave(next, host, if is_attempt { At::Outside } else { At::Over });
            }),
        );
    }

    fn serving(&mut self) {
        let (host, me) = (self.host, self.state.hosts[self.host]);
        let part = self.rules.hosts[host];
        let says = self.state.says[usize::from(me.root)];
        let room = State::writer(me.root) != me.attempt || State::ordinal(me.root) < ORDINALS;
        if me.publishes > 0 && room {
            let mut aims = vec![Aim::Plain];
            if part.detaches {
                aims.push(Aim::Detach);
            }
            if part.drops && says & SNAPSHOT != 0 {
                aims.push(Aim::Drop);
            }
            let pin_first = self.wrong(Wrong::PinBeforeChild);
            if part.clones && says & SNAPSHOT != 0 && says & PIN == 0 && (me.child || pin_first) {
                aims.push(Aim::Pin);
            }
            for aim in aims {
                self.publish(aim);
            }
            if part.drops && says & PIN != 0 {
                let name = Name::ChildVolume;
                if self
                    .state
                    .store
                    .may_miss(name, 2, self.rules, self.state.lies)
                    == Some(0)
                {
                    self.publish(Aim::Unpin);
                }
            }
        }
        if part.clones && !me.child && says & SNAPSHOT != 0 {
            self.step(
                Label::Reads(host, "stores the clone's superblock"),
                0,
                |next| {
                    next.put(host, Put::ChildVolume);
                    next.hosts[host].at = At::ChildVolume;
                },
            );
        }
        if part.clones && me.child && says & PIN != 0 && !self.state.child_born && is_own_root(&me)
        {
            self.step(
                Label::Reads(host, "stores the clone's born root"),
                0,
                |next| bear(next, host),
            );
        }
        let has_dead = part.drops && says & (SNAPSHOT | PIN) == 0 && !self.state.data_deleted;
        let has_old = part.collects && me.old != NONE;
        // With A1 the grace makes no difference, so it is left out; without, an attempt ends or starts over within it.
        let in_grace = self.rules.lies > 0 && me.grace != 0;
        if is_own_root(&me) && (has_old || has_dead) && !in_grace {
            self.step(Label::Reads(host, "wants to delete"), 0, |next| {
                next.hosts[host].at = At::DeleteLook;
            });
        }
    }

    fn publish(&mut self, aim: Aim) {
        let (host, early) = (self.host, self.wrong(Wrong::LookBeforeRoot));
        self.step(Label::Publishes(host, aim), 0, |next| {
            let me = &mut next.hosts[host];
            me.publishes -= 1;
            me.aim = aim;
            if aim == Aim::Detach {
                // The intent note: from here on no guest is answered.
                me.serves = false;
            }
            match early {
                true => me.at = At::EarlyLook,
                false => send_root(next, host),
            }
        });
    }

    fn publishing(&mut self) {
        let (host, early) = (self.host, self.wrong(Wrong::LookBeforeRoot));
        let collects = self.rules.hosts[host].collects;
        self.confirmed(|next| match early {
            true => answer(next, host, collects),
            false => next.hosts[host].at = At::Looking,
        });
    }

    fn looking(&mut self) {
        let (host, me) = (self.host, self.state.hosts[self.host]);
        if self.wrong(Wrong::BornBeforeLook)
            && me.aim == Aim::Pin
            && me.child
            && !self.state.child_born
        {
            self.step(
                Label::Reads(host, "stores the clone's born root"),
                0,
                |next| {
                    next.hosts[host].root = next_root(&next.hosts[host]);
                    bear(next, host);
                },
            );
        }
        if self.wrong(Wrong::DeleteBeforeLook) && self.rules.hosts[host].collects {
            self.step(Label::Deletes(host), 0, |next| {
                let me = &mut next.hosts[host];
                (me.old, me.root) = (me.root, next_root(me));
                delete(next, host);
            });
        }
        let collects = self.rules.hosts[host].collects;
        self.look(1, "looks: answers", |next| answer(next, host, collects));
    }
}

/// The hosts that are between step 1 and the end of step 7.
fn attempts_under_way(state: &State) -> u8 {
    let is_one = |host: &usize| state.hosts[*host].at.is_attempt();
    (0..HOSTS).filter(is_one).map(|host| 1 << host).sum()
}

/// Whether the newest root known to the host is of its own attachment.
fn is_own_root(me: &super::state::Host) -> bool {
    State::writer(me.root) == me.attempt
}

/// The root that the host publishes next.
fn next_root(me: &super::state::Host) -> u8 {
    match is_own_root(me) {
        true => me.root + 1,
        false => State::root_of(me.attempt, 1),
    }
}

fn leave(next: &mut State, host: usize, at: At) {
    let me = &mut next.hosts[host];
    me.at = match at {
        At::Outside if me.tries == 0 => At::Over,
        at => at,
    };
    (me.attempt, me.below, me.top, me.floor) = (NONE, NONE, 0, 0);
    (me.root, me.old) = (NONE, NONE);
    me.aim = Aim::Plain;
    me.child = false;
}

fn lose(next: &mut State, host: usize) {
    leave(next, host, At::Outside);
}

fn shut_or_claim(next: &mut State, host: usize, n: u8) {
    shut_or_claim_as(next, host, n, false);
}

/// Step 3: the doors of burnt numbers, then the claim.
fn shut_or_claim_as(next: &mut State, host: usize, n: u8, skewed: bool) {
    let top = next.hosts[host].top;
    if n <= top {
        next.put(host, Put::Door(n));
        next.hosts[host].at = At::Shutting(n);
        return;
    }
    let attempt = next.attempt_count;
    if usize::from(attempt) >= ATTEMPTS {
        return lose(next, host);
    }
    next.attempt_count += 1;
    next.attempts[usize::from(attempt)] = Attempt {
        host: host as u8,
        generation: top + 1,
        base: NONE,
        follows: NONE,
    };
    next.store.rank(attempt, skewed);
    next.hosts[host].attempt = attempt;
    next.hosts[host].at = At::Claiming;
    next.put(host, Put::Claim(top + 1, attempt));
}

fn send_door(next: &mut State, host: usize) {
    let generation = next.generation(next.hosts[host].attempt);
    next.put(host, Put::Door(generation));
    next.hosts[host].at = At::Door;
}

fn find_base(next: &mut State, host: usize) {
    let top = next.hosts[host].top;
    find_base_from(next, host, top);
}

fn find_base_from(next: &mut State, host: usize, n: u8) {
    next.hosts[host].at = At::Below(n);
}

/// Step 7 is done.
fn based(next: &mut State, host: usize, early: bool) {
    match early {
        true => send_door(next, host),
        false => open(next, host),
    }
}

/// Step 8.
fn open(next: &mut State, host: usize) {
    let attempt = next.hosts[host].attempt;
    next.winners |= 1 << attempt;
    next.put(host, Put::Opened(next.generation(attempt), attempt));
    next.hosts[host].at = At::Opening;
}

fn serve(next: &mut State, host: usize) {
    let me = &mut next.hosts[host];
    me.at = At::Serving;
    me.serves = true;
    next.served |= 1 << me.attempt;
}

/// A root leaves.
fn send_root(next: &mut State, host: usize) {
    let me = next.hosts[host];
    let root = next_root(&me);
    let old = next.says[usize::from(me.root)] & !DETACHED;
    next.says[usize::from(root)] = match me.aim {
        Aim::Plain => old,
        Aim::Detach => old | DETACHED,
        Aim::Drop => old & !SNAPSHOT,
        Aim::Pin => old | PIN,
        Aim::Unpin => old & !PIN,
    };
    next.put(host, Put::Root(root));
    next.hosts[host].at = At::Publishing;
}

/// The root is committed, and whoever asked for it is told.
fn answer(next: &mut State, host: usize, collects: bool) {
    let attempts = attempts_under_way(next);
    let me = &mut next.hosts[host];
    me.grace = attempts;
    let root = next_root(me);
    // Superseded: it may be deleted, unless it guides the search (multiples of the stride, here 2) or the chain of
    // attempts still needs it as a base that nothing follows yet.
    let guides = is_own_root(me) && State::ordinal(me.root) == 2;
    me.old = if guides || !collects { NONE } else { me.root };
    me.root = root;
    me.at = At::Serving;
    let is_detached = me.aim == Aim::Detach;
    me.aim = Aim::Plain;
    next.answered |= 1 << root;
    if is_detached {
        leave(next, host, At::Over);
    }
}

/// The look was good: what the newest root calls dead goes.
fn delete(next: &mut State, host: usize) {
    let me = next.hosts[host];
    next.words |= 1 << me.root;
    if next.says[usize::from(me.root)] & (SNAPSHOT | PIN) == 0 {
        next.data_deleted = true;
    }
    if me.old == NONE {
        next.hosts[host].at = At::Serving;
        return;
    }
    next.hosts[host].old = NONE;
    next.put(host, Put::Tomb(me.old));
    next.hosts[host].at = At::Deleting;
}

/// The clone's born root leaves.
fn bear(next: &mut State, host: usize) {
    next.child_born = true;
    next.put(host, Put::ChildBorn);
    next.hosts[host].at = At::ChildBorn;
}
