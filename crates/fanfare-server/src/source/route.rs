//! From a message of a source to what is published, and where: pure.

use std::borrow::Cow;
use std::fmt;

use fanfare::{Json, Payload, Text, check_topic};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::config::source::{Route, Source as Settings};
use crate::identity::Template;
use crate::publish::{Checked, Message};

/// One message names at most so many.
const RECIPIENTS_MAX: usize = 10_000;

/// Why a message, or a recipient of one, is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skip {
    /// It is not what the route asks for.
    Malformed,
    TooLarge,
    /// Its topic cannot be one.
    BadTopic,
    TooManyRecipients,
    /// It came faster than it could be taken, and the source's client gave it up.
    Overrun,
}

impl Skip {
    /// All of them.
    pub(crate) const ALL: [Skip; 5] =
        [Skip::Malformed, Skip::TooLarge, Skip::BadTopic, Skip::TooManyRecipients, Skip::Overrun];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Skip::Malformed => "skipped_malformed",
            Skip::TooLarge => "skipped_too_large",
            Skip::BadTopic => "skipped_bad_topic",
            Skip::TooManyRecipients => "skipped_too_many_recipients",
            Skip::Overrun => "skipped_overrun",
        }
    }
}

/// What is to be published, and the recipients that were skipped.
#[derive(Debug, Default)]
pub(crate) struct Routed {
    pub(crate) messages: Vec<Checked>,
    pub(crate) skipped: Vec<Skip>,
}

/// The rules of one source.
#[derive(Debug)]
pub(crate) struct Router {
    route: Route,
    topic: Template,
    broadcast_topic: String,
    event: String,
    message_size_max: usize,
}

impl Router {
    pub(crate) fn new(settings: &Settings) -> Self {
        let default = if settings.route == Route::Recipients { "bridge:{recipient}" } else { "{channel}" };
        Router {
            route: settings.route,
            topic: settings.topic.clone().unwrap_or_else(|| default.parse().expect("a template")),
            broadcast_topic: settings.broadcast_topic.clone(),
            event: settings.event.0.clone(),
            message_size_max: settings.message_size_max.0 as usize,
        }
    }

    /// What becomes of a message that came by a channel.
    pub(crate) fn route(&self, channel: &str, body: &[u8]) -> Result<Routed, Skip> {
        if body.len() > self.message_size_max {
            return Err(Skip::TooLarge);
        }
        match self.route {
            Route::Envelope => {
                let message: Message<'_> = serde_json::from_slice(body).map_err(|_| Skip::Malformed)?;
                check_topic(&message.topic).map_err(|_| Skip::BadTopic)?;
                Ok(Routed { messages: vec![message.check(false).map_err(|_| Skip::Malformed)?], skipped: Vec::new() })
            }
            Route::Channel => {
                let topic = self.topic.fill(|_| Some(channel.to_owned())).unwrap_or_default();
                check_topic(&topic).map_err(|_| Skip::BadTopic)?;
                Ok(Routed { messages: vec![self.message(topic, payload(body))], skipped: Vec::new() })
            }
            Route::Recipients => self.to_recipients(body),
        }
    }

    fn to_recipients(&self, body: &[u8]) -> Result<Routed, Skip> {
        let Members(members) = serde_json::from_slice(body).map_err(|_| Skip::Malformed)?;
        let (recipients, rest): (Vec<_>, Vec<_>) = members.into_iter().partition(|(name, _)| name == "recipients");
        let payload = Payload::from(without(&rest, body).map_err(|_| Skip::Malformed)?);
        let recipients = match recipients[..] {
            [] => {
                return Ok(Routed {
                    messages: vec![self.message(self.broadcast_topic.clone(), payload)],
                    ..Routed::default()
                });
            }
            [(_, recipients)] => recipients,
            // Which of them counts?
            _ => return Err(Skip::Malformed),
        };
        let recipients: Vec<&RawValue> = serde_json::from_str(recipients.get()).map_err(|_| Skip::Malformed)?;
        if recipients.len() > RECIPIENTS_MAX {
            return Err(Skip::TooManyRecipients);
        }
        let mut routed = Routed::default();
        for recipient in recipients {
            let topic = serde_json::from_str::<String>(recipient.get())
                .ok()
                .and_then(|key| self.topic.fill(|_| Some(key.clone())).ok())
                .filter(|topic| check_topic(topic).is_ok());
            match topic {
                Some(topic) => routed.messages.push(self.message(topic, payload.clone())),
                None => routed.skipped.push(Skip::BadTopic),
            }
        }
        Ok(routed)
    }

    fn message(&self, topic: String, payload: Payload) -> Checked {
        Checked { topic, event: self.event.clone(), payload }
    }
}

/// A JSON object as such, any other text as it is, and bytes as bytes.
fn payload(body: &[u8]) -> Payload {
    match std::str::from_utf8(body) {
        Ok(text) => match Json::parse(text.to_owned()) {
            Ok(json) if json.is_object() => json.into(),
            _ => Text::copy(text).into(),
        },
        Err(_) => Payload::Binary(body.to_vec().into()),
    }
}

