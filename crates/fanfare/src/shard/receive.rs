//! Bytes in: from a socket through its decoder to the protocol.

use std::io;
use std::ops::ControlFlow;

use bytes::Bytes;
use fanfare_proto::bullet::{self, Heard};
use fanfare_proto::frame::Kind;
use fanfare_proto::message::Incoming;
use fanfare_proto::payload::{Payload, Text};
use fanfare_proto::phoenix::codec;
use fanfare_proto::phoenix::message::Undecodable;
use fanfare_proto::rooms;
use fanfare_proto::websocket::decoder::{Decoder, Item, Role, Violation};
use fanfare_proto::websocket::frame::{self, Opcode};

use super::{Shard, Timer};
use crate::command::SocketKey;
use crate::event::{self, Event};
use crate::message::{Carriage, Message, carry, deflated};
use crate::socket::{Carrier, CloseReason, Protocol, Socket};

/// A socket that sends more than this many buffers is read again in the next turn, after the others.
const READS_PER_TURN_MAX: usize = 4;

impl Shard {
    /// The kernel says that something can be done with a socket; `ended`, that the client sends no more than what is there.
    pub(super) fn ready(&mut self, index: usize, readable: bool, ended: bool, writable: bool) {
        let Some(socket) = self.sockets.get_mut(index) else { return };
        let key = socket.key;
        if ended && let Carrier::WebSocket(websocket) = &mut socket.carrier {
            websocket.has_ended = true;
        }
        if writable
            && let Carrier::WebSocket(websocket) = &socket.carrier
            && websocket.stalled_since_ms.is_some()
        {
            self.resume_writing(key);
        }
        if readable || ended {
            self.read(key);
        }
    }

    pub(super) fn read(&mut self, key: SocketKey) {
        let mut buffer = std::mem::take(&mut self.read_buffer);
        self.read_with(key, &mut buffer);
        self.read_buffer = buffer;
    }

