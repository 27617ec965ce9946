//! Full feature phase: PDUs to tasks, tasks to the volume.
//!
//! Shape      header → sink for its data → end of the PDU. A command is judged when its header is here; it waits for its turn,
//!            its data and the volume; its outcome leaves through `data_in`.
//! Invariant  every task leaves by `retire`, which gives its place in the window and its budget back.

use super::login::Entered;
use super::tasks::{State, Task, Tasks};
use super::{Action, Ended, Io, Sink};
use crate::keys::Params;
use crate::payload::WirePayload;
use crate::scsi::cdb::Cdb;
use crate::scsi::execute::{self, Context, no_data};
use crate::scsi::reserve::Nexus;
use crate::scsi::sense::Sense;
use crate::scsi::unit::UnitView;
use crate::scsi::{Job, Outcome, Request, Step, status};
use crate::serial::{CmdSn, DataSn, R2tSn};
use crate::target::{LogicalUnit, Mail, Target, UnitFlags};
use crate::wire::command::{Attribute, ScsiCommand};
use crate::wire::header::{Header, Itt, Malformed, opcode};
use crate::wire::logout::LogoutRequest;
use crate::wire::nop::{NopIn, NopOut};
use crate::wire::reject::{Reject, reason};
use crate::wire::task::{TaskOutcome, TaskRequest};
use crate::wire::text::TextRequest;
use crate::wire::{Ttt, data::DataOut};
use bytes::BytesMut;
use engine::Reply;
use engine::ids::Tag;
use std::collections::VecDeque;
use std::sync::Arc;

/// Immediate commands that may be here at once.
const IMMEDIATE_MAX: u32 = 16;
/// Unit attentions kept for a session; the oldest stay.
const ATTENTIONS_MAX: usize = 512;

/// An answer that waits until tasks are gone.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pending {
    Task(Itt, TaskOutcome),
    /// The task of this key, which knows its outcome.
    Command(u32),
    ColdReset(Itt),
    Logout(Itt),
}

/// A session in full feature phase.
#[derive(Debug)]
pub(super) struct Full<P> {
    pub(super) target: Option<Arc<Target>>,
    pub(super) nexus: Nexus,
    pub(super) params: Params,
    pub(super) cid: u16,
    pub(super) tsih: u16,
    pub(super) window: super::Window,
    pub(super) tasks: Tasks<P>,
    /// Keys of tasks that wait for their turn, in order of arrival.
    waiting: VecDeque<u32>,
    /// Bytes of tasks that were let in.
    budget_used: u64,
    /// Tasks that were let in, and whether one of them is ordered.
    running: u32,
    is_ordered: bool,
    /// A task that ends while others are let in must not let in more itself: the loop goes on.
    is_admitting: bool,
    immediate: u32,
    attentions: Vec<(u16, Sense)>,
    pub(super) pending: Vec<(u32, Pending)>,
    pub(super) next_pending: u32,
    pub(super) text: super::text::Exchange,
    is_abandoned: bool,
    has_departed: bool,
}

impl<P: WirePayload> Full<P> {
    pub(super) fn new(entered: Entered, tsih: u16, window: super::Window) -> Self {
        let units = entered.target.as_ref().map_or(0, |t| t.units().len());
        // A target has at most 255 units.
        let attentions = (0..units as u16).map(|lun| (lun, Sense::POWER_ON));
        Self {
            attentions: attentions.collect(),
            target: entered.target,
            nexus: entered.nexus,
            params: entered.params,
            cid: entered.cid,
            tsih,
            window,
            tasks: Tasks::default(),
            waiting: VecDeque::new(),
            budget_used: 0,
            running: 0,
            is_ordered: false,
            is_admitting: false,
            immediate: 0,
            pending: Vec::new(),
            next_pending: 0,
            text: super::text::Exchange::default(),
            is_abandoned: false,
            has_departed: false,
        }
    }

