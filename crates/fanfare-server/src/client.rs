//! Commands that talk to a running server. What they print on the standard output is data, one JSON object a line; how
//! things stand goes to the standard error.
//!
//! `api` asks the HTTP API, for `publish` and the questions here. `subscribe` keeps a socket: `dial` opens it, `protocol`
//! says what its frames mean.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::cli::client::{
    Disconnect, Drain, History, Log, Nodes, Presence, Pub, Reload, Status, Sub, Tap, Top, Topics, Upgrade, Why,
};
use crate::terminal::print;
use crate::upgrade::ANSWER_MAX;

mod address;
mod api;
mod backoff;
mod dial;
mod escape;
mod lines;
mod nodes;
mod place;
mod protocol;
mod publish;
mod status;
mod subscribe;
mod tap;
mod top;
mod why;

use address::encoded;
use api::Api;
use place::{Place, cell};

/// How many topics and messages are asked for at a time: as many as the API gives.
const TOPICS_A_PAGE: usize = 1_000;
const MESSAGES_A_PAGE: u32 = 1_000;

/// How many of a topic's newest messages are printed when nothing is said.
const NEWEST_DEFAULT: u32 = 100;

/// Runs `fanfare pub`.
///
/// # Errors
/// What was not published, and why.
pub(crate) fn publish(asked: &Pub) -> Result<(), String> {
    block_on(publish::run(asked))
}

/// Runs `fanfare sub`.
///
/// # Errors
/// Why it ended before it was to.
pub(crate) fn subscribe(asked: &Sub) -> Result<(), String> {
    block_on(subscribe::run(asked))
}

/// Runs `fanfare presence`.
///
/// # Errors
/// Why there is no answer.
pub(crate) fn presence(asked: &Presence) -> Result<(), String> {
    block_on(async {
        let answer = Api::new(&asked.api)?.get(&format!("/api/presence/{}", encoded(&asked.topic)), "presence").await?;
        print_json(&answer.to_string())
    })
}

/// Runs `fanfare topics`.
///
/// # Errors
/// Why there is no answer.
pub(crate) fn topics(asked: &Topics) -> Result<(), String> {
    let place = Place::new(&asked.output);
    block_on(async {
        let api = Api::new(&asked.api)?;
        let mut after = String::new();
        loop {
            let page = api.get(&format!("/api/topics?limit={TOPICS_A_PAGE}{after}"), "topics").await?;
            let topics = page["topics"].as_array().map(Vec::as_slice).unwrap_or_default();
            place.print_below(["MEMBERS", "TOPIC"], topics, |topic| {
                ["members", "topic"].map(|name| cell(&topic[name]))
            })?;
            match page["next"].as_str() {
                Some(next) => after = format!("&after={}", encoded(next)),
                None => return Ok(()),
            }
        }
    })
}

/// Runs `fanfare history`.
///
/// # Errors
/// Why there is no answer, or that some of what is asked for is kept no more.
pub(crate) fn history(asked: &History) -> Result<(), String> {
    block_on(async {
        let api = Api::new(&asked.api)?;
        let mut since = asked.since.clone();
        let mut left = asked.limit.unwrap_or(if since.is_some() { u32::MAX } else { NEWEST_DEFAULT });
        loop {
            let behind = since.as_ref().map_or_else(String::new, |since| format!("&since={}", encoded(since)));
            let limit = left.min(MESSAGES_A_PAGE);
            let path = format!("/api/history/{}?limit={limit}{behind}", encoded(&asked.topic));
            let body = api.text(&path, "messages").await?;
            let kept: Kept<'_> = read(&api, &body)?;
            let lines = kept.messages.iter().map(|message| format!("{}\n", escape::json(message.get())));
            print(&lines.collect::<String>())?;
            if !kept.recovered {
                return Err(format!("messages are missing before these: the topic is at {} now", kept.position));
            }
            left -= kept.messages.len() as u32;
            let Some(last) = kept.messages.last().filter(|_| since.is_some() && left > 0) else { return Ok(()) };
            let Placed { position } = read(&api, last.get())?;
            if position == kept.position {
                return Ok(());
            }
            since = Some(position.to_owned());
        }
    })
}

/// Runs `fanfare top`.
///
/// # Errors
/// Why there is no answer.
pub(crate) fn top(asked: &Top) -> Result<(), String> {
    let place = Place::new(&asked.output);
    block_on(top::run(asked, &place))
}

/// Runs `fanfare status`.
///
/// # Errors
/// Why there is no answer.
pub(crate) fn status(asked: &Status) -> Result<(), String> {
    let place = Place::new(&asked.output);
    block_on(status::run(asked, &place))
}

