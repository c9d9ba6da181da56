//! A connection whose first request a shard reads: a plain upgrade is answered there, anything else goes on with the HTTP library, which
//! is given what was read.
//!
//! The rules are those of every other request, and so is their code: this decides only who carries them out.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::future::ready;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use mio::net::TcpStream;
use tokio::time::Instant;

use super::connection::{Begun, First, Served};
use super::heads;
use super::pause::Arriving;
use crate::address::Place;
use crate::guard::panic_message;
use crate::mailbox::ShardHandle;
use crate::mailbox::newcomer::{Heard, Host, Upgraded};
use crate::service::{Found, Upgrading};

/// A connection that has a place.
pub(super) struct Guest<S> {
    pub(super) served: Served<S>,
    /// The head of the first request must have come by then.
    pub(super) deadline: Instant,
    pub(super) arriving: Arriving,
    pub(super) handshake: Place,
}

impl<S, B> Host for Guest<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + Sync + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    fn hear(self: Box<Self>, first: &[u8], shard: &ShardHandle) -> Heard {
        let bytes = Bytes::copy_from_slice(first);
        let asked = heads::upgrade(&bytes).and_then(|(parts, head_size)| {
            let found = self.served.shared.endpoint.upgrades_at(parts.uri.path())?;
            Some((found, parts, head_size))
        });
        let Some((found, parts, head_size)) = asked else { return self.leave(bytes, None) };
        let mut begun = self.served.clone().begin(found, parts, shard.clone());
        // It ends here if nothing has to be waited for. Otherwise the library polls it again, soon.
        let mut context = Context::from_waker(Waker::noop());
        match catch_unwind(AssertUnwindSafe(|| begun.as_mut().poll(&mut context))) {
            Ok(Poll::Ready(Ok(Upgrading { socket, window_bits, answer }))) => {
                let answer = answer.into_head();
                Heard::Upgraded(Box::new(Upgraded { admitted: socket, window_bits, answer, head_size }))
            }
            Ok(Poll::Ready(Err(answer))) => self.leave(bytes, Some(Box::pin(ready(Err(answer))))),
            Ok(Poll::Pending) => self.leave(bytes, Some(begun)),
            Err(panic) => {
                tracing::error!(panic = panic_message(&*panic), "a request ended with a panic");
                Heard::Other(Box::new(drop))
            }
        }
    }

    fn give_up(self: Box<Self>, stream: TcpStream) {
        (*self).go_on(stream, Bytes::new(), None);
    }

    fn lost(&self, error: &io::Error) {
        self.served.tell(error);
    }

    fn patience(&self) -> Duration {
        self.served.shared.handshake_timeout
    }

    fn is_ending(&self) -> bool {
        *self.served.shared.stopped.borrow()
    }
}

impl<S> Served<S> {
    /// Begins to answer a request to upgrade.
    fn begin(self, found: Found, parts: Parts, shard: ShardHandle) -> Begun
    where
        S: Send + Sync + 'static,
    {
        Box::pin(async move {
            let (parts, connection) = self.judge(parts, 0, false, None).map_err(|answer| *answer)?;
            self.shared.endpoint.let_in(found, parts, &connection, shard).await
        })
    }
}

impl<S, B> Guest<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + Sync + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    fn leave(self, bytes: Bytes, begun: Option<Begun>) -> Heard {
        Heard::Other(Box::new(move |stream| self.go_on(stream, bytes, begun)))
    }

    /// Lets the library serve the connection.
    fn go_on(self, stream: TcpStream, bytes: Bytes, begun: Option<Begun>) {
        let Guest { served, deadline, arriving, handshake } = self;
        let first =
            First { bytes, deadline: Some(deadline), begun, arriving: Some(arriving), handshake: Some(handshake) };
        let runtime = served.shared.endpoint.runtime().clone();
        runtime.spawn(async move {
            let timeout = served.shared.handshake_timeout;
            match writable(stream).await {
                Ok(stream) => served.run(stream, first, timeout, None).await,
                Err(error) => served.tell(&error),
            }
        });
    }
}

/// The stream for the library, once the runtime knows that it can be written to: an answer behind which the library closes is lost
/// if it cannot be written at once.
async fn writable(stream: TcpStream) -> io::Result<tokio::net::TcpStream> {
    let stream = tokio::net::TcpStream::from_std(stream.into())?;
    stream.writable().await?;
    Ok(stream)
}
