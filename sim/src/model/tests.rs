//! Small configurations, whole; each wrong protocol, found; and the engine's machine beside the model's.

use super::host::Label;
use super::lone::{Lone, drive};
use super::state::State;
use super::store::Put;
use super::*;
use crate::payload::Blocks;
use engine::attach::{Ask, Attach, End, How, Spec};
use engine::effect::{Expect, GetRequest, Meta, Outcome, Receipt, StoreError, StoreRequest, Token};
use engine::ids::{
    AttachId, Container, Generation, Hash, Holder, Seq, StateDirId, Version, VolumeId,
};
use engine::limits::{Life, Limits};
use engine::object::names::{ObjectName, RootName};
use engine::table::types::{Root, RootKind, Superblock, VolumeKind};
use engine::time::{Instant, WallTime};
use engine::units::{BlockCount, Geometry};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// More states than any of the small ones has: a run that reaches it says so.
const MANY: u64 = 300_000;

#[track_caller]
fn check_holds(name: &str) {
    let rules = Rules::named(name).expect("it is one of them");
    let found = search(&rules, MANY, 31, Forks::Break);
    assert!(found.broken.is_none(), "{name}: {:#?}", found.broken);
    assert!(found.is_complete, "{name} has more than {MANY} states");
    assert!(found.driven > 0, "{name}: lone takers were driven");
}

#[test]
fn a_taker_against_a_holder_holds() {
    check_holds("duel");
}

#[test]
fn two_takers_hold() {
    check_holds("race");
}

#[test]
fn a_clone_during_a_take_over_holds() {
    check_holds("clone");
}

#[track_caller]
fn check_found(wrong: Wrong, name: &str, invariant: &str) {
    let rules = Rules::named(name).expect("it is one of them");
    let rules = Rules {
        wrong: Some(wrong),
        ..rules
    };
    let broken = search(&rules, MANY, 0, Forks::Break)
        .broken
        .expect("it is found");
    assert_eq!(broken.invariant, invariant, "{broken:#?}");
    assert!(broken.story.len() > 10, "a story is told: {broken:#?}");
    assert!(
        broken
            .story
            .iter()
            .all(|line| !line.contains("way is lost")),
        "{broken:#?}"
    );
}

#[test]
fn look_before_the_root_is_found() {
    check_found(
        Wrong::LookBeforeRoot,
        "duel",
        "answered is in the history (I3)",
    );
}

#[test]
fn nonce_from_the_claim_is_found() {
    check_found(Wrong::NonceFromClaim, "stall", "who serves is followed");
}

#[test]
fn roots_before_the_door_is_found() {
    check_found(
        Wrong::RootsBeforeDoor,
        "duel",
        "answered is in the history (I3)",
    );
}

#[test]
fn get_and_compare_is_found() {
    check_found(Wrong::GetConfirms, "duel", "a base is confirmed");
    check_found(Wrong::GetConfirms, "race", "one winner per generation (I2)");
}

#[test]
fn no_second_put_of_the_base_is_found() {
    check_found(Wrong::NoSecondPut, "duel", "a base is confirmed");
}

#[test]
fn skipped_doors_left_open_are_found() {
    check_found(
        Wrong::DoorsLeftOpen,
        "burnt",
        "answered is in the history (I3)",
    );
}

#[test]
fn steps_left_out_are_found() {
    check_found(Wrong::NoStep4, "race", "one winner per generation (I2)");
    check_found(Wrong::NoStep6, "race", "one winner per generation (I2)");
    check_found(Wrong::NoStep9, "race", "who serves is followed");
}

#[test]
fn deletes_before_the_look_are_found() {
    let broken = "no delete of what the history reaches";
    check_found(Wrong::DeleteBeforeLook, "duel", broken);
}

#[test]
fn a_judge_of_the_history_is_found() {
    let broken = "one server without a take-over";
    check_found(Wrong::JudgeTheHistory, "handover", broken);
}

