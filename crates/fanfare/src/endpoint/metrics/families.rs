//! The table of the engine's metrics: names, labels, what each counts, and what to do about it. The guide's is made of it.

use super::Family;

/// All of them, in the order in which they are written.
pub const FAMILIES: &[Family] = &[
    CONNECTIONS,
    CONNECTIONS_ACCEPTED,
    CONNECTIONS_REFUSED,
    HANDSHAKES,
    TLS_HANDSHAKES,
    HANDSHAKE,
    SOCKETS,
    SOCKETS_OPENED,
    SOCKETS_CLOSED,
    SOCKET_LIFETIME,
    CREDENTIALS_REFUSED,
    MEMBERS,
    TOPICS,
    JOINS,
    JOIN,
    CHANNEL_CRASHES,
    CALLBACKS_RUNNING,
    MESSAGES_RECEIVED,
    RECEIVED_BYTES,
    MESSAGES_PUBLISHED,
    MESSAGES_DELIVERED,
    PUBLISH_TO_WRITE,
    MESSAGES_DROPPED,
    REPLIES,
    PUSHES_REFUSED,
    LIMITED,
    TENANT_SOCKETS,
    TENANT_MESSAGES,
    SENDS,
    SENT_BYTES,
    SOCKETS_WAITING,
    OUTBOX_BYTES,
    OUTBOX_FRAMES,
    OUTBOX_HELD,
    INBOX_HELD,
    RESUMES_WAITING,
    OUTBOX_STALL,
    SHARD_BUSY,
    SHARD_TURN_AGE,
    SHARD_MAILBOX,
    SHARD_SOCKETS,
    HISTORY_TOPICS,
    HISTORY_MESSAGES,
    HISTORY_BYTES,
    HISTORY_APPENDS,
    HISTORY_APPEND,
    RESUMES,
    RESUMED_MESSAGES,
    PRESENCE_ENTRIES,
    PRESENCE_DIFFS,
    PRESENCE_FAULTS,
    TAPS,
    TAP_EVENTS,
    LOG_LINES_LEFT_OUT,
    BROKER_EVENTS,
    BROKER_PUBLISHES,
    BROKER_SUBSCRIPTIONS,
    BROKER_UP,
    BROKER_LAG,
    BROKER_SILENCE,
    BROKER_RECONNECTS,
    DRAINING,
];

pub(super) const CONNECTIONS_REFUSED: Family = Family::counter(
    "fanfare_connections_refused_total",
    &["reason"],
    "Requests and connections that were refused.",
    "The log has a line for each with the value, the limit and the next step.",
);

pub(super) const SOCKETS: Family = Family::gauge(
    "fanfare_sockets",
    &["endpoint", "transport"],
    "Clients that are connected.",
    "Compare it with `limits.connections_max`.",
);

pub(super) const SOCKETS_OPENED: Family = Family::counter(
    "fanfare_sockets_opened_total",
    &["endpoint", "transport"],
    "Clients that have connected.",
    "Many more than `fanfare_sockets` has are clients that reconnect: see why sockets are closed.",
);

pub(super) const SOCKETS_CLOSED: Family = Family::counter(
    "fanfare_sockets_closed_total",
    &["reason"],
    "Sockets that were closed, by the client or by the server.",
    "`slow_consumer` are slow readers: give their topics a policy, or send less.",
);

pub(super) const CREDENTIALS_REFUSED: Family = Family::counter(
    "fanfare_credentials_refused_total",
    &[],
    "Credentials of connected sockets that were not accepted.",
    "The log says what is wrong with them.",
);

pub(super) const MEMBERS: Family = Family::gauge(
    "fanfare_members",
    &["channel"],
    "Members of topics: each join of each socket is one.",
    "Each message of a topic costs a delivery for each of its members.",
);

pub(super) const TOPICS: Family = Family::gauge(
    "fanfare_topics",
    &["channel"],
    "Topics with members, on each shard that has some.",
    "If it only grows, clients do not leave.",
);

pub(super) const JOINS: Family = Family::counter(
    "fanfare_joins_total",
    &["channel", "result"],
    "Joins that were answered, by what came of them.",
    "`unmatched_topic` are topics that no channel is declared for; the log has the others.",
);

pub(super) const CHANNEL_CRASHES: Family = Family::counter(
    "fanfare_channel_crashes_total",
    &["channel"],
    "Channels that panicked or failed in the middle of a join.",
    "The log has the panic: lines with `event=\"crashed\"`.",
);

pub(super) const CALLBACKS_RUNNING: Family = Family::gauge(
    "fanfare_callbacks_running",
    &[],
    "Callbacks of channels that wait for something.",
    "If it only grows, a callback waits for something that does not come: give it a timeout.",
);