    pub(super) const fn command_window(&self) -> (CmdSn, CmdSn) {
        (self.window.expected(), self.window.max())
    }

    /// Whether no task is left.
    pub(super) const fn is_idle(&self) -> bool {
        self.tasks.len() == 0
    }

    /// A header has come: judge it, and say where its data goes.
    pub(super) fn begin(&mut self, io: &mut Io<P>, header: &Header) -> Result<Sink, Malformed> {
        match header.opcode() {
            opcode::SCSI_COMMAND => self.begin_command(io, header),
            opcode::DATA_OUT => Ok(self.begin_data_out(io, &DataOut::parse(header)?, header)),
            opcode::NOP_OUT | opcode::TEXT_REQUEST => Ok(Sink::Keep),
            _ => Ok(Sink::Discard),
        }
    }

    /// The PDU is complete.
    pub(super) fn finish(
        &mut self,
        io: &mut Io<P>,
        header: &Header,
        sink: &Sink,
        kept: &[u8],
        is_damaged: bool,
    ) {
        if is_damaged {
            self.damaged(io, header, sink);
            return;
        }
        let result = match header.opcode() {
            opcode::SCSI_COMMAND | opcode::DATA_OUT => {
                if let Sink::Task(key) = sink {
                    self.data_arrived(io, *key, header.is_final());
                }
                Ok(())
            }
            opcode::NOP_OUT => self.nop(io, header, kept),
            opcode::TEXT_REQUEST => self.text(io, header, kept),
            opcode::TASK_REQUEST => self.task_request(io, header),
            opcode::LOGOUT_REQUEST => self.logout(io, header),
            opcode::SNACK => Err(Malformed {
                reason: reason::SNACK_REJECT,
                what: "SNACK at error recovery level 0",
            }),
            opcode::LOGIN_REQUEST => Err(Malformed::protocol("login in full feature phase")),
            _ => Err(Malformed {
                reason: reason::COMMAND_NOT_SUPPORTED,
                what: "unknown opcode",
            }),
        };
        if let Err(malformed) = result {
            self.reject(io, malformed, header);
        }
    }

    /// A data digest did not fit: the PDU is rejected; the task whose data it was cannot be completed. RFC 7143 §7.8,
    /// "Digest Errors".
    fn damaged(&mut self, io: &mut Io<P>, header: &Header, sink: &Sink) {
        let malformed = Malformed {
            reason: reason::DATA_DIGEST_ERROR,
            what: "data digest differs",
        };
        self.reject(io, malformed, header);
        if let Sink::Task(key) = sink {
            self.fail_task(io, *key, Sense::DATA_DIGEST_ERROR);
        } else if matches!(header.opcode(), opcode::NOP_OUT | opcode::TEXT_REQUEST)
            && !header.is_immediate()
        {
            // Its number was never counted; at this level the only way on is a new connection.
            io.end(Ended::Protocol("data digest error in a numbered request"));
        }
    }

    /// Judges the number of a request that is not a SCSI command. `false`: ignore it.
    pub(super) fn is_next(&mut self, io: &mut Io<P>, number: CmdSn, is_immediate: bool) -> bool {
        use super::window::Verdict;
        match self.window.arrive(number, is_immediate) {
            Verdict::Take => true,
            Verdict::Ignore => false,
            Verdict::Gap => {
                io.end(Ended::Protocol("a command number was left out"));
                false
            }
        }
    }

