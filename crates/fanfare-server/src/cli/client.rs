//! The commands that talk to a running server.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use fanfare::{PastFact, Since, SocketId};
use fanfare_bench::Trust;
use serde_json::{Map, Value};

use super::duration;
use crate::config::url::Url;
use crate::config::value::Text;
use crate::ranking::{By, Column};

/// What is published, and where to.
#[derive(Debug, Args)]
pub(crate) struct Pub {
    /// The topic; `-` reads whole messages from the standard input, one a line, as `fanfare sub` prints them
    pub(crate) topic: String,
    /// The event
    pub(crate) event: Option<String>,
    /// The payload, a JSON object; `-` reads payloads from the standard input, one a line [default: {}]
    pub(crate) payload: Option<String>,
    /// An idempotency key: a repetition with the same key within five minutes is not published
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Publish only if the topic's history is at this position; `0:0` expects an empty history
    #[arg(long, value_name = "POSITION", value_parser = position)]
    pub(crate) expect: Option<String>,
    /// Allow events that begin with phx_ or presence_, which belong to the protocol
    #[arg(long)]
    pub(crate) allow_reserved: bool,
    #[command(flatten)]
    pub(crate) api: Api,
}

/// What is subscribed to, and how.
#[derive(Debug, Args)]
pub(crate) struct Sub {
    /// The topics to join; with `--protocol hub` one DOMAIN/TOPIC, with `bullet` none: its key decides
    #[arg(value_name = "TOPIC")]
    pub(crate) topics: Vec<String>,
    /// The protocol of the server at that address
    #[arg(long, value_enum, default_value_t = Protocol::Phoenix)]
    pub(crate) protocol: Protocol,
    /// The address, ws:// or wss:// [default: the protocol's usual path on 127.0.0.1:4000]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Read the address from this configuration file
    #[arg(short, long, value_name = "FILE", conflicts_with = "url")]
    pub(crate) config: Option<PathBuf>,
    /// A parameter of the connection, which becomes part of the URL; can be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parameter)]
    pub(crate) param: Vec<(String, String)>,
    /// The token to connect with; other users of this machine can see it while the command runs
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["token_env", "token_file"])]
    pub(crate) token: Option<String>,
    /// The environment variable that holds the token
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    pub(crate) token_env: Option<String>,
    /// The file that holds the token; read again for every connection
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The payload of every join, JSON
    #[arg(long, value_name = "JSON", value_parser = json, default_value = "{}")]
    pub(crate) join_payload: Value,
    /// Start after this position of the topics' history, as printed with its messages; `0:0` is the beginning
    #[arg(long, value_name = "POSITION", value_parser = position)]
    pub(crate) since: Option<String>,
    /// Print only this event; can be repeated. Replies to joins are printed only with `--event phx_reply`
    #[arg(long, value_name = "EVENT")]
    pub(crate) event: Vec<String>,
    /// Stop after this many lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    #[command(flatten)]
    pub(crate) trust: Trust,
}

/// The protocols of endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// Phoenix Channels
    Phoenix,
    /// A hub: the frames of a topic's publisher
    Hub,
    /// JSON rooms
    Rooms,
    /// The protocol of bullet.js
    Bullet,
}

/// A topic whose members are asked for.
#[derive(Debug, Args)]
pub(crate) struct Presence {
    /// The topic
    pub(crate) topic: String,
    #[command(flatten)]
    pub(crate) api: Api,
}

/// A topic whose kept messages are printed.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// The topic
    pub(crate) topic: String,
    /// Print all messages after this position, and fail if some of them are gone; `0:0` is the beginning
    #[arg(long, value_name = "POSITION", value_parser = position)]
    pub(crate) since: Option<String>,
    /// Print at most this many; without --since the newest ones [default without --since: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,
    #[command(flatten)]
    pub(crate) api: Api,
}

/// Whose sockets are closed.
#[derive(Debug, Args)]
pub(crate) struct Disconnect {
    /// The id, such as `user_socket:7`; the setting `socket_id` makes the id of a user
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) api: Api,
}

/// Which messages are watched.
#[derive(Debug, Args)]
#[group(id = "watched", required = true, multiple = true, args = ["topic", "user", "address", "socket"])]
pub(crate) struct Tap {
    /// The topics: one, or all that begin like `room:*`
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic: Option<String>,
    /// What sockets with this id send and are answered, such as `user_socket:7`
    #[arg(long, value_name = "ID")]
    pub(crate) user: Option<String>,
    /// The same of sockets of this IP address
    #[arg(long, value_name = "ADDR")]
    pub(crate) address: Option<IpAddr>,
    /// The same of one socket, by its name such as `0-17-3`
    #[arg(long, value_name = "SOCKET", value_parser = socket)]
    pub(crate) socket: Option<SocketId>,
    /// Only what clients send (in), or only what they get (out)
    #[arg(long, value_name = "WAY", value_parser = PossibleValuesParser::new(["in", "out"]))]
    pub(crate) direction: Option<String>,
    /// Only this event; can be repeated
    #[arg(long, value_name = "EVENT")]
    pub(crate) event: Vec<String>,
    /// How much of payloads is shown
    #[arg(long, value_name = "HOW", default_value = "masked", value_parser = PossibleValuesParser::new(["masked", "none", "full"]))]
    pub(crate) payload: String,
    /// Print at most this many a second, and count the others
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(crate) rate: Option<u32>,
    /// Stop after this many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Stop after this time, such as `10m`; the server ends a tap after an hour
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub(crate) span: Option<Duration>,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) api: Api,
}

