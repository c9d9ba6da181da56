//! Differences between two messages, for clients that ask for them: a JSON Merge Patch (RFC 7396) of the message before.
//!
//! A difference goes out in the frame of its message. The ref, which is null or a position otherwise, begins with `~`; the
//! payload is an object with `patch`, and with `key` where a topic's messages are told apart by a member of their payloads.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::frame::{Form, in_message, write_string};
use crate::message::Ref;
use crate::payload::{JsonText, Payload};
use crate::phoenix::codec;
use crate::position::Position;
use crate::resume::with_member;

/// How many messages, by event and key, a client keeps at least to apply differences to.
pub const KEYS_MAX: usize = 1_000;

/// Whether a client wants differences, by the payload of its join.
pub fn delta_param(payload: &Payload) -> bool {
    #[derive(Deserialize)]
    struct Params {
        delta: bool,
    }
    let text = match payload {
        Payload::Json(json) => json.as_bytes(),
        Payload::Text(text) => text.as_bytes(),
        Payload::Binary(_) => return false,
    };
    may_be_named(text) && payload.to().is_ok_and(|Params { delta }| delta)
}

/// Whether a member of a payload may be called `delta`. Each join is asked, and nearly none has it: all bytes are looked at, which the
/// compiler does with many at once.
#[inline]
fn may_be_named(text: &[u8]) -> bool {
    // A name may be written with escapes.
    let is_hint = |(this, next): (&u8, &u8)| (*this == b'\\') | ((*this == b'"') & (*next == b'd'));
    let bytes = text.iter().zip(text.get(1..).unwrap_or_default());
    bytes.fold(false, |is_found, pair| is_found | is_hint(pair)) && is_named(text)
}

#[cold]
fn is_named(text: &[u8]) -> bool {
    const NAME: &[u8] = b"\"delta\"";
    text.contains(&b'\\') || text.windows(NAME.len()).any(|part| part == NAME)
}

/// A reply with what a client that has asked for differences has to know: by which member of a payload messages are told apart,
/// or why it gets whole messages.
pub fn with_delta(reply: &Payload, told: Result<Option<&str>, &str>) -> Payload {
    let told = match told {
        Ok(key) => serde_json::json!({ "key": key, "keys": KEYS_MAX }),
        Err(reason) => serde_json::json!({ "reason": reason }),
    };
    with_member(reply, "delta", told.to_string().as_bytes())
}

/// A payload as clients of Phoenix get it: an object.
pub fn as_object(payload: &Payload) -> JsonText {
    let mut out = Vec::new();
    in_message(payload, &mut out);
    JsonText::unchecked(out.into())
}

/// The members of an object, as they are written.
#[derive(Debug, Default)]
pub struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Members<'a> {
    /// Those of a text; `None` if it is no object.
    pub fn of(text: &'a str) -> Option<Self> {
        text.starts_with('{').then(|| serde_json::from_str(text).ok().map(Members)).flatten()
    }

    /// The value of a member that is a string.
    pub fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.0.get(name)?.get()).ok()
    }
}

/// What makes the one object the other, in at most so many bytes. `None`: it is longer, or cannot be said, since a null in a
/// patch means that a member is gone.
pub fn merge_patch(before: &Members<'_>, now: &Members<'_>, size_max: usize) -> Option<String> {
    let mut out = Vec::new();
    patch(before, now, size_max, &mut out)?;
    String::from_utf8(out).ok()
}

fn patch(before: &Members<'_>, now: &Members<'_>, size_max: usize, out: &mut Vec<u8>) -> Option<()> {
    out.push(b'{');
    let begin = out.len();
    let name_it = |name: &str, out: &mut Vec<u8>| {
        if out.len() > begin {
            out.push(b',');
        }
        write_string(name, out);
        out.push(b':');
    };
    for (name, value) in &now.0 {
        let old = before.0.get(name).map(|old| old.get());
        let value = value.get();
        if old == Some(value) {
            continue;
        }
        name_it(name, out);
        match value.as_bytes().first() {
            Some(b'n') | None => return None,
            // What is no object becomes an empty one before a patch is applied.
            Some(b'{') => {
                let before = old.and_then(Members::of).unwrap_or_default();
                patch(&before, &Members::of(value)?, size_max, out)?;
            }
            Some(_) => out.extend_from_slice(value.as_bytes()),
        }
        if out.len() > size_max {
            return None;
        }
    }
    for name in before.0.keys().filter(|name| !now.0.contains_key(*name)) {
        name_it(name, out);
        out.extend_from_slice(b"null");
    }
    out.push(b'}');
    (out.len() <= size_max).then_some(())
}

