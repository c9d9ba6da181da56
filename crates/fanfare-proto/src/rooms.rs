//! The rooms protocol: JSON frames `{"join": c}`, `{"leave": c}` and `{"say": m, "to": c}`, text or binary, and members that get
//! `m` alone: a string as its bare text, anything else as its JSON.
//! A join with `"since"`, a position or `true`, resumes: it gets envelopes, with the position of each message.
//!
//! A channel's name is a topic. Joining, leaving and saying are what `phx_join`, `phx_leave` and an event are to Phoenix, so
//! that the same channels serve both. Source: the behaviour that users of the original library rely on.

use std::borrow::Cow;

use crate::frame::{Form, Kind, Outgoing, bare, envelope, in_message, write_string};
use crate::json;
use crate::message::{Incoming, Ref};
use crate::payload::{JsonText, Payload, Text};

/// The close code of a client that breaks the protocol.
pub const CLOSE_CODE: u16 = 3000;

/// The close reason of a frame that is none of the protocol's.
pub const INVALID_PAYLOAD: &str = "invalid payload";

/// The close reason of a `say` to a channel that the client has not joined.
pub const NOT_JOINED: &str = "cannot send to channel";

/// A frame that is none of the protocol's: its socket is to be closed with [`CLOSE_CODE`] and [`INVALID_PAYLOAD`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidPayload;

/// Reads a frame; `event` is what a `say` counts as. Of the keys `join`, `leave` and `say` the first that is there decides, in
/// this order; other members are ignored.
///
/// # Errors
/// It is not JSON, none of the three frames, or nested more deeply than [`NESTING_MAX`](crate::json::NESTING_MAX).
pub fn decode<'a>(frame: &'a [u8], event: &'a str) -> Result<Incoming<'a>, InvalidPayload> {
    let text = simdutf8::basic::from_utf8(frame).map_err(|_| InvalidPayload)?;
    let (mut join, mut leave, mut say, mut to, mut since) = (None, None, None, None, None);
    let members = json::members(text, |key, value| match key {
        "join" => join = Some(value),
        "leave" => leave = Some(value),
        "say" => say = Some(value),
        "to" => to = Some(value),
        "since" => since = Some(value),
        _ => {}
    });
    members.map_err(|_| InvalidPayload)?;
    let (asked, topic, event, payload) = match (join, leave, say) {
        (Some(topic), ..) => (Asked::Join, topic, "phx_join", join_params(since)),
        (None, Some(topic), _) => (Asked::Leave, topic, "phx_leave", Payload::default()),
        (None, None, Some(message)) => (Asked::Say, to.ok_or(InvalidPayload)?, event, said(message)),
        (None, None, None) => return Err(InvalidPayload),
    };
    Ok(Incoming {
        join_ref: Ref::NULL,
        msg_ref: Ref::string(asked.name()),
        topic: json::string(topic).ok_or(InvalidPayload)?,
        event: Cow::Borrowed(event),
        payload,
    })
}

/// The params of a join, which are Phoenix's.
fn join_params(since: Option<&str>) -> Payload {
    match since {
        // One level more than a client may send is no harm: it is looked at here only.
        Some(since) => JsonText::unchecked(format!("{{\"resume\":{since}}}").into()).into(),
        None => Payload::default(),
    }
}

/// What members get of what was said: the text of a string, and of anything else its JSON.
fn said(message: &str) -> Payload {
    match json::string(message) {
        Some(text) => Text::from(text.into_owned()).into(),
        None => Text::copy(message).into(),
    }
}

/// Appends what a client is told; `None` where that is nothing.
pub(crate) fn encode(frame: Outgoing<'_>, acks: bool, out: &mut Vec<u8>) -> Option<Kind> {
    match frame {
        Outgoing::Push { topic, event, payload, position: position @ Some(_), .. } => {
            envelope(topic, event, payload, position, out);
        }
        Outgoing::Push { payload, .. } => return Some(bare(Form::Bare, payload, out)),
        Outgoing::Reply { msg_ref, topic, status: "ok", .. } => match Asked::of(msg_ref)? {
            Asked::Join => acks.then(|| object(&[("joined", topic)], out))?,
            // Said by the close that follows, and for a channel that was not joined by this alone.
            Asked::Leave | Asked::Say => return None,
        },
        Outgoing::Reply { topic, response, .. } => {
            out.extend_from_slice(b"{\"refused\":");
            write_string(topic, out);
            out.extend_from_slice(b",\"response\":");
            in_message(response, out);
            out.push(b'}');
        }
        Outgoing::Close { topic, .. } => acks.then(|| object(&[("left", topic)], out))?,
        Outgoing::Error { topic, reason, .. } => object(&[("left", topic), ("error", reason)], out),
    }
    Some(Kind::Text)
}

fn object(members: &[(&str, &str)], out: &mut Vec<u8>) {
    for (index, (name, value)) in members.iter().enumerate() {
        out.push(if index == 0 { b'{' } else { b',' });
        write_string(name, out);
        out.push(b':');
        write_string(value, out);
    }
    out.push(b'}');
}

/// What a reply answers. The protocol has no refs, so that the kind of the frame serves as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Join,
    Leave,
    Say,
}

