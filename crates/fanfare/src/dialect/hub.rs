//! A hub: publishers whose frames go to all subscribers of their topic as they are. A topic is started by its first publisher,
//! and ends a grace after the last.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fanfare_proto::hub::{self, ClaimError, OwnerId, Released, Topics};
use fanfare_proto::params::{Params, decode_path_segment};
use fanfare_proto::payload::{Payload, Text};
use fanfare_proto::websocket::decoder::Item;
use parking_lot::Mutex;

use super::Dialect;
use crate::command::Command;
use crate::endpoint::Endpoint;
use crate::event::Event;
use crate::message::Draft;
use crate::mount::Mount;
use crate::socket::{Socket, Turn};

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

/// A publisher's hold on a topic.
pub(super) fn claim(endpoint: &Endpoint, mount: &Mount, topic: &Arc<str>) -> Result<Ownership, NoPlace> {
    endpoint.started().claim(endpoint, topic.clone(), mount.owner_grace).map_err(|error| match error {
        ClaimError::Taken => NoPlace::Taken,
        ClaimError::Full => NoPlace::Full,
    })
}

/// Whether a topic may have subscribers.
pub(super) fn is_open(endpoint: &Endpoint, mount: &Mount, topic: &str) -> bool {
    mount.waits_for_topic || endpoint.started().contains(topic)
}

/// A frame of a publisher.
pub(super) fn hear(socket: &mut Socket, turn: &mut Turn, item: Item<'_>) {
    let payload = match item {
        Item::Text(text) => Text::copy(text).into(),
        Item::Binary(data) => Payload::Binary(Bytes::copy_from_slice(data)),
        _ => return,
    };
    turn.count(Event::Received);
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
pub(crate) struct Started(Mutex<Topics>);

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

    /// The new ownership of a topic, which ends a grace after it was given up.
    fn claim(&self, endpoint: &Endpoint, topic: Arc<str>, grace: Duration) -> Result<Ownership, ClaimError> {
        let owner = self.0.lock().claim(&topic)?;
        let endpoint = endpoint.clone();
        Ok(Ownership { endpoint, topic, owner, grace, is_given_up: AtomicBool::new(false) })
    }
}

/// A publisher's hold on its topic: given up when its socket is closed, or when it never came to be.
pub(crate) struct Ownership {
    endpoint: Endpoint,
    topic: Arc<str>,
    owner: OwnerId,
    grace: Duration,
    is_given_up: AtomicBool,
}

impl Ownership {
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
