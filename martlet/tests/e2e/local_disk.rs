//! Bad days of the local disk: torn and damaged journals, and no space left.

use crate::support::initiator::{Answer, BUSY, Initiator};
use crate::support::{Daemon, Folder, Host, Store, stamps, text};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Blocks of one write: a record of a head page and a data page.
const BLOCKS: u64 = 8;

/// Sense keys.
const MEDIUM_ERROR: u8 = 3;
const DATA_PROTECT: u8 = 7;

const PAGE: usize = 4096;

/// A volume that nobody publishes: what is written is in the journal alone.
fn host(folder: &Folder) -> Host {
    let host = Host::new(&Store::dir(&folder.0), &folder.join("state"))
        .with("limits.journal_file=2MiB")
        .with("limits.journal=16MiB")
        .with("limits.checkpoint_interval=1h");
    host.json(&["volume", "create", "vm", "--size", "64MiB"]);
    host
}

/// The journal's file that was written last, and the pages of it that hold something.
fn newest_file(host: &Host) -> (PathBuf, usize) {
    let mut left = vec![host.state.clone()];
    let mut files = Vec::new();
    while let Some(path) = left.pop() {
        for entry in std::fs::read_dir(&path).unwrap().map(Result::unwrap) {
            if entry.metadata().unwrap().is_dir() {
                left.push(entry.path());
            } else if path.file_name().is_some_and(|n| n == "journal") {
                files.push((entry.metadata().unwrap().modified().unwrap(), entry.path()));
            }
        }
    }
    files.sort();
    let newest = files.pop().expect("a journal").1;
    let bytes = std::fs::read(&newest).unwrap();
    let used = bytes.chunks(PAGE).rposition(|p| p.iter().any(|b| *b != 0));
    (newest, used.expect("records") + 1)
}

/// Harms a page of a file, in place.
fn harm(path: &Path, page: usize, how: impl Fn(&mut [u8])) {
    let mut bytes = std::fs::read(path).unwrap();
    how(&mut bytes[page * PAGE..(page + 1) * PAGE]);
    std::fs::write(path, bytes).unwrap();
}

/// Write `n` puts number `n + 1` at extent `n`.
fn write(session: &mut Initiator, range: std::ops::Range<u64>) {
    for n in range {
        let data = stamps::extent(n * BLOCKS, BLOCKS, n + 1);
        session.write_now(n * BLOCKS, &data).unwrap();
    }
}

fn flush(session: &mut Initiator) {
    let tag = session.flush().unwrap();
    assert!(session.wait(tag).unwrap().is_good());
}

fn read(session: &mut Initiator, n: u64) -> Answer {
    let tag = session.read(n * BLOCKS, BLOCKS as u32).unwrap();
    session.wait(tag).unwrap()
}

/// What extent `n` holds: its number, or 0.
#[track_caller]
fn number(session: &mut Initiator, n: u64) -> u64 {
    let answer = read(session, n);
    assert!(answer.is_good(), "extent {n}: {answer:?}");
    let first = stamps::number(n * BLOCKS, &answer.data[..512]);
    for (at, block) in answer.data.chunks(512).enumerate() {
        let lba = n * BLOCKS + at as u64;
        assert_eq!(stamps::number(lba, block), first, "extent {n} is torn");
    }
    first
}

/// Writes 20 that are flushed and 20 that are not, dies, loses pages at the journal's end, and starts again.
#[track_caller]
fn check_torn(name: &str, pages: usize, how: impl Fn(&mut [u8])) {
    let folder = Folder::new(name);
    let host = host(&folder);
    let daemon = host.serve();
    let mut session = daemon.login("vm");
    write(&mut session, 0..20);
    flush(&mut session);
    write(&mut session, 20..40);
    daemon.kill();
    let (file, used) = newest_file(&host);
    for page in used - pages..used {
        harm(&file, page, &how);
    }
    let daemon = host.serve();
    let mut session = daemon.login("vm");
    let found: Vec<u64> = (0..40).map(|n| number(&mut session, n)).collect();
    let kept = found.iter().take_while(|n| **n > 0).count();
    let whole: Vec<u64> = (1..=kept as u64).collect();
    assert_eq!(found[..kept], whole, "{found:?}");
    assert!(
        found[kept..].iter().all(|n| *n == 0),
        "no prefix: {found:?}"
    );
    // Whole records went: one page of one is as bad as all of it.
    let lost = pages.div_ceil(2);
    assert!(
        (40 - lost..40).contains(&kept) && kept >= 20,
        "{kept} of 40 are left"
    );
    // And on: what comes now is not taken for what was torn.
    write(&mut session, 30..50);
    daemon.kill();
    let daemon = host.serve();
    let mut session = daemon.login("vm");
    for n in 30..50 {
        assert_eq!(number(&mut session, n), n + 1);
    }
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_torn_tail_of_the_journal_leaves_a_prefix() {
    check_torn("disk-torn-zeros", 3, |page| page.fill(0));
    check_torn("disk-torn-noise", 6, |page| {
        page.iter_mut()
            .enumerate()
            .for_each(|(n, b)| *b = (n * 7) as u8)
    });
    check_torn("disk-torn-half", 1, |page| page[2048..].fill(0));
}

/// Harms a page of write 10's record, which more records follow that were flushed, and starts again.
#[track_caller]
fn check_damaged(name: &str, data: bool) {
    let folder = Folder::new(name);
    let host = host(&folder);
    let daemon = host.serve();
    let mut session = daemon.login("vm");
    write(&mut session, 0..40);
    flush(&mut session);
    // Later records tell how far the journal was synced: without any, damage could not be told from a torn tail.
    write(&mut session, 40..44);
    daemon.kill();
    let (file, used) = newest_file(&host);
    let bytes = std::fs::read(&file).unwrap();
    let sought = stamps::block(10 * BLOCKS, 11);
    let page = (0..used).find(|p| bytes[p * PAGE..].starts_with(&sought));
    let page = page.expect("the record of write 10");
    harm(&file, if data { page } else { page - 1 }, |page| {
        page[100] ^= 1
    });
    let daemon = host.serve();
    let mut session = daemon.login("vm");
    for n in (0..44).filter(|n| *n != 10) {
        assert_eq!(number(&mut session, n), n + 1);
    }
    let answer = read(&mut session, 10);
    assert_eq!(answer.sense.map(|s| s.0), Some(MEDIUM_ERROR), "{answer:?}");
    assert!(daemon.log().contains("damaged"), "{}", daemon.log());
    // The rest can be published, and what is lost is stated: it is never zeros, here or there.
    host.json(&["snapshot", "create", "vm@a"]);
    let answer = read(&mut session, 10);
    assert_eq!(answer.sense.map(|s| s.0), Some(MEDIUM_ERROR), "{answer:?}");
    // What is written anew is good again.
    write(&mut session, 10..11);
    assert_eq!(number(&mut session, 10), 11);
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn damaged_data_within_the_journal_is_a_medium_error_for_these_blocks() {
    check_damaged("disk-data", true);
}

#[test]
fn a_damaged_head_within_the_journal_is_a_medium_error_for_its_blocks() {
    check_damaged("disk-head", false);
}

/// A file system of a few MiB, gone with the value.
struct Small(PathBuf);

impl Small {
    /// `None`: mounting is not allowed here.
    fn mount(at: PathBuf, mib: u32) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let size = format!("size={mib}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs", text(&at)])
            .status();
        mounted.is_ok_and(|s| s.success()).then_some(Self(at))
    }

    /// Takes all space that is left.
    fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.0.join("filler")).unwrap();
        let block = vec![1; 64 << 10];
        while file.write_all(&block).is_ok() {}
        while file.write_all(&[1]).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a process that a failed test left may still have it open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Writes on until one is refused; the number of the first that was not good.
