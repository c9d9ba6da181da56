//! A message as applications see it.

use std::fmt;
use std::sync::Arc;

use fanfare_proto::payload::Payload;

use super::Message;

/// A message as it was broadcast.
#[derive(Clone)]
pub struct Broadcast(pub(crate) Arc<Message>);

impl Broadcast {
    /// The topic it was broadcast on.
    pub fn topic(&self) -> &str {
        &self.0.topic
    }

    /// Its event.
    pub fn event(&self) -> &str {
        &self.0.event
    }

    /// Its payload.
    pub fn payload(&self) -> &Payload {
        &self.0.payload
    }

    /// Whether another one is this very message.
    pub(crate) fn is_same(&self, other: &Broadcast) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Broadcast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcast").field("topic", &self.topic()).field("event", &self.event()).finish_non_exhaustive()
    }
}
