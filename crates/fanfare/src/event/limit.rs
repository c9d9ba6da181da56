//! What clients may do only so often, and what is counted when they do it more often.

use super::Event;

/// What has a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Messages of a socket.
    Messages,
    /// Their bytes.
    Bytes,
    /// Messages of all sockets of a user.
    OfUser,
    /// Messages of all members of a topic.
    OfTopic,
    /// Joins of a socket.
    Joins,
    /// What a socket sends that cannot be.
    Errors,
    /// Signs of life that have to be answered.
    Pings,
}

/// What is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// It is not done, and the client is told if it can be.
    Refused,
    /// The client is not read for a while.
    Paced,
    /// The socket is closed.
    Closed,
}

impl Limit {
    /// The name of its setting.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Limit::Messages => "message_rate",
            Limit::Bytes => "bytes_rate",
            Limit::OfUser => "user_message_rate",
            Limit::OfTopic => "publish_rate",
            Limit::Joins => "join_rate",
            Limit::Errors => "error_rate",
            Limit::Pings => "ping_rate",
        }
    }

    /// What it counts.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Limit::Messages => "messages",
            Limit::Bytes => "bytes of messages",
            Limit::OfUser => "messages of one user",
            Limit::OfTopic => "messages into one topic",
            Limit::Joins => "joins",
            Limit::Errors => "messages that cannot be or are refused",
            Limit::Pings => "pings and heartbeats",
        }
    }

    /// What is counted. Joins and messages into a topic are always refused, and who errs or pings too often is always closed.
    pub(crate) fn event(self, action: Action) -> Event {
        match (self, action) {
            (Limit::Messages, Action::Refused) => Event::MessageRateRefused,
            (Limit::Messages, Action::Paced) => Event::MessageRatePaced,
            (Limit::Messages, Action::Closed) => Event::MessageRateClosed,
            (Limit::Bytes, Action::Refused) => Event::BytesRateRefused,
            (Limit::Bytes, Action::Paced) => Event::BytesRatePaced,
            (Limit::Bytes, Action::Closed) => Event::BytesRateClosed,
            (Limit::OfUser, Action::Refused) => Event::UserMessageRateRefused,
            (Limit::OfUser, Action::Paced) => Event::UserMessageRatePaced,
            (Limit::OfUser, Action::Closed) => Event::UserMessageRateClosed,
            (Limit::OfTopic, _) => Event::PublishRateRefused,
            (Limit::Joins, _) => Event::JoinRateRefused,
            (Limit::Errors, _) => Event::ErrorRateClosed,
            (Limit::Pings, _) => Event::PingRateClosed,
        }
    }
}
