//! What the engine counts, and how lines of its log are held back. `fact.rs` tells both of what happens to clients.

use std::sync::atomic::{AtomicU64, Ordering};

mod cell;
mod held_back;
mod limit;

pub(crate) use cell::{Cell, Count};
pub use held_back::HeldBack;
pub(crate) use limit::{Action, Limit};

use fanfare_proto::envelope::{Incarnation, Unread};

pub(crate) mod past;

use past::Past;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $reason:literal;)*) => {
        /// Something that is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub(crate) enum Event { $($(#[doc = $doc])+ $variant,)* }

        impl Event {
            pub(crate) const ALL: &'static [Event] = &[$(Event::$variant,)*];

            /// The counter's name and the reason under it.
            pub(crate) fn name(self) -> (&'static str, &'static str) {
                match self { $(Event::$variant => ($name, $reason),)* }
            }

            /// What it counts, in the words of its documentation: the guide's.
            #[cfg(test)]
            pub(crate) fn about(self) -> &'static [&'static str] {
                match self { $(Event::$variant => &[$($doc),+],)* }
            }
        }
    };
}

counters! {
    /// Clients that connected, on any transport.
    Connected = "connections", "accepted";
    /// Refused with 403: the origin is not allowed.
    RejectedOrigin = "connections", "refused_origin";
    /// Refused with 403: a `vsn` that is not served.
    RejectedVersion = "connections", "refused_vsn";
    /// Refused with 403: no subprotocol in common.
    RejectedSubprotocol = "connections", "refused_subprotocol";
    /// Refused with 403: an auth token that cannot be decoded.
    RejectedToken = "connections", "refused_token";
    /// Refused by the application, or by the `auth` of the endpoint: 403, or the answer of `on_reject`.
    RejectedConnect = "connections", "refused_connect";
    /// Refused with 400 or 426: not a valid upgrade, or parameters that cannot be read.
    RejectedHandshake = "connections", "refused_handshake";
    /// Refused with 429 or 503: as many connections, sessions or topics as there can be, in total or from one address.
    RejectedLimit = "connections", "refused_limit";
    /// Refused with 503: more clients in this second than `limits.accept_rate`.
    RejectedRate = "connections", "refused_rate";
    /// Refused with 429: more clients of this address than `limits.accept_rate_per_address`.
    RejectedAddressRate = "connections", "refused_address_rate";
    /// Refused with 429: the user has as many sockets as `limits.sockets_per_user_max`.
    RejectedUser = "connections", "refused_user";
    /// Refused with 429: the tenant has all of its sockets or joins, or was sent all bytes of the day: see `[tenant]`.
    RejectedQuota = "connections", "refused_quota";
    /// Refused with 429: a socket of this user at this address was closed for a rate, no longer than `limits.penalty` ago.
    RejectedPenalty = "connections", "refused_penalty";
    /// Refused with 503: the server is draining.
    RejectedDrain = "connections", "refused_drain";
    /// Refused with 500: the code that decides who can connect panicked.
    ConnectPanicked = "connections", "connect_panicked";
    /// A hub's publisher, refused with 409: the topic has a publisher.
    RejectedTopicTaken = "connections", "refused_topic_taken";
    /// A hub's subscriber, refused with 404: nobody has started the topic.
    RejectedTopicUnknown = "connections", "refused_topic_unknown";
    /// A hub's client, refused with 503: the broker does not say which node has the topic.
    RejectedTopicUnavailable = "connections", "refused_topic_unavailable";
    /// Requests whose head or body did not come in time, was malformed, or was too large.
    RejectedRequest = "connections", "refused_request";
    /// Refused with 404: no endpoint is served at the path.
    RejectedPath = "connections", "refused_path";
    /// Refused with 503: the server has ended, or its system gave no random bytes.
    RejectedEnded = "connections", "refused_ended";
    /// Connections that were closed because they did not begin with a header of the PROXY protocol, or came from where no proxy is trusted.
    ProxyRefused = "proxies", "refused";
    /// Requests of a trusted proxy whose header has something else than an address where the client's should be.
    ForwardedUnread = "proxies", "forwarded_unread";
    /// Credentials sent by a socket that is connected, and not accepted.
    CredentialRefused = "credentials", "refused";
    /// The client closed, or its connection was lost. A close frame is answered with the client's own code.
    ClosedByClient = "closes", "client";
    /// The socket's id was disconnected.
    ClosedDisconnect = "closes", "disconnect";
    /// Its credentials expired.
    ClosedExpired = "closes", "expired";
    /// Nothing was heard from the client within `idle_timeout`.
    ClosedIdle = "closes", "idle";
    /// A WebSocket protocol error (1002), or a text message that is not UTF-8 (1007).
    ClosedProtocol = "closes", "protocol_error";
    /// A message above `limits.message_size_max`, fragments added up.
    ClosedTooLarge = "closes", "too_large";
    /// A message that is not a frame of Phoenix Channels.
    ClosedUndecodable = "closes", "undecodable";
    /// The server is draining.
    ClosedDrain = "closes", "drain";
    /// The client reads too slowly: what waits for it reached a limit, or it took nothing for `limits.write_timeout`.
    ClosedSlow = "closes", "slow_consumer";
    /// What waits for all sockets took more than `limits.outboxes_bytes_max`, and this one had most of it.
    ClosedCrowded = "closes", "outboxes_full";
    /// Messages of which a part had come took more than half of `limits.inboxes_bytes_max`, and the largest was this one's.
    ClosedOverfull = "closes", "inboxes_full";
    /// No credential came in time, on an endpoint where clients send theirs after they have connected.
    ClosedUnauthorized = "closes", "unauthorized";
    /// The hub's topic has ended, because its publisher has gone; or the one topic of a stream has.
    ClosedTopicEnded = "closes", "topic_ended";
    /// A hub's publisher whose place another connection of it has taken.
    ClosedReplaced = "closes", "replaced";
    /// A hub's publisher, closed with 1013: its node has not heard from the others for two thirds of the time after which they take its topics over.
    ClosedAlone = "closes", "alone";
    /// The rooms protocol: a frame that it does not have, or a message to a room that was not joined.
    ClosedApplication = "closes", "application";
    /// The history that the client resumes from cannot be read now.
    ClosedHistoryUnavailable = "closes", "history_unavailable";
    /// A long-poll session whose client did not poll any more. There is nobody to tell.
    ClosedUnpolled = "closes", "unpolled";
    /// The oldest socket of a user that has as many as `limits.sockets_per_user_max`, where `sockets_per_user_over` is `oldest`.
    ClosedDisplaced = "closes", "displaced";
    /// A client that was over a rate, where that is answered by the end of the connection: see `limits`.
    ClosedOverRate = "closes", "over_rate";
    /// A client whose tenant was over a quota, where that is answered by the end of the connection: see `limits`.
    ClosedOverQuota = "closes", "over_quota";
    /// Messages that were not handled, since their socket had sent more than `limits.message_rate` allows. Their senders were told, where the protocol has answers.
    MessageRateRefused = "limits", "message_rate_refused";
    /// How often a client was not read for a while, since it had sent more messages than `limits.message_rate` allows. Nothing was lost.
    MessageRatePaced = "limits", "message_rate_paced";
    /// Sockets that were closed, since they had sent more messages than `limits.message_rate` allows.
    MessageRateClosed = "limits", "message_rate_closed";
    /// Messages that were not handled, since their socket had sent more bytes than `limits.bytes_rate` allows. Their senders were told, where the protocol has answers.
    BytesRateRefused = "limits", "bytes_rate_refused";
    /// How often a client was not read for a while, since it had sent more bytes than `limits.bytes_rate` allows. Nothing was lost.
    BytesRatePaced = "limits", "bytes_rate_paced";
    /// Sockets that were closed, since they had sent more bytes than `limits.bytes_rate` allows.
    BytesRateClosed = "limits", "bytes_rate_closed";
    /// Messages that were not handled, since their user's sockets had sent more than `limits.user_message_rate` allows. Their senders were told, where the protocol has answers.
    UserMessageRateRefused = "limits", "user_message_rate_refused";
    /// How often a client was not read for a while, since its user's sockets had sent more than `limits.user_message_rate` allows. Nothing was lost.
    UserMessageRatePaced = "limits", "user_message_rate_paced";
    /// Sockets that were closed, since their user's sockets had sent more than `limits.user_message_rate` allows.
    UserMessageRateClosed = "limits", "user_message_rate_closed";
    /// Messages that were not handled, since the members of their topic had sent more than `channel.publish_rate` allows. Their senders were told.
    PublishRateRefused = "limits", "publish_rate_refused";
    /// What was let pass without being counted against a rate of addresses, users or topics, since `limits.keys_max` of these were remembered already.
    KeysMaxPassed = "limits", "keys_max_passed";
    /// Requests to the HTTP API that were not published, since they had more messages than `admin.publish_rate` allows. Their senders were told.
    ApiPublishRateRefused = "limits", "admin_publish_rate_refused";
    /// Joins beyond `joins_max` of a tenant, over all of its sockets. Their senders were told.
    TenantJoinsRefused = "limits", "tenant_joins_max_refused";
    /// Messages that were not handled, since their tenant's clients had sent more than its `messages_per_s`. Their senders were told, where the protocol has answers.
    TenantMessagesRefused = "limits", "tenant_messages_per_s_refused";
    /// How often a client was not read for a while, since its tenant's clients had sent more than its `messages_per_s`. Nothing was lost.
    TenantMessagesPaced = "limits", "tenant_messages_per_s_paced";
    /// Sockets that were closed, since their tenant's clients had sent more than its `messages_per_s`.
    TenantMessagesClosed = "limits", "tenant_messages_per_s_closed";
    /// Messages that were not published, since there were more of their tenant than its `publishes_per_s`, and requests with such messages. Their senders were told, where the protocol has answers.
    TenantPublishesRefused = "limits", "tenant_publishes_per_s_refused";
    /// How often a client was not read for a while, since more was published by its tenant than its `publishes_per_s`. Nothing was lost.
    TenantPublishesPaced = "limits", "tenant_publishes_per_s_paced";
    /// Sockets that were closed, since more was published by their tenant than its `publishes_per_s`.
    TenantPublishesClosed = "limits", "tenant_publishes_per_s_closed";
    /// Joins, messages and requests to publish of a tenant that was sent all of its `bytes_out_per_day`. Their senders were told.
    TenantBytesRefused = "limits", "tenant_bytes_out_per_day_refused";
    /// Sockets that were closed, since they published for a tenant that was sent all of its `bytes_out_per_day`, by a protocol without answers.
    TenantBytesClosed = "limits", "tenant_bytes_out_per_day_closed";
    /// Clients of tenants that share one quota, since as many as `tenant.tenants_max` were known already.
    TenantsMaxPassed = "limits", "tenants_max_passed";
    /// Sockets that were closed, since what waits for all took more than `limits.outboxes_bytes_max`, and these had most of it.
    OutboxesMaxClosed = "limits", "outboxes_bytes_max_closed";
    /// How often a client was not read for a while, since what all have sent and is not handled took `limits.inboxes_bytes_max`. Nothing was lost.
    InboxesMaxPaced = "limits", "inboxes_bytes_max_paced";
    /// Sockets that were closed, since messages of which a part had come took more than half of `limits.inboxes_bytes_max`, and these were the largest.
    InboxesMaxClosed = "limits", "inboxes_bytes_max_closed";
    /// Joins beyond `limits.join_rate`. Their senders were told when to try again.
    JoinRateRefused = "limits", "join_rate_refused";
    /// Sockets that were closed, since they had sent more that could not be than `limits.error_rate` allows.
    ErrorRateClosed = "limits", "error_rate_closed";
    /// Sockets that were closed, since they had sent more pings and heartbeats than `limits.ping_rate` allows.
    PingRateClosed = "limits", "ping_rate_closed";
    /// Joins that were answered `ok`.
    Joined = "joins", "ok";
    /// Joins that the channel refused.
    JoinRefused = "joins", "refused";
    /// Joins that panicked or failed.
    JoinCrashed = "joins", "crashed";
    /// Joins and pushes on topics without a channel, and pushes on topics that were not joined.
    Unmatched = "drops", "unmatched_topic";
    /// Joins whose history could not be read.
    JoinHistoryUnavailable = "joins", "history_unavailable";
    /// Joins that want to resume from what is no position.
    NotAPosition = "joins", "not_a_position";
    /// Pushes that the channel answered with `error`.
    PushRefused = "pushes", "refused";
    /// Joins beyond `limits.joins_max`.
    TooManyJoins = "joins", "too_many";
    /// Joins on topics that are empty, longer than 255 bytes, or have control characters.
    BadTopic = "joins", "bad_topic";
    /// Frames that carried the `join_ref` of an earlier join.
    Stale = "drops", "stale_join_ref";
    /// Frames beyond `limits.waiting_frames_max`, behind a channel that was busy.
    WaitingFull = "drops", "waiting_full";
    /// Messages that a slow reader still had to get when it was closed.
    SlowLost = "drops", "slow_consumer";
    /// Messages that gave way to newer ones, by the policy `drop_oldest`.
    DroppedOldest = "drops", "drop_oldest";
    /// Messages that a newer one replaced, by the policy `latest`.
    DroppedForLatest = "drops", "latest";
    /// Messages that a reader did not get before it had caught up, by the policy `resync`.
    DroppedUntilResync = "drops", "resync";
    /// Messages beyond the queue of a subscriber within the process.
    LocalLost = "drops", "local_queue_full";
    /// Long-poll POSTs whose token names no session.
    NoSession = "drops", "no_session";
    /// Replies with a field that is too long for the binary form.
    FieldTooLong = "drops", "field_too_long";
    /// Channels that panicked or failed. Their joins ended with `phx_error`.
    ChannelCrashed = "channels", "crashed";
    /// Channels of Supabase's clients that ended with their tokens. Clients that have a new one join again.
    TokenExpired = "channels", "token_expired";
    /// Channels of Supabase's clients that ended since a new token is not accepted.
    TokenRefused = "channels", "token_refused";
    /// Frames of Supabase's clients that were no frames. A client that sends too many is closed.
    Malformed = "drops", "malformed_frame";
    /// Events of Supabase's clients that mean nothing.
    Ignored = "drops", "ignored_event";
    /// Broadcasts and presences of members of a Supabase channel that are larger than one may be. They were told.
    PayloadTooLarge = "drops", "payload_too_large";
    /// Messages of sources that can never be published. Each source counts its own by the reason.
    SourceSkipped = "drops", "source_skipped";
    /// Broadcasts and presences of members of a Supabase channel without the right to them. They were told.
    NotAllowed = "drops", "not_allowed";
    /// Messages that could not be kept in their topic's history, of senders that get no answer.
    NotKept = "drops", "not_kept";
    /// Messages that were not published, because too many waited to be. Their publishers were told.
    PublishingFull = "drops", "publishing_full";
    /// Messages that a channel could not handle now. Pushes that want an answer got `unavailable`.
    Unavailable = "drops", "unavailable";
    /// Topics whose attachment the broker refused or did not answer. It is tried again.
    BrokerAttachFailed = "broker", "attach_failed";
    /// Publications that the broker could not be given. Their publishers were told; none of them happened.
    BrokerRefused = "broker", "refused";
    /// Publications whose answer did not come. Their publishers were told; they may have happened.
    BrokerUnknown = "broker", "unknown";
    /// Envelopes that this node cannot read: another version, another software, or broken.
    BrokerUnread = "broker", "unread";
    /// Messages that came before one that was missing, or for which there was no room: the log is read if they stay missing.
    BrokerHole = "broker", "hole";
    /// Logs that were read because something was missing, or might be.
    BrokerRepair = "broker", "repair";
    /// Gaps in topics that their members were told of: messages that the broker lost or forgot.
    BrokerGap = "broker", "gap";
    /// Messages of topics without a log that have not come from another node.
    BrokerLost = "broker", "lost";
    /// Clients that came back and got everything they had missed.
    Recovered = "resumes", "recovered";
    /// Clients that came back and were told that messages are gone.
    NotRecovered = "resumes", "not_recovered";
    /// Members that were not tracked, or whose meta was not changed, because the presence of their topic was full.
    PresenceFull = "presence", "full";
    /// Nodes whose members were hidden, because nothing was heard of them for a lease.
    NodeHidden = "presence", "node_hidden";
    /// Envelopes about presences that could not be read, and were dropped.
    PresenceUnread = "presence", "unread";
    /// Messages that were published.
    Published = "messages", "published";
    /// Frames that clients sent.
    Received = "messages", "received";
    /// Frames that were queued for clients.
    Delivered = "messages", "delivered";
}

