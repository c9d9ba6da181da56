//! An HTTP server of our own for an endpoint or an axum application: bounded heads, handshakes and connections, and TLS.
//!
//! `axum::serve` works as well; this one adds the limits that a server on the open internet needs.

mod connection;
mod heads;

use std::convert::Infallible;
use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::address::{AddressCounts, ConnectionSlot};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::event;
use crate::service::{Connection, Full};
use connection::Served;

/// A storm of reconnecting clients waits in the kernel rather than being refused.
const BACKLOG: i32 = 16_384;

/// When the system gives no connection it is asked again after so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// So many connections that there is no place for are told so at a time, in the way that they understand. Others that come at
/// that moment are closed with a plain 503.
const TURNED_AWAY_MAX: usize = 64;

/// One of those has so long to say what it wants.
const TURNED_AWAY_TIMEOUT: Duration = Duration::from_secs(1);

/// What a server admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; above it new ones are answered 503. Default 1,000,000.
    pub connections_max: usize,
    /// The same per client address, answered 429. Default 100,000, since many clients may share one.
    pub connections_per_address_max: usize,
    /// A client has so long for a request's whole head, and so long again for a TLS handshake. Default 10 s.
    pub handshake_timeout: Duration,
    /// A connection is given up when the client's system has acknowledged nothing for so long of what was sent to it, and not
    /// the system's own probes either: the client has vanished, without a word. Nor does a client that takes nothing acknowledge anything;
    /// keep it above the mounts' [`write_timeout`](crate::Mount::write_timeout). Default 45 s.
    pub vanished_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: 1_000_000,
            connections_per_address_max: 100_000,
            handshake_timeout: Duration::from_secs(10),
            vanished_timeout: Duration::from_secs(45),
        }
    }
}

/// A listening server.
pub struct Server {
    listener: TcpListener,
    limits: Limits,
    #[cfg(feature = "tls")]
    tls: Option<tokio_rustls::TlsAcceptor>,
}

/// The connections that a server had when it stopped accepting.
#[derive(Debug)]
pub struct Closing(watch::Sender<bool>);

impl Closing {
    /// Waits until all have ended, or for `limit`.
    pub async fn finish(self, limit: Duration) {
        // Too late is not an error: what is left ends with the process.
        let _ = tokio::time::timeout(limit, self.0.closed()).await;
    }
}

impl Server {
    /// Listens on an address; port 0 takes a free one.
    ///
    /// # Errors
    /// The address is in use, or not one of this machine.
    pub async fn bind(address: SocketAddr) -> Result<Self, Error> {
        let limits = Limits::default();
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None);
        let bound = socket.and_then(|socket| {
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            TcpListener::from_std(socket.into())
        });
        let listener = bound.map_err(|error| {
            Error::invalid(format!("cannot listen on {address}: {error}; {}", what_helps(address, error.kind())))
        })?;
        let server = Server {
            listener,
            limits,
            #[cfg(feature = "tls")]
            tls: None,
        };
        Ok(server.limits(limits))
    }

    /// Changes the limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        // Connections have it from their listener. A system that refuses it has its own, longer time.
        let _ = give_up_after(&self.listener, limits.vanished_timeout);
        self
    }

    /// Speaks TLS.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: Arc<rustls::ServerConfig>) -> Self {
        self.tls = Some(config.into());
        self
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        self.listener.local_addr().map_err(|error| Error::io("the listener has no address", error))
    }

    /// Serves an axum application until `shutdown` is done, then stops accepting. Drain the endpoint after that, so that
    /// sockets and waiting polls end, and then [`finish`](Closing::finish).
    #[cfg(feature = "axum")]
    pub async fn serve_app(
        self,
        app: axum::Router,
        endpoint: &Endpoint,
        shutdown: impl Future<Output = ()>,
    ) -> Closing {
        self.serve(hyper_util::service::TowerToHyperService::new(app), endpoint, shutdown).await
    }

    /// The same for any hyper service, an [`Endpoint`] itself among them.
    pub async fn serve<S, B>(self, service: S, endpoint: &Endpoint, shutdown: impl Future<Output = ()>) -> Closing
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let (stop, stopped) = watch::channel(false);
        let door = Door::new(&self.limits);
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = &mut shutdown => break,
            };
            let (tcp, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, or a client that went away: neither ends the server.
                    event::not_accepted(&error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let mut connection = Connection { peer, is_secure: self.is_secure(), slot: None };
            let refused = match door.enter(peer) {
                Entered::Let(slot) => {
                    connection.slot = Some(Arc::new(slot));
                    None
                }
                Entered::TurnedAway(full, Some(place)) => Some((full, place)),
                Entered::TurnedAway(full, None) => {
                    endpoint.tell_of_full(peer, full);
                    turn_away(&tcp, full);
                    continue;
                }
            };
            let served = Served { service: service.clone(), endpoint: endpoint.clone(), connection };
            let (stopped, timeout) = (stopped.clone(), self.limits.handshake_timeout);
            #[cfg(feature = "tls")]
            let tls = self.tls.clone();
            tokio::spawn(async move {
                let timeout = match &refused {
                    None => timeout,
                    Some((full, _)) => {
                        // One that says nothing is told all the same.
                        if tokio::time::timeout(TURNED_AWAY_TIMEOUT, tcp.peek(&mut [0])).await.is_err() {
                            served.endpoint.tell_of_full(peer, *full);
                            return turn_away(&tcp, *full);
                        }
                        TURNED_AWAY_TIMEOUT
                    }
                };
                let full = refused.as_ref().map(|(full, _)| *full);
                #[cfg(feature = "tls")]
                if let Some(tls) = tls {
                    match tokio::time::timeout(timeout, tls.accept(tcp)).await {
                        Ok(Ok(stream)) => served.run(stream, timeout, full, stopped).await,
                        Ok(Err(error)) => {
                            served.endpoint.tell_of_request(peer, format_args!("the TLS handshake failed: {error}"));
                        }
                        Err(_) => {
                            let detail =
                                format_args!("the TLS handshake took longer than {timeout:?} (handshake_timeout)");
                            served.endpoint.tell_of_request(peer, detail);
                        }
                    }
                    return;
                }
                served.run::<TcpStream, _>(tcp, timeout, full, stopped).await;
            });
        }
        // Idle connections end now, busy ones with their answer.
        stop.send_replace(true);
        drop(stopped);
        Closing(stop)
    }

    fn is_secure(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        return false;
    }
}

