//! A root's bytes: the catalogue, then the leaves that ride in it.
//!
//! A root has exactly one form: [`parse`] accepts nothing that [`emit`] would not write. So a taker that stores a root's own
//! bytes again (design §7, step 7) needs no copy of them.

use crate::codec::{
    Magic, Malformed, Measure, Put, Reader, Unreadable, begin, open_rewritable, seal,
};
use crate::effect::LeafPlaced;
use crate::ids::{Container, Hash, Seq, Version, WishKey};
use crate::object::names::LeavesName;
use crate::table::codec::{hash, put_geometry, put_root_name, read_geometry, read_root_name};
use crate::table::leaf;
use crate::table::types::SnapshotEntry;
use crate::table::types::{AcceptedLoss, Dying, LeafHome, LeafRef, Pin, Root, RootKind};
use crate::time::WallTime;
use crate::units::{BlockCount, LeafIndex};
use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A root as bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Emitted {
    /// The whole object.
    pub bytes: Vec<u8>,
    /// Its hash: the version's identity.
    pub hash: Hash,
    /// Where the riding leaves came to lie, in index order.
    pub leaves: Vec<LeafPlaced>,
}

/// The root as bytes. References of riding leaves are made here; what [`Root::leaves`] says of them is not looked at.
///
/// Panics when the root breaks a bound of its types, or refers to a leaf as riding here that does not.
pub fn emit(root: &Root) -> Emitted {
    let bodies: Vec<Vec<u8>> = root.riding.values().map(|leaf| leaf::emit(leaf)).collect();
    let mut leaves: Vec<LeafPlaced> = bodies
        .iter()
        .map(|body| LeafPlaced {
            offset: 0,
            len: body.len() as u32,
            hash: hash(body),
        })
        .collect();
    // Every reference is as long as any other, so the leaves' places are known before they are written down.
    let mut measure = Measure::default();
    write(&mut measure, root, &references(root, &leaves));
    let mut offset = measure.at();
    for (placed, body) in leaves.iter_mut().zip(&bodies) {
        placed.offset = u32::try_from(offset).expect("a root is shorter than 4 GiB");
        offset += body.len();
    }
    let mut bytes = Vec::with_capacity(offset);
    write(&mut bytes, root, &references(root, &leaves));
    bodies.iter().for_each(|body| bytes.put(body));
    seal(&mut bytes, Magic::ROOT, 0);
    Emitted {
        hash: hash(&bytes),
        bytes,
        leaves,
    }
}

/// All references by index, those of riding leaves made from where these lie.
fn references<'a>(root: &'a Root, placed: &[LeafPlaced]) -> Vec<(LeafIndex, Cow<'a, LeafRef>)> {
    let kept = root.leaves.iter();
    let mut all: Vec<_> = kept
        .filter(|(index, _)| !root.riding.contains_key(index))
        .inspect(|(index, reference)| {
            let rides = is_riding(root, reference);
            assert!(!rides, "leaf {index} does not ride in this root");
        })
        .map(|(index, reference)| (*index, Cow::Borrowed(reference)))
        .collect();
    for (index, placed) in root.riding.keys().zip(placed) {
        let reference = LeafRef {
            container: None,
            home: LeafHome::Root(root.name),
            offset: placed.offset,
            len: placed.len,
            hash: placed.hash,
        };
        all.push((*index, Cow::Owned(reference)));
    }
    all.sort_by_key(|(index, _)| *index);
    all
}

fn is_riding(root: &Root, reference: &LeafRef) -> bool {
    reference.container.is_none() && reference.home == LeafHome::Root(root.name)
}

type Home<'a> = (Option<&'a Container>, LeafHome);

