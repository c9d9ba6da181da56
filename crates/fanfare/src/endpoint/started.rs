//! The topics that publishers of hubs have started on this node: who owns each, and when it ends.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use fanfare_proto::hub::{ClaimError, OwnerId, Released, Topics};
use parking_lot::Mutex;

use super::Endpoint;
use crate::close_reason::CloseReason;
use crate::connect::{SocketHandle, SocketInfo};
use crate::key::SocketKey;
use crate::mailbox::Command;

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

    /// Whether a topic is started, and its publisher while that is connected.
    pub(crate) fn of(&self, topic: &str) -> Option<Option<SocketHandle>> {
        let topics = self.0.lock();
        let publisher = topics.get(topic)?;
        Some(publisher.and_then(|publisher| publisher.socket()))
    }

    /// Another node has a topic: its publisher here is closed.
    pub(crate) fn lose(&self, topic: &str, reason: CloseReason) {
        let publisher = self.0.lock().remove(topic);
        if let Some(SocketHandle { info, key }) = publisher.and_then(|publisher| publisher.socket()) {
            info.shard.send(Command::Close { socket: key, reason });
        }
    }

    /// Closes all publishers.
    pub(crate) fn close_all(&self, reason: &CloseReason) {
        for (_, publisher) in self.after(None, usize::MAX) {
            if let Some(SocketHandle { info, key }) = publisher {
                info.shard.send(Command::Close { socket: key, reason: reason.clone() });
            }
        }
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

    /// It did not come to be: nothing is told of it.
    pub(crate) fn abandon(&self) {
        self.is_given_up.store(true, Ordering::Release);
        let Ownership { endpoint, topic, owner, .. } = self;
        endpoint.started().0.lock().release(topic, *owner, endpoint.clock().now_ms(), 0);
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
            Released::Ended => over(endpoint, topic),
            Released::UntilMs(due_ms) => {
                endpoint.free_hold(topic);
                let (later, topic) = (endpoint.clone(), topic.clone());
                let run = move || {
                    let has_ended = later.started().0.lock().expire(&topic, later.clock().now_ms());
                    if has_ended {
                        over(&later, &topic);
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

/// Nobody on this node has the topic any more. It ends, unless another node has it.
fn over(endpoint: &Endpoint, topic: &Arc<str>) {
    if !endpoint.end_hold(topic) {
        end(endpoint, topic);
    }
}

/// Closes the topic's subscribers, on every shard.
pub(super) fn end(endpoint: &Endpoint, topic: &Arc<str>) {
    endpoint.shards().iter().for_each(|shard| shard.send(Command::EndTopic(topic.clone())));
}
