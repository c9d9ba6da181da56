//! The shapes of what is sent and answered, a line each.
//!
//! A member is `name:type`, or `name?:type` where it can be absent. Types are those of JSON, `any`, the name of another shape, `[T]` for
//! lists and `{T}` for objects with names as keys; `T|null` is one that can be null; `=name` is one of the texts of a closed set.

use fanfare::{PastFact, Slow, SocketReport, Transport};
use serde_json::{Map, Value, json};

use super::super::answer::Code;
use crate::config::token::Right;

/// What is told of each socket.
const SOCKET: &str = "socket:string user:string|null address:string|null endpoint:string transport:=transport protocol:=protocol vsn:string \
                      connected_s:integer idle_s:integer topics:integer received:integer waiting_bytes:integer expires_s:integer|null";

/// What passes through a topic.
const RATES: &str = "published_per_s?:number delivered_per_s?:number bytes_per_s?:number";

/// A message to publish.
const MESSAGE: &str =
    "topic?:string event?:string payload?:{any}|null idempotency_key?:string|null expect?:string|null";

/// What holds and passes on a node.
const OVERVIEW: &str = "sockets:integer members:integer published_per_s:number delivered_per_s:number received_per_s:number \
                        sent_bytes_per_s:number p99_ms:number|null dropped_per_s:{number} waiting_sockets:integer waiting_bytes:integer \
                        memory_bytes:integer|null";

/// Shapes that have members of others.
const JOINED: &[(&str, &str, &str)] = &[
    ("Publish", MESSAGE, "messages?:[Message] allow_reserved?:boolean"),
    ("Message", MESSAGE, ""),
    ("Topic", RATES, "topic:string members:integer publisher?:Publisher|null"),
    (
        "TopicReport",
        RATES,
        "topic:string channel:string members:integer members_by_shard:[integer] presence:integer slow:=slow history:Retention|null",
    ),
    ("Socket", SOCKET, ""),
    ("SocketReport", SOCKET, "joined:[string]"),
    ("Member", SOCKET, "resumes:boolean"),
    ("Overview", OVERVIEW, ""),
    ("TopNode", OVERVIEW, "node:string ready:boolean cpu:number|null"),
    (
        "TopRow",
        RATES,
        "name:string members?:integer topics?:integer sockets?:integer received_per_s?:number waiting_bytes?:integer publisher?:Publisher|null",
    ),
];

const PLAIN: &[(&str, &str)] = &[
    ("Error", "error:Fault"),
    ("Fault", "code:=code message:string delivered?:=delivered problems?:[Problem]"),
    ("Problem", "line:integer|null column:integer|null key:string message:string"),
    ("Published", "published:integer messages?:[Place] hints?:[string] error?:Fault"),
    ("Place", "position?:string|null repeated?:boolean error?:Fault"),
    ("Disconnect", "id:string"),
    ("Disconnected", "ok:boolean closed:integer other_nodes?:integer"),
    ("Topics", "topics:[Topic] total:integer next:string|null"),
    ("Publisher", "key?:string|null sub?:string|null peer?:string|null node?:string"),
    ("Retention", "messages_max:integer bytes_max:integer ttl_s:integer position?:string"),
    ("Members", "topic:string members:[Member] next:string|null"),
    ("Sockets", "sockets:[Socket] total:integer next:string|null"),
    ("Closed", "closed:integer"),
    (
        "Info",
        "version:string started_at:string now:string shards:integer generation:integer token:string rights:[=right] draining:boolean",
    ),
    ("Sample", "at:string overview?:Overview topics?:Busiest shards?:[Shard] health?:Standing"),
    ("Busiest", "topics:[Topic] total:integer"),
    ("Shard", "sockets:integer busy:number turn_age_ms:integer left_over:integer"),
    ("Standing", "ready:boolean reasons:[string] parts:{any}"),
    ("Top", "window_s:number node:TopNode rows:[TopRow]"),
    ("Presence", "topic:string count:integer presence:{any}"),
    ("History", "topic:string position:string recovered:boolean messages:[Kept]"),
    ("Kept", "position:string event:string payload:any"),
    ("Connections", "connections:[Key] total:integer next:string|null"),
    ("Key", "key:string sockets:integer"),
    ("KeyReport", "key:string sockets:[Connection]"),
    ("Connection", "transport:=transport peer:string|null connected_at:integer connected_s:integer"),
    ("Nodes", "nodes:[Node] gone:[GoneNode] total:Total"),
    (
        "Node",
        "node:string name:string|null self:boolean version:string|null sockets:integer topics:integer joins:integer \
         published_per_s:number|null delivered_per_s:number|null p99_ms:number|null admin_url:string|null",
    ),
    ("GoneNode", "node:string name:string|null version:string|null heard_s:number left:boolean"),
    ("Total", "nodes:integer sockets:integer joins:integer"),
    ("Counters", "counters:[Counter]"),
    ("Counter", "name:string reason:string value:integer"),
    ("Facts", "facts:[Fact] total:integer"),
    (
        "Fact",
        "at:string first:string for_s:integer count:integer kind:=kind reason:string code:integer|null detail:string|null \
         user:string|null address:string|null endpoint:string|null topic:string|null next:string|null",
    ),
    (
        "Tapped",
        "at:string direction:=direction user?:string address?:string socket?:string topic:string event:string status?:string bytes:integer \
         left_out?:integer payload?:any payload_begin?:string",
    ),
    ("Reloaded", "generation:integer changed:[string]"),
    ("Config", "generation:integer keys:[Setting]"),
    ("Setting", "key:string value:any from:string reload:string"),
    ("Draining", "draining:boolean sockets:integer announce_s:number limit_s:number"),
    ("Log", "level:string configured:string"),
    ("LogChange", "level:string for?:string|null"),
    ("Upgraded", "process:integer"),
    ("Login", "token:string"),
    ("Session", "name:string rights:[=right]"),
    ("Done", "ok:boolean"),
    ("Live", "live:boolean reasons:[string]"),
    ("Ready", "ready:boolean reasons:[string]"),
];

