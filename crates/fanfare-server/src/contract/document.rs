//! All contracts of a configuration as data: what clients send to the topics of each channel, and what they get.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::Contract;
use crate::config::Config;
use crate::config::channel::{Channel as Settings, EventName, Presence};
use crate::config::rule::Rule;
use crate::config::server::PublicUrl;
use crate::config::value::OneOrMore;

/// The version of the form in which it is written as JSON.
const VERSION: u64 = 1;

/// What all channels of a server say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Document {
    pub(super) channels: Vec<Channel>,
    /// Where clients connect; a contract by itself does not say it.
    pub(super) server: Option<Address>,
}

/// Where a server is.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// With a port that is not the scheme's own.
    pub(super) host: String,
    /// `wss`, or `ws` without TLS.
    pub(super) protocol: &'static str,
}

/// What is said on the topics of one pattern.
#[derive(Debug, Clone)]
pub(super) struct Channel {
    pub(super) pattern: String,
    /// The payload of a join.
    pub(super) join: Value,
    /// What members may publish, and with which payload.
    pub(super) push: BTreeMap<String, Value>,
    /// What they get.
    pub(super) on: BTreeMap<String, Value>,
    /// Whether a push is answered.
    pub(super) replies: bool,
}

impl Document {
    /// Without channels yet, of the server that a configuration describes.
    pub(crate) fn new(config: &Config) -> Self {
        let public = config.server.public_url.as_ref().and_then(|OneOrMore(urls)| urls.first());
        let (host, is_secure) = match public.map(|PublicUrl(origin)| origin.to_string()) {
            Some(origin) => {
                let (scheme, host) = origin.split_once("://").unwrap_or(("https", &origin));
                let own_port = if scheme == "https" { ":443" } else { ":80" };
                (host.strip_suffix(own_port).unwrap_or(host).to_owned(), scheme == "https")
            }
            None => {
                let listen = config.server.listen.0;
                let host = if listen.ip().is_unspecified() { "localhost".into() } else { listen.ip().to_string() };
                (format!("{host}:{}", listen.port()), config.tls.is_some())
            }
        };
        let protocol = if is_secure { "wss" } else { "ws" };
        Document { channels: Vec::new(), server: Some(Address { host, protocol }) }
    }

    /// Adds a channel with its contract, if it has one.
    pub(crate) fn add(&mut self, settings: &Settings, contract: Option<&Contract>) {
        let allowed = settings.events.iter().flat_map(|events| &events.0).map(|EventName(name)| (name.as_str(), any()));
        let mut events: BTreeMap<_, _> = allowed.map(|(name, schema)| (name.to_owned(), schema)).collect();
        let schemas = contract.iter().flat_map(|contract| contract.event_schemas());
        events.extend(schemas.map(|(name, schema)| (name.to_owned(), schema.clone())));
        let publish: Vec<_> = settings.rules().filter(|(key, _)| *key == "publish").map(|(_, rule)| rule).collect();
        let nobody_publishes = publish.iter().all(|rule| matches!(rule, Rule::Nobody));
        let limited: Option<BTreeSet<&String>> =
            settings.events.as_ref().map(|events| events.0.iter().map(|EventName(name)| name).collect());
        let may_push = |name: &String| !nobody_publishes && limited.as_ref().is_none_or(|names| names.contains(name));
        let push =
            events.iter().filter(|(name, _)| may_push(name)).map(|(name, schema)| (name.clone(), schema.clone()));
        let mut on = events.clone();
        on.extend(presence(settings.presence));
        let join = contract.and_then(|contract| contract.join_schema()).cloned().unwrap_or_else(any);
        let channel = Channel { pattern: String::new(), join, push: push.collect(), on, replies: settings.reply };
        for pattern in settings.patterns() {
            self.channels.push(Channel { pattern: pattern.to_string(), ..channel.clone() });
        }
    }

    /// As JSON: the schemas of each channel. `fanfare contract --against` reads it again.
    pub(crate) fn json(&self) -> Value {
        let map = |schemas: &BTreeMap<String, Value>| -> Map<String, Value> { schemas.clone().into_iter().collect() };
        let channel = |channel: &Channel| {
            let Channel { join, push, on, replies, .. } = channel;
            json!({ "join": join, "push": map(push), "on": map(on), "replies": replies })
        };
        let channels: Map<String, Value> =
            self.channels.iter().map(|each| (each.pattern.clone(), channel(each))).collect();
        json!({ "fanfare_contract": VERSION, "channels": channels })
    }
}

