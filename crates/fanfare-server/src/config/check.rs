//! What concerns more than one section: names that must exist, secrets that must be readable, things that exclude each
//! other, and what looks wrong without being so.

use super::auth::AuthKind;
use super::endpoint::Protocol;
use super::problem::Problems;
use super::secret::Given;
use super::section::nearest;
use super::{Draft, Overrides, SECTIONS};
use crate::auth::keys;
use crate::descriptors::Descriptors;
use crate::tls;

mod hooks;

/// Shorter shared secrets can be guessed by trying.
const SECRET_BYTES_SAFE: usize = 32;

/// Shorter API tokens are refused.
const TOKEN_CHARS_MIN: usize = 16;

impl Draft {
    /// Reports what is wrong; returns what looks wrong but may be meant. Secrets are filled in from where they are
    /// kept.
    pub(super) fn check(&mut self, overrides: &Overrides, problems: &mut Problems) -> Vec<String> {
        let mut warnings = Vec::new();
        for channel in &mut self.channels {
            channel.complete(problems);
        }
        if let Some(history) = &self.history {
            history.check(problems);
        }
        self.check_auths(overrides, problems, &mut warnings);
        self.check_stores_and_sources(overrides, problems);
        self.check_hooks(overrides, problems, &mut warnings);
        self.check_endpoints(problems);
        self.check_admin(overrides, problems);
        self.check_tls(problems);
        self.check_limits(problems, &mut warnings);
        let named: Vec<&String> = self.named_variables().collect();
        for (name, near) in overrides.suspects(&SECTIONS).iter().filter(|(name, _)| !named.contains(&name)) {
            warnings.push(format!("the environment variable {name} is not a setting; did you mean {near}?"));
        }
        self.warn_of_unreachable(&mut warnings);
        warnings
    }

    /// The variables that the configuration itself names.
    fn named_variables(&self) -> impl Iterator<Item = &String> {
        let secrets = self.auths.values().flatten().filter_map(|auth| auth.secret_env.as_ref());
        let secrets = secrets.chain(self.keys.values().flatten().filter_map(|keys| keys.url_env.as_ref()));
        let secrets = secrets.chain(self.sources.values().flatten().filter_map(|source| source.url_env.as_ref()));
        let secrets = secrets.chain(self.bridge.iter().filter_map(|bridge| bridge.url_env.as_ref()));
        let secrets = secrets.chain(self.hooks.values().flatten().filter_map(|hook| hook.secret_env.as_ref()));
        let secrets = secrets.chain(self.webhooks.iter().filter_map(|webhook| webhook.secret_env.as_ref()));
        secrets.chain(self.admin.iter().filter_map(|admin| admin.token_env.as_ref()))
    }

    fn check_auths(&mut self, overrides: &Overrides, problems: &mut Problems, warnings: &mut Vec<String>) {
        for (name, auth) in &mut self.auths {
            let Some(auth) = auth else { continue };
            auth.check(problems);
            let given = Given::new("secret", &auth.secret, &auth.secret_env, &auth.secret_file);
            auth.secret = given.resolve(overrides.variables(), &auth.places, problems);
            if let Err(fault) = keys::load(auth) {
                auth.places.problem(problems, fault.setting, fault.text);
            }
            if let Some(secret) = &auth.secret
                && secret.expose().len() < SECRET_BYTES_SAFE
            {
                let size = secret.expose().len();
                warnings.push(format!(
                    "the secret of [auth.{name}] has {size} bytes; with less than {SECRET_BYTES_SAFE} it can be guessed"
                ));
            }
        }
    }

