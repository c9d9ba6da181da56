//! A message to be published, and what became of it.

use std::sync::Arc;

use fanfare_proto::payload::{IntoPayload, Payload};
use fanfare_proto::position::{Position, Since};

use crate::key::JoinId;
use crate::message::payload_of;

/// A message to be published by [`Endpoint::publish`](crate::Endpoint::publish).
#[derive(Debug, Clone)]
pub struct Publish {
    pub(crate) topic: Arc<str>,
    pub(crate) event: Arc<str>,
    /// Or why there is none.
    pub(crate) payload: Result<Payload, Box<str>>,
    pub(crate) except: Option<JoinId>,
    pub(crate) key: Option<Box<str>>,
    pub(crate) expected: Option<Since>,
    pub(crate) publisher: Publisher,
}

impl Publish {
    /// The longest [idempotency key](Publish::idempotency_key), in bytes.
    pub const KEY_SIZE_MAX: usize = 255;

    /// A message to all members of a topic, with anything that serializes to a JSON object, or binary. A payload that serde
    /// cannot serialize is an error of the publishing.
    pub fn new(topic: &str, event: &str, payload: impl IntoPayload) -> Self {
        Publish {
            topic: topic.into(),
            event: event.into(),
            payload: payload_of(event, payload).map_err(|error| error.to_string().into()),
            except: None,
            key: None,
            expected: None,
            publisher: Publisher::Rust,
        }
    }

    /// To all but one, see [`Context::id`](crate::Context::id).
    pub fn except(mut self, join: &JoinId) -> Self {
        self.except = Some(*join);
        self
    }

    /// Makes it safe to publish again when the answer was lost: a message with a key that the topic has seen in the last five
    /// minutes, among its last 1,024 keys, is not published, and the answer is where the first one stands. 1 to
    /// [`KEY_SIZE_MAX`](Publish::KEY_SIZE_MAX) bytes.
    pub fn idempotency_key(mut self, key: &str) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Counts the message as published by somebody else than the [code](Publisher::Rust) that publishes it.
    pub fn counted_as(mut self, publisher: Publisher) -> Self {
        self.publisher = publisher;
        self
    }

    /// Publishes only if the topic is at this position, so that nothing has come that the publisher has not seen.
    /// [`Since::Start`] expects a topic without messages.
    pub fn expect(mut self, position: Since) -> Self {
        self.expected = Some(position);
        self
    }
}

/// Who has published a message, as far as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Publisher {
    /// A member of the topic, by its channel.
    Client,
    /// The publisher of a hub's topic.
    Hub,
    /// The HTTP API of a server.
    Api,
    /// A source of a server: another system whose messages are published.
    Source,
    /// Code of the application.
    Rust,
    /// The engine itself, which tells of presences.
    Engine,
    /// Whoever has published it on another node.
    Node,
}

impl Publisher {
    /// Each of them.
    pub(crate) const ALL: [Publisher; 7] = [
        Publisher::Client,
        Publisher::Hub,
        Publisher::Api,
        Publisher::Source,
        Publisher::Rust,
        Publisher::Engine,
        Publisher::Node,
    ];

    /// The name under which it is counted.
    pub fn name(self) -> &'static str {
        match self {
            Publisher::Client => "client",
            Publisher::Hub => "hub",
            Publisher::Api => "api",
            Publisher::Source => "source",
            Publisher::Rust => "rust",
            Publisher::Engine => "engine",
            Publisher::Node => "node",
        }
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    pub(crate) position: Option<Position>,
    pub(crate) is_repeated: bool,
}

impl Published {
    /// Where it stands in its topic's history; `None` where it is kept in none.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Whether it was published before, with the same key.
    pub fn is_repeated(&self) -> bool {
        self.is_repeated
    }
}