    fn read_with(&mut self, key: SocketKey, buffer: &mut [u8]) {
        for _ in 0..READS_PER_TURN_MAX {
            let Some(socket) = self.socket(key) else { return };
            let Carrier::WebSocket(websocket) = &mut socket.carrier else { return };
            match websocket.stream.read(buffer) {
                Ok(0) => return self.lost(key),
                Ok(count) => {
                    let is_last = count < buffer.len() && websocket.stream.short_read_is_last();
                    let has_ended = websocket.has_ended;
                    self.take_bytes(key, &mut buffer[..count]);
                    match (is_last, has_ended) {
                        (true, false) => return,
                        // The kernel does not tell of the end again. It is read in the next turn, when what these bytes
                        // brought about has been written.
                        (true, true) => break,
                        (false, _) => {}
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.lost(key),
            }
        }
        self.unread.push(key);
    }

    /// Decodes what came and handles each message; while the socket is being closed, what comes is thrown away.
    pub(super) fn take_bytes(&mut self, key: SocketKey, bytes: &mut [u8]) {
        let Some(socket) = self.socket(key).filter(|socket| !socket.closing) else { return };
        let Carrier::WebSocket(websocket) = &mut socket.carrier else { return };
        let mut decoder = std::mem::replace(&mut websocket.decoder, Decoder::new(Role::Server));
        let (limits, inflates) = (socket.info.mount.limits.websocket, websocket.deflate_window_bits.is_some());
        let mut scratch = std::mem::take(&mut self.scratch);
        let decoded = decoder.decode(bytes, &limits, inflates, &mut scratch, &mut |item| self.item(key, item));
        self.scratch = scratch;
        match decoded {
            Ok(()) => {
                if let Some(socket) = self.socket(key)
                    && let Carrier::WebSocket(websocket) = &mut socket.carrier
                {
                    websocket.decoder = decoder;
                }
            }
            Err(violation) => self.violated(key, violation),
        }
    }

    fn item(&mut self, key: SocketKey, item: Item<'_>) -> ControlFlow<()> {
        let now_ms = self.now_ms;
        let Some(socket) = self.socket(key) else { return ControlFlow::Break(()) };
        socket.heard_ms = now_ms;
        match (socket.protocol, item) {
            (_, Item::Close(code)) => self.client_closed(key, code),
            (_, Item::Pong(_)) => {}
            (_, Item::Ping(payload)) => {
                let mut pong = Vec::with_capacity(payload.len() + 2);
                frame::encode(Opcode::Pong, payload, false, &mut pong);
                self.queue(key.index as usize, pong.into(), 1);
            }
            (Protocol::Phoenix, Item::Text(text)) => {
                let version = socket.info.version;
                self.decoded(key, text.len(), codec::decode_text(version, text));
            }
            (Protocol::Phoenix, Item::Binary(data)) => {
                let version = socket.info.version;
                self.decoded(key, data.len(), codec::decode_binary(version, data));
            }
            (Protocol::Rooms, Item::Text(text)) => self.heard_in_rooms(key, text.as_bytes()),
            (Protocol::Rooms, Item::Binary(data)) => self.heard_in_rooms(key, data),
            (Protocol::HubPublisher, Item::Text(text)) => self.publish_frame(key, Text::copy(text).into()),
            (Protocol::HubPublisher, Item::Binary(data)) => {
                self.publish_frame(key, Payload::Binary(Bytes::copy_from_slice(data)));
            }
            (Protocol::Bullet, Item::Text(text)) => self.heard_bullet(key, text),
            (Protocol::HubSubscriber, _) | (Protocol::Bullet, Item::Binary(_)) => {
                self.handle.counters().count(Event::Received);
            }
            (Protocol::Echo, Item::Text(text)) => self.echo(key, Kind::Text, text.as_bytes()),
            (Protocol::Echo, Item::Binary(data)) => self.echo(key, Kind::Binary, data),
            // None of them has a WebSocket.
            (Protocol::Registry | Protocol::Events | Protocol::Lines, _) => {}
        }
        self.settle();
        match self.socket(key) {
            Some(socket) if !socket.closing => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }

    fn decoded(&mut self, key: SocketKey, len: usize, message: Result<Incoming<'_>, Undecodable>) {
        self.handle.counters().count(Event::Received);
        match message {
            Ok(message) => self.receive(key, message),
            Err(Undecodable(reason)) => self.undecodable(key, len, reason),
        }
    }

    /// A message that means nothing: the socket is closed, the reason logged without the content.
    pub(super) fn undecodable(&mut self, key: SocketKey, len: usize, reason: &'static str) {
        let peer = self.socket(key).and_then(|socket| socket.info.peer);
        event::undecodable(self.handle.counters(), peer, len, reason);
        self.close(key, CloseReason::Undecodable);
    }

    /// Compresses whatever its size, since conformance cases want to see it.
    fn echo(&mut self, key: SocketKey, kind: Kind, data: &[u8]) {
        let Some(Socket { carrier: Carrier::WebSocket(websocket), .. }) = self.socket(key) else { return };
        let bytes = match websocket.deflate_window_bits {
            Some(window_bits) => deflated(kind, data, window_bits),
            None => carry(Carriage::WebSocket, kind, data),
        };
        self.queue(key.index as usize, bytes, 1);
    }

    fn violated(&mut self, key: SocketKey, violation: Violation) {
        let peer = self.socket(key).and_then(|socket| socket.info.peer);
        tracing::debug!(?peer, code = violation.code, reason = violation.reason, "WebSocket violation");
        let reason = match violation.code {
            1009 => CloseReason::TooLarge,
            code => CloseReason::Protocol(code),
        };
        self.close(key, reason);
    }

    fn heard_in_rooms(&mut self, key: SocketKey, frame: &[u8]) {
        self.handle.counters().count(Event::Received);
        let Some(mount) = self.socket(key).map(|socket| socket.info.mount.clone()) else { return };
        match rooms::decode(frame, &mount.event) {
            Ok(message) => self.receive(key, message),
            Err(rooms::InvalidPayload) => self.break_off(key, rooms::INVALID_PAYLOAD),
        }
    }

    /// Closes a client that breaks the protocol of rooms.
    pub(super) fn break_off(&mut self, key: SocketKey, reason: &'static str) {
        self.close(key, CloseReason::Application(rooms::CLOSE_CODE, reason.into()));
    }

    /// A frame of a hub's publisher.
    fn publish_frame(&mut self, key: SocketKey, payload: Payload) {
        self.handle.counters().count(Event::Received);
        let Some(socket) = self.socket(key) else { return };
        let topic = socket.session.entries()[0].topic().clone();
        let message = Message::new(topic, &*socket.info.mount.event, payload);
        let message = message.expect("the mount's event and the publisher's topic were checked");
        let endpoint = socket.info.endpoint.clone();
        endpoint.publish_unanswered(message);
    }

    fn heard_bullet(&mut self, key: SocketKey, text: &str) {
        self.handle.counters().count(Event::Received);
        let Some(socket) = self.socket(key) else { return };
        match bullet::hear(text) {
            Heard::Answer(answer) => self.send_text(key.index as usize, answer),
            Heard::Other => socket.info.mount.heard(socket.info.id(), text),
        }
    }

    /// Looks after a socket that says nothing, at once and then as often as it is due.
    pub(super) fn watch_idle(&mut self, key: SocketKey) {
        let now_ms = self.now_ms;
        let Some(socket) = self.socket(key).filter(|socket| !socket.closing) else { return };
        let timeout_ms = socket.info.mount.idle_timeout.as_millis() as u64;
        let silent_ms = now_ms - socket.heard_ms.min(now_ms);
        let ping_ms = if socket.protocol.has_heartbeats() { timeout_ms } else { timeout_ms / 2 };
        if silent_ms >= timeout_ms {
            return self.close(key, CloseReason::Idle);
        }
        let heard_ms = socket.heard_ms;
        if silent_ms >= ping_ms {
            let mut ping = Vec::with_capacity(2);
            frame::encode(Opcode::Ping, &[], false, &mut ping);
            self.queue(key.index as usize, ping.into(), 1);
            self.at(heard_ms + timeout_ms, Timer::Idle(key));
        } else {
            self.at(heard_ms + ping_ms, Timer::Idle(key));
        }
    }
}
