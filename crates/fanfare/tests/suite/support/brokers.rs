//! The brokers that nodes may have between them, each started for a test; and tests that are the same for all.

use fanfare::{Broker, MemoryBroker};

#[cfg(feature = "nats")]
#[path = "../../../../fanfare-server/tests/server/services/nats_server.rs"]
#[allow(dead_code, reason = "shared with other tests, which use more of it")]
mod nats_server;
#[cfg(any(feature = "nats", feature = "redis"))]
#[path = "../../../../fanfare-server/tests/server/services/process.rs"]
#[allow(dead_code, reason = "shared as well")]
pub(crate) mod process;
#[cfg(feature = "redis")]
#[path = "../../../../fanfare-server/tests/server/services/redis_server.rs"]
#[allow(dead_code, reason = "shared as well")]
pub(crate) mod redis_server;

/// A broker that runs for as long as this lives.
pub(crate) enum AnyBroker {
    Memory(MemoryBroker),
    #[cfg(feature = "nats")]
    Nats(process::Service),
    #[cfg(feature = "redis")]
    Redis(process::Service),
}

impl AnyBroker {
    pub(crate) fn memory() -> Self {
        AnyBroker::Memory(MemoryBroker::new().unwrap())
    }

    #[cfg(feature = "nats")]
    pub(crate) fn nats() -> Self {
        AnyBroker::Nats(nats_server::start())
    }

    /// One with these lines of configuration.
    #[cfg(feature = "nats")]
    pub(crate) fn nats_with(lines: &str) -> Self {
        AnyBroker::Nats(nats_server::start_with(lines))
    }

    /// A NATS that keeps logs and registers.
    #[cfg(feature = "nats")]
    pub(crate) fn jetstream() -> Self {
        AnyBroker::Nats(nats_server::start_jetstream())
    }

    #[cfg(feature = "redis")]
    pub(crate) fn redis() -> Self {
        AnyBroker::Redis(redis_server::start())
    }

    /// As a node is given it.
    pub(crate) fn broker(&self) -> Broker {
        match self {
            AnyBroker::Memory(broker) => Broker::memory(broker),
            #[cfg(feature = "nats")]
            AnyBroker::Nats(service) => {
                Broker::nats(&fanfare::NatsBroker::new(&format!("nats://127.0.0.1:{}", service.port)))
            }
            #[cfg(feature = "redis")]
            AnyBroker::Redis(service) => {
                Broker::redis(&fanfare::RedisBroker::new(&format!("redis://127.0.0.1:{}", service.port)))
            }
        }
    }
}

/// Makes a test for each broker of each of these, which `two_nodes` gives what they take.
macro_rules! on_each_broker {
    ($($name:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                let broker = super::AnyBroker::memory();
                super::$name(super::two_nodes(&broker).await).await;
            })+
        }

        #[cfg(feature = "nats")]
        mod nats {
            $(#[tokio::test]
            async fn $name() {
                let broker = super::AnyBroker::nats();
                super::$name(super::two_nodes(&broker).await).await;
            })+
        }

        #[cfg(feature = "redis")]
        mod redis {
            $(#[tokio::test]
            async fn $name() {
                let broker = super::AnyBroker::redis();
                super::$name(super::two_nodes(&broker).await).await;
            })+
        }
    };
}

pub(crate) use on_each_broker;
