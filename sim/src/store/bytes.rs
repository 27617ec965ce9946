//! Places and hashes of what is not data, until the codec that makes the bytes is asked instead.

use crate::choice::mix;
use engine::effect::LeafPlaced;
use engine::ids::Hash;
use engine::table::types::{Leaf, LeafHome, LeafRef, Root};
use std::sync::Arc;

/// A root as a reader will decode it, and what its bytes are known by.
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

/// Encodes a root.
pub fn encode_root(root: &Root) -> Encoded {
    let mut root = root.clone();
    let riding: Vec<Arc<Leaf>> = root.riding.values().cloned().collect();
    let mut leaves = place_leaves(&riding);
    let home = LeafHome::Root(root.name);
    for (leaf, placed) in riding.iter().zip(&mut leaves) {
        placed.offset += 512;
        let LeafPlaced { offset, len, hash } = *placed;
        root.leaves.insert(
            leaf.index,
            LeafRef {
                container: None,
                home,
                offset,
                len,
                hash,
            },
        );
    }
    let hash = hash_of(&root);
    let bytes = 512 + leaves.iter().map(|p| u64::from(p.len)).sum::<u64>();
    Encoded {
        root,
        hash,
        bytes,
        leaves,
    }
}

/// Places leaves one after another.
pub fn place_leaves(leaves: &[Arc<Leaf>]) -> Vec<LeafPlaced> {
    let mut offset = 0;
    leaves
        .iter()
        .map(|leaf| {
            let len = 16 + 40 * leaf.entries.len() as u32;
            let placed = LeafPlaced {
                offset,
                len,
                hash: hash_of(leaf),
            };
            offset += len;
            placed
        })
        .collect()
}

fn hash_of(value: &impl std::fmt::Debug) -> Hash {
    let text = format!("{value:?}");
    let fold = |start: u64| text.bytes().fold(start, |h, b| mix(h, u64::from(b)));
    let (a, b) = (fold(1), fold(2));
    let mut hash = [0; 16];
    hash[..8].copy_from_slice(&a.to_le_bytes());
    hash[8..].copy_from_slice(&b.to_le_bytes());
    Hash(hash)
}
