//! What mounts are made of: hooks, authenticators, channels. It is kept from one configuration to the next as far as it is the same.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, OnceLock};

use fanfare::{Endpoint, Mount, Pattern, Policy, Quotas, Rate};

use super::mounts::{Common, mount};
use crate::apikey::lookup::{self, Lookup};
use crate::apikey::store;
use crate::auth::{AuthFigures, Authenticator, Fetched, Resources};
use crate::bridge::Bridge;
use crate::channel::{Declared, Settled, policy};
use crate::config::Config;
use crate::config::endpoint::{Endpoint as Settings, Protocol};
use crate::config::keys::Keys;
use crate::config::limits::rate;
use crate::contract::{Contract, Contracts, Document, OfChannel};
use crate::health::Part;
use crate::hook::{Hook, Hooks};
use crate::http_client::Client;
use crate::routes;
use crate::source::Standings;
use crate::supabase;
use crate::webhook::{self, Webhook};

/// Those of the configuration, by name.
pub(super) type Authenticators = BTreeMap<String, Arc<Authenticator>>;

/// What is shared by all that is made of one configuration after the other.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) client: SharedClient,
    pub(super) lookups: BTreeMap<String, Arc<Lookup>>,
    pub(super) bridge: Option<Bridge>,
    pub(super) realtime: supabase::InForce,
    pub(super) contracts: Contracts,
    pub(super) standings: Standings,
    pub(super) auth_figures: AuthFigures,
    /// What this node of a cluster is called.
    pub(super) node: Option<Arc<str>>,
}

/// What can be used again where a section of the configuration has not changed.
#[derive(Default)]
pub(super) struct Known {
    hooks: Hooks,
    fetched: BTreeMap<String, Arc<Fetched>>,
    channels: Vec<Declared>,
    /// Those that the configuration has no more, and sockets that are open may still ask for.
    ended: Vec<Declared>,
}

/// A channel that mounts have routes to.
pub(super) struct Served {
    pub(super) declared: Declared,
    patterns: Vec<Pattern>,
    policy: Policy,
    /// What members may send into each of its topics.
    pub(super) rate: Option<Rate>,
}

/// All that is made of a configuration, not yet in force.
pub(super) struct Assembled {
    pub(super) mounts: Vec<(String, Mount)>,
    pub(super) policies: Vec<(String, Policy)>,
    pub(super) topics: Vec<Pattern>,
    /// Whether any endpoint checks credentials.
    pub(super) checks_credentials: bool,
    pub(super) known: Known,
    /// The channels that were known before, and what they go by from now on.
    settled: Vec<(Declared, Settled)>,
    realtime: supabase::Channels,
    contracts: (Vec<OfChannel>, Document),
}

/// Whether a section of the configuration, such as `auth.main`, is as it was.
pub(super) type IsSame<'s> = &'s (dyn Fn(&str) -> bool + Sync);

