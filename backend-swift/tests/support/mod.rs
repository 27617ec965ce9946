//! A client against a real Swift, and things to store in it.

#![allow(
    unreachable_pub,
    reason = "shared by test binaries, each of which is a crate"
)]
#![allow(dead_code, reason = "not every test binary uses everything")]

use bytes::Bytes;
use engine::codec::Unreadable;
use engine::effect::{
    Absence, Body, Expect, FrameExpect, FrameGot, GetRequest, Outcome, Receipt, StoreRequest, Token,
};
use engine::ids::{AttachId, Container, Generation, Holder, Version, VolumeId};
use engine::object::draft::{DataObject, GrainDraft, SectionDraft};
use engine::object::names::{DataName, ObjectName};
use engine::object::{Target, decode_meta, encode_body, frame};
use engine::payload::{Part, Parts};
use engine::sum::Sum;
use engine::time::Duration;
use engine::units::{ChunkIndex, GrainIndex};
use martlet_backend_swift::client::{Client, Codec, Credentials, Surroundings, SwiftConfig};
use martlet_backend_swift::{Content, Settings};
use std::sync::atomic::{AtomicU64, Ordering};

/// The engine's formats over plain bytes.
pub struct PlainCodec;

struct Flat(Vec<u8>);

fn flat(content: &Parts<Bytes>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in &content.0 {
        match part {
            Part::Data(data) => bytes.extend_from_slice(data),
            Part::Zeros(count) => bytes.resize(bytes.len() + count.0 as usize, 0),
        }
    }
    bytes
}

impl Target<Bytes> for Flat {
    fn sum(&mut self, content: &Parts<Bytes>) -> Sum {
        Sum(crc32c::crc32c(&flat(content)))
    }
    fn put(&mut self, bytes: Vec<u8>) {
        self.0.extend(bytes);
    }
    fn put_content(&mut self, content: &Parts<Bytes>) {
        self.0.extend(flat(content));
    }
}

impl Codec for PlainCodec {
    fn encode(&self, body: &Body<Bytes>) -> (Bytes, Receipt) {
        let mut target = Flat(Vec::new());
        let receipt = encode_body(body, &mut target);
        (target.0.into(), receipt)
    }

    fn decode(&self, request: &GetRequest, body: Bytes) -> Content<Outcome<Bytes>> {
        let result = match (&request.expect, &request.name) {
            (Expect::Frames(frames), ObjectName::Data(name)) => {
                let sum = |bytes: &[u8]| Sum(crc32c::crc32c(bytes));
                frame::check_all(&body, frames, request.container.id, name, sum).map(|checked| {
                    let got = |(range, sums)| FrameGot {
                        data: body.slice(range),
                        sums,
                    };
                    Outcome::Frames(checked.into_iter().map(got).collect())
                })
            }
            (expect, name) => decode_meta(expect, Some((&request.container, name)), &body)
                .map(|(meta, hash)| Outcome::Meta(meta, hash)),
        };
        match result {
            Ok(outcome) => Content::Good(outcome),
            Err(Unreadable::TooNew) => Content::TooNew,
            Err(Unreadable::Malformed(_)) => Content::Damaged,
        }
    }
}

/// Waits fit for tests: the shape of production's, in tenths.
pub fn quick() -> Settings {
    Settings {
        backoff_base: Duration::from_millis(30),
        backoff_cap: Duration::from_millis(300),
        exchange_timeout: Duration::from_secs(5),
        put_deadline: Duration::from_secs(10),
        other_deadline: Duration::from_secs(10),
        absence_gap: Duration::from_millis(200),
        damage_span: Duration::from_millis(600),
        auth_gap: Duration::from_millis(100),
        ..Settings::default()
    }
}

pub fn credentials(variables: &[(impl AsRef<str>, impl AsRef<str>)]) -> Credentials {
    let surroundings = Surroundings {
        variable: &|name| {
            let found = variables.iter().find(|(n, _)| n.as_ref() == name);
            found.map(|(_, v)| v.as_ref().to_owned())
        },
        file: &|_| Ok(None),
    };
    Credentials::find_in(None, &surroundings).expect("credentials")
}

pub fn client_with(credentials: Credentials, settings: Settings) -> Client {
    let mut config = SwiftConfig::new("t-", credentials, 1);
    config.settings = settings;
    Client::new(config, PlainCodec).expect("a client")
}

/// A volume that no other test has.
pub fn container() -> Container {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&count.to_be_bytes());
    Container::new("vm", VolumeId(id))
}

