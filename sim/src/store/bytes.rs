//! Places and hashes of what is not data: by the engine's own codec, there and back.

use engine::effect::{LeafPlaced, Meta};
use engine::ids::Hash;
use engine::object::encode_meta;
use engine::table::root;
use engine::table::types::{Leaf, Root};
use std::sync::Arc;

/// A root as a reader decodes it, and what its bytes are known by.
pub struct Encoded {
    /// With the places of its riding leaves.
    pub root: Root,
    /// The hash of its bytes.
    pub hash: Hash,
    /// How many they are.
    pub bytes: u64,
    /// Its riding leaves, in index order.
    pub leaves: Vec<LeafPlaced>,
}

/// Encodes a root, and decodes it again.
pub fn encode_root(root: &Root) -> Encoded {
    let emitted = root::emit(root);
    let root = root::parse(&emitted.bytes).expect("a root that was just made can be read");
    Encoded {
        root,
        hash: emitted.hash,
        bytes: emitted.bytes.len() as u64,
        leaves: emitted.leaves,
    }
}

/// Places leaves one after another.
pub fn place_leaves(leaves: &[Arc<Leaf>]) -> Vec<LeafPlaced> {
    let mut offset = 0;
    leaves
        .iter()
        .map(|leaf| {
            let (bytes, hash) = encode_meta(&Meta::Leaf(leaf.clone()));
            let len = bytes.len() as u32;
            let placed = LeafPlaced { offset, len, hash };
            offset += len;
            placed
        })
        .collect()
}
