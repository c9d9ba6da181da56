//! What the server sends, written in the form of each protocol. The forms are in [`frame`](crate::frame).

use crate::frame::{Form, Kind, Outgoing, bare, envelope, envelope_around};
use crate::message::Ref;
use crate::payload::Payload;
use crate::phoenix::codec::{self, FieldTooLong};
use crate::position::Position;
use crate::{rooms, sse, supabase};

/// Appends a frame; `None` where the form has none for it, and nothing was written.
///
/// # Errors
/// The frame must be binary, and a field does not fit: nothing was written.
pub fn encode(form: Form, frame: Outgoing<'_>, out: &mut Vec<u8>) -> Result<Option<Kind>, FieldTooLong> {
    let format = match form {
        Form::Phoenix(format) | Form::Resuming(format) => format,
        Form::Rooms { acks } => return Ok(rooms::encode(frame, acks, out)),
        Form::Supabase(version) => return supabase::encode(version, frame, out),
        Form::Data => {
            let Outgoing::Push { event, payload, .. } = frame else { return Ok(None) };
            sse::event(event, payload, None, out);
            return Ok(Some(Kind::Text));
        }
        Form::Bare | Form::BareText | Form::Envelope | Form::Events | Form::Lines => {
            return match frame {
                Outgoing::Push { topic, event, payload, position, .. } => {
                    broadcast(form, topic, event, payload, position, out)
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
        Outgoing::Error { join_ref, topic, reason } => {
            codec::error(format, join_ref, topic, reason, out);
            Ok(Some(Kind::Text))
        }
    }
}

/// Appends a push of JSON without its payload, and says where in `out` that belongs, if it is one line: a large one need not be copied
/// for each of its readers.
pub fn push_around(form: Form, join_ref: &Ref, topic: &str, event: &str, out: &mut Vec<u8>) -> usize {
    match form {
        Form::Phoenix(format) | Form::Resuming(format) => codec::push_around(format, join_ref, topic, event, out),
        Form::Supabase(version) => supabase::push_around(version, join_ref, topic, event, out),
        Form::Bare | Form::BareText | Form::Rooms { .. } => out.len(),
        Form::Envelope => envelope_around(topic, event, out),
        Form::Lines => {
            let payload_at = envelope_around(topic, event, out);
            out.push(b'\n');
            payload_at
        }
        Form::Events | Form::Data => sse::event_around(event, out),
    }
}

/// Appends a message to all members of a topic; `None` where the form has none for it, and nothing was written.
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
) -> Result<Option<Kind>, FieldTooLong> {
    match (form, position) {
        (Form::Phoenix(format), _) | (Form::Resuming(format), None) => {
            return codec::broadcast(format, topic, event, payload, out).map(Some);
        }
        (Form::Resuming(format), Some(position)) => {
            codec::positioned(format, &Ref::NULL, position, topic, event, payload, out);
        }
        (Form::Bare | Form::BareText | Form::Rooms { .. }, _) => return Ok(Some(bare(form, payload, out))),
        (Form::Envelope, _) => envelope(topic, event, payload, position, out),
        (Form::Events, _) => sse::event(event, payload, position, out),
        (Form::Supabase(version), _) => return supabase::broadcast(version, topic, event, payload, position, out),
        (Form::Lines, _) => {
            envelope(topic, event, payload, position, out);
            out.push(b'\n');
        }
        (Form::Data, _) => sse::message(payload, out),
    }
    Ok(Some(Kind::Text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::{JsonText, Text};
    use crate::phoenix::message::{Format, Version};
    use crate::position::Epoch;

    #[test]
    fn a_push_around_its_payload_is_the_push() {
        let payload = JsonText::parse(r#"{"a":"x"}"#).unwrap();
        for form in [
            Form::Phoenix(Format::V1),
            Form::Phoenix(Format::V2),
            Form::Phoenix(Format::V2Text),
            Form::Resuming(Format::V1),
            Form::Resuming(Format::V2),
            Form::Supabase(Version::V1),
            Form::Supabase(Version::V2),
            Form::Bare,
            Form::BareText,
            Form::Rooms { acks: false },
            Form::Envelope,
            Form::Lines,
            Form::Events,
            Form::Data,
        ] {
            let (mut whole, mut around) = (Vec::new(), b"before".to_vec());
            let join_ref = Ref::of_token("\"7\"").unwrap();
            let (topic, event, payload) = ("realtime:t", "presence_state", &payload.clone().into());
            let frame = Outgoing::Push { join_ref: &join_ref, topic, event, payload, position: None };
            encode(form, frame, &mut whole).unwrap();
            let at = push_around(form, &join_ref, topic, event, &mut around);
            around.splice(at..at, br#"{"a":"x"}"#.iter().copied());
            assert_eq!(String::from_utf8(around).unwrap(), format!("before{}", String::from_utf8(whole).unwrap()));
        }
    }

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
        let object = JsonText::parse(r#"{"b": 1,"a":2}"#).unwrap();
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
        check(JsonText::empty_object(), &[(v1, r#"{"topic":"t","event":"e","payload":{},"ref":"a:3"}"#)]);
        let resumes = Form::Resuming(Format::V2);
        check(JsonText::empty_object(), &[(resumes, r#"[null,"a:3","t","e",{}]"#)]);
        check(binary(), &[(resumes, r#"[null,"a:3","t","e",{"binary":"YWJj"}]"#)]);
        let envelope = |payload| format!(r#"{{"topic":"t","event":"e","payload":{payload},"position":"a:3"}}"#);
        check(Text::copy("1"), &[(Form::Envelope, &envelope(r#"{"value":1}"#))]);
        check(Text::copy("1"), &[(Form::Lines, &format!("{}\n", envelope(r#"{"value":1}"#)))]);
        check(binary(), &[(Form::Envelope, &envelope(r#"{"binary":"YWJj"}"#))]);
        check(Text::copy("1"), &[(Form::Events, "id: a:3\nevent: e\ndata: 1\n\n")]);
        check(Text::copy("1"), &[(Form::Data, "data: 1\n\n")]);
        check(binary(), &[(Form::Events, "id: a:3\nevent: e\ndata: {\"binary\":\"YWJj\"}\n\n")]);
    }
}