fn write(out: &mut impl Put, root: &Root, references: &[(LeafIndex, Cow<'_, LeafRef>)]) {
    let homes: BTreeSet<Home<'_>> = references
        .iter()
        .map(|(_, leaf)| (leaf.container.as_ref(), leaf.home))
        .collect();
    let mut containers: Vec<&Container> = homes.iter().filter_map(|home| home.0).collect();
    // Homes are in order, and their container is what they are ordered by first.
    containers.dedup();
    let runs = runs(references.iter().map(|(index, _)| index));
    begin(out);
    put_geometry(out, &root.geometry);
    put_root_name(out, &root.name);
    out.put_u64(root.ordinal);
    out.put_u64(root.cut.0);
    out.put_u64(root.created.0);
    out.put_u8(kind_byte(root.kind));
    out.put_u8(u8::from(root.parent.is_some()));
    out.put(&[0; 6]);
    let counts = [
        root.snapshots.len(),
        root.pins.len(),
        root.dying.len(),
        root.attributes.len(),
        root.losses.len(),
        containers.len(),
        homes.len(),
        runs.len(),
        references.len(),
        root.riding.len(),
    ];
    counts.into_iter().for_each(|count| out.put_count(count));
    out.put_container(&root.container);
    if let Some((name, hash)) = &root.parent {
        put_root_name(out, name);
        out.put(&hash.0);
    }
    put_lists(out, root);
    containers
        .iter()
        .for_each(|container| out.put_container(container));
    homes
        .iter()
        .for_each(|home| put_home(out, home, &containers));
    for (first, count) in &runs {
        out.put_u64(*first);
        out.put_u64(*count);
    }
    let numbers: BTreeMap<_, u32> = homes.iter().copied().zip(0..).collect();
    for (_, leaf) in references {
        out.put_u32(numbers[&(leaf.container.as_ref(), leaf.home)]);
        out.put_u32(leaf.offset);
        out.put_u32(leaf.len);
        out.put_u32(0);
        out.put(&leaf.hash.0);
    }
}

fn put_lists(out: &mut impl Put, root: &Root) {
    for snapshot in &root.snapshots {
        put_root_name(out, &snapshot.root);
        out.put_u64(snapshot.created.0);
        out.put_u64(snapshot.wish.0);
        out.put_u64(snapshot.capacity.0);
        out.put_text(&snapshot.name);
    }
    for pin in &root.pins {
        put_root_name(out, &pin.root);
        out.put_container(&pin.child);
    }
    for dying in &root.dying {
        put_root_name(out, &dying.root);
        out.put_u64(dying.since.0);
    }
    for (key, value) in &root.attributes {
        out.put_count(value.len());
        out.put_u32(0);
        out.put_text(key);
        out.put(value);
        out.pad(8);
    }
    for loss in &root.losses {
        out.put_attach(loss.lost);
        out.put_u64(loss.base.0);
        out.put_u64(loss.at.0);
        out.put_text(&loss.host);
    }
}

const IN_ROOT: u32 = 0;
const IN_LEAVES: u32 = 1;

/// 40 bytes.
fn put_home(out: &mut impl Put, home: &Home<'_>, containers: &[&Container]) {
    // 0 is the own container.
    let number = home.0.map_or(0, |container| {
        1 + containers.partition_point(|c| *c < container)
    });
    let (kind, name, serial) = match home.1 {
        LeafHome::Root(name) => (IN_ROOT, (name.version, name.attach), 0),
        LeafHome::Leaves(name) => (IN_LEAVES, (name.version, name.attach), name.serial),
    };
    out.put_count(number);
    out.put_u32(kind);
    out.put_u64(name.0.0);
    out.put_attach(name.1);
    out.put_u32(serial);
    out.put_u32(0);
}

/// (first, count) of each run of indexes without a gap.
fn runs<'a>(indexes: impl Iterator<Item = &'a LeafIndex>) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for index in indexes {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == index.0 => *count += 1,
            _ => runs.push((index.0, 1)),
        }
    }
    runs
}

const fn kind_byte(kind: RootKind) -> u8 {
    match kind {
        RootKind::Born => 0,
        RootKind::Checkpoint => 1,
        RootKind::Snapshot => 2,
        RootKind::Detached => 3,
        RootKind::Deleted => 4,
    }
}

fn kind_of(byte: u8) -> Result<RootKind, Malformed> {
    Ok(match byte {
        0 => RootKind::Born,
        1 => RootKind::Checkpoint,
        2 => RootKind::Snapshot,
        3 => RootKind::Detached,
        4 => RootKind::Deleted,
        _ => return Err(Malformed::Value("root kind")),
    })
}

/// Reads a root and the leaves that ride in it.
///
/// # Errors
///
/// Anything but what [`emit`] made.
pub fn parse(bytes: &[u8]) -> Result<Root, Unreadable> {
    let root = read(open_rewritable(bytes, Magic::ROOT)?, bytes)?;
    // One form only: order of lists and dictionaries, places of the riding leaves.
    (emit(&root).bytes == bytes)
        .then_some(root)
        .ok_or(Unreadable::Malformed(Malformed::Value("form of the root")))
}

fn read(mut fields: Reader<'_>, whole: &[u8]) -> Result<Root, Unreadable> {
    let geometry = read_geometry(&mut fields)?;
    let name = read_root_name(&mut fields)?;
    let (ordinal, cut, created) = (fields.u64()?, Seq(fields.u64()?), WallTime(fields.u64()?));
    let (kind, has_parent) = (kind_of(fields.u8()?)?, fields.flag("parent")?);
    fields.zeros(6)?;
    let counts = Counts::read(&mut fields)?;
    let container = fields.container()?;
    let parent = if has_parent {
        Some((read_root_name(&mut fields)?, Hash(fields.array()?)))
    } else {
        None
    };
    let mut root = Root {
        container,
        geometry,
        name,
        ordinal,
        parent,
        kind,
        cut,
        created,
        snapshots: Vec::new(),
        pins: Vec::new(),
        dying: Vec::new(),
        attributes: BTreeMap::new(),
        losses: Vec::new(),
        leaves: BTreeMap::new(),
        riding: BTreeMap::new(),
    };
    read_lists(&mut fields, &counts, &mut root)?;
    read_references(&mut fields, &counts, &mut root)?;
    read_riding(&counts, &mut root, whole)?;
    Ok(root)
}

