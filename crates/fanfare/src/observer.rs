//! Who is told of sockets that come and go, and of topics that get their first member or lose their last.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::connect::SocketHandle;
use crate::guard::caught;

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

/// The observers of an endpoint.
pub(crate) struct Observers {
    all: Vec<Box<dyn Observer>>,
    /// The topics with members. Kept only where somebody observes. The locks are not held while observers are told.
    occupied: Box<[Mutex<Topics>]>,
    hasher: foldhash::fast::RandomState,
}

type Topics = HashMap<Arc<str>, Occupied, foldhash::fast::RandomState>;

/// So many locks share the topics between them.
const STRIPES: usize = 64;

/// What is known of a topic.
#[derive(Debug, Clone, Copy, Default)]
struct Occupied {
    /// On how many shards it has members.
    shards: usize,
    /// Whether observers believe that it has some.
    told: bool,
    /// Whether they are being told: whoever does so goes on until they know what is.
    is_being_told: bool,
}

impl Observers {
    pub(crate) fn new(all: Vec<Box<dyn Observer>>) -> Self {
        let stripes = if all.is_empty() { 0 } else { STRIPES };
        Observers {
            all,
            occupied: (0..stripes).map(|_| Mutex::default()).collect(),
            hasher: foldhash::fast::RandomState::default(),
        }
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

    /// A topic has its first member on one shard.
    pub(crate) fn entered(&self, topic: &Arc<str>) {
        self.changed(topic, |occupied| occupied.shards += 1);
    }

    /// A topic has lost its last member on one shard.
    pub(crate) fn left(&self, topic: &Arc<str>) {
        self.changed(topic, |occupied| occupied.shards = occupied.shards.saturating_sub(1));
    }

    /// Tells of a change, unless another thread is telling of this topic: that one then tells of it as well, so that calls come
    /// one at a time. What has changed and changed back by then, nobody hears of.
    fn changed(&self, topic: &Arc<str>, change: impl FnOnce(&mut Occupied)) {
        // Below, other bits of another hash are used.
        let Some(stripe) = self.occupied.get(self.hasher.hash_one(&**topic) as usize % STRIPES) else { return };
        {
            let mut stripe = stripe.lock();
            let occupied = stripe.entry_ref(&**topic).or_default();
            change(occupied);
            if std::mem::replace(&mut occupied.is_being_told, true) {
                return;
            }
        }
        loop {
            // A statement of its own, which gives the lock back.
            let next = next_to_tell(&mut stripe.lock(), topic);
            let Some(is_occupied) = next else { return };
            self.tell(|observer| if is_occupied { observer.occupied(topic) } else { observer.vacated(topic) });
        }
    }
}

/// What the observers of a topic do not know yet, until they know all.
fn next_to_tell(topics: &mut Topics, topic: &Arc<str>) -> Option<bool> {
    let occupied = topics.get_mut(topic)?;
    let is_occupied = occupied.shards > 0;
    if std::mem::replace(&mut occupied.told, is_occupied) != is_occupied {
        return Some(is_occupied);
    }
    occupied.is_being_told = false;
    if !is_occupied {
        topics.remove(topic);
    }
    None
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observers").field("observers", &self.all.len()).finish_non_exhaustive()
    }
}
