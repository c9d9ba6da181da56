//! Tokens of `Phoenix.Token`, signed or encrypted, as `Plug.Crypto` makes them. The key is derived from the application's
//! `secret_key_base` once, at the start.
//!
//! A signed one is `SFMyNTY.PAYLOAD.SIGNATURE`, an encrypted one `XCP.` and what `xchacha` opens. Either holds a term of
//! Erlang: the data, when it was made, and how long it is good.

use std::fmt;
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanfare_proto::phoenix::term::Term;
use fanfare_proto::phoenix::token::{Content, SIGNED};

use super::{Reason, Verified};
use crate::config::auth::{Auth, KeyDigest};

mod claims;
#[cfg(test)]
mod tests;
mod xchacha;

pub(crate) use claims::to_term;

/// What an encrypted token begins with: XChaCha20-Poly1305.
const ENCRYPTED: &str = "XCP.";

/// Checks tokens, and makes them.
pub(crate) struct PhoenixToken {
    signing: hmac::Key,
    /// A key of another length cannot encrypt.
    sealing: Option<xchacha::Key>,
    max_age: Option<Duration>,
}

impl PhoenixToken {
    /// `settings` were checked, so that there is a secret.
    pub(crate) fn new(settings: &Auth) -> Self {
        let secret = settings.secret.as_ref().expect("a checked configuration has a secret for phoenix_token");
        let algorithm = match settings.key_digest {
            KeyDigest::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            KeyDigest::Sha384 => pbkdf2::PBKDF2_HMAC_SHA384,
            KeyDigest::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        let iterations = u32::try_from(settings.key_iterations.0).unwrap_or(u32::MAX);
        let mut key = vec![0; settings.key_length.0 as usize];
        pbkdf2::derive(
            algorithm,
            NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN),
            settings.salt.as_bytes(),
            secret.expose().as_bytes(),
            &mut key,
        );
        Self {
            signing: hmac::Key::new(hmac::HMAC_SHA256, &key),
            sealing: <[u8; 32]>::try_from(key).ok().map(xchacha::Key::new),
            max_age: settings.max_age.map(|span| span.0),
        }
    }

    /// Checks a token at a time.
    pub(super) fn verify(&self, token: &str, now: SystemTime) -> Result<Verified, Reason> {
        let payload = match token.strip_prefix(ENCRYPTED) {
            Some(sealed) => self.open(sealed)?,
            None => self.check_signature(token)?,
        };
        let content = Content::read(&payload).map_err(|_| "the token's content is not what Phoenix.Token writes")?;
        if content.has_expired(self.max_age, milliseconds(now)) {
            return Err(super::jwt::EXPIRED);
        }
        let expires_ms = content.expires_ms(self.max_age);
        let expires_at = expires_ms.and_then(|end| UNIX_EPOCH.checked_add(Duration::from_millis(end)));
        Ok(Verified { identity: claims::from_term(content.data)?, expires_at })
    }

    /// Nothing of the payload is looked at before its signature was checked.
    fn check_signature(&self, token: &str) -> Result<Vec<u8>, Reason> {
        let (message, signature) = token.rsplit_once('.').ok_or("the token is no token of Phoenix")?;
        let (header, payload) = message.split_once('.').ok_or("the token is no token of Phoenix")?;
        if header != SIGNED {
            return Err("the token is no token of Phoenix");
        }
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| "the token is no token of Phoenix");
        hmac::verify(&self.signing, message.as_bytes(), &decode(signature)?)
            .map_err(|_| "the token's signature is wrong, or its salt or key options are others")?;
        decode(payload)
    }

    fn open(&self, sealed: &str) -> Result<Vec<u8>, Reason> {
        let key = self.sealing.as_ref().ok_or("the token is encrypted, which needs key_length = 32")?;
        let sealed = URL_SAFE_NO_PAD.decode(sealed).map_err(|_| "the token is no token of Phoenix")?;
        key.open(&sealed).ok_or("the token cannot be decrypted, or its salt or key options are others")
    }

    /// Makes a signed token.
    pub(crate) fn sign(&self, data: Term, signed_at: SystemTime, max_age: Duration) -> String {
        let content = Content { data, signed_ms: milliseconds(signed_at), max_age: Some(max_age) };
        let message = format!("{SIGNED}.{}", URL_SAFE_NO_PAD.encode(content.write()));
        let signature = hmac::sign(&self.signing, message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

impl fmt::Debug for PhoenixToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PhoenixToken").field("max_age", &self.max_age).finish_non_exhaustive()
    }
}

/// Since 1970.
fn milliseconds(at: SystemTime) -> u64 {
    u64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
