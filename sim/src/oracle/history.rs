//! The history of one attachment: which write has which seq, and so what every block may hold.
//!
//! Seqs are read off the `Append` effects; what they claim is checked against what guests saw: an order that contradicts
//! real time, an answer that comes too early, a read of a value that was not current.
//!
//! - B1: a read returns, per block, a value that was current at some moment between its start and its end, and reads do
//!   not go back in time.
//! - B2: a write that was answered before another was asked has the lower seq.
//! - B3, B4, P2: an answer says only what is true of the disk.
//! - B5, B6: after a crash the device is the writes up to one seq, at least all that was promised, and stays so.
//! - B7: a block's content was written to that very block.

use super::{Checked, Violation};
use crate::payload::Stamp;
use engine::units::Extent;
use std::collections::{BTreeMap, BTreeSet};

/// One version of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Version {
    seq: u64,
    stamp: Stamp,
    void: bool,
}

#[derive(Clone, Debug, Default)]
struct Block {
    /// Ascending seqs; the first is the base's.
    versions: Vec<Version>,
    /// The newest seq that an answered write or a finished read has shown: nothing older may be read any more.
    floor: u64,
    /// Seqs of this block whose content damage may have destroyed.
    damaged: Vec<u64>,
}

/// One accepted record.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    what: What,
    /// What it was before it was made void.
    was: Option<What>,
    /// A copy lies in the journal.
    written: bool,
    /// A copy is covered by a sync that succeeded.
    durable: bool,
    /// The last sync of its copy failed: the page may hold anything (A2), until the record is written elsewhere.
    unsure: bool,
    /// The guest heard that it is done.
    answered: bool,
}

/// What a record does.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Writes blocks.
    Write(Extent, Vec<Stamp>),
    /// Clears blocks.
    Holes(Vec<Extent>),
    /// Sets (a number that stands for the value) or removes an attribute.
    Attribute(String, Option<u64>),
    /// Nothing: it never happened.
    Void,
}

/// The history of one attachment.
#[derive(Clone, Debug, Default)]
pub struct History {
    blocks: Vec<Block>,
    entries: BTreeMap<u64, Entry>,
    attributes: BTreeMap<String, Vec<(u64, Option<u64>)>>,
    base: u64,
    /// All up to here is written.
    written: u64,
    /// All up to here is durable.
    durable: u64,
    /// The highest seq that a guest was told is done, and the highest told to be durable.
    answered: u64,
    answered_durable: u64,
    /// What is in the store for sure: a committed cut.
    stored: u64,
    /// What the recovery under way found and could not sync.
    unkept: BTreeSet<u64>,
    /// The first record may skip numbers up to here: a folder that held a history which others left behind counts on from it.
    skippable: u64,
}

/// What a read may assume at its start: the floors of its blocks.
pub type Floors = Vec<u64>;

impl History {
    /// A history that starts with `content` at `base`.
    pub fn new(content: &[Stamp], base: u64, attributes: &BTreeMap<String, u64>) -> Self {
        let block = |stamp: &Stamp| Block {
            versions: vec![Version {
                seq: base,
                stamp: *stamp,
                void: false,
            }],
            floor: base,
            damaged: Vec::new(),
        };
        Self {
            blocks: content.iter().map(block).collect(),
            entries: BTreeMap::new(),
            attributes: attributes
                .iter()
                .map(|(k, v)| (k.clone(), vec![(base, Some(*v))]))
                .collect(),
            base,
            written: base,
            durable: base,
            answered: base,
            answered_durable: base,
            stored: base,
            unkept: BTreeSet::new(),
            skippable: base,
        }
    }

    /// The highest number that this folder's journal may have given.
    pub fn highest_number(&self) -> u64 {
        self.last().max(self.skippable)
    }

    /// The folder's journal has numbers up to `last` of a history that others left behind: none of them is used again.
    pub fn count_on_from(&mut self, last: u64) {
        self.skippable = self.skippable.max(last);
    }

    // Nothing of this history has the numbers up to `to`.
    fn skip(&mut self, to: u64) {
        if self.entries.is_empty() && to > self.base && to <= self.skippable {
            self.base = to;
            self.set_stored(to);
            self.answered = self.answered.max(to);
            self.answered_durable = self.answered_durable.max(to);
        }
    }

    /// The highest seq accepted.
    pub fn last(&self) -> u64 {
        self.entries
            .last_key_value()
            .map_or(self.base, |(seq, _)| *seq)
    }

    /// The seq that the history starts from.
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// The highest seq whose record, and every record before it, is durable on the local disk.
    pub fn durable(&self) -> u64 {
        if self.entries.is_empty() {
            self.durable.max(self.skippable)
        } else {
            self.durable
        }
    }

