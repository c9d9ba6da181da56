//! What every request to the user's back end carries: an id, the time, and a signature over both and the body, in the form of
//! the Standard Webhooks specification, for which many languages have a library.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::config::secret::Secret;

/// Begins a secret whose rest is a key in base64. Any other secret is the key as it stands.
const ENCODED: &str = "whsec_";

/// Signs requests, or just numbers them where there is no secret.
pub(crate) struct Signer {
    key: Option<hmac::Key>,
    /// Tells the requests of this run from those of others.
    run: u64,
    next: AtomicU64,
}

impl Signer {
    /// # Errors
    /// What is wrong with the secret, or that there are no random bytes.
    pub(crate) fn new(secret: Option<&Secret>) -> Result<Self, String> {
        let key = secret.map(key_of).transpose()?;
        let key = key.map(|bytes| hmac::Key::new(hmac::HMAC_SHA256, &bytes));
        let run = getrandom::u64().map_err(|error| format!("no random bytes for the ids of requests: {error}"))?;
        Ok(Self { key, run, next: AtomicU64::new(1) })
    }

    /// An id that no other request or event has.
    pub(crate) fn id(&self) -> String {
        format!("{:016x}-{}", self.run, self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// The headers of a request. One that is repeated has the id of the first attempt, and the time of its own.
    pub(crate) fn headers(&self, id: &str, now: SystemTime, body: &[u8]) -> Vec<(&'static str, String)> {
        let time = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut headers = vec![("webhook-id", id.to_owned()), ("webhook-timestamp", time.to_string())];
        if let Some(key) = &self.key {
            let mut signing = hmac::Context::with_key(key);
            signing.update(format!("{id}.{time}.").as_bytes());
            signing.update(body);
            headers.push(("webhook-signature", format!("v1,{}", STANDARD.encode(signing.sign()))));
        }
        headers
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("signs", &self.key.is_some()).finish_non_exhaustive()
    }
}

/// The key that a secret stands for.
///
/// # Errors
/// It begins like one in base64 and is none.
pub(crate) fn key_of(secret: &Secret) -> Result<Vec<u8>, String> {
    match secret.expose().strip_prefix(ENCODED) {
        None => Ok(secret.expose().as_bytes().to_vec()),
        Some(encoded) => match STANDARD.decode(encoded) {
            Ok(key) if !key.is_empty() => Ok(key),
            _ => Err(format!("what follows {ENCODED} must be base64, with its padding")),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The values are those of `printf '%s' 'msg-1.1700000000.{"a":1}' | openssl dgst -sha256 -hmac KEY -binary | base64`.
    #[test]
    fn signatures() {
        #[track_caller]
        fn check(secret: Option<&str>, signature: Option<&str>) {
            let secret = secret.map(|secret| Secret::new(secret.to_owned()));
            let signer = Signer::new(secret.as_ref()).unwrap();
            let now = UNIX_EPOCH + Duration::from_millis(1_700_000_000_999);
            let headers = signer.headers("msg-1", now, br#"{"a":1}"#);
            assert_eq!(headers[0], ("webhook-id", "msg-1".to_owned()));
            assert_eq!(headers[1], ("webhook-timestamp", "1700000000".to_owned()));
            let given = headers.get(2).map(|(name, value)| (*name, value.as_str()));
            assert_eq!(given, signature.map(|value| ("webhook-signature", value)));
        }
        check(None, None);
        check(Some("a secret"), Some("v1,sBnXIF2KVk7JmtK3loN9lvTbInJvsFwjCTA5imSVuik="));
        check(Some("whsec_YSBzZWNyZXQ="), Some("v1,sBnXIF2KVk7JmtK3loN9lvTbInJvsFwjCTA5imSVuik="));
        for bad in ["whsec_", "whsec_%", "whsec_YSBzZWNyZXQ"] {
            let error = Signer::new(Some(&Secret::new(bad.into()))).unwrap_err();
            assert!(error.contains("base64"), "{error}");
        }
    }

    #[test]
    fn ids_differ() {
        let (one, other) = (Signer::new(None).unwrap(), Signer::new(None).unwrap());
        assert_ne!(one.id(), one.id());
        assert_ne!(one.id().split('-').next(), other.id().split('-').next());
    }
}
