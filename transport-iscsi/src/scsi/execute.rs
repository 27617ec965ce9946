//! From a request to its outcome: the commands that the volume must carry out, one after another.
//!
//! Shape      [`check`] before any data is asked for → [`Job::start`] with the data → [`Step::Ask`] … [`Job::resume`] … →
//!            [`Step::Done`]. Most requests are one command of the volume, or none.
//! Invariant  a job has at most one command under way.

use super::cdb::{Against, Check, Request, Span};
use super::mode;
use super::reserve::{Denied, Nexus};
use super::sense::{Sense, sense_for, status};
use super::unit::{COMPARE_BLOCKS_MAX, UNMAP_DESCRIPTORS_MAX, UnitView};
use super::{capacity, copy, inquiry, opcodes, vpd};
use crate::payload::{WirePayload, sums};
use crate::target::{Target, UnitFlags};
use bytes::{Bytes, BytesMut};
use engine::units::{BlockCount, Extent, Lba};
use engine::{Command, Part, Parts, Reply};
use smallvec::SmallVec;
use std::collections::VecDeque;

/// How a request ended.
#[derive(Clone, Debug)]
pub struct Outcome<P> {
    /// SCSI status.
    pub status: u8,
    /// With CHECK CONDITION.
    pub sense: Option<Sense>,
    /// For the initiator; perhaps more than it wants.
    pub data: Parts<P>,
    /// Whose commands to this unit are to be aborted, and over, before it is told (PREEMPT AND ABORT).
    pub preempted: Vec<Nexus>,
}

impl<P: WirePayload> Outcome<P> {
    /// GOOD, without data.
    pub fn good() -> Self {
        Self::of(status::GOOD)
    }

    /// A status without sense or data.
    pub fn of(status: u8) -> Self {
        Self {
            status,
            sense: None,
            data: Parts::default(),
            preempted: Vec::new(),
        }
    }

    /// CHECK CONDITION.
    pub fn check(sense: Sense) -> Self {
        Self {
            status: status::CHECK_CONDITION,
            sense: Some(sense),
            data: Parts::default(),
            preempted: Vec::new(),
        }
    }

    fn with_data(data: Vec<u8>) -> Self {
        Self {
            data: Parts::one(P::from_bytes(data.into())),
            ..Self::good()
        }
    }
}

/// What comes next.
#[derive(Clone, Debug)]
pub enum Step<P> {
    /// The volume must do this; its reply goes to [`Job::resume`].
    Ask(Command<P>),
    /// It is over.
    Done(Outcome<P>),
}

/// Who asks, and of what.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The target.
    pub target: &'a Target,
    /// The unit.
    pub view: UnitView<'a>,
    /// The initiator.
    pub nexus: &'a Nexus,
    /// The session.
    pub tsih: u16,
}

/// A request under way.
#[derive(Debug)]
pub struct Job<P> {
    block_bytes: u32,
    stage: Stage<P>,
    copied: Copied,
}

/// How far an EXTENDED COPY came.
#[derive(Clone, Copy, Debug, Default)]
struct Copied {
    is_kept: bool,
    list_id: u8,
    segments: u16,
    bytes: u64,
}

#[derive(Debug)]
enum Stage<P> {
    /// One command, whose reply is the outcome.
    Last,
    /// A read that must see the medium: the flush before it.
    FlushThenRead(Extent),
    /// A write; then its blocks are read, and compared with the data if there is any.
    WriteThenVerify(Verify<P>),
    /// Reading a part of what is to be verified.
    Verify(Extent, Verify<P>),
    /// Writing a pattern: what is left after the part under way.
    Pattern { rest: Extent, chunk: P, fua: bool },
    /// ORWRITE: reading the old content of a part.
    OrRead(Extent, Or<P>),
    /// EXTENDED COPY: reading a part, to be written there.
    CopyRead(Extent, VecDeque<(Extent, Lba)>),
    /// EXTENDED COPY: writing a part.
    CopyWrite(VecDeque<(Extent, Lba)>),
    /// ORWRITE: swapping a part.
    OrSwap(Extent, Or<P>),
}

#[derive(Debug)]
struct Verify<P> {
    /// Blocks not yet asked for.
    rest: Extent,
    against: Against,
    /// What the blocks (or each of them) must be.
    data: Option<P>,
    /// Bytes of it that were compared.
    done: u64,
}

