//! The envelope of a Phoenix message, as far as the order of frames depends on it: topic, event and ref.
//!
//! Payloads stay where they are, and nothing is validated: what is no envelope is `None`, and then simply has no topic.

use serde_json::Value;
use std::collections::BTreeSet;

/// Topic, event and ref of one message. A recorded topic may be any JSON value, for there are recordings of that.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Envelope {
    pub(crate) topic: Value,
    pub(crate) event: Value,
    pub(crate) reference: Value,
}

impl Envelope {
    /// Of a text message: an array of five (2.0.0) or an object (1.0.0).
    pub(crate) fn of_json(message: &Value) -> Option<Envelope> {
        match message {
            Value::Array(parts) if parts.len() == 5 => {
                Some(Envelope { topic: parts[2].clone(), event: parts[3].clone(), reference: parts[1].clone() })
            }
            Value::Object(fields) => Some(Envelope {
                topic: fields.get("topic")?.clone(),
                event: fields.get("event").cloned().unwrap_or_default(),
                reference: fields.get("ref").cloned().unwrap_or_default(),
            }),
            _ => None,
        }
    }

    /// Of a binary message from the server: a push (0), a reply (1) or a broadcast (2).
    pub(crate) fn of_server_binary(message: &[u8]) -> Option<Envelope> {
        let (kind, rest) = message.split_first()?;
        match kind {
            0 => fields(rest).map(|[_, topic, event]| Envelope { topic, event, reference: Value::Null }),
            1 => fields(rest).map(|[_, reference, topic, _]| Envelope { topic, event: "phx_reply".into(), reference }),
            2 => fields(rest).map(|[topic, event]| Envelope { topic, event, reference: Value::Null }),
            _ => None,
        }
    }

    /// Of a binary message from the client, which is always a push.
    pub(crate) fn of_client_binary(message: &[u8]) -> Option<Envelope> {
        let (0, rest) = message.split_first()? else { return None };
        fields(rest).map(|[_, reference, topic, event]| Envelope { topic, event, reference })
    }
}

/// `N` lengths of a byte each, followed by as many texts.
fn fields<const N: usize>(bytes: &[u8]) -> Option<[Value; N]> {
    let (lengths, mut rest) = bytes.split_at_checked(N)?;
    let mut texts = [const { Value::Null }; N];
    for (text, length) in texts.iter_mut().zip(lengths) {
        let (field, after) = rest.split_at_checked(usize::from(*length))?;
        *text = std::str::from_utf8(field).ok()?.into();
        rest = after;
    }
    Some(texts)
}

/// The joins that the client has asked for. A reply to one of them must come before everything else of that join.
#[derive(Debug, Clone, Default)]
pub(crate) struct Joins(BTreeSet<(String, String)>);

impl Joins {
    /// Notes a message that the client sends, if it is a join.
    pub(crate) fn sent(&mut self, message: Option<Envelope>) {
        if let Some(message) = message.filter(|message| message.event == "phx_join") {
            self.0.insert((message.topic.to_string(), message.reference.to_string()));
        }
    }

    /// Notes a text frame, or each line of a long-poll body.
    pub(crate) fn sent_text(&mut self, text: &[u8]) {
        self.sent(serde_json::from_slice(text).ok().and_then(|message| Envelope::of_json(&message)));
    }

    /// Whether a message of the server answers a join.
    pub(crate) fn answered_by(&self, message: &Envelope) -> bool {
        message.event == "phx_reply" && self.0.contains(&(message.topic.to_string(), message.reference.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn envelopes_of_all_forms() {
        let expected =
            |topic: Value, event: &str, reference: Value| Some(Envelope { topic, event: event.into(), reference });
        let json = Envelope::of_json;
        assert_eq!(json(&json!(["1", "2", "t", "e", {}])), expected(json!("t"), "e", json!("2")));
        assert_eq!(json(&json!([null, null, 5, "e", {}])), expected(json!(5), "e", Value::Null));
        assert_eq!(json(&json!({"topic": "t", "event": "e", "ref": "2"})), expected(json!("t"), "e", json!("2")));
        assert_eq!(json(&json!([1, 2, 3])), None);
        assert_eq!(json(&json!({"event": "e"})), None);

        let server = Envelope::of_server_binary;
        assert_eq!(server(b"\x00\x01\x01\x01jterest"), expected(json!("t"), "e", Value::Null));
        assert_eq!(server(b"\x01\x01\x01\x01\x02jrtokrest"), expected(json!("t"), "phx_reply", json!("r")));
        assert_eq!(server(b"\x02\x01\x01terest"), expected(json!("t"), "e", Value::Null));
        assert_eq!(server(b"\x00\x01\x01\x09jt"), None, "too short");
        assert_eq!(server(b"\x02\x01\x01\xffe"), None, "no UTF-8");
        assert_eq!(server(b"\x03\x01\x01te"), None, "unknown kind");
        assert_eq!(server(b""), None);

        let client = Envelope::of_client_binary;
        assert_eq!(client(b"\x00\x01\x01\x01\x01jrte"), expected(json!("t"), "e", json!("r")));
        assert_eq!(client(b"\x01\x01\x01\x01\x01jrte"), None);
    }

    #[test]
    fn only_replies_to_joins_answer_them() {
        let mut joins = Joins::default();
        joins.sent_text(br#"["1","1","a","phx_join",{}]"#);
        joins.sent_text(br#"["1","2","a","echo",{}]"#);
        joins.sent_text(b"no JSON");
        joins.sent(Envelope::of_client_binary(b"\x00\x01\x01\x01\x0833bphx_join"));
        for (message, answers) in [
            (json!(["1", "1", "a", "phx_reply", {}]), true),
            (json!(["3", "3", "b", "phx_reply", {}]), true),
            (json!(["1", "2", "a", "phx_reply", {}]), false),
            (json!(["1", "1", "c", "phx_reply", {}]), false),
            (json!(["1", "1", "a", "phx_close", {}]), false),
        ] {
            assert_eq!(joins.answered_by(&Envelope::of_json(&message).unwrap()), answers, "{message}");
        }
    }
}
