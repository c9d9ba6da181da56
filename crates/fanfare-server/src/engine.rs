//! From the configuration to the running engine.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, OnceLock};

use fanfare::{Endpoint, Mount, OriginPolicy, Pattern, Policy};

use crate::apikey::lookup::{Lifetimes, Lookup};
use crate::apikey::{Watch, store};
use crate::auth::{Authenticator, Gate, Resources};
use crate::bridge::{Bridge, Publisher};
use crate::broker;
use crate::channel::Declared;
use crate::config::Config;
use crate::config::channel::Channel as ChannelSettings;
use crate::config::endpoint::{Endpoint as Settings, Protocol, Transport};
use crate::config::keys::Keys;
use crate::config::server::PublicUrl;
use crate::config::value::OneOrMore;
use crate::connections::{Audience, Connections};
use crate::contract::{Contract, Contracts, Document};
use crate::expiry::Expiry;
use crate::health::{Part, State};
use crate::hook::{Hook, Hooks};
use crate::http_client::Client;
use crate::routes::{self, Apart, Route};
use crate::source::Sources;
use crate::supabase;
use crate::webhook::Webhook;

/// The running engine, and what is to be told of its surroundings.
pub(crate) struct Engine {
    pub(crate) endpoint: Endpoint,
    /// What depends on others: key sets from the network, hooks, webhooks, the disk.
    pub(crate) parts: Vec<Arc<dyn Part>>,
    /// To be finished once nothing happens any more.
    pub(crate) webhooks: Vec<Arc<Webhook>>,
    pub(crate) connections: Connections,
    /// The topics that somebody can be in.
    pub(crate) topics: Vec<Pattern>,
    /// What may be sent to them.
    pub(crate) contracts: Contracts,
    /// Not yet started.
    pub(crate) sources: Sources,
    /// What may have something to tell others before the end.
    pub(crate) publisher: Option<Publisher>,
}

/// Whether the sockets of an endpoint have ids.
fn names_sockets(settings: &Settings) -> bool {
    settings.socket_id.is_some() || settings.protocol == Protocol::Bullet
}

/// Those of the configuration, by name.
type Authenticators = BTreeMap<String, Arc<Authenticator>>;

