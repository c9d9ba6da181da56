//! What a join asks for. Nothing in it refuses the join by its type: what can be read counts, everything else is as if it were
//! left out.

use serde_json::{Map, Value};

use crate::payload::{JsonText, Payload};

/// How many bindings of `postgres_changes` are taken of one join.
const BINDINGS_MAX: usize = 100;

/// The configuration of a channel, of the payload of its join.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JoinConfig {
    /// Whether broadcasts are answered.
    pub ack: bool,
    /// Whether the sender gets its own broadcasts.
    pub own: bool,
    /// Which kept messages are wanted.
    pub replay: Option<ReplayWish>,
    /// Whether the member is told once the source of database messages is connected.
    pub replication_ready: bool,
    /// Under which key the member is shown. Empty: one is made up.
    pub key: String,
    /// Whether the member wants to know who is there; `None` if it does not say.
    pub presence: Option<bool>,
    /// The changes of a database that are wanted.
    pub postgres_changes: Vec<Map<String, Value>>,
    /// Whether the join waits for these changes.
    pub waits_for_changes: bool,
    /// Whether the channel is the private one of its name.
    pub private: bool,
    /// The channel's own token.
    pub token: Option<Sent>,
}

/// A credential. Its `Debug` form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Sent(pub String);

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sent")
    }
}

/// Which kept messages a join wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayWish {
    /// The newest ones that are no older than this time in milliseconds since 1970.
    Since {
        /// The time.
        ms: i64,
        /// How many at most; `None` where that is the server's to say.
        limit: Option<u64>,
    },
    /// It does not say since when.
    Invalid,
}

impl JoinConfig {
    /// Reads the payload of a join.
    pub fn of(payload: &Payload) -> Self {
        let Payload::Json(json) = payload else { return JoinConfig::default() };
        let Ok(mut params) = json.to::<Map<String, Value>>() else { return JoinConfig::default() };
        let mut token = |name| match params.remove(name) {
            Some(Value::String(token)) if !token.is_empty() => Some(Sent(token)),
            _ => None,
        };
        let token = token("user_token").or_else(|| token("access_token"));
        let mut config = object(params.remove("config"));
        let mut part = |name| object(config.remove(name));
        let (broadcast, mut presence, options) =
            (part("broadcast"), part("presence"), part("postgres_changes_options"));
        let key = match presence.remove("key") {
            Some(Value::String(key)) => key,
            _ => String::new(),
        };
        let changes = match config.remove("postgres_changes") {
            Some(Value::Array(changes)) => changes,
            _ => Vec::new(),
        };
        let changes = changes.into_iter().filter_map(|change| match change {
            Value::Object(change) => Some(change),
            _ => None,
        });
        JoinConfig {
            ack: flag(broadcast.get("ack")).unwrap_or_default(),
            own: flag(broadcast.get("self")).unwrap_or_default(),
            replay: broadcast.get("replay").and_then(replay),
            replication_ready: flag(broadcast.get("replication_ready")).unwrap_or_default(),
            key,
            presence: flag(presence.get("enabled")),
            postgres_changes: changes.take(BINDINGS_MAX).collect(),
            waits_for_changes: flag(options.get("wait")).unwrap_or_default(),
            private: is_private(config.get("private")),
            token,
        }
    }

    /// Whether the payload of a join asks for the private channel of its name.
    pub fn is_private(payload: &Payload) -> bool {
        let Payload::Json(json) = payload else { return false };
        let Ok(params) = json.to::<Map<String, Value>>() else { return false };
        is_private(params.get("config").and_then(|config| config.get("private")))
    }

    /// What the join is answered: each binding as it was sent, with an id. Old clients compare them member by member.
    pub fn reply(&self) -> Payload {
        let bindings = self.postgres_changes.iter().zip(1..).map(|(binding, id)| {
            let mut binding = binding.clone();
            binding.insert("id".into(), Value::from(id));
            Value::Object(binding)
        });
        let mut reply = Map::new();
        reply.insert("postgres_changes".into(), bindings.collect::<Vec<_>>().into());
        JsonText::from(Value::Object(reply)).into()
    }
}

