//! What a source's message becomes: topic, event and payload. Pure, so that tables can test it.
//!
//! A payload that is a JSON object stays the bytes that came, wherever it is taken from.

use std::collections::HashSet;
use std::fmt;

use fanfare::{JsonText, Payload, Text, check_topic};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::config::template::Template;
use crate::message::{self, Fault, Message};

/// How messages are routed.
#[derive(Debug)]
pub(crate) enum Route {
    /// The body says it: `{"topic", "event", "payload"}`, as `POST /api/publish` takes it.
    Envelope,
    /// The channel says it, and the body is the payload.
    Channel {
        /// With `{channel}`.
        topic: Template,
        event: String,
    },
    /// The body names recipients, each of whom has a topic; without them it goes to all.
    Recipients {
        /// With `{recipient}`.
        topic: Template,
        broadcast_topic: String,
        event: String,
        recipients_max: usize,
    },
}

/// Why a message, or a part of it, was not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skip {
    /// It is not the JSON that the route takes.
    Malformed,
    /// Its topic, or that of one of its recipients, cannot be one. Other recipients get the message.
    BadTopic,
    /// It is over `message_size_max`.
    TooLarge,
    /// It has more recipients than `recipients_max`.
    TooManyRecipients,
    /// Its topic is not where it expects it.
    Conflict,
    /// Too many waited for the engine already.
    Overrun,
    /// Its payload does not fit the schema of its event.
    Schema,
}

impl Skip {
    pub(crate) const ALL: [Self; 7] = [
        Self::Malformed,
        Self::BadTopic,
        Self::TooLarge,
        Self::TooManyRecipients,
        Self::Conflict,
        Self::Overrun,
        Self::Schema,
    ];

    /// The reason under which it is counted.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Malformed => "skipped_malformed",
            Self::BadTopic => "skipped_bad_topic",
            Self::TooLarge => "skipped_too_large",
            Self::TooManyRecipients => "skipped_too_many_recipients",
            Self::Conflict => "skipped_conflict",
            Self::Overrun => "skipped_overrun",
            Self::Schema => "skipped_schema",
        }
    }

    /// What is counted under it, in the words of docs/operations.md.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Malformed => {
                "Messages that are not the JSON that the route takes, or that the HTTP API would refuse."
            }
            Self::BadTopic => "Messages, or recipients of one, whose topic cannot be one.",
            Self::TooLarge => "Messages above the source's `message_size_max`.",
            Self::TooManyRecipients => "Messages with more recipients than `recipients_max`.",
            Self::Conflict => "Messages that expect their topic at another position than the topic is at.",
            Self::Overrun => {
                "Messages that came while too many waited to be published, from a server that does not wait."
            }
            Self::Schema => "Messages whose payload does not fit the schema of their event.",
        }
    }

    /// The same for the eyes of somebody who looks at what was parked.
    pub(crate) fn reason(self) -> &'static str {
        self.name().trim_start_matches("skipped_")
    }

    /// Why a message is none.
    pub(crate) fn of(fault: &Fault) -> Self {
        if fault.is_topic { Self::BadTopic } else { Self::Malformed }
    }
}

/// What becomes of a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Routed {
    pub(crate) messages: Vec<Message>,
    /// How many recipients were left out.
    pub(crate) bad_recipients: u64,
}

impl Route {
    /// The messages that a body from a channel becomes.
    ///
    /// # Errors
    /// Nothing of it can be published.
    pub(crate) fn apply(&self, channel: &str, body: &[u8]) -> Result<Routed, Skip> {
        match self {
            Self::Envelope => {
                let messages = message::parse(body).map_err(|fault| Skip::of(&fault))?;
                Ok(Routed { messages, bad_recipients: 0 })
            }
            Self::Channel { topic, event } => {
                let topic = topic.fill(|_| Some(channel.to_owned())).map_err(|_| Skip::BadTopic)?;
                check_topic(&topic).map_err(|_| Skip::BadTopic)?;
                let messages = vec![Message::new(topic, event.clone(), verbatim(body)?)];
                Ok(Routed { messages, bad_recipients: 0 })
            }
            Self::Recipients { topic, broadcast_topic, event, recipients_max } => {
                let Addressed { recipients, payload } = Addressed::parse(body)?;
                let Some(recipients) = recipients else {
                    let message = Message::new(broadcast_topic.clone(), event.clone(), payload);
                    return Ok(Routed { messages: vec![message], bad_recipients: 0 });
                };
                if recipients.len() > *recipients_max {
                    return Err(Skip::TooManyRecipients);
                }
                Ok(to_each(&recipients, topic, event, &payload))
            }
        }
    }
}

