//! The small objects of a generation: claims and opened carry a token, doors a constant.

use crate::codec::{Magic, Malformed, Put, Unreadable, begin, open_whole, seal};
use crate::effect::Token;
use crate::ids::{Holder, StateDirId};
use crate::table::codec::{put_root_name, read_root_name};
use crate::time::WallTime;
use alloc::vec::Vec;

/// Longest host name, in bytes.
pub const HOST_MAX: usize = 63;

/// The token as bytes, at most 200.
///
/// Panics when the host's name is longer than [`HOST_MAX`].
pub fn emit(token: &Token) -> Vec<u8> {
    let host = &token.holder.host;
    assert!(host.len() <= HOST_MAX, "host name of {} bytes", host.len());
    let mut out = Vec::new();
    begin(&mut out);
    out.put_attach(token.attach);
    out.put_u64(token.holder.state_dir.0);
    out.put_u64(token.holder.since.0);
    out.put_u8(u8::from(token.base.is_some()));
    out.put(&[0; 7]);
    if let Some(base) = &token.base {
        put_root_name(&mut out, base);
    }
    out.put_text(host);
    seal(&mut out, Magic::TOKEN, 0);
    out
}

/// Reads a token.
///
/// # Errors
///
/// Anything but what [`emit`] made.
pub fn parse(bytes: &[u8]) -> Result<Token, Unreadable> {
    let mut fields = open_whole(bytes, Magic::TOKEN)?;
    let (attach, state_dir) = (fields.attach()?, StateDirId(fields.u64()?));
    let since = WallTime(fields.u64()?);
    let has_base = fields.flag("base")?;
    fields.zeros(7)?;
    let base = has_base.then(|| read_root_name(&mut fields)).transpose()?;
    let host = fields.text("host")?;
    fields.end()?;
    if host.len() > HOST_MAX {
        return Err(Malformed::Value("host").into());
    }
    let holder = Holder {
        host: host.into(),
        state_dir,
        since,
    };
    Ok(Token {
        attach,
        holder,
        base,
    })
}

/// The bytes of every door.
pub fn door() -> Vec<u8> {
    let mut out = Vec::new();
    begin(&mut out);
    seal(&mut out, Magic::DOOR, 0);
    out
}
