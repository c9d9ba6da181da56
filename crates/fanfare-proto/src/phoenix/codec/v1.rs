//! Text frames of version 1.0.0: `{"topic", "event", "payload", "ref"}`, from clients also `"join_ref"`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Undecodable, string_field, write_string};
use crate::payload::Json;
use crate::phoenix::message::{Incoming, Ref};

pub(super) fn decode(text: &str) -> Result<Incoming<'_>, Undecodable> {
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|_| Undecodable("not a JSON object"))?;
    let join_ref = fields.join_ref.unwrap_or(RawValue::NULL);
    let msg_ref = fields.msg_ref.ok_or(Undecodable("no ref"))?;
    let topic = fields.topic.ok_or(Undecodable("no topic"))?;
    let event = fields.event.ok_or(Undecodable("no event"))?;
    let payload = fields.payload.ok_or(Undecodable("no payload"))?;
    Ok(Incoming {
        join_ref: Ref::of_token(join_ref.get())?,
        msg_ref: Ref::of_token(msg_ref.get())?,
        topic: string_field(topic, "the topic is not a string")?,
        event: string_field(event, "the event is not a string")?,
        payload: Json::of_raw(payload).map_err(Undecodable)?.into(),
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
    topic: Option<&'a RawValue>,
    event: Option<&'a RawValue>,
    payload: Option<&'a RawValue>,
    msg_ref: Option<&'a RawValue>,
    join_ref: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        while let Some(Key(key)) = object.next_key()? {
            let field = match &*key {
                "topic" => &mut fields.topic,
                "event" => &mut fields.event,
                "payload" => &mut fields.payload,
                "ref" => &mut fields.msg_ref,
                "join_ref" => &mut fields.join_ref,
                _ => {
                    object.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            // Not `Option<&RawValue>`, which would make a null the same as no value.
            *field = Some(object.next_value::<&RawValue>()?);
        }
        Ok(fields)
    }
}

/// A key, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