    /// The highest cut known to be committed.
    pub const fn stored(&self) -> u64 {
        self.stored
    }

    /// The highest seq that a guest was told is done.
    pub const fn answered(&self) -> u64 {
        self.answered
    }

    /// A record was sent to the journal (for the first time, again, or as a void). Says whether it is new.
    pub fn accept(&mut self, seq: u64, what: What) -> Result<bool, Violation> {
        self.skip(seq.saturating_sub(1));
        if let Some(entry) = self.entries.get_mut(&seq) {
            if entry.what == what {
                return Ok(false);
            }
            if what == What::Void {
                if entry.answered {
                    let text = format!("seq {seq} is made void after it was answered");
                    return Err(Violation::new("P2", text));
                }
                entry.was = Some(std::mem::replace(&mut entry.what, What::Void));
                entry.written = false;
                entry.durable = false;
                self.set_void(seq);
                return Ok(false);
            }
            let text = format!("seq {seq} stands for {what:?} and for {:?}", entry.what);
            return Err(Violation::new("B2", text));
        }
        if seq <= self.base {
            let text = format!(
                "a record takes seq {seq}, the history starts at {}",
                self.base
            );
            return Err(Violation::new("B2", text));
        }
        match &what {
            What::Write(extent, stamps) => {
                for (lba, stamp) in extent.range().zip(stamps) {
                    self.put(lba, seq, *stamp)?;
                }
            }
            What::Holes(extents) => {
                for lba in extents.iter().flat_map(|e| e.range()) {
                    self.put(lba, seq, Stamp::ZERO)?;
                }
            }
            What::Attribute(key, value) => {
                let versions = self.attributes.entry(key.clone()).or_default();
                let at = versions.partition_point(|(s, _)| *s < seq);
                versions.insert(at, (seq, *value));
            }
            What::Void => {}
        }
        let entry = Entry {
            what,
            was: None,
            written: false,
            durable: false,
            unsure: false,
            answered: false,
        };
        self.entries.insert(seq, entry);
        Ok(true)
    }

    fn put(&mut self, lba: u64, seq: u64, stamp: Stamp) -> Checked {
        let Some(block) = self.blocks.get_mut(lba as usize) else {
            return Err(Violation::new(
                "B7",
                format!("seq {seq} writes block {lba}, behind the end"),
            ));
        };
        let at = block.versions.partition_point(|v| v.seq < seq);
        // The floor is an answered write, or one that was read: it comes before anything that is accepted now.
        if seq < block.floor {
            let text = format!(
                "seq {seq} writes block {lba} after seq {} was seen",
                block.floor
            );
            return Err(Violation::new("B2", text));
        }
        block.versions.insert(
            at,
            Version {
                seq,
                stamp,
                void: false,
            },
        );
        Ok(())
    }

    fn set_void(&mut self, seq: u64) {
        for block in &mut self.blocks {
            if let Ok(at) = block.versions.binary_search_by_key(&seq, |v| v.seq) {
                block.versions[at].void = true;
            }
        }
        for versions in self.attributes.values_mut() {
            versions.retain(|(s, _)| *s != seq);
        }
    }

    // What was made void is there after all.
    fn revive(&mut self, seq: u64) {
        for block in &mut self.blocks {
            if let Ok(at) = block.versions.binary_search_by_key(&seq, |v| v.seq) {
                block.versions[at].void = false;
            }
        }
        let Some(entry) = self.entries.get_mut(&seq) else {
            return;
        };
        entry.what = entry.was.take().unwrap_or(What::Void);
        if let What::Attribute(key, value) = &entry.what {
            let versions = self.attributes.entry(key.clone()).or_default();
            let at = versions.partition_point(|(s, _)| *s < seq);
            versions.insert(at, (seq, *value));
        }
    }

    /// A copy of that record is in the journal.
    pub fn set_written(&mut self, seq: u64) {
        if let Some(entry) = self.entries.get_mut(&seq) {
            entry.written = true;
            entry.unsure = false;
        }
        while self
            .entries
            .get(&(self.written + 1))
            .is_some_and(|e| e.written)
        {
            self.written += 1;
        }
    }

    /// A copy of that record is covered by a good sync.
    pub fn set_durable(&mut self, seq: u64) {
        if let Some(entry) = self.entries.get_mut(&seq) {
            entry.durable = true;
            entry.unsure = false;
        }
        while self
            .entries
            .get(&(self.durable + 1))
            .is_some_and(|e| e.durable)
        {
            self.durable += 1;
        }
    }

