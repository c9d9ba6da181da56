//! Why a request is not served: one type, from which the counter, the line in the log and the answer come.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fanfare_proto::websocket::handshake::HandshakeError;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};

use super::admission::Asking;
use super::{Connection, Found, credential, longpoll, stream};
use crate::address::Full;
use crate::body::Body;
use crate::connect::Rejected;
use crate::endpoint::Endpoint;
use crate::event::Event;
use crate::fact::{Fact, Kind, Who};
use crate::gate::BodyError;
use crate::protocol::{Misread, NoPlace, Served};
use crate::tenant::{Asset, OverQuota};
use crate::transport::Transport;

impl From<Full> for Refusal {
    fn from(full: Full) -> Self {
        match full {
            Full::Server(max) => Refusal::TooManyConnections(max),
            Full::Address(max) => Refusal::TooManyFromAddress(max),
            Full::Handshakes(max) => Refusal::TooManyHandshakes(max),
        }
    }
}

/// A client or a request that is turned away.
#[derive(Debug)]
pub(super) enum Refusal {
    /// No mount serves this path; there are these.
    Path {
        path: String,
        served: String,
    },
    /// The path takes these methods only.
    Method(&'static str),
    /// A page of this origin may not connect; those of others may.
    Origin {
        origin: String,
        allowed: String,
    },
    /// None of the subprotocols that are offered is served, but these are.
    Subprotocol(String),
    /// The auth token among the subprotocols cannot be decoded.
    AuthToken,
    /// This version of the protocol is not served.
    Version(String),
    /// Its head can be understood in two ways.
    Ambiguous(&'static str),
    /// The query is not UTF-8, or has too many parameters.
    Query,
    /// It wants to resume from what is no position.
    NotAPosition(String),
    /// It is no WebSocket upgrade.
    Handshake(HandshakeError),
    /// It is one with a body, which might be taken for frames.
    UpgradeWithBody,
    /// The application said no.
    Rejected(Rejected),
    /// The application's code panicked.
    Panicked,
    /// What connect gave as a topic is none.
    Topic,
    /// The hub's topic has a publisher.
    TopicTaken,
    /// Nobody has started the hub's topic.
    TopicUnknown,
    /// The broker does not say who has the hub's topic.
    TopicUnavailable,
    /// The hub has as many topics as it may have.
    TooManyTopics,
    Body(BodyError),
    /// A POST carries more messages than so many.
    TooManyMessages(usize),
    NotText,
    /// The client's address has as many sessions as it may have.
    TooManySessions(Full),
    /// The server has as many connections as it may have.
    TooManyConnections(usize),
    /// As many connections as there may be have not asked for anything yet.
    TooManyHandshakes(usize),
    /// The same of the client's address.
    TooManyFromAddress(usize),
    /// More clients of this address connect than are let in: come again after so many seconds.
    AddressRate(u32),
    /// A socket of this client was closed for a rate: come again after so many seconds. The user is for the log.
    Penalty(u32, Option<Arc<str>>),
    /// The user has as many sockets as it may have.
    TooManyOfUser(usize, Option<Arc<str>>),
    /// Nobody says whose client it is, and it has to be somebody's.
    NoTenant,
    /// Its tenant has all that it may have.
    Quota(OverQuota),
    /// More clients connect in this second than are let in: come again after so many.
    Rate(u32),
    Draining,
    /// The engine has ended, or the system gives no random bytes.
    Ended,
}

impl From<Misread> for Refusal {
    fn from(misread: Misread) -> Self {
        match misread {
            Misread::Query => Refusal::Query,
            Misread::Version(asked) => Refusal::Version(asked),
            Misread::Position(asked) => Refusal::NotAPosition(asked),
        }
    }
}

impl From<NoPlace> for Refusal {
    fn from(no_place: NoPlace) -> Self {
        match no_place {
            NoPlace::Taken => Refusal::TopicTaken,
            NoPlace::Full => Refusal::TooManyTopics,
            NoPlace::Unknown => Refusal::TopicUnknown,
            NoPlace::Unavailable => Refusal::TopicUnavailable,
        }
    }
}

impl Refusal {
    /// What is counted.
    pub(super) fn event(&self) -> Event {
        match self {
            Refusal::Path { .. } => Event::RejectedPath,
            Refusal::Origin { .. } => Event::RejectedOrigin,
            Refusal::Subprotocol(_) => Event::RejectedSubprotocol,
            Refusal::AuthToken => Event::RejectedToken,
            Refusal::Version(_) => Event::RejectedVersion,
            Refusal::Method(_)
            | Refusal::Query
            | Refusal::NotAPosition(_)
            | Refusal::Handshake(_)
            | Refusal::UpgradeWithBody => Event::RejectedHandshake,
            Refusal::Rejected(_) => Event::RejectedConnect,
            Refusal::Panicked => Event::ConnectPanicked,
            Refusal::Topic => Event::BadTopic,
            Refusal::TopicTaken => Event::RejectedTopicTaken,
            Refusal::TopicUnknown => Event::RejectedTopicUnknown,
            Refusal::TopicUnavailable => Event::RejectedTopicUnavailable,
            Refusal::TooManyTopics
            | Refusal::TooManySessions(_)
            | Refusal::TooManyConnections(_)
            | Refusal::TooManyHandshakes(_)
            | Refusal::TooManyFromAddress(_)
            | Refusal::Body(BodyError::NoRoom) => Event::RejectedLimit,
            Refusal::Ambiguous(_) | Refusal::Body(_) | Refusal::TooManyMessages(_) | Refusal::NotText => {
                Event::RejectedRequest
            }
            Refusal::Rate(_) => Event::RejectedRate,
            Refusal::AddressRate(_) => Event::RejectedAddressRate,
            Refusal::TooManyOfUser(..) => Event::RejectedUser,
            Refusal::NoTenant => Event::RejectedConnect,
            Refusal::Quota(over) if over.asset() == Asset::Publishes => Event::TenantPublishesRefused,
            Refusal::Quota(_) => Event::RejectedQuota,
            Refusal::Penalty(..) => Event::RejectedPenalty,
            Refusal::Draining => Event::RejectedDrain,
            Refusal::Ended => Event::RejectedEnded,
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Refusal::Path { .. } | Refusal::TopicUnknown => StatusCode::NOT_FOUND,
            Refusal::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::Rejected(Rejected { is_passing: true, .. }) => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Origin { .. }
            | Refusal::Subprotocol(_)
            | Refusal::AuthToken
            | Refusal::Version(_)
            | Refusal::Rejected(_)
            | Refusal::NoTenant
            | Refusal::Topic => StatusCode::FORBIDDEN,
            Refusal::Ambiguous(_)
            | Refusal::Query
            | Refusal::NotAPosition(_)
            | Refusal::UpgradeWithBody
            | Refusal::NotText => StatusCode::BAD_REQUEST,
            Refusal::Handshake(error) => error.status(),
            Refusal::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
            Refusal::TopicTaken => StatusCode::CONFLICT,
            Refusal::Body(BodyError::TimedOut(_)) => StatusCode::REQUEST_TIMEOUT,
            Refusal::Body(BodyError::TooLarge(_)) | Refusal::TooManyMessages(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::Body(BodyError::Broken) => StatusCode::BAD_REQUEST,
            Refusal::TooManySessions(Full::Address(_))
            | Refusal::TooManyFromAddress(_)
            | Refusal::AddressRate(_)
            | Refusal::Penalty(..)
            | Refusal::Quota(_)
            | Refusal::TooManyOfUser(..) => StatusCode::TOO_MANY_REQUESTS,
            Refusal::Body(BodyError::NoRoom)
            | Refusal::TopicUnavailable
            | Refusal::TooManyTopics
            | Refusal::TooManySessions(Full::Server(_) | Full::Handshakes(_))
            | Refusal::TooManyConnections(_)
            | Refusal::TooManyHandshakes(_)
            | Refusal::Rate(_)
            | Refusal::Draining
            | Refusal::Ended => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// After which time a client may be let in that is refused now. `None` where it has to change something.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let seconds = match self {
            Refusal::Rate(seconds) | Refusal::AddressRate(seconds) | Refusal::Penalty(seconds, _) => *seconds,
            Refusal::Quota(over) => over.retry_after().map_or(1, |wait| wait.as_millis().div_ceil(1_000) as u32),
            _ if is_passing(self.status()) => 1,
            _ => return None,
        };
        Some(Duration::from_secs(seconds.into()))
    }

    /// What people are told: what was asked for, what is allowed, what to do next.
    pub(super) fn text(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Refusal::Path { .. } => "nothing is served at this path: connect to the path of an endpoint",
            Refusal::Method(methods) => return format!("this path takes {methods}").into(),
            Refusal::Origin { origin, .. } => {
                return format!(
                    "pages of the origin {origin:.64?} may not connect here: add it to the origins of this endpoint"
                )
                .into();
            }
            Refusal::Subprotocol(served) => {
                return format!("none of the subprotocols offered is served here: offer one of {served}").into();
            }
            Refusal::AuthToken => {
                "the auth token in Sec-WebSocket-Protocol cannot be decoded: it is base64 after its prefix"
            }
            Refusal::Version(version) => {
                return format!("the protocol version {version:.64?} is not served: ask for vsn=2.0.0").into();
            }
            Refusal::Ambiguous(fault) => fault,
            Refusal::Query => "the query is not UTF-8, or has too many parameters",
            Refusal::NotAPosition(since) => {
                return format!(
                    "since={since:.64?} is not a position such as 5e1f:42: give back one that the server sent, or 0:0 for the beginning"
                )
                .into();
            }
            Refusal::Handshake(error) => return error.to_string().into(),
            Refusal::UpgradeWithBody => "a WebSocket is opened by a request without a body",
            Refusal::Rejected(Rejected { is_passing: true, .. }) => {
                "the credential cannot be checked now: try again later"
            }
            Refusal::Rejected(Rejected { reason: Some(reason), .. }) => {
                return format!("not allowed to connect: {reason}").into();
            }
            Refusal::Rejected(_) => "not allowed to connect: the credential is missing, or not accepted here",
            Refusal::Panicked => "the server failed to decide who may connect: its log has the reason",
            Refusal::Topic => {
                "a topic has 1 to 255 bytes and no control characters, and only private channels begin with private-realtime:"
            }
            Refusal::TopicTaken => "the topic has a publisher",
            Refusal::TopicUnknown => "nobody has started this topic",
            Refusal::TopicUnavailable => "the broker does not say which server has this topic: try again later",
            Refusal::TooManyTopics => "there are too many topics: try again later",
            Refusal::Body(BodyError::TooLarge(max)) => {
                return format!(
                    "the body is larger than {max} bytes (longpoll_body_size_max): send it in several requests, or raise that"
                )
                .into();
            }
            Refusal::Body(error) => return error.to_string().into(),
            Refusal::TooManyMessages(max) => {
                return format!("the request has more than {max} messages (longpoll_messages_max): send them in several requests, or raise that").into();
            }
            Refusal::NotText => "the body is not UTF-8",
            Refusal::TooManySessions(Full::Server(_) | Full::Handshakes(_)) => {
                "the server has as many sessions as it may have: try again later"
            }
            Refusal::TooManySessions(Full::Address(max)) => {
                return format!(
                    "this address has {max} sessions, as many as it may have: end some, or try again later"
                )
                .into();
            }
            Refusal::TooManyConnections(_) => "the server has as many connections as it may have: try again later",
            Refusal::TooManyHandshakes(_) => {
                "as many connections as may be have not asked for anything yet: try again later"
            }
            Refusal::TooManyFromAddress(max) => {
                return format!(
                    "this address has {max} connections, as many as it may have: close some, or try again later"
                )
                .into();
            }
            Refusal::AddressRate(_) => {
                "more clients of this address connect than are let in: try again as Retry-After says"
            }
            Refusal::TooManyOfUser(max, _) => {
                return format!(
                    "the user has {max} connections, which is as many as one may have: close one, or try again later"
                )
                .into();
            }
            Refusal::NoTenant => {
                "the request does not say which tenant it is for, by a name of 1 to 128 bytes other than \"other\""
            }
            Refusal::Quota(over) => return format!("quota: {over}").into(),
            Refusal::Penalty(..) => {
                "the last connection was closed, since too much was sent in too short a time: send less, and try again as Retry-After says"
            }
            Refusal::Rate(_) => "more clients connect in this second than are let in: try again as Retry-After says",
            Refusal::Draining => "the server is shutting down: connect again",
            Refusal::Ended => "the server has ended, or its system is out of random bytes: connect again",
        })
    }

    /// The user whose client it is, where that is known.
    fn user(&self) -> Option<&str> {
        match self {
            Refusal::Penalty(_, user) | Refusal::TooManyOfUser(_, user) => user.as_deref(),
            _ => None,
        }
    }

    /// What the log says of it: what people are told, and what is not for strangers.
    fn detail(&self) -> Cow<'_, str> {
        match self {
            Refusal::Origin { origin, allowed } => {
                format!("pages of the origin {origin:.64?} may not connect here, only those of {allowed}").into()
            }
            Refusal::Path { path, served } => {
                // What comes behind may be a key.
                let end = path.match_indices('/').nth(2).map_or(path.len(), |(end, _)| end);
                let (begin, rest) = (&path[..end], if end < path.len() { "/…" } else { "" });
                format!(
                    "nothing is served at {begin:.64?}{rest}: connect to the path of an endpoint, which is {served}"
                )
                .into()
            }
            Refusal::Rejected(rejected) => rejected.detail().into(),
            Refusal::TooManySessions(Full::Server(max) | Full::Handshakes(max)) => {
                format!("the server has all of its {max} sessions and event streams (sessions_max)").into()
            }
            Refusal::TooManySessions(Full::Address(max)) => {
                format!("the address has all of its {max} sessions and event streams (sessions_per_address_max)").into()
            }
            Refusal::TooManyConnections(max) => {
                format!("the listener has all of its {max} connections (connections_max)").into()
            }
            Refusal::TooManyHandshakes(max) => {
                format!("{max} connections of the listener have not asked for anything yet (handshakes_max)").into()
            }
            Refusal::TooManyFromAddress(max) => {
                format!("the address has all of its {max} connections (connections_per_address_max)").into()
            }
            _ => self.text(),
        }
    }

