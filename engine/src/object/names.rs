//! Names in the store: lower-case fixed-width hex, each carrying who wrote it.
//!
//! ```text
//! volume                                            superblock
//! claims/<g>  doors/<g>  opened/<g>                 a generation's three small objects
//! versions/<v>.<g>-<nonce>                          root
//! tables/<v>/<g>-<nonce>.<serial>                   leaves that do not ride in a root
//! chunks/<v>/<first>-<last>.<g>-<nonce>.<serial>    sections of the chunks first…last
//! ```
//!
//! A published name holds one content for ever and is never reused (P4): it carries the version, the attach id that one
//! attempt of one process drew, and a serial.
//!
//! Numbers have 8 digits (a number that needs more has more, without leading zeros), nonces 16. Parsing accepts only
//! what emitting makes, so that one object has one name.

use crate::ids::{AttachId, Generation, Version};
use crate::units::ChunkIndex;
use core::fmt;

/// The name of an object within its volume's container.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ObjectName {
    /// The superblock.
    Volume,
    /// Who tries for a generation.
    Claim(Generation),
    /// Whether the generation below is shut. Its bytes are a constant.
    Door(Generation),
    /// Who won a generation.
    Opened(Generation),
    /// A root.
    Root(RootName),
    /// Packed leaves.
    Leaves(LeavesName),
    /// Sections of chunks.
    Data(DataName),
}

/// `versions/<v>.<g>-<nonce>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RootName {
    /// The version that the root describes.
    pub version: Version,
    /// Who wrote it.
    pub attach: AttachId,
}

/// `tables/<v>/<g>-<nonce>.<serial>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LeavesName {
    /// The version that first used these leaves.
    pub version: Version,
    /// Who wrote them.
    pub attach: AttachId,
    /// Distinguishes the objects of one attachment.
    pub serial: u32,
}

/// `chunks/<v>/<first>-<last>.<g>-<nonce>.<serial>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DataName {
    /// The version that first used these sections.
    pub version: Version,
    /// First chunk with a section here.
    pub first: ChunkIndex,
    /// Last chunk with a section here, inclusive.
    pub last: ChunkIndex,
    /// Who wrote it.
    pub attach: AttachId,
    /// Distinguishes the objects of one attachment.
    pub serial: u32,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume => f.write_str("volume"),
            Self::Claim(g) => write!(f, "claims/{:08x}", g.0),
            Self::Door(g) => write!(f, "doors/{:08x}", g.0),
            Self::Opened(g) => write!(f, "opened/{:08x}", g.0),
            Self::Root(name) => write!(f, "{name}"),
            Self::Leaves(name) => write!(f, "{name}"),
            Self::Data(name) => write!(f, "{name}"),
        }
    }
}

impl fmt::Display for RootName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "versions/{:08x}.{}", self.version.0, self.attach)
    }
}

impl fmt::Display for LeavesName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            attach,
            serial,
        } = self;
        write!(f, "tables/{:08x}/{attach}.{serial:08x}", version.0)
    }
}

impl fmt::Display for DataName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            first,
            last,
            attach,
            serial,
        } = self;
        let (v, first, last) = (version.0, first.0, last.0);
        write!(
            f,
            "chunks/{v:08x}/{first:08x}-{last:08x}.{attach}.{serial:08x}"
        )
    }
}

impl ObjectName {
    /// Reads a name as [`fmt::Display`] writes it; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let Some((folder, rest)) = text.split_once('/') else {
            return (text == "volume").then_some(Self::Volume);
        };
        Some(match folder {
            "claims" => Self::Claim(Generation(number(rest)?)),
            "doors" => Self::Door(Generation(number(rest)?)),
            "opened" => Self::Opened(Generation(number(rest)?)),
            "versions" => {
                let (version, attach) = rest.split_once('.')?;
                Self::Root(RootName {
                    version: Version(number(version)?),
                    attach: attach_id(attach)?,
                })
            }
            "tables" => {
                let (version, rest) = rest.split_once('/')?;
                let (attach, serial) = rest.split_once('.')?;
                Self::Leaves(LeavesName {
                    version: Version(number(version)?),
                    attach: attach_id(attach)?,
                    serial: u32::try_from(number(serial)?).ok()?,
                })
            }
            "chunks" => {
                let (version, rest) = rest.split_once('/')?;
                let (span, rest) = rest.split_once('.')?;
                let (first, last) = span.split_once('-')?;
                let (attach, serial) = rest.split_once('.')?;
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return None;
                }
                Self::Data(DataName {
                    version: Version(number(version)?),
                    first: ChunkIndex(first),
                    last: ChunkIndex(last),
                    attach: attach_id(attach)?,
                    serial: u32::try_from(number(serial)?).ok()?,
                })
            }
            _ => return None,
        })
    }
}

