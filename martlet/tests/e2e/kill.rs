//! `kill -9` in a loop under a verifying writer: no acknowledged write is lost, nothing is read that was never written.

use crate::support::initiator::Initiator;
use crate::support::{Dice, Folder, Host, Store, stamps, text};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const BLOCKS: u64 = (16 << 20) / 512;

/// Writes in flight.
const DEPTH: usize = 12;

/// What each block may hold.
struct Model {
    /// The last write that was answered, or that was seen since.
    known: Vec<u64>,
    /// Writes that were sent and not answered: any of them may be there, or not.
    open: BTreeMap<u64, (u64, u64)>,
    next: u64,
}

impl Model {
    fn new() -> Self {
        Self {
            known: vec![0; BLOCKS as usize],
            open: BTreeMap::new(),
            next: 1,
        }
    }

    /// Writes at random until the connection breaks or `until`.
    fn write(&mut self, session: &mut Initiator, dice: &mut Dice, until: Instant) {
        let mut by_tag = BTreeMap::new();
        let mut busy: BTreeSet<u64> = BTreeSet::new();
        loop {
            while by_tag.len() < DEPTH && Instant::now() < until {
                let blocks = match dice.below(4) {
                    0 => 1,
                    1 => 8,
                    2 => 1 + dice.below(16),
                    _ => 1 + dice.below(128),
                };
                let lba = dice.below(BLOCKS - blocks);
                // Two writes in flight to one block have no order that the model could know.
                if busy.range(lba..lba + blocks).next().is_some() {
                    continue;
                }
                let number = self.next;
                self.next += 1;
                self.open.insert(number, (lba, blocks));
                busy.extend(lba..lba + blocks);
                let fua = dice.below(8) == 0;
                let data = stamps::extent(lba, blocks, number);
                match session.write(lba, &data, fua) {
                    Ok(tag) => by_tag.insert(tag, number),
                    Err(_) => return,
                };
            }
            if by_tag.is_empty() {
                return;
            }
            let Ok(answer) = session.next() else {
                return;
            };
            let number = by_tag.remove(&answer.tag).expect("one of ours");
            if answer.is_good() {
                let (lba, blocks) = self.open.remove(&number).expect("open");
                self.known[lba as usize..(lba + blocks) as usize].fill(number);
                for lba in lba..lba + blocks {
                    busy.remove(&lba);
                }
            }
        }
    }

    /// Reads everything and compares; what is found is known from then on.
    fn verify(&mut self, session: &mut Initiator) {
        const AT_ONCE: u64 = 256;
        for start in (0..BLOCKS).step_by(AT_ONCE as usize) {
            let bytes = session.read_now(start, AT_ONCE as u32).expect("a read");
            for (lba, block) in (start..).zip(bytes.chunks_exact(512)) {
                let found = stamps::number(lba, block);
                let known = self.known[lba as usize];
                let may = |n: &u64| {
                    self.open
                        .get(n)
                        .is_some_and(|(at, count)| (*at..at + count).contains(&lba))
                };
                assert!(
                    found == known || may(&found),
                    "block {lba} holds write {found}; the last that was answered is {known}"
                );
                self.known[lba as usize] = found;
            }
        }
        self.open.clear();
    }
}

fn kill_loop(store: &Store, folder: &Folder, rounds: u64, seed: u64) {
    let host = Host::new(store, &folder.join("state"))
        .with("limits.journal_file=2MiB")
        .with("limits.journal=16MiB");
    host.json(&["volume", "create", "vm", "--size", "16MiB"]);
    let mut dice = Dice::new(seed);
    let mut model = Model::new();
    let mut asked = Vec::new();
    for round in 0..rounds {
        let daemon = host.serve();
        let mut session = daemon.login("vm");
        model.verify(&mut session);
        let snapshot = (round % 3 == 2).then(|| format!("vm@k{round}"));
        let life = Duration::from_millis(20 + dice.below(300));
        let under_way = snapshot.as_ref().map(|name| {
            asked.push(name.clone());
            host.begin(&["snapshot", "create", name])
        });
        let until = Instant::now() + life;
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| model.write(&mut session, &mut dice, until + life));
            std::thread::sleep(life);
            daemon.kill();
            writer.join().expect("the writer");
        });
        if let Some(mut child) = under_way {
            child.wait().expect("it ends");
        }
    }
    let daemon = host.serve();
    let mut session = daemon.login("vm");
    model.verify(&mut session);
    // A snapshot that was interrupted is there whole, or not at all.
    let listed = host.json(&["snapshot", "list", "vm"]);
    let exported = folder.join("k.raw");
    for snapshot in listed["snapshots"].as_array().unwrap() {
        let name = format!("vm@{}", snapshot["name"].as_str().unwrap());
        assert!(asked.contains(&name), "{name} was never asked for");
        host.json(&["volume", "export", &name, text(&exported)]);
        let bytes = std::fs::read(&exported).unwrap();
        for (lba, block) in (0..).zip(bytes.chunks_exact(512)) {
            stamps::number(lba, block);
        }
    }
    // And the volume goes on: a snapshot now says what the model says.
    host.json(&["snapshot", "create", "vm@last"]);
    host.json(&["volume", "export", "vm@last", text(&exported)]);
    let bytes = std::fs::read(&exported).unwrap();
    for (lba, block) in (0..).zip(bytes.chunks_exact(512)) {
        assert_eq!(stamps::number(lba, block), model.known[lba as usize]);
    }
    assert!(model.next > rounds, "nothing was written");
}

#[test]
fn no_answered_write_is_lost_on_a_directory() {
    let folder = Folder::new("kill-dir");
    let rounds = if testkit::is_long() { 1000 } else { 50 };
    kill_loop(&Store::dir(&folder.0), &folder, rounds, 1);
}

#[test]
fn no_answered_write_is_lost_on_swift() {
    let folder = Folder::new("kill-swift");
    let rounds = if testkit::is_long() { 100 } else { 5 };
    kill_loop(&Store::swift(), &folder, rounds, 2);
}