/// The object with these members, each as it was sent; without any left out, the whole body as it was.
fn without(members: &[(Cow<'_, str>, &RawValue)], body: &[u8]) -> Result<Json, serde_json::Error> {
    let mut text = String::with_capacity(body.len());
    text.push('{');
    for (index, (name, value)) in members.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&serde_json::to_string(name)?);
        text.push(':');
        text.push_str(value.get());
    }
    text.push('}');
    Json::parse(text)
}

/// The members of an object, in their order.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(route: Route, topic: Option<&str>) -> Router {
        let default = if route == Route::Recipients { "bridge:{recipient}" } else { "{channel}" };
        Router {
            route,
            topic: topic.unwrap_or(default).parse().unwrap(),
            broadcast_topic: "bridge".into(),
            event: "message".into(),
            message_size_max: 200,
        }
    }

    /// `topic event payload` of each message, then what was skipped.
    #[track_caller]
    fn check(router: &Router, body: &str, expected: Result<&[&str], Skip>) {
        let shown = router.route("news", body.as_bytes()).map(|Routed { messages, skipped }| {
            let messages = messages.iter().map(|Checked { topic, event, payload }| {
                let text = match payload {
                    Payload::Json(json) => json.as_str().to_owned(),
                    Payload::Text(text) => format!("text {}", text.as_str()),
                    Payload::Binary(data) => format!("binary {data:?}"),
                };
                format!("{topic} {event} {text}")
            });
            messages.chain(skipped.iter().map(|skip| skip.name().to_owned())).collect::<Vec<_>>()
        });
        assert_eq!(shown, expected.map(|lines| lines.iter().map(|line| (*line).to_owned()).collect()), "{body}");
    }

    #[test]
    fn envelopes() {
        let router = router(Route::Envelope, None);
        check(&router, r#"{"topic":"a","event":"b","payload":{"n": 1.0}}"#, Ok(&[r#"a b {"n": 1.0}"#]));
        check(&router, r#"{"event":"b","topic":"a"}"#, Ok(&["a b {}"]));
        for malformed in
            ["", "[]", "{}", r#"{"topic":"a","event":"phx_close"}"#, r#"{"topic":"a","event":"b","payload":1}"#]
        {
            check(&router, malformed, Err(Skip::Malformed));
        }
        check(&router, r#"{"topic":"","event":"b"}"#, Err(Skip::BadTopic));
        check(
            &router,
            &format!(r#"{{"topic":"a","event":"b","payload":{{"x":"{}"}}}}"#, "x".repeat(200)),
            Err(Skip::TooLarge),
        );
    }

    #[test]
    fn channels() {
        let plain = router(Route::Channel, None);
        check(&plain, r#" {"a": 1} "#, Ok(&[r#"news message {"a": 1}"#]));
        check(&plain, "[1]", Ok(&["news message text [1]"]));
        check(&plain, "hello", Ok(&["news message text hello"]));
        check(&router(Route::Channel, Some("room:{channel}")), "x", Ok(&["room:news message text x"]));
        check(&router(Route::Channel, Some("\n")), "x", Err(Skip::BadTopic));
    }

    #[test]
    fn recipients() {
        let router = router(Route::Recipients, None);
        let sent =
            r#"{"a": [1.0,2e3], "recipients":["k1","k 2"], "data":{"z":1,"y":18446744073709551616}, "recipient":1}"#;
        let got = r#"{"a":[1.0,2e3],"data":{"z":1,"y":18446744073709551616},"recipient":1}"#;
        check(&router, sent, Ok(&[&format!("bridge:k1 message {got}"), &format!("bridge:k 2 message {got}")]));
        check(&router, r#"{"recipients":[],"data":1}"#, Ok(&[]));
        check(&router, r#"{"data":{"to":"all"}}"#, Ok(&[r#"bridge message {"data":{"to":"all"}}"#]));
        let long = format!("\"{}\"", "x".repeat(260));
        check(
            &router,
            r#"{"recipients":["k1",7,null,"","a\nb"]}"#,
            Ok(&[
                "bridge:k1 message {}",
                "bridge: message {}",
                "skipped_bad_topic",
                "skipped_bad_topic",
                "skipped_bad_topic",
            ]),
        );
        for malformed in [
            "",
            "nonsense",
            "[]",
            "7",
            r#"{"recipients":"k1"}"#,
            r#"{"recipients":null}"#,
            r#"{"recipients":["a"],"recipients":["b"]}"#,
            r#"{"recipients":["a"]"#,
            r#"{"recipients":["a"],"x":"\ud800"}"#,
        ] {
            check(&router, malformed, Err(Skip::Malformed));
        }
        check(&router, &format!(r#"{{"recipients":[{long}]}}"#), Err(Skip::TooLarge));
        let many = Router { message_size_max: 1_000_000, ..router };
        let recipients = vec!["\"k\""; RECIPIENTS_MAX + 1].join(",");
        check(&many, &format!(r#"{{"recipients":[{recipients}]}}"#), Err(Skip::TooManyRecipients));
        check(&many, &format!(r#"{{"recipients":[{long}]}}"#), Ok(&["skipped_bad_topic"]));
    }
}
