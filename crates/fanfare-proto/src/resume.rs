//! Resuming, in the payloads of joins and of their replies: where a client goes on, and what it is told.
//!
//! Which messages those are is the business of [`history`](crate::history).

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::frame::{in_message, kept_message};
use crate::payload::{JsonText, Payload};
use crate::position::{Epoch, Position, Since};

/// How much of a value that cannot be read an error repeats, in characters.
const SHOWN_MAX: usize = 64;

/// Where a client wants to go on, by the payload of its join.
///
/// # Errors
/// It gives something that is neither `true` nor a position; the text is fit for the client.
pub fn resume_param(payload: &Payload) -> Result<Option<Since>, String> {
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow)]
        resume: Option<&'a RawValue>,
    }
    let Some(text) = json_text(payload) else { return Ok(None) };
    let Ok(Params { resume: Some(resume) }) = serde_json::from_str(text) else { return Ok(None) };
    let shown = || resume.get().chars().take(SHOWN_MAX).collect::<String>();
    match resume.get() {
        "null" | "false" => Ok(None),
        "true" => Ok(Some(Since::Now)),
        token => match serde_json::from_str::<String>(token) {
            Ok(text) => text.parse().map(Some).map_err(|error| format!("resume: {} is {error}", shown())),
            Err(_) => Err(format!("resume: {} is neither true nor a position", shown())),
        },
    }
}

/// Whether a client wants to hear of gaps, by the payload of its join.
pub fn gap_param(payload: &Payload) -> bool {
    #[derive(Deserialize)]
    struct Params {
        gap: bool,
    }
    json_text(payload).is_some_and(|text| serde_json::from_str(text).is_ok_and(|Params { gap }| gap))
}

/// Where a client goes on that was `sent` messages by an earlier join of the same socket: it gets them before the answer to
/// this one, and may not have had them yet when it asked. Offsets of two epochs can be compared if both are of one log:
/// `epoch_at` says which epoch an offset of it has.
pub fn behind(since: Since, sent: Option<(Position, Position)>, epoch_at: impl Fn(u64) -> Option<Epoch>) -> Since {
    let Some((from, to)) = sent else { return since };
    let is_one_life = from.epoch == to.epoch;
    let is_of_log = |position: Position| match is_one_life {
        true => position.epoch == from.epoch,
        false => epoch_at(position.offset) == Some(position.epoch),
    };
    match since {
        Since::Position(asked)
            if (from.offset..to.offset).contains(&asked.offset) && is_of_log(asked) && is_of_log(from) =>
        {
            Since::Position(to)
        }
        // It had no answer yet when it asked again.
        Since::Now if is_of_log(from) => Since::Position(to),
        _ => since,
    }
}

/// What a client that resumes is told: where it goes on, and whether it gets all that it missed.
pub fn resumed(from: Position, recovered: bool) -> JsonText {
    serde_json::json!({ "position": from.to_string(), "recovered": recovered }).into()
}

/// A reply with what a client that resumes is told.
pub fn with_resume(reply: &Payload, resumed: Option<&JsonText>) -> Payload {
    match resumed {
        Some(resumed) => with_member(reply, "resume", resumed.as_bytes()),
        None => reply.clone(),
    }
}

/// The same with messages of the history: the event, the payload and the position of each.
pub fn with_messages<'a>(
    reply: &Payload,
    resumed: Option<&JsonText>,
    messages: impl IntoIterator<Item = (&'a str, &'a Payload, Position)>,
) -> Payload {
    let mut list = vec![b'['];
    for (event, payload, position) in messages {
        if list.len() > 1 {
            list.push(b',');
        }
        kept_message(event, payload, position, &mut list);
    }
    list.push(b']');
    with_member(&with_resume(reply, resumed), "messages", &list)
}

/// A reply with one more member; one that is no object becomes the member `value` of one.
pub(crate) fn with_member(reply: &Payload, name: &str, value: &[u8]) -> Payload {
    let mut out = Vec::new();
    match reply {
        Payload::Json(json) if !json.is_object() => {
            out.extend_from_slice(b"{\"value\":");
            in_message(reply, &mut out);
        }
        _ => {
            in_message(reply, &mut out);
            out.pop();
        }
    }
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.extend_from_slice(format!("\"{name}\":").as_bytes());
    out.extend_from_slice(value);
    out.push(b'}');
    // It may be nested more deeply than what a client may send: its parts are as deep as that, and it is around them.
    JsonText::unchecked(Bytes::from(out)).into()
}

