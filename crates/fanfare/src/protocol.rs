//! How clients' dialects are spoken: one room a protocol, with all in which it differs from the others.
//!
//! A dialect says what a path leads to, what a request says of its client, what a frame means, in which form messages are
//! sent, and what becomes of the socket when its topic ends. Everything else is the same for all: `service` lets clients in,
//! `socket` acts. **Nobody but this folder and the list in `dialect` asks which dialect it is**: a new one is a file here, a line
//! in each `match` of the two, and a way to mount it. A socket asks its dialect what a frame means, and the dialect acts on the
//! socket: the two know each other, and nothing below knows either.

mod bullet;
mod echo;
mod hub;
mod phoenix;
mod rooms;
mod stream;
mod supabase;

use std::sync::Arc;

use fanfare_proto::frame::Form;
use fanfare_proto::message::{Incoming, Ref};
use fanfare_proto::params::Params;
use fanfare_proto::phoenix::heartbeat::PHOENIX_TOPIC;
use fanfare_proto::phoenix::message::Version;
use fanfare_proto::position::Since;
use fanfare_proto::session::{Session, Verdict};
use fanfare_proto::supabase::told;
use fanfare_proto::websocket::decoder::Item;
use http::HeaderMap;

use crate::connect::SocketInfo;
use crate::dialect::Dialect;
use crate::endpoint::{Endpoint, Ownership};
use crate::mount::{Mount, OverRate};
use crate::socket::{Seat, Socket, Turn};
use crate::transport::Transport;

pub(crate) use bullet::positions;
pub(crate) use hub::NoPlace;
pub(crate) use stream::accepts_events;

/// What a request's path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    WebSocket,
    LongPoll,
    /// Whatever bullet.js asks for.
    Bullet,
    /// A topic over plain HTTP.
    Stream,
    /// Messages are published by POST requests.
    Posts,
}

/// What is wrong with what a request says of its client.
#[derive(Debug)]
pub(crate) enum Misread {
    /// The query is not UTF-8, or has too many parameters.
    Query,
    /// This version is not served.
    Version(String),
    /// It wants to resume from what is no position.
    Position(String),
}

impl Dialect {
    /// Whether a client is told of a join that ended because it left, or joined its topic again.
    pub(crate) fn tells_replaced(self, info: &SocketInfo) -> bool {
        self != Dialect::Supabase || supabase::tells_replaced(info)
    }

    /// What happens when a client sends more than it may: it is told where the protocol has answers.
    pub(crate) fn over_rate(self) -> OverRate {
        match self {
            Dialect::Phoenix | Dialect::Supabase => OverRate::Refuse,
            _ => OverRate::Pace,
        }
    }

    /// Whether a client says something once that counts from then on, and would be wrong about it if it were refused: what it shows of
    /// itself, that it shows nothing any more, and its new token.
    pub(crate) fn is_said_once(self, event: &str) -> bool {
        self == Dialect::Supabase && matches!(event, "presence" | "access_token")
    }

    /// Why a join is refused by a client that joins too often.
    pub(crate) fn too_many_joins(self) -> &'static str {
        match self {
            Dialect::Supabase => told::TOO_MANY_JOINS,
            _ => "too many joins",
        }
    }

    /// Whether a message is a sign of life only.
    pub(crate) fn is_heartbeat(self, message: &Incoming<'_>) -> bool {
        matches!(self, Dialect::Phoenix | Dialect::Supabase)
            && message.topic == PHOENIX_TOPIC
            && message.event == "heartbeat"
    }
}

/// Requests.
impl Dialect {
    /// What a mount has at the rest of a path, whose named parts become params, and what is spoken there.
    pub(crate) fn route(self, mount: &Mount, rest: &[&str], params: &mut Params) -> Option<(Served, Dialect)> {
        let served = match self {
            Dialect::HubPublisher | Dialect::HubSubscriber => {
                return Some((Served::WebSocket, hub::role(rest, params)?));
            }
            Dialect::Bullet => rest.is_empty().then_some(Served::Bullet),
            Dialect::Rooms => Some(Served::WebSocket),
            Dialect::Supabase => supabase::route(mount, rest, params),
            Dialect::Events | Dialect::Lines => stream::topic_of(rest, params).map(|()| Served::Stream),
            Dialect::Phoenix | Dialect::Echo | Dialect::Local => phoenix::route(mount, rest, params),
        };
        Some((served?, self))
    }

    /// The one that a request asks for, where there is a choice.
    pub(crate) fn asked_for(self, headers: &HeaderMap) -> Dialect {
        match self {
            Dialect::Events | Dialect::Lines if accepts_events(headers) => Dialect::Events,
            Dialect::Events | Dialect::Lines => Dialect::Lines,
            other => other,
        }
    }

    /// A query's parameters with those of the path, and the version that they ask for.
    pub(crate) fn params(self, mount: &Mount, path: &Params, query: &str) -> Result<(Params, Version), Misread> {
        let (mut params, version) = match self {
            Dialect::Bullet => (bullet::params(query), Version::V2),
            Dialect::Phoenix | Dialect::Supabase => phoenix::params(mount, query)?,
            _ => (Params::parse(query).map_err(|_| Misread::Query)?, Version::V2),
        };
        for (name, value) in path.iter() {
            params.insert(name, value.clone());
        }
        Ok((params, version))
    }

