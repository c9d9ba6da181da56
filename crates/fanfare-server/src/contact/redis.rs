//! A Redis: its version, and the settings that matter to a broker.

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;
use redis::{Client, FromRedisValue, RedisError};

/// What docs/cluster.md says that the buffer of a node should be, in bytes: the hard limit and the soft one.
const BUFFER_MIN: [u64; 2] = [256 * 1024 * 1024, 64 * 1024 * 1024];

/// A connection to one.
pub(super) struct Redis(MultiplexedConnection);

impl Redis {
    /// # Errors
    /// Why there is none, with the next step.
    pub(super) async fn connect(url: &str) -> Result<Self, String> {
        // The driver's error does not quote the address.
        let client = Client::open(url).map_err(|error| in_words(&error))?;
        client.get_multiplexed_async_connection().await.map(Self).map_err(|error| in_words(&error))
    }

    /// What it is, with its version.
    ///
    /// # Errors
    /// It does not say.
    pub(super) async fn what(mut self) -> Result<String, String> {
        let info = self.info("server").await?;
        let of = |name: &str| field(&info, name).map(str::to_owned);
        Ok(match (of("valkey_version"), of("redis_version")) {
            (Some(version), _) => format!("Valkey {version}"),
            (None, Some(version)) => format!("Redis {version}"),
            (None, None) => "it does not say its version".to_owned(),
        })
    }

    /// What of its settings is not as a broker's should be. `keeps` says whether it keeps histories.
    pub(super) async fn warnings(&mut self, keeps: bool) -> Vec<String> {
        let names = ["client-output-buffer-limit", "maxmemory-policy", "maxmemory", "appendonly"];
        let mut settings = HashMap::new();
        for name in names {
            match self.query::<HashMap<String, String>>(&["CONFIG", "GET", name]).await {
                Ok(some) => settings.extend(some),
                Err(why) => {
                    return vec![format!(
                        "its settings cannot be read ({why}): compare them by hand with those in docs/cluster.md"
                    )];
                }
            }
        }
        let setting = |name: &str| settings.get(name).map(String::as_str).unwrap_or_default();
        warnings(setting, keeps)
    }

    async fn info(&mut self, section: &str) -> Result<String, String> {
        self.query(&["INFO", section]).await
    }

    async fn query<T: FromRedisValue>(&mut self, words: &[&str]) -> Result<T, String> {
        redis::cmd(words[0]).arg(&words[1..]).query_async(&mut self.0).await.map_err(|error| in_words(&error))
    }
}

fn warnings<'a>(setting: impl Fn(&str) -> &'a str, keeps: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    let buffer = setting("client-output-buffer-limit");
    if is_small(buffer) {
        let limit = buffer.split_once("pubsub ").map_or(buffer, |(_, limit)| limit);
        warnings.push(format!(
            "client-output-buffer-limit pubsub is {limit}, so that it may hang up on a busy node: \
             CONFIG SET client-output-buffer-limit \"pubsub 256mb 64mb 60\""
        ));
    }
    let policy = setting("maxmemory-policy");
    if keeps && policy != "noeviction" && setting("maxmemory") != "0" {
        warnings.push(format!(
            "maxmemory-policy is {policy}, so that it throws histories away when its memory is full: \
             CONFIG SET maxmemory-policy noeviction"
        ));
    }
    if keeps && setting("appendonly") == "no" {
        warnings.push(
            "appendonly is no, so that it forgets all histories at its end: CONFIG SET appendonly yes".to_owned(),
        );
    }
    warnings
}

/// Whether the buffer of a subscriber has a limit that is too low; 0 is none.
fn is_small(limits: &str) -> bool {
    let words: Vec<&str> = limits.split_whitespace().collect();
    let Some(at) = words.iter().position(|word| *word == "pubsub") else { return false };
    let limits = words[at + 1..].iter().map(|word| word.parse().unwrap_or(0u64));
    limits.zip(BUFFER_MIN).any(|(limit, least)| limit != 0 && limit < least)
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn in_words(error: &RedisError) -> String {
    match error.code() {
        Some("NOAUTH" | "WRONGPASS") => format!("it says {error}; correct the user and password in the address"),
        _ if error.is_connection_refusal() => format!("no connection: {error}; start it, or correct the address"),
        _ if error.is_timeout() => {
            format!(
                "{error}; is it a Redis, and does it speak TLS on this port where the address begins with rediss://?"
            )
        }
        _ => match error.to_string() {
            // Its driver quotes the first bytes by their numbers.
            text if text.contains("Parse error") => {
                "it does not answer as a Redis does: correct the host and port in the address".to_owned()
            }
            text => text,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_lose_something_are_told() {
        let good = [
            ("client-output-buffer-limit", "normal 0 0 0 slave 268435456 67108864 60 pubsub 268435456 67108864 60"),
            ("maxmemory-policy", "noeviction"),
            ("maxmemory", "0"),
            ("appendonly", "yes"),
        ];
        let default = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60";
        for (changed, keeps, expected) in [
            (&[][..], true, &[][..]),
            (
                &[("client-output-buffer-limit", default)],
                true,
                &["client-output-buffer-limit pubsub is 33554432 8388608 60,"],
            ),
            (&[("client-output-buffer-limit", "pubsub 0 0 0")], true, &[]),
            (
                &[("client-output-buffer-limit", "pubsub 0 1000 60")],
                true,
                &["client-output-buffer-limit pubsub is 0 1000 60,"],
            ),
            (&[("maxmemory-policy", "allkeys-lru")], true, &[]),
            (
                &[("maxmemory-policy", "allkeys-lru"), ("maxmemory", "1000")],
                true,
                &["maxmemory-policy is allkeys-lru,"],
            ),
            (&[("maxmemory-policy", "allkeys-lru"), ("maxmemory", "1000")], false, &[]),
            (&[("appendonly", "no")], true, &["appendonly is no,"]),
            (&[("appendonly", "no")], false, &[]),
        ] {
            let setting = |name: &str| {
                let all = changed.iter().chain(&good);
                all.into_iter().find(|(known, _)| *known == name).map_or("", |(_, value)| *value)
            };
            let told = warnings(setting, keeps);
            let is_so =
                told.len() == expected.len() && told.iter().zip(expected).all(|(told, start)| told.starts_with(start));
            assert!(is_so, "{changed:?} {keeps}: {told:?}");
        }
    }
}
