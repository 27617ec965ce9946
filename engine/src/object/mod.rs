//! What is stored: names, and the bytes behind them.
//!
//! Every driver, real or simulated, makes and reads stored bytes with [`encode_body`], [`decode_meta`] and
//! [`frame::check`]; none knows a format itself.

pub mod data;
pub mod draft;
pub mod frame;
pub mod names;
pub mod token;

use crate::codec::{Malformed, Unreadable};
use crate::effect::{Body, Expect, LeafPlaced, Meta, Receipt};
use crate::ids::{Container, Hash};
use crate::object::names::ObjectName;
use crate::payload::{Parts, Payload};
use crate::sum::Sum;
use crate::table::codec::hash;
use crate::table::types::Root;
use crate::table::{leaf, root, superblock};
use crate::units::ByteCount;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Where an encoded body goes.
pub trait Target<P> {
    /// CRC32C of a grain's content, 4096 bytes.
    fn sum(&mut self, content: &Parts<P>) -> Sum;
    /// Appends bytes.
    fn put(&mut self, bytes: Vec<u8>);
    /// Appends a grain's content.
    fn put_content(&mut self, content: &Parts<P>);
}

/// Encodes what is to be stored; the receipt is what a confirmed PUT of it answers.
pub fn encode_body<P: Payload>(body: &Body<P>, target: &mut impl Target<P>) -> Receipt {
    let mut whole = |bytes: Vec<u8>| {
        let count = ByteCount(bytes.len() as u64);
        target.put(bytes);
        Receipt {
            bytes: count,
            ..Receipt::default()
        }
    };
    match body {
        Body::Superblock(superblock) => whole(superblock::emit(superblock)),
        Body::Token(token) => whole(token::emit(token)),
        Body::Door => whole(token::door()),
        Body::Root(root) | Body::RootAgain(root) => {
            let emitted = root::emit(root);
            Receipt {
                root: Some(emitted.hash),
                leaves: emitted.leaves,
                ..whole(emitted.bytes)
            }
        }
        Body::Leaves(leaves) => {
            let mut bytes = Vec::new();
            let mut placed = Vec::with_capacity(leaves.len());
            for leaf in leaves {
                let body = leaf::emit(leaf);
                placed.push(LeafPlaced {
                    offset: place(bytes.len() as u64),
                    len: place(body.len() as u64),
                    hash: hash(&body),
                });
                bytes.extend_from_slice(&body);
            }
            Receipt {
                leaves: placed,
                ..whole(bytes)
            }
        }
        Body::Data(object) => {
            let (bytes, sums) = data::encode(object, target);
            Receipt {
                bytes,
                sums,
                ..Receipt::default()
            }
        }
    }
}

/// Encodes what is kept locally or compared: a root, leaf, superblock or token. The hash is that of the bytes.
pub fn encode_meta(meta: &Meta) -> (Vec<u8>, Hash) {
    let bytes = match meta {
        Meta::Superblock(superblock) => superblock::emit(superblock),
        Meta::Token(token) => token::emit(token),
        Meta::Root(root) => root::emit(root).bytes,
        Meta::Leaf(leaf) => leaf::emit(leaf),
    };
    let hash = hash(&bytes);
    (bytes, hash)
}

/// Decodes what a read brought. `place` is where it was read from, if from the store: what belongs elsewhere is refused.
///
/// # Errors
///
/// The bytes are not what `expect` says: damaged, of another kind or place, with another hash. `Exists` and `Frames` are no
/// matter of decoding, and always an error here.
pub fn decode_meta(
    expect: &Expect,
    place: Option<(&Container, &ObjectName)>,
    bytes: &[u8],
) -> Result<(Meta, Hash), Unreadable> {
    let found = hash(bytes);
    let meta = match expect {
        Expect::Superblock => Meta::Superblock(Arc::new(superblock::parse(bytes)?)),
        Expect::Token => Meta::Token(token::parse(bytes)?),
        Expect::Root(hash) => {
            let root = root::parse(bytes)?;
            if hash.is_some_and(|hash| hash != found) {
                return Err(Malformed::Checksum.into());
            }
            Meta::Root(Arc::new(root))
        }
        Expect::Leaf(hash) => {
            if *hash != found {
                return Err(Malformed::Checksum.into());
            }
            Meta::Leaf(Arc::new(leaf::parse(bytes)?))
        }
        Expect::Exists | Expect::Frames(_) => return Err(Malformed::Magic.into()),
    };
    match place {
        Some((container, name)) if !belongs(&meta, container, name) => {
            Err(Malformed::Misplaced.into())
        }
        _ => Ok((meta, found)),
    }
}

/// Whether it may have been found under this name. A leaf is proven by its hash.
fn belongs(meta: &Meta, container: &Container, name: &ObjectName) -> bool {
    match (meta, name) {
        (Meta::Superblock(superblock), ObjectName::Volume) => superblock.container == *container,
        (Meta::Token(token), ObjectName::Claim(g) | ObjectName::Opened(g)) => {
            token.attach.generation == *g
        }
        (Meta::Root(root), ObjectName::Root(name)) => is_named(root, container, name),
        (Meta::Leaf(_), ObjectName::Root(_) | ObjectName::Leaves(_)) => true,
        _ => false,
    }
}

fn is_named(root: &Root, container: &Container, name: &names::RootName) -> bool {
    root.container == *container && root.name == *name
}

/// A place in an object. Objects are far shorter than 4 GiB: `Limits` bounds their payload.
fn place(at: u64) -> u32 {
    u32::try_from(at).expect("an object is shorter than 4 GiB")
}

#[cfg(test)]
mod tests;
