//! The answer to a client that is sent messages: its shard writes them.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use fanfare_proto::chunked;
use fanfare_proto::sse;
use http_body::Frame;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::body::Body;
use crate::close_reason::CloseReason;
use crate::key::SocketKey;
use crate::mailbox::{Command, ShardHandle};
use crate::transport::handover::Handover;
use crate::transport::stream::Stream;

/// How messages stand in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Events, of several topics or of one.
    Events,
    /// One JSON text a line.
    Lines,
}

impl Framing {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Framing::Events => "text/event-stream",
            Framing::Lines => "application/x-ndjson",
        }
    }

    /// A sign of life.
    pub(crate) fn heartbeat(self) -> &'static [u8] {
        match self {
            Framing::Events => sse::HEARTBEAT,
            Framing::Lines => b"\n",
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

/// The answer to a client that is sent messages: its shard writes them, as soon as the beginning has left.
///
/// On a connection of our own server the shard writes to the connection itself, and nobody polls this any more. Elsewhere (another
/// server, HTTP/2, an application that changes its answers) the shard writes to one end of a pair, and this gives what comes out of the
/// other. The server asks for more only once the client has taken what was there, so that a slow reader's messages wait in its socket.
pub(crate) struct Streamed {
    shard: ShardHandle,
    socket: SocketKey,
    beginning: Bytes,
    way: Way,
}

enum Way {
    /// The head goes out with the beginning, and a proxy sees that something comes.
    Begins(Option<Handover>),
    /// The connection below can perhaps be had.
    Asks(Option<Handover>),
    Awaits(Handover, oneshot::Receiver<Option<Stream>>),
    /// The shard has it.
    IsHandedOver,
    /// What the shard writes is copied.
    Copies {
        from: UnixStream,
        unread: BytesMut,
    },
    Ended,
}

impl Streamed {
    /// The messages of a socket behind `beginning`.
    pub(crate) fn new(shard: ShardHandle, socket: SocketKey, beginning: Bytes, handover: Option<Handover>) -> Self {
        Streamed { shard, socket, beginning, way: Way::Begins(handover) }
    }

    /// Where the socket lives.
    pub(crate) fn socket(&self) -> (ShardHandle, SocketKey) {
        (self.shard.clone(), self.socket)
    }

    /// `None` at the end.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            match &mut self.way {
                Way::Begins(handover) => {
                    self.way = Way::Asks(handover.take());
                    return Poll::Ready(Some(self.beginning.clone()));
                }
                Way::Asks(Some(handover)) => {
                    let answer = handover.ask(&self.beginning);
                    self.way = Way::Awaits(handover.clone(), answer);
                }
                Way::Asks(None) => self.copy(),
                Way::Awaits(handover, answer) => match ready!(Pin::new(answer).poll(cx)) {
                    Ok(Some(stream)) => {
                        let handover = handover.clone();
                        self.way = Way::IsHandedOver;
                        self.connect(stream);
                        handover.done();
                    }
                    Ok(None) | Err(_) => self.copy(),
                },
                Way::IsHandedOver => return Poll::Pending,
                Way::Copies { from, unread } => match ready!(poll_copied(from, unread, cx)) {
                    Some(copied) => return Poll::Ready(Some(copied)),
                    None => self.way = Way::Ended,
                },
                Way::Ended => return Poll::Ready(None),
            }
        }
    }

    /// The shard writes to a pair, and what comes out of it is given.
    fn copy(&mut self) {
        let pair = || -> io::Result<_> {
            let (near, far) = std::os::unix::net::UnixStream::pair()?;
            near.set_nonblocking(true)?;
            far.set_nonblocking(true)?;
            Ok((Stream::Bridged(mio::net::UnixStream::from_std(near)), UnixStream::from_std(far)?))
        };
        self.way = match pair() {
            Ok((near, from)) => {
                self.connect(near);
                Way::Copies { from, unread: BytesMut::new() }
            }
            Err(error) => {
                tracing::warn!(%error, "a stream could not be begun");
                Way::Ended
            }
        };
    }

    fn connect(&self, stream: Stream) {
        let (socket, stream) = (self.socket, Box::new(stream));
        self.shard.send_promptly(Command::Connected { socket, stream, received: Vec::new() });
    }
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.get_mut().poll_next(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl From<Streamed> for Body {
    fn from(streamed: Streamed) -> Self {
        Body::streamed(streamed)
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        if !matches!(self.way, Way::IsHandedOver) {
            self.shard.send(Command::Close { socket: self.socket, reason: CloseReason::Lost });
        }
    }
}

/// So much is copied at a time.
const COPIED_SIZE: usize = 16 * 1024;

/// The data of the chunks that have come; `None` at the end.
fn poll_copied(from: &mut UnixStream, unread: &mut BytesMut, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
    loop {
        let mut copied = Vec::new();
        while let Some(chunk) = chunked::first(unread).filter(|chunk| chunk.size <= unread.len()) {
            if chunk.data.is_empty() && copied.is_empty() {
                return Poll::Ready(None);
            }
            if chunk.data.is_empty() {
                break;
            }
            copied.extend_from_slice(&unread[chunk.data]);
            unread.advance(chunk.size);
        }
        if !copied.is_empty() {
            return Poll::Ready(Some(copied.into()));
        }
        let mut buffer = [0; COPIED_SIZE];
        let mut read = ReadBuf::new(&mut buffer);
        match ready!(Pin::new(&mut *from).poll_read(cx, &mut read)) {
            Ok(()) if !read.filled().is_empty() => unread.extend_from_slice(read.filled()),
            Ok(()) | Err(_) => return Poll::Ready(None),
        }
    }
}
