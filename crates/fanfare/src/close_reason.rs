//! Why a socket is closed, and what that means for its client and the counters.

use std::borrow::Cow;

use fanfare_proto::rate::Rate;

use crate::event::{Event, Limit};

/// Why the server closes a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The client sent a close frame.
    Client,
    /// The connection is gone: nobody can be told.
    Lost,
    Disconnect,
    Expired,
    Idle,
    Protocol(u16),
    TooLarge,
    Undecodable,
    Drain,
    Slow,
    /// What waits for all sockets takes too much memory, and most of it is this one's.
    Crowded,
    /// What all clients have sent and is not handled takes too much memory, and of this one the largest part of a message.
    Overfull,
    Unpolled,
    /// It has sent no credential in time.
    Unauthorized,
    /// The hub's topic has ended, or a stream's join.
    TopicEnded,
    /// Another publisher of a hub's topic has taken its place.
    Replaced,
    /// A publisher of a hub, on a node that is cut off from the others.
    Alone,
    /// What it wants to resume cannot be read.
    HistoryUnavailable,
    /// Its user has another socket, and no more than so many may be open.
    Displaced,
    /// It did something more often than this rate allows.
    OverRate(Limit, Rate),
    /// Its tenant has had more than this, in words.
    OverQuota(String),
    /// With a code and reason of the application's, or of its protocol.
    Application(u16, Cow<'static, str>),
}

impl CloseReason {
    /// The close code. Never 1000 on the server's own initiative but where a hub's topic ends: old clients of Phoenix would
    /// stay away.
    pub(crate) fn code(&self) -> u16 {
        match self {
            CloseReason::Client | CloseReason::Lost | CloseReason::TopicEnded => 1000,
            CloseReason::Application(code, _) => *code,
            CloseReason::Disconnect | CloseReason::Expired | CloseReason::Unpolled => 1001,
            CloseReason::Idle => 1002,
            CloseReason::Protocol(code) => *code,
            CloseReason::TooLarge => 1009,
            CloseReason::Unauthorized
            | CloseReason::OverRate(..)
            | CloseReason::OverQuota(_)
            | CloseReason::Displaced => 1008,
            CloseReason::Undecodable => 1011,
            CloseReason::Drain => 1012,
            CloseReason::Replaced => 4409,
            CloseReason::Slow
            | CloseReason::Crowded
            | CloseReason::Overfull
            | CloseReason::Alone
            | CloseReason::HistoryUnavailable => 1013,
        }
    }

    /// What a client is told beside the code.
    pub(crate) fn text(&self) -> &str {
        match self {
            CloseReason::Client | CloseReason::Lost => "",
            CloseReason::Disconnect => "disconnected by the server",
            CloseReason::Expired => "the credential has expired",
            CloseReason::Idle => "nothing was heard for too long",
            CloseReason::Protocol(1007) => "a text that is not UTF-8",
            CloseReason::Protocol(_) => "not as the WebSocket protocol has it",
            CloseReason::TooLarge => "the message is too large",
            CloseReason::Undecodable => "not a message of this protocol",
            CloseReason::Drain => "the server is shutting down: connect again",
            CloseReason::Slow => "messages were not read fast enough: connect again",
            CloseReason::Crowded => "too much waits to be read: connect again",
            CloseReason::Overfull => "too much is being sent: connect again",
            CloseReason::Unpolled => "nobody asked for its messages any more",
            CloseReason::TopicEnded => "the topic has ended",
            CloseReason::Replaced => "another connection of this publisher has taken its place",
            CloseReason::Alone => "the server is cut off from the other servers: connect again",
            CloseReason::HistoryUnavailable => "the history cannot be read now: come again",
            CloseReason::Unauthorized => "no credential came in time",
            CloseReason::Displaced => "the user has connected too often: this was the oldest connection",
            CloseReason::OverRate(..) => "too much was sent in too short a time",
            CloseReason::OverQuota(_) => "quota exceeded",
            CloseReason::Application(_, text) => text,
        }
    }

    /// Whether the log has a line for it: not for what a client does, nor for each socket of a drain.
    pub(crate) fn is_told(&self) -> bool {
        !matches!(self, CloseReason::Client | CloseReason::Lost | CloseReason::Drain)
    }

    /// What is counted.
    pub(crate) fn event(&self) -> Event {
        match self {
            CloseReason::Client | CloseReason::Lost => Event::ClosedByClient,
            CloseReason::Disconnect => Event::ClosedDisconnect,
            CloseReason::Expired => Event::ClosedExpired,
            CloseReason::Idle => Event::ClosedIdle,
            CloseReason::Protocol(_) => Event::ClosedProtocol,
            CloseReason::TooLarge => Event::ClosedTooLarge,
            CloseReason::Undecodable => Event::ClosedUndecodable,
            CloseReason::Drain => Event::ClosedDrain,
            CloseReason::Slow => Event::ClosedSlow,
            CloseReason::Crowded => Event::ClosedCrowded,
            CloseReason::Overfull => Event::ClosedOverfull,
            CloseReason::Unpolled => Event::ClosedUnpolled,
            CloseReason::Unauthorized => Event::ClosedUnauthorized,
            CloseReason::OverRate(..) => Event::ClosedOverRate,
            CloseReason::OverQuota(_) => Event::ClosedOverQuota,
            CloseReason::Displaced => Event::ClosedDisplaced,
            CloseReason::TopicEnded => Event::ClosedTopicEnded,
            CloseReason::Replaced => Event::ClosedReplaced,
            CloseReason::Alone => Event::ClosedAlone,
            CloseReason::HistoryUnavailable => Event::ClosedHistoryUnavailable,
            CloseReason::Application(..) => Event::ClosedApplication,
        }
    }
}
