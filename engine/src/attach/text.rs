//! Object names as text, and out of listings.

use crate::ids::{AttachId, Generation, Version};
use crate::object::names::{ObjectName, RootName};
use alloc::format;
use alloc::string::{String, ToString};

/// The names that begin so are claims.
pub(super) const CLAIMS: &str = "claims/";
/// The names that begin so are openeds.
pub(super) const OPENED: &str = "opened/";
/// The names that begin so are roots.
pub(super) const VERSIONS: &str = "versions/";

pub(super) fn of(name: &ObjectName) -> String {
    match name {
        ObjectName::Volume => "volume".to_string(),
        ObjectName::Claim(g) => format!("claims/{:08x}", g.0),
        ObjectName::Door(g) => format!("doors/{:08x}", g.0),
        ObjectName::Opened(g) => format!("opened/{:08x}", g.0),
        ObjectName::Root(n) => format!("versions/{:08x}.{}", n.version.0, n.attach),
        ObjectName::Leaves(n) => {
            format!("tables/{:08x}/{}.{:08x}", n.version.0, n.attach, n.serial)
        }
        ObjectName::Data(n) => format!(
            "chunks/{:08x}/{:08x}-{:08x}.{}.{:08x}",
            n.version.0, n.first.0, n.last.0, n.attach, n.serial
        ),
    }
}

/// The generation of a row `claims/<g>` or `opened/<g>`.
pub(super) fn generation(row: &str, prefix: &str) -> Option<Generation> {
    hex(row.strip_prefix(prefix)?, 8).map(Generation)
}

/// The name behind a row `versions/<v>.<g>-<nonce>`.
pub(super) fn root(row: &str) -> Option<RootName> {
    let (version, attach) = row.strip_prefix(VERSIONS)?.split_once('.')?;
    let (g, nonce) = attach.split_once('-')?;
    Some(RootName {
        version: Version(hex(version, 8)?),
        attach: AttachId {
            generation: Generation(hex(g, 8)?),
            nonce: hex(nonce, 16)?,
        },
    })
}

/// A number of exactly so many lower-case hex digits.
fn hex(text: &str, digits: usize) -> Option<u64> {
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (text.len() == digits && text.bytes().all(lower))
        .then(|| u64::from_str_radix(text, 16).ok())
        .flatten()
}
