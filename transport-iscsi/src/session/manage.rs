//! Task management and logout: what must end before it is answered. RFC 7143 §11.5, "Task Management Function Request", §4.2.3,
//! "Task Management Functions", and §11.14, "Logout Request".
//!
//! Shape      a barrier is handed to every task concerned, here and in other sessions; when the last holder is gone it posts a
//!            letter to us, and the answer leaves.
//! Invariant  an aborted task is never answered, and no effect of it follows the answer to what aborted it.

use super::full::{Full, Pending, tag_of};
use super::tasks::State;
use super::{Action, Ended, Io};
use crate::payload::WirePayload;
use crate::scsi::Sense;
use crate::target::{Barrier, EndReason};
use crate::wire::header::{Itt, Malformed};
use crate::wire::logout::{LogoutRequest, LogoutResponse};
use crate::wire::reject::reason;
use crate::wire::task::{TaskFunction, TaskOutcome, TaskRequest, TaskResponse};
use std::sync::Arc;

/// Functions that may wait for tasks at once.
const PENDING_MAX: usize = 32;

impl<P: WirePayload> Full<P> {
    pub(super) fn manage(
        &mut self,
        io: &mut Io<P>,
        request: &TaskRequest,
    ) -> Result<(), Malformed> {
        let Some(target) = self.target.clone() else {
            return Err(Malformed::protocol(
                "task management in a discovery session",
            ));
        };
        if self.pending.len() >= PENDING_MAX {
            return Err(Malformed {
                reason: reason::TOO_MANY_IMMEDIATE,
                what: "too many task management functions",
            });
        }
        let itt = request.itt;
        let lun = request.lun.index();
        let is_unit = lun.is_some_and(|l| usize::from(l) < target.units().len());
        let function = request.function;
        match function {
            TaskFunction::AbortTask => match self.tasks.find(request.referenced) {
                Some(key) => {
                    let barrier = self.barrier(io, Pending::Task(itt, TaskOutcome::Complete));
                    let held = (!bug!("abort-does-not-wait")).then_some(&barrier);
                    self.abort(io, key, held);
                }
                None => self.answer(io, itt, TaskOutcome::NoSuchTask),
            },
            TaskFunction::AbortTaskSet
            | TaskFunction::ClearTaskSet
            | TaskFunction::LogicalUnitReset
                if !is_unit =>
            {
                self.answer(io, itt, TaskOutcome::NoSuchLun);
            }
            TaskFunction::AbortTaskSet => {
                let barrier = self.barrier(io, Pending::Task(itt, TaskOutcome::Complete));
                self.abort_all(io, lun, Some(&barrier));
            }
            TaskFunction::ClearTaskSet => {
                let barrier = self.barrier(io, Pending::Task(itt, TaskOutcome::Complete));
                self.abort_all(io, lun, Some(&barrier));
                target.clear(lun, self.tsih, Sense::COMMANDS_CLEARED, &barrier);
            }
            TaskFunction::LogicalUnitReset | TaskFunction::TargetWarmReset => {
                let lun = lun.filter(|_| function == TaskFunction::LogicalUnitReset);
                let barrier = self.barrier(io, Pending::Task(itt, TaskOutcome::Complete));
                self.reset(io, lun, &barrier);
            }
            TaskFunction::TargetColdReset => {
                let barrier = self.barrier(io, Pending::ColdReset(itt));
                self.reset(io, None, &barrier);
            }
            TaskFunction::TaskReassign => {
                self.answer(io, itt, TaskOutcome::ReassignNotSupported);
            }
            TaskFunction::ClearAca | TaskFunction::Other(_) => {
                self.answer(io, itt, TaskOutcome::NotSupported);
            }
        }
        Ok(())
    }

    /// Aborts the tasks of every session and ends what a reset ends; every session hears of it.
    fn reset(&mut self, io: &mut Io<P>, lun: Option<u16>, barrier: &Arc<Barrier>) {
        let Some(target) = self.target.clone() else {
            return;
        };
        self.abort_all(io, lun, Some(barrier));
        if !bug!("reset-spares-other-sessions") {
            target.clear(lun, self.tsih, Sense::BUS_DEVICE_RESET, barrier);
        }
        self.add_attentions(lun, Sense::BUS_DEVICE_RESET);
        for (unit, at) in target.units().iter().zip(0_u16..) {
            if lun.is_none_or(|l| l == at) {
                unit.reset();
            }
        }
    }

