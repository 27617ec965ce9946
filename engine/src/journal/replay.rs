//! What a restart makes of the journal: the history as far as it is whole.
//!
//! Let D be the highest seq that any good record, index or note calls durable. Seqs above the newest known cut are taken in
//! order; a good copy makes bad ones harmless; a void beats a record of its seq. The first seq > D with neither is the end
//! of history E + 1. A seq ≤ D with neither is damage: its blocks are lost, loudly.

use crate::effect::Scanned;
use crate::ids::{FileId, Lap, Seq};
use crate::journal::Place;
use crate::journal::note::{DeadLap, Note};
use crate::journal::record::{RecordBody, RecordHead};
use crate::units::Extent;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cmp::Ordering;
use smallvec::SmallVec;

/// Laps may have begun that left their later pages only: where page 0 is as the lap before left it, its index is believed,
/// and nobody sees them. A recovery leaps over more laps than a journal has files, so that none of them is drawn again.
const LAPS_UNSEEN: u64 = 1 << 16;

/// A record of the history.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) seq: Seq,
    pub(crate) body: RecordBody,
    pub(crate) place: Place,
    /// Pieces whose data is damaged though it was durable.
    pub(crate) bad_pieces: Vec<u32>,
}

/// Damage to what was durable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// These blocks' newest content is gone.
    Lost {
        seq: Seq,
        extents: SmallVec<[Extent; 1]>,
    },
    /// A record is gone and nothing says which blocks it wrote, or that it wrote any: the volume takes no writes.
    Unknown { seq: Seq },
}

/// A file that still holds records of the history.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileInUse {
    pub(crate) file: FileId,
    pub(crate) lap: Lap,
    pub(crate) first: Seq,
    pub(crate) last: Seq,
}

/// What the journal goes on with.
#[derive(Debug, Default)]
pub(crate) struct Resumed {
    /// Oldest first.
    pub(crate) in_use: Vec<FileInUse>,
    pub(crate) free: Vec<FileId>,
    pub(crate) lap: Lap,
    pub(crate) next_file: FileId,
    pub(crate) end: Seq,
    /// Was durable before this recovery: what lies above is once it is synced.
    pub(crate) durable: Seq,
    pub(crate) stored: Seq,
}

/// The history that the disk holds.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// In seq order, above the committed cut.
    pub(crate) records: Vec<Replayed>,
    pub(crate) damage: Vec<Damage>,
    pub(crate) resumed: Resumed,
    /// For the next note: in these laps everything above `end` is dead.
    pub(crate) dead: Vec<DeadLap>,
}

struct Copy {
    head: RecordHead,
    bad_pieces: Vec<u32>,
}

