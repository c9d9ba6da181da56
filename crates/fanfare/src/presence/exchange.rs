//! What a node tells others of its presences, and who of them is alive: the same for all of its topics.
//!
//! What is to be sent is put in line while its topic is locked, so that what is told of one topic leaves in that order, and sent when no
//! lock is held: a broker may deliver before a call returns, and what it delivers may ask something back.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use fanfare_proto::envelope::Incarnation;
use fanfare_proto::presence::{Event, Leases, Node, Tell};
use parking_lot::Mutex;

use crate::broker::Done;
use crate::cluster::Cluster;

/// A node that was not heard for this long is shown no more, and this long after that forgotten.
const LEASE_MS: u64 = 10_000;
const HIDDEN_KEPT_MS: u64 = 60_000;

/// A node hears itself at least this often, or is deaf.
const DEAF_MS: u64 = 5_000;

/// One node's part of the exchange.
pub(crate) struct Exchange {
    pub(super) node: Arc<Node>,
    cluster: Arc<Cluster>,
    leases: Mutex<Leases>,
    line: Mutex<Line>,
}

/// What is to be sent.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Sending>,
    /// Somebody sends, and goes on until nothing waits.
    is_sent: bool,
}

/// One of them.
pub(super) struct Sending {
    pub(super) topic: Arc<str>,
    pub(super) tell: Tell,
    /// Told how many nodes were reached.
    pub(super) done: Option<Done<Option<u64>>>,
}

impl Exchange {
    pub(crate) fn new(cluster: Arc<Cluster>, now_ms: u64) -> Self {
        Exchange {
            node: Arc::new(Node::new(cluster.incarnation())),
            cluster,
            leases: Mutex::new(Leases::new(LEASE_MS, HIDDEN_KEPT_MS, DEAF_MS, now_ms)),
            line: Mutex::default(),
        }
    }

    /// Who is alive.
    pub(super) fn leases<T>(&self, look: impl FnOnce(&mut Leases) -> T) -> T {
        look(&mut self.leases.lock())
    }

    /// Something was heard of another node. `None` if it does not count.
    pub(super) fn heard(&self, origin: Incarnation, now_ms: u64) -> Option<Option<Event>> {
        self.leases(|leases| if leases.has_left(origin) { None } else { Some(leases.heard(origin, now_ms)) })
    }

    /// Puts something in line.
    pub(super) fn put(&self, sending: Sending) {
        self.line.lock().waiting.push_back(sending);
    }

    /// Sends what is in line. To be called whenever something was put there, without a lock.
    pub(super) fn send(&self) {
        {
            let mut line = self.line.lock();
            if line.waiting.is_empty() || std::mem::replace(&mut line.is_sent, true) {
                return;
            }
        }
        loop {
            let next = {
                let mut line = self.line.lock();
                line.is_sent = !line.waiting.is_empty();
                line.waiting.pop_front()
            };
            let Some(Sending { topic, tell, done }) = next else { return };
            let done = done.unwrap_or_else(|| Box::new(|_| ()));
            match tell {
                Tell::Everyone(body) => self.cluster.tell(&topic, body.to_content(""), done),
                // What does not arrive is asked for again.
                Tell::One(to, body) => self.cluster.tell_one(to, body.to_content(&topic), Box::new(|_| ())),
            }
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exchange({})", self.node.incarnation())
    }
}
