//! A stream without a kernel, for the test kit: what the server writes is kept or counted, as far as there is room.

use std::io::{self, IoSlice};
use std::sync::Arc;

use parking_lot::Mutex;

/// The way from the server to a client of a [`Lockstep`](crate::testing::Lockstep). Cheap to clone: the client keeps the end
/// that reads.
#[derive(Debug, Clone)]
pub struct Pipe(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    /// `None` where what comes is only counted.
    kept: Option<Vec<u8>>,
    written: Written,
    /// So many bytes are taken until there is room for more.
    room: usize,
    end: End,
}

/// What a pipe has taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes, headers of frames included.
    pub bytes: u64,
    /// How often something was written: what would be as many calls of the kernel.
    pub writes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// The server has ended its direction.
    ByServer,
    /// The client takes nothing any more.
    ByClient,
}

impl Pipe {
    /// Keeps what the server writes until it is taken.
    pub fn keeping() -> Self {
        Pipe::new(Some(Vec::new()))
    }

    /// Counts what the server writes, and forgets it. One such pipe may serve any number of sockets.
    pub fn discarding() -> Self {
        Pipe::new(None)
    }

    /// All that the server has written since the last time.
    pub fn take(&self) -> Vec<u8> {
        self.0.lock().kept.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// What the server has written since the beginning.
    pub fn written(&self) -> Written {
        self.0.lock().written
    }

    /// From now on so many bytes are taken and no more: what else the server writes has to wait, until
    /// [`Lockstep::make_room`](crate::testing::Lockstep::make_room). At first there is no limit.
    pub fn limit(&self, bytes: usize) {
        self.0.lock().room = bytes;
    }

    /// The client takes nothing any more: the server's next write fails.
    pub fn break_off(&self) {
        self.0.lock().end = End::ByClient;
    }

    /// Whether the server has ended its direction, as it does behind a close frame. Never with a pipe that discards.
    pub fn has_ended(&self) -> bool {
        self.0.lock().end == End::ByServer
    }

    /// What a socket's write does, for benchmarks that tell it from what the engine does.
    #[doc(hidden)]
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    pub(crate) fn write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut inner = self.0.lock();
        if inner.end != End::Open {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut taken = 0;
        for slice in slices {
            let part = &slice[..slice.len().min(inner.room - taken)];
            taken += part.len();
            if let Some(kept) = &mut inner.kept {
                kept.extend_from_slice(part);
            }
        }
        if taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if inner.room != usize::MAX {
            inner.room -= taken;
        }
        inner.written.bytes += taken as u64;
        inner.written.writes += 1;
        Ok(taken)
    }

    pub(crate) fn end(&self) -> io::Result<()> {
        let mut inner = self.0.lock();
        if inner.end == End::ByClient {
            return Err(io::ErrorKind::NotConnected.into());
        }
        // A pipe that discards may serve other sockets as well.
        if inner.kept.is_some() {
            inner.end = End::ByServer;
        }
        Ok(())
    }

    fn new(kept: Option<Vec<u8>>) -> Self {
        let inner = Inner { kept, written: Written::default(), room: usize::MAX, end: End::Open };
        Pipe(Arc::new(Mutex::new(inner)))
    }
}
