//! A hub: publishers whose frames go to all subscribers of their topic as they are. A topic is started by its first publisher,
//! and ends a grace after the last.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use fanfare_proto::hub::{self, ClaimError, OwnerId, Released, Topics};
use fanfare_proto::params::{Params, decode_path_segment};
use fanfare_proto::payload::{Payload, Text};
use fanfare_proto::websocket::decoder::Item;
use parking_lot::Mutex;

use super::Dialect;
use crate::close_reason::CloseReason;
use crate::cluster::NotHeld;
use crate::command::Command;
use crate::endpoint::Endpoint;
use crate::key::SocketKey;
use crate::message::Draft;
use crate::mount::Mount;
use crate::observer::SocketHandle;
use crate::socket::{Socket, SocketInfo, Turn};

impl Mount {
    /// A hub: one publisher at `<mount>/pub/<key>/<domain>/<topic>`, whose frames go as they are to every subscriber at
    /// `<mount>/sub/<domain>/<topic>`. What subscribers send is thrown away. The engine's topic is
    /// `hub:<domain>/<topic>`, with `%2F` and `%25` for `/` and `%` in the domain, and a frame counts as the event `message`.
    ///
    /// [`connect`](Mount::connect) decides who may: its params have `role` (`pub` or `sub`), `domain`, `topic`, and with a
    /// publisher `key`, unless that is `-` in the path. The default lets everybody publish.
    ///
    /// A publisher starts a topic of its domain; a second one is refused with 409. When it has gone, another may take over
    /// within the [grace](Mount::owner_grace); then the topic ends, and its subscribers are closed with 1000. A subscriber of
    /// a topic that nobody has started is refused with 404.
    pub fn hub() -> Self {
        let mut mount = Mount::new().longpoll(false).topic_prefix("hub:");
        mount.dialect = Dialect::HubSubscriber;
        mount
    }

    /// What is put before a [`hub`](Mount::hub)'s topics to name the engine's. Default: `hub:`.
    pub fn topic_prefix(mut self, prefix: &str) -> Self {
        self.topic_prefix = prefix.to_owned();
        self
    }

    /// How long a [`hub`](Mount::hub)'s topic waits for another publisher when its own has gone. Default 10 s; zero: not at
    /// all.
    pub fn owner_grace(mut self, grace: Duration) -> Self {
        self.owner_grace = grace;
        self
    }

    /// Whether subscribers of a [`hub`](Mount::hub) may come before the publisher. Default: no, they are refused with 404.
    pub fn waits_for_topic(mut self, on: bool) -> Self {
        self.waits_for_topic = on;
        self
    }

    /// Whether a publisher of a [`hub`](Mount::hub) takes the place of one with the same
    /// [name](crate::Connected::publisher), which may be half open: that one is closed with 4409. Default: no, it is refused
    /// with 409 like any other.
    pub fn replaces_publisher(mut self, on: bool) -> Self {
        self.replaces_publisher = on;
        self
    }
}

/// Why a client has no place at its topic.
#[derive(Debug)]
pub(crate) enum NoPlace {
    /// It has a publisher.
    Taken,
    /// There are as many topics as there may be.
    Full,
    /// Nobody has started it.
    Unknown,
    /// Nobody knows now.
    Unavailable,
}

/// What a path leads to; its parts become params. `None` where they are not UTF-8, or it is no hub's.
pub(super) fn role(rest: &[&str], params: &mut Params) -> Option<Dialect> {
    let (role, dialect, key, domain, topic) = match hub::Path::of(rest)? {
        hub::Path::Publish { key, domain, topic } => ("pub", Dialect::HubPublisher, key, domain, topic),
        hub::Path::Subscribe { domain, topic } => ("sub", Dialect::HubSubscriber, None, domain, topic),
    };
    params.insert("role", role);
    for (name, value) in [("key", key), ("domain", Some(domain)), ("topic", Some(topic))] {
        if let Some(value) = value {
            params.insert(name, decode_path_segment(value).ok()?.into_owned());
        }
    }
    Some(dialect)
}

/// The topic of a domain, by the parts of a path.
pub(super) fn topic(mount: &Mount, params: &Params) -> Arc<str> {
    let part = |name| params.str(name).unwrap_or_default();
    hub::topic_name(&mount.topic_prefix, part("domain"), part("topic")).into()
}

impl From<NotHeld> for NoPlace {
    fn from(not_held: NotHeld) -> Self {
        match not_held {
            NotHeld::Taken => NoPlace::Taken,
            NotHeld::Unavailable => NoPlace::Unavailable,
        }
    }
}

/// A publisher's hold on a topic, over all nodes.
pub(super) async fn claim(
    endpoint: &Endpoint,
    mount: &Mount,
    topic: &Arc<str>,
    name: Option<String>,
) -> Result<Ownership, NoPlace> {
    let name = name.filter(|_| mount.replaces_publisher);
    let claimed = endpoint.started().claim(endpoint, topic.clone(), name.clone(), mount.owner_grace);
    let ownership = claimed.map_err(|error| match error {
        ClaimError::Taken => NoPlace::Taken,
        ClaimError::Full => NoPlace::Full,
    })?;
    match endpoint.hold(topic, name.as_deref(), mount.owner_grace).await {
        Ok(()) => Ok(ownership),
        Err(not_held) => {
            ownership.abandon();
            Err(not_held.into())
        }
    }
}

/// Whether a topic may have subscribers.
pub(super) async fn is_open(endpoint: &Endpoint, mount: &Mount, topic: &str) -> Result<bool, NoPlace> {
    if mount.waits_for_topic || endpoint.started().contains(topic) {
        return Ok(true);
    }
    Ok(endpoint.is_held_elsewhere(topic).await?)
}

/// Whether it has ended since a subscriber was let in, as far as this node knows. Where another node may have it, that is asked, and the
/// subscriber closed later.
pub(super) fn has_ended(endpoint: &Endpoint, mount: &Mount, topic: &str) -> bool {
    if mount.waits_for_topic || endpoint.started().contains(topic) {
        return false;
    }
    let may_be_elsewhere = endpoint.has_other_nodes();
    if may_be_elsewhere {
        endpoint.ended_elsewhere(topic.into());
    }
    !may_be_elsewhere
}

/// A frame of a publisher.
pub(super) fn hear(socket: &mut Socket, turn: &mut Turn, item: Item<'_>) {
    let payload = match item {
        Item::Text(text) => Text::copy(text).into(),
        Item::Binary(data) => Payload::Binary(Bytes::copy_from_slice(data)),
        _ => return,
    };
    turn.received(socket.dialect);
    let Some(entry) = socket.session.entries().first() else { return };
    match Draft::new(entry.topic().clone(), &*socket.info.mount.event, payload) {
        Ok(draft) => socket.publish_unanswered(turn, draft),
        // The mount's event and the publisher's topic were checked, so it is the payload.
        Err(_) => socket.undecodable(turn, 0, "a frame that cannot be published"),
    }
}

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
    fn claim(
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
    fn abandon(&self) {
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
pub(crate) fn end(endpoint: &Endpoint, topic: &Arc<str>) {
    for shard in endpoint.shards() {
        let topic = topic.clone();
        shard.send(Command::Run(Box::new(move |shard| shard.end_topic(&topic))));
    }
}
