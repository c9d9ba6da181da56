//! What the server sends, in the form of each protocol.
//!
//! One engine serves protocols with events and topics in their frames (Phoenix) and protocols whose frames are payloads and
//! nothing else (hub, rooms, bullet, server-sent events). The mapping between them:
//!
//! | payload | in a Phoenix message | alone |
//! |---|---|---|
//! | a JSON object | as it is | its text |
//! | a text that is a JSON object | as it is | as it came |
//! | a text that is other JSON | `{"value": …}` | as it came |
//! | any other text | `{"text": "…"}` | as it came |
//! | binary | a binary frame; where only text can go, `{"binary": "<base64>"}` | likewise |
//!
//! What has no place in a form is left out: the topic and event where payloads stand alone.
//!
//! Clients that asked to resume get the position of each message with it, in forms of their own: in Phoenix's messages it
//! stands in the place of the ref (a binary payload goes as text there, since binary frames have no room for it), and where
//! payloads would stand alone, an envelope holds all parts as JSON.

use std::io::Write as _;

use crate::payload::Payload;
use crate::phoenix::codec::{self, FieldTooLong, Kind};
use crate::phoenix::message::{Format, Ref};
use crate::position::Position;
use crate::{rooms, sse};

/// The form of a socket's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// Phoenix's messages.
    Phoenix(Format),
    /// Payloads alone.
    Bare,
    /// The same, on a carrier that takes text only.
    BareText,
    /// Payloads alone, and frames about channels. With `acks`, a client is told what it has joined and left.
    Rooms {
        /// Whether joins and leaves are acknowledged.
        acks: bool,
    },
    /// Phoenix's messages to a join that resumes: broadcasts have their position in the place of the ref.
    Resuming(Format),
    /// JSON objects with the members `topic`, `event`, `payload` and `position`.
    Envelope,
    /// Server-sent events, with the position as their id.
    Events,
}

/// A frame for one socket.
#[derive(Debug, Clone, Copy)]
pub enum Outgoing<'a> {
    /// The answer to a message.
    Reply {
        /// The join that the message belonged to.
        join_ref: &'a Ref,
        /// The ref of the message.
        msg_ref: &'a Ref,
        /// Its topic.
        topic: &'a str,
        /// `ok`, `error`, or a status of the application's.
        status: &'a str,
        /// What it is answered with.
        response: &'a Payload,
    },
    /// A message from a channel to this client alone.
    Push {
        /// The join that it belongs to.
        join_ref: &'a Ref,
        /// The channel's topic.
        topic: &'a str,
        /// Its event.
        event: &'a str,
        /// What it carries.
        payload: &'a Payload,
        /// Where it stands in the topic's history.
        position: Option<Position>,
    },
    /// A join has ended: the client left, or shall stay away.
    Close {
        /// The join.
        join_ref: &'a Ref,
        /// Its topic.
        topic: &'a str,
    },
    /// A join has ended because something went wrong: the client may join again.
    Error {
        /// The join.
        join_ref: &'a Ref,
        /// Its topic.
        topic: &'a str,
    },
}

/// Appends a frame; `None` where the form has none for it, and nothing was written.
///
/// # Errors
/// The frame must be binary, and a field does not fit: nothing was written.
pub fn encode(form: Form, frame: Outgoing<'_>, out: &mut Vec<u8>) -> Result<Option<Kind>, FieldTooLong> {
    let format = match form {
        Form::Phoenix(format) | Form::Resuming(format) => format,
        Form::Rooms { acks } => return Ok(rooms::encode(frame, acks, out)),
        Form::Bare | Form::BareText | Form::Envelope | Form::Events => {
            return match frame {
                Outgoing::Push { topic, event, payload, position, .. } => {
                    broadcast(form, topic, event, payload, position, out).map(Some)
                }
                Outgoing::Reply { .. } | Outgoing::Close { .. } | Outgoing::Error { .. } => Ok(None),
            };
        }
    };
    match frame {
        Outgoing::Reply { join_ref, msg_ref, topic, status, response } => {
            codec::reply(format, join_ref, msg_ref, topic, status, response, out).map(Some)
        }
        Outgoing::Push { join_ref, topic, event, payload, position: None } => {
            codec::push(format, join_ref, topic, event, payload, out).map(Some)
        }
        Outgoing::Push { join_ref, topic, event, payload, position: Some(position) } => {
            codec::positioned(format, join_ref, position, topic, event, payload, out);
            Ok(Some(Kind::Text))
        }
        Outgoing::Close { join_ref, topic } => {
            codec::close(format, join_ref, topic, out);
            Ok(Some(Kind::Text))
        }
        Outgoing::Error { join_ref, topic } => {
            codec::error(format, join_ref, topic, out);
            Ok(Some(Kind::Text))
        }
    }
}