#[test]
fn a_pin_before_its_clone_is_found() {
    let broken = "no delete of what a clone reaches";
    check_found(Wrong::PinBeforeChild, "clone", broken);
    check_found(Wrong::BornBeforeLook, "clone", broken);
}

#[test]
fn without_a1_the_fork_is_found() {
    let rules = Rules::named("liar").expect("it is one of them");
    let found = search(&rules, MANY, 0, Forks::Break);
    assert!(is_as_wanted(&rules, &found), "{:#?}", found.broken);
    assert_eq!(
        found.broken.map(|broken| broken.invariant),
        Some(invariants::FORK)
    );
}

#[test]
fn the_command_line_knows_every_name() {
    for rules in Rules::ALL {
        assert!(USAGE.contains(rules.name), "{}", rules.name);
    }
    for (name, _) in Wrong::ALL {
        assert!(USAGE.contains(name), "{name}");
    }
    let words = |text: &str| text.split(' ').map(str::to_string).collect::<Vec<_>>();
    let mut lines = Vec::new();
    let mut say = |line: &str| lines.push(line.to_string());
    assert_eq!(run(&words("--config race"), &mut say), Ok(true));
    assert_eq!(
        run(&words("--config race --wrong no-step-4"), &mut say),
        Ok(true)
    );
    assert!(run(&words("--config nowhere"), &mut say).is_err());
    assert!(
        lines
            .iter()
            .any(|line| line.contains("one winner per generation"))
    );
}

// The model's lone taker and the engine's own machine, side by side.

/// What both do in one order; searches are one step each.
const ORDER: [&str; 9] = [
    "put claim",
    "see door",
    "put door",
    "see claim",
    "see opened",
    "see root",
    "put root",
    "put opened",
    "see door",
];

#[test]
fn the_models_lone_taker_goes_in_order() {
    let rules = Rules::named("duel").expect("it is one of them");
    let mut lines: Vec<&str> = Vec::new();
    let end = drive(&State::first(&rules), &rules, |label| {
        let line = match label {
            Label::Confirmed(_, Put::Claim(..)) => "put claim",
            Label::Confirmed(_, Put::Door(_)) => "put door",
            Label::Confirmed(_, Put::Root(_)) => "put root",
            Label::Confirmed(_, Put::Opened(..)) => "put opened",
            Label::Reads(_, text) if text.contains("(4)") || text.contains("looks") => "see door",
            Label::Reads(_, text) if text.contains("(6)") => "see claim",
            Label::Reads(_, text) if text.contains("opened below") => "see opened",
            Label::Reads(_, text) if text.contains("(7)") => "see root",
            _ => return,
        };
        if lines.last() != Some(&line) {
            lines.push(line);
        }
    });
    assert!(matches!(end, Lone::Serves));
    assert_eq!(lines, ORDER);
}

#[test]
fn the_engines_machine_goes_in_the_same_order() {
    let mut store = Shelf::born();
    let mut lines: Vec<&str> = Vec::new();
    let life = Life {
        host: "taker".into(),
        state_dir: StateDirId(2),
        seed: 1,
        wall: WallTime(0),
    };
    let how = How {
        take_over: true,
        accept_loss: true,
        ..How::default()
    };
    let mut machine = Attach::new(Spec::new(container(), &life, &Limits::default(), 1), how);
    let (mut now, mut pending) = (Instant(0), VecDeque::new());
    let won = 'run: loop {
        while let Some(ask) = machine.poll::<Blocks>(now) {
            match ask {
                Ask::Store { slot, request } => pending.push_back((slot, request)),
                Ask::Record(_) => machine.recorded(now),
                Ask::Join(_) => machine.joined(now),
                Ask::End(end) => break 'run *end,
            }
        }
        let Some((slot, request)) = pending.pop_front() else {
            now = machine.poll_timeout().expect("it waits for something");
            continue;
        };
        // Steps 1 and 2 are one step in the model; here they end with the claim.
        let line = line(&request);
        if (line == "put claim" || !lines.is_empty()) && lines.last() != Some(&line) {
            lines.push(line);
        }
        let outcome = store.answer(request);
        machine.handle(now, slot, outcome);
    };
    assert!(matches!(won, End::Opened(_)), "{won:?}");
    // The roots' listing and the opened of the own look have no step of their own in the model; the highest opened
    // below is known from step 2 when no number lies between.
    lines.retain(|line| *line != "list");
    lines.dedup();
    let mut order = ORDER.to_vec();
    order.retain(|line| *line != "see opened");
    order.push("see opened");
    assert_eq!(lines, order);
}