#[derive(Debug)]
struct Or<P> {
    rest: Extent,
    data: P,
    done: u64,
    fua: bool,
}

/// Judges a request before its data is asked for: protection, range, limits.
///
/// # Errors
///
/// The sense of the CHECK CONDITION.
pub fn check(request: &Request, view: &UnitView<'_>) -> Result<(), Sense> {
    if request.is_write()
        && let Some(sense) = view.write_protection()
    {
        return Err(sense);
    }
    let limit = |count: u64, most: u64| {
        if count > most {
            Err(Sense::INVALID_FIELD_IN_CDB)
        } else {
            Ok(())
        }
    };
    let transfer_max = u64::from(view.transfer_blocks_max());
    match request {
        Request::Write {
            span, atomic: true, ..
        } => {
            view.within(span.lba, span.count)?;
            limit(span.count, u64::from(view.record_blocks_max()))
        }
        Request::Read { span, .. } | Request::Write { span, .. } | Request::Or { span, .. } => {
            view.within(span.lba, span.count)?;
            limit(span.count, transfer_max)
        }
        Request::Verify { span, against } => {
            view.within(span.lba, span.count)?;
            match against {
                Against::Blocks => limit(span.count, transfer_max),
                Against::Nothing | Against::OneBlock => Ok(()),
            }
        }
        Request::CompareAndWrite { span, .. } => {
            view.within(span.lba, span.count)?;
            limit(span.count, u64::from(COMPARE_BLOCKS_MAX))
        }
        Request::WriteSame { span, .. } => {
            view.within(span.lba, span.count)?;
            limit(to_the_end(span, view).count.0, view.write_same_blocks_max())
        }
        Request::Synchronize { span } | Request::Prefetch { span } => {
            view.within(span.lba, span.count).map(|_| ())
        }
        // The block itself must be there.
        Request::LbaStatus { lba, .. } => view.within(*lba, 1).map(|_| ()),
        _ => Ok(()),
    }
}

/// The blocks of a WRITE SAME: length 0 means all from the first on. SBC-3 §5.44, "WRITE SAME (10) command".
fn to_the_end(span: &Span, view: &UnitView<'_>) -> Extent {
    let count = match span.count {
        0 => view.capacity().0.saturating_sub(span.lba),
        count => count,
    };
    Extent::new(span.lba, count)
}

impl<P: WirePayload> Job<P> {
    /// Begins a request that passed [`check`]. `data` is what the initiator sent: at most what the CDB asks for.
    pub fn start(request: &Request, context: &Context<'_>, data: P) -> (Self, Step<P>) {
        let block_bytes = context.view.block_bytes();
        let mut job = Self {
            block_bytes,
            stage: Stage::Last,
            copied: Copied::default(),
        };
        let step = match *request {
            Request::Read { span, fua } => {
                let fua = fua && !bug!("read-ignores-fua");
                job.read(Extent::new(span.lba, span.count), fua)
            }
            Request::Write {
                span, fua, check, ..
            } => job.write(Extent::new(span.lba, span.count), data, fua, check),
            Request::Verify { span, against } => {
                let given = data.len().0;
                if given < request.data_out_bytes(block_bytes) {
                    return (job, short_data());
                }
                job.verify(Verify {
                    rest: Extent::new(span.lba, span.count),
                    against,
                    data: (against != Against::Nothing).then_some(data),
                    done: 0,
                })
            }
            Request::Or { span, fua } => match job.whole_blocks(span.lba, &data) {
                Ok(rest) => job.or(Or {
                    rest,
                    data,
                    done: 0,
                    fua,
                }),
                Err(step) => step,
            },
            Request::CompareAndWrite { span, fua } => {
                job.compare_and_write(Extent::new(span.lba, span.count), &data, fua)
            }
            Request::WriteSame { span, unmap, .. } => {
                job.write_same(to_the_end(&span, &context.view), unmap, data)
            }
            Request::Unmap { .. } => unmap(&context.view, data.as_slice()),
            Request::Synchronize { .. } => Step::Ask(Command::Flush),
            Request::ExtendedCopy { list_bytes } => {
                if data.len().0 < u64::from(list_bytes) {
                    return (job, short_data());
                }
                match copy::parse(&context.view, data.as_slice()) {
                    Ok(plan) => {
                        job.copied.is_kept = plan.is_kept && !plan.segments.is_empty();
                        job.copied.list_id = plan.list_id;
                        job.copy(plan.segments.into())
                    }
                    Err(sense) => Step::Done(Outcome::check(sense)),
                }
            }
            _ => Step::Done(without_volume(request, context, data.as_slice())),
        };
        (job, step)
    }

