//! Long-poll sessions: sockets whose frames wait until the client asks for them.

use fanfare_proto::message::Incoming;
use tokio::sync::oneshot;

use super::Shard;
use crate::command::Polled;
use crate::event::Event;
use crate::key::SocketKey;
use crate::socket::Carrier;

impl Shard {
    /// Answers with what waits, or waits for one message until the window ends.
    pub(super) fn poll_session(
        &mut self,
        key: SocketKey,
        secret: u128,
        position: Option<u64>,
        answer: oneshot::Sender<Polled>,
    ) {
        if !self.is_session(key, secret) {
            // The one who asked may have gone.
            let _ = answer.send(Polled::Gone);
            return;
        }
        self.with(key, |socket, turn| socket.poll(turn, position, answer));
    }

    /// Handles the client's messages in order; `Err` is the length of a body that cannot be decoded.
    pub(super) fn post(
        &mut self,
        key: SocketKey,
        secret: u128,
        messages: Result<Vec<Incoming<'static>>, usize>,
        answer: oneshot::Sender<bool>,
    ) {
        let exists = self.is_session(key, secret);
        match messages {
            _ if !exists => {}
            Err(len) => self.with(key, |socket, turn| socket.undecodable(turn, len, "undecodable long-poll body")),
            Ok(messages) => {
                for message in messages {
                    self.lent.counters().count(Event::Received);
                    self.with(key, |socket, turn| socket.receive(turn, message));
                    self.settle();
                }
            }
        }
        // The one who asked may have gone.
        let _ = answer.send(exists);
    }

    fn is_session(&mut self, key: SocketKey, secret: u128) -> bool {
        let socket = self.socket(key);
        socket.is_some_and(|socket| matches!(&socket.carrier, Carrier::Poll(session) if session.admits(secret)))
    }
}