#[track_caller]
fn write_until_refused(session: &mut Initiator, daemon: &Daemon, from: u64) -> u64 {
    let until = Instant::now() + Duration::from_secs(60);
    let mut n = from;
    loop {
        assert!(
            Instant::now() < until,
            "nothing is refused:\n{}",
            daemon.log()
        );
        let data = stamps::extent(n * BLOCKS, BLOCKS, n + 1);
        let tag = session.write(n * BLOCKS, &data, false).unwrap();
        let answer = session.wait(tag).unwrap();
        if !answer.is_good() {
            let key = answer.sense.map(|s| s.0);
            assert!(
                answer.status == BUSY || key == Some(DATA_PROTECT),
                "a full disk is BUSY or SPACE ALLOCATION FAILED: {answer:?}"
            );
            return n;
        }
        n += 1;
    }
}

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() {
    let folder = Folder::new("disk-full");
    let Some(small) = Small::mount(folder.join("small"), 24) else {
        eprintln!("NOT TESTED: a full disk needs the right to mount a tmpfs");
        return;
    };
    let state = folder.join("small").join("state");
    // The journal may grow beyond the disk; the store is elsewhere.
    let host = Host::new(&Store::dir(&folder.0), &state)
        .with("limits.journal_file=2MiB")
        .with("limits.journal=64MiB")
        .with("limits.busy_after=1s")
        .with("limits.checkpoint_interval=1h");
    host.json(&["volume", "create", "vm", "--size", "64MiB"]);
    let daemon = host.serve();
    let mut session = daemon.login("vm");
    write(&mut session, 0..100);
    flush(&mut session);
    // While the store takes checkpoints the journal's files are used again, and nobody feels the full disk.
    let store = folder.join("store");
    let away = folder.join("away");
    std::fs::rename(&store, &away).unwrap();
    small.fill();
    let refused = write_until_refused(&mut session, &daemon, 100);
    // It lives, and all that was answered is there.
    for n in 0..refused {
        assert_eq!(number(&mut session, n), n + 1);
    }
    daemon.kill();
    std::fs::rename(&away, &store).unwrap();
    let daemon = host.serve();
    let mut session = daemon.login("vm");
    for n in 0..refused {
        assert_eq!(number(&mut session, n), n + 1);
    }
    // A command says what is wrong, and leaves nothing half-made.
    let another = ["volume", "create", "another", "--size", "8MiB"];
    let refused_too = host.run(&another);
    assert_eq!(refused_too.code, 6, "{}", refused_too.stderr);
    let said = &refused_too.stderr;
    assert!(said.contains("E6-DISK-FULL"), "{said}");
    // With room again it goes on by itself.
    small.free();
    host.json(&another);
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let data = stamps::extent(refused * BLOCKS, BLOCKS, refused + 1);
        let tag = session.write(refused * BLOCKS, &data, false).unwrap();
        if session.wait(tag).unwrap().is_good() {
            break;
        }
        assert!(Instant::now() < until, "it stays full:\n{}", daemon.log());
    }
    write(&mut session, refused + 1..refused + 200);
    flush(&mut session);
    host.json(&["snapshot", "create", "vm@a"]);
    for n in 0..refused + 200 {
        assert_eq!(number(&mut session, n), n + 1);
    }
    drop(session);
    assert_eq!(daemon.stop(), 0);
    drop(small);
}
