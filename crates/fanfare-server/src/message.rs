//! A message to publish, as others send it: `{"topic", "event", "payload"}`, or several in `messages`. The HTTP API and the
//! sources take the same form and check it here.

use fanfare::{Endpoint, Error, JsonText, Payload, Publish, Published, Publisher, Since, check_topic};
use fanfare_proto::event::{DISCONNECT, EVENT_SIZE_MAX, Reserved};
use serde::Deserialize;
use serde_json::value::RawValue;

/// How many messages one envelope may hold.
const MESSAGES_MAX: usize = 1_000;

/// A message that may go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) event: String,
    pub(crate) payload: Payload,
    pub(crate) key: Option<String>,
    pub(crate) expect: Option<Since>,
}

/// What is wrong with a message, for whoever sent it.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) text: String,
    /// Whether it is its topic.
    pub(crate) is_topic: bool,
}

impl Fault {
    fn form(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_topic: false }
    }
}

/// One message, or several.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Envelope<'a> {
    topic: Option<String>,
    event: Option<String>,
    /// `null` is as good as nothing, as it is for the others.
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    idempotency_key: Option<String>,
    expect: Option<String>,
    #[serde(borrow)]
    messages: Option<Vec<Item<'a>>>,
    #[serde(default)]
    allow_reserved: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Item<'a> {
    topic: String,
    event: String,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    idempotency_key: Option<String>,
    expect: Option<String>,
}

/// The messages of an envelope, all of which are right.
///
/// # Errors
/// What is wrong with the first that is not. The text may quote what was sent: it is for whoever sent it, not for a log.
pub(crate) fn parse(body: &[u8]) -> Result<Vec<Message>, Fault> {
    let example = r#"{"topic": "room:lobby", "event": "new_msg", "payload": {}} or {"messages": [...]}"#;
    let envelope: Envelope<'_> = decode(body, example).map_err(Fault::form)?;
    let Envelope { idempotency_key, expect, .. } = &envelope;
    let is_about_one = envelope.payload.is_some() || idempotency_key.is_some() || expect.is_some();
    let items = match (envelope.messages, envelope.topic, envelope.event) {
        (None, Some(topic), Some(event)) => {
            let Envelope { payload, idempotency_key, expect, .. } = envelope;
            vec![Item { topic, event, payload, idempotency_key, expect }]
        }
        (Some(messages), None, None) if !is_about_one => messages,
        (Some(_), ..) => {
            return Err(Fault::form(
                "`messages` cannot be combined with `topic`, `event` or other members of a message; move them into its items",
            ));
        }
        (None, None, ..) => return Err(Fault::form(format!("topic is missing; the body is like {example}"))),
        (None, ..) => return Err(Fault::form(format!("event is missing; the body is like {example}"))),
    };
    if items.len() > MESSAGES_MAX {
        let text = format!("{} messages are more than {MESSAGES_MAX}; publish in several requests", items.len());
        return Err(Fault::form(text));
    }
    let numbered = items.into_iter().enumerate();
    numbered
        .map(|(i, Item { topic, event, payload, idempotency_key, expect })| {
            let payload = payload.map(RawValue::get);
            check(topic, event, payload, envelope.allow_reserved)
                .and_then(|message| message.with(idempotency_key, expect))
                .map_err(|fault| Fault { text: format!("message {i}: {}", fault.text), ..fault })
        })
        .collect()
}

/// Reads a body that is like an example.
///
/// # Errors
/// Why it is not.
pub(crate) fn decode<'a, T: Deserialize<'a>>(body: &'a [u8], example: &str) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("the body is not like {example}: {error}"))
}

/// A message of these parts; the payload is JSON.
///
/// # Errors
/// What is wrong with the first that is not right.
pub(crate) fn check(
    topic: String,
    event: String,
    payload: Option<&str>,
    allow_reserved: bool,
) -> Result<Message, Fault> {
    check_topic(&topic).map_err(|error| Fault { text: error.to_string(), is_topic: true })?;
    if event.is_empty() || event.len() > EVENT_SIZE_MAX {
        return Err(Fault::form(format!("the event has {} bytes; it takes 1 to {EVENT_SIZE_MAX}", event.len())));
    }
    if Reserved::of(&event).is_some_and(Reserved::concerns_clients) && !allow_reserved {
        let next = r#"send "allow_reserved": true beside it if you mean it"#;
        return Err(Fault::form(format!("the event {event:?} is the protocol's own; {next}")));
    }
    let payload: Payload = match payload {
        None => Payload::default(),
        Some(raw) => {
            let json = JsonText::parse(raw.to_owned()).map_err(|error| Fault::form(format!("payload: {error}")))?;
            json.into()
        }
    };
    if !payload.is_pushable() {
        return Err(Fault::form("the payload must be a JSON object"));
    }
    Ok(Message::new(topic, event, payload))
}

