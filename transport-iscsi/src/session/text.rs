//! Text requests: SendTargets, and parameters that may change in full feature phase. RFC 7143 §11.10, "Text Request"; §13.3 and
//! appendix C, "SendTargets Operation".

use super::Io;
use super::full::Full;
use crate::keys;
use crate::payload::WirePayload;
use crate::wire::header::{Malformed, Ttt};
use crate::wire::text::{TextRequest, TextResponse};

/// Most text of one request, continued over several PDUs.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// Most text of one answer: some 10,000 targets. A request may ask for all of them again and again.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A text exchange at some point.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// Text that came so far (C).
    asked: Vec<u8>,
    /// Text that is still to be said.
    answer: Vec<u8>,
    /// Bytes of it that were said.
    said: usize,
    /// The transfer tag that the next request of this exchange carries.
    ttt: u32,
    is_open: bool,
}

impl<P: WirePayload> Full<P> {
    pub(super) fn answer_text(
        &mut self,
        io: &mut Io<P>,
        request: &TextRequest,
        data: &[u8],
    ) -> Result<(), Malformed> {
        if request.ttt == Ttt::NONE {
            let ttt = self.text.ttt;
            self.text = Exchange {
                ttt,
                ..Exchange::default()
            };
        } else if !self.text.is_open || request.ttt.0 != self.text.ttt {
            return Err(Malformed::protocol("text of an exchange that is none"));
        }
        if self.text.asked.len() + data.len() > TEXT_BYTES_MAX {
            return Err(Malformed::protocol("a text request beyond 64 KiB"));
        }
        self.text.asked.extend_from_slice(data);
        if !request.is_partial && !self.text.asked.is_empty() {
            let asked = core::mem::take(&mut self.text.asked);
            let pairs = keys::pairs(&asked).map_err(|bad| Malformed::protocol(bad.0))?;
            for (key, value) in pairs {
                self.text_key(io, key, value)?;
            }
        }
        self.say_text(io, request);
        Ok(())
    }

    /// The next part of the answer that fits the initiator's segment.
    fn say_text(&mut self, io: &mut Io<P>, request: &TextRequest) {
        let exchange = &mut self.text;
        let rest = exchange.answer.get(exchange.said..).unwrap_or(&[]);
        let most = self.params.max_send_bytes as usize;
        let part = rest.get(..most.min(rest.len())).unwrap_or(rest).to_vec();
        exchange.said += part.len();
        let goes_on = exchange.said < exchange.answer.len();
        let is_final = !goes_on && request.is_final;
        exchange.is_open = !is_final;
        if !is_final {
            exchange.ttt = (exchange.ttt + 1) & 0x7fff_ffff;
        }
        let ttt = if is_final {
            Ttt::NONE
        } else {
            Ttt(exchange.ttt)
        };
        let response = TextResponse {
            is_final,
            is_partial: goes_on,
            lun: request.lun,
            itt: request.itt,
            ttt,
            stat_sn: io.take_stat_sn(),
            exp_cmd_sn: self.window.expected(),
            max_cmd_sn: self.window.max(),
        };
        // Not more than the initiator's segment length.
        io.out.push(&response.emit(part.len() as u32), &part);
    }

    fn text_key(&mut self, io: &Io<P>, key: &str, value: &str) -> Result<(), Malformed> {
        match key {
            "SendTargets" => self.send_targets(io, value),
            "MaxRecvDataSegmentLength" => {
                // A declaration: it may change at any time and is not answered.
                let bytes = value.parse().ok().filter(|n| (512..1 << 24).contains(n));
                self.params.max_send_bytes =
                    bytes.ok_or(Malformed::protocol("bad MaxRecvDataSegmentLength"))?;
            }
            "InitiatorAlias" => {}
            _ => keys::push_pair(&mut self.text.answer, key, "NotUnderstood"),
        }
        if self.text.answer.len() > ANSWER_BYTES_MAX {
            self.text.answer.clear();
            return Err(Malformed::protocol("a text answer beyond 1 MiB"));
        }
        Ok(())
    }

    /// `All` and names in discovery sessions; in a normal session its own target only, by name or by an empty value.
    fn send_targets(&mut self, io: &Io<P>, value: &str) {
        let answer = &mut self.text.answer;
        let own = self.target.as_ref().map(|t| t.spec().name.as_str());
        if own.is_some() && value == "All" {
            keys::push_pair(answer, "SendTargets", "Reject");
            return;
        }
        for target in io.setup.node.all() {
            let name = target.spec().name.as_str();
            let is_asked = match (own, value) {
                (Some(own), "") => name == own,
                (Some(own), asked) => name == own && asked == own,
                (None, "All") => true,
                (None, asked) => name == asked,
            };
            if is_asked && target.lets_in(&self.nexus.initiator) {
                keys::push_pair(answer, "TargetName", name);
                let address = format!("{},1", io.setup.portal);
                keys::push_pair(answer, "TargetAddress", &address);
            }
        }
    }
}
