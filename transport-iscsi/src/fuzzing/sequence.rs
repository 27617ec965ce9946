//! Two sessions of one target, whose PDUs, replies and news the input chooses.

use super::stream::connection;
use super::{Feed, check_command, reply, target};
use crate::serial::{CmdSn, DataSn, StatSn};
use crate::session::{Action, Connection};
use crate::target::{Node, Target};
use crate::wire::command::{ScsiCommand, ScsiResponse};
use crate::wire::data::{DataIn, DataOut};
use crate::wire::deframe::{Deframer, Step};
use crate::wire::header::{Header, Itt, Lun, Ttt, opcode};
use crate::wire::login::{LoginRequest, Stage};
use crate::wire::logout::LogoutRequest;
use crate::wire::nop::NopOut;
use crate::wire::r2t::R2t;
use crate::wire::task::{TaskFunction, TaskRequest};
use crate::wire::text::TextRequest;
use bytes::Bytes;
use engine::Command;
use engine::effect::{Gate, GateReason};
use engine::ids::Tag;
use engine::units::BlockCount;
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;

/// Operations of one input: more only makes it slow.
const OPERATIONS_MAX: usize = 256;

/// An initiator that counts, and holds what it hears against the rules.
struct Side {
    machine: Connection<Bytes>,
    target: Arc<Target>,
    deframer: Deframer,
    header: Header,
    cmd_sn: u32,
    next_itt: u32,
    stat_sn: Option<StatSn>,
    window: (CmdSn, CmdSn),
    /// Commands sent less answers heard, by task tag.
    open: BTreeMap<u32, i32>,
    bursts: Vec<R2t>,
    submitted: Vec<(u16, Tag, Command<Bytes>)>,
}

impl Side {
    fn new(node: &Arc<Node>, target: Arc<Target>, number: u32) -> Self {
        let first = u32::MAX - number;
        let mut side = Self {
            machine: connection(node, number),
            target,
            deframer: Deframer::new(1 << 20),
            header: Header::default(),
            cmd_sn: first,
            next_itt: 1,
            stat_sn: None,
            window: (CmdSn(first), CmdSn(first)),
            open: BTreeMap::new(),
            bursts: Vec::new(),
            submitted: Vec::new(),
        };
        let text = b"InitiatorName=iqn.x:a\0TargetName=iqn.2011-05.io.martlet:v\0InitialR2T=No\0MaxBurstLength=4096\0FirstBurstLength=1024\0";
        let login = LoginRequest {
            next: Some(Stage::FullFeature),
            is_partial: false,
            stage: Stage::Operational,
            version: (0, 0),
            isid: [number as u8; 6],
            tsih: 0,
            itt: Itt(0),
            cid: 0,
            cmd_sn: CmdSn(first),
            exp_stat_sn: StatSn(u32::MAX),
        };
        side.send(&login.emit(text.len() as u32), text);
        side
    }

    fn send(&mut self, header: &Header, data: &[u8]) {
        self.machine.handle_bytes(&header.0);
        // Some data is read straight into its buffer, as the front does.
        match self.machine.direct() {
            Some((buffer, left)) if left == data.len() => {
                buffer.extend_from_slice(data);
                self.machine.handle_direct(data.len());
            }
            _ => self.machine.handle_bytes(data),
        }
        self.machine
            .handle_bytes(&[0; 3][..data.len().wrapping_neg() & 3]);
    }

