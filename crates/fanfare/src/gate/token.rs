//! The tokens of long-poll sessions: opaque, signed, bound to their mount, expiring, and naming 128 random bits.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanfare_proto::phoenix::message::Version;
use hmac::Mac;

use crate::error::Error;
use crate::key::SocketKey;
use crate::token::{Signature, keyed};

/// A token is good for 14 days at most.
const AGE_MAX_MS: u64 = 14 * 24 * 60 * 60 * 1_000;

const CLAIMS_SIZE: usize = 2 + 2 + 4 + 4 + 16 + 8 + 1 + 8;
const MAC_SIZE: usize = 32;

/// What a token names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionClaims {
    pub(crate) mount: u16,
    pub(crate) shard: u16,
    pub(crate) socket: SocketKey,
    pub(crate) secret: u128,
    pub(crate) issued_ms: u64,
    /// What the session's messages are encoded in.
    pub(crate) version: Version,
    /// How many of the session's messages came before this token and with it.
    pub(crate) position: u64,
}

/// The key of one run of the engine: a token of an earlier run is no token.
pub(crate) struct TokenKey([u8; 32]);

impl TokenKey {
    pub(crate) fn generate() -> Result<Self, Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)
            .map_err(|error| Error::failed(format!("the system gives no random bytes: {error}")))?;
        Ok(TokenKey(key))
    }

    pub(crate) fn sign(&self, claims: &SessionClaims) -> String {
        let mut bytes = Vec::with_capacity(CLAIMS_SIZE + MAC_SIZE);
        bytes.extend(claims.mount.to_be_bytes());
        bytes.extend(claims.shard.to_be_bytes());
        bytes.extend(claims.socket.index.to_be_bytes());
        bytes.extend(claims.socket.generation.to_be_bytes());
        bytes.extend(claims.secret.to_be_bytes());
        bytes.extend(claims.issued_ms.to_be_bytes());
        bytes.push(u8::from(claims.version == Version::V2));
        bytes.extend(claims.position.to_be_bytes());
        let mac = self.mac(&bytes).finalize().into_bytes();
        bytes.extend(mac);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a token names, if it is one of ours and not too old.
    pub(crate) fn verify(&self, token: &str, now_ms: u64) -> Option<SessionClaims> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok().filter(|bytes| bytes.len() == CLAIMS_SIZE + MAC_SIZE)?;
        let (claims, mac) = bytes.split_at(CLAIMS_SIZE);
        self.mac(claims).verify_slice(mac).ok()?;
        let claims = SessionClaims {
            mount: u16::from_be_bytes(claims[0..2].try_into().ok()?),
            shard: u16::from_be_bytes(claims[2..4].try_into().ok()?),
            socket: SocketKey {
                index: u32::from_be_bytes(claims[4..8].try_into().ok()?),
                generation: u32::from_be_bytes(claims[8..12].try_into().ok()?),
            },
            secret: u128::from_be_bytes(claims[12..28].try_into().ok()?),
            issued_ms: u64::from_be_bytes(claims[28..36].try_into().ok()?),
            version: if claims[36] == 0 { Version::V1 } else { Version::V2 },
            position: u64::from_be_bytes(claims[37..45].try_into().ok()?),
        };
        (now_ms.saturating_sub(claims.issued_ms) < AGE_MAX_MS).then_some(claims)
    }

    fn mac(&self, bytes: &[u8]) -> Signature {
        keyed(&self.0).chain_update(bytes)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_untouched_young_tokens_of_this_key_pass() {
        let key = TokenKey::generate().unwrap();
        let socket = SocketKey { index: 3, generation: 9 };
        let (issued_ms, version, position) = (1_000, Version::V2, 5);
        let claims = SessionClaims { mount: 1, shard: 2, socket, secret: 77, issued_ms, version, position };
        let token = key.sign(&claims);
        assert_eq!(key.verify(&token, 2_000), Some(claims));
        assert_eq!(key.verify(&token, 1_000 + AGE_MAX_MS), None, "too old");
        assert_eq!(TokenKey::generate().unwrap().verify(&token, 2_000), None, "another key");
        for index in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
            let touched = String::from_utf8(bytes).unwrap();
            // The last character has bits that base64 does not use; a decoder may refuse or ignore them.
            assert!(key.verify(&touched, 2_000).is_none() || index + 1 == token.len(), "character {index}");
        }
        for text in ["", "x", "é", &token[1..], &format!("{token}A")] {
            assert_eq!(key.verify(text, 2_000), None, "{text}");
        }
    }
}
