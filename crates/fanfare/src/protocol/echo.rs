//! Every message comes back as it is: for conformance tests.

use fanfare_proto::frame::Kind;
use fanfare_proto::websocket::decoder;
use fanfare_proto::websocket::decoder::Item;

use crate::dialect::Dialect;
use crate::message::{Carriage, carry, deflated};
use crate::mount::Mount;
use crate::socket::{Socket, Turn};
use crate::transport::Carrier;

impl Mount {
    /// Every WebSocket message comes back as it is, with compression on and limits wide enough for Autobahn's cases.
    pub fn echo() -> Self {
        let mut mount = Mount::new().longpoll(false).compression(true);
        mount.dialect = Dialect::Echo;
        mount.limits.websocket = decoder::Limits::conformance();
        mount.limits.outbox.bytes_max = 64 * 1024 * 1024;
        mount
    }
}

/// Compresses whatever its size, since conformance cases want to see it.
pub(super) fn hear(socket: &mut Socket, turn: &mut Turn, item: Item<'_>) {
    let (kind, data) = match item {
        Item::Text(text) => (Kind::Text, text.as_bytes()),
        Item::Binary(data) => (Kind::Binary, data),
        _ => return,
    };
    let Carrier::Wire(wire) = &socket.carrier else { return };
    let bytes = match wire.deflate_window_bits {
        Some(window_bits) => deflated(kind, data, window_bits),
        None => carry(Carriage::WebSocket, kind, data),
    };
    socket.queue(&mut turn.backlog, bytes, 1);
}
