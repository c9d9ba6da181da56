//! A shard without a thread: the test kit's `Lockstep` runs it, turn by turn, and tells it what came for its sockets.

use std::sync::Arc;
use std::time::Duration;

use super::{Arrivals, Shard};
use crate::command::SocketKey;
use crate::hub::{MemberId, Reach};
use crate::mailbox;

impl Shard {
    /// One turn, without waiting for anything.
    pub(crate) fn step(&mut self, arrivals: &mut Arrivals) {
        self.on_this_thread(|shard| shard.turn(arrivals, Some(Duration::ZERO)).expect("the kernel gives its events"));
    }

    /// Whether another turn has something to do, timers apart.
    pub(crate) fn has_work(&self) -> bool {
        self.handle.has_mail() || self.has_more()
    }

    /// Bytes of the client's have come, however they are cut. They are unmasked in place.
    pub(crate) fn arrived(&mut self, key: SocketKey, bytes: &mut [u8]) {
        self.on_this_thread(|shard| shard.take_bytes(key, bytes));
    }

    /// The client's side has ended.
    pub(crate) fn hung_up(&mut self, key: SocketKey) {
        self.on_this_thread(|shard| shard.lost(key));
    }

    /// The socket takes bytes again.
    pub(crate) fn drained(&mut self, key: SocketKey) {
        self.on_this_thread(|shard| shard.ready(key.index as usize, false, false, true));
    }

    /// Gives the hub a topic with a member that is no socket.
    pub(crate) fn populate(&mut self, topic: &Arc<str>) {
        self.hub.join(topic, MemberId { socket: u32::MAX, serial: 0 }, Reach::Each, None);
    }

    /// Makes this thread the shard's for as long as `act` takes.
    fn on_this_thread(&mut self, act: impl FnOnce(&mut Self)) {
        let runtime = self.surroundings.runtime.clone();
        let _entered = runtime.enter();
        self.handle.own_thread();
        self.now_ms = self.surroundings.clock.now_ms();
        act(self);
        self.settle();
        mailbox::flush_outgoing();
        self.handle.leave_thread();
    }
}
