//! Finding what bounds the history: the highest claim, the highest opened, and the newest root of an attachment.
//!
//! What exists is believed at once. What does not exist is believed by the absence rule, and only where it bounds
//! the history: a listing row beyond it counts as "exists", and what the caller knows to exist is a floor.
//!
//! Roots      within an attachment, root k (k = 1, 2, 3 …, its *ordinal*) has the version `first + k − 1`, where `first`
//!            is the base's version + 1, or 0 without a base (generation 1). Let n be the newest. Multiples of 64 up to
//!            n and all of `64⌊n/64⌋ … n` stay until a later generation is opened; others may be collected.
//!            So "multiple exists" and, above the last multiple, "ordinal exists" both turn false once: gallop, bisect.

use super::desk::{Desk, RootFound};
use super::{Found, Hint};
use crate::effect::Token;
use crate::ids::{Generation, Version};
use crate::object::names::{ObjectName, RootName};
use crate::table::types::Superblock;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Roots whose ordinal is a multiple of this stay until a later generation is opened.
pub const ROOT_STRIDE: u64 = 64;

/// The names that begin so are claims.
const CLAIMS: &str = "claims/";

/// The names that begin so are openeds.
const OPENED: &str = "opened/";

/// The names that begin so are roots.
const VERSIONS: &str = "versions/";

/// Openeds asked for at once while stepping down over burnt numbers.
const STEP_DOWN: u64 = 4;

/// Openeds below the highest claim whose rows one listing shows; more numbers in a row are not burnt.
const ROWS_BELOW: u64 = 256;

/// The name of root `ordinal` (1, 2, 3 …) of the attachment that `opened` speaks of.
pub fn root_name(opened: &Token, ordinal: u64) -> RootName {
    RootName {
        version: Version(
            first_version(opened)
                .0
                .saturating_add(ordinal.saturating_sub(1)),
        ),
        attach: opened.attach,
    }
}

/// The version of the first root of an attachment: its base's + 1, or 0 without a base.
pub fn first_version(opened: &Token) -> Version {
    (opened.base).map_or(Version(0), |base| Version(base.version.0.saturating_add(1)))
}

/// The ordinal of a root, if it belongs to the attachment.
pub fn ordinal_of(opened: &Token, root: RootName) -> Option<u64> {
    let above = root.version.0.checked_sub(first_version(opened).0)?;
    (root.attach == opened.attach).then_some(above + 1)
}

/// The highest claim, at least `floor` (which exists, or is 0).
pub(super) fn highest_claim(desk: &mut Desk, floor: Generation) -> Option<Generation> {
    let mut highest = floor;
    loop {
        let after = rows_after(CLAIMS, highest);
        let page = desk.list(CLAIMS, after)?;
        let rows = page.rows.iter().filter_map(|row| generation(row));
        let last = rows.max().unwrap_or(highest);
        if last <= highest {
            break;
        }
        highest = last;
        if !page.full {
            break;
        }
    }
    loop {
        if highest.0 > 0 {
            // Asked beside, for the time's sake: mostly the highest claim was opened.
            let _ = desk.token(ObjectName::Opened(highest), 0);
        }
        if !desk.exists(ObjectName::Claim(next(highest)), true)? {
            return Some(highest);
        }
        highest = next(highest);
    }
}

/// The highest opened that is above `floor` and not above `top`, and whether the listing shows one above `top`.
///
/// A row of the listing within that range counts as "exists"; a GET must bring it.
pub(super) fn highest_opened(
    desk: &mut Desk,
    top: Generation,
    floor: Generation,
) -> Option<(Option<Token>, Option<Generation>)> {
    if top <= floor {
        return Some((None, None));
    }
    // Mostly the highest claim was opened: then nothing is absent and the listing is not asked.
    if let Some(token) = desk.token(ObjectName::Opened(top), 0)? {
        return Some((Some(token), None));
    }
    let from = floor.0.max(top.0.saturating_sub(ROWS_BELOW));
    let page = desk.list(OPENED, rows_after(OPENED, Generation(from)))?;
    let rows: Vec<Generation> = (page.rows.iter())
        .filter_map(|row| generation(row))
        .collect();
    let above = rows.iter().copied().find(|g| *g > top);
    let mut at = top.0;
    while at > floor.0 {
        let low = at.saturating_sub(STEP_DOWN).max(floor.0);
        let asked: Vec<(Generation, Option<Option<Token>>)> = (low + 1..=at)
            .rev()
            .map(|g| {
                (
                    Generation(g),
                    desk.token(ObjectName::Opened(Generation(g)), 0),
                )
            })
            .collect();
        for (g, answer) in asked {
            match answer? {
                Some(token) => return Some((Some(token), above)),
                None if rows.contains(&g) => {
                    desk.contradiction(ObjectName::Opened(g));
                    return None;
                }
                None => {}
            }
        }
        at = low;
    }
    Some((None, above))
}