impl Message {
    pub(crate) fn new(topic: String, event: String, payload: Payload) -> Self {
        Self { topic, event, payload, key: None, expect: None }
    }

    /// The message with what makes it safe to send again.
    fn with(self, key: Option<String>, expect: Option<String>) -> Result<Self, Fault> {
        if let Some(key) = key.as_ref().filter(|key| key.is_empty() || key.len() > Publish::KEY_SIZE_MAX) {
            let max = Publish::KEY_SIZE_MAX;
            let text = format!("the idempotency_key has {} bytes; it takes 1 to {max}", key.len());
            return Err(Fault::form(text));
        }
        let parse = |text: String| text.parse().map_err(|error| Fault::form(format!("expect: {text:.64?} is {error}")));
        Ok(Self { key, expect: expect.map(parse).transpose()?, ..self })
    }

    /// Hands it to the engine, counted as published by this one; a disconnect is carried out as well.
    ///
    /// # Errors
    /// Those of [`Endpoint::publish`].
    pub(crate) async fn publish(&self, endpoint: &Endpoint, publisher: Publisher) -> Result<Published, Error> {
        if self.event == DISCONNECT {
            endpoint.disconnect(&self.topic).await;
        }
        let mut publish = Publish::new(&self.topic, &self.event, self.payload.clone()).counted_as(publisher);
        if let Some(key) = &self.key {
            publish = publish.idempotency_key(key);
        }
        if let Some(position) = self.expect {
            publish = publish.expect(position);
        }
        endpoint.publish(publish).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_checked() {
        /// An empty text: it is right.
        #[track_caller]
        fn check(body: &str, part: &str) {
            let text = parse(body.as_bytes()).map_or_else(|fault| fault.text, |_| String::new());
            assert!(text.contains(part) && text.is_empty() == part.is_empty(), "{body}\n--> {text}");
        }
        check(r#"{"topic":"a","event":"b"}"#, "");
        check(r#"{"topic":"a","event":"b","payload":{"n":123456789012345678901234567890}}"#, "");
        check(r#"{"messages":[]}"#, "");
        check(r#"{"messages":[{"topic":"a","event":"b"},{"topic":"c","event":"d"}]}"#, "");
        check(r#"{"topic":"a","event":"phx_close","allow_reserved":true}"#, "");
        check("", "the body is not like");
        check("[]", "expected an object");
        check("5", "invalid type: integer `5`, expected an object");
        check(r#"{"messages":[5]}"#, "invalid type: integer `5`, expected an object");
        check(r#"{"topic":"a","evnt":"b"}"#, "unknown field `evnt`");
        check(r#"{"topic":"a"}"#, "event is missing");
        check(r#"{"event":"a"}"#, "topic is missing");
        check(r#"{"topic":5,"event":"a"}"#, "expected a string");
        check(r#"{"topic":"","event":"a"}"#, "the topic is empty");
        check(r#"{"topic":"a\n","event":"a"}"#, "control character");
        check(&format!(r#"{{"topic":"{}","event":"a"}}"#, "x".repeat(256)), "the topic has 256 bytes, more than 255");
        check(r#"{"topic":"a","event":""}"#, "the event has 0 bytes");
        check(&format!(r#"{{"topic":"a","event":"{}"}}"#, "x".repeat(256)), "the event has 256 bytes");
        check(r#"{"topic":"a","event":"phx_close"}"#, "allow_reserved");
        check(r#"{"topic":"a","event":"presence_diff"}"#, "allow_reserved");
        check(r#"{"topic":"a","event":"b","payload":[1]}"#, "must be a JSON object");
        check(r#"{"topic":"a","event":"b","payload":"\ud800"}"#, "payload: unpaired surrogate");
        check(r#"{"topic":"a","event":"b","messages":[]}"#, "`messages` cannot be combined");
        check(r#"{"idempotency_key":"k","messages":[]}"#, "`messages` cannot be combined");
        check(r#"{"topic":"a","event":"b","idempotency_key":"k","expect":"5e:3"}"#, "");
        check(
            r#"{"topic":"a","event":"b","idempotency_key":""}"#,
            "the idempotency_key has 0 bytes; it takes 1 to 255",
        );
        check(r#"{"topic":"a","event":"b","expect":"3"}"#, "expect: \"3\" is not a position");
        check(r#"{"messages":[{"topic":"a","event":"b"},{"topic":"","event":"d"}]}"#, "message 1: the topic is empty");
        check(r#"{"topic":"a","event":"b","payload":null,"expect":null}"#, "");
        let null = parse(br#"{"messages":[{"topic":"a","event":"b","payload":null}]}"#).unwrap();
        assert_eq!(null[0].payload, Payload::default());
        let many = vec![r#"{"topic":"a","event":"b"}"#; MESSAGES_MAX + 1].join(",");
        check(&format!(r#"{{"messages":[{many}]}}"#), "1001 messages are more than 1000");
    }
}