/// What counts events, and keeps the last facts.
pub(crate) trait Tally {
    fn add(&self, event: Event, n: u64);
    fn past(&self) -> &Past;
}

/// A counter per [`Event`], and the last facts, for whatever thread.
#[derive(Debug)]
pub(crate) struct Counters {
    cells: [AtomicU64; Event::ALL.len()],
    past: Past,
}

/// The same for one thread: that of a shard.
#[derive(Debug)]
pub(crate) struct ShardCounters {
    cells: [Cell; Event::ALL.len()],
    past: Past,
}

impl Default for Counters {
    fn default() -> Self {
        Counters { cells: std::array::from_fn(|_| AtomicU64::new(0)), past: Past::default() }
    }
}

impl Counters {
    pub(crate) fn count(&self, event: Event) {
        self.add(event, 1);
    }

    pub(crate) fn add(&self, event: Event, n: u64) {
        self.cells[event as usize].fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self, event: Event) -> u64 {
        self.cells[event as usize].load(Ordering::Relaxed)
    }
}

impl Tally for Counters {
    fn add(&self, event: Event, n: u64) {
        Counters::add(self, event, n);
    }

    fn past(&self) -> &Past {
        &self.past
    }
}

impl Default for ShardCounters {
    fn default() -> Self {
        ShardCounters { cells: std::array::from_fn(|_| Cell::default()), past: Past::default() }
    }
}

