//! The initiator and the volume of the dialogues.
//!
//! ```text
//!   read ITT EXTENT [edtl=N] [lun=N] [imm] [ordered] [head]      write … [now=N] [more]     cdb ITT HEX [in=N] [out=N] [data=HEX]
//!   out ITT OFFSET+LEN sn=N [last] [unsolicited]                 done TAG, busy TAG, miscompare TAG, damaged TAG, aborted TAG
//!   abort ITT of=ITT, clear ITT, lu-reset ITT, warm ITT          nop ITT [data=TEXT], logout ITT, mail
//! ```

use super::super::*;
use crate::serial::DataSn;
use crate::target::{Credentials, Doorbell, TargetSpec, UnitSpec};
use crate::wire::command::{Attribute, Residual, ScsiCommand, ScsiResponse};
use crate::wire::data::{DataIn, DataOut};
use crate::wire::header::{Itt, Lun, Ttt};
use crate::wire::logout::{LogoutRequest, LogoutResponse};
use crate::wire::nop::{NopIn, NopOut};
use crate::wire::r2t::R2t;
use crate::wire::reject::Reject;
use crate::wire::task::{TaskFunction, TaskRequest, TaskResponse};
use bytes::Bytes;
use engine::command::Failure;
use engine::effect::Gate;
use engine::ids::{Seq, VolumeId};
use engine::units::{BlockCount, ByteCount, Extent, Lba};
use engine::{Parts, Reply};
use std::collections::BTreeMap;
use std::io::IoSlice;

#[derive(Debug)]
struct Silent;

impl Doorbell for Silent {
    fn ring(&self) {}
}

pub(super) struct Peer {
    pub(super) machine: Connection<Bytes>,
    pub(super) node: Arc<Node>,
    deframer: Deframer,
    header: Header,
    data: Vec<u8>,
    pub(super) cmd_sn: u32,
    stat_sn: Option<u32>,
    exp_cmd_sn: CmdSn,
    max_cmd_sn: CmdSn,
    ttts: BTreeMap<u32, Ttt>,
    pub(super) submitted: BTreeMap<u64, Command<Bytes>>,
    names: BTreeMap<String, Tag>,
    answered: Vec<u32>,
}

pub(super) fn spec() -> TargetSpec {
    let unit = |instance| UnitSpec {
        volume: VolumeId([7; 16]),
        block_bytes: 512,
        capacity: BlockCount(1 << 20),
        read_only: instance == 1,
        removable: false,
        instance,
    };
    TargetSpec {
        name: "iqn.2011-05.io.martlet:v".to_owned(),
        credentials: None,
        initiators: Vec::new(),
        units: vec![unit(0), unit(1)],
        gate: Gate::Open,
    }
}

pub(super) fn credentials() -> Credentials {
    Credentials {
        user: "joe".to_owned(),
        secret: b"a secret of joe".to_vec(),
        mutual: Some(("disk".to_owned(), b"a secret of ours".to_vec())),
    }
}

