//! What a shard counts beside events: figures by channel, endpoint, transport and protocol. Only its thread writes them.
//!
//! Nothing here is counted once a delivery: a batch is added as a whole, and a turn writes its sums at its end. What a figure is told
//! apart by comes from the configuration or from the code, never from a client.

mod histogram;
mod labels;
mod shared;
mod underway;

use std::sync::Arc;

use crate::event::{Cell, Event};

#[cfg(feature = "metrics")]
pub(crate) use histogram::Counted;
pub(crate) use histogram::Histogram;
use histogram::{LONG_US, SHORT_US};
pub(crate) use labels::Labels;
#[cfg(feature = "metrics")]
pub(crate) use shared::PresenceFigures;
pub(crate) use shared::{Appends, ListenerFigures, SharedFigures};
pub(crate) use underway::Underway;

/// What can come of a join, as it is counted for each channel.
pub(crate) const JOIN_RESULTS: [Event; 9] = [
    Event::Joined,
    Event::JoinRefused,
    Event::JoinCrashed,
    Event::JoinHistoryUnavailable,
    Event::NotAPosition,
    Event::TooManyJoins,
    Event::JoinRateRefused,
    Event::BadTopic,
    Event::Unmatched,
];

/// How many transports there are.
pub(crate) const TRANSPORTS: usize = 4;

/// How many protocols there are.
pub(crate) const PROTOCOLS: usize = 8;

/// The figures of one shard.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) labels: Arc<Labels>,
    /// In the order of the labels.
    pub(crate) channels: Box<[OfChannel]>,
    /// For each mount, and behind them for sockets of this process, by transport.
    pub(crate) sockets: Box<[[Sockets; TRANSPORTS]]>,
    /// By protocol.
    pub(crate) received: [Received; PROTOCOLS],
    pub(crate) replies_ok: Cell,
    pub(crate) replies_error: Cell,
    /// With a status of the application's own.
    pub(crate) replies_other: Cell,
    /// Messages that clients were sent since they had missed them.
    pub(crate) resumed_messages: Cell,
    pub(crate) outflow: Outflow,
    /// From the publication of a message until the shard has written it to all members that take it.
    pub(crate) written: Histogram,
    /// How long sockets of clients have lived.
    pub(crate) lifetimes: Histogram,
    /// How long clients took no more.
    pub(crate) stalls: Histogram,
    /// In microseconds.
    pub(crate) busy_us: Cell,
    /// By the engine's clock, in microseconds; 0 while the shard waits for the kernel.
    pub(crate) turn_began_us: Cell,
    /// What the last turn has left undone.
    pub(crate) left_over: Cell,
}

/// What is counted for the topics of a channel.
#[derive(Debug, Default)]
pub(crate) struct OfChannel {
    pub(crate) topics: Cell,
    pub(crate) members: Cell,
    pub(crate) delivered: Cell,
    pub(crate) joins: [Cell; JOIN_RESULTS.len()],
    pub(crate) crashes: Cell,
    /// From a join to its answer, where that was `ok`.
    pub(crate) joined: Histogram,
}

/// Sockets since the start.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) opened: Cell,
    pub(crate) ended: Cell,
}

/// What clients of a protocol have sent.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) messages: Cell,
    pub(crate) bytes: Cell,
}

/// What has left the sockets of a shard, and what waits for those that take no more.
#[derive(Debug, Default)]
pub(crate) struct Outflow {
    /// System calls that wrote a batch at once.
    pub(crate) sends_direct: Cell,
    /// Those that wrote what was queued.
    pub(crate) sends_queued: Cell,
    pub(crate) bytes_websocket: Cell,
    pub(crate) bytes_stream: Cell,
    pub(crate) waiting_sockets: Cell,
    pub(crate) waiting_bytes: Cell,
    pub(crate) waiting_frames: Cell,
}

/// What a flush of the hub has handed out.
#[derive(Debug, Default)]
pub(crate) struct Flushed {
    /// Shares of batches, each for one member.
    pub(crate) shares: u64,
    pub(crate) messages: u64,
    pub(crate) bytes_websocket: u64,
    pub(crate) bytes_stream: u64,
}

impl Flushed {
    #[inline]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes_websocket + self.bytes_stream
    }
}

impl Outflow {
    /// A system call has written so much of what was queued.
    #[inline]
    pub(crate) fn sent(&self, bytes: usize, is_stream: bool) {
        self.sends_queued.add(1);
        self.bytes_of(is_stream).add(bytes as u64);
    }

    /// Batches were handed out, each share of them as if it had left in one send.
    pub(crate) fn flushed(&self, flushed: &Flushed) {
        self.sends_direct.add(flushed.shares);
        self.bytes_websocket.add(flushed.bytes_websocket);
        self.bytes_stream.add(flushed.bytes_stream);
    }

    /// Of a share that was counted as sent at once, so much was not.
    pub(crate) fn not_sent(&self, sends: u64, bytes: usize, is_stream: bool) {
        self.sends_direct.subtract(sends);
        self.bytes_of(is_stream).subtract(bytes as u64);
    }

    /// What waits for one socket was so much, in bytes and frames, and is so much.
    pub(crate) fn waits(&self, before: (usize, usize), now: (usize, usize)) {
        let change = |sum: &Cell, before: usize, now: usize| {
            sum.set(sum.get().wrapping_add(now as u64).wrapping_sub(before as u64));
        };
        change(&self.waiting_bytes, before.0, now.0);
        change(&self.waiting_frames, before.1, now.1);
        change(&self.waiting_sockets, usize::from(before.1 > 0), usize::from(now.1 > 0));
    }

    fn bytes_of(&self, is_stream: bool) -> &Cell {
        if is_stream { &self.bytes_stream } else { &self.bytes_websocket }
    }
}

impl Figures {
    pub(crate) fn new(labels: Arc<Labels>, mounts: usize) -> Self {
        Figures {
            channels: labels.names().map(|_| OfChannel::default()).collect(),
            labels,
            sockets: (0..=mounts).map(|_| Default::default()).collect(),
            received: Default::default(),
            replies_ok: Cell::default(),
            replies_error: Cell::default(),
            replies_other: Cell::default(),
            resumed_messages: Cell::default(),
            outflow: Outflow::default(),
            written: Histogram::new(SHORT_US),
            lifetimes: Histogram::new(LONG_US),
            stalls: Histogram::default(),
            busy_us: Cell::default(),
            turn_began_us: Cell::default(),
            left_over: Cell::default(),
        }
    }

    /// What came of a join of a topic.
    pub(crate) fn count_join(&self, topic: &str, event: Event) {
        if let Some(result) = JOIN_RESULTS.iter().position(|&known| known == event) {
            self.channels[self.labels.of(topic)].joins[result].add(1);
        }
    }

    /// A channel's code has failed in a join of a topic.
    pub(crate) fn count_crash(&self, topic: &str) {
        self.channels[self.labels.of(topic)].crashes.add(1);
    }
}
