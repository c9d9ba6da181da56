//! The connection below an HTTP answer, handed to the shard that writes the rest of the answer.
//!
//! Two that do not know each other share a [`Handover`]: the body of the answer, which asks for the connection once its beginning is on
//! its way, and the connection itself, below the HTTP library, which gives itself up once all has been written. Between the two may be
//! layers of an application that make another body of it. So the connection looks at the last bytes that were written: **only if these
//! are the beginning of the answer as its body gave it, in a chunk, does the rest need nobody else**. Otherwise the body goes on by
//! itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fanfare_proto::chunked;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::stream::{IntoStream, Stream};

/// Asks for a connection. Cheap to clone; all clones are for the same connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Handover(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Whether what is written has to be looked at.
    is_asked: AtomicBool,
    asked: Mutex<Option<Asked>>,
    done: Notify,
}

#[derive(Debug)]
struct Asked {
    /// What is written last if nobody has changed it.
    expected: Vec<u8>,
    /// As much of what was written last.
    written: Vec<u8>,
    answer: oneshot::Sender<Option<Stream>>,
}

impl Handover {
    /// Asks for the connection once this has been written, as a body gave it. `None` if it cannot be had.
    pub(crate) fn ask(&self, beginning: &[u8]) -> oneshot::Receiver<Option<Stream>> {
        let mut expected = Vec::new();
        chunked::encode(beginning, &mut expected);
        let (answer, answered) = oneshot::channel();
        *self.0.asked.lock() = Some(Asked { expected, written: Vec::new(), answer });
        self.0.is_asked.store(true, Ordering::Release);
        answered
    }

    /// The one who asked has it: nobody else is needed.
    pub(crate) fn done(&self) {
        self.0.done.notify_one();
    }

    /// Waits for that.
    pub(crate) async fn is_done(&self) {
        self.0.done.notified().await;
    }

    /// Bytes were written to the connection.
    pub(super) fn wrote(&self, bytes: &[u8]) {
        if self.0.is_asked.load(Ordering::Acquire)
            && let Some(Asked { expected, written, .. }) = &mut *self.0.asked.lock()
        {
            let bytes = &bytes[bytes.len().saturating_sub(expected.len())..];
            let too_many = (written.len() + bytes.len()).saturating_sub(expected.len());
            written.drain(..too_many);
            written.extend_from_slice(bytes);
        }
    }

    /// All that was written has left the library: gives up the connection if somebody has asked for it and can have it.
    pub(super) fn flushed<IO: IntoStream>(&self, io: &mut Option<IO>) {
        if !self.0.is_asked.swap(false, Ordering::AcqRel) {
            return;
        }
        let Some(Asked { expected, written, answer }) = self.0.asked.lock().take() else { return };
        let stream = io.take_if(|_| written == expected && !answer.is_closed()).map(IntoStream::into_stream);
        let stream = stream.transpose().inspect_err(|error| tracing::debug!(%error, "a connection was lost")).ok();
        // Whoever asked may have gone, and the connection goes as well.
        let _ = answer.send(stream.flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl IntoStream for () {
        fn into_stream(self) -> std::io::Result<Stream> {
            Ok(Stream::Awaited)
        }
    }

    #[test]
    fn a_connection_is_given_up_behind_the_beginning_of_an_answer_as_it_was() {
        let check = |beginning: &str, written: &[&str], is_given_up: bool| {
            let handover = Handover::default();
            let mut io = Some(());
            handover.wrote(b"an answer before");
            handover.flushed(&mut io);
            let mut answered = handover.ask(beginning.as_bytes());
            written.iter().for_each(|bytes| handover.wrote(bytes.as_bytes()));
            handover.flushed(&mut io);
            assert_eq!(io.is_none(), is_given_up, "{written:?}");
            assert_eq!(answered.try_recv().unwrap().is_some(), is_given_up, "{written:?}");
        };
        check(":\n\n", &["HTTP/1.1 200 OK\r\n\r\n3\r\n:\n\n\r\n"], true);
        check(":\n\n", &["HTTP/1.1 200 OK\r\n", "\r\n3\r", "\n:\n\n", "\r\n"], true);
        check("retry: 1000\n\n", &["HTTP/1.1 200 OK\r\n\r\n", "D\r\n", "retry: 1000\n\n", "\r\n"], true);
        // HTTP/1.0 has no chunks; a layer has changed the bytes, or added some; the head alone.
        check(":\n\n", &["HTTP/1.0 200 OK\r\n\r\n:\n\n"], false);
        check(":\n\n", &["HTTP/1.1 200 OK\r\n\r\n3\r\nxyz\r\n"], false);
        check(":\n\n", &["HTTP/1.1 200 OK\r\n\r\n3\r\n:\n\n\r\n1\r\nx\r\n"], false);
        check(":\n\n", &["HTTP/1.1 200 OK\r\n\r\n"], false);
        check(":\n\n", &[], false);
    }
}
