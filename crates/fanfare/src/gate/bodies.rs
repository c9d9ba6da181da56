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
        let mut blocks = Blocks::new(declared);
        let mut share = Share { room: self.0.clone(), bytes: 0 };
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
            if share.bytes + data.remaining() > size_max {
                return Err(BodyError::TooLarge(size_max));
            }
            share.grow(data.remaining())?;
            blocks.add(data);
        }
        Ok(Collected { bytes: blocks.put_together(), _share: share })
    }
}

/// Bodies grow by so much.
const BLOCK_SIZE: usize = 64 * 1024;

/// A body while it is received. In one piece, those that are refused half-way would touch one large piece of memory after the other,
/// and give them back faster than the allocator does to the system.
struct Blocks {
    full: Vec<Vec<u8>>,
    last: Vec<u8>,
}

impl Blocks {
    fn new(declared: usize) -> Self {
        Blocks { full: Vec::new(), last: Vec::with_capacity(declared.min(BLOCK_SIZE)) }
    }

    fn add(&mut self, mut data: impl Buf) {
        while data.has_remaining() {
            if self.last.len() == BLOCK_SIZE {
                self.full.push(std::mem::replace(&mut self.last, Vec::with_capacity(BLOCK_SIZE)));
            }
            let chunk = data.chunk();
            let count = chunk.len().min(BLOCK_SIZE - self.last.len());
            self.last.extend_from_slice(&chunk[..count]);
            data.advance(count);
        }
    }

    fn put_together(self) -> Vec<u8> {
        let Blocks { full, last } = self;
        if full.is_empty() {
            return last;
        }
        let mut bytes = Vec::with_capacity(full.len() * BLOCK_SIZE + last.len());
        // Each is given back as soon as it is copied.
        full.into_iter().for_each(|block| bytes.extend_from_slice(&block));
        bytes.extend_from_slice(&last);
        bytes
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
    fn a_body_is_put_together_as_it_came() {
        for size in [0, 1, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, 3 * BLOCK_SIZE, 200_001] {
            let body: Vec<u8> = (0..size).map(|n| n as u8).collect();
            for piece in [1_000, BLOCK_SIZE, 100_000] {
                let mut blocks = Blocks::new(size);
                body.chunks(piece).for_each(|piece| blocks.add(piece));
                assert!(blocks.put_together() == body, "{size} in pieces of {piece}");
            }
        }
    }

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
