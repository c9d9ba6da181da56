//! The commented files that `fanfare init` writes. They work as they are; in the long one every key stands with its default.

use super::SECTIONS;
use super::section::{Form, Section};

/// The keys that are set; all others are shown as comments.
const SET: [(&str, &str, &str); 3] =
    [("", "listen", "\"127.0.0.1:4000\""), ("endpoint", "path", "\"/socket\""), ("channel", "preset", "\"lobby\"")];

/// What to write for keys without a default.
const EXAMPLES: &[(&str, &str)] = &[
    ("shards", "4"),
    ("ready_needs", "\"hooks.backend\""),
    ("tls.cert", "\"cert.pem\""),
    ("tls.key", "\"key.pem\""),
    ("tls.certificate.cert", "\"other-cert.pem\""),
    ("tls.certificate.key", "\"other-key.pem\""),
    ("tls.acme.domains", "[\"chat.example.com\"]"),
    ("tls.acme.contact", "\"admin@example.com\""),
    ("tls.acme.cache_dir", "\"/var/lib/fanfare/acme\""),
    ("tls.acme.eab_kid", "\"kid-1\""),
    ("tls.acme.eab_key_env", "\"ACME_EAB_KEY\""),
    ("tls.acme.eab_key_file", "\"eab-key.txt\""),
    ("tls.acme.eab_key", "\"the key in base64url\""),
    ("endpoint.credential_within", "\"10s\""),
    ("endpoint.transports", "[\"websocket\"]"),
    ("endpoint.longpoll_window", "\"10s\""),
    ("endpoint.socket_id", "\"user_socket:{sub}\""),
    ("endpoint.tenant", "\"host\""),
    ("tenant.sockets_max", "1000"),
    ("tenant.joins_max", "10000"),
    ("tenant.messages_per_s", "200"),
    ("tenant.publishes_per_s", "100"),
    ("tenant.bytes_out_per_day", "\"10GB\""),
    ("auth.kind", "\"jwt\""),
    ("public_url", "\"https://chat.example.com\""),
    ("trusted_proxies", "[\"10.0.0.0/8\", \"loopback\"]"),
    ("auth.algorithms", "[\"HS256\", \"HS512\"]"),
    ("auth.secret_env", "\"FANFARE_SECRET\""),
    ("auth.secret_file", "\"secret.txt\""),
    ("auth.secret", "\"at least 32 characters that nobody can guess\""),
    ("auth.public_key_file", "\"issuer.pem\""),
    ("auth.cookies", "\"session\""),
    ("auth.headers", "\"x-tenant\""),
    ("auth.jwks_file", "\"keys.json\""),
    ("auth.jwks_url", "\"https://example.com/.well-known/jwks.json\""),
    ("auth.max_age", "\"24h\""),
    ("auth.issuer", "\"https://example.com\""),
    ("auth.audience", "\"fanfare\""),
    ("auth.type", "\"access\""),
    ("auth.keys", "\"main\""),
    ("keys.path", "\"apikeys.db\""),
    ("keys.url_env", "\"DATABASE_URL\""),
    ("keys.url_file", "\"database-url.txt\""),
    ("keys.url", "\"postgres://user:password@host/database\""),
    ("source.kind", "\"redis\""),
    ("source.url_env", "\"REDIS_URL\""),
    ("source.url_file", "\"redis-url.txt\""),
    ("source.url", "\"redis://127.0.0.1:6379\""),
    ("source.channels", "[\"my_channel\"]"),
    ("source.patterns", "[\"news.*\"]"),
    ("source.changes", "{ \"public.orders\" = \"claim:sub=row:user_id\" }"),
    ("source.topic", "\"{channel}\""),
    ("source.group", "\"fanfare\""),
    ("source.consumer", "\"node-1\""),
    ("source.park", "\"parked\""),
    ("bridge.url_env", "\"REDIS_URL\""),
    ("bridge.url_file", "\"redis-url.txt\""),
    ("bridge.url", "\"redis://127.0.0.1:6379\""),
    ("bridge.key", "\"{sub}\""),
    ("broker.url_env", "\"REDIS_URL\""),
    ("broker.url_file", "\"redis-url.txt\""),
    ("broker.url", "\"redis://127.0.0.1:6379\""),
    ("broker.credentials_env", "\"NATS_CREDENTIALS\""),
    ("broker.credentials_file", "\"node-1.creds\""),
    ("broker.credentials", "\"SU…, or the content of a .creds file\""),
    ("cluster.name", "\"node-1\""),
    ("cluster.admin_url", "\"https://node-1.example.com/\""),
    ("bridge.forward", "\"from_clients\""),
    ("auth.hook", "\"backend\""),
    ("history.dir", "\"history\""),
    ("channel.delta_key", "\"symbol\""),
    ("channel.history", "{ messages = 100, bytes = \"1MiB\", ttl = \"10m\" }"),
    ("channel.catch_up", "20"),
    ("channel.latest_key", "\"symbol\""),
    ("channel.topic", "\"room:*\""),
    ("channel.schemas", "{ new_msg = \"schemas/new_msg.json\" }"),
    ("channel.join", "\"authenticated\""),
    ("channel.publish", "\"claim:role=support\""),
    ("channel.events", "[\"new_msg\"]"),
    ("channel.payload_size_max", "\"64KB\""),
    ("channel.presence", "true"),
    ("channel.presence_members_max", "5000"),
    ("channel.presence_bytes_max", "\"1MiB\""),
    ("channel.broadcast_read", "\"claim:role=authenticated\""),
    ("channel.broadcast_write", "\"claim:role=authenticated\""),
    ("channel.presence_read", "\"claim:role=authenticated\""),
    ("channel.presence_write", "\"authenticated and presence_key=claim:sub\""),
    ("channel.replay_max", "25"),
    ("endpoint.api_keys", "{ PUBLISHABLE_KEY = \"anon\", SECRET_KEY = \"service_role\" }"),
    ("hook.url", "\"http://127.0.0.1:8000/fanfare\""),
    ("hook.secret_env", "\"FANFARE_SECRET\""),
    ("hook.secret_file", "\"secret.txt\""),
    ("hook.secret", "\"at least 32 characters that nobody can guess\""),
    ("webhook.name", "\"presence\""),
    ("webhook.url", "\"http://127.0.0.1:8000/events\""),
    ("webhook.secret_env", "\"FANFARE_SECRET\""),
    ("webhook.secret_file", "\"secret.txt\""),
    ("webhook.secret", "\"at least 32 characters that nobody can guess\""),
    ("limits.bodies_bytes_max", "\"16MB\""),
    ("limits.outboxes_bytes_max", "\"1GB\""),
    ("limits.inboxes_bytes_max", "\"500MB\""),
    ("limits.vanished_timeout", "\"45s\""),
    ("limits.join_burst", "500"),
    ("limits.message_rate", "50"),
    ("limits.message_burst", "100"),
    ("limits.bytes_rate", "\"1MB\""),
    ("limits.message_over", "\"pace\""),
    ("limits.user_message_rate", "100"),
    ("limits.sockets_per_user_max", "20"),
    ("limits.accept_rate_per_address", "100"),
    ("limits.accept_burst_per_address", "400"),
    ("channel.publish_rate", "1000"),
    ("admin.publish_rate", "1000"),
    ("limits.error_burst", "500"),
    ("limits.ping_burst", "100"),
    ("limits.accept_rate", "2000"),
    ("limits.accept_burst", "4000"),
    ("admin.token_env", "\"FANFARE_API_TOKEN\""),
    ("admin.token_file", "\"token.txt\""),
    ("admin.token", "\"at least 16 characters\""),
    ("metrics.listen", "\"127.0.0.1:9464\""),
    ("traces.endpoint", "\"http://127.0.0.1:4318\""),
];

