//! What the real codec does with bytes, done with typed content: headers, sums, roots and leaves by the engine's code.

use super::{Content, Data, Frame, Object, bytes, bytes::Encoded, leaf_at};
use crate::payload::{Blocks, Stamp, Summing, push_stamps};
use engine::effect::{
    Body, Expect, FrameExpect, FrameGot, GetRequest, Meta, Outcome, Receipt, StoreError,
};
use engine::ids::{Container, Hash};
use engine::object::data::layout;
use engine::object::draft::DataObject;
use engine::object::frame::{self, FrameHeader, frame_bytes};
use engine::object::names::ObjectName;
use engine::table::types::Root;
use engine::units::{ByteCount, GrainIndex};
use std::sync::Arc;

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
                let content = Content::Root(Arc::new(root), hash);
                let receipt = Receipt {
                    bytes: ByteCount(bytes),
                    root: Some(hash),
                    leaves,
                    sums: Vec::new(),
                };
                (Object { content, bytes }, receipt)
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
        let layout = layout(draft);
        let per_grain = (4096 / self.unit) as usize;
        for (section, start) in draft.sections.iter().zip(&layout.sections) {
            let mut offset = u64::from(*start);
            let mut section_sums = Vec::new();
            for (number, grains) in section
                .grains
                .chunks(draft.frame_grains as usize)
                .enumerate()
            {
                let mut held = Vec::with_capacity(grains.len());
                let mut header = FrameHeader {
                    attach: draft.attach,
                    chunk: section.chunk,
                    serial: draft.serial,
                    frame: number as u16,
                    sums: Default::default(),
                };
                for grain in grains {
                    let mut stamps = Vec::with_capacity(per_grain);
                    push_stamps(&grain.content, self.unit, &mut stamps);
                    assert_eq!(
                        stamps.len(),
                        per_grain,
                        "a grain of {} blocks",
                        stamps.len()
                    );
                    let sum = self.summing.piece(self.unit, &stamps);
                    header.sums.push(sum.bind(draft.volume, grain.index));
                    held.push((grain.index, stamps));
                }
                section_sums.extend(&header.sums);
                let bytes = frame_bytes(held.len()) as u64;
                let number = number as u32;
                let header = frame::emit(&header);
                frames.push(Frame {
                    offset,
                    bytes,
                    chunk: section.chunk,
                    number,
                    header,
                    grains: held,
                });
                offset += bytes;
            }
            all_sums.push(section_sums);
        }
        let bytes = layout.bytes.0;
        let content = Content::Data(Arc::new(Data {
            attach: draft.attach,
            frames,
        }));
        let receipt = Receipt {
            bytes: layout.bytes,
            root: None,
            leaves: Vec::new(),
            sums: all_sums,
        };
        (Object { content, bytes }, receipt)
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
            (Expect::Root(want), Content::Root(root, hash)) => {
                if want.is_some_and(|w| w != *hash) || !is_named(root, &get.container, &get.name) {
                    return damaged;
                }
                Outcome::Meta(Meta::Root(root.clone()), *hash)
            }
            (Expect::Leaf(want), content) => {
                let range = get.range.clone().unwrap_or(0..object.bytes);
                match leaf_at(content, range.start) {
                    Some((placed, leaf))
                        if placed.hash == *want
                            && u64::from(placed.len) == range.end - range.start =>
                    {
                        Outcome::Meta(Meta::Leaf(leaf), placed.hash)
                    }
                    _ => damaged,
                }
            }
            (Expect::Frames(expected), Content::Data(data)) => self
                .frames(get, expected, data)
                .map_or(damaged, Outcome::Frames),
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
        let ObjectName::Data(name) = get.name else {
            return None;
        };
        let volume = get.container.id;
        let first = data.frames.iter().position(|f| f.offset == range.start)?;
        let mut got = Vec::new();
        let mut end = range.start;
        for (frame, expect) in data.frames[first..].iter().zip(expected) {
            let held: Vec<GrainIndex> = frame.grains.iter().map(|(g, _)| *g).collect();
            if held[..] != expect.grains[..] || frame.offset != end {
                return None;
            }
            let sum_of = |n: usize| self.summing.piece(self.unit, &frame.grains[n].1);
            let sums = frame::verify(&frame.header, expect, volume, &name, sum_of).ok()?;
            let stamps: Vec<Stamp> = frame
                .grains
                .iter()
                .flat_map(|(_, stamps)| stamps.iter().copied())
                .collect();
            got.push(FrameGot {
                data: Blocks::from_stamps(self.unit, &stamps),
                sums,
            });
            end = frame.offset + frame.bytes;
        }
        (got.len() == expected.len() && end == range.end).then_some(got)
    }
}

fn is_named(root: &Root, container: &Container, name: &ObjectName) -> bool {
    root.container == *container && *name == ObjectName::Root(root.name)
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
