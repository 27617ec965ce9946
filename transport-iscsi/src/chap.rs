//! CHAP, one way and mutual. RFC 7143 §12.1.3, "Challenge Handshake Authentication Protocol (CHAP)"; RFC 1994, "PPP
//! Challenge Handshake Authentication Protocol (CHAP)", §4.1; numbers of algorithms: IANA, "PPP Authentication Algorithms".
//!
//! Not here   when which key is due (`session::login`), fresh bytes (the driver gives them).

use md5::Digest;

/// Most bytes of a challenge or response. RFC 7143 §12.1.3.
pub const BINARY_BYTES_MAX: usize = 1024;

/// A hash that both sides can use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// 5, the only one that every initiator has.
    Md5,
    /// 6
    Sha1,
    /// 7
    Sha256,
    /// 8
    Sha3_256,
}

/// Strongest first.
const PREFERENCE: [Algorithm; 4] = [
    Algorithm::Sha3_256,
    Algorithm::Sha256,
    Algorithm::Sha1,
    Algorithm::Md5,
];

impl Algorithm {
    /// The number in CHAP_A.
    pub const fn number(self) -> u8 {
        match self {
            Self::Md5 => 5,
            Self::Sha1 => 6,
            Self::Sha256 => 7,
            Self::Sha3_256 => 8,
        }
    }

    /// The strongest of a CHAP_A list that we have, whatever its place in the list.
    pub fn choose(list: &str) -> Option<Self> {
        let offers = |number: u8| list.split(',').any(|n| n.parse() == Ok(number));
        PREFERENCE.into_iter().find(|a| offers(a.number()))
    }

    /// What proves the secret: hash of identifier, secret and challenge.
    pub fn response(self, id: u8, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
        fn hash<D: Digest>(id: u8, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
            let mut d = D::new();
            d.update([id]);
            d.update(secret);
            d.update(challenge);
            d.finalize().to_vec()
        }
        match self {
            Self::Md5 => hash::<md5::Md5>(id, secret, challenge),
            Self::Sha1 => hash::<sha1::Sha1>(id, secret, challenge),
            Self::Sha256 => hash::<sha2::Sha256>(id, secret, challenge),
            Self::Sha3_256 => hash::<sha3::Sha3_256>(id, secret, challenge),
        }
    }
}

/// 32 bytes from the driver's fresh ones; each `counter` gives others.
pub(crate) fn draw(entropy: &[u8; 32], counter: u32) -> [u8; 32] {
    let mut d = sha2::Sha256::new();
    d.update(entropy);
    d.update(counter.to_be_bytes());
    d.finalize().into()
}

/// Whether two proofs are the same, in a time that does not depend on where they differ.
pub fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

/// A binary value as text. RFC 7143 §6.1, "Text Format".
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 + bytes.len() * 2);
    out.push_str("0x");
    for b in bytes {
        for nibble in [b >> 4, b & 15] {
            out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
    }
    out
}

/// A binary value from text: `0x…` hexadecimal or `0b…` base64, 1 to 1024 bytes.
pub fn binary(text: &str) -> Option<Vec<u8>> {
    let (prefix, digits) = text.split_at_checked(2)?;
    let bytes = match prefix {
        "0x" | "0X" => from_hex(digits.as_bytes()),
        "0b" | "0B" => from_base64(digits.as_bytes()),
        _ => None,
    }?;
    (1..=BINARY_BYTES_MAX)
        .contains(&bytes.len())
        .then_some(bytes)
}

fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    if digits.len() > BINARY_BYTES_MAX * 2 {
        return None;
    }
    let nibble = |b: u8| {
        char::from(b)
            .to_digit(16)
            .and_then(|n| u8::try_from(n).ok())
    };
    let mut pairs = digits.chunks_exact(2);
    let bytes = pairs
        .by_ref()
        .map(|pair| match pair {
            [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
            _ => None,
        })
        .collect::<Option<Vec<u8>>>()?;
    pairs.remainder().is_empty().then_some(bytes)
}

fn from_base64(digits: &[u8]) -> Option<Vec<u8>> {
    if digits.len() > BINARY_BYTES_MAX.div_ceil(3) * 4 || !digits.len().is_multiple_of(4) {
        return None;
    }
    let pad = digits.iter().rev().take_while(|b| **b == b'=').count();
    let body = digits.get(..digits.len() - pad)?;
    if pad > 2 {
        return None;
    }
    let sextet = |b: u8| -> Option<u32> {
        Some(u32::from(match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        }))
    };
    let mut out = Vec::with_capacity(body.len() * 3 / 4);
    for quad in body.chunks(4) {
        let mut word = 0_u32;
        for b in quad {
            word = word << 6 | sextet(*b)?;
        }
        // A short last group is moved to the top; it gives one byte less than it has letters.
        word <<= 6 * (4 - quad.len());
        let [_, a, b, c] = word.to_be_bytes();
        out.extend([a, b, c].into_iter().take(quad.len() - 1));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&[u8]>) {
        assert_eq!(binary(text).as_deref(), expected, "{text}");
    }

    #[test]
    fn binary_values_are_hex_or_base64() {
        check("0x68656c6C6f", Some(b"hello"));
        check("0baGVsbG8=", Some(b"hello"));
        check("0baGVsbG8h", Some(b"hello!"));
        check("0baA==", Some(b"h"));
    }

    #[test]
    fn other_texts_are_no_binary_values() {
        for text in [
            "", "0", "0x", "0b", "hello", "0x6", "0xzz", "0b?GVs", "0baGVs=", "0b====", "0ba===",
            "é",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn binary_values_end_at_1024_bytes() {
        let hex_of = |n: usize| hex(&vec![7; n]);
        assert_eq!(binary(&hex_of(1024)).map(|b| b.len()), Some(1024));
        assert_eq!(binary(&hex_of(1025)), None);
        assert_eq!(binary(&format!("0b{}", "A".repeat(1368))), None);
    }

    #[test]
    fn the_strongest_common_algorithm_is_taken() {
        assert_eq!(Algorithm::choose("5"), Some(Algorithm::Md5));
        assert_eq!(Algorithm::choose("5,6,7,8"), Some(Algorithm::Sha3_256));
        assert_eq!(Algorithm::choose("7,5"), Some(Algorithm::Sha256));
        assert_eq!(Algorithm::choose("56"), None);
        assert_eq!(Algorithm::choose(""), None);
    }

    #[test]
    fn responses_hash_id_secret_and_challenge() {
        // `printf '\1secretchallenge' | md5sum`, sha1sum, sha256sum, and openssl's sha3-256.
        let response = |a: Algorithm| hex(&a.response(1, b"secret", b"challenge"));
        assert_eq!(response(Algorithm::Md5), MD5);
        assert_eq!(response(Algorithm::Sha1), SHA1);
        assert_eq!(response(Algorithm::Sha256), SHA256);
        assert_eq!(response(Algorithm::Sha3_256), SHA3);
    }

    const MD5: &str = "0x46e47770030e2b4e26a0db72a7efec00";
    const SHA1: &str = "0x011f25d29fe1baaced569c0d7e4878e40ddb7d7e";
    const SHA256: &str = "0x2dfa0526f4764864b7c3c5bc6596bcead3d8dbd984f4fc1d9f330299f0beced4";
    const SHA3: &str = "0x9444877c4dff778ed2add0f102dcd561e11944e7e948ee1b89508451a9e680ad";
}
