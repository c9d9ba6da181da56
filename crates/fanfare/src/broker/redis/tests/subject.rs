//! Redis, as the suite of all brokers tries it.

use std::sync::Arc;

use super::{MESSAGE_SIZE_MAX, Service, at_url, redis_server};
use crate::broker::suite::Subject;
use crate::broker::{Deliver, ENVELOPE_OVERHEAD_MAX, Incarnation, Parts};

/// One server.
pub(in crate::broker) fn single() -> Servers {
    Servers { services: vec![redis_server::start()], is_cluster: false }
}

/// Three that know nothing of each other.
pub(in crate::broker) fn several() -> Servers {
    Servers { services: (0..3).map(|_| redis_server::start()).collect(), is_cluster: false }
}

/// Three masters of a cluster.
pub(in crate::broker) fn cluster() -> Servers {
    Servers { services: redis_server::start_cluster(0), is_cluster: true }
}

pub(in crate::broker) struct Servers {
    services: Vec<Service>,
    is_cluster: bool,
}

impl Servers {
    pub(super) fn url(&self) -> String {
        let urls: Vec<_> = self.services.iter().map(|service| format!("redis://127.0.0.1:{}", service.port)).collect();
        // One knows the others.
        if self.is_cluster { urls[0].replace("redis://", "redis+cluster://") } else { urls.join(",") }
    }
}

impl Subject for Servers {
    fn open(&self, incarnation: Incarnation, deliver: Arc<dyn Deliver>) -> Parts {
        at_url(&self.url()).open(incarnation, deliver).unwrap()
    }

    fn links(&self) -> usize {
        self.services.len()
    }

    fn envelope_size_max(&self) -> Option<usize> {
        Some(MESSAGE_SIZE_MAX + ENVELOPE_OVERHEAD_MAX)
    }

    fn ends_connections_of(&self, _node: Incarnation) -> bool {
        // There is nobody else's.
        self.services.iter().for_each(|service| drop(service.redis(&["CLIENT", "KILL", "TYPE", "pubsub"])));
        true
    }

    fn evict(&self, topic: &str, only_messages: bool) -> bool {
        let kinds = if only_messages { &["s"][..] } else { &["s", "m"] };
        for (service, kind) in self.services.iter().flat_map(|service| kinds.iter().map(move |kind| (service, kind))) {
            service.redis(&["DEL", &format!("ff:{kind}:{{{topic}}}")]);
        }
        true
    }
}
