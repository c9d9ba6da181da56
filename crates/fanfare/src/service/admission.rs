//! What every new client passes, whatever carries it and whatever it speaks: origin, what it says, rate, the application, a place.

use std::sync::Arc;

use fanfare_proto::bullet;
use fanfare_proto::hub::{self, ClaimError};
use fanfare_proto::origin::RequestOrigin;
use fanfare_proto::params::Params;
use fanfare_proto::phoenix::message::Version;
use fanfare_proto::position::Since;
use fanfare_proto::topic::check_topic;
use http::header::{HOST, ORIGIN};
use http::request::Parts;
use serde_json::Value;
use tokio::sync::oneshot;

use super::refusal::Refusal;
use super::stream::LAST_EVENT_ID;
use super::{Connection, Found, Served, credential, stream};
use crate::address::AddressSlot;
use crate::channel::Status;
use crate::connect::{ConnectInfo, ConnectRequest, Connected};
use crate::endpoint::Endpoint;
use crate::mailbox::ShardHandle;
use crate::ownership::Ownership;
use crate::socket::{AdmittedSocket, Carrier, Protocol, SocketInfo, Transport};
use crate::transport::bullet::Listing;
use crate::transport::longpoll::{PollSession, SessionHandle};
use fanfare_proto::payload::Payload;

/// A request at the door of a mount.
pub(super) struct Asking<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) found: &'a Found,
    pub(super) parts: &'a Parts,
    pub(super) connection: Option<&'a Connection>,
    /// What would carry the socket.
    pub(super) transport: Transport,
}

/// What a request says of its client.
pub(super) struct Asked {
    pub(super) params: Params,
    version: Version,
    since: Option<Since>,
    auth_token: Option<String>,
}

/// A client that may have a socket.
pub(super) struct Admitted {
    connected: Connected,
    pub(super) version: Version,
}