impl Document {
    /// Reads what [`json`](Document::json) has written.
    pub(super) fn of_json(document: &Value) -> Option<Self> {
        if document.get("fanfare_contract") != Some(&VERSION.into()) {
            return None;
        }
        let schemas =
            |of: &Value| -> Option<BTreeMap<String, Value>> { Some(of.as_object()?.clone().into_iter().collect()) };
        let channels = document.get("channels")?.as_object()?.iter().map(|(pattern, of)| {
            Some(Channel {
                pattern: pattern.clone(),
                join: of.get("join")?.clone(),
                push: schemas(of.get("push")?)?,
                on: schemas(of.get("on")?)?,
                replies: of.get("replies")?.as_bool()?,
            })
        });
        Some(Document { channels: channels.collect::<Option<_>>()?, server: None })
    }
}

/// An object of any form: what the protocol takes as a payload.
fn any() -> Value {
    json!({ "type": "object" })
}

/// What members of a channel with presence are told.
fn presence(presence: Option<Presence>) -> Vec<(String, Value)> {
    let meta = json!({
        "type": "object",
        "required": ["phx_ref"],
        "properties": { "phx_ref": { "type": "string" }, "online_at": { "type": "string" } },
        "additionalProperties": true,
    });
    let state = json!({
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "required": ["metas"],
            "properties": { "metas": { "type": "array", "items": meta } },
        },
    });
    match presence {
        Some(Presence::Roster) => {
            let diff = json!({
                "type": "object",
                "required": ["joins", "leaves"],
                "properties": { "joins": state, "leaves": state },
            });
            vec![("presence_state".into(), state), ("presence_diff".into(), diff)]
        }
        Some(Presence::Count) => {
            let count = json!({
                "type": "object", "required": ["count"], "properties": { "count": { "type": "integer", "minimum": 0 } },
            });
            vec![("presence_count".into(), count)]
        }
        Some(Presence::Off) | None => Vec::new(),
    }
}

/// Names that a module of types has itself.
const TAKEN: [&str; 8] = ["Array", "Contract", "PhoenixChannel", "Push", "Record", "Refusal", "Socket", "TypedChannel"];

/// A name for the parts of a pattern: `room:*` is `Room`, `*` is `Any`. No two are the same.
pub(super) fn type_names(channels: &[Channel]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let name = |channel: &Channel| {
        let words = channel.pattern.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let name = camel(words);
        let name = if name.is_empty() { "Any".to_owned() } else { name };
        let name = if name.starts_with(|c: char| c.is_ascii_digit()) { format!("Topic{name}") } else { name };
        let name = if TAKEN.contains(&&*name) { format!("{name}Topic") } else { name };
        free(&name, &mut taken)
    };
    channels.iter().map(name).collect()
}

/// The names that a document has besides its definitions, which are none for them.
pub(super) fn names_taken(types: &[String]) -> BTreeSet<String> {
    TAKEN.iter().map(|name| (*name).to_owned()).chain(types.iter().cloned()).collect()
}

/// A name like this one that is not taken, and is from now on.
pub(super) fn free(name: &str, taken: &mut BTreeSet<String>) -> String {
    let name = match name.chars().next() {
        None => "Part".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("Part{name}"),
        Some(_) => name.to_owned(),
    };
    let mut numbered = (2..).map(|number| format!("{name}{number}"));
    let free = if taken.contains(&name) { numbered.find(|name| !taken.contains(name)) } else { Some(name) };
    let free = free.unwrap_or_default();
    taken.insert(free.clone());
    free
}

/// Words as one.
pub(super) fn camel<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let capital = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    words.map(capital).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_have_names() {
        let channel = |pattern: &&str| Channel {
            pattern: (*pattern).to_owned(),
            join: any(),
            push: BTreeMap::new(),
            on: BTreeMap::new(),
            replies: true,
        };
        let patterns = ["room:*", "room:lobby", "*", "user_socket:*", "room", "1st:*", "日本:*", "socket:*", "push"];
        let channels: Vec<_> = patterns.iter().map(channel).collect();
        let names = ["Room", "RoomLobby", "Any", "UserSocket", "Room2", "Topic1st", "Any2", "SocketTopic", "PushTopic"];
        assert_eq!(type_names(&channels), names);
    }
}