    /// The plain answer: the text, and the headers that its status asks for.
    pub(super) fn answer(&self) -> Response<Body> {
        let mut response = text(self.status(), self.text());
        let headers = response.headers_mut();
        match self {
            Refusal::Method(methods) => {
                headers.insert(ALLOW, HeaderValue::from_static(methods));
            }
            Refusal::Handshake(error) => headers.extend(error.header().map(|(name, value)| (Some(name), value))),
            _ => {}
        }
        if let Some(after) = self.retry_after() {
            headers.insert(RETRY_AFTER, after.as_secs().into());
        }
        response
    }
}

impl Asking<'_> {
    /// Counts and logs a refusal, and words it as the client understands it.
    pub(super) fn refuse(&self, refusal: Refusal) -> Response<Body> {
        let found = self.found;
        let tell = || self.endpoint.tell_of(&refusal, Some(found), self.connection);
        match self.traced() {
            None => tell(),
            Some(trace) => trace.clone().run(tell),
        }
        if found.served == Served::LongPoll
            && matches!(refusal, Refusal::Origin { .. } | Refusal::Version(_) | Refusal::Rejected(_))
            && !is_passing(refusal.status())
        {
            return longpoll::logical(403, None, &[]);
        }
        let mut response = match (&refusal, &found.mount.on_reject) {
            (Refusal::Rejected(Rejected { reason: Some(reason), .. }), Some(on_reject)) => on_reject(reason),
            _ => refusal.answer(),
        };
        if found.dialect.gives_up() && is_passing(response.status()) {
            response = stream::come_again(&response);
        }
        let is_before_subprotocol = matches!(refusal, Refusal::Method(_) | Refusal::Origin { .. });
        if self.transport == Transport::WebSocket
            && !is_before_subprotocol
            && let Ok((Some(protocol), _)) = credential::subprotocol(&found.mount, &self.parts.headers)
        {
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        response
    }
}