/// A message to each recipient once, however often it is named.
fn to_each(recipients: &[Recipient], topic: &Template, event: &str, payload: &Payload) -> Routed {
    let (mut routed, mut seen) = (Routed::default(), HashSet::new());
    for Recipient(recipient) in recipients {
        let topic = recipient.as_ref().and_then(|recipient| topic.fill(|_| Some(recipient.clone())).ok());
        match topic.filter(|topic| check_topic(topic).is_ok()) {
            Some(topic) if seen.insert(topic.clone()) => {
                routed.messages.push(Message::new(topic, event.to_owned(), payload.clone()));
            }
            Some(_) => {}
            None => routed.bad_recipients += 1,
        }
    }
    routed
}

/// An object as it came, and anything else as a text.
fn verbatim(body: &[u8]) -> Result<Payload, Skip> {
    let text = std::str::from_utf8(body).map_err(|_| Skip::Malformed)?;
    match JsonText::parse(text.to_owned()) {
        Ok(json) if json.is_object() => Ok(json.into()),
        _ => Ok(Payload::Text(Text::copy(text))),
    }
}

/// A recipient, if it is a text that is not empty.
struct Recipient(Option<String>);

impl<'de> Deserialize<'de> for Recipient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        let text = serde_json::from_str::<String>(raw.get()).ok();
        Ok(Self(text.filter(|text| !text.is_empty())))
    }
}

/// An object, and whom it is for.
struct Addressed {
    recipients: Option<Vec<Recipient>>,
    /// The object without `recipients`, every other byte as it came.
    payload: Payload,
}

impl Addressed {
    fn parse(body: &[u8]) -> Result<Self, Skip> {
        let text = std::str::from_utf8(body).map_err(|_| Skip::Malformed)?.trim_matches([' ', '\t', '\r', '\n']);
        let Found { recipients } = serde_json::from_str(text).map_err(|_| Skip::Malformed)?;
        let rest = match &recipients {
            Some(found) => found.cut_from(text),
            None => text.to_owned(),
        };
        let json = JsonText::parse(rest).map_err(|_| Skip::Malformed)?;
        let list = recipients.map(|found| serde_json::from_str(found.value.get())).transpose();
        Ok(Self { recipients: list.map_err(|_| Skip::Malformed)?, payload: json.into() })
    }
}

/// The member `recipients` of an object.
#[derive(Default)]
struct Found<'a> {
    recipients: Option<Member<'a>>,
}

struct Member<'a> {
    value: &'a RawValue,
    /// The value of the member before it.
    before: Option<&'a RawValue>,
}

impl Member<'_> {
    /// The object without this member, and without the comma that belongs to it.
    fn cut_from(&self, object: &str) -> String {
        // Where a value ends in the object that it was borrowed from.
        let end_of = |value: &RawValue| value.get().as_ptr() as usize - object.as_ptr() as usize + value.get().len();
        let (start, end) = (self.before.map_or(1, end_of), end_of(self.value));
        let (head, tail) = (&object[..start], &object[end..]);
        // The comma before it went with it; the first member has one behind it, if any.
        let tail = match self.before {
            Some(_) => tail,
            None => tail.trim_start().strip_prefix(',').unwrap_or(tail),
        };
        format!("{head}{tail}")
    }
}

impl<'de> Deserialize<'de> for Found<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FindRecipients)
    }
}

struct FindRecipients;

