//! An HTTP server of our own for an endpoint or an axum application: bounded heads, handshakes and connections, and TLS.
//!
//! `axum::serve` works as well; this one adds the limits that a server on the open internet needs.

mod admits;
mod arrival;
mod connection;
mod door;
mod guest;
mod heads;
#[cfg(feature = "tls")]
mod http2;
mod pause;

use std::convert::Infallible;
use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use mio::net::{TcpListener, TcpStream};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::address::Proxies;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::event;
use crate::mailbox::Command;
use crate::mailbox::newcomer::{Host, Newcomer};
use crate::service::Connection;
use arrival::tell_of_stranger;
use connection::{Served, Shared};
use door::{Door, Entered, slot};
use guest::Guest;
use pause::Arriving;

pub use admits::Admits;
pub use pause::Pause;

/// A storm of reconnecting clients waits in the kernel rather than being refused.
const BACKLOG: i32 = 16_384;

/// When the system gives no connection it is asked again after so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// So many connections are accepted before it is looked whether the server is to end.
const ACCEPTS_MAX: usize = 64;

/// What a server admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; above it new ones are answered 503, or ended where they speak TLS and there are many of them. Default
    /// 1,000,000.
    pub connections_max: usize,
    /// The same per client address, answered 429. Default 100,000, since many clients may share one.
    pub connections_per_address_max: usize,
    /// A client has so long for a request's whole head, and so long again for a TLS handshake. Default 10 s.
    pub handshake_timeout: Duration,
    /// How many connections there may be whose first request has not been answered. Others are closed with 503.
    pub handshakes_max: usize,
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
            handshakes_max: 10_000,
            vanished_timeout: Duration::from_secs(45),
        }
    }
}

