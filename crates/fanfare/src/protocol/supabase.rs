//! Supabase Realtime: Phoenix Channels with a token for each channel, public and private channels of one name, and the events
//! of broadcast and presence. Whose tokens count is for the user's [`Authority`](crate::Authority) to say. `door` lets sockets in,
//! `member` is the channel of all topics, `presence` what of it is shown to others, `changes` what a member is told of a
//! database.

mod changes;
mod door;
mod member;
mod presence;

use std::sync::Arc;
use std::time::Duration;

use fanfare_proto::message::{Incoming, Ref};
use fanfare_proto::params::{Params, decode_path_segment};
use fanfare_proto::phoenix::heartbeat::{self, PHOENIX_TOPIC};
use fanfare_proto::phoenix::message::{Undecodable, Version};
use fanfare_proto::session::{Session, Verdict};
use fanfare_proto::supabase::{self, Heard, JoinConfig, TOPIC_PREFIX, engine_topic, is_private};
use fanfare_proto::websocket::decoder::Item;
use serde_json::json;

use super::{Served, phoenix};
use crate::authority::Supabase;
use crate::channel::Status;
use crate::connect::SocketInfo;
use crate::dialect::Dialect;
use crate::event::Event;
use crate::fact::Kind;
use crate::mount::{Mount, Route};
use crate::socket::Seat;
use crate::socket::{Socket, Turn};

use door::Door;
use member::Members;

/// A socket that has sent more frames than these that were none is closed.
const MALFORMED_MAX: u16 = 100;

/// Where a client of a mount at `/socket` looks for the HTTP interface.
const BESIDE: &str = "/api/broadcast";

impl Mount {
    /// Supabase Realtime, for its clients as they are: WebSocket at `<mount>/websocket`, `POST <mount>/api/broadcast`, and, for a
    /// mount at `/socket`, `POST /api/broadcast` beside it. Public channels are the topics `realtime:*`, private ones
    /// `private-realtime:*`: policies and [`Endpoint::publish`](crate::Endpoint::publish) call them so, and a message's event and payload are those of
    /// a broadcast.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    ///
    /// use fanfare::{Authority, Bearer, Mount, Rights, RightsRequest, Supabase, TokenFault};
    ///
    /// struct House;
    ///
    /// impl Authority for House {
    ///     async fn verify(&self, token: &str) -> Result<Bearer, TokenFault> {
    ///         match token.strip_prefix("user-") {
    ///             Some(name) => {
    ///                 let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    ///                 Ok(Bearer::new(name.to_owned()).expires_at(tomorrow))
    ///             }
    ///             None => Err(TokenFault::Malformed),
    ///         }
    ///     }
    ///
    ///     async fn rights(&self, request: RightsRequest<'_>) -> Rights {
    ///         if request.is_private { Rights::NONE } else { Rights::ALL }
    ///     }
    /// }
    ///
    /// let mount = Mount::supabase(Supabase::new(House));
    /// ```
    pub fn supabase(options: Supabase) -> Self {
        let settings = Arc::new(options.0);
        let mut mount = Mount::new()
            .longpoll(false)
            .idle_timeout(Duration::from_secs(150))
            .message_size_max(5_000_000)
            .connect(Door(settings.clone()))
            .on_reject(door::refuse)
            .channel_with(Route::new("realtime:*", Members(settings.clone())))
            .channel_with(Route::new("private-realtime:*", Members(settings.clone())));
        mount.dialect = Dialect::Supabase;
        mount.authority = Some(settings);
        mount
    }

    /// What is served beside a mount at this path, and where.
    pub(crate) fn beside(&self, path: &str) -> Option<(String, Mount)> {
        let authority = self.authority.clone()?;
        let parent = path.trim_end_matches('/').strip_suffix("/socket")?;
        let mut mount = Mount::new().longpoll(false).origin(self.origin.clone());
        mount.dialect = Dialect::Supabase;
        mount.limits = self.limits;
        mount.rates = self.rates;
        mount.websocket_path = None;
        mount.authority = Some(authority);
        Some((format!("{parent}{BESIDE}"), mount))
    }
}

