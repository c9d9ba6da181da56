//! Whether clients that were built for an earlier contract can go on: what they send is taken, and what they get is what they know.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::named::lookup;

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
        let Some((by, after)) = serving(pattern, &new) else {
            found.push(format!("{pattern}: the channel is gone"));
            continue;
        };
        let pattern = if by == pattern { pattern.clone() } else { format!("{pattern}, which is {by} now") };
        let mut check = |what: &str, before: &Value, after: &Value, sender| {
            let (place, seen) = (format!("{pattern}: {what}"), BTreeSet::new());
            let mut compare = Compare { place, sender, whole: (before, after), seen, found: &mut found };
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

/// The channel that serves all topics of a pattern now: its own, or the narrowest one that covers it.
fn serving<'n>(pattern: &str, new: &'n Map<String, Value>) -> Option<(&'n str, &'n Value)> {
    let covers = |other: &str| match other.strip_suffix('*') {
        Some(begin) => pattern.starts_with(begin),
        None => other == pattern,
    };
    let channels = new.iter().filter(|(other, _)| covers(other)).map(|(other, channel)| (other.as_str(), channel));
    // An exact topic is narrower than the pattern with the same letters before its star.
    channels.max_by_key(|(other, _)| (*other == pattern, other.len()))
}

struct Compare<'f> {
    place: String,
    sender: Sender,
    /// The two schemas, with their definitions.
    whole: (&'f Value, &'f Value),
    /// The pairs of references that are compared already: what contains itself is compared once.
    seen: BTreeSet<(String, String)>,
    found: &'f mut Vec<String>,
}

impl Compare<'_> {
    fn add(&mut self, path: &str, text: impl AsRef<str>) {
        let path = if path.is_empty() { String::new() } else { format!("{path}: ") };
        self.found.push(format!("{}: {path}{}", self.place, text.as_ref()));
    }

    /// From the schema that must fit at least to the one that must not allow less: for a client that sends, the new one
    /// allows what the old one does; for a server that sends, the other way round.
    fn schemas(&mut self, old: &Value, new: &Value, path: &str, depth: usize) {
        let (old_reference, new_reference) = (reference(old), reference(new));
        if old_reference.is_some() || new_reference.is_some() {
            let of = |schema: &Value, reference: Option<&str>| match reference {
                Some(reference) => reference.to_owned(),
                None => schema.to_string(),
            };
            if !self.seen.insert((of(old, old_reference), of(new, new_reference))) {
                return;
            }
        }
        let (old, new) = (resolved(self.whole.0, old), resolved(self.whole.1, new));
        let (Value::Object(old_keys), Value::Object(new_keys)) = (&*old, &*new) else {
            if !is_same(&old, &new) {
                self.add(path, "the schema is another");
            }
            return;
        };
        if depth > DEPTH_MAX {
            if !is_same(&old, &new) {
                self.add(path, "the schemas differ, too deep to compare them");
            }
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
        // What is left out allows everything.
        let all = Value::Bool(true);
        for (key, part) in [("items", "[]"), ("additionalProperties", "*")] {
            if !old_keys.contains_key(key) && !new_keys.contains_key(key) {
                continue;
            }
            let (old, new) = (old_keys.get(key).unwrap_or(&all), new_keys.get(key).unwrap_or(&all));
            // Whether there may be any is seen with the properties.
            if key == "items" || (old != false && new != false) {
                self.schemas(old, new, &format!("{path}/{part}"), depth + 1);
            }
        }
        self.rest(old_keys, new_keys, path);
    }

    fn types(&mut self, inner: &Map<String, Value>, outer: &Map<String, Value>, path: &str) {
        let Some(allowed) = outer.get("type").map(kinds) else { return };
        let Some(wanted) = kinds_of(inner) else { return };
        let fits = |kind: &String| allowed.contains(kind) || kind == "integer" && allowed.iter().any(|k| k == "number");
        for kind in wanted.iter().filter(|kind| !fits(kind)) {
            let text = match self.sender {
                Sender::Client if kind == ANY => {
                    format!("only {} is taken now, where any type was", allowed.join(", "))
                }
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
                for value in wanted.iter().filter(|value| !allowed.iter().any(|allowed| is_same(allowed, value))) {
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
        const UNDERSTOOD: [&str; 19] = [
            "$ref",
            "$defs",
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
        let is_other = |key: &&String| match (old.get(*key), new.get(*key)) {
            (Some(old), Some(new)) => !is_same(old, new),
            (old, new) => old.is_some() || new.is_some(),
        };
        for key in keys.into_iter().filter(is_other) {
            self.add(path, format!("{key} has changed, and cannot be compared"));
        }
    }
}

/// The definition that a schema refers to, if it does.
fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref").and_then(Value::as_str)
}

/// A schema in the one form that it can be compared in: an object, of what it refers to if it does. `true` is the empty one.
fn resolved<'s>(whole: &'s Value, schema: &'s Value) -> Cow<'s, Value> {
    let mut schema = schema;
    // References to references; those that lead in a circle allow everything.
    for _ in 0..DEPTH_MAX {
        match reference(schema).map(|reference| lookup(whole, reference)) {
            None if *schema == true => return Cow::Owned(Map::new().into()),
            None => return Cow::Borrowed(schema),
            Some(Some(next)) => schema = next,
            Some(None) => break,
        }
    }
    Cow::Owned(Map::new().into())
}

/// Whether two parts of schemas say the same: 1 is 1.0, and `true` is the empty schema.
fn is_same(a: &Value, b: &Value) -> bool {
    let is_all = |value: &Value| *value == true || value.as_object().is_some_and(Map::is_empty);
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| is_same(a, b)))
        }
        (a, b) => a == b || is_all(a) && is_all(b),
    }
}

