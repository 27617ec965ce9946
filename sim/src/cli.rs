//! run, replay, shrink: words as typed, then what they do.

use serde_json::json;
use sim::casefile;
use sim::choice::mix;
use sim::config::Profile;
use sim::run::{Case, Detail, Ended, run as run_case};
use sim::shrink::shrink;
use sim::trace::Trace;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How it is used.
pub(crate) const USAGE: &str = "\
usage: sim run [--seeds N | --minutes M] [--seed-base S] [--jobs J] [--profile P] [--ops N] [--twice] [--json]
       sim replay SEED|FILE [--profile P] [--ops N] [--story]
       sim shrink SEED|FILE [--profile P] [--ops N] [--runs N] [--out FILE]
       sim exhaustive [--ops N] [--jobs J]
       sim zoo [BUG …] [--seeds BUDGET] [--streams N] [--profile P]   (built with --features zoo)
       sim marks [--seeds N]                                          (built with --features zoo)
--bug NAME (built with --features zoo) switches a bug on for run, replay and shrink
       sim model [--config NAME] [--wrong NAME] [--states N] [--progress-every N] [--all]
profiles: safety liveness snapshot fencing gc wire all";

/// Options, each with its default.
#[derive(Clone, Debug)]
struct Options {
    seeds: Option<u64>,
    minutes: Option<f64>,
    base: u64,
    jobs: usize,
    profile: Profile,
    has_profile: bool,
    ops: Option<u64>,
    json: bool,
    story: bool,
    twice: bool,
    runs: u32,
    streams: u64,
    out: Option<String>,
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
        ops: None,
        json: false,
        story: false,
        twice: false,
        runs: 4000,
        streams: 20,
        out: None,
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
            "--bug" => bug(Some(value()?))?,
            "--out" => o.out = Some(value()?.clone()),
            "--profile" => {
                let name = value()?;
                o.has_profile = true;
                o.profile = Profile::parse(name).ok_or_else(|| format!("no profile {name}"))?;
            }
            "--json" => o.json = true,
            "--story" => o.story = true,
            "--twice" => o.twice = true,
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
        "run" => run_seeds(&options),
        "replay" => replay(&options),
        "shrink" => shrink_case(&options),
        "exhaustive" => exhaust(&options),
        "zoo" => zoo(&options),
        "marks" => marks(&options),
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

/// What all seeds together came to.
#[derive(Default)]
struct Total {
    trace: Trace,
    seeds: u64,
    virtual_ns: u128,
    violations: Vec<(u64, String)>,
    hash: u64,
}

fn run_seeds(o: &Options) -> Result<bool, String> {
    let started = Instant::now();
    let total = Mutex::new(Total::default());
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let limit = if o.seeds.is_none() && o.minutes.is_none() {
        Some(100)
    } else {
        o.seeds
    };
    let until = o
        .minutes
        .map(|m| started + Duration::from_secs_f64(m * 60.0));
    let quiet = o.json || !std::io::stderr().is_terminal();
    std::thread::scope(|scope| {
        for _ in 0..o.jobs {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if limit.is_some_and(|l| n >= l) || until.is_some_and(|u| Instant::now() >= u) {
                        break;
                    }
                    let seed = o.base + n;
                    let case = Case {
                        ops: o.ops,
                        ..Case::new(seed, o.profile)
                    };
                    let ended = run_case(&case, Detail::Counts);
                    let Ok(mut t) = total.lock() else { break };
                    t.seeds += 1;
                    t.virtual_ns += u128::from(ended.virtual_ns);
                    t.trace.add(&ended.trace);
                    t.hash ^= mix(seed, ended.trace.hash);
                    if let Some(violation) = ended.violation {
                        t.violations.push((seed, violation.to_string()));
                        if t.violations.len() >= 20 {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                    if !quiet && t.seeds.is_multiple_of(16) {
                        let seconds = started.elapsed().as_secs_f64();
                        eprint!(
                            "\r{} seeds, {:.0} events/s, {} violations ",
                            t.seeds,
                            t.trace.events as f64 / seconds,
                            t.violations.len()
                        );
                        let _ = std::io::stderr().flush();
                    }
                }
            });
        }
    });
    if !quiet {
        eprintln!();
    }
    let mut total = total.into_inner().map_err(|_| "a runner died")?;
    total.violations.sort();
    let seconds = started.elapsed().as_secs_f64();
    let same = if o.twice {
        Some(again(o, &total)?)
    } else {
        None
    };
    report(o, &total, seconds, same);
    Ok(total.violations.is_empty() && same != Some(false))
}

