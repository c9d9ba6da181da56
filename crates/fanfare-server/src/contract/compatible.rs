//! Whether clients that were built for an earlier contract can go on: what they send is taken, and what they get is what they know.

use serde_json::{Map, Value};

use crate::schema::SELF_REFERENCE;

/// What says nothing of which values fit.
const ANNOTATIONS: [&str; 10] = [
    "$comment",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$schema",
    "$id",
];

/// Beyond it schemas are not compared but have to be equal.
const DEPTH_MAX: usize = 64;

/// Who sends a payload decides what may change of its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    /// All that fitted has to fit still.
    Client,
    /// All that fits has to be what fitted.
    Server,
}

/// What breaks clients of the old contract; both are as `Document::json` writes them.
///
/// # Errors
/// The old one is none.
pub(super) fn breaks(old: &Value, new: &Value) -> Result<Vec<String>, String> {
    let channels = |contract: &Value| contract.get("channels").and_then(Value::as_object).cloned();
    let none = "is not a contract that `fanfare contract --format jsonschema` has written";
    if old.get("fanfare_contract") != new.get("fanfare_contract") {
        return Err(none.into());
    }
    let (old, new) = (channels(old).ok_or(none)?, channels(new).unwrap_or_default());
    let mut found = Vec::new();
    for (pattern, before) in &old {
        let Some(after) = new.get(pattern) else {
            found.push(format!("{pattern}: the channel is gone"));
            continue;
        };
        let mut check = |what: &str, before: &Value, after: &Value, sender| {
            let mut compare = Compare { place: format!("{pattern}: {what}"), sender, found: &mut found };
            compare.schemas(before, after, "", 0);
        };
        check("join", &before["join"], &after["join"], Sender::Client);
        let mut gone = Vec::new();
        for (key, what, sender) in [("push", "push of", Sender::Client), ("on", "event", Sender::Server)] {
            for (event, schema) in before[key].as_object().into_iter().flatten() {
                match after[key].get(event) {
                    Some(now) => check(&format!("{what} {event:?}"), schema, now, sender),
                    None => gone.push(format!("{pattern}: {what} {event:?}: it is gone")),
                }
            }
        }
        if before["replies"] == true && after["replies"] == false {
            gone.push(format!("{pattern}: pushes are not answered any more"));
        }
        found.append(&mut gone);
    }
    Ok(found)
}

struct Compare<'f> {
    place: String,
    sender: Sender,
    found: &'f mut Vec<String>,
}

