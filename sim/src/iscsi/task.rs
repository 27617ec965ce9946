//! A task as its initiator keeps it: the command's bytes, its data both ways, and what must hold of what the target sends.

use crate::iscsi::login::Agreed;
use crate::iscsi::pdu::Pdu;
use crate::payload::Stamp;
use crate::workload::Kind;
use engine::command::Failure;
use engine::units::Extent;

/// How an initiator moves a command's data: what the standard leaves to it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    /// Which of the commands that do the same (READ (10), (12), (16)), from a small number.
    pub(crate) form: u64,
    /// 0: no unsolicited data; 1: immediate data; 2: all that FirstBurstLength allows.
    pub(crate) unsolicited: u64,
    /// Longest segment that it sends, in bytes; 0: as long as the target takes.
    pub(crate) segment: u32,
    /// Expected Data Transfer Length minus the length that the command has, in bytes.
    pub(crate) beyond: i32,
}

/// What the volume said about the last command of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Said {
    Good,
    Miscompare(u64),
    Busy,
    Failed(Failure),
}

/// A task under way.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// The operation of the run; `None`: the initiator's own question.
    pub(crate) op: Option<u64>,
    /// The guest that waits.
    pub(crate) slot: u32,
    pub(crate) kind: Kind,
    pub(crate) extents: Vec<Extent>,
    pub(crate) fua: bool,
    /// The number in the stamps of what it writes.
    pub(crate) write: u64,
    /// What a read must not go behind.
    pub(crate) floors: Vec<u64>,
    /// The highest seq that was answered when it was sent.
    pub(crate) answered: u64,
    /// COMPARE AND WRITE: what the guest thinks is there.
    pub(crate) expect: Vec<Stamp>,
    pub(crate) shape: Shape,
    pub(crate) sent_at: u64,
    /// The same, by the second judge's clock.
    pub(crate) sent_tick: u64,
    /// A PERSISTENT RESERVE OUT.
    pub(crate) reserve: Option<super::reserve::Act>,
    /// Which reservations it met, if they are still the same at its end.
    pub(crate) reserve_version: u64,
    /// Its place among the session's commands.
    pub(crate) order: u64,
    /// When the volume was first asked.
    pub(crate) submitted_at: Option<u64>,
    /// Under which history of the seat it was sent.
    pub(crate) epoch: u64,

    pub(crate) reads: bool,
    /// Expected Data Transfer Length.
    pub(crate) expected: u32,
    /// Bytes that the command itself moves.
    pub(crate) wanted: u32,
    /// What it writes.
    pub(crate) out: Vec<u8>,
    /// Bytes of it that were sent.
    pub(crate) sent: u32,
    pub(crate) r2ts: u32,
    /// What it has read.
    pub(crate) read: Vec<u8>,
    pub(crate) data_pdus: u32,
    /// Bytes since the last Data-In with F.
    burst: u32,

    /// A bit of it was flipped on its way.
    pub(crate) is_damaged: bool,
    /// A function that ends it was sent.
    pub(crate) is_taken_back: bool,
    /// What the volume said.
    pub(crate) said: Option<Said>,
    /// Seqs of its records.
    pub(crate) seqs: Vec<u64>,
    /// The volume works on it.
    pub(crate) is_under_way: bool,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) status: u8,
    pub(crate) sense: Option<Sense>,
    /// Expected length minus what moved: below 0 for an overflow.
    pub(crate) residual: i64,
}

/// Sense data, fixed format. SPC-4 §4.5.3, "Fixed format sense data".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sense {
    pub(crate) key: u8,
    pub(crate) code: u16,
    pub(crate) information: Option<u32>,
}

impl Sense {
    /// The sense of a response's data segment: two bytes of length, then sense data.
    pub(crate) fn parse(segment: &[u8]) -> Option<Self> {
        let length = u16::from_be_bytes(*segment.first_chunk()?);
        let sense = segment.get(2..2 + usize::from(length))?;
        if sense.len() < 18 || sense[0] & 0x7f != 0x70 {
            return None;
        }
        let information = u32::from_be_bytes([sense[3], sense[4], sense[5], sense[6]]);
        Some(Self {
            key: sense[2] & 0x0f,
            code: u16::from_be_bytes([sense[12], sense[13]]),
            information: (sense[0] & 0x80 != 0).then_some(information),
        })
    }
}

