//! Whose tokens count on an endpoint of Supabase's clients, and what they give the right to: `[[channel]]`s as an authority.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use fanfare::{
    Authority, Bearer, ChangedRow, Mount, OriginPolicy, Pattern, Payload, Rights, RightsRequest, Supabase, TokenFault,
};
use fanfare_proto::supabase::{TOPIC_PREFIX, engine_topic};

use crate::auth::{Authenticator, KeyRing};
use crate::config::channel::Channel;
use crate::config::endpoint::Endpoint;
use crate::config::limits::Limits;
use crate::config::rows::Table;
use crate::config::rule::Rule;
use crate::config::source::{Kind, Source};
use crate::config::supabase::{Changes as Served, Expired};
use crate::config::value::OneOrMore;
use crate::hook::{self, Carried, Hook, Hooks, Question};
use crate::identity::Identity;
use crate::source::{Standing, Standings};

/// SQL functions that send by an outbox.
pub(crate) const FUNCTIONS: &str = include_str!("supabase.sql");

/// The rules in force, which can be exchanged.
pub(crate) type InForce = Arc<ArcSwap<Channels>>;

/// The rules of the `[[channel]]`s, shared by all endpoints.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    /// Those of public channels, and of private ones.
    public: Vec<Ruled>,
    private: Vec<Ruled>,
    replay_max: usize,
}

/// A `[[channel]]`, and who may do what in it.
#[derive(Debug)]
struct Ruled {
    patterns: Vec<Pattern>,
    broadcast_read: Allowed,
    broadcast_write: Allowed,
    presence_read: Allowed,
    presence_write: Allowed,
}

/// Who has one right.
#[derive(Debug, Default)]
struct Allowed {
    rules: Vec<Rule>,
    hooks: Vec<Arc<Hook>>,
}

impl Channels {
    /// Those of the configuration that serve topics of Supabase's clients.
    pub(crate) fn new(channels: &[Channel], hooks: &Hooks) -> Self {
        let ruled = |private: bool| {
            let channels = channels.iter().filter(move |channel| channel.private == private && channel.is_realtime());
            channels.map(|channel| Ruled::new(channel, hooks)).collect()
        };
        let replay_max = channels.iter().filter_map(|channel| channel.replay_max.as_ref()).map(|count| count.0).max();
        Channels {
            public: ruled(false),
            private: ruled(true),
            replay_max: replay_max.map_or(25, |count| usize::try_from(count).unwrap_or(usize::MAX)),
        }
    }
}

impl Channels {
    /// How many kept messages a join can ask for.
    pub(crate) fn replay_max(&self) -> usize {
        self.replay_max
    }
}

impl Ruled {
    fn new(settings: &Channel, hooks: &Hooks) -> Self {
        let rules = |rules: &Option<OneOrMore<Rule>>| rules.iter().flat_map(|OneOrMore(rules)| rules.clone()).collect();
        let allowed = |rules: Vec<Rule>| {
            let hooks = rules.iter().filter_map(|rule| hooks.get(rule.hook()?).cloned()).collect();
            Allowed { rules, hooks }
        };
        let of = |key: &str| {
            allowed(match settings.right(key) {
                Some(OneOrMore(rules)) => rules.clone(),
                None if key == "broadcast_write" && settings.places.is_given("publish") => rules(&settings.publish),
                None if settings.places.is_given("join") => rules(&settings.join),
                // A private channel is closed but to those that are named, a public one open.
                None if settings.private => Vec::new(),
                None => vec![Rule::Open],
            })
        };
        Ruled {
            broadcast_read: of("broadcast_read"),
            broadcast_write: of("broadcast_write"),
            presence_read: of("presence_read"),
            presence_write: of("presence_write"),
            patterns: settings.patterns().cloned().collect(),
        }
    }
}

impl Allowed {
    async fn has(&self, identity: &Identity, suffix: &str, request: &RightsRequest<'_>) -> bool {
        if self.rules.iter().any(|rule| rule.allows_as(Some(identity), suffix, request.presence_key)) {
            return true;
        }
        if self.hooks.is_empty() {
            return false;
        }
        let payload = Payload::default();
        let question =
            Question::Join { topic: request.topic, claims: Some(identity.claims()), payload: Carried::new(&payload) };
        hook::ask_any(&self.hooks, &question).await.is_ok_and(|answer| answer.is_yes())
    }
}

/// Which changes of a database an endpoint's clients are told.
pub(crate) struct Changes {
    tables: Vec<Table>,
    /// The sources that they, or what the functions send, come from.
    sources: Vec<Arc<Standing>>,
}