    /// Goes on with the volume's reply.
    pub fn resume(&mut self, reply: Reply<P>) -> Step<P> {
        match reply {
            Reply::Busy => return Step::Done(Outcome::of(status::BUSY)),
            Reply::Failed(failure) => {
                let (status, sense) = sense_for(failure);
                return Step::Done(Outcome {
                    status,
                    sense,
                    data: Parts::default(),
                    preempted: Vec::new(),
                });
            }
            _ => {}
        }
        match (core::mem::replace(&mut self.stage, Stage::Last), reply) {
            (Stage::Last, Reply::Read(data)) => Step::Done(Outcome {
                data,
                ..Outcome::good()
            }),
            (Stage::Last, Reply::Miscompare { at }) => Step::Done(Outcome::check(
                Sense::MISCOMPARE_DURING_VERIFY.with_information(at.0),
            )),
            (Stage::FlushThenRead(extent), _) => Step::Ask(Command::Read(extent)),
            (Stage::WriteThenVerify(verify), _) => self.verify(verify),
            (Stage::Verify(part, verify), Reply::Read(found)) => {
                self.verified(part, verify, &found)
            }
            (Stage::Pattern { rest, chunk, fua }, _) => self.pattern(rest, chunk, fua),
            (Stage::OrRead(part, or), Reply::Read(old)) => self.or_swap(part, or, old),
            // Somebody else wrote in between: read again.
            (Stage::OrSwap(part, or), Reply::Miscompare { .. }) => {
                self.stage = Stage::OrRead(part, or);
                Step::Ask(Command::Read(part))
            }
            (Stage::OrSwap(_, or), _) => self.or(or),
            (Stage::CopyRead(to, rest), Reply::Read(found)) => {
                self.copied.bytes += found.len().0;
                self.stage = Stage::CopyWrite(rest);
                Step::Ask(self.write_command(to, joined(found), false))
            }
            (Stage::CopyWrite(rest), _) => self.copy(rest),
            _ => Step::Done(Outcome::good()),
        }
    }

    fn read(&mut self, extent: Extent, fua: bool) -> Step<P> {
        if extent.is_empty() {
            return Step::Done(Outcome::good());
        }
        if fua {
            self.stage = Stage::FlushThenRead(extent);
            return Step::Ask(Command::Flush);
        }
        Step::Ask(Command::Read(extent))
    }

    /// The blocks that the data fills. An initiator that expects to send less than the CDB says gets just that written.
    fn whole_blocks(&self, lba: u64, data: &P) -> Result<Extent, Step<P>> {
        let bytes = data.len().0;
        let block = u64::from(self.block_bytes);
        if !bytes.is_multiple_of(block) {
            return Err(short_data());
        }
        if bytes == 0 {
            return Err(Step::Done(Outcome::good()));
        }
        Ok(Extent::new(lba, bytes / block))
    }

    fn write(&mut self, asked: Extent, data: P, fua: bool, check: Check) -> Step<P> {
        let at = match self.whole_blocks(asked.start.0, &data) {
            Ok(at) => at,
            Err(step) => return step,
        };
        if check != Check::None {
            self.stage = Stage::WriteThenVerify(Verify {
                rest: at,
                against: Against::Blocks,
                data: (check == Check::Bytes).then(|| data.clone()),
                done: 0,
            });
        }
        Step::Ask(self.write_command(at, data, fua))
    }

    fn write_command(&self, at: Extent, data: P, fua: bool) -> Command<P> {
        Command::Write {
            at,
            sums: sums(self.block_bytes, at, data.as_slice()),
            data,
            fua,
        }
    }

    /// Blocks of 1 MiB: the part of a long extent that is handled at once.
    fn part_of(&self, rest: Extent) -> (Extent, Extent) {
        let most = u64::from(engine::units::RECORD_BYTES_MAX / self.block_bytes);
        let count = rest.count.0.min(most);
        let part = Extent::new(rest.start.0, count);
        (
            part,
            Extent::new(rest.start.0 + count, rest.count.0 - count),
        )
    }

