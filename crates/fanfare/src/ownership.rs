//! The hub's topics: which are started, and the publisher of each.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use fanfare_proto::hub::{ClaimError, OwnerId, Released, Topics};
use parking_lot::Mutex;

use crate::close_reason::CloseReason;
use crate::command::Command;
use crate::endpoint::Endpoint;
use crate::key::SocketKey;
use crate::observer::SocketHandle;
use crate::socket::SocketInfo;

/// How many topics publishers may have started at a time. Each needs a connection or had one a grace ago.
const TOPICS_MAX: usize = 1_000_000;

/// The started topics of an endpoint.
#[derive(Debug)]
pub(crate) struct Started(Mutex<Topics<Arc<Publisher>>>);

/// Whoever owns a topic.
#[derive(Debug)]
struct Publisher {
    /// Gives way to another of this name.
    name: Option<String>,
    /// Where it lives, once it does.
    socket: OnceLock<(Weak<SocketInfo>, SocketKey)>,
}

impl Publisher {
    fn socket(&self) -> Option<SocketHandle> {
        let (info, key) = self.socket.get()?;
        Some(SocketHandle { info: info.upgrade()?, key: *key })
    }
}

impl Default for Started {
    fn default() -> Self {
        Started(Mutex::new(Topics::new(TOPICS_MAX)))
    }
}

impl Started {
    /// Whether a topic is started.
    pub(crate) fn contains(&self, topic: &str) -> bool {
        self.0.lock().contains(topic)
    }

    /// At most so many topics behind this one, each with its publisher's socket unless it waits for one.
    pub(crate) fn after(&self, topic: Option<&str>, limit: usize) -> Vec<(String, Option<SocketHandle>)> {
        let topics = self.0.lock();
        let socket = |publisher: Option<&Arc<Publisher>>| publisher.and_then(|publisher| publisher.socket());
        topics.after(topic).take(limit).map(|(topic, publisher)| (topic.to_owned(), socket(publisher))).collect()
    }

    /// The new ownership of a topic, which ends a grace after it was given up. A publisher with a name takes the place of
    /// another one of that name, which is closed.
    pub(crate) fn claim(
        &self,
        endpoint: &Endpoint,
        topic: Arc<str>,
        name: Option<String>,
        grace: Duration,
    ) -> Result<Ownership, ClaimError> {
        let publisher = Arc::new(Publisher { name, socket: OnceLock::new() });
        // One that is about to live somewhere cannot be closed yet.
        let gives_way =
            |other: &Arc<Publisher>| other.name.is_some() && other.name == publisher.name && other.socket().is_some();
        let (owner, before) = self.0.lock().claim(&topic, publisher.clone(), gives_way)?;
        if let Some(SocketHandle { info, key }) = before.and_then(|before| before.socket()) {
            info.shard.send(Command::Close { socket: key, reason: CloseReason::Replaced });
        }
        let endpoint = endpoint.clone();
        Ok(Ownership { endpoint, topic, owner, publisher, grace, is_given_up: AtomicBool::new(false) })
    }
}

/// A publisher's hold on its topic: given up when its socket is closed, or when it never came to be.
pub(crate) struct Ownership {
    endpoint: Endpoint,
    topic: Arc<str>,
    owner: OwnerId,
    publisher: Arc<Publisher>,
    grace: Duration,
    is_given_up: AtomicBool,
}

impl Ownership {
    /// The publisher's socket is in its shard.
    pub(crate) fn lives_at(&self, info: &Arc<SocketInfo>, key: SocketKey) {
        // It does so once.
        let _ = self.publisher.socket.set((Arc::downgrade(info), key));
    }

    /// From now on another publisher may take the topic over, until it ends.
    pub(crate) fn give_up(&self) {
        if self.is_given_up.swap(true, Ordering::AcqRel) {
            return;
        }
        let Ownership { endpoint, topic, owner, grace, .. } = self;
        let now_ms = endpoint.clock().now_ms();
        let released = endpoint.started().0.lock().release(topic, *owner, now_ms, grace.as_millis() as u64);
        match released {
            Released::NotOwned => {}
            Released::Ended => end(endpoint, topic),
            Released::UntilMs(due_ms) => {
                let (later, topic) = (endpoint.clone(), topic.clone());
                let run = move || {
                    let has_ended = later.started().0.lock().expire(&topic, later.clock().now_ms());
                    if has_ended {
                        end(&later, &topic);
                    }
                };
                endpoint.any_shard().send(Command::RunAt { due_ms, run: Box::new(run) });
            }
        }
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl fmt::Debug for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ownership").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// Closes the topic's subscribers, on every shard.
fn end(endpoint: &Endpoint, topic: &Arc<str>) {
    for shard in endpoint.shards() {
        let topic = topic.clone();
        shard.send(Command::Run(Box::new(move |shard| shard.end_topic(&topic))));
    }
}
