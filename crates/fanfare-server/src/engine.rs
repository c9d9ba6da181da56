//! From the configuration to the running engine.

use std::sync::Arc;

use fanfare::{Endpoint, Pattern};

use crate::apikey::Watch;
use crate::auth::AuthFigures;
use crate::bridge::Bridge;
use crate::broker;
use crate::config::Config;
use crate::connections::{Audience, Connections};
use crate::contract::Contracts;
use crate::expiry::Expiry;
use crate::health::{Part, State};
use crate::memory;
use crate::source::{self, Sources};
use crate::traces::Traces;
use crate::webhook::Webhook;

mod equipment;
mod mounts;

pub(crate) use equipment::{Equipment, Seen, Unbuilt};
pub(crate) use mounts::origins;

use equipment::{Known, Shared, assemble, lookups, names_sockets};

/// The running engine, and what is to be told of its surroundings.
pub(crate) struct Engine {
    pub(crate) endpoint: Endpoint,
    /// What can be exchanged while it runs.
    pub(crate) equipment: Equipment,
    /// To be finished once nothing happens any more.
    pub(crate) webhooks: Vec<Arc<Webhook>>,
    pub(crate) connections: Connections,
    /// The topics that somebody can be in.
    pub(crate) topics: Vec<Pattern>,
    /// What may be sent to them.
    pub(crate) contracts: Contracts,
    /// Not yet started.
    pub(crate) sources: Sources,
    /// How credentials were judged.
    pub(crate) auth_figures: AuthFigures,
    /// What may have something to tell others before the end.
    pub(crate) bridge: Option<Bridge>,
}