    /// Runs what the machine asks for and hears what it says.
    fn settle(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Submit {
                    unit, tag, command, ..
                } => {
                    check_command(&self.target, unit, &command);
                    let is_new = self.submitted.iter().all(|(_, t, _)| *t != tag);
                    assert!(is_new, "a tag names one command");
                    self.submitted.push((unit, tag, command));
                }
                Action::Abort { tag, .. } => {
                    let is_there = self.submitted.iter().any(|(_, t, _)| *t == tag);
                    assert!(is_there, "only what was submitted is taken back");
                }
                Action::Entered(_) => {}
            }
        }
        while !self.machine.transmit().is_empty() {
            let mut slices = [IoSlice::new(&[]); 4];
            let filled = self.machine.transmit().slices(&mut slices);
            let bytes: Vec<u8> = slices[..filled].iter().flat_map(|s| s.to_vec()).collect();
            assert!(!bytes.is_empty(), "what is to be sent can be sent");
            self.machine.handle_sent(bytes.len() as u64);
            let mut input = bytes.as_slice();
            loop {
                match self
                    .deframer
                    .step(&mut input)
                    .expect("a well-framed answer")
                {
                    Step::More => break,
                    Step::Header(header) => self.header = header,
                    Step::Data(_) => {}
                    Step::End { .. } => self.hear(),
                }
            }
        }
    }

    fn hear(&mut self) {
        let h = self.header;
        let numbered = match h.opcode() {
            opcode::DATA_IN => {
                let d = DataIn::parse(&h).expect("Data-In");
                if d.end.is_some() {
                    self.ends(d.itt);
                }
                d.end.is_some()
            }
            opcode::SCSI_RESPONSE => {
                let r = ScsiResponse::parse(&h).expect("a response");
                self.ends(r.itt);
                true
            }
            opcode::R2T => {
                let r = R2t::parse(&h).expect("an R2T");
                assert!(r.desired_bytes <= 4096, "MaxBurstLength");
                self.bursts.push(r);
                false
            }
            _ => true,
        };
        // All but R2T and Data-In without status carry their number at the same place, and the window after it.
        let stat_sn = StatSn(h.be32::<24>());
        if numbered {
            if let Some(last) = self.stat_sn {
                assert_eq!(stat_sn, last.next(), "StatSN moves by one");
            }
            self.stat_sn = Some(stat_sn);
        }
        let (exp, max) = (CmdSn(h.be32::<28>()), CmdSn(h.be32::<32>()));
        assert!(!exp.is_before(self.window.0), "ExpCmdSN went back");
        assert!(!max.is_before(self.window.1), "MaxCmdSN went back");
        assert!(
            !max.next().is_before(exp),
            "MaxCmdSN is at least ExpCmdSN - 1"
        );
        self.window = (exp, max);
    }

    fn ends(&mut self, itt: Itt) {
        let open = self.open.entry(itt.0).or_default();
        *open -= 1;
        assert!(*open >= 0, "{itt:?} answered more often than asked");
    }

    fn answer(&mut self, which: u8, choice: u8) {
        if self.submitted.is_empty() {
            return;
        }
        let at = usize::from(which) % self.submitted.len();
        let (unit, tag, command) = self.submitted.remove(at);
        let block_bytes = self.target.units()[usize::from(unit)].spec().block_bytes;
        self.machine
            .handle_reply(tag, reply(block_bytes, &command, choice));
    }

    fn operate(&mut self, feed: &mut Feed<'_>, operation: u8) {
        match operation % 12 {
            0..=3 => self.command(feed),
            4 | 5 => self.data_out(feed),
            6 | 7 => {
                let [which, choice] = feed.array();
                self.answer(which, choice);
            }
            8 => self.function(feed),
            9 => self.other(feed),
            10 => {
                // Anything at all.
                let mut header = Header(feed.array());
                let data = feed.take(usize::from(feed.0.first().copied().unwrap_or(0)));
                header.0[4] &= 3;
                let [_, high, mid, low] = (data.len() as u32).to_be_bytes();
                header.0[5..8].copy_from_slice(&[high, mid, low]);
                if header.opcode() == opcode::SCSI_COMMAND {
                    *self.open.entry(header.itt().0).or_default() += 1;
                }
                let extra = header.extra_bytes();
                self.machine.handle_bytes(&header.0);
                self.machine.handle_bytes(&vec![0; extra]);
                self.machine.handle_bytes(data);
                self.machine
                    .handle_bytes(&[0; 3][..data.len().wrapping_neg() & 3]);
            }
            _ => self.news(feed),
        }
    }

    fn number(&mut self, is_immediate: bool, skew: u8) -> CmdSn {
        let skewed = self.cmd_sn.wrapping_add(match skew {
            250 => 1,
            251 => 9,
            252 => u32::MAX,
            _ => 0,
        });
        if !is_immediate
            && skewed == self.cmd_sn
            && !CmdSn(self.window.1.0).is_before(CmdSn(skewed))
        {
            self.cmd_sn = self.cmd_sn.wrapping_add(1);
        }
        CmdSn(skewed)
    }

    fn command(&mut self, feed: &mut Feed<'_>) {
        let [flags, lun, skew, reuse] = feed.array();
        let template = feed.byte();
        let mut cdb = feed.array::<16>();
        if let Some(row) = crate::scsi::cdb::ROWS.get(usize::from(template)) {
            // A real command; the input says the fields, kept small where a unit is small.
            for (byte, mask) in cdb.iter_mut().zip(row.usage) {
                *byte &= *mask;
            }
            cdb[0] = row.opcode;
            cdb[1] |= row.action.unwrap_or(0);
            if row.usage.len() == 16 && row.action.is_none() {
                cdb[2..8].fill(0);
                cdb[10..12].fill(0);
            }
        }
        let is_immediate = flags & 0x10 != 0;
        let writes = flags & 0x20 != 0;
        let itt = Itt(if reuse > 250 {
            self.next_itt.wrapping_sub(1)
        } else {
            self.next_itt
        });
        self.next_itt = self.next_itt.wrapping_add(1) & 0xffff;
        let expected_bytes = u32::from(feed.short()) * if flags & 0x80 == 0 { 1 } else { 512 };
        let now = if writes {
            u32::from(feed.short()).min(1024).min(expected_bytes)
        } else {
            0
        };
        let command = ScsiCommand {
            is_immediate,
            is_final: flags & 0x08 == 0 || !writes,
            reads: flags & 0x40 != 0,
            writes,
            attribute: match flags & 7 {
                2 => crate::wire::command::Attribute::Ordered,
                3 => crate::wire::command::Attribute::HeadOfQueue,
                _ => crate::wire::command::Attribute::Simple,
            },
            lun: Lun::from_index(u16::from(lun % 4)),
            itt,
            expected_bytes,
            cmd_sn: self.number(is_immediate, skew),
            exp_stat_sn: StatSn(0),
            cdb,
        };
        *self.open.entry(itt.0).or_default() += 1;
        self.send(&command.emit(now), &vec![0x5a; now as usize]);
    }

    fn data_out(&mut self, feed: &mut Feed<'_>) {
        let [how, cut, which] = feed.array();
        let solicited = if self.bursts.is_empty() {
            None
        } else {
            let at = usize::from(which) % self.bursts.len();
            Some(self.bursts.remove(at))
        };
        let (itt, ttt, offset, bytes) = match solicited {
            Some(r) if how & 1 == 0 => (r.itt, r.ttt, r.offset, r.desired_bytes),
            _ => (
                Itt(feed.word() & 0xff),
                Ttt::NONE,
                feed.word() & 0xffff,
                512,
            ),
        };
        let wrong = how & 0xf0 == 0xf0;
        let first = if how & 2 == 0 {
            bytes
        } else {
            bytes.min(u32::from(cut) * 16)
        };
        let mut pdu = DataOut {
            is_final: first == bytes || wrong,
            lun: Lun::from_index(0),
            itt,
            ttt,
            exp_stat_sn: StatSn(0),
            data_sn: DataSn(u32::from(wrong)),
            offset,
        };
        self.send(&pdu.emit(first), &vec![0x77; first as usize]);
        if first < bytes {
            pdu.is_final = true;
            pdu.data_sn = DataSn(1);
            pdu.offset = offset.wrapping_add(first);
            let rest = bytes - first;
            self.send(&pdu.emit(rest), &vec![0x78; rest as usize]);
        }
    }

    fn function(&mut self, feed: &mut Feed<'_>) {
        let [function, lun, which] = feed.array();
        let request = TaskRequest {
            is_immediate: true,
            function: match function % 8 {
                0 | 7 => TaskFunction::AbortTask,
                1 => TaskFunction::AbortTaskSet,
                2 => TaskFunction::ClearTaskSet,
                3 => TaskFunction::LogicalUnitReset,
                4 => TaskFunction::TargetWarmReset,
                5 if function > 240 => TaskFunction::TargetColdReset,
                _ => TaskFunction::Other(function & 0x7f),
            },
            lun: Lun::from_index(u16::from(lun % 4)),
            itt: Itt(0x1_0000 | u32::from(function)),
            referenced: Itt(self.next_itt.wrapping_sub(u32::from(which % 8))),
            cmd_sn: CmdSn(self.cmd_sn),
            exp_stat_sn: StatSn(0),
            ref_cmd_sn: CmdSn(0),
            exp_data_sn: DataSn(0),
        };
        self.send(&request.emit(), &[]);
    }

    fn other(&mut self, feed: &mut Feed<'_>) {
        let kind = feed.byte();
        let length = usize::from(feed.byte());
        let data = feed.take(length);
        let header = match kind % 8 {
            0..=2 => NopOut {
                is_immediate: true,
                lun: Lun::from_index(0),
                itt: Itt(0x2_0000),
                ttt: Ttt::NONE,
                cmd_sn: CmdSn(self.cmd_sn),
                exp_stat_sn: StatSn(0),
            }
            .emit(data.len() as u32),
            3..=6 => TextRequest {
                is_immediate: true,
                is_final: kind & 0x80 == 0,
                is_partial: kind & 0xc0 == 0xc0,
                lun: Lun::from_index(0),
                itt: Itt(0x3_0000),
                ttt: if kind & 0x40 == 0 {
                    Ttt::NONE
                } else {
                    Ttt(u32::from(kind & 0x20))
                },
                cmd_sn: CmdSn(self.cmd_sn),
                exp_stat_sn: StatSn(0),
            }
            .emit(data.len() as u32),
            _ => {
                let logout = LogoutRequest {
                    is_immediate: true,
                    reason: kind >> 6,
                    itt: Itt(0x4_0000),
                    cid: 0,
                    cmd_sn: CmdSn(self.cmd_sn),
                    exp_stat_sn: StatSn(0),
                };
                return self.send(&logout.emit(), &[]);
            }
        };
        self.send(&header, data);
    }

    fn news(&mut self, feed: &mut Feed<'_>) {
        match feed.byte() {
            0..=99 => self.machine.handle_mail(),
            // It never shrinks: commands under way were judged by the old size.
            100..=179 => {
                let now = self.target.units()[0].capacity().0;
                self.target.resize(0, BlockCount(now + 8));
            }
            180..=239 => {
                let sent = self.machine.transmit().len();
                self.machine.handle_sent(sent);
            }
            240..=247 => self.target.set_gate(Gate::Closed(GateReason::StoreAway)),
            _ => self.machine.handle_disconnect(),
        }
    }
}

/// The body of the target `session`.
pub fn session(data: &[u8]) {
    let mut feed = Feed(data);
    let node = Arc::new(Node::default());
    let target = target(&node, "v");
    let mut sides = [1, 2].map(|number| Side::new(&node, target.clone(), number));
    for side in &mut sides {
        side.settle();
        assert!(side.machine.is_full_feature());
    }
    for _ in 0..OPERATIONS_MAX {
        if feed.is_empty() {
            break;
        }
        let operation = feed.byte();
        let [first, second] = &mut sides;
        let side = if operation & 0x80 == 0 { first } else { second };
        side.operate(&mut feed, operation & 0x7f);
        side.settle();
    }
    // When the faults stop, everything ends: no task is lost, no session stays.
    for side in &mut sides {
        side.machine.handle_disconnect();
        side.settle();
        while !side.submitted.is_empty() {
            side.answer(0, 0);
            side.settle();
        }
        assert!(side.machine.is_done(), "a session that does not end");
    }
    assert_eq!(target.session_count(), 0);
}
