//! The initiator's side of a login: what it offers, and whether the answers are what RFC 7143 §13 lets a target say.

use crate::choice::{Choices, Die};
use crate::config::Guard;
use crate::iscsi::chap::{Manner, Proof};
use crate::iscsi::pdu::Digests;
use std::collections::BTreeMap;

/// The target's name, in every run.
pub(crate) const TARGET: &str = "iqn.2011-05.io.martlet:disk";

/// How the text is spread over requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Style {
    /// All in one request, straight to full feature phase.
    Once,
    /// The security stage first.
    Stages,
    /// The text in two requests.
    Parts,
}

/// What an initiator offers; `None`: the key is not sent.
#[derive(Clone, Debug)]
pub(crate) struct Wishes {
    style: Style,
    header_digest: Option<&'static str>,
    data_digest: Option<&'static str>,
    max_recv: Option<u32>,
    max_burst: Option<u32>,
    first_burst: Option<u32>,
    initial_r2t: Option<bool>,
    immediate_data: Option<bool>,
    outstanding_r2t: Option<u32>,
}

/// What holds in the session, as its initiator understands it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Agreed {
    pub(crate) digests: Digests,
    /// Bytes of a data segment that the initiator takes, and that the target takes.
    pub(crate) max_recv: u32,
    pub(crate) max_send: u32,
    pub(crate) max_burst: u32,
    pub(crate) first_burst: u32,
    pub(crate) initial_r2t: bool,
    pub(crate) immediate_data: bool,
}

impl Default for Agreed {
    /// RFC 7143 §13: what holds where nothing is said.
    fn default() -> Self {
        Self {
            digests: Digests::default(),
            max_recv: 8192,
            max_send: 8192,
            max_burst: 262_144,
            first_burst: 65_536,
            initial_r2t: true,
            immediate_data: true,
        }
    }
}

/// A request of a login.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Say {
    /// Byte 1: T, C, CSG and NSG.
    pub(crate) flags: u8,
    pub(crate) text: Vec<u8>,
    /// The text is the answer to the target's challenge.
    pub(crate) proves: bool,
}

const TRANSIT: u8 = 0x80;
const CONTINUE: u8 = 0x40;

impl Wishes {
    /// Draws what the login of that number offers. `digests`: of a hundred logins, how many offer them.
    pub(crate) fn draw(choices: &mut Choices, login: u64, digests: u32) -> Self {
        let mut nth = 0;
        let mut pick = |of: u64| {
            nth += 1;
            choices.pick(Die::Keys, login, nth, of)
        };
        let wants = pick(100) >= 100 - u64::from(digests);
        let mut digest = || match pick(4) {
            _ if !wants => [None, Some("None")][pick(2) as usize],
            0 | 1 => Some("CRC32C,None"),
            2 => Some("CRC32C"),
            _ => Some("None,CRC32C"),
        };
        let (header_digest, data_digest) = (digest(), digest());
        let mut length = |lengths: &[u32]| {
            let at = pick(lengths.len() as u64 + 1) as usize;
            // The simplest choice leaves the key out.
            at.checked_sub(1).map(|at| lengths[at])
        };
        let max_recv = length(&[262_144, 65_536, 8192, 4096, 1000, 512, 16_777_215]);
        let max_burst = length(&[262_144, 16_776_192, 65_536, 8192, 4097, 512]);
        let first_burst = length(&[262_144, 65_536, 8192, 4096, 513, 512]);
        let outstanding_r2t = length(&[1, 8]);
        let mut boolean = || [None, Some(false), Some(true)][pick(3) as usize];
        let (initial_r2t, immediate_data) = (boolean(), boolean());
        let style = [Style::Once, Style::Stages, Style::Parts][pick(3) as usize];
        Self {
            style,
            header_digest,
            data_digest,
            max_recv,
            max_burst,
            // Never more than the burst: what the standard lets an initiator offer.
            first_burst: first_burst.map(|f| f.min(max_burst.unwrap_or(262_144))),
            initial_r2t,
            immediate_data,
            outstanding_r2t,
        }
    }

