//! A hub: publishers whose frames go to all subscribers of their topic as they are. A topic is started by its first publisher,
//! and ends a grace after the last.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fanfare_proto::hub::{self, ClaimError};
use fanfare_proto::params::{Params, decode_path_segment};
use fanfare_proto::payload::{Payload, Text};
use fanfare_proto::websocket::decoder::Item;

use crate::cluster::NotHeld;
use crate::dialect::Dialect;
use crate::endpoint::{Endpoint, Ownership};
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

    /// Whether it is one.
    pub(crate) fn is_hub(&self) -> bool {
        self.dialect == Dialect::HubSubscriber
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
    socket.count_received(turn);
    if socket.weigh(turn, payload.size(), true).is_err() {
        return;
    }
    let Some(entry) = socket.session.entries().first() else { return };
    match Draft::new(entry.topic().clone(), &*socket.info.mount.event, payload) {
        Ok(draft) => socket.publish_unanswered(turn, draft),
        // The mount's event and the publisher's topic were checked, so it is the payload.
        Err(_) => socket.undecodable(turn, 0, "a frame that cannot be published"),
    }
}