/// A listening server.
pub struct Server {
    listener: AsyncFd<TcpListener>,
    name: &'static str,
    limits: Limits,
    admits: Admits,
    proxies: Proxies,
    upgrades_first: bool,
    pause: Pause,
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
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None);
        let bound = socket.and_then(|socket| {
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            Server::on(socket)
        });
        bound.map_err(|error| {
            Error::invalid(format!("cannot listen on {address}: {error}; {}", what_helps(address, error.kind())))
        })
    }

    /// Listens on what somebody else has opened: the service manager that has started this process, or the process before.
    ///
    /// # Errors
    /// It cannot be listened on.
    pub async fn from_listener(listener: std::net::TcpListener) -> Result<Self, Error> {
        Server::on(listener.into())
            .map_err(|error| Error::io("the listener that was given cannot be listened on", error))
    }

    fn on(socket: socket2::Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.listen(BACKLOG)?;
        // Connections have it from their listener.
        socket.set_tcp_nodelay(true)?;
        let limits = Limits::default();
        let server = Server {
            listener: watched(TcpListener::from_std(socket.into()))?,
            name: "clients",
            limits,
            admits: Admits::new(&limits),
            proxies: Proxies::default(),
            upgrades_first: false,
            pause: Pause::new(),
            #[cfg(feature = "tls")]
            tls: None,
        };
        Ok(server.limits(limits))
    }

    /// Changes the limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self.admits.replace(&limits);
        // Connections have it from their listener. A system that refuses it has its own, longer time.
        let _ = give_up_after(self.listener.get_ref(), limits.vanished_timeout);
        self
    }

    /// How many connections it admits, which can be changed while it runs.
    pub fn admits(&self) -> Admits {
        self.admits.clone()
    }

    /// The name of the listener in metrics and in the log. Default: `clients`.
    pub fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Which proxies stand in front, and what tells the addresses of their clients. Default: none does.
    pub fn proxies(mut self, proxies: Proxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// Lets the endpoint answer upgrades to WebSockets at its mounts itself, before the service sees them: for half the cost, since a
    /// shard reads the request and keeps the connection. Use it where nothing that the service does matters to upgrades: no layer
    /// around the endpoint's routes, no routes of its own below them.
    ///
    /// [`Connect::connect`](crate::Connect::connect) begins on the shard's thread then, as channels' callbacks do, and must not block; if
    /// it has to wait it moves to the runtime. All else goes to the service: other requests, those that come in pieces, and everything
    /// by TLS or behind the PROXY protocol.
    pub fn upgrades_first(mut self) -> Self {
        self.upgrades_first = true;
        self
    }

    /// Speaks TLS. Where the configuration has `h2` among its ALPN protocols, clients that choose it are served over HTTP/2: a connection
    /// has up to 100 requests at a time, WebSockets by extended CONNECT (RFC 8441) among them, each of which takes a place of
    /// [`Limits::connections_max`] of its own. A connection that carries nothing for [`Limits::handshake_timeout`] is ended.
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
        self.listener.get_ref().local_addr().map_err(|error| Error::io("the listener has no address", error))
    }

    /// The listener itself, to be given to another process.
    ///
    /// # Errors
    /// The system has no more descriptors.
    pub fn listener(&self) -> Result<std::net::TcpListener, Error> {
        let listener = self.listener.get_ref().as_fd().try_clone_to_owned();
        listener.map(Into::into).map_err(|error| Error::io("the listener cannot be duplicated", error))
    }

    /// What lets it accept nothing for a while.
    pub fn pause(&self) -> Pause {
        self.pause.clone()
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
        let (listener, is_secure) = (&self.listener, self.is_secure());
        let door = Door::new(self.name, self.admits, self.proxies, is_secure);
        endpoint.figures().listens(&door.figures);
        let upgrades_first = self.upgrades_first && !is_secure && !door.asks_for_header();
        let shared = Arc::new(Shared {
            service,
            endpoint: endpoint.clone(),
            door,
            handshake_timeout: self.limits.handshake_timeout,
            #[cfg(feature = "tls")]
            tls: self.tls,
            stopped,
        });
        let mut shutdown = pin!(shutdown);
        let pause = self.pause;
        let mut is_accepting = pause.is_accepting();
        loop {
            let accepts = *is_accepting.borrow_and_update();
            let readable = tokio::select! {
                readable = listener.readable(), if accepts => readable,
                _ = is_accepting.changed() => continue,
                () = &mut shutdown => break,
            };
            let accepted = readable.and_then(|mut readable| {
                let waiting = || readable.try_io(|listener| listener.get_ref().accept()).ok();
                take_waiting(waiting, |(tcp, peer)| {
                    shared.door.figures.accepted.fetch_add(1, Ordering::Relaxed);
                    let connection = Connection::new(peer, is_secure);
                    receive(Served { shared: shared.clone(), connection }, tcp, pause.arrives(), upgrades_first);
                })
            });
            if let Err(error) = accepted {
                // Out of descriptors, or a client that went away: neither ends the server.
                event::not_accepted(self.name, &error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        // Idle connections end now, busy ones with their answer.
        stop.send_replace(true);
        drop(shared);
        for shard in endpoint.shards() {
            shard.send_promptly(Command::DismissNewcomers);
        }
        Closing(stop)
    }

    fn is_secure(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        return false;
    }
}

/// Takes what waits, until nothing is left, something is wrong, or it is time to look at other things.
fn take_waiting<T>(mut waiting: impl FnMut() -> Option<io::Result<T>>, mut take: impl FnMut(T)) -> io::Result<()> {
    for _ in 0..ACCEPTS_MAX {
        let Some(next) = waiting() else { break };
        take(next?);
    }
    Ok(())
}

/// Takes a connection in that was accepted, or turns it away.
fn receive<S, B>(mut served: Served<S>, tcp: TcpStream, arriving: Arriving, upgrades_first: bool)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + Sync + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let Shared { endpoint, door, handshake_timeout, .. } = &*served.shared;
    let handshake = match door.handshake() {
        Ok(handshake) => handshake,
        Err(full) => {
            endpoint.tell_of_full(served.connection.peer, full);
            return door.close(&tcp, full);
        }
    };
    let entered = match door.enter(served.connection.peer) {
        Entered::Stranger => {
            let detail = format_args!("connections begin with a PROXY header here, and this is no trusted proxy's");
            return tell_of_stranger(endpoint, &served.connection, detail);
        }
        Entered::Closed(full) => {
            endpoint.tell_of_full(served.connection.peer, full);
            return door.close(&tcp, full);
        }
        Entered::Let(place, of_address) if upgrades_first => {
            let (shard, deadline) = (endpoint.next_shard().clone(), Instant::now() + *handshake_timeout);
            served.connection.slot = Some(slot(place, of_address));
            let host: Box<dyn Host> = Box::new(Guest { served, deadline, arriving, handshake });
            let newcomer = Newcomer { stream: tcp, host };
            return shard.send_promptly(Command::Welcome(newcomer));
        }
        entered => entered,
    };
    tokio::spawn(async move {
        match tokio::net::TcpStream::from_std(tcp.into()) {
            Ok(tcp) => served.receive(tcp, entered, arriving, handshake).await,
            Err(error) => served.tell(&error),
        }
    });
}

/// A listener whose readiness the runtime tells. The runtime's own would register each connection that it accepts.
#[allow(
    deprecated,
    reason = "what replaces it is unsafe, for the sake of types that do not own what they name; a listener does"
)]
fn watched(listener: TcpListener) -> io::Result<AsyncFd<TcpListener>> {
    AsyncFd::with_interest(listener, Interest::READABLE)
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
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn connections_have_the_options_of_their_listener() {
        let limits = Limits { vanished_timeout: Duration::from_secs(7), ..Limits::default() };
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap().limits(limits);
        let _client = TcpStream::connect(server.local_addr().unwrap()).await.unwrap();
        let mut readable = server.listener.readable().await.unwrap();
        let (accepted, _) = readable.try_io(|listener| listener.get_ref().accept()).unwrap().unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), limits.vanished_timeout);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(limits.vanished_timeout));
    }

    #[test]
    fn as_many_are_accepted_as_wait() {
        let accept = |waiting: Vec<Option<io::Result<u8>>>| {
            let mut asked = 0;
            let mut waiting = waiting.into_iter().inspect(|_| asked += 1);
            let mut taken = 0;
            let outcome = take_waiting(|| waiting.next().unwrap(), |_| taken += 1);
            drop(waiting);
            (asked, taken, outcome.is_ok())
        };
        let nobody = || None;
        let one = || Some(Ok(1));
        assert_eq!(accept(vec![one(), one(), nobody(), one()]), (3, 2, true), "the system is not asked again");
        assert_eq!(accept(vec![one(), Some(Err(io::ErrorKind::ConnectionAborted.into())), one()]), (2, 1, false));
        assert_eq!(accept((0..=ACCEPTS_MAX).map(|_| one()).collect()), (ACCEPTS_MAX, ACCEPTS_MAX, true));
    }
}
