//! Long-poll sessions: sockets whose frames wait until the client asks for them.

use tokio::sync::oneshot;

use super::Shard;
use crate::key::SocketKey;
use crate::mailbox::Post;
use crate::socket::Socket;
use crate::transport::Carrier;
use crate::transport::longpoll::Polled;

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

    /// Takes the client's messages, which are handled in order and as fast as a socket's; the answer comes when all are. `Err` is
    /// the length of a body that cannot be decoded.
    pub(super) fn post(&mut self, Post { socket: key, secret, messages, answer }: Post) {
        // The one who asked may have gone.
        if !self.is_session(key, secret) {
            let _ = answer.send(false);
            return;
        }
        match messages {
            Err(len) => {
                let _ = answer.send(true);
                self.with(key, |socket, turn| socket.undecodable(turn, len, "undecodable long-poll body"));
            }
            Ok(messages) => {
                if let Some(Socket { carrier: Carrier::Poll(session), .. }) = self.socket(key) {
                    session.post(messages, answer);
                    self.read(key);
                }
            }
        }
    }

    fn is_session(&mut self, key: SocketKey, secret: u128) -> bool {
        let socket = self.socket(key);
        socket.is_some_and(|socket| matches!(&socket.carrier, Carrier::Poll(session) if session.admits(secret)))
    }
}
