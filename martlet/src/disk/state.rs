//! The state directory: who this host is to its volumes, and which they are.
//!
//! ```text
//! <state>/                 mode 0700
//!   lock                   held (flock) while a process runs on the directory (A4)
//!   identity.json          format, the directory's id and its journals' secret, the store; mode 0600
//!   volumes.json           the volumes that are served from here; replaced whole
//!   secrets/<name>.<id>    CHAP secrets of a volume, mode 0600; never in the store
//!   volumes/<name>.<id>/   journal and cache of a volume (see `disk`)
//!   admin.sock             where a running daemon takes commands
//!   store/                 the directory store, unless another is named
//! ```

use super::files;
use engine::ids::{Container, StateDirId};
use engine::journal::record::JournalKey;
use engine::table::types::VolumeKind;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const FORMAT: u32 = 1;

/// Why a state directory cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum StateError {
    /// Another process runs on it.
    Locked {
        /// Its process id, if it said.
        pid: Option<u32>,
    },
    /// A file in it is not what it should be, or of a newer format.
    Invalid {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Its volumes are in another store than the one that was named.
    OtherStore {
        /// Where they are.
        bound: String,
        /// What was named.
        named: String,
    },
    /// It cannot be made, read or written.
    Io {
        /// The file or directory.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl std::fmt::Display for StateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Locked { pid: Some(pid) } => write!(f, "held by process {pid}"),
            Self::Locked { pid: None } => f.write_str("held by another process"),
            Self::OtherStore { bound, named } => {
                write!(f, "its volumes are in {bound}, and {named} was named")
            }
            Self::Invalid { file, why } => write!(f, "{}: {why}", file.display()),
            Self::Io { file, error } => write!(f, "{}: {error}", file.display()),
        }
    }
}

impl std::error::Error for StateError {}

#[derive(Serialize, Deserialize)]
struct Identity {
    format: u32,
    id: String,
    /// 128 random bits that journal records are bound to: a guest cannot write what looks like one.
    secret: String,
    /// The store that the volumes are in, once it was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    store: Option<String>,
}

#[derive(Serialize, Deserialize, Default)]
struct Catalogue {
    format: u32,
    volumes: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    volume: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unborn: bool,
    #[serde(default, rename = "type")]
    kind: Kind,
}

#[derive(Serialize, Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    #[default]
    Disk,
    ReadOnly,
    Removable,
}

impl From<VolumeKind> for Kind {
    fn from(kind: VolumeKind) -> Self {
        match kind {
            VolumeKind::Disk => Self::Disk,
            VolumeKind::ReadOnly => Self::ReadOnly,
            VolumeKind::Removable => Self::Removable,
        }
    }
}

impl From<Kind> for VolumeKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Disk => Self::Disk,
            Kind::ReadOnly => Self::ReadOnly,
            Kind::Removable => Self::Removable,
        }
    }
}

/// A volume of the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Name and id.
    pub container: Container,
    /// Its birth has not ended: not served, and not shown as a volume.
    pub unborn: bool,
    /// What kind of unit it is.
    pub kind: VolumeKind,
}

/// The container of an erased volume that is not gone yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leftover {
    /// The container.
    pub container: Container,
    /// Since when listings show it empty, in seconds since 1970.
    pub empty_since: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct LeftoverRow {
    container: String,
    empty_since: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Leftovers {
    format: u32,
    containers: Vec<LeftoverRow>,
}

/// A CHAP identity as kept in `secrets/`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// What the initiator says its name is.
    pub user: String,
    /// What both know.
    pub secret: String,
    /// What the target says when it is asked to prove itself: name and secret.
    #[serde(default)]
    pub mutual: Option<(String, String)>,
}

impl std::fmt::Debug for Secret {
    /// Secrets never show.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret")
            .field("user", &self.user)
            .field("mutual", &self.mutual.as_ref().map(|(name, _)| name))
            .finish_non_exhaustive()
    }
}

/// A state directory, held by this process.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    id: StateDirId,
    secret: [u8; 16],
    volumes: Mutex<Vec<Listed>>,
    /// Held as long as this lives; the kernel lets go when the process dies.
    _lock: File,
}

