//! Durable, whole, write-once files in a tree of directories. Knows bytes and paths, no objects.

use bytes::Bytes;
use engine::effect::ListRow;
use engine::time::WallTime;
use engine::units::ByteCount;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

/// Marks the root: without it the tree is not there (a disk that is not mounted), and nothing can be said about it.
const MARK: &str = ".martlet-store";

/// The mark's content: the format of the tree.
const MARK_TEXT: &str = "martlet directory store 1\n";

/// Temporary names begin so; no object's name does.
const TEMPORARY: &str = ".new-";

/// A tree of write-once files.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    /// Tells the temporary names of this process apart; the random part those of other processes.
    serial: AtomicU64,
    random: u64,
}

impl Tree {
    /// Opens the tree in `root`. `make`: an empty directory, or nothing, becomes one; else that is [`NotFound`].
    ///
    /// [`NotFound`]: io::ErrorKind::NotFound
    pub(super) fn open(root: &Path, make: bool) -> io::Result<Self> {
        if make {
            std::fs::create_dir_all(root)?;
        }
        let mark = root.join(MARK);
        match std::fs::read_to_string(&mark) {
            Ok(text) if text == MARK_TEXT => {}
            Ok(text) => {
                let text = text.trim().chars().take(64).collect::<String>();
                return Err(io::Error::other(format!(
                    "{} is a store of another format: {text}",
                    root.display()
                )));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut others = std::fs::read_dir(root)?
                    .filter_map(Result::ok)
                    .filter(|e| e.file_name() != "lost+found");
                if let Some(other) = others.next() {
                    return Err(io::Error::other(format!(
                        "{} is no store and not empty: it holds {}",
                        root.display(),
                        other.file_name().display()
                    )));
                }
                if !make {
                    return Err(error);
                }
                crate::disk::replace(&mark, MARK_TEXT.as_bytes(), 0o644)?;
                root.parent().map_or(Ok(()), sync_dir)?;
            }
            Err(error) => return Err(error),
        }
        Ok(Self {
            root: root.canonicalize()?,
            serial: AtomicU64::new(0),
            random: rand::random(),
        })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the tree is there at all. Asked before an absence is believed.
    fn answers(&self) -> io::Result<()> {
        if self.root.join(MARK).is_file() {
            return Ok(());
        }
        Err(io::Error::other("the store's directory is not there"))
    }

    /// An absence, if the tree answers; else that it does not.
    fn absent<T>(&self, error: io::Error) -> io::Result<T> {
        if error.kind() == io::ErrorKind::NotFound {
            self.answers()?;
        }
        Err(error)
    }

    /// The directories in the root.
    pub(super) fn folders(&self) -> io::Result<Vec<String>> {
        self.answers()?;
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.root)? {
            let entry = entry?;
            if entry.file_type()?.is_dir()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Makes a directory in the root; fine when it exists.
    pub(super) fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.answers()?;
        crate::disk::make_dir(&self.root.join(folder))
    }

    /// Reads a file or part of it. Errors: absent; the range passes its end (`UnexpectedEof`).
    pub(super) fn get(&self, path: &Path, range: Option<Range<u64>>) -> io::Result<Bytes> {
        let mut file = match File::open(self.root.join(path)) {
            Ok(file) => file,
            Err(error) => return self.absent(error),
        };
        let Some(range) = range else {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            return Ok(bytes.into());
        };
        // Nothing is allocated for a range that the file does not have.
        if range.start > range.end || range.end > file.metadata()?.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let len = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes.into())
    }

