//! The forms of what a server sends, and the parts that they have in common.
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

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::json;
use crate::message::Ref;
use crate::payload::Payload;
use crate::phoenix::message::{Format, Version};
use crate::position::Position;

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
    /// The same as an envelope, as a line.
    Lines,
    /// Supabase's messages, of this version.
    Supabase(Version),
    /// Server-sent events without an id, of several topics, and messages without a name: a stream gives them their
    /// [ids](crate::bullet::Positions).
    Data,
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
        /// What clients are told; [`CHANNEL_CRASH`] unless it is for them to know.
        reason: &'a str,
    },
}

/// What clients are told of a channel whose code failed, and nothing more.
pub const CHANNEL_CRASH: &str = "channel_crash";

/// The opcode that an encoded message travels under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A text frame, or a string in the answer to a poll.
    Text,
    /// A binary frame.
    Binary,
}

/// Appends a message with all its parts, as a JSON object.
pub(crate) fn envelope(topic: &str, event: &str, payload: &Payload, position: Option<Position>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"topic\":");
    write_string(topic, out);
    out.push(b',');
    event_and_payload(event, payload, out);
    if let Some(position) = position {
        at(position, out);
    }
    out.push(b'}');
}

/// Appends the same without the payload and a position, and says where in `out` the payload belongs.
pub(crate) fn envelope_around(topic: &str, event: &str, out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(b"{\"topic\":");
    write_string(topic, out);
    out.push(b',');
    event_in_message(event, out);
    let payload_at = out.len();
    out.push(b'}');
    payload_at
}

/// Appends a message of a history, as a JSON object that says where it stands.
pub fn kept_message(event: &str, payload: &Payload, position: Position, out: &mut Vec<u8>) {
    out.push(b'{');
    event_and_payload(event, payload, out);
    at(position, out);
    out.push(b'}');
}

/// Appends a payload as it stands in a message that is text: see the table above.
pub fn in_message(payload: &Payload, out: &mut Vec<u8>) {
    match payload {
        Payload::Json(json) => out.extend_from_slice(json.as_bytes()),
        Payload::Text(text) => match text.to_json() {
            Some(json) if json.is_object() => out.extend_from_slice(json.as_bytes()),
            Some(json) => {
                out.extend_from_slice(b"{\"value\":");
                out.extend_from_slice(json.as_bytes());
                out.push(b'}');
            }
            None => {
                out.extend_from_slice(b"{\"text\":");
                write_string(text.as_str(), out);
                out.push(b'}');
            }
        },
        Payload::Binary(data) => {
            out.extend_from_slice(b"{\"binary\":\"");
            let start = out.len();
            // Four characters for every three bytes begun.
            out.resize(start + data.len().div_ceil(3) * 4, 0);
            let size = STANDARD.encode_slice(data, &mut out[start..]).expect("the space is that of padded base64");
            debug_assert_eq!(start + size, out.len());
            out.extend_from_slice(b"\"}");
        }
    }
}

/// Appends a text as a JSON string.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    if !json::is_plain(text.as_bytes()) {
        return serde_json::to_writer(out, text).expect("writing a string to memory does not fail");
    }
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// Appends a payload alone.
pub(crate) fn bare(form: Form, payload: &Payload, out: &mut Vec<u8>) -> Kind {
    match (payload, form) {
        (Payload::Json(json), _) => out.extend_from_slice(json.as_bytes()),
        (Payload::Text(text), _) => out.extend_from_slice(text.as_bytes()),
        (Payload::Binary(_), Form::BareText) => in_message(payload, out),
        (Payload::Binary(data), _) => {
            out.extend_from_slice(data);
            return Kind::Binary;
        }
    }
    Kind::Text
}

/// The payload is on one line, so that the whole may be one among other lines, whatever line breaks its sender put into it.
fn event_and_payload(event: &str, payload: &Payload, out: &mut Vec<u8>) {
    event_in_message(event, out);
    let start = out.len();
    in_message(payload, out);
    put_on_one_line(&mut out[start..]);
}

fn event_in_message(event: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"event\":");
    write_string(event, out);
    out.extend_from_slice(b",\"payload\":");
}

/// Puts a JSON text on one line: within strings JSON has no bare line breaks, so that those outside can go.
pub fn put_on_one_line(json: &mut [u8]) {
    for byte in json {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

fn at(position: Position, out: &mut Vec<u8>) {
    // Its characters need no escapes.
    write!(out, ",\"position\":\"{position}\"").expect("writing to memory does not fail");
}
