//! The login: stages, authentication, negotiation. RFC 7143 §6.3, "Login Phase", and §11.12, "Login Request".
//!
//! Shape      requests with text come in; each gives one answer, a failure, or the entry into the full feature phase.
//! Invariant  where a target has credentials no path leads to full feature phase but through a proof of the secret.
//! Not here   PDUs (`wire::login`), the registration of sessions (`target`).

use crate::chap::{self, Algorithm};
use crate::keys::{self, Answer, Negotiation, Offer, Params};
use crate::scsi::reserve::Nexus;
use crate::serial::CmdSn;
use crate::target::{Node, Target};
use crate::wire::header::Itt;
use crate::wire::login::{LoginRequest, LoginStatus, Stage};
use engine::effect::Gate;
use std::sync::Arc;

/// Most text of one login request, continued over several PDUs.
const TEXT_BYTES_MAX: usize = 32 << 10;
/// Most text of one answer: what an initiator takes before it has said more. RFC 7143 §13.12, "MaxRecvDataSegmentLength".
const ANSWER_BYTES_MAX: usize = 8192;
/// Most requests of one login: more is a peer that never ends.
const REQUESTS_MAX: u32 = 64;

/// What is to be answered.
#[derive(Debug)]
pub enum LoginStep {
    /// Go on with this text; `next` agrees to leave the stage.
    Answer {
        /// The stage that comes next.
        next: Option<Stage>,
        /// Keys.
        text: Vec<u8>,
    },
    /// The last answer: full feature phase follows, once the session is registered.
    Enter {
        /// Keys.
        text: Vec<u8>,
    },
    /// Say so and close.
    Fail(LoginStatus),
}

#[derive(Debug)]
enum Auth {
    /// Nothing was said about it.
    Open,
    /// CHAP was agreed; its algorithm is not.
    Chap,
    /// We wait for the proof.
    Challenged {
        algorithm: Algorithm,
        id: u8,
        challenge: [u8; 32],
    },
    /// Nothing is in the way.
    Done,
}

/// A login at some point.
#[derive(Debug)]
pub struct Login {
    entropy: [u8; 32],
    negotiation: Negotiation,
    stage: Option<Stage>,
    requests: u32,
    text: Vec<u8>,
    auth: Auth,
    initiator: Option<String>,
    target_name: Option<String>,
    is_discovery: bool,
    target: Option<Arc<Target>>,
    is_resolved: bool,
    has_greeted: bool,
    has_declared: bool,
    /// From the first request.
    pub first: Option<LoginRequest>,
}

/// Who logged in, and how.
#[derive(Debug)]
pub struct Entered {
    /// The target; `None`: a discovery session.
    pub target: Option<Arc<Target>>,
    /// The initiator.
    pub nexus: Nexus,
    /// What holds.
    pub params: Params,
    /// The connection's name.
    pub cid: u16,
    /// The first command's number.
    pub cmd_sn: CmdSn,
}

impl Login {
    /// A login that has not begun. `entropy` is fresh for every connection.
    pub fn new(offer: Offer, entropy: [u8; 32]) -> Self {
        Self {
            entropy,
            negotiation: Negotiation::new(offer),
            stage: None,
            requests: 0,
            text: Vec::new(),
            auth: Auth::Open,
            initiator: None,
            target_name: None,
            is_discovery: false,
            target: None,
            is_resolved: false,
            has_greeted: false,
            has_declared: false,
            first: None,
        }
    }

    /// Takes a request with its text.
    pub fn handle(&mut self, request: &LoginRequest, text: &[u8], node: &Node) -> LoginStep {
        self.try_handle(request, text, node)
            .unwrap_or_else(LoginStep::Fail)
    }

