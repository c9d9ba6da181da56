//! Tokens that name a user, signed: those of `Phoenix.Token`, so that either side can make what the other reads.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanfare_proto::phoenix::term::Term;
use fanfare_proto::phoenix::token::{Content, MAX_AGE_DEFAULT, SIGNED};
use hmac::{Hmac, Mac};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Sha256;

use crate::error::Error;

/// The longest token that is looked at, in bytes.
const TOKEN_SIZE_MAX: usize = 64 * 1024;

/// How often the secret is hashed to become a key: the default of `Phoenix.Token`.
const KEY_ITERATIONS: u32 = 1000;

/// HMAC-SHA256, of a key and what is signed.
pub(crate) type Signature = Hmac<Sha256>;

/// Signs and verifies tokens of `Phoenix.Token`, with its default options.
///
/// ```
/// use std::time::Duration;
///
/// use fanfare::Tokens;
///
/// let secret = "at least 64 random bytes: an application's secret_key_base, or `openssl rand -base64 48`";
/// let tokens = Tokens::new(secret, "user socket").max_age(Duration::from_secs(3600));
/// let token = tokens.sign(&7).unwrap();
/// assert_eq!(tokens.verify::<u64>(&token), Ok(7));
/// assert!(tokens.verify::<u64>("made up").is_err());
/// ```
///
/// In Elixir that token is `Phoenix.Token.sign(secret, "user socket", 7, max_age: 3600)`. Data may be whatever serializes: an id, a text, a
/// struct (a map with strings as its keys).
#[derive(Clone)]
pub struct Tokens {
    signature: Signature,
    max_age: Option<Duration>,
}

impl Tokens {
    /// The salt is no secret: it keeps tokens for one purpose from being taken for those of another.
    ///
    /// # Panics
    /// The secret has fewer than 20 bytes: anybody could try them all.
    pub fn new(secret: &str, salt: &str) -> Self {
        assert!(secret.len() >= 20, "the secret of tokens has {} bytes: use at least 20, better 64", secret.len());
        Tokens { signature: keyed(&derived(secret, salt)), max_age: None }
    }

    /// How old a token may be. Default: as old as it says itself, which is a day unless its maker said otherwise; tokens that are
    /// signed here are good for a day then.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Makes a token.
    ///
    /// # Errors
    /// The data cannot be serialized.
    pub fn sign(&self, data: impl Serialize) -> Result<String, Error> {
        let data = serde_json::to_value(data).map_err(|error| Error::unserializable("the token's data", &error))?;
        let max_age = Some(self.max_age.unwrap_or(MAX_AGE_DEFAULT));
        let content = Content { data: Term::from_json(data), signed_ms: now_ms(), max_age };
        let message = format!("{SIGNED}.{}", URL_SAFE_NO_PAD.encode(content.write()));
        let signature = self.signature.clone().chain_update(&message).finalize().into_bytes();
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// What a token is about. Nothing of its content is looked at before its signature was checked.
    ///
    /// # Errors
    /// It was not made with this secret and salt, has expired, or is about something else than a `T`.
    pub fn verify<T: DeserializeOwned>(&self, token: &str) -> Result<T, TokenError> {
        if token.len() > TOKEN_SIZE_MAX {
            return Err(TokenError::Invalid);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Invalid)?;
        let (header, payload) = message.split_once('.').ok_or(TokenError::Invalid)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Invalid);
        let is_ours = self.signature.clone().chain_update(message).verify_slice(&decode(signature)?).is_ok();
        if header != SIGNED || !is_ours {
            return Err(TokenError::Invalid);
        }
        let content = Content::read(&decode(payload)?).map_err(|_| TokenError::Invalid)?;
        if content.has_expired(self.max_age, now_ms()) {
            return Err(TokenError::Expired);
        }
        let data = content.data.into_json().map_err(|_| TokenError::Data)?;
        serde_json::from_value(data).map_err(|_| TokenError::Data)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("max_age", &self.max_age).finish_non_exhaustive()
    }
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// It is no token, or was made with another secret or salt.
    Invalid,
    /// It is too old: have the client get another one.
    Expired,
    /// It is about something of another type.
    Data,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TokenError::Invalid => "the token is not valid: it is no token, or was made with another secret or salt",
            TokenError::Expired => "the token has expired",
            TokenError::Data => "the token's data is of another type",
        })
    }
}

