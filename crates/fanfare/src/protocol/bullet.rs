//! Texts of bullet.js. The whole query is the client's key.

use std::time::Duration;

use fanfare_proto::bullet::{self, Heard, Positions};
use fanfare_proto::params::Params;
use fanfare_proto::websocket::decoder::Item;
use http::HeaderMap;

use super::stream::LAST_EVENT_ID;
use crate::connect::GivenTopic;
use crate::dialect::Dialect;
use crate::endpoint::Endpoint;
use crate::guard::caught;
use crate::mount::Mount;
use crate::socket::{Socket, Turn};

impl Mount {
    /// What clients of bullet.js connect to: WebSocket, else server-sent events, else polls, all at the mount itself. The key
    /// is the query, or its `key`; [`connect`](Mount::connect) is given it as the param `key`, and joins the socket to its
    /// [topics](crate::Connected::topic). Each gets the payloads of what is published there.
    ///
    /// `ping` is answered `heartbeat message`, `status` is answered `status checked`; see [`on_text`](Mount::on_text) for the
    /// rest. A poll waits for 60 s, is answered 200 with one message or none, and what is published between two polls waits. If
    /// that becomes too much it is dropped, and the next poll is answered 410.
    ///
    /// An event of a stream has an id where its topic keeps a history, and the client goes on behind the header
    /// `Last-Event-ID`. For each such topic there is an event `joined` first, with `position` and `recovered`.
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

/// Where a client of an event stream stands in those of its topics that keep a history.
pub(crate) fn positions(endpoint: &Endpoint, headers: &HeaderMap, topics: &[GivenTopic]) -> Positions {
    let topics = topics.iter().map(|given| given.topic.clone());
    let id = headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or("no text"));
    Positions::new(topics.filter(|topic| endpoint.store_of(topic).is_some()), id)
}

pub(super) fn hear(socket: &mut Socket, turn: &mut Turn, item: Item<'_>) {
    socket.count_received(turn);
    let Item::Text(text) = item else { return };
    if socket.weigh(turn, text.len(), false).is_err() {
        return;
    }
    match bullet::hear(text) {
        Heard::Answer(answer) => socket.send_text(turn, answer),
        Heard::Other => socket.info.mount.heard(socket.info.id(), text),
    }
}