impl Asking<'_> {
    /// Reads what the request says. Whoever has a session already has to get this right as well.
    pub(super) fn read(&self) -> Result<Asked, Refusal> {
        self.check_origin()?;
        let auth_token = credential::auth_token(self)?;
        let (params, version) = self.params()?;
        let since = self.since(&params)?;
        Ok(Asked { params, version, since, auth_token })
    }

    /// Lets a new client in, or not.
    pub(super) async fn admit(&self, asked: Asked) -> Result<Admitted, Refusal> {
        if self.endpoint.is_draining() {
            return Err(Refusal::Draining);
        }
        self.check_rate(&asked.params)?;
        let (version, since) = (asked.version, asked.since);
        let connected = Connected { since, ..self.connect(asked).await? };
        Ok(Admitted { connected, version })
    }

    /// Whether pages of the request's origin may connect.
    pub(super) fn check_origin(&self) -> Result<(), Refusal> {
        let header = |name| self.parts.headers.get(name).map(|value| value.to_str().unwrap_or("invalid"));
        let host = header(HOST).or_else(|| self.parts.uri.authority().map(|authority| authority.as_str()));
        let is_secure = self.connection.is_some_and(|connection| connection.is_secure);
        let scheme = if is_secure { "https" } else { "http" };
        let request = RequestOrigin { scheme, host_and_port: host.unwrap_or_default() };
        let origin = header(ORIGIN);
        match self.found.mount.origin.allows(origin, request) {
            true => Ok(()),
            false => Err(Refusal::Origin(origin.unwrap_or_default().to_owned())),
        }
    }

    /// The query's parameters with those of the path, and the version that they ask for.
    fn params(&self) -> Result<(Params, Version), Refusal> {
        let (found, query) = (self.found, self.parts.uri.query().unwrap_or_default());
        if found.served == Served::Bullet {
            let mut params = found.params.clone();
            if let Some(key) = bullet::key_of(query) {
                params.insert("key", key.into_owned());
            }
            return Ok((params, Version::V2));
        }
        let mut params = Params::parse(query).map_err(|_| Refusal::Query)?;
        let version = match params.get("vsn") {
            _ if found.protocol != Protocol::Phoenix => Some(Version::V2),
            None => Version::parse(None),
            Some(Value::String(vsn)) => Version::parse(Some(vsn)),
            Some(_) => None,
        };
        let version = version.filter(|version| found.mount.versions.contains(version));
        let version = version.ok_or_else(|| Refusal::Version(params.str("vsn").unwrap_or_default().to_owned()))?;
        for (name, value) in found.params.iter() {
            params.insert(name, value.clone());
        }
        Ok((params, version))
    }

    /// From where a client of a protocol without join parameters wants to go on: the parameter `since`, a position, or nothing for
    /// what comes from now on.
    fn since(&self, params: &Params) -> Result<Option<Since>, Refusal> {
        match self.found.protocol {
            Protocol::HubSubscriber | Protocol::Rooms => match params.str("since") {
                None => Ok(None),
                Some(text) => position(text).map(Some),
            },
            protocol if protocol.is_stream() => stream::since(self.parts, params).map(Some),
            _ => Ok(None),
        }
    }

    /// Counts a new client against the rate at which they are let in.
    fn check_rate(&self, params: &Params) -> Result<(), Refusal> {
        match &self.endpoint.gate().accept_rate {
            None => Ok(()),
            Some(rate) => rate.admit(self.endpoint.clock().now_ms(), self.is_resuming(params)).map_err(Refusal::Rate),
        }
    }

    /// Whether a client shows that it was here before. Nobody checks it: whoever lies is served a little earlier.
    fn is_resuming(&self, params: &Params) -> bool {
        let has = |name| params.str(name).is_some_and(|value| !value.is_empty());
        match self.found.protocol {
            Protocol::Phoenix => has("resume"),
            _ => has("since") || self.parts.headers.get(LAST_EVENT_ID).is_some_and(|id| !id.is_empty()),
        }
    }

    /// Asks the application.
    pub(super) async fn connect(&self, asked: Asked) -> Result<Connected, Refusal> {
        let Asked { params, version, auth_token, .. } = asked;
        let (mount, headers) = (&self.found.mount, &self.parts.headers);
        let peer = self.connection.map(|connection| connection.peer);
        let uri = original_uri(self.parts);
        let mut info = ConnectInfo::collect(mount.connect_info, peer, &uri, headers, auth_token);
        if mount.auth_token {
            info = info.with_header_token(headers);
        }
        match mount.connect.connect(ConnectRequest { params, info, transport: self.transport, version }).await {
            Ok(Ok(connected)) => Ok(connected),
            Ok(Err(rejected)) => Err(Refusal::Rejected(rejected)),
            Err(panic) => {
                tracing::error!(panic, "connect panicked");
                Err(Refusal::Panicked)
            }
        }
    }

    /// A socket whose messages wait until they are polled. `joined` is told what its only join is answered.
    pub(super) async fn open(
        &self,
        admitted: Admitted,
        listing: Option<Listing>,
        joined: Option<oneshot::Sender<(Status, Payload)>>,
    ) -> Result<SessionHandle, Refusal> {
        let slot = self.session_slot()?;
        let shard = self.endpoint.next_shard().clone();
        let secret = random_secret().map_err(|_| Refusal::Ended)?;
        let socket = self.socket(shard.clone(), admitted)?;
        let session = PollSession::new(secret, self.endpoint.clock().now_ms(), slot, listing, joined);
        let attached = self.endpoint.attach(socket, Carrier::Poll(Box::new(session))).await;
        Ok(SessionHandle { shard, socket: attached.map_err(|_| Refusal::Ended)?, secret })
    }

    /// A place for a session of this client's address.
    fn session_slot(&self) -> Result<Option<AddressSlot>, Refusal> {
        let Some(connection) = self.connection else { return Ok(None) };
        let slot = self.endpoint.gate().session_counts.take(connection.peer.ip());
        slot.map(Some).ok_or(Refusal::TooManySessions)
    }

    /// A socket that may have a carrier. A hub's publisher has its topic from now on.
    pub(super) fn socket(&self, shard: ShardHandle, admitted: Admitted) -> Result<AdmittedSocket, Refusal> {
        let Admitted { connected, version } = admitted;
        let found = self.found;
        let (expires_ms, is_pending) = (connected.expires_ms(self.endpoint.clock()), connected.is_pending);
        let is_hub = found.protocol.is_hub();
        let topics = if is_hub { vec![hub_topic(found)] } else { connected.topics };
        if topics.iter().any(|topic| check_topic(topic).is_err()) {
            return Err(Refusal::Topic);
        }
        let ownership = if is_hub { self.hub_place(&topics[0])? } else { None };
        let info = SocketInfo {
            id: connected.id.map(Arc::from),
            peer: self.connection.map(|connection| connection.peer),
            assigns: connected.assigns,
            version,
            transport: self.transport,
            mount: found.mount.clone(),
            endpoint: self.endpoint.clone(),
            shard,
            expires_ms,
            is_pending,
            since: connected.since,
            ownership,
            // A long-poll session outlives the connection that it was created by, and has a bound of its own.
            _slot: self
                .connection
                .filter(|_| self.transport == Transport::WebSocket)
                .and_then(|connection| connection.slot.clone()),
        };
        Ok(AdmittedSocket { info: Arc::new(info), protocol: found.protocol, topics })
    }

    /// A publisher's ownership of its topic; of a subscriber only that somebody has started it.
    fn hub_place(&self, topic: &Arc<str>) -> Result<Option<Ownership>, Refusal> {
        let (endpoint, found) = (self.endpoint, self.found);
        if found.protocol == Protocol::HubPublisher {
            return match endpoint.started().claim(endpoint, topic.clone(), found.mount.owner_grace) {
                Ok(ownership) => Ok(Some(ownership)),
                Err(ClaimError::Taken) => Err(Refusal::TopicTaken),
                Err(ClaimError::Full) => Err(Refusal::TooManyTopics),
            };
        }
        if found.mount.waits_for_topic || endpoint.started().contains(topic) {
            return Ok(None);
        }
        Err(Refusal::TopicUnknown)
    }
}

/// A position that a client gives; nothing is now.
pub(super) fn position(text: &str) -> Result<Since, Refusal> {
    match text {
        "" => Ok(Since::Now),
        text => text.parse().map_err(|_| Refusal::NotAPosition(text.to_owned())),
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

fn hub_topic(found: &Found) -> Arc<str> {
    let param = |name| found.params.str(name).unwrap_or_default();
    hub::topic_name(&found.mount.topic_prefix, param("domain"), param("topic")).into()
}

fn random_secret() -> Result<u128, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(u128::from_be_bytes(bytes))
}