/// Makes all of a configuration, with what is known that has not changed.
pub(super) async fn assemble(
    config: &mut Config,
    shared: &Shared,
    known: &Known,
    is_same: IsSame<'_>,
) -> Result<Assembled, String> {
    let hooks = hooks(config, shared, known, is_same)?;
    let kept = known.fetched.iter().filter(|(name, _)| is_same(&format!("auth.{name}")));
    let kept = kept.map(|(name, fetched)| (name.clone(), fetched.clone())).collect();
    let (authenticators, fetched) = authenticators(config, shared, &hooks, &kept).await?;
    let channels = std::mem::take(&mut config.channels);
    let realtime = supabase::Channels::new(&channels, &hooks);
    let (private, channels): (Vec<_>, Vec<_>) = channels.into_iter().partition(|channel| channel.private);
    let (mut served, mut settled) = (Vec::new(), Vec::new());
    let (mut contracts, mut document) = (Vec::new(), Document::new(config));
    for settings in channels {
        let (patterns, policy): (Vec<_>, _) = (settings.patterns().cloned().collect(), policy(&settings));
        let publish_rate = settings.publish_rate.map(|per_second| rate(per_second.0, 2 * per_second.0));
        let contract = Contract::new(&settings);
        document.add(&settings, contract.as_ref());
        let contract = contract.map(Arc::new);
        contracts.push((patterns.clone(), contract.clone()));
        let mut of_before = known.channels.iter().chain(&known.ended);
        let of_before = of_before.find(|declared| declared.is_of(&settings)).cloned();
        let new = Settled::new(settings, &hooks, contract, shared.node.as_ref());
        let declared = match of_before {
            Some(declared) => {
                settled.push((declared.clone(), new));
                declared
            }
            None => Declared::new(new),
        };
        served.push(Served { declared, patterns, policy, rate: publish_rate });
    }
    let is_kept = |old: &&Declared| settled.iter().any(|(declared, _)| declared.is(old));
    let of_before = known.channels.iter().chain(&known.ended);
    let ended: Vec<_> = of_before.filter(|old| !is_kept(old) && old.is_used()).cloned().collect();
    let topics = routes::known(served.iter().flat_map(|served| &served.patterns), &config.endpoints);
    let patterns = served.iter().flat_map(|served| served.patterns.iter().map(move |pattern| (pattern, served)));
    let routes = routes::routes(patterns, &config.endpoints);
    let of_private = private.iter().flat_map(|channel| {
        supabase::engine_patterns(channel).map(|pattern| (pattern, policy(channel))).collect::<Vec<_>>()
    });
    let of_routes = routes.iter().map(|(pattern, served)| {
        (pattern.to_string(), served.map_or_else(Policy::new, |served| served.policy.clone()))
    });
    let policies = of_private.chain(of_routes).collect();
    let common = Common {
        config,
        routes: &routes,
        authenticators: &authenticators,
        realtime: &shared.realtime,
        standings: &shared.standings,
        replay_max: realtime.replay_max(),
    };
    let mounts = config.endpoints.iter().map(|settings| {
        let mount = mount(settings, &common);
        let mount = match (settings.protocol, &shared.bridge) {
            (Protocol::Bullet, Some(bridge)) => bridge.forward_from(mount),
            _ => mount,
        };
        (settings.path.0.clone(), mount)
    });
    Ok(Assembled {
        mounts: mounts.collect(),
        policies,
        topics,
        checks_credentials: !authenticators.is_empty(),
        known: Known { hooks, fetched, channels: served.iter().map(|served| served.declared.clone()).collect(), ended },
        settled,
        realtime,
        contracts: (contracts, document),
    })
}

/// Why a configuration cannot be put in force.
#[derive(Debug)]
pub(crate) enum Unbuilt {
    /// This key has changed.
    RestartNeeded(String),
    /// What it asks for cannot be had.
    Impossible(String),
}

/// What the engine in force is made of.
pub(crate) struct Equipment {
    pub(super) endpoint: Endpoint,
    pub(super) shared: Shared,
    pub(super) known: Known,
    pub(super) policies: Vec<(String, Policy)>,
    pub(super) webhooks: Vec<Arc<Webhook>>,
    /// What the engine was built to be told of.
    pub(super) checks_credentials: bool,
    pub(super) names_sockets: bool,
    /// Parts that stay.
    pub(super) parts: Vec<Arc<dyn Part>>,
}

/// A configuration that can be put in force.
pub(crate) struct Prepared {
    assembled: Assembled,
    quotas: Quotas,
    lookups: Vec<(Arc<Lookup>, lookup::Settings)>,
    webhooks: Vec<webhook::Replacement>,
}

/// What of a configuration in force is asked for.
pub(crate) struct Seen {
    pub(crate) parts: Vec<Arc<dyn Part>>,
    pub(crate) topics: Vec<Pattern>,
}

