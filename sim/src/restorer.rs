//! An independent reader: what a stranger with the format in hand makes of a root.
//!
//! It shares no logic with the engine. It walks the layers of each chunk from the oldest to the newest and lays each over
//! what is there, where the engine resolves from the newest down; and it looks at the store's ground truth, so that it
//! sees what is really there at this instant.

use crate::payload::Stamp;
use crate::store::{Content, Store, leaf_at};
use engine::ids::Container;
use engine::object::names::ObjectName;
use engine::table::types::{LayerKind, Leaf, LeafHome, Root, SectionRef};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A block as restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Block {
    /// This content.
    Is(Stamp),
    /// The table says that it is gone.
    Lost,
}

/// Restores every block of a root, or says what is missing or wrong.
pub fn restore(store: &Store, container: &Container, root: &Root) -> Result<Vec<Block>, String> {
    let geometry = root.geometry;
    let mut blocks = vec![Block::Is(Stamp::ZERO); geometry.capacity.0 as usize];
    for (index, reference) in &root.leaves {
        let leaf = find_leaf(store, container, root, index.0, reference)?;
        if leaf.index != *index {
            return Err(format!(
                "leaf {index} of {} says it is leaf {}",
                root.name, leaf.index
            ));
        }
        for (chunk, entry) in &leaf.entries {
            if chunk.0 / u64::from(geometry.leaf_chunks) != index.0 {
                return Err(format!("leaf {index} has an entry for chunk {chunk}"));
            }
            for layer in entry.layers.iter().rev() {
                let grains: Vec<u16> = runs(&layer.grains.runs)?;
                let sections = match &layer.kind {
                    LayerKind::Data(section) | LayerKind::Part { section, .. } => {
                        Some(read_section(store, section, chunk.0, grains.len())?)
                    }
                    LayerKind::Hole | LayerKind::Lost { .. } => None,
                };
                for (rank, grain) in grains.iter().enumerate() {
                    let grain_index =
                        chunk.0 * u64::from(geometry.chunk_grains) + u64::from(*grain);
                    let first = grain_index * geometry.grain_blocks();
                    for i in 0..geometry.grain_blocks() {
                        let Some(block) = blocks.get_mut((first + i) as usize) else {
                            continue;
                        };
                        let is_in = |masks: &[u8]| masks.get(rank).is_some_and(|m| m >> i & 1 == 1);
                        match &layer.kind {
                            LayerKind::Data(_) => {}
                            LayerKind::Part { masks, .. } if is_in(masks) => {}
                            LayerKind::Part { .. } => continue,
                            LayerKind::Hole => {
                                *block = Block::Is(Stamp::ZERO);
                                continue;
                            }
                            LayerKind::Lost { masks } => {
                                if is_in(masks) {
                                    *block = Block::Lost;
                                }
                                continue;
                            }
                        }
                        let Some((held, stamps)) = sections.as_ref().and_then(|s| s.get(rank))
                        else {
                            return Err(format!("chunk {chunk}: no grain of rank {rank}"));
                        };
                        if *held != grain_index {
                            let text = format!(
                                "chunk {chunk}: rank {rank} is grain {held}, not {grain_index}"
                            );
                            return Err(text);
                        }
                        *block = Block::Is(stamps[i as usize]);
                    }
                }
            }
        }
    }
    Ok(blocks)
}

type Section = Vec<(u64, Vec<Stamp>)>;

fn read_section(
    store: &Store,
    section: &SectionRef,
    chunk: u64,
    count: usize,
) -> Result<Section, String> {
    let object = &section.object;
    let name = ObjectName::Data(object.name);
    let Some(found) = store.get(&object.container, &name) else {
        return Err(format!("{name} of {} is not there", object.container));
    };
    let Content::Data(data) = &found.content else {
        return Err(format!("{name} of {} is not data", object.container));
    };
    let mut out = Vec::new();
    let mut at = u64::from(section.offset);
    let first = at;
    for frame in data.frames.iter().skip_while(|f| f.offset != first) {
        if out.len() == count {
            break;
        }
        if frame.offset != at || frame.chunk.0 != chunk {
            break;
        }
        out.extend(frame.grains.iter().map(|(g, stamps)| (g.0, stamps.clone())));
        at += frame.bytes;
    }
    if out.len() != count {
        let text = format!(
            "{name}: chunk {chunk} has {} grains at {}, not {count}",
            out.len(),
            section.offset
        );
        return Err(text);
    }
    Ok(out)
}

