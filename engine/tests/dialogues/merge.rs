//! Merges: a chunk that is published again and again keeps few layers, and nobody waits for that.

use crate::harness::{Buf, Harness};
use engine::command::{BirthSpec, Command, Committed, Reply, Verdict, Wish};
use engine::effect::{Effect, Expect, LocalFile, StoreRequest};
use engine::ids::{AttachId, Container, Version, VolumeId};
use engine::limits::Limits;
use engine::object::names::DataName;
use engine::table::apply::{ChunkDelta, apply, merge_count, merged};
use engine::table::types::{Entry, GrainSet, Layer, LayerKind, ObjectRef, SectionRef, VolumeKind};
use engine::time::Duration;
use engine::units::{BlockCount, ByteCount, ChunkIndex, Extent, Geometry, GrainIndex};
use std::collections::BTreeSet;
use std::rc::Rc;

/// A generator that gives the same numbers on every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn born(geometry: Geometry, limits: Limits) -> Harness {
    let mut host = Harness::host_with(Rc::default(), 1, geometry, limits);
    let spec = BirthSpec {
        geometry,
        kind: VolumeKind::Disk,
        parent: None,
        attributes: Vec::new(),
    };
    assert!(matches!(host.wish(Wish::Birth(spec)), Verdict::Begun));
    let verdict = host.wish(Wish::FinishBirth { base: None });
    assert!(matches!(verdict, Verdict::Born(_)), "{verdict:?}");
    host
}

fn limits() -> Limits {
    Limits {
        file_bytes: ByteCount(1 << 20),
        files: 16,
        cache_slots: 512,
        delete_grace: Duration::from_secs(30),
        ..Limits::default()
    }
}

/// One chunk and a bit, half-kilobyte blocks, small frames.
fn small() -> Harness {
    let geometry = Geometry {
        block_bytes: 512,
        capacity: BlockCount(300),
        chunk_grains: 32,
        leaf_chunks: 2,
        frame_grains: 4,
    };
    born(geometry, limits())
}

