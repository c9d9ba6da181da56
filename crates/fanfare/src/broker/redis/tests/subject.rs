//! Redis, as the suite of all brokers tries it.

use std::sync::Arc;

use super::{MESSAGE_SIZE_MAX, Service, broker, redis_server};
use crate::broker::suite::Subject;
use crate::broker::{Deliver, ENVELOPE_OVERHEAD_MAX, Incarnation, Parts};

/// One server.
pub(in crate::broker) fn single() -> Single {
    Single(redis_server::start())
}

/// One server.
pub(in crate::broker) struct Single(Service);

impl Subject for Single {
    fn open(&self, incarnation: Incarnation, deliver: Arc<dyn Deliver>) -> Parts {
        broker(&self.0).open(incarnation, deliver).unwrap()
    }

    fn envelope_size_max(&self) -> Option<usize> {
        Some(MESSAGE_SIZE_MAX + ENVELOPE_OVERHEAD_MAX)
    }

    fn evict(&self, topic: &str, only_messages: bool) -> bool {
        for kind in ["s", "m"].iter().take(if only_messages { 1 } else { 2 }) {
            self.0.redis(&["DEL", &format!("ff:{kind}:{{{topic}}}")]);
        }
        true
    }
}
