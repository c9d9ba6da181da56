//! The WebSocket upgrade. The checks come in the order of Phoenix, so that a client sees the same refusals.

use fanfare_proto::phoenix::auth_token::{self, AuthToken};
use fanfare_proto::phoenix::message::Version;
use fanfare_proto::websocket::{deflate, handshake};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

use super::admission::{self, Refusal};
use super::{Body, Connection, Found, status, text, upgrade};
use crate::connect::Connected;
use crate::endpoint::Endpoint;
use crate::event::Event;
use crate::mount::Mount;
use crate::socket::Transport;

/// The subprotocol that a client with an auth token asks for.
const PHOENIX_SUBPROTOCOL: &str = "phoenix";

/// The same for clients that are none of Phoenix's.
const OWN_SUBPROTOCOL: &str = "fanfare";

impl Endpoint {
    pub(super) async fn websocket<B>(&self, found: Found, mut request: Request<B>) -> Response<Body> {
        if request.method() != Method::GET {
            self.own_counters().count(Event::RejectedHandshake);
            return status(StatusCode::BAD_REQUEST);
        }
        if self.is_draining() {
            return status(StatusCode::SERVICE_UNAVAILABLE);
        }
        let connection = Connection::of(&request);
        let on_upgrade = hyper::upgrade::on(&mut request);
        let (parts, _) = request.into_parts();
        let (mount, transport, connection) = (found.mount.clone(), Transport::WebSocket, connection.as_ref());
        let Admitted { connected, version, protocol } = match self.admit(&found, &parts, transport, connection).await {
            Ok(admitted) => admitted,
            Err(response) => return *response,
        };
        let upgrade = match handshake::check(&parts.method, parts.version, &parts.headers) {
            Ok(upgrade) => upgrade,
            Err(error) => {
                self.own_counters().count(Event::RejectedHandshake);
                let mut response = Response::new(Body::from(error.to_string()));
                *response.status_mut() = error.status();
                response.headers_mut().extend(error.header().map(|(name, value)| (Some(name), value)));
                return response;
            }
        };
        let agreement = if mount.compression { deflate::negotiate(&parts.headers) } else { None };
        let window_bits = agreement.as_ref().map(|agreement| agreement.window_bits);
        let shard = self.next_shard().clone();
        let socket = match self.new_socket(&found, shard, connected, version, transport, connection) {
            Ok(socket) => socket,
            Err(response) => return *response,
        };
        if upgrade::take_over(self, on_upgrade, socket, window_bits).await.is_err() {
            return status(StatusCode::SERVICE_UNAVAILABLE);
        }

        let mut response = status(StatusCode::SWITCHING_PROTOCOLS);
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, upgrade.accept);
        if let Some(protocol) = protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        if let Some(agreement) = agreement {
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, agreement.response);
        }
        response
    }

    /// All that is checked before the upgrade itself; `Err` is the refusal.
    pub(super) async fn admit(
        &self,
        found: &Found,
        parts: &Parts,
        transport: Transport,
        connection: Option<&Connection>,
    ) -> Result<Admitted, Box<Response<Body>>> {
        let mount = &found.mount;
        let refused = |refusal: Refusal, protocol: Option<HeaderValue>| {
            self.own_counters().count(refusal.event());
            let mut response = refuse(mount, refusal);
            if let Some(protocol) = protocol {
                response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
            }
            Box::new(response)
        };
        admission::check_origin(mount, parts, connection).map_err(|refusal| refused(refusal, None))?;
        let (protocol, auth_token) = subprotocol(mount, &parts.headers).map_err(|event| {
            self.own_counters().count(event);
            Box::new(status(StatusCode::FORBIDDEN))
        })?;
        let (params, version) =
            admission::params(found, parts).map_err(|refusal| refused(refusal, protocol.clone()))?;
        let since = admission::since(found, &params).map_err(|refusal| refused(refusal, protocol.clone()))?;
        self.check_rate(found, &params, &parts.headers)?;
        match admission::connect(mount, params, version, transport, parts, connection, auth_token).await {
            Ok(connected) => Ok(Admitted { connected: Connected { since, ..connected }, version, protocol }),
            Err(refusal) => Err(refused(refusal, protocol)),
        }
    }
}

/// A client that may have a socket.
pub(super) struct Admitted {
    pub(super) connected: Connected,
    pub(super) version: Version,
    /// The subprotocol to confirm.
    protocol: Option<HeaderValue>,
}

pub(super) fn refuse(mount: &Mount, refusal: Refusal) -> Response<Body> {
    match refusal {
        Refusal::Origin | Refusal::Version => status(StatusCode::FORBIDDEN),
        Refusal::Query => text(StatusCode::BAD_REQUEST, "the query is not UTF-8, or has too many parameters"),
        Refusal::NotAPosition => text(
            StatusCode::BAD_REQUEST,
            "since is not a position such as 5e1f:42: give back one that the server sent, or 0:0 for the beginning",
        ),
        Refusal::Panicked => status(StatusCode::INTERNAL_SERVER_ERROR),
        Refusal::Rejected(rejected) => match (rejected.0, &mount.on_reject) {
            (Some(reason), Some(on_reject)) => on_reject(&reason),
            _ => status(StatusCode::FORBIDDEN),
        },
    }
}

/// The subprotocol to confirm, and the auth token; `Err` is what is counted when the client is refused.
fn subprotocol(mount: &Mount, headers: &HeaderMap) -> Result<(Option<HeaderValue>, Option<String>), Event> {
    let mut served: Vec<&str> = mount.subprotocols.iter().map(String::as_str).collect();
    let (mut token, mut offered) = (None, handshake::subprotocols(headers).collect::<Vec<_>>());
    let had_offers = !offered.is_empty();
    if mount.auth_token {
        served.splice(0..0, [PHOENIX_SUBPROTOCOL, OWN_SUBPROTOCOL]);
        let (auth_token, rest) = auth_token::extract(offered.into_iter());
        token = match auth_token {
            AuthToken::Absent => None,
            AuthToken::Token(token) => Some(token),
            AuthToken::Undecodable => return Err(Event::RejectedToken),
        };
        offered = rest;
    }
    // A lone auth token asks for no protocol.
    if served.is_empty() || !had_offers || (token.is_some() && offered.is_empty()) {
        return Ok((None, token));
    }
    let chosen = served.iter().find(|name| offered.contains(name)).ok_or(Event::RejectedSubprotocol)?;
    Ok((HeaderValue::from_str(chosen).ok(), token))
}
