//! Raw bytes: PDUs, and logins.

use super::{Feed, spec};
use crate::keys::Offer;
use crate::session::{Action, Connection, Setup};
use crate::target::{Credentials, Doorbell, Mailbox, Node};
use crate::wire::deframe::{Deframer, Step};
use crate::wire::{
    Header, async_message, command, data, login, logout, nop, r2t, reject, snack, task, text,
};
use bytes::Bytes;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Silent;

impl Doorbell for Silent {
    fn ring(&self) {}
}

/// A connection to the targets of `node`.
pub(super) fn connection(node: &Arc<Node>, number: u32) -> Connection<Bytes> {
    Connection::new(Setup {
        node: node.clone(),
        mailbox: Arc::new(Mailbox::new(Arc::new(Silent))),
        number,
        entropy: [number as u8; 32],
        portal: "[::1]:3260".to_owned(),
        offer: Offer::default(),
        window: 8,
        inflight_bytes: 1 << 20,
    })
}

macro_rules! identity {
    ($header:expr, $($module:ident :: $name:ident ( $($len:expr)? )),* $(,)?) => {$(
        if let Ok(parsed) = $module::$name::parse($header) {
            assert_eq!($module::$name::parse(&parsed.emit($($len)?)), Ok(parsed));
        }
    )*};
}

/// What parse understands, emit says.
pub(crate) fn parse_then_emit_is_the_identity(header: &Header) {
    identity!(
        header,
        login::LoginRequest(0),
        login::LoginResponse(0),
        command::ScsiCommand(0),
        command::ScsiResponse(0),
        data::DataOut(0),
        data::DataIn(0),
        r2t::R2t(),
        task::TaskRequest(),
        task::TaskResponse(),
        text::TextRequest(0),
        text::TextResponse(0),
        nop::NopOut(0),
        nop::NopIn(0),
        logout::LogoutRequest(),
        logout::LogoutResponse(),
        reject::Reject(0),
        async_message::AsyncMessage(0),
        snack::Snack(),
    );
}

/// A stream in portions: every PDU is whole, none longer than declared; and the same stream to a connection.
pub fn pdu(data: &[u8]) {
    let mut feed = Feed(data);
    let [flags, portion] = feed.array();
    let data_max = 512 << (flags >> 4);
    let mut deframer = Deframer::new(data_max);
    deframer.set_digests(flags & 1 != 0, flags & 2 != 0);
    let mut current = None;
    let mut bytes = 0;
    'stream: for part in feed.0.chunks(usize::from(portion) + 1) {
        let mut input = part;
        loop {
            match deframer.step(&mut input) {
                Ok(Step::More) => break,
                Ok(Step::Header(header)) => {
                    assert!(current.is_none() && header.data_bytes() <= data_max);
                    parse_then_emit_is_the_identity(&header);
                    current = Some(header);
                    bytes = 0;
                }
                Ok(Step::Data(data)) => bytes += data.len() as u32,
                Ok(Step::End { .. }) => {
                    let header = current.take().expect("an end after its header");
                    assert_eq!(bytes, header.data_bytes());
                }
                Err(_) => break 'stream,
            }
        }
    }
    let node = Arc::new(Node::default());
    super::target(&node, "v");
    let mut machine = connection(&node, 1);
    for part in feed.0.chunks(usize::from(portion) + 1) {
        machine.handle_bytes(part);
        while let Some(action) = machine.poll_action() {
            if let Action::Submit { tag, .. } = action {
                machine.handle_reply(tag, engine::Reply::Busy);
            }
        }
        let unsent = machine.transmit().len();
        assert!(
            unsent < 1 << 20,
            "{unsent} bytes of answers to {} bytes",
            data.len()
        );
        machine.handle_sent(unsent);
    }
}

/// Login requests whose flags and text the input chooses. Nobody gets in without the secret.
pub fn login(data: &[u8]) {
    let mut feed = Feed(data);
    let has_secret = feed.byte() & 1 == 0;
    let node = Arc::new(Node::default());
    let mut spec = spec("v");
    if has_secret {
        spec.credentials = Some(Credentials {
            user: "joe".to_owned(),
            secret: b"never in a corpus".to_vec(),
            mutual: Some(("v".to_owned(), b"nor is this".to_vec())),
        });
    }
    node.add(spec).expect("a good specification");
    let mut machine = connection(&node, 1);
    while !feed.is_empty() && machine.ended().is_none() && !machine.is_full_feature() {
        let flags = feed.byte();
        let length = usize::from(feed.short() & 0x1fff);
        let text = feed.take(length);
        let mut header = Header::default();
        header.0[0] = 0x43;
        header.0[1] = flags;
        header.0[8] = 0x80;
        let [_, high, mid, low] = (text.len() as u32).to_be_bytes();
        header.0[5..8].copy_from_slice(&[high, mid, low]);
        machine.handle_bytes(&header.0);
        machine.handle_bytes(text);
        machine.handle_bytes(&[0; 3][..text.len().wrapping_neg() & 3]);
        let unsent = machine.transmit().len();
        assert!(unsent <= 48 + 48 + 16_384, "{unsent} bytes of answer");
        machine.handle_sent(unsent);
    }
    let target = node.all().remove(0);
    let has_session = target.session_count() > 0;
    assert!(!(has_secret && has_session), "a session without the secret");
}
