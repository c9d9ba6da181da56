//! HTTP requests to the endpoint's mounts, whatever server they came through.
//!
//! `service/websocket.rs` has the upgrade, `service/longpoll.rs` Phoenix's polls and posts, `service/bullet.rs` those of
//! bullet.js, `service/posts.rs` those of Supabase's clients, `service/stream.rs` topics over plain HTTP, `service/local.rs` what the test kit needs.

mod admission;
mod bullet;
mod credential;
#[cfg(feature = "testing")]
mod local;
mod longpoll;
mod posts;
mod refusal;
mod stream;
mod streamed;
mod unread;
mod upgrade;
mod websocket;

use std::convert::Infallible;
use std::error::Error as StdError;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, Request, Response};

use fanfare_proto::params::Params;

use crate::address::{ConnectionSlot, Proxies};
use crate::body::Body;
use crate::dialect::Dialect;
use crate::endpoint::Endpoint;
use crate::event::Event;
use crate::fact::{Fact, Kind, Who};
use crate::mount::Mount;
use crate::protocol::Served;

pub(crate) use websocket::Upgrading;

/// What a server knows about the connection that a request came by; put it among the request's extensions.
///
/// [`serve`](crate::serve) does so. Behind `axum::serve`, `into_make_service_with_connect_info::<SocketAddr>()` is understood
/// as well.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The client's address: of the connection, or what a trusted [proxy](crate::Proxies) tells, with the port 0 where it tells none.
    pub peer: SocketAddr,
    /// Whether the client came by TLS, to us or to a trusted proxy.
    pub is_secure: bool,
    /// The host that the client asked a trusted proxy for.
    pub(crate) host: Option<Arc<str>>,
    /// When it was accepted, or a later request on it was read.
    pub(crate) began: Instant,
    /// Whether what proxies tell has been looked at.
    pub(crate) is_told: bool,
    pub(crate) slot: Option<Arc<ConnectionSlot>>,
}

impl Connection {
    /// A connection from this address.
    pub fn new(peer: SocketAddr, is_secure: bool) -> Self {
        Connection { peer, is_secure, host: None, began: Instant::now(), is_told: false, slot: None }
    }

    /// What is known of the connection that a request came by, and of its client.
    fn of<B>(request: &Request<B>, endpoint: &Endpoint) -> Option<Self> {
        let connection = Connection::given(request)?;
        match connection.is_told {
            true => Some(connection),
            false => Some(connection.told(&endpoint.gate().proxies, request.headers(), endpoint)),
        }
    }

    /// What the server has put among the request's extensions.
    fn given<B>(request: &Request<B>) -> Option<Self> {
        if let Some(connection) = request.extensions().get::<Connection>() {
            return Some(connection.clone());
        }
        #[cfg(feature = "axum")]
        if let Some(axum::extract::ConnectInfo(peer)) = request.extensions().get() {
            return Some(Connection::new(*peer, false));
        }
        None
    }

    /// The same with what a trusted proxy tells of this request's client.
    pub(crate) fn told(mut self, proxies: &Proxies, headers: &HeaderMap, endpoint: &Endpoint) -> Self {
        if let Some(told) = proxies.told(self.peer, headers) {
            if let Some(unread) = told.unread {
                let fact = Fact {
                    kind: Kind::Misread,
                    event: Event::ForwardedUnread,
                    who: Who { address: Some(self.peer), ..Who::default() },
                    topic: None,
                    code: None,
                    detail: format_args!(
                        "the proxy's header says {unread:?} where the client's address should be: have the proxy set it"
                    ),
                };
                fact.tell(endpoint.own_counters());
            }
            self.peer = told.client;
            self.is_secure = told.is_secure.unwrap_or(self.is_secure);
            self.host = told.host;
        }
        self.is_told = true;
        self
    }
}

/// A mount as one request found it.
pub(crate) struct Found {
    number: u16,
    mount: Arc<Mount>,
    params: Params,
    served: Served,
    /// What the socket will speak: a hub's depends on the path.
    dialect: Dialect,
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
            None => self.refuse_path(request.uri().path(), Connection::of(&request, self).as_ref()),
            Some(found) => match found.served {
                Served::WebSocket => self.websocket(found, request).await,
                Served::LongPoll => self.longpoll(found, request).await,
                Served::Bullet => self.bullet(found, request).await,
                Served::Stream => self.stream(found, request).await,
                Served::Posts => self.posts(found, request).await,
            },
        }
    }

    /// The mount that serves a path.
    fn find(&self, path: &str) -> Option<Found> {
        let mut is_others = false;
        for (number, (mount_path, mount)) in self.gate().mounts().iter().enumerate() {
            let Some((rest, mut params)) = mount_path.matches(path) else { continue };
            if mount.dialect.takes_any_path() && is_others {
                continue;
            }
            is_others = true;
            if let Some((served, dialect)) = mount.dialect.route(mount, &rest, &mut params) {
                return Some(Found { number: number as u16, mount: mount.clone(), params, served, dialect });
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