#[track_caller]
fn checkpoint(host: &mut Harness) -> Committed {
    match host.wish(Wish::Checkpoint) {
        Verdict::Committed(committed) => committed,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn discard(host: &mut Harness, at: u64, count: u64) {
    let tag = host.send(Command::Discard(
        [Extent::new(at, count)].into_iter().collect(),
    ));
    let reply = host.replies.remove(&tag);
    assert!(matches!(reply, Some(Reply::Done { .. })), "{reply:?}");
}

/// The layers of a chunk in the newest root, in which its leaf must ride.
fn layers(host: &Harness, chunk: u64) -> Vec<Layer> {
    let root = host.volume.root().expect("it was born");
    let leaf = host.geometry.leaf_of(ChunkIndex(chunk));
    let entry = root.riding[&leaf].entries.get(&ChunkIndex(chunk));
    entry.map_or(Vec::new(), |entry| entry.layers.clone())
}

/// Eight publishes of one grain each, so that the next one has layers to merge; what the blocks read as.
fn deep(host: &mut Harness) -> Vec<u8> {
    let mut model = vec![0; 300];
    for n in 0..7 {
        host.write(n * 8, 3, 1 + n as u8);
        model[n as usize * 8..][..3].fill(1 + n as u8);
        checkpoint(host);
    }
    assert_eq!(layers(host, 0).len(), 7);
    model
}

fn is_frame_get(effect: &Effect<Buf>) -> bool {
    matches!(effect, Effect::Store { request: StoreRequest::Get(get), .. }
        if matches!(get.expect, Expect::Frames(_)))
}

fn is_cache_read(effect: &Effect<Buf>) -> bool {
    matches!(effect, Effect::Read { read, .. } if read.file == LocalFile::Cache)
}

#[test]
fn many_publishes_of_one_chunk_leave_few_layers_and_the_content_as_written() {
    for seed in 0..12 {
        let (mut dice, mut host, mut model) = (Dice(seed), small(), vec![0_u8; 300]);
        for version in 1..=20_u8 {
            for _ in 0..1 + dice.below(4) {
                let at = dice.below(300);
                let longest = [4, 4, 20][dice.below(3) as usize];
                let count = (1 + dice.below(longest)).min(300 - at);
                let fill = if dice.below(5) == 0 { 0 } else { version };
                model[at as usize..(at + count) as usize].fill(fill);
                if fill == 0 {
                    discard(&mut host, at, count);
                } else {
                    host.write(at, count, fill);
                }
            }
            checkpoint(&mut host);
            host.pass(Duration::from_secs(1));
            // A version brings up to three layers: data, part, hole.
            assert!(
                layers(&host, 0).len() <= 9,
                "seed {seed}, version {version}"
            );
            assert_eq!(host.read(0, 300), model, "seed {seed}, version {version}");
        }
        assert!(matches!(host.wish(Wish::Evict), Verdict::Evicted(_)));
        assert_eq!(host.read(0, 300), model, "from the store, seed {seed}");
        host.kill();
        host.open();
        assert_eq!(host.read(0, 300), model, "after a restart, seed {seed}");
    }
}

#[test]
fn a_merge_takes_what_is_cached_and_replaces_its_layers() {
    let mut host = small();
    let mut model = deep(&mut host);
    host.write(100, 1, 99);
    model[100] = 99;
    checkpoint(&mut host);
    let left = layers(&host, 0);
    // The parts are whole now; what the publish itself wrote in part is still a part.
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(matches!(left[0].kind, LayerKind::Data(_)) && left[0].grains.len() == 7);
    assert!(matches!(left[1].kind, LayerKind::Part { .. }) && left[1].grains.len() == 1);
    assert_eq!(host.read(0, 300), model);
}

#[test]
fn what_is_written_after_the_merged_layers_wins() {
    let mut host = small();
    let mut model = deep(&mut host);
    host.write(0, 1, 50);
    model[0] = 50;
    host.write(8, 8, 51);
    model[8..16].fill(51);
    discard(&mut host, 16, 8);
    model[16..24].fill(0);
    checkpoint(&mut host);
    assert!(layers(&host, 0).len() <= 2, "{:?}", layers(&host, 0));
    assert!(matches!(host.wish(Wish::Evict), Verdict::Evicted(_)));
    assert_eq!(host.read(0, 300), model);
}

#[test]
fn frames_that_are_not_here_delay_no_publish_and_are_merged_by_a_later_one() {
    let mut host = small();
    let mut model = deep(&mut host);
    assert!(matches!(host.wish(Wish::Evict), Verdict::Evicted(_)));
    host.hold(is_frame_get);
    host.write(80, 1, 70);
    model[80] = 70;
    checkpoint(&mut host);
    assert_eq!(layers(&host, 0).len(), 8, "nothing was here");
    host.pass(Duration::from_secs(1));
    assert!(host.open.iter().any(is_frame_get), "they are being brought");
    host.write(88, 1, 71);
    model[88] = 71;
    checkpoint(&mut host);
    assert_eq!(layers(&host, 0).len(), 9, "they are still on their way");
    host.release();
    host.pass(Duration::from_secs(1));
    host.write(96, 1, 72);
    model[96] = 72;
    checkpoint(&mut host);
    assert_eq!(layers(&host, 0).len(), 2);
    assert_eq!(host.read(0, 300), model);
}

#[test]
fn a_chunk_that_is_not_written_again_is_merged_too() {
    let mut host = small();
    let model = deep(&mut host);
    // Another chunk, the same leaf.
    host.write(256, 1, 9);
    checkpoint(&mut host);
    assert_eq!(layers(&host, 0).len(), 1);
    assert_eq!(host.read(0, 256), model[..256]);
}

#[test]
fn a_damaged_cached_frame_costs_the_merge_and_nothing_else() {
    let mut host = small();
    let mut model = deep(&mut host);
    host.hold(is_cache_read);
    host.write(100, 1, 99);
    model[100] = 99;
    let wish = host.send_wish(Wish::Checkpoint);
    assert!(
        host.open.iter().any(is_cache_read),
        "the merge reads the cache"
    );
    host.fail(is_cache_read);
    host.release();
    let verdict = host.told.remove(&wish);
    assert!(
        matches!(verdict, Some(Verdict::Committed(_))),
        "{verdict:?}"
    );
    assert_eq!(layers(&host, 0).len(), 8);
    assert_eq!(host.read(0, 300), model);
    // Touched again it is merged, with the frames fetched anew.
    host.write(100, 1, 98);
    model[100] = 98;
    checkpoint(&mut host);
    host.pass(Duration::from_secs(1));
    host.write(100, 1, 97);
    model[100] = 97;
    checkpoint(&mut host);
    assert!(layers(&host, 0).len() <= 2);
    assert_eq!(host.read(0, 300), model);
}

/// What the rule of merging makes of a chunk: the chunk's entry, and the grains uploaded.
struct Rule {
    entry: Option<Entry>,
    uploaded: u64,
}

impl Rule {
    fn publish(&mut self, version: u64, own: BTreeSet<u16>) {
        let mut below = self.entry.take().unwrap_or_default();
        let mut grains = own;
        if let Some(count) = merge_count(&below) {
            grains.extend(merged(&below, count).content.iter());
            below.layers.drain(..count);
        }
        if grains.is_empty() {
            self.entry = Some(below);
            return;
        }
        self.uploaded += grains.len() as u64;
        let object = ObjectRef {
            container: Container::new("model", VolumeId([0; 16])),
            name: DataName {
                version: Version(version),
                first: ChunkIndex(0),
                last: ChunkIndex(0),
                attach: AttachId::default(),
                serial: 0,
            },
        };
        let data = (
            SectionRef { object, offset: 0 },
            GrainSet::from_ascending(grains),
        );
        let delta = ChunkDelta {
            data: Some(data),
            ..ChunkDelta::new(Version(version))
        };
        self.entry = apply(Some(&below), delta);
    }
}

/// 120 publishes of scattered overwrites upload what the rule says and no more. What the rule costs in the long run is a
/// test of its own (`the_rule_uploads_a_bounded_multiple`).
#[test]
fn scattered_overwrites_upload_what_the_rule_says() {
    for (chunks, per_publish) in [(1_u64, 1_u64), (1, 4), (4, 25), (4, 100)] {
        let geometry = Geometry {
            block_bytes: 4096,
            capacity: BlockCount(chunks * 512),
            chunk_grains: 512,
            leaf_chunks: 4,
            frame_grains: 16,
        };
        let limits = Limits {
            cache_slots: 4096,
            ..limits()
        };
        let mut host = born(geometry, limits);
        let (mut dice, mut model) = (Dice(7), vec![0_u8; geometry.capacity.0 as usize]);
        let rule = || Rule {
            entry: None,
            uploaded: 0,
        };
        let mut rules: Vec<Rule> = (0..chunks).map(|_| rule()).collect();
        let (mut dirty, mut uploaded, mut all, mut most) = (0, 0, 0, 0);
        for n in 0..120 {
            let mut touched = BTreeSet::new();
            for _ in 0..per_publish {
                let at = dice.below(geometry.capacity.0);
                let fill = (1 + n % 250) as u8;
                host.write(at, 1, fill);
                model[at as usize] = fill;
                touched.insert(GrainIndex(at));
            }
            all += checkpoint(&mut host).bytes.0;
            host.pass(Duration::from_secs(1));
            let now = host.volume.root().expect("committed").name.version;
            for (chunk, rule) in rules.iter_mut().enumerate() {
                let layers = layers(&host, chunk as u64);
                most = most.max(layers.len());
                let new = layers.iter().filter(|layer| layer.version == now);
                uploaded += new.map(|layer| u64::from(layer.grains.len())).sum::<u64>();
                let own = touched.iter().filter(|grain| grain.0 / 512 == chunk as u64);
                rule.publish(now.0, own.map(|grain| (grain.0 % 512) as u16).collect());
            }
            dirty += touched.len() as u64;
        }
        assert_eq!(host.read(0, geometry.capacity.0), model);
        let ruled: u64 = rules.iter().map(|rule| rule.uploaded).sum();
        eprintln!(
            "{chunks} chunks of 512 grains, 120 publishes of {per_publish} writes: {:.2} grains uploaded per dirty grain \
             ({:.2} by the rule), {:.2} bytes per dirty byte with tables, at most {most} layers",
            uploaded as f64 / dirty as f64,
            ruled as f64 / dirty as f64,
            all as f64 / (dirty * 4096) as f64,
        );
        assert!(most <= 8, "{most} layers");
        assert_eq!(uploaded, ruled);
    }
}

/// Four chunks of 8 grains, each with seven layers to merge, and objects that take 16 grains.
fn four_deep_chunks() -> Harness {
    let geometry = Geometry {
        block_bytes: 512,
        capacity: BlockCount(256),
        chunk_grains: 8,
        leaf_chunks: 8,
        frame_grains: 4,
    };
    let limits = Limits {
        object_bytes: ByteCount(16 * 4096),
        ..limits()
    };
    let mut host = born(geometry, limits);
    for n in 0..7 {
        for chunk in 0..4 {
            host.write(chunk * 64 + n * 8, 3, 1 + n as u8);
        }
        checkpoint(&mut host);
    }
    (0..4).for_each(|chunk| assert_eq!(layers(&host, chunk).len(), 7));
    host
}

#[test]
fn what_is_planned_again_and_has_grown_beyond_an_object_is_planned_to_its_end() {
    let mut host = four_deep_chunks();
    assert!(matches!(host.wish(Wish::Evict), Verdict::Evicted(_)));
    for chunk in 0..4 {
        host.write(chunk * 64 + 56, 1, 20 + chunk as u8);
    }
    let is_journal_read = |effect: &Effect<Buf>| matches!(effect, Effect::Read { read, .. } if read.file != LocalFile::Cache);
    host.hold(is_journal_read);
    let wish = host.send_wish(Wish::Checkpoint);
    assert!(host.open.iter().any(is_journal_read), "one object");
    // One record of it rots, and the frames to merge come into the cache.
    let is_it = |page: &&mut [u8]| page[..512].iter().all(|byte| *byte == 23);
    let files = host.disk.files.values_mut();
    let mut pages = files.flat_map(|file| file.written.chunks_mut(4096));
    pages.find(is_it).expect("that record")[7] ^= 1;
    for chunk in 0..4 {
        host.read(chunk * 64, 56);
    }
    host.release();
    let Some(Verdict::Committed(committed)) = host.told.remove(&wish) else {
        panic!("committed");
    };
    for chunk in 0..3 {
        // The merged grains, and the part of one that was written now.
        assert_eq!(layers(&host, chunk).len(), 2, "{chunk}");
    }
    assert_eq!(committed.puts, 3, "two objects and a root");
    assert!(matches!(host.wish(Wish::Evict), Verdict::Evicted(_)));
    for chunk in 0..4 {
        let mut grain = vec![0; 56];
        for n in 0..7 {
            grain[n * 8..][..3].fill(1 + n as u8);
        }
        assert_eq!(host.read(chunk * 64, 56), grain);
        if chunk < 3 {
            let last = [[20 + chunk as u8].as_slice(), &[0; 7]].concat();
            assert_eq!(host.read(chunk * 64 + 56, 8), last);
        }
    }
    let tag = host.send(Command::Read(Extent::new(3 * 64 + 56, 1)));
    let reply = host.replies.remove(&tag);
    assert!(matches!(reply, Some(Reply::Failed(_))), "{reply:?}");
}
