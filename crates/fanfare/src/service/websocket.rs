//! The WebSocket upgrade. The checks come in the order of Phoenix, so that a client sees the same refusals.
//!
//! Most requests come through an HTTP library, which gives up the connection below. Our own server also lets a shard read the first
//! request of a connection ([`let_in`](Endpoint::let_in)). Over HTTP/2 it is an extended CONNECT, which the answer 200 accepts.

use std::sync::Arc;

use fanfare_proto::websocket::{deflate, handshake};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

use super::admission::Asking;
use super::refusal::Refusal;
use super::{Connection, Found, credential, upgrade};
use crate::body::Body;
use crate::endpoint::Endpoint;
use crate::mailbox::{AdmittedSocket, ShardHandle};
use crate::protocol::Served;
use crate::transport::Transport;

/// A client that may have a WebSocket.
pub(crate) struct Upgrading {
    pub(crate) socket: AdmittedSocket,
    /// What permessage-deflate was negotiated with, if it was.
    pub(crate) window_bits: Option<u8>,
    pub(crate) answer: Accepted,
}

/// The answer to a client that may have a WebSocket.
pub(crate) struct Accepted {
    /// What proves that its request was understood; there is none over HTTP/2, where 200 says so.
    accept: Option<HeaderValue>,
    protocol: Option<HeaderValue>,
    extensions: Option<HeaderValue>,
}

impl Accepted {
    fn headers(self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let of_upgrade = self.accept.map(|accept| {
            [
                (UPGRADE, HeaderValue::from_static("websocket")),
                (CONNECTION, HeaderValue::from_static("Upgrade")),
                (SEC_WEBSOCKET_ACCEPT, accept),
            ]
        });
        let protocol = self.protocol.map(|protocol| (SEC_WEBSOCKET_PROTOCOL, protocol));
        let extensions = self.extensions.map(|extensions| (SEC_WEBSOCKET_EXTENSIONS, extensions));
        of_upgrade.into_iter().flatten().chain(protocol).chain(extensions)
    }

    /// For the HTTP library.
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::default());
        if self.accept.is_some() {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        }
        response.headers_mut().extend(self.headers());
        response
    }

    /// The bytes of it, over HTTP/1.1.
    pub(crate) fn into_head(self) -> Vec<u8> {
        let mut head = Vec::with_capacity(256);
        head.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
        for (name, value) in self.headers() {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

impl Endpoint {
    pub(super) async fn websocket<B: http_body::Body>(&self, found: Found, mut request: Request<B>) -> Response<Body> {
        let connection = Connection::of(&request, self);
        let has_body = !request.body().is_end_stream();
        let on_upgrade = hyper::upgrade::on(&mut request);
        let (parts, _) = request.into_parts();
        let (found, parts, connection) = (&found, &Arc::new(parts), connection.as_ref());
        let asking = Asking::new(self, found, parts, connection, Transport::WebSocket);
        let answer = async {
            if parts.method != Method::GET && !asks_by_connect(parts) {
                return Err(Refusal::Method("GET"));
            }
            // What comes of it after the answer would be read as frames.
            if has_body {
                return Err(Refusal::UpgradeWithBody);
            }
            asking.let_in(None).await?.take_over(self, on_upgrade).await
        };
        answer.await.unwrap_or_else(|refusal| asking.refuse(refusal))
    }

    /// What serves a path, if it answers requests to upgrade.
    pub(crate) fn upgrades_at(&self, path: &str) -> Option<Found> {
        self.find(path).filter(|found| matches!(found.served, Served::WebSocket | Served::Bullet))
    }

    /// Judges a GET without a body that asks for an upgrade. The socket would be this shard's.
    ///
    /// # Errors
    /// What is answered instead.
    pub(crate) async fn let_in(
        &self,
        found: Found,
        parts: Parts,
        connection: &Connection,
        shard: ShardHandle,
    ) -> Result<Upgrading, Response<Body>> {
        let (found, parts, connection) = (&found, &Arc::new(parts), Some(connection));
        let asking = Asking::new(self, found, parts, connection, Transport::WebSocket);
        asking.let_in(Some(shard)).await.map_err(|refusal| asking.refuse(refusal))
    }

    /// Gives the connection of its request to a client that was let in.
    pub(crate) async fn upgrade<B>(
        &self,
        upgrading: Upgrading,
        mut request: Request<B>,
        connection: &Connection,
    ) -> Response<Body> {
        let taken_over = upgrading.take_over(self, hyper::upgrade::on(&mut request)).await;
        taken_over.unwrap_or_else(|refusal| self.refuse(&refusal, connection))
    }
}

/// Whether a stream of HTTP/2 is to become a WebSocket (RFC 8441).
pub(super) fn asks_by_connect(parts: &Parts) -> bool {
    parts.method == Method::CONNECT && parts.extensions.get::<Protocol>().is_some()
}

impl Asking<'_> {
    async fn let_in(&self, shard: Option<ShardHandle>) -> Result<Upgrading, Refusal> {
        let (endpoint, mount, parts) = (self.endpoint, &self.found.mount, self.parts);
        let admitted = self.admit(self.read()?).await?;
        let accept = match parts.extensions.get::<Protocol>() {
            Some(protocol) => handshake::check_connect(protocol.as_str(), &parts.headers).map(|()| None),
            None => handshake::check(&parts.method, parts.version, &parts.headers).map(|upgrade| Some(upgrade.accept)),
        };
        let accept = accept.map_err(Refusal::Handshake)?;
        let agreement = if mount.compression { deflate::negotiate(&parts.headers) } else { None };
        let window_bits = agreement.as_ref().map(|agreement| agreement.window_bits);
        let shard = shard.unwrap_or_else(|| endpoint.next_shard().clone());
        let socket = self.socket(shard, admitted).await?;

        let (protocol, _) = credential::subprotocol(mount, &parts.headers)?;
        let answer = Accepted { accept, protocol, extensions: agreement.map(|agreement| agreement.response) };
        Ok(Upgrading { socket, window_bits, answer })
    }
}

impl Upgrading {
    async fn take_over(self, endpoint: &Endpoint, on_upgrade: OnUpgrade) -> Result<Response<Body>, Refusal> {
        let Upgrading { socket, window_bits, answer } = self;
        upgrade::take_over(endpoint, on_upgrade, socket, window_bits).await.map_err(|_| Refusal::Ended)?;
        Ok(answer.into_response())
    }
}
