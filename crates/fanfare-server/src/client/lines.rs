//! An answer that goes on, line by line.

use axum::body::BodyDataStream;
use futures_util::StreamExt;

/// A line of the server's is no longer.
const LINE_SIZE_MAX: usize = 1_000_000;

/// The lines of an answer.
pub(super) struct Lines {
    body: BodyDataStream,
    rest: Vec<u8>,
}

impl Lines {
    pub(super) fn of(body: BodyDataStream) -> Self {
        Self { body, rest: Vec::new() }
    }

    /// The next one; `None` at the end.
    ///
    /// # Errors
    /// The connection was lost, or it is no line of ours.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.rest.drain(..=end).collect()));
            }
            match self.body.next().await {
                Some(Ok(chunk)) if self.rest.len() + chunk.len() <= LINE_SIZE_MAX => {
                    self.rest.extend_from_slice(&chunk)
                }
                Some(Ok(_)) => return Err("the answer is none of ours: a line does not end".into()),
                Some(Err(_)) => return Err("the connection was lost".into()),
                None => return Ok(None),
            }
        }
    }
}
