//! The end of a socket: its channels are told, then the client, then the connection goes.

use super::{Shard, Timer};
use crate::command::SocketKey;
use crate::event::Event;
use crate::socket::{Carrier, CloseReason, Protocol, Socket};
use fanfare_proto::websocket::frame;

/// After our close frame has left, the client has so long to close its side.
const LINGER_MS: u64 = 2_000;

impl Shard {
    /// Closes a socket: ends its joins, says why, and lets the connection go once that was written.
    pub(super) fn close(&mut self, key: SocketKey, reason: CloseReason) {
        let (code, text) = (reason.code(), reason.text().to_owned());
        self.close_with(key, &reason, code, &text);
    }

    pub(super) fn client_closed(&mut self, key: SocketKey, code: Option<u16>) {
        self.close_with(key, &CloseReason::Client, code.unwrap_or(1000), "");
    }

    fn close_with(&mut self, key: SocketKey, reason: &CloseReason, code: u16, text: &str) {
        let Some(socket) = self.socket(key).filter(|socket| !socket.closing) else { return };
        if matches!(reason, CloseReason::Slow) {
            socket.carrier.cut();
        }
        self.end_all_joins(key, reason);
        let now_ms = self.now_ms;
        let Some(socket) = self.socket(key) else { return };
        let is_websocket = match &mut socket.carrier {
            Carrier::WebSocket(_) => true,
            Carrier::Poll(session) => {
                session.close(now_ms);
                false
            }
            #[cfg(feature = "testing")]
            Carrier::Frames(frames) => {
                // Its other end may be what closed it.
                let _ = frames.send(crate::socket::LocalFrame::Closed(code));
                false
            }
            Carrier::Broadcasts(_) => false,
        };
        if is_websocket {
            let mut close = Vec::with_capacity(4);
            frame::encode_close(code, text, &mut close);
            self.queue_close(key, close);
        }
        self.handle.counters().count(reason.event());
        if !is_websocket {
            self.remove(key);
        }
    }

    /// The connection is gone: nobody can be told.
    pub(super) fn lost(&mut self, key: SocketKey) {
        let Some(socket) = self.socket(key) else { return };
        if !socket.closing {
            self.end_all_joins(key, &CloseReason::Lost);
            self.handle.counters().count(Event::ClosedByClient);
        }
        self.remove(key);
    }

    fn queue_close(&mut self, key: SocketKey, close: Vec<u8>) {
        let now_ms = self.now_ms;
        let Self { sockets, pool, .. } = self;
        let Some(socket) = sockets.get_mut(key.index as usize) else { return };
        socket.closing = true;
        // A reader that takes nothing has the write timeout in all, before and after it was given up.
        let mut until_ms = now_ms + socket.info.mount.write_timeout.as_millis() as u64;
        if let Carrier::WebSocket(websocket) = &mut socket.carrier {
            until_ms -= websocket.stalled_since_ms.map_or(0, |since_ms| (now_ms - since_ms).min(until_ms - now_ms));
            websocket.outbox(pool).push(close.into(), 1);
        }
        self.mark_dirty(key.index as usize);
        self.at(until_ms.max(now_ms + LINGER_MS), Timer::Linger(key));
    }

    /// The close frame has left. Closing at once would reset the connection if the client has sent something that we have
    /// not read, and the reset could overtake the close frame; so only our direction ends now.
    pub(super) fn end_of_writing(&mut self, key: SocketKey) {
        let Some(Socket { carrier: Carrier::WebSocket(websocket), .. }) = self.socket(key) else { return };
        if websocket.stream.shutdown_write().is_err() {
            return self.remove(key);
        }
        self.at(self.now_ms + LINGER_MS, Timer::Linger(key));
    }

    fn end_all_joins(&mut self, key: SocketKey, reason: &CloseReason) {
        // Frames that its channels send from now on have nobody to go to.
        if let Some(socket) = self.socket(key) {
            socket.closing = true;
        }
        while let Some(slot) = self.socket(key).and_then(|socket| socket.session.entries().len().checked_sub(1)) {
            let has_channels = self.socket(key).is_some_and(|socket| socket.protocol.has_channels());
            if has_channels {
                self.end_join(key, slot, reason.ended());
            } else {
                self.leave_at(key, slot);
            }
        }
        if let Some(ownership) = self.socket(key).and_then(|socket| socket.info.ownership.as_ref()) {
            ownership.give_up();
        }
        if self.socket(key).is_some_and(|socket| !socket.info.is_pending) {
            self.tell(key, |observer, socket| observer.closed(socket));
        }
    }

    /// Forgets a socket whose joins have ended.
    pub(super) fn remove(&mut self, key: SocketKey) {
        if self.socket(key).is_none() {
            return;
        }
        let mut socket = self.sockets.remove(key.index as usize);
        self.handle.socket_went();
        if let Carrier::WebSocket(websocket) = &mut socket.carrier {
            // Closing the descriptor would do the same; this keeps the order of events plain.
            let _ = websocket.stream.deregister(self.poll.registry());
        }
        if let Some(id) = &socket.info.id
            && let Some(sockets) = self.by_id.get_mut(id)
        {
            sockets.remove(&key.index);
            if sockets.is_empty() {
                self.by_id.remove(id);
            }
        }
    }

    /// Closes every socket with this id.
    pub(super) fn disconnect(&mut self, socket_id: &str) {
        for index in self.by_id.get(socket_id).cloned().unwrap_or_default() {
            if let Some(key) = self.sockets.get(index as usize).map(|socket| socket.key) {
                self.close(key, CloseReason::Disconnect);
            }
        }
    }

    /// Closes the subscribers of a hub's topic, which has ended, behind what was published on it.
    pub(crate) fn end_topic(&mut self, topic: &str) {
        let is_subscriber = |socket: &Socket| socket.protocol == Protocol::HubSubscriber;
        let members = self.hub.members(topic).map(|member| &self.sockets[member.socket as usize]);
        let keys: Vec<SocketKey> = members.filter(|socket| is_subscriber(socket)).map(|socket| socket.key).collect();
        for key in keys {
            // It has one topic.
            self.settle_batches(key, 0);
            self.close(key, CloseReason::TopicEnded);
        }
    }

    /// The sockets of clients that are not being closed.
    pub(crate) fn open_sockets(&self) -> Vec<SocketKey> {
        let is_open = |socket: &Socket| !socket.closing && socket.protocol != Protocol::Registry;
        self.sockets.iter().filter(|(_, socket)| is_open(socket)).map(|(_, socket)| socket.key).collect()
    }

    /// Closes every client's socket for a drain, and returns how many are left.
    pub(crate) fn drain(&mut self) -> usize {
        for key in self.open_sockets() {
            self.close(key, CloseReason::Drain);
            self.settle();
        }
        self.sockets.iter().filter(|(_, socket)| socket.protocol != Protocol::Registry).count()
    }

    /// Lets all connections go, whatever was not written.
    pub(crate) fn cut_all(&mut self) {
        let keys: Vec<SocketKey> = self.sockets.iter().map(|(_, socket)| socket.key).collect();
        for key in keys {
            self.lost(key);
        }
    }
}
