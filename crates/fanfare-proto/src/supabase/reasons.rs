//! What clients are told: why a token is not accepted, in the three places where that can be said, and `system` messages.

use std::borrow::Cow;
use std::fmt;

use serde_json::json;

use crate::payload::Payload;

/// Why a token is not accepted, in the words of Supabase Realtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenFault {
    /// There is none.
    Missing,
    /// It ended this many seconds ago.
    Expired(u64),
    /// It has no role, or says of no end.
    Fields,
    /// It is no JSON Web Token.
    Malformed,
    /// It is signed with another key.
    Signature,
    /// There is no key for it; its `kid`, if it names one.
    NoKey(Option<String>),
    /// It cannot be checked now.
    Unavailable,
}

impl TokenFault {
    /// What a `system` message says.
    pub fn text(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            TokenFault::Missing => "API key is missing",
            TokenFault::Expired(seconds) => return format!("Token has expired {seconds} seconds ago").into(),
            TokenFault::Fields => "Fields `role` and `exp` are required in JWT",
            TokenFault::Malformed => "The token provided is not a valid JWT",
            TokenFault::Signature => "Failed to validate JWT signature",
            TokenFault::NoKey(None) => "Failed to generate JWT signer, check your JWT secret or JWKS configuration",
            TokenFault::NoKey(Some(kid)) => {
                return format!(
                    "Failed to generate JWT signer for key ID (kid) {kid:.64?}, check your JWT secret or JWKS configuration"
                )
                .into();
            }
            TokenFault::Unavailable => "The token cannot be checked now: try again later",
        })
    }

    /// Why a connection is refused: the same, but for the seconds.
    pub fn at_connect(&self) -> Cow<'static, str> {
        match self {
            TokenFault::Expired(_) => "Token has expired".into(),
            fault => fault.text(),
        }
    }

    /// Why a join is refused: the same, with a code before it.
    pub fn at_join(&self) -> String {
        format!("{}: {}", self.code(), self.text())
    }

    fn code(&self) -> &'static str {
        match self {
            TokenFault::Missing | TokenFault::Expired(_) | TokenFault::Fields => "InvalidJWTToken",
            TokenFault::Malformed => "MalformedJWT",
            TokenFault::Signature => "JwtSignatureError",
            TokenFault::NoKey(_) => "JwtSignerError",
            TokenFault::Unavailable => "Unavailable",
        }
    }
}

impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// The payload of a `system` message of a channel.
pub fn system(extension: &str, is_ok: bool, message: &str, channel: &str) -> Payload {
    let status = if is_ok { "ok" } else { "error" };
    json!({ "extension": extension, "status": status, "message": message, "channel": channel }).into()
}

/// Reasons that are not of a token.
pub mod told {
    /// A join on `realtime:` alone.
    pub const NAME_REQUIRED: &str = "TopicNameRequired: You must provide a topic name";
    /// A join on a public channel, where there are private ones only.
    pub const PRIVATE_ONLY: &str = "PrivateOnly: This project only allows private channels";
    /// A join with `replay` on a public channel.
    pub const NO_PUBLIC_REPLAY: &str = "UnableToReplayMessages: Replay is not allowed for public channels";
    /// A join whose `replay` has no `since`.
    pub const BAD_REPLAY: &str = "UnableToReplayMessages: Replay params are not valid";
    /// A history that cannot be read.
    pub const NO_REPLAY: &str = "UnableToReplayMessages: Realtime was unable to replay messages";
    /// A payload that is larger than a channel's may be.
    pub const TOO_LARGE: &str = "payload_size_exceeded";
    /// Metadata that is no object.
    pub const BAD_TRACK: &str = "Presence track payload must be a map";

    /// A join of a client that joins too often.
    pub const TOO_MANY_JOINS: &str = "ClientJoinRateLimitReached: Too many joins per second";

    /// A join without the right to read anything.
    pub fn unauthorized(channel: &str) -> String {
        format!("Unauthorized: {}", may_not_read(channel))
    }

    /// A member that has lost both rights to read.
    pub fn may_not_read(channel: &str) -> String {
        format!("You do not have permissions to read from this Channel topic: {channel}")
    }

    /// A member that has lost one of them.
    pub fn may_no_longer_read(channel: &str) -> String {
        format!("You no longer have permission to read from this Channel topic: {channel}")
    }

    /// A broadcast without the right to send one.
    pub fn may_not_write(channel: &str) -> String {
        format!("Unauthorized: You do not have permissions to write to this Channel topic: {channel}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_in_three_places() {
        for (fault, at_connect, at_join) in [
            (TokenFault::Expired(7), "Token has expired", "InvalidJWTToken: Token has expired 7 seconds ago"),
            (
                TokenFault::Fields,
                "Fields `role` and `exp` are required in JWT",
                "InvalidJWTToken: Fields `role` and `exp` are required in JWT",
            ),
            (
                TokenFault::Malformed,
                "The token provided is not a valid JWT",
                "MalformedJWT: The token provided is not a valid JWT",
            ),
            (
                TokenFault::Signature,
                "Failed to validate JWT signature",
                "JwtSignatureError: Failed to validate JWT signature",
            ),
            (
                TokenFault::NoKey(Some("k".into())),
                "Failed to generate JWT signer for key ID (kid) \"k\", check your JWT secret or JWKS configuration",
                "JwtSignerError: Failed to generate JWT signer for key ID (kid) \"k\", check your JWT secret or JWKS \
                 configuration",
            ),
        ] {
            assert_eq!((&*fault.at_connect(), &*fault.at_join()), (at_connect, at_join));
        }
    }
}
