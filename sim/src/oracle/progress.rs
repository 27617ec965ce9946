//! L2, L3, L5 and P11 as bounds in virtual time, and F3: what a reader may be shown.

use super::{Checked, Violation};
use engine::object::names::RootName;
use std::collections::BTreeMap;

/// Nanoseconds of a second.
const SEC: u64 = 1_000_000_000;

/// What needs nothing but the local disk is answered within this: before an initiator is told BUSY (12 s).
pub const LOCAL_MAX: u64 = 10 * SEC;

/// What does not depend on how much there is to do: an attach with its absences asked twice, waits after refusals.
const BASE: u64 = 120 * SEC;

/// A command that needs nothing of the store was answered after `waited` nanoseconds, or `busy`. `outage`: the store was
/// away meanwhile.
pub fn check_local(what: &str, busy: bool, waited: u64, outage: bool) -> Checked {
    if !busy && waited <= LOCAL_MAX {
        return Ok(());
    }
    let (property, why) = if outage {
        ("L5", "while the store is away")
    } else {
        ("P11", "though nothing local stands in its way")
    };
    let answer = if busy { "BUSY" } else { "answered late" };
    let text = format!("{what} is {answer} after {waited} ns {why}");
    Err(Violation::new(property, text))
}

/// A snapshot that was asked of a quiet volume is committed within T2: four requests of `request` nanoseconds for each grain
/// uploaded and each leaf, one after another, and what does not depend on the amount.
pub fn check_snapshot(waited: u64, bytes: u64, leaves: u64, request: u64) -> Checked {
    let most = BASE + request * 4 * (16 + leaves + bytes / 4096);
    within("L2", "a snapshot", waited, most)
}

/// A collection ends within T3: four requests for each object there was.
pub fn check_collection(waited: u64, objects: u64, request: u64) -> Checked {
    let most = BASE + request * 4 * (64 + objects);
    within("L3", "a collection", waited, most)
}

fn within(property: &'static str, what: &str, waited: u64, most: u64) -> Checked {
    if waited <= most {
        return Ok(());
    }
    let text = format!("{what} took {waited} ns; {most} ns is the bound");
    Err(Violation::new(property, text))
}

/// The base of each opened generation of a volume, and when it was opened.
pub type Opened = BTreeMap<u64, (Option<RootName>, u64)>;

/// F3: a reader that began at `began` was shown a root. It is of the history unless a generation that was opened above its
/// own before then goes on from below it: then it landed late, or was left behind.
pub fn check_shown(root: RootName, opened: &Opened, began: u64) -> Checked {
    let above = opened.range(root.attach.generation.0 + 1..);
    for (generation, (base, at)) in above {
        let Some(base) = base.filter(|_| *at < began) else {
            continue;
        };
        // Of one attachment roots follow each other; of an older one it goes on from what came before.
        let is_left = if base.attach == root.attach {
            base.version < root.version
        } else {
            base.attach.generation < root.attach.generation
        };
        if is_left {
            let text =
                format!("a reader is shown {root}; generation {generation} goes on from {base}");
            return Err(Violation::new("F3", text));
        }
        return Ok(());
    }
    Ok(())
}

/// The highest cut that each generation of a volume committed.
pub type Commits = BTreeMap<u64, u64>;

/// F2: a host of that generation begins a history at `base`. It is not below what it or a generation before it committed; a
/// later one may have gone on from there already, as this host will see before long (P7).
pub fn check_begun(base: RootName, cut: u64, generation: u64, commits: &Commits) -> Checked {
    let before = commits.range(..=generation);
    let Some((by, most)) = before
        .max_by_key(|(_, cut)| **cut)
        .filter(|(_, most)| **most > cut)
    else {
        return Ok(());
    };
    let text = format!(
        "generation {generation} goes on from {base}, cut {cut}; generation {by} had committed cut {most}"
    );
    Err(Violation::new("F2", text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::ids::{AttachId, Generation, Version};

    fn root(version: u64, generation: u64) -> RootName {
        RootName {
            version: Version(version),
            attach: AttachId {
                generation: Generation(generation),
                nonce: generation * 7,
            },
        }
    }

    #[track_caller]
    fn violates(result: Checked, property: &str) {
        assert_eq!(result.expect_err("must be rejected").property, property);
    }

    #[test]
    fn a_local_write_that_waits_for_the_store_is_rejected_and_a_slow_disk_is_not() {
        violates(check_local("a write", true, 1, true), "L5");
        violates(check_local("a write", true, 12 * SEC, false), "P11");
        violates(check_local("a read", false, 11 * SEC, true), "L5");
        check_local("a write", false, 9 * SEC, true).expect("a slow disk");
    }

    #[test]
    fn a_snapshot_may_take_as_long_as_its_bytes_do_and_no_longer() {
        let request = SEC;
        check_snapshot(150 * SEC, 0, 0, request).expect("an attach went before");
        violates(check_snapshot(200 * SEC, 0, 0, request), "L2");
        check_snapshot(200 * SEC, 4096 * 100, 0, request).expect("a hundred grains");
        check_snapshot(200 * SEC, 0, 20, request).expect("twenty leaves");
        violates(check_snapshot(3600 * SEC, 4096 * 100, 20, request), "L2");
    }

    #[test]
    fn a_collection_may_take_as_long_as_its_objects_do_and_no_longer() {
        check_collection(300 * SEC, 0, SEC).expect("an attach went before");
        violates(check_collection(400 * SEC, 0, SEC), "L3");
        check_collection(400 * SEC, 50, SEC).expect("fifty objects");
    }

    #[test]
    fn a_late_root_of_a_fenced_host_is_rejected_and_one_read_before_is_not() {
        // Generation 1 published 3; generation 2 went on from 3; then root 4 of generation 1 landed.
        let opened = Opened::from([(1, (None, 1)), (2, (Some(root(3, 1)), 100))]);
        violates(check_shown(root(4, 1), &opened, 101), "F3");
        check_shown(root(4, 1), &opened, 90).expect("it began before anybody knew");
        check_shown(root(3, 1), &opened, 101).expect("the base");
        check_shown(root(1, 1), &opened, 101).expect("a snapshot from before");
        check_shown(root(4, 2), &opened, 101).expect("the newest");
        // A generation that published nothing is passed over by the next.
        let mut opened = opened;
        opened.insert(3, (Some(root(3, 1)), 200));
        violates(check_shown(root(4, 2), &opened, 201), "F3");
        check_shown(root(2, 1), &opened, 201).expect("still of the history");
    }

    #[test]
    fn a_history_below_what_was_committed_is_rejected_and_one_that_is_overtaken_is_not() {
        let commits = Commits::from([(1, 8), (2, 22), (4, 30)]);
        violates(check_begun(root(1, 1), 8, 3, &commits), "F2");
        violates(check_begun(root(3, 2), 22, u64::MAX, &commits), "F2");
        check_begun(root(3, 2), 22, 3, &commits).expect("the fourth came later");
        check_begun(root(1, 1), 8, 1, &commits).expect("its own");
    }
}
