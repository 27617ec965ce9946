//! A small initiator of its own: enough of RFC 7143 to keep several commands in flight and to know what was answered.
//!
//! Shares no code with the program. No digests, ErrorRecoveryLevel 0; writes ride as immediate data (at most 64 KiB).

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longest write, in bytes: the FirstBurstLength that is asked for.
pub(crate) const WRITE_MAX: usize = 64 << 10;

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) tag: u32,
    pub(crate) status: u8,
    /// Key, ASC, ASCQ, when the status is CHECK CONDITION.
    pub(crate) sense: Option<(u8, u8, u8)>,
    pub(crate) data: Vec<u8>,
}

impl Answer {
    pub(crate) fn is_good(&self) -> bool {
        self.status == 0
    }
}

pub(crate) const BUSY: u8 = 0x08;
pub(crate) const CHECK_CONDITION: u8 = 0x02;

#[derive(Debug)]
pub(crate) struct Initiator {
    stream: TcpStream,
    cmd_sn: u32,
    exp_stat_sn: u32,
    next_tag: u32,
    reads: BTreeMap<u32, Vec<u8>>,
}

fn protocol(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

impl Initiator {
    /// Logs in to LUN 0 of `target`. Errors also name a refused login: `login 0301`.
    pub(crate) fn login(address: &str, target: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut this = Self {
            stream,
            cmd_sn: 1,
            exp_stat_sn: 0,
            next_tag: 1,
            reads: BTreeMap::new(),
        };
        let keys = [
            "InitiatorName=iqn.2024-01.com.example:e2e",
            &format!("TargetName={target}"),
            "SessionType=Normal",
            "HeaderDigest=None",
            "DataDigest=None",
            "InitialR2T=Yes",
            "ImmediateData=Yes",
            "MaxRecvDataSegmentLength=262144",
            "MaxBurstLength=262144",
            "FirstBurstLength=65536",
            "MaxConnections=1",
            "MaxOutstandingR2T=1",
            "ErrorRecoveryLevel=0",
        ];
        let text: Vec<u8> = keys.iter().flat_map(|k| k.bytes().chain([0])).collect();
        let mut header = [0_u8; 48];
        header[0] = 0x43;
        // Transit, from the operational stage (1) to the full feature phase (3).
        header[1] = 0x87;
        header[8..14].copy_from_slice(&[0x80, 0, 0, 1, 0, std::process::id() as u8]);
        header[24..28].copy_from_slice(&this.cmd_sn.to_be_bytes());
        this.send(&mut header, &text)?;
        let (header, _) = this.receive()?;
        if header[0] & 0x3f != 0x23 {
            return Err(protocol(format!("opcode {:#x} to a login", header[0])));
        }
        if header[36] != 0 || header[37] != 0 {
            let class = u16::from_be_bytes([header[36], header[37]]);
            return Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                format!("login {class:04x}"),
            ));
        }
        if header[1] & 0x80 == 0 || header[1] & 3 != 3 {
            return Err(protocol("the login takes another step"));
        }
        this.exp_stat_sn = be32(&header, 24).wrapping_add(1);
        // The first command of a nexus is told news (UNIT ATTENTION): take them before they cost a test its command.
        for _ in 0..8 {
            let tag = this.submit([0; 16], &[], 0)?;
            let answer = this.wait(tag)?;
            if answer.is_good() {
                return Ok(this);
            }
        }
        Err(protocol("the unit does not become ready"))
    }

    fn send(&mut self, header: &mut [u8; 48], data: &[u8]) -> io::Result<()> {
        let len = data.len() as u32;
        header[5..8].copy_from_slice(&len.to_be_bytes()[1..]);
        let mut pdu = Vec::with_capacity(48 + data.len() + 3);
        pdu.extend_from_slice(header);
        pdu.extend_from_slice(data);
        pdu.resize(pdu.len().next_multiple_of(4), 0);
        self.stream.write_all(&pdu)
    }

    fn receive(&mut self) -> io::Result<([u8; 48], Vec<u8>)> {
        let mut header = [0; 48];
        self.stream.read_exact(&mut header)?;
        let len = be32(&header, 4) as usize & 0x00ff_ffff;
        let mut data = vec![0; usize::from(header[4]) * 4 + len.next_multiple_of(4)];
        self.stream.read_exact(&mut data)?;
        data.truncate(len);
        Ok((header, data))
    }

    /// Sends a command. `expect`: bytes that it shall bring.
    fn submit(&mut self, cdb: [u8; 16], data: &[u8], expect: u32) -> io::Result<u32> {
        let tag = self.next_tag;
        self.next_tag += 1;
        let mut header = [0_u8; 48];
        header[0] = 0x01;
        header[1] = 0x81;
        if expect > 0 {
            header[1] |= 0x40;
        }
        if !data.is_empty() {
            header[1] |= 0x20;
        }
        header[16..20].copy_from_slice(&tag.to_be_bytes());
        let length = expect.max(data.len() as u32);
        header[20..24].copy_from_slice(&length.to_be_bytes());
        header[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        header[28..32].copy_from_slice(&self.exp_stat_sn.to_be_bytes());
        header[32..48].copy_from_slice(&cdb);
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        self.send(&mut header, data)?;
        if expect > 0 {
            self.reads.insert(tag, vec![0; expect as usize]);
        }
        Ok(tag)
    }

    fn transfer(opcode: u8, flags: u8, lba: u64, blocks: u32) -> [u8; 16] {
        let mut cdb = [0; 16];
        cdb[0] = opcode;
        cdb[1] = flags;
        cdb[2..10].copy_from_slice(&lba.to_be_bytes());
        cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
        cdb
    }

    /// WRITE (16) of whole 512-byte blocks.
    pub(crate) fn write(&mut self, lba: u64, data: &[u8], fua: bool) -> io::Result<u32> {
        assert!(data.len() <= WRITE_MAX && data.len().is_multiple_of(512));
        let flags = if fua { 0x08 } else { 0 };
        let cdb = Self::transfer(0x8a, flags, lba, (data.len() / 512) as u32);
        self.submit(cdb, data, 0)
    }

    /// READ (16).
    pub(crate) fn read(&mut self, lba: u64, blocks: u32) -> io::Result<u32> {
        self.submit(Self::transfer(0x88, 0, lba, blocks), &[], blocks * 512)
    }

    /// SYNCHRONIZE CACHE (16) of everything.
    pub(crate) fn flush(&mut self) -> io::Result<u32> {
        self.submit(Self::transfer(0x91, 0, 0, 0), &[], 0)
    }

    /// The next answer to any command.
    pub(crate) fn next(&mut self) -> io::Result<Answer> {
        loop {
            let (header, data) = self.receive()?;
            let tag = be32(&header, 16);
            match header[0] & 0x3f {
                // Data-In, perhaps with the status.
                0x25 => {
                    let at = be32(&header, 40) as usize;
                    let into = self.reads.get_mut(&tag);
                    let into = into.and_then(|b| b.get_mut(at..at + data.len()));
                    into.ok_or_else(|| protocol("data that nobody asked for"))?
                        .copy_from_slice(&data);
                    if header[1] & 1 == 1 {
                        self.exp_stat_sn = be32(&header, 24).wrapping_add(1);
                        return Ok(self.answer(tag, header[3], &[]));
                    }
                }
                0x21 => {
                    self.exp_stat_sn = be32(&header, 24).wrapping_add(1);
                    return Ok(self.answer(tag, header[3], &data));
                }
                // NOP-In that wants an answer.
                0x20 if be32(&header, 20) != u32::MAX => {
                    let mut nop = [0_u8; 48];
                    nop[0] = 0x40;
                    nop[1] = 0x80;
                    nop[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
                    nop[20..24].copy_from_slice(&header[20..24]);
                    nop[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
                    nop[28..32].copy_from_slice(&self.exp_stat_sn.to_be_bytes());
                    self.send(&mut nop, &[])?;
                }
                0x20 => {}
                0x32 => {
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        format!("asynchronous event {}", header[36]),
                    ));
                }
                opcode => return Err(protocol(format!("opcode {opcode:#x}"))),
            }
        }
    }

    fn answer(&mut self, tag: u32, status: u8, data: &[u8]) -> Answer {
        let sense = (status == CHECK_CONDITION && data.len() >= 2 + 14)
            .then(|| (data[2 + 2] & 0x0f, data[2 + 12], data[2 + 13]));
        Answer {
            tag,
            status,
            sense,
            data: self.reads.remove(&tag).unwrap_or_default(),
        }
    }

    /// The answer to this command; there must be no other in flight.
    pub(crate) fn wait(&mut self, tag: u32) -> io::Result<Answer> {
        let answer = self.next()?;
        if answer.tag != tag {
            return Err(protocol("an answer to another command"));
        }
        Ok(answer)
    }

    /// Reads blocks and waits for them. Errors: not GOOD.
    pub(crate) fn read_now(&mut self, lba: u64, blocks: u32) -> io::Result<Vec<u8>> {
        let tag = self.read(lba, blocks)?;
        let answer = self.wait(tag)?;
        if !answer.is_good() {
            return Err(io::Error::other(format!("{answer:?}")));
        }
        Ok(answer.data)
    }

    /// Writes blocks and waits. Errors: not GOOD.
    pub(crate) fn write_now(&mut self, lba: u64, data: &[u8]) -> io::Result<()> {
        let tag = self.write(lba, data, false)?;
        let answer = self.wait(tag)?;
        if !answer.is_good() {
            return Err(io::Error::other(format!("{answer:?}")));
        }
        Ok(())
    }
}
