//! The end of a task: its data, its status, its sense. RFC 7143 §11.4, "SCSI Response", and §11.7, "SCSI Data-Out and SCSI
//! Data-In".
//!
//! Invariant  a task is answered at most once, and only here.

use super::Io;
use super::full::{Full, view_of};
use crate::payload::WirePayload;
use crate::scsi::{Outcome, status};
use crate::serial::DataSn;
use crate::target::UnitFlags;
use crate::wire::command::{Residual, ScsiResponse};
use crate::wire::data::{DataIn, DataInEnd};
use engine::Parts;

impl<P: WirePayload> Full<P> {
    /// Sends the outcome and lets the task go.
    pub(super) fn respond(&mut self, io: &mut Io<P>, key: u32, outcome: Outcome<P>) {
        let Some(task) = self.tasks.get(key) else {
            return;
        };
        let (itt, expected, reads) = (task.itt, task.expected, task.reads);
        let (unit, r2ts) = (task.unit, task.r2t_sn.0);
        let block_bytes = self
            .target
            .as_ref()
            .and_then(|t| t.units().get(usize::from(unit)))
            .map_or(0, |u| u.spec().block_bytes);
        let needed = task.request.data_out_bytes(block_bytes);
        let is_good = outcome.status == status::GOOD;
        // The place in the window is free before the answer says how many more may come.
        self.retire(io, key);
        let data_bytes = outcome.data.len().0;
        let residual = if reads || needed == 0 {
            Residual::of(expected, data_bytes)
        } else {
            Residual::of(expected, needed)
        };
        let sent = data_bytes.min(if reads { u64::from(expected) } else { 0 });
        if is_good && sent > 0 {
            self.send_data(io, itt, outcome.data.slice(0..sent), residual);
            return;
        }
        let (exp_cmd_sn, max_cmd_sn) = self.command_window();
        let response = ScsiResponse {
            residual,
            response: 0,
            status: outcome.status,
            itt,
            stat_sn: io.take_stat_sn(),
            exp_cmd_sn,
            max_cmd_sn,
            exp_data_sn: DataSn(r2ts),
        };
        let segment = outcome.sense.map_or_else(Vec::new, |sense| {
            let sense = sense.emit(self.wants_descriptor_sense(unit));
            // Sense data has at most 28 bytes. RFC 7143 §11.4.7, "Data Segment - Sense and Response Data Segment".
            let mut segment = (sense.len() as u16).to_be_bytes().to_vec();
            segment.extend(sense);
            segment
        });
        io.out.push(&response.emit(segment.len() as u32), &segment);
    }

    fn wants_descriptor_sense(&self, unit: u16) -> bool {
        let units = self.target.as_ref().map(|t| t.units());
        let unit_of = units.and_then(|u| u.get(usize::from(unit)));
        unit_of.is_some_and(|u| view_of(u, unit).flags.contains(UnitFlags::DESCRIPTOR_SENSE))
    }

    /// Data-In PDUs within the initiator's segment length, in sequences of at most MaxBurstLength; the last one carries GOOD.
    fn send_data(
        &mut self,
        io: &mut Io<P>,
        itt: crate::wire::Itt,
        data: Parts<P>,
        residual: Residual,
    ) {
        let total = data.len().0;
        let (exp_cmd_sn, max_cmd_sn) = self.command_window();
        let segment_max = u64::from(self.params.max_send_bytes);
        let burst_max = u64::from(self.params.max_burst_bytes);
        let mut offset = 0;
        let mut burst_left = burst_max;
        let mut data_sn = DataSn(0);
        while offset < total {
            let bytes = segment_max.min(burst_left).min(total - offset);
            burst_left -= bytes;
            let is_last = offset + bytes == total;
            let end = is_last.then(|| DataInEnd {
                status: status::GOOD,
                residual,
                stat_sn: io.take_stat_sn(),
            });
            let pdu = DataIn {
                is_final: is_last || burst_left == 0,
                end,
                itt,
                exp_cmd_sn,
                max_cmd_sn,
                data_sn,
                // At most the expected length, which has 32 bits.
                offset: offset as u32,
            };
            if burst_left == 0 || bug!("burst-begins-anew") {
                burst_left = burst_max;
            }
            data_sn = data_sn.next();
            let part = if bytes == total {
                data.clone()
            } else {
                data.slice(offset..offset + bytes)
            };
            io.out.push_parts(&pdu.emit(bytes as u32), part);
            offset += bytes;
        }
    }
}
