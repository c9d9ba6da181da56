//! `[limits]`: what clients can make the server hold, and how often they may do what they do.

use std::time::Duration;

use fanfare::{OverRate, Rate, serve};

use super::problem::Problems;
use super::section::{Form, section};
use super::value::{Count, Size, Span, choice};

/// When a client counts as vanished, unless told otherwise.
const VANISHED_TIMEOUT: Duration = Duration::from_secs(45);

/// What may wait for all clients together, unless told otherwise: at least so much, and so much where it is not known how much memory
/// there is.
const OUTBOXES_BYTES_MIN: u64 = 64_000_000;
const OUTBOXES_BYTES: u64 = 1_000_000_000;

/// The same of what all clients have sent and is not handled.
const INBOXES_BYTES_MIN: u64 = 32_000_000;
const INBOXES_BYTES: u64 = 500_000_000;

/// How often in a row a client may join all of its topics.
const JOINS_AGAIN: u64 = 5;

section! {
    /// Bounds on what clients can make the server hold.
    struct Limits: "limits", Form::Table;
    keys {
        /// The longest message that a client may send, fragments added up, as sent and as inflated: how well it is
        /// compressed does not matter. A longer one closes its socket with 1009.
        message_size_max: Size<1_000, 1_000_000_000> = "\"8MB\"" => Connect,
        /// The longest body of a long-poll request. A longer one is answered with HTTP 413.
        longpoll_body_size_max: Size<1_000, 1_000_000_000> = "\"8MB\"",
        /// How many messages one long-poll request may carry. More are answered with HTTP 413.
        longpoll_messages_max: Count<1, 1_000_000> = "1000" => Connect,
        /// How many topics one socket may have joined. The next join is refused with `too many channels joined`.
        joins_max: Count<1, 1_000_000> = "100" => Connect,
        /// How often one socket may join a topic, a second. Beyond it a join is refused with `too many joins` and `retry_after_ms`.
        join_rate: Count<1, 1_000_000> = "100" => Connect,
        /// How often it may do so at once when it was quiet. Left out: five times `joins_max`, so that a client that has lost its
        /// connection can join all of its topics again.
        join_burst: Option<Count<1, 10_000_000>> = "" => Connect,
        /// How many messages one socket may send a second; joins, leaves and heartbeats have rates of their own. What happens
        /// beyond it, `message_over` says. Left out: no limit.
        message_rate: Option<Count<1, 1_000_000>> = "" => Connect,
        /// How many it may send at once when it was quiet. Left out: twice `message_rate`.
        message_burst: Option<Count<1, 10_000_000>> = "" => Connect,
        /// How many bytes of payload one socket may send a second, in these messages, and twice as many at once when it was quiet. A larger
        /// message is taken when the socket was quiet for long enough, and paid for whole. Left out: no limit.
        bytes_rate: Option<Size<100, 1_000_000_000>> = "" => Connect,
        /// What happens to messages beyond `message_rate`, `bytes_rate` or `user_message_rate`. `refuse`: they are not handled, and are answered with the error
        /// `rate limited` and `retry_after_ms` where the protocol has answers. `pace`: the client is not read until it may go on, so that its own
        /// system holds back what it sends, and nothing is lost; messages by long-polling are refused instead. `close`: the socket is closed with 1008. Left out: `refuse` for `phoenix` and
        /// `supabase`, `pace` for the others, which have no answers.
        message_over: Option<Over> = "" => Connect,
        /// How many messages one user may send a second with all its sockets on this server, and twice as many at once when it was quiet. A user is
        /// the id of a socket (`endpoint.socket_id`). Beyond it the same happens. Left out: no limit.
        user_message_rate: Option<Count<1, 1_000_000>> = "" => Connect,
        /// How many sockets one user may have on this server. Left out: no limit.
        sockets_per_user_max: Option<Count<1, 1_000_000>> = "" => Connect,
        /// What happens beyond it: `refuse` answers 429, `oldest` closes the user's oldest socket with 1008.
        sockets_per_user_over: OverUser = "\"refuse\"" => Connect,
        /// How often one socket may send what cannot be or is refused, a second: messages for topics that it has not joined, joins
        /// that are refused, frames of an earlier join. Beyond it it is closed with 1008.
        error_rate: Count<1, 1_000_000> = "20" => Connect,
        /// How often it may do so at once when it was quiet. Left out: five times `joins_max`, so that a client is not closed
        /// because all of its joins were refused.
        error_burst: Option<Count<1, 10_000_000>> = "" => Connect,
        /// How many pings and heartbeats one socket may send a second. Beyond it it is closed with 1008.
        ping_rate: Count<1, 1_000_000> = "10" => Connect,
        /// How many it may send at once when it was quiet. Left out: ten times `ping_rate`.
        ping_burst: Option<Count<1, 10_000_000>> = "" => Connect,
        /// For how long a client is not let in again whose socket was closed for one of these rates: it is answered 429 with a `Retry-After`, since
        /// stock clients come back at once. A client is a user, by the id of its socket (`endpoint.socket_id`), at an address; clients without an
        /// id are all those of their address. `0s`: it may come back at once.
        penalty: Span<0, 3_600_000> = "\"5s\"" => Connect,
        /// How many messages may wait behind a join that is not answered yet, or behind a busy topic.
        waiting_frames_max: Count<1, 1_000_000> = "1024" => Connect,
        /// The same in bytes of payload, for all topics of a socket together.
        waiting_bytes_max: Size<1_000, 1_000_000_000> = "\"8MB\"" => Connect,
        /// How many bytes may wait for one slow reader. Beyond it the socket is closed with 1013, unless messages can give way
        /// by `channel.slow`.
        outbox_bytes_max: Size<10_000, 1_000_000_000> = "\"8MB\"" => Connect,
        /// How many frames may wait for one slow reader. Beyond it the same happens.
        outbox_frames_max: Count<10, 10_000_000> = "8192" => Connect,
        /// How much memory what waits for all clients may take together: for slow readers, between two polls, in answers to polls that
        /// are not read, and what was read of histories for clients that have missed it. What many wait for counts once. Beyond it the
        /// messages of those that hold most give way where `channel.slow` lets them, and otherwise their sockets are closed with 1013;
        /// from three quarters of it on clients are sent what they have missed one after the other, as much as they take at once. Left
        /// out: a quarter of the memory that the process may have (that of its control group, or of the machine), at least 64 MB. At
        /// least `outbox_bytes_max`.
        outboxes_bytes_max: Option<Size<1_000_000, 1_000_000_000_000>> = "",
        /// How much memory what clients have sent may take together before it is handled: messages behind joins that are not answered,
        /// busy topics and credentials that are checked, messages of which a part has come, and what was read of connections. While it
        /// takes so much, a client of which more than 4 KiB are held is not read, so that its own system keeps the rest and nothing is lost.
        /// Messages of which a part has come may take half of it: beyond that those clients are closed with 1013 of which most has come.
        /// Left out: an eighth of the memory that the process may have, at least 32 MB. At least twice `message_size_max`.
        inboxes_bytes_max: Option<Size<1_000_000, 1_000_000_000_000>> = "",
        /// How many messages may wait to be handed out, for each shard. While this many wait, publishers wait as well: an HTTP
        /// request, a source, a channel; and a client whose messages have no room is not read, so that TCP slows it down.
        /// Messages of topics with a history have as much room of their own, so that a stalled disk delays no other topic.
        publishing_waiting_max: Count<16, 1_048_576> = "4096",
        /// The same in bytes of payload. A larger message waits until no other does.
        publishing_waiting_bytes_max: Size<10_000, 1_000_000_000> = "\"16MB\"",
        /// How long a publisher waits for room. After that a request is answered 503 with `Retry-After`, and a push with the
        /// error `unavailable`; nothing was published then.
        publishing_timeout: Span<0, 600_000> = "\"5s\"",
        /// A client that takes nothing for so long, while something waits for it, is closed with 1013.
        write_timeout: Span<100, 600_000> = "\"10s\"",
        /// How many bytes the bodies of requests may take together while they are received, on each listener. Above it requests are
        /// answered 503 with a `Retry-After`. A body may hold as much as is left, so that many large ones leave room for small
        /// ones: it takes twice the largest. Left out: twice `longpoll_body_size_max`, at least 16 MB.
        bodies_bytes_max: Option<Size<16_000_000, 100_000_000_000>> = "",
        /// How long a client may take for the body of a request. A later one is answered 408.
        body_timeout: Span<100, 600_000> = "\"10s\"",
        /// How many connections the server holds, as far as the system allows: each takes a file descriptor, and some of these are
        /// kept for the admin listener and the server itself. The next one is answered 503 and closed; with TLS it may be
        /// closed at once or answered without TLS. An `EventSource` is told to come again.
        connections_max: Count<1, 100_000_000> = "1000000" => Connect,
        /// How many connections there may be whose first request has not been answered, on each listener. The next one is answered 503
        /// and closed; with TLS it is closed or answered without TLS.
        handshakes_max: Count<1, 100_000_000> = "10000" => Connect,
        /// How many connections one address may hold. The next one is answered 429 and closed. Of IPv6 a /64
        /// counts as one address. Behind a proxy all clients have its address, unless `address_from` says what tells theirs.
        connections_per_address_max: Count<1, 100_000_000> = "100000" => Connect,
        /// How many long-poll sessions and event streams there may be together. A session takes no connection between its polls, but what
        /// waits for it is held as for a WebSocket (`outbox_bytes_max`). The next one is answered 503.
        sessions_max: Count<1, 100_000_000> = "1000000",
        /// How many of these one address may have. The next one is answered 429. Addresses are counted as for connections.
        sessions_per_address_max: Count<1, 100_000_000> = "10000",
        /// How many clients may connect a second, over all endpoints: handshakes of WebSockets, event streams and new long-poll
        /// sessions. Those beyond it are answered 503 with a `Retry-After` of 1 to 5 seconds, before any `auth` is asked.
        /// Left out: no limit.
        accept_rate: Option<Count<1, 1_000_000>> = "",
        /// How many may connect at once when it was quiet. The last quarter is kept for clients that resume: those whose request
        /// has the parameter `resume` (Phoenix) or `since` (hub, rooms, streams), or the header `Last-Event-ID` (event
        /// streams). Left out: as many as `accept_rate`.
        accept_burst: Option<Count<1, 10_000_000>> = "",
        /// How many clients of one address may connect a second; of IPv6 a /64 is one address. Those beyond it are answered 429 with a `Retry-After`,
        /// before any `auth` is asked. Behind a proxy all clients have its address, unless `address_from` says what tells theirs. Left out: no
        /// limit.
        accept_rate_per_address: Option<Count<1, 1_000_000>> = "",
        /// How many of one address may connect at once when it was quiet. Left out: four times `accept_rate_per_address`.
        accept_burst_per_address: Option<Count<1, 10_000_000>> = "",
        /// Of how many addresses, users and topics, each, it is remembered how much they have done lately, for the rates of addresses, users and
        /// topics. Whoever comes when there are as many, all of them busy, is let pass, and counted.
        keys_max: Count<64, 100_000_000> = "100000",
        /// How long a client may take for the head of a request, and so long again for a TLS handshake.
        handshake_timeout: Span<100, 600_000> = "\"10s\"",
        /// A client that has vanished without a word, like a phone that has lost its network, is given up when its system has
        /// acknowledged nothing for so long of what was sent to it, and no probe of the connection either. Longer than
        /// `write_timeout`. Left out: 45 s, or twice `write_timeout` where that is longer.
        vanished_timeout: Option<Span<1_000, 3_600_000>> = "",
    }
    later []
}

