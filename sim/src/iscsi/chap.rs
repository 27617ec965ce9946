//! CHAP from the initiator's side, by its own reading of RFC 7143 §12.1.3, "Challenge Handshake Authentication Protocol
//! (CHAP)", and RFC 1994 §4.1: right and wrong secrets, one way and mutual, and what a target must not be talked into.
//!
//! ```text
//!   AuthMethod ─► CHAP_A ─► CHAP_A CHAP_I CHAP_C ─► CHAP_N CHAP_R [CHAP_I CHAP_C] ─► [CHAP_N CHAP_R] ─► operational stage
//! ```

use crate::choice::{Choices, Die};
use crate::config::Guard;
use md5::{Digest, Md5};
use std::collections::BTreeMap;

pub(crate) const USER: &str = "guest";
pub(crate) const SECRET: &[u8] = b"the guest's secret";
pub(crate) const TARGET_USER: &str = "disk";
pub(crate) const TARGET_SECRET: &[u8] = b"the target's secret";

/// How an initiator goes about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Manner {
    /// It proves itself.
    Proves,
    /// And asks the target to.
    AsksBack,
    /// It does not offer CHAP.
    OffersNone,
    /// It speaks of no method at all, and goes straight to the operational stage.
    Skips,
    /// It has another secret.
    WrongSecret,
    /// It has another name.
    WrongName,
    /// It has the secret, and asks the target to answer the target's own challenge.
    Reflects,
}

/// A login's proof: what was drawn, and the challenge that it puts to the target.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    pub(crate) guard: Guard,
    pub(crate) manner: Manner,
    id: u8,
    challenge: [u8; 16],
}

impl Proof {
    /// Draws the manner of login `login`; an honest one if `is_honest`.
    pub(crate) fn draw(choices: &mut Choices, login: u64, guard: Guard, is_honest: bool) -> Self {
        use Manner::{AsksBack, OffersNone, Proves, Reflects, Skips, WrongName, WrongSecret};
        let manners = [
            Proves,
            Proves,
            Proves,
            AsksBack,
            AsksBack,
            OffersNone,
            Skips,
            WrongSecret,
            WrongName,
            Reflects,
        ];
        let most = if is_honest { 4 } else { manners.len() as u64 };
        let drawn = manners[choices.pick(Die::Keys, login, 200, most) as usize];
        let manner = match (guard, drawn) {
            // Who is honest asks only a target that has a secret.
            (Guard::OneWay, AsksBack) if is_honest => Proves,
            (_, drawn) => drawn,
        };
        let word = |nth: u32| crate::choice::hash(choices.seed(), Die::Seed, login, nth);
        let mut challenge = [0; 16];
        challenge[..8].copy_from_slice(&word(601).to_le_bytes());
        challenge[8..].copy_from_slice(&word(602).to_le_bytes());
        Self {
            guard,
            manner,
            id: word(603) as u8,
            challenge,
        }
    }

    /// Whether the target must refuse it: authentication failure.
    pub(crate) fn must_fail(&self) -> bool {
        match (self.guard, self.manner) {
            (Guard::Open, _) | (_, Manner::Proves) | (Guard::Mutual, Manner::AsksBack) => false,
            // It has no secret to prove itself with: RFC 7143 lets a target refuse, and none is to pretend.
            (Guard::OneWay, Manner::AsksBack) => true,
            _ => true,
        }
    }

    /// The text that answers the target's challenge. `None`: the target put none.
    pub(crate) fn answer(&self, answers: &BTreeMap<String, String>) -> Option<Vec<u8>> {
        let id: u8 = answers.get("CHAP_I")?.parse().ok()?;
        let challenge = unhex(answers.get("CHAP_C")?)?;
        let secret: &[u8] = match self.manner {
            Manner::WrongSecret => b"something else entirely",
            _ => SECRET,
        };
        let user = match self.manner {
            Manner::WrongName => "somebody",
            _ => USER,
        };
        let mut text = format!(
            "CHAP_N={user}\0CHAP_R={}\0",
            hex(&response(id, secret, &challenge))
        );
        match self.manner {
            Manner::AsksBack => {
                text += &format!("CHAP_I={}\0CHAP_C={}\0", self.id, hex(&self.challenge));
            }
            Manner::Reflects => text += &format!("CHAP_I={id}\0CHAP_C={}\0", hex(&challenge)),
            _ => {}
        }
        Some(text.into_bytes())
    }

