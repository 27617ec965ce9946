//! Raw images: the disk's bytes. Sparse files are read and written as such.

use super::{ImageError, Source, Target, is_zero};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// A raw image or block device.
#[derive(Debug)]
pub struct RawReader {
    file: File,
    size: u64,
}

impl RawReader {
    /// Opens a file or block device. Errors: its size cannot be found out.
    ///
    /// # Errors
    ///
    /// See [`ImageError`].
    pub fn open(mut file: File) -> Result<Self, ImageError> {
        // Also right for block devices, whose metadata say 0.
        let size = file.seek(io::SeekFrom::End(0))?;
        Ok(Self { file, size })
    }
}

impl Source for RawReader {
    fn size(&self) -> u64 {
        self.size
    }

    fn next_data(&mut self, at: u64) -> Result<Option<Range<u64>>, ImageError> {
        if at >= self.size {
            return Ok(None);
        }
        let start = match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => return Ok(None),
            // A device or file system that knows no holes: all of it may be data.
            Err(_) => return Ok(Some(at..self.size)),
        };
        let end = rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Hole(start))
            .unwrap_or(self.size)
            .min(self.size);
        Ok((start < end).then_some(start..end))
    }

    fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), ImageError> {
        match self.file.read_exact_at(into, at) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(ImageError::Truncated {
                    at: self.file.metadata()?.len(),
                })
            }
            result => Ok(result?),
        }
    }
}

/// Writes a raw image into a file; zeros become holes.
#[derive(Debug)]
pub struct RawWriter(File);

impl RawWriter {
    /// Starts an image of `size` bytes in an empty file.
    ///
    /// # Errors
    ///
    /// The file cannot have that size.
    pub fn start(file: File, size: u64) -> Result<Self, ImageError> {
        file.set_len(size)?;
        Ok(Self(file))
    }
}

impl Target for RawWriter {
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), ImageError> {
        let mut at = at;
        for block in bytes.chunks(4096) {
            if !is_zero(block) {
                self.0.write_all_at(block, at)?;
            }
            at += block.len() as u64;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), ImageError> {
        Ok(self.0.sync_all()?)
    }
}

/// Writes a raw image into a stream; holes are written as zeros.
pub struct StreamWriter<W> {
    to: W,
    at: u64,
    size: u64,
}

impl<W> std::fmt::Debug for StreamWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StreamWriter({} of {})", self.at, self.size)
    }
}

impl<W: Write> StreamWriter<W> {
    /// Starts an image of `size` bytes.
    pub const fn start(to: W, size: u64) -> Self {
        Self { to, at: 0, size }
    }

    fn zeros_to(&mut self, end: u64) -> Result<(), ImageError> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        while self.at < end {
            let len = usize::try_from(end - self.at).unwrap_or(usize::MAX);
            let zeros = ZEROS.get(..len).unwrap_or(&ZEROS);
            self.to.write_all(zeros)?;
            self.at += zeros.len() as u64;
        }
        Ok(())
    }
}

impl<W: Write + Send> Target for StreamWriter<W> {
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), ImageError> {
        self.zeros_to(at)?;
        self.to.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), ImageError> {
        self.zeros_to(self.size)?;
        Ok(self.to.flush()?)
    }
}