/// The newest root of the attachment's own, else the base that it went on from. `None` of both: unborn.
///
/// `read`: a root that was read before. If it is the one, its bytes are not asked for again: a name has one content.
pub(super) fn newest(
    desk: &mut Desk,
    opened: &Token,
    hint: Option<RootName>,
    read: Option<&RootFound>,
) -> Option<Found> {
    let own = newest_own(desk, opened, hint, read)?;
    if own.is_some() || opened.base.is_none() {
        return Some(Found {
            is_own: own.is_some(),
            newest: own,
        });
    }
    let base = opened.base?;
    let Some(found) = root_at(desk, base, read)? else {
        // The attachment's first root came after we looked, and its base is collected already.
        desk.contradiction(ObjectName::Root(base));
        return None;
    };
    Some(Found {
        newest: Some(found),
        is_own: false,
    })
}

/// A root, if it is there; one that was read before is.
fn root_at(desk: &mut Desk, name: RootName, read: Option<&RootFound>) -> Option<Option<RootFound>> {
    match read.filter(|read| read.root.name == name) {
        Some(read) => Some(Some(read.clone())),
        None => desk.root(name, None),
    }
}

/// The newest root that the attachment wrote. `hint`: a root known to have been confirmed once, if it is its own.
fn newest_own(
    desk: &mut Desk,
    opened: &Token,
    hint: Option<RootName>,
    read: Option<&RootFound>,
) -> Option<Option<RootFound>> {
    let known = hint.and_then(|root| ordinal_of(opened, root)).unwrap_or(0);
    let floor = known.max(listed(desk, opened, known)?);
    // Speculative, for the time's sake: with a good hint this is the newest.
    let guess = (floor > 0).then(|| root_at(desk, root_name(opened, floor), read));
    let block = floor / ROOT_STRIDE * ROOT_STRIDE;
    // Asked together: in the usual case both are absent, and that is the end.
    let above = desk.exists(
        ObjectName::Root(root_name(opened, block + ROOT_STRIDE)),
        true,
    );
    let beside = (floor + 1 < block + ROOT_STRIDE)
        .then(|| desk.exists(ObjectName::Root(root_name(opened, floor + 1)), true));
    let (_, _) = (above?, beside.map_or(Some(false), |b| b)?);
    let multiple = highest(desk, opened, block, ROOT_STRIDE, u64::MAX)?;
    let low = multiple.max(floor);
    let newest = highest(desk, opened, low, 1, multiple + ROOT_STRIDE)?;
    if newest == 0 {
        return Some(None);
    }
    let name = root_name(opened, newest);
    let found = match guess {
        Some(guess) if newest == floor => guess?,
        _ => root_at(desk, name, read)?,
    };
    match found {
        Some(found) if found.root.ordinal == newest => Some(Some(found)),
        Some(_) => {
            desk.fail(ObjectName::Root(name), crate::effect::StoreError::Damaged);
            None
        }
        // Superseded and collected while we searched.
        None => {
            desk.contradiction(ObjectName::Root(name));
            None
        }
    }
}

/// The highest ordinal of the attachment that a listing shows above `known`, else `known`.
fn listed(desk: &mut Desk, opened: &Token, known: u64) -> Option<u64> {
    let mut highest = known;
    // Rows are in the order of versions; those of strays lie between.
    let mut after = match known {
        0 => before_version(first_version(opened)),
        k => ObjectName::Root(root_name(opened, k)).to_string(),
    };
    loop {
        let page = desk.list(VERSIONS, after)?;
        let own = (page.rows.iter()).filter_map(|row| ordinal_of(opened, root(row)?));
        highest = own.max().unwrap_or(0).max(highest);
        match page.rows.last() {
            Some(last) if page.full => after = last.clone(),
            _ => return Some(highest),
        }
    }
}

