//! What a shard counts beside events: figures by channel, endpoint, transport and protocol. Only its thread writes them.
//!
//! Nothing here is counted once a delivery: a batch is added as a whole, and a turn writes its sums at its end. What a figure is told
//! apart by comes from the configuration or from the code, never from a client.

mod histogram;
mod labels;
mod outflow;
mod shared;
mod underway;

use std::sync::Arc;

use crate::event::{Cell, Event};

#[cfg(feature = "metrics")]
pub(crate) use histogram::Counted;
pub(crate) use histogram::Histogram;
use histogram::{LONG_US, SHORT_US};
pub(crate) use labels::Labels;
pub(crate) use outflow::{Change, Load, Outflow};
#[cfg(feature = "metrics")]
pub(crate) use shared::PresenceFigures;
pub(crate) use shared::{Appends, ListenerFigures, SharedFigures};
pub(crate) use underway::Underway;

/// What can come of a join, as it is counted for each channel.
pub(crate) const JOIN_RESULTS: [Event; 11] = [
    Event::Joined,
    Event::JoinRefused,
    Event::JoinCrashed,
    Event::JoinHistoryUnavailable,
    Event::NotAPosition,
    Event::TooManyJoins,
    Event::JoinRateRefused,
    Event::TenantJoinsRefused,
    Event::TenantBytesRefused,
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
