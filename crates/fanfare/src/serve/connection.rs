//! HTTP on one connection: what the library reads is checked once more before anybody else sees it.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderValue, Request, Response, Version};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;

use super::door::Door;
use super::heads::{self, HEAD_SIZE_MAX, HEADERS_MAX};
use super::pause::Arriving;
use crate::address::{Full, Place};
use crate::body::Body;
use crate::endpoint::Endpoint;
use crate::service::{Connection, Upgrading};
use crate::transport::handover::Handover;
use crate::transport::stream::IntoStream;
use crate::transport::watched::Watched;

/// What is said of a request with both.
const TWO_LENGTHS: &str = "the request has a Content-Length beside a Transfer-Encoding";

/// What all connections of a server share.
pub(super) struct Shared<S> {
    pub(super) service: S,
    pub(super) endpoint: Endpoint,
    pub(super) door: Door,
    pub(super) handshake_timeout: Duration,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<tokio_rustls::TlsAcceptor>,
    /// Whether the server ends. It waits until nobody has this any more.
    pub(super) stopped: watch::Receiver<bool>,
}

/// A connection and what serves it.
pub(super) struct Served<S> {
    pub(super) shared: Arc<Shared<S>>,
    pub(super) connection: Connection,
}

/// What is known of a connection's first request.
#[derive(Default)]
pub(super) struct First {
    /// What was read of it.
    pub(super) bytes: Bytes,
    /// Its head must have come by then.
    pub(super) deadline: Option<Instant>,
    /// Its answer has been begun.
    pub(super) begun: Option<Begun>,
    /// Until it has come.
    pub(super) arriving: Option<Arriving>,
    /// The place of the connection among those that have not asked for anything yet, until the answer.
    pub(super) handshake: Option<Place>,
}

/// The answer to a request to upgrade on its way.
pub(super) type Begun = Pin<Box<dyn Future<Output = Result<Upgrading, Response<Body>>> + Send>>;

impl<S> Clone for Served<S> {
    fn clone(&self) -> Self {
        Served { shared: self.shared.clone(), connection: self.connection.clone() }
    }
}

impl<S> Served<S> {
    /// Serves all requests of a connection. Where there is no place for it, each is told so.
    pub(super) async fn run<IO, B>(self, stream: IO, first: First, head_timeout: Duration, full: Option<Full>)
    where
        IO: AsyncRead + AsyncWrite + IntoStream + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + Sync + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let handover = Handover::default();
        let First { bytes, deadline, begun, arriving, handshake } = first;
        let (stream, seen) = Watched::new(stream, bytes, handover.clone());
        let (served, requests) = (Arc::new(self), Arc::new(AtomicUsize::new(0)));
        let (asks, first) = (handover.clone(), Mutex::new((begun, arriving, handshake)));
        let (serves, counts, head) = (served.clone(), requests.clone(), seen.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(asks.clone());
            let number = counts.fetch_add(1, Ordering::Relaxed);
            let has_two_lengths = head.is_ambiguous(number);
            let (served, (begun, _, handshake)) = (serves.clone(), std::mem::take(&mut *first.lock()));
            async move {
                let _until_answered = handshake;
                Ok::<_, Infallible>(match begun {
                    Some(begun) => served.go_on(request, begun).await.map(Either::Right),
                    None => served.answer(request, number, has_two_lengths, full).await,
                })
            }
        });
        let serving = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head_timeout)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_SIZE_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut serving = pin!(serving);
        let mut stopped = served.shared.stopped.clone();
        let served_all = async {
            tokio::select! {
                result = &mut serving => return result,
                () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => {}
            }
            serving.as_mut().graceful_shutdown();
            serving.await
        };
        let is_late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => pending().await,
            }
            if requests.load(Ordering::Relaxed) > 0 {
                pending().await
            }
        };
        tokio::select! {
            // A client that keeps its connection for later, or goes while it waits for an answer, has no request that is refused.
            result = served_all => if let Err(error) = result && !seen.is_between_requests() {
                let is_unasked = requests.load(Ordering::Relaxed) == 0;
                match error.is_parse_too_large() {
                    _ if is_unasked && full.is_some() => served.ended_unasked(full, format_args!("{error}")),
                    true => served.tell(&format_args!(
                        "the head of a request has more than {HEAD_SIZE_MAX} bytes or {HEADERS_MAX} headers, which is fixed: send fewer or \
                         shorter headers, such as cookies"
                    )),
                    false => served.tell(&error),
                }
            },
            // A shard has the connection.
            () = handover.is_done() => {}
            () = is_late => if !seen.is_between_requests() {
                let timeout = served.shared.handshake_timeout;
                served.tell(&format!("no whole head came within {timeout:?} (handshake_timeout)"));
            }
        }
    }

    /// Counts and logs a connection that ends without a request that could be served.
    pub(super) fn tell(&self, error: &dyn fmt::Display) {
        let detail = format_args!("an HTTP connection ended with an error: {error}");
        self.shared.endpoint.tell_of_request(self.connection.peer, detail);
    }

    /// The same of one that has not asked for anything. Where there was no place for it, that is what is told.
    pub(super) fn ended_unasked(&self, full: Option<Full>, detail: fmt::Arguments<'_>) {
        let (endpoint, peer) = (&self.shared.endpoint, self.connection.peer);
        match full {
            Some(full) => endpoint.tell_of_full(peer, full),
            None => endpoint.tell_of_request(peer, detail),
        }
    }

    async fn answer<B>(
        &self,
        request: Request<Incoming>,
        number: usize,
        has_two_lengths: bool,
        full: Option<Full>,
    ) -> Response<Either<B, Body>>
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    {
        let (parts, body) = request.into_parts();
        match self.judge(parts, number, has_two_lengths, full) {
            Ok((parts, _)) => {
                let Ok(response) = self.shared.service.call(Request::from_parts(parts, body)).await;
                response.map(Either::Left)
            }
            Err(answer) => (*answer).map(Either::Right),
        }
    }

    /// A request, the connection's first one or a later one, with the connection of its client, if it says one thing and there is a place for it.
    ///
    /// # Errors
    /// What is answered instead.
    pub(super) fn judge(
        &self,
        mut parts: Parts,
        number: usize,
        has_two_lengths: bool,
        full: Option<Full>,
    ) -> Result<(Parts, Connection), Box<Response<Body>>> {
        let Shared { endpoint, door, .. } = &*self.shared;
        let mut connection = self.connection.clone().told(&door.proxies, &parts.headers, endpoint);
        if number > 0 {
            connection.began = std::time::Instant::now();
        }
        let version = parts.version;
        let fault = heads::fault(&parts.uri, version, &parts.headers);
        let fault = fault.or(has_two_lengths.then_some(TWO_LENGTHS));
        let mut answer = match (fault, full) {
            (Some(fault), _) => endpoint.turn_away_malformed(&connection, fault),
            (None, Some(full)) => endpoint.turn_away(&Arc::new(parts), &connection, full),
            (None, None) => match door.placed(connection.clone()) {
                Ok(placed) => {
                    parts.extensions.insert(placed.clone());
                    return Ok((parts, placed));
                }
                Err(full) => endpoint.turn_away(&Arc::new(parts), &connection, full),
            },
        };
        if version < Version::HTTP_2 {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Err(Box::new(answer))
    }

    /// The answer to a request that somebody else has read and begun to answer.
    async fn go_on(&self, request: Request<Incoming>, begun: Begun) -> Response<Body> {
        match begun.await {
            Ok(upgrading) => self.shared.endpoint.upgrade(upgrading, request, &self.connection).await,
            Err(answer) => answer,
        }
    }
}
