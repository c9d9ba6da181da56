//! NATS, as the suite of all brokers tries it.

use std::sync::Arc;

use super::{MESSAGE_SIZE_MAX, Service, broker, logs, nats_server, no_logs};
use crate::broker::suite::Subject;
use crate::broker::{Deliver, ENVELOPE_OVERHEAD_MAX, Incarnation, Logs, Parts};

/// One server, which keeps nothing.
pub(in crate::broker) fn core() -> Single {
    Single { service: nats_server::start(), logs: no_logs() }
}

/// One server with a JetStream.
pub(in crate::broker) fn jetstream() -> Single {
    Single { service: nats_server::start_jetstream(), logs: logs() }
}

/// One server.
pub(in crate::broker) struct Single {
    service: Service,
    logs: Logs,
}

impl Subject for Single {
    fn open(&self, incarnation: Incarnation, deliver: Arc<dyn Deliver>) -> Parts {
        broker(&self.service).open(incarnation, deliver, self.logs.clone()).unwrap()
    }

    fn counts_receivers(&self) -> bool {
        false
    }

    fn keeps_the_order_of_logs(&self) -> bool {
        // Version 2.9.10 hands a message on late now and then, where several publish.
        false
    }

    fn envelope_size_max(&self) -> Option<usize> {
        Some(MESSAGE_SIZE_MAX + ENVELOPE_OVERHEAD_MAX)
    }
}
