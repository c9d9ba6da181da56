//! The bodies of long-poll requests and answers.
//!
//! Sessions, tokens and windows are not here: this is what a POST hands over and what a poll is told. All logical
//! answers travel as HTTP 200 with the status in the body.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::codec;
use super::message::{Undecodable, Version};
use crate::frame::write_string;
use crate::message::Incoming;

/// Why nothing of a POST is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// A message is not readable, or there is none: to be answered `{"status":400}`, and the session ends.
    Undecodable(Undecodable),
    /// There are more lines than allowed: to be answered with HTTP 413.
    TooManyLines,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undecodable(undecodable) => undecodable.fmt(f),
            Self::TooManyLines => f.write_str("too many lines in one request"),
        }
    }
}

impl std::error::Error for BodyError {}

impl From<Undecodable> for BodyError {
    fn from(undecodable: Undecodable) -> Self {
        Self::Undecodable(undecodable)
    }
}

/// Reads the body of a POST, all of it before any message is handed over.
///
/// With the content type `application/x-ndjson` it is a batch of lines, empty ones skipped: a line that begins with
/// `[` is a text frame, any other a binary frame in padded standard base64. With any other content type, or none, it is
/// one text frame.
///
/// # Errors
/// As soon as one message is not readable, there is none, or there are more than `lines_max`. (Phoenix lets the client
/// wait for a whole window, and loses lines beyond the 100th.)
pub fn decode_body<'a>(
    version: Version,
    content_type: Option<&str>,
    body: &'a [u8],
    lines_max: usize,
) -> Result<Vec<Incoming<'a>>, BodyError> {
    let body = simdutf8::basic::from_utf8(body).map_err(|_| Undecodable("not UTF-8"))?;
    if !content_type.is_some_and(is_ndjson) {
        return Ok(vec![codec::decode_text(version, body)?]);
    }
    let lines = || body.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).filter(|line| !line.is_empty());
    let count = lines().take(lines_max.saturating_add(1)).count();
    if count > lines_max {
        return Err(BodyError::TooManyLines);
    }
    if count == 0 {
        return Err(Undecodable("no message in the request").into());
    }
    let mut messages = Vec::with_capacity(count);
    for line in lines() {
        messages.push(decode_line(version, line)?);
    }
    Ok(messages)
}

fn decode_line(version: Version, line: &str) -> Result<Incoming<'_>, Undecodable> {
    if line.starts_with('[') {
        return codec::decode_text(version, line);
    }
    let frame = STANDARD.decode(line).map_err(|_| Undecodable("a line that is neither a JSON list nor base64"))?;
    codec::decode_binary(version, &frame).map(Incoming::into_owned)
}

fn is_ndjson(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/x-ndjson")
}

