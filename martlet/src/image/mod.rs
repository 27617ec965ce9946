//! Disk images: raw and qcow2, read for import and written by export. Holes are kept both ways.

mod qcow2;
mod qcow2_write;
mod raw;

pub use qcow2::Qcow2;
pub use qcow2_write::Qcow2Writer;
pub use raw::{RawReader, RawWriter, StreamWriter};

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Why an image cannot be read or written.
#[derive(Debug)]
#[non_exhaustive]
pub enum ImageError {
    /// It is not an image of this format, or contradicts itself.
    Malformed(String),
    /// It ends before its own headers say that it does.
    Truncated {
        /// First byte that is missing.
        at: u64,
    },
    /// A valid image with something that is not read here.
    Unsupported(String),
    /// The file cannot be read or written.
    Io(io::Error),
}

impl std::fmt::Display for ImageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "damaged image: {why}"),
            Self::Truncated { at } => write!(f, "truncated image: byte {at} is missing"),
            Self::Unsupported(what) => write!(f, "not supported: {what}"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ImageError {}

impl From<io::Error> for ImageError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Bytes that are read by their place: a file's, or some in memory.
pub trait ReadAt: Send {
    /// How many there are.
    ///
    /// # Errors
    ///
    /// The file does not tell.
    fn size(&self) -> io::Result<u64>;

    /// Fills `into` from byte `at`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or ends before.
    fn read_exact_at(&self, into: &mut [u8], at: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, into, at)
    }
}

/// An image that is read.
pub trait Source: Send {
    /// Bytes of the disk that the image describes.
    fn size(&self) -> u64;

    /// The first range at or after `at` that may hold other bytes than zeros. `None`: only zeros follow.
    ///
    /// # Errors
    ///
    /// See [`ImageError`].
    fn next_data(&mut self, at: u64) -> Result<Option<Range<u64>>, ImageError>;

    /// Fills `into` from byte `at` of the disk; the range lies within the size.
    ///
    /// # Errors
    ///
    /// See [`ImageError`].
    fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), ImageError>;
}

/// An image that is written, in ascending order; what is left out reads as zeros.
pub trait Target: Send {
    /// Writes bytes at `at`; at or after the end of the last write.
    ///
    /// # Errors
    ///
    /// See [`ImageError`].
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), ImageError>;

    /// Ends the image; durable when done, where the place can be.
    ///
    /// # Errors
    ///
    /// See [`ImageError`].
    fn finish(self: Box<Self>) -> Result<(), ImageError>;
}

/// The format of an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// The disk's bytes.
    Raw,
    /// QEMU's copy-on-write format, version 2 or 3.
    Qcow2,
}

/// Finds out what an image is by its first bytes. Whatever is no other known format is raw.
///
/// # Errors
///
/// The file cannot be read, or is of a known format that is not supported.
pub fn detect(file: &File) -> Result<Format, ImageError> {
    let mut head = [0; 64];
    let mut len = 0;
    while let Some(rest) = head.get_mut(len..).filter(|r| !r.is_empty()) {
        match file.read_at(rest, len as u64) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let head = head.get(..len).unwrap_or_default();
    if head.starts_with(b"QFI\xfb") {
        return Ok(Format::Qcow2);
    }
    let other = [
        (0, b"KDMV".as_slice(), "VMDK"),
        (0, b"COWD", "VMDK"),
        (0, b"# Disk DescriptorFile", "VMDK"),
        (0, b"vhdxfile", "VHDX"),
        (0, b"conectix", "VPC"),
        (0, b"QED\0", "QED"),
        (40, b"\x7f\x10\xda\xbe", "VDI"),
        (0, b"\x1f\x8b", "gzip"),
        (0, b"\xfd7zXZ\0", "xz"),
        (0, b"\x28\xb5\x2f\xfd", "zstd"),
    ];
    for (at, magic, name) in other {
        if head.get(at..).is_some_and(|h| h.starts_with(magic)) {
            return Err(ImageError::Unsupported(format!("{name} files")));
        }
    }
    Ok(Format::Raw)
}

/// Opens an image for reading. `format`: `None` finds out.
///
/// # Errors
///
/// See [`ImageError`].
pub fn open(file: File, format: Option<Format>) -> Result<Box<dyn Source>, ImageError> {
    let format = match format {
        Some(format) => format,
        None => detect(&file)?,
    };
    Ok(match format {
        Format::Raw => Box::new(RawReader::open(file)?),
        Format::Qcow2 => Box::new(Qcow2::open(file)?),
    })
}

/// Whether all bytes are zero. Some 50 GB/s.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|w| u128::from_le_bytes(*w) == 0) && rest.iter().all(|b| *b == 0)
}

#[cfg(test)]
mod tests;
