//! Messages to frames and back, for both versions of the protocol.
//!
//! The codecs hold no state. Payloads pass as raw JSON and are never parsed here beyond finding their end. What a
//! message means, and which ref goes where, is the session's business.

mod binary;
mod v1;
mod v2;

use std::borrow::Cow;
use std::fmt;

use super::message::{Format, Undecodable, Version};
use crate::frame::{Kind, in_message, write_string};
use crate::json::{self, Fault};
use crate::message::{Incoming, Ref};
use crate::payload::Payload;
use crate::position::Position;

/// The longest field of a binary frame, in bytes: a topic, an event, a ref.
pub const FIELD_SIZE_MAX: usize = 255;

/// A field that does not fit into a binary frame, whose lengths are one byte each. Nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldTooLong {
    /// Which field: `join_ref`, `ref`, `topic`, `event` or `status`.
    pub field: &'static str,
    /// Its length in bytes, more than [`FIELD_SIZE_MAX`].
    pub size: usize,
}

impl fmt::Display for FieldTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, size } = self;
        write!(f, "the {field} has {size} bytes, and a binary frame carries at most {}", FIELD_SIZE_MAX)
    }
}

impl std::error::Error for FieldTooLong {}

/// Reads a text frame.
///
/// # Errors
/// It is no JSON document of the version's form, a topic or event is not a string, a ref is neither null nor a string
/// nor a number, or a limit of [`JsonText`](crate::payload::JsonText) or [`REF_SIZE_MAX`](crate::message::REF_SIZE_MAX) is
/// passed.
pub fn decode_text(version: Version, text: &str) -> Result<Incoming<'_>, Undecodable> {
    match version {
        Version::V1 => v1::decode(text),
        Version::V2 => v2::decode(text),
    }
}

/// Reads a binary frame: the binary layout in version 2.0.0, JSON text as in a text frame in 1.0.0.
///
/// # Errors
/// As for [`decode_text`]; in the binary layout also another kind than 0, lengths beyond the frame, and fields that
/// are not UTF-8.
pub fn decode_binary(version: Version, data: &[u8]) -> Result<Incoming<'_>, Undecodable> {
    match version {
        Version::V1 => v1::decode(utf8(data)?),
        Version::V2 => binary::decode(data),
    }
}

/// Appends a `phx_reply`.
///
/// # Errors
/// The reply needs a binary frame, and a field does not fit.
pub fn reply(
    format: Format,
    join_ref: &Ref,
    msg_ref: &Ref,
    topic: &str,
    status: &str,
    response: &Payload,
    out: &mut Vec<u8>,
) -> Result<Kind, FieldTooLong> {
    match (format, response) {
        (Format::V2, Payload::Binary(data)) => {
            binary::reply(join_ref, msg_ref, topic, status, data, out)?;
            return Ok(Kind::Binary);
        }
        (Format::V2 | Format::V2Text, _) => {
            v2::names(join_ref, msg_ref, topic, out);
            match status {
                // Nearly all replies: their text is known.
                "ok" => out.extend_from_slice(b",\"phx_reply\",{\"status\":\"ok\",\"response\":"),
                status => {
                    out.extend_from_slice(b",\"phx_reply\",{\"status\":");
                    write_string(status, out);
                    out.extend_from_slice(b",\"response\":");
                }
            }
            in_message(response, out);
            out.extend_from_slice(b"}]");
        }
        (Format::V1, _) => {
            v1::head(topic, "phx_reply", out);
            out.extend_from_slice(b"{\"status\":");
            write_string(status, out);
            out.extend_from_slice(b",\"response\":");
            in_message(response, out);
            out.push(b'}');
            v1::tail(msg_ref, out);
        }
    }
    Ok(Kind::Text)
}

/// Appends a message from one channel to its client.
///
/// # Errors
/// The push needs a binary frame, and a field does not fit.
pub fn push(
    format: Format,
    join_ref: &Ref,
    topic: &str,
    event: &str,
    payload: &Payload,
    out: &mut Vec<u8>,
) -> Result<Kind, FieldTooLong> {
    if let (Format::V2, Payload::Binary(data)) = (format, payload) {
        binary::push(join_ref, topic, event, data, out)?;
        return Ok(Kind::Binary);
    }
    text_message(format, join_ref, &Ref::NULL, topic, event, payload, out);
    Ok(Kind::Text)
}