impl StateDir {
    /// Takes a state directory, making it where there is none.
    ///
    /// # Errors
    ///
    /// See [`StateError`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|e| io_error(path, e))?;
        let path = &path.canonicalize().map_err(|e| io_error(path, e))?;
        let lock = lock(&path.join("lock"))?;
        for name in ["secrets", "volumes"] {
            let dir = path.join(name);
            files::make_dir(&dir).map_err(|e| io_error(&dir, e))?;
        }
        let (id, secret) = identity(&path.join("identity.json"))?;
        let volumes = catalogue(&path.join("volumes.json"))?;
        Ok(Self {
            path: path.clone(),
            id,
            secret,
            volumes: Mutex::new(volumes),
            _lock: lock,
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its identity.
    pub const fn id(&self) -> StateDirId {
        self.id
    }

    /// What the records of a volume's journal are bound to.
    pub fn journal_key(&self, container: &Container) -> JournalKey {
        JournalKey::new(container.id, self.secret)
    }

    /// The store of this state directory's volumes, as `dir:PATH` or `swift:PREFIX`. `named`: what the operator says; it
    /// must be the same that was remembered while there are volumes. Nothing said ever: a directory inside.
    ///
    /// # Errors
    ///
    /// Another store was named before, and there are volumes; it cannot be read.
    pub fn which_store(&self, named: Option<&str>) -> Result<String, StateError> {
        let default = || self.inner_store();
        let bound = self.identity()?.store;
        let Some(named) = named else {
            return Ok(bound.unwrap_or_else(default));
        };
        let named = match named.strip_prefix("dir:") {
            // The same directory by another way of writing is the same store.
            Some(dir) => {
                let dir = std::path::absolute(dir).map_err(|e| io_error(Path::new(dir), e))?;
                format!("dir:{}", dir.display())
            }
            None => named.to_owned(),
        };
        let in_use = !self.lock().is_empty();
        let bound = bound.unwrap_or_else(default);
        match in_use && bound != named {
            true => Err(StateError::OtherStore { bound, named }),
            false => Ok(named),
        }
    }

    /// Remembers the store that [`StateDir::which_store`] told, once it is known to be one.
    ///
    /// # Errors
    ///
    /// It cannot be read or written.
    pub fn bind_store(&self, place: &str) -> Result<(), StateError> {
        let mut identity = self.identity()?;
        if identity.store.as_deref() == Some(place) {
            return Ok(());
        }
        identity.store = Some(place.to_owned());
        write_json(&self.identity_path(), &identity, 0o600)
    }

    /// The store inside, which is taken where none was ever named.
    pub fn inner_store(&self) -> String {
        format!("dir:{}", self.path.join("store").display())
    }

    fn identity_path(&self) -> PathBuf {
        self.path.join("identity.json")
    }

    fn identity(&self) -> Result<Identity, StateError> {
        let path = self.identity_path();
        read_json(&path)?.ok_or_else(|| invalid(&path, "it is gone"))
    }

    /// The volumes that are served from here, unborn ones too, in the order they came.
    pub fn volumes(&self) -> Vec<Listed> {
        self.lock().clone()
    }

    /// What the list says of a volume.
    pub fn listed(&self, container: &Container) -> Option<Listed> {
        let list = self.lock();
        list.iter().find(|l| l.container == *container).cloned()
    }

    /// Changes what the list says of a volume; one that is not there is added as a born disk first. Durable when done.
    ///
    /// # Errors
    ///
    /// The list cannot be written.
    pub fn update(
        &self,
        container: &Container,
        change: impl FnOnce(&mut Listed),
    ) -> Result<(), StateError> {
        self.change(|list| {
            if !list.iter().any(|l| l.container == *container) {
                list.push(Listed {
                    container: container.clone(),
                    unborn: false,
                    kind: VolumeKind::Disk,
                });
            }
            if let Some(listed) = list.iter_mut().find(|l| l.container == *container) {
                change(listed);
            }
        })
    }

    /// Takes a volume off the list. Durable when done; fine when it is not there.
    ///
    /// # Errors
    ///
    /// The list cannot be written.
    pub fn remove(&self, container: &Container) -> Result<(), StateError> {
        self.change(|list| list.retain(|l| l.container != *container))
    }

    /// Containers of erased volumes that are not gone yet.
    ///
    /// # Errors
    ///
    /// Their list cannot be read.
    pub fn leftovers(&self) -> Result<Vec<Leftover>, StateError> {
        let path = self.path.join("leftovers.json");
        let rows = read_json::<Leftovers>(&path)?.map_or_else(Vec::new, |l| l.containers);
        let leftover = |row: LeftoverRow| {
            let container = Container::parse(&row.container)
                .ok_or_else(|| invalid(&path, format!("{} is no volume", row.container)))?;
            Ok(Leftover {
                container,
                empty_since: row.empty_since,
            })
        };
        rows.into_iter().map(leftover).collect()
    }

    /// Replaces their list. Durable when done.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn set_leftovers(&self, left: &[Leftover]) -> Result<(), StateError> {
        if left == self.leftovers()? {
            return Ok(());
        }
        let row = |l: &Leftover| LeftoverRow {
            container: l.container.to_string(),
            empty_since: l.empty_since,
        };
        let all = Leftovers {
            format: FORMAT,
            containers: left.iter().map(row).collect(),
        };
        write_json(&self.path.join("leftovers.json"), &all, 0o600)
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Listed>)) -> Result<(), StateError> {
        let mut list = self.lock();
        let mut next = list.clone();
        change(&mut next);
        let rows = next.iter().map(|l| Row {
            volume: l.container.to_string(),
            unborn: l.unborn,
            kind: l.kind.into(),
        });
        let catalogue = Catalogue {
            format: FORMAT,
            volumes: rows.collect(),
        };
        write_json(&self.path.join("volumes.json"), &catalogue, 0o600)?;
        *list = next;
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Listed>> {
        // Every change of the list is whole.
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder of a volume's journal and cache.
    pub fn folder(&self, container: &Container) -> PathBuf {
        self.path.join("volumes").join(container.to_string())
    }

    /// The CHAP secrets of a volume, if it has some.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub fn secret(&self, container: &Container) -> Result<Option<Secret>, StateError> {
        read_json(&self.secret_path(container))
    }

    /// Sets or removes a volume's CHAP secrets. Durable when done.
    ///
    /// # Errors
    ///
    /// They cannot be written.
    pub fn set_secret(
        &self,
        container: &Container,
        secret: Option<&Secret>,
    ) -> Result<(), StateError> {
        let path = self.secret_path(container);
        match secret {
            Some(secret) => write_json(&path, secret, 0o600),
            None => match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(io_error(&path, error))
                }
                _ => Ok(()),
            },
        }
    }

    fn secret_path(&self, container: &Container) -> PathBuf {
        self.path.join("secrets").join(container.to_string())
    }
}

