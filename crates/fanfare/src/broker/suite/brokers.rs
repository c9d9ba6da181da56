//! The brokers that are tried, a row each: how one is started, and which of the traits it has.

use std::sync::Arc;

use super::Subject;
#[cfg(feature = "nats")]
use crate::broker::nats::tests::subject as nats_at;
#[cfg(feature = "redis")]
use crate::broker::redis::tests::subject as redis_at;
use crate::broker::{Deliver, Incarnation, MemoryBroker, Parts};

macro_rules! conform {
    ($($(#[$attribute:meta])* $name:ident: $start:expr => $($suite:ident),+;)+) => { $(
        $(#[$attribute])*
        mod $name {
            use super::*;
            $(
                #[test]
                fn $suite() {
                    super::super::run(&$start, super::super::$suite::CASES);
                }
            )+
        }
    )+ };
}

conform! {
    memory: Memory(MemoryBroker::new().unwrap()) => transport, log, registers;
    #[cfg(feature = "nats")]
    nats: nats_at::core() => transport;
    #[cfg(feature = "nats")]
    jetstream: nats_at::jetstream() => transport, log, registers;
    #[cfg(feature = "redis")]
    redis: redis_at::single() => transport, log, registers;
    #[cfg(feature = "redis")]
    redis_cluster: redis_at::cluster() => transport, log, registers;
    #[cfg(feature = "redis")]
    several_redis: redis_at::several() => transport, log, registers;
}

struct Memory(MemoryBroker);

impl Subject for Memory {
    fn open(&self, incarnation: Incarnation, deliver: Arc<dyn Deliver>) -> Parts {
        self.0.open(incarnation, deliver)
    }

    fn ends_connections_of(&self, _node: Incarnation) -> bool {
        #[cfg(feature = "testing")]
        self.0.break_link(_node.number(), false);
        cfg!(feature = "testing")
    }

    fn evict(&self, _topic: &str, _only_messages: bool) -> bool {
        #[cfg(feature = "testing")]
        self.0.evict(_topic, _only_messages);
        cfg!(feature = "testing")
    }
}