    /// Stores a file. A second time with the same bytes it is made durable again; with others it is refused.
    pub(super) fn put(&self, path: &Path, pieces: &[Bytes]) -> io::Result<()> {
        match self.create(path, pieces) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let there = self.get(path, None)?;
                if !same(&there, pieces) {
                    tracing::error!(path = %path.display(), "refused to change the content of an object");
                    return Err(error);
                }
                // Whoever stored it may have died before it was durable.
                let full = self.root.join(path);
                File::open(&full)?.sync_all()?;
                self.sync_parents(&full)
            }
            result => result,
        }
    }

    /// Stores a file that must not be there yet.
    pub(super) fn create(&self, path: &Path, pieces: &[Bytes]) -> io::Result<()> {
        let full = self.root.join(path);
        let mut parts = path.components();
        // The container is made by `create_folder` alone: an object without one is refused, as in Swift.
        let folder = parts
            .next()
            .map_or_else(|| self.root.clone(), |c| self.root.join(c));
        if !folder.is_dir() {
            return self.absent(io::ErrorKind::NotFound.into());
        }
        let parent = full.parent().unwrap_or(&self.root).to_owned();
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let temporary = parent.join(format!("{TEMPORARY}{:016x}-{serial}", self.random));
        // 1. A deletes the last object of a directory. 2. B makes sure that the directory is there. 3. A removes it.
        // 4. B finds it gone, and makes it again.
        let mut tries = 0;
        loop {
            std::fs::create_dir_all(&parent)?;
            let result = self.write_new(&temporary, &full, pieces);
            match result {
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < 8 => tries += 1,
                Err(error) => {
                    let _ = std::fs::remove_file(&temporary);
                    return Err(error);
                }
                Ok(()) => return Ok(()),
            }
        }
    }

    fn write_new(&self, temporary: &Path, full: &Path, pieces: &[Bytes]) -> io::Result<()> {
        let file = File::create_new(temporary)?;
        let slices: Vec<&[u8]> = pieces.iter().map(|piece| &**piece).collect();
        crate::disk::write_slices(&file, 0, &slices)?;
        file.sync_all()?;
        // Refuses an existing name as one step, also against other processes.
        rustix::fs::renameat_with(
            rustix::fs::CWD,
            temporary,
            rustix::fs::CWD,
            full,
            rustix::fs::RenameFlags::NOREPLACE,
        )?;
        self.sync_parents(full)
    }

    /// Makes a file's name and those of the directories above it durable, up to the root.
    fn sync_parents(&self, full: &Path) -> io::Result<()> {
        for parent in full.ancestors().skip(1) {
            if !parent.starts_with(&self.root) {
                break;
            }
            sync_dir(parent)?;
        }
        Ok(())
    }

    /// Deletes a file, and directories between it and `folder` that are empty then; fine when it is not there.
    pub(super) fn delete(&self, folder: &Path, name: &str) -> io::Result<()> {
        let folder = self.root.join(folder);
        let full = folder.join(name);
        match std::fs::remove_file(&full) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.answers(),
            Err(error) => return Err(error),
        }
        let mut parent = full.parent();
        while let Some(path) = parent {
            // Not empty, or gone by another's hand: either is the end of the way up.
            if path == folder || !path.starts_with(&folder) || std::fs::remove_dir(path).is_err() {
                break;
            }
            parent = path.parent();
        }
        parent.filter(|p| p.is_dir()).map_or(Ok(()), sync_dir)
    }

    /// The names in a directory, ascending by bytes.
    pub(super) fn list(
        &self,
        folder: &Path,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> io::Result<Vec<ListRow>> {
        let root = self.root.join(folder);
        let mut found = Vec::new();
        if let Err(error) = walk(&root, "", prefix, &mut found) {
            return self.absent(error);
        }
        found.retain(|row| {
            row.name.starts_with(prefix) && after.is_none_or(|after| row.name.as_str() > after)
        });
        found.sort();
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(found)
    }

    /// Removes a directory without objects. Errors: it has some (`AlreadyExists`).
    pub(super) fn delete_folder(&self, folder: &Path) -> io::Result<()> {
        let path = self.root.join(folder);
        match self.list(folder, "", None, 1) {
            Ok(found) if found.is_empty() => std::fs::remove_dir_all(&path)?,
            Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        sync_dir(&self.root)
    }
}

fn walk(directory: &Path, name: &str, prefix: &str, found: &mut Vec<ListRow>) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(file) = entry.file_name().into_string() else {
            continue;
        };
        if file.starts_with('.') {
            continue;
        }
        let path = if name.is_empty() {
            file
        } else {
            format!("{name}/{file}")
        };
        // Only branches that can hold a name with the prefix.
        let common = path.len().min(prefix.len());
        if path.as_bytes().get(..common) != prefix.as_bytes().get(..common) {
            continue;
        }
        // Deleted by another since the directory was read: not there.
        let Ok(meta) = entry.metadata() else {
            continue;
        };
        if meta.is_dir() {
            match walk(&entry.path(), &path, prefix, found) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        } else {
            let modified = (meta.modified().ok())
                .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
                .map_or(WallTime::NEVER, |since| WallTime(since.as_secs()));
            found.push(ListRow {
                name: path,
                bytes: ByteCount(meta.len()),
                modified,
            });
        }
    }
    Ok(())
}

