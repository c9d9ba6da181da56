//! Text frames of version 1.0.0: `{"topic", "event", "payload", "ref"}`, from clients also `"join_ref"`.

use super::{string_field, undecodable};
use crate::frame::write_string;
use crate::json::{self, Fault};
use crate::message::{Incoming, Ref};
use crate::payload::JsonText;
use crate::phoenix::message::Undecodable;

pub(super) fn decode(text: &str) -> Result<Incoming<'_>, Undecodable> {
    let fields = fields(text).map_err(|fault| undecodable(fault, "not a JSON object"))?;
    let msg_ref = fields.msg_ref.ok_or(Undecodable("no ref"))?;
    let topic = fields.topic.ok_or(Undecodable("no topic"))?;
    let event = fields.event.ok_or(Undecodable("no event"))?;
    let payload = fields.payload.ok_or(Undecodable("no payload"))?;
    Ok(Incoming {
        join_ref: Ref::of_token(fields.join_ref.unwrap_or("null"))?,
        msg_ref: Ref::of_token(msg_ref)?,
        topic: string_field(topic, "the topic is not a string")?,
        event: string_field(event, "the event is not a string")?,
        payload: JsonText::scanned(payload).into(),
    })
}

/// Everything before the payload.
pub(super) fn head(topic: &str, event: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"topic\":");
    write_string(topic, out);
    out.extend_from_slice(b",\"event\":");
    write_string(event, out);
    out.extend_from_slice(b",\"payload\":");
}

/// Everything after the payload.
pub(super) fn tail(msg_ref: &Ref, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"ref\":");
    out.extend_from_slice(msg_ref.as_json().as_bytes());
    out.push(b'}');
}

/// The known keys; of a repeated one the last counts, unknown ones are ignored.
#[derive(Default)]
struct Fields<'a> {
    topic: Option<&'a str>,
    event: Option<&'a str>,
    payload: Option<&'a str>,
    msg_ref: Option<&'a str>,
    join_ref: Option<&'a str>,
}

fn fields(text: &str) -> Result<Fields<'_>, Fault> {
    let mut fields = Fields::default();
    json::members(text, |key, value| match key {
        "topic" => fields.topic = Some(value),
        "event" => fields.event = Some(value),
        "payload" => fields.payload = Some(value),
        "ref" => fields.msg_ref = Some(value),
        "join_ref" => fields.join_ref = Some(value),
        _ => {}
    })?;
    Ok(fields)
}
