//! The front on real sockets: replies from anywhere, ends of all kinds, peers that do not play along.
#![cfg(feature = "net")]

use bytes::Bytes;
use engine::effect::{Gate, GateReason};
use engine::ids::{Seq, Tag, VolumeId};
use engine::units::{BlockCount, ByteCount};
use engine::{Command, Parts, Reply};
use martlet_transport_iscsi::net::{Backend, Limits, ReplySink, Server};
use martlet_transport_iscsi::serial::{CmdSn, DataSn, StatSn};
use martlet_transport_iscsi::target::{Target, TargetSpec, UnitSpec};
use martlet_transport_iscsi::wire::command::{Attribute, ScsiCommand};
use martlet_transport_iscsi::wire::data::DataOut;
use martlet_transport_iscsi::wire::header::{Header, Itt, Lun, Ttt, opcode};
use martlet_transport_iscsi::wire::login::{LoginRequest, LoginResponse, LoginStatus, Stage};
use martlet_transport_iscsi::wire::r2t::R2t;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const NAME: &str = "iqn.2011-05.io.martlet:t";

/// Every command goes to the test, which answers when and how it likes.
struct Held(Mutex<Sender<(Tag, Command<Bytes>)>>);

impl Backend for Held {
    fn submit(&self, tag: Tag, command: Command<Bytes>, _: &mut ReplySink<'_>) {
        // A test that has seen enough is gone.
        let _ = self.0.lock().expect("a sender").send((tag, command));
    }

    fn abort(&self, _: Tag, _: &mut ReplySink<'_>) {}
}

fn reply(command: &Command<Bytes>) -> Reply<Bytes> {
    match command {
        Command::Read(extent) => Reply::Read(Parts::zeros(ByteCount(extent.count.0 * 512))),
        _ => Reply::Done { durable: Seq(0) },
    }
}

struct World {
    server: Arc<Server>,
    target: Arc<Target>,
    address: SocketAddr,
    commands: Receiver<(Tag, Command<Bytes>)>,
    end: tokio::sync::oneshot::Sender<()>,
    running: JoinHandle<std::io::Result<()>>,
}

impl World {
    async fn new(limits: Limits) -> Self {
        let server = Server::new(limits);
        let (sender, commands) = channel();
        let spec = TargetSpec {
            name: NAME.to_owned(),
            credentials: None,
            initiators: Vec::new(),
            units: vec![UnitSpec {
                volume: VolumeId([9; 16]),
                block_bytes: 512,
                capacity: BlockCount(1 << 20),
                read_only: false,
                removable: false,
                instance: 0,
            }],
            gate: Gate::Open,
        };
        let target = server
            .add(spec, vec![Arc::new(Held(Mutex::new(sender)))])
            .expect("a target");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (end, ended) = tokio::sync::oneshot::channel();
        let running = tokio::spawn(server.clone().run(listener, async {
            let _ = ended.await;
        }));
        Self {
            server,
            target,
            address,
            commands,
            end,
            running,
        }
    }

    /// The next command that reached the volume.
    async fn command(&self) -> (Tag, Command<Bytes>) {
        for _ in 0..5000 {
            if let Ok(command) = self.commands.try_recv() {
                return command;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("no command");
    }

    /// Answers everything, from a thread of its own.
    fn answer_all(self) -> (Arc<Server>, tokio::sync::oneshot::Sender<()>) {
        let router = self.server.router();
        std::thread::spawn(move || {
            while let Ok((tag, command)) = self.commands.recv() {
                router.deliver(tag, reply(&command));
            }
        });
        (self.server, self.end)
    }
}

fn check<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let late = timeout(Duration::from_secs(30), test()).await;
        late.expect("the test hangs");
    });
    runtime.shutdown_background();
}

