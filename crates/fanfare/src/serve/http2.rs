//! HTTP/2 on one connection, for clients that ask for it by ALPN: requests side by side, and WebSockets among them (RFC 8441).
//!
//! A shard knows descriptors, and a socket here is a stream within a connection that the library owns: a task copies between
//! the stream and a pair of sockets, of which the shard has one end. So what holds for slow readers, bounds and ends holds
//! here as well; a delivery costs a wake-up and two copies more.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::{First, Served};
use super::heads::HEAD_SIZE_MAX;
use crate::address::Full;
use crate::body::Body;

/// What ALPN calls it.
pub(super) const NAME: &[u8] = b"h2";

/// So many requests and sockets of a connection at a time.
const STREAMS_MAX: u32 = 100;

/// What a client may send on one stream, and on all together, before it was read, in bytes.
const STREAM_WINDOW: u32 = 65_535;
const CONNECTION_WINDOW: u32 = 262_144;

/// What the library keeps of what is written to one stream, in bytes.
const SEND_BUFFER_MAX: usize = 65_536;

impl<S> Served<S> {
    /// Serves all requests of a connection. Where there is no place for it, each is told so.
    pub(super) async fn run_http2<IO, B>(self, stream: IO, first: First, timeout: Duration, full: Option<Full>)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + Sync + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let (served, requests) = (Arc::new(self), Arc::new(AtomicUsize::new(0)));
        let (serves, counts, first) = (served.clone(), requests.clone(), Mutex::new((first.arriving, first.handshake)));
        let service = service_fn(move |request: Request<Incoming>| {
            let number = counts.fetch_add(1, Ordering::Relaxed);
            let (served, (_, handshake)) = (serves.clone(), std::mem::take(&mut *first.lock()));
            async move {
                let _until_answered = handshake;
                Ok::<_, Infallible>(served.answer_stream(request, number, full).await)
            }
        });
        let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .enable_connect_protocol()
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEAD_SIZE_MAX as u32)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let mut serving = pin!(serving);
        let mut stopped = served.shared.stopped.clone();
        let is_idle = async {
            let mut before = 0;
            loop {
                tokio::time::sleep(timeout).await;
                let now = requests.load(Ordering::Relaxed);
                if now == before && !served.is_in_use() {
                    break;
                }
                before = now;
            }
        };
        tokio::select! {
            result = &mut serving => {
                if let Err(error) = result && requests.load(Ordering::Relaxed) == 0 {
                    served.ended_unasked(full, format_args!("an HTTP/2 connection ended with an error: {error}"));
                }
            }
            () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => {
                serving.as_mut().graceful_shutdown();
                // Its requests and sockets end with their answers, or by the drain.
                let _ = serving.await;
            }
            () = is_idle => {
                if requests.load(Ordering::Relaxed) == 0 {
                    let detail = format_args!("no whole head came within {timeout:?} (handshake_timeout)");
                    served.ended_unasked(full, detail);
                }
                serving.as_mut().graceful_shutdown();
                // Who does not answer that is let go.
                let _ = tokio::time::timeout(timeout, serving).await;
            }
        }
    }

    /// Whether somebody beside the connection itself has its place: a request that is not answered, a socket, a stream of messages.
    fn is_in_use(&self) -> bool {
        self.connection.slot.as_ref().is_some_and(|slot| Arc::strong_count(slot) > 1)
    }

    async fn answer_stream<B>(
        &self,
        request: Request<Incoming>,
        number: usize,
        full: Option<Full>,
    ) -> Response<Either<B, Body>>
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    {
        let (mut parts, body) = request.into_parts();
        // Whoever looks at requests finds the host where it always is.
        if let Some(authority) = parts.uri.authority()
            && !parts.headers.contains_key(HOST)
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            parts.headers.insert(HOST, host);
        }
        let is_socket = parts.method == Method::CONNECT;
        let judged = self.judge(parts, number, false, full).and_then(|(mut parts, connection)| {
            if is_socket {
                match self.shared.door.beside(connection.clone()) {
                    Ok(placed) => drop(parts.extensions.insert(placed)),
                    Err(full) => {
                        return Err(Box::new(self.shared.endpoint.turn_away(&Arc::new(parts), &connection, full)));
                    }
                }
            }
            Ok(parts)
        });
        match judged {
            Ok(parts) => {
                let Ok(response) = self.shared.service.call(Request::from_parts(parts, body)).await;
                response.map(Either::Left)
            }
            Err(answer) => (*answer).map(Either::Right),
        }
    }
}
