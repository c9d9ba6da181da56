//! What both transports check before a socket exists: origin, version, the application.

use std::sync::Arc;
use std::time::SystemTime;

use fanfare_proto::origin::RequestOrigin;
use fanfare_proto::params::Params;
use fanfare_proto::phoenix::message::Version;
use http::header::{HOST, ORIGIN};
use http::request::Parts;
use serde_json::Value;

use super::{Connection, Found};
use crate::connect::{ConnectInfo, ConnectRequest, Connected, Rejected};
use crate::endpoint::Endpoint;
use crate::event::Event;
use crate::mailbox::ShardHandle;
use crate::mount::Mount;
use crate::socket::{SocketInfo, Transport};

/// Why a client is not let in.
pub(super) enum Refusal {
    Origin,
    Version,
    /// The query is not UTF-8, or has too many parameters.
    Query,
    Rejected(Rejected),
    Panicked,
}

impl Refusal {
    pub(super) fn event(&self) -> Event {
        match self {
            Refusal::Origin => Event::RejectedOrigin,
            Refusal::Version => Event::RejectedVersion,
            Refusal::Query => Event::RejectedHandshake,
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
    let mut params = Params::parse(parts.uri.query().unwrap_or_default()).map_err(|_| Refusal::Query)?;
    let version = match params.get("vsn") {
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
    let info = ConnectInfo::collect(mount.connect_info, peer, &original_uri(parts), &parts.headers, auth_token);
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

impl Endpoint {
    /// What a new socket's channels will know, and when its credential expires on the engine's clock.
    pub(super) fn new_socket(
        &self,
        mount: Arc<Mount>,
        shard: ShardHandle,
        connected: Connected,
        version: Version,
        transport: Transport,
        connection: Option<&Connection>,
    ) -> (SocketInfo, Option<u64>) {
        let expires_ms =
            connected.expires_at.map(|at| self.clock().after(at.duration_since(SystemTime::now()).unwrap_or_default()));
        let info = SocketInfo {
            id: connected.id.map(Arc::from),
            peer: connection.map(|connection| connection.peer),
            assigns: connected.assigns,
            version,
            transport,
            mount,
            endpoint: self.clone(),
            shard,
            // A long-poll session outlives the connection that it was created by, and has a bound of its own.
            _slot: connection
                .filter(|_| transport == Transport::WebSocket)
                .and_then(|connection| connection.slot.clone()),
        };
        (info, expires_ms)
    }
}