    fn begin_command(&mut self, io: &mut Io<P>, header: &Header) -> Result<Sink, Malformed> {
        let command = ScsiCommand::parse(header)?;
        let data_bytes = header.data_bytes();
        if self.target.is_none() {
            return Err(Malformed::protocol("SCSI command in a discovery session"));
        }
        if self.tasks.find(command.itt).is_some() {
            return Err(Malformed {
                reason: reason::TASK_IN_PROGRESS,
                what: "task tag in use",
            });
        }
        if command.is_immediate && self.immediate >= IMMEDIATE_MAX {
            return Err(Malformed {
                reason: reason::TOO_MANY_IMMEDIATE,
                what: "too many immediate commands",
            });
        }
        if data_bytes > command.expected_bytes.min(self.params.first_burst_bytes)
            || data_bytes > 0 && !command.writes
        {
            return Err(Malformed::protocol("more immediate data than allowed"));
        }
        if !self.is_next(io, command.cmd_sn, command.is_immediate) {
            return Ok(Sink::Discard);
        }
        let task = self.judge(&command);
        if task.is_immediate {
            self.immediate += 1;
        } else {
            self.window.occupy();
        }
        match self.tasks.insert(task) {
            Some(key) => Ok(Sink::Task(key)),
            None => Err(Malformed::protocol("too many tasks")),
        }
    }

    /// Makes a task of a command; its outcome is set if it is known already.
    fn judge(&mut self, command: &ScsiCommand) -> Task<P> {
        let mut task = Task {
            itt: command.itt,
            lun: command.lun,
            unit: command.lun.index().unwrap_or(u16::MAX),
            attribute: command.attribute,
            is_immediate: command.is_immediate,
            reads: command.reads,
            expected: command.expected_bytes,
            request: Request::TestUnitReady,
            state: State::Unsolicited,
            outcome: None,
            job: None,
            aborted: false,
            barriers: Vec::new(),
            budget: None,
            wanted: 0,
            received: 0,
            data: BytesMut::new(),
            burst_left: 0,
            data_sn: DataSn(0),
            r2t_sn: R2tSn(0),
        };
        if command.writes {
            task.burst_left = command.expected_bytes.min(self.params.first_burst_bytes);
        }
        match self.judge_cdb(&mut task, Cdb(command.cdb), command.writes) {
            Ok(()) => {}
            Err(outcome) => task.outcome = Some(outcome),
        }
        task
    }

    /// In the order of SAM-5: the unit, its attentions, the command, reservations, the medium, the fields.
    fn judge_cdb(&mut self, task: &mut Task<P>, cdb: Cdb, writes: bool) -> Result<(), Outcome<P>> {
        let Some(target) = self.target.clone() else {
            return Err(Outcome::check(Sense::LUN_NOT_SUPPORTED));
        };
        let parsed = cdb.row().and_then(|row| Ok((row, row.parse(&cdb)?)));
        let Some(unit) = target.units().get(usize::from(task.unit)) else {
            let (_, request) = parsed.map_err(Outcome::check)?;
            return Err(execute::without_unit(&request, target.units().len() as u16));
        };
        if let Some(outcome) = self.attention(task.unit, &parsed.as_ref().ok().map(|(_, r)| *r)) {
            return Err(outcome);
        }
        let (row, request) = parsed.map_err(Outcome::check)?;
        let view = view_of(unit, task.unit);
        if view.flags.contains(UnitFlags::RESERVED) && !unit.allows(&self.nexus, row.access) {
            return Err(Outcome::of(status::RESERVATION_CONFLICT));
        }
        if row.needs_medium && view.flags.contains(UnitFlags::EJECTED) {
            return Err(Outcome::check(Sense::MEDIUM_NOT_PRESENT));
        }
        execute::check(&request, &view).map_err(Outcome::check)?;
        let needed = request.data_out_bytes(view.block_bytes());
        let offered = if writes { u64::from(task.expected) } else { 0 };
        if request.needs_exact_data() && needed != offered {
            return Err(Outcome::check(Sense::INVALID_FIELD_IN_CDB));
        }
        task.request = request;
        // Not more than the expected length, which has 32 bits.
        task.wanted = needed.min(offered) as u32;
        Ok(())
    }