/// Builds the engine and takes out of the configuration what belongs to it.
/// `given` is the broker of a node that shares it with others in this process.
pub(crate) async fn build(config: &mut Config, given: Option<fanfare::Broker>) -> Result<Engine, String> {
    let client = SharedClient::default();
    let (lookups, hooks, webhooks) = (lookups(config)?, hooks(config, &client)?, webhooks(config, &client)?);
    let (authenticators, mut parts) = authenticators(config, &lookups, &hooks, &client).await?;
    parts.extend(lookups.values().map(|lookup| lookup.clone() as Arc<dyn Part>));
    parts.extend(hooks.values().map(|hook| hook.clone() as Arc<dyn Part>));
    parts.extend(webhooks.iter().map(|webhook| webhook.clone() as Arc<dyn Part>));
    let channels = std::mem::take(&mut config.channels);
    let realtime = Arc::new(supabase::Channels::new(&channels, &hooks));
    let (private, channels): (Vec<_>, Vec<_>) = channels.into_iter().partition(|channel| channel.private);
    let limits = &config.limits;
    let broker = match (given, &config.broker) {
        (None, Some(settings)) => Some(broker::settled(settings, limits.message_size_max.0 as usize)?),
        (given, _) => given,
    };
    let node = broker.is_some().then(|| config.cluster.name().into());
    let declared = |channel: ChannelSettings| {
        let contract = Contract::open(&channel).map_err(|text| format!("channel.schemas: {text}"))?;
        Ok::<_, String>(Declared::new(channel, &hooks, contract, node.as_ref()))
    };
    let channels = channels.into_iter().map(declared).collect::<Result<Vec<Declared>, _>>()?;
    let of_channels = channels.iter().map(|channel| (channel.patterns().cloned().collect(), channel.contract()));
    let mut document = Document::default();
    channels.iter().for_each(|channel| channel.describe(&mut document));
    let contracts = Contracts::new(of_channels, document);
    let mut builder = Endpoint::builder();
    for (name, lookup) in &lookups {
        builder = builder.observer(Watch::start(lookup.clone(), config.keys[name].revoke_closes));
    }
    let served = channels.iter().flat_map(|channel| channel.patterns().map(move |pattern| (pattern, channel)));
    let topics = routes::known(channels.iter().flat_map(Declared::patterns), &config.endpoints);
    let routes = routes::routes(served, &config.endpoints);
    for channel in private {
        let patterns: Vec<_> = supabase::engine_patterns(&channel).collect();
        let policy = declared(channel)?.policy();
        builder = patterns.iter().fold(builder, |builder, pattern| builder.policy(pattern, policy.clone()));
    }
    for (pattern, channel) in &routes {
        let policy = channel.map_or_else(Policy::new, Declared::policy);
        builder = builder.policy(&pattern.to_string(), policy);
    }
    builder = builder.history(config.history.settled());
    if let Some(broker) = broker {
        builder = builder.broker(broker);
    }
    builder = builder
        .bodies_bytes_max(limits.bodies_bytes_max() as usize)
        .body_timeout(limits.body_timeout.0)
        .publishing_waiting_max(limits.publishing_waiting_max.0 as usize)
        .publishing_waiting_bytes_max(limits.publishing_waiting_bytes_max.0 as usize)
        .publishing_timeout(limits.publishing_timeout.0);
    if let Some(shards) = config.server.shards {
        builder = builder.shards(shards.0 as usize);
    }
    if let Some(rate) = config.limits.accept_rate {
        let burst = config.limits.accept_burst.map_or(rate.0, |burst| burst.0);
        let count = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        builder = builder.accept_rate(count(rate.0), count(burst));
    }
    let bridge = config.bridge.as_ref().map(Bridge::start).transpose()?;
    if !authenticators.is_empty() {
        builder = builder.observer(Expiry::start());
    }
    for webhook in &webhooks {
        builder = builder.observer(webhook.observer());
    }
    for settings in &config.endpoints {
        let mut mount = mount(settings, config, &routes, &authenticators, &realtime);
        if let (Protocol::Bullet, Some(bridge)) = (settings.protocol, &bridge) {
            mount = bridge.forward_from(mount);
        }
        builder = builder.mount(&settings.path.0, mount);
    }
    let publisher = bridge.as_ref().map(|bridge| bridge.publisher.clone());
    parts.extend(publisher.iter().map(Publisher::part));
    let sources = Sources::new(std::mem::take(&mut config.sources), contracts.clone());
    parts.extend(sources.parts());
    let key = config.bridge.as_mut().and_then(|bridge| bridge.key.take());
    let connections = Connections::new(key, bridge.map(|bridge| Box::new(bridge) as Box<dyn Audience>));
    // Sockets without a key are in no table, and the engine has less to do where nobody observes.
    if publisher.is_some() || config.endpoints.iter().any(names_sockets) {
        builder = builder.observer(connections.clone());
    }
    let endpoint = builder.build().await.map_err(|error| error.to_string())?;
    if config.history.dir.is_some() {
        parts.push(Arc::new(Histories(endpoint.clone())));
    }
    Ok(Engine { endpoint, parts, webhooks, connections, topics, contracts, sources, publisher })
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

/// The client that all share who ask other servers, made when the first does.
#[derive(Default)]
struct SharedClient(OnceLock<Client>);

impl SharedClient {
    fn get(&self) -> Result<Client, String> {
        match self.0.get() {
            Some(client) => Ok(client.clone()),
            None => Client::new().map(|new| self.0.get_or_init(|| new).clone()),
        }
    }
}

fn hooks(config: &Config, client: &SharedClient) -> Result<Hooks, String> {
    let new = |(name, settings): (&String, _)| Ok((name.clone(), Arc::new(Hook::new(name, settings, client.get()?)?)));
    config.hooks.iter().map(new).collect()
}

fn webhooks(config: &mut Config, client: &SharedClient) -> Result<Vec<Arc<Webhook>>, String> {
    let settings = std::mem::take(&mut config.webhooks).into_iter();
    settings.map(|settings| Webhook::start(settings, client.get()?)).collect()
}

/// The stores of API keys that an `[auth.NAME]` names.
fn lookups(config: &Config) -> Result<BTreeMap<String, Arc<Lookup>>, String> {
    let named = |name: &String| config.auths.values().any(|auth| auth.keys.as_ref() == Some(name));
    let open = |(name, settings): (&String, &Keys)| {
        let store = store::open(settings).map_err(|error| format!("keys.{name}: {error}"))?;
        let lifetimes = Lifetimes { found: settings.cache.0, unknown: settings.cache_unknown.0 };
        let lookup = Lookup::new(name, store, lifetimes, settings.cache_entries_max.0 as usize);
        Ok((name.clone(), Arc::new(lookup)))
    };
    config.keys.iter().filter(|(name, _)| named(name)).map(open).collect()
}

/// Those that an endpoint names. Waits until each that takes its keys from the network has asked for them once.
async fn authenticators(
    config: &Config,
    lookups: &BTreeMap<String, Arc<Lookup>>,
    hooks: &Hooks,
    client: &SharedClient,
) -> Result<(Authenticators, Vec<Arc<dyn Part>>), String> {
    let (mut authenticators, mut parts) = (BTreeMap::new(), Vec::<Arc<dyn Part>>::new());
    let named: HashSet<&String> = config.endpoints.iter().flat_map(|endpoint| &endpoint.auth.0).collect();
    for (name, settings) in &config.auths {
        if !named.contains(name) {
            continue;
        }
        let resources = Resources { client: &|| client.get(), lookups, hooks };
        if let Some((authenticator, fetched)) = Authenticator::new(name, settings, resources).await? {
            authenticators.insert(name.clone(), authenticator);
            parts.extend(fetched.map(|fetched| fetched as Arc<dyn Part>));
        }
    }
    Ok((authenticators, parts))
}

fn mount(
    settings: &Settings,
    config: &Config,
    routes: &[Route<&Declared>],
    authenticators: &Authenticators,
    realtime: &Arc<supabase::Channels>,
) -> Mount {
    let limits = &config.limits;
    let named: Vec<_> = settings.auth.0.iter().filter_map(|name| authenticators.get(name).cloned()).collect();
    let is_supabase = settings.protocol == Protocol::Supabase;
    let mount = of_protocol(settings, || supabase::mount(settings, limits, named.clone(), realtime));
    let mount = match is_supabase {
        true => mount,
        false => mount
            .idle_timeout(settings.idle_timeout.0)
            .origin(origins(settings, config))
            .message_size_max(limits.message_size_max.0 as usize),
    };
    let mut mount = mount
        .compression(settings.compression)
        .body_size_max(limits.longpoll_body_size_max.0 as usize)
        .body_lines_max(limits.longpoll_messages_max.0 as usize)
        .joins_max(limits.joins_max.0 as usize)
        .waiting_frames_max(limits.waiting_frames_max.0 as usize)
        .waiting_bytes_max(limits.waiting_bytes_max.0 as usize)
        .outbox_bytes_max(limits.outbox_bytes_max.0 as usize)
        .outbox_frames_max(limits.outbox_frames_max.0 as usize)
        .write_timeout(limits.write_timeout.0);
    if is_supabase {
        return mount;
    }
    if !named.is_empty() || settings.protocol == Protocol::Bullet {
        let gate = Gate::new(named, settings);
        mount = mount.auth_token(true).connect(gate);
        if let Some(timeout) = &settings.credential_within {
            mount = mount.credential_timeout(timeout.0);
        }
    }
    for (pattern, channel) in routes.iter().filter(|_| settings.protocol.has_channels()) {
        mount = match channel {
            Some(channel) => mount.channel_with(channel.route(pattern)),
            None => mount.channel(&pattern.to_string(), Apart),
        };
    }
    mount
}

/// Whose pages may connect.
pub(crate) fn origins(settings: &Settings, config: &Config) -> OriginPolicy {
    match (&settings.origins.0, &config.server.public_url) {
        (OriginPolicy::SameAsRequest, Some(OneOrMore(urls))) => {
            OriginPolicy::List(urls.iter().map(|PublicUrl(origin)| origin.clone()).collect())
        }
        (policy, _) => policy.clone(),
    }
}

/// A mount with what concerns its protocol only.
fn of_protocol(settings: &Settings, supabase: impl FnOnce() -> Mount) -> Mount {
    let mount = match settings.protocol {
        Protocol::Phoenix => {
            let has =
                |transport| settings.transports.as_ref().is_none_or(|OneOrMore(given)| given.contains(&transport));
            Mount::new().websocket(has(Transport::Websocket)).longpoll(has(Transport::Longpoll))
        }
        Protocol::Hub => Mount::hub()
            .topic_prefix(&settings.topic_prefix)
            .owner_grace(settings.grace.0)
            .waits_for_topic(settings.wait_for_topic)
            .replaces_publisher(settings.replace),
        Protocol::Rooms => Mount::rooms().acks(settings.acks),
        Protocol::Bullet => Mount::bullet(),
        Protocol::Sse => Mount::stream(),
        Protocol::Supabase => supabase(),
    };
    let mount = mount.event(&settings.event.0);
    match &settings.longpoll_window {
        Some(window) => mount.longpoll_window(window.0),
        None => mount,
    }
}
