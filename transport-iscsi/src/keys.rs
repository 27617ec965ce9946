//! Text keys: how they are written, what they may say, how they are negotiated. RFC 7143 §6, "Login and Full Feature Phase
//! Negotiation", and §13, "Login/Text Operational Text Keys".
//!
//! Invariant  what is not negotiated has the standard's default.
//! Not here   keys of the security stage (`chap`, `session::login`), SendTargets (`session::text`).

/// Most bytes of a key. RFC 7143 §6.1, "Text Format".
const KEY_BYTES_MAX: usize = 63;
/// Most bytes of a value: a binary value of 1024 bytes, written in hexadecimal.
const VALUE_BYTES_MAX: usize = 2 + 2 * 1024;

/// Text that is not `key=value` pairs ended by NUL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadText(pub &'static str);

/// Splits text into its pairs, in order.
///
/// # Errors
///
/// Not UTF-8, a pair without `=`, a key or value that is too long, or a last pair without its NUL.
pub fn pairs(text: &[u8]) -> Result<Vec<(&str, &str)>, BadText> {
    let text = core::str::from_utf8(text).map_err(|_| BadText("text is not UTF-8"))?;
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let text = text
        .strip_suffix('\0')
        .ok_or(BadText("text does not end in NUL"))?;
    let mut out = Vec::new();
    for pair in text.split('\0').filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or(BadText("a pair without ="))?;
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(BadText("a key of 0 or more than 63 bytes"));
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(BadText("a value of more than 2050 bytes"));
        }
        out.push((key, value));
    }
    Ok(out)
}

/// Writes a pair.
pub fn push_pair(out: &mut Vec<u8>, key: &str, value: &str) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'=');
    out.extend_from_slice(value.as_bytes());
    out.push(0);
}

/// What we want; the other side of every negotiation.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Data segments that we take, in bytes. 262,144; 512 to 2^24 − 1.
    pub max_recv_bytes: u32,
    /// Bytes of one R2T or of one sequence of Data-In. 1 MiB.
    pub max_burst_bytes: u32,
    /// Unsolicited bytes of one command. 262,144.
    pub first_burst_bytes: u32,
    /// R2Ts of one command under way. 1: the next burst is asked for when the last one is here.
    pub max_outstanding_r2t: u16,
    /// Wait for an R2T before sending more than the immediate data.
    pub initial_r2t: bool,
    /// Take data in the command's PDU.
    pub immediate_data: bool,
    /// Take CRC32C digests from initiators that offer them, wherever they stand in the list.
    pub prefer_digests: bool,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            max_recv_bytes: 256 << 10,
            max_burst_bytes: 1 << 20,
            first_burst_bytes: 256 << 10,
            max_outstanding_r2t: 1,
            initial_r2t: false,
            immediate_data: true,
            prefer_digests: false,
        }
    }
}

/// What holds on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// CRC32C after each header.
    pub header_digest: bool,
    /// CRC32C after each data segment.
    pub data_digest: bool,
    /// Data segments that the initiator takes, in bytes.
    pub max_send_bytes: u32,
    /// Bytes of one R2T or of one sequence of Data-In.
    pub max_burst_bytes: u32,
    /// Unsolicited bytes of one command.
    pub first_burst_bytes: u32,
    /// R2Ts of one command under way.
    pub max_outstanding_r2t: u16,
    /// No unsolicited Data-Out PDUs.
    pub initial_r2t: bool,
    /// Data in the command's PDU.
    pub immediate_data: bool,
    /// Seconds between a loss and a new login.
    pub time_to_wait: u16,
}

impl Default for Params {
    /// RFC 7143 §13: the defaults of keys that nobody sends.
    fn default() -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            max_send_bytes: 8192,
            max_burst_bytes: 262_144,
            first_burst_bytes: 65_536,
            max_outstanding_r2t: 1,
            initial_r2t: true,
            immediate_data: true,
            time_to_wait: 2,
        }
    }
}

/// What to say about a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Nothing: it was a declaration.
    Silence,
    /// This.
    Say(String),
}