fn line(request: &StoreRequest<Blocks>) -> &'static str {
    match request {
        StoreRequest::Get(get) => match get.name {
            ObjectName::Claim(_) => "see claim",
            ObjectName::Door(_) => "see door",
            ObjectName::Opened(_) => "see opened",
            ObjectName::Root(_) => "see root",
            _ => "see volume",
        },
        StoreRequest::Put { name, .. } => match name {
            ObjectName::Claim(_) => "put claim",
            ObjectName::Door(_) => "put door",
            ObjectName::Opened(_) => "put opened",
            ObjectName::Root(_) => "put root",
            _ => "put something else",
        },
        _ => "list",
    }
}

fn container() -> Container {
    Container::new("disk", VolumeId([1; 16]))
}

/// A store that keeps its word: a volume of one generation and one root.
struct Shelf(BTreeMap<ObjectName, Option<Meta>>);

impl Shelf {
    fn born() -> Self {
        let attach = AttachId {
            generation: Generation(1),
            nonce: 7,
        };
        let token = Meta::Token(Token {
            attach,
            holder: Holder::default(),
            base: None,
        });
        let name = RootName {
            version: Version(0),
            attach,
        };
        let geometry = Geometry::standard(4096, BlockCount(8));
        let superblock = Superblock {
            container: container(),
            geometry,
            kind: VolumeKind::Disk,
            created: WallTime(0),
            parent: None,
        };
        let root = Root {
            container: container(),
            geometry,
            name,
            ordinal: 1,
            parent: None,
            kind: RootKind::Born,
            cut: Seq(0),
            created: WallTime(0),
            snapshots: Vec::new(),
            pins: Vec::new(),
            dying: Vec::new(),
            attributes: BTreeMap::new(),
            losses: Vec::new(),
            leaves: BTreeMap::new(),
            riding: BTreeMap::new(),
        };
        Self(BTreeMap::from([
            (
                ObjectName::Volume,
                Some(Meta::Superblock(Arc::new(superblock))),
            ),
            (ObjectName::Claim(attach.generation), Some(token.clone())),
            (ObjectName::Door(attach.generation), None),
            (ObjectName::Opened(attach.generation), Some(token)),
            (ObjectName::Root(name), Some(Meta::Root(Arc::new(root)))),
        ]))
    }

    fn answer(&mut self, request: StoreRequest<Blocks>) -> Outcome<Blocks> {
        use engine::effect::Body;
        match request {
            StoreRequest::Get(GetRequest { name, expect, .. }) => match self.0.get(&name) {
                None => Outcome::Store(StoreError::Absent),
                Some(_) if expect == Expect::Exists => Outcome::Exists,
                Some(meta) => {
                    Outcome::Meta(meta.clone().expect("doors are not read"), Hash::default())
                }
            },
            StoreRequest::Put { name, body, .. } => {
                let meta = match body {
                    Body::Token(token) => Some(Meta::Token(token)),
                    Body::RootAgain(root) => Some(Meta::Root(root)),
                    _ => None,
                };
                self.0.insert(name, meta);
                Outcome::Put(Receipt::default())
            }
            _ => Outcome::Names(Vec::new()),
        }
    }
}
