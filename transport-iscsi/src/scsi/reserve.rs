//! Reservations of one unit: RESERVE (6) and PERSISTENT RESERVE. SPC-4 §5.13, "Reservations"; SPC-2 §5.5, "Reservations".
//!
//! Invariant  a persistent reservation that is not "all registrants" has a holder that is registered.
//! Not here   who is told (the caller posts the attentions), keeping registrations over a restart (PTPL_C is 0).

use super::cdb::Access;
use super::{Sense, cut};
use std::sync::Arc;

/// An initiator port; with our one target port it makes an I_T nexus. RFC 7143 §4.4.1, "iSCSI Architecture Model".
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nexus {
    /// The initiator's name.
    pub initiator: Arc<str>,
    /// The initiator's part of the session's name.
    pub isid: [u8; 6],
}

/// Types of persistent reservation. SPC-4 §6.15.3.4, "TYPE field".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names are the standard's
pub enum Kind {
    WriteExclusive,
    ExclusiveAccess,
    WriteExclusiveRegistrantsOnly,
    ExclusiveAccessRegistrantsOnly,
    WriteExclusiveAllRegistrants,
    ExclusiveAccessAllRegistrants,
}

impl Kind {
    const fn parse(bits: u8) -> Option<Self> {
        Some(match bits {
            1 => Self::WriteExclusive,
            3 => Self::ExclusiveAccess,
            5 => Self::WriteExclusiveRegistrantsOnly,
            6 => Self::ExclusiveAccessRegistrantsOnly,
            7 => Self::WriteExclusiveAllRegistrants,
            8 => Self::ExclusiveAccessAllRegistrants,
            _ => return None,
        })
    }

    const fn bits(self) -> u8 {
        match self {
            Self::WriteExclusive => 1,
            Self::ExclusiveAccess => 3,
            Self::WriteExclusiveRegistrantsOnly => 5,
            Self::ExclusiveAccessRegistrantsOnly => 6,
            Self::WriteExclusiveAllRegistrants => 7,
            Self::ExclusiveAccessAllRegistrants => 8,
        }
    }

    const fn is_all_registrants(self) -> bool {
        self.bits() >= 7
    }

    const fn lets_registrants_in(self) -> bool {
        self.bits() >= 5
    }

    const fn lets_others_read(self) -> bool {
        matches!(
            self,
            Self::WriteExclusive
                | Self::WriteExclusiveRegistrantsOnly
                | Self::WriteExclusiveAllRegistrants
        )
    }
}

#[derive(Clone, Debug)]
struct Registrant {
    nexus: Nexus,
    key: u64,
}

#[derive(Clone, Debug)]
struct Held {
    kind: Kind,
    /// For "all registrants" whoever reserved; every registrant holds it.
    by: Nexus,
}

/// All reservations of a unit.
#[derive(Clone, Debug, Default)]
pub struct Reservations {
    generation: u32,
    registrants: Vec<Registrant>,
    held: Option<Held>,
    /// RESERVE (6).
    exclusive: Option<Nexus>,
}

/// Why a command may not go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Denied {
    /// RESERVATION CONFLICT.
    Conflict,
    /// CHECK CONDITION.
    Check(Sense),
}

/// What others must be told after a PERSISTENT RESERVE OUT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Unit attentions.
    pub attentions: Vec<(Nexus, Sense)>,
    /// Whose commands to abort (PREEMPT AND ABORT).
    pub aborted: Vec<Nexus>,
}

/// Most registrants of a unit.
const REGISTRANTS_MAX: usize = 128;
/// Bytes of a PERSISTENT RESERVE OUT parameter list.
const LIST_BYTES: usize = 24;

impl Reservations {
    /// Whether nobody reserved anything: then no command needs to ask.
    pub const fn is_idle(&self) -> bool {
        self.held.is_none() && self.exclusive.is_none()
    }