pub(super) const MESSAGES_RECEIVED: Family = Family::counter(
    "fanfare_messages_received_total",
    &["protocol"],
    "Messages that clients have sent, heartbeats included.",
    "A jump without more sockets is a client in a loop.",
);

pub(super) const RECEIVED_BYTES: Family = Family::counter(
    "fanfare_received_bytes_total",
    &["protocol"],
    "Bytes read from connections of WebSockets, without what the handshake took.",
    "Divided by the messages it is how large they are.",
);

pub(super) const MESSAGES_PUBLISHED: Family = Family::counter(
    "fanfare_messages_published_total",
    &["channel", "source"],
    "Messages that were published to topics of a channel, by whom: a `client`, a `hub`'s publisher, the HTTP `api`, a `source`, code \
     in `rust`, the `engine` itself (presences), another `node`.",
    "Times the members of the topics it is what has to be delivered.",
);

pub(super) const MESSAGES_DELIVERED: Family = Family::counter(
    "fanfare_messages_delivered_total",
    &["channel"],
    "Messages of topics that were written or queued for a member: one for each member.",
    "Divided by `fanfare_sends_total` it is how many messages leave in one system call.",
);

pub(super) const MESSAGES_DROPPED: Family = Family::counter(
    "fanfare_messages_dropped_total",
    &["reason"],
    "Messages that were lost, or that meant nothing.",
    "`drop_oldest`, `latest` and `resync` are policies at work. The log has the others.",
);

pub(super) const REPLIES: Family = Family::counter(
    "fanfare_replies_total",
    &["result"],
    "Replies to joins, pushes and heartbeats.",
    "Many errors: see `fanfare_joins_total` and `fanfare_pushes_refused_total`.",
);

pub(super) const PUSHES_REFUSED: Family = Family::counter(
    "fanfare_pushes_refused_total",
    &[],
    "Pushes that their channel answered with an error.",
    "The log has the reason: lines with `event=\"push_refused\"`.",
);

pub(super) const LIMITED: Family = Family::counter(
    "fanfare_limited_total",
    &["limit", "action"],
    "How often clients were over a rate, by its setting, and what was done: messages or joins were `refused`, a client was `paced` (not read for a \
     while), or its socket `closed`.",
    "`fanfare why --kind limited` names the clients; `fanfare_limit` has what is allowed.",
);

pub(super) const TENANT_SOCKETS: Family = Family::gauge(
    "fanfare_tenant_sockets",
    &["tenant"],
    "Clients of each tenant that are connected; `other` are those of tenants beyond `tenant.tenants_max`.",
    "Compare it with the tenant's `sockets_max`.",
);

pub(super) const TENANT_MESSAGES: Family = Family::counter(
    "fanfare_tenant_messages_total",
    &["tenant", "direction"],
    "Messages that the clients of each tenant have sent (`in`), and were sent (`out`), replies and heartbeats among them.",
    "Compare it with the tenant's `messages_per_s`.",
);

pub(super) const SENDS: Family = Family::counter(
    "fanfare_sends_total",
    &["path"],
    "System calls that wrote to connections: a batch `direct`ly, or what was `queued`.",
    "Many more queued than direct ones: readers are slow, or each gets something of its own.",
);

pub(super) const SENT_BYTES: Family = Family::counter(
    "fanfare_sent_bytes_total",
    &["transport"],
    "Bytes written to connections, before encryption.",
    "Compare it with what the network carries.",
);

pub(super) const SOCKETS_WAITING: Family = Family::gauge(
    "fanfare_sockets_waiting",
    &[],
    "Sockets whose clients take no more at present, and that have something waiting; long-poll sessions between two polls among them.",
    "Slow readers: their topics' policy says what happens.",
);

pub(super) const OUTBOX_BYTES: Family = Family::gauge(
    "fanfare_outbox_bytes",
    &[],
    "Bytes that wait for these sockets.",
    "A socket may have `limits.outbox_bytes_max`.",
);

pub(super) const OUTBOX_FRAMES: Family = Family::gauge(
    "fanfare_outbox_frames",
    &[],
    "Frames that wait for these sockets.",
    "A socket may have `limits.outbox_frames_max`.",
);

pub(super) const OUTBOX_HELD: Family = Family::gauge(
    "fanfare_outbox_memory_bytes",
    &[],
    "What all that waits takes in memory, at most: what many wait for counts once as soon as that matters.",
    "Beyond `limits.outboxes_bytes_max` those that hold most lose it: compare it with `fanfare_limit{limit=\"outboxes_bytes_max\"}`.",
);

