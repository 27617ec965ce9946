//! What must hold in every state. Each is a function of its own, named in the report of a run.

use super::rules::Rules;
use super::search::Forks;
use super::state::State;
use super::store::{ATTEMPTS, NONE, ORDINALS};

/// An invariant: `None` while it holds, else what breaks it.
type Invariant = fn(&State, &Rules) -> Option<String>;

/// The one that a lying store may break: an answered root becomes a stray.
pub(super) const FORK: &str = "answered is in the history (I3)";

/// The same for an attachment.
const FOLLOWED: &str = "who serves is followed";

/// The ones that a lying store may break: what was answered, or served, before it told the lie.
pub(super) const FORKS: [&str; 2] = [FORK, FOLLOWED];

/// All of them, with the names that reports use.
pub(super) const ALL: [(&str, Invariant); 7] = [
    ("one winner per generation (I2)", one_winner),
    (FORK, answered_is_in_history),
    (FOLLOWED, served_is_followed),
    ("a base is confirmed", base_is_confirmed),
    ("no delete of what the history reaches", no_reachable_delete),
    ("no delete of what a clone reaches", no_theft_from_a_clone),
    ("one server without a take-over", one_server),
];

fn attempts(bits: u8) -> impl Iterator<Item = u8> {
    (0..ATTEMPTS as u8).filter(move |attempt| bits & 1 << attempt != 0)
}

fn roots(bits: u32) -> impl Iterator<Item = u8> {
    (0..ATTEMPTS as u8 * ORDINALS).filter(move |root| bits & 1 << root != 0)
}

/// `opened/<g>` has one writer.
fn one_winner(state: &State, _: &Rules) -> Option<String> {
    let same = |a: u8| {
        attempts(state.winners).find(|b| a < *b && state.generation(a) == state.generation(*b))
    };
    let (a, b) = attempts(state.winners).find_map(|a| Some((a, same(a)?)))?;
    Some(format!(
        "attempts {a} and {b} both store opened/{}",
        state.generation(a)
    ))
}

/// Whoever serves a later generation goes on from every root that an earlier one was answered for.
fn answered_is_in_history(state: &State, _: &Rules) -> Option<String> {
    missing(state, state.answered).map(|(root, attempt)| {
        format!("root {root} was answered and attempt {attempt} goes on without it")
    })
}

/// Whoever serves a later generation has followed, step by step, everybody who served before: what guests were answered
/// is then in a journal that the chain of attachments names.
fn served_is_followed(state: &State, _: &Rules) -> Option<String> {
    let follows = |attempt: u8, old: u8| {
        let mut at = attempt;
        while at != NONE && at != old {
            at = state.attempts[usize::from(at)].follows;
        }
        at == old
    };
    let skipped = |old: u8| {
        attempts(state.served)
            .find(|new| state.generation(old) < state.generation(*new) && !follows(*new, old))
    };
    let (old, new) = attempts(state.served).find_map(|old| Some((old, skipped(old)?)))?;
    Some(format!(
        "attempt {new} serves and does not know that attempt {old} did"
    ))
}

/// The root that a serving attempt goes on from is found by every read, until its successor has it deleted.
fn base_is_confirmed(state: &State, _: &Rules) -> Option<String> {
    attempts(state.served).find_map(|attempt| {
        let base = state.attempts[usize::from(attempt)].base;
        (base != NONE && !state.store.is_safe(base))
            .then(|| format!("attempt {attempt} serves from root {base}, which one replica holds"))
    })
}

/// A delete is made on the word of a root; whoever serves a later generation goes on from that root, under which the
/// object was dead (and dead stays dead).
fn no_reachable_delete(state: &State, _: &Rules) -> Option<String> {
    missing(state, state.words).map(|(root, attempt)| {
        format!("something was deleted on the word of root {root} and attempt {attempt} goes on without it")
    })
}

/// A root of these that a serving attempt of a later generation does not go on from.
fn missing(state: &State, of: u32) -> Option<(u8, u8)> {
    let forks = |root: u8| {
        attempts(state.served).find(|attempt| {
            let base = state.attempts[usize::from(*attempt)].base;
            state.generation(State::writer(root)) < state.generation(*attempt)
                && base != NONE
                && !state.is_in_history(root, base)
        })
    };
    roots(of).find_map(|root| Some((root, forks(root)?)))
}

/// Once a clone's born root is on its way, the data that it reaches stays.
fn no_theft_from_a_clone(state: &State, _: &Rules) -> Option<String> {
    (state.child_born && state.data_deleted)
        .then(|| "the clone is born and the snapshot's data was deleted".to_string())
}

/// When nobody takes over, guests are answered by one host at most.
fn one_server(state: &State, rules: &Rules) -> Option<String> {
    if rules.hosts.iter().any(|part| part.takes_over) {
        return None;
    }
    let serving: Vec<usize> = (0..state.hosts.len())
        .filter(|at| state.hosts[*at].serves)
        .collect();
    (serving.len() > 1).then(|| format!("hosts {serving:?} both answer guests"))
}

/// The first invariant that does not hold.
pub(super) fn broken(state: &State, rules: &Rules, forks: Forks) -> Option<(&'static str, String)> {
    let asked = |name: &str| forks == Forks::Break || !FORKS.contains(&name);
    (ALL.iter().filter(|(name, _)| asked(name)))
        .find_map(|(name, invariant)| Some((*name, invariant(state, rules)?)))
}