fn json_text(payload: &Payload) -> Option<&str> {
    match payload {
        Payload::Json(json) => Some(json.as_str()),
        Payload::Text(text) => Some(text.as_str()),
        Payload::Binary(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::NESTING_MAX;
    use crate::payload::Text;
    use crate::position::Epoch;

    fn at(epoch: u64, offset: u64) -> Position {
        Position { epoch: Epoch::new(epoch).unwrap(), offset }
    }

    fn json(text: &str) -> Payload {
        JsonText::parse(text.to_owned()).unwrap().into()
    }

    #[track_caller]
    fn shows(payload: &Payload, expected: &str) {
        let Payload::Json(json) = payload else { panic!("{payload:?} is no JSON") };
        assert_eq!(json.as_str(), expected);
    }

    #[test]
    fn a_join_says_where_it_goes_on() {
        #[track_caller]
        fn check(payload: impl Into<Payload>, expected: Result<Option<Since>, &str>) {
            assert_eq!(resume_param(&payload.into()), expected.map_err(str::to_owned));
        }
        for text in ["{}", r#"{"resume":null}"#, r#"{"resume":false,"x":1}"#, "1", "null", "\"resume\""] {
            check(json(text), Ok(None));
        }
        check(json(r#"{"x":[],"resume":true}"#), Ok(Some(Since::Now)));
        check(json(r#"{"resume":"0:0"}"#), Ok(Some(Since::Start)));
        check(json(r#"{"resume":"a:3"}"#), Ok(Some(Since::Position(at(10, 3)))));
        check(Text::copy(r#" {"resume":"a:3"}"#), Ok(Some(Since::Position(at(10, 3)))));
        check(Text::copy("resume"), Ok(None));
        check(Payload::Binary(b"{\"resume\":true}"[..].into()), Ok(None));
        check(json(r#"{"resume":7}"#), Err("resume: 7 is neither true nor a position"));
        check(json(r#"{"resume":{}}"#), Err("resume: {} is neither true nor a position"));
        let not_a_position = "is not a position such as \"5e1f:42\": give back one that the server sent, or \"0:0\" for the \
                              beginning";
        check(json(r#"{"resume":"7"}"#), Err(&format!("resume: \"7\" {not_a_position}")));
        let long = "é".repeat(100_000);
        let error = resume_param(&json(&format!(r#"{{"resume":"{long}"}}"#))).unwrap_err();
        assert!(error.len() < 300, "{} bytes", error.len());
    }

    #[test]
    fn a_join_says_whether_it_hears_of_gaps() {
        for (text, expected) in [("{}", false), (r#"{"gap":true}"#, true), (r#"{"gap":false}"#, false), ("1", false)] {
            assert_eq!(gap_param(&json(text)), expected, "{text}");
        }
        assert!(!gap_param(&json(r#"{"gap":"true"}"#)));
    }

    #[test]
    fn what_an_earlier_join_was_sent_is_not_sent_again() {
        let sent = Some((at(1, 3), at(1, 7)));
        let position = |epoch, offset| Since::Position(at(epoch, offset));
        for (since, sent, expected) in [
            (position(1, 5), None, position(1, 5)),
            (position(1, 3), sent, position(1, 7)),
            (position(1, 6), sent, position(1, 7)),
            (position(1, 7), sent, position(1, 7)),
            (position(1, 2), sent, position(1, 2)),
            (position(1, 9), sent, position(1, 9)),
            (position(2, 5), sent, position(2, 5)),
            (Since::Now, sent, position(1, 7)),
            (Since::Now, None, Since::Now),
            (Since::Start, sent, Since::Start),
        ] {
            assert_eq!(behind(since, sent, |_| None), expected, "{since:?} {sent:?}");
        }
    }

    #[test]
    fn what_was_sent_may_be_of_several_epochs_of_one_log() {
        let sent = Some((at(1, 3), at(2, 7)));
        let position = |epoch, offset| Since::Position(at(epoch, offset));
        let log = |offset| Epoch::new(if offset < 5 { 1 } else { 2 });
        for (since, expected) in [
            (position(1, 3), position(2, 7)),
            (position(1, 4), position(2, 7)),
            (position(2, 6), position(2, 7)),
            (position(1, 5), position(1, 5)),
            (position(2, 4), position(2, 4)),
            (position(1, 2), position(1, 2)),
            (position(2, 7), position(2, 7)),
            (Since::Now, position(2, 7)),
        ] {
            assert_eq!(behind(since, sent, log), expected, "{since:?}");
            assert_eq!(behind(since, sent, |_| None), since, "two lives: {since:?}");
        }
    }

    #[test]
    fn a_reply_has_what_a_client_is_told_beside_its_own() {
        let told = resumed(at(10, 3), true);
        let members = r#""resume":{"position":"a:3","recovered":true}"#;
        for (reply, own) in [("{}", ""), (r#"{"x":1}"#, r#""x":1,"#), ("[1]", r#""value":[1],"#)] {
            shows(&with_resume(&json(reply), Some(&told)), &format!("{{{own}{members}}}"));
            shows(&with_resume(&json(reply), None), reply);
        }
        let text: Payload = Text::copy("no JSON").into();
        shows(&with_resume(&text, Some(&told)), &format!(r#"{{"text":"no JSON",{members}}}"#));
    }

    #[test]
    fn a_reply_has_messages_however_deep_they_are() {
        let (first, second) = (json("{}"), Payload::from(Text::copy("hi")));
        let messages = [("a", &first, at(10, 3)), ("b", &second, at(10, 4))];
        let list =
            r#"[{"event":"a","payload":{},"position":"a:3"},{"event":"b","payload":{"text":"hi"},"position":"a:4"}]"#;
        shows(&with_messages(&json("{}"), None, messages), &format!(r#"{{"messages":{list}}}"#));
        shows(&with_messages(&json("{}"), None, []), r#"{"messages":[]}"#);

        let deep = format!("{}{}", "[".repeat(NESTING_MAX), "]".repeat(NESTING_MAX));
        let payload = json(&deep);
        let expected = format!(r#"{{"value":{deep},"messages":[{{"event":"a","payload":{deep},"position":"a:3"}}]}}"#);
        shows(&with_messages(&payload, None, [("a", &payload, at(10, 3))]), &expected);
    }
}