/// What somebody says of whether a channel is the private one of its name; `None` if it can be taken for neither.
pub fn privacy(said: &Value) -> Option<bool> {
    match said {
        Value::Null => Some(false),
        Value::Bool(is_private) => Some(*is_private),
        Value::String(word) if word == "1" || word.eq_ignore_ascii_case("true") => Some(true),
        Value::String(word) if word == "0" || word.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// A join is not refused by a type. But what is meant as a yes must not lead to where everybody is, and anything may be meant so.
fn is_private(said: Option<&Value>) -> bool {
    said.is_some_and(|said| privacy(said).unwrap_or(true))
}

fn object(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

fn flag(value: Option<&Value>) -> Option<bool> {
    match value? {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn replay(value: &Value) -> Option<ReplayWish> {
    let Value::Object(wish) = value else { return (!value.is_null()).then_some(ReplayWish::Invalid) };
    if wish.is_empty() {
        return None;
    }
    Some(match wish.get("since").and_then(Value::as_i64) {
        Some(ms) => ReplayWish::Since { ms, limit: wish.get("limit").and_then(Value::as_u64) },
        None => ReplayWish::Invalid,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(payload: Value, expected: JoinConfig) {
        let payload: Payload = payload.into();
        assert_eq!(JoinConfig::is_private(&payload), expected.private);
        assert_eq!(JoinConfig::of(&payload), expected);
    }

    #[test]
    fn what_can_be_read_counts() {
        let none = JoinConfig::default;
        let binding = || json!({"event": "*", "schema": "public"}).as_object().unwrap().clone();
        check(json!({}), none());
        check(json!({"config": null}), none());
        check(json!({"config": {"broadcast": 5, "presence": [], "private": null, "postgres_changes": {}}}), none());
        check(json!([1]), none());
        check(
            json!({"config": {
                "broadcast": {"ack": true, "self": "TRUE", "replay": {"since": 5, "limit": 3}, "replication_ready": true},
                "presence": {"key": "k", "enabled": "false"},
                "postgres_changes": [null, binding(), 7],
                "postgres_changes_options": {"wait": true},
                "private": "True",
            }, "access_token": "t", "version": "x"}),
            JoinConfig {
                ack: true,
                own: true,
                replay: Some(ReplayWish::Since { ms: 5, limit: Some(3) }),
                replication_ready: true,
                key: "k".into(),
                presence: Some(false),
                postgres_changes: vec![binding()],
                waits_for_changes: true,
                private: true,
                token: Some(Sent("t".into())),
            },
        );
        let with_token = |token: &str| JoinConfig { token: Some(Sent(token.into())), ..none() };
        check(json!({"user_token": "u", "access_token": "a"}), with_token("u"));
        check(json!({"user_token": null, "access_token": "a"}), with_token("a"));
        check(json!({"access_token": ""}), none());
        let wish = |replay| json!({"config": {"broadcast": {"replay": replay}}});
        let replay = |replay| JoinConfig { replay: Some(replay), ..none() };
        check(wish(json!({"limit": 3})), replay(ReplayWish::Invalid));
        check(wish(json!({"since": "x"})), replay(ReplayWish::Invalid));
        check(wish(json!({"since": 1})), replay(ReplayWish::Since { ms: 1, limit: None }));
        check(wish(json!({})), none());
        check(wish(json!(null)), none());
        assert!(!format!("{:?}", with_token("secret")).contains("secret"));
    }

    #[test]
    fn supabase_19_what_is_no_clear_no_is_private() {
        for said in [
            json!(true),
            json!("true"),
            json!("TRUE"),
            json!("1"),
            json!(1),
            json!(0),
            json!("yes"),
            json!([]),
            json!(""),
        ] {
            let private = JoinConfig { private: true, ..JoinConfig::default() };
            check(json!({"config": {"private": said}}), private);
        }
        for said in [json!(false), json!("False"), json!("0"), json!(null)] {
            check(json!({"config": {"private": said}}), JoinConfig::default());
        }
        // Of two members of one name both readings take the last.
        let twice = r#"{"config": {"private": false}, "config": {"private": true}}"#;
        let payload: Payload = JsonText::parse(twice).unwrap().into();
        assert!(JoinConfig::is_private(&payload) && JoinConfig::of(&payload).private);
    }

    #[test]
    fn bindings_are_repeated_with_an_id_and_nothing_else() {
        let sent =
            json!({"config": {"postgres_changes": [{"event": "*", "schema": "s"}, {"event": "INSERT", "id": 9}]}});
        let Payload::Json(reply) = JoinConfig::of(&sent.into()).reply() else { panic!("a reply is JSON") };
        let expected = json!({"postgres_changes": [
            {"event": "*", "schema": "s", "id": 1},
            {"event": "INSERT", "id": 2},
        ]});
        assert_eq!(reply.to::<Value>().unwrap(), expected);
        let Payload::Json(reply) = JoinConfig::default().reply() else { panic!("a reply is JSON") };
        assert_eq!(reply.as_str(), r#"{"postgres_changes":[]}"#);
    }

    #[test]
    fn a_join_has_as_many_bindings_as_it_may_have() {
        let sent = json!({"config": {"postgres_changes": vec![json!({}); BINDINGS_MAX + 1]}});
        assert_eq!(JoinConfig::of(&sent.into()).postgres_changes.len(), BINDINGS_MAX);
    }
}