fn attach_id(text: &str) -> Option<AttachId> {
    let (generation, nonce) = text.split_once('-')?;
    Some(AttachId {
        generation: Generation(number(generation)?),
        nonce: (nonce.len() == 16).then(|| hex(nonce))??,
    })
}

/// 8 digits, or up to 16 when the first is not 0.
fn number(text: &str) -> Option<u64> {
    let is_canonical = match text.len() {
        8 => true,
        9..=16 => !text.starts_with('0'),
        _ => false,
    };
    is_canonical.then(|| hex(text))?
}

/// Lower-case hex only; the caller has checked that at most 16 digits come.
fn hex(text: &str) -> Option<u64> {
    text.bytes().try_fold(0_u64, |n, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(n << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    const ATTACH: AttachId = AttachId {
        generation: Generation(0x12),
        nonce: 0x00ab_cdef_0123_4567,
    };

    #[track_caller]
    fn check(name: ObjectName, text: &str) {
        assert_eq!(name.to_string(), text);
        assert_eq!(ObjectName::parse(text), Some(name));
    }

    #[test]
    fn names_have_fixed_widths() {
        check(ObjectName::Volume, "volume");
        check(ObjectName::Claim(Generation(1)), "claims/00000001");
        check(ObjectName::Door(Generation(0xab)), "doors/000000ab");
        check(ObjectName::Opened(Generation(16)), "opened/00000010");
        check(
            ObjectName::Root(RootName {
                version: Version(41),
                attach: ATTACH,
            }),
            "versions/00000029.00000012-00abcdef01234567",
        );
        check(
            ObjectName::Leaves(LeavesName {
                version: Version(0),
                attach: ATTACH,
                serial: 7,
            }),
            "tables/00000000/00000012-00abcdef01234567.00000007",
        );
        check(
            ObjectName::Data(DataName {
                version: Version(3),
                first: ChunkIndex(0),
                last: ChunkIndex(0x4ff),
                attach: ATTACH,
                serial: u32::MAX,
            }),
            "chunks/00000003/00000000-000004ff.00000012-00abcdef01234567.ffffffff",
        );
        check(
            ObjectName::Claim(Generation(u64::MAX)),
            "claims/ffffffffffffffff",
        );
    }

    #[test]
    fn refuses_what_it_would_not_write() {
        for text in [
            "",
            "/",
            "Volume",
            "volume/",
            "claims",
            "claims/",
            "claims/1",
            "claims/0000000A",
            "claims/000000001",
            "claims/00000001/",
            "claims/00000000000000001",
            "doors/+0000001",
            "versions/00000001",
            "versions/00000001.00000001-1",
            "versions/00000001.00000001",
            "tables/00000001/00000012-00abcdef01234567",
            "tables/00000001/00000012-00abcdef01234567.100000000",
            "chunks/00000001/00000001.00000012-00abcdef01234567.00000001",
            "chunks/00000001/00000002-00000001.00000012-00abcdef01234567.00000001",
            "chunks/00000001/é0000001-00000001.00000012-00abcdef01234567.00000001",
            "other/00000001",
        ] {
            assert_eq!(ObjectName::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn parse_accepts_only_canonical_text(text in "(claims|doors|versions|tables|chunks)/[0-9a-f./-]{0,80}") {
            if let Some(name) = ObjectName::parse(&text) {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
