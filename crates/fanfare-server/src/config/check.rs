//! What concerns more than one section: names that must exist, things that exclude each other, what looks closed and is
//! open, settings without effect, and what looks wrong without being so.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use super::acme::Challenge;
use super::auth::AuthKind;
use super::channel::Presence;
use super::endpoint::{Endpoint, Protocol};
use super::history::Kept;
use super::problem::Problems;
use super::secret;
use super::section::nearest;
use super::server::PartName;
use super::traces::Traces;
use super::value::{Count, OneOrMore, Size};
use super::{Draft, Overrides, SECTIONS, tenant};

mod effects;
mod endpoints;
mod hooks;

impl Draft {
    /// Reports what is wrong, and what looks wrong but may be meant.
    pub(super) fn check(&mut self, overrides: &Overrides, problems: &mut Problems, warnings: &mut Vec<String>) {
        for channel in &mut self.channels {
            channel.complete(problems);
        }
        if let Some(history) = &self.history {
            history.check(problems);
        }
        for auth in self.auths.values().flatten() {
            auth.check(problems);
        }
        self.check_stores_and_sources(problems);
        self.check_hooks(problems);
        self.check_endpoints(problems);
        self.check_admin(problems);
        if let Some(tls) = &self.tls {
            tls.check(&self.certificates, self.acme.is_some(), problems);
        }
        if let Some(Some(acme)) = &self.acme {
            acme.check(problems);
            acme.warn(self.server.as_ref().map_or(443, |server| server.listen.0.port()), warnings);
        }
        self.check_listeners(problems);
        self.check_proxies(problems, warnings);
        self.check_ready_needs(problems);
        self.check_limits(problems);
        tenant::check(&self.tenants, problems);
        self.check_effects(problems);
        Traces::check(self.traces.as_ref(), problems, warnings);
        let named: HashSet<&String> = self.named_variables().collect();
        for (name, near) in overrides.suspects(&SECTIONS).iter().filter(|(name, _)| !named.contains(&name)) {
            let next = match near {
                Some(near) => format!("did you mean {near}?"),
                None => "`fanfare docs config` prints those that there are".to_owned(),
            };
            warnings.push(format!("the environment variable {name} is not a setting; {next}"));
        }
        self.warn_of_unused(warnings);
        self.warn_of_unreachable(warnings);
        self.warn_of_bounds(warnings);
    }

    /// The variables that the configuration itself names.
    fn named_variables(&self) -> impl Iterator<Item = &String> {
        let secrets = self.auths.values().flatten().filter_map(|auth| auth.secret_env.as_ref());
        let secrets = secrets.chain(self.keys.values().flatten().filter_map(|keys| keys.url_env.as_ref()));
        let secrets = secrets.chain(self.sources.values().flatten().filter_map(|source| source.url_env.as_ref()));
        let secrets = secrets.chain(self.bridge.iter().filter_map(|bridge| bridge.url_env.as_ref()));
        let secrets = secrets.chain(self.broker.iter().filter_map(|broker| broker.url_env.as_ref()));
        let of_endpoints = self.endpoints.iter().filter_map(|endpoint| endpoint.api_keys.as_ref());
        let secrets = secrets.chain(of_endpoints.flat_map(|keys| keys.named.iter().map(|(variable, _)| variable)));
        let secrets = secrets.chain(self.hooks.values().flatten().filter_map(|hook| hook.secret_env.as_ref()));
        let secrets = secrets.chain(self.webhooks.iter().filter_map(|webhook| webhook.secret_env.as_ref()));
        let secrets = secrets.chain(self.acme.iter().flatten().filter_map(|acme| acme.eab_key_env.as_ref()));
        secrets.chain(self.admin.iter().filter_map(|admin| admin.token_env.as_ref()))
    }

    fn check_stores_and_sources(&self, problems: &mut Problems) {
        for keys in self.keys.values().flatten() {
            keys.check(problems);
        }
        for source in self.sources.values().flatten() {
            source.check(problems);
        }
        if let Some(bridge) = &self.bridge {
            bridge.check(problems);
        }
        if let Some(broker) = &self.broker {
            broker.check(problems);
        }
        for auth in self.auths.values().flatten() {
            if let Some(name) = &auth.keys
                && !self.keys.contains_key(name)
            {
                let text = match nearest(name, self.keys.keys().map(String::as_str)) {
                    Some(near) => format!("there is no [keys.{name}]; did you mean \"{near}\"?"),
                    None => format!("there is no [keys.{name}]; add it"),
                };
                auth.places.problem(problems, "keys", text);
            }
        }
    }