    /// A sync that should have covered that record failed.
    pub fn set_unsure(&mut self, seq: u64) {
        if let Some(entry) = self.entries.get_mut(&seq) {
            entry.unsure = !entry.durable;
        }
    }

    /// A recovery could not sync a file that holds these records: what of them was not durable before may be gone.
    pub fn set_unkept(&mut self, seqs: &[u64]) {
        if seqs.is_empty() {
            return;
        }
        self.unkept.extend(seqs);
        let durable = self.durable;
        for block in &mut self.blocks {
            let versions = block.versions.iter();
            let lost = versions.map(|v| v.seq).filter(|seq| *seq > durable);
            block.damaged.extend(lost);
        }
    }

    /// A root with this cut is committed: what it holds needs no journal any more.
    pub fn set_stored(&mut self, cut: u64) {
        self.stored = self.stored.max(cut);
        self.written = self.written.max(cut);
        self.durable = self.durable.max(cut);
        self.set_written(0);
        self.set_durable(0);
    }

    /// A read starts: what it must not go behind.
    pub fn floors(&self, extent: Extent) -> Floors {
        extent
            .range()
            .map(|lba| self.blocks[lba as usize].floor)
            .collect()
    }

    /// A read ends with these stamps.
    pub fn check_read(&mut self, extent: Extent, floors: &[u64], stamps: &[Stamp]) -> Checked {
        if stamps.len() as u64 != extent.count.0 {
            let text = format!(
                "a read of {extent} is answered with {} blocks",
                stamps.len()
            );
            return Err(Violation::new("B1", text));
        }
        for ((lba, floor), stamp) in extent.range().zip(floors).zip(stamps) {
            self.check_block(lba, *floor, *stamp)?;
        }
        Ok(())
    }

    fn check_block(&mut self, lba: u64, floor: u64, stamp: Stamp) -> Checked {
        let block = &mut self.blocks[lba as usize];
        // The version in effect at the floor: the newest real one at or below it.
        let above = block.versions.partition_point(|v| v.seq <= floor);
        let current = block.versions[..above]
            .iter()
            .rposition(|v| !v.void)
            .unwrap_or(0);
        let found = block.versions[current..].iter().find(|v| v.stamp == stamp);
        match found {
            Some(version) => {
                if !version.void {
                    block.floor = block.floor.max(version.seq);
                }
                Ok(())
            }
            None => Err(self.misread(lba, floor, stamp)),
        }
    }

    fn misread(&self, lba: u64, floor: u64, stamp: Stamp) -> Violation {
        let block = &self.blocks[lba as usize];
        let current = block
            .versions
            .iter()
            .rev()
            .find(|v| v.seq <= floor && !v.void);
        let should = current.map(|v| (v.seq, v.stamp));
        if stamp.volume == Stamp::GARBAGE {
            return Violation::new(
                "B7",
                format!("block {lba} reads as bytes that nobody wrote"),
            );
        }
        if !stamp.is_zero() && u64::from(stamp.lba) != lba {
            return Violation::new(
                "B7",
                format!("block {lba} reads as {stamp:?}, written elsewhere"),
            );
        }
        if let Some(old) = block.versions.iter().rev().find(|v| v.stamp == stamp) {
            let text = format!(
                "block {lba} reads as {stamp:?} (seq {}), but {should:?} or newer was seen before",
                old.seq
            );
            return Violation::new("B1", text);
        }
        if stamp.is_zero() {
            let text = format!("block {lba} reads as zeros, but holds {should:?}");
            return Violation::new("B10", text);
        }
        let text =
            format!("block {lba} reads as {stamp:?}, not in this history; it holds {should:?}");
        Violation::new("B6", text)
    }

    /// Whether a comparison with `expect` may have differed in a block, given the floors at its start.
    pub fn may_differ(&self, lba: u64, floor: u64, expect: Stamp) -> bool {
        let block = &self.blocks[lba as usize];
        let above = block.versions.partition_point(|v| v.seq <= floor);
        let current = block.versions[..above]
            .iter()
            .rposition(|v| !v.void)
            .unwrap_or(0);
        block.versions[current..].iter().any(|v| v.stamp != expect)
    }

    /// What block `lba` held just before `seq`.
    pub fn before(&self, lba: u64, seq: u64) -> Stamp {
        self.value_at(lba, seq.saturating_sub(1))
    }

    /// What the newest accepted write put into the block.
    pub fn newest(&self, lba: u64) -> Stamp {
        self.value_at(lba, u64::MAX)
    }

    fn value_at(&self, lba: u64, seq: u64) -> Stamp {
        let block = &self.blocks[lba as usize];
        let version = block
            .versions
            .iter()
            .rev()
            .find(|v| v.seq <= seq && !v.void);
        version.map_or(Stamp::ZERO, |v| v.stamp)
    }

