//! Many seeds: run, counted, run again in a second process, reported; and the ledger that soaks add up in.

use super::Options;
use serde_json::{Map, Value, json};
use sim::choice::mix;
use sim::config::Profile;
use sim::reach::{BEYOND, RARE, Reached};
use sim::run::{Case, Detail, run as run_case};
use sim::trace::Trace;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How the time of `--profile every` is shared out, in parts of a hundred.
const SHARES: [(Profile, u32); 7] = [
    (Profile::Safety, 25),
    (Profile::All, 25),
    (Profile::Snapshot, 15),
    (Profile::Fencing, 15),
    (Profile::Wire, 8),
    (Profile::Gc, 6),
    (Profile::Liveness, 6),
];

/// So many violations are enough: the run ends.
const ENOUGH: usize = 20;

/// A seed counts for a soak from so many events on.
const SOAK_EVENTS: u64 = 10_000;

/// Guest operations of a soak's seed.
const SOAK_OPS: u64 = 6000;

/// A seed in which a property did not hold.
struct Found {
    seed: u64,
    property: &'static str,
    text: String,
}

/// What the seeds of one profile came to.
struct Total {
    profile: Profile,
    trace: Trace,
    seeds: u64,
    /// Seeds, and their events, of at least [`SOAK_EVENTS`].
    long: (u64, u64),
    virtual_ns: u128,
    violations: Vec<Found>,
    hashes: BTreeMap<u64, u64>,
    seconds: f64,
    /// Seeds whose hash is another one in a second process, if that was asked.
    differ: Option<Vec<u64>>,
}

impl Total {
    fn new(profile: Profile) -> Self {
        Self {
            profile,
            trace: Trace::default(),
            seeds: 0,
            long: (0, 0),
            virtual_ns: 0,
            violations: Vec::new(),
            hashes: BTreeMap::new(),
            seconds: 0.0,
            differ: None,
        }
    }

    fn hash(&self) -> u64 {
        let rolled = self.hashes.iter().map(|(seed, hash)| mix(*seed, *hash));
        rolled.fold(0, |all, hash| all ^ hash)
    }

    fn held(&self) -> bool {
        self.violations.is_empty() && self.differ.as_ref().is_none_or(Vec::is_empty)
    }

    fn virtual_seconds(&self) -> f64 {
        self.virtual_ns as f64 / 1e9
    }

    /// Every kind of fault, those that never struck too.
    fn faults(&self) -> BTreeMap<&'static str, u64> {
        Reached::of(&self.trace.faults).faults
    }
}

/// `run`: one profile, or every one for its share of the time.
pub(super) fn run(o: &Options) -> Result<bool, String> {
    let mut totals = Vec::new();
    for (profile, part) in shares(o) {
        let mut total = draw(o, profile, part)?;
        if o.twice {
            total.differ = Some(again(o, &total)?);
        }
        if !o.json {
            say(o, &total);
        }
        totals.push(total);
    }
    let reached = reached(&totals)?;
    if o.json {
        println!("{}", document(o, &totals, &reached)?);
    } else {
        say_idle(&reached);
    }
    Ok(totals.iter().all(Total::held) & (!o.complete || is_complete(&reached)))
}

/// `marks`: every profile, and what of the engine they reached.
pub(super) fn marks(o: &Options) -> Result<bool, String> {
    let o = Options {
        every: !o.has_profile,
        seeds: o.seeds.or_else(|| o.minutes.is_none().then_some(1000)),
        ..o.clone()
    };
    let drawn: Result<Vec<Total>, String> = (shares(&o).into_iter())
        .map(|(profile, part)| draw(&o, profile, part))
        .collect();
    let reached = reached(&drawn?)?;
    if reached.marks.is_empty() {
        return Err("this build has no marks: build with --features zoo".into());
    }
    let mut marks: Vec<(&String, &u64)> = reached.marks.iter().collect();
    marks.sort_by_key(|(_, n)| **n);
    for (mark, n) in marks {
        let why = (BEYOND.iter().chain(RARE)).find(|(name, _)| name == mark);
        let why = why.map_or("", |(_, why)| why);
        println!("{n:>10} {mark} {why}");
    }
    let mut faults: Vec<_> = reached.faults.iter().collect();
    faults.sort_by_key(|(_, n)| **n);
    let faults: Vec<String> = faults.iter().map(|(f, n)| format!("{f} {n}")).collect();
    println!("faults: {}", faults.join(", "));
    say_idle(&reached);
    Ok(is_complete(&reached))
}

