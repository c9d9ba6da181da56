//! A join is told who is present in its topic. A large roster is not copied for each of a crowd that joins: its frames share its
//! parts.

use bytes::Bytes;
use fanfare_proto::payload::Payload;
use fanfare_proto::presence::State;
use fanfare_proto::websocket::frame::{Opcode, header};
use fanfare_proto::wire;

use super::seat::{Code, Membership, Phase};
use super::{Socket, Turn};
use crate::message::{Carriage, with_buffer};
use crate::presence::{Presence, Told};
use crate::transport::Carrier;

/// Below so many bytes a copy costs less than the parts.
const IN_PARTS_SIZE_MIN: usize = 16 * 1024;

impl Socket {
    /// Pushes what a presence tells of all who are present in a join's topic.
    pub(crate) fn push_present(&mut self, turn: &mut Turn, serial: u32, presence: &Presence, topic: &str) {
        let (event, told) = presence.state(topic);
        let payload = match told {
            Told::Count(payload) => payload,
            Told::All(state) => {
                if state.size() >= IN_PARTS_SIZE_MIN && self.push_in_parts(turn, serial, event, &state) {
                    return;
                }
                Payload::Json(state.to_json())
            }
        };
        self.push(turn, serial, event.into(), payload);
    }

    /// Pushes a state that is shared with others. `false`, and nothing was pushed, where it has to be copied after all: for a join that is
    /// not answered, to be compressed, or in the form of a stream.
    fn push_in_parts(&mut self, turn: &mut Turn, serial: u32, event: &str, state: &State) -> bool {
        let (form, carriage) = (self.form(), self.carriage());
        let is_fit = match &self.carrier {
            Carrier::Wire(_) => carriage == Carriage::WebSocket,
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
        let around = with_buffer(|out| {
            let payload_at = wire::push_around(form, &push_ref, &topic, event, out)?;
            let size = out.len() + state.size();
            let (before, behind) = out.split_at(payload_at);
            let head = match carriage {
                Carriage::WebSocket => [header(Opcode::Text, size, true, false).as_slice(), before].concat(),
                Carriage::Text | Carriage::Deflated | Carriage::Chunked => before.to_vec(),
            };
            Some((Bytes::from(head), Bytes::copy_from_slice(behind)))
        });
        let Some((head, behind)) = around else { return false };
        self.settle_batches(turn, slot);
        self.queue_parts(&mut turn.backlog, head, state.parts().cloned().chain([behind]).collect());
        true
    }
}
