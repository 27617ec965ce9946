//! Stamps as the bytes that iSCSI carries, and back: between a session that moves bytes and an engine that moves stamps.

use crate::oracle::{Checked, Violation};
use crate::payload::{Blocks, Stamp, Summing};
use bytes::Bytes;
use engine::layers::split;
use engine::payload::{Part, Parts, Payload};
use engine::sum::{Sum, Sums};
use engine::units::{Extent, Geometry};
use engine::{Command, Reply};

/// The bytes of blocks.
pub(crate) fn expand(unit: u32, stamps: impl Iterator<Item = Stamp>) -> Vec<u8> {
    let mut out = Vec::new();
    for stamp in stamps {
        let from = out.len();
        out.resize(from + unit as usize, 0);
        stamp.expand(&mut out[from..]);
    }
    out
}

/// The blocks of bytes: garbage for each that is not exactly what a stamp expands to.
pub(crate) fn recognise(unit: u32, bytes: &[u8]) -> Vec<Stamp> {
    bytes.chunks_exact(unit as usize).map(Stamp::read).collect()
}

fn blocks(unit: u32, bytes: &[u8]) -> Blocks {
    Blocks::from_stamps(unit, &recognise(unit, bytes))
}

/// A session's command for the engine. The sums that the session made must be those of its bytes; with symbolic sums
/// they are made anew.
pub(crate) fn command(
    geometry: &Geometry,
    summing: Summing,
    command: Command<Bytes>,
) -> Result<Command<Blocks>, Violation> {
    let unit = geometry.block_bytes;
    Ok(match command {
        Command::Read(extent) => Command::Read(extent),
        Command::Flush => Command::Flush,
        Command::Discard(extents) => Command::Discard(extents),
        Command::WriteZeroes { at, fua } => Command::WriteZeroes { at, fua },
        Command::PutAttribute { key, value } => Command::PutAttribute { key, value },
        Command::Write {
            at,
            data,
            sums,
            fua,
        } => {
            check(geometry, at, &data, &sums)?;
            let data = blocks(unit, &data);
            let sums = again(geometry, summing, at, &data, sums);
            Command::Write {
                at,
                data,
                sums,
                fua,
            }
        }
        Command::CompareAndWrite {
            at,
            expect,
            data,
            sums,
            fua,
        } => {
            check(geometry, at, &data, &sums)?;
            let (expect, data) = (blocks(unit, &expect), blocks(unit, &data));
            let sums = again(geometry, summing, at, &data, sums);
            Command::CompareAndWrite {
                at,
                expect,
                data,
                sums,
                fua,
            }
        }
    })
}

/// P9: one CRC32C per piece, made at ingress from just these bytes.
fn check(geometry: &Geometry, at: Extent, data: &[u8], sums: &Sums) -> Checked {
    let unit = geometry.block_bytes as usize;
    let whole = at.count.0 as usize * unit;
    if data.len() != whole {
        let text = format!("a write of {at} comes with {} bytes", data.len());
        return Err(Violation::new("B7", text));
    }
    let mut rest = data;
    let mut made = Sums::new();
    for piece in split::pieces(geometry, at) {
        let (front, tail) = rest.split_at(piece.count.0 as usize * unit);
        made.push(Sum(crc32c::crc32c(front)));
        rest = tail;
    }
    if made != *sums {
        let text = format!("a write of {at} comes with sums {sums:?}; its bytes have {made:?}");
        return Err(Violation::new("B7", text));
    }
    Ok(())
}

fn again(geometry: &Geometry, summing: Summing, at: Extent, data: &Blocks, sums: Sums) -> Sums {
    if summing == Summing::Real {
        return sums;
    }
    symbolic(geometry, summing, at, data)
}

/// The sums of a write, as the simulator makes them.
pub(crate) fn symbolic(geometry: &Geometry, summing: Summing, at: Extent, data: &Blocks) -> Sums {
    let unit = u64::from(geometry.block_bytes);
    let mut from = 0;
    split::pieces(geometry, at)
        .map(|piece| {
            let len = piece.count.0 * unit;
            let stamps: Vec<Stamp> = data.slice(from..from + len).stamps().collect();
            from += len;
            summing.piece(geometry.block_bytes, &stamps)
        })
        .collect()
}

/// An engine's reply for a session.
pub(crate) fn reply(reply: Reply<Blocks>) -> Reply<Bytes> {
    match reply {
        Reply::Read(parts) => {
            let mut out = Parts::default();
            for part in parts.0 {
                out.push(match part {
                    Part::Zeros(n) => Part::Zeros(n),
                    Part::Data(blocks) => Part::Data(expand(blocks.unit(), blocks.stamps()).into()),
                });
            }
            Reply::Read(out)
        }
        Reply::Done { durable } => Reply::Done { durable },
        Reply::Miscompare { at } => Reply::Miscompare { at },
        Reply::Busy => Reply::Busy,
        Reply::Failed(failure) => Reply::Failed(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::units::BlockCount;

    fn stamp(lba: u32) -> Stamp {
        Stamp {
            volume: 1,
            lba,
            write: 9,
        }
    }

    fn written(data: Vec<u8>, sums: Sums) -> Result<Command<Blocks>, Violation> {
        let at = Extent::new(7, 2);
        let geometry = Geometry::standard(512, BlockCount(64));
        let fua = false;
        let write = Command::Write {
            at,
            data: data.into(),
            sums,
            fua,
        };
        command(&geometry, Summing::Symbolic, write)
    }

    #[test]
    fn a_write_arrives_as_the_stamps_that_were_sent() {
        let data = expand(512, [stamp(7), stamp(8)].into_iter());
        // Two grains, two pieces.
        let sums = [&data[..512], &data[512..]].map(|p| Sum(crc32c::crc32c(p)));
        let Ok(Command::Write { data: blocks, .. }) = written(data.clone(), sums.into()) else {
            panic!("a good write");
        };
        assert_eq!(blocks.stamps().collect::<Vec<_>>(), [stamp(7), stamp(8)]);
        let wrong = written(data, [sums[1], sums[0]].into());
        assert_eq!(wrong.expect_err("sums of other bytes").property, "B7");
    }

    #[test]
    fn a_block_that_is_mixed_of_two_is_garbage() {
        let mut data = expand(512, [stamp(7), stamp(8)].into_iter());
        let (front, back) = data.split_at_mut(512);
        front[100..200].copy_from_slice(&back[100..200]);
        let found = recognise(512, &data);
        assert_eq!((found[0].volume, found[1]), (Stamp::GARBAGE, stamp(8)));
        assert_eq!(recognise(512, &[0; 512]), [Stamp::ZERO]);
    }
}