/// Appends a message to all members of a topic.
///
/// # Errors
/// As with [`encode`].
pub fn broadcast(
    form: Form,
    topic: &str,
    event: &str,
    payload: &Payload,
    position: Option<Position>,
    out: &mut Vec<u8>,
) -> Result<Kind, FieldTooLong> {
    match (form, position) {
        (Form::Phoenix(format), _) | (Form::Resuming(format), None) => {
            return codec::broadcast(format, topic, event, payload, out);
        }
        (Form::Resuming(format), Some(position)) => {
            codec::positioned(format, &Ref::NULL, position, topic, event, payload, out);
        }
        (Form::Bare | Form::BareText | Form::Rooms { .. }, _) => return Ok(bare(form, payload, out)),
        (Form::Envelope, _) => envelope(topic, event, payload, position, out),
        (Form::Events, _) => sse::event(event, payload, position, out),
    }
    Ok(Kind::Text)
}

fn envelope(topic: &str, event: &str, payload: &Payload, position: Option<Position>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"topic\":");
    codec::write_string(topic, out);
    out.extend_from_slice(b",\"event\":");
    codec::write_string(event, out);
    out.extend_from_slice(b",\"payload\":");
    codec::write_payload(payload, out);
    if let Some(position) = position {
        // Its characters need no escapes.
        write!(out, ",\"position\":\"{position}\"").expect("writing to memory does not fail");
    }
    out.push(b'}');
}

/// Appends a payload as it stands in a Phoenix message that is text.
pub fn in_message(payload: &Payload, out: &mut Vec<u8>) {
    codec::write_payload(payload, out);
}

/// Appends a payload alone.
pub(crate) fn bare(form: Form, payload: &Payload, out: &mut Vec<u8>) -> Kind {
    match (payload, form) {
        (Payload::Json(json), _) => out.extend_from_slice(json.as_bytes()),
        (Payload::Text(text), _) => out.extend_from_slice(text.as_bytes()),
        (Payload::Binary(_), Form::BareText) => codec::write_payload(payload, out),
        (Payload::Binary(data), _) => {
            out.extend_from_slice(data);
            return Kind::Binary;
        }
    }
    Kind::Text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::{Json, Text};
    use crate::position::Epoch;

    #[test]
    fn one_message_in_every_form() {
        let phoenix = |payload: &str| format!(r#"[null,null,"t","e",{payload}]"#);
        #[track_caller]
        fn check(payload: impl Into<Payload>, forms: &[(Form, &str)]) {
            let payload = payload.into();
            for (form, expected) in forms {
                let mut out = Vec::new();
                let position = Some(Position { epoch: Epoch::new(10).unwrap(), offset: 3 });
                broadcast(*form, "t", "e", &payload, position, &mut out).unwrap();
                assert_eq!(String::from_utf8(out).unwrap(), *expected, "{form:?}");
            }
        }
        let (v2, rooms) = (Form::Phoenix(Format::V2Text), Form::Rooms { acks: true });
        let object = Json::parse(r#"{"b": 1,"a":2}"#).unwrap();
        check(object, &[(v2, &phoenix(r#"{"b": 1,"a":2}"#)), (Form::Bare, r#"{"b": 1,"a":2}"#)]);
        check(Text::copy(r#" {"a": 1} "#), &[(v2, &phoenix(r#"{"a": 1}"#)), (rooms, r#" {"a": 1} "#)]);
        check(Text::copy("[1]"), &[(v2, &phoenix(r#"{"value":[1]}"#)), (rooms, "[1]")]);
        check(Text::copy("\"hi\""), &[(v2, &phoenix(r#"{"value":"hi"}"#)), (Form::BareText, "\"hi\"")]);
        check(Text::copy("h\"i"), &[(v2, &phoenix(r#"{"text":"h\"i"}"#)), (Form::Bare, "h\"i")]);
        check(Text::copy(""), &[(v2, &phoenix(r#"{"text":""}"#)), (Form::Bare, "")]);
        let binary = || Payload::Binary(b"abc"[..].into());
        check(binary(), &[(v2, &phoenix(r#"{"binary":"YWJj"}"#)), (Form::Bare, "abc")]);
        check(binary(), &[(Form::BareText, r#"{"binary":"YWJj"}"#), (rooms, "abc")]);

        let v1 = Form::Resuming(Format::V1);
        check(Json::empty_object(), &[(v1, r#"{"topic":"t","event":"e","payload":{},"ref":"a:3"}"#)]);
        let resumes = Form::Resuming(Format::V2);
        check(Json::empty_object(), &[(resumes, r#"[null,"a:3","t","e",{}]"#)]);
        check(binary(), &[(resumes, r#"[null,"a:3","t","e",{"binary":"YWJj"}]"#)]);
        let envelope = |payload| format!(r#"{{"topic":"t","event":"e","payload":{payload},"position":"a:3"}}"#);
        check(Text::copy("1"), &[(Form::Envelope, &envelope(r#"{"value":1}"#))]);
        check(binary(), &[(Form::Envelope, &envelope(r#"{"binary":"YWJj"}"#))]);
        check(Text::copy("1"), &[(Form::Events, "id: a:3\nevent: e\ndata: 1\n\n")]);
        check(binary(), &[(Form::Events, "id: a:3\nevent: e\ndata: {\"binary\":\"YWJj\"}\n\n")]);
    }
}
