//! Races for one volume on a real Swift of three replicas, with harm on the wire and servers killed in the middle.

use crate::support::{Dice, Folder, Host, Store};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use testkit::{Exchange, Fault, Relay, Rule, Swift, SwiftOptions};

/// The absence rule in a tenth: the races are about the order of requests, not about time.
const GAP: &str = "limits.absence_gap=200ms";

/// One volume that is raced for, and what was won.
struct Lane {
    volume: String,
    hosts: Vec<Host>,
    relays: Vec<Relay>,
    dice: Dice,
    won: BTreeMap<u64, u64>,
}

impl Lane {
    fn new(store: &Store, port: u16, folder: &Folder, number: u64) -> Self {
        let relays: Vec<Relay> = (0..4)
            .map(|_| Relay::start(port).expect("a port"))
            .collect();
        let through = |(n, relay): (usize, &Relay)| {
            let host = Host::new(store, &folder.join(&format!("host{number}-{n}")));
            host.with(GAP)
                .with("swift.exchange_timeout=2s")
                .with("swift.put_deadline=8s")
                .through(&relay.url())
        };
        let hosts: Vec<Host> = relays.iter().enumerate().map(through).collect();
        let volume = format!("vm{number}");
        hosts[0]
            .run(&["volume", "create", &volume, "--size", "64MiB"])
            .good();
        Self {
            volume,
            hosts,
            relays,
            dice: Dice::new(0x5eed + number),
            won: BTreeMap::new(),
        }
    }

    /// Lets the first so many hosts attach at once.
    fn attach(&self, takers: usize) -> Vec<(i32, Value, String)> {
        let begin = |host: &Host| {
            host.begin(&[
                "volume",
                "attach",
                &self.volume,
                "--take-over",
                "--accept-loss",
                "--json",
            ])
        };
        let children: Vec<_> = self.hosts[..takers].iter().map(begin).collect();
        let end = |child: std::process::Child| {
            let output = child.wait_with_output().expect("it ends");
            let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
            let story = String::from_utf8_lossy(&output.stderr).into_owned();
            (output.status.code().unwrap_or(-1), answer, story)
        };
        children.into_iter().map(end).collect()
    }

    /// One race, with harm on the wire; every other one with two of three object servers killed in the middle.
    fn race(&mut self, swift: &Swift, round: u64) {
        let takers = 2 + self.dice.below(3) as usize;
        for relay in &self.relays {
            let path =
                ["/claims/", "/doors/", "/opened/", "/versions/"][self.dice.below(4) as usize];
            match self.dice.below(4) {
                0 => relay.add(Rule::once(
                    "PUT",
                    path,
                    Fault::StallRequest(self.dice.below(20)),
                )),
                1 => relay.add(Rule::once("PUT", path, Fault::StallAnswer)),
                2 => relay.add(Rule::once("PUT", path, Fault::LoseAnswer)),
                _ => {}
            }
        }
        let killed_at = ["/claims/", "/opened/", "/versions/", ""][self.dice.below(4) as usize];
        let pause = Duration::from_millis(50 + self.dice.below(400));
        let ends = std::thread::scope(|scope| {
            let racing = scope.spawn(|| self.attach(takers));
            if !killed_at.is_empty() {
                let is_there = |e: &Exchange| e.method == "PUT" && e.path.contains(killed_at);
                self.relays[0].wait_until(Duration::from_secs(5), |log| log.iter().any(is_there));
                swift.tell("kill object2 object3");
                std::thread::sleep(pause);
                swift.tell("start object2 object3");
            }
            while !racing.is_finished() {
                std::thread::sleep(pause);
                self.relays.iter().for_each(Relay::release);
            }
            racing.join().expect("the race ends")
        });
        for (code, _, story) in &ends {
            assert!(
                matches!(code, 0 | 5 | 6 | 10),
                "round {round}: exit {code}: {story}"
            );
        }
        self.note(&ends, round);
        for relay in &self.relays {
            relay.clear();
            relay.clear_log();
        }
    }

    fn note(&mut self, ends: &[(i32, Value, String)], round: u64) {
        for (_, answer, _) in ends.iter().filter(|(code, ..)| *code == 0) {
            let generation = answer["generation"].as_u64().expect("a generation");
            let other = self.won.insert(generation, round);
            assert_eq!(
                other, None,
                "generation {generation} was won twice, again in round {round}"
            );
        }
    }
}

/// 2 to 4 takers at once, claims and openings stalled, object servers killed in the middle: a generation never has two
/// winners, and a lone taker gets through in the end.
#[test]
fn races_of_takers_have_at_most_one_winner_of_a_generation() {
    let folder = Folder::new("races");
    let swift = Swift::start(&SwiftOptions {
        replicas: 3,
        error_interval: 0,
        node_timeout: 1,
        ..SwiftOptions::default()
    });
    let port = swift.port("proxy");
    let store = Store::Swift(Box::new(swift));
    let Store::Swift(swift) = &store else {
        unreachable!("a Swift");
    };
    // The races are mostly waits, so some are held side by side.
    let (store, folder) = (&store, &folder);
    let (lanes, rounds) = if testkit::is_long() { (4, 125) } else { (4, 5) };
    let won: usize = std::thread::scope(|scope| {
        let run = move |number| {
            let mut lane = Lane::new(store, port, folder, number);
            (0..rounds).for_each(|round| lane.race(swift, round));
            let raced = lane.won.len();
            let end = lane.attach(1);
            assert_eq!(end[0].0, 0, "{}", end[0].2);
            lane.note(&end, rounds);
            raced
        };
        let lanes: Vec<_> = (0..lanes).map(|n| scope.spawn(move || run(n))).collect();
        lanes
            .into_iter()
            .map(|lane| lane.join().expect("a lane ends"))
            .sum()
    });
    eprintln!("{} races, {won} winners", lanes * rounds);
}