    /// A write, discard or attribute whose records have these seqs is answered well, `durable` or not. `asked` is the
    /// highest seq that was answered when it was asked.
    pub fn check_answer(&mut self, seqs: &[u64], durable: bool, asked: u64) -> Checked {
        let Some(newest) = seqs.iter().copied().max() else {
            return Err(Violation::new(
                "P2",
                "a write is answered without a record in the journal",
            ));
        };
        for seq in seqs {
            if *seq <= asked {
                let text = format!("seq {seq} was asked after seq {asked} was answered");
                return Err(Violation::new("B2", text));
            }
            match self.entries.get_mut(seq) {
                Some(entry) if entry.what == What::Void => {
                    return Err(Violation::new(
                        "P2",
                        format!("void seq {seq} is answered well"),
                    ));
                }
                Some(entry) => entry.answered = true,
                None => {
                    return Err(Violation::new(
                        "P2",
                        format!("seq {seq} is answered, but gone"),
                    ));
                }
            }
        }
        if newest > self.written {
            let text = format!(
                "seq {newest} is answered, but the journal holds all only up to seq {}",
                self.written
            );
            return Err(Violation::new("P2", text));
        }
        if durable && newest > self.durable {
            let text = format!(
                "FUA seq {newest} is answered, but all is durable only up to seq {}",
                self.durable
            );
            return Err(Violation::new("B4", text));
        }
        self.answered = self.answered.max(newest);
        if durable {
            self.answered_durable = self.answered_durable.max(newest);
        }
        for seq in seqs {
            let extents: Vec<Extent> = match &self.entries[seq].what {
                What::Write(extent, _) => vec![*extent],
                What::Holes(extents) => extents.clone(),
                What::Attribute(..) | What::Void => continue,
            };
            for lba in extents.iter().flat_map(|e| e.range()) {
                let block = &mut self.blocks[lba as usize];
                block.floor = block.floor.max(*seq);
            }
        }
        Ok(())
    }

    /// An initiator hears that a write is done whose records have these seqs.
    pub fn check_heard(&self, seqs: &[u64], durable: bool) -> Checked {
        if seqs.is_empty() {
            let text = "an initiator hears of a write without a record in the journal";
            return Err(Violation::new("P2", text));
        }
        for seq in seqs {
            let entry = self.entries.get(seq);
            let is_done = entry.is_some_and(|e| e.answered && e.what != What::Void);
            if !is_done || *seq > self.written {
                let text = format!("an initiator hears that seq {seq} is done: {entry:?}");
                return Err(Violation::new("P2", text));
            }
            if durable && *seq > self.durable {
                let text =
                    format!("an initiator hears that FUA seq {seq} is done; it is not durable");
                return Err(Violation::new("B4", text));
            }
        }
        Ok(())
    }

    /// What has these records is over without an answer: they count for good from now on, or never.
    pub fn settle(&mut self, seqs: &[u64]) {
        // What never was written whole ended with an error that nobody heard: it stays in flight (P1).
        let written = self.written;
        for seq in seqs.iter().filter(|seq| **seq <= written) {
            let Some(entry) = self.entries.get_mut(seq) else {
                continue;
            };
            let extents: Vec<Extent> = match &entry.what {
                What::Write(extent, _) => vec![*extent],
                What::Holes(extents) => extents.clone(),
                What::Attribute(..) | What::Void => continue,
            };
            entry.answered = true;
            for lba in extents.iter().flat_map(|e| e.range()) {
                let block = &mut self.blocks[lba as usize];
                block.floor = block.floor.max(*seq);
            }
        }
    }

    /// A flush that was asked when `asked` was the highest answered seq is answered: durable up to `claimed`.
    pub fn check_flush(&mut self, asked: u64, claimed: u64) -> Checked {
        if claimed < asked {
            let text = format!("a flush names seq {claimed}; seq {asked} was answered before it");
            return Err(Violation::new("B3", text));
        }
        self.check_claim(claimed)?;
        self.answered_durable = self.answered_durable.max(claimed.min(self.last()));
        Ok(())
    }

    /// An answer says that all up to `claimed` is durable.
    pub fn check_claim(&self, claimed: u64) -> Checked {
        if claimed > self.durable() {
            let text = format!(
                "an answer claims seq {claimed} durable; all is durable only up to seq {}",
                self.durable
            );
            return Err(Violation::new("B3", text));
        }
        Ok(())
    }