    pub(super) fn barrier(&mut self, io: &Io<P>, pending: Pending) -> Arc<Barrier> {
        let id = self.next_pending;
        self.next_pending = id.wrapping_add(1);
        self.pending.push((id, pending));
        Arc::new(Barrier::new(io.setup.mailbox.clone(), id))
    }

    /// Every task that this function concerns is gone.
    pub(super) fn cleared(&mut self, io: &mut Io<P>, id: u32) {
        let Some(at) = self.pending.iter().position(|(p, _)| *p == id) else {
            return;
        };
        match self.pending.remove(at).1 {
            Pending::Task(itt, outcome) => self.answer(io, itt, outcome),
            Pending::Command(key) => {
                // Gone if it was aborted while it waited.
                let task = self.tasks.get_mut(key);
                if let Some(outcome) = task.and_then(|task| task.outcome.take()) {
                    self.respond(io, key, outcome);
                }
            }
            Pending::ColdReset(itt) => {
                self.answer(io, itt, TaskOutcome::Complete);
                if let Some(target) = &self.target {
                    target.end_all(EndReason::ColdReset);
                }
            }
            Pending::Logout(itt) => {
                self.answer_logout(io, itt, 0);
                io.end(Ended::LoggedOut);
            }
        }
    }

    fn answer(&mut self, io: &mut Io<P>, itt: Itt, outcome: TaskOutcome) {
        let (exp_cmd_sn, max_cmd_sn) = self.command_window();
        let response = TaskResponse {
            outcome,
            itt,
            stat_sn: io.take_stat_sn(),
            exp_cmd_sn,
            max_cmd_sn,
        };
        io.out.push(&response.emit(), &[]);
    }

    pub(super) fn abort_all(
        &mut self,
        io: &mut Io<P>,
        lun: Option<u16>,
        barrier: Option<&Arc<Barrier>>,
    ) {
        let is_meant = |unit: u16| lun.is_none_or(|l| l == unit);
        let tasks = self.tasks.iter().filter(|(_, task)| is_meant(task.unit));
        let keys: Vec<u32> = tasks.map(|(key, _)| key).collect();
        keys.into_iter()
            .for_each(|key| self.abort(io, key, barrier));
    }

    /// Takes a task back. It is gone at once unless the volume works on it.
    pub(super) fn abort(&mut self, io: &mut Io<P>, key: u32, barrier: Option<&Arc<Barrier>>) {
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        task.barriers.extend(barrier.cloned());
        // One that runs and knows its outcome waits for others, and the volume knows nothing of it.
        if !matches!(task.state, State::Running) || task.outcome.is_some() {
            self.retire(io, key);
            return;
        }
        if !task.aborted {
            task.aborted = true;
            let unit = task.unit;
            io.actions.push_back(Action::Abort {
                unit,
                tag: tag_of(io, key),
            });
        }
    }

    pub(super) fn log_out(&mut self, io: &mut Io<P>, request: &LogoutRequest) {
        let refusal = match request.reason {
            0 => None,
            1 if request.cid == self.cid => None,
            1 => Some(1),
            // Removing a connection for recovery needs error recovery level 2.
            _ => Some(2),
        };
        if let Some(response) = refusal {
            self.answer_logout(io, request.itt, response);
            return;
        }
        let barrier = self.barrier(io, Pending::Logout(request.itt));
        self.abort_all(io, None, Some(&barrier));
    }

    fn answer_logout(&mut self, io: &mut Io<P>, itt: Itt, response: u8) {
        let (exp_cmd_sn, max_cmd_sn) = self.command_window();
        let answer = LogoutResponse {
            response,
            itt,
            stat_sn: io.take_stat_sn(),
            exp_cmd_sn,
            max_cmd_sn,
            time_to_wait: self.params.time_to_wait,
            time_to_retain: 0,
        };
        io.out.push(&answer.emit(), &[]);
    }
}
