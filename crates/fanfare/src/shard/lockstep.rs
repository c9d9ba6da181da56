//! A shard without a thread: the test kit's `Lockstep` runs it, turn by turn, and tells it what came for its sockets.

use std::sync::Arc;
use std::time::Duration;

use super::{Arrivals, Shard};
use crate::hub::{MemberId, Reach};
use crate::key::SocketKey;
use crate::mailbox;
use crate::socket::Socket;

impl Shard {
    /// One turn, without waiting for anything.
    pub(crate) fn step(&mut self, arrivals: &mut Arrivals) {
        self.on_this_thread(|shard| {
            if let Err(error) = shard.turn(arrivals, Some(Duration::ZERO)) {
                panic!("the kernel gives no events: {error}");
            }
        });
    }

    /// Whether another turn has something to do, timers apart.
    pub(crate) fn has_work(&self) -> bool {
        self.lent.shard.has_mail() || self.has_more() || self.own.as_ref().is_some_and(|own| own.has_work())
    }

    /// When the next timer is due.
    pub(crate) fn next_timer_ms(&self) -> Option<u64> {
        self.lent.timers.next_ms()
    }

    /// How many timers there are.
    pub(crate) fn timers(&self) -> usize {
        self.lent.timers.len()
    }

    /// Bytes of the client's have come, however they are cut. They are unmasked in place.
    pub(crate) fn arrived(&mut self, key: SocketKey, bytes: &mut [u8]) {
        self.on_this_thread(|shard| {
            shard.take_bytes(key, bytes);
            shard.settle();
        });
    }

    /// The client's side has ended.
    pub(crate) fn hung_up(&mut self, key: SocketKey) {
        self.on_this_thread(|shard| {
            shard.with(key, Socket::lost);
            shard.settle();
        });
    }

    /// The socket takes bytes again.
    pub(crate) fn drained(&mut self, key: SocketKey) {
        self.on_this_thread(|shard| {
            shard.resume_writing(key);
            shard.settle();
        });
    }

    /// Gives the hub a topic with a member that is no socket.
    pub(crate) fn populate(&mut self, topic: &Arc<str>) {
        self.lent.hub.join(topic, MemberId { socket: u32::MAX, serial: 0 }, Reach::Each, None);
    }

    /// Makes this thread the shard's for as long as `act` takes.
    fn on_this_thread(&mut self, act: impl FnOnce(&mut Self)) {
        let runtime = self.lent.surroundings.runtime.clone();
        let _entered = runtime.enter();
        mailbox::own_thread(self.own.take());
        self.lent.now_ms = self.lent.surroundings.clock.now_ms();
        act(self);
        mailbox::wake_others();
        self.own = mailbox::leave_thread();
    }
}
