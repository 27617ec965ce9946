//! Identities: who, which attempt, which version, which place in the history.

use crate::units::unit;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

unit!(/// Position in the history of accepted writes. 0 is before the first write.
    Seq);
unit!(/// Number of a published state: 0 as born, then 1, 2, 3 …
    Version);
unit!(/// Number of an attachment in the volume's history. 1 is the one that bore the volume; 0 is none.
    Generation);
unit!(/// The front end's name for a command in flight. Unique among those in flight.
    Tag);
unit!(/// The operator's name for a wish in flight. Unique among those in flight.
    WishId);
unit!(/// Name of an effect under way; the world answers each exactly once.
    EffectId);
unit!(/// One of the journal's files. The local adapter names the file by this number.
    FileId);
unit!(/// One use of a journal file. Never reused within a state directory's volume.
    Lap);

/// A volume's identity: 128 random bits, drawn once at birth. The unit's NAA id derives from it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct VolumeId(pub [u8; 16]);

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VolumeId({self})")
    }
}

/// A generation and the nonce drawn for one attempt to attach. Part of every name that this attempt writes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AttachId {
    /// The generation claimed.
    pub generation: Generation,
    /// 64 random bits, drawn for each attempt.
    pub nonce: u64,
}

impl fmt::Debug for AttachId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for AttachId {
    /// As in object names: `<g>-<nonce>`, 8 and 16 lower-case hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:016x}", self.generation.0, self.nonce)
    }
}

/// The identity of a state directory: 64 random bits, drawn when it was made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct StateDirId(pub u64);

/// A wish's key: asking twice with one key for a snapshot gives one snapshot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WishKey(pub u64);

/// The hash of a root or leaf: the first 128 bits of its BLAKE3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash(pub [u8; 16]);

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// A container without the configured prefix: `<name>.<volume-id>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Container {
    /// The volume's name: `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
    pub name: Arc<str>,
    /// The volume's id.
    pub id: VolumeId,
}

impl Container {
    /// The container of the volume `id` named `name`.
    pub fn new(name: &str, id: VolumeId) -> Self {
        Self {
            name: name.into(),
            id,
        }
    }

    /// Whether `name` is a volume name: 1 to 63 of `a-z 0-9 -`, with no `-` at either end.
    pub fn is_volume_name(name: &str) -> bool {
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        (1..=63).contains(&name.len())
            && name.as_bytes().iter().all(inner)
            && !name.starts_with('-')
            && !name.ends_with('-')
    }

    /// Reads `<name>.<volume-id>`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, hex) = text.rsplit_once('.')?;
        if !Self::is_volume_name(name) || hex.len() != 32 {
            return None;
        }
        let mut id = [0_u8; 16];
        for (byte, pair) in id.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let digit = |b: u8| match b {
                b'0'..=b'9' => Some(b - b'0'),
                b'a'..=b'f' => Some(b - b'a' + 10),
                _ => None,
            };
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self::new(name, VolumeId(id)))
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.id)
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Who holds or held an attachment, as `claims/<g>` and `opened/<g>` tell it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Holder {
    /// Host name, at most 63 bytes.
    pub host: String,
    /// The state directory that keeps the journal.
    pub state_dir: StateDirId,
    /// When the attempt was made, by that host's clock.
    pub since: crate::time::WallTime,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn volume_names_are_lower_case_letters_digits_and_inner_hyphens() {
        for name in ["a", "0", "a-b", "web-7", "a--b", &"x".repeat(63)] {
            assert!(Container::is_volume_name(name), "{name:?}");
        }
        for name in ["", "-", "-a", "a-", "A", "a.b", "a_b", "ä", &"x".repeat(64)] {
            assert!(!Container::is_volume_name(name), "{name:?}");
        }
    }

    #[test]
    fn a_container_is_a_name_and_32_lower_case_digits() {
        let id = VolumeId([
            0x09, 0x10, 0x5a, 0xaf, 0xf0, 0xfa, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
        ]);
        let text = "web-7.09105aaff0fa060708090a0b0c0d0e0f";
        assert_eq!(Container::new("web-7", id).to_string(), text);
        assert_eq!(Container::parse(text), Some(Container::new("web-7", id)));
        for text in [
            "web-7",
            ".09105aaff0fa060708090a0b0c0d0e0f",
            "-web.09105aaff0fa060708090a0b0c0d0e0f",
            "web.09105aaff0fa060708090a0b0c0d0e0",
            "web.09105aaff0fa060708090a0b0c0d0e0f0",
            "web.09105Aaff0fa060708090a0b0c0d0e0f",
            "web.09105aaff0fa060708090a0b0c0d0e0g",
            "web.0910:aaff0fa060708090a0b0c0d0e0f",
            "web.x.09105aaff0fa060708090a0b0c0d0e0f",
        ] {
            assert_eq!(Container::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_attach_id_is_written_as_in_object_names() {
        let attach = AttachId {
            generation: Generation(0x1f),
            nonce: 0xab,
        };
        assert_eq!(attach.to_string(), "0000001f-00000000000000ab");
    }
}
