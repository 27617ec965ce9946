//! What differs between two versions, and what a leaf names.

use crate::table::types::{Entry, Leaf, LeafRef, ObjectRef, Root};
use crate::units::{ChunkIndex, LeafIndex};
use alloc::collections::{BTreeMap, BTreeSet};

/// A leaf that differs: its index, and where it lies on either side (`None`: all holes there).
pub type LeafDiff<'a> = (LeafIndex, Option<&'a LeafRef>, Option<&'a LeafRef>);

/// The leaves that differ between two roots, ascending. Equal references mean equal content, so the cost is the number of
/// references, and nothing is read that does not differ.
pub fn leaves<'a>(old: &'a Root, new: &'a Root) -> impl Iterator<Item = LeafDiff<'a>> {
    by_key(&old.leaves, &new.leaves)
}

/// The chunks that differ between two leaves of one index, ascending.
pub fn chunks<'a>(
    old: &'a Leaf,
    new: &'a Leaf,
) -> impl Iterator<Item = (ChunkIndex, Option<&'a Entry>, Option<&'a Entry>)> {
    by_key(&old.entries, &new.entries)
}

/// The data objects that an entry names.
pub fn entry_objects(entry: &Entry) -> impl Iterator<Item = &ObjectRef> {
    entry
        .layers
        .iter()
        .filter_map(|layer| Some(&layer.kind.section()?.object))
}

/// The data objects that a leaf names, each once.
pub fn objects(leaf: &Leaf) -> BTreeSet<&ObjectRef> {
    leaf.entries.values().flat_map(entry_objects).collect()
}

/// Walks two maps in key order and gives what is not equal.
fn by_key<'a, K: Ord + Copy, V: PartialEq>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (K, Option<&'a V>, Option<&'a V>)> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    core::iter::from_fn(move || {
        loop {
            let key = match (old.peek(), new.peek()) {
                (Some((a, _)), Some((b, _))) => **a.min(b),
                (Some((key, _)), None) | (None, Some((key, _))) => **key,
                (None, None) => return None,
            };
            let from = old.next_if(|(k, _)| **k == key).map(|(_, v)| v);
            let to = new.next_if(|(k, _)| **k == key).map(|(_, v)| v);
            if from != to {
                return Some((key, from, to));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[track_caller]
    fn check(
        old: &[(u32, char)],
        new: &[(u32, char)],
        expected: &[(u32, Option<char>, Option<char>)],
    ) {
        let (old, new) = (old.iter().copied().collect(), new.iter().copied().collect());
        let found: Vec<_> = by_key(&old, &new)
            .map(|(k, a, b)| (k, a.copied(), b.copied()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn equal_maps_do_not_differ() {
        check(&[(1, 'a'), (2, 'b')], &[(1, 'a'), (2, 'b')], &[]);
    }

    #[test]
    fn what_is_on_one_side_only_differs() {
        check(
            &[(1, 'a'), (4, 'd')],
            &[(2, 'b'), (4, 'd'), (5, 'e')],
            &[
                (1, Some('a'), None),
                (2, None, Some('b')),
                (5, None, Some('e')),
            ],
        );
    }

    #[test]
    fn what_changed_differs() {
        check(
            &[(1, 'a'), (2, 'b')],
            &[(1, 'a'), (2, 'c')],
            &[(2, Some('b'), Some('c'))],
        );
    }
}
