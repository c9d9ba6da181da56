//! `[source.NAME]`: where messages come from, beside clients and the HTTP API.

use std::path::PathBuf;

use super::channel::EventName;
use super::problem::Problems;
use super::rows::Tables;
use super::secret::{self, Secret};
use super::section::{Form, section};
use super::template::Template;
use super::value::{Count, OneOrMore, Size, Span, choice};

section! {
    /// Where messages come from, beside clients and the HTTP API. A source connects again for ever, and says in
    /// `GET /api/health` how it stands. A message that cannot be published is counted and skipped. More about it, with
    /// examples: `docs/sources.md`.
    struct Source: "source", Form::Named;
    keys {
        /// What it is.
        kind: Kind = "",
        /// The environment variable that holds the address. One of the three address keys must be given.
        url_env: Option<String> = "",
        /// The file that holds the address.
        url_file: Option<PathBuf> = "",
        /// The address, such as `redis://127.0.0.1:6379`, `postgres://user:password@host/database` or `nats://127.0.0.1:4222`.
        /// Better kept out of the file if it has a password: see the two keys above.
        url: Option<Secret> = "",
        /// What is listened to: with `redis` channels, with `redis_stream` streams, with `postgres` channels of `NOTIFY`, with
        /// `nats` subjects, which may have wildcards.
        channels: Option<OneOrMore<String>> = "",
        /// For `redis`: patterns of channels, such as `news.*`.
        patterns: Option<OneOrMore<String>> = "",
        /// What becomes of a message.
        route: Route = "\"envelope\"",
        /// For the routes `channel` and `recipients`: the topic, with `{channel}` for where the message came from, or
        /// `{recipient}`. Left out: `{channel}`, or `bridge:{recipient}`.
        topic: Option<Template> = "",
        /// For the route `recipients`: the topic of messages without recipients.
        broadcast_topic: String = "\"bridge\"",
        /// For the route `recipients`: how many a message may have.
        recipients_max: Count<1, 1_000_000> = "10000",
        /// For the routes `channel` and `recipients`: the event that messages are published as.
        event: EventName = "\"message\"",
        /// For `redis_stream`: the consumer group, which is made if it is not there. For `nats`: the queue group. Servers with
        /// the same group share the messages.
        group: Option<String> = "",
        /// For `redis_stream`: the field of an entry that has the message.
        field: String = "\"data\"",
        /// For `redis_stream`: what this server is called in the group. Left out: a name that is made up at each start.
        consumer: Option<String> = "",
        /// For `redis_stream`: where a group begins that has to be made: with the `oldest` entries, or with `new` ones.
        start: Start = "\"oldest\"",
        /// For `redis_stream`: entries that another server took and has not acknowledged for so long are taken over.
        claim_after: Span<100, 86_400_000> = "\"10s\"",
        /// For `outbox`: the table.
        table: String = "\"fanfare_outbox\"",
        /// For `outbox`: whether tables are made that are not there.
        create: bool = "true",
        /// For `outbox`: what happens to a row once it is published: `mark` it in its column `published_at`, or `delete` it.
        done: Done = "\"mark\"",
        /// For `outbox`: how often the table is looked at where nothing tells that there is something.
        poll: Span<10, 3_600_000> = "\"1s\"",
        /// For `outbox` and `postgres`: the tables whose changes clients of an endpoint with `postgres_changes` are told, and who may
        /// see which row: `{ "public.orders" = "claim:sub=row:user_id" }`. A table's trigger sends them: see
        /// `docs/supabase.md`.
        changes: Option<Tables> = "",
        /// For `redis_stream` and `outbox`: how many messages are taken at a time.
        batch: Count<1, 10_000> = "100",
        /// For `redis_stream` and `outbox`: the stream or table to which messages go that cannot be published, instead of nowhere.
        park: Option<String> = "",
        /// For `redis` and `nats`: how many messages may wait while they cannot be published. What comes then is lost, and counted
        /// as `skipped_overrun`. Sources of the other kinds leave what waits where it is.
        waiting_messages_max: Count<1, 10_000_000> = "65536",
        /// The same in bytes.
        waiting_bytes_max: Size<1_000_000, 10_000_000_000> = "\"64MiB\"",
        /// The longest message. A longer one is skipped.
        message_size_max: Size<100, 100_000_000> = "\"1MB\"",
    }
    later []
}

choice! {
    /// A kind of source.
    pub(crate) enum Kind {
        /// Channels of Redis, and patterns of them.
        Redis = "redis",
        /// Streams of Redis, read by a consumer group.
        RedisStream = "redis_stream",
        /// What is sent by `NOTIFY` in PostgreSQL.
        Postgres = "postgres",
        /// A table of PostgreSQL whose rows are published.
        Outbox = "outbox",
        /// Subjects of NATS.
        Nats = "nats",
    } later []
}

