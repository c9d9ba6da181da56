//! Long-poll sessions: sockets whose frames wait until the client asks for them.

use std::time::Duration;

use fanfare_proto::message::Incoming;
use tokio::sync::oneshot;

use super::{Shard, Timer};
use crate::command::{Polled, SocketKey};
use crate::socket::{Carrier, CloseReason, Socket, Transport};

/// A stream of server-sent events on which nothing happens gets a comment so often: proxies give up after 30 s or more.
const EVENT_STREAM_HEARTBEAT: Duration = Duration::from_secs(15);

impl Shard {
    /// Answers with what waits, or waits for one message until the window ends.
    pub(super) fn poll_session(
        &mut self,
        key: SocketKey,
        secret: u128,
        position: Option<u64>,
        answer: oneshot::Sender<Polled>,
    ) {
        let now_ms = self.now_ms;
        let Some(socket) = self.session(key, secret) else {
            // The one who asked may have gone; so it is with all answers below.
            let _ = answer.send(Polled::Gone);
            return;
        };
        let is_stream = socket.info.transport == Transport::EventStream;
        let window = if is_stream { EVENT_STREAM_HEARTBEAT } else { socket.info.mount.longpoll_window };
        let window_ms = window.as_millis() as u64;
        let Carrier::Poll(session) = &mut socket.carrier else { return };
        let serial = session.wait(answer, position, now_ms);
        if session.is_waiting(serial) {
            self.at(now_ms + window_ms, Timer::PollWindow(key, serial));
        }
        self.feed_soon(key.index as usize);
    }

    pub(super) fn end_poll_window(&mut self, key: SocketKey, serial: u32) {
        let now_ms = self.now_ms;
        if let Some(Socket { carrier: Carrier::Poll(session), .. }) = self.socket(key) {
            session.end_window(serial, now_ms);
        }
    }

    /// Handles the client's messages in order; `Err` is the length of a body that cannot be decoded.
    pub(super) fn post(
        &mut self,
        key: SocketKey,
        secret: u128,
        messages: Result<Vec<Incoming<'static>>, usize>,
        answer: oneshot::Sender<bool>,
    ) {
        let exists = self.session(key, secret).is_some();
        if exists {
            match messages {
                Err(len) => self.undecodable(key, len, "undecodable long-poll body"),
                Ok(messages) => {
                    for message in messages {
                        self.handle.counters().count(crate::event::Event::Received);
                        self.receive(key, message);
                        self.settle();
                    }
                }
            }
        }
        let _ = answer.send(exists);
    }

    /// The session ends when nobody has polled it for a while.
    pub(super) fn check_unpolled(&mut self, key: SocketKey) {
        let now_ms = self.now_ms;
        let Some(socket) = self.socket(key) else { return };
        // A stream polls as soon as its client has taken what there was.
        let is_stream = socket.info.transport == Transport::EventStream;
        let mount = &socket.info.mount;
        let grace_ms = if is_stream { mount.write_timeout } else { mount.unpolled_timeout }.as_millis() as u64;
        let Carrier::Poll(session) = &socket.carrier else { return };
        let due_ms = session.last_polled_ms(now_ms) + grace_ms;
        if due_ms <= now_ms {
            self.close(key, CloseReason::Unpolled);
        } else {
            self.at(due_ms, Timer::Unpolled(key));
        }
    }

    fn session(&mut self, key: SocketKey, secret: u128) -> Option<&mut Socket> {
        self.socket(key).filter(|socket| matches!(&socket.carrier, Carrier::Poll(session) if session.admits(secret)))
    }
}
