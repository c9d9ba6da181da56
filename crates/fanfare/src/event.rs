//! What the engine counts and logs: one place where an event gets its counter and its log line together.
//!
//! Log lines carry peers, lengths and reasons, never credentials or contents.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $reason:literal;)*) => {
        /// Something that is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub(crate) enum Event { $($(#[$doc])* $variant,)* }

        impl Event {
            const ALL: &'static [Event] = &[$(Event::$variant,)*];

            /// The counter's name and the reason under it.
            pub(crate) fn name(self) -> (&'static str, &'static str) {
                match self { $(Event::$variant => ($name, $reason),)* }
            }
        }
    };
}

counters! {
    /// A socket connected.
    Connected = "connections", "accepted";
    /// A connect was refused: origin.
    RejectedOrigin = "connections", "refused_origin";
    /// A connect was refused: vsn.
    RejectedVersion = "connections", "refused_vsn";
    /// A connect was refused: subprotocol.
    RejectedSubprotocol = "connections", "refused_subprotocol";
    /// A connect was refused: an auth token that cannot be decoded.
    RejectedToken = "connections", "refused_token";
    /// A connect was refused by the application.
    RejectedConnect = "connections", "refused_connect";
    /// A connect was refused: no valid upgrade request.
    RejectedHandshake = "connections", "refused_handshake";
    /// A connect was refused: too many connections, in total or from one address.
    RejectedLimit = "connections", "refused_limit";
    /// A connect was refused: more handshakes a second than are let in.
    RejectedRate = "connections", "refused_rate";
    /// The connect callback panicked.
    ConnectPanicked = "connections", "connect_panicked";
    /// A hub's publisher was refused: the topic has an owner.
    RejectedTopicTaken = "connections", "refused_topic_taken";
    /// A hub's subscriber was refused: nobody has started the topic.
    RejectedTopicUnknown = "connections", "refused_topic_unknown";
    /// A request or its head did not come in time or was malformed.
    RejectedRequest = "connections", "refused_request";
    /// The client closed, or the connection was lost.
    ClosedByClient = "closes", "client";
    /// Closed 1001: disconnect broadcast.
    ClosedDisconnect = "closes", "disconnect";
    /// Closed 1001: the credential expired.
    ClosedExpired = "closes", "expired";
    /// Closed 1002: idle.
    ClosedIdle = "closes", "idle";
    /// Closed 1002 or 1007: WebSocket protocol error.
    ClosedProtocol = "closes", "protocol_error";
    /// Closed 1009: message too large.
    ClosedTooLarge = "closes", "too_large";
    /// Closed 1011: undecodable message.
    ClosedUndecodable = "closes", "undecodable";
    /// Closed 1012: drain.
    ClosedDrain = "closes", "drain";
    /// Closed 1013: slow consumer.
    ClosedSlow = "closes", "slow_consumer";
    /// Closed 1008: no credential came in time.
    ClosedUnauthorized = "closes", "unauthorized";
    /// Closed 1000: the hub's topic ended.
    ClosedTopicEnded = "closes", "topic_ended";
    /// Closed 4409: another publisher of the hub's topic took its place.
    ClosedReplaced = "closes", "replaced";
    /// Closed with a code of the application's, or 3000 in the rooms protocol.
    ClosedApplication = "closes", "application";
    /// Closed 1013: a history could not be read.
    ClosedHistoryUnavailable = "closes", "history_unavailable";
    /// A long-poll session that nobody polled.
    ClosedUnpolled = "closes", "unpolled";
    /// A join was answered `ok`.
    Joined = "joins", "ok";
    /// A join was refused by the channel.
    JoinRefused = "joins", "refused";
    /// A join panicked or failed.
    JoinCrashed = "joins", "crashed";
    /// A join or push on a topic that is not joined or has no channel.
    Unmatched = "drops", "unmatched_topic";
    /// A join beyond the socket's limit.
    TooManyJoins = "joins", "too_many";
    /// A join on a topic that is too long or has control characters.
    BadTopic = "joins", "bad_topic";
    /// A frame that carried an old join_ref.
    Stale = "drops", "stale_join_ref";
    /// A frame beyond those that may wait for a busy channel.
    WaitingFull = "drops", "waiting_full";
    /// A broadcast that a slow reader did not get any more.
    SlowLost = "drops", "slow_consumer";
    /// A message that gave way to newer ones of its topic: `Slow::DropOldest`.
    DroppedOldest = "drops", "drop_oldest";
    /// A message whose place a newer one took: `Slow::Latest`.
    DroppedForLatest = "drops", "latest";
    /// A message that a reader did not get before it had caught up: `Slow::Resync`.
    DroppedUntilResync = "drops", "resync";
    /// A message beyond an in-process socket's queue.
    LocalLost = "drops", "local_queue_full";
    /// A long-poll POST whose token names no session.
    NoSession = "drops", "no_session";
    /// A reply that could not be written in its form.
    FieldTooLong = "drops", "field_too_long";
    /// A channel that panicked or failed.
    ChannelCrashed = "channels", "crashed";
    /// A message that could not be kept in its topic's history, and whose sender is not answered.
    NotKept = "drops", "not_kept";
    /// A message that was not published, since too much waits to be: its publisher was told.
    PublishingFull = "drops", "publishing_full";
    /// A message that a channel could not handle now. A push that wants an answer gets `unavailable`.
    Unavailable = "drops", "unavailable";
    /// A client came back and got all that it had missed.
    Recovered = "resumes", "recovered";
    /// A client came back and was told that messages are gone.
    NotRecovered = "resumes", "not_recovered";
    /// A message was published.
    Published = "messages", "published";
    /// Frames received from clients.
    Received = "messages", "received";
    /// Frames queued for clients.
    Delivered = "messages", "delivered";
}

