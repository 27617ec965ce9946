//! Serves units whose blocks lie in memory: to try clients, to run conformance suites, to measure the front end alone.
//!
//! ```text
//! ram_target ADDRESS:PORT [--size MIB] [--block 512|4096] [--read-only] [--removable] [--user NAME:SECRET]
//!            [--mutual NAME:SECRET] [--r2t-only] [--digests] [--threads N] [--units N]
//! ```

use engine::command::Failure;
use engine::effect::Gate;
use engine::ids::{Seq, Tag, VolumeId};
use engine::units::{BlockCount, ByteCount, Extent};
use engine::{Command, Parts, Reply};
use martlet_transport_iscsi::net::{Backend, Limits, ReplySink, Server};
use martlet_transport_iscsi::target::{Credentials, TargetSpec, UnitSpec};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;

/// Blocks in memory, by runs of 1 MiB so that reads of others need not wait.
struct Ram {
    block_bytes: u64,
    blocks: Mutex<Vec<u8>>,
}

impl Ram {
    fn range(&self, extent: Extent) -> std::ops::Range<usize> {
        let range = extent.range();
        (range.start * self.block_bytes) as usize..(range.end * self.block_bytes) as usize
    }

    fn run(&self, command: Command<bytes::Bytes>) -> Reply<bytes::Bytes> {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let done = Reply::Done { durable: Seq(0) };
        let blocks = &mut *blocks;
        let fill = |blocks: &mut Vec<u8>, extent: Extent, from: Option<&[u8]>| {
            let Some(to) = blocks.get_mut(self.range(extent)) else {
                return Reply::Failed(Failure::OutOfRange);
            };
            match from {
                Some(from) => to.copy_from_slice(from),
                None => to.fill(0),
            }
            done.clone()
        };
        match command {
            Command::Read(extent) => match blocks.get(self.range(extent)) {
                Some(bytes) => Reply::Read(Parts::one(bytes::Bytes::copy_from_slice(bytes))),
                None => Reply::Failed(Failure::OutOfRange),
            },
            Command::Write { at, data, .. } => fill(blocks, at, Some(&data)),
            Command::WriteZeroes { at, .. } => fill(blocks, at, None),
            Command::Discard(extents) => {
                for extent in extents {
                    fill(blocks, extent, None);
                }
                done
            }
            Command::CompareAndWrite {
                at, expect, data, ..
            } => {
                let found = blocks.get(self.range(at)).unwrap_or(&[]);
                let differs = found.iter().zip(&expect).position(|(a, b)| a != b);
                match differs {
                    Some(at) => Reply::Miscompare {
                        at: ByteCount(at as u64),
                    },
                    None => fill(blocks, at, Some(&data)),
                }
            }
            Command::Flush | Command::PutAttribute { .. } => done,
        }
    }
}

impl Backend for Ram {
    fn submit(&self, tag: Tag, command: Command<bytes::Bytes>, replies: &mut ReplySink<'_>) {
        replies.push(tag, self.run(command));
    }

    fn abort(&self, _: Tag, _: &mut ReplySink<'_>) {
        // Everything is answered before it can be taken back.
    }
}

struct Options {
    listen: String,
    mib: u64,
    block_bytes: u32,
    read_only: bool,
    removable: bool,
    user: Option<(String, String)>,
    mutual: Option<(String, String)>,
    r2t_only: bool,
    digests: bool,
    threads: usize,
    units: u32,
}

fn options() -> Result<Options, String> {
    let mut args = std::env::args().skip(1);
    let listen = args.next().ok_or("no ADDRESS:PORT")?;
    let mut o = Options {
        listen,
        mib: 256,
        block_bytes: 512,
        read_only: false,
        removable: false,
        user: None,
        mutual: None,
        r2t_only: false,
        digests: false,
        threads: 1,
        units: 1,
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|e| e.to_string());
        let pair = |text: String| {
            let (name, secret) = text.split_once(':').ok_or("NAME:SECRET")?;
            Ok::<_, String>((name.to_owned(), secret.to_owned()))
        };
        match arg.as_str() {
            "--size" => o.mib = number(value()?)?,
            "--block" => o.block_bytes = number(value()?)? as u32,
            "--threads" => o.threads = number(value()?)? as usize,
            "--units" => o.units = number(value()?)? as u32,
            "--user" => o.user = Some(pair(value()?)?),
            "--mutual" => o.mutual = Some(pair(value()?)?),
            "--read-only" => o.read_only = true,
            "--removable" => o.removable = true,
            "--r2t-only" => o.r2t_only = true,
            "--digests" => o.digests = true,
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(o)
}

async fn serve(o: Options) -> Result<(), Box<dyn std::error::Error>> {
    let mut limits = Limits::default();
    limits.offer.initial_r2t = o.r2t_only;
    limits.offer.immediate_data = !o.r2t_only;
    limits.offer.prefer_digests = o.digests;
    let server = Server::new(limits);
    let blocks = (o.mib << 20) / u64::from(o.block_bytes);
    let mut backends: Vec<Arc<dyn Backend>> = Vec::new();
    let mut units = Vec::new();
    for instance in 0..o.units {
        backends.push(Arc::new(Ram {
            block_bytes: u64::from(o.block_bytes),
            blocks: Mutex::new(vec![0; (o.mib << 20) as usize]),
        }));
        units.push(UnitSpec {
            volume: VolumeId(*b"memory of a day\0"),
            block_bytes: o.block_bytes,
            capacity: BlockCount(blocks),
            read_only: o.read_only,
            removable: o.removable,
            instance,
        });
    }
    let spec = TargetSpec {
        name: "iqn.2011-05.io.martlet:ram".to_owned(),
        credentials: o.user.map(|(user, secret)| Credentials {
            user,
            secret: secret.into_bytes(),
            mutual: o.mutual.map(|(name, secret)| (name, secret.into_bytes())),
        }),
        initiators: Vec::new(),
        units,
        gate: Gate::Open,
    };
    server.add(spec, backends)?;
    let listener = TcpListener::bind(&o.listen).await?;
    eprintln!(
        "iscsi://{}/iqn.2011-05.io.martlet:ram/0",
        listener.local_addr()?
    );
    let end = async {
        // Without a handler the signal ends the process, which is just as well.
        let _ = tokio::signal::ctrl_c().await;
    };
    server.run(listener, end).await?;
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let options = options()?;
    let runtime = if options.threads > 1 {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.threads)
            .enable_all()
            .build()?
    } else {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
    };
    runtime.block_on(serve(options))
}