struct Client {
    stream: TcpStream,
    digests: bool,
    cmd_sn: u32,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Self {
            stream: TcpStream::connect(address).await.expect("a connection"),
            digests: false,
            cmd_sn: 1,
        }
    }

    async fn log_in(address: SocketAddr, more: &str) -> Self {
        let mut client = Self::connect(address).await;
        let status = client.try_log_in(more).await;
        assert_eq!(status, LoginStatus::SUCCESS);
        client.digests = more.contains("HeaderDigest=CRC32C");
        // The unit attention of a new session.
        client
            .send(&client.command(1, [0; 16], 0, false), &[])
            .await;
        client.cmd_sn += 1;
        let (header, _) = client.receive().await.expect("an answer");
        assert_eq!(header.opcode(), opcode::SCSI_RESPONSE);
        client
    }

    async fn try_log_in(&mut self, more: &str) -> LoginStatus {
        let text = format!("InitiatorName=iqn.x:a\0TargetName={NAME}\0InitialR2T=No\0{more}");
        let port = self.stream.local_addr().expect("an address").port();
        let [high, low] = port.to_be_bytes();
        let request = LoginRequest {
            next: Some(Stage::FullFeature),
            is_partial: false,
            stage: Stage::Operational,
            version: (0, 0),
            isid: [0x80, 0, 0, 0, high, low],
            tsih: 0,
            itt: Itt(0),
            cid: 0,
            cmd_sn: CmdSn(self.cmd_sn),
            exp_stat_sn: StatSn(0),
        };
        let header = request.emit(text.len() as u32);
        self.send(&header, text.as_bytes()).await;
        let (header, _) = self.receive().await.expect("a login response");
        LoginResponse::parse(&header)
            .expect("a login response")
            .status
    }

    fn command(&self, itt: u32, cdb: [u8; 16], bytes: u32, writes: bool) -> Header {
        let command = ScsiCommand {
            is_immediate: false,
            is_final: true,
            reads: !writes,
            writes,
            attribute: Attribute::Simple,
            lun: Lun::from_index(0),
            itt: Itt(itt),
            expected_bytes: bytes,
            cmd_sn: CmdSn(self.cmd_sn),
            exp_stat_sn: StatSn(0),
            cdb,
        };
        command.emit(0)
    }

    async fn read(&mut self, itt: u32, lba: u32, blocks: u16) {
        let header = self.command(itt, cdb(0x28, lba, blocks), u32::from(blocks) * 512, false);
        self.cmd_sn += 1;
        self.send(&header, &[]).await;
    }

    async fn write(&mut self, itt: u32, lba: u32, blocks: u16) {
        let header = self.command(itt, cdb(0x2a, lba, blocks), u32::from(blocks) * 512, true);
        self.cmd_sn += 1;
        self.send(&header, &[]).await;
    }

    async fn send(&mut self, header: &Header, data: &[u8]) {
        let mut bytes = header.0.to_vec();
        if self.digests {
            bytes.extend(crc32c::crc32c(&header.0).to_le_bytes());
        }
        let mut padded = data.to_vec();
        padded.resize(data.len().next_multiple_of(4), 0);
        bytes.extend(&padded);
        if self.digests && !data.is_empty() {
            bytes.extend(crc32c::crc32c(&padded).to_le_bytes());
        }
        self.stream.write_all(&bytes).await.expect("sent");
    }

    /// The next PDU, its digests checked; `None` when the target has closed.
    async fn receive(&mut self) -> Option<(Header, Vec<u8>)> {
        let mut header = Header([0; 48]);
        self.stream.read_exact(&mut header.0).await.ok()?;
        if self.digests {
            assert_eq!(
                self.stream.read_u32_le().await.ok()?,
                crc32c::crc32c(&header.0)
            );
        }
        let bytes = header.data_bytes() as usize;
        let mut data = vec![0; bytes.next_multiple_of(4)];
        self.stream.read_exact(&mut data).await.ok()?;
        if self.digests && bytes > 0 {
            assert_eq!(self.stream.read_u32_le().await.ok()?, crc32c::crc32c(&data));
        }
        data.truncate(bytes);
        Some((header, data))
    }
}

fn cdb(opcode: u8, lba: u32, blocks: u16) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    cdb[2..6].copy_from_slice(&lba.to_be_bytes());
    cdb[7..9].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

#[test]
fn replies_of_another_thread_come_in_any_order() {
    check(|| async {
        let world = World::new(Limits::default()).await;
        let mut client = Client::log_in(world.address, "").await;
        for itt in 10..13 {
            client.read(itt, itt, 8).await;
        }
        let mut commands = Vec::new();
        for _ in 10..13 {
            commands.push(world.command().await);
        }
        let router = world.server.router();
        std::thread::spawn(move || {
            for (tag, command) in commands.into_iter().rev() {
                router.deliver(tag, reply(&command));
            }
        });
        for itt in (10..13).rev() {
            let (header, data) = client.receive().await.expect("an answer");
            assert_eq!((header.opcode(), header.itt().0), (opcode::DATA_IN, itt));
            assert_eq!(data, vec![0; 4096]);
        }
    });
}

