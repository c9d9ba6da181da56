//! Frames of clients, and frames to them.
//!
//! | kind | direction | bytes behind the kind |
//! |---|---|---|
//! | 3 | from a client | the lengths of join_ref, ref, topic, event and metadata, the payload's encoding, these five, the payload |
//! | 4 | to a client | the lengths of topic, event and metadata, the payload's encoding, these three, the payload |
//!
//! A length is one byte. The encoding is 0 for bytes and 1 for JSON.

use std::borrow::Cow;

use bytes::Bytes;

use super::{Named, TOPIC_PREFIX, client_topic};
use crate::frame::{Kind, Outgoing, write_string};
use crate::json;
use crate::message::{Incoming, Ref};
use crate::payload::{JsonText, Payload, Text};
use crate::phoenix::codec::{self, FIELD_SIZE_MAX, FieldTooLong};
use crate::phoenix::message::{Format, Undecodable, Version};
use crate::position::Position;

const PUSH: u8 = 3;
const BROADCAST_FRAME: u8 = 4;
const BYTES: u8 = 0;
const JSON: u8 = 1;

/// What stands before the engine's name of an event in a decoded broadcast, so that a client's event is never taken for one of
/// the protocol.
pub const BROADCAST: &str = "broadcast/";

/// A frame of a client.
#[derive(Debug, PartialEq)]
pub enum Heard<'a> {
    /// A message. That of a broadcast has [`BROADCAST`] and the engine's name as its event, and the client's payload.
    Message(Incoming<'a>),
    /// A broadcast that cannot be sent, and why.
    Unfit(Incoming<'a>, &'static str),
    /// An event that means nothing.
    Ignored,
}

/// Reads a frame.
///
/// # Errors
/// It is none. Its socket is not to be closed for that.
pub fn decode(version: Version, is_text: bool, frame: &[u8]) -> Result<Heard<'_>, Undecodable> {
    if !is_text && version == Version::V2 {
        return match frame.first() {
            Some(&PUSH) => user_broadcast(frame),
            _ => Err(Undecodable("a binary frame of a kind that clients of Supabase do not send")),
        };
    }
    let text = simdutf8::basic::from_utf8(frame).map_err(|_| Undecodable("not UTF-8"))?;
    let message = codec::decode_text(version, text)?;
    Ok(match &*message.event {
        "broadcast" if message.topic.starts_with(TOPIC_PREFIX) => text_broadcast(message),
        "phx_join" | "phx_leave" | "heartbeat" | "presence" | "access_token" => Heard::Message(message),
        _ => Heard::Ignored,
    })
}