impl Peer {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self::with_offer(node, Offer::default())
    }

    pub(super) fn with_offer(node: Arc<Node>, offer: Offer) -> Self {
        let setup = Setup {
            node: node.clone(),
            mailbox: Arc::new(Mailbox::new(Arc::new(Silent))),
            number: 9,
            entropy: [5; 32],
            portal: "127.0.0.1:3260".to_owned(),
            offer,
            window: 4,
            inflight_bytes: 1 << 20,
        };
        Self {
            machine: Connection::new(setup),
            node,
            deframer: Deframer::new(1 << 20),
            header: Header::default(),
            data: Vec::new(),
            cmd_sn: u32::MAX - 1,
            stat_sn: None,
            exp_cmd_sn: CmdSn(u32::MAX - 1),
            max_cmd_sn: CmdSn(u32::MAX - 1),
            ttts: BTreeMap::new(),
            submitted: BTreeMap::new(),
            names: BTreeMap::new(),
            answered: Vec::new(),
        }
    }

    pub(super) fn logged_in() -> Self {
        let node = Arc::new(Node::default());
        node.add(spec()).expect("a target");
        let mut peer = Self::new(node);
        peer.log_in(1);
        peer
    }

    /// Logs in with small limits and takes the attentions of both units.
    pub(super) fn log_in(&mut self, isid: u8) {
        let text = "InitiatorName=iqn.x:a TargetName=iqn.2011-05.io.martlet:v SessionType=Normal \
                    MaxRecvDataSegmentLength=4096 MaxBurstLength=8192 FirstBurstLength=2048 InitialR2T=No";
        let said = self.login_request(isid, 1, Some(Stage::FullFeature), text);
        assert!(said.contains("status 0000"), "{said}");
        self.run(
            "cdb 1 00         → check 1 6/2900
             cdb 2 00 lun=1   → check 2 6/2900",
        );
    }

    /// One login request; what came of it.
    pub(super) fn login_request(
        &mut self,
        isid: u8,
        stage: u8,
        next: Option<Stage>,
        text: &str,
    ) -> String {
        let mut bytes = Vec::new();
        for pair in text.split_whitespace() {
            bytes.extend(pair.as_bytes());
            bytes.push(0);
        }
        let request = LoginRequest {
            next,
            is_partial: false,
            stage: if stage == 0 {
                Stage::Security
            } else {
                Stage::Operational
            },
            version: (0, 0),
            isid: [0x80, 0, 0, 0, 0, isid],
            tsih: 0,
            itt: Itt(0x77),
            cid: 1,
            cmd_sn: CmdSn(self.cmd_sn),
            exp_stat_sn: StatSn(50),
        };
        self.send(&request.emit(bytes.len() as u32), &bytes);
        self.drain().join("; ")
    }

    pub(super) fn send(&mut self, header: &Header, data: &[u8]) {
        let mut bytes = header.0.to_vec();
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        self.machine.handle_bytes(&bytes);
    }

    #[track_caller]
    pub(super) fn run(&mut self, script: &str) {
        for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let (left, right) = line.split_once('→').expect("an arrow");
            self.act(left.trim());
            let got = self.drain().join("; ");
            assert_eq!(got, right.trim(), "\nin: {line}");
        }
    }

    fn act(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let itt = Itt(words.get(1).and_then(|w| w.parse().ok()).unwrap_or(0));
        let has = |word: &str| words.contains(&word);
        let number = |key: &str| -> Option<u32> {
            words
                .iter()
                .find_map(|w| w.strip_prefix(key))
                .map(|v| v.parse().expect("a number"))
        };
        let tag = || self.names.get(words[1]).copied().expect("a tag");
        match words[0] {
            "mail" => self.machine.handle_mail(),
            "read" | "write" => {
                let is_read = words[0] == "read";
                let (lba, count) = words[2].split_once('+').expect("an extent");
                let (lba, count): (u32, u16) =
                    (lba.parse().expect("lba"), count.parse().expect("count"));
                let mut cdb = [0; 16];
                cdb[0] = if is_read { 0x28 } else { 0x2a };
                cdb[2..6].copy_from_slice(&lba.to_be_bytes());
                cdb[7..9].copy_from_slice(&count.to_be_bytes());
                let edtl = number("edtl=").unwrap_or_else(|| u32::from(count) * 512);
                let data = vec![0xab; number("now=").unwrap_or(0) as usize];
                self.command(itt, cdb, edtl, is_read, !is_read, &words, &data);
            }
            "cdb" => {
                let hex: Vec<u8> = unhex(words[2]);
                let mut cdb = [0; 16];
                cdb[..hex.len()].copy_from_slice(&hex);
                let data = words
                    .iter()
                    .find_map(|w| w.strip_prefix("data="))
                    .map(unhex)
                    .unwrap_or_default();
                let out = number("out=").unwrap_or(data.len() as u32);
                let edtl = number("in=").unwrap_or(out);
                self.command(
                    itt,
                    cdb,
                    edtl,
                    number("in=").is_some(),
                    out > 0,
                    &words,
                    &data,
                );
            }
            "out" => {
                let (offset, len) = words[2].split_once('+').expect("a range");
                let (offset, len): (u32, u32) =
                    (offset.parse().expect("offset"), len.parse().expect("len"));
                let pdu = DataOut {
                    is_final: has("last"),
                    lun: Lun::from_index(0),
                    itt,
                    ttt: if has("unsolicited") {
                        Ttt::NONE
                    } else {
                        self.ttts.get(&itt.0).copied().unwrap_or(Ttt(77))
                    },
                    exp_stat_sn: StatSn(0),
                    data_sn: DataSn(number("sn=").unwrap_or(0)),
                    offset,
                };
                self.send(&pdu.emit(len), &vec![0xcd; len as usize]);
            }
            "nop" => {
                let data = words
                    .iter()
                    .find_map(|w| w.strip_prefix("data="))
                    .unwrap_or("");
                let pdu = NopOut {
                    is_immediate: has("imm"),
                    lun: Lun::from_index(0),
                    itt: if has("unanswered") { Itt::NONE } else { itt },
                    ttt: Ttt::NONE,
                    cmd_sn: CmdSn(self.cmd_sn),
                    exp_stat_sn: StatSn(0),
                };
                self.count(has("imm"));
                self.send(&pdu.emit(data.len() as u32), data.as_bytes());
            }
            "logout" => {
                let pdu = LogoutRequest {
                    is_immediate: true,
                    reason: 0,
                    itt,
                    cid: 1,
                    cmd_sn: CmdSn(self.cmd_sn),
                    exp_stat_sn: StatSn(0),
                };
                self.send(&pdu.emit(), &[]);
            }
            function @ ("abort" | "abort-set" | "clear" | "lu-reset" | "warm" | "cold"
            | "reassign") => {
                let pdu = TaskRequest {
                    is_immediate: true,
                    function: match function {
                        "abort" => TaskFunction::AbortTask,
                        "abort-set" => TaskFunction::AbortTaskSet,
                        "clear" => TaskFunction::ClearTaskSet,
                        "lu-reset" => TaskFunction::LogicalUnitReset,
                        "warm" => TaskFunction::TargetWarmReset,
                        "cold" => TaskFunction::TargetColdReset,
                        _ => TaskFunction::TaskReassign,
                    },
                    lun: Lun::from_index(number("lun=").unwrap_or(0) as u16),
                    itt,
                    referenced: Itt(number("of=").unwrap_or(u32::MAX)),
                    cmd_sn: CmdSn(self.cmd_sn),
                    exp_stat_sn: StatSn(0),
                    ref_cmd_sn: CmdSn(0),
                    exp_data_sn: DataSn(0),
                };
                self.send(&pdu.emit(), &[]);
            }
            "done" => {
                let tag = tag();
                let reply = match self.submitted.remove(&tag.0).expect("submitted") {
                    Command::Read(extent) => {
                        Reply::Read(Parts::zeros(ByteCount(extent.count.0 * 512)))
                    }
                    _ => Reply::Done { durable: Seq(1) },
                };
                self.machine.handle_reply(tag, reply);
            }
            "busy" => self.answer(tag(), Reply::Busy),
            "aborted" => self.answer(tag(), Reply::Failed(Failure::Aborted)),
            "damaged" => self.answer(tag(), Reply::Failed(Failure::Damaged { at: Lba(5) })),
            "miscompare" => self.answer(tag(), Reply::Miscompare { at: ByteCount(513) }),
            other => panic!("{other}"),
        }
    }

    fn answer(&mut self, tag: Tag, reply: Reply<Bytes>) {
        self.submitted.remove(&tag.0).expect("submitted");
        self.machine.handle_reply(tag, reply);
    }

    #[allow(clippy::too_many_arguments)]
    fn command(
        &mut self,
        itt: Itt,
        cdb: [u8; 16],
        expected_bytes: u32,
        reads: bool,
        writes: bool,
        words: &[&str],
        data: &[u8],
    ) {
        let has = |word: &str| words.contains(&word);
        let lun = words
            .iter()
            .find_map(|w| w.strip_prefix("lun="))
            .map_or(0, |v| v.parse().expect("lun"));
        let number = words.iter().find_map(|w| w.strip_prefix("cmdsn="));
        let pdu = ScsiCommand {
            is_immediate: has("imm"),
            is_final: !has("more"),
            reads,
            writes,
            attribute: if has("ordered") {
                Attribute::Ordered
            } else if has("head") {
                Attribute::HeadOfQueue
            } else {
                Attribute::Simple
            },
            lun: Lun::from_index(lun),
            itt,
            expected_bytes,
            cmd_sn: CmdSn(
                self.cmd_sn
                    .wrapping_add(number.map_or(0, |n| n.parse::<i32>().expect("a number") as u32)),
            ),
            exp_stat_sn: StatSn(0),
            cdb,
        };
        self.count(has("imm") || number.is_some());
        self.send(&pdu.emit(data.len() as u32), data);
    }

    fn count(&mut self, is_immediate: bool) {
        if !is_immediate {
            self.cmd_sn = self.cmd_sn.wrapping_add(1);
        }
    }

    /// All that left: actions, then PDUs. Numbers of responses and the window are checked here.
    pub(super) fn drain(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Submit { tag, command, .. } => {
                    let name = format!("t{}", self.names.len());
                    out.push(format!("submit {name} {}", describe(&command)));
                    self.names.insert(name, tag);
                    self.submitted.insert(tag.0, command);
                }
                Action::Abort { tag, .. } => {
                    let name = self
                        .names
                        .iter()
                        .find(|(_, t)| **t == tag)
                        .expect("a name")
                        .0;
                    out.push(format!("take back {name}"));
                }
                Action::Entered(_) => {}
            }
        }
        for bytes in self.sent() {
            let mut input = bytes.as_slice();
            loop {
                match self.deframer.step(&mut input).expect("well framed") {
                    Step::More => break,
                    Step::Header(header) => self.header = header,
                    Step::Data(data) => self.data.extend(data),
                    Step::End { is_damaged } => {
                        assert!(!is_damaged);
                        let data = core::mem::take(&mut self.data);
                        out.push(self.pdu(&data));
                    }
                }
            }
        }
        out
    }

    fn sent(&mut self) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        while !self.machine.transmit().is_empty() {
            let mut slices = [IoSlice::new(&[]); 8];
            let filled = self.machine.transmit().slices(&mut slices);
            let bytes: Vec<u8> = slices[..filled].iter().flat_map(|s| s.to_vec()).collect();
            self.machine.handle_sent(bytes.len() as u64);
            out.push(bytes);
        }
        out
    }

    /// StatSN moves by one with each response; ExpCmdSN and MaxCmdSN never go back.
    fn numbers(&mut self, stat_sn: Option<StatSn>, exp: CmdSn, max: CmdSn) {
        if let Some(stat_sn) = stat_sn {
            let expected = self.stat_sn.map_or(stat_sn.0, |s| s.wrapping_add(1));
            assert_eq!(stat_sn.0, expected, "StatSN");
            self.stat_sn = Some(stat_sn.0);
        }
        assert!(!exp.is_before(self.exp_cmd_sn), "ExpCmdSN went back");
        assert!(!max.is_before(self.max_cmd_sn), "MaxCmdSN went back");
        assert!(
            !max.next().is_before(exp),
            "MaxCmdSN is at least ExpCmdSN - 1"
        );
        (self.exp_cmd_sn, self.max_cmd_sn) = (exp, max);
    }

    fn end_of(&mut self, itt: Itt) {
        assert!(!self.answered.contains(&itt.0), "{itt:?} answered twice");
        self.answered.push(itt.0);
    }

    fn pdu(&mut self, data: &[u8]) -> String {
        let h = &self.header;
        match h.opcode() {
            opcode::LOGIN_RESPONSE => {
                let r = LoginResponse::parse(h).expect("login response");
                self.numbers(Some(r.stat_sn), r.exp_cmd_sn, r.max_cmd_sn);
                let text = String::from_utf8_lossy(data).replace('\0', " ");
                let next = r.next.map_or(String::new(), |n| format!(" next {n:?}"));
                format!("login status {:04x}{next} {text}", r.status.0)
                    .trim_end()
                    .to_owned()
            }
            opcode::SCSI_RESPONSE => {
                let r = ScsiResponse::parse(h).expect("response");
                self.numbers(Some(r.stat_sn), r.exp_cmd_sn, r.max_cmd_sn);
                self.end_of(r.itt);
                let what = match (r.status, data) {
                    (0, _) => "good".to_owned(),
                    (2, [_, _, sense @ ..]) if sense[0] == 0x72 => {
                        let (key, asc, ascq) = (sense[1] & 15, sense[2], sense[3]);
                        return format!(
                            "check {} {key:x}/{asc:02x}{ascq:02x}{}",
                            r.itt.0,
                            residual(r.residual)
                        );
                    }
                    (2, [_, _, sense @ ..]) => {
                        return format!(
                            "check {} {:x}/{:02x}{:02x}{}",
                            r.itt.0,
                            sense[2] & 15,
                            sense[12],
                            sense[13],
                            residual(r.residual)
                        );
                    }
                    (8, _) => "busy".to_owned(),
                    (0x18, _) => "conflict".to_owned(),
                    (0x40, _) => "task-aborted".to_owned(),
                    (other, _) => format!("status {other:02x}"),
                };
                format!("{what} {}{}", r.itt.0, residual(r.residual))
            }
            opcode::DATA_IN => {
                let d = DataIn::parse(h).expect("data-in");
                self.numbers(d.end.map(|e| e.stat_sn), d.exp_cmd_sn, d.max_cmd_sn);
                let mut out = format!(
                    "data-in {} {}+{} sn={}",
                    d.itt.0,
                    d.offset,
                    data.len(),
                    d.data_sn.0
                );
                if d.is_final {
                    out += " final";
                }
                if let Some(end) = d.end {
                    self.end_of(d.itt);
                    out += &format!(" good{}", residual(end.residual));
                }
                out
            }
            opcode::R2T => {
                let r = R2t::parse(h).expect("r2t");
                assert_eq!(
                    Some(r.stat_sn.0),
                    self.stat_sn.map(|s| s.wrapping_add(1)),
                    "the next StatSN"
                );
                self.numbers(None, r.exp_cmd_sn, r.max_cmd_sn);
                self.ttts.insert(r.itt.0, r.ttt);
                format!(
                    "r2t {} {}+{} sn={}",
                    r.itt.0, r.offset, r.desired_bytes, r.r2t_sn.0
                )
            }
            opcode::NOP_IN => {
                let n = NopIn::parse(h).expect("nop-in");
                self.numbers(Some(n.stat_sn), n.exp_cmd_sn, n.max_cmd_sn);
                format!("nop-in {} {}", n.itt.0, String::from_utf8_lossy(data))
                    .trim_end()
                    .to_owned()
            }
            opcode::TASK_RESPONSE => {
                let r = TaskResponse::parse(h).expect("task response");
                self.numbers(Some(r.stat_sn), r.exp_cmd_sn, r.max_cmd_sn);
                format!("function {} {:?}", r.itt.0, r.outcome)
            }
            opcode::LOGOUT_RESPONSE => {
                let r = LogoutResponse::parse(h).expect("logout response");
                self.numbers(Some(r.stat_sn), r.exp_cmd_sn, r.max_cmd_sn);
                format!("logout {} {}", r.itt.0, r.response)
            }
            opcode::REJECT => {
                let r = Reject::parse(h).expect("reject");
                self.numbers(Some(r.stat_sn), r.exp_cmd_sn, r.max_cmd_sn);
                assert_eq!(data.len(), 48);
                format!("reject {:02x}", r.reason)
            }
            opcode::TEXT_RESPONSE => {
                let r = crate::wire::text::TextResponse::parse(h).expect("text");
                self.numbers(Some(r.stat_sn), r.exp_cmd_sn, r.max_cmd_sn);
                self.ttts.insert(r.itt.0, r.ttt);
                let text = String::from_utf8_lossy(data).replace('\0', " ");
                format!("text {} {text}", if r.is_final { "final" } else { "more" })
                    .trim_end()
                    .to_owned()
            }
            other => format!("opcode {other:02x}"),
        }
    }

    /// The first unit's NAA designator, in hexadecimal.
    pub(super) fn naa(&self) -> String {
        let target = self.node.all().remove(0);
        let unit = target.units()[0].clone();
        let view = crate::scsi::unit::UnitView {
            unit: &unit,
            lun: 0,
            flags: unit.flags(),
        };
        crate::scsi::vpd::naa_text(&view)
    }

    pub(super) fn ttt(&self, itt: u32) -> Ttt {
        self.ttts.get(&itt).copied().expect("a transfer tag")
    }
}