    fn verify(&mut self, mut verify: Verify<P>) -> Step<P> {
        if verify.rest.is_empty() {
            return Step::Done(Outcome::good());
        }
        let (part, rest) = self.part_of(verify.rest);
        verify.rest = rest;
        self.stage = Stage::Verify(part, verify);
        Step::Ask(Command::Read(part))
    }

    fn verified(&mut self, part: Extent, mut verify: Verify<P>, found: &Parts<P>) -> Step<P> {
        let bytes = part.count.0 * u64::from(self.block_bytes);
        if let Some(data) = &verify.data {
            let differs = if verify.against == Against::OneBlock {
                first_difference(found, data.as_slice())
            } else {
                let wanted = data.slice(verify.done..verify.done + bytes);
                first_difference(found, wanted.as_slice())
            };
            if let Some(at) = differs {
                return Step::Done(Outcome::check(
                    Sense::MISCOMPARE_DURING_VERIFY.with_information(verify.done + at),
                ));
            }
        }
        verify.done += bytes;
        self.verify(verify)
    }

    fn compare_and_write(&self, at: Extent, data: &P, fua: bool) -> Step<P> {
        if at.is_empty() {
            return Step::Done(Outcome::good());
        }
        let half = at.count.0 * u64::from(self.block_bytes);
        if data.len().0 != half * 2 {
            return short_data();
        }
        let new = data.slice(half..half * 2);
        Step::Ask(Command::CompareAndWrite {
            at,
            expect: data.slice(0..half),
            sums: sums(self.block_bytes, at, new.as_slice()),
            data: new,
            fua: fua && !bug!("compare-ignores-fua"),
        })
    }

    /// Zeros are stated, not written; with UNMAP their space goes too (LBPRZ). Any other block is written again and again.
    fn write_same(&mut self, at: Extent, unmap: bool, block: P) -> Step<P> {
        if at.is_empty() {
            return Step::Done(Outcome::good());
        }
        let is_zero = block.as_slice().iter().all(|b| *b == 0);
        if is_zero && unmap && !bug!("zeros-are-written-for-unmap") {
            let mut extents = SmallVec::new();
            extents.push(at);
            return Step::Ask(Command::Discard(extents));
        }
        if is_zero {
            return Step::Ask(Command::WriteZeroes { at, fua: false });
        }
        if block.len().0 != u64::from(self.block_bytes) {
            return short_data();
        }
        let (part, _) = self.part_of(at);
        let mut chunk = BytesMut::with_capacity((part.count.0 * block.len().0) as usize);
        for _ in 0..part.count.0 {
            chunk.extend_from_slice(block.as_slice());
        }
        self.pattern(at, P::from_bytes(chunk.freeze()), false)
    }

    fn pattern(&mut self, rest: Extent, chunk: P, fua: bool) -> Step<P> {
        if rest.is_empty() {
            return Step::Done(Outcome::good());
        }
        let (part, rest) = self.part_of(rest);
        let data = chunk.slice(0..part.count.0 * u64::from(self.block_bytes));
        self.stage = Stage::Pattern { rest, chunk, fua };
        Step::Ask(self.write_command(part, data, fua))
    }

    /// What RECEIVE COPY RESULTS will tell of a job that ended so.
    pub fn copy_record(&self, tsih: u16, outcome: &Outcome<P>) -> Option<copy::Record> {
        let copied = &self.copied;
        copied.is_kept.then_some(copy::Record {
            tsih,
            list_id: copied.list_id,
            segments: copied.segments,
            bytes: copied.bytes,
            is_good: outcome.status == status::GOOD,
        })
    }

    /// The next part of the first segment that is left.
    fn copy(&mut self, mut rest: VecDeque<(Extent, Lba)>) -> Step<P> {
        let Some((from, to)) = rest.pop_front() else {
            return Step::Done(Outcome::good());
        };
        let (part, left) = self.part_of(from);
        let count = part.count;
        if left.is_empty() {
            self.copied.segments = self.copied.segments.saturating_add(1);
        } else {
            rest.push_front((left, Lba(to.0 + count.0)));
        }
        self.stage = Stage::CopyRead(Extent { start: to, count }, rest);
        Step::Ask(Command::Read(part))
    }

