//! How the parts stand that depend on others, and what they have counted.

use std::fmt;

use fanfare::metrics::Family;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::families;
use crate::auth::AuthFigures;
use crate::health::State;
use crate::live::InForce;

/// The parts of the server.
#[derive(Debug)]
pub(super) struct PartFigures(pub(super) InForce);

/// Which metric has the counters of a kind of part.
const BY_KIND: [(&str, &Family); 6] = [
    ("hooks", &families::HOOK_REQUESTS),
    ("webhooks", &families::WEBHOOK_EVENTS),
    ("sources", &families::SOURCE_MESSAGES),
    ("stores", &families::KEY_LOOKUPS),
    ("bridge", &families::BRIDGE_MESSAGES),
    ("certificates", &families::CERTIFICATE_ORDERS),
];

/// How credentials were judged.
#[derive(Debug)]
pub(super) struct Credentials(pub(super) AuthFigures);

impl Collector for Credentials {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        families::AUTH.encode(&mut encoder, |samples| {
            for (name, counts) in self.0.all() {
                counts.numbers().try_for_each(|(result, count)| samples.counter(&[&name, result], count))?;
            }
            Ok(())
        })
    }
}

impl Collector for PartFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let live = self.0.load();
        families::PART_UP.encode(&mut encoder, |samples| {
            live.parts.iter().try_for_each(|part| {
                let is_up = part.state() != State::Unavailable;
                samples.gauge(&[part.kind(), part.name()], f64::from(u8::from(is_up)))
            })
        })?;
        for (kind, family) in BY_KIND {
            family.encode(&mut encoder, |samples| {
                for part in live.parts.iter().filter(|part| part.kind() == kind) {
                    for (result, count) in part.counters() {
                        samples.counter(&[part.name(), result], count)?;
                    }
                }
                Ok(())
            })?;
        }
        families::HOOK_SECONDS.encode(&mut encoder, |samples| {
            let hooks = live.parts.iter().filter_map(|part| Some((part.name(), part.timings()?)));
            hooks.into_iter().try_for_each(|(name, timings)| samples.timings(&[name], timings))
        })?;
        families::SOURCE_LAG.encode(&mut encoder, |samples| {
            let sources = live.parts.iter().filter_map(|part| Some((part.name(), part.lag()?)));
            sources.into_iter().try_for_each(|(name, lag)| samples.gauge(&[name], lag.as_secs_f64()))
        })?;
        families::WEBHOOK_QUEUED.encode(&mut encoder, |samples| {
            let webhooks = live.parts.iter().filter_map(|part| Some((part.name(), part.waiting()?)));
            webhooks.into_iter().try_for_each(|(name, waiting)| samples.gauge(&[name], waiting as f64))
        })
    }
}