impl Equipment {
    /// Makes what another configuration says, of which every key that has changed can change.
    ///
    /// # Errors
    /// What stands against it.
    pub(crate) async fn prepare(&self, config: &mut Config, is_same: IsSame<'_>) -> Result<Prepared, Unbuilt> {
        for (name, auth) in named_auths(config) {
            if auth.keys.as_ref().is_some_and(|keys| !self.shared.lookups.contains_key(keys)) {
                return Err(Unbuilt::RestartNeeded(format!("auth.{name}.keys")));
            }
        }
        if !self.names_sockets && config.endpoints.iter().any(names_sockets) {
            return Err(Unbuilt::RestartNeeded("endpoint.socket_id".into()));
        }
        let webhooks = std::mem::take(&mut config.webhooks).into_iter().map(Webhook::replacement);
        let webhooks = webhooks.collect::<Result<_, _>>().map_err(Unbuilt::Impossible)?;
        let assembled = assemble(config, &self.shared, &self.known, is_same).await.map_err(Unbuilt::Impossible)?;
        if assembled.checks_credentials && !self.checks_credentials {
            return Err(Unbuilt::RestartNeeded("endpoint.auth".into()));
        }
        let (new, old) = (relevant(&assembled.policies), relevant(&self.policies));
        let is_like =
            |((one, new), (other, old)): (&(String, Policy), &(String, Policy))| one == other && new.is_like(old);
        if new.len() != old.len() || !new.iter().zip(old).all(is_like) {
            let text = "channel (one with `history` or `slow` is another, or has others before it, than at the start)";
            return Err(Unbuilt::RestartNeeded(text.into()));
        }
        // Nodes that keep different numbers of messages would look for a topic's log in different places.
        if new != old && config.broker.is_some() {
            return Err(Unbuilt::RestartNeeded("channel.history (with a [broker])".into()));
        }
        let lookups = self.shared.lookups.iter();
        let lookups =
            lookups.filter_map(|(name, lookup)| Some((lookup.clone(), remembering(config.keys.get(name)?)))).collect();
        let quotas = config.tenant.quotas(&config.tenants);
        Ok(Prepared { assembled, quotas, lookups, webhooks })
    }

    /// Puts it in force: the parts and the topics that there are now.
    ///
    /// # Errors
    /// The engine refuses the mounts; everything is as it was.
    pub(crate) fn put_in_force(&mut self, prepared: Prepared) -> Result<Seen, Unbuilt> {
        let Prepared { assembled, quotas, lookups, webhooks } = prepared;
        let replaced = self.endpoint.replace_mounts(assembled.mounts);
        replaced.map_err(|error| Unbuilt::Impossible(error.to_string()))?;
        self.endpoint.replace_quotas(quotas);
        self.endpoint.replace_retentions(&assembled.policies);
        self.policies = assembled.policies;
        self.shared.realtime.store(Arc::new(assembled.realtime));
        let (contracts, document) = assembled.contracts;
        self.shared.contracts.replace(contracts, document);
        assembled.settled.into_iter().for_each(|(declared, settled)| declared.settle(settled));
        assembled.known.ended.iter().for_each(Declared::end);
        lookups.into_iter().for_each(|(lookup, settings)| lookup.settle(settings));
        self.webhooks.iter().zip(webhooks).for_each(|(webhook, replacement)| webhook.replace(replacement));
        self.known = assembled.known;
        Ok(Seen { parts: self.parts(), topics: assembled.topics })
    }

    /// What it has made.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Those whose state the health report tells.
    pub(crate) fn parts(&self) -> Vec<Arc<dyn Part>> {
        let fetched = self.known.fetched.values().map(|fetched| fetched.clone() as Arc<dyn Part>);
        let hooks = self.known.hooks.values().map(|hook| hook.clone() as Arc<dyn Part>);
        fetched.chain(hooks).chain(self.parts.iter().cloned()).collect()
    }
}

