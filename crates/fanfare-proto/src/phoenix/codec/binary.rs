//! Binary frames of version 2.0.0. Lengths are one byte each; the data runs to the end of the frame.
//!
//! ```text
//! client push       00 | join_ref_len | ref_len | topic_len | event_len | join_ref | ref | topic | event | data
//! server push       00 | join_ref_len | topic_len | event_len | join_ref | topic | event | data
//! server reply      01 | join_ref_len | ref_len | topic_len | status_len | join_ref | ref | topic | status | data
//! server broadcast  02 | topic_len | event_len | topic | event | data
//! ```

use bytes::Bytes;

use super::{FieldTooLong, utf8};
use crate::message::{Incoming, Ref};
use crate::payload::Payload;
use crate::phoenix::message::Undecodable;

const PUSH: u8 = 0;
const REPLY: u8 = 1;
const BROADCAST: u8 = 2;

pub(super) fn decode(frame: &[u8]) -> Result<Incoming<'_>, Undecodable> {
    let (&[kind, join_ref_size, ref_size, topic_size, event_size], mut rest) =
        frame.split_first_chunk().ok_or(Undecodable("a binary frame without its lengths"))?;
    if kind != PUSH {
        return Err(Undecodable("a binary frame of a kind that clients do not send"));
    }
    let mut field = |size: u8| {
        let (field, after) =
            rest.split_at_checked(size.into()).ok_or(Undecodable("a binary frame shorter than its lengths say"))?;
        rest = after;
        utf8(field)
    };
    let (join_ref, msg_ref, topic, event) =
        (field(join_ref_size)?, field(ref_size)?, field(topic_size)?, field(event_size)?);
    Ok(Incoming {
        // An empty ref is the empty string, not null.
        join_ref: Ref::string(join_ref),
        msg_ref: Ref::string(msg_ref),
        topic: topic.into(),
        event: event.into(),
        payload: Payload::Binary(Bytes::copy_from_slice(rest)),
    })
}

pub(super) fn push(
    join_ref: &Ref,
    topic: &str,
    event: &str,
    data: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), FieldTooLong> {
    write(PUSH, [("join_ref", &join_ref.text()), ("topic", topic), ("event", event)], data, out)
}

pub(super) fn reply(
    join_ref: &Ref,
    msg_ref: &Ref,
    topic: &str,
    status: &str,
    data: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), FieldTooLong> {
    let fields = [("join_ref", &*join_ref.text()), ("ref", &*msg_ref.text()), ("topic", topic), ("status", status)];
    write(REPLY, fields, data, out)
}

pub(super) fn broadcast(topic: &str, event: &str, data: &[u8], out: &mut Vec<u8>) -> Result<(), FieldTooLong> {
    write(BROADCAST, [("topic", topic), ("event", event)], data, out)
}

fn write<const N: usize>(
    kind: u8,
    fields: [(&'static str, &str); N],
    data: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), FieldTooLong> {
    let mut sizes = [0; N];
    for (size, (field, text)) in sizes.iter_mut().zip(fields) {
        *size = u8::try_from(text.len()).map_err(|_| FieldTooLong { field, size: text.len() })?;
    }
    let fields_size: usize = sizes.iter().map(|&size| usize::from(size)).sum();
    out.reserve(1 + N + fields_size + data.len());
    out.push(kind);
    out.extend_from_slice(&sizes);
    for (_, text) in fields {
        out.extend_from_slice(text.as_bytes());
    }
    out.extend_from_slice(data);
    Ok(())
}
