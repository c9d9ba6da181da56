//! The versions of the protocol, the forms in which their messages are written, and what cannot be read.

use std::fmt;

/// A version of the protocol, which the client chooses when it connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// 1.0.0: objects.
    V1,
    /// 2.0.0: lists, and binary frames.
    V2,
}

impl Version {
    /// The form of what is sent on a WebSocket.
    pub fn websocket_format(self) -> Format {
        match self {
            Self::V1 => Format::V1,
            Self::V2 => Format::V2,
        }
    }

    /// The form of what is sent in the answer to a poll.
    pub fn longpoll_format(self) -> Format {
        match self {
            Self::V1 => Format::V1,
            Self::V2 => Format::V2Text,
        }
    }
}

/// The form of outgoing messages. Sockets of one format can share an encoded broadcast.
///
/// Where binary frames cannot be carried, a binary payload or response becomes `{"binary": "<base64>"}`, standard
/// alphabet, padded. (Phoenix crashes there; clients deliver it as the JSON that it is.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// Objects; text only, on either transport.
    V1,
    /// Lists, and binary frames for binary payloads: version 2.0.0 over WebSocket.
    V2,
    /// Lists, text only: version 2.0.0 over long-polling.
    V2Text,
}

/// Why a message from a client cannot be read. Its socket is to be closed with 1011, its long-poll session ended.
///
/// The reason names the rule and never quotes the message, so that it may be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undecodable(pub &'static str);

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Undecodable {}

impl From<&'static str> for Undecodable {
    fn from(reason: &'static str) -> Self {
        Self(reason)
    }
}
