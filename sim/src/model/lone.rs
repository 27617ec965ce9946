//! Progress: whatever happened, a taker that is left alone on a store that answers gets the volume.

use super::host::{Label, Step, host_steps};
use super::rules::Rules;
use super::state::{At, State};
use super::store::{ATTEMPTS, HOSTS};

/// Steps that a lone taker may need: every number burnt, every root searched, every PUT confirmed, and more.
const ENOUGH: u32 = 200;

/// What became of it.
pub(super) enum Lone {
    /// It serves.
    Serves,
    /// The bounds of the run leave no number or attempt for it.
    NoRoom,
    /// It does not get on.
    Stuck(String),
}

/// Lets one taker go on alone: all that is under way lands, every answer comes and is true.
pub(super) fn lone_taker(state: &State, rules: &Rules) -> Lone {
    drive(state, rules, |_| {})
}

/// The same, telling every step.
pub(super) fn drive(state: &State, rules: &Rules, mut tell: impl FnMut(Label)) -> Lone {
    let is_taker = |host: &usize| {
        let at = state.hosts[*host].at;
        rules.hosts[*host].takes_over && !matches!(at, At::Over)
    };
    let Some(host) = (0..HOSTS).find(is_taker) else {
        return Lone::NoRoom;
    };
    let mut rules = *rules;
    rules.generations = 4;
    rules.lies = 0;
    let mut state = state.clone();
    state.hosts[host].tries = 8;
    state.hosts[host].crashes = 0;
    for _ in 0..ENOUGH {
        if is_served(state.hosts[host].at) {
            return Lone::Serves;
        }
        state.store.settle();
        let mut out = Vec::new();
        host_steps(&state, &rules, host, &mut out);
        // With everything landed every read has one answer; a claim that a younger one has beaten is lost.
        let is_heard = |step: &&Step| !matches!(step.0, Label::NoAnswer(..) | Label::SeenByGet(..));
        let Some((label, next)) = out.iter().find(is_heard).or_else(|| out.first()) else {
            return match has_room(&state, &rules, host) {
                false => Lone::NoRoom,
                true => Lone::Stuck(format!(
                    "host {host} at {:?} has no step",
                    state.hosts[host].at
                )),
            };
        };
        tell(*label);
        state = next.clone();
    }
    match has_room(&state, &rules, host) {
        false => Lone::NoRoom,
        true => Lone::Stuck(format!(
            "host {host} goes on and on, now at {:?}",
            state.hosts[host].at
        )),
    }
}

const fn is_served(at: At) -> bool {
    matches!(
        at,
        At::Serving | At::Publishing | At::Looking | At::DeleteLook | At::Deleting
    )
}

fn has_room(state: &State, rules: &Rules, host: usize) -> bool {
    let top = (0..state.attempt_count)
        .map(|attempt| state.generation(attempt))
        .max();
    top.is_some_and(|top| top < rules.generations)
        && usize::from(state.attempt_count) < ATTEMPTS
        && state.hosts[host].tries > 0
}