    fn or(&mut self, mut or: Or<P>) -> Step<P> {
        if or.rest.is_empty() {
            return Step::Done(Outcome::good());
        }
        let (part, rest) = self.part_of(or.rest);
        or.rest = rest;
        or.done = or.data.len().0 - (part.count.0 + rest.count.0) * u64::from(self.block_bytes);
        self.stage = Stage::OrRead(part, or);
        Step::Ask(Command::Read(part))
    }

    fn or_swap(&mut self, part: Extent, or: Or<P>, old: Parts<P>) -> Step<P> {
        let expect = joined(old);
        let bytes = part.count.0 * u64::from(self.block_bytes);
        let new = or.data.slice(or.done..or.done + bytes);
        let pairs = expect.as_slice().iter().zip(new.as_slice());
        let merged: Vec<u8> = pairs.map(|(old, new)| old | new).collect();
        let fua = or.fua;
        self.stage = Stage::OrSwap(part, or);
        Step::Ask(Command::CompareAndWrite {
            at: part,
            expect,
            sums: sums(self.block_bytes, part, &merged),
            data: P::from_bytes(merged.into()),
            fua,
        })
    }
}

/// Fewer bytes than the command needs, or part of a block.
fn short_data<P: WirePayload>() -> Step<P> {
    Step::Done(Outcome::check(Sense::INVALID_FIELD_IN_INFORMATION_UNIT))
}

/// One handle for the bytes of a scatter list.
fn joined<P: WirePayload>(parts: Parts<P>) -> P {
    if let [Part::Data(one)] = parts.0.as_slice() {
        return one.clone();
    }
    // At most one record (1 MiB): the callers read in such parts.
    let mut bytes = BytesMut::with_capacity(parts.len().0 as usize);
    for part in &parts.0 {
        match part {
            Part::Data(p) => bytes.extend_from_slice(p.as_slice()),
            Part::Zeros(n) => bytes.resize(bytes.len() + n.0 as usize, 0),
        }
    }
    P::from_bytes(bytes.freeze())
}

/// Offset of the first byte of `found` that is not as wanted; `wanted` is repeated as often as needed.
fn first_difference<P: WirePayload>(found: &Parts<P>, wanted: &[u8]) -> Option<u64> {
    let mut at = 0;
    for part in &found.0 {
        match part {
            Part::Data(p) => {
                let mut rest = p.as_slice();
                while !rest.is_empty() && !wanted.is_empty() {
                    let from = wanted.get(at as usize % wanted.len()..).unwrap_or(&[]);
                    let count = rest.len().min(from.len());
                    let pairs = rest.iter().zip(from);
                    // Slices are compared as a whole; only where they differ is the byte looked for.
                    if rest.get(..count) != from.get(..count) {
                        let differs = pairs.take_while(|(a, b)| a == b).count();
                        return Some(at + differs as u64);
                    }
                    rest = rest.get(count..).unwrap_or(&[]);
                    at += count as u64;
                }
            }
            Part::Zeros(n) => {
                let end = at + n.0;
                while at < end && !wanted.is_empty() {
                    let from = wanted.get(at as usize % wanted.len()..).unwrap_or(&[]);
                    let count = (end - at).min(from.len() as u64);
                    let mut zeros = from.iter().take(count as usize);
                    if let Some(differs) = zeros.position(|b| *b != 0) {
                        return Some(at + differs as u64);
                    }
                    at += count;
                }
            }
        }
    }
    None
}