    /// A unit attention for this unit, reported once. SAM-5 §5.14, "Unit attention condition".
    fn attention(&mut self, unit: u16, request: &Option<Request>) -> Option<Outcome<P>> {
        if matches!(
            request,
            Some(Request::Inquiry { .. } | Request::ReportLuns { .. })
        ) {
            return None;
        }
        let at = self.attentions.iter().position(|(lun, _)| *lun == unit)?;
        let (_, sense) = self.attentions.remove(at);
        if let Some(Request::RequestSense {
            descriptor,
            allocation,
        }) = request
        {
            let data = crate::scsi::cut(sense.emit(*descriptor), *allocation);
            return Some(Outcome {
                data: engine::Parts::one(P::from_bytes(data.into())),
                ..Outcome::good()
            });
        }
        Some(Outcome::check(sense))
    }

    pub(super) fn add_attention(&mut self, lun: u16, sense: Sense) {
        let entry = (lun, sense);
        if self.attentions.len() < ATTENTIONS_MAX && !self.attentions.contains(&entry) {
            self.attentions.push(entry);
        }
    }

    /// The task has all its unsolicited data: it gets in line.
    pub(super) fn enqueue(&mut self, io: &mut Io<P>, key: u32) {
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        if let Some(outcome) = task.outcome.take() {
            self.respond(io, key, outcome);
            return;
        }
        task.state = State::Waiting;
        if task.attribute == Attribute::HeadOfQueue {
            self.waiting.push_front(key);
        } else {
            self.waiting.push_back(key);
        }
        self.admit_waiting(io);
    }

    /// Lets tasks in, in order, as far as there is room and the ordered ones allow.
    pub(super) fn admit_waiting(&mut self, io: &mut Io<P>) {
        if self.waiting.is_empty() || core::mem::replace(&mut self.is_admitting, true) {
            return;
        }
        self.admit_while_room(io);
        self.is_admitting = false;
    }

    fn admit_while_room(&mut self, io: &mut Io<P>) {
        while let Some(key) = self.waiting.front().copied() {
            let Some(task) = self.tasks.get_mut(key) else {
                self.waiting.pop_front();
                continue;
            };
            let is_ordered = task.attribute == Attribute::Ordered;
            let blocks = self.is_ordered || is_ordered && self.running > 0;
            if blocks && task.attribute != Attribute::HeadOfQueue {
                return;
            }
            let bytes = match &task.request {
                Request::Read { .. } if task.reads => u64::from(task.expected),
                _ => u64::from(task.wanted),
            };
            let used = self.budget_used + io.out.len();
            if used > 0 && used.saturating_add(bytes) > io.setup.inflight_bytes {
                return;
            }
            self.waiting.pop_front();
            task.budget = Some(bytes);
            self.budget_used += bytes;
            self.running += 1;
            self.is_ordered |= is_ordered;
            self.want_data(io, key);
        }
    }

    /// The task has all its data: begin it.
    pub(super) fn start(&mut self, io: &mut Io<P>, key: u32) {
        let (Some(target), Some(task)) = (&self.target, self.tasks.get_mut(key)) else {
            return;
        };
        let Some(unit) = target.units().get(usize::from(task.unit)) else {
            return;
        };
        let data = if task.data.is_empty() {
            no_data()
        } else {
            P::from_bytes(core::mem::take(&mut task.data).freeze())
        };
        task.state = State::Running;
        let context = Context {
            target,
            view: view_of(unit, task.unit),
            nexus: &self.nexus,
            tsih: self.tsih,
        };
        let (job, step) = Job::start(&task.request, &context, data);
        task.job = Some(job);
        self.take_step(io, key, step);
    }