/// The CDB of a task, its flags (R, W), and the bytes that it writes and that it moves.
pub(crate) struct Command {
    pub(crate) cdb: [u8; 16],
    pub(crate) reads: bool,
    pub(crate) writes: bool,
    pub(crate) out: Vec<u8>,
    /// Bytes that it moves by its CDB.
    pub(crate) wanted: u32,
}

fn span(cdb: &mut [u8; 16], ops: [u8; 3], form: u64, extent: Extent, flags: u8) {
    let (lba, count) = (extent.start.0, extent.count.0);
    let fits = lba <= u64::from(u32::MAX);
    cdb[1] = flags;
    match form % 3 {
        0 if fits && count <= 0xffff => {
            cdb[0] = ops[0];
            cdb[2..6].copy_from_slice(&(lba as u32).to_be_bytes());
            cdb[7..9].copy_from_slice(&(count as u16).to_be_bytes());
        }
        1 if fits && ops[1] != 0 => {
            cdb[0] = ops[1];
            cdb[2..6].copy_from_slice(&(lba as u32).to_be_bytes());
            cdb[6..10].copy_from_slice(&(count as u32).to_be_bytes());
        }
        _ => {
            cdb[0] = ops[2];
            cdb[2..10].copy_from_slice(&lba.to_be_bytes());
            cdb[10..14].copy_from_slice(&(count as u32).to_be_bytes());
        }
    }
}

/// Builds the command of an operation. `data`: the bytes of what it writes, `expect`: of what it compares with.
pub(crate) fn build(
    kind: Kind,
    extents: &[Extent],
    fua: bool,
    form: u64,
    unit: u32,
    expect: &[u8],
    data: Vec<u8>,
) -> Command {
    let mut cdb = [0; 16];
    let first = extents.first().copied().unwrap_or(Extent::new(0, 0));
    let bytes = (first.count.0 as u32).wrapping_mul(unit);
    let force = if fua { 0x08 } else { 0 };
    let (mut reads, mut out, mut wanted) = (false, data, 0);
    match kind {
        Kind::Read | Kind::Wrong => {
            span(&mut cdb, [0x28, 0xa8, 0x88], form, first, force);
            reads = true;
            wanted = bytes;
        }
        Kind::Write => {
            span(&mut cdb, [0x2a, 0xaa, 0x8a], form, first, force);
            wanted = bytes;
        }
        Kind::CompareAndWrite => {
            cdb[0] = 0x89;
            cdb[1] = force;
            cdb[2..10].copy_from_slice(&first.start.0.to_be_bytes());
            cdb[13] = first.count.0 as u8;
            out = [expect, &out].concat();
            wanted = out.len() as u32;
        }
        Kind::Flush => {
            cdb[0] = if form.is_multiple_of(2) { 0x35 } else { 0x91 };
        }
        Kind::WriteZeroes => {
            // WRITE SAME (16), with a block of zeros or without any (NDOB).
            span(&mut cdb, [0x93, 0, 0x93], 2, first, 0);
            if form.is_multiple_of(2) {
                out = vec![0; unit as usize];
                wanted = unit;
            } else {
                cdb[1] |= 0x01;
            }
        }
        Kind::Discard if extents.len() == 1 && form % 3 == 2 => {
            span(&mut cdb, [0x93, 0, 0x93], 2, first, 0x09);
        }
        Kind::Discard => {
            // Descriptors may overlap: now and then the first blocks are named once more.
            let again = Extent::new(first.start.0, first.count.0.div_ceil(2));
            let again = (form % 3 == 1).then_some(again);
            for extent in extents.iter().chain(&again) {
                out.extend(extent.start.0.to_be_bytes());
                out.extend((extent.count.0 as u32).to_be_bytes());
                out.extend([0; 4]);
            }
            let length = out.len() as u16;
            let mut list = (length + 6).to_be_bytes().to_vec();
            list.extend(length.to_be_bytes());
            list.extend([0; 4]);
            list.extend(out);
            out = list;
            wanted = out.len() as u32;
            cdb[0] = 0x42;
            cdb[7..9].copy_from_slice(&(wanted as u16).to_be_bytes());
        }
        // The program's own; it has no SCSI command.
        Kind::Attribute => {}
    }
    Command {
        cdb,
        reads,
        writes: !out.is_empty(),
        out,
        wanted,
    }
}