fn io_error(file: &Path, error: io::Error) -> StateError {
    StateError::Io {
        file: file.to_owned(),
        error,
    }
}

fn invalid(file: &Path, why: impl Into<String>) -> StateError {
    StateError::Invalid {
        file: file.to_owned(),
        why: why.into(),
    }
}

fn lock(path: &Path) -> Result<File, StateError> {
    use std::io::{Read, Seek, Write};
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|e| io_error(path, e))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // Only for the message: a file that cannot be read names nobody.
            let _ = (&file).take(32).read_to_string(&mut text);
            let pid = text.trim().parse().ok();
            return Err(StateError::Locked { pid });
        }
        Err(error) => return Err(io_error(path, error.into())),
    }
    let told = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    told.map_err(|e| io_error(path, e))?;
    Ok(file)
}

fn identity(path: &Path) -> Result<(StateDirId, [u8; 16]), StateError> {
    let found = match read_json::<Identity>(path)? {
        Some(found) => found,
        None => {
            let identity = Identity {
                format: FORMAT,
                id: format!("{:016x}", rand::random::<u64>()),
                secret: format!("{:032x}", rand::random::<u128>()),
                store: None,
            };
            write_json(path, &identity, 0o600)?;
            identity
        }
    };
    if found.format != FORMAT {
        return Err(invalid(
            path,
            format!("format {} is not known", found.format),
        ));
    }
    let id = u64::from_str_radix(&found.id, 16).ok();
    let secret = u128::from_str_radix(&found.secret, 16).ok();
    match (id, secret) {
        (Some(id), Some(secret)) => Ok((StateDirId(id), secret.to_be_bytes())),
        _ => Err(invalid(path, "id or secret is not a hex number")),
    }
}