    fn take_step(&mut self, io: &mut Io<P>, key: u32, step: Step<P>) {
        match step {
            Step::Ask(command) => {
                if let Some(task) = self.tasks.get(key) {
                    io.actions.push_back(Action::Submit {
                        unit: task.unit,
                        tag: tag_of(io, key),
                        task: task.itt,
                        command,
                    });
                }
            }
            Step::Done(mut outcome) if !outcome.preempted.is_empty() => {
                let preempted = core::mem::take(&mut outcome.preempted);
                let (Some(target), Some(task)) = (self.target.clone(), self.tasks.get_mut(key))
                else {
                    return;
                };
                // It is answered when no effect of what it aborts can follow.
                let lun = task.unit;
                task.outcome = Some(outcome);
                let barrier = self.barrier(io, Pending::Command(key));
                target.abort(lun, &preempted, &barrier);
                if bug!("preemption-does-not-wait") {
                    self.respond(io, key, Outcome::good());
                }
            }
            Step::Done(outcome) => {
                self.keep_copy(key, &outcome);
                self.respond(io, key, outcome);
            }
        }
    }

    /// Remembers how an EXTENDED COPY ended.
    fn keep_copy(&self, key: u32, outcome: &Outcome<P>) {
        let (Some(target), Some(task)) = (&self.target, self.tasks.get(key)) else {
            return;
        };
        let job = task.job.as_ref();
        if let Some(record) = job.and_then(|j| j.copy_record(self.tsih, outcome))
            && let Some(unit) = target.units().get(usize::from(task.unit))
        {
            unit.keep_copy(record);
        }
    }

    pub(super) fn reply(&mut self, io: &mut Io<P>, tag: Tag, reply: Reply<P>) {
        // The lower half is ours.
        let key = (tag.0 & 0xffff_ffff) as u32;
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        if task.aborted && !bug!("aborted-task-is-answered") {
            self.retire(io, key);
            return;
        }
        if let Some(job) = &mut task.job {
            let step = job.resume(reply);
            self.take_step(io, key, step);
        }
    }

    /// The task is over: its place and its budget are free, who waited for its end is told.
    pub(super) fn retire(&mut self, io: &mut Io<P>, key: u32) {
        let Some(task) = self.tasks.remove(key) else {
            return;
        };
        if matches!(task.state, State::Waiting) {
            // Left there, it would be found only at the front, and the line could grow without bound.
            self.waiting.retain(|waiting| *waiting != key);
        }
        // An attention that a command was to report and did not (it was aborted, its data was damaged) is still due. SAM-5
        // §5.14, "Unit attention condition": it lasts until it is reported.
        let unreported = task.outcome.as_ref().and_then(|o| o.sense);
        if let Some(sense) = unreported.filter(Sense::is_attention) {
            self.attentions.insert(0, (task.unit, sense));
        }
        if task.is_immediate {
            self.immediate = self.immediate.saturating_sub(1);
        } else {
            self.window.vacate();
        }
        if let Some(bytes) = task.budget {
            self.budget_used = self.budget_used.saturating_sub(bytes);
            self.running = self.running.saturating_sub(1);
            if task.attribute == Attribute::Ordered {
                self.is_ordered = false;
            }
        }
        drop(task);
        if self.is_abandoned {
            self.depart_if_idle();
        } else {
            self.admit_waiting(io);
        }
    }