/// `websocket`, or what messages are posted to: `api/broadcast`, and `api/broadcast/NAME/events/EVENT`.
pub(super) fn route(mount: &Mount, rest: &[&str], params: &mut Params) -> Option<Served> {
    let posted = match (&mount.websocket_path, rest) {
        (None, posted) | (Some(_), ["api", "broadcast", posted @ ..]) => posted,
        (Some(_), _) => return phoenix::route(mount, rest, params),
    };
    match *posted {
        [] => {}
        [name, "events", event] => {
            params.insert("topic", decode_path_segment(name).ok()?.into_owned());
            params.insert("event", decode_path_segment(event).ok()?.into_owned());
        }
        _ => return None,
    }
    Some(Served::Posts)
}

/// Clients of version 1.0.0 take whatever closes a channel for the end of their newest join of it.
pub(super) fn tells_replaced(info: &SocketInfo) -> bool {
    info.version != Version::V1
}

pub(super) fn hear(socket: &mut Socket, turn: &mut Turn, item: Item<'_>) {
    let (is_text, frame) = match item {
        Item::Text(text) => (true, text.as_bytes()),
        Item::Binary(data) => (false, data),
        _ => return,
    };
    socket.count_received(turn);
    match supabase::decode(socket.info.version, is_text, frame) {
        Ok(Heard::Message(message)) => receive(socket, turn, message),
        Ok(Heard::Unfit(message, reason)) => unfit(socket, turn, &message, reason),
        Ok(Heard::Ignored) => {
            turn.count(Event::Ignored);
            socket.erred(turn);
        }
        Err(Undecodable(reason)) => malformed(socket, turn, frame.len(), reason),
    }
}

/// Clients know one name for two topics: which of them is meant, the join says, and later what is joined.
fn receive(socket: &mut Socket, turn: &mut Turn, mut message: Incoming<'_>) {
    let is_heartbeat = message.topic == PHOENIX_TOPIC;
    if !message.topic.starts_with(TOPIC_PREFIX) && !is_heartbeat {
        turn.count(Event::Unmatched);
        let Incoming { msg_ref, topic, .. } = &message;
        let reason = json!({ "reason": "unmatched topic" });
        let topic = engine_topic(topic, is_private(topic));
        return socket.answer(turn, &Ref::NULL, msg_ref, &topic, Status::Error, reason.into());
    }
    if message.event == "phx_join" {
        let wants_private = JoinConfig::is_private(&message.payload);
        let other = engine_topic(&message.topic, !wants_private);
        if let Some(slot) = socket.session.find(&other) {
            socket.make_way(turn, slot);
        }
        message.topic = engine_topic(&message.topic, wants_private).into();
    } else if !is_heartbeat && socket.session.find(&message.topic).is_none() {
        let private = engine_topic(&message.topic, true);
        if socket.session.find(&private).is_some() {
            message.topic = private.into();
        }
    }
    socket.receive(turn, message);
}

/// A broadcast that cannot be sent: whoever waits for an answer is told.
fn unfit(socket: &mut Socket, turn: &mut Turn, message: &Incoming<'_>, reason: &'static str) {
    turn.count(Event::Ignored);
    let Incoming { join_ref, msg_ref, topic, .. } = message;
    if !msg_ref.is_null() {
        socket.answer(turn, join_ref, msg_ref, topic, Status::Error, json!({ "reason": reason }).into());
    }
}

fn malformed(socket: &mut Socket, turn: &mut Turn, len: usize, reason: &'static str) {
    let detail = format_args!("{len} bytes are no frame of this protocol: {reason}");
    socket.info.tell(turn.counters(), (Kind::Dropped, Event::Malformed), None, detail);
    socket.malformed += 1;
    if socket.malformed > MALFORMED_MAX {
        socket.undecodable(turn, len, reason);
    }
}

/// The ref of a join is advice: clients that do not know it, or know an old one, mean the channel that is joined.
pub(super) fn admit(session: &Session<Seat>, message: &Incoming<'_>) -> Verdict {
    match heartbeat::admit(session, message) {
        Verdict::Stale if message.event != "phx_leave" => {
            session.find(&message.topic).map_or(Verdict::Stale, Verdict::Dispatch)
        }
        verdict => verdict,
    }
}
