//! Who is told of sockets that come and go, and of topics that get their first member or lose their last.

use std::fmt;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::close_reason::CloseReason;
use crate::command::Command;
use crate::join::caught;
use crate::key::SocketKey;
use crate::socket::SocketInfo;

/// Is told what happens on this node.
///
/// Called on the threads that own sockets: it must neither block nor wait, so let it hand over to a task. Sockets of this
/// process ([`Endpoint::socket`](crate::Endpoint::socket)) are not reported, the topics that they join are.
pub trait Observer: Send + Sync + 'static {
    /// A socket has connected. What is published from now on reaches the topics that connect joined it to.
    fn opened(&self, socket: &SocketHandle) {
        let _ = socket;
    }

    /// A socket that was opened is being closed, or is lost. Its joins have ended.
    fn closed(&self, socket: &SocketHandle) {
        let _ = socket;
    }

    /// What is known about an open socket is another now, since its credential was renewed. Left to itself, it counts as one
    /// socket closed and another opened, although the two handles are equal.
    fn renewed(&self, before: &SocketHandle, after: &SocketHandle) {
        self.closed(before);
        self.opened(after);
    }

    /// A topic has its first member. Calls for one topic come one at a time, in order.
    fn occupied(&self, topic: &Arc<str>) {
        let _ = topic;
    }

    /// A topic has lost its last member.
    fn vacated(&self, topic: &Arc<str>) {
        let _ = topic;
    }
}

/// A socket of this node, to be told from others and to be closed. Two handles are equal if they name the same socket.
#[derive(Clone)]
pub struct SocketHandle {
    pub(crate) info: Arc<SocketInfo>,
    pub(crate) key: SocketKey,
}

impl SocketHandle {
    /// What is known about it.
    pub fn info(&self) -> &SocketInfo {
        &self.info
    }

    /// Closes it with 1001, as a disconnect does. It may be closed already.
    pub fn close(&self) {
        self.info.shard.send(Command::Close { socket: self.key, reason: CloseReason::Disconnect });
    }

    fn identity(&self) -> (usize, SocketKey) {
        (self.info.shard.address(), self.key)
    }
}

impl PartialEq for SocketHandle {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for SocketHandle {}

impl std::hash::Hash for SocketHandle {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl fmt::Debug for SocketHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SocketHandle").field(&self.info).finish()
    }
}

/// The observers of an endpoint.
#[derive(Default)]
pub(crate) struct Observers {
    all: Vec<Box<dyn Observer>>,
    /// On how many shards a topic has members. Kept only where somebody observes.
    occupied: Mutex<HashMap<Arc<str>, usize, foldhash::fast::RandomState>>,
}

impl Observers {
    pub(crate) fn new(all: Vec<Box<dyn Observer>>) -> Self {
        Observers { all, ..Observers::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// A panic in one of them is logged.
    pub(crate) fn tell(&self, what: impl Fn(&dyn Observer)) {
        for observer in &self.all {
            caught("an observer", || what(&**observer));
        }
    }

    /// A topic has its first member on one shard. The lock is held while observers are told, so that they are in order.
    pub(crate) fn entered(&self, topic: &Arc<str>) {
        let mut occupied = self.occupied.lock();
        let shards = occupied.entry(topic.clone()).or_default();
        *shards += 1;
        if *shards == 1 {
            self.tell(|observer| observer.occupied(topic));
        }
    }

    /// A topic has lost its last member on one shard.
    pub(crate) fn left(&self, topic: &Arc<str>) {
        let mut occupied = self.occupied.lock();
        let Some(shards) = occupied.get_mut(topic) else { return };
        *shards -= 1;
        if *shards == 0 {
            occupied.remove(topic);
            self.tell(|observer| observer.vacated(topic));
        }
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observers").field("observers", &self.all.len()).finish_non_exhaustive()
    }
}
