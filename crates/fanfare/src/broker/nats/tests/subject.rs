//! NATS, as the suite of all brokers tries it.

use std::sync::Arc;

use super::{MESSAGE_SIZE_MAX, Service, broker, nats_server};
use crate::broker::suite::Subject;
use crate::broker::{Deliver, ENVELOPE_OVERHEAD_MAX, Incarnation, Parts};

/// One server, which keeps nothing.
pub(in crate::broker) fn core() -> Core {
    Core(nats_server::start())
}

/// One server, which keeps nothing.
pub(in crate::broker) struct Core(Service);

impl Subject for Core {
    fn open(&self, incarnation: Incarnation, deliver: Arc<dyn Deliver>) -> Parts {
        broker(&self.0).open(incarnation, deliver).unwrap()
    }

    fn counts_receivers(&self) -> bool {
        false
    }

    fn envelope_size_max(&self) -> Option<usize> {
        Some(MESSAGE_SIZE_MAX + ENVELOPE_OVERHEAD_MAX)
    }
}
