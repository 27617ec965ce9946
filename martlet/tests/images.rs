//! Images that QEMU makes are read as QEMU reads them, and QEMU reads what is written here.
//!
//! Needs `qemu-img` and `qemu-io` (`tests/install.sh`).

use martlet::image::{self, Format, ImageError, Qcow2Writer, RawWriter, Source, Target};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

const SIZE: u64 = 37 * (1 << 20) + 512;

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}; run tests/install.sh"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {args:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A raw disk with text, noise, zeros and holes; its size is no multiple of a cluster.
fn raw(dir: &Path) -> PathBuf {
    let file = dir.join("disk.raw");
    let mut writer = RawWriter::start(File::create_new(&file).unwrap(), SIZE).unwrap();
    let mut state = 1_u64;
    for mib in [0_u64, 1, 5, 6, 20, 36] {
        let block: Vec<u8> = (0..1 << 20)
            .map(|n| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                match (n >> 16) % 3 {
                    0 => (state >> 56) as u8,
                    1 => b"the quick brown fox"[n % 19],
                    _ => 0,
                }
            })
            .collect();
        writer.write(mib << 20, &block).unwrap();
    }
    writer.write(SIZE - 512, &[0x5a; 512]).unwrap();
    Box::new(writer).finish().unwrap();
    file
}

fn content(source: &mut dyn Source) -> Result<Vec<u8>, ImageError> {
    let mut whole = vec![0; usize::try_from(source.size()).unwrap()];
    let mut at = 0;
    while let Some(range) = source.next_data(at)? {
        let into = &mut whole[range.start as usize..range.end as usize];
        source.read(range.start, into)?;
        at = range.end;
    }
    Ok(whole)
}

#[track_caller]
fn check_reads_as(image: &Path, raw: &Path) {
    let mut source = image::open(File::open(image).unwrap(), None).unwrap();
    let expected = std::fs::read(raw).unwrap();
    assert_eq!(source.size(), expected.len() as u64, "{}", image.display());
    assert!(
        content(&mut *source).unwrap() == expected,
        "{}",
        image.display()
    );
}

#[test]
fn what_qemu_img_writes_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let raw = raw(dir.path());
    let kinds: [(&str, &[&str]); 8] = [
        ("v3", &[]),
        ("v2", &["-o", "compat=0.10"]),
        ("zlib", &["-c"]),
        ("v2-zlib", &["-c", "-o", "compat=0.10"]),
        ("zstd", &["-c", "-o", "compression_type=zstd"]),
        ("small-clusters", &["-o", "cluster_size=512"]),
        ("large-clusters", &["-c", "-o", "cluster_size=2M"]),
        ("lazy", &["-o", "lazy_refcounts=on,preallocation=metadata"]),
    ];
    for (name, options) in kinds {
        let image = dir.path().join(format!("{name}.qcow2"));
        let mut args = vec!["convert", "-f", "raw", "-O", "qcow2"];
        args.extend(options);
        args.extend([path(&raw), path(&image)]);
        run("qemu-img", &args);
        check_reads_as(&image, &raw);
    }
}

#[test]
fn an_image_that_grew_by_writes_and_discards_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("used.qcow2");
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", path(&image), "50000384"],
    );
    let writes = [
        "write -P 1 0 4k",
        "write -P 2 65024 1k",
        "write -P 3 20M 300k",
        "write -z 20M 64k",
        "write -P 4 49999872 512",
        "discard 20086784 64k",
    ];
    for write in writes {
        run("qemu-io", &["-f", "qcow2", "-c", write, path(&image)]);
    }
    let raw = dir.path().join("used.raw");
    run(
        "qemu-img",
        &[
            "convert",
            "-f",
            "qcow2",
            "-O",
            "raw",
            path(&image),
            path(&raw),
        ],
    );
    check_reads_as(&image, &raw);
}

#[test]
fn what_is_written_here_qemu_img_finds_sound_and_equal() {
    let dir = tempfile::tempdir().unwrap();
    let raw = raw(dir.path());
    let image = dir.path().join("own.qcow2");
    let mut source = image::open(File::open(&raw).unwrap(), Some(Format::Raw)).unwrap();
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&image)
        .unwrap();
    let mut writer = Qcow2Writer::start(file, SIZE);
    let mut at = 0;
    while let Some(range) = source.next_data(at).unwrap() {
        // In steps that fit no cluster.
        let mut from = range.start;
        while from < range.end {
            let to = (from + 300_032).min(range.end);
            let mut bytes = vec![0; (to - from) as usize];
            source.read(from, &mut bytes).unwrap();
            writer.write(from, &bytes).unwrap();
            from = to;
        }
        at = range.end;
    }
    Box::new(writer).finish().unwrap();
    let checked = run("qemu-img", &["check", "-f", "qcow2", path(&image)]);
    assert!(checked.contains("No errors"), "{checked}");
    run(
        "qemu-img",
        &[
            "compare",
            "-f",
            "raw",
            "-F",
            "qcow2",
            path(&raw),
            path(&image),
        ],
    );
    check_reads_as(&image, &raw);
}

#[test]
fn what_qemu_img_cannot_have_us_read_is_refused_with_words() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base.qcow2");
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", path(&base), "1M"],
    );
    let make = |name: &str, options: &[&str]| {
        let image = dir.path().join(name);
        let mut args = vec!["create", "-q", "-f", "qcow2"];
        args.extend(options);
        args.extend([path(&image), "1M"]);
        run("qemu-img", &args);
        let opened = image::open(File::open(&image).unwrap(), None);
        opened.err().expect("refused").to_string()
    };
    let data = format!("data_file={}", path(&dir.path().join("data")));
    for (name, options, word) in [
        (
            "child",
            &["-b", path(&base), "-F", "qcow2"] as &[&str],
            "backing file",
        ),
        ("outside", &["-o", &data], "external data file"),
        ("sub", &["-o", "extended_l2=on"], "extended L2"),
    ] {
        let error = make(name, options);
        assert!(error.contains(word), "{name}: {error}");
    }
}