/// A negotiation that cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repeated;

/// Negotiates the operational keys of a login.
#[derive(Clone, Debug)]
pub struct Negotiation {
    /// What holds so far.
    pub params: Params,
    offer: Offer,
    is_discovery: bool,
    /// One bit per key of `KEYS`.
    seen: u32,
}

const LENGTH_MIN: u32 = 512;
const LENGTH_MAX: u32 = (1 << 24) - 1;

const KEYS: [&str; 20] = [
    "HeaderDigest",
    "DataDigest",
    "MaxConnections",
    "InitialR2T",
    "ImmediateData",
    "MaxRecvDataSegmentLength",
    "MaxBurstLength",
    "FirstBurstLength",
    "DefaultTime2Wait",
    "DefaultTime2Retain",
    "MaxOutstandingR2T",
    "DataPDUInOrder",
    "DataSequenceInOrder",
    "ErrorRecoveryLevel",
    "IFMarker",
    "OFMarker",
    "IFMarkInt",
    "OFMarkInt",
    "iSCSIProtocolLevel",
    "TaskReporting",
];

impl Negotiation {
    /// A negotiation at its beginning.
    pub fn new(offer: Offer) -> Self {
        Self {
            params: Params::default(),
            offer,
            is_discovery: false,
            seen: 0,
        }
    }

    /// In a discovery session keys about data are irrelevant.
    pub const fn set_discovery(&mut self) {
        self.is_discovery = true;
    }

    /// What we declare about ourselves.
    pub const fn max_recv_bytes(&self) -> u32 {
        self.offer.max_recv_bytes
    }

    /// Takes a pair from the initiator.
    ///
    /// # Errors
    ///
    /// The key was negotiated before. RFC 7143 §6.3, "Login Phase".
    pub fn handle(&mut self, key: &str, value: &str) -> Result<Answer, Repeated> {
        if let Some(at) = KEYS.iter().position(|k| *k == key) {
            let bit = 1 << at;
            if self.seen & bit != 0 {
                return Err(Repeated);
            }
            self.seen |= bit;
        }
        Ok(self.answer(key, value))
    }

    /// What an initiator answers to something that we did not ask is not answered again.
    fn answer(&mut self, key: &str, value: &str) -> Answer {
        let p = &mut self.params;
        let said = match key {
            "HeaderDigest" => digest(value, self.offer.prefer_digests, &mut p.header_digest),
            "DataDigest" => digest(value, self.offer.prefer_digests, &mut p.data_digest),
            "MaxRecvDataSegmentLength" => match number(value, LENGTH_MIN, LENGTH_MAX) {
                Some(bytes) => {
                    p.max_send_bytes = bytes;
                    return Answer::Silence;
                }
                None => reject(),
            },
            "MaxConnections" => number(value, 1, 65_535).map_or_else(reject, |_| "1".to_owned()),
            "ErrorRecoveryLevel" => number(value, 0, 2).map_or_else(reject, |_| "0".to_owned()),
            "DefaultTime2Wait" => number(value, 0, 3600).map_or_else(reject, |n| {
                // The greater of the two; ours is 0.
                p.time_to_wait = u16::try_from(n).unwrap_or(p.time_to_wait);
                n.to_string()
            }),
            "DefaultTime2Retain" => number(value, 0, 3600).map_or_else(reject, |_| "0".to_owned()),
            "DataPDUInOrder" | "DataSequenceInOrder" => {
                boolean(value).map_or_else(reject, |_| "Yes".to_owned())
            }
            "IFMarker" | "OFMarker" => boolean(value).map_or_else(reject, |_| "No".to_owned()),
            "IFMarkInt" | "OFMarkInt" => "Irrelevant".to_owned(),
            "iSCSIProtocolLevel" => {
                number(value, 0, 31).map_or_else(reject, |n| n.min(1).to_string())
            }
            "TaskReporting" => list(value, "RFC3720"),
            "InitialR2T" | "ImmediateData" | "MaxBurstLength" | "FirstBurstLength"
            | "MaxOutstandingR2T"
                if self.is_discovery =>
            {
                "Irrelevant".to_owned()
            }
            "InitialR2T" => boolean(value).map_or_else(reject, |theirs| {
                p.initial_r2t = theirs || self.offer.initial_r2t;
                yes_or_no(p.initial_r2t)
            }),
            "ImmediateData" => boolean(value).map_or_else(reject, |theirs| {
                p.immediate_data = theirs && self.offer.immediate_data;
                yes_or_no(p.immediate_data)
            }),
            "MaxBurstLength" => number(value, LENGTH_MIN, LENGTH_MAX).map_or_else(reject, |n| {
                p.max_burst_bytes = n.min(self.offer.max_burst_bytes);
                p.max_burst_bytes.to_string()
            }),
            "FirstBurstLength" => number(value, LENGTH_MIN, LENGTH_MAX).map_or_else(reject, |n| {
                p.first_burst_bytes = n.min(self.offer.first_burst_bytes);
                p.first_burst_bytes.to_string()
            }),
            "MaxOutstandingR2T" => number(value, 1, 65_535).map_or_else(reject, |n| {
                let ours = self.offer.max_outstanding_r2t;
                p.max_outstanding_r2t = u16::try_from(n).unwrap_or(ours).min(ours);
                p.max_outstanding_r2t.to_string()
            }),
            "SendTargets" => reject(),
            "InitiatorAlias" | "TargetAlias" | "TargetAddress" | "TargetPortalGroupTag" => {
                return Answer::Silence;
            }
            _ => "NotUnderstood".to_owned(),
        };
        Answer::Say(said)
    }