/// SBC-3 §5.28, "UNMAP command": a header of 8 bytes and descriptors of 16.
fn unmap<P: WirePayload>(view: &UnitView<'_>, list: &[u8]) -> Step<P> {
    let fail = |sense| Step::Done(Outcome::check(sense));
    if list.is_empty() {
        return Step::Done(Outcome::good());
    }
    let [_, _, d0, d1, _, _, _, _, rest @ ..] = list else {
        return fail(Sense::PARAMETER_LIST_LENGTH_ERROR);
    };
    let bytes = usize::from(u16::from_be_bytes([*d0, *d1])).min(rest.len());
    let descriptors = rest.get(..bytes).unwrap_or(rest).chunks_exact(16);
    if descriptors.len() > UNMAP_DESCRIPTORS_MAX {
        return fail(Sense::INVALID_FIELD_IN_PARAMETERS);
    }
    let mut extents: SmallVec<[Extent; UNMAP_DESCRIPTORS_MAX]> = SmallVec::new();
    for descriptor in descriptors {
        let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = descriptor else {
            continue; // chunks are exact
        };
        let lba = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
        let count = u32::from_be_bytes([*i, *j, *k, *l]);
        match view.within(lba, u64::from(count)) {
            Ok(extent) if extent.is_empty() => {}
            Ok(extent) => extents.push(extent),
            Err(sense) => return fail(sense),
        }
    }
    let disjoint = join_overlapping(&mut extents);
    if disjoint.is_empty() {
        return Step::Done(Outcome::good());
    }
    Step::Ask(Command::Discard(disjoint))
}

fn join_overlapping(extents: &mut [Extent]) -> SmallVec<[Extent; 1]> {
    extents.sort_unstable();
    let mut out: SmallVec<[Extent; 1]> = SmallVec::new();
    for extent in extents {
        match out.last_mut() {
            Some(last) if extent.start <= last.end() => {
                let end = if bug!("unmap-joins-to-the-last") {
                    extent.end()
                } else {
                    last.end().max(extent.end())
                };
                last.count = BlockCount(end.0 - last.start.0);
            }
            _ => out.push(*extent),
        }
    }
    out
}

/// Requests that the front end answers by itself.
fn without_volume<P: WirePayload>(
    request: &Request,
    context: &Context<'_>,
    data: &[u8],
) -> Outcome<P> {
    let Context {
        target,
        view,
        nexus,
        tsih,
    } = *context;
    let unit = view.unit;
    let port = vpd::Port {
        target: &target.spec().name,
        group: 1,
    };
    // A target has at most 255 units.
    let unit_count = target.units().len() as u16;
    let given =
        |result: Result<Vec<u8>, Sense>| result.map_or_else(Outcome::check, Outcome::with_data);
    match *request {
        Request::Inquiry { page, allocation } => match page {
            None => Outcome::with_data(inquiry::standard(Some(&view), allocation)),
            Some(code) => given(vpd::page(&view, port, code, allocation)),
        },
        Request::ModeSense(want) => given(mode::sense(&view, want)),
        Request::ModeSelect { long, list_bytes } => {
            if data.len() < list_bytes as usize {
                return Outcome::check(Sense::PARAMETER_LIST_LENGTH_ERROR);
            }
            match mode::select(&view, data, long) {
                Ok(selected) => {
                    if unit.set_flags(selected.mask, selected.flags) {
                        target.attention(view.lun, Some(tsih), Sense::MODE_PARAMETERS_CHANGED);
                    }
                    Outcome::good()
                }
                Err(sense) => Outcome::check(sense),
            }
        }
        Request::ReadCapacity10 => Outcome::with_data(capacity::read_capacity_10(&view)),
        Request::ReadCapacity16 { allocation } => {
            Outcome::with_data(capacity::read_capacity_16(&view, allocation))
        }
        Request::LbaStatus { lba, allocation } => {
            Outcome::with_data(capacity::lba_status(&view, Lba(lba), allocation))
        }
        Request::ReportLuns { select, allocation } => Outcome::with_data(capacity::report_luns(
            unit_count,
            matches!(select, 1 | 0x10..=0x12),
            allocation,
        )),
        Request::ReportOpcodes {
            option,
            opcode,
            action,
            timeouts,
            allocation,
        } => given(opcodes::report(
            option, opcode, action, timeouts, allocation,
        )),
        Request::ReportTaskFunctions {
            extended,
            allocation,
        } => Outcome::with_data(opcodes::report_task_functions(extended, allocation)),
        Request::ReadDefects {
            long,
            lists,
            allocation,
        } => {
            // An empty list, in the format and of the kinds asked for.
            let mut list = vec![0, lists, 0, 0];
            list.resize(if long { 8 } else { 4 }, 0);
            Outcome::with_data(super::cut(list, allocation))
        }
        Request::RequestSense {
            descriptor,
            allocation,
        } => Outcome::with_data(super::cut(Sense::NONE.emit(descriptor), allocation)),
        Request::CopyStatus {
            list_id,
            allocation,
        } => given(copy::status(unit.copy_record(tsih, list_id), allocation)),
        Request::CopyParameters { allocation } => {
            Outcome::with_data(copy::operating_parameters(allocation))
        }
        Request::Reserve => reserved(unit.reserve(nexus)),
        Request::Release => {
            unit.release(nexus);
            Outcome::good()
        }
        Request::PersistentIn { action, allocation } => {
            Outcome::with_data(unit.persistent_in(action, allocation))
        }
        Request::PersistentOut {
            action, scope_type, ..
        } => match target.persistent_out(view.lun, nexus, action, scope_type, data) {
            Ok(preempted) => Outcome {
                preempted,
                ..Outcome::good()
            },
            Err(denied) => reserved(Err(denied)),
        },
        Request::StartStop {
            start,
            load_eject,
            power,
        } => start_stop(context, start, load_eject && power == 0),
        Request::PreventAllow { prevent } => {
            unit.prevent(tsih, prevent);
            Outcome::good()
        }
        // TEST UNIT READY, PRE-FETCH: that the unit answers is the answer.
        _ => Outcome::good(),
    }
}

