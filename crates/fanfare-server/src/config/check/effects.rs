//! Settings that do nothing beside the rest of the configuration. Whoever gives one expects something of it.

use super::super::endpoint::{Endpoint, Protocol, Transport};
use super::super::problem::Problems;
use super::super::section::Places;
use super::super::value::OneOrMore;
use super::Draft;
use crate::config::channel::{Channel, Presence};
use crate::config::cluster::Cluster;
use crate::config::webhook::EventKind;

/// What of a `[[channel]]` concerns the messages of its topics, whoever is a member and by which protocol.
const OF_MESSAGES: [&str; 4] = ["topic", "history", "slow", "latest_key"];

impl Draft {
    /// Reports all that were given.
    pub(super) fn check_effects(&self, problems: &mut Problems) {
        let mut effects = Effects(problems);
        self.check_channels(&mut effects);
        self.check_users(&mut effects);
        self.check_transports(&mut effects);
        self.check_history(&mut effects);
        self.check_bridge(&mut effects);
        if let (Some(cluster), None) = (&self.cluster, &self.broker) {
            for key in Cluster::SECTION.keys {
                effects.none(&cluster.places, key.name(), "without a [broker]");
            }
        }
        for webhook in &self.webhooks {
            let (topics, users) = ("without an event of topics in `events`", "without an event of users in `events`");
            let wants = |kinds: [EventKind; 2]| kinds.into_iter().any(|kind| webhook.wants(kind));
            if !wants([EventKind::TopicOccupied, EventKind::TopicVacated]) {
                effects.none(&webhook.places, "topics", topics);
            }
            if !wants([EventKind::UserOnline, EventKind::UserOffline]) {
                effects.none(&webhook.places, "user", users);
            }
        }
    }

    fn check_channels(&self, effects: &mut Effects<'_>) {
        let has = |is_it: fn(Protocol) -> bool| self.endpoints.iter().any(|endpoint| is_it(endpoint.protocol));
        let (joins, pushes) = (
            has(Protocol::has_channels),
            has(|it| matches!(it, Protocol::Phoenix | Protocol::Rooms | Protocol::Supabase)),
        );
        let has_phoenix = has(|protocol| protocol == Protocol::Phoenix);
        for channel in &self.channels {
            let mut no_effect = |key: &str, why: &str| effects.none(&channel.places, key, why);
            if !joins {
                for key in Channel::SECTION.keys.iter().map(|key| key.name()).filter(|key| !OF_MESSAGES.contains(key)) {
                    no_effect(key, "without an [[endpoint]] whose clients join: phoenix, rooms, sse or supabase");
                }
                continue;
            }
            if channel.private {
                if !has(|protocol| protocol == Protocol::Supabase) {
                    no_effect("private", "without an [[endpoint]] of protocol = \"supabase\"");
                }
                continue;
            }
            if self.broker.is_none() {
                no_effect("show_node", "without a [broker]");
            }
            for key in ["catch_up", "reply"].into_iter().filter(|_| !has_phoenix) {
                no_effect(
                    key,
                    "without an [[endpoint]] of protocol = \"phoenix\": other protocols have no such replies",
                );
            }
            let nobody_publishes =
                channel.rules().filter(|(key, _)| *key == "publish").all(|(_, rule)| rule.is_nobody());
            for key in ["events", "broadcast", "reply", "payload_size_max", "publish_rate"] {
                if nobody_publishes {
                    no_effect(key, "while no member may publish: set `publish`");
                } else if !pushes {
                    no_effect(key, "without an [[endpoint]] whose clients publish: phoenix or rooms");
                }
            }
            if matches!(channel.presence, None | Some(Presence::Off)) {
                for key in ["presence_key", "presence_members_max", "presence_bytes_max"] {
                    no_effect(key, "without presence");
                }
            }
        }
    }

    /// Users are known by the ids of their sockets.
    fn check_users(&self, effects: &mut Effects<'_>) {
        let Some(limits) = &self.limits else { return };
        let names = |endpoint: &Endpoint| endpoint.socket_id.is_some() || endpoint.protocol == Protocol::Bullet;
        if !self.endpoints.iter().any(names) {
            for key in ["user_message_rate", "sockets_per_user_max"] {
                effects.none(&limits.places, key, "since no socket has an id: give endpoints a `socket_id`");
            }
        }
    }

    fn check_transports(&self, effects: &mut Effects<'_>) {
        for endpoint in &self.endpoints {
            let Some(OneOrMore(transports)) = &endpoint.transports else { continue };
            if !transports.contains(&Transport::Longpoll) {
                effects.none(&endpoint.places, "longpoll_window", "without \"longpoll\" in `transports`");
            }
            if !transports.contains(&Transport::Websocket) {
                effects.none(&endpoint.places, "compression", "without \"websocket\" in `transports`");
            }
        }
    }

    fn check_history(&self, effects: &mut Effects<'_>) {
        let Some(history) = &self.history else { return };
        if self.channels.iter().all(|channel| channel.history.is_none()) {
            for key in crate::config::History::SECTION.keys {
                effects.none(&history.places, key.name(), "since no [[channel]] keeps a `history`");
            }
        } else if self.broker.is_some() {
            for key in crate::config::History::SECTION.keys {
                effects.none(&history.places, key.name(), "with a [broker], which keeps the histories of all nodes");
            }
        }
    }

    fn check_bridge(&self, effects: &mut Effects<'_>) {
        let Some(bridge) = &self.bridge else { return };
        let has_bullet = self.endpoints.iter().any(|endpoint| endpoint.protocol == Protocol::Bullet);
        if !has_bullet {
            effects.none(&bridge.places, "forward", "without an [[endpoint]] of protocol = \"bullet\"");
        }
        let names = has_bullet || self.endpoints.iter().any(|endpoint| endpoint.socket_id.is_some());
        for key in ["connected", "disconnected"].into_iter().filter(|_| !names && bridge.key.is_none()) {
            effects.none(
                &bridge.places,
                key,
                "since no socket has an id: give endpoints a `socket_id`, or [bridge] a `key`",
            );
        }
    }
}

struct Effects<'p>(&'p mut Problems);

impl Effects<'_> {
    /// A setting has no effect, if it was given.
    fn none(&mut self, places: &Places, key: &str, why: &str) {
        if places.is_given(key) {
            places.problem(self.0, key, format!("has no effect {why}"));
        }
    }
}
