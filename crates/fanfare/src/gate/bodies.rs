//! The bodies of requests while they are in memory: each has a bound and a deadline, and all together have a bound.
//!
//! A body may hold as many bytes as are left when it has them, and no more. So one client may send a large one, many large
//! ones share what there is, and a small one always finds room.

use std::error::Error as StdError;
use std::fmt;
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Buf;
use http::HeaderMap;
use http::header::EXPECT;
use http_body_util::BodyExt;

/// The rest of a body that nobody wants is read for so long.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Collects the bodies of requests within bounds. Cheap to clone; clones share their memory.
#[derive(Debug, Clone)]
pub struct Bodies(Arc<Room>);

#[derive(Debug)]
struct Room {
    held: AtomicUsize,
    bytes_max: usize,
    timeout: Duration,
}

/// Why a body was not collected. The text is fit for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError {
    /// It is larger than this many bytes. To be answered with 413.
    TooLarge(usize),
    /// It was not there after this long. To be answered with 408.
    TimedOut(Duration),
    /// Other bodies have the memory: a client may try again. To be answered with 503.
    NoRoom,
    /// It broke off, or was not sent as its head says. To be answered with 400.
    Broken,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::TooLarge(max) => write!(f, "the body is larger than {max} bytes: send it in several requests"),
            BodyError::TimedOut(timeout) => write!(f, "the body did not arrive within {timeout:?}: send it again"),
            BodyError::NoRoom => f.write_str("too many request bodies are being received: try again in a second"),
            BodyError::Broken => f.write_str("the body broke off"),
        }
    }
}

impl StdError for BodyError {}

/// A whole body. Its bytes count until it is dropped.
#[derive(Debug)]
pub struct Collected {
    bytes: Vec<u8>,
    _share: Share,
}

impl Deref for Collected {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Bodies {
    /// At most so many bytes at a time, and so much time for each body.
    pub fn new(bytes_max: usize, timeout: Duration) -> Self {
        Bodies(Arc::new(Room { held: AtomicUsize::new(0), bytes_max, timeout }))
    }

    /// The whole body of a request with these headers, which has at most `size_max` bytes. Check the client's credential
    /// before.
    ///
    /// # Errors
    /// It is too large, too late, broken, or there is no room for it. One that says that it is too large is not read.
    pub async fn collect<B>(&self, headers: &HeaderMap, body: B, size_max: usize) -> Result<Collected, BodyError>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let declared = body.size_hint().lower();
        if declared > size_max as u64 {
            Bodies::discard(headers, body);
            return Err(BodyError::TooLarge(size_max));
        }
        let mut body = Box::pin(body);
        let read = self.read(&mut body, declared as usize, size_max);
        let collected = match tokio::time::timeout(self.0.timeout, read).await {
            Ok(collected) => collected,
            Err(_) => return Err(BodyError::TimedOut(self.0.timeout)),
        };
        if let Err(BodyError::TooLarge(_) | BodyError::NoRoom) = collected {
            Bodies::discard(headers, body);
        }
        collected
    }

    /// Reads for a while what a client still sends that is refused already: it would otherwise see its connection reset, and might
    /// never see the answer. One that waits to be asked for its body is not asked.
    pub fn discard<B>(headers: &HeaderMap, body: B)
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
    {
        if body.is_end_stream() || headers.contains_key(EXPECT) {
            return;
        }
        tokio::spawn(async move {
            let mut body = pin!(body);
            let all = async { while let Some(Ok(_)) = body.frame().await {} };
            // What is left after that is the client's trouble.
            let _ = tokio::time::timeout(DISCARD_TIMEOUT, all).await;
        });
    }

    async fn read<B>(
        &self,
        body: &mut std::pin::Pin<Box<B>>,
        declared: usize,
        size_max: usize,
    ) -> Result<Collected, BodyError>
    where
        B: http_body::Body,
    {
        // Memory that is reserved costs nothing until it is written to.
        let mut bytes = Vec::with_capacity(declared);
        let mut share = Share { room: self.0.clone(), bytes: 0 };
        while let Some(frame) = body.frame().await {
            let Ok(mut data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
            if bytes.len() + data.remaining() > size_max {
                return Err(BodyError::TooLarge(size_max));
            }
            share.grow(data.remaining())?;
            while data.has_remaining() {
                let chunk = data.chunk();
                bytes.extend_from_slice(chunk);
                let count = chunk.len();
                data.advance(count);
            }
        }
        Ok(Collected { bytes, _share: share })
    }
}

/// What a body holds of the memory for all.
#[derive(Debug)]
struct Share {
    room: Arc<Room>,
    bytes: usize,
}

impl Share {
    fn grow(&mut self, by: usize) -> Result<(), BodyError> {
        let own = self.bytes + by;
        let fits = |all: usize| Some(all + by).filter(|all| all + own <= self.room.bytes_max);
        self.room.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).map_err(|_| BodyError::NoRoom)?;
        self.bytes = own;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_share_what_there_is_and_a_small_one_finds_room() {
        let bodies = Bodies::new(1_000, Duration::ZERO);
        let share = || Share { room: bodies.0.clone(), bytes: 0 };
        let grown = |share: &mut Share| (0..).take_while(|_| share.grow(10).is_ok()).count() * 10;
        let mut first = share();
        assert_eq!(grown(&mut first), 500, "a lone body has as much as it leaves");
        let mut large: Vec<Share> = (0..20).map(|_| share()).collect();
        for share in &mut large {
            grown(share);
        }
        assert!(share().grow(1).is_ok());
        assert!(bodies.0.held.load(Ordering::Relaxed) <= 1_000);
        drop((first, large));
        assert_eq!(bodies.0.held.load(Ordering::Relaxed), 0);
    }
}