/// Builds the engine and takes out of the configuration what belongs to it.
/// `given` is the broker of a node that shares it with others in this process. All is made but the engine itself before `may_open` is waited
/// for: a process that is to be taken over has its histories up to then.
pub(crate) async fn build(
    config: &mut Config,
    given: Option<fanfare::Broker>,
    traces: Arc<Traces>,
    may_open: impl Future<Output = Result<(), String>>,
) -> Result<Engine, String> {
    let mut shared = Shared { lookups: lookups(config)?, ..Shared::default() };
    let broker = match (given, &config.broker) {
        (None, Some(settings)) => Some(broker::settled(settings, config.limits.message_size_max.0 as usize)?),
        (given, _) => given,
    };
    let broker = broker.map(|broker| config.cluster.introduced(broker));
    shared.standings = source::standings(&config.sources);
    shared.node = broker.is_some().then(|| config.cluster.name().into());
    shared.bridge = config.bridge.as_ref().map(Bridge::start).transpose()?;
    let webhooks = std::mem::take(&mut config.webhooks).into_iter();
    let webhooks = webhooks.map(|settings| Webhook::start(settings, shared.client.get()?));
    let webhooks = webhooks.collect::<Result<Vec<Arc<Webhook>>, String>>()?;
    let mut assembled = assemble(config, &shared, &Known::default(), &|_| false).await?;
    let mut builder = Endpoint::builder().tracer(traces);
    for lookup in shared.lookups.values() {
        builder = builder.observer(Watch::start(lookup.clone()));
    }
    for (pattern, policy) in &assembled.policies {
        builder = builder.policy(pattern, policy.clone());
    }
    builder = builder.history(config.history.settled());
    if let Some(broker) = broker {
        builder = builder.broker(broker);
    }
    let limits = &config.limits;
    builder = builder
        .sessions_max(limits.sessions_max.0 as usize)
        .sessions_per_address_max(limits.sessions_per_address_max.0 as usize)
        .bodies_bytes_max(limits.bodies_bytes_max() as usize)
        .body_timeout(limits.body_timeout.0)
        .publishing_waiting_max(limits.publishing_waiting_max.0 as usize)
        .publishing_waiting_bytes_max(limits.publishing_waiting_bytes_max.0 as usize)
        .publishing_timeout(limits.publishing_timeout.0)
        .outboxes_bytes_max(usize::try_from(limits.outboxes_bytes_max(memory::available())).unwrap_or(usize::MAX))
        .inboxes_bytes_max(usize::try_from(limits.inboxes_bytes_max(memory::available())).unwrap_or(usize::MAX));
    if let Some(shards) = config.server.shards {
        builder = builder.shards(shards.0 as usize);
    }
    if let Some(rate) = config.limits.accept_rate {
        let burst = config.limits.accept_burst.map_or(rate.0, |burst| burst.0);
        let count = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        builder = builder.accept_rate(count(rate.0), count(burst));
    }
    builder = builder
        .accept_rate_per_address(limits.accept_rate_per_address())
        .keys_max(usize::try_from(limits.keys_max.0).unwrap_or(usize::MAX))
        .quotas(config.tenant.quotas(&config.tenants));
    let checks_credentials = assembled.checks_credentials;
    if checks_credentials {
        builder = builder.observer(Expiry::start());
    }
    for webhook in &webhooks {
        builder = builder.observer(webhook.observer());
    }
    for (path, mount) in std::mem::take(&mut assembled.mounts) {
        builder = builder.mount(&path, mount);
    }
    let sources = Sources::new(std::mem::take(&mut config.sources), &shared.standings, shared.contracts.clone());
    let key = config.bridge.as_mut().and_then(|bridge| bridge.key.take());
    let bridge = shared.bridge.clone();
    let audience = bridge.clone().map(|bridge| Box::new(bridge) as Box<dyn Audience>);
    let connections = Connections::new(key, audience);
    // Sockets without a key are in no table, and the engine has less to do where nobody observes.
    let names_sockets = bridge.is_some() || config.endpoints.iter().any(names_sockets);
    if names_sockets {
        builder = builder.observer(connections.clone());
    }
    may_open.await?;
    let endpoint = builder.build().await.map_err(|error| error.to_string())?;
    enroll(&endpoint, &webhooks, bridge.as_ref());
    let mut parts: Vec<Arc<dyn Part>> = Vec::new();
    parts.extend(shared.lookups.values().map(|lookup| lookup.clone() as Arc<dyn Part>));
    parts.extend(webhooks.iter().map(|webhook| webhook.clone() as Arc<dyn Part>));
    parts.extend(bridge.iter().map(|bridge| bridge.publisher.part()));
    parts.extend(sources.parts());
    if config.history.dir.is_some() {
        parts.push(Arc::new(Histories(endpoint.clone())));
    }
    let topics = std::mem::take(&mut assembled.topics);
    let (contracts, auth_figures) = (shared.contracts.clone(), shared.auth_figures.clone());
    let (known, policies) = assembled.begin(&shared);
    let equipment = Equipment {
        endpoint: endpoint.clone(),
        shared,
        known,
        policies,
        webhooks: webhooks.clone(),
        checks_credentials,
        names_sockets,
        parts,
    };
    Ok(Engine { endpoint, equipment, webhooks, connections, topics, contracts, sources, auth_figures, bridge })
}

/// Webhooks of one name, and the bridges, tell as one over all nodes.
fn enroll(endpoint: &Endpoint, webhooks: &[Arc<Webhook>], bridge: Option<&Bridge>) {
    for (number, webhook) in webhooks.iter().enumerate() {
        let name = webhook.name();
        // Of those that have one name in one file each tells for itself.
        let before = webhooks[..number].iter().filter(|other| other.name() == name).count();
        webhook.enroll(endpoint, &format!("webhook {before} {name}"));
    }
    bridge.into_iter().for_each(|bridge| bridge.enroll(endpoint));
}

/// The store of histories in a directory, as the health report tells of it.
#[derive(Debug)]
struct Histories(Endpoint);

impl Part for Histories {
    fn kind(&self) -> &'static str {
        "history"
    }

    fn name(&self) -> &str {
        "dir"
    }

    fn is_needed(&self) -> bool {
        true
    }

    fn state(&self) -> State {
        if self.0.is_history_failing() { State::Unavailable } else { State::Ok }
    }
}
