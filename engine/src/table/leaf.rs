//! A leaf's bytes: a dictionary of objects, then the layers of every chunk that has any.
//!
//! A leaf has exactly one form: [`parse`] accepts nothing that [`emit`] would not write, so that a leaf read and written
//! again keeps its hash.

use crate::codec::{ENVELOPE_BYTES, Magic, Malformed, Measure, Put, Reader, Unreadable};
use crate::codec::{begin, open_rewritable, seal};
use crate::ids::{Container, Version};
use crate::object::names::DataName;
use crate::table::diff::objects;
use crate::table::grains::CHUNK_GRAINS_MAX;
use crate::table::types::{Entry, GrainSet, Layer, LayerKind, Leaf, ObjectRef, SectionRef};
use crate::units::{ChunkIndex, LeafIndex};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Most chunks that a leaf describes.
pub const LEAF_CHUNKS_MAX: u64 = 256;

impl Leaf {
    /// How many bytes [`emit`] makes of it, without making them.
    pub fn encoded_len(&self) -> u32 {
        let mut measure = Measure::default();
        write(&mut measure, self);
        u32::try_from(measure.at()).expect("a leaf is shorter than 4 GiB")
    }
}

/// The leaf as bytes, a multiple of 8.
///
/// Panics when the leaf breaks a bound of its types (more than 256 chunks apart, masks that do not fit the grains, an entry
/// without a layer): it could not be read again.
pub fn emit(leaf: &Leaf) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, leaf);
    seal(&mut out, Magic::LEAF, 0);
    out
}

fn write(out: &mut impl Put, leaf: &Leaf) {
    let objects = objects(leaf);
    let mut containers: Vec<&Container> = objects.iter().map(|object| &object.container).collect();
    // Objects are in order, and their container is what they are ordered by first.
    containers.dedup();
    let first = leaf.entries.keys().next().map_or(0, |chunk| chunk.0);
    begin(out);
    out.put_u64(leaf.index.0);
    out.put_u64(first);
    out.put_count(containers.len());
    out.put_count(objects.len());
    out.put_count(leaf.entries.len());
    out.put_u32(0);
    containers
        .iter()
        .for_each(|container| out.put_container(container));
    let mut numbers = BTreeMap::new();
    let mut container = 0_u32;
    for (number, object) in (0_u32..).zip(&objects) {
        while containers
            .get(container as usize)
            .is_some_and(|c| **c != object.container)
        {
            container += 1;
        }
        put_object(out, container, &object.name);
        numbers.insert(*object, number);
    }
    for (chunk, entry) in &leaf.entries {
        let offset = chunk.0 - first;
        assert!(
            offset < LEAF_CHUNKS_MAX,
            "chunks {first} and {chunk} in one leaf"
        );
        assert!(!entry.layers.is_empty(), "an entry without a layer");
        out.put_u16(offset as u16);
        out.put_u16(u16::try_from(entry.layers.len()).expect("layers fit in 16 bits"));
        out.put_u32(0);
        entry
            .layers
            .iter()
            .for_each(|layer| put_layer(out, layer, &numbers));
    }
}

/// 48 bytes.
fn put_object(out: &mut impl Put, container: u32, name: &DataName) {
    out.put_u32(container);
    out.put_u32(name.serial);
    out.put_u64(name.version.0);
    out.put_u64(name.first.0);
    out.put_u64(name.last.0);
    out.put_attach(name.attach);
}

const OBJECT_BYTES: usize = 48;

fn read_object(fields: &mut Reader<'_>, containers: &[Container]) -> Result<ObjectRef, Malformed> {
    let (container, serial) = (fields.u32()?, fields.u32()?);
    let container = containers.get(container as usize);
    Ok(ObjectRef {
        container: container.ok_or(Malformed::Value("container"))?.clone(),
        name: DataName {
            version: Version(fields.u64()?),
            first: ChunkIndex(fields.u64()?),
            last: ChunkIndex(fields.u64()?),
            attach: fields.attach()?,
            serial,
        },
    })
}

const DATA: u8 = 1;
const PART: u8 = 2;
const HOLE: u8 = 3;
const LOST: u8 = 4;

const RUNS: u8 = 0;
const BITMAP: u8 = 1;

/// Bytes of a layer before its grains.
const LAYER_BYTES: usize = 16;