/// All of them as JSON Schemas, by name.
pub(super) fn all() -> Map<String, Value> {
    let joined = JOINED.iter().map(|(name, first, rest)| (name, format!("{first} {rest}")));
    let plain = PLAIN.iter().map(|(name, members)| (name, (*members).to_owned()));
    let mut all: Map<_, _> =
        joined.chain(plain).map(|(name, members)| ((*name).to_owned(), object(&members))).collect();
    // Each kind of part has its own member, whose names the configuration gives.
    let part = json!({ "type": "object", "additionalProperties": true });
    let health = json!({ "type": "object", "required": ["status"], "properties": { "status": { "type": "string" } }, "additionalProperties": part });
    all.insert("Health".into(), health);
    all
}

fn object(members: &str) -> Value {
    let members: Vec<_> = members.split_whitespace().filter_map(|member| member.split_once(':')).collect();
    let required: Vec<_> = members.iter().map(|(name, _)| *name).filter(|name| !name.ends_with('?')).collect();
    let properties: Map<_, _> =
        members.iter().map(|(name, kind)| (name.trim_end_matches('?').to_owned(), schema(kind))).collect();
    json!({ "type": "object", "required": required, "properties": properties })
}

fn schema(kind: &str) -> Value {
    let inner = |open, close| kind.strip_prefix(open).and_then(|kind: &str| kind.strip_suffix(close));
    if let Some(kind) = kind.strip_suffix("|null") {
        return json!({ "anyOf": [schema(kind), { "type": "null" }] });
    }
    if let Some(kind) = inner('[', ']') {
        return json!({ "type": "array", "items": schema(kind) });
    }
    if let Some(kind) = inner('{', '}') {
        return json!({ "type": "object", "additionalProperties": schema(kind) });
    }
    if let Some(set) = kind.strip_prefix('=') {
        return json!({ "type": "string", "enum": texts_of(set) });
    }
    match kind {
        "any" => json!({}),
        "string" | "integer" | "number" | "boolean" => json!({ "type": kind }),
        shape => json!({ "$ref": format!("#/components/schemas/{shape}") }),
    }
}

/// The texts of a closed set.
fn texts_of(set: &str) -> Vec<&'static str> {
    match set {
        "code" => Code::names(),
        "delivered" => vec!["local"],
        "direction" => vec!["in", "out"],
        "kind" => PastFact::KINDS.to_vec(),
        "protocol" => SocketReport::PROTOCOLS.to_vec(),
        "right" => Right::ALL.map(Right::name).to_vec(),
        "slow" => Slow::ALL.iter().map(Slow::name).collect(),
        "transport" => Transport::ALL.map(Transport::name).to_vec(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_become_schemas() {
        let expected = json!({
            "type": "object",
            "required": ["a", "b"],
            "properties": {
                "a": { "type": "array", "items": { "$ref": "#/components/schemas/Topic" } },
                "b": { "anyOf": [{ "type": "object", "additionalProperties": {} }, { "type": "null" }] },
                "c": { "type": "integer" },
            },
        });
        assert_eq!(object("a:[Topic] b:{any}|null c?:integer"), expected);
    }

    #[test]
    fn closed_sets_have_texts() {
        let sets =
            JOINED.iter().flat_map(|(_, first, rest)| [*first, rest]).chain(PLAIN.iter().map(|(_, members)| *members));
        for set in sets.flat_map(|members| members.split('=').skip(1)) {
            let name = set.split(|sign: char| !sign.is_ascii_lowercase()).next().unwrap();
            assert!(!texts_of(name).is_empty(), "{name}");
        }
    }

    #[test]
    fn shapes_refer_to_shapes_that_there_are() {
        let all = all();
        let text = serde_json::to_string(&all).unwrap();
        for name in text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(all.contains_key(name), "{name}");
        }
    }
}