    /// Whether `nexus` may run a command of this access.
    pub fn allows(&self, nexus: &Nexus, access: Access) -> bool {
        if matches!(access, Access::Free | Access::Own) {
            return true;
        }
        if self
            .exclusive
            .as_ref()
            .is_some_and(|holder| holder != nexus)
        {
            return false;
        }
        let Some(held) = &self.held else {
            return true;
        };
        // Who reserved for all registrants may have unregistered since.
        let is_registered = self.key_of(nexus).is_some() || bug!("who-left-still-holds");
        is_registered && (held.by == *nexus || held.kind.lets_registrants_in())
            || held.kind.lets_others_read() && access == Access::Read
    }

    fn key_of(&self, nexus: &Nexus) -> Option<u64> {
        let registrant = self.registrants.iter().find(|r| r.nexus == *nexus);
        registrant.map(|r| r.key)
    }

    /// RESERVE (6).
    ///
    /// # Errors
    ///
    /// Another holds the unit, or persistent reservations are in use.
    pub fn reserve(&mut self, nexus: &Nexus) -> Result<(), Denied> {
        let is_taken = self
            .exclusive
            .as_ref()
            .is_some_and(|holder| holder != nexus);
        if is_taken || !self.registrants.is_empty() {
            return Err(Denied::Conflict);
        }
        self.exclusive = Some(nexus.clone());
        Ok(())
    }

    /// RELEASE (6), or the end of the nexus: of no effect unless it is the holder.
    pub fn release(&mut self, nexus: &Nexus) {
        if self.exclusive.as_ref() == Some(nexus) {
            self.exclusive = None;
        }
    }

    /// A reset: what RESERVE (6) made ends, persistent reservations stay.
    pub fn reset(&mut self) {
        self.exclusive = None;
    }

    /// PERSISTENT RESERVE IN parameter data. SPC-4 §6.15, "PERSISTENT RESERVE IN command".
    pub fn report(&self, action: u8, allocation: u32) -> Vec<u8> {
        let with_header = |body: Vec<u8>| {
            let mut out = self.generation.to_be_bytes().to_vec();
            // At most 128 registrants of some 300 bytes.
            out.extend((body.len() as u32).to_be_bytes());
            out.extend(body);
            out
        };
        let data = match action {
            0 => with_header(
                self.registrants
                    .iter()
                    .flat_map(|r| r.key.to_be_bytes())
                    .collect(),
            ),
            1 => with_header(self.reservation()),
            2 => vec![0, 8, 0, 0x80, 0xea, 0x01, 0, 0],
            _ => with_header(self.full_status()),
        };
        cut(data, allocation)
    }

    fn reservation(&self) -> Vec<u8> {
        let Some(held) = &self.held else {
            return Vec::new();
        };
        let key = if held.kind.is_all_registrants() {
            0
        } else {
            self.key_of(&held.by).unwrap_or(0)
        };
        let mut out = key.to_be_bytes().to_vec();
        out.extend([0, 0, 0, 0, 0, held.kind.bits(), 0, 0]);
        out
    }

    /// SPC-4 §6.15.5, "READ FULL STATUS service action".
    fn full_status(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for r in &self.registrants {
            let held = self
                .held
                .as_ref()
                .filter(|h| h.kind.is_all_registrants() || h.by == r.nexus);
            let transport_id = transport_id(&r.nexus);
            out.extend(r.key.to_be_bytes());
            out.extend([0; 4]);
            out.extend([u8::from(held.is_some()), held.map_or(0, |h| h.kind.bits())]);
            out.extend([0, 0, 0, 0, 0, 1]); // relative target port 1
            out.extend((transport_id.len() as u32).to_be_bytes());
            out.extend(transport_id);
        }
        out
    }