    /// Whether an `auth` checks credentials, so that whoever is let in has claims.
    fn checks(&self, auth: &str) -> bool {
        match self.auths.get(auth) {
            Some(Some(auth)) => auth.kind != AuthKind::None,
            // It could not be read, which was reported.
            Some(None) => true,
            None => false,
        }
    }

    fn check_admin(&self, problems: &mut Problems) {
        let Some(admin) = &self.admin else { return };
        if !secret::is_given("token", &admin.places) && !admin.listen.0.ip().is_loopback() {
            let text = format!(
                "{} can be reached from other machines, which needs a token: set token_env, token_file or token",
                admin.listen.0
            );
            admin.places.problem(problems, "listen", text);
        }
    }

    /// Listeners that cannot be there at the same time.
    fn check_listeners(&self, problems: &mut Problems) {
        let mut others = Vec::from_iter(self.server.as_ref().map(|server| ("listen", server.listen.0)));
        let admin = self.admin.as_ref().map(|admin| ("admin.listen", &admin.places, admin.listen.0));
        let metrics = self.metrics.as_ref().map(|metrics| ("metrics.listen", &metrics.places, metrics.listen.0));
        let answers = self.acme.iter().flatten().filter(|acme| acme.challenge == Challenge::Http);
        let answers = answers.map(|acme| ("tls.acme.http_listen", &acme.places, acme.http_listen.0));
        for (own, places, address) in admin.into_iter().chain(metrics).chain(answers) {
            for (name, other) in others.iter().filter(|(_, other)| clash(address, *other)) {
                let text = match address == *other {
                    true => format!("{address} is the address of `{name}` too"),
                    false => format!(
                        "{address} and {other}, which is `{name}`, cannot both be listened on: one of them is every \
                         interface, or both are the same one; take another port"
                    ),
                };
                places.problem(problems, own.rsplit('.').next().unwrap_or(own), text);
            }
            others.push((own, address));
        }
    }

    fn check_proxies(&self, problems: &mut Problems, warnings: &mut Vec<String>) {
        let Some(server) = &self.server else { return };
        server.check_source(&server.address_from, &server.places, problems);
        if let Some(admin) = &self.admin {
            server.check_source(&admin.address_from, &admin.places, problems);
        }
        server.warn(warnings);
    }

    /// Reports parts that there are not.
    fn check_ready_needs(&self, problems: &mut Problems) {
        let Some(server) = &self.server else { return };
        for part in server.ready_needs.iter().flat_map(|OneOrMore(parts)| parts) {
            let PartName { kind, name } = part;
            let exists = match kind.as_str() {
                "hooks" => self.hooks.contains_key(name),
                "keys" => {
                    self.auths.get(name).is_some_and(|auth| auth.as_ref().is_none_or(|auth| auth.jwks_url.is_some()))
                }
                "stores" => self.keys.contains_key(name),
                "sources" => self.sources.contains_key(name),
                "webhooks" => self.webhooks.iter().any(|webhook| webhook.name.as_ref() == Some(name)),
                "bridge" => self.bridge.is_some() && name == "redis",
                _ => {
                    let text =
                        format!("there are no {kind}; there are hooks, keys, stores, sources, webhooks and bridge");
                    server.places.problem(problems, "ready_needs", text);
                    continue;
                }
            };
            if !exists {
                server.places.problem(
                    problems,
                    "ready_needs",
                    format!("there is no {kind}.{name}; declare it, or leave it out"),
                );
            }
        }
    }

    fn check_limits(&self, problems: &mut Problems) {
        let Some(limits) = &self.limits else { return };
        limits.check(problems);
    }

