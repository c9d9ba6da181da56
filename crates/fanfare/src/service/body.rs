//! The body of an answer: whole, or a stream of server-sent events.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use fanfare_proto::sse;
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use tokio::sync::oneshot;

use crate::command::{Command, Polled};
use crate::socket::CloseReason;
use crate::transport::longpoll::SessionHandle;

/// The body of every answer.
pub struct Body(Kind);

enum Kind {
    Whole(Full<Bytes>),
    Events(Events),
}

impl Body {
    pub(super) fn events(session: SessionHandle) -> Self {
        Body(Kind::Events(Events { session, polled: None, has_begun: false }))
    }
}

impl Default for Body {
    /// Empty.
    fn default() -> Self {
        Body(Kind::Whole(Full::default()))
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Body(Kind::Whole(Full::new(bytes.into())))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body")
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.get_mut().0 {
            Kind::Whole(whole) => Pin::new(whole).poll_frame(cx),
            Kind::Events(events) => events.poll_next(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(whole) => whole.is_end_stream(),
            Kind::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(whole) => whole.size_hint(),
            Kind::Events(_) => SizeHint::default(),
        }
    }
}

/// Polls a session for as long as the client takes what it gives. The server asks for more only once the client has taken
/// what was there, so that a slow reader's messages wait in its session, within its bounds.
struct Events {
    session: SessionHandle,
    polled: Option<oneshot::Receiver<Polled>>,
    has_begun: bool,
}

impl Events {
    /// `None` at the end of the session.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if !std::mem::replace(&mut self.has_begun, true) {
            // The head goes out with it, and a proxy sees that something comes.
            return Poll::Ready(Some(Bytes::from_static(sse::HEARTBEAT)));
        }
        let polled = self.polled.get_or_insert_with(|| self.session.poll());
        let answer = std::task::ready!(Pin::new(polled).poll(cx));
        self.polled = None;
        Poll::Ready(match answer {
            Ok(Polled::Messages(messages)) => {
                let mut out = Vec::with_capacity(messages.iter().map(|message| message.len() + 8).sum());
                for message in messages {
                    // What is queued for a carrier of texts is a text.
                    sse::data(std::str::from_utf8(&message).unwrap_or_default(), &mut out);
                }
                Some(out.into())
            }
            Ok(Polled::Nothing) => Some(Bytes::from_static(sse::HEARTBEAT)),
            Ok(Polled::Gone) | Err(_) => None,
        })
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let SessionHandle { shard, socket, .. } = &self.session;
        shard.send(Command::Close { socket: *socket, reason: CloseReason::Lost });
    }
}