    /// What is wrong with the target's own proof, where one is due.
    pub(crate) fn judge(&self, answers: &BTreeMap<String, String>) -> Result<(), String> {
        let said = (answers.get("CHAP_N"), answers.get("CHAP_R"));
        match (self.asks_back(), said) {
            (false, (None, None)) => Ok(()),
            (true, (Some(name), Some(proof))) if name == TARGET_USER => {
                let due = response(self.id, TARGET_SECRET, &self.challenge);
                if unhex(proof).as_deref() == Some(&due) {
                    return Ok(());
                }
                Err(format!("the target proves itself with {proof}"))
            }
            (asked, said) => Err(format!(
                "a proof of the target: asked {asked}, said {said:?}"
            )),
        }
    }

    fn asks_back(&self) -> bool {
        self.guard != Guard::Open && self.manner == Manner::AsksBack
    }
}

/// RFC 1994 §4.1, "Challenge and Response": MD5 over identifier, secret and challenge.
fn response(id: u8, secret: &[u8], challenge: &[u8]) -> [u8; 16] {
    let mut hash = Md5::new();
    hash.update([id]);
    hash.update(secret);
    hash.update(challenge);
    hash.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    format!("0x{}", digits.collect::<String>())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x")?;
    let pair = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    if digits.is_empty() || digits.len() % 2 != 0 {
        return None;
    }
    (0..digits.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::Edits;

    fn proof(guard: Guard, manner: Manner) -> Proof {
        let mut choices = Choices::seeded(1, Edits::default());
        Proof {
            manner,
            ..Proof::draw(&mut choices, 7, guard, true)
        }
    }

    fn said(pairs: &[(&str, String)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs.map(|(k, v)| ((*k).to_owned(), v.clone())).collect()
    }

    #[test]
    fn a_response_is_the_hash_of_rfc_1994() {
        // `printf '\1secretchallenge' | md5sum`
        let due = "0x46e47770030e2b4e26a0db72a7efec00";
        assert_eq!(hex(&response(1, b"secret", b"challenge")), due);
        assert_eq!(unhex(due).map(|b| b.len()), Some(16));
        assert_eq!(
            (unhex("46e4"), unhex("0x46e"), unhex("0x")),
            (None, None, None)
        );
    }

    #[test]
    fn only_who_has_the_secret_may_enter() {
        for manner in [
            Manner::OffersNone,
            Manner::Skips,
            Manner::WrongSecret,
            Manner::WrongName,
            Manner::Reflects,
        ] {
            assert!(proof(Guard::OneWay, manner).must_fail(), "{manner:?}");
            assert!(!proof(Guard::Open, manner).must_fail(), "{manner:?}");
        }
        assert!(!proof(Guard::Mutual, Manner::AsksBack).must_fail());
        assert!(proof(Guard::OneWay, Manner::AsksBack).must_fail());
    }

    #[test]
    fn a_target_that_proves_nothing_or_something_else_is_rejected() {
        let asks = proof(Guard::Mutual, Manner::AsksBack);
        let due = hex(&response(asks.id, TARGET_SECRET, &asks.challenge));
        let name = || ("CHAP_N", TARGET_USER.to_owned());
        assert!(
            asks.judge(&said(&[name(), ("CHAP_R", due.clone())]))
                .is_ok()
        );
        assert!(asks.judge(&said(&[])).is_err(), "it says nothing");
        let own = hex(&response(asks.id, SECRET, &asks.challenge));
        assert!(asks.judge(&said(&[name(), ("CHAP_R", own)])).is_err());
        let silent = proof(Guard::Mutual, Manner::Proves);
        assert!(silent.judge(&said(&[])).is_ok(), "nobody asked");
        assert!(silent.judge(&said(&[name(), ("CHAP_R", due)])).is_err());
    }
}
