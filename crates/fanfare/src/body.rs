//! The body of an answer: whole, or a stream of messages.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::Full;

/// The body of every answer.
pub struct Body(Kind);

enum Kind {
    Whole(Full<Bytes>),
    Stream(Pin<Box<dyn http_body::Body<Data = Bytes, Error = Infallible> + Send + Sync>>),
}

impl Default for Body {
    /// Empty.
    fn default() -> Self {
        Body(Kind::Whole(Full::default()))
    }
}

impl Body {
    /// One that comes bit by bit.
    pub(crate) fn streamed(
        stream: impl http_body::Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static,
    ) -> Self {
        Body(Kind::Stream(Box::pin(stream)))
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
            Kind::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(whole) => whole.is_end_stream(),
            Kind::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(whole) => whole.size_hint(),
            Kind::Stream(stream) => stream.size_hint(),
        }
    }
}
