//! What the server says of itself: whether it is ready, what it is, and how much it may hold.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use tokio::runtime::Handle;

use super::families;
use crate::contract::Contracts;
use crate::live::Health;
use crate::reload::Reloads;
use crate::tls::Certificates;
use crate::traces::Counts;

/// What does not change while it runs, and how it stands.
#[derive(Debug)]
pub(crate) struct ServerFigures {
    health: Health,
    contracts: Contracts,
    /// The runtime that channels' code waits on.
    runtime: Handle,
    reloads: Arc<Reloads>,
    certificates: Option<Arc<Certificates>>,
    spans: Arc<Counts>,
}

impl ServerFigures {
    pub(crate) fn new(
        health: Health,
        contracts: Contracts,
        reloads: Arc<Reloads>,
        certificates: Option<Arc<Certificates>>,
        spans: Arc<Counts>,
    ) -> Self {
        Self { health, contracts, runtime: Handle::current(), reloads, certificates, spans }
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
            let live = self.health.live.load();
            live.limits.iter().try_for_each(|(name, limit)| samples.gauge(&[name], *limit as f64))
        })?;
        let misfits = self.contracts.misfits();
        families::SCHEMA_MISFITS.encode(&mut encoder, |samples| {
            misfits.iter().try_for_each(|(channel, result, count)| samples.counter(&[channel.as_str(), result], *count))
        })?;
        let Reloads { done, refused, was_done, done_at_s } = &*self.reloads;
        families::CONFIG_RELOADS.encode(&mut encoder, |samples| {
            samples.counter(&["ok"], done.load(Ordering::Relaxed))?;
            samples.counter(&["refused"], refused.load(Ordering::Relaxed))
        })?;
        let was_done = was_done.load(Ordering::Relaxed);
        families::CONFIG_RELOADED.encode(&mut encoder, |samples| samples.gauge(&[], f64::from(u8::from(was_done))))?;
        families::CONFIG_RELOADED_AT
            .encode(&mut encoder, |samples| samples.gauge(&[], done_at_s.load(Ordering::Relaxed) as f64))?;
        families::CERTIFICATE_ENDS.encode(&mut encoder, |samples| {
            let ends = self.certificates.iter().flat_map(|certificates| certificates.ends());
            ends.into_iter().try_for_each(|(name, end)| {
                let since_epoch = end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                samples.gauge(&[&name], since_epoch.as_secs_f64())
            })
        })?;
        families::TRACE_SPANS.encode(&mut encoder, |samples| {
            self.spans.numbers().iter().try_for_each(|(result, count)| samples.counter(&[result], *count))
        })?;
        let tasks = self.runtime.metrics().num_alive_tasks();
        families::RUNTIME_TASKS.encode(&mut encoder, |samples| samples.gauge(&[], tasks as f64))
    }
}
