//! Swift's dialect as a pure machine: questions and HTTP answers in, HTTP requests and results out.
//!
//! One machine serves one account: all questions share its token, its generator and its settings. It reads no clock and
//! opens nothing; the client (`client`, feature `http`) and the simulator drive this very code.
//!
//! # Contract
//!
//! - After each `handle_*` call actions are drained with [`StoreMachine::poll_action`] until `None`.
//! - Each [`Action::Send`] is answered once with [`StoreMachine::handle_answer`], unless [`Action::Abandon`] came before;
//!   an answer that crosses its `Abandon` is ignored. Each [`Action::Authenticate`] is answered once with
//!   [`StoreMachine::handle_authenticated`].
//! - Each question gets exactly one [`Action::Finish`], by its deadline at the latest.
//! - `now` never runs backwards. [`StoreMachine::handle_timeout`] early or twice changes nothing.
//! - Same facts in, same actions out.
//!
//! # What the ends mean
//!
//! Success is what Swift confirmed. [`StoreError::Unknown`]: some try of the write may have landed, now or later.
//! [`StoreError::Unavailable`] on a write: none can have.

use crate::exchange::{Broken, Failure, HttpAnswer, Success};
use crate::pending::{Next, Pending};
use crate::request::{Ask, CallId, HttpRequest, Ticket};
use crate::retry::Dice;
use crate::settings::Settings;
use crate::token::{AuthError, TokenId, Tokens};
use engine::effect::StoreError;
use engine::time::{Duration, Instant};
use std::collections::{BTreeMap, VecDeque};

/// Work for the client.
#[derive(Clone, Debug)]
pub enum Action<B, D> {
    /// Make this exchange.
    Send(HttpRequest<B>),
    /// The answer to this exchange is not needed: cut it off.
    Abandon(CallId),
    /// Get a new token.
    Authenticate,
    /// The question is answered.
    Finish(Ticket, Result<Success<D>, Failure>),
}

/// What a question waits for.
#[derive(Clone, Copy, Debug)]
enum Wait {
    Token,
    Until(Instant),
    Answer {
        call: CallId,
        token: TokenId,
        timeout: Instant,
    },
}

#[derive(Clone, Debug)]
struct Slot<B> {
    pending: Pending<B>,
    wait: Wait,
}

/// The machine. `B`: a handle to a body to send; `D`: what the caller decodes from a body that came.
#[derive(Clone, Debug)]
pub struct StoreMachine<B, D> {
    settings: Settings,
    dice: Dice,
    tokens: Tokens,
    slots: BTreeMap<Ticket, Slot<B>>,
    calls: BTreeMap<CallId, Ticket>,
    call_count: u64,
    actions: VecDeque<Action<B, D>>,
}

