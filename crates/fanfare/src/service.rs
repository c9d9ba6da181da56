//! HTTP requests to the endpoint's mounts, whatever server they came through.
//!
//! `service/websocket.rs` has the upgrade, `service/longpoll.rs` the polls and posts, `service/local.rs` what the test kit
//! needs.

mod admission;
#[cfg(feature = "testing")]
mod local;
mod longpoll;
mod upgrade;
mod websocket;

use std::convert::Infallible;
use std::error::Error as StdError;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;

use crate::address::ConnectionSlot;
use crate::endpoint::Endpoint;
use crate::mount::Mount;
use crate::path::rest_matches;
use fanfare_proto::params::Params;

/// The body of every answer.
pub type Body = Full<Bytes>;

/// What a server knows about the connection that a request came by; put it among the request's extensions.
///
/// [`serve`](crate::serve) does so. Behind `axum::serve`, `into_make_service_with_connect_info::<SocketAddr>()` is understood
/// as well.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The client's address.
    pub peer: SocketAddr,
    /// Whether the request came by TLS.
    pub is_secure: bool,
    pub(crate) slot: Option<Arc<ConnectionSlot>>,
}

impl Connection {
    /// A connection from this address.
    pub fn new(peer: SocketAddr, is_secure: bool) -> Self {
        Connection { peer, is_secure, slot: None }
    }

    fn of<B>(request: &Request<B>) -> Option<Connection> {
        if let Some(connection) = request.extensions().get::<Connection>() {
            return Some(connection.clone());
        }
        #[cfg(feature = "axum")]
        if let Some(axum::extract::ConnectInfo(peer)) = request.extensions().get() {
            return Some(Connection::new(*peer, false));
        }
        None
    }
}

/// A mount as one request found it.
struct Found {
    number: u16,
    mount: Arc<Mount>,
    params: Params,
}

impl Endpoint {
    /// Answers a request to one of the mounts; 404 for any other path.
    ///
    /// For servers other than axum. The server must support HTTP upgrades (hyper: `with_upgrades`).
    pub async fn call<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        match self.find(request.uri().path()) {
            None => text(StatusCode::NOT_FOUND, "not found"),
            Some((found, true)) => self.longpoll(found, request).await,
            Some((found, false)) => self.websocket(found, request).await,
        }
    }

    /// The mount that serves a path, and whether it does so by long-polling.
    fn find(&self, path: &str) -> Option<(Found, bool)> {
        for (number, (mount_path, mount)) in self.mounts().iter().enumerate() {
            let Some((rest, mut params)) = mount_path.matches(path) else { continue };
            let websocket = mount.websocket_path.as_ref();
            let is_websocket =
                websocket.is_some_and(|below| rest.is_empty() || rest_matches(below, &rest, &mut params));
            let is_longpoll = mount.longpoll && rest == ["longpoll"];
            if is_websocket || is_longpoll {
                return Some((Found { number: number as u16, mount: mount.clone(), params }, is_longpoll));
            }
        }
        None
    }
}

impl<B> hyper::service::Service<Request<B>> for Endpoint
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let endpoint = self.clone();
        Box::pin(async move { Ok(Endpoint::call(&endpoint, request).await) })
    }
}

fn status(status: StatusCode) -> Response<Body> {
    text(status, "")
}

fn text(status: StatusCode, body: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
}
