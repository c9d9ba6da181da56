//! What a client's frame means, in the protocol of its socket.

use bytes::Bytes;
use fanfare_proto::bullet::{self, Heard};
use fanfare_proto::frame::Kind;
use fanfare_proto::message::Incoming;
use fanfare_proto::payload::{Payload, Text};
use fanfare_proto::phoenix::codec;
use fanfare_proto::phoenix::message::Undecodable;
use fanfare_proto::rooms;
use fanfare_proto::websocket::decoder::{Item, Violation};
use fanfare_proto::websocket::frame::{self, Opcode};

use super::{Carrier, Protocol, Reading, Socket, Turn};
use crate::close_reason::CloseReason;
use crate::command::Command;
use crate::event::{self, Event};
use crate::message::{Carriage, Draft, carry, deflated};

impl Socket {
    /// A frame of the client's.
    pub(crate) fn hear(&mut self, turn: &mut Turn, item: Item<'_>) {
        self.heard_ms = turn.now_ms;
        match (self.protocol, item) {
            (_, Item::Close(code)) => self.client_closed(turn, code),
            (_, Item::Pong(_)) => {}
            (_, Item::Ping(payload)) => {
                let mut pong = Vec::with_capacity(payload.len() + 2);
                frame::encode(Opcode::Pong, payload, false, &mut pong);
                self.queue(&mut turn.backlog, pong.into(), 1);
            }
            (Protocol::Phoenix, Item::Text(text)) => {
                self.decoded(turn, text.len(), codec::decode_text(self.info.version, text));
            }
            (Protocol::Phoenix, Item::Binary(data)) => {
                self.decoded(turn, data.len(), codec::decode_binary(self.info.version, data));
            }
            (Protocol::Rooms, Item::Text(text)) => self.heard_in_rooms(turn, text.as_bytes()),
            (Protocol::Rooms, Item::Binary(data)) => self.heard_in_rooms(turn, data),
            (Protocol::HubPublisher, Item::Text(text)) => self.publish_frame(turn, Text::copy(text).into()),
            (Protocol::HubPublisher, Item::Binary(data)) => {
                self.publish_frame(turn, Payload::Binary(Bytes::copy_from_slice(data)));
            }
            (Protocol::Bullet, Item::Text(text)) => self.heard_bullet(turn, text),
            (Protocol::HubSubscriber, _) | (Protocol::Bullet, Item::Binary(_)) => turn.count(Event::Received),
            (Protocol::Echo, Item::Text(text)) => self.echo(turn, Kind::Text, text.as_bytes()),
            (Protocol::Echo, Item::Binary(data)) => self.echo(turn, Kind::Binary, data),
            // None of them has a WebSocket.
            (Protocol::Registry | Protocol::Events | Protocol::Lines, _) => {}
        }
    }

    fn decoded(&mut self, turn: &mut Turn, len: usize, message: Result<Incoming<'_>, Undecodable>) {
        turn.count(Event::Received);
        match message {
            Ok(message) => self.receive(turn, message),
            Err(Undecodable(reason)) => self.undecodable(turn, len, reason),
        }
    }

    /// A message that means nothing: the socket is closed, the reason logged without the content.
    pub(crate) fn undecodable(&mut self, turn: &mut Turn, len: usize, reason: &'static str) {
        event::undecodable(self.info.peer, len, reason);
        self.close(turn, &CloseReason::Undecodable);
    }

    /// Compresses whatever its size, since conformance cases want to see it.
    fn echo(&mut self, turn: &mut Turn, kind: Kind, data: &[u8]) {
        let Carrier::WebSocket(websocket) = &self.carrier else { return };
        let bytes = match websocket.deflate_window_bits {
            Some(window_bits) => deflated(kind, data, window_bits),
            None => carry(Carriage::WebSocket, kind, data),
        };
        self.queue(&mut turn.backlog, bytes, 1);
    }

    /// The client's bytes are no WebSocket frames.
    pub(crate) fn violated(&mut self, turn: &mut Turn, violation: Violation) {
        tracing::debug!(peer = ?self.info.peer, code = violation.code, reason = violation.reason, "WebSocket violation");
        let reason = match violation.code {
            1009 => CloseReason::TooLarge,
            code => CloseReason::Protocol(code),
        };
        self.close(turn, &reason);
    }

    fn heard_in_rooms(&mut self, turn: &mut Turn, frame: &[u8]) {
        turn.count(Event::Received);
        let mount = self.info.mount.clone();
        match rooms::decode(frame, &mount.event) {
            Ok(message) => self.receive(turn, message),
            Err(rooms::InvalidPayload) => self.break_off(turn, rooms::INVALID_PAYLOAD),
        }
    }

    /// A frame of a hub's publisher.
    fn publish_frame(&mut self, turn: &mut Turn, payload: Payload) {
        turn.count(Event::Received);
        let Some(entry) = self.session.entries().first() else { return };
        match Draft::new(entry.topic().clone(), &*self.info.mount.event, payload) {
            Ok(draft) => self.publish_unanswered(turn, draft),
            // The mount's event and the publisher's topic were checked, so it is the payload.
            Err(_) => self.undecodable(turn, 0, "a frame that cannot be published"),
        }
    }

    /// Publishes a message, and reads no further before it has found room.
    fn publish_unanswered(&mut self, turn: &mut Turn, draft: Draft) {
        let endpoint = self.info.endpoint.clone();
        if let Err(draft) = endpoint.try_publish_unanswered(draft) {
            self.reading = Reading::WaitsForRoom;
            let (shard, socket) = (turn.shard.clone(), self.key);
            let in_time = Box::pin(endpoint.publish_in_time(draft));
            turn.run_user_code(in_time, move |()| shard.send_promptly(Command::ReadOn { socket }));
        }
    }

    fn heard_bullet(&mut self, turn: &mut Turn, text: &str) {
        turn.count(Event::Received);
        match bullet::hear(text) {
            Heard::Answer(answer) => self.send_text(turn, answer),
            Heard::Other => self.info.mount.heard(self.info.id(), text),
        }
    }
}