/// Replays what the scans found, above `floor` (the newest cut known to be in the store).
pub(crate) fn replay(note: &Note, floor: Seq, scans: Vec<(FileId, Scanned)>) -> History {
    let mut copies: BTreeMap<Seq, Copy> = BTreeMap::new();
    let mut before: BTreeMap<Seq, SmallVec<[Extent; 1]>> = BTreeMap::new();
    let mut spans: BTreeMap<FileId, (Lap, Seq, Seq)> = BTreeMap::new();
    let mut history = History::default();
    let mut durable = floor;
    let mut lap = Lap(0);
    let mut next_file = FileId(0);
    for dead in &note.dead {
        durable = durable.max(dead.end);
        lap = lap.max(dead.lap);
    }
    for (file, scanned) in scans {
        next_file = next_file.max(FileId(file.0 + 1));
        if note.aside.contains(&file) {
            continue;
        }
        let Some(file_lap) = scanned.lap else {
            history.resumed.free.push(file);
            continue;
        };
        lap = lap.max(file_lap);
        spans.insert(file, (file_lap, Seq(u64::MAX), Seq(0)));
        let end = note.dead.iter().find(|d| d.file == file).and_then(|d| {
            match d.lap.cmp(&file_lap) {
                Ordering::Less => None,
                Ordering::Equal => Some(d.end),
                // The file was in use again since: this lap was over, and what of it was not stored was dead.
                Ordering::Greater => Some(Seq(0)),
            }
        });
        if scanned.index_durable.is_some() || !scanned.records.is_empty() {
            durable = durable.max(scanned.index_durable.unwrap_or_default());
        }
        for record in scanned.records {
            let head = record.head;
            if !note.joined.contains(&head.attach) && !bug!("replay-of-foreign-records") {
                mark!("foreign-record-left-out");
                continue;
            }
            // A dead record's own knowledge of what was durable stays true.
            durable = durable.max(head.durable);
            if end.is_some_and(|end| head.seq > end) && !bug!("dead-tail-revives") {
                mark!("dead-record-left-out");
                continue;
            }
            if let Some(b) = &head.before {
                before.entry(b.seq).or_insert_with(|| b.extents.clone());
            }
            if head.seq <= floor {
                continue;
            }
            if let Some((_, first, last)) = spans.get_mut(&file) {
                *first = (*first).min(head.seq);
                *last = (*last).max(head.seq);
            }
            let new = Copy {
                head,
                bad_pieces: record.bad_pieces,
            };
            match copies.get(&new.head.seq) {
                Some(old) if rank(old) >= rank(&new) || bug!("first-copy-wins") => {
                    mark!("copy-left-out");
                }
                _ => {
                    copies.insert(new.head.seq, new);
                }
            }
        }
    }
    let mut end = floor;
    loop {
        let seq = Seq(end.0 + 1);
        match copies.remove(&seq) {
            Some(copy)
                if copy.bad_pieces.is_empty() || seq <= durable || bug!("torn-record-is-kept") =>
            {
                let place = Place {
                    file: copy.head.file,
                    page: copy.head.page,
                };
                if !copy.bad_pieces.is_empty() {
                    history.damage.push(Damage::Lost {
                        seq,
                        extents: SmallVec::new(),
                    });
                }
                history.records.push(Replayed {
                    seq,
                    body: copy.head.body,
                    place,
                    bad_pieces: copy.bad_pieces,
                });
            }
            // One of no blocks set an attribute, or was a void: which of them is gone with it.
            None if seq <= durable => match before.get(&seq).filter(|blocks| !blocks.is_empty()) {
                Some(extents) => {
                    mark!("neighbour-tells-the-blocks");
                    history.damage.push(Damage::Lost {
                        seq,
                        extents: extents.clone(),
                    });
                }
                None => history.damage.push(Damage::Unknown { seq }),
            },
            None if bug!("replay-jumps-a-gap") && !copies.is_empty() => {}
            _ => break,
        }
        end = seq;
    }
    let leapt = Lap(lap.0 + LAPS_UNSEEN);
    for (file, (file_lap, first, last)) in spans {
        let is_in_use = first <= end && last > floor;
        // What was once declared dead stays dead: a later recovery may go on further, but not in this lap.
        let known = note
            .dead
            .iter()
            .find(|d| d.file == file && d.lap >= file_lap);
        let mut dead = known.copied().unwrap_or(DeadLap {
            file,
            lap: file_lap,
            end,
        });
        if !is_in_use {
            // Whatever lap an unseen page of it is of.
            dead.lap = leapt;
        }
        history.dead.push(dead);
        if is_in_use {
            history.resumed.in_use.push(FileInUse {
                file,
                lap: file_lap,
                first,
                last: last.min(end),
            });
        } else {
            history.resumed.free.push(file);
        }
    }
    // Dead laps of files that hold nothing valid now stay listed: nothing else remembers them.
    for dead in &note.dead {
        if !history.dead.iter().any(|d| d.file == dead.file) {
            history.dead.push(*dead);
        }
    }
    history
        .resumed
        .in_use
        .sort_by_key(|file| (file.first, file.file));
    history.resumed.lap = leapt;
    history.resumed.next_file = next_file;
    history.resumed.end = end;
    history.resumed.durable = durable.min(end);
    history.resumed.stored = floor;
    history
}

/// A void beats a good copy, which beats a damaged one.
fn rank(copy: &Copy) -> u8 {
    match (&copy.head.body, copy.bad_pieces.is_empty()) {
        (RecordBody::Void, _) => 2,
        (_, true) => 1,
        (_, false) => 0,
    }
}

#[cfg(test)]
mod tests;