    /// From where a client whose joins have no parameters wants to go on.
    pub(crate) fn since(self, headers: &HeaderMap, params: &Params) -> Result<Option<Since>, Misread> {
        match self {
            Dialect::HubSubscriber | Dialect::Rooms => params.str("since").map(position).transpose(),
            Dialect::Events | Dialect::Lines => stream::since(headers, params).map(Some),
            _ => Ok(None),
        }
    }

    /// Whether a client shows that it was here before. Nobody checks it: whoever lies is served a little earlier.
    pub(crate) fn is_resuming(self, headers: &HeaderMap, params: &Params) -> bool {
        let has = |name| params.str(name).is_some_and(|value| !value.is_empty());
        match self {
            Dialect::Phoenix => has("resume"),
            Dialect::HubPublisher | Dialect::HubSubscriber | Dialect::Rooms => has("since"),
            Dialect::Events | Dialect::Lines => has("since") || stream::has_received(headers),
            Dialect::Bullet => stream::has_received(headers),
            Dialect::Supabase | Dialect::Echo | Dialect::Local => false,
        }
    }

    /// The topic that a request's path names, for a socket that has it at once.
    pub(crate) fn topic(self, mount: &Mount, params: &Params) -> Option<Arc<str>> {
        match self {
            Dialect::HubPublisher | Dialect::HubSubscriber => Some(hub::topic(mount, params)),
            _ => None,
        }
    }

    /// A place at that topic: a publisher's hold on it; of others only that they may have it.
    pub(crate) async fn claim(
        self,
        endpoint: &Endpoint,
        mount: &Mount,
        topic: &Arc<str>,
        publisher: Option<String>,
    ) -> Result<Option<Ownership>, NoPlace> {
        match self {
            Dialect::HubPublisher => hub::claim(endpoint, mount, topic, publisher).await.map(Some),
            Dialect::HubSubscriber if !hub::is_open(endpoint, mount, topic).await? => Err(NoPlace::Unknown),
            _ => Ok(None),
        }
    }
}

/// Sockets.
impl Dialect {
    /// The form of a socket's frames.
    pub(crate) fn form(self, info: &SocketInfo, is_websocket: bool) -> Form {
        match self {
            Dialect::Phoenix if is_websocket => Form::Phoenix(info.version.websocket_format()),
            Dialect::Phoenix => Form::Phoenix(info.version.longpoll_format()),
            Dialect::Rooms => Form::Rooms { acks: info.mount.acks },
            Dialect::Supabase => Form::Supabase(info.version),
            Dialect::Events => Form::Events,
            Dialect::Lines => Form::Lines,
            Dialect::Bullet if info.transport == Transport::EventStream => Form::Data,
            _ if is_websocket => Form::Bare,
            _ => Form::BareText,
        }
    }

    /// What becomes of a client's text or binary message.
    #[inline]
    pub(crate) fn hear(self, socket: &mut Socket, turn: &mut Turn, item: Item<'_>) {
        match self {
            Dialect::Phoenix => phoenix::hear(socket, turn, item),
            Dialect::Rooms => rooms::hear(socket, turn, item),
            Dialect::Supabase => supabase::hear(socket, turn, item),
            Dialect::HubPublisher => hub::hear(socket, turn, item),
            Dialect::HubSubscriber => socket.count_received(turn),
            Dialect::Bullet => bullet::hear(socket, turn, item),
            Dialect::Echo => echo::hear(socket, turn, item),
            // None of them has a WebSocket.
            Dialect::Events | Dialect::Lines | Dialect::Local => {}
        }
    }

    /// What a decoded message is to its session.
    pub(crate) fn admit(self, session: &Session<Seat>, message: &Incoming<'_>) -> Verdict {
        match self {
            Dialect::Phoenix => phoenix::admit(session, message),
            Dialect::Supabase => supabase::admit(session, message),
            _ => session.admit(message),
        }
    }

    /// Does what a message means that means something else here than in Phoenix; whether it does.
    pub(crate) fn means_otherwise(
        self,
        socket: &mut Socket,
        turn: &mut Turn,
        verdict: Verdict,
        message: &Said<'_>,
    ) -> bool {
        match self {
            Dialect::Rooms => rooms::means_otherwise(socket, turn, verdict, message),
            _ => false,
        }
    }

    /// Whether a topic has ended since the socket was let in for it.
    pub(crate) fn has_lost(self, info: &SocketInfo, topic: &str) -> bool {
        self.ends_with_topic() && hub::has_ended(&info.endpoint, &info.mount, topic)
    }
}

/// What is needed of a message to see what it means.
pub(crate) struct Said<'a> {
    pub(crate) topic: &'a str,
    pub(crate) event: &'a str,
    pub(crate) msg_ref: &'a Ref,
}

/// A position that a client gives; nothing is now.
fn position(text: &str) -> Result<Since, Misread> {
    match text {
        "" => Ok(Since::Now),
        text => text.parse().map_err(|_| Misread::Position(text.to_owned())),
    }
}
