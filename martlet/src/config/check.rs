//! Which values a key may have: what is outside breaks a promise or never ends, so it is refused with words.
//!
//! `docs/limits.md` prints the same ranges.

use super::{Bytes, Config, Seconds};
use crate::quantity::{show_duration, show_size};
use std::ops::RangeInclusive;
use std::time::Duration;

/// A value that a key may not have.
#[derive(Debug)]
pub(super) struct Wrong {
    /// The key: `limits.watch`.
    pub(super) key: &'static str,
    /// What it is.
    pub(super) value: String,
    /// What is allowed.
    pub(super) range: String,
    /// What is outside breaks.
    pub(super) why: &'static str,
}

/// What a key is measured in.
trait Quantity: PartialOrd + Copy {
    fn show(self) -> String;
}

impl Quantity for Duration {
    fn show(self) -> String {
        show_duration(self)
    }
}

impl Quantity for u64 {
    fn show(self) -> String {
        show_size(self)
    }
}

impl Quantity for u32 {
    fn show(self) -> String {
        self.to_string()
    }
}

/// The one key is not within its range. A key that was not set is.
fn outside<Q: Quantity>(
    key: &'static str,
    value: Option<Q>,
    range: RangeInclusive<Q>,
    why: &'static str,
) -> Option<Wrong> {
    let value = value.filter(|v| !range.contains(v))?;
    Some(Wrong {
        key,
        value: value.show(),
        range: format!("{} to {}", range.start().show(), range.end().show()),
        why,
    })
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

const YEAR: u64 = 365 * 86_400;

const HANGING: &str = "a slow answer is an answer, and one that never comes is given up";
const NOTICED: &str = "a store that is well again is noticed";
const TAKEN: &str =
    "a host that was taken over notices within 10 s: one period and one question of as long";

/// The first key whose value is out of range, alone or beside the others.
pub(super) fn wrong(config: &Config) -> Option<Wrong> {
    waits(config)
        .or_else(|| sizes(config))
        .or_else(|| swift(config))
        .or_else(|| names(config))
}

fn waits(config: &Config) -> Option<Wrong> {
    let keys = &config.limits;
    let time =
        |key, value: Option<Seconds>, range, why| outside(key, value.map(|v| v.0), range, why);
    let zero = Duration::ZERO;
    let alone = [
        time(
            "limits.absence_gap",
            keys.absence_gap,
            zero..=secs(60),
            "an attach asks some absences twice",
        ),
        time(
            "limits.min_age",
            keys.min_age,
            zero..=secs(YEAR),
            "the store keeps orphans for so long",
        ),
        time(
            "limits.collect_interval",
            keys.collect_interval,
            secs(1)..=secs(YEAR),
            "a search lists the whole container",
        ),
        time("limits.watch", keys.watch, ms(100)..=secs(5), TAKEN),
        time(
            "limits.busy_after",
            keys.busy_after,
            ms(100)..=secs(60),
            "initiators abort what is not answered",
        ),
        time(
            "limits.close_after",
            keys.close_after,
            zero..=secs(3600),
            "initiators that hear BUSY for ever never fail over",
        ),
        time(
            "limits.checkpoint_interval",
            keys.checkpoint_interval,
            secs(1)..=secs(YEAR),
            "every checkpoint is some objects",
        ),
        time(
            "limits.restart_look",
            keys.restart_look,
            ms(100)..=secs(60),
            "a restart without the store serves what is here after so long",
        ),
        time(
            "limits.attach_grace",
            keys.attach_grace,
            zero..=secs(10),
            "a host that was taken over notices within 10 s",
        ),
        time(
            "limits.store_deadline",
            keys.store_deadline,
            ms(100)..=secs(300),
            HANGING,
        ),
        time(
            "limits.claim_backoff",
            keys.claim_backoff,
            ms(200)..=secs(60),
            "hosts that raced try again, but not at once",
        ),
    ];
    // An attempt to attach starts over at half of the grace: below this bound it would for ever.
    let least = config.limits().delete_grace_min();
    let most = secs(YEAR).max(least);
    alone.into_iter().flatten().next().or_else(|| {
        let grace = Some(config.limits().delete_grace);
        outside("limits.delete_grace", grace, least..=most, "half of it must suffice for an attach: sixteen times limits.absence_gap and a limits.store_deadline")
    })
}

fn sizes(config: &Config) -> Option<Wrong> {
    let keys = &config.limits;
    let size = |key, value: Option<Bytes>, range, why| outside(key, value.map(|v| v.0), range, why);
    let alone = [
        size(
            "limits.journal_file",
            keys.journal_file,
            (2 << 20)..=(4 << 30),
            "the longest record, 1 MiB, fits into one file",
        ),
        size(
            "limits.cache",
            keys.cache,
            (1 << 20)..=(1 << 44),
            "what a guest reads lies there",
        ),
        size(
            "limits.memory",
            keys.memory,
            (16 << 20)..=(1 << 40),
            "what a session may send at once fits into half of it",
        ),
        outside(
            "limits.uploads",
            keys.uploads,
            1..=256,
            "each holds up to 16 MiB of memory",
        ),
        outside(
            "limits.hydrations",
            keys.hydrations,
            1..=1024,
            "each holds up to 1 MiB of memory",
        ),
    ];
    alone.into_iter().flatten().next().or_else(|| {
        let file = config.limits().file_bytes.0;
        let journal = keys
            .journal
            .map_or_else(|| u64::from(config.limits().files) * file, |j| j.0);
        outside(
            "limits.journal",
            Some(journal),
            file * 4..=file * 4096,
            "it is 4 to 4096 files of limits.journal_file",
        )
    })
}

fn swift(config: &Config) -> Option<Wrong> {
    let keys = &config.swift;
    let time =
        |key, value: Option<Seconds>, range, why| outside(key, value.map(|v| v.0), range, why);
    let alone = [
        time(
            "swift.connect_timeout",
            keys.connect_timeout,
            ms(100)..=secs(60),
            HANGING,
        ),
        time(
            "swift.pool_idle",
            keys.pool_idle,
            secs(1)..=secs(3600),
            "a connection that Swift has closed costs a request",
        ),
        time(
            "swift.auth_timeout",
            keys.auth_timeout,
            ms(100)..=secs(300),
            HANGING,
        ),
        time(
            "swift.backoff_base",
            keys.backoff_base,
            ms(1)..=secs(60),
            "a store under load is left in peace, but not for ever",
        ),
        time(
            "swift.backoff_cap",
            keys.backoff_cap,
            ms(1)..=secs(300),
            NOTICED,
        ),
        time(
            "swift.retry_after_cap",
            keys.retry_after_cap,
            Duration::ZERO..=secs(3600),
            NOTICED,
        ),
        time(
            "swift.exchange_timeout",
            keys.exchange_timeout,
            ms(100)..=secs(300),
            HANGING,
        ),
        time(
            "swift.put_deadline",
            keys.put_deadline,
            ms(100)..=secs(3600),
            HANGING,
        ),
        time(
            "swift.other_deadline",
            keys.other_deadline,
            ms(100)..=secs(3600),
            HANGING,
        ),
        time(
            "swift.damage_span",
            keys.damage_span,
            secs(30)..=secs(3600),
            "what passes within 30 s is no damage",
        ),
        outside(
            "swift.damage_asks",
            keys.damage_asks,
            3..=1000,
            "fewer may all meet the one replica that is damaged",
        ),
        outside(
            "swift.pool_size",
            keys.pool_size,
            1..=4096,
            "each is a descriptor",
        ),
    ];
    alone.into_iter().flatten().next()
}

/// Longest name that is added to the prefix: `:VOLUME.ID:SNAPSHOT`, of the 223 bytes that RFC 7143 §4.2.7.1 allows.
const PREFIX_MAX: usize = 60;

fn names(config: &Config) -> Option<Wrong> {
    let prefix = &config.iscsi.iqn_prefix;
    let allowed =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b':');
    let good =
        prefix.starts_with("iqn.") && prefix.len() <= PREFIX_MAX && prefix.bytes().all(allowed);
    (!good).then(|| Wrong {
        key: "iscsi.iqn_prefix",
        value: format!("{prefix:?}"),
        range: format!("iqn.YEAR-MONTH.DOMAIN, at most {PREFIX_MAX} of a-z 0-9 - . :"),
        why: "initiators take nothing else for a target's name (RFC 7143, 4.2.7.1)",
    })
}
