//! What a client's frame means, in the protocol of its socket.

use fanfare_proto::websocket::decoder::{Item, Violation};
use fanfare_proto::websocket::frame::{self, Opcode};

use super::{Reading, Socket, Turn};
use crate::close_reason::CloseReason;
use crate::mailbox::Command;
use crate::message::Draft;

impl Socket {
    /// A frame of the client's.
    pub(crate) fn hear(&mut self, turn: &mut Turn, item: Item<'_>) {
        self.heard_ms = turn.now_ms;
        match item {
            Item::Close(code) => self.client_closed(turn, code),
            Item::Pong(_) => {}
            Item::Ping(_) if !self.may_ping(turn) => {}
            Item::Ping(payload) => {
                let mut pong = Vec::with_capacity(payload.len() + 2);
                frame::encode(Opcode::Pong, payload, false, &mut pong);
                self.queue(&mut turn.backlog, pong.into(), 1);
            }
            item => self.dialect.hear(self, turn, item),
        }
    }

    /// A message that means nothing: the socket is closed, the reason logged without the content.
    pub(crate) fn undecodable(&mut self, turn: &mut Turn, len: usize, reason: &'static str) {
        let detail = format_args!("a message of {len} bytes cannot be decoded: {reason}");
        self.close_because(turn, &CloseReason::Undecodable, detail);
    }

    /// The client's bytes are no WebSocket frames.
    pub(crate) fn violated(&mut self, turn: &mut Turn, violation: Violation) {
        let (why, max) = (violation.reason, self.info.mount.limits.websocket.message_size_max);
        match violation.code {
            1009 => {
                let detail = format_args!("{why}: the largest message is {max} bytes, which is message_size_max");
                self.close_because(turn, &CloseReason::TooLarge, detail);
            }
            code => self.close_because(turn, &CloseReason::Protocol(code), format_args!("{why}")),
        }
    }

    /// Publishes a message, and reads no further before it has found room.
    pub(crate) fn publish_unanswered(&mut self, turn: &mut Turn, draft: Draft) {
        let endpoint = self.info.endpoint.clone();
        if let Err(draft) = endpoint.try_publish_unanswered(draft) {
            self.reading = Reading::WaitsForRoom;
            let (shard, socket) = (turn.shard.clone(), self.key);
            let in_time = Box::pin(endpoint.publish_in_time(draft));
            turn.run_user_code(in_time, move |()| shard.send_promptly(Command::ReadOn { socket }));
        }
    }
}