/// Who may come in, and who is told that there is no place.
struct Door {
    places: Arc<Semaphore>,
    addresses: Arc<AddressCounts>,
    turned_away: Arc<Semaphore>,
}

enum Entered {
    Let(ConnectionSlot),
    /// With a place among those that are told why, if there is one.
    TurnedAway(Full, Option<OwnedSemaphorePermit>),
}

impl Door {
    fn new(limits: &Limits) -> Self {
        // A server of few connections may have few descriptors.
        let turned_away = (limits.connections_max / 8).clamp(1, TURNED_AWAY_MAX);
        Door {
            places: Arc::new(Semaphore::new(limits.connections_max.min(Semaphore::MAX_PERMITS))),
            addresses: AddressCounts::new(limits.connections_per_address_max),
            turned_away: Arc::new(Semaphore::new(turned_away)),
        }
    }

    fn enter(&self, peer: SocketAddr) -> Entered {
        let (place, slot) = (self.places.clone().try_acquire_owned().ok(), self.addresses.take(peer.ip()));
        let full = match (place, slot) {
            (Some(place), Some(slot)) => return Entered::Let(ConnectionSlot::new(place, slot)),
            (_, None) => Full::Address,
            (None, Some(_)) => Full::Server,
        };
        Entered::TurnedAway(full, self.turned_away.clone().try_acquire_owned().ok())
    }
}

/// Answers without reading the request, so that a refusal costs next to nothing. A client that speaks TLS sees an error.
fn turn_away(tcp: &TcpStream, full: Full) {
    let answer: &[u8] = match full {
        Full::Server => {
            b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        }
        Full::Address => {
            b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        }
    };
    // The buffer of a new connection has room; if not, closing it says enough. (The runtime does not know yet that it has.)
    let _ = SockRef::from(tcp).send(answer);
}

/// Lets the system find out that clients have vanished, of all connections of a listener.
fn give_up_after(listener: &TcpListener, timeout: Duration) -> std::io::Result<()> {
    let socket = SockRef::from(listener);
    // One that is sent nothing either is probed: after this time, and then every third of it.
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(timeout).with_interval((timeout / 3).max(Duration::from_secs(1))),
    )?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(timeout))?;
    Ok(())
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("listener", &self.listener).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// What to do about an address that cannot be listened on.
fn what_helps(address: SocketAddr, kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => "stop what uses it",
        io::ErrorKind::PermissionDenied if address.port() < 1_024 => {
            "give the process CAP_NET_BIND_SERVICE for ports below 1024"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: take one of its own, or 0.0.0.0 for all",
        _ => "see why the system refuses it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_have_the_timeouts_of_their_listener() {
        let limits = Limits { vanished_timeout: Duration::from_secs(7), ..Limits::default() };
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap().limits(limits);
        let _client = TcpStream::connect(server.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = server.listener.accept().await.unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), limits.vanished_timeout);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(limits.vanished_timeout));
    }
}