pub(super) const INBOX_HELD: Family = Family::gauge(
    "fanfare_inbox_memory_bytes",
    &[],
    "What clients have sent and is not handled yet: behind joins, busy channels and checks of credentials, and messages of which a part has come.",
    "At `limits.inboxes_bytes_max` clients that have something waiting are not read: compare it with `fanfare_limit{limit=\"inboxes_bytes_max\"}`, and look for channels that take long.",
);

pub(super) const RESUMES_WAITING: Family = Family::gauge(
    "fanfare_resumes_waiting",
    &[],
    "Sockets that wait for their turn to be sent more of what they have missed.",
    "Some for longer than a moment: what waits for others takes three quarters of `limits.outboxes_bytes_max`, so that one after the other gets what it takes at once.",
);

pub(super) const SHARD_BUSY: Family = Family::counter(
    "fanfare_shard_busy_seconds_total",
    &["shard"],
    "How long a shard has worked.",
    "Above 0.9 a second the shard is full: more shards, or another node.",
);

pub(super) const SHARD_TURN_AGE: Family = Family::gauge(
    "fanfare_shard_turn_age_seconds",
    &["shard"],
    "How long a shard's turn lasts so far; 0 while it has nothing to do.",
    "Above a second a callback blocks the shard and all its sockets: it has to wait in `.await`, or in a thread of its own.",
);

pub(super) const SHARD_MAILBOX: Family = Family::gauge(
    "fanfare_shard_mailbox_commands",
    &["shard"],
    "What waits for a shard: messages, replies, connections.",
    "If it stays high, the shard is full.",
);

pub(super) const SHARD_SOCKETS: Family = Family::gauge(
    "fanfare_shard_sockets",
    &["shard"],
    "Sockets of a shard.",
    "New ones go to the shard with the fewest.",
);

pub(super) const HISTORY_TOPICS: Family = Family::gauge(
    "fanfare_history_topics",
    &["store"],
    "Topics that a history remembers.",
    "At `history.topics_max` the oldest are forgotten.",
);

pub(super) const HISTORY_MESSAGES: Family = Family::gauge(
    "fanfare_history_messages",
    &["store"],
    "Messages that histories keep.",
    "Far below what topics may keep, they are limited by bytes or by age.",
);

pub(super) const HISTORY_BYTES: Family = Family::gauge(
    "fanfare_history_bytes",
    &["store"],
    "What the histories of all topics take in memory.",
    "At `history.bytes_max` topics are forgotten, and clients that come back are told of a gap: raise it, or shorten `ttl`.",
);

pub(super) const RESUMES: Family = Family::counter(
    "fanfare_resumes_total",
    &["result"],
    "Clients that came back with a position.",
    "Many `not_recovered`: the history is too short for how long clients are away.",
);

pub(super) const RESUMED_MESSAGES: Family = Family::counter(
    "fanfare_resumed_messages_total",
    &[],
    "Messages that were sent from a history to clients that had missed them.",
    "Divided by the resumes it is how much each has missed.",
);

pub(super) const PRESENCE_FAULTS: Family = Family::counter(
    "fanfare_presence_faults_total",
    &["reason"],
    "Members that could not be tracked, and what nodes could not tell each other.",
    "`full`: raise the bounds of the presence, or let it only count.",
);

pub(super) const BROKER_EVENTS: Family = Family::counter(
    "fanfare_broker_events_total",
    &["event"],
    "What has happened between this node and the broker.",
    "`gap` and `lost` are messages that members of other nodes did not get: see the broker's log.",
);

pub(super) const BROKER_PUBLISHES: Family = Family::counter(
    "fanfare_broker_publishes_total",
    &["result"],
    "Messages of this node that the broker was given: `ok`, `refused`, or `unknown` where its answer did not come. Publishers were told.",
    "See the log for why they were refused, and `fanfare_broker_up`.",
);

pub(super) const BROKER_SUBSCRIPTIONS: Family = Family::gauge(
    "fanfare_broker_subscriptions",
    &[],
    "Topics that this node is subscribed to at the broker: those with members here, and for a while those that had some.",
    "If it only grows, clients do not leave.",
);

pub(super) const DRAINING: Family =
    Family::gauge("fanfare_draining", &[], "Whether the server drains.", "It ends after `drain.limit` at the latest.");

pub(super) const CONNECTIONS: Family = Family::gauge(
    "fanfare_connections",
    &["listener"],
    "Connections to a listener: those of sockets, and of requests.",
    "Compare those of `clients` with `fanfare_limit{limit=\"connections_max\"}`.",
);

pub(super) const CONNECTIONS_ACCEPTED: Family = Family::counter(
    "fanfare_connections_accepted_total",
    &["listener"],
    "Connections that were accepted, those included that were turned away then.",
    "Compare it with those refused.",
);