/// `{"type": "broadcast", "event": …, "payload": …}`.
fn text_broadcast(message: Incoming<'_>) -> Heard<'_> {
    let (mut event, mut payload) = (None, None);
    let is_object = match &message.payload {
        Payload::Json(json) => json::members(json.as_str(), |key, value| match key {
            "event" => event = json::string(value).map(Cow::into_owned),
            "payload" => payload = Some(said(value)),
            _ => {}
        })
        .is_ok(),
        Payload::Text(_) | Payload::Binary(_) => false,
    };
    match event.filter(|_| is_object) {
        Some(event) => {
            Heard::Message(Incoming { event: of_user(&event).into(), payload: payload.unwrap_or_default(), ..message })
        }
        None => Heard::Unfit(message, "a broadcast is an object with `event`, which is a string, and `payload`"),
    }
}

fn of_user(event: &str) -> String {
    let name = Named::new(event).to_engine();
    let mut said = String::with_capacity(BROADCAST.len() + name.len());
    said.push_str(BROADCAST);
    said.push_str(&name);
    said
}

/// What was sent, from a JSON text that the scanner has taken. What is no object is kept as text: nothing but an object goes
/// through Phoenix as it is.
fn said(value: &str) -> Payload {
    if value.starts_with('{') { JsonText::scanned(value).into() } else { Text::copy(value).into() }
}

/// The payload that a JSON text is; `None` if it is none.
pub fn payload(text: &[u8]) -> Option<Payload> {
    json::document(simdutf8::basic::from_utf8(text).ok()?).ok().map(said)
}

fn user_broadcast(frame: &[u8]) -> Result<Heard<'_>, Undecodable> {
    const SHORT: Undecodable = Undecodable("a binary frame shorter than its lengths say");
    let (&[_, join_ref_size, ref_size, topic_size, event_size, meta_size, encoding], mut rest) =
        frame.split_first_chunk().ok_or(Undecodable("a binary frame without its lengths"))?;
    let mut field = |size: u8| {
        let (field, after) = rest.split_at_checked(size.into()).ok_or(SHORT)?;
        rest = after;
        Ok::<_, Undecodable>(field)
    };
    let (join_ref, msg_ref) = (field(join_ref_size)?, field(ref_size)?);
    let (topic, event) = (field(topic_size)?, field(event_size)?);
    // What it may say, a history does or does not.
    field(meta_size)?;
    let utf8 = |bytes| simdutf8::basic::from_utf8(bytes).map_err(|_| Undecodable("not UTF-8"));
    let as_ref = |text: &str| if text.is_empty() { Ref::NULL } else { Ref::string(text) };
    let (join_ref, msg_ref) = (as_ref(utf8(join_ref)?), as_ref(utf8(msg_ref)?));
    let message = |topic, event, payload| Incoming { join_ref, msg_ref, topic, event, payload };
    let (Ok(topic), Ok(event)) = (utf8(topic), utf8(event)) else {
        // Some versions of the npm client write one byte a character.
        let topic: String = topic.iter().map(|&byte| char::from(byte)).collect();
        let reason = "the topic or the event is not UTF-8: use a newer client, or names without accents";
        return Ok(Heard::Unfit(message(topic.into(), "broadcast".into(), Payload::default()), reason));
    };
    let payload = match encoding {
        BYTES => Ok(Payload::Binary(Bytes::copy_from_slice(rest))),
        JSON => self::payload(rest).ok_or("the payload is not JSON"),
        _ => Err("the payload is neither JSON (1) nor bytes (0)"),
    };
    Ok(match payload {
        Ok(payload) => Heard::Message(message(topic.into(), of_user(event).into(), payload)),
        Err(reason) => Heard::Unfit(message(topic.into(), "broadcast".into(), Payload::default()), reason),
    })
}

/// Appends a frame for one socket. A push with a position is a message that was kept.
///
/// # Errors
/// As with [`broadcast`].
pub(crate) fn encode(version: Version, frame: Outgoing<'_>, out: &mut Vec<u8>) -> Result<Option<Kind>, FieldTooLong> {
    let format = text_format(version);
    match frame {
        Outgoing::Reply { join_ref, msg_ref, topic, status, response } => {
            codec::reply(format, join_ref, msg_ref, client_topic(topic), status, response, out)?;
        }
        Outgoing::Push { topic, event, payload, position: Some(position), .. } => {
            return write(version, topic, event, payload, Some((position, true)), out);
        }
        Outgoing::Push { join_ref, topic, event, payload, position: None } => {
            codec::push(format, join_ref, client_topic(topic), event, payload, out)?;
        }
        Outgoing::Close { join_ref, topic } => codec::close(format, join_ref, client_topic(topic), out),
        Outgoing::Error { join_ref, topic, reason } => codec::error(format, join_ref, client_topic(topic), reason, out),
    }
    Ok(Some(Kind::Text))
}

/// Appends a push of JSON without its payload, and says where in `out` that belongs.
pub(crate) fn push_around(version: Version, join_ref: &Ref, topic: &str, event: &str, out: &mut Vec<u8>) -> usize {
    codec::push_around(text_format(version), join_ref, client_topic(topic), event, out)
}

/// Appends a message to all members of a topic; `None` where those of version 1.0.0 get none.
///
/// # Errors
/// A field of bytes does not fit.
pub(crate) fn broadcast(
    version: Version,
    topic: &str,
    event: &str,
    payload: &Payload,
    position: Option<Position>,
    out: &mut Vec<u8>,
) -> Result<Option<Kind>, FieldTooLong> {
    write(version, topic, event, payload, position.map(|position| (position, false)), out)
}