impl Changes {
    /// Those that the endpoint names; without any, whatever comes comes from the outboxes.
    pub(crate) fn new(settings: &Endpoint, sources: &BTreeMap<String, Source>, standings: &Standings) -> Self {
        let named = settings.postgres_changes.source();
        let is_meant = |name: &str, source: &Source| named.map_or(source.kind == Kind::Outbox, |named| named == name);
        let meant = sources.iter().filter(|(name, source)| is_meant(name, source));
        let tables = named.and_then(|name| sources.get(name)?.changes.as_ref()).map(|tables| tables.0.clone());
        let sources = meant.filter_map(|(name, _)| standings.get(name).cloned()).collect();
        Changes { tables: tables.unwrap_or_default(), sources }
    }
}

/// One endpoint's.
struct House {
    changes: Changes,
    keys: KeyRing,
    bypass: Vec<Rule>,
    channels: InForce,
}

impl Authority for House {
    async fn verify(&self, token: &str) -> Result<Bearer, TokenFault> {
        let verified = self.keys.verify(token).await?;
        let bearer = Bearer::new(verified.identity);
        Ok(match verified.expires_at {
            Some(end) => bearer.expires_at(end),
            None => bearer,
        })
    }

    async fn rights(&self, request: RightsRequest<'_>) -> Rights {
        let Some(identity) = request.bearer.who::<Identity>() else { return Rights::NONE };
        if self.bypass.iter().any(|rule| rule.allows(Some(identity), "")) {
            return Rights::ALL;
        }
        let topic = format!("{TOPIC_PREFIX}{}", request.name);
        let in_force = self.channels.load_full();
        let channels = if request.is_private { &in_force.private } else { &in_force.public };
        let found = channels.iter().find_map(|ruled| {
            let suffix = ruled.patterns.iter().find_map(|pattern| pattern.suffix(&topic))?;
            Some((ruled, suffix))
        });
        let Some((ruled, suffix)) = found else {
            return if request.is_private { Rights::NONE } else { Rights::ALL };
        };
        Rights {
            broadcast_read: ruled.broadcast_read.has(identity, suffix, &request).await,
            broadcast_write: ruled.broadcast_write.has(identity, suffix, &request).await,
            presence_read: ruled.presence_read.has(identity, suffix, &request).await,
            presence_write: ruled.presence_write.has(identity, suffix, &request).await,
        }
    }

    fn may_see(&self, bearer: &Bearer, row: ChangedRow<'_>) -> bool {
        let Some(identity) = bearer.who::<Identity>() else { return false };
        let is_of = |table: &&Table| table.schema == row.schema && table.name == row.table;
        let Some(table) = self.changes.tables.iter().find(is_of) else { return false };
        self.bypass.iter().any(|rule| rule.allows(Some(identity), ""))
            || table.rules.iter().any(|rule| rule.allows(identity, |column| row.text(column)))
    }

    fn are_changes_coming(&self) -> bool {
        self.changes.sources.iter().all(|source| source.is_connected())
    }
}

/// The mount of an endpoint; limits that are the same for all protocols are the caller's.
pub(crate) fn mount(
    settings: &Endpoint,
    limits: &Limits,
    authenticators: Vec<Arc<Authenticator>>,
    channels: &InForce,
    replay_max: usize,
    changes: Changes,
) -> Mount {
    let opaque = settings.api_keys.as_ref().map(|keys| keys.opened.clone()).unwrap_or_default();
    let tables: Vec<_> = changes.tables.iter().map(|table| (table.schema.clone(), table.name.clone())).collect();
    let house = House {
        changes,
        keys: KeyRing::new(authenticators, opaque, &settings.path.0),
        bypass: settings.bypass.0.clone(),
        channels: channels.clone(),
    };
    let options = Supabase::new(house)
        .private_only(settings.private_only)
        .closes_expired(settings.expired == Expired::Close)
        .refuses_changes(settings.postgres_changes == Served::Refuse)
        .tables(tables)
        .replay_max(replay_max);
    let mut mount = Mount::supabase(options);
    if settings.places.is_given("idle_timeout") {
        mount = mount.idle_timeout(settings.idle_timeout.0);
    }
    if limits.places.is_given("message_size_max") {
        mount = mount.message_size_max(limits.message_size_max.0 as usize);
    }
    match settings.places.is_given("origins") {
        true => mount.origin(settings.origins.0.clone()),
        false => mount.origin(OriginPolicy::Any),
    }
}

/// The engine's patterns of a private channel.
pub(crate) fn engine_patterns(channel: &Channel) -> impl Iterator<Item = String> {
    channel.patterns().map(|pattern| engine_topic(&pattern.to_string(), true))
}
