//! What verdicts and errors of the parts mean for a person: one table each.

use crate::clock::rfc3339;
use crate::disk::state::StateError;
use crate::report::{Exit, Report, Result};
use engine::Verdict;
use engine::command::{Held, Refusal};
use engine::effect::{DiskError, StoreError};
use engine::ids::Container;
use std::io;

/// Lets a good verdict pass.
pub(super) fn good(container: &Container, verdict: Verdict) -> Result<Verdict> {
    match verdict {
        Verdict::Held(held) => Err(held_report(container, &held)),
        Verdict::NotConfirmed => Err(Report::new(
            Exit::NotConfirmed,
            "NOT-CONFIRMED",
            format!(
                "it is not known whether volume {} was changed",
                container.name
            ),
        )
        .cause("the store took the request, and this host lost the volume or the answer meanwhile")
        .help(format!("look: martlet volume show {}", container.name))),
        Verdict::Refused(why) => Err(refusal(container, &why)),
        verdict => Ok(verdict),
    }
}

fn held_report(container: &Container, held: &Held) -> Report {
    let name = &container.name;
    let generation = held.generation.0;
    let host = &held.holder.host;
    let what = format!(
        "volume {name} is held by host {host} since {}",
        rfc3339(held.holder.since)
    );
    let newest = held.newest.version.0;
    let at = rfc3339(held.newest_at);
    let help = if held.needs_accept_loss {
        format!(
            "detach it there, or: martlet volume attach {name} --take-over --accept-loss   \
             (its last version is {newest}, made {at}; later writes would be lost)"
        )
    } else {
        format!("detach it there, or: martlet volume attach {name} --take-over")
    };
    Report::new(Exit::Refused, "HELD", what)
        .cause(format!(
            "generation {generation} was opened by {host} and not detached"
        ))
        .help(help)
}

/// A refused wish.
pub fn refusal(container: &Container, why: &Refusal) -> Report {
    let name = &container.name;
    match why {
        Refusal::WrongState(state) => Report::new(
            Exit::Refused,
            "STATE",
            format!("volume {name} does not allow that now"),
        )
        .cause(state),
        Refusal::NoSuchSnapshot => Report::new(
            Exit::NotFound,
            "NO-SNAPSHOT",
            format!("volume {name} has no snapshot of that name"),
        )
        .help(format!("martlet snapshot list {name}")),
        Refusal::NameTaken => Report::new(
            Exit::Exists,
            "SNAPSHOT-EXISTS",
            format!("volume {name} has a snapshot of that name"),
        )
        .help(format!("martlet snapshot list {name}")),
        Refusal::NoSuchVolume => Report::new(
            Exit::NotFound,
            "NO-VOLUME",
            format!("there is no volume {name} in the store"),
        )
        .help("martlet volume list --all"),
        Refusal::Exists => Report::new(
            Exit::Exists,
            "VOLUME-EXISTS",
            format!("volume {container} exists, or is being born"),
        ),
        Refusal::FormatTooNew { object } => Report::new(
            Exit::Refused,
            "FORMAT",
            format!("volume {name} was written by a newer martlet"),
        )
        .cause(format!("the format of {object} is not known here"))
        .help("update martlet"),
        Refusal::Fenced => Report::new(
            Exit::Refused,
            "FENCED",
            format!("this host has lost volume {name} to another"),
        )
        .help(format!(
            "martlet volume show {name} names the holder; what was not published is kept here"
        )),
        Refusal::Store { object, error } => store_report(&format!("{container}/{object}"), *error),
        Refusal::Disk(error) => disk_word(&format!("the local disk failed volume {name}"), *error),
        Refusal::LostRace => Report::new(
            Exit::Refused,
            "LOST-RACE",
            format!("another host attaches volume {name} at this moment"),
        )
        .help("try again in a few seconds"),
        Refusal::Busy => Report::new(
            Exit::Refused,
            "BUSY",
            format!("volume {name} is busy with the same wish, or with too many"),
        )
        .help("try again in a few seconds"),
    }
}

