//! What is said at the beginning of a connection, and what the server's errors mean.

use serde_json::{Value, json};

use super::super::key::{Key, Proof};
use super::super::url::Login;

/// The oldest version that nodes are tried with.
const VERSION_MIN: (u64, u64) = (2, 9);

/// What a server says of itself.
#[derive(Debug)]
pub(in crate::broker::nats) struct Info {
    pub(in crate::broker::nats) payload_max: Option<usize>,
    pub(in crate::broker::nats) needs_tls: bool,
    pub(in crate::broker::nats) offers_tls: bool,
    /// It is about to end.
    pub(in crate::broker::nats) ends: bool,
    /// What a node is to sign that has a key.
    pub(in crate::broker::nats) nonce: Option<String>,
    pub(in crate::broker::nats) version: String,
    pub(in crate::broker::nats) has_jetstream: bool,
    needs_login: bool,
    has_headers: bool,
}

impl Info {
    /// Reads it.
    ///
    /// # Errors
    /// It makes no sense.
    pub(in crate::broker::nats) fn read(json: &[u8]) -> Result<Self, String> {
        let info: Value = serde_json::from_slice(json).map_err(|_| "not NATS: its INFO is no JSON".to_owned())?;
        let is = |name: &str| info[name].as_bool().unwrap_or_default();
        Ok(Info {
            payload_max: info["max_payload"].as_u64().map(|bytes| bytes as usize),
            needs_tls: is("tls_required"),
            offers_tls: is("tls_available") || is("tls_required"),
            ends: is("ldm"),
            nonce: info["nonce"].as_str().map(str::to_owned),
            needs_login: is("auth_required"),
            has_jetstream: is("jetstream"),
            version: info["version"].as_str().unwrap_or("?").to_owned(),
            has_headers: is("headers"),
        })
    }

    /// Whether it has what a node needs.
    ///
    /// # Errors
    /// It has not, and what to do.
    pub(in crate::broker::nats) fn check(&self) -> Result<(), String> {
        let mut parts = self.version.trim_start_matches('v').split(['.', '-']).map(|part| part.parse::<u64>().ok());
        let version = parts.next().flatten().zip(parts.next().flatten());
        let (major, minor) = VERSION_MIN;
        if version.is_none_or(|version| version < VERSION_MIN) {
            return Err(format!(
                "it is of version {:?}, and a node needs {major}.{minor} or newer: upgrade it",
                self.version
            ));
        }
        if !self.has_headers {
            return Err("it allows no headers: take no_header_support out of its configuration".to_owned());
        }
        Ok(())
    }

    /// An error in words, with the next step where there is one. `key` is the node's.
    pub(in crate::broker::nats) fn in_words(&self, error: &str, key: Option<&Key>) -> String {
        let lower = error.to_ascii_lowercase();
        if let (Some(key), true) = (key, lower.contains("authorization") || lower.contains("authentication")) {
            return match self.nonce {
                None => format!(
                    "it says {error:?}; it checks no keys: give the node a user with a password in the broker's address, and no credentials"
                ),
                Some(_) => format!(
                    "it says {error:?}; the key of the node is {}: make that a user of the server, or give the node the JWT of an account \
                     that the server knows, and that has not ended",
                    key.public
                ),
            };
        }
        let next = if lower.contains("authorization violation") && self.needs_login && self.nonce.is_some() {
            "check the user and password or the token in the broker's address; where it checks NKeys or JWTs, give the node its own by \
             credentials_file"
        } else if lower.contains("authorization") || lower.contains("authentication") {
            "check the user and password or the token in the broker's address"
        } else if lower.contains("permissions") {
            "docs/cluster.md has what the user of a node has to be allowed"
        } else if lower.contains("payload") {
            "raise max_payload in its configuration"
        } else if lower.contains("maximum subscriptions") {
            "raise max_subscriptions in its configuration: a node has one for each topic with members"
        } else if lower.contains("maximum connections") {
            "raise max_connections in its configuration"
        } else if lower.contains("slow consumer") {
            "this node has not read fast enough; raise max_pending and write_deadline in its configuration if that is often so"
        } else {
            return format!("it says {error:?}");
        };
        format!("it says {error:?}; {next}")
    }
}

/// Introduces a node.
pub(in crate::broker::nats) fn connect(name: &str, login: &Login, proof: Option<&Proof<'_>>, is_tls: bool) -> String {
    let mut connect = json!({
        "verbose": false,
        "pedantic": false,
        "tls_required": is_tls,
        "name": name,
        "lang": "fanfare",
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": 1,
        // A node is told its own messages as well.
        "echo": true,
        "headers": true,
        "no_responders": true,
    });
    match login {
        Login::Nobody => {}
        Login::Token(token) => connect["auth_token"] = token.as_str().into(),
        Login::User { name, password } => {
            connect["user"] = name.as_str().into();
            connect["pass"] = password.as_str().into();
        }
    }
    if let Some(Proof { public, jwt, signature }) = proof {
        match jwt {
            Some(jwt) => connect["jwt"] = (*jwt).into(),
            None => connect["nkey"] = (*public).into(),
        }
        connect["sig"] = signature.as_str().into();
    }
    connect.to_string()
}

/// The subject that an error names, if it is about one alone and the connection stays.
pub(in crate::broker::nats) fn forbidden(error: &str) -> Option<&str> {
    if !error.to_ascii_lowercase().starts_with("permissions violation for ") {
        return None;
    }
    error.split('"').nth(1)
}