/// How many of each follow; all bounded by what the input can hold.
struct Counts {
    snapshots: usize,
    pins: usize,
    dying: usize,
    attributes: usize,
    losses: usize,
    containers: usize,
    homes: usize,
    runs: usize,
    references: usize,
    riding: usize,
}

impl Counts {
    fn read(fields: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            snapshots: fields.count(56)?,
            pins: fields.count(48)?,
            dying: fields.count(32)?,
            attributes: fields.count(16)?,
            losses: fields.count(40)?,
            containers: fields.count(24)?,
            homes: fields.count(40)?,
            runs: fields.count(16)?,
            references: fields.count(32)?,
            riding: fields.count(32)?,
        })
    }
}

fn read_lists(fields: &mut Reader<'_>, counts: &Counts, root: &mut Root) -> Result<(), Malformed> {
    for _ in 0..counts.snapshots {
        root.snapshots.push(SnapshotEntry {
            root: read_root_name(fields)?,
            created: WallTime(fields.u64()?),
            wish: WishKey(fields.u64()?),
            capacity: BlockCount(fields.u64()?),
            name: fields.text("snapshot name")?.into(),
        });
    }
    for _ in 0..counts.pins {
        root.pins.push(Pin {
            root: read_root_name(fields)?,
            child: fields.container()?,
        });
    }
    for _ in 0..counts.dying {
        root.dying.push(Dying {
            root: read_root_name(fields)?,
            since: WallTime(fields.u64()?),
        });
    }
    for _ in 0..counts.attributes {
        let len = fields.u32()? as usize;
        fields.zeros(4)?;
        let key: String = fields.text("attribute key")?.into();
        root.attributes.insert(key, fields.bytes(len)?.to_vec());
        fields.pad(8)?;
    }
    for _ in 0..counts.losses {
        root.losses.push(AcceptedLoss {
            lost: fields.attach()?,
            base: Version(fields.u64()?),
            at: WallTime(fields.u64()?),
            host: fields.text("host")?.into(),
        });
    }
    Ok(())
}

fn read_references(
    fields: &mut Reader<'_>,
    counts: &Counts,
    root: &mut Root,
) -> Result<(), Malformed> {
    let containers: Result<Vec<_>, _> =
        (0..counts.containers).map(|_| fields.container()).collect();
    let containers = containers?;
    let homes: Result<Vec<_>, _> = (0..counts.homes)
        .map(|_| read_home(fields, &containers))
        .collect();
    let homes = homes?;
    let mut runs = Vec::with_capacity(counts.runs);
    for _ in 0..counts.runs {
        let (first, count) = (fields.u64()?, fields.u64()?);
        let end = first
            .checked_add(count)
            .ok_or(Malformed::Value("run of leaves"))?;
        runs.push(first..end);
    }
    let mut indexes = runs.into_iter().flatten().map(LeafIndex);
    for _ in 0..counts.references {
        let index = indexes.next().ok_or(Malformed::Value("runs of leaves"))?;
        let home = homes
            .get(fields.u32()? as usize)
            .ok_or(Malformed::Value("leaf home"))?;
        let (offset, len) = (fields.u32()?, fields.u32()?);
        fields.zeros(4)?;
        let reference = LeafRef {
            container: home.0.clone(),
            home: home.1,
            offset,
            len,
            hash: Hash(fields.array()?),
        };
        root.leaves.insert(index, reference);
    }
    Ok(())
}

fn read_home(
    fields: &mut Reader<'_>,
    containers: &[Container],
) -> Result<(Option<Container>, LeafHome), Malformed> {
    let number = fields.u32()? as usize;
    let container = match number.checked_sub(1) {
        None => None,
        Some(n) => Some(
            containers
                .get(n)
                .ok_or(Malformed::Value("container"))?
                .clone(),
        ),
    };
    let kind = fields.u32()?;
    let name = read_root_name(fields)?;
    let serial = fields.u32()?;
    fields.zeros(4)?;
    let home = match kind {
        IN_ROOT if serial == 0 => LeafHome::Root(name),
        IN_LEAVES => LeafHome::Leaves(LeavesName {
            version: name.version,
            attach: name.attach,
            serial,
        }),
        _ => return Err(Malformed::Value("leaf home")),
    };
    Ok((container, home))
}

fn read_riding(counts: &Counts, root: &mut Root, whole: &[u8]) -> Result<(), Unreadable> {
    for (index, reference) in &root.leaves {
        if !is_riding(root, reference) {
            continue;
        }
        let (start, len) = (reference.offset as usize, reference.len as usize);
        let bytes = whole.get(start..).and_then(|rest| rest.get(..len));
        let bytes = bytes.ok_or(Malformed::Short)?;
        if hash(bytes) != reference.hash {
            return Err(Malformed::Checksum.into());
        }
        let leaf = leaf::parse(bytes)?;
        if leaf.index != *index {
            return Err(Malformed::Misplaced.into());
        }
        root.riding.insert(*index, Arc::new(leaf));
    }
    (root.riding.len() == counts.riding)
        .then_some(())
        .ok_or(Unreadable::Malformed(Malformed::Value("riding leaves")))
}

#[cfg(test)]
pub(crate) mod tests;
