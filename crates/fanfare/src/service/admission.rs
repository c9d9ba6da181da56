//! What both transports check before a socket exists: origin, version, the application.

use std::sync::Arc;

use fanfare_proto::bullet;
use fanfare_proto::hub::{self, ClaimError};
use fanfare_proto::origin::RequestOrigin;
use fanfare_proto::params::Params;
use fanfare_proto::phoenix::message::Version;
use fanfare_proto::position::Since;
use fanfare_proto::topic::check_topic;
use http::header::{HOST, ORIGIN, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use serde_json::Value;

use super::{Body, Connection, Found, status, text};
use crate::connect::{ConnectInfo, ConnectRequest, Connected, Rejected};
use crate::endpoint::Endpoint;
use crate::event::Event;
use crate::mailbox::ShardHandle;
use crate::mount::Mount;
use crate::ownership::Ownership;
use crate::socket::{AdmittedSocket, Protocol, SocketInfo, Transport};

/// Why a client is not let in.
pub(super) enum Refusal {
    Origin,
    Version,
    /// The query is not UTF-8, or has too many parameters.
    Query,
    Rejected(Rejected),
    Panicked,
    /// It wants to resume from what is no position.
    NotAPosition,
}

impl Refusal {
    pub(super) fn event(&self) -> Event {
        match self {
            Refusal::Origin => Event::RejectedOrigin,
            Refusal::Version => Event::RejectedVersion,
            Refusal::Query | Refusal::NotAPosition => Event::RejectedHandshake,
            Refusal::Rejected(_) => Event::RejectedConnect,
            Refusal::Panicked => Event::ConnectPanicked,
        }
    }
}

pub(super) fn check_origin(mount: &Mount, parts: &Parts, connection: Option<&Connection>) -> Result<(), Refusal> {
    let header = |name| parts.headers.get(name).map(|value| value.to_str().unwrap_or("invalid"));
    let host = header(HOST).or_else(|| parts.uri.authority().map(|authority| authority.as_str()));
    let scheme = if connection.is_some_and(|connection| connection.is_secure) { "https" } else { "http" };
    let request = RequestOrigin { scheme, host_and_port: host.unwrap_or_default() };
    if mount.origin.allows(header(ORIGIN), request) { Ok(()) } else { Err(Refusal::Origin) }
}

/// The query's parameters with those of the path, and the version that they ask for.
pub(super) fn params(found: &Found, parts: &Parts) -> Result<(Params, Version), Refusal> {
    if found.protocol == Protocol::Bullet {
        let mut params = found.params.clone();
        if let Some(key) = bullet::key_of(parts.uri.query().unwrap_or_default()) {
            params.insert("key", key.into_owned());
        }
        return Ok((params, Version::V2));
    }
    let mut params = Params::parse(parts.uri.query().unwrap_or_default()).map_err(|_| Refusal::Query)?;
    let version = match params.get("vsn") {
        _ if found.protocol != Protocol::Phoenix => Some(Version::V2),
        None => Version::parse(None),
        Some(Value::String(vsn)) => Version::parse(Some(vsn)),
        Some(_) => None,
    };
    let version = version.filter(|version| found.mount.versions.contains(version)).ok_or(Refusal::Version)?;
    for (name, value) in found.params.iter() {
        params.insert(name, value.clone());
    }
    Ok((params, version))
}

/// From where a client of a protocol without join parameters wants to go on: the parameter `since`, a position, or nothing for
/// what comes from now on.
pub(super) fn since(found: &Found, params: &Params) -> Result<Option<Since>, Refusal> {
    if !matches!(found.protocol, Protocol::HubSubscriber | Protocol::Rooms) {
        return Ok(None);
    }
    match params.str("since") {
        None => Ok(None),
        Some("") => Ok(Some(Since::Now)),
        Some(text) => text.parse().map(Some).map_err(|_| Refusal::NotAPosition),
    }
}

/// Asks the application.
pub(super) async fn connect(
    mount: &Mount,
    params: Params,
    version: Version,
    transport: Transport,
    parts: &Parts,
    connection: Option<&Connection>,
    auth_token: Option<String>,
) -> Result<Connected, Refusal> {
    let peer = connection.map(|connection| connection.peer);
    let mut info = ConnectInfo::collect(mount.connect_info, peer, &original_uri(parts), &parts.headers, auth_token);
    if mount.auth_token {
        info = info.with_header_token(&parts.headers);
    }
    match mount.connect.connect(ConnectRequest { params, info, transport, version }).await {
        Ok(Ok(connected)) => Ok(connected),
        Ok(Err(rejected)) => Err(Refusal::Rejected(rejected)),
        Err(panic) => {
            tracing::error!(panic, "connect panicked");
            Err(Refusal::Panicked)
        }
    }
}

/// The URI as the client sent it, also where a router has taken a prefix off.
fn original_uri(parts: &Parts) -> http::Uri {
    #[cfg(feature = "axum")]
    if let Some(original) = parts.extensions.get::<axum::extract::OriginalUri>() {
        return original.0.clone();
    }
    parts.uri.clone()
}

/// Whether a client shows that it was here before. Nobody checks it: whoever lies is served a little earlier.
fn is_resuming(protocol: Protocol, params: &Params, headers: &HeaderMap) -> bool {
    let has = |name| params.str(name).is_some_and(|value| !value.is_empty());
    let has_received = || headers.get("last-event-id").is_some_and(|id| !id.is_empty());
    match protocol {
        Protocol::Phoenix => has("resume"),
        Protocol::HubPublisher | Protocol::HubSubscriber | Protocol::Rooms => has("since"),
        Protocol::Events | Protocol::Lines => has("since") || has_received(),
        Protocol::Bullet => has_received(),
        Protocol::Echo | Protocol::Registry => false,
    }
}

fn hub_topic(found: &Found) -> Arc<str> {
    let param = |name| found.params.str(name).unwrap_or_default();
    hub::topic_name(&found.mount.topic_prefix, param("domain"), param("topic")).into()
}

impl Endpoint {
    /// Counts a new client against the rate at which they are let in.
    ///
    /// # Errors
    /// The answer to one that has to wait.
    pub(super) fn check_rate(
        &self,
        found: &Found,
        params: &Params,
        headers: &HeaderMap,
    ) -> Result<(), Box<Response<Body>>> {
        let Some(rate) = self.accept_rate() else { return Ok(()) };
        rate.admit(self.clock().now_ms(), is_resuming(found.protocol, params, headers)).map_err(|seconds| {
            self.own_counters().count(Event::RejectedRate);
            let mut response = status(StatusCode::SERVICE_UNAVAILABLE);
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
            Box::new(response)
        })
    }

    /// A socket that may have a carrier. A hub's publisher has its topic from now on.
    ///
    /// # Errors
    /// The answer to a client that cannot have its topic.
    pub(super) fn new_socket(
        &self,
        found: &Found,
        shard: ShardHandle,
        connected: Connected,
        version: Version,
        transport: Transport,
        connection: Option<&Connection>,
    ) -> Result<AdmittedSocket, Box<Response<Body>>> {
        let (expires_ms, is_pending) = (connected.expires_ms(self.clock()), connected.is_pending);
        let mut topics = connected.topics;
        let name = connected.publisher.filter(|_| found.mount.replaces_publisher);
        let mut ownership = None;
        if let Protocol::HubPublisher | Protocol::HubSubscriber = found.protocol {
            topics = vec![hub_topic(found)];
        }
        if topics.iter().any(|topic| check_topic(topic).is_err()) {
            self.own_counters().count(Event::BadTopic);
            return Err(Box::new(text(StatusCode::FORBIDDEN, "")));
        }
        if let Protocol::HubPublisher | Protocol::HubSubscriber = found.protocol {
            ownership = self.hub_place(found, &topics[0], name)?;
        }
        let protocol = found.protocol;
        let info = SocketInfo {
            id: connected.id.map(Arc::from),
            peer: connection.map(|connection| connection.peer),
            assigns: connected.assigns,
            version,
            transport,
            mount: found.mount.clone(),
            endpoint: self.clone(),
            shard,
            expires_ms,
            is_pending,
            since: connected.since,
            ownership,
            // A long-poll session outlives the connection that it was created by, and has a bound of its own.
            _slot: connection
                .filter(|_| transport == Transport::WebSocket)
                .and_then(|connection| connection.slot.clone()),
        };
        Ok(AdmittedSocket { info: Arc::new(info), protocol, topics })
    }

    /// A publisher's ownership of its topic; of a subscriber only that somebody has started it.
    fn hub_place(
        &self,
        found: &Found,
        topic: &Arc<str>,
        name: Option<String>,
    ) -> Result<Option<Ownership>, Box<Response<Body>>> {
        let refuse = |event, status, why| {
            self.own_counters().count(event);
            Err(Box::new(text(status, why)))
        };
        if found.protocol == Protocol::HubPublisher {
            return match self.started().claim(self, topic.clone(), name, found.mount.owner_grace) {
                Ok(ownership) => Ok(Some(ownership)),
                Err(ClaimError::Taken) => {
                    refuse(Event::RejectedTopicTaken, StatusCode::CONFLICT, "the topic has a publisher")
                }
                Err(ClaimError::Full) => {
                    refuse(Event::RejectedLimit, StatusCode::SERVICE_UNAVAILABLE, "there are too many topics")
                }
            };
        }
        if found.mount.waits_for_topic || self.started().contains(topic) {
            return Ok(None);
        }
        refuse(Event::RejectedTopicUnknown, StatusCode::NOT_FOUND, "nobody has started this topic")
    }
}