    /// PERSISTENT RESERVE OUT. SPC-4 §6.16, "PERSISTENT RESERVE OUT command".
    ///
    /// # Errors
    ///
    /// A conflict, or a CDB or parameter list that says what cannot be.
    pub fn change(
        &mut self,
        nexus: &Nexus,
        action: u8,
        scope_type: u8,
        list: &[u8],
    ) -> Result<Told, Denied> {
        let (key, action_key) = parse_list(list)?;
        if self
            .exclusive
            .as_ref()
            .is_some_and(|holder| holder != nexus)
        {
            return Err(Denied::Conflict);
        }
        let own = self.key_of(nexus);
        match action {
            0 => {
                if own.unwrap_or(0) != key {
                    return Err(Denied::Conflict);
                }
                self.register(nexus, own, action_key)
            }
            6 => self.register(nexus, own, action_key),
            _ if own != Some(key) => Err(Denied::Conflict),
            1 => self.take(nexus, kind_of(scope_type)?),
            2 => self.give_up(nexus, scope_type),
            3 => Ok(self.clear(nexus)),
            _ => self.preempt(nexus, kind_of(scope_type)?, action_key, action == 5),
        }
    }

    fn register(&mut self, nexus: &Nexus, own: Option<u64>, key: u64) -> Result<Told, Denied> {
        match (own, key) {
            (None, 0) => return Ok(Told::default()),
            (None, key) => {
                if self.registrants.len() >= REGISTRANTS_MAX {
                    return Err(Denied::Check(Sense::INSUFFICIENT_REGISTRATION_RESOURCES));
                }
                self.registrants.push(Registrant {
                    nexus: nexus.clone(),
                    key,
                });
            }
            (Some(_), 0) => {
                self.generation = self.generation.wrapping_add(1);
                return Ok(self.unregister(nexus));
            }
            (Some(_), key) => {
                let registrants = self.registrants.iter_mut();
                registrants
                    .filter(|r| r.nexus == *nexus)
                    .for_each(|r| r.key = key);
            }
        }
        self.generation = self.generation.wrapping_add(1);
        Ok(Told::default())
    }

    fn unregister(&mut self, nexus: &Nexus) -> Told {
        self.registrants.retain(|r| r.nexus != *nexus);
        let Some(held) = &self.held else {
            return Told::default();
        };
        let kind = held.kind;
        let ends = if kind.is_all_registrants() {
            self.registrants.is_empty()
        } else {
            held.by == *nexus
        };
        if !ends {
            return Told::default();
        }
        self.held = None;
        self.released(nexus, kind)
    }

    /// The other registrants hear that a reservation which let them in has ended.
    fn released(&self, but: &Nexus, kind: Kind) -> Told {
        if !kind.lets_registrants_in() {
            return Told::default();
        }
        self.attention(but, Sense::RESERVATIONS_RELEASED)
    }

    fn attention(&self, but: &Nexus, sense: Sense) -> Told {
        let others = self.registrants.iter().filter(|r| r.nexus != *but);
        Told {
            attentions: others.map(|r| (r.nexus.clone(), sense)).collect(),
            aborted: Vec::new(),
        }
    }

    fn is_holder(&self, nexus: &Nexus) -> bool {
        self.held
            .as_ref()
            .is_some_and(|h| h.by == *nexus || h.kind.is_all_registrants())
    }

    fn take(&mut self, nexus: &Nexus, kind: Kind) -> Result<Told, Denied> {
        match &self.held {
            Some(held) if !self.is_holder(nexus) || held.kind != kind => Err(Denied::Conflict),
            Some(_) => Ok(Told::default()),
            None => {
                self.held = Some(Held {
                    kind,
                    by: nexus.clone(),
                });
                Ok(Told::default())
            }
        }
    }

    fn give_up(&mut self, nexus: &Nexus, scope_type: u8) -> Result<Told, Denied> {
        if !self.is_holder(nexus) {
            return Ok(Told::default());
        }
        match &self.held {
            Some(held) if held.kind.bits() != scope_type => {
                Err(Denied::Check(Sense::INVALID_RELEASE))
            }
            Some(held) => {
                let kind = held.kind;
                self.held = None;
                Ok(self.released(nexus, kind))
            }
            None => Ok(Told::default()),
        }
    }