/// Appends the difference in the place of a message, always text. `false`: the form has none, and nothing was written.
pub fn write(
    form: Form,
    (topic, event): (&str, &str),
    position: Option<Position>,
    key: Option<&str>,
    patch: &str,
    out: &mut Vec<u8>,
) -> bool {
    let (format, position) = match form {
        Form::Phoenix(format) => (format, None),
        Form::Resuming(format) => (format, position),
        _ => return false,
    };
    let mark = Ref::string(&position.map_or_else(|| "~".to_owned(), |position| format!("~{position}")));
    let mut payload = b"{".to_vec();
    if let Some(key) = key {
        payload.extend_from_slice(b"\"key\":");
        write_string(key, &mut payload);
        payload.push(b',');
    }
    payload.extend_from_slice(b"\"patch\":");
    payload.extend_from_slice(patch.as_bytes());
    payload.push(b'}');
    codec::marked(format, &mark, topic, event, &JsonText::unchecked(payload.into()).into(), out);
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::payload::Text;
    use crate::phoenix::message::Format;
    use crate::position::Epoch;

    /// RFC 7396, as it is written there.
    fn apply(target: Value, patch: &Value) -> Value {
        let Value::Object(patch) = patch else { return patch.clone() };
        let mut target = match target {
            Value::Object(target) => target,
            _ => Map::new(),
        };
        for (name, value) in patch {
            if value.is_null() {
                target.remove(name);
            } else {
                let old = target.remove(name).unwrap_or_default();
                target.insert(name.clone(), apply(old, value));
            }
        }
        target.into()
    }

    fn difference(before: &Value, now: &Value) -> Option<Value> {
        let (before, now) = (before.to_string(), now.to_string());
        let patch = merge_patch(&Members::of(&before)?, &Members::of(&now)?, usize::MAX)?;
        Some(serde_json::from_str(&patch).unwrap())
    }

    #[test]
    fn differences_are_small_or_none() {
        for (before, now, expected) in [
            (json!({"a": 1, "b": 2}), json!({"a": 1, "b": 3}), Some(json!({"b": 3}))),
            (json!({"a": 1}), json!({"a": 1}), Some(json!({}))),
            (json!({"a": 1}), json!({}), Some(json!({"a": null}))),
            (json!({"a": {"x": 1, "y": [1]}}), json!({"a": {"x": 1, "y": [2]}}), Some(json!({"a": {"y": [2]}}))),
            (json!({"a": {"x": 1}}), json!({"a": {}}), Some(json!({"a": {"x": null}}))),
            (json!({"a": 1}), json!({"a": {"x": 1}}), Some(json!({"a": {"x": 1}}))),
            (json!({"a": [null]}), json!({"a": [null, 1]}), Some(json!({"a": [null, 1]}))),
            // An unchanged null is not a part of it, a new one cannot be.
            (json!({"a": null, "b": 1}), json!({"a": null, "b": 2}), Some(json!({"b": 2}))),
            (json!({"a": 1}), json!({"a": null}), None),
            (json!({}), json!({"a": {"b": {"c": null}}}), None),
        ] {
            assert_eq!(difference(&before, &now), expected, "{before} {now}");
        }
        let members = |text| Members::of(text).unwrap();
        let (before, now) = (members(r#"{"a":1}"#), members(r#"{"a":12345}"#));
        assert_eq!(merge_patch(&before, &now, 11).as_deref(), Some(r#"{"a":12345}"#));
        assert_eq!(merge_patch(&before, &now, 10), None);
        assert_eq!(now.text("a"), None);
        assert!(Members::of("[1]").is_none() && Members::of("1").is_none());
    }

    #[test]
    fn a_difference_in_its_frame() {
        let position = Some(Position { epoch: Epoch::new(10).unwrap(), offset: 3 });
        for (form, key, expected) in [
            (Form::Phoenix(Format::V2), None, r#"[null,"~","t","e",{"patch":{"a":1}}]"#),
            (Form::Resuming(Format::V2), Some("k\""), r#"[null,"~a:3","t","e",{"key":"k\"","patch":{"a":1}}]"#),
            (Form::Phoenix(Format::V1), None, r#"{"topic":"t","event":"e","payload":{"patch":{"a":1}},"ref":"~"}"#),
        ] {
            let mut out = Vec::new();
            assert!(write(form, ("t", "e"), position, key, r#"{"a":1}"#, &mut out));
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        assert!(!write(Form::Bare, ("t", "e"), position, None, "{}", &mut Vec::new()));
    }

    #[test]
    fn a_join_says_whether_it_wants_differences() {
        for (payload, expected) in [
            ("{}", false),
            (r#"{"delta":true}"#, true),
            (r#"{"a":{"b":"delta"},"\u0064elta" : true}"#, true),
            (r#"{"name":"a text that is longer than what is looked at at once","delta":true}"#, true),
            (r#"{"delta":true,"name":"a text that is longer than what is looked at at once"}"#, true),
            (r#"{"name":"a text that is longer than what is looked at at once","del\u0074a":true}"#, true),
            (r#"{"name":"a text that is longer than what is looked at at once","data":true}"#, false),
            (r#"{"delta":false}"#, false),
            (r#"{"delta":1}"#, false),
            (r#"{"a":["delta",true]}"#, false),
            (r#"["delta"]"#, false),
        ] {
            for as_it_came in [JsonText::parse(payload).unwrap().into(), Text::copy(payload).into()] {
                assert_eq!(delta_param(&as_it_came), expected, "{payload}");
            }
        }
        assert!(!delta_param(&Payload::Binary(br#"{"delta":true}"#[..].into())));
        assert!(["", "{", "\\", r#"{"delta":true"#].into_iter().all(|text| !delta_param(&Text::copy(text).into())));
        for (told, expected) in [
            (Ok(Some("k")), r#"{"a":1,"delta":{"key":"k","keys":1000}}"#),
            (Err("no"), r#"{"a":1,"delta":{"reason":"no"}}"#),
        ] {
            let Payload::Json(reply) = with_delta(&json!({"a": 1}).into(), told) else { panic!("JSON") };
            assert_eq!(reply.as_str(), expected);
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), (0..3).prop_map(Value::from)];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[abé\"]", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_difference_applied_to_what_was_gives_what_is(before in value(), now in value()) {
            if let Some(patch) = difference(&before, &now) {
                prop_assert_eq!(apply(before, &patch), now);
            }
        }
    }
}
