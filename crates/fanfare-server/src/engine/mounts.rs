//! From an `[[endpoint]]` to its mount.

use fanfare::{Mount, OriginPolicy};

use super::equipment::{Authenticators, Served};
use crate::auth::Gate;
use crate::config::Config;
use crate::config::endpoint::{Endpoint as Settings, Protocol, Transport};
use crate::config::limits::OverUser;
use crate::config::server::PublicUrl;
use crate::config::value::OneOrMore;
use crate::routes::{Apart, Route};
use crate::source::Standings;
use crate::supabase;

/// What the mounts of all endpoints have in common.
pub(super) struct Common<'c> {
    pub(super) config: &'c Config,
    pub(super) routes: &'c [Route<&'c Served>],
    pub(super) authenticators: &'c Authenticators,
    pub(super) realtime: &'c supabase::InForce,
    pub(super) standings: &'c Standings,
    /// Of the rules that `realtime` is about to have.
    pub(super) replay_max: usize,
}

/// The mount of an endpoint.
pub(super) fn mount(settings: &Settings, common: &Common<'_>) -> Mount {
    let Common { config, routes, authenticators, .. } = common;
    let limits = &config.limits;
    let named: Vec<_> = settings.auth.0.iter().filter_map(|name| authenticators.get(name).cloned()).collect();
    let is_supabase = settings.protocol == Protocol::Supabase;
    let realtime = || {
        let changes = supabase::Changes::new(settings, &config.sources, common.standings);
        supabase::mount(settings, limits, named.clone(), common.realtime, common.replay_max, changes)
    };
    let mount = of_protocol(settings, realtime);
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
        .write_timeout(limits.write_timeout.0)
        .join_rate(limits.join_rate())
        .message_rate(limits.message_rate())
        .bytes_rate(limits.bytes_rate())
        .error_rate(limits.error_rate())
        .ping_rate(limits.ping_rate())
        .penalty(limits.penalty.0);
    mount = mount.user_message_rate(limits.user_message_rate());
    if let Some(max) = limits.sockets_per_user_max {
        mount = mount.sockets_per_user(max.0 as usize, limits.sockets_per_user_over == OverUser::Oldest);
    }
    if let Some(from) = settings.tenant.as_ref().and_then(|naming| naming.request()) {
        mount = mount.tenant_from(from.clone());
    }
    if let Some(over) = limits.message_over {
        mount = mount.over_rate(over.into());
    }
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
            Some(channel) => mount.channel_with(channel.declared.route(pattern).message_rate(channel.rate)),
            None => mount.channel(&pattern.to_string(), Apart),
        };
    }
    mount
}

/// Whose pages may connect.
pub(crate) fn origins(settings: &Settings, config: &Config) -> OriginPolicy {
    match (&settings.origins.0, &config.server.public_url) {
        // The token is no cookie: pages of all origins may show one, as with Supabase.
        _ if settings.protocol == Protocol::Supabase && !settings.places.is_given("origins") => OriginPolicy::Any,
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
