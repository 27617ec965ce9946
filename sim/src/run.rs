//! One run from a seed, and what is to be said of it.

use crate::choice::{Choices, Edits};
use crate::config::{Bounds, Config, Profile};
use crate::oracle::Violation;
use crate::trace::Trace;
use crate::world::World;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The seed.
    pub seed: u64,
    /// The family of trouble.
    pub profile: Profile,
    /// The seed that draws the configuration; `None`: `seed`. A shrunk case keeps the swarm of the run it came from.
    pub config_seed: Option<u64>,
    /// Guest operations; `None`: the seed decides.
    pub ops: Option<u64>,
    /// What else is smaller than the seed draws it.
    pub bounds: Bounds,
    /// What is taken out.
    pub edits: Edits,
}

impl Case {
    /// That seed, whole.
    pub fn new(seed: u64, profile: Profile) -> Self {
        Self {
            seed,
            profile,
            config_seed: None,
            ops: None,
            bounds: Bounds::default(),
            edits: Edits::default(),
        }
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Ended {
    /// What happened.
    pub trace: Trace,
    /// Virtual time, in nanoseconds.
    pub virtual_ns: u64,
    /// The first property that did not hold.
    pub violation: Option<Violation>,
}

/// How much is written down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Detail {
    /// Counts and the hash.
    Counts,
    /// Which operations were asked and which faults struck, too.
    Entities,
    /// And the story.
    Story,
}

/// Runs a case to its end.
pub fn run(case: &Case, detail: Detail) -> Ended {
    let mut choices = Choices::seeded(case.seed, case.edits.clone());
    let mut config = match case.config_seed {
        Some(seed) => {
            let mut drawn = Choices::seeded(seed, case.edits.clone());
            Config::draw(&mut drawn, case.profile, case.ops)
        }
        None => Config::draw(&mut choices, case.profile, case.ops),
    };
    config.bound(&case.bounds);
    let trace = Trace {
        detailed: detail != Detail::Counts,
        story: (detail == Detail::Story).then(|| vec![format!("{config:#?}")]),
        ..Trace::default()
    };
    run_world(choices, config, trace)
}

/// Runs a world to its end; a panic of the engine is a violation of R3.
pub fn run_world(choices: Choices, config: Config, trace: Trace) -> Ended {
    panics::arm();
    let mut world = None;
    let result = catch_unwind(AssertUnwindSafe(|| {
        world.insert(World::new(choices, config, trace)).run()
    }));
    let panicked = result.is_err();
    let mut violation = result.unwrap_or(None);
    if panicked {
        violation = Some(Violation::new("R3", panics::take()));
    }
    let (trace, virtual_ns) = match world {
        Some(world) => (world.trace, world.now),
        None => (Trace::default(), 0),
    };
    Ended {
        trace,
        virtual_ns,
        violation,
    }
}

mod panics {
    //! Keeps the text of a panic, and keeps it from the terminal.

    use std::cell::RefCell;
    use std::sync::Once;

    thread_local! {
        static LAST: RefCell<String> = const { RefCell::new(String::new()) };
        static ARMED: RefCell<bool> = const { RefCell::new(false) };
    }

    pub(super) fn arm() {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let usual = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                if ARMED.with(|a| *a.borrow()) {
                    LAST.with(|l| *l.borrow_mut() = info.to_string().replace('\n', " "));
                } else {
                    usual(info);
                }
            }));
        });
        ARMED.with(|a| *a.borrow_mut() = true);
    }

    pub(super) fn take() -> String {
        LAST.with(|l| std::mem::take(&mut *l.borrow_mut()))
    }
}
