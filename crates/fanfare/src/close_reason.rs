//! Why a socket is closed, and what that means for its client and the counters.

use std::borrow::Cow;

use crate::event::Event;

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
    Unpolled,
    /// It has sent no credential in time.
    Unauthorized,
    /// The hub's topic has ended, or a stream's join.
    TopicEnded,
    /// Another publisher of a hub's topic has taken its place.
    Replaced,
    /// What it wants to resume cannot be read.
    HistoryUnavailable,
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
            CloseReason::Unauthorized => 1008,
            CloseReason::Undecodable => 1011,
            CloseReason::Drain => 1012,
            CloseReason::Replaced => 4409,
            CloseReason::Slow | CloseReason::HistoryUnavailable => 1013,
        }
    }

    /// What a client is told beside the code.
    pub(crate) fn text(&self) -> &str {
        match self {
            CloseReason::TopicEnded => "the topic has ended",
            CloseReason::Replaced => "another connection of this publisher has taken its place",
            CloseReason::HistoryUnavailable => "the history cannot be read now: come again",
            CloseReason::Unauthorized => "no credential came in time",
            CloseReason::Application(_, text) => text,
            _ => "",
        }
    }

    /// What is counted. Undecodable messages and slow consumers are counted where they are logged.
    pub(crate) fn event(&self) -> Option<Event> {
        match self {
            CloseReason::Client | CloseReason::Lost => Some(Event::ClosedByClient),
            CloseReason::Disconnect => Some(Event::ClosedDisconnect),
            CloseReason::Expired => Some(Event::ClosedExpired),
            CloseReason::Idle => Some(Event::ClosedIdle),
            CloseReason::Protocol(_) => Some(Event::ClosedProtocol),
            CloseReason::TooLarge => Some(Event::ClosedTooLarge),
            CloseReason::Drain => Some(Event::ClosedDrain),
            CloseReason::Unauthorized => Some(Event::ClosedUnauthorized),
            CloseReason::TopicEnded => Some(Event::ClosedTopicEnded),
            CloseReason::Replaced => Some(Event::ClosedReplaced),
            CloseReason::Application(..) => Some(Event::ClosedApplication),
            CloseReason::Unpolled => Some(Event::ClosedUnpolled),
            CloseReason::HistoryUnavailable => Some(Event::ClosedHistoryUnavailable),
            CloseReason::Undecodable | CloseReason::Slow => None,
        }
    }
}
