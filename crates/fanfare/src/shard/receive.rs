//! Bytes in: from a socket through its decoder to the protocol.

use std::io;
use std::ops::ControlFlow;

use fanfare_proto::websocket::decoder::{Decoder, Item, Role};

use super::Shard;
use crate::key::SocketKey;
use crate::socket::{Carrier, Socket};

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
                Ok(0) => return self.with(key, Socket::lost),
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
                Err(_) => return self.with(key, Socket::lost),
            }
        }
        self.unread.push(key);
    }

    /// Decodes what came and handles each message; while the socket is being closed, what comes is thrown away.
    pub(super) fn take_bytes(&mut self, key: SocketKey, bytes: &mut [u8]) {
        let Some(socket) = self.socket(key).filter(|socket| socket.is_open()) else { return };
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
            Err(violation) => self.with(key, |socket, turn| socket.violated(turn, violation)),
        }
    }

    fn item(&mut self, key: SocketKey, item: Item<'_>) -> ControlFlow<()> {
        self.with(key, |socket, turn| socket.hear(turn, item));
        self.settle();
        match self.socket(key) {
            Some(socket) if socket.is_open() => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }
}