impl Endpoint {
    /// The answer to a request that cannot be served whatever it asks for, by the mount that would.
    pub(crate) fn turn_away(&self, parts: &Arc<Parts>, connection: &Connection, full: Full) -> Response<Body> {
        let refusal = Refusal::from(full);
        match self.find(parts.uri.path()) {
            None => self.refuse(&refusal, connection),
            Some(mut found) => {
                found.dialect = found.dialect.asked_for(&parts.headers);
                let transport = Transport::WebSocket;
                let asking = Asking::new(self, &found, parts, Some(connection), transport);
                asking.refuse(refusal)
            }
        }
    }

    /// A connection for which there is no place, and which is told so before its request is read.
    pub(crate) fn tell_of_full(&self, peer: SocketAddr, full: Full) {
        let refusal = Refusal::from(full);
        let detail = refusal.detail();
        self.tell_of_address(refusal.event(), peer, Some(refusal.status().as_u16()), format_args!("{detail}"));
    }

    /// A connection that ended before it had a request that could be served.
    pub(crate) fn tell_of_request(&self, peer: SocketAddr, detail: fmt::Arguments<'_>) {
        self.tell_of_address(Event::RejectedRequest, peer, None, detail);
    }

    fn tell_of_address(&self, event: Event, peer: SocketAddr, code: Option<u16>, detail: fmt::Arguments<'_>) {
        let who = Who { address: Some(peer), ..Who::default() };
        Fact { kind: Kind::Refused, event, who, topic: None, code, detail }.tell(self.own_counters());
    }

