//! Choice files: a case as a few lines of text, kept in the bug base.
//!
//! ```text
//! # B1: block 3 reads as …
//! seed 7
//! profile safety
//! config-seed 4        the swarm is the one that seed 4 draws
//! ops 12
//! grains 2             no more than these (likewise wishes, hosts, commands)
//! think 100000         guests wait up to so many microseconds, or longer
//! boost 8              faults strike so many times as often as drawn
//! off power            a kind of fault that never strikes
//! drop op 4-9 12       single entities that are left out
//! ```

use crate::choice::Die;
use crate::config::{Bounds, Profile};
use crate::run::Case;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The case as text; `note` is a comment.
pub fn emit(case: &Case, note: &str) -> String {
    let mut out = String::new();
    for line in note.lines() {
        let _ = writeln!(out, "# {line}");
    }
    let _ = writeln!(out, "seed {}", case.seed);
    let _ = writeln!(out, "profile {}", case.profile.name());
    let Bounds {
        wishes,
        grains,
        hosts,
        commands,
        think_us,
        boost,
    } = case.bounds;
    let numbers = [
        ("config-seed", case.config_seed),
        ("ops", case.ops),
        ("wishes", wishes),
        ("grains", grains),
        ("hosts", hosts.map(u64::from)),
        ("commands", commands.map(u64::from)),
        ("think", think_us),
        ("boost", boost.map(u64::from)),
    ];
    for (word, number) in numbers {
        if let Some(number) = number {
            let _ = writeln!(out, "{word} {number}");
        }
    }
    for die in &case.edits.dice {
        let _ = writeln!(out, "off {}", die.name());
    }
    let mut by_die: BTreeMap<Die, Vec<u64>> = BTreeMap::new();
    for (die, entity) in &case.edits.entities {
        by_die.entry(*die).or_default().push(*entity);
    }
    for (die, entities) in by_die {
        for line in runs(&entities).chunks(16) {
            let _ = writeln!(out, "drop {} {}", die.name(), line.join(" "));
        }
    }
    out
}

fn runs(entities: &[u64]) -> Vec<String> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < entities.len() {
        let mut end = at;
        while end + 1 < entities.len() && entities[end + 1] == entities[end] + 1 {
            end += 1;
        }
        out.push(if end == at {
            entities[at].to_string()
        } else {
            format!("{}-{}", entities[at], entities[end])
        });
        at = end + 1;
    }
    out
}

/// Reads a case; says which line is wrong.
pub fn parse(text: &str) -> Result<Case, String> {
    let mut case = Case::new(0, Profile::Safety);
    for (number, line) in text.lines().enumerate() {
        let wrong = || format!("line {}: {line}", number + 1);
        let mut words = line.split('#').next().unwrap_or("").split_whitespace();
        let Some(word) = words.next() else { continue };
        let mut next = || words.next().ok_or_else(wrong);
        match word {
            "seed" => case.seed = next()?.parse().map_err(|_| wrong())?,
            "profile" => case.profile = Profile::parse(next()?).ok_or_else(wrong)?,
            "config-seed" => case.config_seed = Some(next()?.parse().map_err(|_| wrong())?),
            "ops" => case.ops = Some(next()?.parse().map_err(|_| wrong())?),
            "wishes" => case.bounds.wishes = Some(next()?.parse().map_err(|_| wrong())?),
            "grains" => case.bounds.grains = Some(next()?.parse().map_err(|_| wrong())?),
            "hosts" => case.bounds.hosts = Some(next()?.parse().map_err(|_| wrong())?),
            "commands" => case.bounds.commands = Some(next()?.parse().map_err(|_| wrong())?),
            "think" => case.bounds.think_us = Some(next()?.parse().map_err(|_| wrong())?),
            "boost" => case.bounds.boost = Some(next()?.parse().map_err(|_| wrong())?),
            "off" => {
                case.edits
                    .dice
                    .insert(Die::parse(next()?).ok_or_else(wrong)?);
            }
            "drop" => {
                let die = Die::parse(next()?).ok_or_else(wrong)?;
                for range in words {
                    let (from, to) = range.split_once('-').unwrap_or((range, range));
                    let from: u64 = from.parse().map_err(|_| wrong())?;
                    let to: u64 = to.parse().map_err(|_| wrong())?;
                    case.edits.entities.extend((from..=to).map(|e| (die, e)));
                }
            }
            _ => return Err(wrong()),
        }
    }
    Ok(case)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_read_as_it_was_written() {
        let mut case = Case::new(77, Profile::Fencing);
        case.config_seed = Some(4);
        case.ops = Some(12);
        case.bounds.grains = Some(2);
        case.bounds.hosts = Some(1);
        (case.bounds.think_us, case.bounds.boost) = (Some(50), Some(8));
        case.edits.dice.insert(Die::Power);
        case.edits
            .entities
            .extend([3, 4, 5, 9].map(|n| (Die::Op, n)));
        case.edits.entities.insert((Die::StoreLate, 1 << 40));
        let text = emit(&case, "B1: a stale read\nsecond line");
        assert_eq!(parse(&text), Ok(case));
        assert!(text.contains("drop op 3-5 9"), "{text}");
    }

    #[test]
    fn a_wrong_line_is_named() {
        assert_eq!(
            parse("seed 1\noff nonsense"),
            Err("line 2: off nonsense".into())
        );
    }
}
