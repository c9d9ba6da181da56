//! The body of an answer: whole, or a stream of messages.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fanfare_proto::bullet::{self, Positions};
use fanfare_proto::sse;
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use tokio::sync::oneshot;

use crate::close_reason::CloseReason;
use crate::command::{Command, Polled};
use crate::transport::longpoll::SessionHandle;

/// The body of every answer.
pub struct Body(Kind);

enum Kind {
    Whole(Full<Bytes>),
    Stream(Stream),
}

impl Body {
    /// What a session has for its client, behind a first message of its own, if there is one.
    pub(crate) fn stream(session: SessionHandle, framing: Framing, first: Option<Vec<u8>>) -> Self {
        let mut beginning = framing.beginning().to_vec();
        if let Some(first) = first {
            framing.write(&first, &mut beginning);
        }
        Body(Kind::Stream(Stream::new(session, framing, Positions::default(), beginning)))
    }

    /// Events of several topics, whose ids say where the client stands in all of them.
    pub(crate) fn events(session: SessionHandle, positions: Positions) -> Self {
        let beginning = Framing::Data.beginning().to_vec();
        Body(Kind::Stream(Stream::new(session, Framing::Data, positions, beginning)))
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
            Kind::Stream(stream) => stream.poll_next(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(whole) => whole.is_end_stream(),
            Kind::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(whole) => whole.size_hint(),
            Kind::Stream(_) => SizeHint::default(),
        }
    }
}

/// How messages stand in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Whole events of several topics, which are given their ids here.
    Data,
    /// Whole events.
    Events,
    /// One JSON text a line.
    Lines,
}

impl Framing {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Framing::Data | Framing::Events => "text/event-stream",
            Framing::Lines => "application/x-ndjson",
        }
    }

    fn beginning(self) -> Bytes {
        match self {
            Framing::Data | Framing::Lines => Bytes::from_static(self.heartbeat()),
            Framing::Events => retry(None),
        }
    }

    fn heartbeat(self) -> &'static [u8] {
        match self {
            Framing::Data | Framing::Events => sse::HEARTBEAT,
            Framing::Lines => b"\n",
        }
    }

    fn write(self, message: &[u8], out: &mut Vec<u8>) {
        match self {
            Framing::Data | Framing::Events => out.extend_from_slice(message),
            Framing::Lines => {
                out.extend_from_slice(message);
                out.push(b'\n');
            }
        }
    }
}

/// A client of server-sent events that was cut off waits for so long, and up to so much longer.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_SPREAD_MS: u64 = 2_000;

/// Tells a client of server-sent events how long to wait when it is cut off. Those that are at the same moment come
/// back at different ones.
pub(crate) fn retry(after: Option<Duration>) -> Bytes {
    let spread_ms = getrandom::u32().map_or(0, |random| u64::from(random) % RETRY_SPREAD_MS);
    let after_ms = after.unwrap_or(RETRY).as_millis() + u128::from(spread_ms);
    format!("retry: {after_ms}\n\n").into()
}

/// Polls a session for as long as the client takes what it gives. The server asks for more only once the client has
/// taken what was there, so that a slow reader's messages wait in its session, within its bounds.
struct Stream {
    session: SessionHandle,
    framing: Framing,
    /// Where the client stands, with [`Framing::Data`].
    positions: Positions,
    polled: Option<oneshot::Receiver<Polled>>,
    beginning: Option<Bytes>,
}

impl Stream {
    fn new(session: SessionHandle, framing: Framing, positions: Positions, beginning: Vec<u8>) -> Self {
        Stream { session, framing, positions, polled: None, beginning: Some(beginning.into()) }
    }

    fn write(&mut self, message: &[u8], out: &mut Vec<u8>) {
        match self.framing {
            Framing::Data => bullet::write_event(message, &mut self.positions, out),
            framing => framing.write(message, out),
        }
    }

    /// `None` at the end of the session.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(beginning) = self.beginning.take() {
            // The head goes out with it, and a proxy sees that something comes.
            return Poll::Ready(Some(beginning));
        }
        let polled = self.polled.get_or_insert_with(|| self.session.poll());
        let answer = std::task::ready!(Pin::new(polled).poll(cx));
        self.polled = None;
        Poll::Ready(match answer {
            Ok(Polled::Messages(messages, _)) => {
                let mut out = Vec::with_capacity(messages.iter().map(|message| message.len() + 8).sum());
                for message in messages {
                    self.write(&message, &mut out);
                }
                Some(out.into())
            }
            Ok(Polled::Nothing) => Some(Bytes::from_static(self.framing.heartbeat())),
            // A stream's client is told of what it lost by the end of the stream.
            Ok(Polled::Gone | Polled::Lost(_)) | Err(_) => None,
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let SessionHandle { shard, socket, .. } = &self.session;
        shard.send(Command::Close { socket: *socket, reason: CloseReason::Lost });
    }
}
