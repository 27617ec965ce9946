//! run, replay, shrink: words as typed, then what they do.

mod seeds;

use sim::casefile;
use sim::config::Profile;
use sim::run::{Case, Detail, Ended, run as run_case};
use sim::shrink::shrink;
use std::path::Path;

/// How it is used.
pub(crate) const USAGE: &str = "\
usage: sim run [--seeds N | --minutes M] [--seed-base S] [--jobs J] [--profile P] [--ops N] [--twice] [--json] [--hashes] [--complete]
       sim soak [--minutes M] [--seed-base S] [--jobs J] [--profile P] [--ops N] [--ledger FILE] [--commit C] [--complete]
       sim replay SEED|FILE [--profile P] [--ops N] [--story]
       sim shrink SEED|FILE [--profile P] [--ops N] [--runs N] [--out FILE]
       sim exhaustive [--ops N] [--jobs J]
       sim zoo [BUG …] [--seeds BUDGET] [--streams N] [--profile P]   (built with --features zoo)
       sim canary [BUG] [--minutes M] [--seed-base S] [--profile P]   (built with --features zoo)
       sim marks [--seeds N | --minutes M] [--jobs J] [--profile P]   (built with --features zoo)
--complete fails, too, when a kind of fault never struck or a mark was not reached (V1)
--bug NAME (built with --features zoo) switches a bug on for run, replay and shrink
       sim model [--config NAME] [--wrong NAME] [--states N] [--progress-every N] [--all]
profiles: safety liveness snapshot fencing gc wire all; run and soak also: every (all of them, each for its share)";

/// Options, each with its default.
#[derive(Clone, Debug)]
struct Options {
    seeds: Option<u64>,
    minutes: Option<f64>,
    base: u64,
    jobs: usize,
    profile: Profile,
    has_profile: bool,
    every: bool,
    ops: Option<u64>,
    json: bool,
    story: bool,
    twice: bool,
    complete: bool,
    runs: u32,
    streams: u64,
    out: Option<String>,
    hashes: bool,
    ledger: Option<String>,
    commit: Option<String>,
    bug: Option<String>,
    rest: Vec<String>,
}

fn parse(words: &[String]) -> Result<Options, String> {
    let mut o = Options {
        seeds: None,
        minutes: None,
        base: 0,
        jobs: std::thread::available_parallelism().map_or(1, |n| n.get()),
        profile: Profile::Safety,
        has_profile: false,
        every: false,
        ops: None,
        json: false,
        story: false,
        twice: false,
        complete: false,
        runs: 20_000,
        streams: 20,
        out: None,
        hashes: false,
        ledger: None,
        commit: None,
        bug: None,
        rest: Vec::new(),
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
        fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
            text.parse().map_err(|_| format!("not a number: {text}"))
        }
        match word.as_str() {
            "--seeds" => o.seeds = Some(number(value()?)?),
            "--minutes" => o.minutes = Some(number(value()?)?),
            "--seed-base" => o.base = number(value()?)?,
            "--jobs" => o.jobs = number::<usize>(value()?)?.max(1),
            "--ops" => o.ops = Some(number(value()?)?),
            "--runs" => o.runs = number(value()?)?,
            "--streams" => o.streams = number(value()?)?,
            "--bug" => {
                o.bug = Some(value()?.clone());
                bug(o.bug.as_deref())?;
            }
            "--ledger" => o.ledger = Some(value()?.clone()),
            "--commit" => o.commit = Some(value()?.clone()),
            "--hashes" => o.hashes = true,
            "--out" => o.out = Some(value()?.clone()),
            "--profile" => {
                let name = value()?;
                o.every = name == "every";
                if o.every {
                    continue;
                }
                o.has_profile = true;
                o.profile = Profile::parse(name).ok_or_else(|| format!("no profile {name}"))?;
            }
            "--json" => o.json = true,
            "--story" => o.story = true,
            "--twice" => o.twice = true,
            "--complete" => o.complete = true,
            other if other.starts_with("--") => return Err(format!("unknown option {other}")),
            other => o.rest.push(other.to_string()),
        }
    }
    Ok(o)
}

/// Runs a command; whether all was well.
pub(crate) fn run(words: &[String]) -> Result<bool, String> {
    let Some((verb, rest)) = words.split_first() else {
        return Err("what shall it do?".into());
    };
    if verb == "model" {
        return sim::model::run(rest, &mut |line| println!("{line}"));
    }
    let options = parse(rest)?;
    match verb.as_str() {
        "run" => seeds::run(&options),
        "soak" => seeds::soak(&options),
        "canary" => seeds::canary(&options),
        "replay" => replay(&options),
        "shrink" => shrink_case(&options),
        "exhaustive" => exhaust(&options),
        "zoo" => zoo(&options),
        "marks" => seeds::marks(&options),
        other => Err(format!("unknown command {other}")),
    }
}

fn case(o: &Options) -> Result<Case, String> {
    let what = o.rest.first().ok_or("a seed or a file is wanted")?;
    if let Ok(seed) = what.parse() {
        return Ok(Case {
            ops: o.ops,
            ..Case::new(seed, o.profile)
        });
    }
    let text = std::fs::read_to_string(Path::new(what)).map_err(|e| format!("{what}: {e}"))?;
    casefile::parse(&text).map_err(|e| format!("{what}: {e}"))
}