/// The store did not do what was asked.
pub fn store_report(object: &str, error: StoreError) -> Report {
    let (exit, word, why, help) = match error {
        StoreError::Unavailable => (
            Exit::Unreachable,
            "STORE-AWAY",
            "no answer in time, or one that says to come back later",
            "check that the store is up and reachable, then try again",
        ),
        StoreError::Unknown => (
            Exit::Unreachable,
            "STORE-UNKNOWN",
            "the request was sent and its end is not known",
            "try again: what was stored is found",
        ),
        StoreError::Absent => (
            Exit::NotFound,
            "ABSENT",
            "there is no such object",
            "martlet volume list --all shows what is there",
        ),
        StoreError::Exists => (
            Exit::Exists,
            "EXISTS",
            "something of that name is there already",
            "martlet volume list --all shows what is there",
        ),
        StoreError::Damaged => (
            Exit::Damaged,
            "DAMAGED",
            "its bytes are not what was stored, or it is gone although the table names it",
            "restore the object from a replica or a copy of the container",
        ),
        StoreError::TooNew => (
            Exit::Refused,
            "FORMAT",
            "its format is newer than this program",
            "update martlet",
        ),
        StoreError::Denied => (
            Exit::Denied,
            "DENIED",
            "the credentials are wrong or lack the right",
            "check the credentials and their role on the container",
        ),
        StoreError::Full => (
            Exit::Refused,
            "STORE-FULL",
            "no space or quota left",
            "make room in the store, then try again",
        ),
    };
    Report::new(exit, word, format!("the store did not serve {object}"))
        .cause(why)
        .help(help)
}

/// The local disk did not do what was asked.
pub fn disk_report(what: &str, error: &io::Error) -> Report {
    if is_full(error) {
        return full(what).cause(error);
    }
    let exit = match error.kind() {
        io::ErrorKind::NotFound => Exit::NotFound,
        io::ErrorKind::PermissionDenied => Exit::Denied,
        _ => Exit::Unexpected,
    };
    Report::new(exit, "DISK", what).cause(error)
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn full(what: &str) -> Report {
    Report::new(Exit::Refused, "DISK-FULL", what)
        .help("make room on the disk of the state directory, then try again; nothing is lost")
}

fn disk_word(what: &str, error: DiskError) -> Report {
    let why = match error {
        DiskError::Absent => "a file of the volume's folder is not there",
        DiskError::Full => return full(what).cause("no space left"),
        DiskError::Failed => "an I/O error, or bytes that are not what was written",
    };
    Report::new(Exit::Unexpected, "DISK", what)
        .cause(why)
        .help("the log names the file")
}

/// The state directory cannot be used.
pub fn state_report(error: &StateError) -> Report {
    let what = "the state directory cannot be used";
    match error {
        StateError::Locked { .. } => Report::new(Exit::Refused, "STATE-HELD", what)
            .cause(error)
            .help("stop that process, or name another directory with --state"),
        StateError::OtherStore { .. } => Report::new(Exit::Exists, "OTHER-STORE", what)
            .cause(error)
            .help("name that store, or another state directory with --state"),
        StateError::Invalid { .. } => {
            Report::new(Exit::Damaged, "STATE-INVALID", what).cause(error)
        }
        StateError::Io { error: io, .. } if io.kind() == io::ErrorKind::PermissionDenied => {
            Report::new(Exit::Denied, "STATE", what)
                .cause(error)
                .help("name another directory with --state")
        }
        StateError::Io { error: io, .. } if is_full(io) => full(what).cause(error),
        StateError::Io { .. } => Report::new(Exit::Unexpected, "STATE", what).cause(error),
    }
}

/// A verdict that does not belong to the wish.
pub(crate) fn unexpected(container: &Container, verdict: &Verdict) -> Report {
    Report::new(
        Exit::Unexpected,
        "VERDICT",
        format!("volume {} answered out of turn", container.name),
    )
    .cause(format!("{verdict:?}"))
}