impl ShardCounters {
    pub(crate) fn count(&self, event: Event) {
        self.add(event, 1);
    }

    #[inline]
    pub(crate) fn add(&self, event: Event, n: u64) {
        self.cells[event as usize].add(n);
    }

    pub(crate) fn get(&self, event: Event) -> u64 {
        self.cells[event as usize].get()
    }
}

impl Tally for ShardCounters {
    fn add(&self, event: Event, n: u64) {
        ShardCounters::add(self, event, n);
    }

    fn past(&self) -> &Past {
        &self.past
    }
}

/// Connections that cannot be accepted are all for one reason.
static LINES_OF_ACCEPTING: HeldBack = HeldBack::new(1, 10);

/// What other nodes send, which may be of another version.
static LINES_BY_NODES: HeldBack = HeldBack::new(1, 10);

/// The system gives no connection. Out of descriptors, it says so as long as that lasts.
pub(crate) fn not_accepted(listener: &str, error: &std::io::Error) {
    if let Some(held_back) = LINES_OF_ACCEPTING.pass() {
        tracing::warn!(listener, %error, held_back, "a connection could not be accepted");
    }
}

/// Nothing was heard of a node: its members are shown no more.
pub(crate) fn node_hidden(counters: &Counters, node: Incarnation) {
    counters.count(Event::NodeHidden);
    tracing::warn!(%node, "nothing was heard of a node: its members are hidden until it is heard again");
}

/// What another node says about its presences cannot be read.
pub(crate) fn presence_unread(counters: &Counters, node: Incarnation, unread: Unread) {
    counters.count(Event::PresenceUnread);
    if let Some(held_back) = LINES_BY_NODES.pass() {
        tracing::warn!(%node, %unread, held_back, "what a node says about its presences cannot be read");
    }
}
