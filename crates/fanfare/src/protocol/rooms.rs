//! JSON frames that join, leave and say something. What breaks the rules closes the socket.

use fanfare_proto::message::Ref;
use fanfare_proto::payload::Payload;
use fanfare_proto::rooms;
use fanfare_proto::session::Verdict;
use fanfare_proto::websocket::decoder::Item;

use super::Said;
use crate::channel::Status;
use crate::close_reason::CloseReason;
use crate::dialect::Dialect;
use crate::mount::Mount;
use crate::socket::{Socket, Turn};

impl Mount {
    /// JSON rooms: clients send `{"join": c}`, `{"leave": c}` and `{"say": m, "to": c}` over WebSocket, at any path below the
    /// mount, and members of a channel get `m`: a string as its bare text, anything else as its JSON. A channel's name is a
    /// topic, and its behaviour is that of the mount's channels, as with Phoenix; [`Relay`](crate::Relay) is the plain one.
    /// What is said counts as the event `message`.
    ///
    /// A frame that is none of these closes the socket with 3000.
    pub fn rooms() -> Self {
        let mut mount = Mount::new().longpoll(false);
        mount.dialect = Dialect::Rooms;
        mount
    }

    /// Whether clients of [`rooms`](Mount::rooms) are told what they have joined and left (`{"joined": c}`, `{"left": c}`).
    /// Default: no. A refused join and a crash are told always.
    pub fn acks(mut self, on: bool) -> Self {
        self.acks = on;
        self
    }
}

pub(super) fn hear(socket: &mut Socket, turn: &mut Turn, item: Item<'_>) {
    let frame = match item {
        Item::Text(text) => text.as_bytes(),
        Item::Binary(data) => data,
        _ => return,
    };
    socket.count_received(turn);
    let mount = socket.info.mount.clone();
    match rooms::decode(frame, &mount.event) {
        Ok(message) => socket.receive(turn, message),
        Err(rooms::InvalidPayload) => break_off(socket, turn, rooms::INVALID_PAYLOAD),
    }
}

pub(super) fn means_otherwise(socket: &mut Socket, turn: &mut Turn, verdict: Verdict, said: &Said<'_>) -> bool {
    match verdict {
        // Joining again changes nothing, leaving what was not joined is safe: both are acknowledged.
        Verdict::Rejoin(_) => {
            socket.answer(turn, &Ref::NULL, said.msg_ref, said.topic, Status::Ok, Payload::default());
        }
        Verdict::NotJoined => socket.close_replaced(turn, said.topic, Some(&Ref::NULL)),
        Verdict::Unmatched if said.event != "phx_join" => break_off(socket, turn, rooms::NOT_JOINED),
        _ => return false,
    }
    true
}

/// Closes a client that breaks the rules.
fn break_off(socket: &mut Socket, turn: &mut Turn, reason: &'static str) {
    socket.close(turn, &CloseReason::Application(rooms::CLOSE_CODE, reason.into()));
}