fn replay(o: &Options) -> Result<bool, String> {
    let case = case(o)?;
    let ended = run_case(
        &case,
        if o.story {
            Detail::Story
        } else {
            Detail::Counts
        },
    );
    if let Some(story) = &ended.trace.story {
        for line in story {
            println!("{line}");
        }
    }
    say_end(&case, &ended);
    Ok(ended.violation.is_none())
}

fn say_end(case: &Case, ended: &Ended) {
    println!(
        "seed {} {}: {} events, {} operations, {:.1} s virtual, hash {:016x}",
        case.seed,
        case.profile.name(),
        ended.trace.events,
        ended.trace.operations,
        ended.virtual_ns as f64 / 1e9,
        ended.trace.hash
    );
    match &ended.violation {
        Some(violation) => println!("VIOLATED {violation}"),
        None => println!("all held"),
    }
}

fn shrink_case(o: &Options) -> Result<bool, String> {
    let case = case(o)?;
    let Some(small) = shrink(&case, o.runs) else {
        println!("seed {} does not fail", case.seed);
        return Ok(true);
    };
    for line in small.ended.trace.story.iter().flatten() {
        println!("{line}");
    }
    say_end(&small.case, &small.ended);
    println!(
        "{} operations and {} faults left after {} runs",
        small.operations, small.faults, small.runs
    );
    let note = small
        .ended
        .violation
        .as_ref()
        .map_or(String::new(), ToString::to_string);
    let text = casefile::emit(&small.case, &note);
    match &o.out {
        Some(file) => std::fs::write(file, text).map_err(|e| format!("{file}: {e}"))?,
        None => println!("{text}"),
    }
    Ok(false)
}

/// Switches a bug of the engine on, or all off.
fn bug(name: Option<&str>) -> Result<(), String> {
    #[cfg(feature = "zoo")]
    {
        if let Some(name) = name
            && !sim::zoo::names("bug")?.iter().any(|n| n == name)
        {
            return Err(format!("no bug {name}"));
        }
        engine::zoo::switch(name);
        Ok(())
    }
    #[cfg(not(feature = "zoo"))]
    {
        let _ = name;
        Err("this build has no bugs to switch on: build with --features zoo".into())
    }
}

fn zoo(o: &Options) -> Result<bool, String> {
    let all = sim::zoo::names("bug")?;
    let chosen: Vec<String> = if o.rest.is_empty() {
        all
    } else {
        o.rest.clone()
    };
    let budget = o.seeds.unwrap_or(400);
    let profiles = if o.has_profile {
        vec![o.profile]
    } else {
        sim::zoo::HUNT.to_vec()
    };
    println!("| bug | median | p95 | noticed | by | example | shrinks to |");
    println!("|---|---|---|---|---|---|---|");
    let mut good = true;
    for name in &chosen {
        bug(Some(name))?;
        bug(None)?;
        let switch = |on: bool| {
            let name = on.then_some(name.as_str());
            #[cfg(feature = "zoo")]
            engine::zoo::switch(name);
            let _ = name;
        };
        let fared = sim::zoo::hunt(o.streams, budget, o.base, &profiles, o.jobs, &switch);
        let noticed = fared.streams.iter().flatten().count();
        let or_more = |n: Option<u64>| n.map_or_else(|| format!("> {budget}"), |n| n.to_string());
        let by: Vec<String> = (fared.properties().iter())
            .map(|(property, n)| format!("{property} {n}"))
            .collect();
        let example = fared.streams.iter().flatten().next();
        let example = example.map_or(String::new(), |s| {
            format!("{} {}", s.seed, s.profile.name())
        });
        switch(true);
        let mut sizes: Vec<usize> = (fared.streams.iter().flatten().take(3))
            .filter_map(|s| shrink(&Case::new(s.seed, s.profile), o.runs))
            .map(|small| small.operations)
            .collect();
        switch(false);
        sizes.sort_unstable();
        let size = sizes.get(sizes.len() / 2);
        let size = size.map_or(String::new(), |n| format!("{n} operations"));
        println!(
            "| {name} | {} | {} | {noticed}/{} | {} | {example} | {size} |",
            or_more(fared.percentile(50)),
            or_more(fared.percentile(95)),
            o.streams,
            by.join(", "),
        );
        eprintln!(
            "{name}: asked for in {} of {} runs",
            fared.reached, fared.runs
        );
        for (seed, profile) in &fared.open {
            eprintln!("seed {seed} of {} fails without a bug", profile.name());
        }
        good &= noticed > 0;
    }
    Ok(good)
}

fn exhaust(o: &Options) -> Result<bool, String> {
    let counts = sim::exhaustive::run(o.ops.unwrap_or(3), o.jobs, |text| println!("{text}"));
    println!(
        "{} workloads of up to {} operations out of {}: {} crash points, {} runs, {} events; {} violations",
        counts.workloads,
        o.ops.unwrap_or(3),
        sim::exhaustive::ALPHABET.len(),
        counts.points,
        counts.runs,
        counts.events,
        counts.violations
    );
    Ok(counts.violations == 0)
}
