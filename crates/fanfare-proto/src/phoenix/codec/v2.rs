//! Text frames of version 2.0.0: `[join_ref, ref, topic, event, payload]`.

use super::{string_field, undecodable};
use crate::frame::write_string;
use crate::json::{Fault, Scanner};
use crate::message::{Incoming, Ref};
use crate::payload::JsonText;
use crate::phoenix::message::Undecodable;

pub(super) fn decode(text: &str) -> Result<Incoming<'_>, Undecodable> {
    let [join_ref, msg_ref, topic, event, payload] =
        elements(text).map_err(|fault| undecodable(fault, "not a JSON list of at least five elements"))?;
    Ok(Incoming {
        join_ref: Ref::of_token(join_ref)?,
        msg_ref: Ref::of_token(msg_ref)?,
        topic: string_field(topic, "the topic is not a string")?,
        event: string_field(event, "the event is not a string")?,
        payload: JsonText::scanned(payload).into(),
    })
}

/// The first five elements of a list; further ones must be JSON and are ignored.
fn elements(text: &str) -> Result<[&str; 5], Fault> {
    let mut scanner = Scanner::new(text);
    let mut elements = [""; 5];
    for (index, element) in elements.iter_mut().enumerate() {
        if !scanner.takes(if index == 0 { b'[' } else { b',' }) {
            return Err(Fault::NotJson);
        }
        *element = scanner.value()?;
    }
    while scanner.takes(b',') {
        scanner.value()?;
    }
    if scanner.takes(b']') && scanner.is_at_end() { Ok(elements) } else { Err(Fault::NotJson) }
}

/// Everything before the event.
pub(super) fn names(join_ref: &Ref, msg_ref: &Ref, topic: &str, out: &mut Vec<u8>) {
    out.push(b'[');
    out.extend_from_slice(join_ref.as_json().as_bytes());
    out.push(b',');
    out.extend_from_slice(msg_ref.as_json().as_bytes());
    out.push(b',');
    write_string(topic, out);
}

/// Everything before the payload.
pub(super) fn head(join_ref: &Ref, msg_ref: &Ref, topic: &str, event: &str, out: &mut Vec<u8>) {
    names(join_ref, msg_ref, topic, out);
    out.push(b',');
    write_string(event, out);
    out.push(b',');
}

/// Everything after the payload.
pub(super) fn tail(out: &mut Vec<u8>) {
    out.push(b']');
}
