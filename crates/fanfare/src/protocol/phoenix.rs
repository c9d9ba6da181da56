//! Phoenix Channels: WebSocket and long-poll below one path, two versions, a heartbeat topic.

use fanfare_proto::message::Incoming;
use fanfare_proto::params::Params;
use fanfare_proto::phoenix::message::{Undecodable, Version};
use fanfare_proto::phoenix::{codec, heartbeat};
use fanfare_proto::session::{Session, Verdict};
use fanfare_proto::websocket::decoder::Item;
use serde_json::Value;

use super::{Misread, Served};
use crate::mount::Mount;
use crate::path::rest_matches;
use crate::socket::Seat;
use crate::socket::{Socket, Turn};

pub(super) fn route(mount: &Mount, rest: &[&str], params: &mut Params) -> Option<Served> {
    if mount.longpoll && rest == ["longpoll"] {
        return Some(Served::LongPoll);
    }
    let below = mount.websocket_path.as_ref()?;
    (rest.is_empty() || rest_matches(below, rest, params)).then_some(Served::WebSocket)
}

/// The parameters, and the version that they ask for.
pub(super) fn params(mount: &Mount, query: &str) -> Result<(Params, Version), Misread> {
    let params = Params::parse(query).map_err(|_| Misread::Query)?;
    let version = match params.get("vsn") {
        None => Version::parse(None),
        Some(Value::String(vsn)) => Version::parse(Some(vsn)),
        Some(_) => None,
    };
    match version.filter(|version| mount.versions.contains(version)) {
        Some(version) => Ok((params, version)),
        None => Err(Misread::Version(params.str("vsn").unwrap_or_default().to_owned())),
    }
}

#[inline]
pub(super) fn hear(socket: &mut Socket, turn: &mut Turn, item: Item<'_>) {
    let version = socket.info.version;
    let (len, message) = match item {
        Item::Text(text) => (text.len(), codec::decode_text(version, text)),
        Item::Binary(data) => (data.len(), codec::decode_binary(version, data)),
        _ => return,
    };
    socket.count_received(turn);
    match message {
        Ok(message) => socket.receive(turn, message),
        Err(Undecodable(reason)) => socket.undecodable(turn, len, reason),
    }
}

pub(super) fn admit(session: &Session<Seat>, message: &Incoming<'_>) -> Verdict {
    heartbeat::admit(session, message)
}