// The same seeds in another process must give the same hash.
fn again(o: &Options, total: &Total) -> Result<bool, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut command = std::process::Command::new(program);
    command.args(["run", "--json", "--profile", o.profile.name()]);
    command.args([
        "--seed-base",
        &o.base.to_string(),
        "--seeds",
        &total.seeds.to_string(),
    ]);
    command.args(["--jobs", &o.jobs.to_string()]);
    if let Some(ops) = o.ops {
        command.args(["--ops", &ops.to_string()]);
    }
    let output = command.output().map_err(|e| e.to_string())?;
    let value: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|e| format!("the second process: {e}"))?;
    Ok(value["determinism"] == json!(format!("{:016x}", total.hash)))
}

fn report(o: &Options, total: &Total, seconds: f64, same: Option<bool>) {
    let events = total.trace.events;
    let faults: serde_json::Map<String, serde_json::Value> = total
        .trace
        .faults
        .iter()
        .map(|(d, n)| (d.name().to_string(), json!(n)))
        .collect();
    let replay = |seed: u64| {
        let ops = o.ops.map_or(String::new(), |n| format!(" --ops {n}"));
        format!(
            "cargo run --profile sim -p sim -- replay {seed} --profile {}{ops} --story",
            o.profile.name()
        )
    };
    if o.json {
        let violations: Vec<_> = total
            .violations
            .iter()
            .map(|(seed, text)| json!({"seed": seed, "violation": text, "replay": replay(*seed)}))
            .collect();
        let value = json!({
            "profile": o.profile.name(),
            "seeds": total.seeds,
            "events": events,
            "operations": total.trace.operations,
            "kinds": total.trace.kinds,
            "virtual_seconds": total.virtual_ns as f64 / 1e9,
            "seconds": seconds,
            "events_per_second": events as f64 / seconds,
            "faults": faults,
            "violations": violations,
            "determinism": format!("{:016x}", total.hash),
            "same_twice": same,
        });
        println!("{value}");
        return;
    }
    println!(
        "{} seeds of profile {}: {events} events in {seconds:.1} s ({:.0} per second, {:.0} a seed), {} operations, {:.0} s virtual",
        total.seeds,
        o.profile.name(),
        events as f64 / seconds,
        events as f64 / total.seeds.max(1) as f64,
        total.trace.operations,
        total.virtual_ns as f64 / 1e9,
    );
    let listed: Vec<String> = total
        .trace
        .faults
        .iter()
        .map(|(d, n)| format!("{} {n}", d.name()))
        .collect();
    println!("faults: {}", listed.join(", "));
    println!(
        "determinism {:016x}{}",
        total.hash,
        match same {
            Some(true) => ", the same in a second process",
            Some(false) => ", ANOTHER ONE in a second process",
            None => "",
        }
    );
    for (seed, text) in &total.violations {
        let text: String = text.chars().take(600).collect();
        println!("VIOLATED by seed {seed}: {text}\n  {}", replay(*seed));
    }
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
        let or_more = |n: Option<u64>| n.map_or(format!("> {budget}"), |n| n.to_string());
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
        for (seed, profile) in &fared.open {
            eprintln!("seed {seed} of {} fails without a bug", profile.name());
        }
        good &= noticed > 0;
    }
    Ok(good)
}

fn marks(o: &Options) -> Result<bool, String> {
    #[cfg(feature = "zoo")]
    {
        let profiles = if o.has_profile {
            vec![o.profile]
        } else {
            sim::zoo::HUNT.to_vec()
        };
        for n in 0..o.seeds.unwrap_or(200) {
            let profile = profiles[(n % profiles.len() as u64) as usize];
            run_case(&Case::new(o.base + n, profile), Detail::Counts);
        }
        let (hit, missed): (Vec<_>, Vec<_>) = sim::zoo::names("mark")?
            .into_iter()
            .partition(|n| engine::zoo::was_reached(n));
        println!("reached: {}", hit.join(", "));
        println!("not reached: {}", missed.join(", "));
        Ok(missed.is_empty())
    }
    #[cfg(not(feature = "zoo"))]
    {
        let _ = o;
        Err("this build has no marks: build with --features zoo".into())
    }
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
