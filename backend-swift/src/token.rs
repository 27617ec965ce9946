//! The token that all requests share: asked for once, renewed once, whoever needs it.
//!
//! A 401 is not always a wrong password: a lost token cache, expiry, a revoked token and an identity service that is
//! away look the same. So the first 401 on a token renews it for everybody, later ones wait; and only the identity
//! service itself, asked twice, says that the credentials are wrong.
//!
//! The machine never sees a secret: a [`TokenId`] says which authentication is meant, the client keeps its token.

use crate::retry::{Backoff, Dice};
use crate::settings::Settings;
use engine::time::{Duration, Instant};

/// Which successful authentication, counting from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TokenId(pub u64);

/// Why there is no token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuthError {
    /// The identity service says that the credentials are wrong (401, 403).
    Refused,
    /// It cannot be reached, fails, or answers what cannot be understood.
    Unavailable,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Idle,
    Asking,
    Pause(Instant),
}

/// The shared token's state.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    count: u64,
    is_good: bool,
    renew_at: Option<Instant>,
    expires: Option<Instant>,
    state: State,
    refusals: u32,
    backoff: Backoff,
}

impl Tokens {
    pub(crate) const fn new() -> Self {
        Self {
            count: 0,
            is_good: false,
            renew_at: None,
            expires: None,
            state: State::Idle,
            refusals: 0,
            backoff: Backoff::initial(),
        }
    }

    /// The token to send now, if there is one.
    pub(crate) fn current(&self, now: Instant) -> Option<TokenId> {
        (self.is_good && self.expires.is_none_or(|at| now < at)).then_some(TokenId(self.count))
    }

    /// Whether to authenticate now; if so, the answer is owed to [`Tokens::handle_result`].
    pub(crate) fn start(&mut self, now: Instant) -> bool {
        let is_wanted = self.current(now).is_none() || self.renew_at.is_some_and(|at| at <= now);
        let may = match self.state {
            State::Idle => true,
            State::Asking => false,
            State::Pause(until) => until <= now,
        };
        if is_wanted && may {
            self.state = State::Asking;
        }
        is_wanted && may
    }

    /// When [`Tokens::start`] may say yes though it said no before.
    pub(crate) const fn wake(&self) -> Option<Instant> {
        match self.state {
            State::Pause(until) => Some(until),
            _ => None,
        }
    }

    /// A request was answered 401 with this token.
    pub(crate) fn handle_unauthorized(&mut self, token: TokenId) {
        if token == TokenId(self.count) {
            self.is_good = false;
        }
    }

    /// What came of an authentication: the token's life if known.
    pub(crate) fn handle_result(
        &mut self,
        now: Instant,
        result: Result<Option<Duration>, AuthError>,
        settings: &Settings,
        dice: &mut Dice,
    ) {
        match result {
            Ok(life) => {
                self.count += 1;
                self.is_good = true;
                self.refusals = 0;
                self.backoff = Backoff::initial();
                self.expires = life.map(|life| now + life);
                self.renew_at = life.map(|life| now + (life - settings.renew_ahead.min(life / 10)));
                // TempAuth gives the same token until it expires, so one just fetched may be near its end: the pause
                // keeps its last second from becoming a storm.
                self.state = State::Pause(now + settings.auth_gap);
            }
            Err(error) => {
                if error == AuthError::Refused {
                    self.refusals += 1;
                } else {
                    self.refusals = 0;
                }
                let wait = self
                    .backoff
                    .next(dice, settings.auth_gap, settings.backoff_cap);
                self.state = State::Pause(now + wait);
            }
        }
    }

    /// Whether the identity service has refused the credentials twice in a row.
    pub(crate) const fn is_refused(&self) -> bool {
        self.refusals >= 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Instant {
        Instant::default() + SECOND * u32::try_from(seconds).expect("few")
    }

    fn tell(tokens: &mut Tokens, now: Instant, result: Result<Option<Duration>, AuthError>) {
        tokens.handle_result(now, result, &Settings::default(), &mut Dice::new(1));
    }

    #[test]
    fn one_question_serves_all() {
        let mut t = Tokens::new();
        assert_eq!(t.current(at(0)), None);
        assert!(t.start(at(0)));
        assert!(!t.start(at(0)));
        tell(&mut t, at(0), Ok(Some(SECOND * 1000)));
        assert_eq!(t.current(at(1)), Some(TokenId(1)));
        assert!(!t.start(at(1)));
    }

    #[test]
    fn a_late_401_of_the_old_token_does_not_spoil_the_new_one() {
        let mut t = Tokens::new();
        assert!(t.start(at(0)));
        tell(&mut t, at(0), Ok(None));
        t.handle_unauthorized(TokenId(1));
        assert_eq!(t.current(at(2)), None);
        assert!(t.start(at(2)));
        tell(&mut t, at(2), Ok(None));
        t.handle_unauthorized(TokenId(1));
        assert_eq!(t.current(at(3)), Some(TokenId(2)));
    }

    #[test]
    fn renews_ahead_of_expiry_and_goes_on_meanwhile() {
        let mut t = Tokens::new();
        assert!(t.start(at(0)));
        tell(&mut t, at(0), Ok(Some(SECOND * 100)));
        assert!(!t.start(at(89)));
        assert!(t.start(at(90)));
        assert_eq!(t.current(at(99)), Some(TokenId(1)));
        assert_eq!(t.current(at(100)), None);
        tell(&mut t, at(100), Ok(Some(SECOND * 100)));
        assert_eq!(t.current(at(100)), Some(TokenId(2)));
    }

    #[test]
    fn the_last_second_of_a_token_is_no_storm() {
        let mut t = Tokens::new();
        assert!(t.start(at(0)));
        tell(&mut t, at(0), Ok(Some(Duration::from_millis(10))));
        let soon = at(0) + Duration::from_millis(20);
        assert_eq!(t.current(soon), None);
        assert!(!t.start(soon));
        assert_eq!(t.wake(), Some(at(1)));
        assert!(t.start(at(1)));
    }

    #[test]
    fn only_a_second_refusal_in_a_row_counts() {
        let mut t = Tokens::new();
        assert!(t.start(at(0)));
        tell(&mut t, at(0), Err(AuthError::Refused));
        assert!(!t.is_refused());
        assert!(!t.start(at(0)));
        assert!(t.start(at(20)));
        tell(&mut t, at(20), Err(AuthError::Unavailable));
        assert!(t.start(at(40)));
        tell(&mut t, at(40), Err(AuthError::Refused));
        assert!(!t.is_refused());
        assert!(t.start(at(60)));
        tell(&mut t, at(60), Err(AuthError::Refused));
        assert!(t.is_refused());
        assert!(t.start(at(80)));
        tell(&mut t, at(80), Ok(None));
        assert!(!t.is_refused());
    }
}