/// Extents in order, those that touch joined: what an UNMAP list means.
pub(crate) fn merged(extents: &[Extent]) -> Vec<Extent> {
    let mut sorted = extents.to_vec();
    sorted.sort_unstable();
    let mut out: Vec<Extent> = Vec::new();
    for extent in sorted {
        match out.last_mut() {
            Some(last) if last.end() >= extent.start => {
                let end = last.end().0.max(extent.end().0);
                *last = Extent::new(last.start.0, end - last.start.0);
            }
            _ => out.push(extent),
        }
    }
    out
}

impl Task {
    /// A task that was not sent yet.
    pub(crate) fn new(kind: Kind, extents: Vec<Extent>, shape: Shape, slot: u32) -> Self {
        Self {
            op: None,
            slot,
            kind,
            extents,
            fua: false,
            write: 0,
            floors: Vec::new(),
            answered: 0,
            expect: Vec::new(),
            shape,
            sent_at: 0,
            sent_tick: 0,
            reserve: None,
            reserve_version: 0,
            order: 0,
            submitted_at: None,
            epoch: 0,
            reads: false,
            expected: 0,
            wanted: 0,
            out: Vec::new(),
            sent: 0,
            r2ts: 0,
            read: Vec::new(),
            data_pdus: 0,
            burst: 0,
            is_damaged: false,
            is_taken_back: false,
            said: None,
            seqs: Vec::new(),
            is_under_way: false,
        }
    }

    /// Takes a Data-In PDU. Says what is wrong with it.
    pub(crate) fn data_in(&mut self, pdu: &Pdu, agreed: &Agreed) -> Result<(), String> {
        let length = pdu.data.len() as u32;
        let (number, offset) = (pdu.word(36), pdu.word(40));
        if !self.reads {
            return Err("Data-In for a command that reads nothing".into());
        }
        if number != self.data_pdus {
            return Err(format!("DataSN {number} where {} is due", self.data_pdus));
        }
        if offset as usize != self.read.len() || length == 0 {
            return Err(format!(
                "Data-In of {length} bytes at {offset}, where {} are here",
                self.read.len()
            ));
        }
        self.read.extend_from_slice(&pdu.data);
        self.data_pdus += 1;
        self.burst += length;
        let limit = self.wanted.min(self.expected);
        if self.read.len() as u32 > limit {
            return Err(format!("more than the {limit} bytes that were asked for"));
        }
        if self.burst > agreed.max_burst {
            return Err(format!(
                "a sequence of more than {} bytes",
                agreed.max_burst
            ));
        }
        let is_final = pdu.flag(0x80);
        let is_last = self.read.len() as u32 == limit;
        if !is_final && (is_last || self.burst == agreed.max_burst) {
            return Err("the end of a sequence without F".into());
        }
        if is_final {
            self.burst = 0;
        }
        Ok(())
    }

    /// Takes an R2T: the bytes that it asks for, as a range. Says what is wrong with it.
    pub(crate) fn r2t(&mut self, pdu: &Pdu, agreed: &Agreed) -> Result<(u32, u32), String> {
        let (number, offset, length) = (pdu.word(36), pdu.word(40), pdu.word(44));
        if pdu.word(20) == u32::MAX {
            return Err("an R2T without a transfer tag".into());
        }
        if number != self.r2ts {
            return Err(format!("R2TSN {number} where {} is due", self.r2ts));
        }
        if offset != self.sent {
            return Err(format!("an R2T at {offset}; {} were sent", self.sent));
        }
        let left = self.wanted.min(self.expected).saturating_sub(offset);
        if length == 0 || length > agreed.max_burst || length > left {
            return Err(format!("an R2T for {length} bytes; {left} are left"));
        }
        self.r2ts += 1;
        self.sent += length;
        Ok((offset, offset + length))
    }