impl<'de> Visitor<'de> for FindRecipients {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Found<'de>, A::Error> {
        let (mut found, mut before) = (Found::default(), None);
        while let Some((name, value)) = entries.next_entry::<String, &RawValue>()? {
            if name == "recipients" && found.recipients.replace(Member { value, before }).is_some() {
                return Err(A::Error::custom("recipients stands twice"));
            }
            before = Some(value);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(route: &str) -> Route {
        match route {
            "envelope" => Route::Envelope,
            "channel" => Route::Channel { topic: "from:{channel}".parse().unwrap(), event: "news".into() },
            _ => Route::Recipients {
                topic: "bridge:{recipient}".parse().unwrap(),
                broadcast_topic: "bridge".into(),
                event: "message".into(),
                recipients_max: 3,
            },
        }
    }

    /// Shown as `topic event payload`, one a line; or the reason.
    #[track_caller]
    fn check(route: &str, channel: &str, body: &str, expected: Result<&[&str], Skip>) {
        let show = |message: &Message| {
            let payload = match &message.payload {
                Payload::Json(json) => json.as_str().to_owned(),
                Payload::Text(text) => format!("text {}", text.as_str()),
                Payload::Binary(_) => "binary".into(),
            };
            format!("{} {} {payload}", message.topic, message.event)
        };
        let routed = routes(route).apply(channel, body.as_bytes());
        let shown = routed.map(|routed| {
            let bad = (routed.bad_recipients > 0).then(|| format!("bad {}", routed.bad_recipients));
            routed.messages.iter().map(show).chain(bad).collect::<Vec<_>>()
        });
        let expected = expected.map(|lines| lines.iter().map(|line| line.to_string()).collect::<Vec<_>>());
        assert_eq!(shown, expected, "{route}: {body}");
    }

    #[test]
    fn bridge_5_recipients() {
        #[track_caller]
        fn good(body: &str, expected: &[&str]) {
            check("recipients", "c", body, Ok(expected));
        }
        let all = "bridge message ";
        // Wherever `recipients` stands, the rest is as it was sent.
        let one = r#"bridge:a message {"data":{"z":1,"a":2.50}}"#;
        good(r#"{"recipients":["a"],"data":{"z":1,"a":2.50}}"#, &[one]);
        good(r#"{"data":{"z":1,"a":2.50},"recipients":["a"]}"#, &[one]);
        good(" {\"recipients\" :\t[\"a\"]\n,\"data\":{\"z\":1,\"a\":2.50}}\n", &[one]);
        good(r#"{ "x": 1, "recipients": ["a"], "y" : 2 }"#, &[r#"bridge:a message { "x": 1, "y" : 2 }"#]);
        good(r#"{ "recipients": ["a"], "y" : 2 }"#, &[r#"bridge:a message { "y" : 2 }"#]);
        good(r#"{"\u0072ecipients":["a"],"data":"\u00e9\/"}"#, &[r#"bridge:a message {"data":"\u00e9\/"}"#]);
        good(r#"{"recipients":["a"]}"#, &["bridge:a message {}"]);
        good(r#"{ "recipients": ["a"] }"#, &["bridge:a message { }"]);
        good(
            r#"{"n":12345678901234567890123,"recipients":["a"],"n":1}"#,
            &[r#"bridge:a message {"n":12345678901234567890123,"n":1}"#],
        );
        // Members of that name further down are the application's.
        good(
            r#"{"data":{"recipients":["x"]},"recipients":["a"]}"#,
            &[r#"bridge:a message {"data":{"recipients":["x"]}}"#],
        );
        // To each once.
        good(r#"{"recipients":["a","b","a"],"d":1}"#, &[r#"bridge:a message {"d":1}"#, r#"bridge:b message {"d":1}"#]);
        good(r#"{"recipients":[],"d":1}"#, &[]);
        // Without recipients: to all.
        good(r#"{"data":{"b":1}}"#, &[&format!("{all}{{\"data\":{{\"b\":1}}}}")]);
        good("{}", &[&format!("{all}{{}}")]);
        // Names that mean something elsewhere are names.
        good(
            r#"{"recipients":["*",">","?[a]"],"d":1}"#,
            &[r#"bridge:* message {"d":1}"#, r#"bridge:> message {"d":1}"#, r#"bridge:?[a] message {"d":1}"#],
        );
        // One that is no good does not harm the others.
        good(
            r#"{"recipients":["a",7,"b"],"d":1}"#,
            &[r#"bridge:a message {"d":1}"#, r#"bridge:b message {"d":1}"#, "bad 1"],
        );
        good(r#"{"recipients":[{"$ne":null},"","a\n"],"d":1}"#, &["bad 3"]);
        good(
            &format!(r#"{{"recipients":["{}","a"],"d":1}}"#, "x".repeat(249)),
            &[r#"bridge:a message {"d":1}"#, "bad 1"],
        );
    }

    #[test]
    fn poisoned_recipients() {
        #[track_caller]
        fn bad(body: &str, skip: Skip) {
            check("recipients", "c", body, Err(skip));
        }
        bad("", Skip::Malformed);
        bad("nonsense", Skip::Malformed);
        bad("[1]", Skip::Malformed);
        bad("\"a\"", Skip::Malformed);
        bad(r#"{"recipients":["a"]"#, Skip::Malformed);
        bad(r#"{"recipients":["a"]} x"#, Skip::Malformed);
        bad(r#"{"recipients":"a"}"#, Skip::Malformed);
        bad(r#"{"recipients":null}"#, Skip::Malformed);
        bad(r#"{"recipients":["a"],"recipients":["b"]}"#, Skip::Malformed);
        bad(r#"{"recipients":["a"],"d":"\ud800"}"#, Skip::Malformed);
        bad(&format!(r#"{{"recipients":["a"],"d":{}{}}}"#, "[".repeat(600), "]".repeat(600)), Skip::Malformed);
        bad(r#"{"recipients":["a","b","c","d"]}"#, Skip::TooManyRecipients);
        assert_eq!(routes("recipients").apply("c", b"{\"recipients\":[\"\xff\"]}"), Err(Skip::Malformed));
    }

    #[test]
    fn envelopes() {
        #[track_caller]
        fn case(body: &str, expected: Result<&[&str], Skip>) {
            check("envelope", "c", body, expected);
        }
        case(r#"{"topic":"t","event":"e","payload":{"b":1,"a":1.0}}"#, Ok(&[r#"t e {"b":1,"a":1.0}"#]));
        case(r#"{"topic":"t","event":"e"}"#, Ok(&["t e {}"]));
        case(
            r#"{"messages":[{"topic":"t","event":"e"},{"topic":"u","event":"f","payload":{}}]}"#,
            Ok(&["t e {}", "u f {}"]),
        );
        case("{", Err(Skip::Malformed));
        case("", Err(Skip::Malformed));
        case("{}", Err(Skip::Malformed));
        case(r#"{"topic":"t\n","event":"e"}"#, Err(Skip::BadTopic));
        case(r#"{"topic":"t","event":"phx_close"}"#, Err(Skip::Malformed));
        case(r#"{"topic":"t","event":"e","payload":[1]}"#, Err(Skip::Malformed));
        case(r#"{"topic":"t","event":"e","channel":"x"}"#, Err(Skip::Malformed));
    }

    #[test]
    fn channels() {
        #[track_caller]
        fn case(channel: &str, body: &str, expected: Result<&[&str], Skip>) {
            check("channel", channel, body, expected);
        }
        case("c", r#" {"b": 1} "#, Ok(&[r#"from:c news {"b": 1}"#]));
        case("c", "[1]", Ok(&["from:c news text [1]"]));
        case("c", "plain text", Ok(&["from:c news text plain text"]));
        case("c", "", Ok(&["from:c news text "]));
        case("news.*", "{}", Ok(&["from:news.* news {}"]));
        case("c\n", "{}", Err(Skip::BadTopic));
        case(&"c".repeat(251), "{}", Err(Skip::BadTopic));
        assert_eq!(routes("channel").apply("c", b"\xff"), Err(Skip::Malformed));
    }
}
