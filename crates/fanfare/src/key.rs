//! The names of sockets and joins within their shard.

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
