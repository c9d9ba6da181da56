//! What the protocol itself answers.

use fanfare_proto::payload::Payload;
use fanfare_proto::phoenix::codec::{self, Kind};
use fanfare_proto::phoenix::message::Ref;

use super::Shard;
use crate::channel::Status;
use crate::command::SocketKey;
use crate::event::Event;

impl Shard {
    /// Sends a reply. A field that does not fit a binary frame makes it an error reply that says so.
    pub(super) fn answer(
        &mut self,
        key: SocketKey,
        join_ref: &Ref,
        msg_ref: &Ref,
        topic: &str,
        status: Status,
        response: Payload,
    ) {
        if self.socket(key).is_none() {
            return;
        }
        let mut too_long = false;
        self.send(key.index as usize, |format, out| {
            codec::reply(format, join_ref, msg_ref, topic, status.as_str(), &response, out).unwrap_or_else(|error| {
                too_long = true;
                let reason = reason_payload(&error.to_string());
                codec::reply(format, join_ref, msg_ref, topic, "error", &reason, out).unwrap_or(Kind::Text)
            })
        });
        if too_long {
            self.handle.counters().count(Event::FieldTooLong);
        }
    }

    /// A live join's reply: it leaves behind what was published before it.
    pub(super) fn answer_from(
        &mut self,
        key: SocketKey,
        slot: usize,
        msg_ref: &Ref,
        status: Status,
        response: Payload,
    ) {
        let entry = self.entry(key, slot);
        let (topic, join_ref) = (entry.topic().clone(), entry.join_ref().clone());
        self.settle_batches(key, slot);
        self.answer(key, &join_ref, msg_ref, &topic, status, response);
    }

    pub(super) fn unmatched(&mut self, key: SocketKey, msg_ref: &Ref, topic: &str) {
        self.handle.counters().count(Event::Unmatched);
        self.answer(key, &Ref::NULL, msg_ref, topic, Status::Error, reason_payload("unmatched topic"));
    }

    pub(super) fn close_replaced(&mut self, key: SocketKey, topic: &str, replaced: Option<Ref>) {
        if let Some(join_ref) = replaced
            && self.socket(key).is_some()
        {
            self.send(key.index as usize, |format, out| {
                codec::close(format, &join_ref, topic, out);
                Kind::Text
            });
        }
    }
}

pub(super) fn reason_payload(reason: &str) -> Payload {
    serde_json::json!({ "reason": reason }).into()
}