fn catalogue(path: &Path) -> Result<Vec<Listed>, StateError> {
    let found = read_json::<Catalogue>(path)?.unwrap_or(Catalogue {
        format: FORMAT,
        volumes: Vec::new(),
    });
    if found.format != FORMAT {
        return Err(invalid(
            path,
            format!("format {} is not known", found.format),
        ));
    }
    let listed = |row: &Row| {
        Ok(Listed {
            container: Container::parse(&row.volume)
                .ok_or_else(|| invalid(path, format!("{} is no volume", row.volume)))?,
            unborn: row.unborn,
            kind: row.kind.into(),
        })
    };
    found.volumes.iter().map(listed).collect()
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, StateError> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| invalid(path, e.to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(path, error)),
    }
}

fn write_json<T: Serialize>(path: &Path, value: &T, mode: u32) -> Result<(), StateError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|e| invalid(path, e.to_string()))?;
    bytes.push(b'\n');
    files::replace(path, &bytes, mode).map_err(|e| io_error(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::ids::VolumeId;

    fn container(name: &str) -> Container {
        Container::new(name, VolumeId([5; 16]))
    }

    #[test]
    fn remembers_its_id_and_its_volumes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let first = StateDir::open(&path).unwrap();
        let id = first.id();
        first.update(&container("b"), |l| l.unborn = true).unwrap();
        first.update(&container("a"), |_| {}).unwrap();
        let set = |l: &mut Listed| l.kind = VolumeKind::Removable;
        first.update(&container("c"), set).unwrap();
        first.remove(&container("a")).unwrap();
        let before = first.volumes();
        drop(first);
        let again = StateDir::open(&path).unwrap();
        assert_eq!(again.id(), id);
        assert_eq!(again.volumes(), before);
        let names: Vec<&str> = before.iter().map(|l| &*l.container.name).collect();
        assert_eq!(names, ["b", "c"]);
        again.update(&container("b"), |l| l.unborn = false).unwrap();
        assert!(!again.listed(&container("b")).unwrap().unborn);
        assert_eq!(again.listed(&container("c")), Some(before[1].clone()));
    }

    #[test]
    fn volumes_stay_with_their_store() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let inside = state.which_store(None).unwrap();
        assert!(inside.starts_with("dir:/") && inside.ends_with("/store"));
        for named in ["swift:a-", "swift:b-"] {
            let place = state.which_store(Some(named)).unwrap();
            // Only asked: it may turn out to be none.
            assert_ne!(state.which_store(None).unwrap(), named);
            state.bind_store(&place).unwrap();
        }
        state.update(&container("a"), |_| {}).unwrap();
        assert_eq!(state.which_store(None).unwrap(), "swift:b-");
        assert!(matches!(
            state.which_store(Some("swift:a-")),
            Err(StateError::OtherStore { .. })
        ));
        assert_eq!(state.which_store(Some("swift:b-")).unwrap(), "swift:b-");
    }

    #[test]
    fn takes_one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path()).unwrap();
        let second = StateDir::open(dir.path());
        assert!(matches!(
            second,
            Err(StateError::Locked { pid: Some(pid) }) if pid == std::process::id()
        ));
        drop(first);
        StateDir::open(dir.path()).unwrap();
    }

    #[test]
    fn secrets_are_for_the_owner_alone_and_do_not_show() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let state = StateDir::open(&path).unwrap();
        let container = container("a");
        let secret = Secret {
            user: "guest".into(),
            secret: "swordfish-and-chips".into(),
            mutual: Some(("martlet".into(), "chips-and-swordfish".into())),
        };
        state.set_secret(&container, Some(&secret)).unwrap();
        assert_eq!(state.secret(&container).unwrap(), Some(secret.clone()));
        assert!(!format!("{secret:?}").contains("swordfish"));
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&state.secret_path(&container)), 0o600);
        assert_eq!(mode(&path), 0o700);
        state.set_secret(&container, None).unwrap();
        state.set_secret(&container, None).unwrap();
        assert_eq!(state.secret(&container).unwrap(), None);
    }

    #[test]
    fn a_list_of_a_newer_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("volumes.json"),
            r#"{"format": 2, "volumes": []}"#,
        )
        .unwrap();
        assert!(matches!(
            StateDir::open(dir.path()),
            Err(StateError::Invalid { .. })
        ));
    }
}