    fn try_handle(
        &mut self,
        request: &LoginRequest,
        text: &[u8],
        node: &Node,
    ) -> Result<LoginStep, LoginStatus> {
        self.check_order(request)?;
        if self.text.len() + text.len() > TEXT_BYTES_MAX {
            return Err(LoginStatus::INITIATOR_ERROR);
        }
        self.text.extend_from_slice(text);
        if request.is_partial {
            return Ok(LoginStep::Answer {
                next: None,
                text: Vec::new(),
            });
        }
        let text = core::mem::take(&mut self.text);
        let pairs = keys::pairs(&text).map_err(|_| LoginStatus::INITIATOR_ERROR)?;
        for (key, value) in &pairs {
            self.identity(key, value)?;
        }
        if !self.is_resolved {
            self.resolve(request, node)?;
        }
        let mut answer = Vec::new();
        self.declare(request.stage, &mut answer);
        let proof = Proof::of(&pairs);
        for (key, value) in &pairs {
            self.key(key, value, &proof, &mut answer)?;
        }
        self.prove(&proof, &mut answer)?;
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(LoginStatus::INITIATOR_ERROR);
        }
        self.leave_stage(request, answer)
    }

    /// The fields that stay the same, and the stage.
    fn check_order(&mut self, request: &LoginRequest) -> Result<(), LoginStatus> {
        self.requests += 1;
        if self.requests > REQUESTS_MAX {
            return Err(LoginStatus::INITIATOR_ERROR);
        }
        match &self.first {
            None => {
                if request.version.1 > 0 {
                    return Err(LoginStatus::UNSUPPORTED_VERSION);
                }
                self.stage = Some(request.stage);
                self.first = Some(*request);
            }
            Some(first) => {
                let is_same = first.itt == request.itt
                    && first.isid == request.isid
                    && first.cid == request.cid
                    && first.tsih == request.tsih;
                if !is_same || self.stage != Some(request.stage) {
                    return Err(LoginStatus::INITIATOR_ERROR);
                }
            }
        }
        Ok(())
    }

    /// Who and whom. These may be repeated, but not changed.
    fn identity(&mut self, key: &str, value: &str) -> Result<(), LoginStatus> {
        let slot = match key {
            "InitiatorName" => &mut self.initiator,
            "TargetName" => &mut self.target_name,
            "SessionType" => {
                match value {
                    "Normal" if !self.is_discovery => {}
                    "Discovery" if !self.is_resolved || self.is_discovery => {
                        self.is_discovery = true;
                        self.negotiation.set_discovery();
                    }
                    _ => return Err(LoginStatus::SESSION_TYPE_NOT_SUPPORTED),
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        if value.is_empty() || value.len() > 223 {
            return Err(LoginStatus::INITIATOR_ERROR);
        }
        match slot {
            Some(old) if old != value => Err(LoginStatus::INITIATOR_ERROR),
            Some(_) => Ok(()),
            None if self.is_resolved => Err(LoginStatus::INITIATOR_ERROR),
            None => {
                *slot = Some(value.to_owned());
                Ok(())
            }
        }
    }

    /// After the first whole request: is there such a target, and may this initiator try?
    fn resolve(&mut self, request: &LoginRequest, node: &Node) -> Result<(), LoginStatus> {
        let initiator = self
            .initiator
            .as_deref()
            .ok_or(LoginStatus::MISSING_PARAMETER)?;
        if request.tsih != 0 {
            // One connection per session: none can be added, and at error recovery level 0 none can be replaced.
            let exists = node.all().iter().any(|t| t.has_session(request.tsih));
            return Err(if exists {
                LoginStatus::TOO_MANY_CONNECTIONS
            } else {
                LoginStatus::SESSION_DOES_NOT_EXIST
            });
        }
        self.is_resolved = true;
        if self.is_discovery {
            return Ok(());
        }
        let name = self
            .target_name
            .as_deref()
            .ok_or(LoginStatus::MISSING_PARAMETER)?;
        let target = node.find(name).ok_or(LoginStatus::NOT_FOUND)?;
        if !target.lets_in(initiator) {
            return Err(LoginStatus::AUTHORIZATION_FAILURE);
        }
        if target.gate() != Gate::Open {
            return Err(LoginStatus::SERVICE_UNAVAILABLE);
        }
        self.target = Some(target);
        Ok(())
    }

    /// What we say about ourselves without being asked.
    fn declare(&mut self, stage: Stage, answer: &mut Vec<u8>) {
        // RFC 7143 §13.9, "TargetPortalGroupTag": in the first answer of a normal session.
        if self.target.is_some() && !self.has_greeted {
            self.has_greeted = true;
            keys::push_pair(answer, "TargetPortalGroupTag", "1");
        }
        if stage == Stage::Operational && !self.has_declared {
            self.declare_length(answer);
        }
    }

    fn declare_length(&mut self, answer: &mut Vec<u8>) {
        self.has_declared = true;
        let bytes = self.negotiation.max_recv_bytes().to_string();
        keys::push_pair(answer, "MaxRecvDataSegmentLength", &bytes);
    }

    fn credentials(&self) -> Option<&crate::target::Credentials> {
        self.target
            .as_ref()
            .and_then(|t| t.spec().credentials.as_ref())
    }

    fn key(
        &mut self,
        key: &str,
        value: &str,
        proof: &Proof<'_>,
        answer: &mut Vec<u8>,
    ) -> Result<(), LoginStatus> {
        match key {
            "InitiatorName" | "TargetName" | "SessionType" => Ok(()),
            "AuthMethod" => self.auth_method(value, answer),
            "CHAP_A" => self.challenge(value, answer),
            "CHAP_N" | "CHAP_R" | "CHAP_I" | "CHAP_C" => {
                // They belong together and are judged as one.
                proof
                    .is_whole()
                    .then_some(())
                    .ok_or(LoginStatus::AUTHENTICATION_FAILURE)
            }
            _ => match self.negotiation.handle(key, value) {
                Ok(Answer::Silence) => Ok(()),
                Ok(Answer::Say(said)) => {
                    keys::push_pair(answer, key, &said);
                    Ok(())
                }
                Err(keys::Repeated) => Err(LoginStatus::INITIATOR_ERROR),
            },
        }
    }

    fn auth_method(&mut self, value: &str, answer: &mut Vec<u8>) -> Result<(), LoginStatus> {
        if !matches!(self.auth, Auth::Open) || self.stage != Some(Stage::Security) {
            return Err(LoginStatus::INITIATOR_ERROR);
        }
        let wanted = if self.credentials().is_some() {
            "CHAP"
        } else {
            "None"
        };
        if !value.split(',').any(|method| method == wanted) {
            return Err(LoginStatus::AUTHENTICATION_FAILURE);
        }
        keys::push_pair(answer, "AuthMethod", wanted);
        self.auth = if wanted == "CHAP" {
            Auth::Chap
        } else {
            Auth::Done
        };
        Ok(())
    }

    fn challenge(&mut self, list: &str, answer: &mut Vec<u8>) -> Result<(), LoginStatus> {
        if !matches!(self.auth, Auth::Chap) {
            return Err(LoginStatus::INITIATOR_ERROR);
        }
        let algorithm = Algorithm::choose(list).ok_or(LoginStatus::AUTHENTICATION_FAILURE)?;
        let challenge = chap::draw(&self.entropy, 0);
        let [id, ..] = chap::draw(&self.entropy, 1);
        keys::push_pair(answer, "CHAP_A", &algorithm.number().to_string());
        keys::push_pair(answer, "CHAP_I", &id.to_string());
        keys::push_pair(answer, "CHAP_C", &chap::hex(&challenge));
        self.auth = Auth::Challenged {
            algorithm,
            id,
            challenge,
        };
        Ok(())
    }

    /// Judges CHAP_N and CHAP_R, and proves ourselves when asked to.
    fn prove(&mut self, proof: &Proof<'_>, answer: &mut Vec<u8>) -> Result<(), LoginStatus> {
        let failed = LoginStatus::AUTHENTICATION_FAILURE;
        let (Some(name), Some(response)) = (proof.name, proof.response) else {
            return Ok(());
        };
        let Auth::Challenged {
            algorithm,
            id,
            challenge,
        } = self.auth
        else {
            return Err(LoginStatus::INITIATOR_ERROR);
        };
        let credentials = self.credentials().ok_or(failed)?;
        let response = chap::binary(response).ok_or(failed)?;
        let expected = algorithm.response(id, &credentials.secret, &challenge);
        let is_proved = chap::is_equal(&response, &expected) || bug!("any-secret-will-do");
        if name != credentials.user || !is_proved {
            return Err(failed);
        }
        if let (Some(their_id), Some(their_challenge)) = (proof.id, proof.challenge) {
            let (our_name, our_secret) = credentials.mutual.as_ref().ok_or(failed)?;
            let their_id: u8 = their_id.parse().map_err(|_| failed)?;
            let their_challenge = chap::binary(their_challenge).ok_or(failed)?;
            // Our own challenge sent back would have us prove their secret for them. RFC 7143 §12.1.3.
            if their_challenge == challenge && !bug!("any-challenge-is-answered") {
                return Err(failed);
            }
            let ours = algorithm.response(their_id, our_secret, &their_challenge);
            keys::push_pair(answer, "CHAP_N", our_name);
            keys::push_pair(answer, "CHAP_R", &chap::hex(&ours));
        }
        self.auth = Auth::Done;
        Ok(())
    }

    /// Agrees to leave the stage, unless authentication is under way or owed.
    fn leave_stage(
        &mut self,
        request: &LoginRequest,
        mut text: Vec<u8>,
    ) -> Result<LoginStep, LoginStatus> {
        let owes_proof = self.credentials().is_some() && !matches!(self.auth, Auth::Done);
        if owes_proof && request.stage == Stage::Operational {
            return Err(LoginStatus::AUTHENTICATION_FAILURE);
        }
        let Some(next) = request.next else {
            return Ok(LoginStep::Answer { next: None, text });
        };
        if owes_proof {
            return match self.auth {
                // It wants to leave and never spoke of authentication.
                Auth::Open => Err(LoginStatus::AUTHENTICATION_FAILURE),
                _ => Ok(LoginStep::Answer { next: None, text }),
            };
        }
        self.stage = Some(next);
        if next == Stage::FullFeature {
            if !self.has_declared {
                self.declare_length(&mut text);
            }
            return Ok(LoginStep::Enter { text });
        }
        Ok(LoginStep::Answer {
            next: Some(next),
            text,
        })
    }

    /// The result of a login that said [`LoginStep::Enter`].
    pub fn entered(&self) -> Option<Entered> {
        let first = self.first?;
        Some(Entered {
            target: self.target.clone(),
            nexus: Nexus {
                initiator: self.initiator.as_deref()?.into(),
                isid: first.isid,
            },
            params: self.negotiation.clone().finish(),
            cid: first.cid,
            cmd_sn: first.cmd_sn,
        })
    }

    /// The task tag that every answer of this login carries.
    pub fn itt(&self) -> Itt {
        self.first.map_or(Itt(0), |f| f.itt)
    }
}

/// The keys of a CHAP answer in one request.
#[derive(Debug, Default)]
struct Proof<'a> {
    name: Option<&'a str>,
    response: Option<&'a str>,
    id: Option<&'a str>,
    challenge: Option<&'a str>,
}

impl<'a> Proof<'a> {
    fn of(pairs: &[(&'a str, &'a str)]) -> Self {
        let find = |key: &str| pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
        Self {
            name: find("CHAP_N"),
            response: find("CHAP_R"),
            id: find("CHAP_I"),
            challenge: find("CHAP_C"),
        }
    }

    /// Name with response, and identifier with challenge.
    const fn is_whole(&self) -> bool {
        self.name.is_some()
            && self.response.is_some()
            && self.id.is_some() == self.challenge.is_some()
    }
}
