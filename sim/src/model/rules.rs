//! What a run of the model allows, and the known-wrong protocols that it must find wrong.

/// A protocol that is wrong in one place. Each must be found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// The snapshot looks, then stores its root, then answers.
    LookBeforeRoot,
    /// Step 7 takes the attachment to follow from `claims/<o>`, which a stalled PUT may overwrite.
    NonceFromClaim,
    /// Step 7 before step 5.
    RootsBeforeDoor,
    /// A GET that shows our bytes is taken for a confirmation.
    GetConfirms,
    /// Step 7 does not PUT the base again.
    NoSecondPut,
    /// Step 3 leaves the doors of burnt numbers open.
    DoorsLeftOpen,
    /// Step 4 left out.
    NoStep4,
    /// Step 6 left out.
    NoStep6,
    /// Step 9 left out.
    NoStep9,
    /// Objects are deleted on the word of a root before its look.
    DeleteBeforeLook,
    /// A volume counts as free when the newest root of its *history* is of kind detached, not of the attachment.
    JudgeTheHistory,
    /// A clone's pin is published before the clone's superblock is stored.
    PinBeforeChild,
    /// A clone's born root is stored before the pin's root has looked.
    BornBeforeLook,
}

impl Wrong {
    /// All of them, with the names that the command line knows.
    pub const ALL: [(&'static str, Self); 13] = [
        ("look-before-root", Self::LookBeforeRoot),
        ("nonce-from-claim", Self::NonceFromClaim),
        ("roots-before-door", Self::RootsBeforeDoor),
        ("get-confirms", Self::GetConfirms),
        ("no-second-put", Self::NoSecondPut),
        ("doors-left-open", Self::DoorsLeftOpen),
        ("no-step-4", Self::NoStep4),
        ("no-step-6", Self::NoStep6),
        ("no-step-9", Self::NoStep9),
        ("delete-before-look", Self::DeleteBeforeLook),
        ("judge-the-history", Self::JudgeTheHistory),
        ("pin-before-child", Self::PinBeforeChild),
        ("born-before-look", Self::BornBeforeLook),
    ];
}

/// What one host may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Part {
    /// Attaches with `--take-over`; otherwise only to what is detached or its own.
    pub takes_over: bool,
    /// Attempts to attach, lost ones too.
    pub tries: u8,
    /// Crashes, each with a restart.
    pub crashes: u8,
    /// Roots that it publishes while it serves.
    pub publishes: u8,
    /// Deletes what its newest root calls dead.
    pub collects: bool,
    /// Publishes its last root as `detached`.
    pub detaches: bool,
    /// Makes a clone of the snapshot.
    pub clones: bool,
    /// Deletes the snapshot, and pins of clones that are gone.
    pub drops: bool,
}

/// A configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Its name on the command line.
    pub name: &'static str,
    /// Host 0 holds the volume at the beginning.
    pub hosts: [Part; 3],
    /// The highest generation that is claimed.
    pub generations: u8,
    /// Short false answers that the store may give: above 0, assumption A1 does not hold.
    pub lies: u8,
    /// Timestamps of claims may be in another order than the claims.
    pub skew: bool,
    /// What is wrong.
    pub wrong: Option<Wrong>,
}

const IDLE: Part = Part {
    takes_over: false,
    tries: 0,
    crashes: 0,
    publishes: 0,
    collects: false,
    detaches: false,
    clones: false,
    drops: false,
};

const TAKER: Part = Part {
    takes_over: true,
    tries: 1,
    ..IDLE
};

const HOLDER: Part = Part {
    publishes: 2,
    collects: true,
    ..IDLE
};

const LEAVER: Part = Part {
    publishes: 1,
    detaches: true,
    ..IDLE
};

const GUEST: Part = Part { tries: 1, ..IDLE };

const RETURNER: Part = Part {
    publishes: 2,
    crashes: 1,
    tries: 1,
    ..IDLE
};

const CLONER: Part = Part {
    publishes: 2,
    clones: true,
    drops: true,
    ..IDLE
};

const fn rules(name: &'static str, hosts: [Part; 3], generations: u8) -> Rules {
    Rules {
        name,
        hosts,
        generations,
        lies: 0,
        skew: false,
        wrong: None,
    }
}

impl Rules {
    /// The configurations, smaller ones first.
    pub const ALL: [Self; 12] = [
        // A holder that publishes and collects; a taker.
        rules(
            "duel",
            [
                HOLDER,
                Part {
                    publishes: 1,
                    ..TAKER
                },
                IDLE,
            ],
            3,
        ),
        // Two takers for one generation.
        rules("race", [IDLE, TAKER, TAKER], 3),
        // Detach and plain attach.
        rules("handover", [LEAVER, GUEST, GUEST], 3),
        // One of two takers burns a number while the holder publishes.
        rules(
            "burnt",
            [
                Part {
                    publishes: 1,
                    ..IDLE
                },
                TAKER,
                TAKER,
            ],
            3,
        ),
        // A claim stalls while another taker wins, publishes, and is taken over.
        rules(
            "stall",
            [
                IDLE,
                Part {
                    publishes: 1,
                    ..TAKER
                },
                Part { tries: 2, ..TAKER },
            ],
            3,
        ),
        // The store lies once or twice: an answered root may become a stray, and nothing worse.
        Self {
            lies: 2,
            ..rules(
                "liar",
                [
                    HOLDER,
                    Part {
                        publishes: 1,
                        ..TAKER
                    },
                    IDLE,
                ],
                2,
            )
        },
        // A clone is made while the snapshot is deleted by whoever holds the volume.
        rules(
            "clone",
            [
                CLONER,
                Part {
                    publishes: 2,
                    drops: true,
                    ..TAKER
                },
                IDLE,
            ],
            2,
        ),
        // The holder crashes while it publishes and comes back; a taker comes in between.
        rules(
            "return",
            [
                RETURNER,
                Part {
                    tries: 2,
                    publishes: 1,
                    ..TAKER
                },
                IDLE,
            ],
            4,
        ),
        // Detach, plain attach, and again.
        rules(
            "migration",
            [
                LEAVER,
                Part {
                    publishes: 1,
                    detaches: true,
                    tries: 2,
                    ..IDLE
                },
                GUEST,
            ],
            4,
        ),
        // Timestamps of claims in any order.
        Self {
            skew: true,
            ..rules(
                "skew",
                [IDLE, Part { tries: 2, ..TAKER }, Part { tries: 2, ..TAKER }],
                3,
            )
        },
        // A holder and two takers with two attempts each, one of them publishing.
        rules(
            "chain",
            [
                Part {
                    publishes: 1,
                    ..IDLE
                },
                Part {
                    publishes: 1,
                    tries: 2,
                    ..TAKER
                },
                Part { tries: 2, ..TAKER },
            ],
            3,
        ),
        // Everybody may crash once.
        rules(
            "storm",
            [
                Part {
                    publishes: 1,
                    ..IDLE
                },
                Part {
                    crashes: 1,
                    tries: 2,
                    ..TAKER
                },
                Part {
                    crashes: 1,
                    tries: 2,
                    ..TAKER
                },
            ],
            3,
        ),
    ];

    /// The configuration of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rules| rules.name == name)
    }

    /// Whether the protocol is wrong in this place.
    pub fn is_wrong(&self, wrong: Wrong) -> bool {
        self.wrong == Some(wrong)
    }
}