    /// The residual that a good end has.
    pub(crate) fn residual(&self) -> i64 {
        i64::from(self.expected) - i64::from(self.wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(expected: u32, wanted: u32) -> Task {
        Task {
            reads: true,
            expected,
            wanted,
            ..Task::new(Kind::Read, vec![Extent::new(0, 2)], Shape::default(), 0)
        }
    }

    fn data(number: u32, offset: u32, bytes: usize, flags: u8) -> Pdu {
        Pdu::new(0x25, flags)
            .with(36, number)
            .with(40, offset)
            .with_data(&vec![7; bytes])
    }

    #[test]
    fn data_comes_in_order_and_in_whole_sequences() {
        let agreed = Agreed {
            max_burst: 600,
            ..Agreed::default()
        };
        let mut task = reading(1024, 1024);
        assert_eq!(task.data_in(&data(0, 0, 600, 0x80), &agreed), Ok(()));
        let mut skips = task.clone();
        assert!(skips.data_in(&data(2, 600, 424, 0x80), &agreed).is_err());
        let mut repeats = task.clone();
        assert!(repeats.data_in(&data(1, 0, 424, 0x80), &agreed).is_err());
        let mut open = task.clone();
        assert!(open.data_in(&data(1, 600, 424, 0), &agreed).is_err());
        let mut long = task.clone();
        assert!(long.data_in(&data(1, 600, 425, 0x80), &agreed).is_err());
        assert_eq!(task.data_in(&data(1, 600, 424, 0x81), &agreed), Ok(()));
    }

    #[test]
    fn an_r2t_asks_for_what_is_next_and_no_more() {
        let agreed = Agreed {
            max_burst: 512,
            ..Agreed::default()
        };
        let mut task = Task {
            reads: false,
            ..reading(1024, 1024)
        };
        let r2t = |number: u32, offset: u32, length: u32| {
            let pdu = Pdu::new(0x31, 0x80).with(36, number);
            pdu.with(40, offset).with(44, length)
        };
        assert!(task.clone().r2t(&r2t(0, 0, 513), &agreed).is_err());
        assert!(task.clone().r2t(&r2t(1, 0, 512), &agreed).is_err());
        assert!(task.clone().r2t(&r2t(0, 512, 512), &agreed).is_err());
        assert_eq!(task.r2t(&r2t(0, 0, 512), &agreed), Ok((0, 512)));
        assert_eq!(task.r2t(&r2t(1, 512, 512), &agreed), Ok((512, 1024)));
        assert!(task.r2t(&r2t(2, 1024, 1), &agreed).is_err());
    }

    #[test]
    fn an_unmap_list_means_its_blocks() {
        let extents = [Extent::new(8, 2), Extent::new(0, 4), Extent::new(4, 1)];
        assert_eq!(merged(&extents), [Extent::new(0, 5), Extent::new(8, 2)]);
        let command = build(Kind::Discard, &extents, false, 0, 512, &[], Vec::new());
        assert_eq!((command.cdb[0], command.wanted), (0x42, 8 + 3 * 16));
        assert_eq!(command.out[..4], [0, 54, 0, 48]);
    }

    #[test]
    fn sense_is_read_in_fixed_format() {
        let mut segment = vec![0, 18, 0xf0, 0, 3, 0, 0, 0, 9, 10, 0, 0, 0, 0, 0x11, 0];
        segment.extend([0; 4]);
        let sense = Sense::parse(&segment).expect("sense");
        assert_eq!(
            (sense.key, sense.code, sense.information),
            (3, 0x1100, Some(9))
        );
        assert_eq!(Sense::parse(&segment[..10]), None);
    }
}