    /// The requests of the login, in order; each is sent when the one before is answered.
    pub(crate) fn requests(&self, initiator: &str, proof: &Proof) -> Vec<Say> {
        let mut names = Vec::new();
        push(&mut names, "InitiatorName", initiator);
        push(&mut names, "TargetName", TARGET);
        push(&mut names, "SessionType", "Normal");
        let mut keys = Vec::new();
        for (key, value) in self.keys() {
            push(&mut keys, key, &value);
        }
        let say = |flags, parts: &[&[u8]]| Say {
            flags,
            text: parts.concat(),
            proves: false,
        };
        let (operational, last) = (0x04, 0x07);
        let style = match (proof.guard, proof.manner) {
            (Guard::Open, _) => self.style,
            (_, Manner::Skips) => Style::Once,
            (_, Manner::OffersNone) => Style::Stages,
            _ => {
                push(&mut names, "AuthMethod", "CHAP,None");
                let proves = Say {
                    proves: true,
                    ..say(TRANSIT | 0x01, &[])
                };
                return vec![
                    say(0, &[&names]),
                    say(0, &[b"CHAP_A=5\0"]),
                    proves,
                    say(TRANSIT | last, &[&keys]),
                ];
            }
        };
        match style {
            Style::Once => vec![say(TRANSIT | last, &[&names, &keys])],
            Style::Stages => {
                push(&mut names, "AuthMethod", "None");
                vec![
                    say(TRANSIT | 0x01, &[&names]),
                    say(TRANSIT | last, &[&keys]),
                ]
            }
            Style::Parts => {
                let whole = [names, keys].concat();
                let (front, back) = whole.split_at(whole.len() / 2);
                vec![
                    say(CONTINUE | operational, &[front]),
                    say(TRANSIT | last, &[back]),
                ]
            }
        }
    }

    fn keys(&self) -> Vec<(&'static str, String)> {
        let word = |yes: bool| if yes { "Yes" } else { "No" }.to_owned();
        let number = |n: u32| n.to_string();
        let text = |t: &'static str| t.to_owned();
        let keys = [
            ("HeaderDigest", self.header_digest.map(text)),
            ("DataDigest", self.data_digest.map(text)),
            ("MaxRecvDataSegmentLength", self.max_recv.map(number)),
            ("MaxBurstLength", self.max_burst.map(number)),
            ("FirstBurstLength", self.first_burst.map(number)),
            ("InitialR2T", self.initial_r2t.map(word)),
            ("ImmediateData", self.immediate_data.map(word)),
            ("MaxOutstandingR2T", self.outstanding_r2t.map(number)),
            ("DefaultTime2Wait", Some("0".to_owned())),
            ("ErrorRecoveryLevel", Some("0".to_owned())),
        ];
        let sent = keys.into_iter();
        sent.filter_map(|(key, value)| Some((key, value?)))
            .collect()
    }

    /// What holds after the target said `answers`.
    ///
    /// # Errors
    ///
    /// An answer that the standard does not allow, or one that is missing.
    pub(crate) fn agree(&self, answers: &BTreeMap<String, String>) -> Result<Agreed, String> {
        let usual = Agreed::default();
        let answer = |key: &str| answers.get(key).map(String::as_str);
        for (key, offered) in self.keys() {
            let is_declared = key == "MaxRecvDataSegmentLength";
            if !is_declared && answer(key).is_none() {
                return Err(format!("{key}={offered} is not answered"));
            }
        }
        let digest = |key: &str, offered: Option<&str>| match (offered, answer(key)) {
            (Some(list), Some(said)) if list.split(',').any(|l| l == said) => Ok(said == "CRC32C"),
            (None, None) => Ok(false),
            (offered, said) => Err(format!("{key}={offered:?} is answered {said:?}")),
        };
        let least = |key: &str, offered: Option<u32>, usual: u32| match (offered, answer(key)) {
            (None, None) => Ok(usual),
            (Some(n), Some(said)) => match said.parse() {
                Ok(m) if m <= n && m >= 1 => Ok(m),
                _ => Err(format!("{key}={n} is answered {said}")),
            },
            (offered, said) => Err(format!("{key}={offered:?} is answered {said:?}")),
        };
        let boolean = |key: &str, offered: Option<bool>, sticky: bool| match (offered, answer(key))
        {
            (None, None) => Ok(true),
            (Some(_), Some("Yes")) if offered == Some(true) || sticky => Ok(true),
            (Some(_), Some("No")) if offered == Some(false) || !sticky => Ok(false),
            (offered, said) => Err(format!("{key}={offered:?} is answered {said:?}")),
        };
        least("MaxOutstandingR2T", self.outstanding_r2t, 1)?;
        let max_burst = least("MaxBurstLength", self.max_burst, usual.max_burst)?;
        let first_burst = least("FirstBurstLength", self.first_burst, usual.first_burst)?;
        let declared = answer("MaxRecvDataSegmentLength").map(str::parse);
        Ok(Agreed {
            digests: Digests {
                header: digest("HeaderDigest", self.header_digest)?,
                data: digest("DataDigest", self.data_digest)?,
            },
            max_recv: self.max_recv.unwrap_or(usual.max_recv),
            max_send: match declared {
                Some(Ok(n @ 512..=0xff_ffff)) => n,
                None => usual.max_send,
                Some(said) => return Err(format!("MaxRecvDataSegmentLength={said:?}")),
            },
            max_burst,
            first_burst: first_burst.min(max_burst),
            // Yes if either says so.
            initial_r2t: boolean("InitialR2T", self.initial_r2t, true)?,
            // Yes if both say so.
            immediate_data: boolean("ImmediateData", self.immediate_data, false)?,
        })
    }
}

