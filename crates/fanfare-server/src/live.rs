//! What of the configuration is in force and is asked for while the server runs. It is exchanged as a whole, and taken once a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use fanfare::{BrokerLink, Drain, Endpoint, Pattern, Rate};

use crate::access::Access;
use crate::config::Config;
use crate::config::broker::Readiness;
use crate::config::limits::rate;
use crate::config::secret::Secret;
use crate::config::server::PartName;
use crate::config::told::Line;
use crate::config::value::OneOrMore;
use crate::descriptors::{Descriptors, Shares};
use crate::health::{Part, State};
use crate::memory;

/// What is in force.
#[derive(Debug)]
pub(crate) struct Live {
    /// How many configurations have been in force, this one included.
    pub(crate) generation: u64,
    /// What the node is called.
    pub(crate) node: String,
    pub(crate) drain: Drain,
    /// How long it is told that no clients should come, before the drain begins.
    pub(crate) announce: Duration,
    /// Without which clients should go elsewhere.
    ready_needs: Vec<PartName>,
    /// By the names of their settings.
    pub(crate) limits: Vec<(&'static str, u64)>,
    /// How many messages the HTTP API takes.
    pub(crate) publish_rate: Option<Rate>,
    /// Of the HTTP API; without any, all of it but the health report is refused.
    pub(crate) tokens: Vec<Access>,
    /// Those whose state the health report tells.
    pub(crate) parts: Vec<Arc<dyn Part>>,
    /// The topics that somebody can be in.
    pub(crate) topics: Vec<Pattern>,
    /// What is said while this node is cut off from its broker.
    readiness: Readiness,
    /// All that the configuration says, as far as it may be seen.
    pub(crate) told: Arc<[Line]>,
}

/// Where it stands for all who ask for it.
pub(crate) type InForce = Arc<ArcSwap<Live>>;

impl Live {
    /// Of a configuration, after one with tokens; `token` is the one that counts where it has none.
    pub(crate) fn new(
        generation: u64,
        tokens_before: &[Access],
        config: &Config,
        token: Option<&Secret>,
        parts: Vec<Arc<dyn Part>>,
        topics: Vec<Pattern>,
    ) -> Self {
        let drain = &config.drain;
        let given = config.admin.as_ref().and_then(|admin| admin.token.as_ref());
        Self {
            generation,
            node: config.cluster.name(),
            drain: Drain { batch: drain.batch.0 as usize, every: drain.every.0, limit: drain.limit.0 },
            announce: drain.announce.0,
            ready_needs: config.server.ready_needs.clone().map_or(Vec::new(), |OneOrMore(parts)| parts),
            limits: limits(config),
            publish_rate: config
                .admin
                .as_ref()
                .and_then(|admin| admin.publish_rate)
                .map(|per_second| rate(per_second.0, 2 * per_second.0)),
            tokens: Access::all(generation, tokens_before, given, token),
            parts,
            topics,
            readiness: config.broker.as_ref().map_or(Readiness::Fail, |broker| broker.readiness),
            told: config.told.as_slice().into(),
        }
    }
}

/// Who may have how many connections, by a configuration and as far as the system allows.
pub(crate) fn shares(config: &Config) -> Shares {
    let admin_max = config.admin.as_ref().map_or(0, |admin| admin.connections_max.0);
    let metrics_max = config.metrics.as_ref().map_or(0, |metrics| metrics.connections_max.0);
    Descriptors::allowed().shares(config.limits.connections_max.0, admin_max + metrics_max)
}

/// What a configuration allows, by the names of the settings.
fn limits(config: &Config) -> Vec<(&'static str, u64)> {
    let (limits, history) = (&config.limits, &config.history);
    let mut all = vec![
        ("connections_max", shares(config).clients),
        ("connections_per_address_max", limits.connections_per_address_max.0),
        ("handshakes_max", limits.handshakes_max.0),
        ("joins_max", limits.joins_max.0),
        ("message_size_max", limits.message_size_max.0),
        ("outbox_bytes_max", limits.outbox_bytes_max.0),
        ("outbox_frames_max", limits.outbox_frames_max.0),
        ("outboxes_bytes_max", limits.outboxes_bytes_max(memory::available())),
        ("inboxes_bytes_max", limits.inboxes_bytes_max(memory::available())),
        ("publishing_waiting_max", limits.publishing_waiting_max.0),
        ("publishing_waiting_bytes_max", limits.publishing_waiting_bytes_max.0),
        ("bodies_bytes_max", limits.bodies_bytes_max()),
        ("history_bytes_max", history.bytes_max.0),
        ("history_topics_max", history.topics_max.0),
        ("join_rate", limits.join_rate.0),
        ("error_rate", limits.error_rate.0),
        ("ping_rate", limits.ping_rate.0),
    ];
    let admin = config.admin.as_ref();
    all.extend(admin.and_then(|admin| admin.publish_rate).map(|rate| ("admin_publish_rate", rate.0)));
    all.extend(limits.message_rate.map(|rate| ("message_rate", rate.0)));
    all.extend(limits.bytes_rate.map(|rate| ("bytes_rate", rate.0)));
    all.extend(limits.user_message_rate.map(|rate| ("user_message_rate", rate.0)));
    all.extend(limits.sockets_per_user_max.map(|max| ("sockets_per_user_max", max.0)));
    all.extend(limits.accept_rate_per_address.map(|rate| ("accept_rate_per_address", rate.0)));
    all.push(("keys_max", limits.keys_max.0));
    all.extend(limits.accept_rate.map(|rate| ("accept_rate", rate.0)));
    all.extend(config.tenant.limits());
    all
}

/// The engine, and the parts that depend on others.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    pub(crate) endpoint: Endpoint,
    pub(crate) live: InForce,
    /// Whether it is about to drain.
    pub(crate) is_leaving: Arc<AtomicBool>,
}

impl Health {
    /// Whether clients should be sent here, with what speaks against it: it drains, a part without which nothing is kept cannot do its
    /// work, or this node is cut off from a server of its broker, which may only be told.
    pub(crate) fn ready(&self) -> (bool, Vec<String>) {
        let live = self.live.load();
        let is_needed = |part: &dyn Part| {
            let named = |need: &PartName| need.kind == part.kind() && need.name == part.name();
            part.is_needed() || live.ready_needs.iter().any(named)
        };
        let failing = live.parts.iter().filter(|part| is_needed(&***part) && part.state() == State::Unavailable);
        let failing = failing.map(|part| format!("{}.{} is unavailable", part.kind(), part.name()));
        let is_leaving = self.endpoint.is_draining() || self.is_leaving.load(Ordering::Relaxed);
        let draining = is_leaving.then(|| "draining".to_owned());
        let mut reasons: Vec<String> = draining.into_iter().chain(failing).collect();
        let cut_off: Vec<_> = self.endpoint.broker_links().iter().filter_map(BrokerLink::trouble).collect();
        let is_ready = reasons.is_empty() && (cut_off.is_empty() || live.readiness == Readiness::Report);
        reasons.extend(cut_off);
        (is_ready, reasons)
    }
}