/// Appends a push of JSON without its payload, and says where in `out` that belongs; always text.
pub fn push_around(format: Format, join_ref: &Ref, topic: &str, event: &str, out: &mut Vec<u8>) -> usize {
    let mut payload_at = 0;
    message_around(format, join_ref, &Ref::NULL, topic, event, out, |out| payload_at = out.len());
    payload_at
}

/// Appends a message to all channels of a topic.
///
/// # Errors
/// The broadcast needs a binary frame, and a field does not fit.
pub fn broadcast(
    format: Format,
    topic: &str,
    event: &str,
    payload: &Payload,
    out: &mut Vec<u8>,
) -> Result<Kind, FieldTooLong> {
    if let (Format::V2, Payload::Binary(data)) = (format, payload) {
        binary::broadcast(topic, event, data, out)?;
        return Ok(Kind::Binary);
    }
    text_message(format, &Ref::NULL, &Ref::NULL, topic, event, payload, out);
    Ok(Kind::Text)
}

/// Appends a message with its position in the place of the ref, which clients hand to their callbacks and otherwise ignore;
/// always text.
pub fn positioned(
    format: Format,
    join_ref: &Ref,
    position: Position,
    topic: &str,
    event: &str,
    payload: &Payload,
    out: &mut Vec<u8>,
) {
    text_message(format, join_ref, &Ref::position(position), topic, event, payload, out);
}

/// Appends a message to all members of a topic with a ref that says what it is; always text.
pub(crate) fn marked(format: Format, mark: &Ref, topic: &str, event: &str, payload: &Payload, out: &mut Vec<u8>) {
    text_message(format, &Ref::NULL, mark, topic, event, payload, out);
}

/// Appends a `phx_close`, always text.
pub fn close(format: Format, join_ref: &Ref, topic: &str, out: &mut Vec<u8>) {
    text_message(format, join_ref, join_ref, topic, "phx_close", &Payload::default(), out);
}

/// Appends a `phx_error`, always text.
pub fn error(format: Format, join_ref: &Ref, topic: &str, reason: &str, out: &mut Vec<u8>) {
    let payload = serde_json::json!({ "reason": reason }).into();
    text_message(format, join_ref, join_ref, topic, "phx_error", &payload, out);
}

fn text_message(
    format: Format,
    join_ref: &Ref,
    msg_ref: &Ref,
    topic: &str,
    event: &str,
    payload: &Payload,
    out: &mut Vec<u8>,
) {
    message_around(format, join_ref, msg_ref, topic, event, out, |out| in_message(payload, out));
}

fn message_around(
    format: Format,
    join_ref: &Ref,
    msg_ref: &Ref,
    topic: &str,
    event: &str,
    out: &mut Vec<u8>,
    write_payload: impl FnOnce(&mut Vec<u8>),
) {
    match format {
        Format::V2 | Format::V2Text => {
            v2::head(join_ref, msg_ref, topic, event, out);
            write_payload(out);
            v2::tail(out);
        }
        Format::V1 => {
            v1::head(topic, event, out);
            write_payload(out);
            v1::tail(msg_ref, out);
        }
    }
}

/// Words what is wrong with a frame.
fn undecodable(fault: Fault, not_json: &'static str) -> Undecodable {
    Undecodable(if fault == Fault::NotJson { not_json } else { fault.reason() })
}

/// A topic or an event: its JSON token must be a string.
fn string_field<'a>(token: &'a str, not_a_string: &'static str) -> Result<Cow<'a, str>, Undecodable> {
    json::string(token).ok_or(Undecodable(not_a_string))
}

#[inline]
fn utf8(data: &[u8]) -> Result<&str, Undecodable> {
    simdutf8::basic::from_utf8(data).map_err(|_| Undecodable("not UTF-8"))
}

#[cfg(test)]
mod tests;