impl Compare<'_> {
    fn add(&mut self, path: &str, text: impl AsRef<str>) {
        let path = if path.is_empty() { "/" } else { path };
        self.found.push(format!("{}: {path}: {}", self.place, text.as_ref()));
    }

    /// From the schema that must fit at least to the one that must not allow less: for a client that sends, the new one
    /// allows what the old one does; for a server that sends, the other way round.
    fn schemas(&mut self, old: &Value, new: &Value, path: &str, depth: usize) {
        let (Value::Object(old_keys), Value::Object(new_keys)) = (old, new) else {
            if old != new {
                self.add(path, "the schema is another");
            }
            return;
        };
        if depth > DEPTH_MAX {
            if old != new {
                self.add(path, "the schemas differ, too deep to compare them");
            }
            return;
        }
        let is_cut = |keys: &Map<String, Value>| keys.get("$comment").is_some_and(|text| text == SELF_REFERENCE);
        if is_cut(old_keys) != is_cut(new_keys) {
            self.add(
                path,
                "one of the two refers to itself here, so that they cannot be compared: it has to stay the same",
            );
            return;
        }
        let (inner, outer) = match self.sender {
            Sender::Client => (old_keys, new_keys),
            Sender::Server => (new_keys, old_keys),
        };
        self.types(inner, outer, path);
        self.required(old_keys, new_keys, path);
        self.properties(old_keys, new_keys, path, depth);
        self.numbers(inner, outer, path);
        self.values(inner, outer, path);
        if let (Some(old), Some(new)) = (old_keys.get("items"), new_keys.get("items")) {
            self.schemas(old, new, &format!("{path}/[]"), depth + 1);
        }
        self.rest(old_keys, new_keys, path);
    }

    fn types(&mut self, inner: &Map<String, Value>, outer: &Map<String, Value>, path: &str) {
        let Some(allowed) = outer.get("type").map(kinds) else { return };
        let wanted = inner.get("type").map(kinds).unwrap_or_else(|| vec!["any type".into()]);
        let fits = |kind: &String| allowed.contains(kind) || kind == "integer" && allowed.iter().any(|k| k == "number");
        for kind in wanted.iter().filter(|kind| !fits(kind)) {
            let text = match self.sender {
                Sender::Client => format!("{kind} is not taken any more, only {}", allowed.join(", ")),
                Sender::Server => format!("it can be {kind} now, where it was {}", allowed.join(", ")),
            };
            self.add(path, text);
        }
    }

    fn required(&mut self, old: &Map<String, Value>, new: &Map<String, Value>, path: &str) {
        let (old, new) = (names(old.get("required")), names(new.get("required")));
        match self.sender {
            Sender::Client => {
                for name in new.iter().filter(|name| !old.contains(name)) {
                    self.add(path, format!("{name:?} is required now"));
                }
            }
            Sender::Server => {
                for name in old.iter().filter(|name| !new.contains(name)) {
                    self.add(path, format!("{name:?} can be missing now"));
                }
            }
        }
    }

    fn properties(&mut self, old: &Map<String, Value>, new: &Map<String, Value>, path: &str, depth: usize) {
        let empty = Map::new();
        let of = |schema: &'_ Map<String, Value>| -> Map<String, Value> {
            schema.get("properties").and_then(Value::as_object).unwrap_or(&empty).clone()
        };
        let (before, after) = (of(old), of(new));
        for (name, schema) in &before {
            let path = format!("{path}/{name}");
            match after.get(name) {
                Some(now) => self.schemas(schema, now, &path, depth + 1),
                None if self.sender == Sender::Client && new.get("additionalProperties") == Some(&false.into()) => {
                    self.add(&path, "it is not taken any more");
                }
                None => {}
            }
        }
        let is_closed = |schema: &Map<String, Value>| schema.get("additionalProperties") == Some(&false.into());
        if self.sender == Sender::Client && is_closed(new) && !is_closed(old) {
            self.add(path, "members that are not named are not taken any more");
        }
    }

    fn numbers(&mut self, inner: &Map<String, Value>, outer: &Map<String, Value>, path: &str) {
        const LEAST: [&str; 5] = ["minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"];
        const MOST: [&str; 5] = ["maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"];
        for (keys, is_least) in [(LEAST, true), (MOST, false)] {
            for key in keys {
                let Some(limit) = outer.get(key).and_then(Value::as_f64) else { continue };
                let of_inner = inner.get(key).and_then(Value::as_f64);
                if of_inner.is_none_or(|inner| if is_least { inner < limit } else { inner > limit }) {
                    let text = match self.sender {
                        Sender::Client => format!("{key} is narrower: {limit} now"),
                        Sender::Server => format!("{key} was {limit}, and is wider now"),
                    };
                    self.add(path, text);
                }
            }
        }
    }

    fn values(&mut self, inner: &Map<String, Value>, outer: &Map<String, Value>, path: &str) {
        let values = |schema: &Map<String, Value>| match (schema.get("enum"), schema.get("const")) {
            (Some(Value::Array(values)), _) => Some(values.clone()),
            (_, Some(value)) => Some(vec![value.clone()]),
            _ => None,
        };
        let Some(allowed) = values(outer) else { return };
        match values(inner) {
            None => self.add(path, "only some values are taken where all were, or all can come where some did"),
            Some(wanted) => {
                for value in wanted.iter().filter(|value| !allowed.contains(value)) {
                    let text = match self.sender {
                        Sender::Client => format!("{value} is not taken any more"),
                        Sender::Server => format!("it can be {value} now"),
                    };
                    self.add(path, text);
                }
            }
        }
    }

    /// What is not understood has to be the same.
    fn rest(&mut self, old: &Map<String, Value>, new: &Map<String, Value>, path: &str) {
        const UNDERSTOOD: [&str; 17] = [
            "type",
            "required",
            "properties",
            "additionalProperties",
            "items",
            "enum",
            "const",
            "minimum",
            "maximum",
            "exclusiveMinimum",
            "exclusiveMaximum",
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "minProperties",
            "maxProperties",
        ];
        let is_rest = |key: &&String| !UNDERSTOOD.contains(&key.as_str()) && !ANNOTATIONS.contains(&key.as_str());
        let mut keys: Vec<_> = old.keys().chain(new.keys()).filter(is_rest).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys.into_iter().filter(|key| old.get(*key) != new.get(*key)) {
            self.add(path, format!("{key} has changed, and cannot be compared"));
        }
    }
}