    /// The answer to a request for a path at which no mount is.
    pub(super) fn refuse_path(&self, path: &str, connection: Option<&Connection>) -> Response<Body> {
        let served: Vec<_> = self.gate().mounts().iter().map(|(path, _)| path.to_string()).collect();
        let refusal = Refusal::Path { path: path.to_owned(), served: served.join(" or ") };
        self.tell_of(&refusal, None, connection);
        refusal.answer()
    }

    /// The answer to a request whose head says two things.
    pub(crate) fn turn_away_malformed(&self, connection: &Connection, fault: &'static str) -> Response<Body> {
        self.refuse(&Refusal::Ambiguous(fault), connection)
    }

    /// Counts and logs a refusal that no mount has a say in.
    pub(super) fn refuse(&self, refusal: &Refusal, connection: &Connection) -> Response<Body> {
        self.tell_of(refusal, None, Some(connection));
        refusal.answer()
    }

    fn tell_of(&self, refusal: &Refusal, found: Option<&Found>, connection: Option<&Connection>) {
        let fact = Fact {
            kind: Kind::Refused,
            event: refusal.event(),
            who: Who {
                user: refusal.user(),
                address: connection.map(|connection| connection.peer),
                endpoint: found.and_then(|found| found.mount.path.as_ref()),
            },
            topic: None,
            code: Some(refusal.status().as_u16()),
            detail: format_args!("{}", refusal.detail()),
        };
        fact.tell(self.own_counters());
    }
}