impl<B: Clone, D> StoreMachine<B, D> {
    /// A machine without a token; `seed` feeds the jitter.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            dice: Dice::new(seed),
            tokens: Tokens::new(),
            slots: BTreeMap::new(),
            calls: BTreeMap::new(),
            call_count: 0,
            actions: VecDeque::new(),
        }
    }

    /// A question. `ticket` must not be in use.
    pub fn handle_ask(&mut self, now: Instant, ticket: Ticket, ask: Ask<B>) {
        let pending = Pending::new(ask, now, &self.settings);
        let wait = Wait::Token;
        let before = self.slots.insert(ticket, Slot { pending, wait });
        assert!(before.is_none(), "{ticket:?} is in use");
        self.pump(now);
    }

    /// What came of an exchange.
    pub fn handle_answer(
        &mut self,
        now: Instant,
        call: CallId,
        answer: Result<HttpAnswer<D>, Broken>,
    ) {
        let Some(ticket) = self.calls.remove(&call) else {
            return;
        };
        let Some(slot) = self.slots.get_mut(&ticket) else {
            return;
        };
        let next = match answer {
            Ok(answer) => {
                if let (401, Wait::Answer { token, .. }) = (answer.status, slot.wait) {
                    self.tokens.handle_unauthorized(token);
                }
                slot.pending
                    .handle_answer(now, answer, &self.settings, &mut self.dice)
            }
            Err(broken) => slot
                .pending
                .handle_broken(broken, &self.settings, &mut self.dice),
        };
        self.follow(now, ticket, next);
        self.pump(now);
    }

    /// What came of [`Action::Authenticate`]: the token's life, if it was told.
    pub fn handle_authenticated(
        &mut self,
        now: Instant,
        result: Result<Option<Duration>, AuthError>,
    ) {
        self.tokens
            .handle_result(now, result, &self.settings, &mut self.dice);
        if let Err(error) = result {
            let is_waiting = |(_, slot): &(&Ticket, &mut Slot<B>)| matches!(slot.wait, Wait::Token);
            let mut refused = Vec::new();
            for (ticket, slot) in self.slots.iter_mut().filter(is_waiting) {
                slot.pending.handle_auth_error(error);
                if self.tokens.is_refused() {
                    refused.push((*ticket, slot.pending.expire(false)));
                }
            }
            for (ticket, failure) in refused {
                self.finish(ticket, Err(failure));
            }
        }
        self.pump(now);
    }

    /// The result is not needed. A read is left off, anything else goes on; it is finished all the same.
    pub fn handle_cancel(&mut self, ticket: Ticket) {
        let Some(slot) = self.slots.get_mut(&ticket) else {
            return;
        };
        if slot.pending.handle_cancel() {
            let failure = slot.pending.failure(StoreError::Unavailable);
            self.abandon(ticket);
            self.finish(ticket, Err(failure));
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due = |slot: &Slot<B>| slot.due() <= now;
        let tickets: Vec<Ticket> = self
            .slots
            .iter()
            .filter(|(_, slot)| due(slot))
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in tickets {
            let Some(slot) = self.slots.get_mut(&ticket) else {
                continue;
            };
            if slot.pending.deadline <= now {
                let in_flight = matches!(slot.wait, Wait::Answer { .. });
                let failure = slot.pending.expire(in_flight);
                self.abandon(ticket);
                self.finish(ticket, Err(failure));
            } else if let Wait::Answer { .. } = slot.wait {
                let next =
                    slot.pending
                        .handle_broken(Broken::Timeout, &self.settings, &mut self.dice);
                self.abandon(ticket);
                self.follow(now, ticket, next);
            } else if let Wait::Until(_) = slot.wait {
                slot.wait = Wait::Token;
            }
        }
        self.pump(now);
    }

    /// The next action, if any.
    pub fn poll_action(&mut self) -> Option<Action<B, D>> {
        self.actions.pop_front()
    }

    /// When [`StoreMachine::handle_timeout`] wants to be called next. Changes with any `handle_*`.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let is_waiting = |slot: &Slot<B>| matches!(slot.wait, Wait::Token);
        let tokens = if self.slots.values().any(is_waiting) {
            self.tokens.wake()
        } else {
            None
        };
        self.slots.values().map(Slot::due).chain(tokens).min()
    }

    /// Questions that are not finished.
    pub fn pending_count(&self) -> usize {
        self.slots.len()
    }

    fn follow(&mut self, now: Instant, ticket: Ticket, next: Next<D>) {
        let wait = match next {
            Next::Finish(result) => {
                self.finish(ticket, result);
                return;
            }
            Next::Token => Wait::Token,
            Next::Pause(d) if d.is_zero() => Wait::Token,
            Next::Pause(d) => Wait::Until(now + d),
        };
        if let Some(slot) = self.slots.get_mut(&ticket) {
            slot.wait = wait;
        }
    }

    fn finish(&mut self, ticket: Ticket, result: Result<Success<D>, Failure>) {
        self.slots.remove(&ticket);
        self.actions.push_back(Action::Finish(ticket, result));
    }

    fn abandon(&mut self, ticket: Ticket) {
        if let Some(Slot {
            wait: Wait::Answer { call, .. },
            ..
        }) = self.slots.get(&ticket)
        {
            self.calls.remove(call);
            self.actions.push_back(Action::Abandon(*call));
        }
    }

    /// Sends what only waits for a token, or asks for one.
    fn pump(&mut self, now: Instant) {
        let mut ready = self
            .slots
            .iter_mut()
            .filter(|(_, slot)| matches!(slot.wait, Wait::Token) && slot.pending.deadline > now)
            .peekable();
        if ready.peek().is_some() && self.tokens.start(now) {
            self.actions.push_back(Action::Authenticate);
        }
        let Some(token) = self.tokens.current(now) else {
            return;
        };
        for (ticket, slot) in ready {
            let call = CallId(self.call_count);
            self.call_count += 1;
            let shape = slot.pending.shape();
            let body = match &slot.pending.ask {
                Ask::Put { body, .. } if slot.pending.sends_body() => {
                    Some((body.body.clone(), body.len))
                }
                _ => None,
            };
            slot.pending.handle_sent();
            slot.wait = Wait::Answer {
                call,
                token,
                timeout: now + slot.pending.exchange_timeout(&self.settings),
            };
            self.calls.insert(call, *ticket);
            self.actions.push_back(Action::Send(HttpRequest {
                call,
                ticket: *ticket,
                method: shape.method,
                path: shape.path,
                headers: shape.headers,
                body,
                connection: shape.connection,
                token,
            }));
        }
    }
}

impl<B> Slot<B> {
    /// When time alone changes something.
    fn due(&self) -> Instant {
        let next = match self.wait {
            Wait::Token => self.pending.deadline,
            Wait::Until(at) => at,
            Wait::Answer { timeout, .. } => timeout,
        };
        next.min(self.pending.deadline)
    }
}

#[cfg(test)]
mod tests;
