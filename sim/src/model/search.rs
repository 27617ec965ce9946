//! Every state that can be reached, breadth first, so that what is found is found by a shortest way.
//!
//! A checker of our own, because the registry's general ones bring an HTTP explorer and a thread pool for what is two
//! hundred lines here, and because only the fingerprints are kept: 16 bytes a state, so that ten million fit anywhere.

use super::host::{Label, Step, steps};
use super::invariants;
use super::rules::Rules;
use super::state::State;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// What a search found.
#[derive(Clone, Debug)]
pub struct Found {
    /// States reached.
    pub states: u64,
    /// Steps taken, those to known states too.
    pub steps: u64,
    /// Depth of the last complete level.
    pub depth: u32,
    /// Whether every state was reached within the limit.
    pub is_complete: bool,
    /// States from which a lone taker was driven to the end, honestly: all of them served.
    pub driven: u64,
    /// What broke, with the story.
    pub broken: Option<Broken>,
}

/// Whether an answered root that becomes a stray counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forks {
    /// It breaks the protocol.
    Break,
    /// It is what a lying store may cost: everything else is asked.
    MayBe,
}

/// A broken invariant.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Which.
    pub invariant: &'static str,
    /// How.
    pub how: String,
    /// The steps that lead there.
    pub story: Vec<String>,
}

/// Fingerprints are hashes already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only u64 keys");
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

/// Folds words by multiplication to 128 bits, as wyhash does; SipHash would take a third of the run.
struct Fold(u64);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            let mut padded = [0; 8];
            padded[..word.len()].copy_from_slice(word);
            self.write_u64(u64::from_le_bytes(padded));
        }
    }
    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }
    fn write_u16(&mut self, n: u16) {
        self.write_u64(u64::from(n));
    }
    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }
    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
    fn write_isize(&mut self, n: isize) {
        self.write_u64(n as u64);
    }
    fn write_u64(&mut self, n: u64) {
        let wide = u128::from(self.0 ^ n) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
        self.0 = (wide as u64) ^ ((wide >> 64) as u64) ^ self.0.rotate_left(29);
    }
}

/// 64 bits: among ten million states two collide with a probability of 3 in a million.
fn fingerprint(state: &State) -> u64 {
    let mut hasher = Fold(0x2545_f491_4f6c_dd1d);
    state.hash(&mut hasher);
    hasher.finish()
}

/// Searches up to `limit` states. Every `sample`-th state a lone taker is driven to its end (0: none).
pub fn search(rules: &Rules, limit: u64, sample: u64, forks: Forks) -> Found {
    let first = State::first(rules);
    let mut parents: HashMap<u64, u64, BuildHasherDefault<AsIs>> = HashMap::default();
    parents.insert(fingerprint(&first), 0);
    let mut found = Found {
        states: 1,
        steps: 0,
        depth: 0,
        is_complete: true,
        driven: 0,
        broken: None,
    };
    let mut level = vec![first];
    let mut out: Vec<Step> = Vec::new();
    while !level.is_empty() {
        let mut next_level = Vec::new();
        for state in level {
            let here = fingerprint(&state);
            out.clear();
            steps(&state, rules, &mut out);
            found.steps += out.len() as u64;
            for (_, next) in out.drain(..) {
                let print = fingerprint(&next);
                if parents.contains_key(&print) {
                    continue;
                }
                parents.insert(print, here);
                found.states += 1;
                if let Some((invariant, how)) = invariants::broken(&next, rules, forks) {
                    let story = story(rules, &parents, print);
                    found.broken = Some(Broken {
                        invariant,
                        how,
                        story,
                    });
                    return found;
                }
                if sample > 0 && found.states.is_multiple_of(sample) {
                    match super::lone::lone_taker(&next, rules) {
                        super::lone::Lone::Serves => found.driven += 1,
                        super::lone::Lone::NoRoom => {}
                        super::lone::Lone::Stuck(how) => {
                            let story = story(rules, &parents, print);
                            let invariant = "a lone taker gets the volume";
                            found.broken = Some(Broken {
                                invariant,
                                how,
                                story,
                            });
                            return found;
                        }
                    }
                }
                if found.states >= limit {
                    found.is_complete = false;
                    return found;
                }
                next_level.push(next);
            }
        }
        level = next_level;
        found.depth += 1;
    }
    found
}

/// The steps to a state, found again from the chain of fingerprints.
fn story(
    rules: &Rules,
    parents: &HashMap<u64, u64, BuildHasherDefault<AsIs>>,
    end: u64,
) -> Vec<String> {
    let mut chain = vec![end];
    while let Some(parent) = chain
        .last()
        .and_then(|print| parents.get(print))
        .filter(|p| **p != 0)
    {
        chain.push(*parent);
    }
    chain.reverse();
    let mut state = State::first(rules);
    let mut lines = Vec::new();
    for print in chain.into_iter().skip(1) {
        let mut out = Vec::new();
        steps(&state, rules, &mut out);
        let Some((label, next)) = out.into_iter().find(|(_, next)| fingerprint(next) == print)
        else {
            lines.push("(the way is lost)".to_string());
            break;
        };
        lines.push(line(&state, label));
        state = next;
    }
    lines
}

fn line(state: &State, label: Label) -> String {
    match label {
        Label::Lands(put) => format!("        {put:?} lands on one more replica"),
        Label::Survey(host) => format!("host {host} surveys and begins an attempt"),
        Label::Confirmed(host, put) => format!("host {host} hears 201 for {put:?}"),
        Label::SeenByGet(host, put) => format!("host {host} takes a GET for the 201 of {put:?}"),
        Label::NoAnswer(host, put) => format!("host {host} hears nothing of {put:?} and has lost"),
        Label::Reads(host, what) => {
            let attempt = state.hosts[host].attempt;
            format!("host {host} (attempt {attempt}) {what}")
        }
        Label::Publishes(host, aim) => format!("host {host} publishes ({aim:?})"),
        Label::Deletes(host) => format!("host {host} deletes, without waiting"),
        Label::Crashes(host) => format!("host {host} crashes"),
    }
}
