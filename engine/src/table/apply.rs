//! One version's layers on top of an entry, and when to merge.

use crate::ids::Version;
use crate::table::grains::GrainBits;
use crate::table::types::{Entry, GrainSet, Layer, LayerKind, SectionRef};
use alloc::vec::Vec;

/// Most layers of a chunk that a publish leaves as they are.
pub const LAYERS_MAX: usize = 6;

/// What one version says of one chunk. The four sets of grains are disjoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChunkDelta {
    /// The version.
    pub version: Version,
    /// Grains that are stored whole.
    pub data: Option<(SectionRef, GrainSet)>,
    /// Grains of which some blocks are stored; one mask per grain, ascending, never 0.
    pub part: Option<(SectionRef, GrainSet, Vec<u8>)>,
    /// Grains that read as zeros.
    pub hole: GrainSet,
    /// Grains of which some blocks are gone; one mask per grain, ascending, never 0.
    pub lost: Option<(GrainSet, Vec<u8>)>,
}

impl ChunkDelta {
    /// A delta that says nothing yet.
    pub fn new(version: Version) -> Self {
        Self {
            version,
            data: None,
            part: None,
            hole: GrainSet::default(),
            lost: None,
        }
    }

    fn into_layers(self) -> impl Iterator<Item = Layer> {
        let version = self.version;
        let data = self
            .data
            .map(|(section, grains)| (LayerKind::Data(section), grains));
        let part = self
            .part
            .map(|(section, grains, masks)| (LayerKind::Part { section, masks }, grains));
        let lost = self
            .lost
            .map(|(grains, masks)| (LayerKind::Lost { masks }, grains));
        let hole = Some((LayerKind::Hole, self.hole));
        [data, part, hole, lost]
            .into_iter()
            .flatten()
            .filter(|(_, grains)| !grains.is_empty())
            .map(move |(kind, grains)| Layer {
                version,
                kind,
                grains,
            })
    }
}

/// Puts one version's layers on top of what a chunk has. `None`: the chunk is all holes and needs no entry.
///
/// Layers whose every grain newer layers of kind data or hole have are dropped, and so are holes over nothing.
pub fn apply(entry: Option<&Entry>, delta: ChunkDelta) -> Option<Entry> {
    let below = entry.iter().flat_map(|entry| entry.layers.iter().cloned());
    let mut layers: Vec<Layer> = delta.into_layers().chain(below).collect();
    drop_covered(&mut layers);
    drop_holes_over_nothing(&mut layers);
    (!layers.is_empty()).then_some(Entry { layers })
}

fn drop_covered(layers: &mut Vec<Layer>) {
    let mut covered = GrainBits::default();
    layers.retain(|layer| {
        let live = !GrainBits::from(&layer.grains).is_subset(&covered);
        if layer.kind.covers() {
            covered.insert_all(&layer.grains);
        }
        live
    });
}

fn drop_holes_over_nothing(layers: &mut Vec<Layer>) {
    let mut below = GrainBits::default();
    layers.reverse();
    layers.retain(|layer| {
        let grains = GrainBits::from(&layer.grains);
        let says_nothing = layer.kind == LayerKind::Hole && grains.intersect(&below).is_empty();
        if !says_nothing {
            below = below.union(&grains);
        }
        !says_nothing
    });
    layers.reverse();
}

/// For each layer, newest first, its grains that no newer layer of kind data or hole has.
pub fn live_grains(entry: &Entry) -> impl Iterator<Item = GrainBits> + '_ {
    let mut covered = GrainBits::default();
    entry.layers.iter().map(move |layer| {
        let live = GrainBits::from(&layer.grains).subtract(&covered);
        if layer.kind.covers() {
            covered.insert_all(&layer.grains);
        }
        live
    })
}

/// How many of the newest layers to write anew as one version; `None`: none.
///
/// More than [`LAYERS_MAX`] layers: the newest ones until the next older holds at least twice their live grains, and as many
/// as it takes to get back to [`LAYERS_MAX`]. Holes cost no upload and count nothing. A layer of kind lost cannot be written
/// anew, so nothing from it on takes part.
pub fn merge_count(entry: &Entry) -> Option<usize> {
    let total = entry.layers.len();
    let is_lost = |layer: &Layer| matches!(layer.kind, LayerKind::Lost { .. });
    let mergeable = entry.layers.iter().position(is_lost).unwrap_or(total);
    if total <= LAYERS_MAX || mergeable < 2 {
        return None;
    }
    let weights = entry
        .layers
        .iter()
        .zip(live_grains(entry))
        .map(|(layer, live)| {
            if layer.kind == LayerKind::Hole {
                0
            } else {
                live.len()
            }
        });
    let mut sum = 0;
    let mut count = 0;
    for weight in weights.take(mergeable) {
        let is_short = count < 2 || total - count + 1 > LAYERS_MAX;
        if !is_short && weight >= 2 * sum {
            break;
        }
        sum += weight;
        count += 1;
    }
    Some(count)
}

/// What the newest layers of an entry say together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Merged {
    /// Grains with stored bytes: to be written anew.
    pub content: GrainSet,
    /// Those of them that need bytes from a layer below the merged ones to be whole.
    pub open: GrainSet,
    /// Grains that read as zeros and must be stated again.
    pub hole: GrainSet,
}

/// What the newest `count` layers say of which grains. A delta of one version with these grains replaces them all.
pub fn merged(entry: &Entry, count: usize) -> Merged {
    let (mut content, mut open, mut hole) = (
        GrainBits::default(),
        GrainBits::default(),
        GrainBits::default(),
    );
    for (layer, live) in entry.layers.iter().zip(live_grains(entry)).take(count) {
        match &layer.kind {
            LayerKind::Data(_) => {
                content = content.union(&live);
                open = open.subtract(&live);
            }
            LayerKind::Hole => {
                hole = hole.union(&live.subtract(&content));
                open = open.subtract(&live);
            }
            LayerKind::Part { .. } | LayerKind::Lost { .. } => {
                content = content.union(&live);
                open = open.union(&live);
            }
        }
    }
    Merged {
        content: content.to_set(),
        open: open.to_set(),
        hole: hole.to_set(),
    }
}

#[cfg(test)]
mod tests;