pub(super) const HANDSHAKES: Family = Family::gauge(
    "fanfare_handshakes",
    &["listener"],
    "Connections whose first request has not been answered.",
    "At `limits.handshakes_max` others are turned away. Many of them are clients that connect and say nothing.",
);

pub(super) const TLS_HANDSHAKES: Family = Family::counter(
    "fanfare_tls_handshakes_total",
    &["listener", "result"],
    "Handshakes of TLS: `ok`, or `failed`.",
    "The log says what clients that failed have asked for.",
);

pub(super) const HANDSHAKE: Family = Family::histogram(
    "fanfare_handshake_seconds",
    &["transport"],
    "From a connection, or a later request on it, to the answer that lets the client in.",
    "It has in it what authentication takes: compare it with `fanfare_hook_seconds`.",
);

pub(super) const SOCKET_LIFETIME: Family = Family::histogram(
    "fanfare_socket_lifetime_seconds",
    &[],
    "How long sockets lived that have ended.",
    "Many of a few seconds are clients that reconnect in a loop: see why sockets are closed.",
);

pub(super) const JOIN: Family = Family::histogram(
    "fanfare_join_seconds",
    &["channel"],
    "From a join to its answer, where that was `ok`.",
    "It has in it the channel's code, its hooks, and the read of a history.",
);

pub(super) const PUBLISH_TO_WRITE: Family = Family::histogram(
    "fanfare_publish_to_write_seconds",
    &[],
    "From the publication of a message until a shard has given it to the system for all of its members, one for each message and shard. A \
     client's message is published when its shard begins to read. Members that take no more are in `fanfare_outbox_stall_seconds`; messages \
     of other nodes are not in it.",
    "See `fanfare_shard_busy_seconds_total`: above 0.9 a second, more shards or nodes. Otherwise look for the machine's steal time.",
);

pub(super) const OUTBOX_STALL: Family = Family::histogram(
    "fanfare_outbox_stall_seconds",
    &[],
    "How long clients took no more, once they took something again.",
    "Slow networks or slow clients: their topics' policy says what happens to messages meanwhile.",
);

pub(super) const HISTORY_APPENDS: Family = Family::counter(
    "fanfare_history_appends_total",
    &["store", "result"],
    "Messages that a history was to keep: `ok`, `repeated` (known by their key), `failed` (their publishers were told).",
    "`failed`: the log says why, most often a full disk or a broker that is away.",
);

pub(super) const HISTORY_APPEND: Family = Family::histogram(
    "fanfare_history_append_seconds",
    &[],
    "How long a history took to keep a message.",
    "On a disk it is what `history.sync` asks for; with a broker it is the way there and back.",
);

pub(super) const PRESENCE_ENTRIES: Family = Family::gauge(
    "fanfare_presence_entries",
    &[],
    "Presences that members of this node have: each tracking is one.",
    "Each that comes or goes is told to all members of its topic.",
);

pub(super) const PRESENCE_DIFFS: Family = Family::counter(
    "fanfare_presence_diffs_total",
    &[],
    "Diffs that members of topics were told.",
    "Times the members of the topics it is what has to be delivered; `counts_only` for topics where numbers are enough.",
);

pub(super) const TAPS: Family =
    Family::gauge("fanfare_taps", &[], "Those who watch messages now.", "There are 16 at most.");

pub(super) const TAP_EVENTS: Family = Family::counter(
    "fanfare_tap_events_total",
    &["result"],
    "Messages that taps were told (`told`), or that were above their rate or not read in time (`left_out`).",
    "Watch less at a time: a topic, a user, an event.",
);

pub(super) const LOG_LINES_LEFT_OUT: Family = Family::counter(
    "fanfare_log_lines_suppressed_total",
    &[],
    "Lines about clients that the log lacks, since there were more than ten of their kind in a second.",
    "The counters have all of them, and `fanfare why` the last ones.",
);

pub(super) const BROKER_UP: Family = Family::gauge(
    "fanfare_broker_up",
    &["link"],
    "Whether the link to a server of the broker is up.",
    "`GET /readyz` says why not, and the broker's log.",
);

pub(super) const BROKER_LAG: Family = Family::gauge(
    "fanfare_broker_lag_seconds",
    &["link"],
    "How long the last message was on its way that the node sends to itself by a link each second.",
    "Above 0.1 the broker or the network to it is slow: messages of other nodes are as late.",
);

pub(super) const BROKER_SILENCE: Family = Family::gauge(
    "fanfare_broker_heard_age_seconds",
    &["link"],
    "How long ago such a message has come.",
    "Above 5 the node is deaf by that link, and not ready.",
);

pub(super) const BROKER_RECONNECTS: Family = Family::counter(
    "fanfare_broker_connects_total",
    &["link"],
    "How often a link came up.",
    "If it grows, the link does not last: the log says what broke it.",
);
