//! How often clients of a mount may do what they do.

use std::time::Duration;

use fanfare_proto::rate::Rate;

use super::Mount;

/// What happens when a client sends more than [`Mount::message_rate`] or [`Mount::bytes_rate`] allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OverRate {
    /// A message beyond it is not handled, and answered with the error `rate limited` and `retry_after_ms`, where the protocol has answers.
    Refuse,
    /// The client is not read until it may go on. Its own system holds back what it sends, and nothing is lost. Sessions that are
    /// polled have no connection that could be left unread: what they send beyond it is refused.
    Pace,
    /// The socket is closed with 1008.
    Close,
}

/// The rates of one socket; `None` is no limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) messages: Option<Rate>,
    pub(crate) bytes: Option<Rate>,
    /// Without one it is for the protocol to say.
    pub(crate) over: Option<OverRate>,
    /// Of all sockets of a user.
    pub(crate) of_user: Option<Rate>,
    pub(crate) joins: Option<Rate>,
    pub(crate) errors: Option<Rate>,
    pub(crate) pings: Option<Rate>,
    /// For how long a client is not let in again whose socket was closed for a rate.
    pub(crate) penalty: Duration,
    /// Whether any route has a rate.
    pub(crate) are_of_topics: bool,
    /// Whether messages are counted at all: what each of them is asked.
    pub(crate) are_of_messages: bool,
}

impl Default for Rates {
    fn default() -> Self {
        Rates {
            messages: None,
            bytes: None,
            over: None,
            of_user: None,
            joins: None,
            errors: None,
            pings: None,
            penalty: Duration::from_secs(5),
            are_of_topics: false,
            are_of_messages: false,
        }
    }
}

impl Mount {
    /// How many messages a client may send; joins, leaves and heartbeats have rates of their own. What happens beyond it,
    /// [`over_rate`](Mount::over_rate) says. Default: as many as it likes.
    ///
    /// ```
    /// use fanfare::{Mount, Rate};
    ///
    /// let mount = Mount::new().message_rate(Rate::per_second(10).burst(30));
    /// ```
    pub fn message_rate(mut self, rate: impl Into<Option<Rate>>) -> Self {
        self.rates.messages = rate.into();
        self.with_rates()
    }

    /// How many bytes of payload a client may send, in the same messages. A message that is larger than the burst is taken when nothing was
    /// sent for long enough, and paid for whole. Default: as many as it likes.
    pub fn bytes_rate(mut self, rate: impl Into<Option<Rate>>) -> Self {
        self.rates.bytes = rate.into();
        self.with_rates()
    }

    /// How many messages a user may send with all its sockets, by the [id](crate::Connected::id) that connect gave them. Default: as many as it likes.
    pub fn user_message_rate(mut self, rate: impl Into<Option<Rate>>) -> Self {
        self.rates.of_user = rate.into();
        self.with_rates()
    }

    /// How many sockets a user may have, on all mounts together, by the [id](crate::Connected::id) that connect gave them. Beyond it connecting is
    /// answered 429; with `closes_oldest` the user's oldest socket is closed with 1008 instead. Default: as many as it likes.
    pub fn sockets_per_user(mut self, max: usize, closes_oldest: bool) -> Self {
        self.sockets_per_user = Some((max.max(1), closes_oldest));
        self
    }

    /// What happens to messages beyond their rate. Default: Phoenix and Supabase refuse them, and clients of the other protocols, which
    /// have no answers, are paced.
    pub fn over_rate(mut self, over: OverRate) -> Self {
        self.rates.over = Some(over);
        self
    }

    /// How often a client may join a topic. Beyond it a join is answered with an error that has `retry_after_ms`. Let the burst be several
    /// times [`joins_max`](Mount::joins_max), so that a client that has lost its connection can join all of its topics again. Default: no limit.
    pub fn join_rate(mut self, rate: impl Into<Option<Rate>>) -> Self {
        self.rates.joins = rate.into();
        self
    }

    /// How often a client may send what cannot be or is refused: messages for topics that it has not joined, joins that are refused, frames of
    /// an earlier join. Beyond it its socket is closed with 1008. Default: no limit.
    pub fn error_rate(mut self, rate: impl Into<Option<Rate>>) -> Self {
        self.rates.errors = rate.into();
        self
    }

    /// How often a client may send a ping or a heartbeat. Beyond it its socket is closed with 1008. Default: no limit.
    pub fn ping_rate(mut self, rate: impl Into<Option<Rate>>) -> Self {
        self.rates.pings = rate.into();
        self
    }

    /// For how long a client is not let in again whose socket was closed for one of these rates: it is answered 429. A client is a user, by the
    /// [id](crate::Connected::id) that connect gave it, at an address; clients without an id are all those of their address. Default 5 s;
    /// nothing for zero.
    pub fn penalty(mut self, penalty: Duration) -> Self {
        self.rates.penalty = penalty;
        self
    }

    pub(super) fn with_rates(mut self) -> Self {
        self.rates.are_of_topics = self.routes.iter().any(|route| route.rate.is_some());
        self.rates.are_of_messages = self.rates.are_of_topics
            || self.rates.messages.is_some()
            || self.rates.bytes.is_some()
            || self.rates.of_user.is_some();
        self
    }
}
