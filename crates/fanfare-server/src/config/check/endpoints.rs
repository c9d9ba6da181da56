//! Endpoints: that their paths differ, that what they name exists, and that none is open that looks closed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::super::endpoint::{Endpoint, Protocol, Subscribe};
use super::super::problem::Problems;
use super::super::section::{listed, nearest};
use super::Draft;

impl Draft {
    pub(super) fn check_endpoints(&self, problems: &mut Problems) {
        let mut paths = HashMap::new();
        for endpoint in &self.endpoints {
            endpoint.check(problems);
            let path = &endpoint.path.0;
            match paths.entry(without_names(path)) {
                Entry::Vacant(entry) => _ = entry.insert(path),
                Entry::Occupied(entry) if *entry.get() == path => {
                    let text = format!("\"{path}\" is the path of an earlier [[endpoint]]");
                    endpoint.places.problem(problems, "path", text);
                }
                Entry::Occupied(entry) => {
                    let text = format!(
                        "\"{path}\" takes the same requests as \"{}\" of an earlier [[endpoint]]: the names of segments make no difference",
                        entry.get()
                    );
                    endpoint.places.problem(problems, "path", text);
                }
            }
            if let Some(name) = endpoint.postgres_changes.source()
                && let Some(text) = self.no_changes(name)
            {
                endpoint.places.problem(problems, "postgres_changes", text);
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
            let name = endpoint.tenant.as_ref().and_then(|naming| naming.claims()?.names().next());
            if let (Some(name), false) = (name, has_claims) {
                let text = format!("{{{name}}} is a claim of a token, but this endpoint has no `auth` that checks one");
                endpoint.places.problem(problems, "tenant", text);
            }
            if !has_claims {
                check_open(endpoint, problems);
            }
        }
    }

    /// Why a source has no changes of tables, if so.
    fn no_changes(&self, name: &str) -> Option<String> {
        match self.sources.get(name) {
            Some(Some(source)) if source.changes.is_none() => {
                Some(format!("[source.{name}] names no tables: give it `changes`"))
            }
            // It could not be read, which was reported, or has some.
            Some(_) => None,
            None => {
                let known = self.sources.keys().map(String::as_str).chain(["tell", "refuse"]);
                Some(match nearest(name, known) {
                    Some(near) => format!("there is no [source.{name}]; did you mean \"{near}\"?"),
                    None => format!("there is no [source.{name}]; add it, or take \"tell\" or \"refuse\""),
                })
            }
        }
    }

    fn unknown_auth(&self, name: &str) -> String {
        let known = || self.auths.keys().map(String::as_str).chain(["none"]);
        let next = match nearest(name, known()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("there is {}; add [auth.{name}]", listed(known())),
        };
        format!("there is no [auth.{name}]; {next}")
    }
}

/// An endpoint that lets everybody in must not look as if it did not.
fn check_open(endpoint: &Endpoint, problems: &mut Problems) {
    let protocol = endpoint.protocol.name();
    if endpoint.protocol == Protocol::Supabase && endpoint.api_keys.is_none() {
        let text = "is missing: clients of protocol = \"supabase\" show tokens with a role; name the [auth.NAME] that checks \
                    them, or give `api_keys`";
        endpoint.places.problem(problems, "auth", text);
    }
    if matches!(endpoint.protocol, Protocol::Hub | Protocol::Bullet) && !endpoint.places.is_given("auth") {
        let text = format!(
            "is missing: clients of protocol = \"{protocol}\" show a key, and without it any key passes; name the \
             [auth.NAME] that checks keys, or let everybody in with auth = \"none\""
        );
        endpoint.places.problem(problems, "auth", text);
    }
    if endpoint.subscribe == Subscribe::Authenticated {
        let text = "\"authenticated\" lets everybody in, since this endpoint has no `auth` that checks credentials; name \
                    an [auth.NAME] that does";
        endpoint.places.problem(problems, "subscribe", text);
    }
    if endpoint.credential_within.is_some() {
        let text = "has no effect without an `auth` that checks credentials; name one, or remove it";
        endpoint.places.problem(problems, "credential_within", text);
    }
}

/// A path in which all named segments are the same.
fn without_names(path: &str) -> String {
    let one = |segment| if str::starts_with(segment, ':') { ":" } else { segment };
    path.split('/').map(one).collect::<Vec<_>>().join("/")
}