/// What is watched for where most happens.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// What the rows are
    #[arg(long, value_enum, default_value_t = By::Topics)]
    pub(crate) by: By,
    /// The column with the most first: one of those that the rows have [default: delivered, or received of users and addresses]
    #[arg(long, value_enum, value_name = "COLUMN")]
    pub(crate) sort: Option<Column>,
    /// Only rows whose names contain this
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) filter: String,
    /// Print at most this many rows
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
    /// Watch for this long, print, and begin again: 1s to 30s
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    pub(crate) every: Duration,
    /// Print once
    #[arg(long)]
    pub(crate) once: bool,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) api: Api,
}

/// What is told of a server.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Print each shard instead
    #[arg(long)]
    pub(crate) shards: bool,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) api: Api,
}

/// Whose cluster is asked for.
#[derive(Debug, Args)]
pub(crate) struct Nodes {
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) api: Api,
}

/// Which facts are asked for.
#[derive(Debug, Args)]
pub(crate) struct Why {
    /// Only those of this user: the id of its sockets, such as `user_socket:7`
    #[arg(long, value_name = "ID")]
    pub(crate) user: Option<String>,
    /// Only those of this IP address
    #[arg(long, value_name = "ADDR")]
    pub(crate) address: Option<IpAddr>,
    /// Only those about this topic
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic: Option<String>,
    /// Only those of this kind
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(PastFact::KINDS))]
    pub(crate) kind: Option<String>,
    /// Only those of the last time, such as `1h`
    #[arg(long, value_name = "DURATION")]
    pub(crate) since: Option<String>,
    /// Print at most this many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
    /// Print them as they happen, until it is stopped: first those that there are, oldest first
    #[arg(long)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) api: Api,
}

/// Which server is to end.
#[derive(Debug, Args)]
pub(crate) struct Drain {
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) api: Api,
}

/// What is to be logged.
#[derive(Debug, Args)]
pub(crate) struct Log {
    /// The level, as in `log.level`: `debug`, or for single modules `info,fanfare=debug`. Left out: print what is logged
    pub(crate) level: Option<String>,
    /// For this long, such as `10m`, then again as configured
    #[arg(long = "for", value_name = "DURATION", requires = "level", value_parser = duration)]
    pub(crate) span: Option<Duration>,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) api: Api,
}

/// Whether a configuration is put in force.
#[derive(Debug, Args)]
pub(crate) struct Reload {
    /// Only check it: print what would change
    #[arg(long)]
    pub(crate) check: bool,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) api: Api,
}

/// What is upgraded.
#[derive(Debug, Args)]
pub(crate) struct Upgrade {
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) api: Api,
}

/// How a result is printed.
#[derive(Debug, Args)]
pub(crate) struct Output {
    /// Print JSON, one object a line, on a terminal as well
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where topics are asked for.
#[derive(Debug, Args)]
pub(crate) struct Topics {
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) api: Api,
}

/// Where the HTTP API is, and its token. A token has no flag of its own, since everybody on the machine could read it.
#[derive(Debug, Args)]
pub(crate) struct Api {
    /// The address of the HTTP API [default: http://127.0.0.1:4001]
    #[arg(long, value_name = "URL", value_parser = url)]
    pub(crate) admin: Option<Url>,
    /// The environment variable that holds the API's token [default: FANFARE_ADMIN_TOKEN]
    #[arg(long, value_name = "NAME", conflicts_with = "admin_token_file")]
    pub(crate) admin_token_env: Option<String>,
    /// The file that holds the API's token
    #[arg(long, value_name = "FILE")]
    pub(crate) admin_token_file: Option<PathBuf>,
    /// Read address and token from this configuration file; flags override it
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it takes NAME=VALUE, such as room=5".into()),
    }
}

fn position(text: &str) -> Result<String, String> {
    text.parse::<Since>().map(|_| text.to_owned()).map_err(|error| format!("it is {error}"))
}

fn socket(text: &str) -> Result<SocketId, String> {
    text.parse().map_err(|error| format!("it is {error}"))
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str::<Map<String, Value>>(text)
        .map(Value::Object)
        .map_err(|error| format!(r#"it takes a JSON object such as {{"name": "Ada"}}: {error}"#))
}

fn url(text: &str) -> Result<Url, String> {
    text.parse().map_err(|why: String| match why.is_empty() {
        true => format!("it takes {}", Url::accepts()),
        false => why,
    })
}
