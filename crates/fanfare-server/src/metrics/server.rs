//! What the server says of itself: whether it is ready, what it is, and how much it may hold.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use tokio::runtime::Handle;

use super::families;
use crate::config::Config;
use crate::live::Health;

/// What does not change while it runs, and how it stands.
#[derive(Debug)]
pub(crate) struct ServerFigures {
    health: Health,
    /// The runtime that channels' code waits on.
    runtime: Handle,
    limits: Vec<(&'static str, f64)>,
}

impl ServerFigures {
    /// Of a server that may have so many connections.
    pub(crate) fn new(health: Health, config: &Config, connections_max: u64) -> Self {
        let (limits, history) = (&config.limits, &config.history);
        let mut all = vec![
            ("connections_max", connections_max),
            ("connections_per_address_max", limits.connections_per_address_max.0),
            ("joins_max", limits.joins_max.0),
            ("message_size_max", limits.message_size_max.0),
            ("outbox_bytes_max", limits.outbox_bytes_max.0),
            ("outbox_frames_max", limits.outbox_frames_max.0),
            ("publishing_waiting_max", limits.publishing_waiting_max.0),
            ("publishing_waiting_bytes_max", limits.publishing_waiting_bytes_max.0),
            ("bodies_bytes_max", limits.bodies_bytes_max()),
            ("history_bytes_max", history.bytes_max.0),
            ("history_topics_max", history.topics_max.0),
        ];
        all.extend(limits.accept_rate.map(|rate| ("accept_rate", rate.0)));
        let limits = all.into_iter().map(|(name, limit)| (name, limit as f64)).collect();
        Self { health, runtime: Handle::current(), limits }
    }
}

impl Collector for ServerFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let is_ready = self.health.ready().0;
        families::READY.encode(&mut encoder, |samples| samples.gauge(&[], f64::from(u8::from(is_ready))))?;
        let commit = option_env!("FANFARE_COMMIT").unwrap_or("unknown");
        families::BUILD_INFO
            .encode(&mut encoder, |samples| samples.gauge(&[env!("CARGO_PKG_VERSION"), commit], 1.0))?;
        families::LIMIT.encode(&mut encoder, |samples| {
            self.limits.iter().try_for_each(|(name, limit)| samples.gauge(&[name], *limit))
        })?;
        let tasks = self.runtime.metrics().num_alive_tasks();
        families::RUNTIME_TASKS.encode(&mut encoder, |samples| samples.gauge(&[], tasks as f64))
    }
}