/// The largest body of a request to the HTTP API, in bytes.
pub(crate) const API_BODY_SIZE_MAX: u64 = 8_000_000;

impl Limits {
    /// What may wait for all clients together, on a machine with so much memory, if that is known.
    pub(crate) fn outboxes_bytes_max(&self, memory: Option<u64>) -> u64 {
        let part = |memory: Option<u64>| memory.map_or(OUTBOXES_BYTES, |memory| (memory / 4).max(OUTBOXES_BYTES_MIN));
        self.outboxes_bytes_max.map_or_else(|| part(memory), |given| given.0)
    }

    /// What all clients have sent may take before it is handled, on a machine with so much memory, if that is known.
    pub(crate) fn inboxes_bytes_max(&self, memory: Option<u64>) -> u64 {
        let part = memory.map_or(INBOXES_BYTES, |memory| (memory / 8).max(INBOXES_BYTES_MIN));
        self.inboxes_bytes_max.map_or_else(|| part.max(2 * self.message_size_max.0), |given| given.0)
    }

    /// What the bodies of requests may take together.
    pub(crate) fn bodies_bytes_max(&self) -> u64 {
        self.bodies_bytes_max.map_or(2 * self.longpoll_body_size_max.0.max(API_BODY_SIZE_MAX), |given| given.0)
    }