impl Asked {
    fn name(self) -> &'static str {
        match self {
            Asked::Join => "join",
            Asked::Leave => "leave",
            Asked::Say => "say",
        }
    }

    fn of(msg_ref: &Ref) -> Option<Asked> {
        [Asked::Join, Asked::Leave, Asked::Say].into_iter().find(|asked| msg_ref.text() == asked.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::{Epoch, Position};

    #[test]
    fn frames() {
        #[track_caller]
        fn check(text: &str, expected: Option<(&str, &str, &str)>) {
            let decoded = decode(text.as_bytes(), "message").ok();
            let parts = decoded.as_ref().map(|incoming| {
                let mut payload = Vec::new();
                bare(Form::Bare, &incoming.payload, &mut payload);
                (incoming.event.to_string(), incoming.topic.to_string(), String::from_utf8(payload).unwrap())
            });
            let expected = expected.map(|(event, topic, payload)| (event.into(), topic.into(), payload.into()));
            assert_eq!(parts, expected, "{text}");
        }
        check(r#"{"join":"a"}"#, Some(("phx_join", "a", "{}")));
        check(r#" {"leave":"\u00e9"} "#, Some(("phx_leave", "é", "{}")));
        check(r#"{"say":{"x": 1},"to":"a"}"#, Some(("message", "a", r#"{"x": 1}"#)));
        check(r#"{"join":"a","since":"5e:3"}"#, Some(("phx_join", "a", r#"{"resume":"5e:3"}"#)));
        check(r#"{"join":"a","since":true}"#, Some(("phx_join", "a", r#"{"resume":true}"#)));
        check(r#"{"to":"a","say":"hi"}"#, Some(("message", "a", "hi")));
        check(r#"{"say":"\"h\u00e9\n","to":"a"}"#, Some(("message", "a", "\"hé\n")));
        check(r#"{"say":"","to":"a"}"#, Some(("message", "a", "")));
        check(r#"{"join":"a","leave":"b","say":1,"to":"c"}"#, Some(("phx_join", "a", "{}")));
        check(r#"{"say":1,"to":"c","leave":"b","x":1}"#, Some(("phx_leave", "b", "{}")));
        check(r#"{"x":{"say":2},"say":1,"to":"a","since":true}"#, Some(("message", "a", "1")));
        check(r#"{"leave":"a","since":true}"#, Some(("phx_leave", "a", "{}")));
        check(r#"{"join":"phoenix"}"#, Some(("phx_join", "phoenix", "{}")));
        check(r#"{"join":"a","join":"b"}"#, Some(("phx_join", "b", "{}")));
        check(r#"{"say":null,"to":"a"}"#, Some(("message", "a", "null")));
        check(r#"{"say":18446744073709551616,"to":"a"}"#, Some(("message", "a", "18446744073709551616")));
        for invalid in [
            "",
            "hi",
            "[]",
            "{}",
            "null",
            r#"{"join":1}"#,
            r#"{"join":null}"#,
            r#"{"join":null,"leave":"b"}"#,
            r#"{"say":1}"#,
            r#"{"to":"a"}"#,
            r#"{"say":1,"to":2}"#,
            r#"["a",null,null,null,null]"#,
            r#"{"join":"\ud800"}"#,
            r#"{"join":"a"}{"join":"b"}"#,
        ] {
            check(invalid, None);
        }
        check(&format!(r#"{{"say":{}{},"to":"a"}}"#, "[".repeat(600), "]".repeat(600)), None);
    }

    #[test]
    fn what_a_client_is_told() {
        #[track_caller]
        fn check(frame: Outgoing<'_>, with_acks: &str, without: &str) {
            for (acks, expected) in [(true, with_acks), (false, without)] {
                let mut out = Vec::new();
                let kind = encode(frame, acks, &mut out);
                assert_eq!(kind.is_none(), expected.is_empty());
                assert_eq!(String::from_utf8(out).unwrap(), expected, "{frame:?}");
            }
        }
        let empty = &JsonText::empty_object().into();
        let reason = &serde_json::json!({"reason": "no"}).into();
        for (asked, told) in [(Asked::Join, r#"{"joined":"a"}"#), (Asked::Leave, ""), (Asked::Say, "")] {
            let (msg_ref, join_ref) = (&Ref::string(asked.name()), &Ref::NULL);
            check(Outgoing::Reply { join_ref, msg_ref, topic: "a", status: "ok", response: empty }, told, "");
            let refused = r#"{"refused":"a","response":{"reason":"no"}}"#;
            let reply = Outgoing::Reply { join_ref, msg_ref, topic: "a", status: "error", response: reason };
            check(reply, refused, refused);
        }
        check(Outgoing::Close { join_ref: &Ref::NULL, topic: "a" }, r#"{"left":"a"}"#, "");
        let crashed = r#"{"left":"a","error":"channel_crash"}"#;
        check(Outgoing::Error { join_ref: &Ref::NULL, topic: "a", reason: "channel_crash" }, crashed, crashed);
        let payload = &Text::copy("[1]").into();
        let join_ref = &Ref::NULL;
        check(Outgoing::Push { join_ref, topic: "a", event: "e", payload, position: None }, "[1]", "[1]");
        let position = Some(Position { epoch: Epoch::new(10).unwrap(), offset: 3 });
        let envelope = r#"{"topic":"a","event":"e","payload":{"value":[1]},"position":"a:3"}"#;
        check(Outgoing::Push { join_ref, topic: "a", event: "e", payload, position }, envelope, envelope);
    }
}
