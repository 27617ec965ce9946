//! What the real codec does with bytes, done with typed content.

use super::{Content, Data, Frame, Object, bytes, bytes::Encoded, leaf_at};
use crate::payload::{Blocks, Stamp, Summing, push_stamps};
use engine::effect::{
    Body, Expect, FrameExpect, FrameGot, GetRequest, Meta, Outcome, Receipt, StoreError,
};
use engine::ids::Hash;
use engine::object::draft::DataObject;
use engine::units::{ByteCount, GrainIndex};
use std::sync::Arc;

const HEADER: u64 = 128;

/// Makes objects of bodies, and reads them again.
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    /// Bytes of a block.
    pub unit: u32,
    /// How sums are made.
    pub summing: Summing,
}

impl Codec {
    /// The object that a body becomes, and what a confirmed PUT of it answers.
    pub fn make(&self, body: &Body<Blocks>) -> (Object, Receipt) {
        match body {
            Body::Superblock(superblock) => small(Content::Superblock(superblock.clone()), 200),
            Body::Token(token) => small(Content::Token(token.clone()), 150),
            Body::Door => small(Content::Door, 8),
            Body::Root(root) | Body::RootAgain(root) => {
                let Encoded {
                    root,
                    hash,
                    bytes,
                    leaves,
                } = bytes::encode_root(root);
                let object = Object {
                    content: Content::Root(Arc::new(root), hash),
                    bytes,
                };
                let receipt = Receipt {
                    bytes: ByteCount(bytes),
                    root: Some(hash),
                    leaves,
                    sums: Vec::new(),
                };
                (object, receipt)
            }
            Body::Leaves(leaves) => {
                let placed = bytes::place_leaves(leaves);
                let bytes = placed.iter().map(|p| u64::from(p.len)).sum();
                let content =
                    Content::Leaves(placed.iter().copied().zip(leaves.iter().cloned()).collect());
                let receipt = Receipt {
                    bytes: ByteCount(bytes),
                    root: None,
                    leaves: placed,
                    sums: Vec::new(),
                };
                (Object { content, bytes }, receipt)
            }
            Body::Data(draft) => self.make_data(draft),
        }
    }

    fn make_data(&self, draft: &DataObject<Blocks>) -> (Object, Receipt) {
        let mut frames = Vec::new();
        let mut all_sums = Vec::new();
        let mut offset = 0;
        let per_grain = (4096 / self.unit) as usize;
        for section in &draft.sections {
            let mut section_sums = Vec::new();
            for (number, grains) in section
                .grains
                .chunks(draft.frame_grains as usize)
                .enumerate()
            {
                let mut held = Vec::with_capacity(grains.len());
                let mut sums = Vec::with_capacity(grains.len());
                for grain in grains {
                    let mut stamps = Vec::with_capacity(per_grain);
                    push_stamps(&grain.content, self.unit, &mut stamps);
                    assert_eq!(
                        stamps.len(),
                        per_grain,
                        "a grain of {} blocks",
                        stamps.len()
                    );
                    sums.push(
                        self.summing
                            .piece(self.unit, &stamps)
                            .bind(draft.volume, grain.index),
                    );
                    held.push((grain.index, stamps));
                }
                section_sums.extend(&sums);
                let bytes = HEADER + 4096 * held.len() as u64;
                frames.push(Frame {
                    offset,
                    bytes,
                    chunk: section.chunk,
                    number: number as u32,
                    grains: held,
                    sums,
                });
                offset += bytes;
            }
            all_sums.push(section_sums);
        }
        let object = Object {
            content: Content::Data(Arc::new(Data {
                attach: draft.attach,
                frames,
            })),
            bytes: offset,
        };
        let receipt = Receipt {
            bytes: ByteCount(offset),
            root: None,
            leaves: Vec::new(),
            sums: all_sums,
        };
        (object, receipt)
    }

    /// What a reader makes of an object.
    pub fn read(&self, get: &GetRequest, object: &Object) -> Outcome<Blocks> {
        let damaged = Outcome::Store(StoreError::Damaged);
        match (&get.expect, &object.content) {
            (Expect::Exists, _) => Outcome::Exists,
            (Expect::Superblock, Content::Superblock(s)) => {
                Outcome::Meta(Meta::Superblock(s.clone()), Hash::default())
            }
            (Expect::Token, Content::Token(t)) => {
                Outcome::Meta(Meta::Token(t.clone()), Hash::default())
            }
            (Expect::Root(want), Content::Root(root, hash)) => match want {
                Some(want) if want != hash => damaged,
                _ => Outcome::Meta(Meta::Root(root.clone()), *hash),
            },
            (Expect::Leaf(want), content) => {
                let at = get.range.as_ref().map_or(0, |r| r.start);
                match leaf_at(content, at) {
                    Some((placed, leaf)) if placed.hash == *want => {
                        Outcome::Meta(Meta::Leaf(leaf), placed.hash)
                    }
                    _ => damaged,
                }
            }
            (Expect::Frames(expected), Content::Data(data)) => {
                match self.frames(get, expected, data) {
                    Some(frames) => Outcome::Frames(frames),
                    None => damaged,
                }
            }
            _ => damaged,
        }
    }

    fn frames(
        &self,
        get: &GetRequest,
        expected: &[FrameExpect],
        data: &Data,
    ) -> Option<Vec<FrameGot<Blocks>>> {
        let range = get.range.clone()?;
        let volume = get.container.id;
        let first = data.frames.iter().position(|f| f.offset == range.start)?;
        let mut got = Vec::new();
        let mut end = range.start;
        for (frame, expect) in data.frames[first..].iter().zip(expected) {
            let grains: Vec<GrainIndex> = frame.grains.iter().map(|(g, _)| *g).collect();
            if frame.chunk != expect.chunk
                || frame.number != expect.frame
                || grains[..] != expect.grains[..]
            {
                return None;
            }
            for ((grain, stamps), sum) in frame.grains.iter().zip(&frame.sums) {
                if self.summing.piece(self.unit, stamps) != sum.unbind(volume, *grain) {
                    return None;
                }
            }
            let stamps: Vec<Stamp> = frame
                .grains
                .iter()
                .flat_map(|(_, stamps)| stamps.iter().copied())
                .collect();
            got.push(FrameGot {
                data: Blocks::from_stamps(self.unit, &stamps),
                sums: frame.sums.iter().copied().collect(),
            });
            end = frame.offset + frame.bytes;
        }
        (got.len() == expected.len() && end == range.end).then_some(got)
    }
}

fn small(content: Content, bytes: u64) -> (Object, Receipt) {
    (
        Object { content, bytes },
        Receipt {
            bytes: ByteCount(bytes),
            ..Receipt::default()
        },
    )
}
