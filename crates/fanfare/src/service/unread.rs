//! The body of an answer with messages: what of it is not written counts with what waits for sockets, and its client has
//! [`write_timeout`](crate::Mount::write_timeout) to take something of it.
//!
//! Messages that a poll has taken have left their outbox, and the HTTP library keeps them for as long as the client reads nothing.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;

use super::admission::Asking;
use crate::body::Body;
use crate::outbox::Share;
use crate::transport::handover::Handover;

/// The library gets so much at a time: it would take all of it on a connection of HTTP/2, whatever the client's window is. A shorter answer
/// needs no deadline of its own: the system gives up a connection that takes nothing.
const PIECE_SIZE: usize = 8 * 1024;

/// What the library has not taken yet.
struct Unread {
    rest: Arc<Mutex<Bytes>>,
    share: Share,
    /// What is not written: the rest, and pieces that the library has.
    left: Arc<AtomicUsize>,
}

/// A piece on its way. Its bytes count until the library drops it.
struct Piece {
    bytes: Bytes,
    _share: Share,
    left: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.left.fetch_sub(self.bytes.len(), Ordering::AcqRel);
    }
}

impl Asking<'_> {
    /// The body of an answer with messages.
    pub(super) fn unread(&self, bytes: Bytes, share: Share) -> Body {
        let connection = self.parts.extensions.get::<Handover>().cloned();
        unread(bytes, share, self.found.mount.write_timeout, connection)
    }
}

/// One of which so much counts. The connection is ended if the client takes nothing of it for so long.
fn unread(bytes: Bytes, mut share: Share, patience: Duration, connection: Option<Handover>) -> Body {
    share.set(bytes.len());
    let left = Arc::new(AtomicUsize::new(bytes.len()));
    let needs_watch = bytes.len() > PIECE_SIZE;
    let rest = Arc::new(Mutex::new(bytes));
    if needs_watch {
        tokio::spawn(watch(rest.clone(), left.clone(), patience, connection));
    }
    Body::streamed(Unread { rest, share, left })
}

async fn watch(rest: Arc<Mutex<Bytes>>, left: Arc<AtomicUsize>, patience: Duration, connection: Option<Handover>) {
    loop {
        let before = left.load(Ordering::Acquire);
        tokio::time::sleep(patience).await;
        match left.load(Ordering::Acquire) {
            0 => return,
            now if now == before => break,
            _ => {}
        }
    }
    // Its client sees that it is shorter than its head says, where it is one of many on a connection.
    rest.lock().clear();
    if let Some(connection) = connection {
        connection.done();
    }
}

impl http_body::Body for Unread {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let mut rest = this.rest.lock();
        if rest.is_empty() {
            return Poll::Ready(None);
        }
        let size = PIECE_SIZE.min(rest.len());
        let piece = Piece { bytes: rest.split_to(size), _share: this.share.split(size), left: this.left.clone() };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.lock().is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.lock().len() as u64)
    }
}