fn put_layer(out: &mut impl Put, layer: &Layer, numbers: &BTreeMap<&ObjectRef, u32>) {
    let (kind, section, masks) = match &layer.kind {
        LayerKind::Data(section) => (DATA, Some(section), None),
        LayerKind::Part { section, masks } => (PART, Some(section), Some(masks)),
        LayerKind::Hole => (HOLE, None, None),
        LayerKind::Lost { masks } => (LOST, None, Some(masks)),
    };
    let grains = &layer.grains;
    assert!(
        grains.is_valid(CHUNK_GRAINS_MAX) && !grains.is_empty(),
        "grains of a layer: {grains:?}"
    );
    let bitmap_len = grains.end().div_ceil(8) as usize;
    let is_bitmap = bitmap_len < grains.runs.len() * 4;
    let count = if is_bitmap {
        bitmap_len
    } else {
        grains.runs.len()
    };
    out.put_u8(kind);
    out.put_u8(if is_bitmap { BITMAP } else { RUNS });
    // At most 1024 runs or 256 bytes.
    out.put_u16(count as u16);
    out.put_u32(u32::try_from(layer.version.0).expect("a version has 8 hex digits"));
    out.put_u32(section.map_or(0, |section| numbers[&section.object]));
    out.put_u32(section.map_or(0, |section| section.offset));
    if is_bitmap {
        out.put(&grains.to_bitmap()[..bitmap_len]);
    } else {
        for (first, count) in &grains.runs {
            out.put_u16(*first);
            out.put_u16(*count);
        }
    }
    if let Some(masks) = masks {
        assert_eq!(masks.len(), grains.len() as usize, "one mask per grain");
        out.put(masks);
    }
    out.pad(8);
}

fn read_layer(fields: &mut Reader<'_>, objects: &[ObjectRef]) -> Result<Layer, Malformed> {
    let (kind, form, count) = (fields.u8()?, fields.u8()?, fields.u16()?);
    let version = Version(u64::from(fields.u32()?));
    let (object, offset) = (fields.u32()?, fields.u32()?);
    let grains = read_grains(fields, form, usize::from(count))?;
    let mut masks = || Ok(fields.bytes(grains.len() as usize)?.to_vec());
    let section = || {
        let object = objects
            .get(object as usize)
            .ok_or(Malformed::Value("object"))?
            .clone();
        Ok::<_, Malformed>(SectionRef { object, offset })
    };
    let kind = match kind {
        DATA => LayerKind::Data(section()?),
        PART => LayerKind::Part {
            section: section()?,
            masks: masks()?,
        },
        HOLE => LayerKind::Hole,
        LOST => LayerKind::Lost { masks: masks()? },
        _ => return Err(Malformed::Value("layer kind")),
    };
    fields.pad(8)?;
    Ok(Layer {
        version,
        kind,
        grains,
    })
}

fn read_grains(fields: &mut Reader<'_>, form: u8, count: usize) -> Result<GrainSet, Malformed> {
    let grains = match form {
        RUNS => {
            let mut runs = Vec::with_capacity(count.min(fields.len() / 4));
            for _ in 0..count {
                runs.push((fields.u16()?, fields.u16()?));
            }
            GrainSet { runs }
        }
        BITMAP => GrainSet::from_bitmap(fields.bytes(count)?),
        _ => return Err(Malformed::Value("form of grains")),
    };
    let is_good = grains.is_valid(CHUNK_GRAINS_MAX) && !grains.is_empty();
    is_good.then_some(grains).ok_or(Malformed::Value("grains"))
}

/// Reads a leaf.
///
/// # Errors
///
/// Anything but what [`emit`] made.
pub fn parse(bytes: &[u8]) -> Result<Leaf, Unreadable> {
    let leaf = read(open_rewritable(bytes, Magic::LEAF)?)?;
    // One form only: counts and order of the dictionaries, the shorter of the two forms of grains.
    (emit(&leaf) == bytes)
        .then_some(leaf)
        .ok_or(Unreadable::Malformed(Malformed::Value("form of the leaf")))
}

fn read(mut fields: Reader<'_>) -> Result<Leaf, Malformed> {
    let (index, first) = (LeafIndex(fields.u64()?), fields.u64()?);
    let containers = fields.count(24)?;
    let objects = fields.count(OBJECT_BYTES)?;
    let entries = fields.count(8 + LAYER_BYTES)?;
    fields.zeros(4)?;
    let containers: Result<Vec<_>, _> = (0..containers).map(|_| fields.container()).collect();
    let containers = containers?;
    let objects: Result<Vec<_>, _> = (0..objects)
        .map(|_| read_object(&mut fields, &containers))
        .collect();
    let objects = objects?;
    let mut leaf = Leaf {
        index,
        entries: BTreeMap::new(),
    };
    for _ in 0..entries {
        let (offset, layers) = (u64::from(fields.u16()?), fields.u16()?);
        fields.zeros(4)?;
        let chunk = first.checked_add(offset);
        let chunk = chunk.filter(|_| offset < LEAF_CHUNKS_MAX && layers > 0);
        let chunk = ChunkIndex(chunk.ok_or(Malformed::Value("entry"))?);
        let layers: Result<_, _> = (0..layers)
            .map(|_| read_layer(&mut fields, &objects))
            .collect();
        leaf.entries.insert(chunk, Entry { layers: layers? });
    }
    fields.end()?;
    Ok(leaf)
}

const _: () = assert!(ENVELOPE_BYTES.is_multiple_of(8));

#[cfg(test)]
pub(crate) mod tests;
