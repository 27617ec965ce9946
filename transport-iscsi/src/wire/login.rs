//! Login Request and Login Response. RFC 7143 §11.12, "Login Request", and §11.13, "Login Response".

use super::header::{Header, IMMEDIATE, Itt, Malformed, opcode};
use crate::serial::{CmdSn, StatSn};

/// Byte 1: T, ready to leave the stage.
const TRANSIT: u8 = 0x80;
/// Byte 1: C, the text goes on in the next PDU.
const CONTINUE: u8 = 0x40;

/// A stage of the login. RFC 7143 §11.12.3, "CSG and NSG".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// 0
    Security,
    /// 1
    Operational,
    /// 3
    FullFeature,
}

impl Stage {
    const fn parse(bits: u8) -> Option<Self> {
        match bits & 3 {
            0 => Some(Self::Security),
            1 => Some(Self::Operational),
            3 => Some(Self::FullFeature),
            _ => None,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Security => 0,
            Self::Operational => 1,
            Self::FullFeature => 3,
        }
    }
}

/// Initiator to target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoginRequest {
    /// The stage that the initiator wants next, when it is ready to leave this one (T).
    pub next: Option<Stage>,
    /// The text goes on (C).
    pub is_partial: bool,
    /// The stage that this belongs to.
    pub stage: Stage,
    /// Highest and lowest version that the initiator speaks. 0 is RFC 7143.
    pub version: (u8, u8),
    /// The initiator's part of the session's name.
    pub isid: [u8; 6],
    /// The target's part; 0 in a new session.
    pub tsih: u16,
    /// Same for the whole login.
    pub itt: Itt,
    /// Name of the connection within the session.
    pub cid: u16,
    /// The first command of the session will carry it.
    pub cmd_sn: CmdSn,
    /// StatSN that the initiator expects next.
    pub exp_stat_sn: StatSn,
}

impl LoginRequest {
    /// # Errors
    ///
    /// A reserved stage, T with C, or T without a later stage.
    pub fn parse(header: &Header) -> Result<Self, Malformed> {
        let flags = header.flags();
        let stage = Stage::parse(flags >> 2)
            .filter(|s| *s != Stage::FullFeature)
            .ok_or(Malformed::protocol("login in a stage that is none"))?;
        let is_partial = flags & CONTINUE != 0;
        let next = if flags & TRANSIT == 0 {
            None
        } else {
            let next = Stage::parse(flags)
                .filter(|n| n.bits() > stage.bits())
                .ok_or(Malformed::protocol("login to a stage that is not later"))?;
            Some(next)
        };
        if is_partial && next.is_some() {
            return Err(Malformed::protocol("login with both T and C"));
        }
        Ok(Self {
            next,
            is_partial,
            stage,
            version: (header.0[2], header.0[3]),
            isid: header.array::<8, 6>(),
            tsih: header.be16::<14>(),
            itt: header.itt(),
            cid: header.be16::<20>(),
            cmd_sn: CmdSn(header.be32::<24>()),
            exp_stat_sn: StatSn(header.be32::<28>()),
        })
    }

    /// The header of a request with so many bytes of text.
    pub fn emit(&self, text_bytes: u32) -> Header {
        let mut h = Header::of(
            opcode::LOGIN_REQUEST | IMMEDIATE,
            flags(self.next, self.is_partial, self.stage),
        )
        .with_data(text_bytes);
        h.0[2] = self.version.0;
        h.0[3] = self.version.1;
        h.put::<8, 6>(self.isid);
        h.put::<14, 2>(self.tsih.to_be_bytes());
        h.put32::<16>(self.itt.0);
        h.put::<20, 2>(self.cid.to_be_bytes());
        h.put32::<24>(self.cmd_sn.0);
        h.put32::<28>(self.exp_stat_sn.0);
        h
    }
}

fn flags(next: Option<Stage>, is_partial: bool, stage: Stage) -> u8 {
    let transit = next.map_or(0, |n| TRANSIT | n.bits());
    let partial = if is_partial { CONTINUE } else { 0 };
    transit | partial | stage.bits() << 2
}

/// Class (upper byte) and detail of a login's outcome. RFC 7143 §11.13.5, "Status-Class and Status-Detail".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoginStatus(pub u16);

#[allow(missing_docs)] // the names are the standard's
impl LoginStatus {
    pub const SUCCESS: Self = Self(0x0000);
    pub const INITIATOR_ERROR: Self = Self(0x0200);
    pub const AUTHENTICATION_FAILURE: Self = Self(0x0201);
    pub const AUTHORIZATION_FAILURE: Self = Self(0x0202);
    pub const NOT_FOUND: Self = Self(0x0203);
    pub const UNSUPPORTED_VERSION: Self = Self(0x0205);
    pub const TOO_MANY_CONNECTIONS: Self = Self(0x0206);
    pub const MISSING_PARAMETER: Self = Self(0x0207);
    pub const SESSION_TYPE_NOT_SUPPORTED: Self = Self(0x0209);
    pub const SESSION_DOES_NOT_EXIST: Self = Self(0x020a);
    pub const INVALID_DURING_LOGIN: Self = Self(0x020b);
    pub const SERVICE_UNAVAILABLE: Self = Self(0x0301);
    pub const OUT_OF_RESOURCES: Self = Self(0x0302);
}

/// Target to initiator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoginResponse {
    /// The stage that comes next, if the target agrees to leave this one.
    pub next: Option<Stage>,
    /// The text goes on (C).
    pub is_partial: bool,
    /// The stage that this belongs to.
    pub stage: Stage,
    /// As in the request.
    pub isid: [u8; 6],
    /// The session's name, in the last response of a successful login; else as in the request.
    pub tsih: u16,
    /// As in the request.
    pub itt: Itt,
    /// Number of this response.
    pub stat_sn: StatSn,
    /// The command expected next.
    pub exp_cmd_sn: CmdSn,
    /// The last command that may be sent.
    pub max_cmd_sn: CmdSn,
    /// How it went.
    pub status: LoginStatus,
}

impl LoginResponse {
    /// # Errors
    ///
    /// A reserved stage.
    pub fn parse(header: &Header) -> Result<Self, Malformed> {
        let flags = header.flags();
        let stage = Stage::parse(flags >> 2).ok_or(Malformed::protocol("stage 2"))?;
        let next = if flags & TRANSIT == 0 {
            None
        } else {
            Some(Stage::parse(flags).ok_or(Malformed::protocol("stage 2"))?)
        };
        Ok(Self {
            next,
            is_partial: flags & CONTINUE != 0,
            stage,
            isid: header.array::<8, 6>(),
            tsih: header.be16::<14>(),
            itt: header.itt(),
            stat_sn: StatSn(header.be32::<24>()),
            exp_cmd_sn: CmdSn(header.be32::<28>()),
            max_cmd_sn: CmdSn(header.be32::<32>()),
            status: LoginStatus(header.be16::<36>()),
        })
    }

    /// The header of a response with so many bytes of text. Version-max and version-active are 0.
    pub fn emit(&self, text_bytes: u32) -> Header {
        let mut h = Header::of(
            opcode::LOGIN_RESPONSE,
            flags(self.next, self.is_partial, self.stage),
        )
        .with_data(text_bytes);
        h.put::<8, 6>(self.isid);
        h.put::<14, 2>(self.tsih.to_be_bytes());
        h.put32::<16>(self.itt.0);
        h.put32::<24>(self.stat_sn.0);
        h.put32::<28>(self.exp_cmd_sn.0);
        h.put32::<32>(self.max_cmd_sn.0);
        h.put::<36, 2>(self.status.0.to_be_bytes());
        h
    }
}
