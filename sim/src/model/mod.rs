//! The protocol model: claims, doors, openeds, roots, deletes, clones and pins on three replicas, every interleaving
//! within bounds.
//!
//! The simulator drives the shipping engine through long random histories; this searches *all* short ones of the
//! protocol itself, where a race of three hosts over half-landed PUTs hides from any die. Each known-wrong protocol
//! must be found wrong, or the model proves nothing. A test holds the model's lone taker against the requests of the
//! engine's own machine, so that the two do not drift apart.
//!
//! In it     racy If-None-Match (a claim is never refused by what is there), half-landed and late PUTs and DELETEs, one
//!           replica missed by any request, timestamps of claims in any order, crashes and restarts, detach, take-over,
//!           collection, clone, pin, and a store that lies (assumption A1 off).
//! Not in it the bytes, the journal, strict mode (it needs a clock), the delete of a whole volume.

mod host;
mod invariants;
mod lone;
mod rules;
mod search;
mod state;
mod store;
#[cfg(test)]
mod tests;

pub use rules::{Part, Rules, Wrong};
pub use search::{Broken, Forks, Found, search};

/// How the command is used.
pub const USAGE: &str = "\
sim model [--config NAME] [--wrong NAME] [--states N] [--progress-every N] [--all]
  configurations: duel race handover burnt stall liar clone return migration skew chain storm
  --wrong     search a known-wrong protocol: look-before-root nonce-from-claim roots-before-door get-confirms
              no-second-put doors-left-open no-step-4 no-step-6 no-step-9 delete-before-look judge-the-history
              pin-before-child born-before-look
  --all       every configuration, then every wrong protocol until one of them finds it";

/// Runs the command; `say` gets its lines. `Ok(false)`: what should hold does not, or a wrong protocol was not found.
pub fn run(words: &[String], say: &mut dyn FnMut(&str)) -> Result<bool, String> {
    let mut rules = Rules::ALL[0];
    let (mut states, mut sample, mut all, mut wrong) = (20_000_000, 97, false, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
        let number = |text: &String| {
            text.parse::<u64>()
                .map_err(|_| format!("not a number: {text}"))
        };
        match word.as_str() {
            "--config" => {
                let name = value()?;
                rules = Rules::named(name).ok_or_else(|| format!("no configuration {name}"))?;
            }
            "--wrong" => {
                let name = value()?;
                let known = Wrong::ALL.into_iter().find(|(known, _)| known == name);
                wrong = Some(known.ok_or_else(|| format!("no wrong protocol {name}"))?.1);
            }
            "--states" => states = number(value()?)?,
            "--progress-every" => sample = number(value()?)?,
            "--all" => all = true,
            other => return Err(format!("unknown option {other}\n\n{USAGE}")),
        }
    }
    if !all {
        rules.wrong = wrong;
        return Ok(run_one(&rules, states, sample, true, say));
    }
    let mut good = true;
    for rules in Rules::ALL {
        good &= run_one(&rules, states, sample, false, say);
    }
    for (name, wrong) in Wrong::ALL {
        let caught = find_wrong(wrong, states);
        match &caught {
            Some((rules, found)) => tell(rules, found, false, say),
            None => say(&format!("{name}: NOT FOUND")),
        }
        good &= caught.is_some();
    }
    Ok(good)
}

/// One configuration; a lying store's once more, with its forks allowed.
fn run_one(
    rules: &Rules,
    states: u64,
    sample: u64,
    with_story: bool,
    say: &mut dyn FnMut(&str),
) -> bool {
    let found = search(rules, states, sample, Forks::Break);
    tell(rules, &found, with_story, say);
    let mut good = is_as_wanted(rules, &found);
    if rules.lies > 0 && rules.wrong.is_none() {
        let rest = search(rules, states, sample, Forks::MayBe);
        tell(rules, &rest, with_story, say);
        good &= rest.broken.is_none();
    }
    good
}

/// Whether a run ended as it must: a right protocol holds (with a lying store only answered roots may become strays),
/// a wrong one is found.
pub fn is_as_wanted(rules: &Rules, found: &Found) -> bool {
    let broken = found.broken.as_ref().map(|broken| broken.invariant);
    match (rules.wrong, rules.lies) {
        (None, 0) => broken.is_none(),
        (None, _) => broken.is_some_and(|name| invariants::FORKS.contains(&name)),
        (Some(_), _) => broken.is_some(),
    }
}

/// Searches the configurations in turn for what is wrong with a protocol.
pub fn find_wrong(wrong: Wrong, states: u64) -> Option<(Rules, Found)> {
    let honest = Rules::ALL.into_iter().filter(|rules| rules.lies == 0);
    honest
        .map(|rules| Rules {
            wrong: Some(wrong),
            ..rules
        })
        .find_map(|rules| {
            let found = search(&rules, states, 0, Forks::Break);
            found.broken.is_some().then_some((rules, found))
        })
}

fn tell(rules: &Rules, found: &Found, with_story: bool, say: &mut dyn FnMut(&str)) {
    let wrong = rules
        .wrong
        .and_then(|wrong| Wrong::ALL.iter().find(|(_, known)| *known == wrong));
    let title = match wrong {
        None => rules.name.to_string(),
        Some((name, _)) => format!("{name} in {}", rules.name),
    };
    let extent = match (&found.broken, found.is_complete) {
        (Some(_), _) => "broken after",
        (None, true) => "all",
        (None, false) => "the first",
    };
    say(&format!(
        "{title}: {extent} {} states, {} steps, depth {}, {} lone takers served",
        found.states, found.steps, found.depth, found.driven
    ));
    if let Some(broken) = &found.broken {
        say(&format!("  {}: {}", broken.invariant, broken.how));
        if with_story {
            broken
                .story
                .iter()
                .for_each(|line| say(&format!("    {line}")));
        }
    }
}