choice! {
    /// What becomes of a message.
    pub(crate) enum Route {
        /// It says by itself: `{"topic": …, "event": …, "payload": …}`.
        Envelope = "envelope",
        /// The topic is that of its channel, the payload the whole message.
        Channel = "channel",
        /// It names those who get it: `{"recipients": […], …}`; each gets the object without that.
        Recipients = "recipients",
    } later []
}

choice! {
    /// Where a new consumer group begins.
    pub(crate) enum Start {
        /// With all that is there.
        Oldest = "oldest",
        /// With what comes from now on.
        New = "new",
    } later []
}

choice! {
    /// What happens to a row that was published.
    pub(crate) enum Done {
        /// It says when.
        Mark = "mark",
        /// It is deleted.
        Delete = "delete",
    } later []
}

impl Kind {
    /// Whether an address is one of this kind of server.
    ///
    /// # Errors
    /// What it has to be, without any of it.
    pub(crate) fn check_url(self, url: &str) -> Result<(), String> {
        let (schemes, example): (&[&str], _) = match self {
            Kind::Redis | Kind::RedisStream => (&["redis", "rediss", "redis+unix", "unix"], "redis://HOST:6379"),
            // Its client takes an address without a scheme as well.
            Kind::Nats if !url.contains("://") && !url.is_empty() => return Ok(()),
            Kind::Nats => (&["nats", "tls", "ws", "wss"], "nats://HOST:4222"),
            // The driver also takes `key=value` pairs.
            Kind::Outbox | Kind::Postgres if url.contains('=') && !url.contains("://") => return Ok(()),
            Kind::Outbox | Kind::Postgres => (&["postgres", "postgresql"], "postgres://USER:PASSWORD@HOST/DATABASE"),
        };
        match url.split_once("://") {
            Some((scheme, rest)) if schemes.contains(&scheme) && !rest.is_empty() => Ok(()),
            _ => Err(format!("is not an address of this kind of server: write {example}")),
        }
    }

    fn uses(self, key: &str) -> bool {
        match key {
            "channels" => self != Kind::Outbox,
            "patterns" => self == Kind::Redis,
            "group" => matches!(self, Kind::RedisStream | Kind::Nats),
            "field" | "consumer" | "start" | "claim_after" => self == Kind::RedisStream,
            "table" | "create" | "done" | "poll" => self == Kind::Outbox,
            "waiting_messages_max" | "waiting_bytes_max" => matches!(self, Kind::Redis | Kind::Nats),
            "changes" => matches!(self, Kind::Outbox | Kind::Postgres),
            "batch" | "park" => matches!(self, Kind::RedisStream | Kind::Outbox),
            "route" | "topic" | "broadcast_topic" | "recipients_max" | "event" => self != Kind::Outbox,
            _ => true,
        }
    }
}

impl Source {
    /// Checks what concerns more than one key.
    pub(super) fn check(&self, problems: &mut Problems) {
        let choice = format!("kind = \"{}\"", self.kind.name());
        self.places.report_useless(problems, &choice, |key| self.kind.uses(key));
        let unused: &[&str] = match self.route {
            Route::Envelope => &["topic", "broadcast_topic", "recipients_max", "event"],
            Route::Channel => &["broadcast_topic", "recipients_max"],
            Route::Recipients => &[],
        };
        let choice = format!("route = \"{}\"", self.route.name());
        self.places.report_useless(problems, &choice, |key| !self.kind.uses(key) || !unused.contains(&key));
        if !secret::is_given("url", &self.places) {
            self.places.problem(problems, "url", "the address is missing: give url_env, url_file or url");
        }
        if self.kind.uses("channels") && self.channels.is_none() && self.patterns.is_none() {
            self.places.problem(problems, "channels", "is missing: what to listen to");
        }
        if self.kind == Kind::RedisStream && self.group.is_none() {
            self.places.problem(problems, "group", "is missing: the name of the consumer group");
        }
        let known = if self.route == Route::Recipients { "recipient" } else { "channel" };
        if let Some(unknown) = self.topic.iter().flat_map(Template::names).find(|name| *name != known) {
            let text = format!("{{{unknown}}} is unknown with route = \"{}\"; there is {{{known}}}", self.route.name());
            self.places.problem(problems, "topic", text);
        }
        if self.route == Route::Recipients && self.topic.iter().any(|topic| topic.names().next().is_none()) {
            let text = "needs {recipient}: without it everybody would get what is meant for one";
            self.places.problem(problems, "topic", text);
        }
        if self.kind == Kind::Outbox && self.park.as_ref().is_some_and(|park| !is_identifier(park)) {
            let text = "a table's name has letters, digits and _ only, and a dot between it and its schema";
            self.places.problem(problems, "park", text);
        }
        if self.kind == Kind::Outbox && !is_identifier(&self.table) {
            let text = "a table's name has letters, digits and _ only, and a dot between it and its schema";
            self.places.problem(problems, "table", text);
        }
    }
}

/// It becomes a part of statements.
fn is_identifier(table: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && !part.starts_with(|c: char| c.is_ascii_digit())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    table.split('.').count() <= 2 && table.split('.').all(is_part)
}
