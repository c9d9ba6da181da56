//! A join is told who is present in its topic. A large roster is not copied for each of a crowd that joins: its frames share its
//! parts.

use std::collections::VecDeque;

use bytes::Bytes;
use fanfare_proto::chunked;
use fanfare_proto::payload::Payload;
use fanfare_proto::presence::State;
use fanfare_proto::websocket::frame::{Opcode, header};
use fanfare_proto::wire;

use super::seat::{Code, Membership, Phase};
use super::{Socket, Turn};
use crate::message::{Carriage, with_buffer, with_deflater};
use crate::presence::{Presence, Told};
use crate::transport::Carrier;

/// Below so many bytes a copy costs less than the parts.
const IN_PARTS_SIZE_MIN: usize = 16 * 1024;

impl Socket {
    /// Pushes what a presence tells of all who are present in a join's topic.
    pub(crate) fn push_present(&mut self, turn: &mut Turn, serial: u32, presence: &Presence, topic: &str) {
        let (event, told) = presence.state(topic);
        match told {
            Told::Count(payload) => self.push(turn, serial, event.into(), payload),
            Told::All(state) => self.push_state(turn, serial, event, &state),
        }
    }

    /// Pushes a state that others are told as well.
    pub(crate) fn push_state(&mut self, turn: &mut Turn, serial: u32, event: &str, state: &State) {
        if state.size() < IN_PARTS_SIZE_MIN || !self.push_in_parts(turn, serial, event, state) {
            self.push(turn, serial, event.into(), Payload::Json(state.to_json()));
        }
    }

    /// `false`, and nothing was pushed, where a state has to be copied after all: for a join that is not answered, or that handles a
    /// message which this takes the place of.
    fn push_in_parts(&mut self, turn: &mut Turn, serial: u32, event: &str, state: &State) -> bool {
        let (form, carriage) = (self.form(), self.carriage());
        let is_fit = match &self.carrier {
            Carrier::Wire(_) => carriage != Carriage::Chunked || state.is_one_line(),
            Carrier::Poll(_) => true,
            _ => false,
        };
        let Some(slot) = self.slot(serial).filter(|_| is_fit) else { return false };
        let entry = self.entry(slot);
        let Phase::Live(Membership { code, .. }) = &entry.data.phase else { return false };
        if matches!(code, Code::Runs { handled: Some(_), .. }) {
            return false;
        }
        let (topic, push_ref) = (entry.topic().clone(), entry.push_ref().clone());
        let (head, parts) = with_buffer(|out| {
            let payload_at = wire::push_around(form, &push_ref, &topic, event, out);
            let (before, behind) = out.split_at(payload_at);
            in_parts(carriage, before, state, behind)
        });
        self.settle_batches(turn, slot);
        self.queue_parts(&mut turn.backlog, head, parts);
        true
    }
}

/// A state as one frame between what comes before it and behind: the first part, which is the client's own, and the others.
fn in_parts(carriage: Carriage, before: &[u8], state: &State, behind: &[u8]) -> (Bytes, VecDeque<Bytes>) {
    let size = before.len() + state.size() + behind.len();
    let text = |head: &[u8], end: &[u8]| {
        let behind = Bytes::from([behind, end].concat());
        (Bytes::from([head, before].concat()), state.parts().cloned().chain([behind]).collect())
    };
    match carriage {
        Carriage::Text => text(b"", b""),
        Carriage::WebSocket => text(header(Opcode::Text, size, true, false).as_slice(), b""),
        Carriage::Chunked => text(chunked::head(size).as_bytes(), chunked::DATA_END),
        Carriage::Deflated => with_deflater(|deflater| {
            let (mut first, mut last) = (Vec::new(), Vec::new());
            deflater.compress_part(before, &mut first);
            let mut parts: VecDeque<Bytes> = state.deflated_parts(deflater).cloned().collect();
            deflater.compress(behind, &mut last);
            parts.push_back(last.into());
            let size = first.len() + parts.iter().map(Bytes::len).sum::<usize>();
            let header = header(Opcode::Text, size, true, true);
            (Bytes::from([header.as_slice(), &first].concat()), parts)
        }),
    }
}