/// A counter per [`Event`]. One set per shard, so that counting touches no other core's cache line.
#[derive(Debug)]
pub(crate) struct Counters([AtomicU64; Event::ALL.len()]);

impl Default for Counters {
    fn default() -> Self {
        Counters(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Counters {
    pub(crate) fn count(&self, event: Event) {
        self.add(event, 1);
    }

    pub(crate) fn add(&self, event: Event, n: u64) {
        self.0[event as usize].fetch_add(n, Ordering::Relaxed);
    }

    fn get(&self, event: Event) -> u64 {
        self.0[event as usize].load(Ordering::Relaxed)
    }
}

/// The sum of several sets of counters, as (name, reason, value).
pub(crate) fn sum<'a>(sets: impl Iterator<Item = &'a Counters> + Clone) -> Vec<(&'static str, &'static str, u64)> {
    let value = |event| sets.clone().map(|set| set.get(event)).sum();
    Event::ALL.iter().map(|&event| (event.name().0, event.name().1, value(event))).collect()
}

/// An undecodable message: the peer and the length, never the content.
pub(crate) fn undecodable(counters: &Counters, peer: Option<SocketAddr>, len: usize, reason: &'static str) {
    counters.count(Event::ClosedUndecodable);
    if LINES_BY_CLIENTS.admits() {
        tracing::warn!(?peer, len, reason, "undecodable message, socket closed with 1011");
    }
}

/// Clients can cause lines at will; so many a second are written.
static LINES_BY_CLIENTS: Rate = Rate { second: AtomicU64::new(0), count: AtomicU64::new(0), max: 10 };

/// At most `max` in each second of the wall clock.
struct Rate {
    second: AtomicU64,
    count: AtomicU64,
    max: u64,
}

impl Rate {
    fn admits(&self) -> bool {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.second.swap(now, Ordering::Relaxed) != now {
            self.count.store(0, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed) < self.max
    }
}

/// A channel that panicked or returned an error: its join ends with `phx_error`.
pub(crate) fn channel_crashed(counters: &Counters, topic: &str, reason: &str) {
    counters.count(Event::ChannelCrashed);
    if !LINES_BY_CLIENTS.admits() {
        return;
    }
    tracing::warn!(topic, reason, "channel crashed, its join ended with phx_error");
}

/// A join that panicked or returned an error.
pub(crate) fn join_crashed(counters: &Counters, topic: &str, reason: &str) {
    counters.count(Event::JoinCrashed);
    if LINES_BY_CLIENTS.admits() {
        tracing::warn!(topic, reason, "join crashed");
    }
}

/// A message that could not be kept, and whose sender is not answered.
pub(crate) fn not_kept(counters: &Counters, reason: &str) {
    counters.count(Event::NotKept);
    if LINES_BY_CLIENTS.admits() {
        tracing::warn!(reason, "a message could not be kept in its topic's history and was not published");
    }
}

/// A channel could not do what it was to do for a message now: the message's sender is told, if it wants an answer.
pub(crate) fn unavailable(counters: &Counters, topic: &str, reason: &str) {
    counters.count(Event::Unavailable);
    if LINES_BY_CLIENTS.admits() {
        tracing::warn!(topic, reason, "a channel could not handle a message now");
    }
}

/// A slow reader is closed with 1013.
pub(crate) fn slow_consumer(counters: &Counters, peer: Option<SocketAddr>, queued_bytes: usize, queued_frames: usize) {
    counters.count(Event::ClosedSlow);
    counters.add(Event::SlowLost, queued_frames as u64);
    tracing::info!(?peer, queued_bytes, queued_frames, "slow consumer, socket closed with 1013");
}