fn residual(residual: Residual) -> String {
    match residual {
        Residual::None => String::new(),
        Residual::Overflow(n) => format!(" over {n}"),
        Residual::Underflow(n) => format!(" under {n}"),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .map(|b| char::from(b).to_digit(16).expect("hex") as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn describe(command: &Command<Bytes>) -> String {
    let bytes = |p: &Bytes| p.iter().map(|b| u64::from(*b)).sum::<u64>();
    let fua = |f: bool| if f { " fua" } else { "" };
    match command {
        Command::Read(e) => format!("read {e}"),
        Command::Write {
            at,
            data,
            sums,
            fua: f,
        } => {
            assert_eq!(sums, &crate::payload::sums(512, *at, data));
            assert_eq!(data.len() as u64, at.count.0 * 512);
            format!("write {at} sum {}{}", bytes(data), fua(*f))
        }
        Command::Discard(extents) => {
            let list: Vec<String> = extents.iter().map(Extent::to_string).collect();
            format!("discard {}", list.join(","))
        }
        Command::WriteZeroes { at, fua: f } => format!("zeros {at}{}", fua(*f)),
        Command::CompareAndWrite {
            at, expect, data, ..
        } => {
            format!("swap {at} {} {}", bytes(expect), bytes(data))
        }
        Command::Flush => "flush".to_owned(),
        Command::PutAttribute { key, .. } => format!("attribute {key}"),
    }
}