/// What all of these seeds reached.
fn reached(totals: &[Total]) -> Result<Reached, String> {
    let mut all = Trace::default();
    totals.iter().for_each(|total| all.add(&total.trace));
    let mut reached = Reached::of(&all.faults);
    if cfg!(feature = "zoo") {
        let count = |name: String| {
            let n = sim::zoo::reached(&name);
            (name, n)
        };
        reached.marks = sim::zoo::names("mark")?.into_iter().map(count).collect();
    }
    Ok(reached)
}

fn say_idle(reached: &Reached) {
    let (idle, missed) = (reached.idle_faults(), reached.missed());
    if !idle.is_empty() {
        println!("faults that never struck: {}", idle.join(", "));
    }
    if !missed.is_empty() {
        println!("marks not reached: {}", missed.join(", "));
    }
}

fn is_complete(reached: &Reached) -> bool {
    match reached.check(BEYOND, RARE) {
        Ok(()) => true,
        Err(violation) => {
            eprintln!("VIOLATED {violation}");
            false
        }
    }
}

/// `soak`: every profile with long seeds; each adds a line to the ledger.
pub(super) fn soak(o: &Options) -> Result<bool, String> {
    let o = Options {
        ops: Some(o.ops.unwrap_or(SOAK_OPS)),
        every: !o.has_profile,
        ..o.clone()
    };
    let ledger = o.ledger.as_deref().unwrap_or("sim/soak.jsonl");
    let mut held = true;
    let mut totals = Vec::new();
    for (profile, part) in shares(&o) {
        totals.push(draw(&o, profile, part)?);
        let reached = reached(&totals)?;
        let Some(total) = totals.last() else { break };
        say(&o, total);
        let mut line = counts(&o, total);
        line.insert("commit".into(), json!(o.commit));
        line.insert("ops".into(), json!(o.ops));
        line.insert("long_seeds".into(), json!(total.long.0));
        line.insert("long_events".into(), json!(total.long.1));
        // Of this profile and those before it.
        line.insert("idle_faults".into(), json!(reached.idle_faults()));
        line.insert("marks".into(), json!(reached.marks));
        let text = |e: std::io::Error| format!("{ledger}: {e}");
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(ledger)
            .map_err(text)?;
        writeln!(file, "{}", Value::Object(line)).map_err(text)?;
        held &= total.held();
    }
    let reached = reached(&totals)?;
    say_idle(&reached);
    Ok(held & (!o.complete || is_complete(&reached)))
}

// Profiles, and which part of the time and of the seeds each gets.
fn shares(o: &Options) -> Vec<(Profile, f64)> {
    if o.every {
        let part = |(profile, part): (Profile, u32)| (profile, f64::from(part) / 100.0);
        SHARES.into_iter().map(part).collect()
    } else {
        vec![(o.profile, 1.0)]
    }
}

