//! What a token of `Phoenix.Token` says: its data, when it was made, and how long it is good. Signing and sealing are done elsewhere.
//!
//! Source: Plug.Crypto 2.1, lib/plug/crypto.ex.

use std::time::Duration;

use super::term::{self, Term};

/// What a signed token begins with: "HS256".
pub const SIGNED: &str = "SFMyNTY";

/// How long a token is good unless its maker says otherwise.
pub const MAX_AGE_DEFAULT: Duration = Duration::from_secs(86_400);

/// The content of a token.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    /// What it is about.
    pub data: Term,
    /// When it was made, in milliseconds since 1970.
    pub signed_ms: u64,
    /// How long it is good; `None`: without an end.
    pub max_age: Option<Duration>,
}

/// The bytes are not what `Phoenix.Token` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownContent;

impl Content {
    /// Reads the content of a token whose signature was checked.
    ///
    /// # Errors
    /// The bytes are something else.
    pub fn read(payload: &[u8]) -> Result<Self, UnknownContent> {
        let Ok(Term::Tuple(parts)) = term::decode(payload) else { return Err(UnknownContent) };
        let (data, signed_ms, max_age) = match <[Term; 3]>::try_from(parts) {
            Ok([data, Term::Integer(signed_ms), max_age]) => (data, signed_ms, max_age),
            _ => return Err(UnknownContent),
        };
        let max_age = match max_age {
            Term::Integer(seconds) => Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))),
            Term::Float(seconds) => Some(Duration::try_from_secs_f64(seconds.max(0.0)).map_err(|_| UnknownContent)?),
            Term::Atom(word) if word == "infinity" => None,
            _ => return Err(UnknownContent),
        };
        Ok(Self { data, signed_ms: u64::try_from(signed_ms).map_err(|_| UnknownContent)?, max_age })
    }

    /// The bytes that are signed.
    pub fn write(self) -> Vec<u8> {
        let number = |number: u64| Term::Integer(i64::try_from(number).unwrap_or(i64::MAX));
        let max_age = self.max_age.map_or_else(|| Term::Atom("infinity".into()), |age| number(age.as_secs()));
        term::encode(&Term::Tuple(vec![self.data, number(self.signed_ms), max_age]))
    }

    /// The last millisecond since 1970 at which it is good. What the reader says about the age wins over what the token says, as with
    /// Phoenix. `None`: there is no end.
    pub fn expires_ms(&self, max_age: Option<Duration>) -> Option<u64> {
        let age = max_age.or(self.max_age)?;
        self.signed_ms.checked_add(u64::try_from(age.as_millis()).ok()?)
    }

    /// Whether it is no longer good. One that is good for no time at all has never been, as with Phoenix.
    pub fn has_expired(&self, max_age: Option<Duration>, now_ms: u64) -> bool {
        self.expires_ms(max_age).is_some_and(|end| end < now_ms || end <= self.signed_ms)
    }
}