fn kinds(value: &Value) -> Vec<String> {
    match value {
        Value::String(kind) => vec![kind.clone()],
        other => names(Some(other)),
    }
}

fn names(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_that_break_are_told_from_those_that_do_not() {
        let string = || json!({"type": "string"});
        let base =
            || json!({"type": "object", "required": ["a"], "properties": {"a": string(), "b": {"type": "number"}}});
        let with = |change: &dyn Fn(&mut Value)| {
            let mut schema = base();
            change(&mut schema);
            schema
        };
        for (new, of_client, of_server) in [
            (base(), None, None),
            (with(&|s| s["description"] = "x".into()), None, None),
            (with(&|s| s["properties"]["c"] = string()), None, None),
            (with(&|s| s["required"] = json!(["a", "b"])), Some("\"b\" is required now"), None),
            (with(&|s| s["required"] = json!([])), None, Some("\"a\" can be missing now")),
            (
                with(&|s| s["properties"]["a"] = json!({"type": "number"})),
                Some("/a: string is not taken any more, only number"),
                Some("/a: it can be number now, where it was string"),
            ),
            (with(&|s| s["properties"]["b"]["type"] = "integer".into()), Some("/b: number is not taken"), None),
            (with(&|s| s["properties"]["b"]["type"] = json!(["number", "null"])), None, Some("/b: it can be null")),
            (with(&|s| s["properties"]["a"]["maxLength"] = 5.into()), Some("/a: maxLength is narrower: 5"), None),
            (with(&|s| s["additionalProperties"] = false.into()), Some("not named are not taken"), None),
            (with(&|s| s["properties"]["a"]["pattern"] = "x".into()), Some("pattern has changed"), Some("pattern has")),
            (with(&|s| s["properties"]["a"]["enum"] = json!(["x"])), Some("only some values"), None),
            (
                with(&|s| s["properties"]["a"] = json!({ "$comment": SELF_REFERENCE })),
                Some("/a: one of the two refers to itself here"),
                Some("/a: one of the two refers to itself here"),
            ),
        ] {
            let contract = |schema: &Value| {
                json!({"fanfare_contract": 1, "channels": {"r": {
                    "join": true, "push": {"e": schema}, "on": {"e": schema}, "replies": true,
                }}})
            };
            let found = breaks(&contract(&base()), &contract(&new)).unwrap();
            for (what, wanted) in [("push of", of_client), ("event", of_server)] {
                let of: Vec<_> = found.iter().filter(|text| text.contains(&format!("r: {what} \"e\""))).collect();
                match wanted {
                    None => assert!(of.is_empty(), "{what} {new}: {of:?}"),
                    Some(part) => assert!(of.len() == 1 && of[0].contains(part), "{what} {new}: {of:?}"),
                }
            }
        }
    }

    #[test]
    fn what_is_gone_breaks() {
        let channel = |push: Value| json!({"join": true, "push": push, "on": {}, "replies": true});
        let old =
            json!({"fanfare_contract": 1, "channels": {"a": channel(json!({"x": true})), "b": channel(json!({}))}});
        let new = json!({"fanfare_contract": 1, "channels": {"a": channel(json!({"y": true}))}});
        assert_eq!(breaks(&old, &new).unwrap(), ["a: push of \"x\": it is gone", "b: the channel is gone"]);
        assert_eq!(breaks(&new, &new).unwrap(), [""; 0]);
        assert!(breaks(&json!({"channels": {}}), &new).is_err());
    }
}