/// What a schema without a type says of types.
const ANY: &str = "any type";

/// The types of what fits a schema. `None` where that is said by what is compared as a whole.
fn kinds_of(schema: &Map<String, Value>) -> Option<Vec<String>> {
    let kind_of = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let values = match (schema.get("enum"), schema.get("const")) {
        (Some(Value::Array(values)), _) => values.as_slice(),
        (_, Some(value)) => std::slice::from_ref(value),
        _ => &[],
    };
    match schema.get("type") {
        Some(kind) => Some(kinds(kind)),
        None if !values.is_empty() => {
            let kinds: BTreeSet<_> = values.iter().map(kind_of).collect();
            Some(kinds.into_iter().map(str::to_owned).collect())
        }
        None if ["allOf", "anyOf", "oneOf"].iter().any(|key| schema.contains_key(*key)) => None,
        None => Some(vec![ANY.to_owned()]),
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
            (with(&|s| s["additionalProperties"] = json!({})), None, None),
            (
                with(&|s| s["additionalProperties"] = string()),
                Some("/*: only string is taken now, where any type was"),
                None,
            ),
            (with(&|s| s["items"] = string()), Some("/[]: only string is taken now, where any type was"), None),
            // What has no type and is narrower all the same.
            (with(&|s| s["properties"]["a"] = json!({"const": "x"})), Some("/a: only some values"), None),
            (
                with(&|s| s["properties"]["a"] = json!({"enum": ["x", 1.5]})),
                Some("/a: only some values"),
                Some("/a: it can be number now, where it was string"),
            ),
            (
                with(&|s| s["properties"]["a"] = json!({"anyOf": [{"type": "string"}]})),
                Some("/a: anyOf has changed"),
                Some("/a: anyOf has changed"),
            ),
            (
                with(&|s| s["properties"]["a"] = json!({})),
                None,
                Some("/a: it can be any type now, where it was string"),
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
    fn the_same_in_other_words_breaks_nothing() {
        let push = |schema: &Value| {
            let channel = json!({"join": true, "push": {"e": schema}, "on": {"e": schema}, "replies": true});
            json!({"fanfare_contract": 1, "channels": {"r": channel}})
        };
        let node = |name: &str, text: &str| {
            let reference = format!("#/$defs/{name}");
            let node = json!({"type": "object", "properties": {
                "text": {"type": text}, "next": {"$ref": reference},
            }});
            json!({"$ref": reference, "$defs": {name: node}})
        };
        let inlined = json!({"type": "object", "properties": {"text": {"type": "string"}, "next": {"$ref": "#"}}});
        for (old, new) in [
            (json!({"enum": [1, 2.5]}), json!({"enum": [1.0, 2.5]})),
            (json!({"const": {"a": [1]}}), json!({"const": {"a": [1.0]}})),
            (json!({"multipleOf": 1}), json!({"multipleOf": 1.0})),
            (json!(true), json!({})),
            (json!({"properties": {"a": true}}), json!({"properties": {"a": {}}})),
            (json!({"anyOf": [true]}), json!({"anyOf": [{}]})),
            (node("a", "string"), node("b", "string")),
            (node("a", "string"), inlined.clone()),
        ] {
            assert_eq!(breaks(&push(&old), &push(&new)).unwrap(), [""; 0], "{old} {new}");
            assert_eq!(breaks(&push(&new), &push(&old)).unwrap(), [""; 0], "{new} {old}");
        }
        let found = breaks(&push(&inlined), &push(&node("a", "number"))).unwrap();
        // Of what a client sends and of what it gets: one level of the first is written out.
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found[0].contains("/text: string is not taken any more, only number"), "{found:?}");
        // What leads to nothing but itself.
        let circle = json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}});
        assert_eq!(breaks(&push(&circle), &push(&circle)).unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_gone_breaks() {
        let channel = |push: Value| json!({"join": true, "push": push, "on": {}, "replies": true});
        let old =
            json!({"fanfare_contract": 1, "channels": {"a": channel(json!({"x": true})), "b": channel(json!({}))}});
        let new = json!({"fanfare_contract": 1, "channels": {"a": channel(json!({"y": true}))}});
        assert_eq!(breaks(&old, &new).unwrap(), ["a: push of \"x\": it is gone", "b: the channel is gone"]);
        // Another pattern may serve the same topics, and is compared.
        let rooms = |pattern: &str, push: Value| json!({"fanfare_contract": 1, "channels": {pattern: channel(push)}});
        let served = || json!({"x": true});
        for (before, after, push, expected) in [
            ("room:*", "*", served(), None),
            ("room:1", "room:*", served(), None),
            ("room:*", "room*", json!({}), Some("room:*, which is room* now: push of \"x\": it is gone")),
            ("*", "room:*", served(), Some("*: the channel is gone")),
            ("room:*", "room:a*", served(), Some("room:*: the channel is gone")),
            ("room:1", "room:2", served(), Some("room:1: the channel is gone")),
        ] {
            let found = breaks(&rooms(before, served()), &rooms(after, push)).unwrap();
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{before} {after}");
        }
        let two = json!({"fanfare_contract": 1, "channels": {"*": channel(json!({})), "room:*": channel(served())}});
        assert_eq!(breaks(&rooms("room:1*", served()), &two).unwrap(), [""; 0]);
        assert_eq!(breaks(&new, &new).unwrap(), [""; 0]);
        assert!(breaks(&json!({"channels": {}}), &new).is_err());
    }
}
