//! A `presence_diff` taken apart by key, so that two diffs and the one they were merged into compare equal.

use crate::envelope::Envelope;
use serde_json::{Map, Value, json};

/// What one diff says about one key: `joins` and `leaves` hold the presence of that key, or null.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// The entry as one value, for matching: the message without its payload, the key, and what it joins and leaves.
    pub(crate) value: Value,
}

/// The entries of `message` by key, or `None` if it is no `presence_diff`.
pub(crate) fn entries(message: &Value) -> Option<Vec<Entry>> {
    if Envelope::of_json(message)?.event != "presence_diff" {
        return None;
    }
    let mut rest = message.clone();
    let payload = match &mut rest {
        Value::Array(parts) => parts[4].take(),
        Value::Object(fields) => fields.get_mut("payload")?.take(),
        _ => return None,
    };
    let fields = payload.as_object().filter(|fields| fields.len() == 2)?;
    let (joins, leaves) = (fields.get("joins")?.as_object()?, fields.get("leaves")?.as_object()?);
    let only_left = leaves.keys().filter(|key| !joins.contains_key(*key));
    Some(joins.keys().chain(only_left).map(|key| entry(&rest, key, joins, leaves)).collect())
}

fn entry(rest: &Value, key: &str, joins: &Map<String, Value>, leaves: &Map<String, Value>) -> Entry {
    let value = json!({"message": rest, "key": key, "joins": joins.get(key), "leaves": leaves.get(key)});
    Entry { key: key.to_owned(), value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_entry_a_key() {
        let v2 = json!([null, null, "t", "presence_diff", {"joins": {"a": 1, "b": 2}, "leaves": {"b": 3, "c": 4}}]);
        let v1 =
            json!({"topic": "t", "event": "presence_diff", "ref": null, "payload": {"joins": {"a": 1}, "leaves": {}}});
        let seen = |message: &Value| -> Vec<(String, Value, Value)> {
            let entries = entries(message).unwrap();
            entries.into_iter().map(|e| (e.key, e.value["joins"].clone(), e.value["leaves"].clone())).collect()
        };
        assert_eq!(
            seen(&v2),
            [
                ("a".to_owned(), json!(1), Value::Null),
                ("b".to_owned(), json!(2), json!(3)),
                ("c".to_owned(), Value::Null, json!(4))
            ]
        );
        assert_eq!(seen(&v1), [("a".to_owned(), json!(1), Value::Null)]);
    }

    #[test]
    fn other_messages_have_none() {
        for message in [
            json!([null, null, "t", "presence_state", {"joins": {}, "leaves": {}}]),
            json!([null, null, "t", "presence_diff", {"joins": {}}]),
            json!([null, null, "t", "presence_diff", {"joins": [], "leaves": {}}]),
            json!({"topic": "t", "event": "presence_diff"}),
            json!(5),
        ] {
            assert_eq!(entries(&message), None, "{message}");
        }
    }
}