/// The highest of `low`, `low + step`, `low + 2·step` … below `end` that exists; `low` exists, or is 0.
fn highest(desk: &mut Desk, opened: &Token, low: u64, step: u64, end: u64) -> Option<u64> {
    let name = |k: u64| ObjectName::Root(root_name(opened, k));
    let mut low = low;
    loop {
        let next = low.saturating_add(step);
        // The neighbour above bounds the history: absent by the absence rule, or known to be (`end`).
        if next >= end || !desk.exists(name(next), true)? {
            return Some(low);
        }
        low = next;
        // Gallop: one ask each; what lies above an absent one is not asked.
        let mut stride = step;
        let mut high = end;
        loop {
            let far = low.saturating_add(stride.saturating_mul(2));
            if far >= end {
                break;
            }
            if !desk.exists(name(far), false)? {
                high = far;
                break;
            }
            low = far;
            stride = stride.saturating_mul(2);
        }
        // Bisect between the last that exists and the first that does not.
        while high.saturating_sub(low) > step {
            let middle = low + (high - low) / step / 2 * step;
            if middle <= low {
                break;
            }
            if desk.exists(name(middle), false)? {
                low = middle;
            } else {
                high = middle;
            }
        }
    }
}

/// Step 1 of an attach, and all of an inspection: superblock, highest claim, highest opened, its newest root.
///
/// Stops at a missing superblock unless it may be `bare`.
pub(super) fn survey(desk: &mut Desk, hint: &mut Hint, bare: bool) -> Option<Survey> {
    let floor = hint.floor();
    let superblock = desk.superblock();
    if matches!(superblock, Some(None)) && !bare {
        return Some(Survey::default());
    }
    let claim = highest_claim(desk, hint.claim.max(floor))?;
    let below = Generation(floor.0.saturating_sub(1));
    let (opened, above) = highest_opened(desk, claim, below)?;
    if let Some(above) = above {
        hint.claim = hint.claim.max(above);
        desk.contradiction(ObjectName::Claim(above));
        return None;
    }
    let at = opened
        .as_ref()
        .map_or(Generation(0), |o| o.attach.generation);
    if at < floor {
        desk.contradiction(ObjectName::Opened(floor));
        return None;
    }
    let found = match &opened {
        Some(opened) => newest(desk, opened, hint.root, None)?,
        None => Found::default(),
    };
    let superblock = superblock?;
    if let Some(found) = &found.newest {
        hint.root = Some(found.root.name);
    }
    hint.held = hint.held.max(Some(at).filter(|g| g.0 > 0));
    hint.claim = hint.claim.max(claim);
    Some(Survey {
        superblock,
        claim,
        opened,
        found,
    })
}

/// What the store says of a volume.
#[derive(Default)]
pub(super) struct Survey {
    pub(super) superblock: Option<Arc<Superblock>>,
    pub(super) claim: Generation,
    pub(super) opened: Option<Token>,
    pub(super) found: Found,
}

const fn next(g: Generation) -> Generation {
    Generation(g.0.saturating_add(1))
}

/// The last name that begins with `prefix` and is not above generation `g`; none for 0.
fn rows_after(prefix: &str, g: Generation) -> String {
    match g.0 {
        0 => String::new(),
        g => alloc::format!("{prefix}{g:08x}"),
    }
}

/// A text between the roots of the version before `first` and those of `first`.
fn before_version(first: Version) -> String {
    match first.0.checked_sub(1) {
        None => String::new(),
        // `/` is the character after `.`, which follows a root's version.
        Some(before) => alloc::format!("{}{before:08x}/", VERSIONS),
    }
}

/// The generation of a row `claims/<g>` or `opened/<g>`.
fn generation(row: &str) -> Option<Generation> {
    match ObjectName::parse(row)? {
        ObjectName::Claim(g) | ObjectName::Opened(g) => Some(g),
        _ => None,
    }
}

/// The name of a row `versions/<v>.<g>-<nonce>`.
fn root(row: &str) -> Option<RootName> {
    match ObjectName::parse(row)? {
        ObjectName::Root(name) => Some(name),
        _ => None,
    }
}