    /// When a client counts as vanished.
    pub(crate) fn vanished_timeout(&self) -> Duration {
        self.vanished_timeout.map_or((2 * self.write_timeout.0).max(VANISHED_TIMEOUT), |given| given.0)
    }

    /// What a listener admits that may have so many connections, and so many of an address unless it may have all.
    pub(crate) fn admitted(&self, connections_max: u64, per_address_max: Option<u64>) -> serve::Limits {
        serve::Limits {
            connections_max: connections_max as usize,
            connections_per_address_max: per_address_max.map_or(usize::MAX, |max| max as usize),
            handshake_timeout: self.handshake_timeout.0,
            handshakes_max: self.handshakes_max.0 as usize,
            vanished_timeout: self.vanished_timeout(),
        }
    }

    /// The same of clients, of whom the system lets so many connect.
    pub(crate) fn of_clients(&self, connections_max: u64) -> serve::Limits {
        self.admitted(connections_max, Some(self.connections_per_address_max.0))
    }

    /// How often one socket may join a topic.
    pub(crate) fn join_rate(&self) -> Rate {
        rate(self.join_rate.0, self.join_burst.map_or(JOINS_AGAIN * self.joins_max.0, |burst| burst.0))
    }

    /// How many messages one socket may send.
    pub(crate) fn message_rate(&self) -> Option<Rate> {
        let per_second = self.message_rate?.0;
        Some(rate(per_second, self.message_burst.map_or(2 * per_second, |burst| burst.0)))
    }