    /// What holds after the negotiation. FirstBurstLength never exceeds MaxBurstLength (RFC 7143 §13.14,
    /// "FirstBurstLength").
    pub fn finish(mut self) -> Params {
        let burst = self.params.max_burst_bytes;
        self.params.first_burst_bytes = self.params.first_burst_bytes.min(burst);
        self.params
    }
}

fn reject() -> String {
    "Reject".to_owned()
}

fn yes_or_no(yes: bool) -> String {
    if yes { "Yes" } else { "No" }.to_owned()
}

fn boolean(value: &str) -> Option<bool> {
    match value {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    }
}

/// A decimal or hexadecimal number. RFC 7143 §6.1, "Text Format".
fn number(value: &str, min: u32, max: u32) -> Option<u32> {
    let hex = value
        .strip_prefix("0x")
        .or_else(|| value.strip_prefix("0X"));
    let (digits, radix) = hex.map_or((value, 10), |digits| (digits, 16));
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let number = u32::from_str_radix(digits, radix).ok()?;
    (min..=max).contains(&number).then_some(number)
}

fn list(value: &str, ours: &str) -> String {
    if value.split(',').any(|v| v == ours) {
        ours.to_owned()
    } else {
        reject()
    }
}

/// The first of their list that we have, unless we insist on a digest.
fn digest(value: &str, prefer: bool, on: &mut bool) -> String {
    let is_known = |v: &&str| *v == "CRC32C" || *v == "None";
    let has_digest = value.split(',').any(|v| v == "CRC32C");
    let choice = if prefer && has_digest {
        Some("CRC32C")
    } else {
        value.split(',').find(is_known)
    };
    let Some(choice) = choice else {
        return reject();
    };
    *on = choice == "CRC32C";
    choice.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `key=value` pairs in, answers and the result out.
    #[track_caller]
    fn check(offers: &str, expected: &str) -> Params {
        let mut negotiation = Negotiation::new(Offer::default());
        let mut out = Vec::new();
        for pair in offers.split_whitespace() {
            let (key, value) = pair.split_once('=').expect("a pair");
            match negotiation.handle(key, value) {
                Ok(Answer::Silence) => {}
                Ok(Answer::Say(said)) => out.push(format!("{key}={said}")),
                Err(Repeated) => out.push(format!("{key}!")),
            }
        }
        assert_eq!(out.join(" "), expected);
        negotiation.finish()
    }

    #[test]
    fn what_qemu_offers() {
        let params = check(
            "HeaderDigest=None,CRC32C DataDigest=None InitialR2T=No ImmediateData=Yes MaxBurstLength=262144 \
             FirstBurstLength=262144 MaxRecvDataSegmentLength=262144 MaxOutstandingR2T=1 MaxConnections=1 \
             DefaultTime2Wait=2 DefaultTime2Retain=0 IFMarker=No OFMarker=No ErrorRecoveryLevel=0",
            "HeaderDigest=None DataDigest=None InitialR2T=No ImmediateData=Yes MaxBurstLength=262144 \
             FirstBurstLength=262144 MaxOutstandingR2T=1 MaxConnections=1 DefaultTime2Wait=2 \
             DefaultTime2Retain=0 IFMarker=No OFMarker=No ErrorRecoveryLevel=0",
        );
        assert_eq!(params.max_send_bytes, 262_144);
        assert!(!params.initial_r2t);
    }

    #[test]
    fn missing_keys_have_the_standards_defaults() {
        let params = check("", "");
        assert_eq!(params, Params::default());
        assert_eq!(
            (
                params.max_send_bytes,
                params.max_burst_bytes,
                params.first_burst_bytes
            ),
            (8192, 262_144, 65_536)
        );
        assert!(params.initial_r2t && params.immediate_data);
    }

    #[test]
    fn first_burst_stays_within_the_burst() {
        let params = check(
            "MaxBurstLength=512 FirstBurstLength=65536",
            "MaxBurstLength=512 FirstBurstLength=65536",
        );
        assert_eq!(params.first_burst_bytes, 512);
    }

    #[test]
    fn bad_values_are_rejected_and_change_nothing() {
        let params = check(
            "MaxBurstLength=511 InitialR2T=yes MaxOutstandingR2T=0 MaxRecvDataSegmentLength=16777216 \
             HeaderDigest=MD5 ErrorRecoveryLevel=+1 FirstBurstLength=0x",
            "MaxBurstLength=Reject InitialR2T=Reject MaxOutstandingR2T=Reject MaxRecvDataSegmentLength=Reject \
             HeaderDigest=Reject ErrorRecoveryLevel=Reject FirstBurstLength=Reject",
        );
        assert_eq!(params, Params::default());
    }

    #[test]
    fn unknown_keys_are_not_understood() {
        check(
            "X-com.example.a=b Foo=1",
            "X-com.example.a=NotUnderstood Foo=NotUnderstood",
        );
    }

    #[test]
    fn a_key_twice_is_an_error() {
        check("InitialR2T=No InitialR2T=No", "InitialR2T=No InitialR2T!");
    }

    #[test]
    fn the_first_known_digest_of_the_list_is_taken() {
        assert!(check("HeaderDigest=CRC32C,None", "HeaderDigest=CRC32C").header_digest);
        assert!(!check("DataDigest=X,None,CRC32C", "DataDigest=None").data_digest);
    }

    #[test]
    fn numbers_may_be_hexadecimal() {
        let params = check("MaxBurstLength=0x10000", "MaxBurstLength=65536");
        assert_eq!(params.max_burst_bytes, 65_536);
    }

    #[test]
    fn pairs_end_in_nul() {
        assert_eq!(pairs(b"A=1\0B=\0"), Ok(vec![("A", "1"), ("B", "")]));
        assert_eq!(pairs(b""), Ok(vec![]));
        assert_eq!(pairs(b"A=b=c\0"), Ok(vec![("A", "b=c")]));
        assert!(pairs(b"A=1").is_err());
        assert!(pairs(b"A\0").is_err());
        assert!(pairs(b"=1\0").is_err());
        assert!(pairs(b"\xff=1\0").is_err());
    }

    #[test]
    fn rejects_key_longer_than_63_bytes() {
        let text = |n: usize| format!("{}=1\0", "k".repeat(n)).into_bytes();
        assert!(pairs(&text(63)).is_ok());
        assert!(pairs(&text(64)).is_err());
    }
}