    /// A restart says that the history ends at `end`; `power` when the machine lost power. `revives` tells of a seq that was
    /// made void whether the journal holds its record and no void of it: its write was answered with an error, if at all, so
    /// it is in flight until the next write of its blocks (P1), and a void beats it only where a void was written. From here
    /// on it has happened.
    pub fn recover(&mut self, end: u64, power: bool, revives: impl Fn(u64) -> bool) -> Checked {
        self.skip(end);
        // A process that dies before it has written again what a failed sync took cannot keep it.
        let sure = |(seq, entry): (&u64, &Entry)| entry.unsure.then_some(seq - 1);
        let sure = self.entries.iter().find_map(sure).unwrap_or(u64::MAX);
        let promised = if power {
            self.answered_durable
        } else {
            self.answered.min(sure).max(self.answered_durable)
        };
        if end < promised {
            let (what, property) = if power {
                ("durable", "B3")
            } else {
                ("done", "P2")
            };
            let text =
                format!("recovered up to seq {end}; seq {promised} was promised to be {what}");
            return Err(Violation::new(property, text));
        }
        if end < self.stored {
            let text = format!(
                "recovered up to seq {end}; the store has all up to {}",
                self.stored
            );
            return Err(Violation::new("B5", text));
        }
        if end > self.last().max(self.base) {
            let text = format!(
                "recovered up to seq {end}; the last one ever accepted was {}",
                self.last()
            );
            return Err(Violation::new("B5", text));
        }
        // Whole but for what no copy survives of; reads will tell.
        self.entries.retain(|seq, _| *seq <= end);
        let void: Vec<u64> = (self.entries.iter())
            .filter(|(seq, entry)| **seq > self.stored && entry.was.is_some())
            .map(|(seq, _)| *seq)
            .collect();
        void.into_iter()
            .filter(|seq| revives(*seq))
            .for_each(|seq| self.revive(seq));
        for block in &mut self.blocks {
            block
                .versions
                .retain(|v| v.seq <= end && !(v.void && v.seq > self.base));
            block.floor = block.versions.last().map_or(self.base, |v| v.seq);
            block.damaged.retain(|s| *s <= end);
        }
        for versions in self.attributes.values_mut() {
            versions.retain(|(s, _)| *s <= end);
        }
        let unkept = std::mem::take(&mut self.unkept);
        let mut durable = end;
        for (seq, entry) in self.entries.iter_mut().rev() {
            // It was found in the journal, and what recovery keeps it syncs; a sync that fails means nothing (A2).
            entry.written = true;
            entry.durable |= !unkept.contains(seq);
            entry.unsure = !entry.durable;
            if entry.unsure {
                durable = seq - 1;
            }
        }
        self.written = end;
        self.durable = durable.max(self.stored);
        self.answered = end;
        self.answered_durable = self.durable;
        Ok(())
    }

    /// The content at a cut.
    pub fn content_at(&self, cut: u64) -> Vec<Stamp> {
        (0..self.blocks.len() as u64)
            .map(|lba| self.value_at(lba, cut))
            .collect()
    }

    /// The attributes at a cut.
    pub fn attributes_at(&self, cut: u64) -> BTreeMap<String, u64> {
        let at = |(key, versions): (&String, &Vec<(u64, Option<u64>)>)| {
            let (_, value) = versions.iter().rev().find(|(s, _)| *s <= cut)?;
            value.map(|v| (key.clone(), v))
        };
        self.attributes.iter().filter_map(at).collect()
    }

    /// Damage may have destroyed what `seq` put into these blocks.
    pub fn set_damaged(&mut self, extent: Extent, seq: u64) {
        for lba in extent.range() {
            if let Some(block) = self.blocks.get_mut(lba as usize) {
                block.damaged.push(seq);
            }
        }
    }

    /// Whether a read of this block may be answered with an error for its damage: nothing newer was seen in it than what may
    /// be gone.
    pub fn may_be_damaged(&self, lba: u64) -> bool {
        let block = &self.blocks[lba as usize];
        let current = current(&block.versions, block.floor);
        block.damaged.iter().any(|seq| *seq >= current)
    }

    /// Whether anything that was written to this block may be gone, though something newer hid it since.
    pub fn was_damaged(&self, lba: u64) -> bool {
        !self.blocks[lba as usize].damaged.is_empty()
    }

    /// Whether a root with that cut may state this block lost.
    pub fn may_be_lost(&self, lba: u64, cut: u64) -> bool {
        let block = &self.blocks[lba as usize];
        let current = current(&block.versions, cut);
        (block.damaged.iter()).any(|seq| (current..=cut.max(current)).contains(seq))
    }