    /// Sections by which nothing is done, since nothing names them.
    fn warn_of_unused(&self, warnings: &mut Vec<String>) {
        let named: HashSet<&String> = self.endpoints.iter().flat_map(|endpoint| &endpoint.auth.0).collect();
        for name in self.auths.keys().filter(|name| !named.contains(name)) {
            warnings.push(format!("no [[endpoint]] names [auth.{name}], so that nothing is checked by it"));
        }
        let has_tenants = self.endpoints.iter().any(|endpoint| endpoint.tenant.is_some());
        let has_quotas = !self.tenants.is_empty() || self.tenant.as_ref().is_some_and(|tenant| tenant.has_quota());
        if has_quotas && !has_tenants {
            warnings.push(
                "no [[endpoint]] says whose clients connect to it (`tenant`), so that [tenant] limits none".into(),
            );
        }
        let served: HashSet<&str> = self.endpoints.iter().filter_map(|one| one.postgres_changes.source()).collect();
        let with_changes =
            self.sources.iter().filter(|(_, source)| source.iter().any(|source| source.changes.is_some()));
        for (name, _) in with_changes.filter(|(name, _)| !served.contains(name.as_str())) {
            warnings.push(format!(
                "no [[endpoint]] has postgres_changes = \"{name}\", so that `changes` of [source.{name}] are told nobody"
            ));
        }
        let of_auths = self.auths.values().flatten().filter_map(|auth| auth.hook.as_deref());
        let of_channels = self.channels.iter().flat_map(|channel| channel.rules()).filter_map(|(_, rule)| rule.hook());
        let asked: HashSet<&str> = of_auths.chain(of_channels).collect();
        for name in self.hooks.keys().filter(|name| !asked.contains(name.as_str())) {
            warnings.push(format!("nothing names [hook.{name}], so that it is never asked"));
        }
    }

    fn warn_of_unreachable(&self, warnings: &mut Vec<String>) {
        // Public channels of Supabase's clients need no `[[channel]]`.
        let joins = |endpoint: &&Endpoint| endpoint.protocol.has_channels() && endpoint.protocol != Protocol::Supabase;
        let mut with_channels = self.endpoints.iter().filter(joins).peekable();
        if with_channels.peek().is_none() {
            return;
        }
        if self.channels.is_empty() {
            warnings.push("there is no [[channel]], so that every join is refused".into());
        }
        if with_channels.any(|endpoint| endpoint.auth.0.iter().any(|auth| self.checks(auth))) {
            return;
        }
        for channel in &self.channels {
            let rules: Vec<_> = channel.rules().filter(|(key, _)| *key == "join").collect();
            if !channel.private && rules.iter().all(|(_, rule)| rule.needs_identity()) {
                let topic = channel.patterns().next().map(ToString::to_string).unwrap_or_default();
                let why = "its `join` asks for a credential, but no endpoint has an `auth` that checks one";
                warnings.push(format!("nobody can join \"{topic}\": {why}"));
            }
        }
    }

    /// Bounds that others keep from ever being reached.
    fn warn_of_bounds(&self, warnings: &mut Vec<String>) {
        let outbox = self.limits.as_ref().map(|limits| limits.outbox_bytes_max.0);
        for channel in &self.channels {
            let topic = channel.patterns().next().map(ToString::to_string).unwrap_or_default();
            if let (Some(Count(asked)), Some(Kept(kept))) = (channel.catch_up, channel.history)
                && asked > kept.messages_max as u64
            {
                warnings.push(format!(
                    "\"{topic}\" has catch_up = {asked} and keeps {} messages, which is all that a join is sent: raise \
                     `messages` of its `history`, or lower `catch_up`",
                    kept.messages_max
                ));
            }
            if let (Some(Size(bytes)), Some(outbox)) = (channel.presence_bytes_max, outbox)
                && matches!(channel.presence, Some(Presence::Roster))
                && bytes >= outbox
            {
                warnings.push(format!(
                    "\"{topic}\" has presence_bytes_max = {bytes}, and a member is sent all of it, while no socket may have more \
                     than {outbox} bytes waiting (`limits.outbox_bytes_max`): members of a full topic would be closed with 1013"
                ));
            }
        }
    }
}

/// Whether two listeners cannot be there at the same time: on every interface there is also each of them, and on every one of IPv6 each of IPv4.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let (ip, other_ip) = (one.ip().to_canonical(), other.ip().to_canonical());
    let has = |all: IpAddr, ip: IpAddr| all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4());
    one.port() == other.port() && one.port() != 0 && (ip == other_ip || has(ip, other_ip) || has(other_ip, ip))
}
