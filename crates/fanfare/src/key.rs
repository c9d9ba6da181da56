//! The names of sockets and joins within their shard.

use std::fmt;
use std::str::FromStr;

/// A socket of a shard. The generation tells it from an earlier one in the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SocketKey {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// A join of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct JoinKey {
    pub(crate) socket: SocketKey,
    pub(crate) serial: u32,
}

/// The name of a join, in its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JoinId {
    /// The shard's number.
    pub(crate) shard: u16,
    pub(crate) join: JoinKey,
}

/// The name of a socket on its node, as `0-17-3`. Another socket never gets it as long as the node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId {
    pub(crate) shard: u16,
    pub(crate) key: SocketKey,
}

impl SocketId {
    pub(crate) fn new(shard: u16, key: SocketKey) -> Self {
        SocketId { shard, key }
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.shard, self.key.index, self.key.generation)
    }
}

/// It is no name of a socket, or no place in a list of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotASocket;

impl fmt::Display for NotASocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no name of a socket: they are like 0-17-3")
    }
}

impl std::error::Error for NotASocket {}

impl FromStr for SocketId {
    type Err = NotASocket;

    fn from_str(text: &str) -> Result<Self, NotASocket> {
        let mut parts = text.split('-').map(|part| part.parse::<u32>().map_err(|_| NotASocket));
        let mut part = || parts.next().ok_or(NotASocket)?;
        let (shard, index, generation) = (part()?, part()?, part()?);
        match parts.next() {
            None => {
                let shard = u16::try_from(shard).map_err(|_| NotASocket)?;
                Ok(SocketId { shard, key: SocketKey { index, generation } })
            }
            Some(_) => Err(NotASocket),
        }
    }
}