fn reserved<P: WirePayload>(result: Result<(), Denied>) -> Outcome<P> {
    match result {
        Ok(()) => Outcome::good(),
        Err(Denied::Conflict) => Outcome::of(status::RESERVATION_CONFLICT),
        Err(Denied::Check(sense)) => Outcome::check(sense),
    }
}

/// Only load and eject of a removable medium changes anything: this unit has no motor.
fn start_stop<P: WirePayload>(context: &Context<'_>, start: bool, load_eject: bool) -> Outcome<P> {
    let unit = context.view.unit;
    if !load_eject || !unit.spec().removable {
        return Outcome::good();
    }
    if unit.is_removal_prevented() {
        // Loading is refused likewise. SPC-4 §6.18, "PREVENT ALLOW MEDIUM REMOVAL command".
        return Outcome::check(Sense::REMOVAL_PREVENTED);
    }
    let ejected = UnitFlags::EJECTED;
    if start {
        if unit.set_flags(ejected, UnitFlags::default()) {
            let (lun, me) = (context.view.lun, Some(context.tsih));
            context
                .target
                .attention(lun, me, Sense::MEDIUM_MAY_HAVE_CHANGED);
        }
        return Outcome::good();
    }
    unit.set_flags(ejected, ejected);
    Outcome::good()
}

/// The outcome of a command for a LUN without a unit. SPC-4 §5.11.1, "Incorrect logical unit selection".
pub fn without_unit<P: WirePayload>(request: &Request, unit_count: u16) -> Outcome<P> {
    match *request {
        Request::Inquiry {
            page: None,
            allocation,
        } => Outcome::with_data(inquiry::standard(None, allocation)),
        Request::ReportLuns { select, allocation } => Outcome::with_data(capacity::report_luns(
            unit_count,
            matches!(select, 1 | 0x10..=0x12),
            allocation,
        )),
        Request::RequestSense {
            descriptor,
            allocation,
        } => {
            let sense = Sense::LUN_NOT_SUPPORTED.emit(descriptor);
            Outcome::with_data(super::cut(sense, allocation))
        }
        _ => Outcome::check(Sense::LUN_NOT_SUPPORTED),
    }
}

/// The bytes of nothing.
pub(crate) fn no_data<P: WirePayload>() -> P {
    P::from_bytes(Bytes::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::units::ByteCount;

    #[track_caller]
    fn check(wanted: &[u8], expected: Option<u64>) {
        let mut found = Parts::one(Bytes::from_static(b"abab"));
        found.push(Part::Zeros(ByteCount(4)));
        found.push(Part::Data(Bytes::from_static(b"ab")));
        assert_eq!(first_difference(&found, wanted), expected, "{wanted:?}");
    }

    #[test]
    fn the_first_byte_that_differs_is_told() {
        check(b"abab\0\0\0\0ab", None);
        check(b"abab\0\0\0\0aX", Some(9));
        check(b"abab\0\0X\0ab", Some(6));
        check(b"Xbab\0\0\0\0ab", Some(0));
    }

    #[test]
    fn one_block_is_compared_again_and_again() {
        check(b"ab", Some(4));
        check(b"abab\0\0\0\0", None);
    }
}