fn push(out: &mut Vec<u8>, key: &str, value: &str) {
    out.extend(key.bytes());
    out.push(b'=');
    out.extend(value.bytes());
    out.push(0);
}

/// The pairs of an answer.
///
/// # Errors
///
/// What is no pair.
pub(crate) fn pairs(text: &[u8]) -> Result<Vec<(String, String)>, String> {
    let mut out = Vec::new();
    for pair in text.split(|b| *b == 0).filter(|p| !p.is_empty()) {
        let pair = String::from_utf8_lossy(pair);
        let (key, value) = pair.split_once('=').ok_or_else(|| pair.to_string())?;
        out.push((key.to_owned(), value.to_owned()));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::Edits;

    fn wishes() -> Wishes {
        Wishes {
            style: Style::Once,
            header_digest: Some("None,CRC32C"),
            data_digest: None,
            max_recv: Some(1000),
            max_burst: Some(8192),
            first_burst: Some(4096),
            initial_r2t: Some(false),
            immediate_data: Some(true),
            outstanding_r2t: None,
        }
    }

    fn agree(changes: &[(&str, &str)]) -> Result<Agreed, String> {
        let usual = [
            ("HeaderDigest", "None"),
            ("MaxBurstLength", "4096"),
            ("FirstBurstLength", "4096"),
            ("InitialR2T", "No"),
            ("ImmediateData", "Yes"),
            ("DefaultTime2Wait", "0"),
            ("ErrorRecoveryLevel", "0"),
            ("MaxRecvDataSegmentLength", "65536"),
        ];
        let all = usual.iter().chain(changes);
        let answers: BTreeMap<String, String> = all
            .filter(|(_, v)| !v.is_empty())
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        wishes().agree(&answers)
    }

    #[test]
    fn answers_within_the_offer_hold() {
        let agreed = agree(&[("ImmediateData", "No"), ("InitialR2T", "Yes")]).expect("legal");
        assert!(agreed.initial_r2t && !agreed.immediate_data);
        assert_eq!(
            (agreed.max_burst, agreed.max_send, agreed.max_recv),
            (4096, 65_536, 1000)
        );
        assert!(agree(&[("HeaderDigest", "CRC32C")]).is_ok_and(|a| a.digests.header));
    }

    #[test]
    fn answers_beyond_the_offer_are_refused() {
        for (key, value) in [
            ("MaxBurstLength", "8193"),
            ("FirstBurstLength", "many"),
            ("HeaderDigest", "MD5"),
            ("DataDigest", "None"),
            ("MaxOutstandingR2T", "2"),
            ("MaxRecvDataSegmentLength", "511"),
        ] {
            assert!(agree(&[(key, value)]).is_err(), "{key}={value}");
        }
        let mut answers = BTreeMap::new();
        answers.insert("InitialR2T".to_owned(), "No".to_owned());
        assert!(wishes().agree(&answers).is_err(), "keys without an answer");
    }

    #[test]
    fn a_login_says_the_same_in_one_request_or_two() {
        for n in 0..50 {
            let mut choices = Choices::seeded(n, Edits::default());
            let wishes = Wishes::draw(&mut choices, n, 50);
            let proof = Proof::draw(&mut choices, n, Guard::Open, true);
            let requests = wishes.requests("iqn.x:a", &proof);
            let text: Vec<u8> = requests.iter().flat_map(|r| r.text.clone()).collect();
            let pairs = pairs(&text).expect("pairs");
            assert!(pairs.contains(&("TargetName".to_owned(), TARGET.to_owned())));
            let last = requests.last().expect("one at least");
            assert_eq!(last.flags, 0x87);
        }
    }
}