/// Whether whoever is refused so may be let in later.
fn is_passing(status: StatusCode) -> bool {
    matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
}

/// An answer in words.
fn text(status: StatusCode, body: Cow<'static, str>) -> Response<Body> {
    let body = match body {
        Cow::Borrowed(text) => Body::from(text),
        Cow::Owned(text) => Body::from(text),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use fanfare_tables::Table;

    use super::*;
    use crate::tenant::{Quota, Quotas, Tenants};

    #[test]
    fn refusals_stand_in_the_guide() {
        let mut refusals = one_of_each();
        refusals.sort_by_key(|refusal| refusal.status().as_u16());
        let mut table = Table::new(&["status", "what the client is told", "counted as"]);
        for refusal in &refusals {
            let (name, reason) = refusal.event().name();
            table.row(&[refusal.status().as_str(), &refusal.text(), &format!("`{name}`: `{reason}`")]);
        }
        table.check("operations.md", "refusals");
    }

    #[test]
    fn every_refusal_that_is_counted_can_happen() {
        let refusals = one_of_each();
        let counted = Event::ALL.iter().filter(|event| event.name().0 == "connections" && **event != Event::Connected);
        let impossible: Vec<_> =
            counted.filter(|event| !refusals.iter().any(|refusal| refusal.event() == **event)).collect();
        assert!(impossible.is_empty(), "nothing is counted as {impossible:?}");
    }

    /// With values as they may come.
    fn one_of_each() -> Vec<Refusal> {
        vec![
            Refusal::Path { path: "/sockets".to_owned(), served: "/socket".to_owned() },
            Refusal::Method("GET and POST"),
            Refusal::Origin { origin: "https://elsewhere.example".to_owned(), allowed: String::new() },
            Refusal::Subprotocol("phoenix, fanfare".to_owned()),
            Refusal::AuthToken,
            Refusal::Version("3.0.0".to_owned()),
            Refusal::Ambiguous("the request has two lengths: send one"),
            Refusal::Query,
            Refusal::NotAPosition("yesterday".to_owned()),
            Refusal::Handshake(HandshakeError::Upgrade),
            Refusal::Handshake(HandshakeError::Version),
            Refusal::UpgradeWithBody,
            Refusal::Rejected(Rejected::new()),
            Refusal::Rejected(Rejected::reason("the reason of your code or hook")),
            Refusal::Rejected(Rejected::unavailable()),
            Refusal::Panicked,
            Refusal::Topic,
            Refusal::TopicTaken,
            Refusal::TopicUnknown,
            Refusal::TopicUnavailable,
            Refusal::TooManyTopics,
            Refusal::Body(BodyError::TimedOut(Duration::from_secs(10))),
            Refusal::Body(BodyError::TooLarge(8_000_000)),
            Refusal::Body(BodyError::NoRoom),
            Refusal::Body(BodyError::Broken),
            Refusal::TooManyMessages(1_000),
            Refusal::NotText,
            Refusal::TooManySessions(Full::Server(100)),
            Refusal::TooManySessions(Full::Address(10)),
            Refusal::TooManyConnections(100),
            Refusal::TooManyHandshakes(100),
            Refusal::TooManyFromAddress(10),
            Refusal::AddressRate(2),
            Refusal::TooManyOfUser(5, None),
            Refusal::NoTenant,
            Refusal::Quota(full_tenant()),
            Refusal::Penalty(5, None),
            Refusal::Rate(2),
            Refusal::Draining,
            Refusal::Ended,
        ]
    }

    fn full_tenant() -> OverQuota {
        let tenants = Tenants::new(Quotas::new(Quota::new().sockets_max(0)));
        tenants.get("acme", 0).0.take_socket(0).expect_err("it may have none")
    }
}