impl Assembled {
    /// What is to be known of it when it is the first.
    pub(super) fn begin(self, shared: &Shared) -> (Known, Vec<(String, Policy)>) {
        shared.realtime.store(Arc::new(self.realtime));
        let (contracts, document) = self.contracts;
        shared.contracts.replace(contracts, document);
        (self.known, self.policies)
    }
}

/// Whether the sockets of an endpoint have ids.
pub(super) fn names_sockets(settings: &Settings) -> bool {
    settings.socket_id.is_some() || settings.protocol == Protocol::Bullet
}

/// The policies up to the last that says something: what comes behind it changes nothing.
fn relevant(policies: &[(String, Policy)]) -> &[(String, Policy)] {
    let last = policies.iter().rposition(|(_, policy)| *policy != Policy::new());
    &policies[..last.map_or(0, |last| last + 1)]
}

/// The client that all share who ask other servers, made when the first does.
#[derive(Default)]
pub(super) struct SharedClient(OnceLock<Client>);

impl SharedClient {
    pub(super) fn get(&self) -> Result<Client, String> {
        match self.0.get() {
            Some(client) => Ok(client.clone()),
            None => Client::new().map(|new| self.0.get_or_init(|| new).clone()),
        }
    }
}

fn hooks(config: &Config, shared: &Shared, known: &Known, is_same: IsSame<'_>) -> Result<Hooks, String> {
    let one = |(name, settings): (&String, _)| {
        let kept = known.hooks.get(name).filter(|_| is_same(&format!("hook.{name}")));
        let hook = match kept {
            Some(hook) => hook.clone(),
            None => Arc::new(Hook::new(name, settings, shared.client.get()?)?),
        };
        Ok((name.clone(), hook))
    };
    config.hooks.iter().map(one).collect()
}

/// The stores of API keys that an `[auth.NAME]` names.
pub(super) fn lookups(config: &Config) -> Result<BTreeMap<String, Arc<Lookup>>, String> {
    let named = |name: &String| config.auths.values().any(|auth| auth.keys.as_ref() == Some(name));
    let open = |(name, settings): (&String, &Keys)| {
        let store = store::open(settings).map_err(|error| format!("keys.{name}: {error}"))?;
        let lookup = Lookup::new(name, store, remembering(settings));
        Ok((name.clone(), Arc::new(lookup)))
    };
    config.keys.iter().filter(|(name, _)| named(name)).map(open).collect()
}

fn remembering(settings: &Keys) -> lookup::Settings {
    lookup::Settings {
        found: settings.cache.0,
        unknown: settings.cache_unknown.0,
        entries_max: settings.cache_entries_max.0 as usize,
        revoke_closes: settings.revoke_closes,
    }
}

/// Those that an endpoint names.
fn named_auths(config: &Config) -> impl Iterator<Item = (&String, &crate::config::auth::Auth)> {
    let named: HashSet<&String> = config.endpoints.iter().flat_map(|endpoint| &endpoint.auth.0).collect();
    config.auths.iter().filter(move |(name, _)| named.contains(name))
}

/// Those that an endpoint names, and their key sets from the network. Waits until each that is new has asked for its keys once.
async fn authenticators(
    config: &Config,
    shared: &Shared,
    hooks: &Hooks,
    kept: &BTreeMap<String, Arc<Fetched>>,
) -> Result<(Authenticators, BTreeMap<String, Arc<Fetched>>), String> {
    let (mut authenticators, mut all) = (BTreeMap::new(), BTreeMap::new());
    for (name, settings) in named_auths(config) {
        let client = || shared.client.get();
        let figures = &shared.auth_figures;
        let resources = Resources { client: &client, lookups: &shared.lookups, hooks, figures, fetched: kept };
        if let Some((authenticator, fetched)) = Authenticator::new(name, settings, resources).await? {
            authenticators.insert(name.clone(), authenticator);
            all.extend(fetched.map(|fetched| (name.clone(), fetched)));
        }
    }
    Ok((authenticators, all))
}
