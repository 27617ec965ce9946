//! Bugs and marks for the simulator; nothing of it is in a build without the feature `zoo`.
//!
//! `bug!("name")` is `false`, but for the one bug that a test switched on: it stands where a realistic mistake is one
//! condition away. `mark!("name")` says that a rare place was reached. Both find their names in the source: adding one is
//! one line in one place.

#[cfg(feature = "zoo")]
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[cfg(feature = "zoo")]
static BUG: AtomicU64 = AtomicU64::new(0);
#[cfg(feature = "zoo")]
static ASKED: AtomicU64 = AtomicU64::new(0);
/// How often each mark was reached. A name's place is its number's rest; the simulator tests that no two share one.
#[cfg(feature = "zoo")]
static REACHED: [AtomicU64; PLACES as usize] = [const { AtomicU64::new(0) }; PLACES as usize];

/// Places for marks.
#[cfg(feature = "zoo")]
pub const PLACES: u64 = 1 << 16;

/// A number for a name (FNV-1a, 64 bits).
#[cfg(feature = "zoo")]
pub const fn number(name: &str) -> u64 {
    let (bytes, mut h, mut i) = (name.as_bytes(), 0xcbf2_9ce4_8422_2325_u64, 0);
    while i < bytes.len() {
        h = (h ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    h
}

/// Switches one bug on, or all off.
#[cfg(feature = "zoo")]
pub fn switch(name: Option<&str>) {
    BUG.store(name.map_or(0, number), Relaxed);
}

/// Whether the bug of that number is on.
#[cfg(feature = "zoo")]
pub fn is_on(number: u64) -> bool {
    let is_on = BUG.load(Relaxed) == number;
    if is_on {
        ASKED.fetch_add(1, Relaxed);
    }
    is_on
}

/// How often the code has asked so far whether the bug is on that is on. Where `bug!` stands behind what decides without it,
/// as in `good || bug!(…)`, that is how often it bit.
#[cfg(feature = "zoo")]
pub fn asked() -> u64 {
    ASKED.load(Relaxed)
}

/// A marked place was reached.
#[cfg(feature = "zoo")]
pub fn reach(number: u64) {
    REACHED[(number % PLACES) as usize].fetch_add(1, Relaxed);
}

/// How often the mark of that name was reached since the process began.
#[cfg(feature = "zoo")]
pub fn reached(name: &str) -> u64 {
    REACHED[(number(name) % PLACES) as usize].load(Relaxed)
}

/// Whether this bug is on.
macro_rules! bug {
    ($name:literal) => {{
        #[cfg(feature = "zoo")]
        {
            $crate::zoo::is_on(const { $crate::zoo::number($name) })
        }
        #[cfg(not(feature = "zoo"))]
        {
            false
        }
    }};
}

/// This place was reached.
#[allow(unused_macros)]
macro_rules! mark {
    ($name:literal) => {{
        #[cfg(feature = "zoo")]
        $crate::zoo::reach(const { $crate::zoo::number($name) });
    }};
}
