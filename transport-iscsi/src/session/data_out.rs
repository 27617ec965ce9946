//! What initiators write: immediate data, unsolicited data, and bursts that we ask for. RFC 7143 §11.7, "SCSI Data-Out and
//! SCSI Data-In", and §11.8, "Ready To Transfer (R2T)".
//!
//! Invariant  memory for a command's data is taken once, for the whole command, after its length was judged and only when the
//!            first bytes of it are here or asked for.
//! Invariant  data comes in order (DataPDUInOrder and DataSequenceInOrder are Yes), so it is appended.

use super::full::Full;
use super::tasks::{State, ttt_of};
use super::{Io, Sink};
use crate::payload::WirePayload;
use crate::scsi::{Outcome, Sense};
use crate::serial::DataSn;
use crate::wire::data::DataOut;
use crate::wire::header::{Header, Ttt};
use crate::wire::r2t::R2t;
use bytes::BytesMut;

impl<P: WirePayload> Full<P> {
    /// A Data-Out header: does it belong to a burst under way, and is it the next of it?
    pub(super) fn begin_data_out(
        &mut self,
        io: &mut Io<P>,
        data: &DataOut,
        header: &Header,
    ) -> Sink {
        let key = if data.ttt == Ttt::NONE {
            self.tasks.find(data.itt)
        } else {
            Some(data.ttt.0)
        };
        // Data of a task that is gone (aborted, failed) is legal for a while; it is dropped.
        let Some(key) = key else {
            return Sink::Discard;
        };
        let Some(task) = self.tasks.get_mut(key) else {
            return Sink::Discard;
        };
        let is_expected = match task.state {
            State::Unsolicited => data.ttt == Ttt::NONE,
            State::Solicited => data.ttt != Ttt::NONE,
            State::Waiting | State::Running => false,
        };
        let bytes = header.data_bytes();
        let is_whole = data.is_final || bytes < task.burst_left;
        let is_next = data.itt == task.itt
            && data.data_sn == task.data_sn
            && data.offset == task.received
            && bytes <= task.burst_left;
        if !is_expected {
            return Sink::Discard;
        }
        if !is_next || !is_whole {
            self.fail_task(io, key, Sense::DATA_PHASE_ERROR);
            return Sink::Discard;
        }
        task.data_sn = task.data_sn.next();
        Sink::Task(key)
    }

    /// Bytes of the current PDU for a task.
    pub(super) fn append(&mut self, key: u32, bytes: &[u8]) {
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        // The deframer gives no more than the header said, and that was judged.
        let count = bytes.len() as u32;
        let room = task.wanted.saturating_sub(task.received);
        let surplus = u32::from(bug!("received-is-wanted")) * count.saturating_sub(room);
        task.received = task.received.saturating_add(count - surplus);
        task.burst_left = task.burst_left.saturating_sub(count);
        if room > 0 && task.outcome.is_none() {
            let wanted = bytes.get(..room as usize).unwrap_or(bytes);
            reserve(&mut task.data, task.wanted);
            task.data.extend_from_slice(wanted);
        }
    }

    /// The task's buffer, if all of the next `left` bytes belong into it.
    pub(super) fn direct(&mut self, key: u32, left: usize) -> Option<&mut BytesMut> {
        let task = self.tasks.get_mut(key)?;
        let room = task.wanted.saturating_sub(task.received) as usize;
        if room < left || task.outcome.is_some() {
            return None;
        }
        reserve(&mut task.data, task.wanted);
        Some(&mut task.data)
    }

    /// Counts bytes that were appended to the buffer that [`Self::direct`] gave, and shows them.
    pub(super) fn last_bytes(&mut self, key: u32, count: usize) -> &[u8] {
        let Some(task) = self.tasks.get_mut(key) else {
            return &[];
        };
        task.received = task.received.saturating_add(count as u32);
        task.burst_left = task.burst_left.saturating_sub(count as u32);
        let from = task.data.len().saturating_sub(count);
        task.data.get(from..).unwrap_or(&[])
    }

    /// A command or Data-Out PDU with data for this task is complete.
    pub(super) fn data_arrived(&mut self, io: &mut Io<P>, key: u32, is_final: bool) {
        let Some(task) = self.tasks.get(key) else {
            return;
        };
        if !is_final {
            // A command whose unsolicited data is complete without F would wait for ever.
            if task.burst_left == 0 {
                self.fail_task(io, key, Sense::DATA_PHASE_ERROR);
            }
            return;
        }
        match task.state {
            State::Unsolicited => self.enqueue(io, key),
            State::Solicited if task.burst_left == 0 => self.want_data(io, key),
            // The burst ended early: what is missing can never come.
            State::Solicited => self.fail_task(io, key, Sense::DATA_PHASE_ERROR),
            State::Waiting | State::Running => {}
        }
    }

    /// Asks for the next burst, or begins the task when it has everything.
    pub(super) fn want_data(&mut self, io: &mut Io<P>, key: u32) {
        let max_burst = self.params.max_burst_bytes;
        let (exp_cmd_sn, max_cmd_sn) = self.command_window();
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        let missing = task.wanted.saturating_sub(task.received);
        if missing == 0 {
            self.start(io, key);
            return;
        }
        reserve(&mut task.data, task.wanted);
        task.state = State::Solicited;
        task.burst_left = missing.min(max_burst);
        task.data_sn = DataSn(0);
        let r2t = R2t {
            lun: task.lun,
            itt: task.itt,
            ttt: ttt_of(key),
            stat_sn: io.stat_sn,
            exp_cmd_sn,
            max_cmd_sn,
            r2t_sn: task.r2t_sn,
            offset: task.received,
            desired_bytes: task.burst_left,
        };
        task.r2t_sn = task.r2t_sn.next();
        io.out.push(&r2t.emit(), &[]);
    }

    /// Ends a task whose data cannot be completed.
    pub(super) fn fail_task(&mut self, io: &mut Io<P>, key: u32, sense: Sense) {
        self.respond(io, key, Outcome::check(sense));
    }
}

/// Takes the memory for all of a command's data at once; its length was held against the limits.
fn reserve(data: &mut BytesMut, wanted: u32) {
    if data.capacity() == 0 {
        data.reserve(wanted as usize);
    }
}
