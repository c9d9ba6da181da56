//! What a test expects of a payload.

use std::fmt;

use fanfare_proto::frame::in_message;
use fanfare_proto::payload::Payload;
use serde_json::Value;

/// What a payload shall be. A JSON value means exactly that value; see also [`including`] and [`anything`].
#[derive(Debug, Clone)]
pub struct Expected(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Exactly(Value),
    Including(Value),
    Anything,
}

/// An object with at least these fields, at every depth; lists are compared element by element.
pub fn including(fields: Value) -> Expected {
    Expected(Kind::Including(fields))
}

/// Whatever it is. Assertions return the payload.
pub fn anything() -> Expected {
    Expected(Kind::Anything)
}

impl From<Value> for Expected {
    fn from(value: Value) -> Self {
        Expected(Kind::Exactly(value))
    }
}

impl From<Payload> for Expected {
    fn from(payload: Payload) -> Self {
        Expected(Kind::Exactly(as_value(&payload)))
    }
}

impl Expected {
    pub(super) fn matches(&self, actual: &Value) -> bool {
        match &self.0 {
            Kind::Exactly(expected) => expected == actual,
            Kind::Including(expected) => includes(actual, expected),
            Kind::Anything => true,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Exactly(value) => value.fmt(f),
            Kind::Including(value) => write!(f, "something including {value}"),
            Kind::Anything => f.write_str("anything"),
        }
    }
}

/// The payload in the form in which the kit's sockets receive it.
pub(super) fn as_value(payload: &Payload) -> Value {
    let mut text = Vec::new();
    in_message(payload, &mut text);
    // Too deep for a `Value` is too deep to compare.
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("a payload cannot be compared: {error}"))
}

fn includes(actual: &Value, expected: &Value) -> bool {
    match (actual, expected) {
        (Value::Object(actual), Value::Object(expected)) => {
            expected.iter().all(|(key, expected)| actual.get(key).is_some_and(|actual| includes(actual, expected)))
        }
        (Value::Array(actual), Value::Array(expected)) => {
            actual.len() == expected.len()
                && actual.iter().zip(expected).all(|(actual, expected)| includes(actual, expected))
        }
        (actual, expected) => actual == expected,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn payloads_match() {
        #[track_caller]
        fn check(expected: impl Into<Expected>, actual: Value, matches: bool) {
            assert_eq!(expected.into().matches(&actual), matches);
        }
        check(json!({"a": 1}), json!({"a": 1}), true);
        check(json!({"a": 1}), json!({"a": 1, "b": 2}), false);
        check(including(json!({"a": 1})), json!({"a": 1, "b": 2}), true);
        check(including(json!({"a": 1})), json!({"a": 2}), false);
        check(including(json!({"a": {"b": [{"c": 1}]}})), json!({"a": {"b": [{"c": 1, "d": 2}], "e": 3}}), true);
        check(including(json!({"a": []})), json!({"a": [1]}), false);
        check(including(json!({"a": null})), json!({}), false);
        check(anything(), json!(null), true);
        check(Payload::Binary(vec![1, 2].into()), json!({"binary": "AQI="}), true);
    }
}