pub const ATTACH: AttachId = AttachId {
    generation: Generation(1),
    nonce: 0x1234_5678_9abc_def0,
};

/// A data object of so many grains of chunk 0, each filled with its own number.
pub fn data(container: &Container, serial: u32, grains: u16) -> (DataName, DataObject<Bytes>) {
    let grain = |n: u16| GrainDraft {
        index: GrainIndex(n.into()),
        content: Parts::one(vec![n as u8 + 1; 4096].into()),
    };
    let name = DataName {
        version: Version(1),
        first: ChunkIndex(0),
        last: ChunkIndex(0),
        attach: ATTACH,
        serial,
    };
    let object = DataObject {
        volume: container.id,
        attach: ATTACH,
        serial,
        frame_grains: 16,
        sections: vec![SectionDraft {
            chunk: ChunkIndex(0),
            grains: (0..grains).map(grain).collect(),
        }],
    };
    (name, object)
}

pub fn put_data(container: &Container, serial: u32, grains: u16) -> StoreRequest<Bytes> {
    let (name, object) = data(container, serial, grains);
    put(container, ObjectName::Data(name), Body::Data(object))
}

/// The range GET of the second frame (grains 16 to 31).
pub fn get_frame(container: &Container, serial: u32) -> StoreRequest<Bytes> {
    let (name, _) = data(container, serial, 0);
    let stride = frame::frame_bytes(16) as u64;
    StoreRequest::Get(GetRequest {
        container: container.clone(),
        name: ObjectName::Data(name),
        range: Some(stride..2 * stride),
        absence: Absence::Damage,
        deadline: Duration::from_secs(5),
        expect: Expect::Frames(vec![FrameExpect {
            chunk: ChunkIndex(0),
            frame: 1,
            grains: (16..32).map(GrainIndex).collect(),
        }]),
    })
}

/// Whether these are the frame that [`get_frame`] asks for.
pub fn is_frame(outcome: &Outcome<Bytes>) -> bool {
    let Outcome::Frames(frames) = outcome else {
        return false;
    };
    frames.len() == 1
        && frames[0].data.len() == 16 * 4096
        && (0..16).all(|n| frames[0].data[n * 4096..][..4096] == [n as u8 + 17; 4096])
}

pub fn put(container: &Container, name: ObjectName, body: Body<Bytes>) -> StoreRequest<Bytes> {
    StoreRequest::Put {
        container: container.clone(),
        name,
        body,
        once: false,
    }
}

pub fn token(generation: u64, host: &str) -> Token {
    Token {
        attach: AttachId {
            generation: Generation(generation),
            ..ATTACH
        },
        holder: Holder {
            host: host.to_owned(),
            ..Holder::default()
        },
        base: None,
    }
}

pub fn claim(container: &Container, generation: u64, host: &str) -> StoreRequest<Bytes> {
    StoreRequest::Put {
        container: container.clone(),
        name: ObjectName::Claim(Generation(generation)),
        body: Body::Token(token(generation, host)),
        once: true,
    }
}

pub fn put_door(container: &Container, generation: u64) -> StoreRequest<Bytes> {
    put(
        container,
        ObjectName::Door(Generation(generation)),
        Body::Door,
    )
}

pub fn get(
    container: &Container,
    name: ObjectName,
    absence: Absence,
    expect: Expect,
) -> StoreRequest<Bytes> {
    StoreRequest::Get(GetRequest {
        container: container.clone(),
        name,
        range: None,
        absence,
        deadline: Duration::from_secs(5),
        expect,
    })
}

pub fn is_shut(container: &Container, generation: u64, absence: Absence) -> StoreRequest<Bytes> {
    get(
        container,
        ObjectName::Door(Generation(generation)),
        absence,
        Expect::Exists,
    )
}

/// A short name of an outcome.
pub fn said(outcome: &Outcome<Bytes>) -> String {
    match outcome {
        Outcome::Store(error) => format!("{error:?}"),
        Outcome::Put(_) => "Put".to_owned(),
        Outcome::Meta(..) => "Meta".to_owned(),
        Outcome::Frames(_) => "Frames".to_owned(),
        other => format!("{other:?}"),
    }
}

/// The same read with little patience, where it is to fail.
pub fn hurried(mut request: StoreRequest<Bytes>) -> StoreRequest<Bytes> {
    if let StoreRequest::Get(get) = &mut request {
        get.deadline = Duration::from_secs(1);
    }
    request
}
