//! What the protocol itself answers.

use fanfare_proto::frame::Outgoing;
use fanfare_proto::message::Ref;
use fanfare_proto::payload::Payload;

use super::{Socket, Turn};
use crate::channel::Status;
use crate::event::Event;
use crate::fact::{Fact, Kind};

impl Socket {
    /// Sends a reply. A field that does not fit a binary frame makes it an error reply that says so.
    pub(crate) fn answer(
        &mut self,
        turn: &mut Turn,
        join_ref: &Ref,
        msg_ref: &Ref,
        topic: &str,
        status: Status,
        response: Payload,
    ) {
        if self.dialect.is_stream()
            && let Some(streaming) = self.streaming()
        {
            return streaming.answered(matches!(status, Status::Ok), &response);
        }
        let figures = turn.figures();
        match status {
            Status::Ok => figures.replies_ok.add(1),
            Status::Error => figures.replies_error.add(1),
            Status::Other(_) => figures.replies_other.add(1),
        }
        let reply = Outgoing::Reply { join_ref, msg_ref, topic, status: status.as_str(), response: &response };
        if let Err(error) = self.try_send(turn, reply) {
            turn.count(Event::FieldTooLong);
            let response = &reason_payload(&error.to_string());
            self.send(turn, Outgoing::Reply { join_ref, msg_ref, topic, status: "error", response });
        }
    }

    /// What a live join's channel replies: it leaves behind what was published before it.
    pub(super) fn answer_from(
        &mut self,
        turn: &mut Turn,
        slot: usize,
        msg_ref: &Ref,
        status: Status,
        response: Payload,
    ) {
        let entry = self.entry(slot);
        let (topic, join_ref) = (entry.topic().clone(), entry.push_ref().clone());
        self.settle_batches(turn, slot);
        self.answer(turn, &join_ref, msg_ref, &topic, status, response);
    }

    /// A push to a topic that is not joined.
    pub(super) fn unmatched(&mut self, turn: &mut Turn, msg_ref: &Ref, topic: &str) {
        let fact = Fact {
            kind: Kind::PushRefused,
            event: Event::Unmatched,
            who: self.info.who(),
            topic: Some(topic),
            code: None,
            detail: format_args!("the socket has not joined the topic: join it, and push once that is answered"),
        };
        fact.tell(turn.counters());
        self.answer_unmatched(turn, msg_ref, topic);
        self.erred(turn);
    }

    pub(super) fn answer_unmatched(&mut self, turn: &mut Turn, msg_ref: &Ref, topic: &str) {
        self.answer(turn, &Ref::NULL, msg_ref, topic, Status::Error, reason_payload("unmatched topic"));
    }

    /// Tells a join that was replaced of its end.
    pub(crate) fn close_replaced(&mut self, turn: &mut Turn, topic: &str, replaced: Option<&Ref>) {
        if let Some(join_ref) = replaced.filter(|_| self.dialect.tells_replaced(&self.info)) {
            self.send(turn, Outgoing::Close { join_ref, topic });
        }
    }
}

pub(super) fn reason_payload(reason: &str) -> Payload {
    serde_json::json!({ "reason": reason }).into()
}