    /// The oldest seq that a read of these blocks, which begins now, may be answered with: it needs nothing of the store while
    /// that is above what is stored. A write in flight is none yet, and one made void is none at all.
    pub fn oldest(&self, extent: Extent) -> u64 {
        let oldest = |lba: u64| {
            let block = &self.blocks[lba as usize];
            current(&block.versions, block.floor)
        };
        extent.range().map(oldest).min().unwrap_or(0)
    }

    /// Number of blocks.
    pub fn block_count(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// The record of that seq.
    pub fn what(&self, seq: u64) -> Option<&What> {
        self.entries.get(&seq).map(|e| &e.what)
    }
}

// The seq of what was in effect at `seq`.
fn current(versions: &[Version], seq: u64) -> u64 {
    let found = versions.iter().rev().find(|v| v.seq <= seq && !v.void);
    found.map_or(0, |v| v.seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(lba: u32, write: u64) -> Stamp {
        Stamp {
            volume: 1,
            lba,
            write,
        }
    }

    fn history() -> History {
        History::new(&[Stamp::ZERO; 4], 0, &BTreeMap::new())
    }

    fn write(h: &mut History, seq: u64, lba: u64) {
        let what = What::Write(Extent::new(lba, 1), vec![stamp(lba as u32, seq)]);
        h.accept(seq, what).expect("a good record");
    }

    fn answer(h: &mut History, seq: u64) {
        h.set_written(seq);
        h.check_answer(&[seq], false, seq - 1)
            .expect("a good answer");
    }

    #[track_caller]
    fn violates(result: Checked, property: &str) {
        assert_eq!(result.expect_err("must be rejected").property, property);
    }

    #[test]
    fn a_stale_read_is_rejected_and_a_concurrent_one_is_not() {
        let mut h = history();
        write(&mut h, 1, 0);
        answer(&mut h, 1);
        let floors = h.floors(Extent::new(0, 1));
        write(&mut h, 2, 0);
        answer(&mut h, 2);
        // The read began before write 2: both values are right; but after it showed 2, no later one may show 1.
        h.clone()
            .check_read(Extent::new(0, 1), &floors, &[stamp(0, 1)])
            .expect("in flight together");
        h.check_read(Extent::new(0, 1), &floors, &[stamp(0, 2)])
            .expect("in flight together");
        let floors = h.floors(Extent::new(0, 1));
        violates(
            h.check_read(Extent::new(0, 1), &floors, &[stamp(0, 1)]),
            "B1",
        );
    }

    #[test]
    fn reads_do_not_go_back_in_time() {
        let mut h = history();
        write(&mut h, 1, 0);
        let floors = h.floors(Extent::new(0, 1));
        h.check_read(Extent::new(0, 1), &floors, &[stamp(0, 1)])
            .expect("an unanswered write may show");
        let floors = h.floors(Extent::new(0, 1));
        violates(
            h.check_read(Extent::new(0, 1), &floors, &[Stamp::ZERO]),
            "B1",
        );
    }

    #[test]
    fn another_blocks_content_and_garbage_are_rejected() {
        let mut h = history();
        write(&mut h, 1, 0);
        let floors = h.floors(Extent::new(1, 1));
        violates(
            h.check_read(Extent::new(1, 1), &floors, &[stamp(0, 1)]),
            "B7",
        );
        violates(
            h.check_read(Extent::new(1, 1), &floors, &[Stamp::garbage(4)]),
            "B7",
        );
        violates(
            h.check_read(Extent::new(1, 1), &floors, &[stamp(1, 9)]),
            "B6",
        );
    }

    #[test]
    fn an_answer_before_an_earlier_record_is_written_is_rejected() {
        let mut h = history();
        write(&mut h, 1, 0);
        write(&mut h, 2, 1);
        h.set_written(2);
        violates(h.clone().check_answer(&[2], false, 0), "P2");
        h.set_written(1);
        h.check_answer(&[2], false, 0)
            .expect("all before it is written");
        violates(h.check_answer(&[1], true, 0), "B4");
    }

    #[test]
    fn a_flush_that_covers_too_little_is_rejected() {
        let mut h = history();
        write(&mut h, 1, 0);
        answer(&mut h, 1);
        violates(h.clone().check_flush(1, 0), "B3");
        violates(h.clone().check_flush(1, 1), "B3");
        h.set_durable(1);
        h.check_flush(1, 1).expect("it is durable");
    }

    #[test]
    fn an_initiator_hears_only_of_what_was_answered() {
        let mut h = history();
        write(&mut h, 1, 0);
        h.set_written(1);
        violates(h.check_heard(&[1], false), "P2");
        h.check_answer(&[1], false, 0).expect("a good answer");
        h.check_heard(&[1], false).expect("it was answered");
        violates(h.check_heard(&[1], true), "B4");
        violates(h.check_heard(&[], false), "P2");
    }

    #[test]
    fn what_is_over_counts_for_good_or_never() {
        let mut h = history();
        write(&mut h, 1, 0);
        // Over before it was written whole: it ended with an error that nobody heard.
        let mut failed = h.clone();
        failed.settle(&[1]);
        let floors = failed.floors(Extent::new(0, 1));
        failed
            .check_read(Extent::new(0, 1), &floors, &[Stamp::ZERO])
            .expect("it never happened");
        h.set_written(1);
        h.settle(&[1]);
        let floors = h.floors(Extent::new(0, 1));
        h.clone()
            .check_read(Extent::new(0, 1), &floors, &[stamp(0, 1)])
            .expect("an aborted write may have happened");
        violates(
            h.clone()
                .check_read(Extent::new(0, 1), &floors, &[Stamp::ZERO]),
            "B1",
        );
        violates(h.accept(1, What::Void).map(|_| ()), "P2");
    }

    #[test]
    fn a_recovery_keeps_what_was_promised_and_no_more_than_there_was() {
        let mut h = history();
        for seq in 1..=3 {
            write(&mut h, seq, 0);
            answer(&mut h, seq);
        }
        h.set_durable(1);
        violates(h.clone().check_flush(3, 1), "B3");
        h.check_flush(1, 1).expect("asked after the first");
        let mut h2 = h.clone();
        violates(h2.recover(2, false, |_| false), "P2");
        violates(h.clone().recover(4, true, |_| false), "B5");
        h.recover(2, true, |_| false).expect("a prefix");
        let floors = h.floors(Extent::new(0, 1));
        h.check_read(Extent::new(0, 1), &floors, &[stamp(0, 2)])
            .expect("what survived");
        violates(
            h.check_read(Extent::new(0, 1), &floors, &[stamp(0, 3)]),
            "B6",
        );
        violates(
            h.check_read(Extent::new(0, 1), &floors, &[stamp(0, 1)]),
            "B1",
        );
    }

    #[test]
    fn numbers_of_a_history_left_behind_are_skipped_once_and_no_others() {
        let mut h = history();
        h.count_on_from(7);
        h.check_claim(7).expect("nothing has these numbers");
        violates(h.check_claim(8), "B3");
        let mut other = h.clone();
        other.recover(7, true, |_| false).expect("it ended there");
        violates(h.clone().recover(8, false, |_| false), "B5");
        write(&mut h, 8, 0);
        answer(&mut h, 8);
        violates(h.check_claim(8), "B3");
        h.set_durable(8);
        h.check_flush(8, 8).expect("all before it was never there");
        write(&mut h, 10, 0);
        h.set_written(10);
        violates(h.check_answer(&[10], false, 8), "P2");
    }

    #[test]
    fn what_a_failed_sync_took_is_not_asked_of_a_process_that_dies_then() {
        let mut h = history();
        for seq in 1..=3 {
            write(&mut h, seq, 0);
            answer(&mut h, seq);
        }
        h.set_unsure(2);
        violates(h.clone().recover(0, false, |_| false), "P2");
        h.clone()
            .recover(1, false, |_| false)
            .expect("the page may hold anything");
        h.set_written(2);
        violates(h.recover(1, false, |_| false), "P2");
    }

    #[test]
    fn what_a_restart_finds_and_cannot_sync_may_be_damaged() {
        let mut h = history();
        write(&mut h, 1, 0);
        write(&mut h, 2, 1);
        h.set_written(1);
        h.set_written(2);
        h.set_durable(1);
        h.set_unkept(&[1, 2]);
        h.recover(2, false, |_| false).expect("both are there");
        assert!(!h.may_be_damaged(0) && h.may_be_damaged(1));
    }

    #[test]
    fn damage_excuses_what_it_hit_until_something_newer_was_seen() {
        let mut h = history();
        write(&mut h, 1, 0);
        answer(&mut h, 1);
        write(&mut h, 2, 1);
        answer(&mut h, 2);
        assert!(!h.may_be_damaged(0) && !h.may_be_lost(0, 2));
        h.set_damaged(Extent::new(0, 1), 1);
        assert!(h.may_be_damaged(0) && !h.may_be_damaged(1));
        // A root from before the write has what lay below it.
        assert!(h.may_be_lost(0, 1) && h.may_be_lost(0, 2) && !h.may_be_lost(0, 0));
        // It is never an excuse for older content.
        let floors = h.floors(Extent::new(0, 1));
        let old = h.check_read(Extent::new(0, 1), &floors, &[Stamp::ZERO]);
        violates(old, "B1");
        write(&mut h, 3, 0);
        assert!(h.may_be_damaged(0), "a read may have begun before");
        answer(&mut h, 3);
        assert!(!h.may_be_damaged(0) && h.may_be_lost(0, 2) && !h.may_be_lost(0, 3));
        assert!(h.was_damaged(0));
    }

    #[test]
    fn what_a_restart_finds_and_cannot_sync_is_not_durable() {
        let mut h = history();
        for seq in 1..=3 {
            write(&mut h, seq, seq);
            answer(&mut h, seq);
        }
        h.set_durable(1);
        let mut kept = h.clone();
        h.set_unkept(&[1, 3]);
        h.recover(3, false, |_| false).expect("all are there");
        violates(h.check_flush(3, 3), "B3");
        h.check_claim(2).expect("its file was synced");
        violates(h.clone().recover(1, true, |_| false), "B3");
        h.recover(2, true, |_| false)
            .expect("nobody was promised 3, though it was seen");
        kept.recover(3, false, |_| false).expect("all are there");
        kept.check_flush(3, 3).expect("it is synced");
        violates(kept.recover(2, true, |_| false), "B3");
    }

    #[test]
    fn a_void_may_have_been_read_and_is_gone_after() {
        let mut h = history();
        write(&mut h, 1, 0);
        h.accept(1, What::Void).expect("not answered yet");
        let floors = h.floors(Extent::new(0, 1));
        h.check_read(Extent::new(0, 1), &floors, &[Stamp::ZERO])
            .expect("it never happened");
        assert_eq!(h.content_at(5)[0], Stamp::ZERO);
        h.set_written(1);
        violates(h.check_answer(&[1], false, 0), "P2");
    }

    #[test]
    fn a_void_that_was_not_written_does_not_undo_what_a_restart_finds() {
        let mut h = history();
        write(&mut h, 1, 0);
        answer(&mut h, 1);
        h.accept(2, What::Holes(vec![Extent::new(0, 1)]))
            .expect("good");
        h.accept(2, What::Void).expect("not answered yet");
        let floors = h.floors(Extent::new(0, 1));
        h.check_read(Extent::new(0, 1), &floors, &[stamp(0, 1)])
            .expect("what came before");
        let mut undone = h.clone();
        undone.recover(2, false, |_| false).expect("both are there");
        let floors = undone.floors(Extent::new(0, 1));
        violates(
            undone.check_read(Extent::new(0, 1), &floors, &[Stamp::ZERO]),
            "B1",
        );
        h.recover(2, false, |seq| seq == 2).expect("both are there");
        let floors = h.floors(Extent::new(0, 1));
        h.check_read(Extent::new(0, 1), &floors, &[Stamp::ZERO])
            .expect("it has happened");
        violates(
            h.check_read(Extent::new(0, 1), &floors, &[stamp(0, 1)]),
            "B1",
        );
        assert_eq!(h.content_at(2)[0], Stamp::ZERO);
    }

    #[test]
    fn a_seq_stands_for_one_write() {
        let mut h = history();
        write(&mut h, 1, 0);
        assert_eq!(
            h.accept(1, What::Write(Extent::new(0, 1), vec![stamp(0, 1)])),
            Ok(false)
        );
        violates(
            h.accept(1, What::Holes(vec![Extent::new(0, 1)]))
                .map(|_| ()),
            "B2",
        );
    }

    #[test]
    fn a_cut_is_the_writes_up_to_it() {
        let mut h = history();
        write(&mut h, 1, 0);
        write(&mut h, 2, 1);
        h.accept(3, What::Holes(vec![Extent::new(0, 2)]))
            .expect("good");
        assert_eq!(h.content_at(2)[..2], [stamp(0, 1), stamp(1, 2)]);
        assert_eq!(h.content_at(3)[..2], [Stamp::ZERO; 2]);
    }

    #[test]
    fn a_read_is_local_when_all_that_it_may_see_is() {
        let all = Extent::new(0, 2);
        let mut h = history();
        write(&mut h, 1, 0);
        write(&mut h, 2, 1);
        // In flight: the read may see what they replace.
        assert_eq!(h.oldest(all), 0);
        answer(&mut h, 1);
        answer(&mut h, 2);
        assert_eq!(h.oldest(all), 1);
        // Odd: a newer write in flight makes nothing older.
        write(&mut h, 3, 0);
        assert_eq!(h.oldest(all), 1);
        h.accept(3, What::Void).expect("a void");
        assert_eq!(h.oldest(all), 1);
        // After a restart all that was found is seen.
        h.set_stored(1);
        h.recover(2, false, |_| false).expect("all of it");
        assert_eq!((h.oldest(all), h.stored()), (1, 1));
        assert_eq!(h.oldest(Extent::new(1, 1)), 2);
    }
}