/// Appends the body of an answer. With a token it is the answer to a poll and lists the messages, each a string that
/// holds one text frame; without one it tells the status only.
pub fn response(status: u16, token: Option<&str>, messages: &[impl AsRef<str>], out: &mut Vec<u8>) {
    debug_assert!(token.is_some() || messages.is_empty(), "messages travel in answers to polls, which carry the token");
    out.extend_from_slice(b"{\"status\":");
    out.extend_from_slice(status.to_string().as_bytes());
    if let Some(token) = token {
        out.extend_from_slice(b",\"token\":");
        write_string(token, out);
        out.extend_from_slice(b",\"messages\":[");
        for (index, message) in messages.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_string(message.as_ref(), out);
        }
        out.push(b']');
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::payload::Payload;

    const NDJSON: Option<&str> = Some("application/x-ndjson");
    const ONE: &str = r#"["1","1","room:lobby","phx_join",{}]"#;
    const TWO: &str = r#"[null,"3","phoenix","heartbeat",{}]"#;
    const BINARY: &str = "AAEBCgQxNHJvb206bG9iYnllY2hvAP9iaW4=";

    /// The events of the messages, or which error.
    fn outcome(version: Version, content_type: Option<&str>, body: &[u8], lines_max: usize) -> String {
        match decode_body(version, content_type, body, lines_max) {
            Ok(messages) => messages.iter().map(|message| &*message.event).collect::<Vec<_>>().join(" "),
            Err(BodyError::Undecodable(_)) => "undecodable".into(),
            Err(BodyError::TooManyLines) => "too many".into(),
        }
    }

    #[test]
    fn batches() {
        #[track_caller]
        fn check(body: &str, expected: &str) {
            assert_eq!(outcome(Version::V2, NDJSON, body.as_bytes(), 3), expected, "{body}");
        }
        check(ONE, "phx_join");
        check(&format!("{ONE}\n{TWO}"), "phx_join heartbeat");
        check(&format!("{ONE}\r\n{BINARY}"), "phx_join echo");
        check(&format!("{BINARY}\n{TWO}"), "echo heartbeat");
        check(&format!("{ONE}\n"), "phx_join");
        check(&format!("\n\r\n{ONE}\n\n\n\n\n{TWO}\r\n"), "phx_join heartbeat");
        check(&[ONE; 3].join("\n"), "phx_join phx_join phx_join");
        check(&[ONE; 4].join("\n"), "too many");
        check(&["x"; 4].join("\n"), "too many");
        check("", "undecodable");
        check("\n\r\n", "undecodable");
        check("[]", "undecodable");
        check(&format!("{ONE}\n[]"), "undecodable");
        check(&format!("{ONE}\nhello!"), "undecodable");
        check(&format!(" {ONE}"), "undecodable");
        check(BINARY.trim_end_matches('='), "undecodable");
        check("AA==", "undecodable");
        check(r#"{"topic":"a","event":"b","payload":{},"ref":null}"#, "undecodable");
        check(r#"[null,null,"a","b",{}"#, "undecodable");
    }

    #[test]
    fn single_messages() {
        #[track_caller]
        fn check(version: Version, content_type: Option<&str>, body: &str, expected: &str) {
            assert_eq!(outcome(version, content_type, body.as_bytes(), 100), expected, "{content_type:?} {body}");
        }
        let object = r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"1"}"#;
        check(Version::V2, None, ONE, "phx_join");
        check(Version::V2, Some("application/json"), ONE, "phx_join");
        check(Version::V2, Some("text/plain"), &format!("{ONE}\n"), "phx_join");
        check(Version::V1, Some("application/json"), object, "heartbeat");
        check(Version::V1, NDJSON, object, "undecodable");
        check(Version::V2, Some("application/json"), object, "undecodable");
        check(Version::V2, Some("application/json"), &format!("{ONE}\n{TWO}"), "undecodable");
        check(Version::V2, None, BINARY, "undecodable");
        check(Version::V2, None, "", "undecodable");
        check(Version::V2, None, "hello", "undecodable");
        check(Version::V2, Some("Application/X-NDJSON; charset=utf-8"), &format!("{ONE}\n{TWO}"), "phx_join heartbeat");
    }

    #[test]
    fn not_utf8_is_undecodable() {
        assert_eq!(outcome(Version::V2, NDJSON, b"[\"\xff\"]", 9), "undecodable");
        assert_eq!(outcome(Version::V2, None, b"\xff", 9), "undecodable");
    }

    #[test]
    fn a_binary_line_keeps_its_data() {
        let messages = decode_body(Version::V2, NDJSON, BINARY.as_bytes(), 1).unwrap();
        assert_eq!(messages[0].topic, "room:lobby");
        assert_eq!(messages[0].payload, Payload::Binary(b"\0\xffbin"[..].into()));
    }

    #[test]
    fn answers() {
        #[track_caller]
        fn check(status: u16, token: Option<&str>, messages: &[&str], expected: &str) {
            let mut out = Vec::new();
            response(status, token, messages, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        check(200, None, &[], r#"{"status":200}"#);
        check(403, None, &[], r#"{"status":403}"#);
        check(410, Some("t"), &[], r#"{"status":410,"token":"t","messages":[]}"#);
        check(204, Some("a\"b"), &[], r#"{"status":204,"token":"a\"b","messages":[]}"#);
        check(
            200,
            Some("t"),
            &[r#"[null,null,"a","b",{"c":"\n"}]"#, "[]"],
            r#"{"status":200,"token":"t","messages":["[null,null,\"a\",\"b\",{\"c\":\"\\n\"}]","[]"]}"#,
        );
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body: Vec<u8>, ndjson: bool) {
            let _ = decode_body(Version::V2, ndjson.then_some("application/x-ndjson"), &body, 10);
        }

        #[test]
        fn messages_survive_the_answer(messages: Vec<String>) {
            let mut out = Vec::new();
            response(200, Some("t"), &messages, &mut out);
            let read: Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(&read["messages"], &Value::from(messages));
        }
    }
}