    /// How many bytes one socket may send.
    pub(crate) fn bytes_rate(&self) -> Option<Rate> {
        self.bytes_rate.map(|bytes| rate(bytes.0, 2 * bytes.0))
    }

    /// How many messages one user may send.
    pub(crate) fn user_message_rate(&self) -> Option<Rate> {
        self.user_message_rate.map(|per_second| rate(per_second.0, 2 * per_second.0))
    }

    /// How many clients of one address may connect.
    pub(crate) fn accept_rate_per_address(&self) -> Option<Rate> {
        let per_second = self.accept_rate_per_address?.0;
        Some(rate(per_second, self.accept_burst_per_address.map_or(4 * per_second, |burst| burst.0)))
    }

    /// How often one socket may send what cannot be.
    pub(crate) fn error_rate(&self) -> Rate {
        rate(self.error_rate.0, self.error_burst.map_or(JOINS_AGAIN * self.joins_max.0, |burst| burst.0))
    }

    /// How often one socket may ask for a sign of life.
    pub(crate) fn ping_rate(&self) -> Rate {
        rate(self.ping_rate.0, self.ping_burst.map_or(10 * self.ping_rate.0, |burst| burst.0))
    }

    /// Checks what concerns more than one key.
    pub(crate) fn check(&self, problems: &mut Problems) {
        if self.message_burst.is_some() && self.message_rate.is_none() {
            self.places.problem(problems, "message_burst", "has no effect without `message_rate`; set both or none");
        }
        let has_rate = self.message_rate.is_some() || self.bytes_rate.is_some() || self.user_message_rate.is_some();
        if self.message_over.is_some() && !has_rate {
            let text = "has no effect without `message_rate`, `bytes_rate` or `user_message_rate`; set one of them";
            self.places.problem(problems, "message_over", text);
        }
        if self.places.is_given("sockets_per_user_over") && self.sockets_per_user_max.is_none() {
            let text = "has no effect without `sockets_per_user_max`; set both or none";
            self.places.problem(problems, "sockets_per_user_over", text);
        }
        if self.accept_burst_per_address.is_some() && self.accept_rate_per_address.is_none() {
            let text = "has no effect without `accept_rate_per_address`; set both or none";
            self.places.problem(problems, "accept_burst_per_address", text);
        }
        if self.accept_burst.is_some() && self.accept_rate.is_none() {
            self.places.problem(problems, "accept_burst", "has no effect without `accept_rate`; set both or none");
        }
        if let Some(all) = self.outboxes_bytes_max.map(|all| all.0).filter(|&all| all < self.outbox_bytes_max.0) {
            let one = self.outbox_bytes_max.0;
            let text = format!(
                "{all} bytes for all clients are less than outbox_bytes_max allows for one ({one}): raise it, or lower that"
            );
            self.places.problem(problems, "outboxes_bytes_max", text);
        }
        let message = self.message_size_max.0;
        if let Some(all) = self.inboxes_bytes_max.map(|all| all.0).filter(|&all| all < 2 * message) {
            let text = format!(
                "{all} bytes are less than twice message_size_max ({message}): set it to {} or more",
                2 * message
            );
            self.places.problem(problems, "inboxes_bytes_max", text);
        }
        let (bodies, body) = (self.bodies_bytes_max(), self.longpoll_body_size_max.0);
        if bodies < 2 * body {
            let text = format!(
                "{bodies} bytes are less than twice longpoll_body_size_max ({body}): set it to {} or more",
                2 * body
            );
            self.places.problem(problems, "bodies_bytes_max", text);
        }
        let (vanished, write) = (self.vanished_timeout(), self.write_timeout.0);
        if vanished <= write {
            let text = format!(
                "{vanished:?} is not longer than write_timeout ({write:?}): slow readers would be cut without a word"
            );
            self.places.problem(problems, "vanished_timeout", text);
        }
    }
}

/// A rate of two settings.
pub(crate) fn rate(per_second: u64, burst: u64) -> Rate {
    let count = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    Rate::per_second(count(per_second)).burst(count(burst))
}

choice! {
    /// What happens to messages beyond their rate.
    pub(crate) enum Over {
        /// They are not handled, and answered with an error.
        Refuse = "refuse",
        /// The client is not read for a while.
        Pace = "pace",
        /// The socket is closed.
        Close = "close",
    } later []
}

choice! {
    /// What happens when a user has one socket too many.
    pub(crate) enum OverUser {
        /// The new one is refused.
        Refuse = "refuse",
        /// The oldest one is closed.
        Oldest = "oldest",
    } later []
}

impl From<Over> for OverRate {
    fn from(over: Over) -> Self {
        match over {
            Over::Refuse => OverRate::Refuse,
            Over::Pace => OverRate::Pace,
            Over::Close => OverRate::Close,
        }
    }
}