    fn clear(&mut self, nexus: &Nexus) -> Told {
        let told = self.attention(nexus, Sense::RESERVATIONS_PREEMPTED);
        self.registrants.clear();
        self.held = None;
        self.generation = self.generation.wrapping_add(1);
        told
    }

    fn preempt(
        &mut self,
        nexus: &Nexus,
        kind: Kind,
        victim: u64,
        abort: bool,
    ) -> Result<Told, Denied> {
        let held_by_all = self
            .held
            .as_ref()
            .is_some_and(|h| h.kind.is_all_registrants());
        if victim == 0 && !held_by_all {
            return Err(Denied::Check(Sense::parameter_field(8, None)));
        }
        let is_victim = |r: &Registrant| r.nexus != *nexus && (victim == 0 || r.key == victim);
        if victim != 0 && !self.registrants.iter().any(|r| r.key == victim) {
            return Err(Denied::Conflict);
        }
        let old = self.held.clone();
        let takes = match &old {
            Some(held) if held.kind.is_all_registrants() => victim == 0,
            Some(held) => {
                self.key_of(&held.by) == Some(victim) && !bug!("preemption-takes-nothing")
            }
            None => false,
        };
        let gone: Vec<Nexus> = self
            .registrants
            .iter()
            .filter(|r| is_victim(r))
            .map(|r| r.nexus.clone())
            .collect();
        self.registrants.retain(|r| !is_victim(r));
        self.generation = self.generation.wrapping_add(1);
        let mut told = Told::default();
        if takes {
            self.held = Some(Held {
                kind,
                by: nexus.clone(),
            });
            if old.is_some_and(|h| h.kind != kind) {
                told = self.attention(nexus, Sense::RESERVATIONS_RELEASED);
            }
        }
        let preempted = gone
            .iter()
            .map(|n| (n.clone(), Sense::REGISTRATIONS_PREEMPTED));
        told.attentions.extend(preempted);
        if abort {
            told.aborted = gone;
        }
        Ok(told)
    }
}

/// The reservation key and the service action's key.
fn parse_list(list: &[u8]) -> Result<(u64, u64), Denied> {
    let list: &[u8; LIST_BYTES] = list
        .try_into()
        .map_err(|_| Denied::Check(Sense::PARAMETER_LIST_LENGTH_ERROR))?;
    let [
        k0,
        k1,
        k2,
        k3,
        k4,
        k5,
        k6,
        k7,
        a0,
        a1,
        a2,
        a3,
        a4,
        a5,
        a6,
        a7,
        ..,
    ] = *list;
    // SPEC_I_PT, ALL_TG_PT and APTPL are not offered (REPORT CAPABILITIES says so).
    if list[20] & 0x0d != 0 {
        return Err(Denied::Check(Sense::parameter_field(20, None)));
    }
    Ok((
        u64::from_be_bytes([k0, k1, k2, k3, k4, k5, k6, k7]),
        u64::from_be_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
    ))
}

/// Scope must be the whole unit (0).
fn kind_of(scope_type: u8) -> Result<Kind, Denied> {
    let bad = Denied::Check(Sense::cdb_field(2, None));
    if scope_type >> 4 != 0 {
        return Err(bad);
    }
    Kind::parse(scope_type).ok_or(bad)
}

/// SPC-4 §7.6.4.6, "TransportID for initiator ports using SCSI over iSCSI", format 01b.
fn transport_id(nexus: &Nexus) -> Vec<u8> {
    let isid = u64::from_be_bytes({
        let [a, b, c, d, e, f] = nexus.isid;
        [0, 0, a, b, c, d, e, f]
    });
    let mut name = format!("{},i,0x{isid:012x}", nexus.initiator).into_bytes();
    name.resize((name.len() + 1).next_multiple_of(4).max(20), 0);
    let [high, low] = (name.len() as u16).to_be_bytes();
    let mut out = vec![0x45, 0, high, low];
    out.extend(name);
    out
}

#[cfg(test)]
mod tests;
