//! A connection that a server has accepted, on its way to the shard that reads its first request.

use std::io;
use std::time::Duration;

use mio::net::TcpStream;

use super::{AdmittedSocket, ShardHandle};

/// The first read takes at most this many bytes: as many as a request's head may have.
pub(crate) const FIRST_READ_SIZE_MAX: usize = 16 * 1024;

/// A connection that was accepted, and the one that has accepted it.
pub(crate) struct Newcomer {
    pub(crate) stream: TcpStream,
    pub(crate) host: Box<dyn Host>,
}

/// What a server knows of a connection that it has accepted.
pub(crate) trait Host: Send {
    /// What becomes of the connection that begins with these bytes.
    fn hear(self: Box<Self>, first: &[u8], shard: &ShardHandle) -> Heard;

    /// The client has been silent for too long, or the server ends.
    fn give_up(self: Box<Self>, stream: TcpStream);

    /// The connection is lost.
    fn lost(&self, error: &io::Error);

    /// How long the client may be silent.
    fn patience(&self) -> Duration;

    /// Whether the server ends.
    fn is_ending(&self) -> bool;
}

/// What the first bytes of a connection say.
pub(crate) enum Heard {
    /// A client that may have a WebSocket.
    Upgraded(Box<Upgraded>),
    /// Anything else, for this one.
    Other(Box<dyn FnOnce(TcpStream)>),
}

/// A WebSocket that may begin.
pub(crate) struct Upgraded {
    pub(crate) admitted: AdmittedSocket,
    /// What permessage-deflate was negotiated with, if it was.
    pub(crate) window_bits: Option<u8>,
    pub(crate) answer: Vec<u8>,
    /// So many of the bytes were the request.
    pub(crate) head_size: usize,
}