fn draw(o: &Options, profile: Profile, part: f64) -> Result<Total, String> {
    let started = Instant::now();
    let total = Mutex::new(Total::new(profile));
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let limit = match (o.seeds, o.minutes) {
        (Some(seeds), _) => Some((seeds as f64 * part).ceil() as u64),
        (None, Some(_)) => None,
        (None, None) => Some((100.0 * part).ceil() as u64),
    };
    // The second process takes as long again.
    let twice = if o.twice { 2.0 } else { 1.0 };
    let until = o
        .minutes
        .map(|m| started + Duration::from_secs_f64(m * 60.0 * part / twice));
    let quiet = o.json || !std::io::stderr().is_terminal();
    std::thread::scope(|scope| {
        for _ in 0..o.jobs {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) && until.is_none_or(|u| Instant::now() < u) {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if limit.is_some_and(|limit| n >= limit) {
                        break;
                    }
                    let case = Case {
                        ops: o.ops,
                        ..Case::new(o.base + n, profile)
                    };
                    let ended = run_case(&case, Detail::Counts);
                    let Ok(mut t) = total.lock() else { break };
                    t.seeds += 1;
                    if ended.trace.events >= SOAK_EVENTS {
                        t.long.0 += 1;
                        t.long.1 += ended.trace.events;
                    }
                    t.virtual_ns += u128::from(ended.virtual_ns);
                    t.trace.add(&ended.trace);
                    t.hashes.insert(case.seed, ended.trace.hash);
                    if let Some(violation) = ended.violation {
                        t.violations.push(Found {
                            seed: case.seed,
                            property: violation.property,
                            text: violation.to_string(),
                        });
                        if t.violations.len() >= ENOUGH {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                    if !quiet && t.seeds.is_multiple_of(16) {
                        let seconds = started.elapsed().as_secs_f64();
                        let (rate, bad) = (t.trace.events as f64 / seconds, t.violations.len());
                        eprint!("\r{} seeds, {rate:.0} events/s, {bad} violations ", t.seeds);
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
    total.violations.sort_by_key(|found| found.seed);
    total.seconds = started.elapsed().as_secs_f64();
    Ok(total)
}

// The same seeds in another process must give the same hashes. Says which do not.
fn again(o: &Options, total: &Total) -> Result<Vec<u64>, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut command = std::process::Command::new(program);
    command.args(["run", "--json", "--hashes"]);
    command.args(["--profile", total.profile.name()]);
    command.args(["--seed-base", &o.base.to_string()]);
    command.args(["--seeds", &total.seeds.to_string()]);
    command.args(["--jobs", &o.jobs.to_string()]);
    if let Some(ops) = o.ops {
        command.args(["--ops", &ops.to_string()]);
    }
    if let Some(bug) = &o.bug {
        command.args(["--bug", bug]);
    }
    let output = command.output().map_err(|e| e.to_string())?;
    let value: Value =
        serde_json::from_slice(&output.stdout).map_err(|e| format!("the second process: {e}"))?;
    let same = |seed: &u64, hash: &u64| value["hashes"][seed.to_string()] == json!(shown(*hash));
    let differ = total.hashes.iter().filter(|(seed, hash)| !same(seed, hash));
    Ok(differ.map(|(seed, _)| *seed).collect())
}

fn shown(hash: u64) -> String {
    format!("{hash:016x}")
}

fn replay(o: &Options, profile: Profile, seed: u64) -> String {
    let ops = o.ops.map_or_else(String::new, |n| format!(" --ops {n}"));
    let name = profile.name();
    format!("cargo run --profile sim -p sim -- replay {seed} --profile {name}{ops} --story")
}

// What is said of every run of a profile, as fields.
fn counts(o: &Options, total: &Total) -> Map<String, Value> {
    let violations: Vec<Value> = total
        .violations
        .iter()
        .map(|found| {
            json!({
                "seed": found.seed,
                "property": found.property,
                "violation": found.text,
                "replay": replay(o, total.profile, found.seed),
            })
        })
        .collect();
    let fields = [
        ("profile", json!(total.profile.name())),
        ("seed_base", json!(o.base)),
        ("seeds", json!(total.seeds)),
        ("events", json!(total.trace.events)),
        ("operations", json!(total.trace.operations)),
        ("virtual_seconds", json!(total.virtual_seconds())),
        ("seconds", json!(total.seconds)),
        ("faults", json!(total.faults())),
        ("violations", json!(violations)),
        ("determinism", json!(shown(total.hash()))),
    ];
    fields.map(|(k, v)| (k.to_owned(), v)).into_iter().collect()
}

fn document(o: &Options, totals: &[Total], reached: &Reached) -> Result<Value, String> {
    let mut all = Total::new(o.profile);
    let mut profiles = Vec::new();
    let mut violations = Vec::new();
    for total in totals {
        let mut fields = counts(o, total);
        fields.insert("kinds".into(), json!(total.trace.kinds));
        fields.insert("differ".into(), json!(total.differ));
        if let Some(Value::Array(found)) = fields.get("violations") {
            violations.extend(found.iter().cloned());
        }
        profiles.push(Value::Object(fields));
        all.trace.add(&total.trace);
        all.seeds += total.seeds;
        all.virtual_ns += total.virtual_ns;
        all.seconds += total.seconds;
    }
    let mut out = counts(o, &all);
    let hash = totals.iter().fold(0, |hash, total| mix(hash, total.hash()));
    let same = o.twice.then(|| {
        totals
            .iter()
            .all(|t| t.differ.as_ref().is_some_and(Vec::is_empty))
    });
    let hit: BTreeMap<&String, &u64> = reached.marks.iter().filter(|(_, n)| **n > 0).collect();
    let marks = cfg!(feature = "zoo").then(|| json!({"hit": hit, "missed": reached.missed()}));
    let name = if o.every { "every" } else { o.profile.name() };
    out.insert("profile".into(), json!(name));
    out.insert("kinds".into(), json!(all.trace.kinds));
    out.insert(
        "events_per_second".into(),
        json!(all.trace.events as f64 / all.seconds),
    );
    out.insert("violations".into(), json!(violations));
    out.insert("determinism".into(), json!(shown(hash)));
    out.insert("same_twice".into(), json!(same));
    out.insert("marks".into(), json!(marks));
    out.insert("idle_faults".into(), json!(reached.idle_faults()));
    out.insert("profiles".into(), json!(profiles));
    if o.hashes {
        let hashes = totals.iter().flat_map(|t| &t.hashes);
        let hashes: Map<String, Value> = hashes
            .map(|(seed, hash)| (seed.to_string(), json!(shown(*hash))))
            .collect();
        out.insert("hashes".into(), Value::Object(hashes));
    }
    Ok(Value::Object(out))
}

fn say(o: &Options, total: &Total) {
    let (events, seeds) = (total.trace.events, total.seeds);
    println!(
        "{seeds} seeds of profile {}: {events} events in {:.1} s ({:.0} per second, {:.0} a seed), {} operations, {:.0} s virtual",
        total.profile.name(),
        total.seconds,
        events as f64 / total.seconds,
        events as f64 / seeds.max(1) as f64,
        total.trace.operations,
        total.virtual_seconds(),
    );
    let listed: Vec<String> = total
        .trace
        .faults
        .iter()
        .map(|(d, n)| format!("{} {n}", d.name()))
        .collect();
    println!("faults: {}", listed.join(", "));
    let twice = match &total.differ {
        None => String::new(),
        Some(differ) if differ.is_empty() => ", each seed the same in a second process".into(),
        Some(differ) => format!(", ANOTHER ONE in a second process for seeds {differ:?}"),
    };
    println!("determinism {}{twice}", shown(total.hash()));
    for found in &total.violations {
        let text: String = found.text.chars().take(600).collect();
        let replay = replay(o, total.profile, found.seed);
        println!("VIOLATED by seed {}: {text}\n  {replay}", found.seed);
    }
}

/// `canary`: a bug is on; whether it was noticed in time.
#[cfg(feature = "zoo")]
pub(super) fn canary(o: &Options) -> Result<bool, String> {
    let name = o.rest.first().map_or("flush-at-once", String::as_str);
    super::bug(Some(name))?;
    let started = Instant::now();
    let until = started + Duration::from_secs_f64(o.minutes.unwrap_or(1.0) * 60.0);
    let mut seed = o.base;
    while Instant::now() < until {
        let case = Case {
            ops: o.ops,
            ..Case::new(seed, o.profile)
        };
        seed += 1;
        if let Some(violation) = run_case(&case, Detail::Counts).violation {
            let (seeds, seconds) = (seed - o.base, started.elapsed().as_secs_f64());
            println!("{name} is noticed after {seeds} seeds, {seconds:.1} s: {violation}");
            return Ok(true);
        }
    }
    println!("{name} is on and {} seeds notice nothing", seed - o.base);
    Ok(false)
}

/// `canary` needs the bugs.
#[cfg(not(feature = "zoo"))]
pub(super) fn canary(_: &Options) -> Result<bool, String> {
    super::bug(Some("")).map(|()| false)
}
