//! Text frames of version 2.0.0: `[join_ref, ref, topic, event, payload]`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Undecodable, string_field, write_string};
use crate::payload::Json;
use crate::phoenix::message::{Incoming, Ref};

pub(super) fn decode(text: &str) -> Result<Incoming<'_>, Undecodable> {
    let Elements([join_ref, msg_ref, topic, event, payload]) =
        serde_json::from_str(text).map_err(|_| Undecodable("not a JSON list of at least five elements"))?;
    Ok(Incoming {
        join_ref: Ref::of_token(join_ref.get())?,
        msg_ref: Ref::of_token(msg_ref.get())?,
        topic: string_field(topic, "the topic is not a string")?,
        event: string_field(event, "the event is not a string")?,
        payload: Json::of_raw(payload).map_err(Undecodable)?.into(),
    })
}

/// Everything before the payload.
pub(super) fn head(join_ref: &Ref, msg_ref: &Ref, topic: &str, event: &str, out: &mut Vec<u8>) {
    out.push(b'[');
    out.extend_from_slice(join_ref.as_json().as_bytes());
    out.push(b',');
    out.extend_from_slice(msg_ref.as_json().as_bytes());
    out.push(b',');
    write_string(topic, out);
    out.push(b',');
    write_string(event, out);
    out.push(b',');
}

/// Everything after the payload.
pub(super) fn tail(out: &mut Vec<u8>) {
    out.push(b']');
}

/// The first five elements of a list; further ones must be JSON and are ignored.
struct Elements<'a>([&'a RawValue; 5]);

impl<'de> Deserialize<'de> for Elements<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ElementsVisitor)
    }
}

struct ElementsVisitor;

impl<'de> Visitor<'de> for ElementsVisitor {
    type Value = Elements<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of at least five elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut elements = [RawValue::NULL; 5];
        for (index, element) in elements.iter_mut().enumerate() {
            let Some(raw) = list.next_element()? else {
                return Err(serde::de::Error::invalid_length(index, &self));
            };
            *element = raw;
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Elements(elements))
    }
}
