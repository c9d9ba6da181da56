//! An HTTP server of our own for an endpoint or an axum application: bounded heads, handshakes and connections, and TLS.
//!
//! `axum::serve` works as well; this one adds the limits that a server on the open internet needs.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::address::{AddressCounts, ConnectionSlot};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::event::Event;
use crate::service::Connection;

/// A request's head has at most this many bytes.
const HEAD_SIZE_MAX: usize = 16 * 1024;

/// A request has at most this many headers.
const HEADERS_MAX: usize = 100;

/// What a server admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; above it new ones are answered 503. Default 1,000,000.
    pub connections_max: usize,
    /// The same per client address, answered 429. Default 100,000, since many clients may share one.
    pub connections_per_address_max: usize,
    /// A client has so long for a request's whole head, and so long again for a TLS handshake. Default 10 s.
    pub handshake_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: 1_000_000,
            connections_per_address_max: 100_000,
            handshake_timeout: Duration::from_secs(10),
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
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None);
        let bound = socket.and_then(|socket| {
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            // A storm of reconnecting clients waits in the kernel rather than being refused.
            socket.listen(16_384)?;
            TcpListener::from_std(socket.into())
        });
        let listener = bound.map_err(|error| Error::invalid(format!("cannot listen on {address}: {error}")))?;
        Ok(Server {
            listener,
            limits: Limits::default(),
            #[cfg(feature = "tls")]
            tls: None,
        })
    }

    /// Changes the limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
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
        let places = Arc::new(Semaphore::new(self.limits.connections_max.min(Semaphore::MAX_PERMITS)));
        let addresses = AddressCounts::new(self.limits.connections_per_address_max);
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
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (place, slot) = (places.clone().try_acquire_owned().ok(), addresses.take(peer.ip()));
            let from_address_full = slot.is_none();
            let (Some(place), Some(slot)) = (place, slot) else {
                endpoint.own_counters().count(Event::RejectedLimit);
                turn_away(&tcp, if from_address_full { TOO_MANY_FROM_ADDRESS } else { TOO_MANY });
                continue;
            };
            let slot = Arc::new(ConnectionSlot::new(place, slot));
            let connection = Connection { peer, is_secure: self.is_secure(), slot: Some(slot) };
            let (service, endpoint, stopped) = (service.clone(), endpoint.clone(), stopped.clone());
            #[cfg(feature = "tls")]
            let tls = self.tls.clone();
            let timeout = self.limits.handshake_timeout;
            tokio::spawn(async move {
                #[cfg(feature = "tls")]
                if let Some(tls) = tls {
                    match tokio::time::timeout(timeout, tls.accept(tcp)).await {
                        Ok(Ok(stream)) => {
                            serve_connection(stream, service, endpoint, connection, timeout, stopped).await
                        }
                        _ => endpoint.own_counters().count(Event::RejectedRequest),
                    }
                    return;
                }
                serve_connection::<TcpStream, _, _>(tcp, service, endpoint, connection, timeout, stopped).await;
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

const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const TOO_MANY_FROM_ADDRESS: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Answers without reading the request, so that a refusal costs next to nothing. A client that speaks TLS sees an error.
fn turn_away(tcp: &TcpStream, answer: &[u8]) {
    // The buffer of a new connection has room; if not, closing it says enough.
    let _ = tcp.try_write(answer);
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("listener", &self.listener).field("limits", &self.limits).finish_non_exhaustive()
    }
}

async fn serve_connection<IO, S, B>(
    stream: IO,
    service: S,
    endpoint: Endpoint,
    connection: Connection,
    head_timeout: Duration,
    mut stopped: watch::Receiver<bool>,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + Sync + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let peer = connection.peer;
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(connection.clone());
        service.call(request)
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_SIZE_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut served = pin!(served);
    let result = tokio::select! {
        result = &mut served => Some(result),
        () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => None,
    };
    let result = match result {
        Some(result) => result,
        None => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        endpoint.own_counters().count(Event::RejectedRequest);
        tracing::debug!(%peer, %error, "an HTTP connection ended with an error");
    }
}