const HEAD: &str = "\
# A configuration of Fanfare: an open lobby at ws://127.0.0.1:4000/socket, to start from.
# Remove a `#` before a key to change it; what it shows is the default, or an example where there is none.
#
#     fanfare check --config FILE      says what is wrong with it
#     fanfare serve --config FILE      starts it
";

/// The text of the short file: what most servers need.
pub(crate) const SHORT: &str = include_str!("starter/short.toml");

/// The text of the long file.
pub(crate) fn text() -> String {
    let mut text = HEAD.to_owned();
    for section in SECTIONS {
        text.push('\n');
        text.push_str(&describe(section));
    }
    text
}

fn describe(section: &Section) -> String {
    let mut text = String::new();
    let is_set = SET.iter().any(|(name, ..)| *name == section.name);
    for line in section.doc {
        text.push_str(&format!("# {}\n", line.trim()));
    }
    match section.form {
        Form::Root => text.push('\n'),
        Form::Named => text.push_str(&format!(
            "# [{}.{}]\n",
            section.name,
            match section.name {
                "hook" => "backend",
                "tenant" => "acme",
                _ => "users",
            }
        )),
        _ if is_set => text.push_str(&format!("{}\n", section.header())),
        _ => text.push_str(&format!("# {}\n", section.header())),
    }
    for key in section.keys {
        for line in key.doc {
            text.push_str(&format!("#   {}\n", line.trim()));
        }
        let (name, path) = (key.name(), section.path(key.name()));
        let set = SET.iter().find(|(section_name, key, _)| *section_name == section.name && *key == name);
        let example = || EXAMPLES.iter().find(|(example, _)| *example == path).map(|(_, value)| *value);
        let line = match set {
            Some((.., value)) => format!("{name} = {value}\n"),
            None if key.default.is_empty() => format!("# {name} = {}\n", example().unwrap_or_default()),
            None => format!("# {name} = {}\n", key.default),
        };
        text.push_str(&line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::Overrides;
    use super::*;

    #[test]
    fn the_starter_is_right_as_it_is() {
        let config = crate::preflight::parse("starter", &text(), &Overrides::default()).unwrap();
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        assert_eq!(config.channels[0].patterns().next().unwrap().to_string(), "room:lobby");
        assert_eq!(config.endpoints[0].path.0, "/socket");
    }

    #[test]
    fn the_short_starter_is_right_with_and_without_its_comments() {
        assert!(SHORT.lines().count() <= 40);
        let uncommented: String = SHORT
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(setting) if setting.starts_with('[') || is_setting(setting) => setting,
                _ => line,
            })
            .map(|line| format!("{line}\n"))
            .collect();
        assert_ne!(uncommented, SHORT);
        // The secret comes from the environment, which a test shares with others.
        let uncommented =
            uncommented.replace("secret_env = \"FANFARE_SECRET\"", &format!("secret = \"{}\"", "s".repeat(64)));
        for text in [SHORT, &uncommented] {
            let config = crate::preflight::parse("short", text, &Overrides::default());
            let config = config.unwrap_or_else(|report| panic!("{report}\n{text}"));
            assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        }
    }

    #[test]
    fn every_commented_key_can_be_uncommented() {
        for section in SECTIONS {
            for key in section.keys {
                let line = text()
                    .lines()
                    .filter(|line| line.starts_with("# ") && line.contains(" = "))
                    .find_map(|line| line.strip_prefix(&format!("# {} = ", key.name())).map(str::to_owned));
                let is_set = SET.iter().any(|(name, set, _)| *name == section.name && *set == key.name());
                assert!(is_set || line.is_some_and(|value| !value.is_empty()), "{}", section.path(key.name()));
            }
        }
        // These exclude others, or need something else beside them.
        let dependent = [
            "show_node",
            "admin_url",
            "delta_key",
            "user_message_rate",
            "sockets_per_user_max",
            "sockets_per_user_over",
            "schemas",
            "schema_mode",
            "name",
            "secret_env",
            "secret_file",
            "token_env",
            "token_file",
            "cert",
            "key",
            "domains",
            "contact",
            "directory",
            "cache_dir",
            "challenge",
            "http_listen",
            "accept_terms",
            "eab_kid",
            "eab_key_env",
            "eab_key_file",
            "eab_key",
            "http2",
            "credential_within",
            "transports",
            "socket_id",
            "public_key_file",
            "hook",
            "headers",
            "cookies",
            "jwks_file",
            "jwks_url",
            "jwks_refresh",
            "latest_key",
            "jwks_timeout",
            "jwks_stale_max",
            "jwks_allow_http",
            "salt",
            "max_age",
            "key_iterations",
            "key_length",
            "key_digest",
            "event",
            "topic_prefix",
            "grace",
            "wait_for_topic",
            "replace",
            "subscribe",
            "acks",
            "topics",
            "keys",
            "api_keys",
            "bypass",
            "private_only",
            "expired",
            "postgres_changes",
            "broadcast_read",
            "broadcast_write",
            "presence_read",
            "presence_write",
            "replay_max",
        ];
        // These need a database or Redis at their side, and have a test of their own.
        let apart = ["# [keys.users]", "# [source.users]", "# [bridge]", "# [broker]"];
        let mut is_apart = false;
        let uncommented: String = text()
            .lines()
            .filter(|line| {
                is_apart = apart.contains(line) || (is_apart && !line.trim_start_matches("# ").starts_with('['));
                !is_apart
            })
            .map(|line| match line.strip_prefix("# ") {
                Some(setting) if is_setting(setting) && !dependent.iter().any(|key| is_key(setting, key)) => setting,
                Some(header) if header.starts_with('[') && header.ends_with(']') && !header.contains("tls") => header,
                _ => line,
            })
            .map(|line| format!("{line}\n"))
            .collect();
        let config = crate::preflight::parse("starter", &uncommented, &Overrides::default());
        let report = config.map(|_| ()).map_err(|report| report.to_string());
        assert_eq!(report, Ok(()), "{uncommented}");
    }

    fn is_setting(line: &str) -> bool {
        line.split_once(" = ").is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    }

    fn is_key(line: &str, key: &str) -> bool {
        line.strip_prefix(key).is_some_and(|rest| rest.starts_with(" = "))
    }
}