    fn check_stores_and_sources(&mut self, overrides: &Overrides, problems: &mut Problems) {
        for keys in self.keys.values_mut().flatten() {
            let given = Given::new("url", &keys.url, &keys.url_env, &keys.url_file);
            keys.url = given.resolve(overrides.variables(), &keys.places, problems);
            keys.check(problems);
        }
        for source in self.sources.values_mut().flatten() {
            let given = Given::new("url", &source.url, &source.url_env, &source.url_file);
            source.url = given.resolve(overrides.variables(), &source.places, problems);
            source.check(problems);
        }
        if let Some(bridge) = &mut self.bridge {
            let given = Given::new("url", &bridge.url, &bridge.url_env, &bridge.url_file);
            bridge.url = given.resolve(overrides.variables(), &bridge.places, problems);
            bridge.check(problems);
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

    fn check_endpoints(&self, problems: &mut Problems) {
        for (i, endpoint) in self.endpoints.iter().enumerate() {
            endpoint.check(problems);
            let path = &endpoint.path.0;
            if self.endpoints[..i].iter().any(|earlier| earlier.path.0 == *path) {
                endpoint.places.problem(problems, "path", format!("\"{path}\" is the path of an earlier [[endpoint]]"));
            }
            let names = &endpoint.auth.0;
            let unknown = names.iter().find(|name| *name != "none" && !self.auths.contains_key(*name));
            if let Some(name) = unknown {
                endpoint.places.problem(problems, "auth", self.unknown_auth(name));
                continue;
            }
            let has_claims = names.iter().all(|name| self.checks(name));
            if !has_claims && names.len() > 1 {
                let text =
                    "a list with one that lets everybody in lets everybody in; name only those that check something";
                endpoint.places.problem(problems, "auth", text);
            }
            let name = endpoint.socket_id.as_ref().and_then(|template| template.names().next());
            // Clients of bullet.js have a key, whether it is checked or not.
            let name = name.filter(|name| endpoint.protocol != Protocol::Bullet || *name != "key");
            if let (Some(name), false) = (name, has_claims) {
                let text = format!("{{{name}}} is a claim of a token, but this endpoint has no `auth` that checks one");
                endpoint.places.problem(problems, "socket_id", text);
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

    fn unknown_auth(&self, name: &str) -> String {
        let known: Vec<_> = self.auths.keys().map(String::as_str).chain(["none"]).collect();
        let next = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("there is {}; add [auth.{name}]", known.join(", ")),
        };
        format!("there is no [auth.{name}]; {next}")
    }

    fn check_admin(&mut self, overrides: &Overrides, problems: &mut Problems) {
        let Some(admin) = &mut self.admin else { return };
        let given = Given::new("token", &admin.token, &admin.token_env, &admin.token_file);
        let is_given = ["token", "token_env", "token_file"].iter().find(|key| admin.places.is_given(key));
        admin.token = given.resolve(overrides.variables(), &admin.places, problems);
        match (&admin.token, is_given) {
            (Some(token), Some(key)) if token.expose().chars().count() < TOKEN_CHARS_MIN => {
                let text =
                    format!("the token is shorter than {TOKEN_CHARS_MIN} characters, so that it could be guessed");
                admin.places.problem(problems, key, text);
            }
            (None, None) if !admin.listen.0.ip().is_loopback() => {
                let text = format!(
                    "{} can be reached from other machines, which needs a token: set token_env, token_file or token",
                    admin.listen.0
                );
                admin.places.problem(problems, "listen", text);
            }
            _ => {}
        }
        if let Some(server) = &self.server
            && server.listen == admin.listen
            && admin.listen.0.port() != 0
        {
            admin.places.problem(problems, "listen", format!("{} is the address of `listen` too", admin.listen.0));
        }
    }

    fn check_tls(&self, problems: &mut Problems) {
        let Some(tls) = &self.tls else { return };
        match tls::load(&tls.cert, &tls.key) {
            Ok(_) => {}
            Err(tls::Fault::Cert(text)) => tls.places.problem(problems, "cert", text),
            Err(tls::Fault::Key(text)) => tls.places.problem(problems, "key", text),
        }
    }

    fn check_limits(&self, problems: &mut Problems, warnings: &mut Vec<String>) {
        let Some(limits) = &self.limits else { return };
        limits.check(problems);
        if limits.places.is_given("connections_max") {
            let admin = self.admin.as_ref().map_or(0, |admin| admin.connections_max.0);
            warnings.extend(Descriptors::allowed().warning(limits.connections_max.0, admin));
        }
    }

    fn warn_of_unreachable(&self, warnings: &mut Vec<String>) {
        if self.channels.is_empty() && self.endpoints.iter().any(|endpoint| endpoint.protocol.has_channels()) {
            warnings.push("there is no [[channel]], so that every join is refused".into());
        }
        if self.endpoints.iter().any(|endpoint| endpoint.auth.0.iter().any(|auth| self.checks(auth))) {
            return;
        }
        for channel in &self.channels {
            let rules: Vec<_> = channel.rules().filter(|(key, _)| *key == "join").collect();
            if rules.iter().all(|(_, rule)| rule.needs_identity()) {
                let topic = channel.patterns().next().map(ToString::to_string).unwrap_or_default();
                let why = "its `join` asks for a credential, but no endpoint has an `auth` that checks one";
                warnings.push(format!("nobody can join \"{topic}\": {why}"));
            }
        }
    }
}