fn find_leaf(
    store: &Store,
    container: &Container,
    root: &Root,
    index: u64,
    reference: &engine::table::types::LeafRef,
) -> Result<Arc<Leaf>, String> {
    let home = reference.container.as_ref().unwrap_or(container);
    if reference.container.is_none() && reference.home == LeafHome::Root(root.name) {
        return match root.riding.iter().find(|(i, _)| i.0 == index) {
            Some((_, leaf)) => Ok(leaf.clone()),
            None => Err(format!("leaf {index} does not ride in {}", root.name)),
        };
    }
    let name = match reference.home {
        LeafHome::Root(name) => ObjectName::Root(name),
        LeafHome::Leaves(name) => ObjectName::Leaves(name),
    };
    let Some(object) = store.get(home, &name) else {
        return Err(format!(
            "{name} of {home}, which holds leaf {index}, is not there"
        ));
    };
    match leaf_at(&object.content, u64::from(reference.offset)) {
        Some((placed, leaf)) if placed.hash == reference.hash && placed.len == reference.len => {
            Ok(leaf)
        }
        Some(_) => Err(format!("leaf {index} in {name} has another hash or length")),
        None => Err(format!("no leaf at byte {} of {name}", reference.offset)),
    }
}

fn runs(runs: &[(u16, u16)]) -> Result<Vec<u16>, String> {
    let mut out: Vec<u16> = Vec::new();
    for (first, count) in runs {
        if *count == 0 || out.last().is_some_and(|last| first <= last) {
            return Err(format!("grain runs {runs:?} are not ascending"));
        }
        out.extend(*first..*first + *count);
    }
    Ok(out)
}

/// The objects of a root that must be there for it to be read, by container: leaves' homes and data.
pub fn reach(
    store: &Store,
    container: &Container,
    root: &Root,
    out: &mut BTreeMap<(Container, ObjectName), ()>,
) -> Result<(), String> {
    let mut indexes = root.leaves.keys();
    indexes.try_for_each(|index| reach_leaf(store, container, root, index.0, out))
}

/// What a root reaches through the leaves that are still there: a root outside the history may have lost some.
pub fn reach_what_is_left(
    store: &Store,
    container: &Container,
    root: &Root,
    out: &mut BTreeMap<(Container, ObjectName), ()>,
) {
    for index in root.leaves.keys() {
        let _is_gone = reach_leaf(store, container, root, index.0, out).is_err();
    }
}

fn reach_leaf(
    store: &Store,
    container: &Container,
    root: &Root,
    index: u64,
    out: &mut BTreeMap<(Container, ObjectName), ()>,
) -> Result<(), String> {
    let Some((_, reference)) = root.leaves.iter().find(|(i, _)| i.0 == index) else {
        return Ok(());
    };
    let home = reference.container.as_ref().unwrap_or(container);
    let name = match reference.home {
        LeafHome::Root(name) => ObjectName::Root(name),
        LeafHome::Leaves(name) => ObjectName::Leaves(name),
    };
    out.insert((home.clone(), name), ());
    let leaf = find_leaf(store, container, root, index, reference)?;
    for layer in leaf.entries.values().flat_map(|entry| &entry.layers) {
        if let LayerKind::Data(section) | LayerKind::Part { section, .. } = &layer.kind {
            let object = &section.object;
            out.insert(
                (object.container.clone(), ObjectName::Data(object.name)),
                (),
            );
        }
    }
    Ok(())
}
