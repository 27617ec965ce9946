//! A directory store as the program lays it out, and a payload of bytes.

use martlet_engine::effect::{Body, Receipt};
use martlet_engine::ids::Container;
use martlet_engine::object::names::ObjectName;
use martlet_engine::object::{Target, encode_body};
use martlet_engine::sum::Sum;
use martlet_engine::units::ByteCount;
use martlet_engine::{Part, Parts, Payload};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes in memory.
#[derive(Clone, Debug)]
pub(crate) struct Bytes(Arc<[u8]>, Range<usize>);

impl Bytes {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self(bytes.into(), 0..bytes.len())
    }
}

impl Payload for Bytes {
    fn len(&self) -> ByteCount {
        ByteCount(self.1.len() as u64)
    }
    fn slice(&self, range: Range<u64>) -> Self {
        let start = self.1.start;
        Self(
            self.0.clone(),
            start + range.start as usize..start + range.end as usize,
        )
    }
}

#[derive(Default)]
struct Image(Vec<u8>);

impl Target<Bytes> for Image {
    fn sum(&mut self, content: &Parts<Bytes>) -> Sum {
        let mut image = Self::default();
        image.put_content(content);
        Sum(crc32c::crc32c(&image.0))
    }
    fn put(&mut self, bytes: Vec<u8>) {
        self.0.extend(bytes);
    }
    fn put_content(&mut self, content: &Parts<Bytes>) {
        for part in &content.0 {
            match part {
                Part::Data(Bytes(bytes, range)) => self.0.extend(&bytes[range.clone()]),
                Part::Zeros(count) => self.0.resize(self.0.len() + count.0 as usize, 0),
            }
        }
    }
}

/// A directory store that is removed when dropped.
pub(crate) struct Store(PathBuf);

impl Store {
    pub(crate) fn new(name: &str) -> Self {
        let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("restore-{name}"));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        Self(root)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    pub(crate) fn path(&self, container: &Container, name: &ObjectName) -> PathBuf {
        self.0.join(container.to_string()).join(name.to_string())
    }

    pub(crate) fn put(
        &self,
        container: &Container,
        name: &ObjectName,
        body: &Body<Bytes>,
    ) -> Receipt {
        let mut image = Image::default();
        let receipt = encode_body(body, &mut image);
        assert_eq!(receipt.bytes.0, image.0.len() as u64);
        let path = self.path(container, name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        assert!(!path.exists(), "a name is never used again");
        fs::write(path, image.0).unwrap();
        receipt
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
