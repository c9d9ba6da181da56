//! What the protocol itself answers.

use fanfare_proto::frame::Outgoing;
use fanfare_proto::message::Ref;
use fanfare_proto::payload::Payload;

use super::Shard;
use crate::channel::Status;
use crate::command::SocketKey;
use crate::event::Event;
use crate::socket::{Carrier, Socket};

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
        match self.socket(key) {
            None => return,
            Some(Socket { carrier: Carrier::Poll(session), protocol, .. }) if protocol.is_stream() => {
                return session.answered(status, &response);
            }
            Some(_) => {}
        }
        let index = key.index as usize;
        let reply = Outgoing::Reply { join_ref, msg_ref, topic, status: status.as_str(), response: &response };
        if let Err(error) = self.send(index, reply) {
            self.handle.counters().count(Event::FieldTooLong);
            let response = &reason_payload(&error.to_string());
            let sent = self.send(index, Outgoing::Reply { join_ref, msg_ref, topic, status: "error", response });
            sent.expect("a reason is text");
        }
    }

    /// What a live join's channel replies: it leaves behind what was published before it.
    pub(super) fn answer_from(
        &mut self,
        key: SocketKey,
        slot: usize,
        msg_ref: &Ref,
        status: Status,
        response: Payload,
    ) {
        let entry = self.entry(key, slot);
        let (topic, join_ref) = (entry.topic().clone(), entry.push_ref().clone());
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
            let sent = self.send(key.index as usize, Outgoing::Close { join_ref: &join_ref, topic });
            sent.expect("it is text");
        }
    }
}

pub(super) fn reason_payload(reason: &str) -> Payload {
    serde_json::json!({ "reason": reason }).into()
}