#[test]
fn a_long_write_arrives_whole_with_digests() {
    check(|| async {
        let world = World::new(Limits::default()).await;
        let keys = "HeaderDigest=CRC32C\0DataDigest=CRC32C\0MaxBurstLength=262144\0";
        let mut client = Client::log_in(world.address, keys).await;
        let content: Vec<u8> = (0..1_u32 << 20).map(|i| (i / 7) as u8).collect();
        client.write(10, 64, 2048).await;
        let mut sent = 0;
        while sent < content.len() {
            let (header, _) = client.receive().await.expect("an R2T");
            let r2t = R2t::parse(&header).expect("an R2T");
            assert_eq!(r2t.offset as usize, sent);
            let burst = &content[sent..sent + r2t.desired_bytes as usize];
            // Odd lengths, so that padding and digests are met, and one piece that is read straight into its buffer.
            let mut at = 0;
            for (length, number) in [(70_001, 0), (4999, 1), (burst.len() - 75_000, 2)] {
                let pdu = DataOut {
                    is_final: number == 2,
                    lun: Lun::from_index(0),
                    itt: Itt(10),
                    ttt: r2t.ttt,
                    exp_stat_sn: StatSn(0),
                    data_sn: DataSn(number),
                    offset: r2t.offset + at as u32,
                };
                let data = &burst[at..at + length];
                client.send(&pdu.emit(length as u32), data).await;
                at += length;
            }
            sent += burst.len();
        }
        let (tag, command) = world.command().await;
        let Command::Write { data, sums, .. } = &command else {
            panic!("{command:?}");
        };
        assert!(*data == content, "other bytes arrived");
        assert_eq!(sums.len(), 256);
        assert_eq!(sums[3].0, crc32c::crc32c(&content[3 * 4096..4 * 4096]));
        world.server.router().deliver(tag, reply(&command));
        let (header, _) = client.receive().await.expect("an answer");
        assert_eq!(header.opcode(), opcode::SCSI_RESPONSE);
    });
}

#[test]
fn a_closed_gate_closes_sockets_and_refuses_logins() {
    check(|| async {
        let world = World::new(Limits::default()).await;
        let mut client = Client::log_in(world.address, "").await;
        client.read(10, 0, 1).await;
        let (tag, command) = world.command().await;
        world.target.set_gate(Gate::Closed(GateReason::StoreAway));
        // The socket goes at once; the session's place when the volume has answered.
        assert!(client.receive().await.is_none());
        assert_eq!(world.target.session_count(), 1);
        let status = Client::connect(world.address).await.try_log_in("").await;
        assert_eq!(status, LoginStatus::SERVICE_UNAVAILABLE);
        world.server.router().deliver(tag, reply(&command));
        while world.target.session_count() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        world.target.set_gate(Gate::Open);
        Client::log_in(world.address, "").await;
    });
}

#[test]
fn the_end_of_life_waits_for_the_last_command() {
    check(|| async {
        let world = World::new(Limits::default()).await;
        let mut client = Client::log_in(world.address, "").await;
        client.write(10, 0, 1).await;
        let (header, _) = client.receive().await.expect("an R2T");
        let pdu = DataOut {
            is_final: true,
            lun: Lun::from_index(0),
            itt: Itt(10),
            ttt: Ttt(R2t::parse(&header).expect("an R2T").ttt.0),
            exp_stat_sn: StatSn(0),
            data_sn: DataSn(0),
            offset: 0,
        };
        client.send(&pdu.emit(512), &[1; 512]).await;
        let (tag, command) = world.command().await;
        world.end.send(()).expect("it runs");
        assert!(client.receive().await.is_none());
        assert!(!world.running.is_finished());
        world.server.router().deliver(tag, reply(&command));
        let result = world.running.await.expect("no panic");
        assert!(result.is_ok());
    });
}

#[test]
fn who_does_not_log_in_is_closed() {
    check(|| async {
        let limits = Limits {
            login: Duration::from_millis(50),
            ..Limits::default()
        };
        let world = World::new(limits).await;
        let mut client = Client::connect(world.address).await;
        assert!(client.receive().await.is_none());
        // One who logs in stays, longer than one who came later and did not.
        let mut client = Client::log_in(world.address, "").await;
        let mut later = Client::connect(world.address).await;
        assert!(later.receive().await.is_none());
        let (_server, _end) = world.answer_all();
        client.read(10, 0, 1).await;
        assert!(client.receive().await.is_some());
    });
}

#[test]
fn connections_beyond_the_limit_are_closed() {
    check(|| async {
        let limits = Limits {
            connections: 1,
            ..Limits::default()
        };
        let world = World::new(limits).await;
        let _first = Client::log_in(world.address, "").await;
        let mut second = Client::connect(world.address).await;
        assert!(second.receive().await.is_none());
    });
}

#[test]
fn a_peer_that_takes_no_answers_is_not_listened_to() {
    check(|| async {
        let limits = Limits {
            inflight_bytes: 2 << 20,
            ..Limits::default()
        };
        let world = World::new(limits).await;
        let address = world.address;
        let (server, _end) = world.answer_all();
        let mut client = Client::log_in(address, "MaxRecvDataSegmentLength=262144\0").await;
        // Far more than sockets hold: 100 answers of 1 MiB, asked for before one is taken.
        for itt in 10..110 {
            client.read(itt, 0, 2048).await;
        }
        let mut bytes = 0;
        while bytes < 100 << 20 {
            let (header, data) = client.receive().await.expect("an answer");
            assert_eq!(header.opcode(), opcode::DATA_IN);
            bytes += data.len();
        }
        drop(server);
    });
}
