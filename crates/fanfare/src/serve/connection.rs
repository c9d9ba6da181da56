//! HTTP on one connection: what the library reads is checked once more before anybody else sees it.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::door::Door;
use super::heads;
use crate::body::Body;
use crate::endpoint::Endpoint;
use crate::service::{Connection, Full};
use crate::transport::handover::Handover;
use crate::transport::stream::IntoStream;
use crate::transport::watched::Watched;

/// A request's head has at most this many bytes.
const HEAD_SIZE_MAX: usize = 16 * 1024;

/// A request has at most this many headers.
const HEADERS_MAX: usize = 100;

/// What is said of a request with both.
const TWO_LENGTHS: &str = "the request has a Content-Length beside a Transfer-Encoding";

/// What serves a connection.
pub(super) struct Served<S> {
    pub(super) service: S,
    pub(super) endpoint: Endpoint,
    pub(super) connection: Connection,
    pub(super) door: Arc<Door>,
}

impl<S> Served<S> {
    /// Serves all requests of a connection. Where there is no place for it, each is told so.
    pub(super) async fn run<IO, B>(
        self,
        stream: IO,
        head_timeout: Duration,
        full: Option<Full>,
        mut stopped: watch::Receiver<bool>,
    ) where
        IO: AsyncRead + AsyncWrite + IntoStream + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + Sync + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let handover = Handover::default();
        let (stream, first_ambiguous) = Watched::new(stream, handover.clone());
        let (endpoint, peer) = (self.endpoint.clone(), self.connection.peer);
        let (served, requests) = (Arc::new(self), AtomicUsize::new(0));
        let asks = handover.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(asks.clone());
            let number = requests.fetch_add(1, Ordering::Relaxed);
            let has_two_lengths = first_ambiguous.is_reached_by(number);
            let served = served.clone();
            async move { Ok::<_, Infallible>(served.answer(request, has_two_lengths, full).await) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head_timeout)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_SIZE_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut served = pin!(served);
        let serving = async {
            tokio::select! {
                result = &mut served => return result,
                () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => {}
            }
            served.as_mut().graceful_shutdown();
            served.await
        };
        let result = tokio::select! {
            result = serving => result,
            // A shard has the connection.
            () = handover.is_done() => return,
        };
        if let Err(error) = result {
            endpoint.tell_of_request(peer, format_args!("an HTTP connection ended with an error: {error}"));
        }
    }

    async fn answer<B>(
        &self,
        mut request: Request<Incoming>,
        has_two_lengths: bool,
        full: Option<Full>,
    ) -> Response<Either<B, Body>>
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    {
        let connection = self.connection.clone().told(&self.door.proxies, request.headers(), &self.endpoint);
        let fault = heads::fault(request.uri(), request.version(), request.headers());
        let fault = fault.or(has_two_lengths.then_some(TWO_LENGTHS));
        let answer = match (fault, full) {
            (Some(fault), _) => self.endpoint.turn_away_malformed(&connection, fault),
            (None, Some(full)) => self.turn_away(request, &connection, full),
            (None, None) => match self.door.placed(connection.clone()) {
                Some(placed) => {
                    request.extensions_mut().insert(placed);
                    let Ok(response) = self.service.call(request).await;
                    return response.map(Either::Left);
                }
                None => self.turn_away(request, &connection, Full::Address),
            },
        };
        let mut answer = answer.map(Either::Right);
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        answer
    }

    fn turn_away(&self, request: Request<Incoming>, connection: &Connection, full: Full) -> Response<Body> {
        let (parts, _) = request.into_parts();
        self.endpoint.turn_away(&Arc::new(parts), connection, full)
    }
}
