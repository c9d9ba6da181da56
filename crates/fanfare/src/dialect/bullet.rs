//! Texts of bullet.js. The whole query is the client's key.

use std::time::Duration;

use fanfare_proto::bullet::{self, Heard};
use fanfare_proto::params::Params;
use fanfare_proto::websocket::decoder::Item;

use super::Dialect;
use crate::event::Event;
use crate::join::caught;
use crate::mount::Mount;
use crate::socket::{Socket, Turn};

impl Mount {
    /// What clients of bullet.js connect to: WebSocket, else server-sent events, else polls, all at the mount itself. The key
    /// is the query, or its `key`; [`connect`](Mount::connect) is given it as the param `key`, and joins the socket to its
    /// [topics](crate::Connected::topic). Each gets the payloads of what is published there.
    ///
    /// `ping` is answered `heartbeat message`, `status` is answered `status checked`; see [`on_text`](Mount::on_text) for the
    /// rest. A poll waits for 60 s, is answered 200 with one message or 204, and what is published between two polls waits.
    pub fn bullet() -> Self {
        let mut mount = Mount::new().longpoll_window(Duration::from_secs(60));
        mount.unpolled_timeout = Duration::from_secs(60);
        mount.dialect = Dialect::Bullet;
        mount
    }

    /// What is done with the texts of [`bullet`](Mount::bullet) clients that are not the protocol's own: it is given the
    /// socket's id and the text, on a thread that must not be blocked. Default: nothing.
    pub fn on_text(mut self, take: impl Fn(Option<&str>, &str) + Send + Sync + 'static) -> Self {
        self.on_text = Some(Box::new(take));
        self
    }

    /// A text of a bullet.js client for the application.
    pub(crate) fn heard(&self, socket_id: Option<&str>, text: &str) {
        if let Some(on_text) = &self.on_text {
            caught("on_text", || on_text(socket_id, text));
        }
    }
}

pub(super) fn params(query: &str) -> Params {
    let mut params = Params::default();
    if let Some(key) = bullet::key_of(query) {
        params.insert("key", key.into_owned());
    }
    params
}

pub(super) fn hear(socket: &mut Socket, turn: &mut Turn, item: Item<'_>) {
    turn.count(Event::Received);
    let Item::Text(text) = item else { return };
    match bullet::hear(text) {
        Heard::Answer(answer) => socket.send_text(turn, answer),
        Heard::Other => socket.info.mount.heard(socket.info.id(), text),
    }
}