/// Runs `fanfare nodes`.
///
/// # Errors
/// Why there is no answer.
pub(crate) fn nodes(asked: &Nodes) -> Result<(), String> {
    let place = Place::new(&asked.output);
    block_on(nodes::run(asked, &place))
}

/// Runs `fanfare tap`.
///
/// # Errors
/// Why it ended before it was to.
pub(crate) fn tap(asked: &Tap) -> Result<(), String> {
    let place = Place::new(&asked.output);
    block_on(tap::run(asked, &place))
}

/// Runs `fanfare why`.
///
/// # Errors
/// Why there is no answer.
pub(crate) fn why(asked: &Why) -> Result<(), String> {
    let place = Place::new(&asked.output);
    block_on(why::run(asked, &place))
}

/// Prints an answer as it is.
fn print_json(json: &str) -> Result<(), String> {
    print(&format!("{}\n", escape::json(json)))
}

fn read<'a, T: Deserialize<'a>>(api: &Api, text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| api.strange(&error.to_string()))
}

/// A message of the answer, as far as it is looked at.
#[derive(Deserialize)]
#[serde(expecting = "a message")]
struct Placed<'a> {
    position: &'a str,
}

/// The API's answer. Messages are printed as they come, numbers with all their digits.
#[derive(Deserialize)]
#[serde(expecting = "messages and a position")]
struct Kept<'a> {
    position: String,
    recovered: bool,
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
}

/// Runs `fanfare disconnect`.
///
/// # Errors
/// Why there is no answer.
pub(crate) fn disconnect(asked: &Disconnect) -> Result<(), String> {
    block_on(async {
        let body: Value = json!({ "id": asked.id });
        let answer = Api::new(&asked.api)?.post("/api/disconnect", body.to_string(), "closed").await?;
        print_json(&answer.to_string())
    })
}

/// Runs `fanfare reload`.
///
/// # Errors
/// Why nothing was changed.
pub(crate) fn reload(asked: &Reload) -> Result<(), String> {
    let place = Place::new(&asked.output);
    block_on(async {
        let path = if asked.check { "/api/reload?check=true" } else { "/api/reload" };
        let answer = Api::new(&asked.api)?.post(path, String::new(), "changed").await?;
        place.print_line(&answer, |answer| {
            let keys: Vec<_> = answer["changed"].as_array().into_iter().flatten().map(cell).collect();
            match (keys.is_empty(), asked.check) {
                (true, _) => format!("configuration {} is in force: nothing has changed", answer["generation"]),
                (false, true) => format!("would change: {}", keys.join(", ")),
                (false, false) => {
                    format!("configuration {} is in force, with a change of {}", answer["generation"], keys.join(", "))
                }
            }
        })
    })
}

/// Runs `fanfare drain`.
///
/// # Errors
/// Why the server goes on.
pub(crate) fn drain(asked: &Drain) -> Result<(), String> {
    let place = Place::new(&asked.output);
    block_on(async {
        let answer = Api::new(&asked.api)?.post("/api/drain", String::new(), "draining").await?;
        place.print_line(&answer, |answer| {
            format!(
                "the server drains: {} sockets are closed within {} s, then it ends",
                answer["sockets"], answer["limit_s"]
            )
        })
    })
}

/// Runs `fanfare log`.
///
/// # Errors
/// Why nothing was changed.
pub(crate) fn log(asked: &Log) -> Result<(), String> {
    let place = Place::new(&asked.output);
    block_on(async {
        let api = Api::new(&asked.api)?;
        let answer = match &asked.level {
            None => api.get("/api/log", "level").await?,
            Some(level) => {
                let span = asked.span.map(|span| format!("{}ms", span.as_millis()));
                api.post("/api/log", json!({ "level": level, "for": span }).to_string(), "level").await?
            }
        };
        place.print_line(&answer, |answer| {
            let (level, configured) = (cell(&answer["level"]), cell(&answer["configured"]));
            if level == configured { level } else { format!("{level}  (configured: {configured})") }
        })
    })
}

/// Runs `fanfare upgrade`.
///
/// # Errors
/// Why no new process has taken over.
pub(crate) fn upgrade(asked: &Upgrade) -> Result<(), String> {
    let place = Place::new(&asked.output);
    block_on(async {
        let answer = Api::new(&asked.api)?.post_within(ANSWER_MAX, "/api/upgrade", "process").await?;
        place.print_line(&answer, |answer| {
            format!("process {} has taken over; the one before closes its sockets and ends", answer["process"])
        })
    })
}

fn block_on(run: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    let result = runtime.block_on(run);
    // A write that nobody takes must not keep the process.
    runtime.shutdown_background();
    result
}