fn same(there: &[u8], pieces: &[Bytes]) -> bool {
    let mut rest = there;
    for piece in pieces {
        match rest.strip_prefix(&**piece) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path(), true).unwrap();
        tree.create_folder(Path::new("c")).unwrap();
        (dir, tree)
    }

    fn bytes(text: &'static str) -> Vec<Bytes> {
        text.as_bytes().chunks(2).map(Bytes::from_static).collect()
    }

    #[test]
    fn a_name_never_changes_its_content() {
        let (_dir, tree) = tree();
        let path = Path::new("c/versions/1");
        tree.put(path, &bytes("hello")).unwrap();
        tree.put(path, &bytes("hello")).unwrap();
        for other in ["hell", "hello!", "jello", ""] {
            let error = tree.put(path, &bytes(other)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        }
        assert_eq!(tree.get(path, None).unwrap(), "hello");
        let error = tree.create(path, &bytes("hello")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn one_of_many_creators_wins() {
        let (_dir, tree) = tree();
        let path = Path::new("c/claims/1");
        let wins = std::thread::scope(|s| {
            let tries: Vec<_> = (0..8)
                .map(|_| s.spawn(|| tree.create(path, &bytes("me")).is_ok()))
                .collect();
            tries
                .into_iter()
                .map(|t| t.join().unwrap())
                .filter(|won| *won)
                .count()
        });
        assert_eq!(wins, 1);
    }

    #[test]
    fn a_range_behind_the_end_is_an_error() {
        let (_dir, tree) = tree();
        let path = Path::new("c/x");
        tree.put(path, &bytes("0123456789")).unwrap();
        assert_eq!(tree.get(path, Some(2..5)).unwrap(), "234");
        assert_eq!(tree.get(path, Some(0..10)).unwrap().len(), 10);
        for range in [5..11, 10..11, u64::MAX - 1..u64::MAX] {
            let error = tree.get(path, Some(range)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn an_object_without_container_is_refused() {
        let (_dir, tree) = tree();
        let error = tree.put(Path::new("d/x"), &bytes("x")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_store_that_is_not_mounted_knows_nothing() {
        let (dir, tree) = tree();
        std::fs::remove_file(dir.path().join(MARK)).unwrap();
        let error = tree.get(Path::new("c/x"), None).unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::NotFound);
        assert!(tree.folders().is_err());
        assert!(tree.put(Path::new("e/x"), &bytes("x")).is_err());
    }

    #[test]
    fn a_directory_of_other_things_is_no_store() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("letter"), "dear").unwrap();
        assert!(Tree::open(dir.path(), true).is_err());
    }

    #[test]
    fn lists_by_prefix_in_byte_order() {
        let (_dir, tree) = tree();
        for name in [
            "volume",
            "chunks/2/b",
            "chunks/1/a",
            "chunks/10/c",
            "claims/1",
        ] {
            tree.put(&Path::new("c").join(name), &bytes("x")).unwrap();
        }
        let list = |prefix, after, limit| {
            let found = tree.list(Path::new("c"), prefix, after, limit).unwrap();
            let names: Vec<String> = found.into_iter().map(|row| row.name).collect();
            names.join(" ")
        };
        assert_eq!(
            list("", None, 100),
            "chunks/1/a chunks/10/c chunks/2/b claims/1 volume"
        );
        assert_eq!(list("chunks/1", None, 100), "chunks/1/a chunks/10/c");
        assert_eq!(list("chunks/", Some("chunks/10/c"), 100), "chunks/2/b");
        assert_eq!(list("c", None, 2), "chunks/1/a chunks/10/c");
        assert_eq!(list("nothing", None, 2), "");
    }

    #[test]
    fn delete_removes_what_gets_empty_and_no_more() {
        let (dir, tree) = tree();
        let folder = Path::new("c");
        for name in ["chunks/1/a", "chunks/1/b"] {
            tree.put(&folder.join(name), &bytes("x")).unwrap();
        }
        tree.delete(folder, "chunks/1/a").unwrap();
        tree.delete(folder, "chunks/1/a").unwrap();
        assert!(dir.path().join("c/chunks/1/b").exists());
        assert!(tree.delete_folder(folder).is_err());
        tree.delete(folder, "chunks/1/b").unwrap();
        assert!(!dir.path().join("c/chunks").exists());
        assert!(dir.path().join("c").exists());
        tree.delete_folder(folder).unwrap();
        tree.delete_folder(folder).unwrap();
        assert!(tree.folders().unwrap().is_empty());
    }
}
