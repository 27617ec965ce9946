//! The simulator's Swift against a real one: whatever the real one answers to random requests must be allowed, and
//! hardly any altered answer may be.
//!
//! `MARTLET_SEED` chooses another seed than the one of every day, `MARTLET_LONG` adds forty with nodes away. Where an answer is not allowed, the requests on that
//! object and their answers are printed.

mod http;
mod runner;

use runner::{Runner, md5};
use sim::accept::Acceptor;
use sim::accept::alter::{Alteration, rejections};
use sim::accept::generate::{Shape, plan};
use sim::accept::trace::{Exchange, Step, Trace};
use std::collections::BTreeMap;
use std::time::Instant;
use testkit::{Swift, SwiftOptions};

/// Altered traces of a kind, over all traces.
const ALTERED: u32 = 60;

fn exchanges(trace: &Trace) -> impl Iterator<Item = &Exchange> {
    trace.steps.iter().flat_map(|s| match s {
        Step::Ask(exchanges) => exchanges.as_slice(),
        _ => &[],
    })
}

// What the servers say of an object, server by server: the last lines that name it.
fn said_of(swift: &Swift, path: &str) -> String {
    let logs = std::fs::read_dir(swift.folder().join("log"));
    let mut logs: Vec<_> = logs
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .collect();
    logs.sort();
    let mut said = String::new();
    for log in logs {
        let text = std::fs::read(&log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().filter(|l| l.contains(path)).collect();
        for line in &lines[lines.len().saturating_sub(12)..] {
            let server = log.file_stem().unwrap_or_default().to_string_lossy();
            said.push_str(&format!("{server}: {line}\n"));
        }
    }
    said
}

// Panics with the story of an object when an answer is not allowed.
fn check_allowed(swift: &Swift, what: &str, seed: u64, trace: &Trace) {
    let Err(refusal) = Acceptor::accept(trace.cluster.clone(), &trace.steps) else {
        return;
    };
    let about = |step: &Step| match step {
        Step::Ask(exchanges) => exchanges
            .first()
            .map(|e| (e.asked.container.clone(), e.asked.name.clone())),
        _ => None,
    };
    let subject = about(&trace.steps[refusal.step]).unwrap_or_default();
    let concerns = |step: &Step| {
        about(step).is_none_or(|(container, name)| {
            container == subject.0 && (name == subject.1 || name.is_empty() || subject.1.is_empty())
        })
    };
    let story: Vec<String> = trace.steps[..=refusal.step]
        .iter()
        .enumerate()
        .filter(|(_, s)| concerns(s))
        .map(|(n, s)| format!("{n:5} {s}"))
        .collect();
    let last = story.len().saturating_sub(40);
    let path = format!("{}/{}", subject.0, subject.1);
    panic!(
        "{what}, MARTLET_SEED={seed}: not allowed\n{}\n{refusal}\nits nodes, primaries first: {:?}\n{}",
        story[last..].join("\n"),
        trace.cluster.places.get(&path),
        said_of(swift, &path),
    );
}

#[test]
fn a_real_swift_answers_as_the_model_allows_and_an_altered_one_does_not() {
    let seed = std::env::var("MARTLET_SEED")
        .ok()
        .and_then(|s| s.parse().ok());
    let seed: u64 = seed.unwrap_or(1);
    let swift = Swift::start(&SwiftOptions {
        replicas: 3,
        nodes: 5,
        error_interval: 0,
        conn_timeout_ms: 5000,
        ..SwiftOptions::default()
    });
    let calm = Shape {
        requests: 1100,
        outages: false,
        late_proxy: 6,
        races: 12,
    };
    let still = Shape {
        requests: 300,
        late_proxy: 40,
        races: 0,
        ..calm
    };
    let rough = Shape {
        requests: 700,
        outages: true,
        late_proxy: 5,
        races: 8,
    };
    let mut table: BTreeMap<Alteration, (u32, u32)> = BTreeMap::new();
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut runner = Runner::new(&swift, false);
    let mut run = |runner: &mut Runner<'_>, what, seed, tag: &str, shape: Shape| {
        let start = Instant::now();
        let trace = runner.run(plan(seed, tag, shape, md5));
        let asked = start.elapsed();
        check_allowed(&swift, what, seed, &trace);
        let checked = start.elapsed() - asked;
        eprintln!("{what}: asked in {asked:.1?}, checked in {checked:.1?}");
        for exchange in exchanges(&trace) {
            let kind = exchange.asked.request.kind();
            *counts.entry((kind, what)).or_default() += 1;
        }
        if !shape.outages {
            for (kind, (rejected, tried)) in
                rejections(&trace, ALTERED).expect("it was allowed just now")
            {
                let sum = table.entry(kind).or_default();
                sum.0 += rejected;
                sum.1 += tried;
            }
        }
    };
    run(&mut runner, "all up", seed, "calm", calm);
    run(&mut runner, "nodes away", seed, "rough", rough);
    if std::env::var_os("MARTLET_LONG").is_some() {
        for more in 1..=40 {
            run(
                &mut runner,
                "nodes away",
                seed + more,
                &format!("rough{more}"),
                rough,
            );
        }
    }
    let mut runner = Runner::new(&swift, true);
    run(&mut runner, "a clock stands", seed, "still", still);

    report(&counts, &table);
    let asked: usize = counts.values().sum();
    assert!(asked >= 2000, "{asked} requests");
    for kind in Alteration::ALL {
        let (rejected, tried) = table.get(kind).copied().unwrap_or_default();
        assert!(tried > 0, "{} was never tried", kind.name());
        assert!(
            rejected * 10 >= tried * 9,
            "{}: only {rejected} of {tried} rejected",
            kind.name()
        );
    }
}

fn report(counts: &BTreeMap<(&str, &str), usize>, table: &BTreeMap<Alteration, (u32, u32)>) {
    let columns = ["all up", "nodes away", "a clock stands"];
    eprintln!(
        "{:24}{:>10}{:>14}{:>16}",
        "requests, all allowed", columns[0], columns[1], columns[2]
    );
    let mut kinds: Vec<&str> = counts.keys().map(|(kind, _)| *kind).collect();
    kinds.dedup();
    let cell = |kind: &str, column: usize| -> usize {
        counts.get(&(kind, columns[column])).copied().unwrap_or(0)
    };
    for kind in kinds {
        eprintln!(
            "{kind:24}{:>10}{:>14}{:>16}",
            cell(kind, 0),
            cell(kind, 1),
            cell(kind, 2)
        );
    }
    eprintln!("{:48}{:>10}{:>12}", "altered answers", "rejected", "of");
    for (kind, (rejected, tried)) in table {
        eprintln!("{:48}{rejected:>10}{tried:>12}", kind.name());
    }
}