/// `kept` is where a message stands, and whether it was kept for whoever gets it.
fn write(
    version: Version,
    topic: &str,
    event: &str,
    payload: &Payload,
    kept: Option<(Position, bool)>,
    out: &mut Vec<u8>,
) -> Result<Option<Kind>, FieldTooLong> {
    let topic = client_topic(topic);
    let Some(named) = Named::of_engine(event) else {
        codec::broadcast(text_format(version), topic, event, payload, out)?;
        return Ok(Some(Kind::Text));
    };
    let mut meta = meta(named.id, kept);
    if matches!(payload, Payload::Binary(_)) && meta.len() > FIELD_SIZE_MAX {
        // Bytes have no form but this one.
        meta = Cow::Borrowed("");
    }
    if version == Version::V2 {
        let (encoding, json);
        let data = match payload {
            Payload::Binary(data) => {
                encoding = BYTES;
                &data[..]
            }
            Payload::Json(_) | Payload::Text(_) => {
                encoding = JSON;
                json = as_json(payload);
                &json[..]
            }
        };
        match user_frame([("topic", topic), ("event", named.event), ("metadata", &meta)], encoding, data, out) {
            Ok(()) => return Ok(Some(Kind::Binary)),
            // As JSON it has a form without these bounds.
            Err(error) if encoding == BYTES => return Err(error),
            Err(_) => {}
        }
    }
    if matches!(payload, Payload::Binary(_)) {
        return Ok(None);
    }
    let mut text = b"{\"type\":\"broadcast\",\"event\":".to_vec();
    write_string(named.event, &mut text);
    text.extend_from_slice(b",\"payload\":");
    text.extend_from_slice(&as_json(payload));
    if !meta.is_empty() {
        text.extend_from_slice(b",\"meta\":");
        text.extend_from_slice(meta.as_bytes());
    }
    text.push(b'}');
    let envelope = JsonText::unchecked(text.into()).into();
    codec::broadcast(text_format(version), topic, "broadcast", &envelope, out).map(Some)
}

/// Its text, if it is JSON; as a string, if it is not.
fn as_json(payload: &Payload) -> Cow<'_, [u8]> {
    match payload {
        Payload::Json(json) => json.as_bytes().into(),
        Payload::Text(text) if json::document(text.as_str()).is_ok() => text.as_bytes().into(),
        Payload::Text(text) => {
            let mut out = Vec::new();
            write_string(text.as_str(), &mut out);
            out.into()
        }
        Payload::Binary(_) => b"null"[..].into(),
    }
}

/// What is said of a message beside its payload: the id that it was published with, or else its position.
fn meta(id: Option<&str>, kept: Option<(Position, bool)>) -> Cow<'static, str> {
    if id.is_none() && kept.is_none() {
        return Cow::Borrowed("");
    }
    let mut out = b"{\"id\":".to_vec();
    match (id, kept) {
        (None, Some((position, _))) => write_string(&position.to_string(), &mut out),
        (id, _) => write_string(id.unwrap_or_default(), &mut out),
    }
    if kept.is_some_and(|(_, replayed)| replayed) {
        out.extend_from_slice(b",\"replayed\":true");
    }
    out.push(b'}');
    String::from_utf8(out).expect("JSON is UTF-8").into()
}

fn user_frame(
    fields: [(&'static str, &str); 3],
    encoding: u8,
    data: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), FieldTooLong> {
    let mut sizes = [0; 3];
    for (size, (field, text)) in sizes.iter_mut().zip(fields) {
        *size = u8::try_from(text.len()).map_err(|_| FieldTooLong { field, size: text.len() })?;
    }
    let fields_size: usize = sizes.iter().map(|&size| usize::from(size)).sum();
    out.reserve(2 + sizes.len() + fields_size + data.len());
    out.push(BROADCAST_FRAME);
    out.extend_from_slice(&sizes);
    out.push(encoding);
    fields.iter().for_each(|(_, text)| out.extend_from_slice(text.as_bytes()));
    out.extend_from_slice(data);
    Ok(())
}

fn text_format(version: Version) -> Format {
    match version {
        Version::V1 => Format::V1,
        Version::V2 => Format::V2Text,
    }
}

#[cfg(test)]
mod tests;
