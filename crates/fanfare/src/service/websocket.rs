//! The WebSocket upgrade. The checks come in the order of Phoenix, so that a client sees the same refusals.

use std::sync::Arc;

use fanfare_proto::websocket::{deflate, handshake};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;

use super::admission::Asking;
use super::refusal::Refusal;
use super::{Connection, Found, credential, upgrade};
use crate::body::Body;
use crate::endpoint::Endpoint;
use crate::transport::Transport;

impl Endpoint {
    pub(super) async fn websocket<B: http_body::Body>(&self, found: Found, mut request: Request<B>) -> Response<Body> {
        let connection = Connection::of(&request, self);
        let has_body = !request.body().is_end_stream();
        let on_upgrade = hyper::upgrade::on(&mut request);
        let (parts, _) = request.into_parts();
        let (found, parts, connection) = (&found, &Arc::new(parts), connection.as_ref());
        let asking = Asking { endpoint: self, found, parts, connection, transport: Transport::WebSocket };
        let answer = async {
            if parts.method != Method::GET {
                return Err(Refusal::Method("GET"));
            }
            // What comes of it after the answer would be read as frames.
            if has_body {
                return Err(Refusal::UpgradeWithBody);
            }
            asking.upgrade(on_upgrade).await
        };
        answer.await.unwrap_or_else(|refusal| asking.refuse(refusal))
    }
}

impl Asking<'_> {
    async fn upgrade(&self, on_upgrade: OnUpgrade) -> Result<Response<Body>, Refusal> {
        let (endpoint, mount, parts) = (self.endpoint, &self.found.mount, self.parts);
        let admitted = self.admit(self.read()?).await?;
        let upgrade = handshake::check(&parts.method, parts.version, &parts.headers).map_err(Refusal::Handshake)?;
        let agreement = if mount.compression { deflate::negotiate(&parts.headers) } else { None };
        let window_bits = agreement.as_ref().map(|agreement| agreement.window_bits);
        let socket = self.socket(endpoint.next_shard().clone(), admitted).await?;
        upgrade::take_over(endpoint, on_upgrade, socket, window_bits).await.map_err(|_| Refusal::Ended)?;

        let mut response = Response::new(Body::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, upgrade.accept);
        if let (Some(protocol), _) = credential::subprotocol(mount, &parts.headers)? {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        if let Some(agreement) = agreement {
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, agreement.response);
        }
        Ok(response)
    }
}