    /// Takes every task back; when the last one is gone the session's place is free.
    pub(super) fn abandon(&mut self, io: &mut Io<P>) {
        if self.is_abandoned {
            return;
        }
        self.is_abandoned = true;
        self.waiting.clear();
        self.pending.clear();
        let keys: Vec<u32> = self.tasks.iter().map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.abort(io, key, None));
        self.depart_if_idle();
    }

    fn depart_if_idle(&mut self) {
        if self.has_departed || !self.is_idle() {
            return;
        }
        self.has_departed = true;
        if let Some(target) = &self.target {
            for unit in target.units() {
                unit.nexus_lost(&self.nexus, self.tsih);
            }
            target.depart(self.tsih);
        }
    }

    pub(super) fn mail(&mut self, io: &mut Io<P>, mail: Mail) {
        match mail {
            Mail::Attention { lun, sense } => self.add_attention(lun, sense),
            Mail::Abort { lun, barrier } => self.abort_all(io, Some(lun), Some(&barrier)),
            Mail::Clear {
                lun,
                sense,
                barrier,
            } => {
                self.abort_all(io, lun, Some(&barrier));
                self.add_attentions(lun, sense);
            }
            Mail::Cleared(id) => self.cleared(io, id),
            Mail::End(_) | Mail::Departed => {}
        }
    }

    /// A unit attention for one unit, or for all.
    pub(super) fn add_attentions(&mut self, lun: Option<u16>, sense: Sense) {
        let units = self.target.as_ref().map_or(0, |t| t.units().len()) as u16;
        let range = lun.map_or(0..units, |lun| lun..lun.saturating_add(1));
        range.for_each(|lun| self.add_attention(lun, sense));
    }

    /// RFC 7143 §11.18, "NOP-Out": a ping is echoed.
    fn nop(&mut self, io: &mut Io<P>, header: &Header, data: &[u8]) -> Result<(), Malformed> {
        let nop = NopOut::parse(header)?;
        if !self.is_next(io, nop.cmd_sn, nop.is_immediate) {
            return Ok(());
        }
        self.window.open();
        if nop.itt == Itt::NONE {
            return Ok(());
        }
        let most = self.params.max_send_bytes as usize;
        let echo = data.get(..data.len().min(most)).unwrap_or(data);
        let answer = NopIn {
            lun: nop.lun,
            itt: nop.itt,
            ttt: Ttt::NONE,
            stat_sn: io.take_stat_sn(),
            exp_cmd_sn: self.window.expected(),
            max_cmd_sn: self.window.max(),
        };
        io.out.push(&answer.emit(echo.len() as u32), echo);
        Ok(())
    }

    fn text(&mut self, io: &mut Io<P>, header: &Header, data: &[u8]) -> Result<(), Malformed> {
        let request = TextRequest::parse(header)?;
        if !self.is_next(io, request.cmd_sn, request.is_immediate) {
            return Ok(());
        }
        self.window.open();
        self.answer_text(io, &request, data)
    }

    fn task_request(&mut self, io: &mut Io<P>, header: &Header) -> Result<(), Malformed> {
        let request = TaskRequest::parse(header)?;
        if !self.is_next(io, request.cmd_sn, request.is_immediate) {
            return Ok(());
        }
        self.window.open();
        self.manage(io, &request)
    }

    fn logout(&mut self, io: &mut Io<P>, header: &Header) -> Result<(), Malformed> {
        let request = LogoutRequest::parse(header)?;
        if self.is_next(io, request.cmd_sn, request.is_immediate) {
            self.window.open();
            self.log_out(io, &request);
        }
        Ok(())
    }

    pub(super) fn reject(&mut self, io: &mut Io<P>, malformed: Malformed, header: &Header) {
        let reject = Reject {
            reason: malformed.reason,
            stat_sn: io.take_stat_sn(),
            exp_cmd_sn: self.window.expected(),
            max_cmd_sn: self.window.max(),
            data_sn: DataSn(0),
        };
        io.out.push(&reject.emit(header.0.len() as u32), &header.0);
    }
}

impl<P> Drop for Full<P> {
    /// A connection whose task died (a panic in a backend) must not keep its initiator out for ever.
    fn drop(&mut self) {
        if !self.has_departed
            && let Some(target) = &self.target
        {
            for unit in target.units() {
                unit.nexus_lost(&self.nexus, self.tsih);
            }
            target.depart(self.tsih);
        }
    }
}

/// A task's key as the volume's name for its command.
pub(super) fn tag_of<P>(io: &Io<P>, key: u32) -> Tag {
    Tag(u64::from(io.setup.number) << 32 | u64::from(key))
}

pub(super) fn view_of(unit: &LogicalUnit, lun: u16) -> UnitView<'_> {
    UnitView {
        unit,
        lun,
        flags: unit.flags(),
    }
}