impl std::error::Error for TokenError {}

/// PBKDF2 with HMAC-SHA256, for a key of 32 bytes, which is one block (RFC 8018, section 5.2).
fn derived(secret: &str, salt: &str) -> [u8; 32] {
    let secret = keyed(secret.as_bytes());
    let next = |input: Signature| -> [u8; 32] { input.finalize().into_bytes().into() };
    let mut hash = next(secret.clone().chain_update(salt).chain_update(1_u32.to_be_bytes()));
    let mut key = hash;
    for _ in 1..KEY_ITERATIONS {
        hash = next(secret.clone().chain_update(hash));
        key.iter_mut().zip(hash).for_each(|(byte, other)| *byte ^= other);
    }
    key
}

/// HMAC-SHA256 with a key.
pub(crate) fn keyed(key: &[u8]) -> Signature {
    <Signature as Mac>::new_from_slice(key).expect("HMAC takes a key of any length")
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &str =
        "oracle-secret-0123456789oracle-secret-0123456789oracle-secret-0123456789oracle-secret-0123456789";
    const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

    /// Made by Phoenix 1.8.12 in November 2023, good for a day.
    const OF_PHOENIX: &str = "SFMyNTY.g2gDYSpuBgAAaOXPiwFiAAFRgA.m33t5P6jZsRhtq3a514dpYEmFh3SHXoB8EA7PiCaLro";

    #[test]
    fn tokens_of_phoenix_are_read() {
        let tokens = Tokens::new(SECRET, "user socket");
        assert_eq!(tokens.verify::<u64>(OF_PHOENIX), Err(TokenError::Expired));
        let tokens = tokens.max_age(FOREVER);
        assert_eq!(tokens.verify::<u64>(OF_PHOENIX), Ok(42));
        assert_eq!(tokens.verify::<String>(OF_PHOENIX), Err(TokenError::Data));
        assert_eq!(Tokens::new(SECRET, "other").max_age(FOREVER).verify::<u64>(OF_PHOENIX), Err(TokenError::Invalid));
        for place in 0..OF_PHOENIX.len() {
            let mut bytes = OF_PHOENIX.to_owned().into_bytes();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(tokens.verify::<u64>(&changed), Err(TokenError::Invalid), "{place}");
        }
    }

    #[test]
    fn what_is_signed_is_read_again() {
        let tokens = Tokens::new(SECRET, "user socket");
        for data in
            [json!(7), json!("seven"), json!({"id": 7, "roles": ["a", "b"], "admin": true, "team": null, "x": 1.5})]
        {
            let token = tokens.sign(&data).unwrap();
            assert_eq!(tokens.verify::<Value>(&token), Ok(data));
        }
        let token = tokens.clone().max_age(Duration::ZERO).sign(1).unwrap();
        assert_eq!(tokens.verify::<u64>(&token), Err(TokenError::Expired));
        for wrong in ["", ".", "..", "SFMyNTY.", "a.b.c", &"x".repeat(TOKEN_SIZE_MAX + 1)] {
            assert_eq!(tokens.verify::<u64>(wrong), Err(TokenError::Invalid));
        }
        assert_eq!(format!("{tokens:?}"), "Tokens { max_age: None, .. }");
    }

    #[test]
    #[should_panic = "use at least 20"]
    fn a_secret_that_can_be_guessed_is_refused() {
        Tokens::new("changeme", "user socket");
    }
}
